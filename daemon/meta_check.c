/* CHECK_NAMES: the tables against each other.  Each check is a query that finds what is wrong, and a statement that mends it; the order matters, for
 * what one of them takes away the next may find missing.  Names wait meanwhile. */
#include "meta_int.h"

#include <stdio.h>

#include "log.h"

#define IS_DIR(m) m " & 61440 = 16384"
#define REACHED                                                                                                        \
	"WITH RECURSIVE reached(ino) AS (SELECT 1 UNION SELECT d.ino FROM reached r JOIN dirents d ON d.parent = "     \
	"r.ino)"

struct check {
	const char *what; /* is wrong with the inode, printed with its path */
	const char *find; /* a text (a name), or NULL; the inode that it is about, or 0 */
	const char *mend; /* NULL: it cannot be */
};

static const struct check checks[] = {
	{ "a name in a directory that is none",
	  "SELECT CAST(name AS TEXT), parent FROM dirents WHERE parent NOT IN (SELECT ino FROM inodes WHERE " IS_DIR(
		  "mode") ")",
	  "DELETE FROM dirents WHERE parent NOT IN (SELECT ino FROM inodes WHERE " IS_DIR("mode") ")" },
	{ "a name of nothing",
	  "SELECT CAST(name AS TEXT), parent FROM dirents WHERE ino NOT IN (SELECT ino FROM inodes)",
	  "DELETE FROM dirents WHERE ino NOT IN (SELECT ino FROM inodes)" },
	{ "a directory with two names",
	  "SELECT NULL, i.ino FROM inodes i WHERE " IS_DIR(
		  "i.mode") " AND (SELECT count(*) FROM dirents WHERE special = 1"
			    " AND ino = i.ino) > 1",
	  NULL },
	{ "an array without its record",
	  "SELECT NULL, ino FROM inodes WHERE flags & 2 AND ino NOT IN (SELECT ino FROM arrays)",
	  "UPDATE inodes SET flags = flags & ~14, object = 0, layout = 0, epoch = 0 WHERE flags & 2 AND ino NOT IN "
	  "(SELECT"
	  " ino FROM arrays)" },
	{ "a record of an array that is none",
	  "SELECT NULL, ino FROM arrays WHERE ino NOT IN (SELECT ino FROM inodes WHERE flags & 2)",
	  "DELETE FROM arrays WHERE ino NOT IN (SELECT ino FROM inodes WHERE flags & 2)" },
	{ "a placement that is lost",
	  "SELECT NULL, ino FROM inodes WHERE object <> 0 AND layout NOT IN (SELECT id FROM layouts WHERE "
	  "length(nodes) > 0"
	  " AND length(nodes) % 4 = 0 AND length(nodes) <= 512)",
	  "UPDATE inodes SET object = 0, layout = 0, flags = flags & ~14 WHERE flags & 2 AND object <> 0 AND layout "
	  "NOT IN"
	  " (SELECT id FROM layouts WHERE length(nodes) > 0 AND length(nodes) % 4 = 0 AND length(nodes) <= 512)" },
	{ "an object that two share",
	  "SELECT NULL, max(ino) FROM inodes WHERE object <> 0 GROUP BY object HAVING count(*) > 1", NULL },
	{ "an object that is being dropped, and has a name",
	  "SELECT NULL, i.ino FROM inodes i JOIN orphans o ON o.object = i.object WHERE i.object <> 0",
	  "DELETE FROM orphans WHERE object IN (SELECT object FROM inodes WHERE object <> 0)" },
	{ "an object that is being dropped, of a placement that is lost",
	  "SELECT 'object ' || object, 0 FROM orphans WHERE layout NOT IN (SELECT id FROM layouts)",
	  "DELETE FROM orphans WHERE layout NOT IN (SELECT id FROM layouts)" },
	{ "an attribute of nothing", "SELECT NULL, ino FROM xattrs WHERE ino NOT IN (SELECT ino FROM inodes)",
	  "DELETE FROM xattrs WHERE ino NOT IN (SELECT ino FROM inodes)" },
	{ "contents of nothing", "SELECT NULL, ino FROM contents WHERE ino NOT IN (SELECT ino FROM inodes)",
	  "DELETE FROM contents WHERE ino NOT IN (SELECT ino FROM inodes)" },
};

/* After the unreachable have got their names. */
static const struct check counts[] = {
	{ "its parent is another",
	  "SELECT NULL, i.ino FROM inodes i JOIN dirents d ON d.special = 1 AND d.ino = i.ino WHERE " IS_DIR(
		  "i.mode") " AND i.parent <> d.parent",
	  "UPDATE inodes SET parent = (SELECT parent FROM dirents WHERE special = 1 AND dirents.ino = inodes.ino LIMIT "
	  "1)"
	  " WHERE ino <> 1 AND " IS_DIR("mode") " AND EXISTS(SELECT 1 FROM dirents WHERE special = 1 AND dirents.ino ="
						" inodes.ino AND dirents.parent <> inodes.parent)" },
	{ "its number of links is wrong (a directory)",
	  "SELECT NULL, i.ino FROM inodes i WHERE nlink > 0 AND " IS_DIR(
		  "mode") " AND nlink <> 2 + (SELECT count(*) FROM"
			  " dirents d JOIN inodes c ON c.ino = d.ino WHERE d.parent = i.ino AND " IS_DIR("c.mode") ")",
	  "UPDATE inodes SET nlink = 2 + (SELECT count(*) FROM dirents d JOIN inodes c ON c.ino = d.ino WHERE d.parent "
	  "="
	  " inodes.ino AND " IS_DIR("c.mode") ") WHERE nlink > 0 AND " IS_DIR("mode") },
	{ "its number of links is wrong",
	  "SELECT NULL, i.ino FROM inodes i LEFT JOIN (SELECT ino, count(*) AS n FROM dirents GROUP BY ino) d ON d.ino "
	  "="
	  " i.ino WHERE NOT (" IS_DIR("i.mode") ") AND i.nlink <> coalesce(d.n, 0)",
	  "WITH named(ino, n) AS MATERIALIZED (SELECT ino, count(*) FROM dirents GROUP BY ino) UPDATE inodes SET nlink "
	  "="
	  " coalesce((SELECT n FROM named WHERE named.ino = inodes.ino), 0) WHERE NOT (" IS_DIR("mode") ")" },
	{ "a number that would be given again",
	  "SELECT 'next ' || next, 0 FROM counters WHERE name = 'id' AND next <= (SELECT max(max(ino), max(object),"
	  " (SELECT coalesce(max(id), 0) FROM dirents), (SELECT coalesce(max(id), 0) FROM layouts), (SELECT"
	  " coalesce(max(object), 0) FROM orphans)) FROM inodes)",
	  NULL },
};

struct report {
	struct meta *m;
	FILE *out;
	const char *what;
	bool mended;
	size_t n;
};

#define FINDINGS_MAX 10000 /* lines; the reply has an end */

static int note(void *arg, const char *text, uint64_t ino)
{
	struct report *r = arg;
	char path[600] = "";

	if (++r->n > FINDINGS_MAX)
		return 0;
	if (ino)
		meta_path(r->m, ino, path, sizeof(path));
	db_done(r->m->db);
	fprintf(r->out, "%s%s%s%s: %s", path, ino == META_ROOT ? "/" : "", text && ino > META_ROOT ? "/" : "",
		text ? text : "", r->what);
	if (ino)
		fprintf(r->out, " (inode %llu)", (unsigned long long)ino);
	fprintf(r->out, "%s\n", r->mended ? "; mended" : "");
	return 0;
}

static int run(struct report *r, const struct check *list, size_t n, bool repair)
{
	struct reason why;
	int err = 0;

	for (size_t i = 0; !err && i < n; i++) {
		size_t before = r->n;
		r->what = list[i].what;
		r->mended = repair && list[i].mend;
		err = db_each(r->m->db, list[i].find, note, r);
		if (!err && r->n > before && r->mended)
			err = db_script(r->m->db, list[i].mend, &why);
	}
	return err;
}

static int note_broken(void *arg, const char *text, uint64_t number)
{
	struct report *r = arg;

	(void)number;
	if (text && strcmp(text, "ok") != 0 && ++r->n <= FINDINGS_MAX)
		fprintf(r->out, "meta.db: %s\n", text);
	return 0;
}

/* ---- what no path leads to ---- */

static int take_number(void *arg, const char *text, uint64_t number)
{
	(void)text;
	*(uint64_t *)arg = number;
	return 1;
}

/* The next to get a name: one without any; or, in a ring of directories, any of it.  0: all are reached. */
static int next_unreached(struct meta *m, uint64_t *ret)
{
	static const char *const sql[] = {
		REACHED
		" SELECT NULL, ino FROM inodes WHERE nlink > 0 AND ino NOT IN reached AND ino NOT IN (SELECT ino FROM"
		" dirents) LIMIT 1",
		REACHED
		" SELECT NULL, ino FROM inodes WHERE nlink > 0 AND ino NOT IN reached AND " IS_DIR("mode") " LIMIT 1",
	};
	int err = 0;

	*ret = 0;
	for (size_t i = 0; !err && !*ret && i < ARRAY_LEN(sql); i++)
		err = db_each(m->db, sql[i], take_number, ret);
	return err < 0 ? err : 0;
}

static int name_it(struct meta_op *op, uint64_t ino)
{
	struct inode dir, in;
	char name[32];
	int err = meta_lost_found(op, &dir);

	if (!err)
		err = inode_get(op->m, ino, &in);
	if (err)
		return err;
	snprintf(name, sizeof(name), "inode-%llu", (unsigned long long)ino);
	if (S_ISDIR(in.mode)) { /* out of the ring */
		uint64_t parent = dir.ino;
		char sql[100];
		snprintf(sql, sizeof(sql), "DELETE FROM dirents WHERE ino = %llu", (unsigned long long)ino);
		err = db_script(op->m->db, sql, op->why);
		in.parent = parent;
		dir.nlink++;
	}
	if (!err)
		err = dirent_add(op->m, dir.ino, (struct meta_name){ name, strlen(name) }, &in);
	if (!err)
		err = inode_set(op->m, &in);
	return err ? err : inode_set(op->m, &dir);
}

static int report_unreached(struct report *r)
{
	r->what = "no name leads to it";
	return db_each(r->m->db, REACHED " SELECT NULL, ino FROM inodes WHERE nlink > 0 AND ino NOT IN reached", note,
		       r);
}

#define MEND_MAX 60 /* in one transaction, which has only so many numbers to give */

/* *ret_more: there are others. */
static int name_some(struct meta_op *op, bool *ret_more)
{
	uint64_t ino = 0;
	int err = 0;

	for (unsigned i = 0; !err && i < MEND_MAX; i++) {
		op->changes.n = 0;
		err = next_unreached(op->m, &ino);
		if (err || !ino)
			break;
		err = name_it(op, ino);
	}
	*ret_more = ino != 0;
	return err;
}

static int check(struct meta_op *op, struct report *r, bool repair)
{
	bool more = repair;
	int err = meta_begin(r->m);

	if (err)
		return err;
	err = db_each(r->m->db, "PRAGMA integrity_check(100)", note_broken, r);
	if (!err)
		err = run(r, checks, ARRAY_LEN(checks), repair);
	r->mended = repair;
	if (!err)
		err = report_unreached(r);
	err = meta_end(r->m, err);
	while (!err && more) {
		err = meta_begin(r->m);
		if (!err)
			err = meta_end(r->m, name_some(op, &more));
	}
	if (!err)
		err = meta_begin(r->m);
	return err ? err : meta_end(r->m, run(r, counts, ARRAY_LEN(counts), repair));
}

int meta_op_check_names(struct meta_op *op)
{
	const struct wire_check_names *body = op->body;
	struct report r = { .m = op->m };
	bool repair = le32_get(body->flags) & WIRE_CHECK_REPAIR;
	char *text = NULL;
	size_t len = 0;
	int err;

	if (le32_get(body->flags) & ~(uint32_t)WIRE_CHECK_REPAIR || le32_get(body->reserved))
		return reason_set(op->why, EINVAL, "CHECK_NAMES: flags 0x%x", le32_get(body->flags));
	r.out = open_memstream(&text, &len);
	if (!r.out)
		return -ENOMEM;
	err = check(op, &r, repair);
	if (r.n > FINDINGS_MAX)
		fprintf(r.out, "%zu more\n", r.n - FINDINGS_MAX);
	fclose(r.out);
	op->reply_payload = (uint8_t *)text;
	op->reply_payload_bytes = MIN(len, WIRE_TEXT_MAX);
	if (!err && repair && r.n)
		log_warn("the names were checked: %zu findings", r.n);
	return err ? err : repair ? meta_sync(op->m) : 0;
}
