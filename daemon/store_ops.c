/* The store's operations on one partition. */
#include "part.h"
#include "io.h"
#include "log.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* ---- reading ---- */

static int read_once(struct part *p, uint64_t offset, uint64_t len, struct part_file *ret, struct reason *why)
{
	struct stat st;
	int fd, err = part_check_good_locked(p, why);

	if (err)
		return err;
	if (p->state == PART_MISSING)
		return -ENOENT;
	fd = part_open_regular(p, "", &st);
	if (fd == -ENOENT || fd == -ENOTSUP)
		return part_quarantine_locked(p, why,
					      fd == -ENOENT ? "its data is lost" : "its data is not a regular file");
	if (fd < 0)
		return part_fail(p, fd, "open", why);
	err = part_verify_locked(p, fd, offset, len, why);
	if (!err && fstat(fd, &st) < 0)
		err = part_fail(p, -errno, "stat", why);
	if (err)
		close(fd);
	else
		*ret = (struct part_file){ fd, (uint64_t)st.st_size, p->version };
	return err;
}

int store_read_fd(struct store *s, struct part_id id, uint64_t offset, uint64_t len, struct part_file *ret,
		  struct reason *why)
{
	struct part *p;
	int err;

	do {
		err = part_acquire(s, id, &p, why);
		if (err)
			return err;
		err = read_once(p, offset, len, ret, why);
		part_release(p);
	} while (err == -EAGAIN);
	return err;
}

/* ---- writing ---- */

/* Who holds a descriptor writes parts of blocks; whether the rest of such a block is sound cannot be told afterwards.  What was sealed a
 * moment ago is not looked at: a writer whose session was lost may have written on until it noticed, and comes back for a lease. */
static int verify_before_descriptor(struct part *p, struct reason *why)
{
	AUTO_CLOSE int fd = -1;

	if (p->state == PART_MISSING || (p->state == PART_SEALED && !p->durable))
		return 0;
	fd = part_open_file(p, "", O_RDONLY);
	return fd < 0 ? part_fail(p, fd, "open", why) : part_verify_clean_locked(p, fd, why);
}

static int lease(struct part *p, const struct part_alloc *alloc, uint64_t session, bool descriptor, struct reason *why)
{
	int err = part_open_locked(p, alloc, why);

	if (!err && part_lease_locked(p, session, descriptor) < 0)
		err = reason_set(why, ENOMEM, "no memory for a lease");
	return err;
}

int store_write_fd(struct store *s, struct part_id id, const struct part_alloc *alloc, uint64_t session,
		   struct part_file *ret, struct reason *why)
{
	struct part *p;
	struct stat st;
	int fd = -1, err = part_acquire(s, id, &p, why);

	if (err)
		return err;
	err = part_check_good_locked(p, why);
	if (!err)
		err = verify_before_descriptor(p, why);
	if (!err)
		err = lease(p, alloc, session, true, why);
	if (!err) {
		fd = part_open_file(p, "", O_RDWR);
		if (fd < 0 || fstat(fd, &st) < 0)
			err = part_fail(p, fd < 0 ? fd : -errno, "open for writing", why);
	}
	if (!err)
		*ret = (struct part_file){ fd, (uint64_t)st.st_size, p->version };
	else if (fd >= 0)
		close(fd);
	part_release(p);
	return err;
}

static int write_locked(struct part *p, const void *buf, size_t len, uint64_t offset, struct reason *why)
{
	AUTO_CLOSE int fd = part_open_file(p, "", O_RDWR);
	int err = 0;

	if (fd < 0)
		return part_fail(p, fd, "open for writing", why);
	if (offset % SUMS_BLOCK_BYTES)
		err = part_verify_edge_locked(p, fd, offset, why);
	if (!err && (offset + len) % SUMS_BLOCK_BYTES && offset + len < p->bytes)
		err = part_verify_edge_locked(p, fd, offset + len, why);
	if (err)
		return err;
	err = part_mark_locked(p, offset, len);
	if (!err)
		err = io_pwrite(fd, buf, len, offset);
	return err ? part_fail(p, err, "write", why) : 0;
}

int store_write(struct store *s, struct part_id id, const struct part_alloc *alloc, uint64_t session, const void *buf,
		size_t len, uint64_t offset, struct reason *why)
{
	struct part *p;
	uint64_t end;
	int err;

	if (add_overflows(offset, len, &end) || (alloc->bytes && end > alloc->bytes))
		return reason_set(why, EINVAL, "a write past the end of a partition");
	err = part_acquire(s, id, &p, why);
	if (err)
		return err;
	err = lease(p, alloc, session, false, why);
	if (!err && len > 0)
		err = write_locked(p, buf, len, offset, why);
	part_release(p);
	return err;
}

/* ---- sealing ---- */

static int mark_ranges(struct part *p, const struct part_range *ranges, size_t n)
{
	char path[PART_PATH_MAX];
	struct stat st;
	int err = 0;

	part_path(p->id, "", path);
	if (n > 0 && fstatat(p->store->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	for (size_t i = 0; i < n && !err; i++) {
		uint64_t from = ranges[i].offset, end = (uint64_t)st.st_size;
		if (from < end)
			err = part_mark_locked(p, from, MIN(ranges[i].length, end - from));
	}
	return err;
}

static int seal(struct part *p, uint64_t session, const struct part_range *ranges, size_t n, struct reason *why)
{
	bool descriptor, leased = part_unlease_locked(p, session, &descriptor);
	int err = part_check_good_locked(p, why);

	if (err || p->state == PART_MISSING || (!leased && n == 0))
		return err;
	if (p->state == PART_SEALED)
		err = part_open_locked(p, NULL, why);
	if (!err && mark_ranges(p, ranges, n) < 0)
		p->dirty_all = true;
	if (!err)
		err = part_seal_locked(p, why);
	if (err && p->n_leases == 0)
		part_forget_locked(p);
	return err;
}

int store_seal(struct store *s, struct part_id id, uint64_t session, const struct part_range *ranges, size_t n_ranges,
	       bool durable, uint64_t *ret_version, struct reason *why)
{
	struct part *p;
	int err = part_acquire(s, id, &p, why);

	if (err)
		return err;
	err = seal(p, session, ranges, n_ranges, why);
	if (!err)
		*ret_version = p->version;
	if (!err && durable)
		err = part_sync_locked(p, true, why);
	part_release(p);
	return !err && durable ? store_catalog_sync(s, why) : err;
}

/* ---- truncating ---- */

static int truncate_locked(struct part *p, uint64_t length, struct reason *why)
{
	AUTO_CLOSE int fd = -1;
	bool cuts;
	int err;

	if (length == 0 && p->bad) {
		part_unquarantine_locked(p);
		p->durable = true; /* for all that we know */
	}
	err = part_open_locked(p, NULL, why);
	if (err)
		return err;
	fd = part_open_file(p, "", O_RDWR);
	if (fd < 0)
		return part_fail(p, fd, "open for writing", why);
	if (MIN(length, p->bytes) % SUMS_BLOCK_BYTES) /* the block that keeps a part, or becomes longer */
		err = part_verify_edge_locked(p, fd, MIN(length, p->bytes), why);
	cuts = length < p->bytes || length == 0;
	if (!err && (ftruncate(fd, (off_t)length) < 0 || (cuts && fsync(fd) < 0)))
		err = part_fail(p, -errno, "truncate", why);
	if (!err && length == 0)
		p->dirty_all = true;
	if (!err)
		err = part_seal_locked(p, why);
	return err;
}

int store_truncate(struct store *s, struct part_id id, uint64_t length, struct reason *why)
{
	struct part *p;
	int err = part_acquire(s, id, &p, why);

	if (err)
		return err;
	if (p->state != PART_MISSING) {
		err = truncate_locked(p, length, why);
		if (err && p->n_leases == 0 && !p->bad)
			part_forget_locked(p);
	} else if (p->bad && length == 0) {
		err = part_remove_locked(p, false, why);
		if (!err && part_sync_dir(s, id.object) < 0)
			err = part_fail(p, -EIO, "cannot be removed durably", why);
	}
	part_release(p);
	return err;
}

/* ---- adopting ---- */

static int copy_data(int from, int to, uint64_t bytes)
{
	off_t in = 0, out = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	while ((uint64_t)in < bytes) {
		ssize_t n = copy_file_range(from, &in, to, &out, bytes - (uint64_t)in, 0);
		if (n == 0)
			return -ENODATA;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
	return 0;
}

static int make_copy(struct part *from, struct part *to)
{
	AUTO_CLOSE int in = part_open_file(from, "", O_RDONLY);
	AUTO_CLOSE int out = part_open_file(to, ".new", O_RDWR | O_CREAT | O_TRUNC);

	return in < 0 ? in : out < 0 ? out : copy_data(in, out, from->bytes);
}

/* Without the header: that of another partition must never be seen here. */
static int copy_sums(int in, int out, uint64_t blocks)
{
	struct le64 sums[512];
	int err = 0;

	for (uint64_t b = 0; !err && b < blocks; b += ARRAY_LEN(sums)) {
		size_t n = (size_t)MIN(ARRAY_LEN(sums), blocks - b);
		err = sums_read(in, b, n, sums);
		if (!err)
			err = sums_write(out, b, n, sums);
	}
	return err;
}

static int make_sums_beside(struct part *from, struct part *to)
{
	AUTO_CLOSE int in = part_open_file(from, ".sum", O_RDONLY);
	AUTO_CLOSE int out = part_open_file(to, ".sum.new", O_RDWR | O_CREAT | O_TRUNC);
	struct sums_header h = {
		.file_bytes = from->bytes,
		.version = MAX(to->version + 1, time_real_ns()),
		.run = from->store->run,
		.id = to->id,
	};
	int err = in < 0 ? in : out < 0 ? out : 0;

	if (!err && ftruncate(out, (off_t)sums_file_bytes(from->bytes)) < 0)
		err = -errno;
	if (!err)
		err = copy_sums(in, out, sums_blocks(from->bytes));
	return err ? err : sums_write_header(out, &h);
}

static int rename_part(struct part *from, const char *from_suffix, struct part *to, const char *to_suffix)
{
	char old[PART_PATH_MAX], new[PART_PATH_MAX];

	part_path(from->id, from_suffix, old);
	part_path(to->id, to_suffix, new);
	return renameat(from->store->dirfd, old, from->store->dirfd, new) < 0 ? -errno : 0;
}

static void unlink_part(struct part *p, const char *suffix)
{
	char path[PART_PATH_MAX];

	part_path(p->id, suffix, path);
	unlinkat(p->store->dirfd, path, 0);
}

/* The old sums go before the data is replaced and the new ones come after it: who dies in between leaves a partition without sums,
 * to be sealed anew. */
static int swap_in(struct part *from, struct part *to, bool link)
{
	int err;

	err = part_bury_locked(to);
	if (!err && !link)
		err = part_bury_locked(from);
	if (err)
		return err;
	err = link ? rename_part(to, ".new", to, "") : rename_part(from, "", to, "");
	return err ? err : rename_part(to, ".sum.new", to, ".sum");
}

static int prepare(struct part *from, struct part *to, bool link)
{
	char dir[PART_PATH_MAX];
	int err;

	part_dir(to->id.object, dir);
	err = io_mkdirs(to->store->dirfd, dir, 0700);
	if (!err)
		err = make_sums_beside(from, to);
	if (!err && link)
		err = make_copy(from, to);
	if (err) {
		unlink_part(to, ".new");
		unlink_part(to, ".sum.new");
	}
	return err;
}

/* What replaces durable bytes is durable first, so that a power cut leaves the one or the other; and the sums of what is replaced are not believed
 * beside other data. */
static int guard_durable(struct part *from, struct part *to, struct reason *why)
{
	AUTO_CLOSE int fd = -1;

	if (!to->durable && !to->bad)
		return 0;
	to->durable = true; /* for all that we know of one that is quarantined */
	fd = part_open_file(from, "", O_RDONLY);
	if (fd < 0 || (!from->durable && fsync(fd) < 0))
		return part_fail(from, fd < 0 ? fd : -errno, "fsync", why);
	part_list_unsynced(to, !to->bad);
	return part_undurable_locked(to, why);
}

static int check_adopt(struct part *from, struct part *to, uint64_t expect_bytes, struct reason *why)
{
	int err = part_check_good_locked(from, why);

	if (err)
		return err;
	if (from->state == PART_MISSING)
		return part_fail(from, -ENOENT, "cannot be adopted", why);
	if (from->n_leases || to->n_leases)
		return part_fail(from->n_leases ? from : to, -EBUSY, "has writers", why);
	if (from->state != PART_SEALED)
		err = part_seal_locked(from, why);
	if (!err && from->bytes != expect_bytes)
		err = reason_set(why, EINVAL, "object %llu partition %llu: %llu bytes long; a partition here has %llu",
				 (unsigned long long)from->id.object, (unsigned long long)from->id.index,
				 (unsigned long long)from->bytes, (unsigned long long)expect_bytes);
	return err;
}

static int adopt_locked(struct part *from, struct part *to, bool link, uint64_t expect_bytes, struct reason *why)
{
	bool existed = to->state != PART_MISSING;
	int err = check_adopt(from, to, expect_bytes, why);

	if (!err)
		err = guard_durable(from, to, why);
	if (!err) {
		err = prepare(from, to, link);
		if (err)
			return part_fail(to, err, "cannot be replaced", why);
	}
	if (err)
		return err;
	err = swap_in(from, to, link);
	part_unquarantine_locked(to);
	part_forget_locked(to);
	if (!link)
		part_forget_locked(from);
	if (err)
		return part_fail(to, err, "cannot be replaced", why);
	if (link != existed)
		atomic_fetch_add(&to->store->partitions, link ? 1 : (uint64_t)-1);
	err = part_load_locked(to, why);
	to->new_names = true;
	part_list_unsynced(to, true);
	return err;
}

int store_adopt(struct store *s, struct part_id from, struct part_id to, bool link, uint64_t expect_bytes,
		struct reason *why)
{
	bool swap = from.object > to.object || (from.object == to.object && from.index > to.index);
	struct part *first, *second;
	int err;

	if (from.object == to.object && from.index == to.index)
		return reason_set(why, EINVAL, "a partition cannot become itself");
	err = part_acquire(s, swap ? to : from, &first, why);
	if (err)
		return err;
	err = part_acquire(s, swap ? from : to, &second, why);
	if (!err) {
		err = adopt_locked(swap ? second : first, swap ? first : second, link, expect_bytes, why);
		part_release(second);
	}
	part_release(first);
	return err;
}

static bool is_there(struct store *s, struct part_id id, uint64_t bytes)
{
	struct part *p;
	bool is;

	if (part_acquire(s, id, &p, NULL) < 0)
		return false;
	is = p->state != PART_MISSING && !p->bad && (bytes == UINT64_MAX || p->bytes == bytes);
	part_release(p);
	return is;
}

bool store_adopted(struct store *s, struct part_id from, struct part_id to, uint64_t expect_bytes)
{
	return !is_there(s, from, UINT64_MAX) && is_there(s, to, expect_bytes);
}
