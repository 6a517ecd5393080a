/* map.h - a hash map from uint64_t to a pointer.  Not thread-safe: the owner's lock guards it.  Owns its table, never the values. */
#ifndef SLAB_MAP_H
#define SLAB_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map {
	struct map_slot *slots; /* power of two, or NULL while empty */
	size_t cap, used, tombs;
};

void map_init(struct map *m);
void map_fini(struct map *m);
void *map_get(const struct map *m, uint64_t key);      /* NULL when absent */
int map_put(struct map *m, uint64_t key, void *value); /* replaces; value not NULL; 0 or -ENOMEM */
void *map_del(struct map *m, uint64_t key);            /* the removed value, or NULL */
size_t map_count(const struct map *m);
/* Iterates: *pos starts at 0; false at the end.  Deleting the entry just returned is allowed, inserting is not. */
bool map_next(const struct map *m, size_t *pos, uint64_t *ret_key, void **ret_value);

#endif
