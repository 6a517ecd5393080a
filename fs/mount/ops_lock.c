/* ops_lock.c - FUSE's requests for locks.  One that waits holds no thread: it is answered later, or when it is interrupted. */
#include "locks.h"
#include "ops_fuse.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>

struct blocked {
	struct lock_wait wait; /* first: `done` is given this */
	fuse_req_t req;
};

static uint32_t type_of(int type)
{
	return type == F_RDLCK ? WIRE_LOCK_READ : type == F_WRLCK ? WIRE_LOCK_WRITE : WIRE_LOCK_NONE;
}

static struct lock_ask ask_of(fuse_req_t req, fuse_ino_t id, const struct fuse_file_info *fi, const struct flock *lock)
{
	uint64_t start = (uint64_t)lock->l_start;

	return (struct lock_ask){ .node = ops_node(req, id),
				  .handle = ops_handle(fi),
				  .owner = fi->lock_owner,
				  .start = start,
				  .end = lock->l_len ? start + (uint64_t)lock->l_len - 1 : INT64_MAX,
				  .type = type_of(lock->l_type),
				  .kind = WIRE_LOCK_POSIX,
				  .pid = (uint32_t)lock->l_pid };
}

static void blocked_done(struct lock_wait *w, int err)
{
	struct blocked *b = (struct blocked *)w;
	fuse_req_t req = b->req;

	/* No interrupt may find it once it is answered. */
	fuse_req_interrupt_func(req, NULL, NULL);
	free(b);
	ops_reply_err(req, err);
}

static void blocked_interrupted(fuse_req_t req, void *data)
{
	struct blocked *b = data;

	locks_interrupt(ops_mount_of(req), &b->wait);
}

static void set_lock(fuse_req_t req, const struct lock_ask *ask, bool sleep)
{
	struct mount *m = ops_mount_of(req);
	struct blocked *b;

	if (!sleep || ask->type == WIRE_LOCK_NONE) {
		ops_reply_err(req, locks_set(m, ask));
		return;
	}
	b = calloc(1, sizeof(*b));
	if (!b) {
		ops_reply_err(req, -ENOLCK);
		return;
	}
	b->req = req;
	b->wait.ask = *ask;
	b->wait.done = blocked_done;
	fuse_req_interrupt_func(req, blocked_interrupted, b);
	locks_set_wait(m, &b->wait);
}

void ops_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock)
{
	struct lock_ask ask = ask_of(req, id, fi, lock), found;
	int err = locks_test(ops_mount_of(req), &ask, &found);

	if (err) {
		ops_reply_err(req, err);
		return;
	}
	lock->l_type = found.type == WIRE_LOCK_READ ? F_RDLCK : found.type == WIRE_LOCK_WRITE ? F_WRLCK : F_UNLCK;
	if (lock->l_type != F_UNLCK) {
		lock->l_whence = SEEK_SET;
		lock->l_start = (off_t)found.start;
		lock->l_len = found.end >= INT64_MAX ? 0 : (off_t)(found.end - found.start + 1);
		lock->l_pid = (pid_t)found.pid;
	}
	fuse_reply_lock(req, lock);
}

void ops_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct lock_ask ask = ask_of(req, id, fi, lock);

	set_lock(req, &ask, sleep != 0);
}

void ops_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op)
{
	int what = op & (LOCK_SH | LOCK_EX | LOCK_UN);
	struct lock_ask ask = {
		.node = ops_node(req, id),
		.handle = ops_handle(fi),
		.owner = (uintptr_t)fi->fh, /* not the kernel's number for the file, which a later one may get */
		.end = INT64_MAX,
		.type = what == LOCK_SH   ? WIRE_LOCK_READ
			: what == LOCK_EX ? WIRE_LOCK_WRITE
					  : WIRE_LOCK_NONE,
		.kind = WIRE_LOCK_FLOCK
	};

	set_lock(req, &ask, !(op & LOCK_NB));
}
