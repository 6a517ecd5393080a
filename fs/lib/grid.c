#include "grid.h"

#include <inttypes.h>
#include <stdio.h>

#define SMALL_BYTES (UINT64_C(64) << 10) /* the least that a partition is cut to, where the target allows */
#define PAGE_BYTES 4096

/* The product of n factors in *ret, or false when it exceeds max.  A zero among them makes it 0, whatever the rest. */
static bool product(const uint64_t *factors, unsigned n, uint64_t max, uint64_t *ret)
{
	uint64_t v = 1;

	for (unsigned k = 0; k < n; k++) {
		if (!factors[k]) {
			*ret = 0;
			return true;
		}
	}
	for (unsigned k = 0; k < n; k++) {
		if (mul_overflows(v, factors[k], &v) || v > max)
			return false;
	}
	*ret = v;
	return true;
}

static bool is_native(const struct grid *g)
{
	for (unsigned k = 1; k < g->rank; k++) {
		if (g->chunk[k] != MAX(g->shape[k], 1))
			return false;
	}
	return true;
}

static int fill_products(struct grid *g, struct reason *why)
{
	uint64_t stored;

	if (!product(g->shape, g->rank, GRID_BYTES_MAX / g->item_bytes, &g->n_elems))
		return reason_set(why, EFBIG, "shape: the array would exceed %" PRIu64 " bytes", GRID_BYTES_MAX);
	if (!product(g->chunk, g->rank, GRID_PARTITION_BYTES_MAX / g->item_bytes, &g->partition_elems))
		return reason_set(why, EFBIG, "chunk_shape: a partition would exceed %" PRIu64 " bytes",
				  GRID_PARTITION_BYTES_MAX);
	if (!product(g->counts, g->rank, GRID_PARTITIONS_MAX, &g->n_partitions))
		return reason_set(why, EFBIG, "chunk_shape: the array would have more than %" PRIu64 " partitions",
				  GRID_PARTITIONS_MAX);
	g->partition_bytes = g->partition_elems * g->item_bytes;
	if (mul_overflows(g->n_partitions, g->partition_bytes, &stored) || stored > GRID_BYTES_MAX)
		return reason_set(why, EFBIG, "chunk_shape: the partitions together would exceed %" PRIu64 " bytes",
				  GRID_BYTES_MAX);
	return 0;
}

int grid_init(struct grid *ret, unsigned rank, const uint64_t *shape, const uint64_t *chunk, size_t item_bytes,
	      struct reason *why)
{
	struct grid g = { .rank = rank, .item_bytes = item_bytes };
	int err;

	if (rank > SLAB_RANK_MAX)
		return reason_set(why, EINVAL, "shape: %u axes, of which slabfs allows at most %u", rank,
				  SLAB_RANK_MAX);
	if (!item_bytes || item_bytes > GRID_PARTITION_BYTES_MAX)
		return reason_set(why, EINVAL, "data_type: %zu bytes an element", item_bytes);
	for (unsigned k = 0; k < rank; k++) {
		if (!chunk[k])
			return reason_set(why, EINVAL, "chunk_shape[%u]: must be at least 1", k);
		g.shape[k] = shape[k];
		g.chunk[k] = chunk[k];
		g.counts[k] = div_up(shape[k], chunk[k]);
	}
	err = fill_products(&g, why);
	if (err)
		return err;
	g.native = is_native(&g);
	*ret = g;
	return 0;
}

static uint64_t rows_a_page_multiple(uint64_t row_bytes)
{
	uint64_t low_bit = row_bytes & -row_bytes;

	return PAGE_BYTES / MIN(low_bit, PAGE_BYTES);
}

void grid_native_chunk(unsigned rank, const uint64_t *shape, size_t item_bytes, uint64_t target_bytes,
		       uint64_t *ret_chunk)
{
	uint64_t row_bytes, rows, unit;

	if (!rank)
		return;
	for (unsigned k = 1; k < rank; k++)
		ret_chunk[k] = MAX(shape[k], 1);
	ret_chunk[0] = 1;
	if (!product(ret_chunk + 1, rank - 1, target_bytes / item_bytes, &row_bytes))
		return;
	row_bytes *= item_bytes;
	rows = MAX(target_bytes / row_bytes, 1);
	if (shape[0] <= rows) {
		ret_chunk[0] = MAX(shape[0], MAX(MIN(target_bytes, SMALL_BYTES) / row_bytes, 1));
		return;
	}
	unit = rows_a_page_multiple(row_bytes);
	ret_chunk[0] = rows >= unit ? rows - rows % unit : rows;
}

void grid_coords(const struct grid *g, uint64_t partition, uint64_t ret_coords[SLAB_RANK_MAX])
{
	for (unsigned k = g->rank; k-- > 0;) {
		ret_coords[k] = partition % g->counts[k];
		partition /= g->counts[k];
	}
}

uint64_t grid_index(const struct grid *g, const uint64_t coords[])
{
	uint64_t index = 0;

	for (unsigned k = 0; k < g->rank; k++)
		index = index * g->counts[k] + coords[k];
	return index;
}

void grid_key(const struct grid *g, uint64_t partition, char sep, char ret[GRID_KEY_MAX])
{
	uint64_t coords[SLAB_RANK_MAX];
	size_t n = 1;

	grid_coords(g, partition, coords);
	ret[0] = 'c';
	ret[1] = 0;
	for (unsigned k = 0; k < g->rank; k++)
		n += (size_t)snprintf(ret + n, GRID_KEY_MAX - n, "%c%" PRIu64, sep, coords[k]);
}

void grid_run_at(const struct grid *g, uint64_t elem, uint64_t max_elems, struct grid_run *ret)
{
	uint64_t rest = elem, inner = 1, run = 1;
	uint64_t partition = 0, partition_elem = 0, n_parts = 1, stride = 1;
	bool whole = true; /* all axes after k are whole in the partition and not padded */

	for (unsigned k = g->rank; k-- > 0;) {
		uint64_t coord = rest % g->shape[k], first = coord - coord % g->chunk[k];

		rest /= g->shape[k];
		if (whole) {
			uint64_t left = MIN(g->chunk[k], g->shape[k] - first) - (coord - first);

			run = left * inner - elem % inner;
			inner *= g->shape[k];
			whole = g->chunk[k] == g->shape[k];
		}
		partition += coord / g->chunk[k] * n_parts;
		partition_elem += (coord - first) * stride;
		n_parts *= g->counts[k];
		stride *= g->chunk[k];
	}
	*ret = (struct grid_run){
		.partition = partition,
		.partition_elem = partition_elem,
		.elem = elem,
		.n_elems = MIN(run, MAX(max_elems, 1)),
	};
}

/* The corner of a partition in the array and its extent without the padding. */
static void valid_box(const struct grid *g, uint64_t partition, uint64_t *ret_corner, uint64_t *ret_extent)
{
	grid_coords(g, partition, ret_corner);
	for (unsigned k = 0; k < g->rank; k++) {
		ret_corner[k] *= g->chunk[k];
		ret_extent[k] = MIN(g->chunk[k], g->shape[k] - ret_corner[k]);
	}
}

uint64_t grid_partition_valid_elems(const struct grid *g, uint64_t partition)
{
	uint64_t corner[SLAB_RANK_MAX], extent[SLAB_RANK_MAX], n = 1;

	if (partition >= g->n_partitions)
		return 0;
	valid_box(g, partition, corner, extent);
	for (unsigned k = 0; k < g->rank; k++)
		n *= extent[k];
	return n;
}

/* *pos counts the runs: axes before `split` choose the run, the rest lie inside it. */
bool grid_partition_next_run(const struct grid *g, uint64_t partition, uint64_t *pos, struct grid_run *ret)
{
	uint64_t corner[SLAB_RANK_MAX], extent[SLAB_RANK_MAX];
	uint64_t number = *pos, n_elems = 1, elem = 0, partition_elem = 0, array_stride = 1, stride = 1;
	unsigned split = g->rank;

	if (partition >= g->n_partitions)
		return false;
	valid_box(g, partition, corner, extent);
	while (split > 0 && g->chunk[split - 1] == g->shape[split - 1])
		split--;
	split -= split > 0;
	for (unsigned k = g->rank; k-- > 0;) {
		uint64_t coord = 0;

		if (k >= split) {
			n_elems *= extent[k];
		} else {
			coord = number % extent[k];
			number /= extent[k];
		}
		elem += (corner[k] + coord) * array_stride;
		partition_elem += coord * stride;
		array_stride *= g->shape[k];
		stride *= g->chunk[k];
	}
	if (number)
		return false;
	++*pos;
	*ret = (struct grid_run){
		.partition = partition, .partition_elem = partition_elem, .elem = elem, .n_elems = n_elems
	};
	return true;
}
