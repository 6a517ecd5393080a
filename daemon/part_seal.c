/* Writing, sealing, and making durable. */
#include "part.h"
#include "io.h"
#include "log.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SEAL_BLOCKS 4096 /* hashed and written at a time: 256 MiB */
#define REWRITE_BYTES (1u << 20)

static int write_header(struct part *p, int fd, bool durable, uint64_t run)
{
	struct sums_header h = {
		.durable = durable,
		.file_bytes = p->bytes,
		.version = p->version,
		.run = run,
		.id = p->id,
	};

	return sums_write_header(fd, &h);
}

int part_undurable_locked(struct part *p, struct reason *why)
{
	AUTO_CLOSE int fd = part_open_file(p, ".sum", O_RDWR | O_CREAT);
	int err = fd < 0 ? fd : write_header(p, fd, false, SUMS_RUN_OPEN);

	if (!err && p->durable && fdatasync(fd) < 0)
		err = -errno;
	if (err)
		return part_fail(p, err, "cannot be opened for writing", why);
	p->durable = false;
	p->epoch++;
	return 0;
}

static int reopen_locked(struct part *p, struct reason *why)
{
	int err = part_undurable_locked(p, why);

	p->state = err ? p->state : PART_OPEN;
	return err;
}

int part_open_locked(struct part *p, const struct part_alloc *alloc, struct reason *why)
{
	int err = part_check_good_locked(p, why);

	if (!err && p->state == PART_MISSING)
		err = part_create_locked(p, alloc, why);
	if (!err && p->state == PART_SEALED)
		err = reopen_locked(p, why);
	return err;
}

/* ---- leases ---- */

int part_lease_locked(struct part *p, uint64_t session, bool descriptor)
{
	struct lease *grown;

	for (size_t i = 0; i < p->n_leases; i++) {
		if (p->leases[i].session == session) {
			p->leases[i].descriptor |= descriptor;
			return 0;
		}
	}
	grown = realloc(p->leases, (p->n_leases + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	p->leases = grown;
	p->leases[p->n_leases++] = (struct lease){ session, descriptor };
	part_list_open(p, true);
	return 0;
}

bool part_unlease_locked(struct part *p, uint64_t session, bool *ret_descriptor)
{
	for (size_t i = 0; i < p->n_leases; i++) {
		if (p->leases[i].session == session) {
			*ret_descriptor = p->leases[i].descriptor;
			p->leases[i] = p->leases[--p->n_leases];
			part_list_open(p, p->n_leases > 0);
			return true;
		}
	}
	return false;
}

bool part_has_descriptors_locked(const struct part *p)
{
	for (size_t i = 0; i < p->n_leases; i++)
		if (p->leases[i].descriptor)
			return true;
	return false;
}

int part_mark_locked(struct part *p, uint64_t offset, uint64_t len)
{
	uint64_t end = div_up(offset + len, SUMS_BLOCK_BYTES);
	int err = bits_reserve(&p->dirty, end);

	for (uint64_t b = offset / SUMS_BLOCK_BYTES; !err && b < end; b++)
		bits_set(&p->dirty, b);
	return err;
}

/* ---- sealing ---- */

static int hash_run(struct part *p, int data, int sum, uint64_t bytes, uint64_t first, size_t n)
{
	AUTO_FREE struct le64 *sums = malloc(n * sizeof(*sums));
	int err = sums ? sums_hash(p->store->cores, data, bytes, first, n, sums) : -ENOMEM;

	if (!err)
		err = sums_write(sum, first, n, sums);
	if (!err)
		part_note_verified_locked(p, data, first, n);
	return err;
}

/* Blocks that are dirty because the file became longer or shorter, or all. */
static int mark_implied_locked(struct part *p, uint64_t bytes)
{
	if (p->dirty_all)
		return part_mark_locked(p, 0, bytes);
	if (bytes == p->bytes)
		return 0;
	uint64_t from = MIN(bytes, p->bytes);
	from -= from % SUMS_BLOCK_BYTES;
	return part_mark_locked(p, from, bytes - from);
}

static int seal_files_locked(struct part *p, int data, int sum)
{
	uint64_t first = 0, blocks;
	bool changed = false;
	struct stat st;
	size_t n;
	int err = fstat(data, &st) < 0 ? -errno : mark_implied_locked(p, (uint64_t)st.st_size);

	if (err)
		return err;
	changed = p->dirty_all || (uint64_t)st.st_size != p->bytes;
	blocks = sums_blocks((uint64_t)st.st_size);
	for (; !err && bits_next_run(&p->dirty, &first, blocks, SEAL_BLOCKS, &n); first += n) {
		err = hash_run(p, data, sum, (uint64_t)st.st_size, first, n);
		changed = true;
	}
	if (!err && ftruncate(sum, (off_t)sums_file_bytes((uint64_t)st.st_size)) < 0)
		err = -errno;
	if (err)
		return err;
	p->bytes = (uint64_t)st.st_size;
	p->version = changed ? MAX(p->version + 1, time_real_ns()) : p->version;
	p->dirty_all = false;
	bits_clear_all(&p->dirty);
	return write_header(p, sum, false, p->n_leases ? SUMS_RUN_OPEN : p->store->run);
}

int part_seal_locked(struct part *p, struct reason *why)
{
	AUTO_CLOSE int data = part_open_file(p, "", O_RDONLY);
	AUTO_CLOSE int sum = part_open_file(p, ".sum", O_RDWR | O_CREAT);
	int err = data < 0 ? data : sum < 0 ? sum : 0;

	if (!err)
		err = seal_files_locked(p, data, sum);
	if (err)
		return part_fail(p, err, "cannot be sealed", why);
	p->epoch++;
	if (p->n_leases == 0)
		p->state = PART_SEALED;
	part_list_unsynced(p, true);
	return 0;
}

/* ---- durability ---- */

static int sync_names(struct part *p)
{
	char dir[PART_PATH_MAX];
	int err;

	part_dir(p->id.object, dir);
	err = io_fsync_dir(p->store->dirfd, dir);
	*strrchr(dir, '/') = '\0';
	if (!err)
		err = io_fsync_dir(p->store->dirfd, dir);
	return err ? err : io_fsync_dir(p->store->dirfd, "parts");
}

static int sync_files(struct part *p, int data, int sum, bool names)
{
	struct stat st;
	int err = fsync(data) < 0 ? -errno : 0;

	/* One sector cannot be torn: header and sums reach the disk together. */
	if (!err && (fstat(sum, &st) < 0 || (st.st_size > SUMS_SECTOR && fdatasync(sum) < 0)))
		err = -errno;
	return !err && names ? sync_names(p) : err;
}

static int set_durable_locked(struct part *p, int sum, bool flush)
{
	int err;

	p->durable = true;
	p->late = false;
	err = write_header(p, sum, true, p->store->run);
	if (!err && flush && fdatasync(sum) < 0)
		err = -errno;
	if (err)
		return err;
	catalog_put(p->store->catalog, p->id, p->version);
	part_list_unsynced(p, false);
	return 0;
}

static int rewrite_file(int fd)
{
	AUTO_FREE void *buf = malloc(REWRITE_BYTES);
	size_t len = REWRITE_BYTES;
	int err = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0; !err && len == REWRITE_BYTES; at += len) {
		err = io_pread(fd, buf, REWRITE_BYTES, at, &len);
		if (!err)
			err = io_pwrite(fd, buf, len, at);
	}
	return err;
}

/* After a failed fsync the kernel takes the pages for written: they go to the disk only if they are written once more.  What they hold
 * must still be what was sealed. */
static int rewrite_locked(struct part *p, struct reason *why)
{
	AUTO_CLOSE int data = part_open_file(p, "", O_RDWR);
	AUTO_CLOSE int sum = part_open_file(p, ".sum", O_RDWR);
	int err = data < 0 ? data : sum < 0 ? sum : 0;

	if (p->state != PART_SEALED)
		return part_fail(p, p->sync_err, "an earlier fsync failed, and it has writers", why);
	if (!err)
		err = part_verify_clean_locked(p, data, why);
	if (!err)
		err = rewrite_file(data);
	if (!err)
		err = rewrite_file(sum);
	if (err)
		return part_fail(p, err, "an earlier fsync failed, and so did writing it again", why);
	p->sync_err = 0;
	p->new_names = true;
	return 0;
}

int part_sync_locked(struct part *p, bool flush, struct reason *why)
{
	if (p->state == PART_MISSING || p->bad || (p->durable && !p->sync_err))
		return 0;
	if (p->sync_err) {
		int failed = rewrite_locked(p, why);
		if (failed)
			return failed;
	}
	uint64_t epoch = p->epoch;
	bool names = p->new_names;
	AUTO_CLOSE int data = part_open_file(p, "", O_RDONLY);
	AUTO_CLOSE int sum = part_open_file(p, ".sum", O_RDWR);
	int err = data < 0 ? data : sum < 0 ? sum : 0;

	if (!err) {
		pthread_mutex_unlock(&p->lock);
		err = sync_files(p, data, sum, names);
		pthread_mutex_lock(&p->lock);
	}
	if (p->state == PART_MISSING) /* removed meanwhile, and its directory perhaps too */
		return 0;
	/* A seal in between has queued the partition again; what was written before us is on the disk. */
	bool same = p->epoch == epoch;
	if (!err && same)
		p->new_names &= !names;
	if (!err && same && p->state == PART_SEALED)
		err = set_durable_locked(p, sum, flush);
	if (!err)
		return 0;
	p->sync_err = err;
	log_error("store: object %llu partition %llu: fsync: %s", (unsigned long long)p->id.object,
		  (unsigned long long)p->id.index, strerror(-err));
	return part_fail(p, err, "fsync", why);
}

int part_synced_locked(struct part *p, uint64_t epoch, struct reason *why)
{
	if (p->sync_err)
		return part_sync_locked(p, true, why);
	if (p->state != PART_SEALED || p->bad || p->durable || p->epoch != epoch)
		return 0;
	AUTO_CLOSE int sum = part_open_file(p, ".sum", O_RDWR);
	int err = sum < 0 ? sum : set_durable_locked(p, sum, false);
	p->new_names &= err != 0;
	return err ? part_fail(p, err, "cannot be marked as durable", why) : 0;
}
