/* daemon.h - one slabfsd: what its modules share.  Made by main, constant once the server runs, but for what the modules guard themselves.
 *
 * Locks are taken in this order, and none is held across network I/O: meta.lock, nodes.lock, store's partition lock, store.lock,
 * server's locks; the catalog's is the last.
 */
#ifndef SLABFSD_DAEMON_H
#define SLABFSD_DAEMON_H

#include "base.h"
#include "pool.h"
#include "superblock.h"

/* What a head without its names may do. */
enum names { NAMES_MAY_BE_MADE, NAMES_MUST_BE_THERE, NAMES_REBUILT };

struct daemon {
	const char *store_path;
	int store_fd; /* the store's directory */
	struct superblock sb;
	enum names names;
	uint8_t key[CLUSTER_KEY_BYTES];
	struct uuid incarnation; /* random at each start */
	uint64_t storage;        /* see wire_hello_reply */
	char address[300];       /* HOST:PORT at which others reach us, port resolved */
	uint64_t started_ns;     /* monotonic */
	bool accept_copy;        /* of the store: the administrator says so */
	uint64_t grace_ns;       /* after a start, for mounts to tell the head what they have open */
	/* Slow requests.  Three pools, so that neither long reductions nor slow disks hold up names. */
	struct pool *workers;      /* of partitions, and of the daemon itself */
	struct pool *namers;       /* of metadata and of nodes; NULL but on the head */
	struct pool *reducers;     /* reductions: each keeps all cores busy, so a few at a time are enough */
	struct pool *cores;        /* one thread a core: reductions, checksums (pool_each) */
	struct mapcache *mapcache; /* partition files that reductions read in place */
	struct store *store;
	struct scrub *scrub;
	struct meta *meta;   /* the head's, else NULL */
	struct nodes *nodes; /* head: the registry; elsewhere: the beat to the head */
	struct server *server;
};

#endif
