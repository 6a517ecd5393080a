/* test_exact.c - float sums, means, variances and deviations against integer arithmetic; order and grouping do not
 * matter. */
#include "reduce_kernels.h"
#include "reduce_unit.h"

#include <float.h>
#include <math.h>

static const char *const moments[] = { "sum", "mean", "var", "std" };

static exact_i128 magnitude(exact_i128 v)
{
	return v < 0 ? -v : v;
}

static uint64_t bits_of(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits;
}

static bool same_bits(double a, double b)
{
	return bits_of(a) == bits_of(b);
}

/* The sums of multiples of 2^-30 fit in 128 bits, and the compiler rounds those to nearest even. */
static void test_sum_against_integers(void)
{
	uint64_t random = 1;
	double data[3000];

	for (int round = 0; round < 300; round++) {
		size_t n = unit_random(&random) % ARRAY_LEN(data);
		int bits = 1 + (int)(unit_random(&random) % 53);
		exact_i128 sum = 0;

		for (size_t i = 0; i < n; i++) {
			int64_t v =
				(int64_t)(unit_random(&random) >> (64 - bits)) * (unit_random(&random) % 2 ? 1 : -1);
			int shift = (int)(unit_random(&random) % 50);

			data[i] = ldexp((double)v, shift - 30);
			sum += v * ((exact_i128)1 << shift);
		}
		CHECK(reduce_doubles("sum", data, n, 0) == ldexp((double)sum, -30));
	}
}

/* Whether v is a float64 nearest to sum / n; v * 2^20 and its half units are whole. */
static bool nearest_ratio(double v, exact_i128 sum, exact_i128 n)
{
	exact_i128 error = magnitude((exact_i128)ldexp(v, 20) * n - sum * (1 << 20));
	exact_i128 half = (exact_i128)ldexp(nextafter(fabs(v), INFINITY) - fabs(v), 19) * n;

	return error <= half;
}

static void test_mean_against_integers(void)
{
	uint64_t random = 2;
	double data[999];

	for (int round = 0; round < 300; round++) {
		size_t n = 1 + unit_random(&random) % ARRAY_LEN(data);
		exact_i128 sum = 0;

		for (size_t i = 0; i < n; i++) {
			int64_t v = (int64_t)(unit_random(&random) >> 24) + (INT64_C(1) << 39);

			data[i] = (double)v;
			sum += v;
		}
		CHECK(nearest_ratio(reduce_doubles("mean", data, n, 0), sum, (exact_i128)n));
	}
}

/* |v - x| <= half a unit of v, for x = (p / q)^(1/root): v - half <= x <= v + half, raised to the power, in whole
 * numbers. */
static bool nearest_root(double v, int root, exact_i128 p, exact_i128 q)
{
	int scale = 1 - ilogb(nextafter(v, INFINITY) - v);
	exact_i128 low = (exact_i128)ldexp(v, scale) - 1, high = low + 2;

	if (root == 1)
		return low * q <= p << scale && p << scale <= high * q;
	return low * low * q <= p << (2 * scale) && p << (2 * scale) <= high * high * q;
}

static void test_spread_against_integers(void)
{
	uint64_t random = 3;
	double data[50];

	for (int round = 0; round < 1000; round++) {
		size_t n = 2 + unit_random(&random) % (ARRAY_LEN(data) - 2);
		exact_i128 sum = 0, squares = 0, p, q;

		for (size_t i = 0; i < n; i++) {
			int64_t v = (int64_t)(unit_random(&random) % 4096) + (i == 0 ? 4096 : 0);

			data[i] = (double)v;
			sum += v;
			squares += v * v;
		}
		p = (exact_i128)n * squares - sum * sum;
		q = (exact_i128)n * ((exact_i128)n - 1);
		CHECK(nearest_root(reduce_doubles("var", data, n, 1), 1, p, q));
		CHECK(nearest_root(reduce_doubles("std", data, n, 1), 2, p, q));
	}
}

static void test_hard_sums(void)
{
	const double cancel[] = { 1e308, 1, -1e308 }, tie[] = { 0x1p53, 1 }, tie_up[] = { 0x1p53, 1, 0x1p-1074 };
	const double odd_tie[] = { 0x1p53 + 2, 1 }, tiny[] = { 0x1p-1074, 0x1p-1074, 0x1p-1074 };
	const double wide[] = { DBL_MAX, 0x1p-1074, -DBL_MAX }, overflow[] = { DBL_MAX, DBL_MAX };
	const double back[] = { DBL_MAX, DBL_MAX, -DBL_MAX }, edge[] = { DBL_MAX, 0x1p970 };
	const double below_edge[] = { DBL_MAX, 0x1p970, -0x1p-1074 }, zeros[] = { -0.0, -0.0, -0.0 };

	CHECK(reduce_doubles("sum", cancel, 3, 0) == 1);
	CHECK(reduce_doubles("sum", tie, 2, 0) == 0x1p53);
	CHECK(reduce_doubles("sum", tie_up, 3, 0) == 0x1p53 + 2);
	CHECK(reduce_doubles("sum", odd_tie, 2, 0) == 0x1p53 + 4);
	CHECK(reduce_doubles("sum", tiny, 3, 0) == 0x3p-1074);
	CHECK(reduce_doubles("mean", tiny, 3, 0) == 0x1p-1074);
	CHECK(reduce_doubles("sum", wide, 3, 0) == 0x1p-1074);
	CHECK(reduce_doubles("sum", overflow, 2, 0) == INFINITY);
	CHECK(reduce_doubles("mean", overflow, 2, 0) == DBL_MAX);
	CHECK(reduce_doubles("sum", back, 3, 0) == DBL_MAX);
	CHECK(reduce_doubles("sum", edge, 2, 0) == INFINITY);
	CHECK(reduce_doubles("sum", below_edge, 3, 0) == DBL_MAX);
	CHECK(same_bits(reduce_doubles("sum", zeros, 3, 0), 0.0));
	CHECK(reduce_doubles("var", back, 3, 0) == INFINITY);
	CHECK(reduce_doubles("std", overflow, 2, 0) == 0);
	CHECK(reduce_doubles("std", (const double[]){ DBL_MAX, -DBL_MAX }, 2, 0) == DBL_MAX);
	CHECK(reduce_doubles("std", (const double[]){ 0x1p-1074, -0x1p-1074 }, 2, 0) == 0x1p-1074);
	CHECK(reduce_doubles("var", (const double[]){ 0x1p-537, -0x1p-537 }, 2, 0) == 0x1p-1074);
	CHECK(reduce_doubles("var", (const double[]){ 0x1p-538, -0x1p-538 }, 2, 0) == 0);
}

static void test_specials(void)
{
	const double infs[] = { INFINITY, -INFINITY, 1 }, one_inf[] = { 1, -INFINITY },
		     a_nan[] = { 1, -(double)NAN, INFINITY };

	CHECK(isnan(reduce_doubles("sum", infs, 3, 0)));
	CHECK(reduce_doubles("sum", one_inf, 2, 0) == -INFINITY);
	CHECK(reduce_doubles("mean", one_inf, 2, 0) == -INFINITY);
	CHECK(isnan(reduce_doubles("var", one_inf, 2, 0)));
	CHECK(same_bits(reduce_doubles("sum", a_nan, 3, 0), NAN));
	CHECK(same_bits(reduce_doubles("sum", NULL, 0, 0), 0.0));
	CHECK(isnan(reduce_doubles("mean", NULL, 0, 0)));
	CHECK(isnan(reduce_doubles("std", NULL, 0, 0)));
	CHECK(isnan(reduce_doubles("var", (const double[]){ 3, 3 }, 2, 2)));
	CHECK(reduce_doubles("var", (const double[]){ 3, 4 }, 2, 5) == INFINITY);
	CHECK(reduce_doubles("var", (const double[]){ 3, 4 }, 2, -2) == 0.125);
}

/* A float32 counter stops at 2^24; an exact sum does not. */
static void test_many_ones(void)
{
	struct reduce_spec spec = spec_of("sum", DTYPE_FLOAT32, 0);
	union dtype_value one = { 0 };
	struct reduce_state *a, *b;
	static float ones[100000];
	float f = 1;
	char text[512];

	for (size_t i = 0; i < ARRAY_LEN(ones); i++)
		ones[i] = f;
	memcpy(one.bytes, &f, sizeof(f));
	a = state_of(&spec, ones, 0, 0);
	for (size_t i = 0; i < 1000; i++)
		reduce_update(&spec, a, ones, ARRAY_LEN(ones), 0);
	b = state_of(&spec, ones, 0, 0);
	reduce_repeat(&spec, b, &one, 100000000, 0);
	CHECK(same_encoding(&spec, a, b));
	reduce_state_free(b);
	text_of(&spec, a, text);
	CHECK(!strcmp(text, "100000000.0"));
}

enum shape { SHAPE_NORMAL, SHAPE_WIDE, SHAPE_SMALL, SHAPE_SUBNORMAL, SHAPE_ANY, SHAPE_END };

static double random_double(uint64_t *random, enum shape shape)
{
	uint64_t bits = unit_random(random);
	double v;

	switch (shape) {
	case SHAPE_NORMAL:
		return ldexp((double)(int64_t)bits, -60 - (int)(unit_random(random) % 12));
	case SHAPE_WIDE:
		return ldexp((double)(int64_t)bits, (int)(unit_random(random) % 120) - 60);
	case SHAPE_SMALL:
		return (double)(int64_t)(bits % 2001) - 1000;
	case SHAPE_SUBNORMAL:
		return ldexp((double)(int64_t)bits, -1074 - 40 + (int)(unit_random(random) % 60));
	default:
		memcpy(&v, &bits, sizeof(v));
		return v;
	}
}

static void fill(enum dtype dtype, void *data, size_t n, enum shape shape, uint64_t *random)
{
	for (size_t i = 0; i < n; i++) {
		double v = random_double(random, shape);

		if (shape == SHAPE_ANY) {
			uint64_t bits = unit_random(random);

			memcpy((uint8_t *)data + i * dtype_bytes(dtype), &bits, dtype_bytes(dtype));
		} else if (dtype == DTYPE_FLOAT32) {
			((float *)data)[i] = (float)(shape == SHAPE_SUBNORMAL ? v * 0x1p900 : v);
		} else {
			((double *)data)[i] = v;
		}
	}
}

/* Random partitions, each reduced by itself (unaligned, some in the other byte order), merged in a random order. */
static struct reduce_state *by_parts(const struct reduce_spec *spec, const uint8_t *data, size_t n, uint64_t *random)
{
	size_t bytes = dtype_bytes(spec->dtype);
	uint8_t *copy = malloc((n + 1) * bytes + 8);
	struct reduce_state *ret = state_of(spec, data, 0, 0);

	for (size_t at = 0, len; at < n; at += len) {
		struct reduce_spec part_spec = *spec;
		struct reduce_state *part;

		len = 1 + unit_random(random) % (n - at);
		part_spec.swap = unit_random(random) % 2;
		memcpy(copy + at % 8, data + at * bytes, len * bytes);
		if (part_spec.swap)
			dtype_swap(spec->dtype, copy + at % 8, copy + at % 8, len);
		part = state_of(&part_spec, copy + at % 8, len, at);
		if (unit_random(random) % 2) {
			reduce_merge(spec, ret, part);
			reduce_state_free(part);
		} else {
			reduce_merge(spec, part, ret);
			reduce_state_free(ret);
			ret = part;
		}
	}
	free(copy);
	return ret;
}

static void test_order_and_variants(enum dtype dtype, enum shape shape)
{
	static double storage[5000];
	uint64_t random = 77 + (uint64_t)shape;

	fill(dtype, storage, ARRAY_LEN(storage), shape, &random);
	for (size_t k = 0; k < ARRAY_LEN(moments); k++) {
		struct reduce_spec spec = spec_of(moments[k], dtype, 0);
		struct reduce_state *one_by_one = state_of(&spec, storage, 0, 0);

		for (size_t i = 0; i < ARRAY_LEN(storage); i++)
			reduce_update(&spec, one_by_one, (uint8_t *)storage + i * dtype_bytes(dtype), 1, i);
		for (size_t v = 0; kernel_variants[v]; v++) {
			struct reduce_state *whole, *parts;

			if (!kernel_variants[v]->runs_here())
				continue;
			kernels_force(kernel_variants[v]);
			whole = state_of(&spec, storage, ARRAY_LEN(storage), 0);
			parts = by_parts(&spec, (const uint8_t *)storage, ARRAY_LEN(storage), &random);
			CHECK(same_encoding(&spec, whole, one_by_one));
			CHECK(same_encoding(&spec, parts, one_by_one));
			reduce_state_free(whole);
			reduce_state_free(parts);
		}
		kernels_force(NULL);
		reduce_state_free(one_by_one);
	}
}

/* A block may be much larger or smaller than the one before it, whose exponent is the guess. */
static void test_changing_scales(void)
{
	struct reduce_spec spec = spec_of("var", DTYPE_FLOAT64, 0);
	struct reduce_state *a, *b;
	static double data[12 * KERNEL_ELEMS_MAX];
	static const int scales[] = { 0, 3, -3, 40, -40, 300, -300, 0, 1000, -1070, 500, 1 };
	uint64_t random = 5;

	for (size_t i = 0; i < ARRAY_LEN(data); i++)
		data[i] = ldexp((double)(unit_random(&random) >> 11), scales[i / KERNEL_ELEMS_MAX] - 53);
	a = state_of(&spec, data, ARRAY_LEN(data), 0);
	b = state_of(&spec, data, 0, 0);
	for (size_t i = 0; i < ARRAY_LEN(data); i++)
		reduce_update(&spec, b, data + i, 1, i);
	CHECK(same_encoding(&spec, a, b));
	reduce_state_free(a);
	reduce_state_free(b);
}

int main(void)
{
	test_sum_against_integers();
	test_mean_against_integers();
	test_spread_against_integers();
	test_hard_sums();
	test_specials();
	test_many_ones();
	for (int shape = 0; shape < SHAPE_END; shape++) {
		test_order_and_variants(DTYPE_FLOAT64, (enum shape)shape);
		test_order_and_variants(DTYPE_FLOAT32, (enum shape)shape);
	}
	test_changing_scales();
	return unit_result();
}
