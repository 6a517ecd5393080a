#include "node_table.h"

#include "unit.h"

#include <stdlib.h>

static bool size_reads(uint64_t bytes, const char *text)
{
	char got[SIZE_TEXT_MAX];

	size_text(bytes, got);
	return !strcmp(got, text);
}

static void test_sizes(void)
{
	CHECK(size_reads(0, "0 B"));
	CHECK(size_reads(1023, "1023 B"));
	CHECK(size_reads(1024, "1.0 KiB"));
	CHECK(size_reads(1536, "1.5 KiB"));
	CHECK(size_reads((1 << 20) - 1, "1.0 MiB"));
	CHECK(size_reads(UINT64_C(1000) << 30, "1000.0 GiB"));
	CHECK(size_reads(UINT64_MAX, "16.0 EiB"));
}

static void test_table(void)
{
	struct wire_node nodes[2] = {
		{ .node_id = le32_of(1), .state = le32_of(WIRE_NODE_UP), .is_head = le32_of(1) },
		{ .node_id = le32_of(2), .state = le32_of(WIRE_NODE_DOWN), .partitions = le64_of(UINT64_MAX) },
	};
	size_t len, lines = 0;

	nodes[0].bytes_total = le64_of(400);
	nodes[0].bytes_free = le64_of(300);
	nodes[0].partitions = le64_of(12);
	strcpy(nodes[0].address, "10.0.0.1:7522");
	strcpy(nodes[1].address, "10.0.0.2:7522");
	char *text = node_table_text(nodes, 2, &len);
	if (!CHECK(text && len == strlen(text)))
		return;
	for (const char *p = text; *p; p++)
		lines += *p == '\n';
	CHECK(lines == 3);
	CHECK(strstr(text, "1*") && strstr(text, "up ") && strstr(text, " 25% ") && strstr(text, " 12 "));
	CHECK(strstr(text, "down") && strstr(text, "10.0.0.2:7522\n"));
	CHECK(!strstr(text, "18446744073709551615"));
	free(text);
}

int main(void)
{
	test_sizes();
	test_table();
	return unit_result();
}
