#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define POOL_STACK_BYTES (1u << 20)

struct pool_entry {
	pool_job *job;
	void *arg;
};

struct pool {
	pthread_mutex_t lock; /* guards all below but threads and n_threads, which do not change */
	pthread_cond_t wake;  /* something was queued, or stop was set */
	bool stop;
	size_t first, count, cap; /* the queue: a ring */
	struct pool_entry *queue;
	size_t n_threads;
	pthread_t *threads;
};

static void *pool_main(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (p->count == 0 && !p->stop)
			pthread_cond_wait(&p->wake, &p->lock);
		if (p->count == 0)
			break;
		struct pool_entry e = p->queue[p->first];
		p->first = (p->first + 1) % p->cap;
		p->count--;
		pthread_mutex_unlock(&p->lock);
		e.job(e.arg);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int pool_new(size_t n_threads, size_t queue_max, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));
	pthread_attr_t attr;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->cap = queue_max ? queue_max : 1;
	p->queue = calloc(p->cap, sizeof(*p->queue));
	p->threads = calloc(n_threads, sizeof(*p->threads));
	if (!p->queue || !p->threads) {
		pool_free(p);
		return -ENOMEM;
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, POOL_STACK_BYTES);
	for (; p->n_threads < n_threads; p->n_threads++) {
		int err = pthread_create(&p->threads[p->n_threads], &attr, pool_main, p);
		if (err) {
			pthread_attr_destroy(&attr);
			pool_free(p);
			return -err;
		}
	}
	pthread_attr_destroy(&attr);
	*ret = p;
	return 0;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	free(p->threads);
	free(p->queue);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int pool_add(struct pool *p, pool_job *job, void *arg)
{
	int err = 0;

	pthread_mutex_lock(&p->lock);
	if (p->count == p->cap || p->stop) {
		err = -EAGAIN;
	} else {
		p->queue[(p->first + p->count++) % p->cap] = (struct pool_entry){ job, arg };
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
	return err;
}

size_t pool_threads(const struct pool *p)
{
	return p->n_threads;
}

/* One pool_each: shared by the caller and the helpers that got a place in the queue; the last to leave frees it. */
struct pool_share {
	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t n;
	atomic_size_t next, done, refs;
	pthread_mutex_t lock;
	pthread_cond_t all_done;
};

static void pool_share_unref(struct pool_share *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	pthread_cond_destroy(&s->all_done);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void pool_share_work(struct pool_share *s)
{
	size_t i;

	while ((i = atomic_fetch_add(&s->next, 1)) < s->n) {
		s->fn(s->arg, i);
		if (atomic_fetch_add(&s->done, 1) + 1 == s->n) {
			pthread_mutex_lock(&s->lock);
			pthread_cond_signal(&s->all_done);
			pthread_mutex_unlock(&s->lock);
		}
	}
}

static void pool_share_job(void *arg)
{
	pool_share_work(arg);
	pool_share_unref(arg);
}

static void run_alone(size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
	for (size_t i = 0; i < n; i++)
		fn(arg, i);
}

void pool_each(struct pool *p, size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
	struct pool_share *s = n > 1 ? calloc(1, sizeof(*s)) : NULL;

	if (!s) {
		run_alone(n, fn, arg);
		return;
	}
	s->fn = fn;
	s->arg = arg;
	s->n = n;
	atomic_init(&s->refs, 1);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->all_done, NULL);
	for (size_t i = 0; i + 1 < n && i < p->n_threads; i++) {
		atomic_fetch_add(&s->refs, 1);
		if (pool_add(p, pool_share_job, s) < 0) {
			atomic_fetch_sub(&s->refs, 1);
			break;
		}
	}
	pool_share_work(s);
	pthread_mutex_lock(&s->lock);
	while (atomic_load(&s->done) < n)
		pthread_cond_wait(&s->all_done, &s->lock);
	pthread_mutex_unlock(&s->lock);
	pool_share_unref(s);
}
