/* test_reduce.c - every operation over every dtype: values, texts, nothing at all, repeats, and the wire form. */
#include "reduce_kernels.h"
#include "reduce_unit.h"

#include <math.h>

#define ELEMS 5000

static void check_text(const char *op, enum dtype dtype, const void *data, size_t n, int64_t ddof, const char *expected)
{
	struct reduce_spec spec = spec_of(op, dtype, ddof);
	char text[512];

	text_of(&spec, state_of(&spec, data, n, 0), text);
	if (!CHECK(!strcmp(text, expected)))
		fprintf(stderr, "%s of %s: got %s, want %s\n", op, dtype_zarr_name(dtype), text, expected);
}

static void test_table(void)
{
	const char *before = "";

	for (size_t i = 0; reduce_op_at(i); i++) {
		const struct reduce_op *op = reduce_op_at(i);
		bool spread = strstr("std var describe", reduce_op_name(op)) != NULL;

		CHECK(strcmp(before, reduce_op_name(op)) < 0);
		CHECK(reduce_op_find(reduce_op_name(op)) == op);
		CHECK(reduce_op_takes(op, "ddof") == spread && !reduce_op_takes(op, "axis"));
		CHECK(reduce_op_is_json(op) == !strcmp(reduce_op_name(op), "describe"));
		CHECK(reduce_op_defined(op, DTYPE_BOOL) && !reduce_op_defined(op, DTYPE_END));
		before = reduce_op_name(op);
	}
	CHECK(!reduce_op_find("median") && !reduce_op_find(""));
}

static void test_integers(void)
{
	const int8_t bytes[] = { -128, 127, 127, -3 };
	const uint64_t big[] = { UINT64_MAX, UINT64_MAX, 1 };
	const int64_t low[] = { INT64_MIN, INT64_MIN, 5 };
	const uint8_t bools[] = { 0, 1, 2, 0 };

	check_text("sum", DTYPE_INT8, bytes, 4, 0, "123");
	check_text("mean", DTYPE_INT8, bytes, 4, 0, "30.75");
	check_text("min", DTYPE_INT8, bytes, 4, 0, "-128");
	check_text("argmax", DTYPE_INT8, bytes, 4, 0, "1");
	check_text("sum", DTYPE_UINT64, big, 3, 0, "36893488147419103231");
	check_text("max", DTYPE_UINT64, big, 3, 0, "18446744073709551615");
	check_text("argmin", DTYPE_UINT64, big, 3, 0, "2");
	check_text("mean", DTYPE_UINT64, big, 2, 0, "1.8446744073709552e+19");
	check_text("sum", DTYPE_INT64, low, 3, 0, "-18446744073709551611");
	check_text("std", DTYPE_INT64, low, 2, 0, "0.0");
	check_text("sum", DTYPE_BOOL, bools, 4, 0, "2");
	check_text("mean", DTYPE_BOOL, bools, 4, 0, "0.5");
	check_text("var", DTYPE_BOOL, bools, 4, 0, "0.25");
	check_text("max", DTYPE_BOOL, bools, 4, 0, "True");
	check_text("min", DTYPE_BOOL, bools, 4, 0, "False");
	check_text("argmax", DTYPE_BOOL, bools, 4, 0, "1");
	check_text("all", DTYPE_BOOL, bools, 4, 0, "False");
	check_text("all", DTYPE_BOOL, bools + 1, 2, 0, "True");
	check_text("count", DTYPE_BOOL, bools, 4, 0, "4");
}

static void test_overflow(void)
{
	const uint64_t big[] = { UINT64_MAX, 1 };
	struct reduce_spec spec = spec_of("sum", DTYPE_UINT64, 0);
	struct reduce_state *s = state_of(&spec, big, 1, 0);
	union dtype_value v = { 0 };
	struct reason why = { "" };
	enum dtype dtype = 0;

	CHECK(reduce_value(&spec, s, &dtype, &v, &why) == 0 && dtype == DTYPE_UINT64 && v.words[0] == UINT64_MAX);
	reduce_update(&spec, s, big + 1, 1, 1);
	CHECK(reduce_value(&spec, s, &dtype, &v, &why) == -EOVERFLOW && strstr(why.text, "18446744073709551616"));
	reduce_state_free(s);
}

static void test_floats(void)
{
	const float zeros[] = { 0.0f, -0.0f, 0.0f }, with_nan[] = { 3, -NAN, -INFINITY, NAN }, tenth[] = { 0.1f };
	const uint16_t halves[] = { 0x3c00, 0x0001, 0x7bff, 0x7bff }; /* 1, 2^-24, 65504, 65504 */

	check_text("min", DTYPE_FLOAT32, zeros, 3, 0, "-0.0");
	check_text("max", DTYPE_FLOAT32, zeros, 3, 0, "0.0");
	check_text("max", DTYPE_FLOAT32, zeros + 1, 1, 0, "-0.0");
	check_text("argmin", DTYPE_FLOAT32, zeros, 3, 0, "0");
	check_text("argmax", DTYPE_FLOAT32, zeros + 1, 2, 0, "0");
	check_text("any", DTYPE_FLOAT32, zeros, 3, 0, "False");
	check_text("min", DTYPE_FLOAT32, with_nan, 4, 0, "nan");
	check_text("max", DTYPE_FLOAT32, with_nan, 4, 0, "nan");
	check_text("argmin", DTYPE_FLOAT32, with_nan, 4, 0, "1");
	check_text("argmax", DTYPE_FLOAT32, with_nan, 4, 0, "1");
	check_text("argmin", DTYPE_FLOAT32, with_nan + 2, 1, 0, "0");
	check_text("all", DTYPE_FLOAT32, with_nan, 4, 0, "True");
	check_text("sum", DTYPE_FLOAT32, tenth, 1, 0, "0.1");
	check_text("sum", DTYPE_FLOAT16, halves, 4, 0, "inf");
	check_text("max", DTYPE_FLOAT16, halves, 4, 0, "65500.0");
	check_text("sum", DTYPE_FLOAT16, halves, 2, 0, "1.0");
	check_text("mean", DTYPE_FLOAT16, halves + 2, 2, 0, "65500.0");
	check_text("std", DTYPE_FLOAT16, halves + 1, 2, 0, "32750.0");
}

static void test_complex(void)
{
	const float data[] = { 1, 2, 1, -3, 0, 9 }, zeros[] = { -0.0f, 1, 0.0f, 0 },
		    with_nan[] = { 1, 1, 5, NAN, NAN, 0 };

	check_text("sum", DTYPE_COMPLEX64, data, 3, 0, "(2+8j)");
	check_text("max", DTYPE_COMPLEX64, data, 3, 0, "(1+2j)");
	check_text("min", DTYPE_COMPLEX64, data, 3, 0, "9j");
	check_text("argmax", DTYPE_COMPLEX64, data, 3, 0, "0");
	check_text("argmin", DTYPE_COMPLEX64, data, 3, 0, "2");
	check_text("min", DTYPE_COMPLEX64, zeros, 2, 0, "0j");
	check_text("argmin", DTYPE_COMPLEX64, with_nan, 3, 0, "1");
	check_text("max", DTYPE_COMPLEX64, with_nan, 3, 0, "(nan+nanj)");
	check_text("all", DTYPE_COMPLEX64, zeros, 2, 0, "False");
	check_text("any", DTYPE_COMPLEX64, zeros, 2, 0, "True");
	check_text("var", DTYPE_COMPLEX64, zeros, 2, 0, "0.25");
	check_text("std", DTYPE_COMPLEX64, zeros, 2, 0, "0.5");
	check_text("mean", DTYPE_COMPLEX64, data, 2, 0, "(1-0.5j)");
}

static void test_nothing(void)
{
	check_text("sum", DTYPE_INT32, NULL, 0, 0, "0");
	check_text("sum", DTYPE_FLOAT32, NULL, 0, 0, "0.0");
	check_text("mean", DTYPE_INT32, NULL, 0, 0, "nan");
	check_text("mean", DTYPE_COMPLEX128, NULL, 0, 0, "(nan+nanj)");
	check_text("var", DTYPE_COMPLEX128, NULL, 0, 0, "nan");
	check_text("any", DTYPE_FLOAT64, NULL, 0, 0, "False");
	check_text("all", DTYPE_FLOAT64, NULL, 0, 0, "True");
	check_text("count", DTYPE_FLOAT64, NULL, 0, 0, "0");
	check_text("min", DTYPE_FLOAT64, NULL, 0, 0,
		   "zero-size array to reduction operation minimum which has no identity");
	check_text("max", DTYPE_INT8, NULL, 0, 0,
		   "zero-size array to reduction operation maximum which has no identity");
	check_text("argmin", DTYPE_INT8, NULL, 0, 0, "attempt to get argmin of an empty sequence");
	check_text("argmax", DTYPE_COMPLEX64, NULL, 0, 0, "attempt to get argmax of an empty sequence");
}

static void test_describe(void)
{
	const double data[] = { 1, 2, 3, 4 }, with_nan[] = { 1, NAN, 3, NAN }, complex[] = { 1, 2, 3, 2 };
	const double with_inf[] = { 1, -INFINITY };
	const uint8_t bools[] = { 1, 1 };

	check_text("describe", DTYPE_FLOAT64, data, 4, 1,
		   "{\"dtype\": \"float64\", \"count\": 4, \"missing\": 0, \"sum\": 10.0, \"mean\": 2.5, "
		   "\"std\": 1.2909944487358056, \"min\": 1.0, \"max\": 4.0}");
	check_text("describe", DTYPE_FLOAT64, with_nan, 4, 0,
		   "{\"dtype\": \"float64\", \"count\": 4, \"missing\": 2, \"sum\": null, \"mean\": null, "
		   "\"std\": null, \"min\": null, \"max\": null}");
	check_text("describe", DTYPE_FLOAT64, with_inf, 2, 0,
		   "{\"dtype\": \"float64\", \"count\": 2, \"missing\": 0, \"sum\": \"-Infinity\", \"mean\": "
		   "\"-Infinity\", "
		   "\"std\": null, \"min\": \"-Infinity\", \"max\": 1.0}");
	check_text("describe", DTYPE_COMPLEX128, complex, 2, 0,
		   "{\"dtype\": \"complex128\", \"count\": 2, \"missing\": 0, \"sum\": [4.0, 4.0], "
		   "\"mean\": [2.0, 2.0], \"std\": 1.0}");
	check_text("describe", DTYPE_BOOL, bools, 2, 0,
		   "{\"dtype\": \"bool\", \"count\": 2, \"missing\": 0, \"sum\": 2, \"mean\": 1.0, \"std\": 0.0, "
		   "\"min\": true, \"max\": true}");
	check_text("describe", DTYPE_INT32, NULL, 0, 0,
		   "{\"dtype\": \"int32\", \"count\": 0, \"missing\": 0, \"sum\": 0, \"mean\": null, \"std\": null, "
		   "\"min\": null, \"max\": null}");
}

static void check_wire(const struct reduce_spec *spec, const struct reduce_state *s)
{
	AUTO_FREE uint8_t *buf = NULL;
	AUTO_FREE uint8_t *longer = NULL;
	struct reduce_state *again = NULL;
	struct reduce_spec other = *spec;
	struct reason why;
	size_t len = 0;
	void *p = NULL;

	CHECK(reduce_encode(spec, s, &p, &len) == 0 && len <= REDUCE_WIRE_MAX);
	buf = p;
	if (!CHECK(reduce_decode(spec, buf, len, &again, &why) == 0))
		return;
	CHECK(same_encoding(spec, s, again));
	reduce_state_free(again);
	for (size_t cut = 0; cut < len; cut++)
		CHECK(reduce_decode(spec, buf, cut, &again, &why) == -EPROTO);
	longer = calloc(1, len + 1);
	memcpy(longer, buf, len);
	CHECK(reduce_decode(spec, longer, len + 1, &again, &why) == -EPROTO && strstr(why.text, "after its end"));
	other.params.ddof++;
	CHECK(reduce_decode(&other, buf, len, &again, &why) == -EPROTO && strstr(why.text, "another question"));
	buf[0]++;
	CHECK(reduce_decode(spec, buf, len, &again, NULL) == -EPROTO);
}

/* In three parts, the last first, the middle one unaligned and in the other byte order. */
static struct reduce_state *in_parts(const struct reduce_spec *spec, const uint8_t *data, size_t n)
{
	struct reduce_spec swapped = *spec;
	size_t bytes = dtype_bytes(spec->dtype), a = n / 3, b = n / 2;
	struct reduce_state *s = state_of(spec, data + b * bytes, n - b, b), *part;
	uint8_t *copy = malloc(n * bytes + 1);

	dtype_swap(spec->dtype, copy + 1, data + a * bytes, b - a);
	swapped.swap = true;
	part = state_of(&swapped, copy + 1, b - a, a);
	reduce_merge(spec, s, part);
	reduce_update(spec, s, data, a, 0);
	reduce_state_free(part);
	free(copy);
	return s;
}

static void check_repeat(const struct reduce_spec *spec, const uint8_t *element)
{
	size_t bytes = dtype_bytes(spec->dtype), n = 2 * KERNEL_ELEMS_MAX + 3;
	AUTO_FREE uint8_t *data = malloc(n * bytes);
	union dtype_value value = { 0 };
	struct reduce_state *a, *b;

	memcpy(value.bytes, element, bytes);
	for (size_t i = 0; i < n; i++)
		memcpy(data + i * bytes, element, bytes);
	a = state_of(spec, data, n, 10);
	b = state_of(spec, data, 1, 10);
	reduce_repeat(spec, b, &value, n - 1, 11);
	reduce_repeat(spec, b, &value, 0, 0);
	CHECK(same_encoding(spec, a, b));
	reduce_state_free(a);
	reduce_state_free(b);
}

static void fill(enum dtype dtype, uint8_t *data, bool any_bits, uint64_t *random)
{
	size_t part_bytes = dtype_bytes(dtype) / (dtype_class(dtype) == DTYPE_CLASS_COMPLEX ? 2 : 1);

	for (size_t i = 0; i < ELEMS * dtype_bytes(dtype); i += part_bytes) {
		uint64_t bits = unit_random(random);
		double v = (double)(int64_t)bits * 0x1p-62;
		float single = (float)v;
		uint16_t half = dtype_double_to_half(v);

		if (dtype == DTYPE_BOOL)
			bits &= 1;
		else if (!any_bits && dtype == DTYPE_FLOAT16)
			memcpy(&bits, &half, sizeof(half));
		else if (!any_bits && dtype_class(dtype) >= DTYPE_CLASS_FLOAT && part_bytes == 4)
			memcpy(&bits, &single, sizeof(single));
		else if (!any_bits && dtype_class(dtype) >= DTYPE_CLASS_FLOAT)
			memcpy(&bits, &v, sizeof(v));
		memcpy(data + i, &bits, part_bytes);
	}
}

/* Whole, one by one, in parts, by each variant of the kernels: one state. */
static void test_same_states(enum dtype dtype, bool any_bits)
{
	static _Alignas(64) uint8_t data[ELEMS * DTYPE_BYTES_MAX];
	uint64_t random = 11;

	fill(dtype, data, any_bits, &random);
	for (size_t i = 0; reduce_op_at(i); i++) {
		struct reduce_spec spec = { .op = reduce_op_at(i), .dtype = dtype };
		struct reduce_state *single = state_of(&spec, data, 0, 0), *whole, *parts;

		check_wire(&spec, single);
		for (size_t k = 0; k < ELEMS; k++)
			reduce_update(&spec, single, data + k * dtype_bytes(dtype), 1, k);
		for (size_t v = 0; kernel_variants[v]; v++) {
			kernels_force(kernel_variants[v]->runs_here() ? kernel_variants[v] : NULL);
			whole = state_of(&spec, data, ELEMS, 0);
			parts = in_parts(&spec, data, ELEMS);
			CHECK(same_encoding(&spec, whole, single) && same_encoding(&spec, parts, single));
			reduce_state_free(whole);
			reduce_state_free(parts);
		}
		kernels_force(NULL);
		check_wire(&spec, single);
		check_repeat(&spec, data);
		check_repeat(&spec, data + 7 * dtype_bytes(dtype));
		reduce_state_free(single);
	}
}

static void test_result_dtypes(void)
{
	static const struct {
		const char *op;
		enum dtype of, result;
	} rows[] = {
		{ "sum", DTYPE_BOOL, DTYPE_INT64 },         { "sum", DTYPE_UINT8, DTYPE_UINT64 },
		{ "sum", DTYPE_FLOAT16, DTYPE_FLOAT16 },    { "mean", DTYPE_INT8, DTYPE_FLOAT64 },
		{ "mean", DTYPE_FLOAT32, DTYPE_FLOAT32 },   { "mean", DTYPE_COMPLEX64, DTYPE_COMPLEX64 },
		{ "var", DTYPE_COMPLEX64, DTYPE_FLOAT32 },  { "std", DTYPE_COMPLEX128, DTYPE_FLOAT64 },
		{ "std", DTYPE_BOOL, DTYPE_FLOAT64 },       { "min", DTYPE_UINT16, DTYPE_UINT16 },
		{ "argmin", DTYPE_COMPLEX64, DTYPE_INT64 }, { "any", DTYPE_FLOAT64, DTYPE_BOOL },
		{ "count", DTYPE_FLOAT64, DTYPE_INT64 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct reduce_spec spec = spec_of(rows[i].op, rows[i].of, 0);

		CHECK(reduce_result_dtype(&spec) == rows[i].result);
	}
}

int main(void)
{
	test_table();
	test_integers();
	test_overflow();
	test_floats();
	test_complex();
	test_nothing();
	test_describe();
	test_result_dtypes();
	for (int dtype = 1; dtype < DTYPE_END; dtype++) {
		test_same_states((enum dtype)dtype, false);
		test_same_states((enum dtype)dtype, true);
	}
	return unit_result();
}
