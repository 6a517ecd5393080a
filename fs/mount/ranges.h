/* ranges.h - which bytes of a partition were written: sorted, apart, at most WIRE_RANGES_MAX, so they may cover more than was added.
 *
 * Not thread-safe.  Ranges that share a block of a checksum are one: such a block is read anew in any case.
 */
#ifndef SLABFS_RANGES_H
#define SLABFS_RANGES_H

#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t start, end;
};

struct ranges {
	struct range *at;
	size_t n, cap;
};

int ranges_add(struct ranges *r, uint64_t start, uint64_t end); /* start < end; -ENOMEM */
void ranges_clear(struct ranges *r);
void ranges_fini(struct ranges *r);

#endif
