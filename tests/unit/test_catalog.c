/* What the store misses when files vanish, and what it must not miss. */
#include "part.h"
#include "store_rig.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

static const char *const deeds[] = { "nothing", "drop", "drop and make", "drop object", "adopt", "truncate" };

static int be_the_victim(const char *dir, const char *deed, const char *object)
{
	struct part_id id = { strtoull(object, NULL, 10), 3 }, other = { id.object, 4 };
	struct store *s;
	int err = store_open(open(dir, O_RDONLY | O_DIRECTORY), NULL, &s, NULL);

	if (!err && !strncmp(deed, "drop", 4))
		err = store_drop(s, id.object, id.index, 1, !strcmp(deed, "drop object"), NULL);
	if (!err && !strcmp(deed, "drop and make"))
		err = put(s, id, 1, PART_BYTES, 0, 9);
	if (!err && !strcmp(deed, "adopt"))
		err = store_adopt(s, id, other, false, PART_BYTES, NULL);
	if (!err && !strcmp(deed, "truncate"))
		err = store_truncate(s, id, 0, NULL);
	if (!err)
		kill(getpid(), SIGKILL);
	return 1;
}

static void die_after(const char *deed, struct part_id id)
{
	char object[24];
	int status;
	pid_t pid = fork();

	snprintf(object, sizeof(object), "%llu", (unsigned long long)id.object);
	if (pid == 0) {
		execl("/proc/self/exe", "test_catalog", root, deed, object, (char *)NULL);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static bool is_bad(struct store *s, struct part_id id, const char *words)
{
	why.text[0] = '\0';
	return readable(s, id, 0, UINT64_MAX) == -EIO && strstr(why.text, words) != NULL;
}

/* Every partition has been looked at since the start. */
static void wait_recovered(struct store *s)
{
	for (unsigned i = 0; i < 3000 && !atomic_load(&s->recovered); i++)
		usleep(10000);
	CHECK(atomic_load(&s->recovered));
}

static void remove_both(struct part_id id)
{
	remove_file(id, "");
	remove_file(id, ".sum");
}

static void test_gone(void)
{
	struct part_id stopped = fresh(), dir = fresh(), running = fresh(), young = fresh(), never = fresh();
	struct store *s = open_store();
	struct part_info *infos;
	char path[256];
	size_t n;

	make(s, stopped, 1);
	make(s, dir, 2);
	make(s, running, 3);
	store_close(s);
	remove_both(stopped);
	remove_both(dir);
	file_path(dir, "", path);
	*strrchr(path, '/') = '\0';
	CHECK(rmdir(path) == 0);
	s = open_store();
	CHECK(is_bad(s, stopped, "its files are gone"));
	CHECK(store_list(s, dir.object, 0, 10, &infos, &n, &why) == 0 && n == 1 && infos[0].index == 3);
	free(infos);
	CHECK(is_bad(s, dir, "its files are gone"));
	CHECK(readable(s, never, 0, UINT64_MAX) == -ENOENT);
	remove_both(running); /* not looked at since the start */
	CHECK(is_bad(s, running, "its files are gone"));
	CHECK(put(s, young, 1, PART_BYTES, 0, 4) == 0 && seal(s, young, 1, false) == 0);
	CHECK(store_sync(s, young.object, &why) == 0);
	store_close(s);
	s = open_store();
	CHECK(is_bad(s, stopped, "gone") && is_bad(s, dir, "gone"));
	CHECK(put(s, stopped, 1, 10, 0, 0) == -EIO); /* a piece cannot be written to what is lost */
	CHECK(store_drop(s, stopped.object, 3, 1, false, &why) == 0);
	CHECK(store_drop(s, dir.object, 0, UINT64_MAX, false, &why) == 0);
	CHECK(readable(s, stopped, 0, UINT64_MAX) == -ENOENT && readable(s, dir, 0, UINT64_MAX) == -ENOENT);
	make(s, stopped, 7);
	store_close(s);
	s = open_store();
	CHECK(holds(s, stopped, PART_BYTES, 0, 7) && holds(s, young, PART_BYTES, 0, 4));
	CHECK(readable(s, dir, 0, UINT64_MAX) == -ENOENT);
	store_close(s);
}

/* Whoever dies right after a removal has not lost anything. */
static void test_removed(void)
{
	for (size_t i = 0; i < ARRAY_LEN(deeds); i++) {
		struct part_id id = fresh(), other = { id.object, 4 };
		struct store *s = open_store();
		make(s, id, 1);
		make(s, other, 2);
		store_close(s);
		die_after(deeds[i], id);
		s = open_store();
		if (!strcmp(deeds[i], "nothing"))
			CHECK(holds(s, id, PART_BYTES, 0, 1));
		else if (!strcmp(deeds[i], "drop and make"))
			CHECK(holds(s, id, PART_BYTES, 0, 9));
		else if (!strcmp(deeds[i], "truncate"))
			CHECK(readable(s, id, 0, UINT64_MAX) == 0);
		else
			CHECK(readable(s, id, 0, UINT64_MAX) == -ENOENT);
		if (!strcmp(deeds[i], "adopt"))
			CHECK(holds(s, other, PART_BYTES, 0, 1));
		else if (strcmp(deeds[i], "drop object") != 0)
			CHECK(holds(s, other, PART_BYTES, 0, 2));
		wait_recovered(s);
		store_close(s);
		CHECK(!exists(id, ".gone") && !exists(other, ".gone"));
		s = open_store();
		CHECK(!is_bad(s, id, "") && !is_bad(s, other, ""));
		store_close(s);
		if (!strcmp(deeds[i], "drop object"))
			continue;
		if (exists(other, "")) { /* and it is missed again from now on */
			remove_both(other);
			s = open_store();
			CHECK(is_bad(s, other, "its files are gone"));
			store_close(s);
		}
	}
}

static void copy_file(const char *from, const char *to)
{
	char buf[4096];
	ssize_t n;
	AUTO_CLOSE int in = open(from, O_RDONLY);
	AUTO_CLOSE int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	while ((n = read(in, buf, sizeof(buf))) > 0)
		CHECK(write(out, buf, (size_t)n) == n);
}

static void test_older_copy(void)
{
	struct part_id id = fresh();
	struct store *s = open_store();
	char data[256], sums[256], data_copy[300], sums_copy[300];

	make(s, id, 1);
	store_close(s);
	file_path(id, "", data);
	file_path(id, ".sum", sums);
	snprintf(data_copy, sizeof(data_copy), "%s/data.copy", root);
	snprintf(sums_copy, sizeof(sums_copy), "%s/sums.copy", root);
	copy_file(data, data_copy);
	copy_file(sums, sums_copy);
	s = open_store();
	make(s, id, 2);
	store_close(s);
	copy_file(data_copy, data);
	copy_file(sums_copy, sums);
	s = open_store();
	CHECK(is_bad(s, id, "an older copy"));
	CHECK(store_truncate(s, id, 0, &why) == 0);
	make(s, id, 3);
	store_close(s);
	s = open_store();
	CHECK(holds(s, id, PART_BYTES, 0, 3));
	store_close(s);
}

static void test_not_a_file(void)
{
	static const char *const suffixes[] = { "", ".sum" };

	for (unsigned kind = 0; kind < 6; kind++) {
		struct part_id id = fresh(), other = { id.object, 4 };
		struct store *s = open_store();
		char path[256], aside[300];
		make(s, id, 1);
		make(s, other, 1);
		store_close(s);
		file_path(id, suffixes[kind % 2], path);
		snprintf(aside, sizeof(aside), "%s.aside", path);
		CHECK(rename(path, aside) == 0);
		if (kind / 2 == 0)
			CHECK(mkdir(path, 0700) == 0);
		else if (kind / 2 == 1)
			CHECK(symlink(aside, path) == 0);
		else
			CHECK(mkfifo(path, 0600) == 0);
		s = open_store();
		CHECK(is_bad(s, id, "not a regular file"));
		CHECK(holds(s, other, PART_BYTES, 0, 1));
		CHECK(store_drop(s, id.object, 3, 1, false, &why) == 0);
		CHECK(readable(s, id, 0, UINT64_MAX) == -ENOENT);
		store_close(s);
	}
}

/* A catalog that is damaged is made anew, and serves from then on. */
static void test_damaged_catalog(void)
{
	struct part_id id = fresh();
	struct store *s = open_store();
	char path[256];

	make(s, id, 1);
	store_close(s);
	snprintf(path, sizeof(path), "%s/catalog.db", root);
	CHECK(truncate(path, 0) == 0);
	AUTO_CLOSE int fd = open(path, O_WRONLY);
	CHECK(write(fd, "this is not a database, whatever it was before; it has a length", 64) == 64);
	s = open_store();
	CHECK(holds(s, id, PART_BYTES, 0, 1));
	wait_recovered(s);
	store_close(s);
	s = open_store();
	remove_both(id);
	CHECK(is_bad(s, id, "its files are gone"));
	store_close(s);
}

int main(int argc, char **argv)
{
	if (argc == 4)
		return be_the_victim(argv[1], argv[2], argv[3]);
	rig_make();
	test_gone();
	test_removed();
	test_older_copy();
	test_not_a_file();
	test_damaged_catalog();
	rig_remove();
	return unit_result();
}
