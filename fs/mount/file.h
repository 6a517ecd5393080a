/* file.h - regular files, for those who join them with other nodes (names.c, chunk.c). */
#ifndef SLABFS_FILE_H
#define SLABFS_FILE_H

#include "base.h"
#include "head.h"
#include "mount.h"
#include "node.h"

/* The node of what was just made; if it is a file that is open, its next open asks nobody.  Frees what `made` holds. */
int file_of_made(struct mount *m, struct head_made *made, uint64_t parent_ino, const char *name, struct node **ret);
/* For idle.c.  The node is busy: if nobody uses it, what it is open with goes; tell: and the head is told. */
void file_unload_unused(struct mount *m, struct node *n, bool tell);
/* If nobody uses the file, so that its removal may close it at the head as well: true, and it is no longer open here. */
bool file_leave_to_removal(struct mount *m, struct node *n);
/* What was written through this mount is sealed and committed. */
int file_settle(struct mount *m, struct node *n);
void file_settle_all(struct mount *m); /* all that are open */
/* Reads up to len bytes of a regular file that need not be open; short at its end. */
int file_read_at(struct mount *m, struct node *n, char *buf, size_t len, uint64_t offset, size_t *ret_len);
/* Of those whose bytes the head holds (sidecar.c).  The node is busy: what was written here goes to the head. */
int sidecar_flush_busy(struct mount *m, struct node *n);
/* The size of one as it is being written here; false when nothing is. */
bool sidecar_size(struct node *n, uint64_t *ret);

#endif
