/* reduce.c - the table of operations, and states: making, merging, and the order of extremes. */
#include "reduce_internal.h"

#define KEEPS_MOMENTS (KEEPS_SUM | KEEPS_SQUARES)
#define KEEPS_EXTREMES (KEEPS_LEAST | KEEPS_GREATEST)

static const struct reduce_op ops[] = {
	{ "all", 1, KEEPS_TRUTH, ANSWER_ALL, false },
	{ "any", 2, KEEPS_TRUTH, ANSWER_ANY, false },
	{ "argmax", 3, KEEPS_GREATEST | KEEPS_INDEX, ANSWER_ARG, false },
	{ "argmin", 4, KEEPS_LEAST | KEEPS_INDEX, ANSWER_ARG, false },
	{ "count", 5, 0, ANSWER_COUNT, false },
	{ "describe", 6, KEEPS_MOMENTS | KEEPS_EXTREMES | KEEPS_MISSING, ANSWER_DESCRIBE, true },
	{ "max", 7, KEEPS_GREATEST, ANSWER_EXTREME, false },
	{ "mean", 8, KEEPS_SUM, ANSWER_MEAN, false },
	{ "min", 9, KEEPS_LEAST, ANSWER_EXTREME, false },
	{ "std", 10, KEEPS_MOMENTS, ANSWER_STD, true },
	{ "sum", 11, KEEPS_SUM, ANSWER_SUM, false },
	{ "var", 12, KEEPS_MOMENTS, ANSWER_VAR, true },
};

const struct reduce_op *reduce_op_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		if (!strcmp(ops[i].name, name))
			return &ops[i];
	}
	return NULL;
}

const struct reduce_op *reduce_op_at(size_t i)
{
	return i < ARRAY_LEN(ops) ? &ops[i] : NULL;
}

const char *reduce_op_name(const struct reduce_op *op)
{
	return op->name;
}

bool reduce_op_defined(const struct reduce_op *op, enum dtype dtype)
{
	return op && dtype_valid(dtype);
}

bool reduce_op_takes(const struct reduce_op *op, const char *key)
{
	return op->takes_ddof && !strcmp(key, "ddof");
}

bool reduce_op_is_json(const struct reduce_op *op)
{
	return op->answer == ANSWER_DESCRIBE;
}

int reduce_state_new(const struct reduce_spec *spec, struct reduce_state **ret)
{
	struct reduce_state *s = calloc(1, sizeof(*s));

	(void)spec;
	if (!s)
		return -ENOMEM;
	*ret = s;
	return 0;
}

void reduce_state_free(struct reduce_state *s)
{
	free(s);
}

static uint64_t float_bits(enum dtype part, const void *value)
{
	uint64_t bits = 0;

	memcpy((uint8_t *)&bits + (__BYTE_ORDER == __BIG_ENDIAN ? 8 - dtype_bytes(part) : 0), value, dtype_bytes(part));
	return bits;
}

/* The bits of `part`'s sign, and of all below it. */
static uint64_t sign_bit(enum dtype part)
{
	return UINT64_C(1) << (8 * dtype_bytes(part) - 1);
}

int64_t reduce_key(enum dtype part, const void *value)
{
	uint64_t bits = float_bits(part, value), sign = sign_bit(part);

	switch (dtype_class(part)) {
	case DTYPE_CLASS_BOOL:
		return bits != 0;
	case DTYPE_CLASS_UINT:
		return (int64_t)(part == DTYPE_UINT64 ? bits ^ sign : bits);
	case DTYPE_CLASS_INT:
		return (int64_t)((bits ^ sign) - sign);
	default:
		return bits & sign ? ~(int64_t)(bits & (sign - 1)) : (int64_t)bits;
	}
}

void reduce_key_value(enum dtype part, int64_t key, void *ret)
{
	uint64_t bits = (uint64_t)key, sign = sign_bit(part);

	if (part == DTYPE_UINT64)
		bits ^= sign;
	else if (dtype_class(part) == DTYPE_CLASS_FLOAT && key < 0)
		bits = ~bits | sign;
	memcpy(ret, (uint8_t *)&bits + (__BYTE_ORDER == __BIG_ENDIAN ? 8 - dtype_bytes(part) : 0), dtype_bytes(part));
}

int64_t reduce_key_inf(enum dtype part)
{
	return part == DTYPE_FLOAT16 ? 0x7c00 : part == DTYPE_FLOAT32 ? 0x7f800000 : INT64_C(0x7ff0000000000000);
}

static int compare_keys(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

/* 0.0 for -0.0, whose key is -1. */
static int64_t canonical_key(bool is_float, int64_t key)
{
	return is_float && key == -1 ? 0 : key;
}

static int compare_extremes(bool is_float, const struct extreme *a, const struct extreme *b)
{
	int c = 0;

	for (int i = 0; i < 2 && !c; i++)
		c = compare_keys(canonical_key(is_float, a->key[i]), canonical_key(is_float, b->key[i]));
	for (int i = 0; i < 2 && !c; i++)
		c = compare_keys(a->key[i], b->key[i]);
	return c;
}

void reduce_extreme_canonical(const struct reduce_spec *spec, struct extreme *x)
{
	for (int i = 0; i < 2; i++)
		x->key[i] = canonical_key(reduce_is_float(spec->dtype), x->key[i]);
}

bool reduce_extreme_offer(const struct reduce_spec *spec, struct extreme *e, const struct extreme *candidate,
			  bool greatest)
{
	int c;

	if (!candidate->have)
		return false;
	if (!e->have) {
		c = -1;
	} else if (candidate->nan != e->nan) {
		c = candidate->nan ? -1 : 1;
	} else {
		c = compare_extremes(reduce_is_float(spec->dtype), candidate, e) * (greatest ? -1 : 1);
		if (!c)
			c = candidate->index < e->index ? -1 : 1;
	}
	if (c < 0)
		*e = *candidate;
	return c < 0;
}

bool reduce_moments_finite(const struct moments *m)
{
	return !m->nan && !m->plus_inf && !m->minus_inf;
}

static void moments_merge(struct moments *into, const struct moments *from, unsigned keeps)
{
	into->nan |= from->nan;
	into->plus_inf |= from->plus_inf;
	into->minus_inf |= from->minus_inf;
	if (!reduce_moments_finite(into))
		return;
	if (keeps & KEEPS_SUM)
		exact_merge(&into->sum, &from->sum);
	if (keeps & KEEPS_SQUARES)
		exact_merge(&into->squares, &from->squares);
}

void reduce_merge(const struct reduce_spec *spec, struct reduce_state *into, const struct reduce_state *from)
{
	into->n += from->n;
	into->missing += from->missing;
	into->any |= from->any;
	into->not_all |= from->not_all;
	reduce_extreme_offer(spec, &into->least, &from->least, false);
	reduce_extreme_offer(spec, &into->greatest, &from->greatest, true);
	for (unsigned i = 0; i < reduce_parts(spec->dtype); i++)
		moments_merge(&into->part[i], &from->part[i], spec->op->keeps);
}
