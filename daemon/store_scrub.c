/* Looking at what the disk has of a partition. */
#include "part.h"

int store_walk(struct store *s, struct part_id after, size_t max, struct part_id *ret, size_t *ret_n)
{
	return catalog_walk(s->catalog, after, max, ret, ret_n);
}

static int scrub_locked(struct part *p, uint64_t offset, uint64_t len, uint64_t *ret_bytes, struct reason *why)
{
	struct stat st = { 0 };
	AUTO_CLOSE int fd = -1;
	int err = part_check_good_locked(p, why);

	*ret_bytes = 0;
	if (err || p->state != PART_SEALED)
		return err;
	fd = part_open_regular(p, "", &st);
	if (fd == -ENOENT || fd == -ENOTSUP)
		return part_quarantine_locked(p, why,
					      fd == -ENOENT ? "its data is lost" : "its data is not a regular file");
	if (fd < 0)
		return part_fail(p, fd, "open", why);
	*ret_bytes = p->bytes;
	if (p->bytes <= offset)
		return p->bytes == (uint64_t)st.st_size
			       ? 0
			       : part_quarantine_locked(p, why, "%llu bytes long; %llu were sealed",
							(unsigned long long)st.st_size, (unsigned long long)p->bytes);
	return part_scrub_locked(p, fd, offset, MIN(len, p->bytes - offset), why);
}

int store_scrub(struct store *s, struct part_id id, uint64_t offset, uint64_t len, uint64_t *ret_bytes,
		struct reason *why)
{
	struct part *p;
	int err;

	do {
		err = part_acquire(s, id, &p, why);
		if (err == -ESTALE) {
			*ret_bytes = 0;
			return 0;
		}
		if (err)
			return err;
		err = scrub_locked(p, offset, len, ret_bytes, why);
		part_release(p);
	} while (err == -EAGAIN);
	return err;
}
