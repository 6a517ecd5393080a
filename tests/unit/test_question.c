/* test_question.c - names under compute/: what is accepted and how it is spelled, what is refused and with which words. */
#include "question.h"
#include "unit.h"

static void accepts(const char *name, enum question_format format, const char *canonical, int64_t ddof)
{
	struct question q;
	struct reason why = { "" };

	if (!CHECK(question_parse(name, DTYPE_FLOAT64, &q, &why) == 0)) {
		fprintf(stderr, "%s: %s\n", name, why.text);
		return;
	}
	CHECK(q.format == format && q.params.ddof == ddof && !strcmp(q.canonical, canonical));
	CHECK(q.op == reduce_op_find(reduce_op_name(q.op)) && !why.text[0]);
}

static void refuses(const char *name, int err, const char *words)
{
	struct question q;
	struct reason why = { "" };

	if (!CHECK(question_parse(name, DTYPE_FLOAT64, &q, &why) == -err && strstr(why.text, words)))
		fprintf(stderr, "%s: %s\n", name, why.text);
	CHECK(!strchr(why.text, '\n'));
	CHECK(question_parse(name, DTYPE_FLOAT64, &q, NULL) == -err);
}

static void test_accepted(void)
{
	char name[64];

	for (size_t i = 0; reduce_op_at(i); i++) {
		const struct reduce_op *op = reduce_op_at(i);

		if (reduce_op_is_json(op))
			continue;
		accepts(reduce_op_name(op), QUESTION_TEXT, reduce_op_name(op), 0);
		snprintf(name, sizeof(name), "%s.npy", reduce_op_name(op));
		accepts(name, QUESTION_NPY, reduce_op_name(op), 0);
	}
	accepts("describe.json", QUESTION_JSON, "describe.json", 0);
	accepts("describe,ddof=1.json", QUESTION_JSON, "describe,ddof=1.json", 1);
	accepts("var,ddof=1", QUESTION_TEXT, "var,ddof=1", 1);
	accepts("var,ddof=+1.npy", QUESTION_NPY, "var,ddof=1", 1);
	accepts("std,ddof=0001", QUESTION_TEXT, "std,ddof=1", 1);
	accepts("var,ddof=0", QUESTION_TEXT, "var", 0);
	accepts("var,ddof=-0", QUESTION_TEXT, "var", 0);
	accepts("var,ddof=-3", QUESTION_TEXT, "var,ddof=-3", -3);
	accepts("var,ddof=2147483648", QUESTION_TEXT, "var,ddof=2147483648", INT64_C(1) << 31);
}

static void test_unknown(void)
{
	refuses("", ENOENT, "compute/");
	refuses("meen", ENOENT, "did you mean 'mean'?");
	refuses("MEAN", ENOENT, "no operation 'MEAN'");
	refuses("summ.npy", ENOENT, "did you mean 'sum'?");
	refuses("argmean", ENOENT, "no operation");
	refuses("xylophone", ENOENT, "no operation 'xylophone'");
	refuses("zz", ENOENT, "no operation 'zz'");
	refuses(".npy", ENOENT, "no operation");
	refuses("mean.txt", ENOENT, "no operation 'mean.txt'");
	refuses("mean.npy.npy", ENOENT, "no operation");
	refuses("mean ", ENOENT, "at character 5");
	refuses("me\nan", ENOENT, "at character 3");
	refuses("describe", ENOENT, "describe.json");
	refuses("describe.npy", ENOENT, "describe.json");
	refuses(",ddof=1", ENOENT, "no operation");
}

static void test_bad(void)
{
	char name[300];

	refuses("var,ddof=x", EINVAL, "compute/var,ddof=x: ddof: 'x' is not a whole number (at character 10)");
	refuses("var,ddof=", EINVAL, "'' is not a whole number");
	refuses("var,ddof=-", EINVAL, "not a whole number");
	refuses("var,ddof=1.5", EINVAL, "not a whole number");
	refuses("var,ddof=1=2", EINVAL, "not a whole number");
	refuses("var,ddof=2147483649", EINVAL, "out of range");
	refuses("var,ddof=99999999999999999999999999", EINVAL, "out of range");
	refuses("var,ddof=1,ddof=1", EINVAL, "given twice (at character 12)");
	refuses("var,", EINVAL, "not KEY=VALUE (at character 5)");
	refuses("var,ddof", EINVAL, "'ddof' is not KEY=VALUE");
	refuses("var,ddof=1,", EINVAL, "not KEY=VALUE");
	refuses("var,axis=0", EINVAL, "no key 'axis' (at character 5)");
	refuses("mean,ddof=1", EINVAL, "mean takes no ddof");
	refuses("mean.json", EINVAL, "one value");
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	refuses(name, ENOENT, "255");
}

static void test_every_dtype(void)
{
	struct question q;

	for (int dtype = 1; dtype < DTYPE_END; dtype++) {
		CHECK(question_parse("max", (enum dtype)dtype, &q, NULL) == 0);
		CHECK(question_parse("describe.json", (enum dtype)dtype, &q, NULL) == 0);
	}
	CHECK(question_parse("max", DTYPE_END, &q, NULL) == -EINVAL);
}

int main(void)
{
	test_accepted();
	test_unknown();
	test_bad();
	test_every_dtype();
	return unit_result();
}
