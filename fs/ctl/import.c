/* Makes an array and copies a file's bytes into its `data` view, which cuts them into partitions. */
#include "ctl.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "grid.h"
#include "io.h"
#include "npy.h"

#define COPY_BYTES (8u << 20)
#define PROGRESS_NS UINT64_C(500000000)
#define PROGRESS_AFTER_NS UINT64_C(1000000000)

struct import {
	struct new_array array;
	const char *file, *path;
	uint64_t offset, bytes;
	bool has_offset;
	int fd;
};

static int parse(int argc, char **argv, struct import *im)
{
	static const struct option longs[] = {
		{ "dtype", required_argument, NULL, 'd' },
		{ "shape", required_argument, NULL, 's' },
		{ "offset", required_argument, NULL, 'o' },
		{ "partition-bytes", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == '?')
			return ctl_bad_usage("import: unknown option, or one without its value");
		if (c == 'd' && new_array_dtype(&im->array, optarg) < 0)
			return ctl_bad_usage("--dtype: '%s' is not an element type", optarg);
		if (c == 's' && new_array_shape(&im->array, optarg) < 0)
			return ctl_bad_usage("--shape: '%s' is not a list of whole numbers", optarg);
		if (c == 'o' && parse_u64(optarg, INT64_MAX, &im->offset) < 0)
			return ctl_bad_usage("--offset: '%s' is not a whole number", optarg);
		im->has_offset = im->has_offset || c == 'o';
		if (c == 'p' && (parse_u64(optarg, GRID_PARTITION_BYTES_MAX, &im->array.partition_bytes) < 0 ||
				 !im->array.partition_bytes))
			return ctl_bad_usage("--partition-bytes: '%s' is not a size", optarg);
	}
	if (!im->array.dtype != !im->array.has_shape || (im->has_offset && !im->array.dtype))
		return ctl_bad_usage("import: --dtype and --shape belong together, and --offset to them");
	if (argc - optind != 2)
		return ctl_bad_usage("import: FILE and PATH are needed");
	im->file = argv[optind];
	im->path = argv[optind + 1];
	return -1;
}

static int read_npy(struct import *im, struct reason *why)
{
	AUTO_FREE uint8_t *head = malloc(NPY_HEADER_MAX);
	struct reason what = { "" };
	struct npy npy;
	size_t len;
	int err = head ? io_pread(im->fd, head, NPY_HEADER_MAX, 0, &len) : -ENOMEM;

	if (err)
		return reason_set(why, -err, "%.200s: %s", im->file, strerror(-err));
	err = npy_parse(head, len, &npy, NULL, &what);
	if (err)
		return reason_set(why, EINVAL, "%.100s: not a .npy file (%.120s); raw bytes need --dtype and --shape",
				  im->file, err == -EAGAIN ? "it ends in the header" : what.text);
	if (npy.fortran_order && npy.rank > 1)
		return reason_set(why, ENOTSUP, "%.200s: is in Fortran order; save it in C order first", im->file);
	im->array.dtype = npy.dtype;
	im->array.big_endian = npy.big_endian;
	im->array.rank = npy.rank;
	memcpy(im->array.shape, npy.shape, sizeof(npy.shape));
	im->offset = npy.header_bytes;
	return 0;
}

static int open_file(struct import *im, struct reason *why)
{
	uint64_t end;
	struct stat st;
	int err;

	im->fd = open(im->file, O_RDONLY | O_CLOEXEC);
	if (im->fd < 0 || fstat(im->fd, &st) < 0)
		return reason_set(why, errno, "%.250s: %s", im->file, strerror(errno));
	err = im->array.dtype ? 0 : read_npy(im, why);
	if (err)
		return err;
	if (new_array_bytes(&im->array, &im->bytes) < 0 || add_overflows(im->offset, im->bytes, &end))
		return reason_set(why, EFBIG, "%.250s: the array would be too large", im->file);
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < end)
		return reason_set(why, EINVAL, "%.200s: has %llu bytes; the array needs %llu", im->file,
				  (unsigned long long)st.st_size, (unsigned long long)end);
	return 0;
}

static void show_progress(const struct import *im, uint64_t done, uint64_t started, uint64_t *shown, bool tty)
{
	uint64_t now = time_mono_ns();

	if (!tty && now - started < PROGRESS_AFTER_NS)
		return;
	if (now - *shown < PROGRESS_NS && done < im->bytes)
		return;
	*shown = now;
	fprintf(stderr, "%sslabctl: %s: %.0f%% of %.1f MB%s", tty ? "\r" : "", im->path,
		im->bytes ? 100.0 * (double)done / (double)im->bytes : 100.0, (double)im->bytes / 1e6,
		tty && done < im->bytes ? "" : "\n");
}

static int copy(const struct import *im, int out, uint64_t *ret_done)
{
	AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);
	uint64_t started = time_mono_ns(), shown = 0;
	bool tty = isatty(STDERR_FILENO);
	int err = buf ? 0 : -ENOMEM;

	while (!err && *ret_done < im->bytes) {
		size_t len = (size_t)MIN(im->bytes - *ret_done, COPY_BYTES);
		size_t got;
		err = io_pread(im->fd, buf, len, im->offset + *ret_done, &got);
		if (!err && got < len)
			err = -ENODATA;
		if (!err)
			err = io_pwrite(out, buf, len, *ret_done);
		if (err)
			break;
		*ret_done += len;
		show_progress(im, *ret_done, started, &shown, tty);
	}
	return err;
}

static int fill(const struct import *im, struct reason *why)
{
	char path[PATH_MAX];
	uint64_t done = 0;
	int out, err;

	if (!im->bytes)
		return 0;
	snprintf(path, sizeof(path), "%s/data", im->path);
	out = open(path, O_WRONLY | O_CLOEXEC);
	err = out < 0 ? -errno : copy(im, out, &done);
	if (!err && fsync(out) < 0)
		err = -errno;
	if (out >= 0 && close(out) < 0 && !err)
		err = -errno;
	if (err)
		return reason_set(why, -err, "%.150s: %s after %llu of %llu bytes; the array is left as it is",
				  im->path, strerror(-err), (unsigned long long)done, (unsigned long long)im->bytes);
	return 0;
}

int ctl_import(struct ctl *c, int argc, char **argv)
{
	struct import im = { .fd = -1 };
	struct reason why;
	int code = parse(argc, argv, &im);
	int err;

	(void)c;
	if (code >= 0)
		return code;
	err = open_file(&im, &why);
	if (!err)
		err = new_array_make(&im.array, im.path, &why);
	if (!err)
		err = fill(&im, &why);
	if (im.fd >= 0)
		close(im.fd);
	return err ? ctl_fail(&why) : CTL_OK;
}
