/* meta_orphans.h - the rows that the reaper works on: objects whose partitions are to be dropped. */
#ifndef SLABFSD_META_ORPHANS_H
#define SLABFSD_META_ORPHANS_H

#include "base.h"

struct meta;

struct orphan {
	uint64_t object;
	uint32_t epoch;
	size_t n_nodes;
	struct le32 nodes[SLAB_NODES_MAX]; /* that still have to drop it */
};

/* At most max orphans with an object id above `after`, in order.  That they are orphans is durable when it returns: a power cut may
 * not bring back a name whose bytes have been dropped. */
int meta_orphans(struct meta *m, uint64_t after, size_t max, struct orphan *ret, size_t *ret_n);
/* Writes back the n_nodes of each (an orphan without nodes is forgotten), in one transaction. */
int meta_orphans_update(struct meta *m, const struct orphan *orphans, size_t n);

#endif
