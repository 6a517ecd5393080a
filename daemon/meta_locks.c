#include "meta_locks.h"

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
	if (!(le32_get(b->flags) & WIRE_LOCK_WAIT))
		return -EAGAIN;
	/* flock has no such promise, and an owner of it is a file, which may have other users. */
	if (want->kind == WIRE_LOCK_POSIX && locks_deadlock(m, le64_get(b->ino), want)) {
		if (mine)
			locks_forget_wait(m, mine);
		return -EDEADLK;
	}
	int err = locks_add_wait(m, le64_get(b->ino), want, le64_get(b->wait), session);
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
		le32_get(b->flags) & WIRE_LOCK_WAIT ? locks_find_wait(m, c->tenure, le64_get(b->wait)) : NULL;
	int err = 0;

	*ret_status = 0;
	if (blocked && want->kind == WIRE_LOCK_FLOCK) {
		/* As the kernel does: to change a lock gives up the old one first, or two who do would wait for each other. */
		struct lock none = *want;
		none.type = WIRE_LOCK_NONE;
		err = locks_apply(m, ino, &none);
	} else if (!blocked && want->type != WIRE_LOCK_NONE && m->locks->n_locks >= LOCK_COUNT_MAX) {
		*ret_status = -ENOLCK;
		return 0;
	}
	if (blocked) {
		*ret_status = refuse(m, b, want, op->peer.session, mine);
	} else {
		if (mine)
			locks_forget_wait(m, mine);
		err = locks_apply(m, ino, want);
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
	w = c ? locks_find_wait(op->m, c->tenure, le64_get(b->wait)) : NULL;
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
