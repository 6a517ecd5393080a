/* bytes_internal.h - what the files of bytes share.
 *
 *   bytes.c         reads and writes of many segments, on any node
 *   bytes_local.c   the partitions that this mount uses: descriptors of the local ones, write leases, what is dirty
 *   bytes_seal.c    the end of writing
 *   bytes_manage.c  truncate, drop, adopt, list
 *   bytes_room.c    allocate, seek, copy
 *
 * A partition is known here (struct part) while it is dirty and while it was used lately.
 *
 * Local writes and the seal of a partition exclude each other by part.lock.  Remote ones need not: a write marks its partition as dirty
 * when it is over, so a seal that overtook it is followed by another.
 */
#ifndef SLABFS_BYTES_INTERNAL_H
#define SLABFS_BYTES_INTERNAL_H

#include "bytes.h"
#include "client.h"
#include "fan.h"
#include "map.h"
#include "ranges.h"

#define PARTS_KEPT                                                                                                     \
	256u /* partitions known that are clean, and so descriptors kept open for reading; and as many dirty ones */

struct part {
	uint64_t index;
	uint32_t refs;              /* bytes.lock */
	struct part *newer, *older; /* bytes.lock: in order of their last use */
	_Atomic bool dirty;         /* changed under bytes.lock: written since its last seal */

	pthread_rwlock_t lock;       /* for writing: changes rfd, wfd and losses; for reading: uses them */
	int rfd, wfd;                /* -1: none.  wfd: with a write lease */
	uint64_t losses;             /* client_losses() when the lease was taken: more by now: the lease is gone */
	pthread_mutex_t ranges_lock; /* guards what follows, together with lock */
	struct ranges ranges;        /* written through wfd and not sealed */
	uint64_t storage;            /* of the remote node when the first write since the last seal was sent */
};

struct bytes {
	struct mount *m;
	struct layout layout;
	_Atomic bool written; /* since the last bytes_seal */

	pthread_mutex_t lock; /* guards what follows */
	struct map parts;     /* index -> struct part */
	struct part *newest, *oldest;
	size_t n_dirty;
	uint64_t *changed_on; /* of each node: its storage at the first change since the last durable seal; 0: none */
};

struct wire_part bytes_part_id(const struct bytes *b, uint64_t partition, uint32_t flags);
/* One request about a partition to its owner: the rest of the call is set.  -errno with a reason that names partition and node. */
int bytes_call(struct bytes *b, uint64_t partition, struct fan_call *call, struct cancel *cancel, struct reason *why);
/* Ends what this mount has under way in the partition and runs one request there, so that neither overtakes the other. */
int bytes_change_part(struct bytes *b, uint64_t partition, struct fan_call *call, struct reason *why);
/* The reason of a call that failed, with the partition. */
int bytes_why(uint64_t partition, const struct fan_call *failed, int err, struct reason *why);
void bytes_fill(const struct layout *l, char *buf, size_t len, uint64_t offset); /* as a missing partition reads */

/* The client and id of the node on this machine, when it passes descriptors; else NULL. */
void bytes_local(struct bytes *b, struct client **ret, uint32_t *ret_id);

/* Finds or makes; counted.  NULL without memory. */
struct part *part_get(struct bytes *b, uint64_t index);
void part_put(struct bytes *b, struct part *p);
void part_mark_dirty(struct bytes *b, struct part *p);
void part_mark_clean(struct bytes *b, struct part *p);
/* Partitions in [first, first + count) that are known (or only the dirty ones), by index, each counted; *ret malloc'ed. */
int part_collect(struct bytes *b, uint64_t first, uint64_t count, bool dirty_only, struct part ***ret, size_t *ret_n);
void part_free_all(struct bytes *b);

/* Local partitions.  c is the local node's client. */
int part_read(struct bytes *b, struct part *p, char *buf, size_t len, uint64_t offset, struct reason *why);
int part_read_fd(struct bytes *b, struct part *p, size_t len, uint64_t offset, int *ret_fd, struct reason *why);
int part_write(struct bytes *b, struct part *p, struct client *c, const char *buf, size_t len, uint64_t offset,
	       struct reason *why);
/* Those ending in _locked need lock for writing. */
int part_lease_locked(struct bytes *b, struct part *p, struct client *c, struct reason *why);
bool part_leased_locked(const struct part *p, struct client *c);
void part_close_locked(struct part *p);                   /* the descriptors */
void part_close_read_locked(struct part *p);              /* the one for reading */
void part_forget_locked(struct bytes *b, struct part *p); /* and what was written */
/* Forgets what was written to a file that is no longer the partition's. */
void part_drop_removed_locked(struct bytes *b, struct part *p);

/* What this partition's remote node was sent, and has not made durable, is with this storage. */
void bytes_note_storage(struct bytes *b, uint64_t partition, uint64_t storage);
/* Seals these partitions; those that fail stay dirty.  The first failure. */
int bytes_seal_parts(struct bytes *b, struct part **parts, size_t n, struct reason *why);

#endif
