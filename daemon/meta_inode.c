/* Inodes, their contents, their placement, and who has them open. */
#include "meta_int.h"

#include <assert.h>

#include "log.h"
#include "nodes.h"

/* meta_begin keeps more ids in reserve than one operation can use. */
uint64_t meta_new_id(struct meta *m)
{
	assert(m->next_id < m->id_limit);
	return m->next_id++;
}

int inode_row(struct meta *m, unsigned q, int first, struct inode *ret)
{
	struct db *db = m->db;

	*ret = (struct inode){ .mode = (uint32_t)db_u64(db, q, first),
			       .uid = (uint32_t)db_u64(db, q, first + 1),
			       .gid = (uint32_t)db_u64(db, q, first + 2),
			       .nlink = (uint32_t)db_u64(db, q, first + 3),
			       .rdev = db_u64(db, q, first + 4),
			       .size = db_u64(db, q, first + 5),
			       .atime = db_u64(db, q, first + 6),
			       .mtime = db_u64(db, q, first + 7),
			       .ctime = db_u64(db, q, first + 8),
			       .generation = db_u64(db, q, first + 9),
			       .flags = (uint32_t)db_u64(db, q, first + 10),
			       .parent = db_u64(db, q, first + 11),
			       .object = db_u64(db, q, first + 12),
			       .partition_bytes = db_u64(db, q, first + 13),
			       .layout = db_u64(db, q, first + 14),
			       .epoch = (uint32_t)db_u64(db, q, first + 15),
			       .ino = db_u64(db, q, first + 16) };
	return 0;
}

int inode_get_any(struct meta *m, uint64_t ino, struct inode *ret)
{
	int rc = db_run(m->db, SQL_INODE_GET, db_int(ino));

	if (rc <= 0)
		return rc ? rc : -ESTALE;
	return inode_row(m, SQL_INODE_GET, 0, ret);
}

int inode_get(struct meta *m, uint64_t ino, struct inode *ret)
{
	int err = inode_get_any(m, ino, ret);

	return !err && !ret->nlink && m->grace_until_ns && !opens_count(m, ino) ? -ESTALE : err;
}

int inode_dir(struct meta *m, uint64_t ino, struct inode *ret)
{
	int err = inode_get(m, ino, ret);

	if (err)
		return err;
	if (!S_ISDIR(ret->mode))
		return -ENOTDIR;
	return ret->nlink ? 0 : -ENOENT;
}

static int inode_write(struct meta *m, unsigned q, const struct inode *in)
{
	return db_run(m->db, q, db_int(in->mode), db_int(in->uid), db_int(in->gid), db_int(in->nlink), db_int(in->rdev),
		      db_int(in->size), db_int(in->atime), db_int(in->mtime), db_int(in->ctime), db_int(in->generation),
		      db_int(in->flags), db_int(in->parent), db_int(in->object), db_int(in->partition_bytes),
		      db_int(in->layout), db_int(in->epoch), db_int(in->ino));
}

int inode_add(struct meta *m, const struct inode *in)
{
	return inode_write(m, SQL_INODE_ADD, in);
}

int inode_set(struct meta *m, const struct inode *in)
{
	return inode_write(m, SQL_INODE_SET, in);
}

int inode_touch(struct meta_op *op, struct inode *in, bool modified)
{
	in->ctime = op->now;
	if (modified)
		in->mtime = op->now;
	meta_changed(op, in, WIRE_INVAL_ATTR);
	return inode_set(op->m, in);
}

static int inode_delete(struct meta_op *op, const struct inode *in)
{
	struct inode gone = *in;
	struct meta *m = op->m;
	int err = 0;

	assert(op->n_gone < META_GONE_MAX);
	op->gone[op->n_gone++] = in->ino;
	if (S_ISDIR(in->mode) && in->flags & WIRE_ATTR_ARRAY)
		err = db_run(m->db, SQL_ARRAY_DEL, db_int(in->ino));
	if (!err && in->object)
		err = object_orphan(op, &gone);
	if (!err && (S_ISLNK(in->mode) || in->flags & WIRE_ATTR_INLINE))
		err = db_run(m->db, SQL_CONTENT_DEL, db_int(in->ino));
	if (!err)
		err = db_run(m->db, SQL_XATTR_DROP, db_int(in->ino));
	return err ? err : db_run(m->db, SQL_INODE_DEL, db_int(in->ino));
}

/* After a start the mounts take their time to tell what they have open. */
static bool may_be_open(const struct meta *m, const struct inode *in)
{
	return opens_count(m, in->ino) || (m->grace_until_ns && (S_ISREG(in->mode) || in->flags & WIRE_ATTR_ARRAY));
}

int inode_drop_if_unused(struct meta_op *op, const struct inode *in)
{
	return in->nlink || may_be_open(op->m, in) ? 0 : inode_delete(op, in);
}

static int drop_next_unlinked(struct meta_op *op, uint64_t *at, bool *ret_over)
{
	struct meta *m = op->m;
	struct inode in;
	int rc = db_run(m->db, SQL_INODE_UNLINKED, db_int(*at)), err;

	*ret_over = rc == 0;
	if (rc <= 0)
		return rc;
	*at = db_u64(m->db, SQL_INODE_UNLINKED, 0);
	err = inode_get_any(m, *at, &in);
	return err ? err : inode_drop_if_unused(op, &in);
}

int inode_drop_unlinked(struct meta *m, bool *ret_reap)
{
	uint64_t at = 0;
	bool over = false;

	while (!over) {
		struct meta_op op = { .m = m };
		int err = meta_begin(m);
		if (err)
			return err;
		err = meta_end(m, drop_next_unlinked(&op, &at, &over));
		if (err)
			return err;
		for (size_t i = 0; i < op.n_gone; i++)
			inval_gone(m->inval, op.gone[i]);
		*ret_reap = *ret_reap || op.reap;
	}
	return 0;
}

bool meta_grace_over(struct meta *m, bool *ret_reap)
{
	bool over, ends;
	int err;

	pthread_mutex_lock(&m->lock);
	over = m->grace_until_ns == 0;
	ends = !over && time_mono_ns() >= m->grace_until_ns;
	if (ends)
		m->grace_until_ns = 0;
	pthread_mutex_unlock(&m->lock);
	if (!ends)
		return over;
	err = inode_drop_unlinked(m, ret_reap);
	if (err)
		log_error("meta.db: what was removed while it was open is not dropped: %s", strerror(-err));
	return true;
}

void inode_attr(const struct inode *in, struct wire_attr *ret)
{
	*ret = (struct wire_attr){ .ino = le64_of(in->ino),
				   .generation = le64_of(in->generation),
				   .size = le64_of(in->size),
				   .atime_ns = le64_of(in->atime),
				   .mtime_ns = le64_of(in->mtime),
				   .ctime_ns = le64_of(in->ctime),
				   .rdev = le64_of(in->rdev),
				   .mode = le32_of(in->mode),
				   .uid = le32_of(in->uid),
				   .gid = le32_of(in->gid),
				   .nlink = le32_of(in->nlink),
				   .flags = le32_of(in->flags) };
}

void meta_hold(struct meta_op *op, uint64_t ino)
{
	if (op->peer.is_mount)
		inval_hold(op->m->inval, ino, op->peer.session, op->peer.handle, op->request);
}

int meta_reply_attr(struct meta_op *op, const struct inode *in)
{
	inode_attr(in, &op->reply.attr);
	if (in->nlink)
		meta_hold(op, in->ino);
	return 0;
}

void meta_changed(struct meta_op *op, const struct inode *in, uint32_t flags)
{
	struct inval_list *l = &op->changes;

	for (size_t i = 0; i < l->n; i++)
		if (l->items[i].ino == in->ino && !l->items[i].to_origin) {
			l->items[i].flags |= flags;
			l->items[i].generation = in->generation;
			return;
		}
	assert(l->n < INVAL_ITEMS_MAX);
	l->items[l->n].ino = in->ino;
	l->items[l->n].generation = in->generation;
	l->items[l->n].flags = flags;
	l->items[l->n].is_dir = S_ISDIR(in->mode);
	l->items[l->n].to_origin = false;
	l->items[l->n++].name_bytes = 0;
}

void meta_entry_changed(struct meta_op *op, const struct inode *dir, struct meta_name name)
{
	struct inval_list *l = &op->changes;
	struct inval_item *item = &l->items[l->n];

	assert(l->n < INVAL_ITEMS_MAX);
	l->n++;
	item->ino = dir->ino;
	item->generation = dir->generation;
	item->flags = WIRE_INVAL_ENTRY;
	item->is_dir = true;
	item->to_origin = false;
	item->name_bytes = (uint16_t)name.len;
	memcpy(item->name, name.text, name.len);
}

int content_get(struct meta *m, uint64_t ino, const void **ret, size_t *ret_len)
{
	int rc = db_run(m->db, SQL_CONTENT_GET, db_int(ino));

	if (rc < 0)
		return rc;
	if (rc == 1) {
		*ret = db_blob(m->db, SQL_CONTENT_GET, 0, ret_len);
	} else {
		*ret = "";
		*ret_len = 0;
	}
	return 0;
}

int content_set(struct meta *m, uint64_t ino, const void *bytes, size_t len)
{
	return db_run(m->db, SQL_CONTENT_SET, db_int(ino), db_bytes(bytes, len));
}

int layout_intern(struct meta *m, const struct le32 *nodes, size_t n, uint64_t *ret_layout)
{
	struct db_value blob = db_bytes(nodes, n * sizeof(*nodes));
	int rc = db_run(m->db, SQL_LAYOUT_FIND, blob, db_int(1));
	uint64_t id;

	if (rc == 1)
		*ret_layout = db_u64(m->db, SQL_LAYOUT_FIND, 0);
	if (rc)
		return rc < 0 ? rc : 0;
	id = meta_new_id(m);
	rc = db_run(m->db, SQL_LAYOUT_ADD, db_int(id), blob, db_int(1));
	if (!rc)
		*ret_layout = id;
	return rc;
}

int layout_new(struct meta *m, uint32_t near, uint64_t *ret_layout, struct reason *why)
{
	uint32_t ids[SLAB_NODES_MAX];
	struct le32 nodes[SLAB_NODES_MAX];
	size_t n = nodes_place(m->d->nodes, near, ids);

	if (m->rebuilding)
		return reason_set(why, EROFS, "the names are being rebuilt: slabctl fsck --rebuild");
	if (!n)
		return reason_set(why, EIO, "no node is up to place a new file on");
	for (size_t i = 0; i < n; i++)
		nodes[i] = le32_of(ids[i]);
	return layout_intern(m, nodes, n, ret_layout);
}

int layout_nodes(struct meta *m, uint64_t layout, struct le32 ret[SLAB_NODES_MAX], size_t *ret_n)
{
	const void *blob;
	size_t len;
	int rc = db_run(m->db, SQL_LAYOUT_GET, db_int(layout));

	if (rc <= 0)
		return rc ? rc : -EIO;
	blob = db_blob(m->db, SQL_LAYOUT_GET, 0, &len);
	if (len % sizeof(*ret) || len > SLAB_NODES_MAX * sizeof(*ret))
		return -EIO;
	memcpy(ret, blob, len);
	*ret_n = len / sizeof(*ret);
	return 0;
}

int object_orphan(struct meta_op *op, struct inode *in)
{
	int err = db_run(op->m->db, SQL_ORPHAN_ADD, db_int(in->object), db_int(in->layout), db_int(in->epoch));

	in->object = 0;
	in->layout = 0;
	op->reap = true;
	return err;
}

static uint64_t count_get(const struct map *m, uint64_t key)
{
	return (uint64_t)(uintptr_t)map_get(m, key);
}

static int count_put(struct map *m, uint64_t key, uint64_t count)
{
	if (count)
		return map_put(m, key, (void *)(uintptr_t)count);
	map_del(m, key);
	return 0;
}

int opens_add(struct meta *m, uint64_t session, uint64_t ino)
{
	struct map *mine = map_get(&m->sessions, session);
	int err;

	if (!mine) {
		mine = calloc(1, sizeof(*mine));
		err = mine ? map_put(&m->sessions, session, mine) : -ENOMEM;
		if (err) {
			free(mine);
			return err;
		}
	}
	if (count_get(mine, ino))
		return 0;
	err = count_put(mine, ino, 1);
	if (err)
		return err;
	err = count_put(&m->opens, ino, count_get(&m->opens, ino) + 1);
	if (err)
		count_put(mine, ino, 0);
	return err;
}

bool opens_has(const struct meta *m, uint64_t session, uint64_t ino)
{
	const struct map *mine = map_get(&m->sessions, session);

	return mine && map_get(mine, ino);
}

bool opens_remove(struct meta *m, uint64_t session, uint64_t ino)
{
	struct map *mine = map_get(&m->sessions, session);

	if (!mine || !count_get(mine, ino))
		return false;
	count_put(mine, ino, 0);
	count_put(&m->opens, ino, count_get(&m->opens, ino) - 1);
	return true;
}

uint64_t opens_count(const struct meta *m, uint64_t ino)
{
	return count_get(&m->opens, ino);
}
