/* Who has locked what through which handle; locks, unlocks and closes.  Waiting is in locks_wait.c. */
#include "locks_internal.h"
#include "head.h"
#include "inval.h"
#include "log.h"

#include <stdlib.h>

/* ---- claims ---- */

static struct claim *find_claim_locked(const struct lock_ask *ask, const struct handle *h)
{
	struct claim *c;

	LIST_FOREACH(c, &ask->node->claims, of_node)
	{
		if (c->owner == ask->owner && c->kind == ask->kind && (!h || c->handle == h) && !c->releasing)
			return c;
	}
	return NULL;
}

static void drop_claim_locked(struct node *n, struct claim *c)
{
	LIST_REMOVE(c, of_node);
	LIST_REMOVE(c, link);
	atomic_fetch_sub(&n->n_claims, 1);
	free(c);
}

/* All of the owner's on the file; whether one of them was lost. */
static bool drop_claims_locked(const struct lock_ask *ask)
{
	struct claim *c;
	bool lost = false;

	while ((c = find_claim_locked(ask, NULL))) {
		lost |= c->lost;
		drop_claim_locked(ask->node, c);
	}
	return lost;
}

static int add_claim_locked(struct locks *l, const struct lock_ask *ask)
{
	struct claim *c;

	if (find_claim_locked(ask, ask->handle))
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->handle = ask->handle;
	c->owner = ask->owner;
	c->kind = ask->kind;
	LIST_INSERT_HEAD(&ask->node->claims, c, of_node);
	LIST_INSERT_HEAD(&l->claims, c, link);
	atomic_fetch_add(&ask->node->n_claims, 1);
	return 0;
}

static bool lost_locked(const struct lock_ask *ask)
{
	struct claim *c;

	LIST_FOREACH(c, &ask->node->claims, of_node)
	{
		if (c->lost && c->owner == ask->owner && c->kind == ask->kind)
			return true;
	}
	return false;
}

/* Of the owner, or (owner NULL) of anyone. */
static bool releasing_locked(const struct node *n, const struct lock_ask *owner)
{
	const struct claim *c;

	LIST_FOREACH(c, &n->claims, of_node)
	{
		if (c->releasing && (!owner || (c->owner == owner->owner && c->kind == owner->kind)))
			return true;
	}
	return false;
}

static void wait_released_locked(struct locks *l, const struct node *n, const struct lock_ask *owner)
{
	while (releasing_locked(n, owner))
		pthread_cond_wait(&l->released, &l->lock);
}

static struct debt *find_debt_locked(struct locks *l, const struct lock_ask *ask)
{
	struct debt *d;

	LIST_FOREACH(d, &l->debts, link)
	{
		if (d->ino == ask->node->ino && d->owner == ask->owner && d->kind == ask->kind)
			return d;
	}
	return NULL;
}

/* ---- asking the head ---- */

static void lost(struct locks *l, uint64_t tenure)
{
	struct claim *c;
	size_t n = 0;

	pthread_mutex_lock(&l->lock);
	if (l->tenure == tenure) {
		l->tenure = 0;
		LIST_FOREACH(c, &l->claims, link)
		{
			n += c->held && !c->lost;
			c->lost |= c->held;
		}
	}
	pthread_mutex_unlock(&l->lock);
	if (n)
		log_warn("the head was away for too long: the locks of %zu owners are lost, and others may hold them "
			 "now",
			 n);
}

int locks_ask_head(struct locks *l, uint64_t ino, const struct lock_ask *ask, uint32_t flags, uint64_t wait,
		   struct wire_lock_reply *ret)
{
	struct wire_lock body = { .ino = le64_of(ino),
				  .owner = le64_of(ask->owner),
				  .start = le64_of(ask->start),
				  .end = le64_of(ask->end),
				  .place = le64_of(l->place),
				  .wait = le64_of(wait),
				  .type = le32_of(ask->type),
				  .kind = le32_of(ask->kind),
				  .pid = le32_of(ask->pid),
				  .flags = le32_of(flags) };
	uint64_t tenure;
	int err;

	pthread_mutex_lock(&l->lock);
	tenure = l->tenure;
	pthread_mutex_unlock(&l->lock);
	body.tenure = le64_of(tenure);
	err = head_lock(l->m, &body, ret);
	if (err == -ESTALE)
		lost(l, tenure);
	if (!err && le64_get(ret->tenure)) {
		pthread_mutex_lock(&l->lock);
		l->tenure = MAX(l->tenure, le64_get(ret->tenure)); /* answers may overtake each other */
		pthread_mutex_unlock(&l->lock);
	}
	return err;
}

/* Locks a range, once.  *ret_released: how many handles had been released when it was asked for. */
static int take_once(struct locks *l, const struct lock_ask *ask, uint32_t flags, uint64_t wait, uint64_t *ret_released)
{
	struct wire_lock_reply reply;
	struct claim *c;
	int err;

	pthread_mutex_lock(&l->lock);
	/* The kernel may use an owner's number again once it has sent, but we have not yet done, the release of the last one. */
	wait_released_locked(l, ask->node, ask);
	*ret_released = l->n_released;
	if (lost_locked(ask)) {
		drop_claims_locked(ask);
		err = -ENOLCK;
	} else if (find_debt_locked(l, ask)) {
		err = -EAGAIN; /* the old unlock must not come after this */
	} else {
		err = add_claim_locked(l, ask);
	}
	pthread_mutex_unlock(&l->lock);
	if (err)
		return err;
	err = locks_ask_head(l, ask->node->ino, ask, flags, wait, &reply);
	pthread_mutex_lock(&l->lock);
	/* Another thread of the process may have unlocked the file meanwhile, and with it taken the claim. */
	c = err || add_claim_locked(l, ask) ? NULL : find_claim_locked(ask, ask->handle);
	if (c)
		c->held = true;
	pthread_mutex_unlock(&l->lock);
	return err;
}

/* close() has returned before the kernel's RELEASE has been done here: who closes and locks anew must not be refused for that. */
static bool was_releasing(struct locks *l, const struct node *n, uint64_t released)
{
	pthread_mutex_lock(&l->lock);
	bool was = l->n_released != released || releasing_locked(n, NULL);
	wait_released_locked(l, n, NULL);
	pthread_mutex_unlock(&l->lock);
	return was;
}

static int take(struct locks *l, const struct lock_ask *ask, uint32_t flags, uint64_t wait)
{
	uint64_t released;
	int err = take_once(l, ask, flags, wait, &released);

	if (err == -ESTALE || (err == -EAGAIN && was_releasing(l, ask->node, released)))
		err = take_once(l, ask, flags, wait, &released);
	if (!err)
		inval_drain(l->m);
	return err == -ESTALE ? -ENOLCK : err;
}

static int give_back(struct locks *l, const struct lock_ask *ask)
{
	struct wire_lock_reply reply;
	int err = locks_ask_head(l, ask->node->ino, ask, 0, 0, &reply);

	return err == -ESTALE ? -ENOLCK : err;
}

static bool is_whole(const struct lock_ask *ask)
{
	return ask->start == 0 && ask->end == INT64_MAX;
}

static void owe(struct locks *l, const struct lock_ask *ask)
{
	struct debt *d;

	pthread_mutex_lock(&l->lock);
	d = find_debt_locked(l, ask) ? NULL : malloc(sizeof(*d));
	if (d) {
		*d = (struct debt){ .ino = ask->node->ino, .owner = ask->owner, .kind = ask->kind };
		LIST_INSERT_HEAD(&l->debts, d, link);
		pthread_cond_signal(&l->wake);
	}
	pthread_mutex_unlock(&l->lock);
}

/* All that the owner has on the file goes, whatever becomes of the request. */
static void give_back_all(struct locks *l, const struct lock_ask *ask)
{
	int err = give_back(l, ask);

	if (err && err != -ENOLCK)
		owe(l, ask);
}

static void settle(struct mount *m, struct handle *h)
{
	/* What fails here is kept, and told again by close or fsync. */
	if (h->ops->flush)
		h->ops->flush(m, h);
}

static int unlock(struct locks *l, const struct lock_ask *ask)
{
	bool any, gone;
	int err;

	pthread_mutex_lock(&l->lock);
	any = find_claim_locked(ask, NULL) != NULL;
	gone = lost_locked(ask);
	if (gone)
		drop_claims_locked(ask);
	pthread_mutex_unlock(&l->lock);
	if (!any || gone)
		return gone ? -ENOLCK : 0;
	settle(l->m, ask->handle);
	err = give_back(l, ask);
	if (!is_whole(ask) || (err && err != -ENOLCK))
		return err;
	pthread_mutex_lock(&l->lock);
	drop_claims_locked(ask);
	pthread_mutex_unlock(&l->lock);
	return err;
}

static bool may_downgrade(struct locks *l, const struct lock_ask *ask)
{
	pthread_mutex_lock(&l->lock);
	bool yes = ask->type == WIRE_LOCK_READ && find_claim_locked(ask, NULL);
	pthread_mutex_unlock(&l->lock);
	return yes;
}

int locks_ask_once(struct locks *l, const struct lock_ask *ask, uint32_t flags, uint64_t wait)
{
	if (ask->type == WIRE_LOCK_NONE)
		return unlock(l, ask);
	if (may_downgrade(l, ask))
		settle(l->m, ask->handle);
	return take(l, ask, flags, wait);
}

int locks_set(struct mount *m, const struct lock_ask *ask)
{
	return locks_ask_once(m->locks, ask, 0, 0);
}

int locks_test(struct mount *m, const struct lock_ask *ask, struct lock_ask *ret)
{
	struct locks *l = m->locks;
	struct wire_lock_reply reply;
	int err = locks_ask_head(l, ask->node->ino, ask, WIRE_LOCK_TEST, 0, &reply);

	if (err == -ESTALE)
		err = locks_ask_head(l, ask->node->ino, ask, WIRE_LOCK_TEST, 0, &reply);
	if (err)
		return err;
	*ret = *ask;
	ret->type = le32_get(reply.type);
	ret->start = le64_get(reply.start);
	ret->end = le64_get(reply.end);
	ret->pid = l->place && le64_get(reply.place) == l->place ? le32_get(reply.pid) : 0;
	return 0;
}

/* ---- closing ---- */

void locks_closed(struct mount *m, struct handle *h, uint64_t owner)
{
	struct lock_ask ask = { h->node, h, owner, 0, INT64_MAX, WIRE_LOCK_NONE, WIRE_LOCK_POSIX, 0 };
	bool any, gone;

	if (!atomic_load(&h->node->n_claims))
		return;
	pthread_mutex_lock(&m->locks->lock);
	any = find_claim_locked(&ask, NULL) != NULL;
	gone = drop_claims_locked(&ask);
	pthread_mutex_unlock(&m->locks->lock);
	if (any && !gone)
		give_back_all(m->locks, &ask);
}

/* The next claim of the handle.  *ret_give: there is something to give back, and nobody else has a claim of that owner. */
static struct claim *begin_release(struct locks *l, struct handle *h, struct lock_ask *ask, bool *ret_give)
{
	struct claim *c;

	pthread_mutex_lock(&l->lock);
	LIST_FOREACH(c, &h->node->claims, of_node)
	{
		if (c->handle == h)
			break;
	}
	if (c) {
		ask->owner = c->owner;
		ask->kind = c->kind;
		c->releasing = true;
		*ret_give = !c->lost && !find_claim_locked(ask, NULL);
	}
	pthread_mutex_unlock(&l->lock);
	return c;
}

/* flock's owner is the handle.  So is that of an "open file description" lock, which the kernel does not tell from a process': what is still
 * claimed through the handle now is one of either. */
void locks_released(struct mount *m, struct handle *h)
{
	struct lock_ask ask = { h->node, h, 0, 0, INT64_MAX, WIRE_LOCK_NONE, 0, 0 };
	struct locks *l = m->locks;
	struct claim *c;
	bool give;

	while (atomic_load(&h->node->n_claims) && (c = begin_release(l, h, &ask, &give))) {
		if (give) {
			settle(m, h);
			give_back_all(l, &ask);
		}
		pthread_mutex_lock(&l->lock);
		drop_claim_locked(h->node, c);
		l->n_released++;
		pthread_cond_broadcast(&l->released);
		pthread_mutex_unlock(&l->lock);
	}
}
