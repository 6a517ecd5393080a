/* Objects without a name: with a description they get theirs again; without one, they are files, whose cut can be told from the
 * partitions that the nodes hold. */
#include "fsck.h"

#include <inttypes.h>
#include <stdio.h>

#define LIST_MAX (WIRE_TEXT_MAX / sizeof(struct wire_part_info))

struct piece {
	uint64_t index, bytes;
	uint32_t node;
};
struct pieces {
	struct piece *at;
	size_t n;
};

static int restore(struct fsck *f, const void *description, size_t len, uint64_t object)
{
	struct wire_restore body = { .flags = le32_of(f->rebuild ? WIRE_RESTORE_IN_PLACE : 0) };
	struct call call = { .type = WIRE_RESTORE,
			     .body = &body,
			     .body_bytes = sizeof(body),
			     .payload = { description },
			     .payload_bytes = { len },
			     .alloc = true };
	int err = client_call(f->head, &call);

	if (err) {
		printf("object %" PRIu64 ": cannot be restored: %s\n", object, call.why.text);
		f->left++;
	} else {
		printf("restored: %.*s (object %" PRIu64 ")\n", (int)call.reply_bytes, (char *)call.reply_payload,
		       object);
		f->restored++;
	}
	free(call.reply_payload);
	return 0;
}

static int drop_on(struct fsck *f, uint64_t object, uint32_t node)
{
	struct wire_part_drop body = {
		.part = { .object = le64_of(object), .epoch = le32_of(1), .flags = le32_of(WIRE_DROP_OBJECT) },
		.count = le64_of(UINT64_MAX)
	};
	struct call call = { .type = WIRE_PART_DROP, .body = &body, .body_bytes = sizeof(body) };
	struct client *client = fsck_client(f, node);
	int err = client ? client_call(client, &call) : -ENOTCONN;

	return err && client ? reason_set(&f->why, -err, "node %u: %.200s", node, call.why.text) : err;
}

static int drop(struct fsck *f, uint64_t object)
{
	int err = 0;

	for (size_t i = 0; !err && i < f->n_nodes; i++)
		if (le32_get(f->nodes[i].state) == WIRE_NODE_UP)
			err = drop_on(f, object, le32_get(f->nodes[i].node_id));
	if (!err) {
		printf("dropped: object %" PRIu64 "\n", object);
		f->dropped++;
	}
	return err;
}

/* ---- files without a description ---- */

static int list_on(struct fsck *f, uint64_t object, uint32_t node, struct pieces *p)
{
	struct wire_part_list body = { .part = { .object = le64_of(object), .epoch = le32_of(1) },
				       .max = le32_of(LIST_MAX) };
	struct call call = { .type = WIRE_PART_LIST, .body = &body, .body_bytes = sizeof(body), .alloc = true };
	struct client *client = fsck_client(f, node);
	int err = client ? client_call(client, &call) : -ENOTCONN;

	const struct wire_part_info *infos = call.reply_payload;
	size_t n = err ? 0 : call.reply_bytes / sizeof(*infos);
	struct piece *grown = err ? NULL : realloc(p->at, (p->n + n + 1) * sizeof(*grown));
	for (size_t i = 0; grown && i < n; i++)
		grown[p->n + i] = (struct piece){ le64_get(infos[i].index), le64_get(infos[i].file_bytes), node };
	p->at = grown ? grown : p->at;
	p->n += grown ? n : 0;
	free(call.reply_payload);
	if (err)
		return client ? reason_set(&f->why, -err, "node %u: %.200s", node, call.why.text) : err;
	return grown ? 0 : -ENOMEM;
}

/* The nodes in their order: the fewest that explain where each piece is, and all of which hold one.  0: none do. */
static size_t infer_nodes(const struct pieces *p, struct le32 ret[SLAB_NODES_MAX])
{
	for (size_t n = 1; n <= SLAB_NODES_MAX; n++) {
		bool fits = true;
		memset(ret, 0, SLAB_NODES_MAX * sizeof(*ret));
		for (size_t i = 0; fits && i < p->n; i++) {
			struct le32 *at = &ret[p->at[i].index % n];
			fits = !le32_get(*at) || le32_get(*at) == p->at[i].node;
			*at = le32_of(p->at[i].node);
		}
		for (size_t i = 0; fits && i < n; i++)
			fits = le32_get(ret[i]) != 0;
		if (fits)
			return n;
	}
	return 0;
}

/* All pieces but the last have the size of the cut; one alone says only that the cut is not smaller. */
static bool infer_cut(const struct pieces *p, uint64_t *ret_cut, uint64_t *ret_size)
{
	uint64_t last = 0, last_bytes = 0, cut = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (p->at[i].index >= last) {
			last = p->at[i].index;
			last_bytes = p->at[i].bytes;
		}
		cut = MAX(cut, p->at[i].bytes);
	}
	if (last == 0)
		cut = MAX(UINT64_C(64) << 20, div_up(cut, 4096) * 4096);
	*ret_cut = cut;
	return cut && cut % 4096 == 0 && !mul_overflows(last, cut, ret_size) &&
	       !add_overflows(*ret_size, last_bytes, ret_size) && *ret_size <= INT64_MAX;
}

static int restore_file(struct fsck *f, uint64_t object)
{
	struct {
		struct wire_describe head;
		struct le32 nodes[SLAB_NODES_MAX];
	} __attribute__((packed)) d = { .head = { .object = le64_of(object) } };
	struct pieces p = { 0 };
	uint64_t cut, size;
	size_t n = 0;
	int err = 0;

	for (size_t i = 0; !err && i < f->n_nodes; i++)
		if (le32_get(f->nodes[i].state) == WIRE_NODE_UP)
			err = list_on(f, object, le32_get(f->nodes[i].node_id), &p);
	if (!err)
		n = infer_nodes(&p, d.nodes);
	bool known = !err && n && infer_cut(&p, &cut, &size);
	free(p.at);
	if (err)
		return err;
	if (!known) {
		printf("object %" PRIu64 ": where its pieces belong cannot be told\n", object);
		f->left++;
		return 0;
	}
	d.head.mode = le32_of(0100600);
	d.head.generation = le64_of(1);
	d.head.mtime_ns = d.head.ctime_ns = le64_of(time_real_ns());
	d.head.epoch = le32_of(1);
	d.head.size = le64_of(size);
	d.head.partition_bytes = le64_of(cut);
	d.head.n_nodes = le32_of((uint32_t)n);
	return restore(f, &d, sizeof(d.head) + n * sizeof(*d.nodes), object);
}

int fsck_restore(struct fsck *f, const struct seen *s, uint64_t partitions)
{
	if (s->description)
		return restore(f, s->description, s->description_bytes, s->object);
	if (!partitions || f->drop_unknown)
		return drop(f, s->object);
	return restore_file(f, s->object);
}
