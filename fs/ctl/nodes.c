#include "ctl.h"

#include "json.h"
#include "node_table.h"

#include <stdio.h>

static struct json *node_json(const struct wire_node *n)
{
	struct json *j = json_new_object();
	char uuid[37];

	if (!j)
		return NULL;
	uuid_text(&n->node, uuid);
	json_set(j, "id", json_new_u64(le32_get(n->node_id)));
	json_set(j, "uuid", json_new_string(uuid));
	json_set(j, "state", json_new_string(node_state_name(le32_get(n->state))));
	json_set(j, "is_head", json_new_bool(le32_get(n->is_head)));
	json_set(j, "address", json_new_string(n->address));
	json_set(j, "bytes_total", json_new_u64(le64_get(n->bytes_total)));
	json_set(j, "bytes_free", json_new_u64(le64_get(n->bytes_free)));
	json_set(j, "files_total", json_new_u64(le64_get(n->files_total)));
	json_set(j, "files_free", json_new_u64(le64_get(n->files_free)));
	if (le64_get(n->partitions) != UINT64_MAX)
		json_set(j, "partitions", json_new_u64(le64_get(n->partitions)));
	json_set(j, "beat_age_ms", json_new_u64(le32_get(n->beat_age_ms)));
	return j;
}

static char *nodes_json(const struct wire_node *nodes, size_t n)
{
	struct json *list = json_new_array();
	char *text;

	for (size_t i = 0; list && i < n; i++)
		json_append(list, node_json(&nodes[i]));
	text = list ? json_text(list, true) : NULL;
	json_free(list);
	return text;
}

static int print_nodes(const struct ctl *c)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	AUTO_FREE char *text = NULL;
	struct reason why = { "out of memory" };
	size_t n, len;

	if (ctl_nodes_of_store(c, &nodes, &n, &why) < 0)
		return ctl_fail(&why);
	text = c->json ? nodes_json(nodes, n) : node_table_text(nodes, n, &len);
	if (!text)
		return ctl_fail(&why);
	fputs(text, stdout);
	if (c->json)
		putchar('\n');
	return CTL_OK;
}

int ctl_nodes(struct ctl *c, int argc, char **argv)
{
	int code = ctl_parse_plain(c, argc, argv);

	if (code < 0)
		code = c->store || c->mount ? CTL_OK : ctl_find_mount(c);
	if (code)
		return code;
	if (c->store)
		return print_nodes(c);
	return ctl_print_mount_file(c, c->json ? "nodes.json" : "nodes");
}
