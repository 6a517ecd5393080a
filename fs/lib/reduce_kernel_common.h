/* reduce_kernel_common.h - template: what all element types share.
 *
 * Parameters: TARGET (function attribute), NAME(x) (decorates a name), T (element, an integer type, also for
 * floats), ORDER(x) (a T that orders as x does), KEY(o) (its int64), MAGNITUDE(x)
 * (zero if and only if x is), SAME(o, key) (o is the order of an element equal to key's).  The includer #undefs
 * them.
 */

TARGET static void NAME(range)(const void *data, size_t n, int64_t ret_keys[2])
{
	const T *p = data;
	T least = ORDER(p[0]), greatest = least;

	for (size_t i = 0; i < n; i++) {
		T o = ORDER(p[i]);

		least = o < least ? o : least;
		greatest = o > greatest ? o : greatest;
	}
	ret_keys[0] = KEY(least);
	ret_keys[1] = KEY(greatest);
}

TARGET static void NAME(truth)(const void *data, size_t n, bool *ret_any, bool *ret_all)
{
	const T *p = data;
	T any = 0, zero = 0;

	for (size_t i = 0; i < n; i++) {
		T magnitude = (T)MAGNITUDE(p[i]);

		any |= magnitude;
		zero |= magnitude == 0;
	}
	*ret_any = any != 0;
	*ret_all = !zero;
}

TARGET static size_t NAME(find)(const void *data, size_t n, int64_t key)
{
	const T *p = data;

	for (size_t i = 0; i < n; i++) {
		int64_t k = KEY(ORDER(p[i]));

		if (SAME(k, key))
			return i;
	}
	return n;
}
