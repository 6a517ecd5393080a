#include "refuse.h"
#include "dir.h"
#include "errors.h"

static const char *reason_of(struct mount *m, const struct node *dir, const char *name)
{
	switch (dir->kind) {
	case NODE_CHUNKDIR:
		return "under c/ there are partitions and temporary files beside them: regular files, which are "
		       "written, replaced and "
		       "removed, but not moved away";
	case NODE_COMPUTEDIR:
		return "under compute/ there are answers: nothing is made, moved or removed there";
	case NODE_CONTROLDIR:
		return ".slabfs belongs to the mount: nothing is made, moved or removed there";
	case NODE_DIR:
		if (dir_is_control(m, dir, name))
			return ".slabfs belongs to the mount";
		if (!strcmp(name, "c") || !strcmp(name, "data") || !strcmp(name, "data.npy") ||
		    !strcmp(name, "compute"))
			return "it shows the array, and is moved and removed with the array's directory";
		return NULL;
	default:
		return NULL;
	}
}

int refuse_name(struct mount *m, struct node *dir, const char *name, int err)
{
	const char *text = err == -EPERM || err == -EXDEV ? reason_of(m, dir, name) : NULL;
	struct reason why;

	if (!text)
		return err;
	reason_set(&why, -err, "%s: %s", name, text);
	return errors_add(m, dir, -err, &why);
}

int refuse_change(struct mount *m, struct node *n)
{
	return errors_add(m, n, EPERM,
			  &(struct reason){ "its size, mode, owner and times follow what it shows and cannot be set" });
}
