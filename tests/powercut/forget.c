#include "forget.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512u
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

struct naming {
	struct object *dir, *object;
	char name[256];
};

/* One change to directories; a rename names twice. */
struct step {
	struct naming namings[2];
	size_t n;
	bool keep; /* of a choice that is being made */
};

static struct step **steps; /* those that are not durable, in order */
static size_t n_steps, cap_steps;
static uint64_t state = 1;
static uint64_t last_ino, last_entry;

static void *must(void *p)
{
	if (!p)
		err(1, "out of memory");
	return p;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint64_t dice(uint64_t n)
{
	state = mix(state);
	return state % n;
}

/* ---- bytes ---- */

static void image_resize(struct image *i, uint64_t len)
{
	if (len > i->cap) {
		uint64_t cap = MAX(len, i->cap + i->cap / 2);
		i->bytes = must(realloc(i->bytes, cap));
		memset(i->bytes + i->cap, 0, cap - i->cap);
		i->cap = cap;
	}
	if (len < i->len)
		memset(i->bytes + len, 0, i->len - len);
	i->len = len;
}

static void image_apply(struct image *i, const struct change *c)
{
	if (!c->bytes) {
		image_resize(i, c->len);
		return;
	}
	if (c->offset + c->len > i->len)
		image_resize(i, c->offset + c->len);
	memcpy(i->bytes + c->offset, c->bytes, c->len);
}

static void add_change(struct object *o, struct change c)
{
	if (o->n_changes == o->cap_changes) {
		o->cap_changes = o->cap_changes * 2 + 16;
		o->changes = must(realloc(o->changes, o->cap_changes * sizeof(*o->changes)));
	}
	o->changes[o->n_changes++] = c;
	image_apply(&o->now, &c);
}

void forget_write(struct object *o, const void *bytes, uint64_t offset, uint64_t len)
{
	struct change c = { offset, len, must(malloc(len + 1)), false };

	memcpy(c.bytes, bytes, len);
	add_change(o, c);
}

void forget_resize(struct object *o, uint64_t len)
{
	if (len != o->now.len)
		add_change(o, (struct change){ 0, len, NULL, len < o->now.len });
}

void forget_fail_file(struct object *o)
{
	for (size_t i = 0; i < o->n_changes; i++)
		free(o->changes[i].bytes);
	o->n_changes = 0;
}

/* Changes [0, sizes) give the size.  Cuts of the file among them are whole; what came after one that is lost is lost. */
static void survive_scattered(struct object *o, uint64_t sizes)
{
	uint64_t seed = dice(UINT64_MAX), end = o->n_changes;
	struct image *d = &o->durable;
	uint64_t len = d->len;

	for (size_t i = sizes; i < o->n_changes; i++)
		if (o->changes[i].cuts)
			end = MIN(end, i);
	for (size_t i = 0; i < end; i++) {
		const struct change *c = &o->changes[i];
		if (i < sizes)
			len = c->bytes ? MAX(len, c->offset + c->len) : c->len;
		if (!c->bytes && i < sizes)
			image_resize(d, c->len);
		for (uint64_t at = c->offset; c->bytes && at < c->offset + c->len;) {
			uint64_t n = MIN(SECTOR - at % SECTOR, c->offset + c->len - at);
			struct change part = { at, n, c->bytes + (at - c->offset), false };
			if (mix(seed ^ mix(at / SECTOR)) % (end + 1) > i)
				image_apply(d, &part);
			at += n;
		}
	}
	image_resize(d, len);
}

static void survive(struct object *o)
{
	size_t n = o->n_changes, keep = 0;

	switch (dice(4)) {
	case 0:
		break;
	case 1:
		keep = n;
		break;
	case 2:
		keep = (size_t)dice(n + 1);
		break;
	default:
		survive_scattered(o, dice(n + 1));
	}
	for (size_t i = 0; i < keep; i++)
		image_apply(&o->durable, &o->changes[i]);
	forget_fail_file(o);
}

/* ---- entries ---- */

struct object *forget_new(mode_t mode, uid_t uid, gid_t gid)
{
	struct object *o = must(calloc(1, sizeof(*o)));

	if (!last_ino)
		last_ino = mix((uint64_t)time(NULL) << 32 ^ (uint64_t)getpid()) >> 16; /* no other disk has them */
	o->st = (struct stat){ .st_ino = last_ino++, .st_mode = mode, .st_nlink = 1, .st_uid = uid, .st_gid = gid };
	clock_gettime(CLOCK_REALTIME, &o->st.st_mtim);
	o->st.st_atim = o->st.st_ctim = o->st.st_mtim;
	return o;
}

static struct entry **entry_at(struct entry **list, const char *name)
{
	while (*list && strcmp((*list)->name, name) != 0)
		list = &(*list)->next;
	return list;
}

struct object *forget_find(const struct object *dir, const char *name)
{
	struct entry *list = dir->entries, *e = *entry_at(&list, name);

	return e ? e->object : NULL;
}

static void set_entry(struct entry **list, const char *name, struct object *object)
{
	struct entry **at = entry_at(list, name), *e = *at;

	if (e && object) {
		e->object = object;
	} else if (e) {
		*at = e->next;
		free(e);
	} else if (object) {
		e = must(calloc(1, sizeof(*e) + strlen(name) + 1));
		strcpy(e->name, name);
		e->object = object;
		e->id = ++last_entry;
		*at = e;
	}
}

static void take_step(struct step s)
{
	if (n_steps == cap_steps) {
		cap_steps = cap_steps * 2 + 16;
		steps = must(realloc(steps, cap_steps * sizeof(*steps)));
	}
	steps[n_steps] = must(malloc(sizeof(s)));
	*steps[n_steps++] = s;
	for (size_t i = 0; i < s.n; i++) {
		struct naming *n = &s.namings[i];
		set_entry(&n->dir->entries, n->name, n->object);
		if (n->object) {
			strcpy(n->object->name, n->name);
			n->object->parent = n->dir;
		}
	}
}

static struct naming naming(struct object *dir, const char *name, struct object *object)
{
	struct naming n = { .dir = dir, .object = object };

	snprintf(n.name, sizeof(n.name), "%s", name);
	return n;
}

void forget_name(struct object *dir, const char *name, struct object *object)
{
	take_step((struct step){ .namings = { naming(dir, name, object) }, .n = 1 });
}

void forget_rename(struct object *from, const char *old, struct object *to, const char *name)
{
	struct object *o = forget_find(from, old);

	take_step((struct step){ .namings = { naming(from, old, NULL), naming(to, name, o) }, .n = 2 });
}

static bool touches(const struct step *s, const struct object *dir, const struct object *object)
{
	for (size_t i = 0; i < s->n; i++)
		if (dir ? s->namings[i].dir == dir : s->namings[i].object == object)
			return true;
	return false;
}

static bool same_name(const struct step *a, const struct step *b)
{
	for (size_t i = 0; i < a->n; i++)
		for (size_t k = 0; k < b->n; k++)
			if (a->namings[i].dir == b->namings[k].dir && !strcmp(a->namings[i].name, b->namings[k].name))
				return true;
	return false;
}

/* The chosen ones become durable, in order. */
static void settle(void)
{
	size_t left = 0;

	for (size_t i = 0; i < n_steps; i++) {
		struct step *s = steps[i];
		for (size_t k = 0; s->keep && k < s->n; k++)
			set_entry(&s->namings[k].dir->durable_entries, s->namings[k].name, s->namings[k].object);
		if (s->keep)
			free(s);
		else
			steps[left++] = s;
	}
	n_steps = left;
}

/* dir: changes to it; else those that name the object; and what was done before to the same names. */
static void sync_names(const struct object *dir, const struct object *object)
{
	for (size_t i = n_steps; i-- > 0;) {
		steps[i]->keep = touches(steps[i], dir, object);
		for (size_t k = i + 1; k < n_steps && !steps[i]->keep; k++)
			steps[i]->keep = steps[k]->keep && same_name(steps[i], steps[k]);
	}
	settle();
}

void forget_sync_file(struct object *o, enum forget_order order)
{
	for (size_t i = 0; i < o->n_changes; i++)
		image_apply(&o->durable, &o->changes[i]);
	forget_fail_file(o);
	if (order == FORGET_SCATTERED && dice(2))
		sync_names(NULL, o);
}

void forget_sync_dir(struct object *dir)
{
	sync_names(dir, NULL);
}

static void survive_names(enum forget_order order)
{
	uint64_t seed = dice(UINT64_MAX), cut = dice(4) ? dice(n_steps + 1) : n_steps;

	for (size_t i = 0; i < n_steps; i++) {
		struct step *s = steps[i];
		s->keep = order == FORGET_SCATTERED || i < cut;
		for (size_t k = 0; k < s->n && order == FORGET_SCATTERED; k++)
			s->keep &= mix(seed ^ s->namings[k].dir->st.st_ino) % (n_steps + 1) > i;
		for (size_t k = 0; k < i && s->keep; k++)
			s->keep = steps[k]->keep || !same_name(steps[k], s);
	}
	settle();
}

/* ---- directories of the machine ---- */

static int dump_file(struct object *o, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	uint64_t done = 0;

	if (fd < 0)
		return -errno;
	survive(o);
	while (done < o->durable.len) {
		ssize_t n = write(fd, o->durable.bytes + done, o->durable.len - done);
		if (n < 0)
			return -errno;
		done += (uint64_t)n;
	}
	if (fchmod(fd, o->st.st_mode & 07777) < 0)
		return -errno;
	close(fd);
	return 0;
}

static int dump(struct object *dir, const char *path)
{
	char name[PATH_MAX];
	int rc = 0;

	for (struct entry *e = dir->durable_entries; e && !rc; e = e->next) {
		snprintf(name, sizeof(name), "%.*s/%s", PATH_MAX - 300, path, e->name);
		if (S_ISREG(e->object->st.st_mode))
			rc = dump_file(e->object, name);
		else if (S_ISDIR(e->object->st.st_mode))
			rc = mkdir(name, e->object->st.st_mode & 07777) < 0 ? -errno : dump(e->object, name);
	}
	return rc;
}

int forget_cut(struct object *root, uint64_t seed, enum forget_order order, const char *out)
{
	state = mix(seed);
	survive_names(order);
	return dump(root, out);
}

static int load_file(struct object *o, const char *path, uint64_t len)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	image_resize(&o->now, len);
	n = read(fd, o->now.bytes, len);
	close(fd);
	if (n != (ssize_t)len)
		return -EIO;
	image_resize(&o->durable, len);
	if (len)
		memcpy(o->durable.bytes, o->now.bytes, len);
	return 0;
}

int forget_load(struct object *dir, const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int rc = d ? 0 : -errno;

	while (!rc && (e = readdir(d))) {
		char name[PATH_MAX];
		struct stat st;
		struct object *o;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(name, sizeof(name), "%.*s/%s", PATH_MAX - 300, path, e->d_name);
		if (lstat(name, &st) < 0)
			rc = -errno;
		if (rc)
			break;
		o = forget_new(st.st_mode, st.st_uid, st.st_gid);
		rc = S_ISDIR(st.st_mode) ? forget_load(o, name) : load_file(o, name, (uint64_t)st.st_size);
		forget_name(dir, e->d_name, o);
	}
	if (d)
		closedir(d);
	forget_sync_dir(dir);
	return rc;
}
