/* transport_internal.h - what the transports share: sockets, and sending a file without the kernel's help.
 *
 * Only transport*.c include it.
 */
#ifndef SLAB_TRANSPORT_INTERNAL_H
#define SLAB_TRANSPORT_INTERNAL_H

#include "transport.h"

/* transport_send_file for those that cannot: reads into a buffer and sends that. */
int transport_copy_file(struct transport *t, int fd, uint64_t offset, uint64_t len);

/* The operations of a connected stream socket. */
int sock_new(const struct transport_ops *ops, int fd, const char *peer,
	     struct transport **ret); /* takes fd on success */
int sock_send(struct transport *t, struct iovec *iov, int n_iov, int fd);
int sock_send_file(struct transport *t, int fd, uint64_t offset, uint64_t len);
int sock_receive(struct transport *t, void *buf, size_t len, int *ret_fd);
int sock_limit(struct transport *t, unsigned send_ms, unsigned receive_ms);
void sock_shutdown(struct transport *t);
void sock_free(struct transport *t);

#endif
