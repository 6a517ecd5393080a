/* reduce_update.c - feeding a state: elements in blocks that stay in the cache, or one element many times.
 *
 * A block is handed to the kernels as it lies when it is aligned, real and in machine order, and is copied to the
 * stack otherwise. Float sums go by slices (reduce_kernel_slice.h); the rare block that these cannot hold goes one
 * element at a time.
 */
#include "reduce_internal.h"
#include "reduce_kernels.h"

#define SUM_HEADROOM 2 /* powers of two that the next block may be larger */

/* One block of one part. */
struct block {
	enum dtype dtype;
	const struct kernel *kernel;
	const void *data;
	size_t n;
	uint64_t elem;
	uint64_t times; /* each element stands for so many */
	bool have_keys;
	int64_t keys[2]; /* the least and the greatest, when have_keys */
};

static double float_at(enum dtype part, const void *data, size_t i)
{
	float single;
	double v;

	if (part == DTYPE_FLOAT32) {
		memcpy(&single, (const uint8_t *)data + i * sizeof(single), sizeof(single));
		return (double)single;
	}
	memcpy(&v, (const uint8_t *)data + i * sizeof(v), sizeof(v));
	return v;
}

static void add_double(struct moments *m, double v, bool squares)
{
	struct exact_parts x = exact_split(v);

	exact_add(&m->sum, x.mant, x.exp, x.negative);
	if (squares) {
		exact_u128 square = (exact_u128)x.mant * x.mant;

		exact_add(&m->squares, (uint64_t)square, 2 * x.exp, false);
		exact_add(&m->squares, (uint64_t)(square >> 64), 2 * x.exp + 64, false);
	}
}

static void add_integer(struct exact *x, int64_t v, int exp)
{
	exact_add(x, v < 0 ? -(uint64_t)v : (uint64_t)v, exp, v < 0);
}

static void add_slices(struct moments *m, const struct kernel_slices *s, bool squares)
{
	for (unsigned k = 0; k < s->limbs; k++) {
		add_integer(&m->sum, s->sum[k], s->exp[k]);
		for (unsigned j = 0; squares && j <= k; j++)
			add_integer(&m->squares, s->square[j][k], s->exp[j] + s->exp[k] + (j < k));
	}
}

static void add_sums(struct moments *m, const struct kernel_sums *sums, int exp, bool squares)
{
	exact_add_wide(&m->sum, sums->sum, exp);
	for (int i = 0; squares && i < 2; i++) {
		exact_add(&m->squares, (uint64_t)sums->squares[i], 2 * exp + 64 * i, false);
		exact_add(&m->squares, (uint64_t)(sums->squares[i] >> 64), 2 * exp + 64 * i + 64, false);
	}
}

static void block_keys(struct block *b)
{
	if (!b->have_keys)
		b->kernel->range(b->data, b->n, b->keys);
	b->have_keys = true;
}

static bool block_has_nan(const struct block *b)
{
	int64_t inf = reduce_key_inf(b->dtype);

	return dtype_class(b->dtype) == DTYPE_CLASS_FLOAT && (b->keys[1] > inf || b->keys[0] < ~inf);
}

/* Notes NaNs and infinities, top being the bits of the greatest magnitude; true if only finite elements were seen
 * so far, here and in all earlier blocks. */
static bool note_specials(struct moments *m, struct block *b, int64_t top)
{
	int64_t inf = reduce_key_inf(b->dtype);

	if (top == inf) {
		block_keys(b);
		m->plus_inf |= b->keys[1] == inf;
		m->minus_inf |= b->keys[0] == ~inf;
	}
	m->nan |= top > inf;
	return reduce_moments_finite(m);
}

static void float16_moments(struct moments *m, const struct block *b, bool squares)
{
	int64_t fixed[KERNEL_ELEMS_MAX];
	struct kernel_sums sums;

	b->kernel->fixed(b->data, b->n, fixed);
	kernels_best()->of[DTYPE_INT64].sums(fixed, b->n, squares, &sums);
	add_sums(m, &sums, -24, squares);
}

/* The exponent that holds for a block whose greatest magnitude has these bits. */
static int top_exponent(enum dtype dtype, int64_t top)
{
	int mantissa = dtype == DTYPE_FLOAT32 ? 23 : 52, bias = dtype == DTYPE_FLOAT32 ? 127 : 1023;

	return (int)((top + (INT64_C(1) << (mantissa - 20))) >> mantissa) - bias;
}

static void float_moments(struct moments *m, const struct block *b, int64_t top, bool squares)
{
	struct kernel_slices slices;

	m->exp = top_exponent(b->dtype, top) + (squares ? 0 : SUM_HEADROOM);
	m->guessed = true;
	if (b->kernel->slices(b->data, b->n, m->exp, false, squares, &slices) ||
	    b->kernel->slices(b->data, b->n, m->exp, true, squares, &slices)) {
		add_slices(m, &slices, squares);
		return;
	}
	for (size_t i = 0; i < b->n; i++)
		add_double(m, float_at(b->dtype, b->data, i), squares);
}

/* Blocks are much alike, so what served for the last one is tried before this one is looked at. */
static bool guess_moments(struct moments *m, const struct block *b, bool squares)
{
	struct kernel_slices slices;

	if (!m->guessed || !reduce_moments_finite(m) ||
	    !b->kernel->slices(b->data, b->n, m->exp, false, squares, &slices))
		return false;
	add_slices(m, &slices, squares);
	return true;
}

static void block_moments(struct moments *m, struct block *b, bool squares)
{
	struct kernel_sums sums;
	int64_t top;

	if (dtype_class(b->dtype) != DTYPE_CLASS_FLOAT) {
		b->kernel->sums(b->data, b->n, squares, &sums);
		add_sums(m, &sums, 0, squares);
		return;
	}
	if (m->nan || guess_moments(m, b, squares))
		return;
	top = b->kernel->top(b->data, b->n);
	if (!note_specials(m, b, top))
		return;
	if (b->dtype == DTYPE_FLOAT16)
		float16_moments(m, b, squares);
	else
		float_moments(m, b, top, squares);
}

/* The first index is looked for only if the block's extreme can win. */
static void block_extreme(const struct reduce_spec *spec, struct extreme *e, struct block *b, bool greatest)
{
	struct extreme x = { .have = true };
	bool arg = spec->op->keeps & KEEPS_INDEX;
	size_t first = 0;

	block_keys(b);
	x.nan = block_has_nan(b);
	x.key[0] = x.nan ? 0 : b->keys[greatest];
	if (arg) {
		struct extreme trial = *e;

		x.index = b->elem;
		reduce_extreme_canonical(spec, &x);
		if (!reduce_extreme_offer(spec, &trial, &x, greatest))
			return;
		if (x.nan)
			b->kernel->nans(b->data, b->n, &first);
		else
			first = b->kernel->find(b->data, b->n, x.key[0]);
		x.index += first;
	}
	reduce_extreme_offer(spec, e, &x, greatest);
}

/* All but the moments. */
static void feed_real(const struct reduce_spec *spec, struct reduce_state *s, struct block *b)
{
	unsigned keeps = spec->op->keeps;
	bool any, all;
	size_t first;

	if (keeps & KEEPS_TRUTH) {
		b->kernel->truth(b->data, b->n, &any, &all);
		s->any |= any;
		s->not_all |= !all;
	}
	if (keeps & KEEPS_LEAST)
		block_extreme(spec, &s->least, b, false);
	if (keeps & KEEPS_GREATEST)
		block_extreme(spec, &s->greatest, b, true);
	if (keeps & KEEPS_MISSING && dtype_class(b->dtype) == DTYPE_CLASS_FLOAT) {
		block_keys(b);
		if (block_has_nan(b))
			s->missing += b->kernel->nans(b->data, b->n, &first) * b->times;
	}
}

static bool key_is_nan(enum dtype part, int64_t key)
{
	return key > reduce_key_inf(part) || key < ~reduce_key_inf(part);
}

/* One complex element, as keys of its parts: all but its moments. */
static void feed_complex_keys(const struct reduce_spec *spec, struct reduce_state *s, const int64_t key[2], uint64_t n,
			      uint64_t elem)
{
	enum dtype part = reduce_part_dtype(spec->dtype);
	struct extreme x = { .have = true, .nan = key_is_nan(part, key[0]) || key_is_nan(part, key[1]) };
	bool truth = (key[0] != 0 && key[0] != -1) || (key[1] != 0 && key[1] != -1);

	s->any |= truth;
	s->not_all |= !truth;
	s->missing += x.nan ? n : 0;
	if (!x.nan)
		memcpy(x.key, key, sizeof(x.key));
	if (spec->op->keeps & KEEPS_INDEX) {
		x.index = elem;
		reduce_extreme_canonical(spec, &x);
	}
	if (spec->op->keeps & KEEPS_LEAST)
		reduce_extreme_offer(spec, &s->least, &x, false);
	if (spec->op->keeps & KEEPS_GREATEST)
		reduce_extreme_offer(spec, &s->greatest, &x, true);
}

static void feed_complex(const struct reduce_spec *spec, struct reduce_state *s, struct block part[2])
{
	size_t bytes = dtype_bytes(part[0].dtype);

	for (unsigned i = 0; spec->op->keeps & KEEPS_SUM && i < 2; i++)
		block_moments(&s->part[i], &part[i], spec->op->keeps & KEEPS_SQUARES);
	if (!(spec->op->keeps & ~(unsigned)(KEEPS_SUM | KEEPS_SQUARES)))
		return;
	for (size_t i = 0; i < part[0].n; i++) {
		int64_t key[2];

		for (unsigned k = 0; k < 2; k++)
			key[k] = reduce_key(part[k].dtype, (const uint8_t *)part[k].data + i * bytes);
		feed_complex_keys(spec, s, key, 1, part[0].elem + i);
	}
}

static inline __attribute__((always_inline)) void deinterleave(const size_t bytes, const uint8_t *src, size_t n,
							       void *re, void *im)
{
	for (size_t i = 0; i < n; i++) {
		memcpy((uint8_t *)re + i * bytes, src + 2 * i * bytes, bytes);
		memcpy((uint8_t *)im + i * bytes, src + (2 * i + 1) * bytes, bytes);
	}
}

static void feed_block(const struct reduce_spec *spec, struct reduce_state *s, const uint8_t *data, size_t n,
		       uint64_t elem)
{
	enum dtype dtype = reduce_part_dtype(spec->dtype);
	size_t bytes = dtype_bytes(dtype);
	uint64_t copy[2][KERNEL_ELEMS_MAX];
	struct block b = {
		.dtype = dtype, .kernel = &kernels_best()->of[dtype], .data = data, .n = n, .elem = elem, .times = 1
	};
	struct block part[2] = { b, b };

	if (reduce_parts(spec->dtype) == 2) {
		if (bytes == 4)
			deinterleave(4, data, n, copy[0], copy[1]);
		else
			deinterleave(8, data, n, copy[0], copy[1]);
		for (unsigned i = 0; i < 2; i++) {
			part[i].data = copy[i];
			if (spec->swap)
				dtype_swap(dtype, copy[i], copy[i], n);
		}
		feed_complex(spec, s, part);
		return;
	}
	if (spec->swap)
		dtype_swap(dtype, copy[0], data, n);
	else if ((uintptr_t)data % bytes)
		memcpy(copy[0], data, n * bytes);
	if (spec->swap || (uintptr_t)data % bytes)
		b.data = copy[0];
	if (spec->op->keeps & KEEPS_SUM)
		block_moments(&s->part[0], &b, spec->op->keeps & KEEPS_SQUARES);
	feed_real(spec, s, &b);
}

void reduce_update(const struct reduce_spec *spec, struct reduce_state *s, const void *data, size_t n_elems,
		   uint64_t elem)
{
	const uint8_t *p = data;

	s->n += n_elems;
	if (!spec->op->keeps)
		return;
	for (size_t done = 0, n; done < n_elems; done += n) {
		n = MIN(n_elems - done, (size_t)KERNEL_ELEMS_MAX);
		feed_block(spec, s, p + done * dtype_bytes(spec->dtype), n, elem + done);
	}
}

/* A finite element as an integer times a power of two. */
static struct exact_parts parts_of(enum dtype part, const void *value)
{
	uint16_t half;
	int64_t key;

	switch (dtype_class(part)) {
	case DTYPE_CLASS_FLOAT:
		if (part != DTYPE_FLOAT16)
			return exact_split(float_at(part, value, 0));
		memcpy(&half, value, sizeof(half));
		return exact_split(dtype_half_to_double(half));
	case DTYPE_CLASS_UINT:
		key = reduce_key(part, value);
		return (struct exact_parts){ .mant = part == DTYPE_UINT64 ? (uint64_t)key ^ UINT64_C(1) << 63
									  : (uint64_t)key };
	default:
		key = reduce_key(part, value);
		return (struct exact_parts){ .mant = key < 0 ? -(uint64_t)key : (uint64_t)key, .negative = key < 0 };
	}
}

static void repeat_moments(struct moments *m, enum dtype part, const void *value, uint64_t n, bool squares)
{
	int64_t key = reduce_key(part, value);
	struct block b = { .dtype = part, .have_keys = true, .keys = { key, key } };
	struct exact_parts x;

	if (dtype_class(part) == DTYPE_CLASS_FLOAT && (m->nan || !note_specials(m, &b, MAX(key, ~key))))
		return;
	x = parts_of(part, value);
	exact_add_times(&m->sum, x.mant, n, x.exp, x.negative);
	if (squares)
		exact_add_times(&m->squares, (exact_u128)x.mant * x.mant, n, 2 * x.exp, false);
}

void reduce_repeat(const struct reduce_spec *spec, struct reduce_state *s, const union dtype_value *value, uint64_t n,
		   uint64_t elem)
{
	enum dtype part = reduce_part_dtype(spec->dtype);
	unsigned parts = reduce_parts(spec->dtype), keeps = spec->op->keeps;
	struct block b = {
		.dtype = part, .kernel = &kernels_best()->of[part], .data = value, .n = 1, .elem = elem, .times = n
	};
	int64_t key[2];

	if (!n)
		return;
	s->n += n;
	for (unsigned i = 0; i < parts; i++) {
		const uint8_t *at = value->bytes + i * dtype_bytes(part);

		key[i] = reduce_key(part, at);
		if (keeps & KEEPS_SUM)
			repeat_moments(&s->part[i], part, at, n, keeps & KEEPS_SQUARES);
	}
	if (parts == 2)
		feed_complex_keys(spec, s, key, n, elem);
	else
		feed_real(spec, s, &b);
}
