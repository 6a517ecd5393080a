/* reduce_kernels.h - the loops over elements: one set of functions for each real dtype, in variants for
 * instruction sets.
 *
 * Data is aligned, in machine byte order, of 1 .. KERNEL_ELEMS_MAX elements.  All variants give the same results,
 * bit for bit. Elements are compared by their *key*: an int64 that orders as the element does (floats: -0.0 before
 * 0.0; negative NaNs first, positive NaNs last).  Internal to reduce*.c; no state, any thread.
 */
#ifndef SLAB_REDUCE_KERNELS_H
#define SLAB_REDUCE_KERNELS_H

#include "dtype.h"
#include "reduce_exact.h"

#define KERNEL_ELEMS_MAX 2048
#define KERNEL_LIMBS_MAX 4

struct kernel_sums {
	exact_i128 sum;
	exact_u128 squares[2]; /* [0] + 2^64 [1] */
};

/* Sums of floats cut into limbs: the elements are x = sum of limb[k] * 2^exp[k], exactly. */
struct kernel_slices {
	unsigned limbs;
	int exp[KERNEL_LIMBS_MAX];
	int64_t sum[KERNEL_LIMBS_MAX];                      /* of limb[k] */
	int64_t square[KERNEL_LIMBS_MAX][KERNEL_LIMBS_MAX]; /* [j][k], j <= k: of limb[j] * limb[k] */
};

struct kernel {
	void (*range)(const void *data, size_t n, int64_t ret_keys[2]); /* the least and the greatest key */
	void (*truth)(const void *data, size_t n, bool *ret_any, bool *ret_all);
	size_t (*find)(const void *data, size_t n,
		       int64_t key); /* first element that equals it (0.0 equals -0.0), or n */
	/* integers */
	void (*sums)(const void *data, size_t n, bool squares, struct kernel_sums *ret);
	/* floats */
	int64_t (*top)(const void *data, size_t n);                    /* the greatest magnitude's bits */
	size_t (*nans)(const void *data, size_t n, size_t *ret_first); /* how many; *ret_first set if any */
	/* float32, float64.  exp is a guess: it serves if all elements are finite and below 2^(exp + 1) even when
	 * rounded to 20 bits, and not too far below.  False: it does not, nothing is known; `more` limbs may. */
	bool (*slices)(const void *data, size_t n, int exp, bool more, bool squares, struct kernel_slices *ret);
	/* float16, all finite: ret[i] = data[i] * 2^24 */
	void (*fixed)(const void *data, size_t n, int64_t *ret);
};

struct kernels {
	const char *name;
	bool (*runs_here)(void);
	struct kernel of[DTYPE_END]; /* complex dtypes: empty; their parts are floats */
};

extern const struct kernels *const kernel_variants[]; /* from plain to wide, then NULL */
const struct kernels *kernels_best(void);
/* For tests and measurements: kernels_best gives `k` from now on (NULL: the best again).  Not while others reduce. */
void kernels_force(const struct kernels *k);

#endif
