/* file.c - regular files: cut into partitions like a 1-D array of bytes.  (Those that the head holds itself are in sidecar.c.)
 *
 * What a mount has written is known to the head only after a flush: until then size and mtime are this mount's own.
 */
#include "file_internal.h"
#include "dir.h"
#include "errors.h"
#include "head.h"
#include "head_call.h"
#include "idle.h"
#include "inval.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define IDLE_PARTS_MAX 4 /* of an idle file: what a longer one knows is worth more than opening it again costs */

/* It is open at the head: so it is here, or not at all. */
static int file_start(struct mount *m, struct node *n, const struct wire_attr *attr, const struct wire_layout *w,
		      const char *payload, size_t len)
{
	struct layout layout;
	struct file *f = calloc(1, sizeof(*f));
	int err = f ? head_layout(w, payload, len, &layout) : -ENOMEM;

	if (!err)
		err = bytes_new(m, &layout, &f->bytes);
	if (err) {
		free(f);
		head_close(m, n->ino);
		return err;
	}
	atomic_init(&f->generation, le64_get(attr->generation));
	pthread_mutex_lock(&n->lock);
	n->state = f;
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static int file_load(struct mount *m, struct node *n)
{
	struct wire_open_reply reply;
	AUTO_FREE char *payload = NULL;
	uint64_t seq;
	size_t len;
	int err = head_open(m, n->ino, &reply, &payload, &len, &seq);

	if (err)
		return err;
	node_set_attr(m, n, &reply.attr, seq);
	return file_start(m, n, &reply.attr, &reply.layout, payload, len);
}

int file_of_made(struct mount *m, struct head_made *made, uint64_t parent_ino, const char *name, struct node **ret)
{
	AUTO_FREE char *nodes = made->nodes;
	struct node *n;
	int err = node_of_attr(m, &made->reply.attr, made->seq, parent_ino, name, &n);

	if (err) {
		if (made->open)
			head_close(m, le64_get(made->reply.attr.ino));
		return err;
	}
	*ret = n;
	if (!made->open)
		return 0;
	node_busy_begin(n);
	if (n->state)
		head_close(m, n->ino);
	else if (!file_start(m, n, &made->reply.attr, &made->reply.layout, nodes, made->nodes_bytes))
		idle_put(m->idle, n);
	node_busy_end(n);
	return 0;
}

static void file_stop(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	struct file *f = n->state;
	n->state = NULL;
	pthread_mutex_unlock(&n->lock);
	bytes_free(f->bytes);
	free(f);
}

void file_unload_unused(struct mount *m, struct node *n, bool tell)
{
	if (n->n_open > 0 || !n->state)
		return;
	file_stop(n);
	if (tell)
		head_close(m, n->ino);
}

bool file_leave_to_removal(struct mount *m, struct node *n)
{
	bool ok;

	node_busy_begin(n);
	ok = n->kind == NODE_FILE && n->n_open == 0 && n->state && head_opens_take(m->head, n->ino);
	if (ok) {
		idle_take(m, n);
		file_stop(n);
	}
	node_busy_end(n);
	return ok;
}

/* Descriptors do not stay: the next one is of what has been verified then.  A file that may have no name any more is not kept from its end. */
static bool may_be_idle(struct node *n)
{
	struct file *f = n->state;

	pthread_mutex_lock(&n->lock);
	bool named = n->attr_valid && le32_get(n->attr.nlink) > 0;
	pthread_mutex_unlock(&n->lock);
	if (!named || f->dirty || bytes_dirty(f->bytes) || bytes_known(f->bytes) > IDLE_PARTS_MAX)
		return false;
	bytes_refresh(f->bytes);
	return true;
}

/* The kernel may lead to a file that was removed a moment ago, by a name that is another's now: only who has it open may go on with it. */
static bool may_resume(struct mount *m, struct node *n)
{
	struct wire_attr attr;

	return head_is_near(m) && !node_attr(m, n, &attr) && le32_get(attr.nlink) > 0;
}

/* The first open fetches the layout, the last close gives it back; between them only counts change. */
static int file_use(struct mount *m, struct node *n)
{
	int err = 0;

	node_busy_begin(n);
	if (n->n_open == 0 && n->state && !may_resume(m, n)) {
		idle_take(m, n);
		file_unload_unused(m, n, true);
	}
	if (!n->state)
		err = file_load(m, n);
	else if (n->n_open == 0)
		idle_take(m, n);
	if (!err)
		n->n_open++;
	node_busy_end(n);
	return err;
}

static void file_unuse(struct mount *m, struct node *n)
{
	node_busy_begin(n);
	if (--n->n_open == 0 && may_be_idle(n))
		idle_put(m->idle, n);
	else
		file_unload_unused(m, n, true);
	node_busy_end(n);
}

static size_t open_files(struct mount *m, struct node ***ret)
{
	struct node **nodes;
	size_t n = 0, pos = 0;
	uint64_t key;
	void *value;

	pthread_mutex_lock(&m->table_lock);
	nodes = calloc(map_count(&m->nodes) + 1, sizeof(*nodes));
	while (nodes && map_next(&m->nodes, &pos, &key, &value)) {
		struct node *node = value;
		pthread_mutex_lock(&node->lock);
		if (node->kind == NODE_FILE && node->state)
			nodes[n++] = node_ref(node);
		pthread_mutex_unlock(&node->lock);
	}
	pthread_mutex_unlock(&m->table_lock);
	*ret = nodes;
	return n;
}

void file_settle_all(struct mount *m)
{
	struct node **nodes;
	size_t n = open_files(m, &nodes);

	for (size_t i = 0; i < n; i++) {
		file_settle(m, nodes[i]);
		node_unref(m, nodes[i]);
	}
	free(nodes);
}

uint64_t file_size(struct mount *m, struct node *n, int *ret_err)
{
	struct wire_attr attr;
	struct file *f = n->state;
	uint64_t size, generation;

	*ret_err = node_attr(m, n, &attr);
	if (*ret_err)
		return 0;
	/* Looked at together: a commit meanwhile has moved the size from one to the other. */
	pthread_mutex_lock(&n->lock);
	if (n->attr_valid || le64_get(n->attr.generation) > le64_get(attr.generation))
		attr = n->attr;
	size = le64_get(attr.size);
	if (f->dirty)
		size = MAX(size, f->size);
	pthread_mutex_unlock(&n->lock);
	generation = le64_get(attr.generation);
	if (atomic_load(&f->generation) != generation) {
		bytes_refresh(f->bytes);
		atomic_store(&f->generation, generation);
	}
	return size;
}

void file_changed(struct mount *m, struct node *n, struct file *f, const struct wire_attr *attr, uint64_t seq)
{
	uint64_t generation = le64_get(attr->generation), before = generation - 1;

	node_set_attr(m, n, attr, seq);
	node_wrote_generation(n, generation);
	atomic_compare_exchange_strong(&f->generation, &before, generation);
}

static bool ns_before(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

static int file_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	struct wire_attr attr;
	uint64_t size;
	int err = node_attr(m, n, &attr);

	if (err)
		return err;
	if (le32_get(attr.flags) & WIRE_ATTR_INLINE) {
		node_stat(&attr, ret);
		if (sidecar_size(n, &size))
			ret->st_size = (off_t)size;
		return 0;
	}
	/* attr and what is written since are looked at together: a commit moves the size from one to the other. */
	pthread_mutex_lock(&n->lock);
	bool newer = n->attr_valid || le64_get(n->attr.generation) > le64_get(attr.generation);
	node_stat(newer ? &n->attr : &attr, ret);
	struct file *f = n->state;
	if (f && f->dirty) {
		ret->st_size = MAX(ret->st_size, (off_t)f->size);
		ret->st_blocks = (blkcnt_t)div_up((uint64_t)ret->st_size, 512);
		ret->st_mtim.tv_sec = (time_t)(f->write_ns / 1000000000u);
		ret->st_mtim.tv_nsec = (long)(f->write_ns % 1000000000u);
		if (ns_before(ret->st_ctim, ret->st_mtim))
			ret->st_ctim = ret->st_mtim;
	}
	pthread_mutex_unlock(&n->lock);
	return 0;
}

/* Seals and commits; the node is busy, so that of two who flush at once the second waits for the first and finds nothing to do. */
static int file_flush_busy(struct mount *m, struct node *n, bool durable)
{
	struct file *f = n->state;
	struct reason why = { "" };
	struct wire_attr attr;
	uint64_t size, write_ns, seq;
	bool dirty;
	int err = 0;

	if (!f)
		return 0;
	pthread_mutex_lock(&n->lock);
	dirty = f->dirty;
	size = f->size;
	write_ns = f->write_ns;
	pthread_mutex_unlock(&n->lock);
	if (dirty || durable || bytes_dirty(f->bytes)) /* under strict the head knows already of what is not sealed */
		err = bytes_seal(f->bytes, durable, &why);
	if (err)
		return errors_add(m, n, -err, &why);
	if (dirty) {
		err = head_commit(m, n->ino, size, write_ns, &attr, &seq);
		if (err)
			return err;
		file_changed(m, n, f, &attr, seq);
		pthread_mutex_lock(&n->lock);
		if (f->write_ns == write_ns && f->size == size)
			f->dirty = false;
		pthread_mutex_unlock(&n->lock);
	}
	return durable ? head_metasync(m) : 0;
}

int file_settle(struct mount *m, struct node *n)
{
	node_busy_begin(n);
	int err = file_flush_busy(m, n, false);
	if (!err)
		err = sidecar_flush_busy(m, n);
	node_busy_end(n);
	return err;
}

/* Cuts or lengthens: the partitions first, then the head; a crash between shows zeros, never old bytes. */
static int file_resize(struct mount *m, struct node *n, uint64_t size, const struct change *change)
{
	struct file *f = n->state;
	const struct layout *l = bytes_layout(f->bytes);
	struct reason why = { "" };
	struct wire_attr attr;
	uint64_t seq, now, cut = size / l->partition_bytes, within = size % l->partition_bytes;
	int err = file_settle(m, n);

	if (err)
		return err;
	now = file_size(m, n, &err);
	if (!err && size < now && within > 0)
		err = bytes_truncate(f->bytes, cut, within, &why);
	if (!err && size < now)
		err = bytes_drop(f->bytes, cut + (within > 0), UINT64_MAX, &why);
	if (err)
		return errors_add(m, n, -err, &why);
	err = head_setattr(m, n->ino, change, &attr, &seq);
	if (err)
		return err;
	file_changed(m, n, f, &attr, seq);
	return 0;
}

static bool is_inline(struct mount *m, struct node *n, int *ret_err)
{
	struct wire_attr attr;

	*ret_err = node_attr(m, n, &attr);
	return !*ret_err && (le32_get(attr.flags) & WIRE_ATTR_INLINE);
}

static int file_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	struct wire_attr attr;
	uint64_t seq;
	int err;

	if (change->valid & WIRE_SET_SIZE) {
		if (is_inline(m, n, &err) || err)
			return err ? err : sidecar_ops.setattr(m, n, h, change);
		err = file_use(m, n);
		if (err)
			return err;
		err = file_resize(m, n, change->size, change);
		file_unuse(m, n);
		return err;
	}
	if (change->valid & (WIRE_SET_MTIME | WIRE_SET_MTIME_NOW)) {
		err = file_settle(m, n); /* or the commit at close would overwrite the time that is being set */
		if (err)
			return err;
	}
	err = head_setattr(m, n->ino, change, &attr, &seq);
	if (!err)
		node_set_attr(m, n, &attr, seq);
	return err;
}

/* What O_TRUNC does.  A write takes setuid and setgid away from what is not root's doing; the kernel sees to it but for this one. */
static int change_to_zero(struct mount *m, struct node *n, const struct handle *h, struct change *ret)
{
	struct wire_attr attr;
	uint32_t mode;
	int err = node_attr(m, n, &attr);

	if (err)
		return err;
	mode = le32_get(attr.mode);
	*ret = (struct change){ .valid = WIRE_SET_SIZE, .mode = mode & 07777 & ~(uint32_t)S_ISUID };
	if (mode & S_IXGRP)
		ret->mode &= ~(uint32_t)S_ISGID;
	if (h->uid != 0 && ret->mode != (mode & 07777))
		ret->valid |= WIRE_SET_MODE;
	return 0;
}

static int file_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel)
{
	struct change to_zero;
	struct wire_attr attr;
	int err;

	/* The kernel has moved its own entry, and looks again when it is told that this is stale. */
	if (atomic_load(&n->is_partition))
		return -ESTALE;
	if (is_inline(m, n, &err) || err) {
		h->ops = &sidecar_ops;
		return err ? err : sidecar_ops.open(m, n, h, cancel);
	}
	err = file_use(m, n);
	if (err)
		return err;
	if (h->flags & O_TRUNC)
		err = change_to_zero(m, n, h, &to_zero);
	if (!err && h->flags & O_TRUNC)
		err = file_resize(m, n, 0, &to_zero);
	if (!err)
		err = node_attr(m, n, &attr);
	if (err)
		file_unuse(m, n);
	else if (!h->direct_io)
		h->keep_cache = node_keeps_cache(n, le64_get(attr.generation));
	return err;
}

static int file_flush(struct mount *m, struct handle *h)
{
	return file_settle(m, h->node);
}

static int file_fsync(struct mount *m, struct handle *h)
{
	node_busy_begin(h->node);
	int err = file_flush_busy(m, h->node, true);
	node_busy_end(h->node);
	return err;
}

static void file_release(struct mount *m, struct handle *h)
{
	file_settle(m, h->node);
	file_unuse(m, h->node);
}

int file_read_at(struct mount *m, struct node *n, char *buf, size_t len, uint64_t offset, size_t *ret_len)
{
	struct handle h = { .node = n };
	struct read_out out = { .buf = buf, .fd = -1 };
	size_t total = 0;
	int err = file_use(m, n);

	if (err)
		return err;
	while (total < len && !err) {
		out = (struct read_out){ .buf = buf + total, .fd = -1 };
		err = file_read(m, &h, len - total, offset + total, &out);
		if (err || out.len == 0)
			break;
		if (out.fd >= 0) {
			ssize_t got = pread(out.fd, buf + total, out.len, (off_t)out.fd_offset);
			close(out.fd);
			err = got != (ssize_t)out.len ? -EIO : 0;
		}
		total += out.len;
	}
	file_unuse(m, n);
	*ret_len = total;
	return err;
}

const struct node_ops file_ops = {
	.name = "file",
	.getattr = file_getattr,
	.setattr = file_setattr,
	.open = file_open,
	.read = file_read,
	.write = file_write,
	.append = file_append,
	.publish = file_publish,
	.allocate = file_allocate,
	.seek = file_seek,
	.copy = file_copy,
	.flush = file_flush,
	.fsync = file_fsync,
	.release = file_release,
	.whole_fd = file_whole_fd,
};
