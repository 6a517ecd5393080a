#include "store_rig.h"

static uint64_t disk_blocks(struct part_id id)
{
	struct stat st = { 0 };
	char path[256];

	file_path(id, "", path);
	CHECK(stat(path, &st) == 0);
	return (uint64_t)st.st_blocks;
}

static uint64_t length(struct store *s, struct part_id id)
{
	struct part_file f;

	if (!CHECK(store_read_fd(s, id, 0, UINT64_MAX, &f, &why) == 0))
		return 0;
	close(f.fd);
	return f.bytes;
}

static bool zeros(struct store *s, struct part_id id, uint64_t offset, size_t len)
{
	AUTO_FREE uint8_t *got = malloc(len), *want = calloc(1, len);
	struct part_file f;

	if (store_read_fd(s, id, 0, UINT64_MAX, &f, &why) < 0)
		return false;
	bool same = pread(f.fd, got, len, (off_t)offset) == (ssize_t)len && !memcmp(got, want, len);
	close(f.fd);
	return same;
}

static void test_reserving(void)
{
	struct store *s = open_store();
	struct part_id id = fresh();
	struct store_stats before, after;
	uint64_t had;

	store_stats(s, &before);
	CHECK(store_allocate(s, id, 0, 1 << 20, STORE_RESERVE, &why) == 0);
	CHECK(disk_blocks(id) >= 2048 && length(s, id) == 0);
	make(s, id, 1);
	had = disk_blocks(id);
	CHECK(store_allocate(s, id, PART_BYTES, 1 << 20, STORE_RESERVE, &why) == 0);
	CHECK(disk_blocks(id) > had && length(s, id) == PART_BYTES);
	CHECK(holds(s, id, PART_BYTES, 0, 1));
	store_stats(s, &after);
	CHECK(after.partitions == before.partitions + 1 && after.open == 0);
	store_close(s);
	s = open_store();
	CHECK(holds(s, id, PART_BYTES, 0, 1));
	store_close(s);
}

static void test_zeros(enum store_room room)
{
	struct store *s = open_store();
	struct part_id id = fresh(), none = fresh();
	uint64_t had;

	make(s, id, 1);
	had = disk_blocks(id);
	CHECK(store_allocate(s, id, BLOCK + 100, 3 * BLOCK, room, &why) == 0);
	CHECK(room == STORE_PUNCH ? disk_blocks(id) < had : disk_blocks(id) >= had);
	CHECK(holds(s, id, BLOCK + 100, 0, 1) && zeros(s, id, BLOCK + 100, 3 * BLOCK));
	CHECK(length(s, id) == PART_BYTES);
	CHECK(store_allocate(s, id, PART_BYTES - 50, 1 << 20, room, &why) == 0);
	CHECK(zeros(s, id, PART_BYTES - 50, 50) && length(s, id) == PART_BYTES);
	CHECK(store_allocate(s, none, 0, 100, room, &why) == 0);
	CHECK(readable(s, none, 0, 100) == (room == STORE_PUNCH ? -ENOENT : 0));
	store_close(s);
	s = open_store(); /* the sums followed */
	CHECK(holds(s, id, BLOCK + 100, 0, 1) && zeros(s, id, BLOCK + 100, 3 * BLOCK));
	store_close(s);
}

/* What is damaged must not be sealed in with what is changed beside it. */
static void test_damage_beside(void)
{
	struct part_id zeroed, copied, ends, from;
	struct store *s = open_store();

	make(s, zeroed = fresh(), 1);
	make(s, copied = fresh(), 1);
	make(s, ends = fresh(), 1);
	make(s, from = fresh(), 2);
	store_close(s);
	flip(zeroed, "", BLOCK + 5);
	flip(copied, "", 2 * BLOCK - 5);
	flip(ends, "", PART_BYTES - 5);
	s = open_store();
	CHECK(store_allocate(s, zeroed, BLOCK + 100, 10, STORE_ZERO, &why) == -EIO);
	CHECK(store_copy(s, from, 0, copied, 0, BLOCK + 100, &why) == -EIO);
	CHECK(store_copy(s, from, 0, ends, 10 * BLOCK, 100, &why) == -EIO);
	CHECK(readable(s, zeroed, 0, UINT64_MAX) == -EIO && readable(s, copied, 0, UINT64_MAX) == -EIO);
	CHECK(store_copy(s, zeroed, 0, from, 0, 100, &why) == -EIO);
	CHECK(holds(s, from, PART_BYTES, 0, 2));
	CHECK(store_seek(s, zeroed, 0, false, &(uint64_t){ 0 }, &why) == -EIO);
	store_close(s);
}

static void test_seeking(void)
{
	struct store *s = open_store();
	struct part_id id = fresh();
	uint64_t at;

	CHECK(store_seek(s, id, 7, false, &at, &why) == 0 && at == UINT64_MAX);
	CHECK(store_seek(s, id, 7, true, &at, &why) == 0 && at == 7);
	make(s, id, 1);
	CHECK(store_allocate(s, id, BLOCK, 2 * BLOCK, STORE_PUNCH, &why) == 0);
	CHECK(store_seek(s, id, 7, true, &at, &why) == 0 && at >= BLOCK);
	CHECK(store_seek(s, id, BLOCK + 7, false, &at, &why) == 0 && at <= 3 * BLOCK);
	CHECK(store_seek(s, id, 4 * BLOCK, true, &at, &why) == 0 && at == PART_BYTES);
	CHECK(store_seek(s, id, PART_BYTES, false, &at, &why) == 0 && at == UINT64_MAX);
	CHECK(store_seek(s, id, PART_BYTES + 9, true, &at, &why) == 0 && at == PART_BYTES + 9);
	store_close(s);
}

static void test_copying(void)
{
	struct store *s = open_store();
	struct part_id from = fresh(), to = fresh(), none = fresh(), still_none = fresh();

	make(s, from, 5);
	CHECK(store_copy(s, from, 0, to, 0, PART_BYTES, &why) == 0);
	CHECK(holds(s, to, PART_BYTES, 0, 5) && length(s, to) == PART_BYTES);
	CHECK(store_copy(s, from, 0, to, 2 * PART_BYTES, PART_BYTES, &why) == 0); /* with a gap */
	CHECK(holds(s, to, PART_BYTES, 0, 5) && zeros(s, to, PART_BYTES, PART_BYTES));
	CHECK(holds(s, to, PART_BYTES, 2 * PART_BYTES, 5));
	CHECK(store_copy(s, to, 0, to, PART_BYTES, PART_BYTES, &why) == 0); /* in itself */
	CHECK(holds(s, to, PART_BYTES, PART_BYTES, 5));
	CHECK(store_copy(s, none, 0, to, 100, BLOCK, &why) == 0); /* a hole */
	CHECK(holds(s, to, 100, 0, 5) && zeros(s, to, 100, BLOCK));
	CHECK(store_copy(s, from, PART_BYTES - 10, to, BLOCK + 100, 200, &why) ==
	      0); /* what is beyond the end is zeros */
	CHECK(zeros(s, to, BLOCK + 110, 190) && length(s, to) == 3 * PART_BYTES);
	CHECK(store_copy(s, none, 0, still_none, 0, BLOCK, &why) == 0);
	CHECK(readable(s, still_none, 0, 1) == -ENOENT);
	CHECK(put(s, from, 1, 100, 0, 9) == 0); /* not sealed: what was written is copied all the same */
	CHECK(store_copy(s, from, 0, to, 0, 100, &why) == 0 && holds(s, to, 100, 0, 9));
	CHECK(seal(s, from, 1, false) == 0);
	CHECK(put(s, to, 1, 100, 5 * BLOCK, 7) == 0); /* nor is the target, whose lease goes on */
	CHECK(store_copy(s, from, 0, to, 200, 100, &why) == 0 && seal(s, to, 1, false) == 0);
	store_close(s);
	s = open_store();
	CHECK(holds(s, to, 100, 0, 9) && holds(s, to, 100, 5 * BLOCK, 7) && holds(s, to, 100, 200, 9));
	store_close(s);
}

int main(void)
{
	rig_make();
	test_reserving();
	test_zeros(STORE_ZERO);
	test_zeros(STORE_PUNCH);
	test_damage_beside();
	test_seeking();
	test_copying();
	rig_remove();
	return unit_result();
}
