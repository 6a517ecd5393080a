/* bits.h - a growing set of small numbers.  Zero-initialised is empty.  Not thread-safe. */
#ifndef SLABFSD_BITS_H
#define SLABFSD_BITS_H

#include "base.h"

struct bits {
	uint64_t *words;
	size_t n_words;
};

static inline void bits_fini(struct bits *b)
{
	free(b->words);
	*b = (struct bits){ 0 };
}

static inline bool bits_get(const struct bits *b, uint64_t i)
{
	return i / 64 < b->n_words && (b->words[i / 64] >> (i % 64) & 1);
}

/* Room for numbers below n, so that bits_set cannot fail for them. */
static inline int bits_reserve(struct bits *b, uint64_t n)
{
	size_t want = (size_t)div_up(n, 64);
	uint64_t *words;

	if (want <= b->n_words)
		return 0;
	words = realloc(b->words, want * sizeof(*words));
	if (!words)
		return -ENOMEM;
	memset(words + b->n_words, 0, (want - b->n_words) * sizeof(*words));
	*b = (struct bits){ words, want };
	return 0;
}

static inline void bits_set(struct bits *b, uint64_t i)
{
	b->words[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline void bits_clear(struct bits *b, uint64_t i)
{
	if (i / 64 < b->n_words)
		b->words[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

static inline void bits_clear_all(struct bits *b)
{
	if (b->n_words)
		memset(b->words, 0, b->n_words * sizeof(*b->words));
}

/* The next run of members in [*first, end), at most max long: false when there is none. */
static inline bool bits_next_run(const struct bits *b, uint64_t *first, uint64_t end, size_t max, size_t *ret_n)
{
	uint64_t i = *first, n = 0;

	end = MIN(end, (uint64_t)b->n_words * 64);
	while (i < end && !bits_get(b, i))
		i = b->words[i / 64] ? i + 1 : (i / 64 + 1) * 64;
	while (i + n < end && n < max && bits_get(b, i + n))
		n++;
	*first = i;
	*ret_n = (size_t)n;
	return n > 0;
}

#endif
