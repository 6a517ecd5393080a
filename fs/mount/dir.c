/* dir.c - directories that the head holds.  One with an array record also shows c/ and, when named, the views. */
#include "adopt.h"
#include "array.h"
#include "bytes.h"
#include "chunk.h"
#include "data.h"
#include "dir.h"
#include "entries.h"
#include "errors.h"
#include "file.h"
#include "head.h"
#include "head_call.h"
#include "idle.h"
#include "inval.h"
#include "node.h"

#include <stdio.h>
#include <stdlib.h>

#define CONTROL_NAME ".slabfs"
#define PAGE_MIN_BYTES 4096u
#define PAGE_MAX_BYTES (128u << 10)

/* Cookies of readdir: what the mount adds comes first, the head's follow. */
enum { COOKIE_CHUNKDIR = 1, COOKIE_DATA, COOKIE_NPY, COOKIE_COMPUTE, COOKIE_HEAD = 16 };

static int dir_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	struct wire_attr attr;
	int err = node_attr(m, n, &attr);

	/* The way to .slabfs must stay open when the head does not answer.  A directory that was removed may still be someone's
	 * working directory. */
	if ((n == m->root && (err == -EIO || err == -ETIMEDOUT)) || err == -ESTALE) {
		pthread_mutex_lock(&n->lock);
		attr = n->attr;
		pthread_mutex_unlock(&n->lock);
		if (err == -ESTALE)
			attr.nlink = le32_of(0);
		err = 0;
	}
	if (!err)
		node_stat(&attr, ret);
	return err;
}

static int dir_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	struct wire_attr attr;
	uint64_t seq;
	int err;

	(void)h;
	if (change->valid & WIRE_SET_SIZE)
		return -EISDIR;
	err = head_setattr(m, n->ino, change, &attr, &seq);
	if (!err)
		node_set_attr(m, n, &attr, seq);
	return err;
}

struct view_name {
	const char *name;
	enum node_kind kind;
	uint64_t cookie;
};
static const struct view_name view_names[] = {
	{ "data", NODE_DATA, COOKIE_DATA },
	{ "data.npy", NODE_NPY, COOKIE_NPY },
	{ "compute", NODE_COMPUTEDIR, COOKIE_COMPUTE },
};

static const struct view_name *view_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(view_names); i++)
		if (!strcmp(view_names[i].name, name))
			return &view_names[i];
	return NULL;
}

bool dir_view_exists(const struct wire_attr *dir, const char *name)
{
	return (le32_get(dir->flags) & WIRE_ATTR_SIDECAR) && node_is_array(dir) && view_named(name);
}

/* Whether an array may show something of its own under this name; what other names are does not depend on the directory's attributes. */
static bool may_be_shown(const char *name)
{
	return view_named(name) || !strcmp(name, "c");
}

static int lookup_view(struct mount *m, struct node *dir, enum node_kind kind, uint64_t tag, const char *name,
		       struct node **ret)
{
	struct array *a;
	int err = array_get(m, dir->ino, &a);

	if (err)
		return err;
	err = node_of_view(m, kind, a->ino, a, tag, name, ret);
	array_unref(m, a);
	return err;
}

bool dir_is_control(const struct mount *m, const struct node *dir, const char *name)
{
	return dir == m->root && !strcmp(name, CONTROL_NAME);
}

/* Whether `name` is one that the mount itself shows in this directory; *ret_err tells how looking it up went. */
static bool lookup_shown(struct mount *m, struct node *dir, const char *name, struct node **ret, int *ret_err)
{
	struct wire_attr attr;

	if (dir_is_control(m, dir, name)) {
		*ret_err = node_of_view(m, NODE_CONTROLDIR, 0, NULL, 0, name, ret);
		return true;
	}
	if (!may_be_shown(name))
		return false;
	*ret_err = node_attr(m, dir, &attr);
	if (*ret_err)
		return true;
	if (dir_view_exists(&attr, name)) {
		*ret_err = le32_get(attr.flags) & WIRE_ATTR_CHUNKDIR ? 0 : adopt_chunks(m, dir);
		if (!*ret_err)
			*ret_err = lookup_view(m, dir, view_named(name)->kind, 0, name, ret);
		return true;
	}
	if (node_is_array(&attr) && !strcmp(name, "c") && (le32_get(attr.flags) & WIRE_ATTR_CHUNKDIR)) {
		*ret_err = chunk_lookup_top(m, dir->ino, ret);
		return true;
	}
	return false;
}

/* What need not be asked: false when it must be. */
static bool lookup_known(struct mount *m, struct node *dir, const char *name, struct node **ret, int *ret_err)
{
	uint64_t ino;
	enum entry_known known = entries_look(dir, name, &ino);
	struct node *n = known == ENTRY_AT ? node_find(m, ino) : NULL;

	*ret_err = known == ENTRY_ABSENT ? -ENOENT : 0;
	if (known == ENTRY_ABSENT && head_is_near(m))
		return true;
	if (n && head_is_near(m) && node_is_current(m, n, dir->ino, name)) {
		*ret = n;
		return true;
	}
	node_unref(m, n);
	return false;
}

static int dir_lookup(struct mount *m, struct node *dir, const char *name, struct node **ret)
{
	struct wire_attr attr;
	uint64_t seq;
	int err;

	if (lookup_shown(m, dir, name, ret, &err))
		return err;
	err = npy_pending_lookup(m, dir, name, ret);
	if (err != -ENOENT)
		return err;
	if (!may_be_shown(name) && lookup_known(m, dir, name, ret, &err))
		return err;
	err = head_lookup(m, dir->ino, name, &attr, &seq);
	return err ? err : node_of_attr(m, &attr, seq, dir->ino, name, ret);
}

/* Whether a file `name` that is made in the directory becomes an array: data.npy in one that is empty. */
int dir_begins_array(struct mount *m, struct node *dir, const struct wire_attr *now, const char *name, bool *ret)
{
	AUTO_FREE char *page = NULL;
	size_t len;
	uint64_t seq;
	int err;

	*ret = false;
	if (strcmp(name, "data.npy") || node_is_array(now))
		return 0;
	err = head_readdir(m, dir->ino, 0, 4096, &page, &len, &seq);
	*ret = !err && len == 0;
	return err;
}

/* c: a directory, or the only partition's file in an array of rank 0. */
static int make_top(struct mount *m, struct node *dir, const struct wire_attr *now, const struct make *what,
		    struct node **ret)
{
	bool exists = le32_get(now->flags) & WIRE_ATTR_CHUNKDIR;
	struct wire_attr attr;
	struct node *top;
	uint64_t seq;
	int err = chunk_lookup_top(m, dir->ino, &top);

	if (err)
		return err;
	if (top->kind == NODE_CHUNK ? !S_ISREG(what->mode) || (exists && what->excl) : !S_ISDIR(what->mode) || exists)
		err = -EEXIST;
	if (!err && !exists) {
		err = head_chunkdir(m, dir->ino, true, &attr, &seq);
		if (!err)
			node_set_attr(m, dir, &attr, seq);
		if (!err && top->kind == NODE_CHUNK)
			err = chunk_start_fresh(top);
	}
	if (err)
		node_unref(m, top);
	else
		*ret = top;
	return err;
}

static int dir_make(struct mount *m, struct node *dir, const char *name, const struct make *what, struct node **ret)
{
	struct wire_attr attr = { 0 };
	struct head_made made;
	bool begins = false;
	int err = may_be_shown(name) ? node_attr(m, dir, &attr) : 0;

	if (err)
		return err;
	if (dir_view_exists(&attr, name) || dir_is_control(m, dir, name))
		return -EEXIST;
	if (node_is_array(&attr) && !strcmp(name, "c"))
		return make_top(m, dir, &attr, what, ret);
	if (S_ISREG(what->mode))
		err = dir_begins_array(m, dir, &attr, name, &begins);
	if (err || begins)
		return err ? err : npy_pending_new(m, dir, what, ret);
	err = head_make(m, dir->ino, name, what, cluster_local_id(m->cluster), &made);
	if (err)
		return err;
	dir_changed(m, dir);
	node_set_attr(m, dir, &made.reply.dir, made.seq);
	err = file_of_made(m, &made, dir->ino, name, ret);
	if (!err && S_ISDIR(what->mode))
		entries_made(m, *ret, made.seq);
	return err;
}

/* Our own change to a directory: its times and, for an array's files, its record are to be asked for again. */
void dir_changed(struct mount *m, struct node *dir)
{
	pthread_mutex_lock(&dir->lock);
	dir->attr_valid = false;
	pthread_mutex_unlock(&dir->lock);
	array_invalidate(m, dir->ino);
}

void node_removed(struct mount *m, const struct wire_attr *now)
{
	struct node *n = node_find(m, le64_get(now->ino));

	if (!n)
		return;
	pthread_mutex_lock(&n->lock);
	/* A directory's are the last that there will be: the head does not keep it. */
	n->attr_valid = S_ISDIR(le32_get(now->mode)) && le32_get(now->nlink) == 0;
	if (n->attr_valid)
		n->attr = *now;
	pthread_mutex_unlock(&n->lock);
	idle_give_back(m, n);
	node_unref(m, n);
}

/* UNLINK or RMDIR of a name that the head holds.  A file that is open at the head only for its next open is closed with it. */
static int remove_name(struct mount *m, struct node *dir, unsigned type, const char *name)
{
	struct wire_removed reply;
	uint64_t ino, seq;
	struct node *n = entries_look(dir, name, &ino) == ENTRY_AT ? node_find(m, ino) : NULL;
	bool closes = n && file_leave_to_removal(m, n);
	int err = head_remove(m, type, dir->ino, name, closes ? ino : 0, &reply, &seq);

	node_unref(m, n);
	if (err)
		return err;
	node_removed(m, &reply.attr);
	dir_changed(m, dir);
	node_set_attr(m, dir, &reply.dir, seq);
	return 0;
}

/* The file c of an array of rank 0: its partition goes, then the name. */
static int unlink_top(struct mount *m, struct node *dir)
{
	struct reason why = { "" };
	struct wire_attr attr;
	struct array_view *v;
	struct node *top;
	uint64_t seq;
	int err = chunk_lookup_top(m, dir->ino, &top);

	if (err)
		return err;
	err = top->kind == NODE_CHUNK ? array_view(m, top->array, &v) : -EISDIR;
	if (!err) {
		err = bytes_drop(v->bytes, 0, 1, &why);
		array_view_unref(v);
		err = err ? errors_add(m, top, -err, &why) : 0;
	}
	node_unref(m, top);
	if (!err)
		err = head_chunkdir(m, dir->ino, false, &attr, &seq);
	if (err)
		return err;
	dir_changed(m, dir);
	inval_siblings(m, dir->ino, NULL);
	return 0;
}

static int dir_unlink(struct mount *m, struct node *dir, const char *name)
{
	struct wire_attr attr = { 0 };
	int err = may_be_shown(name) ? node_attr(m, dir, &attr) : 0;

	if (err)
		return err;
	if (dir_view_exists(&attr, name))
		return strcmp(name, "compute") ? -EPERM : -EISDIR;
	if (dir_is_control(m, dir, name))
		return -EISDIR;
	if (node_is_array(&attr) && !strcmp(name, "c") && (le32_get(attr.flags) & WIRE_ATTR_CHUNKDIR))
		return unlink_top(m, dir);
	return remove_name(m, dir, WIRE_UNLINK, name);
}

static int dir_rmdir(struct mount *m, struct node *dir, const char *name)
{
	struct wire_attr attr = { 0 };
	int err = may_be_shown(name) ? node_attr(m, dir, &attr) : 0;
	uint64_t seq;

	if (err)
		return err;
	if (dir_view_exists(&attr, name))
		return strcmp(name, "compute") ? -ENOTDIR : -EPERM;
	if (dir_is_control(m, dir, name))
		return -EPERM;
	if (node_is_array(&attr) && !strcmp(name, "c") && (le32_get(attr.flags) & WIRE_ATTR_CHUNKDIR)) {
		err = chunk_all_gone(m, dir->ino);
		if (!err)
			err = head_chunkdir(m, dir->ino, false, &attr, &seq);
		if (!err)
			dir_changed(m, dir);
		return err;
	}
	return remove_name(m, dir, WIRE_RMDIR, name);
}

/* c/, and the views with -o show_views.  False: full. */
static bool emit_shown(struct mount *m, struct node *dir, const struct wire_attr *attr, uint64_t cookie,
		       const struct emit *emit)
{
	uint32_t flags = le32_get(attr->flags);

	if (cookie < COOKIE_CHUNKDIR && (flags & WIRE_ATTR_CHUNKDIR) &&
	    !emit->fn(emit->arg, "c", view_ino(dir->ino, NODE_CHUNKDIR, 0, "c"), S_IFDIR | 0755, NULL, COOKIE_CHUNKDIR))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(view_names); i++) {
		const struct view_name *v = &view_names[i];
		uint32_t mode = v->kind == NODE_COMPUTEDIR ? S_IFDIR | 0555 : S_IFREG | 0644;
		if (m->options.show_views && (flags & WIRE_ATTR_SIDECAR) && cookie < v->cookie &&
		    !emit->fn(emit->arg, v->name, view_ino(dir->ino, v->kind, 0, v->name), mode, NULL, v->cookie))
			return false;
	}
	return true;
}

/* Emits one page of the head's entries; *cookie moves on.  Returns 1 at the end, 2 when the reader is full, 0 to go on. */
static int emit_page(struct mount *m, struct node *dir, bool is_array, uint64_t *cookie, const struct emit *emit)
{
	AUTO_FREE char *page = NULL;
	struct cursor c = { 0 };
	size_t len;
	uint64_t seq;
	int err = head_readdir(m, dir->ino, *cookie,
			       (uint32_t)MIN(MAX(emit->room, (size_t)PAGE_MIN_BYTES), (size_t)PAGE_MAX_BYTES), &page,
			       &len, &seq);

	if (err)
		return err;
	if (len == 0)
		return 1;
	c = (struct cursor){ (const uint8_t *)page, len };
	while (c.left > 0) {
		char name[SLAB_NAME_MAX + 1];
		const struct wire_dirent *e = cursor_take(&c, sizeof(*e));
		size_t name_bytes = e ? le32_get(e->name_bytes) : 0;
		const void *text = e && name_bytes <= SLAB_NAME_MAX ? cursor_take(&c, name_bytes) : NULL;
		if (!text)
			return -EPROTO;
		memcpy(name, text, name_bytes);
		name[name_bytes] = '\0';
		*cookie = le64_get(e->cookie);
		if (!(is_array && chunk_is_temporary(name)) &&
		    !emit->fn(emit->arg, name, le64_get(e->attr.ino), le32_get(e->attr.mode),
			      seq == atomic_load(&m->inval_seq) ? &e->attr : NULL, *cookie + COOKIE_HEAD))
			return 2;
	}
	return 0;
}

static int dir_readdir(struct mount *m, struct node *dir, struct handle *h, uint64_t cookie, const struct emit *emit)
{
	struct wire_attr attr;
	int err = node_attr(m, dir, &attr);

	(void)h;
	if (err)
		return err;
	if (cookie < COOKIE_HEAD && node_is_array(&attr) && !emit_shown(m, dir, &attr, cookie, emit))
		return 0;
	cookie = cookie > COOKIE_HEAD ? cookie - COOKIE_HEAD : 0;
	do
		err = emit_page(m, dir, node_is_array(&attr), &cookie, emit);
	while (err == 0);
	return err < 0 ? err : 0;
}

const struct node_ops dir_ops = {
	.name = "dir",
	.getattr = dir_getattr,
	.setattr = dir_setattr,
	.lookup = dir_lookup,
	.make = dir_make,
	.unlink = dir_unlink,
	.rmdir = dir_rmdir,
	.readdir = dir_readdir,
};

/* Symbolic links, fifos, sockets and devices: only their attributes are ours. */
static int other_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	return change->valid & WIRE_SET_SIZE ? -EINVAL : dir_setattr(m, n, h, change);
}

const struct node_ops other_ops = {
	.name = "other",
	.getattr = dir_getattr,
	.setattr = other_setattr,
};
