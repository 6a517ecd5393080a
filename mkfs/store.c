#include "mkfs.h"

#include "io.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define KEY_NAME "cluster.key"
#define LOST_NAME "lost_below"
#define SUPERBLOCK_NAME "superblock.json"

static int check_empty(const struct new_store *s, struct reason *why)
{
	int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int err = 0;

	if (!dir) {
		err = reason_set(why, errno, "%s: %s", s->path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return err;
	}
	if (faccessat(s->fd, SUPERBLOCK_NAME, F_OK, 0) == 0)
		err = reason_set(why, EEXIST, "%s: is a slabfs store already", s->path);
	while (!err && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && strcmp(e->d_name, "lost+found"))
			err = reason_set(why, ENOTEMPTY, "%s: is not empty (it holds '%.100s')", s->path, e->d_name);
	closedir(dir);
	return err;
}

int store_begin(struct new_store *s, const char *path, struct reason *why)
{
	int err;

	*s = (struct new_store){ .path = path, .fd = -1 };
	if (mkdir(path, 0700) == 0)
		s->made = true;
	else if (errno != EEXIST)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	s->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->fd < 0)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	err = check_empty(s, why);
	if (err) {
		close(s->fd);
		s->fd = -1;
	}
	return err;
}

/* Objects of the head that was lost have numbers below those that a new one begins with. */
static int write_lost_below(struct new_store *s)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)(time_real_ns() / 1000000000 << 20));

	return io_publish(s->fd, LOST_NAME, text, (size_t)len, 0600);
}

int store_finish(struct new_store *s, const struct superblock *sb, bool fresh, const uint8_t key[CLUSTER_KEY_BYTES],
		 struct reason *why)
{
	int err = fchmod(s->fd, 0700) < 0 ? -errno : 0;

	if (!err)
		err = io_publish(s->fd, KEY_NAME, key, CLUSTER_KEY_BYTES, 0600);
	if (!err && fresh)
		err = io_publish(s->fd, STORE_NEW, "", 0, 0600);
	else if (!err && sb->is_head)
		err = write_lost_below(s);
	if (!err)
		err = superblock_write(s->fd, sb);
	if (!err)
		err = io_fsync_dir(s->fd, "..");
	return err ? reason_set(why, -err, "%s: %s", s->path, strerror(-err)) : 0;
}

void store_undo(struct new_store *s)
{
	if (s->fd >= 0) {
		unlinkat(s->fd, SUPERBLOCK_NAME, 0);
		unlinkat(s->fd, KEY_NAME, 0);
		unlinkat(s->fd, STORE_NEW, 0);
		unlinkat(s->fd, LOST_NAME, 0);
		close(s->fd);
		s->fd = -1;
	}
	if (s->made)
		rmdir(s->path);
}
