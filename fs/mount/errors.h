/* errors.h - the last failures of a mount, one line each, as .slabfs/errors shows them and the log keeps them.  Thread-safe. */
#ifndef SLABFS_ERRORS_H
#define SLABFS_ERRORS_H

#include "base.h"

#define ERRORS_KEPT 200

struct errors;
struct mount;
struct node;

int errors_new(struct errors **ret);
void errors_free(struct errors *e);
/* Adds "TIME ERRNONAME PATH: reason" and logs it as a warning; returns -err.  node may be NULL (then no path). */
int errors_add(struct mount *m, const struct node *node, int err, const struct reason *why);
char *errors_text(struct errors *e, size_t *ret_len); /* oldest first; malloc'ed */
uint64_t errors_count(struct errors *e);

#endif
