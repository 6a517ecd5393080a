/* store_rig.h - a store in a fresh directory, and what the unit tests do to partitions and their files. */
#ifndef SLAB_STORE_RIG_H
#define SLAB_STORE_RIG_H

#include "pool.h"
#include "store.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "unit.h"

#define BLOCK 65536u
#define PART_BYTES (5 * BLOCK + 1000)

static char root[] = "/tmp/slabfs-test-store-XXXXXX";
static int root_fd;
static struct pool *cores;
static uint64_t next_object;
static struct reason why;

static const struct part_alloc whole = { .bytes = PART_BYTES };
static const struct part_alloc growing = { .bytes = 0 };

static inline struct part_id fresh(void)
{
	return (struct part_id){ ++next_object, 3 };
}

static inline struct store *open_store(void)
{
	struct store *s = NULL;

	CHECK(store_open(root_fd, cores, &s, &why) == 0);
	return s;
}

/* The path of a partition's file: found, so that the test does not repeat the naming. */
static inline void file_path(struct part_id id, const char *suffix, char ret[256])
{
	for (unsigned i = 0; i < 256; i++) {
		snprintf(ret, 256, "%s/parts/%02x/%llu", root, i, (unsigned long long)id.object);
		if (access(ret, F_OK) == 0)
			break;
	}
	snprintf(ret + strlen(ret), 64, "/%llu%s", (unsigned long long)id.index, suffix);
}

static inline void flip(struct part_id id, const char *suffix, uint64_t offset)
{
	char path[256];
	uint8_t b = 0;

	file_path(id, suffix, path);
	AUTO_CLOSE int fd = open(path, O_RDWR);
	CHECK(fd >= 0 && pread(fd, &b, 1, (off_t)offset) == 1);
	b ^= 0x40;
	CHECK(pwrite(fd, &b, 1, (off_t)offset) == 1);
}

static inline void cut(struct part_id id, const char *suffix, uint64_t length)
{
	char path[256];

	file_path(id, suffix, path);
	CHECK(truncate(path, (off_t)length) == 0);
}

static inline void remove_file(struct part_id id, const char *suffix)
{
	char path[256];

	file_path(id, suffix, path);
	CHECK(unlink(path) == 0);
}

static inline bool exists(struct part_id id, const char *suffix)
{
	char path[256];

	file_path(id, suffix, path);
	return access(path, F_OK) == 0;
}

static inline void pattern(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 31 + i / 256 + seed);
}

static inline int put(struct store *s, struct part_id id, uint64_t session, size_t len, uint64_t offset, unsigned seed)
{
	AUTO_FREE uint8_t *buf = malloc(len);

	pattern(buf, len, seed);
	return store_write(s, id, len + offset > PART_BYTES ? &growing : &whole, session, buf, len, offset, &why);
}

static inline int seal(struct store *s, struct part_id id, uint64_t session, bool durable)
{
	uint64_t version;

	return store_seal(s, id, session, NULL, 0, durable, &version, &why);
}

static inline int readable(struct store *s, struct part_id id, uint64_t offset, uint64_t len)
{
	struct part_file f;
	int err = store_read_fd(s, id, offset, len, &f, &why);

	if (!err)
		close(f.fd);
	return err;
}

static inline bool holds(struct store *s, struct part_id id, size_t len, uint64_t offset, unsigned seed)
{
	AUTO_FREE uint8_t *want = malloc(len), *got = calloc(1, len);
	struct part_file f;

	pattern(want, len, seed);
	if (store_read_fd(s, id, 0, UINT64_MAX, &f, &why) < 0)
		return false;
	bool same = pread(f.fd, got, len, (off_t)offset) == (ssize_t)len && !memcmp(got, want, len);
	close(f.fd);
	return same;
}

static inline void make(struct store *s, struct part_id id, unsigned seed)
{
	CHECK(put(s, id, 1, PART_BYTES, 0, seed) == 0);
	CHECK(seal(s, id, 1, true) == 0);
}

static inline int remove_any(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void rig_make(void)
{
	CHECK(mkdtemp(root) != NULL);
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(pool_new(2, 64, &cores) == 0);
}

static inline void rig_remove(void)
{
	pool_free(cores);
	close(root_fd);
	nftw(root, remove_any, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
