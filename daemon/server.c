/* Listening, accepting, and the table of handlers. */
#include "server_int.h"
#include "json.h"
#include "log.h"
#include "meta.h"
#include "meta.h"
#include "store.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

const struct module *const server_modules[] = { &part_module,  &compute_module, &meta_module, &nodes_module,
						&scrub_module, &objects_module, NULL };

/* ---- requests about the daemon itself ---- */

static int handle_ping(struct daemon *d, struct request *r, struct reason *why)
{
	(void)d;
	(void)why;
	request_reply(r, NULL, NULL, 0);
	return 0;
}

static int put_u64(struct json *j, const char *key, uint64_t v)
{
	return json_set(j, key, json_new_u64(v));
}

static int put_uuid(struct json *j, const char *key, const struct uuid *u)
{
	char text[37];

	uuid_text(u, text);
	return json_set(j, key, json_new_string(text));
}

static struct json *store_json(struct store *s)
{
	struct json *j = json_new_object();
	struct store_stats st;

	store_stats(s, &st);
	if (!j || put_u64(j, "bytes_total", st.bytes_total) || put_u64(j, "bytes_free", st.bytes_free) ||
	    put_u64(j, "files_total", st.files_total) || put_u64(j, "files_free", st.files_free) ||
	    put_u64(j, "partitions", st.partitions) || put_u64(j, "quarantined", st.quarantined) ||
	    put_u64(j, "open", st.open)) {
		json_free(j);
		return NULL;
	}
	return j;
}

static int status_json(struct daemon *d, struct json *j)
{
	struct json *store = store_json(d->store);

	if (!store || put_u64(j, "node", d->sb.node_id) || put_uuid(j, "uuid", &d->sb.node) ||
	    put_uuid(j, "cluster", &d->sb.cluster) || json_set(j, "head", json_new_bool(d->sb.is_head)) ||
	    json_set(j, "address", json_new_string(d->address)) ||
	    json_set(j, "version", json_new_string(SLAB_VERSION)) ||
	    put_u64(j, "uptime_seconds", (time_mono_ns() - d->started_ns) / 1000000000u) ||
	    put_u64(j, "sessions", server_sessions(d->server)) ||
	    (d->meta && put_u64(j, "held_inodes", meta_held(d->meta))) ||
	    put_u64(j, "requests", atomic_load(&d->server->requests))) {
		json_free(store);
		return -ENOMEM;
	}
	if (d->meta && put_u64(j, "undescribed", meta_undescribed(d->meta))) {
		json_free(store);
		return -ENOMEM;
	}
	return json_set(j, "store", store);
}

static int handle_status(struct daemon *d, struct request *r, struct reason *why)
{
	struct json *j = json_new_object();
	int err = j ? status_json(d, j) : -ENOMEM;
	AUTO_FREE char *text = err ? NULL : json_text(j, true);

	(void)why;
	json_free(j);
	if (!text)
		return -ENOMEM;
	request_reply(r, NULL, text, strlen(text));
	return 0;
}

static const struct handler server_handlers[] = {
	{ WIRE_PING, false, handle_ping },
	{ WIRE_STATUS, true, handle_status },
	{ 0, false, NULL },
};

static void add_handlers(struct server *s, const struct handler *h, const struct module *m)
{
	for (; h->type; h++) {
		s->handlers[h->type] = h;
		s->modules[h->type] = m;
	}
}

/* ---- accepting ---- */

struct arrival {
	struct server *server;
	int fd;
	bool tcp;
};

static void limit_sends(int fd)
{
	struct timeval limit = { .tv_sec = SERVER_SEND_SECONDS };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

static int wrap_unix(int fd, struct transport **ret)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	char name[64];

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	snprintf(name, sizeof(name), "unix pid %ld", (long)peer.pid);
	int err = transport_unix_wrap(fd, name, ret);
	if (!err)
		(*ret)->peer_pid = peer.pid;
	return err;
}

static struct transport *shake_hands(struct arrival *a)
{
	struct transport *t = NULL;
	struct reason why = { "" };
	int dup_fd = dup(a->fd); /* the handshake takes a->fd and sets timeouts of its own */
	int err = a->tcp ? transport_tcp_accept(a->fd, a->server->daemon->key, SERVER_HANDSHAKE_MS, &t, &why)
			 : wrap_unix(a->fd, &t);

	if (err)
		log_warn("server: a connection was refused: %s", why.text[0] ? why.text : strerror(-err));
	if (dup_fd >= 0) {
		limit_sends(dup_fd);
		close(dup_fd);
	}
	return err ? NULL : t;
}

static void end_handshake(struct server *s, bool tcp)
{
	pthread_mutex_lock(&s->lock);
	s->n_handshakes -= tcp;
	pthread_mutex_unlock(&s->lock);
}

static void *arrival_main(void *arg)
{
	struct arrival a = *(struct arrival *)arg;
	struct server *s = a.server;

	free(arg);
	struct transport *t = shake_hands(&a);
	end_handshake(s, a.tcp);
	if (t)
		conn_serve(s, t);
	pthread_mutex_lock(&s->lock);
	s->n_threads--;
	pthread_cond_signal(&s->gone);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int start_thread(struct arrival *a)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, SERVER_STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = -pthread_create(&thread, &attr, arrival_main, a);
	pthread_attr_destroy(&attr);
	return err;
}

static void log_refusal(struct server *s, const char *what)
{
	uint64_t now = time_mono_ns();

	pthread_mutex_lock(&s->lock);
	bool quiet = s->refused_logged_ns && now - s->refused_logged_ns < 1000000000u;
	if (!quiet)
		s->refused_logged_ns = now;
	pthread_mutex_unlock(&s->lock);
	if (!quiet)
		log_warn("server: connections are refused: %s", what);
}

/* Strangers can fill the places for handshakes; who comes through the unix socket needs none. */
static void welcome(struct server *s, int fd, bool tcp)
{
	struct arrival *a = malloc(sizeof(*a));

	pthread_mutex_lock(&s->lock);
	bool room = a && (!tcp || s->n_handshakes < SERVER_HANDSHAKES_MAX);
	s->n_handshakes += room && tcp;
	s->n_threads += room;
	pthread_mutex_unlock(&s->lock);
	if (room) {
		*a = (struct arrival){ s, fd, tcp };
		if (start_thread(a) == 0)
			return;
		pthread_mutex_lock(&s->lock);
		s->n_handshakes -= tcp;
		s->n_threads--;
		pthread_mutex_unlock(&s->lock);
	}
	free(a);
	close(fd);
	log_refusal(s, room ? "no thread for another" : "too many have not proved themselves yet");
}

static bool peer_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static void accept_all(struct server *s, int listener, bool tcp)
{
	while (!atomic_load(&s->stopping)) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && (tcp || peer_allowed(fd))) {
			welcome(s, fd, tcp);
		} else if (fd >= 0) {
			close(fd);
			log_refusal(s, "a user who is neither root nor the store's owner");
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_refusal(s, strerror(errno));
			poll(NULL, 0, 100);
		}
	}
}

static void *unix_main(void *arg)
{
	struct server *s = arg;

	accept_all(s, s->unix_fd, false);
	return NULL;
}

static void *tcp_main(void *arg)
{
	struct server *s = arg;

	accept_all(s, s->tcp_fd, true);
	return NULL;
}

/* ---- life ---- */

static int listen_all(struct server *s, struct reason *why)
{
	struct daemon *d = s->daemon;
	char path[4096], host[256];
	uint16_t port;
	int err = transport_tcp_listen(d->sb.listen, &s->tcp_fd, &port, why);

	if (err)
		return err;
	if (address_split(d->sb.listen, SLAB_DEFAULT_PORT, host, &(uint16_t){ 0 }) < 0)
		return reason_set(why, EINVAL, "%s: not HOST:PORT", d->sb.listen);
	snprintf(d->address, sizeof(d->address), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", d->store_path, STORE_SOCKET) >= sizeof(path))
		return reason_set(why, ENAMETOOLONG, "%s: the path is too long", d->store_path);
	return transport_unix_listen(path, &s->unix_fd, why);
}

int server_new(struct daemon *d, struct server **ret, struct reason *why)
{
	struct server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return reason_set(why, ENOMEM, "no memory");
	s->daemon = d;
	s->unix_fd = s->tcp_fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->gone, NULL);
	LIST_INIT(&s->conns);
	LIST_INIT(&s->sessions);
	add_handlers(s, server_handlers, NULL);
	for (const struct module *const *m = server_modules; *m; m++)
		add_handlers(s, (*m)->handlers, *m);
	err = listen_all(s, why);
	if (err) {
		server_free(s);
		return err;
	}
	*ret = s;
	return 0;
}

int server_start(struct server *s)
{
	int err = -pthread_create(&s->unix_thread, NULL, unix_main, s);

	s->has_unix_thread = !err;
	if (!err)
		err = -pthread_create(&s->tcp_thread, NULL, tcp_main, s);
	s->has_tcp_thread = !err && s->has_unix_thread;
	return err;
}

void server_stop(struct server *s)
{
	struct conn *c;

	atomic_store(&s->stopping, true);
	shutdown(s->unix_fd, SHUT_RDWR);
	shutdown(s->tcp_fd, SHUT_RDWR);
	if (s->has_unix_thread)
		pthread_join(s->unix_thread, NULL);
	if (s->has_tcp_thread)
		pthread_join(s->tcp_thread, NULL);
	s->has_unix_thread = s->has_tcp_thread = false;
	pthread_mutex_lock(&s->lock);
	while (s->n_threads > 0) {
		LIST_FOREACH(c, &s->conns, link)
		{
			transport_shutdown(c->transport);
		}
		pthread_cond_wait(&s->gone, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
}

void server_free(struct server *s)
{
	char path[4096];

	if (!s)
		return;
	if (s->unix_fd >= 0) {
		close(s->unix_fd);
		snprintf(path, sizeof(path), "%s/%s", s->daemon->store_path, STORE_SOCKET);
		unlink(path);
	}
	if (s->tcp_fd >= 0)
		close(s->tcp_fd);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->gone);
	free(s);
}

size_t server_sessions(struct server *s)
{
	struct session *at;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	LIST_FOREACH(at, &s->sessions, link)
	{
		n++;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}
