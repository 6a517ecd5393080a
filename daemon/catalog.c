#include "catalog.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>

#include "db.h"
#include "log.h"
#include "map.h"

#define CATALOG_NAME "catalog.db"
#define CATALOG_FORMAT 1

enum { Q_FIND, Q_PUT, Q_DEL, Q_DROP, Q_LIST, Q_WALK, Q_NEXT, Q_NEXT_TEXT, Q_TEXT_GET, Q_TEXT_PUT, Q_TEXT_DEL, Q_END };
static const char *const sql[Q_END] = {
	[Q_FIND] = "SELECT version FROM parts WHERE object = ? AND idx = ?",
	[Q_PUT] = "INSERT OR REPLACE INTO parts(object, idx, version) VALUES(?, ?, ?)",
	[Q_DEL] = "DELETE FROM parts WHERE object = ? AND idx = ?",
	[Q_DROP] = "DELETE FROM parts WHERE object = ?",
	[Q_LIST] = "SELECT idx FROM parts WHERE object = ? AND idx >= ? AND version <> 0 ORDER BY idx LIMIT ?",
	[Q_WALK] = "SELECT object, idx FROM parts WHERE version <> 0 AND (object, idx) > (?, ?) ORDER BY 1, 2 LIMIT ?",
	[Q_NEXT] = "SELECT object FROM parts WHERE object > ? ORDER BY object LIMIT 1",
	[Q_NEXT_TEXT] = "SELECT object FROM descriptions WHERE object > ? ORDER BY object LIMIT 1",
	[Q_TEXT_GET] = "SELECT text FROM descriptions WHERE object = ?",
	[Q_TEXT_PUT] = "INSERT OR REPLACE INTO descriptions(object, text) VALUES(?, ?)",
	[Q_TEXT_DEL] = "DELETE FROM descriptions WHERE object = ?",
};
static const char schema[] =
	"CREATE TABLE IF NOT EXISTS parts(object INTEGER NOT NULL, idx INTEGER NOT NULL, version INTEGER NOT NULL,"
	" PRIMARY KEY(object, idx)) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS descriptions(object INTEGER PRIMARY KEY, text BLOB NOT NULL);";

enum change_kind { CHANGE_PUT, CHANGE_DEL, CHANGE_DROP };
struct change {
	enum change_kind kind;
	bool tombstone;
	struct part_id id;
	uint64_t version;
};
struct changes {
	struct change *at;
	size_t n, cap;
};

struct catalog {
	int dirfd;
	pthread_mutex_t sync_lock; /* one sync at a time; taken before lock */
	pthread_mutex_t lock;      /* guards all below */
	struct db *db;
	bool broken, in_transaction;
	struct changes open;     /* of the transaction that is open, to do them again when it fails */
	struct changes done;     /* committed, with tombstones that stand until they are durable */
	struct map removing;     /* key of a partition -> number of its last removal with a tombstone */
	uint64_t wanted, synced; /* changes that must become durable; those that are */
};

static uint64_t key_of(struct part_id id)
{
	return id.object * UINT64_C(0x9e3779b97f4a7c15) ^ id.index;
}

/* It is a safety net: without it the store goes on as if it had listed nothing. */
static void give_up(struct catalog *c, const char *what)
{
	if (c->broken)
		return;
	c->broken = true;
	renameat(c->dirfd, CATALOG_NAME, c->dirfd, CATALOG_NAME ".damaged");
	renameat(c->dirfd, CATALOG_NAME "-wal", c->dirfd, CATALOG_NAME "-wal.damaged");
	log_error("store: " CATALOG_NAME
		  " cannot be used (%s); it is made anew at the next start, and until then a partition "
		  "that vanishes is not missed",
		  what);
}

static int apply(struct catalog *c, const struct change *ch)
{
	int err;

	switch (ch->kind) {
	case CHANGE_PUT:
		return db_run(c->db, Q_PUT, db_int(ch->id.object), db_int(ch->id.index), db_int(ch->version));
	case CHANGE_DEL:
		return db_run(c->db, Q_DEL, db_int(ch->id.object), db_int(ch->id.index));
	case CHANGE_DROP:
		err = db_run(c->db, Q_DROP, db_int(ch->id.object));
		return err ? err : db_run(c->db, Q_TEXT_DEL, db_int(ch->id.object));
	}
	return -EINVAL;
}

static void undo(struct catalog *c)
{
	db_rollback(c->db);
	c->in_transaction = false;
}

/* What was in a transaction that failed (a full disk, most likely) is done again in the next. */
static int begin(struct catalog *c)
{
	int err;

	if (c->in_transaction)
		return 0;
	err = db_begin(c->db);
	c->in_transaction = !err;
	for (size_t i = 0; !err && i < c->open.n; i++)
		err = apply(c, &c->open.at[i]);
	if (err && c->in_transaction)
		undo(c);
	return err;
}

static int append(struct changes *l, const struct change *ch)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct change *grown = realloc(l->at, cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->at = grown;
		l->cap = cap;
	}
	l->at[l->n++] = *ch;
	return 0;
}

static int commit_locked(struct catalog *c)
{
	int err;

	if (c->broken || (!c->in_transaction && !c->open.n))
		return 0;
	err = begin(c);
	if (err)
		return err;
	err = db_commit(c->db);
	c->in_transaction = false;
	for (size_t i = 0; !err && i < c->open.n; i++)
		if (c->open.at[i].tombstone && append(&c->done, &c->open.at[i]) < 0)
			break; /* without memory a tombstone stays behind: harmless */
	if (!err)
		c->open.n = 0;
	return err;
}

static void change_locked(struct catalog *c, const struct change *ch, bool wanted)
{
	int err;

	if (c->broken)
		return;
	err = begin(c);
	if (!err) {
		err = apply(c, ch);
		if (err)
			undo(c);
	}
	if (append(&c->open, ch) < 0 || (err && err != -ENOSPC && err != -ENOMEM))
		give_up(c, err ? db_error(c->db) : "no memory");
	c->wanted += wanted;
}

bool catalog_find(struct catalog *c, struct part_id id, uint64_t *ret_version)
{
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	if (!c->broken)
		rc = c->open.n ? begin(c) : 0;
	if (!c->broken && !rc)
		rc = db_run(c->db, Q_FIND, db_int(id.object), db_int(id.index));
	if (rc == 1)
		*ret_version = db_u64(c->db, Q_FIND, 0);
	else if (rc < 0 && rc != -ENOSPC && rc != -ENOMEM)
		give_up(c, db_error(c->db));
	db_done(c->db);
	pthread_mutex_unlock(&c->lock);
	return rc == 1;
}

void catalog_put(struct catalog *c, struct part_id id, uint64_t version)
{
	struct change ch = { .kind = CHANGE_PUT, .id = id, .version = version };
	uint64_t listed = 0;
	bool there = catalog_find(c, id, &listed);

	there = there && !listed == !version;
	if (there && listed == version)
		return;
	pthread_mutex_lock(&c->lock);
	change_locked(c, &ch, !there);
	pthread_mutex_unlock(&c->lock);
}

void catalog_del(struct catalog *c, struct part_id id, bool tombstone)
{
	pthread_mutex_lock(&c->lock);
	struct change ch = { .kind = CHANGE_DEL, .tombstone = tombstone, .id = id, .version = c->wanted + 1 };
	if (tombstone && map_put(&c->removing, key_of(id), (void *)(uintptr_t)ch.version) < 0)
		ch.tombstone = false;
	change_locked(c, &ch, true);
	pthread_mutex_unlock(&c->lock);
}

void catalog_drop(struct catalog *c, uint64_t object)
{
	struct change ch = { .kind = CHANGE_DROP, .id.object = object };

	pthread_mutex_lock(&c->lock);
	change_locked(c, &ch, true);
	pthread_mutex_unlock(&c->lock);
}

bool catalog_removing(struct catalog *c, struct part_id id)
{
	pthread_mutex_lock(&c->lock);
	bool yes = map_get(&c->removing, key_of(id)) != NULL;
	pthread_mutex_unlock(&c->lock);
	return yes;
}

int catalog_list(struct catalog *c, uint64_t object, uint64_t first, size_t max, uint64_t *ret, size_t *ret_n)
{
	size_t n = 0;
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	if (!c->broken && first <= INT64_MAX)
		rc = db_run(c->db, Q_LIST, db_int(object), db_int(first), db_int(max));
	for (; rc == 1 && n < max; rc = db_next(c->db, Q_LIST))
		ret[n++] = db_u64(c->db, Q_LIST, 0);
	if (rc < 0)
		give_up(c, db_error(c->db));
	db_done(c->db);
	pthread_mutex_unlock(&c->lock);
	*ret_n = n;
	return 0;
}

int catalog_walk(struct catalog *c, struct part_id after, size_t max, struct part_id *ret, size_t *ret_n)
{
	size_t n = 0;
	int rc;

	pthread_mutex_lock(&c->lock);
	rc = c->broken ? -EIO : db_run(c->db, Q_WALK, db_int(after.object), db_int(after.index), db_int(max));
	for (; rc == 1 && n < max; rc = db_next(c->db, Q_WALK), n++)
		ret[n] = (struct part_id){ db_u64(c->db, Q_WALK, 0), db_u64(c->db, Q_WALK, 1) };
	db_done(c->db);
	pthread_mutex_unlock(&c->lock);
	*ret_n = n;
	return rc < 0 ? rc : 0;
}

static uint64_t next_of(struct catalog *c, unsigned q, uint64_t after)
{
	int rc = c->broken ? 0 : db_run(c->db, q, db_int(after));
	uint64_t next = rc == 1 ? db_u64(c->db, q, 0) : 0;

	db_done(c->db);
	return next;
}

uint64_t catalog_next(struct catalog *c, uint64_t after)
{
	pthread_mutex_lock(&c->lock);
	uint64_t a = next_of(c, Q_NEXT, after), b = next_of(c, Q_NEXT_TEXT, after);
	pthread_mutex_unlock(&c->lock);
	return a && b ? MIN(a, b) : a ? a : b;
}

int catalog_describe(struct catalog *c, uint64_t object, const void *text, size_t len)
{
	int err;

	pthread_mutex_lock(&c->lock);
	err = c->broken ? -EIO : begin(c);
	if (!err)
		err = db_run(c->db, Q_TEXT_PUT, db_int(object), db_bytes(text, len));
	c->wanted++;
	if (!err)
		err = commit_locked(c);
	pthread_mutex_unlock(&c->lock);
	return err;
}

int catalog_description(struct catalog *c, uint64_t object, char **ret, size_t *ret_len)
{
	const void *text;
	int rc;

	pthread_mutex_lock(&c->lock);
	rc = c->broken ? 0 : db_run(c->db, Q_TEXT_GET, db_int(object));
	if (rc == 1) {
		text = db_blob(c->db, Q_TEXT_GET, 0, ret_len);
		*ret = malloc(*ret_len + 1);
		if (*ret) {
			memcpy(*ret, text, *ret_len);
			(*ret)[*ret_len] = '\0';
		}
		rc = *ret ? 1 : -ENOMEM;
	}
	db_done(c->db);
	pthread_mutex_unlock(&c->lock);
	return rc == 1 ? 0 : rc ? rc : -ENOENT;
}

int catalog_commit(struct catalog *c)
{
	pthread_mutex_lock(&c->lock);
	int err = commit_locked(c);
	pthread_mutex_unlock(&c->lock);
	return err;
}

/* Whoever removed it again meanwhile needs the tombstone for longer. */
static bool is_settled(struct catalog *c, const struct change *ch)
{
	bool last;

	pthread_mutex_lock(&c->lock);
	last = (uint64_t)(uintptr_t)map_get(&c->removing, key_of(ch->id)) == ch->version;
	if (last)
		map_del(&c->removing, key_of(ch->id));
	pthread_mutex_unlock(&c->lock);
	return last;
}

static int sync_locked(struct catalog *c, struct changes *ret_done)
{
	uint64_t upto;
	bool broken;
	int err, sync_failed = 0;

	pthread_mutex_lock(&c->lock);
	broken = c->broken;
	err = commit_locked(c);
	upto = c->wanted;
	*ret_done = c->done;
	c->done = (struct changes){ 0 };
	pthread_mutex_unlock(&c->lock);
	if (!err && !broken && upto > c->synced)
		err = sync_failed = db_sync(c->db);
	if (!err)
		c->synced = upto;
	if (sync_failed) {
		pthread_mutex_lock(&c->lock);
		give_up(c, "fsync failed");
		pthread_mutex_unlock(&c->lock);
	}
	return err;
}

int catalog_sync(struct catalog *c, void (*settled)(void *arg, struct part_id id), void *arg)
{
	struct changes done = { 0 };
	uint64_t mine;
	int err = 0;

	pthread_mutex_lock(&c->lock);
	mine = c->wanted;
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_lock(&c->sync_lock);
	if (c->synced < mine)
		err = sync_locked(c, &done);
	else
		catalog_commit(c); /* new versions of what is listed gather no longer than this */
	pthread_mutex_unlock(&c->sync_lock);
	for (size_t i = 0; !err && i < done.n; i++)
		if (is_settled(c, &done.at[i]))
			settled(arg, done.at[i].id);
	free(done.at);
	return err;
}

void catalog_complete(struct catalog *c)
{
	char text[40];

	snprintf(text, sizeof(text), "PRAGMA user_version = %d", CATALOG_FORMAT);
	pthread_mutex_lock(&c->lock);
	if (commit_locked(c) == 0 && !c->broken)
		db_script(c->db, text, NULL);
	pthread_mutex_unlock(&c->lock);
}

static int open_db(struct catalog *c, bool *ret_empty, struct reason *why)
{
	char fd_path[40], dir[PATH_MAX - 32], path[PATH_MAX];
	uint32_t version = 0;
	ssize_t n;
	int err;

	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", c->dirfd);
	n = readlink(fd_path, dir, sizeof(dir) - 1);
	if (n < 0)
		return reason_set(why, errno, "%s: %s", fd_path, strerror(errno));
	dir[n] = '\0';
	snprintf(path, sizeof(path), "%s/" CATALOG_NAME, dir);
	err = db_open(path, &c->db, why);
	if (!err)
		err = db_version(c->db, &version, why);
	if (!err && version > CATALOG_FORMAT)
		return reason_set(why, EPROTONOSUPPORT, "%s: format %u; this program knows format %d", path, version,
				  CATALOG_FORMAT);
	if (!err)
		err = db_script(c->db, schema, why);
	if (!err)
		err = db_prepare(c->db, sql, Q_END, why);
	*ret_empty = version == 0;
	return err;
}

int catalog_open(int dirfd, struct catalog **ret, bool *ret_empty, struct reason *why)
{
	struct catalog *c = calloc(1, sizeof(*c));
	struct reason detail = { "" };
	int err = c ? 0 : -ENOMEM;

	if (err)
		return reason_set(why, ENOMEM, "no memory");
	c->dirfd = dirfd;
	pthread_mutex_init(&c->sync_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	err = open_db(c, ret_empty, &detail);
	if (err == -EIO) {
		db_close(c->db);
		c->db = NULL;
		give_up(c, detail.text);
		c->broken = false;
		err = open_db(c, ret_empty, &detail);
	}
	if (err) {
		catalog_close(c);
		return reason_set(why, -err, "%s", detail.text);
	}
	*ret = c;
	return 0;
}

void catalog_close(struct catalog *c)
{
	if (!c)
		return;
	db_close(c->db);
	map_fini(&c->removing);
	free(c->open.at);
	free(c->done.at);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->sync_lock);
	free(c);
}
