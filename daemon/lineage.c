#include "lineage.h"
#include "io.h"

#include <stdio.h>

#define FILE_NAME "lineage"
#define FILE_MAX 8192
#define LINE_BYTES 64

static int parse(const char *text, struct lineage *ret)
{
	char word[16], uuid[40];
	int used;

	for (ret->n = 0; sscanf(text, "%15s %39s%n", word, uuid, &used) == 2; text += used) {
		if (ret->n > LINEAGE_MAX || strcmp(word, ret->n ? "announced" : "acknowledged"))
			return -EINVAL;
		if (uuid_parse(uuid, &ret->known[ret->n]) < 0)
			return -EINVAL;
		ret->n++;
	}
	return 0;
}

static int publish(int storefd, const struct uuid *runs, size_t n)
{
	char text[(LINEAGE_MAX + 2) * LINE_BYTES], uuid[37];
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		uuid_text(&runs[i], uuid);
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s %s\n", i ? "announced" : "acknowledged", uuid);
	}
	return io_publish(storefd, FILE_NAME, text, at, 0600);
}

int lineage_begin(int storefd, const struct uuid *run, struct lineage *ret, struct reason *why)
{
	struct uuid runs[LINEAGE_MAX + 2] = { { { 0 } } };
	AUTO_FREE char *text = NULL;
	size_t len, drop;
	int err = io_read_file(storefd, FILE_NAME, FILE_MAX, &text, &len);

	ret->n = 0;
	if (!err)
		err = parse(text, ret);
	if (err == -ENOENT) { /* no start has been acknowledged: the uuid of zeros */
		ret->known[ret->n++] = runs[0];
		err = 0;
	}
	if (!err && ret->n == 0)
		err = -EINVAL;
	if (err)
		return reason_set(why, -err, "the store's file '" FILE_NAME "' cannot be read: %s", strerror(-err));
	drop = ret->n > LINEAGE_MAX ? 1 : 0;
	memcpy(runs, ret->known, sizeof(runs[0]));
	memcpy(runs + 1, ret->known + 1 + drop, (ret->n - 1 - drop) * sizeof(runs[0]));
	runs[ret->n - drop] = *run;
	err = publish(storefd, runs, ret->n - drop + 1);
	return err ? reason_set(why, -err, "the store's file '" FILE_NAME "' cannot be written: %s", strerror(-err))
		   : 0;
}

int lineage_acknowledged(int storefd, const struct uuid *run)
{
	return publish(storefd, run, 1);
}
