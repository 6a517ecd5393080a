/* The schema and every statement.  docs/format.md describes the tables.
 *
 * One counter gives inode numbers, object ids and directory cookies, so that none is ever used twice; it is reserved in blocks, so that making a
 * file touches four pages.  `special` marks the entries that are looked up by inode: directories (for paths) and zarr.json. */
#include "meta_int.h"

#include <stdio.h>

static const char schema[] =
	"CREATE TABLE counters(name TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE inodes(ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT "
	"NULL,"
	" nlink INTEGER NOT NULL, rdev INTEGER NOT NULL, size INTEGER NOT NULL, atime INTEGER NOT NULL,"
	" mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, generation INTEGER NOT NULL, flags INTEGER NOT NULL,"
	" parent INTEGER NOT NULL, object INTEGER NOT NULL, partition_bytes INTEGER NOT NULL, layout INTEGER NOT NULL,"
	" epoch INTEGER NOT NULL);"
	"CREATE INDEX inodes_unlinked ON inodes(ino) WHERE nlink = 0;"
	"CREATE TABLE contents(ino INTEGER PRIMARY KEY, bytes BLOB NOT NULL);"
	"CREATE TABLE dirents(parent INTEGER NOT NULL, id INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL,"
	" special INTEGER NOT NULL, PRIMARY KEY(parent, id)) WITHOUT ROWID;"
	"CREATE UNIQUE INDEX dirents_name ON dirents(parent, name);"
	"CREATE INDEX dirents_special ON dirents(ino) WHERE special = 1;"
	"CREATE TABLE xattrs(ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY(ino, name))"
	" WITHOUT ROWID;"
	"CREATE TABLE layouts(id INTEGER PRIMARY KEY, nodes BLOB NOT NULL, replicas INTEGER NOT NULL,"
	" UNIQUE(nodes, replicas));"
	"CREATE TABLE arrays(ino INTEGER PRIMARY KEY, chunk_bytes INTEGER NOT NULL, doc BLOB NOT NULL, npy BLOB NOT "
	"NULL);"
	"CREATE TABLE orphans(object INTEGER PRIMARY KEY, layout INTEGER NOT NULL, epoch INTEGER NOT NULL);"
	"CREATE TABLE nodes(id INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, address BLOB NOT NULL,"
	" run BLOB NOT NULL DEFAULT x'');"
	"CREATE TABLE replies(session BLOB NOT NULL, slot INTEGER NOT NULL, once INTEGER NOT NULL, type INTEGER NOT "
	"NULL, body BLOB NOT NULL, PRIMARY KEY(session, slot)) WITHOUT ROWID;"
	"CREATE TABLE lockers(tenure INTEGER PRIMARY KEY, session BLOB NOT NULL UNIQUE, boot BLOB NOT NULL);"
	"CREATE TABLE locks(ino INTEGER NOT NULL, kind INTEGER NOT NULL, tenure INTEGER NOT NULL, owner INTEGER NOT "
	"NULL,"
	" start INTEGER NOT NULL, end INTEGER NOT NULL, type INTEGER NOT NULL, pid INTEGER NOT NULL, place INTEGER NOT "
	"NULL,"
	" PRIMARY KEY(ino, kind, tenure, owner, start)) WITHOUT ROWID;"
	"INSERT INTO counters VALUES('id', 2);";

/* Whatever changes what the stores are told of arrays marks the array, or a directory above it. */
#define MARK(ino) " BEGIN INSERT OR REPLACE INTO describe VALUES(" ino ", random(), x''); END;"
#define HOLDS_SOMETHING                                                                                                \
	"(EXISTS(SELECT 1 FROM dirents WHERE parent = new.ino) OR EXISTS(SELECT 1 FROM arrays WHERE ino = new.ino))"
static const char *const describe_schema[] = {
	"CREATE TABLE describe(ino INTEGER PRIMARY KEY, mark INTEGER NOT NULL, acked BLOB NOT NULL);",
	"CREATE TRIGGER describe_array AFTER INSERT ON arrays" MARK("new.ino"),
	"CREATE TRIGGER describe_inode AFTER UPDATE ON inodes WHEN new.flags & 2 AND (new.mode <> old.mode OR new.uid "
	"<>"
	" old.uid OR new.gid <> old.gid OR new.flags <> old.flags OR new.object <> old.object OR new.partition_bytes <>"
	" old.partition_bytes)" MARK("new.ino"),
	"CREATE TRIGGER describe_name AFTER INSERT ON dirents WHEN new.special = 1 AND " HOLDS_SOMETHING MARK(
		"new.ino"),
	"CREATE TRIGGER describe_move AFTER UPDATE ON dirents WHEN new.special = 1 AND " HOLDS_SOMETHING MARK(
		"new.ino"),
	"CREATE TRIGGER describe_xattr AFTER INSERT ON xattrs WHEN EXISTS(SELECT 1 FROM arrays WHERE ino = "
	"new.ino)" MARK("new.ino"),
	"CREATE TRIGGER describe_no_xattr AFTER DELETE ON xattrs WHEN EXISTS(SELECT 1 FROM arrays WHERE ino = "
	"old.ino)" MARK("old.ino"),
};

#define INODE_COLUMNS                                                                                                  \
	"i.mode, i.uid, i.gid, i.nlink, i.rdev, i.size, i.atime, i.mtime, i.ctime, i.generation, i.flags, i.parent,"   \
	" i.object, i.partition_bytes, i.layout, i.epoch, i.ino"

const char *const meta_sql[SQL_END] = {
	[SQL_COUNTER_GET] = "SELECT next FROM counters WHERE name = 'id'",
	[SQL_COUNTER_SET] = "UPDATE counters SET next = ? WHERE name = 'id'",
	[SQL_INODE_GET] = "SELECT " INODE_COLUMNS " FROM inodes i WHERE i.ino = ?",
	[SQL_INODE_ADD] =
		"INSERT INTO inodes(mode, uid, gid, nlink, rdev, size, atime, mtime, ctime, generation, flags,"
		" parent, object, partition_bytes, layout, epoch, ino)"
		" VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[SQL_INODE_SET] = "UPDATE inodes SET mode = ?, uid = ?, gid = ?, nlink = ?, rdev = ?, size = ?, atime = ?,"
			  " mtime = ?, ctime = ?, generation = ?, flags = ?, parent = ?, object = ?,"
			  " partition_bytes = ?, layout = ?, epoch = ? WHERE ino = ?",
	[SQL_INODE_DEL] = "DELETE FROM inodes WHERE ino = ?",
	[SQL_INODE_UNLINKED] = "SELECT ino FROM inodes WHERE nlink = 0 AND ino > ? ORDER BY ino LIMIT 1",
	[SQL_CONTENT_GET] = "SELECT bytes FROM contents WHERE ino = ?",
	[SQL_CONTENT_SET] = "INSERT OR REPLACE INTO contents(ino, bytes) VALUES(?, ?)",
	[SQL_CONTENT_DEL] = "DELETE FROM contents WHERE ino = ?",
	[SQL_DIRENT_GET] = "SELECT ino, id FROM dirents WHERE parent = ? AND name = ?",
	[SQL_DIRENT_ADD] = "INSERT INTO dirents(parent, id, name, ino, special) VALUES(?, ?, ?, ?, ?)",
	[SQL_DIRENT_DEL] = "DELETE FROM dirents WHERE parent = ? AND id = ?",
	[SQL_DIRENT_MOVE] = "UPDATE dirents SET ino = ?, special = ? WHERE parent = ? AND id = ?",
	[SQL_DIRENT_ANY] = "SELECT name FROM dirents WHERE parent = ? LIMIT 3",
	[SQL_DIRENT_LIST] = "SELECT d.id, d.name, " INODE_COLUMNS " FROM dirents d JOIN inodes i ON i.ino = d.ino"
			    " WHERE d.parent = ? AND d.id > ? ORDER BY d.id",
	[SQL_DIRENT_OF] = "SELECT parent, name FROM dirents WHERE special = 1 AND ino = ?",
	[SQL_LOOKUP] = "SELECT " INODE_COLUMNS " FROM dirents d JOIN inodes i ON i.ino = d.ino"
		       " WHERE d.parent = ? AND d.name = ?",
	[SQL_XATTR_GET] = "SELECT value FROM xattrs WHERE ino = ? AND name = ?",
	[SQL_XATTR_SET] = "INSERT OR REPLACE INTO xattrs(ino, name, value) VALUES(?, ?, ?)",
	[SQL_XATTR_DEL] = "DELETE FROM xattrs WHERE ino = ? AND name = ?",
	[SQL_XATTR_LIST] = "SELECT name FROM xattrs WHERE ino = ? ORDER BY name",
	[SQL_XATTR_SUM] = "SELECT coalesce(sum(length(name) + 1), 0) FROM xattrs WHERE ino = ?",
	[SQL_XATTR_DROP] = "DELETE FROM xattrs WHERE ino = ?",
	[SQL_LAYOUT_FIND] = "SELECT id FROM layouts WHERE nodes = ? AND replicas = ?",
	[SQL_LAYOUT_ADD] = "INSERT INTO layouts(id, nodes, replicas) VALUES(?, ?, ?)",
	[SQL_LAYOUT_GET] = "SELECT nodes, replicas FROM layouts WHERE id = ?",
	[SQL_ARRAY_GET] = "SELECT chunk_bytes, doc, npy FROM arrays WHERE ino = ?",
	[SQL_ARRAY_SET] = "INSERT OR REPLACE INTO arrays(ino, chunk_bytes, doc, npy) VALUES(?, ?, ?, ?)",
	[SQL_ARRAY_DEL] = "DELETE FROM arrays WHERE ino = ?",
	[SQL_ORPHAN_ADD] = "INSERT OR REPLACE INTO orphans(object, layout, epoch) VALUES(?, ?, ?)",
	[SQL_ORPHAN_LIST] = "SELECT object, layout, epoch FROM orphans WHERE object > ? ORDER BY object LIMIT ?",
	[SQL_ORPHAN_SET] = "UPDATE orphans SET layout = ? WHERE object = ?",
	[SQL_ORPHAN_DEL] = "DELETE FROM orphans WHERE object = ?",
	[SQL_NODE_LIST] = "SELECT id, uuid, address FROM nodes ORDER BY id",
	[SQL_NODE_ADD] = "INSERT INTO nodes(id, uuid, address) VALUES(?, ?, ?)",
	[SQL_NODE_RUN_GET] = "SELECT run FROM nodes WHERE id = ?",
	[SQL_NODE_RUN_SET] = "UPDATE nodes SET run = ? WHERE id = ?",
	[SQL_NODE_ADDRESS] = "UPDATE nodes SET address = ? WHERE id = ?",
	[SQL_REPLY_GET] = "SELECT once, type, body FROM replies WHERE session = ? AND slot = ?",
	[SQL_REPLY_SET] = "INSERT OR REPLACE INTO replies(session, slot, once, type, body) VALUES(?, ?, ?, ?, ?)",
	[SQL_REPLY_DROP] = "DELETE FROM replies WHERE session = ?",
	[SQL_REPLY_SESSIONS] = "SELECT DISTINCT session FROM replies",
	[SQL_NODE_KEEP] = "INSERT OR IGNORE INTO nodes(id, uuid, address) VALUES(?, ?, ?)",
	[SQL_NODE_CLAIM] = "INSERT OR REPLACE INTO nodes(id, uuid, address) VALUES(?, ?, ?)",
	[SQL_REBUILD_GET] = "SELECT next FROM counters WHERE name = 'rebuild'",
	[SQL_REBUILD_END] = "DELETE FROM counters WHERE name = 'rebuild'",
	[SQL_DESCRIBE_COUNT] = "SELECT count(*) FROM describe",
	[SQL_DESCRIBE_NEXT] = "SELECT ino, mark, acked FROM describe WHERE ino > ? ORDER BY ino LIMIT 1",
	[SQL_DESCRIBE_BELOW] = "INSERT OR IGNORE INTO describe SELECT i.ino, random(), x'' FROM dirents d JOIN inodes i"
			       " ON i.ino = d.ino WHERE d.parent = ? AND d.special = 1 AND i.mode & 61440 = 16384",
	[SQL_DESCRIBE_ACKED] = "UPDATE describe SET acked = ? WHERE ino = ? AND mark = ?",
	[SQL_DESCRIBE_DONE] = "DELETE FROM describe WHERE ino = ? AND mark = ?",
	[SQL_XATTR_ALL] = "SELECT name, value FROM xattrs WHERE ino = ? ORDER BY name",
	[SQL_ORPHAN_GET] = "SELECT layout FROM orphans WHERE object = ?",
	[SQL_SCAN_OBJECTS] = "SELECT ino, object, mode FROM inodes WHERE ino > ? ORDER BY ino LIMIT ?",
	[SQL_SCAN_DIRENTS] = "SELECT parent, id, ino, name FROM dirents WHERE (parent, id) > (?, ?) ORDER BY parent, id"
			     " LIMIT ?",
	[SQL_LOCKER_LIST] = "SELECT tenure, session, boot FROM lockers",
	[SQL_LOCKER_ADD] = "INSERT INTO lockers(tenure, session, boot) VALUES(?, ?, ?)",
	[SQL_LOCKER_DEL] = "DELETE FROM lockers WHERE tenure = ?",
	[SQL_LOCK_LIST] = "SELECT ino, kind, tenure, owner, start, end, type, pid, place FROM locks",
	[SQL_LOCK_ADD] = "INSERT OR REPLACE INTO locks(ino, kind, tenure, owner, start, end, type, pid, place)"
			 " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[SQL_LOCK_DEL] = "DELETE FROM locks WHERE ino = ? AND kind = ? AND tenure = ? AND owner = ? AND start = ?",
	[SQL_LOCK_DROP] = "DELETE FROM locks WHERE tenure = ?",
};

/* The root belongs to whoever runs the head, so that a cluster of one's own needs no root.  A head that is made anew begins with numbers that its
 * predecessor cannot have given: by the clock, a million a second. */
static int make_schema(struct meta *m, struct reason *why)
{
	char sql[600], rebuild[160] = "";
	long long now = (long long)time_real_ns();
	int err = db_script(m->db, "BEGIN IMMEDIATE", why);

	if (err)
		return err;
	if (m->d->names == NAMES_REBUILT)
		snprintf(
			rebuild, sizeof(rebuild),
			"UPDATE counters SET next = %lld WHERE name = 'id'; INSERT INTO counters VALUES('rebuild', 1);",
			now / 1000000000 << 20);
	snprintf(sql, sizeof(sql),
		 "INSERT INTO inodes VALUES(%d, %d, %u, %u, 2, 0, 0, %lld, %lld, %lld, 1, 0, %d, 0, 0, 0, 0);"
		 "%s PRAGMA user_version = %d; COMMIT",
		 META_ROOT, S_IFDIR | 0755, geteuid(), getegid(), now, now, now, META_ROOT, rebuild, META_FORMAT);
	err = db_script(m->db, schema, why);
	for (size_t i = 0; !err && i < ARRAY_LEN(describe_schema); i++)
		err = db_script(m->db, describe_schema[i], why);
	return err ? err : db_script(m->db, sql, why);
}

static int check_version(struct meta *m, const char *path, uint32_t version, struct reason *why)
{
	if (version > META_FORMAT)
		return reason_set(why, EPROTONOSUPPORT, "%s: format %u; this program knows format %d", path, version,
				  META_FORMAT);
	if (version && m->d->names == NAMES_REBUILT)
		return reason_set(why, EEXIST, "%.200s holds names; move it away before --rebuild", path);
	if (!version && m->d->names == NAMES_MUST_BE_THERE)
		return reason_set(
			why, ENOENT,
			"%.150s is lost: put a copy back, or start with --rebuild and run slabctl fsck --rebuild",
			path);
	return 0;
}

int meta_open_db(struct meta *m, const char *path, struct reason *why)
{
	uint32_t version;
	int err = db_open(path, &m->db, why);

	if (!err)
		err = db_version(m->db, &version, why);
	if (!err)
		err = check_version(m, path, version, why);
	if (!err && version == 0)
		err = make_schema(m, why);
	return err ? err : db_prepare(m->db, meta_sql, SQL_END, why);
}
