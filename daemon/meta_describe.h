/* meta_describe.h - the rows that the describer works on: arrays of which the stores are to be told.
 *
 * Triggers of the schema mark an array when what describes it changes, and a directory that got another name; the arrays below that are
 * marked in its stead when its turn comes.
 */
#ifndef SLABFSD_META_DESCRIBE_H
#define SLABFSD_META_DESCRIBE_H

#include "base.h"
#include "wire.h"

struct meta;

struct description {
	uint64_t ino, mark;
	struct wire_describe head;
	uint8_t *payload; /* malloc'ed */
	size_t payload_bytes;
	struct le32 nodes[SLAB_NODES_MAX], acked[SLAB_NODES_MAX]; /* that are to know it; that do */
	size_t n_nodes, n_acked;
};

/* The next marked array after the inode `after`.  1; 0: there is none; -errno. */
int meta_describe_next(struct meta *m, uint64_t after, struct description *ret);
/* Writes back who knows it; forgets the mark when all do.  One that was marked again meanwhile stays marked. */
int meta_describe_update(struct meta *m, const struct description *d);

#endif
