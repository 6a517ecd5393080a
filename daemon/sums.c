#include "sums.h"
#include "io.h"

#include <stdatomic.h>
#include <xxhash.h>

#define SUMS_FORMAT 1
#define SUMS_FLAG_DURABLE 1u
#define HASH_UNIT 16 /* blocks that one thread hashes at a time */

struct sums_disk {
	char magic[8];
	struct le16 format;
	struct le16 block_log2;
	struct le32 flags;
	struct le64 file_bytes;
	struct le64 version;
	struct le64 object;
	struct le64 index;
	struct le64 run;
	struct le64 check; /* XXH3-64 of the bytes before it */
} __attribute__((packed));
_Static_assert(sizeof(struct sums_disk) == 64, "header of .sum");
_Static_assert(offsetof(struct sums_disk, check) == 56, "header of .sum");

static const char sums_magic[8] = { 'S', 'L', 'A', 'B', 'S', 'U', 'M', '1' };

uint64_t sums_blocks(uint64_t file_bytes)
{
	return div_up(file_bytes, SUMS_BLOCK_BYTES);
}

uint64_t sums_file_bytes(uint64_t file_bytes)
{
	return MAX(SUMS_SECTOR, sizeof(struct sums_disk) + sums_blocks(file_bytes) * sizeof(struct le64));
}

static int check_header(const struct sums_disk *d, struct reason *why)
{
	static const struct sums_disk zeros;

	if (!memcmp(d, &zeros, sizeof(zeros)))
		return -ENODATA;
	if (memcmp(d->magic, sums_magic, sizeof(sums_magic)) != 0)
		return reason_set(why, EBADMSG, "its checksum file is not one");
	if (le64_get(d->check) != XXH3_64bits(d, offsetof(struct sums_disk, check)))
		return reason_set(why, EBADMSG, "the header of its checksum file is damaged");
	if (le16_get(d->format) != SUMS_FORMAT || le16_get(d->block_log2) != SUMS_BLOCK_LOG2)
		return reason_set(why, EBADMSG, "its checksum file has format %u with blocks of 2^%u bytes",
				  le16_get(d->format), le16_get(d->block_log2));
	if (le32_get(d->flags) & ~SUMS_FLAG_DURABLE)
		return reason_set(why, EBADMSG, "its checksum file has unknown flags");
	return 0;
}

int sums_read_header(int fd, struct sums_header *ret, struct reason *why)
{
	struct sums_disk d = { 0 };
	size_t len;
	int err = io_pread(fd, &d, sizeof(d), 0, &len);

	if (!err)
		err = len < sizeof(d) && len > 0 ? reason_set(why, EBADMSG, "its checksum file is cut short")
						 : check_header(&d, why);
	if (err)
		return err;
	*ret = (struct sums_header){
		.durable = le32_get(d.flags) & SUMS_FLAG_DURABLE,
		.file_bytes = le64_get(d.file_bytes),
		.version = le64_get(d.version),
		.run = le64_get(d.run),
		.id = { le64_get(d.object), le64_get(d.index) },
	};
	return 0;
}

int sums_write_header(int fd, const struct sums_header *h)
{
	struct sums_disk d = {
		.format = le16_of(SUMS_FORMAT),
		.block_log2 = le16_of(SUMS_BLOCK_LOG2),
		.flags = le32_of(h->durable ? SUMS_FLAG_DURABLE : 0),
		.file_bytes = le64_of(h->file_bytes),
		.version = le64_of(h->version),
		.object = le64_of(h->id.object),
		.index = le64_of(h->id.index),
		.run = le64_of(h->run),
	};

	memcpy(d.magic, sums_magic, sizeof(d.magic));
	d.check = le64_of(XXH3_64bits(&d, offsetof(struct sums_disk, check)));
	return io_pwrite(fd, &d, sizeof(d), 0);
}

static uint64_t sums_at(uint64_t block)
{
	return sizeof(struct sums_disk) + block * sizeof(struct le64);
}

int sums_read(int fd, uint64_t first, size_t n, struct le64 *ret)
{
	size_t len;
	int err = io_pread(fd, ret, n * sizeof(*ret), sums_at(first), &len);

	return err ? err : len < n * sizeof(*ret) ? -ENODATA : 0;
}

int sums_write(int fd, uint64_t first, size_t n, const struct le64 *sums)
{
	return io_pwrite(fd, sums, n * sizeof(*sums), sums_at(first));
}

struct hash_work {
	int fd;
	uint64_t file_bytes, first;
	size_t n;
	struct le64 *sums;
	atomic_int err;
};

static int hash_block(struct hash_work *w, uint64_t block, void *buf, struct le64 *ret)
{
	uint64_t offset = block * SUMS_BLOCK_BYTES;
	size_t want = MIN(SUMS_BLOCK_BYTES, w->file_bytes - offset), len;
	int err = io_pread(w->fd, buf, want, offset, &len);

	if (err || len < want)
		return err ? err : -ENODATA;
	*ret = le64_of(XXH3_64bits(buf, len));
	return 0;
}

static void hash_unit(void *arg, size_t i)
{
	struct hash_work *w = arg;
	AUTO_FREE void *buf = malloc(SUMS_BLOCK_BYTES);
	int err = buf ? 0 : -ENOMEM;

	for (size_t k = i * HASH_UNIT; !err && k < MIN((i + 1) * HASH_UNIT, w->n) && !atomic_load(&w->err); k++)
		err = hash_block(w, w->first + k, buf, &w->sums[k]);
	if (err)
		atomic_store(&w->err, err);
}

int sums_hash(struct pool *cores, int data_fd, uint64_t file_bytes, uint64_t first, size_t n, struct le64 *ret)
{
	struct hash_work w = { .fd = data_fd, .file_bytes = file_bytes, .first = first, .n = n, .sums = ret };
	size_t units = div_up(n, HASH_UNIT);

	atomic_init(&w.err, 0);
	if (cores && units > 1)
		pool_each(cores, units, hash_unit, &w);
	else
		for (size_t i = 0; i < units; i++)
			hash_unit(&w, i);
	return atomic_load(&w.err);
}
