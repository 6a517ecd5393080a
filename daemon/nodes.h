/* nodes.h - who is in the cluster and who is alive.
 *
 * On the head: the registry (REGISTER, BEAT every second, LEAVE, NODES, JOIN).  A node is down when it has not beaten for
 * NODES_DOWN_MS.  Elsewhere: a thread that registers with the head, beats, and registers again after a loss, for ever, with backoff.
 * Thread-safe.
 */
#ifndef SLABFSD_NODES_H
#define SLABFSD_NODES_H

#include "base.h"
#include "wire.h"

#define NODES_BEAT_MS 1000
#define NODES_DOWN_MS 3500

struct nodes;
struct daemon;

int nodes_new(struct daemon *d, struct nodes **ret, struct reason *why);
int nodes_start(struct nodes *n); /* the beat's thread (the head beats to itself) */
/* Waits until this node is registered with its head, at most timeout_ms. */
int nodes_wait_registered(struct nodes *n, unsigned timeout_ms, struct reason *why);
void nodes_stop(struct nodes *n); /* says LEAVE */
void nodes_free(struct nodes *n);

/* Head only.  A snapshot by id; *ret malloc'ed. */
int nodes_snapshot(struct nodes *n, struct wire_node **ret, size_t *ret_n);
/* Ids of the nodes that are up, in the order in which a new object's partitions shall be spread: near first (if up), then by id. */
size_t nodes_place(struct nodes *n, uint32_t near, uint32_t ret_ids[SLAB_NODES_MAX]);

#endif
