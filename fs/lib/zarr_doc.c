#include "zarr.h"

#include <inttypes.h>
#include <stdio.h>

#include "json.h"

static void put_lengths(FILE *out, const char *key, unsigned rank, const uint64_t *lengths)
{
	fprintf(out, "\"%s\":[", key);
	for (unsigned k = 0; k < rank; k++)
		fprintf(out, "%s%" PRIu64, k ? "," : "", lengths[k]);
	fputc(']', out);
}

static void put_doc(FILE *out, enum dtype dtype, bool big_endian, unsigned rank, const uint64_t *shape,
		    const uint64_t *chunk)
{
	static const char *const zeros[] = { [DTYPE_CLASS_BOOL] = "false",
					     [DTYPE_CLASS_INT] = "0",
					     [DTYPE_CLASS_UINT] = "0",
					     [DTYPE_CLASS_FLOAT] = "0.0",
					     [DTYPE_CLASS_COMPLEX] = "[0.0,0.0]" };

	fputc('{', out);
	put_lengths(out, "shape", rank, shape);
	fprintf(out, ",\"data_type\":\"%s\",\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{",
		dtype_zarr_name(dtype));
	put_lengths(out, "chunk_shape", rank, chunk);
	fprintf(out, "}},\"chunk_key_encoding\":{\"name\":\"default\",\"configuration\":{\"separator\":\"/\"}},");
	fprintf(out, "\"fill_value\":%s,\"codecs\":[{\"name\":\"bytes\"", zeros[dtype_class(dtype)]);
	if (dtype_bytes(dtype) > 1)
		fprintf(out, ",\"configuration\":{\"endian\":\"%s\"}", big_endian ? "big" : "little");
	fprintf(out, "}],\"attributes\":{},\"zarr_format\":3,\"node_type\":\"array\",\"storage_transformers\":[]}");
}

char *zarr_doc_new(enum dtype dtype, bool big_endian, unsigned rank, const uint64_t *shape, const uint64_t *chunk)
{
	AUTO_FREE char *compact = NULL;
	struct json *root;
	size_t len = 0;
	FILE *out = open_memstream(&compact, &len);
	char *text;

	if (!out)
		return NULL;
	put_doc(out, dtype, big_endian, rank, shape, chunk);
	if (fclose(out) != 0 || json_parse(compact, len, &root, NULL) < 0)
		return NULL;
	text = json_text(root, true);
	json_free(root);
	return text;
}

static int set_rows(struct json *root, uint64_t new_rows)
{
	const struct json *old = json_get(root, "shape");
	struct json *shape = json_new_array();
	int err = shape ? json_append(shape, json_new_u64(new_rows)) : -ENOMEM;

	for (size_t i = 1; !err && i < json_length(old); i++) {
		uint64_t length;

		err = json_u64(json_at(old, i), &length);
		if (!err)
			err = json_append(shape, json_new_u64(length));
	}
	if (!err)
		return json_set(root, "shape", shape);
	json_free(shape);
	return err;
}

static char *with_rows(const char *text, size_t len, uint64_t new_rows)
{
	struct json *root;
	char *ret = NULL;

	if (json_parse(text, len, &root, NULL) < 0)
		return NULL;
	if (set_rows(root, new_rows) == 0)
		ret = json_text(root, true);
	json_free(root);
	return ret;
}

int zarr_doc_resize(const char *text, size_t len, uint64_t new_rows, char **ret, struct reason *why)
{
	AUTO_FREE char *resized = NULL;
	enum zarr_node node;
	struct zarr z;
	int err = zarr_parse(text, len, &node, &z, why);

	if (err)
		return err;
	if (node != ZARR_ARRAY || !z.grid.rank)
		return reason_set(why, EINVAL, "zarr.json: shape: there is no axis 0 to resize");
	resized = with_rows(text, len, new_rows);
	if (!resized)
		return reason_set(why, ENOMEM, "zarr.json: out of memory");
	err = zarr_parse(resized, strlen(resized), &node, &z, why);
	if (err)
		return err;
	*ret = resized;
	resized = NULL;
	return 0;
}
