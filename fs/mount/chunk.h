/* chunk.h - c/ of an array: one file a partition, named by Zarr's chunk keys, and the temporaries that writers keep beside them.
 *
 * Existence of a partition file is asked of its owner: a missing one is all fill_value.  A file under c/ whose name is no chunk key (a
 * writer's c/0/0.4f2a.partial) is a regular file of the head's, kept in the array's directory under a hidden name.
 */
#ifndef SLABFS_CHUNK_H
#define SLABFS_CHUNK_H

#include "base.h"
#include "mount.h"
#include "node.h"

int chunk_lookup_top(struct mount *m, uint64_t array_ino,
		     struct node **ret); /* "c": the directory, or the file of a rank-0 array */
/* A coordinate as Zarr spells it: decimal, without leading zeros, so that no two names mean one partition. */
bool chunk_parse_coord(const char *name, uint64_t *ret);
bool chunk_is_temporary(const char *name); /* a hidden name in the array's directory */
/* 0 when no partition and no temporary is left; -ENOTEMPTY. */
int chunk_all_gone(struct mount *m, uint64_t array_ino);

/* A name in a chunk directory: either a partition's (then *ret_partition; -ENOENT past the grid), or a temporary's: 1, and its hidden name. */
int chunk_resolve(struct mount *m, struct node *dir, const char *name, uint64_t *ret_partition,
		  char ret_hidden[SLAB_NAME_MAX + 1]);

/* A chunk file that is being made: until it is flushed its size is what was written. */
int chunk_start_fresh(struct node *n);

/* `from` (a regular file's node) becomes partition `to` of the array, moved or (link) copied, atomically for readers. */
int chunk_take_file(struct mount *m, struct node *from, struct node *chunk_dir, uint64_t to, bool link);

#endif
