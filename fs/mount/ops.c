/* ops.c - FUSE's requests: each is decoded, handed to the node's ops, and answered exactly once.
 *
 * Handlers run on libfuse's threads and may wait for a peer, at most the mount's timeout; opens that compute run on mount.slow.
 */
#include "head.h"
#include "inval.h"
#include "locks.h"
#include "names.h"
#include "ops_fuse.h"
#include "readtime.h"
#include "refuse.h"

#include <fcntl.h>

static int stat_of(struct mount *m, struct node *n, struct stat *ret)
{
	int err = n->ops->getattr(m, n, ret);

	if (!err)
		readtime_show(n, ret);
	return err;
}

int ops_fill_entry(struct mount *m, struct node *n, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .ino = ops_id(m, n),
					  .attr_timeout = ops_cache_seconds(m),
					  .entry_timeout = ops_cache_seconds(m) };
	return stat_of(m, n, &ret->attr);
}

static void reply_entry(fuse_req_t req, struct node *n)
{
	struct mount *m = ops_mount_of(req);
	struct fuse_entry_param e;
	int err = ops_fill_entry(m, n, &e);

	if (err) {
		node_unref(m, n);
		ops_reply_err(req, err);
	} else if (fuse_reply_entry(req, &e)) {
		node_unref(m, n);
	}
}

static void reply_attr(fuse_req_t req, struct node *n)
{
	struct stat st;
	int err = stat_of(ops_mount_of(req), n, &st);

	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_attr(req, &st, ops_cache_seconds(ops_mount_of(req)));
}

/* ---- names ---- */

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	OPS_INTERRUPTIBLE(req);
	struct node *dir = ops_node(req, parent), *n;
	int err = -ENOTDIR;

	if (strlen(name) > SLAB_NAME_MAX)
		err = -ENAMETOOLONG;
	else if (dir->ops->lookup)
		err = dir->ops->lookup(ops_mount_of(req), dir, name, &n);
	if (err)
		ops_reply_err(req, err);
	else
		reply_entry(req, n);
}

static void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t count)
{
	if (id != FUSE_ROOT_ID)
		node_unref_many(ops_mount_of(req), ops_node(req, id), count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		if (forgets[i].ino != FUSE_ROOT_ID)
			node_unref_many(ops_mount_of(req), ops_node(req, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static struct make make_of(fuse_req_t req, mode_t mode, dev_t rdev)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct make){
		.mode = mode, .umask = ctx->umask, .uid = ctx->uid, .gid = ctx->gid, .rdev = rdev, .excl = true
	};
}

static int make_node(fuse_req_t req, fuse_ino_t parent, const char *name, const struct make *what, struct node **ret)
{
	OPS_INTERRUPTIBLE(req);
	struct node *dir = ops_node(req, parent);

	if (strlen(name) > SLAB_NAME_MAX)
		return -ENAMETOOLONG;
	int err = dir->ops->make ? dir->ops->make(ops_mount_of(req), dir, name, what, ret) : -EPERM;

	return refuse_name(ops_mount_of(req), dir, name, err);
}

static void reply_made(fuse_req_t req, fuse_ino_t parent, const char *name, const struct make *what)
{
	struct node *n;
	int err = make_node(req, parent, name, what, &n);

	if (err)
		ops_reply_err(req, err);
	else
		reply_entry(req, n);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct make what = make_of(req, mode, rdev);

	reply_made(req, parent, name, &what);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct make what = make_of(req, S_IFDIR | (mode & 07777), 0);

	reply_made(req, parent, name, &what);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct make what = make_of(req, S_IFLNK | 0777, 0);

	what.target = target;
	reply_made(req, parent, name, &what);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	OPS_INTERRUPTIBLE(req);
	struct node *dir = ops_node(req, parent);
	int err = dir->ops->unlink ? dir->ops->unlink(ops_mount_of(req), dir, name) : -EPERM;

	ops_reply_err(req, refuse_name(ops_mount_of(req), dir, name, err));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	OPS_INTERRUPTIBLE(req);
	struct node *dir = ops_node(req, parent);
	int err = dir->ops->rmdir ? dir->ops->rmdir(ops_mount_of(req), dir, name) : -EPERM;

	ops_reply_err(req, refuse_name(ops_mount_of(req), dir, name, err));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned flags)
{
	OPS_INTERRUPTIBLE(req);
	ops_reply_err(req, names_rename(ops_mount_of(req), ops_node(req, parent), name, ops_node(req, new_parent),
					new_name, flags));
}

static void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t new_parent, const char *name)
{
	OPS_INTERRUPTIBLE(req);
	struct node *n;
	int err = names_link(ops_mount_of(req), ops_node(req, id), ops_node(req, new_parent), name, &n);

	if (err)
		ops_reply_err(req, err);
	else
		reply_entry(req, n);
}

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
	OPS_INTERRUPTIBLE(req);
	AUTO_FREE char *target = NULL;
	int err = head_readlink(ops_mount_of(req), ops_node(req, id)->ino, &target);

	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_readlink(req, target);
}

/* ---- attributes ---- */

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	OPS_INTERRUPTIBLE(req);
	(void)fi;
	reply_attr(req, ops_node(req, id));
}

static uint64_t ns_of(struct timespec t)
{
	return (uint64_t)((int64_t)t.tv_sec * 1000000000 + t.tv_nsec);
}

static struct change change_of(const struct stat *st, int to_set)
{
	static const struct {
		int fuse;
		uint32_t wire;
	} bits[] = {
		{ FUSE_SET_ATTR_MODE, WIRE_SET_MODE },
		{ FUSE_SET_ATTR_UID, WIRE_SET_UID },
		{ FUSE_SET_ATTR_GID, WIRE_SET_GID },
		{ FUSE_SET_ATTR_SIZE, WIRE_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, WIRE_SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, WIRE_SET_MTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, WIRE_SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, WIRE_SET_MTIME_NOW },
	};
	struct change c = { .mode = st->st_mode & 07777,
			    .uid = st->st_uid,
			    .gid = st->st_gid,
			    .size = (uint64_t)st->st_size,
			    .atime_ns = ns_of(st->st_atim),
			    .mtime_ns = ns_of(st->st_mtim) };

	for (size_t i = 0; i < ARRAY_LEN(bits); i++)
		if (to_set & bits[i].fuse)
			c.valid |= bits[i].wire;
	return c;
}

static void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	OPS_INTERRUPTIBLE(req);
	struct node *n = ops_node(req, id);
	struct change change = change_of(st, to_set), rest = change;
	struct mount *m = ops_mount_of(req);
	int err = n->ops->setattr ? 0 : refuse_change(m, n);

	/* The size first and alone: kinds of files treat it apart from what is only attributes. */
	rest.valid &= ~(uint32_t)WIRE_SET_SIZE;
	if (!err && (change.valid & WIRE_SET_SIZE))
		err = ops_through_check_resize(m, n);
	if (!err && (change.valid & WIRE_SET_SIZE)) {
		change.valid = WIRE_SET_SIZE;
		inval_hold_begin(m);
		err = n->ops->setattr(m, n, fi ? ops_handle(fi) : NULL, &change);
		inval_hold_end(m);
	}
	/* Nothing to set is chown(-1, -1): it changes ctime. */
	if (!err && (rest.valid || !to_set))
		err = n->ops->setattr(m, n, fi ? ops_handle(fi) : NULL, &rest);
	if (err)
		ops_reply_err(req, err);
	else
		reply_attr(req, n);
}

static void op_statfs(fuse_req_t req, fuse_ino_t id)
{
	OPS_INTERRUPTIBLE(req);
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = SLAB_NAME_MAX };
	struct wire_statfs w;
	int err = head_statfs(ops_mount_of(req), &w);

	(void)id;
	if (err) {
		ops_reply_err(req, err);
		return;
	}
	st.f_blocks = le64_get(w.bytes_total) / st.f_frsize;
	st.f_bfree = st.f_bavail = le64_get(w.bytes_free) / st.f_frsize;
	st.f_files = le64_get(w.files_total);
	st.f_ffree = st.f_favail = le64_get(w.files_free);
	fuse_reply_statfs(req, &st);
}

/* ---- open files ---- */

/* One open that is under way, perhaps on the pool. */
struct opening {
	fuse_req_t req;
	struct node *node; /* counted */
	struct handle *handle;
	struct fuse_file_info fi;
	bool created; /* reply with the entry too; the node reference is then the kernel's */
	struct cancel cancel;
};

static void opening_interrupted(fuse_req_t req, void *data)
{
	(void)req;
	cancel_fire(data);
}

static void set_backing(struct fuse_file_info *fi, int id)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	if (id > 0) {
		fi->backing_id = id;
		fi->keep_cache = 0;
	}
#else
	(void)fi;
	(void)id;
#endif
}

static int reply_opened(struct mount *m, struct opening *o)
{
	struct fuse_entry_param e;

	o->fi.fh = (uint64_t)(uintptr_t)o->handle;
	o->fi.direct_io = o->handle->direct_io;
	o->fi.keep_cache = o->handle->keep_cache;
	set_backing(&o->fi, ops_through_decide(o->req, o->handle));
	if (!o->created)
		return fuse_reply_open(o->req, &o->fi);
	int err = ops_fill_entry(m, o->node, &e);
	if (err) {
		ops_reply_err(o->req, err);
		return err;
	}
	return fuse_reply_create(o->req, &e, &o->fi);
}

/* Under strict, who cannot map the file goes past the kernel's cache; so does who appends, for the kernel would keep what it sends at
 * the offset that it knows, and not where it goes. */
static void decide_cache(const struct mount *m, struct handle *h)
{
	bool maps = (h->flags & O_ACCMODE) != O_WRONLY && !(h->flags & O_APPEND);

	if (m->options.strict && h->node->ops->publish && !maps)
		h->direct_io = true;
}

static int run_open(struct mount *m, struct opening *o)
{
	OPS_INTERRUPTIBLE(o->req);
	struct handle *h = o->handle;
	bool cuts = h->flags & O_TRUNC;
	int err = ops_through_begin(m, h);

	if (err || !h->ops->open)
		return err;
	decide_cache(m, h);
	if (cuts)
		inval_hold_begin(m);
	err = h->ops->open(m, o->node, h, &o->cancel);
	if (cuts)
		inval_hold_end(m);
	if (!err)
		handle_count_cached(h);
	return err;
}

static void opening_run(void *arg)
{
	struct opening *o = arg;
	struct mount *m = ops_mount_of(o->req);
	struct handle *h = o->handle;
	int err = run_open(m, o);

	/* No interrupt may find this opening once it is answered. */
	fuse_req_interrupt_func(o->req, NULL, NULL);
	if (err) {
		ops_through_end(o->req, h);
		ops_reply_err(o->req, err);
		handle_free(m, h);
	} else {
		atomic_fetch_add(&h->uses, 1);
		if (reply_opened(m, o)) {
			ops_through_end(NULL, h);
			handle_close(m, h); /* the opener has gone away */
			err = -EINTR;
		}
	}
	if (!o->created || err)
		node_unref(m, o->node);
	cancel_fini(&o->cancel);
	free(o);
}

/* Takes over the reference to n. */
static void start_open(fuse_req_t req, struct node *n, const struct fuse_file_info *fi, bool created)
{
	struct mount *m = ops_mount_of(req);
	struct opening *o = calloc(1, sizeof(*o));
	struct handle *h;

	if (!o || handle_new(m, n, fi->flags, &h)) {
		free(o);
		node_unref(m, n);
		fuse_reply_err(req, ENOMEM);
		return;
	}
	h->uid = fuse_req_ctx(req)->uid;
	*o = (struct opening){ .req = req, .node = n, .handle = h, .fi = *fi, .created = created };
	cancel_init(&o->cancel);
	if (!n->ops->slow_open) {
		opening_run(o);
		return;
	}
	fuse_req_interrupt_func(req, opening_interrupted, &o->cancel);
	if (pool_add(n->kind == NODE_CONTROL ? m->control : m->slow, opening_run, o)) {
		fuse_req_interrupt_func(req, NULL, NULL);
		fuse_reply_err(req, EAGAIN);
		handle_free(m, h);
		node_unref(m, n);
		cancel_fini(&o->cancel);
		free(o);
	}
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	start_open(req, node_ref(ops_node(req, id)), fi, false);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct make what = make_of(req, S_IFREG | (mode & 07777), 0);
	struct node *n;

	what.excl = (fi->flags & O_EXCL) != 0;
	what.open = true;
	int err = make_node(req, parent, name, &what, &n);
	if (err)
		ops_reply_err(req, err);
	else
		start_open(req, n, fi, true);
}

static void reply_read(fuse_req_t req, struct read_out *out)
{
	struct fuse_bufvec vec = FUSE_BUFVEC_INIT(out->len);

	if (out->fd < 0) {
		fuse_reply_buf(req, out->buf, out->len);
		return;
	}
	vec.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY;
	vec.buf[0].fd = out->fd;
	vec.buf[0].pos = (off_t)out->fd_offset;
	fuse_reply_data(req, &vec, FUSE_BUF_SPLICE_MOVE);
	if (out->close_fd)
		close(out->fd);
}

static void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	OPS_INTERRUPTIBLE(req);
	struct handle *h = ops_handle(fi);
	struct read_out out = { .buf = malloc(size ? size : 1), .fd = -1 };
	int err = !out.buf       ? -ENOMEM
		  : h->ops->read ? h->ops->read(ops_mount_of(req), h, size, (uint64_t)offset, &out)
				 : -EINVAL;

	(void)id;
	if (!err)
		readtime_note(ops_mount_of(req), h);
	atomic_fetch_add(&h->uses, 1);
	if (err)
		ops_reply_err(req, err);
	else
		reply_read(req, &out);
	free(out.buf);
}

static int write_strictly(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset)
{
	int err = h->ops->write(m, h, buf, size, offset);

	return err || !h->ops->publish ? err : h->ops->publish(m, h);
}

/* A page that was changed through a mapping has its place; what is appended goes to the end. */
static int write_place(struct mount *m, struct handle *h, const struct fuse_file_info *fi, size_t size,
		       uint64_t *offset)
{
	if (!(fi->flags & O_APPEND) || fi->writepage || !h->ops->append)
		return 0;
	return h->ops->append(m, h, size, offset);
}

static void op_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	OPS_INTERRUPTIBLE(req);
	struct mount *m = ops_mount_of(req);
	struct handle *h = ops_handle(fi);
	bool strict = m->options.strict;
	uint64_t at = (uint64_t)offset;
	int err = -EBADF;

	(void)id;
	if (strict)
		inval_hold_begin(m);
	if (h->ops->write)
		err = write_place(m, h, fi, size, &at);
	if (h->ops->write && !err)
		err = strict ? write_strictly(m, h, buf, size, at) : h->ops->write(m, h, buf, size, at);
	atomic_fetch_add(&h->uses, 1);
	if (err)
		ops_reply_err(req, err);
	else
		fuse_reply_write(req, size);
	if (at != (uint64_t)offset && !h->direct_io)
		inval_moved(m, h->node);
	if (strict)
		inval_hold_end(m);
}

static void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	OPS_INTERRUPTIBLE(req);
	struct handle *h = ops_handle(fi);
	int err = h->ops->flush ? h->ops->flush(ops_mount_of(req), h) : 0;

	(void)id;
	locks_closed(ops_mount_of(req), h, fi->lock_owner);
	atomic_fetch_add(&h->uses, 1);
	ops_reply_err(req, err);
}

static void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	OPS_INTERRUPTIBLE(req);
	struct handle *h = ops_handle(fi);
	int err = h->ops->fsync ? h->ops->fsync(ops_mount_of(req), h) : 0;

	(void)id;
	(void)datasync;
	atomic_fetch_add(&h->uses, 1);
	ops_reply_err(req, err);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	OPS_INTERRUPTIBLE(req);
	(void)id;
	(void)datasync;
	(void)fi;
	ops_reply_err(req, head_metasync(ops_mount_of(req)));
}

static void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	(void)id;
	locks_released(ops_mount_of(req), ops_handle(fi));
	ops_through_end(req, ops_handle(fi));
	handle_close(ops_mount_of(req), ops_handle(fi));
	fuse_reply_err(req, 0);
}

const struct fuse_lowlevel_ops ops_table = {
	.init = ops_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_open,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.releasedir = op_release,
	.fsyncdir = op_fsyncdir,
	.fallocate = ops_fallocate,
	.lseek = ops_lseek,
	.copy_file_range = ops_copy_file_range,
	.statfs = op_statfs,
	.setxattr = ops_setxattr,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
	.getlk = ops_getlk,
	.setlk = ops_setlk,
	.flock = ops_flock,
};
