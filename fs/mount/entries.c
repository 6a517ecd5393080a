#include "entries.h"
#include "map.h"

#define ENTRIES_MAX (1u << 20)    /* names known of one directory */
#define TOKEN (UINT64_C(1) << 62) /* set in a token, never in an inode number */

struct entries {
	struct map names; /* hash -> inode number, or the token of the last request or push */
	bool whole;       /* a name whose hash is not in `names` does not exist */
};

static uint64_t hash_of(const char *name, size_t len)
{
	uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ len;

	for (size_t i = 0; i < len; i++) {
		h = (h ^ (uint8_t)name[i]) * UINT64_C(0xbf58476d1ce4e5b9);
		h ^= h >> 29;
	}
	return h;
}

static void *value_of(uint64_t v)
{
	return (void *)(uintptr_t)v;
}

static uint64_t new_token(void)
{
	static _Atomic uint64_t last;

	return TOKEN | atomic_fetch_add(&last, 1);
}

void entries_free(struct entries *e)
{
	if (e)
		map_fini(&e->names);
	free(e);
}

static void forget_locked(struct node *dir)
{
	entries_free(dir->entries);
	dir->entries = NULL;
}

void entries_forget_all(struct node *dir)
{
	pthread_mutex_lock(&dir->lock);
	forget_locked(dir);
	pthread_mutex_unlock(&dir->lock);
}

static struct entries *entries_of_locked(struct node *dir)
{
	if (dir->entries && map_count(&dir->entries->names) >= ENTRIES_MAX)
		forget_locked(dir);
	if (!dir->entries)
		dir->entries = calloc(1, sizeof(*dir->entries));
	return dir->entries;
}

static uint64_t put_token_locked(struct node *dir, uint64_t hash)
{
	struct entries *e = entries_of_locked(dir);
	uint64_t token = new_token();

	if (e && map_put(&e->names, hash, value_of(token)))
		forget_locked(dir);
	return token;
}

enum entry_known entries_look(struct node *dir, const char *name, uint64_t *ret_ino)
{
	enum entry_known known = ENTRY_UNKNOWN;

	pthread_mutex_lock(&dir->lock);
	if (dir->entries) {
		uint64_t v = (uintptr_t)map_get(&dir->entries->names, hash_of(name, strlen(name)));
		if (v && !(v & TOKEN))
			known = ENTRY_AT;
		else if (!v && dir->entries->whole)
			known = ENTRY_ABSENT;
		*ret_ino = v;
	}
	pthread_mutex_unlock(&dir->lock);
	return known;
}

uint64_t entries_begin(struct mount *m, uint64_t dir_ino, const char *name)
{
	struct node *dir = node_find(m, dir_ino);
	uint64_t token = 0;

	if (!dir)
		return 0;
	pthread_mutex_lock(&dir->lock);
	token = put_token_locked(dir, hash_of(name, strlen(name)));
	pthread_mutex_unlock(&dir->lock);
	node_unref(m, dir);
	return token;
}

void entries_end(struct mount *m, uint64_t dir_ino, const char *name, uint64_t token, uint64_t ino)
{
	struct node *dir = token ? node_find(m, dir_ino) : NULL;
	uint64_t hash = hash_of(name, strlen(name));

	if (!dir)
		return;
	pthread_mutex_lock(&dir->lock);
	struct entries *e = dir->entries;
	if (e && (uintptr_t)map_get(&e->names, hash) == token) {
		if (ino && !(ino & TOKEN))
			map_put(&e->names, hash, value_of(ino)); /* replaces: needs no memory */
		else if (!e->whole)
			map_del(&e->names, hash);
	}
	pthread_mutex_unlock(&dir->lock);
	node_unref(m, dir);
}

void entries_changed(struct node *dir, const char *name, size_t name_bytes)
{
	pthread_mutex_lock(&dir->lock);
	if (dir->entries)
		put_token_locked(dir, hash_of(name, name_bytes));
	pthread_mutex_unlock(&dir->lock);
}

void entries_made(struct mount *m, struct node *dir, uint64_t seq)
{
	pthread_mutex_lock(&dir->lock);
	if (!dir->entries && seq == atomic_load(&m->inval_seq) && entries_of_locked(dir))
		dir->entries->whole = true;
	pthread_mutex_unlock(&dir->lock);
}
