/*
 * Comma-separated values (RFC 4180): records of fields, lines end with CRLF or LF, a field in quotes may hold commas, line ends and
 * doubled quotes. Blank lines are no records; a byte order mark is skipped. Pure and linear.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

#define CSV_FIELDS_MAX 64
#define CSV_FIELD_MAX 65536

struct csv {
	struct slice text;
	size_t at;
	unsigned line; /* of `at`, from 1 */
};

struct csv_record {
	unsigned line; /* its first */
	size_t count;
	struct slice fields[CSV_FIELDS_MAX]; /* views of the text, or the arena's */
	const char *why;                     /* after an error */
};

void csv_begin(struct csv *c, struct slice text);
/*
 * The next record; *record_out is set in any case. ERR_NOT_FOUND: there is none. ERR_SYNTAX, ERR_TOO_BIG: this one is wrong, reading may
 * go on behind the line where that was found (where its quote begins, if that is never closed).
 */
MUST_CHECK int csv_next(struct csv *c, struct arena *arena, struct csv_record *record_out);
