#include "inval.h"
#include "array.h"
#include "entries.h"
#include "head_call.h"
#include "idle.h"
#include "locks.h"
#include "log.h"

#include <stdlib.h>
#include <time.h>

#define ZARR_NAME "zarr.json"
#define INVAL_WAIT_MS 1000

enum job_kind { JOB_NODES, JOB_ENTRY, JOB_REOPEN };

/* Each has a thread of its own, for what is in one may wait for what must not wait: pages that others changed, for our own writers; entries,
 * for the kernel's directory locks; pages that we changed, for others' changes; what is open, for the head.  Attributes never wait. */
enum queue { QUEUE_PAGES, QUEUE_ENTRIES, QUEUE_OWN, QUEUE_ATTRS, QUEUE_REOPEN, QUEUES };

/* One thing to tell the kernel (or, once it is back, the head). */
struct job {
	struct job *next;
	enum job_kind kind;
	enum queue queue;
	struct node **nodes; /* counted */
	size_t n_nodes;
	bool data;
	char name[SLAB_NAME_MAX + 1];
	uint64_t push_id; /* to be answered; 0: none, or answered already; inval.lock */
	struct waiter *waiter;
};

struct waiter { /* guarded by inval.lock; the waiting thread owns it, and leaves only with done, or after detaching it */
	bool done;
};

struct inval {
	struct mount *m;
	struct inval_kernel kernel;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake, done;
	bool stop;
	struct job *first[QUEUES], **last[QUEUES];
	struct job *dropping;            /* the job of QUEUE_PAGES that is being done */
	_Atomic unsigned n_waiting;      /* pushes in QUEUE_PAGES that are not answered */
	_Atomic unsigned n_jobs[QUEUES]; /* queued or under way */
	unsigned n_threads;
	pthread_t threads[QUEUES];
};

static void job_free(struct mount *m, struct job *j)
{
	for (size_t i = 0; i < j->n_nodes; i++)
		node_unref(m, j->nodes[i]);
	free(j->nodes);
	free(j);
}

static uint64_t take_push_locked(struct inval *v, struct job *j)
{
	uint64_t id = j->push_id;

	j->push_id = 0;
	if (id && j->queue == QUEUE_PAGES)
		atomic_fetch_sub(&v->n_waiting, 1);
	return id;
}

static void job_run(struct inval *v, struct job *j)
{
	enum queue queue = j->queue;
	uint64_t push_id;

	for (size_t i = 0; i < j->n_nodes && v->kernel.node; i++) {
		if (j->kind == JOB_ENTRY)
			v->kernel.entry(v->kernel.arg, j->nodes[i], j->name);
		else
			v->kernel.node(v->kernel.arg, j->nodes[i], j->data);
	}
	if (j->kind == JOB_REOPEN) /* a head that was started anew, or has given us up, knows of no opens of ours */
		head_reopen_all(v->m);
	if (j->kind == JOB_NODES)
		for (size_t i = 0; i < j->n_nodes; i++)
			idle_give_back(v->m, j->nodes[i]);
	pthread_mutex_lock(&v->lock);
	if (j == v->dropping)
		v->dropping = NULL;
	push_id = take_push_locked(v, j);
	if (j->waiter) {
		j->waiter->done = true;
		pthread_cond_broadcast(&v->done);
	}
	atomic_fetch_sub(&v->n_jobs[queue], 1);
	pthread_mutex_unlock(&v->lock);
	if (push_id)
		client_push_done(cluster_head(v->m->cluster), push_id);
	job_free(v->m, j);
}

struct thread_start {
	struct inval *v;
	enum queue queue;
};

static struct job *job_take(struct inval *v, enum queue queue)
{
	struct job *j;

	pthread_mutex_lock(&v->lock);
	while (!v->first[queue] && !v->stop)
		pthread_cond_wait(&v->wake, &v->lock);
	j = v->stop ? NULL : v->first[queue];
	if (j) {
		v->first[queue] = j->next;
		if (!j->next)
			v->last[queue] = &v->first[queue];
		if (queue == QUEUE_PAGES)
			v->dropping = j;
	}
	pthread_mutex_unlock(&v->lock);
	return j;
}

static void *inval_main(void *arg)
{
	struct thread_start start = *(struct thread_start *)arg;
	struct job *j;

	free(arg);
	while ((j = job_take(start.v, start.queue)))
		job_run(start.v, j);
	return NULL;
}

int inval_new(struct mount *m, struct inval **ret)
{
	struct inval *v = calloc(1, sizeof(*v));
	pthread_condattr_t attr;

	if (!v)
		return -ENOMEM;
	v->m = m;
	pthread_mutex_init(&v->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&v->wake, &attr);
	pthread_cond_init(&v->done, &attr);
	pthread_condattr_destroy(&attr);
	for (unsigned i = 0; i < QUEUES; i++)
		v->last[i] = &v->first[i];
	*ret = v;
	return 0;
}

int inval_start(struct inval *v, const struct inval_kernel *kernel)
{
	pthread_mutex_lock(&v->lock);
	v->kernel = *kernel;
	pthread_mutex_unlock(&v->lock);
	for (; v->n_threads < QUEUES; v->n_threads++) {
		struct thread_start *start = malloc(sizeof(*start));
		if (!start)
			return -ENOMEM;
		*start = (struct thread_start){ v, v->n_threads };
		int err = pthread_create(&v->threads[v->n_threads], NULL, inval_main, start);
		if (err) {
			free(start);
			return -err;
		}
	}
	return 0;
}

void inval_stop(struct inval *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&v->lock);
	v->stop = true;
	pthread_cond_broadcast(&v->wake);
	pthread_mutex_unlock(&v->lock);
	for (unsigned i = 0; i < v->n_threads; i++)
		pthread_join(v->threads[i], NULL);
	v->n_threads = 0;
	for (unsigned i = 0; i < QUEUES; i++) {
		while (v->first[i]) {
			struct job *j = v->first[i];
			v->first[i] = j->next;
			job_free(v->m, j);
		}
	}
}

void inval_free(struct inval *v)
{
	if (!v)
		return;
	pthread_cond_destroy(&v->wake);
	pthread_cond_destroy(&v->done);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

/* False: too late, the job is freed. */
static bool job_add(struct inval *v, struct job *j)
{
	enum queue queue = j->queue;
	bool stop;

	j->next = NULL;
	pthread_mutex_lock(&v->lock);
	stop = v->stop;
	if (!stop) {
		*v->last[queue] = j;
		v->last[queue] = &j->next;
		if (queue == QUEUE_PAGES && j->push_id)
			atomic_fetch_add(&v->n_waiting, 1);
		atomic_fetch_add(&v->n_jobs[queue], 1);
		pthread_cond_broadcast(&v->wake);
	}
	pthread_mutex_unlock(&v->lock);
	if (stop)
		job_free(v->m, j);
	return !stop;
}

/* The nodes that show inode `ino`: itself and, when it is an array's directory, its document and views.  With ino 0: all. */
static bool node_shows(const struct node *n, uint64_t ino)
{
	return ino == 0 || n->ino == ino || (n->array && n->array->ino == ino) ||
	       (n->kind == NODE_FILE && n->parent_ino == ino && !strcmp(n->name, ZARR_NAME));
}

static size_t collect_nodes(struct mount *m, uint64_t ino, const struct node *but, struct node ***ret)
{
	struct node **nodes = NULL;
	size_t n_nodes = 0, pos = 0;
	uint64_t key;
	void *value;

	*ret = NULL;
	pthread_mutex_lock(&m->table_lock);
	if (ino != 0 && !map_get(&m->arrays, ino)) {
		struct node *n = map_get(&m->nodes, ino);
		if (n && n != but && (nodes = malloc(sizeof(*nodes))))
			nodes[n_nodes++] = node_ref(n);
	} else if ((nodes = malloc((map_count(&m->nodes) + 1) * sizeof(*nodes)))) {
		while (map_next(&m->nodes, &pos, &key, &value))
			if (value != but && node_shows(value, ino))
				nodes[n_nodes++] = node_ref(value);
	}
	pthread_mutex_unlock(&m->table_lock);
	*ret = nodes;
	return n_nodes;
}

static void mark_old(struct node **nodes, size_t n, bool data)
{
	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&nodes[i]->lock);
		nodes[i]->attr_valid = false;
		if (data)
			nodes[i]->cached_generation = 0;
		pthread_mutex_unlock(&nodes[i]->lock);
	}
}

static struct job *unmarked_job(struct mount *m, uint64_t ino, const struct node *but, bool data, uint64_t push_id)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->kind = JOB_NODES;
	j->queue = data ? QUEUE_PAGES : QUEUE_ATTRS;
	j->data = data;
	j->push_id = push_id;
	j->n_nodes = collect_nodes(m, ino, but, &j->nodes);
	return j;
}

static struct job *nodes_job(struct mount *m, uint64_t ino, const struct node *but, bool data, uint64_t push_id)
{
	struct job *j = unmarked_job(m, ino, but, data, push_id);

	if (!j)
		return NULL;
	mark_old(j->nodes, j->n_nodes, data);
	for (size_t i = 0; ino == 0 && i < j->n_nodes; i++)
		entries_forget_all(j->nodes[i]);
	return j;
}

static struct job *entry_job(struct node *dir, const char *name, size_t name_bytes)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j || !(j->nodes = malloc(sizeof(*j->nodes)))) {
		free(j);
		return NULL;
	}
	j->kind = JOB_ENTRY;
	j->queue = QUEUE_ENTRIES;
	j->nodes[j->n_nodes++] = node_ref(dir);
	memcpy(j->name, name, MIN(name_bytes, (size_t)SLAB_NAME_MAX));
	mark_old(j->nodes, 1, false);
	return j;
}

static void push_entry(struct mount *m, uint64_t dir_ino, const char *name, size_t name_bytes)
{
	struct node *dir = node_find(m, dir_ino);
	struct job *j;

	if (dir)
		entries_changed(dir, name, name_bytes);
	j = dir ? entry_job(dir, name, name_bytes) : NULL;
	if (j)
		job_add(m->inval, j);
	node_unref(m, dir);
}

/* The kernel's attributes go first: that does not wait for pages.  NULL without memory. */
static struct job *attrs_job(const struct job *pages, uint64_t push_id)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j || !(j->nodes = calloc(pages->n_nodes + 1, sizeof(struct node *)))) {
		free(j);
		return NULL;
	}
	j->kind = JOB_NODES;
	j->queue = QUEUE_ATTRS;
	j->push_id = push_id;
	for (size_t i = 0; i < pages->n_nodes; i++)
		j->nodes[j->n_nodes++] = node_ref(pages->nodes[i]);
	return j;
}

/* Answers one push whose pages are not dropped yet; false: there is none. */
static bool answer_one(struct inval *v)
{
	struct job *attrs = NULL, *j;
	uint64_t push_id = 0;

	pthread_mutex_lock(&v->lock);
	j = v->dropping && v->dropping->push_id ? v->dropping : v->first[QUEUE_PAGES];
	while (j && !j->push_id)
		j = j->next;
	if (j) {
		push_id = take_push_locked(v, j);
		attrs = attrs_job(j, push_id);
	}
	pthread_mutex_unlock(&v->lock);
	if (attrs)
		job_add(v, attrs);
	else if (push_id)
		client_push_done(cluster_head(v->m->cluster), push_id);
	return push_id != 0;
}

static void answer_waiting(struct inval *v)
{
	while (atomic_load(&v->n_waiting) > 0 && answer_one(v))
		;
}

void inval_hold_begin(struct mount *m)
{
	atomic_fetch_add(&m->n_holding, 1);
	answer_waiting(m->inval);
}

void inval_hold_end(struct mount *m)
{
	atomic_fetch_sub(&m->n_holding, 1);
}

void inval_push(struct mount *m, uint64_t id, const struct wire_inval *body, const char *name, size_t name_bytes)
{
	uint64_t ino = le64_get(body->ino);
	uint32_t flags = le32_get(body->flags);
	struct job *j;

	if (flags & WIRE_INVAL_LOCK) {
		locks_push(m, le64_get(body->generation));
		client_push_done(cluster_head(m->cluster), id);
		return;
	}
	atomic_fetch_add(&m->inval_seq, 1);
	if (flags & WIRE_INVAL_ENTRY)
		push_entry(m, ino, name, name_bytes);
	if (flags & ~(uint32_t)WIRE_INVAL_ENTRY) {
		array_invalidate(m, ino);
		j = nodes_job(m, ino, NULL, (flags & (WIRE_INVAL_DATA | WIRE_INVAL_LAYOUT)) != 0, id);
		if (j) {
			job_add(m->inval, j);
			if (atomic_load(&m->n_holding) > 0)
				answer_waiting(m->inval);
			return;
		}
	}
	client_push_done(cluster_head(m->cluster), id);
}

void inval_all(struct mount *m)
{
	struct job *j;

	atomic_fetch_add(&m->inval_seq, 1);
	array_invalidate(m, 0);
	j = nodes_job(m, 0, NULL, true, 0);
	if (j)
		job_add(m->inval, j);
}

void inval_reopen(struct mount *m)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return;
	j->kind = JOB_REOPEN;
	j->queue = QUEUE_REOPEN;
	job_add(m->inval, j);
}

static void deadline_in(unsigned ms, struct timespec *ret)
{
	uint64_t at = time_mono_ns() + (uint64_t)ms * 1000000u;

	*ret = (struct timespec){ .tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u) };
}

static void job_add_and_wait(struct inval *v, struct job *j)
{
	struct waiter w = { 0 };
	struct timespec until;

	j->waiter = &w;
	if (!job_add(v, j))
		return;
	deadline_in(INVAL_WAIT_MS, &until);
	pthread_mutex_lock(&v->lock);
	while (!w.done)
		if (pthread_cond_timedwait(&v->done, &v->lock, &until))
			break;
	if (!w.done)
		j->waiter = NULL; /* the job is not freed before it has looked at its waiter under this lock */
	pthread_mutex_unlock(&v->lock);
}

void inval_siblings(struct mount *m, uint64_t array_ino, const struct node *but)
{
	struct job *j = nodes_job(m, array_ino, but, true, 0);

	if (j && j->n_nodes == 0) {
		job_free(m, j);
	} else if (j) {
		j->queue = QUEUE_OWN;
		job_add_and_wait(m->inval, j);
	}
}

static bool has_pages(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	bool has = n->n_cached > 0;
	pthread_mutex_unlock(&n->lock);
	return has;
}

/* Marks all but the file itself, whose attributes the head has just told; keeps those that have pages for the kernel to drop. */
static void mark_and_keep_cached(struct mount *m, struct job *j, uint64_t ino)
{
	size_t kept = 0;

	for (size_t i = 0; i < j->n_nodes; i++) {
		struct node *n = j->nodes[i];
		if (n->kind != NODE_FILE || n->ino != ino)
			mark_old(&n, 1, true);
		if (has_pages(n))
			j->nodes[kept++] = n;
		else
			node_unref(m, n);
	}
	j->n_nodes = kept;
}

void inval_published(struct mount *m, uint64_t ino, const struct node *but)
{
	struct job *j = unmarked_job(m, ino, but, true, 0);

	if (!j)
		return;
	mark_and_keep_cached(m, j, ino);
	j->queue = QUEUE_OWN;
	if (j->n_nodes == 0)
		job_free(m, j);
	else if (atomic_load(&m->n_holding) > 1)
		job_add(m->inval, j);
	else
		job_add_and_wait(m->inval, j);
}

void inval_drain(struct mount *m)
{
	for (enum queue i = 0; i < QUEUE_REOPEN; i++) {
		struct job *j = atomic_load(&m->inval->n_jobs[i]) ? calloc(1, sizeof(*j)) : NULL;
		if (!j)
			continue;
		j->kind = JOB_NODES;
		j->queue = i;
		job_add_and_wait(m->inval, j);
	}
}

void inval_moved(struct mount *m, struct node *n)
{
	struct job *j = nodes_job(m, n->ino, NULL, true, 0);

	if (j)
		job_add(m->inval, j);
}

void inval_entry(struct mount *m, struct node *dir, const char *name)
{
	struct job *j = entry_job(dir, name, strlen(name));

	if (j)
		job_add(m->inval, j);
}
