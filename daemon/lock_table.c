#include "lock_table.h"
#include "wire.h"

#include <stdlib.h>

bool lock_same_owner(const struct lock *a, const struct lock *b)
{
	return a->kind == b->kind && a->client == b->client && a->owner == b->owner;
}

static bool overlap(const struct lock *a, const struct lock *b)
{
	return a->start <= b->end && b->start <= a->end;
}

static bool adjacent(const struct lock *a, const struct lock *b)
{
	return a->end + 1 == b->start || b->end + 1 == a->start;
}

bool lock_conflicts(const struct lock *a, const struct lock *b)
{
	return a->kind == b->kind && !lock_same_owner(a, b) && overlap(a, b) && a->type != WIRE_LOCK_NONE &&
	       b->type != WIRE_LOCK_NONE && (a->type == WIRE_LOCK_WRITE || b->type == WIRE_LOCK_WRITE);
}

const struct lock *lock_conflict(const struct lock *list, const struct lock *want)
{
	for (const struct lock *l = list; l; l = l->next)
		if (lock_conflicts(l, want))
			return l;
	return NULL;
}

static void link_in(struct lock **list, struct lock *l)
{
	while (*list && (*list)->start < l->start)
		list = &(*list)->next;
	l->next = *list;
	*list = l;
}

int lock_insert(struct lock **list, const struct lock *l)
{
	struct lock *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *l;
	link_in(list, copy);
	return 0;
}

/* The owner has all of this already. */
static bool is_held(const struct lock *list, const struct lock *want)
{
	for (const struct lock *l = list; l; l = l->next)
		if (lock_same_owner(l, want) && l->type == want->type && l->start <= want->start && l->end >= want->end)
			return true;
	return false;
}

/* Takes out what `want` replaces.  What is left of it at the ends is put to rest[]; what is of the same type widens *joined. */
static int take_out(struct lock **list, const struct lock *want, const struct lock_watch *watch, struct lock *joined,
		    struct lock rest[2], size_t *n_rest)
{
	int err = 0;

	while (*list && !err) {
		struct lock *l = *list;
		bool same_type = l->type == want->type;
		if (!lock_same_owner(l, want) || !(overlap(l, want) || (same_type && adjacent(l, want)))) {
			list = &l->next;
			continue;
		}
		*list = l->next;
		err = watch ? watch->changed(watch->arg, l, false) : 0;
		if (same_type) {
			joined->start = MIN(joined->start, l->start);
			joined->end = MAX(joined->end, l->end);
		} else {
			if (l->start < want->start) {
				rest[*n_rest] = *l;
				rest[(*n_rest)++].end = want->start - 1;
			}
			if (l->end > want->end) {
				rest[*n_rest] = *l;
				rest[(*n_rest)++].start = want->end + 1;
			}
		}
		free(l);
	}
	return err;
}

int lock_apply(struct lock **list, const struct lock *want, const struct lock_watch *watch)
{
	struct lock *spare[3] = { malloc(sizeof(*want)), malloc(sizeof(*want)), malloc(sizeof(*want)) };
	struct lock all[3];
	size_t n = 0, used = 0;
	int err = spare[0] && spare[1] && spare[2] ? 0 : -ENOMEM;

	if (!err && !is_held(*list, want)) {
		struct lock joined = *want;
		err = take_out(list, want, watch, &joined, all, &n);
		if (want->type != WIRE_LOCK_NONE)
			all[n++] = joined;
		for (size_t i = 0; i < n && !err; i++) {
			*spare[used] = all[i];
			err = watch ? watch->changed(watch->arg, &all[i], true) : 0;
			link_in(list, spare[used++]);
		}
	}
	for (size_t i = used; i < ARRAY_LEN(spare); i++)
		free(spare[i]);
	return err;
}

bool lock_drop_client(struct lock **list, uint64_t client)
{
	bool any = false;

	while (*list) {
		struct lock *l = *list;
		if (l->client != client) {
			list = &l->next;
			continue;
		}
		*list = l->next;
		free(l);
		any = true;
	}
	return any;
}

void lock_free_list(struct lock **list)
{
	while (*list) {
		struct lock *l = *list;
		*list = l->next;
		free(l);
	}
}
