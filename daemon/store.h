/* store.h - the partition files of one store and their checksums: read, write, seal, verify.
 *
 *   parts/ab/<object>/<index>       exactly the bytes of the partition
 *   parts/ab/<object>/<index>.sum   header, then one XXH3-64 for each 64 KiB block
 *   (ab: two hex digits of a hash of the object; docs/format.md is normative)
 *
 * States of a partition:
 *
 *   missing --first write--> open --seal--> sealed --fsync of data, then of sums--> durable
 *                             ^                |                                       |
 *                             +----write-------+------ durable flag cleared durably ---+
 *
 * open: has writers (write leases of sessions); not verified.  sealed and durable: every block has been compared with its sum since it last came
 * off the disk before it is handed out (a block is verified once, and again when its pages have left memory or the file's ctime
 * changed behind our back).  A mismatch quarantines the partition: EIO, logged, until it is replaced whole or dropped.
 * After an unclean stop a partition that is not durable is sealed anew at first use, or by a thread that looks at all of them.
 * A sealed partition is made durable about STORE_SYNC_MS after its last seal.
 *
 * Opaque; thread-safe; 0 or -errno with a reason that names object and partition.  The lock of a partition is held across disk I/O on it, never
 * across network I/O.
 */
#ifndef SLABFSD_STORE_H
#define SLABFSD_STORE_H

#include "base.h"

struct pool;
struct store;

#define STORE_SYNC_MS 5000

struct part_id {
	uint64_t object, index;
};

struct part_alloc {
	uint64_t bytes; /* 0: grows as it is written */
	uint32_t fill_bytes;
	uint8_t fill[16];
};

struct part_info {
	uint64_t index, file_bytes, blocks, mtime_ns, version;
};

struct part_file {
	int fd; /* the caller closes it */
	uint64_t bytes, version;
};

/* cores: for hashing; may be NULL.  dirfd stays the caller's and must outlive the store. */
int store_open(int dirfd, struct pool *cores, struct store **ret, struct reason *why);
/* Seals what is open, makes everything durable, marks the stop as clean. */
void store_close(struct store *s);

/* A read-only descriptor of a partition whose blocks in [offset, offset + len) are verified.  len UINT64_MAX: all.
 * -ENOENT: missing.  -EIO: corrupt or unreadable. */
int store_read_fd(struct store *s, struct part_id id, uint64_t offset, uint64_t len, struct part_file *ret,
		  struct reason *why);

/* Gives `session` (a number, 0: the daemon itself) a write lease and a read-write descriptor.
 * Makes and allocates the file when it is missing.  -ENOSPC. */
int store_write_fd(struct store *s, struct part_id id, const struct part_alloc *alloc, uint64_t session,
		   struct part_file *ret, struct reason *why);
/* pwrite under the session's lease (taken if need be), marking the blocks dirty. */
int store_write(struct store *s, struct part_id id, const struct part_alloc *alloc, uint64_t session, const void *buf,
		size_t len, uint64_t offset, struct reason *why);

struct part_range {
	uint64_t offset, length;
};
/* Ends the session's lease.  ranges: what it wrote through its descriptor. */
int store_seal(struct store *s, struct part_id id, uint64_t session, const struct part_range *ranges, size_t n_ranges,
	       bool durable, uint64_t *ret_version, struct reason *why);
/* The session is gone: seals what it had open, by reading it whole where it held a descriptor. */
void store_session_end(struct store *s, uint64_t session);

int store_truncate(struct store *s, struct part_id id, uint64_t length, struct reason *why);
enum store_room { STORE_RESERVE, STORE_ZERO, STORE_PUNCH };
/* fallocate(2) that keeps the length: room for the range; or zeros in it; or zeros, and the room given back.  For partitions that grow as they are
 * written: one that is missing is made, empty, unless there is nothing to reserve.  Seals.  -ENOSPC. */
int store_allocate(struct store *s, struct part_id id, uint64_t offset, uint64_t length, enum store_room room,
		   struct reason *why);
/* The next data or hole at or after offset.  No more data: UINT64_MAX.  What is missing, or beyond the end, is a hole. */
int store_seek(struct store *s, struct part_id id, uint64_t offset, bool hole, uint64_t *ret, struct reason *why);
/* Copies `length` bytes as they read (what is missing as zeros), inside the kernel and shared with the source where the file system can; `to` grows as
 * it is written.  Overlapping ranges of one partition are not for this.  Seals.  On failure a part may be copied. */
int store_copy(struct store *s, struct part_id from, uint64_t from_offset, struct part_id to, uint64_t to_offset,
	       uint64_t length, struct reason *why);
/* Removes partitions [first, first + count), durably: who makes a file longer again must not find what was cut off.  whole_object: all, and later
 * requests for the object get -ESTALE; a power cut may bring them back, but no name of the object. */
int store_drop(struct store *s, uint64_t object, uint64_t first, uint64_t count, bool whole_object, struct reason *why);
/* The same for whole objects, some of which may be dropped when it fails. */
int store_drop_objects(struct store *s, const uint64_t *objects, size_t n, struct reason *why);
/* Existing partitions with index >= first in order, at most max; *ret malloc'ed. */
int store_list(struct store *s, uint64_t object, uint64_t first, size_t max, struct part_info **ret, size_t *ret_n,
	       struct reason *why);
/* Replaces `to` with `from` (moved, or copied if link), atomically.  -EINVAL: not expect_bytes long.  -EBUSY: has writers. */
int store_adopt(struct store *s, struct part_id from, struct part_id to, bool link, uint64_t expect_bytes,
		struct reason *why);
/* No more than a moment's work to verify or to seal: missing, or no longer than max_bytes. */
bool store_is_small(struct store *s, struct part_id id, uint64_t max_bytes);
/* Whether that may have been done already: `from` is missing, and `to` is there and so long. */
bool store_adopted(struct store *s, struct part_id from, struct part_id to, uint64_t expect_bytes);
int store_sync(struct store *s, uint64_t object, struct reason *why); /* object 0: everything */

/* ---- scrubbing: everything that is durable is compared with its sums as the disk has it, not memory ---- */

/* The partitions after `after` that ought to be here, in order. */
int store_walk(struct store *s, struct part_id after, size_t max, struct part_id *ret, size_t *ret_n);
/* Compares the blocks in [offset, offset + len), which are read from the disk anew.  *ret_bytes: of the whole partition; 0 with success: it has
 * writers or is no more.  -EIO: it is quarantined (now, or was before). */
int store_scrub(struct store *s, struct part_id id, uint64_t offset, uint64_t len, uint64_t *ret_bytes,
		struct reason *why);

/* ---- what the head says of objects ---- */

/* Durable when it returns.  -ESTALE: the object was dropped. */
int store_describe(struct store *s, uint64_t object, const void *description, size_t len, struct reason *why);
#define STORE_BAD_MAX 64
struct store_object {
	uint64_t object, partitions, bytes, quarantined;
	uint64_t bad[STORE_BAD_MAX]; /* the first of the quarantined */
	char *description;           /* malloc'ed; NULL: none */
	size_t description_bytes;
};
/* The next object above `after` that is listed or described here.  -ENOENT: there is none. */
int store_next_object(struct store *s, uint64_t after, struct store_object *ret, struct reason *why);

struct store_stats {
	uint64_t bytes_total, bytes_free, files_total, files_free;
	uint64_t partitions, quarantined;
	uint64_t open; /* partitions with writers */
};
void store_stats(struct store *s, struct store_stats *ret);

#endif
