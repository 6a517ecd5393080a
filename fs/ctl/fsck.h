/* fsck.h - what fsck.c, which finds, and fsck_restore.c, which mends, share. */
#ifndef SLAB_CTL_FSCK_H
#define SLAB_CTL_FSCK_H

#include "ctl.h"

struct seen { /* an object on a node */
	uint64_t object, partitions, bytes, quarantined;
	uint64_t *bad;
	size_t n_bad;
	uint8_t *description; /* struct wire_describe and its payload; NULL: none */
	size_t description_bytes;
	uint32_t node;
	bool unknown; /* to the head */
};

struct fsck {
	struct ctl *c;
	struct client *head;
	bool repair, rebuild, drop_unknown;
	struct wire_node *nodes;
	size_t n_nodes;
	struct client *clients[SLAB_NODES_MAX + 1];
	struct seen *seen; /* those of interest */
	size_t n_seen;
	uint64_t last_id, objects, restored, dropped, left;
	bool incomplete; /* a node could not be asked */
	struct reason why;
};

struct client *fsck_client(struct fsck *f, uint32_t node); /* the node's; NULL with a reason in f->why */
/* Gives the object a name, or drops it when it holds nothing. */
int fsck_restore(struct fsck *f, const struct seen *s, uint64_t partitions);

#endif
