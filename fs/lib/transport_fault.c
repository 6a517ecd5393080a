/* A test double: lets so many bytes pass in both directions together, then cuts the connection and fails. */
#include "transport_internal.h"

#include <pthread.h>
#include <stdio.h>

struct fault {
	struct transport t;
	struct transport *inner;
	pthread_mutex_t lock; /* guards left */
	uint64_t left;
	int err;
};

static struct fault *fault_of(struct transport *t)
{
	return (struct fault *)t;
}

/* How many of len bytes may still pass. */
static size_t grant(struct fault *f, size_t len)
{
	pthread_mutex_lock(&f->lock);
	size_t n = (size_t)MIN(f->left, len);
	f->left -= n;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static bool tripped(struct fault *f)
{
	pthread_mutex_lock(&f->lock);
	bool is = f->left == 0;
	pthread_mutex_unlock(&f->lock);
	return is;
}

static int cut(struct fault *f)
{
	transport_shutdown(f->inner);
	return f->err;
}

static int fault_send(struct transport *t, struct iovec *iov, int n_iov, int fd)
{
	struct fault *f = fault_of(t);

	for (int i = 0; i < n_iov; i++) {
		struct iovec part = { iov[i].iov_base, grant(f, iov[i].iov_len) };
		bool whole = part.iov_len == iov[i].iov_len;
		int err = part.iov_len ? transport_send(f->inner, &part, 1, fd) : 0;

		if (err)
			return tripped(f) ? f->err : err;
		if (!whole)
			return cut(f);
		if (iov[i].iov_len)
			fd = -1;
	}
	return 0;
}

static int fault_receive(struct transport *t, void *buf, size_t len, int *ret_fd)
{
	struct fault *f = fault_of(t);
	size_t n = grant(f, len);
	int fd = -1, err = n ? transport_receive(f->inner, buf, n, ret_fd ? &fd : NULL) : 0;

	if (!err && n == len) {
		if (ret_fd)
			*ret_fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	return err && !tripped(f) ? err : cut(f);
}

static int fault_limit(struct transport *t, unsigned send_ms, unsigned receive_ms)
{
	return transport_limit(fault_of(t)->inner, send_ms, receive_ms);
}

static void fault_shutdown(struct transport *t)
{
	transport_shutdown(fault_of(t)->inner);
}

static void fault_free(struct transport *t)
{
	struct fault *f = fault_of(t);

	transport_free(f->inner);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static const struct transport_ops fault_ops = {
	.name = "fault",
	.send = fault_send,
	.receive = fault_receive,
	.limit = fault_limit,
	.shutdown = fault_shutdown,
	.free = fault_free,
	.passes_fds = true,
};

int transport_fault_wrap(struct transport *inner, uint64_t cut_after_bytes, int err, struct transport **ret)
{
	struct fault *f = calloc(1, sizeof(*f));

	if (!f) {
		transport_free(inner);
		return -ENOMEM;
	}
	f->t.ops = &fault_ops;
	snprintf(f->t.peer, sizeof(f->t.peer), "%.290s", inner->peer);
	f->inner = inner;
	f->left = cut_after_bytes;
	f->err = err < 0 ? err : -err;
	pthread_mutex_init(&f->lock, NULL);
	*ret = &f->t;
	return 0;
}
