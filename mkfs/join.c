#include "mkfs.h"

#include "client.h"

#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

#define JOIN_TIMEOUT_MS 10000

int join_cluster(struct superblock *sb, const uint8_t key[CLUSTER_KEY_BYTES], struct reason *why)
{
	struct client_config config = { .address = sb->head,
					.key = key,
					.hello.role = le32_of(WIRE_ROLE_MKFS),
					.name = "mkfs.slabfs",
					.n_connections = 1,
					.timeout_ms = JOIN_TIMEOUT_MS };
	struct wire_join body = { .node = sb->node };
	struct wire_join_reply reply;
	struct call call = { .type = WIRE_JOIN,
			     .body = &body,
			     .body_bytes = sizeof(body),
			     .payload = { sb->listen },
			     .payload_bytes = { strlen(sb->listen) },
			     .reply_body = &reply };
	struct client *client;
	int err = uuid_new(&config.hello.session);

	if (!err)
		err = client_new(&config, &client);
	if (err)
		return reason_set(why, -err, "%s", strerror(-err));
	err = client_call(client, &call);
	client_free(client);
	if (err && call.why.text[0])
		return reason_set(why, -err, "%s", call.why.text);
	if (err)
		return reason_set(why, -err, "%s: %s", sb->head, strerror(-err));
	sb->cluster = reply.cluster;
	sb->node_id = le32_get(reply.node_id);
	if (sb->node_id < 2 || sb->node_id > SLAB_NODES_MAX)
		return reason_set(why, EPROTO, "%s: gave us node id %u", sb->head, sb->node_id);
	return 0;
}

int join_as_head(struct superblock *sb, const char *node, const uint8_t key[CLUSTER_KEY_BYTES], struct reason *why)
{
	struct client_config config = { .address = node,
					.key = key,
					.hello.role = le32_of(WIRE_ROLE_MKFS),
					.name = "mkfs.slabfs",
					.n_connections = 1,
					.timeout_ms = JOIN_TIMEOUT_MS };
	struct wire_hello_reply reply;
	struct reason what = { "" };
	struct client *client;
	int err = uuid_new(&config.hello.session);

	if (!err)
		err = client_new(&config, &client);
	if (err)
		return reason_set(why, -err, "%s", strerror(-err));
	err = client_hello(client, &reply, &what);
	client_free(client);
	if (err)
		return reason_set(why, -err, "%.100s: %.200s", node, what.text[0] ? what.text : strerror(-err));
	if (le32_get(reply.is_head))
		return reason_set(why, EEXIST, "%.100s: is the head itself", node);
	sb->cluster = reply.cluster;
	sb->node_id = 1;
	sb->is_head = true;
	return 0;
}

/* A connected datagram socket sends nothing, but the kernel has chosen the interface. */
static int local_address(const struct addrinfo *a, char ret_host[NI_MAXHOST])
{
	AUTO_CLOSE int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);

	if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) < 0 ||
	    getsockname(fd, (struct sockaddr *)&local, &len) < 0)
		return -errno;
	return getnameinfo((struct sockaddr *)&local, len, ret_host, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) ? -EINVAL : 0;
}

int join_address(const char *head, char ret[300], struct reason *why)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM }, *list = NULL;
	char host[256], port_text[8], local[NI_MAXHOST];
	uint16_t port;
	int err = address_split(head, SLAB_DEFAULT_PORT, host, &port);
	int rc;

	if (err)
		return reason_set(why, EINVAL, "'%.100s' is not HOST:PORT", head);
	snprintf(port_text, sizeof(port_text), "%u", port);
	rc = getaddrinfo(host, port_text, &hints, &list);
	if (rc)
		return reason_set(why, EHOSTUNREACH, "%s: %s", host, gai_strerror(rc));
	err = -EHOSTUNREACH;
	for (const struct addrinfo *a = list; a && err; a = a->ai_next)
		err = local_address(a, local);
	freeaddrinfo(list);
	if (err)
		return reason_set(why, -err, "%s: no interface reaches it: %s", head, strerror(-err));
	snprintf(ret, 300, strchr(local, ':') ? "[%.256s]:%d" : "%.256s:%d", local, SLAB_DEFAULT_PORT);
	return 0;
}
