/*
 * POP3 (RFC 1939, 2449, 5034): command lines as a server reads them, reply lines as the proxy reads them, and
 * the dot-stuffing of multi-line answers. Views into the input; nothing is kept between calls. Pure; any
 * thread.
 */
#pragma once

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define POP3_LINE_MOST 512              /* a command line with its end (RFC 2449 section 4 asks for 255) */
#define POP3_AUTH_LINE_MOST (12 * 1024) /* a line of a SASL dialogue (RFC 5034 section 4) */
#define POP3_ARGS_MOST 8

struct pop3_command {
	char name[9];      /* in capitals; "" if the word is too long to be one */
	struct slice rest; /* all after the first blank, untouched: the password of PASS */
	struct slice args[POP3_ARGS_MOST];
	unsigned count; /* of words in rest; POP3_ARGS_MOST + 1: more than fit */
};

/* One line: > 0 consumed; 0: more; ERR_TOO_BIG beyond limit; ERR_SYNTAX: NUL or another control is in it, and
 * *consumed_out, if not NULL, says how long the line is, so that -ERR can be answered and the dialogue go on.
 */
MUST_CHECK ssize_t pop3_parse_command(
	struct slice in, size_t limit, struct pop3_command *command_out, size_t *consumed_out);
/* One line of a SASL dialogue, without its end. As above. */
MUST_CHECK ssize_t pop3_parse_line(struct slice in, size_t limit, struct slice *line_out);

enum pop3_status {
	POP3_OK,      /* +OK */
	POP3_ERR,     /* -ERR */
	POP3_CONTINUE /* "+ ", a SASL challenge */
};

struct pop3_reply {
	enum pop3_status status;
	struct slice code; /* AUTH, SYS/TEMP, IN-USE ... (RFC 2449 section 8); empty: none */
	struct slice text;
	struct slice line; /* the whole line with its end */
};

/* > 0 consumed; 0: more; ERR_SYNTAX; ERR_TOO_BIG beyond limit. */
MUST_CHECK ssize_t pop3_parse_reply(struct slice in, size_t limit, struct pop3_reply *reply_out);
/* True for the line that ends a multi-line answer. */
bool pop3_parse_is_end(struct slice line);

/* Writes a message as a multi-line answer: lines that begin with a dot get another one, a bare LF becomes
 * CRLF (a client that takes LF for a line end would see another frame), and the end is CRLF.CRLF. */
struct pop3_parse_stuff {
	bool is_after_cr;
	bool is_line_begin;
};
void pop3_parse_stuff_init(struct pop3_parse_stuff *stuff);
/* Any number of pieces, cut anywhere. */
void pop3_parse_stuff_add(struct pop3_parse_stuff *stuff, struct buf *out, struct slice piece);
/* Ends the last line if need be, then the final dot. */
void pop3_parse_stuff_end(struct pop3_parse_stuff *stuff, struct buf *out);
/* All at once: the message that stands in `out` behind its first `from` octets becomes such an answer. */
void pop3_parse_stuff_message(struct buf *out, size_t from);
/* A whole number argument from 1 on. */
MUST_CHECK int pop3_parse_number(struct slice arg, uint32_t *n_out);
