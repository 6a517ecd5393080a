#include "adopt.h"
#include "array.h"
#include "chunk.h"
#include "dir.h"
#include "errors.h"
#include "head.h"
#include "inval.h"

#include <stdio.h>
#include <stdlib.h>

struct adoption {
	struct mount *m;
	struct array_view *v;
	struct node *top; /* the array's own c */
	uint64_t coords[SLAB_RANK_MAX];
};

struct entry {
	struct entry *next;
	bool is_dir;
	char name[SLAB_NAME_MAX + 1];
};

static bool collect(void *arg, const char *name, uint64_t ino, uint32_t mode, const struct wire_attr *attr,
		    uint64_t cookie)
{
	struct entry **list = arg, *e = calloc(1, sizeof(*e));

	(void)ino;
	(void)attr;
	(void)cookie;
	if (!e)
		return false;
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->is_dir = S_ISDIR(mode);
	e->next = *list;
	*list = e;
	return true;
}

static void free_entries(struct entry *list)
{
	while (list) {
		struct entry *next = list->next;
		free(list);
		list = next;
	}
}

static int not_a_chunk(struct adoption *a, const struct node *dir, const char *name)
{
	struct reason why;

	reason_set(&why, EINVAL, "'%s' is in the way: it is no partition of the array that zarr.json describes", name);
	return errors_add(a->m, dir, EINVAL, &why);
}

static int adopt_dir(struct adoption *a, struct node *dir, unsigned depth);

static int adopt_entry(struct adoption *a, struct node *dir, unsigned depth, const struct entry *e)
{
	const struct grid *g = &a->v->zarr.grid;
	struct node *n;
	bool leaf = depth + 1 == g->rank;
	int err;

	if (!chunk_parse_coord(e->name, &a->coords[depth]) || a->coords[depth] >= g->counts[depth] || leaf == e->is_dir)
		return not_a_chunk(a, dir, e->name);
	err = dir->ops->lookup(a->m, dir, e->name, &n);
	if (err)
		return err;
	if (leaf) {
		err = chunk_take_file(a->m, n, a->top, grid_index(g, a->coords), false);
		if (!err)
			err = dir->ops->unlink(a->m, dir, e->name);
	} else {
		err = adopt_dir(a, n, depth + 1);
		if (!err)
			err = dir->ops->rmdir(a->m, dir, e->name);
	}
	node_unref(a->m, n);
	return err;
}

/* All entries are tried, whatever became of the others; the first failure is returned. */
static int adopt_dir(struct adoption *a, struct node *dir, unsigned depth)
{
	struct entry *list = NULL;
	struct emit emit = { collect, &list, SIZE_MAX };
	int first = dir->ops->readdir(a->m, dir, NULL, 0, &emit);

	for (struct entry *e = list; e; e = e->next) {
		int err = adopt_entry(a, dir, depth, e);
		if (err && !first)
			first = err;
	}
	free_entries(list);
	return first;
}

static int adopt_into(struct mount *m, struct node *dir, struct node *plain, struct array_view *v)
{
	struct adoption a = { .m = m, .v = v };
	bool scalar = v->zarr.grid.rank == 0;
	struct wire_attr attr;
	uint64_t seq;
	int err = chunk_lookup_top(m, dir->ino, &a.top);

	if (err)
		return err;
	if (scalar != (plain->kind == NODE_FILE))
		err = not_a_chunk(&a, dir, "c");
	else
		err = scalar ? chunk_take_file(m, plain, a.top, 0, false) : adopt_dir(&a, plain, 0);
	node_unref(m, a.top);
	if (!err)
		err = scalar ? head_unlink(m, dir->ino, "c", &attr) : head_rmdir(m, dir->ino, "c", &attr);
	if (!err) {
		node_removed(m, &attr);
		err = head_chunkdir(m, dir->ino, true, &attr, &seq);
		err = err == -EEXIST ? 0 : err; /* a commit has made it */
	}
	dir_changed(m, dir);
	inval_entry(m, dir, "c");
	return err;
}

int adopt_chunks(struct mount *m, struct node *dir)
{
	struct wire_attr attr;
	struct array_view *v;
	struct array *array;
	struct node *plain;
	uint64_t seq;
	int err = head_lookup(m, dir->ino, "c", &attr, &seq);
	if (err)
		return err == -ENOENT ? 0 : err;
	err = node_of_attr(m, &attr, seq, dir->ino, "c", &plain);
	if (err)
		return err;
	err = array_get(m, dir->ino, &array);
	if (!err) {
		err = array_view(m, array, &v);
		if (!err) {
			err = adopt_into(m, dir, plain, v);
			array_view_unref(v);
		}
		array_unref(m, array);
	}
	node_unref(m, plain);
	return err;
}
