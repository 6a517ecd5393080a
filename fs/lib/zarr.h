/* zarr.h - the metadata document of an array: Zarr v3's zarr.json, read, checked, written and changed.
 *
 * Reads the Zarr v3 core specification's array and group documents.  Accepted arrays: regular chunk grid; chunk key encodings
 * "default" with "/"; codecs: exactly one "bytes" codec, little or big endian (may be absent for one-byte types);
 * no storage transformers.  Anything else is refused with a reason that names the key and the value.  Keys that we do not know
 * are kept verbatim (an unknown *must-understand* extension is refused, as the specification asks).
 * A `struct zarr` is plain data, immutable once parsed; any thread.
 */
#ifndef SLAB_ZARR_H
#define SLAB_ZARR_H

#include "base.h"
#include "dtype.h"
#include "grid.h"

#define ZARR_DOC_MAX (1u << 20) /* bytes of a zarr.json */

enum zarr_node { ZARR_ARRAY, ZARR_GROUP };

struct zarr {
	enum dtype dtype;
	bool big_endian; /* bytes codec "big" */
	struct grid grid;
	union dtype_value fill;        /* in machine byte order */
	union dtype_value fill_stored; /* in the array's stored byte order: what a missing partition holds */
	bool fill_is_zero;             /* all bytes of fill are zero */
};

/* Parses and checks a document.  *ret_node says what it is; *ret is filled for arrays only.
 * -EINVAL with a reason "zarr.json: KEY: what is wrong"; -ENOTSUP for legal Zarr that slabfs does not do yet. */
int zarr_parse(const char *text, size_t len, enum zarr_node *ret_node, struct zarr *ret, struct reason *why);

/* A new array document, pretty-printed as zarr-python does (malloc'ed; NULL without memory): "default" key encoding with
 * "/", fill_value 0 (False for bool, 0.0 for floats, [0.0, 0.0] for complex), empty attributes.  Rank 0: shape [], chunk_shape []. */
char *zarr_doc_new(enum dtype dtype, bool big_endian, unsigned rank, const uint64_t *shape, const uint64_t *chunk);

/* The document with shape[0] replaced, everything else as it was (order of keys and unknown keys included). */
int zarr_doc_resize(const char *text, size_t len, uint64_t new_rows, char **ret, struct reason *why);

/* Whether partitions written under `a` keep their meaning under `b`: same dtype, byte order, rank, chunk shape, key encoding. */
bool zarr_same_layout(const struct zarr *a, const struct zarr *b);

#endif
