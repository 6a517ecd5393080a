/* The WIRE_PART_ messages: each field is checked here, the store does the rest.
 *
 * Reading and writing run on the connection's own thread, so that a peer that is slow to take its bytes holds up nobody else.
 */
#include "daemon.h"
#include "grid.h"
#include "server.h"
#include "store.h"

#include <inttypes.h>

#define QUICK_BYTES (1u << 20) /* of a partition that is opened or sealed on the connection's own thread */
#define LIST_MAX (WIRE_TEXT_MAX / sizeof(struct wire_part_info))

static int check_part(const struct wire_part *w, uint32_t flags_known, struct part_id *ret, struct reason *why)
{
	*ret = (struct part_id){ le64_get(w->object), le64_get(w->index) };
	if (le32_get(w->flags) & ~flags_known)
		return reason_set(why, EINVAL, "unknown flags 0x%x", le32_get(w->flags));
	if (ret->object == 0)
		return reason_set(why, EINVAL, "object 0 is not one");
	return 0;
}

/* What was removed is dropped whatever its epoch was. */
static int check_placed(const struct wire_part *w, uint32_t flags_known, struct part_id *ret, struct reason *why)
{
	int err = check_part(w, flags_known, ret, why);

	if (!err && le32_get(w->epoch) != WIRE_EPOCH)
		err = reason_set(why, ESTALE, "placement epoch %u of object %" PRIu64 "; it is %d here",
				 le32_get(w->epoch), ret->object, WIRE_EPOCH);
	return err;
}

static int check_span(uint64_t offset, uint64_t length, struct reason *why)
{
	uint64_t end;

	if (add_overflows(offset, length, &end) || end > GRID_PARTITION_BYTES_MAX)
		return reason_set(why, EFBIG, "a partition has at most %" PRIu64 " bytes", GRID_PARTITION_BYTES_MAX);
	return 0;
}

static int check_alloc(const struct wire_alloc *w, struct part_alloc *ret, struct reason *why)
{
	*ret = (struct part_alloc){ .bytes = le64_get(w->bytes), .fill_bytes = le32_get(w->fill_bytes) };
	memcpy(ret->fill, w->fill, sizeof(ret->fill));
	if (ret->fill_bytes > sizeof(ret->fill) || le32_get(w->reserved))
		return reason_set(why, EINVAL, "a fill pattern has at most %zu bytes", sizeof(ret->fill));
	return check_span(0, ret->bytes, why);
}

static int handle_open(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_open *w = r->body;
	bool writes = le32_get(w->part.flags) & WIRE_PART_FOR_WRITE;
	struct part_alloc alloc;
	struct part_file file;
	struct part_id id;
	int err = check_placed(&w->part, WIRE_PART_FOR_WRITE, &id, why);

	if (!err)
		err = check_alloc(&w->alloc, &alloc, why);
	if (!err && !request_passes_fds(r))
		err = reason_set(why, EOPNOTSUPP, "descriptors are passed over the unix socket only");
	if (!err)
		err = writes ? store_write_fd(d->store, id, &alloc, session_number(r->session), &file, why)
			     : store_read_fd(d->store, id, 0, UINT64_MAX, &file, why);
	if (err)
		return err;
	struct wire_part_open_reply reply = { le64_of(file.bytes), le64_of(file.version) };
	request_reply_fd(r, &reply, file.fd);
	close(file.fd);
	return 0;
}

static int handle_read(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_read *w = r->body;
	uint64_t offset = le64_get(w->offset), length = le32_get(w->length);
	struct wire_part_read_reply reply = { 0 };
	struct part_file file;
	struct part_id id;
	int err = check_placed(&w->part, 0, &id, why);

	if (!err && (length > WIRE_DATA_MAX || le32_get(w->reserved)))
		err = reason_set(why, EINVAL, "a read has at most %u bytes", WIRE_DATA_MAX);
	if (!err)
		err = check_span(offset, length, why);
	if (!err)
		err = store_read_fd(d->store, id, offset, length, &file, why);
	if (err == -ENOENT) {
		reply.flags = le32_of(WIRE_READ_HOLE);
		request_reply(r, &reply, NULL, 0);
		return 0;
	}
	if (err)
		return err;
	length = offset >= file.bytes ? 0 : MIN(length, file.bytes - offset);
	request_reply_file(r, &reply, file.fd, offset, length);
	close(file.fd);
	return 0;
}

static int handle_write(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_write *w = r->body;
	uint64_t offset = le64_get(w->offset);
	struct part_alloc alloc;
	struct part_id id;
	int err = check_placed(&w->part, 0, &id, why);

	if (!err)
		err = check_alloc(&w->alloc, &alloc, why);
	if (!err)
		err = check_span(offset, r->payload_bytes, why);
	if (!err)
		err = store_write(d->store, id, &alloc, session_number(r->session), r->payload, r->payload_bytes,
				  offset, why);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static int handle_seal(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_seal *w = r->body;
	const struct wire_range *in = (const void *)r->payload;
	size_t n = le32_get(w->n_ranges);
	bool durable = le32_get(w->part.flags) & WIRE_SEAL_DURABLE;
	struct part_id id;
	uint64_t version = 0;
	int err = check_placed(&w->part, WIRE_SEAL_DURABLE, &id, why);

	if (!err && (n > WIRE_RANGES_MAX || r->payload_bytes != n * sizeof(*in) || le32_get(w->reserved)))
		err = reason_set(why, EINVAL, "%zu ranges in %zu bytes", n, r->payload_bytes);
	if (err)
		return err;
	AUTO_FREE struct part_range *ranges = calloc(n + 1, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	for (size_t i = 0; i < n && !err; i++) {
		ranges[i] = (struct part_range){ le64_get(in[i].offset), le64_get(in[i].length) };
		err = check_span(ranges[i].offset, ranges[i].length, why);
	}
	if (!err)
		err = store_seal(d->store, id, session_number(r->session), ranges, n, durable, &version, why);
	if (err)
		return err;
	struct wire_part_seal_reply reply = { le64_of(version) };
	request_reply(r, &reply, NULL, 0);
	return 0;
}

static int handle_truncate(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_truncate *w = r->body;
	struct part_id id;
	int err = check_placed(&w->part, 0, &id, why);

	if (!err)
		err = check_span(0, le64_get(w->length), why);
	if (!err)
		err = store_truncate(d->store, id, le64_get(w->length), why);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static int drop_objects(struct daemon *d, const struct request *r, uint64_t first, struct reason *why)
{
	const struct le64 *others = (const void *)r->payload;
	size_t n = r->payload_bytes / sizeof(*others);
	AUTO_FREE uint64_t *objects = calloc(n + 1, sizeof(*objects));

	if (!objects)
		return -ENOMEM;
	objects[0] = first;
	for (size_t i = 0; i < n; i++) {
		objects[i + 1] = le64_get(others[i]);
		if (objects[i + 1] == 0)
			return reason_set(why, EINVAL, "object 0 is not one");
	}
	return store_drop_objects(d->store, objects, n + 1, why);
}

static int handle_drop(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_drop *w = r->body;
	bool whole = le32_get(w->part.flags) & WIRE_DROP_OBJECT;
	struct part_id id;
	int err = check_part(&w->part, WIRE_DROP_OBJECT, &id, why);

	if (!err && (whole ? r->payload_bytes % sizeof(struct le64) : r->payload_bytes))
		err = reason_set(why, EINVAL, "the payload is not objects to drop");
	if (!err)
		err = whole ? drop_objects(d, r, id.object, why)
			    : store_drop(d->store, id.object, id.index, le64_get(w->count), false, why);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static int handle_list(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_list *w = r->body;
	struct part_info *infos;
	struct part_id id;
	size_t n;
	int err = check_placed(&w->part, 0, &id, why);

	if (!err && le32_get(w->reserved))
		err = reason_set(why, EINVAL, "a reserved field is set");
	if (!err)
		err = store_list(d->store, id.object, id.index, MIN(le32_get(w->max), LIST_MAX), &infos, &n, why);
	if (err)
		return err;
	AUTO_FREE struct wire_part_info *out = calloc(n + 1, sizeof(*out));
	for (size_t i = 0; out && i < n; i++)
		out[i] = (struct wire_part_info){
			le64_of(infos[i].index),    le64_of(infos[i].file_bytes), le64_of(infos[i].blocks),
			le64_of(infos[i].mtime_ns), le64_of(infos[i].version),
		};
	free(infos);
	if (!out)
		return -ENOMEM;
	request_reply(r, NULL, out, n * sizeof(*out));
	return 0;
}

static int handle_adopt(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_adopt *w = r->body;
	struct part_id from, to;
	uint32_t flags = le32_get(w->from.flags) | le32_get(w->to.flags);
	int err = check_placed(&w->from, WIRE_ADOPT_LINK | WIRE_ADOPT_AGAIN, &from, why);

	if (!err)
		err = check_placed(&w->to, WIRE_ADOPT_LINK, &to, why);
	if (!err)
		err = check_span(0, le64_get(w->expect_bytes), why);
	if (!err)
		err = store_adopt(d->store, from, to, flags & WIRE_ADOPT_LINK, le64_get(w->expect_bytes), why);
	if (err == -ENOENT && flags == WIRE_ADOPT_AGAIN && store_adopted(d->store, from, to, le64_get(w->expect_bytes)))
		err = 0;
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static int handle_sync(struct daemon *d, struct request *r, struct reason *why)
{
	struct part_id id;
	int err = check_placed(r->body, 0, &id, why);

	if (!err)
		err = store_sync(d->store, id.object, why);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static bool is_quick_open(struct daemon *d, const struct request *r)
{
	const struct wire_part_open *w = r->body;
	struct part_id id = { le64_get(w->part.object), le64_get(w->part.index) };

	return le64_get(w->alloc.bytes) <= QUICK_BYTES && store_is_small(d->store, id, QUICK_BYTES);
}

static bool is_quick_seal(struct daemon *d, const struct request *r)
{
	const struct wire_part_seal *w = r->body;
	struct part_id id = { le64_get(w->part.object), le64_get(w->part.index) };

	return !(le32_get(w->part.flags) & WIRE_SEAL_DURABLE) && store_is_small(d->store, id, QUICK_BYTES);
}

static int handle_allocate(struct daemon *d, struct request *r, struct reason *why)
{
	static const enum store_room rooms[] = { [WIRE_ALLOCATE_RESERVE] = STORE_RESERVE,
						 [WIRE_ALLOCATE_ZERO] = STORE_ZERO,
						 [WIRE_ALLOCATE_PUNCH] = STORE_PUNCH };
	const struct wire_part_allocate *w = r->body;
	uint64_t offset = le64_get(w->offset), length = le64_get(w->length);
	uint32_t mode = le32_get(w->mode);
	struct part_id id;
	int err = check_part(&w->part, 0, &id, why);

	if (!err && (mode < WIRE_ALLOCATE_RESERVE || mode > WIRE_ALLOCATE_PUNCH || le32_get(w->reserved)))
		err = reason_set(why, EINVAL, "mode %u is not one", mode);
	if (!err)
		err = check_span(offset, length, why);
	if (!err)
		err = store_allocate(d->store, id, offset, length, rooms[mode], why);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static int handle_seek(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_seek *w = r->body;
	uint32_t hole = le32_get(w->hole);
	struct part_id id;
	uint64_t found;
	int err = check_part(&w->part, 0, &id, why);

	if (!err && (hole > 1 || le32_get(w->reserved)))
		err = reason_set(why, EINVAL, "holes are 0 or 1, not %u", hole);
	if (!err)
		err = check_span(le64_get(w->offset), 0, why);
	if (!err)
		err = store_seek(d->store, id, le64_get(w->offset), hole, &found, why);
	if (err)
		return err;
	struct wire_part_seek_reply reply = { le64_of(found) };
	request_reply(r, &reply, NULL, 0);
	return 0;
}

static int handle_copy(struct daemon *d, struct request *r, struct reason *why)
{
	const struct wire_part_copy *w = r->body;
	uint64_t from_offset = le64_get(w->from_offset), to_offset = le64_get(w->to_offset);
	uint64_t length = le64_get(w->length);
	struct part_id from, to;
	int err = check_part(&w->from, 0, &from, why);

	if (!err)
		err = check_part(&w->to, 0, &to, why);
	if (!err)
		err = check_span(from_offset, length, why);
	if (!err)
		err = check_span(to_offset, length, why);
	if (!err)
		err = store_copy(d->store, from, from_offset, to, to_offset, length, why);
	if (!err)
		request_reply(r, NULL, NULL, 0);
	return err;
}

static void end_session(struct daemon *d, struct session *s)
{
	store_session_end(d->store, session_number(s));
}

bool part_is_quick(struct daemon *d, const struct request *r)
{
	return (r->type == WIRE_PART_OPEN && is_quick_open(d, r)) || (r->type == WIRE_PART_SEAL && is_quick_seal(d, r));
}

static const struct handler part_handlers[] = {
	{ WIRE_PART_OPEN, true, handle_open },
	{ WIRE_PART_READ, false, handle_read },
	{ WIRE_PART_WRITE, false, handle_write },
	{ WIRE_PART_SEAL, true, handle_seal },
	{ WIRE_PART_TRUNCATE, true, handle_truncate },
	{ WIRE_PART_DROP, true, handle_drop },
	{ WIRE_PART_LIST, true, handle_list },
	{ WIRE_PART_ADOPT, true, handle_adopt },
	{ WIRE_PART_SYNC, true, handle_sync },
	{ WIRE_PART_ALLOCATE, true, handle_allocate },
	{ WIRE_PART_SEEK, true, handle_seek },
	{ WIRE_PART_COPY, true, handle_copy },
	{ 0, false, NULL },
};

const struct module part_module = { "partitions", part_handlers, end_session, NULL, NULL };
