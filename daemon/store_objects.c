/* What the store knows of its objects: for checks, and for a head that is made anew. */
#include "part.h"

int store_describe(struct store *s, uint64_t object, const void *description, size_t len, struct reason *why)
{
	int err;

	if (store_is_dead(s, object))
		return -ESTALE;
	err = catalog_describe(s->catalog, object, description, len);
	return err ? reason_set(why, -err, "the store's catalog: %s", strerror(-err)) : store_catalog_sync(s, why);
}

static int note_bad(void *arg, struct part_id id, const char *suffix)
{
	struct store_object *o = arg;

	if (strcmp(suffix, ".bad") != 0)
		return 0;
	if (o->quarantined < STORE_BAD_MAX)
		o->bad[o->quarantined] = id.index;
	o->quarantined++;
	return 0;
}

int store_next_object(struct store *s, uint64_t after, struct store_object *ret, struct reason *why)
{
	struct part_info *infos = NULL;
	size_t n = 0;
	int err;

	*ret = (struct store_object){ .object = catalog_next(s->catalog, after) };
	if (!ret->object)
		return -ENOENT;
	err = store_list(s, ret->object, 0, SIZE_MAX, &infos, &n, why); /* which quarantines what is lost */
	for (size_t i = 0; !err && i < n; i++)
		ret->bytes += infos[i].file_bytes;
	ret->partitions = n;
	free(infos);
	if (err == -ESTALE) /* dropped meanwhile */
		return store_next_object(s, ret->object, ret, why);
	if (!err)
		err = store_each_file(s, ret->object, note_bad, ret);
	if (!err)
		err = catalog_description(s->catalog, ret->object, &ret->description, &ret->description_bytes);
	return err == -ENOENT ? 0 : err;
}
