/* The table of nodes. */
#include "meta_int.h"

#include <stdio.h>

static void node_row(struct meta *m, struct wire_node *ret)
{
	const void *blob;
	size_t len;

	*ret = (struct wire_node){ .node_id = le32_of((uint32_t)db_u64(m->db, SQL_NODE_LIST, 0)) };
	blob = db_blob(m->db, SQL_NODE_LIST, 1, &len);
	memcpy(&ret->node, blob, MIN(len, sizeof(ret->node)));
	blob = db_blob(m->db, SQL_NODE_LIST, 2, &len);
	memcpy(ret->address, blob, MIN(len, sizeof(ret->address) - 1));
}

static int nodes_locked(struct meta *m, struct wire_node *ret, size_t *ret_n)
{
	int rc = db_query(m->db, SQL_NODE_LIST, NULL, 0);
	size_t n = 0;

	for (; rc == 1 && n < SLAB_NODES_MAX; rc = db_next(m->db, SQL_NODE_LIST))
		node_row(m, &ret[n++]);
	db_done(m->db);
	*ret_n = n;
	return rc < 0 ? rc : 0;
}

int meta_nodes(struct meta *m, struct wire_node **ret, size_t *ret_n)
{
	struct wire_node *nodes = calloc(SLAB_NODES_MAX, sizeof(*nodes));
	int err;

	if (!nodes)
		return -ENOMEM;
	pthread_mutex_lock(&m->lock);
	err = nodes_locked(m, nodes, ret_n);
	pthread_mutex_unlock(&m->lock);
	if (err)
		free(nodes);
	else
		*ret = nodes;
	return err;
}

/* Ids are not used twice: partitions on a store that comes back would be taken for another node's. */
static int add_locked(struct meta *m, const struct uuid *node, const char *address, uint32_t *ret_id,
		      struct reason *why)
{
	AUTO_FREE struct wire_node *nodes = calloc(SLAB_NODES_MAX, sizeof(*nodes));
	uint32_t id = 0;
	size_t n;
	int err = nodes ? nodes_locked(m, nodes, &n) : -ENOMEM;

	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		if (uuid_equal(&nodes[i].node, node)) {
			*ret_id = le32_get(nodes[i].node_id);
			return db_run(m->db, SQL_NODE_ADDRESS, db_bytes(address, strlen(address)), db_int(*ret_id));
		}
		id = MAX(id, le32_get(nodes[i].node_id));
	}
	if (++id > SLAB_NODES_MAX)
		return reason_set(why, ENOSPC, "the cluster has had its %d nodes", SLAB_NODES_MAX);
	*ret_id = id;
	return db_run(m->db, SQL_NODE_ADD, db_int(id), db_bytes(node, sizeof(*node)),
		      db_bytes(address, strlen(address)));
}

int meta_node_add(struct meta *m, const struct uuid *node, const char *address, uint32_t *ret_id, struct reason *why)
{
	int err = meta_begin(m);

	if (!err)
		err = meta_end(m, add_locked(m, node, address, ret_id, why));
	return err ? err : meta_sync(m);
}

int meta_node_address(struct meta *m, uint32_t id, const struct uuid *node, const char *address, struct reason *why)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	size_t n;
	int err = meta_nodes(m, &nodes, &n);

	for (size_t i = 0; !err && i < n; i++) {
		if (le32_get(nodes[i].node_id) != id)
			continue;
		if (!uuid_equal(&nodes[i].node, node))
			return reason_set(why, EEXIST, "node %u is another store", id);
		if (!strcmp(nodes[i].address, address))
			return 0;
		err = meta_begin(m);
		if (!err)
			err = meta_end(m,
				       db_run(m->db, SQL_NODE_ADDRESS, db_bytes(address, strlen(address)), db_int(id)));
		return err;
	}
	return err ? err : reason_set(why, ENOENT, "node %u is not in the cluster's table", id);
}

int meta_node_run(struct meta *m, uint32_t id, struct uuid *ret)
{
	size_t len = 0;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = db_run(m->db, SQL_NODE_RUN_GET, db_int(id));
	if (rc == 1) {
		const void *blob = db_blob(m->db, SQL_NODE_RUN_GET, 0, &len);
		*ret = (struct uuid){ { 0 } };
		memcpy(ret, blob, MIN(len, sizeof(*ret)));
	}
	db_done(m->db);
	pthread_mutex_unlock(&m->lock);
	return rc == 1 ? 0 : rc ? rc : -ENOENT;
}

int meta_node_set_run(struct meta *m, uint32_t id, const struct uuid *run)
{
	int err = meta_begin(m);

	if (!err)
		err = meta_end(m, db_run(m->db, SQL_NODE_RUN_SET, db_bytes(run, sizeof(*run)), db_int(id)));
	return err ? err : meta_sync(m);
}
