/* meta_locks.h - the locks of all files, which mount holds them and who waits for them.
 *
 *   lock_table.c       the ranges of one file
 *   meta_locks.c       the message LOCK
 *   meta_locks_db.c    all that is held; what changes it is in meta.db, in the same transaction
 *   meta_locks_wait.c  who waits, and who is to be told
 *   meta_leases.c      the mounts that hold locks: they come, go, and lose them
 *
 * A request never waits here.  One that would is noted as a wait; when its range becomes free its mount is poked and asks again.
 * All of this is guarded by meta.lock.
 */
#ifndef SLABFSD_META_LOCKS_H
#define SLABFSD_META_LOCKS_H

#include <pthread.h>
#include <sys/queue.h>

#include "base.h"
#include "lock_table.h"
#include "map.h"
#include "meta_int.h"

#define LOCK_LEASE_MS 10000   /* a mount that is cut off may be back within this */
#define LOCK_RESTART_MS 20000 /* ... and after a start of the head within this */
#define LOCK_WAIT_MS 5000     /* a wait is asked for again each second; one that is not for so long is over */
#define LOCK_COUNT_MAX (1u << 20)
#define LOCK_WAITS_MAX (1u << 16)
#define LOCK_POKES_MAX 64

/* A mount that holds locks, or has.  It lasts as long as the mount, and a lease longer. */
struct lock_client {
	LIST_ENTRY(lock_client) link;
	struct uuid session;
	uint64_t tenure;  /* never the same again */
	uint64_t number;  /* of the session; 0: away */
	uint64_t drop_ns; /* away: monotonic; when its locks go */
	int pidfd;        /* away: of a process on this machine: when that has ended they go at once; else -1 */
};

struct lock_wait {
	TAILQ_ENTRY(lock_wait) link;
	struct lock want;
	uint64_t ino;
	uint64_t id; /* the client's */
	uint64_t seen_ns;
	uint64_t session;
};

struct locks {
	struct map files; /* ino -> the first struct lock */
	size_t n_locks, n_waits;
	LIST_HEAD(, lock_client) clients;
	TAILQ_HEAD(, lock_wait) waits; /* the oldest first */
	char boot[37]; /* of this machine: an unclean end of it may have undone what was acknowledged last */
	/* the thread of meta_leases.c */
	pthread_t thread;
	bool has_thread, stop;
	int wake_fd;
};

/* Waits to tell of, once the lock is given back. */
struct lock_pokes {
	size_t n;
	struct {
		uint64_t session, ino, id;
	} at[LOCK_POKES_MAX];
};

/* meta_locks_db.c */
int locks_load(struct meta *m); /* what meta.db holds; those who held it have LOCK_RESTART_MS to come back */
void locks_free(struct meta *m);
int locks_begin(struct meta *m); /* a transaction; takes meta.lock */
/* Ends it, but keeps meta.lock.  A failure puts the tables back to what is in meta.db (but for the list of clients). */
int locks_commit(struct meta *m, int err);
int locks_apply(struct meta *m, uint64_t ino, const struct lock *want); /* lock_apply, in a transaction */

/* meta_locks_wait.c */
struct lock_wait *locks_find_wait(struct meta *m, uint64_t client, uint64_t id);
int locks_add_wait(struct meta *m, uint64_t ino, const struct lock *want, uint64_t id,
		   uint64_t session); /* or renews */
/* Whether someone that is in the way of `want` waits, in the end, for who wants it. */
bool locks_deadlock(struct meta *m, uint64_t ino, const struct lock *want);
void locks_wake(struct meta *m, uint64_t ino,
		struct lock_pokes *pokes);                       /* the waits that nothing is in the way of now */
void locks_poke(struct meta *m, const struct lock_pokes *pokes); /* no lock held */
void locks_forget_wait(struct meta *m, struct lock_wait *w);

/* meta_leases.c */
struct lock_client *lock_client_find(struct meta *m, const struct uuid *session);
int lock_client_new(struct meta *m, const struct uuid *session, struct lock_client **ret);        /* in a transaction */
struct lock_client *lock_client_add(struct meta *m, const struct uuid *session, uint64_t tenure); /* as loaded */
void lock_client_here(struct lock_client *c, uint64_t number);
/* Its locks and waits, in a transaction.  The caller frees it when that is committed.  pokes: NULL: nobody waits yet. */
int lock_client_drop(struct meta *m, struct lock_client *c, struct lock_pokes *pokes);
void lock_client_free(struct lock_client *c);
void locks_session_begin(struct meta *m, const struct uuid *session, uint64_t number);
/* pid: of a process on this machine, else 0 */
void locks_session_end(struct meta *m, uint64_t number, int pid);
int locks_start(struct meta *m);
void locks_stop(struct meta *m);

#endif
