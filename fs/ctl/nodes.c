#include "ctl.h"

#include "node_table.h"

#include <stdio.h>

static int print_nodes(const struct ctl *c)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	AUTO_FREE char *text = NULL;
	struct reason why = { "out of memory" };
	size_t n, len;

	if (ctl_nodes_of_store(c, &nodes, &n, &why) < 0)
		return ctl_fail(&why);
	text = c->json ? node_table_json(nodes, n, &len) : node_table_text(nodes, n, &len);
	if (!text)
		return ctl_fail(&why);
	fwrite(text, 1, len, stdout);
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
