#include "meta_orphans.h"

#include "meta_int.h"

static int list_locked(struct meta *m, uint64_t after, size_t max, struct orphan *ret, size_t *ret_n)
{
	int rc = db_run(m->db, SQL_ORPHAN_LIST, db_int(after), db_int(max));
	size_t n = 0;

	for (; rc == 1 && n < max; rc = db_next(m->db, SQL_ORPHAN_LIST), n++) {
		struct orphan *o = &ret[n];
		int err;
		o->object = db_u64(m->db, SQL_ORPHAN_LIST, 0);
		o->epoch = (uint32_t)db_u64(m->db, SQL_ORPHAN_LIST, 2);
		err = layout_nodes(m, db_u64(m->db, SQL_ORPHAN_LIST, 1), o->nodes, &o->n_nodes);
		if (err)
			return err;
	}
	*ret_n = n;
	return rc < 0 ? rc : 0;
}

int meta_orphans(struct meta *m, uint64_t after, size_t max, struct orphan *ret, size_t *ret_n)
{
	int err;

	pthread_mutex_lock(&m->lock);
	err = list_locked(m, after, max, ret, ret_n);
	db_done(m->db);
	pthread_mutex_unlock(&m->lock);
	return err || !*ret_n ? err : meta_sync(m);
}

static int update_one(struct meta *m, const struct orphan *o)
{
	uint64_t layout;
	int err;

	if (!o->n_nodes)
		return db_run(m->db, SQL_ORPHAN_DEL, db_int(o->object));
	err = layout_intern(m, o->nodes, o->n_nodes, &layout);
	return err ? err : db_run(m->db, SQL_ORPHAN_SET, db_int(layout), db_int(o->object));
}

int meta_orphans_update(struct meta *m, const struct orphan *orphans, size_t n)
{
	int err = meta_begin(m);

	if (err)
		return err;
	/* A new layout takes an id, of which a transaction has only so many; few nodes are down at once, so layouts repeat. */
	for (size_t i = 0; !err && i < n; i++)
		err = update_one(m, &orphans[i]);
	err = meta_end(m, err);
	if (!err)
		meta_reserve_take(m); /* their bytes are free */
	return err;
}
