/* DESCRIBE and OBJECTS: what the head says of objects, kept for whoever has to make a head anew. */
#include "daemon.h"
#include "server.h"
#include "store.h"

static int handle_describe(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_describe *w = r->body;
	size_t len = wire_description_bytes(w);
	AUTO_FREE uint8_t *whole = malloc(sizeof(*w) + r->payload_bytes);
	int err;

	if (!whole)
		return -ENOMEM;
	if (!le64_get(w->object) || len != sizeof(*w) + r->payload_bytes)
		return reason_set(why, EINVAL, "DESCRIBE: the lengths make no sense");
	memcpy(whole, w, sizeof(*w));
	memcpy(whole + sizeof(*w), r->payload, r->payload_bytes);
	err = store_describe(d->store, le64_get(w->object), whole, len, why);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

struct listing {
	uint8_t *bytes;
	size_t used;
};

/* false: it does not fit. */
static bool put_object(struct listing *l, const struct store_object *o)
{
	uint32_t n_bad = (uint32_t)MIN(o->quarantined, STORE_BAD_MAX);
	struct wire_object head = { le64_of(o->object),
				    le64_of(o->partitions),
				    le64_of(o->bytes),
				    le64_of(o->quarantined),
				    le32_of((uint32_t)o->description_bytes),
				    le32_of(n_bad) };
	size_t len = sizeof(head) + o->description_bytes + n_bad * sizeof(struct le64);
	uint8_t *at = l->bytes + l->used;

	_Static_assert(STORE_BAD_MAX == WIRE_OBJECT_BAD_MAX, "as many as the message has room for");
	if (len > WIRE_TEXT_MAX - l->used)
		return false;
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	if (o->description_bytes)
		memcpy(at, o->description, o->description_bytes);
	at += o->description_bytes;
	for (uint32_t i = 0; i < n_bad; i++) {
		struct le64 index = le64_of(o->bad[i]);
		memcpy(at + i * sizeof(index), &index, sizeof(index));
	}
	l->used += len;
	return true;
}

static int handle_objects(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_objects *w = r->body;
	uint64_t after = le64_get(w->after);
	struct listing l = { .bytes = malloc(WIRE_TEXT_MAX) };
	bool fits = true;
	int err = l.bytes ? 0 : -ENOMEM;

	for (uint32_t i = 0; !err && fits && i < le32_get(w->max); i++) {
		struct store_object o;
		if (request_cancelled(r))
			err = -ECANCELED;
		else
			err = store_next_object(d->store, after, &o, why);
		if (err)
			break;
		fits = put_object(&l, &o);
		after = o.object;
		free(o.description);
	}
	if (!err || err == -ENOENT) {
		request_reply(r, NULL, l.bytes, l.used);
		err = 0;
	}
	free(l.bytes);
	return err;
}

static const struct handler handlers[] = {
	{ WIRE_DESCRIBE, true, handle_describe },
	{ WIRE_OBJECTS, true, handle_objects },
	{ 0 },
};
const struct module objects_module = { .name = "objects", .handlers = handlers };
