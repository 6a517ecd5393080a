/* reduce.h - what a reduction is: a table entry with a state, kernels that feed it, a merge, a finalize, and a
 * wire form.
 *
 * States merge in any order and any grouping to the same bits; so the answer does not depend on the number of
 * nodes, partitions or threads.  Float sums, means, variances and standard deviations are the correctly rounded
 * results of exact arithmetic on the elements; integer sums are exact.  A state is used by one thread at a time;
 * ops and specs are immutable.
 *
 * Meaning is NumPy's, and where NumPy's answer depends on the order of the elements, this one does not:
 *   min, max      any NaN gives nan; -0.0 is less than 0.0; complex by real part, then imaginary part, then -0.0
 *                 before 0.0 in that order; a complex with a NaN in either part gives (nan+nanj)
 *   argmin/max    the lowest flat index; of the first NaN if there is one; -0.0 equals 0.0
 *   sum, mean     an exact zero is 0.0; infinities of both signs give nan; the parts of a complex do not touch
 *                 each other
 *   var, std      nan as soon as one element is not finite; the divisor is max(n - ddof, 0): 0/0 is nan, else inf
 *   describe      one line of JSON: NaN is null, infinities are the strings "Infinity" and "-Infinity", a complex
 *                 is [re, im]
 *
 * The shape of use: spec_init, state_new per thread, update per run of elements, merge, encode -> (wire) ->
 * decode, merge, finalize.
 */
#ifndef SLAB_REDUCE_H
#define SLAB_REDUCE_H

#include "base.h"
#include "dtype.h"

struct reduce_op;    /* one operation; reduce_op_name() */
struct reduce_state; /* opaque; made for one spec */

struct reduce_params {
	int64_t ddof; /* var, std, describe */
};

struct reduce_spec {
	const struct reduce_op *op;
	enum dtype dtype; /* of the elements */
	bool swap;        /* the elements are in the other byte order than this machine's */
	struct reduce_params params;
};

/* The table. */
const struct reduce_op *reduce_op_find(const char *name); /* NULL: none */
const struct reduce_op *reduce_op_at(size_t i);           /* in alphabetical order; NULL past the end */
const char *reduce_op_name(const struct reduce_op *op);
bool reduce_op_defined(const struct reduce_op *op, enum dtype dtype);
bool reduce_op_takes(const struct reduce_op *op, const char *key); /* "ddof" */
bool reduce_op_is_json(const struct reduce_op *op);                /* describe: answers .json only */

int reduce_state_new(const struct reduce_spec *spec, struct reduce_state **ret); /* the empty state; -ENOMEM */
void reduce_state_free(struct reduce_state *s);

/* Feeds n elements that lie contiguously at data (any alignment), stored in the spec's byte order.  elem is the
 * flat C-order index of the first in the whole array (argmin and argmax need it). */
void reduce_update(const struct reduce_spec *spec, struct reduce_state *s, const void *data, size_t n_elems,
		   uint64_t elem);

/* Feeds n times the same element (machine byte order; a missing partition's fill_value) whose first flat index is
 * elem.  Same bits as n updates, in time that does not depend on n. */
void reduce_repeat(const struct reduce_spec *spec, struct reduce_state *s, const union dtype_value *value, uint64_t n,
		   uint64_t elem);

void reduce_merge(const struct reduce_spec *spec, struct reduce_state *into, const struct reduce_state *from);

/* The fixed, little-endian wire form.  encode: *ret malloc'ed.  decode: every byte checked; -EPROTO with a reason. */
int reduce_encode(const struct reduce_spec *spec, const struct reduce_state *s, void **ret, size_t *ret_len);
int reduce_decode(const struct reduce_spec *spec, const void *buf, size_t len, struct reduce_state **ret,
		  struct reason *why);
#define REDUCE_WIRE_MAX (1u << 20)

/* The answer.  A value for .npy (dtype and machine-order bytes), and its text with a newline (malloc'ed). min,
 * max, argmin and argmax of nothing: -EINVAL with NumPy's words ("zero-size array to reduction operation minimum
 * which has no identity"). A value that its NumPy result dtype cannot hold (an int64 sum beyond int64): text gives
 * it exactly, value gives -EOVERFLOW. */
int reduce_value(const struct reduce_spec *spec, const struct reduce_state *s, enum dtype *ret_dtype,
		 union dtype_value *ret, struct reason *why);
int reduce_text(const struct reduce_spec *spec, const struct reduce_state *s, char **ret, struct reason *why);
enum dtype
reduce_result_dtype(const struct reduce_spec *spec); /* known before any computing: the .npy result's dtype */

#endif
