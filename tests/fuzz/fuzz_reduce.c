/* Any bytes as a state from another node: what is accepted encodes to the same bytes, and merges and answers
 * without harm.
 *
 * The first bytes choose the question: operation, dtype, ddof. */
#include "reduce.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_again(const struct reduce_spec *spec, const struct reduce_state *s, const void *buf, size_t len)
{
	AUTO_FREE void *again = NULL;
	size_t again_len = 0;

	check(reduce_encode(spec, s, &again, &again_len) == 0 && again_len == len && !memcmp(again, buf, len));
}

static void answer(const struct reduce_spec *spec, const struct reduce_state *s)
{
	AUTO_FREE char *text = NULL;
	struct reason why = { "" };
	union dtype_value v;
	enum dtype dtype;

	check(reduce_text(spec, s, &text, &why) == 0 || why.text[0]);
	check(reduce_value(spec, s, &dtype, &v, &why) != 0 || dtype == reduce_result_dtype(spec));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reduce_spec spec = { 0 };
	struct reduce_state *s, *other;
	union dtype_value one = { .bytes = { 1 } };
	struct reason why = { "" };

	if (size < 3)
		return 0;
	spec.op = reduce_op_at(data[0]);
	spec.dtype = (enum dtype)data[1];
	spec.params.ddof = (int8_t)data[2];
	if (!spec.op || !dtype_valid(data[1]))
		return 0;
	if (reduce_decode(&spec, data + 3, size - 3, &s, &why)) {
		check(why.text[0] && !strchr(why.text, '\n'));
		return 0;
	}
	check_again(&spec, s, data + 3, size - 3);
	answer(&spec, s);
	check(reduce_decode(&spec, data + 3, size - 3, &other, NULL) == 0);
	reduce_repeat(&spec, other, &one, 3, 0);
	reduce_merge(&spec, s, other);
	reduce_merge(&spec, s, s);
	answer(&spec, s);
	reduce_state_free(other);
	reduce_state_free(s);
	return 0;
}
