#include "node.h"
#include "array.h"
#include "entries.h"
#include "head.h"
#include "idle.h"

#include <stdio.h>
#include <stdlib.h>

#define NODE_PATH_MAX 4096
#define VIEW_INO_BIT (UINT64_C(1) << 63)

static const struct node_ops *const ops_of_kind[] = {
	[NODE_DIR] = &dir_ops,         [NODE_FILE] = &file_ops,
	[NODE_OTHER] = &other_ops,     [NODE_CHUNKDIR] = &chunkdir_ops,
	[NODE_CHUNK] = &chunk_ops,     [NODE_DATA] = &data_ops,
	[NODE_NPY] = &npy_ops,         [NODE_COMPUTEDIR] = &computedir_ops,
	[NODE_RESULT] = &result_ops,   [NODE_CONTROLDIR] = &controldir_ops,
	[NODE_CONTROL] = &control_ops,
};

static struct node *node_alloc(enum node_kind kind, uint64_t ino, uint64_t parent_ino, const char *name)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->name = strdup(name);
	if (!n->name) {
		free(n);
		return NULL;
	}
	n->ops = ops_of_kind[kind];
	n->kind = kind;
	n->ino = ino;
	n->parent_ino = parent_ino;
	n->refs = 1;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->idle, NULL);
	return n;
}

static void node_free(struct mount *m, struct node *n)
{
	pthread_mutex_lock(
		&n->lock); /* whoever used it last is done; this makes it so for tools that cannot see the kernel's order */
	pthread_mutex_unlock(&n->lock);
	if (n->ops->free)
		n->ops->free(n);
	array_unref(m, n->array);
	entries_free(n->entries);
	pthread_cond_destroy(&n->idle);
	pthread_mutex_destroy(&n->lock);
	free(n->name);
	free(n);
}

struct node *node_ref(struct node *n)
{
	atomic_fetch_add(&n->refs, 1);
	return n;
}

void node_unref_many(struct mount *m, struct node *n, uint64_t count)
{
	uint64_t refs = atomic_load(&n->refs);
	bool last;

	/* The last reference is only given up under the table's lock, so that node_find cannot revive what is being freed. */
	while (refs > count)
		if (atomic_compare_exchange_weak(&n->refs, &refs, refs - count))
			return;
	pthread_mutex_lock(&m->table_lock);
	last = atomic_fetch_sub(&n->refs, count) == count;
	if (last)
		map_del(&m->nodes, n->ino);
	pthread_mutex_unlock(&m->table_lock);
	if (!last)
		return;
	if (m->idle && !atomic_load(&m->stopping) &&
	    (n->kind == NODE_DIR || n->kind == NODE_FILE || n->kind == NODE_OTHER))
		idle_forgotten(m->idle, n->ino);
	node_free(m, n);
}

void node_unref(struct mount *m, struct node *n)
{
	if (n)
		node_unref_many(m, n, 1);
}

struct node *node_find(struct mount *m, uint64_t ino)
{
	pthread_mutex_lock(&m->table_lock);
	struct node *n = map_get(&m->nodes, ino);
	if (n)
		node_ref(n);
	pthread_mutex_unlock(&m->table_lock);
	return n;
}

/* Puts a fresh node into the table, or finds that another thread was first. */
static int node_insert(struct mount *m, struct node *fresh, struct node **ret)
{
	struct node *n;
	int err = 0;

	pthread_mutex_lock(&m->table_lock);
	n = map_get(&m->nodes, fresh->ino);
	if (n)
		node_ref(n);
	else
		err = map_put(&m->nodes, fresh->ino, fresh);
	pthread_mutex_unlock(&m->table_lock);
	if (n || err)
		node_free(m, fresh);
	if (!err)
		*ret = n ? n : fresh;
	return err;
}

static enum node_kind kind_of_mode(uint32_t mode)
{
	return S_ISDIR(mode) ? NODE_DIR : S_ISREG(mode) ? NODE_FILE : NODE_OTHER;
}

/* Another mount may have moved it.  A name that cannot be kept for want of memory is put right with the next look. */
static void node_found_as(struct mount *m, struct node *n, uint64_t parent_ino, const char *name)
{
	pthread_mutex_lock(&m->table_lock);
	bool same = n->parent_ino == parent_ino && !strcmp(n->name, name);
	pthread_mutex_unlock(&m->table_lock);
	if (!same && n != m->root)
		node_renamed(m, n, parent_ino, name);
}

int node_of_attr(struct mount *m, const struct wire_attr *attr, uint64_t seq, uint64_t parent_ino, const char *name,
		 struct node **ret)
{
	uint64_t ino = le64_get(attr->ino);
	struct node *n = node_find(m, ino);

	if (n) {
		node_found_as(m, n, parent_ino, name);
	} else {
		n = node_alloc(kind_of_mode(le32_get(attr->mode)), ino, parent_ino, name);
		if (!n)
			return -ENOMEM;
		int err = node_insert(m, n, &n);
		if (err)
			return err;
	}
	node_set_attr(m, n, attr, seq);
	*ret = n;
	return 0;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
	h ^= h >> 29;
	h *= UINT64_C(0xbf58476d1ce4e5b9);
	return h ^ h >> 32;
}

uint64_t view_ino(uint64_t array_ino, enum node_kind kind, uint64_t tag, const char *name)
{
	uint64_t h = mix(mix(mix(0, array_ino), kind), tag);

	if (kind == NODE_RESULT)
		for (const char *p = name; *p; p++)
			h = mix(h, (uint8_t)*p);
	return h | VIEW_INO_BIT;
}

int node_of_view(struct mount *m, enum node_kind kind, uint64_t array_ino, struct array *array, uint64_t tag,
		 const char *name, struct node **ret)
{
	uint64_t ino = view_ino(array_ino, kind, tag, name);
	struct node *n = node_find(m, ino);

	if (!n) {
		n = node_alloc(kind, ino, array_ino, name);
		if (!n)
			return -ENOMEM;
		n->array = array ? array_ref(array) : NULL;
		n->index = tag;
		int err = node_insert(m, n, &n);
		if (err)
			return err;
	}
	*ret = n;
	return 0;
}

static bool is_older(const struct wire_attr *a, const struct wire_attr *b)
{
	uint64_t x = le64_get(a->generation), y = le64_get(b->generation);

	return x != y ? x < y : le64_get(a->ctime_ns) < le64_get(b->ctime_ns);
}

void node_set_attr(struct mount *m, struct node *n, const struct wire_attr *attr, uint64_t seq)
{
	pthread_mutex_lock(&n->lock);
	if (n->attr_valid && is_older(attr, &n->attr)) {
		/* Overtaken by our own change; asked again in case it is the head's clock that was set back. */
		n->attr_valid = false;
	} else if (seq == atomic_load(&m->inval_seq)) {
		n->attr = *attr;
		n->attr_valid = true;
	} else if (!n->attr_valid || is_older(&n->attr, attr)) {
		n->attr = *attr; /* better than what was known, perhaps our own change; but to be asked again */
		n->attr_valid = false;
	}
	pthread_mutex_unlock(&n->lock);
}

int node_attr(struct mount *m, struct node *n, struct wire_attr *ret)
{
	uint64_t seq;
	bool valid;
	int err;

	pthread_mutex_lock(&n->lock);
	valid = n->attr_valid;
	if (valid)
		*ret = n->attr;
	pthread_mutex_unlock(&n->lock);
	if (valid)
		return 0;
	err = head_getattr(m, n->ino, ret, &seq);
	if (!err)
		node_set_attr(m, n, ret, seq);
	return err;
}

static struct timespec timespec_of(struct le64 ns)
{
	int64_t v = (int64_t)le64_get(ns);
	int64_t sec = v / 1000000000, rest = v % 1000000000;

	if (rest < 0) {
		sec--;
		rest += 1000000000;
	}
	return (struct timespec){ .tv_sec = sec, .tv_nsec = rest };
}

void node_stat(const struct wire_attr *attr, struct stat *ret)
{
	*ret = (struct stat){ .st_ino = le64_get(attr->ino),
			      .st_mode = le32_get(attr->mode),
			      .st_nlink = le32_get(attr->nlink),
			      .st_uid = le32_get(attr->uid),
			      .st_gid = le32_get(attr->gid),
			      .st_rdev = le64_get(attr->rdev),
			      .st_size = (off_t)le64_get(attr->size),
			      .st_blksize = 65536,
			      .st_blocks = (blkcnt_t)div_up(le64_get(attr->size), 512),
			      .st_atim = timespec_of(attr->atime_ns),
			      .st_mtim = timespec_of(attr->mtime_ns),
			      .st_ctim = timespec_of(attr->ctime_ns) };
}

void node_view_stat(const struct node *n, const struct wire_attr *dir, uint32_t type, uint32_t mode_mask, uint64_t size,
		    struct stat *ret)
{
	node_stat(dir, ret);
	ret->st_ino = n->ino;
	ret->st_mode = type | (ret->st_mode & mode_mask);
	ret->st_nlink = type == S_IFDIR ? 2 : 1;
	ret->st_size = (off_t)size;
	ret->st_blocks = (blkcnt_t)div_up(size, 512);
}

bool node_is_current(struct mount *m, struct node *n, uint64_t parent_ino, const char *name)
{
	pthread_mutex_lock(&m->table_lock);
	bool is = n->parent_ino == parent_ino && !strcmp(n->name, name);
	pthread_mutex_unlock(&m->table_lock);
	pthread_mutex_lock(&n->lock);
	is = is && n->attr_valid;
	pthread_mutex_unlock(&n->lock);
	return is;
}

bool node_keeps_cache(struct node *n, uint64_t generation)
{
	pthread_mutex_lock(&n->lock);
	bool keeps = n->cached_generation == generation;
	n->cached_generation = generation;
	pthread_mutex_unlock(&n->lock);
	return keeps;
}

void node_wrote_generation(struct node *n, uint64_t generation)
{
	pthread_mutex_lock(&n->lock);
	if (n->cached_generation + 1 == generation)
		n->cached_generation = generation;
	pthread_mutex_unlock(&n->lock);
}

struct array *node_array(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	struct array *a = n->array;
	pthread_mutex_unlock(&n->lock);
	return a;
}

void node_set_array(struct mount *m, struct node *n, struct array *a)
{
	pthread_mutex_lock(&m->table_lock);
	pthread_mutex_lock(&n->lock);
	if (!n->array)
		n->array = array_ref(a);
	pthread_mutex_unlock(&n->lock);
	pthread_mutex_unlock(&m->table_lock);
}

bool node_is_array(const struct wire_attr *attr)
{
	return (le32_get(attr->flags) & WIRE_ATTR_ARRAY) != 0;
}

void node_busy_begin(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	while (n->busy)
		pthread_cond_wait(&n->idle, &n->lock);
	n->busy = true;
	pthread_mutex_unlock(&n->lock);
}

void node_busy_end(struct node *n)
{
	pthread_mutex_lock(&n->lock);
	n->busy = false;
	pthread_cond_broadcast(&n->idle);
	pthread_mutex_unlock(&n->lock);
}

void node_renamed(struct mount *m, struct node *n, uint64_t parent_ino, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return; /* the name is only for messages */
	pthread_mutex_lock(&m->table_lock);
	char *old = n->name;
	n->name = copy;
	n->parent_ino = parent_ino;
	pthread_mutex_unlock(&m->table_lock);
	free(old);
}

/* Walks up by the parents' inode numbers as far as the table knows them.  Names are those last seen. */
void node_path(struct mount *m, const struct node *n, char *ret, size_t cap)
{
	char path[NODE_PATH_MAX];
	size_t at = sizeof(path) - 1;
	uint64_t parent;

	path[at] = '\0';
	pthread_mutex_lock(&m->table_lock);
	for (int depth = 0; n && n != m->root && depth < 64; depth++) {
		size_t len = strlen(n->name);
		if (len + 1 >= at)
			break;
		at -= len;
		memcpy(path + at, n->name, len);
		if (n->kind == NODE_RESULT && at > sizeof("compute/")) {
			at -= strlen("compute/");
			memcpy(path + at, "compute/", strlen("compute/"));
		}
		path[--at] = '/';
		parent = n->parent_ino;
		n = map_get(&m->nodes, parent);
	}
	pthread_mutex_unlock(&m->table_lock);
	snprintf(ret, cap, "%s", path[at] ? path + at : "/");
}
