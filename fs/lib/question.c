/* question.c - parsing a question's name: cut off the format, then the operation, then one key=value after the other. */
#include "question.h"

#include <stdio.h>

#define SUGGEST_DISTANCE_MAX 2
#define DDOF_MAX (INT64_C(1) << 31)

struct text {
	const char *at;
	size_t len;
};

static bool text_is(struct text t, const char *word)
{
	return strlen(word) == t.len && !memcmp(t.at, word, t.len);
}

static bool text_ends(struct text t, const char *suffix)
{
	size_t len = strlen(suffix);

	return t.len > len && !memcmp(t.at + t.len - len, suffix, len);
}

/* Cuts up to the separator (or the end) off the front of *rest, and the separator. */
static struct text text_cut(struct text *rest, char separator)
{
	const char *end = memchr(rest->at, separator, rest->len);
	struct text head = { rest->at, end ? (size_t)(end - rest->at) : rest->len };
	size_t used = head.len + (end != NULL);

	rest->at += used;
	rest->len -= used;
	return head;
}

static enum question_format cut_format(struct text *t)
{
	if (text_ends(*t, ".npy")) {
		t->len -= strlen(".npy");
		return QUESTION_NPY;
	}
	if (text_ends(*t, ".json")) {
		t->len -= strlen(".json");
		return QUESTION_JSON;
	}
	return QUESTION_TEXT;
}

static int check_characters(const char *name, struct reason *why)
{
	static const char legal[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._=+@-,";
	size_t good = strspn(name, legal);

	if (!*name || strlen(name) > QUESTION_MAX)
		return reason_set(why, ENOENT, "compute/: a question has 1 to %d characters", QUESTION_MAX);
	if (name[good])
		return reason_set(why, ENOENT, "compute/: a character that no question has (at character %zu)",
				  good + 1);
	return 0;
}

/* Levenshtein's distance; b is short, an operation's name. */
static size_t edit_distance(struct text a, const char *b)
{
	size_t row[32], n = strlen(b);

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t above = row[j], change = diagonal + (a.at[i - 1] != b[j - 1]);

			row[j] = MIN(change, MIN(above, row[j - 1]) + 1);
			diagonal = above;
		}
	}
	return row[n];
}

/* The nearest operation, or NULL when none is near. */
static const char *suggest(struct text word)
{
	size_t best = MIN((size_t)SUGGEST_DISTANCE_MAX + 1, word.len);
	const char *ret = NULL;

	for (size_t i = 0; reduce_op_at(i); i++) {
		size_t d = edit_distance(word, reduce_op_name(reduce_op_at(i)));

		if (d < best) {
			best = d;
			ret = reduce_op_name(reduce_op_at(i));
		}
	}
	return ret;
}

static int find_op(const char *name, struct text word, struct question *q, struct reason *why)
{
	char text[QUESTION_MAX + 1];
	const char *near;

	memcpy(text, word.at, word.len);
	text[word.len] = '\0';
	q->op = reduce_op_find(text);
	if (q->op && reduce_op_is_json(q->op) && q->format != QUESTION_JSON)
		return reason_set(why, ENOENT, "compute/%.100s: '%s' answers as %s.json only", name, text, text);
	if (q->op)
		return 0;
	near = suggest(word);
	if (near)
		return reason_set(why, ENOENT, "compute/%.100s: no operation '%.40s'; did you mean '%s'?", name, text,
				  near);
	return reason_set(why, ENOENT, "compute/%.100s: no operation '%.40s'", name, text);
}

/* An optional sign and digits; -EINVAL for anything else, -ERANGE beyond DDOF_MAX. */
static int parse_whole(struct text t, int64_t *ret)
{
	bool negative = t.len && t.at[0] == '-';
	size_t i = negative || (t.len && t.at[0] == '+');
	int64_t v = 0;

	if (i == t.len)
		return -EINVAL;
	for (; i < t.len; i++) {
		if (t.at[i] < '0' || t.at[i] > '9')
			return -EINVAL;
		if (v <= DDOF_MAX)
			v = 10 * v + (t.at[i] - '0');
	}
	if (v > DDOF_MAX)
		return -ERANGE;
	*ret = negative ? -v : v;
	return 0;
}

static int take_ddof(const char *name, struct text value, struct question *q, struct reason *why)
{
	int err = parse_whole(value, &q->params.ddof);
	int shown = (int)MIN(value.len, (size_t)40);
	size_t at = (size_t)(value.at - name) + 1;

	if (err == -ERANGE)
		return reason_set(why, EINVAL, "compute/%.100s: ddof: '%.*s' is out of range (at character %zu)", name,
				  shown, value.at, at);
	if (err)
		return reason_set(why, EINVAL, "compute/%.100s: ddof: '%.*s' is not a whole number (at character %zu)",
				  name, shown, value.at, at);
	return 0;
}

static int take_pair(const char *name, struct text pair, struct question *q, bool *seen_ddof, struct reason *why)
{
	struct text value = pair, key;
	size_t at = (size_t)(pair.at - name) + 1;
	int shown;

	if (!memchr(pair.at, '=', pair.len))
		return reason_set(why, EINVAL, "compute/%.100s: '%.*s' is not KEY=VALUE (at character %zu)", name,
				  (int)MIN(pair.len, (size_t)40), pair.at, at);
	key = text_cut(&value, '=');
	shown = (int)MIN(key.len, (size_t)40);
	if (!text_is(key, "ddof"))
		return reason_set(why, EINVAL, "compute/%.100s: no key '%.*s' (at character %zu)", name, shown, key.at,
				  at);
	if (!reduce_op_takes(q->op, "ddof"))
		return reason_set(why, EINVAL, "compute/%.100s: %s takes no ddof (at character %zu)", name,
				  reduce_op_name(q->op), at);
	if (*seen_ddof)
		return reason_set(why, EINVAL, "compute/%.100s: ddof is given twice (at character %zu)", name, at);
	*seen_ddof = true;
	return take_ddof(name, value, q, why);
}

static void spell(struct question *q)
{
	const char *json = reduce_op_is_json(q->op) ? ".json" : "";

	if (q->params.ddof)
		snprintf(q->canonical, sizeof(q->canonical), "%s,ddof=%lld%s", reduce_op_name(q->op),
			 (long long)q->params.ddof, json);
	else
		snprintf(q->canonical, sizeof(q->canonical), "%s%s", reduce_op_name(q->op), json);
}

int question_parse(const char *name, enum dtype dtype, struct question *ret, struct reason *why)
{
	struct question q = { 0 };
	struct text rest, word;
	bool seen_ddof = false, more;
	int err = check_characters(name, why);

	if (err)
		return err;
	rest = (struct text){ name, strlen(name) };
	q.format = cut_format(&rest);
	more = memchr(rest.at, ',', rest.len);
	word = text_cut(&rest, ',');
	err = find_op(name, word, &q, why);
	if (err)
		return err;
	while (more) {
		more = memchr(rest.at, ',', rest.len);
		err = take_pair(name, text_cut(&rest, ','), &q, &seen_ddof, why);
		if (err)
			return err;
	}
	if (q.format == QUESTION_JSON && !reduce_op_is_json(q.op))
		return reason_set(why, EINVAL, "compute/%.100s: %s is one value: ask for it as text or .npy", name,
				  reduce_op_name(q.op));
	if (!reduce_op_defined(q.op, dtype))
		return reason_set(why, EINVAL, "compute/%.100s: %s is not defined for %s", name, reduce_op_name(q.op),
				  dtype_valid(dtype) ? dtype_zarr_name(dtype) : "this dtype");
	spell(&q);
	*ret = q;
	return 0;
}
