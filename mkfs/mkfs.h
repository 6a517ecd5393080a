/* mkfs.h - the parts of mkfs.slabfs: the directory that becomes a store, and the cluster that it joins. */
#ifndef SLAB_MKFS_H
#define SLAB_MKFS_H

#include "base.h"
#include "superblock.h"

/* A store under construction. */
struct new_store {
	const char *path;
	int fd;
	bool made; /* the directory was made by us */
};

/* Opens the directory, or makes it (mode 0700); it must be empty but for lost+found.  -EEXIST: a store already; -ENOTEMPTY. */
int store_begin(struct new_store *s, const char *path, struct reason *why);
/* Writes the key, and last the superblock: before that, nobody takes the directory for a store.  fresh: a head that has had no names yet. */
int store_finish(struct new_store *s, const struct superblock *sb, bool fresh, const uint8_t key[CLUSTER_KEY_BYTES],
		 struct reason *why);
void store_undo(struct new_store *s); /* takes away what was made */

/* Asks the head for a place; fills cluster and node_id of sb.  sb->head, node and listen are set. */
int join_cluster(struct superblock *sb, const uint8_t key[CLUSTER_KEY_BYTES], struct reason *why);
/* Asks any node which cluster it belongs to. */
int join_as_head(struct superblock *sb, const char *node, const uint8_t key[CLUSTER_KEY_BYTES], struct reason *why);
/* HOST:PORT (the default port) of the interface that reaches `head`. */
int join_address(const char *head, char ret[300], struct reason *why);

#endif
