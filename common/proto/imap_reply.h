/*
 * IMAP responses as a client reads them (RFC 3501 section 7): the proxy's leg to a back-end. Bytes in, a
 * struct of views into them out. Whole responses only, literals in them included: give all the input there
 * is; nothing is kept between calls. What a server sends is hostile too: every dimension has a limit.
 */
#pragma once

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"

#define IMAP_REPLY_MOST (16u * 1024) /* a response with its literals */

enum imap_reply_kind {
	IMAP_REPLY_UNTAGGED, /* "* ..." */
	IMAP_REPLY_TAGGED,   /* "tag OK ..." */
	IMAP_REPLY_CONTINUE  /* "+ ..." */
};

enum imap_reply_status {
	IMAP_REPLY_DATA, /* untagged, and none of the following */
	IMAP_REPLY_OK,
	IMAP_REPLY_NO,
	IMAP_REPLY_BAD,
	IMAP_REPLY_PREAUTH,
	IMAP_REPLY_BYE
};

struct imap_reply {
	enum imap_reply_kind kind;
	enum imap_reply_status status;
	struct slice tag;  /* TAGGED alone */
	struct slice name; /* DATA: the word, such as CAPABILITY; after a number ("3 EXISTS") that word */
	uint32_t number;   /* DATA: of "3 EXISTS" */
	struct slice code; /* the word of a response code [CAPABILITY ...], without brackets; empty: none */
	struct slice code_args; /* what follows the word in the brackets */
	struct slice text;      /* the rest: human text, data, the base64 of a continuation; no line end */
	struct slice line;      /* the whole response with its line end, to be passed on as it came */
};

/* > 0: consumed, *reply_out filled with views into `in`. 0: more. ERR_SYNTAX, ERR_TOO_BIG (beyond
 * IMAP_REPLY_MOST). */
MUST_CHECK ssize_t imap_reply_parse(struct slice in, struct imap_reply *reply_out);

/* True if the reply carries capabilities ("* CAPABILITY ..." or the code of an OK); *list_out are the words.
 */
bool imap_reply_capabilities(const struct imap_reply *reply, struct slice *list_out);
/* Takes the next word off the list; false at the end. */
bool imap_reply_next_word(struct slice *list, struct slice *word_out);
/* True if the list has this word, in any case. */
bool imap_reply_has_word(struct slice list, const char *word);
