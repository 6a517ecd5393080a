/* A little of the disk is kept for the metadata, so that files can be removed from a disk that is full. */
#include "meta_int.h"

#include <fcntl.h>

#define RESERVE_NAME "meta.reserve"
#define RESERVE_BYTES (1 << 20) /* many times what removing a file writes */

void meta_reserve_take(struct meta *m)
{
	AUTO_CLOSE int fd = openat(m->d->store_fd, RESERVE_NAME, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0 && fallocate(fd, 0, 0, RESERVE_BYTES) < 0 && ftruncate(fd, 0) < 0)
		unlinkat(m->d->store_fd, RESERVE_NAME, 0);
}

bool meta_reserve_give(struct meta *m)
{
	struct stat st;

	return fstatat(m->d->store_fd, RESERVE_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_blocks > 0 &&
	       unlinkat(m->d->store_fd, RESERVE_NAME, 0) == 0;
}
