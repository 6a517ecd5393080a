/* sums.h - the .sum file of a partition: a header, then one XXH3-64 for each 64 KiB block.  xxHash is used in sums.c only.
 *
 * The header names its partition, so that files that were swapped are noticed.  Header and sums are little-endian; docs/format.md
 * is normative.  Stateless; any thread.  0 or -errno.
 */
#ifndef SLABFSD_SUMS_H
#define SLABFSD_SUMS_H

#include "pool.h"
#include "store.h"

#define SUMS_BLOCK_LOG2 16
#define SUMS_BLOCK_BYTES (1u << SUMS_BLOCK_LOG2)
#define SUMS_SECTOR 512 /* written by a disk whole or not at all */
#define SUMS_RUN_OPEN 0 /* sums_header.run: has writers, the sums are not current */

struct sums_header {
	bool durable;
	uint64_t file_bytes; /* of the partition when it was sealed */
	uint64_t version;
	uint64_t run; /* of the daemon, when it was sealed: random, never 0 */
	struct part_id id;
};

uint64_t sums_blocks(uint64_t file_bytes);
uint64_t
sums_file_bytes(uint64_t file_bytes); /* of the .sum file: SUMS_SECTOR at least, so that a short one keeps its size */

/* -ENODATA: empty or all zeros, as a power cut leaves a file that was never fsynced.  -EBADMSG with a reason: damaged. */
int sums_read_header(int fd, struct sums_header *ret, struct reason *why);
int sums_write_header(int fd, const struct sums_header *h);

/* The sums of blocks [first, first + n), as the .sum file has them. */
int sums_read(int fd, uint64_t first, size_t n, struct le64 *ret);
int sums_write(int fd, uint64_t first, size_t n, const struct le64 *sums);

/* Reads and hashes blocks [first, first + n) of a file of file_bytes, on the threads of `cores` (may be NULL) and the caller.
 * -ENODATA: the file is shorter. */
int sums_hash(struct pool *cores, int data_fd, uint64_t file_bytes, uint64_t first, size_t n, struct le64 *ret);

#endif
