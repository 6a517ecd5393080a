/* forget.h - what a disk remembers when the power goes: the state behind forgetfs.
 *
 * Each file has its bytes as they are, its bytes as the last fsync left them, and the changes in between; each directory the same with
 * its entries.  A cut keeps what is durable and a part of the rest, chosen by a seed, as a journalling file system might:
 *
 *   bytes    a sector of 512 bytes is as it was after some prefix of the changes to it, and sectors are independent; the size is as it was after some
 *            prefix of the changes; what is inside the size and never reached the disk is zeros.  A truncation goes with its size.
 *   entries  FORGET_ORDERED: a prefix of all changes to directories.  FORGET_SCATTERED: a prefix for each directory, and an fsync of a file may
 *            have made its newest name durable before older changes.  A rename is one change, also between two directories.
 *
 * One thread.  Memory is never given back: the program lives for one test.
 */
#ifndef FORGET_H
#define FORGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum forget_order { FORGET_ORDERED, FORGET_SCATTERED };

struct image {
	uint8_t *bytes;
	uint64_t len, cap;
};

struct change {
	uint64_t offset, len;
	uint8_t *bytes; /* NULL: the size becomes len */
	bool cuts;      /* the file becomes shorter */
};

struct entry {
	struct entry *next;
	struct object *object;
	uint64_t id; /* rises along the list */
	char name[];
};

/* A file or a directory. */
struct object {
	struct stat st; /* but for the size */
	char name[256]; /* the last one that it was given */
	struct image now, durable;
	struct change *changes;
	size_t n_changes, cap_changes;
	struct entry *entries, *durable_entries;
	struct object *parent;
};

struct object *forget_new(mode_t mode, uid_t uid, gid_t gid);
struct object *forget_find(const struct object *dir, const char *name);

void forget_write(struct object *o, const void *bytes, uint64_t offset, uint64_t len);
void forget_resize(struct object *o, uint64_t len);

/* object NULL: the name goes.  The second form is one change: the first name goes, the second is the object's. */
void forget_name(struct object *dir, const char *name, struct object *object);
void forget_rename(struct object *from, const char *old, struct object *to, const char *name);

void forget_sync_file(struct object *o, enum forget_order order);
/* As after a write that the disk refused: the changes count as written, and are not. */
void forget_fail_file(struct object *o);
void forget_sync_dir(struct object *dir);

/* 0 or -errno.  cut: leaves in the directory `out` what survives. */
int forget_cut(struct object *root, uint64_t seed, enum forget_order order, const char *out);
int forget_load(struct object *dir, const char *path);

#endif
