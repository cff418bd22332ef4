/*
 * The milter protocol, version 6, as a mail server speaks it to a filter (sendmail's include/libmilter/mfdef.h and mfapi.h are its
 * description; no RFC has it). Pure: packets to structs and back. Views point into the input; no memory of its own; any thread.
 *
 *	| length of what follows, 4 octets, network order | kind, 1 octet | strings with a NUL each, numbers of 4 octets |
 *
 * What a filter sends is hostile: packets have a limit, strings end inside of them, and none of its texts may go out as it came:
 * see milter_field_text() for values of header fields, smtp_reply_write() for replies.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define MILTER_VERSION 6
/* Of older filters: nothing that we use came after it but what the bits below say. */
#define MILTER_VERSION_LEAST 2
/* Octets of a packet behind its length. A filter's longest is a piece of a body. */
#define MILTER_PACKET_MOST (1024 * 1024 + 64)
/* Octets of a body in one packet to a filter. */
#define MILTER_BODY_MOST 65535

/* What a filter may do at the end of a message. */
enum milter_action {
	MILTER_ADD_HEADERS = 0x01,
	MILTER_CHANGE_BODY = 0x02,
	MILTER_ADD_RECIPIENT = 0x04,
	MILTER_DELETE_RECIPIENT = 0x08,
	MILTER_CHANGE_HEADERS = 0x10,
	MILTER_QUARANTINE = 0x20,
	MILTER_CHANGE_FROM = 0x40,
	MILTER_ADD_RECIPIENT_PARAMS = 0x80,
	MILTER_SET_MACROS = 0x100
};
#define MILTER_ACTIONS 0x1ffU

/* What a filter does not want to see, or does not answer. */
enum milter_protocol {
	MILTER_NO_CONNECT = 0x01,
	MILTER_NO_HELO = 0x02,
	MILTER_NO_MAIL = 0x04,
	MILTER_NO_RCPT = 0x08,
	MILTER_NO_BODY = 0x10,
	MILTER_NO_HEADERS = 0x20,
	MILTER_NO_EOH = 0x40,
	MILTER_SILENT_HEADERS = 0x80,
	MILTER_NO_UNKNOWN = 0x100,
	MILTER_NO_DATA = 0x200,
	MILTER_CAN_SKIP = 0x400,     /* may answer "skip" to a piece of the body */
	MILTER_REFUSED_RCPT = 0x800, /* wants recipients that we refuse too */
	MILTER_SILENT_CONNECT = 0x1000,
	MILTER_SILENT_HELO = 0x2000,
	MILTER_SILENT_MAIL = 0x4000,
	MILTER_SILENT_RCPT = 0x8000,
	MILTER_SILENT_DATA = 0x10000,
	MILTER_SILENT_UNKNOWN = 0x20000,
	MILTER_SILENT_EOH = 0x40000,
	MILTER_SILENT_BODY = 0x80000,
	MILTER_LEADING_SPACE = 0x100000 /* values of header fields with the blank behind the colon */
};
/* All that we can do; what a filter asks for beyond it ends the negotiation. 0x800, being told of recipients that we refuse, is not
 * among it. */
#define MILTER_PROTOCOL 0x1ff7ffU

/* Moments for which a filter may name the macros that it wants; numbers of the protocol. */
enum milter_stage {
	MILTER_STAGE_CONNECT,
	MILTER_STAGE_HELO,
	MILTER_STAGE_MAIL,
	MILTER_STAGE_RCPT,
	MILTER_STAGE_DATA,
	MILTER_STAGE_END, /* of the message */
	MILTER_STAGE_EOH  /* end of the header */
};
#define MILTER_STAGES (MILTER_STAGE_EOH + 1)

/* ---- to the filter: each appends one packet ---- */

/* NULs inside of a string would make two of it: they are left out. */
void milter_write_negotiation(struct buf *out, uint32_t version, uint32_t actions, uint32_t protocol);

enum milter_family {
	MILTER_FAMILY_UNKNOWN = 'U',
	MILTER_FAMILY_UNIX = 'L',
	MILTER_FAMILY_INET = '4',
	MILTER_FAMILY_INET6 = '6'
};
/* address: as text, without brackets; empty for MILTER_FAMILY_UNKNOWN. host: its name, or "[address]". */
void milter_write_connect(
	struct buf *out, struct slice host, enum milter_family family, uint16_t port, struct slice address);
void milter_write_helo(struct buf *out, struct slice name);
/* path with its angle brackets; params of ESMTP as they came, parted by blanks. */
void milter_write_mail(struct buf *out, struct slice path, struct slice params);
void milter_write_rcpt(struct buf *out, struct slice path, struct slice params);
void milter_write_data(struct buf *out);
/* A command that we do not know. */
void milter_write_unknown(struct buf *out, struct slice line);
/* value: behind the colon, without its end; CRLF inside of it becomes LF, as filters expect. keeps_space: MILTER_LEADING_SPACE was
 * agreed on; otherwise one blank at the front goes. */
void milter_write_header(struct buf *out, struct slice name, struct slice value, bool keeps_space);
void milter_write_eoh(struct buf *out);
/* At most MILTER_BODY_MOST octets. */
void milter_write_body(struct buf *out, struct slice piece);
void milter_write_end(struct buf *out);
/* Forget this message. */
void milter_write_abort(struct buf *out);
void milter_write_quit(struct buf *out);

/* Macros stand before the packet that they belong to: begin, any number, end. */
struct milter_macros {
	struct buf *out;
	size_t start;
};
void milter_macros_begin(struct milter_macros *m, struct buf *out, enum milter_stage stage);
/* name without braces: one letter is sent as it is, a longer one as "{name}". An empty value is not sent. */
void milter_macros_add(struct milter_macros *m, const char *name, struct slice value);
/* Nothing was added: the packet vanishes. */
void milter_macros_end(struct milter_macros *m);
/* Is this name in a list that a filter sent (parted by blanks or commas)? */
bool milter_macros_has(struct slice list, const char *name);

/* ---- from the filter ---- */

enum milter_reply_kind {
	MILTER_REPLY_NEGOTIATION,
	MILTER_REPLY_CONTINUE,
	MILTER_REPLY_ACCEPT,
	MILTER_REPLY_REJECT,
	MILTER_REPLY_TEMPFAIL,
	MILTER_REPLY_DISCARD,
	MILTER_REPLY_SKIP,
	MILTER_REPLY_PROGRESS,
	MILTER_REPLY_CODE,     /* code, enhanced, text */
	MILTER_REPLY_SHUTDOWN, /* 421 */
	MILTER_REPLY_FAIL,     /* the filter gives up this connection */
	/* edits, at the end of a message alone */
	MILTER_REPLY_ADD_HEADER,    /* name, value */
	MILTER_REPLY_INSERT_HEADER, /* index, name, value */
	MILTER_REPLY_CHANGE_HEADER, /* index (of this name, from 1), name, value; empty value: delete */
	MILTER_REPLY_BODY,          /* value: a piece of the new body */
	MILTER_REPLY_ADD_RECIPIENT, /* name: the path; value: ESMTP parameters or empty */
	MILTER_REPLY_DELETE_RECIPIENT,
	MILTER_REPLY_CHANGE_FROM, /* name, value as ADD_RECIPIENT */
	MILTER_REPLY_QUARANTINE   /* value: the reason */
};

struct milter_reply {
	enum milter_reply_kind kind;
	uint32_t version, actions, protocol; /* NEGOTIATION */
	struct slice macros[MILTER_STAGES];  /* NEGOTIATION: names wanted for a stage; p is NULL: no wish */
	uint32_t index;
	struct slice name, value;
	unsigned code;               /* 400 to 599 */
	struct slice enhanced, text; /* the text of one line; controls may be in it */
};

/* > 0 octets taken, 0 more are needed, ERR_SYNTAX, ERR_TOO_BIG. A reply code that is none of 4yz and 5yz is ERR_SYNTAX. */
MUST_CHECK ssize_t milter_parse(struct slice in, struct milter_reply *reply_out);

/*
 * Appends a value of a header field that a filter sent as it may stand in a message (security class 4): lines end with CRLF and the
 * next one begins with a blank or tab (one is put there where none is), NULs, other controls and bare CRs become '?'. has_space:
 * MILTER_LEADING_SPACE was agreed on; otherwise one blank goes before it.
 */
void milter_field_text(struct buf *out, struct slice value, bool has_space);
/* May stand as the name of a field (RFC 5322 section 3.6.8). */
bool milter_field_is_name(struct slice name);
