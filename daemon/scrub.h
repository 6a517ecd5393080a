/* scrub.h - a thread that reads everything that is durable in the store, at a set rate, and compares it with its sums.
 *
 *   idle --start--> running --end of the store--> done --start--> running, from the beginning
 *                     |  ^---start, or a restart of the daemon---|
 *                     +--stop--> stopped -------------------------+ goes on where it was
 *
 * How far it is and what it found lies in STORE/scrub.json.  Thread-safe.
 */
#ifndef SLABFSD_SCRUB_H
#define SLABFSD_SCRUB_H

#include "base.h"

struct daemon;
struct scrub;

int scrub_new(struct daemon *d, struct scrub **ret); /* goes on with one that a stop of the daemon interrupted */
void scrub_free(struct scrub *s);                    /* NULL is fine */

#endif
