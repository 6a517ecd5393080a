/* datanpy.c - the view `data.npy`: a NumPy header, and behind it the whole array's bytes in C order.
 *
 * A data.npy that was created or truncated is *pending*: what is written to it is kept here until the header is whole; the
 * header then defines the array, and all that follows goes to the partitions.  Until then an older array stands as it was.
 */
#include "array.h"
#include "data.h"
#include "errors.h"
#include "head.h"
#include "inval.h"

#include <fcntl.h>
#include <stdlib.h>

#define PARTITION_XATTR "user.slabfs.partition_bytes"
#define PARTITION_BYTES_DEFAULT (64u << 20)
#define PARTITION_BYTES_MIN 4096u
#define ROWS_TO_COME                                                                                                   \
	(UINT64_C(1) << 20) /* an array without rows is made to be appended to: partitions of the target size */

struct pending { /* in node.state of a data.npy; used while the node is busy */
	uint32_t uid, gid;
	int failed; /* what a write was told already, for close() to repeat; or 0 */
	size_t len;
	char buf[NPY_HEADER_MAX + 4096];
};

static int pending_begin(struct node *n, uint32_t uid, uint32_t gid)
{
	struct pending *p = n->state ? n->state : malloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->uid = uid;
	p->gid = gid;
	p->failed = 0;
	p->len = 0;
	pthread_mutex_lock(&n->lock);
	n->state = p;
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static void pending_end(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	struct pending *p = n->state;
	n->state = NULL;
	pthread_mutex_unlock(&n->lock);
	free(p);
}

static bool is_pending(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	bool yes = n->state != NULL;
	pthread_mutex_unlock(&n->lock);
	return yes;
}

static void npy_free(struct node *n)
{
	free(n->state);
}

int npy_pending_new(struct mount *m, struct node *dir, const struct make *what, struct node **ret)
{
	struct node *n;
	int err = node_of_view(m, NODE_NPY, dir->ino, NULL, 0, "data.npy", &n);

	if (err)
		return err;
	node_busy_begin(n);
	err = is_pending(n) && what->excl ? -EEXIST : pending_begin(n, what->uid, what->gid);
	node_busy_end(n);
	if (err)
		node_unref(m, n);
	else
		*ret = n;
	return err;
}

int npy_pending_lookup(struct mount *m, struct node *dir, const char *name, struct node **ret)
{
	struct node *n = strcmp(name, "data.npy") ? NULL : node_find(m, view_ino(dir->ino, NODE_NPY, 0, name));

	if (!n)
		return -ENOENT;
	if (!is_pending(n)) {
		node_unref(m, n);
		return -ENOENT;
	}
	*ret = n;
	return 0;
}

static int pending_stat(struct mount *m, struct node *n, struct stat *ret)
{
	struct node *dir = node_find(m, n->parent_ino);
	struct wire_attr attr = { 0 };
	int err = dir ? node_attr(m, dir, &attr) : -ENOENT;

	node_unref(m, dir);
	if (err)
		return err;
	pthread_mutex_lock(&n->lock);
	struct pending *p = n->state;
	node_view_stat(n, &attr, S_IFREG, 0666, p ? p->len : 0, ret);
	if (p) {
		ret->st_uid = p->uid;
		ret->st_gid = p->gid;
	}
	pthread_mutex_unlock(&n->lock);
	return 0;
}

static int npy_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	return is_pending(n) ? pending_stat(m, n, ret) : data_getattr(m, n, ret);
}

/* The partitions' target size: what the directory (or one above it, when it was made) was told. */
static uint64_t partition_target(struct mount *m, uint64_t dir_ino)
{
	AUTO_FREE char *value = NULL;
	uint64_t target;
	char text[32];
	size_t len;

	if (head_getxattr(m, dir_ino, PARTITION_XATTR, &value, &len) || len >= sizeof(text))
		return PARTITION_BYTES_DEFAULT;
	memcpy(text, value, len);
	text[len] = '\0';
	if (parse_u64(text, GRID_PARTITION_BYTES_MAX, &target))
		return PARTITION_BYTES_DEFAULT;
	return MAX(target, (uint64_t)PARTITION_BYTES_MIN);
}

/* An array that is saved again with the same rows keeps its document (attributes, names of axes, partition size); else a new one. */
static char *document_for(struct mount *m, struct node *n, const struct npy *h)
{
	uint64_t shape[SLAB_RANK_MAX], chunk[SLAB_RANK_MAX];
	struct array *a = node_array(n);
	struct array_view *v;
	char *doc = NULL;

	if (a && !array_view(m, a, &v)) {
		const struct grid *g = &v->zarr.grid;
		bool one_byte = dtype_bytes(h->dtype) == 1;
		if (h->rank > 0 && g->rank == h->rank && g->native && v->zarr.dtype == h->dtype &&
		    (one_byte || v->zarr.big_endian == h->big_endian) &&
		    !memcmp(g->shape + 1, h->shape + 1, (h->rank - 1) * sizeof(h->shape[0])))
			zarr_doc_resize(v->doc, v->doc_bytes, h->shape[0], &doc, NULL);
		array_view_unref(v);
	}
	if (doc)
		return doc;
	memcpy(shape, h->shape, sizeof(shape));
	if (h->rank > 0 && shape[0] == 0)
		shape[0] = ROWS_TO_COME;
	grid_native_chunk(h->rank, shape, dtype_bytes(h->dtype), partition_target(m, n->parent_ino), chunk);
	return zarr_doc_new(h->dtype, h->big_endian, h->rank, h->shape, chunk);
}

static int define_array(struct mount *m, struct node *n, const struct npy *h, const struct pending *p)
{
	AUTO_FREE char *doc = document_for(m, n, h);
	struct wire_attr attr;
	struct array *a;
	struct node *dir;
	uint64_t seq;
	int err = doc ? head_define(m, n->parent_ino, p->buf, h->header_bytes, doc, p->uid, p->gid, &attr, &seq)
		      : -ENOMEM;

	if (err)
		return err;
	array_invalidate(m, n->parent_ino);
	dir = node_find(m, n->parent_ino);
	if (dir)
		node_set_attr(m, dir, &attr, seq);
	node_unref(m, dir);
	err = array_get(m, n->parent_ino, &a);
	if (err)
		return err;
	node_set_array(m, n, a);
	array_unref(m, a);
	inval_siblings(m, n->parent_ino, n);
	return 0;
}

/* Adds to the header-to-be.  When it is whole, the array is defined and what came behind the header is written. */
static int pending_write(struct mount *m, struct node *n, const char *buf, size_t size, uint64_t offset)
{
	struct pending *p = n->state;
	struct reason why = { "" };
	struct npy h;
	size_t room = sizeof(p->buf), now;
	int err;

	if (offset > p->len)
		return errors_add(m, n, EINVAL, &(struct reason){ "npy header: write it first, and without gaps" });
	if (offset >= room)
		return errors_add(m, n, EINVAL, &(struct reason){ "npy header: longer than slabfs takes" });
	now = MIN(size, room - (size_t)offset);
	pthread_mutex_lock(&n->lock);
	memcpy(p->buf + offset, buf, now);
	p->len = MAX(p->len, (size_t)offset + now);
	pthread_mutex_unlock(&n->lock);
	err = npy_parse(p->buf, p->len, &h, NULL, &why);
	if (err == -EAGAIN)
		return 0;
	if (!err && h.fortran_order && h.rank > 1)
		err = reason_set(&why, ENOTSUP,
				 "npy header: fortran_order: True is not supported; save np.ascontiguousarray(a)");
	if (err)
		return errors_add(m, n, -err, &why);
	err = define_array(m, n, &h, p);
	if (!err && p->len > h.header_bytes)
		err = data_write_bytes(m, n, p->buf + h.header_bytes, p->len - h.header_bytes, 0, false);
	if (!err && now < size)
		err = data_write_bytes(m, n, buf + now, size - now, offset + now - h.header_bytes, false);
	if (!err)
		pending_end(n);
	return err;
}

static int npy_truncate(struct mount *m, struct node *n, uint64_t size)
{
	struct stat now;
	int err = npy_getattr(m, n, &now);

	if (err || size == (uint64_t)now.st_size)
		return err;
	if (size > 0)
		return errors_add(m, n, EINVAL, &(struct reason){ "the size of data.npy follows from its header" });
	node_busy_begin(n);
	err = pending_begin(n, now.st_uid, now.st_gid);
	node_busy_end(n);
	return err;
}

static int npy_setattr(struct mount *m, struct node *n, struct handle *h, const struct change *change)
{
	(void)h;
	if (change->valid & WIRE_SET_SIZE)
		return npy_truncate(m, n, change->size);
	return data_set_directory(m, n, change);
}

static int npy_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel)
{
	int err = h->flags & O_TRUNC ? npy_truncate(m, n, 0) : 0;

	if (!err && !is_pending(n)) {
		int flags = h->flags;
		h->flags &= ~O_TRUNC;
		err = data_open(m, n, h, cancel);
		h->flags = flags;
	}
	if (err == -ENOENT)
		err = -ESTALE; /* it never became an array: the kernel looks the name up again, and may create it */
	pthread_mutex_lock(&n->lock);
	n->n_open += !err;
	pthread_mutex_unlock(&n->lock);
	return err;
}

static int npy_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out)
{
	struct array_view *v;
	struct array *a;
	size_t before = 0;
	int err;

	out->len = 0;
	pthread_mutex_lock(&h->node->lock);
	struct pending *p = h->node->state;
	if (p && offset < p->len) {
		out->len = MIN(size, p->len - (size_t)offset);
		memcpy(out->buf, p->buf + offset, out->len);
	}
	pthread_mutex_unlock(&h->node->lock);
	if (p)
		return 0;
	err = data_view_of(m, h->node, &a, &v);
	if (err)
		return err;
	if (offset < v->npy_bytes) {
		before = MIN(size, v->npy_bytes - (size_t)offset);
		memcpy(out->buf, v->npy + offset, before);
	}
	uint64_t from = offset + before - v->npy_bytes;
	if (size > before && offset + before < v->npy_bytes + v->data_bytes)
		err = data_read_bytes(m, h->node, v, MIN(size - before, v->data_bytes - from), from, before, out);
	else
		out->len = before;
	array_view_unref(v);
	return err;
}

/* In place, the header can only be written as it is. */
static int npy_write_in_place(struct mount *m, struct node *n, const char *buf, size_t size, uint64_t offset)
{
	struct array_view *v;
	struct array *a;
	size_t in_header, header;
	bool same = true;
	int err = data_view_of(m, n, &a, &v);

	if (err)
		return err;
	header = v->npy_bytes;
	in_header = offset < header ? MIN(size, header - (size_t)offset) : 0;
	if (in_header > 0)
		same = !memcmp(v->npy + offset, buf, in_header);
	array_view_unref(v);
	if (!same)
		return errors_add(
			m, n, EINVAL,
			&(struct reason){ "the npy header cannot be changed in place; truncate data.npy first" });
	return size > in_header
		       ? data_write_bytes(m, n, buf + in_header, size - in_header, offset + in_header - header, false)
		       : 0;
}

static int npy_write(struct mount *m, struct handle *h, const char *buf, size_t size, uint64_t offset)
{
	struct node *n = h->node;
	int err;

	if (!is_pending(n))
		return npy_write_in_place(m, n, buf, size, offset);
	node_busy_begin(n);
	if (is_pending(n)) {
		err = pending_write(m, n, buf, size, offset);
		pthread_mutex_lock(&n->lock);
		if (n->state)
			((struct pending *)n->state)->failed = err;
		pthread_mutex_unlock(&n->lock);
	} else {
		err = npy_write_in_place(m, n, buf, size, offset);
	}
	node_busy_end(n);
	return err;
}

static int npy_publish(struct mount *m, struct handle *h)
{
	return is_pending(h->node) ? 0 : data_publish(m, h);
}

static int npy_flush(struct mount *m, struct handle *h)
{
	pthread_mutex_lock(&h->node->lock);
	struct pending *p = h->node->state;
	int failed = p ? p->failed : 0;
	bool cut_short = p && p->len > 0;
	pthread_mutex_unlock(&h->node->lock);
	if (failed)
		return failed;
	if (cut_short)
		return errors_add(m, h->node, EINVAL,
				  &(struct reason){ "npy header: the file ends before the header does" });
	return p ? 0 : data_flush(m, h);
}

/* A header that never became whole is forgotten with the last who could have finished it. */
static void npy_release(struct mount *m, struct handle *h)
{
	bool last;

	pthread_mutex_lock(&h->node->lock);
	last = --h->node->n_open == 0;
	pthread_mutex_unlock(&h->node->lock);
	data_release(m, h);
	if (last) {
		node_busy_begin(h->node);
		pending_end(h->node);
		node_busy_end(h->node);
	}
}

const struct node_ops npy_ops = {
	.name = "data.npy",
	.getattr = npy_getattr,
	.setattr = npy_setattr,
	.open = npy_open,
	.read = npy_read,
	.write = npy_write,
	.publish = npy_publish,
	.flush = npy_flush,
	.fsync = data_fsync,
	.release = npy_release,
	.free = npy_free,
};
