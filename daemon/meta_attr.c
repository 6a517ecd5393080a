/* Attributes, opens and commits: GETATTR, SETATTR, STATFS, OPEN, CLOSE, COMMIT, FORGET. */
#include "meta_int.h"

#include "nodes.h"

int meta_op_getattr(struct meta_op *op)
{
	const struct wire_ino *body = op->body;
	struct inode in;
	int err = inode_get(op->m, le64_get(body->ino), &in);

	return err ? err : meta_reply_attr(op, &in);
}

static int inline_resize(struct meta_op *op, struct inode *in, uint64_t size)
{
	AUTO_FREE uint8_t *copy = NULL;
	const void *bytes;
	size_t len;
	int err;

	if (size > ZARR_DOC_MAX)
		return -EFBIG;
	err = content_get(op->m, in->ino, &bytes, &len);
	if (err)
		return err;
	copy = calloc(1, size + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, bytes, MIN(len, size));
	return content_set(op->m, in->ino, copy, size);
}

static int set_size(struct meta_op *op, struct inode *in, uint64_t size)
{
	if (S_ISDIR(in->mode))
		return -EISDIR;
	if (!S_ISREG(in->mode))
		return -EINVAL;
	if (size > INT64_MAX)
		return -EFBIG;
	in->size = size;
	in->generation++;
	in->mtime = op->now;
	meta_changed(op, in, WIRE_INVAL_ATTR | WIRE_INVAL_DATA);
	int err = xattr_drop_capability(op, in);
	return !err && in->flags & WIRE_ATTR_INLINE ? inline_resize(op, in, size) : err;
}

int meta_op_setattr(struct meta_op *op)
{
	const struct wire_setattr *body = op->body;
	uint32_t valid = le32_get(body->valid);
	struct inode in;
	int err = inode_get(op->m, le64_get(body->ino), &in);

	if (!err && valid & WIRE_SET_SIZE)
		err = set_size(op, &in, le64_get(body->size));
	if (err)
		return err;
	if (valid & WIRE_SET_MODE) {
		in.mode = (in.mode & S_IFMT) | (le32_get(body->mode) & ~(uint32_t)S_IFMT);
		err = acl_follow_mode(op, &in);
	}
	if (valid & WIRE_SET_UID)
		in.uid = le32_get(body->uid);
	if (valid & WIRE_SET_GID)
		in.gid = le32_get(body->gid);
	if (valid & (WIRE_SET_ATIME | WIRE_SET_ATIME_NOW))
		in.atime = valid & WIRE_SET_ATIME_NOW ? op->now : le64_get(body->atime_ns);
	if (valid & (WIRE_SET_MTIME | WIRE_SET_MTIME_NOW))
		in.mtime = valid & WIRE_SET_MTIME_NOW ? op->now : le64_get(body->mtime_ns);
	if (!err)
		err = inode_touch(op, &in, false);
	if (!err && valid & WIRE_SET_SIZE && in.flags & WIRE_ATTR_INLINE)
		err = array_judge_linked(op, &in);
	return err ? err : meta_reply_attr(op, &in);
}

int meta_op_statfs(struct meta_op *op)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	uint64_t total = 0, bytes_free = 0, files = 0, files_free = 0;
	size_t n;
	int err = nodes_snapshot(op->m->d->nodes, &nodes, &n);

	for (size_t i = 0; !err && i < n; i++) {
		if (le32_get(nodes[i].state) != WIRE_NODE_UP)
			continue;
		total += le64_get(nodes[i].bytes_total);
		bytes_free += le64_get(nodes[i].bytes_free);
		files += le64_get(nodes[i].files_total);
		files_free += le64_get(nodes[i].files_free);
	}
	op->reply.statfs =
		(struct wire_statfs){ le64_of(total), le64_of(bytes_free), le64_of(files), le64_of(files_free) };
	return err;
}

/* The payload: the nodes, then an array's npy header and document. */
static int open_payload(struct meta_op *op, const struct inode *in, struct wire_layout *l)
{
	struct le32 nodes[SLAB_NODES_MAX];
	const void *doc = "", *npy = "";
	size_t n_nodes = 0, doc_bytes = 0, npy_bytes = 0, bytes;
	int err = in->layout ? layout_nodes(op->m, in->layout, nodes, &n_nodes) : 0;
	int rc = 0;

	if (!err && in->flags & WIRE_ATTR_ARRAY)
		rc = db_run(op->m->db, SQL_ARRAY_GET, db_int(in->ino));
	if (err || rc < 0)
		return err ? err : rc;
	if (rc == 1) {
		l->partition_bytes = le64_of(db_u64(op->m->db, SQL_ARRAY_GET, 0));
		doc = db_blob(op->m->db, SQL_ARRAY_GET, 1, &doc_bytes);
		npy = db_blob(op->m->db, SQL_ARRAY_GET, 2, &npy_bytes);
	}
	bytes = n_nodes * sizeof(*nodes) + npy_bytes + doc_bytes;
	op->reply_payload = malloc(bytes ? bytes : 1);
	if (!op->reply_payload)
		return -ENOMEM;
	memcpy(op->reply_payload, nodes, n_nodes * sizeof(*nodes));
	memcpy(op->reply_payload + n_nodes * sizeof(*nodes), npy, npy_bytes);
	memcpy(op->reply_payload + bytes - doc_bytes, doc, doc_bytes);
	op->reply_payload_bytes = bytes;
	l->n_nodes = le32_of((uint32_t)n_nodes);
	l->npy_bytes = le32_of((uint32_t)npy_bytes);
	l->doc_bytes = le32_of((uint32_t)doc_bytes);
	return 0;
}

int meta_open_inode(struct meta_op *op, const struct inode *in, struct wire_layout *ret)
{
	int err;

	*ret = (struct wire_layout){ .object = le64_of(in->object),
				     .partition_bytes = le64_of(in->partition_bytes),
				     .epoch = le32_of(in->epoch),
				     .replicas = le32_of(1) };
	err = open_payload(op, in, ret);
	return err ? err : opens_add(op->m, op->peer.session, in->ino);
}

int meta_op_open(struct meta_op *op)
{
	const struct wire_open *body = op->body;
	struct wire_open_reply *reply = &op->reply.open;
	struct inode in;
	uint32_t flags = le32_get(body->flags);
	int err;

	if ((flags & ~(uint32_t)WIRE_OPEN_AGAIN) || le32_get(body->reserved))
		return reason_set(op->why, EINVAL, "OPEN: unknown flags 0x%x", flags);
	err = flags & WIRE_OPEN_AGAIN ? inode_get_any(op->m, le64_get(body->ino), &in)
				      : inode_get(op->m, le64_get(body->ino), &in);
	if (!err && !S_ISREG(in.mode) && !(in.flags & WIRE_ATTR_ARRAY))
		err = S_ISDIR(in.mode) ? -EISDIR : -EINVAL;
	if (err)
		return err;
	inode_attr(&in, &reply->attr);
	err = meta_open_inode(op, &in, &reply->layout);
	if (!err)
		meta_hold(op, in.ino);
	return err;
}

int meta_close_inode(struct meta_op *op, uint64_t ino)
{
	struct inode in;
	int err;

	if (!opens_remove(op->m, op->peer.session, ino))
		return reason_set(op->why, EBADF, "inode %llu is not open in this session", (unsigned long long)ino);
	if (opens_count(op->m, ino))
		return 0;
	err = inode_get(op->m, ino, &in);
	if (err)
		return err == -ESTALE ? 0 : err;
	return inode_drop_if_unused(op, &in);
}

int meta_op_close(struct meta_op *op)
{
	const struct wire_ino *body = op->body;

	return meta_close_inode(op, le64_get(body->ino));
}

int meta_op_commit(struct meta_op *op)
{
	const struct wire_commit *body = op->body;
	uint64_t size = le64_get(body->size), mtime = le64_get(body->mtime_ns), ignored;
	struct inode in;
	int err = inode_get(op->m, le64_get(body->ino), &in);

	if (err)
		return err;
	if (in.flags & WIRE_ATTR_INLINE || (!S_ISREG(in.mode) && !(in.flags & WIRE_ATTR_ARRAY)))
		return reason_set(op->why, EINVAL, "COMMIT: inode %llu has no partitions", (unsigned long long)in.ino);
	if (size > INT64_MAX)
		return -EFBIG;
	if (S_ISREG(in.mode))
		in.size = MAX(in.size, size);
	else if (dirent_get(op->m, in.ino, (struct meta_name){ "c", 1 }, &ignored, &ignored) == -ENOENT)
		in.flags |= WIRE_ATTR_CHUNKDIR; /* what was written, perhaps through `data`, is to be listed */
	in.generation++;
	in.mtime = mtime ? mtime : op->now;
	/* The write changed it, not the close that tells of it. */
	in.ctime = (uint64_t)MAX((int64_t)in.mtime, (int64_t)in.ctime);
	meta_changed(op, &in, WIRE_INVAL_ATTR | WIRE_INVAL_DATA);
	err = inode_set(op->m, &in);
	return err ? err : meta_reply_attr(op, &in);
}

int meta_op_append(struct meta_op *op)
{
	const struct wire_append *body = op->body;
	uint64_t length = le64_get(body->length), size;
	struct inode in;
	int err = inode_get(op->m, le64_get(body->ino), &in);

	if (err)
		return err;
	if (!S_ISREG(in.mode) || in.flags & WIRE_ATTR_INLINE)
		return reason_set(op->why, EINVAL, "APPEND: inode %llu has no partitions", (unsigned long long)in.ino);
	if (add_overflows(in.size, length, &size) || size > INT64_MAX)
		return -EFBIG;
	in.size = size;
	in.generation++;
	in.mtime = op->now;
	in.ctime = (uint64_t)MAX((int64_t)in.mtime, (int64_t)in.ctime);
	meta_changed(op, &in, WIRE_INVAL_ATTR | WIRE_INVAL_DATA);
	err = inode_set(op->m, &in);
	return err ? err : meta_reply_attr(op, &in);
}

int meta_op_forget(struct meta_op *op)
{
	const struct wire_forget *body = op->body;
	const struct le64 *inos = (const void *)op->payload;
	uint32_t count = le32_get(body->count);

	if (op->payload_bytes != count * sizeof(*inos))
		return reason_set(op->why, EINVAL, "FORGET: the payload is not %u inode numbers", count);
	pthread_mutex_lock(&op->m->lock);
	for (uint32_t i = 0; i < count; i++)
		if (!opens_has(op->m, op->peer.session, le64_get(inos[i])))
			inval_forget(op->m->inval, le64_get(inos[i]), op->peer.session, le64_get(body->before));
	pthread_mutex_unlock(&op->m->lock);
	return 0;
}

/* Changes no ctime, and tells nobody: a time of reading is not worth it. */
int meta_op_read_times(struct meta_op *op)
{
	const struct wire_read_time *items = (const void *)op->payload;
	size_t n = op->payload_bytes / sizeof(*items);
	int err = 0;

	if (op->payload_bytes % sizeof(*items))
		return reason_set(op->why, EINVAL, "READ_TIMES: the payload is not a number of times");
	for (size_t i = 0; i < n && !err; i++) {
		struct inode in;
		err = inode_get(op->m, le64_get(items[i].ino), &in);
		if (err == -ESTALE) {
			err = 0;
			continue;
		}
		if (err || in.ctime != le64_get(items[i].ctime_ns) ||
		    (int64_t)in.atime >= (int64_t)le64_get(items[i].atime_ns))
			continue;
		in.atime = le64_get(items[i].atime_ns);
		err = inode_set(op->m, &in);
	}
	return err;
}
