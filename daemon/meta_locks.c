#include "meta_locks.h"

#include <fcntl.h>
#include <stdlib.h>

#include "log.h"

#define DROP_NOW 1 /* a lock_client.drop_ns that is long over */
#define DEADLOCK_STEPS 4096
#define DEADLOCK_DEPTH 32

/* ---- what is in meta.db ---- */

struct keeper {
	struct meta *m;
	uint64_t ino;
};

static int keep(void *arg, const struct lock *l, bool added)
{
	struct keeper *k = arg;
	struct locks *t = k->m->locks;

	if (!added) {
		t->n_locks--;
		return db_run(k->m->db, SQL_LOCK_DEL, db_int(k->ino), db_int(l->kind), db_int(l->client),
			      db_int(l->owner), db_int(l->start));
	}
	t->n_locks++;
	return db_run(k->m->db, SQL_LOCK_ADD, db_int(k->ino), db_int(l->kind), db_int(l->client), db_int(l->owner),
		      db_int(l->start), db_int(l->end), db_int(l->type), db_int(l->pid), db_int(l->place));
}

/* The map holds the first of the list, so it follows each change of it. */
static int set_list(struct meta *m, uint64_t ino, struct lock *first)
{
	if (first)
		return map_put(&m->locks->files, ino, first);
	map_del(&m->locks->files, ino);
	return 0;
}

static int apply(struct meta *m, uint64_t ino, const struct lock *want)
{
	struct keeper k = { m, ino };
	struct lock_watch watch = { keep, &k };
	struct lock *before = map_get(&m->locks->files, ino), *list = before;
	int err = before ? 0 : map_put(&m->locks->files, ino, m); /* room for it, so that nothing can fail below */

	if (err)
		return err;
	err = lock_apply(&list, want, &watch);
	set_list(m, ino, list);
	return err;
}

static void clear_lists(struct meta *m)
{
	size_t pos = 0;
	uint64_t ino;
	void *value;

	while (map_next(&m->locks->files, &pos, &ino, &value)) {
		struct lock *list = value;
		lock_free_list(&list);
	}
	map_fini(&m->locks->files);
	map_init(&m->locks->files);
	m->locks->n_locks = 0;
}

static int load_lists(struct meta *m)
{
	int rc = db_query(m->db, SQL_LOCK_LIST, NULL, 0), err = 0;

	for (; rc == 1 && !err; rc = db_next(m->db, SQL_LOCK_LIST)) {
		uint64_t ino = db_u64(m->db, SQL_LOCK_LIST, 0);
		struct lock *list = map_get(&m->locks->files, ino);
		struct lock l = { .kind = (uint32_t)db_u64(m->db, SQL_LOCK_LIST, 1),
				  .client = db_u64(m->db, SQL_LOCK_LIST, 2),
				  .owner = db_u64(m->db, SQL_LOCK_LIST, 3),
				  .start = db_u64(m->db, SQL_LOCK_LIST, 4),
				  .end = db_u64(m->db, SQL_LOCK_LIST, 5),
				  .type = (uint32_t)db_u64(m->db, SQL_LOCK_LIST, 6),
				  .pid = (uint32_t)db_u64(m->db, SQL_LOCK_LIST, 7),
				  .place = db_u64(m->db, SQL_LOCK_LIST, 8) };
		err = lock_insert(&list, &l);
		if (!err)
			err = set_list(m, ino, list);
		m->locks->n_locks += !err;
	}
	db_done(m->db);
	return rc < 0 ? rc : err;
}

int locks_begin(struct meta *m)
{
	return meta_begin(m);
}

int locks_commit(struct meta *m, int err)
{
	if (err)
		db_rollback(m->db);
	else
		err = db_commit(m->db);
	if (err) {
		clear_lists(m);
		if (load_lists(m))
			log_error("meta.db: the locks cannot be read: %s", db_error(m->db));
	}
	return err;
}

static void read_boot(char ret[37])
{
	AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, ret, 36);

	ret[n > 0 ? n : 0] = '\0';
}

/* What was written by another run of this machine is not known to be the last that was acknowledged. */
static int load_clients(struct meta *m)
{
	uint64_t until = time_mono_ns() + LOCK_RESTART_MS * UINT64_C(1000000);
	int rc = db_query(m->db, SQL_LOCKER_LIST, NULL, 0);

	for (; rc == 1; rc = db_next(m->db, SQL_LOCKER_LIST)) {
		struct uuid session = { 0 };
		struct lock_client *c;
		size_t len, boot_len;
		const void *uuid = db_blob(m->db, SQL_LOCKER_LIST, 1, &len);
		const void *boot = db_blob(m->db, SQL_LOCKER_LIST, 2, &boot_len);
		bool same = boot_len && boot_len == strlen(m->locks->boot) && !memcmp(boot, m->locks->boot, boot_len);
		memcpy(&session, uuid, MIN(len, sizeof(session)));
		c = lock_client_add(m, &session, db_u64(m->db, SQL_LOCKER_LIST, 0));
		if (!c)
			return -ENOMEM;
		c->drop_ns = same ? until : DROP_NOW;
	}
	db_done(m->db);
	return rc;
}

/* Before the first connection: whoever must go has gone by then. */
static int drop_stale(struct meta *m)
{
	struct lock_client *c, *next;
	int err = locks_begin(m);

	if (err)
		return err;
	for (c = LIST_FIRST(&m->locks->clients); c && !err; c = LIST_NEXT(c, link))
		if (c->drop_ns == DROP_NOW)
			err = lock_client_drop(m, c, NULL);
	err = locks_commit(m, err);
	for (c = LIST_FIRST(&m->locks->clients); c && !err; c = next) {
		next = LIST_NEXT(c, link);
		if (c->drop_ns == DROP_NOW)
			lock_client_free(c);
	}
	pthread_mutex_unlock(&m->lock);
	return err;
}

int locks_load(struct meta *m)
{
	int err;

	m->locks = calloc(1, sizeof(*m->locks));
	if (!m->locks)
		return -ENOMEM;
	m->locks->wake_fd = -1;
	map_init(&m->locks->files);
	LIST_INIT(&m->locks->clients);
	TAILQ_INIT(&m->locks->waits);
	read_boot(m->locks->boot);
	err = load_clients(m);
	if (!err)
		err = load_lists(m);
	return err ? err : drop_stale(m);
}

void locks_free(struct meta *m)
{
	struct lock_client *c;
	struct lock_wait *w;

	if (!m->locks)
		return;
	clear_lists(m);
	map_fini(&m->locks->files);
	while ((w = TAILQ_FIRST(&m->locks->waits)))
		locks_forget_wait(m, w);
	while ((c = LIST_FIRST(&m->locks->clients)))
		lock_client_free(c);
	free(m->locks);
	m->locks = NULL;
}

/* ---- waits ---- */

void locks_forget_wait(struct meta *m, struct lock_wait *w)
{
	TAILQ_REMOVE(&m->locks->waits, w, link);
	m->locks->n_waits--;
	free(w);
}

static struct lock_wait *find_wait(struct meta *m, uint64_t client, uint64_t id)
{
	struct lock_wait *w;

	TAILQ_FOREACH(w, &m->locks->waits, link)
	{
		if (w->want.client == client && w->id == id)
			return w;
	}
	return NULL;
}

static int add_wait(struct meta *m, uint64_t ino, const struct lock *want, uint64_t id, uint64_t session)
{
	struct lock_wait *w = find_wait(m, want->client, id);

	if (!w) {
		if (m->locks->n_waits == LOCK_WAITS_MAX)
			return -ENOLCK;
		w = calloc(1, sizeof(*w));
		if (!w)
			return -ENOMEM;
		TAILQ_INSERT_TAIL(&m->locks->waits, w, link);
		m->locks->n_waits++;
	}
	w->want = *want;
	w->ino = ino;
	w->id = id;
	w->session = session;
	w->seen_ns = time_mono_ns();
	return 0;
}

static bool is_over(const struct lock_wait *w, uint64_t now)
{
	return now - w->seen_ns > LOCK_WAIT_MS * UINT64_C(1000000);
}

/* Of those that wait for the same, the oldest is told: one that came later would only be refused. */
void locks_wake(struct meta *m, uint64_t ino, struct lock_pokes *pokes)
{
	struct lock *told = NULL;
	uint64_t now = time_mono_ns();
	struct lock_wait *w, *next;

	for (w = TAILQ_FIRST(&m->locks->waits); w && pokes->n < LOCK_POKES_MAX; w = next) {
		next = TAILQ_NEXT(w, link);
		if (is_over(w, now)) {
			locks_forget_wait(m, w);
			continue;
		}
		if (w->ino != ino || lock_conflict(map_get(&m->locks->files, ino), &w->want) ||
		    lock_conflict(told, &w->want))
			continue;
		pokes->at[pokes->n].session = w->session;
		pokes->at[pokes->n].ino = ino;
		pokes->at[pokes->n++].id = w->id;
		if (lock_insert(&told, &w->want))
			break;
	}
	lock_free_list(&told);
}

void locks_poke(struct meta *m, const struct lock_pokes *pokes)
{
	for (size_t i = 0; i < pokes->n; i++)
		inval_poke(m->inval, pokes->at[i].session, pokes->at[i].ino, pokes->at[i].id);
}

/* Whether someone that is in the way of `want` waits, in the end, for `me`. */
static bool waits_for(struct meta *m, uint64_t ino, const struct lock *want, const struct lock *me, unsigned depth,
		      unsigned *steps)
{
	uint64_t now = time_mono_ns();
	struct lock_wait *w;

	for (const struct lock *l = map_get(&m->locks->files, ino); l; l = l->next) {
		if (!lock_conflicts(l, want))
			continue;
		if (lock_same_owner(l, me))
			return true;
		if (depth == DEADLOCK_DEPTH)
			continue;
		TAILQ_FOREACH(w, &m->locks->waits, link)
		{
			if (++*steps > DEADLOCK_STEPS)
				return false;
			if (lock_same_owner(&w->want, l) && !is_over(w, now) &&
			    waits_for(m, w->ino, &w->want, me, depth + 1, steps))
				return true;
		}
	}
	return false;
}

/* ---- the message ---- */

static int check(const struct wire_lock *b, struct reason *why)
{
	uint32_t type = le32_get(b->type), kind = le32_get(b->kind), flags = le32_get(b->flags);
	uint64_t start = le64_get(b->start), end = le64_get(b->end);

	if (flags & (flags - 1) || flags >= WIRE_LOCK_END * 2u)
		return reason_set(why, EINVAL, "LOCK: flags %x", flags);
	if (flags >= WIRE_LOCK_FORGET)
		return 0;
	if (type < WIRE_LOCK_READ || type > WIRE_LOCK_NONE || (kind != WIRE_LOCK_POSIX && kind != WIRE_LOCK_FLOCK) ||
	    start > end || end > INT64_MAX || (kind == WIRE_LOCK_FLOCK && (start || end != INT64_MAX)))
		return reason_set(why, EINVAL, "LOCK: no such lock");
	return 0;
}

static void reply_lock(struct meta_op *op, const struct lock_client *c, const struct lock *l)
{
	struct wire_lock_reply *r = (struct wire_lock_reply *)op->reply.bytes;

	*r = (struct wire_lock_reply){ .tenure = le64_of(c ? c->tenure : 0), .type = le32_of(WIRE_LOCK_NONE) };
	if (!l)
		return;
	r->start = le64_of(l->start);
	r->end = le64_of(l->end);
	r->place = le64_of(l->place);
	r->type = le32_of(l->type);
	r->kind = le32_of(l->kind);
	r->pid = le32_of(l->pid);
}

static int refuse(struct meta *m, const struct wire_lock *b, const struct lock *want, uint64_t session,
		  struct lock_wait *mine)
{
	unsigned steps = 0;

	if (!(le32_get(b->flags) & WIRE_LOCK_WAIT))
		return -EAGAIN;
	/* flock has no such promise, and an owner of it is a file, which may have other users. */
	if (want->kind == WIRE_LOCK_POSIX && waits_for(m, le64_get(b->ino), want, want, 0, &steps)) {
		if (mine)
			locks_forget_wait(m, mine);
		return -EDEADLK;
	}
	int err = add_wait(m, le64_get(b->ino), want, le64_get(b->wait), session);
	return err ? err : -EAGAIN;
}

/* Sets *ret_status to what the mount is told; the return value is about the database. */
static int set(struct meta_op *op, struct lock_client *c, const struct lock *want, struct lock_pokes *pokes,
	       int *ret_status)
{
	const struct wire_lock *b = op->body;
	uint64_t ino = le64_get(b->ino);
	struct meta *m = op->m;
	bool blocked = lock_conflict(map_get(&m->locks->files, ino), want);
	struct lock_wait *mine =
		le32_get(b->flags) & WIRE_LOCK_WAIT ? find_wait(m, c->tenure, le64_get(b->wait)) : NULL;
	int err = 0;

	*ret_status = 0;
	if (blocked && want->kind == WIRE_LOCK_FLOCK) {
		/* As the kernel does: to change a lock gives up the old one first, or two who do would wait for each other. */
		struct lock none = *want;
		none.type = WIRE_LOCK_NONE;
		err = apply(m, ino, &none);
	} else if (!blocked && want->type != WIRE_LOCK_NONE && m->locks->n_locks >= LOCK_COUNT_MAX) {
		*ret_status = -ENOLCK;
		return 0;
	}
	if (blocked) {
		*ret_status = refuse(m, b, want, op->peer.session, mine);
	} else {
		if (mine)
			locks_forget_wait(m, mine);
		err = apply(m, ino, want);
	}
	if (!err && (blocked || want->type != WIRE_LOCK_WRITE))
		locks_wake(m, ino, pokes);
	return err;
}

/* The client that speaks, here from now on.  -ECANCELED: on a connection that its mount has given up since. */
static int find_client(struct meta_op *op, struct lock_client **ret)
{
	struct lock_client *c = lock_client_find(op->m, &op->peer.uuid);
	uint64_t tenure = le64_get(((const struct wire_lock *)op->body)->tenure);

	if (tenure && (!c || c->tenure != tenure))
		return reason_set(op->why, ESTALE, "the locks of this mount are lost: it was away for too long");
	if (c && c->number > op->peer.session)
		return -ECANCELED;
	if (c)
		lock_client_here(c, op->peer.session);
	*ret = c;
	return 0;
}

static int change(struct meta_op *op, const struct lock *want, struct lock_pokes *pokes)
{
	struct meta *m = op->m;
	struct lock_client *c = NULL, *fresh = NULL;
	struct lock mine = *want;
	int status = 0, err = locks_begin(m);

	if (err)
		return err;
	status = find_client(op, &c);
	if (!status && !c && want->type != WIRE_LOCK_NONE) {
		err = lock_client_new(m, &op->peer.uuid, &fresh);
		c = fresh;
		if (c)
			lock_client_here(c, op->peer.session);
	}
	if (!err && !status && c) {
		mine.client = c->tenure;
		inval_meet(m->inval, op->peer.session, op->peer.handle);
		err = set(op, c, &mine, pokes, &status);
	}
	reply_lock(op, err ? NULL : c, NULL);
	err = locks_commit(m, err);
	if (err && fresh)
		lock_client_free(fresh);
	pthread_mutex_unlock(&m->lock);
	return err ? err : status;
}

static int test(struct meta_op *op, const struct lock *want)
{
	const struct wire_lock *b = op->body;
	struct meta *m = op->m;
	struct lock_client *c = NULL;
	struct lock mine = *want;
	int err;

	pthread_mutex_lock(&m->lock);
	err = find_client(op, &c);
	mine.client = c ? c->tenure : 0;
	if (!err)
		reply_lock(op, c,
			   le32_get(b->flags) & WIRE_LOCK_TEST
				   ? lock_conflict(map_get(&m->locks->files, le64_get(b->ino)), &mine)
				   : NULL);
	pthread_mutex_unlock(&m->lock);
	return err;
}

static int forget(struct meta_op *op, struct lock_pokes *pokes)
{
	const struct wire_lock *b = op->body;
	struct lock_client *c = NULL;
	struct lock_wait *w;
	int err;

	pthread_mutex_lock(&op->m->lock);
	err = find_client(op, &c);
	w = c ? find_wait(op->m, c->tenure, le64_get(b->wait)) : NULL;
	if (w) {
		uint64_t ino = w->ino;
		locks_forget_wait(op->m, w);
		locks_wake(op->m, ino, pokes); /* it may have been told in another's stead */
	}
	reply_lock(op, c, NULL);
	pthread_mutex_unlock(&op->m->lock);
	return err;
}

static int end(struct meta_op *op, struct lock_pokes *pokes)
{
	struct lock_client *c = NULL;
	int status, err = locks_begin(op->m);

	if (err)
		return err;
	status = find_client(op, &c);
	if (!status && c)
		err = lock_client_drop(op->m, c, pokes);
	reply_lock(op, NULL, NULL);
	err = locks_commit(op->m, err);
	if (!err && !status && c)
		lock_client_free(c);
	pthread_mutex_unlock(&op->m->lock);
	return err ? err : status;
}

int meta_op_lock(struct meta_op *op)
{
	const struct wire_lock *b = op->body;
	struct lock_pokes pokes = { 0 };
	struct lock want = { .start = le64_get(b->start),
			     .end = le64_get(b->end),
			     .owner = le64_get(b->owner),
			     .place = le64_get(b->place),
			     .pid = le32_get(b->pid),
			     .type = le32_get(b->type),
			     .kind = le32_get(b->kind) };
	uint32_t flags = le32_get(b->flags);
	int err = check(b, op->why);

	if (err)
		return err;
	if (flags & (WIRE_LOCK_TEST | WIRE_LOCK_RENEW))
		return test(op, &want);
	if (flags & WIRE_LOCK_FORGET)
		err = forget(op, &pokes);
	else if (flags & WIRE_LOCK_END)
		err = end(op, &pokes);
	else
		err = change(op, &want, &pokes);
	/* What is given back must be possible on a full disk. */
	if (err == -ENOSPC && (want.type == WIRE_LOCK_NONE || flags & WIRE_LOCK_END) && meta_reserve_give(op->m))
		err = flags & WIRE_LOCK_END ? end(op, &pokes) : change(op, &want, &pokes);
	locks_poke(op->m, &pokes);
	return err;
}
