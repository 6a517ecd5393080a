#include "names.h"
#include "array.h"
#include "chunk.h"
#include "dir.h"
#include "errors.h"
#include "file.h"
#include "head.h"
#include "inval.h"
#include "refuse.h"
#include "zarr.h"

#include <stdio.h>

#define SIDECAR_NAME "zarr.json"

/* A name in a directory, as the head knows it. */
struct place {
	struct node *dir;
	uint64_t parent; /* the head's directory */
	const char *name;
	char hidden[SLAB_NAME_MAX + 1]; /* what `name` points to for a temporary under c/ */
	bool is_partition;
	uint64_t partition;
};

/* Whether c is not a directory but the only partition's file, as in an array of rank 0. */
static int only_partition(struct mount *m, struct node *dir, bool *ret)
{
	struct node *top;
	int err = chunk_lookup_top(m, dir->ino, &top);

	if (err)
		return err;
	*ret = top->kind == NODE_CHUNK;
	node_unref(m, top);
	return 0;
}

static int place_of(struct mount *m, struct node *dir, const char *name, struct place *ret)
{
	struct wire_attr attr;
	int err;

	*ret = (struct place){ .dir = dir, .parent = dir->ino, .name = name };
	if (dir->kind == NODE_CHUNKDIR) {
		err = chunk_resolve(m, dir, name, &ret->partition, ret->hidden);
		if (err < 0)
			return err;
		ret->is_partition = err == 0;
		ret->parent = dir->array->ino;
		ret->name = ret->hidden;
		return 0;
	}
	if (dir->kind != NODE_DIR || dir_is_control(m, dir, name))
		return -EPERM;
	err = node_attr(m, dir, &attr);
	if (err)
		return err;
	if (node_is_array(&attr) && !strcmp(name, "c")) {
		err = only_partition(m, dir, &ret->is_partition);
		if (err || ret->is_partition)
			return err;
	}
	if (dir_view_exists(&attr, name) ||
	    (node_is_array(&attr) && (le32_get(attr.flags) & WIRE_ATTR_CHUNKDIR) && !strcmp(name, "c")))
		return -EXDEV;
	return 0;
}

/* A file that takes the name zarr.json must be one whose bytes the head holds. */
static int make_inline(struct mount *m, struct node *n)
{
	AUTO_FREE char *all = NULL;
	struct wire_attr attr;
	uint64_t seq;
	size_t len;
	int err = node_attr(m, n, &attr);

	if (err || n->kind != NODE_FILE || (le32_get(attr.flags) & WIRE_ATTR_INLINE))
		return err;
	err = file_settle(m, n);
	if (!err)
		err = node_attr(m, n, &attr);
	if (!err && le64_get(attr.size) > ZARR_DOC_MAX)
		return errors_add(m, n, EFBIG, &(struct reason){ "zarr.json: larger than a document may be" });
	all = err ? NULL : malloc(le64_get(attr.size) + 1);
	if (!err && !all)
		err = -ENOMEM;
	if (!err)
		err = file_read_at(m, n, all, le64_get(attr.size), 0, &len);
	if (!err)
		err = head_inline_write(m, n->ino, all, len, &attr, &seq);
	if (!err)
		node_set_attr(m, n, &attr, seq);
	return err;
}

static void place_changed(struct mount *m, const struct place *p)
{
	struct node *dir = node_find(m, p->parent);

	if (!dir)
		return;
	dir_changed(m, dir);
	if (!strcmp(p->name, SIDECAR_NAME))
		inval_siblings(m, p->parent, NULL);
	node_unref(m, dir);
}

/* A regular file cannot become the array that its name asks for: who moves it is to copy, and the array is made from what comes. */
static int check_begins_array(struct mount *m, const struct place *to, struct node *n)
{
	struct wire_attr attr;
	bool begins = false;
	int err;

	if (n->kind != NODE_FILE || to->dir->kind != NODE_DIR)
		return 0;
	err = node_attr(m, to->dir, &attr);
	if (!err)
		err = dir_begins_array(m, to->dir, &attr, to->name, &begins);
	return begins ? -EXDEV : err;
}

static int rename_at_head(struct mount *m, const struct place *from, const struct place *to, struct node *n,
			  const char *new_name, unsigned flags)
{
	struct wire_attr attr;
	struct node *replaced = NULL;
	uint64_t seq;
	int err = strcmp(to->name, SIDECAR_NAME) ? check_begins_array(m, to, n) : make_inline(m, n);

	if (err)
		return err;
	if (to->dir->ops->lookup(m, to->dir, new_name, &replaced))
		replaced = NULL;
	err = head_rename(m, from->parent, from->name, to->parent, to->name, flags, &attr, &seq);
	if (!err) {
		node_set_attr(m, n, &attr, seq);
		node_renamed(m, n, to->dir->ino, new_name);
		place_changed(m, from);
		place_changed(m, to);
		if (replaced) {
			struct wire_attr gone = { .ino = le64_of(replaced->ino) };
			node_removed(m, &gone);
		}
	}
	node_unref(m, replaced);
	return err;
}

/* `n` becomes the partition that `to` names. */
static int take_file(struct mount *m, struct node *n, const struct place *to, bool link)
{
	struct node *top = NULL;
	int err = to->dir->kind == NODE_DIR ? chunk_lookup_top(m, to->dir->ino, &top) : 0;

	if (!err)
		err = chunk_take_file(m, n, top ? top : to->dir, to->partition, link);
	if (!err && top)
		dir_changed(m, to->dir);
	node_unref(m, top);
	return err;
}

/* mv c/1/0.4f2a.partial c/1/0: the partition takes over the file's bytes, then the name goes. */
static int rename_to_partition(struct mount *m, const struct place *from, const struct place *to, struct node *n,
			       const char *new_name, unsigned flags)
{
	struct node *existing;
	struct wire_removed reply;
	int err;

	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return errors_add(m, to->dir, EINVAL,
				  &(struct reason){ "a file cannot change places with a partition" });
	if (flags & RENAME_NOREPLACE) {
		err = to->dir->ops->lookup(m, to->dir, new_name, &existing);
		if (!err) {
			node_unref(m, existing);
			return -EEXIST;
		}
	}
	err = take_file(m, n, to, false);
	if (!err)
		atomic_store(&n->is_partition, true);
	if (!err)
		err = head_remove(m, WIRE_UNLINK, from->parent, from->name, file_leave_to_removal(m, n) ? n->ino : 0,
				  &reply, NULL);
	if (!err) {
		node_removed(m, &reply.attr);
		place_changed(m, from);
	}
	return err;
}

int names_rename(struct mount *m, struct node *dir, const char *name, struct node *new_dir, const char *new_name,
		 unsigned flags)
{
	struct place from, to;
	struct node *n;
	int err = place_of(m, dir, name, &from);

	if (err || from.is_partition)
		return refuse_name(m, dir, name, err ? err : -EXDEV);
	err = place_of(m, new_dir, new_name, &to);
	if (err)
		return refuse_name(m, new_dir, new_name, err);
	err = dir->ops->lookup(m, dir, name, &n);
	if (err)
		return err;
	if (to.is_partition)
		err = rename_to_partition(m, &from, &to, n, new_name, flags);
	else if (to.dir->kind == NODE_CHUNKDIR && from.parent != to.parent)
		err = refuse_name(m, new_dir, new_name, -EXDEV);
	else
		err = rename_at_head(m, &from, &to, n, new_name, flags);
	node_unref(m, n);
	return err;
}

int names_link(struct mount *m, struct node *n, struct node *dir, const char *name, struct node **ret)
{
	struct wire_attr attr;
	struct node *existing;
	struct place to;
	uint64_t seq;
	int err = place_of(m, dir, name, &to);

	if (err)
		return err == -EXDEV || dir_is_control(m, dir, name) ? -EEXIST : err;
	if (n->kind != NODE_FILE && n->kind != NODE_OTHER)
		return errors_add(m, n, EPERM, &(struct reason){ "what an array shows has one name only" });
	if (to.is_partition) {
		if (!dir->ops->lookup(m, dir, name, &existing)) {
			node_unref(m, existing);
			return -EEXIST;
		}
		err = take_file(m, n, &to, true);
		return err ? err : dir->ops->lookup(m, dir, name, ret);
	}
	if (!strcmp(to.name, SIDECAR_NAME))
		err = make_inline(m, n);
	if (!err)
		err = file_settle(m, n);
	if (!err)
		err = head_link(m, n->ino, to.parent, to.name, &attr, &seq);
	if (err)
		return err;
	node_set_attr(m, n, &attr, seq);
	place_changed(m, &to);
	*ret = node_ref(n);
	return 0;
}
