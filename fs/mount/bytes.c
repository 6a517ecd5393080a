#include "bytes_internal.h"
#include "log.h"

#include <stdio.h>

#define PIECE_BYTES (1u << 20) /* of one request for data */
#define PIECES_MAX 16          /* requests of one call that are in flight */

/* ---- the object ---- */

uint32_t layout_owner(const struct layout *l, uint64_t partition)
{
	return l->nodes[partition % l->n_nodes];
}

int bytes_new(struct mount *m, const struct layout *layout, struct bytes **ret)
{
	struct bytes *b;

	if (layout->n_nodes == 0 || layout->n_nodes > SLAB_NODES_MAX ||
	    le32_get(layout->alloc.fill_bytes) > sizeof(layout->alloc.fill))
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->changed_on = calloc(layout->n_nodes, sizeof(*b->changed_on));
	if (!b->changed_on) {
		free(b);
		return -ENOMEM;
	}
	b->m = m;
	b->layout = *layout;
	map_init(&b->parts);
	pthread_mutex_init(&b->lock, NULL);
	*ret = b;
	return 0;
}

void bytes_free(struct bytes *b)
{
	struct reason why = { "" };

	if (!b)
		return;
	if (b->n_dirty > 0 && bytes_seal(b, false, &why))
		log_warn("object %llu: %s", (unsigned long long)b->layout.object, why.text);
	part_free_all(b);
	pthread_mutex_destroy(&b->lock);
	free(b->changed_on);
	free(b);
}

const struct layout *bytes_layout(const struct bytes *b)
{
	return &b->layout;
}

bool bytes_dirty(struct bytes *b)
{
	return atomic_load(&b->written);
}

size_t bytes_known(struct bytes *b)
{
	pthread_mutex_lock(&b->lock);
	size_t n = map_count(&b->parts);
	pthread_mutex_unlock(&b->lock);
	return n;
}

void bytes_uncommitted(struct bytes *b)
{
	atomic_store(&b->written, true);
}

void bytes_fill(const struct layout *l, char *buf, size_t len, uint64_t offset)
{
	size_t n = le32_get(l->alloc.fill_bytes), done;

	if (n == 0) {
		memset(buf, 0, len);
		return;
	}
	done = MIN(n, len);
	for (size_t i = 0; i < done; i++)
		buf[i] = (char)l->alloc.fill[(offset + i) % n];
	for (size_t more; done < len; done += more) {
		more = MIN(done, len - done);
		memcpy(buf + done, buf, more);
	}
}

/* ---- requests about one partition ---- */

struct wire_part bytes_part_id(const struct bytes *b, uint64_t partition, uint32_t flags)
{
	return (struct wire_part){ .object = le64_of(b->layout.object),
				   .index = le64_of(partition),
				   .epoch = le32_of(b->layout.epoch),
				   .flags = le32_of(flags) };
}

int bytes_why(uint64_t partition, const struct fan_call *failed, int err, struct reason *why)
{
	return reason_set(why, -err, "partition %llu on %.*s", (unsigned long long)partition,
			  (int)sizeof(why->text) - 40, failed->call.why.text);
}

int bytes_call(struct bytes *b, uint64_t partition, struct fan_call *call, struct cancel *cancel, struct reason *why)
{
	struct reason cause = { "" };
	int err = fan_to(b->m, layout_owner(&b->layout, partition), call, &cause);

	if (err)
		return reason_set(why, -err, "partition %llu on %.250s", (unsigned long long)partition, cause.text);
	err = fan_run(b->m, call, 1, true, cancel, NULL);
	return err ? bytes_why(partition, call, err, why) : 0;
}

/* ---- pieces: one request for data each; segments that follow each other in a partition share one ---- */

struct piece {
	const struct segment *const *segments; /* of the sorted list */
	size_t n_segments;
	size_t skip; /* of the first segment's bytes: a long segment is cut */
	uint64_t partition, offset;
	size_t len;
	char *buf;    /* of the only segment, or `bounce` */
	char *bounce; /* malloc'ed, or NULL */
	struct part *part;
	union {
		struct wire_part_read read;
		struct wire_part_write write;
	} body;
	struct wire_part_read_reply reply;
};

static int by_place(const void *a, const void *b)
{
	const struct segment *x = *(const struct segment *const *)a, *y = *(const struct segment *const *)b;

	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The next piece from the sorted list; *at and *skip say where in it, and move on. */
static void cut_piece(const struct segment *const *sorted, size_t n, size_t *at, size_t *skip, struct piece *ret)
{
	const struct segment *s = sorted[*at];

	*ret = (struct piece){ .segments = &sorted[*at],
			       .n_segments = 1,
			       .skip = *skip,
			       .partition = s->partition,
			       .offset = s->offset + *skip,
			       .len = MIN(s->len - *skip, PIECE_BYTES),
			       .buf = s->buf + *skip };
	*skip += ret->len;
	if (*skip < s->len)
		return;
	*skip = 0;
	for (++*at; *at < n; ++*at, ret->n_segments++) {
		s = sorted[*at];
		if (s->partition != ret->partition || s->offset != ret->offset + ret->len ||
		    s->len > PIECE_BYTES - ret->len)
			break;
		ret->len += s->len;
	}
}

/* Copies between the bounce buffer and the segments. */
static void copy_piece(const struct piece *p, bool to_segments)
{
	size_t done = 0;

	for (size_t i = 0; i < p->n_segments; i++) {
		size_t skip = i == 0 ? p->skip : 0, len = MIN(p->segments[i]->len - skip, p->len - done);
		if (to_segments)
			memcpy(p->segments[i]->buf + skip, p->bounce + done, len);
		else
			memcpy(p->bounce + done, p->segments[i]->buf + skip, len);
		done += len;
	}
}

static int prepare(struct bytes *b, struct piece *p, bool write, struct fan_call *c, struct reason *why)
{
	if (p->n_segments > 1) {
		p->buf = p->bounce = malloc(p->len);
		if (!p->buf)
			return -ENOMEM;
	}
	if (write && p->bounce)
		copy_piece(p, false);
	*c = (struct fan_call){ .retry = true };
	if (write) {
		p->body.write = (struct wire_part_write){ .part = bytes_part_id(b, p->partition, 0),
							  .alloc = b->layout.alloc,
							  .offset = le64_of(p->offset) };
		c->call = (struct call){ .type = WIRE_PART_WRITE,
					 .body = &p->body.write,
					 .body_bytes = sizeof(p->body.write),
					 .payload = { p->buf },
					 .payload_bytes = { p->len } };
	} else {
		p->body.read = (struct wire_part_read){ .part = bytes_part_id(b, p->partition, 0),
							.offset = le64_of(p->offset),
							.length = le32_of((uint32_t)p->len) };
		c->call = (struct call){ .type = WIRE_PART_READ,
					 .body = &p->body.read,
					 .body_bytes = sizeof(p->body.read),
					 .reply_body = &p->reply,
					 .reply_payload = p->buf,
					 .reply_cap = p->len };
	}
	return fan_to(b->m, layout_owner(&b->layout, p->partition), c, why);
}

static void finish_read(struct bytes *b, const struct piece *p, const struct fan_call *c)
{
	size_t got = c->call.reply_bytes;

	if (le32_get(p->reply.flags) & WIRE_READ_HOLE)
		bytes_fill(&b->layout, p->buf, p->len, p->offset);
	else if (got < p->len)
		memset(p->buf + got, 0, p->len - got);
	if (p->bounce)
		copy_piece(p, true);
}

/* ---- reads and writes ---- */

struct transfer {
	struct bytes *b;
	bool write;
	struct cancel *cancel;
	struct reason *why;
	struct client *local; /* the local node's, or NULL */
	uint32_t local_id;
	struct piece *pieces;
	struct fan_call *calls;
	size_t n;
};

static bool is_local(const struct transfer *t, uint64_t partition)
{
	return t->local && layout_owner(&t->b->layout, partition) == t->local_id;
}

void bytes_local(struct bytes *b, struct client **ret, uint32_t *ret_id)
{
	struct client *c;

	*ret = NULL;
	*ret_id = cluster_local_id(b->m->cluster);
	if (*ret_id && !cluster_node(b->m->cluster, *ret_id, &c, NULL) && client_is_local(c))
		*ret = c;
}

static void release_piece(struct bytes *b, struct piece *p)
{
	part_put(b, p->part);
	free(p->bounce);
}

static int run_pieces(struct transfer *t)
{
	struct bytes *b = t->b;
	size_t failed = 0;
	int err = t->n ? fan_run(b->m, t->calls, t->n, true, t->cancel, &failed) : 0;

	if (err)
		bytes_why(t->pieces[failed].partition, &t->calls[failed], err, t->why);
	for (size_t i = 0; i < t->n; i++) {
		struct piece *p = &t->pieces[i];
		if (!t->write && !t->calls[i].err && !err)
			finish_read(b, p, &t->calls[i]);
		if (p->part)
			part_mark_dirty(b, p->part);
		release_piece(b, p);
	}
	t->n = 0;
	return err;
}

/* What a machine held when it stopped without notice may be lost: the seal asks whether it is still the same. */
static int note_remote(struct transfer *t, struct piece *p, struct fan_call *c)
{
	struct wire_hello_reply hello;
	struct reason cause = { "" };
	int err;

	p->part = part_get(t->b, p->partition);
	if (!p->part)
		return -ENOMEM;
	if (atomic_load(&p->part->dirty))
		return 0;
	err = fan_hello(t->b->m, c, &hello, &cause);
	if (err)
		return reason_set(t->why, -err, "partition %llu on %.250s", (unsigned long long)p->partition,
				  cause.text);
	pthread_mutex_lock(&p->part->ranges_lock);
	p->part->storage = le64_get(hello.storage);
	pthread_mutex_unlock(&p->part->ranges_lock);
	return 0;
}

static int add_piece(struct transfer *t, const struct piece *piece)
{
	struct piece *p = &t->pieces[t->n];
	int err;

	*p = *piece;
	err = prepare(t->b, p, t->write, &t->calls[t->n], t->why);
	if (!err && t->write)
		err = note_remote(t, p, &t->calls[t->n]);
	if (err) {
		release_piece(t->b, p);
		return err;
	}
	return ++t->n == PIECES_MAX ? run_pieces(t) : 0;
}

static int transfer_remote(struct transfer *t, const struct segment **remote, size_t n)
{
	size_t at = 0, skip = 0;
	struct piece next;
	int err = 0;

	if (n == 0)
		return 0;
	t->pieces = calloc(PIECES_MAX, sizeof(*t->pieces));
	t->calls = calloc(PIECES_MAX, sizeof(*t->calls));
	if (!t->pieces || !t->calls)
		err = -ENOMEM;
	qsort(remote, n, sizeof(*remote), by_place);
	while (!err && at < n) {
		cut_piece(remote, n, &at, &skip, &next);
		if (next.len > 0)
			err = add_piece(t, &next);
	}
	if (!err)
		err = run_pieces(t);
	while (t->n > 0)
		release_piece(t->b, &t->pieces[--t->n]);
	free(t->pieces);
	free(t->calls);
	return err;
}

static int transfer_local(struct transfer *t, const struct segment *s)
{
	struct part *p = part_get(t->b, s->partition);
	int err;

	if (!p)
		return -ENOMEM;
	err = t->write ? part_write(t->b, p, t->local, s->buf, s->len, s->offset, t->why)
		       : part_read(t->b, p, s->buf, s->len, s->offset, t->why);
	part_put(t->b, p);
	return err;
}

static int transfer(struct transfer *t, const struct segment *segments, size_t n)
{
	AUTO_FREE const struct segment **remote = NULL;
	size_t n_remote = 0;
	int err = 0;

	bytes_local(t->b, &t->local, &t->local_id);
	for (size_t i = 0; i < n && !err; i++) {
		if (is_local(t, segments[i].partition)) {
			err = transfer_local(t, &segments[i]);
			continue;
		}
		if (!remote)
			remote = calloc(n, sizeof(*remote));
		if (!remote)
			return -ENOMEM;
		remote[n_remote++] = &segments[i];
	}
	if (!err)
		err = transfer_remote(t, remote, n_remote);
	return err;
}

int bytes_read(struct bytes *b, const struct segment *segments, size_t n, struct cancel *cancel, struct reason *why)
{
	struct transfer t = { .b = b, .cancel = cancel, .why = why };

	return transfer(&t, segments, n);
}

/* Leases that nobody ends are a burden for the nodes: the one that was used least recently is ended early. */
static void seal_early(struct bytes *b)
{
	struct part *p, *seal = NULL;

	pthread_mutex_lock(&b->lock);
	for (p = b->n_dirty > PARTS_KEPT ? b->oldest : NULL; p && !seal; p = p->newer)
		if (atomic_load(&p->dirty) && p->refs == 0)
			seal = p;
	if (seal)
		seal->refs++;
	pthread_mutex_unlock(&b->lock);
	if (!seal)
		return;
	/* What fails stays dirty, and bytes_seal will say so. */
	bytes_seal_parts(b, &seal, 1, NULL);
	part_put(b, seal);
}

int bytes_write(struct bytes *b, const struct segment *segments, size_t n, struct reason *why)
{
	struct transfer t = { .b = b, .write = true, .why = why };
	int err = transfer(&t, segments, n);

	atomic_store(&b->written, true);
	seal_early(b);
	return err;
}

int bytes_read_fd(struct bytes *b, uint64_t partition, uint64_t offset, size_t len, int *ret_fd, struct reason *why)
{
	struct transfer t = { .b = b };
	struct part *p;
	int err;

	bytes_local(b, &t.local, &t.local_id);
	if (!is_local(&t, partition))
		return -ENOENT;
	p = part_get(b, partition);
	if (!p)
		return -ENOMEM;
	err = part_read_fd(b, p, len, offset, ret_fd, why);
	part_put(b, p);
	return err;
}

void bytes_refresh(struct bytes *b)
{
	struct part **parts;
	size_t n;

	if (part_collect(b, 0, UINT64_MAX, false, &parts, &n))
		return;
	for (size_t i = 0; i < n; i++) {
		pthread_rwlock_wrlock(&parts[i]->lock);
		part_close_read_locked(parts[i]);
		part_drop_removed_locked(b, parts[i]);
		pthread_rwlock_unlock(&parts[i]->lock);
		part_put(b, parts[i]);
	}
	free(parts);
}
