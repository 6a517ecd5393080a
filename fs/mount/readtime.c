#include "readtime.h"
#include "head.h"
#include "pool.h"

#include <fcntl.h>
#include <stdlib.h>

#define TOLD_TOGETHER 64
#define OLDEST_NS (UINT64_C(1000000000)) /* one that has waited for so long takes the others along with the next */
#define DAY_NS (INT64_C(86400) * 1000000000)

struct readtimes {
	pthread_mutex_t lock; /* guards the rest */
	struct wire_read_time items[TOLD_TOGETHER];
	size_t n;
	uint64_t first_ns; /* monotonic: when items[0] came */
	bool leaving;      /* someone is about to take them */
};

int readtimes_new(struct readtimes **ret)
{
	struct readtimes *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	*ret = r;
	return 0;
}

void readtimes_free(struct readtimes *r)
{
	if (!r)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void readtimes_flush(struct mount *m)
{
	struct readtimes *r = m->readtimes;
	struct wire_read_time items[TOLD_TOGETHER];
	size_t n;

	pthread_mutex_lock(&r->lock);
	n = r->n;
	memcpy(items, r->items, n * sizeof(*items));
	r->n = 0;
	r->leaving = false;
	pthread_mutex_unlock(&r->lock);
	if (n)
		head_read_times(m, items, n);
}

static void flush_job(void *arg)
{
	readtimes_flush(arg);
}

static void add(struct mount *m, uint64_t ino, uint64_t atime_ns, struct le64 ctime_ns)
{
	struct readtimes *r = m->readtimes;
	uint64_t now = time_mono_ns();
	bool due;

	pthread_mutex_lock(&r->lock);
	if (r->n == 0)
		r->first_ns = now;
	if (r->n < TOLD_TOGETHER) /* else the one who tells the others is late, and this read does not count */
		r->items[r->n++] = (struct wire_read_time){ le64_of(ino), le64_of(atime_ns), ctime_ns };
	due = !r->leaving && (r->n == TOLD_TOGETHER || now - r->first_ns >= OLDEST_NS);
	r->leaving |= due;
	pthread_mutex_unlock(&r->lock);
	if (due && pool_add(m->slow, flush_job, m)) {
		pthread_mutex_lock(&r->lock);
		r->leaving = false; /* the queue is full: the next read tries again */
		pthread_mutex_unlock(&r->lock);
	}
}

static int64_t signed_ns(struct le64 v)
{
	return (int64_t)le64_get(v);
}

/* Notes the time in the node if the read counts. */
static bool counts(struct node *n, uint64_t now, struct le64 *ret_ctime)
{
	pthread_mutex_lock(&n->lock);
	const struct wire_attr *a = &n->attr;
	bool read_since = n->read_ns && n->read_ctime_ns == le64_get(a->ctime_ns);
	int64_t atime = read_since ? (int64_t)n->read_ns : signed_ns(a->atime_ns);
	bool old = (int64_t)now > atime && now - (uint64_t)atime >= DAY_NS;
	bool due = old || (!read_since && (atime <= signed_ns(a->mtime_ns) || atime <= signed_ns(a->ctime_ns)));

	if (due) {
		n->read_ns = now;
		n->read_ctime_ns = le64_get(a->ctime_ns);
	}
	*ret_ctime = a->ctime_ns;
	pthread_mutex_unlock(&n->lock);
	return due;
}

void readtime_note(struct mount *m, struct handle *h)
{
	struct node *n = h->node;
	uint64_t now;
	struct le64 ctime;

	if (m->options.noatime || h->flags & O_NOATIME || (n->kind != NODE_FILE && n->kind != NODE_DIR) ||
	    atomic_exchange(&h->read_noted, true))
		return;
	now = time_real_ns();
	if (counts(n, now, &ctime))
		add(m, n->ino, now, ctime);
}

void readtime_show(struct node *n, struct stat *st)
{
	pthread_mutex_lock(&n->lock);
	uint64_t ns = n->read_ns && n->read_ctime_ns == le64_get(n->attr.ctime_ns) ? n->read_ns : 0;
	pthread_mutex_unlock(&n->lock);
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };
	if (ns &&
	    (t.tv_sec > st->st_atim.tv_sec || (t.tv_sec == st->st_atim.tv_sec && t.tv_nsec > st->st_atim.tv_nsec)))
		st->st_atim = t;
}
