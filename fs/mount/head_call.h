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

/* Around OPEN, before it is sent: the inode counts as open here, until as many head_opens_end.  The last of them sends CLOSE. */
int head_opens_begin(struct head_state *s, uint64_t ino);
void head_opens_end(struct mount *m, uint64_t ino);
/* A connection to the head was made: it is to be told what is open, by head_reopen_all on another thread, which sends OPEN for each. */
void head_is_back(struct mount *m);
void head_reopen_all(struct mount *m);

#endif
