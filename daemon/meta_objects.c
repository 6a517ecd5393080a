/* OBJECT_PATHS: which names belong to objects that a store holds.  No index leads from an object to its inode, nor from a file to its names, for
 * only checks want to know: the tables are read from end to end, in pieces, so that others get their turn. */
#include "meta_int.h"

#include <stdio.h>

#define PIECE 8192 /* rows read at a time */

struct found {
	uint64_t object, ino;
	uint32_t state;
	bool is_dir;
	char *path;
};

struct paths {
	struct found *at;
	size_t n;
	bool states_only;
	struct map by_object, by_ino; /* -> struct found */
};

static void paths_fini(struct paths *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->at[i].path);
	free(p->at);
	map_fini(&p->by_object);
	map_fini(&p->by_ino);
}

static int paths_init(struct meta_op *op, struct paths *p)
{
	const struct wire_object_paths *body = op->body;
	const struct le64 *objects = (const void *)op->payload;
	int err = 0;

	p->n = op->payload_bytes / sizeof(*objects);
	p->states_only = le32_get(body->flags) & WIRE_PATHS_STATES;
	if (op->payload_bytes % sizeof(*objects) || p->n > (p->states_only ? WIRE_STATES_MAX : WIRE_OBJECTS_MAX) ||
	    le32_get(body->flags) & ~(uint32_t)WIRE_PATHS_STATES || le32_get(body->reserved))
		return reason_set(op->why, EINVAL, "OBJECT_PATHS: not a list of numbers");
	p->at = calloc(p->n + 1, sizeof(*p->at));
	if (!p->at)
		return -ENOMEM;
	for (size_t i = 0; !err && i < p->n; i++) {
		p->at[i].object = le64_get(objects[i]);
		err = map_put(&p->by_object, p->at[i].object, &p->at[i]);
	}
	return err;
}

/* One piece of the inodes; *after: the last one seen.  1: there are more. */
static int scan_inodes(struct meta *m, struct paths *p, uint64_t *after)
{
	size_t n = 0;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = db_run(m->db, SQL_SCAN_OBJECTS, db_int(*after), db_int(PIECE));
	for (; rc == 1; rc = db_next(m->db, SQL_SCAN_OBJECTS), n++) {
		struct found *f = map_get(&p->by_object, db_u64(m->db, SQL_SCAN_OBJECTS, 1));
		*after = db_u64(m->db, SQL_SCAN_OBJECTS, 0);
		if (!f || !f->object)
			continue;
		f->ino = *after;
		f->state = WIRE_OBJECT_NAMED;
		f->is_dir = S_ISDIR((mode_t)db_u64(m->db, SQL_SCAN_OBJECTS, 2));
		rc = map_put(&p->by_ino, f->ino, f);
		if (rc < 0)
			break;
	}
	db_done(m->db);
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? rc : n == PIECE;
}

static void set_path(struct meta *m, struct found *f, uint64_t dir, const void *name, size_t len)
{
	char path[600];

	meta_path(m, dir, path, sizeof(path));
	if (!f->path && asprintf(&f->path, "%s%s%.*s", path, len ? "/" : "", (int)len, (const char *)name) < 0)
		f->path = NULL;
}

struct name {
	struct found *of;
	uint64_t parent;
	size_t len;
	char text[SLAB_NAME_MAX];
};

/* One piece of the names, likewise.  meta_path uses statements of its own. */
static int scan_names(struct meta *m, struct paths *p, uint64_t *parent, uint64_t *id)
{
	AUTO_FREE struct name *names = calloc(p->n, sizeof(*names));
	size_t n = 0, n_names = 0;
	int rc = names ? 0 : -ENOMEM;

	pthread_mutex_lock(&m->lock);
	if (!rc)
		rc = db_run(m->db, SQL_SCAN_DIRENTS, db_int(*parent), db_int(*id), db_int(PIECE));
	for (; rc == 1; rc = db_next(m->db, SQL_SCAN_DIRENTS), n++) {
		struct found *f = map_get(&p->by_ino, db_u64(m->db, SQL_SCAN_DIRENTS, 2));
		*parent = db_u64(m->db, SQL_SCAN_DIRENTS, 0);
		*id = db_u64(m->db, SQL_SCAN_DIRENTS, 1);
		if (!f || f->is_dir || f->path || n_names == p->n)
			continue;
		struct name *to = &names[n_names++];
		const void *text = db_blob(m->db, SQL_SCAN_DIRENTS, 3, &to->len);
		to->len = MIN(to->len, sizeof(to->text));
		memcpy(to->text, text, to->len);
		to->of = f;
		to->parent = *parent;
	}
	db_done(m->db);
	for (size_t i = 0; i < n_names; i++)
		set_path(m, names[i].of, names[i].parent, names[i].text, names[i].len);
	db_done(m->db);
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? rc : n == PIECE;
}

static int find_all(struct meta *m, struct paths *p)
{
	uint64_t after = 0, parent = 0, id = 0;
	int rc = 1;

	while (rc == 1)
		rc = scan_inodes(m, p, &after);
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < p->n; i++) {
		struct found *f = &p->at[i];
		if (f->state == WIRE_OBJECT_NAMED && f->is_dir && !p->states_only)
			set_path(m, f, f->ino, "", 0);
		else if (!f->state && db_run(m->db, SQL_ORPHAN_GET, db_int(f->object)) == 1)
			f->state = WIRE_OBJECT_DROPPED;
		db_done(m->db);
	}
	pthread_mutex_unlock(&m->lock);
	for (rc = rc < 0 ? rc : map_count(&p->by_ino) > 0 && !p->states_only; rc == 1;)
		rc = scan_names(m, p, &parent, &id);
	return rc;
}

static int make_reply(struct meta_op *op, const struct paths *p)
{
	size_t len = 0;
	uint8_t *at;

	for (size_t i = 0; i < p->n; i++)
		len += sizeof(struct wire_object_path) + (p->at[i].path ? strlen(p->at[i].path) : 0);
	op->reply_payload = at = malloc(len + 1);
	if (!at)
		return -ENOMEM;
	op->reply_payload_bytes = len;
	for (size_t i = 0; i < p->n; i++) {
		const struct found *f = &p->at[i];
		size_t n = f->path ? strlen(f->path) : 0;
		struct wire_object_path one = { le64_of(f->object), le64_of(f->ino), le32_of(f->state),
						le32_of((uint32_t)n) };
		memcpy(at, &one, sizeof(one));
		memcpy(at + sizeof(one), f->path ? f->path : "", n);
		at += sizeof(one) + n;
	}
	return 0;
}

int meta_op_object_paths(struct meta_op *op)
{
	struct paths p = { 0 };
	int err = paths_init(op, &p);

	if (!err && p.n)
		err = find_all(op->m, &p);
	if (!err)
		err = make_reply(op, &p);
	paths_fini(&p);
	return err;
}
