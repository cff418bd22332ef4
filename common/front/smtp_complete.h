/*
 * What a submission service does to the header of a message on its way (RFC 6409 section 8): Date and Message-ID where they are
 * missing, Bcc away, From held against the user's own addresses, Sender where From is another's.
 *
 * The header is kept until its empty line, at most SMTP_COMPLETE_HEADER_MOST octets; from there on octets pass through. No IO, no clock;
 * any thread, one at a time.
 */
#pragma once

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SMTP_COMPLETE_HEADER_MOST ((size_t)1 << 20)

enum smtp_complete_from {
	SMTP_COMPLETE_FROM_ANY,   /* From is the user's affair */
	SMTP_COMPLETE_FROM_MARK,  /* a From that is not his own alone gets a Sender field with his name */
	SMTP_COMPLETE_FROM_REFUSE /* it is refused */
};

struct smtp_complete_options {
	bool adds_missing; /* Date and Message-ID */
	bool removes_bcc;
	enum smtp_complete_from from;
	const char *host; /* right side of a Message-ID */
	const char *user; /* his address, for Sender */
	int64_t unix_s;   /* now */
	/* Is this address ("local@domain", as the header has it) his own? */
	bool (*is_own)(void *arg, struct slice address);
	void *arg;
};

struct smtp_complete;
/* Texts are copied. */
struct smtp_complete *smtp_complete_new(const struct smtp_complete_options *options);
void smtp_complete_free(struct smtp_complete **complete);
/* Takes the next piece (lines end with CRLF) and appends what it becomes to out. ERR_DENIED: From is not his; ERR_TOO_BIG: the header
 * is; nothing may be given any more then. */
MUST_CHECK int smtp_complete_add(struct smtp_complete *complete, struct slice piece, struct buf *out);
/* The end: a header without an empty line comes out now. */
MUST_CHECK int smtp_complete_end(struct smtp_complete *complete, struct buf *out);
