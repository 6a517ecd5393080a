/* transport.h - a connected, ordered stream of bytes to a peer: unix socket, TCP, and the test doubles.
 *
 * A `struct transport` is an ops pointer and an opaque instance; the caller owns it and frees it with transport_free.
 * One thread may send while another receives; two senders (or receivers) need a lock of the caller's.
 * transport_shutdown may be called from any thread and wakes both.
 * 0 or -errno; -ECONNRESET when the peer is gone in the middle.  A new transport gives up a send that makes no progress for
 * TRANSPORT_STALL_MS, and waits for ever when it receives.
 */
#ifndef SLAB_TRANSPORT_H
#define SLAB_TRANSPORT_H

#include "base.h"
#include <sys/uio.h>

#define TRANSPORT_STALL_MS 30000

struct transport;

struct transport_ops {
	const char *name; /* "unix", "tcp", ... */
	/* Sends all of the vectors; fd >= 0 (unix only) passes that descriptor with the first byte. */
	int (*send)(struct transport *t, struct iovec *iov, int n_iov, int fd);
	/* Sends len bytes of file fd from offset (sendfile where the kernel can; NULL: through a buffer).  A file that is shorter,
	 * because it is being cut, is followed by zeros: the length was promised.  sendfile may raise SIGPIPE, so programs must ignore
	 * that signal. */
	int (*send_file)(struct transport *t, int fd, uint64_t offset, uint64_t len);
	/* Receives exactly len bytes; a descriptor that came along goes to *ret_fd if not NULL, else it is closed. */
	int (*receive)(struct transport *t, void *buf, size_t len, int *ret_fd);
	/* A send or a receive that makes no progress for so long fails with -ETIMEDOUT; 0: never. */
	int (*limit)(struct transport *t, unsigned send_ms, unsigned receive_ms);
	void (*shutdown)(struct transport *t);
	void (*free)(struct transport *t);
	bool passes_fds;
};

struct transport {
	const struct transport_ops *ops;
	char peer[300];          /* for people: "tcp 10.0.0.2:7522", "unix /store/slabfsd.sock" */
	int peer_pid;            /* of a process on this machine, where that is known; else 0 */
	uint64_t sent, received; /* payload and frame bytes, for the metrics; relaxed atomics */
};

int transport_send(struct transport *t, struct iovec *iov, int n_iov, int fd);
int transport_send_file(struct transport *t, int fd, uint64_t offset, uint64_t len);
int transport_receive(struct transport *t, void *buf, size_t len,
		      int *ret_fd); /* -ENODATA at a clean end before any byte */
int transport_limit(struct transport *t, unsigned send_ms, unsigned receive_ms);
void transport_shutdown(struct transport *t);
void transport_free(struct transport *t); /* NULL is fine */

/* unix.  A missing socket file is -ECONNREFUSED, too. */
int transport_unix_connect(const char *path, struct transport **ret, struct reason *why);
int transport_unix_listen(const char *path, int *ret_fd,
			  struct reason *why);                             /* replaces a stale socket file; mode 0600 */
int transport_unix_wrap(int fd, const char *peer, struct transport **ret); /* takes fd */

/* tcp: key exchange with the cluster key before the first frame, in auth.c; timeout bounds connect and handshake.
 * -EACCES: the peer does not hold our key (or we not its); -ETIMEDOUT; -ECONNREFUSED ... with a reason that names host and port. */
int transport_tcp_connect(const char *address, const uint8_t key[32], unsigned timeout_ms, struct transport **ret,
			  struct reason *why);
int transport_tcp_listen(const char *address, int *ret_fd, uint16_t *ret_port, struct reason *why);
int transport_tcp_accept(int fd, const uint8_t key[32], unsigned timeout_ms, struct transport **ret,
			 struct reason *why); /* does the handshake; takes fd, closes it on failure */

/* Test doubles: a connected pair in memory, and a wrapper that fails or cuts after so many bytes. */
int transport_mem_pair(struct transport **ret_a, struct transport **ret_b);
int transport_fault_wrap(struct transport *inner, uint64_t cut_after_bytes, int err,
			 struct transport **ret); /* takes inner */

#endif
