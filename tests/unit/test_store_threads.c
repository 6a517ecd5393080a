#include "store_rig.h"

#include <pthread.h>
#include <stdatomic.h>

/* Each thread writes blocks of its own, all read, one drops and adopts on the side. */

#define HAMMER_ROUNDS 60
#define HAMMER_PARTS 3

struct hammer {
	struct store *s;
	uint64_t object, thread;
	atomic_int *errors;
};

static void hammer_once(struct hammer *h, unsigned round, uint8_t *buf)
{
	struct part_id id = { h->object, round % HAMMER_PARTS };
	struct part_file f;
	uint64_t v;
	int err = 0;

	pattern(buf, BLOCK, round);
	err |= store_write(h->s, id, &whole, h->thread, buf, BLOCK - 100, h->thread * BLOCK + 50, NULL);
	err |= store_seal(h->s, id, h->thread, NULL, 0, round % 16 == 0, &v, NULL);
	err |= store_read_fd(h->s, id, 0, UINT64_MAX, &f, NULL);
	if (!err)
		close(f.fd);
	id = (struct part_id){ h->object, 100 + h->thread };
	err |= store_write(h->s, id, &growing, h->thread, buf, 1000, 0, NULL);
	err |= store_seal(h->s, id, h->thread, NULL, 0, false, &v, NULL);
	err |= store_adopt(h->s, id, (struct part_id){ h->object, 200 }, round % 2, 1000, NULL);
	err |= round % 8 ? 0 : store_drop(h->s, h->object, 100 + h->thread, 1, false, NULL);
	if (err)
		atomic_fetch_add(h->errors, 1);
}

static void *hammer_main(void *arg)
{
	struct hammer *h = arg;
	AUTO_FREE uint8_t *buf = malloc(BLOCK);

	for (unsigned i = 0; i < HAMMER_ROUNDS; i++)
		hammer_once(h, i, buf);
	return NULL;
}

static void test_threads(void)
{
	struct store *s = open_store();
	struct hammer h[4];
	pthread_t threads[4];
	atomic_int errors = 0;
	uint64_t object = fresh().object;

	for (uint64_t i = 0; i < 4; i++) {
		h[i] = (struct hammer){ s, object, i + 1, &errors };
		CHECK(pthread_create(&threads[i], NULL, hammer_main, &h[i]) == 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK(atomic_load(&errors) == 0);
	store_close(s);
	s = open_store();
	for (uint64_t i = 0; i < HAMMER_PARTS; i++)
		CHECK(readable(s, (struct part_id){ object, i }, 0, UINT64_MAX) == 0);
	store_close(s);
}

int main(void)
{
	rig_make();
	test_threads();
	rig_remove();
	return unit_result();
}
