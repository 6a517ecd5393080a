/* The names are made durable now and then by themselves, so that what was closed survives a power cut some seconds later. */
#include "meta_int.h"

#include "store.h"

struct meta_syncer {
	struct meta *m;
	pthread_t thread;
	pthread_mutex_t lock; /* guards stop */
	pthread_cond_t wake;
	bool stop;
};

static struct timespec next_turn(void)
{
	uint64_t ns = time_mono_ns() + STORE_SYNC_MS * UINT64_C(1000000);

	return (struct timespec){ (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
}

static void *syncer_run(void *arg)
{
	struct meta_syncer *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		struct timespec at = next_turn();
		while (!s->stop && pthread_cond_timedwait(&s->wake, &s->lock, &at) != ETIMEDOUT)
			;
		if (s->stop || !atomic_exchange(&s->m->changed, false))
			continue;
		pthread_mutex_unlock(&s->lock);
		meta_sync(s->m); /* a failure is logged, and told to who asks for an fsync */
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int meta_syncer_new(struct meta *m, struct meta_syncer **ret)
{
	struct meta_syncer *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	int err;

	if (!s)
		return -ENOMEM;
	s->m = m;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	err = -pthread_create(&s->thread, NULL, syncer_run, s);
	if (err) {
		free(s);
		return err;
	}
	*ret = s;
	return 0;
}

void meta_syncer_free(struct meta_syncer *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
