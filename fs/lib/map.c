/* Open addressing with linear probing; a removed entry leaves a tombstone until the table is rebuilt. */
#include "map.h"

#include <errno.h>
#include <stdlib.h>

#define MAP_CAP_MIN 16

static char tombstone; /* its address marks a removed entry */
#define TOMB ((void *)&tombstone)

struct map_slot {
	uint64_t key;
	void *value; /* NULL: never used */
};

static uint64_t map_hash(uint64_t key)
{
	key ^= key >> 33;
	key *= UINT64_C(0xff51afd7ed558ccd);
	key ^= key >> 33;
	key *= UINT64_C(0xc4ceb9fe1a85ec53);
	return key ^ key >> 33;
}

void map_init(struct map *m)
{
	*m = (struct map){ 0 };
}

void map_fini(struct map *m)
{
	free(m->slots);
	map_init(m);
}

static struct map_slot *map_find(const struct map *m, uint64_t key)
{
	if (!m->slots)
		return NULL;
	for (size_t i = map_hash(key) & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct map_slot *s = &m->slots[i];
		if (!s->value)
			return NULL;
		if (s->key == key && s->value != TOMB)
			return s;
	}
}

static void map_insert_new(struct map *m, uint64_t key, void *value)
{
	size_t i = map_hash(key) & (m->cap - 1);

	while (m->slots[i].value)
		i = (i + 1) & (m->cap - 1);
	m->slots[i] = (struct map_slot){ key, value };
	m->used++;
}

static int map_rebuild(struct map *m, size_t cap)
{
	struct map old = *m;
	struct map_slot *slots = calloc(cap, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	*m = (struct map){ .slots = slots, .cap = cap };
	for (size_t i = 0; i < old.cap; i++)
		if (old.slots[i].value && old.slots[i].value != TOMB)
			map_insert_new(m, old.slots[i].key, old.slots[i].value);
	free(old.slots);
	return 0;
}

void *map_get(const struct map *m, uint64_t key)
{
	struct map_slot *s = map_find(m, key);

	return s ? s->value : NULL;
}

int map_put(struct map *m, uint64_t key, void *value)
{
	struct map_slot *s = map_find(m, key);

	if (s) {
		s->value = value;
		return 0;
	}
	if ((m->used + m->tombs + 1) * 4 > m->cap * 3) {
		size_t cap = m->cap ? m->cap : MAP_CAP_MIN;
		while ((m->used + 1) * 2 > cap)
			cap *= 2;
		int err = map_rebuild(m, cap);
		if (err)
			return err;
	}
	map_insert_new(m, key, value);
	return 0;
}

void *map_del(struct map *m, uint64_t key)
{
	struct map_slot *s = map_find(m, key);
	void *value;

	if (!s)
		return NULL;
	value = s->value;
	s->value = TOMB;
	m->used--;
	m->tombs++;
	return value;
}

size_t map_count(const struct map *m)
{
	return m->used;
}

bool map_next(const struct map *m, size_t *pos, uint64_t *ret_key, void **ret_value)
{
	while (*pos < m->cap) {
		const struct map_slot *s = &m->slots[(*pos)++];
		if (s->value && s->value != TOMB) {
			*ret_key = s->key;
			*ret_value = s->value;
			return true;
		}
	}
	return false;
}
