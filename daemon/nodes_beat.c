#include "nodes_int.h"

#include <stdio.h>
#include <time.h>

#include "log.h"
#include "store.h"

#define BACKOFF_MAX_MS 2000

void nodes_own_beat(struct daemon *d, struct wire_beat *ret)
{
	struct store_stats st = { 0 };

	store_stats(d->store, &st);
	*ret = (struct wire_beat){ .node = d->sb.node,
				   .node_id = le32_of(d->sb.node_id),
				   .bytes_total = le64_of(st.bytes_total),
				   .bytes_free = le64_of(st.bytes_free),
				   .files_total = le64_of(st.files_total),
				   .files_free = le64_of(st.files_free),
				   .partitions = le64_of(st.partitions) };
}

static int say(struct nodes *n, unsigned type, struct reason *why)
{
	struct wire_register body = { .run = n->d->incarnation,
				      .n_known = le32_of((uint32_t)n->lineage.n),
				      .flags = le32_of(n->d->accept_copy ? WIRE_REGISTER_ANYWAY : 0) };
	struct call call = { .type = type, .timeout_ms = NODES_DOWN_MS / 2 };
	int err;

	nodes_own_beat(n->d, &body.beat);
	if (type == WIRE_REGISTER) {
		call.body = &body;
		call.body_bytes = sizeof(body);
		call.payload[0] = n->lineage.known;
		call.payload_bytes[0] = n->lineage.n * sizeof(n->lineage.known[0]);
		call.payload[1] = n->d->address;
		call.payload_bytes[1] = strlen(n->d->address);
	} else {
		call.body = &body.beat;
		call.body_bytes = sizeof(body.beat);
	}
	err = client_call(n->client, &call);
	return err ? reason_set(why, -err, "%.250s", call.why.text[0] ? call.why.text : strerror(-err)) : 0;
}

static void set_registered(struct nodes *n, bool registered, int err, const struct reason *why)
{
	bool changed, news;

	pthread_mutex_lock(&n->lock);
	changed = n->registered != registered;
	news = changed || (why && strcmp(why->text, n->why.text));
	n->registered = registered;
	n->refused = err == -ESTALE;
	if (why)
		n->why = *why;
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
	if (registered && changed)
		log_info("registered with the head at %s", n->d->sb.head);
	else if (!registered && news)
		log_warn("not registered with the head at %s: %s", n->d->sb.head, why->text);
}

/* A start whose acknowledgement cannot be written down stays among the announced ones, which serves as well. */
static void note_acknowledged(struct nodes *n)
{
	int err = n->acknowledged ? 0 : lineage_acknowledged(n->d->store_fd, &n->d->incarnation);

	if (err)
		log_warn("the store's file 'lineage' cannot be written: %s", strerror(-err));
	n->acknowledged = !err;
}

void nodes_beat(struct nodes *n, unsigned *pause_ms)
{
	struct reason why = { "" };
	bool registered;
	int err;

	pthread_mutex_lock(&n->lock);
	registered = n->registered;
	pthread_mutex_unlock(&n->lock);
	err = registered ? say(n, WIRE_BEAT, &why) : -ENOTCONN;
	if (err) {
		err = say(n, WIRE_REGISTER, &why);
		if (!err)
			note_acknowledged(n);
	}
	if (err)
		*pause_ms = MIN(*pause_ms * 2, BACKOFF_MAX_MS);
	else
		*pause_ms = NODES_BEAT_MS;
	set_registered(n, !err, err, err ? &why : NULL);
}

int nodes_new_client(struct nodes *n)
{
	struct daemon *d = n->d;
	struct client_config config = { .address = d->sb.head,
					.key = d->key,
					.hello = { .cluster = d->sb.cluster,
						   .role = le32_of(WIRE_ROLE_NODE),
						   .node_id = le32_of(d->sb.node_id) },
					.n_connections = 1,
					.timeout_ms = NODES_DOWN_MS / 2 };
	char name[64];
	int err = uuid_new(&config.hello.session);

	snprintf(name, sizeof(name), "node %u", d->sb.node_id);
	config.name = name;
	return err ? err : client_new(&config, &n->client);
}

int nodes_wait_registered(struct nodes *n, unsigned timeout_ms, struct reason *why)
{
	struct timespec ts;
	int err = 0;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	ts.tv_sec += timeout_ms / 1000 + ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	pthread_mutex_lock(&n->lock);
	while (!n->is_head && !n->registered && !n->refused && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&n->changed, &n->lock, &ts);
	if (n->refused)
		err = reason_set(why, ESTALE, "%.300s", n->why.text);
	else if (!n->is_head && !n->registered)
		err = reason_set(why, ETIMEDOUT, "not registered with the head at %.100s: %.150s", n->d->sb.head,
				 n->why.text[0] ? n->why.text : "no answer");
	else
		err = 0;
	pthread_mutex_unlock(&n->lock);
	return err;
}

void nodes_stop(struct nodes *n)
{
	struct wire_leave body = { .node_id = le32_of(n->d->sb.node_id) };
	struct call call = { .type = WIRE_LEAVE, .body = &body, .body_bytes = sizeof(body), .timeout_ms = 1000 };

	pthread_mutex_lock(&n->lock);
	n->stop = true;
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
	if (n->has_thread)
		pthread_join(n->thread, NULL);
	n->has_thread = false;
	if (n->registered && client_call(n->client, &call) < 0)
		log_warn("the head did not hear that node %u leaves", n->d->sb.node_id);
	n->registered = false;
}
