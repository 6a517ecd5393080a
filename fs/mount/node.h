/* node.h - a node is an inode that the kernel knows: something that the head holds, or a view computed from an array.
 *
 * A node lives while it is referred to; each lookup that the kernel has not forgotten counts as a reference.  Its address is the FUSE node
 * id; its `ino` is the st_ino, stable across mounts and restarts.
 *
 * node_ops functions return 0 or -errno, never reply themselves, and may run on any thread.  A missing function means ENOSYS or
 * what ops.c finds natural (EPERM, ENOTDIR).
 */
#ifndef SLABFS_NODE_H
#define SLABFS_NODE_H

#include "base.h"
#include "mount.h"
#include "wire.h"

#include <sys/queue.h>
#include <sys/stat.h>

struct array;
struct bytes;
struct handle;
struct mount;

enum node_kind {
	NODE_DIR = 1, /* held by the head */
	NODE_FILE,
	NODE_OTHER, /* links, fifos, sockets, devices */
	NODE_CHUNKDIR,
	NODE_CHUNK,
	NODE_DATA,
	NODE_NPY,
	NODE_COMPUTEDIR,
	NODE_RESULT,
	NODE_CONTROLDIR,
	NODE_CONTROL
};

struct node {
	const struct node_ops *ops;
	enum node_kind kind;
	uint64_t ino;
	_Atomic unsigned n_mappers;  /* handles through which a mapping may change it */
	_Atomic uint64_t refs;       /* one for each lookup that the kernel has not forgotten, and for each holder */
	struct array *array;         /* views and chunks; a counted reference */
	uint64_t index;              /* CHUNKDIR, CHUNK: first partition below it; CONTROL, RESULT: the kind's own */
	unsigned depth;              /* CHUNKDIR: how many coordinates its path has */
	char *name;                  /* the last component as last seen, for messages and for RESULT the question */
	_Atomic uint64_t parent_ino; /* as last seen; name and this change under mount.table_lock */

	LIST_HEAD(, claim) claims; /* locks.c's: who has locked this file here; locks.lock */
	_Atomic unsigned n_claims;
	_Atomic bool is_partition; /* FILE: its bytes have become one, and its name is that of another node */

	pthread_mutex_t lock; /* guards all below */
	struct wire_attr attr;
	bool attr_valid;            /* nobody has told us that attr is out of date */
	uint64_t cached_generation; /* of the pages that the kernel may hold; 0: none */
	uint64_t read_ns,
		read_ctime_ns; /* readtime.c: when it was read here, and the ctime that it had then; 0: it was not */
	unsigned n_open;
	unsigned n_cached;       /* handles whose reads and writes go through the kernel's pages */
	bool busy;               /* someone opens, flushes or closes: wait for `idle` */
	pthread_cond_t idle;     /* busy was cleared */
	void *state;             /* the kind's own, while open */
	struct entries *entries; /* DIR: of its names; NULL while nothing is known */
	struct {                 /* ops_through.c; counts of handles */
		bool deciding;
		unsigned n_plain, n_through;
		int backing_id;
	} through;
	/* FILE: what sidecar.c keeps of one whose bytes the head holds, and for how many.  Apart from `state`: what was opened before it
	 * took the name zarr.json goes on with its partitions to its last close. */
	void *whole;
	unsigned n_whole;

	/* idle.c's, under its lock */
	enum { IDLE_NOT, IDLE_KEPT, IDLE_LEAVING } idle_state;
	TAILQ_ENTRY(node) idle_link;
};

enum handle_through { HANDLE_UNTOLD, HANDLE_DECIDING, HANDLE_PLAIN, HANDLE_THROUGH }; /* ops_through.c */

/* What open made; one per file descriptor description. */
struct handle {
	struct handle *next, **before; /* all open ones; mount.table_lock */
	struct node *node;             /* counted */
	const struct node_ops *ops;    /* of the node, unless open chose others (an inline file's) */
	int flags;                     /* of open */
	uint32_t uid;                  /* who opened it */
	_Atomic bool read_noted;       /* readtime.c has seen a read */
	bool direct_io, keep_cache;
	bool cached; /* counted in node.n_cached */
	enum handle_through through;
	char *buf; /* a computed result or a snapshot; the handle owns it */
	size_t buf_bytes;
	void *state;
	/* Requests that are over; each request looks at it first.  The kernel orders them, and this shows it to tools. */
	_Atomic unsigned uses;
};

int handle_new(struct mount *m, struct node *n, int flags, struct handle **ret);
void handle_free(struct mount *m, struct handle *h);  /* of an open that failed */
void handle_close(struct mount *m, struct handle *h); /* releases, then frees */
void handle_count_cached(struct handle *h);           /* once it is open, unless direct_io */
void handle_close_all(struct mount *m);               /* when the mount ends: no request is under way */

/* What a read gives: either bytes in memory or a piece of a file. */
struct read_out {
	char *buf; /* room for `size` bytes, the caller's */
	size_t len;
	int fd; /* >= 0: the bytes are at fd_offset of fd instead; the reader closes it when close_fd */
	uint64_t fd_offset;
	bool close_fd;
};

struct change {         /* a setattr */
	uint32_t valid; /* WIRE_SET_ */
	uint32_t mode, uid, gid;
	uint64_t size;
	uint64_t atime_ns, mtime_ns;
};

struct make {
	uint32_t mode, uid, gid, umask;
	uint64_t rdev;
	const char *target; /* of a symbolic link, or NULL */
	bool excl;
	bool open; /* who makes it opens it next */
};

/* Emits one directory entry; false: full, stop.  attr NULL: not known (plain readdir only). */
struct emit {
	bool (*fn)(void *arg, const char *name, uint64_t ino, uint32_t mode, const struct wire_attr *attr,
		   uint64_t next_cookie);
	void *arg;
	size_t room; /* bytes of the head's entries that fit, roughly: more would be asked for again with the next page */
};

/* Told when the request was interrupted: cancel what is in flight. */
struct cancel {
	pthread_mutex_t lock; /* guards fn and arg */
	_Atomic bool on;
	void (*fn)(void *arg);
	void *arg;
};
void cancel_init(struct cancel *c);
void cancel_fini(struct cancel *c);
void cancel_fire(struct cancel *c); /* any thread; calls fn once set, at most once */
void cancel_watch(struct cancel *c, void (*fn)(void *arg),
		  void *arg); /* fires at once when already on; fn NULL: no more */

struct node_ops {
	const char *name;
	bool slow_open; /* open on the pool */
	int (*getattr)(struct mount *m, struct node *n, struct stat *ret);
	int (*setattr)(struct mount *m, struct node *n, struct handle *h, const struct change *change);
	int (*lookup)(struct mount *m, struct node *dir, const char *name, struct node **ret); /* counted reference */
	int (*make)(struct mount *m, struct node *dir, const char *name, const struct make *what, struct node **ret);
	int (*unlink)(struct mount *m, struct node *dir, const char *name);
	int (*rmdir)(struct mount *m, struct node *dir, const char *name);
	int (*readdir)(struct mount *m, struct node *dir, struct handle *h, uint64_t cookie, const struct emit *emit);
	int (*open)(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel);
	int (*read)(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out);
	int (*write)(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset);
	/* Where a record goes that is appended, which the kernel knows by a size that may be old; missing: the kernel is right. */
	int (*append)(struct mount *m, struct handle *h, size_t size, uint64_t *ret);
	/* Under strict, after each write: returns when every mount sees it.  Missing: seen after close. */
	int (*publish)(struct mount *m, struct handle *h);
	/* fallocate(2) without those modes that move bytes. */
	int (*allocate)(struct mount *m, struct handle *h, int mode, uint64_t offset, uint64_t length);
	/* SEEK_DATA and SEEK_HOLE; missing: all is data. */
	int (*seek)(struct mount *m, struct handle *h, uint64_t offset, bool hole, uint64_t *ret);
	/* copy_file_range(2) between two nodes of this kind; missing: the kernel reads and writes. */
	int (*copy)(struct mount *m, struct handle *from, uint64_t from_offset, struct handle *to, uint64_t offset,
		    uint64_t length, uint64_t *ret);
	int (*flush)(struct mount *m, struct handle *h);
	int (*fsync)(struct mount *m, struct handle *h);
	void (*release)(struct mount *m, struct handle *h);
	/* When the node, which is open for reading only, is exactly one file on this machine: a descriptor (the caller closes it). */
	int (*whole_fd)(struct mount *m, struct node *n, int *ret_fd);
	void (*free)(struct node *n); /* of state, when the node goes */
};

extern const struct node_ops dir_ops, file_ops, sidecar_ops, other_ops, chunkdir_ops, chunk_ops, data_ops, npy_ops,
	computedir_ops, result_ops, controldir_ops, control_ops;

/* The node of what the head describes; made on first sight.  Takes what attr says as current unless seq (mount.inval_seq from
 * before the request) has moved on.  The reference is the caller's. */
int node_of_attr(struct mount *m, const struct wire_attr *attr, uint64_t seq, uint64_t parent_ino, const char *name,
		 struct node **ret);
/* A view of an array, or a control node (array_ino 0); made on first sight.  array may be NULL (a data.npy that is not yet one).
 * tag: tells nodes of one kind and array apart. */
int node_of_view(struct mount *m, enum node_kind kind, uint64_t array_ino, struct array *array, uint64_t tag,
		 const char *name, struct node **ret);
uint64_t view_ino(uint64_t array_ino, enum node_kind kind, uint64_t tag, const char *name);

struct node *node_ref(struct node *n);
void node_unref(struct mount *m, struct node *n);
struct node *node_find(struct mount *m, uint64_t ino); /* counted, or NULL */
void node_unref_many(struct mount *m, struct node *n, uint64_t count);

/* One at a time may open, flush or close a node; held across requests, unlike a lock. */
void node_busy_begin(struct node *n);
void node_busy_end(struct node *n);

/* The array of a view, which a data.npy that is being created gets later; not counted, NULL when there is none yet. */
struct array *node_array(struct node *n);
void node_set_array(struct mount *m, struct node *n, struct array *a); /* takes a reference */

/* attr as last known; asks the head when it may be out of date. */
int node_attr(struct mount *m, struct node *n, struct wire_attr *ret);
void node_set_attr(struct mount *m, struct node *n, const struct wire_attr *attr, uint64_t seq);
/* Its attributes are known, and this is the name that it was last seen under. */
bool node_is_current(struct mount *m, struct node *n, uint64_t parent_ino, const char *name);
void node_stat(const struct wire_attr *attr, struct stat *ret);
/* The attributes of a view: those of its array's directory, but for type, size and permissions (mode_mask of the directory's). */
void node_view_stat(const struct node *n, const struct wire_attr *dir, uint32_t type, uint32_t mode_mask, uint64_t size,
		    struct stat *ret);
/* Whether the pages that the kernel may hold are of this generation; from now on they are. */
bool node_keeps_cache(struct node *n, uint64_t generation);
/* Our own write made `generation` of the one before it: the pages are still right. */
void node_wrote_generation(struct node *n, uint64_t generation);
bool node_is_array(const struct wire_attr *attr);
void node_renamed(struct mount *m, struct node *n, uint64_t parent_ino, const char *name);
/* "/climate/temps/data", as far as is known; for messages.  */
void node_path(struct mount *m, const struct node *n, char *ret, size_t cap);

#endif
