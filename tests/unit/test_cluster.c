#include "cluster.h"
#include "peer.h"

#include <signal.h>

static const uint8_t key[32] = { 7 };
static char dir[] = "/tmp/slab-cluster-XXXXXX";
static char unix_address[80];

static void set_node(struct peer *head, unsigned i, uint32_t id, enum wire_node_state state, const char *address)
{
	pthread_mutex_lock(&head->lock);
	head->nodes[i] =
		(struct wire_node){ .node_id = le32_of(id), .state = le32_of(state), .is_head = le32_of(id == 1) };
	snprintf(head->nodes[i].address, sizeof(head->nodes[i].address), "%s", address);
	head->n_nodes = MAX(head->n_nodes, i + 1);
	pthread_mutex_unlock(&head->lock);
}

static struct cluster *cluster_of(const char *head, const char *local, uint32_t local_id)
{
	struct cluster_config config = { .head = head,
					 .local = local,
					 .local_id = local_id,
					 .key = key,
					 .hello = { .role = le32_of(WIRE_ROLE_MOUNT) },
					 .name = "test",
					 .n_connections = 2,
					 .timeout_ms = 2000 };
	struct cluster *c = NULL;

	CHECK(cluster_new(&config, &c) == 0);
	return c;
}

static int ping(struct client *c)
{
	struct call call = { .type = WIRE_PING };

	return client_call(c, &call);
}

static int ping_node(struct cluster *c, uint32_t id, struct reason *why)
{
	struct client *client;
	int err = cluster_node(c, id, &client, why);

	return err ? err : ping(client);
}

struct totals {
	unsigned n;
	uint64_t sent[3];
};

static void add_traffic(void *arg, uint32_t id, const char *transport, uint64_t sent, uint64_t received)
{
	struct totals *t = arg;

	CHECK(id == 1 || id == 2);
	CHECK(!strcmp(transport, id == 1 ? "unix" : "tcp") && received > 0);
	t->n++;
	t->sent[id == 1 ? 1 : 2] += sent;
}

static void test_nodes(void)
{
	struct reason why = { "" };
	struct peer head, two;
	struct cluster *c;
	struct client *local, *client, *same;
	struct wire_node *nodes;
	struct totals totals = { 0 };
	size_t n;

	peer_start(&head, unix_address, key);
	peer_start(&two, "127.0.0.1:0", key);
	set_node(&head, 0, 1, WIRE_NODE_UP, "127.0.0.1:1");
	set_node(&head, 1, 2, WIRE_NODE_UP, two.address);
	set_node(&head, 2, 3, WIRE_NODE_LEFT, two.address);
	c = cluster_of(unix_address, unix_address, 1);
	CHECK(cluster_local_id(c) == 1);
	CHECK(cluster_node(c, 1, &local, &why) == 0 && local != cluster_head(c) && ping(local) == 0);
	CHECK(head.node_requests == 0);
	CHECK(cluster_node(c, 2, &client, &why) == 0 && ping(client) == 0);
	CHECK(cluster_node(c, 2, &same, &why) == 0 && same == client && head.node_requests == 1);
	CHECK(cluster_node(c, 3, &same, &why) == -ENODEV && strstr(why.text, "node 3"));
	CHECK(cluster_node(c, 9, &same, NULL) == -ENODEV && head.node_requests == 3);
	CHECK(cluster_nodes(c, &nodes, &n, &why) == 0 && n == 3 && !strcmp(nodes[1].address, two.address));
	free(nodes);
	cluster_traffic(c, add_traffic, &totals);
	CHECK(totals.n == 2 && totals.sent[1] > totals.sent[2] && totals.sent[2] > 0);
	cluster_free(c);
	peer_stop(&two);
	peer_stop(&head);
}

/* A node comes back at another address: whoever asks for it again gets there, and the old client stays valid. */
static void test_moved(void)
{
	struct reason why = { "" };
	struct peer head, two;
	struct cluster *c;
	struct client *old, *now = NULL;
	char elsewhere[64];
	int err = -1;

	peer_start(&head, "127.0.0.1:0", key);
	peer_start(&two, "127.0.0.1:0", key);
	set_node(&head, 0, 2, WIRE_NODE_UP, two.address);
	c = cluster_of(head.address, NULL, 0);
	CHECK(cluster_node(c, 2, &old, &why) == 0 && ping(old) == 0);
	peer_stop(&two);
	snprintf(elsewhere, sizeof(elsewhere), "127.0.0.1:0");
	peer_start(&two, elsewhere, key);
	set_node(&head, 0, 2, WIRE_NODE_UP, two.address);
	for (uint64_t end = time_mono_ns() + 10000000000u; err && time_mono_ns() < end; usleep(10000))
		err = ping_node(c, 2, &why);
	CHECK(err == 0 && cluster_node(c, 2, &now, NULL) == 0 && ping(now) == 0);
	CHECK(now == old || ping(old) != 0);
	CHECK(head.node_requests <= 12);
	cluster_free(c);
	peer_stop(&two);
	peer_stop(&head);
}

static void test_bad_table(void)
{
	struct reason why = { "" };
	struct peer head;
	struct cluster *c;
	struct client *client;
	struct wire_node *nodes;
	size_t n;

	peer_start(&head, unix_address, key);
	set_node(&head, 0, 2, WIRE_NODE_UP, "x");
	memset(head.nodes[0].address, 'x', sizeof(head.nodes[0].address));
	c = cluster_of(unix_address, NULL, 0);
	CHECK(cluster_node(c, 2, &client, &why) == -EPROTO && why.text[0]);
	peer_stop(&head);
	CHECK(cluster_nodes(c, &nodes, &n, &why) < 0 && strstr(why.text, "head"));
	cluster_free(c);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!CHECK(mkdtemp(dir)))
		return 1;
	snprintf(unix_address, sizeof(unix_address), "unix:%s/sock", dir);
	test_nodes();
	test_moved();
	test_bad_table();
	unlink(unix_address + 5);
	rmdir(dir);
	return unit_result();
}
