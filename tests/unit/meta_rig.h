/* meta_rig.h - a head's metadata in a fresh directory, driven message by message as sessions would, for the unit tests.
 *
 * Sessions are numbers; pushes to them are recorded, and answered at once unless the session is mute.
 */
#ifndef SLAB_META_RIG_H
#define SLAB_META_RIG_H

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "meta_int.h"
#include "meta_orphans.h"
#include "nodes.h"
#include "store.h"
#include "unit.h"

#define RIG_PUSHES 256

struct rig {
	struct daemon d;
	char dir[64];
	struct meta_op op; /* the last one */
	struct reason why;
	uint64_t session; /* that speaks */
	uint64_t once;    /* of its requests, if not 0 */
	uint64_t mount;   /* whose session it is: stays when the session is another; 0: does not matter */
};

static struct {
	pthread_mutex_t lock;
	struct inval *inval;
	struct {
		uint64_t session, ino;
		uint32_t flags;
		char name[32];
	} pushes[RIG_PUSHES];
	size_t n;
	uint64_t mute, deaf, cut; /* sessions that do not answer, cannot be reached, were cut off */
} rig_seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline struct session *rig_ref(struct session *s)
{
	return s;
}
static inline void rig_unref(struct session *s)
{
	(void)s;
}
static inline int rig_push(struct session *s, uint64_t seq, const struct wire_inval *inval, const void *name,
			   size_t len)
{
	uint64_t session = (uint64_t)(uintptr_t)s;

	if (session == rig_seen.deaf)
		return -ENOTCONN;
	pthread_mutex_lock(&rig_seen.lock);
	if (rig_seen.n < RIG_PUSHES) {
		rig_seen.pushes[rig_seen.n].session = session;
		rig_seen.pushes[rig_seen.n].ino = le64_get(inval->ino);
		rig_seen.pushes[rig_seen.n].flags = le32_get(inval->flags);
		snprintf(rig_seen.pushes[rig_seen.n++].name, 32, "%.*s", (int)len, (const char *)name);
	}
	pthread_mutex_unlock(&rig_seen.lock);
	inval_acked(rig_seen.inval, seq, session + 1); /* another's answer does not count */
	if (session != rig_seen.mute)
		inval_acked(rig_seen.inval, seq, session);
	return 0;
}
static inline void rig_cut(struct session *s, const char *reason)
{
	(void)reason;
	rig_seen.cut = (uint64_t)(uintptr_t)s;
}
static inline const char *rig_name(const struct session *s)
{
	return s ? "a test's session" : "";
}
static const struct inval_ops rig_inval_ops = { rig_ref, rig_unref, rig_push, rig_cut, rig_name };

/* The flags pushed to a session for an inode (and an entry's name, if not NULL); 0: nothing. */
static inline uint32_t rig_pushed(uint64_t session, uint64_t ino, const char *name)
{
	uint32_t flags = 0;

	for (size_t i = 0; i < rig_seen.n; i++)
		if (rig_seen.pushes[i].session == session && rig_seen.pushes[i].ino == ino &&
		    (!name || !strcmp(rig_seen.pushes[i].name, name)))
			flags |= rig_seen.pushes[i].flags;
	return flags;
}

static inline bool rig_up(struct rig *r)
{
	struct reason why = { "" };
	bool ok = CHECK(pool_new(1, 16, &r->d.cores) == 0) &&
		  CHECK(store_open(r->d.store_fd, r->d.cores, &r->d.store, &why) == 0) &&
		  CHECK(meta_open(&r->d, &r->d.meta, &why) == 0) && CHECK(nodes_new(&r->d, &r->d.nodes, &why) == 0);

	if (!ok) {
		fprintf(stderr, "%s\n", why.text);
		return false;
	}
	inval_free(r->d.meta->inval);
	ok = CHECK(inval_new(&rig_inval_ops, &r->d.meta->inval) == 0);
	rig_seen.inval = r->d.meta->inval;
	rig_seen.n = 0;
	return ok;
}

static inline void rig_down(struct rig *r)
{
	nodes_free(r->d.nodes);
	meta_close(r->d.meta);
	store_close(r->d.store);
	pool_free(r->d.cores);
}

static inline bool rig_new(struct rig *r)
{
	*r = (struct rig){ .session = 1 };
	snprintf(r->dir, sizeof(r->dir), "/tmp/test_meta.XXXXXX");
	if (!CHECK(mkdtemp(r->dir)))
		return false;
	r->d.store_path = r->dir;
	r->d.store_fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r->d.sb = (struct superblock){ .node_id = 1, .is_head = true, .listen = "127.0.0.1:1", .head = "127.0.0.1:1" };
	uuid_new(&r->d.sb.cluster);
	uuid_new(&r->d.sb.node);
	return rig_up(r);
}

static inline int rig_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline void rig_free(struct rig *r)
{
	rig_down(r);
	close(r->d.store_fd);
	nftw(r->dir, rig_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline struct uuid rig_uuid(uint64_t mount)
{
	struct uuid u = { 0 };

	memcpy(&u, &mount, sizeof(mount));
	return u;
}

/* 0 or -errno; the reply is in r->op (its payload until the next call, in `kept`). */
static inline int rig_call(struct rig *r, unsigned type, const void *body, const void *payload, size_t len)
{
	static uint8_t *kept;

	r->why.text[0] = '\0';
	r->op = (struct meta_op){ .m = r->d.meta,
				  .peer = { r->session, 1, true, (struct session *)(uintptr_t)r->session,
					    rig_uuid(r->mount) },
				  .type = type,
				  .once = r->once,
				  .body = body,
				  .payload = payload,
				  .payload_bytes = len,
				  .why = &r->why };
	memcpy(&r->op.peer.uuid, &r->session, sizeof(r->session));
	int err = meta_execute(&r->op);
	free(kept);
	kept = r->op.reply_payload;
	return err;
}

static inline const struct wire_attr *rig_attr(const struct rig *r)
{
	return &r->op.reply.attr;
}

static inline int64_t rig_ino(struct rig *r, int err)
{
	return err ? err : (int64_t)le64_get(rig_attr(r)->ino);
}

static inline int64_t rig_lookup(struct rig *r, uint64_t dir, const char *name)
{
	struct wire_lookup body = { le64_of(dir) };

	return rig_ino(r, rig_call(r, WIRE_LOOKUP, &body, name, strlen(name)));
}

static inline int rig_getattr(struct rig *r, uint64_t ino)
{
	struct wire_ino body = { le64_of(ino) };

	return rig_call(r, WIRE_GETATTR, &body, NULL, 0);
}

static inline int64_t rig_make(struct rig *r, uint64_t dir, const char *name, uint32_t mode, uint32_t flags)
{
	struct wire_make body = { .parent = le64_of(dir),
				  .mode = le32_of(mode),
				  .uid = le32_of(7),
				  .gid = le32_of(8),
				  .flags = le32_of(flags),
				  .name_bytes = le32_of((uint32_t)strlen(name)) };

	return rig_ino(r, rig_call(r, WIRE_MAKE, &body, name, strlen(name)));
}

static inline uint64_t rig_file(struct rig *r, uint64_t dir, const char *name)
{
	int64_t ino = rig_make(r, dir, name, S_IFREG | 0644, WIRE_MAKE_EXCL);

	CHECK(ino > 0);
	return (uint64_t)ino;
}

static inline uint64_t rig_dir(struct rig *r, uint64_t dir, const char *name)
{
	int64_t ino = rig_make(r, dir, name, S_IFDIR | 0755, 0);

	CHECK(ino > 0);
	return (uint64_t)ino;
}

static inline int rig_unlink(struct rig *r, unsigned type, uint64_t dir, const char *name)
{
	struct wire_unlink body = { le64_of(dir), le64_of(0) };

	return rig_call(r, type, &body, name, strlen(name));
}

static inline int rig_link(struct rig *r, uint64_t ino, uint64_t dir, const char *name)
{
	struct wire_link body = { le64_of(ino), le64_of(dir) };

	return rig_call(r, WIRE_LINK, &body, name, strlen(name));
}

static inline int rig_rename(struct rig *r, uint64_t d1, const char *n1, uint64_t d2, const char *n2, uint32_t flags)
{
	struct wire_rename body = { le64_of(d1), le64_of(d2), le32_of(flags), le32_of((uint32_t)strlen(n1)) };
	char names[2 * NAME_MAX + 1];

	snprintf(names, sizeof(names), "%s%s", n1, n2);
	return rig_call(r, WIRE_RENAME, &body, names, strlen(names));
}

static inline int rig_write(struct rig *r, uint64_t ino, const char *text)
{
	struct wire_ino body = { le64_of(ino) };

	return rig_call(r, WIRE_INLINE_WRITE, &body, text, strlen(text));
}

static inline int rig_open_as(struct rig *r, uint64_t ino, uint32_t flags)
{
	struct wire_open body = { le64_of(ino), le32_of(flags), le32_of(0) };

	return rig_call(r, WIRE_OPEN, &body, NULL, 0);
}

static inline int rig_open(struct rig *r, uint64_t ino)
{
	return rig_open_as(r, ino, 0);
}

static inline int rig_close(struct rig *r, uint64_t ino)
{
	struct wire_ino body = { le64_of(ino) };

	return rig_call(r, WIRE_CLOSE, &body, NULL, 0);
}

static inline uint32_t rig_nlink(struct rig *r, uint64_t ino)
{
	return CHECK(rig_getattr(r, ino) == 0) ? le32_get(rig_attr(r)->nlink) : 0;
}

static inline uint32_t rig_flags(struct rig *r, uint64_t ino)
{
	return CHECK(rig_getattr(r, ino) == 0) ? le32_get(rig_attr(r)->flags) : 0;
}

static inline size_t rig_orphans(struct rig *r, uint64_t object)
{
	static struct orphan found[64];
	size_t n = 0, hits = 0;

	CHECK(meta_orphans(r->d.meta, 0, 64, found, &n) == 0);
	for (size_t i = 0; i < n; i++)
		hits += !object || found[i].object == object;
	return hits;
}

#endif
