/* The connection holds the file alone (locking_mode=EXCLUSIVE), so that the index of the write-ahead log lives in its heap and a
 * read costs no system call.  The log is copied back only when it has grown to WAL_PAGES, because each copy costs two fsyncs. */
#include "db.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>

#include "log.h"

#define WAL_PAGES 16384
#define CACHE_KIB "131072"

struct db {
	sqlite3 *handle;
	sqlite3_stmt **statements;
	unsigned *busy; /* the statements that have a row out */
	size_t n_statements, n_busy;
	sqlite3_stmt *begin, *commit, *rollback;
	char path[PATH_MAX];
	int wal_fd;
	atomic_bool failed; /* an fsync did: what the log holds is not known any more */
};

static int db_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	default:
		return -EIO;
	}
}

static int db_failed(struct db *db, int rc)
{
	log_error("%s: %s", db->path, sqlite3_errmsg(db->handle));
	return db_errno(rc);
}

const char *db_error(struct db *db)
{
	return sqlite3_errmsg(db->handle);
}

int db_script(struct db *db, const char *sql, struct reason *why)
{
	int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

	if (rc != SQLITE_OK)
		return reason_set(why, -db_errno(rc), "%s: %s", db->path, sqlite3_errmsg(db->handle));
	return 0;
}

static int db_prepare_one(struct db *db, const char *sql, sqlite3_stmt **ret, struct reason *why)
{
	int rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);

	if (rc != SQLITE_OK)
		return reason_set(why, -db_errno(rc), "%s: %s in \"%.80s\"", db->path, sqlite3_errmsg(db->handle), sql);
	return 0;
}

/* The kernel reports a failed write once, and takes the pages for written: a later fsync would promise what is not there.  So nothing is
 * changed or promised any more; the next start takes from the log what is whole in it. */
static int db_fail(struct db *db, const char *what)
{
	if (!atomic_exchange(&db->failed, true))
		log_error("%s: %s failed: no more changes until the daemon is started anew", db->path, what);
	return -EIO;
}

/* SQLite's own hook takes no notice of a failure. */
static int on_commit(void *arg, sqlite3 *handle, const char *name, int n_pages)
{
	struct db *db = arg;
	int rc = n_pages < WAL_PAGES ? SQLITE_OK
				     : sqlite3_wal_checkpoint_v2(handle, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	if ((rc & 0xff) == SQLITE_IOERR)
		db_fail(db, "copying back the log");
	return SQLITE_OK;
}

/* What a run before could not make durable is written once more, into the database itself. */
static int db_settle(struct db *db, struct reason *why)
{
	int rc = sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

	if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_FULL)
		return reason_set(why, -db_errno(rc), "%s: %s", db->path, sqlite3_errmsg(db->handle));
	sqlite3_wal_hook(db->handle, on_commit, db);
	return 0;
}

int db_open(const char *path, struct db **ret, struct reason *why)
{
	struct db *db = calloc(1, sizeof(*db));
	int rc, err;

	if (!db)
		return reason_set(why, ENOMEM, "%s: out of memory", path);
	db->wal_fd = -1;
	snprintf(db->path, sizeof(db->path), "%s", path);
	rc = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK)
		err = reason_set(why, -db_errno(rc), "%s: %s", path,
				 db->handle ? sqlite3_errmsg(db->handle) : "out of memory");
	else
		err = db_script(db,
				"PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
				"PRAGMA cache_size=-" CACHE_KIB "; PRAGMA temp_store=MEMORY;",
				why);
	if (!err)
		err = db_settle(db, why);
	if (!err)
		err = db_prepare_one(db, "BEGIN IMMEDIATE", &db->begin, why);
	if (!err)
		err = db_prepare_one(db, "COMMIT", &db->commit, why);
	if (!err)
		err = db_prepare_one(db, "ROLLBACK", &db->rollback, why);
	if (err) {
		db_close(db);
		return err;
	}
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->n_statements; i++)
		sqlite3_finalize(db->statements[i]);
	sqlite3_finalize(db->begin);
	sqlite3_finalize(db->commit);
	sqlite3_finalize(db->rollback);
	sqlite3_close(db->handle);
	if (db->wal_fd >= 0)
		close(db->wal_fd);
	free(db->statements);
	free(db->busy);
	free(db);
}

/* SQLite makes the log when the database is first read; the directory must know of it before an fsync of it means something. */
static int db_open_wal(struct db *db, struct reason *why)
{
	char path[PATH_MAX + 8];
	AUTO_CLOSE int dir = -1;

	snprintf(path, sizeof(path), "%s-wal", db->path);
	db->wal_fd = open(path, O_RDWR | O_CLOEXEC);
	if (db->wal_fd < 0)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	*strrchr(path, '/') = '\0';
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(dir) < 0)
		return reason_set(why, errno, "%s: fsync: %s", path, strerror(errno));
	return 0;
}

int db_prepare(struct db *db, const char *const sql[], size_t n, struct reason *why)
{
	db->statements = calloc(n, sizeof(*db->statements));
	db->busy = calloc(n, sizeof(*db->busy));
	if (!db->statements || !db->busy)
		return reason_set(why, ENOMEM, "%s: out of memory", db->path);
	db->n_statements = n;
	for (size_t i = 0; i < n; i++) {
		int err = db_prepare_one(db, sql[i], &db->statements[i], why);
		if (err)
			return err;
	}
	return db_open_wal(db, why);
}

int db_version(struct db *db, uint32_t *ret, struct reason *why)
{
	sqlite3_stmt *s;
	int err = db_prepare_one(db, "PRAGMA user_version", &s, why);

	if (err)
		return err;
	if (sqlite3_step(s) == SQLITE_ROW)
		*ret = (uint32_t)sqlite3_column_int64(s, 0);
	else
		err = reason_set(why, EIO, "%s: %s", db->path, sqlite3_errmsg(db->handle));
	sqlite3_finalize(s);
	return err;
}

int db_each(struct db *db, const char *sql, int (*fn)(void *arg, const char *text, uint64_t number), void *arg)
{
	sqlite3_stmt *s;
	int rc, err = 0;

	if (sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL) != SQLITE_OK)
		return db_failed(db, sqlite3_errcode(db->handle));
	while (!err && (rc = sqlite3_step(s)) == SQLITE_ROW)
		err = fn(arg, (const char *)sqlite3_column_text(s, 0), (uint64_t)sqlite3_column_int64(s, 1));
	if (!err && rc != SQLITE_DONE)
		err = db_failed(db, rc);
	sqlite3_finalize(s);
	return err;
}

static int db_step(struct db *db, unsigned q)
{
	sqlite3_stmt *s = db->statements[q];
	int rc = sqlite3_step(s);

	if (rc == SQLITE_ROW)
		return 1;
	sqlite3_reset(s);
	return rc == SQLITE_DONE ? 0 : db_failed(db, rc);
}

int db_query(struct db *db, unsigned q, const struct db_value *values, size_t n)
{
	sqlite3_stmt *s = db->statements[q];
	int rc;

	assert((size_t)sqlite3_bind_parameter_count(s) == n);
	sqlite3_reset(s);
	for (size_t i = 0; i < n; i++) {
		if (values[i].bytes)
			rc = sqlite3_bind_blob64(s, (int)i + 1, values[i].bytes, values[i].n, SQLITE_STATIC);
		else
			rc = sqlite3_bind_int64(s, (int)i + 1, (sqlite3_int64)values[i].n);
		if (rc != SQLITE_OK)
			return db_failed(db, rc);
	}
	rc = db_step(db, q);
	if (rc == 1) {
		size_t i = 0;
		while (i < db->n_busy && db->busy[i] != q)
			i++;
		if (i == db->n_busy)
			db->busy[db->n_busy++] = q;
	}
	return rc;
}

int db_next(struct db *db, unsigned q)
{
	return db_step(db, q);
}

uint64_t db_u64(struct db *db, unsigned q, int column)
{
	return (uint64_t)sqlite3_column_int64(db->statements[q], column);
}

const void *db_blob(struct db *db, unsigned q, int column, size_t *ret_len)
{
	const void *bytes = sqlite3_column_blob(db->statements[q], column);

	*ret_len = (size_t)sqlite3_column_bytes(db->statements[q], column);
	return bytes ? bytes : "";
}

void db_done(struct db *db)
{
	for (size_t i = 0; i < db->n_busy; i++)
		sqlite3_reset(db->statements[db->busy[i]]);
	db->n_busy = 0;
}

static int db_control(struct db *db, sqlite3_stmt *s)
{
	int rc = sqlite3_step(s);

	sqlite3_reset(s);
	return rc == SQLITE_DONE ? 0 : db_failed(db, rc);
}

int db_begin(struct db *db)
{
	if (atomic_load(&db->failed))
		return -EIO;
	return db_control(db, db->begin);
}

int db_commit(struct db *db)
{
	int err;

	db_done(db);
	err = db_control(db, db->commit);
	if (err)
		db_rollback(db);
	return err;
}

void db_rollback(struct db *db)
{
	db_done(db);
	/* SQLite has rolled back by itself after some errors. */
	if (!sqlite3_get_autocommit(db->handle))
		db_control(db, db->rollback);
}

int db_sync(struct db *db)
{
	if (atomic_load(&db->failed))
		return -EIO;
	return fdatasync(db->wal_fd) < 0 ? db_fail(db, "fsync of the log") : 0;
}
