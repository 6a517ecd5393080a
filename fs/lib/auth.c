#include "auth.h"

#include <poll.h>
#include <sodium.h>
#include <sys/socket.h>

#define AUTH_VERSION 1

struct auth_hello {
	uint8_t magic[4];
	struct le32 version;
	uint8_t nonce[32];
} __attribute__((packed));

struct auth_proof {
	uint8_t mac[32];
} __attribute__((packed));

_Static_assert(sizeof(struct auth_hello) == 40 && sizeof(struct auth_proof) == crypto_auth_BYTES, "what is sent");
_Static_assert(crypto_auth_KEYBYTES == 32, "the cluster key");

static const uint8_t magic[4] = { 'S', 'L', 'B', 'K' };

enum side { CLIENT, SERVER };

static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = events };
	uint64_t now = time_mono_ns();
	int n = now < deadline_ns ? poll(&p, 1, (int)div_up(deadline_ns - now, 1000000)) : 0;

	if (n == 0)
		return -ETIMEDOUT;
	return n < 0 && errno != EINTR ? -errno : 0;
}

static bool may_retry(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static int send_all(int fd, const void *buf, size_t len, uint64_t deadline_ns)
{
	int err = 0;

	for (size_t done = 0; !err && done < len;) {
		ssize_t n = send(fd, (const char *)buf + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0)
			done += (size_t)n;
		else if (may_retry())
			err = wait_for(fd, POLLOUT, deadline_ns);
		else
			err = errno == EPIPE ? -ECONNRESET : -errno;
	}
	return err;
}

static int receive_all(int fd, void *buf, size_t len, uint64_t deadline_ns)
{
	int err = 0;

	for (size_t done = 0; !err && done < len;) {
		ssize_t n = recv(fd, (char *)buf + done, len - done, MSG_DONTWAIT);
		if (n > 0)
			done += (size_t)n;
		else if (n == 0)
			err = -ECONNRESET;
		else if (may_retry())
			err = wait_for(fd, POLLIN, deadline_ns);
		else
			err = -errno;
	}
	return err;
}

static int io_failed(int err, struct reason *why)
{
	return reason_set(why, -err, "key exchange: %s", strerror(-err));
}

static int send_hello(int fd, struct auth_hello *ret, uint64_t deadline_ns, struct reason *why)
{
	struct auth_hello h = { .version = le32_of(AUTH_VERSION) };
	int err;

	memcpy(h.magic, magic, sizeof(magic));
	err = random_bytes(h.nonce, sizeof(h.nonce));
	if (!err)
		err = send_all(fd, &h, sizeof(h), deadline_ns);
	if (err)
		return io_failed(err, why);
	*ret = h;
	return 0;
}

/* The magic is looked at before anything else is waited for, so that a stranger is sent away at once. */
static int receive_hello(int fd, struct auth_hello *ret, uint64_t deadline_ns, struct reason *why)
{
	int err = receive_all(fd, ret->magic, sizeof(ret->magic), deadline_ns);

	if (!err && memcmp(ret->magic, magic, sizeof(magic)))
		return reason_set(why, EPROTO, "key exchange: the peer does not speak slabfs");
	if (!err)
		err = receive_all(fd, &ret->version, sizeof(*ret) - sizeof(ret->magic), deadline_ns);
	if (err)
		return io_failed(err, why);
	if (le32_get(ret->version) != AUTH_VERSION)
		return reason_set(why, EPROTO, "key exchange: the peer speaks version %u, this program %u",
				  le32_get(ret->version), AUTH_VERSION);
	return 0;
}

/* The labels differ, so that no proof of one side can be played back as the other's. */
static void prove(const uint8_t key[32], enum side who, const struct auth_hello *mine, const struct auth_hello *theirs,
		  struct auth_proof *ret)
{
	static const char labels[2][14] = { "slabfs client", "slabfs server" };
	uint8_t text[13 + 2 * sizeof(mine->nonce)];

	memcpy(text, labels[who], 13);
	memcpy(text + 13, mine->nonce, sizeof(mine->nonce));
	memcpy(text + 13 + sizeof(mine->nonce), theirs->nonce, sizeof(theirs->nonce));
	crypto_auth(ret->mac, text, sizeof(text), key);
}

static int send_proof(int fd, const uint8_t key[32], enum side who, const struct auth_hello *mine,
		      const struct auth_hello *theirs, uint64_t deadline_ns, struct reason *why)
{
	struct auth_proof proof;
	int err;

	prove(key, who, mine, theirs, &proof);
	err = send_all(fd, &proof, sizeof(proof), deadline_ns);
	return err ? io_failed(err, why) : 0;
}

/* who: the side whose proof it is. */
static int check_proof(int fd, const uint8_t key[32], enum side who, const struct auth_hello *mine,
		       const struct auth_hello *theirs, uint64_t deadline_ns, struct reason *why)
{
	struct auth_proof want, got;
	int err = receive_all(fd, &got, sizeof(got), deadline_ns);

	if (err == -ECONNRESET && who == SERVER)
		return reason_set(why, EACCES, "the peer does not accept our cluster key");
	if (err)
		return io_failed(err, why);
	prove(key, who, theirs, mine, &want);
	if (sodium_memcmp(&want, &got, sizeof(want)))
		return reason_set(why, EACCES, "the peer does not hold our cluster key");
	return 0;
}

int auth_client(int fd, const uint8_t key[32], uint64_t deadline_ns, struct reason *why)
{
	struct auth_hello mine, theirs;
	int err = send_hello(fd, &mine, deadline_ns, why);

	if (!err)
		err = receive_hello(fd, &theirs, deadline_ns, why);
	if (!err)
		err = send_proof(fd, key, CLIENT, &mine, &theirs, deadline_ns, why);
	return err ? err : check_proof(fd, key, SERVER, &mine, &theirs, deadline_ns, why);
}

int auth_server(int fd, const uint8_t key[32], uint64_t deadline_ns, struct reason *why)
{
	struct auth_hello mine, theirs;
	int err = receive_hello(fd, &theirs, deadline_ns, why);

	if (!err)
		err = send_hello(fd, &mine, deadline_ns, why);
	if (!err)
		err = check_proof(fd, key, CLIENT, &mine, &theirs, deadline_ns, why);
	return err ? err : send_proof(fd, key, SERVER, &mine, &theirs, deadline_ns, why);
}
