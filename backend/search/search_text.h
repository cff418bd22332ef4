/*
 * What SEARCH looks into: the texts of one message, decoded from their transfer encodings and charsets and
 * folded. The matcher and the text index both read messages through here, so that what one finds the other has.
 *
 * Texts come as folded UTF-8 with a NUL behind each (no text has one in it). One thread at a time; made once, and
 * used for message after message.
 */
#pragma once

#include "backend/store/store_message.h"

/* Of a header that is looked into. */
#define SEARCH_TEXT_HEADER_MAX (1u << 20)

struct search_text;

/* overlap: so many octets of a long text come again at the beginning of its next piece. */
struct search_text *search_text_new(size_t overlap);
void search_text_free(struct search_text **t);

/* From here on it is about this message; both pointers are used until the next. */
void search_text_begin(struct search_text *t, struct store_txn *txn, const struct store_message *message);
/* The message's header, with the trace: of each field name, colon, blank, and value. A view until the next call of
 * search_text_begin(). */
MUST_CHECK int search_text_header(struct search_text *t, struct slice *folded_out);
/* The values of the fields of that name, each with its NUL. A view until the next call. is_there_out: there is such a field. */
MUST_CHECK int search_text_values(
	struct search_text *t, struct slice name, struct slice *folded_out, bool *is_there_out);
/* The subject as ENVELOPE has it, if the record has one. A view until the next call. */
MUST_CHECK int search_text_subject(struct search_text *t, struct slice *folded_out, bool *is_there_out);
/* The value of the first field of that name, as it stands; a NULL pointer: there is none. */
MUST_CHECK int search_text_raw_value(struct search_text *t, struct slice name, struct slice *value_out);
/* A piece of folded text; false: enough. */
typedef bool search_text_fn(void *arg, struct slice folded);
/* The headers of the parts (not the message's own) and the bodies of text parts. */
MUST_CHECK int search_text_bodies(struct search_text *t, search_text_fn *fn, void *arg);
