/* The head keeps a table of states beside the nodes' rows in its database; every other node runs one thread that registers and beats.
 *
 *   down --REGISTER--> up --BEAT...--> up --no beat for NODES_DOWN_MS--> down
 *                       |---LEAVE---> left --REGISTER--> up
 *
 * nodes.lock is never held while the database or the network is used. */
#include "nodes_int.h"

#include <stdio.h>
#include <time.h>

#include "log.h"
#include "meta.h"
#include "server.h"

#define TICK_MS 250

static uint32_t entry_state(const struct entry *e)
{
	return le32_get(e->node.state);
}

static void entry_set_state(struct entry *e, enum wire_node_state state)
{
	e->node.state = le32_of(state);
}

static void beat_locked(struct entry *e, const struct wire_beat *b)
{
	e->beat_ns = time_mono_ns();
	e->node.bytes_total = b->bytes_total;
	e->node.bytes_free = b->bytes_free;
	e->node.files_total = b->files_total;
	e->node.files_free = b->files_free;
	e->node.partitions = b->partitions;
}

static void refresh_self(struct nodes *n)
{
	struct entry *self = &n->entries[n->d->sb.node_id];
	struct wire_beat b;

	nodes_own_beat(n->d, &b);
	pthread_mutex_lock(&n->lock);
	beat_locked(self, &b);
	pthread_mutex_unlock(&n->lock);
}

static void find_silent(struct nodes *n)
{
	uint64_t now = time_mono_ns();
	struct {
		uint32_t id;
		double seconds;
		char address[sizeof(((struct wire_node *)0)->address)];
	} down[4];
	size_t n_down = 0;

	pthread_mutex_lock(&n->lock);
	for (uint32_t id = 1; id <= SLAB_NODES_MAX && n_down < ARRAY_LEN(down); id++) {
		struct entry *e = &n->entries[id];
		if (id == n->d->sb.node_id || entry_state(e) != WIRE_NODE_UP ||
		    now - e->beat_ns < NODES_DOWN_MS * UINT64_C(1000000))
			continue;
		entry_set_state(e, WIRE_NODE_DOWN);
		down[n_down].id = id;
		down[n_down].seconds = (double)(now - e->beat_ns) / 1e9;
		memcpy(down[n_down++].address, e->node.address, sizeof(down[0].address));
	}
	pthread_mutex_unlock(&n->lock);
	for (size_t i = 0; i < n_down; i++)
		log_warn("node %u (%s) is down: no beat for %.1f s", down[i].id, down[i].address, down[i].seconds);
}

static void entry_new_locked(struct nodes *n, uint32_t id, const struct uuid *uuid, const char *address)
{
	struct entry *e = &n->entries[id];

	e->node.node = *uuid;
	e->node.node_id = le32_of(id);
	e->node.is_head = le32_of(id == n->d->sb.node_id);
	if (!entry_state(e))
		entry_set_state(e, WIRE_NODE_DOWN);
	snprintf(e->node.address, sizeof(e->node.address), "%s", address);
}

static int load_nodes(struct nodes *n)
{
	AUTO_FREE struct wire_node *known = NULL;
	size_t count;
	int err = meta_nodes(n->d->meta, &known, &count);

	pthread_mutex_lock(&n->lock);
	for (size_t i = 0; !err && i < count; i++) {
		uint32_t id = le32_get(known[i].node_id);
		if (id >= 1 && id <= SLAB_NODES_MAX)
			entry_new_locked(n, id, &known[i].node, known[i].address);
	}
	pthread_mutex_unlock(&n->lock);
	return err;
}

/* What is left of the payload. */
static int take_address(const struct request *r, size_t from, char ret[300], struct reason *why)
{
	char host[256];
	uint16_t port;
	size_t len = r->payload_bytes - from;

	if (r->payload_bytes <= from || len >= 300 || memchr(r->payload + from, '\0', len))
		return reason_set(why, EINVAL, "the address has no sensible length");
	memcpy(ret, r->payload + from, len);
	ret[len] = '\0';
	if (address_split(ret, SLAB_DEFAULT_PORT, host, &port) < 0)
		return reason_set(why, EINVAL, "'%.100s' is not HOST:PORT", ret);
	return 0;
}

static int check_head(const struct daemon *d, struct reason *why)
{
	if (d->sb.is_head)
		return 0;
	return reason_set(why, EREMOTE, "node %u is not the head; the head is %.200s", d->sb.node_id, d->sb.head);
}

static int handle_join(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_join *body = r->body;
	struct wire_join_reply reply = { .cluster = d->sb.cluster };
	char address[300];
	uint32_t id;
	int err = check_head(d, why);

	if (!err)
		err = take_address(r, 0, address, why);
	if (!err)
		err = meta_node_add(d->meta, &body->node, address, &id, why);
	if (err)
		return err;
	pthread_mutex_lock(&d->nodes->lock);
	entry_new_locked(d->nodes, id, &body->node, address);
	pthread_mutex_unlock(&d->nodes->lock);
	log_info("node %u (%s) has joined", id, address);
	reply.node_id = le32_of(id);
	request_reply(r, &reply, NULL, 0);
	return 0;
}

static int check_node_locked(struct nodes *n, uint32_t id, const struct uuid *uuid, struct reason *why)
{
	if (!id || id > SLAB_NODES_MAX || !n->entries[id].node.node_id.raw)
		return reason_set(why, ENOENT, "node %u is not in the cluster's table", id);
	if (!uuid_equal(&n->entries[id].node.node, uuid))
		return reason_set(why, EEXIST, "node %u is another store", id);
	if (id == n->d->sb.node_id)
		return reason_set(why, EEXIST, "node %u is the head itself", id);
	return 0;
}

static int register_locked(struct nodes *n, struct request *r, const struct wire_beat *b, const char *address,
			   struct reason *why)
{
	uint32_t id = le32_get(b->node_id);
	int err = check_node_locked(n, id, &b->node, why);
	struct entry *e = &n->entries[err ? 0 : id];

	if (err)
		return err;
	if (entry_state(e) == WIRE_NODE_UP && e->session && e->session != session_number(r->session))
		return reason_set(why, EEXIST, "node %u is up already, at %.200s: is its store served twice?", id,
				  e->node.address);
	entry_set_state(e, WIRE_NODE_UP);
	e->session = session_number(r->session);
	snprintf(e->node.address, sizeof(e->node.address), "%s", address);
	beat_locked(e, b);
	return 0;
}

/* A store that was put back from a copy would serve what has been overwritten since. */
static int check_lineage(struct daemon *d, const struct request *r, struct reason *why)
{
	static const struct uuid none;
	const struct wire_register *body = r->body;
	uint32_t id = le32_get(body->beat.node_id), n = le32_get(body->n_known);
	struct uuid last, known;
	int err = meta_node_run(d->meta, id, &last);

	if (err == -ENOENT)
		return reason_set(why, ENOENT, "node %u is not in the cluster's table", id);
	if (err || uuid_equal(&last, &none) || uuid_equal(&last, &body->run) ||
	    (le32_get(body->flags) & WIRE_REGISTER_ANYWAY))
		return err;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(&known, r->payload + i * sizeof(known), sizeof(known));
		if (uuid_equal(&known, &last))
			return 0;
	}
	return reason_set(why, ESTALE,
			  "the store of node %u is an older copy of itself: it does not know of its last start; "
			  "slabfsd --accept-copy takes it as it is",
			  id);
}

static void log_refused(struct nodes *n, const struct request *r, uint32_t id, const struct reason *refused)
{
	bool again = false;

	pthread_mutex_lock(&n->lock);
	if (id <= SLAB_NODES_MAX) {
		again = n->entries[id].refused == session_number(r->session);
		n->entries[id].refused = session_number(r->session);
	}
	pthread_mutex_unlock(&n->lock);
	if (!again)
		log_warn("%s: registration refused: %s", session_name(r->session), refused->text);
}

static int register_node(struct daemon *d, struct request *r, const char *address, struct reason *why)
{
	const struct wire_register *body = r->body;
	const struct wire_beat *b = &body->beat;
	uint32_t id = le32_get(b->node_id);
	struct uuid last;
	int err;

	if (meta_node_claim(d->meta, id, &b->node, address) == 1) {
		pthread_mutex_lock(&d->nodes->lock);
		entry_new_locked(d->nodes, id, &b->node, address);
		pthread_mutex_unlock(&d->nodes->lock);
	}
	pthread_mutex_lock(&d->nodes->lock);
	err = check_node_locked(d->nodes, id, &b->node, why);
	pthread_mutex_unlock(&d->nodes->lock);
	if (!err)
		err = check_lineage(d, r, why);
	if (err)
		return err;
	pthread_mutex_lock(&d->nodes->lock);
	err = register_locked(d->nodes, r, b, address, why);
	pthread_mutex_unlock(&d->nodes->lock);
	if (!err)
		err = meta_node_address(d->meta, id, &b->node, address, why);
	if (!err && meta_node_run(d->meta, id, &last) == 0 && !uuid_equal(&last, &body->run))
		err = meta_node_set_run(d->meta, id, &body->run);
	return err;
}

static int handle_register(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_register *body = r->body;
	uint32_t id = le32_get(body->beat.node_id), n = le32_get(body->n_known);
	struct reason refused = { "" };
	char address[300];
	int err = check_head(d, why);

	if (!err && n > WIRE_KNOWN_MAX)
		err = reason_set(why, EINVAL, "more than %d earlier starts", WIRE_KNOWN_MAX);
	if (!err)
		err = take_address(r, n * sizeof(struct uuid), address, why);
	if (err)
		return err;
	err = register_node(d, r, address, &refused);
	if (err) {
		log_refused(d->nodes, r, id, &refused);
		return reason_set(why, -err, "%s", refused.text[0] ? refused.text : strerror(-err));
	}
	log_info("node %u (%s) is up", id, address);
	request_reply(r, NULL, NULL, 0);
	return 0;
}

static int handle_beat(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_beat *b = r->body;
	uint32_t id = le32_get(b->node_id);
	struct nodes *n = d->nodes;
	int err = check_head(d, why);

	if (err)
		return err;
	pthread_mutex_lock(&n->lock);
	err = check_node_locked(n, id, &b->node, why);
	if (!err &&
	    (entry_state(&n->entries[id]) != WIRE_NODE_UP || n->entries[id].session != session_number(r->session)))
		err = reason_set(why, ENOTCONN, "node %u is not registered", id);
	if (!err)
		beat_locked(&n->entries[id], b);
	pthread_mutex_unlock(&n->lock);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static int handle_leave(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_leave *body = r->body;
	uint32_t id = le32_get(body->node_id);
	struct nodes *n = d->nodes;
	bool left = false;
	int err = check_head(d, why);

	if (err)
		return err;
	pthread_mutex_lock(&n->lock);
	if (id && id <= SLAB_NODES_MAX && n->entries[id].session == session_number(r->session)) {
		entry_set_state(&n->entries[id], WIRE_NODE_LEFT);
		left = true;
	}
	pthread_mutex_unlock(&n->lock);
	if (!left)
		return reason_set(why, ENOTCONN, "node %u is not registered", id);
	log_info("node %u has left", id);
	request_reply(r, NULL, NULL, 0);
	return 0;
}

static int handle_nodes(struct daemon *d, struct request *r, struct reason *why)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	size_t n;
	int err = check_head(d, why);

	if (!err)
		err = nodes_snapshot(d->nodes, &nodes, &n);
	if (!err)
		request_reply(r, NULL, nodes, n * sizeof(*nodes));
	return err;
}

/* The state stays until the beats have been missed: a connection may be made anew at once. */
static void nodes_session_end(struct daemon *d, struct session *s)
{
	struct nodes *n = d->nodes;

	if (!n)
		return;
	pthread_mutex_lock(&n->lock);
	for (uint32_t id = 1; id <= SLAB_NODES_MAX; id++)
		if (n->entries[id].session == session_number(s))
			n->entries[id].session = 0;
	pthread_mutex_unlock(&n->lock);
}

static const struct handler handlers[] = {
	{ WIRE_JOIN, true, handle_join },    { WIRE_REGISTER, true, handle_register },
	{ WIRE_BEAT, false, handle_beat },   { WIRE_LEAVE, false, handle_leave },
	{ WIRE_NODES, false, handle_nodes }, { 0 },
};

const struct module nodes_module = { "nodes", handlers, nodes_session_end, NULL, NULL };

int nodes_snapshot(struct nodes *n, struct wire_node **ret, size_t *ret_n)
{
	struct wire_node *copy = calloc(SLAB_NODES_MAX, sizeof(*copy));
	uint64_t now;
	size_t count = 0;

	if (!copy)
		return -ENOMEM;
	refresh_self(n);
	pthread_mutex_lock(&n->lock);
	now = time_mono_ns();
	for (uint32_t id = 1; id <= SLAB_NODES_MAX; id++) {
		const struct entry *e = &n->entries[id];
		uint64_t age_ms = e->beat_ns ? (now - e->beat_ns) / 1000000 : UINT32_MAX;
		if (!e->node.node_id.raw)
			continue;
		copy[count] = e->node;
		copy[count++].beat_age_ms = le32_of((uint32_t)MIN(age_ms, UINT32_MAX));
	}
	pthread_mutex_unlock(&n->lock);
	*ret = copy;
	*ret_n = count;
	return 0;
}

size_t nodes_place(struct nodes *n, uint32_t near, uint32_t ret_ids[SLAB_NODES_MAX])
{
	uint32_t up[SLAB_NODES_MAX];
	size_t n_up = 0, first = 0, at = 0;

	pthread_mutex_lock(&n->lock);
	for (uint32_t id = 1; id <= SLAB_NODES_MAX; id++)
		if (entry_state(&n->entries[id]) == WIRE_NODE_UP)
			up[n_up++] = id;
	if (n_up)
		first = n->turn % n_up;
	for (size_t i = 0; i < n_up; i++)
		if (up[i] == near)
			first = i;
	if (n_up && up[first] != near)
		n->turn++;
	pthread_mutex_unlock(&n->lock);
	if (n_up)
		ret_ids[at++] = up[first];
	for (size_t i = 0; i < n_up; i++)
		if (i != first)
			ret_ids[at++] = up[i];
	return n_up;
}

static void *nodes_run(void *arg)
{
	struct nodes *n = arg;
	unsigned pause_ms = n->is_head ? TICK_MS : TICK_MS / 2;
	struct timespec ts;

	for (;;) {
		bool stop;
		if (n->is_head)
			find_silent(n);
		else
			nodes_beat(n, &pause_ms);
		clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_nsec += (long)(pause_ms % 1000) * 1000000;
		ts.tv_sec += pause_ms / 1000 + ts.tv_nsec / 1000000000;
		ts.tv_nsec %= 1000000000;
		pthread_mutex_lock(&n->lock);
		while (!n->stop && pthread_cond_timedwait(&n->changed, &n->lock, &ts) != ETIMEDOUT)
			;
		stop = n->stop;
		pthread_mutex_unlock(&n->lock);
		if (stop)
			return NULL;
	}
}

int nodes_new(struct daemon *d, struct nodes **ret, struct reason *why)
{
	struct nodes *n = calloc(1, sizeof(*n));
	pthread_condattr_t attr;
	int err;

	if (!n)
		return reason_set(why, ENOMEM, "out of memory");
	n->d = d;
	n->is_head = d->sb.is_head;
	pthread_mutex_init(&n->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&n->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (n->is_head) {
		entry_new_locked(n, d->sb.node_id, &d->sb.node, d->sb.listen);
		entry_set_state(&n->entries[d->sb.node_id], WIRE_NODE_UP);
	}
	err = n->is_head ? load_nodes(n) : nodes_new_client(n);
	if (err)
		reason_set(why, -err, "the table of nodes: %s", strerror(-err));
	else if (!n->is_head)
		err = lineage_begin(d->store_fd, &d->incarnation, &n->lineage, why);
	if (err) {
		nodes_free(n);
		return err;
	}
	*ret = n;
	return 0;
}

/* The head's address may have changed: port 0 takes another port at each start. */
static int announce_self(struct nodes *n)
{
	struct daemon *d = n->d;
	struct reason why;
	int err = meta_node_address(d->meta, d->sb.node_id, &d->sb.node, d->address, &why);

	if (err) {
		log_error("%s", why.text);
		return err;
	}
	pthread_mutex_lock(&n->lock);
	entry_new_locked(n, d->sb.node_id, &d->sb.node, d->address);
	pthread_mutex_unlock(&n->lock);
	return 0;
}

int nodes_start(struct nodes *n)
{
	int err = n->is_head ? announce_self(n) : 0;

	if (!err)
		err = -pthread_create(&n->thread, NULL, nodes_run, n);
	n->has_thread = !err;
	return err;
}

void nodes_free(struct nodes *n)
{
	if (!n)
		return;
	client_free(n->client);
	pthread_cond_destroy(&n->changed);
	pthread_mutex_destroy(&n->lock);
	free(n);
}
