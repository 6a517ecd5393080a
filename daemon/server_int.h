/* server_int.h - what server.c, conn.c and session.c share.
 *
 * server.lock guards the lists, the counters and which connections a session has.  conn.send_lock is held across the sending of one
 * frame only, and never together with server.lock; conn.lock guards the requests in flight.
 */
#ifndef SLABFSD_SERVER_INT_H
#define SLABFSD_SERVER_INT_H

#include "daemon.h"
#include "server.h"
#include "transport.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#define SERVER_SLOW_MAX 64       /* slow requests in flight on one connection */
#define SERVER_HANDSHAKES_MAX 64 /* connections that have not proved themselves */
#define SERVER_HANDSHAKE_MS 5000
#define SERVER_SEND_SECONDS 30 /* a peer that does not take its replies for so long is cut off */
#define SERVER_PUSH_SECONDS 1  /* ... and one that does not take an invalidation for so long */
#define SERVER_STACK_BYTES (512u << 10)

struct session {
	struct server *server;
	uint64_t number;
	struct uuid uuid;
	enum wire_role role;
	uint32_t node_id;
	char name[128];
	int pid; /* of its first connection's peer */
	atomic_uint refs;
	LIST_ENTRY(session) link; /* server.lock */
	TAILQ_HEAD(, conn) conns; /* server.lock; the first that asks for names takes the pushes */
};

/* A request, and what the server needs to know of it.  On the conn's stack, or malloc'ed when it is slow. */
struct job {
	struct request r;
	const struct handler *handler;
	later_fn *later; /* instead of the handler */
	void *later_arg;
	bool answered;
	atomic_bool cancelled;
	uint8_t body[WIRE_BODY_MAX];
	LIST_ENTRY(job) link; /* conn.lock */
	uint8_t payload[];    /* of a slow one */
};

struct conn {
	struct server *server;
	struct transport *transport;
	struct session *session; /* set once, by HELLO */
	atomic_uint refs;
	atomic_bool asks_names; /* a mount's connections for data do not listen to invalidations */
	pthread_mutex_t send_lock;
	pthread_mutex_t lock; /* guards the two below */
	pthread_cond_t idle;
	LIST_HEAD(, job) jobs; /* slow ones in flight */
	unsigned n_jobs;
	uint8_t *buf; /* the payload of a quick request */
	size_t buf_bytes;
	TAILQ_ENTRY(conn) of_session; /* server.lock */
	LIST_ENTRY(conn) link;        /* server.lock */
};

struct server {
	struct daemon *daemon;
	const struct handler *handlers[WIRE_TYPE_END]; /* constant once made */
	const struct module *modules[WIRE_TYPE_END];   /* whose handler it is */
	int unix_fd, tcp_fd;
	atomic_bool stopping;
	_Atomic uint64_t requests;
	pthread_t unix_thread, tcp_thread;
	bool has_unix_thread, has_tcp_thread;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t gone;  /* a connection's thread has ended */
	LIST_HEAD(, conn) conns;
	LIST_HEAD(, session) sessions;
	size_t n_threads, n_handshakes;
	uint64_t next_session, refused_logged_ns;
};

extern const struct module *const server_modules[]; /* NULL-terminated */

/* ---- conn.c ---- */
/* Serves the transport (which it takes) until it ends; on the caller's thread. */
void conn_serve(struct server *s, struct transport *t);
void conn_unref(struct conn *c);
int conn_send(struct conn *c, struct iovec *iov, int n_iov, int fd);
int conn_push(struct conn *c, struct iovec *iov, int n_iov); /* does not cut the connection when it fails */

/* ---- session.c ---- */
int session_join(struct conn *c, const struct wire_hello *hello, const void *name, size_t name_bytes);
void session_part(struct conn *c); /* runs session_end when c was the session's last connection */

#endif
