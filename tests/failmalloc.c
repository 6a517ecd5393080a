/* failmalloc.c - preloaded into a program under test: allocations that its own code asks for fail, those of its libraries do not.
 *
 * FAILMALLOC names a file of one uint32_t that a test may change at any time: 0: nothing fails; n: every n-th call of malloc, calloc,
 * realloc and strdup from the program itself does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static volatile const uint32_t *every;
static uintptr_t text_start, text_end;
static atomic_uint calls;

/* The first object is the program. */
static int find_program(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		if (h->p_type == PT_LOAD && (h->p_flags & PF_X)) {
			text_start = info->dlpi_addr + h->p_vaddr;
			text_end = text_start + h->p_memsz;
		}
	}
	return 1;
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("FAILMALLOC");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*every), PROT_READ, MAP_SHARED, fd, 0);

	dl_iterate_phdr(find_program, NULL);
	if (p != MAP_FAILED)
		every = p;
}

static int fails(const void *caller)
{
	uint32_t n = every ? *every : 0;

	if (n == 0 || (uintptr_t)caller < text_start || (uintptr_t)caller >= text_end ||
	    atomic_fetch_add(&calls, 1) % n != n - 1)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}

char *strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *copy = fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);

	return copy ? memcpy(copy, s, n) : NULL;
}
