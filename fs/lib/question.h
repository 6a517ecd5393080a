/* question.h - the names under compute/: OP[,key=value]*[.npy|.json], parsed, checked against a dtype, and spelled canonically.
 *
 * Any thread.  The grammar is in docs/compute.md.
 */
#ifndef SLAB_QUESTION_H
#define SLAB_QUESTION_H

#include "base.h"
#include "dtype.h"
#include "reduce.h"

#define QUESTION_MAX 255

enum question_format { QUESTION_TEXT, QUESTION_NPY, QUESTION_JSON };

struct question {
	const struct reduce_op *op;
	struct reduce_params params;
	enum question_format format;
	char canonical
		[QUESTION_MAX +
		 1]; /* "var,ddof=1", "describe.json": a question that parses again, without .npy and default values */
};

/* -ENOENT: no such operation; -EINVAL: bad or unknown key, bad value, wrong format, operation not defined for the dtype.
 * The reason is one line that says where: "compute/var,ddof=x: ddof: 'x' is not a whole number (at character 10)". */
int question_parse(const char *name, enum dtype dtype, struct question *ret, struct reason *why);

#endif
