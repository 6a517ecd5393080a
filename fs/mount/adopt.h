/* adopt.h - chunks that were written before their zarr.json.
 *
 * cp -r and rsync may copy c/... first: then c is a plain directory with plain files.  When the document arrives, the files become partitions.
 */
#ifndef SLABFS_ADOPT_H
#define SLABFS_ADOPT_H

#include "base.h"
#include "mount.h"
#include "node.h"

/* Turns what is under a plain c of the directory into partitions of the array that it has become; 0 when there is nothing to do.
 * A file that is no partition stays where it is, and is an error with a line in .slabfs/errors; so does what was not reached.
 * wait: as inval_entry. */
int adopt_chunks(struct mount *m, struct node *dir, bool wait);

#endif
