/* fan.h - requests to several nodes at once: started together, awaited together, given up together.
 *
 * A request with a deadline ends by it.  One without (a reduction, a sync of gigabytes) goes on for as long as its node answers
 * pings: so a dead node is noticed within about the mount's timeout, and a busy one is not taken for dead.
 * A node that cannot be reached, or is lost on the way, is waited for until it has been away for the mount's timeout, and then asked again; one that
 * has been away for longer fails at once.
 * The state of one fan_run belongs to the thread that called it; cancel may be fired by any.
 */
#ifndef SLABFS_FAN_H
#define SLABFS_FAN_H

#include "base.h"
#include "client.h"
#include "mount.h"
#include "node.h"

#define FAN_NO_DEADLINE UINT32_MAX /* of call.timeout_ms */

struct fan_call {
	struct call call; /* its inputs are the caller's to set; reply_fd is the caller's when err is 0 */
	struct client *client;
	uint32_t node_id;
	bool retry;               /* does no harm when it is done twice: sent again after a lost connection */
	struct le32 *again_flags; /* of the body, or NULL: told that it is sent again */
	uint32_t again;
	/* results */
	int err; /* 0 or -errno as a system call may return it: connections that fail are EIO; call.why names the node */
	/* the fan's own */
	bool live;
	struct call *ping;
	uint64_t heard_ns;
	uint64_t failed_ns,
		retry_ns; /* when it first failed so; when it is to be sent again, 0: it is not waiting for that */
};

/* The client of a node, into call->client and call->node_id.  Waits for the head when that must be asked and is away. */
int fan_to(struct mount *m, uint32_t node_id, struct fan_call *call, struct reason *why);

/* What the node that call->client reaches says of itself; waits for it as a request would. */
int fan_hello(struct mount *m, struct fan_call *call, struct wire_hello_reply *ret, struct reason *why);

/* Runs them all.  0, or the first failure, whose place goes to *ret_failed; all_or_none: that failure ends the others.
 * -EINTR when cancel (may be NULL) fired. */
int fan_run(struct mount *m, struct fan_call *calls, size_t n, bool all_or_none, struct cancel *cancel,
	    size_t *ret_failed);

#endif
