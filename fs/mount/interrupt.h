/* interrupt.h - whether whoever made the request that this thread serves wants to end rather than to wait.
 *
 * Asked only while a daemon that is away is waited for.  A signal that would not end a program (a timer's, a child's) is no reason to fail what
 * will succeed; a process that is killed, or told to end, is not to wait for a daemon.
 */
#ifndef SLABFS_INTERRUPT_H
#define SLABFS_INTERRUPT_H

#include "base.h"

#include <sys/types.h>

/* From here to interrupt_end this thread serves a request of thread `tid` (0: unknown); is(arg): a signal has come. */
void interrupt_begin(bool (*is)(void *arg), void *arg, pid_t tid);
void interrupt_end(void);
bool interrupt_wanted(void);

#endif
