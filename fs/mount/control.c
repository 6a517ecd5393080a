/* control.c - .slabfs/ at the mount's root: what this mount knows of itself and of its cluster.  A file is a snapshot from when it
 * was opened; all of them can be read while the head is away. */
#include "client.h"
#include "errors.h"
#include "locks.h"
#include "node.h"
#include "node_table.h"

#include <fcntl.h>
#include <stdio.h>

/* ---- the texts: each writes to out ---- */

static void print_version(struct mount *m, FILE *out)
{
	(void)m;
	fprintf(out, "slabfs %s, protocol %d\n", SLAB_VERSION, WIRE_VERSION);
}

static void print_errors(struct mount *m, FILE *out)
{
	size_t len;
	AUTO_FREE char *text = errors_text(m->errors, &len);

	if (text)
		fwrite(text, 1, len, out);
}

/* Asks the head and says how that went. */
static void print_head(struct mount *m, FILE *out, char ret_cluster[37])
{
	struct wire_hello_reply hello;
	struct reason why = { "" };
	int err = client_hello(cluster_head(m->cluster), &hello, &why);

	if (err) {
		fprintf(out, "head: unreachable: %s\n", why.text[0] ? why.text : strerror(-err));
		return;
	}
	fprintf(out, "head: up, node %u\n", le32_get(hello.node_id));
	if (ret_cluster)
		uuid_text(&hello.cluster, ret_cluster);
}

static bool is_up(const struct wire_node *n)
{
	return le32_get(n->state) == WIRE_NODE_UP;
}

static void print_capacity(FILE *out, const struct wire_node *nodes, size_t n)
{
	char all[SIZE_TEXT_MAX], left[SIZE_TEXT_MAX];
	uint64_t total = 0, free_bytes = 0;
	size_t up = 0, members = 0;

	for (size_t i = 0; i < n; i++) {
		members += le32_get(nodes[i].state) != WIRE_NODE_LEFT;
		if (!is_up(&nodes[i]))
			continue;
		up++;
		total += le64_get(nodes[i].bytes_total);
		free_bytes += le64_get(nodes[i].bytes_free);
	}
	size_text(total, all);
	size_text(free_bytes, left);
	fprintf(out, "nodes: %zu of %zu up\n", up, members);
	fprintf(out, "capacity: %s, %s free\n", all, left);
}

static void print_status(struct mount *m, FILE *out)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	struct reason why = { "" };
	char cluster[37] = "unknown";
	size_t n = 0;
	int err;

	print_head(m, out, cluster);
	fprintf(out, "cluster: %s\n", cluster);
	err = cluster_nodes(m->cluster, &nodes, &n, &why);
	if (err)
		fprintf(out, "nodes: unknown: %s\n", why.text[0] ? why.text : strerror(-err));
	else
		print_capacity(out, nodes, n);
	fprintf(out, "source: %s\n", m->options.source);
	fprintf(out, "mountpoint: %s\n", m->options.mountpoint);
	fprintf(out, "options: timeout=%g%s\n", m->options.timeout_ms / 1000.0,
		m->options.show_views ? ",show_views" : "");
	if (cluster_local_id(m->cluster))
		fprintf(out, "local node: %u\n", cluster_local_id(m->cluster));
	fprintf(out, "uptime: %llu s\n", (unsigned long long)((time_real_ns() - m->started_ns) / 1000000000));
	fprintf(out, "errors: %llu\n", (unsigned long long)errors_count(m->errors));
}

static void print_nodes(struct mount *m, FILE *out)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	AUTO_FREE char *text = NULL;
	struct reason why = { "" };
	size_t n = 0, len;
	int err = cluster_nodes(m->cluster, &nodes, &n, &why);

	if (err || !client_connected(cluster_head(m->cluster)))
		print_head(m, out, NULL);
	if (err)
		return;
	text = node_table_text(nodes, n, &len);
	if (text)
		fwrite(text, 1, len, out);
}

static void print_nodes_json(struct mount *m, FILE *out)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	AUTO_FREE char *text = NULL;
	size_t n = 0, len;

	if (cluster_nodes(m->cluster, &nodes, &n, NULL))
		n = 0;
	text = node_table_json(nodes, n, &len);
	if (text)
		fwrite(text, 1, len, out);
}

/* ---- metrics: the text format of Prometheus, version 0.0.4 ---- */

struct traffic {
	FILE *out;
	const char *name;
	bool received;
};

static void print_traffic(void *arg, uint32_t node_id, const char *transport, uint64_t sent, uint64_t received)
{
	const struct traffic *t = arg;

	fprintf(t->out, "%s{node=\"%u\",transport=\"%s\"} %llu\n", t->name, node_id, transport,
		(unsigned long long)(t->received ? received : sent));
}

static void metric(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_node_metrics(struct mount *m, FILE *out)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	size_t n = 0, in_state[WIRE_NODE_LEFT + 1] = { 0 };

	if (cluster_nodes(m->cluster, &nodes, &n, NULL))
		return;
	for (size_t i = 0; i < n; i++)
		if (le32_get(nodes[i].state) <= WIRE_NODE_LEFT)
			in_state[le32_get(nodes[i].state)]++;
	metric(out, "slabfs_nodes", "gauge", "Nodes of the cluster as last told by the head.");
	for (uint32_t s = WIRE_NODE_UP; s <= WIRE_NODE_LEFT; s++)
		fprintf(out, "slabfs_nodes{state=\"%s\"} %zu\n", node_state_name(s), in_state[s]);
}

static void print_metrics(struct mount *m, FILE *out)
{
	struct traffic received = { out, "slabfs_bytes_received_total", true };
	struct traffic sent = { out, "slabfs_bytes_sent_total", false };
	size_t arrays;

	metric(out, received.name, "counter", "Bytes received from a node, frames included.");
	cluster_traffic(m->cluster, print_traffic, &received);
	metric(out, sent.name, "counter", "Bytes sent to a node, frames included.");
	cluster_traffic(m->cluster, print_traffic, &sent);
	metric(out, "slabfs_errors_total", "counter", "Failures that were added to .slabfs/errors.");
	fprintf(out, "slabfs_errors_total %llu\n", (unsigned long long)errors_count(m->errors));
	metric(out, "slabfs_reductions_total", "counter", "Questions under compute/ that the nodes were asked.");
	fprintf(out, "slabfs_reductions_total %llu\n", (unsigned long long)atomic_load(&m->n_reductions));
	metric(out, "slabfs_head_up", "gauge", "Whether there is a connection to the head.");
	fprintf(out, "slabfs_head_up %d\n", client_connected(cluster_head(m->cluster)) ? 1 : 0);
	print_node_metrics(m, out);
	pthread_mutex_lock(&m->table_lock);
	arrays = map_count(&m->arrays);
	pthread_mutex_unlock(&m->table_lock);
	metric(out, "slabfs_arrays", "gauge", "Arrays that this mount holds open at the head.");
	fprintf(out, "slabfs_arrays %zu\n", arrays);
	metric(out, "slabfs_lock_waits", "gauge", "Requests of processes that wait for a lock.");
	fprintf(out, "slabfs_lock_waits %zu\n", locks_waiting(m));
	metric(out, "slabfs_uptime_seconds", "gauge", "Time since the mount was made.");
	fprintf(out, "slabfs_uptime_seconds %.3f\n", (double)(time_real_ns() - m->started_ns) / 1e9);
}

/* ---- the nodes ---- */

static const struct control {
	const char *name;
	void (*print)(struct mount *m, FILE *out);
} controls[] = {
	{ "errors", print_errors }, { "metrics", print_metrics }, { "nodes", print_nodes },
	{ "status", print_status }, { "version", print_version }, { "nodes.json", print_nodes_json },
};

static void control_stat(struct mount *m, struct node *n, uint32_t mode, struct stat *ret)
{
	struct timespec t = { .tv_sec = (time_t)(m->started_ns / 1000000000),
			      .tv_nsec = (long)(m->started_ns % 1000000000) };

	*ret = (struct stat){ .st_ino = n->ino,
			      .st_mode = mode,
			      .st_nlink = S_ISDIR(mode) ? 2 : 1,
			      .st_uid = m->uid,
			      .st_gid = m->gid,
			      .st_blksize = 4096,
			      .st_atim = t,
			      .st_mtim = t,
			      .st_ctim = t };
}

static int controldir_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	control_stat(m, n, S_IFDIR | 0555, ret);
	return 0;
}

static int controldir_lookup(struct mount *m, struct node *dir, const char *name, struct node **ret)
{
	(void)dir;
	for (size_t i = 0; i < ARRAY_LEN(controls); i++)
		if (!strcmp(controls[i].name, name))
			return node_of_view(m, NODE_CONTROL, 0, NULL, i, name, ret);
	return -ENOENT;
}

static int controldir_readdir(struct mount *m, struct node *dir, struct handle *h, uint64_t cookie,
			      const struct emit *emit)
{
	(void)m;
	(void)dir;
	(void)h;
	for (; cookie < ARRAY_LEN(controls); cookie++) {
		const char *name = controls[cookie].name;
		if (!emit->fn(emit->arg, name, view_ino(0, NODE_CONTROL, cookie, name), S_IFREG | 0444, NULL,
			      cookie + 1))
			break;
	}
	return 0;
}

static int control_getattr(struct mount *m, struct node *n, struct stat *ret)
{
	control_stat(m, n, S_IFREG | 0444, ret);
	return 0;
}

static int control_open(struct mount *m, struct node *n, struct handle *h, struct cancel *cancel)
{
	FILE *out;

	(void)cancel;
	if ((h->flags & O_ACCMODE) != O_RDONLY || (h->flags & O_TRUNC))
		return -EACCES;
	out = open_memstream(&h->buf, &h->buf_bytes);
	if (!out)
		return -ENOMEM;
	controls[n->index].print(m, out);
	if (fclose(out)) {
		free(h->buf);
		h->buf = NULL;
		return -ENOMEM;
	}
	h->direct_io = true;
	return 0;
}

static int control_read(struct mount *m, struct handle *h, size_t size, uint64_t offset, struct read_out *out)
{
	(void)m;
	out->len = offset < h->buf_bytes ? MIN(size, h->buf_bytes - (size_t)offset) : 0;
	if (out->len > 0)
		memcpy(out->buf, h->buf + offset, out->len);
	return 0;
}

const struct node_ops controldir_ops = {
	.name = "control directory",
	.getattr = controldir_getattr,
	.lookup = controldir_lookup,
	.readdir = controldir_readdir,
};

const struct node_ops control_ops = {
	.name = "control",
	.slow_open = true,
	.getattr = control_getattr,
	.open = control_open,
	.read = control_read,
};
