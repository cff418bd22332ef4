/*
 * The one writer of header fields that are made of strangers' texts (Authentication-Results, Received-SPF): words with folds
 * between them, values quoted where need be. No control character, and no octet that is not UTF-8, ever gets into a field.
 */
#pragma once

#include "common/base/buf.h"

#define FIELD_TEXT_COLUMNS 78     /* RFC 5322 section 2.1.1, where words allow it */
#define FIELD_TEXT_VALUE_MOST 320 /* octets of a value or comment; longer ones are cut */

struct field_text {
	struct buf *out;
	size_t column;
};

/* Writes "Name:". */
void field_text_begin(struct field_text *f, struct buf *out, const char *name);
/* A word, ours or made by the functions below: after a blank, or on a new line. */
void field_text_word(struct field_text *f, struct slice word);
/* The next word begins on a new line. */
void field_text_fold(struct field_text *f);
/* Ends the line (CRLF). */
void field_text_end(struct field_text *f);

/*
 * Append a stranger's text. value: as it is where it is a dot-atom (RFC 5322 section 3.2.3), or, where has_addresses, a dot-atom
 * on each side of an "@", or "@" and a dot-atom; otherwise a quoted string. comment: "(...)". Controls and octets that are not UTF-8
 * become "?".
 */
void field_text_value(struct buf *out, struct slice value, bool has_addresses);
void field_text_comment(struct buf *out, struct slice text);
