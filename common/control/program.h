/*
 * What both programs do with the keys that they share (host-name, loops, log-level, log-file) and with the process
 * itself. Main thread. Nothing here fails: what cannot be had is logged, and the program goes on.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/conf/conf.h"

/* Level and file of the log; opens the file anew. area: of the line if it cannot be opened. */
void program_set_log(const struct conf *conf, const char *area);
/* One line of the log for each line of text. */
void program_log_lines(enum log_level level, const char *area, const char *prefix, const struct buf *lines);
/* A connection is a descriptor or two: as many as the system lets us have. */
void program_raise_descriptors(void);
/* The key `loops`; 0: one for each core. */
unsigned program_loops(const struct conf *conf);
/* The key `host-name`; empty or too long for the room: the system's name; "" if that does not fit either. */
void program_host_name(const struct conf *conf, char *room, size_t size);
