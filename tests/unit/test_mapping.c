#include "mapping.h"
#include "unit.h"

#include <stdio.h>
#include <sys/mman.h>

#define BYTES (1u << 20)

struct summing {
	const struct mapping *m;
	uint64_t sum;
};

static void add_all(void *arg)
{
	struct summing *s = arg;

	for (uint64_t i = 0; i < s->m->len; i++)
		s->sum += s->m->base[i];
}

static int ones_file(void)
{
	static uint8_t ones[BYTES];
	FILE *f = tmpfile();

	memset(ones, 1, sizeof(ones));
	CHECK(f && fwrite(ones, 1, sizeof(ones), f) == sizeof(ones) && fflush(f) == 0);
	return fileno(f);
}

static void test_reads_from_any_offset(void)
{
	int fd = ones_file();
	struct mapping m;
	struct summing s = { &m, 0 };

	CHECK(mapping_open(fd, 5000, 70000, &m) == 0);
	CHECK(mapping_read(&m, add_all, &s) == 0 && s.sum == 70000);
	mapping_close(&m);
}

static void test_a_file_that_is_cut_is_an_error(void)
{
	int fd = ones_file();
	struct mapping m;
	struct summing s = { &m, 0 };

	CHECK(mapping_open(fd, 0, BYTES, &m) == 0);
	CHECK(ftruncate(fd, 8192) == 0);
	for (int again = 0; again < 3; again++)
		CHECK(mapping_read(&m, add_all, &s) == -EIO);
	mapping_close(&m);
	CHECK(mapping_open(fd, 0, 8192, &m) == 0);
	s.sum = 0;
	CHECK(mapping_read(&m, add_all, &s) == 0 && s.sum == 8192);
	mapping_close(&m);
}

int main(void)
{
	CHECK(mapping_init() == 0);
	test_reads_from_any_offset();
	test_a_file_that_is_cut_is_an_error();
	return unit_result();
}
