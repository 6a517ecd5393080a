/* client.h - requests to one peer: a few connections, many requests in flight on each, deadlines, cancellation.
 *
 * A `struct client` is thread-safe.  It connects on first use, connects again after a failure (at most once a 100 ms while
 * the peer is away), and says HELLO on each connection.  A reader thread a connection receives replies straight into the
 * buffers of the calls.  No lock of the client's is held while a push callback runs.
 */
#ifndef SLAB_CLIENT_H
#define SLAB_CLIENT_H

#include "base.h"
#include "wire.h"

struct client;

struct client_config {
	const char *address;     /* "unix:PATH" or HOST:PORT */
	const uint8_t *key;      /* 32 bytes, for TCP; copied */
	struct wire_hello hello; /* role, session, cluster (zero: any), node id */
	const char *name;        /* the HELLO's payload: who we are, for the peer's log */
	unsigned n_connections;  /* 1..8; requests are spread over them; pushes come on the first */
	unsigned timeout_ms;     /* default deadline of a call, and of connecting */
	/* A request from the peer (WIRE_INVAL).  Called on the reader's thread: hand it on.  The reply is sent by client_push_done. */
	void (*push)(void *arg, uint64_t id, const struct wire_header *h, const void *body, const void *payload,
		     size_t len);
	/* The first connection was made (up = true with the peer's hello; before any call or push uses it) or lost (false, NULL).
	 * On the reader's thread; must not call the client.  With `push` set a lost one is made anew without being asked. */
	void (*state)(void *arg, bool up, const struct wire_hello_reply *hello);
	void *arg;
};

/* Does not connect.  The strings are copied. */
int client_new(const struct client_config *config, struct client **ret);
/* Fails what is in flight with -ECANCELED, returns when it has been waited for, joins the threads; NULL is fine. */
void client_free(struct client *c);

/* One request and its reply.  Set the inputs, zero the rest, start or call.  The caller owns every buffer. */
struct call {
	unsigned type;
	const void *body;
	size_t body_bytes;
	const void *payload[3]; /* sent one after the other */
	size_t payload_bytes[3];
	unsigned timeout_ms; /* 0: the client's; UINT_MAX: none */
	uint64_t once;       /* 0, or the number under which it may be sent again */
	void *reply_body;    /* room for the row's reply_body bytes */
	void *reply_payload; /* room for reply_cap bytes; NULL with reply_cap 0 and `alloc` set: malloc'ed to fit (the caller frees) */
	size_t reply_cap;
	bool alloc;
	/* results, valid after client_wait or client_call */
	size_t reply_bytes; /* of the payload */
	int reply_fd;       /* -1, or a descriptor that the caller now owns */
	struct reason why;  /* filled on failure */
	/* the client's own */
	struct call_slot *slot;
};

/* -errno: the peer's status (negated), or -ETIMEDOUT (deadline), -ECONNREFUSED, -EHOSTUNREACH, -ECONNRESET (lost on the way; whether
 * the peer did it is unknown), -EACCES (key), -ECANCELED, -EMSGSIZE (reply larger than reply_cap), -EPROTO. */
int client_call(struct client *c, struct call *call);

/* The peer could not be reached, or was lost on the way: it may come back, and be asked again. */
bool client_away(int err);

/* The same in two steps, so that many peers work at once.  Each started call must be waited for exactly once. */
int client_start(struct client *c, struct call *call);
int client_wait(struct client *c, struct call *call);
/* As client_wait, for at most ms: false when it is not over by then; it goes on and is to be waited for again. */
bool client_wait_for(struct client *c, struct call *call, unsigned ms, int *ret_err);
/* Any thread, after start: asks the peer to stop and makes the wait return -ECANCELED at once.  Nothing happens to a call that
 * is over, as long as the struct call itself is still there. */
void client_cancel(struct client *c, struct call *call);

uint64_t client_last_id(const struct client *c);      /* of the youngest call; those to come have higher ones */
void client_push_done(struct client *c, uint64_t id); /* answers a push */

bool client_connected(const struct client *c); /* the first connection stands */
/* It does not, and was lost or could not be made when it was last tried. */
bool client_unreachable(const struct client *c);
/* Since when the first connection does not stand, though it was tried (monotonic); 0: it stands, or nobody has asked yet. */
uint64_t client_lost_ns(const struct client *c);
/* How many connections were lost so far.  Once it has risen the peer may have ended our session, and its leases. */
uint64_t client_losses(const struct client *c);
int client_hello(struct client *c, struct wire_hello_reply *ret, struct reason *why); /* connects if need be */
/* Bytes over all connections so far, frames included. */
void client_traffic(const struct client *c, uint64_t *ret_sent, uint64_t *ret_received);
bool client_is_local(const struct client *c); /* unix socket: descriptors can be passed */

#endif
