/* Names, attributes, opens, extended attributes and invalidations; `test_meta bench` measures instead. */
#include "meta_rig.h"

#include <sys/xattr.h>

static void test_make(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "d"), f = rig_file(r, d, "f");

	CHECK(rig_nlink(r, META_ROOT) == 3 && rig_nlink(r, d) == 2 && rig_nlink(r, f) == 1);
	CHECK(rig_lookup(r, d, "f") == (int64_t)f);
	CHECK(rig_lookup(r, d, "g") == -ENOENT && rig_lookup(r, f, "g") == -ENOTDIR &&
	      rig_lookup(r, 999999, "g") == -ESTALE);
	CHECK(rig_make(r, d, "f", S_IFREG | 0600, WIRE_MAKE_EXCL) == -EEXIST);
	CHECK(rig_make(r, d, "f", S_IFREG | 0600, 0) == (int64_t)f);
	CHECK(rig_make(r, d, "f", S_IFDIR | 0700, 0) == -EEXIST &&
	      rig_make(r, META_ROOT, "d", S_IFREG | 0600, 0) == -EEXIST);
	CHECK(rig_make(r, d, "x/y", S_IFREG | 0600, 0) == -EINVAL &&
	      rig_make(r, d, "..", S_IFREG | 0600, 0) == -EINVAL);
	CHECK(rig_make(r, d, "n", 0600, 0) == -EINVAL);
	CHECK(rig_make(r, d, "fifo", S_IFIFO | 0600, 0) > 0 && rig_make(r, d, "sock", S_IFSOCK | 0600, 0) > 0);
	CHECK(rig_make(r, f, "x", S_IFREG | 0600, 0) == -ENOTDIR);
	CHECK(rig_flags(r, rig_file(r, d, "zarr.json.0a1b.partial")) == WIRE_ATTR_INLINE);
	CHECK(rig_flags(r, rig_file(r, d, ".zarr.json.tmp")) == WIRE_ATTR_INLINE);
	CHECK(rig_flags(r, rig_file(r, d, ".zarr")) == 0);
}

static void test_setgid(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "shared"), f, sub;
	struct wire_setattr body = { .ino = le64_of(d),
				     .valid = le32_of(WIRE_SET_MODE | WIRE_SET_GID),
				     .mode = le32_of(02775),
				     .gid = le32_of(55) };

	CHECK(rig_call(r, WIRE_SETATTR, &body, NULL, 0) == 0);
	CHECK(le32_get(rig_attr(r)->mode) == (S_IFDIR | 02775));
	f = rig_file(r, d, "f");
	CHECK(rig_getattr(r, f) == 0 && le32_get(rig_attr(r)->gid) == 55 &&
	      le32_get(rig_attr(r)->mode) == (S_IFREG | 0644));
	sub = rig_dir(r, d, "sub");
	CHECK(rig_getattr(r, sub) == 0 && le32_get(rig_attr(r)->gid) == 55 &&
	      le32_get(rig_attr(r)->mode) == (S_IFDIR | 02755));
}

static void test_symlink(struct rig *r)
{
	struct wire_make body = { .parent = le64_of(META_ROOT),
				  .mode = le32_of(S_IFLNK | 0777),
				  .name_bytes = le32_of(2),
				  .target_bytes = le32_of(6) };
	struct wire_ino ino;

	CHECK(rig_call(r, WIRE_MAKE, &body, "ln../far", 8) == 0);
	CHECK(le64_get(rig_attr(r)->size) == 6);
	ino.ino = rig_attr(r)->ino;
	CHECK(rig_call(r, WIRE_READLINK, &ino, NULL, 0) == 0);
	CHECK(r->op.reply_payload_bytes == 6 && !memcmp(r->op.reply_payload, "../far", 6));
	CHECK(rig_unlink(r, WIRE_UNLINK, META_ROOT, "ln") == 0);
	body.target_bytes = le32_of(7);
	CHECK(rig_call(r, WIRE_MAKE, &body, "ln../far", 8) == -EINVAL);
}

static void test_links(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "links"), f = rig_file(r, d, "a");

	CHECK(rig_link(r, f, d, "b") == 0 && rig_nlink(r, f) == 2);
	CHECK(rig_link(r, f, d, "b") == -EEXIST && rig_link(r, d, d, "self") == -EPERM);
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "a") == 0 && le32_get(rig_attr(r)->nlink) == 1);
	CHECK(rig_unlink(r, WIRE_RMDIR, d, "b") == -ENOTDIR &&
	      rig_unlink(r, WIRE_UNLINK, META_ROOT, "links") == -EISDIR);
	CHECK(rig_unlink(r, WIRE_RMDIR, META_ROOT, "links") == -ENOTEMPTY);
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "b") == 0 && le32_get(rig_attr(r)->nlink) == 0);
	CHECK(rig_getattr(r, f) == -ESTALE && rig_unlink(r, WIRE_UNLINK, d, "b") == -ENOENT);
	CHECK(rig_unlink(r, WIRE_RMDIR, META_ROOT, "links") == 0);
	CHECK(rig_make(r, d, "late", S_IFREG | 0600, 0) == -ESTALE);
}

static void test_rename(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "ren"), a = rig_dir(r, d, "a"), b = rig_dir(r, d, "b"),
		 sub = rig_dir(r, a, "sub");
	uint64_t f = rig_file(r, d, "f"), g = rig_file(r, d, "g");

	CHECK(rig_rename(r, d, "none", d, "x", 0) == -ENOENT);
	CHECK(rig_rename(r, d, "f", d, "f2", 0) == 0 && rig_lookup(r, d, "f") == -ENOENT &&
	      rig_lookup(r, d, "f2") == (int64_t)f);
	CHECK(rig_rename(r, d, "f2", d, "g", 1) == -EEXIST);
	CHECK(rig_rename(r, d, "f2", d, "g", 0) == 0 && rig_lookup(r, d, "g") == (int64_t)f &&
	      rig_getattr(r, g) == -ESTALE);
	CHECK(rig_rename(r, d, "g", a, "g", 0) == 0 && rig_lookup(r, a, "g") == (int64_t)f);
	CHECK(rig_link(r, f, d, "same") == 0 && rig_rename(r, a, "g", d, "same", 0) == 0);
	CHECK(rig_lookup(r, a, "g") == (int64_t)f && rig_nlink(r, f) == 2);

	CHECK(rig_rename(r, d, "a", sub, "in", 0) == -EINVAL && rig_rename(r, d, "a", a, "in", 0) == -EINVAL);
	CHECK(rig_rename(r, d, "a", d, "same", 0) == -ENOTDIR && rig_rename(r, d, "same", d, "b", 0) == -EISDIR);
	CHECK(rig_rename(r, d, "b", d, "a", 0) == -ENOTEMPTY);
	CHECK(rig_nlink(r, a) == 3 && rig_nlink(r, b) == 2 && rig_nlink(r, d) == 4);
	CHECK(rig_rename(r, a, "sub", b, "sub", 0) == 0 && rig_nlink(r, a) == 2 && rig_nlink(r, b) == 3);
	CHECK(rig_rename(r, d, "b", a, "b", 0) == 0 && rig_rename(r, d, "a", sub, "x", 0) == -EINVAL);
	CHECK(rig_dir(r, d, "empty") && rig_rename(r, a, "b", d, "empty", 0) == 0 &&
	      rig_lookup(r, d, "empty") == (int64_t)b);
	CHECK(rig_nlink(r, d) == 4 && rig_nlink(r, a) == 2);

	CHECK(rig_rename(r, d, "a", d, "none", 2) == -ENOENT && rig_rename(r, d, "a", d, "empty", 3) == -EINVAL);
	CHECK(rig_rename(r, d, "a", d, "empty", 2) == 0);
	CHECK(rig_lookup(r, d, "empty") == (int64_t)a && rig_lookup(r, d, "a") == (int64_t)b);
	CHECK(rig_rename(r, d, "same", b, "sub", 2) == 0 && rig_nlink(r, d) == 5 && rig_nlink(r, b) == 2);
	CHECK(rig_rename(r, d, "a", b, "sub", 2) == -EINVAL && rig_rename(r, b, "sub", d, "a", 2) == -EINVAL);
}

struct listing {
	size_t n;
	uint64_t last;
	char names[64][16];
};

/* Reads on from l->last; at most one reply. */
static size_t list_some(struct rig *r, uint64_t dir, uint32_t max_bytes, struct listing *l)
{
	struct wire_readdir body = { .ino = le64_of(dir), .cookie = le64_of(l->last), .max_bytes = le32_of(max_bytes) };
	size_t before = l->n;
	struct cursor c;

	if (!CHECK(rig_call(r, WIRE_READDIR, &body, NULL, 0) == 0))
		return 0;
	c = (struct cursor){ r->op.reply_payload, r->op.reply_payload_bytes };
	while (c.left && l->n < 64) {
		const struct wire_dirent *e = cursor_take(&c, sizeof(*e));
		const char *name = cursor_take(&c, le32_get(e->name_bytes));
		snprintf(l->names[l->n++], 16, "%.*s", (int)le32_get(e->name_bytes), name);
		CHECK(le64_get(e->cookie) > l->last);
		l->last = le64_get(e->cookie);
	}
	return l->n - before;
}

static size_t times_listed(const struct listing *l, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += !strcmp(l->names[i], name);
	return n;
}

static void test_readdir(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "list");
	struct listing l = { 0 };
	char name[16];

	CHECK(list_some(r, d, 4096, &l) == 0);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%02d", i);
		rig_file(r, d, name);
	}
	rig_file(r, d, "tmp");
	CHECK(list_some(r, d, 600, &l) >= 2 && l.n < 20);
	/* What comes and goes must not make the others vanish, or appear twice. */
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "f00") == 0 && rig_unlink(r, WIRE_UNLINK, d, "f18") == 0);
	CHECK(rig_rename(r, d, "tmp", d, "f01", 0) == 0);
	rig_file(r, d, "new");
	while (list_some(r, d, 600, &l))
		;
	for (int i = 1; i < 20; i++) {
		snprintf(name, sizeof(name), "f%02d", i);
		CHECK(times_listed(&l, name) == (i != 18));
	}
	CHECK(times_listed(&l, "new") == 1 && times_listed(&l, "tmp") == 0);
}

static int setxattr_(struct rig *r, uint64_t ino, const char *name, const char *value, uint32_t flags)
{
	struct wire_xattr body = { le64_of(ino), le32_of((uint32_t)strlen(name)), le32_of(flags) };
	char payload[512];

	snprintf(payload, sizeof(payload), "%s%s", name, value);
	return rig_call(r, WIRE_SETXATTR, &body, payload, strlen(payload));
}

static int getxattr_(struct rig *r, uint64_t ino, unsigned type, const char *name)
{
	struct wire_xattr body = { le64_of(ino), le32_of((uint32_t)strlen(name)), le32_of(0) };

	return rig_call(r, type, &body, name, strlen(name));
}

static void test_xattr(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "xa"), sub, f;
	struct wire_ino ino = { le64_of(d) };

	CHECK(setxattr_(r, d, "user.b", "1", XATTR_REPLACE) == -ENODATA &&
	      setxattr_(r, d, "user.b", "1", XATTR_CREATE) == 0);
	CHECK(setxattr_(r, d, "user.b", "22", XATTR_CREATE) == -EEXIST && setxattr_(r, d, "user.b", "22", 0) == 0);
	CHECK(getxattr_(r, d, WIRE_GETXATTR, "user.b") == 0 && r->op.reply_payload_bytes == 2);
	CHECK(getxattr_(r, d, WIRE_GETXATTR, "user.c") == -ENODATA && setxattr_(r, d, "user.a", "", 0) == 0);
	CHECK(rig_call(r, WIRE_LISTXATTR, &ino, NULL, 0) == 0 && r->op.reply_payload_bytes == 14);
	CHECK(!memcmp(r->op.reply_payload, "user.a\0user.b", 14));
	CHECK(getxattr_(r, d, WIRE_REMOVEXATTR, "user.a") == 0 &&
	      getxattr_(r, d, WIRE_REMOVEXATTR, "user.a") == -ENODATA);
	CHECK(setxattr_(r, d, "system.posix_acl_access", "x", 0) == -EINVAL &&
	      setxattr_(r, d, "system.x", "x", 0) == -EOPNOTSUPP);
	CHECK(setxattr_(r, d, "user.slabfs.replicas", "2", 0) == -ENOTSUP &&
	      setxattr_(r, d, "user.slabfs.replicas", "1", 0) == 0);

	CHECK(setxattr_(r, d, "user.slabfs.partition_bytes", "1000", 0) == -EINVAL);
	CHECK(setxattr_(r, d, "user.slabfs.partition_bytes", "8192", 0) == 0);
	sub = rig_dir(r, d, "sub");
	CHECK(getxattr_(r, sub, WIRE_GETXATTR, "user.slabfs.partition_bytes") == 0 && r->op.reply_payload_bytes == 4);
	f = rig_file(r, rig_dir(r, sub, "deep"), "f");
	CHECK(rig_open(r, f) == 0 && le64_get(r->op.reply.open.layout.partition_bytes) == 8192);
	CHECK(rig_close(r, f) == 0 && rig_close(r, f) == -EBADF);
}

static void test_append(struct rig *r)
{
	uint64_t f = rig_file(r, META_ROOT, "log"), dir = rig_dir(r, META_ROOT, "no log");
	struct wire_append append = { .ino = le64_of(f), .length = le64_of(100) };

	CHECK(rig_call(r, WIRE_APPEND, &append, NULL, 0) == 0 && le64_get(rig_attr(r)->size) == 100);
	CHECK(rig_call(r, WIRE_APPEND, &append, NULL, 0) == 0 && le64_get(rig_attr(r)->size) == 200);
	CHECK(le64_get(rig_attr(r)->generation) == 3);
	append.length = le64_of(INT64_MAX);
	CHECK(rig_call(r, WIRE_APPEND, &append, NULL, 0) == -EFBIG);
	append.length = le64_of(UINT64_MAX);
	CHECK(rig_call(r, WIRE_APPEND, &append, NULL, 0) == -EFBIG);
	append = (struct wire_append){ .ino = le64_of(dir), .length = le64_of(1) };
	CHECK(rig_call(r, WIRE_APPEND, &append, NULL, 0) == -EINVAL);
}

static void test_commit(struct rig *r)
{
	uint64_t f = rig_file(r, META_ROOT, "data");
	struct wire_commit commit = { .ino = le64_of(f), .size = le64_of(1000), .mtime_ns = le64_of(5) };
	struct wire_setattr cut = { .ino = le64_of(f), .valid = le32_of(WIRE_SET_SIZE), .size = le64_of(10) };

	CHECK(rig_open(r, f) == 0);
	CHECK(le32_get(r->op.reply.open.layout.n_nodes) == 1 && le64_get(r->op.reply.open.layout.object) != 0);
	CHECK(le64_get(r->op.reply.open.layout.partition_bytes) == META_PARTITION_BYTES);
	CHECK(rig_call(r, WIRE_COMMIT, &commit, NULL, 0) == 0);
	CHECK(le64_get(rig_attr(r)->size) == 1000 && le64_get(rig_attr(r)->generation) == 2 &&
	      le64_get(rig_attr(r)->mtime_ns) == 5);
	commit.size = le64_of(500);
	CHECK(rig_call(r, WIRE_COMMIT, &commit, NULL, 0) == 0 && le64_get(rig_attr(r)->size) == 1000);
	CHECK(rig_call(r, WIRE_SETATTR, &cut, NULL, 0) == 0 && le64_get(rig_attr(r)->size) == 10);
	CHECK(le64_get(rig_attr(r)->generation) == 4);
	cut.ino = le64_of(META_ROOT);
	CHECK(rig_call(r, WIRE_SETATTR, &cut, NULL, 0) == -EISDIR && rig_open(r, META_ROOT) == -EISDIR);
	CHECK(rig_call(r, WIRE_METASYNC, NULL, NULL, 0) == 0);
	CHECK(rig_call(r, WIRE_STATFS, NULL, NULL, 0) == 0 && le64_get(r->op.reply.statfs.bytes_total) > 0);
}

static void test_open_unlinked(struct rig *r)
{
	uint64_t f = rig_file(r, META_ROOT, "gone"), g = rig_file(r, META_ROOT, "gone2"), object;
	size_t before = rig_orphans(r, 0);

	CHECK(rig_open(r, f) == 0 && rig_open(r, f) == 0);
	object = le64_get(r->op.reply.open.layout.object);
	r->session = 2;
	CHECK(rig_open(r, f) == 0 && rig_open(r, g) == 0);
	CHECK(rig_unlink(r, WIRE_UNLINK, META_ROOT, "gone") == 0 &&
	      rig_unlink(r, WIRE_UNLINK, META_ROOT, "gone2") == 0);
	CHECK(rig_link(r, f, META_ROOT, "back") == -ENOENT);
	meta_session_gone(r->d.meta, 2);
	r->session = 1;
	CHECK(rig_getattr(r, g) == -ESTALE && rig_getattr(r, f) == 0);
	CHECK(!rig_orphans(r, object) && rig_orphans(r, 0) == before + 1);
	CHECK(rig_close(r, f) == 0 && rig_getattr(r, f) == -ESTALE &&
	      rig_orphans(r, object) == 1); /* opens are a set */
}

static void test_restart(struct rig *r)
{
	uint64_t f = rig_file(r, META_ROOT, "stays"), g = rig_file(r, META_ROOT, "open"), object;

	CHECK(rig_open(r, g) == 0);
	object = le64_get(r->op.reply.open.layout.object);
	CHECK(rig_unlink(r, WIRE_UNLINK, META_ROOT, "open") == 0 && rig_getattr(r, g) == 0);
	rig_down(r);
	if (!rig_up(r))
		return;
	CHECK(rig_lookup(r, META_ROOT, "stays") == (int64_t)f && rig_getattr(r, g) == -ESTALE &&
	      rig_orphans(r, object) == 1);
	CHECK(rig_file(r, META_ROOT, "after") > g);
}

static void test_pushes(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "push"), f = rig_file(r, d, "f");
	struct wire_forget forget = { .count = le32_of(1) };
	struct le64 ino = le64_of(f);
	struct wire_commit commit = { .ino = ino, .size = le64_of(9) };

	r->session = 3;
	CHECK(rig_lookup(r, d, "f") == (int64_t)f && inval_held(r->d.meta->inval, f, 3) &&
	      inval_held(r->d.meta->inval, d, 3));
	r->session = 1;
	rig_seen.n = 0;
	CHECK(rig_call(r, WIRE_COMMIT, &commit, NULL, 0) == 0);
	CHECK(rig_pushed(3, f, NULL) == (WIRE_INVAL_ATTR | WIRE_INVAL_DATA) && !rig_pushed(1, f, NULL));
	CHECK(rig_rename(r, d, "f", d, "g", 0) == 0);
	CHECK(rig_pushed(3, d, "f") & WIRE_INVAL_ENTRY && rig_pushed(3, d, "g") & WIRE_INVAL_ENTRY);
	rig_file(r, d, "new");
	CHECK(rig_pushed(3, d, "new") & WIRE_INVAL_ENTRY);
	r->session = 3;
	inval_hold(r->d.meta->inval, f, 3, (struct session *)3, 7); /* on its way when the mount forgot it */
	forget.before = le64_of(6);
	CHECK(rig_call(r, WIRE_FORGET, &forget, &ino, sizeof(ino)) == 0 && inval_held(r->d.meta->inval, f, 3));
	forget.before = le64_of(7);
	CHECK(rig_open(r, f) == 0 && rig_call(r, WIRE_FORGET, &forget, &ino, sizeof(ino)) == 0);
	CHECK(inval_held(r->d.meta->inval, f, 3) && rig_close(r, f) == 0);
	CHECK(rig_call(r, WIRE_FORGET, &forget, &ino, sizeof(ino)) == 0 && !inval_held(r->d.meta->inval, f, 3));
	r->session = 1;
	rig_seen.n = 0;
	CHECK(rig_call(r, WIRE_COMMIT, &commit, NULL, 0) == 0 && !rig_pushed(3, f, NULL));
	rig_seen.mute = 3;
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "new") == 0 && rig_seen.cut == 3);
	rig_seen.mute = 0;
	meta_session_gone(r->d.meta, 3);
	CHECK(!inval_held(r->d.meta->inval, d, 3));
}

/* Who holds what does not grow for ever: the told who do not ask, and inodes that are gone, are forgotten. */
static void test_holders(struct rig *r)
{
	uint64_t f = rig_file(r, META_ROOT, "told"), g = rig_file(r, META_ROOT, "open");
	struct wire_commit commit_f = { .ino = le64_of(f) }, commit_g = { .ino = le64_of(g) };

	r->session = 3;
	CHECK(rig_getattr(r, f) == 0 && rig_open(r, g) == 0 && rig_getattr(r, META_ROOT) == 0);
	r->session = 1;
	CHECK(rig_call(r, WIRE_COMMIT, &commit_f, NULL, 0) == 0 && rig_call(r, WIRE_COMMIT, &commit_g, NULL, 0) == 0);
	CHECK(!inval_held(r->d.meta->inval, f, 3));
	CHECK(inval_held(r->d.meta->inval, g, 3) && inval_held(r->d.meta->inval, META_ROOT, 3));
	CHECK(inval_held(r->d.meta->inval, f, 1));
	r->session = 3;
	CHECK(rig_getattr(r, f) == 0 && inval_held(r->d.meta->inval, f, 3));
	CHECK(rig_close(r, g) == 0);
	r->session = 1;
	CHECK(rig_unlink(r, WIRE_UNLINK, META_ROOT, "told") == 0 && rig_unlink(r, WIRE_UNLINK, META_ROOT, "open") == 0);
	CHECK(!inval_held(r->d.meta->inval, f, 1) && !inval_held(r->d.meta->inval, g, 3));
	meta_session_gone(r->d.meta, 3);
}

struct racer {
	struct rig *rig;
	uint64_t session;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	struct rig *r = racer->rig;

	for (int i = 0; i < 200; i++) {
		char name[16];
		struct wire_make make = { .parent = le64_of(META_ROOT), .mode = le32_of(S_IFREG | 0644) };
		struct wire_unlink gone = { .parent = le64_of(META_ROOT) };
		struct meta_op op = { .m = r->d.meta, .type = WIRE_MAKE, .body = &make };
		op.peer = (struct meta_peer){ .session = racer->session,
					      .is_mount = true,
					      .handle = (struct session *)(uintptr_t)racer->session };
		snprintf(name, sizeof(name), "race%d", i % 20);
		make.name_bytes = le32_of((uint32_t)strlen(name));
		op.payload = (const uint8_t *)name;
		op.payload_bytes = strlen(name);
		CHECK(meta_execute(&op) == 0);
		if (i % 50 == 0) {
			op.type = WIRE_METASYNC;
			CHECK(meta_execute(&op) == 0);
		}
		op.type = WIRE_UNLINK;
		op.body = &gone;
		int err = meta_execute(&op);
		CHECK(err == 0 || err == -ENOENT);
	}
	return NULL;
}

static void test_threads(struct rig *r)
{
	struct racer racers[4];
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++) {
		racers[i] = (struct racer){ r, 10 + i };
		pthread_create(&threads[i], NULL, race, &racers[i]);
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static void rate(const char *what, unsigned n, uint64_t since)
{
	printf("%-10s %8.0f /s\n", what, n / ((double)(time_mono_ns() - since) / 1e9));
}

static void bench(struct rig *r)
{
	enum { N = 50000 };
	uint64_t d = rig_dir(r, META_ROOT, "bench"), since = time_mono_ns();
	static uint64_t inos[N];
	char name[24];

	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		inos[i] = rig_file(r, d, name);
	}
	rate("create", N, since);
	since = time_mono_ns();
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "file-%d", (int)((i * 7919L) % N));
		rig_lookup(r, d, name);
	}
	rate("lookup", N, since);
	since = time_mono_ns();
	for (int i = 0; i < N; i++)
		rig_getattr(r, inos[(i * 7919L) % N]);
	rate("getattr", N, since);
	since = time_mono_ns();
	for (int i = 0; i < N; i++)
		rig_open(r, inos[i]);
	rate("open", N, since);
	since = time_mono_ns();
	for (int i = 0; i < N; i++)
		rig_close(r, inos[i]);
	rate("close", N, since);
	since = time_mono_ns();
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		rig_unlink(r, WIRE_UNLINK, d, name);
	}
	rate("unlink", N, since);
}

int main(int argc, char **argv)
{
	static void (*const tests[])(struct rig *) = { test_make,    test_setgid,        test_symlink, test_links,
						       test_rename,  test_readdir,       test_xattr,   test_commit,
						       test_append,  test_open_unlinked, test_restart, test_pushes,
						       test_holders, test_threads };
	struct rig r;

	if (!rig_new(&r))
		return unit_result();
	if (argc > 1 && !strcmp(argv[1], "bench"))
		bench(&r);
	else
		for (size_t i = 0; i < ARRAY_LEN(tests); i++)
			tests[i](&r);
	rig_free(&r);
	return unit_result();
}
