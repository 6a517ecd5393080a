/* locks.h - locks that processes hold on files, through this mount.  The head keeps them, for all mounts.
 *
 * Here is only who has locked what through which handle (a claim), so that a close gives back what it must, and nothing is asked where nothing is
 * locked; and the requests that wait.  One thread asks for those again: when the head says that the range is free, and once a second.
 *
 * A lock is also a promise about the bytes: what was written under it is sealed and committed before it is given back, and when it is granted, what the
 * head has said to be old by then is gone from the kernel's caches.
 *
 * locks.lock guards all of it; it is held across nothing, and taken after every other.
 */
#ifndef SLABFS_LOCKS_H
#define SLABFS_LOCKS_H

#include "base.h"
#include "mount.h"
#include "node.h"
#include "wire.h"

#include <sys/queue.h>

struct locks;

struct lock_ask {
	struct node *node;
	struct handle *handle;
	uint64_t owner;
	uint64_t start, end; /* inclusive */
	uint32_t type, kind; /* WIRE_LOCK_ */
	uint32_t pid;
};

/* One request that waits; in memory of the caller's until `done` is called, which is exactly once, on any thread, with no lock held. */
struct lock_wait {
	TAILQ_ENTRY(lock_wait) link;
	struct lock_ask ask;
	uint64_t id;
	bool due, interrupted;
	void (*done)(struct lock_wait *w, int err);
};

int locks_new(struct mount *m, struct locks **ret);
void locks_stop(struct mount *m); /* those that wait get -EINTR; before the handles go */
void locks_end(struct mount *m);  /* tells the head that all locks go; when what was written is settled */
void locks_free(struct mount *m);

int locks_test(struct mount *m, const struct lock_ask *ask,
	       struct lock_ask *ret); /* ret->type NONE: nothing in the way */
/* -EAGAIN: a conflict.  -ENOLCK: the owner's locks on this file were lost (it is told so once), or there are too many. */
int locks_set(struct mount *m, const struct lock_ask *ask);
void locks_set_wait(struct mount *m, struct lock_wait *w);  /* the caller sets ask and done, and zeroes the rest */
void locks_interrupt(struct mount *m, struct lock_wait *w); /* not after done */

void locks_closed(struct mount *m, struct handle *h, uint64_t owner); /* a descriptor: POSIX locks of its process go */
void locks_released(struct mount *m, struct handle *h);               /* the last descriptor of h */

size_t locks_waiting(struct mount *m);           /* requests that wait now */
void locks_push(struct mount *m, uint64_t wait); /* the head: it may be free now */
void locks_head_back(struct mount *m);

#endif
