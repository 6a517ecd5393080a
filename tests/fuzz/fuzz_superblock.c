/* Any bytes as a store's superblock.json: what is accepted is written as something that reads back the same. */
#include "superblock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static char store[64];
static int store_fd = -1;

static void make_store(void)
{
	strcpy(store, "/dev/shm/slabfs-fuzz-XXXXXX");
	check(mkdtemp(store) != NULL);
	store_fd = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(store_fd >= 0);
}

static void remove_store(void)
{
	unlinkat(store_fd, "superblock.json", 0);
	rmdir(store);
}

static void put(const uint8_t *data, size_t size)
{
	int fd = openat(store_fd, "superblock.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct superblock sb, again;
	struct reason why = { "" };

	if (store_fd < 0) {
		make_store();
		atexit(remove_store);
	}
	put(data, size);
	if (superblock_read(store, &sb, &why)) {
		check(why.text[0] && !strchr(why.text, '\n'));
		return 0;
	}
	check(memchr(sb.listen, '\0', sizeof(sb.listen)) && memchr(sb.head, '\0', sizeof(sb.head)));
	check(superblock_write(store_fd, &sb) == 0 && superblock_read(store, &again, &why) == 0);
	check(uuid_equal(&sb.cluster, &again.cluster) && uuid_equal(&sb.node, &again.node) &&
	      sb.node_id == again.node_id);
	check(!strcmp(sb.listen, again.listen) && !strcmp(sb.head, again.head) && sb.is_head == again.is_head);
	return 0;
}
