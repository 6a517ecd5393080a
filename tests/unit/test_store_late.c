/* What comes late, or twice, because a connection or a daemon was lost. */
#include "store_rig.h"

/* Who is cut off while it writes through a descriptor may write a moment longer: that is no corruption until the partition is durable. */
static void test_a_late_writer(void)
{
	struct store *s = open_store();
	struct part_id id = fresh(), other = fresh();
	struct part_file f, again;
	uint8_t buf[1000];
	uint64_t v;

	pattern(buf, sizeof(buf), 3);
	CHECK(store_write_fd(s, id, &whole, 21, &f, &why) == 0);
	store_session_end(s, 21);
	CHECK(holds(s, id, 0, 0, 0) && pwrite(f.fd, buf, 1000, 100) == 1000);
	CHECK(holds(s, id, 1000, 100, 3)); /* a reader in between */
	CHECK(pwrite(f.fd, buf, 1000, 2 * BLOCK) == 1000);
	CHECK(store_write(s, id, &whole, 22, buf, 1000, 2 * BLOCK + 2000, &why) == 0); /* a writer of the same block */
	CHECK(store_seal(s, id, 22, NULL, 0, false, &v, &why) == 0);
	CHECK(holds(s, id, 1000, 2 * BLOCK, 3) && holds(s, id, 1000, 2 * BLOCK + 2000, 3));
	CHECK(pwrite(f.fd, buf, 1000, 3 * BLOCK) == 1000);
	CHECK(store_write_fd(s, id, &whole, 23, &again, &why) == 0); /* itself, back with a new session */
	CHECK(store_seal(s, id, 23, &(struct part_range){ 3 * BLOCK, 1000 }, 1, true, &v, &why) == 0);
	CHECK(holds(s, id, 1000, 3 * BLOCK, 3));
	CHECK(pwrite(f.fd, buf, 1000, 4 * BLOCK) == 1000); /* durable: nobody has a right to that any more */
	CHECK(!holds(s, id, 1000, 4 * BLOCK, 3));
	close(f.fd);
	close(again.fd);
	CHECK(store_write_fd(s, other, &growing, 24, &f, &why) == 0 && pwrite(f.fd, buf, 500, 0) == 500);
	store_session_end(s, 24);
	CHECK(pwrite(f.fd, buf, 1000, 0) == 1000 && holds(s, other, 1000, 0, 3));
	close(f.fd);
	store_close(s);
}

static void test_adopt_again(void)
{
	struct store *s = open_store();
	struct part_id from = fresh(), to = fresh();

	CHECK(!store_adopted(s, from, to, PART_BYTES));
	CHECK(put(s, from, 1, PART_BYTES, 0, 3) == 0 && seal(s, from, 1, false) == 0);
	CHECK(put(s, to, 1, PART_BYTES, 0, 4) == 0 && seal(s, to, 1, false) == 0);
	CHECK(!store_adopted(s, from, to, PART_BYTES));
	CHECK(store_adopt(s, from, to, false, PART_BYTES, &why) == 0);
	CHECK(store_adopt(s, from, to, false, PART_BYTES, &why) == -ENOENT);
	CHECK(store_adopted(s, from, to, PART_BYTES) && !store_adopted(s, from, to, PART_BYTES + 1));
	store_close(s);
}

int main(void)
{
	rig_make();
	test_a_late_writer();
	test_adopt_again();
	rig_remove();
	return unit_result();
}
