/* peer.h - a small daemon in a thread for the tests of the client: speaks the protocol, and misbehaves when it is asked to.
 *
 * What PART_READ does is chosen by the partition's index (enum peer_does).  The byte at offset o of every partition is peer_byte(o).
 */
#ifndef SLAB_UNIT_PEER_H
#define SLAB_UNIT_PEER_H

#include "transport.h"
#include "wire.h"

#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#define PEER_CONNS 64
#define PEER_HELD 64
#define PEER_NODES 4

enum peer_does {
	PEER_ANSWERS,
	PEER_HOLDS,    /* ... the answer back until RELEASES */
	PEER_RELEASES, /* ... in the reverse order, and then answers */
	PEER_FAILS,    /* ... with ENOENT and a reason */
	PEER_HALVES,   /* sends a half of the answer, the other half when `go` is set */
	PEER_CUTS,     /* ... the connection */
	PEER_GARBLES   /* ... the answer's header */
};

struct peer {
	char address[128]; /* for the client */
	bool tcp;
	const uint8_t *key;
	int listen_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	struct peer_conn *conns[PEER_CONNS];
	unsigned n_conns;
	bool stopping, refuse, go;
	uint64_t fault_after; /* new connections fail after so many bytes; 0: never */
	unsigned cancels, acks, hellos, holding;
	uint64_t last_ack;
	struct wire_node nodes[PEER_NODES];
	unsigned n_nodes, node_requests;
};

struct peer_conn {
	struct peer *peer;
	struct transport *transport;
	pthread_t thread;
	pthread_mutex_t send_lock;
	struct peer_held {
		uint64_t id, offset;
		uint32_t length;
	} held[PEER_HELD];
	unsigned n_held;
};

static inline uint8_t peer_byte(uint64_t offset)
{
	return (uint8_t)((offset * 2654435761u) >> 7);
}

static inline int peer_send(struct peer_conn *c, struct iovec *iov, int n, int fd)
{
	pthread_mutex_lock(&c->send_lock);
	int err = transport_send(c->transport, iov, n, fd);
	pthread_mutex_unlock(&c->send_lock);
	return err;
}

static inline int peer_reply(struct peer_conn *c, unsigned type, uint64_t id, int err, const void *body,
			     const void *payload, size_t len, int fd)
{
	uint32_t body_bytes = err ? 0 : wire_row(type)->reply_body;
	struct wire_header h;
	struct iovec iov[] = { { &h, sizeof(h) },
			       { (void *)(uintptr_t)body, body_bytes },
			       { (void *)(uintptr_t)payload, len } };

	wire_reply(&h, type, id, err, body_bytes, len);
	return peer_send(c, iov, 3, fd);
}

static inline int peer_send_data(struct peer_conn *c, const struct peer_held *r, bool halves)
{
	struct wire_part_read_reply body = { 0 };
	uint8_t *data = malloc(r->length + 1);
	struct wire_header h;
	size_t first = halves ? r->length / 2 : r->length;
	struct iovec iov[] = { { &h, sizeof(h) }, { &body, sizeof(body) }, { data, first } };
	int err;

	for (uint32_t i = 0; i < r->length; i++)
		data[i] = peer_byte(r->offset + i);
	wire_reply(&h, WIRE_PART_READ, r->id, 0, sizeof(body), r->length);
	err = peer_send(c, iov, 3, -1);
	if (!err && halves) {
		pthread_mutex_lock(&c->peer->lock);
		while (!c->peer->go && !c->peer->stopping)
			pthread_cond_wait(&c->peer->changed, &c->peer->lock);
		pthread_mutex_unlock(&c->peer->lock);
		err = peer_send(c, &(struct iovec){ data + first, r->length - first }, 1, -1);
	}
	free(data);
	return err;
}

static inline void peer_count(struct peer *p, unsigned *counter, unsigned n)
{
	pthread_mutex_lock(&p->lock);
	*counter += n;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static inline int peer_read(struct peer_conn *c, uint64_t id, const struct wire_part_read *body)
{
	struct peer_held r = { id, le64_get(body->offset), le32_get(body->length) };
	uint8_t garbage[sizeof(struct wire_header)] = { 1 };
	int err = 0;

	switch (le64_get(body->part.index)) {
	case PEER_HOLDS:
		c->held[c->n_held++ % PEER_HELD] = r;
		peer_count(c->peer, &c->peer->holding, 1);
		return 0;
	case PEER_RELEASES:
		while (!err && c->n_held > 0)
			err = peer_send_data(c, &c->held[--c->n_held], false);
		return err ? err : peer_send_data(c, &r, false);
	case PEER_FAILS:
		return peer_reply(c, WIRE_PART_READ, id, -ENOENT, NULL, "nothing here", 12, -1);
	case PEER_HALVES:
		return peer_send_data(c, &r, true);
	case PEER_CUTS:
		return -ECONNRESET;
	case PEER_GARBLES:
		return peer_send(c, &(struct iovec){ garbage, sizeof(garbage) }, 1, -1);
	default:
		return peer_send_data(c, &r, false);
	}
}

static inline int peer_hello(struct peer_conn *c, uint64_t id)
{
	struct wire_hello_reply hello = { .node_id = le32_of(1), .is_head = le32_of(1) };

	peer_count(c->peer, &c->peer->hellos, 1);
	if (c->peer->refuse)
		return peer_reply(c, WIRE_HELLO, id, -EPERM, NULL, "not you", 7, -1);
	return peer_reply(c, WIRE_HELLO, id, 0, &hello, NULL, 0, -1);
}

static inline int peer_open(struct peer_conn *c, uint64_t id)
{
	struct wire_part_open_reply body = { .version = le64_of(3) };
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
	    err = peer_reply(c, WIRE_PART_OPEN, id, 0, &body, NULL, 0, fd);

	close(fd);
	return err;
}

static inline int peer_nodes(struct peer_conn *c, uint64_t id)
{
	struct wire_node nodes[PEER_NODES];
	unsigned n;

	peer_count(c->peer, &c->peer->node_requests, 1);
	pthread_mutex_lock(&c->peer->lock);
	n = c->peer->n_nodes;
	memcpy(nodes, c->peer->nodes, sizeof(nodes));
	pthread_mutex_unlock(&c->peer->lock);
	return peer_reply(c, WIRE_NODES, id, 0, NULL, nodes, n * sizeof(nodes[0]), -1);
}

static inline int peer_act(struct peer_conn *c, const struct wire_header *h, const void *body)
{
	uint64_t id = le64_get(h->id);

	if (le32_get(h->flags) & WIRE_REPLY) {
		pthread_mutex_lock(&c->peer->lock);
		c->peer->last_ack = id;
		pthread_mutex_unlock(&c->peer->lock);
		peer_count(c->peer, &c->peer->acks, 1);
		return 0;
	}
	switch (le16_get(h->type)) {
	case WIRE_HELLO:
		return peer_hello(c, id);
	case WIRE_PING:
		return peer_reply(c, WIRE_PING, id, 0, NULL, NULL, 0, -1);
	case WIRE_CANCEL:
		peer_count(c->peer, &c->peer->cancels, 1);
		return 0;
	case WIRE_PART_READ:
		return peer_read(c, id, body);
	case WIRE_PART_WRITE:
		return peer_reply(c, WIRE_PART_WRITE, id, 0, NULL, NULL, 0, -1);
	case WIRE_PART_OPEN:
		return peer_open(c, id);
	case WIRE_NODES:
		return peer_nodes(c, id);
	default:
		return peer_reply(c, le16_get(h->type), id, -ENOSYS, NULL, NULL, 0, -1);
	}
}

static inline void *peer_conn_main(void *arg)
{
	struct peer_conn *c = arg;
	static __thread uint8_t payload[1 << 16];
	uint8_t body[WIRE_BODY_MAX];
	struct wire_header h;
	int err = 0;

	while (!err) {
		err = transport_receive(c->transport, &h, sizeof(h), NULL);
		if (!err)
			err = wire_check(&h, NULL);
		if (!err && le32_get(h.body_bytes))
			err = transport_receive(c->transport, body, le32_get(h.body_bytes), NULL);
		for (uint64_t left = err ? 0 : le64_get(h.payload_bytes); !err && left > 0;) {
			size_t n = (size_t)MIN(left, sizeof(payload));
			err = transport_receive(c->transport, payload, n, NULL);
			left -= n;
		}
		if (!err)
			err = peer_act(c, &h, body);
	}
	transport_shutdown(c->transport);
	return NULL;
}

static inline void peer_serve(struct peer *p, int fd)
{
	struct peer_conn *c = calloc(1, sizeof(*c));
	struct transport *t;
	int err = p->tcp ? transport_tcp_accept(fd, p->key, 2000, &t, NULL) : transport_unix_wrap(fd, "test", &t);

	pthread_mutex_lock(&p->lock);
	if (!err && p->fault_after)
		err = transport_fault_wrap(t, p->fault_after, ECONNRESET, &t);
	if (err || p->stopping || p->n_conns == PEER_CONNS) {
		transport_free(err ? NULL : t);
		free(c);
	} else {
		c->peer = p;
		c->transport = t;
		pthread_mutex_init(&c->send_lock, NULL);
		p->conns[p->n_conns++] = c;
		pthread_create(&c->thread, NULL, peer_conn_main, c);
	}
	pthread_mutex_unlock(&p->lock);
}

static inline void *peer_main(void *arg)
{
	struct peer *p = arg;
	int fd;

	while ((fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		peer_serve(p, fd);
	return NULL;
}

/* address: "unix:PATH", or HOST:PORT with port 0 for any. */
static inline void peer_start(struct peer *p, const char *address, const uint8_t *key)
{
	struct reason why = { "" };
	uint16_t port = 0;
	int err;

	*p = (struct peer){ .tcp = strncmp(address, "unix:", 5) != 0, .key = key };
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	snprintf(p->address, sizeof(p->address), "%s", address);
	if (p->tcp)
		err = transport_tcp_listen(address, &p->listen_fd, &port, &why);
	else
		err = transport_unix_listen(address + 5, &p->listen_fd, &why);
	if (p->tcp)
		snprintf(p->address, sizeof(p->address), "127.0.0.1:%u", port);
	if (!CHECK(!err))
		fprintf(stderr, "%s\n", why.text);
	pthread_create(&p->thread, NULL, peer_main, p);
}

static inline void peer_stop(struct peer *p)
{
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	for (unsigned i = 0; i < p->n_conns; i++)
		transport_shutdown(p->conns[i]->transport);
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	shutdown(p->listen_fd, SHUT_RDWR);
	pthread_join(p->thread, NULL);
	close(p->listen_fd);
	for (unsigned i = 0; i < p->n_conns; i++) {
		pthread_join(p->conns[i]->thread, NULL);
		transport_free(p->conns[i]->transport);
		pthread_mutex_destroy(&p->conns[i]->send_lock);
		free(p->conns[i]);
	}
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
}

/* Waits until a counter that the peer's lock guards has reached n. */
static inline void peer_await(struct peer *p, const unsigned *counter, unsigned n)
{
	pthread_mutex_lock(&p->lock);
	while (*counter < n)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static inline void peer_go(struct peer *p)
{
	pthread_mutex_lock(&p->lock);
	p->go = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static inline void peer_push(struct peer *p, unsigned conn, uint64_t id, const char *name)
{
	struct wire_inval body = { .ino = le64_of(5), .flags = le32_of(WIRE_INVAL_ENTRY) };
	struct wire_header h;
	struct iovec iov[] = { { &h, sizeof(h) }, { &body, sizeof(body) }, { (void *)(uintptr_t)name, strlen(name) } };

	wire_request(&h, WIRE_INVAL, id, sizeof(body), strlen(name));
	CHECK(peer_send(p->conns[conn], iov, 3, -1) == 0);
}

#endif
