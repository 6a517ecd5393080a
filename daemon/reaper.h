/* reaper.h - drops the partitions of objects that no inode names any more, on the nodes that hold them.
 *
 * A row of `orphans` lives until every node of its layout has dropped the object; nodes that are down are tried again every
 * REAPER_RETRY_MS.  One thread, with connections of its own; it holds meta.lock only to read and write rows.
 */
#ifndef SLABFSD_REAPER_H
#define SLABFSD_REAPER_H

#include "base.h"

#define REAPER_RETRY_MS 3000

struct reaper;
struct daemon;

int reaper_new(struct daemon *d, struct reaper **ret); /* starts its thread */
void reaper_wake(struct reaper *r);                    /* there are new orphans; NULL is fine */
void reaper_free(struct reaper *r);                    /* joins; NULL is fine */

#endif
