/* meta_int.h - what the files of the metadata share; no other module includes it.
 *
 * A message is one `struct meta_op`: its function reads the request, works on the database under meta.lock (a writer inside one
 * transaction) and leaves the reply and the invalidations in the op; meta_execute does the rest.
 */
#ifndef SLABFSD_META_INT_H
#define SLABFSD_META_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base.h"
#include "daemon.h"
#include "db.h"
#include "inval.h"
#include "map.h"
#include "meta.h"
#include "wire.h"
#include "zarr.h"

#define META_FORMAT 1
#define META_ROOT 1
#define META_PARTITION_BYTES (UINT64_C(64) << 20)
#define META_GONE_MAX 16 /* inodes that one operation can delete */
#define META_ZARR_NAME "zarr.json"

enum meta_sql {
	SQL_COUNTER_GET,
	SQL_COUNTER_SET,
	SQL_INODE_GET,
	SQL_INODE_ADD,
	SQL_INODE_SET,
	SQL_INODE_DEL,
	SQL_INODE_UNLINKED,
	SQL_CONTENT_GET,
	SQL_CONTENT_SET,
	SQL_CONTENT_DEL,
	SQL_DIRENT_GET,
	SQL_DIRENT_ADD,
	SQL_DIRENT_DEL,
	SQL_DIRENT_MOVE,
	SQL_DIRENT_ANY,
	SQL_DIRENT_LIST,
	SQL_DIRENT_OF,
	SQL_LOOKUP,
	SQL_XATTR_GET,
	SQL_XATTR_SET,
	SQL_XATTR_DEL,
	SQL_XATTR_LIST,
	SQL_XATTR_SUM,
	SQL_XATTR_DROP,
	SQL_LAYOUT_FIND,
	SQL_LAYOUT_ADD,
	SQL_LAYOUT_GET,
	SQL_ARRAY_GET,
	SQL_ARRAY_SET,
	SQL_ARRAY_DEL,
	SQL_ORPHAN_ADD,
	SQL_ORPHAN_LIST,
	SQL_ORPHAN_SET,
	SQL_ORPHAN_DEL,
	SQL_NODE_LIST,
	SQL_NODE_ADD,
	SQL_NODE_ADDRESS,
	SQL_NODE_RUN_GET,
	SQL_NODE_RUN_SET,
	SQL_REPLY_GET,
	SQL_REPLY_SET,
	SQL_REPLY_DROP,
	SQL_REPLY_SESSIONS,
	SQL_NODE_KEEP,
	SQL_NODE_CLAIM,
	SQL_REBUILD_GET,
	SQL_REBUILD_END,
	SQL_DESCRIBE_COUNT,
	SQL_DESCRIBE_NEXT,
	SQL_DESCRIBE_BELOW,
	SQL_DESCRIBE_ACKED,
	SQL_DESCRIBE_DONE,
	SQL_XATTR_ALL,
	SQL_ORPHAN_GET,
	SQL_SCAN_OBJECTS,
	SQL_SCAN_DIRENTS,
	SQL_LOCKER_LIST,
	SQL_LOCKER_ADD,
	SQL_LOCKER_DEL,
	SQL_LOCK_LIST,
	SQL_LOCK_ADD,
	SQL_LOCK_DEL,
	SQL_LOCK_DROP,
	SQL_END
};
extern const char *const meta_sql[SQL_END];

struct reaper;
struct describer;

struct gone { /* a session without a connection */
	struct uuid session;
	uint64_t since_ns; /* monotonic */
};

struct replies {              /* meta_replies.c */
	pthread_mutex_t lock; /* guards telling */
	pthread_cond_t told;  /* one less */
	struct telling *telling;
	struct gone *gone; /* whose rows are to go; guarded by meta.lock */
	size_t n_gone;
};

struct meta {
	struct daemon *d;
	pthread_mutex_t lock; /* guards all below down to `sync`; inval has its own */
	struct db *db;
	uint64_t next_id, id_limit; /* ids below id_limit are reserved on disk */
	bool rebuilding;            /* the head was made anew: not all objects have their names yet */
	struct map opens;           /* ino -> number of sessions that have it open */
	struct map sessions;        /* number -> struct map: ino -> 1, of what it has open */
	uint64_t grace_until_ns;    /* monotonic: until then what has no name may still be open; 0: over */
	struct locks *locks;        /* meta_locks.h */
	struct inval *inval;
	struct reaper *reaper;       /* set before the server runs, NULL in tests */
	struct describer *describer; /* likewise */
	struct meta_syncer *syncer;  /* likewise */
	atomic_bool changed;         /* since the syncer's last turn */
	struct replies replies;

	struct {
		pthread_mutex_t lock; /* guards the rest; group commit of meta_sync */
		pthread_cond_t done;
		uint64_t asked, finished; /* rounds of fsync */
		bool running;
		int err; /* of the last round */
	} sync;
};

struct inode {
	uint64_t ino, size, atime, mtime, ctime, generation, rdev;
	uint64_t parent;          /* of a directory, else 0 */
	uint64_t object;          /* 0: none */
	uint64_t partition_bytes; /* of a file: its cut; of a directory: for what is made in it, 0: default */
	uint64_t layout;          /* row of layouts; 0: none */
	uint32_t mode, uid, gid, nlink, flags, epoch;
};

struct meta_peer {
	uint64_t session;
	uint32_t node_id;
	bool is_mount; /* caches what it is told */
	struct session *handle;
	struct uuid uuid; /* of the session: the same after a restart of the head */
};

struct meta_op {
	struct meta *m;
	struct meta_peer peer;
	unsigned type;
	uint64_t request; /* its id */
	uint64_t once;    /* 0: no repetition is to be recognised */
	bool repeated;    /* it was done before */
	const void *body;
	const uint8_t *payload;
	size_t payload_bytes;
	struct reason *why;

	uint64_t now;
	struct inval_list changes;
	bool reap; /* orphans were added */
	uint64_t opened,
		closed; /* inodes that the session has opened or closed with it: undone when it fails; 0: none */
	uint64_t gone[META_GONE_MAX]; /* inodes that were deleted */
	size_t n_gone;

	union {
		struct wire_attr attr;
		struct wire_statfs statfs;
		struct wire_open_reply open;
		struct wire_made made;
		struct wire_removed removed;
		uint8_t bytes[WIRE_BODY_MAX];
	} reply;
	uint8_t *reply_payload; /* malloc'ed */
	size_t reply_payload_bytes;
};

struct meta_name {
	const char *text;
	size_t len;
};
static inline bool meta_name_is(struct meta_name n, const char *text)
{
	return n.len == strlen(text) && !memcmp(n.text, text, n.len);
}

typedef int meta_fn(struct meta_op *op);
meta_fn meta_op_lookup, meta_op_getattr, meta_op_setattr, meta_op_make, meta_op_link, meta_op_unlink, meta_op_rmdir,
	meta_op_rename, meta_op_readlink, meta_op_readdir, meta_op_getxattr, meta_op_setxattr, meta_op_listxattr,
	meta_op_removexattr, meta_op_statfs, meta_op_open, meta_op_close, meta_op_commit, meta_op_metasync,
	meta_op_forget, meta_op_read_times, meta_op_inline_read, meta_op_inline_write, meta_op_define, meta_op_resize,
	meta_op_chunkdir, meta_op_append, meta_op_object_paths, meta_op_lock, meta_op_restore, meta_op_raise_ids,
	meta_op_check_names;

/* Runs one message; on success the reply is in op and the caller frees op->reply_payload. */
int meta_execute(struct meta_op *op);
/* The same in two steps: when *ret_tell, others are yet to be told of what was done, which meta_finish does, and waits for them. */
int meta_start_op(struct meta_op *op, bool *ret_tell);
void meta_finish(struct meta_op *op);
void meta_session_gone(struct meta *m, uint64_t session);
int meta_open_db(struct meta *m, const char *path, struct reason *why);
int meta_sync(struct meta *m); /* everything acknowledged before is durable; concurrent callers share one fsync */

/* meta_replies.c: requests with `once`.  In the request's transaction: replies_find (op->repeated: the reply is in op) before the work, replies_keep
 * after it, and replies_told once all others have been told; a repetition that finds that they have not waits for it. */
void replies_init(struct replies *r);
void replies_fini(struct replies *r);
int replies_load(struct meta *m);
int replies_find(struct meta_op *op);
int replies_keep(struct meta_op *op);
void replies_told(struct meta_op *op);
bool replies_telling(struct meta_op *op); /* others are being told */
void replies_wait_told(struct meta_op *op);
void replies_session_gone_locked(struct meta *m, const struct uuid *session); /* needs meta.lock */

/* meta_syncer.c: a thread that does it by itself, STORE_SYNC_MS after a change at the latest */
int meta_syncer_new(struct meta *m, struct meta_syncer **ret);
void meta_syncer_free(struct meta_syncer *s);

/* meta_reserve.c */
void meta_reserve_take(struct meta *m); /* as far as there is room */
bool meta_reserve_give(struct meta *m); /* to those who make room; false: it was given already */

/* Transactions outside of a message. */
int meta_begin(struct meta *m); /* takes the lock */
int meta_end(struct meta *m, int err);

/* meta_inode.c.  -ESTALE: no such inode. */
uint64_t meta_new_id(struct meta *m);
int inode_get(struct meta *m, uint64_t ino, struct inode *ret);
int inode_get_any(struct meta *m, uint64_t ino, struct inode *ret); /* also one that waits for who may have it open */
int inode_dir(struct meta *m, uint64_t ino, struct inode *ret);     /* -ENOTDIR; -ENOENT: it was removed */
int inode_row(struct meta *m, unsigned q, int first_column, struct inode *ret); /* from a statement's row */
int inode_add(struct meta *m, const struct inode *in);
int inode_set(struct meta *m, const struct inode *in);
int inode_touch(struct meta_op *op, struct inode *in, bool modified); /* ctime (and mtime) now; saved, and a change */
int inode_drop_if_unused(struct meta_op *op, const struct inode *in); /* deletes it when it has neither name nor open */
int inode_drop_unlinked(struct meta *m,
			bool *ret_reap); /* all that have neither name nor open; *ret_reap: there are new orphans */
void inode_attr(const struct inode *in, struct wire_attr *ret);
int meta_reply_attr(struct meta_op *op, const struct inode *in); /* 0; the session now holds it */
int meta_open_inode(struct meta_op *op, const struct inode *in, struct wire_layout *ret); /* and the reply's payload */
int meta_close_inode(struct meta_op *op, uint64_t ino);
void meta_hold(struct meta_op *op, uint64_t ino);
void meta_changed(struct meta_op *op, const struct inode *in, uint32_t flags);
void meta_entry_changed(struct meta_op *op, const struct inode *dir, struct meta_name name);
int content_get(struct meta *m, uint64_t ino, const void **ret, size_t *ret_len); /* until the next content_get */
int content_set(struct meta *m, uint64_t ino, const void *bytes, size_t len);

/* Placement.  layout_new picks nodes that are up, `near` first. */
int layout_new(struct meta *m, uint32_t near, uint64_t *ret_layout, struct reason *why);
int layout_intern(struct meta *m, const struct le32 *nodes, size_t n, uint64_t *ret_layout);
int layout_nodes(struct meta *m, uint64_t layout, struct le32 ret[SLAB_NODES_MAX], size_t *ret_n);
int object_orphan(struct meta_op *op,
		  struct inode *in); /* its partitions are dropped by the reaper; clears in->object */

/* Opens. */
int opens_add(struct meta *m, uint64_t session, uint64_t ino);
bool opens_remove(struct meta *m, uint64_t session, uint64_t ino); /* false: was not open there */
bool opens_has(const struct meta *m, uint64_t session, uint64_t ino);
uint64_t opens_count(const struct meta *m, uint64_t ino);

/* meta_names.c */
int meta_take_name(struct meta_op *op, struct cursor *c, size_t len, struct meta_name *ret);
int dirent_get(struct meta *m, uint64_t dir, struct meta_name name, uint64_t *ret_ino, uint64_t *ret_id); /* -ENOENT */
int dirent_add(struct meta *m, uint64_t dir, struct meta_name name, const struct inode *in);
int dirent_del(struct meta *m, uint64_t dir, uint64_t id);
int dir_empty(struct meta *m, const struct inode *dir);      /* 0 or -ENOTEMPTY */
int meta_unlink_inode(struct meta_op *op, struct inode *in); /* one name less */
int meta_make_inode(struct meta_op *op, struct inode *dir, struct meta_name name, uint32_t umask, struct inode *in);
bool meta_name_of_dir(struct meta *m, uint64_t ino, uint64_t *ret_parent, char ret_name[SLAB_NAME_MAX],
		      size_t *ret_len);                              /* false: it has none */
void meta_path(struct meta *m, uint64_t ino, char *ret, size_t cap); /* for people */

/* meta_array.c: the directory `dir` (saved by these) has, or has no longer, this document as zarr.json. */
int array_judge(struct meta_op *op, struct inode *dir, const void *doc, size_t len);
int array_sidecar_gone(struct meta_op *op, struct inode *dir);
int array_judge_linked(struct meta_op *op, const struct inode *file); /* in every directory that has it as zarr.json */
int array_check_name(struct meta_op *op, struct inode *in, struct meta_name name); /* may `in` be called that? */
int array_named(struct meta_op *op, struct inode *dir, struct meta_name name, const struct inode *in);
int array_unnamed(struct meta_op *op, struct inode *dir, struct meta_name name);
int array_drop(struct meta_op *op, struct inode *dir);

/* meta_restore.c */
int meta_lost_found(struct meta_op *op, struct inode *dir); /* the directory, made when it is missing */

/* meta_xattr.c */
int xattr_inherit(struct meta *m, const struct inode *parent, const struct inode *dir);
int xattr_drop_capability(struct meta_op *op, struct inode *in); /* its bytes are changed */

/* meta_acl.c */
/* Takes a list: the mode follows it.  *ret_keep: whether it is to be stored. */
int acl_set(struct meta_op *op, struct inode *in, struct meta_name name, const void *value, size_t len, bool *ret_keep);
int acl_follow_mode(struct meta_op *op, const struct inode *in); /* the mode was set: its list follows */
/* What `in`, which is about to be added to `dir`, is given: its mode and lists from the directory's, or by the umask. */
int acl_inherit(struct meta_op *op, const struct inode *dir, uint32_t umask, struct inode *in);

#endif
