/* ops.h - the mount as FUSE sees it. */
#ifndef SLABFS_OPS_H
#define SLABFS_OPS_H

#include "base.h"
#include "mount.h"

/* The -o options that FUSE itself takes (allow_other, ro, ...), comma-separated and without those of slabfs; may be empty. */
int ops_mount(struct mount *m, const char *fuse_options, struct reason *why);
/* Serves until the tree is unmounted or a signal ends it; `ready` is called once the kernel has answered the mount. */
int ops_serve(struct mount *m, void (*ready)(void *arg), void *arg);
void ops_unmount(struct mount *m);
const char *ops_fuse_version(void);

#endif
