/* ops_xattr.c - extended attributes.  Files, directories and what else the head holds have them; views have none of their own.
 *
 * The kernel asks for security.capability before a write, and for an access control list before it looks at a mode; ls, cp and tar ask of
 * each file.  Most inodes have none, and their attributes say so: no request to the head.
 */
#include "array.h"
#include "errors.h"
#include "head.h"
#include "ops_fuse.h"

#include <stdlib.h>

#define ACL_PREFIX "system.posix_acl_"
#define ACL_ACCESS ACL_PREFIX "access"

static bool starts_with(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

static bool holds_xattrs(const struct node *n)
{
	return n->kind == NODE_DIR || n->kind == NODE_FILE || n->kind == NODE_OTHER;
}

/* Whether the inode may have an attribute of this name, or (name NULL) any: 0: ask the head; -ENODATA: there is no need to. */
static int may_have(struct mount *m, struct node *n, const char *name)
{
	uint32_t flag = WIRE_ATTR_XATTRS;
	struct wire_attr attr;
	int err;

	if (name && starts_with(name, "security."))
		flag = WIRE_ATTR_SECURITY;
	else if (name && starts_with(name, ACL_PREFIX))
		flag = WIRE_ATTR_ACL;
	else if (name && starts_with(name, "system."))
		return -EOPNOTSUPP;
	err = node_attr(m, n, &attr);
	if (err == -ESTALE)
		return -ENODATA;
	if (err) { /* a write goes on without the head */
		pthread_mutex_lock(&n->lock);
		attr = n->attr;
		pthread_mutex_unlock(&n->lock);
	}
	return le32_get(attr.flags) & flag ? err : -ENODATA;
}

/* A view may be used by whom its array's directory lets, and a list there says who that is. */
static int view_acl(struct mount *m, struct node *n, const char *name, char **ret, size_t *ret_len)
{
	struct array *a = node_array(n);
	struct node *dir;
	int err;

	if (!a || strcmp(name, ACL_ACCESS))
		return -ENODATA;
	dir = node_find(m, a->ino);
	err = dir ? may_have(m, dir, name) : 0;
	node_unref(m, dir);
	return err ? err : head_getxattr(m, a->ino, name, ret, ret_len);
}

static void reply_sized(fuse_req_t req, const char *value, size_t len, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	AUTO_FREE char *value = NULL;
	struct mount *m = ops_mount_of(req);
	struct node *n = ops_node(req, id);
	size_t len = 0;
	int err;

	if (holds_xattrs(n)) {
		err = may_have(m, n, name);
		if (!err)
			err = head_getxattr(m, n->ino, name, &value, &len);
	} else {
		err = view_acl(m, n, name, &value, &len);
	}
	/* ls asks each file for its label unless it hears that labels are not in use. */
	if (err == -ENODATA && !strcmp(name, "security.selinux"))
		err = -EOPNOTSUPP;
	if (err)
		ops_reply_err(req, err);
	else
		reply_sized(req, value, len, size);
}

/* Names that only root may see. */
static size_t without_trusted(char *names, size_t len)
{
	size_t kept = 0;

	for (size_t at = 0, n; at < len; at += n) {
		n = strnlen(names + at, len - at) + 1;
		n = MIN(n, len - at);
		if (starts_with(names + at, "trusted."))
			continue;
		memmove(names + kept, names + at, n);
		kept += n;
	}
	return kept;
}

void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	AUTO_FREE char *names = NULL;
	struct node *n = ops_node(req, id);
	size_t len = 0;
	int err = holds_xattrs(n) ? may_have(ops_mount_of(req), n, NULL) : -ENODATA;

	if (!err)
		err = head_listxattr(ops_mount_of(req), n->ino, &names, &len);
	if (err == -ENODATA)
		err = 0; /* none */
	if (!err && fuse_req_ctx(req)->uid != 0)
		len = without_trusted(names, len);
	if (err)
		ops_reply_err(req, err);
	else
		reply_sized(req, names, len, size);
}

static int refuse_view(struct mount *m, struct node *n, const char *name)
{
	struct reason why;

	if (starts_with(name, "system."))
		return -EOPNOTSUPP; /* cp -a tries, and goes on with the mode */
	reason_set(&why, EOPNOTSUPP, "%s: a view has no attributes of its own; set them on the array's directory",
		   name);
	return errors_add(m, n, EOPNOTSUPP, &why);
}

void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
	struct mount *m = ops_mount_of(req);
	struct node *n = ops_node(req, id);
	struct wire_attr attr;
	uint64_t seq;
	int err = holds_xattrs(n) ? head_setxattr(m, n->ino, name, value, size, (unsigned)flags, &attr, &seq)
				  : refuse_view(m, n, name);

	if (!err)
		node_set_attr(m, n, &attr, seq);
	ops_reply_err(req, err);
}

void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	struct mount *m = ops_mount_of(req);
	struct node *n = ops_node(req, id);
	struct wire_attr attr;
	uint64_t seq;
	int err = holds_xattrs(n) ? may_have(m, n, name) : -ENODATA;

	if (!err)
		err = head_removexattr(m, n->ino, name, &attr, &seq);
	if (!err)
		node_set_attr(m, n, &attr, seq);
	/* Taking away a list that says no more than the mode is no mistake. */
	ops_reply_err(req, err == -ENODATA && starts_with(name, ACL_PREFIX) ? 0 : err);
}
