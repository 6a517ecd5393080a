#include "node_table.h"
#include "json.h"

#include <stdio.h>

#define COLUMNS "%-5s %-6s %10s %10s %5s %11s %8s  %s\n"

void size_text(uint64_t bytes, char ret[SIZE_TEXT_MAX])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	size_t unit = 0;

	for (; v >= 1023.95 && unit + 1 < ARRAY_LEN(units); unit++)
		v /= 1024;
	snprintf(ret, SIZE_TEXT_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", v, units[unit]);
}

const char *node_state_name(uint32_t state)
{
	return state == WIRE_NODE_UP ? "up" : state == WIRE_NODE_DOWN ? "down" : state == WIRE_NODE_LEFT ? "left" : "?";
}

static void print_node(FILE *out, const struct wire_node *n)
{
	uint64_t total = le64_get(n->bytes_total), free_bytes = le64_get(n->bytes_free);
	uint64_t partitions = le64_get(n->partitions);
	char id[16], all[SIZE_TEXT_MAX], left[SIZE_TEXT_MAX], use[16] = "-", count[24] = "-", beat[24];

	snprintf(id, sizeof(id), "%u%s", le32_get(n->node_id), le32_get(n->is_head) ? "*" : "");
	size_text(total, all);
	size_text(free_bytes, left);
	if (total > 0 && free_bytes <= total)
		snprintf(use, sizeof(use), "%.0f%%", 100.0 * (double)(total - free_bytes) / (double)total);
	if (partitions != UINT64_MAX)
		snprintf(count, sizeof(count), "%llu", (unsigned long long)partitions);
	snprintf(beat, sizeof(beat), "%.1f s", le32_get(n->beat_age_ms) / 1000.0);
	fprintf(out, COLUMNS, id, node_state_name(le32_get(n->state)), all, left, use, count, beat, n->address);
}

char *node_table_text(const struct wire_node *nodes, size_t n, size_t *ret_len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_len);

	if (!out)
		return NULL;
	fprintf(out, COLUMNS, "NODE", "STATE", "SIZE", "FREE", "USE", "PARTITIONS", "BEAT", "ADDRESS");
	for (size_t i = 0; i < n; i++)
		print_node(out, &nodes[i]);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

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

char *node_table_json(const struct wire_node *nodes, size_t n, size_t *ret_len)
{
	struct json *list = json_new_array();
	AUTO_FREE char *text = NULL;
	char *line = NULL;
	int len;

	for (size_t i = 0; list && i < n; i++)
		json_append(list, node_json(&nodes[i]));
	text = list ? json_text(list, true) : NULL;
	json_free(list);
	len = text ? asprintf(&line, "%s\n", text) : -1;
	if (len < 0)
		return NULL;
	*ret_len = (size_t)len;
	return line;
}
