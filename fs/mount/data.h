/* data.h - what `data` and `data.npy` share, and data.npy before it has a header: the file then exists only on this mount, until its
 * first bytes say what the array is. */
#ifndef SLABFS_DATA_H
#define SLABFS_DATA_H

#include "base.h"
#include "mount.h"
#include "node.h"

struct array;
struct array_view;

int data_view_of(struct mount *m, struct node *n, struct array **ret_array,
		 struct array_view **ret); /* -ENOENT: no array yet */
int data_getattr(struct mount *m, struct node *n, struct stat *ret);
/* Owner and permissions of a view are its directory's: setting them apart does nothing.  Times are set on the directory. */
int data_set_directory(struct mount *m, struct node *n, const struct change *change);
int data_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel);
int data_publish(struct mount *m, struct handle *h);
int data_flush(struct mount *m, struct handle *h);
int data_fsync(struct mount *m, struct handle *h);
void data_release(struct mount *m, struct handle *h);
/* Reads [offset, offset + size) of the array's bytes to out->buf + before; from one local file without a copy when before is 0. */
int data_read_bytes(struct mount *m, struct node *n, struct array_view *v, size_t size, uint64_t offset, size_t before,
		    struct read_out *out);
int data_write_bytes(struct mount *m, struct node *n, const char *buf, size_t size, uint64_t offset, bool may_grow);

/* A data.npy that is being created in `dir`, an empty directory. */
int npy_pending_new(struct mount *m, struct node *dir, const struct make *what, struct node **ret);
int npy_pending_lookup(struct mount *m, struct node *dir, const char *name, struct node **ret); /* -ENOENT: none */

#endif
