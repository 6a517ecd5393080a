/* file_room.c - regular files: room on the disk, holes, and copies from file to file that do not pass through this machine. */
#include "errors.h"
#include "file_internal.h"
#include "head.h"

#include <linux/falloc.h>
#include <stdlib.h>

#define COPY_CALL_BYTES (UINT64_C(256) << 20) /* of one copy_file_range: the caller asks for the rest */
#define STREAM_BYTES (UINT64_C(4) << 20)      /* at a time, of what two nodes hold */

static uint32_t mode_of(int mode)
{
	return mode & FALLOC_FL_PUNCH_HOLE   ? WIRE_ALLOCATE_PUNCH
	       : mode & FALLOC_FL_ZERO_RANGE ? WIRE_ALLOCATE_ZERO
					     : WIRE_ALLOCATE_RESERVE;
}

/* What cannot fit is refused before the disks are filled with the part of it that does. */
static int check_room(struct mount *m, struct node *n, uint64_t beyond)
{
	struct wire_statfs fs;
	int err = beyond ? head_statfs(m, &fs) : 0;

	if (err || !beyond || beyond <= le64_get(fs.bytes_free))
		return err;
	return errors_add(m, n, ENOSPC, &(struct reason){ "the nodes have less room than is to be reserved" });
}

/* The pages that the kernel holds are its own affair: it drops those of a range that becomes zeros. */
int file_allocate(struct mount *m, struct handle *h, int mode, uint64_t offset, uint64_t length)
{
	struct file *f = h->node->state;
	uint64_t each = bytes_layout(f->bytes)->partition_bytes, end = offset + length, part;
	bool keeps_size = mode & FALLOC_FL_KEEP_SIZE;
	struct reason why = { "" };
	int err;
	uint64_t size = file_size(m, h->node, &err);

	if (!err && !(mode & FALLOC_FL_PUNCH_HOLE) && end > MAX(size, offset))
		err = check_room(m, h->node, end - MAX(size, offset));
	if (err)
		return err;
	file_change_begin(h->node);
	for (uint64_t at = offset, to = mode & FALLOC_FL_PUNCH_HOLE ? MIN(end, size) : end; at < to && !err;
	     at += part) {
		part = MIN(each - at % each, to - at);
		err = bytes_allocate(f->bytes, at / each, at % each, part, mode_of(mode), &why);
	}
	if (err)
		return errors_add(m, h->node, -err, &why);
	file_change_end(h->node, keeps_size ? 0 : end);
	return 0;
}

/* Whether some pages may have been changed through a mapping, and not come here yet. */
static bool may_be_mapped(struct node *n)
{
	return atomic_load(&n->n_mappers) > 0;
}

int file_seek(struct mount *m, struct handle *h, uint64_t offset, bool hole, uint64_t *ret)
{
	struct file *f = h->node->state;
	uint64_t each = bytes_layout(f->bytes)->partition_bytes, found = 0;
	struct reason why = { "" };
	int err;
	uint64_t size = file_size(m, h->node, &err);

	if (err)
		return err;
	if (offset >= size)
		return -ENXIO;
	*ret = hole ? size : offset;
	if (may_be_mapped(h->node))
		return 0;
	for (uint64_t at = offset; at < size; at = (at / each + 1) * each) {
		err = bytes_seek(f->bytes, at / each, at % each, hole, &found, &why);
		if (err)
			return errors_add(m, h->node, -err, &why);
		if (found >= each)
			continue;
		found += at / each * each;
		if (!hole && found >= size)
			return -ENXIO;
		*ret = MIN(found, size);
		return 0;
	}
	return hole ? 0 : -ENXIO;
}

/* Of two nodes: the bytes come here and go on. */
static int stream(struct file *from, uint64_t from_offset, struct file *to, uint64_t offset, uint64_t *length,
		  struct reason *why)
{
	uint64_t from_each = bytes_layout(from->bytes)->partition_bytes,
		 each = bytes_layout(to->bytes)->partition_bytes;
	struct segment in, out;
	AUTO_FREE char *buf = NULL;
	int err;

	*length = MIN(*length, STREAM_BYTES);
	buf = malloc(*length);
	if (!buf)
		return -ENOMEM;
	in = (struct segment){ from_offset / from_each, from_offset % from_each, *length, buf };
	out = (struct segment){ offset / each, offset % each, *length, buf };
	err = bytes_read(from->bytes, &in, 1, NULL, why);
	return err ? err : bytes_write(to->bytes, &out, 1, why);
}

/* As much as lies in one partition of each. */
static int copy_piece(struct file *from, uint64_t from_offset, struct file *to, uint64_t offset, uint64_t *length,
		      struct reason *why)
{
	uint64_t from_each = bytes_layout(from->bytes)->partition_bytes,
		 each = bytes_layout(to->bytes)->partition_bytes;
	int err;

	*length = MIN(*length, from_each - from_offset % from_each);
	*length = MIN(*length, each - offset % each);
	err = bytes_copy(from->bytes, from_offset / from_each, from_offset % from_each, to->bytes, offset / each,
			 offset % each, *length, why);
	return err == -EXDEV ? stream(from, from_offset, to, offset, length, why) : err;
}

int file_copy(struct mount *m, struct handle *from, uint64_t from_offset, struct handle *to, uint64_t offset,
	      uint64_t length, uint64_t *ret)
{
	struct reason why = { "" };
	uint64_t done = 0, piece;
	int err, to_err;
	uint64_t size = file_size(m, from->node, &err);

	file_size(m, to->node, &to_err);
	if (err || to_err)
		return err ? err : to_err;
	length = from_offset >= size ? 0 : MIN(length, size - from_offset);
	length = MIN(length, COPY_CALL_BYTES);
	*ret = 0;
	if (length == 0)
		return 0;
	if (offset + length > INT64_MAX)
		return -EFBIG;
	file_change_begin(to->node);
	for (; done < length && !err; done += err ? 0 : piece) {
		piece = length - done;
		err = copy_piece(from->node->state, from_offset + done, to->node->state, offset + done, &piece, &why);
	}
	if (done > 0)
		file_change_end(to->node, offset + done);
	*ret = done;
	return err && done == 0 ? errors_add(m, to->node, -err, &why) : 0;
}
