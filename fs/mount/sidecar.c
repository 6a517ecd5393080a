/* sidecar.c - zarr.json and its temporaries: small files whose bytes the head holds, and judges when they are closed.
 *
 * While one is open, its whole content is in the node, shared by all who have it open here.
 */
#include "array.h"
#include "dir.h"
#include "file.h"
#include "head.h"
#include "inval.h"
#include "node.h"
#include "zarr.h"

#include <fcntl.h>
#include <stdlib.h>

struct sidecar { /* guarded by node.lock */
	char *text;
	size_t len, cap;
	uint64_t generation; /* not newer than the text */
	bool dirty;
};

static int fetch(struct mount *m, struct node *n, struct sidecar *ret)
{
	struct wire_attr attr;
	int err = node_attr(m, n, &attr);

	if (!err)
		err = head_inline_read(m, n->ino, &ret->text, &ret->len);
	if (err)
		return err;
	ret->cap = ret->len;
	ret->generation = le64_get(attr.generation);
	return 0;
}

static int sidecar_load(struct mount *m, struct node *n)
{
	struct sidecar *s = calloc(1, sizeof(*s));
	int err = s ? fetch(m, n, s) : -ENOMEM;

	if (err) {
		free(s);
		return err;
	}
	pthread_mutex_lock(&n->lock);
	n->whole = s;
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static void sidecar_unload(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	struct sidecar *s = n->whole;
	n->whole = NULL;
	pthread_mutex_unlock(&n->lock);
	free(s->text);
	free(s);
}

/* Others hold it open here, but another mount may have written it since they came. */
static int sidecar_reload(struct mount *m, struct node *n)
{
	struct sidecar *s = n->whole, fresh = { 0 };
	struct wire_attr attr;
	int err = node_attr(m, n, &attr);

	if (err)
		return err;
	pthread_mutex_lock(&n->lock);
	bool current = s->dirty || s->generation == le64_get(attr.generation);
	pthread_mutex_unlock(&n->lock);
	if (!current)
		err = fetch(m, n, &fresh);
	if (current || err)
		return err;
	pthread_mutex_lock(&n->lock);
	if (!s->dirty) {
		char *old = s->text;
		*s = fresh;
		fresh.text = old;
	}
	pthread_mutex_unlock(&n->lock);
	free(fresh.text);
	return 0;
}

static int sidecar_use(struct mount *m, struct node *n)
{
	int err;

	node_busy_begin(n);
	err = n->n_whole == 0 ? sidecar_load(m, n) : sidecar_reload(m, n);
	if (!err)
		n->n_whole++;
	node_busy_end(n);
	return err;
}

static void sidecar_unuse(struct node *n)
{
	node_busy_begin(n);
	if (--n->n_whole == 0)
		sidecar_unload(n);
	node_busy_end(n);
}

static int resize_locked(struct sidecar *s, size_t len)
{
	if (len > ZARR_DOC_MAX)
		return -EFBIG;
	if (len > s->cap) {
		size_t cap = MAX(len, s->cap * 2);
		char *text = realloc(s->text, cap);
		if (!text)
			return -ENOMEM;
		s->text = text;
		s->cap = cap;
	}
	if (len > s->len)
		memset(s->text + s->len, 0, len - s->len);
	s->len = len;
	return 0;
}

/* The directory may have become an array, or another one. */
static void sidecar_judged(struct mount *m, struct node *n)
{
	struct node *dir = node_find(m, n->parent_ino);

	if (!dir)
		return;
	dir_changed(m, dir);
	inval_siblings(m, dir->ino, n);
	node_unref(m, dir);
}

int sidecar_flush_busy(struct mount *m, struct node *n)
{
	struct sidecar *s = n->whole;
	struct wire_attr attr;
	AUTO_FREE char *text = NULL;
	size_t len;
	uint64_t seq;
	int err;

	if (!s)
		return 0;
	pthread_mutex_lock(&n->lock);
	bool dirty = s->dirty;
	len = s->len;
	if (dirty && (text = calloc(1, len + 1))) {
		if (len > 0)
			memcpy(text, s->text, len);
		s->dirty = false;
	}
	pthread_mutex_unlock(&n->lock);
	if (!dirty)
		return 0;
	err = text ? head_inline_write(m, n->ino, text, len, &attr, &seq) : -ENOMEM;
	pthread_mutex_lock(&n->lock);
	s->dirty |= err != 0;
	if (!err)
		s->generation = le64_get(attr.generation);
	pthread_mutex_unlock(&n->lock);
	if (err)
		return err;
	node_set_attr(m, n, &attr, seq);
	sidecar_judged(m, n);
	return 0;
}

static int sidecar_settle(struct mount *m, struct node *n)
{
	node_busy_begin(n);
	int err = sidecar_flush_busy(m, n);
	node_busy_end(n);
	return err;
}

static int sidecar_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	struct sidecar *s;
	int err = sidecar_use(m, n);

	if (err)
		return err;
	s = n->whole;
	pthread_mutex_lock(&n->lock);
	err = change->size > ZARR_DOC_MAX ? -EFBIG : resize_locked(s, (size_t)change->size);
	s->dirty |= !err;
	pthread_mutex_unlock(&n->lock);
	if (!err && !h)
		err = sidecar_settle(m, n);
	sidecar_unuse(n);
	return err;
}

static int sidecar_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel)
{
	int err = sidecar_use(m, n);

	(void)cancel;
	if (err)
		return err;
	h->direct_io = false;
	h->keep_cache = false;
	if (h->flags & O_TRUNC) {
		struct sidecar *s = n->whole;
		pthread_mutex_lock(&n->lock);
		s->len = 0;
		s->dirty = true;
		pthread_mutex_unlock(&n->lock);
	}
	return 0;
}

static int sidecar_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out)
{
	struct sidecar *s = h->node->whole;

	(void)m;
	pthread_mutex_lock(&h->node->lock);
	out->len = offset >= s->len ? 0 : MIN(size, s->len - (size_t)offset);
	if (out->len > 0)
		memcpy(out->buf, s->text + offset, out->len);
	pthread_mutex_unlock(&h->node->lock);
	return 0;
}

static int sidecar_write(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset)
{
	struct sidecar *s = h->node->whole;
	int err = 0;

	(void)m;
	if (offset > ZARR_DOC_MAX)
		return -EFBIG;
	pthread_mutex_lock(&h->node->lock);
	if (offset + size > s->len)
		err = resize_locked(s, (size_t)offset + size);
	if (!err && size > 0) {
		memcpy(s->text + offset, buf, size);
		s->dirty = true;
	}
	pthread_mutex_unlock(&h->node->lock);
	return err;
}

static int sidecar_flush(struct mount *m, struct handle *h)
{
	return sidecar_settle(m, h->node);
}

static int sidecar_fsync(struct mount *m, struct handle *h)
{
	int err = sidecar_settle(m, h->node);

	return err ? err : head_metasync(m);
}

static void sidecar_release(struct mount *m, struct handle *h)
{
	sidecar_settle(m, h->node);
	sidecar_unuse(h->node);
}

bool sidecar_size(struct node *n, uint64_t *ret)
{
	pthread_mutex_lock(&n->lock);
	struct sidecar *s = n->whole;
	bool dirty = s && s->dirty;
	if (dirty)
		*ret = s->len;
	pthread_mutex_unlock(&n->lock);
	return dirty;
}

const struct node_ops sidecar_ops = {
	.name = "sidecar",
	.setattr = sidecar_setattr,
	.open = sidecar_open,
	.read = sidecar_read,
	.write = sidecar_write,
	.flush = sidecar_flush,
	.fsync = sidecar_fsync,
	.release = sidecar_release,
};
