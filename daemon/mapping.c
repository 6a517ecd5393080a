#include "mapping.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

/* What the running mapping_read of this thread may fault on, and where it then goes on. */
static __thread struct {
	const struct mapping *volatile mapping; /* the handler looks at it */
	sigjmp_buf back;
} guard;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	const struct mapping *m = guard.mapping;
	uintptr_t at = (uintptr_t)info->si_addr;

	(void)context;
	if (m && at >= (uintptr_t)m->start && at < (uintptr_t)m->start + m->pages_len)
		siglongjmp(guard.back, 1);
	signal(number, SIG_DFL); /* not ours: the instruction faults again, and ends the process */
}

int mapping_init(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

int mapping_open(int fd, uint64_t offset, uint64_t len, struct mapping *ret)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), before = offset % page;
	size_t pages_len = (size_t)(len + before);
	void *start = mmap(NULL, pages_len, PROT_READ, MAP_SHARED, fd, (off_t)(offset - before));

	if (start == MAP_FAILED)
		return -errno;
	*ret = (struct mapping){ (const uint8_t *)start + before, offset, len, start, pages_len };
	return 0;
}

void mapping_close(struct mapping *m)
{
	munmap(m->start, m->pages_len);
}

int mapping_read(const struct mapping *m, void (*fn)(void *arg), void *arg)
{
	if (sigsetjmp(guard.back, 1)) {
		guard.mapping = NULL;
		return -EIO;
	}
	guard.mapping = m;
	fn(arg);
	guard.mapping = NULL;
	return 0;
}
