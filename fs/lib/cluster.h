/* cluster.h - the nodes of a cluster as a mount (or the head's reaper) sees them: who is where, and a client for each.
 *
 * Thread-safe.  The table of nodes comes from the head (WIRE_NODES).  It is fetched again when an unknown id is asked for, and when a
 * node cannot be reached (at most once a second).  Clients live until cluster_free; a node that moved gets a new one.  The head
 * has a client of its own beside the one for its data, so that no name waits behind bulk data.
 */
#ifndef SLAB_CLUSTER_H
#define SLAB_CLUSTER_H

#include "base.h"
#include "client.h"

struct cluster;

struct cluster_config {
	const char *head;        /* "unix:PATH" or HOST:PORT of the head */
	const char *local;       /* "unix:PATH" of the daemon on this machine, or NULL */
	uint32_t local_id;       /* its node id, or 0 */
	const uint8_t *key;      /* 32 bytes */
	struct wire_hello hello; /* role and session for all connections */
	const char *name;
	unsigned n_connections; /* to each node */
	unsigned timeout_ms;
	void (*push)(void *arg, uint64_t id, const struct wire_header *h, const void *body, const void *payload,
		     size_t len);
	void (*state)(void *arg, bool up, const struct wire_hello_reply *hello); /* of the head */
	void *arg;
};

int cluster_new(const struct cluster_config *config, struct cluster **ret);
void cluster_free(struct cluster *c);

struct client *cluster_head(struct cluster *c);
/* -ENODEV: no such node in the cluster (any more). */
int cluster_node(struct cluster *c, uint32_t node_id, struct client **ret, struct reason *why);
uint32_t cluster_local_id(const struct cluster *c);
/* The table as the head has it now; *ret malloc'ed. */
int cluster_nodes(struct cluster *c, struct wire_node **ret, size_t *ret_n, struct reason *why);

/* Traffic with each node that was talked to: calls fn(arg, node_id, transport name, sent, received), once for each node and
 * transport.  The head is node 0 until it has told its id. */
void cluster_traffic(struct cluster *c, void (*fn)(void *, uint32_t, const char *, uint64_t, uint64_t), void *arg);

#endif
