/* idle.h - files that nobody has open here any more and that the head still counts as open, so that opening one again asks nobody.
 *
 * The head tells who has a file open of each change, so what is known of an idle one is as good as of an open one.  Given back: the
 * longest unused when there are too many; all that the head pushes a change of, so that nobody's removal waits for us; all that this
 * mount removes.  A thread of its own does it, for CLOSE takes its time.
 *
 * A node that is idle is counted by the list.  Thread-safe; its lock is the last that is taken.
 */
#ifndef SLABFS_IDLE_H
#define SLABFS_IDLE_H

#include "base.h"
#include "mount.h"
#include "node.h"

struct idle;

int idle_new(struct mount *m, struct idle **ret); /* starts its thread */
void idle_stop(struct idle *l);                   /* joins it */
void idle_free(struct mount *m,
	       struct idle *l); /* what is left is unloaded, and the head not told: it hears that the mount ends */

/* The kernel has forgotten an inode that the head holds: the head is told, of many at a time. */
void idle_forgotten(struct idle *l, uint64_t ino);
void idle_put(struct idle *l, struct node *n);        /* n is busy, and nobody has it open */
void idle_take(struct mount *m, struct node *n);      /* n is busy, and is opened or unloaded by the caller */
void idle_give_back(struct mount *m, struct node *n); /* if it is idle */

#endif
