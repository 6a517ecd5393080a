/* POSIX access control lists.  The kernel of each mount enforces them; the head keeps them with the mode in step, as an attribute in the form that
 * setxattr(2) takes: a version, then entries (acl(5)).  A list that says no more than a mode is not kept. */
#include "meta_int.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define ACL_VERSION 2

enum { ACL_USER_OBJ = 1, ACL_USER = 2, ACL_GROUP_OBJ = 4, ACL_GROUP = 8, ACL_MASK = 16, ACL_OTHER = 32 };

struct acl_entry {
	struct le16 tag;
	struct le16 perm;
	struct le32 id;
} __attribute__((packed));

struct acl {
	struct acl_entry *entries; /* inside the attribute's value */
	size_t n;
	struct acl_entry *user, *group, *mask, *other; /* mask: NULL when there is none */
};

/* The one place of a tag that may come once. */
static struct acl_entry **place_of(struct acl *a, unsigned tag)
{
	switch (tag) {
	case ACL_USER_OBJ:
		return &a->user;
	case ACL_GROUP_OBJ:
		return &a->group;
	case ACL_MASK:
		return &a->mask;
	case ACL_OTHER:
		return &a->other;
	default:
		return NULL;
	}
}

static int acl_parse(void *value, size_t len, struct acl *ret)
{
	const struct le32 *version = value;
	unsigned last = 0;
	bool named = false;
	struct acl a = { 0 };

	if (len < sizeof(*version) || (len - sizeof(*version)) % sizeof(struct acl_entry) ||
	    le32_get(*version) != ACL_VERSION)
		return -EINVAL;
	a.entries = (struct acl_entry *)((char *)value + sizeof(*version));
	a.n = (len - sizeof(*version)) / sizeof(struct acl_entry);
	for (size_t i = 0; i < a.n; i++) {
		unsigned tag = le16_get(a.entries[i].tag);
		struct acl_entry **place = place_of(&a, tag);
		if (tag < last || le16_get(a.entries[i].perm) > 7)
			return -EINVAL;
		last = tag;
		if (place ? *place != NULL : tag != ACL_USER && tag != ACL_GROUP)
			return -EINVAL;
		if (place)
			*place = &a.entries[i];
		else
			named = true;
	}
	if (!a.user || !a.group || !a.other || (named && !a.mask))
		return -EINVAL;
	*ret = a;
	return 0;
}

/* What the mode's bits of the group stand for. */
static struct acl_entry *group_class(const struct acl *a)
{
	return a->mask ? a->mask : a->group;
}

static uint32_t acl_mode(const struct acl *a)
{
	return (uint32_t)(le16_get(a->user->perm) << 6 | le16_get(group_class(a)->perm) << 3 |
			  le16_get(a->other->perm));
}

static void acl_chmod(struct acl *a, uint32_t mode)
{
	a->user->perm = le16_of((uint16_t)(mode >> 6 & 7));
	group_class(a)->perm = le16_of((uint16_t)(mode >> 3 & 7));
	a->other->perm = le16_of((uint16_t)(mode & 7));
}

static bool is_only_a_mode(const struct acl *a)
{
	return a->n == 3;
}

static struct db_value name_value(const char *name)
{
	return db_bytes(name, strlen(name));
}

static int acl_put(struct meta *m, const struct inode *in, const char *name, const void *value, size_t len)
{
	return db_run(m->db, SQL_XATTR_SET, db_int(in->ino), name_value(name), db_bytes(value, len));
}

/* A copy of the inode's list.  -ENODATA: it has none. */
static int acl_get(struct meta *m, const struct inode *in, const char *name, void **ret, size_t *ret_len)
{
	const void *value;
	int rc = in->flags & WIRE_ATTR_ACL ? db_run(m->db, SQL_XATTR_GET, db_int(in->ino), name_value(name)) : 0;

	if (rc <= 0)
		return rc ? rc : -ENODATA;
	value = db_blob(m->db, SQL_XATTR_GET, 0, ret_len);
	*ret = malloc(*ret_len + 1);
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, value, *ret_len);
	return 0;
}

int acl_set(struct meta_op *op, struct inode *in, struct meta_name name, const void *value, size_t len, bool *ret_keep)
{
	bool is_access = meta_name_is(name, ACL_ACCESS);
	AUTO_FREE void *copy = NULL;
	struct acl a;
	int err;

	if (!is_access && !meta_name_is(name, ACL_DEFAULT))
		return -EOPNOTSUPP;
	if (!is_access && !S_ISDIR(in->mode))
		return -EACCES;
	if (S_ISLNK(in->mode))
		return -EOPNOTSUPP;
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, len);
	err = acl_parse(copy, len, &a);
	if (err)
		return reason_set(op->why, EINVAL, "%.*s: not an access control list", (int)name.len, name.text);
	if (is_access)
		in->mode = (in->mode & ~(uint32_t)0777) | acl_mode(&a);
	*ret_keep = !is_access || !is_only_a_mode(&a);
	return 0;
}

int acl_follow_mode(struct meta_op *op, const struct inode *in)
{
	AUTO_FREE void *value = NULL;
	struct acl a;
	size_t len;
	int err = acl_get(op->m, in, ACL_ACCESS, &value, &len);

	if (err)
		return err == -ENODATA ? 0 : err;
	if (acl_parse(value, len, &a))
		return -EIO;
	acl_chmod(&a, in->mode);
	return acl_put(op->m, in, ACL_ACCESS, value, len);
}

int acl_inherit(struct meta_op *op, const struct inode *dir, uint32_t umask, struct inode *in)
{
	AUTO_FREE void *value = NULL;
	struct acl a;
	size_t len;
	int err = S_ISLNK(in->mode) ? 0 : acl_get(op->m, dir, ACL_DEFAULT, &value, &len);

	if (S_ISLNK(in->mode))
		return 0;
	if (err == -ENODATA)
		in->mode &= ~(umask & 0777);
	if (err)
		return err == -ENODATA ? 0 : err;
	if (acl_parse(value, len, &a))
		return -EIO;
	if (S_ISDIR(in->mode)) {
		in->flags |= WIRE_ATTR_XATTRS | WIRE_ATTR_ACL;
		err = acl_put(op->m, in, ACL_DEFAULT, value, len);
	}
	/* What the maker asks for bounds what the directory gives. */
	in->mode &= ~(uint32_t)0777 | acl_mode(&a);
	acl_chmod(&a, in->mode);
	if (err || is_only_a_mode(&a))
		return err;
	in->flags |= WIRE_ATTR_XATTRS | WIRE_ATTR_ACL;
	return acl_put(op->m, in, ACL_ACCESS, value, len);
}
