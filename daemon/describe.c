#include "describe.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "client.h"
#include "daemon.h"
#include "log.h"
#include "meta.h"
#include "meta_describe.h"
#include "nodes.h"

#define LOOK_MS 500   /* between two looks at what is marked: a writer's changes gather meanwhile */
#define RETRY_MS 2000 /* while somebody who is to know is down */
#define TIMEOUT_MS 10000

struct describer {
	struct daemon *d;
	pthread_t thread;
	pthread_mutex_t lock; /* guards stop */
	pthread_cond_t wake;
	bool stop;
	/* The thread's own from here on. */
	struct {
		struct client *client;
		char address[sizeof(((struct wire_node *)0)->address)];
		bool up;
	} nodes[SLAB_NODES_MAX + 1];
	struct uuid session;
};

static void connect_node(struct describer *r, uint32_t id, const char *address)
{
	struct client_config config = { .key = r->d->key,
					.hello = { .cluster = r->d->sb.cluster,
						   .session = r->session,
						   .role = le32_of(WIRE_ROLE_NODE),
						   .node_id = le32_of(r->d->sb.node_id) },
					.name = "the head's describer",
					.n_connections = 1,
					.timeout_ms = TIMEOUT_MS };
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

static int refresh_nodes(struct describer *r)
{
	AUTO_FREE struct wire_node *known = NULL;
	size_t n;
	int err = nodes_snapshot(r->d->nodes, &known, &n);

	for (size_t i = 0; i <= SLAB_NODES_MAX; i++)
		r->nodes[i].up = false;
	for (size_t i = 0; !err && i < n; i++) {
		uint32_t id = le32_get(known[i].node_id);
		if (id > SLAB_NODES_MAX || le32_get(known[i].state) != WIRE_NODE_UP)
			continue;
		connect_node(r, id, known[i].address);
		r->nodes[id].up = r->nodes[id].client != NULL;
	}
	return err;
}

static bool knows(const struct description *d, struct le32 node)
{
	for (size_t i = 0; i < d->n_acked; i++)
		if (d->acked[i].raw == node.raw)
			return true;
	return false;
}

/* To all at once; a node that has dropped the object needs not know. */
static void tell(struct describer *r, struct description *d)
{
	struct call calls[SLAB_NODES_MAX];
	bool started[SLAB_NODES_MAX] = { false };

	for (size_t i = 0; i < d->n_nodes; i++) {
		uint32_t id = le32_get(d->nodes[i]);
		if (id > SLAB_NODES_MAX || !r->nodes[id].up || knows(d, d->nodes[i]))
			continue;
		calls[i] = (struct call){ .type = WIRE_DESCRIBE,
					  .body = &d->head,
					  .body_bytes = sizeof(d->head),
					  .payload = { d->payload },
					  .payload_bytes = { d->payload_bytes } };
		started[i] = client_start(r->nodes[id].client, &calls[i]) == 0;
	}
	for (size_t i = 0; i < d->n_nodes; i++) {
		uint32_t id = le32_get(d->nodes[i]);
		int err = started[i] ? client_wait(r->nodes[id].client, &calls[i]) : -ENOTCONN;
		if (!err || err == -ESTALE) {
			d->acked[d->n_acked++] = d->nodes[i];
		} else if (started[i]) {
			r->nodes[id].up = false; /* for this pass */
			log_debug("node %u: not told of object %llu: %s", id,
				  (unsigned long long)le64_get(d->head.object), calls[i].why.text);
		}
	}
}

static bool stopping(struct describer *r)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

/* One pass over all that is marked; *ret_left: somebody is still to be told. */
static int pass(struct describer *r, bool *ret_left)
{
	struct description d = { 0 };
	bool fresh = false;
	int rc = 0;

	*ret_left = false;
	while (rc >= 0 && !stopping(r) && (rc = meta_describe_next(r->d->meta, d.ino, &d)) == 1) {
		size_t before = d.n_acked;
		if (!fresh)
			rc = refresh_nodes(r);
		fresh = true;
		if (rc >= 0)
			tell(r, &d);
		free(d.payload);
		if (rc >= 0 && d.n_acked > before)
			rc = meta_describe_update(r->d->meta, &d);
		*ret_left = *ret_left || d.n_acked < d.n_nodes;
	}
	return rc < 0 ? rc : 0;
}

static void pause_for(struct describer *r, unsigned ms)
{
	uint64_t ns = time_mono_ns() + ms * UINT64_C(1000000);
	struct timespec until = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
	int err = 0;

	pthread_mutex_lock(&r->lock);
	while (!r->stop && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&r->wake, &r->lock, &until);
	pthread_mutex_unlock(&r->lock);
}

static void *describer_main(void *arg)
{
	struct describer *r = arg;

	while (!stopping(r)) {
		bool left;
		uint64_t since = time_mono_ns();
		int err = pass(r, &left);
		unsigned took_ms = (unsigned)MIN((time_mono_ns() - since) / 1000000, 3600000);
		if (err)
			log_warn("the stores are not told what they hold: %s", strerror(-err));
		pause_for(r, left || err ? MAX(RETRY_MS, took_ms * 20) : LOOK_MS); /* the names come first */
	}
	return NULL;
}

int describer_new(struct daemon *d, struct describer **ret)
{
	struct describer *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;
	int err;

	if (!r)
		return -ENOMEM;
	r->d = d;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wake, &attr);
	pthread_condattr_destroy(&attr);
	err = uuid_new(&r->session);
	if (!err)
		err = -pthread_create(&r->thread, NULL, describer_main, r);
	if (err)
		free(r);
	else
		*ret = r;
	return err;
}

void describer_free(struct describer *r)
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
