/* file_internal.h - what the files of regular files share.
 *
 *   file.c       open, close, sizes, what is committed
 *   file_bytes.c read, write
 *   file_room.c  fallocate, holes, copies from file to file
 */
#ifndef SLABFS_FILE_INTERNAL_H
#define SLABFS_FILE_INTERNAL_H

#include "bytes.h"
#include "file.h"

/* node.state of a regular file that is open. */
struct file {
	struct bytes *bytes;
	_Atomic uint64_t generation; /* for which the descriptors of `bytes` are good */
	/* guarded by node.lock */
	bool dirty;        /* written and not yet committed */
	uint64_t size;     /* the end of what was written since */
	uint64_t write_ns; /* when it was last written, real time */
};

/* The size of an open file.  Another mount's change may have put other files in the place of the partitions' that are open here. */
uint64_t file_size(struct mount *m, struct node *n, int *ret_err);
/* Around a change of its bytes: before it, so that a flush that runs meanwhile does not miss it; after it, with the end of what was written (0: the
 * size stays). */
void file_change_begin(struct node *n);
void file_change_end(struct node *n, uint64_t end);

/* Our own change: what is open here, and what the kernel holds, stays right unless another mount's came in between. */
void file_changed(struct mount *m, struct node *n, struct file *f, const struct wire_attr *attr, uint64_t seq);

int file_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out);
int file_append(struct mount *m, struct handle *h, size_t size, uint64_t *ret);
int file_write(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset);
int file_publish(struct mount *m, struct handle *h);
int file_whole_fd(struct mount *m, struct node *n, int *ret_fd);
int file_allocate(struct mount *m, struct handle *h, int mode, uint64_t offset, uint64_t length);
int file_seek(struct mount *m, struct handle *h, uint64_t offset, bool hole, uint64_t *ret);
int file_copy(struct mount *m, struct handle *from, uint64_t from_offset, struct handle *to, uint64_t offset,
	      uint64_t length, uint64_t *ret);

#endif
