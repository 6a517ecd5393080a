/* client_internal.h - what client.c (calls), client_conn.c (connections) and client_read.c (replies) share.
 *
 * Locks, in the order they are taken: conn.send_lock, client.lock.  The send lock is held while a frame is sent; the client's
 * lock never is, and it is never held while a callback runs.
 *
 * A call:         WAITING --reply header--> RECEIVING --last byte--> DONE
 *                    |                          |
 *                    +--cancel, deadline, loss--+--(the reader lets go)--> DONE
 *
 * Only the reader of the connection touches the caller's reply buffers, and only while the slot is RECEIVING; so a slot that is
 * given up while WAITING is done at once, and its late reply finds no slot and is thrown away.
 */
#ifndef SLAB_CLIENT_INTERNAL_H
#define SLAB_CLIENT_INTERNAL_H

#include "client.h"
#include "map.h"
#include "transport.h"

#include <pthread.h>
#include <stdatomic.h>

#define CLIENT_CONNS_MAX 8
#define CLIENT_CANCELS_MAX 32

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_UP, CONN_ENDING /* nothing new is sent on it */ };
enum slot_state { SLOT_WAITING, SLOT_RECEIVING, SLOT_DONE };

struct call_slot { /* guarded by the client's lock */
	struct call *call;
	struct conn *conn;
	uint64_t id;
	uint64_t epoch; /* of the connection when the call was started */
	uint64_t started_ns, deadline_ns;
	enum slot_state state;
	int err;
	int given_up;           /* RECEIVING: the error to end with once the reader lets go; 0: none */
	uint64_t let_go_ns;     /* ... and when to cut the connection so that it does */
	pthread_cond_t done;    /* state is DONE, or given_up was set */
	struct call_slot *next; /* of the free ones */
};

struct conn {
	struct client *client;
	unsigned index;
	pthread_t thread; /* connects, then reads until the connection is lost, again and again */
	pthread_mutex_t send_lock;
	struct transport *transport; /* while up; this and epoch change under both locks */
	uint64_t epoch;
	_Atomic uint64_t heard_ns;  /* when bytes came last */
	_Atomic unsigned n_cancels; /* changes under the client's lock */
	/* guarded by the client's lock */
	uint64_t cancels[CLIENT_CANCELS_MAX]; /* ids of requests that the peer is to be told to stop */
	bool has_thread;
	enum conn_state state;
	bool wanted; /* somebody waits for it */
	bool keep;   /* to be made anew without being asked */
	pthread_cond_t wake;
	struct map calls; /* id -> slot that is WAITING */
	struct wire_hello_reply hello;
	unsigned failures; /* of connecting, so far; err and why are the last one's, at failed_ns */
	int err;
	struct reason why;
	uint64_t failed_ns, retry_ns;
	unsigned backoff_ms;
};

struct push {
	struct conn *conn;
	uint64_t epoch, peer_id;
};

struct client {
	struct client_config config; /* its strings and its key are ours */
	uint8_t key[32];
	pthread_mutex_t lock;
	pthread_cond_t changed; /* the state of a connection, or busy */
	/* guarded by the lock */
	bool stopping;
	unsigned busy; /* calls started and not waited for, and functions at work */
	uint64_t last_id, last_push;
	uint64_t losses;
	uint64_t lost_ns;        /* since when the first connection does not stand, though it was tried; 0: it does */
	uint64_t sent, received; /* over connections that are gone */
	struct map pushes;       /* our id -> struct push */
	struct call_slot *free_slots;
	struct conn conns[CLIENT_CONNS_MAX];
};

/* client.c */
void slot_finish_locked(struct call_slot *s, int err);
void client_cond_init(pthread_cond_t *cond);
int client_wait_locked(struct client *c, pthread_cond_t *cond,
		       uint64_t until_ns); /* -ETIMEDOUT; UINT64_MAX: no limit */

/* client_conn.c */
void conn_init(struct conn *k, struct client *c, unsigned index);
void conn_fini(struct conn *k);                       /* joins the thread */
int conn_want_locked(struct conn *k);                 /* starts connecting */
void conn_cut_locked(struct conn *k, uint64_t epoch); /* ends the connection if it is still that one */
int client_conn_send(struct conn *k, uint64_t epoch, struct iovec *iov, int n_iov);
void conn_cancel_locked(struct conn *k, uint64_t id); /* to be sent by conn_flush */
void conn_flush(struct conn *k);

/* client_read.c: on the connection's thread.  Reads one frame and acts on it; an error ends the connection. */
int conn_read_frame(struct conn *k, struct reason *why);

#endif
