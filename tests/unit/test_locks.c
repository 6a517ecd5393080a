/* The table of locks against a model of single bytes; the message LOCK: conflicts, waits, deadlocks, restarts, leases. */
#include "meta_locks.h"
#include "meta_rig.h"

#define BYTES 48
#define OWNERS 4

/* ---- the table ---- */

static uint32_t model[OWNERS][BYTES]; /* what type the owner has there; 0: none */

static bool model_conflict(const struct lock *want)
{
	for (unsigned o = 0; o < OWNERS; o++)
		for (uint64_t i = want->start; o != want->owner && i <= want->end && i < BYTES; i++)
			if (model[o][i] == WIRE_LOCK_WRITE || (model[o][i] && want->type == WIRE_LOCK_WRITE))
				return true;
	return false;
}

static bool is_model(const struct lock *list)
{
	static uint32_t seen[OWNERS][BYTES];
	const struct lock *last[OWNERS] = { NULL };
	bool ok = true;

	memset(seen, 0, sizeof(seen));
	for (const struct lock *l = list; l; l = l->next) {
		const struct lock *before = last[l->owner];
		ok = ok && l->start <= l->end && (!l->next || l->start <= l->next->start);
		ok = ok && (!before || before->end + 1 < l->start ||
			    (before->end + 1 == l->start && before->type != l->type));
		for (uint64_t i = l->start; i <= l->end && i < BYTES; i++)
			seen[l->owner][i] = l->type;
		last[l->owner] = l;
	}
	return ok && !memcmp(seen, model, sizeof(model));
}

static int count(void *arg, const struct lock *l, bool added)
{
	(void)l;
	*(long *)arg += added ? 1 : -1;
	return 0;
}

static void test_table(struct rig *r)
{
	long records = 0, n = 0;
	struct lock_watch watch = { count, &records };
	struct lock *list = NULL;

	(void)r;
	srandom(1);
	for (int i = 0; i < 20000; i++) {
		struct lock want = { .owner = (uint64_t)random() % OWNERS,
				     .kind = WIRE_LOCK_POSIX,
				     .type = 1 + (uint32_t)random() % 3,
				     .start = (uint64_t)random() % BYTES };
		want.end = want.start + (uint64_t)random() % 12;
		if (want.end >= BYTES - 1) /* the model's last byte stands for all that follow */
			want.end = INT64_MAX;
		bool conflict = want.type != WIRE_LOCK_NONE && model_conflict(&want);
		if (!CHECK(conflict == (lock_conflict(list, &want) != NULL)))
			break;
		if (conflict)
			continue;
		CHECK(lock_apply(&list, &want, &watch) == 0);
		for (uint64_t at = want.start; at <= want.end && at < BYTES; at++)
			model[want.owner][at] = want.type == WIRE_LOCK_NONE ? 0 : want.type;
		if (!CHECK(is_model(list)))
			break;
	}
	for (const struct lock *l = list; l; l = l->next)
		n++;
	CHECK(n == records);
	lock_free_list(&list);
}

/* ---- the message ---- */

static int ask(struct rig *r, uint64_t mount, uint64_t owner, uint64_t ino, uint32_t type, uint64_t start, uint64_t end,
	       uint32_t flags, uint64_t wait)
{
	struct wire_lock body = { .ino = le64_of(ino),
				  .owner = le64_of(owner),
				  .start = le64_of(start),
				  .end = le64_of(end),
				  .wait = le64_of(wait),
				  .type = le32_of(type),
				  .kind = le32_of(WIRE_LOCK_POSIX),
				  .pid = le32_of(100 + (uint32_t)owner),
				  .flags = le32_of(flags) };
	int err;

	r->mount = r->session = mount;
	err = rig_call(r, WIRE_LOCK, &body, NULL, 0);
	r->mount = 0;
	r->session = 1;
	return err;
}

static const struct wire_lock_reply *answer(const struct rig *r)
{
	return (const struct wire_lock_reply *)r->op.reply.bytes;
}

static void test_message(struct rig *r)
{
	struct wire_lock body = { .ino = le64_of(7), .type = le32_of(WIRE_LOCK_READ), .kind = le32_of(3) };

	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_WRITE, 10, 19, 0, 0) == 0 && le64_get(answer(r)->tenure));
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_READ, 0, 10, 0, 0) == -EAGAIN);
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_READ, 0, 9, 0, 0) == 0);
	CHECK(ask(r, 2, 1, 8, WIRE_LOCK_WRITE, 0, INT64_MAX, 0, 0) == 0);
	CHECK(ask(r, 2, 2, 7, WIRE_LOCK_READ, 15, 30, WIRE_LOCK_TEST, 0) == 0);
	CHECK(le32_get(answer(r)->type) == WIRE_LOCK_WRITE && le64_get(answer(r)->start) == 10 &&
	      le64_get(answer(r)->end) == 19 && le32_get(answer(r)->pid) == 101);
	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_READ, 10, 12, WIRE_LOCK_TEST, 0) == 0 &&
	      le32_get(answer(r)->type) == WIRE_LOCK_NONE);
	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_READ, 9, 8, 0, 0) == -EINVAL && ask(r, 1, 1, 7, 0, 0, 8, 0, 0) == -EINVAL &&
	      ask(r, 1, 1, 7, 4, 0, 8, 0, 0) == -EINVAL && ask(r, 1, 1, 7, 1, 0, UINT64_MAX, 0, 0) == -EINVAL &&
	      ask(r, 1, 1, 7, 1, 0, 8, 3, 0) == -EINVAL && ask(r, 1, 1, 7, 1, 0, 8, 32, 0) == -EINVAL);
	CHECK(rig_call(r, WIRE_LOCK, &body, NULL, 0) == -EINVAL);
	CHECK(ask(r, 1, 0, 0, 0, 0, 0, WIRE_LOCK_END, 0) == 0 && ask(r, 2, 0, 0, 0, 0, 0, WIRE_LOCK_END, 0) == 0);
	CHECK(r->d.meta->locks->n_locks == 0 && LIST_EMPTY(&r->d.meta->locks->clients));
}

static void test_waits(struct rig *r)
{
	struct locks *l = r->d.meta->locks;

	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_WRITE, 0, 99, 0, 0) == 0);
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_WRITE, 0, 9, WIRE_LOCK_WAIT, 1) == -EAGAIN);
	CHECK(ask(r, 3, 1, 7, WIRE_LOCK_WRITE, 0, 9, WIRE_LOCK_WAIT, 1) == -EAGAIN);
	CHECK(ask(r, 3, 2, 7, WIRE_LOCK_READ, 20, 29, WIRE_LOCK_WAIT, 2) == -EAGAIN);
	CHECK(ask(r, 3, 2, 7, WIRE_LOCK_READ, 20, 29, WIRE_LOCK_WAIT, 2) == -EAGAIN && l->n_waits == 3);
	rig_seen.n = 0;
	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_NONE, 50, 99, 0, 0) == 0 && rig_seen.n == 0);
	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_NONE, 0, 49, 0, 0) == 0);
	CHECK(rig_seen.n == 2 && rig_pushed(2, 7, NULL) == WIRE_INVAL_LOCK &&
	      rig_pushed(3, 7, NULL) == WIRE_INVAL_LOCK);
	rig_seen.n = 0;
	CHECK(ask(r, 2, 0, 0, 0, 0, 0, WIRE_LOCK_FORGET, 1) == 0 && l->n_waits == 2);
	CHECK(rig_pushed(3, 7, NULL) == WIRE_INVAL_LOCK); /* the next, in its stead */
	CHECK(ask(r, 3, 1, 7, WIRE_LOCK_WRITE, 0, 9, WIRE_LOCK_WAIT, 1) == 0 && l->n_waits == 1);
	locks_session_end(r->d.meta, 3, 0);
	CHECK(l->n_waits == 0 && l->n_locks == 1);
	for (uint64_t mount = 1; mount <= 3; mount++)
		CHECK(ask(r, mount, 0, 0, 0, 0, 0, WIRE_LOCK_END, 0) == 0);
	CHECK(l->n_locks == 0);
}

static void test_deadlocks(struct rig *r)
{
	for (uint64_t i = 1; i <= 4; i++)
		CHECK(ask(r, i, i, 10 + i, WIRE_LOCK_WRITE, 0, 9, 0, 0) == 0);
	CHECK(ask(r, 1, 1, 12, WIRE_LOCK_READ, 0, 0, WIRE_LOCK_WAIT, 1) == -EAGAIN);
	CHECK(ask(r, 2, 2, 13, WIRE_LOCK_READ, 0, 0, WIRE_LOCK_WAIT, 1) == -EAGAIN);
	CHECK(ask(r, 3, 3, 14, WIRE_LOCK_READ, 0, 0, WIRE_LOCK_WAIT, 1) == -EAGAIN);
	CHECK(ask(r, 4, 4, 11, WIRE_LOCK_READ, 0, 0, 0, 0) == -EAGAIN); /* who does not wait is in no circle */
	CHECK(ask(r, 4, 4, 11, WIRE_LOCK_READ, 0, 0, WIRE_LOCK_WAIT, 1) == -EDEADLK);
	CHECK(ask(r, 4, 5, 11, WIRE_LOCK_READ, 0, 0, WIRE_LOCK_WAIT, 2) ==
	      -EAGAIN); /* another owner of the same mount */
	CHECK(ask(r, 4, 4, 14, WIRE_LOCK_NONE, 0, 9, 0, 0) == 0);
	CHECK(ask(r, 3, 3, 14, WIRE_LOCK_READ, 0, 0, WIRE_LOCK_WAIT, 1) == 0);
	for (uint64_t i = 1; i <= 4; i++)
		CHECK(ask(r, i, 0, 0, 0, 0, 0, WIRE_LOCK_END, 0) == 0);
}

static void test_restarts(struct rig *r)
{
	uint64_t tenure;

	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_WRITE, 10, 19, 0, 0) == 0);
	tenure = le64_get(answer(r)->tenure);
	CHECK(ask(r, 1, 1, UINT64_MAX - 1, WIRE_LOCK_READ, 0, INT64_MAX, 0, 0) == 0);
	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_NONE, 14, 14, 0, 0) == 0);
	rig_down(r);
	if (!CHECK(rig_up(r)))
		return;
	CHECK(r->d.meta->locks->n_locks == 3);
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_WRITE, 14, 14, 0, 0) == 0);
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_WRITE, 13, 13, 0, 0) == -EAGAIN);
	CHECK(ask(r, 2, 1, UINT64_MAX - 1, WIRE_LOCK_WRITE, 5, 5, 0, 0) == -EAGAIN);
	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_NONE, 0, INT64_MAX, 0, 0) == 0 && le64_get(answer(r)->tenure) == tenure);
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_WRITE, 13, 13, 0, 0) == 0);
	/* Another run of the machine: what was acknowledged last may be missing, so nothing counts. */
	CHECK(db_script(r->d.meta->db, "UPDATE lockers SET boot = 'another'", &r->why) == 0);
	rig_down(r);
	if (!CHECK(rig_up(r)))
		return;
	CHECK(r->d.meta->locks->n_locks == 0 && LIST_EMPTY(&r->d.meta->locks->clients));
}

static bool gone(struct rig *r)
{
	pthread_mutex_lock(&r->d.meta->lock);
	bool none = r->d.meta->locks->n_locks == 0;
	pthread_mutex_unlock(&r->d.meta->lock);
	return none;
}

static void test_leases(struct rig *r)
{
	struct wire_lock body = { .flags = le32_of(WIRE_LOCK_RENEW) };
	struct uuid first = rig_uuid(1);
	struct lock_client *c;

	CHECK(locks_start(r->d.meta) == 0);
	CHECK(ask(r, 1, 1, 7, WIRE_LOCK_WRITE, 10, 19, 0, 0) == 0);
	body.tenure = answer(r)->tenure;
	locks_session_end(r->d.meta, 1, 0);
	CHECK(!gone(r));
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_WRITE, 10, 19, WIRE_LOCK_WAIT, 5) == -EAGAIN);
	locks_session_begin(r->d.meta, &first, 11); /* back in time, as another session */
	c = lock_client_find(r->d.meta, &first);
	CHECK(c && c->number == 11);
	locks_session_end(r->d.meta, 1, 0); /* the old one's end comes late */
	CHECK(c && c->number == 11);
	rig_seen.n = 0;
	locks_session_end(r->d.meta, 11, INT32_MAX); /* no such process: it has ended */
	for (int i = 0; i < 2000 && !gone(r); i++)
		usleep(5000);
	CHECK(gone(r));
	for (int i = 0; i < 2000 && rig_pushed(2, 7, NULL) != WIRE_INVAL_LOCK; i++)
		usleep(5000);
	CHECK(rig_pushed(2, 7, NULL) == WIRE_INVAL_LOCK);
	r->mount = 1;
	CHECK(rig_call(r, WIRE_LOCK, &body, NULL, 0) == -ESTALE);
	r->mount = 0;
	CHECK(ask(r, 2, 1, 7, WIRE_LOCK_WRITE, 10, 19, WIRE_LOCK_WAIT, 5) == 0);
	CHECK(ask(r, 2, 0, 0, 0, 0, 0, WIRE_LOCK_END, 0) == 0);
	locks_stop(r->d.meta);
}

int main(void)
{
	static void (*const tests[])(struct rig *) = { test_table,     test_message,  test_waits,
						       test_deadlocks, test_restarts, test_leases };
	struct rig r;

	if (!rig_new(&r))
		return unit_result();
	for (size_t i = 0; i < ARRAY_LEN(tests); i++)
		tests[i](&r);
	rig_free(&r);
	return unit_result();
}
