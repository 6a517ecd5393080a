/* chunk_file.c - one partition as a file: exactly the bytes of the Zarr chunk, always of the partition's full size once it exists. */
#include "array.h"
#include "chunk.h"
#include "errors.h"
#include "file.h"
#include "head.h"
#include "inval.h"

#include <fcntl.h>
#include <stdlib.h>

#define COPY_BYTES (1u << 20)

/* node.state of a chunk file that was made or cut to nothing, until it is flushed: its size is what was written. */
struct fresh {
	uint64_t end;
};

static bool fresh_end(struct node *n, uint64_t *ret)
{
	pthread_mutex_lock(&n->lock);
	struct fresh *f = n->state;
	if (f)
		*ret = f->end;
	pthread_mutex_unlock(&n->lock);
	return f != NULL;
}

int chunk_start_fresh(struct node *n)
{
	struct fresh *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	pthread_mutex_lock(&n->lock);
	free(n->state);
	n->state = f;
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static void stop_fresh(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	struct fresh *f = n->state;
	n->state = NULL;
	pthread_mutex_unlock(&n->lock);
	free(f);
}

static int chunk_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	struct wire_part_info info;
	struct reason why = { "" };
	struct array_view *v;
	uint64_t size;
	int err = array_view(m, n->array, &v);

	if (err)
		return err;
	if (!fresh_end(n, &size)) {
		err = bytes_stat(v->bytes, n->index, &info, &why);
		size = err ? 0 : le64_get(info.file_bytes);
		if (!err && !size &&
		    !le64_get(info.version)) /* lost without a trace: reads are to fail, not to find its end */
			size = v->zarr.grid.partition_bytes;
	}
	if (!err)
		node_view_stat(n, &v->attr, S_IFREG, 0666, size, ret);
	array_view_unref(v);
	return err && err != -ENOENT ? errors_add(m, n, -err, &why) : err;
}

static int chunk_clear(struct mount *m, struct node *n)
{
	struct reason why = { "" };
	struct array_view *v;
	int err = array_view(m, n->array, &v);

	if (err)
		return err;
	err = bytes_drop(v->bytes, n->index, 1, &why);
	array_view_unref(v);
	return err ? errors_add(m, n, -err, &why) : chunk_start_fresh(n);
}

static int chunk_resize(struct mount *m, struct node *n, uint64_t size)
{
	struct array_view *v;
	int err = array_view(m, n->array, &v);

	if (err)
		return err;
	uint64_t full = v->zarr.grid.partition_bytes;
	array_view_unref(v);
	if (size == full)
		return 0;
	if (size == 0)
		return chunk_clear(m, n);
	return errors_add(m, n, EINVAL, &(struct reason){ "a partition file has its full size or none" });
}

static int chunk_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	(void)h;
	return change->valid & WIRE_SET_SIZE ? chunk_resize(m, n, change->size) : 0;
}

static int chunk_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel)
{
	struct array_view *v;
	int err = h->flags & O_TRUNC ? chunk_clear(m, n) : 0;

	(void)cancel;
	if (!err)
		err = array_view(m, n->array, &v);
	if (err)
		return err;
	if (!h->direct_io)
		h->keep_cache = node_keeps_cache(n, le64_get(v->attr.generation));
	array_view_unref(v);
	return 0;
}

static int chunk_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out)
{
	struct node *n = h->node;
	struct reason why = { "" };
	struct array_view *v;
	uint64_t end;
	int err = array_view(m, n->array, &v);

	if (err)
		return err;
	end = v->zarr.grid.partition_bytes;
	fresh_end(n, &end);
	out->len = offset >= end ? 0 : MIN(size, end - offset);
	if (out->len > 0) {
		struct segment s = { n->index, offset, out->len, out->buf };
		err = bytes_read_fd(v->bytes, n->index, offset, out->len, &out->fd, &why);
		out->fd_offset = offset;
		out->close_fd = true;
		if (err == -ENOENT) {
			out->fd = -1;
			err = bytes_read(v->bytes, &s, 1, NULL, &why);
		}
	}
	array_view_unref(v);
	return err ? errors_add(m, n, -err, &why) : 0;
}

static int chunk_whole_fd(struct mount *m, struct node *n, int *ret_fd)
{
	struct reason why = { "" };
	struct array_view *v;
	uint64_t end;
	int err = fresh_end(n, &end) ? -ENOENT : array_view(m, n->array, &v);

	if (err)
		return err;
	err = bytes_whole_fd(v->bytes, n->index, v->zarr.grid.partition_bytes, ret_fd, &why);
	array_view_unref(v);
	return err;
}

static int chunk_write(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset)
{
	struct node *n = h->node;
	struct reason why = { "" };
	struct array_view *v;
	char *at = (char *)(uintptr_t)buf; /* segments serve both directions; a write only reads it */
	struct segment s = { n->index, offset, size, at };
	int err = array_view(m, n->array, &v);

	if (err)
		return err;
	uint64_t full = v->zarr.grid.partition_bytes;
	if (offset > full || size > full - offset)
		err = reason_set(&why, EFBIG, "a partition of this array has %llu bytes", (unsigned long long)full);
	if (!err)
		err = bytes_write(v->bytes, &s, 1, &why);
	array_view_unref(v);
	if (err)
		return errors_add(m, n, -err, &why);
	pthread_mutex_lock(&n->lock);
	struct fresh *f = n->state;
	if (f)
		f->end = MAX(f->end, offset + size);
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static int chunk_publish(struct mount *m, struct handle *h)
{
	struct node *n = h->node;
	uint64_t generation;
	int err = array_publish(m, n->array, &generation);

	if (err)
		return err;
	if (!h->direct_io)
		node_wrote_generation(n, generation);
	inval_published(m, n->array->ino, h->direct_io ? NULL : n);
	return 0;
}

static int flush_as(struct mount *m, struct node *n, bool durable)
{
	struct reason why = { "" };
	struct array_view *v;
	uint64_t end;
	bool dirty;
	int err = array_view(m, n->array, &v);

	if (err)
		return err;
	dirty = bytes_dirty(v->bytes) || fresh_end(n, &end);
	array_view_unref(v);
	if (dirty || durable)
		err = array_flush(m, n->array, durable, &why);
	if (err)
		return why.text[0] ? errors_add(m, n, -err, &why) : err;
	if (dirty)
		inval_siblings(m, n->array->ino, n);
	return 0;
}

static int chunk_flush(struct mount *m, struct handle *h)
{
	return flush_as(m, h->node, false);
}

static int chunk_fsync(struct mount *m, struct handle *h)
{
	return flush_as(m, h->node, true);
}

static void chunk_release(struct mount *m, struct handle *h)
{
	flush_as(m, h->node, false);
	stop_fresh(h->node);
}

static void chunk_free(struct node *n)
{
	free(n->state);
}

const struct node_ops chunk_ops = {
	.name = "chunk",
	.getattr = chunk_getattr,
	.setattr = chunk_setattr,
	.open = chunk_open,
	.read = chunk_read,
	.write = chunk_write,
	.publish = chunk_publish,
	.flush = chunk_flush,
	.fsync = chunk_fsync,
	.release = chunk_release,
	.whole_fd = chunk_whole_fd,
	.free = chunk_free,
};

/* ---- a file becomes a partition ---- */

/* Where the file's bytes are when they lie in one partition on the node that owns `to`: then the node renames, and no byte moves. */
static bool can_adopt(struct mount *m, struct node *from, const struct array_view *v, uint64_t to, uint64_t *ret_object)
{
	struct wire_open_reply reply;
	AUTO_FREE char *payload = NULL;
	struct layout layout;
	uint64_t seq;
	size_t len;
	bool can = false;

	if (head_open(m, from->ino, &reply, &payload, &len, &seq))
		return false;
	if (!head_layout(&reply.layout, payload, len, &layout)) {
		can = le64_get(reply.attr.size) <= layout.partition_bytes &&
		      layout_owner(&layout, 0) == layout_owner(bytes_layout(v->bytes), to);
		*ret_object = layout.object;
	}
	head_close(m, from->ino);
	return can;
}

static int copy_in(struct mount *m, struct node *from, const struct array_view *v, uint64_t to, struct reason *why)
{
	AUTO_FREE char *buf = malloc(COPY_BYTES);
	uint64_t offset = 0;
	int err = buf ? 0 : -ENOMEM;

	while (!err && offset < v->zarr.grid.partition_bytes) {
		size_t got;
		err = file_read_at(m, from, buf, COPY_BYTES, offset, &got);
		if (!err && got == 0)
			err = -EIO;
		struct segment s = { to, offset, got, buf };
		if (!err)
			err = bytes_write(v->bytes, &s, 1, why);
		offset += got;
	}
	return err ? err : bytes_seal(v->bytes, false, why);
}

static int check_size(struct mount *m, struct node *from, uint64_t want, struct reason *why)
{
	struct stat st;
	int err = from->ops->getattr(m, from, &st);

	if (!err && (uint64_t)st.st_size != want)
		err = reason_set(why, EINVAL, "the file has %lld bytes, a partition of this array has %llu",
				 (long long)st.st_size, (unsigned long long)want);
	return err;
}

int chunk_take_file(struct mount *m, struct node *from, struct node *chunk_dir, uint64_t to, bool link)
{
	struct array *a = chunk_dir->array;
	struct reason why = { "" };
	struct wire_attr attr;
	struct array_view *v;
	uint64_t object, seq;
	int err = from->kind == NODE_FILE ? file_settle(m, from) : -EXDEV;

	if (!err)
		err = array_view(m, a, &v);
	if (err)
		return err;
	err = check_size(m, from, v->zarr.grid.partition_bytes, &why);
	if (!err)
		err = can_adopt(m, from, v, to, &object) ? bytes_adopt(v->bytes, to, object, 0, link, &why)
							 : copy_in(m, from, v, to, &why);
	bytes_refresh(v->bytes);
	array_view_unref(v);
	if (err)
		return why.text[0] ? errors_add(m, chunk_dir, -err, &why) : err;
	err = head_commit(m, a->ino, 0, 0, &attr, &seq);
	array_invalidate(m, a->ino);
	inval_siblings(m, a->ino, NULL);
	return err;
}
