/* Descriptions of arrays: what the head makes of one that it wrote itself, and of one that somebody has bent. */
#include "meta_rig.h"

#include "meta_describe.h"

static const char doc[] = "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[16],\"data_type\":\"float64\",\"chunk_"
			  "grid\":{\"name\":\"regular\","
			  "\"configuration\":{\"chunk_shape\":[4]}},\"chunk_key_encoding\":{\"name\":\"default\"},"
			  "\"fill_value\":0,\"codecs\":"
			  "[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}]}";

static size_t describe(struct rig *r, uint8_t *ret, size_t cap)
{
	struct wire_define body;
	struct description d = { 0 };
	uint64_t top = rig_dir(r, META_ROOT, "top"), dir = rig_dir(r, top, "x");
	size_t len;

	body = (struct wire_define){ .dir = le64_of(dir), .doc_bytes = le32_of(sizeof(doc) - 1) };
	CHECK(rig_call(r, WIRE_DEFINE, &body, doc, sizeof(doc) - 1) == 0);
	CHECK(meta_describe_next(r->d.meta, 0, &d) == 1 && d.ino == dir && d.n_nodes == 1);
	len = sizeof(d.head) + d.payload_bytes;
	CHECK(wire_description_bytes(&d.head) == len && len <= cap);
	memcpy(ret, &d.head, sizeof(d.head));
	memcpy(ret + sizeof(d.head), d.payload, d.payload_bytes);
	d.acked[d.n_acked++] = d.nodes[0];
	CHECK(meta_describe_update(r->d.meta, &d) == 0 && meta_undescribed(r->d.meta) == 0);
	free(d.payload);
	return len;
}

static int restore(struct rig *r, const void *text, size_t len, uint32_t flags)
{
	struct wire_restore body = { .flags = le32_of(flags) };

	return rig_call(r, WIRE_RESTORE, &body, text, len);
}

static int raise_ids(struct rig *r, uint64_t last)
{
	struct wire_raise_ids body = { .last = le64_of(last) };

	return rig_call(r, WIRE_RAISE_IDS, &body, NULL, 0);
}

static void test_a_name_again(struct rig *r, const uint8_t *text, size_t len)
{
	const struct wire_describe *d = (const void *)text;
	uint64_t object = le64_get(d->object);

	CHECK(restore(r, text, len, WIRE_RESTORE_IN_PLACE) == -EINVAL); /* its number would be given again */
	CHECK(raise_ids(r, UINT64_MAX) == -EINVAL);
	CHECK(raise_ids(r, object + 100) == 0);
	CHECK(restore(r, text, len, WIRE_RESTORE_IN_PLACE) == 0);
	CHECK(r->op.reply_payload_bytes == 6 && !memcmp(r->op.reply_payload, "/top/x", 6));
	int64_t top = rig_lookup(r, META_ROOT, "top"), x = rig_lookup(r, (uint64_t)top, "x");
	CHECK(x == (int64_t)le64_get(d->ino));
	CHECK(rig_lookup(r, (uint64_t)x, "zarr.json") > 0);
	CHECK((uint64_t)rig_dir(r, META_ROOT, "later") > object + 100);
}

/* Whatever is in it: an error, or a name; and the tables stay sound. */
static void test_bent(struct rig *r, const uint8_t *text, size_t len)
{
	struct wire_check_names check = { .flags = le32_of(0) };
	uint8_t *bent = malloc(len);
	unsigned seed = 1, ok = 0;

	for (unsigned i = 0; i < 4000; i++) {
		struct wire_describe *d = (void *)bent;
		size_t n = i % 3 ? len : (size_t)rand_r(&seed) % len;
		memcpy(bent, text, len);
		for (unsigned k = 0; k < 1 + i % 4; k++)
			bent[(unsigned)rand_r(&seed) % (i % 2 ? len : sizeof(*d))] = (uint8_t)rand_r(&seed);
		if (i % 5)
			d->object = le64_of(1000000 + i);
		ok += restore(r, bent, n, i % 2) == 0;
		if (i == 0)
			CHECK(raise_ids(r, 2000000) == 0);
	}
	CHECK(ok > 10);
	free(bent);
	CHECK(rig_call(r, WIRE_CHECK_NAMES, &check, NULL, 0) == 0);
	if (!CHECK(r->op.reply_payload_bytes == 0 || strstr((char *)r->op.reply_payload, "two share")))
		fprintf(stderr, "%.*s", (int)MIN(r->op.reply_payload_bytes, 2000), (char *)r->op.reply_payload);
}

int main(void)
{
	static uint8_t text[4096];
	struct rig r;
	size_t len = 0;

	if (rig_new(&r)) {
		len = describe(&r, text, sizeof(text));
		rig_free(&r);
	}
	if (len && rig_new(&r)) {
		test_a_name_again(&r, text, len);
		test_bent(&r, text, len);
		rig_free(&r);
	}
	return unit_result();
}
