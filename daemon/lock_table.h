/* lock_table.h - the locks of one inode: ranges that owners hold, as POSIX has them.
 *
 * A list in order of `start`.  What one owner holds of one kind never overlaps, and what touches has been joined.  An owner is a client (a mount)
 * and the client's own number for it.  flock's locks are ranges over the whole file, of a kind that does not meet the other.
 * Plain data: the caller's lock guards a list.
 */
#ifndef SLABFSD_LOCK_TABLE_H
#define SLABFSD_LOCK_TABLE_H

#include "base.h"

struct lock {
	struct lock *next;
	uint64_t start, end; /* inclusive; at most INT64_MAX */
	uint64_t client, owner;
	uint64_t place; /* where `pid` means something */
	uint32_t pid;
	uint32_t type, kind; /* WIRE_LOCK_ */
};

/* Told of each record that comes or goes, so that it can be kept elsewhere too.  0 or -errno, which ends the change half done. */
struct lock_watch {
	int (*changed)(void *arg, const struct lock *l, bool added);
	void *arg;
};

bool lock_same_owner(const struct lock *a, const struct lock *b); /* and kind */
bool lock_conflicts(const struct lock *a, const struct lock *b);
const struct lock *lock_conflict(const struct lock *list, const struct lock *want); /* the first in the way, or NULL */
/* The range of `want` becomes of its type for its owner (WIRE_LOCK_NONE: free).  Does not look at others' locks.  -ENOMEM changes nothing. */
int lock_apply(struct lock **list, const struct lock *want, const struct lock_watch *watch);
int lock_insert(struct lock **list, const struct lock *l);  /* a copy, as it is */
bool lock_drop_client(struct lock **list, uint64_t client); /* whether it had any */
void lock_free_list(struct lock **list);

#endif
