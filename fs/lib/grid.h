/* grid.h - the regular chunk grid of an array: which partition holds which element, and where in it.
 *
 * Shapes and chunk shapes are in elements, axis 0 first (C order: the last axis varies fastest).  A partition (Zarr chunk) is
 * stored at full size; elements past the array's edge are padding.  Partitions are numbered in C order over the grid.
 * The *native* grid cuts axis 0 only, so that the array's bytes are the partitions end to end (less the last one's padding).
 * Plain data; any thread.
 */
#ifndef SLAB_GRID_H
#define SLAB_GRID_H

#include "base.h"

#define GRID_PARTITIONS_MAX (UINT64_C(1) << 40)
#define GRID_BYTES_MAX (UINT64_C(1) << 60) /* the whole array, and (at most 2^46) one partition */
#define GRID_PARTITION_BYTES_MAX (UINT64_C(1) << 46)

struct grid {
	unsigned rank; /* 0: one element, one partition, whose key is "c" */
	size_t item_bytes;
	uint64_t shape[SLAB_RANK_MAX];
	uint64_t chunk[SLAB_RANK_MAX];  /* each >= 1 */
	uint64_t counts[SLAB_RANK_MAX]; /* partitions along each axis: ceil(shape/chunk) */
	uint64_t n_elems;               /* of the array: product of shape */
	uint64_t n_partitions;          /* product of counts; 0 when an axis is empty */
	uint64_t partition_elems;       /* product of chunk, padding included */
	uint64_t partition_bytes; /* partition_elems * item_bytes: the size of each partition file, uncompressed */
	bool native;
};

/* Fills *ret; every product is checked.  -EINVAL / -EFBIG with a reason. */
int grid_init(struct grid *ret, unsigned rank, const uint64_t *shape, const uint64_t *chunk, size_t item_bytes,
	      struct reason *why);

/* The chunk shape of the native grid for a target partition size: rows (axis 0) as many as fit, at least one; where the row
 * size allows, rounded down so that a partition is a multiple of 4096 bytes.  An array smaller than the target gets one partition
 * of its rows, and of 64 KiB at least (or the target, if that is less), so that what is appended to it later is not cut into crumbs. */
void grid_native_chunk(unsigned rank, const uint64_t *shape, size_t item_bytes, uint64_t target_bytes,
		       uint64_t *ret_chunk);

/* A run: elements that are contiguous both in the array (C order) and in one partition. */
struct grid_run {
	uint64_t partition;      /* partition number */
	uint64_t partition_elem; /* offset in the partition, elements */
	uint64_t elem;           /* flat C-order index in the array */
	uint64_t n_elems;        /* >= 1 */
};

/* The run that starts at flat index elem (< n_elems): as long as it stays contiguous in both, at most max_elems. */
void grid_run_at(const struct grid *g, uint64_t elem, uint64_t max_elems, struct grid_run *ret);

/* The valid (not padding) runs of one partition, in rising partition_elem order.  Iterates: *pos starts at 0, false at the end.
 * Runs are as long as possible, so a native partition gives exactly one. */
bool grid_partition_next_run(const struct grid *g, uint64_t partition, uint64_t *pos, struct grid_run *ret);
uint64_t grid_partition_valid_elems(const struct grid *g, uint64_t partition); /* elements that are not padding */

/* Zarr's chunk keys below the array's directory, default encoding: "c/1/0"; "c" for rank 0.  sep is '/' or '.'.
 * ret has room for GRID_KEY_MAX. */
#define GRID_KEY_MAX (2 + SLAB_RANK_MAX * 21)
void grid_key(const struct grid *g, uint64_t partition, char sep, char ret[GRID_KEY_MAX]);

/* The coordinates (along each axis) of a partition, and back; partition numbers must be in range. */
void grid_coords(const struct grid *g, uint64_t partition, uint64_t ret_coords[SLAB_RANK_MAX]);
uint64_t grid_index(const struct grid *g, const uint64_t coords[]);

#endif
