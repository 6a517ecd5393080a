/* sendfile FILE - the seconds that the bytes of FILE take from the page cache through one loopback socket: sendfile on one side, recv into
 * a buffer on the other.  The plain thing that a remote read is measured against. */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (1u << 20)

struct source {
	struct sockaddr_in address;
	int file;
	off_t bytes;
};

static void *send_all(void *arg)
{
	struct source *s = arg;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&s->address, sizeof(s->address)))
		err(1, "connect");
	for (off_t at = 0; at < s->bytes;)
		if (sendfile(fd, s->file, &at, (size_t)(s->bytes - at)) <= 0)
			err(1, "sendfile");
	close(fd);
	return NULL;
}

static int listen_anywhere(struct sockaddr_in *ret)
{
	socklen_t len = sizeof(*ret);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0 || bind(fd, (struct sockaddr *)ret, len) || listen(fd, 1) ||
	    getsockname(fd, (struct sockaddr *)ret, &len))
		err(1, "listen");
	return fd;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct source s;
	struct stat st;
	pthread_t sender;
	char *buffer = malloc(BUFFER_BYTES);
	int listener, fd;
	double start;

	if (argc != 2 || !buffer)
		errx(2, "usage: sendfile FILE");
	s.file = open(argv[1], O_RDONLY);
	if (s.file < 0 || fstat(s.file, &st))
		err(1, "%s", argv[1]);
	s.bytes = st.st_size;
	listener = listen_anywhere(&s.address);
	start = seconds();
	if (pthread_create(&sender, NULL, send_all, &s))
		errx(1, "no thread");
	fd = accept(listener, NULL, NULL);
	for (off_t left = s.bytes; left > 0;) {
		ssize_t n = recv(fd, buffer, BUFFER_BYTES, 0);

		if (n <= 0)
			err(1, "recv");
		left -= n;
	}
	printf("%.6f\n", seconds() - start);
	pthread_join(sender, NULL);
	return 0;
}
