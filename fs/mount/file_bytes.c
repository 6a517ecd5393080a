/* file_bytes.c - regular files: what is read and written. */
#include "bytes.h"
#include "errors.h"
#include "file_internal.h"
#include "head.h"
#include "inval.h"

#include <stdlib.h>

#define PIECES_MAX 16

/* Pieces of [offset, offset + len) by partition, at most PIECES_MAX. */
static size_t file_cut(const struct file *f, char *buf, size_t len, uint64_t offset, struct segment *segments,
		       size_t *ret_len)
{
	uint64_t each = bytes_layout(f->bytes)->partition_bytes;
	size_t n = 0, done = 0;

	while (done < len && n < PIECES_MAX) {
		struct segment *s = &segments[n++];
		s->partition = (offset + done) / each;
		s->offset = (offset + done) % each;
		s->len = MIN(len - done, each - s->offset);
		s->buf = buf + done;
		done += s->len;
	}
	*ret_len = done;
	return n;
}

int file_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out)
{
	struct file *f = h->node->state;
	struct segment segments[PIECES_MAX];
	struct reason why = { "" };
	size_t got = 0, n;
	int err;
	uint64_t end = file_size(m, h->node, &err);

	if (err)
		return err;
	out->len = offset >= end ? 0 : MIN(size, end - offset);
	n = file_cut(f, out->buf, out->len, offset, segments, &got);
	if (n == 1) {
		err = bytes_read_fd(f->bytes, segments[0].partition, segments[0].offset, segments[0].len, &out->fd,
				    &why);
		out->fd_offset = segments[0].offset;
		out->close_fd = true;
		if (err != -ENOENT)
			return err ? errors_add(m, h->node, -err, &why) : 0;
		out->fd = -1;
	}
	err = n ? bytes_read(f->bytes, segments, n, NULL, &why) : 0;
	/* The kernel takes a short answer for the end of the file. */
	for (size_t done = got; !err && done < out->len; done += got) {
		n = file_cut(f, out->buf + done, out->len - done, offset + done, segments, &got);
		err = bytes_read(f->bytes, segments, n, NULL, &why);
	}
	return err ? errors_add(m, h->node, -err, &why) : 0;
}

/* Under strict the head gives each appended record its place; else it is the end as this mount knows it. */
int file_append(struct mount *m, struct handle *h, size_t size, uint64_t *ret)
{
	struct wire_attr attr;
	uint64_t seq;
	int err;

	if (!m->options.strict) {
		uint64_t end = file_size(m, h->node, &err);
		*ret = err ? *ret : end;
		return err;
	}
	err = head_append(m, h->node->ino, size, &attr, &seq);
	if (err)
		return err;
	file_changed(m, h->node, h->node->state, &attr, seq);
	*ret = le64_get(attr.size) - size;
	return 0;
}

/* What was written is where everyone reads it; now everyone who may have kept what was there before is told.  It is sealed at close. */
int file_publish(struct mount *m, struct handle *h)
{
	struct node *n = h->node;
	struct file *f = n->state;
	struct wire_attr attr;
	uint64_t seq;

	pthread_mutex_lock(&n->lock);
	bool dirty = f->dirty;
	uint64_t size = f->size, write_ns = f->write_ns, before;
	pthread_mutex_unlock(&n->lock);
	if (!dirty)
		return 0;
	int err = head_commit(m, n->ino, size, write_ns, &attr, &seq);
	if (err)
		return err;
	node_set_attr(m, n, &attr, seq);
	if (!h->direct_io)
		node_wrote_generation(n, le64_get(attr.generation));
	before = le64_get(attr.generation) - 1;
	atomic_compare_exchange_strong(&f->generation, &before, before + 1);
	pthread_mutex_lock(&n->lock);
	if (f->write_ns == write_ns && f->size == size)
		f->dirty = false;
	pthread_mutex_unlock(&n->lock);
	if (h->direct_io)
		inval_published(m, n->ino, NULL);
	return 0;
}

void file_change_begin(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	struct file *f = n->state;
	f->size = f->dirty ? f->size : 0;
	f->dirty = true;
	f->write_ns = time_real_ns();
	pthread_mutex_unlock(&n->lock);
}

void file_change_end(struct node *n, uint64_t end)
{
	pthread_mutex_lock(&n->lock);
	struct file *f = n->state;
	f->dirty = true;
	f->size = MAX(f->size, end);
	f->write_ns = time_real_ns();
	pthread_mutex_unlock(&n->lock);
}

int file_write(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset)
{
	struct file *f = h->node->state;
	struct segment segments[PIECES_MAX];
	struct reason why = { "" };
	char *at = (char *)(uintptr_t)buf; /* segments serve both directions; a write only reads it */
	size_t left = size, done;
	int err = 0;

	if (offset + size > INT64_MAX)
		return -EFBIG;
	file_change_begin(h->node);
	for (uint64_t from = offset; left > 0 && !err; from += done, at += done, left -= done) {
		size_t n = file_cut(f, at, left, from, segments, &done);
		err = bytes_write(f->bytes, segments, n, &why);
	}
	if (err)
		return errors_add(m, h->node, -err, &why);
	file_change_end(h->node, offset + size);
	return 0;
}

int file_whole_fd(struct mount *m, struct node *n, int *ret_fd)
{
	struct file *f = n->state;
	struct reason why = { "" };
	int err;
	uint64_t size = f ? file_size(m, n, &err) : 0;

	if (!f || err || size == 0 || size > bytes_layout(f->bytes)->partition_bytes)
		return -ENOENT;
	return bytes_whole_fd(f->bytes, 0, size, ret_fd, &why);
}
