/* dtype.h - element types: their names in NumPy and Zarr v3, sizes, and the text of a value.
 *
 * Plain data, no state; any thread.
 */
#ifndef SLAB_DTYPE_H
#define SLAB_DTYPE_H

#include "base.h"

enum dtype {
	DTYPE_BOOL = 1,
	DTYPE_INT8,
	DTYPE_INT16,
	DTYPE_INT32,
	DTYPE_INT64,
	DTYPE_UINT8,
	DTYPE_UINT16,
	DTYPE_UINT32,
	DTYPE_UINT64,
	DTYPE_FLOAT16,
	DTYPE_FLOAT32,
	DTYPE_FLOAT64,
	DTYPE_COMPLEX64,
	DTYPE_COMPLEX128,
	DTYPE_END
};

enum dtype_class { DTYPE_CLASS_BOOL, DTYPE_CLASS_INT, DTYPE_CLASS_UINT, DTYPE_CLASS_FLOAT, DTYPE_CLASS_COMPLEX };

#define DTYPE_BYTES_MAX 16
#define DTYPE_TEXT_MAX 128

/* One element, in the byte order of this machine unless a function says otherwise. */
union dtype_value {
	uint8_t bytes[DTYPE_BYTES_MAX];
	uint64_t words[2];
};

bool dtype_valid(unsigned dtype);
size_t dtype_bytes(enum dtype dtype);
enum dtype_class dtype_class(enum dtype dtype);
const char *dtype_zarr_name(enum dtype dtype);                         /* "float64" */
int dtype_from_zarr(const char *name, enum dtype *ret);                /* -EINVAL: not one of ours */
int dtype_from_npy(const char *descr, enum dtype *ret, bool *ret_big); /* "<f8", "|u1", "=i4", ">c16"; -EINVAL */
void dtype_npy_descr(enum dtype dtype, bool big, char ret[8]);         /* one-byte types give '|' */

/* Reverses the bytes of n elements from src into dst (each component of a complex by itself).  dst may equal src. */
void dtype_swap(enum dtype dtype, void *dst, const void *src, size_t n_elems);

/* The value as one line without a newline, as Python prints the NumPy scalar's .item(): True, -3, 0.1 (shortest decimal that
 * round-trips in the dtype itself: a float32 0.1 prints 0.1), 1e+16, inf, nan, (1+2j).  Python's rule for exponents
 * (repr uses an exponent below 1e-4 and from 1e16 on). */
void dtype_text(enum dtype dtype, const void *value, char ret[DTYPE_TEXT_MAX]);
/* The same for a double; `digits_of` says in which dtype (FLOAT16/32/64) it must round-trip. */
void dtype_double_text(double value, enum dtype digits_of, char ret[DTYPE_TEXT_MAX]);

double dtype_half_to_double(uint16_t half);
uint16_t dtype_double_to_half(double v); /* round to nearest even */

#endif
