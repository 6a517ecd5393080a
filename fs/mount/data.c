/* data.c - the view `data`: the whole array's bytes in C order; and what data.npy shares with it. */
#include "data.h"
#include "array.h"
#include "errors.h"
#include "head.h"
#include "inval.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int data_view_of(struct mount *m, struct node *n, struct array **ret_array, struct array_view **ret)
{
	*ret_array = node_array(n);
	return *ret_array ? array_view(m, *ret_array, ret) : -ENOENT;
}

int data_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	struct array_view *v;
	struct array *a;
	int err = data_view_of(m, n, &a, &v);

	if (err)
		return err;
	uint64_t header = n->kind == NODE_NPY ? v->npy_bytes : 0;
	node_view_stat(n, &v->attr, S_IFREG, 0666, header + (header ? v->data_bytes : array_size(a, v)), ret);
	array_view_unref(v);
	return 0;
}

/* Owner and permissions are the directory's and stay so: cp -p and rsync may ask for others, as on a FAT file system.  Times go to it. */
int data_set_directory(struct mount *m, struct node *n, const struct change *change)
{
	struct change times = *change;
	struct wire_attr attr;
	uint64_t seq;
	int err;

	times.valid &= WIRE_SET_ATIME | WIRE_SET_MTIME | WIRE_SET_ATIME_NOW | WIRE_SET_MTIME_NOW;
	if (times.valid == 0 || !node_array(n))
		return 0;
	err = head_setattr(m, node_array(n)->ino, &times, &attr, &seq);
	array_invalidate(m, node_array(n)->ino);
	return err;
}

static int data_flush_as(struct mount *m, struct node *n, bool durable)
{
	struct array *a = node_array(n);
	struct reason why = { "" };
	struct array_view *v;
	bool dirty = a && array_dirty(a);
	int err;

	if (!dirty && !(a && durable))
		return 0;
	err = array_flush(m, a, durable, &why);
	if (dirty)
		inval_siblings(m, a->ino, n);
	if (err)
		return why.text[0] ? errors_add(m, n, -err, &why) : err;
	if (dirty && !array_view(m, a, &v)) {
		node_wrote_generation(n, le64_get(v->attr.generation));
		array_view_unref(v);
	}
	return 0;
}

int data_publish(struct mount *m, struct handle *h)
{
	struct array *a = node_array(h->node);
	uint64_t generation;
	int err = a ? array_publish(m, a, &generation) : 0;

	if (err || !a)
		return err;
	if (!h->direct_io)
		node_wrote_generation(h->node, generation);
	inval_published(m, a->ino, h->direct_io ? NULL : h->node);
	return 0;
}

int data_flush(struct mount *m, struct handle *h)
{
	return data_flush_as(m, h->node, false);
}

int data_fsync(struct mount *m, struct handle *h)
{
	return data_flush_as(m, h->node, true);
}

void data_release(struct mount *m, struct handle *h)
{
	data_flush_as(m, h->node, false);
}

/* Reads [offset, offset + size) of the array's bytes to out->buf + before, from one local file without a copy when before is 0. */
int data_read_bytes(struct mount *m, struct node *n, struct array_view *v, size_t size, uint64_t offset, size_t before,
		    struct read_out *out)
{
	const struct grid *g = &v->zarr.grid;
	struct reason why = { "" };
	int err;

	if (before == 0 && size > 0 && g->native &&
	    offset / g->partition_bytes == (offset + size - 1) / g->partition_bytes) {
		err = bytes_read_fd(v->bytes, offset / g->partition_bytes, offset % g->partition_bytes, size, &out->fd,
				    &why);
		if (err != -ENOENT) {
			out->fd_offset = offset % g->partition_bytes;
			out->close_fd = true;
			out->len = size;
			return err ? errors_add(m, n, -err, &why) : 0;
		}
		out->fd = -1;
	}
	err = array_read(v, out->buf + before, size, offset, NULL, &why);
	if (err)
		return errors_add(m, n, -err, &why);
	out->len = before + size;
	return 0;
}

int data_write_bytes(struct mount *m, struct node *n, const char *buf, size_t size, uint64_t offset, bool may_grow)
{
	struct reason why = { "" };
	struct array_view *v;
	struct array *a;
	uint64_t end = offset + size;
	int err = data_view_of(m, n, &a, &v);

	if (err)
		return err;
	if (end > v->data_bytes && !may_grow)
		err = reason_set(&why, EFBIG, "the header says %llu bytes of data; append to `data` instead",
				 (unsigned long long)v->data_bytes);
	else if (end > v->data_bytes && (v->zarr.grid.rank == 0 || v->row_bytes == 0 || !v->zarr.grid.native))
		err = reason_set(&why, EFBIG, "this array cannot be appended to: %s",
				 v->zarr.grid.native ? "its rows have no bytes" : "it is not cut along axis 0 only");
	else if (end > GRID_BYTES_MAX)
		err = reason_set(&why, EFBIG, "an array has at most 2^60 bytes");
	if (!err)
		err = array_write(v, buf, size, offset, &why);
	if (!err && end > v->data_bytes) {
		pthread_mutex_lock(&a->lock);
		a->pending_bytes = MAX(a->pending_bytes, end);
		pthread_mutex_unlock(&a->lock);
	}
	array_view_unref(v);
	return err ? errors_add(m, n, -err, &why) : 0;
}

static int data_resize(struct mount *m, struct node *n, uint64_t size)
{
	struct reason why = { "" };
	struct array *a = node_array(n);
	int err = array_resize_bytes(m, a, size, &why);

	inval_siblings(m, a->ino, n);
	return err && why.text[0] ? errors_add(m, n, -err, &why) : err;
}

static int data_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	(void)h;
	if (change->valid & WIRE_SET_SIZE)
		return data_resize(m, n, change->size);
	return data_set_directory(m, n, change);
}

int data_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel)
{
	struct array_view *v;
	struct array *a;
	int err = h->flags & O_TRUNC ? data_resize(m, n, 0) : 0;

	(void)cancel;
	if (!err)
		err = data_view_of(m, n, &a, &v);
	if (err)
		return err;
	if (!h->direct_io)
		h->keep_cache = node_keeps_cache(n, le64_get(v->attr.generation));
	array_view_unref(v);
	return 0;
}

static int data_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out)
{
	struct array_view *v;
	struct array *a;
	int err = data_view_of(m, h->node, &a, &v);

	if (err)
		return err;
	uint64_t end = array_size(a, v);
	out->len = 0;
	if (offset < end)
		err = data_read_bytes(m, h->node, v, MIN(size, end - offset), offset, 0, out);
	array_view_unref(v);
	return err;
}

static int data_append(struct mount *m, struct handle *h, size_t size, uint64_t *ret)
{
	struct array_view *v;
	struct array *a;
	int err = data_view_of(m, h->node, &a, &v);

	(void)size;
	if (err)
		return err;
	*ret = array_size(a, v);
	array_view_unref(v);
	return 0;
}

static int data_write(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset)
{
	return data_write_bytes(m, h->node, buf, size, offset, true);
}

static int data_whole_fd(struct mount *m, struct node *n, int *ret_fd)
{
	struct reason why = { "" };
	struct array_view *v;
	struct array *a;
	int err = data_view_of(m, n, &a, &v);

	if (err)
		return err;
	const struct grid *g = &v->zarr.grid;
	if (g->native && g->n_partitions == 1 && array_size(a, v) == g->partition_bytes)
		err = bytes_whole_fd(v->bytes, 0, g->partition_bytes, ret_fd, &why);
	else
		err = -ENOENT;
	array_view_unref(v);
	return err;
}

const struct node_ops data_ops = {
	.name = "data",
	.getattr = data_getattr,
	.setattr = data_setattr,
	.open = data_open,
	.read = data_read,
	.write = data_write,
	.append = data_append,
	.publish = data_publish,
	.flush = data_flush,
	.fsync = data_fsync,
	.release = data_release,
	.whole_fd = data_whole_fd,
};
