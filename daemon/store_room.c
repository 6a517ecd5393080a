/* The room that a partition's bytes take on the disk: reserving, punching, finding holes, and copies that the kernel makes. */
#include "part.h"
#include "io.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define PIECE_BYTES (UINT64_C(1) << 20)

/* What a sealed partition needs before bytes of [offset, offset + len) are replaced; they are marked. */
static int prepare_change_locked(struct part *p, int fd, uint64_t offset, uint64_t len, struct reason *why)
{
	int err = 0;

	if (offset > p->bytes && p->bytes % SUMS_BLOCK_BYTES) /* its last block becomes longer */
		err = part_verify_edge_locked(p, fd, p->bytes, why);
	if (!err && offset % SUMS_BLOCK_BYTES)
		err = part_verify_edge_locked(p, fd, offset, why);
	if (!err && (offset + len) % SUMS_BLOCK_BYTES && offset + len < p->bytes)
		err = part_verify_edge_locked(p, fd, offset + len, why);
	if (!err && part_mark_locked(p, offset, len) < 0)
		err = reason_set(why, ENOMEM, "no memory to note what changes");
	return err;
}

/* Opened for a change; made when it is missing. */
static int open_for_change(struct part *p, int *ret_fd, struct reason *why)
{
	const struct part_alloc empty = { 0 };
	int fd, err = part_open_locked(p, &empty, why);

	if (err)
		return err;
	fd = part_open_file(p, "", O_RDWR);
	if (fd < 0)
		return part_fail(p, fd, "open for writing", why);
	*ret_fd = fd;
	return 0;
}

/* After a change that may have failed half-way.  What cannot be sealed now is sealed anew when it is next used. */
static int seal_change(struct part *p, int err, struct reason *why)
{
	if (!err)
		err = part_seal_locked(p, why);
	if (err && p->n_leases == 0 && !p->bad)
		part_forget_locked(p);
	return err;
}

/* ---- allocating ---- */

static int reserve(int fd, uint64_t offset, uint64_t length)
{
	struct statvfs fs;

	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	if (fstatvfs(fd, &fs) < 0)
		return -errno;
	return fs.f_bavail * fs.f_frsize < length ? -ENOSPC : 0;
}

static int write_zeros(int fd, uint64_t offset, uint64_t length)
{
	AUTO_FREE char *zeros = calloc(1, PIECE_BYTES);
	int err = zeros ? 0 : -ENOMEM;

	for (uint64_t done = 0; !err && done < length; done += PIECE_BYTES)
		err = io_pwrite(fd, zeros, MIN(PIECE_BYTES, length - done), offset + done);
	return err;
}

static int zero(int fd, uint64_t offset, uint64_t length, bool punch)
{
	int mode = punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

	if (length == 0 || fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0)
		return 0;
	return errno == EOPNOTSUPP ? write_zeros(fd, offset, length) : -errno;
}

/* Zeros what there is of the range.  Beyond the file's end are zeros already, but there may be room to give back. */
static int zero_locked(struct part *p, uint64_t offset, uint64_t length, bool punch, struct reason *why)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	uint64_t within = 0;
	int err = open_for_change(p, &fd, why);

	if (err)
		return err;
	if (fstat(fd, &st) < 0)
		return part_fail(p, -errno, "stat", why);
	if (offset < (uint64_t)st.st_size)
		within = MIN(length, (uint64_t)st.st_size - offset);
	if (within > 0)
		err = prepare_change_locked(p, fd, offset, within, why);
	if (err)
		return err;
	err = zero(fd, offset, within, punch);
	if (!err && !punch)
		err = reserve(fd, offset, length);
	else if (!err && within < length)
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(offset + within),
			  (off_t)(length - within));
	return err ? part_fail(p, err, "zeros", why) : 0;
}

static int reserve_locked(struct part *p, uint64_t offset, uint64_t length, struct reason *why)
{
	AUTO_CLOSE int fd = -1;
	int err = part_check_good_locked(p, why);

	if (!err && p->state == PART_MISSING) {
		int made = -1;
		err = open_for_change(p, &made, why);
		if (!err)
			close(made);
		if (!err)
			err = seal_change(p, 0, why);
	}
	if (err)
		return err;
	fd = part_open_file(p, "", O_RDWR); /* its bytes stay as they are, and so do its sums */
	err = fd < 0 ? fd : reserve(fd, offset, length);
	return err ? part_fail(p, err, "room for it", why) : 0;
}

int store_allocate(struct store *s, struct part_id id, uint64_t offset, uint64_t length, enum store_room room,
		   struct reason *why)
{
	struct part *p;
	int err = part_acquire(s, id, &p, why);

	if (err)
		return err;
	if (length == 0 || (room == STORE_PUNCH && p->state == PART_MISSING && !p->bad))
		err = 0;
	else if (room == STORE_RESERVE)
		err = reserve_locked(p, offset, length, why);
	else
		err = seal_change(p, zero_locked(p, offset, length, room == STORE_PUNCH, why), why);
	part_release(p);
	return err;
}

/* ---- seeking ---- */

static int seek_locked(struct part *p, uint64_t offset, bool hole, uint64_t *ret, struct reason *why)
{
	AUTO_CLOSE int fd = -1;
	off_t found;
	int err = part_check_good_locked(p, why);

	*ret = hole ? offset : UINT64_MAX;
	if (err || p->state == PART_MISSING)
		return err;
	fd = part_open_file(p, "", O_RDONLY);
	if (fd < 0)
		return part_fail(p, fd, "open", why);
	found = lseek(fd, (off_t)offset, hole ? SEEK_HOLE : SEEK_DATA);
	if (found >= 0)
		*ret = (uint64_t)found;
	else if (errno != ENXIO)
		return part_fail(p, -errno, "seek", why);
	return 0;
}

int store_seek(struct store *s, struct part_id id, uint64_t offset, bool hole, uint64_t *ret, struct reason *why)
{
	struct part *p;
	int err = part_acquire(s, id, &p, why);

	if (err)
		return err;
	err = seek_locked(p, offset, hole, ret, why);
	part_release(p);
	return err;
}

/* ---- copying ---- */

static int copy_by_hand(int in, uint64_t from, int out, uint64_t to, uint64_t length)
{
	AUTO_FREE char *buf = malloc(PIECE_BYTES);
	int err = buf ? 0 : -ENOMEM;

	for (uint64_t done = 0; !err && done < length;) {
		size_t got = 0;
		err = io_pread(in, buf, (size_t)MIN(PIECE_BYTES, length - done), from + done, &got);
		if (!err && got == 0) /* cut off meanwhile: zeros, as who reads would get */
			return write_zeros(out, to + done, length - done);
		if (!err)
			err = io_pwrite(out, buf, got, to + done);
		done += got;
	}
	return err;
}

static int copy_bytes(int in, uint64_t from, int out, uint64_t to, uint64_t length)
{
	off_t in_at = (off_t)from, out_at = (off_t)to;

	while (length > 0) {
		ssize_t n = copy_file_range(in, &in_at, out, &out_at, length, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
			return -errno;
		if (n <= 0)
			return copy_by_hand(in, (uint64_t)in_at, out, (uint64_t)out_at, length);
		length -= (uint64_t)n;
	}
	return 0;
}

/* `have` bytes come from `in`; the rest of `length` are zeros. */
static int copy_locked(struct part *p, int in, uint64_t from, uint64_t have, uint64_t to, uint64_t length,
		       struct reason *why)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	int err = open_for_change(p, &fd, why);

	if (!err && fstat(fd, &st) < 0)
		err = part_fail(p, -errno, "stat", why);
	if (err)
		return err;
	uint64_t end = have == length ? to + have : MAX(to + have, MIN(to + length, (uint64_t)st.st_size));
	if (end <= to)
		return 0;
	err = prepare_change_locked(p, fd, to, end - to, why);
	if (err)
		return err;
	err = copy_bytes(in, from, fd, to, have);
	if (!err)
		err = zero(fd, to + have, end - to - have, true);
	return err ? part_fail(p, err, "copy", why) : 0;
}

int store_copy(struct store *s, struct part_id from, uint64_t from_offset, struct part_id to, uint64_t to_offset,
	       uint64_t length, struct reason *why)
{
	struct part_file in = { .fd = -1 };
	AUTO_CLOSE int fd = -1;
	struct part *p;
	int err = store_read_fd(s, from, from_offset, length, &in, why);

	if (err && err != -ENOENT)
		return err;
	fd = in.fd;
	uint64_t have = fd < 0 || from_offset >= in.bytes ? 0 : MIN(length, in.bytes - from_offset);
	err = part_acquire(s, to, &p, why);
	if (err)
		return err;
	if (have > 0 || p->state != PART_MISSING || p->bad)
		err = seal_change(p, copy_locked(p, fd, from_offset, have, to_offset, length, why), why);
	part_release(p);
	return err;
}
