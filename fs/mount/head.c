#include "head.h"
#include "bytes.h"
#include "entries.h"
#include "head_call.h"

#include <stdio.h>

/* The common shape: a fixed body, at most two pieces of payload, a fixed reply. */
static int head_ask(struct mount *m, unsigned type, const void *body, size_t body_bytes, const void *p0, size_t n0,
		    const void *p1, size_t n1, void *reply, uint64_t *ret_seq)
{
	struct call call = { .type = type,
			     .body = body,
			     .body_bytes = body_bytes,
			     .payload = { p0, p1 },
			     .payload_bytes = { n0, n1 },
			     .reply_body = reply };

	if (ret_seq)
		*ret_seq = atomic_load(&m->inval_seq);
	return head_call(m, &call);
}

/* The other: a reply payload of unknown length. */
static int head_fetch(struct mount *m, unsigned type, const void *body, size_t body_bytes, const char *name,
		      void *reply, char **ret, size_t *ret_len)
{
	struct call call = { .type = type,
			     .body = body,
			     .body_bytes = body_bytes,
			     .payload = { name },
			     .payload_bytes = { name ? strlen(name) : 0 },
			     .reply_body = reply,
			     .alloc = true };
	int err = head_call(m, &call);

	if (err)
		return err;
	*ret = call.reply_payload;
	*ret_len = call.reply_bytes;
	return 0;
}

int head_lookup(struct mount *m, uint64_t parent, const char *name, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_lookup body = { .parent = le64_of(parent) };

	uint64_t token = entries_begin(m, parent, name);
	int err = head_ask(m, WIRE_LOOKUP, &body, sizeof(body), name, strlen(name), NULL, 0, ret, ret_seq);

	entries_end(m, parent, name, token, err ? 0 : le64_get(ret->ino));
	return err;
}

int head_getattr(struct mount *m, uint64_t ino, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_ino body = { .ino = le64_of(ino) };

	return head_ask(m, WIRE_GETATTR, &body, sizeof(body), NULL, 0, NULL, 0, ret, ret_seq);
}

int head_setattr(struct mount *m, uint64_t ino, const struct change *change, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_setattr body = { .ino = le64_of(ino),
				     .valid = le32_of(change->valid),
				     .mode = le32_of(change->mode),
				     .uid = le32_of(change->uid),
				     .gid = le32_of(change->gid),
				     .size = le64_of(change->size),
				     .atime_ns = le64_of(change->atime_ns),
				     .mtime_ns = le64_of(change->mtime_ns) };

	return head_ask(m, WIRE_SETATTR, &body, sizeof(body), NULL, 0, NULL, 0, ret, ret_seq);
}

int head_make(struct mount *m, uint64_t parent, const char *name, const struct make *what, uint32_t near_node,
	      struct head_made *ret)
{
	size_t target = what->target ? strlen(what->target) : 0;
	struct wire_make body = { .parent = le64_of(parent),
				  .mode = le32_of(what->mode),
				  .uid = le32_of(what->uid),
				  .gid = le32_of(what->gid),
				  .flags = le32_of((what->excl ? WIRE_MAKE_EXCL : 0) |
						   (what->open ? WIRE_MAKE_OPEN : 0)),
				  .rdev = le64_of(what->rdev),
				  .near_node = le32_of(near_node),
				  .name_bytes = le32_of((uint32_t)strlen(name)),
				  .target_bytes = le32_of((uint32_t)target),
				  .umask = le32_of(what->umask) };
	struct call call = { .type = WIRE_MAKE,
			     .body = &body,
			     .body_bytes = sizeof(body),
			     .payload = { name, what->target },
			     .payload_bytes = { strlen(name), target },
			     .reply_body = &ret->reply,
			     .alloc = true };
	uint64_t token = entries_begin(m, parent, name), mark = head_opens_mark(m->head);
	int err;

	ret->seq = atomic_load(&m->inval_seq);
	err = head_call(m, &call);
	entries_end(m, parent, name, token, err ? 0 : le64_get(ret->reply.attr.ino));
	if (err)
		return err;
	ret->nodes = call.reply_payload;
	ret->nodes_bytes = call.reply_bytes;
	ret->open = ret->nodes_bytes > 0 && head_opens_made(m->head, le64_get(ret->reply.attr.ino), mark);
	return 0;
}

int head_link(struct mount *m, uint64_t ino, uint64_t parent, const char *name, struct wire_attr *ret,
	      uint64_t *ret_seq)
{
	struct wire_link body = { .ino = le64_of(ino), .parent = le64_of(parent) };

	uint64_t token = entries_begin(m, parent, name);
	int err = head_ask(m, WIRE_LINK, &body, sizeof(body), name, strlen(name), NULL, 0, ret, ret_seq);

	entries_end(m, parent, name, token, 0);
	return err;
}

int head_remove(struct mount *m, unsigned type, uint64_t parent, const char *name, uint64_t closes,
		struct wire_removed *ret, uint64_t *ret_seq)
{
	struct wire_unlink body = { .parent = le64_of(parent), .closes = le64_of(closes) };
	uint64_t token = entries_begin(m, parent, name);
	int err = head_ask(m, type, &body, sizeof(body), name, strlen(name), NULL, 0, ret, ret_seq);

	entries_end(m, parent, name, token, 0);
	if (closes)
		head_opens_taken(m, closes, !err);
	return err;
}

int head_unlink(struct mount *m, uint64_t parent, const char *name, struct wire_attr *ret)
{
	struct wire_removed reply;
	int err = head_remove(m, WIRE_UNLINK, parent, name, 0, &reply, NULL);

	if (!err)
		*ret = reply.attr;
	return err;
}

int head_rmdir(struct mount *m, uint64_t parent, const char *name, struct wire_attr *ret)
{
	struct wire_removed reply;
	int err = head_remove(m, WIRE_RMDIR, parent, name, 0, &reply, NULL);

	if (!err)
		*ret = reply.attr;
	return err;
}

int head_rename(struct mount *m, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		unsigned flags, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_rename body = { .parent = le64_of(parent),
				    .new_parent = le64_of(new_parent),
				    .flags = le32_of(flags),
				    .name_bytes = le32_of((uint32_t)strlen(name)) };

	uint64_t old_token = entries_begin(m, parent, name), new_token = entries_begin(m, new_parent, new_name);
	int err = head_ask(m, WIRE_RENAME, &body, sizeof(body), name, strlen(name), new_name, strlen(new_name), ret,
			   ret_seq);

	entries_end(m, parent, name, old_token, 0);
	entries_end(m, new_parent, new_name, new_token, 0);
	return err;
}

int head_readlink(struct mount *m, uint64_t ino, char **ret)
{
	struct wire_ino body = { .ino = le64_of(ino) };
	AUTO_FREE char *text = NULL;
	size_t len;
	int err = head_fetch(m, WIRE_READLINK, &body, sizeof(body), NULL, NULL, &text, &len);

	if (err)
		return err;
	*ret = strndup(text ? text : "", len);
	return *ret ? 0 : -ENOMEM;
}

int head_readdir(struct mount *m, uint64_t ino, uint64_t cookie, uint32_t max_bytes, char **ret, size_t *ret_len,
		 uint64_t *ret_seq)
{
	struct wire_readdir body = { .ino = le64_of(ino), .cookie = le64_of(cookie), .max_bytes = le32_of(max_bytes) };

	*ret_seq = atomic_load(&m->inval_seq);
	return head_fetch(m, WIRE_READDIR, &body, sizeof(body), NULL, NULL, ret, ret_len);
}

int head_getxattr(struct mount *m, uint64_t ino, const char *name, char **ret, size_t *ret_len)
{
	struct wire_xattr body = { .ino = le64_of(ino), .name_bytes = le32_of((uint32_t)strlen(name)) };

	return head_fetch(m, WIRE_GETXATTR, &body, sizeof(body), name, NULL, ret, ret_len);
}

int head_setxattr(struct mount *m, uint64_t ino, const char *name, const void *value, size_t len, unsigned flags,
		  struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_xattr body = { .ino = le64_of(ino),
				   .name_bytes = le32_of((uint32_t)strlen(name)),
				   .flags = le32_of(flags) };

	return head_ask(m, WIRE_SETXATTR, &body, sizeof(body), name, strlen(name), value, len, ret, ret_seq);
}

int head_listxattr(struct mount *m, uint64_t ino, char **ret, size_t *ret_len)
{
	struct wire_ino body = { .ino = le64_of(ino) };

	return head_fetch(m, WIRE_LISTXATTR, &body, sizeof(body), NULL, NULL, ret, ret_len);
}

int head_removexattr(struct mount *m, uint64_t ino, const char *name, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_xattr body = { .ino = le64_of(ino), .name_bytes = le32_of((uint32_t)strlen(name)) };

	return head_ask(m, WIRE_REMOVEXATTR, &body, sizeof(body), name, strlen(name), NULL, 0, ret, ret_seq);
}

int head_statfs(struct mount *m, struct wire_statfs *ret)
{
	return head_ask(m, WIRE_STATFS, NULL, 0, NULL, 0, NULL, 0, ret, NULL);
}

int head_open(struct mount *m, uint64_t ino, struct wire_open_reply *ret, char **ret_payload, size_t *ret_len,
	      uint64_t *ret_seq)
{
	struct wire_open body = { .ino = le64_of(ino) };
	int err = head_opens_begin(m->head, ino);

	if (err)
		return err;
	*ret_seq = atomic_load(&m->inval_seq);
	err = head_fetch(m, WIRE_OPEN, &body, sizeof(body), NULL, ret, ret_payload, ret_len);
	if (err)
		head_opens_end(m, ino);
	return err;
}

void head_close(struct mount *m, uint64_t ino)
{
	head_opens_end(m, ino);
}

int head_layout(const struct wire_layout *w, const char *payload, size_t len, struct layout *ret)
{
	uint32_t n = le32_get(w->n_nodes);
	uint64_t rest = (uint64_t)le32_get(w->npy_bytes) + le32_get(w->doc_bytes);

	if (n == 0 || n > SLAB_NODES_MAX || n * sizeof(struct le32) + rest != len || le64_get(w->partition_bytes) == 0)
		return -EPROTO;
	*ret = (struct layout){ .object = le64_get(w->object),
				.partition_bytes = le64_get(w->partition_bytes),
				.epoch = le32_get(w->epoch),
				.n_nodes = n };
	for (uint32_t i = 0; i < n; i++) {
		struct le32 id;
		memcpy(&id, payload + i * sizeof(id), sizeof(id));
		ret->nodes[i] = le32_get(id);
	}
	return 0;
}

int head_commit(struct mount *m, uint64_t ino, uint64_t size, uint64_t mtime_ns, struct wire_attr *ret,
		uint64_t *ret_seq)
{
	struct wire_commit body = { .ino = le64_of(ino), .size = le64_of(size), .mtime_ns = le64_of(mtime_ns) };

	return head_ask(m, WIRE_COMMIT, &body, sizeof(body), NULL, 0, NULL, 0, ret, ret_seq);
}

int head_append(struct mount *m, uint64_t ino, uint64_t length, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_append body = { .ino = le64_of(ino), .length = le64_of(length) };

	return head_ask(m, WIRE_APPEND, &body, sizeof(body), NULL, 0, NULL, 0, ret, ret_seq);
}

int head_lock(struct mount *m, const struct wire_lock *lock, struct wire_lock_reply *ret)
{
	return head_ask(m, WIRE_LOCK, lock, sizeof(*lock), NULL, 0, NULL, 0, ret, NULL);
}

int head_read_times(struct mount *m, const struct wire_read_time *items, size_t n)
{
	return head_ask(m, WIRE_READ_TIMES, NULL, 0, items, n * sizeof(*items), NULL, 0, NULL, NULL);
}

/* What is asked for from now on has a higher id, and stays.  What is on its way has a lower one: it is not taken for current when it comes, for
 * inval_seq has moved on; or it has come, and its node is in the table. */
int head_forget(struct mount *m, uint64_t *inos, size_t n)
{
	struct wire_forget body = { .before = le64_of(client_last_id(cluster_head(m->cluster))) };
	size_t left = 0;

	atomic_fetch_add(&m->inval_seq, 1);
	pthread_mutex_lock(&m->table_lock);
	for (size_t i = 0; i < n; i++)
		if (!map_get(&m->nodes, inos[i]) && !map_get(&m->arrays, inos[i]))
			inos[left++] = inos[i];
	pthread_mutex_unlock(&m->table_lock);
	for (size_t i = 0; i < left; i++) {
		struct le64 ino = le64_of(inos[i]);
		memcpy(&inos[i], &ino, sizeof(ino));
	}
	body.count = le32_of((uint32_t)left);
	return left ? head_ask(m, WIRE_FORGET, &body, sizeof(body), inos, left * sizeof(*inos), NULL, 0, NULL, NULL)
		    : 0;
}

int head_metasync(struct mount *m)
{
	return head_ask(m, WIRE_METASYNC, NULL, 0, NULL, 0, NULL, 0, NULL, NULL);
}

int head_inline_read(struct mount *m, uint64_t ino, char **ret, size_t *ret_len)
{
	struct wire_ino body = { .ino = le64_of(ino) };

	return head_fetch(m, WIRE_INLINE_READ, &body, sizeof(body), NULL, NULL, ret, ret_len);
}

int head_inline_write(struct mount *m, uint64_t ino, const char *text, size_t len, struct wire_attr *ret,
		      uint64_t *ret_seq)
{
	struct wire_inline_write body = { .ino = le64_of(ino) };

	return head_ask(m, WIRE_INLINE_WRITE, &body, sizeof(body), text, len, NULL, 0, ret, ret_seq);
}

int head_define(struct mount *m, uint64_t dir, const void *npy, size_t npy_bytes, const char *doc, uint32_t uid,
		uint32_t gid, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_define body = { .dir = le64_of(dir),
				    .npy_bytes = le32_of((uint32_t)npy_bytes),
				    .doc_bytes = le32_of((uint32_t)strlen(doc)),
				    .uid = le32_of(uid),
				    .gid = le32_of(gid),
				    .near_node = le32_of(cluster_local_id(m->cluster)) };

	uint64_t token = entries_begin(m, dir, "zarr.json");
	int err = head_ask(m, WIRE_DEFINE, &body, sizeof(body), npy, npy_bytes, doc, strlen(doc), ret, ret_seq);

	entries_end(m, dir, "zarr.json", token, 0);
	return err;
}

int head_resize(struct mount *m, uint64_t dir, uint64_t rows, bool grow_only, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_resize body = { .dir = le64_of(dir), .rows = le64_of(rows), .grow_only = le32_of(grow_only) };

	return head_ask(m, WIRE_RESIZE, &body, sizeof(body), NULL, 0, NULL, 0, ret, ret_seq);
}

int head_chunkdir(struct mount *m, uint64_t dir, bool make, struct wire_attr *ret, uint64_t *ret_seq)
{
	struct wire_chunkdir body = { .dir = le64_of(dir), .make = le32_of(make) };

	return head_ask(m, WIRE_CHUNKDIR, &body, sizeof(body), NULL, 0, NULL, 0, ret, ret_seq);
}
