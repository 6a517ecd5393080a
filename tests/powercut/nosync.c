/* nosync.so - preloaded into a program, makes its fsyncs do nothing: what a test that expects losses runs against. */
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

int fsync(int fd)
{
	(void)fd;
	return 0;
}

int fdatasync(int fd)
{
	(void)fd;
	return 0;
}

int syncfs(int fd)
{
	(void)fd;
	return 0;
}

int msync(void *at, size_t len, int flags)
{
	(void)at;
	(void)len;
	(void)flags;
	return 0;
}

int sync_file_range(int fd, off_t offset, off_t count, unsigned flags)
{
	(void)fd;
	(void)offset;
	(void)count;
	(void)flags;
	return 0;
}
