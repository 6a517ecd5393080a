#include "zarr.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "json.h"
#include "zarr_fill.h"

#define SHOWN_MAX 48 /* bytes of a document's value in a reason */

/* A value of the document as a reason can show it: its string, or its JSON; cut, and on one line. */
struct shown {
	char text[SHOWN_MAX + 4];
};

static struct shown show_string(const char *s)
{
	struct shown ret;
	size_t n = strnlen(s, SHOWN_MAX + 1);
	bool cut = n > SHOWN_MAX;

	n = MIN(n, SHOWN_MAX);
	for (size_t i = 0; i < n; i++)
		ret.text[i] = s[i] >= ' ' && s[i] <= '~' ? s[i] : '?';
	strcpy(ret.text + n, cut ? "..." : "");
	return ret;
}

static struct shown show(const struct json *j)
{
	AUTO_FREE char *text = NULL;
	const char *s;

	if (json_string(j, &s) == 0)
		return show_string(s);
	text = j ? json_text(j, false) : NULL;
	return show_string(text ? text : "?");
}

static int refuse(struct reason *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(struct reason *why, int err, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return reason_set(why, err, "zarr.json: %s", what);
}

/* The specification's extension point: {"name": ..., "configuration": {...}}, or the name alone. */
static int get_extension(const struct json *j, const char *where, const char **ret_name,
			 const struct json **ret_configuration, struct reason *why)
{
	const struct json *configuration = NULL;

	if (!j)
		return refuse(why, EINVAL, "%s: missing", where);
	if (json_string(j, ret_name) < 0) {
		if (json_string(json_get(j, "name"), ret_name) < 0)
			return refuse(why, EINVAL, "%s: must be a name, or an object with one", where);
		configuration = json_get(j, "configuration");
		if (configuration && !json_is_object(configuration))
			return refuse(why, EINVAL, "%s: configuration: must be an object", where);
	}
	*ret_configuration = configuration;
	return 0;
}

static int get_lengths(const struct json *j, const char *where, uint64_t *ret, unsigned *ret_rank, struct reason *why)
{
	size_t n = json_length(j);

	if (!json_is_array(j))
		return refuse(why, EINVAL, "%s: %s", where, j ? "must be an array of whole numbers" : "missing");
	if (n > SLAB_RANK_MAX)
		return refuse(why, EINVAL, "%s: %zu axes, of which slabfs allows at most %u", where, n, SLAB_RANK_MAX);
	for (size_t i = 0; i < n; i++) {
		if (json_u64(json_at(j, i), &ret[i]) < 0)
			return refuse(why, EINVAL, "%s[%zu]: '%s' is not a length", where, i, show(json_at(j, i)).text);
	}
	*ret_rank = (unsigned)n;
	return 0;
}

static int get_dtype(const struct json *root, enum dtype *ret, struct reason *why)
{
	const struct json *j = json_get(root, "data_type");
	const char *name;

	if (!j)
		return refuse(why, EINVAL, "data_type: missing");
	if (json_string(j, &name) < 0 && !json_is_object(j))
		return refuse(why, EINVAL, "data_type: '%s' is not a name", show(j).text);
	if (json_is_object(j) || dtype_from_zarr(name, ret) < 0)
		return refuse(why, ENOTSUP, "data_type: '%s' is not supported", show(j).text);
	return 0;
}

static int get_grid(const struct json *root, size_t item_bytes, struct grid *ret, struct reason *why)
{
	uint64_t shape[SLAB_RANK_MAX], chunk[SLAB_RANK_MAX];
	unsigned rank, chunk_rank;
	const struct json *configuration;
	struct reason inner = { "" };
	const char *name;
	int err;

	err = get_lengths(json_get(root, "shape"), "shape", shape, &rank, why);
	if (err)
		return err;
	err = get_extension(json_get(root, "chunk_grid"), "chunk_grid", &name, &configuration, why);
	if (err)
		return err;
	if (strcmp(name, "regular") != 0)
		return refuse(why, ENOTSUP, "chunk_grid: '%s' is not supported; use regular", show_string(name).text);
	err = get_lengths(json_get(configuration, "chunk_shape"), "chunk_grid: chunk_shape", chunk, &chunk_rank, why);
	if (err)
		return err;
	if (rank != chunk_rank)
		return refuse(why, EINVAL, "chunk_grid: chunk_shape: %u lengths for %u axes", chunk_rank, rank);
	err = grid_init(ret, rank, shape, chunk, item_bytes, &inner);
	return err ? refuse(why, -err, "%s", inner.text) : 0;
}

static int check_key_encoding(const struct json *root, struct reason *why)
{
	const struct json *configuration, *j;
	const char *text;
	int err;

	err = get_extension(json_get(root, "chunk_key_encoding"), "chunk_key_encoding", &text, &configuration, why);
	if (err)
		return err;
	if (strcmp(text, "default") != 0)
		return refuse(why, ENOTSUP, "chunk_key_encoding: '%s' is not supported; use default",
			      show_string(text).text);
	j = json_get(configuration, "separator");
	if (!j)
		return 0;
	if (json_string(j, &text) < 0 || (strcmp(text, "/") != 0 && strcmp(text, ".") != 0))
		return refuse(why, EINVAL, "chunk_key_encoding: separator: '%s' is neither '/' nor '.'", show(j).text);
	if (text[0] == '.')
		return refuse(why, ENOTSUP, "chunk_key_encoding: separator: '.' is not supported yet; use '/'");
	return 0;
}

static int get_endian(const struct json *configuration, enum dtype dtype, bool *ret_big, struct reason *why)
{
	const struct json *j = json_get(configuration, "endian");
	const char *text;

	*ret_big = false;
	if ((!j || json_is_null(j)) && dtype_bytes(dtype) == 1)
		return 0;
	if (!j)
		return refuse(why, EINVAL, "codecs[0]: endian: missing, and %s needs it", dtype_zarr_name(dtype));
	if (json_string(j, &text) < 0 || (strcmp(text, "little") != 0 && strcmp(text, "big") != 0))
		return refuse(why, EINVAL, "codecs[0]: endian: '%s' is neither little nor big", show(j).text);
	*ret_big = text[0] == 'b' && dtype_bytes(dtype) > 1;
	return 0;
}

static int get_codecs(const struct json *root, enum dtype dtype, bool *ret_big, struct reason *why)
{
	const struct json *codecs = json_get(root, "codecs"), *configuration, *bytes = NULL;
	size_t n = json_length(codecs);
	const char *name;
	char where[40];

	if (!json_is_array(codecs))
		return refuse(why, EINVAL, "codecs: %s", codecs ? "must be an array" : "missing");
	if (!n)
		return refuse(why, EINVAL, "codecs: empty; use the bytes codec");
	for (size_t i = 0; i < n; i++) {
		int err;

		snprintf(where, sizeof(where), "codecs[%zu]", i);
		err = get_extension(json_at(codecs, i), where, &name, &configuration, why);
		if (err)
			return err;
		if (strcmp(name, "bytes") != 0)
			return refuse(why, ENOTSUP, "%s: '%s' is not supported yet; use only the bytes codec", where,
				      show_string(name).text);
		if (i > 0)
			return refuse(why, EINVAL, "%s: a second bytes codec", where);
		bytes = configuration;
	}
	return get_endian(bytes, dtype, ret_big, why);
}

static int check_dimension_names(const struct json *j, unsigned rank, struct reason *why)
{
	if (!j || json_is_null(j))
		return 0;
	if (!json_is_array(j))
		return refuse(why, EINVAL, "dimension_names: must be an array");
	if (json_length(j) != rank)
		return refuse(why, EINVAL, "dimension_names: %zu names for %u axes", json_length(j), rank);
	for (size_t i = 0; i < rank; i++) {
		if (!json_is_string(json_at(j, i)) && !json_is_null(json_at(j, i)))
			return refuse(why, EINVAL, "dimension_names[%zu]: '%s' is neither a string nor null", i,
				      show(json_at(j, i)).text);
	}
	return 0;
}

static int check_transformers(const struct json *j, struct reason *why)
{
	if (j && !json_is_array(j))
		return refuse(why, EINVAL, "storage_transformers: must be an array");
	if (json_length(j))
		return refuse(why, ENOTSUP, "storage_transformers: '%s' is not supported", show(json_at(j, 0)).text);
	return 0;
}

struct key_check {
	bool array;
	struct reason *why;
};

static int check_key(void *arg, const char *key, const struct json *value)
{
	static const char *const common[] = { "zarr_format", "node_type", "attributes", "consolidated_metadata" };
	static const char *const of_array[] = { "shape",      "data_type", "chunk_grid",      "chunk_key_encoding",
						"fill_value", "codecs",    "dimension_names", "storage_transformers" };
	const struct key_check *check = arg;
	bool must_understand = true;

	for (size_t i = 0; i < ARRAY_LEN(common); i++) {
		if (!strcmp(key, common[i]))
			return 0;
	}
	for (size_t i = 0; check->array && i < ARRAY_LEN(of_array); i++) {
		if (!strcmp(key, of_array[i]))
			return 0;
	}
	if (json_bool(json_get(value, "must_understand"), &must_understand) == 0 && !must_understand)
		return 0;
	return refuse(check->why, ENOTSUP, "%s: not a key that slabfs knows, and nothing says it may be ignored",
		      show_string(key).text);
}

static int check_format(const struct json *root, struct reason *why)
{
	const struct json *j = json_get(root, "zarr_format");
	uint64_t format;

	if (!j)
		return refuse(why, EINVAL, "zarr_format: missing");
	if (json_u64(j, &format) < 0)
		return refuse(why, EINVAL, "zarr_format: '%s' is not a version; Zarr v3 is needed", show(j).text);
	if (format != 3)
		return refuse(why, ENOTSUP, "zarr_format: %" PRIu64 " is not supported; Zarr v3 is needed", format);
	return 0;
}

static int get_node(const struct json *root, enum zarr_node *ret, struct reason *why)
{
	const struct json *j = json_get(root, "node_type");
	const char *text;

	if (!j)
		return refuse(why, EINVAL, "node_type: missing");
	if (json_string(j, &text) < 0 || (strcmp(text, "array") != 0 && strcmp(text, "group") != 0))
		return refuse(why, EINVAL, "node_type: '%s' is neither array nor group", show(j).text);
	*ret = text[0] == 'a' ? ZARR_ARRAY : ZARR_GROUP;
	return 0;
}

static void finish_fill(struct zarr *z)
{
	static const union dtype_value zero;
	bool swap = z->big_endian != (__BYTE_ORDER == __BIG_ENDIAN);

	z->fill_is_zero = !memcmp(&z->fill, &zero, sizeof(zero));
	z->fill_stored = z->fill;
	if (swap)
		dtype_swap(z->dtype, &z->fill_stored, &z->fill, 1);
}

static int parse_array(const struct json *root, struct zarr *ret, struct reason *why)
{
	struct zarr z = { 0 };
	int err;

	err = get_dtype(root, &z.dtype, why);
	if (!err)
		err = get_grid(root, dtype_bytes(z.dtype), &z.grid, why);
	if (!err)
		err = check_key_encoding(root, why);
	if (!err)
		err = get_codecs(root, z.dtype, &z.big_endian, why);
	if (!err)
		err = zarr_fill_parse(json_get(root, "fill_value"), z.dtype, &z.fill, why);
	if (!err)
		err = check_dimension_names(json_get(root, "dimension_names"), z.grid.rank, why);
	if (!err)
		err = check_transformers(json_get(root, "storage_transformers"), why);
	if (err)
		return err;
	finish_fill(&z);
	*ret = z;
	return 0;
}

static int parse_root(const struct json *root, enum zarr_node *ret_node, struct zarr *ret, struct reason *why)
{
	struct key_check check = { .why = why };
	const struct json *attributes = json_get(root, "attributes");
	enum zarr_node node = ZARR_ARRAY;
	int err;

	if (!json_is_object(root))
		return refuse(why, EINVAL, "must be a JSON object");
	err = check_format(root, why);
	if (!err)
		err = get_node(root, &node, why);
	if (err)
		return err;
	if (attributes && !json_is_object(attributes))
		return refuse(why, EINVAL, "attributes: must be an object");
	check.array = node == ZARR_ARRAY;
	err = json_each(root, check_key, &check);
	if (!err && node == ZARR_ARRAY)
		err = parse_array(root, ret, why);
	if (!err)
		*ret_node = node;
	return err;
}

static int parse_text(const char *text, size_t len, struct json **ret, struct reason *why)
{
	struct reason inner = { "" };
	int err;

	if (len > ZARR_DOC_MAX)
		return refuse(why, EFBIG, "%zu bytes, of which slabfs reads at most %u", len, ZARR_DOC_MAX);
	err = json_parse(text, len, ret, &inner);
	return err ? refuse(why, -err, "%s", inner.text) : 0;
}

int zarr_parse(const char *text, size_t len, enum zarr_node *ret_node, struct zarr *ret, struct reason *why)
{
	struct json *root;
	int err = parse_text(text, len, &root, why);

	if (err)
		return err;
	err = parse_root(root, ret_node, ret, why);
	json_free(root);
	return err;
}

bool zarr_same_layout(const struct zarr *a, const struct zarr *b)
{
	return a->dtype == b->dtype && a->big_endian == b->big_endian && a->grid.rank == b->grid.rank &&
	       !memcmp(a->grid.chunk, b->grid.chunk, a->grid.rank * sizeof(a->grid.chunk[0]));
}
