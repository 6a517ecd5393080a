/* ctl.h - slabctl: what its commands share.  One source file a command; each returns the exit code. */
#ifndef SLAB_CTL_H
#define SLAB_CTL_H

#include "base.h"
#include "client.h"
#include "dtype.h"

enum { CTL_OK = 0, CTL_FAIL = 1, CTL_USAGE = 2 };

/* Where a command was told to look; both may be NULL. */
struct ctl {
	const char *mount, *store;
	bool json;
};

typedef int ctl_command(struct ctl *c, int argc, char **argv); /* argv[0]: the command */
ctl_command ctl_nodes, ctl_status, ctl_create, ctl_import, ctl_scrub, ctl_fsck;

int ctl_fail(const struct reason *why);                                        /* prints it; CTL_FAIL */
int ctl_bad_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* CTL_USAGE */
/* Takes no arguments but --json. */
int ctl_parse_plain(struct ctl *c, int argc, char **argv); /* -1: go on; else the exit code */

/* target.c: chooses the mount when neither option was given: the one we stand in, or the only one.  CTL_OK or an exit code. */
int ctl_find_mount(struct ctl *c);
/* MOUNT/.slabfs/NAME, printed. */
int ctl_print_mount_file(const struct ctl *c, const char *name);
/* A client for the daemon of the store, or (head) for the head of its cluster; the caller frees it. */
int ctl_connect(const struct ctl *c, bool head, struct client **ret, struct reason *why);
/* A client for any daemon of the cluster. */
int ctl_connect_to(const struct ctl *c, const char *address, struct client **ret, struct reason *why);
/* For commands that need the cluster's key: with a mount, the store that it was made from.  CTL_OK or an exit code. */
int ctl_find_store(struct ctl *c);
#define CTL_SCAN_TIMEOUT_MS 600000 /* the head reads its tables from end to end */
/* The names of objects, as the head knows them: paths[i] is malloc'ed, or NULL for one without a name.  Either may be NULL. */
int ctl_object_paths(const struct ctl *c, const uint64_t *objects, size_t n, char **ret_paths, uint32_t *ret_states,
		     struct reason *why);
int ctl_nodes_of_store(const struct ctl *c, struct wire_node **ret, size_t *ret_n, struct reason *why);

/* array.c: an array that is to be made. */
struct new_array {
	enum dtype dtype; /* 0: not given */
	bool big_endian, has_shape;
	unsigned rank;
	uint64_t shape[SLAB_RANK_MAX];
	uint64_t partition_bytes; /* 0: the directory's, or the default */
};
int new_array_dtype(struct new_array *a, const char *text);    /* "float64", "<f8" */
int new_array_shape(struct new_array *a, const char *text);    /* "721,1440"; "" is a scalar */
int new_array_bytes(const struct new_array *a, uint64_t *ret); /* of all elements; -EFBIG */
/* Makes the directory and its zarr.json.  On failure the reason says what was left. */
int new_array_make(const struct new_array *a, const char *path, struct reason *why);

#endif
