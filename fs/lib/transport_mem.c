/* A test double: two ends in one process, joined by a bounded ring of bytes each way. */
#include "transport_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define RING_BYTES 65536

struct ring {
	uint8_t bytes[RING_BYTES];
	size_t head, used;
};

struct pair {
	pthread_mutex_t lock;   /* guards all below */
	pthread_cond_t changed; /* any of it */
	struct ring rings[2];   /* rings[i] is filled by end i */
	bool closed;
	unsigned n_ends;
};

struct end {
	struct transport t;
	struct pair *pair;
	unsigned which;
	unsigned send_ms, receive_ms;
};

static struct end *end_of(struct transport *t)
{
	return (struct end *)t;
}

/* -ETIMEDOUT when nothing changed within ms (0: waits for ever). */
static int wait_locked(struct pair *p, unsigned ms)
{
	uint64_t until = time_mono_ns() + ms * UINT64_C(1000000);
	struct timespec ts = { .tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u) };

	if (!ms)
		return -pthread_cond_wait(&p->changed, &p->lock);
	return -pthread_cond_timedwait(&p->changed, &p->lock, &ts);
}

static size_t ring_put(struct ring *r, const uint8_t *buf, size_t len)
{
	size_t tail = (r->head + r->used) % RING_BYTES;
	size_t n = MIN(MIN(len, RING_BYTES - r->used), RING_BYTES - tail);

	memcpy(r->bytes + tail, buf, n);
	r->used += n;
	return n;
}

static size_t ring_get(struct ring *r, uint8_t *buf, size_t len)
{
	size_t n = MIN(MIN(len, r->used), RING_BYTES - r->head);

	memcpy(buf, r->bytes + r->head, n);
	r->head = (r->head + n) % RING_BYTES;
	r->used -= n;
	return n;
}

static int put_locked(struct end *e, const uint8_t *buf, size_t len)
{
	int err = 0;

	while (!err && len > 0) {
		size_t n = e->pair->closed ? 0 : ring_put(&e->pair->rings[e->which], buf, len);
		buf += n;
		len -= n;
		if (e->pair->closed)
			err = -ECONNRESET;
		else if (n)
			pthread_cond_broadcast(&e->pair->changed);
		else
			err = wait_locked(e->pair, e->send_ms);
	}
	return err;
}

static int mem_send(struct transport *t, struct iovec *iov, int n_iov, int fd)
{
	struct end *e = end_of(t);
	int err = fd >= 0 ? -EOPNOTSUPP : 0;

	pthread_mutex_lock(&e->pair->lock);
	for (int i = 0; i < n_iov && !err; i++)
		err = put_locked(e, iov[i].iov_base, iov[i].iov_len);
	pthread_mutex_unlock(&e->pair->lock);
	return err;
}

static int mem_receive(struct transport *t, void *buf, size_t len, int *ret_fd)
{
	struct end *e = end_of(t);
	struct ring *r = &e->pair->rings[!e->which];
	size_t done = 0;
	int err = 0;

	pthread_mutex_lock(&e->pair->lock);
	while (!err && done < len) {
		size_t n = ring_get(r, (uint8_t *)buf + done, len - done);
		done += n;
		if (n)
			pthread_cond_broadcast(&e->pair->changed);
		else if (e->pair->closed)
			err = done ? -ECONNRESET : -ENODATA;
		else
			err = wait_locked(e->pair, e->receive_ms);
	}
	pthread_mutex_unlock(&e->pair->lock);
	if (!err && ret_fd)
		*ret_fd = -1;
	return err;
}

static int mem_limit(struct transport *t, unsigned send_ms, unsigned receive_ms)
{
	end_of(t)->send_ms = send_ms;
	end_of(t)->receive_ms = receive_ms;
	return 0;
}

static void mem_shutdown(struct transport *t)
{
	struct pair *p = end_of(t)->pair;

	pthread_mutex_lock(&p->lock);
	p->closed = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static void pair_unref(struct pair *p)
{
	pthread_mutex_lock(&p->lock);
	bool last = --p->n_ends == 0;
	pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
	free(p);
}

static void mem_free(struct transport *t)
{
	mem_shutdown(t);
	pair_unref(end_of(t)->pair);
	free(t);
}

static const struct transport_ops mem_ops = {
	.name = "mem",
	.send = mem_send,
	.receive = mem_receive,
	.limit = mem_limit,
	.shutdown = mem_shutdown,
	.free = mem_free,
};

static struct pair *pair_new(void)
{
	struct pair *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
	p->n_ends = 2;
	return p;
}

static struct end *end_new(struct pair *p, unsigned which)
{
	struct end *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->t.ops = &mem_ops;
	snprintf(e->t.peer, sizeof(e->t.peer), "mem %c", "ab"[which]);
	e->pair = p;
	e->which = which;
	return e;
}

int transport_mem_pair(struct transport **ret_a, struct transport **ret_b)
{
	struct pair *p = pair_new();
	struct end *a = end_new(p, 0), *b = end_new(p, 1);

	if (!p || !a || !b) {
		free(p);
		free(a);
		free(b);
		return -ENOMEM;
	}
	*ret_a = &a->t;
	*ret_b = &b->t;
	return 0;
}
