/* exerciser.c - random operations on two files, each compared with what memory says that they hold.
 *
 *   exerciser [--seed N] [--operations N] [--bytes MAX] [--cut BYTES] [--other DIR] [--without NAME,...] [--fixed] DIR
 *
 * The files are DIR/exercised-0 and -1, made anew.  --other: operation i goes through DIR or the other directory, which shows the same
 * files, by turns.  --cut: offsets near its multiples are preferred.  --fixed: the files exist, have one size and keep it.
 * The same arguments do the same operations.  At a mismatch the last operations and the seed are printed, and the exit code is 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 2
#define LINES 60 /* operations that are remembered */
#define LENGTH_MAX (192u << 10)

struct file {
	int fd[2], append_fd[2]; /* for each directory; -1: closed */
	uint8_t *model;
	size_t size;
	char path[2][PATH_MAX];
};

static struct file files[FILES];
static const char *dirs[2], *without = "";
static unsigned n_dirs = 1, side; /* side: the directory of this operation */
static size_t page;
static uint64_t bytes_max = 700000, cut = 4096, seed = 1, operations = 1000, done, random_state;
static bool fixed;
static char lines[LINES][160];
static uint8_t *buf;

/* ---- chance and failure ---- */

static uint64_t chance(uint64_t below)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
	uint64_t z = random_state;
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return below ? (z ^ z >> 31) % below : 0;
}

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	char *line = lines[done % LINES];
	int n = snprintf(line, sizeof(lines[0]), "%" PRIu64 " %s: ", done, dirs[side]);
	va_list args;

	va_start(args, fmt);
	if (n > 0 && (size_t)n < sizeof(lines[0]))
		vsnprintf(line + n, sizeof(lines[0]) - (size_t)n, fmt, args);
	va_end(args);
}

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *fmt, ...)
{
	va_list args;

	for (uint64_t i = done < LINES ? 0 : done - LINES + 1; i <= done; i++)
		fprintf(stderr, "%s\n", lines[i % LINES]);
	fprintf(stderr, "exerciser: seed %" PRIu64 ", operation %" PRIu64 ": ", seed, done);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

static void check_bytes(const struct file *f, const uint8_t *got, size_t offset, size_t len, const char *how)
{
	size_t first = 0, last = len;

	if (memcmp(got, f->model + offset, len) == 0)
		return;
	while (got[first] == f->model[offset + first])
		first++;
	while (got[last - 1] == f->model[offset + last - 1])
		last--;
	fail("%s: file %td differs in [%zu, %zu) of %zu bytes: %02x instead of %02x first", how, f - files,
	     offset + first, offset + last, f->size, got[first], f->model[offset + first]);
}

/* ---- places ---- */

static size_t pick_length(size_t most)
{
	size_t scale = chance(4) == 0 ? 16 : chance(3) == 0 ? 5000 : LENGTH_MAX;

	if (most == 0)
		return 0;
	return 1 + chance(most < scale ? most : scale);
}

/* In [0, below), often near a multiple of `cut` or of a page. */
static size_t pick_offset(size_t below)
{
	size_t at = chance(below), unit = chance(2) ? cut : page;

	if (below == 0 || chance(3) == 0)
		return below ? at : 0;
	at = at / unit * unit + chance(7);
	at = at > 3 ? at - 3 : at;
	return at < below ? at : below - 1;
}

static void fill(uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		at[i] = (uint8_t)(1 + chance(255));
}

/* A place to write: [*offset, *offset + *len) within what the file may become. */
static void pick_place(const struct file *f, size_t *offset, size_t *len)
{
	size_t most = fixed ? f->size : bytes_max;

	*offset = pick_offset(chance(3) && f->size ? f->size : most);
	*len = pick_length(most - *offset);
}

static void model_size(struct file *f, size_t size)
{
	if (size > f->size)
		memset(f->model + f->size, 0, size - f->size);
	f->size = size;
}

static void model_write(struct file *f, const uint8_t *from, size_t offset, size_t len)
{
	if (offset + len > f->size)
		model_size(f, offset + len);
	memmove(f->model + offset, from, len);
}

/* ---- operations ---- */

static int fd_of(struct file *f)
{
	if (f->fd[side] < 0)
		f->fd[side] = open(f->path[side], O_RDWR | O_CLOEXEC);
	if (f->fd[side] < 0)
		fail("open %s: %m", f->path[side]);
	return f->fd[side];
}

static void do_read(struct file *f)
{
	size_t offset = pick_offset(f->size + 100), len = pick_length(LENGTH_MAX);
	size_t want = offset >= f->size ? 0 : f->size - offset < len ? f->size - offset : len;

	say("read %td [%zu, +%zu)", f - files, offset, len);
	ssize_t n = pread(fd_of(f), buf, len, (off_t)offset);
	if (n != (ssize_t)want)
		fail("read gives %zd instead of %zu: %m", n, want);
	check_bytes(f, buf, offset, want, "read");
}

static void do_write(struct file *f)
{
	size_t offset, len;

	pick_place(f, &offset, &len);
	say("write %td [%zu, +%zu) of %zu", f - files, offset, len, f->size);
	fill(buf, len);
	ssize_t n = pwrite(fd_of(f), buf, len, (off_t)offset);
	if (n != (ssize_t)len)
		fail("write gives %zd: %m", n);
	model_write(f, buf, offset, len);
}

static void do_append(struct file *f)
{
	size_t len = pick_length(bytes_max - f->size < 9000 ? bytes_max - f->size : 9000);

	if (fixed || len == 0)
		return;
	say("append %td +%zu at %zu", f - files, len, f->size);
	fill(buf, len);
	if (f->append_fd[side] < 0)
		f->append_fd[side] = open(f->path[side], O_WRONLY | O_APPEND | O_CLOEXEC);
	ssize_t n = write(f->append_fd[side], buf, len);
	if (n != (ssize_t)len)
		fail("append gives %zd: %m", n);
	model_write(f, buf, f->size, len);
}

static uint8_t *map_at(struct file *f, size_t offset, size_t len, int prot, size_t *ret_len)
{
	size_t skip = offset % page;

	*ret_len = len + skip;
	uint8_t *map = mmap(NULL, *ret_len, prot, MAP_SHARED, fd_of(f), (off_t)(offset - skip));
	if (map == MAP_FAILED)
		fail("mmap: %m");
	return map;
}

static void do_map_read(struct file *f)
{
	size_t offset = pick_offset(f->size), len = pick_length(f->size - offset), map_len;

	if (len == 0)
		return;
	say("map-read %td [%zu, +%zu)", f - files, offset, len);
	uint8_t *map = map_at(f, offset, len, PROT_READ, &map_len);
	check_bytes(f, map + offset % page, offset, len, "mapped read");
	munmap(map, map_len);
}

/* Bytes beyond the end in the last page may be written too; nobody may ever see them. */
static void do_map_write(struct file *f)
{
	size_t offset = pick_offset(f->size), len = pick_length(f->size - offset), map_len;
	bool sync = n_dirs > 1 || chance(2), beyond = chance(3) == 0;

	if (len == 0)
		return;
	beyond = beyond && offset + len == f->size && f->size % page;
	say("map-write %td [%zu, +%zu)%s%s", f - files, offset, len, beyond ? " and beyond" : "", sync ? " msync" : "");
	fill(f->model + offset, len);
	uint8_t *map = map_at(f, offset, len, PROT_READ | PROT_WRITE, &map_len);
	memcpy(map + offset % page, f->model + offset, len);
	if (beyond)
		memset(map + map_len, 0xee, page - f->size % page);
	if (sync && msync(map, map_len, MS_SYNC))
		fail("msync: %m");
	if (munmap(map, map_len))
		fail("munmap: %m");
}

static void do_truncate(struct file *f)
{
	size_t size = chance(4) == 0 ? f->size : pick_offset(bytes_max);
	bool by_path = chance(2);

	if (fixed)
		return;
	if (chance(8) == 0)
		size = 0;
	say("%struncate %td %zu -> %zu", by_path ? "" : "f", f - files, f->size, size);
	if (by_path ? truncate(f->path[side], (off_t)size) : ftruncate(fd_of(f), (off_t)size))
		fail("truncate: %m");
	model_size(f, size);
}

/* An array's files may refuse what they cannot do, and are then unchanged. */
static bool refused(void)
{
	return fixed && errno == EOPNOTSUPP;
}

static void allocate(struct file *f, const char *name, int mode)
{
	size_t offset, len, end;

	pick_place(f, &offset, &len);
	end = offset + len;
	if (len == 0)
		return;
	say("%s%s %td [%zu, +%zu) of %zu", name, mode & FALLOC_FL_KEEP_SIZE ? " keep" : "", f - files, offset, len,
	    f->size);
	if (fallocate(fd_of(f), mode, (off_t)offset, (off_t)len)) {
		if (refused())
			return;
		fail("fallocate: %m");
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > f->size)
		model_size(f, end);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		for (size_t i = offset; i < end && i < f->size; i++)
			f->model[i] = 0;
}

static void do_allocate(struct file *f)
{
	allocate(f, "allocate", chance(2) ? FALLOC_FL_KEEP_SIZE : 0);
}

static void do_punch(struct file *f)
{
	allocate(f, "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void do_zero(struct file *f)
{
	allocate(f, "zero", FALLOC_FL_ZERO_RANGE | (chance(2) ? FALLOC_FL_KEEP_SIZE : 0));
}

static void do_copy(struct file *f)
{
	struct file *to = chance(3) ? &files[FILES - 1 - (f - files)] : f;
	size_t offset = pick_offset(f->size), to_offset, len;

	pick_place(to, &to_offset, &len);
	if (len > f->size - offset)
		len = f->size - offset;
	if (f == to && offset < to_offset + len && to_offset < offset + len)
		len = offset < to_offset ? to_offset - offset : offset - to_offset;
	if (len == 0)
		return;
	say("copy %td [%zu, +%zu) to %td at %zu of %zu", f - files, offset, len, to - files, to_offset, to->size);
	loff_t in = (loff_t)offset, out = (loff_t)to_offset;
	ssize_t n = copy_file_range(fd_of(f), &in, fd_of(to), &out, len, 0);
	if (n <= 0 || (size_t)n > len)
		fail("copy_file_range gives %zd: %m", n);
	model_write(to, f->model + offset, to_offset, (size_t)n);
}

static void do_sendfile(struct file *f)
{
	size_t offset = pick_offset(f->size), len = pick_length(f->size - offset), got = 0;
	off_t at = (off_t)offset;

	if (len == 0)
		return;
	say("sendfile %td [%zu, +%zu)", f - files, offset, len);
	int out = memfd_create("sendfile", MFD_CLOEXEC);
	while (got < len) {
		ssize_t n = sendfile(out, fd_of(f), &at, len - got);
		if (n <= 0)
			fail("sendfile gives %zd: %m", n);
		got += (size_t)n;
	}
	if (pread(out, buf, len, 0) != (ssize_t)len)
		fail("the memory file is short");
	close(out);
	check_bytes(f, buf, offset, len, "sendfile");
}

/* Holes are zeros, data and holes follow each other, and the end of the file is a hole. */
static void do_seek(struct file *f)
{
	int fd = open(f->path[side], O_RDONLY | O_CLOEXEC);
	off_t at = 0, data = 0, hole;
	unsigned rounds = 0; /* once: a file that is just being closed elsewhere may be called data for a moment */

	say("seek %td", f - files);
	if (chance(2) && f->fd[side] >= 0) {
		close(f->fd[side]);
		f->fd[side] = -1;
	}
	while ((size_t)at < f->size && (data = lseek(fd, at, SEEK_DATA)) >= 0) {
		hole = lseek(fd, data, SEEK_HOLE);
		if (data < at || hole < data || (hole == data && rounds++) || (size_t)hole > f->size)
			fail("from %jd: data at %jd, a hole at %jd: %m", (intmax_t)at, (intmax_t)data, (intmax_t)hole);
		for (; at < data; at++)
			if (f->model[at])
				fail("a hole at %jd, where there is data", (intmax_t)at);
		at = hole;
	}
	if (data < 0 && errno != ENXIO)
		fail("SEEK_DATA: %m");
	for (; (size_t)at < f->size; at++)
		if (f->model[at])
			fail("a hole at %jd, where there is data", (intmax_t)at);
	if (lseek(fd, (off_t)f->size, SEEK_DATA) >= 0 || errno != ENXIO)
		fail("data beyond the end: %m");
	close(fd);
}

static void close_all(struct file *f)
{
	for (unsigned i = 0; i < 2; i++) {
		if ((f->fd[i] >= 0 && close(f->fd[i])) || (f->append_fd[i] >= 0 && close(f->append_fd[i])))
			fail("close: %m");
		f->fd[i] = f->append_fd[i] = -1;
	}
}

static void do_reopen(struct file *f)
{
	say("close %td", f - files);
	close_all(f);
}

static void do_sync(struct file *f)
{
	bool data = chance(2);

	say("f%ssync %td", data ? "data" : "", f - files);
	if (data ? fdatasync(fd_of(f)) : fsync(fd_of(f)))
		fail("fsync: %m");
}

static void do_check(struct file *f)
{
	struct stat st;

	say("check %td", f - files);
	if (fstat(fd_of(f), &st))
		fail("fstat: %m");
	if ((size_t)st.st_size != f->size)
		fail("%jd bytes instead of %zu", (intmax_t)st.st_size, f->size);
	if (pread(fd_of(f), buf, f->size, 0) != (ssize_t)f->size)
		fail("the whole cannot be read: %m");
	check_bytes(f, buf, 0, f->size, "check");
}

static const struct operation {
	const char *name;
	unsigned weight;
	void (*run)(struct file *f);
} table[] = {
	{ "read", 14, do_read },        { "write", 14, do_write },        { "append", 4, do_append },
	{ "map-read", 6, do_map_read }, { "map-write", 7, do_map_write }, { "truncate", 6, do_truncate },
	{ "allocate", 4, do_allocate }, { "punch", 5, do_punch },         { "zero", 5, do_zero },
	{ "copy", 8, do_copy },         { "sendfile", 3, do_sendfile },   { "seek", 4, do_seek },
	{ "reopen", 4, do_reopen },     { "sync", 2, do_sync },           { "check", 4, do_check },
};

static bool left_out(const char *name)
{
	size_t len = strlen(name);

	for (const char *at = without; (at = strstr(at, name)); at += len)
		if ((at == without || at[-1] == ',') && (at[len] == ',' || !at[len]))
			return true;
	return false;
}

static const struct operation *pick(void)
{
	unsigned total = 0;
	const struct operation *o;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		total += table[i].weight;
	do {
		unsigned at = (unsigned)chance(total);
		for (o = table; at >= o->weight; o++)
			at -= o->weight;
	} while (left_out(o->name));
	return o;
}

/* ---- the run ---- */

static void start(struct file *f)
{
	struct stat st;

	for (unsigned i = 0; i < 2; i++) {
		f->fd[i] = f->append_fd[i] = -1;
		snprintf(f->path[i], sizeof(f->path[i]), "%s/exercised-%td", dirs[i], f - files);
	}
	int fd = open(f->path[0], fixed ? O_RDWR : O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || fstat(fd, &st))
		fail("%s: %m", f->path[0]);
	if (fixed && bytes_max < (size_t)st.st_size)
		bytes_max = (size_t)st.st_size;
	f->size = (size_t)st.st_size;
	f->model = calloc(1, (bytes_max > LENGTH_MAX ? bytes_max : LENGTH_MAX) + page);
	if (!f->model || pread(fd, f->model, f->size, 0) != (ssize_t)f->size || close(fd))
		fail("%s: %m", f->path[0]);
}

static int usage(void)
{
	fprintf(stderr, "usage: exerciser [--seed N] [--operations N] [--bytes MAX] [--cut BYTES] [--other DIR]\n"
			"                 [--without NAME,...] [--fixed] DIR\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 1 },    { "operations", 1, NULL, 2 }, { "bytes", 1, NULL, 3 },
		{ "cut", 1, NULL, 4 },     { "other", 1, NULL, 'o' },    { "without", 1, NULL, 'w' },
		{ "fixed", 0, NULL, 'f' }, { NULL, 0, NULL, 0 },
	};
	enum { NUMBERS = 5 };
	uint64_t *const numbers[NUMBERS] = { NULL, &seed, &operations, &bytes_max, &cut };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == 'o' && n_dirs == 1)
			dirs[n_dirs++] = optarg;
		else if (option == 'w')
			without = optarg;
		else if (option == 'f')
			fixed = true;
		else if (option > 0 && option < NUMBERS)
			*numbers[option] = strtoull(optarg, NULL, 0);
		else
			return usage();
	}
	if (optind != argc - 1 || bytes_max == 0 || cut == 0)
		return usage();
	dirs[0] = argv[optind];
	dirs[1] = dirs[1] ? dirs[1] : dirs[0];
	page = (size_t)sysconf(_SC_PAGESIZE);
	random_state = seed;
	for (unsigned i = 0; i < FILES; i++)
		start(&files[i]);
	buf = malloc((bytes_max > LENGTH_MAX ? bytes_max : LENGTH_MAX) + page);
	if (!buf)
		fail("no memory");
	for (done = 0; done < operations; done++) {
		side = (unsigned)(done % n_dirs);
		pick()->run(&files[chance(FILES)]);
	}
	for (unsigned i = 0; i < FILES; i++) {
		close_all(&files[i]);
		do_check(&files[i]);
		close_all(&files[i]);
	}
	printf("exerciser: %" PRIu64 " operations, seed %" PRIu64 "\n", operations, seed);
	return 0;
}
