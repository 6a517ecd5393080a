/* entries.h - what this mount knows of the names in a directory, so that it need not ask the head for them again.
 *
 * A name is known from the answer that told it to the first sign of a change: one that the head pushes, or one that this mount is about to make.
 * A directory that this mount has made is known whole: what it was never heard to hold is not there.
 * Requests and pushes cross: a request puts a token where the name's inode will be, and its answer counts only if the token is still there.
 * Names are told apart by their hash.  Two with the same one are never mixed up: who finds an inode compares its name, and a hash
 * once seen stays until all is forgotten.
 *
 * The node's lock guards its entries; these functions take it.
 */
#ifndef SLABFS_ENTRIES_H
#define SLABFS_ENTRIES_H

#include "base.h"
#include "mount.h"
#include "node.h"

struct entries;
void entries_free(struct entries *e);

enum entry_known { ENTRY_UNKNOWN, ENTRY_ABSENT, ENTRY_AT };
/* ENTRY_AT: *ret_ino, if that inode's node has this name. */
enum entry_known entries_look(struct node *dir, const char *name, uint64_t *ret_ino);

/* Around a request that tells or changes what a name is.  dir: its inode number; nothing happens when it is not known here.
 * ino: what the name is now; 0: not known, or nothing. */
uint64_t entries_begin(struct mount *m, uint64_t dir, const char *name);
void entries_end(struct mount *m, uint64_t dir, const char *name, uint64_t token, uint64_t ino);

void entries_changed(struct node *dir, const char *name, size_t name_bytes); /* another mount changed it */
void entries_made(struct mount *m, struct node *dir, uint64_t seq); /* just made here; seq as of node_of_attr */
void entries_forget_all(struct node *dir);

#endif
