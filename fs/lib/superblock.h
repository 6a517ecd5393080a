/* superblock.h - STORE/superblock.json and STORE/cluster.key: what a store is, and the secret of its cluster.
 *
 * Written by mkfs.slabfs, read by slabfsd, by a mount whose SOURCE is a store, and by slabctl.  docs/format.md is normative.
 */
#ifndef SLAB_SUPERBLOCK_H
#define SLAB_SUPERBLOCK_H

#include "base.h"

#define SUPERBLOCK_FORMAT 1
#define SUPERBLOCK_COMPAT 0u   /* feature bits that this program knows; unknown compat bits are ignored */
#define SUPERBLOCK_INCOMPAT 0u /* unknown incompat bits are refused */
#define CLUSTER_KEY_BYTES 32
#define STORE_SOCKET "slabfsd.sock"
#define STORE_NEW "new" /* the mark of a head that has had no names yet */

struct superblock {
	struct uuid cluster;
	struct uuid node;
	uint32_t node_id; /* 1.. ; node 1 is the head */
	char listen[300]; /* HOST:PORT that slabfsd binds and announces; port 0: any free one */
	char head[300];   /* HOST:PORT of the head; on the head itself: equal to listen */
	bool is_head;
};

int superblock_read(const char *store, struct superblock *ret, struct reason *why);
int superblock_write(int storefd, const struct superblock *sb);

/* Reads 32 bytes from path; refuses (EACCES) a file that group or others can read, and (EINVAL) another length. */
int cluster_key_read(const char *path, uint8_t ret[CLUSTER_KEY_BYTES], struct reason *why);

#endif
