/* reduce_kernel_float.h - template: the kernels of one float type, except its sums.  The elements are seen as
 * signed integers.
 *
 * Parameters: TARGET, NAME(x), T (intN_t), BITS, INF (the bits of +inf).  T, BITS and INF are #undefed at the end.
 */

/* Negative floats have the order of their magnitudes turned round. */
#define ORDER(x) ((T)((x) ^ (((x) >> (BITS - 1)) & (T)(((uint64_t)1 << (BITS - 1)) - 1))))
#define KEY(o) ((int64_t)(o))
#define MAGNITUDE(x) ((x) & (T)(((uint64_t)1 << (BITS - 1)) - 1))
#define SAME(o, key) ((o) == (key) || ((key) == 0 && (o) == -1))
#include "reduce_kernel_common.h"

TARGET static int64_t NAME(top)(const void *data, size_t n)
{
	const T *p = data;
	T top = 0;

	for (size_t i = 0; i < n; i++) {
		T magnitude = MAGNITUDE(p[i]);

		top = magnitude > top ? magnitude : top;
	}
	return top;
}

TARGET static size_t NAME(nans)(const void *data, size_t n, size_t *ret_first)
{
	const T *p = data;
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		if (MAGNITUDE(p[i]) > INF && count++ == 0)
			*ret_first = i;
	}
	return count;
}

#undef ORDER
#undef KEY
#undef MAGNITUDE
#undef SAME
#undef T
#undef BITS
#undef INF
