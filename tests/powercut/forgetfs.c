/* forgetfs - a file system in memory that loses what was not fsynced, as a power cut does.
 *
 *   forgetfs [-s] FROM MOUNTPOINT   holds what is in the directory FROM, durably; prints "forgetfs: ready", serves until it is unmounted
 *   -s                              scattered order of names (see forget.h)
 *
 * Commands are written to MOUNTPOINT/.forget, one a write:
 *   cut SEED OUT    the power goes: what survives is put into the directory OUT; every request from now on fails with EIO
 *   fail N SUFFIX   the next N fsyncs of files whose name ends so fail with EIO, and what they were to write is lost
 * Reading it gives the names of files that are not durable, one a line.
 */
#define FUSE_USE_VERSION 314
#include "forget.h"

#include <err.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FOREVER 86400.0
#define CONTROL ".forget"
#define DISK_BLOCKS (UINT64_C(64) << 18) /* of 4096 bytes: 64 GiB */

static struct object *root, *control;
static enum forget_order order;
static bool dead;
static unsigned fail_left;
static char fail_suffix[256];

static struct object *object_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? root : (struct object *)(uintptr_t)ino;
}

/* Whether the power is gone: then it has replied. */
static bool gone(fuse_req_t req)
{
	if (dead)
		fuse_reply_err(req, EIO);
	return dead;
}

static struct stat stat_of(const struct object *o)
{
	struct stat st = o->st;

	st.st_size = (off_t)o->now.len;
	st.st_blocks = (blkcnt_t)((o->now.len + 511) / 512);
	st.st_blksize = 4096;
	return st;
}

static void touch(struct object *o)
{
	clock_gettime(CLOCK_REALTIME, &o->st.st_mtim);
	o->st.st_ctim = o->st.st_mtim;
}

static void reply_entry(fuse_req_t req, struct object *o)
{
	struct fuse_entry_param e = {
		.ino = (fuse_ino_t)(uintptr_t)o, .attr = stat_of(o), .attr_timeout = FOREVER, .entry_timeout = FOREVER
	};

	fuse_reply_entry(req, &e);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct object *o = !strcmp(name, CONTROL) ? control : forget_find(object_of(parent), name);

	if (gone(req))
		return;
	if (o)
		reply_entry(req, o);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = stat_of(object_of(ino));

	(void)fi;
	if (!gone(req))
		fuse_reply_attr(req, &st, FOREVER);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int valid, struct fuse_file_info *fi)
{
	struct object *o = object_of(ino);

	(void)fi;
	if (gone(req))
		return;
	if (valid & FUSE_SET_ATTR_MODE)
		o->st.st_mode = (o->st.st_mode & S_IFMT) | (attr->st_mode & 07777);
	if (valid & FUSE_SET_ATTR_UID)
		o->st.st_uid = attr->st_uid;
	if (valid & FUSE_SET_ATTR_GID)
		o->st.st_gid = attr->st_gid;
	if (valid & FUSE_SET_ATTR_SIZE && o != control)
		forget_resize(o, (uint64_t)attr->st_size);
	touch(o);
	if (valid & FUSE_SET_ATTR_MTIME)
		o->st.st_mtim = attr->st_mtim;
	struct stat st = stat_of(o);
	fuse_reply_attr(req, &st, FOREVER);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	(void)rdev;
	if (gone(req))
		return;
	if (forget_find(object_of(parent), name)) {
		fuse_reply_err(req, EEXIST);
		return;
	}
	struct object *o = forget_new(mode, ctx->uid, ctx->gid);
	forget_name(object_of(parent), name, o);
	reply_entry(req, o);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_mknod(req, parent, name, mode | S_IFDIR, 0);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct object *o = forget_find(object_of(parent), name);

	if (gone(req))
		return;
	if (o && !o->entries)
		forget_name(object_of(parent), name, NULL);
	fuse_reply_err(req, !o ? ENOENT : o->entries ? ENOTEMPTY : 0);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *new_name,
		      unsigned flags)
{
	struct object *o = forget_find(object_of(parent), name), *there = forget_find(object_of(to), new_name);

	if (gone(req))
		return;
	if (o && !flags && o != there && !(there && there->entries))
		forget_rename(object_of(parent), name, object_of(to), new_name);
	fuse_reply_err(req, !o ? ENOENT : flags ? EINVAL : there && there->entries ? ENOTEMPTY : 0);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	if (gone(req))
		return;
	if (forget_find(object_of(parent), name)) {
		fuse_reply_err(req, EEXIST);
		return;
	}
	forget_name(object_of(parent), name, object_of(ino));
	reply_entry(req, object_of(ino));
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	fi->direct_io = object_of(ino) == control;
	if (!gone(req))
		fuse_reply_open(req, fi);
}

static void list_changed(const struct object *dir, char *text, size_t size)
{
	for (const struct entry *e = dir->entries; e; e = e->next) {
		size_t len = strlen(text);
		if (e->object->n_changes)
			snprintf(text + len, size - len, "%s\n", e->name);
		list_changed(e->object, text, size);
	}
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct image *i = &object_of(ino)->now;
	char text[4096] = "";

	if (object_of(ino) == control) {
		list_changed(root, text, sizeof(text));
		fuse_reply_buf(req, text, offset ? 0 : strlen(text));
		return;
	}
	uint64_t from = (uint64_t)offset, left = from < i->len ? i->len - from : 0;

	(void)fi;
	if (!gone(req))
		fuse_reply_buf(req, left ? (const char *)i->bytes + from : NULL, left < size ? left : size);
}

static int run_command(const char *text, size_t len)
{
	char line[PATH_MAX + 64], out[PATH_MAX];
	uint64_t seed;

	snprintf(line, sizeof(line), "%.*s", (int)len, text);
	if (sscanf(line, "cut %" SCNu64 " %4095s", &seed, out) == 2) {
		dead = true;
		return -forget_cut(root, seed, order, out);
	}
	return sscanf(line, "fail %u %255s", &fail_left, fail_suffix) == 2 ? 0 : EINVAL;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct object *o = object_of(ino);
	int rc = 0;

	(void)fi;
	if (gone(req))
		return;
	if (o == control)
		rc = run_command(buf, size);
	else
		forget_write(o, buf, (uint64_t)offset, size);
	touch(o);
	if (rc)
		fuse_reply_err(req, rc);
	else
		fuse_reply_write(req, size);
}

static bool must_fail(const struct object *o)
{
	size_t len = strlen(o->name), end = strlen(fail_suffix);

	if (!fail_left || len < end || strcmp(o->name + len - end, fail_suffix) != 0)
		return false;
	fail_left--;
	return true;
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct object *o = object_of(ino);

	(void)datasync;
	(void)fi;
	if (gone(req))
		return;
	if (must_fail(o)) {
		forget_fail_file(o);
		fuse_reply_err(req, EIO);
		return;
	}
	forget_sync_file(o, order);
	fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)fi;
	if (gone(req))
		return;
	forget_sync_dir(object_of(ino));
	fuse_reply_err(req, 0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	static char buf[1 << 20];
	size_t done = 0;

	(void)fi;
	size = size < sizeof(buf) ? size : sizeof(buf);
	if (gone(req))
		return;
	for (struct entry *e = object_of(ino)->entries; e; e = e->next) {
		size_t n;
		if (e->id <= (uint64_t)offset)
			continue;
		n = fuse_add_direntry(req, buf + done, size - done, e->name, &e->object->st, (off_t)e->id);
		if (n > size - done)
			break;
		done += n;
	}
	fuse_reply_buf(req, buf, done);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = { .f_bsize = 4096,
			      .f_frsize = 4096,
			      .f_blocks = DISK_BLOCKS,
			      .f_bfree = DISK_BLOCKS,
			      .f_bavail = DISK_BLOCKS,
			      .f_files = 1 << 20,
			      .f_ffree = 1 << 20,
			      .f_favail = 1 << 20,
			      .f_namemax = 255 };

	(void)ino;
	fuse_reply_statfs(req, &st);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct object *o = object_of(ino);
	uint64_t from = (uint64_t)offset, end = from + (uint64_t)length;

	(void)fi;
	if (gone(req))
		return;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > o->now.len)
		forget_resize(o, end);
	end = end < o->now.len ? end : o->now.len;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && from < end) {
		void *zeros = calloc(1, end - from);
		if (!zeros)
			err(1, "out of memory");
		forget_write(o, zeros, from, end - from);
		free(zeros);
	}
	touch(o);
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fsyncdir = op_fsyncdir,
	.readdir = op_readdir,
	.statfs = op_statfs,
	.fallocate = op_fallocate,
};

int main(int argc, char **argv)
{
	char *fuse_argv[] = { argv[0], (char *)(uintptr_t) "-oallow_other,fsname=forgetfs,subtype=forgetfs" };
	struct fuse_args args = FUSE_ARGS_INIT(2, fuse_argv);
	struct fuse_session *session;
	bool scattered = argc == 4 && !strcmp(argv[1], "-s");
	int rc;

	if (argc != 3 + scattered)
		errx(2, "usage: forgetfs [-s] FROM MOUNTPOINT");
	order = scattered ? FORGET_SCATTERED : FORGET_ORDERED;
	root = forget_new(S_IFDIR | 0755, geteuid(), getegid());
	control = forget_new(S_IFREG | 0600, geteuid(), getegid());
	rc = forget_load(root, argv[argc - 2]);
	if (rc)
		errx(1, "%s: %s", argv[argc - 2], strerror(-rc));
	session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!session || fuse_session_mount(session, argv[argc - 1]) != 0)
		errx(1, "%s: cannot be mounted", argv[argc - 1]);
	puts("forgetfs: ready");
	fflush(stdout);
	rc = fuse_session_loop(session);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return rc != 0;
}
