/* ops_fuse.h - the one place that names FUSE: ops.c and ops_dir.c answer its requests, session.c mounts and runs the loop. */
#ifndef SLABFS_OPS_FUSE_H
#define SLABFS_OPS_FUSE_H

#define FUSE_USE_VERSION 312 /* what 3.17 adds is there all the same; FUSE_VERSION tells */
#include <fuse_lowlevel.h>

#include "interrupt.h"
#include "mount.h"
#include "node.h"

#define CACHE_SECONDS 1.0   /* not under strict: what the head's push did not reach in time is forgotten after this */
#define IO_BYTES (1u << 20) /* the largest read or write that the kernel sends */

extern const struct fuse_lowlevel_ops ops_table;

/* The address of a node is its id; the root's is fixed. */
static inline fuse_ino_t ops_id(const struct mount *m, const struct node *n)
{
	return n == m->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}

static inline struct mount *ops_mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline double ops_cache_seconds(const struct mount *m)
{
	return m->options.strict ? 0 : CACHE_SECONDS;
}

static inline struct node *ops_node(fuse_req_t req, fuse_ino_t id)
{
	return id == FUSE_ROOT_ID ? ops_mount_of(req)->root : (struct node *)(uintptr_t)id;
}

static inline struct handle *ops_handle(const struct fuse_file_info *fi)
{
	struct handle *h = (struct handle *)(uintptr_t)fi->fh;

	atomic_load(&h->uses);
	return h;
}

static inline bool ops_is_interrupted(void *req)
{
	return fuse_req_interrupted(req);
}

static inline bool ops_interruptible(fuse_req_t req)
{
	interrupt_begin(ops_is_interrupted, req, fuse_req_ctx(req)->pid);
	return true;
}

static inline void ops_uninterruptible(const bool *scope)
{
	(void)scope;
	interrupt_end();
}

/* To the end of the block, waiting for a daemon that is away ends when req's process is to end.  Nothing waits after the answer. */
#define OPS_INTERRUPTIBLE(req)                                                                                         \
	__attribute__((cleanup(ops_uninterruptible), unused)) bool interruptible = ops_interruptible(req)

static inline void ops_reply_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, -err);
}

/* The reference to n is the kernel's once the entry is sent. */
int ops_fill_entry(struct mount *m, struct node *n, struct fuse_entry_param *ret);

void ops_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t cookie, struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t cookie, struct fuse_file_info *fi);

/* Passthrough (ops_through.c).  Around an open: begin before the node's open; decide after it, which gives the id for the reply or 0;
 * end when the handle goes, or the open failed (req NULL when it was answered already). */
bool ops_through_init(struct fuse_conn_info *conn);
int ops_through_begin(struct mount *m, struct handle *h);
int ops_through_decide(fuse_req_t req, struct handle *h);
void ops_through_end(fuse_req_t req, struct handle *h);
int ops_through_check_resize(struct mount *m, struct node *n);

void ops_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length, struct fuse_file_info *fi);
void ops_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *fi);
void ops_copy_file_range(fuse_req_t req, fuse_ino_t id_in, off_t offset_in, struct fuse_file_info *fi_in,
			 fuse_ino_t id_out, off_t offset_out, struct fuse_file_info *fi_out, size_t len, int flags);

void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size);
void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags);
void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name);
void ops_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock);
void ops_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep);
void ops_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op);

/* session.c's answer to the kernel's first request. */
void ops_init(void *userdata, struct fuse_conn_info *conn);

#endif
