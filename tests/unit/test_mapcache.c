#include "mapcache.h"
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

#define BYTES 65536

static int file_of(char byte, size_t len)
{
	char bytes[BYTES];
	FILE *f = tmpfile();

	memset(bytes, byte, sizeof(bytes));
	CHECK(f && fwrite(bytes, 1, len, f) == len && fflush(f) == 0);
	return fileno(f);
}

static void test_a_file_is_mapped_once(void)
{
	const struct mapping *a, *b, *other;
	struct mapcache *c;
	int fd = file_of(1, BYTES), fd2 = file_of(2, 4096);

	CHECK(mapcache_new(1 << 20, &c) == 0);
	CHECK(mapcache_get(c, fd, &a) == 0 && mapcache_get(c, fd, &b) == 0 && a == b);
	CHECK(a->len == BYTES && a->base[0] == 1 && a->base[BYTES - 1] == 1);
	CHECK(mapcache_get(c, fd2, &other) == 0 && other->base[4095] == 2);
	mapcache_put(c, a);
	mapcache_put(c, b);
	mapcache_put(c, other);
	CHECK(mapcache_get(c, fd, &b) == 0 && a == b);
	mapcache_put(c, b);
	mapcache_free(c);
}

static void test_a_file_that_changed_its_size_is_mapped_anew(void)
{
	const struct mapping *a, *b;
	struct mapcache *c;
	int fd = file_of(1, BYTES);

	CHECK(mapcache_new(1 << 20, &c) == 0);
	CHECK(mapcache_get(c, fd, &a) == 0);
	CHECK(ftruncate(fd, 4096) == 0);
	CHECK(mapcache_get(c, fd, &b) == 0 && a != b && b->len == 4096 && b->base[4095] == 1);
	mapcache_put(c, a);
	mapcache_put(c, b);
	mapcache_free(c);
}

static void test_beyond_the_limit_nothing_is_kept(void)
{
	const struct mapping *a, *b;
	struct mapcache *c;
	int fd = file_of(1, BYTES), fd2 = file_of(3, BYTES);

	CHECK(mapcache_new(BYTES, &c) == 0);
	CHECK(mapcache_get(c, fd, &a) == 0 && mapcache_get(c, fd2, &b) == 0);
	CHECK(a->base[7] == 1 && b->base[7] == 3);
	mapcache_put(c, b);
	mapcache_put(c, a);
	mapcache_free(c);
}

static struct mapcache *shared;
static int shared_fds[8];

static void *hammer(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	for (int i = 0; i < 2000; i++) {
		const struct mapping *m;
		unsigned k = (unsigned)(unit_random(&seed) % ARRAY_LEN(shared_fds));
		CHECK(mapcache_get(shared, shared_fds[k], &m) == 0 && m->base[i] == k);
		mapcache_put(shared, m);
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t threads[4];

	CHECK(mapcache_new(5 * BYTES, &shared) == 0);
	for (unsigned k = 0; k < ARRAY_LEN(shared_fds); k++)
		shared_fds[k] = file_of((char)k, BYTES);
	for (uintptr_t i = 0; i < ARRAY_LEN(threads); i++)
		CHECK(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)) == 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	mapcache_free(shared);
}

int main(void)
{
	test_a_file_is_mapped_once();
	test_a_file_that_changed_its_size_is_mapped_anew();
	test_beyond_the_limit_nothing_is_kept();
	test_threads();
	return unit_result();
}
