/*
 * The log: one line an event, written whole, from any thread: on standard error or a file, to a syslog daemon, or to systemd's journal.
 *
 *	2026-11-20T12:30:10.123Z INFO proxy: <session prefix> words key=value
 *
 * ERROR: someone must act. WARN: degraded. INFO: one line a session or delivery. DEBUG: protocol without
 * secrets. Control characters in the text are escaped, so no input can forge a line.
 */
#pragma once

#include <stdbool.h>

#include "common/base/attr.h"

enum log_level {
	LOG_ERROR = 0,
	LOG_WARN = 1,
	LOG_INFO = 2,
	LOG_DEBUG = 3
};

/* The least urgent level that is written; INFO until set. Any thread. */
void log_set_level(enum log_level level);
/* -1 when the name is none of error, warn, info, debug. */
int log_level_parse(const char *name);
/* Levels of single areas ("smtp", "imap" ...), instead of the one for all: a list of "AREA=LEVEL". -1: one of them is none such, or there are more
 * than LOG_AREAS_MOST; nothing is changed then. Any thread; lines that are being written meanwhile go by the old ones. */
#define LOG_AREAS_MOST 32
/* One item of that list. */
bool log_is_area_level(const char *text);
MUST_CHECK int log_set_levels(const char *const *list, size_t count);

/*
 * Where lines go. LOG_TO_STREAM: standard error, or the file of log_open(); with prefix "<6>" and no time where the journal listens at standard error
 * (JOURNAL_STREAM), so that it knows the level. LOG_TO_SYSLOG: datagrams to /dev/log (RFC 3164, facility mail). LOG_TO_JOURNAL: its own
 * protocol, with the fields MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, MAILTIER_AREA and, where a line begins with one, MAILTIER_SESSION. socket: another
 * place than the usual one; NULL. name: the program's. A line that the daemon does not take at once is counted (mailtier_log_lost) and lost, never waited for;
 * when it is not there the line goes to standard error. Any thread.
 */
enum log_target {
	LOG_TO_STREAM,
	LOG_TO_SYSLOG,
	LOG_TO_JOURNAL
};
MUST_CHECK int log_to(enum log_target target, const char *socket, const char *name);
/* Appends to this file instead of standard error; reopens it when called again (after rotation). 0 or ERR_*. */
MUST_CHECK int log_open(const char *path);

/* True if a line of this level would be written: guards costly arguments. */
bool log_is_on(enum log_level level);
/* area names the room or program; format as printf's. */
void log_write(enum log_level level, const char *area, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(area, ...) log_write(LOG_ERROR, (area), __VA_ARGS__)
#define log_warn(area, ...) log_write(LOG_WARN, (area), __VA_ARGS__)
#define log_info(area, ...) log_write(LOG_INFO, (area), __VA_ARGS__)
#define log_debug(area, ...)                                                                                 \
	do {                                                                                                 \
		if (log_is_on(LOG_DEBUG))                                                                    \
			log_write(LOG_DEBUG, (area), __VA_ARGS__);                                           \
	} while (0)
