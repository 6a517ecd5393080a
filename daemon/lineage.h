/* lineage.h - whether a store is what it was when the head last saw it, or an older copy of it that somebody put back.
 *
 *   STORE/lineage    "acknowledged UUID" (the last start that the head answered), then "announced UUID" for each start since
 *
 * Each start of slabfsd has a random uuid.  Registering, a node says its own and those in the file; the head remembers the last that it
 * answered, and refuses (ESTALE) a node that does not know it: its store is a copy from before that start.  A copy of a running store that is
 * put back before the next start cannot be told.
 */
#ifndef SLABFSD_LINEAGE_H
#define SLABFSD_LINEAGE_H

#include "base.h"

#define LINEAGE_MAX 64 /* starts that the head has not answered; older ones are forgotten */

struct lineage {
	struct uuid known[LINEAGE_MAX + 1]; /* the acknowledged one first, when there is one */
	size_t n;
};

/* Reads the file (missing: none known), and durably adds `run`, which is not part of *ret. */
int lineage_begin(int storefd, const struct uuid *run, struct lineage *ret, struct reason *why);
int lineage_acknowledged(int storefd, const struct uuid *run); /* durably */

#endif
