/*
 * The log: one line an event on standard error (or a file), written whole, from any thread.
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
