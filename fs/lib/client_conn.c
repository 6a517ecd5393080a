/* One connection of a client: its thread connects, says HELLO, and reads until the connection is lost. */
#include "client_internal.h"

#include <signal.h>
#include <stdio.h>

#define STACK_BYTES (256u << 10)
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define GREETING_MAX 512

/* ---- sending ---- */

int client_conn_send(struct conn *k, uint64_t epoch, struct iovec *iov, int n_iov)
{
	int err = -ECONNRESET;

	pthread_mutex_lock(&k->send_lock);
	if (k->transport && k->epoch == epoch) {
		err = transport_send(k->transport, iov, n_iov, -1);
		if (err)
			transport_shutdown(k->transport);
	}
	pthread_mutex_unlock(&k->send_lock);
	conn_flush(k);
	return err;
}

void conn_cancel_locked(struct conn *k, uint64_t id)
{
	unsigned n = atomic_load(&k->n_cancels);

	if (n == CLIENT_CANCELS_MAX)
		return;
	k->cancels[n] = id;
	atomic_store(&k->n_cancels, n + 1);
}

static unsigned take_cancels(struct conn *k, uint64_t ret[CLIENT_CANCELS_MAX])
{
	unsigned n;

	pthread_mutex_lock(&k->client->lock);
	n = atomic_load(&k->n_cancels);
	memcpy(ret, k->cancels, n * sizeof(*ret));
	atomic_store(&k->n_cancels, 0);
	pthread_mutex_unlock(&k->client->lock);
	return n;
}

static void send_cancels(struct conn *k)
{
	struct {
		struct wire_header h;
		struct wire_cancel body;
	} frames[CLIENT_CANCELS_MAX];
	uint64_t ids[CLIENT_CANCELS_MAX];
	unsigned n = take_cancels(k, ids);
	struct iovec iov = { frames, n * sizeof(frames[0]) };

	for (unsigned i = 0; i < n; i++) {
		wire_request(&frames[i].h, WIRE_CANCEL, 0, sizeof(struct wire_cancel), 0);
		frames[i].body.id = le64_of(ids[i]);
	}
	if (n && k->transport && transport_send(k->transport, &iov, 1, -1))
		transport_shutdown(k->transport);
}

/* Never waits for a sender at work: whoever holds the send lock looks again after giving it back. */
void conn_flush(struct conn *k)
{
	while (atomic_load(&k->n_cancels) > 0 && !pthread_mutex_trylock(&k->send_lock)) {
		send_cancels(k);
		pthread_mutex_unlock(&k->send_lock);
	}
}

void conn_cut_locked(struct conn *k, uint64_t epoch)
{
	if (!k->transport || k->epoch != epoch)
		return;
	k->state = CONN_ENDING;
	transport_shutdown(k->transport);
}

/* ---- connecting ---- */

static int refused(struct client *c, struct transport *t, const struct wire_header *h, struct reason *why)
{
	char text[WIRE_REASON_MAX];
	size_t len = (size_t)le64_get(h->payload_bytes);
	int err = len ? transport_receive(t, text, len, NULL) : 0;

	if (err)
		return err;
	return reason_set(why, (int)le32_get(h->status), "%.100s: %.*s", c->config.address, (int)len, text);
}

static int say_hello(struct client *c, struct transport *t, struct wire_hello_reply *ret, struct reason *why)
{
	size_t len = strnlen(c->config.name, GREETING_MAX);
	struct wire_header h;
	struct iovec iov[] = { { &h, sizeof(h) },
			       { &c->config.hello, sizeof(c->config.hello) },
			       { (void *)(uintptr_t)c->config.name, len } };
	int err;

	wire_request(&h, WIRE_HELLO, 0, sizeof(c->config.hello), len);
	err = transport_send(t, iov, ARRAY_LEN(iov), -1);
	if (!err)
		err = transport_receive(t, &h, sizeof(h), NULL);
	if (!err)
		err = wire_check(&h, why);
	if (err)
		return err;
	if (le16_get(h.type) != WIRE_HELLO || !(le32_get(h.flags) & WIRE_REPLY) || le64_get(h.id))
		return reason_set(why, EPROTO, "%.200s: did not answer HELLO", c->config.address);
	if (le32_get(h.status))
		return refused(c, t, &h, why);
	return transport_receive(t, ret, sizeof(*ret), NULL);
}

static int conn_open(struct conn *k, struct transport **ret, struct wire_hello_reply *ret_hello, struct reason *why)
{
	struct client *c = k->client;
	unsigned ms = c->config.timeout_ms;
	int err;

	if (client_is_local(c))
		err = transport_unix_connect(c->config.address + strlen("unix:"), ret, why);
	else
		err = transport_tcp_connect(c->config.address, c->key, ms, ret, why);
	if (err)
		return err;
	err = transport_limit(*ret, ms, ms);
	if (!err)
		err = say_hello(c, *ret, ret_hello, why);
	if (!err)
		err = transport_limit(*ret, ms, 0);
	if (!err)
		return 0;
	transport_free(*ret);
	if (err == -ENODATA)
		err = -ECONNRESET;
	if (!why->text[0])
		reason_set(why, -err, "%.200s: HELLO: %s", c->config.address, strerror(-err));
	return err;
}

static void note_lost_locked(struct conn *k)
{
	if (k->index == 0 && !k->client->lost_ns)
		k->client->lost_ns = time_mono_ns();
}

static void conn_failed(struct conn *k, int err, const struct reason *why)
{
	struct client *c = k->client;

	pthread_mutex_lock(&c->lock);
	if (err == -EACCES && c->losses) /* it took our key before: it died in the middle of the exchange */
		err = -ECONNRESET;
	k->state = CONN_DOWN;
	note_lost_locked(k);
	k->failures++;
	k->err = err;
	k->why = *why;
	k->failed_ns = time_mono_ns();
	k->retry_ns = k->failed_ns + k->backoff_ms * UINT64_C(1000000);
	k->backoff_ms = MIN(2 * k->backoff_ms, (unsigned)BACKOFF_MAX_MS);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static void conn_made(struct conn *k, struct transport *t, const struct wire_hello_reply *hello)
{
	struct client *c = k->client;

	pthread_mutex_lock(&k->send_lock);
	pthread_mutex_lock(&c->lock);
	k->transport = t;
	k->epoch++;
	k->state = CONN_UP;
	c->lost_ns = k->index == 0 ? 0 : c->lost_ns;
	k->hello = *hello;
	k->keep = k->index == 0 && c->config.push;
	k->backoff_ms = BACKOFF_MIN_MS;
	if (c->stopping)
		transport_shutdown(t);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&k->send_lock);
}

static void fail_calls_locked(struct conn *k, const struct reason *why)
{
	int err = k->client->stopping ? -ECANCELED : -ECONNRESET;
	size_t pos = 0;
	uint64_t id;
	void *value;

	while (map_next(&k->calls, &pos, &id, &value)) {
		struct call_slot *s = value;
		map_del(&k->calls, id);
		reason_set(&s->call->why, -err, "%.160s: the connection was lost: %.120s", k->client->config.address,
			   why->text);
		slot_finish_locked(s, err);
	}
}

static void conn_lost(struct conn *k, const struct reason *why)
{
	struct client *c = k->client;
	struct transport *t = k->transport;

	transport_shutdown(t); /* whoever is sending stops, and gives the send lock back */
	pthread_mutex_lock(&k->send_lock);
	pthread_mutex_lock(&c->lock);
	k->transport = NULL;
	k->epoch++;
	k->state = CONN_DOWN;
	note_lost_locked(k);
	atomic_store(&k->n_cancels, 0);
	k->retry_ns = time_mono_ns() + k->backoff_ms * UINT64_C(1000000);
	c->losses++;
	c->sent += t->sent;
	c->received += t->received;
	fail_calls_locked(k, why);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&k->send_lock);
	transport_free(t);
}

static void conn_live(struct conn *k)
{
	const struct client_config *config = &k->client->config;
	struct wire_hello_reply hello;
	struct reason why = { "" };
	struct transport *t;
	int err = conn_open(k, &t, &hello, &why);

	if (err) {
		conn_failed(k, err, &why);
		return;
	}
	if (k->index == 0 && config->state)
		config->state(config->arg, true, &hello);
	conn_made(k, t, &hello);
	while (!err)
		err = conn_read_frame(k, &why);
	if (!why.text[0])
		reason_set(&why, -err, "%s", err == -ENODATA ? "closed by the peer" : strerror(-err));
	conn_lost(k, &why);
	if (k->index == 0 && config->state)
		config->state(config->arg, false, NULL);
}

/* False when the client is being closed. */
static bool wait_wanted_locked(struct conn *k)
{
	struct client *c = k->client;

	while (!c->stopping && !k->wanted && !(k->keep && time_mono_ns() >= k->retry_ns))
		client_wait_locked(c, &k->wake, k->keep ? k->retry_ns : UINT64_MAX);
	return !c->stopping;
}

static void *conn_main(void *arg)
{
	struct conn *k = arg;
	struct client *c = k->client;

	pthread_mutex_lock(&c->lock);
	while (wait_wanted_locked(k)) {
		k->wanted = false;
		k->state = CONN_CONNECTING;
		pthread_mutex_unlock(&c->lock);
		conn_live(k);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* Signals are for the program's own threads. */
static int start_thread(struct conn *k)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	err = pthread_create(&k->thread, &attr, conn_main, k);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

int conn_want_locked(struct conn *k)
{
	if (!k->has_thread) {
		int err = start_thread(k);
		if (err)
			return err;
		k->has_thread = true;
	}
	k->wanted = true;
	pthread_cond_signal(&k->wake);
	return 0;
}

void conn_init(struct conn *k, struct client *c, unsigned index)
{
	k->client = c;
	k->index = index;
	k->backoff_ms = BACKOFF_MIN_MS;
	pthread_mutex_init(&k->send_lock, NULL);
	client_cond_init(&k->wake);
	map_init(&k->calls);
}

void conn_fini(struct conn *k)
{
	if (k->has_thread)
		pthread_join(k->thread, NULL);
	pthread_mutex_destroy(&k->send_lock);
	pthread_cond_destroy(&k->wake);
	map_fini(&k->calls);
}
