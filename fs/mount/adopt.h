/* adopt.h - chunks that were written before their zarr.json.
 *
 * cp -r and rsync may copy c/... first, or while the document arrives: then c is a plain directory with plain files, and stays one while they
 * work.  The first look at a view (data, data.npy, compute) turns the files into partitions, and c into the array's own.
 */
#ifndef SLABFS_ADOPT_H
#define SLABFS_ADOPT_H

#include "base.h"
#include "mount.h"
#include "node.h"

/* dir: an array without a c/ of its own.  0 also when there is no plain c.  A file that is no partition stays where it is, and is an error with a
 * line in .slabfs/errors; the others are taken over all the same. */
int adopt_chunks(struct mount *m, struct node *dir);

#endif
