/* array.h - an array that this mount knows: its document, its layout and its generation, shared by all its views.
 *
 * Reference-counted; held open at the head while it lives, so that its partitions stay while a view is open.  Thread-safe.
 */
#ifndef SLABFS_ARRAY_H
#define SLABFS_ARRAY_H

#include "base.h"
#include "bytes.h"
#include "mount.h"
#include "npy.h"
#include "zarr.h"

/* What is known of an array at one moment: immutable and counted, so that a reader may keep it without a lock. */
struct array_view {
	_Atomic uint32_t refs;
	struct wire_attr attr; /* of the directory */
	struct zarr zarr;
	char *doc; /* the zarr.json text */
	size_t doc_bytes;
	uint8_t *npy; /* the header of data.npy */
	size_t npy_bytes;
	uint64_t row_bytes;  /* of one index of axis 0; the item for rank 0 */
	uint64_t data_bytes; /* of the whole array */
	struct bytes *bytes; /* counted by the array views that share it */
	_Atomic uint32_t *bytes_refs;
};

struct array {
	uint64_t ino; /* of the directory */
	_Atomic uint32_t refs;
	pthread_mutex_t lock; /* guards all below */
	struct array_view *now;
	bool stale;
	uint64_t
		pending_bytes; /* the end of what was appended through `data` and is not yet in the shape; 0: nothing */
};

/* The array of a directory; -ENOENT when it is none. */
int array_get(struct mount *m, uint64_t dir_ino, struct array **ret);
struct array *array_ref(struct array *a);
void array_unref(struct mount *m, struct array *a);
/* The current state; fetched from the head when it may be out of date.  -ENOENT: no longer an array. */
int array_view(struct mount *m, struct array *a, struct array_view **ret);
void array_view_unref(struct array_view *v);
/* Those that are held open at the head; with no lock held. */
void array_each(struct mount *m, void (*fn)(struct mount *m, struct array *a));
void array_invalidate(struct mount *m, uint64_t dir_ino); /* by inval.c and after our own changes */

/* Reads and writes of the array's C-order bytes (`data`): splits into runs and goes to bytes.  offset + len <= data_bytes for reads;
 * writes may go past the end of a native array of rank >= 1 (an append; the shape follows in array_flush). */
int array_read(struct array_view *v, char *buf, size_t len, uint64_t offset, struct cancel *cancel, struct reason *why);
int array_write(struct array_view *v, const char *buf, size_t len, uint64_t offset, struct reason *why);
bool array_dirty(struct array *a); /* something was written here and not flushed; asks nobody */
/* Seals, grows the shape over what was appended, raises the generation.  durable: fsync. */
int array_flush(struct mount *m, struct array *a, bool durable, struct reason *why);
/* Under strict, after a write: the shape grows over whole rows, and every mount is told.  Nothing is sealed. */
int array_publish(struct mount *m, struct array *a, uint64_t *ret_generation);
int array_resize_bytes(struct mount *m, struct array *a, uint64_t data_bytes,
		       struct reason *why);                       /* truncate of `data` */
uint64_t array_size(struct array *a, const struct array_view *v); /* of `data`, with what was appended */

#endif
