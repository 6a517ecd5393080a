#include "idle.h"
#include "file.h"
#include "head.h"

#include <sys/queue.h>

#define IDLE_MAX 4096
#define FORGET_BATCH 512         /* from so many on the head is told */
#define FORGET_MAX 65536         /* in one request */
#define FORGOTTEN_MAX (1u << 20) /* that wait for a head that is away */

TAILQ_HEAD(node_list, node);

struct idle {
	struct mount *m;
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below, and the links of nodes */
	pthread_cond_t wake;
	bool stop;
	size_t n;
	uint64_t *forgotten; /* malloc'ed */
	size_t n_forgotten, forgotten_cap;
	struct node_list kept, leaving; /* kept: the longest unused first */
};

static void leave_locked(struct idle *l, struct node *n)
{
	TAILQ_REMOVE(&l->kept, n, idle_link);
	l->n--;
	n->idle_state = IDLE_LEAVING;
	TAILQ_INSERT_TAIL(&l->leaving, n, idle_link);
	pthread_cond_signal(&l->wake);
}

static void forget_locked(struct idle *l)
{
	AUTO_FREE uint64_t *inos = l->forgotten;
	size_t n = l->n_forgotten;

	l->forgotten = NULL;
	l->n_forgotten = l->forgotten_cap = 0;
	pthread_mutex_unlock(&l->lock);
	for (size_t i = 0; i < n; i += FORGET_MAX)
		head_forget(l->m, inos + i, MIN(n - i, (size_t)FORGET_MAX));
	pthread_mutex_lock(&l->lock);
}

static struct node *next_leaving(struct idle *l)
{
	struct node *n = NULL;

	pthread_mutex_lock(&l->lock);
	while (!l->stop && TAILQ_EMPTY(&l->leaving)) {
		if (l->n_forgotten >= FORGET_BATCH)
			forget_locked(l);
		else
			pthread_cond_wait(&l->wake, &l->lock);
	}
	if (!l->stop) {
		n = TAILQ_FIRST(&l->leaving);
		TAILQ_REMOVE(&l->leaving, n, idle_link);
		n->idle_state = IDLE_NOT;
	}
	pthread_mutex_unlock(&l->lock);
	return n;
}

static bool is_kept(struct idle *l, struct node *n)
{
	pthread_mutex_lock(&l->lock);
	bool kept = n->idle_state == IDLE_KEPT;
	pthread_mutex_unlock(&l->lock);
	return kept;
}

static void *idle_main(void *arg)
{
	struct idle *l = arg;
	struct node *n;

	while ((n = next_leaving(l))) {
		node_busy_begin(n);
		if (!is_kept(l, n)) /* opened and closed again meanwhile */
			file_unload_unused(l->m, n, true);
		node_busy_end(n);
		node_unref(l->m, n);
	}
	return NULL;
}

int idle_new(struct mount *m, struct idle **ret)
{
	struct idle *l = calloc(1, sizeof(*l));
	int err;

	if (!l)
		return -ENOMEM;
	l->m = m;
	TAILQ_INIT(&l->kept);
	TAILQ_INIT(&l->leaving);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->wake, NULL);
	err = -pthread_create(&l->thread, NULL, idle_main, l);
	if (err)
		free(l);
	else
		*ret = l;
	return err;
}

void idle_stop(struct idle *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
}

void idle_free(struct mount *m, struct idle *l)
{
	struct node *n;

	if (!l)
		return;
	TAILQ_CONCAT(&l->kept, &l->leaving, idle_link);
	while ((n = TAILQ_FIRST(&l->kept))) {
		TAILQ_REMOVE(&l->kept, n, idle_link);
		file_unload_unused(m, n, false);
		node_unref(m, n);
	}
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	free(l->forgotten);
	free(l);
}

static bool grow_locked(struct idle *l)
{
	size_t cap = l->forgotten_cap ? 2 * l->forgotten_cap : FORGET_BATCH;
	uint64_t *grown = cap <= FORGOTTEN_MAX ? realloc(l->forgotten, cap * sizeof(*grown)) : NULL;

	if (!grown)
		return false;
	l->forgotten = grown;
	l->forgotten_cap = cap;
	return true;
}

/* What there is no room for stays on the head's books until this mount forgets it again, or ends. */
void idle_forgotten(struct idle *l, uint64_t ino)
{
	pthread_mutex_lock(&l->lock);
	if (l->n_forgotten < l->forgotten_cap || grow_locked(l))
		l->forgotten[l->n_forgotten++] = ino;
	if (l->n_forgotten == FORGET_BATCH)
		pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

void idle_put(struct idle *l, struct node *n)
{
	pthread_mutex_lock(&l->lock);
	if (n->idle_state == IDLE_NOT) {
		TAILQ_INSERT_TAIL(&l->kept, node_ref(n), idle_link);
		n->idle_state = IDLE_KEPT;
		if (++l->n > IDLE_MAX)
			leave_locked(l, TAILQ_FIRST(&l->kept));
	}
	pthread_mutex_unlock(&l->lock);
}

void idle_take(struct mount *m, struct node *n)
{
	struct idle *l = m->idle;

	pthread_mutex_lock(&l->lock);
	bool kept = n->idle_state == IDLE_KEPT;
	if (kept) {
		TAILQ_REMOVE(&l->kept, n, idle_link);
		n->idle_state = IDLE_NOT;
		l->n--;
	}
	pthread_mutex_unlock(&l->lock);
	if (kept)
		node_unref(m, n); /* the caller has one of its own */
}

void idle_give_back(struct mount *m, struct node *n)
{
	struct idle *l = m->idle;

	pthread_mutex_lock(&l->lock);
	if (n->idle_state == IDLE_KEPT)
		leave_locked(l, n);
	pthread_mutex_unlock(&l->lock);
}
