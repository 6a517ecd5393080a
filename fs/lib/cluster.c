#include "cluster.h"

#include <pthread.h>
#include <stdio.h>

#define REFRESH_NS 1000000000              /* at most so often because a node cannot be reached */
#define REFRESH_TIMEOUT_MS 2000            /* ... and then the caller is not to wait longer than this */
#define FLOWS_MAX (2 * SLAB_NODES_MAX + 2) /* each node over unix and over TCP, and a head without an id */

struct peer { /* never goes away before the cluster does */
	uint32_t node_id;
	char address[320];
	struct client *client;
	struct peer *next;
};

struct cluster {
	struct cluster_config config; /* its strings and its key are ours */
	uint8_t key[32];
	struct client *head;
	struct client *local; /* NULL without a daemon on this machine */
	pthread_mutex_t lock;
	pthread_cond_t fetched;
	/* guarded by the lock */
	struct wire_node *nodes; /* by node id */
	size_t n_nodes;
	struct peer *peers; /* the newest first: that is the one in use */
	bool fetching;
	uint64_t rounds; /* of fetching, begun so far */
	uint64_t fetched_ns;
	int err; /* of the last fetch */
	struct reason why;
};

/* ---- the table ---- */

static int check_table(struct wire_node *nodes, size_t bytes, struct reason *why)
{
	if (bytes % sizeof(*nodes))
		return reason_set(why, EPROTO, "the head's table of nodes is malformed");
	for (size_t i = 0; i < bytes / sizeof(*nodes); i++)
		if (!memchr(nodes[i].address, '\0', sizeof(nodes[i].address)))
			return reason_set(why, EPROTO, "the head's table of nodes holds a malformed address");
	return 0;
}

static int ask(struct cluster *c, unsigned timeout_ms, struct wire_node **ret, size_t *ret_n, struct reason *why)
{
	struct call call = { .type = WIRE_NODES, .timeout_ms = timeout_ms, .alloc = true };
	int err = client_call(c->head, &call);

	if (err)
		return reason_set(why, -err, "the head: %.300s", call.why.text);
	err = check_table(call.reply_payload, call.reply_bytes, why);
	if (err) {
		free(call.reply_payload);
		return err;
	}
	*ret = call.reply_payload;
	*ret_n = call.reply_bytes / sizeof(**ret);
	return 0;
}

/* One thread fetches at a time, without the lock; the others wait for it. */
static void fetch_locked(struct cluster *c, unsigned timeout_ms)
{
	struct reason why = { "" };
	struct wire_node *nodes = NULL;
	size_t n = 0;
	int err;

	c->fetching = true;
	c->rounds++;
	pthread_mutex_unlock(&c->lock);
	err = ask(c, timeout_ms, &nodes, &n, &why);
	pthread_mutex_lock(&c->lock);
	if (!err) {
		free(c->nodes);
		c->nodes = nodes;
		c->n_nodes = n;
	}
	c->err = err;
	c->why = why;
	c->fetched_ns = time_mono_ns();
	c->fetching = false;
	pthread_cond_broadcast(&c->fetched);
}

/* Returns with the result of a fetch that began after this was called. */
static int refresh_locked(struct cluster *c, unsigned timeout_ms, struct reason *why)
{
	uint64_t old = c->rounds;

	while (c->fetching || c->rounds == old) {
		if (c->fetching)
			pthread_cond_wait(&c->fetched, &c->lock);
		else
			fetch_locked(c, timeout_ms);
	}
	if (c->err && why)
		*why = c->why;
	return c->err;
}

static const struct wire_node *find_locked(const struct cluster *c, uint32_t node_id)
{
	for (size_t i = 0; i < c->n_nodes; i++)
		if (le32_get(c->nodes[i].node_id) == node_id && le32_get(c->nodes[i].state) != WIRE_NODE_LEFT)
			return &c->nodes[i];
	return NULL;
}

/* ---- clients ---- */

static struct peer *peer_locked(const struct cluster *c, uint32_t node_id)
{
	struct peer *p = c->peers;

	while (p && p->node_id != node_id)
		p = p->next;
	return p;
}

static int data_client(const struct cluster *c, const char *address, struct client **ret)
{
	struct client_config config = { .address = address,
					.key = c->key,
					.hello = c->config.hello,
					.name = c->config.name,
					.n_connections = c->config.n_connections,
					.timeout_ms = c->config.timeout_ms };

	return client_new(&config, ret);
}

static int peer_new_locked(struct cluster *c, const struct wire_node *node, struct peer **ret)
{
	struct peer *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->node_id = le32_get(node->node_id);
	snprintf(p->address, sizeof(p->address), "%s", node->address);
	err = data_client(c, p->address, &p->client);
	if (err) {
		free(p);
		return err;
	}
	p->next = c->peers;
	c->peers = p;
	*ret = p;
	return 0;
}

/* The head is not asked about a node in trouble while it is in trouble itself. */
static bool worth_asking_locked(const struct cluster *c, const struct peer *p)
{
	return client_unreachable(p->client) && !c->fetching && time_mono_ns() - c->fetched_ns >= REFRESH_NS &&
	       client_connected(c->head);
}

static int node_locked(struct cluster *c, uint32_t node_id, struct client **ret, struct reason *why)
{
	struct peer *p = peer_locked(c, node_id);
	const struct wire_node *node;
	int err = 0;

	if (p && worth_asking_locked(c, p))
		refresh_locked(c, MIN(c->config.timeout_ms, REFRESH_TIMEOUT_MS), NULL);
	node = find_locked(c, node_id);
	if (!node) {
		err = refresh_locked(c, 0, why);
		node = find_locked(c, node_id);
	}
	if (err)
		return err;
	if (!node)
		return reason_set(why, ENODEV, "there is no node %u in the cluster", node_id);
	p = peer_locked(c, node_id);
	if (!p || strcmp(p->address, node->address))
		err = peer_new_locked(c, node, &p);
	if (err)
		return reason_set(why, -err, "node %u: %s", node_id, strerror(-err));
	*ret = p->client;
	return 0;
}

int cluster_node(struct cluster *c, uint32_t node_id, struct client **ret, struct reason *why)
{
	int err;

	if (c->local && node_id == c->config.local_id) {
		*ret = c->local;
		return 0;
	}
	pthread_mutex_lock(&c->lock);
	err = node_locked(c, node_id, ret, why);
	pthread_mutex_unlock(&c->lock);
	return err;
}

struct client *cluster_head(struct cluster *c)
{
	return c->head;
}

uint32_t cluster_local_id(const struct cluster *c)
{
	return c->config.local_id;
}

int cluster_nodes(struct cluster *c, struct wire_node **ret, size_t *ret_n, struct reason *why)
{
	struct wire_node *copy = NULL;
	int err;

	pthread_mutex_lock(&c->lock);
	err = refresh_locked(c, 0, why);
	if (!err) {
		copy = malloc(MAX(c->n_nodes, (size_t)1) * sizeof(*copy));
		err = copy ? 0 : -ENOMEM;
	}
	if (!err) {
		if (c->n_nodes)
			memcpy(copy, c->nodes, c->n_nodes * sizeof(*copy));
		*ret = copy;
		*ret_n = c->n_nodes;
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

/* ---- traffic ---- */

struct flow {
	uint32_t node_id;
	bool local;
	uint64_t sent, received;
};

static void flow_add(struct flow *flows, size_t *n, uint32_t node_id, const struct client *client)
{
	bool local = client_is_local(client);
	uint64_t sent, received;
	size_t i = 0;

	client_traffic(client, &sent, &received);
	while (i < *n && (flows[i].node_id != node_id || flows[i].local != local))
		i++;
	if (i == *n) {
		if (*n == FLOWS_MAX)
			return;
		flows[(*n)++] = (struct flow){ .node_id = node_id, .local = local };
	}
	flows[i].sent += sent;
	flows[i].received += received;
}

static uint32_t head_id_locked(const struct cluster *c)
{
	for (size_t i = 0; i < c->n_nodes; i++)
		if (le32_get(c->nodes[i].is_head))
			return le32_get(c->nodes[i].node_id);
	return 0;
}

void cluster_traffic(struct cluster *c, void (*fn)(void *, uint32_t, const char *, uint64_t, uint64_t), void *arg)
{
	AUTO_FREE struct flow *flows = calloc(FLOWS_MAX, sizeof(*flows));
	size_t n = 0;

	if (!flows)
		return;
	pthread_mutex_lock(&c->lock);
	flow_add(flows, &n, head_id_locked(c), c->head);
	if (c->local)
		flow_add(flows, &n, c->config.local_id, c->local);
	for (const struct peer *p = c->peers; p; p = p->next)
		flow_add(flows, &n, p->node_id, p->client);
	pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < n; i++)
		fn(arg, flows[i].node_id, flows[i].local ? "unix" : "tcp", flows[i].sent, flows[i].received);
}

/* ---- life ---- */

static int head_client(const struct cluster *c, struct client **ret)
{
	struct client_config config = { .address = c->config.head,
					.key = c->key,
					.hello = c->config.hello,
					.name = c->config.name,
					.n_connections = MIN(c->config.n_connections, 2u),
					.timeout_ms = c->config.timeout_ms,
					.push = c->config.push,
					.state = c->config.state,
					.arg = c->config.arg };

	return client_new(&config, ret);
}

static int copy_config(struct cluster *c, const struct cluster_config *config)
{
	c->config = *config;
	c->config.head = strdup(config->head);
	c->config.local = config->local ? strdup(config->local) : NULL;
	c->config.name = strdup(config->name ? config->name : "");
	if (config->key)
		memcpy(c->key, config->key, sizeof(c->key));
	c->config.key = c->key;
	return c->config.head && c->config.name && (c->config.local || !config->local) ? 0 : -ENOMEM;
}

int cluster_new(const struct cluster_config *config, struct cluster **ret)
{
	struct cluster *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->fetched, NULL);
	err = copy_config(c, config);
	if (!err)
		err = head_client(c, &c->head);
	if (!err && c->config.local)
		err = data_client(c, c->config.local, &c->local);
	if (err)
		cluster_free(c);
	else
		*ret = c;
	return err;
}

void cluster_free(struct cluster *c)
{
	if (!c)
		return;
	client_free(c->head);
	client_free(c->local);
	for (struct peer *p = c->peers, *next; p; p = next) {
		next = p->next;
		client_free(p->client);
		free(p);
	}
	free(c->nodes);
	pthread_cond_destroy(&c->fetched);
	pthread_mutex_destroy(&c->lock);
	free((char *)(uintptr_t)c->config.head);
	free((char *)(uintptr_t)c->config.local);
	free((char *)(uintptr_t)c->config.name);
	free(c);
}
