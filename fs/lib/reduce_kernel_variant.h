/* reduce_kernel_variant.h - template: every kernel for one instruction set, and their table.
 *
 * Parameters, all #undefed at the end: VARIANT (an identifier, the table is kernels_table_VARIANT),
 * VARIANT_NAME (a string), TARGET (function attribute), VEC (bytes of a vector), RUNS_HERE (an expression).
 */

#define NAME_3(x, type, variant) x##_##type##_##variant
#define NAME_2(x, type, variant) NAME_3(x, type, variant)
#define NAME(x) NAME_2(x, TYPE, VARIANT)

#define TYPE bool
#define T uint8_t
#define BITS 8
#define SIGNED 0
#define LOAD(x) ((x) != 0)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE int8
#define T int8_t
#define BITS 8
#define SIGNED 1
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE int16
#define T int16_t
#define BITS 16
#define SIGNED 1
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE int32
#define T int32_t
#define BITS 32
#define SIGNED 1
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE int64
#define T int64_t
#define BITS 64
#define SIGNED 1
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE uint8
#define T uint8_t
#define BITS 8
#define SIGNED 0
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE uint16
#define T uint16_t
#define BITS 16
#define SIGNED 0
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE uint32
#define T uint32_t
#define BITS 32
#define SIGNED 0
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE
#define TYPE uint64
#define T uint64_t
#define BITS 64
#define SIGNED 0
#define LOAD(x) (x)
#include "reduce_kernel_int.h"
#undef TYPE

#define TYPE float16
#define T int16_t
#define BITS 16
#define INF 0x7c00
#include "reduce_kernel_float.h"

/* A half is mant * 2^(max(e, 1) - 25), so times 2^24 it is an integer below 2^40. */
TARGET static void NAME(fixed)(const void *data, size_t n, int64_t *ret)
{
	const uint16_t *p = data;

	for (size_t i = 0; i < n; i++) {
		uint32_t e = (p[i] >> 10) & 31;
		int64_t v = (int64_t)((uint64_t)((p[i] & 1023) | (e ? 1024 : 0)) << (e ? e - 1 : 0));

		ret[i] = p[i] >> 15 ? -v : v;
	}
}
#undef TYPE

#define TYPE float32
#define T int32_t
#define BITS 32
#define INF 0x7f800000
#include "reduce_kernel_float.h"
#define T float
#define BITS_OF_T uint32_t
#include "reduce_kernel_slice.h"
#undef TYPE

#define TYPE float64
#define T int64_t
#define BITS 64
#define INF INT64_C(0x7ff0000000000000)
#include "reduce_kernel_float.h"
#define T double
#define BITS_OF_T uint64_t
#include "reduce_kernel_slice.h"

TARGET static bool NAME(slices)(const void *data, size_t n, int exp, bool more, bool squares, struct kernel_slices *ret)
{
	if (squares)
		return more ? NAME(cut)(data, n, exp, 4, true, ret) : NAME(cut)(data, n, exp, 3, true, ret);
	return more ? NAME(cut)(data, n, exp, 3, false, ret) : NAME(cut)(data, n, exp, 2, false, ret);
}

#undef TYPE
#define TYPE float32

TARGET static bool NAME(cut_wide)(const float *p, size_t n, int exp, bool more, bool squares, struct kernel_slices *ret)
{
	double wide[KERNEL_ELEMS_MAX];

	for (size_t i = 0; i < n; i++)
		wide[i] = (double)p[i];
	if (squares)
		return more ? NAME_2(cut, float64, VARIANT)(wide, n, exp, 3, true, ret)
			    : NAME_2(cut, float64, VARIANT)(wide, n, exp, 2, true, ret);
	return NAME_2(cut, float64, VARIANT)(wide, n, exp, 2, false, ret);
}

TARGET static bool NAME(slices)(const void *data, size_t n, int exp, bool more, bool squares, struct kernel_slices *ret)
{
	if (squares || more)
		return NAME(cut_wide)(data, n, exp, more, squares, ret);
	return NAME(cut)(data, n, exp, 2, false, ret);
}
#undef TYPE

#define VARIANT_OF(x, type) NAME_2(x, type, VARIANT)
#define BASICS(type) .range = VARIANT_OF(range, type), .truth = VARIANT_OF(truth, type), .find = VARIANT_OF(find, type)
#define FLOAT(type) BASICS(type), .top = VARIANT_OF(top, type), .nans = VARIANT_OF(nans, type)
#define INTEGER(type)                                                                                                  \
	{                                                                                                              \
		BASICS(type), .sums = VARIANT_OF(sums, type)                                                           \
	}

static bool VARIANT_OF(runs, here)(void)
{
	return RUNS_HERE;
}

static const struct kernels VARIANT_OF(kernels, table) = {
	.name = VARIANT_NAME,
	.runs_here = VARIANT_OF(runs, here),
	.of = {
		[DTYPE_BOOL] = INTEGER(bool),
		[DTYPE_INT8] = INTEGER(int8),
		[DTYPE_INT16] = INTEGER(int16),
		[DTYPE_INT32] = INTEGER(int32),
		[DTYPE_INT64] = INTEGER(int64),
		[DTYPE_UINT8] = INTEGER(uint8),
		[DTYPE_UINT16] = INTEGER(uint16),
		[DTYPE_UINT32] = INTEGER(uint32),
		[DTYPE_UINT64] = INTEGER(uint64),
		[DTYPE_FLOAT16] = { FLOAT(float16), .fixed = VARIANT_OF(fixed, float16) },
		[DTYPE_FLOAT32] = { FLOAT(float32), .slices = VARIANT_OF(slices, float32) },
		[DTYPE_FLOAT64] = { FLOAT(float64), .slices = VARIANT_OF(slices, float64) },
	},
};

#undef FLOAT
#undef INTEGER
#undef BASICS
#undef VARIANT_OF
#undef NAME
#undef NAME_2
#undef NAME_3
#undef VARIANT
#undef VARIANT_NAME
#undef TARGET
#undef VEC
#undef RUNS_HERE
