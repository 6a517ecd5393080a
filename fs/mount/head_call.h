/* head_call.h - how head.c asks the head: again after a lost connection, each change of names exactly once; and which inodes are open there.
 *
 * Thread-safe.  A head that is away is waited for until it has been so for the mount's timeout.
 */
#ifndef SLABFS_HEAD_CALL_H
#define SLABFS_HEAD_CALL_H

#include "base.h"
#include "client.h"
#include "mount.h"

struct head_state;

int head_state_new(struct head_state **ret);
void head_state_free(struct head_state *s); /* NULL is fine */

/* 0 or -errno as a system call may return it; what is not a plain answer is in .slabfs/errors. */
int head_call(struct mount *m, struct call *call);

/* Waits a moment.  A head that is being started again is waited for; one that has been away for longer than a timeout is not, nor one that
 * has come and gone since since_ns for several. */
bool head_may_come_back(struct mount *m, uint64_t since_ns);
/* The head has answered within the last second, or does so now.  Who is cut off from it is not told of changes. */
bool head_is_near(struct mount *m);

/* Around OPEN, before it is sent: the inode counts as open here, until as many head_opens_end.  The last of them sends CLOSE. */
int head_opens_begin(struct head_state *s, uint64_t ino);
void head_opens_end(struct mount *m, uint64_t ino);
/* What a request for something else opens or closes besides.
 * Opened: mark before it is sent, made when it is answered.  False: a CLOSE may have overtaken it, so OPEN is to be sent as well.
 * Closed: take before it is sent: false when somebody else uses the inode.  Then taken, with whether it was done. */
uint64_t head_opens_mark(struct head_state *s);
bool head_opens_made(struct head_state *s, uint64_t ino, uint64_t mark);
bool head_opens_take(struct head_state *s, uint64_t ino);
void head_opens_taken(struct mount *m, uint64_t ino, bool done);
/* A connection to the head was made: it is to be told what is open, by head_reopen_all on another thread, which sends OPEN for each. */
void head_is_back(struct mount *m);
void head_reopen_all(struct mount *m);

#endif
