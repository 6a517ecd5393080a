/* Connected stream sockets, unix or TCP: the operations that both have. */
#include "transport_internal.h"

#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>

#define SENDFILE_MAX (1u << 30)
#define FDS_MAX 8 /* descriptors that one message may bring; all but the first are closed */

struct sock {
	struct transport t;
	int fd;
};

static struct sock *sock_of(struct transport *t)
{
	return (struct sock *)t;
}

/* A blocking socket says EAGAIN only when its timeout has passed. */
static int errno_of_io(void)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return -ETIMEDOUT;
	return errno == EPIPE ? -ECONNRESET : -errno;
}

int sock_new(const struct transport_ops *ops, int fd, const char *peer, struct transport **ret)
{
	struct sock *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->t.ops = ops;
	s->fd = fd;
	snprintf(s->t.peer, sizeof(s->t.peer), "%s", peer);
	sock_limit(&s->t, TRANSPORT_STALL_MS, 0);
	*ret = &s->t;
	return 0;
}

static void skip_sent(struct msghdr *msg, size_t n)
{
	while (msg->msg_iovlen > 0 && n >= msg->msg_iov->iov_len) {
		n -= msg->msg_iov->iov_len;
		msg->msg_iov++;
		msg->msg_iovlen--;
	}
	if (msg->msg_iovlen > 0) {
		msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + n;
		msg->msg_iov->iov_len -= n;
	}
}

int sock_send(struct transport *t, struct iovec *iov, int n_iov, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n_iov };

	if (fd >= 0) {
		control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
						 .cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	skip_sent(&msg, 0);
	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(sock_of(t)->fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno_of_io();
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
		skip_sent(&msg, (size_t)n);
	}
	return 0;
}

int sock_send_file(struct transport *t, int fd, uint64_t offset, uint64_t len)
{
	off_t at = (off_t)offset;
	uint64_t end = offset + len;

	while ((uint64_t)at < end) {
		ssize_t n = sendfile(sock_of(t)->fd, fd, &at, (size_t)MIN(end - (uint64_t)at, SENDFILE_MAX));
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || (n < 0 && errno == EINVAL)) /* the file was cut, or its file system has no splice */
			return transport_copy_file(t, fd, (uint64_t)at, end - (uint64_t)at);
		if (n < 0)
			return errno_of_io();
	}
	return 0;
}

/* The first descriptor goes to *fd if that is still free; all others are closed. */
static void take_fds(struct msghdr *msg, int *fd)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int got;
			memcpy(&got, CMSG_DATA(c) + at, sizeof(got));
			if (*fd < 0)
				*fd = got;
			else
				close(got);
		}
	}
}

/* Without room for control data the kernel closes what was passed. */
static ssize_t receive_some(int sock, void *buf, size_t len, int *fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { buf, len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n;

	if (!fd)
		return recv(sock, buf, len, MSG_WAITALL);
	n = recvmsg(sock, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	if (n >= 0)
		take_fds(&msg, fd);
	return n;
}

int sock_receive(struct transport *t, void *buf, size_t len, int *ret_fd)
{
	int fd = -1, err = 0;

	for (size_t done = 0; !err && done < len;) {
		ssize_t n = receive_some(sock_of(t)->fd, (char *)buf + done, len - done, ret_fd ? &fd : NULL);
		if (n > 0)
			done += (size_t)n;
		else if (n == 0)
			err = done ? -ECONNRESET : -ENODATA;
		else if (errno != EINTR)
			err = errno_of_io();
	}
	if (ret_fd && !err)
		*ret_fd = fd;
	else if (fd >= 0)
		close(fd);
	return err;
}

static struct timeval timeval_of(unsigned ms)
{
	return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };
}

int sock_limit(struct transport *t, unsigned send_ms, unsigned receive_ms)
{
	struct timeval out = timeval_of(send_ms), in = timeval_of(receive_ms);
	int fd = sock_of(t)->fd;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &out, sizeof(out)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &in, sizeof(in)) < 0)
		return -errno;
	return 0;
}

void sock_shutdown(struct transport *t)
{
	shutdown(sock_of(t)->fd, SHUT_RDWR);
}

void sock_free(struct transport *t)
{
	close(sock_of(t)->fd);
	free(t);
}
