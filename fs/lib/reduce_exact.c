/* reduce_exact.c - the wide fixed-point number, and integers of a few thousand bits for the one rounding at the
 * end. */
#include "reduce_exact.h"

#include <assert.h>
#include <math.h>

const struct float_format format_float16 = { 11, -24, 16 };
const struct float_format format_float32 = { 24, -149, 128 };
const struct float_format format_float64 = { 53, -1074, 1024 };

void exact_settle(struct exact *x)
{
	int64_t carry = 0;

	for (size_t i = 0; i + 1 < EXACT_DIGITS; i++) {
		int64_t v = x->digit[i] + carry;

		x->digit[i] = (int64_t)((uint64_t)v & UINT32_MAX);
		carry = v >> 32;
	}
	x->digit[EXACT_DIGITS - 1] = (int64_t)((uint64_t)x->digit[EXACT_DIGITS - 1] + (uint64_t)carry);
	x->pending = 0;
}

void exact_merge(struct exact *into, const struct exact *from)
{
	struct exact other = *from;

	exact_settle(into);
	exact_settle(&other);
	for (size_t i = 0; i < EXACT_DIGITS; i++)
		into->digit[i] = (int64_t)((uint64_t)into->digit[i] + (uint64_t)other.digit[i]);
	exact_settle(into);
}

void exact_add_times(struct exact *x, exact_u128 v, uint64_t n, int exp, bool negative)
{
	for (int i = 0; i < 4; i++) {
		uint64_t part = (uint64_t)(v >> (32 * i)) & UINT32_MAX;

		exact_add(x, part * (n & UINT32_MAX), exp + 32 * i, negative);
		exact_add(x, part * (n >> 32), exp + 32 * i + 32, negative);
	}
}

void exact_add_wide(struct exact *x, exact_i128 v, int exp)
{
	bool negative = v < 0;
	exact_u128 mag = negative ? -(exact_u128)v : (exact_u128)v;

	exact_add(x, (uint64_t)mag, exp, negative);
	exact_add(x, (uint64_t)(mag >> 64), exp + 64, negative);
}

struct exact_parts exact_split(double v)
{
	uint64_t bits;
	unsigned e;

	memcpy(&bits, &v, sizeof(bits));
	e = (unsigned)(bits >> 52) & 0x7ff;
	return (struct exact_parts){
		.mant = (bits & (UINT64_MAX >> 12)) | (e ? UINT64_C(1) << 52 : 0),
		.exp = (e ? (int)e - 1 : 0) - 1074,
		.negative = bits >> 63,
	};
}

static void big_trim(struct big *a)
{
	while (a->n && !a->digit[a->n - 1])
		a->n--;
}

bool big_of_exact(struct big *ret, const struct exact *x)
{
	struct exact v = *x;
	bool negative;

	exact_settle(&v);
	negative = v.digit[EXACT_DIGITS - 1] < 0;
	if (negative) {
		for (size_t i = 0; i < EXACT_DIGITS; i++)
			v.digit[i] = -v.digit[i];
		exact_settle(&v);
	}
	for (size_t i = 0; i < EXACT_DIGITS; i++)
		ret->digit[i] = (uint32_t)v.digit[i];
	ret->n = EXACT_DIGITS;
	big_trim(ret);
	return negative;
}

void big_of_u128(struct big *ret, exact_u128 v)
{
	for (ret->n = 0; v; v >>= 32)
		ret->digit[ret->n++] = (uint32_t)v;
}

void big_mul(struct big *ret, const struct big *a, const struct big *b)
{
	assert(a->n + b->n <= BIG_DIGITS);
	ret->n = a->n + b->n;
	memset(ret->digit, 0, ret->n * sizeof(ret->digit[0]));
	for (unsigned i = 0; i < a->n; i++) {
		uint64_t carry = 0;

		for (unsigned j = 0; j < b->n; j++) {
			carry += (uint64_t)a->digit[i] * b->digit[j] + ret->digit[i + j];
			ret->digit[i + j] = (uint32_t)carry;
			carry >>= 32;
		}
		ret->digit[i + b->n] = (uint32_t)carry;
	}
	big_trim(ret);
}

void big_shift_left(struct big *a, unsigned bits)
{
	unsigned whole = bits / 32, rest = bits % 32;

	if (!a->n)
		return;
	assert(a->n + whole + 1 <= BIG_DIGITS);
	a->digit[a->n] = 0;
	for (unsigned i = a->n + 1; i-- > 0;) {
		uint64_t pair = (uint64_t)a->digit[i] << 32 | (i ? a->digit[i - 1] : 0);

		a->digit[i + whole] = (uint32_t)(pair << rest >> 32);
	}
	memset(a->digit, 0, whole * sizeof(a->digit[0]));
	a->n += whole + 1;
	big_trim(a);
}

void big_shift_right_digits(struct big *a, unsigned digits)
{
	digits = MIN(digits, a->n);
	a->n -= digits;
	memmove(a->digit, a->digit + digits, a->n * sizeof(a->digit[0]));
}

int big_compare(const struct big *a, const struct big *b)
{
	if (a->n != b->n)
		return a->n < b->n ? -1 : 1;
	for (unsigned i = a->n; i-- > 0;) {
		if (a->digit[i] != b->digit[i])
			return a->digit[i] < b->digit[i] ? -1 : 1;
	}
	return 0;
}

bool big_sub(struct big *a, const struct big *b)
{
	int64_t carry = 0;

	if (big_compare(a, b) < 0) {
		a->n = 0;
		return false;
	}
	for (unsigned i = 0; i < a->n; i++) {
		carry += (int64_t)a->digit[i] - (i < b->n ? b->digit[i] : 0);
		a->digit[i] = (uint32_t)carry;
		carry >>= 32;
	}
	big_trim(a);
	return true;
}

void big_add(struct big *a, const struct big *b)
{
	unsigned n = MAX(a->n, b->n);
	uint64_t carry = 0;

	assert(n + 1 <= BIG_DIGITS);
	for (unsigned i = 0; i < n; i++) {
		carry += (uint64_t)(i < a->n ? a->digit[i] : 0) + (i < b->n ? b->digit[i] : 0);
		a->digit[i] = (uint32_t)carry;
		carry >>= 32;
	}
	a->digit[n] = (uint32_t)carry;
	a->n = n + 1;
	big_trim(a);
}

static int big_bits(const struct big *a)
{
	return a->n ? (int)(32 * a->n) - __builtin_clz(a->digit[a->n - 1]) : 0;
}

/* The sign of (m * 2^exp)^root * q - p * 2^-EXACT_BIAS. */
static int compare_candidate(uint64_t m, int exp, int root, const struct big *p, const struct big *q)
{
	struct big power, left;

	big_of_u128(&power, root == 2 ? (exact_u128)m * m : m);
	big_mul(&left, &power, q);
	big_shift_left(&left, (unsigned)(root * exp + EXACT_BIAS));
	return big_compare(&left, p);
}

/* The largest m below 2^bits with (m * 2^exp)^root <= p / q. */
static uint64_t largest_candidate(int bits, int exp, int root, const struct big *p, const struct big *q)
{
	uint64_t m = 0;

	for (int i = bits - 1; i >= 0; i--) {
		if (compare_candidate(m | UINT64_C(1) << i, exp, root, p, q) <= 0)
			m |= UINT64_C(1) << i;
	}
	return m;
}

static int floor_div(int a, int b)
{
	return a / b - (a % b < 0);
}

double big_round(const struct big *p, const struct big *q, int root, const struct float_format *format)
{
	int low = floor_div(big_bits(p) - big_bits(q) - 1 - EXACT_BIAS, root); /* 2^low <= result < 2^(low + 3) */
	int exp = MAX(low + 1 - format->precision, format->min_exp), above;
	uint64_t m;

	if (!p->n)
		return 0;
	if (low >= format->end_exp)
		return INFINITY;
	while ((m = largest_candidate(format->precision + 3, exp, root, p, q)) >> format->precision)
		exp++;
	above = -compare_candidate(2 * m + 1, exp - 1, root, p, q);
	m += above > 0 || (above == 0 && m % 2);
	return ldexp((double)m, exp) >= ldexp(1.0, format->end_exp) ? INFINITY : ldexp((double)m, exp);
}
