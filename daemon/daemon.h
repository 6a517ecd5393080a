/* daemon.h - one slabfsd: what its modules share.  Made by main, constant once the server runs, but for what the modules guard themselves.
 *
 * Locks are taken in this order, and none is held across network I/O: meta.lock, nodes.lock, store's partition lock, server's locks.
 */
#ifndef SLABFSD_DAEMON_H
#define SLABFSD_DAEMON_H

#include "base.h"
#include "pool.h"
#include "superblock.h"

struct daemon {
	const char *store_path;
	int store_fd; /* the store's directory */
	struct superblock sb;
	uint8_t key[CLUSTER_KEY_BYTES];
	struct uuid incarnation; /* random at each start */
	char address[300];       /* HOST:PORT at which others reach us, port resolved */
	uint64_t started_ns;     /* monotonic */
	struct pool *workers;    /* slow requests */
	struct pool *cores;      /* one thread a core: reductions, checksums (pool_each) */
	struct store *store;
	struct meta *meta;   /* the head's, else NULL */
	struct nodes *nodes; /* head: the registry; elsewhere: the beat to the head */
	struct server *server;
};

#endif
