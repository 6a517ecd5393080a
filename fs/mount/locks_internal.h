/* locks_internal.h - what locks.c (claims and requests) and locks_wait.c (requests that wait, and their thread) share. */
#ifndef SLABFS_LOCKS_INTERNAL_H
#define SLABFS_LOCKS_INTERNAL_H

#include "locks.h"

struct claim {
	LIST_ENTRY(claim) of_node, link;
	struct handle *handle; /* through which it was locked */
	uint64_t owner;
	uint32_t kind;
	bool held; /* at least once; else it may only be on its way */
	bool lost;
	bool releasing; /* its handle is being released; whoever does that frees the claim */
};

/* An unlock that the head did not answer. */
struct debt {
	LIST_ENTRY(debt) link;
	uint64_t ino, owner;
	uint32_t kind;
};

struct locks {
	struct mount *m;
	uint64_t place;
	pthread_t thread;
	pthread_mutex_t lock;    /* guards all below, and node.claims */
	pthread_cond_t wake;     /* for the thread */
	pthread_cond_t released; /* n_released has risen */
	uint64_t n_released;
	bool stop, renew;
	uint64_t tenure; /* as the head said; 0: nothing is held */
	uint64_t next_wait;
	LIST_HEAD(, claim) claims;
	LIST_HEAD(, debt) debts;
	TAILQ_HEAD(, lock_wait) waits;
};

/* One request for a lock.  -ESTALE: what was held is lost; asked again, it is about new locks. */
int locks_ask_head(struct locks *l, uint64_t ino, const struct lock_ask *ask, uint32_t flags, uint64_t wait,
		   struct wire_lock_reply *ret);
int locks_ask_once(struct locks *l, const struct lock_ask *ask, uint32_t flags, uint64_t wait); /* locks or unlocks */

#endif
