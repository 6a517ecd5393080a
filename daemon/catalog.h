/* catalog.h - which partitions a store has made durable, and what they are part of: STORE/catalog.db.
 *
 * A partition whose data and sums are both gone leaves no trace in its directory; the catalog is how it is told from one that was never
 * written.  It also holds what the head has said of each object (catalog_describe), so that a head that was lost can be made anew.
 *
 * Changes gather in one transaction: catalog_sync makes them durable, the store calls it for each batch that it makes durable itself.  What a
 * crash leaves is then harmless: a partition that is not listed is listed when it is next looked at; one that was removed, and is still listed,
 * left a tombstone (INDEX.gone, see part.c), which goes when the removal is durable here.
 *
 * A catalog that cannot be used is put aside and made anew from what the store holds: until then nothing is known to be lost.
 *
 * Thread-safe; its lock is the last that is taken.
 */
#ifndef SLABFSD_CATALOG_H
#define SLABFSD_CATALOG_H

#include "base.h"
#include "store.h"

struct catalog;

/* *ret_empty: it knows nothing of what the store holds, which is to be listed, then catalog_complete. */
int catalog_open(int dirfd, struct catalog **ret, bool *ret_empty, struct reason *why);
void catalog_close(struct catalog *c); /* NULL is fine; does not sync */
void catalog_complete(struct catalog *c);

bool catalog_find(struct catalog *c, struct part_id id, uint64_t *ret_version);
/* It is durable here; version 0: it is known that it is not, in a store that took the place of a lost one. */
void catalog_put(struct catalog *c, struct part_id id, uint64_t version);
/* It was removed.  tombstone: it has one, for catalog_sync to hand back. */
void catalog_del(struct catalog *c, struct part_id id, bool tombstone);
void catalog_drop(struct catalog *c, uint64_t object);
/* Listed partitions of the object with index >= first, in order; at most max.  -ENOMEM, -EIO. */
int catalog_list(struct catalog *c, uint64_t object, uint64_t first, size_t max, uint64_t *ret, size_t *ret_n);
/* Listed partitions after `after`, in the order of object and index. */
int catalog_walk(struct catalog *c, struct part_id after, size_t max, struct part_id *ret, size_t *ret_n);
/* The smallest object above `after` that has listed partitions or a description; 0: none. */
uint64_t catalog_next(struct catalog *c, uint64_t after);

/* What the head says of an object: kept as it is, committed when it returns, durable with the next catalog_sync. */
int catalog_describe(struct catalog *c, uint64_t object, const void *text, size_t len);
int catalog_description(struct catalog *c, uint64_t object, char **ret, size_t *ret_len); /* malloc'ed; -ENOENT */

/* Makes durable what was put, removed or described before (a new version of what was listed already may wait), then calls settled for each
 * partition whose tombstone can go.  No lock of a partition is held by the caller. */
int catalog_sync(struct catalog *c, void (*settled)(void *arg, struct part_id id), void *arg);
int catalog_commit(struct catalog *c); /* survives the process, not yet the machine */
/* Whether a later removal of the partition needs the tombstone. */
bool catalog_removing(struct catalog *c, struct part_id id);

#endif
