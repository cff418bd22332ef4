/*
 * The text of a file map: lines of address, target and options (docs/mapping.md has the format). All of it is
 * right, or nothing is taken. No IO; any thread.
 */
#pragma once

#include "mapping/map_data.h"

#define MAP_LINE_MOST 4096
#define MAP_TEXT_MOST (2ull * 1024 * 1024 * 1024)
#define MAP_FAULTS_MOST 20 /* so many are told, the rest is counted */

struct map_parse_options {
	const char *file;            /* for the words */
	const char *const *backends; /* NULL-ended */
	bool ports;                  /* `host:port` is legal */
	bool readable_by_others;     /* the file's mode: passwords are refused */
};

struct map_parse_info {
	bool has_end;        /* the text ends with "# end N", and N is right */
	uint64_t generation; /* hash of the text; never 0 */
};

/* 0; or ERR_SYNTAX, and why has a line "FILE:LINE: reason" for each fault; ERR_TOO_BIG. */
MUST_CHECK int map_parse(struct slice text, const struct map_parse_options *options, struct buf *why,
	struct map_parse_info *info_out, struct map_data **data_out);
