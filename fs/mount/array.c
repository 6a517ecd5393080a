#include "array.h"
#include "errors.h"
#include "head.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- what is known at one moment ---- */

void array_view_unref(struct array_view *v)
{
	if (!v || atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	if (v->bytes && atomic_fetch_sub(v->bytes_refs, 1) == 1) {
		bytes_free(v->bytes);
		free((void *)v->bytes_refs);
	}
	free(v->doc);
	free(v->npy);
	free(v);
}

static int canonical_npy(const struct zarr *z, struct array_view *v)
{
	struct npy h = { .dtype = z->dtype, .big_endian = z->big_endian, .rank = z->grid.rank };
	uint8_t buf[4096];
	int err;

	memcpy(h.shape, z->grid.shape, sizeof(h.shape));
	err = npy_format(&h, v->npy_bytes, buf, sizeof(buf), &v->npy_bytes);
	if (err)
		return err;
	v->npy = malloc(v->npy_bytes);
	if (!v->npy)
		return -ENOMEM;
	memcpy(v->npy, buf, v->npy_bytes);
	return 0;
}

/* The header that data.npy was written with is kept to the byte while it still says the truth; else one of the same length is made. */
static int take_npy(struct array_view *v, const char *kept, size_t len)
{
	const struct grid *g = &v->zarr.grid;
	struct npy h;

	v->npy_bytes = len;
	if (len == 0 || npy_parse(kept, len, &h, NULL, NULL) || h.header_bytes != len || h.fortran_order ||
	    h.dtype != v->zarr.dtype || (dtype_bytes(h.dtype) > 1 && h.big_endian != v->zarr.big_endian) ||
	    h.rank != g->rank || memcmp(h.shape, g->shape, g->rank * sizeof(h.shape[0])))
		return canonical_npy(&v->zarr, v);
	v->npy = malloc(len);
	if (!v->npy)
		return -ENOMEM;
	memcpy(v->npy, kept, len);
	return 0;
}

static bool same_bytes(const struct layout *a, const struct layout *b)
{
	return a->object == b->object && a->epoch == b->epoch && a->partition_bytes == b->partition_bytes &&
	       a->n_nodes == b->n_nodes && !memcmp(a->nodes, b->nodes, a->n_nodes * sizeof(a->nodes[0])) &&
	       !memcmp(&a->alloc, &b->alloc, sizeof(a->alloc));
}

static int take_bytes(struct mount *m, struct array_view *v, struct layout *layout, struct array_view *before)
{
	const struct zarr *z = &v->zarr;

	layout->alloc.bytes = le64_of(z->grid.partition_bytes);
	layout->partition_bytes = z->grid.partition_bytes;
	if (!z->fill_is_zero) {
		layout->alloc.fill_bytes = le32_of((uint32_t)dtype_bytes(z->dtype));
		memcpy(layout->alloc.fill, z->fill_stored.bytes, dtype_bytes(z->dtype));
	}
	if (before && same_bytes(bytes_layout(before->bytes), layout)) {
		v->bytes = before->bytes;
		v->bytes_refs = before->bytes_refs;
		atomic_fetch_add(v->bytes_refs, 1);
		return 0;
	}
	v->bytes_refs = calloc(1, sizeof(*v->bytes_refs));
	if (!v->bytes_refs)
		return -ENOMEM;
	int err = bytes_new(m, layout, &v->bytes);
	if (err)
		free((void *)v->bytes_refs);
	else
		atomic_store(v->bytes_refs, 1);
	return err;
}

static int view_decode(struct mount *m, const struct wire_open_reply *reply, const char *payload, size_t len,
		       struct array_view *before, struct array_view *v, struct reason *why)
{
	size_t npy_bytes = le32_get(reply->layout.npy_bytes), doc_bytes = le32_get(reply->layout.doc_bytes);
	const struct grid *g = &v->zarr.grid;
	const char *npy, *doc;
	enum zarr_node what;
	struct layout layout;
	int err = head_layout(&reply->layout, payload, len, &layout);

	if (err)
		return err;
	npy = payload + layout.n_nodes * sizeof(struct le32);
	doc = npy + npy_bytes;
	v->attr = reply->attr;
	err = zarr_parse(doc, doc_bytes, &what, &v->zarr, why);
	if (err || what != ZARR_ARRAY)
		return err ? err : -EPROTO;
	v->doc = strndup(doc, doc_bytes);
	if (!v->doc)
		return -ENOMEM;
	v->doc_bytes = doc_bytes;
	v->data_bytes = g->n_elems * g->item_bytes;
	v->row_bytes = g->item_bytes;
	for (unsigned i = 1; i < g->rank; i++)
		v->row_bytes *= g->shape[i];
	err = take_npy(v, npy, npy_bytes);
	return err ? err : take_bytes(m, v, &layout, before);
}

/* OPEN counts at the head; the array keeps one such open for its life, so a refresh gives its own back. */
static int view_fetch(struct mount *m, uint64_t ino, struct array_view *before, struct array_view **ret,
		      uint64_t *ret_seq)
{
	struct wire_open_reply reply;
	AUTO_FREE char *payload = NULL;
	struct reason why = { "the head sent a layout that makes no sense" };
	struct array_view *v;
	size_t len;
	int err = head_open(m, ino, &reply, &payload, &len, ret_seq);

	if (err)
		return err == -EISDIR ? -ENOENT : err;
	v = node_is_array(&reply.attr) ? calloc(1, sizeof(*v)) : NULL;
	err = v ? 0 : node_is_array(&reply.attr) ? -ENOMEM : -ENOENT;
	if (v) {
		v->refs = 1;
		err = view_decode(m, &reply, payload, len, before, v, &why);
		if (err)
			errors_add(m, NULL, -err, &why);
	}
	if (err) {
		array_view_unref(v);
		head_close(m, ino);
		return err;
	}
	*ret = v;
	return 0;
}

/* ---- the array ---- */

static void array_free(struct mount *m, struct array *a)
{
	if (a->now) {
		array_view_unref(a->now);
		head_close(m, a->ino);
	}
	pthread_mutex_destroy(&a->lock);
	free(a);
}

struct array *array_ref(struct array *a)
{
	atomic_fetch_add(&a->refs, 1);
	return a;
}

void array_unref(struct mount *m, struct array *a)
{
	uint32_t refs;
	bool last;

	if (!a)
		return;
	refs = atomic_load(&a->refs);
	while (refs > 1)
		if (atomic_compare_exchange_weak(&a->refs, &refs, refs - 1))
			return;
	pthread_mutex_lock(&m->table_lock);
	last = atomic_fetch_sub(&a->refs, 1) == 1;
	if (last)
		map_del(&m->arrays, a->ino);
	pthread_mutex_unlock(&m->table_lock);
	if (last)
		array_free(m, a);
}

static struct array *array_find(struct mount *m, uint64_t ino)
{
	pthread_mutex_lock(&m->table_lock);
	struct array *a = map_get(&m->arrays, ino);
	if (a)
		array_ref(a);
	pthread_mutex_unlock(&m->table_lock);
	return a;
}

static int array_insert(struct mount *m, struct array *fresh, struct array **ret)
{
	int err = 0;

	pthread_mutex_lock(&m->table_lock);
	struct array *a = map_get(&m->arrays, fresh->ino);
	if (a)
		array_ref(a);
	else
		err = map_put(&m->arrays, fresh->ino, fresh);
	pthread_mutex_unlock(&m->table_lock);
	if (a || err)
		array_free(m, fresh);
	if (!err)
		*ret = a ? a : fresh;
	return err;
}

int array_get(struct mount *m, uint64_t dir_ino, struct array **ret)
{
	struct array_view *v;
	struct array *a = array_find(m, dir_ino);
	int err = 0;

	if (!a) {
		a = calloc(1, sizeof(*a));
		if (!a)
			return -ENOMEM;
		a->ino = dir_ino;
		a->refs = 1;
		a->stale = true;
		pthread_mutex_init(&a->lock, NULL);
		err = array_insert(m, a, &a);
	}
	if (!err) {
		err = array_view(m, a, &v);
		if (err)
			array_unref(m, a);
	}
	if (err)
		return err;
	array_view_unref(v);
	*ret = a;
	return 0;
}

static struct array_view *view_ref(struct array_view *v)
{
	if (v)
		atomic_fetch_add(&v->refs, 1);
	return v;
}

/* False when another thread was faster: a second view that does not share the first one's bytes would not know what is dirty. */
static bool install(struct mount *m, struct array *a, struct array_view *before, struct array_view *fresh, uint64_t seq)
{
	pthread_mutex_lock(&a->lock);
	bool first = a->now == before;
	if (first) {
		a->now = view_ref(fresh);
		if (seq == atomic_load(&m->inval_seq))
			a->stale = false;
	}
	pthread_mutex_unlock(&a->lock);
	if (first)
		array_view_unref(before); /* the array's reference */
	return first;
}

int array_view(struct mount *m, struct array *a, struct array_view **ret)
{
	struct array_view *before, *fresh = NULL;
	uint64_t seq;
	bool stale, installed;
	int err;

	do {
		pthread_mutex_lock(&a->lock);
		before = view_ref(a->now);
		stale = a->stale;
		pthread_mutex_unlock(&a->lock);
		if (!stale) {
			*ret = before;
			return 0;
		}
		err = view_fetch(m, a->ino, before, &fresh, &seq);
		if (err) {
			array_view_unref(before);
			return err;
		}
		bytes_refresh(fresh->bytes);
		installed = install(m, a, before, fresh, seq);
		if (!installed)
			array_view_unref(fresh);
		if (!installed || before)
			head_close(m, a->ino);
		array_view_unref(before);
	} while (!installed);
	*ret = fresh;
	return 0;
}

static bool in_use(struct array *a)
{
	pthread_mutex_lock(&a->lock);
	bool yes = a->now != NULL;
	pthread_mutex_unlock(&a->lock);
	return yes;
}

void array_each(struct mount *m, void (*fn)(struct mount *m, struct array *a))
{
	struct array **arrays;
	size_t n = 0, pos = 0;
	uint64_t key;
	void *value;

	pthread_mutex_lock(&m->table_lock);
	arrays = calloc(map_count(&m->arrays) + 1, sizeof(*arrays));
	while (arrays && map_next(&m->arrays, &pos, &key, &value))
		arrays[n++] = array_ref(value);
	pthread_mutex_unlock(&m->table_lock);
	for (size_t i = 0; i < n; i++) {
		if (in_use(arrays[i]))
			fn(m, arrays[i]);
		array_unref(m, arrays[i]);
	}
	free(arrays);
}

void array_invalidate(struct mount *m, uint64_t dir_ino)
{
	size_t pos = 0;
	uint64_t key;
	void *value;

	pthread_mutex_lock(&m->table_lock);
	while (map_next(&m->arrays, &pos, &key, &value)) {
		struct array *a = value;
		if (dir_ino != 0 && key != dir_ino)
			continue;
		pthread_mutex_lock(&a->lock);
		a->stale = true;
		pthread_mutex_unlock(&a->lock);
	}
	pthread_mutex_unlock(&m->table_lock);
}
