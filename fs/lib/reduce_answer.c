/* reduce_answer.c - from a state to the answer: one rounding of an exact ratio of integers, and its text.
 *
 * With S the sum, Q the sum of squares and d = max(n - ddof, 0), both exact:
 *   mean = S / n,  var = (n Q - S^2) / (n d),  std = its square root;  a complex var is that of its parts, added
 *                  before rounding.
 * An exact zero is +0.0.  Where NumPy divides by zero, the answers are its: nan for 0/0, else inf.
 */
#include "reduce_internal.h"

#include <math.h>
#include <stdio.h>

static const struct float_format *format_of(enum dtype part)
{
	if (part == DTYPE_FLOAT16)
		return &format_float16;
	return part == DTYPE_FLOAT32 ? &format_float32 : &format_float64;
}

/* v is a value of the dtype, so nothing is rounded here; every NaN becomes the same one. */
static void put_float(enum dtype part, double v, void *ret)
{
	static const uint64_t nan64 = UINT64_C(0x7ff8) << 48;
	static const uint32_t nan32 = UINT32_C(0x7fc0) << 16;
	static const uint16_t nan16 = 0x7e00;
	uint16_t half = dtype_double_to_half(v);
	float single = (float)v;

	if (part == DTYPE_FLOAT16)
		memcpy(ret, isnan(v) ? &nan16 : &half, sizeof(half));
	else if (part == DTYPE_FLOAT32)
		memcpy(ret, isnan(v) ? (const void *)&nan32 : (const void *)&single, sizeof(single));
	else
		memcpy(ret, isnan(v) ? (const void *)&nan64 : (const void *)&v, sizeof(v));
}

/* The sum divided by n. */
static double moments_mean(const struct moments *m, uint64_t n, enum dtype part)
{
	struct big p, q;
	bool negative;
	double v;

	if (m->nan || (m->plus_inf && m->minus_inf) || !n)
		return NAN;
	if (m->plus_inf || m->minus_inf)
		return m->plus_inf ? INFINITY : -INFINITY;
	negative = big_of_exact(&p, &m->sum);
	big_of_u128(&q, n);
	v = big_round(&p, &q, 1, format_of(part));
	return negative ? -v : v;
}

/* ret += (n Q - S^2) 2^EXACT_BIAS */
static void add_spread(struct big *ret, const struct moments *m, const struct big *n)
{
	struct big sum, squares, product, sum_squared;

	big_of_exact(&squares, &m->squares);
	big_mul(&product, &squares, n);
	big_of_exact(&sum, &m->sum);
	big_shift_right_digits(&sum, EXACT_SUM_FIRST);
	big_mul(&sum_squared, &sum, &sum);
	_Static_assert(2 * 32 * EXACT_SUM_FIRST == EXACT_BIAS, "the squared sum has the scale of the squares");
	big_sub(&product, &sum_squared);
	big_add(ret, &product);
}

/* var (root 1) or std (root 2) */
static double spread(const struct reduce_spec *spec, const struct reduce_state *s, int root, enum dtype result)
{
	exact_i128 d = (exact_i128)s->n - spec->params.ddof;
	struct big p = { 0 }, n, divisor, q;

	for (unsigned i = 0; i < reduce_parts(spec->dtype); i++) {
		if (!reduce_moments_finite(&s->part[i]))
			return NAN;
	}
	big_of_u128(&n, s->n);
	for (unsigned i = 0; i < reduce_parts(spec->dtype); i++)
		add_spread(&p, &s->part[i], &n);
	if (d <= 0)
		return p.n ? INFINITY : NAN;
	if (!s->n)
		return 0;
	big_of_u128(&divisor, (exact_u128)d);
	big_mul(&q, &n, &divisor);
	return big_round(&p, &q, root, format_of(result));
}

/* mean and sum (over_n = 1) of floats. */
static void put_means(const struct reduce_spec *spec, const struct reduce_state *s, uint64_t over_n, enum dtype result,
		      union dtype_value *ret)
{
	enum dtype part = reduce_part_dtype(result);

	for (unsigned i = 0; i < reduce_parts(spec->dtype); i++)
		put_float(part, moments_mean(&s->part[i], over_n, part), ret->bytes + i * dtype_bytes(part));
}

static exact_i128 integer_sum(const struct reduce_state *s)
{
	struct big mag;
	bool negative = big_of_exact(&mag, &s->part[0].sum);
	exact_u128 v = 0;

	for (unsigned i = 0; i < 4; i++) {
		if (EXACT_ONE_DIGIT + i < mag.n)
			v |= (exact_u128)mag.digit[EXACT_ONE_DIGIT + i] << (32 * i);
	}
	return (exact_i128)(negative ? -v : v);
}

static void integer_text(exact_i128 v, char ret[48])
{
	exact_u128 mag = v < 0 ? -(exact_u128)v : (exact_u128)v;
	char reversed[48];
	size_t n = 0;

	do
		reversed[n++] = (char)('0' + (int)(mag % 10));
	while (mag /= 10);
	if (v < 0)
		reversed[n++] = '-';
	for (size_t i = 0; i < n; i++)
		ret[i] = reversed[n - 1 - i];
	ret[n] = '\0';
}

static enum dtype sum_dtype(enum dtype dtype)
{
	if (reduce_is_float(dtype))
		return dtype;
	return dtype_class(dtype) == DTYPE_CLASS_UINT ? DTYPE_UINT64 : DTYPE_INT64;
}

static enum dtype mean_dtype(enum dtype dtype)
{
	return reduce_is_float(dtype) ? dtype : DTYPE_FLOAT64;
}

enum dtype reduce_result_dtype(const struct reduce_spec *spec)
{
	switch (spec->op->answer) {
	case ANSWER_ALL:
	case ANSWER_ANY:
		return DTYPE_BOOL;
	case ANSWER_ARG:
	case ANSWER_COUNT:
		return DTYPE_INT64;
	case ANSWER_EXTREME:
		return spec->dtype;
	case ANSWER_SUM:
		return sum_dtype(spec->dtype);
	case ANSWER_MEAN:
		return mean_dtype(spec->dtype);
	default:
		return reduce_part_dtype(mean_dtype(spec->dtype));
	}
}

static int put_sum(const struct reduce_spec *spec, const struct reduce_state *s, union dtype_value *ret,
		   struct reason *why)
{
	bool is_unsigned = dtype_class(spec->dtype) == DTYPE_CLASS_UINT;
	char text[48];
	exact_i128 v;

	if (reduce_is_float(spec->dtype)) {
		put_means(spec, s, 1, spec->dtype, ret);
		return 0;
	}
	v = integer_sum(s);
	if (is_unsigned ? v < 0 || v > UINT64_MAX : v < INT64_MIN || v > INT64_MAX) {
		integer_text(v, text);
		return reason_set(why, EOVERFLOW, "the sum, %s, does not fit in %s", text,
				  dtype_zarr_name(sum_dtype(spec->dtype)));
	}
	ret->words[0] = (uint64_t)v;
	return 0;
}

static void put_extreme(const struct reduce_spec *spec, const struct extreme *e, union dtype_value *ret)
{
	enum dtype part = reduce_part_dtype(spec->dtype);

	for (unsigned i = 0; i < reduce_parts(spec->dtype); i++) {
		if (e->nan)
			put_float(part, NAN, ret->bytes + i * dtype_bytes(part));
		else
			reduce_key_value(part, e->key[i], ret->bytes + i * dtype_bytes(part));
	}
}

static int put_chosen(const struct reduce_spec *spec, const struct reduce_state *s, union dtype_value *ret,
		      struct reason *why)
{
	bool least = spec->op->keeps & KEEPS_LEAST;
	const struct extreme *e = least ? &s->least : &s->greatest;

	if (!e->have && spec->op->answer == ANSWER_ARG)
		return reason_set(why, EINVAL, "attempt to get %s of an empty sequence", spec->op->name);
	if (!e->have)
		return reason_set(why, EINVAL, "zero-size array to reduction operation %s which has no identity",
				  least ? "minimum" : "maximum");
	if (spec->op->answer == ANSWER_ARG)
		ret->words[0] = e->index;
	else
		put_extreme(spec, e, ret);
	return 0;
}

int reduce_value(const struct reduce_spec *spec, const struct reduce_state *s, enum dtype *ret_dtype,
		 union dtype_value *ret, struct reason *why)
{
	enum dtype dtype = reduce_result_dtype(spec);
	union dtype_value v = { 0 };
	int err = 0;

	switch (spec->op->answer) {
	case ANSWER_ALL:
		v.bytes[0] = !s->not_all;
		break;
	case ANSWER_ANY:
		v.bytes[0] = s->any;
		break;
	case ANSWER_COUNT:
		v.words[0] = s->n;
		break;
	case ANSWER_ARG:
	case ANSWER_EXTREME:
		err = put_chosen(spec, s, &v, why);
		break;
	case ANSWER_SUM:
		err = put_sum(spec, s, &v, why);
		break;
	case ANSWER_MEAN:
		put_means(spec, s, s->n, dtype, &v);
		break;
	case ANSWER_VAR:
	case ANSWER_STD:
		put_float(dtype, spread(spec, s, spec->op->answer == ANSWER_STD ? 2 : 1, dtype), v.bytes);
		break;
	case ANSWER_DESCRIBE:
		return reason_set(why, EINVAL, "%s has several answers: ask for %s.json", spec->op->name,
				  spec->op->name);
	}
	if (err)
		return err;
	*ret_dtype = dtype;
	*ret = v;
	return 0;
}

/* JSON knows no NaN (null here) and no infinities (strings, as in Zarr's metadata); a complex is the array of its
 * parts. */
static void json_value(FILE *out, enum dtype dtype, const uint8_t *bytes)
{
	enum dtype part = reduce_part_dtype(dtype);
	char text[DTYPE_TEXT_MAX];

	if (dtype != part) {
		fputs("[", out);
		json_value(out, part, bytes);
		fputs(", ", out);
		json_value(out, part, bytes + dtype_bytes(part));
		fputs("]", out);
		return;
	}
	dtype_text(dtype, bytes, text);
	if (dtype == DTYPE_BOOL)
		fputs(bytes[0] ? "true" : "false", out);
	else if (!strcmp(text, "nan"))
		fputs("null", out);
	else if (strstr(text, "inf"))
		fputs(text[0] == '-' ? "\"-Infinity\"" : "\"Infinity\"", out);
	else
		fputs(text, out);
}

static void describe_extreme(FILE *out, const struct reduce_spec *spec, const char *name, const struct extreme *e)
{
	union dtype_value v = { 0 };

	fprintf(out, ", \"%s\": ", name);
	if (e->have) {
		put_extreme(spec, e, &v);
		json_value(out, spec->dtype, v.bytes);
	} else {
		fputs("null", out);
	}
}

static void describe(FILE *out, const struct reduce_spec *spec, const struct reduce_state *s)
{
	enum dtype mean = mean_dtype(spec->dtype), std = reduce_part_dtype(mean);
	union dtype_value v = { 0 };
	char text[48];

	fprintf(out, "{\"dtype\": \"%s\", \"count\": %llu, \"missing\": %llu, \"sum\": ", dtype_zarr_name(spec->dtype),
		(unsigned long long)s->n, (unsigned long long)s->missing);
	if (reduce_is_float(spec->dtype)) {
		put_means(spec, s, 1, spec->dtype, &v);
		json_value(out, spec->dtype, v.bytes);
	} else {
		integer_text(integer_sum(s), text);
		fputs(text, out);
	}
	put_means(spec, s, s->n, mean, &v);
	fputs(", \"mean\": ", out);
	json_value(out, mean, v.bytes);
	put_float(std, spread(spec, s, 2, std), v.bytes);
	fputs(", \"std\": ", out);
	json_value(out, std, v.bytes);
	if (dtype_class(spec->dtype) != DTYPE_CLASS_COMPLEX) {
		describe_extreme(out, spec, "min", &s->least);
		describe_extreme(out, spec, "max", &s->greatest);
	}
	fputs("}\n", out);
}

static int answer_text(FILE *out, const struct reduce_spec *spec, const struct reduce_state *s, struct reason *why)
{
	char text[DTYPE_TEXT_MAX];
	union dtype_value v;
	enum dtype dtype;
	int err;

	if (spec->op->answer == ANSWER_DESCRIBE) {
		describe(out, spec, s);
		return 0;
	}
	if (spec->op->answer == ANSWER_SUM && !reduce_is_float(spec->dtype)) {
		integer_text(integer_sum(s), text);
	} else {
		err = reduce_value(spec, s, &dtype, &v, why);
		if (err)
			return err;
		dtype_text(dtype, v.bytes, text);
	}
	fprintf(out, "%s\n", text);
	return 0;
}

int reduce_text(const struct reduce_spec *spec, const struct reduce_state *s, char **ret, struct reason *why)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int err;

	if (!out)
		return -ENOMEM;
	err = answer_text(out, spec, s, why);
	if (fclose(out) && !err)
		err = -ENOMEM;
	if (err)
		return err;
	*ret = text;
	text = NULL;
	return 0;
}
