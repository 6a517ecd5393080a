#include "transport_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 128

static const struct transport_ops unix_ops = {
	.name = "unix",
	.send = sock_send,
	.send_file = sock_send_file,
	.receive = sock_receive,
	.limit = sock_limit,
	.shutdown = sock_shutdown,
	.free = sock_free,
	.passes_fds = true,
};

/* sun_path holds 108 bytes, a store's path may be longer: then its directory is opened (*ret_dir, the caller closes it) and
 * named through /proc. */
static int address_of(const char *path, struct sockaddr_un *ret, int *ret_dir)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *dir = NULL;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof(ret->sun_path)) {
		memcpy(ret->sun_path, path, strlen(path));
		return 0;
	}
	if (!slash)
		return -ENAMETOOLONG;
	dir = strndup(path, (size_t)(slash - path) + 1);
	if (!dir)
		return -ENOMEM;
	*ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return -errno;
	if ((size_t)snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d%s", *ret_dir, slash) >=
	    sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	return 0;
}

static int connect_to(int fd, const struct sockaddr_un *to)
{
	const struct timeval limit = { .tv_sec = TRANSPORT_STALL_MS / 1000 };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0) {
		if (errno == EINTR)
			continue;
		if (errno == ENOENT)
			return -ECONNREFUSED;
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	}
	return 0;
}

int transport_unix_wrap(int fd, const char *peer, struct transport **ret)
{
	int err = sock_new(&unix_ops, fd, peer, ret);

	if (err)
		close(fd);
	return err;
}

int transport_unix_connect(const char *path, struct transport **ret, struct reason *why)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	AUTO_CLOSE int dir = -1;
	struct sockaddr_un to;
	char peer[300];
	int err;

	if (fd < 0)
		return reason_set(why, errno, "unix socket: %s", strerror(errno));
	err = address_of(path, &to, &dir);
	if (!err)
		err = connect_to(fd, &to);
	if (err) {
		close(fd);
		return reason_set(why, -err, "cannot connect to %s: %s", path, strerror(-err));
	}
	snprintf(peer, sizeof(peer), "unix %s", path);
	return transport_unix_wrap(fd, peer, ret);
}

/* Removes the socket file of a server that is gone; -EADDRINUSE while one answers, -EEXIST for any other file. */
static int remove_stale(const char *path)
{
	struct transport *t;
	struct stat st;
	int err;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	err = transport_unix_connect(path, &t, NULL);
	if (!err)
		transport_free(t);
	if (err != -ECONNREFUSED)
		return err ? err : -EADDRINUSE;
	return unlink(path) < 0 ? -errno : 0;
}

static int listen_at(int fd, const char *path)
{
	AUTO_CLOSE int dir = -1;
	struct sockaddr_un at;
	int err = remove_stale(path);

	if (!err)
		err = address_of(path, &at, &dir);
	if (err)
		return err;
	/* The mode of the socket is the mode of its file: never open to others, not even for a moment. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

int transport_unix_listen(const char *path, int *ret_fd, struct reason *why)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? -errno : listen_at(fd, path);

	if (err) {
		if (fd >= 0)
			close(fd);
		return reason_set(why, -err, "cannot listen on %s: %s", path, strerror(-err));
	}
	*ret_fd = fd;
	return 0;
}
