/* refuse.h - the reason for what a file system would do and an array does not: one line in .slabfs/errors. */
#ifndef SLABFS_REFUSE_H
#define SLABFS_REFUSE_H

#include "mount.h"
#include "node.h"

/* err, which came of making, moving or removing `name` in dir.  EPERM and EXDEV of what an array shows get their reason. */
int refuse_change(struct mount *m, struct node *n); /* of attributes that are not the node's own: -EPERM */
int refuse_name(struct mount *m, struct node *dir, const char *name, int err);

#endif
