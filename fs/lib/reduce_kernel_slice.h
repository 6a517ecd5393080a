/* reduce_kernel_slice.h - template: exact sums of float32 or float64 elements and of their squares, by slicing.
 *
 * With M = 1.5 * 2^52 * u, (x + M) - M is x rounded to a multiple of u, and x less that is exact and at most u / 2
 * (error-free extraction: Rump, Ogita, Oishi, "Accurate floating-point summation", 2008).  Each element is cut at
 * fixed places into limbs: all of the block's limbs k are multiples of one unit.  The bits of x + M less those of
 * M are the limb in units, so the limbs are added as integers.  For squares the limbs are so short that FOLD
 * products of limbs add up exactly in float64, whose sums are then added as integers in the same way.  One pass
 * over the data: that an element was too large for its first limb, or that the last limb left something over,
 * shows in bits that are or-ed together and looked at once at the end.
 *
 * Parameters: TARGET, NAME(x), T (float, for sums only, or double), BITS_OF_T (uint32_t, uint64_t), VEC (bytes of
 * a vector). T and BITS_OF_T are #undefed at the end.
 */

#define LANES (VEC / sizeof(T))
#define MANTISSA (sizeof(T) == 8 ? 52 : 23)
#define BIAS (sizeof(T) == 8 ? 1023 : 127)
#define FOLD 32
/* Bits of a first limb: 51 keep x + M in M's binade; 21 keep the sum of a lane below 2^31. */
#define FIRST_SUM (sizeof(T) == 8 ? 51 : 21)
#define FIRST_SQUARE 23 /* FOLD * 2^(2 * 23) = 2^51 */
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 4")
#endif

_Static_assert(((uint64_t)KERNEL_ELEMS_MAX / LANES) << FIRST_SUM <= UINT64_C(1) << (8 * sizeof(T) - 2),
	       "a lane's sum of limbs must not overflow");

typedef T NAME(vector) __attribute__((vector_size(VEC)));
typedef BITS_OF_T NAME(bits) __attribute__((vector_size(VEC)));

/* 1.5 * 2^MANTISSA * 2^exp, as bits. */
static inline BITS_OF_T NAME(magic_bits)(int exp)
{
	return (BITS_OF_T)(exp + MANTISSA + BIAS) << MANTISSA | (BITS_OF_T)1 << (MANTISSA - 1);
}

static inline T NAME(magic)(int exp)
{
	BITS_OF_T bits = NAME(magic_bits)(exp);
	T v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

/* The sum over the lanes of v, each the sum of `rounds` numbers' bits, less the magic number's in each. */
TARGET static inline int64_t NAME(collect)(const NAME(bits) * v, uint64_t rounds, int exp)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < LANES; i++) {
		BITS_OF_T lane = (*v)[i] - (BITS_OF_T)rounds * NAME(magic_bits)(exp);

		sum += sizeof(T) == 8 ? (uint64_t)lane : (uint64_t)(int32_t)lane;
	}
	return (int64_t)sum;
}

TARGET static inline bool NAME(none)(const NAME(bits) * v, int shift_right, int shift_left)
{
	BITS_OF_T any = 0;

	for (size_t i = 0; i < LANES; i++)
		any |= (*v)[i];
	return !(BITS_OF_T)(any >> shift_right << shift_left);
}

TARGET static inline __attribute__((always_inline)) bool NAME(cut)(const T *p, size_t n, int exp, const unsigned limbs,
								   const bool squares, struct kernel_slices *ret)
{
	/* A first limb is at most 2^first units; the others, being what rounding leaves, at most half of 2^(first
	 * + 1). */
	const int first = squares ? FIRST_SQUARE : FIRST_SUM, top_exp = exp + 1 - first, step = first + 1;
	const NAME(vector) zero = { 0 };
	NAME(vector) magic[KERNEL_LIMBS_MAX], square[KERNEL_LIMBS_MAX][KERNEL_LIMBS_MAX];
	NAME(bits) sum[KERNEL_LIMBS_MAX], square_sum[KERNEL_LIMBS_MAX][KERNEL_LIMBS_MAX];
	NAME(bits) above = { 0 }, left = { 0 }, lowest;
	NAME(vector) tail = { 0 };
	uint64_t rounds = (n + LANES - 1) / LANES, folds = (rounds + FOLD - 1) / FOLD;

	if ((top_exp - (int)(limbs - 1) * step) * (squares ? 2 : 1) < 23 - BIAS || exp * (squares ? 2 : 1) > BIAS - 7)
		return false;
	UNROLLED
	for (unsigned k = 0; k < limbs; k++) {
		magic[k] = NAME(magic)(top_exp - (int)k * step) - zero;
		sum[k] = (NAME(bits))zero;
		UNROLLED
		for (unsigned j = 0; j <= k; j++)
			square_sum[j][k] = (NAME(bits))zero;
	}
	lowest = (NAME(bits))magic[0] - ((BITS_OF_T)1 << first);
	memcpy(&tail, p + n / LANES * LANES, n % LANES * sizeof(T));
	for (size_t i = 0; i < n;) {
		size_t end = squares ? MIN(i + LANES * FOLD, n) : n;

		UNROLLED
		for (unsigned k = 0; squares && k < limbs; k++) {
			UNROLLED
			for (unsigned j = 0; j <= k; j++)
				square[j][k] = zero;
		}
		for (; i < end; i += LANES) {
			NAME(vector) rest, shifted, limb[KERNEL_LIMBS_MAX];

			if (i + LANES <= n)
				memcpy(&rest, p + i, sizeof(rest));
			else
				rest = tail;
			above |= (NAME(bits))(rest + magic[0]) - lowest;
			UNROLLED
			for (unsigned k = 0; k < limbs; k++) {
				shifted = rest + magic[k];
				sum[k] += (NAME(bits))shifted;
				limb[k] = shifted - magic[k];
				rest -= limb[k];
				UNROLLED
				for (unsigned j = 0; squares && j <= k; j++)
					square[j][k] += limb[j] * limb[k];
			}
			left |= (NAME(bits))rest;
		}
		UNROLLED
		for (unsigned k = 0; squares && k < limbs; k++) {
			UNROLLED
			for (unsigned j = 0; j <= k; j++)
				square_sum[j][k] +=
					(NAME(bits))(square[j][k] + NAME(magic)(2 * top_exp - (int)(j + k) * step));
		}
	}
	if (!NAME(none)(&above, first + 1, 0) || !NAME(none)(&left, 0, 1))
		return false;
	ret->limbs = limbs;
	UNROLLED
	for (unsigned k = 0; k < limbs; k++) {
		ret->exp[k] = top_exp - (int)k * step;
		ret->sum[k] = NAME(collect)(&sum[k], rounds, ret->exp[k]);
		UNROLLED
		for (unsigned j = 0; squares && j <= k; j++)
			ret->square[j][k] = NAME(collect)(&square_sum[j][k], folds, ret->exp[j] + ret->exp[k]);
	}
	return true;
}

#undef FOLD
#undef FIRST_SUM
#undef FIRST_SQUARE
#undef MANTISSA
#undef BIAS
#undef T
#undef BITS_OF_T
#undef LANES
#undef UNROLLED
