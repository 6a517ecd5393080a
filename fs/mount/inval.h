/* inval.h - what has changed: the mount's caches are marked at once, the kernel's by threads of their own, then the head is answered.
 *
 * Notifying the kernel may wait for pages that a request of ours is about to fill, so it is never done on a thread that serves FUSE or receives
 * replies.  A change of data is acknowledged after the kernel has dropped its pages; a change of a directory entry at once, because
 * the kernel's directory lock may be held by an operation that waits for the head.
 *
 * For the same reason no page is waited for while one of our own requests may hold it: a truncation, and under strict a write, keeps
 * pages locked until the head has told the other mounts, which may hold pages as well and wait for us.  While such a
 * request is under way (inval_hold_begin to _end) pushes are answered once the kernel has forgotten the attributes, and the pages
 * are dropped as soon as they can be.
 */
#ifndef SLABFS_INVAL_H
#define SLABFS_INVAL_H

#include "base.h"
#include "mount.h"
#include "node.h"
#include "wire.h"

struct inval;

/* How the kernel is told; ops.c provides them.  Thread-safe; may block. */
struct inval_kernel {
	void (*node)(void *arg, struct node *n, bool data);
	void (*entry)(void *arg, struct node *dir, const char *name);
	void *arg;
};

int inval_new(struct mount *m, struct inval **ret);
int inval_start(struct inval *v, const struct inval_kernel *kernel);
/* Joins its threads; what is queued, or comes later, is dropped.  The clients that call inval_push may go on until inval_free. */
void inval_stop(struct inval *v);
void inval_free(struct inval *v);

/* A push of the head (client.h's push callback). */
void inval_push(struct mount *m, uint64_t id, const struct wire_inval *body, const char *name, size_t name_bytes);
/* The head was lost: nothing that is cached can be trusted. */
void inval_all(struct mount *m);
/* The head is back: what is open here is to be open there again.  Done by a thread of inval's. */
void inval_reopen(struct mount *m);
/* This mount changed an array through `but` (may be NULL): its other views' pages are old.  Waits at most a second for the kernel. */
void inval_siblings(struct mount *m, uint64_t array_ino, const struct node *but);
/* Under strict, and between inval_hold_begin and _end: this mount wrote to the inode or array through `but`, whose own pages are right
 * (NULL: past all pages).  Waits as above, but for nobody while another request holds pages. */
void inval_published(struct mount *m, uint64_t ino, const struct node *but);
void inval_hold_begin(struct mount *m);
void inval_hold_end(struct mount *m);
/* Returns when the kernel was told of all that came before, or after a second. */
void inval_drain(struct mount *m);
/* This mount wrote elsewhere in the node than the kernel thinks: it is told, in a while. */
void inval_moved(struct mount *m, struct node *n);
/* This mount replaced what `name` in the directory is: the kernel's entry is old.  Does not wait: the kernel may hold the directory's lock. */
void inval_entry(struct mount *m, struct node *dir, const char *name);

#endif
