/* server.h - slabfsd's connections: accept, authenticate, read frames, run the handler of each, reply exactly once.
 *
 *   listener (unix, tcp) -> conn (a thread that reads frames) -> handler table -> store | meta | nodes | compute
 *
 * Each request goes through three steps: decoded and checked against its row (wire_check, on the conn's thread), validated and
 * executed by its handler.  Quick handlers run on the conn's thread; `slow` ones on one of the daemon's pools, so that the requests behind
 * them, and their cancellation, get through.
 *
 * A session is one peer (a mount, a node, a tool): all its connections share the uuid of their HELLO.  When the last of them closes,
 * each module's session_end runs once, on a thread that holds no lock.
 */
#ifndef SLABFSD_SERVER_H
#define SLABFSD_SERVER_H

#include "base.h"
#include "wire.h"

struct daemon; /* daemon.h */
struct server;
struct conn;
struct session;

struct request {
	struct conn *conn;
	struct session *session; /* NULL only for HELLO */
	unsigned type;
	uint64_t id;
	uint64_t once;
	const void *body; /* exactly the row's request_body bytes */
	const uint8_t *payload;
	size_t payload_bytes;
};

/* Answers exactly once and returns 0, or returns -errno (with *why where a person needs more than strerror) and the server answers. */
typedef int handler_fn(struct daemon *d, struct request *r, struct reason *why);

struct handler {
	unsigned type; /* 0 ends a table */
	bool slow;
	handler_fn *run;
};

struct module {
	const char *name;
	const struct handler *handlers;
	void (*session_end)(struct daemon *d, struct session *s); /* may be NULL */
	void (*push_acked)(struct daemon *d, struct session *s,
			   uint64_t seq); /* may be NULL: the peer answered a push */
	void (*session_begin)(struct daemon *d,
			      struct session *s); /* may be NULL; another of its connections may be faster */
};
extern const struct module part_module, compute_module, meta_module, nodes_module, scrub_module, objects_module;
/* A request to a slow handler of part_module that is done in a moment. */
bool part_is_quick(struct daemon *d, const struct request *r);

/* For a quick handler that finds that it must wait: fn answers on the request's pool, without r->body and r->payload.  It runs even when the
 * request was cancelled or its connection is gone.  The handler then returns 0. */
typedef void later_fn(struct daemon *d, struct request *r, void *arg);
int request_later(struct request *r, later_fn *fn, void *arg);

/* Replies.  body: the row's reply_body bytes (NULL when that is 0).  Errors of the connection are the server's business. */
void request_reply(struct request *r, const void *body, const void *payload, size_t payload_bytes);
void request_reply_fd(struct request *r, const void *body, int fd); /* unix only; fd stays the caller's */
/* The payload comes from a file with sendfile. */
void request_reply_file(struct request *r, const void *body, int fd, uint64_t offset, size_t len);
bool request_passes_fds(const struct request *r);
bool request_cancelled(const struct request *r); /* a slow handler polls this; then returns -ECANCELED */

/* Sessions.  A pointer is valid in a handler and in session_end; to keep it longer, session_ref. */
struct session *session_ref(struct session *s);
void session_unref(struct session *s);
uint64_t session_number(const struct session *s);         /* unique in this daemon's life, never 0 */
const struct uuid *session_uuid(const struct session *s); /* of its HELLO */
const char *session_name(const struct session *s);
enum wire_role session_role(const struct session *s);
uint32_t session_node_id(const struct session *s);
int session_pid(const struct session *s); /* of a peer on this machine; else, or when it cannot be told, 0 */
/* Sends an invalidation on the first of the session's connections that has asked for names; seq comes back in push_acked.  Blocks
 * for two seconds at most.  -ENOTCONN when it could not be sent: the session is to be cut off.  Hold no lock. */
int session_push(struct session *s, uint64_t seq, const struct wire_inval *inval, const void *name, size_t name_bytes);
void session_cut(struct session *s, const char *reason); /* ends all its connections */

int server_new(struct daemon *d, struct server **ret,
	       struct reason *why); /* binds; writes the chosen port to daemon.address */
int server_start(struct server *s);
void server_stop(struct server *s); /* no new requests; joins its threads; ends all sessions */
void server_free(struct server *s);
size_t server_sessions(struct server *s); /* how many there are */

#endif
