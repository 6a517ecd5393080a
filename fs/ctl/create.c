#include "ctl.h"

#include <getopt.h>

#include "grid.h"

static int parse(int argc, char **argv, struct new_array *a)
{
	static const struct option longs[] = {
		{ "dtype", required_argument, NULL, 'd' },
		{ "shape", required_argument, NULL, 's' },
		{ "partition-bytes", required_argument, NULL, 'p' },
		{ "big-endian", no_argument, NULL, 'b' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == '?')
			return ctl_bad_usage("create: unknown option, or one without its value");
		if (c == 'b')
			a->big_endian = true;
		if (c == 'd' && new_array_dtype(a, optarg) < 0)
			return ctl_bad_usage("--dtype: '%s' is not an element type", optarg);
		if (c == 's' && new_array_shape(a, optarg) < 0)
			return ctl_bad_usage("--shape: '%s' is not a list of whole numbers", optarg);
		if (c == 'p' &&
		    (parse_u64(optarg, GRID_PARTITION_BYTES_MAX, &a->partition_bytes) < 0 || !a->partition_bytes))
			return ctl_bad_usage("--partition-bytes: '%s' is not a size", optarg);
	}
	if (!a->dtype || !a->has_shape)
		return ctl_bad_usage("create: --dtype and --shape are needed");
	return argc - optind == 1 ? -1 : ctl_bad_usage("create: one PATH is needed");
}

int ctl_create(struct ctl *c, int argc, char **argv)
{
	struct new_array a = { 0 };
	struct reason why;
	uint64_t bytes;
	int code = parse(argc, argv, &a);

	(void)c;
	if (code >= 0)
		return code;
	if (new_array_bytes(&a, &bytes) < 0)
		return ctl_bad_usage("--shape: the array would be too large");
	return new_array_make(&a, argv[optind], &why) < 0 ? ctl_fail(&why) : CTL_OK;
}
