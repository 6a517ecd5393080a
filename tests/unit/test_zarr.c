#include "zarr.h"

#include "json.h"
#include "unit.h"

/* As zarr-python 3 writes it. */
static const char zarr_python_doc[] = "{\n"
				      "  \"shape\": [\n    10,\n    20\n  ],\n"
				      "  \"data_type\": \"float32\",\n"
				      "  \"chunk_grid\": {\n    \"name\": \"regular\",\n    \"configuration\": {\n"
				      "      \"chunk_shape\": [\n        4,\n        20\n      ]\n    }\n  },\n"
				      "  \"chunk_key_encoding\": {\n    \"name\": \"default\",\n"
				      "    \"configuration\": {\n      \"separator\": \"/\"\n    }\n  },\n"
				      "  \"fill_value\": \"NaN\",\n"
				      "  \"codecs\": [\n    {\n      \"name\": \"bytes\",\n      \"configuration\": {\n"
				      "        \"endian\": \"little\"\n      }\n    }\n  ],\n"
				      "  \"attributes\": {\n    \"units\": \"K\",\n    \"scale\": 1.50e-3,\n"
				      "    \"limit\": NaN,\n    \"nothing\": {}\n  },\n"
				      "  \"dimension_names\": [\n    \"time\",\n    null\n  ],\n"
				      "  \"zarr_format\": 3,\n  \"node_type\": \"array\",\n"
				      "  \"storage_transformers\": []\n}";

/* As TensorStore writes it. */
static const char tensorstore_doc[] =
	"{\"attributes\":{},\"chunk_grid\":{\"configuration\":{\"chunk_shape\":[3]},\"name\":\"regular\"},"
	"\"chunk_key_encoding\":{\"name\":\"default\"},\"codecs\":[{\"configuration\":{\"endian\":\"big\"},\"name\":"
	"\"bytes\"}],"
	"\"data_type\":\"uint16\",\"fill_value\":258,\"node_type\":\"array\",\"shape\":[7],\"zarr_format\":3}";

static int parse(const char *text, struct zarr *ret, struct reason *why)
{
	enum zarr_node node = ZARR_GROUP;
	int err = zarr_parse(text, strlen(text), &node, ret, why);

	CHECK(err || node == ZARR_ARRAY);
	return err;
}

static void test_other_writers(void)
{
	struct zarr z;

	if (CHECK(parse(zarr_python_doc, &z, NULL) == 0)) {
		CHECK(z.dtype == DTYPE_FLOAT32 && !z.big_endian && z.grid.native);
		CHECK(z.grid.shape[1] == 20 && z.grid.n_partitions == 3 && z.grid.partition_bytes == 320);
		CHECK(z.fill.words[0] == 0x7fc00000 && !z.fill_is_zero);
	}
	if (CHECK(parse(tensorstore_doc, &z, NULL) == 0)) {
		CHECK(z.dtype == DTYPE_UINT16 && z.big_endian && z.grid.n_partitions == 3);
		CHECK(z.fill_stored.bytes[0] == 1 && z.fill_stored.bytes[1] == 2 && z.fill_stored.bytes[2] == 0);
		CHECK(*(uint16_t *)z.fill.bytes == 258);
	}
}

static void test_groups(void)
{
	static const char *const good[] = {
		"{\"zarr_format\":3,\"node_type\":\"group\",\"attributes\":{\"a\":[1,2]}}",
		"{\"zarr_format\":3,\"node_type\":\"group\"}",
		"{\"zarr_format\":3,\"node_type\":\"group\",\"consolidated_metadata\":{\"metadata\":{}}}",
		"{\"zarr_format\":3,\"node_type\":\"group\",\"consolidated_metadata\":null}",
	};
	enum zarr_node node;
	struct zarr z;
	struct reason why;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		node = ZARR_ARRAY;
		CHECK(zarr_parse(good[i], strlen(good[i]), &node, &z, NULL) == 0 && node == ZARR_GROUP);
	}
	CHECK(parse("{\"zarr_format\":3,\"node_type\":\"group\",\"shape\":[1]}", &z, &why) == -ENOTSUP);
	CHECK(strstr(why.text, "shape"));
}

/* A good document with some keys replaced ("key": value, or "key" alone to leave it out). */
static char *doc_with(const char *const edits[][2], size_t n_edits)
{
	static const char *const base[][2] = {
		{ "zarr_format", "3" },
		{ "node_type", "\"array\"" },
		{ "shape", "[6,4]" },
		{ "data_type", "\"int32\"" },
		{ "chunk_grid", "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[2,4]}}" },
		{ "chunk_key_encoding", "{\"name\":\"default\",\"configuration\":{\"separator\":\"/\"}}" },
		{ "fill_value", "-5" },
		{ "codecs", "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}]" },
	};
	bool used[8] = { false };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	const char *comma = "{";

	for (size_t i = 0; i < ARRAY_LEN(base); i++) {
		const char *value = base[i][1];

		for (size_t e = 0; e < n_edits; e++) {
			if (!strcmp(edits[e][0], base[i][0])) {
				value = edits[e][1];
				used[e] = true;
			}
		}
		if (value) {
			fprintf(out, "%s\"%s\":%s", comma, base[i][0], value);
			comma = ",";
		}
	}
	for (size_t e = 0; e < n_edits; e++) {
		if (!used[e])
			fprintf(out, "%s\"%s\":%s", comma, edits[e][0], edits[e][1]);
	}
	fputc('}', out);
	fclose(out);
	return text;
}

static int parse_with(const char *key, const char *value, struct zarr *ret, struct reason *why)
{
	const char *const edits[][2] = { { key, value } };
	AUTO_FREE char *text = doc_with(edits, 1);

	return parse(text, ret, why);
}

static void test_accepted(void)
{
	static const char *const good[][2] = {
		{ "attributes", "{}" },
		{ "storage_transformers", "[]" },
		{ "dimension_names", "[\"y\",\"x\"]" },
		{ "dimension_names", "[null,null]" },
		{ "odd", "{\"must_understand\":false,\"x\":1}" },
		{ "chunk_key_encoding", "\"default\"" },
		{ "shape", "[0,4]" },
	};
	struct zarr z;

	CHECK(parse_with("attributes", "{}", &z, NULL) == 0 && z.grid.native);
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		CHECK(parse_with(good[i][0], good[i][1], &z, NULL) == 0);
	CHECK(parse_with("chunk_key_encoding", "{\"name\":\"default\"}", &z, NULL) == 0);
}

static void test_refused(void)
{
	static const struct {
		const char *key, *value;
		int err;
		const char *named;
	} bad[] = {
		{ "zarr_format", NULL, -EINVAL, "zarr_format: missing" },
		{ "zarr_format", "2", -ENOTSUP, "v3 is needed" },
		{ "zarr_format", "\"3\"", -EINVAL, "zarr_format" },
		{ "node_type", NULL, -EINVAL, "node_type" },
		{ "node_type", "\"tree\"", -EINVAL, "'tree'" },
		{ "shape", NULL, -EINVAL, "shape: missing" },
		{ "shape", "6", -EINVAL, "shape" },
		{ "shape", "[6]", -EINVAL, "chunk_shape" },
		{ "shape", "[6,-4]", -EINVAL, "shape[1]: '-4'" },
		{ "shape", "[6,4.0]", -EINVAL, "shape[1]: '4.0'" },
		{ "shape", "[6,null]", -EINVAL, "shape[1]" },
		{ "shape", "[4611686018427387904,4]", -EFBIG, "shape" },
		{ "shape", "[18446744073709551616,4]", -EINVAL, "byte" },
		{ "shape", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", -EINVAL, "33 axes" },
		{ "data_type", NULL, -EINVAL, "data_type" },
		{ "data_type", "7", -EINVAL, "data_type: '7'" },
		{ "data_type", "\"int128\"", -ENOTSUP, "data_type: 'int128'" },
		{ "data_type", "\"string\"", -ENOTSUP, "data_type: 'string'" },
		{ "data_type", "{\"name\":\"numpy.datetime64\"}", -ENOTSUP, "numpy.datetime64" },
		{ "chunk_grid", NULL, -EINVAL, "chunk_grid" },
		{ "chunk_grid", "[]", -EINVAL, "chunk_grid" },
		{ "chunk_grid", "{\"name\":\"rectilinear\",\"configuration\":{}}", -ENOTSUP, "'rectilinear'" },
		{ "chunk_grid", "\"regular\"", -EINVAL, "chunk_shape: missing" },
		{ "chunk_grid", "{\"name\":\"regular\",\"configuration\":[]}", -EINVAL, "chunk_grid: configuration" },
		{ "chunk_grid", "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[2,0]}}", -EINVAL,
		  "chunk_shape[1]" },
		{ "chunk_key_encoding", NULL, -EINVAL, "chunk_key_encoding" },
		{ "chunk_key_encoding", "{\"name\":\"v2\"}", -ENOTSUP, "'v2'" },
		{ "chunk_key_encoding", "{\"name\":\"default\",\"configuration\":{\"separator\":\".\"}}", -ENOTSUP,
		  "separator: '.'" },
		{ "chunk_key_encoding", "{\"name\":\"default\",\"configuration\":{\"separator\":\"-\"}}", -EINVAL,
		  "separator: '-'" },
		{ "codecs", NULL, -EINVAL, "codecs: missing" },
		{ "codecs", "[]", -EINVAL, "codecs: empty" },
		{ "codecs", "{}", -EINVAL, "codecs" },
		{ "codecs", "[\"bytes\"]", -EINVAL, "codecs[0]: endian" },
		{ "codecs", "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"middle\"}}]", -EINVAL, "'middle'" },
		{ "codecs", "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}},{\"name\":\"gzip\"}]",
		  -ENOTSUP, "zarr.json: codecs[1]: 'gzip' is not supported yet; use only the bytes codec" },
		{ "codecs", "[{\"name\":\"sharding_indexed\",\"configuration\":{}}]", -ENOTSUP, "'sharding_indexed'" },
		{ "codecs", "[\"bytes\",\"bytes\"]", -EINVAL, "codecs[1]" },
		{ "codecs", "[3]", -EINVAL, "codecs[0]" },
		{ "attributes", "[]", -EINVAL, "attributes" },
		{ "dimension_names", "[\"y\"]", -EINVAL, "dimension_names: 1 names" },
		{ "dimension_names", "[\"y\",3]", -EINVAL, "dimension_names[1]: '3'" },
		{ "dimension_names", "\"yx\"", -EINVAL, "dimension_names" },
		{ "storage_transformers", "[{\"name\":\"cache\"}]", -ENOTSUP, "storage_transformers" },
		{ "storage_transformers", "{}", -EINVAL, "storage_transformers" },
		{ "odd", "{\"must_understand\":true}", -ENOTSUP, "odd" },
		{ "odd", "{}", -ENOTSUP, "odd" },
		{ "odd", "false", -ENOTSUP, "odd" },
		{ "a\\nb\\u001b[31m", "1", -ENOTSUP, "a?b?[31m" },
		{ "fill_value", NULL, -EINVAL, "fill_value: missing" },
		{ "fill_value", "null", -EINVAL, "fill_value: null" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct zarr z = { .dtype = DTYPE_END };
		struct reason why = { "" };
		int err = parse_with(bad[i].key, bad[i].value, &z, &why);

		if (!CHECK(err == bad[i].err && strstr(why.text, bad[i].named) &&
			   !strncmp(why.text, "zarr.json: ", 11)))
			fprintf(stderr, "%s: %s: %d '%s'\n", bad[i].key, bad[i].value, err, why.text);
		CHECK(z.dtype == DTYPE_END && !strchr(why.text, '\n'));
		CHECK(parse_with(bad[i].key, bad[i].value, &z, NULL) == bad[i].err);
	}
}

static void test_broken_json(void)
{
	static const char *const bad[] = {
		"", "{", "[]", "3", "null", "\"x\"", "{\"zarr_format\":3}", "{} x", "{'a':1}"
	};
	struct zarr z;
	struct reason why;
	char deep[200];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		why.text[0] = 0;
		CHECK(parse(bad[i], &z, &why) == -EINVAL && !strncmp(why.text, "zarr.json: ", 11));
	}
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = 0;
	CHECK(parse(deep, &z, &why) == -EINVAL && strstr(why.text, "deep"));
	AUTO_FREE char *large = malloc(ZARR_DOC_MAX + 2);
	memset(large, ' ', ZARR_DOC_MAX + 1);
	large[ZARR_DOC_MAX + 1] = 0;
	CHECK(parse(large, &z, &why) == -EFBIG);
}

static int fill_of(const char *dtype, const char *value, struct zarr *ret, struct reason *why)
{
	char quoted[32];
	const char *const edits[][2] = { { "data_type", quoted }, { "fill_value", value } };

	snprintf(quoted, sizeof(quoted), "\"%s\"", dtype);
	AUTO_FREE char *text = doc_with(edits, 2);
	return parse(text, ret, why);
}

/* fill_value, and the element it must be, bit for bit (as a little-endian machine holds it). */
static void test_fill(void)
{
	static const struct {
		const char *dtype, *value;
		uint64_t lo, hi;
	} good[] = {
		{ "bool", "true", 1, 0 },
		{ "bool", "false", 0, 0 },
		{ "int8", "-128", 0x80, 0 },
		{ "uint8", "255", 0xff, 0 },
		{ "int16", "-2", 0xfffe, 0 },
		{ "uint32", "4294967295", 0xffffffff, 0 },
		{ "int64", "-9223372036854775808", 0x8000000000000000, 0 },
		{ "int64", "9223372036854775807", 0x7fffffffffffffff, 0 },
		{ "int64", "9007199254740993", 9007199254740993, 0 },
		{ "uint64", "18446744073709551615", UINT64_MAX, 0 },
		{ "float16", "1", 0x3c00, 0 },
		{ "float16", "65504.0", 0x7bff, 0 },
		{ "float16", "\"0x7e01\"", 0x7e01, 0 },
		{ "float16", "\"-Infinity\"", 0xfc00, 0 },
		{ "float32", "0.1", 0x3dcccccd, 0 },
		{ "float32", "-0.0", 0x80000000, 0 },
		{ "float32", "\"NaN\"", 0x7fc00000, 0 },
		{ "float32", "\"0x7fc00001\"", 0x7fc00001, 0 },
		{ "float32", "\"0x7FA00000\"", 0x7fa00000, 0 },
		{ "float32", "9.969209968386869e+36", 0x7cf00000, 0 },
		{ "float64", "\"Infinity\"", 0x7ff0000000000000, 0 },
		{ "float64", "\"0xfff8000000000001\"", 0xfff8000000000001, 0 },
		{ "float64", "0", 0, 0 },
		{ "float64", "5e-324", 1, 0 },
		{ "complex64", "[1,\"NaN\"]", 0x7fc000003f800000, 0 },
		{ "complex128", "[0.5,\"-Infinity\"]", 0x3fe0000000000000, 0xfff0000000000000 },
		{ "complex128", "[\"0x7ff8000000000001\",-0.0]", 0x7ff8000000000001, 0x8000000000000000 },
	};

	for (size_t i = 0; i < ARRAY_LEN(good) && __BYTE_ORDER == __LITTLE_ENDIAN; i++) {
		struct zarr z;

		if (!CHECK(fill_of(good[i].dtype, good[i].value, &z, NULL) == 0))
			continue;
		if (!CHECK(z.fill.words[0] == good[i].lo && z.fill.words[1] == good[i].hi))
			fprintf(stderr, "%s: %s\n", good[i].dtype, good[i].value);
		CHECK(z.fill_is_zero == (!good[i].lo && !good[i].hi));
		CHECK(!memcmp(&z.fill, &z.fill_stored, sizeof(z.fill)));
	}
}

static void test_bad_fill(void)
{
	static const char *const bad[][2] = {
		{ "bool", "0" },
		{ "bool", "\"true\"" },
		{ "int8", "128" },
		{ "int8", "-129" },
		{ "int8", "1.0" },
		{ "int8", "\"1\"" },
		{ "int8", "true" },
		{ "uint8", "-1" },
		{ "uint8", "256" },
		{ "uint64", "-1" },
		{ "uint64", "1e3" },
		{ "int64", "9223372036854775808" },
		{ "float16", "65520" },
		{ "float32", "1e39" },
		{ "float32", "\"nan\"" },
		{ "float32", "\"0x7fc000\"" },
		{ "float32", "\"0x7fc0000g\"" },
		{ "float64", "\"0x7fc00000\"" },
		{ "float64", "1e400" },
		{ "float64", "true" },
		{ "float64", "[1]" },
		{ "float64", "NaN" },
		{ "complex64", "1" },
		{ "complex64", "[1]" },
		{ "complex64", "[1,2,3]" },
		{ "complex64", "[1,null]" },
		{ "complex128", "[1,\"x\"]" },
		{ "float32", "\"\"" },
		{ "float32", "\"Na\\u0000N\"" },
		{ "float32", "{}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct zarr z;
		struct reason why = { "" };

		if (!CHECK(fill_of(bad[i][0], bad[i][1], &z, &why) == -EINVAL && strstr(why.text, "fill_value: ") &&
			   strstr(why.text, bad[i][0])))
			fprintf(stderr, "%s: %s: '%s'\n", bad[i][0], bad[i][1], why.text);
	}
}

static void test_doc_new(void)
{
	const uint64_t shape[] = { 100, 3, 7 }, chunk[] = { 10, 3, 7 };

	for (unsigned d = 1; d < DTYPE_END; d++) {
		for (unsigned rank = 0; rank <= 3; rank++) {
			bool big = rank % 2;
			AUTO_FREE char *text = zarr_doc_new((enum dtype)d, big, rank, shape, chunk);
			struct zarr z;

			if (!CHECK(text && parse(text, &z, NULL) == 0))
				continue;
			CHECK(z.dtype == d && z.big_endian == (big && dtype_bytes(z.dtype) > 1));
			CHECK(z.grid.rank == rank && !memcmp(z.grid.shape, shape, rank * 8) && z.grid.native);
			CHECK(!memcmp(z.grid.chunk, chunk, rank * 8) && z.fill_is_zero);
			CHECK(strstr(text, "{\n  \"shape\": [") == text && strstr(text, "\"attributes\": {},"));
			CHECK(rank || strstr(text, "\"shape\": [],\n"));
		}
	}
}

static void test_resize(void)
{
	const char *old_shape = "\"shape\": [\n    10,", *new_shape = "\"shape\": [\n    1000000,";
	size_t len = strlen(zarr_python_doc), cut = strlen(old_shape);
	AUTO_FREE char *text = NULL;
	struct reason why = { "" };

	/* Nothing but the number changes, in a document that is laid out as zarr-python does. */
	if (CHECK(zarr_doc_resize(zarr_python_doc, len, 1000000, &text, NULL) == 0)) {
		CHECK(!strncmp(text, "{\n  ", 4) && !strncmp(text + 4, new_shape, strlen(new_shape)));
		CHECK(!strcmp(text + 4 + strlen(new_shape), zarr_python_doc + 4 + cut));
	}
	CHECK(zarr_doc_resize(zarr_python_doc, len, UINT64_MAX, &text, &why) == -EFBIG && strstr(why.text, "shape"));
	CHECK(zarr_doc_resize("{", 1, 5, &text, &why) == -EINVAL);
	CHECK(zarr_doc_resize("{\"zarr_format\":3,\"node_type\":\"group\"}", 37, 5, &text, &why) == -EINVAL);
	AUTO_FREE char *scalar = zarr_doc_new(DTYPE_INT8, false, 0, NULL, NULL);
	CHECK(zarr_doc_resize(scalar, strlen(scalar), 5, &text, &why) == -EINVAL && strstr(why.text, "axis 0"));
}

static void test_same_layout(void)
{
	static const char *const other[][2] = {
		{ "data_type", "\"uint32\"" },
		{ "chunk_grid", "{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[2,2]}}" },
		{ "codecs", "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"big\"}}]" },
	};
	struct zarr a, b;

	CHECK(parse_with("fill_value", "5", &a, NULL) == 0);
	CHECK(parse_with("shape", "[9,4]", &b, NULL) == 0 && zarr_same_layout(&a, &b));
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		const char *const edits[][2] = { { other[i][0], other[i][1] }, { "fill_value", "5" } };
		AUTO_FREE char *text = doc_with(edits, 2);

		CHECK(parse(text, &b, NULL) == 0 && !zarr_same_layout(&a, &b));
	}
}

/* What json-c would let through or change. */
static void test_json_numbers(void)
{
	static const char *const bad[] = { "18446744073709551616",
					   "1000000000000000000000000000000000000000",
					   "-9223372036854775809",
					   "1.",
					   "01",
					   "--1",
					   "1e",
					   "+1",
					   ".5" };
	struct json *j;
	uint64_t u = 1;
	int64_t i = 1;
	char buf[32];

	for (size_t k = 0; k < ARRAY_LEN(bad); k++)
		CHECK(json_parse(bad[k], strlen(bad[k]), &j, NULL) == -EINVAL);
	if (CHECK(json_parse("[18446744073709551615,-1,1.50e+03,\"12.\",null]", 45, &j, NULL) == 0)) {
		CHECK(json_u64(json_at(j, 0), &u) == 0 && u == UINT64_MAX && json_i64(json_at(j, 0), &i) == -EINVAL);
		CHECK(json_i64(json_at(j, 1), &i) == 0 && i == -1 && json_u64(json_at(j, 1), &u) == -EINVAL);
		CHECK(json_number_text(json_at(j, 2), buf, sizeof(buf)) && !strcmp(buf, "1.50e+03"));
		CHECK(!json_number_text(json_at(j, 2), buf, 8) && !json_number_text(json_at(j, 3), buf, 8));
		CHECK(json_is_null(json_at(j, 4)) && !json_is_null(json_at(j, 5)) && json_u64(NULL, &u) == -ENOENT);
		json_free(j);
	}
}

int main(void)
{
	test_other_writers();
	test_groups();
	test_accepted();
	test_refused();
	test_broken_json();
	test_fill();
	test_bad_fill();
	test_doc_new();
	test_resize();
	test_same_layout();
	test_json_numbers();
	return unit_result();
}
