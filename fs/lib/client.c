#include "client_internal.h"

#include <assert.h>
#include <limits.h>
#include <time.h>

#define LET_GO_NS 100000000 /* a reply that is just coming in may end by itself for so long after it was given up */
#define LONG_LOST_NS                                                                                                   \
	UINT64_C(1000000000) /* a peer that has been away for longer than a timeout is waited for no longer than this */
#define ATTEMPT_NS 100000000 /* between attempts to connect to a peer that is away */
#define DEFAULT_TIMEOUT_MS 10000
#define TIMEOUT_MAX_MS 3600000 /* of connecting */

/* ---- waiting ---- */

void client_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

int client_wait_locked(struct client *c, pthread_cond_t *cond, uint64_t until_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u) };

	if (until_ns == UINT64_MAX)
		return -pthread_cond_wait(cond, &c->lock);
	return -pthread_cond_timedwait(cond, &c->lock, &ts);
}

static void enter_locked(struct client *c)
{
	c->busy++;
}

static void leave_locked(struct client *c)
{
	if (--c->busy == 0 && c->stopping)
		pthread_cond_broadcast(&c->changed);
}

static void leave(struct client *c)
{
	pthread_mutex_lock(&c->lock);
	leave_locked(c);
	pthread_mutex_unlock(&c->lock);
}

/* ---- finding a connection ---- */

static bool failed_lately(const struct conn *k, uint64_t now)
{
	return k->state == CONN_DOWN && k->failures && now - k->failed_ns < ATTEMPT_NS;
}

/* The one with the fewest requests in flight.  While all are at work, another one is opened for those to come. */
static struct conn *least_busy_locked(struct client *c)
{
	struct conn *best = &c->conns[0], *spare = NULL;

	for (unsigned i = 1; i < c->config.n_connections; i++) {
		struct conn *k = &c->conns[i];
		if (k->state == CONN_UP && map_count(&k->calls) < map_count(&best->calls))
			best = k;
		else if (k->state == CONN_DOWN && !k->wanted && !spare && !failed_lately(k, time_mono_ns()))
			spare = k;
	}
	if (spare && map_count(&best->calls) > 0)
		conn_want_locked(spare);
	return best;
}

/* Nothing is sent before the first connection stands: it carries the pushes that make caching right. */
static int ready_locked(struct client *c, uint64_t deadline_ns, struct conn **ret, struct reason *why)
{
	struct conn *first = &c->conns[0];
	unsigned failures = first->failures;
	uint64_t now = time_mono_ns();

	if (c->lost_ns && now - c->lost_ns > c->config.timeout_ms * UINT64_C(1000000))
		deadline_ns = MIN(deadline_ns, now + LONG_LOST_NS);
	while (!c->stopping && first->state != CONN_UP) {
		int err = 0;
		if (first->failures != failures || failed_lately(first, time_mono_ns())) {
			*why = first->why;
			return first->err;
		}
		if (first->state == CONN_DOWN && !first->wanted)
			err = conn_want_locked(first);
		if (err)
			return reason_set(why, -err, "no thread to connect with: %s", strerror(-err));
		if (client_wait_locked(c, &c->changed, deadline_ns) == -ETIMEDOUT && first->state != CONN_UP)
			return reason_set(why, ETIMEDOUT, "%.200s: not connected in time", c->config.address);
	}
	if (c->stopping)
		return reason_set(why, ECANCELED, "the client is being closed");
	*ret = least_busy_locked(c);
	return 0;
}

/* ---- slots ---- */

static struct call_slot *slot_take_locked(struct client *c)
{
	struct call_slot *s = c->free_slots;

	if (s) {
		c->free_slots = s->next;
		return s;
	}
	s = calloc(1, sizeof(*s));
	if (s)
		client_cond_init(&s->done);
	return s;
}

static void slot_put_locked(struct client *c, struct call_slot *s)
{
	s->call = NULL;
	s->next = c->free_slots;
	c->free_slots = s;
}

static int slot_new_locked(struct conn *k, struct call *call, uint64_t deadline_ns)
{
	struct client *c = k->client;
	struct call_slot *s = slot_take_locked(c);
	int err;

	if (!s)
		return -ENOMEM;
	s->call = call;
	s->conn = k;
	s->id = ++c->last_id;
	s->epoch = k->epoch;
	s->started_ns = time_mono_ns();
	s->deadline_ns = deadline_ns;
	s->state = SLOT_WAITING;
	s->err = s->given_up = 0;
	err = map_put(&k->calls, s->id, s);
	if (err)
		slot_put_locked(c, s);
	else
		call->slot = s;
	return err;
}

void slot_finish_locked(struct call_slot *s, int err)
{
	s->state = SLOT_DONE;
	s->err = err;
	pthread_cond_signal(&s->done);
}

static void slot_give_up_locked(struct call_slot *s, int err)
{
	if (s->state == SLOT_WAITING) {
		map_del(&s->conn->calls, s->id);
		slot_finish_locked(s, err);
	} else if (s->state == SLOT_RECEIVING && !s->given_up) {
		s->given_up = err;
		s->let_go_ns = time_mono_ns() + LET_GO_NS;
		pthread_cond_signal(&s->done);
	}
}

static uint64_t slot_next_ns(const struct call_slot *s)
{
	return s->given_up ? s->let_go_ns : s->deadline_ns;
}

/* A peer that has sent nothing at all since the request is taken for dead, so that the next call connects anew. */
static void slot_expire_locked(struct call_slot *s)
{
	bool silent = atomic_load_explicit(&s->conn->heard_ns, memory_order_relaxed) < s->started_ns;

	if (s->given_up) {
		s->let_go_ns = UINT64_MAX;
		conn_cut_locked(s->conn, s->epoch);
		return;
	}
	reason_set(&s->call->why, ETIMEDOUT, "%.200s: no answer to %s in time", s->conn->client->config.address,
		   wire_row(s->call->type)->name);
	if (s->state == SLOT_WAITING && silent)
		conn_cut_locked(s->conn, s->epoch);
	slot_give_up_locked(s, -ETIMEDOUT);
}

/* ---- calls ---- */

bool client_away(int err)
{
	switch (-err) {
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case ENOTCONN:
	case EPIPE:
	case ESHUTDOWN:
		return true;
	default:
		return false;
	}
}

static uint64_t deadline_of(const struct client *c, unsigned timeout_ms)
{
	if (timeout_ms == UINT_MAX)
		return UINT64_MAX;
	return time_mono_ns() + (timeout_ms ? timeout_ms : c->config.timeout_ms) * UINT64_C(1000000);
}

static int check_call(const struct call *call)
{
	const struct wire_row *row = wire_row(call->type);
	uint64_t total = 0;

	assert(row && call->body_bytes == row->request_body);
	for (size_t i = 0; i < ARRAY_LEN(call->payload); i++)
		total += call->payload_bytes[i];
	return total > row->request_payload_max ? -EMSGSIZE : 0;
}

static void send_call(struct conn *k, uint64_t id, uint64_t epoch, const struct call *call)
{
	struct wire_header h;
	struct iovec iov[2 + ARRAY_LEN(call->payload)] = {
		{ &h, sizeof(h) },
		{ (void *)(uintptr_t)call->body, call->body_bytes },
	};
	uint64_t total = 0;

	for (size_t i = 0; i < ARRAY_LEN(call->payload); i++) {
		iov[2 + i] = (struct iovec){ (void *)(uintptr_t)call->payload[i], call->payload_bytes[i] };
		total += call->payload_bytes[i];
	}
	wire_request(&h, call->type, id, (uint32_t)call->body_bytes, total);
	h.once = le64_of(call->once);
	client_conn_send(k, epoch, iov, ARRAY_LEN(iov)); /* when it fails the connection ends, and with it the call */
}

int client_start(struct client *c, struct call *call)
{
	uint64_t deadline_ns = deadline_of(c, call->timeout_ms), id = 0, epoch = 0;
	struct conn *k = NULL;
	int err = check_call(call);

	call->slot = NULL;
	call->reply_bytes = 0;
	call->reply_fd = -1;
	if (call->alloc)
		call->reply_payload = NULL;
	if (err)
		return reason_set(&call->why, -err, "%s: the payload is too long", wire_row(call->type)->name);
	pthread_mutex_lock(&c->lock);
	enter_locked(c);
	err = ready_locked(c, deadline_ns, &k, &call->why);
	if (!err)
		err = slot_new_locked(k, call, deadline_ns);
	if (err) {
		leave_locked(c);
	} else {
		id = call->slot->id;
		epoch = k->epoch;
	}
	pthread_mutex_unlock(&c->lock);
	if (!err)
		send_call(k, id, epoch, call);
	return err;
}

static bool wait_until(struct client *c, struct call *call, uint64_t until_ns, int *ret_err)
{
	struct call_slot *s = call->slot;
	bool over;

	assert(s);
	pthread_mutex_lock(&c->lock);
	while (s->state != SLOT_DONE) {
		uint64_t now = time_mono_ns();
		if (now >= slot_next_ns(s))
			slot_expire_locked(s);
		else if (now >= until_ns)
			break;
		else
			client_wait_locked(c, &s->done, MIN(slot_next_ns(s), until_ns));
	}
	over = s->state == SLOT_DONE;
	if (over) {
		*ret_err = s->err;
		call->slot = NULL;
		slot_put_locked(c, s);
		leave_locked(c);
	}
	pthread_mutex_unlock(&c->lock);
	return over;
}

bool client_wait_for(struct client *c, struct call *call, unsigned ms, int *ret_err)
{
	return wait_until(c, call, ms ? time_mono_ns() + ms * UINT64_C(1000000) : 0, ret_err);
}

int client_wait(struct client *c, struct call *call)
{
	int err = 0;

	wait_until(c, call, UINT64_MAX, &err);
	return err;
}

int client_call(struct client *c, struct call *call)
{
	int err = client_start(c, call);

	return err ? err : client_wait(c, call);
}

void client_cancel(struct client *c, struct call *call)
{
	struct call_slot *s;
	struct conn *k = NULL;

	pthread_mutex_lock(&c->lock);
	s = call->slot;
	if (s && s->state != SLOT_DONE && !s->given_up) {
		if (s->state == SLOT_WAITING && s->epoch == s->conn->epoch) {
			k = s->conn;
			conn_cancel_locked(k, s->id);
			enter_locked(c);
		}
		reason_set(&call->why, ECANCELED, "cancelled");
		slot_give_up_locked(s, -ECANCELED);
	}
	pthread_mutex_unlock(&c->lock);
	if (!k)
		return;
	conn_flush(k);
	leave(c);
}

uint64_t client_last_id(const struct client *c)
{
	struct client *m = (struct client *)(uintptr_t)c;

	pthread_mutex_lock(&m->lock);
	uint64_t id = c->last_id;
	pthread_mutex_unlock(&m->lock);
	return id;
}

void client_push_done(struct client *c, uint64_t id)
{
	AUTO_FREE struct push *p = NULL;
	struct wire_header h;

	pthread_mutex_lock(&c->lock);
	p = map_del(&c->pushes, id);
	enter_locked(c);
	pthread_mutex_unlock(&c->lock);
	if (p) {
		wire_reply(&h, WIRE_INVAL, p->peer_id, 0, 0, 0);
		client_conn_send(p->conn, p->epoch, &(struct iovec){ &h, sizeof(h) }, 1);
	}
	leave(c);
}

/* ---- what is known of the peer ---- */

bool client_connected(const struct client *c)
{
	struct client *m = (struct client *)(uintptr_t)c;

	pthread_mutex_lock(&m->lock);
	bool is = c->conns[0].state == CONN_UP;
	pthread_mutex_unlock(&m->lock);
	return is;
}

bool client_unreachable(const struct client *c)
{
	struct client *m = (struct client *)(uintptr_t)c;

	pthread_mutex_lock(&m->lock);
	bool is = c->conns[0].state != CONN_UP && (c->losses || c->conns[0].failures);
	pthread_mutex_unlock(&m->lock);
	return is;
}

uint64_t client_lost_ns(const struct client *c)
{
	struct client *m = (struct client *)(uintptr_t)c;

	pthread_mutex_lock(&m->lock);
	uint64_t since = c->lost_ns;
	pthread_mutex_unlock(&m->lock);
	return since;
}

uint64_t client_losses(const struct client *c)
{
	struct client *m = (struct client *)(uintptr_t)c;

	pthread_mutex_lock(&m->lock);
	uint64_t n = c->losses;
	pthread_mutex_unlock(&m->lock);
	return n;
}

int client_hello(struct client *c, struct wire_hello_reply *ret, struct reason *why)
{
	struct reason cause = { "" };
	struct conn *k;
	int err;

	pthread_mutex_lock(&c->lock);
	enter_locked(c);
	err = ready_locked(c, deadline_of(c, 0), &k, &cause);
	if (!err)
		*ret = c->conns[0].hello;
	leave_locked(c);
	pthread_mutex_unlock(&c->lock);
	return err ? reason_set(why, -err, "%s", cause.text) : 0;
}

void client_traffic(const struct client *c, uint64_t *ret_sent, uint64_t *ret_received)
{
	struct client *m = (struct client *)(uintptr_t)c;

	pthread_mutex_lock(&m->lock);
	*ret_sent = c->sent;
	*ret_received = c->received;
	for (unsigned i = 0; i < c->config.n_connections; i++) {
		const struct transport *t = c->conns[i].transport;
		*ret_sent += t ? __atomic_load_n(&t->sent, __ATOMIC_RELAXED) : 0;
		*ret_received += t ? __atomic_load_n(&t->received, __ATOMIC_RELAXED) : 0;
	}
	pthread_mutex_unlock(&m->lock);
}

bool client_is_local(const struct client *c)
{
	return !strncmp(c->config.address, "unix:", 5);
}

/* ---- life ---- */

static void client_destroy(struct client *c)
{
	struct call_slot *s;
	size_t pos = 0;
	uint64_t id;
	void *push;

	for (unsigned i = 0; i < CLIENT_CONNS_MAX; i++)
		conn_fini(&c->conns[i]);
	while ((s = c->free_slots)) {
		c->free_slots = s->next;
		pthread_cond_destroy(&s->done);
		free(s);
	}
	while (map_next(&c->pushes, &pos, &id, &push))
		free(push);
	map_fini(&c->pushes);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free((char *)(uintptr_t)c->config.address);
	free((char *)(uintptr_t)c->config.name);
	free(c);
}

int client_new(const struct client_config *config, struct client **ret)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->config = *config;
	c->config.address = strdup(config->address);
	c->config.name = strdup(config->name ? config->name : "");
	c->config.key = NULL;
	if (config->key) {
		memcpy(c->key, config->key, sizeof(c->key));
		c->config.key = c->key;
	}
	c->config.n_connections = MAX(1u, MIN(config->n_connections, (unsigned)CLIENT_CONNS_MAX));
	c->config.timeout_ms = MIN(config->timeout_ms ? config->timeout_ms : DEFAULT_TIMEOUT_MS, TIMEOUT_MAX_MS);
	pthread_mutex_init(&c->lock, NULL);
	client_cond_init(&c->changed);
	map_init(&c->pushes);
	for (unsigned i = 0; i < CLIENT_CONNS_MAX; i++)
		conn_init(&c->conns[i], c, i);
	if (!c->config.address || !c->config.name) {
		client_destroy(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	for (unsigned i = 0; i < CLIENT_CONNS_MAX; i++) {
		conn_cut_locked(&c->conns[i], c->conns[i].epoch);
		pthread_cond_signal(&c->conns[i].wake);
	}
	pthread_cond_broadcast(&c->changed);
	while (c->busy > 0)
		client_wait_locked(c, &c->changed, UINT64_MAX);
	pthread_mutex_unlock(&c->lock);
	client_destroy(c);
}
