/* log.h - one line an event, handed to the sink that the program chose.  The library itself never prints.
 *
 * A line reads "LEVEL where: what": lower case, no newline, with the names a person needs (array, partition, node).
 * Thread-safe.  Before log_to() lines are dropped.
 */
#ifndef SLAB_LOG_H
#define SLAB_LOG_H

#include <stdarg.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

typedef void log_sink(void *arg, enum log_level level, const char *line);

void log_to(log_sink *sink, void *arg, enum log_level most); /* call before threads start */
void log_event(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_event(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_event(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_event(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_event(LOG_LEVEL_DEBUG, __VA_ARGS__)

const char *log_level_name(enum log_level level);

/* A sink that programs may use: "TIME PROGRAM[PID]: LEVEL: LINE\n" to a descriptor in one write.  The time is UTC with milliseconds.
 * Level names are left out for info.  fd is taken from (int)(intptr_t)arg. */
log_sink log_fd_sink;
void log_program(const char *name); /* the PROGRAM of log_fd_sink; the string must live on */

#endif
