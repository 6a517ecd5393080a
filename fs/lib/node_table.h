/* node_table.h - the nodes of a cluster as text: .slabfs/nodes and slabctl show the same.  Stateless; any thread. */
#ifndef SLAB_NODE_TABLE_H
#define SLAB_NODE_TABLE_H

#include "base.h"
#include "wire.h"

/* One line a node under a line of titles; malloc'ed, NULL without memory. */
char *node_table_text(const struct wire_node *nodes, size_t n, size_t *ret_len);
/* The same for programs: an array with an object a node, and a newline. */
char *node_table_json(const struct wire_node *nodes, size_t n, size_t *ret_len);
const char *node_state_name(uint32_t state);
/* "931.5 GiB" */
#define SIZE_TEXT_MAX 16
void size_text(uint64_t bytes, char ret[SIZE_TEXT_MAX]);

#endif
