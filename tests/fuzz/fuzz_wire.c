/* Any bytes as a stream of frames, through a transport as a daemon reads it: what is accepted keeps to the limits. */
#include "transport.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_row(const struct wire_header *h)
{
	const struct wire_row *row = wire_row(le16_get(h->type));
	bool reply = le32_get(h->flags) & WIRE_REPLY, error = le32_get(h->status) != 0;

	check(row && le32_get(h->body_bytes) <= WIRE_BODY_MAX && le64_get(h->payload_bytes) <= WIRE_DATA_MAX);
	check(reply || !error);
	check(!error || (!le32_get(h->body_bytes) && le64_get(h->payload_bytes) <= WIRE_REASON_MAX));
	check(error || le32_get(h->body_bytes) == (reply ? row->reply_body : row->request_body));
}

static int read_frame(struct transport *t)
{
	static uint8_t body[WIRE_BODY_MAX], payload[WIRE_DATA_MAX];
	struct reason why = { "" };
	struct wire_header h;
	size_t len;
	int err = transport_receive(t, &h, sizeof(h), NULL);

	if (err)
		return err;
	err = wire_check(&h, &why);
	check(!err || why.text[0]);
	if (err)
		return err;
	check_row(&h);
	len = (size_t)le64_get(h.payload_bytes);
	err = transport_receive(t, body, le32_get(h.body_bytes), NULL);
	if (!err)
		err = transport_receive(t, payload, len, NULL);
	if (!err && len)
		wire_check_name((const char *)payload, len);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct transport *in, *out;
	struct iovec iov = { (void *)(uintptr_t)data, size };

	if (size > 32768)
		return 0;
	check(!transport_mem_pair(&in, &out));
	check(!transport_send(out, &iov, 1, -1));
	transport_shutdown(out);
	while (!read_frame(in)) {
	}
	transport_free(in);
	transport_free(out);
	return 0;
}
