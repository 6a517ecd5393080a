/* reduce_exact.h - sums without rounding: one wide fixed-point number that holds any sum of float64s or of their
 * squares.
 *
 * The value is the sum of digit[i] * 2^(32 i - EXACT_BIAS).  Digits are 64-bit lanes that hold 32 bits after
 * exact_settle and collect carries in between, so that an addition touches few digits and never ripples.  The
 * range: the lowest bit of the square of the smallest subnormal is 2^-2148; 2^64 squares of the largest float64
 * stay below 2^2112. Integers use the same number.  Internal to reduce*.c; plain data, one thread at a time.
 */
#ifndef SLAB_REDUCE_EXACT_H
#define SLAB_REDUCE_EXACT_H

#include "base.h"

#define EXACT_DIGITS 136
#define EXACT_BIAS 2176                   /* a multiple of 32, at least 2148 */
#define EXACT_ONE_DIGIT (EXACT_BIAS / 32) /* the digit of 2^0 */
#define EXACT_SUM_FIRST 34 /* a sum of plain elements has no bit below 2^-1074, so none below this digit */
#define EXACT_SUM_END 103  /* ... nor at this digit or above, for fewer than 2^63 elements */

struct exact {
	uint32_t pending; /* additions since the digits were settled */
	int64_t digit[EXACT_DIGITS];
};

__extension__ typedef unsigned __int128 exact_u128;
__extension__ typedef __int128 exact_i128;

void exact_settle(struct exact *x); /* digits 0 .. last-1 become 0 <= digit < 2^32, the last one carries the sign */
void exact_merge(struct exact *into, const struct exact *from);

/* Adds (negative ? -v : v) * 2^exp.  exp in [-EXACT_BIAS, 2047 + 64]. */
static inline void exact_add(struct exact *x, uint64_t v, int exp, bool negative)
{
	unsigned pos = (unsigned)(exp + EXACT_BIAS), shift = pos % 32;
	int64_t *d = x->digit + pos / 32;
	exact_u128 wide = (exact_u128)v << shift;
	int64_t sign = negative ? -1 : 1;

	d[0] += sign * (int64_t)((uint64_t)wide & UINT32_MAX);
	d[1] += sign * (int64_t)((uint64_t)(wide >> 32) & UINT32_MAX);
	d[2] += sign * (int64_t)(uint64_t)(wide >> 64);
	if (++x->pending >= UINT32_C(1) << 30)
		exact_settle(x);
}

/* Adds (negative ? -v : v) * n * 2^exp. */
void exact_add_times(struct exact *x, exact_u128 v, uint64_t n, int exp, bool negative);
void exact_add_wide(struct exact *x, exact_i128 v, int exp);

/* A finite float64 as (negative ? -mant : mant) * 2^exp. */
struct exact_parts {
	uint64_t mant;
	int exp;
	bool negative;
};
struct exact_parts exact_split(double v);

/* ---- magnitudes: unsigned integers of n <= BIG_DIGITS 32-bit digits, lowest first, the last nonzero ---- */

#define BIG_DIGITS 320

struct big {
	unsigned n;
	uint32_t digit[BIG_DIGITS];
};

/* |x| * 2^EXACT_BIAS.  Returns whether x is negative. */
bool big_of_exact(struct big *ret, const struct exact *x);
void big_of_u128(struct big *ret, exact_u128 v);
void big_mul(struct big *ret, const struct big *a, const struct big *b); /* ret is neither a nor b */
void big_shift_left(struct big *a, unsigned bits);
void big_shift_right_digits(struct big *a, unsigned digits); /* the digits shifted out must be zero or may be lost */
int big_compare(const struct big *a, const struct big *b);
bool big_sub(struct big *a, const struct big *b); /* a -= b; false, and a is 0, when b > a */
void big_add(struct big *a, const struct big *b);

/* A binary floating-point format: the numbers m * 2^q with |m| < 2^precision, q >= min_exp, below 2^end_exp. */
struct float_format {
	int precision, min_exp, end_exp;
};
extern const struct float_format format_float16, format_float32, format_float64;

/* (p * 2^-EXACT_BIAS / q)^(1/root), root 1 or 2, rounded once to the nearest number of the format, ties to even; inf
 * from end_exp on.  q must not be 0. */
double big_round(const struct big *p, const struct big *q, int root, const struct float_format *format);

#endif
