/* Making partitions durable: the thread that does it by itself, and store_sync. */
#include "part.h"
#include "log.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#define SYNC_BATCH 4096 /* partitions that are made durable together */
#define SYNCFS_MIN 16   /* from so many on, one sync of the file system is cheaper than fsyncs */
#define XFS_MAGIC 0x58465342
#define NS_PER_MS UINT64_C(1000000)

/* Others may take syncfs for done without having heard of it, as FUSE does. */
bool store_has_syncfs(int dirfd)
{
	struct statfs fs;

	return fstatfs(dirfd, &fs) == 0 &&
	       (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC);
}

/* Whatever did not become durable waits for the next turn. */
static void requeue_locked(struct part *p)
{
	if (p->on_unsynced)
		part_list_unsynced(p, !p->durable && p->state != PART_MISSING && !p->bad);
}

static int sync_each(struct part **parts, size_t n, struct reason *why)
{
	int err = 0;

	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&parts[i]->lock);
		int e = part_sync_locked(parts[i], true, err ? NULL : why);
		requeue_locked(parts[i]);
		pthread_mutex_unlock(&parts[i]->lock);
		err = err ? err : e;
	}
	return err;
}

/* One sync of the file system for the data, one for the flags.  -EIO from the first: each partition must ask for itself. */
static int sync_together(struct store *s, struct part **parts, size_t n, uint64_t *epochs, struct reason *why)
{
	int err = 0;

	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&parts[i]->lock);
		epochs[i] = parts[i]->epoch;
		pthread_mutex_unlock(&parts[i]->lock);
	}
	if (syncfs(s->dirfd) < 0)
		return sync_each(parts, n, why);
	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&parts[i]->lock);
		int e = part_synced_locked(parts[i], epochs[i], err ? NULL : why);
		requeue_locked(parts[i]);
		pthread_mutex_unlock(&parts[i]->lock);
		err = err ? err : e;
	}
	if (syncfs(s->dirfd) < 0 && !err)
		err = reason_set(why, errno, "the store's file system: %s", strerror(errno));
	return err;
}

/* The removal of a partition is durable in the catalog, so that its tombstone may go; unless it was removed again. */
static void settle(void *arg, struct part_id id)
{
	struct part *p;

	if (part_acquire_unloaded(arg, id, &p, NULL) < 0)
		return;
	if (!catalog_removing(p->store->catalog, id))
		part_unlink_any(p, ".gone");
	part_release(p);
}

int store_catalog_sync(struct store *s, struct reason *why)
{
	int err = catalog_sync(s->catalog, settle, s);

	return err ? reason_set(why, -err, "the store's catalog: %s", strerror(-err)) : 0;
}

void store_catalog_due(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	if (!s->catalog_due_ns) {
		s->catalog_due_ns = time_mono_ns() + STORE_SYNC_MS * NS_PER_MS;
		pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
}

/* Takes over the references. */
static int sync_batch(struct store *s, struct part **parts, size_t n, struct reason *why)
{
	AUTO_FREE uint64_t *epochs = s->has_syncfs && n >= SYNCFS_MIN ? calloc(n, sizeof(*epochs)) : NULL;
	int err = epochs ? sync_together(s, parts, n, epochs, why) : sync_each(parts, n, why);

	for (size_t i = 0; i < n; i++)
		part_put(parts[i]);
	int catalog_err = store_catalog_sync(s, err ? NULL : why);
	return err ? err : catalog_err;
}

static bool is_due(const struct part *p, uint64_t before_ns, uint64_t object)
{
	return p->sealed_ns <= before_ns && (object == 0 || p->id.object == object);
}

/* Takes references on up to max partitions that are to be made durable.  needs store.lock */
static size_t take_unsynced(struct store *s, uint64_t before_ns, uint64_t object, struct part **ret, size_t max)
{
	struct part *p;
	size_t n = 0;

	TAILQ_FOREACH(p, &s->unsynced, unsynced)
	{
		if (n == max || p->sealed_ns > before_ns)
			break;
		if (is_due(p, before_ns, object)) {
			part_ref(p);
			ret[n++] = p;
		}
	}
	return n;
}

static void wait_until(struct store *s, uint64_t ns)
{
	struct timespec at = { .tv_sec = (time_t)(ns / (1000 * NS_PER_MS)),
			       .tv_nsec = (long)(ns % (1000 * NS_PER_MS)) };

	pthread_cond_timedwait(&s->wake, &s->lock, &at);
}

/* When there is something to do: 0: now; UINT64_MAX: not before somebody wakes us.  needs store.lock */
static uint64_t next_work_ns(struct store *s)
{
	struct part *first = TAILQ_FIRST(&s->unsynced);
	uint64_t at = first ? first->sealed_ns + STORE_SYNC_MS * NS_PER_MS : UINT64_MAX;

	if (s->catalog_due_ns)
		at = MIN(at, s->catalog_due_ns);
	return at <= time_mono_ns() ? 0 : at;
}

void *store_syncer_main(void *arg)
{
	struct store *s = arg;
	struct part *parts[SYNC_BATCH];

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		uint64_t at = next_work_ns(s);
		if (at == UINT64_MAX) {
			pthread_cond_wait(&s->wake, &s->lock);
		} else if (at > 0) {
			wait_until(s, at);
		} else {
			size_t n = take_unsynced(s, time_mono_ns() - STORE_SYNC_MS * NS_PER_MS, 0, parts, SYNC_BATCH);
			s->catalog_due_ns = 0;
			pthread_mutex_unlock(&s->lock);
			sync_batch(s, parts, n, NULL);
			pthread_mutex_lock(&s->lock);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

size_t store_take_open(struct store *s, uint64_t object, struct part **ret)
{
	struct part *p;
	size_t n = 0;

	TAILQ_FOREACH(p, &s->open, open)
	{
		if (object == 0 || p->id.object == object) {
			part_ref(p);
			ret[n++] = p;
		}
	}
	return n;
}

size_t store_count_busy(const struct store *s)
{
	struct part *p;
	size_t n = 0;

	TAILQ_FOREACH(p, &s->open, open)
	{
		n++;
	}
	TAILQ_FOREACH(p, &s->unsynced, unsynced)
	{
		n++;
	}
	return n;
}

int store_sync(struct store *s, uint64_t object, struct reason *why)
{
	int err = store_recover_object(s, object);

	if (err)
		return reason_set(why, -err, "looking at what the last run left: %s", strerror(-err));
	pthread_mutex_lock(&s->lock);
	size_t room = store_count_busy(s);
	AUTO_FREE struct part **parts = calloc(room + 1, sizeof(struct part *));
	size_t n = parts ? take_unsynced(s, UINT64_MAX, object, parts, room) : 0;
	if (parts)
		n += store_take_open(s, object, parts + n);
	pthread_mutex_unlock(&s->lock);
	return parts ? sync_batch(s, parts, n, why) : reason_set(why, ENOMEM, "no memory");
}
