#include "grid.h"

#include "unit.h"

/* The oracle: partition and offset of every element, from its coordinates by the definition. */
struct place {
	uint64_t partition, offset;
};

static struct place naive_place(const struct grid *g, uint64_t elem)
{
	uint64_t coords[SLAB_RANK_MAX];
	struct place p = { 0, 0 };

	for (unsigned k = g->rank; k-- > 0;) {
		coords[k] = elem % g->shape[k];
		elem /= g->shape[k];
	}
	for (unsigned k = 0; k < g->rank; k++) {
		p.partition = p.partition * div_up(g->shape[k], g->chunk[k]) + coords[k] / g->chunk[k];
		p.offset = p.offset * g->chunk[k] + coords[k] % g->chunk[k];
	}
	return p;
}

static bool follows(struct place a, struct place b)
{
	return a.partition == b.partition && a.offset + 1 == b.offset;
}

static void check_run_at(const struct grid *g, uint64_t elem)
{
	struct place at = naive_place(g, elem), p = at;
	struct grid_run run, cut;
	uint64_t n = 1;

	while (elem + n < g->n_elems && follows(p, naive_place(g, elem + n)))
		p = naive_place(g, elem + n++);
	grid_run_at(g, elem, UINT64_MAX, &run);
	CHECK(run.elem == elem && run.partition == at.partition && run.partition_elem == at.offset);
	CHECK(run.n_elems == n);
	grid_run_at(g, elem, 2, &cut);
	CHECK(cut.n_elems == MIN(n, 2) && cut.partition == run.partition && cut.partition_elem == run.partition_elem);
}

/* The runs of all partitions hold each element once, in order, and no two of them could be one. */
static void check_partition_runs(const struct grid *g)
{
	uint64_t seen = 0, pos, valid, first_after_pad;
	struct grid_run run, last;

	for (uint64_t i = 0; i < g->n_partitions; i++) {
		pos = valid = first_after_pad = 0;
		last = (struct grid_run){ 0 };
		while (grid_partition_next_run(g, i, &pos, &run)) {
			CHECK(run.partition == i && run.n_elems >= 1 && run.partition_elem >= first_after_pad);
			CHECK(!last.n_elems || run.partition_elem > last.partition_elem + last.n_elems - 1);
			CHECK(!last.n_elems || run.partition_elem != last.partition_elem + last.n_elems ||
			      run.elem != last.elem + last.n_elems);
			for (uint64_t e = 0; e < run.n_elems; e++) {
				struct place p = naive_place(g, run.elem + e);

				CHECK(p.partition == i && p.offset == run.partition_elem + e);
			}
			first_after_pad = run.partition_elem + run.n_elems;
			valid += run.n_elems;
			last = run;
		}
		CHECK(first_after_pad <= g->partition_elems);
		CHECK(valid == grid_partition_valid_elems(g, i) && valid > 0);
		CHECK(!g->native || pos == 1);
		seen += valid;
	}
	CHECK(seen == g->n_elems);
	pos = 0;
	CHECK(!grid_partition_next_run(g, g->n_partitions, &pos, &run));
	CHECK(grid_partition_valid_elems(g, g->n_partitions) == 0);
}

static void check_coords(const struct grid *g)
{
	uint64_t coords[SLAB_RANK_MAX];
	char key[GRID_KEY_MAX], want[GRID_KEY_MAX];

	for (uint64_t i = 0; i < g->n_partitions; i++) {
		size_t n = (size_t)snprintf(want, sizeof(want), "c");

		grid_coords(g, i, coords);
		CHECK(grid_index(g, coords) == i);
		for (unsigned k = 0; k < g->rank; k++) {
			CHECK(coords[k] < g->counts[k]);
			n += (size_t)snprintf(want + n, sizeof(want) - n, "/%d", (int)coords[k]);
		}
		grid_key(g, i, '/', key);
		CHECK(!strcmp(key, want));
	}
}

static bool naive_native(const struct grid *g)
{
	for (unsigned k = 1; k < g->rank; k++) {
		if (g->shape[k] ? g->chunk[k] != g->shape[k] : g->chunk[k] != 1)
			return false;
	}
	return true;
}

static void check_grid(const struct grid *g)
{
	CHECK(g->native == naive_native(g));
	for (uint64_t e = 0; e < g->n_elems; e++)
		check_run_at(g, e);
	check_partition_runs(g);
	check_coords(g);
}

static void test_random_grids(void)
{
	uint64_t seed = 3, natives = 0, empties = 0;
	unsigned ranks = 0;

	for (int i = 0; i < 4000; i++) {
		unsigned rank = (unsigned)(unit_random(&seed) % 6);
		uint64_t shape[6], chunk[6], most = rank > 3 ? 4 : 8;
		struct grid g;

		for (unsigned k = 0; k < rank; k++) {
			shape[k] = unit_random(&seed) % 24 ? 1 + unit_random(&seed) % most : 0;
			chunk[k] = 1 + unit_random(&seed) % (most + 1);
			if (unit_random(&seed) % 2)
				chunk[k] = MAX(shape[k], 1);
		}
		if (!CHECK(grid_init(&g, rank, shape, chunk, 4, NULL) == 0))
			continue;
		check_grid(&g);
		natives += g.native;
		empties += !g.n_elems;
		ranks |= 1u << rank;
	}
	CHECK(natives > 100 && empties > 100 && ranks == 0x3f);
}

static void test_scalar(void)
{
	struct grid g;
	char key[GRID_KEY_MAX];

	CHECK(grid_init(&g, 0, NULL, NULL, 8, NULL) == 0);
	CHECK(g.n_elems == 1 && g.n_partitions == 1 && g.partition_bytes == 8 && g.native);
	grid_key(&g, 0, '/', key);
	CHECK(!strcmp(key, "c"));
	check_grid(&g);
}

static void test_keys(void)
{
	struct grid g;
	uint64_t shape[SLAB_RANK_MAX], chunk[SLAB_RANK_MAX];
	char key[GRID_KEY_MAX];

	CHECK(grid_init(&g, 2, (uint64_t[]){ 30, 40 }, (uint64_t[]){ 10, 4 }, 1, NULL) == 0);
	grid_key(&g, 29, '.', key);
	CHECK(!strcmp(key, "c.2.9"));
	for (unsigned k = 0; k < SLAB_RANK_MAX; k++)
		shape[k] = chunk[k] = 1;
	shape[31] = UINT64_C(1) << 40;
	CHECK(grid_init(&g, SLAB_RANK_MAX, shape, chunk, 1, NULL) == 0);
	grid_key(&g, (UINT64_C(1) << 40) - 1, '/', key);
	CHECK(strlen(key) == 1 + 31 * 2 + 14 && !strcmp(key + 64, "1099511627775"));
}

static bool refused(int want, unsigned rank, const uint64_t *shape, const uint64_t *chunk, size_t item)
{
	struct grid g = { .rank = 77 };
	struct reason why = { "" };

	return grid_init(&g, rank, shape, chunk, item, &why) == want && g.rank == 77 && why.text[0] &&
	       (strstr(why.text, "shape") || strstr(why.text, "data_type"));
}

static void test_refusals(void)
{
	const uint64_t huge = UINT64_MAX;
	uint64_t many[SLAB_RANK_MAX + 1];

	for (unsigned k = 0; k <= SLAB_RANK_MAX; k++)
		many[k] = 4;
	CHECK(refused(-EINVAL, SLAB_RANK_MAX + 1, many, many, 1));
	CHECK(refused(-EFBIG, SLAB_RANK_MAX, many, many, 1));
	CHECK(refused(-EINVAL, 1, (uint64_t[]){ 5 }, (uint64_t[]){ 0 }, 1));
	CHECK(refused(-EINVAL, 1, (uint64_t[]){ 5 }, (uint64_t[]){ 5 }, 0));
	CHECK(refused(-EFBIG, 1, &huge, (uint64_t[]){ 5 }, 1));
	CHECK(refused(-EFBIG, 1, (uint64_t[]){ 5 }, &huge, 1));
	CHECK(refused(-EFBIG, 2, (uint64_t[]){ 1ull << 32, 1ull << 32 }, (uint64_t[]){ 1ull << 20, 1ull << 20 }, 1));
	CHECK(refused(-EFBIG, 1, (uint64_t[]){ 1ull << 60 }, (uint64_t[]){ 1ull << 43 }, 8));
	CHECK(refused(-EFBIG, 1, (uint64_t[]){ (1ull << 40) + 1 }, (uint64_t[]){ 1 }, 1));
	CHECK(refused(-EFBIG, 2, (uint64_t[]){ 0, 5 }, (uint64_t[]){ 1ull << 32, 1ull << 32 }, 1));
	CHECK(refused(-EFBIG, 2, (uint64_t[]){ 1, 1ull << 20 }, (uint64_t[]){ 1ull << 42, 1 }, 1));
	/* 2^40 partitions of 2^45 bytes, nearly all of it padding. */
	CHECK(refused(-EFBIG, 2, (uint64_t[]){ 1, 1ull << 40 }, (uint64_t[]){ 1ull << 45, 1 }, 1));
}

static void test_limits(void)
{
	struct grid g;

	CHECK(grid_init(&g, 1, (uint64_t[]){ 1ull << 60 }, (uint64_t[]){ 1ull << 46 }, 1, NULL) == 0);
	CHECK(g.n_partitions == 1 << 14 && g.partition_bytes == GRID_PARTITION_BYTES_MAX);
	CHECK(grid_init(&g, 1, (uint64_t[]){ 1ull << 40 }, (uint64_t[]){ 1 }, 16, NULL) == 0);
	CHECK(g.n_partitions == GRID_PARTITIONS_MAX);
	CHECK(grid_init(&g, 3, (uint64_t[]){ UINT64_MAX, 0, UINT64_MAX }, (uint64_t[]){ 1, 1, 1 }, 8, NULL) == 0);
	CHECK(g.n_elems == 0 && g.n_partitions == 0);
}

/* A partition of 2^46 elements, one of them valid, is walked in one step. */
static void test_padding_is_not_walked(void)
{
	struct grid g;
	struct grid_run run;
	uint64_t pos = 0;

	CHECK(grid_init(&g, 2, (uint64_t[]){ 1, 1 }, (uint64_t[]){ 1ull << 23, 1ull << 23 }, 1, NULL) == 0);
	CHECK(grid_partition_next_run(&g, 0, &pos, &run) && run.n_elems == 1);
	CHECK(!grid_partition_next_run(&g, 0, &pos, &run) && grid_partition_valid_elems(&g, 0) == 1);
}

static uint64_t native_rows(uint64_t rows, uint64_t columns, size_t item, uint64_t target)
{
	uint64_t shape[2] = { rows, columns }, chunk[2];
	struct grid g;

	grid_native_chunk(2, shape, item, target, chunk);
	CHECK(chunk[1] == MAX(columns, 1));
	if (CHECK(grid_init(&g, 2, shape, chunk, item, NULL) == 0))
		CHECK(g.native && (chunk[0] == 1 || g.partition_bytes <= target));
	return chunk[0];
}

static void test_native_chunk(void)
{
	uint64_t chunk[SLAB_RANK_MAX], seed = 5;
	struct grid g;

	CHECK(native_rows(1000000, 1000, 8, 1 << 26) == 8388 / 64 * 64);
	CHECK(native_rows(1000000, 1024, 4, 1 << 26) == 1 << 14);
	CHECK(native_rows(10, 1000, 8, 1 << 26) == 10);
	CHECK(native_rows(3, 7, 1, 1) == 1);
	CHECK(native_rows(100, 3, 1, 100) == 33);
	CHECK(native_rows(0, 3, 8, 1 << 20) == 65536 / 24 && native_rows(5, 0, 8, 1 << 20) == 8192);
	CHECK(native_rows(9, 1, 8, 1 << 26) == 8192 && native_rows(9, 1, 8, 4096) == 512 &&
	      native_rows(9, 1, 8, 80) == 10);
	CHECK(native_rows(5, UINT64_C(1) << 40, 8, 1 << 20) == 1);
	for (int i = 0; i < 2000; i++) {
		uint64_t rows = unit_random(&seed) % 100000, columns = 1 + unit_random(&seed) % 300;
		uint64_t got = native_rows(rows, columns, 4, 1 << 18), least = MAX(rows, 65536 / (columns * 4));

		CHECK(got == least || got * columns * 4 % 4096 == 0 || (1 << 18) < columns * 4 * 4096);
		CHECK(got >= MIN(least, (1 << 18) / (columns * 4) / 2));
	}
	grid_native_chunk(0, NULL, 8, 1, chunk);
	grid_native_chunk(3, (uint64_t[]){ 9, UINT64_MAX, UINT64_MAX }, 8, 1 << 20, chunk);
	CHECK(chunk[0] == 1 && grid_init(&g, 3, (uint64_t[]){ 9, UINT64_MAX, UINT64_MAX }, chunk, 8, NULL) == -EFBIG);
}

int main(void)
{
	test_random_grids();
	test_scalar();
	test_keys();
	test_refusals();
	test_limits();
	test_padding_is_not_walked();
	test_native_chunk();
	return unit_result();
}
