/* reduce_unit.h - what the tests of reductions share: one call that reduces an array, and encodings to compare. */
#ifndef SLAB_REDUCE_UNIT_H
#define SLAB_REDUCE_UNIT_H

#include "reduce.h"
#include "unit.h"

static inline struct reduce_spec spec_of(const char *op, enum dtype dtype, int64_t ddof)
{
	return (struct reduce_spec){ .op = reduce_op_find(op), .dtype = dtype, .params = { .ddof = ddof } };
}

static inline struct reduce_state *state_of(const struct reduce_spec *spec, const void *data, size_t n, uint64_t elem)
{
	struct reduce_state *s = NULL;

	CHECK(reduce_state_new(spec, &s) == 0);
	reduce_update(spec, s, data, n, elem);
	return s;
}

/* Frees s. */
static inline double double_of(const struct reduce_spec *spec, struct reduce_state *s)
{
	union dtype_value v = { 0 };
	enum dtype dtype = 0;
	double ret;

	CHECK(reduce_value(spec, s, &dtype, &v, NULL) == 0);
	CHECK(dtype == DTYPE_FLOAT64 && reduce_result_dtype(spec) == dtype);
	memcpy(&ret, v.bytes, sizeof(ret));
	reduce_state_free(s);
	return ret;
}

static inline double reduce_doubles(const char *op, const double *data, size_t n, int64_t ddof)
{
	struct reduce_spec spec = spec_of(op, DTYPE_FLOAT64, ddof);

	return double_of(&spec, state_of(&spec, data, n, 0));
}

static inline bool same_encoding(const struct reduce_spec *spec, const struct reduce_state *a,
				 const struct reduce_state *b)
{
	AUTO_FREE void *x = NULL, *y = NULL;
	size_t x_len = 0, y_len = 0;

	CHECK(reduce_encode(spec, a, &x, &x_len) == 0 && reduce_encode(spec, b, &y, &y_len) == 0);
	return x_len == y_len && !memcmp(x, y, x_len);
}

/* The text without its newline; frees s.  A failure gives the reason. */
static inline void text_of(const struct reduce_spec *spec, struct reduce_state *s, char ret[512])
{
	AUTO_FREE char *text = NULL;
	struct reason why;

	if (reduce_text(spec, s, &text, &why)) {
		snprintf(ret, 512, "%s", why.text);
	} else {
		snprintf(ret, 512, "%s", text);
		CHECK(strlen(text) && text[strlen(text) - 1] == '\n');
		ret[strcspn(ret, "\n")] = '\0';
	}
	reduce_state_free(s);
}

#endif
