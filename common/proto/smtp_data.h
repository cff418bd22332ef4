/*
 * Message bodies on the wire: DATA with its dots (RFC 5321 section 4.5.2), BDAT without (RFC 3030), as
 * streams cut anywhere. Pure; the state is the caller's; output goes to the caller's buffer.
 *
 * Reading, the end of data is CRLF "." CRLF and nothing else. A bare LF becomes CRLF and never ends anything;
 * a bare CR stays a data octet; or both are refused (SMTP_BARE_REJECT). NUL is refused, and so are lines
 * beyond SMTP_DATA_LINE_MOST. A refused body is still read to its end, without output, so that the dialogue
 * stays in step.
 *
 * Dots: at the start of a line behind CRLF one dot is dropped. Behind a bare LF a dot is dropped only if a
 * second one follows: a client that takes LF for a line end has doubled it, one that does not has sent a
 * single dot as data.
 */
#pragma once

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SMTP_DATA_LINE_MOST (16 * 1024) /* octets of a line without its end */

enum smtp_bare {
	SMTP_BARE_NORMALISE,
	SMTP_BARE_REJECT
};

enum smtp_data_fault {
	SMTP_DATA_OK,
	SMTP_DATA_NUL,
	SMTP_DATA_BARE_NEWLINE,
	SMTP_DATA_LONG_LINE
};

struct smtp_decoder {
	enum smtp_bare bare;
	enum smtp_data_fault fault; /* the first; output has stopped there */
	bool has_dots;              /* DATA; false: BDAT */
	bool is_ended;              /* DATA: CRLF.CRLF was consumed */
	int state;                  /* private from here */
	size_t line;
};

void smtp_data_decode_init(struct smtp_decoder *d, enum smtp_bare bare, bool has_dots);
/* Takes octets up to the end of data, at most all, and appends what they mean to out. Returns how many it
 * consumed (all of them unless d->is_ended). */
size_t smtp_data_decode(struct smtp_decoder *d, struct slice in, struct buf *out);
/* BDAT: after the last chunk; ends the last line if need be. */
void smtp_data_decode_end(struct smtp_decoder *d, struct buf *out);

struct smtp_encoder {
	bool splits_cr;  /* towards others: a bare CR becomes CRLF, before the dots; never a bare CR or LF on
			   the wire */
	bool keeps_dots; /* for BDAT: dots stay as they are, and nothing marks the end */
	bool is_line_begin;
	bool is_after_cr;
};
/* splits_cr false: towards our own back-ends, which keep a bare CR as it is. */
void smtp_data_encode_init(struct smtp_encoder *e, bool splits_cr);
/* Appends a piece as DATA wants it: dots doubled, a bare LF made CRLF. */
void smtp_data_encode(struct smtp_encoder *e, struct slice piece, struct buf *out);
/* Ends the last line if need be, then the final dot, if there are dots. */
void smtp_data_encode_end(struct smtp_encoder *e, struct buf *out);

/* Longest name of ours that is looked for. */
#define SMTP_HOPS_HOST_MOST 255
/* Counts Received fields of a message that passes by, up to the end of its header (loops: RFC 5321
 * section 6.3). */
struct smtp_hops {
	const char *host; /* ours; NULL: its fields are not told apart. Borrowed */
	unsigned count;
	unsigned own; /* of them, those that say "by" and our host */
	bool is_past_header;
	bool is_skipping, is_received;
	unsigned matched;
	unsigned by; /* of " by host ": octets that have come */
};
void smtp_data_count_hops(struct smtp_hops *h, struct slice piece);
