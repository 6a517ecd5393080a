/* part.h - one partition of a store: its files, its state, its leases.  Inside the store only (store*.c, part*.c).
 *
 * part.lock is taken before store.lock.  `_locked` functions need part.lock; those that let go of it on the way say so, and
 * compare part.epoch afterwards.
 */
#ifndef SLABFSD_PART_H
#define SLABFSD_PART_H

#include "bits.h"
#include "catalog.h"
#include "map.h"
#include "store.h"
#include "sums.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>

#define PART_PATH_MAX 96

enum part_state { PART_MISSING, PART_OPEN, PART_SEALED };

struct lease {
	uint64_t session;
	bool descriptor; /* writes behind our back */
};

struct part {
	struct store *store;
	struct part_id id;

	/* guarded by store.lock */
	unsigned refs;
	bool on_lru, on_open, on_unsynced;
	struct part *same_hash; /* another partition under the same key of store.parts */
	struct part *same_object, **same_object_before;
	TAILQ_ENTRY(part) lru, open, unsynced;
	uint64_t sealed_ns; /* monotonic, of the last seal */

	pthread_mutex_t lock; /* guards all below */
	bool loaded;
	enum part_state state;
	char *bad;      /* quarantined: why; else NULL */
	bool durable;   /* the header on the disk may say so: to be cleared durably before data changes */
	bool new_names; /* the directory entries may not be durable */
	bool dirty_all; /* no sum is current */
	bool late; /* sealed without a word of its writer, who may have written a moment longer: until it is durable */
	int sync_err;          /* an fsync failed, and not all was written once more since */
	uint64_t bytes;        /* as sealed */
	uint64_t version;      /* of the last seal */
	uint64_t epoch;        /* raised by whatever makes a verification in progress meaningless */
	struct timespec ctime; /* of the file when `verified` was last true */
	struct bits verified;  /* blocks that matched their sums */
	struct bits dirty;     /* blocks written since the last seal */
	struct lease *leases;
	size_t n_leases;
};
TAILQ_HEAD(part_list, part);

struct store {
	int dirfd;
	struct pool *cores;
	uint64_t run; /* random, never SUMS_RUN_OPEN */
	struct catalog *catalog;
	bool unclean;          /* the last stop was */
	uint64_t lost_below;   /* this store took the place of a lost one: what it held of older objects is lost */
	bool relist;           /* the catalog is empty, and the store perhaps not */
	bool has_syncfs;       /* and it means something on the store's file system */
	bool uncounted;        /* its partitions were not counted, or not while nothing changed */
	atomic_bool recovered; /* every partition has been looked at since an unclean stop */
	atomic_bool resealing_logged;
	_Atomic uint64_t partitions, quarantined;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;  /* of the syncer: stop, or something to make durable */
	bool stop;
	struct map parts;   /* hash of the id -> struct part, chained by same_hash */
	struct map objects; /* object -> the struct part * that heads its chain of same_object; malloc'ed */
	size_t n_lru;
	struct part_list lru;      /* unused, the least recently used first */
	struct part_list open;     /* with leases */
	struct part_list unsynced; /* sealed, not durable; by sealed_ns.  Each holds a reference */
	struct map dead;
	uint64_t catalog_due_ns; /* when removals are to be made durable; 0: there are none */
	pthread_t syncer, recoverer;
	bool has_syncer, has_recoverer;
};

/* ---- store.c: which partitions are in memory ---- */

/* The partition, locked and loaded, with a reference.  -ESTALE: of a dead object. */
int part_acquire(struct store *s, struct part_id id, struct part **ret, struct reason *why);
int part_acquire_unloaded(struct store *s, struct part_id id, struct part **ret, struct reason *why);
void part_release(struct part *p); /* unlocks */
void part_ref(struct part *p);     /* needs store.lock */
void part_put(struct part *p);     /* not locked */
bool store_is_dead(struct store *s, uint64_t object);
void part_list_open(struct part *p, bool open);
void part_list_unsynced(struct part *p, bool unsynced);

/* ---- store_sync.c: making them durable ---- */

bool store_has_syncfs(int dirfd);
void *store_syncer_main(void *store); /* the thread */
/* References on those with leases; ret has room for store_count_busy of them.  Both need store.lock */
size_t store_take_open(struct store *s, uint64_t object, struct part **ret);
size_t store_count_busy(const struct store *s);
int store_catalog_sync(struct store *s, struct reason *why); /* no partition's lock is held */
void store_catalog_due(struct store *s);                     /* the catalog is to be synced before long */

/* ---- part.c: files ---- */

void part_path(struct part_id id, const char *suffix, char ret[PART_PATH_MAX]);
void part_dir(uint64_t object, char ret[PART_PATH_MAX]);
int part_open_file(struct part *p, const char *suffix, int flags); /* a descriptor or -errno */
int part_fail(const struct part *p, int err, const char *what, struct reason *why);
int part_load_locked(struct part *p, struct reason *why);
int part_check_good_locked(const struct part *p, struct reason *why); /* -EIO when quarantined */
int part_quarantine_locked(struct part *p, struct reason *why, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int part_create_locked(struct part *p, const struct part_alloc *alloc, struct reason *why);
/* Removes the files; the state is then as of a missing partition, without leases; part_sync_dir makes it durable.
 * whole_object: the catalog is the caller's affair. */
int part_remove_locked(struct part *p, bool whole_object, struct reason *why);
int part_sync_dir(struct store *s, uint64_t object); /* 0 when there is none */
/* Before its data goes: .sum becomes .gone, so that a crash does not make it a lost partition. */
int part_bury_locked(struct part *p);
/* To read it; a fifo does not hold us up.  -ENOTSUP: something that is no file has its name. */
int part_open_regular(struct part *p, const char *suffix, struct stat *ret_st);
int part_unlink_any(struct part *p, const char *suffix); /* a directory of that name is put aside, not emptied */
bool part_exists(struct part *p, const char *suffix);
void part_forget_locked(struct part *p); /* drops what was known; it is loaded anew at the next use */
void part_unquarantine_locked(struct part *p);

/* ---- part_seal.c: writing, sealing, durability ---- */

int part_open_locked(struct part *p, const struct part_alloc *alloc, struct reason *why); /* state: PART_OPEN */
int part_lease_locked(struct part *p, uint64_t session, bool descriptor);
bool part_unlease_locked(struct part *p, uint64_t session, bool *ret_descriptor);
bool part_has_descriptors_locked(const struct part *p);
int part_mark_locked(struct part *p, uint64_t offset, uint64_t len);
/* Sums of dirty blocks; PART_SEALED when no lease is left. */
int part_seal_locked(struct part *p, struct reason *why);
/* Data and sums to the disk, then (if sealed) the durable flag, flushed too if `flush`.  Lets go of the lock. */
int part_sync_locked(struct part *p, bool flush, struct reason *why);
/* On the disk the partition is no longer durable, and to be sealed anew after a crash: before its data changes. */
int part_undurable_locked(struct part *p, struct reason *why);
/* The same after the caller has synced the whole file system, which it began when p->epoch was `epoch`.  Does not flush the flag. */
int part_synced_locked(struct part *p, uint64_t epoch, struct reason *why);

/* ---- part_verify.c ---- */

/* fd: the data.  0: blocks of [offset, offset + len) match, or the partition is open.  -EAGAIN: it changed, open it again.
 * -EIO.  Lets go of the lock while it hashes. */
int part_verify_locked(struct part *p, int fd, uint64_t offset, uint64_t len, struct reason *why);
/* A block does not match its sum.  Sealed anew when a writer may have come late: -EAGAIN, or -EIO of the quarantine. */
int part_mismatch_locked(struct part *p, uint64_t block, struct reason *why);
/* Checks the block that holds `offset` before a part of it is overwritten, so that damage is not sealed in. */
int part_verify_edge_locked(struct part *p, int fd, uint64_t offset, struct reason *why);
/* Checks all blocks that were not written since the last seal, before somebody may write behind our back.  Keeps the lock. */
int part_verify_clean_locked(struct part *p, int fd, struct reason *why);
/* The same for what the disk has: pages in memory are given up before, and after if they were not in use. */
int part_scrub_locked(struct part *p, int fd, uint64_t offset, uint64_t len, struct reason *why);
void part_note_verified_locked(struct part *p, int fd, uint64_t first, size_t n);

/* ---- store_dir.c: directories ---- */

/* Calls fn for each partition file of the object (suffix ".sum", ".bad", ".new"...; "" for the data), until one fails. */
int store_each_file(struct store *s, uint64_t object, int (*fn)(void *arg, struct part_id id, const char *suffix),
		    void *arg);
int store_each_object(struct store *s, int (*fn)(void *arg, uint64_t object), void *arg);
int store_count(struct store *s);                           /* adds to partitions and quarantined */
int store_has_files(struct store *s);                       /* 1: of any partition */
int store_recover_object(struct store *s, uint64_t object); /* the same for one (0: all), unless it was done */
int store_recover(struct store *s); /* loads every partition once, which seals anew what needs it */

#endif
