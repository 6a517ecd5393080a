#include "npy.h"

#include "unit.h"

static size_t from_hex(const char *hex, uint8_t *ret)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		char pair[3] = { hex[2 * i], hex[2 * i + 1], 0 };

		ret[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return n;
}

static bool same(const struct npy *a, const struct npy *b)
{
	return a->dtype == b->dtype && a->big_endian == b->big_endian && a->fortran_order == b->fortran_order &&
	       a->rank == b->rank && !memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0]));
}

/* What numpy.save writes is what npy_format writes, byte for byte, and reads back. */
static void test_golden(void)
{
	static const struct {
		const char *descr;
		bool fortran;
		unsigned rank;
		uint64_t shape[SLAB_RANK_MAX];
		const char *hex;
	} golden[] = {
#include "golden/npy_headers.h"
	};
	uint8_t want[1024], got[1024];

	for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
		struct npy h = { .fortran_order = golden[i].fortran, .rank = golden[i].rank }, back;
		size_t n = from_hex(golden[i].hex, want), len = 0;

		memcpy(h.shape, golden[i].shape, sizeof(h.shape));
		CHECK(dtype_from_npy(golden[i].descr, &h.dtype, &h.big_endian) == 0);
		CHECK(npy_format(&h, 0, got, sizeof(got), &len) == 0 && len == n);
		if (!CHECK(!memcmp(got, want, n)))
			fprintf(stderr, "golden header %zu: '%.*s'\n", i, (int)len - 10, got + 10);
		CHECK(npy_parse(want, n, &back, NULL, NULL) == 0 && same(&h, &back) && back.header_bytes == n);
	}
}

/* Every proper prefix of a header asks for more, and never for more than the whole. */
static void test_prefixes(void)
{
	struct npy h = { .dtype = DTYPE_FLOAT32, .rank = 2, .shape = { 3, 4 } }, back;
	uint8_t buf[256];
	size_t len, need;

	CHECK(npy_format(&h, 0, buf, sizeof(buf), &len) == 0);
	for (size_t n = 0; n < len; n++) {
		need = 0;
		CHECK(npy_parse(buf, n, &back, &need, NULL) == -EAGAIN && need > n && need <= len);
		CHECK(npy_parse(buf, n, &back, NULL, NULL) == -EAGAIN);
	}
	CHECK(npy_parse(buf, sizeof(buf), &back, NULL, NULL) == 0 && back.header_bytes == len);
}

static void test_min_bytes(void)
{
	struct npy h = { .dtype = DTYPE_INT16, .big_endian = true, .rank = 1, .shape = { 9 } }, back;
	static uint8_t buf[NPY_HEADER_MAX];
	size_t len;

	CHECK(npy_format(&h, 4096, buf, sizeof(buf), &len) == 0 && len == 4096 && buf[4095] == '\n');
	CHECK(npy_parse(buf, len, &back, NULL, NULL) == 0 && same(&h, &back) && back.header_bytes == 4096);
	CHECK(npy_format(&h, 4097, buf, sizeof(buf), &len) == 0 && len == 4160);
	CHECK(npy_format(&h, NPY_HEADER_MAX, buf, sizeof(buf), &len) == 0 && len == NPY_HEADER_MAX);
	CHECK(npy_parse(buf, len, &back, NULL, NULL) == 0 && back.header_bytes == len);
	CHECK(npy_format(&h, NPY_HEADER_MAX + 1, buf, sizeof(buf), &len) == -EINVAL);
	CHECK(npy_format(&h, 0, buf, 127, &len) == -ENOSPC && npy_format(&h, 0, buf, 128, &len) == 0);
}

/* A header of the given version around the dict's text. */
static size_t wrap(unsigned version, const char *dict, uint8_t *ret)
{
	size_t n = strlen(dict), at = version == 1 ? 10 : 12;

	memcpy(ret, "\x93NUMPY", 6);
	ret[6] = (uint8_t)version;
	ret[7] = 0;
	memset(ret + 8, 0, 4);
	ret[8] = (uint8_t)(n & 0xff);
	ret[9] = (uint8_t)(n >> 8);
	memcpy(ret + at, dict, n);
	return at + n;
}

static void test_accepted(void)
{
	static const char *const dicts[] = {
		"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }   \n",
		"{'shape':(3,4),'fortran_order':False,'descr':'<f8'}",
		" { \"fortran_order\" : False , \"descr\" : \"<f8\" , \"shape\" : ( 3 , 4 , ) , } \n",
		"{'descr': '<f8',\n 'fortran_order': False,\n\t'shape': (3, 4)}",
#if __BYTE_ORDER == __LITTLE_ENDIAN
		"{'descr': '=f8', 'fortran_order': False, 'shape': (3, 4), }",
		"{'descr': '|f8', 'fortran_order': False, 'shape': (3, 4), }",
#endif
	};
	struct npy want = { .dtype = DTYPE_FLOAT64, .rank = 2, .shape = { 3, 4 } }, h;
	uint8_t buf[1024];

	for (unsigned version = 1; version <= 3; version++) {
		for (size_t i = 0; i < ARRAY_LEN(dicts); i++) {
			size_t n = wrap(version, dicts[i], buf);

			CHECK(npy_parse(buf, n, &h, NULL, NULL) == 0 && same(&h, &want) && h.header_bytes == n);
		}
	}
	CHECK(npy_parse(buf, wrap(1, "{'descr':'|b1','fortran_order':True,'shape':()}", buf), &h, NULL, NULL) == 0);
	CHECK(h.rank == 0 && h.fortran_order && h.dtype == DTYPE_BOOL);
	CHECK(npy_parse(buf, wrap(1, "{'descr':'>i8','fortran_order':True,'shape':(18446744073709551615,)}", buf), &h,
			NULL, NULL) == 0);
	CHECK(h.rank == 1 && h.shape[0] == UINT64_MAX && h.big_endian);
}

static void check_refused(int err, const char *dict, const char *named)
{
	struct npy h = { .rank = 77 };
	struct reason why = { "" };
	uint8_t buf[1024];
	size_t n = wrap(1, dict, buf);

	if (!CHECK(npy_parse(buf, n, &h, NULL, &why) == err && h.rank == 77 && strstr(why.text, named) &&
		   !strncmp(why.text, "npy header: byte ", 17) && !strchr(why.text, '\n')))
		fprintf(stderr, "%s: '%s'\n", dict, why.text);
	CHECK(npy_parse(buf, n, &h, NULL, NULL) == err);
}

#define REST "'fortran_order': False, 'shape': (3,)}"

static void test_refused(void)
{
	check_refused(-ENOTSUP, "{'descr': [('a', '<f4'), ('b', '<i2')], " REST, "[('a', '<f4')");
	check_refused(-ENOTSUP, "{'descr': '|O', " REST, "'|O'");
	check_refused(-ENOTSUP, "{'descr': '<U5', " REST, "'<U5'");
	check_refused(-ENOTSUP, "{'descr': '<M8[ns]', " REST, "'<M8[ns]'");
	check_refused(-ENOTSUP, "{'descr': '\x01\xff', " REST, "?' is");
	check_refused(-EINVAL, "{'descr': 5, " REST, "string");
	check_refused(-EINVAL, "{'descr': '<f\\x38', " REST, "string");
	check_refused(-EINVAL, "{'descr': '<f8", "string");
	check_refused(-EINVAL, "{'descr': '<f8', 'descr': '<f8', " REST, "twice");
	check_refused(-EINVAL, "{'descr': '<f8', 'more': 1, " REST, "'more'");
	check_refused(-EINVAL, "{" REST, "'descr' is missing");
	check_refused(-EINVAL, "{'descr': '<f8', 'shape': ()}", "'fortran_order' is missing");
	check_refused(-EINVAL, "{'descr': '<f8', 'fortran_order': True}", "'shape' is missing");
	check_refused(-EINVAL, "{'descr': '<f8', 'fortran_order': 1, 'shape': ()}", "fortran_order");
	check_refused(-EINVAL, "{'descr': '<f8', " REST " x", "after the dict");
	check_refused(-EINVAL, "{'descr' '<f8', " REST, "':'");
	check_refused(-EINVAL, "{'descr': '<f8' " REST, "'}'");
	check_refused(-EINVAL, "", "'{'");
	check_refused(-EINVAL, "{", "string");
}

static void check_bad_shape(const char *shape)
{
	char dict[256];

	snprintf(dict, sizeof(dict), "{'descr': '<f8', 'fortran_order': False, 'shape': %s}", shape);
	check_refused(-EINVAL, dict, "shape");
}

static void test_bad_shapes(void)
{
	static const char *const bad[] = { "3",
					   "[3]",
					   "(3)",
					   "(,)",
					   "(-1,)",
					   "(3,,4)",
					   "(3 4)",
					   "(03,)",
					   "(3.,)",
					   "(3L,)",
					   "('3',)",
					   "(3",
					   "(18446744073709551616,)" };
	char many[8 + 3 * (SLAB_RANK_MAX + 1)] = "(";

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		check_bad_shape(bad[i]);
	for (unsigned k = 0; k <= SLAB_RANK_MAX; k++)
		strcat(many, "1,");
	check_bad_shape(strcat(many, ")"));
}

static void test_bad_frames(void)
{
	struct npy h;
	struct reason why = { "" };
	uint8_t buf[64] = "\x93NUMPY\x04";

	CHECK(npy_parse(buf, sizeof(buf), &h, NULL, &why) == -EINVAL && strstr(why.text, "version 4.0"));
	buf[6] = 1;
	buf[7] = 1;
	CHECK(npy_parse(buf, sizeof(buf), &h, NULL, &why) == -EINVAL && strstr(why.text, "version 1.1"));
	buf[6] = 2;
	buf[7] = 0;
	memset(buf + 8, 0xff, 4);
	CHECK(npy_parse(buf, sizeof(buf), &h, NULL, &why) == -EINVAL && strstr(why.text, "byte 8"));
	CHECK(npy_parse("\x93NUMPX", 7, &h, NULL, &why) == -EINVAL && strstr(why.text, "not a .npy file"));
	CHECK(npy_parse("PK", 2, &h, NULL, &why) == -EINVAL);
}

/* Random headers survive the way there and back. */
static void test_round_trip(void)
{
	uint64_t seed = 11;
	uint8_t buf[1024];
	size_t len;

	for (int i = 0; i < 5000; i++) {
		struct npy h = { .dtype = (enum dtype)(1 + unit_random(&seed) % (DTYPE_END - 1)), .rank = 0 }, back;

		h.rank = (unsigned)(unit_random(&seed) % (SLAB_RANK_MAX + 1));
		h.big_endian = dtype_bytes(h.dtype) > 1 && unit_random(&seed) % 2;
		h.fortran_order = unit_random(&seed) % 2;
		for (unsigned k = 0; k < h.rank; k++)
			h.shape[k] = unit_random(&seed) >> unit_random(&seed) % 64;
		CHECK(npy_format(&h, 0, buf, sizeof(buf), &len) == 0 && len % 64 == 0);
		CHECK(npy_parse(buf, len, &back, NULL, NULL) == 0 && same(&h, &back) && back.header_bytes == len);
	}
}

int main(void)
{
	test_golden();
	test_prefixes();
	test_min_bytes();
	test_accepted();
	test_refused();
	test_bad_shapes();
	test_bad_frames();
	test_round_trip();
	return unit_result();
}
