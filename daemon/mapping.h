/* mapping.h - a piece of a file mapped for reading, in which a fault is an error of a call and not a signal.
 *
 * A file that is cut, or whose disk fails, under a mapping raises SIGBUS.  mapping_read runs a function that reads the mapping; a fault
 * in the mapping ends it where it is.  Any thread; one mapping_read at a time on each.
 */
#ifndef SLABFSD_MAPPING_H
#define SLABFSD_MAPPING_H

#include "base.h"

struct mapping {
	const uint8_t *base; /* of the byte at `offset` */
	uint64_t offset, len;
	void *start; /* of the pages */
	size_t pages_len;
};

int mapping_init(void); /* installs the handler of SIGBUS; once, before threads */
int mapping_open(int fd, uint64_t offset, uint64_t len, struct mapping *ret);
void mapping_close(struct mapping *m);

/* Calls fn(arg).  -EIO when a page could not be read: fn was then left in the middle, so it must hold no lock and own no memory. */
int mapping_read(const struct mapping *m, void (*fn)(void *arg), void *arg);

#endif
