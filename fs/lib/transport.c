#include "transport_internal.h"
#include "io.h"

#define COPY_BYTES (256u << 10)

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

int transport_send(struct transport *t, struct iovec *iov, int n_iov, int fd)
{
	uint64_t total = 0;
	int err;

	if (fd >= 0 && !t->ops->passes_fds)
		return -EOPNOTSUPP;
	for (int i = 0; i < n_iov; i++)
		total += iov[i].iov_len;
	err = t->ops->send(t, iov, n_iov, fd);
	if (!err)
		count(&t->sent, total);
	return err;
}

int transport_copy_file(struct transport *t, int fd, uint64_t offset, uint64_t len)
{
	AUTO_FREE char *buf = malloc(COPY_BYTES);
	int err = 0;

	if (!buf)
		return -ENOMEM;
	for (uint64_t done = 0; !err && done < len;) {
		size_t want = (size_t)MIN(len - done, COPY_BYTES), got = 0;
		err = io_pread(fd, buf, want, offset + done, &got);
		if (!err) {
			memset(buf + got, 0, want - got);
			err = t->ops->send(t, &(struct iovec){ buf, want }, 1, -1);
		}
		done += want;
	}
	return err;
}

int transport_send_file(struct transport *t, int fd, uint64_t offset, uint64_t len)
{
	int err = t->ops->send_file ? t->ops->send_file(t, fd, offset, len) : transport_copy_file(t, fd, offset, len);

	if (!err)
		count(&t->sent, len);
	return err;
}

int transport_receive(struct transport *t, void *buf, size_t len, int *ret_fd)
{
	int err = t->ops->receive(t, buf, len, ret_fd);

	if (!err)
		count(&t->received, len);
	return err;
}

int transport_limit(struct transport *t, unsigned send_ms, unsigned receive_ms)
{
	return t->ops->limit(t, send_ms, receive_ms);
}

void transport_shutdown(struct transport *t)
{
	t->ops->shutdown(t);
}

void transport_free(struct transport *t)
{
	if (t)
		t->ops->free(t);
}
