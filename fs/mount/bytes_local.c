#include "bytes_internal.h"
#include "io.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define LEASE_TRIES 8

/* ---- the table of partitions ---- */

static void unlink_locked(struct bytes *b, struct part *p)
{
	*(p->newer ? &p->newer->older : &b->newest) = p->older;
	*(p->older ? &p->older->newer : &b->oldest) = p->newer;
}

static void link_newest_locked(struct bytes *b, struct part *p)
{
	p->newer = NULL;
	p->older = b->newest;
	*(b->newest ? &b->newest->newer : &b->oldest) = p;
	b->newest = p;
}

static struct part *part_new(uint64_t index)
{
	struct part *p = calloc(1, sizeof(*p));
	pthread_rwlockattr_t attr;

	if (!p)
		return NULL;
	p->index = index;
	p->rfd = p->wfd = -1;
	/* A seal must not starve behind writers that never pause. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&p->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&p->ranges_lock, NULL);
	return p;
}

static void part_free(struct part *p)
{
	part_close_locked(p);
	ranges_fini(&p->ranges);
	pthread_mutex_destroy(&p->ranges_lock);
	pthread_rwlock_destroy(&p->lock);
	free(p);
}

/* Takes one that nobody needs out of the table when there are too many. */
static struct part *evict_locked(struct bytes *b)
{
	if (map_count(&b->parts) < PARTS_KEPT + b->n_dirty)
		return NULL;
	for (struct part *p = b->oldest; p; p = p->newer) {
		if (p->refs > 0 || atomic_load(&p->dirty))
			continue;
		unlink_locked(b, p);
		map_del(&b->parts, p->index);
		return p;
	}
	return NULL;
}

static struct part *insert_locked(struct bytes *b, uint64_t index)
{
	struct part *p = part_new(index);

	if (!p)
		return NULL;
	if (map_put(&b->parts, index, p)) {
		part_free(p);
		return NULL;
	}
	return p;
}

struct part *part_get(struct bytes *b, uint64_t index)
{
	struct part *p, *evicted = NULL;

	pthread_mutex_lock(&b->lock);
	p = map_get(&b->parts, index);
	if (p) {
		unlink_locked(b, p);
	} else {
		evicted = evict_locked(b);
		p = insert_locked(b, index);
	}
	if (p) {
		link_newest_locked(b, p);
		p->refs++;
	}
	pthread_mutex_unlock(&b->lock);
	if (evicted)
		part_free(evicted);
	return p;
}

void part_put(struct bytes *b, struct part *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&b->lock);
	p->refs--;
	pthread_mutex_unlock(&b->lock);
}

void part_mark_dirty(struct bytes *b, struct part *p)
{
	if (atomic_load(&p->dirty))
		return;
	pthread_mutex_lock(&b->lock);
	if (!atomic_exchange(&p->dirty, true))
		b->n_dirty++;
	pthread_mutex_unlock(&b->lock);
}

void part_mark_clean(struct bytes *b, struct part *p)
{
	pthread_mutex_lock(&b->lock);
	if (atomic_exchange(&p->dirty, false))
		b->n_dirty--;
	pthread_mutex_unlock(&b->lock);
}

static int by_index(const void *a, const void *b)
{
	const struct part *x = *(struct part *const *)a, *y = *(struct part *const *)b;

	return x->index < y->index ? -1 : x->index > y->index;
}

int part_collect(struct bytes *b, uint64_t first, uint64_t count, bool dirty_only, struct part ***ret, size_t *ret_n)
{
	struct part **list;
	size_t n = 0, pos = 0;
	uint64_t key;
	void *value;

	pthread_mutex_lock(&b->lock);
	list = calloc(map_count(&b->parts) + 1, sizeof(struct part *));
	while (list && map_next(&b->parts, &pos, &key, &value)) {
		struct part *p = value;
		if (key < first || key - first >= count || (dirty_only && !atomic_load(&p->dirty)))
			continue;
		p->refs++;
		list[n++] = p;
	}
	pthread_mutex_unlock(&b->lock);
	if (!list)
		return -ENOMEM;
	qsort(list, n, sizeof(struct part *), by_index);
	*ret = list;
	*ret_n = n;
	return 0;
}

void part_free_all(struct bytes *b)
{
	while (b->newest) {
		struct part *p = b->newest;
		unlink_locked(b, p);
		part_free(p);
	}
	map_fini(&b->parts);
}

/* ---- descriptors and leases ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void part_close_locked(struct part *p)
{
	close_fd(&p->rfd);
	close_fd(&p->wfd);
}

void part_close_read_locked(struct part *p)
{
	close_fd(&p->rfd);
}

void part_forget_locked(struct bytes *b, struct part *p)
{
	part_close_locked(p);
	ranges_clear(&p->ranges);
	part_mark_clean(b, p);
}

static int ask_open(struct bytes *b, struct part *p, uint32_t flags, int *ret_fd, struct reason *why)
{
	struct wire_part_open body = { .part = bytes_part_id(b, p->index, flags), .alloc = b->layout.alloc };
	struct wire_part_open_reply reply;
	struct fan_call c = {
		.call = { .type = WIRE_PART_OPEN, .body = &body, .body_bytes = sizeof(body), .reply_body = &reply },
		.retry = true
	};
	int err = bytes_call(b, p->index, &c, NULL, why);

	if (err)
		return err;
	if (c.call.reply_fd < 0)
		return reason_set(why, EIO, "partition %llu: the node on this machine sent no descriptor",
				  (unsigned long long)p->index);
	*ret_fd = c.call.reply_fd;
	return 0;
}

/* Another mount may have had it removed or replaced: what is written to the old file nobody will read. */
static bool was_removed(int fd)
{
	struct stat st;

	return fd >= 0 && (fstat(fd, &st) || st.st_nlink == 0);
}

bool part_leased_locked(const struct part *p, struct client *c)
{
	return p->wfd >= 0 && p->losses == client_losses(c) && !was_removed(p->wfd);
}

void part_drop_removed_locked(struct bytes *b, struct part *p)
{
	if (was_removed(p->wfd))
		part_forget_locked(b, p);
}

/* While there is a lease its descriptor serves the reads as well; afterwards the node hands out a verified one again. */
int part_lease_locked(struct bytes *b, struct part *p, struct client *c, struct reason *why)
{
	uint64_t losses = client_losses(c);
	int fd, err = ask_open(b, p, WIRE_PART_FOR_WRITE, &fd, why);

	if (err)
		return err;
	part_close_locked(p);
	p->wfd = fd;
	p->losses = losses;
	return 0;
}

/* Returns with p->lock held for reading and a descriptor in *ret_fd. */
static int lock_for_read(struct bytes *b, struct part *p, int *ret_fd, struct reason *why)
{
	int err;

	for (;;) {
		pthread_rwlock_rdlock(&p->lock);
		*ret_fd = p->wfd >= 0 ? p->wfd : p->rfd;
		if (*ret_fd >= 0)
			return 0;
		pthread_rwlock_unlock(&p->lock);
		pthread_rwlock_wrlock(&p->lock);
		err = p->wfd < 0 && p->rfd < 0 ? ask_open(b, p, 0, &p->rfd, why) : 0;
		pthread_rwlock_unlock(&p->lock);
		if (err)
			return err;
	}
}

int part_read(struct bytes *b, struct part *p, char *buf, size_t len, uint64_t offset, struct reason *why)
{
	size_t done = 0;
	int fd, err = lock_for_read(b, p, &fd, why);

	if (err == -ENOENT) {
		bytes_fill(&b->layout, buf, len, offset);
		return 0;
	}
	if (err)
		return err;
	err = io_pread(fd, buf, len, offset, &done);
	pthread_rwlock_unlock(&p->lock);
	if (err)
		return reason_set(why, -err, "partition %llu on this machine: %s", (unsigned long long)p->index,
				  strerror(-err));
	memset(buf + done, 0, len - done);
	return 0;
}

int part_read_fd(struct bytes *b, struct part *p, size_t len, uint64_t offset, int *ret_fd, struct reason *why)
{
	struct stat st;
	uint64_t end;
	int fd, copy = -1, err = lock_for_read(b, p, &fd, why);

	if (err)
		return err;
	if (fstat(fd, &st))
		err = -errno;
	else if (add_overflows(offset, len, &end) || end > (uint64_t)st.st_size)
		err = -ENOENT;
	if (!err) {
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		err = copy < 0 ? -errno : 0;
	}
	pthread_rwlock_unlock(&p->lock);
	if (err)
		return reason_set(why, -err, "partition %llu on this machine: %s", (unsigned long long)p->index,
				  strerror(-err));
	*ret_fd = copy;
	return 0;
}

/* ---- writing ---- */

/* Noted before it is written: a write that fails half-way has changed something all the same. */
static int note_write(struct bytes *b, struct part *p, uint64_t offset, size_t len)
{
	pthread_mutex_lock(&p->ranges_lock);
	int err = len > 0 ? ranges_add(&p->ranges, offset, offset + len) : 0;
	pthread_mutex_unlock(&p->ranges_lock);
	if (!err)
		part_mark_dirty(b, p);
	return err;
}

static int lock_for_write(struct bytes *b, struct part *p, struct client *c, struct reason *why)
{
	int err = 0;

	for (int i = 0; i < LEASE_TRIES && !err; i++) {
		pthread_rwlock_rdlock(&p->lock);
		if (part_leased_locked(p, c))
			return 0;
		pthread_rwlock_unlock(&p->lock);
		pthread_rwlock_wrlock(&p->lock);
		part_drop_removed_locked(b, p);
		if (!part_leased_locked(p, c))
			err = part_lease_locked(b, p, c, why);
		pthread_rwlock_unlock(&p->lock);
	}
	return err ? err
		   : reason_set(why, EIO,
				"partition %llu: the connection to the node on this machine is lost again and again",
				(unsigned long long)p->index);
}

int part_write(struct bytes *b, struct part *p, struct client *c, const char *buf, size_t len, uint64_t offset,
	       struct reason *why)
{
	int err = lock_for_write(b, p, c, why);

	if (err)
		return err;
	err = note_write(b, p, offset, len);
	if (!err)
		err = io_pwrite(p->wfd, buf, len, offset);
	pthread_rwlock_unlock(&p->lock);
	if (err)
		return reason_set(why, -err, "partition %llu on this machine: %s", (unsigned long long)p->index,
				  strerror(-err));
	return 0;
}
