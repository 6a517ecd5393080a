/* What needs the store's directories: walking, listing, dropping, counting, recovering. */
#include "part.h"
#include "io.h"
#include "log.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define DEAD_MAX (1u << 20) /* objects that are remembered as removed */
#define DROP_BY_NAME_MAX 64 /* so few partitions are removed without reading the directory */

static inline void cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}
#define AUTO_CLOSEDIR __attribute__((cleanup(cleanup_closedir)))

static int open_dir(struct store *s, const char *path, DIR **ret)
{
	int fd = openat(s->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret = fdopendir(fd);
	if (*ret)
		return 0;
	close(fd);
	return -ENOMEM;
}

/* "12.sum" gives 12 and ".sum". */
static bool split_name(const char *name, uint64_t *ret_number, const char **ret_suffix)
{
	char digits[24];
	size_t n = strspn(name, "0123456789");

	if (n == 0 || n >= sizeof(digits))
		return false;
	memcpy(digits, name, n);
	digits[n] = '\0';
	*ret_suffix = name + n;
	return parse_u64(digits, UINT64_MAX, ret_number) == 0;
}

int store_each_file(struct store *s, uint64_t object, int (*fn)(void *arg, struct part_id id, const char *suffix),
		    void *arg)
{
	AUTO_CLOSEDIR DIR *dir = NULL;
	char path[PART_PATH_MAX];
	const struct dirent *e;
	int err;

	part_dir(object, path);
	err = open_dir(s, path, &dir);
	if (err)
		return err == -ENOENT ? 0 : err;
	while (!err && (errno = 0, e = readdir(dir))) {
		struct part_id id = { .object = object };
		const char *suffix;
		if (split_name(e->d_name, &id.index, &suffix))
			err = fn(arg, id, suffix);
	}
	return err ? err : -errno;
}

static int each_in(struct store *s, const char *path, int (*fn)(void *arg, uint64_t object), void *arg)
{
	AUTO_CLOSEDIR DIR *dir = NULL;
	const struct dirent *e;
	int err = open_dir(s, path, &dir);

	if (err)
		return err == -ENOENT ? 0 : err;
	while (!err && (errno = 0, e = readdir(dir))) {
		const char *suffix;
		uint64_t object;
		if (split_name(e->d_name, &object, &suffix) && !*suffix)
			err = fn(arg, object);
	}
	return err ? err : -errno;
}

int store_each_object(struct store *s, int (*fn)(void *arg, uint64_t object), void *arg)
{
	char path[16];
	int err = 0;

	for (unsigned i = 0; i < 256 && !err; i++) {
		snprintf(path, sizeof(path), "parts/%02x", i);
		err = each_in(s, path, fn, arg);
	}
	return err;
}

/* ---- counting and recovering ---- */

static bool is_stopping(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	bool stop = s->stop;
	pthread_mutex_unlock(&s->lock);
	return stop;
}

struct count {
	struct store *s;
	uint64_t partitions, quarantined;
};

static int count_file(void *arg, struct part_id id, const char *suffix)
{
	struct count *c = arg;

	(void)id;
	c->partitions += !*suffix;
	c->quarantined += !strcmp(suffix, ".bad");
	return 0;
}

static int count_object(void *arg, uint64_t object)
{
	struct count *c = arg;

	return is_stopping(c->s) ? -ECANCELED : store_each_file(c->s, object, count_file, c);
}

int store_count(struct store *s)
{
	struct count c = { .s = s };
	int err = store_each_object(s, count_object, &c);

	if (err)
		return err;
	s->uncounted =
		atomic_fetch_add(&s->partitions, c.partitions) || atomic_fetch_add(&s->quarantined, c.quarantined);
	return 0;
}

static int has_file(void *arg, struct part_id id, const char *suffix)
{
	(void)arg;
	(void)id;
	(void)suffix;
	return 1;
}

static int has_file_of(void *arg, uint64_t object)
{
	return store_each_file(arg, object, has_file, NULL);
}

int store_has_files(struct store *s)
{
	return store_each_object(s, has_file_of, s);
}

static int recover_file(void *arg, struct part_id id, const char *suffix)
{
	struct store *s = arg;
	bool beside = !strcmp(suffix, ".new") || !strcmp(suffix, ".sum.new"), gone = !strcmp(suffix, ".gone");
	struct reason why;
	struct part *p;
	int err;

	if (is_stopping(s))
		return -ECANCELED;
	if (*suffix && !beside && !gone && strcmp(suffix, ".sum") != 0)
		return 0;
	err = beside ? part_acquire_unloaded(s, id, &p, &why) : part_acquire(s, id, &p, &why);
	if (err) {
		if (err != -ESTALE)
			log_error("store: %s", why.text);
		return 0;
	}
	if (beside) { /* half made when the process died: whoever makes one now does so under the lock */
		char path[PART_PATH_MAX];
		part_path(id, suffix, path);
		unlinkat(s->dirfd, path, 0);
	}
	if (gone && !catalog_removing(s->catalog, id)) { /* removed or replaced, which the catalog may not know */
		catalog_del(s->catalog, id, true);
		if (p->durable)
			catalog_put(s->catalog, id, p->version);
		store_catalog_due(s);
	}
	part_release(p);
	return 0;
}

static int recover_object(void *arg, uint64_t object)
{
	return store_each_file(arg, object, recover_file, arg);
}

/* What the last run left open or not durable is in no list before it is loaded. */
int store_recover_object(struct store *s, uint64_t object)
{
	if (!s->unclean || atomic_load(&s->recovered) || is_stopping(s))
		return 0;
	return object ? recover_object(s, object) : store_recover(s);
}

int store_recover(struct store *s)
{
	return store_each_object(s, recover_object, s);
}

bool store_is_small(struct store *s, struct part_id id, uint64_t max_bytes)
{
	char path[PART_PATH_MAX];
	struct stat st;

	part_path(id, "", path);
	if (fstatat(s->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT;
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size <= max_bytes;
}

/* ---- listing ---- */

struct listing {
	uint64_t first, end;
	uint64_t *found;
	size_t n, cap;
};

static int list_data(void *arg, struct part_id id, const char *suffix)
{
	struct listing *l = arg;

	if (*suffix || id.index < l->first || id.index >= l->end)
		return 0;
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		uint64_t *grown = realloc(l->found, cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->found = grown;
		l->cap = cap;
	}
	l->found[l->n++] = id.index;
	return 0;
}

/* Data, or what is left of a partition whose data is gone. */
static int list_any(void *arg, struct part_id id, const char *suffix)
{
	bool ours = !*suffix || !strcmp(suffix, ".sum") || !strcmp(suffix, ".bad") || !strcmp(suffix, ".gone");

	return ours ? list_data(arg, id, "") : 0;
}

/* Partitions whose files are all gone. */
static int list_catalog(struct store *s, uint64_t object, struct listing *l)
{
	uint64_t some[256], first = l->first;
	size_t n = ARRAY_LEN(some);
	int err = 0;

	while (!err && n == ARRAY_LEN(some)) {
		err = catalog_list(s->catalog, object, first, ARRAY_LEN(some), some, &n);
		for (size_t i = 0; !err && i < n; i++)
			err = list_data(l, (struct part_id){ object, some[i] }, "");
		first = n ? some[n - 1] + 1 : first;
	}
	return err;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Whether what is left without data is a lost partition, which a listing must show: a copy would else take it for one never written. */
static bool is_quarantined(struct store *s, struct part_id id)
{
	struct part *p;

	if (part_acquire(s, id, &p, NULL) < 0)
		return false;
	if (p->state == PART_SEALED && !p->bad && !part_exists(p, "")) /* it went while we knew it */
		part_quarantine_locked(p, NULL, "its data is lost");
	bool bad = p->bad != NULL;
	part_release(p);
	return bad;
}

static int fill_info(struct store *s, struct part_id id, struct part_info *ret)
{
	struct sums_header h = { 0 };
	char path[PART_PATH_MAX];
	struct stat st = { 0 };
	bool lost = false;

	part_path(id, "", path);
	if (fstatat(s->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		int err = -errno;
		lost = err == -ENOENT && is_quarantined(s, id);
		if (!lost)
			return err;
	}
	part_path(id, ".sum", path);
	AUTO_CLOSE int fd = openat(s->dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0)
		sums_read_header(fd, &h, NULL);
	*ret = (struct part_info){
		.index = id.index,
		.file_bytes = lost || h.durable ? h.file_bytes
						: (uint64_t)st.st_size, /* whoever reads a damaged one is to fail */
		.blocks = (uint64_t)st.st_blocks,
		.mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec,
		.version = h.version,
	};
	return 0;
}

int store_list(struct store *s, uint64_t object, uint64_t first, size_t max, struct part_info **ret, size_t *ret_n,
	       struct reason *why)
{
	struct listing l = { .first = first, .end = UINT64_MAX };
	struct part_info *infos = NULL;
	size_t n = 0;
	int err = store_is_dead(s, object) ? -ESTALE : store_each_file(s, object, list_any, &l);

	if (!err)
		err = list_catalog(s, object, &l);
	if (!err) {
		infos = calloc(MIN(l.n, max) + 1, sizeof(*infos));
		err = infos ? 0 : -ENOMEM;
	}
	if (!err && l.n > 0)
		qsort(l.found, l.n, sizeof(*l.found), compare_u64);
	for (size_t i = 0; !err && i < l.n && n < max; i++) {
		if (i > 0 && l.found[i] == l.found[i - 1])
			continue;
		err = fill_info(s, (struct part_id){ object, l.found[i] }, &infos[n]);
		n += !err;
		err = err == -ENOENT ? 0 : err; /* removed meanwhile */
	}
	free(l.found);
	if (err) {
		free(infos);
		return reason_set(why, -err, "object %" PRIu64 ": cannot be listed: %s", object, strerror(-err));
	}
	*ret = infos;
	*ret_n = n;
	return 0;
}

/* ---- dropping ---- */

static int drop_one(struct store *s, struct part_id id, bool whole_object, bool *any, struct reason *why)
{
	struct part *p;
	int err = part_acquire_unloaded(s, id, &p, why);

	if (err)
		return err;
	if (!p->loaded) { /* what it holds does not matter any more, but the counters need to know whether it is there */
		AUTO_CLOSE int data = part_open_file(p, "", O_RDONLY);
		AUTO_CLOSE int bad = part_open_file(p, ".bad", O_RDONLY);
		p->state = data >= 0 ? PART_SEALED : PART_MISSING;
		p->bad = bad >= 0 ? strdup("removed") : NULL;
	}
	*any |= p->state != PART_MISSING || p->bad;
	err = part_remove_locked(p, whole_object, why);
	part_release(p);
	return err;
}

/* Partitions in memory: a request that holds one may be about to make its files. */
static int list_in_memory(struct store *s, uint64_t object, struct listing *l)
{
	struct part **head;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	head = map_get(&s->objects, object);
	for (struct part *p = head ? *head : NULL; p && !err; p = p->same_object)
		err = list_data(l, p->id, "");
	pthread_mutex_unlock(&s->lock);
	return err;
}

static int drop_listed(struct store *s, uint64_t object, struct listing *l, bool whole_object, bool *any,
		       struct reason *why)
{
	int err = list_in_memory(s, object, l);

	if (!err && !whole_object)
		err = list_catalog(s, object, l);

	if (!err)
		err = store_each_file(s, object, list_any, l);
	if (err)
		return reason_set(why, -err, "object %" PRIu64 ": cannot be listed: %s", object, strerror(-err));
	if (l->n > 0)
		qsort(l->found, l->n, sizeof(*l->found), compare_u64);
	for (size_t i = 0; !err && i < l->n; i++)
		if (i == 0 || l->found[i] != l->found[i - 1])
			err = drop_one(s, (struct part_id){ object, l->found[i] }, whole_object, any, why);
	return err;
}

/* The head lets nobody in who does not know that the object is gone, but for a mount that has lost the head and not yet noticed;
 * so the youngest dead are enough. */
static int declare_dead(struct store *s, uint64_t object)
{
	pthread_mutex_lock(&s->lock);
	if (map_count(&s->dead) >= DEAD_MAX) {
		map_fini(&s->dead);
		map_init(&s->dead);
	}
	int err = map_put(&s->dead, object, s);
	pthread_mutex_unlock(&s->lock);
	return err;
}

static int drop_object(struct store *s, uint64_t object, struct reason *why)
{
	struct listing l = { .end = UINT64_MAX };
	bool any = false;
	int err;

	if (declare_dead(s, object) < 0)
		return reason_set(why, ENOMEM, "no memory");
	catalog_drop(s->catalog, object); /* before its files: what is left of them, and not listed, is only rubbish */
	err = drop_listed(s, object, &l, true, &any, why);
	free(l.found);
	return err;
}

int store_drop_objects(struct store *s, const uint64_t *objects, size_t n, struct reason *why)
{
	char dir[PART_PATH_MAX];
	size_t done = 0;
	int err = 0;

	while (!err && done < n) {
		err = drop_object(s, objects[done], why);
		done += !err;
	}
	if (!done)
		return err;
	store_catalog_due(s);
	catalog_commit(s->catalog);
	for (size_t i = 0; i < done; i++) {
		part_dir(objects[i], dir);
		unlinkat(s->dirfd, dir, AT_REMOVEDIR);
	}
	return err;
}

int store_drop(struct store *s, uint64_t object, uint64_t first, uint64_t count, bool whole_object, struct reason *why)
{
	struct listing l = { .first = first, .end = UINT64_MAX };
	bool any = s->unclean; /* what one that was killed has removed may not be durable either */
	int err = 0;

	if (whole_object)
		return store_drop_objects(s, &object, 1, why);
	if (add_overflows(first, count, &l.end))
		l.end = UINT64_MAX;
	if (count <= DROP_BY_NAME_MAX) {
		for (uint64_t i = l.first; !err && i < l.end; i++)
			err = drop_one(s, (struct part_id){ object, i }, false, &any, why);
	} else {
		err = drop_listed(s, object, &l, false, &any, why);
		free(l.found);
	}
	if (!err && any && part_sync_dir(s, object) < 0)
		err = reason_set(why, EIO, "object %" PRIu64 ": cannot be removed durably", object);
	return err;
}
