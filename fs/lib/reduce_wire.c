/* reduce_wire.c - the wire form of a state: a fixed header, then the parts that the operation keeps, all
 * little-endian.
 *
 *   header     struct wire_state
 *   missing    le64                                     if kept
 *   truth      le64: 1 any, 2 not all                   if kept
 *   least, greatest   struct wire_extreme               if kept, each
 *   for each part (real; imaginary): struct wire_moments   if kept, then its sum and, if kept, its squares:
 *     struct wire_exact, then n digits of 32 bits, the lowest first, neither the first nor the last of them 0
 *
 * The form is canonical: equal states give equal bytes, and decode takes nothing else.
 */
#include "reduce_internal.h"

#define WIRE_STATE_VERSION 1
#define STATE_ELEMS_MAX (UINT64_C(1) << 62)

struct wire_state {
	uint8_t version, op, dtype, reserved[5];
	struct le64 ddof;
	struct le64 n;
} __attribute__((packed));
_Static_assert(sizeof(struct wire_state) == 24, "the header of a state");

enum { EXTREME_HAVE = 1, EXTREME_NAN = 2 };
struct wire_extreme {
	struct le64 flags, index, key[2];
} __attribute__((packed));
_Static_assert(sizeof(struct wire_extreme) == 32, "an extreme");

enum { MOMENTS_NAN = 1, MOMENTS_PLUS_INF = 2, MOMENTS_MINUS_INF = 4 };
struct wire_moments {
	struct le64 flags;
} __attribute__((packed));

struct wire_exact {
	struct le16 first, n;
	struct le32 negative;
} __attribute__((packed));
_Static_assert(sizeof(struct wire_exact) == 8, "a sum");

#define STATE_BYTES_MAX                                                                                                \
	(sizeof(struct wire_state) + 16 + 2 * sizeof(struct wire_extreme) +                                            \
	 2 * (sizeof(struct wire_moments) + 2 * (sizeof(struct wire_exact) + 4 * EXACT_DIGITS)))
_Static_assert(STATE_BYTES_MAX <= REDUCE_WIRE_MAX, "every state fits in a reply");

struct writer {
	uint8_t *at;
};

static void put(struct writer *w, const void *p, size_t len)
{
	memcpy(w->at, p, len);
	w->at += len;
}

static void put_u64(struct writer *w, uint64_t v)
{
	struct le64 le = le64_of(v);

	put(w, &le, sizeof(le));
}

static void put_extreme(struct writer *w, const struct extreme *e)
{
	put_u64(w, (e->have ? EXTREME_HAVE : 0) | (e->nan ? EXTREME_NAN : 0));
	put_u64(w, e->index);
	put_u64(w, (uint64_t)e->key[0]);
	put_u64(w, (uint64_t)e->key[1]);
}

static void put_exact(struct writer *w, const struct exact *x)
{
	struct wire_exact h = { 0 };
	struct big mag;
	unsigned first = 0;
	bool negative = big_of_exact(&mag, x);

	while (first < mag.n && !mag.digit[first])
		first++;
	h.first = le16_of((uint16_t)first);
	h.n = le16_of((uint16_t)(mag.n - first));
	h.negative = le32_of(negative);
	put(w, &h, sizeof(h));
	for (unsigned i = first; i < mag.n; i++) {
		struct le32 digit = le32_of(mag.digit[i]);

		put(w, &digit, sizeof(digit));
	}
}

/* What an infinity or NaN has decided is written alike, whatever was added before it was met. */
static void put_moments(struct writer *w, const struct moments *m, unsigned keeps)
{
	static const struct exact zero;
	bool finite = reduce_moments_finite(m);
	bool nan = m->nan || (m->plus_inf && m->minus_inf) ||
		   (!finite && keeps & KEEPS_SQUARES && !(keeps & KEEPS_MISSING));

	if (nan)
		put_u64(w, MOMENTS_NAN);
	else
		put_u64(w, (m->plus_inf ? MOMENTS_PLUS_INF : 0) | (m->minus_inf ? MOMENTS_MINUS_INF : 0));
	put_exact(w, finite ? &m->sum : &zero);
	if (keeps & KEEPS_SQUARES)
		put_exact(w, finite ? &m->squares : &zero);
}

int reduce_encode(const struct reduce_spec *spec, const struct reduce_state *s, void **ret, size_t *ret_len)
{
	unsigned keeps = spec->op->keeps;
	struct wire_state h = {
		.version = WIRE_STATE_VERSION,
		.op = spec->op->id,
		.dtype = (uint8_t)spec->dtype,
		.ddof = le64_of((uint64_t)spec->params.ddof),
		.n = le64_of(s->n),
	};
	uint8_t *buf = malloc(STATE_BYTES_MAX);
	struct writer w = { buf };

	if (!buf)
		return -ENOMEM;
	put(&w, &h, sizeof(h));
	if (keeps & KEEPS_MISSING)
		put_u64(&w, s->missing);
	if (keeps & KEEPS_TRUTH)
		put_u64(&w, (s->any ? 1 : 0) | (s->not_all ? 2 : 0));
	if (keeps & KEEPS_LEAST)
		put_extreme(&w, &s->least);
	if (keeps & KEEPS_GREATEST)
		put_extreme(&w, &s->greatest);
	for (unsigned i = 0; keeps & KEEPS_SUM && i < reduce_parts(spec->dtype); i++)
		put_moments(&w, &s->part[i], keeps);
	*ret = buf;
	*ret_len = (size_t)(w.at - buf);
	return 0;
}

struct reader {
	const uint8_t *at;
	size_t left;
	const char *wrong; /* the first thing found wrong */
};

static void refuse(struct reader *r, const char *what)
{
	if (!r->wrong)
		r->wrong = what;
}

/* Zeros when nothing is left. */
static void get(struct reader *r, void *p, size_t len)
{
	if (len > r->left) {
		refuse(r, "it is cut short");
		memset(p, 0, len);
		r->left = 0;
		return;
	}
	memcpy(p, r->at, len);
	r->at += len;
	r->left -= len;
}

static uint64_t get_u64(struct reader *r)
{
	struct le64 v;

	get(r, &v, sizeof(v));
	return le64_get(v);
}

static bool key_valid(enum dtype part, int64_t key)
{
	unsigned bits = 8 * (unsigned)dtype_bytes(part);

	switch (dtype_class(part)) {
	case DTYPE_CLASS_BOOL:
		return key == 0 || key == 1;
	case DTYPE_CLASS_UINT:
		return bits == 64 || (key >= 0 && key < INT64_C(1) << bits);
	case DTYPE_CLASS_INT:
		return bits == 64 || (key >= -(INT64_C(1) << (bits - 1)) && key < INT64_C(1) << (bits - 1));
	default:
		return key <= reduce_key_inf(part) && key >= ~reduce_key_inf(part);
	}
}

static void get_extreme(struct reader *r, const struct reduce_spec *spec, const struct reduce_state *s,
			struct extreme *ret)
{
	enum dtype part = reduce_part_dtype(spec->dtype);
	uint64_t flags = get_u64(r);
	struct extreme e = { .have = flags & EXTREME_HAVE, .nan = flags & EXTREME_NAN }, canonical;

	e.index = get_u64(r);
	e.key[0] = (int64_t)get_u64(r);
	e.key[1] = (int64_t)get_u64(r);
	if (flags > (EXTREME_HAVE | EXTREME_NAN) || (e.nan && !e.have) || (e.nan && !reduce_is_float(spec->dtype)) ||
	    e.have != (s->n > 0))
		refuse(r, "flags of an extreme");
	if (e.index && (!e.have || !(spec->op->keeps & KEEPS_INDEX)))
		refuse(r, "an index where there is none");
	if (!e.have || e.nan ? e.key[0] || e.key[1] : !key_valid(part, e.key[0]) || !key_valid(part, e.key[1]))
		refuse(r, "an extreme that is no element");
	if (e.key[1] && reduce_parts(spec->dtype) == 1)
		refuse(r, "an imaginary part of a real number");
	canonical = e;
	reduce_extreme_canonical(spec, &canonical);
	if (spec->op->keeps & KEEPS_INDEX && memcmp(canonical.key, e.key, sizeof(e.key)))
		refuse(r, "a negative zero where it is not told from zero");
	*ret = e;
}

/* The digits that a sum (of squares) of this dtype can have. */
static void digit_range(enum dtype dtype, bool squares, unsigned *ret_first, unsigned *ret_end)
{
	if (!reduce_is_float(dtype)) {
		*ret_first = EXACT_ONE_DIGIT;
		*ret_end = EXACT_ONE_DIGIT + (squares ? 6 : 4);
	} else {
		*ret_first = squares ? 0 : EXACT_SUM_FIRST;
		*ret_end = squares ? EXACT_DIGITS : EXACT_SUM_END;
	}
}

static void get_exact(struct reader *r, enum dtype dtype, bool squares, bool finite, struct exact *ret)
{
	struct wire_exact h;
	struct le32 digit = le32_of(1);
	unsigned first, end, n, low, negative;

	get(r, &h, sizeof(h));
	first = le16_get(h.first);
	n = le16_get(h.n);
	negative = le32_get(h.negative);
	digit_range(dtype, squares, &low, &end);
	if (n ? first < low || first + n > end : first != 0)
		refuse(r, "digits out of range");
	if (negative > (n && !squares))
		refuse(r, "the sign of a sum");
	if (n && !finite)
		refuse(r, "a sum of infinities or NaNs");
	for (unsigned i = 0; i < n && !r->wrong; i++) {
		get(r, &digit, sizeof(digit));
		if (i == 0 && !le32_get(digit))
			refuse(r, "padding of a sum");
		ret->digit[first + i] = negative ? -(int64_t)le32_get(digit) : (int64_t)le32_get(digit);
	}
	if (n && (!le32_get(digit) || (first + n == end && le32_get(digit) >> 31)))
		refuse(r, "the top digit of a sum");
	if (!r->wrong)
		exact_settle(ret);
}

static void get_moments(struct reader *r, const struct reduce_spec *spec, struct moments *ret)
{
	uint64_t flags = get_u64(r);
	bool keeps_squares = spec->op->keeps & KEEPS_SQUARES;

	ret->nan = flags & MOMENTS_NAN;
	ret->plus_inf = flags & MOMENTS_PLUS_INF;
	ret->minus_inf = flags & MOMENTS_MINUS_INF;
	if (flags & (flags - 1) || flags > MOMENTS_MINUS_INF || (flags && !reduce_is_float(spec->dtype)) ||
	    (flags > MOMENTS_NAN && keeps_squares && !(spec->op->keeps & KEEPS_MISSING)))
		refuse(r, "flags of a sum");
	get_exact(r, spec->dtype, false, !flags, &ret->sum);
	if (keeps_squares)
		get_exact(r, spec->dtype, true, !flags, &ret->squares);
}

static void get_header(struct reader *r, const struct reduce_spec *spec, struct reduce_state *s)
{
	static const uint8_t zeros[sizeof(((struct wire_state *)0)->reserved)];
	struct wire_state h;

	get(r, &h, sizeof(h));
	if (h.version != WIRE_STATE_VERSION)
		refuse(r, "its version");
	if (h.op != spec->op->id || h.dtype != spec->dtype || le64_get(h.ddof) != (uint64_t)spec->params.ddof)
		refuse(r, "it answers another question");
	if (memcmp(h.reserved, zeros, sizeof(zeros)))
		refuse(r, "reserved bytes");
	s->n = le64_get(h.n);
	if (s->n > STATE_ELEMS_MAX)
		refuse(r, "too many elements");
}

int reduce_decode(const struct reduce_spec *spec, const void *buf, size_t len, struct reduce_state **ret,
		  struct reason *why)
{
	struct reader r = { buf, len, NULL };
	unsigned keeps = spec->op->keeps;
	struct reduce_state *s;
	uint64_t truth = 0;

	if (reduce_state_new(spec, &s))
		return reason_set(why, ENOMEM, "no memory for the state of %s", spec->op->name);
	get_header(&r, spec, s);
	if (keeps & KEEPS_MISSING)
		s->missing = get_u64(&r);
	if (keeps & KEEPS_TRUTH)
		truth = get_u64(&r);
	s->any = truth & 1;
	s->not_all = truth & 2;
	if (truth > 3 || (keeps & KEEPS_TRUTH && !truth != !s->n) || s->missing > s->n)
		refuse(&r, "counts that do not agree");
	if (keeps & KEEPS_LEAST)
		get_extreme(&r, spec, s, &s->least);
	if (keeps & KEEPS_GREATEST)
		get_extreme(&r, spec, s, &s->greatest);
	for (unsigned i = 0; keeps & KEEPS_SUM && i < reduce_parts(spec->dtype); i++)
		get_moments(&r, spec, &s->part[i]);
	if (r.left)
		refuse(&r, "bytes after its end");
	if (r.wrong) {
		reduce_state_free(s);
		return reason_set(why, EPROTO, "the state of %s over %s is not well-formed: %s", spec->op->name,
				  dtype_zarr_name(spec->dtype), r.wrong);
	}
	*ret = s;
	return 0;
}
