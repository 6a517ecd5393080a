/* array_bytes.c - an array's bytes in C order, whatever its grid; and the shape that follows what was appended or cut off. */
#include "array.h"
#include "head.h"

#include <stdlib.h>

#define RUNS_MAX 64 /* pieces of one read or write that are under way at once */
#define PADDING_PIECE (1u << 20)

/* Cuts [offset, offset + len) of the array's bytes into pieces of partitions.  Offsets need not fall on element borders.  A native
 * array may be written past its end: its partitions go on in a row. */
static size_t cut(const struct array_view *v, char *buf, size_t len, uint64_t offset, struct segment segments[RUNS_MAX],
		  size_t *ret_len)
{
	const struct grid *g = &v->zarr.grid;
	size_t n = 0, done = 0;

	while (done < len && n < RUNS_MAX) {
		struct segment *s = &segments[n++];
		uint64_t at = offset + done, left = len - done;
		if (g->native) {
			s->partition = at / g->partition_bytes;
			s->offset = at % g->partition_bytes;
			s->len = MIN(left, g->partition_bytes - s->offset);
		} else {
			uint64_t skip = at % g->item_bytes;
			struct grid_run run;
			grid_run_at(g, at / g->item_bytes, div_up(left + skip, g->item_bytes), &run);
			s->partition = run.partition;
			s->offset = run.partition_elem * g->item_bytes + skip;
			s->len = MIN(left, run.n_elems * g->item_bytes - skip);
		}
		s->buf = buf + done;
		done += s->len;
	}
	*ret_len = done;
	return n;
}

int array_read(struct array_view *v, char *buf, size_t len, uint64_t offset, struct cancel *cancel, struct reason *why)
{
	struct segment segments[RUNS_MAX];
	size_t done;
	int err = 0;

	while (len > 0 && !err) {
		size_t n = cut(v, buf, len, offset, segments, &done);
		err = bytes_read(v->bytes, segments, n, cancel, why);
		buf += done;
		offset += done;
		len -= done;
	}
	return err;
}

int array_write(struct array_view *v, const char *buf, size_t len, uint64_t offset, struct reason *why)
{
	struct segment segments[RUNS_MAX];
	char *at = (char *)(uintptr_t)buf; /* segments serve both directions; a write only reads it */
	size_t done;
	int err = 0;

	while (len > 0 && !err) {
		size_t n = cut(v, at, len, offset, segments, &done);
		err = bytes_write(v->bytes, segments, n, why);
		at += done;
		offset += done;
		len -= done;
	}
	return err;
}

uint64_t array_size(struct array *a, const struct array_view *v)
{
	pthread_mutex_lock(&a->lock);
	uint64_t size = MAX(v->data_bytes, a->pending_bytes);
	pthread_mutex_unlock(&a->lock);
	return size;
}

bool array_dirty(struct array *a)
{
	pthread_mutex_lock(&a->lock);
	const struct array_view *v = a->now;
	bool dirty = v && (bytes_dirty(v->bytes) || a->pending_bytes > v->data_bytes);
	pthread_mutex_unlock(&a->lock);
	return dirty;
}

/* Once the head has answered for it: an answer that got lost is asked for again with the next flush. */
static void forget_pending(struct mount *m, struct array *a, uint64_t pending)
{
	array_invalidate(m, a->ino);
	pthread_mutex_lock(&a->lock);
	if (a->pending_bytes == pending)
		a->pending_bytes = 0;
	pthread_mutex_unlock(&a->lock);
}

/* The rows that were appended become part of the shape.  A last row that is not whole is refused, and left out. */
static int grow_shape(struct mount *m, struct array *a, const struct array_view *v, struct reason *why)
{
	struct wire_attr attr;
	uint64_t pending, seq;
	int err = 0;

	pthread_mutex_lock(&a->lock);
	pending = a->pending_bytes;
	pthread_mutex_unlock(&a->lock);
	if (pending > v->data_bytes && pending / v->row_bytes > v->zarr.grid.shape[0])
		err = head_resize(m, a->ino, pending / v->row_bytes, true, &attr, &seq);
	if (err != -EIO && err != -ETIMEDOUT)
		forget_pending(m, a, pending);
	if (!err && pending > v->data_bytes && pending % v->row_bytes)
		err = reason_set(why, EINVAL,
				 "the data ends in the middle of a row: %llu bytes of %llu; that row is left out",
				 (unsigned long long)(pending % v->row_bytes), (unsigned long long)v->row_bytes);
	return err;
}

int array_flush(struct mount *m, struct array *a, bool durable, struct reason *why)
{
	struct array_view *v;
	struct wire_attr attr;
	uint64_t seq;
	bool dirty, grows;
	int err = array_view(m, a, &v), grown = 0;

	if (err)
		return err;
	dirty = bytes_dirty(v->bytes);
	grows = array_size(a, v) > v->data_bytes;
	if (dirty || durable)
		err = bytes_seal(v->bytes, durable, why);
	if (!err && grows)
		grown = grow_shape(m, a, v, why);
	if (!err && dirty)
		err = head_commit(m, a->ino, 0, 0, &attr, &seq);
	if (err && dirty)
		bytes_uncommitted(v->bytes);
	if (!err && durable)
		err = head_metasync(m);
	if (dirty || grows)
		array_invalidate(m, a->ino);
	array_view_unref(v);
	return err ? err : grown;
}

int array_publish(struct mount *m, struct array *a, uint64_t *ret_generation)
{
	struct array_view *v;
	struct wire_attr attr;
	uint64_t pending, seq;
	int err = array_view(m, a, &v);

	if (err)
		return err;
	pthread_mutex_lock(&a->lock);
	pending = a->pending_bytes;
	pthread_mutex_unlock(&a->lock);
	if (pending > v->data_bytes && pending / v->row_bytes > v->zarr.grid.shape[0])
		err = head_resize(m, a->ino, pending / v->row_bytes, true, &attr, &seq);
	if (!err && pending > v->data_bytes && pending % v->row_bytes == 0)
		forget_pending(m, a, pending);
	if (!err)
		err = head_commit(m, a->ino, 0, 0, &attr, &seq);
	array_invalidate(m, a->ino);
	array_view_unref(v);
	if (!err)
		*ret_generation = le64_get(attr.generation);
	return err;
}

/* Fills what is beyond `rows` in the last partition of a native array, so that growing again shows fill and not what was cut off. */
static int fill_padding(const struct array_view *v, uint64_t rows, struct reason *why)
{
	const struct grid *g = &v->zarr.grid;
	uint64_t from = rows % g->chunk[0] * v->row_bytes, partition = rows / g->chunk[0];
	size_t item = g->item_bytes, piece = PADDING_PIECE / item * item;
	struct wire_part_info info;
	AUTO_FREE char *buf = malloc(piece);
	int err = buf ? 0 : -ENOMEM;

	if (!err)
		err = bytes_stat(v->bytes, partition, &info, why);
	if (err)
		return err == -ENOENT ? 0 : err;
	for (size_t i = 0; i < piece; i += item)
		memcpy(buf + i, v->zarr.fill_stored.bytes, item);
	while (from < g->partition_bytes && !err) {
		struct segment s = { partition, from, MIN(piece, g->partition_bytes - from), buf };
		err = bytes_write(v->bytes, &s, 1, why);
		from += s.len;
	}
	return err ? err : bytes_seal(v->bytes, true, why);
}

/* Takes rows away from the stores, before the head makes the array shorter: a crash between leaves fill, never old data. */
static int cut_rows(const struct array_view *v, uint64_t rows, struct reason *why)
{
	const struct grid *g = &v->zarr.grid;
	uint64_t per_row = g->counts[0] ? g->n_partitions / g->counts[0] : 0;
	int err = bytes_drop(v->bytes, div_up(rows, g->chunk[0]) * per_row, UINT64_MAX, why);

	if (!err && g->native && rows % g->chunk[0])
		err = fill_padding(v, rows, why);
	return err;
}

int array_resize_bytes(struct mount *m, struct array *a, uint64_t data_bytes, struct reason *why)
{
	struct array_view *v;
	struct wire_attr attr;
	uint64_t seq, rows;
	int err = array_flush(m, a, false, why);

	if (!err)
		err = array_view(m, a, &v);
	if (err)
		return err;
	rows = v->row_bytes ? data_bytes / v->row_bytes : 0;
	if (data_bytes == v->data_bytes)
		err = 0;
	else if (v->zarr.grid.rank == 0 || v->row_bytes == 0 || data_bytes % v->row_bytes)
		err = reason_set(why, EINVAL, "%llu bytes are not a whole number of rows of %llu bytes",
				 (unsigned long long)data_bytes, (unsigned long long)v->row_bytes);
	else if (data_bytes < v->data_bytes)
		err = cut_rows(v, rows, why);
	if (!err && data_bytes != v->data_bytes)
		err = head_resize(m, a->ino, rows, false, &attr, &seq);
	array_view_unref(v);
	array_invalidate(m, a->ino);
	return err;
}
