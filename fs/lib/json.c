/* json-c has a type of the name that json.h gives to a function. */
#define json_bool json_c_bool
#include <json-c/json.h>
#undef json_bool

#include <stdio.h>

#include "json.h"

#define JSON_DEPTH_MAX 32
#define JSON_BYTES_MAX (16 << 20)
#define PARSES_MAX 8 /* before a text that fails in a new way each time is taken for a lack of memory */

/* `struct json` has no definition: a pointer to one is a json-c node.  json-c holds JSON's null as NULL, which here means
 * "missing"; so null is the address of null_node. */
static const char null_node;

static const struct json *wrap(struct json_object *o)
{
	return o ? (const struct json *)o : (const struct json *)&null_node;
}

static struct json_object *unwrap(const struct json *j)
{
	return j == (const struct json *)&null_node ? NULL : (struct json_object *)(uintptr_t)j;
}

static bool is_type(const struct json *j, enum json_type type)
{
	return j && json_object_is_type(unwrap(j), type);
}

static bool in_number(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* json-c clamps integers that 64 bits cannot hold, and takes "1." for a number; a document that says one thing and is read
 * as another is refused instead. */
static bool number_fits(const char *text, size_t len)
{
	char copy[24];

	if (text[len - 1] < '0' || text[len - 1] > '9')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' || text[i] == 'e' || text[i] == 'E')
			return true;
	}
	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = 0;
	errno = 0;
	if (copy[0] == '-')
		strtoll(copy, NULL, 10);
	else
		strtoull(copy, NULL, 10);
	return errno == 0;
}

static size_t skip_string(const char *text, size_t len, size_t at)
{
	for (at++; at < len && text[at] != '"'; at++)
		at += text[at] == '\\';
	return MIN(at + 1, len);
}

/* What json-c lets pass and JSON does not: a look at the tokens before it. */
static int check_tokens(const char *text, size_t len, struct reason *why)
{
	size_t end;

	for (size_t at = 0; at < len; at = end) {
		end = at + 1;
		if (text[at] == '"') {
			end = skip_string(text, len, at);
		} else if (text[at] == '\'') {
			return reason_set(why, EINVAL, "json: byte %zu: strings are in double quotes", at);
		} else if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) {
			while (end < len && in_number(text[end]))
				end++;
			/* "-Infinity", which Python writes, is a single '-' here. */
			if (end - at > 1 && !number_fits(text + at, end - at))
				return reason_set(why, EINVAL,
						  "json: byte %zu: a number that 64 bits cannot hold, or not a number",
						  at);
		}
	}
	return 0;
}

/* Parsing goes on behind a complete number only when something ends it, hence the NUL. */
static struct json_object *parse_all(struct json_tokener *tok, const char *text, size_t len, size_t *ret_end)
{
	struct json_object *root = json_tokener_parse_ex(tok, text, (int)len);

	*ret_end = json_tokener_get_parse_end(tok);
	if (json_tokener_get_error(tok) == json_tokener_continue) {
		root = json_tokener_parse_ex(tok, "", 1);
		*ret_end = len;
	}
	return root;
}

static int parse_once(const char *text, size_t len, struct json **ret, struct reason *why)
{
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);
	struct json_object *root;
	enum json_tokener_error err;
	size_t end;

	if (!tok)
		return reason_set(why, ENOMEM, "json: out of memory");
	json_tokener_set_flags(tok,
			       JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS | JSON_TOKENER_VALIDATE_UTF8);
	root = parse_all(tok, text, len, &end);
	err = json_tokener_get_error(tok);
	json_tokener_free(tok);
	if (err != json_tokener_success)
		return reason_set(why, EINVAL, "json: byte %zu: %s", end, json_tokener_error_desc(err));
	while (end < len && strchr(" \t\r\n", text[end]) && text[end])
		end++;
	if (end < len) {
		json_object_put(root);
		return reason_set(why, EINVAL, "json: byte %zu: text after the end of the document", end);
	}
	*ret = (struct json *)(uintptr_t)wrap(root);
	return 0;
}

/* json-c takes an allocation that fails for a fault of the text, so a text is at fault only when it fails twice in the same way. */
int json_parse(const char *text, size_t len, struct json **ret, struct reason *why)
{
	struct reason first, again;
	int err;

	if (len > JSON_BYTES_MAX)
		return reason_set(why, EFBIG, "json: %zu bytes, of which slabfs reads at most %d", len, JSON_BYTES_MAX);
	if (check_tokens(text, len, why) < 0)
		return -EINVAL;
	err = parse_once(text, len, ret, &first);
	for (int i = 0; i < PARSES_MAX && err == -EINVAL; i++) {
		err = parse_once(text, len, ret, &again);
		if (err == -EINVAL && !strcmp(first.text, again.text))
			return reason_set(why, EINVAL, "%s", again.text);
		first = again;
	}
	return err ? reason_set(why, ENOMEM, "json: out of memory") : 0;
}

void json_free(struct json *root)
{
	if (root)
		json_object_put(unwrap(root));
}

bool json_is_object(const struct json *j)
{
	return is_type(j, json_type_object);
}

bool json_is_array(const struct json *j)
{
	return is_type(j, json_type_array);
}

bool json_is_string(const struct json *j)
{
	return is_type(j, json_type_string);
}

bool json_is_null(const struct json *j)
{
	return is_type(j, json_type_null);
}

size_t json_length(const struct json *array)
{
	return json_is_array(array) ? json_object_array_length(unwrap(array)) : 0;
}

const struct json *json_at(const struct json *array, size_t i)
{
	return i < json_length(array) ? wrap(json_object_array_get_idx(unwrap(array), i)) : NULL;
}

const struct json *json_get(const struct json *object, const char *key)
{
	struct json_object *value;

	if (!json_is_object(object) || !json_object_object_get_ex(unwrap(object), key, &value))
		return NULL;
	return wrap(value);
}

int json_each(const struct json *object, int (*fn)(void *arg, const char *key, const struct json *value), void *arg)
{
	struct lh_entry *e;

	if (!json_is_object(object))
		return -EINVAL;
	for (e = lh_table_head(json_object_get_object(unwrap(object))); e; e = lh_entry_next(e)) {
		int err = fn(arg, lh_entry_k(e), wrap(lh_entry_v(e)));

		if (err)
			return err;
	}
	return 0;
}

/* -ENOENT for a missing node, -EINVAL for one of another type. */
static int want(const struct json *j, enum json_type type)
{
	if (!j)
		return -ENOENT;
	return is_type(j, type) ? 0 : -EINVAL;
}

int json_string(const struct json *j, const char **ret)
{
	int err = want(j, json_type_string);
	const char *s;

	if (err)
		return err;
	s = json_object_get_string(unwrap(j));
	if (strlen(s) != (size_t)json_object_get_string_len(unwrap(j)))
		return -EINVAL; /* a NUL inside: a C string would not be what the document says */
	*ret = s;
	return 0;
}

int json_bool(const struct json *j, bool *ret)
{
	int err = want(j, json_type_boolean);

	if (!err)
		*ret = json_object_get_boolean(unwrap(j));
	return err;
}

int json_u64(const struct json *j, uint64_t *ret)
{
	int err = want(j, json_type_int);

	if (err)
		return err;
	if (json_object_get_int64(unwrap(j)) < 0)
		return -EINVAL;
	*ret = json_object_get_uint64(unwrap(j));
	return 0;
}

int json_i64(const struct json *j, int64_t *ret)
{
	int err = want(j, json_type_int);

	if (err)
		return err;
	if (json_object_get_int64(unwrap(j)) >= 0 && json_object_get_uint64(unwrap(j)) > INT64_MAX)
		return -EINVAL;
	*ret = json_object_get_int64(unwrap(j));
	return 0;
}

int json_double(const struct json *j, double *ret)
{
	if (!j)
		return -ENOENT;
	if (!is_type(j, json_type_double) && !is_type(j, json_type_int))
		return -EINVAL;
	*ret = json_object_get_double(unwrap(j));
	return 0;
}

const char *json_number_text(const struct json *j, char *buf, size_t cap)
{
	if (!is_type(j, json_type_double) && !is_type(j, json_type_int))
		return NULL;
	/* A parsed real prints as it was spelled. */
	if ((size_t)snprintf(buf, cap, "%s", json_object_to_json_string(unwrap(j))) >= cap)
		return NULL;
	return buf;
}

struct json *json_new_object(void)
{
	return (struct json *)json_object_new_object();
}

struct json *json_new_array(void)
{
	return (struct json *)json_object_new_array();
}

struct json *json_new_string(const char *s)
{
	return (struct json *)json_object_new_string(s);
}

struct json *json_new_u64(uint64_t v)
{
	return (struct json *)json_object_new_uint64(v);
}

struct json *json_new_bool(bool v)
{
	return (struct json *)json_object_new_boolean(v);
}

int json_set(struct json *object, const char *key, struct json *value)
{
	if (!value)
		return -ENOMEM;
	if (!json_object_object_add(unwrap(object), key, unwrap(value)))
		return 0;
	json_free(value);
	return -ENOMEM;
}

int json_append(struct json *array, struct json *value)
{
	if (!value)
		return -ENOMEM;
	if (!json_object_array_add(unwrap(array), unwrap(value)))
		return 0;
	json_free(value);
	return -ENOMEM;
}

/* Pulls "[\n  ]" and "{\n  }" together, as other writers of JSON do; versions of json-c differ here. */
static void close_empty(char *text)
{
	size_t len = strlen(text), out = 0, end;

	for (size_t at = 0; at < len; at = end) {
		end = text[at] == '"' ? skip_string(text, len, at) : at + 1;
		memmove(text + out, text + at, end - at);
		out += end - at;
		if (text[at] == '[' || text[at] == '{') {
			size_t next = end + strspn(text + end, " \n");

			if (text[next] == ']' || text[next] == '}')
				end = next;
		}
	}
	text[out] = 0;
}

char *json_text(const struct json *root, bool pretty)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE;
	const char *text;
	char *copy;

	flags |= pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN;
	text = json_object_to_json_string_ext(unwrap(root), flags);
	copy = text ? strdup(text) : NULL;
	if (copy && pretty)
		close_empty(copy);
	return copy;
}
