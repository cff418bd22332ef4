/*
 * Header fields over bytes in memory (RFC 5322 section 2.2), one after the other, without copies. Line ends
 * are CRLF or a bare LF. A line without a colon, or with a name that no field can have, is a field with an
 * empty name, so that raw bytes are never lost. Reading ends at the empty line or at the end of the bytes.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* What is interpreted of one field, and of all fields of one message; beyond that bytes are passed over. */
#define HEADER_FIELD_MAX ((size_t)10 << 20)
#define HEADER_ALL_MAX ((size_t)50 << 20)

struct header_field {
	struct slice raw;   /* name to last line end, folds included */
	struct slice name;  /* without colon and blanks before it; empty: no field */
	struct slice value; /* still folded, without the last line end and without blanks around it */
};

struct header_reader {
	struct slice rest;
};

void header_reader_init(struct header_reader *r, struct slice bytes);
/* False at the end; then r->rest begins with the empty line, or is empty. Views into the bytes. */
bool header_next(struct header_reader *r, struct header_field *field_out);
/* Splits one field's raw bytes. */
void header_split(struct slice raw, struct header_field *field_out);
/* Length of the header with its empty line; bytes.len when there is none. */
size_t header_length(struct slice bytes);

/* Takes the line ends out (RFC 5322 section 2.2.3); the value itself when there are none. NULL: arena full.
 */
struct slice header_unfold(struct arena *a, struct slice value);
/* Value of the first field of that name, still folded; NULL pointer when there is none. */
struct slice header_find(struct slice bytes, struct slice name);

/*
 * Appends what IMAP's HEADER.FIELDS (or .NOT) gives of a header block: the raw matching fields, then the
 * empty line (RFC 3501 section 6.4.5). Bytes without a field name are in .NOT alone.
 */
void header_filter(struct slice bytes, const struct slice *names, size_t count, bool is_not, struct buf *out);
