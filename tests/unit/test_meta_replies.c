/* Requests that are sent again, also to a head that was started anew; and what is open across its restart. */
#include "meta_rig.h"

static uint64_t sequence;

static void next_once(struct rig *r, unsigned slot)
{
	r->once = wire_once(++sequence, slot);
}

static void test_each_type(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "each"), f;
	struct wire_xattr x = { .ino = le64_of(d), .name_bytes = le32_of(6), .flags = le32_of(1) };

	next_once(r, 0);
	f = rig_file(r, d, "f");
	CHECK(rig_file(r, d, "f") == f && rig_nlink(r, f) == 1);
	next_once(r, 0);
	CHECK(rig_make(r, d, "f", S_IFREG | 0644, WIRE_MAKE_EXCL) == -EEXIST);
	next_once(r, 0);
	for (int i = 0; i < 3; i++)
		CHECK(rig_link(r, f, d, "g") == 0 && le32_get(rig_attr(r)->nlink) == 2);
	next_once(r, 0);
	for (int i = 0; i < 3; i++)
		CHECK(rig_rename(r, d, "g", d, "h", 0) == 0 && le64_get(rig_attr(r)->ino) == f);
	next_once(r, 0);
	for (int i = 0; i < 3; i++)
		CHECK(rig_unlink(r, WIRE_UNLINK, d, "h") == 0 && le32_get(rig_attr(r)->nlink) == 1);
	next_once(r, 0);
	CHECK(rig_dir(r, d, "sub") == rig_dir(r, d, "sub"));
	next_once(r, 0);
	CHECK(rig_unlink(r, WIRE_RMDIR, d, "sub") == 0 && rig_unlink(r, WIRE_RMDIR, d, "sub") == 0);
	next_once(r, 0);
	CHECK(rig_call(r, WIRE_SETXATTR, &x, "user.xv", 7) == 0 && rig_call(r, WIRE_SETXATTR, &x, "user.xv", 7) == 0);
	next_once(r, 0);
	CHECK(rig_call(r, WIRE_SETXATTR, &x, "user.xv", 7) == -EEXIST);
	next_once(r, 0);
	CHECK(rig_call(r, WIRE_REMOVEXATTR, &x, "user.x", 6) == 0 &&
	      rig_call(r, WIRE_REMOVEXATTR, &x, "user.x", 6) == 0);
	next_once(r, 0);
	CHECK(rig_call(r, WIRE_REMOVEXATTR, &x, "user.x", 6) == -ENODATA);
	r->once = 0;
}

/* What has failed changed nothing, and is tried anew. */
static void test_failures_are_not_kept(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "fails");

	next_once(r, 3);
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "f") == -ENOENT);
	uint64_t once = r->once;
	r->once = 0;
	rig_file(r, d, "f");
	r->once = once;
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "f") == 0 && rig_unlink(r, WIRE_UNLINK, d, "f") == 0);
	r->once = 0;
}

static void test_slots_and_sessions(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "slots"), once;

	next_once(r, 1);
	once = r->once;
	uint64_t f = rig_file(r, d, "f");
	next_once(r, 2);
	rig_file(r, d, "g");
	r->once = once;
	CHECK(rig_file(r, d, "f") == f);
	r->session = 2; /* another session's number is another number */
	CHECK(rig_make(r, d, "f", S_IFREG | 0644, WIRE_MAKE_EXCL) == -EEXIST);
	r->session = 1;
	next_once(r, 1);
	rig_file(r, d, "h");
	r->once = once; /* given up by the mount, and only now here */
	CHECK(rig_make(r, d, "late", S_IFREG | 0644, WIRE_MAKE_EXCL) == -ECANCELED);
	next_once(r, 1);
	rig_file(r, d, "i");
	CHECK(rig_unlink(r, WIRE_UNLINK, d, "i") == -EPROTO); /* another request under the same number */
	r->once = 0;
	CHECK(rig_lookup(r, d, "late") == -ENOENT && rig_lookup(r, d, "i") > 0);
}

static void test_restarts(struct rig *r)
{
	uint64_t d = rig_dir(r, META_ROOT, "anew"), f;

	next_once(r, 200);
	f = rig_file(r, d, "f");
	uint64_t made = r->once;
	next_once(r, 201);
	CHECK(rig_rename(r, d, "f", d, "g", 0) == 0);
	rig_down(r);
	if (!rig_up(r))
		return;
	CHECK(rig_rename(r, d, "f", d, "g", 0) == 0 && le64_get(rig_attr(r)->ino) == f);
	CHECK(inval_held(r->d.meta->inval, f, 1)); /* it hears of changes to what it was told */
	r->once = made;
	CHECK(rig_file(r, d, "f") == f);
	r->once = 0;
	CHECK(rig_lookup(r, d, "f") == -ENOENT && rig_lookup(r, d, "g") == (int64_t)f);
}

static void test_old_sessions_are_forgotten(struct rig *r)
{
	struct replies *replies = &r->d.meta->replies;
	struct uuid five = { { 5 } }, six = { { 6 } };
	uint64_t d = rig_dir(r, META_ROOT, "old");

	r->session = 5;
	next_once(r, 0);
	uint64_t once = r->once;
	rig_file(r, d, "of5");
	pthread_mutex_lock(&r->d.meta->lock);
	replies_session_gone_locked(r->d.meta, &five);
	replies_session_gone_locked(r->d.meta, &six);
	for (size_t i = 0; i < replies->n_gone; i++)
		replies->gone[i].since_ns = time_mono_ns();
	size_t n = replies->n_gone;
	pthread_mutex_unlock(&r->d.meta->lock);
	CHECK(rig_make(r, d, "of5", S_IFREG | 0644, WIRE_MAKE_EXCL) > 0); /* remembered, and back */
	r->session = 6;
	next_once(r, 0);
	rig_file(r, d, "of6");
	CHECK(replies->n_gone == n - 1);
	pthread_mutex_lock(&r->d.meta->lock);
	replies_session_gone_locked(r->d.meta, &five);
	for (size_t i = 0; i < replies->n_gone; i++)
		replies->gone[i].since_ns = time_mono_ns() - (WIRE_ONCE_SECONDS + 1) * UINT64_C(1000000000);
	pthread_mutex_unlock(&r->d.meta->lock);
	next_once(r, 0);
	rig_file(r, d, "more");
	CHECK(replies->n_gone == 0);
	r->session = 5;
	r->once = once;
	CHECK(rig_make(r, d, "of5", S_IFREG | 0644, WIRE_MAKE_EXCL) == -EEXIST);
	r->session = 1;
	r->once = 0;
}

struct repeat {
	struct rig *rig;
	uint64_t dir, once;
	int64_t ino;
};

static void *repeat_main(void *arg)
{
	struct repeat *p = arg;
	struct wire_make body = { .parent = le64_of(p->dir),
				  .mode = le32_of(S_IFREG | 0600),
				  .flags = le32_of(WIRE_MAKE_EXCL),
				  .name_bytes = le32_of(1) };
	struct reason why = { "" };
	struct meta_op op = { .m = p->rig->d.meta,
			      .peer = { .session = 9, .node_id = 1, .uuid = { { 9 } } },
			      .type = WIRE_MAKE,
			      .once = p->once,
			      .body = &body,
			      .payload = (const uint8_t *)"f",
			      .payload_bytes = 1,
			      .why = &why };
	int err = meta_execute(&op);

	p->ino = err ? err : (int64_t)le64_get(op.reply.attr.ino);
	return NULL;
}

/* A repetition that arrives while the first one is at work. */
static void test_at_once(struct rig *r)
{
	for (int round = 0; round < 20; round++) {
		struct repeat all[8];
		pthread_t threads[8];
		char name[16];
		snprintf(name, sizeof(name), "at once %d", round);
		uint64_t d = rig_dir(r, META_ROOT, name);
		next_once(r, 0);
		for (int i = 0; i < 8; i++) {
			all[i] = (struct repeat){ r, d, r->once, 0 };
			pthread_create(&threads[i], NULL, repeat_main, &all[i]);
		}
		for (int i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < 8; i++)
			CHECK(all[i].ino > 0 && all[i].ino == all[0].ino);
		r->once = 0;
	}
}

/* A head that was started anew gives the mounts time to say what they have open. */
static void test_grace(struct rig *r)
{
	uint64_t f = rig_file(r, META_ROOT, "open1"), g = rig_file(r, META_ROOT, "open2"),
		 h = rig_file(r, META_ROOT, "open3"), object, other;
	bool reap = false;

	CHECK(rig_open(r, f) == 0 && rig_open(r, h) == 0 && rig_open(r, g) == 0);
	object = le64_get(r->op.reply.open.layout.object);
	CHECK(rig_unlink(r, WIRE_UNLINK, META_ROOT, "open1") == 0 &&
	      rig_unlink(r, WIRE_UNLINK, META_ROOT, "open2") == 0);
	rig_down(r);
	r->d.grace_ns = UINT64_C(3600000000000);
	if (!rig_up(r))
		return;
	r->d.grace_ns = 0;
	CHECK(!meta_grace_over(r->d.meta, &reap));
	CHECK(rig_unlink(r, WIRE_UNLINK, META_ROOT, "open3") == 0); /* by another, before its opener has spoken */
	CHECK(rig_getattr(r, f) == -ESTALE && rig_open(r, f) == -ESTALE && rig_getattr(r, h) == -ESTALE);
	CHECK(rig_open_as(r, h, WIRE_OPEN_AGAIN) == 0 && rig_open_as(r, f, WIRE_OPEN_AGAIN) == 0);
	CHECK(rig_getattr(r, f) == 0 && rig_open_as(r, f, 2) == -EINVAL);
	CHECK(rig_open(r, f) == 0);
	other = le64_get(r->op.reply.open.layout.object);
	r->d.meta->grace_until_ns = 1;
	CHECK(meta_grace_over(r->d.meta, &reap) && reap && meta_grace_over(r->d.meta, &reap));
	CHECK(rig_getattr(r, g) == -ESTALE && rig_orphans(r, object) == 1);
	CHECK(rig_getattr(r, f) == 0 && rig_getattr(r, h) == 0 && !rig_orphans(r, other));
	CHECK(rig_close(r, f) == 0 && rig_getattr(r, f) == -ESTALE && rig_orphans(r, other) == 1);
}

int main(void)
{
	static void (*const tests[])(
		struct rig *) = { test_each_type, test_failures_are_not_kept,      test_slots_and_sessions,
				  test_restarts,  test_old_sessions_are_forgotten, test_at_once,
				  test_grace };
	struct rig r;

	if (!rig_new(&r))
		return unit_result();
	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		tests[i](&r);
	rig_free(&r);
	return unit_result();
}
