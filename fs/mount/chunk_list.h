/* chunk_list.h - what a chunk directory holds at one moment: the coordinates below which partitions exist, and temporaries. */
#ifndef SLABFS_CHUNK_LIST_H
#define SLABFS_CHUNK_LIST_H

#include "base.h"
#include "mount.h"
#include "node.h"

struct chunk_list;

int chunk_list_new(struct mount *m, struct node *dir, struct chunk_list **ret);
void chunk_list_free(struct chunk_list *l);
bool chunk_list_empty(const struct chunk_list *l);
int chunk_list_emit(const struct chunk_list *l, uint64_t cookie, const struct emit *emit);

#endif
