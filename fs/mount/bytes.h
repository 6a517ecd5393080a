/* bytes.h - the partitions of one object (a regular file or an array), read and written wherever they live.
 *
 * A partition on this machine is reached through a descriptor that the local slabfsd opened; any other by requests to its node.
 * Writes take a lease at the partition's node; bytes_seal ends it: what was written is checksummed and has a new version.
 * Thread-safe.  Every wait is bounded by the mount's timeout.  The reasons name partition and node.
 */
#ifndef SLABFS_BYTES_H
#define SLABFS_BYTES_H

#include "base.h"
#include "mount.h"
#include "node.h"
#include "wire.h"

struct bytes;

struct layout {
	uint64_t object, partition_bytes;
	uint32_t epoch, n_nodes;
	uint32_t nodes[SLAB_NODES_MAX];
	struct wire_alloc alloc; /* how a missing partition is made, and what it reads as (bytes 0: zeros) */
};
uint32_t layout_owner(const struct layout *l, uint64_t partition); /* node id */

int bytes_new(struct mount *m, const struct layout *layout, struct bytes **ret);
void bytes_free(struct bytes *b); /* seals what is left (errors are logged) */
const struct layout *bytes_layout(const struct bytes *b);

/* A piece of one partition and where its bytes are in memory. */
struct segment {
	uint64_t partition, offset;
	size_t len;
	char *buf;
};

/* Reads all segments, those on different nodes at once.  Bytes past the end of a partition file read as zeros (regular files),
 * a missing partition as its fill pattern. */
int bytes_read(struct bytes *b, const struct segment *segments, size_t n, struct cancel *cancel, struct reason *why);
/* When [offset, offset + len) of the partition is wholly in one local file: a descriptor to reply from (the caller closes it).  -ENOENT when not. */
int bytes_read_fd(struct bytes *b, uint64_t partition, uint64_t offset, size_t len, int *ret_fd, struct reason *why);
/* When the partition is exactly len bytes in a local file: its descriptor, as above. */
int bytes_whole_fd(struct bytes *b, uint64_t partition, uint64_t len, int *ret_fd, struct reason *why);
int bytes_write(struct bytes *b, const struct segment *segments, size_t n, struct reason *why);
/* Ends all write leases of this mount on the object.  durable: data, sums and every earlier seal of the object on all its nodes are on the disk when
 * it returns.  The first failure is returned, after trying the others. */
int bytes_seal(struct bytes *b, bool durable, struct reason *why);
bool bytes_dirty(struct bytes *b);       /* written since the last seal */
void bytes_uncommitted(struct bytes *b); /* the head does not know of the last seal: it counts as dirty */
size_t bytes_known(struct bytes *b);     /* partitions that something is known of */
/* Drops descriptors that may be out of date (the partition may have been replaced). */
void bytes_refresh(struct bytes *b);

int bytes_truncate(struct bytes *b, uint64_t partition, uint64_t length, struct reason *why);
int bytes_drop(struct bytes *b, uint64_t first, uint64_t count, struct reason *why); /* count UINT64_MAX: to the end */
int bytes_adopt(struct bytes *b, uint64_t partition, uint64_t from_object, uint64_t from_index, bool link,
		struct reason *why);
/* Of regular files.  mode: WIRE_ALLOCATE_. */
int bytes_allocate(struct bytes *b, uint64_t partition, uint64_t offset, uint64_t length, uint32_t mode,
		   struct reason *why);
/* The next data or hole at or after offset of the partition; no more data: UINT64_MAX.  What is beyond its end is a hole. */
int bytes_seek(struct bytes *b, uint64_t partition, uint64_t offset, bool hole, uint64_t *ret, struct reason *why);
/* Of regular files: the node copies.  -EXDEV: the partitions are on different nodes. */
int bytes_copy(struct bytes *from, uint64_t from_partition, uint64_t from_offset, struct bytes *to, uint64_t partition,
	       uint64_t offset, uint64_t length, struct reason *why);
/* Partitions in [first, first + count) that exist, on all nodes, in order; *ret malloc'ed. */
int bytes_list(struct bytes *b, uint64_t first, uint64_t count, struct wire_part_info **ret, size_t *ret_n,
	       struct reason *why);
/* One partition; -ENOENT when missing. */
int bytes_stat(struct bytes *b, uint64_t partition, struct wire_part_info *ret, struct reason *why);

#endif
