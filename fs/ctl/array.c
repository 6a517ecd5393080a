#include "ctl.h"

#include "grid.h"
#include "io.h"
#include "zarr.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define PARTITION_BYTES_DEFAULT (UINT64_C(64) << 20)
#define XATTR_PARTITION_BYTES "user.slabfs.partition_bytes"

int new_array_dtype(struct new_array *a, const char *text)
{
	enum dtype dtype;
	bool big = false;

	if (dtype_from_zarr(text, &dtype) < 0 && dtype_from_npy(text, &dtype, &big) < 0)
		return -EINVAL;
	a->dtype = dtype;
	a->big_endian = a->big_endian || big;
	return 0;
}

int new_array_shape(struct new_array *a, const char *text)
{
	char one[24];

	a->rank = 0;
	a->has_shape = true;
	while (*text) {
		size_t len = strcspn(text, ",");
		if (a->rank == SLAB_RANK_MAX || len >= sizeof(one))
			return -EINVAL;
		snprintf(one, sizeof(one), "%.*s", (int)len, text);
		if (parse_u64(one, INT64_MAX, &a->shape[a->rank++]) < 0)
			return -EINVAL;
		text += len + (text[len] == ',');
	}
	return 0;
}

int new_array_bytes(const struct new_array *a, uint64_t *ret)
{
	uint64_t bytes = dtype_bytes(a->dtype);
	bool empty = false;

	for (unsigned k = 0; k < a->rank; k++)
		empty = empty || !a->shape[k];
	for (unsigned k = 0; k < a->rank && !empty; k++)
		if (mul_overflows(bytes, a->shape[k], &bytes))
			return -EFBIG;
	if (bytes > GRID_BYTES_MAX)
		return -EFBIG;
	*ret = empty ? 0 : bytes;
	return 0;
}

static uint64_t target_bytes(const struct new_array *a, const char *path)
{
	char text[24] = "";
	uint64_t bytes;
	ssize_t len;

	if (a->partition_bytes)
		return a->partition_bytes;
	len = getxattr(path, XATTR_PARTITION_BYTES, text, sizeof(text) - 1);
	return len > 0 && parse_u64(text, GRID_PARTITION_BYTES_MAX, &bytes) == 0 && bytes ? bytes
											  : PARTITION_BYTES_DEFAULT;
}

/* The document goes into place in one step, so that nobody sees half of it. */
static int write_document(const char *path, const char *doc)
{
	AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? -errno : io_publish(dir, "zarr.json", doc, strlen(doc), 0644);
}

int new_array_make(const struct new_array *a, const char *path, struct reason *why)
{
	uint64_t chunk[SLAB_RANK_MAX] = { 0 };
	AUTO_FREE char *doc = NULL;
	int err;

	if (mkdir(path, 0777) < 0)
		return reason_set(why, errno, "%.250s: %s", path, strerror(errno));
	grid_native_chunk(a->rank, a->shape, dtype_bytes(a->dtype), target_bytes(a, path), chunk);
	doc = zarr_doc_new(a->dtype, a->big_endian, a->rank, a->shape, chunk);
	err = doc ? write_document(path, doc) : -ENOMEM;
	if (!err)
		return 0;
	reason_set(why, -err, "%.200s: zarr.json: %s%s", path, strerror(-err),
		   rmdir(path) < 0 ? "; the directory is left" : "");
	return err;
}
