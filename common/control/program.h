/*
 * What both programs do with the keys that they share (host-name, loops, log-level, log-file) and with the process
 * itself. Main thread. Nothing here fails: what cannot be had is logged, and the program goes on.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/conf/conf.h"

/* Rows of the top of the file. */
#define PROGRAM_LOG_KEYS                                                                                     \
	{"", "log-level", CONF_ENUM, CONF_RELOAD, "info", 0, 0, "error warn info debug",                     \
		"Least urgent lines logged", NULL},                                                          \
		{"", "log-levels", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,                                   \
			"The same for single areas, AREA=LEVEL each: smtp=debug, imap=warn; an area is the " \
			"word before the first colon of a line",                                             \
			NULL},                                                                               \
		{"", "log-to", CONF_ENUM, CONF_RELOAD, "stream", 0, 0, "stream syslog journal",              \
			"stream: `log-file`, or standard error; syslog: /dev/log, facility mail; journal: "  \
			"systemd's own protocol, with the fields "                                           \
			"MAILTIER_AREA and MAILTIER_SESSION",                                                \
			NULL},                                                                               \
		{"", "log-socket", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,                                 \
			"Another socket of the syslog daemon or the journal than the usual one", NULL},      \
	{                                                                                                    \
		"", "log-file", CONF_PATH, CONF_RELOAD, "", 0, 0, NULL,                                      \
			"Where the log goes; empty: standard error. SIGHUP opens it again", NULL             \
	}

/* Levels and target of the log; opens the file anew. area: of the line if it cannot be opened. */
void program_set_log(const struct conf *conf, const char *area);
/* For the programs' checks: what the rows above cannot say, by conf_error(). */
void program_check(struct conf *conf);
/* One line of the log for each line of text. */
void program_log_lines(enum log_level level, const char *area, const char *prefix, const struct buf *lines);
/* A connection is a descriptor or two: as many as the system lets us have. */
void program_raise_descriptors(void);
/* The key `loops`; 0: one for each core. */
unsigned program_loops(const struct conf *conf);
/* The key `host-name`; empty or too long for the room: the system's name; "" if that does not fit either. */
void program_host_name(const struct conf *conf, char *room, size_t size);
