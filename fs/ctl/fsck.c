/* slabctl fsck: the head's tables against each other, and against what the nodes hold.
 *
 *   head:   CHECK_NAMES
 *   nodes:  OBJECTS, page by page -> head: OBJECT_PATHS, which of them it knows
 *           damaged ones: named.  Unknown ones: asked for once more, for one that was just removed is unknown too
 *   repair: RAISE_IDS above all that was seen; RESTORE, the newest description first; what holds nothing is dropped
 */
#include "fsck.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#define PAGE_OBJECTS 4096

static uint64_t max3(uint64_t a, uint64_t b, uint64_t c)
{
	return MAX(a, MAX(b, c));
}

/* ---- one node ---- */

static const struct wire_describe *seen_description(const struct seen *s)
{
	return (const void *)s->description;
}

static void seen_fini(struct seen *s)
{
	free(s->description);
	free(s->bad);
}

/* The next of a reply; false: no more, or no sense in it. */
static bool take_seen(struct cursor *c, uint32_t node, struct seen *ret)
{
	const struct wire_object *o = cursor_take(c, sizeof(*o));
	const uint8_t *text = o ? cursor_take(c, le32_get(o->describe_bytes)) : NULL;
	const struct le64 *bad = text ? cursor_take(c, le32_get(o->n_bad) * sizeof(*bad)) : NULL;

	if (!bad)
		return false;
	*ret = (struct seen){ .object = le64_get(o->object),
			      .node = node,
			      .partitions = le64_get(o->partitions),
			      .bytes = le64_get(o->bytes),
			      .quarantined = le64_get(o->quarantined),
			      .n_bad = le32_get(o->n_bad) };
	ret->bad = calloc(ret->n_bad + 1, sizeof(*ret->bad));
	for (size_t i = 0; ret->bad && i < ret->n_bad; i++)
		ret->bad[i] = le64_get(bad[i]);
	if (le32_get(o->describe_bytes) < sizeof(struct wire_describe) ||
	    wire_description_bytes((const void *)text) != le32_get(o->describe_bytes))
		return ret->bad != NULL;
	ret->description_bytes = le32_get(o->describe_bytes);
	ret->description = malloc(ret->description_bytes);
	if (ret->description)
		memcpy(ret->description, text, ret->description_bytes);
	return ret->bad && ret->description;
}

static int ask_objects(struct client *client, uint64_t after, uint32_t max, struct call *call)
{
	struct wire_objects body = { .after = le64_of(after), .max = le32_of(max) };

	*call = (struct call){ .type = WIRE_OBJECTS,
			       .body = &body,
			       .body_bytes = sizeof(body),
			       .timeout_ms = CTL_SCAN_TIMEOUT_MS,
			       .alloc = true };
	return client_call(client, call);
}

static void note_ids(struct fsck *f, const struct seen *s)
{
	f->last_id = MAX(f->last_id, s->object);
	if (s->description)
		f->last_id = max3(f->last_id, le64_get(seen_description(s)->ino), le64_get(seen_description(s)->stamp));
}

/* Keeps those that are of interest: unknown to the head, or damaged. */
static int sift(struct fsck *f, struct seen *page, size_t n)
{
	AUTO_FREE uint64_t *objects = calloc(WIRE_STATES_MAX, sizeof(*objects));
	AUTO_FREE uint32_t *states = calloc(WIRE_STATES_MAX, sizeof(*states));
	int err = objects && states ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < n; i++)
		objects[i] = page[i].object;
	if (!err && n)
		err = ctl_object_paths(f->c, objects, n, NULL, states, &f->why);
	for (size_t i = 0; i < n; i++) {
		struct seen *grown;
		bool wanted = !err && (states[i] == WIRE_OBJECT_UNKNOWN ||
				       (states[i] == WIRE_OBJECT_NAMED && page[i].quarantined));
		note_ids(f, &page[i]);
		f->objects++;
		page[i].unknown = wanted && states[i] == WIRE_OBJECT_UNKNOWN;
		grown = wanted ? realloc(f->seen, (f->n_seen + 1) * sizeof(*grown)) : NULL;
		if (grown) {
			f->seen = grown;
			grown[f->n_seen++] = page[i];
		} else {
			seen_fini(&page[i]);
			err = wanted ? -ENOMEM : err;
		}
	}
	return err;
}

static int look_at_node(struct fsck *f, uint32_t id, const char *address)
{
	AUTO_FREE struct seen *page = calloc(WIRE_STATES_MAX, sizeof(*page));
	struct client *client;
	uint64_t after = 0;
	size_t n = 0, got;
	int err = page ? ctl_connect_to(f->c, address, &client, &f->why) : -ENOMEM;

	if (err)
		return err;
	do {
		struct call call;
		err = ask_objects(client, after, PAGE_OBJECTS, &call);
		if (err)
			reason_set(&f->why, -err, "node %u: %.200s", id,
				   call.why.text[0] ? call.why.text : strerror(-err));
		struct cursor c = { call.reply_payload, err ? 0 : call.reply_bytes };
		for (got = 0; n < WIRE_STATES_MAX && take_seen(&c, id, &page[n]); got++)
			after = page[n++].object;
		free(call.reply_payload);
		if (!err && (n + PAGE_OBJECTS > WIRE_STATES_MAX || !got)) {
			err = sift(f, page, n);
			n = 0;
		}
	} while (!err && got);
	for (size_t i = 0; i < n; i++)
		seen_fini(&page[i]);
	client_free(client);
	return err;
}

static int look_at_nodes(struct fsck *f)
{
	int err = ctl_nodes_of_store(f->c, &f->nodes, &f->n_nodes, &f->why);

	for (size_t i = 0; !err && i < f->n_nodes; i++) {
		uint32_t id = le32_get(f->nodes[i].node_id);
		if (le32_get(f->nodes[i].state) == WIRE_NODE_UP) {
			err = look_at_node(f, id, f->nodes[i].address);
			continue;
		}
		printf("node %u is not up: what it holds is not checked\n", id);
		f->incomplete = true;
	}
	return err;
}

struct client *fsck_client(struct fsck *f, uint32_t node)
{
	for (size_t i = 0; i < f->n_nodes && !f->clients[node]; i++)
		if (le32_get(f->nodes[i].node_id) == node &&
		    ctl_connect_to(f->c, f->nodes[i].address, &f->clients[node], &f->why) < 0)
			f->clients[node] = NULL;
	return f->clients[node];
}

/* Whether the node still has it: what was dropped while we looked is unknown to the head too. */
static bool is_still_there(struct fsck *f, const struct seen *s)
{
	struct client *client = fsck_client(f, s->node);
	struct call call = { 0 };
	bool there = false;

	if (client && ask_objects(client, s->object - 1, 1, &call) == 0) {
		struct cursor c = { call.reply_payload, call.reply_bytes };
		struct seen again = { 0 };
		there = take_seen(&c, s->node, &again) && again.object == s->object;
		seen_fini(&again);
	}
	free(call.reply_payload);
	return there;
}

/* ---- the findings ---- */

static int say_damaged(struct fsck *f)
{
	AUTO_FREE uint64_t *objects = calloc(f->n_seen + 1, sizeof(*objects));
	AUTO_FREE char **paths = calloc(f->n_seen + 1, sizeof(*paths));
	size_t n = 0, at = 0;
	int err = objects && paths ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < f->n_seen; i++)
		if (!f->seen[i].unknown)
			objects[n++] = f->seen[i].object;
	if (!err && n)
		err = ctl_object_paths(f->c, objects, n, paths, NULL, &f->why);
	for (size_t i = 0; !err && i < f->n_seen; i++) {
		const struct seen *s = &f->seen[i];
		if (s->unknown)
			continue;
		const char *path = paths[at] ? paths[at] : "(removed, and still open)";
		for (size_t k = 0; k < s->n_bad; k++)
			printf("%s: partition %" PRIu64 " on node %u is quarantined\n", path, s->bad[k], s->node);
		if (s->quarantined > s->n_bad)
			printf("%s: %" PRIu64 " more partitions on node %u are quarantined\n", path,
			       s->quarantined - s->n_bad, s->node);
		f->left++;
		free(paths[at++]);
	}
	return err;
}

static uint64_t stamp_of(const struct seen *s)
{
	return s->description ? le64_get(seen_description(s)->stamp) : 0;
}

/* By object, the newest description of each first. */
static int compare_seen(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	return (stamp_of(x) < stamp_of(y)) - (stamp_of(x) > stamp_of(y));
}

struct unknown { /* all that was seen of one object */
	struct seen *newest;
	uint64_t partitions, bytes;
};

/* The newest first: of two that claim a path it is the one that had it last. */
static int compare_unknown(const void *a, const void *b)
{
	const struct unknown *x = a, *y = b;
	uint64_t xs = stamp_of(x->newest), ys = stamp_of(y->newest);

	if (xs != ys)
		return xs < ys ? 1 : -1;
	return x->newest->object < y->newest->object ? -1 : 1;
}

static int raise_ids(struct fsck *f, bool rebuilt)
{
	struct wire_raise_ids body = { .last = le64_of(f->last_id), .flags = le32_of(rebuilt ? WIRE_IDS_REBUILT : 0) };
	struct call call = { .type = WIRE_RAISE_IDS, .body = &body, .body_bytes = sizeof(body) };
	int err = client_call(f->head, &call);

	return err ? reason_set(&f->why, -err, "the head: %.200s", call.why.text) : 0;
}

static int handle_unknown(struct fsck *f, const struct unknown *u)
{
	const struct wire_describe *d = u->newest->description ? seen_description(u->newest) : NULL;
	const char *path = d ? (const char *)(d + 1) + le32_get(d->n_nodes) * sizeof(struct le32) : "";
	char was[300] = "";

	if (d && le32_get(d->path_bytes))
		snprintf(was, sizeof(was), ", was %.*s", (int)le32_get(d->path_bytes), path);
	printf("object %" PRIu64 ": no name leads to it (%" PRIu64 " partitions, %" PRIu64 " bytes%s)\n",
	       u->newest->object, u->partitions, u->bytes, was);
	if (f->repair)
		return fsck_restore(f, u->newest, u->partitions);
	f->left++;
	return 0;
}

static int handle_all_unknown(struct fsck *f)
{
	AUTO_FREE struct unknown *all = calloc(f->n_seen + 1, sizeof(*all));
	size_t n = 0;
	int err = all ? 0 : -ENOMEM;

	if (!err && f->n_seen)
		qsort(f->seen, f->n_seen, sizeof(*f->seen), compare_seen);
	for (size_t i = 0; !err && i < f->n_seen; i++) {
		struct seen *s = &f->seen[i];
		if (!s->unknown || !is_still_there(f, s))
			continue;
		if (!n || all[n - 1].newest->object != s->object)
			all[n++].newest = s;
		all[n - 1].partitions += s->partitions;
		all[n - 1].bytes += s->bytes;
	}
	if (n)
		qsort(all, n, sizeof(*all), compare_unknown);
	for (size_t i = 0; !err && i < n; i++)
		err = handle_unknown(f, &all[i]);
	return err;
}

static int check_names(struct fsck *f)
{
	struct wire_check_names body = { .flags = le32_of(f->repair ? WIRE_CHECK_REPAIR : 0) };
	struct call call = { .type = WIRE_CHECK_NAMES,
			     .body = &body,
			     .body_bytes = sizeof(body),
			     .timeout_ms = CTL_SCAN_TIMEOUT_MS,
			     .alloc = true };
	int err = client_call(f->head, &call);
	const char *text = call.reply_payload;

	if (err)
		reason_set(&f->why, -err, "the head: %.250s", call.why.text[0] ? call.why.text : strerror(-err));
	for (size_t i = 0; !err && i < call.reply_bytes; i++) {
		static const char mended[] = "; mended";
		size_t back = sizeof(mended) - 1;
		if (text[i] == '\n' && (i < back || memcmp(text + i - back, mended, back) != 0))
			f->left++;
	}
	if (!err && call.reply_bytes > 0)
		fwrite(text, 1, call.reply_bytes, stdout);
	free(call.reply_payload);
	return err;
}

static int parse(int argc, char **argv, struct fsck *f)
{
	static const struct option longs[] = { { "repair", no_argument, NULL, 'r' },
					       { "rebuild", no_argument, NULL, 'b' },
					       { "drop-unknown", no_argument, NULL, 'd' },
					       { NULL, 0, NULL, 0 } };
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == '?')
			return ctl_bad_usage("fsck: unknown option");
		f->repair = f->repair || o == 'r' || o == 'b';
		f->rebuild = f->rebuild || o == 'b';
		f->drop_unknown = f->drop_unknown || o == 'd';
	}
	if (optind < argc)
		return ctl_bad_usage("fsck: '%s' is not wanted here", argv[optind]);
	if (f->drop_unknown && !f->repair)
		return ctl_bad_usage("fsck: --drop-unknown belongs to --repair or --rebuild");
	return -1;
}

static int run(struct fsck *f)
{
	int err = ctl_connect(f->c, true, &f->head, &f->why);

	if (!err)
		err = check_names(f);
	if (!err)
		err = look_at_nodes(f);
	if (!err && f->repair)
		err = raise_ids(f, false);
	if (!err)
		err = say_damaged(f);
	if (!err)
		err = handle_all_unknown(f);
	if (!err && f->rebuild && !f->incomplete)
		err = raise_ids(f, true);
	return err;
}

int ctl_fsck(struct ctl *c, int argc, char **argv)
{
	struct fsck f = { .c = c };
	int err, code = parse(argc, argv, &f);

	if (code < 0)
		code = ctl_find_store(c);
	if (code)
		return code;
	err = run(&f);
	fflush(stdout);
	if (err && !f.why.text[0])
		reason_set(&f.why, -err, "%s", strerror(-err));
	code = err ? ctl_fail(&f.why) : f.left || f.incomplete ? CTL_FAIL : CTL_OK;
	if (!err)
		printf("fsck: %" PRIu64 " objects; %" PRIu64 " restored, %" PRIu64 " dropped, %" PRIu64 " left%s\n",
		       f.objects, f.restored, f.dropped, f.left, f.incomplete ? "; not complete" : "");
	if (!err && f.rebuild && f.incomplete)
		puts("fsck: run it again when all nodes are up; until then no new files and arrays are made");
	for (size_t i = 0; i < f.n_seen; i++)
		seen_fini(&f.seen[i]);
	free(f.seen);
	for (size_t i = 0; i <= SLAB_NODES_MAX; i++)
		client_free(f.clients[i]);
	free(f.nodes);
	client_free(f.head);
	return code;
}
