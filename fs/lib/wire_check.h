/* wire_check.h - the messages of scrubs, of checks, and of what makes a head anew.  A part of wire.h, which includes it. */
#ifndef SLAB_WIRE_CHECK_H
#define SLAB_WIRE_CHECK_H

#include "base.h"

/* What an object is part of, so that a head can be made anew from the stores.  The head sends it to each node of the object's layout whenever it
 * changes; the node keeps it as it is, body and payload. */
struct wire_describe {
	struct le64 object, ino;
	struct le64 stamp; /* rises with each description that the head sends: the greatest is the newest */
	struct le64 generation, size, partition_bytes;
	struct le64 mtime_ns, ctime_ns;
	struct le32 mode, uid, gid;
	struct le32 flags; /* WIRE_ATTR_ */
	struct le32 epoch;
	struct le32
		n_nodes; /* payload: n_nodes x le32 node ids, the path, npy header, zarr.json, extended attributes */
	struct le32 path_bytes;
	struct le32 npy_bytes;
	struct le32 doc_bytes;
	struct le32 xattrs_bytes; /* each: le32 bytes of the name, le32 of the value, name, value */
} __attribute__((packed));
#define WIRE_DESCRIPTION_MAX (WIRE_TEXT_MAX - 4096) /* body and payload */
/* The bytes of body and payload, as the body has them; 0: more than are allowed, or no sense in it. */
size_t wire_description_bytes(const struct wire_describe *d);

struct wire_objects { /* the objects that are listed or described here, in order of their numbers */
	struct le64 after;
	struct le32 max; /* objects in the reply; it holds at least one when there are any */
	struct le32
		reserved; /* reply payload: for each wire_object, the description, the numbers of damaged partitions */
} __attribute__((packed));
struct wire_object {
	struct le64 object, partitions, bytes;
	struct le64 quarantined;
	struct le32 describe_bytes; /* 0: not described */
	struct le32 n_bad;          /* x le64 index; at most WIRE_OBJECT_BAD_MAX of the quarantined */
} __attribute__((packed));
#define WIRE_OBJECT_BAD_MAX 64

enum { WIRE_RESTORE_IN_PLACE = 1 };
struct wire_restore {      /* payload: a description.  The head gives the object a name.  Reply payload: its path */
	struct le32 flags; /* IN_PLACE: the one that it had, if that is free; else in /lost+found */
	struct le32 reserved;
} __attribute__((packed));

enum { WIRE_CHECK_REPAIR = 1 };
struct wire_check_names { /* the head's tables.  Reply payload: lines of text, one a finding */
	struct le32 flags;
	struct le32 reserved;
} __attribute__((packed));

enum { WIRE_IDS_REBUILT = 1 };
struct wire_raise_ids { /* no number up to `last` is given again; REBUILT: the tables are complete, strangers are strangers again */
	struct le64 last;
	struct le32 flags;
	struct le32 reserved;
} __attribute__((packed));

enum { WIRE_OBJECT_UNKNOWN = 0, WIRE_OBJECT_NAMED, WIRE_OBJECT_DROPPED };
enum { WIRE_PATHS_STATES = 1 };
struct wire_object_paths {
	struct le32 flags; /* STATES: without the paths, of as many as the payload holds */
	struct le32 reserved;
} __attribute__((packed));
struct wire_object_path { /* OBJECT_PATHS: payload n x le64 object.  Reply payload: for each of these the record, and its path */
	struct le64 object;
	struct le64 ino;   /* NAMED: of the file or the array's directory */
	struct le32 state; /* UNKNOWN: nothing names it; DROPPED: nothing does any more, and its nodes have been told */
	struct le32 path_bytes; /* 0: not NAMED, or without a name because it was removed while open */
} __attribute__((packed));
#define WIRE_OBJECTS_MAX 1024 /* with their paths */
#define WIRE_STATES_MAX 65536

enum { WIRE_SCRUB_STATUS = 0, WIRE_SCRUB_START, WIRE_SCRUB_STOP };
struct wire_scrub { /* reply payload: how far it is, as JSON */
	struct le32 action;
	struct le32 reserved;
	struct le64 rate; /* START: bytes a second */
} __attribute__((packed));

#endif
