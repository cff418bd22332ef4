/*
 * IMAP section specifications (RFC 3501 section 6.4.5): "", "HEADER", "1.2.TEXT", "1.MIME", "2.HEADER.FIELDS"
 * ... and where they lie in a message. Pure; works on parsed and on unpacked trees.
 */
#pragma once

#include "common/proto/mime.h"

enum section_kind {
	SECTION_ALL,           /* "" or "1.2": a whole message, or a part's body */
	SECTION_HEADER,        /* HEADER */
	SECTION_HEADER_FIELDS, /* HEADER.FIELDS: range is the whole header, to be filtered by header_filter()
				*/
	SECTION_HEADER_FIELDS_NOT, /* HEADER.FIELDS.NOT */
	SECTION_TEXT,              /* TEXT */
	SECTION_MIME               /* MIME */
};

#define SECTION_NUMBERS_MAX MIME_DEPTH_MAX

struct section {
	enum section_kind kind;
	size_t count;
	uint32_t numbers[SECTION_NUMBERS_MAX];
};

struct section_range {
	uint64_t at;
	uint64_t len;
	const struct mime_part *part; /* the part whose header or body it is */
};

/* The text without brackets and without a list of field names. ERR_SYNTAX. */
MUST_CHECK int section_parse(struct slice text, struct section *section_out);
/* ERR_NOT_FOUND: the message has no such part; IMAP answers NIL then. */
MUST_CHECK int section_find(
	const struct mime_part *root, const struct section *s, struct section_range *range_out);
