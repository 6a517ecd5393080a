#include "meta_int.h"

#include <limits.h>
#include <stdio.h>

#include "describe.h"
#include "log.h"
#include "meta_locks.h"
#include "nodes.h"
#include "reaper.h"
#include "server.h"

#define IDS_RESERVED 4096 /* at a time */
#define IDS_MAX_USED 256  /* by one operation; meta_orphans_update is the hungriest */

enum meta_kind {
	META_READ = 1, /* under the lock */
	META_WRITE,    /* in a transaction */
	META_FREE,     /* takes locks itself */
};

struct meta_row {
	enum meta_kind kind;
	meta_fn *run;
};

static const struct meta_row rows[WIRE_TYPE_END] = {
	[WIRE_LOOKUP] = { META_READ, meta_op_lookup },
	[WIRE_GETATTR] = { META_READ, meta_op_getattr },
	[WIRE_SETATTR] = { META_WRITE, meta_op_setattr },
	[WIRE_MAKE] = { META_WRITE, meta_op_make },
	[WIRE_LINK] = { META_WRITE, meta_op_link },
	[WIRE_UNLINK] = { META_WRITE, meta_op_unlink },
	[WIRE_RMDIR] = { META_WRITE, meta_op_rmdir },
	[WIRE_RENAME] = { META_WRITE, meta_op_rename },
	[WIRE_READLINK] = { META_READ, meta_op_readlink },
	[WIRE_READDIR] = { META_READ, meta_op_readdir },
	[WIRE_GETXATTR] = { META_READ, meta_op_getxattr },
	[WIRE_SETXATTR] = { META_WRITE, meta_op_setxattr },
	[WIRE_LISTXATTR] = { META_READ, meta_op_listxattr },
	[WIRE_REMOVEXATTR] = { META_WRITE, meta_op_removexattr },
	[WIRE_STATFS] = { META_FREE, meta_op_statfs },
	[WIRE_OPEN] = { META_READ, meta_op_open },
	[WIRE_CLOSE] = { META_WRITE, meta_op_close },
	[WIRE_COMMIT] = { META_WRITE, meta_op_commit },
	[WIRE_METASYNC] = { META_FREE, meta_op_metasync },
	[WIRE_FORGET] = { META_FREE, meta_op_forget },
	[WIRE_READ_TIMES] = { META_WRITE, meta_op_read_times },
	[WIRE_INLINE_READ] = { META_READ, meta_op_inline_read },
	[WIRE_INLINE_WRITE] = { META_WRITE, meta_op_inline_write },
	[WIRE_DEFINE] = { META_WRITE, meta_op_define },
	[WIRE_RESIZE] = { META_WRITE, meta_op_resize },
	[WIRE_CHUNKDIR] = { META_WRITE, meta_op_chunkdir },
	[WIRE_APPEND] = { META_WRITE, meta_op_append },
	[WIRE_OBJECT_PATHS] = { META_FREE, meta_op_object_paths },
	[WIRE_LOCK] = { META_FREE, meta_op_lock },
	[WIRE_RESTORE] = { META_WRITE, meta_op_restore },
	[WIRE_RAISE_IDS] = { META_FREE, meta_op_raise_ids },
	[WIRE_CHECK_NAMES] = { META_FREE, meta_op_check_names },
};

/* Durable at once: after a power cut the head must not give an object number again under which a node still has partitions. */
static int reserve_ids(struct meta *m)
{
	int err;

	if (m->next_id + IDS_MAX_USED <= m->id_limit)
		return 0;
	err = db_run(m->db, SQL_COUNTER_SET, db_int(m->next_id + IDS_RESERVED));
	if (!err)
		err = db_sync(m->db);
	if (!err)
		m->id_limit = m->next_id + IDS_RESERVED;
	return err;
}

int meta_begin(struct meta *m)
{
	int err;

	pthread_mutex_lock(&m->lock);
	err = reserve_ids(m);
	if (!err)
		err = db_begin(m->db);
	if (err)
		pthread_mutex_unlock(&m->lock);
	return err;
}

int meta_end(struct meta *m, int err)
{
	if (err)
		db_rollback(m->db);
	else
		err = db_commit(m->db);
	if (!err)
		atomic_store(&m->changed, true);
	pthread_mutex_unlock(&m->lock);
	return err;
}

static bool has_open(void *arg, uint64_t ino, uint64_t session)
{
	return opens_has(arg, session, ino);
}

static void forget_gone(struct meta_op *op)
{
	for (size_t i = 0; i < op->n_gone; i++)
		inval_gone(op->m->inval, op->gone[i]);
}

/* Who was told of a change to a file asks again before it caches anything of it, unless it has the file open: then its pages come back
 * without a word to the head.  A directory's names are held on to, for each is told by itself. */
static void forget_holders(struct meta_op *op)
{
	struct meta *m = op->m;

	forget_gone(op);
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < op->changes.n; i++)
		if (!op->changes.items[i].is_dir)
			inval_forget_told(m->inval, op->changes.items[i].ino, has_open, m);
	pthread_mutex_unlock(&m->lock);
}

static bool makes_room(unsigned type)
{
	return type == WIRE_UNLINK || type == WIRE_RMDIR || type == WIRE_RENAME || type == WIRE_SETATTR;
}

/* Memory knows nothing of transactions. */
static void undo_opens(struct meta_op *op)
{
	pthread_mutex_lock(&op->m->lock);
	if (op->opened)
		opens_remove(op->m, op->peer.session, op->opened);
	if (op->closed)
		opens_add(op->m, op->peer.session, op->closed);
	pthread_mutex_unlock(&op->m->lock);
	free(op->reply_payload);
	op->reply_payload = NULL;
	op->reply_payload_bytes = 0;
}

static int run_transaction(struct meta_op *op)
{
	int err = meta_begin(op->m);

	op->changes.n = op->n_gone = 0;
	op->reap = false;
	op->opened = op->closed = 0;
	if (err)
		return err;
	err = replies_find(op);
	if (!err && !op->repeated) {
		err = rows[op->type].run(op);
		if (!err)
			err = replies_keep(op);
	}
	err = meta_end(op->m, err);
	if (err) {
		undo_opens(op);
		replies_told(op);
	}
	return err;
}

static int run_write(struct meta_op *op)
{
	struct meta *m = op->m;
	int err = run_transaction(op);

	if (err == -ENOSPC && makes_room(op->type) && meta_reserve_give(m))
		err = run_transaction(op);
	if (!err && op->reap)
		reaper_wake(m->reaper);
	return err;
}

static int run_read(struct meta_op *op, meta_fn *run)
{
	int err;

	pthread_mutex_lock(&op->m->lock);
	err = run(op);
	db_done(op->m->db);
	pthread_mutex_unlock(&op->m->lock);
	return err;
}

void meta_finish(struct meta_op *op)
{
	if (op->repeated) {
		replies_wait_told(op);
		return;
	}
	inval_send(op->m->inval, &op->changes, op->peer.session);
	forget_holders(op);
	replies_told(op);
}

int meta_start_op(struct meta_op *op, bool *ret_tell)
{
	const struct meta_row *row = &rows[op->type];
	int err;

	op->now = time_real_ns();
	op->changes.n = op->n_gone = 0;
	op->reap = false;
	op->reply_payload = NULL;
	op->reply_payload_bytes = 0;
	if (row->kind == META_WRITE)
		err = run_write(op);
	else
		err = row->kind == META_READ ? run_read(op, row->run) : row->run(op);
	if (err) {
		free(op->reply_payload);
		op->reply_payload = NULL;
	}
	*ret_tell = false;
	if (err || row->kind != META_WRITE)
		return err;
	*ret_tell = op->repeated ? replies_telling(op) : inval_needed(op->m->inval, &op->changes, op->peer.session);
	if (!*ret_tell) {
		forget_gone(op);
		replies_told(op);
	}
	return 0;
}

int meta_execute(struct meta_op *op)
{
	bool tell;
	int err = meta_start_op(op, &tell);

	if (tell)
		meta_finish(op);
	return err;
}

static void meta_reply(struct request *r, struct meta_op *op)
{
	request_reply(r, op->reply.bytes, op->reply_payload, op->reply_payload_bytes);
	free(op->reply_payload);
}

static void meta_later(struct daemon *d, struct request *r, void *arg)
{
	struct meta_op *op = arg;

	(void)d;
	meta_finish(op);
	meta_reply(r, op);
	free(op);
}

/* The answers to invalidations come in on the threads of connections: none of these may wait for them. */
static int meta_wait(struct request *r, struct meta_op *op)
{
	struct meta_op *copy = malloc(sizeof(*copy));
	int err = copy ? 0 : -ENOMEM;

	if (copy) {
		*copy = *op;
		err = request_later(r, meta_later, copy);
	}
	if (err) {
		meta_finish(op);
		meta_reply(r, op);
		free(copy);
	}
	return 0;
}

static int meta_handle(struct daemon *d, struct request *r, struct reason *why)
{
	struct meta_op op = { .m = d->meta,
			      .peer = { session_number(r->session), session_node_id(r->session),
					session_role(r->session) == WIRE_ROLE_MOUNT, r->session,
					*session_uuid(r->session) },
			      .type = r->type,
			      .request = r->id,
			      .once = r->once,
			      .body = r->body,
			      .payload = r->payload,
			      .payload_bytes = r->payload_bytes,
			      .why = why };
	bool tell;
	int err;

	if (!d->meta)
		return reason_set(why, EREMOTE, "node %u is not the head; the head is %s", d->sb.node_id, d->sb.head);
	err = meta_start_op(&op, &tell);
	if (err)
		return err;
	if (tell)
		return meta_wait(r, &op);
	meta_reply(r, &op);
	return 0;
}

/* A writer is quick unless somebody is to be told of what it did.  Slow: what reads long documents or waits for the disk. */
static const struct handler handlers[] = {
	{ WIRE_LOOKUP, false, meta_handle },
	{ WIRE_GETATTR, false, meta_handle },
	{ WIRE_SETATTR, false, meta_handle },
	{ WIRE_MAKE, false, meta_handle },
	{ WIRE_LINK, false, meta_handle },
	{ WIRE_UNLINK, false, meta_handle },
	{ WIRE_RMDIR, false, meta_handle },
	{ WIRE_RENAME, false, meta_handle },
	{ WIRE_READLINK, false, meta_handle },
	{ WIRE_READDIR, false, meta_handle },
	{ WIRE_GETXATTR, false, meta_handle },
	{ WIRE_SETXATTR, false, meta_handle },
	{ WIRE_LISTXATTR, false, meta_handle },
	{ WIRE_REMOVEXATTR, false, meta_handle },
	{ WIRE_STATFS, false, meta_handle },
	{ WIRE_OPEN, false, meta_handle },
	{ WIRE_CLOSE, false, meta_handle },
	{ WIRE_COMMIT, false, meta_handle },
	{ WIRE_METASYNC, true, meta_handle },
	{ WIRE_FORGET, false, meta_handle },
	{ WIRE_INLINE_READ, false, meta_handle },
	{ WIRE_INLINE_WRITE, true, meta_handle },
	{ WIRE_DEFINE, true, meta_handle },
	{ WIRE_RESIZE, true, meta_handle },
	{ WIRE_CHUNKDIR, false, meta_handle },
	{ WIRE_APPEND, false, meta_handle },
	{ WIRE_OBJECT_PATHS, true, meta_handle },
	{ WIRE_RESTORE, true, meta_handle },
	{ WIRE_RAISE_IDS, true, meta_handle },
	{ WIRE_CHECK_NAMES, true, meta_handle },
	{ WIRE_READ_TIMES, false, meta_handle },
	{ WIRE_LOCK, true, meta_handle },
	{ 0 },
};

void meta_session_gone(struct meta *m, uint64_t session)
{
	struct map *mine;
	size_t pos = 0;
	uint64_t ino;
	void *count;

	inval_session_end(m->inval, session);
	pthread_mutex_lock(&m->lock);
	mine = map_get(&m->sessions, session);
	pthread_mutex_unlock(&m->lock);
	/* Only this session's requests change its map, and there are none any more. */
	while (mine && map_next(mine, &pos, &ino, &count)) {
		struct meta_op op = { .m = m, .peer.session = session, .now = time_real_ns() };
		struct inode in;
		int err;
		pthread_mutex_lock(&m->lock);
		opens_remove(m, session, ino);
		pthread_mutex_unlock(&m->lock);
		err = meta_begin(m);
		if (err)
			continue; /* an unlinked inode that is left is dropped at the next start */
		if (inode_get(m, ino, &in) == 0)
			err = inode_drop_if_unused(&op, &in);
		if (meta_end(m, err) < 0)
			continue;
		forget_holders(&op);
		if (op.reap)
			reaper_wake(m->reaper);
	}
	pthread_mutex_lock(&m->lock);
	mine = map_del(&m->sessions, session);
	pthread_mutex_unlock(&m->lock);
	if (mine)
		map_fini(mine);
	free(mine);
}

size_t meta_held(struct meta *m)
{
	return inval_count(m->inval);
}

static void meta_session_end(struct daemon *d, struct session *s)
{
	if (!d->meta)
		return;
	locks_session_end(d->meta, session_number(s), session_pid(s));
	meta_session_gone(d->meta, session_number(s));
	pthread_mutex_lock(&d->meta->lock);
	replies_session_gone_locked(d->meta, session_uuid(s));
	pthread_mutex_unlock(&d->meta->lock);
}

static void meta_session_begin(struct daemon *d, struct session *s)
{
	if (d->meta)
		locks_session_begin(d->meta, session_uuid(s), session_number(s));
}

static void meta_push_acked(struct daemon *d, struct session *s, uint64_t seq)
{
	if (d->meta)
		inval_acked(d->meta->inval, seq, session_number(s));
}

const struct module meta_module = { "meta", handlers, meta_session_end, meta_push_acked, meta_session_begin };

static int sync_round(struct meta *m)
{
	uint64_t round = m->sync.asked;
	int err;

	m->sync.running = true;
	pthread_mutex_unlock(&m->sync.lock);
	err = db_sync(m->db);
	pthread_mutex_lock(&m->sync.lock);
	m->sync.running = false;
	m->sync.finished = round;
	m->sync.err = err;
	pthread_cond_broadcast(&m->sync.done);
	return err;
}

/* A round that began before we asked may have missed what we want durable; one that begins afterwards serves all who asked. */
int meta_sync(struct meta *m)
{
	uint64_t mine;
	int err = 0;

	pthread_mutex_lock(&m->sync.lock);
	mine = ++m->sync.asked;
	while (m->sync.finished < mine) {
		if (m->sync.running)
			pthread_cond_wait(&m->sync.done, &m->sync.lock);
		else
			sync_round(m);
		err = m->sync.err;
	}
	pthread_mutex_unlock(&m->sync.lock);
	return err;
}

int meta_op_metasync(struct meta_op *op)
{
	int err = meta_sync(op->m);

	return err ? reason_set(op->why, -err, "meta.db: fsync: %s", strerror(-err)) : 0;
}

static int load(struct meta *m, struct reason *why)
{
	int rc = db_query(m->db, SQL_COUNTER_GET, NULL, 0);

	if (rc != 1)
		return reason_set(why, EIO, "meta.db: no counter: not the metadata of slabfs");
	m->next_id = m->id_limit = db_u64(m->db, SQL_COUNTER_GET, 0);
	db_done(m->db);
	m->grace_until_ns = m->d->grace_ns && m->next_id > META_ROOT + 1 ? time_mono_ns() + m->d->grace_ns : 0;
	m->rebuilding = db_query(m->db, SQL_REBUILD_GET, NULL, 0) == 1;
	db_done(m->db);
	if (m->rebuilding)
		log_warn(
			"the names are being rebuilt: no new files and arrays until slabctl fsck --rebuild is through");
	rc = replies_load(m);
	if (!rc)
		rc = inode_drop_unlinked(m, &(bool){ false });
	return rc ? reason_set(why, -rc, "meta.db: %s", db_error(m->db)) : 0;
}

static int add_self(struct meta *m, struct reason *why)
{
	struct daemon *d = m->d;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = db_query(m->db, SQL_NODE_LIST, NULL, 0);
	db_done(m->db);
	if (rc == 0)
		rc = db_run(m->db, SQL_NODE_ADD, db_int(d->sb.node_id), db_bytes(&d->sb.node, sizeof(d->sb.node)),
			    db_bytes(d->sb.listen, strlen(d->sb.listen)));
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? reason_set(why, -rc, "meta.db: %s", db_error(m->db)) : 0;
}

int meta_open(struct daemon *d, struct meta **ret, struct reason *why)
{
	struct meta *m = calloc(1, sizeof(*m));
	char path[PATH_MAX];
	int err;

	if (!m)
		return reason_set(why, ENOMEM, "out of memory");
	m->d = d;
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->sync.lock, NULL);
	pthread_cond_init(&m->sync.done, NULL);
	replies_init(&m->replies);
	snprintf(path, sizeof(path), "%s/meta.db", d->store_path);
	err = inval_new(&inval_server_ops, &m->inval);
	if (!err)
		err = meta_open_db(m, path, why);
	if (!err)
		err = load(m, why);
	if (!err && (err = locks_load(m)))
		reason_set(why, -err, "meta.db: the locks: %s", db_error(m->db));
	if (!err)
		err = add_self(m, why);
	if (!err)
		meta_reserve_take(m);
	if (err) {
		meta_close(m);
		return err;
	}
	*ret = m;
	return 0;
}

void meta_close(struct meta *m)
{
	size_t pos = 0;
	uint64_t key;
	void *value;

	if (!m)
		return;
	locks_free(m);
	db_close(m->db);
	inval_free(m->inval);
	while (map_next(&m->sessions, &pos, &key, &value)) {
		map_fini(value);
		free(value);
	}
	map_fini(&m->sessions);
	map_fini(&m->opens);
	replies_fini(&m->replies);
	pthread_cond_destroy(&m->sync.done);
	pthread_mutex_destroy(&m->sync.lock);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

int meta_start(struct daemon *d)
{
	int err = d->meta ? reaper_new(d, &d->meta->reaper) : 0;

	if (!err && d->meta)
		err = describer_new(d, &d->meta->describer);
	if (!err && d->meta)
		err = meta_syncer_new(d->meta, &d->meta->syncer);
	return !err && d->meta ? locks_start(d->meta) : err;
}

void meta_stop(struct daemon *d)
{
	if (!d->meta)
		return;
	locks_stop(d->meta);
	meta_syncer_free(d->meta->syncer);
	d->meta->syncer = NULL;
	describer_free(d->meta->describer);
	d->meta->describer = NULL;
	reaper_free(d->meta->reaper);
	d->meta->reaper = NULL;
}
