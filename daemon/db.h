/* db.h - SQLite, as little of it as the metadata needs: one connection, a table of prepared statements, transactions.
 *
 * Not thread-safe but for db_sync: the owner's lock guards it.  A statement is named by its index in the table given to
 * db_prepare, and may be run again only when its rows have been read or are no longer wanted.
 * Errors are -ENOSPC, -ENOMEM, -EBUSY, and -EIO for whatever else SQLite says (db_error has its words).
 */
#ifndef SLABFSD_DB_H
#define SLABFSD_DB_H

#include "base.h"

struct db;

/* Makes the file when it is missing.  The connection locks it for itself; -EBUSY: another process has it. */
int db_open(const char *path, struct db **ret, struct reason *why);
void db_close(struct db *db); /* NULL is fine */
int db_script(struct db *db, const char *sql, struct reason *why);
int db_prepare(struct db *db, const char *const sql[], size_t n, struct reason *why);
const char *db_error(struct db *db);

/* Runs one statement without parameters and calls fn with the text (or NULL) and the number in its first two columns, until one is not 0. */
int db_each(struct db *db, const char *sql, int (*fn)(void *arg, const char *text, uint64_t number), void *arg);
int db_version(struct db *db, uint32_t *ret, struct reason *why); /* PRAGMA user_version */

struct db_value {
	const void *bytes; /* NULL: a number */
	uint64_t n;        /* the number, or the length */
};
static inline struct db_value db_int(uint64_t v)
{
	return (struct db_value){ NULL, v };
}
static inline struct db_value db_bytes(const void *bytes, size_t len)
{
	return (struct db_value){ len ? bytes : "", len };
}

/* Binds and makes the first step: 1: there is a row, 0: none (left), -errno.  The bytes must live until the row is read. */
int db_query(struct db *db, unsigned q, const struct db_value *values, size_t n);
#define db_run(db, q, ...)                                                                                             \
	db_query(db, q, (const struct db_value[]){ __VA_ARGS__ },                                                      \
		 sizeof((const struct db_value[]){ __VA_ARGS__ }) / sizeof(struct db_value))
int db_next(struct db *db, unsigned q);
uint64_t db_u64(struct db *db, unsigned q, int column);
const void *db_blob(struct db *db, unsigned q, int column, size_t *ret_len); /* until the next step; never NULL */
void db_done(struct db *db); /* ends all statements whose rows were not read to the end */

int db_begin(struct db *db);
int db_commit(struct db *db); /* on failure everything is rolled back */
void db_rollback(struct db *db);

/* Makes what was committed before durable.  Any thread, without the owner's lock. */
int db_sync(struct db *db);

#endif
