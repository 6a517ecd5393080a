#include "reaper.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "client.h"
#include "daemon.h"
#include "log.h"
#include "meta.h"
#include "meta_orphans.h"
#include "nodes.h"

#define BATCH 256             /* objects at a time: one request to each node, one transaction */
#define GATHER_MS 50          /* after a wake-up: rm -r goes on, and a batch costs one transaction */
#define DROP_TIMEOUT_MS 10000 /* a large object's files take a while to go */

struct reaper {
	struct daemon *d;
	pthread_t thread;
	pthread_mutex_t lock; /* guards the two below */
	pthread_cond_t wake;
	bool wanted, stop;
	/* The thread's own from here on. */
	struct {
		struct client *client;
		char address[sizeof(((struct wire_node *)0)->address)];
		bool up;
	} nodes[SLAB_NODES_MAX + 1];
	struct uuid session;
};

static bool stopping(struct reaper *r)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

static void connect_node(struct reaper *r, uint32_t id, const char *address)
{
	struct client_config config = { .key = r->d->key,
					.hello = { .cluster = r->d->sb.cluster,
						   .session = r->session,
						   .role = le32_of(WIRE_ROLE_NODE),
						   .node_id = le32_of(r->d->sb.node_id) },
					.name = "the head's reaper",
					.n_connections = 1,
					.timeout_ms = DROP_TIMEOUT_MS };
	char own[PATH_MAX + 32];

	if (r->nodes[id].client && !strcmp(r->nodes[id].address, address))
		return;
	client_free(r->nodes[id].client);
	r->nodes[id].client = NULL;
	snprintf(r->nodes[id].address, sizeof(r->nodes[id].address), "%s", address);
	snprintf(own, sizeof(own), "unix:%s/" STORE_SOCKET, r->d->store_path);
	config.address = id == r->d->sb.node_id ? own : address;
	if (client_new(&config, &r->nodes[id].client) < 0)
		r->nodes[id].client = NULL;
}

static int refresh_nodes(struct reaper *r)
{
	AUTO_FREE struct wire_node *known = NULL;
	size_t n;
	int err = nodes_snapshot(r->d->nodes, &known, &n);

	for (size_t i = 0; i <= SLAB_NODES_MAX; i++)
		r->nodes[i].up = false;
	for (size_t i = 0; !err && i < n; i++)
		if (le32_get(known[i].node_id) <= SLAB_NODES_MAX)
			r->nodes[le32_get(known[i].node_id)].up = le32_get(known[i].state) == WIRE_NODE_UP;
	for (size_t i = 0; !err && i < n; i++)
		if (le32_get(known[i].node_id) <= SLAB_NODES_MAX && r->nodes[le32_get(known[i].node_id)].up)
			connect_node(r, le32_get(known[i].node_id), known[i].address);
	return err;
}

static size_t node_at(const struct orphan *o, uint32_t id)
{
	size_t k = 0;

	while (k < o->n_nodes && le32_get(o->nodes[k]) != id)
		k++;
	return k;
}

/* Drops on one node what it still has of the batch, in one request, unless some object stands in the way.  False: the node does not answer. */
static bool reap_node(struct reaper *r, uint32_t id, struct orphan *orphans, size_t n)
{
	struct wire_part_drop body = { .part.flags = le32_of(WIRE_DROP_OBJECT), .count = le64_of(UINT64_MAX) };
	struct call call = { .type = WIRE_PART_DROP, .body = &body, .body_bytes = sizeof(body) };
	struct le64 others[BATCH];
	size_t n_others = 0;
	int err;

	for (size_t i = 0; i < n; i++) {
		if (node_at(&orphans[i], id) == orphans[i].n_nodes)
			continue;
		if (!le64_get(body.part.object)) {
			body.part.object = le64_of(orphans[i].object);
			body.part.epoch = le32_of(orphans[i].epoch);
		} else {
			others[n_others++] = le64_of(orphans[i].object);
		}
	}
	if (!le64_get(body.part.object))
		return true;
	call.payload[0] = others;
	call.payload_bytes[0] = n_others * sizeof(*others);
	err = client_call(r->nodes[id].client, &call);
	if (err)
		log_debug("node %u: %zu objects not dropped yet: %s", id, n_others + 1, call.why.text);
	if (err && (err == -ETIMEDOUT || !client_connected(r->nodes[id].client)))
		return false;
	if (err)
		return n < 2 || (reap_node(r, id, orphans, n / 2) && reap_node(r, id, orphans + n / 2, n - n / 2));
	for (size_t i = 0; i < n; i++) {
		size_t k = node_at(&orphans[i], id);
		if (k < orphans[i].n_nodes)
			orphans[i].nodes[k] = orphans[i].nodes[--orphans[i].n_nodes];
	}
	return true;
}

/* Keeps the layouts of what is left few: the same nodes in the same order. */
static void sort_nodes(struct orphan *o)
{
	for (size_t i = 1; i < o->n_nodes; i++)
		for (size_t k = i; k > 0 && le32_get(o->nodes[k]) < le32_get(o->nodes[k - 1]); k--) {
			struct le32 swap = o->nodes[k];
			o->nodes[k] = o->nodes[k - 1];
			o->nodes[k - 1] = swap;
		}
}

static int reap_batch(struct reaper *r, struct orphan *orphans, size_t n)
{
	size_t before = 0, after = 0;

	for (size_t i = 0; i < n; i++)
		before += orphans[i].n_nodes;
	for (uint32_t id = 1; id <= SLAB_NODES_MAX && !stopping(r); id++)
		if (r->nodes[id].up && r->nodes[id].client)
			r->nodes[id].up = reap_node(r, id, orphans, n);
	for (size_t i = 0; i < n; i++) {
		after += orphans[i].n_nodes;
		sort_nodes(&orphans[i]);
	}
	return before == after ? 0 : meta_orphans_update(r->d->meta, orphans, n);
}

/* One pass over all orphans; *ret_left: whether some remain for a node that is not up. */
static int reap(struct reaper *r, bool *ret_left)
{
	AUTO_FREE struct orphan *orphans = calloc(BATCH, sizeof(*orphans));
	uint64_t after = 0;
	size_t n = 0;
	int err = orphans ? 0 : -ENOMEM;

	if (!err)
		err = meta_orphans(r->d->meta, 0, BATCH, orphans, &n);
	if (!err && n)
		err = refresh_nodes(r);
	*ret_left = false;
	while (!err && n && !stopping(r)) {
		after = orphans[n - 1].object;
		err = reap_batch(r, orphans, n);
		for (size_t i = 0; i < n; i++)
			*ret_left = *ret_left || orphans[i].n_nodes;
		if (!err)
			err = meta_orphans(r->d->meta, after, BATCH, orphans, &n);
	}
	return err;
}

static struct timespec after_ms(unsigned ms)
{
	uint64_t ns = time_mono_ns() + ms * UINT64_C(1000000);

	return (struct timespec){ (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
}

static void wait_work(struct reaper *r, bool again)
{
	struct timespec retry = after_ms(REAPER_RETRY_MS), gathered;
	int err = 0;

	pthread_mutex_lock(&r->lock);
	while (!r->wanted && !r->stop && err != ETIMEDOUT)
		err = again ? pthread_cond_timedwait(&r->wake, &r->lock, &retry)
			    : pthread_cond_wait(&r->wake, &r->lock);
	gathered = after_ms(GATHER_MS);
	for (err = 0; !r->stop && err != ETIMEDOUT;)
		err = pthread_cond_timedwait(&r->wake, &r->lock, &gathered);
	r->wanted = false;
	pthread_mutex_unlock(&r->lock);
}

static void *reaper_run(void *arg)
{
	struct reaper *r = arg;

	while (!stopping(r)) {
		bool left, more = false, later = !meta_grace_over(r->d->meta, &more);
		int err = reap(r, &left);
		if (err)
			log_warn("orphans are not dropped: %s", strerror(-err));
		wait_work(r, left || later || err);
	}
	return NULL;
}

int reaper_new(struct daemon *d, struct reaper **ret)
{
	struct reaper *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;
	int err;

	if (!r)
		return -ENOMEM;
	r->d = d;
	r->wanted = true;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wake, &attr);
	pthread_condattr_destroy(&attr);
	err = uuid_new(&r->session);
	if (!err)
		err = -pthread_create(&r->thread, NULL, reaper_run, r);
	if (err) {
		free(r);
		return err;
	}
	*ret = r;
	return 0;
}

void reaper_wake(struct reaper *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	if (!r->wanted)
		pthread_cond_signal(&r->wake);
	r->wanted = true;
	pthread_mutex_unlock(&r->lock);
}

void reaper_free(struct reaper *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	for (size_t i = 0; i <= SLAB_NODES_MAX; i++)
		client_free(r->nodes[i].client);
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
