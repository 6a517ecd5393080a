/* reduce_kernel_slice.h - template: exact sums of float32 or float64 elements and of their squares, by slicing.
 *
 * With M = 1.5 * 2^52 * u, (x + M) - M is x rounded to a multiple of u, and x less that is exact and at most u / 2 (error-free
 * extraction: Rump, Ogita, Oishi, "Accurate floating-point summation", 2008).  Each element is cut at fixed places into limbs, all of
 * the block's limbs k are multiples of one unit, and are so short that the lanes' sums, and those of the limbs' products, are exact
 * in float64.  What is left after the last limb must be zero.
 *
 * Parameters: TARGET, NAME(x), T (float, double), VEC (bytes of a vector of float64), SUM_LIMBS, SQUARE_LIMBS (to try first).
 * T and the limbs are #undefed at the end.
 */

#define LANES (VEC / 8)
#define LANE_BITS (VEC == 64 ? 8 : VEC == 32 ? 9 : 10)
#define UNROLLED _Pragma("GCC unroll 4")

_Static_assert(LANES << LANE_BITS == KERNEL_ELEMS_MAX, "a lane adds 2^LANE_BITS elements of a block");

typedef double NAME(vector) __attribute__((vector_size(VEC)));
typedef int64_t NAME(bits) __attribute__((vector_size(VEC)));
typedef T NAME(source) __attribute__((vector_size(LANES * sizeof(T))));

static inline double NAME(power)(int exp)
{
	uint64_t bits = (uint64_t)(exp + 1023) << 52;
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

/* The sum over the lanes of v, whose lanes are multiples of 2^exp. */
TARGET static inline int64_t NAME(collect)(const NAME(vector) * v, int exp)
{
	double scale = NAME(power)(-exp);
	int64_t sum = 0;

	for (size_t i = 0; i < LANES; i++)
		sum += (int64_t)((*v)[i] * scale);
	return sum;
}

TARGET static inline __attribute__((always_inline)) bool NAME(cut)(const T *p, size_t n, int exp, const unsigned limbs,
								   const bool squares, struct kernel_slices *ret)
{
	/* The first limb is at most 2^first, the others, being what rounding leaves, at most half of 2^(first + 1). */
	const int first = squares ? (53 - LANE_BITS) / 2 : 53 - LANE_BITS;
	NAME(vector) magic[KERNEL_LIMBS_MAX], sum[KERNEL_LIMBS_MAX], square[KERNEL_LIMBS_MAX][KERNEL_LIMBS_MAX];
	NAME(bits) left = { 0 };
	NAME(source) tail = { 0 };
	int last_exp = exp + 1 - first - (int)(limbs - 1) * (first + 1);

	if (last_exp * (squares ? 2 : 1) < -1000 || exp * (squares ? 2 : 1) > 1000)
		return false;
	ret->limbs = limbs;
	UNROLLED
	for (unsigned k = 0; k < limbs; k++) {
		ret->exp[k] = exp + 1 - first - (int)k * (first + 1);
		magic[k] = 1.5 * NAME(power)(52 + ret->exp[k]) - (NAME(vector)){ 0 };
		sum[k] = (NAME(vector)){ 0 };
		UNROLLED
		for (unsigned j = 0; j <= k; j++)
			square[j][k] = (NAME(vector)){ 0 };
	}
	memcpy(&tail, p + n / LANES * LANES, n % LANES * sizeof(T));
	for (size_t i = 0; i < n; i += LANES) {
		NAME(source) source;
		NAME(vector) rest, limb[KERNEL_LIMBS_MAX];

		if (i + LANES <= n)
			memcpy(&source, p + i, sizeof(source));
		else
			source = tail;
		rest = __builtin_convertvector(source, NAME(vector));
		UNROLLED
		for (unsigned k = 0; k < limbs; k++) {
			limb[k] = (rest + magic[k]) - magic[k];
			rest -= limb[k];
			sum[k] += limb[k];
			if (!squares)
				continue;
			UNROLLED
			for (unsigned j = 0; j <= k; j++)
				square[j][k] += limb[j] * limb[k];
		}
		left |= (NAME(bits))rest;
	}
	for (unsigned i = 0; i < LANES; i++) {
		if ((uint64_t)left[i] << 1)
			return false;
	}
	UNROLLED
	for (unsigned k = 0; k < limbs; k++) {
		ret->sum[k] = NAME(collect)(&sum[k], ret->exp[k]);
		if (!squares)
			continue;
		UNROLLED
		for (unsigned j = 0; j <= k; j++)
			ret->square[j][k] = NAME(collect)(&square[j][k], ret->exp[j] + ret->exp[k]);
	}
	return true;
}

TARGET static bool NAME(slices)(const void *data, size_t n, int exp, bool squares, struct kernel_slices *ret)
{
	if (squares)
		return NAME(cut)(data, n, exp, SQUARE_LIMBS, true, ret) ||
		       NAME(cut)(data, n, exp, SQUARE_LIMBS + 1, true, ret);
	return NAME(cut)(data, n, exp, SUM_LIMBS, false, ret) || NAME(cut)(data, n, exp, SUM_LIMBS + 1, false, ret);
}

#undef T
#undef SUM_LIMBS
#undef SQUARE_LIMBS
#undef LANES
#undef LANE_BITS
#undef UNROLLED
