/* reduce_kernel_int.h - template: the kernels of one integer type.
 *
 * Parameters: TARGET, NAME(x), T, BITS (8, 16, 32, 64), SIGNED (0 or 1), LOAD(x) (the element's value: bool takes
 * any byte). T, BITS, SIGNED and LOAD are #undefed at the end, for the next type.
 */

#define ORDER(x) ((T)(x))
#define MAGNITUDE(x) (x)
#define SAME(o, key) ((o) == (key))
#if BITS == 64 && !SIGNED
#define KEY(o) ((int64_t)((o) ^ (UINT64_C(1) << 63)))
#else
#define KEY(o) ((int64_t)LOAD(o))
#endif
#include "reduce_kernel_common.h"

#if BITS == 64

/* Halves of 32 bits, so that the lanes do not overflow; signed elements are moved up by 2^63 and the sum down
 * again. */
TARGET static exact_i128 NAME(sum)(const T *p, size_t n)
{
	uint64_t low = 0, high = 0, bias = SIGNED ? UINT64_C(1) << 63 : 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t v = (uint64_t)p[i] ^ bias;

		low += v & UINT32_MAX;
		high += v >> 32;
	}
	return (exact_i128)low + ((exact_i128)high << 32) - (exact_i128)n * bias;
}

TARGET static void NAME(squares)(const T *p, size_t n, exact_u128 ret[2])
{
	exact_u128 low = 0, high = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t v = SIGNED && (int64_t)p[i] < 0 ? -(uint64_t)p[i] : (uint64_t)p[i];
		exact_u128 square = (exact_u128)v * v;

		low += (uint64_t)square;
		high += (uint64_t)(square >> 64);
	}
	ret[0] = low;
	ret[1] = high;
}

#elif BITS == 32

TARGET static exact_i128 NAME(sum)(const T *p, size_t n)
{
	int64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += p[i];
	return sum;
}

TARGET static void NAME(squares)(const T *p, size_t n, exact_u128 ret[2])
{
	uint64_t low = 0, high = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t v = SIGNED && (int32_t)p[i] < 0 ? -(uint32_t)p[i] : (uint32_t)p[i];
		uint64_t square = (uint64_t)v * v;

		low += square & UINT32_MAX;
		high += square >> 32;
	}
	ret[0] = low + ((exact_u128)high << 32);
	ret[1] = 0;
}

#else

_Static_assert(KERNEL_ELEMS_MAX <= 1 << 15, "sums of 16-bit elements and of 8-bit squares must fit in 32 bits");

TARGET static exact_i128 NAME(sum)(const T *p, size_t n)
{
	int32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (int32_t)LOAD(p[i]);
	return sum;
}

TARGET static void NAME(squares)(const T *p, size_t n, exact_u128 ret[2])
{
#if BITS == 8
	uint32_t sum = 0;
#else
	uint64_t sum = 0;
#endif

	for (size_t i = 0; i < n; i++) {
		int32_t v = (int32_t)LOAD(p[i]);

		sum += (uint32_t)v * (uint32_t)v;
	}
	ret[0] = sum;
	ret[1] = 0;
}

#endif

TARGET static void NAME(sums)(const void *data, size_t n, bool squares, struct kernel_sums *ret)
{
	ret->sum = NAME(sum)(data, n);
	if (squares)
		NAME(squares)(data, n, ret->squares);
}

#undef ORDER
#undef KEY
#undef MAGNITUDE
#undef SAME
#undef T
#undef BITS
#undef SIGNED
#undef LOAD
