#include "npy.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define VERSION_END 8       /* magic, major, minor */
#define ALIGN_BYTES 64      /* the data starts at a multiple of it */
#define GROWTH_DIGITS 21    /* NumPy keeps room for a first axis of so many digits */
#define DESCR_MAX 64        /* of a descr that a reason names */
#define DICT_TEXT_MAX 1024u /* the longest dict that npy_format makes: 32 axes of 20 digits */

/* A bounded cursor over the dict's text. */
struct cursor {
	const char *text;
	size_t len, at;
	size_t base; /* of text in the file, for reasons */
	struct reason *why;
};

static int refuse(const struct cursor *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(const struct cursor *c, int err, const char *fmt, ...)
{
	char what[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return reason_set(c->why, err, "npy header: byte %zu: %s", c->base + c->at, what);
}

static char peek(const struct cursor *c)
{
	return c->at < c->len ? c->text[c->at] : 0;
}

static void skip_space(struct cursor *c)
{
	while (c->at < c->len && memchr(" \t\r\n", c->text[c->at], 4))
		c->at++;
}

/* Takes the character (after spaces) when it is next. */
static bool take(struct cursor *c, char what)
{
	skip_space(c);
	if (peek(c) != what)
		return false;
	c->at++;
	return true;
}

static int expect(struct cursor *c, char what)
{
	return take(c, what) ? 0 : refuse(c, EINVAL, "'%c' is missing", what);
}

static bool take_word(struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	skip_space(c);
	if (c->len - c->at < n || memcmp(c->text + c->at, word, n) != 0)
		return false;
	c->at += n;
	return true;
}

/* The text up to the closing quote, cut to ret's room; what cannot be shown on a line becomes '?'. */
static int parse_string(struct cursor *c, char ret[DESCR_MAX])
{
	size_t n = 0;
	char quote;

	skip_space(c);
	quote = peek(c);
	if (quote != '\'' && quote != '"')
		return refuse(c, EINVAL, "a string is missing");
	for (c->at++; peek(c) != quote; c->at++) {
		char ch = peek(c);

		if (c->at == c->len || ch == '\n' || ch == '\\')
			return refuse(c, EINVAL, "the string does not end");
		if (n < DESCR_MAX - 1)
			ret[n++] = ch >= ' ' && ch <= '~' ? ch : '?';
	}
	c->at++;
	ret[n] = 0;
	return 0;
}

/* Anything but a string: a structured dtype is a list of tuples. */
static int refuse_descr(const struct cursor *c)
{
	char shown[DESCR_MAX];
	size_t n = 0;

	for (size_t i = c->at; i < c->len && c->text[i] != '\n' && n < sizeof(shown) - 1; i++)
		shown[n++] = c->text[i] >= ' ' && c->text[i] <= '~' ? c->text[i] : '?';
	shown[n] = 0;
	return refuse(c, ENOTSUP, "descr: structured dtype %s is not supported", shown);
}

static int parse_descr(struct cursor *c, struct npy *h)
{
	char descr[DESCR_MAX];
	struct cursor start;
	int err;

	skip_space(c);
	start = *c;
	if (peek(c) == '[')
		return refuse_descr(c);
	err = parse_string(c, descr);
	if (err)
		return err;
	if (dtype_from_npy(descr, &h->dtype, &h->big_endian) < 0)
		return refuse(&start, ENOTSUP, "descr: '%s' is not supported", descr);
	return 0;
}

static int parse_order(struct cursor *c, struct npy *h)
{
	if (take_word(c, "True"))
		h->fortran_order = true;
	else if (take_word(c, "False"))
		h->fortran_order = false;
	else
		return refuse(c, EINVAL, "fortran_order: neither True nor False");
	return 0;
}

static int parse_length(struct cursor *c, uint64_t *ret)
{
	uint64_t v = 0;
	size_t first;

	skip_space(c);
	first = c->at;
	for (; peek(c) >= '0' && peek(c) <= '9'; c->at++) {
		if (mul_overflows(v, 10, &v) || add_overflows(v, (uint64_t)(peek(c) - '0'), &v))
			return refuse(c, EINVAL, "shape: a length that 64 bits cannot hold");
	}
	if (c->at == first || (c->at - first > 1 && c->text[first] == '0'))
		return refuse(c, EINVAL, "shape: a length is missing or malformed");
	*ret = v;
	return 0;
}

/* A tuple of whole numbers: (), (3,), (3, 4), (3, 4,). */
static int parse_shape(struct cursor *c, struct npy *h)
{
	unsigned rank = 0;
	bool comma = true;
	int err;

	if (!take(c, '('))
		return refuse(c, EINVAL, "shape: must be a tuple");
	while (!take(c, ')')) {
		if (!comma)
			return refuse(c, EINVAL, "shape: ',' or ')' is missing");
		if (rank == SLAB_RANK_MAX)
			return refuse(c, EINVAL, "shape: more than %u axes", SLAB_RANK_MAX);
		err = parse_length(c, &h->shape[rank]);
		if (err)
			return err;
		rank++;
		comma = take(c, ',');
	}
	if (rank == 1 && !comma)
		return refuse(c, EINVAL, "shape: a tuple of one length needs a comma");
	h->rank = rank;
	return 0;
}

static const struct field {
	const char *key;
	int (*parse)(struct cursor *c, struct npy *h);
} fields[] = {
	{ "descr", parse_descr },
	{ "fortran_order", parse_order },
	{ "shape", parse_shape },
};

static int parse_item(struct cursor *c, struct npy *h, unsigned *seen)
{
	struct cursor start = *c;
	char key[DESCR_MAX];
	int err = parse_string(c, key);

	if (err)
		return err;
	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		if (strcmp(key, fields[i].key) != 0)
			continue;
		if (*seen & 1u << i)
			return refuse(&start, EINVAL, "'%s' comes twice", key);
		*seen |= 1u << i;
		err = expect(c, ':');
		return err ? err : fields[i].parse(c, h);
	}
	return refuse(&start, EINVAL, "'%s' is not a key of an npy header", key);
}

static int parse_dict(struct cursor *c, struct npy *h)
{
	unsigned seen = 0;
	int err = expect(c, '{');

	while (!err && !take(c, '}')) {
		err = parse_item(c, h, &seen);
		if (!err && !take(c, ',')) {
			err = expect(c, '}');
			break;
		}
	}
	if (err)
		return err;
	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		if (!(seen & 1u << i))
			return refuse(c, EINVAL, "'%s' is missing", fields[i].key);
	}
	skip_space(c);
	return c->at == c->len ? 0 : refuse(c, EINVAL, "text after the dict");
}

static int need_more(size_t need, size_t *ret_need)
{
	if (ret_need)
		*ret_need = need;
	return -EAGAIN;
}

int npy_parse(const void *buf, size_t len, struct npy *ret, size_t *ret_need, struct reason *why)
{
	const uint8_t *b = buf;
	struct npy h = { .rank = 0 };
	size_t dict_at, dict_len;
	int err;

	if (len && memcmp(b, MAGIC, MIN(len, MAGIC_BYTES)) != 0)
		return reason_set(why, EINVAL, "npy header: byte 0: not a .npy file");
	if (len < VERSION_END)
		return need_more(VERSION_END + 2, ret_need);
	if (b[6] < 1 || b[6] > 3 || b[7] != 0)
		return reason_set(why, EINVAL, "npy header: byte 6: version %u.%u is not known", b[6], b[7]);
	dict_at = VERSION_END + (b[6] == 1 ? 2 : 4);
	if (len < dict_at)
		return need_more(dict_at, ret_need);
	dict_len = (size_t)b[8] | (size_t)b[9] << 8;
	if (b[6] > 1)
		dict_len |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
	if (dict_len > NPY_HEADER_MAX - dict_at)
		return reason_set(why, EINVAL,
				  "npy header: byte 8: a header of %zu bytes, of which slabfs reads at most %u",
				  dict_at + dict_len, NPY_HEADER_MAX);
	if (len < dict_at + dict_len)
		return need_more(dict_at + dict_len, ret_need);
	struct cursor c = { .text = (const char *)b + dict_at, .len = dict_len, .base = dict_at, .why = why };
	err = parse_dict(&c, &h);
	if (err)
		return err;
	h.header_bytes = dict_at + dict_len;
	*ret = h;
	return 0;
}

/* The dict as numpy.lib.format writes it, with the spaces that let the growing axis grow in place. */
static size_t put_dict(const struct npy *h, char ret[DICT_TEXT_MAX])
{
	char descr[8], first[24];
	uint64_t growing;
	size_t n;

	dtype_npy_descr(h->dtype, h->big_endian, descr);
	n = (size_t)snprintf(ret, DICT_TEXT_MAX, "{'descr': '%s', 'fortran_order': %s, 'shape': (", descr,
			     h->fortran_order ? "True" : "False");
	for (unsigned k = 0; k < h->rank; k++)
		n += (size_t)snprintf(ret + n, DICT_TEXT_MAX - n, "%s%" PRIu64, k ? ", " : "", h->shape[k]);
	n += (size_t)snprintf(ret + n, DICT_TEXT_MAX - n, "%s), }", h->rank == 1 ? "," : "");
	if (!h->rank)
		return n;
	growing = h->shape[h->fortran_order ? h->rank - 1 : 0];
	return n + (size_t)snprintf(ret + n, DICT_TEXT_MAX - n, "%*s",
				    GROWTH_DIGITS - snprintf(first, sizeof(first), "%" PRIu64, growing), "");
}

int npy_format(const struct npy *h, size_t min_bytes, void *ret_buf, size_t cap, size_t *ret_len)
{
	char dict[DICT_TEXT_MAX], *out = ret_buf;
	size_t n, total;

	if (!dtype_valid(h->dtype) || h->rank > SLAB_RANK_MAX || min_bytes > NPY_HEADER_MAX)
		return -EINVAL;
	n = put_dict(h, dict);
	/* NumPy pads a header that is already aligned with another 64 spaces. */
	total = (VERSION_END + 2 + n + 1) / ALIGN_BYTES * ALIGN_BYTES + ALIGN_BYTES;
	total = MAX(total, div_up(min_bytes, ALIGN_BYTES) * ALIGN_BYTES);
	if (total > cap)
		return -ENOSPC;
	memset(out, ' ', total);
	memcpy(out, MAGIC "\x01", VERSION_END);
	out[8] = (char)((total - VERSION_END - 2) & 0xff);
	out[9] = (char)((total - VERSION_END - 2) >> 8);
	memcpy(out + VERSION_END + 2, dict, n);
	out[total - 1] = '\n';
	*ret_len = total;
	return 0;
}
