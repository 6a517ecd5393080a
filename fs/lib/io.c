#include "io.h"
#include "base.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int io_pread(int fd, void *buf, size_t len, uint64_t offset, size_t *ret_len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret_len = done;
	return 0;
}

int io_pwrite(int fd, const void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

int io_write(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

int io_fsync_dir(int dirfd, const char *path)
{
	AUTO_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

int io_mkdirs(int dirfd, const char *path, mode_t mode)
{
	AUTO_FREE char *part = strdup(path);

	if (!part)
		return -ENOMEM;
	for (char *slash = part + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdirat(dirfd, part, mode) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdirat(dirfd, part, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_beside(int dirfd, const char *name, const void *buf, size_t len, mode_t mode)
{
	AUTO_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	int err;

	if (fd < 0)
		return -errno;
	err = io_write(fd, buf, len);
	if (err)
		return err;
	if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int io_publish(int dirfd, const char *name, const void *buf, size_t len, mode_t mode)
{
	char beside[4096];
	const char *slash = strrchr(name, '/');
	char dir[4096] = ".";
	int err;

	if (strlen(name) + 8 > sizeof(beside))
		return -ENAMETOOLONG;
	snprintf(beside, sizeof(beside), "%s.new", name);
	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", slash == name ? 1 : (int)(slash - name), name);
	err = write_beside(dirfd, beside, buf, len, mode);
	if (!err && renameat(dirfd, beside, dirfd, name) < 0)
		err = -errno;
	if (err) {
		unlinkat(dirfd, beside, 0);
		return err;
	}
	return io_fsync_dir(dirfd, dir);
}

int io_read_file(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len)
{
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *buf = NULL;
	struct stat st;
	size_t len;
	int err;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return -ENOMEM;
	err = io_pread(fd, buf, (size_t)st.st_size, 0, &len);
	if (err)
		return err;
	buf[len] = '\0';
	*ret = buf;
	*ret_len = len;
	buf = NULL;
	return 0;
}
