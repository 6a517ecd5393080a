/* ops_dir.c - readdir and readdirplus: a page of entries on its way to the kernel. */
#include "ops_fuse.h"
#include "readtime.h"

#include <stdlib.h>

/* A page of entries on its way to the kernel.  Cookies: 1 and 2 are "." and "..", those of the node follow. */
enum { COOKIE_SELF = 1, COOKIE_PARENT = 2, COOKIE_NODE = 2 };

#define WIRE_PER_PLAIN 4 /* an entry of the head's is about so many times as long as a plain one of the kernel's */

struct page {
	fuse_req_t req;
	struct node *dir;
	bool plus;
	char *buf;
	size_t size, used;
	uint64_t seq;
	int err;
};

static bool page_add(struct page *p, const char *name, const struct fuse_entry_param *e, off_t cookie)
{
	size_t left = p->size - p->used;
	size_t need = p->plus ? fuse_add_direntry_plus(p->req, p->buf + p->used, left, name, e, cookie)
			      : fuse_add_direntry(p->req, p->buf + p->used, left, name, &e->attr, cookie);

	if (need > left)
		return false;
	p->used += need;
	return true;
}

static bool page_emit(void *arg, const char *name, uint64_t ino, uint32_t mode, const struct wire_attr *attr,
		      uint64_t cookie)
{
	struct page *p = arg;
	struct mount *m = ops_mount_of(p->req);
	struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = mode } };
	struct node *n = NULL;

	if (p->plus && attr && !node_of_attr(m, attr, p->seq, p->dir->ino, name, &n) && ops_fill_entry(m, n, &e)) {
		node_unref(m, n);
		n = NULL;
		e = (struct fuse_entry_param){ .attr = { .st_ino = ino, .st_mode = mode } };
	}
	if (page_add(p, name, &e, (off_t)(cookie + COOKIE_NODE)))
		return true;
	node_unref(m, n);
	return false;
}

static bool page_add_dot(struct page *p, const char *name, uint64_t ino, off_t cookie)
{
	struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = S_IFDIR } };

	return page_add(p, name, &e, cookie);
}

static void read_directory(fuse_req_t req, fuse_ino_t id, size_t size, off_t cookie, struct fuse_file_info *fi,
			   bool plus)
{
	struct mount *m = ops_mount_of(req);
	struct node *dir = ops_node(req, id);
	struct page p = { .req = req, .dir = dir, .plus = plus, .size = size, .seq = atomic_load(&m->inval_seq) };
	struct emit emit = { page_emit, &p, plus ? size : WIRE_PER_PLAIN * size };
	bool room = true;
	int err = 0;

	p.buf = malloc(size);
	if (!p.buf || !dir->ops->readdir) {
		ops_reply_err(req, p.buf ? -ENOTDIR : -ENOMEM);
		free(p.buf);
		return;
	}
	if (cookie < COOKIE_SELF)
		room = page_add_dot(&p, ".", dir->ino, COOKIE_SELF);
	if (room && cookie < COOKIE_PARENT)
		room = page_add_dot(&p, "..", dir->parent_ino ? dir->parent_ino : dir->ino, COOKIE_PARENT);
	if (room)
		err = dir->ops->readdir(m, dir, ops_handle(fi), (uint64_t)MAX(cookie - COOKIE_NODE, 0), &emit);
	if (!err)
		readtime_note(m, ops_handle(fi));
	if (err && p.used == 0)
		ops_reply_err(req, err);
	else
		fuse_reply_buf(req, p.buf, p.used);
	free(p.buf);
}

void ops_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	read_directory(req, id, size, cookie, fi, false);
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	read_directory(req, id, size, cookie, fi, true);
}
