/* reduce_internal.h - the table's rows and the state, shared by reduce*.c only.
 *
 * A state is the union of what the operations need; a row says which parts it keeps, and only those are fed,
 * merged and sent.
 */
#ifndef SLAB_REDUCE_INTERNAL_H
#define SLAB_REDUCE_INTERNAL_H

#include "reduce.h"
#include "reduce_exact.h"

enum reduce_keeps {
	KEEPS_TRUTH = 1,
	KEEPS_SUM = 2,
	KEEPS_SQUARES = 4,
	KEEPS_LEAST = 8,
	KEEPS_GREATEST = 16,
	KEEPS_INDEX = 32, /* of the least or greatest; equal elements are then told apart by index only */
	KEEPS_MISSING = 64,
};

enum reduce_answer {
	ANSWER_ALL,
	ANSWER_ANY,
	ANSWER_ARG,
	ANSWER_COUNT,
	ANSWER_DESCRIBE,
	ANSWER_EXTREME,
	ANSWER_MEAN,
	ANSWER_STD,
	ANSWER_SUM,
	ANSWER_VAR,
};

struct reduce_op {
	const char *name;
	uint8_t id; /* in the wire form: never changed, never used again */
	unsigned keeps;
	enum reduce_answer answer;
	bool takes_ddof;
};

/* A least or greatest element.  key: of the real and the imaginary part (kernel keys, see reduce_kernels.h); 0 for
 * NaN. */
struct extreme {
	bool have, nan;
	uint64_t index; /* 0 unless KEEPS_INDEX */
	int64_t key[2];
};

/* The moments of one part of the elements, real or imaginary.  Once `nan` the sums no longer matter; nor with an
 * infinity. */
struct moments {
	bool nan, plus_inf, minus_inf;
	bool guessed; /* exp: what served for the last block's slices; a hint, no part of the state's meaning */
	int exp;
	struct exact sum, squares;
};

struct reduce_state {
	uint64_t n;
	uint64_t missing;
	bool any, not_all;
	struct extreme least, greatest;
	struct moments part[2];
};

/* The dtype of the parts of a complex; any other dtype itself. */
static inline enum dtype reduce_part_dtype(enum dtype dtype)
{
	if (dtype_class(dtype) != DTYPE_CLASS_COMPLEX)
		return dtype;
	return dtype == DTYPE_COMPLEX64 ? DTYPE_FLOAT32 : DTYPE_FLOAT64;
}

static inline unsigned reduce_parts(enum dtype dtype)
{
	return dtype_class(dtype) == DTYPE_CLASS_COMPLEX ? 2 : 1;
}

static inline bool reduce_is_float(enum dtype dtype)
{
	return dtype_class(dtype) == DTYPE_CLASS_FLOAT || dtype_class(dtype) == DTYPE_CLASS_COMPLEX;
}

/* Keys of real dtypes, one element at a time.  nan keys lie outside [key(-inf), key(inf)]. */
int64_t reduce_key(enum dtype part, const void *value);
void reduce_key_value(enum dtype part, int64_t key, void *ret);
int64_t reduce_key_inf(enum dtype part); /* key(inf); key(-inf) is ~ of it */

/* Takes `candidate` if it is less (greater) than *e, or as NumPy's NaN rule and the index say.  The order is
 * total: NaN before all; then by value, a complex by real part, then imaginary part; then -0.0 before 0.0
 * likewise.  For KEEPS_INDEX the candidate must be canonical (reduce_extreme_canonical) and ties go to the lower
 * index.  True if taken. */
bool reduce_extreme_offer(const struct reduce_spec *spec, struct extreme *e, const struct extreme *candidate,
			  bool greatest);
void reduce_extreme_canonical(const struct reduce_spec *spec, struct extreme *x);

/* Whether the sums of *m still decide the answer. */
bool reduce_moments_finite(const struct moments *m);

#endif
