/*
 * Delivery status notifications as they are sent (RFC 3461, 3464, 6522; 6533 where addresses are not ASCII): a whole message of three parts, ready
 * for the wire. Pure; any thread.
 *
 * What comes from remote hosts and clients is hostile: in every text controls, and octets that are no UTF-8, become question marks, lengths are
 * bounded, long lines are folded; so that no input adds a line or a field.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define DSN_TEXT_MOST 1000          /* octets of one text */
#define DSN_HEADER_MOST (64 * 1024) /* of the returned header */

enum dsn_action {
	DSN_FAILED,
	DSN_DELAYED,
	DSN_DELIVERED,
	DSN_RELAYED
};

struct dsn_recipient {
	enum dsn_action action;
	struct slice address;    /* as on the wire */
	struct slice orcpt_type; /* "rfc822"; empty: none was given */
	struct slice orcpt;      /* decoded */
	struct slice status;     /* "5.1.1"; what is none becomes 5.0.0, 4.0.0 or 2.0.0 */
	struct slice remote;     /* host; empty: none */
	unsigned code;           /* of the remote host's reply; 0: the text is ours */
	struct slice text;
	int64_t last_try; /* seconds since 1970; 0: none */
	int64_t until;    /* delayed: how long it will be tried */
};

struct dsn {
	struct slice host;                      /* ours */
	struct slice from;                      /* address of From */
	struct slice to;                        /* of the sender of the message */
	struct slice message_id;                /* without brackets */
	struct slice boundary;                  /* random, 20 to 60 letters and digits */
	int64_t date, arrived;                  /* seconds since 1970 */
	struct slice envid;                     /* decoded; empty: none */
	const struct dsn_recipient *recipients; /* all of one action */
	size_t recipient_count;
	/* The first part, for humans: a template. Lines may end with LF; ${sender}, ${host}, ${date}, ${recipients} and ${until} are replaced. A first line
	 * "Subject: x" and an empty one give the subject. Empty: the built-in text. */
	struct slice text_template;
	struct slice message; /* as it was sent, or its beginning */
	bool is_full;         /* return all of it; else its header */
	bool is_utf8;         /* the message was SMTPUTF8 */
};

/* Is it a template: UTF-8, no ${word} that is unknown, an empty line behind a Subject? NULL, or why not; line_out: where. */
const char *dsn_check_template(struct slice text, unsigned *line_out);
/* Appends it. */
void dsn_write(const struct dsn *dsn, struct buf *out);
/* It needs SMTPUTF8 to be sent. */
bool dsn_is_utf8(const struct dsn *dsn);
/* The header of a message, with its last line's end; all of it (at most DSN_HEADER_MOST) if there is no body. */
struct slice dsn_header(struct slice message);
