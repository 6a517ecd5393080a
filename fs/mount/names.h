/* names.h - rename and link, which join two directories of any kind. */
#ifndef SLABFS_NAMES_H
#define SLABFS_NAMES_H

#include "base.h"
#include "mount.h"
#include "node.h"

/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE.  Moves that slabfs cannot do at once give EXDEV, so that mv copies. */
int names_rename(struct mount *m, struct node *dir, const char *name, struct node *new_dir, const char *new_name,
		 unsigned flags);
int names_link(struct mount *m, struct node *n, struct node *dir, const char *name, struct node **ret);

#endif
