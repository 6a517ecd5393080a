/* The requests that wait for a lock, and the thread that asks for them again. */
#include "locks_internal.h"
#include "head.h"
#include "log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

#define AGAIN_NS UINT64_C(1000000000) /* between two tries of a request that waits */

void locks_set_wait(struct mount *m, struct lock_wait *w)
{
	struct locks *l = m->locks;
	bool stop;
	int err;

	pthread_mutex_lock(&l->lock);
	w->id = ++l->next_wait;
	pthread_mutex_unlock(&l->lock);
	err = locks_ask_once(l, &w->ask, WIRE_LOCK_WAIT, w->id);
	if (err != -EAGAIN) {
		w->done(w, err);
		return;
	}
	pthread_mutex_lock(&l->lock);
	stop = l->stop;
	if (!stop) {
		TAILQ_INSERT_TAIL(&l->waits, w, link);
		pthread_cond_signal(&l->wake);
	}
	pthread_mutex_unlock(&l->lock);
	if (stop)
		w->done(w, -EINTR);
}

size_t locks_waiting(struct mount *m)
{
	const struct lock_wait *w;
	size_t n = 0;

	pthread_mutex_lock(&m->locks->lock);
	TAILQ_FOREACH(w, &m->locks->waits, link)
	{
		n++;
	}
	pthread_mutex_unlock(&m->locks->lock);
	return n;
}

void locks_interrupt(struct mount *m, struct lock_wait *w)
{
	pthread_mutex_lock(&m->locks->lock);
	w->interrupted = true;
	pthread_cond_signal(&m->locks->wake);
	pthread_mutex_unlock(&m->locks->lock);
}

void locks_push(struct mount *m, uint64_t wait)
{
	struct lock_wait *w;

	pthread_mutex_lock(&m->locks->lock);
	TAILQ_FOREACH(w, &m->locks->waits, link)
	{
		w->due |= w->id == wait;
	}
	pthread_cond_signal(&m->locks->wake);
	pthread_mutex_unlock(&m->locks->lock);
}

static void all_due_locked(struct locks *l)
{
	struct lock_wait *w;

	TAILQ_FOREACH(w, &l->waits, link)
	{
		w->due = true;
	}
}

void locks_head_back(struct mount *m)
{
	struct locks *l = m->locks;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->renew = true;
	all_due_locked(l);
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

static bool head_answers(const struct locks *l)
{
	return client_connected(cluster_head(l->m->cluster));
}

/* One try.  Only this thread takes waits off the list, so w stays while the lock is given back. */
static void try_locked(struct locks *l, struct lock_wait *w)
{
	struct wire_lock_reply reply;
	bool interrupted = w->interrupted;
	int err = interrupted ? -EINTR : -EAGAIN;

	w->due = false;
	pthread_mutex_unlock(&l->lock);
	if (interrupted && head_answers(l))
		locks_ask_head(l, w->ask.node->ino, &w->ask, WIRE_LOCK_FORGET, w->id, &reply);
	else if (!interrupted && head_answers(l))
		err = locks_ask_once(l, &w->ask, WIRE_LOCK_WAIT, w->id);
	pthread_mutex_lock(&l->lock);
	/* A head that is away for a moment is no reason to give up: whoever waits can be interrupted. */
	if (err == -EAGAIN || err == -EIO || err == -ETIMEDOUT || err == -ECANCELED)
		return;
	TAILQ_REMOVE(&l->waits, w, link);
	pthread_mutex_unlock(&l->lock);
	w->done(w, err);
	pthread_mutex_lock(&l->lock);
}

/* The debt stays on the list meanwhile, so that nobody locks before it is paid. */
static bool pay_locked(struct locks *l, struct debt *d)
{
	struct lock_ask ask = { .owner = d->owner, .end = INT64_MAX, .type = WIRE_LOCK_NONE, .kind = d->kind };
	struct wire_lock_reply reply;
	uint64_t ino = d->ino;

	pthread_mutex_unlock(&l->lock);
	int err = head_answers(l) ? locks_ask_head(l, ino, &ask, 0, 0, &reply) : -EIO;
	pthread_mutex_lock(&l->lock);
	if (err && err != -ESTALE)
		return false;
	LIST_REMOVE(d, link);
	free(d);
	return true;
}

static void renew_locked(struct locks *l)
{
	struct lock_ask none = { 0 };
	struct wire_lock_reply reply;

	l->renew = false;
	if (!l->tenure)
		return;
	pthread_mutex_unlock(&l->lock);
	locks_ask_head(l, 0, &none, WIRE_LOCK_RENEW, 0, &reply);
	pthread_mutex_lock(&l->lock);
}

static struct lock_wait *next_due_locked(struct locks *l)
{
	struct lock_wait *w;

	TAILQ_FOREACH(w, &l->waits, link)
	{
		if (w->interrupted)
			return w;
	}
	TAILQ_FOREACH(w, &l->waits, link)
	{
		if (w->due)
			return w;
	}
	return NULL;
}

/* True after a pause in which nothing came: all are to be tried again. */
static bool pause_locked(struct locks *l, uint64_t until)
{
	struct timespec ts = { .tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u) };

	if (TAILQ_EMPTY(&l->waits) && LIST_EMPTY(&l->debts)) {
		pthread_cond_wait(&l->wake, &l->lock);
		return false;
	}
	return pthread_cond_timedwait(&l->wake, &l->lock, &ts) == ETIMEDOUT;
}

static void *locks_main(void *arg)
{
	struct locks *l = arg;
	uint64_t again = time_mono_ns() + AGAIN_NS;
	struct lock_wait *w;

	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		if (l->renew) {
			renew_locked(l);
		} else if ((w = next_due_locked(l))) {
			try_locked(l, w);
		} else if (pause_locked(l, again) || time_mono_ns() >= again) {
			while (!LIST_EMPTY(&l->debts) && pay_locked(l, LIST_FIRST(&l->debts)))
				;
			all_due_locked(l);
			again = time_mono_ns() + AGAIN_NS;
		}
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* ---- life ---- */

/* The same for all mounts in one pid namespace of one run of one machine. */
static uint64_t place_of(void)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	char text[128] = "";
	AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, 36) != 36 || readlink("/proc/self/ns/pid", text + 36, 64) <= 0)
		return 0;
	for (const char *p = text; *p; p++)
		h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	return h;
}

int locks_new(struct mount *m, struct locks **ret)
{
	struct locks *l = calloc(1, sizeof(*l));
	pthread_condattr_t attr;
	int err;

	if (!l)
		return -ENOMEM;
	l->m = m;
	l->place = place_of();
	LIST_INIT(&l->claims);
	LIST_INIT(&l->debts);
	TAILQ_INIT(&l->waits);
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&l->released, NULL);
	err = -pthread_create(&l->thread, NULL, locks_main, l);
	if (err)
		free(l);
	else
		*ret = l;
	return err;
}

void locks_stop(struct mount *m)
{
	struct locks *l = m->locks;
	struct lock_wait *w;

	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	while ((w = TAILQ_FIRST(&l->waits))) {
		TAILQ_REMOVE(&l->waits, w, link);
		w->done(w, -EINTR);
	}
}

void locks_end(struct mount *m)
{
	struct lock_ask none = { 0 };
	struct wire_lock_reply reply;
	struct locks *l = m->locks;

	if (l->next_wait || l->tenure)
		locks_ask_head(l, 0, &none, WIRE_LOCK_END, 0, &reply);
}

void locks_free(struct mount *m)
{
	struct locks *l = m->locks;
	struct claim *c;
	struct debt *d;

	if (!l)
		return;
	while ((c = LIST_FIRST(&l->claims))) {
		LIST_REMOVE(c, link);
		free(c);
	}
	while ((d = LIST_FIRST(&l->debts))) {
		LIST_REMOVE(d, link);
		free(d);
	}
	pthread_cond_destroy(&l->wake);
	pthread_cond_destroy(&l->released);
	pthread_mutex_destroy(&l->lock);
	free(l);
	m->locks = NULL;
}
