/* npy.h - the header of NumPy's .npy files, read and written.
 *
 * Formats 1.0, 2.0 and 3.0 (NumPy enhancement proposal 1, numpy.lib.format).  Header text from outside is a bounded,
 * strict subset of Python literals: a dict with exactly descr, fortran_order, shape.  Any thread.
 */
#ifndef SLAB_NPY_H
#define SLAB_NPY_H

#include "base.h"
#include "dtype.h"

#define NPY_HEADER_MAX (1u << 16) /* bytes; longer ones are refused */

struct npy {
	enum dtype dtype;
	bool big_endian;
	bool fortran_order;
	unsigned rank;
	uint64_t shape[SLAB_RANK_MAX];
	size_t header_bytes; /* offset of the data: magic, version, length and dict */
};

/* Parses the first len bytes of a file.  -EAGAIN: well-formed so far but more bytes are needed (*ret_need, if not NULL: how many
 * bytes in all are known to be needed); -EINVAL: not npy or malformed, with a reason ("npy header: byte 17: ..."); -ENOTSUP: a dtype
 * that slabfs does not hold (the reason names the descr). */
int npy_parse(const void *buf, size_t len, struct npy *ret, size_t *ret_need, struct reason *why);

/* Writes the header that numpy.save writes (version 1.0 where it fits; dict padded with spaces so that the data starts at a multiple of
 * 64, with NumPy's reserve for the growth of the first axis), of at least min_bytes.  ret_buf has cap bytes; *ret_len:
 * header bytes.  -ENOSPC when cap is too small; -EINVAL when min_bytes exceeds NPY_HEADER_MAX.  By default NumPy
 * itself refuses to load headers beyond 10000 bytes. */
int npy_format(const struct npy *h, size_t min_bytes, void *ret_buf, size_t cap, size_t *ret_len);

#endif
