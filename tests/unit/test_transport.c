#include "auth.h"
#include "transport.h"

#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BIG (8u << 20)

static const uint8_t key[32] = { 1, 2, 3 }, other_key[32] = { 9 };
static char dir[] = "/tmp/slab-transport-XXXXXX";

static uint8_t *noise(size_t len)
{
	uint8_t *buf = malloc(len);
	uint64_t seed = len;

	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)unit_random(&seed);
	return buf;
}

static int send_buf(struct transport *t, const void *buf, size_t len)
{
	return transport_send(t, &(struct iovec){ (void *)(uintptr_t)buf, len }, 1, -1);
}

/* ---- a peer that accepts one connection, and then echoes what it reads until the end ---- */

struct echo {
	pthread_t thread;
	int listen_fd;
	bool tcp;
	unsigned timeout_ms;
	int err;            /* of the accept */
	uint64_t accept_ns; /* how long that took */
};

static void echo_all(struct transport *t)
{
	uint8_t *buf = malloc(BIG);

	while (!transport_receive(t, buf, BIG, NULL) && !send_buf(t, buf, BIG)) {
	}
	free(buf);
}

static void *echo_main(void *arg)
{
	struct echo *e = arg;
	struct transport *t = NULL;
	int fd = accept4(e->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	uint64_t start = time_mono_ns();
	struct reason why = { "" };

	e->err = e->tcp ? transport_tcp_accept(fd, key, e->timeout_ms, &t, &why) : transport_unix_wrap(fd, "peer", &t);
	e->accept_ns = time_mono_ns() - start;
	CHECK(!e->err == !why.text[0]);
	if (!e->err)
		echo_all(t);
	transport_free(e->err ? NULL : t);
	return NULL;
}

static void echo_start(struct echo *e, int listen_fd, bool tcp)
{
	*e = (struct echo){ .listen_fd = listen_fd, .tcp = tcp, .timeout_ms = 2000 };
	pthread_create(&e->thread, NULL, echo_main, e);
}

static int echo_end(struct echo *e)
{
	pthread_join(e->thread, NULL);
	return e->err;
}

static int listen_tcp(const char *host, char ret_address[64])
{
	uint16_t port = 0;
	char text[64];
	int fd = -1;

	snprintf(text, sizeof(text), "%s:0", host);
	if (!CHECK(transport_tcp_listen(text, &fd, &port, NULL) == 0 && port))
		return -1;
	snprintf(ret_address, 64, "%s:%u", host, port);
	return fd;
}

static void check_echo(struct transport *t)
{
	uint8_t *out = noise(BIG), *in = malloc(BIG);
	struct iovec iov[3] = { { out, 5 }, { out + 5, 0 }, { out + 5, BIG - 5 } };

	CHECK(transport_send(t, iov, 3, -1) == 0);
	CHECK(transport_receive(t, in, 40, NULL) == 0 && transport_receive(t, in + 40, BIG - 40, NULL) == 0);
	CHECK(!memcmp(in, out, BIG));
	CHECK(t->sent == BIG && t->received == BIG);
	free(in);
	free(out);
}

static void check_send_file(struct transport *t)
{
	uint8_t *out = noise(BIG + 100), *in = malloc(BIG);
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(write(fd, out, BIG + 100) == BIG + 100);
	CHECK(transport_send_file(t, fd, 100, BIG) == 0);
	CHECK(transport_receive(t, in, BIG, NULL) == 0);
	CHECK(!memcmp(in, out + 100, BIG));
	CHECK(transport_send_file(t, fd, 200, BIG) == 0 &&
	      transport_receive(t, in, BIG, NULL) == 0); /* 100 bytes short */
	CHECK(!memcmp(in, out + 200, BIG - 100));
	for (size_t i = BIG - 100; i < BIG; i++)
		CHECK(in[i] == 0);
	close(fd);
	free(in);
	free(out);
}

static void test_tcp(const char *host)
{
	struct transport *t;
	struct reason why = { "" };
	char address[64];
	struct echo e;
	int fd = listen_tcp(host, address);

	echo_start(&e, fd, true);
	if (!CHECK(transport_tcp_connect(address, key, 2000, &t, &why) == 0))
		fprintf(stderr, "%s\n", why.text);
	CHECK(!t->ops->passes_fds && !strcmp(t->ops->name, "tcp") && strstr(t->peer, address));
	check_echo(t);
	check_send_file(t);
	CHECK(transport_send(t, &(struct iovec){ address, 1 }, 1, 0) == -EOPNOTSUPP);
	transport_free(t);
	CHECK(echo_end(&e) == 0);
	close(fd);
	CHECK(transport_tcp_connect(address, key, 2000, &t, &why) == -ECONNREFUSED && strstr(why.text, address));
}

static void test_unix(const char *path)
{
	struct reason why = { "" };
	struct transport *t;
	struct stat st;
	struct echo e;
	int fd, again;

	CHECK(transport_unix_connect(path, &t, &why) == -ECONNREFUSED && strstr(why.text, path));
	CHECK(transport_unix_listen(path, &fd, &why) == 0);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
	CHECK(transport_unix_listen(path, &again, &why) == -EADDRINUSE);
	close(accept(fd, NULL, NULL));
	echo_start(&e, fd, false);
	CHECK(transport_unix_connect(path, &t, &why) == 0);
	check_echo(t);
	check_send_file(t);
	transport_free(t);
	CHECK(echo_end(&e) == 0);
	close(fd);
	CHECK(transport_unix_connect(path, &t, &why) == -ECONNREFUSED);
	CHECK(transport_unix_listen(path, &fd, &why) == 0); /* over the stale one */
	close(fd);
	unlink(path);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	CHECK(transport_unix_listen(path, &fd, &why) == -EEXIST);
	unlink(path);
}

static void test_unix_paths(void)
{
	char path[400];
	int n = snprintf(path, sizeof(path), "%s/", dir);

	memset(path + n, 'd', 200);
	snprintf(path + n + 200, sizeof(path) - 200 - (size_t)n, "%s", "");
	CHECK(mkdir(path, 0700) == 0);
	snprintf(path + n + 200, sizeof(path) - 200 - (size_t)n, "/slabfsd.sock");
	test_unix(path);
	path[n + 200] = '\0';
	rmdir(path);
	snprintf(path, sizeof(path), "%s/sock", dir);
	test_unix(path);
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_fds(void)
{
	int sock[2], got, before = count_fds(), null = open("/dev/null", O_RDONLY);
	struct transport *a, *b;
	struct stat want, st;
	char buf[64] = { 0 };

	fstat(null, &want);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	CHECK(!transport_unix_wrap(sock[0], "a", &a));
	CHECK(!transport_unix_wrap(sock[1], "b", &b));
	CHECK(a->ops->passes_fds);
	for (int i = 0; i < 3; i++) {
		struct iovec iov[2] = { { buf, 40 }, { buf, 24 } };
		CHECK(transport_send(a, iov, 2, i == 1 ? -1 : null) == 0);
		got = -2;
		CHECK(transport_receive(b, buf, 40, i == 2 ? NULL : &got) == 0); /* the third is closed unseen */
		CHECK(transport_receive(b, buf, 24, NULL) == 0);
		if (i == 0)
			CHECK(got >= 0 && !fstat(got, &st) && st.st_rdev == want.st_rdev &&
			      fcntl(got, F_GETFD) == FD_CLOEXEC && !close(got));
		CHECK(i != 1 || got == -1);
	}
	transport_free(a);
	CHECK(transport_receive(b, buf, 1, NULL) == -ENODATA);
	CHECK(send_buf(b, buf, 1) == -ECONNRESET); /* and no SIGPIPE */
	transport_free(b);
	close(null);
	CHECK(count_fds() == before);
}

/* ---- key exchange ---- */

static int raw_connect(int listen_fd)
{
	struct sockaddr_storage to;
	socklen_t len = sizeof(to);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	getsockname(listen_fd, (struct sockaddr *)&to, &len);
	CHECK(!connect(fd, (struct sockaddr *)&to, len));
	return fd;
}

static void test_wrong_key(void)
{
	struct reason why = { "" };
	struct transport *t;
	char address[64];
	struct echo e;
	int fd = listen_tcp("127.0.0.1", address);

	echo_start(&e, fd, true);
	CHECK(transport_tcp_connect(address, other_key, 2000, &t, &why) == -EACCES && strstr(why.text, "key"));
	CHECK(echo_end(&e) == -EACCES);
	close(fd);
}

/* A stranger is sent away at once, and never sees a byte of a proof. */
static void test_garbage(void)
{
	static const char request[] = "GET / HTTP/1.1\r\n\r\n";
	char address[64], buf[256];
	struct echo e;
	int fd = listen_tcp("127.0.0.1", address), raw;

	echo_start(&e, fd, true);
	raw = raw_connect(fd);
	CHECK(send(raw, request, sizeof(request), 0) == sizeof(request));
	CHECK(echo_end(&e) == -EPROTO && e.accept_ns < 1000000000);
	CHECK(recv(raw, buf, sizeof(buf), 0) <= 0);
	close(raw);
	echo_start(&e, fd, true);
	raw = raw_connect(fd);
	CHECK(send(raw, "SLBK\1\0\0\0", 8, 0) == 8 && send(raw, buf, 32, 0) == 32);
	CHECK(recv(raw, buf, 40, MSG_WAITALL) == 40 && !memcmp(buf, "SLBK\1\0\0\0", 8));
	CHECK(send(raw, buf + 8, 32, 0) == 32); /* its own nonce is no proof */
	CHECK(echo_end(&e) == -EACCES);
	CHECK(recv(raw, buf, sizeof(buf), 0) <= 0);
	close(raw);
	close(fd);
}

static void test_stall(void)
{
	struct reason why = { "" };
	struct transport *t;
	char address[64];
	struct echo e;
	int fd = listen_tcp("127.0.0.1", address), raw;
	uint64_t start;

	e = (struct echo){ .listen_fd = fd, .tcp = true, .timeout_ms = 200 };
	pthread_create(&e.thread, NULL, echo_main, &e);
	raw = raw_connect(fd);
	CHECK(send(raw, "SLBK\1", 5, 0) == 5);
	CHECK(echo_end(&e) == -ETIMEDOUT && e.accept_ns >= 200000000 && e.accept_ns < 2000000000);
	close(raw);
	start = time_mono_ns(); /* nobody accepts: the kernel connects, the exchange stalls */
	CHECK(transport_tcp_connect(address, key, 200, &t, &why) == -ETIMEDOUT && why.text[0]);
	CHECK(time_mono_ns() - start < 2000000000);
	close(fd);
}

static void test_bad_addresses(void)
{
	struct reason why = { "" };
	struct transport *t;
	uint16_t port;
	int fd;

	CHECK(transport_tcp_connect("a:b:c", key, 100, &t, &why) == -EINVAL && why.text[0]);
	CHECK(transport_tcp_connect("127.0.0.1:99999", key, 100, &t, NULL) == -EINVAL);
	CHECK(transport_tcp_listen("", &fd, &port, &why) == -EINVAL);
}

/* ---- limits and doubles ---- */

static void *shut_main(void *arg)
{
	usleep(50000);
	transport_shutdown(arg);
	return NULL;
}

/* A receive that waits for ever is woken by a shutdown; limits end both directions. */
static void check_limits(struct transport *a, struct transport *b)
{
	uint8_t *buf = noise(BIG);
	pthread_t thread;

	CHECK(transport_limit(a, 100, 100) == 0);
	CHECK(transport_receive(a, buf, 1, NULL) == -ETIMEDOUT);
	CHECK(send_buf(a, buf, BIG) == -ETIMEDOUT); /* nobody reads */
	CHECK(transport_limit(a, 100, 0) == 0);
	pthread_create(&thread, NULL, shut_main, a);
	CHECK(transport_receive(a, buf, 1, NULL) == -ENODATA);
	pthread_join(thread, NULL);
	CHECK(send_buf(a, buf, 1) == -ECONNRESET);
	CHECK(transport_receive(b, buf, 1, NULL) == 0);
	transport_free(a);
	CHECK(transport_receive(b, buf, BIG, NULL) == -ECONNRESET);
	transport_free(b);
	free(buf);
}

static void *mem_echo_main(void *arg)
{
	echo_all(arg);
	transport_free(arg);
	return NULL;
}

static void test_mem(void)
{
	struct transport *a, *b;
	pthread_t thread;

	CHECK(!transport_mem_pair(&a, &b));
	pthread_create(&thread, NULL, mem_echo_main, b);
	check_echo(a);
	check_send_file(a);
	transport_free(a);
	pthread_join(thread, NULL);
	CHECK(!transport_mem_pair(&a, &b));
	check_limits(a, b);
}

static void test_limits(void)
{
	struct transport *a, *b;
	int sock[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	CHECK(!transport_unix_wrap(sock[0], "a", &a));
	CHECK(!transport_unix_wrap(sock[1], "b", &b));
	check_limits(a, b);
}

static void test_fault(void)
{
	uint8_t buf[64] = { 0 };

	for (uint64_t cut = 0; cut <= 60; cut++) {
		struct transport *a, *b, *f;
		uint64_t passed = 0;
		int err = 0;

		CHECK(!transport_mem_pair(&a, &b));
		CHECK(!transport_fault_wrap(a, cut, EIO, &f));
		while (!err) {
			err = send_buf(f, buf, 7);
			passed += err ? 0 : 7;
			if (err)
				break;
			CHECK(!send_buf(b, buf, 3));
			err = transport_receive(f, buf, 3, NULL);
			passed += err ? 0 : 3;
		}
		CHECK(err == -EIO && passed <= cut && cut - passed < 7);
		CHECK(send_buf(f, buf, 1) == -EIO && transport_receive(f, buf, 1, NULL) == -EIO);
		transport_free(f);
		transport_free(b);
	}
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!CHECK(mkdtemp(dir)))
		return 1;
	test_tcp("127.0.0.1");
	test_tcp("[::1]");
	test_tcp("localhost");
	test_unix_paths();
	test_fds();
	test_wrong_key();
	test_garbage();
	test_stall();
	test_bad_addresses();
	test_limits();
	test_mem();
	test_fault();
	char path[64];
	snprintf(path, sizeof(path), "%s/file", dir);
	unlink(path);
	rmdir(dir);
	return unit_result();
}
