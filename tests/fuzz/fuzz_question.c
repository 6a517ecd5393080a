/* Any name under compute/, for any dtype: what is accepted has a canonical spelling, which is accepted and is its own. */
#include "question.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[2 * QUESTION_MAX + 2];
	struct reason why = { "" };
	struct question q, again;
	enum dtype dtype;
	int err;

	if (size < 1 || size >= sizeof(name))
		return 0;
	dtype = (enum dtype)(data[0] % 32);
	if (!dtype_valid(dtype))
		return 0;
	memcpy(name, data + 1, size - 1);
	name[size - 1] = '\0';
	err = question_parse(name, dtype, &q, &why);
	if (err) {
		check((err == -ENOENT || err == -EINVAL || err == -ENAMETOOLONG) && !strchr(why.text, '\n'));
		return 0;
	}
	check(memchr(q.canonical, '\0', sizeof(q.canonical)) != NULL);
	check(question_parse(q.canonical, dtype, &again, &why) == 0 && !strcmp(q.canonical, again.canonical));
	check(again.op == q.op);
	return 0;
}
