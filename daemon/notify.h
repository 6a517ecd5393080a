/* notify.h - telling others that the daemon is ready: systemd ($NOTIFY_SOCKET) and the waiting parent of --daemonize. */
#ifndef SLABFSD_NOTIFY_H
#define SLABFSD_NOTIFY_H

void notify_ready(void); /* READY=1; nothing without $NOTIFY_SOCKET */
void notify_stopping(void);

/* Forks before any thread exists.  The child gets -1 and goes on; the parent gets the exit code that the child's notify_parent
 * gave, or 1 when it died. */
int notify_daemonize(void);
void notify_parent(int exit_code); /* once; nothing without a parent that waits */

#endif
