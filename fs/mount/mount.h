/* mount.h - one mounted tree: what its parts share.
 *
 *   ops.c      FUSE's requests: each is decoded, handed to a node, answered exactly once
 *   ops_dir, ops_through  the same for directories, and for files that the kernel reads by itself
 *   ops_room.c  the same for fallocate, holes and copies
 *   session.c  the FUSE session: mount, loop, notifications (only ops*.c and this know FUSE)
 *   handle.c   what is open
 *   node.c     the table of nodes (inodes that the kernel knows)
 *   dir, file, sidecar, data, chunk, compute, control
 *              one file a kind of node, each a `const struct node_ops`
 *   entries.c  what is known of the names in a directory
 *   names.c    rename and link, which join two nodes of any kind
 *   refuse.c   why an array does not do what a directory would
 *   adopt.c    chunks that were written before their zarr.json
 *   array.c    arrays that are in use: document, layout, generation
 *   bytes.c    the partitions of one object: descriptors of the local ones, requests for the others, leases and seals
 *   idle.c     files that are closed here and still open at the head
 *   head.c     the requests for names; head_call.c sends them
 *   inval.c    what the head says has changed; the kernel's caches follow
 *   locks.c    locks that processes hold on files
 *   readtime.c atime
 *   errors.c   .slabfs/errors
 *   interrupt.c  whether who waits for a daemon wants to end
 *
 * Locks, in the order in which they are taken: mount.table_lock; node.lock; array.lock; bytes.lock; part.lock; errors.lock; locks.lock.  None is
 * held across a request to a peer or a notification of the kernel, but for part.lock, which orders one partition's writes and
 * seals and is never taken by the receiving side.
 */
#ifndef SLABFS_MOUNT_H
#define SLABFS_MOUNT_H

#include "base.h"
#include "cluster.h"
#include "map.h"
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>

struct node;

struct mount_options {
	const char *source, *mountpoint;
	char root_path[4096]; /* of HOST:PORT:/PATH; "/" otherwise */
	unsigned timeout_ms;
	bool show_views;
	bool passthrough; /* wanted */
	bool strict;
	bool noatime; /* or ro */
	bool foreground;
	bool debug;
};

struct mount {
	struct mount_options options;
	struct cluster *cluster;
	struct head_state *head; /* of head_call.c */
	struct pool *slow;       /* opens that compute or wait; never the threads that serve FUSE */
	struct pool *control;    /* opens of .slabfs/..., which must answer while all of `slow` compute */
	struct errors *errors;
	struct readtimes *readtimes;
	struct node *root;
	uid_t uid;
	gid_t gid;
	uint64_t started_ns; /* real time: the times of control files */

	pthread_mutex_t table_lock; /* guards the two maps, the handles, and a node's or array's last reference */
	struct map nodes;           /* st_ino -> struct node */
	struct handle *handles;     /* what is open */
	struct map arrays;          /* the directory's ino -> struct array */

	/* Raised when an invalidation arrives: what was asked before and answered after must not be cached. */
	_Atomic uint64_t inval_seq;
	struct inval *inval;
	/* Requests under way during which the kernel may keep pages from being dropped (inval_hold_begin). */
	_Atomic unsigned n_holding;
	struct locks *locks;
	struct idle *idle;

	_Atomic uint64_t head_lost_ns; /* monotonic; 0: the head answers, or never has */
	bool through;                  /* passthrough is on: set before the first request */
	_Atomic bool stopping;         /* unmounted: questions under compute/ are given up */

	_Atomic uint64_t n_reductions; /* questions under compute/ that the nodes were asked */
};

#endif
