#include "zarr_fill.h"

#include <ctype.h>
#include <math.h>

static int refuse(enum dtype dtype, const char *what, struct reason *why)
{
	return reason_set(why, EINVAL, "zarr.json: fill_value: %s (data_type is %s)", what, dtype_zarr_name(dtype));
}

/* The low `bytes` bytes of v. */
static void store_low(uint64_t v, size_t bytes, void *dst)
{
	memcpy(dst, (const char *)&v + (__BYTE_ORDER == __BIG_ENDIAN ? 8 - bytes : 0), bytes);
}

static int fill_bool(const struct json *j, union dtype_value *ret, struct reason *why)
{
	bool v;

	if (json_bool(j, &v) < 0)
		return refuse(DTYPE_BOOL, "must be true or false", why);
	ret->bytes[0] = v;
	return 0;
}

static int fill_int(const struct json *j, enum dtype dtype, union dtype_value *ret, struct reason *why)
{
	size_t bytes = dtype_bytes(dtype);
	int64_t v, max = INT64_MAX >> (64 - 8 * bytes);
	uint64_t positive;

	if (json_i64(j, &v) < 0)
		return refuse(dtype, json_u64(j, &positive) < 0 ? "must be a whole number" : "out of range", why);
	if (v > max || v < -max - 1)
		return refuse(dtype, "out of range", why);
	store_low((uint64_t)v, bytes, ret);
	return 0;
}

static int fill_uint(const struct json *j, enum dtype dtype, union dtype_value *ret, struct reason *why)
{
	size_t bytes = dtype_bytes(dtype);
	uint64_t v;
	int64_t negative;

	if (json_u64(j, &v) < 0)
		return refuse(dtype, json_i64(j, &negative) < 0 ? "must be a whole number" : "out of range", why);
	if (v > UINT64_MAX >> (64 - 8 * bytes))
		return refuse(dtype, "out of range", why);
	store_low(v, bytes, ret);
	return 0;
}

static void store_float(double v, enum dtype dtype, void *dst)
{
	uint16_t half;
	float single;

	switch (dtype) {
	case DTYPE_FLOAT16:
		half = dtype_double_to_half(v);
		memcpy(dst, &half, sizeof(half));
		break;
	case DTYPE_FLOAT32:
		single = (float)v;
		memcpy(dst, &single, sizeof(single));
		break;
	default:
		memcpy(dst, &v, sizeof(v));
	}
}

static bool float_overflows(double v, enum dtype dtype)
{
	switch (dtype) {
	case DTYPE_FLOAT16:
		return fabs(v) >= 65520;
	case DTYPE_FLOAT32:
		return isinf((float)v);
	default:
		return isinf(v);
	}
}

/* "0x" and two digits a byte, the most significant first: the bits themselves. */
static bool parse_bits(const char *text, size_t bytes, uint64_t *ret)
{
	uint64_t v = 0;
	size_t n = 0;

	if (text[0] != '0' || text[1] != 'x')
		return false;
	for (text += 2; isxdigit((unsigned char)*text); text++, n++)
		v = v << 4 | (uint64_t)(*text <= '9' ? *text - '0' : (*text | 0x20) - 'a' + 10);
	if (*text || n != 2 * bytes)
		return false;
	*ret = v;
	return true;
}

static int float_of_string(const char *text, enum dtype dtype, void *dst)
{
	uint64_t bits;

	if (parse_bits(text, dtype_bytes(dtype), &bits)) {
		store_low(bits, dtype_bytes(dtype), dst);
		return 0;
	}
	if (!strcmp(text, "NaN"))
		store_float((double)NAN, dtype, dst);
	else if (!strcmp(text, "Infinity"))
		store_float((double)INFINITY, dtype, dst);
	else if (!strcmp(text, "-Infinity"))
		store_float(-(double)INFINITY, dtype, dst);
	else
		return -EINVAL;
	return 0;
}

/* dtype: of the number or of a complex number's part; whole: of the array, for the reason. */
static int fill_float(const struct json *j, enum dtype dtype, enum dtype whole, void *dst, struct reason *why)
{
	const char *text;
	double v;

	if (json_string(j, &text) == 0) {
		if (float_of_string(text, dtype, dst) < 0)
			return refuse(whole, "not NaN, Infinity, -Infinity or 0x and two hex digits a byte", why);
		return 0;
	}
	if (json_double(j, &v) < 0 || isnan(v))
		return refuse(whole, "must be a number, NaN and the infinities as strings", why);
	if (float_overflows(v, dtype))
		return refuse(whole, "out of range", why);
	store_float(v, dtype, dst);
	return 0;
}

static int fill_complex(const struct json *j, enum dtype dtype, union dtype_value *ret, struct reason *why)
{
	enum dtype part = dtype == DTYPE_COMPLEX64 ? DTYPE_FLOAT32 : DTYPE_FLOAT64;
	int err;

	if (json_length(j) != 2)
		return refuse(dtype, "must be an array of two numbers", why);
	err = fill_float(json_at(j, 0), part, dtype, ret->bytes, why);
	return err ? err : fill_float(json_at(j, 1), part, dtype, ret->bytes + dtype_bytes(part), why);
}

int zarr_fill_parse(const struct json *j, enum dtype dtype, union dtype_value *ret, struct reason *why)
{
	union dtype_value v = { .words = { 0, 0 } };
	int err = 0;

	if (!j)
		return refuse(dtype, "missing, and Zarr v3 requires it", why);
	if (json_is_null(j))
		return refuse(dtype, "null is not a value in Zarr v3", why);
	switch (dtype_class(dtype)) {
	case DTYPE_CLASS_BOOL:
		err = fill_bool(j, &v, why);
		break;
	case DTYPE_CLASS_INT:
		err = fill_int(j, dtype, &v, why);
		break;
	case DTYPE_CLASS_UINT:
		err = fill_uint(j, dtype, &v, why);
		break;
	case DTYPE_CLASS_FLOAT:
		err = fill_float(j, dtype, dtype, v.bytes, why);
		break;
	case DTYPE_CLASS_COMPLEX:
		err = fill_complex(j, dtype, &v, why);
		break;
	}
	if (!err)
		*ret = v;
	return err;
}
