#include "ranges.h"
#include "base.h"
#include "wire.h"

#define BLOCK_BYTES UINT64_C(65536) /* of one checksum */

static bool touch(const struct range *a, const struct range *b)
{
	return b->start / BLOCK_BYTES * BLOCK_BYTES <= a->end + (BLOCK_BYTES - a->end % BLOCK_BYTES) % BLOCK_BYTES;
}

static void remove_range(struct ranges *r, size_t i)
{
	r->n--;
	memmove(&r->at[i], &r->at[i + 1], (r->n - i) * sizeof(r->at[0]));
}

static void merge_with_next(struct ranges *r, size_t i)
{
	r->at[i].end = MAX(r->at[i].end, r->at[i + 1].end);
	remove_range(r, i + 1);
}

static void merge_closest(struct ranges *r)
{
	size_t best = 0;

	for (size_t i = 1; i + 1 < r->n; i++)
		if (r->at[i + 1].start - r->at[i].end < r->at[best + 1].start - r->at[best].end)
			best = i;
	merge_with_next(r, best);
}

static size_t first_after(const struct ranges *r, uint64_t start)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (r->at[mid].start <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Room for one more. */
static int make_room(struct ranges *r)
{
	size_t cap = r->cap ? 2 * r->cap : 8;
	struct range *at;

	if (r->n < r->cap)
		return 0;
	if (r->n == WIRE_RANGES_MAX) {
		merge_closest(r);
		return 0;
	}
	at = realloc(r->at, cap * sizeof(*at));
	if (!at)
		return -ENOMEM;
	r->at = at;
	r->cap = cap;
	return 0;
}

int ranges_add(struct ranges *r, uint64_t start, uint64_t end)
{
	size_t i;

	if (make_room(r))
		return -ENOMEM;
	i = first_after(r, start);
	memmove(&r->at[i + 1], &r->at[i], (r->n - i) * sizeof(r->at[0]));
	r->at[i] = (struct range){ start, end };
	r->n++;
	if (i > 0 && touch(&r->at[i - 1], &r->at[i]))
		merge_with_next(r, --i);
	while (i + 1 < r->n && touch(&r->at[i], &r->at[i + 1]))
		merge_with_next(r, i);
	return 0;
}

void ranges_clear(struct ranges *r)
{
	r->n = 0;
}

void ranges_fini(struct ranges *r)
{
	free(r->at);
	*r = (struct ranges){ 0 };
}
