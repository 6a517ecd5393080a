#include "bytes_internal.h"

#include <sys/stat.h>

#define LIST_PAGE 8192u /* entries of one reply */

int bytes_change_part(struct bytes *b, uint64_t partition, struct fan_call *call, struct reason *why)
{
	struct part *p = part_get(b, partition);
	int err = 0;

	if (!p)
		return -ENOMEM;
	if (atomic_load(&p->dirty))
		err = bytes_seal_parts(b, &p, 1, why);
	if (!err) {
		pthread_rwlock_wrlock(&p->lock);
		err = bytes_call(b, partition, call, NULL, why);
		part_close_read_locked(p);
		pthread_rwlock_unlock(&p->lock);
	}
	part_put(b, p);
	return err;
}

int bytes_truncate(struct bytes *b, uint64_t partition, uint64_t length, struct reason *why)
{
	struct wire_part_truncate body = { .part = bytes_part_id(b, partition, 0), .length = le64_of(length) };
	struct fan_call c = { .retry = true,
			      .call = { .type = WIRE_PART_TRUNCATE, .body = &body, .body_bytes = sizeof(body) } };

	return bytes_change_part(b, partition, &c, why);
}

static void note_remote(struct bytes *b, uint64_t partition)
{
	uint32_t owner = layout_owner(&b->layout, partition), local_id;
	struct wire_hello_reply hello;
	struct fan_call c = { 0 };
	struct client *local;

	bytes_local(b, &local, &local_id);
	if (local && owner == local_id)
		return;
	if (!fan_to(b->m, owner, &c, NULL) && !fan_hello(b->m, &c, &hello, NULL))
		bytes_note_storage(b, partition, le64_get(hello.storage));
}

int bytes_adopt(struct bytes *b, uint64_t partition, uint64_t from_object, uint64_t from_index, bool link,
		struct reason *why)
{
	struct wire_part_adopt body = { .from = bytes_part_id(b, from_index, link ? WIRE_ADOPT_LINK : 0),
					.to = bytes_part_id(b, partition, 0),
					.expect_bytes = le64_of(b->layout.partition_bytes) };
	struct fan_call c = { .retry = true,
			      .again_flags = &body.from.flags,
			      .again = link ? 0 : WIRE_ADOPT_AGAIN,
			      .call = { .type = WIRE_PART_ADOPT, .body = &body, .body_bytes = sizeof(body) } };

	body.from.object = le64_of(from_object);
	note_remote(b, partition);
	return bytes_change_part(b, partition, &c, why);
}

static void forget_parts(struct bytes *b, uint64_t first, uint64_t count)
{
	struct part **parts;
	size_t n;

	if (part_collect(b, first, count, false, &parts, &n))
		return;
	for (size_t i = 0; i < n; i++) {
		pthread_rwlock_wrlock(&parts[i]->lock);
		part_forget_locked(b, parts[i]);
		pthread_rwlock_unlock(&parts[i]->lock);
		part_put(b, parts[i]);
	}
	free(parts);
}

/* The same request to each node that may hold one of the partitions. */
static int call_nodes(struct bytes *b, uint64_t first, uint64_t count, const struct call *call, struct fan_call *calls,
		      size_t *ret_n, struct reason *why)
{
	const struct layout *l = &b->layout;
	size_t n = (size_t)MIN(count, l->n_nodes), failed = 0;
	int err;

	for (size_t i = 0; i < n; i++) {
		calls[i] = (struct fan_call){ .call = *call, .retry = true };
		err = fan_to(b->m, layout_owner(l, first % l->n_nodes + i), &calls[i], why);
		if (err)
			return err;
	}
	*ret_n = n;
	err = fan_run(b->m, calls, n, false, NULL, &failed);
	return err ? reason_set(why, -err, "%s", calls[failed].call.why.text) : 0;
}

int bytes_drop(struct bytes *b, uint64_t first, uint64_t count, struct reason *why)
{
	struct wire_part_drop body = { .part = bytes_part_id(b, first, 0), .count = le64_of(count) };
	struct call call = { .type = WIRE_PART_DROP, .body = &body, .body_bytes = sizeof(body) };
	AUTO_FREE struct fan_call *calls = calloc(b->layout.n_nodes, sizeof(*calls));
	size_t n;
	int err;

	if (!calls)
		return -ENOMEM;
	forget_parts(b, first, count);
	err = call_nodes(b, first, count, &call, calls, &n, why);
	forget_parts(b, first, count);
	return err;
}

int bytes_whole_fd(struct bytes *b, uint64_t partition, uint64_t len, int *ret_fd, struct reason *why)
{
	struct stat st;
	int fd, err = len > SIZE_MAX ? -ENOENT : bytes_read_fd(b, partition, 0, (size_t)len, &fd, why);

	if (err)
		return err;
	if (fstat(fd, &st) || (uint64_t)st.st_size != len) {
		close(fd);
		return -ENOENT;
	}
	*ret_fd = fd;
	return 0;
}

/* ---- listing ---- */

struct listing {
	struct bytes *b;
	uint64_t end;
	struct wire_part_info *all; /* what has come so far */
	size_t n, cap;
};

/* A node whose list goes on. */
struct list_node {
	struct wire_part_list body;
	uint64_t next;
	bool over;
};

static int take_page(struct listing *l, struct list_node *node, uint32_t node_id, const struct call *call)
{
	const struct wire_part_info *page = call->reply_payload;
	size_t n = call->reply_bytes / sizeof(*page);

	if (call->reply_bytes % sizeof(*page))
		return -EPROTO;
	if (l->n + n > l->cap) {
		size_t cap = MAX(l->n + n, 2 * l->cap);
		struct wire_part_info *all = realloc(l->all, cap * sizeof(*all));
		if (!all)
			return -ENOMEM;
		l->all = all;
		l->cap = cap;
	}
	node->over = n < LIST_PAGE;
	for (size_t i = 0; i < n; i++) {
		uint64_t index = le64_get(page[i].index);
		if (index < node->next)
			return -EPROTO;
		node->next = index + 1;
		if (index >= l->end) {
			node->over = true;
			break;
		}
		if (layout_owner(&l->b->layout, index) == node_id)
			l->all[l->n++] = page[i];
	}
	return 0;
}

/* One page from each node that has more. */
static int list_round(struct listing *l, struct list_node *nodes, struct fan_call *calls, size_t n_nodes, size_t *ret_n,
		      struct reason *why)
{
	const struct layout *layout = &l->b->layout;
	size_t who[SLAB_NODES_MAX], n = 0, failed = 0;
	int err = 0;

	for (size_t i = 0; i < n_nodes && !err; i++) {
		struct list_node *node = &nodes[i];
		if (node->over)
			continue;
		node->body = (struct wire_part_list){ .part = bytes_part_id(l->b, node->next, 0),
						      .max = le32_of(LIST_PAGE) };
		calls[n] = (struct fan_call){ .retry = true,
					      .call = { .type = WIRE_PART_LIST,
							.body = &node->body,
							.body_bytes = sizeof(node->body),
							.alloc = true } };
		err = fan_to(l->b->m, layout->nodes[i], &calls[n], why);
		who[n++] = i;
	}
	*ret_n = n;
	if (err)
		return err;
	err = fan_run(l->b->m, calls, n, true, NULL, &failed);
	if (err)
		reason_set(why, -err, "listing partitions on %.250s", calls[failed].call.why.text);
	for (size_t i = 0; i < n; i++) {
		if (!err) {
			err = take_page(l, &nodes[who[i]], calls[i].node_id, &calls[i].call);
			if (err)
				reason_set(why, -err, "listing partitions on node %u: %s", calls[i].node_id,
					   strerror(-err));
		}
		free(calls[i].call.reply_payload);
	}
	return err == -EPROTO ? -EIO : err;
}

static int by_info_index(const void *a, const void *b)
{
	uint64_t x = le64_get(((const struct wire_part_info *)a)->index);
	uint64_t y = le64_get(((const struct wire_part_info *)b)->index);

	return x < y ? -1 : x > y;
}

/* Only what the owner says counts: a node may still hold what was placed there before. */
int bytes_list(struct bytes *b, uint64_t first, uint64_t count, struct wire_part_info **ret, size_t *ret_n,
	       struct reason *why)
{
	size_t n_nodes = b->layout.n_nodes, n = 1;
	AUTO_FREE struct list_node *nodes = calloc(n_nodes, sizeof(*nodes));
	AUTO_FREE struct fan_call *calls = calloc(n_nodes, sizeof(*calls));
	struct listing l = { .b = b, .end = first + MIN(count, UINT64_MAX - first) };
	int err = nodes && calls ? 0 : -ENOMEM;

	for (size_t i = 0; i < n_nodes && !err; i++)
		nodes[i].next = first;
	while (!err && n > 0)
		err = list_round(&l, nodes, calls, n_nodes, &n, why);
	if (err) {
		free(l.all);
		return err;
	}
	if (l.n > 1)
		qsort(l.all, l.n, sizeof(*l.all), by_info_index);
	*ret = l.all;
	*ret_n = l.n;
	return 0;
}

int bytes_stat(struct bytes *b, uint64_t partition, struct wire_part_info *ret, struct reason *why)
{
	struct wire_part_list body = { .part = bytes_part_id(b, partition, 0), .max = le32_of(1) };
	struct wire_part_info info;
	struct fan_call c = { .retry = true,
			      .call = { .type = WIRE_PART_LIST,
					.body = &body,
					.body_bytes = sizeof(body),
					.reply_payload = &info,
					.reply_cap = sizeof(info) } };
	int err = bytes_call(b, partition, &c, NULL, why);

	if (err)
		return err;
	if (c.call.reply_bytes != sizeof(info) || le64_get(info.index) != partition)
		return reason_set(why, ENOENT, "partition %llu is missing", (unsigned long long)partition);
	*ret = info;
	return 0;
}
