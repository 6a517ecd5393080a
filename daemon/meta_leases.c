#include "meta_locks.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>

#include "log.h"

#define POLL_MAX 256 /* processes whose end is waited for at once; others have their lease */

struct lock_client *lock_client_find(struct meta *m, const struct uuid *session)
{
	struct lock_client *c;

	LIST_FOREACH(c, &m->locks->clients, link)
	{
		if (uuid_equal(&c->session, session))
			return c;
	}
	return NULL;
}

struct lock_client *lock_client_add(struct meta *m, const struct uuid *session, uint64_t tenure)
{
	struct lock_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->session = *session;
	c->tenure = tenure;
	c->pidfd = -1;
	LIST_INSERT_HEAD(&m->locks->clients, c, link);
	return c;
}

int lock_client_new(struct meta *m, const struct uuid *session, struct lock_client **ret)
{
	uint64_t tenure = meta_new_id(m);
	int err = db_run(m->db, SQL_LOCKER_ADD, db_int(tenure), db_bytes(session, sizeof(*session)),
			 db_bytes(m->locks->boot, strlen(m->locks->boot)));

	if (err)
		return err;
	*ret = lock_client_add(m, session, tenure);
	return *ret ? 0 : -ENOMEM;
}

static void unwatch(struct lock_client *c)
{
	if (c->pidfd >= 0)
		close(c->pidfd);
	c->pidfd = -1;
}

void lock_client_here(struct lock_client *c, uint64_t number)
{
	c->number = number;
	c->drop_ns = 0;
	unwatch(c);
}

void lock_client_free(struct lock_client *c)
{
	unwatch(c);
	LIST_REMOVE(c, link);
	free(c);
}

static void forget_waits(struct meta *m, uint64_t tenure)
{
	struct lock_wait *w, *next;

	for (w = TAILQ_FIRST(&m->locks->waits); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->want.client == tenure)
			locks_forget_wait(m, w);
	}
}

static size_t list_length(const struct lock *l)
{
	size_t n = 0;

	for (; l; l = l->next)
		n++;
	return n;
}

int lock_client_drop(struct meta *m, struct lock_client *c, struct lock_pokes *pokes)
{
	uint64_t ino, tenure = c->tenure;
	size_t pos = 0;
	void *value;
	int err = db_run(m->db, SQL_LOCK_DROP, db_int(tenure));

	if (!err)
		err = db_run(m->db, SQL_LOCKER_DEL, db_int(tenure));
	if (err)
		return err;
	forget_waits(m, tenure);
	while (map_next(&m->locks->files, &pos, &ino, &value)) {
		struct lock *list = value;
		size_t before = list_length(list);
		if (!lock_drop_client(&list, tenure))
			continue;
		m->locks->n_locks -= before - list_length(list);
		if (list)
			map_put(&m->locks->files, ino, list); /* a replaced value needs no memory */
		else
			map_del(&m->locks->files, ino);
		if (pokes)
			locks_wake(m, ino, pokes);
	}
	return 0;
}

/* ---- they come and go ---- */

void locks_session_begin(struct meta *m, const struct uuid *session, uint64_t number)
{
	pthread_mutex_lock(&m->lock);
	struct lock_client *c = lock_client_find(m, session);
	if (c && c->number < number)
		lock_client_here(c, number);
	pthread_mutex_unlock(&m->lock);
}

static void wake_thread(struct meta *m)
{
	uint64_t one = 1;

	if (m->locks->wake_fd >= 0 && write(m->locks->wake_fd, &one, sizeof(one)) < 0)
		log_debug("locks: wake: %s", strerror(errno)); /* it is full, and so it wakes */
}

/* A process on this machine may have closed its connections without having ended. */
void locks_session_end(struct meta *m, uint64_t number, int pid)
{
	struct lock_client *c;

	pthread_mutex_lock(&m->lock);
	LIST_FOREACH(c, &m->locks->clients, link)
	{
		if (c->number == number)
			break;
	}
	if (c) {
		forget_waits(m, c->tenure);
		c->number = 0;
		c->drop_ns = time_mono_ns() + LOCK_LEASE_MS * UINT64_C(1000000);
		c->pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
		if (pid > 0 && c->pidfd < 0 && errno == ESRCH)
			c->drop_ns = time_mono_ns();
		wake_thread(m);
	}
	pthread_mutex_unlock(&m->lock);
}

static bool has_ended(const struct lock_client *c)
{
	struct pollfd p = { .fd = c->pidfd, .events = POLLIN };

	return c->pidfd >= 0 && poll(&p, 1, 0) == 1;
}

/* The next whose locks must go, or NULL; then *ret_next is when to look again. */
static struct lock_client *next_expired(struct meta *m, uint64_t now, uint64_t *ret_next)
{
	struct lock_client *c;

	*ret_next = UINT64_MAX;
	LIST_FOREACH(c, &m->locks->clients, link)
	{
		if (c->number)
			continue;
		if (c->drop_ns <= now || has_ended(c))
			return c;
		*ret_next = MIN(*ret_next, c->drop_ns);
	}
	return NULL;
}

static int drop_expired(struct meta *m, struct lock_pokes *pokes, uint64_t *ret_next)
{
	struct lock_client *c;
	char text[37];
	int err = locks_begin(m);

	*ret_next = time_mono_ns() + UINT64_C(1000000000);
	if (err)
		return err;
	c = next_expired(m, time_mono_ns(), ret_next);
	if (c)
		err = lock_client_drop(m, c, pokes);
	err = locks_commit(m, err);
	if (c && !err) {
		uuid_text(&c->session, text);
		log_info("locks: those of session %s are given up: it has ended, or was away for too long", text);
		lock_client_free(c);
		*ret_next = 0; /* look for another at once */
	} else if (c) {
		c->drop_ns = *ret_next = time_mono_ns() + UINT64_C(1000000000);
		unwatch(c);
	}
	pthread_mutex_unlock(&m->lock);
	return err;
}

static size_t watched(struct meta *m, struct pollfd fds[POLL_MAX])
{
	struct lock_client *c;
	size_t n = 0;

	fds[n++] = (struct pollfd){ .fd = m->locks->wake_fd, .events = POLLIN };
	pthread_mutex_lock(&m->lock);
	LIST_FOREACH(c, &m->locks->clients, link)
	{
		if (c->pidfd >= 0 && n < POLL_MAX)
			fds[n++] = (struct pollfd){ .fd = c->pidfd, .events = POLLIN };
	}
	pthread_mutex_unlock(&m->lock);
	return n;
}

static bool stopping(struct meta *m)
{
	pthread_mutex_lock(&m->lock);
	bool stop = m->locks->stop;
	pthread_mutex_unlock(&m->lock);
	return stop;
}

static void *leases_main(void *arg)
{
	struct meta *m = arg;
	struct pollfd fds[POLL_MAX];
	uint64_t next, now, ignored;

	while (!stopping(m)) {
		struct lock_pokes pokes = { 0 };
		int err = drop_expired(m, &pokes, &next);
		if (err)
			log_error("locks: meta.db: %s", strerror(-err));
		locks_poke(m, &pokes);
		now = time_mono_ns();
		if (next <= now)
			continue;
		poll(fds, watched(m, fds), next == UINT64_MAX ? -1 : (int)MIN((next - now) / 1000000 + 1, 60000u));
		if (fds[0].revents && read(m->locks->wake_fd, &ignored, sizeof(ignored)) < 0)
			log_debug("locks: wake: %s", strerror(errno));
	}
	return NULL;
}

int locks_start(struct meta *m)
{
	int err;

	m->locks->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->locks->wake_fd < 0)
		return -errno;
	err = -pthread_create(&m->locks->thread, NULL, leases_main, m);
	m->locks->has_thread = !err;
	return err;
}

void locks_stop(struct meta *m)
{
	if (m->locks->has_thread) {
		pthread_mutex_lock(&m->lock);
		m->locks->stop = true;
		wake_thread(m);
		pthread_mutex_unlock(&m->lock);
		pthread_join(m->locks->thread, NULL);
	}
	if (m->locks->wake_fd >= 0)
		close(m->locks->wake_fd);
	m->locks->has_thread = false;
	m->locks->wake_fd = -1;
}
