#include "notify.h"
#include "base.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

static int parent_pipe = -1; /* the main thread's */

static void notify_systemd(const char *what)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, what, strlen(what), MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		perror("slabfsd: NOTIFY_SOCKET");
}

void notify_ready(void)
{
	notify_systemd("READY=1\n");
}

void notify_stopping(void)
{
	notify_systemd("STOPPING=1\n");
}

static int wait_for_child(int fd)
{
	uint8_t code;
	ssize_t n;

	do
		n = read(fd, &code, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? code : 1;
}

int notify_daemonize(void)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		perror("slabfsd: pipe");
		return 1;
	}
	switch (fork()) {
	case -1:
		perror("slabfsd: fork");
		return 1;
	case 0:
		close(ends[0]);
		parent_pipe = ends[1];
		setsid();
		return -1;
	default:
		close(ends[1]);
		return wait_for_child(ends[0]);
	}
}

/* From here on nobody reads our output. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (chdir("/") < 0)
		perror("slabfsd: /");
}

void notify_parent(int exit_code)
{
	uint8_t code = (uint8_t)exit_code;

	if (parent_pipe < 0)
		return;
	if (write(parent_pipe, &code, 1) < 0)
		perror("slabfsd: parent");
	close(parent_pipe);
	parent_pipe = -1;
	leave_terminal();
}
