#include "node.h"

void cancel_init(struct cancel *c)
{
	pthread_mutex_init(&c->lock, NULL);
	atomic_init(&c->on, false);
	c->fn = NULL;
	c->arg = NULL;
}

void cancel_fini(struct cancel *c)
{
	pthread_mutex_destroy(&c->lock);
}

/* fn runs under the lock, so that cancel_watch(c, NULL, NULL) returns only when it no longer runs. */
static void call_once_locked(struct cancel *c)
{
	void (*fn)(void *arg) = c->fn;

	c->fn = NULL;
	if (fn)
		fn(c->arg);
}

void cancel_fire(struct cancel *c)
{
	pthread_mutex_lock(&c->lock);
	atomic_store(&c->on, true);
	call_once_locked(c);
	pthread_mutex_unlock(&c->lock);
}

void cancel_watch(struct cancel *c, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&c->lock);
	c->fn = fn;
	c->arg = arg;
	if (atomic_load(&c->on))
		call_once_locked(c);
	pthread_mutex_unlock(&c->lock);
}
