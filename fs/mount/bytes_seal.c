#include "bytes_internal.h"

#define SEALS_MAX 32u /* partitions that are being sealed, and locked, at once */

/* One partition that is being sealed. */
struct seal {
	struct part *part;
	bool local;       /* then part->lock is held for writing */
	uint64_t storage; /* of a remote node, for which it was not another since the first write */
	struct wire_part_seal body;
	struct wire_part_seal_reply reply;
	struct wire_range *ranges;
};

/* A batch: calls[i] is of seals[i]. */
struct sealing {
	struct bytes *b;
	struct client *local;
	uint32_t local_id;
	struct seal *seals;
	struct fan_call *calls;
	size_t n;
	int err; /* the first failure */
	struct reason *why;
};

static void take_failure(struct sealing *g, int err, const struct reason *why)
{
	if (g->err)
		return;
	g->err = err;
	if (g->why && why)
		*g->why = *why;
}

static int encode_ranges(struct seal *s)
{
	size_t n = s->part->ranges.n;

	s->ranges = calloc(n + 1, sizeof(*s->ranges));
	if (!s->ranges)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct range *r = &s->part->ranges.at[i];
		s->ranges[i] = (struct wire_range){ le64_of(r->start), le64_of(r->end - r->start) };
	}
	s->body.n_ranges = le32_of((uint32_t)n);
	return 0;
}

/* The lease may be gone with a lost connection; what was written is then reported under a new one. */
static int begin_local(struct sealing *g, struct seal *s, struct reason *why)
{
	int err = 0;

	if (!part_leased_locked(s->part, g->local))
		err = part_lease_locked(g->b, s->part, g->local, why);
	return err ? err : encode_ranges(s);
}

/* A node whose machine was started anew since the first write may have lost what was not durable: said once, then the writing starts over.  One that was
 * only killed has not: what it was sent is in its machine's page cache, and it seals such partitions anew. */
static int begin_remote(struct sealing *g, struct seal *s, struct fan_call *c, struct reason *why)
{
	struct part *p = s->part;
	struct wire_hello_reply hello;
	struct reason cause = { "" };
	int err = fan_hello(g->b->m, c, &hello, &cause);
	bool same;

	if (err)
		return reason_set(why, -err, "partition %llu on %.250s", (unsigned long long)p->index, cause.text);
	pthread_mutex_lock(&p->ranges_lock);
	same = p->storage == le64_get(hello.storage);
	p->storage = s->storage = le64_get(hello.storage);
	pthread_mutex_unlock(&p->ranges_lock);
	if (!same)
		return reason_set(why, EIO,
				  "partition %llu on node %u: the machine was restarted during the writing; "
				  "what it was sent may be lost",
				  (unsigned long long)p->index, c->node_id);
	part_mark_clean(g->b, p);
	return 0;
}

static void begin(struct sealing *g, struct part *p)
{
	struct bytes *b = g->b;
	struct seal *s = &g->seals[g->n];
	struct fan_call *c = &g->calls[g->n];
	uint32_t owner = layout_owner(&b->layout, p->index);
	struct reason why = { "out of memory" };
	int err;

	*s = (struct seal){ .part = p, .local = g->local && owner == g->local_id };
	s->body.part = bytes_part_id(b, p->index, 0);
	if (s->local) {
		pthread_rwlock_wrlock(&p->lock);
		part_drop_removed_locked(b, p);
	}
	if (!atomic_load(&p->dirty)) {
		if (s->local)
			pthread_rwlock_unlock(&p->lock);
		return;
	}
	*c = (struct fan_call){ .retry = true };
	err = fan_to(b->m, owner, c, &why);
	if (!err)
		err = s->local ? begin_local(g, s, &why) : begin_remote(g, s, c, &why);
	if (err) {
		if (s->local)
			pthread_rwlock_unlock(&p->lock);
		free(s->ranges);
		take_failure(g, err, &why);
		return;
	}
	c->call = (struct call){ .type = WIRE_PART_SEAL,
				 .body = &s->body,
				 .body_bytes = sizeof(s->body),
				 .payload = { s->ranges },
				 .payload_bytes = { le32_get(s->body.n_ranges) * sizeof(struct wire_range) },
				 .timeout_ms = FAN_NO_DEADLINE,
				 .reply_body = &s->reply };
	g->n++;
}

static void end(struct sealing *g, struct seal *s, const struct fan_call *c)
{
	struct part *p = s->part;
	struct reason why;

	if (c->err) {
		bytes_why(p->index, c, c->err, &why);
		take_failure(g, c->err, &why);
		if (!s->local)
			part_mark_dirty(g->b, p);
	} else if (s->local) {
		part_forget_locked(g->b, p);
	} else {
		bytes_note_storage(g->b, p->index, s->storage);
	}
	if (s->local)
		pthread_rwlock_unlock(&p->lock);
	free(s->ranges);
}

/* The locks are taken in the order of the partitions' numbers, so two of these cannot wait for each other. */
static void seal_batch(struct sealing *g, struct part **parts, size_t n)
{
	g->n = 0;
	for (size_t i = 0; i < n; i++)
		begin(g, parts[i]);
	fan_run(g->b->m, g->calls, g->n, false, NULL, NULL);
	for (size_t i = 0; i < g->n; i++)
		end(g, &g->seals[i], &g->calls[i]);
}

int bytes_seal_parts(struct bytes *b, struct part **parts, size_t n, struct reason *why)
{
	size_t batch = MIN(n, SEALS_MAX);
	struct sealing g = { .b = b, .why = why };

	bytes_local(b, &g.local, &g.local_id);
	g.seals = calloc(batch + 1, sizeof(*g.seals));
	g.calls = calloc(batch + 1, sizeof(*g.calls));
	if (g.seals && g.calls) {
		for (size_t i = 0; i < n; i += batch)
			seal_batch(&g, parts + i, MIN(batch, n - i));
	} else {
		g.err = -ENOMEM;
	}
	free(g.seals);
	free(g.calls);
	return g.err;
}

static int seal_dirty(struct bytes *b, struct reason *why)
{
	struct part **parts;
	size_t n;
	int err = part_collect(b, 0, UINT64_MAX, true, &parts, &n);

	if (err)
		return err;
	if (n > 0)
		err = bytes_seal_parts(b, parts, n, why);
	for (size_t i = 0; i < n; i++)
		part_put(b, parts[i]);
	free(parts);
	return err;
}

void bytes_note_storage(struct bytes *b, uint64_t partition, uint64_t storage)
{
	uint64_t *at = &b->changed_on[partition % b->layout.n_nodes];

	pthread_mutex_lock(&b->lock);
	*at = *at ? *at : storage;
	pthread_mutex_unlock(&b->lock);
}

/* Takes what was noted of a node before it makes durable what it has. */
static uint64_t take_noted(struct bytes *b, uint32_t i)
{
	pthread_mutex_lock(&b->lock);
	uint64_t storage = b->changed_on[i];
	b->changed_on[i] = 0;
	pthread_mutex_unlock(&b->lock);
	return storage;
}

/* Asked after it has: a machine that was started anew between the seal and this has nothing left to make durable, and says so with success. */
static int check_storage(struct bytes *b, struct fan_call *c, uint64_t noted, struct reason *why)
{
	struct wire_hello_reply hello;
	int err = noted ? fan_hello(b->m, c, &hello, why) : 0;

	if (err || !noted || le64_get(hello.storage) == noted)
		return err;
	return reason_set(
		why, EIO,
		"node %u: the machine was restarted before it made durable what it was sent; that may be lost",
		c->node_id);
}

static int sync_nodes(struct bytes *b, struct reason *why)
{
	const struct layout *l = &b->layout;
	struct wire_part body = bytes_part_id(b, 0, 0);
	AUTO_FREE struct fan_call *calls = calloc(l->n_nodes, sizeof(*calls));
	AUTO_FREE uint64_t *noted = calloc(l->n_nodes, sizeof(*noted));
	struct reason cause = { "" };
	size_t n = 0, failed = 0;
	int first = 0, err;

	if (!calls || !noted)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->n_nodes; i++) {
		struct fan_call *c = &calls[n];
		*c = (struct fan_call){ .retry = true,
					.call = { .type = WIRE_PART_SYNC,
						  .body = &body,
						  .body_bytes = sizeof(body),
						  .timeout_ms = FAN_NO_DEADLINE } };
		err = fan_to(b->m, l->nodes[i], c, first ? NULL : &cause);
		if (!err)
			noted[n++] = take_noted(b, i);
		else if (!first)
			first = err;
	}
	err = fan_run(b->m, calls, n, false, NULL, &failed);
	if (err && !first)
		reason_set(&cause, -err, "making it durable on %.250s", calls[failed].call.why.text);
	first = first ? first : err;
	for (size_t i = 0; i < n; i++) {
		err = calls[i].err ? 0 : check_storage(b, &calls[i], noted[i], first ? NULL : &cause);
		first = first ? first : err;
		for (uint32_t k = 0; k < l->n_nodes && calls[i].err && noted[i]; k++)
			if (l->nodes[k] == calls[i].node_id)
				bytes_note_storage(b, k, noted[i]);
	}
	return first ? reason_set(why, -first, "%s", cause.text) : 0;
}

int bytes_seal(struct bytes *b, bool durable, struct reason *why)
{
	struct reason sync_why = { "" };
	int err, sync_err;

	atomic_store(&b->written, false);
	err = seal_dirty(b, why);
	sync_err = durable ? sync_nodes(b, &sync_why) : 0;
	if (!err && sync_err)
		err = reason_set(why, -sync_err, "%s", sync_why.text);
	if (err)
		atomic_store(&b->written, true);
	return err;
}
