/* unit.h - the check of the unit tests: a failed CHECK is printed and remembered, and the test goes on.
 *
 * A test's main ends with `return unit_result();`, which is 1 after any failed CHECK.  Any thread may check.
 */
#ifndef SLAB_UNIT_H
#define SLAB_UNIT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static unsigned unit_failures;

static inline bool unit_check(bool ok, const char *what, const char *file, int line)
{
	if (!ok && __atomic_add_fetch(&unit_failures, 1, __ATOMIC_RELAXED) <= 50)
		fprintf(stderr, "%s:%d: CHECK(%s) failed\n", file, line, what);
	return ok;
}

/* Also the value of the condition, so that a test can leave what makes no sense to go on with. */
#define CHECK(cond) unit_check((cond), #cond, __FILE__, __LINE__)

static inline int unit_result(void)
{
	if (unit_failures)
		fprintf(stderr, "%u checks failed\n", unit_failures);
	return unit_failures != 0;
}

/* Random numbers that are the same in every run (xorshift64*, Vigna 2016). */
static inline uint64_t unit_random(uint64_t *state)
{
	uint64_t x = *state ? *state : UINT64_C(0x9e3779b97f4a7c15);

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
