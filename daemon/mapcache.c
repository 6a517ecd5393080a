#include "mapcache.h"
#include "map.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#define SWEEP_MS 1000

struct entry {
	struct mapping mapping; /* first: a mapping that was handed out is its entry */
	uint64_t key;
	int fd; /* tells whether the file still has a name */
	unsigned users;
	bool stale; /* out of the map: goes with its last user */
	uint64_t used_ns;
};

struct mapcache {
	uint64_t limit_bytes;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	struct map entries; /* key -> struct entry */
	uint64_t bytes;
	bool stop;
	pthread_t thread;
};

/* Inode numbers are unique while a file exists, and a mapping keeps its file in existence. */
static uint64_t key_of(const struct stat *st)
{
	return (uint64_t)st->st_ino * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)st->st_dev;
}

static void entry_free(struct entry *e)
{
	mapping_close(&e->mapping);
	close(e->fd);
	free(e);
}

static void forget_locked(struct mapcache *c, struct entry *e)
{
	map_del(&c->entries, e->key);
	c->bytes -= e->mapping.len;
	if (e->users)
		e->stale = true;
	else
		entry_free(e);
}

static bool has_no_name(const struct entry *e)
{
	struct stat st;

	return fstat(e->fd, &st) < 0 || st.st_nlink == 0;
}

static void sweep_locked(struct mapcache *c, uint64_t now)
{
	uint64_t idle = (uint64_t)MAPCACHE_IDLE_MS * 1000000u, key;
	size_t pos = 0;
	void *value;

	while (map_next(&c->entries, &pos, &key, &value)) {
		struct entry *e = value;
		if (!e->users && (c->stop || now - e->used_ns > idle || has_no_name(e)))
			forget_locked(c, e);
	}
}

static void *sweeper(void *arg)
{
	struct mapcache *c = arg;

	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += SWEEP_MS / 1000;
		if (map_count(&c->entries) == 0)
			pthread_cond_wait(&c->wake, &c->lock);
		else
			pthread_cond_timedwait(&c->wake, &c->lock, &until);
		sweep_locked(c, time_mono_ns());
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int mapcache_new(uint64_t limit_bytes, struct mapcache **ret)
{
	struct mapcache *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;
	int err;

	if (!c)
		return -ENOMEM;
	c->limit_bytes = limit_bytes;
	map_init(&c->entries);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->wake, &attr);
	pthread_condattr_destroy(&attr);
	err = pthread_create(&c->thread, NULL, sweeper, c);
	if (err) {
		free(c);
		return -err;
	}
	*ret = c;
	return 0;
}

void mapcache_free(struct mapcache *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	sweep_locked(c, 0);
	map_fini(&c->entries);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct entry *use_locked(struct mapcache *c, uint64_t key, uint64_t len)
{
	struct entry *e = map_get(&c->entries, key);

	if (e && e->mapping.len != len) {
		forget_locked(c, e);
		e = NULL;
	}
	if (e)
		e->users++;
	return e;
}

/* Takes what was mapped into the cache, unless another thread was first or the limit is reached: then it goes with its user. */
static struct entry *keep_locked(struct mapcache *c, struct entry *fresh)
{
	struct entry *e = use_locked(c, fresh->key, fresh->mapping.len);

	if (e) {
		entry_free(fresh);
		return e;
	}
	fresh->users = 1;
	if (c->bytes + fresh->mapping.len > c->limit_bytes || map_put(&c->entries, fresh->key, fresh)) {
		fresh->stale = true;
		return fresh;
	}
	c->bytes += fresh->mapping.len;
	pthread_cond_signal(&c->wake);
	return fresh;
}

int mapcache_get(struct mapcache *c, int fd, const struct mapping **ret)
{
	struct entry *e;
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno;
	pthread_mutex_lock(&c->lock);
	e = use_locked(c, key_of(&st), (uint64_t)st.st_size);
	pthread_mutex_unlock(&c->lock);
	if (!e) {
		struct entry *fresh = calloc(1, sizeof(*fresh));
		if (!fresh)
			return -ENOMEM;
		fresh->key = key_of(&st);
		fresh->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		err = fresh->fd < 0 ? -errno : mapping_open(fd, 0, (uint64_t)st.st_size, &fresh->mapping);
		if (err) {
			if (fresh->fd >= 0)
				close(fresh->fd);
			free(fresh);
			return err;
		}
		pthread_mutex_lock(&c->lock);
		e = keep_locked(c, fresh);
		pthread_mutex_unlock(&c->lock);
	}
	*ret = &e->mapping;
	return 0;
}

void mapcache_put(struct mapcache *c, const struct mapping *m)
{
	struct entry *e = (struct entry *)(uintptr_t)m;
	bool last;

	pthread_mutex_lock(&c->lock);
	e->used_ns = time_mono_ns();
	last = --e->users == 0 && e->stale;
	pthread_mutex_unlock(&c->lock);
	if (last)
		entry_free(e);
}
