/* reduce_kernel_slice.h - template: exact sums of float32 or float64 elements and of their squares, by slicing.
 *
 * With M = 1.5 * 2^52 * u, (x + M) - M is x rounded to a multiple of u, and x less that is exact and at most u / 2 (error-free
 * extraction: Rump, Ogita, Oishi, "Accurate floating-point summation", 2008).  Each element is cut at fixed places into limbs:
 * all of the block's limbs k are multiples of one unit.  The bits of x + M less those of M are the limb in units, so the limbs are
 * added as integers.  For squares the limbs are so short that the lanes' sums of products are exact in float64.
 * The last limb must leave nothing over.
 *
 * Parameters: TARGET, NAME(x), T (float, double), VEC (bytes of a vector of float64), SUM_LIMBS, SQUARE_LIMBS (to try first).
 * T and the limbs are #undefed at the end.
 */

#define LANES (VEC / 8)
#define LANE_BITS (VEC == 64 ? 8 : VEC == 32 ? 9 : 10)
#define UNROLLED _Pragma("GCC unroll 4")

_Static_assert(LANES << LANE_BITS == KERNEL_ELEMS_MAX, "a lane adds 2^LANE_BITS elements of a block");

typedef double NAME(vector) __attribute__((vector_size(VEC)));
typedef uint64_t NAME(bits) __attribute__((vector_size(VEC)));
typedef T NAME(source) __attribute__((vector_size(LANES * sizeof(T))));

static inline double NAME(power)(int exp)
{
	uint64_t bits = (uint64_t)(exp + 1023) << 52;
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

/* The sum over the lanes of v, whose lanes are multiples of 2^exp. */
TARGET static inline int64_t NAME(square_sum)(const NAME(vector) * v, int exp)
{
	double scale = NAME(power)(-exp);
	int64_t sum = 0;

	for (size_t i = 0; i < LANES; i++)
		sum += (int64_t)((*v)[i] * scale);
	return sum;
}

/* The sum over the lanes of v, each the sum of `rounds` numbers' bits, less the magic number in each. */
TARGET static inline int64_t NAME(limb_sum)(const NAME(bits) * v, uint64_t rounds, double magic)
{
	uint64_t sum = 0, bits;

	memcpy(&bits, &magic, sizeof(bits));
	for (size_t i = 0; i < LANES; i++)
		sum += (uint64_t)(*v)[i] - rounds * bits;
	return (int64_t)sum;
}

TARGET static inline __attribute__((always_inline)) bool NAME(cut)(const T *p, size_t n, int exp, const unsigned limbs,
								   const bool squares, struct kernel_slices *ret)
{
	/* The first limb is at most 2^first units, the others, being what rounding leaves, at most half of 2^(first + 1). */
	const int first = squares ? (53 - LANE_BITS) / 2 : 51;
	NAME(vector) magic[KERNEL_LIMBS_MAX], square[KERNEL_LIMBS_MAX][KERNEL_LIMBS_MAX];
	NAME(bits) sum[KERNEL_LIMBS_MAX], left = { 0 };
	NAME(source) tail = { 0 };
	int last_exp = exp + 1 - first - (int)(limbs - 1) * (first + 1);

	if (last_exp * (squares ? 2 : 1) < -1000 || exp * (squares ? 2 : 1) > 900)
		return false;
	ret->limbs = limbs;
	UNROLLED
	for (unsigned k = 0; k < limbs; k++) {
		ret->exp[k] = exp + 1 - first - (int)k * (first + 1);
		magic[k] = 1.5 * NAME(power)(52 + ret->exp[k]) - (NAME(vector)){ 0 };
		sum[k] = (NAME(bits)){ 0 };
		UNROLLED
		for (unsigned j = 0; j <= k; j++)
			square[j][k] = (NAME(vector)){ 0 };
	}
	memcpy(&tail, p + n / LANES * LANES, n % LANES * sizeof(T));
	for (size_t i = 0; i < n; i += LANES) {
		NAME(source) source;
		NAME(vector) rest, shifted, limb[KERNEL_LIMBS_MAX];

		/* The next block, which is read while this one is computed on. */
		__builtin_prefetch((const void *)((uintptr_t)(p + i) + KERNEL_ELEMS_MAX * sizeof(T)));
		if (i + LANES <= n)
			memcpy(&source, p + i, sizeof(source));
		else
			source = tail;
		rest = __builtin_convertvector(source, NAME(vector));
		UNROLLED
		for (unsigned k = 0; k < limbs; k++) {
			shifted = rest + magic[k];
			sum[k] += (NAME(bits))shifted;
			limb[k] = shifted - magic[k];
			if (k + 1 < limbs)
				rest -= limb[k];
			else
				left |= (NAME(bits))rest ^ (NAME(bits))limb[k];
			if (!squares)
				continue;
			UNROLLED
			for (unsigned j = 0; j <= k; j++)
				square[j][k] += limb[j] * limb[k];
		}
	}
	for (unsigned i = 0; i < LANES; i++) {
		if ((uint64_t)left[i] << 1)
			return false;
	}
	UNROLLED
	for (unsigned k = 0; k < limbs; k++) {
		ret->sum[k] = NAME(limb_sum)(&sum[k], (n + LANES - 1) / LANES, magic[k][0]);
		if (!squares)
			continue;
		UNROLLED
		for (unsigned j = 0; j <= k; j++)
			ret->square[j][k] = NAME(square_sum)(&square[j][k], ret->exp[j] + ret->exp[k]);
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
