/* WIRE_REDUCE: the partial state of a reduction over the partitions that this node holds.
 *
 *   partitions -> units (about COMPUTE_UNIT_BYTES of valid elements) -> one state for each worker -> merged -> encoded
 *
 * Each unit is opened, verified and read by itself, so that one large partition uses all cores and a hundred thousand
 * small ones never need more descriptors than there are workers.  Large units are read where they are, in a mapping that turns a fault into
 * an error and that lasts for a while; small ones with pread into a buffer that stays in the second-level cache.  Memory: workers x
 * (buffer + state), and the page tables of what is mapped.
 */
#include "daemon.h"
#include "grid.h"
#include "io.h"
#include "mapcache.h"
#include "question.h"
#include "server.h"
#include "store.h"
#include "zarr.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define COMPUTE_UNIT_BYTES (UINT64_C(4) << 20)
#define COMPUTE_BUFFER_BYTES (UINT64_C(256) << 10)
#define COMPUTE_MAP_BYTES (UINT64_C(256) << 10) /* units from here on are mapped: below, copying is cheaper */
#define COMPUTE_GAP_BYTES 65536                 /* padding between runs up to here is read along */

struct unit {
	uint64_t partition;
	uint64_t run, n_runs;   /* numbers of grid_partition_next_run */
	uint64_t skip, n_elems; /* of a single run that is longer than a unit */
	bool first;             /* of its partition */
};

struct reduction {
	struct daemon *d;
	struct request *r;
	struct zarr z;
	struct reduce_spec spec;
	uint64_t object, stride;

	pthread_mutex_t lock;           /* guards all below */
	uint64_t partition;             /* the next unit's */
	uint64_t at, n_runs, run_elems; /* runs of that partition; `at` in elements */
	bool fresh;                     /* its first unit is next */
	bool done;
	int err;
	struct reason why;
	struct reduce_state *state;
	uint64_t bytes_read, partitions;
};

struct worker {
	struct reduction *x;
	struct reduce_state *state;
	uint8_t *buf;
	uint64_t bytes_read, partitions;
};

/* ---- units ---- */

static void enter_partition_locked(struct reduction *x, uint64_t partition)
{
	struct grid_run run;
	uint64_t pos = 0;

	x->partition = partition;
	x->at = 0;
	x->fresh = true;
	x->done = partition >= x->z.grid.n_partitions || !grid_partition_next_run(&x->z.grid, partition, &pos, &run);
	if (x->done)
		return;
	x->run_elems = run.n_elems; /* the same for all runs of a partition */
	x->n_runs = grid_partition_valid_elems(&x->z.grid, partition) / run.n_elems;
}

static bool claim_locked(struct reduction *x, struct unit *ret)
{
	uint64_t unit_elems = COMPUTE_UNIT_BYTES / x->z.grid.item_bytes, run = x->at / x->run_elems, next;

	if (x->done || x->err)
		return false;
	*ret = (struct unit){ .partition = x->partition, .run = run, .n_runs = 1, .first = x->fresh };
	x->fresh = false;
	if (x->run_elems > unit_elems) {
		ret->skip = x->at % x->run_elems;
		ret->n_elems = MIN(unit_elems, x->run_elems - ret->skip);
		x->at += ret->n_elems;
	} else {
		ret->n_runs = MIN(unit_elems / x->run_elems, x->n_runs - run);
		ret->n_elems = x->run_elems;
		x->at += ret->n_runs * x->run_elems;
	}
	if (x->at == x->n_runs * x->run_elems) {
		if (add_overflows(x->partition, x->stride, &next))
			x->done = true;
		else
			enter_partition_locked(x, next);
	}
	return true;
}

static bool claim(struct reduction *x, struct unit *ret)
{
	if (request_cancelled(x->r)) {
		pthread_mutex_lock(&x->lock);
		x->err = x->err ? x->err : -ECANCELED;
		pthread_mutex_unlock(&x->lock);
	}
	pthread_mutex_lock(&x->lock);
	bool claimed = claim_locked(x, ret);
	pthread_mutex_unlock(&x->lock);
	return claimed;
}

/* The i-th run of a unit, less what belongs to others. */
static void unit_run(const struct reduction *x, const struct unit *u, uint64_t i, struct grid_run *ret)
{
	uint64_t pos = u->run + i;

	grid_partition_next_run(&x->z.grid, u->partition, &pos, ret);
	ret->partition_elem += u->skip;
	ret->elem += u->skip;
	ret->n_elems = u->n_elems;
}

/* ---- feeding ---- */

static void feed_hole(struct worker *w, const struct unit *u)
{
	const struct reduction *x = w->x;
	struct grid_run run;

	for (uint64_t i = 0; i < u->n_runs; i++) {
		unit_run(x, u, i, &run);
		reduce_repeat(&x->spec, w->state, &x->z.fill, run.n_elems, run.elem);
	}
}

/* A window of the file in the worker's buffer. */
struct window {
	uint64_t offset, len;
};

/* Sees to it that [offset, offset + len) is in the window, which may reach on to `end`. */
static int load(struct worker *w, int fd, struct window *win, uint64_t offset, uint64_t len, uint64_t end)
{
	size_t got;
	int err;

	if (offset >= win->offset && offset + len <= win->offset + win->len)
		return 0;
	err = io_pread(fd, w->buf, MIN(end - offset, COMPUTE_BUFFER_BYTES), offset, &got);
	if (err || got < len)
		return err ? err : -ENODATA;
	*win = (struct window){ offset, got };
	return 0;
}

static int feed_run(struct worker *w, int fd, struct window *win, const struct grid_run *run, uint64_t end)
{
	const struct reduction *x = w->x;
	uint64_t item = x->z.grid.item_bytes, piece = COMPUTE_BUFFER_BYTES / item;

	for (uint64_t done = 0; done < run->n_elems; done += piece) {
		uint64_t n = MIN(piece, run->n_elems - done), offset = (run->partition_elem + done) * item;
		int err = load(w, fd, win, offset, n * item, end);
		if (err)
			return err;
		reduce_update(&x->spec, w->state, w->buf + (offset - win->offset), n, run->elem + done);
	}
	return 0;
}

static int feed_file(struct worker *w, const struct unit *u, int fd, uint64_t end)
{
	uint64_t item = w->x->z.grid.item_bytes;
	struct window win = { 0, 0 };
	struct grid_run run, next;
	int err = 0;

	unit_run(w->x, u, 0, &next);
	for (uint64_t i = 0; i < u->n_runs && !err; i++) {
		run = next;
		uint64_t run_end = (run.partition_elem + run.n_elems) * item, reach = end;
		if (i + 1 < u->n_runs) {
			unit_run(w->x, u, i + 1, &next);
			if (next.partition_elem * item - run_end > COMPUTE_GAP_BYTES)
				reach = run_end;
		}
		err = feed_run(w, fd, &win, &run, reach);
	}
	return err;
}

struct mapped_unit {
	struct worker *w;
	const struct unit *u;
	const struct mapping *mapping;
};

static void feed_mapped_runs(void *arg)
{
	const struct mapped_unit *mu = arg;
	const struct reduction *x = mu->w->x;
	struct grid_run run;

	for (uint64_t i = 0; i < mu->u->n_runs; i++) {
		unit_run(x, mu->u, i, &run);
		reduce_update(&x->spec, mu->w->state, mu->mapping->base + run.partition_elem * x->z.grid.item_bytes,
			      run.n_elems, run.elem);
	}
}

static int feed_mapped(struct worker *w, const struct unit *u, int fd)
{
	struct mapcache *cache = w->x->d->mapcache;
	struct mapped_unit mu = { .w = w, .u = u };
	int err = mapcache_get(cache, fd, &mu.mapping);

	if (err)
		return err;
	err = mapping_read(mu.mapping, feed_mapped_runs, &mu);
	mapcache_put(cache, mu.mapping);
	return err;
}

static int run_unit(struct worker *w, const struct unit *u, struct reason *why)
{
	struct reduction *x = w->x;
	struct part_id id = { x->object, u->partition };
	size_t item = x->z.grid.item_bytes;
	struct grid_run first, last;
	struct part_file file;
	int err;

	unit_run(x, u, 0, &first);
	unit_run(x, u, u->n_runs - 1, &last);
	uint64_t from = first.partition_elem * item, end = (last.partition_elem + last.n_elems) * item;
	err = store_read_fd(x->d->store, id, from, end - from, &file, why);
	if (err == -ENOENT) {
		feed_hole(w, u);
		return 0;
	}
	if (err)
		return err;
	if (file.bytes < end)
		err = -ENODATA;
	else
		err = end - from >= COMPUTE_MAP_BYTES ? feed_mapped(w, u, file.fd) : feed_file(w, u, file.fd, end);
	close(file.fd);
	w->bytes_read += end - from;
	w->partitions += u->first;
	if (err == -ENODATA)
		return reason_set(why, EIO, "object %" PRIu64 " partition %" PRIu64 ": shorter than the array's chunk",
				  id.object, id.index);
	if (err)
		return reason_set(why, -err, "object %" PRIu64 " partition %" PRIu64 ": read: %s", id.object, id.index,
				  strerror(-err));
	return 0;
}

/* ---- workers ---- */

static void fail(struct reduction *x, int err, const struct reason *why)
{
	pthread_mutex_lock(&x->lock);
	if (!x->err) {
		x->err = err;
		x->why = *why;
	}
	pthread_mutex_unlock(&x->lock);
}

static void hand_in(struct reduction *x, struct worker *w)
{
	pthread_mutex_lock(&x->lock);
	reduce_merge(&x->spec, x->state, w->state);
	x->bytes_read += w->bytes_read;
	x->partitions += w->partitions;
	pthread_mutex_unlock(&x->lock);
}

static void work(void *arg, size_t i)
{
	struct reduction *x = arg;
	struct worker w = { .x = x, .buf = malloc(COMPUTE_BUFFER_BYTES) };
	struct reason why = { "" };
	struct unit u;
	int err = w.buf ? reduce_state_new(&x->spec, &w.state) : -ENOMEM;

	(void)i;
	while (!err && claim(x, &u))
		err = run_unit(&w, &u, &why);
	if (err)
		fail(x, err, &why);
	else
		hand_in(x, &w);
	reduce_state_free(w.state);
	free(w.buf);
}

/* ---- the message ---- */

static int parse(struct reduction *x, const struct wire_reduce *w, struct reason *why)
{
	const struct request *r = x->r;
	uint64_t question_bytes = le32_get(w->question_bytes), doc_bytes = le32_get(w->doc_bytes);
	char name[QUESTION_MAX + 1];
	struct question q;
	enum zarr_node node;
	int err;

	if (question_bytes > QUESTION_MAX || question_bytes + doc_bytes != r->payload_bytes)
		return reason_set(why, EINVAL, "a question of %" PRIu64 " and a document of %" PRIu64 " in %zu bytes",
				  question_bytes, doc_bytes, r->payload_bytes);
	if (le64_get(w->part.object) == 0 || le32_get(w->part.flags) || le64_get(w->stride) == 0)
		return reason_set(why, EINVAL, "object, flags or stride are not valid");
	if (le32_get(w->part.epoch) != WIRE_EPOCH)
		return reason_set(why, ESTALE, "placement epoch %u; it is %d here", le32_get(w->part.epoch),
				  WIRE_EPOCH);
	err = zarr_parse((const char *)r->payload + question_bytes, doc_bytes, &node, &x->z, why);
	if (!err && node != ZARR_ARRAY)
		err = reason_set(why, EINVAL, "the document is not an array's");
	if (err)
		return err;
	memcpy(name, r->payload, question_bytes);
	name[question_bytes] = '\0';
	if (strlen(name) != question_bytes)
		return reason_set(why, EINVAL, "the question holds a NUL");
	err = question_parse(name, x->z.dtype, &q, why);
	if (err)
		return err;
	x->spec = (struct reduce_spec){
		.op = q.op,
		.dtype = x->z.dtype,
		.swap = x->z.big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) && dtype_bytes(x->z.dtype) > 1,
		.params = q.params,
	};
	x->object = le64_get(w->part.object);
	x->stride = le64_get(w->stride);
	return 0;
}

static int answer(struct reduction *x)
{
	struct wire_reduce_reply body = { le64_of(x->bytes_read), le64_of(x->partitions) };
	AUTO_FREE void *state = NULL;
	size_t len;
	int err = reduce_encode(&x->spec, x->state, &state, &len);

	if (!err)
		request_reply(x->r, &body, state, len);
	return err;
}

static int handle_reduce(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_reduce *w = r->body;
	AUTO_FREE struct reduction *x = calloc(1, sizeof(*x));
	int err;

	if (!x)
		return -ENOMEM;
	x->d = d;
	x->r = r;
	err = parse(x, w, why);
	if (!err)
		err = reduce_state_new(&x->spec, &x->state);
	if (err)
		return err;
	pthread_mutex_init(&x->lock, NULL);
	x->run_elems = 1;
	enter_partition_locked(x, le64_get(w->first));
	pool_each(d->cores, pool_threads(d->cores), work, x);
	err = x->err;
	if (err && x->why.text[0])
		reason_set(why, -err, "%s", x->why.text);
	if (!err)
		err = answer(x);
	reduce_state_free(x->state);
	pthread_mutex_destroy(&x->lock);
	return err;
}

static const struct handler compute_handlers[] = {
	{ WIRE_REDUCE, true, handle_reduce },
	{ 0, false, NULL },
};

const struct module compute_module = { "compute", compute_handlers, NULL, NULL, NULL };
