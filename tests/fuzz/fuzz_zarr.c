/* Any bytes as a zarr.json: refused with a reason, or accepted with a grid that holds what grid.h promises. */
#include "zarr.h"

#define STEPS_MAX 64 /* runs looked at in one partition */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void walk_partition(const struct grid *g, uint64_t partition)
{
	struct grid_run run, at;
	uint64_t pos = 0, coords[SLAB_RANK_MAX];
	char key[GRID_KEY_MAX];

	grid_key(g, partition, '/', key);
	grid_coords(g, partition, coords);
	check(grid_index(g, coords) == partition);
	check(grid_partition_valid_elems(g, partition) <= g->partition_elems);
	for (int i = 0; i < STEPS_MAX && grid_partition_next_run(g, partition, &pos, &run); i++) {
		check(run.n_elems <= g->n_elems - run.elem);
		check(run.n_elems <= g->partition_elems - run.partition_elem);
		grid_run_at(g, run.elem, UINT64_MAX, &at);
		check(at.partition == partition && at.partition_elem == run.partition_elem &&
		      at.n_elems == run.n_elems);
	}
}

static void check_resize(const char *text, size_t len, const struct zarr *z)
{
	AUTO_FREE char *resized = NULL;
	struct reason why = { "" };
	enum zarr_node node;
	struct zarr again;

	if (zarr_doc_resize(text, len, 7, &resized, &why) < 0) {
		check(why.text[0]);
		return;
	}
	check(zarr_parse(resized, strlen(resized), &node, &again, NULL) == 0);
	check(node == ZARR_ARRAY && again.grid.shape[0] == 7 && zarr_same_layout(z, &again));
	check(!memcmp(&z->fill, &again.fill, sizeof(z->fill)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reason why = { "" };
	enum zarr_node node;
	struct zarr z;

	if (zarr_parse((const char *)data, size, &node, &z, &why) < 0) {
		check(why.text[0] && !strchr(why.text, '\n'));
		return 0;
	}
	if (node == ZARR_GROUP)
		return 0;
	check(dtype_valid(z.dtype) && z.grid.rank <= SLAB_RANK_MAX);
	if (z.grid.n_partitions) {
		walk_partition(&z.grid, 0);
		walk_partition(&z.grid, z.grid.n_partitions / 2);
		walk_partition(&z.grid, z.grid.n_partitions - 1);
	}
	check_resize((const char *)data, size, &z);
	return 0;
}
