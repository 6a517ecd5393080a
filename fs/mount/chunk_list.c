#include "chunk_list.h"
#include "array.h"
#include "chunk.h"
#include "errors.h"
#include "head.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE_BYTES (128u << 10)

struct temporary {
	char name[SLAB_NAME_MAX + 1];
	uint64_t ino;
	uint32_t mode;
};

struct chunk_list {
	uint64_t array_ino;
	bool leaf;        /* coordinates name partitions, not directories */
	unsigned depth;   /* of the directory */
	uint64_t *coords; /* rising */
	uint64_t *firsts; /* the first partition of each */
	size_t n_coords;
	struct temporary *temps;
	size_t n_temps;
};

static uint64_t partitions_below(const struct grid *g, unsigned depth)
{
	uint64_t n = 1;

	for (unsigned i = depth; i < g->rank; i++)
		n *= g->counts[i];
	return n;
}

static int take_partitions(struct array_view *v, const struct node *dir, struct chunk_list *l, struct reason *why)
{
	const struct grid *g = &v->zarr.grid;
	AUTO_FREE struct wire_part_info *parts = NULL;
	uint64_t each = partitions_below(g, dir->depth + 1);
	size_t n;
	int err;

	if (g->n_partitions == 0)
		return 0;
	err = bytes_list(v->bytes, dir->index, partitions_below(g, dir->depth), &parts, &n, why);
	if (err)
		return err;
	l->coords = calloc(n + 1, sizeof(*l->coords));
	l->firsts = calloc(n + 1, sizeof(*l->firsts));
	if (!l->coords || !l->firsts)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		uint64_t x = (le64_get(parts[i].index) - dir->index) / each;
		if (l->n_coords > 0 && l->coords[l->n_coords - 1] == x)
			continue;
		l->coords[l->n_coords] = x;
		l->firsts[l->n_coords++] = dir->index + x * each;
	}
	return 0;
}

/* The name of a temporary in `dir`, when the hidden name is one of this directory's. */
static const char *name_in(struct mount *m, struct node *dir, const char *hidden)
{
	char prefix[SLAB_NAME_MAX + 1];
	uint64_t ignored;
	size_t len;

	if (!chunk_is_temporary(hidden) || chunk_resolve(m, dir, "x", &ignored, prefix) != 1)
		return NULL;
	len = strlen(prefix) - 1;
	if (strncmp(hidden, prefix, len) || strchr(hidden + len, prefix[0]))
		return NULL;
	return hidden + len;
}

static int take_page(struct mount *m, struct node *dir, struct chunk_list *l, struct cursor *c, uint64_t *cookie)
{
	while (c->left > 0) {
		char hidden[SLAB_NAME_MAX + 1];
		const struct wire_dirent *e = cursor_take(c, sizeof(*e));
		size_t len = e ? le32_get(e->name_bytes) : 0;
		const void *text = e && len <= SLAB_NAME_MAX ? cursor_take(c, len) : NULL;
		if (!text)
			return -EPROTO;
		*cookie = le64_get(e->cookie);
		memcpy(hidden, text, len);
		hidden[len] = '\0';
		const char *name = name_in(m, dir, hidden);
		if (!name)
			continue;
		struct temporary *more = realloc(l->temps, (l->n_temps + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		l->temps = more;
		struct temporary *t = &l->temps[l->n_temps++];
		snprintf(t->name, sizeof(t->name), "%s", name);
		t->ino = le64_get(e->attr.ino);
		t->mode = le32_get(e->attr.mode);
	}
	return 0;
}

static int take_temporaries(struct mount *m, struct node *dir, struct chunk_list *l)
{
	uint64_t cookie = 0, seq;
	size_t len = 1;
	int err = 0;

	while (!err && len > 0) {
		AUTO_FREE char *page = NULL;
		err = head_readdir(m, dir->array->ino, cookie, PAGE_BYTES, &page, &len, &seq);
		struct cursor c = { (const uint8_t *)page, len };
		if (!err)
			err = take_page(m, dir, l, &c, &cookie);
	}
	return err;
}

int chunk_list_new(struct mount *m, struct node *dir, struct chunk_list **ret)
{
	struct chunk_list *l = calloc(1, sizeof(*l));
	struct reason why = { "" };
	struct array_view *v;
	int err = l ? array_view(m, dir->array, &v) : -ENOMEM;

	if (err) {
		free(l);
		return err;
	}
	l->array_ino = dir->array->ino;
	l->depth = dir->depth;
	l->leaf = dir->depth + 1 == v->zarr.grid.rank;
	err = take_partitions(v, dir, l, &why);
	if (err)
		errors_add(m, dir, -err, &why);
	if (!err)
		err = take_temporaries(m, dir, l);
	array_view_unref(v);
	if (err)
		chunk_list_free(l);
	else
		*ret = l;
	return err;
}

void chunk_list_free(struct chunk_list *l)
{
	if (!l)
		return;
	free(l->coords);
	free(l->firsts);
	free(l->temps);
	free(l);
}

bool chunk_list_empty(const struct chunk_list *l)
{
	return l->n_coords == 0 && l->n_temps == 0;
}

int chunk_list_emit(const struct chunk_list *l, uint64_t cookie, const struct emit *emit)
{
	char name[32];

	for (; cookie < l->n_coords; cookie++) {
		uint64_t first = l->firsts[cookie];
		uint64_t ino =
			l->leaf ? view_ino(l->array_ino, NODE_CHUNK, first, "")
				: view_ino(l->array_ino, NODE_CHUNKDIR, first * (SLAB_RANK_MAX + 1) + l->depth + 1, "");
		snprintf(name, sizeof(name), "%llu", (unsigned long long)l->coords[cookie]);
		if (!emit->fn(emit->arg, name, ino, l->leaf ? S_IFREG | 0644 : S_IFDIR | 0755, NULL, cookie + 1))
			return 0;
	}
	for (; cookie - l->n_coords < l->n_temps; cookie++) {
		const struct temporary *t = &l->temps[cookie - l->n_coords];
		if (!emit->fn(emit->arg, t->name, t->ino, t->mode, NULL, cookie + 1))
			return 0;
	}
	return 0;
}
