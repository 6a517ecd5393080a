#include "meta_locks.h"

#include <stdlib.h>

#define DEADLOCK_STEPS 4096
#define DEADLOCK_DEPTH 32

void locks_forget_wait(struct meta *m, struct lock_wait *w)
{
	TAILQ_REMOVE(&m->locks->waits, w, link);
	m->locks->n_waits--;
	free(w);
}

struct lock_wait *locks_find_wait(struct meta *m, uint64_t client, uint64_t id)
{
	struct lock_wait *w;

	TAILQ_FOREACH(w, &m->locks->waits, link)
	{
		if (w->want.client == client && w->id == id)
			return w;
	}
	return NULL;
}

int locks_add_wait(struct meta *m, uint64_t ino, const struct lock *want, uint64_t id, uint64_t session)
{
	struct lock_wait *w = locks_find_wait(m, want->client, id);

	if (!w) {
		if (m->locks->n_waits == LOCK_WAITS_MAX)
			return -ENOLCK;
		w = calloc(1, sizeof(*w));
		if (!w)
			return -ENOMEM;
		TAILQ_INSERT_TAIL(&m->locks->waits, w, link);
		m->locks->n_waits++;
	}
	w->want = *want;
	w->ino = ino;
	w->id = id;
	w->session = session;
	w->seen_ns = time_mono_ns();
	return 0;
}

static bool is_over(const struct lock_wait *w, uint64_t now)
{
	return now - w->seen_ns > LOCK_WAIT_MS * UINT64_C(1000000);
}

/* Of those that wait for the same, the oldest is told: one that came later would only be refused. */
void locks_wake(struct meta *m, uint64_t ino, struct lock_pokes *pokes)
{
	struct lock *told = NULL;
	uint64_t now = time_mono_ns();
	struct lock_wait *w, *next;

	for (w = TAILQ_FIRST(&m->locks->waits); w && pokes->n < LOCK_POKES_MAX; w = next) {
		next = TAILQ_NEXT(w, link);
		if (is_over(w, now)) {
			locks_forget_wait(m, w);
			continue;
		}
		if (w->ino != ino || lock_conflict(map_get(&m->locks->files, ino), &w->want) ||
		    lock_conflict(told, &w->want))
			continue;
		pokes->at[pokes->n].session = w->session;
		pokes->at[pokes->n].ino = ino;
		pokes->at[pokes->n++].id = w->id;
		if (lock_insert(&told, &w->want))
			break;
	}
	lock_free_list(&told);
}

void locks_poke(struct meta *m, const struct lock_pokes *pokes)
{
	for (size_t i = 0; i < pokes->n; i++)
		inval_poke(m->inval, pokes->at[i].session, pokes->at[i].ino, pokes->at[i].id);
}

static bool waits_for(struct meta *m, uint64_t ino, const struct lock *want, const struct lock *me, unsigned depth,
		      unsigned *steps)
{
	uint64_t now = time_mono_ns();
	struct lock_wait *w;

	for (const struct lock *l = map_get(&m->locks->files, ino); l; l = l->next) {
		if (!lock_conflicts(l, want))
			continue;
		if (lock_same_owner(l, me))
			return true;
		if (depth == DEADLOCK_DEPTH)
			continue;
		TAILQ_FOREACH(w, &m->locks->waits, link)
		{
			if (++*steps > DEADLOCK_STEPS)
				return false;
			if (lock_same_owner(&w->want, l) && !is_over(w, now) &&
			    waits_for(m, w->ino, &w->want, me, depth + 1, steps))
				return true;
		}
	}
	return false;
}

bool locks_deadlock(struct meta *m, uint64_t ino, const struct lock *want)
{
	unsigned steps = 0;

	return waits_for(m, ino, want, want, 0, &steps);
}
