/* describe.h - tells the stores what their objects are part of, so that the head can be made anew from them.
 *
 * One thread on the head, with connections of its own.  A node that is down is told when it is back.
 */
#ifndef SLABFSD_DESCRIBE_H
#define SLABFSD_DESCRIBE_H

#include "base.h"

struct daemon;
struct describer;

int describer_new(struct daemon *d, struct describer **ret); /* starts its thread */
void describer_free(struct describer *r);                    /* joins; NULL is fine */

#endif
