/* readtime.h - atime, as relatime keeps it: the first read after a change counts, and then one a day.
 *
 * A read that counts is shown on this mount at once, and told to the head with others: a read costs no request.  Not with -o noatime or ro, nor for
 * descriptors with O_NOATIME.  What the kernel has in its cache is read without a word to us.  Thread-safe.
 */
#ifndef SLABFS_READTIME_H
#define SLABFS_READTIME_H

#include "mount.h"
#include "node.h"

struct readtimes;

int readtimes_new(struct readtimes **ret);
void readtimes_free(struct readtimes *r);
void readtimes_flush(struct mount *m); /* tells the head what it has not heard yet */

void readtime_note(struct mount *m, struct handle *h); /* something was read through h */
void readtime_show(struct node *n, struct stat *st);   /* node.lock is not held */

#endif
