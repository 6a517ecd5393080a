/* Which partitions are in memory, the thread that makes them durable, opening and closing a store. */
#include "part.h"
#include "io.h"
#include "log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define LRU_MAX 65536 /* partitions that are remembered while nobody uses them */
#define CLEAN_NAME "clean"

/* ---- references ---- */

static uint64_t id_key(struct part_id id)
{
	return id.object * UINT64_C(0x9e3779b97f4a7c15) ^ id.index;
}

static struct part *find_in_memory(struct store *s, struct part_id id)
{
	struct part *p = map_get(&s->parts, id_key(id));

	while (p && (p->id.object != id.object || p->id.index != id.index))
		p = p->same_hash;
	return p;
}

static int chain_to_object(struct store *s, struct part *p)
{
	struct part **head = map_get(&s->objects, p->id.object);

	if (!head) {
		head = calloc(1, sizeof(struct part *));
		if (!head || map_put(&s->objects, p->id.object, head) < 0) {
			free(head);
			return -ENOMEM;
		}
	}
	p->same_object = *head;
	p->same_object_before = head;
	if (*head)
		(*head)->same_object_before = &p->same_object;
	*head = p;
	return 0;
}

static void unchain_from_object(struct store *s, struct part *p)
{
	struct part **head = map_get(&s->objects, p->id.object);

	*p->same_object_before = p->same_object;
	if (p->same_object)
		p->same_object->same_object_before = p->same_object_before;
	if (!*head)
		free(map_del(&s->objects, p->id.object));
}

static struct part *new_in_memory(struct store *s, struct part_id id)
{
	struct part *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->store = s;
	p->id = id;
	p->same_hash = map_get(&s->parts, id_key(id));
	if (chain_to_object(s, p) < 0) {
		free(p);
		return NULL;
	}
	if (map_put(&s->parts, id_key(id), p) < 0) {
		unchain_from_object(s, p);
		free(p);
		return NULL;
	}
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

static void part_free(struct part *p)
{
	pthread_mutex_destroy(&p->lock);
	bits_fini(&p->verified);
	bits_fini(&p->dirty);
	free(p->leases);
	free(p->bad);
	free(p);
}

static void evict(struct store *s, struct part *p)
{
	struct part *at = map_get(&s->parts, id_key(p->id));

	TAILQ_REMOVE(&s->lru, p, lru);
	s->n_lru--;
	if (at == p && p->same_hash)
		map_put(&s->parts, id_key(p->id), p->same_hash);
	else if (at == p)
		map_del(&s->parts, id_key(p->id));
	for (; at && at != p; at = at->same_hash)
		if (at->same_hash == p)
			at->same_hash = p->same_hash;
	unchain_from_object(s, p);
	part_free(p);
}

void part_ref(struct part *p)
{
	struct store *s = p->store;

	p->refs++;
	if (p->on_lru) {
		TAILQ_REMOVE(&s->lru, p, lru);
		p->on_lru = false;
		s->n_lru--;
	}
}

static void unref_locked(struct part *p)
{
	struct store *s = p->store;

	if (--p->refs > 0)
		return;
	TAILQ_INSERT_TAIL(&s->lru, p, lru);
	p->on_lru = true;
	if (++s->n_lru > LRU_MAX)
		evict(s, TAILQ_FIRST(&s->lru));
}

void part_put(struct part *p)
{
	struct store *s = p->store;

	pthread_mutex_lock(&s->lock);
	unref_locked(p);
	pthread_mutex_unlock(&s->lock);
}

bool store_is_dead(struct store *s, uint64_t object)
{
	pthread_mutex_lock(&s->lock);
	bool dead = map_get(&s->dead, object) != NULL;
	pthread_mutex_unlock(&s->lock);
	return dead;
}

int part_acquire_unloaded(struct store *s, struct part_id id, struct part **ret, struct reason *why)
{
	pthread_mutex_lock(&s->lock);
	struct part *p = find_in_memory(s, id);
	if (!p)
		p = new_in_memory(s, id);
	if (p)
		part_ref(p);
	pthread_mutex_unlock(&s->lock);
	if (!p)
		return reason_set(why, ENOMEM, "no memory for another partition");
	pthread_mutex_lock(&p->lock);
	*ret = p;
	return 0;
}

int part_acquire(struct store *s, struct part_id id, struct part **ret, struct reason *why)
{
	struct part *p;
	int err = part_acquire_unloaded(s, id, &p, why);

	if (err)
		return err;
	/* Asked under the partition's lock: store_drop locks each partition in memory after it has declared the object dead. */
	if (store_is_dead(s, id.object))
		err = reason_set(why, ESTALE, "object %" PRIu64 " was removed", id.object);
	else
		err = part_load_locked(p, why);
	if (err)
		part_release(p);
	else
		*ret = p;
	return err;
}

void part_release(struct part *p)
{
	pthread_mutex_unlock(&p->lock);
	part_put(p);
}

/* ---- lists ---- */

void part_list_open(struct part *p, bool open)
{
	struct store *s = p->store;

	pthread_mutex_lock(&s->lock);
	if (open && !p->on_open) {
		part_ref(p);
		TAILQ_INSERT_TAIL(&s->open, p, open);
	} else if (!open && p->on_open) {
		TAILQ_REMOVE(&s->open, p, open);
		unref_locked(p);
	}
	p->on_open = open;
	pthread_mutex_unlock(&s->lock);
}

void part_list_unsynced(struct part *p, bool unsynced)
{
	struct store *s = p->store;

	pthread_mutex_lock(&s->lock);
	if (p->on_unsynced)
		TAILQ_REMOVE(&s->unsynced, p, unsynced);
	if (unsynced) {
		p->sealed_ns = time_mono_ns();
		TAILQ_INSERT_TAIL(&s->unsynced, p, unsynced);
		if (TAILQ_FIRST(&s->unsynced) == p)
			pthread_cond_signal(&s->wake);
	}
	if (unsynced && !p->on_unsynced)
		part_ref(p);
	else if (!unsynced && p->on_unsynced)
		unref_locked(p);
	p->on_unsynced = unsynced;
	pthread_mutex_unlock(&s->lock);
}

/* ---- the session's end ---- */

static void end_lease(struct part *p, uint64_t session)
{
	struct reason why;
	bool descriptor;

	pthread_mutex_lock(&p->lock);
	if (part_unlease_locked(p, session, &descriptor)) {
		p->dirty_all |= descriptor;
		p->late |= descriptor;
		if (part_seal_locked(p, &why) < 0) {
			log_error("store: %s", why.text);
			if (p->n_leases == 0)
				part_forget_locked(p);
		}
	}
	part_release(p);
}

void store_session_end(struct store *s, uint64_t session)
{
	pthread_mutex_lock(&s->lock);
	AUTO_FREE struct part **parts = calloc(store_count_busy(s) + 1, sizeof(struct part *));
	size_t n = parts ? store_take_open(s, 0, parts) : 0;
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++)
		end_lease(parts[i], session);
}

static void end_all_leases(struct store *s)
{
	struct part *p;

	while ((p = TAILQ_FIRST(&s->open))) {
		uint64_t session = p->leases[0].session;
		p->refs++;
		end_lease(p, session);
	}
}

/* ---- open and close ---- */

/* Reads and durably removes the mark of a clean stop; a store without any partition's files needs none.  Its numbers may be missing. */
static int take_clean_mark(struct store *s)
{
	AUTO_FREE char *text = NULL;
	uint64_t partitions, quarantined;
	size_t len;
	int err = io_read_file(s->dirfd, CLEAN_NAME, 256, &text, &len);

	if (err == -ENOENT) {
		err = store_has_files(s);
		s->unclean = s->uncounted = err > 0;
	} else if (!err) {
		s->uncounted =
			sscanf(text, "partitions %" SCNu64 " quarantined %" SCNu64, &partitions, &quarantined) != 2;
		atomic_store(&s->partitions, s->uncounted ? 0 : partitions);
		atomic_store(&s->quarantined, s->uncounted ? 0 : quarantined);
	}
	if (err < 0)
		return err;
	if (unlinkat(s->dirfd, CLEAN_NAME, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return io_fsync_dir(s->dirfd, ".");
}

static int load_lost_below(struct store *s)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	int err = io_read_file(s->dirfd, "lost_below", 32, &text, &len);

	if (err)
		return err == -ENOENT ? 0 : err;
	text[strcspn(text, "\n")] = '\0';
	return parse_u64(text, UINT64_MAX, &s->lost_below);
}

static int write_clean_mark(struct store *s)
{
	char text[128];
	int len = s->uncounted ? snprintf(text, sizeof(text), "not counted\n")
			       : snprintf(text, sizeof(text), "partitions %" PRIu64 " quarantined %" PRIu64 "\n",
					  atomic_load(&s->partitions), atomic_load(&s->quarantined));

	return io_publish(s->dirfd, CLEAN_NAME, text, (size_t)len, 0600);
}

static void *recover_main(void *arg)
{
	struct store *s = arg;
	int err = s->uncounted ? store_count(s) : 0;

	if (!err && (s->unclean || s->relist) && store_recover(s) == 0) {
		atomic_store(&s->recovered, true);
		catalog_complete(s->catalog);
		if (s->unclean)
			log_info("store: recovered from an unclean stop");
		else
			log_info("store: the catalog has been made anew");
	}
	return NULL;
}

static int start_threads(struct store *s)
{
	int err = -pthread_create(&s->syncer, NULL, store_syncer_main, s);

	s->has_syncer = !err;
	if (!err && s->relist && !s->unclean && !s->uncounted && !atomic_load(&s->partitions))
		catalog_complete(s->catalog);
	else if (!err && (s->unclean || s->relist || s->uncounted)) {
		err = -pthread_create(&s->recoverer, NULL, recover_main, s);
		s->has_recoverer = !err;
	}
	return err;
}

static struct store *store_new(int dirfd, struct pool *cores)
{
	struct store *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;

	if (!s)
		return NULL;
	s->dirfd = dirfd;
	s->cores = cores;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	map_init(&s->parts);
	map_init(&s->objects);
	map_init(&s->dead);
	TAILQ_INIT(&s->lru);
	TAILQ_INIT(&s->open);
	TAILQ_INIT(&s->unsynced);
	return s;
}

static void store_free(struct store *s)
{
	struct part *p;

	while ((p = TAILQ_FIRST(&s->lru)))
		evict(s, p);
	catalog_close(s->catalog);
	map_fini(&s->parts);
	map_fini(&s->objects);
	map_fini(&s->dead);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void stop_threads(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
	if (s->has_syncer)
		pthread_join(s->syncer, NULL);
	if (s->has_recoverer)
		pthread_join(s->recoverer, NULL);
}

int store_open(int dirfd, struct pool *cores, struct store **ret, struct reason *why)
{
	struct store *s = store_new(dirfd, cores);
	struct reason detail = { "" };
	int err = s ? 0 : -ENOMEM;

	while (!err && s->run == SUMS_RUN_OPEN)
		err = random_bytes(&s->run, sizeof(s->run));
	if (!err)
		s->has_syncfs = store_has_syncfs(dirfd);
	if (!err && mkdirat(dirfd, "parts", 0700) < 0 && errno != EEXIST)
		err = -errno;
	if (!err)
		err = io_fsync_dir(dirfd, ".");
	if (!err)
		err = load_lost_below(s);
	if (!err)
		err = take_clean_mark(s);
	if (!err)
		err = catalog_open(dirfd, &s->catalog, &s->relist, &detail);
	if (!err && s->unclean)
		log_warn("store: the last stop was not clean; looking at all partitions");
	if (!err)
		err = start_threads(s);
	if (!err) {
		*ret = s;
		return 0;
	}
	if (s) {
		stop_threads(s);
		store_free(s);
	}
	return reason_set(why, -err, "the store cannot be opened: %s", detail.text[0] ? detail.text : strerror(-err));
}

static void forget_unsynced(struct store *s)
{
	struct part *p;

	while ((p = TAILQ_FIRST(&s->unsynced)))
		part_list_unsynced(p, false);
}

void store_close(struct store *s)
{
	struct reason why;
	int err;

	if (!s)
		return;
	stop_threads(s);
	end_all_leases(s);
	err = store_sync(s, 0, &why);
	if (!err && s->unclean && !atomic_load(&s->recovered))
		log_warn("store: stopped before all partitions were looked at; the next start looks again");
	else if (!err)
		err = write_clean_mark(s);
	if (err)
		log_error("store: not stopped cleanly: %s", strerror(-err));
	forget_unsynced(s);
	store_free(s);
}

void store_stats(struct store *s, struct store_stats *ret)
{
	struct statvfs fs = { 0 };
	struct part *p;

	fstatvfs(s->dirfd, &fs);
	*ret = (struct store_stats){
		.bytes_total = fs.f_blocks * fs.f_frsize,
		.bytes_free = fs.f_bavail * fs.f_frsize,
		.files_total = fs.f_files,
		.files_free = fs.f_favail,
		.partitions = atomic_load(&s->partitions),
		.quarantined = atomic_load(&s->quarantined),
	};
	pthread_mutex_lock(&s->lock);
	TAILQ_FOREACH(p, &s->open, open)
	{
		ret->open++;
	}
	pthread_mutex_unlock(&s->lock);
}
