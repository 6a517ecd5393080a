/* RESTORE: gives an object that a store holds, and no inode names, its inode again, from what the store was told of it.  RAISE_IDS: the end of it. */
#include "meta_int.h"

#include <stdio.h>

#include "log.h"
#include "npy.h"

#define DEPTH_MAX                                                                                                      \
	100 /* directories that are made for one path: each takes numbers, of which a transaction has only so many */
#define LOST_FOUND "lost+found"
#define XATTR_PARTITION_BYTES "user.slabfs.partition_bytes"

struct restored {
	struct wire_describe head;
	const struct le32 *nodes;
	const char *path;
	const uint8_t *npy, *doc;
	struct cursor xattrs;
	bool is_array;
	struct zarr zarr;
};

static int parse(struct meta_op *op, struct restored *ret)
{
	struct cursor c = { op->payload, op->payload_bytes };
	const struct wire_describe *d = cursor_take(&c, sizeof(*d));
	enum zarr_node node;
	int err = 0;

	if (!d || wire_description_bytes(d) != op->payload_bytes || !le64_get(d->object))
		return reason_set(op->why, EINVAL, "RESTORE: the payload is no description");
	ret->head = *d;
	ret->nodes = cursor_take(&c, le32_get(d->n_nodes) * sizeof(*ret->nodes));
	ret->path = cursor_take(&c, le32_get(d->path_bytes));
	ret->npy = cursor_take(&c, le32_get(d->npy_bytes));
	ret->doc = cursor_take(&c, le32_get(d->doc_bytes));
	ret->xattrs = c;
	ret->is_array = le32_get(d->flags) & WIRE_ATTR_ARRAY;
	for (uint32_t i = 0; i < le32_get(d->n_nodes); i++)
		if (!le32_get(ret->nodes[i]) || le32_get(ret->nodes[i]) > SLAB_NODES_MAX)
			return reason_set(op->why, EINVAL, "RESTORE: there is no node %u", le32_get(ret->nodes[i]));
	if (le64_get(d->object) >= op->m->next_id)
		return reason_set(op->why, EINVAL, "RESTORE: object %llu could be given again; RAISE_IDS first",
				  (unsigned long long)le64_get(d->object));
	if (!ret->is_array)
		return S_ISREG(le32_get(d->mode)) && le64_get(d->partition_bytes) && le64_get(d->size) <= INT64_MAX
			       ? 0
			       : reason_set(op->why, EINVAL, "RESTORE: neither an array nor a file");
	err = zarr_parse((const char *)ret->doc, le32_get(d->doc_bytes), &node, &ret->zarr, op->why);
	if (!err && (node != ZARR_ARRAY || le32_get(d->npy_bytes) > NPY_HEADER_MAX))
		err = reason_set(op->why, EINVAL, "RESTORE: not an array's document");
	return err;
}

/* A directory that nobody can hold yet needs no invalidation but that of its name. */
static int make_dir(struct meta_op *op, struct inode *dir, struct meta_name name, uint32_t mode)
{
	struct inode root, in = { .mode = S_IFDIR | mode };
	size_t told;
	int err = inode_get(op->m, META_ROOT, &root);

	in.uid = root.uid;
	in.gid = root.gid;
	told = op->changes.n;
	if (!err)
		err = meta_make_inode(op, dir, name, 0, &in);
	if (told >= 4)
		op->changes.n = told;
	*dir = in;
	return err;
}

static int enter(struct meta_op *op, struct inode *dir, struct meta_name name, uint32_t mode)
{
	uint64_t ino, id;
	int err = dirent_get(op->m, dir->ino, name, &ino, &id);

	if (err == -ENOENT)
		return make_dir(op, dir, name, mode);
	return err ? err : inode_dir(op->m, ino, dir);
}

/* Enters, or makes, the directories of the path; *ret_name is then its last part.  Not 0: it cannot be put there. */
static int walk(struct meta_op *op, const struct restored *r, struct inode *dir, struct meta_name *ret_name)
{
	const char *at = r->path, *end = r->path + le32_get(r->head.path_bytes);
	unsigned depth = 0;
	int err = inode_dir(op->m, META_ROOT, dir);

	*ret_name = (struct meta_name){ 0 };
	while (!err && at < end) {
		if (*at++ != '/')
			return -EINVAL;
		const char *slash = memchr(at, '/', (size_t)(end - at));
		struct meta_name name = { at, (size_t)((slash ? slash : end) - at) };
		err = wire_check_name(name.text, name.len);
		if (!err && ++depth > DEPTH_MAX)
			err = -ENAMETOOLONG;
		at += name.len;
		if (!err && at < end)
			err = enter(op, dir, name, 0755);
		*ret_name = name;
	}
	return err ? err : ret_name->len ? 0 : -EINVAL;
}

int meta_lost_found(struct meta_op *op, struct inode *dir)
{
	int err = inode_dir(op->m, META_ROOT, dir);

	return err ? err : enter(op, dir, (struct meta_name){ LOST_FOUND, strlen(LOST_FOUND) }, 0700);
}

/* The plain directory that is to become the array again: one that was made on the way to another, or that lost its record. */
static bool is_bare(struct meta_op *op, uint64_t ino, struct inode *ret)
{
	uint64_t ignored;

	return inode_dir(op->m, ino, ret) == 0 && !(ret->flags & WIRE_ATTR_ARRAY) && !ret->object &&
	       dirent_get(op->m, ino, (struct meta_name){ "c", 1 }, &ignored, &ignored) == -ENOENT;
}

/* Where it goes: 0: *dir and *name; 1: into the directory *dir itself. */
static int choose(struct meta_op *op, const struct restored *r, bool in_place, struct inode *dir,
		  struct meta_name *name, char text[64])
{
	struct inode found;
	uint64_t ino, id;
	int err = r->is_array && is_bare(op, le64_get(r->head.ino), dir) && dir->ino != META_ROOT;

	if (err)
		return 1;
	err = in_place ? walk(op, r, dir, name) : -ENOENT;
	if (!err) {
		err = dirent_get(op->m, dir->ino, *name, &ino, &id);
		if (err == -ENOENT)
			return 0;
		if (!err && r->is_array && is_bare(op, ino, &found)) {
			*dir = found;
			return 1;
		}
	}
	err = meta_lost_found(op, dir);
	snprintf(text, 64, "%s-%llu", r->is_array ? "array" : "file", (unsigned long long)le64_get(r->head.object));
	*name = (struct meta_name){ text, strlen(text) };
	if (!err)
		err = dirent_get(op->m, dir->ino, *name, &ino, &id);
	return err == -ENOENT ? 0 : err ? err : -EEXIST;
}

static int keep_nodes(struct meta_op *op, const struct restored *r)
{
	static const char unknown[] = "unknown:0";
	int err = 0;

	for (uint32_t i = 0; !err && i < le32_get(r->head.n_nodes); i++) {
		struct uuid none = { { 0 } };
		uint32_t id = le32_get(r->nodes[i]);
		memcpy(none.b + 12, &r->nodes[i], 4);
		err = db_run(op->m->db, SQL_NODE_KEEP, db_int(id), db_bytes(&none, sizeof(none)),
			     db_bytes(unknown, strlen(unknown)));
	}
	return err;
}

static int put_xattrs(struct meta_op *op, const struct restored *r, struct inode *in)
{
	struct cursor c = r->xattrs;
	int err = 0;

	while (!err && c.left) {
		const struct le32 *lengths = cursor_take(&c, 2 * sizeof(*lengths));
		const char *name = lengths ? cursor_take(&c, le32_get(lengths[0])) : NULL;
		const char *value = name ? cursor_take(&c, le32_get(lengths[1])) : NULL;
		char text[24];
		if (!value || !le32_get(lengths[0]) || le32_get(lengths[0]) > SLAB_NAME_MAX)
			return reason_set(op->why, EINVAL, "RESTORE: an attribute makes no sense");
		err = db_run(op->m->db, SQL_XATTR_SET, db_int(in->ino), db_bytes(name, le32_get(lengths[0])),
			     db_bytes(value, le32_get(lengths[1])));
		in->flags |= WIRE_ATTR_XATTRS;
		if (le32_get(lengths[0]) > 9 && !memcmp(name, "security.", 9))
			in->flags |= WIRE_ATTR_SECURITY;
		if (le32_get(lengths[0]) > 7 && !memcmp(name, "system.", 7))
			in->flags |= WIRE_ATTR_ACL;
		snprintf(text, sizeof(text), "%.*s", (int)MIN(le32_get(lengths[1]), sizeof(text) - 1), value);
		if (le32_get(lengths[0]) == strlen(XATTR_PARTITION_BYTES) &&
		    !memcmp(name, XATTR_PARTITION_BYTES, strlen(XATTR_PARTITION_BYTES)))
			parse_u64(text, INT64_MAX, &in->partition_bytes);
	}
	return err;
}

static int put_sidecar(struct meta_op *op, const struct restored *r, struct inode *dir)
{
	struct meta_name name = { META_ZARR_NAME, strlen(META_ZARR_NAME) };
	struct inode file = { .mode = S_IFREG | (dir->mode & 0666),
			      .uid = dir->uid,
			      .gid = dir->gid,
			      .size = le32_get(r->head.doc_bytes),
			      .flags = WIRE_ATTR_INLINE };
	uint64_t ignored;
	int err = dirent_get(op->m, dir->ino, name, &ignored, &ignored);

	if (!(dir->flags & WIRE_ATTR_SIDECAR) || err != -ENOENT)
		return err == -ENOENT ? 0 : err;
	err = meta_make_inode(op, dir, name, 0, &file);
	return err ? err : content_set(op->m, file.ino, r->doc, le32_get(r->head.doc_bytes));
}

static void fill(const struct restored *r, struct inode *in)
{
	const struct wire_describe *d = &r->head;

	in->mode = (r->is_array ? S_IFDIR : S_IFREG) | (le32_get(d->mode) & 07777);
	in->uid = le32_get(d->uid);
	in->gid = le32_get(d->gid);
	in->generation = MAX(in->generation, le64_get(d->generation)) + 1;
	in->atime = in->mtime = le64_get(d->mtime_ns);
	in->ctime = le64_get(d->ctime_ns);
	in->object = le64_get(d->object);
	in->epoch = le32_get(d->epoch);
	if (r->is_array)
		in->flags |= le32_get(d->flags) & (WIRE_ATTR_ARRAY | WIRE_ATTR_SIDECAR | WIRE_ATTR_CHUNKDIR);
	else
		in->size = le64_get(d->size);
	if (!r->is_array)
		in->partition_bytes = le64_get(d->partition_bytes);
}

/* The inode gets its old number, when that is free. */
static int add_inode(struct meta_op *op, const struct restored *r, struct inode *dir, struct meta_name name,
		     struct inode *in)
{
	struct inode other;
	uint64_t ino = le64_get(r->head.ino);
	bool free_number = ino > META_ROOT && ino < op->m->next_id && inode_get(op->m, ino, &other) == -ESTALE;
	int err;

	in->ino = free_number ? ino : meta_new_id(op->m);
	in->nlink = r->is_array ? 2 : 1;
	in->parent = r->is_array ? dir->ino : 0;
	dir->nlink += r->is_array;
	err = inode_add(op->m, in);
	if (!err)
		err = dirent_add(op->m, dir->ino, name, in);
	meta_entry_changed(op, dir, name);
	return err ? err : inode_touch(op, dir, true);
}

static int put_array(struct meta_op *op, const struct restored *r, struct inode *in)
{
	int err = db_run(op->m->db, SQL_ARRAY_SET, db_int(in->ino), db_int(r->zarr.grid.partition_bytes),
			 db_bytes(r->doc, le32_get(r->head.doc_bytes)), db_bytes(r->npy, le32_get(r->head.npy_bytes)));

	return err ? err : put_sidecar(op, r, in);
}

static int reply_path(struct meta_op *op, uint64_t dir, struct meta_name name)
{
	char path[600], *text;

	meta_path(op->m, dir, path, sizeof(path));
	if (asprintf(&text, "%s%s%.*s", path, name.len ? "/" : "", (int)name.len, name.text) < 0)
		return -ENOMEM;
	op->reply_payload = (uint8_t *)text;
	op->reply_payload_bytes = strlen(text);
	return 0;
}

int meta_op_restore(struct meta_op *op)
{
	const struct wire_restore *body = op->body;
	struct restored r = { 0 };
	struct inode dir = { 0 }, in = { 0 };
	struct meta_name name = { 0 };
	char text[64];
	int err = parse(op, &r), into = 0;

	if (!err && db_run(op->m->db, SQL_ORPHAN_GET, db_int(le64_get(r.head.object))) == 1)
		err = reason_set(op->why, EEXIST, "RESTORE: the object is being dropped");
	if (!err)
		err = into = choose(op, &r, le32_get(body->flags) & WIRE_RESTORE_IN_PLACE, &dir, &name, text);
	if (err < 0)
		return err;
	if (into)
		in = dir;
	fill(&r, &in);
	err = layout_intern(op->m, r.nodes, le32_get(r.head.n_nodes), &in.layout);
	if (!err)
		err = keep_nodes(op, &r);
	if (!err && !into)
		err = add_inode(op, &r, &dir, name, &in);
	if (!err)
		err = put_xattrs(op, &r, &in);
	if (!err && r.is_array)
		err = put_array(op, &r, &in);
	if (!err) {
		meta_changed(op, &in, WIRE_INVAL_ATTR | WIRE_INVAL_DATA | WIRE_INVAL_LAYOUT);
		err = inode_set(op->m, &in);
	}
	return err ? err : reply_path(op, into ? in.ino : dir.ino, into ? (struct meta_name){ 0 } : name);
}

/* ---- numbers ---- */

int meta_op_raise_ids(struct meta_op *op)
{
	const struct wire_raise_ids *body = op->body;
	uint64_t last = le64_get(body->last);
	struct meta *m = op->m;
	bool done = le32_get(body->flags) & WIRE_IDS_REBUILT;
	int err;

	if (last > INT64_MAX / 2 || le32_get(body->flags) & ~(uint32_t)WIRE_IDS_REBUILT)
		return reason_set(op->why, EINVAL, "RAISE_IDS: %llu is no number of ours", (unsigned long long)last);
	pthread_mutex_lock(&m->lock);
	m->next_id = MAX(m->next_id, last + 1); /* what lies behind it is reserved by the transaction */
	pthread_mutex_unlock(&m->lock);
	err = meta_begin(m);
	if (!err)
		err = meta_end(m, done ? db_query(m->db, SQL_REBUILD_END, NULL, 0) : 0);
	if (!err)
		err = meta_sync(m);
	if (!err && done && m->rebuilding) {
		pthread_mutex_lock(&m->lock);
		m->rebuilding = false;
		pthread_mutex_unlock(&m->lock);
		log_info("the names are rebuilt");
	}
	return err;
}

/* ---- nodes ---- */

int meta_node_claim(struct meta *m, uint32_t id, const struct uuid *node, const char *address)
{
	static const uint8_t zeros[12];
	AUTO_FREE struct wire_node *nodes = NULL;
	bool known = false, kept = false;
	size_t n;
	int err = id && id <= SLAB_NODES_MAX ? meta_nodes(m, &nodes, &n) : -EINVAL;

	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		bool same = le32_get(nodes[i].node_id) == id;
		known = known || same;
		kept = kept || (same && !memcmp(nodes[i].node.b, zeros, sizeof(zeros)));
	}
	if (known ? !kept : !m->rebuilding)
		return 0;
	err = meta_begin(m);
	if (!err)
		err = meta_end(m, db_run(m->db, SQL_NODE_CLAIM, db_int(id), db_bytes(node, sizeof(*node)),
					 db_bytes(address, strlen(address))));
	return err ? err : 1;
}
