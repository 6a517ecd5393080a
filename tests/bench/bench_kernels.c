/* bench_kernels.c - how fast one core reduces memory, beside a loop that only reads it.
 *
 *   bench_kernels [MIB] [VARIANT]      default: 256 MiB, the best variant for this machine
 *
 * Prints one line a dtype and operation: GB/s (10^9 bytes), the best of five passes.
 */
#include "reduce.h"
#include "reduce_kernels.h"

#include <stdio.h>

#define PASSES 5

static uint64_t read_all(const uint64_t *p, size_t n)
{
	uint64_t a = 0, b = 0, c = 0, d = 0;

	for (size_t i = 0; i + 8 <= n; i += 8) {
		a ^= p[i] ^ p[i + 1];
		b ^= p[i + 2] ^ p[i + 3];
		c ^= p[i + 4] ^ p[i + 5];
		d ^= p[i + 6] ^ p[i + 7];
	}
	return a ^ b ^ c ^ d;
}

static void report(const char *what, size_t bytes, uint64_t best_ns)
{
	printf("%-24s %7.2f GB/s\n", what, (double)bytes / (double)MAX(best_ns, UINT64_C(1)));
	fflush(stdout);
}

static void bench_read(const void *data, size_t bytes)
{
	uint64_t best = UINT64_MAX;

	for (int pass = 0; pass < PASSES; pass++) {
		uint64_t start = time_mono_ns();

		if (read_all(data, bytes / 8) == 1)
			puts("an unlikely sum"); /* so that the reading is not optimised away */
		best = MIN(best, time_mono_ns() - start);
	}
	report("read", bytes, best);
}

static int bench_op(const char *op, enum dtype dtype, const void *data, size_t bytes)
{
	struct reduce_spec spec = { .op = reduce_op_find(op), .dtype = dtype };
	uint64_t best = UINT64_MAX;
	char what[64];

	for (int pass = 0; pass < PASSES; pass++) {
		uint64_t start = time_mono_ns();
		struct reduce_state *s;

		if (reduce_state_new(&spec, &s))
			return 1;
		reduce_update(&spec, s, data, bytes / dtype_bytes(dtype), 0);
		best = MIN(best, time_mono_ns() - start);
		reduce_state_free(s);
	}
	snprintf(what, sizeof(what), "%s %s", dtype_zarr_name(dtype), op);
	report(what, bytes, best);
	return 0;
}

/* Sums of twelve uniform numbers, less six: nearly normal, as measurements are. */
static double normal(uint64_t *state)
{
	double sum = -6;

	for (int i = 0; i < 12; i++) {
		*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		sum += (double)(*state >> 11) * 0x1p-53;
	}
	return sum;
}

static void fill(enum dtype dtype, void *data, size_t bytes)
{
	uint64_t state = 1;

	for (size_t i = 0; i < MIN(bytes, (size_t)1 << 24) / dtype_bytes(dtype); i++) {
		if (dtype == DTYPE_FLOAT64)
			((double *)data)[i] = normal(&state);
		else if (dtype == DTYPE_FLOAT32)
			((float *)data)[i] = (float)normal(&state);
		else
			((int32_t *)data)[i] = (int32_t)(normal(&state) * 1e8);
	}
	for (size_t at = (size_t)1 << 24; at < bytes; at += (size_t)1 << 24)
		memcpy((uint8_t *)data + at, data, MIN(bytes - at, (size_t)1 << 24));
}

static int choose(const char *variant)
{
	for (size_t i = 0; kernel_variants[i]; i++) {
		if (!strcmp(kernel_variants[i]->name, variant) && kernel_variants[i]->runs_here()) {
			kernels_force(kernel_variants[i]);
			return 0;
		}
	}
	fprintf(stderr, "bench_kernels: %s does not run here\n", variant);
	return 2;
}

int main(int argc, char **argv)
{
	static const enum dtype dtypes[] = { DTYPE_FLOAT64, DTYPE_FLOAT32, DTYPE_INT32 };
	static const char *const names[] = { "sum", "var", "min", "argmax", "any", "describe" };
	uint64_t mib = 256;
	size_t bytes;
	void *data;
	int err = 0;

	if (argc > 3 || (argc > 1 && (parse_u64(argv[1], 1 << 20, &mib) || !mib))) {
		fprintf(stderr, "usage: bench_kernels [MIB] [VARIANT]\n");
		return 2;
	}
	if (argc > 2 && choose(argv[2]))
		return 2;
	bytes = (size_t)mib << 20;
	data = aligned_alloc(4096, bytes);
	if (!data)
		return 1;
	memset(data, 1, bytes);
	printf("kernels: %s, %llu MiB\n", kernels_best()->name, (unsigned long long)mib);
	bench_read(data, bytes);
	for (size_t i = 0; i < ARRAY_LEN(dtypes) && !err; i++) {
		fill(dtypes[i], data, bytes);
		for (size_t k = 0; k < ARRAY_LEN(names) && !err; k++)
			err = bench_op(names[k], dtypes[i], data, bytes);
	}
	free(data);
	return err;
}
