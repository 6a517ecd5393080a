/* file.h - regular files, for those who join them with other nodes (names.c, chunk.c). */
#ifndef SLABFS_FILE_H
#define SLABFS_FILE_H

#include "base.h"
#include "mount.h"
#include "node.h"

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
