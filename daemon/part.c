/* The files of one partition.  Its .sum is made before its data appears and removed before its data goes, so that a process that
 * dies on the way leaves data without sums or sums of nothing, never a durable claim about data that is not there. */
#include "part.h"
#include "io.h"
#include "log.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define FILL_CHUNK_BYTES (1u << 20)
#define BAD_MAX 256
#define OBJECT_HASH UINT64_C(0x9e3779b97f4a7c15) /* 2^64 / golden ratio */

void part_dir(uint64_t object, char ret[PART_PATH_MAX])
{
	snprintf(ret, PART_PATH_MAX, "parts/%02x/%llu", (unsigned)(object * OBJECT_HASH >> 56),
		 (unsigned long long)object);
}

void part_path(struct part_id id, const char *suffix, char ret[PART_PATH_MAX])
{
	snprintf(ret, PART_PATH_MAX, "parts/%02x/%llu/%llu%s", (unsigned)(id.object * OBJECT_HASH >> 56),
		 (unsigned long long)id.object, (unsigned long long)id.index, suffix);
}

int part_open_file(struct part *p, const char *suffix, int flags)
{
	char path[PART_PATH_MAX];
	int fd;

	part_path(p->id, suffix, path);
	fd = openat(p->store->dirfd, path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int part_open_regular(struct part *p, const char *suffix, struct stat *ret_st)
{
	int err, fd = part_open_file(p, suffix, O_RDONLY | O_NONBLOCK);

	if (fd < 0)
		return fd == -ELOOP || fd == -ENXIO ? -ENOTSUP : fd;
	err = fstat(fd, ret_st) < 0 ? -errno : S_ISREG(ret_st->st_mode) ? 0 : -ENOTSUP;
	if (err)
		close(fd);
	return err ? err : fd;
}

bool part_exists(struct part *p, const char *suffix)
{
	char path[PART_PATH_MAX];

	part_path(p->id, suffix, path);
	return faccessat(p->store->dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int part_fail(const struct part *p, int err, const char *what, struct reason *why)
{
	return reason_set(why, -err, "object %llu partition %llu: %s: %s", (unsigned long long)p->id.object,
			  (unsigned long long)p->id.index, what, strerror(-err));
}

static int part_unlink(struct part *p, const char *suffix)
{
	char path[PART_PATH_MAX];

	part_path(p->id, suffix, path);
	return unlinkat(p->store->dirfd, path, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int part_rename(struct part *p, const char *from, const char *to)
{
	char old[PART_PATH_MAX], new[PART_PATH_MAX];

	part_path(p->id, from, old);
	part_path(p->id, to, new);
	return renameat(p->store->dirfd, old, p->store->dirfd, new) < 0 ? -errno : 0;
}

/* ---- quarantine ---- */

int part_check_good_locked(const struct part *p, struct reason *why)
{
	if (!p->bad)
		return 0;
	return reason_set(why, EIO, "object %llu partition %llu: %s; quarantined", (unsigned long long)p->id.object,
			  (unsigned long long)p->id.index, p->bad);
}

static int write_bad(struct part *p)
{
	char dir[PART_PATH_MAX];
	AUTO_CLOSE int fd = -1;
	int err;

	part_dir(p->id.object, dir);
	err = io_mkdirs(p->store->dirfd, dir, 0700); /* it may be lost too */
	if (!err)
		fd = part_open_file(p, ".bad", O_WRONLY | O_CREAT | O_TRUNC);
	if (!err)
		err = fd < 0 ? fd : io_write(fd, p->bad, strlen(p->bad));
	if (!err && fsync(fd) < 0)
		err = -errno;
	return err ? err : io_fsync_dir(p->store->dirfd, dir);
}

int part_quarantine_locked(struct part *p, struct reason *why, const char *fmt, ...)
{
	char text[BAD_MAX];
	struct reason full;
	va_list args;
	int err;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (!p->bad) {
		p->bad = strdup(text);
		if (!p->bad)
			return reason_set(why, EIO, "%s", text);
		atomic_fetch_add(&p->store->quarantined, 1);
		part_check_good_locked(p, &full);
		log_error("store: %s", full.text);
		err = write_bad(p);
		if (err)
			log_error("store: cannot mark it: %s", strerror(-err));
	}
	p->epoch++;
	return part_check_good_locked(p, why);
}

void part_unquarantine_locked(struct part *p)
{
	if (!p->bad)
		return;
	part_unlink(p, ".bad");
	free(p->bad);
	p->bad = NULL;
	p->new_names = true;
	atomic_fetch_sub(&p->store->quarantined, 1);
	log_info("store: object %llu partition %llu: replaced, out of quarantine", (unsigned long long)p->id.object,
		 (unsigned long long)p->id.index);
}

/* ---- loading ---- */

static int load_bad(struct part *p)
{
	char path[PART_PATH_MAX];
	size_t len;
	int err;

	part_path(p->id, ".bad", path);
	err = io_read_file(p->store->dirfd, path, BAD_MAX, &p->bad, &len);
	return err == -ENOENT ? 0 : err;
}

/* What the catalog says of it, unless it was removed or replaced since: then it has a tombstone. */
static bool is_listed(struct part *p, uint64_t *ret_version)
{
	return catalog_find(p->store->catalog, p->id, ret_version) && *ret_version && !part_exists(p, ".gone");
}

/* Whether the store that was here before may have held it.  Version 0: it was removed since. */
static bool may_be_lost(struct part *p)
{
	uint64_t version;

	return p->id.object < p->store->lost_below && !catalog_find(p->store->catalog, p->id, &version);
}

/* Whether a power cut may have kept its files from being written.  What is listed was on the disk, and its header only changes in place. */
static bool may_be_torn(struct part *p)
{
	uint64_t version;

	return p->store->unclean && !atomic_load(&p->store->recovered) && !is_listed(p, &version);
}

static int seal_anew(struct part *p, const char *because, struct reason *why)
{
	if (!atomic_exchange(&p->store->resealing_logged, true))
		log_warn("store: sealing partitions anew that were not durable at the last stop");
	if (because)
		log_warn("store: object %llu partition %llu: %s; sealed anew", (unsigned long long)p->id.object,
			 (unsigned long long)p->id.index, because);
	p->state = PART_OPEN;
	p->dirty_all = p->late = true;
	p->new_names = true;
	return part_seal_locked(p, why);
}

static int load_data(struct part *p, uint64_t data_bytes, const struct sums_header *h, uint64_t sum_bytes,
		     struct reason *why)
{
	uint64_t listed = 0;

	p->version = h->version;
	if (!h->durable && h->run != p->store->run)
		return seal_anew(p, NULL, why);
	p->state = PART_SEALED;
	p->durable = h->durable;
	p->bytes = h->file_bytes;
	if (data_bytes != h->file_bytes)
		part_quarantine_locked(p, NULL, "%llu bytes long; %llu were sealed", (unsigned long long)data_bytes,
				       (unsigned long long)h->file_bytes);
	else if (sum_bytes < sums_file_bytes(h->file_bytes))
		part_quarantine_locked(p, NULL, "its checksum file is cut short");
	else if (h->durable && is_listed(p, &listed) && listed > h->version)
		part_quarantine_locked(p, NULL, "an older copy: version %llu, and version %llu was made durable",
				       (unsigned long long)h->version, (unsigned long long)listed);
	else if (h->durable && listed < h->version)
		catalog_put(p->store->catalog, p->id, h->version);
	return 0;
}

/* Sums without data: a partition that was being made or removed when the process died, or one that was lost. */
static int load_lost(struct part *p, int header_err, const struct sums_header *h)
{
	bool promised = !header_err && (h->durable || h->run == p->store->run);
	uint64_t version;

	p->state = PART_MISSING;
	if (promised || (header_err && !may_be_torn(p)) || is_listed(p, &version))
		part_quarantine_locked(p, NULL, "its data is lost");
	else
		part_unlink(p, ".sum");
	return 0;
}

static int load_without_sums(struct part *p, bool has_data, struct reason *why)
{
	uint64_t version;

	if (has_data && may_be_torn(p))
		return seal_anew(p, "no checksums after an unclean stop", why);
	if (has_data)
		part_quarantine_locked(p, NULL, "its checksum file is missing");
	else if (is_listed(p, &version))
		part_quarantine_locked(p, NULL, "its files are gone");
	else if (may_be_lost(p))
		part_quarantine_locked(p, NULL, "it was lost with the store that was here before");
	return 0;
}

static int load_files(struct part *p, struct reason *why)
{
	struct stat data_st = { 0 }, sum_st = { 0 };
	AUTO_CLOSE int data = part_open_regular(p, "", &data_st);
	AUTO_CLOSE int sum = part_open_regular(p, ".sum", &sum_st);
	struct sums_header h = { 0 };
	struct reason detail = { "" };
	int err;

	p->state = data >= 0 || data == -ENOTSUP ? PART_SEALED : PART_MISSING;
	if (data == -ENOTSUP || sum == -ENOTSUP) {
		part_quarantine_locked(p, NULL, "its %s is not a regular file",
				       data == -ENOTSUP ? "data" : "checksum file");
		return 0;
	}
	if ((data < 0 && data != -ENOENT) || (sum < 0 && sum != -ENOENT))
		return part_fail(p, data < 0 && data != -ENOENT ? data : sum, "open", why);
	if (sum < 0)
		return load_without_sums(p, data >= 0, why);
	err = sums_read_header(sum, &h, &detail);
	if (err && err != -EBADMSG && err != -ENODATA)
		return part_fail(p, err, "read of its checksum file", why);
	if (!err && (h.id.object != p->id.object || h.id.index != p->id.index)) {
		part_quarantine_locked(p, NULL, "its checksum file is that of object %llu partition %llu",
				       (unsigned long long)h.id.object, (unsigned long long)h.id.index);
		return 0;
	}
	if (data < 0)
		return load_lost(p, err, &h);
	if (err == -ENODATA && may_be_torn(p))
		return seal_anew(p, "empty checksum file after an unclean stop", why);
	if (err) {
		part_quarantine_locked(p, NULL, "%s", detail.text[0] ? detail.text : "its checksum file is empty");
		return 0;
	}
	return load_data(p, (uint64_t)data_st.st_size, &h, (uint64_t)sum_st.st_size, why);
}

int part_load_locked(struct part *p, struct reason *why)
{
	int err;

	if (p->loaded)
		return 0;
	err = load_bad(p);
	if (err)
		return part_fail(p, err, "read of its quarantine mark", why);
	if (p->bad) {
		p->state = part_exists(p, "") ? PART_SEALED : PART_MISSING;
		catalog_find(p->store->catalog, p->id, &p->version);
	} else {
		err = load_files(p, why);
	}
	p->loaded = !err;
	return err;
}

void part_forget_locked(struct part *p)
{
	free(p->bad);
	p->bad = NULL;
	p->loaded = p->durable = p->new_names = p->dirty_all = p->late = false;
	p->state = PART_MISSING;
	p->sync_err = 0;
	p->bytes = 0;
	p->ctime = (struct timespec){ 0 };
	p->epoch++;
	bits_fini(&p->verified);
	bits_fini(&p->dirty);
	free(p->leases);
	p->leases = NULL;
	p->n_leases = 0;
	part_list_open(p, false);
	part_list_unsynced(p, false);
}

/* ---- making and removing ---- */

static int fill(int fd, const struct part_alloc *a)
{
	size_t chunk = FILL_CHUNK_BYTES - FILL_CHUNK_BYTES % a->fill_bytes;
	AUTO_FREE uint8_t *buf = malloc(chunk);
	int err = buf ? 0 : -ENOMEM;

	for (size_t i = 0; buf && i < chunk; i++)
		buf[i] = a->fill[i % a->fill_bytes];
	for (uint64_t at = 0; !err && at < a->bytes; at += chunk)
		err = io_pwrite(fd, buf, MIN(chunk, a->bytes - at), at);
	return err;
}

static int allocate(int fd, uint64_t bytes)
{
	struct statvfs fs;

	if (bytes == 0 || fallocate(fd, 0, 0, (off_t)bytes) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	if (fstatvfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_bavail * fs.f_frsize < bytes)
		return -ENOSPC;
	return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int make_data(struct part *p, const struct part_alloc *alloc)
{
	AUTO_CLOSE int fd = part_open_file(p, ".new", O_RDWR | O_CREAT | O_TRUNC);
	int err = fd < 0 ? fd : allocate(fd, alloc->bytes);

	if (!err && alloc->fill_bytes > 0)
		err = fill(fd, alloc);
	return err;
}

static int make_sums(struct part *p, uint64_t bytes)
{
	AUTO_CLOSE int fd = part_open_file(p, ".sum", O_RDWR | O_CREAT | O_TRUNC);
	struct sums_header h = { .file_bytes = bytes, .run = SUMS_RUN_OPEN, .id = p->id };

	if (fd >= 0 && ftruncate(fd, (off_t)sums_file_bytes(bytes)) < 0)
		return -errno;
	return fd < 0 ? fd : sums_write_header(fd, &h);
}

int part_create_locked(struct part *p, const struct part_alloc *alloc, struct reason *why)
{
	char dir[PART_PATH_MAX];
	int err = make_data(p, alloc);

	if (err == -ENOENT) {
		part_dir(p->id.object, dir);
		err = io_mkdirs(p->store->dirfd, dir, 0700);
		if (!err)
			err = make_data(p, alloc);
	}
	if (!err)
		err = make_sums(p, alloc->bytes);
	if (!err)
		err = part_rename(p, ".new", "");
	if (err) {
		part_unlink(p, ".new");
		part_unlink(p, ".sum");
		return part_fail(p, err, "cannot be made", why);
	}
	p->state = PART_OPEN;
	p->durable = false;
	p->new_names = p->dirty_all = true;
	p->bytes = alloc->bytes;
	p->epoch++;
	atomic_fetch_add(&p->store->partitions, 1);
	return 0;
}

int part_sync_dir(struct store *s, uint64_t object)
{
	char dir[PART_PATH_MAX];
	int err;

	part_dir(object, dir);
	err = io_fsync_dir(s->dirfd, dir);
	return err == -ENOENT ? 0 : err;
}

int part_unlink_any(struct part *p, const char *suffix)
{
	int err = part_unlink(p, suffix);

	return err == -EISDIR || err == -EPERM ? part_rename(p, suffix, ".stray") : err;
}

int part_bury_locked(struct part *p)
{
	uint64_t version;
	int err;

	if (!catalog_find(p->store->catalog, p->id, &version) || !version)
		return part_unlink_any(p, ".sum");
	err = part_rename(p, ".sum", ".gone");
	if (err == -ENOENT) {
		AUTO_CLOSE int fd = part_open_file(p, ".gone", O_WRONLY | O_CREAT);
		err = fd >= 0 || fd == -ENOENT ? 0 : fd; /* the whole directory is lost: no one misses it */
	}
	if (err)
		return err;
	catalog_del(p->store->catalog, p->id, true);
	store_catalog_due(p->store);
	return 0;
}

int part_remove_locked(struct part *p, bool whole_object, struct reason *why)
{
	bool existed = p->state != PART_MISSING, was_bad = p->bad != NULL;
	int err = whole_object ? part_unlink_any(p, ".sum") : part_bury_locked(p);

	if (!err)
		err = part_unlink_any(p, "");
	if (!err && was_bad)
		err = part_unlink(p, ".bad");
	if (!err && whole_object)
		err = part_unlink(p, ".gone");
	if (err)
		return part_fail(p, err, "cannot be removed", why);
	if (!whole_object && p->id.object < p->store->lost_below)
		catalog_put(p->store->catalog, p->id, 0);
	part_forget_locked(p);
	p->loaded = true;
	if (existed)
		atomic_fetch_sub(&p->store->partitions, 1);
	if (was_bad)
		atomic_fetch_sub(&p->store->quarantined, 1);
	return 0;
}
