/* Arrays: what a zarr.json does to its directory, whichever way it gets there (written, renamed, linked, DEFINE, RESIZE).
 *
 *   no array --array document--> array --same layout--> array, its object kept
 *                                  |----other layout--> array with a new object; the old one is orphaned
 *                                  |----DEFINE----> array with a new object: its content is replaced
 *                                  |----group document, or zarr.json and c/ both gone--> no array
 *
 * An empty zarr.json changes nothing: it has just been created or truncated, and what it will say is still to come. */
#include "meta_int.h"

#include "nodes.h"
#include "npy.h"

#include <stdio.h>

static struct meta_name zarr_name(void)
{
	return (struct meta_name){ META_ZARR_NAME, strlen(META_ZARR_NAME) };
}

/* "zarr.json: KEY: ..." becomes "/climate/temps/zarr.json: KEY: ...". */
static int bad_document(struct meta_op *op, uint64_t dir, int err, const struct reason *what)
{
	static const char prefix[] = META_ZARR_NAME ": ";
	const char *text = what->text;
	char path[160];

	meta_path(op->m, dir, path, sizeof(path));
	if (!strncmp(text, prefix, sizeof(prefix) - 1))
		text += sizeof(prefix) - 1;
	return reason_set(op->why, -err, "%s/" META_ZARR_NAME ": %.150s", path, text);
}

static int judge_document(struct meta_op *op, uint64_t dir, const void *doc, size_t len, enum zarr_node *ret_node,
			  struct zarr *ret)
{
	struct reason what = { "not a Zarr v3 document" };
	int err = zarr_parse(doc, len, ret_node, ret, &what);

	return err ? bad_document(op, dir, err, &what) : 0;
}

struct array {
	struct zarr zarr;
	uint8_t *doc, *npy; /* malloc'ed */
	size_t doc_bytes, npy_bytes;
};

static void array_fini(struct array *a)
{
	free(a->doc);
	free(a->npy);
}
#define AUTO_ARRAY __attribute__((cleanup(array_fini)))

static uint8_t *row_copy(struct meta *m, int column, size_t *ret_len)
{
	const void *blob = db_blob(m->db, SQL_ARRAY_GET, column, ret_len);
	uint8_t *copy = malloc(*ret_len + 1);

	if (copy)
		memcpy(copy, blob, *ret_len);
	return copy;
}

static int array_load(struct meta_op *op, const struct inode *dir, struct array *ret)
{
	enum zarr_node node;
	int rc;

	if (!(dir->flags & WIRE_ATTR_ARRAY))
		return reason_set(op->why, EINVAL, "inode %llu is not an array", (unsigned long long)dir->ino);
	rc = db_run(op->m->db, SQL_ARRAY_GET, db_int(dir->ino));
	if (rc <= 0)
		return rc ? rc : -EIO;
	ret->doc = row_copy(op->m, 1, &ret->doc_bytes);
	ret->npy = row_copy(op->m, 2, &ret->npy_bytes);
	if (!ret->doc || !ret->npy)
		return -ENOMEM;
	return judge_document(op, dir->ino, ret->doc, ret->doc_bytes, &node, &ret->zarr);
}

static int array_save(struct meta_op *op, struct inode *dir, const struct array *a)
{
	int err = db_run(op->m->db, SQL_ARRAY_SET, db_int(dir->ino), db_int(a->zarr.grid.partition_bytes),
			 db_bytes(a->doc, a->doc_bytes), db_bytes(a->npy, a->npy_bytes));

	if (err)
		return err;
	dir->generation++;
	meta_changed(op, dir, WIRE_INVAL_ATTR | WIRE_INVAL_DATA | WIRE_INVAL_LAYOUT);
	return inode_touch(op, dir, true);
}

static int new_object(struct meta_op *op, struct inode *dir, uint32_t near)
{
	int err = dir->object ? object_orphan(op, dir) : 0;

	if (err)
		return err;
	dir->object = meta_new_id(op->m);
	dir->epoch = WIRE_EPOCH;
	return layout_new(op->m, near, &dir->layout, op->why);
}

/* A plain `c` that was made before the directory became an array gives way to the array's own, unless it holds something.  Who
 * made the array may well have looked it up. */
static int replace_plain_chunkdir(struct meta_op *op, struct inode *dir)
{
	struct meta_name name = { "c", 1 };
	struct inode plain;
	uint64_t ino, id;
	int err = dirent_get(op->m, dir->ino, name, &ino, &id);

	if (err)
		return err == -ENOENT ? 0 : err;
	err = inode_get(op->m, ino, &plain);
	if (err || !S_ISDIR(plain.mode))
		return err;
	err = dir_empty(op->m, &plain);
	if (!err)
		err = dirent_del(op->m, dir->ino, id);
	if (err)
		return err == -ENOTEMPTY ? 0 : err;
	meta_entry_changed(op, dir, name);
	op->changes.items[op->changes.n - 1].to_origin = true;
	dir->nlink--;
	dir->flags |= WIRE_ATTR_CHUNKDIR;
	return meta_unlink_inode(op, &plain);
}

/* Fills a->npy, unless the caller gave one.  keep: partitions of the same layout keep their meaning and stay. */
static int array_define(struct meta_op *op, struct inode *dir, struct array *a, uint32_t near, bool keep)
{
	AUTO_ARRAY struct array old = { 0 };
	bool same = false;
	int err;

	if (keep && dir->flags & WIRE_ATTR_ARRAY) {
		err = array_load(op, dir, &old);
		if (err)
			return err;
		same = zarr_same_layout(&old.zarr, &a->zarr);
	}
	err = same ? 0 : new_object(op, dir, near);
	if (!err && !(dir->flags & WIRE_ATTR_ARRAY))
		err = replace_plain_chunkdir(op, dir);
	if (err)
		return err;
	if (same && !a->npy) {
		a->npy = old.npy;
		a->npy_bytes = old.npy_bytes;
		old.npy = NULL;
	}
	dir->flags |= WIRE_ATTR_ARRAY | WIRE_ATTR_SIDECAR;
	return array_save(op, dir, a);
}

int array_drop(struct meta_op *op, struct inode *dir)
{
	int err = dir->object ? object_orphan(op, dir) : 0;

	if (!err)
		err = db_run(op->m->db, SQL_ARRAY_DEL, db_int(dir->ino));
	if (err)
		return err;
	dir->flags &= ~(uint32_t)(WIRE_ATTR_ARRAY | WIRE_ATTR_SIDECAR | WIRE_ATTR_CHUNKDIR);
	dir->epoch = 0;
	dir->generation++;
	meta_changed(op, dir, WIRE_INVAL_ATTR | WIRE_INVAL_DATA | WIRE_INVAL_LAYOUT);
	return inode_touch(op, dir, true);
}

static int set_flag(struct meta_op *op, struct inode *dir, uint32_t flag, bool on)
{
	uint32_t flags = on ? dir->flags | flag : dir->flags & ~flag;

	if (!(dir->flags & WIRE_ATTR_ARRAY) || flags == dir->flags)
		return 0;
	dir->flags = flags;
	if (!(flags & (WIRE_ATTR_SIDECAR | WIRE_ATTR_CHUNKDIR)))
		return array_drop(op, dir);
	meta_changed(op, dir, WIRE_INVAL_LAYOUT);
	return inode_touch(op, dir, true);
}

int array_sidecar_gone(struct meta_op *op, struct inode *dir)
{
	return set_flag(op, dir, WIRE_ATTR_SIDECAR, false);
}

int array_judge(struct meta_op *op, struct inode *dir, const void *doc, size_t len)
{
	AUTO_ARRAY struct array a = { 0 };
	enum zarr_node node;
	int err;

	if (!len)
		return set_flag(op, dir, WIRE_ATTR_SIDECAR, true);
	err = judge_document(op, dir->ino, doc, len, &node, &a.zarr);
	if (err)
		return err;
	if (node == ZARR_GROUP)
		return dir->flags & WIRE_ATTR_ARRAY ? array_drop(op, dir) : 0;
	a.doc = malloc(len);
	if (!a.doc)
		return -ENOMEM;
	memcpy(a.doc, doc, len);
	a.doc_bytes = len;
	return array_define(op, dir, &a, op->peer.node_id, true);
}

int array_check_name(struct meta_op *op, struct inode *in, struct meta_name name)
{
	if (!meta_name_is(name, META_ZARR_NAME) || !S_ISREG(in->mode) || in->flags & WIRE_ATTR_INLINE)
		return 0;
	if (in->size)
		return reason_set(op->why, EXDEV, META_ZARR_NAME ": the head does not hold this file's bytes");
	in->flags |= WIRE_ATTR_INLINE;
	meta_changed(op, in, WIRE_INVAL_LAYOUT);
	return in->object ? object_orphan(op, in) : 0;
}

int array_named(struct meta_op *op, struct inode *dir, struct meta_name name, const struct inode *in)
{
	const void *doc;
	size_t len;
	int err;

	if (!meta_name_is(name, META_ZARR_NAME))
		return 0;
	if (!S_ISREG(in->mode))
		return array_sidecar_gone(op, dir);
	err = content_get(op->m, in->ino, &doc, &len);
	return err ? err : array_judge(op, dir, doc, len);
}

int array_unnamed(struct meta_op *op, struct inode *dir, struct meta_name name)
{
	return meta_name_is(name, META_ZARR_NAME) ? array_sidecar_gone(op, dir) : 0;
}

#define LINKED_MAX 8 /* directories that share one zarr.json by hard links; each is one more change to push */

int array_judge_linked(struct meta_op *op, const struct inode *file)
{
	uint64_t dirs[LINKED_MAX];
	const void *doc;
	size_t n = 0, len;
	int rc = db_run(op->m->db, SQL_DIRENT_OF, db_int(file->ino));
	int err;

	for (; rc == 1; rc = db_next(op->m->db, SQL_DIRENT_OF)) {
		if (n == LINKED_MAX)
			return reason_set(op->why, EMLINK, META_ZARR_NAME ": linked into more than %d directories",
					  LINKED_MAX);
		dirs[n++] = db_u64(op->m->db, SQL_DIRENT_OF, 0);
	}
	err = rc < 0 ? rc : content_get(op->m, file->ino, &doc, &len);
	for (size_t i = 0; !err && i < n; i++) {
		struct inode dir;
		err = inode_dir(op->m, dirs[i], &dir);
		if (!err)
			err = array_judge(op, &dir, doc, len);
	}
	return err;
}

static int write_inline(struct meta_op *op, struct inode *in, const void *bytes, size_t len)
{
	int err = 0;

	if (len > ZARR_DOC_MAX)
		return reason_set(op->why, EFBIG, META_ZARR_NAME ": longer than %u bytes", ZARR_DOC_MAX);
	if (!(in->flags & WIRE_ATTR_INLINE)) {
		in->flags |= WIRE_ATTR_INLINE;
		meta_changed(op, in, WIRE_INVAL_LAYOUT);
		err = in->object ? object_orphan(op, in) : 0;
	}
	if (!err)
		err = content_set(op->m, in->ino, bytes, len);
	if (err)
		return err;
	in->size = len;
	in->generation++;
	meta_changed(op, in, WIRE_INVAL_DATA);
	return inode_touch(op, in, true);
}

int meta_op_inline_write(struct meta_op *op)
{
	const struct wire_ino *body = op->body;
	struct inode in;
	int err = inode_get(op->m, le64_get(body->ino), &in);

	if (!err && !S_ISREG(in.mode))
		err = -EINVAL;
	if (!err)
		err = write_inline(op, &in, op->payload, op->payload_bytes);
	if (!err)
		err = array_judge_linked(op, &in);
	return err ? err : meta_reply_attr(op, &in);
}

static int check_node_room(struct meta_op *op, uint64_t dir, const struct wire_node *node, uint64_t need)
{
	uint64_t room = le64_get(node->bytes_free);
	char path[160];

	if (le32_get(node->state) != WIRE_NODE_UP || !le64_get(node->bytes_total) || need <= room)
		return 0;
	meta_path(op->m, dir, path, sizeof(path));
	return reason_set(op->why, ENOSPC, "%s: needs %llu bytes on node %u, which has %llu free", path,
			  (unsigned long long)need, le32_get(node->node_id), (unsigned long long)room);
}

/* Whether n more partitions fit on the nodes of the array, spread evenly. */
static int check_room(struct meta_op *op, const struct inode *dir, const struct zarr *z, uint64_t n)
{
	AUTO_FREE struct wire_node *known = NULL;
	struct le32 nodes[SLAB_NODES_MAX];
	size_t n_nodes, n_known;
	uint64_t need;
	int err = n ? layout_nodes(op->m, dir->layout, nodes, &n_nodes) : 0;

	if (err || !n)
		return err;
	if (mul_overflows(div_up(n, n_nodes), z->grid.partition_bytes, &need))
		need = UINT64_MAX;
	err = nodes_snapshot(op->m->d->nodes, &known, &n_known);
	for (size_t i = 0; !err && i < n_nodes; i++)
		for (size_t k = 0; !err && k < n_known; k++)
			if (le32_get(known[k].node_id) == le32_get(nodes[i]))
				err = check_node_room(op, dir->ino, &known[k], need);
	return err;
}

static int check_only_array_entries(struct meta_op *op, const struct inode *dir)
{
	int rc = db_run(op->m->db, SQL_DIRENT_ANY, db_int(dir->ino));

	for (; rc == 1; rc = db_next(op->m->db, SQL_DIRENT_ANY)) {
		struct meta_name name;
		name.text = db_blob(op->m->db, SQL_DIRENT_ANY, 0, &name.len);
		if (!meta_name_is(name, META_ZARR_NAME) && !meta_name_is(name, "c"))
			return reason_set(op->why, ENOTEMPTY,
					  "the directory holds '%.*s', so it cannot become an array", (int)name.len,
					  name.text);
	}
	return rc;
}

static int put_sidecar(struct meta_op *op, struct inode *dir, const struct wire_define *body, const struct array *a)
{
	struct inode file;
	uint64_t ino, id;
	int err = dirent_get(op->m, dir->ino, zarr_name(), &ino, &id);

	if (err == -ENOENT) {
		file = (struct inode){ .mode = S_IFREG | 0644,
				       .uid = le32_get(body->uid),
				       .gid = le32_get(body->gid),
				       .flags = WIRE_ATTR_INLINE };
		err = meta_make_inode(op, dir, zarr_name(), 0, &file);
	} else if (!err) {
		err = inode_get(op->m, ino, &file);
		if (!err && !S_ISREG(file.mode))
			err = reason_set(op->why, EINVAL, META_ZARR_NAME " is not a regular file");
	}
	return err ? err : write_inline(op, &file, a->doc, a->doc_bytes);
}

static int copy_payload(struct meta_op *op, const struct wire_define *body, struct array *a)
{
	struct cursor c = { op->payload, op->payload_bytes };
	const void *npy = cursor_take(&c, le32_get(body->npy_bytes));
	size_t len = le32_get(body->doc_bytes);

	if (!npy || c.left != len || le32_get(body->npy_bytes) > NPY_HEADER_MAX)
		return reason_set(op->why, EINVAL, "DEFINE: the payload is not a header and a document");
	a->npy_bytes = le32_get(body->npy_bytes);
	a->npy = a->npy_bytes ? malloc(a->npy_bytes) : NULL;
	a->doc_bytes = len;
	a->doc = malloc(len + 1);
	if (!a->doc || (a->npy_bytes && !a->npy))
		return -ENOMEM;
	if (a->npy_bytes)
		memcpy(a->npy, npy, a->npy_bytes);
	memcpy(a->doc, c.at, len);
	return 0;
}

int meta_op_define(struct meta_op *op)
{
	const struct wire_define *body = op->body;
	AUTO_ARRAY struct array a = { 0 };
	enum zarr_node node;
	struct inode dir;
	int err = copy_payload(op, body, &a);

	if (!err)
		err = inode_dir(op->m, le64_get(body->dir), &dir);
	if (!err)
		err = check_only_array_entries(op, &dir);
	if (!err)
		err = judge_document(op, dir.ino, a.doc, a.doc_bytes, &node, &a.zarr);
	if (!err && node != ZARR_ARRAY)
		err = reason_set(op->why, EINVAL, "DEFINE: not an array document");
	if (!err)
		err = put_sidecar(op, &dir, body, &a);
	if (err)
		return err;
	dir.flags |= WIRE_ATTR_CHUNKDIR;
	err = array_define(op, &dir, &a, le32_get(body->near_node), false);
	if (!err)
		err = check_room(op, &dir, &a.zarr, a.zarr.grid.n_partitions);
	return err ? err : meta_reply_attr(op, &dir);
}

static int update_sidecar(struct meta_op *op, const struct inode *dir, const struct array *a)
{
	struct inode file;
	uint64_t ino, id;
	int err;

	if (!(dir->flags & WIRE_ATTR_SIDECAR))
		return 0;
	err = dirent_get(op->m, dir->ino, zarr_name(), &ino, &id);
	if (!err)
		err = inode_get(op->m, ino, &file);
	return err ? err : write_inline(op, &file, a->doc, a->doc_bytes);
}

static int resize_document(struct meta_op *op, const struct inode *dir, struct array *a, uint64_t rows)
{
	struct reason what = { "cannot be resized" };
	enum zarr_node node;
	char *text;
	int err = zarr_doc_resize((const char *)a->doc, a->doc_bytes, rows, &text, &what);

	if (err)
		return bad_document(op, dir->ino, err, &what);
	free(a->doc);
	a->doc = (uint8_t *)text;
	a->doc_bytes = strlen(text);
	return judge_document(op, dir->ino, a->doc, a->doc_bytes, &node, &a->zarr);
}

int meta_op_resize(struct meta_op *op)
{
	const struct wire_resize *body = op->body;
	uint64_t rows = le64_get(body->rows), partitions;
	AUTO_ARRAY struct array a = { 0 };
	struct inode dir;
	int err = inode_dir(op->m, le64_get(body->dir), &dir);

	if (!err)
		err = array_load(op, &dir, &a);
	if (err)
		return err;
	partitions = a.zarr.grid.n_partitions;
	if (a.zarr.grid.rank && le32_get(body->grow_only))
		rows = MAX(rows, a.zarr.grid.shape[0]);
	if (a.zarr.grid.rank && rows == a.zarr.grid.shape[0])
		return meta_reply_attr(op, &dir);
	err = resize_document(op, &dir, &a, rows);
	if (!err && a.zarr.grid.n_partitions > partitions)
		err = check_room(op, &dir, &a.zarr, a.zarr.grid.n_partitions - partitions);
	if (!err)
		err = update_sidecar(op, &dir, &a);
	if (!err)
		err = array_save(op, &dir, &a);
	return err ? err : meta_reply_attr(op, &dir);
}

int meta_op_chunkdir(struct meta_op *op)
{
	const struct wire_chunkdir *body = op->body;
	bool make = le32_get(body->make);
	struct inode dir;
	int err = inode_dir(op->m, le64_get(body->dir), &dir);

	if (err)
		return err;
	if (!(dir.flags & WIRE_ATTR_ARRAY))
		return reason_set(op->why, EINVAL, "inode %llu is not an array", (unsigned long long)dir.ino);
	if (!!(dir.flags & WIRE_ATTR_CHUNKDIR) == make)
		return make ? -EEXIST : -ENOENT;
	err = set_flag(op, &dir, WIRE_ATTR_CHUNKDIR, make);
	return err ? err : meta_reply_attr(op, &dir);
}
