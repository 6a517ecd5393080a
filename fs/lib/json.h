/* json.h - what slabfs needs of JSON, over json-c (which only json.c includes).
 *
 * A `struct json` is a borrowed node of a tree whose root the caller owns (json_free).  Getters return -ENOENT for a missing
 * key and -EINVAL for another type.  Depth and length are bounded.  A tree may be used by one thread at a time.
 */
#ifndef SLAB_JSON_H
#define SLAB_JSON_H

#include "base.h"

struct json;

/* text need not be NUL-terminated.  The reason names the byte offset of a syntax error. */
int json_parse(const char *text, size_t len, struct json **ret, struct reason *why);
void json_free(struct json *root);

bool json_is_object(const struct json *j);
bool json_is_array(const struct json *j);
bool json_is_string(const struct json *j);
bool json_is_null(const struct json *j);
size_t json_length(const struct json *array);                            /* 0 unless an array */
const struct json *json_at(const struct json *array, size_t i);          /* NULL past the end */
const struct json *json_get(const struct json *object, const char *key); /* NULL when missing */
int json_string(const struct json *j, const char **ret);                 /* lives as long as the tree */
int json_bool(const struct json *j, bool *ret);
int json_u64(const struct json *j, uint64_t *ret); /* a JSON integer in range, not a real */
int json_i64(const struct json *j, int64_t *ret);
int json_double(const struct json *j, double *ret); /* integers too */
const char *json_number_text(const struct json *j, char *buf,
			     size_t cap); /* a number exactly as a C string (NULL: not one) */

/* Calls fn for each key in the document's order until one returns non-zero, and returns that; -EINVAL unless an object. */
int json_each(const struct json *object, int (*fn)(void *arg, const char *key, const struct json *value), void *arg);

/* Building and changing; 0 or -ENOMEM.  json_set takes ownership of value, replaces an older one and keeps key order. */
struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_string(const char *s);
struct json *json_new_u64(uint64_t v);
struct json *json_new_bool(bool v);
int json_set(struct json *object, const char *key, struct json *value);
int json_append(struct json *array, struct json *value);
char *json_text(const struct json *root, bool pretty); /* malloc'ed; NULL without memory */

#endif
