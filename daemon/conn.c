/* One connection: a thread that reads frames, the requests in flight, the replies. */
#include "server_int.h"
#include "log.h"

#include <stdio.h>

static struct job *job_of(const struct request *r)
{
	return (struct job *)((uintptr_t)r - offsetof(struct job, r));
}

void conn_unref(struct conn *c)
{
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	transport_free(c->transport);
	pthread_mutex_destroy(&c->send_lock);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->idle);
	free(c->buf);
	free(c);
}

/* ---- sending ---- */

static void cut(struct conn *c, int err)
{
	if (err != -ECONNRESET && err != -EPIPE)
		log_warn("server: %s: cut off: %s", c->transport->peer, strerror(-err));
	transport_shutdown(c->transport);
}

int conn_send(struct conn *c, struct iovec *iov, int n_iov, int fd)
{
	pthread_mutex_lock(&c->send_lock);
	int err = transport_send(c->transport, iov, n_iov, fd);
	pthread_mutex_unlock(&c->send_lock);
	if (err)
		cut(c, err);
	return err;
}

static void reply(struct request *r, const void *body, const void *payload, size_t payload_bytes, int fd)
{
	uint32_t body_bytes = wire_row(r->type)->reply_body;
	struct wire_header h;
	struct iovec iov[3] = { { &h, sizeof(h) } };
	int n = 1;

	job_of(r)->answered = true;
	wire_reply(&h, r->type, r->id, 0, body_bytes, payload_bytes);
	if (body_bytes)
		iov[n++] = (struct iovec){ (void *)(uintptr_t)body, body_bytes };
	if (payload_bytes)
		iov[n++] = (struct iovec){ (void *)(uintptr_t)payload, payload_bytes };
	conn_send(r->conn, iov, n, fd);
}

void request_reply(struct request *r, const void *body, const void *payload, size_t payload_bytes)
{
	reply(r, body, payload, payload_bytes, -1);
}

void request_reply_fd(struct request *r, const void *body, int fd)
{
	reply(r, body, NULL, 0, fd);
}

void request_reply_file(struct request *r, const void *body, int fd, uint64_t offset, size_t len)
{
	struct conn *c = r->conn;
	uint32_t body_bytes = wire_row(r->type)->reply_body;
	struct wire_header h;
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)(uintptr_t)body, body_bytes } };

	job_of(r)->answered = true;
	wire_reply(&h, r->type, r->id, 0, body_bytes, len);
	pthread_mutex_lock(&c->send_lock);
	int err = transport_send(c->transport, iov, body_bytes ? 2 : 1, -1);
	if (!err && len > 0)
		err = transport_send_file(c->transport, fd, offset, len);
	pthread_mutex_unlock(&c->send_lock);
	if (err)
		cut(c, err);
}

static void reply_error(struct request *r, int err, const struct reason *why)
{
	const char *text = why->text[0] ? why->text : strerror(-err);
	struct wire_header h;
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)(uintptr_t)text, MIN(strlen(text), WIRE_REASON_MAX) } };

	job_of(r)->answered = true;
	wire_reply(&h, r->type, r->id, -err, 0, iov[1].iov_len);
	conn_send(r->conn, iov, 2, -1);
}

bool request_passes_fds(const struct request *r)
{
	return r->conn->transport->ops->passes_fds;
}

bool request_cancelled(const struct request *r)
{
	return atomic_load(&job_of(r)->cancelled);
}

/* ---- running ---- */

static void run(struct job *j)
{
	struct reason why = { "" };
	int err = j->handler->run(j->r.conn->server->daemon, &j->r, &why);

	if (!err && !j->answered)
		err = reason_set(&why, EIO, "%s was not answered; this is a bug", wire_row(j->r.type)->name);
	if (err && j->answered)
		log_error("server: %s failed after its answer: %s", wire_row(j->r.type)->name, why.text);
	else if (err)
		reply_error(&j->r, err, &why);
}

static void job_done(struct job *j)
{
	struct conn *c = j->r.conn;

	pthread_mutex_lock(&c->lock);
	LIST_REMOVE(j, link);
	if (--c->n_jobs == 0)
		pthread_cond_signal(&c->idle);
	pthread_mutex_unlock(&c->lock);
	free(j);
}

static void run_slow(void *arg)
{
	struct job *j = arg;

	if (j->later)
		j->later(j->r.conn->server->daemon, &j->r, j->later_arg);
	else if (atomic_load(&j->cancelled))
		reply_error(&j->r, -ECANCELED, &(struct reason){ "" });
	else
		run(j);
	job_done(j);
}

static struct job *copy_job(const struct job *j)
{
	struct job *copy = malloc(sizeof(*copy) + j->r.payload_bytes);

	if (!copy)
		return NULL;
	copy->r = j->r;
	copy->handler = j->handler;
	copy->later = NULL;
	copy->answered = false;
	atomic_init(&copy->cancelled, false);
	memcpy(copy->body, j->body, sizeof(copy->body));
	copy->r.body = copy->body;
	if (j->r.payload_bytes)
		memcpy(copy->payload, j->r.payload, j->r.payload_bytes);
	copy->r.payload = copy->payload;
	return copy;
}

static struct pool *pool_of(const struct server *s, unsigned type)
{
	const struct module *m = s->modules[type];

	if (m == &compute_module)
		return s->daemon->reducers;
	return m == &meta_module || m == &nodes_module ? s->daemon->namers : s->daemon->workers;
}

static int start_slow(struct conn *c, struct job *j, struct reason *why)
{
	struct job *copy = copy_job(j);
	int err = copy ? 0 : -ENOMEM;

	if (err)
		return err;
	pthread_mutex_lock(&c->lock);
	if (c->n_jobs == SERVER_SLOW_MAX) {
		err = reason_set(why, EBUSY, "more than %d slow requests in flight on this connection",
				 SERVER_SLOW_MAX);
	} else {
		LIST_INSERT_HEAD(&c->jobs, copy, link);
		c->n_jobs++;
	}
	pthread_mutex_unlock(&c->lock);
	if (err) {
		free(copy);
		return err;
	}
	if (pool_add(pool_of(c->server, copy->r.type), run_slow, copy) == 0)
		return 0;
	job_done(copy);
	return reason_set(why, EBUSY, "too many requests are waiting on this node");
}

/* What it waits for was begun already, so it is not refused however many there are: there are never more than requests were read. */
int request_later(struct request *r, later_fn *fn, void *arg)
{
	struct job *now = job_of(r), *j;
	struct conn *c = r->conn;

	r->payload_bytes = 0;
	j = copy_job(now);
	if (!j)
		return -ENOMEM;
	j->later = fn;
	j->later_arg = arg;
	pthread_mutex_lock(&c->lock);
	LIST_INSERT_HEAD(&c->jobs, j, link);
	c->n_jobs++;
	pthread_mutex_unlock(&c->lock);
	now->answered = true; /* by the copy */
	if (pool_add(pool_of(c->server, r->type), run_slow, j))
		run_slow(j);
	return 0;
}

static void cancel(struct conn *c, uint64_t id)
{
	struct job *j;

	pthread_mutex_lock(&c->lock);
	LIST_FOREACH(j, &c->jobs, link)
	{
		if (j->r.id == id)
			atomic_store(&j->cancelled, true);
	}
	pthread_mutex_unlock(&c->lock);
}

static int say_hello(struct conn *c, struct job *j, struct reason *why)
{
	const struct daemon *d = c->server->daemon;
	const struct wire_hello *hello = j->r.body;
	static const struct uuid any;
	uint32_t role = le32_get(hello->role);
	char ours[37], theirs[37];

	uuid_text(&d->sb.cluster, ours);
	uuid_text(&hello->cluster, theirs);
	if (c->session)
		return reason_set(why, EINVAL, "a second HELLO on one connection");
	if (role < WIRE_ROLE_MOUNT || role > WIRE_ROLE_MKFS || le32_get(hello->node_id) > SLAB_NODES_MAX)
		return reason_set(why, EINVAL, "HELLO: no such role or node");
	if (!uuid_equal(&hello->cluster, &any) && !uuid_equal(&hello->cluster, &d->sb.cluster))
		return reason_set(why, ESTALE, "this node belongs to cluster %s, not to %s", ours, theirs);
	int err = session_join(c, hello, j->r.payload, j->r.payload_bytes);
	if (err)
		return err;
	struct wire_hello_reply answer = {
		.cluster = d->sb.cluster,
		.node = d->sb.node,
		.node_id = le32_of(d->sb.node_id),
		.is_head = le32_of(d->sb.is_head),
		.incarnation = d->incarnation,
		.storage = le64_of(d->storage),
	};
	request_reply(&j->r, &answer, NULL, 0);
	return 0;
}

static int refuse(struct conn *c, struct job *j, struct reason *why)
{
	const struct server *s = c->server;
	const char *name = wire_row(j->r.type)->name;

	if (!j->handler)
		return reason_set(why, EOPNOTSUPP, "%s: not served here", name);
	if (!s->daemon->sb.is_head && (s->modules[j->r.type] == &meta_module || s->modules[j->r.type] == &nodes_module))
		return reason_set(why, EOPNOTSUPP, "%s: node %u is not the head", name, s->daemon->sb.node_id);
	return 0;
}

static bool is_slow(const struct conn *c, const struct job *j)
{
	const struct server *s = c->server;

	return j->handler->slow && !(s->modules[j->r.type] == &part_module && part_is_quick(s->daemon, &j->r));
}

/* Non-zero ends the connection. */
static int handle(struct conn *c, struct job *j)
{
	struct reason why = { "" };
	int err;

	atomic_fetch_add_explicit(&c->server->requests, 1, memory_order_relaxed);
	if (!c->session && j->r.type != WIRE_HELLO)
		return -EPROTO;
	if (j->r.type == WIRE_CANCEL) {
		cancel(c, le64_get(((const struct wire_cancel *)j->r.body)->id));
		return 0;
	}
	j->r.session = c->session;
	if (j->r.type == WIRE_HELLO) {
		err = say_hello(c, j, &why);
	} else {
		if (c->server->modules[j->r.type] == &meta_module)
			atomic_store(&c->asks_names, true);
		err = refuse(c, j, &why);
		if (!err && is_slow(c, j))
			err = start_slow(c, j, &why);
		else if (!err)
			run(j);
	}
	if (err)
		reply_error(&j->r, err, &why);
	return 0;
}

/* ---- receiving ---- */

static int grow_buffer(struct conn *c, size_t want)
{
	uint8_t *buf;

	if (want <= c->buf_bytes)
		return 0;
	buf = realloc(c->buf, want);
	if (!buf)
		return -ENOMEM;
	c->buf = buf;
	c->buf_bytes = want;
	return 0;
}

/* A push must not wait long for a peer that does not read: then its session is given up. */
int conn_push(struct conn *c, struct iovec *iov, int n_iov)
{
	struct timespec until;
	int err;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SERVER_PUSH_SECONDS;
	if (pthread_mutex_timedlock(&c->send_lock, &until))
		return -ETIMEDOUT;
	transport_limit(c->transport, SERVER_PUSH_SECONDS * 1000, 0);
	err = transport_send(c->transport, iov, n_iov, -1);
	transport_limit(c->transport, SERVER_SEND_SECONDS * 1000, 0);
	pthread_mutex_unlock(&c->send_lock);
	return err;
}

static void pass_ack(struct conn *c, const struct wire_header *h)
{
	if (!c->session || le16_get(h->type) != WIRE_INVAL)
		return;
	for (const struct module *const *m = server_modules; *m; m++)
		if ((*m)->push_acked)
			(*m)->push_acked(c->server->daemon, c->session, le64_get(h->id));
}

static int receive_rest(struct conn *c, struct job *j, size_t body_bytes)
{
	int err = grow_buffer(c, j->r.payload_bytes);

	if (!err && body_bytes)
		err = transport_receive(c->transport, j->body, body_bytes, NULL);
	if (!err && j->r.payload_bytes)
		err = transport_receive(c->transport, c->buf, j->r.payload_bytes, NULL);
	j->r.body = j->body;
	j->r.payload = c->buf;
	return err;
}

/* Said in our version, as the last word on the connection: what follows their header cannot be read. */
static void refuse_version(struct conn *c, const struct wire_header *theirs, const struct reason *why)
{
	struct wire_header h;
	struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)(uintptr_t)why->text, strlen(why->text) } };

	wire_reply(&h, le16_get(theirs->type), le64_get(theirs->id), -EPROTONOSUPPORT, 0, iov[1].iov_len);
	conn_send(c, iov, 2, -1);
}

/* Reads one frame and acts on it.  -ENODATA: the peer has closed between frames. */
static int serve_frame(struct conn *c, struct reason *why)
{
	struct wire_header h;
	struct job j;
	int err = transport_receive(c->transport, &h, sizeof(h), NULL);

	if (!err)
		err = wire_check(&h, why);
	if (err == -EPROTONOSUPPORT)
		refuse_version(c, &h, why);
	if (err)
		return err;
	j.r = (struct request){
		.conn = c,
		.type = le16_get(h.type),
		.id = le64_get(h.id),
		.once = le64_get(h.once),
		.payload_bytes = (size_t)le64_get(h.payload_bytes),
	};
	j.handler = c->server->handlers[j.r.type];
	j.later = NULL;
	j.answered = false;
	atomic_init(&j.cancelled, false);
	err = receive_rest(c, &j, le32_get(h.body_bytes));
	if (err)
		return err == -ENODATA ? -ECONNRESET : err;
	if (le32_get(h.flags) & WIRE_REPLY) {
		pass_ack(c, &h);
		return 0;
	}
	err = handle(c, &j);
	return err ? reason_set(why, EPROTO, "the first request is not HELLO") : 0;
}

static void finish_jobs(struct conn *c)
{
	struct job *j;

	pthread_mutex_lock(&c->lock);
	LIST_FOREACH(j, &c->jobs, link)
	{
		atomic_store(&j->cancelled, true);
	}
	while (c->n_jobs > 0)
		pthread_cond_wait(&c->idle, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

static struct conn *conn_new(struct server *s, struct transport *t)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->server = s;
	c->transport = t;
	atomic_init(&c->refs, 1);
	pthread_mutex_init(&c->send_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	LIST_INIT(&c->jobs);
	return c;
}

void conn_serve(struct server *s, struct transport *t)
{
	struct conn *c = conn_new(s, t);
	struct reason why = { "" };
	int err = 0;

	if (!c) {
		transport_free(t);
		return;
	}
	pthread_mutex_lock(&s->lock);
	LIST_INSERT_HEAD(&s->conns, c, link);
	pthread_mutex_unlock(&s->lock);
	while (!err && !atomic_load(&s->stopping))
		err = serve_frame(c, &why);
	if (err == -EPROTO || err == -EPROTONOSUPPORT)
		log_warn("server: %s: malformed frame: %s", t->peer, why.text);
	else if (err && err != -ENODATA && err != -ECONNRESET && !atomic_load(&s->stopping))
		log_warn("server: %s: %s", t->peer, strerror(-err));
	transport_shutdown(t);
	finish_jobs(c);
	session_part(c);
	pthread_mutex_lock(&s->lock);
	LIST_REMOVE(c, link);
	pthread_mutex_unlock(&s->lock);
	conn_unref(c);
}
