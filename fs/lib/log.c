#include "log.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024

static log_sink *the_sink;
static void *the_arg;
static enum log_level the_most = LOG_LEVEL_INFO;
static const char *the_program = "slabfs";

void log_to(log_sink *sink, void *arg, enum log_level most)
{
	the_sink = sink;
	the_arg = arg;
	the_most = most;
}

void log_program(const char *name)
{
	the_program = name;
}

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	return names[level];
}

/* A newline or another control character inside a line would forge a second event. */
static void make_one_line(char *line)
{
	for (; *line; line++)
		if ((unsigned char)*line < ' ' || *line == 127)
			*line = '?';
}

void log_event(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list args;

	if (!the_sink || level > the_most)
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	make_one_line(line);
	the_sink(the_arg, level, line);
}

void log_fd_sink(void *arg, enum log_level level, const char *line)
{
	char out[LOG_LINE_MAX + 160];
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	int len = snprintf(out, sizeof(out), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s[%d]: %s%s%s\n", tm.tm_year + 1900,
			   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000,
			   the_program, (int)getpid(), level == LOG_LEVEL_INFO ? "" : log_level_name(level),
			   level == LOG_LEVEL_INFO ? "" : ": ", line);
	if (len > 0) {
		ssize_t ignored = write((int)(intptr_t)arg, out, (size_t)len);
		(void)ignored;
	}
}
