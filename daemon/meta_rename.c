/* RENAME: every case of rename(2) and renameat2(2), in one transaction. */
#include "meta_int.h"

#include <stdio.h> /* RENAME_NOREPLACE, RENAME_EXCHANGE */

struct rename {
	struct inode from_dir, to_dir_other; /* the second is used when the directories differ */
	struct inode *to_dir;
	struct meta_name from_name, to_name;
	uint64_t from_id, to_id;
	struct inode moved, target;
	bool has_target, same_inode, exchange;
};

static int rename_names(struct meta_op *op, const struct wire_rename *body, struct rename *r)
{
	struct cursor c = { op->payload, op->payload_bytes };
	uint32_t flags = le32_get(body->flags);
	int err = meta_take_name(op, &c, le32_get(body->name_bytes), &r->from_name);

	if (!err)
		err = meta_take_name(op, &c, c.left, &r->to_name);
	if (!err &&
	    (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE) || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)))
		err = -EINVAL;
	r->exchange = flags & RENAME_EXCHANGE;
	return err;
}

static int rename_load(struct meta_op *op, const struct wire_rename *body, struct rename *r)
{
	uint64_t from_dir = le64_get(body->parent), to_dir = le64_get(body->new_parent);
	uint64_t ino;
	int err = inode_dir(op->m, from_dir, &r->from_dir);

	r->to_dir = from_dir == to_dir ? &r->from_dir : &r->to_dir_other;
	if (!err && from_dir != to_dir)
		err = inode_dir(op->m, to_dir, r->to_dir);
	if (!err)
		err = dirent_get(op->m, from_dir, r->from_name, &ino, &r->from_id);
	if (!err)
		err = inode_get(op->m, ino, &r->moved);
	if (err)
		return err;
	err = dirent_get(op->m, to_dir, r->to_name, &ino, &r->to_id);
	if (err)
		return err == -ENOENT ? 0 : err;
	r->has_target = true;
	r->same_inode = ino == r->moved.ino;
	return inode_get(op->m, ino, &r->target);
}

/* -EINVAL when `dir` is `top` or lies below it. */
static int check_not_below(struct meta *m, uint64_t dir, uint64_t top)
{
	while (dir != top) {
		struct inode in;
		int err;
		if (dir == META_ROOT)
			return 0;
		err = inode_get(m, dir, &in);
		if (err)
			return err;
		dir = in.parent;
	}
	return -EINVAL;
}

static int rename_check(struct meta_op *op, const struct rename *r, uint32_t flags)
{
	int err = 0;

	if (flags & RENAME_NOREPLACE && r->has_target)
		return -EEXIST;
	if (r->exchange && !r->has_target)
		return -ENOENT;
	if (r->same_inode)
		return 0;
	if (S_ISDIR(r->moved.mode))
		err = check_not_below(op->m, r->to_dir->ino, r->moved.ino);
	if (!err && r->exchange && S_ISDIR(r->target.mode))
		err = check_not_below(op->m, r->from_dir.ino, r->target.ino);
	if (!err && !r->exchange && r->has_target && S_ISDIR(r->moved.mode) != S_ISDIR(r->target.mode))
		err = S_ISDIR(r->moved.mode) ? -ENOTDIR : -EISDIR;
	if (!err && !r->exchange && r->has_target && S_ISDIR(r->target.mode))
		err = dir_empty(op->m, &r->target);
	return err;
}

static int entry_points_to(struct meta *m, const struct inode *dir, uint64_t id, struct meta_name name,
			   const struct inode *in)
{
	bool special = S_ISDIR(in->mode) || meta_name_is(name, META_ZARR_NAME);

	return db_run(m->db, SQL_DIRENT_MOVE, db_int(in->ino), db_int(special), db_int(dir->ino), db_int(id));
}

/* A directory that changes its parent takes its ".." along. */
static void move_dir_link(struct inode *in, struct inode *from, struct inode *to)
{
	if (!S_ISDIR(in->mode) || from == to)
		return;
	from->nlink--;
	to->nlink++;
	in->parent = to->ino;
}

/* The entry that is replaced keeps its cookie, so that a listing under way sees the name exactly once. */
static int move_entries(struct meta_op *op, struct rename *r)
{
	int err;

	if (r->exchange) {
		err = entry_points_to(op->m, r->to_dir, r->to_id, r->to_name, &r->moved);
		return err ? err : entry_points_to(op->m, &r->from_dir, r->from_id, r->from_name, &r->target);
	}
	err = dirent_del(op->m, r->from_dir.ino, r->from_id);
	if (err)
		return err;
	return r->has_target ? entry_points_to(op->m, r->to_dir, r->to_id, r->to_name, &r->moved)
			     : dirent_add(op->m, r->to_dir->ino, r->to_name, &r->moved);
}

static int save_inodes(struct meta_op *op, struct rename *r)
{
	int err;

	move_dir_link(&r->moved, &r->from_dir, r->to_dir);
	if (r->exchange)
		move_dir_link(&r->target, r->to_dir, &r->from_dir);
	else if (r->has_target && S_ISDIR(r->target.mode))
		r->to_dir->nlink--;
	meta_entry_changed(op, &r->from_dir, r->from_name);
	meta_entry_changed(op, r->to_dir, r->to_name);
	err = inode_touch(op, &r->from_dir, true);
	if (!err && r->to_dir != &r->from_dir)
		err = inode_touch(op, r->to_dir, true);
	if (!err)
		err = inode_touch(op, &r->moved, false);
	if (err || !r->has_target)
		return err;
	return r->exchange ? inode_touch(op, &r->target, false) : meta_unlink_inode(op, &r->target);
}

/* What became or ceased to be a zarr.json.  In one directory a new one is judged before the old one's absence counts. */
static int judge(struct meta_op *op, struct rename *r)
{
	int err = array_named(op, r->to_dir, r->to_name, &r->moved);

	if (err)
		return err;
	return r->exchange ? array_named(op, &r->from_dir, r->from_name, &r->target)
			   : array_unnamed(op, &r->from_dir, r->from_name);
}

int meta_op_rename(struct meta_op *op)
{
	const struct wire_rename *body = op->body;
	struct rename r = { 0 };
	int err = rename_names(op, body, &r);

	if (!err)
		err = rename_load(op, body, &r);
	if (!err)
		err = rename_check(op, &r, le32_get(body->flags));
	if (err || r.same_inode)
		return err ? err : meta_reply_attr(op, &r.moved);
	err = array_check_name(op, &r.moved, r.to_name);
	if (!err && r.exchange)
		err = array_check_name(op, &r.target, r.from_name);
	if (!err)
		err = move_entries(op, &r);
	if (!err)
		err = save_inodes(op, &r);
	if (!err)
		err = judge(op, &r);
	return err ? err : meta_reply_attr(op, &r.moved);
}
