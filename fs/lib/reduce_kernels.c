/* reduce_kernels.c - the kernels for each instruction set, and the choice between them, made once at first use. */
#include "reduce_kernels.h"

#define VARIANT plain
#define VARIANT_NAME "plain"
#define TARGET
#define VEC 16
#define RUNS_HERE true
#include "reduce_kernel_variant.h"

#ifdef __x86_64__

#define VARIANT avx2
#define VARIANT_NAME "avx2"
#define TARGET __attribute__((target("avx2")))
#define VEC 32
#define RUNS_HERE __builtin_cpu_supports("avx2")
#include "reduce_kernel_variant.h"

#define VARIANT avx512
#define VARIANT_NAME "avx512"
#define TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl")))
#define VEC 64
#define RUNS_HERE                                                                                                      \
	__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&                                     \
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
#include "reduce_kernel_variant.h"

#endif

const struct kernels *const kernel_variants[] = {
	&kernels_table_plain,
#ifdef __x86_64__
	&kernels_table_avx2,
	&kernels_table_avx512,
#endif
	NULL,
};

static const struct kernels *chosen;

static const struct kernels *choose(void)
{
	const struct kernels *best = kernel_variants[0];

	for (size_t i = 0; kernel_variants[i]; i++) {
		if (kernel_variants[i]->runs_here())
			best = kernel_variants[i];
	}
	return best;
}

const struct kernels *kernels_best(void)
{
	const struct kernels *k = __atomic_load_n(&chosen, __ATOMIC_RELAXED);

	if (!k) {
		k = choose();
		__atomic_store_n(&chosen, k, __ATOMIC_RELAXED);
	}
	return k;
}

void kernels_force(const struct kernels *k)
{
	__atomic_store_n(&chosen, k, __ATOMIC_RELAXED);
}
