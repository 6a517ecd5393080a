/* meta.h - the head's metadata: inodes, names, arrays, placement, in SQLite.
 *
 * One database connection behind one lock; prepared statements; one transaction an operation (WAL, synchronous=NORMAL; meta_sync makes all that
 * was acknowledged durable).  O(arrays), never O(partitions).  docs/format.md holds the schema.
 *
 * meta_* functions below are what other modules need; the messages' handlers are in meta_module.
 */
#ifndef SLABFSD_META_H
#define SLABFSD_META_H

#include "base.h"
#include "wire.h"

struct meta;
struct daemon;

int meta_open(struct daemon *d, struct meta **ret, struct reason *why); /* makes the schema in an empty database */
void meta_close(struct meta *m);
size_t meta_held(struct meta *m); /* inodes that mounts are to be told of */
/* The mounts have had their time since the start: what has neither name nor open is dropped.  False: not yet. */
bool meta_grace_over(struct meta *m, bool *ret_reap);
int meta_start(struct daemon *d); /* threads: the reaper of orphans, the sender of invalidations */
void meta_stop(struct daemon *d);

/* The nodes' table: rows survive restarts. */
int meta_node_add(struct meta *m, const struct uuid *node, const char *address, uint32_t *ret_id, struct reason *why);
/* The last start of the node that was answered (all zero: none), and durably another. */
int meta_node_run(struct meta *m, uint32_t id, struct uuid *ret);
int meta_node_set_run(struct meta *m, uint32_t id, const struct uuid *run);
int meta_node_address(struct meta *m, uint32_t id, const struct uuid *node, const char *address, struct reason *why);
uint64_t meta_undescribed(struct meta *m); /* arrays, or directories of them, of which the stores are yet to be told */
/* A node registers.  1: it was not known, or only its number was, and now it is: the head was made anew. */
int meta_node_claim(struct meta *m, uint32_t id, const struct uuid *node, const char *address);
int meta_nodes(struct meta *m, struct wire_node **ret, size_t *ret_n); /* id, uuid, address; malloc'ed */

#endif
