#include "dtype.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define DIGITS_MAX 17
#define FIXED_EXP_MIN (-4) /* Python's repr: exponents below are written as such, and so are those */
#define FIXED_EXP_END 16   /* from here on */

/* |value| = digits[0].digits[1]digits[2]... * 10^exponent */
struct decimal {
	char digits[DIGITS_MAX + 1];
	int n;
	int exponent;
};

static bool round_trips(const char *text, double value, enum dtype digits_of)
{
	switch (digits_of) {
	case DTYPE_FLOAT16:
		return dtype_double_to_half(strtod(text, NULL)) == dtype_double_to_half(value);
	case DTYPE_FLOAT32:
		return strtof(text, NULL) == (float)value;
	default:
		return strtod(text, NULL) == value;
	}
}

static void decimal_parse(const char *text, struct decimal *d)
{
	d->n = 0;
	for (; *text != 'e'; text++) {
		if (*text != '.')
			d->digits[d->n++] = *text;
	}
	while (d->n > 1 && d->digits[d->n - 1] == '0')
		d->n--;
	d->digits[d->n] = 0;
	d->exponent = atoi(text + 1);
}

/* The text one unit in the last place further from zero.  A power of two has its lower neighbour nearer than its upper
 * one, so the nearest decimal of some length may lie below and miss it where the next one up hits. */
static void bump(char *text)
{
	char *p = strchr(text, 'e');

	while (p-- > text) {
		if (*p == '.')
			continue;
		if (*p != '9') {
			++*p;
			return;
		}
		*p = '0';
	}
}

static void shortest(double value, enum dtype digits_of, struct decimal *ret)
{
	char text[40];

	for (int precision = 1; precision <= DIGITS_MAX; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision - 1, value);
		if (precision == DIGITS_MAX || round_trips(text, value, digits_of))
			break;
		bump(text);
		if (round_trips(text, value, digits_of))
			break;
	}
	decimal_parse(text, ret);
}

static size_t put_fixed(char *out, size_t cap, const struct decimal *d, const char *integral_end)
{
	int point = d->exponent + 1; /* digits before the decimal point */

	if (point <= 0)
		return (size_t)snprintf(out, cap, "0.%.*s%s", -point, "0000", d->digits);
	if (point >= d->n)
		return (size_t)snprintf(out, cap, "%s%.*s%s", d->digits, point - d->n, "0000000000000000",
					integral_end);
	return (size_t)snprintf(out, cap, "%.*s.%s", point, d->digits, d->digits + point);
}

static size_t put_exponent(char *out, size_t cap, const struct decimal *d)
{
	return (size_t)snprintf(out, cap, "%c%s%se%c%02d", d->digits[0], d->n > 1 ? "." : "", d->digits + 1,
				d->exponent < 0 ? '-' : '+', abs(d->exponent));
}

/* integral_end: what a whole number ends with (".0", or nothing inside a complex). */
static size_t put_double(char *out, size_t cap, double value, enum dtype digits_of, const char *integral_end)
{
	struct decimal d;
	size_t n = 0;

	if (isnan(value))
		return (size_t)snprintf(out, cap, "nan");
	if (signbit(value))
		out[n++] = '-';
	if (isinf(value))
		return n + (size_t)snprintf(out + n, cap - n, "inf");
	shortest(fabs(value), digits_of, &d);
	if (d.exponent < FIXED_EXP_MIN || d.exponent >= FIXED_EXP_END)
		return n + put_exponent(out + n, cap - n, &d);
	return n + put_fixed(out + n, cap - n, &d, integral_end);
}

void dtype_double_text(double value, enum dtype digits_of, char ret[DTYPE_TEXT_MAX])
{
	put_double(ret, DTYPE_TEXT_MAX, value, digits_of, ".0");
}

/* complex.__repr__: the real part is left out when it is +0. */
static void complex_text(double re, double im, enum dtype digits_of, char *ret)
{
	size_t n = 0;
	bool both = re != 0 || signbit(re);

	if (both) {
		ret[n++] = '(';
		n += put_double(ret + n, DTYPE_TEXT_MAX - n, re, digits_of, "");
		if (isnan(im) || !signbit(im))
			ret[n++] = '+';
	}
	n += put_double(ret + n, DTYPE_TEXT_MAX - n, im, digits_of, "");
	snprintf(ret + n, DTYPE_TEXT_MAX - n, "%s", both ? "j)" : "j");
}

static int64_t load_int(const void *value, size_t bytes)
{
	int64_t v = 0;

	memcpy((char *)&v + (__BYTE_ORDER == __BIG_ENDIAN ? 8 - bytes : 0), value, bytes);
	return (int64_t)((uint64_t)v << (64 - 8 * bytes)) >> (64 - 8 * bytes);
}

static double load_float(const void *value, enum dtype dtype)
{
	uint16_t half;
	float single;
	double v;

	switch (dtype) {
	case DTYPE_FLOAT16:
		memcpy(&half, value, sizeof(half));
		return dtype_half_to_double(half);
	case DTYPE_FLOAT32:
		memcpy(&single, value, sizeof(single));
		return single;
	default:
		memcpy(&v, value, sizeof(v));
		return v;
	}
}

void dtype_text(enum dtype dtype, const void *value, char ret[DTYPE_TEXT_MAX])
{
	size_t bytes = dtype_bytes(dtype);
	enum dtype part;

	assert(dtype_valid(dtype));
	switch (dtype_class(dtype)) {
	case DTYPE_CLASS_BOOL:
		snprintf(ret, DTYPE_TEXT_MAX, "%s", *(const uint8_t *)value ? "True" : "False");
		break;
	case DTYPE_CLASS_INT:
		snprintf(ret, DTYPE_TEXT_MAX, "%" PRId64, load_int(value, bytes));
		break;
	case DTYPE_CLASS_UINT:
		snprintf(ret, DTYPE_TEXT_MAX, "%" PRIu64,
			 (uint64_t)load_int(value, bytes) & UINT64_MAX >> (64 - 8 * bytes));
		break;
	case DTYPE_CLASS_FLOAT:
		dtype_double_text(load_float(value, dtype), dtype, ret);
		break;
	case DTYPE_CLASS_COMPLEX:
		part = dtype == DTYPE_COMPLEX64 ? DTYPE_FLOAT32 : DTYPE_FLOAT64;
		complex_text(load_float(value, part), load_float((const char *)value + bytes / 2, part), part, ret);
		break;
	}
}
