/* slabctl scrub: starts the scrub of each node, shows how far they are, and says what they found.  The nodes do the work, and remember how far they
 * are: whoever interrupts this, or kills it, can go on later. */
#include "ctl.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "json.h"

#define POLL_NS 200000000
#define PLAIN_NS UINT64_C(10000000000) /* between lines, when nobody watches */
#define BAR 30

struct damage {
	uint64_t object, partition;
	uint32_t node;
	char *reason;
};

struct worker { /* a node that scrubs */
	uint32_t id;
	struct client *client;
	bool running;
	uint64_t partitions, bytes, expected, n_damaged;
};

struct scrub {
	struct worker at[SLAB_NODES_MAX];
	size_t n;
	uint64_t rate;
	bool status_only, failed;
	struct damage *damage;
	size_t n_damage;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static uint64_t get_u64(const struct json *j, const char *key)
{
	const struct json *v = json_get(j, key);
	uint64_t n;

	return v && json_u64(v, &n) == 0 ? n : 0;
}

static void take_damage(struct scrub *s, const struct worker *w, const struct json *list)
{
	for (size_t i = 0; i < json_length(list); i++) {
		const struct json *one = json_at(list, i);
		struct damage *grown = realloc(s->damage, (s->n_damage + 1) * sizeof(*grown));
		const char *reason = "";
		if (!grown)
			return;
		s->damage = grown;
		if (json_get(one, "reason"))
			json_string(json_get(one, "reason"), &reason);
		grown[s->n_damage++] =
			(struct damage){ get_u64(one, "object"), get_u64(one, "partition"), w->id, strdup(reason) };
	}
}

/* One request; with `list` what was found is taken too. */
static int ask(struct scrub *s, struct worker *w, uint32_t action, bool list, struct reason *why)
{
	struct wire_scrub body = { .action = le32_of(action), .rate = le64_of(s->rate) };
	struct call call = { .type = WIRE_SCRUB, .body = &body, .body_bytes = sizeof(body), .alloc = true };
	const char *state = "";
	struct json *j = NULL;
	int err = client_call(w->client, &call);

	if (!err)
		err = json_parse(call.reply_payload, call.reply_bytes, &j, &call.why);
	if (!err && (!json_get(j, "state") || json_string(json_get(j, "state"), &state) < 0))
		err = -EPROTO;
	if (err) {
		reason_set(why, -err, "node %u: %.200s", w->id, call.why.text[0] ? call.why.text : strerror(-err));
	} else {
		w->running = !strcmp(state, "running");
		w->partitions = get_u64(j, "partitions") + get_u64(j, "skipped");
		w->bytes = get_u64(j, "bytes");
		w->expected = get_u64(j, "expected_partitions");
		w->n_damaged = get_u64(j, "damaged_partitions");
		if (list && json_get(j, "damaged"))
			take_damage(s, w, json_get(j, "damaged"));
	}
	json_free(j);
	free(call.reply_payload);
	return err;
}

static void show(const struct scrub *s, bool tty)
{
	uint64_t done = 0, expected = 0, bytes = 0, damaged = 0;
	char bar[BAR + 1];

	for (size_t i = 0; i < s->n; i++) {
		done += s->at[i].partitions;
		expected += MAX(s->at[i].expected, s->at[i].partitions);
		bytes += s->at[i].bytes;
		damaged += s->at[i].n_damaged;
	}
	double part = expected ? (double)done / (double)expected : 1;
	for (size_t i = 0; i < BAR; i++)
		bar[i] = (double)i < part * BAR ? '#' : '.';
	bar[BAR] = '\0';
	if (tty)
		printf("\r[%s] %3.0f%%  %" PRIu64 " partitions, %.1f MiB, %" PRIu64 " damaged ", bar, 100 * part, done,
		       (double)bytes / 1048576, damaged);
	else
		printf("scrub: %.0f%% of %" PRIu64 " partitions, %.1f MiB, %" PRIu64 " damaged\n", 100 * part, expected,
		       (double)bytes / 1048576, damaged);
	fflush(stdout);
}

static bool any_running(const struct scrub *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->at[i].running)
			return true;
	return false;
}

static void watch(struct scrub *s)
{
	bool tty = isatty(STDOUT_FILENO);
	uint64_t shown = time_mono_ns();
	struct reason why;

	while (any_running(s) && !interrupted) {
		struct timespec pause = { 0, POLL_NS };
		nanosleep(&pause, NULL);
		for (size_t i = 0; i < s->n; i++) {
			if (!s->at[i].running || ask(s, &s->at[i], WIRE_SCRUB_STATUS, false, &why) == 0)
				continue;
			s->at[i].running = false;
			s->failed = true;
			fprintf(stderr, "%sslabctl: %s\n", tty ? "\n" : "", why.text);
		}
		if (!tty && time_mono_ns() - shown < PLAIN_NS)
			continue;
		shown = time_mono_ns();
		show(s, tty);
	}
	show(s, tty);
	if (tty)
		putchar('\n');
}

/* 0, or CTL_FAIL when there is damage. */
static int report(const struct ctl *c, struct scrub *s)
{
	AUTO_FREE uint64_t *objects = calloc(s->n_damage + 1, sizeof(*objects));
	AUTO_FREE char **paths = calloc(s->n_damage + 1, sizeof(*paths));
	struct reason why;

	for (size_t i = 0; objects && paths && i < s->n_damage; i++)
		objects[i] = s->damage[i].object;
	if (s->n_damage && objects && paths && ctl_object_paths(c, objects, s->n_damage, paths, NULL, &why) < 0)
		fprintf(stderr, "slabctl: %s\n", why.text);
	for (size_t i = 0; i < s->n_damage; i++) {
		const struct damage *d = &s->damage[i];
		printf("damaged: %s partition %" PRIu64 " on node %u: %s\n",
		       paths && paths[i] ? paths[i] : "(nothing names it)", d->partition, d->node,
		       d->reason ? d->reason : "");
		free(d->reason);
		if (paths)
			free(paths[i]);
	}
	free(s->damage);
	return s->n_damage || s->failed ? CTL_FAIL : CTL_OK;
}

static int parse(int argc, char **argv, struct scrub *s, uint64_t *ret_node)
{
	static const struct option longs[] = { { "rate", required_argument, NULL, 'r' },
					       { "node", required_argument, NULL, 'n' },
					       { "status", no_argument, NULL, 's' },
					       { NULL, 0, NULL, 0 } };
	uint64_t mib = 64;
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == '?')
			return ctl_bad_usage("scrub: unknown option, or one without its value");
		if (o == 'r' && (parse_u64(optarg, 1u << 20, &mib) < 0 || !mib))
			return ctl_bad_usage("--rate: '%s' is not a number of MiB a second", optarg);
		if (o == 'n' && (parse_u64(optarg, SLAB_NODES_MAX, ret_node) < 0 || !*ret_node))
			return ctl_bad_usage("--node: '%s' is not the number of a node", optarg);
		s->status_only = s->status_only || o == 's';
	}
	if (optind < argc)
		return ctl_bad_usage("scrub: '%s' is not wanted here", argv[optind]);
	s->rate = mib << 20;
	return -1;
}

static int find_workers(const struct ctl *c, struct scrub *s, uint64_t only, struct reason *why)
{
	AUTO_FREE struct wire_node *nodes = NULL;
	size_t n;
	int err = ctl_nodes_of_store(c, &nodes, &n, why);

	for (size_t i = 0; !err && i < n; i++) {
		uint32_t id = le32_get(nodes[i].node_id);
		if (only && id != only)
			continue;
		if (le32_get(nodes[i].state) != WIRE_NODE_UP) {
			fprintf(stderr, "slabctl: node %u is not up: it is left out\n", id);
			s->failed = true;
			continue;
		}
		s->at[s->n].id = id;
		err = ctl_connect_to(c, nodes[i].address, &s->at[s->n].client, why);
		s->n += !err;
	}
	if (!err && !s->n && !s->failed)
		err = reason_set(why, ENOENT, "there is no node %" PRIu64, only);
	return err;
}

int ctl_scrub(struct ctl *c, int argc, char **argv)
{
	struct scrub s = { 0 };
	struct reason why = { "" };
	uint64_t only = 0;
	int err, code = parse(argc, argv, &s, &only);

	if (code < 0)
		code = ctl_find_store(c);
	if (code)
		return code;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	err = find_workers(c, &s, only, &why);
	for (size_t i = 0; !err && i < s.n; i++)
		err = ask(&s, &s.at[i], s.status_only ? WIRE_SCRUB_STATUS : WIRE_SCRUB_START, false, &why);
	if (!err && s.status_only)
		show(&s, false);
	else if (!err)
		watch(&s);
	for (size_t i = 0; !err && i < s.n; i++)
		if (ask(&s, &s.at[i], interrupted ? WIRE_SCRUB_STOP : WIRE_SCRUB_STATUS, true, &why) < 0)
			fprintf(stderr, "slabctl: %s\n", why.text);
	code = err ? ctl_fail(&why) : report(c, &s);
	if (!err && interrupted && !s.status_only) {
		puts("scrub: interrupted; the next one goes on from here");
		code = CTL_FAIL;
	}
	for (size_t i = 0; i < s.n; i++)
		client_free(s.at[i].client);
	return code;
}
