/* wire.h - the protocol between mounts, nodes and the head: every message, its layout and its limits.
 *
 * A frame is a fixed header, a body of exactly the size that the message's row in the table says, and a payload of raw bytes (names,
 * documents, file data).  All integers are little-endian.  docs/protocol.md is normative and changes with this file.
 *
 *   request    id chosen by the sender, unique among its requests in flight on the connection
 *   reply      the same type and id, WIRE_REPLY set; status 0, or a positive Linux errno; then the body is empty and the
 *              payload is one line of text for a person (at most WIRE_REASON_MAX bytes)
 *   push       the head sends WIRE_INVAL as a request on a mount's connection; the mount replies when its caches are clean
 *   cancel     WIRE_CANCEL names a request in flight by id; it has no reply of its own: the request is answered, with
 *              ECANCELED unless it was done already
 *
 * The first request on a connection is WIRE_HELLO (on TCP after the key exchange of auth.h).  A malformed frame ends the connection.
 */
#ifndef SLAB_WIRE_H
#define SLAB_WIRE_H

#include "base.h"

#define WIRE_MAGIC 0x31424c53u /* "SLB1" */
#define WIRE_VERSION 1
#define WIRE_BODY_MAX 512
#define WIRE_REASON_MAX 320
#define WIRE_DATA_MAX (8u << 20) /* payload of one READ or WRITE */
#define WIRE_TEXT_MAX (2u << 20) /* documents, listings, reduction states */
#define WIRE_REPLY 1u            /* header flag */

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_PING,
	WIRE_CANCEL,
	WIRE_STATUS,

	WIRE_JOIN = 16, /* the cluster: head only */
	WIRE_REGISTER,
	WIRE_BEAT,
	WIRE_LEAVE,
	WIRE_NODES,

	WIRE_LOOKUP = 32, /* names: head only */
	WIRE_GETATTR,
	WIRE_SETATTR,
	WIRE_MAKE,
	WIRE_LINK,
	WIRE_UNLINK,
	WIRE_RMDIR,
	WIRE_RENAME,
	WIRE_READLINK,
	WIRE_READDIR,
	WIRE_GETXATTR,
	WIRE_SETXATTR,
	WIRE_LISTXATTR,
	WIRE_REMOVEXATTR,
	WIRE_STATFS,
	WIRE_OPEN,
	WIRE_CLOSE,
	WIRE_COMMIT,
	WIRE_METASYNC,
	WIRE_FORGET,
	WIRE_INVAL,
	WIRE_INLINE_READ,
	WIRE_INLINE_WRITE,
	WIRE_DEFINE,
	WIRE_RESIZE,
	WIRE_CHUNKDIR,
	WIRE_LOCK,
	WIRE_APPEND,

	WIRE_OBJECT_PATHS = 60, /* checking: head only */
	WIRE_RESTORE,
	WIRE_CHECK_NAMES,
	WIRE_RAISE_IDS,

	WIRE_READ_TIMES = 64, /* names: head only */

	WIRE_PART_OPEN = 80, /* bytes: every node */
	WIRE_PART_READ,
	WIRE_PART_WRITE,
	WIRE_PART_SEAL,
	WIRE_PART_TRUNCATE,
	WIRE_PART_DROP,
	WIRE_PART_LIST,
	WIRE_PART_ADOPT,
	WIRE_PART_SYNC,
	WIRE_REDUCE,
	WIRE_PART_ALLOCATE,
	WIRE_PART_SEEK,
	WIRE_PART_COPY,
	WIRE_DESCRIBE = 93,
	WIRE_SCRUB,
	WIRE_OBJECTS,
	WIRE_TYPE_END
};

struct wire_header {
	struct le32 magic;
	struct le16 version;
	struct le16 type;
	struct le64 id;
	struct le32 status;
	struct le32 flags;
	struct le32 body_bytes;
	struct le32 reserved;
	struct le64 payload_bytes;
	struct le64 once; /* requests that change names, see wire_once; else 0 */
} __attribute__((packed));
_Static_assert(sizeof(struct wire_header) == 48, "frame header");

/* Exactly once: a request with `once` may be sent again, to the same daemon or to one that was started in its place, until it is answered.  It is
 * done once; a repetition is given the first one's answer.  A session has one request in flight at most in each slot, and its sequence numbers rise. */
#define WIRE_ONCE_SLOTS 256u
#define WIRE_ONCE_SECONDS 600 /* a session without a connection is remembered for so long; repetitions end before */
static inline uint64_t wire_once(uint64_t sequence, unsigned slot)
{
	return sequence << 8 | slot;
}
static inline unsigned wire_once_slot(uint64_t once)
{
	return (unsigned)(once % WIRE_ONCE_SLOTS);
}

/* ---- every connection ---- */

enum wire_role { WIRE_ROLE_MOUNT = 1, WIRE_ROLE_NODE, WIRE_ROLE_CTL, WIRE_ROLE_MKFS };

/* session: random, the same on all connections of one mount; what a session holds open is released when its last connection
 * closes.  cluster: all zero means "whichever this is" (mkfs, ctl, a mount by HOST:PORT). */
struct wire_hello {
	struct uuid cluster;
	struct uuid session;
	struct le32 role;
	struct le32 node_id; /* of the sender, when it is a node, or a mount on a node's machine; else 0 */
} __attribute__((packed));   /* payload: a name for the log, e.g. "mount host:/mnt/slab pid 12" */
struct wire_hello_reply {
	struct uuid cluster;
	struct uuid node;
	struct le32 node_id;
	struct le32 is_head;
	struct uuid incarnation; /* random at each start of the daemon: tells a mount that its leases are gone */
	struct le64
		storage; /* the same while the machine's page cache and the store's file system live: nothing that was acknowledged is lost */
} __attribute__((packed));

struct wire_cancel {
	struct le64 id;
} __attribute__((packed));

/* WIRE_PING: no body.  WIRE_STATUS: no body; the reply's payload is JSON. */

/* ---- the cluster ---- */

struct wire_join {
	struct uuid node;
} __attribute__((packed)); /* payload: listen address HOST:PORT */
struct wire_join_reply {
	struct uuid cluster;
	struct le32 node_id;
} __attribute__((packed));

struct wire_beat { /* BEAT */
	struct uuid node;
	struct le32 node_id;
	struct le32 reserved;
	struct le64 bytes_total, bytes_free; /* of the store's file system */
	struct le64 files_total, files_free;
	struct le64 partitions; /* partition files in the store; all ones: not counted yet */
} __attribute__((packed));

enum { WIRE_REGISTER_ANYWAY = 1 }; /* the administrator wants this copy of the store taken as it is */
struct wire_register { /* -ESTALE: the head does not know any of `known`: the store is an older copy of itself */
	struct wire_beat beat;
	struct uuid run; /* of this start of the node */
	struct le32 n_known;
	struct le32 flags;
} __attribute__((
	packed)); /* payload: n_known x uuid of earlier starts, then the address at which others reach the node */
#define WIRE_KNOWN_MAX 65

struct wire_leave {
	struct le32 node_id;
} __attribute__((packed));

enum wire_node_state { WIRE_NODE_UP = 1, WIRE_NODE_DOWN, WIRE_NODE_LEFT };
struct wire_node { /* WIRE_NODES: no body; the reply's payload is an array of these, by node id */
	struct uuid node;
	struct le32 node_id;
	struct le32 state;
	struct le32 is_head;
	struct le32 beat_age_ms;
	struct le64 bytes_total, bytes_free, files_total, files_free, partitions;
	char address[64 + 256]; /* NUL-terminated HOST:PORT */
} __attribute__((packed));

/* ---- names ---- */

enum {
	WIRE_ATTR_INLINE = 1,    /* a regular file whose bytes the head holds (zarr.json and its temporaries) */
	WIRE_ATTR_ARRAY = 2,     /* a directory with an array record */
	WIRE_ATTR_SIDECAR = 4,   /* ... whose zarr.json exists */
	WIRE_ATTR_CHUNKDIR = 8,  /* ... whose c/ exists */
	WIRE_ATTR_XATTRS = 16,   /* it has extended attributes */
	WIRE_ATTR_SECURITY = 32, /* ... security.* */
	WIRE_ATTR_ACL = 64       /* ... access control lists: system.posix_acl_* */
};

struct wire_attr {
	struct le64 ino;
	struct le64 generation;
	struct le64 size;                         /* of a regular file or link target; 0 for others */
	struct le64 atime_ns, mtime_ns, ctime_ns; /* since the epoch, two's complement */
	struct le64 rdev;
	struct le32 mode, uid, gid, nlink;
	struct le32 flags; /* WIRE_ATTR_ */
	struct le32 reserved;
} __attribute__((packed));

struct wire_ino { /* GETATTR, READLINK, LISTXATTR, CLOSE, INLINE_READ */
	struct le64 ino;
} __attribute__((packed));

struct wire_lookup { /* LOOKUP; payload: the name.  Reply: wire_attr */
	struct le64 parent;
} __attribute__((packed));

enum { /* wire_setattr.valid */
       WIRE_SET_MODE = 1,
       WIRE_SET_UID = 2,
       WIRE_SET_GID = 4,
       WIRE_SET_SIZE = 8,
       WIRE_SET_ATIME = 16,
       WIRE_SET_MTIME = 32,
       WIRE_SET_ATIME_NOW = 64,
       WIRE_SET_MTIME_NOW = 128
};
struct wire_setattr { /* reply: wire_attr.  A size raises the generation; the mount has cut the partitions before */
	struct le64 ino;
	struct le32 valid;
	struct le32 mode, uid, gid;
	struct le64 size;
	struct le64 atime_ns, mtime_ns;
} __attribute__((packed));

enum { WIRE_MAKE_EXCL = 1, WIRE_MAKE_OPEN = 2 /* and OPEN it, if it is a regular file that is not inline */ };
struct wire_make { /* MAKE: file, directory, fifo, socket, device or (target_bytes > 0) symbolic link.  Reply: wire_made */
	struct le64 parent;
	struct le32 mode; /* type and permissions */
	struct le32 uid, gid;
	struct le32 flags;
	struct le64 rdev;
	struct le32 near_node;  /* place the file's first partition there if that node is up; 0: anywhere */
	struct le32 name_bytes; /* payload: the name, then the link's target */
	struct le32 target_bytes;
	struct le32 umask; /* applies unless the directory has a default access control list */
} __attribute__((packed)); /* -EEXIST when the name exists (without EXCL: an existing regular file's wire_attr) */

struct wire_link { /* payload: the name.  Reply: wire_attr of the inode */
	struct le64 ino;
	struct le64 parent;
} __attribute__((packed));

struct wire_unlink { /* UNLINK, RMDIR; payload: the name */
	struct le64 parent;
	struct le64 closes; /* an inode that this CLOSEs too; 0: none */
} __attribute__((packed));
struct wire_removed {
	struct wire_attr attr; /* as it was, nlink as it is now */
	struct wire_attr dir;  /* as it is now */
} __attribute__((packed));

struct wire_rename { /* flags: RENAME_NOREPLACE, RENAME_EXCHANGE of Linux.  payload: both names.  Reply: wire_attr of the moved */
	struct le64 parent;
	struct le64 new_parent;
	struct le32 flags;
	struct le32 name_bytes;
} __attribute__((packed));

struct wire_readdir { /* cookie: 0 first, then that of the last entry seen.  Entries in cookie order; no "." and ".." */
	struct le64 ino;
	struct le64 cookie;
	struct le32 max_bytes; /* of the reply's payload: wire_dirent, name, no padding, ... empty: the end */
	struct le32 reserved;
} __attribute__((packed));
struct wire_dirent {
	struct wire_attr attr;
	struct le64 cookie;
	struct le32 name_bytes;
	struct le32 reserved;
} __attribute__((packed));

struct wire_xattr { /* GETXATTR, REMOVEXATTR: payload name.  SETXATTR: payload name and value, flags XATTR_CREATE|REPLACE.
		     * The changing ones reply wire_attr */
	struct le64 ino;
	struct le32 name_bytes;
	struct le32 flags;
} __attribute__((packed)); /* GETXATTR's reply payload: the value.  LISTXATTR's: names, each with its NUL */
#define WIRE_XATTR_MAX 65536

struct wire_statfs { /* reply of STATFS (no body): sums over the nodes that are up */
	struct le64 bytes_total, bytes_free, files_total, files_free;
} __attribute__((packed));

/* How the bytes of a regular file or of an array are laid out.  replica k of partition i lives on nodes[(i + k) mod n]. */
struct wire_layout {
	struct le64 object;          /* names the partition files in the stores */
	struct le64 partition_bytes; /* of a regular file: its cut; of an array: the chunk's size */
	struct le32 epoch;           /* placement epoch: goes into every PART_ request */
	struct le32 replicas;
	struct le32 n_nodes;
	struct le32 npy_bytes;
	struct le32 doc_bytes;
	struct le32 reserved;
} __attribute__((packed));

/* Reply of MAKE.  layout: with WIRE_MAKE_OPEN, of what was opened; else zeros.  payload: its n_nodes x le32 node ids.  The answer to a request that is repeated has no
 * payload, and says nothing of what is open. */
struct wire_made {
	struct wire_attr attr, dir; /* dir: the directory as it is now */
	struct wire_layout layout;
} __attribute__((packed));

enum { WIRE_OPEN_AGAIN = 1 };
struct wire_open { /* OPEN: counts as held open by the session until CLOSE.  Regular files and array directories */
	struct le64 ino;
	struct le32
		flags; /* AGAIN: the session has it open, and tells a head that may not know: also when it has no name any more */
	struct le32 reserved;
} __attribute__((packed));
struct wire_open_reply {
	struct wire_attr attr;
	struct wire_layout layout;
} __attribute__((packed)); /* payload: n_nodes x le32 node ids, the kept npy header, the zarr.json document */

struct wire_commit { /* a writer's changes are sealed: raise the generation, set mtime, grow the size to at least `size` */
	struct le64 ino; /* a regular file, or an array's directory (size is ignored) */
	struct le64 size;
	struct le64 mtime_ns; /* 0: now */
} __attribute__((
	packed)); /* reply: wire_attr.  Other mounts have dropped their caches (or were given up) before it is sent */

struct wire_append { /* makes a regular file longer by `length`, for a record that the mount is about to write at the new end */
	struct le64 ino;
	struct le64 length;
} __attribute__((packed)); /* reply: wire_attr: the record's place is [size - length, size), and nobody else's */

/* METASYNC: no body.  Everything acknowledged before is durable when it replies. */

struct wire_read_time { /* READ_TIMES: no body, payload n x this.  Counts if nothing has changed since: the inode's ctime is still this */
	struct le64 ino;
	struct le64 atime_ns;
	struct le64 ctime_ns;
} __attribute__((packed));

/* The mount no longer caches these: payload n x le64 ino.  Reply: empty.  What a request with a higher id than `before` has told it stays: it was
 * on its way, and the mount has taken note of it. */
struct wire_forget {
	struct le32 count;
	struct le32 reserved;
	struct le64 before; /* ids of a mount's requests for names rise */
} __attribute__((packed));

enum {
	WIRE_INVAL_ATTR = 1,
	WIRE_INVAL_DATA = 2,
	WIRE_INVAL_ENTRY = 4,
	WIRE_INVAL_LAYOUT = 8,
	WIRE_INVAL_LOCK = 16 /* alone: a lock that you wait for may be free now; nobody waits for the answer */
};
struct wire_inval { /* head to mount.  ENTRY: payload is the name in the directory `ino` */
	struct le64 ino;
	struct le64 generation;
	struct le32 flags;
	struct le32 reserved;
} __attribute__((packed));

/* INLINE_READ: reply payload: the bytes.  */
struct wire_inline_write { /* payload: the whole new content.  Reply: wire_attr of the file.  When the file is linked as zarr.json
			    * its directory is judged anew: a bad document gives EINVAL and changes nothing */
	struct le64 ino;
} __attribute__((packed)); /* converts a partitioned file to an inline one */

struct wire_define { /* makes `dir` the array that the document describes, and its zarr.json; payload: npy header, document.
		      * What an array held before is dropped: its content is replaced.  Reply: wire_attr of dir */
	struct le64 dir;
	struct le32 npy_bytes;
	struct le32 doc_bytes;
	struct le32 uid, gid; /* of a new zarr.json */
	struct le32 near_node;
	struct le32 reserved;
} __attribute__((packed));

struct wire_resize { /* shape[0] = rows.  Reply: wire_attr of dir */
	struct le64 dir;
	struct le64 rows;
	struct le32 grow_only; /* 1: never shrinks: the larger of now and rows wins (concurrent appenders) */
	struct le32 reserved;
} __attribute__((packed));

struct wire_chunkdir { /* rmdir (make = 0) or mkdir (1) of an array's c/; the mount has seen it empty.  Reply: wire_attr of dir */
	struct le64 dir;
	struct le32 make;
	struct le32 reserved;
} __attribute__((packed));

enum { WIRE_LOCK_READ = 1, WIRE_LOCK_WRITE, WIRE_LOCK_NONE };
enum { WIRE_LOCK_POSIX = 1, WIRE_LOCK_FLOCK };
enum {                     /* wire_lock.flags, one of them at most */
       WIRE_LOCK_TEST = 1, /* what is in the way is replied; a type of NONE: nothing */
       WIRE_LOCK_WAIT =
	       2, /* a conflict makes `wait` a waiter of the inode until it is forgotten, granted or not renewed */
       WIRE_LOCK_FORGET = 4, /* `wait` waits no longer */
       WIRE_LOCK_RENEW = 8,  /* only asks whether `tenure` still stands */
       WIRE_LOCK_END = 16    /* all locks and waits of the session go: it is being unmounted */
};
struct wire_lock { /* locks or (NONE) unlocks a range.  -EAGAIN: a conflict; -EDEADLK; -ESTALE: the session's locks are lost */
	struct le64 ino;
	struct le64 owner;      /* the session's name for who locks */
	struct le64 start, end; /* inclusive; to the end of all files: INT64_MAX */
	struct le64 tenure;     /* of the session's locks, as last replied; 0: it has none */
	struct le64 place;      /* where `pid` means something: a machine's run and a pid namespace */
	struct le64 wait;       /* WAIT, FORGET: the session's number for this wait */
	struct le32 type, kind;
	struct le32 pid;
	struct le32 flags;
} __attribute__((packed));
struct wire_lock_reply {
	struct le64 tenure; /* never the same again once the session's locks were lost */
	struct le64 start, end;
	struct le64 place;
	struct le32 type, kind;
	struct le32 pid;
	struct le32 reserved;
} __attribute__((packed));

/* ---- bytes ---- */

#define WIRE_EPOCH 1 /* the one placement epoch that there is while partitions do not move between nodes */
struct wire_part {   /* which partition; opens every PART_ body */
	struct le64 object;
	struct le64 index;
	struct le32 epoch;
	struct le32 flags;
} __attribute__((packed));

/* What a partition is made of when it is first written.  bytes 0: a regular file's, which grows as it is written.  Else
 * the file is allocated at `bytes` and filled with the fill_bytes-long pattern (fill_bytes 0: zeros). */
struct wire_alloc {
	struct le64 bytes;
	struct le32 fill_bytes;
	struct le32 reserved;
	uint8_t fill[16];
} __attribute__((packed));

enum { WIRE_PART_FOR_WRITE = 1 };
struct wire_part_open {        /* unix only; the reply carries a descriptor.  Reading a missing partition: ENOENT */
	struct wire_part part; /* flags: WIRE_PART_FOR_WRITE: a lease, ended by PART_SEAL */
	struct wire_alloc alloc;
} __attribute__((packed));
struct wire_part_open_reply {
	struct le64 file_bytes;
	struct le64 version; /* of its last seal */
} __attribute__((packed));

struct wire_part_read {
	struct wire_part part;
	struct le64 offset;
	struct le32 length; /* <= WIRE_DATA_MAX; the payload is shorter at the end of the file */
	struct le32 reserved;
} __attribute__((packed));
enum { WIRE_READ_HOLE = 1 };
struct wire_part_read_reply {
	struct le32 flags; /* HOLE: no such partition, no payload: all fill */
	struct le32 reserved;
} __attribute__((packed));

struct wire_part_write { /* payload: the bytes.  Reply: empty.  The session holds a write lease until it seals */
	struct wire_part part;
	struct wire_alloc alloc;
	struct le64 offset;
} __attribute__((packed));

enum { WIRE_SEAL_DURABLE = 1 };
struct wire_part_seal { /* ends the session's write lease; payload: n x wire_range written through a descriptor. */
	struct wire_part part; /* flags: WIRE_SEAL_DURABLE: data and sums are on the disk when it replies */
	struct le32 n_ranges;
	struct le32 reserved;
} __attribute__((packed));
struct wire_range {
	struct le64 offset, length;
} __attribute__((packed));
#define WIRE_RANGES_MAX 4096
struct wire_part_seal_reply {
	struct le64 version;
} __attribute__((packed));

struct wire_part_truncate { /* lengthens with zeros, or cuts; seals.  A missing partition stays missing */
	struct wire_part part;
	struct le64 length;
} __attribute__((packed));

struct wire_part_drop { /* removes partitions index .. index + count - 1 (count all ones: to the end) of the object */
	/* payload, with DROP_OBJECT: le64 each, other objects that are dead too; when it fails, some are dropped */
	struct wire_part part;
	struct le64 count;
} __attribute__((packed)); /* flags: WIRE_DROP_OBJECT: the object is dead; later requests for it get ESTALE */
enum { WIRE_DROP_OBJECT = 1 };
#define WIRE_DROP_MAX 4096 /* objects beside the first */

struct wire_part_list { /* partitions that exist here, index and up, in order; reply payload: array of wire_part_info */
	struct wire_part part;
	struct le32 max; /* entries */
	struct le32 reserved;
} __attribute__((packed));
struct wire_part_info {
	struct le64 index;
	struct le64 file_bytes;
	struct le64 blocks; /* of 512 bytes, on the disk */
	struct le64 mtime_ns;
	struct le64 version;
} __attribute__((packed));

enum {
	WIRE_ADOPT_LINK = 1,
	WIRE_ADOPT_AGAIN = 2, /* the answer to an earlier one was lost: `from` that is gone has become `to` then */
};
struct wire_part_adopt { /* a file's only partition becomes (flags 0: is moved to; LINK: is copied to) another; atomic replace */
	struct wire_part from;
	struct wire_part to;
	struct le64 expect_bytes; /* the size it must have, else EINVAL */
} __attribute__((packed));

/* PART_SYNC: body wire_part (index ignored): every partition of the object here is durable when it replies. */

/* What a range of a partition is to be.  RESERVE: there is room for it on the disk (a missing partition is made).  ZERO: the same, and it reads as
 * zeros.  PUNCH: it reads as zeros and its room is given back.  The file's length stays: what is beyond reads as zeros. */
enum { WIRE_ALLOCATE_RESERVE = 1, WIRE_ALLOCATE_ZERO, WIRE_ALLOCATE_PUNCH };
struct wire_part_allocate { /* of regular files.  Reply: empty; sealed */
	struct wire_part part;
	struct le64 offset, length;
	struct le32 mode;
	struct le32 reserved;
} __attribute__((packed));

struct wire_part_seek { /* where the next data (hole 0) or hole (1) at or after `offset` is */
	struct wire_part part;
	struct le64 offset;
	struct le32 hole;
	struct le32 reserved;
} __attribute__((packed));
struct wire_part_seek_reply {
	struct le64
		offset; /* data: all ones: there is none.  A missing partition and what is beyond a file's end are holes */
} __attribute__((packed));

struct wire_part_copy { /* of regular files, both on this node: `length` bytes, as they read.  Reply: empty; sealed */
	struct wire_part from, to;
	struct le64 from_offset, to_offset;
	struct le64 length;
} __attribute__((packed));

struct wire_reduce { /* partitions first, first + stride, ... of the array.  Reply payload: the state (reduce_encode) */
	struct wire_part part; /* index ignored */
	struct le64 first, stride;
	struct le32 question_bytes; /* payload: the canonical question, the zarr.json document */
	struct le32 doc_bytes;
} __attribute__((packed));
struct wire_reduce_reply {
	struct le64 bytes_read;
	struct le64 partitions;
} __attribute__((packed));

#include "wire_check.h"

/* ---- the table ---- */

struct wire_row {
	const char *name;
	uint32_t request_body, reply_body; /* bytes, exact */
	uint32_t request_payload_max, reply_payload_max;
};
const struct wire_row *wire_row(unsigned type); /* NULL: no such message */
bool wire_takes_once(unsigned type);            /* its requests may carry `once` */

/* Decodes and checks a header: magic, version, type, reserved fields, body and payload lengths against the row (an error reply: no body,
 * payload <= WIRE_REASON_MAX).  0, -EPROTO (the connection must end), or -EPROTONOSUPPORT (another version). */
int wire_check(const struct wire_header *h, struct reason *why);
void wire_request(struct wire_header *ret, unsigned type, uint64_t id, uint32_t body_bytes, uint64_t payload_bytes);
void wire_reply(struct wire_header *ret, unsigned type, uint64_t id, int err, uint32_t body_bytes,
		uint64_t payload_bytes);

/* A name of one path component: 1..255 bytes, no '/', no NUL, not "." or "..".  -EINVAL / -ENAMETOOLONG. */
int wire_check_name(const char *name, size_t len);

/* A bounded cursor over a received payload. */
struct cursor {
	const uint8_t *at;
	size_t left;
};
const void *cursor_take(struct cursor *c, size_t len); /* NULL when fewer are left */

#endif
