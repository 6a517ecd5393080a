#include "meta_describe.h"

#include "meta_int.h"

#define PATH_BYTES_MAX 65536 /* a longer path is left out: the array would come back in lost+found */

/* Writes the path from the end of buf; its length, 0 when it is too long. */
static size_t path_of(struct meta *m, uint64_t ino, uint8_t buf[PATH_BYTES_MAX])
{
	char name[SLAB_NAME_MAX];
	size_t at = PATH_BYTES_MAX, len;

	while (ino != META_ROOT && meta_name_of_dir(m, ino, &ino, name, &len)) {
		if (len + 1 > at)
			return 0;
		at -= len;
		memcpy(buf + at, name, len);
		buf[--at] = '/';
	}
	return ino == META_ROOT ? PATH_BYTES_MAX - at : 0;
}

struct buffer {
	uint8_t *bytes;
	size_t used;
};

static bool put(struct buffer *b, const void *bytes, size_t len)
{
	if (len > WIRE_DESCRIPTION_MAX - sizeof(struct wire_describe) - b->used)
		return false;
	if (len)
		memcpy(b->bytes + b->used, bytes, len);
	b->used += len;
	return true;
}

/* Attributes that do not fit are left out. */
static int put_xattrs(struct meta *m, uint64_t ino, struct buffer *b)
{
	int rc = db_run(m->db, SQL_XATTR_ALL, db_int(ino));

	for (; rc == 1; rc = db_next(m->db, SQL_XATTR_ALL)) {
		size_t name_bytes, value_bytes, before = b->used;
		const void *name = db_blob(m->db, SQL_XATTR_ALL, 0, &name_bytes);
		const void *value = db_blob(m->db, SQL_XATTR_ALL, 1, &value_bytes);
		struct le32 lengths[2] = { le32_of((uint32_t)name_bytes), le32_of((uint32_t)value_bytes) };
		if (!put(b, lengths, sizeof(lengths)) || !put(b, name, name_bytes) || !put(b, value, value_bytes))
			b->used = before;
	}
	return rc;
}

static int put_array(struct meta *m, uint64_t ino, struct wire_describe *d, struct buffer *b)
{
	int rc = db_run(m->db, SQL_ARRAY_GET, db_int(ino));
	size_t len;

	if (rc <= 0)
		return rc ? rc : -EIO;
	d->partition_bytes = le64_of(db_u64(m->db, SQL_ARRAY_GET, 0));
	const void *npy = db_blob(m->db, SQL_ARRAY_GET, 2, &len);
	d->npy_bytes = le32_of((uint32_t)len);
	if (!put(b, npy, len))
		return -EFBIG;
	const void *doc = db_blob(m->db, SQL_ARRAY_GET, 1, &len);
	d->doc_bytes = le32_of((uint32_t)len);
	return put(b, doc, len) ? 0 : -EFBIG;
}

static int fill(struct meta *m, const struct inode *in, struct description *ret)
{
	AUTO_FREE uint8_t *path = malloc(PATH_BYTES_MAX);
	struct buffer b = { .bytes = malloc(WIRE_DESCRIPTION_MAX) };
	size_t path_bytes = path ? path_of(m, in->ino, path) : 0;
	int err = path && b.bytes ? layout_nodes(m, in->layout, ret->nodes, &ret->n_nodes) : -ENOMEM;

	ret->payload = b.bytes;
	ret->head = (struct wire_describe){ .object = le64_of(in->object),
					    .ino = le64_of(in->ino),
					    .stamp = le64_of(meta_new_id(m)),
					    .generation = le64_of(in->generation),
					    .mtime_ns = le64_of(in->mtime),
					    .ctime_ns = le64_of(in->ctime),
					    .mode = le32_of(in->mode),
					    .uid = le32_of(in->uid),
					    .gid = le32_of(in->gid),
					    .flags = le32_of(in->flags),
					    .epoch = le32_of(in->epoch),
					    .n_nodes = le32_of((uint32_t)ret->n_nodes),
					    .path_bytes = le32_of((uint32_t)path_bytes) };
	if (err || !put(&b, ret->nodes, ret->n_nodes * sizeof(*ret->nodes)) ||
	    !put(&b, path + PATH_BYTES_MAX - path_bytes, path_bytes))
		return err ? err : -EFBIG;
	err = put_array(m, in->ino, &ret->head, &b);
	size_t before = b.used;
	if (!err)
		err = put_xattrs(m, in->ino, &b);
	ret->head.xattrs_bytes = le32_of((uint32_t)(b.used - before));
	ret->payload_bytes = b.used;
	return err;
}

/* 1: *ret is to be sent; 0: that mark is done with. */
static int look_at(struct meta *m, struct description *ret)
{
	struct inode in;
	int err = inode_get(m, ret->ino, &in);

	if (!err && S_ISDIR(in.mode) && !ret->n_acked) /* once, not with each try */
		err = db_run(m->db, SQL_DESCRIBE_BELOW, db_int(in.ino));
	if (!err && S_ISDIR(in.mode) && in.flags & WIRE_ATTR_ARRAY && in.object) {
		err = fill(m, &in, ret);
		return err ? err : 1;
	}
	if (err && err != -ESTALE)
		return err;
	return db_run(m->db, SQL_DESCRIBE_DONE, db_int(ret->ino), db_int(ret->mark));
}

static int next_locked(struct meta *m, uint64_t after, struct description *ret)
{
	const void *acked;
	size_t len;
	int rc = db_run(m->db, SQL_DESCRIBE_NEXT, db_int(after));

	if (rc <= 0)
		return rc;
	ret->ino = db_u64(m->db, SQL_DESCRIBE_NEXT, 0);
	ret->mark = db_u64(m->db, SQL_DESCRIBE_NEXT, 1);
	acked = db_blob(m->db, SQL_DESCRIBE_NEXT, 2, &len);
	ret->n_acked = MIN(len, sizeof(ret->acked)) / sizeof(*ret->acked);
	memcpy(ret->acked, acked, ret->n_acked * sizeof(*ret->acked));
	return 1;
}

/* Whether anything is marked, before a transaction is begun for it. */
static int any_marked(struct meta *m, uint64_t after)
{
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = db_run(m->db, SQL_DESCRIBE_NEXT, db_int(after));
	db_done(m->db);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

int meta_describe_next(struct meta *m, uint64_t after, struct description *ret)
{
	int rc = any_marked(m, after), what = 0;

	while (rc == 1 && !what) {
		*ret = (struct description){ 0 };
		rc = meta_begin(m);
		if (rc)
			return rc;
		rc = next_locked(m, after, ret);
		if (rc == 1) {
			after = ret->ino;
			what = look_at(m, ret);
		}
		int err = meta_end(m, rc < 0 ? rc : what < 0 ? what : 0);
		if (err || what < 0) {
			free(ret->payload);
			return err ? err : what;
		}
	}
	return rc;
}

int meta_describe_update(struct meta *m, const struct description *d)
{
	int err = meta_begin(m);

	if (err)
		return err;
	if (d->n_acked >= d->n_nodes)
		err = db_run(m->db, SQL_DESCRIBE_DONE, db_int(d->ino), db_int(d->mark));
	else
		err = db_run(m->db, SQL_DESCRIBE_ACKED, db_bytes(d->acked, d->n_acked * sizeof(*d->acked)),
			     db_int(d->ino), db_int(d->mark));
	return meta_end(m, err);
}

uint64_t meta_undescribed(struct meta *m)
{
	uint64_t n = 0;

	pthread_mutex_lock(&m->lock);
	if (db_query(m->db, SQL_DESCRIBE_COUNT, NULL, 0) == 1)
		n = db_u64(m->db, SQL_DESCRIBE_COUNT, 0);
	db_done(m->db);
	pthread_mutex_unlock(&m->lock);
	return n;
}
