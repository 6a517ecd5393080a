/* pool.h - a bounded pool of worker threads with a queue of jobs.
 *
 * Thread-safe.  Jobs run in the order they were added, each exactly once.  pool_free() runs what is queued, then joins.
 */
#ifndef SLAB_POOL_H
#define SLAB_POOL_H

#include <stddef.h>

struct pool;
typedef void pool_job(void *arg);

int pool_new(size_t n_threads, size_t queue_max, struct pool **ret);
void pool_free(struct pool *p);                         /* NULL is fine; must not be called from a job */
int pool_add(struct pool *p, pool_job *job, void *arg); /* -EAGAIN when the queue is full */
size_t pool_threads(const struct pool *p);

/* Runs fn(arg, i) for i in [0, n) on the pool's threads and on the caller; returns when all have run.  Safe to call from
 * several threads at once, and from a job of the same pool (the caller works too, so it cannot starve). */
void pool_each(struct pool *p, size_t n, void (*fn)(void *arg, size_t i), void *arg);

#endif
