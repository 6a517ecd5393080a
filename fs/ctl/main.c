/* slabctl - the administrator's tool. */
#include "ctl.h"

#include <stdarg.h>
#include <stdio.h>

static const char usage[] =
	"usage: slabctl [--mount MOUNTPOINT | --store STORE] COMMAND\n"
	"  nodes [--json]    the nodes of the cluster and their state\n"
	"  status [--json]   what the mount, or the store's daemon, says of itself\n"
	"  create --dtype float64 --shape 721,1440 [--partition-bytes N] [--big-endian] PATH\n"
	"                    make the array PATH below a mount\n"
	"  import [--dtype '>f4' --shape 721,1440 --offset 40] [--partition-bytes N] FILE PATH\n"
	"                    make the array PATH from a .npy file, or from raw bytes of which the options tell\n"
	"  scrub [--rate MIB] [--node N] [--status]\n"
	"                    compare all that the nodes hold with its checksums; 64 MiB/s a node unless told "
	"otherwise\n"
	"  fsck [--repair | --rebuild] [--drop-unknown]\n"
	"                    check the names, and that they and what the nodes hold belong together\n"
	"  help              this text\n"
	"Without --mount and --store: the mount around the current directory, or the only one there is.\n"
	"  --help, --version\n";

static const struct {
	const char *name;
	ctl_command *run;
} commands[] = { { "nodes", ctl_nodes },   { "status", ctl_status }, { "create", ctl_create },
		 { "import", ctl_import }, { "scrub", ctl_scrub },   { "fsck", ctl_fsck } };

int ctl_fail(const struct reason *why)
{
	fprintf(stderr, "slabctl: %s\n", why->text);
	return CTL_FAIL;
}

int ctl_bad_usage(const char *fmt, ...)
{
	va_list args;

	fputs("slabctl: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs("; slabctl help tells more\n", stderr);
	return CTL_USAGE;
}

int ctl_parse_plain(struct ctl *c, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json"))
			return ctl_bad_usage("%s: '%s' is not wanted here", argv[0], argv[i]);
		c->json = true;
	}
	return -1;
}

static int run_command(struct ctl *c, int argc, char **argv)
{
	if (!strcmp(argv[0], "help")) {
		fputs(usage, stdout);
		return CTL_OK;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (!strcmp(argv[0], commands[i].name))
			return commands[i].run(c, argc, argv);
	return ctl_bad_usage("no such command: '%s'", argv[0]);
}

int main(int argc, char **argv)
{
	struct ctl c = { 0 };
	int at = 1;

	for (; at < argc && argv[at][0] == '-'; at++) {
		if (!strcmp(argv[at], "--help") || !strcmp(argv[at], "-h")) {
			fputs(usage, stdout);
			return CTL_OK;
		}
		if (!strcmp(argv[at], "--version")) {
			puts("slabctl " SLAB_VERSION);
			return CTL_OK;
		}
		const char **value = !strcmp(argv[at], "--mount")   ? &c.mount
				     : !strcmp(argv[at], "--store") ? &c.store
								    : NULL;
		if (!value)
			return ctl_bad_usage("unknown option '%s'", argv[at]);
		if (++at == argc)
			return ctl_bad_usage("%s needs a value", argv[at - 1]);
		*value = argv[at];
	}
	if (c.mount && c.store)
		return ctl_bad_usage("--mount and --store exclude each other");
	return at < argc ? run_command(&c, argc - at, argv + at) : ctl_bad_usage("a command is needed");
}
