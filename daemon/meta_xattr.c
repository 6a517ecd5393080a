/* Extended attributes.  user.slabfs.partition_bytes is kept in the inode as well, where making a file looks for it. */
#include "meta_int.h"

#include <stdio.h>
#include <sys/xattr.h>

#define XATTR_PARTITION_BYTES "user.slabfs.partition_bytes"
#define XATTR_REPLICAS "user.slabfs.replicas"
#define PARTITION_BYTES_MIN 4096
#define XATTR_NAMES_MAX 65536 /* of one inode: what listxattr(2) can return */

static bool has_prefix(struct meta_name n, const char *prefix)
{
	size_t len = strlen(prefix);

	return n.len > len && !memcmp(n.text, prefix, len);
}

static bool has_namespace(struct meta_name n)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security.", "system." };

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (has_prefix(n, prefixes[i]))
			return true;
	return false;
}

static int take_name(struct meta_op *op, struct meta_name *ret, struct cursor *ret_rest)
{
	const struct wire_xattr *body = op->body;
	struct cursor c = { op->payload, op->payload_bytes };
	size_t len = le32_get(body->name_bytes);
	const char *text = cursor_take(&c, len);

	if (!text || !len || memchr(text, '\0', len))
		return reason_set(op->why, EINVAL, "the payload does not begin with the attribute's name");
	if (len > SLAB_NAME_MAX)
		return -ERANGE;
	if (!has_namespace((struct meta_name){ text, len }))
		return -EOPNOTSUPP;
	*ret = (struct meta_name){ text, len };
	*ret_rest = c;
	return 0;
}

static bool exists(struct meta *m, uint64_t ino, struct meta_name name)
{
	return db_run(m->db, SQL_XATTR_GET, db_int(ino), db_bytes(name.text, name.len)) == 1;
}

int meta_op_getxattr(struct meta_op *op)
{
	const struct wire_xattr *body = op->body;
	struct cursor rest;
	struct meta_name name;
	const void *value;
	int err = take_name(op, &name, &rest);
	int rc;

	if (err)
		return err;
	rc = db_run(op->m->db, SQL_XATTR_GET, db_int(le64_get(body->ino)), db_bytes(name.text, name.len));
	if (rc <= 0)
		return rc ? rc : -ENODATA;
	value = db_blob(op->m->db, SQL_XATTR_GET, 0, &op->reply_payload_bytes);
	op->reply_payload = malloc(op->reply_payload_bytes + 1);
	if (!op->reply_payload)
		return -ENOMEM;
	memcpy(op->reply_payload, value, op->reply_payload_bytes);
	return 0;
}

static int set_partition_bytes(struct meta_op *op, struct inode *in, const void *value, size_t len)
{
	char text[24];
	uint64_t bytes;

	snprintf(text, sizeof(text), "%.*s", (int)MIN(len, sizeof(text) - 1), (const char *)value);
	if (len >= sizeof(text) || parse_u64(text, GRID_PARTITION_BYTES_MAX, &bytes) < 0 ||
	    bytes < PARTITION_BYTES_MIN || bytes % PARTITION_BYTES_MIN)
		return reason_set(op->why, EINVAL, XATTR_PARTITION_BYTES ": '%.23s' is not a multiple of %d in range",
				  text, PARTITION_BYTES_MIN);
	if (!S_ISDIR(in->mode) && (!S_ISREG(in->mode) || in->size || opens_count(op->m, in->ino)))
		return reason_set(op->why, EINVAL,
				  XATTR_PARTITION_BYTES ": only a directory or an empty file that"
							" nobody has open can be cut anew");
	in->partition_bytes = bytes;
	meta_changed(op, in, WIRE_INVAL_LAYOUT);
	return 0;
}

/* What an attribute of our own means for the inode. */
static int set_own(struct meta_op *op, struct inode *in, struct meta_name name, const void *value, size_t len)
{
	if (meta_name_is(name, XATTR_PARTITION_BYTES))
		return set_partition_bytes(op, in, value, len);
	if (meta_name_is(name, XATTR_REPLICAS) && (len != 1 || *(const char *)value != '1'))
		return reason_set(op->why, ENOTSUP, XATTR_REPLICAS ": more than one replica is not supported yet");
	return 0;
}

/* What mounts ask for all the time and hardly ever find: the inode says whether it has any. */
static uint32_t flag_of_name(struct meta_name n)
{
	return WIRE_ATTR_XATTRS | (has_prefix(n, "security.") ? WIRE_ATTR_SECURITY
				   : has_prefix(n, "system.") ? WIRE_ATTR_ACL
							      : 0);
}

static int delete_name(struct meta *m, struct inode *in, struct meta_name name)
{
	uint32_t flags = 0;
	int rc = db_run(m->db, SQL_XATTR_DEL, db_int(in->ino), db_bytes(name.text, name.len));

	if (rc)
		return rc;
	for (rc = db_run(m->db, SQL_XATTR_LIST, db_int(in->ino)); rc == 1; rc = db_next(m->db, SQL_XATTR_LIST)) {
		size_t len;
		const char *text = db_blob(m->db, SQL_XATTR_LIST, 0, &len);
		flags |= flag_of_name((struct meta_name){ text, len });
	}
	in->flags = (in->flags & ~(uint32_t)(WIRE_ATTR_XATTRS | WIRE_ATTR_SECURITY | WIRE_ATTR_ACL)) | flags;
	return rc;
}

int xattr_drop_capability(struct meta_op *op, struct inode *in)
{
	static const char name[] = "security.capability";

	return in->flags & WIRE_ATTR_SECURITY ? delete_name(op->m, in, (struct meta_name){ name, sizeof(name) - 1 })
					      : 0;
}

static int check_room(struct meta_op *op, uint64_t ino, struct meta_name name)
{
	int rc = db_run(op->m->db, SQL_XATTR_SUM, db_int(ino));

	if (rc < 0)
		return rc;
	return db_u64(op->m->db, SQL_XATTR_SUM, 0) + name.len + 1 > XATTR_NAMES_MAX ? -ENOSPC : 0;
}

int meta_op_setxattr(struct meta_op *op)
{
	const struct wire_xattr *body = op->body;
	uint32_t flags = le32_get(body->flags);
	struct cursor value;
	struct meta_name name;
	struct inode in;
	bool there, keep = true;
	int err = take_name(op, &name, &value);

	if (err)
		return err;
	if (value.left > WIRE_XATTR_MAX)
		return -E2BIG;
	if (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	err = inode_get(op->m, le64_get(body->ino), &in);
	if (err)
		return err;
	there = exists(op->m, in.ino, name);
	if (there ? flags & XATTR_CREATE : flags & XATTR_REPLACE)
		return there ? -EEXIST : -ENODATA;
	err = there ? 0 : check_room(op, in.ino, name);
	if (!err)
		err = has_prefix(name, "system.") ? acl_set(op, &in, name, value.at, value.left, &keep)
						  : set_own(op, &in, name, value.at, value.left);
	if (!err && keep) {
		in.flags |= flag_of_name(name);
		err = db_run(op->m->db, SQL_XATTR_SET, db_int(in.ino), db_bytes(name.text, name.len),
			     db_bytes(value.at, value.left));
	} else if (!err) {
		err = delete_name(op->m, &in, name);
	}
	if (!err)
		err = inode_touch(op, &in, false);
	return err ? err : meta_reply_attr(op, &in);
}

int meta_op_removexattr(struct meta_op *op)
{
	const struct wire_xattr *body = op->body;
	struct cursor rest;
	struct meta_name name;
	struct inode in;
	int err = take_name(op, &name, &rest);

	if (!err)
		err = inode_get(op->m, le64_get(body->ino), &in);
	if (!err && !exists(op->m, in.ino, name))
		err = -ENODATA;
	if (!err)
		err = delete_name(op->m, &in, name);
	if (err)
		return err;
	if (S_ISDIR(in.mode) && meta_name_is(name, XATTR_PARTITION_BYTES))
		in.partition_bytes = 0;
	err = inode_touch(op, &in, false);
	return err ? err : meta_reply_attr(op, &in);
}

int meta_op_listxattr(struct meta_op *op)
{
	const struct wire_ino *body = op->body;
	int rc = db_run(op->m->db, SQL_XATTR_LIST, db_int(le64_get(body->ino)));
	size_t used = 0;

	op->reply_payload = malloc(XATTR_NAMES_MAX);
	if (!op->reply_payload)
		return -ENOMEM;
	for (; rc == 1; rc = db_next(op->m->db, SQL_XATTR_LIST)) {
		size_t len;
		const void *name = db_blob(op->m->db, SQL_XATTR_LIST, 0, &len);
		if (len + 1 > XATTR_NAMES_MAX - used)
			return -EIO;
		memcpy(op->reply_payload + used, name, len);
		op->reply_payload[used + len] = '\0';
		used += len + 1;
	}
	op->reply_payload_bytes = used;
	return rc;
}

int xattr_inherit(struct meta *m, const struct inode *parent, const struct inode *dir)
{
	static const char name[] = XATTR_PARTITION_BYTES;
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)parent->partition_bytes);
	return db_run(m->db, SQL_XATTR_SET, db_int(dir->ino), db_bytes(name, sizeof(name) - 1),
		      db_bytes(text, strlen(text)));
}
