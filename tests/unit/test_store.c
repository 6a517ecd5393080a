#include "store_rig.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* Another process works on the store and dies without closing it; see be_the_victim. */
static void die_after(const char *deed, struct part_id id)
{
	char object[24];
	int status;
	pid_t pid = fork();

	snprintf(object, sizeof(object), "%llu", (unsigned long long)id.object);
	if (pid == 0) {
		execl("/proc/self/exe", "test_store", root, deed, object, (char *)NULL);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- tests ---- */

static void test_write_seal_reopen(void)
{
	struct store *s = open_store();
	struct part_id id = fresh();
	struct store_stats before, after;
	uint64_t v1, v2;

	store_stats(s, &before);
	CHECK(readable(s, id, 0, UINT64_MAX) == -ENOENT);
	CHECK(put(s, id, 7, PART_BYTES, 0, 1) == 0);
	CHECK(holds(s, id, PART_BYTES, 0, 1));
	CHECK(store_seal(s, id, 7, NULL, 0, false, &v1, &why) == 0);
	CHECK(holds(s, id, PART_BYTES, 0, 1));
	CHECK(put(s, id, 7, 100, 3 * BLOCK - 50, 9) == 0);
	CHECK(store_seal(s, id, 7, NULL, 0, true, &v2, &why) == 0);
	CHECK(v2 > v1);
	store_stats(s, &after);
	CHECK(after.partitions == before.partitions + 1 && after.open == 0);
	store_close(s);
	s = open_store();
	CHECK(holds(s, id, 100, 3 * BLOCK - 50, 9));
	CHECK(holds(s, id, 3 * BLOCK - 50, 0, 1));
	store_stats(s, &after);
	CHECK(after.partitions == before.partitions + 1);
	CHECK(put(s, id, 1, 10, PART_BYTES - 5, 0) == 0); /* `growing`: grows it */
	CHECK(store_write(s, id, &whole, 1, "0123456789", 10, PART_BYTES - 5, &why) == -EINVAL);
	CHECK(seal(s, id, 1, false) == 0);
	CHECK(holds(s, id, 10, PART_BYTES - 5, 0));
	store_close(s);
}

static void check_bad(struct store *s, struct part_id id, const char *words)
{
	struct store_stats st;

	why.text[0] = '\0';
	CHECK(readable(s, id, 0, UINT64_MAX) == -EIO);
	CHECK(strstr(why.text, words) && strstr(why.text, "quarantined") && exists(id, ".bad"));
	store_stats(s, &st);
	CHECK(st.quarantined > 0);
	CHECK(put(s, id, 1, 10, 0, 0) == -EIO);
	CHECK(store_drop(s, id.object, id.index, 1, false, &why) == 0);
	CHECK(readable(s, id, 0, UINT64_MAX) == -ENOENT);
	CHECK(!exists(id, ".bad"));
}

static void test_corruption(void)
{
	static const struct {
		const char *suffix, *words;
		uint64_t at;
	} flips[] = { { "", "block 5: checksum mismatch", PART_BYTES - 1 },
		      { "", "block 0", 17 },
		      { ".sum", "block 2", 64 + 2 * 8 },
		      { ".sum", "header", 30 } };
	struct part_id ids[ARRAY_LEN(flips)];
	struct store *s = open_store();
	struct store_stats st;

	for (size_t i = 0; i < ARRAY_LEN(flips); i++)
		make(s, ids[i] = fresh(), (unsigned)i);
	store_close(s);
	for (size_t i = 0; i < ARRAY_LEN(flips); i++)
		flip(ids[i], flips[i].suffix, flips[i].at);
	s = open_store();
	CHECK(readable(s, ids[0], 0, 2 * BLOCK) == 0); /* the damage is elsewhere */
	for (size_t i = 0; i < ARRAY_LEN(flips); i++) {
		CHECK(readable(s, ids[i], 0, UINT64_MAX) == -EIO);
		check_bad(s, ids[i], flips[i].words);
	}
	store_stats(s, &st);
	CHECK(st.quarantined == 0);
	store_close(s);
}

static void test_missing_and_cut(void)
{
	struct part_id cut_data, cut_sum, no_sum, no_data, a, b;
	struct store *s = open_store();
	char pa[256], pb[256];

	make(s, cut_data = fresh(), 1);
	make(s, cut_sum = fresh(), 1);
	make(s, no_sum = fresh(), 1);
	make(s, no_data = fresh(), 1);
	make(s, a = fresh(), 1);
	make(s, b = fresh(), 2);
	store_close(s);
	cut(cut_data, "", PART_BYTES - 10);
	cut(cut_sum, ".sum", 64 + 8);
	remove_file(no_sum, ".sum");
	remove_file(no_data, "");
	file_path(a, ".sum", pa);
	file_path(b, ".sum", pb);
	CHECK(renameat2(AT_FDCWD, pa, AT_FDCWD, pb, RENAME_EXCHANGE) == 0);
	s = open_store();
	check_bad(s, cut_data, "bytes long");
	check_bad(s, cut_sum, "cut short");
	check_bad(s, no_sum, "missing");
	check_bad(s, no_data, "lost");
	CHECK(readable(s, a, 0, UINT64_MAX) == -EIO);
	CHECK(strstr(why.text, "that of object"));
	store_close(s);
	s = open_store();
	check_bad(s, a, "that of object"); /* the mark survives a restart */
	check_bad(s, b, "that of object");
	store_close(s);
}

static void test_damage_while_running(void)
{
	struct store *s = open_store();
	struct part_id id = fresh(), other = fresh();

	make(s, id, 1);
	make(s, other, 1);
	CHECK(readable(s, id, 0, UINT64_MAX) == 0);
	usleep(20000); /* ctime has the resolution of a clock tick */
	flip(id, "", 2 * BLOCK + 5);
	check_bad(s, id, "block 2");
	usleep(20000);
	flip(other, "", 10);
	CHECK(put(s, other, 1, 100, 1000, 0) == -EIO); /* a write must not seal damage in */
	CHECK(seal(s, other, 1, false) == -EIO);
	CHECK(store_truncate(s, other, 0, &why) == 0);
	CHECK(readable(s, other, 0, UINT64_MAX) == 0);
	store_close(s);
}

static int be_the_victim(const char *dir, const char *deed, const char *object)
{
	struct part_id id = { strtoull(object, NULL, 10), 3 };
	struct store *s;
	int err = store_open(open(dir, O_RDONLY | O_DIRECTORY), NULL, &s, NULL);

	if (!err && !strcmp(deed, "write"))
		err = put(s, id, 1, PART_BYTES, 0, 4);
	if (!err && !strcmp(deed, "seal"))
		err = put(s, id, 1, PART_BYTES, 0, 5) ? -EIO : seal(s, id, 1, false);
	if (!err && !strcmp(deed, "rewrite"))
		err = put(s, id, 1, 1000, BLOCK, 6);
	if (!err)
		kill(getpid(), SIGKILL);
	return 1;
}

static void test_unclean(void)
{
	struct part_id id = fresh(), durable = fresh(), untouched = fresh(), young = fresh();
	struct store *s;

	die_after("write", id);
	s = open_store();
	CHECK(holds(s, id, PART_BYTES, 0, 4));
	make(s, durable, 1);
	make(s, untouched, 1);
	store_close(s);
	die_after("seal", id);
	flip(untouched, "", 100);
	s = open_store();
	CHECK(holds(s, id, PART_BYTES, 0, 5));
	check_bad(s, untouched, "block 0"); /* durable sums are verified as they stand */
	store_close(s);
	die_after("rewrite", durable);
	s = open_store();
	CHECK(holds(s, durable, 1000, BLOCK, 6));
	store_close(s);
	die_after("seal", young);
	remove_file(young, ".sum");
	remove_file(durable, ".sum");
	s = open_store();
	CHECK(holds(s, young, PART_BYTES, 0, 5));
	check_bad(s, durable, "checksum file is missing"); /* it was on the disk: no power cut took it */
	store_close(s);
}

static void test_leases(void)
{
	struct store *s = open_store();
	struct part_id id = fresh();
	struct part_file f, g;
	struct store_stats st;
	uint64_t v;
	uint8_t buf[1000];

	CHECK(store_write_fd(s, id, &whole, 11, &f, &why) == 0 && f.bytes == PART_BYTES);
	CHECK(store_write_fd(s, id, &whole, 12, &g, &why) == 0);
	pattern(buf, sizeof(buf), 3);
	CHECK(pwrite(f.fd, buf, 1000, 100) == 1000);
	CHECK(pwrite(g.fd, buf, 1000, 2 * BLOCK) == 1000);
	CHECK(store_seal(s, id, 11, &(struct part_range){ 100, 1000 }, 1, true, &v, &why) == 0);
	store_stats(s, &st);
	CHECK(st.open == 1);
	CHECK(pwrite(g.fd, buf, 1000, 4 * BLOCK) == 1000);
	store_session_end(s, 12);
	store_stats(s, &st);
	CHECK(st.open == 0);
	close(f.fd);
	close(g.fd);
	CHECK(seal(s, id, 99, true) == 0);
	CHECK(store_sync(s, id.object, &why) == 0);
	store_close(s);
	s = open_store();
	CHECK(holds(s, id, 1000, 4 * BLOCK, 3) && holds(s, id, 1000, 100, 3));
	store_close(s);
}

static void test_grow_and_truncate(void)
{
	struct store *s = open_store();
	struct part_id id = fresh();
	struct part_file f;
	uint64_t v;

	CHECK(store_write(s, id, &growing, 1, "hello", 5, 0, &why) == 0);
	CHECK(seal(s, id, 1, false) == 0);
	CHECK(store_write_fd(s, id, &growing, 1, &f, &why) == 0 && f.bytes == 5);
	CHECK(pwrite(f.fd, "x", 1, 3 * BLOCK) == 1);
	close(f.fd);
	CHECK(store_seal(s, id, 1, &(struct part_range){ 3 * BLOCK, 1 }, 1, false, &v, &why) == 0);
	CHECK(readable(s, id, 0, UINT64_MAX) == 0);
	CHECK(store_truncate(s, id, BLOCK + 10, &why) == 0);
	CHECK(readable(s, id, 0, UINT64_MAX) == 0);
	CHECK(store_truncate(s, id, 2 * BLOCK + 10, &why) == 0);
	CHECK(readable(s, id, 0, UINT64_MAX) == 0);
	CHECK(store_truncate(s, fresh(), 10, &why) == 0);
	store_close(s);
	s = open_store();
	CHECK(store_read_fd(s, id, 0, UINT64_MAX, &f, &why) == 0 && f.bytes == 2 * BLOCK + 10);
	close(f.fd);
	store_close(s);
}

static void test_fill(void)
{
	struct part_alloc a = { .bytes = 3u << 20, .fill_bytes = 12, .fill = "abcdefghijkl" };
	struct store *s = open_store();
	struct part_id id = fresh();
	struct part_file f;
	struct stat st;
	char tail[5] = "";

	CHECK(store_write(s, id, &a, 1, "XYZ", 3, 24, &why) == 0);
	CHECK(seal(s, id, 1, false) == 0);
	CHECK(store_read_fd(s, id, 0, UINT64_MAX, &f, &why) == 0 && f.bytes == a.bytes);
	CHECK(pread(f.fd, tail, 5, 22) == 5 && !memcmp(tail, "klXYZ", 5));
	CHECK(pread(f.fd, tail, 4, (3 << 20) - 4) == 4);
	for (int i = 0; i < 4; i++)
		CHECK(tail[i] == a.fill[((3u << 20) - 4 + (unsigned)i) % 12]);
	CHECK(fstat(f.fd, &st) == 0 && st.st_blocks * 512 >= (3 << 20));
	close(f.fd);
	store_close(s);
}

static void test_no_space(void)
{
	char dir[128];
	struct store *s;
	struct part_id id = fresh();
	struct part_alloc big = { .bytes = 8u << 20 };

	snprintf(dir, sizeof(dir), "%s/small", root);
	CHECK(mkdir(dir, 0700) == 0);
	if (mount("none", dir, "tmpfs", 0, "size=4m") < 0)
		return;
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	CHECK(store_open(fd, NULL, &s, &why) == 0);
	CHECK(store_write(s, id, &big, 1, "x", 1, 0, &why) == -ENOSPC);
	CHECK(readable(s, id, 0, UINT64_MAX) == -ENOENT);
	big.bytes = 1u << 20;
	CHECK(store_write(s, id, &big, 1, "x", 1, 0, &why) == 0);
	CHECK(seal(s, id, 1, true) == 0);
	store_close(s);
	close(fd);
	CHECK(umount(dir) == 0);
}

static void test_list_and_drop(void)
{
	static const uint64_t indexes[] = { 100, 3, 20, 7, 1000000007 };
	struct store *s = open_store();
	struct part_id id = fresh();
	struct part_info *infos;
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(indexes); i++)
		make(s, (struct part_id){ id.object, indexes[i] }, 0);
	CHECK(store_list(s, id.object, 4, 3, &infos, &n, &why) == 0);
	CHECK(n == 3 && infos[0].index == 7 && infos[1].index == 20 && infos[2].index == 100);
	CHECK(infos[0].file_bytes == PART_BYTES && infos[0].version > 0 && infos[0].mtime_ns > 0);
	free(infos);
	CHECK(store_drop(s, id.object, 20, UINT64_MAX, false, &why) == 0);
	CHECK(store_list(s, id.object, 0, 100, &infos, &n, &why) == 0 && n == 2);
	free(infos);
	CHECK(store_drop(s, id.object, 0, 0, true, &why) == 0);
	CHECK(readable(s, id, 0, 1) == -ESTALE && put(s, id, 1, 1, 0, 0) == -ESTALE);
	CHECK(store_list(s, id.object, 0, 100, &infos, &n, &why) == -ESTALE);
	CHECK(!exists(id, ""));
	CHECK(store_list(s, fresh().object, 0, 100, &infos, &n, &why) == 0 && n == 0);
	free(infos);
	store_close(s);
}

static void test_adopt(void)
{
	struct part_id from = fresh(), to = fresh();
	struct store *s = open_store();
	struct store_stats before, after;

	make(s, from, 1);
	make(s, to, 2);
	store_stats(s, &before);
	CHECK(store_adopt(s, from, to, false, PART_BYTES - 1, &why) == -EINVAL);
	CHECK(store_adopt(s, from, to, true, PART_BYTES, &why) == 0);
	CHECK(holds(s, to, PART_BYTES, 0, 1) && holds(s, from, PART_BYTES, 0, 1));
	CHECK(put(s, from, 1, PART_BYTES, 0, 3) == 0);
	CHECK(store_adopt(s, from, to, false, PART_BYTES, &why) == -EBUSY);
	CHECK(seal(s, from, 1, false) == 0);
	usleep(20000);
	flip(to, "", 0);
	CHECK(readable(s, to, 0, UINT64_MAX) == -EIO);
	CHECK(store_adopt(s, from, to, false, PART_BYTES, &why) == 0);
	CHECK(holds(s, to, PART_BYTES, 0, 3));
	CHECK(readable(s, from, 0, UINT64_MAX) == -ENOENT && !exists(to, ".bad"));
	CHECK(store_adopt(s, from, to, false, PART_BYTES, &why) == -ENOENT);
	store_stats(s, &after);
	CHECK(after.partitions == before.partitions - 1 && after.quarantined == before.quarantined);
	CHECK(store_sync(s, 0, &why) == 0);
	store_close(s);
	s = open_store();
	CHECK(holds(s, to, PART_BYTES, 0, 3));
	store_close(s);
}

static void test_many(void)
{
	struct store *s = open_store();
	uint64_t object = fresh().object;

	for (uint64_t i = 0; i < 100; i++)
		CHECK(put(s, (struct part_id){ object, i }, 1, 100, 0, (unsigned)i) == 0);
	store_session_end(s, 1);
	CHECK(store_sync(s, object, &why) == 0);
	store_close(s);
	s = open_store();
	for (uint64_t i = 0; i < 100; i++)
		CHECK(holds(s, (struct part_id){ object, i }, 100, 0, (unsigned)i));
	store_close(s);
}

int main(int argc, char **argv)
{
	if (argc == 4)
		return be_the_victim(argv[1], argv[2], argv[3]);
	rig_make();
	test_write_seal_reopen();
	test_corruption();
	test_missing_and_cut();
	test_damage_while_running();
	test_unclean();
	test_leases();
	test_grow_and_truncate();
	test_fill();
	test_no_space();
	test_list_and_drop();
	test_adopt();
	test_many();
	rig_remove();
	return unit_result();
}
