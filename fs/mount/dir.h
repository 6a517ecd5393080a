/* dir.h - what other kinds of nodes need to know of the head's directories. */
#ifndef SLABFS_DIR_H
#define SLABFS_DIR_H

#include "base.h"
#include "mount.h"
#include "node.h"

/* Whether `name` is a view (data, data.npy, compute) of the array that the directory's attributes describe. */
bool dir_view_exists(const struct wire_attr *dir, const char *name);
/* Whether `name` there is .slabfs. */
bool dir_is_control(const struct mount *m, const struct node *dir, const char *name);
int dir_begins_array(struct mount *m, struct node *dir, const struct wire_attr *now, const char *name, bool *ret);
void dir_changed(struct mount *m, struct node *dir);
void node_removed(struct mount *m, const struct wire_attr *now);

#endif
