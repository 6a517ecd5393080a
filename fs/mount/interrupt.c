#include "interrupt.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#define BIT(signal) (UINT64_C(1) << ((signal)-1))
#define ENDING (BIT(SIGHUP) | BIT(SIGINT) | BIT(SIGQUIT) | BIT(SIGKILL) | BIT(SIGTERM))

static _Thread_local struct {
	bool (*is)(void *arg);
	void *arg;
	pid_t tid;
} serving;

void interrupt_begin(bool (*is)(void *arg), void *arg, pid_t tid)
{
	serving.is = is;
	serving.arg = arg;
	serving.tid = tid;
}

void interrupt_end(void)
{
	serving.is = NULL;
}

/* Signals that wait to be delivered to the thread or to its process; all when that cannot be read. */
static uint64_t pending(pid_t tid)
{
	char path[64], text[4096];
	uint64_t found = 0, mask;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	AUTO_CLOSE int fd = tid ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return UINT64_MAX;
	text[n] = '\0';
	for (const char *at = text; (at = strstr(at, "Pnd:")); at++)
		if (sscanf(at, "Pnd: %" SCNx64, &mask) == 1)
			found |= mask;
	return found;
}

bool interrupt_wanted(void)
{
	return serving.is && serving.is(serving.arg) && (pending(serving.tid) & ENDING);
}
