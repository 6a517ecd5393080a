#include "transport_internal.h"
#include "auth.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define BACKLOG 128
#define DEAD_MS 10000 /* a peer that acknowledges nothing for so long is gone */

static const struct transport_ops tcp_ops = {
	.name = "tcp",
	.send = sock_send,
	.send_file = sock_send_file,
	.receive = sock_receive,
	.limit = sock_limit,
	.shutdown = sock_shutdown,
	.free = sock_free,
};

static void set_int(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

/* An idle connection finds out about a dead peer as soon as a busy one does. */
static void set_options(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, DEAD_MS / 2000);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, DEAD_MS / 2000);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_MS);
}

static int resolve(const char *address, int flags, struct addrinfo **ret, struct reason *why)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags };
	char host[256], service[8];
	uint16_t port;
	int err = address_split(address, SLAB_DEFAULT_PORT, host, &port);

	if (err)
		return reason_set(why, -err, "'%.260s' is not HOST:PORT", address);
	snprintf(service, sizeof(service), "%u", port);
	err = getaddrinfo(host, service, &hints, ret);
	if (err)
		return reason_set(why, EHOSTUNREACH, "%.260s: %s", address, gai_strerror(err));
	return 0;
}

static int wait_connected(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int n, err;

	do {
		uint64_t now = time_mono_ns();
		n = poll(&p, 1, now < deadline_ns ? (int)div_up(deadline_ns - now, 1000000) : 0);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

static int connect_one(const struct addrinfo *ai, uint64_t deadline_ns, int *ret_fd)
{
	int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol), err = 0;

	if (fd < 0)
		return -errno;
	set_options(fd);
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0)
		err = errno == EINPROGRESS ? wait_connected(fd, deadline_ns) : -errno;
	if (!err && fcntl(fd, F_SETFL, 0) < 0)
		err = -errno;
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	return err;
}

static int connect_any(const char *address, uint64_t deadline_ns, int *ret_fd, struct reason *why)
{
	struct addrinfo *all;
	int err = resolve(address, 0, &all, why);

	if (err)
		return err;
	err = -EHOSTUNREACH;
	for (struct addrinfo *ai = all; ai && err; ai = ai->ai_next)
		err = connect_one(ai, deadline_ns, ret_fd);
	freeaddrinfo(all);
	return err ? reason_set(why, -err, "cannot connect to %.240s: %s", address, strerror(-err)) : 0;
}

static int wrap(int fd, const char *address, struct transport **ret)
{
	char peer[300];

	snprintf(peer, sizeof(peer), "tcp %.290s", address);
	return sock_new(&tcp_ops, fd, peer, ret);
}

int transport_tcp_connect(const char *address, const uint8_t key[32], unsigned timeout_ms, struct transport **ret,
			  struct reason *why)
{
	uint64_t deadline_ns = time_mono_ns() + timeout_ms * UINT64_C(1000000);
	struct reason cause = { "" };
	int fd = -1, err = connect_any(address, deadline_ns, &fd, why);

	if (err)
		return err;
	err = auth_client(fd, key, deadline_ns, &cause);
	if (err)
		reason_set(why, -err, "%.200s: %.100s", address, cause.text);
	else
		err = wrap(fd, address, ret);
	if (err)
		close(fd);
	return err;
}

/* IPv6 sockets of the wildcard address take IPv4 as well. */
static int listen_one(const struct addrinfo *ai, int *ret_fd)
{
	int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol), err;

	if (fd < 0)
		return -errno;
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
		*ret_fd = fd;
		return 0;
	}
	err = -errno;
	close(fd);
	return err;
}

static int port_of(int fd, uint16_t *ret)
{
	struct sockaddr_in6 at; /* sin_port and sin6_port are at the same place */
	socklen_t len = sizeof(at);

	if (getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		return -errno;
	*ret = ntohs(at.sin6_port);
	return 0;
}

int transport_tcp_listen(const char *address, int *ret_fd, uint16_t *ret_port, struct reason *why)
{
	struct addrinfo *all;
	int fd = -1, err = resolve(address, AI_PASSIVE, &all, why);

	if (err)
		return err;
	err = -EADDRNOTAVAIL;
	for (struct addrinfo *ai = all; ai && err; ai = ai->ai_next)
		err = listen_one(ai, &fd);
	freeaddrinfo(all);
	if (!err && (err = port_of(fd, ret_port)))
		close(fd);
	if (err)
		return reason_set(why, -err, "cannot listen on %.240s: %s", address, strerror(-err));
	*ret_fd = fd;
	return 0;
}

static void peer_text(int fd, char ret[290])
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char host[64], port[8];

	if (getpeername(fd, (struct sockaddr *)&from, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&from, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(ret, 290, "(gone)");
	else
		snprintf(ret, 290, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

int transport_tcp_accept(int fd, const uint8_t key[32], unsigned timeout_ms, struct transport **ret, struct reason *why)
{
	uint64_t deadline_ns = time_mono_ns() + timeout_ms * UINT64_C(1000000);
	struct reason cause = { "" };
	char from[290];
	int err;

	set_options(fd);
	peer_text(fd, from);
	err = auth_server(fd, key, deadline_ns, &cause);
	if (err)
		reason_set(why, -err, "%.200s: %.100s", from, cause.text);
	else
		err = wrap(fd, from, ret);
	if (err)
		close(fd);
	return err;
}
