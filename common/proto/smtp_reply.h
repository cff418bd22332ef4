/*
 * SMTP replies (RFC 5321 section 4.2, RFC 2034): as a client reads them, multi-line too; what EHLO announces;
 * and as a server writes them. Views into the input. Pure; any thread. A peer's text is never trusted: the
 * writer takes controls out.
 */
#pragma once

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SMTP_REPLY_MOST (8 * 1024) /* all lines of one reply */
#define SMTP_REPLY_TEXT_MOST 480   /* text of one line that we write */

struct smtp_reply {
	unsigned code;         /* 200 to 599 */
	struct slice enhanced; /* "5.1.1" of the last line; empty: none */
	struct slice text;     /* of the last line, behind the enhanced code */
	struct slice lines;    /* all lines with their ends */
};

/* > 0 consumed; 0: more; ERR_SYNTAX (also lines with different codes); ERR_TOO_BIG beyond SMTP_REPLY_MOST.
 * Lines may end with a bare LF. */
MUST_CHECK ssize_t smtp_reply_parse(struct slice in, struct smtp_reply *reply_out);

/* Ways a peer may offer to log in. */
enum smtp_reply_auth {
	SMTP_REPLY_AUTH_PLAIN = 1,
	SMTP_REPLY_AUTH_LOGIN = 2,
	SMTP_REPLY_AUTH_SCRAM_SHA_256 = 4
};
/* What XCLIENT takes there. */
enum smtp_reply_xclient {
	SMTP_XCLIENT_ADDR = 1,
	SMTP_XCLIENT_PORT = 2,
	SMTP_XCLIENT_HELO = 4,
	SMTP_XCLIENT_LOGIN = 8,
	SMTP_XCLIENT_PROTO = 16,
	SMTP_XCLIENT_SESSION = 32,
	SMTP_XCLIENT_TTL = 64
};

struct smtp_words {
	bool pipelining, eightbitmime, smtputf8, enhanced, chunking, starttls, xmark, size, dsn, requiretls;
	uint64_t size_most; /* 0: no limit said */
	uint32_t rcpt_most; /* LIMITS RCPTMAX (RFC 9422): recipients of a transaction; 0: not said */
	uint32_t mail_most; /* LIMITS MAILMAX: transactions of a session; 0: not said */
	unsigned auth;      /* of enum smtp_reply_auth */
	unsigned xclient;   /* of enum smtp_reply_xclient; 0: not offered */
};
/* Words of an EHLO or LHLO reply (its lines). Unknown words are passed over. */
void smtp_reply_words(struct slice lines, struct smtp_words *words_out);

/* The texts of all lines without codes, joined by blanks, for logs and notices: controls and what is no UTF-8 become '?', cut at size - 1
 * octets (not inside a character). Always a string. */
void smtp_reply_text(struct slice lines, char *out, size_t size);

/* Appends "250 2.1.5 text" with its end; enhanced may be empty. Controls in text become '?', it is cut at
 * SMTP_REPLY_TEXT_MOST octets (not inside a UTF-8 character). */
void smtp_reply_write(struct buf *out, unsigned code, struct slice enhanced, struct slice text);
/* The same with "-" for " " after the code: more lines follow. */
void smtp_reply_write_more(struct buf *out, unsigned code, struct slice enhanced, struct slice text);
/* "4.3.0" has the form of RFC 3463, and its first digit is that of code. */
bool smtp_reply_is_enhanced(struct slice text, unsigned code);
