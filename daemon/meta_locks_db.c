#include "meta_locks.h"

#include <fcntl.h>
#include <stdlib.h>

#include "log.h"

#define DROP_NOW 1 /* a lock_client.drop_ns that is long over */

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

int locks_apply(struct meta *m, uint64_t ino, const struct lock *want)
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
