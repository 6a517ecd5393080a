/* head.h - the requests for names: one function a message, from the mount's structs to the wire's and back.
 *
 * 0 or -errno; a head that cannot be reached is EIO or ETIMEDOUT.  Failures that a person should hear of are added to .slabfs/errors here.
 * `seq` outputs are mount.inval_seq from before the request (see node_of_attr).  Thread-safe.
 */
#ifndef SLABFS_HEAD_H
#define SLABFS_HEAD_H

#include "base.h"
#include "mount.h"
#include "node.h"
#include "wire.h"

int head_lookup(struct mount *m, uint64_t parent, const char *name, struct wire_attr *ret, uint64_t *ret_seq);
int head_getattr(struct mount *m, uint64_t ino, struct wire_attr *ret, uint64_t *ret_seq);
int head_setattr(struct mount *m, uint64_t ino, const struct change *change, struct wire_attr *ret, uint64_t *ret_seq);
struct head_made {
	struct wire_made reply;
	bool open;   /* as after head_open: what->open was set, and it is a file that can be */
	char *nodes; /* malloc'ed; of the layout */
	size_t nodes_bytes;
	uint64_t seq;
};
int head_make(struct mount *m, uint64_t parent, const char *name, const struct make *what, uint32_t near_node,
	      struct head_made *ret);
int head_link(struct mount *m, uint64_t ino, uint64_t parent, const char *name, struct wire_attr *ret,
	      uint64_t *ret_seq);
int head_unlink(struct mount *m, uint64_t parent, const char *name, struct wire_attr *ret);
int head_rmdir(struct mount *m, uint64_t parent, const char *name, struct wire_attr *ret);
/* Both.  closes: an inode for which head_opens_take was true, or 0. */
int head_remove(struct mount *m, unsigned type, uint64_t parent, const char *name, uint64_t closes,
		struct wire_removed *ret, uint64_t *ret_seq);
int head_rename(struct mount *m, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		unsigned flags, struct wire_attr *ret, uint64_t *ret_seq);
int head_readlink(struct mount *m, uint64_t ino, char **ret); /* malloc'ed */
/* One page of entries after cookie: wire_dirent and name, one after the other; *ret malloc'ed, *ret_len 0 at the end. */
int head_readdir(struct mount *m, uint64_t ino, uint64_t cookie, uint32_t max_bytes, char **ret, size_t *ret_len,
		 uint64_t *ret_seq);
int head_getxattr(struct mount *m, uint64_t ino, const char *name, char **ret, size_t *ret_len);
int head_setxattr(struct mount *m, uint64_t ino, const char *name, const void *value, size_t len, unsigned flags,
		  struct wire_attr *ret, uint64_t *ret_seq);
int head_listxattr(struct mount *m, uint64_t ino, char **ret, size_t *ret_len);
int head_removexattr(struct mount *m, uint64_t ino, const char *name, struct wire_attr *ret, uint64_t *ret_seq);
int head_statfs(struct mount *m, struct wire_statfs *ret);

/* OPEN and CLOSE.  The node ids, the npy header and the document follow each other in *ret_payload (malloc'ed). */
int head_open(struct mount *m, uint64_t ino, struct wire_open_reply *ret, char **ret_payload, size_t *ret_len,
	      uint64_t *ret_seq);
void head_close(struct mount *m, uint64_t ino);
/* The placement part of an OPEN reply, checked; alloc is left empty.  -EPROTO. */
struct layout;
int head_layout(const struct wire_layout *w, const char *payload, size_t len, struct layout *ret);

int head_commit(struct mount *m, uint64_t ino, uint64_t size, uint64_t mtime_ns, struct wire_attr *ret,
		uint64_t *ret_seq);
int head_append(struct mount *m, uint64_t ino, uint64_t length, struct wire_attr *ret, uint64_t *ret_seq);
int head_lock(struct mount *m, const struct wire_lock *lock, struct wire_lock_reply *ret);
/* Those of the n inodes that this mount knows nothing of any more (fewer when it returns). */
int head_forget(struct mount *m, uint64_t *inos, size_t n);
int head_metasync(struct mount *m);
int head_read_times(struct mount *m, const struct wire_read_time *items, size_t n);
int head_inline_read(struct mount *m, uint64_t ino, char **ret, size_t *ret_len);
int head_inline_write(struct mount *m, uint64_t ino, const char *text, size_t len, struct wire_attr *ret,
		      uint64_t *ret_seq);
int head_define(struct mount *m, uint64_t dir, const void *npy, size_t npy_bytes, const char *doc, uint32_t uid,
		uint32_t gid, struct wire_attr *ret, uint64_t *ret_seq);
int head_resize(struct mount *m, uint64_t dir, uint64_t rows, bool grow_only, struct wire_attr *ret, uint64_t *ret_seq);
int head_chunkdir(struct mount *m, uint64_t dir, bool make, struct wire_attr *ret, uint64_t *ret_seq);

#endif
