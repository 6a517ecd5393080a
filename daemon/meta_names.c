/* Directory entries: LOOKUP, MAKE, LINK, UNLINK, RMDIR, READLINK, READDIR. */
#include "meta_int.h"

#include <linux/limits.h>
#include <stdio.h>

#define READDIR_BYTES_MAX (256u << 10) /* of one reply: bounds the time under the lock */

int meta_take_name(struct meta_op *op, struct cursor *c, size_t len, struct meta_name *ret)
{
	const char *text = cursor_take(c, len);
	int err;

	if (!text)
		return reason_set(op->why, EINVAL, "the payload is shorter than its name");
	err = wire_check_name(text, len);
	if (!err)
		*ret = (struct meta_name){ text, len };
	return err;
}

static int whole_name(struct meta_op *op, struct meta_name *ret)
{
	struct cursor c = { op->payload, op->payload_bytes };

	return meta_take_name(op, &c, op->payload_bytes, ret);
}

int dirent_get(struct meta *m, uint64_t dir, struct meta_name name, uint64_t *ret_ino, uint64_t *ret_id)
{
	int rc = db_run(m->db, SQL_DIRENT_GET, db_int(dir), db_bytes(name.text, name.len));

	if (rc <= 0)
		return rc ? rc : -ENOENT;
	*ret_ino = db_u64(m->db, SQL_DIRENT_GET, 0);
	*ret_id = db_u64(m->db, SQL_DIRENT_GET, 1);
	return 0;
}

int dirent_add(struct meta *m, uint64_t dir, struct meta_name name, const struct inode *in)
{
	bool special = S_ISDIR(in->mode) || meta_name_is(name, META_ZARR_NAME);

	return db_run(m->db, SQL_DIRENT_ADD, db_int(dir), db_int(meta_new_id(m)), db_bytes(name.text, name.len),
		      db_int(in->ino), db_int(special));
}

int dirent_del(struct meta *m, uint64_t dir, uint64_t id)
{
	return db_run(m->db, SQL_DIRENT_DEL, db_int(dir), db_int(id));
}

int dir_empty(struct meta *m, const struct inode *dir)
{
	int rc;

	if (dir->flags & (WIRE_ATTR_SIDECAR | WIRE_ATTR_CHUNKDIR))
		return -ENOTEMPTY;
	rc = db_run(m->db, SQL_DIRENT_ANY, db_int(dir->ino));
	if (rc > 0)
		return -ENOTEMPTY;
	return rc;
}

bool meta_name_of_dir(struct meta *m, uint64_t ino, uint64_t *ret_parent, char ret_name[SLAB_NAME_MAX], size_t *ret_len)
{
	const void *name;

	if (db_run(m->db, SQL_DIRENT_OF, db_int(ino)) != 1)
		return false;
	*ret_parent = db_u64(m->db, SQL_DIRENT_OF, 0);
	name = db_blob(m->db, SQL_DIRENT_OF, 1, ret_len);
	memcpy(ret_name, name, MIN(*ret_len, SLAB_NAME_MAX));
	return true;
}

void meta_path(struct meta *m, uint64_t ino, char *ret, size_t cap)
{
	char path[512], name[SLAB_NAME_MAX];
	size_t at = sizeof(path), len;

	while (ino != META_ROOT && meta_name_of_dir(m, ino, &ino, name, &len)) {
		if (len + 4 >= at) {
			memcpy(&path[at -= 3], "...", 3);
			break;
		}
		memcpy(&path[at -= len], name, len);
		path[--at] = '/';
	}
	snprintf(ret, cap, "%.*s", (int)(sizeof(path) - at), &path[at]);
}

int meta_op_lookup(struct meta_op *op)
{
	const struct wire_lookup *body = op->body;
	uint64_t parent = le64_get(body->parent);
	struct meta_name name = { 0 };
	struct inode in;
	int err = whole_name(op, &name);
	int rc;

	if (err)
		return err;
	rc = db_run(op->m->db, SQL_LOOKUP, db_int(parent), db_bytes(name.text, name.len));
	if (rc == 1) {
		meta_hold(op, parent);
		inode_row(op->m, SQL_LOOKUP, 0, &in);
		return meta_reply_attr(op, &in);
	}
	err = rc < 0 ? rc : inode_dir(op->m, parent, &in);
	if (err)
		return err;
	meta_hold(op, parent); /* that the name is missing is cached too */
	return -ENOENT;
}

int meta_make_inode(struct meta_op *op, struct inode *dir, struct meta_name name, uint32_t umask, struct inode *in)
{
	int err;

	in->ino = meta_new_id(op->m);
	in->atime = in->mtime = in->ctime = op->now;
	in->generation = 1;
	in->nlink = S_ISDIR(in->mode) ? 2 : 1;
	if (dir->mode & S_ISGID) {
		in->gid = dir->gid;
		if (S_ISDIR(in->mode))
			in->mode |= S_ISGID;
	}
	if (S_ISDIR(in->mode)) {
		in->parent = dir->ino;
		in->partition_bytes = dir->partition_bytes;
		in->flags |= dir->partition_bytes ? WIRE_ATTR_XATTRS : 0;
		dir->nlink++;
	}
	err = acl_inherit(op, dir, umask, in);
	if (!err)
		err = inode_add(op->m, in);
	if (!err && S_ISDIR(in->mode) && dir->partition_bytes)
		err = xattr_inherit(op->m, dir, in);
	if (!err)
		err = dirent_add(op->m, dir->ino, name, in);
	if (err)
		return err;
	meta_entry_changed(op, dir, name);
	return inode_touch(op, dir, true);
}

static bool name_is_inline(struct meta_name n)
{
	static const char hidden[] = "." META_ZARR_NAME;
	size_t len = strlen(META_ZARR_NAME);

	return (n.len >= len && !memcmp(n.text, META_ZARR_NAME, len)) ||
	       (n.len > len && !memcmp(n.text, hidden, len + 1));
}

static int new_regular(struct meta_op *op, const struct inode *dir, struct meta_name name, uint32_t near,
		       struct inode *in)
{
	if (name_is_inline(name)) {
		in->flags = WIRE_ATTR_INLINE;
		return 0;
	}
	in->object = meta_new_id(op->m);
	in->partition_bytes = dir->partition_bytes ? dir->partition_bytes : META_PARTITION_BYTES;
	in->epoch = WIRE_EPOCH;
	return layout_new(op->m, near, &in->layout, op->why);
}

static int reply_made(struct meta_op *op, const struct inode *dir, const struct inode *in)
{
	const struct wire_make *body = op->body;
	struct wire_made *made = &op->reply.made;
	int err = 0;

	*made = (struct wire_made){ 0 };
	if (le32_get(body->flags) & WIRE_MAKE_OPEN && S_ISREG(in->mode) && !(in->flags & WIRE_ATTR_INLINE)) {
		err = meta_open_inode(op, in, &made->layout);
		op->opened = err ? 0 : in->ino;
	}
	inode_attr(dir, &made->dir);
	meta_hold(op, dir->ino);
	return err ? err : meta_reply_attr(op, in);
}

static int make_existing(struct meta_op *op, const struct wire_make *body, const struct inode *dir, uint64_t ino)
{
	struct inode in;
	int err = inode_get(op->m, ino, &in);

	if (err)
		return err;
	if (le32_get(body->flags) & WIRE_MAKE_EXCL || !S_ISREG(le32_get(body->mode)) || !S_ISREG(in.mode))
		return -EEXIST;
	return reply_made(op, dir, &in);
}

static int make_check(struct meta_op *op, const struct wire_make *body, size_t target_left)
{
	uint32_t mode = le32_get(body->mode);
	uint32_t target_bytes = le32_get(body->target_bytes);

	if (target_left != target_bytes)
		return reason_set(op->why, EINVAL, "MAKE: the payload is not the name and the link's target");
	if (S_ISLNK(mode) ? !target_bytes : target_bytes)
		return reason_set(op->why, EINVAL, "MAKE: only a symbolic link has a target, and it must have one");
	if (target_bytes >= PATH_MAX)
		return -ENAMETOOLONG;
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) &&
	    !S_ISCHR(mode) && !S_ISBLK(mode))
		return reason_set(op->why, EINVAL, "MAKE: mode 0%o has no file type", mode);
	return 0;
}

int meta_op_make(struct meta_op *op)
{
	const struct wire_make *body = op->body;
	struct cursor c = { op->payload, op->payload_bytes };
	struct inode dir, in = { .mode = le32_get(body->mode) & (S_IFMT | 07777),
				 .uid = le32_get(body->uid),
				 .gid = le32_get(body->gid) };
	uint64_t ino, id;
	struct meta_name name = { 0 };
	int err = meta_take_name(op, &c, le32_get(body->name_bytes), &name);

	if (!err)
		err = make_check(op, body, c.left);
	if (!err)
		err = inode_dir(op->m, le64_get(body->parent), &dir);
	if (err)
		return err;
	err = dirent_get(op->m, dir.ino, name, &ino, &id);
	if (err != -ENOENT)
		return err ? err : make_existing(op, body, &dir, ino);
	if (S_ISCHR(in.mode) || S_ISBLK(in.mode))
		in.rdev = le64_get(body->rdev);
	if (S_ISLNK(in.mode))
		in.size = c.left;
	err = S_ISREG(in.mode) ? new_regular(op, &dir, name, le32_get(body->near_node), &in) : 0;
	if (!err)
		err = meta_make_inode(op, &dir, name, le32_get(body->umask), &in);
	if (!err && S_ISLNK(in.mode))
		err = content_set(op->m, in.ino, c.at, c.left);
	if (!err && S_ISREG(in.mode))
		err = array_named(op, &dir, name, &in);
	return err ? err : reply_made(op, &dir, &in);
}

int meta_op_link(struct meta_op *op)
{
	const struct wire_link *body = op->body;
	struct inode dir, in;
	uint64_t ino, id;
	struct meta_name name = { 0 };
	int err = whole_name(op, &name);

	if (!err)
		err = inode_dir(op->m, le64_get(body->parent), &dir);
	if (!err)
		err = inode_get(op->m, le64_get(body->ino), &in);
	if (!err && S_ISDIR(in.mode))
		err = -EPERM;
	if (!err && !in.nlink)
		err = -ENOENT;
	if (err)
		return err;
	err = dirent_get(op->m, dir.ino, name, &ino, &id);
	if (err != -ENOENT)
		return err ? err : -EEXIST;
	err = array_check_name(op, &in, name);
	if (err)
		return err;
	in.nlink++;
	err = dirent_add(op->m, dir.ino, name, &in);
	if (!err) {
		meta_entry_changed(op, &dir, name);
		err = inode_touch(op, &dir, true);
	}
	if (!err)
		err = inode_touch(op, &in, false);
	if (!err)
		err = array_named(op, &dir, name, &in);
	return err ? err : meta_reply_attr(op, &in);
}

int meta_unlink_inode(struct meta_op *op, struct inode *in)
{
	int err;

	in->nlink = S_ISDIR(in->mode) ? 0 : in->nlink - 1;
	err = inode_touch(op, in, false);
	/* Which inode it was the mount cannot know for sure, and it may keep a file open that nobody uses. */
	for (size_t i = 0; !err && !in->nlink && i < op->changes.n; i++)
		if (op->changes.items[i].ino == in->ino && opens_has(op->m, op->peer.session, in->ino))
			op->changes.items[i].to_origin = true;
	return err ? err : inode_drop_if_unused(op, in);
}

static int unlink_entry(struct meta_op *op, bool want_dir)
{
	const struct wire_unlink *body = op->body;
	struct inode dir, in;
	uint64_t ino, id;
	struct meta_name name = { 0 };
	int err = whole_name(op, &name);

	if (!err)
		err = inode_dir(op->m, le64_get(body->parent), &dir);
	if (!err)
		err = dirent_get(op->m, dir.ino, name, &ino, &id);
	if (!err)
		err = inode_get(op->m, ino, &in);
	if (!err && S_ISDIR(in.mode) != want_dir)
		err = want_dir ? -ENOTDIR : -EISDIR;
	if (!err && want_dir)
		err = dir_empty(op->m, &in);
	if (!err)
		err = dirent_del(op->m, dir.ino, id);
	if (err)
		return err;
	meta_entry_changed(op, &dir, name);
	if (le64_get(body->closes)) {
		err = meta_close_inode(op, le64_get(body->closes));
		op->closed = err == -EBADF ? 0 : le64_get(body->closes);
		if (err && op->closed)
			return err;
	}
	if (want_dir)
		dir.nlink--;
	err = inode_touch(op, &dir, true);
	if (!err)
		err = meta_unlink_inode(op, &in);
	if (!err)
		err = array_unnamed(op, &dir, name);
	if (err)
		return err;
	inode_attr(&dir, &op->reply.removed.dir);
	meta_hold(op, dir.ino);
	return meta_reply_attr(op, &in);
}

int meta_op_unlink(struct meta_op *op)
{
	return unlink_entry(op, false);
}

int meta_op_rmdir(struct meta_op *op)
{
	return unlink_entry(op, true);
}

static int reply_copy(struct meta_op *op, const void *bytes, size_t len)
{
	op->reply_payload = malloc(len ? len : 1);
	if (!op->reply_payload)
		return -ENOMEM;
	memcpy(op->reply_payload, bytes, len);
	op->reply_payload_bytes = len;
	return 0;
}

int meta_op_readlink(struct meta_op *op)
{
	const struct wire_ino *body = op->body;
	const void *target;
	struct inode in;
	size_t len;
	int err = inode_get(op->m, le64_get(body->ino), &in);

	if (!err && !S_ISLNK(in.mode))
		err = -EINVAL;
	if (!err)
		err = content_get(op->m, in.ino, &target, &len);
	return err ? err : reply_copy(op, target, len);
}

int meta_op_inline_read(struct meta_op *op)
{
	const struct wire_ino *body = op->body;
	const void *bytes;
	struct inode in;
	size_t len;
	int err = inode_get(op->m, le64_get(body->ino), &in);

	if (!err && !(in.flags & WIRE_ATTR_INLINE))
		err = reason_set(op->why, EINVAL, "inode %llu is not an inline file", (unsigned long long)in.ino);
	if (!err)
		err = content_get(op->m, in.ino, &bytes, &len);
	return err ? err : reply_copy(op, bytes, len);
}

/* Appends the statement's row; false: it does not fit. */
static bool readdir_put(struct meta_op *op, size_t cap)
{
	struct wire_dirent entry = { .cookie = le64_of(db_u64(op->m->db, SQL_DIRENT_LIST, 0)) };
	struct inode in;
	size_t len;
	const void *name = db_blob(op->m->db, SQL_DIRENT_LIST, 1, &len);

	if (cap - op->reply_payload_bytes < sizeof(entry) + len)
		return false;
	inode_row(op->m, SQL_DIRENT_LIST, 2, &in);
	inode_attr(&in, &entry.attr);
	entry.name_bytes = le32_of((uint32_t)len);
	memcpy(op->reply_payload + op->reply_payload_bytes, &entry, sizeof(entry));
	memcpy(op->reply_payload + op->reply_payload_bytes + sizeof(entry), name, len);
	op->reply_payload_bytes += sizeof(entry) + len;
	meta_hold(op, in.ino);
	return true;
}

int meta_op_readdir(struct meta_op *op)
{
	const struct wire_readdir *body = op->body;
	size_t cap = MIN(le32_get(body->max_bytes), READDIR_BYTES_MAX);
	struct inode dir;
	int err = inode_get(op->m, le64_get(body->ino), &dir);
	int rc;

	if (!err && !S_ISDIR(dir.mode))
		err = -ENOTDIR;
	if (!err && cap < sizeof(struct wire_dirent) + SLAB_NAME_MAX)
		err = reason_set(op->why, EINVAL, "READDIR: %zu bytes may not hold one entry", cap);
	if (err)
		return err;
	op->reply_payload = malloc(cap);
	if (!op->reply_payload)
		return -ENOMEM;
	meta_hold(op, dir.ino);
	rc = db_run(op->m->db, SQL_DIRENT_LIST, db_int(dir.ino), db_int(le64_get(body->cookie)));
	while (rc == 1 && readdir_put(op, cap))
		rc = db_next(op->m->db, SQL_DIRENT_LIST);
	return rc < 0 ? rc : 0;
}
