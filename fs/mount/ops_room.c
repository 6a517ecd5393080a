/* ops_room.c - fallocate, lseek for data and holes, copy_file_range.  A kind of file that has none of its own for one of these gets what is true of all:
 * zeros can be written, everything may be called data, and the kernel can copy.  ENOSYS is never the answer: the kernel would not ask again. */
#include "inval.h"
#include "ops_fuse.h"

#include <linux/falloc.h>
#include <stdlib.h>

#define ZEROS_BYTES (UINT64_C(1) << 20)

static int size_of(struct mount *m, struct node *n, uint64_t *ret)
{
	struct stat st;
	int err = n->ops->getattr(m, n, &st);

	*ret = err ? 0 : (uint64_t)st.st_size;
	return err;
}

/* Punching and zeroing within the size; room cannot be reserved this way. */
static int write_zeros(struct mount *m, struct handle *h, int mode, uint64_t offset, uint64_t length)
{
	uint64_t size, end = offset + length;
	int err = size_of(m, h->node, &size);

	if (err)
		return err;
	if (!h->ops->write || !(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) ||
	    (!(mode & FALLOC_FL_KEEP_SIZE) && end > size))
		return -EOPNOTSUPP;
	end = MIN(end, size);
	AUTO_FREE char *zeros = calloc(1, ZEROS_BYTES);
	if (!zeros)
		return -ENOMEM;
	for (uint64_t piece; offset < end && !err; offset += piece) {
		piece = MIN(ZEROS_BYTES, end - offset);
		err = h->ops->write(m, h, zeros, (size_t)piece, offset);
	}
	return err;
}

static int check_mode(int mode)
{
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* Under strict a change is over when every mount sees it; see op_write. */
static void change_begin(struct mount *m)
{
	if (m->options.strict)
		inval_hold_begin(m);
}

static int change_publish(struct mount *m, struct handle *h, int err)
{
	return err || !m->options.strict || !h->ops->publish ? err : h->ops->publish(m, h);
}

static void change_end(struct mount *m)
{
	if (m->options.strict)
		inval_hold_end(m);
}

void ops_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	struct mount *m = ops_mount_of(req);
	struct handle *h = ops_handle(fi);
	uint64_t from = (uint64_t)offset, len = (uint64_t)length;
	int err = check_mode(mode);

	(void)id;
	if (!err && (offset < 0 || length <= 0))
		err = -EINVAL;
	if (!err && len > INT64_MAX - from)
		err = -EFBIG;
	change_begin(m);
	if (!err)
		err = h->ops->allocate ? h->ops->allocate(m, h, mode, from, len) : write_zeros(m, h, mode, from, len);
	err = change_publish(m, h, err);
	atomic_fetch_add(&h->uses, 1);
	ops_reply_err(req, err);
	change_end(m);
}

void ops_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct mount *m = ops_mount_of(req);
	struct handle *h = ops_handle(fi);
	bool hole = whence == SEEK_HOLE;
	uint64_t found = 0, size = 0;
	int err = hole || whence == SEEK_DATA ? 0 : -EINVAL;

	(void)id;
	if (!err && offset < 0)
		err = -ENXIO;
	if (!err && h->ops->seek) {
		err = h->ops->seek(m, h, (uint64_t)offset, hole, &found);
	} else if (!err) {
		err = size_of(m, h->node, &size);
		found = hole ? size : (uint64_t)offset;
		if (!err && (uint64_t)offset >= size)
			err = -ENXIO;
	}
	atomic_fetch_add(&h->uses, 1);
	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_lseek(req, (off_t)found);
}

void ops_copy_file_range(fuse_req_t req, fuse_ino_t id_in, off_t offset_in, struct fuse_file_info *fi_in,
			 fuse_ino_t id_out, off_t offset_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct mount *m = ops_mount_of(req);
	struct handle *in = ops_handle(fi_in), *out = ops_handle(fi_out);
	uint64_t copied = 0;
	int err = in->ops != out->ops || !in->ops->copy || flags ? -EOPNOTSUPP : 0;

	(void)id_in;
	(void)id_out;
	change_begin(m);
	if (!err)
		err = in->ops->copy(m, in, (uint64_t)offset_in, out, (uint64_t)offset_out, len, &copied);
	err = change_publish(m, out, err);
	atomic_fetch_add(&in->uses, 1);
	atomic_fetch_add(&out->uses, 1);
	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_write(req, (size_t)copied);
	change_end(m);
}
