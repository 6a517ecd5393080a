/* io.h - whole reads and writes, and the one way in which a file is published.
 *
 * 0 or -errno.  EINTR and short transfers are retried.  Stateless; any thread.
 */
#ifndef SLAB_IO_H
#define SLAB_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int io_pread(int fd, void *buf, size_t len, uint64_t offset, size_t *ret_len); /* short only at end of file */
int io_pwrite(int fd, const void *buf, size_t len, uint64_t offset);           /* all or -errno */
int io_write(int fd, const void *buf, size_t len);
int io_fsync_dir(int dirfd, const char *path);           /* fsync of a directory (openat(dirfd, path)) */
int io_mkdirs(int dirfd, const char *path, mode_t mode); /* mkdir -p; existing directories are fine */

/* Writes `name` beside, fsyncs it, renames it over `name` and fsyncs the directory.  On failure the old file stands. */
int io_publish(int dirfd, const char *name, const void *buf, size_t len, mode_t mode);

/* Reads a whole file of at most max bytes.  *ret is malloc'ed, has a NUL after len bytes; the caller frees it.
 * -EFBIG when it is longer. */
int io_read_file(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len);

#endif
