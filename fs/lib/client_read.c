/* The reading half of a connection: replies go straight into the buffers of their calls, pushes to the callback. */
#include "client_internal.h"

#define PIECE_BYTES (256u << 10) /* received at once; between pieces the reader looks whether the call was given up */
#define DRAIN_BYTES (16u << 10)

static int receive(struct conn *k, void *buf, size_t len, int *ret_fd)
{
	int err = len ? transport_receive(k->transport, buf, len, ret_fd) : 0;

	if (!err)
		atomic_store_explicit(&k->heard_ns, time_mono_ns(), memory_order_relaxed);
	return err;
}

static int drain(struct conn *k, uint64_t len)
{
	uint8_t scratch[DRAIN_BYTES];
	int err = 0;

	while (!err && len > 0) {
		size_t n = (size_t)MIN(len, sizeof(scratch));
		err = receive(k, scratch, n, NULL);
		len -= n;
	}
	return err;
}

/* How a call ends: what it gets when it succeeds (dropped when it does not), or why it failed. */
struct result {
	void *payload;
	size_t len;
	int fd;
	bool owned; /* the payload was malloc'ed here */
	struct reason why;
};

static void result_drop(struct result *r)
{
	if (r->owned)
		free(r->payload);
	if (r->fd >= 0)
		close(r->fd);
}

static void call_end(struct conn *k, struct call_slot *s, int err, struct result *r)
{
	pthread_mutex_lock(&k->client->lock);
	if (s->given_up)
		err = s->given_up;
	else if (err)
		s->call->why = r->why;
	if (!err) {
		s->call->reply_bytes = r->len;
		s->call->reply_fd = r->fd;
		if (r->owned)
			s->call->reply_payload = r->payload;
	}
	slot_finish_locked(s, err);
	pthread_mutex_unlock(&k->client->lock);
	if (err)
		result_drop(r);
}

static bool call_given_up(struct conn *k, const struct call_slot *s)
{
	pthread_mutex_lock(&k->client->lock);
	bool is = s->given_up != 0;
	pthread_mutex_unlock(&k->client->lock);
	return is;
}

static int loss_of(struct conn *k)
{
	pthread_mutex_lock(&k->client->lock);
	bool stopping = k->client->stopping;
	k->state = CONN_ENDING;
	pthread_mutex_unlock(&k->client->lock);
	return stopping ? -ECANCELED : -ECONNRESET;
}

static int call_lost(struct conn *k, struct call_slot *s, int err, struct result *r)
{
	reason_set(&r->why, ECONNRESET, "%.200s: the connection was lost: %s", k->client->config.address,
		   strerror(err == -ENODATA ? ECONNRESET : -err));
	call_end(k, s, loss_of(k), r);
	return err;
}

static int read_error(struct conn *k, struct call_slot *s, const struct wire_header *h)
{
	struct result r = { .fd = -1 };
	char text[WIRE_REASON_MAX];
	size_t len = (size_t)le64_get(h->payload_bytes);
	int status = (int)le32_get(h->status), err = receive(k, text, len, NULL);

	if (err)
		return call_lost(k, s, err, &r);
	call_end(k, s, reason_set(&r.why, status, "%.*s", (int)len, text), &r);
	return 0;
}

static int make_room(const struct call *call, size_t len, struct result *ret)
{
	ret->len = len;
	ret->payload = call->reply_payload;
	if (!call->alloc)
		return len > call->reply_cap ? -EMSGSIZE : 0;
	ret->payload = len ? malloc(len) : NULL;
	ret->owned = true;
	return len && !ret->payload ? -ENOMEM : 0;
}

static int read_payload(struct conn *k, struct call_slot *s, struct result *r)
{
	size_t done = 0;
	int err = 0;

	while (!err && done < r->len) {
		size_t left = r->len - done, n = MIN(left, (size_t)PIECE_BYTES);
		if (call_given_up(k, s)) {
			call_end(k, s, -ECANCELED, r);
			return drain(k, left);
		}
		err = receive(k, (char *)r->payload + done, n, NULL);
		done += n;
	}
	if (err)
		return call_lost(k, s, err, r);
	call_end(k, s, 0, r);
	return 0;
}

static int read_result(struct conn *k, struct call_slot *s, const struct wire_header *h, int fd)
{
	struct result r = { .fd = fd };
	uint8_t unwanted[WIRE_BODY_MAX];
	size_t len = (size_t)le64_get(h->payload_bytes);
	int err = receive(k, s->call->reply_body ? s->call->reply_body : unwanted, le32_get(h->body_bytes), NULL);

	if (err)
		return call_lost(k, s, err, &r);
	err = make_room(s->call, len, &r);
	if (!err)
		return read_payload(k, s, &r);
	reason_set(&r.why, -err, "%s: no room for a reply of %zu bytes", wire_row(s->call->type)->name, len);
	call_end(k, s, err, &r);
	return drain(k, len);
}

/* -ENOENT: nobody waits for it any more. */
static int claim(struct conn *k, const struct wire_header *h, struct call_slot **ret, struct reason *why)
{
	uint64_t id = le64_get(h->id);
	struct call_slot *s;
	int err = 0;

	pthread_mutex_lock(&k->client->lock);
	s = map_get(&k->calls, id);
	if (!s) {
		err = -ENOENT;
	} else if (s->call->type != le16_get(h->type)) {
		err = reason_set(why, EPROTO, "a reply of another type than its request");
	} else {
		map_del(&k->calls, id);
		s->state = SLOT_RECEIVING;
		*ret = s;
	}
	pthread_mutex_unlock(&k->client->lock);
	return err;
}

static int read_reply(struct conn *k, const struct wire_header *h, int fd, struct reason *why)
{
	struct call_slot *s = NULL;
	int err = claim(k, h, &s, why);

	if (!err && !le32_get(h->status))
		return read_result(k, s, h, fd);
	if (fd >= 0)
		close(fd);
	if (!err)
		return read_error(k, s, h);
	return err == -ENOENT ? drain(k, le32_get(h->body_bytes) + le64_get(h->payload_bytes)) : err;
}

/* ---- pushes ---- */

static int push_new(struct conn *k, uint64_t peer_id, uint64_t *ret_id)
{
	struct client *c = k->client;
	struct push *p = malloc(sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	*p = (struct push){ .conn = k, .epoch = k->epoch, .peer_id = peer_id };
	pthread_mutex_lock(&c->lock);
	*ret_id = ++c->last_push;
	err = map_put(&c->pushes, *ret_id, p);
	pthread_mutex_unlock(&c->lock);
	if (err)
		free(p);
	return err;
}

static int read_push(struct conn *k, const struct wire_header *h, struct reason *why)
{
	const struct client_config *config = &k->client->config;
	uint8_t body[WIRE_BODY_MAX], payload[SLAB_NAME_MAX];
	size_t len = (size_t)le64_get(h->payload_bytes);
	uint64_t id;
	int err;

	if (le16_get(h->type) != WIRE_INVAL || len > sizeof(payload))
		return reason_set(why, EPROTO, "%s is not for the peer to ask", wire_row(le16_get(h->type))->name);
	err = receive(k, body, le32_get(h->body_bytes), NULL);
	if (!err)
		err = receive(k, payload, len, NULL);
	if (!err)
		err = push_new(k, le64_get(h->id), &id);
	if (err)
		return err;
	if (config->push)
		config->push(config->arg, id, h, body, payload, len);
	else
		client_push_done(k->client, id);
	return 0;
}

int conn_read_frame(struct conn *k, struct reason *why)
{
	struct wire_header h;
	int fd = -1, err = receive(k, &h, sizeof(h), &fd);

	if (err)
		return err;
	err = wire_check(&h, why);
	if (!err && (le32_get(h.flags) & WIRE_REPLY))
		return read_reply(k, &h, fd, why);
	if (fd >= 0)
		close(fd);
	return err ? err : read_push(k, &h, why);
}
