/* file.h - regular files, for those who join them with other nodes (names.c, chunk.c). */
#ifndef SLABFS_FILE_H
#define SLABFS_FILE_H

#include "base.h"
#include "mount.h"
#include "node.h"

int file_settle(struct mount *m, struct node *n); /* what was written through this mount is sealed and committed */
/* Reads up to len bytes of a regular file that need not be open; short at its end. */
int file_read_at(struct mount *m, struct node *n, char *buf, size_t len, uint64_t offset, size_t *ret_len);
/* The size of an inline file as it is being written here; the node is busy.  False: not open. */
bool sidecar_size(struct node *n, uint64_t *ret);

#endif
