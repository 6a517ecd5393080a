#include "wire.h"

#include "unit.h"

static struct wire_header good_request(unsigned type)
{
	struct wire_header h;

	wire_request(&h, type, 7, wire_row(type)->request_body, wire_row(type)->request_payload_max);
	return h;
}

static struct wire_header good_reply(unsigned type)
{
	struct wire_header h;

	wire_reply(&h, type, 7, 0, wire_row(type)->reply_body, wire_row(type)->reply_payload_max);
	return h;
}

static int check(struct wire_header h)
{
	struct reason why = { "" };
	int err = wire_check(&h, &why);

	CHECK(!err == !why.text[0]);
	return err;
}

static void test_rows(void)
{
	for (unsigned type = 0; type < WIRE_TYPE_END + 10u; type++) {
		const struct wire_row *row = wire_row(type);
		struct wire_header h;

		if (!row) {
			wire_request(&h, type, 1, 0, 0);
			CHECK(check(h) == -EPROTO);
			continue;
		}
		CHECK(row->name[0] && row->request_body <= WIRE_BODY_MAX && row->reply_body <= WIRE_BODY_MAX);
		CHECK(row->request_payload_max <= WIRE_DATA_MAX && row->reply_payload_max <= WIRE_DATA_MAX);
		CHECK(check(good_request(type)) == 0);
		CHECK(check(good_reply(type)) == (type == WIRE_CANCEL ? -EPROTO : 0));
	}
	CHECK(wire_row(WIRE_HELLO) && wire_row(WIRE_REDUCE) && !wire_row(0) && !wire_row(WIRE_TYPE_END));
}

/* Every field of the header, one wrong value at a time. */
static void test_fields(void)
{
	struct wire_header r = good_request(WIRE_PART_WRITE), h;

	h = r, h.magic = le32_of(WIRE_MAGIC ^ 1);
	CHECK(check(h) == -EPROTO);
	h = r, h.version = le16_of(WIRE_VERSION + 1);
	CHECK(check(h) == -EPROTONOSUPPORT);
	h = r, h.version = le16_of(0);
	CHECK(check(h) == -EPROTONOSUPPORT);
	h = r, h.type = le16_of(15);
	CHECK(check(h) == -EPROTO);
	h = r, h.type = le16_of(0xffff);
	CHECK(check(h) == -EPROTO);
	h = r, h.id = le64_of(UINT64_MAX);
	CHECK(check(h) == 0);
	h = r, h.status = le32_of(1);
	CHECK(check(h) == -EPROTO);
	for (unsigned bit = 1; bit < 32; bit++) {
		h = r, h.flags = le32_of(1u << bit);
		CHECK(check(h) == -EPROTO);
	}
	h = r, h.reserved = le32_of(1);
	CHECK(check(h) == -EPROTO);
	h = r, h.once = le64_of(1);
	CHECK(check(h) == -EPROTO);
	h = good_request(WIRE_RENAME), h.once = le64_of(1);
	CHECK(check(h) == 0);
	h = good_reply(WIRE_RENAME), h.once = le64_of(1);
	CHECK(check(h) == -EPROTO);
	h = r, h.body_bytes = le32_of(le32_get(r.body_bytes) + 1);
	CHECK(check(h) == -EPROTO);
	h = r, h.body_bytes = le32_of(0);
	CHECK(check(h) == -EPROTO);
	h = r, h.payload_bytes = le64_of(WIRE_DATA_MAX + 1);
	CHECK(check(h) == -EPROTO);
	h = r, h.payload_bytes = le64_of(UINT64_C(1) << 32);
	CHECK(check(h) == -EPROTO);
	h = r, h.payload_bytes = le64_of(0);
	CHECK(check(h) == 0);
}

static void test_error_replies(void)
{
	struct wire_header h;

	wire_reply(&h, WIRE_LOOKUP, 1, -ENOENT, 0, 20);
	CHECK(check(h) == 0 && le32_get(h.status) == ENOENT);
	wire_reply(&h, WIRE_LOOKUP, 1, ENOENT, 0, WIRE_REASON_MAX);
	CHECK(check(h) == 0 && le32_get(h.status) == ENOENT);
	wire_reply(&h, WIRE_LOOKUP, 1, -ENOENT, 0, WIRE_REASON_MAX + 1);
	CHECK(check(h) == -EPROTO);
	wire_reply(&h, WIRE_LOOKUP, 1, -ENOENT, sizeof(struct wire_attr), 0);
	CHECK(check(h) == -EPROTO);
	wire_reply(&h, WIRE_LOOKUP, 1, -4096, 0, 0);
	CHECK(check(h) == -EPROTO);
	wire_reply(&h, WIRE_LOOKUP, 1, 0, 0, 0);
	CHECK(check(h) == -EPROTO);
}

static int name(const char *s)
{
	return wire_check_name(s, strlen(s));
}

static void test_names(void)
{
	char text[257];

	memset(text, 'x', sizeof(text));
	CHECK(wire_check_name(text, 255) == 0 && wire_check_name(text, 256) == -ENAMETOOLONG);
	CHECK(name("a") == 0 && name("...") == 0 && name(".a") == 0 && name("\xff\n") == 0);
	CHECK(name("") == -EINVAL && name(".") == -EINVAL && name("..") == -EINVAL && name("a/b") == -EINVAL);
	CHECK(wire_check_name("a\0b", 3) == -EINVAL);
}

static void test_cursor(void)
{
	uint8_t bytes[8] = { 0 };
	struct cursor c = { bytes, sizeof(bytes) };

	CHECK(cursor_take(&c, 3) == bytes && c.left == 5);
	CHECK(!cursor_take(&c, 6) && c.left == 5);
	CHECK(!cursor_take(&c, SIZE_MAX));
	CHECK(cursor_take(&c, 5) == bytes + 3 && c.left == 0);
	CHECK(cursor_take(&c, 0) && !cursor_take(&c, 1));
}

int main(void)
{
	test_rows();
	test_fields();
	test_error_replies();
	test_names();
	test_cursor();
	return unit_result();
}
