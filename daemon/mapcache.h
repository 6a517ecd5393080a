/* mapcache.h - partition files that stay mapped between reductions.
 *
 * Making and taking apart the page tables of a mapping costs as much as summing what it shows, so a file that was reduced stays mapped for a
 * while.  A mapping is of one file (by device and inode), never of a name: a partition that is replaced has another file.  Unused ones go after
 * MAPCACHE_IDLE_MS, at once beyond the limit, and within a second when their file has no name any more.  Thread-safe.
 */
#ifndef SLABFSD_MAPCACHE_H
#define SLABFSD_MAPCACHE_H

#include "mapping.h"

#define MAPCACHE_IDLE_MS 10000

struct mapcache;

int mapcache_new(uint64_t limit_bytes, struct mapcache **ret); /* starts its thread */
void mapcache_free(struct mapcache *c);                        /* nothing may be in use */

/* The whole file behind fd, mapped.  Each get needs a put. */
int mapcache_get(struct mapcache *c, int fd, const struct mapping **ret);
void mapcache_put(struct mapcache *c, const struct mapping *m);

#endif
