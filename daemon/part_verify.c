/* Comparing blocks with their sums.  A block stays verified while the file is as we left it (size and ctime) and its pages have
 * not left memory. */
#include "part.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define VERIFY_BLOCKS 1024                 /* hashed between two looks at the lock: 64 MiB */
#define RESIDENT_BYTES (UINT64_C(1) << 28) /* mapped at a time to ask which pages are in memory */

/* cachestat(2), of Linux 6.5 and later: its layout and number are the same on all architectures, and C libraries are late with it. */
#define CACHESTAT_NUMBER 451
struct cache_range {
	uint64_t offset, len;
};
struct cache_state {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* Whether all pages are in memory, by the one quick call; false also when the kernel does not know it. */
static bool all_cached(int fd, uint64_t offset, uint64_t len, uint64_t n_pages)
{
	struct cache_range range = { offset, len };
	struct cache_state st;

	return syscall(CACHESTAT_NUMBER, fd, &range, &st, 0) == 0 && st.cached >= n_pages;
}

static bool block_resident(const unsigned char *pages, size_t n_pages)
{
	for (size_t i = 0; i < n_pages; i++)
		if (!(pages[i] & 1))
			return false;
	return true;
}

/* Adds to `todo` the blocks of [first, end) that are not wholly in memory; all of them when that cannot be told. */
static void add_absent(struct bits *todo, int fd, uint64_t bytes, uint64_t first, uint64_t end)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), per_block = SUMS_BLOCK_BYTES / page;
	uint64_t offset = first * SUMS_BLOCK_BYTES, len = MIN(end * SUMS_BLOCK_BYTES, bytes) - offset;
	size_t n_pages = (size_t)div_up(len, page);

	if (all_cached(fd, offset, len, n_pages))
		return;
	AUTO_FREE unsigned char *pages = calloc(n_pages, 1);
	void *map = pages ? mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)offset) : MAP_FAILED;
	if (map != MAP_FAILED) {
		if (mincore(map, len, pages) < 0)
			memset(pages, 0, n_pages);
		munmap(map, len);
	}
	for (uint64_t b = first; b < end; b++) {
		size_t at = (size_t)(b - first) * per_block;
		if (map == MAP_FAILED || !block_resident(pages + at, MIN(per_block, n_pages - at)))
			bits_set(todo, b);
	}
}

int part_mismatch_locked(struct part *p, uint64_t block, struct reason *why)
{
	int err;

	if (!p->late)
		return part_quarantine_locked(p, why, "block %llu: checksum mismatch", (unsigned long long)block);
	p->dirty_all = true;
	if (p->state == PART_OPEN)
		return -EAGAIN;
	p->state = PART_OPEN;
	err = part_seal_locked(p, why);
	return err ? err : -EAGAIN;
}

/* The file must be as we left it; another ctime means that all must be compared again. */
static int check_file_locked(struct part *p, int fd, struct reason *why)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return part_fail(p, -errno, "stat", why);
	if ((uint64_t)st.st_size != p->bytes && p->late)
		return part_mismatch_locked(p, 0, why);
	if ((uint64_t)st.st_size != p->bytes)
		return part_quarantine_locked(p, why, "%llu bytes long; %llu were sealed",
					      (unsigned long long)st.st_size, (unsigned long long)p->bytes);
	if (memcmp(&st.st_ctim, &p->ctime, sizeof(p->ctime)) != 0) {
		bits_clear_all(&p->verified);
		p->ctime = st.st_ctim;
		p->epoch++;
	}
	return 0;
}

void part_note_verified_locked(struct part *p, int fd, uint64_t first, size_t n)
{
	struct stat st;

	if (bits_reserve(&p->verified, first + n) < 0 || fstat(fd, &st) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		bits_set(&p->verified, first + i);
	p->ctime = st.st_ctim;
}

static int choose_blocks_locked(struct part *p, int fd, uint64_t first, uint64_t end, struct bits *todo)
{
	const uint64_t step = RESIDENT_BYTES / SUMS_BLOCK_BYTES;
	int err = bits_reserve(todo, end);

	if (!err)
		err = bits_reserve(&p->verified, end);
	if (err)
		return err;
	for (uint64_t b = first; b < end; b++)
		if (!bits_get(&p->verified, b))
			bits_set(todo, b);
	for (uint64_t b = first; b < end; b += step)
		add_absent(todo, fd, p->bytes, b, MIN(b + step, end));
	return 0;
}

/* Compares n computed sums with those of the file. */
static int compare(struct store *s, int data, int sum, uint64_t bytes, uint64_t first, size_t n, size_t *ret_wrong)
{
	AUTO_FREE struct le64 *now = malloc(2 * n * sizeof(*now));
	struct le64 *then = now ? now + n : NULL;
	int err = now ? sums_hash(s->cores, data, bytes, first, n, now) : -ENOMEM;

	if (!err)
		err = sums_read(sum, first, n, then);
	for (*ret_wrong = 0; !err && *ret_wrong < n; ++*ret_wrong)
		if (le64_get(now[*ret_wrong]) != le64_get(then[*ret_wrong]))
			break;
	return err;
}

static int verify_run_locked(struct part *p, int data, int sum, uint64_t first, size_t n, struct reason *why)
{
	uint64_t epoch = p->epoch, bytes = p->bytes;
	size_t wrong;
	int err;

	pthread_mutex_unlock(&p->lock);
	err = compare(p->store, data, sum, bytes, first, n, &wrong);
	pthread_mutex_lock(&p->lock);
	if (p->epoch != epoch)
		return -EAGAIN;
	if (err == -ENODATA)
		return part_quarantine_locked(p, why, "shorter than it was when it was sealed");
	if (err)
		return part_fail(p, err, "read", why);
	if (wrong < n)
		return part_mismatch_locked(p, first + wrong, why);
	for (size_t i = 0; i < n && bits_reserve(&p->verified, first + n) == 0; i++)
		bits_set(&p->verified, first + i);
	return 0;
}

/* The sums, which must be those of the last seal: somebody may have put other files in the place of ours. */
static int open_sums_locked(struct part *p, struct reason *why)
{
	struct sums_header h = { 0 };
	struct reason detail = { "" };
	int fd = part_open_file(p, ".sum", O_RDONLY | O_NONBLOCK);
	int err = fd < 0 ? fd : sums_read_header(fd, &h, &detail);

	if (err == -ENOENT)
		err = part_quarantine_locked(p, why, "its checksum file is gone");
	else if (err == -EBADMSG || err == -ENODATA)
		err = part_quarantine_locked(p, why, "%s",
					     detail.text[0] ? detail.text : "its checksum file is not one");
	else if (err)
		err = part_fail(p, err, "read of its checksum file", why);
	else if (h.id.object != p->id.object || h.id.index != p->id.index)
		err = part_quarantine_locked(p, why, "its checksum file is that of object %llu partition %llu",
					     (unsigned long long)h.id.object, (unsigned long long)h.id.index);
	else if (p->state == PART_SEALED && h.version != p->version)
		err = part_quarantine_locked(p, why, "an older copy: version %llu instead of %llu",
					     (unsigned long long)h.version, (unsigned long long)p->version);
	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

int part_verify_locked(struct part *p, int fd, uint64_t offset, uint64_t len, struct reason *why)
{
	AUTO_CLOSE int sum = -1;
	struct bits todo = { 0 };
	uint64_t first, end, to;
	size_t n;
	int err;

	if (p->state != PART_SEALED)
		return 0;
	err = check_file_locked(p, fd, why);
	if (err || offset >= p->bytes || len == 0)
		return err;
	to = len > p->bytes - offset ? p->bytes : offset + len;
	first = offset / SUMS_BLOCK_BYTES;
	end = div_up(to, SUMS_BLOCK_BYTES);
	err = choose_blocks_locked(p, fd, first, end, &todo);
	if (err)
		err = part_fail(p, err, "cannot be verified", why);
	for (; !err && bits_next_run(&todo, &first, end, VERIFY_BLOCKS, &n); first += n) {
		if (sum < 0)
			sum = open_sums_locked(p, why);
		err = sum < 0 ? sum : verify_run_locked(p, fd, sum, first, n, why);
	}
	bits_fini(&todo);
	return err;
}

int part_scrub_locked(struct part *p, int fd, uint64_t offset, uint64_t len, struct reason *why)
{
	AUTO_CLOSE int sum = part_open_file(p, ".sum", O_RDONLY | O_NONBLOCK);
	uint64_t first = offset / SUMS_BLOCK_BYTES, end = div_up(offset + len, SUMS_BLOCK_BYTES);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	bool hot = all_cached(fd, offset, len, (size_t)div_up(len, page));
	int err;

	if (p->state != PART_SEALED)
		return 0;
	posix_fadvise(fd, (off_t)offset, (off_t)len, POSIX_FADV_DONTNEED);
	if (sum >= 0)
		posix_fadvise(sum, 0, 0, POSIX_FADV_DONTNEED);
	for (uint64_t b = first; b < end; b++)
		bits_clear(&p->verified, b);
	err = part_verify_locked(p, fd, offset, len, why);
	if (!hot)
		posix_fadvise(fd, (off_t)offset, (off_t)len, POSIX_FADV_DONTNEED);
	return err;
}

int part_verify_clean_locked(struct part *p, int fd, struct reason *why)
{
	AUTO_CLOSE int sum = -1;
	uint64_t first = 0, end = sums_blocks(p->bytes);
	struct bits todo = { 0 };
	size_t n, wrong;
	int err = 0;

	if (p->state == PART_MISSING || p->dirty_all || part_has_descriptors_locked(p))
		return 0;
	sum = open_sums_locked(p, why);
	if (sum < 0)
		return sum;
	if (p->state == PART_SEALED)
		err = check_file_locked(p, fd, why);
	if (!err && choose_blocks_locked(p, fd, 0, end, &todo) < 0)
		err = reason_set(why, ENOMEM, "no memory to verify with");
	for (uint64_t b = 0; !err && b < end; b++)
		if (bits_get(&p->dirty, b))
			bits_clear(&todo, b);
	for (; !err && bits_next_run(&todo, &first, end, VERIFY_BLOCKS, &n); first += n) {
		err = compare(p->store, fd, sum, p->bytes, first, n, &wrong);
		if (err && err != -ENODATA)
			err = part_fail(p, err, "read", why);
		else if (err || wrong < n)
			err = part_mismatch_locked(p, first + (err ? 0 : wrong), why);
		for (size_t i = 0; !err && i < n; i++)
			bits_set(&p->verified, first + i);
	}
	bits_fini(&todo);
	return err == -EAGAIN ? 0 : err; /* it will be sealed whole */
}

int part_verify_edge_locked(struct part *p, int fd, uint64_t offset, struct reason *why)
{
	uint64_t block = offset / SUMS_BLOCK_BYTES;
	AUTO_CLOSE int sum = -1;
	size_t wrong;
	int err;

	if (block >= sums_blocks(p->bytes) || p->dirty_all || bits_get(&p->dirty, block) ||
	    part_has_descriptors_locked(p))
		return 0;
	sum = part_open_file(p, ".sum", O_RDONLY);
	if (sum < 0)
		return part_fail(p, sum, "open of its checksum file", why);
	err = compare(p->store, fd, sum, p->bytes, block, 1, &wrong);
	if (err && err != -ENODATA)
		return part_fail(p, err, "read", why);
	if (err || wrong == 0)
		err = part_mismatch_locked(p, block, why);
	return err == -EAGAIN ? 0 : err;
}
