#include "wire.h"

#define NAME SLAB_NAME_MAX
#define TARGET_MAX 4096  /* PATH_MAX: of a symbolic link */
#define ADDRESS_MAX 320  /* wire_node.address */
#define GREETING_MAX 512 /* who says HELLO */
#define ERRNO_MAX 4095

#define BODY(type) sizeof(struct type)

static const struct wire_row rows[WIRE_TYPE_END] = {
	[WIRE_HELLO] = { "HELLO", BODY(wire_hello), BODY(wire_hello_reply), GREETING_MAX, 0 },
	[WIRE_PING] = { "PING", 0, 0, 0, 0 },
	[WIRE_CANCEL] = { "CANCEL", BODY(wire_cancel), 0, 0, 0 },
	[WIRE_STATUS] = { "STATUS", 0, 0, 0, WIRE_TEXT_MAX },

	[WIRE_JOIN] = { "JOIN", BODY(wire_join), BODY(wire_join_reply), ADDRESS_MAX, 0 },
	[WIRE_REGISTER] = { "REGISTER", BODY(wire_register), 0, ADDRESS_MAX + WIRE_KNOWN_MAX * sizeof(struct uuid), 0 },
	[WIRE_BEAT] = { "BEAT", BODY(wire_beat), 0, 0, 0 },
	[WIRE_LEAVE] = { "LEAVE", BODY(wire_leave), 0, 0, 0 },
	[WIRE_NODES] = { "NODES", 0, 0, 0, SLAB_NODES_MAX *BODY(wire_node) },

	[WIRE_LOOKUP] = { "LOOKUP", BODY(wire_lookup), BODY(wire_attr), NAME, 0 },
	[WIRE_GETATTR] = { "GETATTR", BODY(wire_ino), BODY(wire_attr), 0, 0 },
	[WIRE_SETATTR] = { "SETATTR", BODY(wire_setattr), BODY(wire_attr), 0, 0 },
	[WIRE_MAKE] = { "MAKE", BODY(wire_make), BODY(wire_made), NAME + TARGET_MAX,
			SLAB_NODES_MAX * sizeof(struct le32) },
	[WIRE_LINK] = { "LINK", BODY(wire_link), BODY(wire_attr), NAME, 0 },
	[WIRE_UNLINK] = { "UNLINK", BODY(wire_unlink), BODY(wire_removed), NAME, 0 },
	[WIRE_RMDIR] = { "RMDIR", BODY(wire_unlink), BODY(wire_removed), NAME, 0 },
	[WIRE_RENAME] = { "RENAME", BODY(wire_rename), BODY(wire_attr), 2 * NAME, 0 },
	[WIRE_READLINK] = { "READLINK", BODY(wire_ino), 0, 0, TARGET_MAX },
	[WIRE_READDIR] = { "READDIR", BODY(wire_readdir), 0, 0, WIRE_TEXT_MAX },
	[WIRE_GETXATTR] = { "GETXATTR", BODY(wire_xattr), 0, NAME, WIRE_XATTR_MAX },
	[WIRE_SETXATTR] = { "SETXATTR", BODY(wire_xattr), BODY(wire_attr), NAME + WIRE_XATTR_MAX, 0 },
	[WIRE_LISTXATTR] = { "LISTXATTR", BODY(wire_ino), 0, 0, WIRE_XATTR_MAX },
	[WIRE_REMOVEXATTR] = { "REMOVEXATTR", BODY(wire_xattr), BODY(wire_attr), NAME, 0 },
	[WIRE_STATFS] = { "STATFS", 0, BODY(wire_statfs), 0, 0 },
	[WIRE_OPEN] = { "OPEN", BODY(wire_open), BODY(wire_open_reply), 0, WIRE_TEXT_MAX },
	[WIRE_CLOSE] = { "CLOSE", BODY(wire_ino), 0, 0, 0 },
	[WIRE_COMMIT] = { "COMMIT", BODY(wire_commit), BODY(wire_attr), 0, 0 },
	[WIRE_METASYNC] = { "METASYNC", 0, 0, 0, 0 },
	[WIRE_FORGET] = { "FORGET", BODY(wire_forget), 0, WIRE_TEXT_MAX, 0 },
	[WIRE_INVAL] = { "INVAL", BODY(wire_inval), 0, NAME, 0 },
	[WIRE_INLINE_READ] = { "INLINE_READ", BODY(wire_ino), 0, 0, WIRE_TEXT_MAX },
	[WIRE_INLINE_WRITE] = { "INLINE_WRITE", BODY(wire_inline_write), BODY(wire_attr), WIRE_TEXT_MAX, 0 },
	[WIRE_DEFINE] = { "DEFINE", BODY(wire_define), BODY(wire_attr), WIRE_TEXT_MAX, 0 },
	[WIRE_RESIZE] = { "RESIZE", BODY(wire_resize), BODY(wire_attr), 0, 0 },
	[WIRE_CHUNKDIR] = { "CHUNKDIR", BODY(wire_chunkdir), BODY(wire_attr), 0, 0 },
	[WIRE_LOCK] = { "LOCK", BODY(wire_lock), BODY(wire_lock_reply), 0, 0 },
	[WIRE_APPEND] = { "APPEND", BODY(wire_append), BODY(wire_attr), 0, 0 },

	[WIRE_RESTORE] = { "RESTORE", BODY(wire_restore), 0, WIRE_TEXT_MAX, WIRE_TEXT_MAX },
	[WIRE_CHECK_NAMES] = { "CHECK_NAMES", BODY(wire_check_names), 0, 0, WIRE_TEXT_MAX },
	[WIRE_RAISE_IDS] = { "RAISE_IDS", BODY(wire_raise_ids), 0, 0, 0 },
	[WIRE_OBJECT_PATHS] = { "OBJECT_PATHS", BODY(wire_object_paths), 0, WIRE_STATES_MAX * 8, WIRE_TEXT_MAX },

	[WIRE_READ_TIMES] = { "READ_TIMES", 0, 0, WIRE_TEXT_MAX, 0 },
	[WIRE_PART_OPEN] = { "PART_OPEN", BODY(wire_part_open), BODY(wire_part_open_reply), 0, 0 },
	[WIRE_PART_READ] = { "PART_READ", BODY(wire_part_read), BODY(wire_part_read_reply), 0, WIRE_DATA_MAX },
	[WIRE_PART_WRITE] = { "PART_WRITE", BODY(wire_part_write), 0, WIRE_DATA_MAX, 0 },
	[WIRE_PART_SEAL] = { "PART_SEAL", BODY(wire_part_seal), BODY(wire_part_seal_reply),
			     WIRE_RANGES_MAX *BODY(wire_range), 0 },
	[WIRE_PART_TRUNCATE] = { "PART_TRUNCATE", BODY(wire_part_truncate), 0, 0, 0 },
	[WIRE_PART_DROP] = { "PART_DROP", BODY(wire_part_drop), 0, WIRE_DROP_MAX * sizeof(struct le64), 0 },
	[WIRE_PART_LIST] = { "PART_LIST", BODY(wire_part_list), 0, 0, WIRE_TEXT_MAX },
	[WIRE_PART_ADOPT] = { "PART_ADOPT", BODY(wire_part_adopt), 0, 0, 0 },
	[WIRE_PART_SYNC] = { "PART_SYNC", BODY(wire_part), 0, 0, 0 },
	[WIRE_PART_ALLOCATE] = { "PART_ALLOCATE", BODY(wire_part_allocate), 0, 0, 0 },
	[WIRE_PART_SEEK] = { "PART_SEEK", BODY(wire_part_seek), BODY(wire_part_seek_reply), 0, 0 },
	[WIRE_PART_COPY] = { "PART_COPY", BODY(wire_part_copy), 0, 0, 0 },
	[WIRE_REDUCE] = { "REDUCE", BODY(wire_reduce), BODY(wire_reduce_reply), WIRE_TEXT_MAX, WIRE_TEXT_MAX },
	[WIRE_DESCRIBE] = { "DESCRIBE", BODY(wire_describe), 0, WIRE_TEXT_MAX, 0 },
	[WIRE_OBJECTS] = { "OBJECTS", BODY(wire_objects), 0, 0, WIRE_TEXT_MAX },
	[WIRE_SCRUB] = { "SCRUB", BODY(wire_scrub), 0, 0, WIRE_TEXT_MAX },
};

const struct wire_row *wire_row(unsigned type)
{
	return type < WIRE_TYPE_END && rows[type].name ? &rows[type] : NULL;
}

bool wire_takes_once(unsigned type)
{
	switch (type) {
	case WIRE_MAKE:
	case WIRE_LINK:
	case WIRE_UNLINK:
	case WIRE_RMDIR:
	case WIRE_RENAME:
	case WIRE_SETXATTR:
	case WIRE_REMOVEXATTR:
	case WIRE_DEFINE:
	case WIRE_RESIZE:
	case WIRE_CHUNKDIR:
	case WIRE_APPEND:
		return true;
	default:
		return false;
	}
}

static int check_lengths(const struct wire_header *h, const char *what, uint32_t body, uint32_t payload_max,
			 struct reason *why)
{
	if (le32_get(h->body_bytes) != body)
		return reason_set(why, EPROTO, "%s: a body of %u bytes instead of %u", what, le32_get(h->body_bytes),
				  body);
	if (le64_get(h->payload_bytes) > payload_max)
		return reason_set(why, EPROTO, "%s: a payload of %llu bytes, at most %u are allowed", what,
				  (unsigned long long)le64_get(h->payload_bytes), payload_max);
	return 0;
}

static int check_reply(const struct wire_header *h, const struct wire_row *row, struct reason *why)
{
	uint32_t status = le32_get(h->status);

	if (le16_get(h->type) == WIRE_CANCEL)
		return reason_set(why, EPROTO, "a reply to CANCEL, which has none");
	if (status > ERRNO_MAX)
		return reason_set(why, EPROTO, "%s: status %u is not an errno", row->name, status);
	if (status)
		return check_lengths(h, row->name, 0, WIRE_REASON_MAX, why);
	return check_lengths(h, row->name, row->reply_body, row->reply_payload_max, why);
}

int wire_check(const struct wire_header *h, struct reason *why)
{
	const struct wire_row *row;
	uint32_t flags = le32_get(h->flags);

	if (le32_get(h->magic) != WIRE_MAGIC)
		return reason_set(why, EPROTO, "bytes that are no frame (magic %08x)", le32_get(h->magic));
	if (le16_get(h->version) != WIRE_VERSION)
		return reason_set(why, EPROTONOSUPPORT, "protocol version %u; this program speaks %u",
				  le16_get(h->version), WIRE_VERSION);
	row = wire_row(le16_get(h->type));
	if (!row)
		return reason_set(why, EPROTO, "unknown message type %u", le16_get(h->type));
	if ((flags & ~WIRE_REPLY) || le32_get(h->reserved))
		return reason_set(why, EPROTO, "%s: a reserved field is not zero", row->name);
	if (le64_get(h->once) && ((flags & WIRE_REPLY) || !wire_takes_once(le16_get(h->type))))
		return reason_set(why, EPROTO, "%s: a once number, which it does not take", row->name);
	if (flags & WIRE_REPLY)
		return check_reply(h, row, why);
	if (le32_get(h->status))
		return reason_set(why, EPROTO, "%s: a request with a status", row->name);
	return check_lengths(h, row->name, row->request_body, row->request_payload_max, why);
}

void wire_request(struct wire_header *ret, unsigned type, uint64_t id, uint32_t body_bytes, uint64_t payload_bytes)
{
	*ret = (struct wire_header){ .magic = le32_of(WIRE_MAGIC),
				     .version = le16_of(WIRE_VERSION),
				     .type = le16_of((uint16_t)type),
				     .id = le64_of(id),
				     .body_bytes = le32_of(body_bytes),
				     .payload_bytes = le64_of(payload_bytes) };
}

void wire_reply(struct wire_header *ret, unsigned type, uint64_t id, int err, uint32_t body_bytes,
		uint64_t payload_bytes)
{
	wire_request(ret, type, id, body_bytes, payload_bytes);
	ret->status = le32_of((uint32_t)abs(err));
	ret->flags = le32_of(WIRE_REPLY);
}

int wire_check_name(const char *name, size_t len)
{
	if (len > SLAB_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0 || memchr(name, '/', len) || memchr(name, '\0', len))
		return -EINVAL;
	if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
		return -EINVAL;
	return 0;
}

const void *cursor_take(struct cursor *c, size_t len)
{
	const void *at = c->at;

	if (len > c->left)
		return NULL;
	c->at += len;
	c->left -= len;
	return at;
}

size_t wire_description_bytes(const struct wire_describe *d)
{
	uint64_t bytes = sizeof(*d) + (uint64_t)le32_get(d->n_nodes) * sizeof(struct le32) + le32_get(d->path_bytes) +
			 le32_get(d->npy_bytes) + le32_get(d->doc_bytes) + le32_get(d->xattrs_bytes);

	if (!le32_get(d->n_nodes) || le32_get(d->n_nodes) > SLAB_NODES_MAX || bytes > WIRE_DESCRIPTION_MAX)
		return 0;
	return (size_t)bytes;
}
