/* chunk.c - the directories under c/ and the names in them; the files are in chunk_file.c.
 *
 * A chunk directory of depth d stands for d coordinates; node.index is the first partition below it.  It exists when it holds something, or
 * was made on this mount: nothing is stored for it.
 */
#include "chunk.h"
#include "array.h"
#include "chunk_list.h"
#include "dir.h"
#include "errors.h"
#include "file.h"
#include "head.h"
#include "inval.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define HIDDEN '\001' /* begins, and separates the coordinates in, the hidden name of a temporary */

static int view_of(struct mount *m, const struct node *n, struct array_view **ret)
{
	return array_view(m, n->array, ret);
}

bool chunk_is_temporary(const char *name)
{
	return name[0] == HIDDEN;
}

/* ---- names ---- */

bool chunk_parse_coord(const char *name, uint64_t *ret)
{
	return parse_u64(name, GRID_PARTITIONS_MAX, ret) == 0 && (name[0] != '0' || name[1] == '\0');
}

/* The partition (or the first below the directory) that coordinate x in `dir` names; false past the grid. */
static bool child_index(const struct grid *g, const struct node *dir, uint64_t x, uint64_t *ret)
{
	uint64_t coords[SLAB_RANK_MAX] = { 0 };

	if (dir->depth >= g->rank || x >= g->counts[dir->depth] || g->n_partitions == 0)
		return false;
	if (dir->depth > 0)
		grid_coords(g, dir->index, coords);
	coords[dir->depth] = x;
	*ret = grid_index(g, coords);
	return true;
}

static int hidden_name(const struct grid *g, const struct node *dir, const char *name, char ret[SLAB_NAME_MAX + 1])
{
	uint64_t coords[SLAB_RANK_MAX] = { 0 };
	int at = snprintf(ret, SLAB_NAME_MAX + 1, "%c", HIDDEN);

	if (dir->depth > 0)
		grid_coords(g, dir->index, coords);
	for (unsigned i = 0; i < dir->depth; i++)
		at += snprintf(ret + at, MAX(SLAB_NAME_MAX + 1 - at, 0), "%llu%c", (unsigned long long)coords[i],
			       HIDDEN);
	at += snprintf(ret + at, MAX(SLAB_NAME_MAX + 1 - at, 0), "%s", name);
	return at > SLAB_NAME_MAX ? -ENAMETOOLONG : 0;
}

int chunk_resolve(struct mount *m, struct node *dir, const char *name, uint64_t *ret_partition,
		  char ret_hidden[SLAB_NAME_MAX + 1])
{
	struct array_view *v;
	uint64_t x;
	int err = view_of(m, dir, &v);

	if (err)
		return err;
	if (chunk_parse_coord(name, &x)) {
		err = child_index(&v->zarr.grid, dir, x, ret_partition) ? 0 : -ENOENT;
	} else {
		err = hidden_name(&v->zarr.grid, dir, name, ret_hidden);
		err = err ? err : 1;
	}
	array_view_unref(v);
	return err;
}

static bool is_leaf(const struct array_view *v, const struct node *dir)
{
	return dir->depth + 1 == v->zarr.grid.rank;
}

static int chunk_node(struct mount *m, struct array *a, const struct grid *g, uint64_t partition, struct node **ret)
{
	char key[GRID_KEY_MAX];

	grid_key(g, partition, '/', key);
	return node_of_view(m, NODE_CHUNK, a->ino, a, partition, key, ret);
}

/* "c", "c/1", ...: the first `depth` coordinates of the key. */
static void chunkdir_name(const struct grid *g, uint64_t first, unsigned depth, char ret[GRID_KEY_MAX])
{
	uint64_t coords[SLAB_RANK_MAX];
	int at = snprintf(ret, GRID_KEY_MAX, "c");

	if (depth > 0)
		grid_coords(g, first, coords);
	for (unsigned i = 0; i < depth; i++)
		at += snprintf(ret + at, (size_t)(GRID_KEY_MAX - at), "/%llu", (unsigned long long)coords[i]);
}

/* Directories of different depth may start at the same partition: the tag holds both. */
static int chunkdir_node(struct mount *m, struct array *a, const struct grid *g, uint64_t first, unsigned depth,
			 struct node **ret)
{
	char name[GRID_KEY_MAX];
	int err;

	chunkdir_name(g, first, depth, name);
	err = node_of_view(m, NODE_CHUNKDIR, a->ino, a, first * (SLAB_RANK_MAX + 1) + depth, name, ret);
	if (!err) {
		pthread_mutex_lock(&(*ret)->lock);
		(*ret)->index = first;
		(*ret)->depth = depth;
		pthread_mutex_unlock(&(*ret)->lock);
	}
	return err;
}

static bool has_state(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	bool yes = n->state != NULL;
	pthread_mutex_unlock(&n->lock);
	return yes;
}

/* A partition's file, if the partition exists (or is just being made here). */
static int existing_chunk(struct mount *m, struct array *a, const struct array_view *v, uint64_t partition,
			  struct node **ret)
{
	struct wire_part_info info;
	struct reason why = { "" };
	struct node *n;
	int err = chunk_node(m, a, &v->zarr.grid, partition, &n);

	if (err)
		return err;
	err = has_state(n) ? 0 : bytes_stat(v->bytes, partition, &info, &why);
	if (err) {
		if (err != -ENOENT)
			errors_add(m, n, -err, &why);
		node_unref(m, n);
		return err;
	}
	*ret = n;
	return 0;
}

int chunk_lookup_top(struct mount *m, uint64_t array_ino, struct node **ret)
{
	struct array_view *v;
	struct array *a;
	int err = array_get(m, array_ino, &a);

	if (err)
		return err;
	err = array_view(m, a, &v);
	if (!err) {
		err = v->zarr.grid.rank == 0 ? chunk_node(m, a, &v->zarr.grid, 0, ret)
					     : chunkdir_node(m, a, &v->zarr.grid, 0, 0, ret);
		array_view_unref(v);
	}
	array_unref(m, a);
	return err;
}

/* A made directory is there on this mount while the kernel remembers it, like one that holds something. */
static char made_mark;

static void mark_made(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	n->state = &made_mark;
	pthread_mutex_unlock(&n->lock);
}

static void forget_made(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	n->state = NULL;
	pthread_mutex_unlock(&n->lock);
}

static int holds_something(struct mount *m, struct node *n, const struct array_view *v)
{
	const struct grid *g = &v->zarr.grid;
	struct reason why = { "" };
	struct chunk_list *list;
	struct wire_part_info info;
	uint64_t below = 1;
	int err;

	for (unsigned i = n->depth; i < g->rank; i++)
		below *= g->counts[i];
	err = below == 1 ? bytes_stat(v->bytes, n->index, &info, &why) : -ENOENT;
	if (err && err != -ENOENT)
		return errors_add(m, n, -err, &why);
	if (!err)
		return 0;
	err = chunk_list_new(m, n, &list);
	if (err)
		return err;
	err = chunk_list_empty(list) ? -ENOENT : 0;
	chunk_list_free(list);
	return err;
}

static int existing_chunkdir(struct mount *m, struct node *dir, const struct array_view *v, uint64_t first,
			     struct node **ret)
{
	struct node *n;
	int err = chunkdir_node(m, dir->array, &v->zarr.grid, first, dir->depth + 1, &n);

	if (err)
		return err;
	if (!has_state(n))
		err = holds_something(m, n, v);
	if (err)
		node_unref(m, n);
	else
		*ret = n;
	return err;
}

static int chunkdir_lookup(struct mount *m, struct node *dir, const char *name, struct node **ret)
{
	char hidden[SLAB_NAME_MAX + 1];
	struct wire_attr attr;
	struct array_view *v;
	uint64_t partition, seq;
	int err = chunk_resolve(m, dir, name, &partition, hidden);

	if (err == 1) {
		err = head_lookup(m, dir->array->ino, hidden, &attr, &seq);
		return err ? err : node_of_attr(m, &attr, seq, dir->ino, name, ret);
	}
	if (!err)
		err = view_of(m, dir, &v);
	if (err)
		return err;
	err = is_leaf(v, dir) ? existing_chunk(m, dir->array, v, partition, ret)
			      : existing_chunkdir(m, dir, v, partition, ret);
	array_view_unref(v);
	return err;
}

/* ---- directories ---- */

static int chunkdir_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	struct array_view *v;
	int err = view_of(m, n, &v);

	if (err)
		return err;
	node_view_stat(n, &v->attr, S_IFDIR, 07777, 0, ret);
	array_view_unref(v);
	return 0;
}

/* Times, owner and permissions of what the mount shows are the array directory's, whatever cp -p asks for. */
static int chunkdir_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	(void)m;
	(void)n;
	(void)h;
	return change->valid & WIRE_SET_SIZE ? -EISDIR : 0;
}

static int make_chunkdir(struct mount *m, struct node *dir, const struct array_view *v, uint64_t first,
			 struct node **ret)
{
	int err = existing_chunkdir(m, dir, v, first, ret);

	if (!err) {
		node_unref(m, *ret);
		return -EEXIST;
	}
	if (err == -ENOENT)
		err = chunkdir_node(m, dir->array, &v->zarr.grid, first, dir->depth + 1, ret);
	if (!err)
		mark_made(*ret);
	return err;
}

static int make_chunk(struct mount *m, struct node *dir, const struct make *what, uint64_t partition, struct node **ret)
{
	struct array_view *v;
	int err = view_of(m, dir, &v);

	if (err)
		return err;
	if (!is_leaf(v, dir)) {
		err = S_ISDIR(what->mode) ? make_chunkdir(m, dir, v, partition, ret) : -EISDIR;
	} else if (!S_ISREG(what->mode)) {
		err = errors_add(m, dir, EINVAL, &(struct reason){ "only partition files can be made here" });
	} else {
		err = existing_chunk(m, dir->array, v, partition, ret);
		if (!err && what->excl) {
			node_unref(m, *ret);
			err = -EEXIST;
		} else if (err == -ENOENT) {
			err = chunk_node(m, dir->array, &v->zarr.grid, partition, ret);
			if (!err)
				err = chunk_start_fresh(*ret);
		}
	}
	array_view_unref(v);
	return err;
}

/* A writer's temporary is placed where the partition that it will become lives, so that the rename moves no bytes. */
static uint32_t node_near(struct mount *m, struct node *dir, const char *name)
{
	struct array_view *v;
	uint64_t index = dir->index, x = 0;
	char digits[24];
	uint32_t owner;
	size_t n;

	if (view_of(m, dir, &v))
		return 0;
	n = strspn(name, "0123456789");
	if (n > 0 && n < sizeof(digits)) {
		memcpy(digits, name, n);
		digits[n] = '\0';
		if (chunk_parse_coord(digits, &x))
			child_index(&v->zarr.grid, dir, x, &index);
	}
	owner = layout_owner(bytes_layout(v->bytes), index);
	array_view_unref(v);
	return owner;
}

static int chunkdir_make(struct mount *m, struct node *dir, const char *name, const struct make *what,
			 struct node **ret)
{
	char hidden[SLAB_NAME_MAX + 1];
	struct head_made made;
	uint64_t partition;
	int err = chunk_resolve(m, dir, name, &partition, hidden);

	if (err == -ENOENT)
		return errors_add(m, dir, EINVAL, &(struct reason){ "there is no such partition in the array's grid" });
	if (err < 0)
		return err;
	if (err == 0)
		return make_chunk(m, dir, what, partition, ret);
	if (!S_ISREG(what->mode))
		return -EPERM;
	err = head_make(m, dir->array->ino, hidden, what, node_near(m, dir, name), &made);
	return err ? err : file_of_made(m, &made, dir->ino, name, ret);
}

static int drop_chunk(struct mount *m, struct node *dir, uint64_t partition)
{
	struct wire_part_info info;
	struct reason why = { "" };
	struct wire_attr attr;
	struct array_view *v;
	uint64_t seq;
	int err = view_of(m, dir, &v);

	if (err)
		return err;
	if (!is_leaf(v, dir))
		err = -EISDIR;
	if (!err)
		err = bytes_stat(v->bytes, partition, &info, &why);
	if (!err)
		err = bytes_drop(v->bytes, partition, 1, &why);
	array_view_unref(v);
	if (err)
		return err == -ENOENT || err == -EISDIR ? err : errors_add(m, dir, -err, &why);
	mark_made(dir); /* rm -r empties a directory before it removes it */
	err = head_commit(m, dir->array->ino, 0, 0, &attr, &seq);
	array_invalidate(m, dir->array->ino);
	inval_siblings(m, dir->array->ino, NULL);
	return err;
}

static int chunkdir_unlink(struct mount *m, struct node *dir, const char *name)
{
	char hidden[SLAB_NAME_MAX + 1];
	struct wire_attr attr;
	uint64_t partition;
	int err = chunk_resolve(m, dir, name, &partition, hidden);

	if (err == 0)
		return drop_chunk(m, dir, partition);
	if (err == 1) {
		err = head_unlink(m, dir->array->ino, hidden, &attr);
		if (!err)
			node_removed(m, &attr);
	}
	return err;
}

/* The directories under c/ come and go with what is in them: removing an empty one only forgets that it was made. */
static int chunkdir_rmdir(struct mount *m, struct node *dir, const char *name)
{
	struct chunk_list *list;
	struct node *child;
	bool empty;
	int err = chunkdir_lookup(m, dir, name, &child);

	if (err)
		return err;
	if (child->kind != NODE_CHUNKDIR) {
		node_unref(m, child);
		return -ENOTDIR;
	}
	err = chunk_list_new(m, child, &list);
	if (!err) {
		empty = chunk_list_empty(list);
		chunk_list_free(list);
		err = empty ? 0 : -ENOTEMPTY;
	}
	if (!err) {
		forget_made(child);
		mark_made(dir);
	}
	node_unref(m, child);
	return err;
}

int chunk_all_gone(struct mount *m, uint64_t array_ino)
{
	struct chunk_list *list;
	struct node *top;
	bool empty;
	int err = chunk_lookup_top(m, array_ino, &top);

	if (err)
		return err;
	if (top->kind == NODE_CHUNK) {
		node_unref(m, top);
		return -ENOTDIR;
	}
	err = chunk_list_new(m, top, &list);
	node_unref(m, top);
	if (err)
		return err;
	empty = chunk_list_empty(list);
	chunk_list_free(list);
	return empty ? 0 : -ENOTEMPTY;
}

static int chunkdir_readdir(struct mount *m, struct node *dir, struct handle *h, uint64_t cookie,
			    const struct emit *emit)
{
	struct chunk_list *list = h->state;

	if (cookie == 0 || !list) {
		chunk_list_free(list);
		h->state = NULL;
		int err = chunk_list_new(m, dir, &list);
		if (err)
			return err;
		h->state = list;
	}
	return chunk_list_emit(list, cookie, emit);
}

static void chunkdir_release(struct mount *m, struct handle *h)
{
	(void)m;
	chunk_list_free(h->state);
}

const struct node_ops chunkdir_ops = {
	.name = "c",
	.getattr = chunkdir_getattr,
	.setattr = chunkdir_setattr,
	.lookup = chunkdir_lookup,
	.make = chunkdir_make,
	.unlink = chunkdir_unlink,
	.rmdir = chunkdir_rmdir,
	.readdir = chunkdir_readdir,
	.release = chunkdir_release,
};
