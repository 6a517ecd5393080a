#include "inval.h"

#include <pthread.h>
#include <time.h>

#include "log.h"
#include "map.h"
#include "server.h"

struct holder {
	uint64_t session : 63;
	uint64_t told : 1; /* of a change since it last asked */
	uint64_t request;  /* its last that asked */
};

struct holders { /* of one inode */
	uint32_t n, cap;
	struct holder at[];
};

struct waiter {
	size_t left;
};

struct pending { /* a push that has not been answered */
	struct waiter *waiter;
	uint64_t session;
};

struct inval {
	const struct inval_ops *ops;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t answered;
	struct map inodes;   /* ino -> struct holders */
	struct map sessions; /* number -> struct session, one reference each */
	struct map pending;  /* seq -> struct pending */
	uint64_t next_seq;
};

const struct inval_ops inval_server_ops = { session_ref, session_unref, session_push, session_cut, session_name };

int inval_new(const struct inval_ops *ops, struct inval **ret)
{
	struct inval *iv = calloc(1, sizeof(*iv));
	pthread_condattr_t attr;

	if (!iv)
		return -ENOMEM;
	iv->ops = ops;
	iv->next_seq = 1;
	pthread_mutex_init(&iv->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&iv->answered, &attr);
	pthread_condattr_destroy(&attr);
	*ret = iv;
	return 0;
}

void inval_free(struct inval *iv)
{
	size_t pos = 0;
	uint64_t key;
	void *value;

	if (!iv)
		return;
	while (map_next(&iv->inodes, &pos, &key, &value))
		free(value);
	for (pos = 0; map_next(&iv->sessions, &pos, &key, &value);)
		iv->ops->unref(value);
	map_fini(&iv->inodes);
	map_fini(&iv->sessions);
	map_fini(&iv->pending);
	pthread_cond_destroy(&iv->answered);
	pthread_mutex_destroy(&iv->lock);
	free(iv);
}

static bool holders_add(struct inval *iv, uint64_t ino, uint64_t session, uint64_t request)
{
	struct holders *h = map_get(&iv->inodes, ino);

	for (uint32_t i = 0; h && i < h->n; i++)
		if (h->at[i].session == session) {
			h->at[i].told = false;
			h->at[i].request = MAX(h->at[i].request, request);
			return true;
		}
	if (!h || h->n == h->cap) {
		uint32_t cap = h ? h->cap * 2 : 1;
		struct holders *bigger = realloc(h, sizeof(*h) + cap * sizeof(h->at[0]));
		if (!bigger)
			return false;
		if (!h)
			bigger->n = 0;
		bigger->cap = cap;
		h = bigger;
		if (map_put(&iv->inodes, ino, h) < 0) {
			free(h); /* a replaced value needs no memory, so this one was new */
			return false;
		}
	}
	h->at[h->n++] = (struct holder){ .session = session, .request = request };
	return true;
}

static bool meet_locked(struct inval *iv, uint64_t session, struct session *handle)
{
	if (map_get(&iv->sessions, session))
		return true;
	if (map_put(&iv->sessions, session, handle))
		return false;
	iv->ops->ref(handle);
	return true;
}

void inval_meet(struct inval *iv, uint64_t session, struct session *handle)
{
	pthread_mutex_lock(&iv->lock);
	meet_locked(iv, session, handle);
	pthread_mutex_unlock(&iv->lock);
}

void inval_poke(struct inval *iv, uint64_t session, uint64_t ino, uint64_t wait)
{
	struct wire_inval body = { .ino = le64_of(ino),
				   .generation = le64_of(wait),
				   .flags = le32_of(WIRE_INVAL_LOCK) };

	pthread_mutex_lock(&iv->lock);
	struct session *handle = map_get(&iv->sessions, session);
	uint64_t seq = iv->next_seq++;
	if (handle)
		iv->ops->ref(handle);
	pthread_mutex_unlock(&iv->lock);
	if (!handle)
		return;
	if (iv->ops->push(handle, seq, &body, NULL, 0))
		log_debug("%s: could not be told of a lock", iv->ops->name(handle));
	iv->ops->unref(handle);
}

/* A session that could not be noted would never hear of a change: it is better off without its caches. */
void inval_hold(struct inval *iv, uint64_t ino, uint64_t session, struct session *handle, uint64_t request)
{
	bool ok;

	pthread_mutex_lock(&iv->lock);
	ok = meet_locked(iv, session, handle) && holders_add(iv, ino, session, request);
	pthread_mutex_unlock(&iv->lock);
	if (!ok)
		iv->ops->cut(handle, "out of memory");
}

static void holders_remove(struct holders *h, uint64_t session)
{
	for (uint32_t i = 0; i < h->n; i++)
		if (h->at[i].session == session) {
			h->at[i] = h->at[--h->n];
			return;
		}
}

static void drop_if_empty(struct inval *iv, uint64_t ino, struct holders *h)
{
	if (h->n)
		return;
	map_del(&iv->inodes, ino);
	free(h);
}

void inval_forget(struct inval *iv, uint64_t ino, uint64_t session, uint64_t before)
{
	struct holders *h;

	pthread_mutex_lock(&iv->lock);
	h = map_get(&iv->inodes, ino);
	for (uint32_t i = 0; h && i < h->n; i++)
		if (h->at[i].session == session && h->at[i].request <= before) {
			h->at[i] = h->at[--h->n];
			drop_if_empty(iv, ino, h);
			break;
		}
	pthread_mutex_unlock(&iv->lock);
}

size_t inval_count(struct inval *iv)
{
	pthread_mutex_lock(&iv->lock);
	size_t n = map_count(&iv->inodes);
	pthread_mutex_unlock(&iv->lock);
	return n;
}

void inval_gone(struct inval *iv, uint64_t ino)
{
	pthread_mutex_lock(&iv->lock);
	free(map_del(&iv->inodes, ino));
	pthread_mutex_unlock(&iv->lock);
}

void inval_forget_told(struct inval *iv, uint64_t ino, bool (*keeps)(void *arg, uint64_t ino, uint64_t session),
		       void *arg)
{
	struct holders *h;

	pthread_mutex_lock(&iv->lock);
	h = map_get(&iv->inodes, ino);
	for (uint32_t i = 0; h && i < h->n;) {
		if (h->at[i].told && !keeps(arg, ino, h->at[i].session))
			h->at[i] = h->at[--h->n];
		else
			i++;
	}
	if (h)
		drop_if_empty(iv, ino, h);
	pthread_mutex_unlock(&iv->lock);
}

bool inval_held(struct inval *iv, uint64_t ino, uint64_t session)
{
	bool held = false;
	struct holders *h;

	pthread_mutex_lock(&iv->lock);
	h = map_get(&iv->inodes, ino);
	for (uint32_t i = 0; h && i < h->n; i++)
		held = held || h->at[i].session == session;
	pthread_mutex_unlock(&iv->lock);
	return held;
}

static void pending_answered(struct inval *iv, uint64_t seq)
{
	struct pending *p = map_del(&iv->pending, seq);

	if (!p)
		return;
	p->waiter->left--;
	free(p);
	pthread_cond_broadcast(&iv->answered);
}

void inval_acked(struct inval *iv, uint64_t seq, uint64_t session)
{
	const struct pending *p;

	pthread_mutex_lock(&iv->lock);
	p = map_get(&iv->pending, seq);
	if (p && p->session == session)
		pending_answered(iv, seq);
	pthread_mutex_unlock(&iv->lock);
}

void inval_session_end(struct inval *iv, uint64_t session)
{
	struct session *handle;
	size_t pos = 0;
	uint64_t key;
	void *value;

	pthread_mutex_lock(&iv->lock);
	handle = map_del(&iv->sessions, session);
	while (handle && map_next(&iv->inodes, &pos, &key, &value)) {
		holders_remove(value, session);
		drop_if_empty(iv, key, value);
	}
	for (pos = 0; map_next(&iv->pending, &pos, &key, &value);)
		if (((struct pending *)value)->session == session)
			pending_answered(iv, key);
	pthread_mutex_unlock(&iv->lock);
	if (handle)
		iv->ops->unref(handle);
}

struct target {
	struct session *handle;
	uint64_t session, seq;
};

/* The holders of one inode but the origin, each with a reference and a pending push. */
static size_t targets_locked(struct inval *iv, uint64_t ino, uint64_t origin, struct waiter *w, struct target **ret)
{
	struct holders *h = map_get(&iv->inodes, ino);
	struct target *t = h && (h->n > 1 || h->at[0].session != origin) ? calloc(h->n, sizeof(*t)) : NULL;
	size_t n = 0;

	for (uint32_t i = 0; t && i < h->n; i++) {
		struct session *handle = map_get(&iv->sessions, h->at[i].session);
		struct pending *p;
		if (h->at[i].session == origin || !handle)
			continue;
		h->at[i].told = true;
		t[n] = (struct target){ iv->ops->ref(handle), h->at[i].session, iv->next_seq++ };
		p = malloc(sizeof(*p));
		if (p) {
			*p = (struct pending){ w, t[n].session };
			if (map_put(&iv->pending, t[n].seq, p) == 0)
				w->left++;
			else
				free(p);
		}
		n++;
	}
	*ret = t;
	return n;
}

static size_t push_item(struct inval *iv, const struct inval_item *item, uint64_t origin, struct waiter *w,
			struct target **ret)
{
	struct wire_inval body = { .ino = le64_of(item->ino),
				   .generation = le64_of(item->generation),
				   .flags = le32_of(item->flags) };
	size_t n;

	pthread_mutex_lock(&iv->lock);
	n = targets_locked(iv, item->ino, origin, w, ret);
	pthread_mutex_unlock(&iv->lock);
	for (size_t i = 0; i < n; i++) {
		struct target *t = &(*ret)[i];
		if (iv->ops->push(t->handle, t->seq, &body, item->name, item->name_bytes) < 0) {
			/* It did not hear of this: what it has cached must go with its connections. */
			iv->ops->cut(t->handle, "an invalidation could not be sent");
			inval_session_end(iv, t->session);
		}
	}
	return n;
}

static void wait_answers(struct inval *iv, struct waiter *w)
{
	uint64_t deadline = time_mono_ns() + INVAL_WAIT_MS * UINT64_C(1000000);
	struct timespec ts = { (time_t)(deadline / 1000000000), (long)(deadline % 1000000000) };
	int err = 0;

	pthread_mutex_lock(&iv->lock);
	while (w->left && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&iv->answered, &iv->lock, &ts);
	pthread_mutex_unlock(&iv->lock);
}

bool inval_needed(struct inval *iv, const struct inval_list *list, uint64_t origin)
{
	bool needed = false;

	pthread_mutex_lock(&iv->lock);
	for (size_t i = 0; i < list->n && !needed; i++) {
		const struct holders *h = map_get(&iv->inodes, list->items[i].ino);
		for (uint32_t k = 0; h && k < h->n; k++)
			needed = needed || list->items[i].to_origin || h->at[k].session != origin;
	}
	pthread_mutex_unlock(&iv->lock);
	return needed;
}

static void finish_target(struct inval *iv, const struct target *t)
{
	struct pending *p;

	pthread_mutex_lock(&iv->lock);
	p = map_del(&iv->pending, t->seq);
	pthread_mutex_unlock(&iv->lock);
	if (p) {
		log_warn("%s: did not answer an invalidation within %d ms; cut off", iv->ops->name(t->handle),
			 INVAL_WAIT_MS);
		iv->ops->cut(t->handle, "an invalidation was not answered in time");
		free(p);
	}
	iv->ops->unref(t->handle);
}

void inval_send(struct inval *iv, const struct inval_list *list, uint64_t origin)
{
	struct target *targets[INVAL_ITEMS_MAX];
	size_t n[INVAL_ITEMS_MAX], sent = 0;
	struct waiter w = { 0 };

	for (size_t i = 0; i < list->n; i++) {
		n[i] = push_item(iv, &list->items[i], list->items[i].to_origin ? 0 : origin, &w, &targets[i]);
		sent += n[i];
	}
	if (sent)
		wait_answers(iv, &w);
	for (size_t i = 0; i < list->n; i++) {
		for (size_t k = 0; k < n[i]; k++)
			finish_target(iv, &targets[i][k]);
		free(targets[i]);
	}
}
