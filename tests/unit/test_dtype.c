#include "dtype.h"

#include <math.h>

#include "unit.h"

static void test_names(void)
{
	char descr[8], text[8];
	enum dtype d;
	bool big;

	for (unsigned i = 1; i < DTYPE_END; i++) {
		CHECK(dtype_valid(i));
		CHECK(dtype_from_zarr(dtype_zarr_name((enum dtype)i), &d) == 0 && d == i);
		for (int b = 0; b < 2; b++) {
			dtype_npy_descr((enum dtype)i, b, descr);
			CHECK(dtype_from_npy(descr, &d, &big) == 0 && d == i);
			CHECK(big == (b && dtype_bytes(d) > 1));
			CHECK((descr[0] == '|') == (dtype_bytes(d) == 1));
		}
		snprintf(text, sizeof(text), "=%s", descr + 1);
		CHECK(dtype_from_npy(text, &d, &big) == 0 && d == i);
		CHECK(big == (__BYTE_ORDER == __BIG_ENDIAN && dtype_bytes(d) > 1));
	}
	CHECK(!dtype_valid(0) && !dtype_valid(DTYPE_END));
	CHECK(dtype_bytes(DTYPE_COMPLEX128) == 16 && dtype_class(DTYPE_COMPLEX64) == DTYPE_CLASS_COMPLEX);
}

static void test_refused_names(void)
{
	static const char *const bad[] = { "",     "f8",  "<",  "<f",      "<f3",  "<f88",
					   "<f16", "<U5", "|O", "<M8[ns]", "<f8 ", "b1" };
	static const char *const bad_zarr[] = { "", "float", "string", "int128", "Float64", "float64 ", "r16" };
	enum dtype d = DTYPE_INT8;
	bool big = true;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK(dtype_from_npy(bad[i], &d, &big) == -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(bad_zarr); i++)
		CHECK(dtype_from_zarr(bad_zarr[i], &d) == -EINVAL);
	CHECK(d == DTYPE_INT8 && big);
}

static void test_swap(void)
{
	uint8_t src[16 * 3 + 1], dst[sizeof(src)], twice[sizeof(src)];
	const size_t n = 3;

	for (size_t i = 0; i < sizeof(src); i++)
		src[i] = (uint8_t)(i * 37 + 1);
	for (unsigned d = 1; d < DTYPE_END; d++) {
		size_t bytes = dtype_bytes((enum dtype)d);
		size_t part = dtype_class((enum dtype)d) == DTYPE_CLASS_COMPLEX ? bytes / 2 : bytes;

		dtype_swap((enum dtype)d, dst + 1, src + 1, n);
		for (size_t i = 0; i < n * bytes; i++)
			CHECK(dst[1 + i] == src[1 + i / part * part + part - 1 - i % part]);
		memcpy(twice, dst, sizeof(dst));
		dtype_swap((enum dtype)d, twice + 1, twice + 1, n);
		CHECK(!memcmp(twice + 1, src + 1, n * bytes));
	}
}

static void test_half(void)
{
	static const struct {
		double v;
		uint16_t half;
	} rounding[] = {
		{ 1 + 0x1p-11, 0x3c00 },
		{ 1 + 3 * 0x1p-11, 0x3c02 },
		{ 0x1.0020000000001p0, 0x3c01 },
		{ 65519.99, 0x7bff },
		{ 65520, 0x7c00 },
		{ -65520, 0xfc00 },
		{ 0x1p-25, 0 },
		{ 0x1.0000000000001p-25, 1 },
		{ 3 * 0x1p-25, 2 },
		{ 0x1p-14 - 0x1p-26, 0x400 },
		{ -0.0, 0x8000 },
		{ 5e-324, 0 },
		{ 2047.5, 0x6800 },
		{ INFINITY, 0x7c00 },
	};

	for (unsigned h = 0; h <= UINT16_MAX; h++)
		CHECK(dtype_double_to_half(dtype_half_to_double((uint16_t)h)) == h);
	for (unsigned h = 0; h < 0x7c00; h++)
		CHECK(dtype_half_to_double((uint16_t)h) < dtype_half_to_double((uint16_t)(h + 1)));
	CHECK(dtype_half_to_double(0x3c00) == 1 && dtype_half_to_double(0x7bff) == 65504);
	CHECK(dtype_half_to_double(1) == 0x1p-24 && isnan(dtype_half_to_double(0x7e00)));
	for (size_t i = 0; i < ARRAY_LEN(rounding); i++)
		CHECK(dtype_double_to_half(rounding[i].v) == rounding[i].half);
	CHECK((dtype_double_to_half(NAN) & 0x7fff) > 0x7c00);
}

static void test_texts(void)
{
	static const struct {
		enum dtype dtype;
		union dtype_value value;
		const char *text;
	} golden[] = {
#include "golden/texts.h"
	};
	char text[DTYPE_TEXT_MAX];

	if (__BYTE_ORDER == __BIG_ENDIAN) /* the golden words are little-endian */
		return;
	for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
		dtype_text(golden[i].dtype, &golden[i].value, text);
		if (!CHECK(!strcmp(text, golden[i].text)))
			fprintf(stderr, "golden %zu: '%s' instead of '%s'\n", i, text, golden[i].text);
	}
}

static bool int_text_is(enum dtype d, const void *value, const char *want)
{
	char text[DTYPE_TEXT_MAX];

	dtype_text(d, value, text);
	return !strcmp(text, want);
}

static void test_int_texts(void)
{
	CHECK(int_text_is(DTYPE_BOOL, &(uint8_t){ 0 }, "False") && int_text_is(DTYPE_BOOL, &(uint8_t){ 1 }, "True"));
	CHECK(int_text_is(DTYPE_INT8, &(int8_t){ -128 }, "-128") && int_text_is(DTYPE_UINT8, &(uint8_t){ 255 }, "255"));
	CHECK(int_text_is(DTYPE_INT16, &(int16_t){ INT16_MIN }, "-32768"));
	CHECK(int_text_is(DTYPE_UINT16, &(uint16_t){ UINT16_MAX }, "65535"));
	CHECK(int_text_is(DTYPE_INT32, &(int32_t){ INT32_MIN }, "-2147483648"));
	CHECK(int_text_is(DTYPE_UINT32, &(uint32_t){ UINT32_MAX }, "4294967295"));
	CHECK(int_text_is(DTYPE_INT64, &(int64_t){ INT64_MIN }, "-9223372036854775808"));
	CHECK(int_text_is(DTYPE_UINT64, &(uint64_t){ UINT64_MAX }, "18446744073709551615"));
}

/* Each text reads back as the same bits, and no text of fewer digits does. */
static void test_text_round_trip(void)
{
	uint64_t seed = 7;
	char text[DTYPE_TEXT_MAX], shorter[64];

	for (int i = 0; i < 20000; i++) {
		uint64_t bits = unit_random(&seed);
		uint32_t low = (uint32_t)bits;
		double v;
		float f;
		int digits = 0;

		memcpy(&v, &bits, sizeof(v));
		memcpy(&f, &low, sizeof(f));
		if (!isfinite(v) || !isfinite(f))
			continue;
		dtype_double_text(v, DTYPE_FLOAT64, text);
		CHECK(strtod(text, NULL) == v);
		for (const char *p = text; *p && *p != 'e'; p++)
			digits += *p >= '0' && *p <= '9';
		if (strchr(text, 'e') && digits > 1) {
			snprintf(shorter, sizeof(shorter), "%.*e", digits - 2, v);
			CHECK(strtod(shorter, NULL) != v);
		}
		dtype_text(DTYPE_FLOAT32, &f, text);
		CHECK(strtof(text, NULL) == f && strlen(text) <= 19);
	}
}

int main(void)
{
	test_names();
	test_refused_names();
	test_swap();
	test_half();
	test_texts();
	test_int_texts();
	test_text_round_trip();
	return unit_result();
}
