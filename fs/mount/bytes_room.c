#include "bytes_internal.h"

int bytes_allocate(struct bytes *b, uint64_t partition, uint64_t offset, uint64_t length, uint32_t mode,
		   struct reason *why)
{
	struct wire_part_allocate body = { .part = bytes_part_id(b, partition, 0),
					   .offset = le64_of(offset),
					   .length = le64_of(length),
					   .mode = le32_of(mode) };
	struct fan_call c = { .retry = true,
			      .call = { .type = WIRE_PART_ALLOCATE,
					.body = &body,
					.body_bytes = sizeof(body),
					.timeout_ms = FAN_NO_DEADLINE } };

	return bytes_change_part(b, partition, &c, why);
}

int bytes_seek(struct bytes *b, uint64_t partition, uint64_t offset, bool hole, uint64_t *ret, struct reason *why)
{
	struct wire_part_seek body = { .part = bytes_part_id(b, partition, 0),
				       .offset = le64_of(offset),
				       .hole = le32_of(hole) };
	struct wire_part_seek_reply reply;
	struct fan_call c = {
		.call = { .type = WIRE_PART_SEEK, .body = &body, .body_bytes = sizeof(body), .reply_body = &reply },
		.retry = true
	};
	int err = bytes_call(b, partition, &c, NULL, why);

	if (err)
		return err;
	*ret = le64_get(reply.offset);
	return *ret < offset ? reason_set(why, EIO, "partition %llu: an offset that makes no sense",
					  (unsigned long long)partition)
			     : 0;
}

int bytes_copy(struct bytes *from, uint64_t from_partition, uint64_t from_offset, struct bytes *to, uint64_t partition,
	       uint64_t offset, uint64_t length, struct reason *why)
{
	struct wire_part_copy body = { .from = bytes_part_id(from, from_partition, 0),
				       .to = bytes_part_id(to, partition, 0),
				       .from_offset = le64_of(from_offset),
				       .to_offset = le64_of(offset),
				       .length = le64_of(length) };
	struct fan_call c = { .retry = true,
			      .call = { .type = WIRE_PART_COPY,
					.body = &body,
					.body_bytes = sizeof(body),
					.timeout_ms = FAN_NO_DEADLINE } };

	if (layout_owner(&from->layout, from_partition) != layout_owner(&to->layout, partition))
		return -EXDEV;
	return bytes_change_part(to, partition, &c, why);
}
