/* auth.h - the mutual challenge-response that opens every TCP connection, over libsodium (which only auth.c includes).
 *
 *   client -> server   "SLBK" version nonce_c[32]
 *   server -> client   "SLBK" version nonce_s[32]
 *   client -> server   MAC(key, "slabfs client" nonce_c nonce_s)
 *   server -> client   MAC(key, "slabfs server" nonce_s nonce_c)
 *
 * version is a le32, 1; MAC is HMAC-SHA-512-256, 32 bytes; the labels have no NUL.
 * The server proves itself only to a client that has proved itself, so a stranger learns nothing but that a port is open.
 * The bytes that follow are neither encrypted nor authenticated: the network of the cluster is trusted, ssh is for others.
 */
#ifndef SLAB_AUTH_H
#define SLAB_AUTH_H

#include "base.h"

/* fd: a connected socket.  deadline_ns: CLOCK_MONOTONIC, of the whole exchange.  0, -EACCES, -EPROTO (not slabfs), -ETIMEDOUT, -errno. */
int auth_client(int fd, const uint8_t key[32], uint64_t deadline_ns, struct reason *why);
int auth_server(int fd, const uint8_t key[32], uint64_t deadline_ns, struct reason *why);

#endif
