#include "client.h"
#include "peer.h"

#include <limits.h>
#include <signal.h>

static const uint8_t key[32] = { 4, 5, 6 };
static char dir[] = "/tmp/slab-client-XXXXXX";
static char unix_address[80];

/* ---- a client, and what its callbacks saw ---- */

struct seen {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned ups, downs, pushes;
	uint64_t push_id;
	char name[256];
	struct client *client;
	bool answer; /* pushes at once */
};

static void on_push(void *arg, uint64_t id, const struct wire_header *h, const void *body, const void *payload,
		    size_t len)
{
	struct seen *s = arg;
	const struct wire_inval *inval = body;

	CHECK(le16_get(h->type) == WIRE_INVAL && le64_get(inval->ino) == 5);
	pthread_mutex_lock(&s->lock);
	s->pushes++;
	s->push_id = id;
	memcpy(s->name, payload, len);
	s->name[len] = '\0';
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void on_state(void *arg, bool up, const struct wire_hello_reply *hello)
{
	struct seen *s = arg;

	CHECK(up == (hello != NULL) && (!hello || le32_get(hello->node_id) == 1));
	pthread_mutex_lock(&s->lock);
	s->ups += up;
	s->downs += !up;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void seen_await(struct seen *s, const unsigned *counter, unsigned n)
{
	pthread_mutex_lock(&s->lock);
	while (*counter < n)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static unsigned seen_now(struct seen *s, const unsigned *counter)
{
	pthread_mutex_lock(&s->lock);
	unsigned n = *counter;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static struct client *client_of(const char *address, unsigned n_connections, struct seen *seen)
{
	struct client_config config = { .address = address,
					.key = key,
					.hello = { .role = le32_of(WIRE_ROLE_MOUNT) },
					.name = "test",
					.n_connections = n_connections,
					.timeout_ms = 5000 };
	struct client *c = NULL;

	if (seen) {
		*seen = (struct seen){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
		config.push = on_push;
		config.state = on_state;
		config.arg = seen;
	}
	CHECK(client_new(&config, &c) == 0);
	return c;
}

/* ---- calls ---- */

struct reading {
	struct wire_part_read body;
	struct wire_part_read_reply reply;
	struct call call;
	uint8_t *buf;
	uint64_t offset;
	uint32_t length;
};

static void reading_init(struct reading *r, enum peer_does what, uint64_t offset, uint32_t length)
{
	*r = (struct reading){ .offset = offset, .length = length, .buf = malloc(length + 1) };
	memset(r->buf, 0, length + 1);
	r->body.part.index = le64_of(what);
	r->body.offset = le64_of(offset);
	r->body.length = le32_of(length);
	r->call = (struct call){ .type = WIRE_PART_READ,
				 .body = &r->body,
				 .body_bytes = sizeof(r->body),
				 .reply_body = &r->reply,
				 .reply_payload = r->buf,
				 .reply_cap = length };
}

static bool reading_is_right(const struct reading *r)
{
	if (r->call.reply_bytes != r->length || r->call.reply_fd != -1)
		return false;
	for (uint32_t i = 0; i < r->length; i++)
		if (r->buf[i] != peer_byte(r->offset + i))
			return false;
	return true;
}

static int read_once(struct client *c, enum peer_does what, uint64_t offset, uint32_t length)
{
	struct reading r;
	int err;

	reading_init(&r, what, offset, length);
	err = client_call(c, &r.call);
	if (!err)
		CHECK(reading_is_right(&r));
	else
		CHECK(r.call.why.text[0]);
	free(r.buf);
	return err;
}

static int ping(struct client *c)
{
	struct call call = { .type = WIRE_PING };

	return client_call(c, &call);
}

static void test_calls(struct client *c)
{
	struct wire_hello_reply hello;
	uint64_t sent, received;
	struct reading r;

	CHECK(ping(c) == 0 && client_connected(c) && !client_unreachable(c));
	CHECK(client_hello(c, &hello, NULL) == 0 && le32_get(hello.node_id) == 1);
	CHECK(read_once(c, PEER_ANSWERS, 11, 0) == 0);
	CHECK(read_once(c, PEER_ANSWERS, 12, 100) == 0);
	CHECK(read_once(c, PEER_ANSWERS, 13, WIRE_DATA_MAX) == 0);

	reading_init(&r, PEER_FAILS, 0, 10);
	CHECK(client_call(c, &r.call) == -ENOENT && !strcmp(r.call.why.text, "nothing here"));
	free(r.buf);
	reading_init(&r, PEER_ANSWERS, 0, 3000);
	r.call.reply_cap = 2999;
	CHECK(client_call(c, &r.call) == -EMSGSIZE && r.buf[0] == 0);
	r.call.alloc = true;
	CHECK(client_call(c, &r.call) == 0 && r.call.reply_bytes == 3000 && r.call.reply_payload != r.buf);
	CHECK(((uint8_t *)r.call.reply_payload)[2999] == peer_byte(2999));
	free(r.call.reply_payload);
	free(r.buf);
	CHECK(ping(c) == 0 && client_losses(c) == 0);
	client_traffic(c, &sent, &received);
	CHECK(received > WIRE_DATA_MAX && sent > 400 && sent < 10000);
}

static void test_write(struct client *c)
{
	static char big[WIRE_DATA_MAX];
	struct wire_part_write body = { 0 };
	struct call call = { .type = WIRE_PART_WRITE,
			     .body = &body,
			     .body_bytes = sizeof(body),
			     .payload = { big, NULL, big },
			     .payload_bytes = { 1 << 20, 0, sizeof(big) - (1 << 20) } };

	CHECK(client_call(c, &call) == 0);
	call.payload_bytes[1] = 1;
	call.payload[1] = big;
	CHECK(client_call(c, &call) == -EMSGSIZE && call.why.text[0]);
}

static void test_fd(struct client *c)
{
	struct wire_part_open body = { 0 };
	struct wire_part_open_reply reply = { 0 };
	struct call call = { .type = WIRE_PART_OPEN, .body = &body, .body_bytes = sizeof(body), .reply_body = &reply };

	for (int i = 0; i < 3; i++) {
		CHECK(client_call(c, &call) == 0 && call.reply_fd >= 0 && le64_get(reply.version) == 3);
		CHECK(fcntl(call.reply_fd, F_GETFD) == FD_CLOEXEC && !close(call.reply_fd));
	}
}

static void *reader_main(void *arg)
{
	uint64_t seed = (uintptr_t)pthread_self();

	for (int i = 0; i < 100; i++)
		CHECK(read_once(arg, PEER_ANSWERS, unit_random(&seed) % 1000, (uint32_t)(unit_random(&seed) % 70000)) ==
		      0);
	return NULL;
}

static void test_concurrent(struct client *c)
{
	pthread_t threads[8];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_create(&threads[i], NULL, reader_main, c);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	CHECK(client_losses(c) == 0);
}

static void test_out_of_order(struct client *c)
{
	struct reading r[10];
	int err;

	for (uint32_t i = 0; i < 10; i++) {
		reading_init(&r[i], i < 9 ? PEER_HOLDS : PEER_RELEASES, i, 1000 * i);
		CHECK(client_start(c, &r[i].call) == 0);
		if (i == 4)
			CHECK(!client_wait_for(c, &r[0].call, 0, &err) && !client_wait_for(c, &r[0].call, 20, &err));
	}
	for (uint32_t i = 0; i < 10; i++) {
		CHECK(client_wait_for(c, &r[i].call, 5000, &err) && err == 0 && reading_is_right(&r[i]));
		free(r[i].buf);
	}
}

static void test_over(const char *address)
{
	struct peer p;
	struct client *one, *four;

	peer_start(&p, address, key);
	one = client_of(p.address, 1, NULL);
	four = client_of(p.address, 4, NULL);
	test_calls(one);
	test_write(one);
	test_out_of_order(one);
	test_concurrent(one);
	test_concurrent(four);
	CHECK(client_is_local(one) == !p.tcp);
	if (!p.tcp)
		test_fd(one);
	client_free(one);
	client_free(four);
	CHECK(p.hellos > 2 && p.hellos <= 5);
	peer_stop(&p);
}

/* ---- deadlines ---- */

/* Others are answered meanwhile: the peer is alive, and the late reply is thrown away. */
static void test_timeout_alive(void)
{
	struct peer p;
	struct client *c;
	struct reading r;
	int err;

	peer_start(&p, unix_address, key);
	c = client_of(p.address, 1, NULL);
	reading_init(&r, PEER_HOLDS, 0, 50000);
	r.call.timeout_ms = 150;
	CHECK(client_start(c, &r.call) == 0);
	peer_await(&p, &p.holding, 1);
	CHECK(ping(c) == 0);
	err = client_wait(c, &r.call);
	CHECK(err == -ETIMEDOUT && strstr(r.call.why.text, "PART_READ"));
	free(r.buf); /* a late write would be seen by the sanitizer */
	CHECK(read_once(c, PEER_RELEASES, 3, 10) == 0);
	CHECK(client_losses(c) == 0);
	client_free(c);
	peer_stop(&p);
}

/* Nothing at all comes: the connection is given up and made anew. */
static void test_timeout_silent(void)
{
	struct peer p;
	struct client *c;
	struct reading r, other;

	peer_start(&p, unix_address, key);
	c = client_of(p.address, 1, NULL);
	reading_init(&r, PEER_HOLDS, 0, 10);
	reading_init(&other, PEER_HOLDS, 0, 10);
	other.call.timeout_ms = UINT_MAX;
	r.call.timeout_ms = 100;
	CHECK(client_start(c, &other.call) == 0);
	CHECK(client_call(c, &r.call) == -ETIMEDOUT);
	CHECK(client_wait(c, &other.call) == -ECONNRESET && other.call.why.text[0]);
	CHECK(client_losses(c) == 1);
	CHECK(ping(c) == 0 && p.hellos == 2);
	free(r.buf);
	free(other.buf);
	client_free(c);
	peer_stop(&p);
}

/* The reply is coming in when the call is given up: the buffer is let go before the wait returns. */
static void test_half(bool cancel, bool goes_on)
{
	struct peer p;
	struct client *c;
	struct reading r;
	uint64_t start;

	peer_start(&p, unix_address, key);
	c = client_of(p.address, 1, NULL);
	reading_init(&r, PEER_HALVES, 0, 4 << 20);
	r.call.timeout_ms = cancel || goes_on ? 5000 : 500;
	CHECK(client_start(c, &r.call) == 0);
	for (uint64_t received = 0, sent; received < 1 << 20; usleep(1000))
		client_traffic(c, &sent, &received);
	if (cancel)
		client_cancel(c, &r.call);
	if (goes_on)
		peer_go(&p);
	start = time_mono_ns();
	CHECK(client_wait(c, &r.call) == (goes_on && !cancel ? 0 : cancel ? -ECANCELED : -ETIMEDOUT));
	CHECK(time_mono_ns() - start < 2000000000);
	free(r.buf);
	peer_go(&p);
	CHECK(ping(c) == 0);
	CHECK(cancel ? client_losses(c) <= 1 : client_losses(c) == !goes_on);
	client_free(c);
	peer_stop(&p);
}

struct cancelling {
	struct client *c;
	struct call *call;
};

static void *cancel_main(void *arg)
{
	struct cancelling *a = arg;

	usleep(20000);
	client_cancel(a->c, a->call);
	client_cancel(a->c, a->call);
	return NULL;
}

static void test_cancel(void)
{
	struct peer p;
	struct client *c;
	struct reading r;
	pthread_t thread;

	peer_start(&p, unix_address, key);
	c = client_of(p.address, 1, NULL);
	reading_init(&r, PEER_HOLDS, 0, 100);
	r.call.timeout_ms = UINT_MAX;
	CHECK(client_start(c, &r.call) == 0);
	pthread_create(&thread, NULL, cancel_main, &(struct cancelling){ c, &r.call });
	CHECK(client_wait(c, &r.call) == -ECANCELED);
	pthread_join(thread, NULL);
	client_cancel(c, &r.call); /* it is over: nothing happens */
	peer_await(&p, &p.cancels, 1);
	CHECK(read_once(c, PEER_RELEASES, 0, 10) == 0 && client_losses(c) == 0);
	free(r.buf);
	client_free(c);
	CHECK(p.cancels == 1);
	peer_stop(&p);
}

/* ---- loss ---- */

static void test_bad_replies(void)
{
	struct peer p;
	struct client *c;

	peer_start(&p, unix_address, key);
	c = client_of(p.address, 1, NULL);
	CHECK(read_once(c, PEER_CUTS, 0, 10) == -ECONNRESET);
	CHECK(read_once(c, PEER_GARBLES, 0, 10) == -ECONNRESET);
	CHECK(ping(c) == 0 && client_losses(c) == 2);
	client_free(c);
	peer_stop(&p);
}

static void test_refused(void)
{
	struct wire_hello_reply hello;
	struct reason why = { "" };
	struct peer p;
	struct client *c;

	peer_start(&p, unix_address, key);
	p.refuse = true;
	c = client_of(p.address, 1, NULL);
	CHECK(client_hello(c, &hello, &why) == -EPERM && strstr(why.text, "not you"));
	CHECK(ping(c) == -EPERM && p.hellos == 1); /* not asked again so soon */
	CHECK(client_unreachable(c) && !client_connected(c));
	client_free(c);
	peer_stop(&p);
}

static void test_return(const char *address)
{
	struct peer p;
	struct client *c;
	struct seen seen;

	peer_start(&p, address, key);
	char again[128];
	snprintf(again, sizeof(again), "%s", p.address);
	c = client_of(again, 2, &seen);
	CHECK(seen_now(&seen, &seen.ups) == 0 && ping(c) == 0 && seen_now(&seen, &seen.ups) == 1);
	peer_stop(&p); /* noticed with nothing in flight */
	seen_await(&seen, &seen.downs, 1);
	CHECK(ping(c) == -ECONNREFUSED && client_unreachable(c));
	peer_start(&p, again, key);
	seen_await(&seen, &seen.ups, 2); /* without a call */
	CHECK(ping(c) == 0 && read_once(c, PEER_ANSWERS, 0, 100) == 0);
	client_free(c);
	CHECK(seen.ups == 2 && seen.downs == 2);
	peer_stop(&p);
}

/* The connection breaks at every byte around the frames of a few calls: errors, never a hang or a wrong answer. */
static void test_faults(void)
{
	unsigned good = 0, bad = 0;
	struct peer p;

	peer_start(&p, unix_address, key);
	for (uint64_t after = 1; after < 800; after += 15) {
		struct client *c = client_of(p.address, 1, NULL);
		pthread_mutex_lock(&p.lock);
		bool full = p.n_conns > PEER_CONNS - 4;
		p.fault_after = after;
		pthread_mutex_unlock(&p.lock);
		if (full) {
			peer_stop(&p);
			peer_start(&p, unix_address, key);
			p.fault_after = after;
		}
		int err = read_once(c, PEER_ANSWERS, after, 300);
		CHECK(err == 0 || err == -ECONNRESET);
		good += !err;
		bad += err != 0;
		client_free(c);
	}
	CHECK(good > 5 && bad > 5);
	peer_stop(&p);
}

static void *waiter_main(void *arg)
{
	struct cancelling *a = arg;

	CHECK(client_wait(a->c, a->call) == -ECANCELED);
	return NULL;
}

static void test_free(void)
{
	struct peer p;
	struct client *c;
	struct reading r;
	pthread_t thread;

	peer_start(&p, unix_address, key);
	c = client_of(p.address, 3, NULL);
	client_free(c);
	client_free(NULL);
	c = client_of(p.address, 3, NULL);
	reading_init(&r, PEER_HOLDS, 0, 100);
	CHECK(client_start(c, &r.call) == 0);
	pthread_create(&thread, NULL, waiter_main, &(struct cancelling){ c, &r.call });
	peer_await(&p, &p.holding, 1);
	client_free(c);
	pthread_join(thread, NULL);
	free(r.buf);
	peer_stop(&p);
}

/* ---- pushes ---- */

static void test_push(void)
{
	struct peer p;
	struct client *c;
	struct seen seen;
	uint64_t old;

	peer_start(&p, unix_address, key);
	c = client_of(p.address, 2, &seen);
	CHECK(ping(c) == 0);
	peer_push(&p, 0, 77, "temps");
	seen_await(&seen, &seen.pushes, 1);
	CHECK(!strcmp(seen.name, "temps") && p.acks == 0);
	CHECK(ping(c) == 0);
	client_push_done(c, seen.push_id);
	peer_await(&p, &p.acks, 1);
	CHECK(p.last_ack == 77);
	client_push_done(c, seen.push_id); /* once is enough */
	peer_push(&p, 0, 0, "");
	seen_await(&seen, &seen.pushes, 2);
	old = seen.push_id;
	CHECK(read_once(c, PEER_CUTS, 0, 1) == -ECONNRESET);
	seen_await(&seen, &seen.ups, 2);
	client_push_done(c, old); /* of a connection that is gone */
	CHECK(ping(c) == 0 && p.acks == 1);
	client_free(c);
	peer_stop(&p);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!CHECK(mkdtemp(dir)))
		return 1;
	snprintf(unix_address, sizeof(unix_address), "unix:%s/sock", dir);
	test_over(unix_address);
	test_over("127.0.0.1:0");
	test_timeout_alive();
	test_timeout_silent();
	test_half(false, false);
	test_half(true, false);
	test_half(true, true);
	test_half(false, true);
	test_cancel();
	test_bad_replies();
	test_refused();
	test_return(unix_address);
	test_return("127.0.0.1:0");
	test_faults();
	test_free();
	test_push();
	unlink(unix_address + 5);
	rmdir(dir);
	return unit_result();
}
