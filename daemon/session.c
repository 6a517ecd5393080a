#include "server_int.h"
#include "log.h"

#include <ctype.h>
#include <stdio.h>

static void copy_name(char ret[128], const uint8_t *name, size_t n)
{
	n = MIN(n, 127);
	for (size_t i = 0; i < n; i++)
		ret[i] = isprint(name[i]) ? (char)name[i] : '?';
	ret[n] = '\0';
}

static struct session *find_session(struct server *s, const struct uuid *uuid)
{
	struct session *at;

	LIST_FOREACH(at, &s->sessions, link)
	{
		if (uuid_equal(&at->uuid, uuid))
			return at;
	}
	return NULL;
}

static struct session *new_session(struct server *s, const struct wire_hello *hello)
{
	struct session *new = calloc(1, sizeof(*new));

	if (!new)
		return NULL;
	new->server = s;
	new->number = ++s->next_session;
	new->uuid = hello->session;
	new->role = (enum wire_role)le32_get(hello->role);
	new->node_id = le32_get(hello->node_id);
	atomic_init(&new->refs, 1);
	TAILQ_INIT(&new->conns);
	LIST_INSERT_HEAD(&s->sessions, new, link);
	return new;
}

int session_join(struct conn *c, const struct wire_hello *hello, const void *name, size_t name_bytes)
{
	struct server *s = c->server;
	bool first = false;

	pthread_mutex_lock(&s->lock);
	struct session *session = find_session(s, &hello->session);
	if (!session) {
		session = new_session(s, hello);
		first = true;
		if (session) {
			copy_name(session->name, name, name_bytes);
			session->pid = c->transport->peer_pid;
		}
	}
	if (session) {
		c->session = session;
		TAILQ_INSERT_TAIL(&session->conns, c, of_session);
	}
	pthread_mutex_unlock(&s->lock);
	if (!session)
		return -ENOMEM;
	if (!first)
		return 0;
	log_info("server: session %llu begins: %s (%s)", (unsigned long long)session->number, session->name,
		 c->transport->peer);
	for (const struct module *const *m = server_modules; *m; m++)
		if ((*m)->session_begin)
			(*m)->session_begin(s->daemon, session);
	return 0;
}

void session_part(struct conn *c)
{
	struct session *session = c->session;
	struct server *s = c->server;

	if (!session)
		return;
	pthread_mutex_lock(&s->lock);
	TAILQ_REMOVE(&session->conns, c, of_session);
	bool last = TAILQ_EMPTY(&session->conns);
	if (last)
		LIST_REMOVE(session, link);
	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	log_info("server: session %llu ends: %s", (unsigned long long)session->number, session->name);
	for (const struct module *const *m = server_modules; *m; m++)
		if ((*m)->session_end)
			(*m)->session_end(s->daemon, session);
	session_unref(session);
}

struct session *session_ref(struct session *session)
{
	atomic_fetch_add(&session->refs, 1);
	return session;
}

void session_unref(struct session *session)
{
	if (session && atomic_fetch_sub(&session->refs, 1) == 1)
		free(session);
}

uint64_t session_number(const struct session *session)
{
	return session->number;
}

const struct uuid *session_uuid(const struct session *session)
{
	return &session->uuid;
}

const char *session_name(const struct session *session)
{
	return session->name;
}

enum wire_role session_role(const struct session *session)
{
	return session->role;
}

uint32_t session_node_id(const struct session *session)
{
	return session->node_id;
}

int session_pid(const struct session *session)
{
	return session->pid;
}

int session_push(struct session *session, uint64_t seq, const struct wire_inval *inval, const void *name,
		 size_t name_bytes)
{
	struct wire_header h;
	struct iovec iov[3] = {
		{ &h, sizeof(h) },
		{ (void *)(uintptr_t)inval, sizeof(*inval) },
		{ (void *)(uintptr_t)name, name_bytes },
	};
	struct server *s = session->server;
	int err;

	pthread_mutex_lock(&s->lock);
	struct conn *c = TAILQ_FIRST(&session->conns);
	while (c && !atomic_load(&c->asks_names))
		c = TAILQ_NEXT(c, of_session);
	if (c)
		atomic_fetch_add(&c->refs, 1);
	pthread_mutex_unlock(&s->lock);
	if (!c)
		return -ENOTCONN;
	wire_request(&h, WIRE_INVAL, seq, sizeof(*inval), name_bytes);
	err = conn_push(c, iov, name_bytes ? 3 : 2);
	conn_unref(c);
	return err ? -ENOTCONN : 0;
}

void session_cut(struct session *session, const char *reason)
{
	struct server *s = session->server;
	struct conn *c;

	log_warn("server: session %llu (%s) is cut off: %s", (unsigned long long)session->number, session->name,
		 reason);
	pthread_mutex_lock(&s->lock);
	TAILQ_FOREACH(c, &session->conns, of_session)
	{
		transport_shutdown(c->transport);
	}
	pthread_mutex_unlock(&s->lock);
}
