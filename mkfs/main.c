/* mkfs.slabfs - formats a directory as a store: of a new cluster, or of one that exists. */
#include "mkfs.h"

#include <getopt.h>
#include <stdio.h>

enum { EXIT_FAIL = 1, EXIT_USAGE = 2 };

struct options {
	const char *listen, *join, *rebuild, *key, *store;
};

static const char usage[] =
	"usage: mkfs.slabfs [--listen HOST:PORT] STORE\n"
	"       mkfs.slabfs --join HOST:PORT --key FILE [--listen HOST:PORT] STORE\n"
	"       mkfs.slabfs --rebuild HOST:PORT --key FILE --listen HOST:PORT STORE\n"
	"Formats the empty (or missing) directory STORE as the first store of a new cluster, whose head it is,\n"
	"or as one more store of the cluster whose head is at HOST:PORT.\n"
	"  --listen HOST:PORT  where slabfsd will listen, and others will reach it; port 0: any free port\n"
	"                      (default: 127.0.0.1:7522; with --join the address that reaches the head, port 7522)\n"
	"  --join HOST:PORT    the head of the cluster; it must be running\n"
	"  --rebuild HOST:PORT any node of a cluster whose head is lost: STORE becomes its new head, which must "
	"listen\n"
	"                      where the old one did; then slabfsd --rebuild STORE\n"
	"  --key FILE          the cluster's key: cluster.key of any of its stores\n"
	"  --help, --version\n";

static int bad_usage(const char *what)
{
	fprintf(stderr, "mkfs.slabfs: %s\n%s", what, usage);
	return EXIT_USAGE;
}

static int fail(const struct reason *why)
{
	fprintf(stderr, "mkfs.slabfs: %s\n", why->text);
	return EXIT_FAIL;
}

static bool is_address(const char *text)
{
	char host[256];
	uint16_t port;

	return strlen(text) < 300 && address_split(text, SLAB_DEFAULT_PORT, host, &port) == 0;
}

static int check_options(const struct options *o)
{
	if ((!o->join && !o->rebuild) != !o->key)
		return bad_usage("--join or --rebuild, and --key, belong together");
	if (o->rebuild && (o->join || !o->listen))
		return bad_usage("--rebuild needs --listen, and excludes --join");
	if (o->rebuild && !is_address(o->rebuild))
		return bad_usage("--rebuild: not HOST:PORT");
	if (o->listen && !is_address(o->listen))
		return bad_usage("--listen: not HOST:PORT");
	if (o->join && !is_address(o->join))
		return bad_usage("--join: not HOST:PORT");
	return -1;
}

/* -1: go on; else the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "join", required_argument, NULL, 'j' },
		{ "key", required_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "rebuild", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 'l':
			o->listen = optarg;
			break;
		case 'j':
			o->join = optarg;
			break;
		case 'r':
			o->rebuild = optarg;
			break;
		case 'k':
			o->key = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'V':
			puts("mkfs.slabfs " SLAB_VERSION);
			return 0;
		default:
			return bad_usage("unknown option, or one without its value");
		}
	}
	if (argc - optind != 1)
		return bad_usage("one STORE is needed");
	o->store = argv[optind];
	return check_options(o);
}

/* The address with its port spelled out, as others will use it. */
static void set_address(char ret[300], const char *text)
{
	char host[256];
	uint16_t port;

	address_split(text, SLAB_DEFAULT_PORT, host, &port);
	snprintf(ret, 300, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

static int new_cluster(const struct options *o, struct superblock *sb, uint8_t key[CLUSTER_KEY_BYTES])
{
	int err = uuid_new(&sb->cluster);

	sb->node_id = 1;
	sb->is_head = true;
	set_address(sb->listen, o->listen ? o->listen : "127.0.0.1");
	memcpy(sb->head, sb->listen, sizeof(sb->head));
	return err ? err : random_bytes(key, CLUSTER_KEY_BYTES);
}

static int old_cluster(const struct options *o, struct superblock *sb, uint8_t key[CLUSTER_KEY_BYTES],
		       struct reason *why)
{
	int err = cluster_key_read(o->key, key, why);

	set_address(sb->head, o->join);
	if (!err && o->listen)
		set_address(sb->listen, o->listen);
	else if (!err)
		err = join_address(sb->head, sb->listen, why);
	return err ? err : join_cluster(sb, key, why);
}

static int lost_head(const struct options *o, struct superblock *sb, uint8_t key[CLUSTER_KEY_BYTES], struct reason *why)
{
	int err = cluster_key_read(o->key, key, why);

	set_address(sb->listen, o->listen);
	memcpy(sb->head, sb->listen, sizeof(sb->head));
	return err ? err : join_as_head(sb, o->rebuild, key, why);
}

static void report(const struct options *o, const struct superblock *sb)
{
	char cluster[37];

	uuid_text(&sb->cluster, cluster);
	printf("mkfs.slabfs: %s: node %u of cluster %s, %slistens on %s\n", o->store, sb->node_id, cluster,
	       sb->is_head ? "head, " : "", sb->listen);
	if (sb->is_head && !o->listen)
		fprintf(stderr,
			"mkfs.slabfs: other machines cannot reach it there; --listen HOST:PORT says where they can\n");
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	struct superblock sb = { 0 };
	uint8_t key[CLUSTER_KEY_BYTES];
	struct reason why = { "out of random bytes" };
	struct new_store store;
	int code = parse_options(argc, argv, &o);
	int err;

	if (code >= 0)
		return code;
	err = store_begin(&store, o.store, &why);
	if (!err)
		err = uuid_new(&sb.node);
	if (!err)
		err = o.rebuild ? lost_head(&o, &sb, key, &why)
		      : o.join  ? old_cluster(&o, &sb, key, &why)
				: new_cluster(&o, &sb, key);
	if (!err)
		err = store_finish(&store, &sb, sb.is_head && !o.rebuild, key, &why);
	if (err) {
		store_undo(&store);
		return fail(&why);
	}
	report(&o, &sb);
	close(store.fd);
	return 0;
}
