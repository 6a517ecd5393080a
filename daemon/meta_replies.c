/* Requests that are done exactly once, however often they are sent: the answer is kept in the transaction that made the change.
 *
 * A mount sends a request again when it does not know whether it was done: its connection was lost, or the head was.  The row of (session, slot)
 * holds the slot's last request.  The same number again: the answer is taken from the row.  A lower one: its mount has given it up
 * and gone on, so it must not be done any more.  Rows outlive the head and the session's connections for WIRE_ONCE_SECONDS.
 */
#include "meta_int.h"

#include "server.h"

struct telling { /* a request that was done, and is not answered before others have been told of the change */
	struct telling *next;
	struct uuid session;
	uint64_t once;
};

static struct telling **find_locked(struct meta_op *op)
{
	struct telling **at = &op->m->replies.telling;

	while (*at && ((*at)->once != op->once || !uuid_equal(&(*at)->session, &op->peer.uuid)))
		at = &(*at)->next;
	return at;
}

static int begin_telling(struct meta_op *op)
{
	struct replies *r = &op->m->replies;
	struct telling *t = malloc(sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_lock(&r->lock);
	*t = (struct telling){ r->telling, op->peer.uuid, op->once };
	r->telling = t;
	pthread_mutex_unlock(&r->lock);
	return 0;
}

void replies_told(struct meta_op *op)
{
	struct replies *r = &op->m->replies;
	struct telling **at, *t;

	if (!op->once || op->repeated)
		return;
	pthread_mutex_lock(&r->lock);
	at = find_locked(op);
	t = *at;
	if (t) {
		*at = t->next;
		pthread_cond_broadcast(&r->told);
	}
	pthread_mutex_unlock(&r->lock);
	free(t);
}

bool replies_telling(struct meta_op *op)
{
	struct replies *r = &op->m->replies;

	pthread_mutex_lock(&r->lock);
	bool is = *find_locked(op) != NULL;
	pthread_mutex_unlock(&r->lock);
	return is;
}

void replies_wait_told(struct meta_op *op)
{
	struct replies *r = &op->m->replies;

	pthread_mutex_lock(&r->lock);
	while (*find_locked(op))
		pthread_cond_wait(&r->told, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* The mount takes what it is told here for current, as it would from the first answer. */
static void hold_again(struct meta_op *op)
{
	const struct wire_attr *attr = &op->reply.attr;

	if (wire_row(op->type)->reply_body >= sizeof(*attr) && le32_get(attr->nlink))
		meta_hold(op, le64_get(attr->ino));
	if (op->type == WIRE_MAKE)
		meta_hold(op, le64_get(op->reply.made.dir.ino));
	if (op->type == WIRE_UNLINK || op->type == WIRE_RMDIR)
		meta_hold(op, le64_get(op->reply.removed.dir.ino));
}

int replies_find(struct meta_op *op)
{
	struct db *db = op->m->db;
	const void *body;
	uint64_t once;
	size_t len;
	int rc;

	op->repeated = false;
	if (!op->once)
		return 0;
	rc = db_run(db, SQL_REPLY_GET, db_bytes(&op->peer.uuid, sizeof(op->peer.uuid)),
		    db_int(wire_once_slot(op->once)));
	if (rc <= 0)
		return rc;
	once = db_u64(db, SQL_REPLY_GET, 0);
	if (op->once > once)
		return 0;
	if (op->once < once)
		return reason_set(op->why, ECANCELED, "%s: given up by who asked for it", wire_row(op->type)->name);
	body = db_blob(db, SQL_REPLY_GET, 2, &len);
	if (db_u64(db, SQL_REPLY_GET, 1) != op->type || len != wire_row(op->type)->reply_body)
		return reason_set(op->why, EPROTO, "%s: repeats the number of another request",
				  wire_row(op->type)->name);
	memcpy(op->reply.bytes, body, len);
	hold_again(op);
	op->repeated = true;
	return 0;
}

static void session_is_back(struct replies *r, const struct uuid *session)
{
	for (size_t i = 0; i < r->n_gone; i++)
		if (uuid_equal(&r->gone[i].session, session))
			r->gone[i--] = r->gone[--r->n_gone];
}

static int drop_old(struct meta *m)
{
	struct replies *r = &m->replies;
	uint64_t now = time_mono_ns();
	int err = 0;

	for (size_t i = 0; i < r->n_gone && !err; i++) {
		if (now - r->gone[i].since_ns < WIRE_ONCE_SECONDS * UINT64_C(1000000000))
			continue;
		err = db_run(m->db, SQL_REPLY_DROP, db_bytes(&r->gone[i].session, sizeof(r->gone[i].session)));
		r->gone[i--] = r->gone[--r->n_gone];
	}
	return err;
}

int replies_keep(struct meta_op *op)
{
	struct replies *r = &op->m->replies;
	int err = 0;

	if (!op->once)
		return 0;
	if (r->n_gone) {
		err = drop_old(op->m);
		session_is_back(r, &op->peer.uuid);
	}
	if (!err)
		err = begin_telling(op);
	if (err)
		return err;
	return db_run(op->m->db, SQL_REPLY_SET, db_bytes(&op->peer.uuid, sizeof(op->peer.uuid)),
		      db_int(wire_once_slot(op->once)), db_int(op->once), db_int(op->type),
		      db_bytes(op->reply.bytes, wire_row(op->type)->reply_body));
}

void replies_session_gone_locked(struct meta *m, const struct uuid *session)
{
	struct replies *r = &m->replies;
	struct gone *grown;

	session_is_back(r, session);
	grown = realloc(r->gone, (r->n_gone + 1) * sizeof(*grown));
	if (!grown)
		return; /* its rows go after the next start */
	r->gone = grown;
	r->gone[r->n_gone++] = (struct gone){ *session, time_mono_ns() };
}

int replies_load(struct meta *m)
{
	int rc = db_query(m->db, SQL_REPLY_SESSIONS, NULL, 0);

	for (; rc == 1; rc = db_next(m->db, SQL_REPLY_SESSIONS)) {
		struct uuid session;
		size_t len;
		const void *blob = db_blob(m->db, SQL_REPLY_SESSIONS, 0, &len);
		if (len != sizeof(session))
			return -EIO;
		memcpy(&session, blob, sizeof(session));
		replies_session_gone_locked(m, &session);
	}
	db_done(m->db);
	return rc;
}

void replies_init(struct replies *r)
{
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->told, NULL);
}

void replies_fini(struct replies *r)
{
	pthread_cond_destroy(&r->told);
	pthread_mutex_destroy(&r->lock);
	free(r->gone);
}
