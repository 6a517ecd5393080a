/* nodes_int.h - what nodes.c (the head's registry) and nodes_beat.c (every other node's beat) share. */
#ifndef SLABFSD_NODES_INT_H
#define SLABFSD_NODES_INT_H

#include <pthread.h>

#include "client.h"
#include "daemon.h"
#include "lineage.h"
#include "nodes.h"

struct entry {
	struct wire_node node; /* node_id 0: no such node */
	uint64_t beat_ns;      /* monotonic; 0: never */
	uint64_t session;      /* that registered it; 0: gone */
	uint64_t refused;      /* the last session that was refused: it will ask again, and is logged once */
};

struct nodes {
	struct daemon *d;
	bool is_head;
	pthread_t thread;
	bool has_thread;
	struct client *client; /* to the head; elsewhere only */
	struct lineage lineage;
	bool acknowledged;    /* the thread's own: the lineage file says so */
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	bool stop, registered;
	bool refused;      /* for good: the store is an older copy of itself */
	struct reason why; /* of the last failure to register */
	uint32_t turn;     /* where the next object without a wish goes */
	struct entry entries[SLAB_NODES_MAX + 1];
};

void nodes_own_beat(struct daemon *d, struct wire_beat *ret);
int nodes_new_client(struct nodes *n);
void nodes_beat(struct nodes *n, unsigned *pause_ms); /* one beat; *pause_ms: how long until the next */

#endif
