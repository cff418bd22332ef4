/*
 * SMTP and LMTP commands as a server reads them (RFC 5321, 2033, 1870, 6152, 6531, 3030, 4954, 3461, 8689; XCLIENT as
 * Postfix defines it) and the pieces of commands as a client writes them. Views into the input or copies in
 * the caller's arena; nothing is kept between calls. Pure; any thread.
 *
 * A command line ends with CRLF. A line that ends with a bare LF, or holds a bare CR, NUL or another control,
 * is whole and wrong: two programs in a row must never see different lines (SMTP smuggling).
 */
#pragma once

#include <sys/types.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SMTP_LINE_MOST 2048             /* a command line with its end: 512 and what the extensions add */
#define SMTP_AUTH_LINE_MOST (12 * 1024) /* AUTH and the lines of its dialogue (RFC 4954 section 4.5.3.1) */
#define SMTP_LOCAL_MOST 255 /* octets of a local part: RFC 5321 says 64, rewritten senders are longer */
#define SMTP_DOMAIN_MOST 255
#define SMTP_PATH_MOST 800 /* quoted, with both brackets */
#define SMTP_DIGEST_LEN 32

enum smtp_verb {
	SMTP_HELO,
	SMTP_EHLO,
	SMTP_LHLO,
	SMTP_MAIL,
	SMTP_RCPT,
	SMTP_DATA,
	SMTP_BDAT,
	SMTP_RSET,
	SMTP_NOOP,
	SMTP_VRFY,
	SMTP_EXPN,
	SMTP_HELP,
	SMTP_QUIT,
	SMTP_STARTTLS,
	SMTP_AUTH,
	SMTP_XCLIENT,
	SMTP_XMARK,
	SMTP_UNKNOWN
};
#define SMTP_VERBS (SMTP_UNKNOWN + 1)

struct smtp_command {
	enum smtp_verb verb;
	struct slice word; /* the verb as it was written */
	struct slice rest; /* what follows, without blanks around it */
};

/* One line: > 0 consumed; 0: more; ERR_TOO_BIG: no end within limit. ERR_SYNTAX: a control or ill-formed line
 * end is in it; *consumed_out (may be NULL) then says how long the line is, so that 500 can be answered and
 * the dialogue go on. */
MUST_CHECK ssize_t smtp_parse_command(
	struct slice in, size_t limit, struct smtp_command *command_out, size_t *consumed_out);
/* One line of an AUTH dialogue, without its end. As above. */
MUST_CHECK ssize_t smtp_parse_line(struct slice in, size_t limit, struct slice *line_out);

/* A reverse-path or forward-path. Texts are the arena's. */
struct smtp_path {
	struct slice local;   /* unquoted; empty: the null path */
	struct slice domain;  /* as written, or "[literal]"; empty: null path, or a bare postmaster */
	struct slice address; /* local@domain as it goes on the wire: quoted where need be, without a source
				 route */
	bool is_null;         /* <> */
	bool is_utf8;         /* has octets beyond ASCII: legal only with SMTPUTF8 */
	bool is_literal;      /* the domain is an address literal */
};

/* "<" path ">" from the start of text; > 0: its length. A source route is dropped (RFC 5321 appendix C).
 * ERR_SYNTAX; ERR_TOO_BIG: beyond a limit above, or the arena is full. Ill-formed UTF-8 is ERR_SYNTAX. */
MUST_CHECK ssize_t smtp_parse_path(struct arena *a, struct slice text, struct smtp_path *path_out);

enum smtp_body {
	SMTP_BODY_NONE,
	SMTP_BODY_7BIT,
	SMTP_BODY_8BITMIME
};

/* Which parameters of MAIL are legal now: what was announced to this client. */
enum smtp_parameter {
	SMTP_PARAMETER_SIZE = 1,
	SMTP_PARAMETER_BODY = 2,
	SMTP_PARAMETER_SMTPUTF8 = 4,
	SMTP_PARAMETER_AUTH = 8,
	SMTP_PARAMETER_XMARK = 16,
	SMTP_PARAMETER_DSN = 32, /* RET and ENVID; of RCPT: NOTIFY and ORCPT */
	SMTP_PARAMETER_REQUIRETLS = 64,
	SMTP_PARAMETER_XGREY = 128 /* of RCPT, from a proxy of ours */
};

/* What a sender wants back if his message cannot be delivered (RFC 3461 section 4.3). */
enum smtp_ret {
	SMTP_RET_NONE, /* not said */
	SMTP_RET_FULL,
	SMTP_RET_HDRS
};

/* When he wants to hear (RFC 3461 section 4.1); 0: not said. NEVER stands alone. */
enum smtp_notify {
	SMTP_NOTIFY_NEVER = 1,
	SMTP_NOTIFY_SUCCESS = 2,
	SMTP_NOTIFY_FAILURE = 4,
	SMTP_NOTIFY_DELAY = 8
};

#define SMTP_ENVID_MOST 100 /* octets of ENVID as it stands on the wire (RFC 3461 section 4.4) */
#define SMTP_GREY_MOST 50   /* of XGREY */
#define SMTP_ORCPT_MOST 500 /* of ORCPT (RFC 3461 section 4.2) */

/* XMARK=n or XMARK=n:digest: how a proxy of ours names the client's own bytes. */
struct smtp_mark {
	bool is_set;
	bool has_digest;
	uint64_t prefix;                 /* octets that the proxy puts before the client's bytes */
	uint8_t digest[SMTP_DIGEST_LEN]; /* SHA-256 of the client's bytes, where the proxy has changed them */
};

struct smtp_mail {
	struct smtp_path path;
	uint64_t size; /* 0: not said */
	enum smtp_body body;
	bool is_utf8;      /* SMTPUTF8 was said */
	struct slice auth; /* AUTH= decoded, "" if not said or "<>"; the arena's */
	struct smtp_mark mark;
	enum smtp_ret ret;
	struct slice envid; /* xtext as it was written, checked; "" if not said; the arena's */
	bool requires_tls;  /* REQUIRETLS (RFC 8689) */
};

/* One recipient. */
struct smtp_rcpt {
	struct smtp_path path;
	unsigned notify;    /* of enum smtp_notify */
	struct slice orcpt; /* "rfc822;xtext" as it was written, checked; "" if not said; the arena's */
	struct slice
		grey; /* XGREY: strangers of this network of the client are to be put off; "" if not said; the arena's */
};

/* The rest of MAIL ("FROM:<...> SIZE=1"). 0; ERR_SYNTAX; ERR_TOO_BIG (path or arena); ERR_UNSUPPORTED: a
 * parameter (or its value) that is not among `legal` (555). A parameter twice is ERR_SYNTAX. */
MUST_CHECK int smtp_parse_mail(
	struct arena *a, struct slice rest, unsigned legal, struct smtp_mail *mail_out);
/* The rest of RCPT ("TO:<...> NOTIFY=NEVER"); "<>" is ERR_SYNTAX, "<postmaster>" has no domain. legal: of enum smtp_parameter;
 * SMTP_PARAMETER_SMTPUTF8: ORCPT may hold UTF-8 (RFC 6533). Errors as for MAIL. */
MUST_CHECK int smtp_parse_rcpt(
	struct arena *a, struct slice rest, unsigned legal, struct smtp_rcpt *rcpt_out);
/* Appends " RET=HDRS ENVID=x", " NOTIFY=FAILURE,DELAY ORCPT=rfc822;x": what was said and nothing else. */
void smtp_parse_write_mail_dsn(struct buf *out, const struct smtp_mail *mail);
void smtp_parse_write_rcpt_dsn(struct buf *out, unsigned notify, struct slice orcpt);
/* "FAILURE,DELAY"; "" for 0. */
void smtp_parse_write_notify(struct buf *out, unsigned notify);
/* What ORCPT says, decoded: the address type ("rfc822") and the address, without controls, UTF-8. ERR_SYNTAX. */
MUST_CHECK int smtp_parse_orcpt(
	struct arena *a, struct slice orcpt, bool is_utf8, struct slice *type_out, struct slice *address_out);
/*
 * The rest of XMARK, a command of our proxies between RCPT and the body: "n", "n:digest", each perhaps with " HOLD=xtext", as what is said
 * of the message once its content has been seen. It stands in for what MAIL said. hold_out: decoded, without controls; an empty slice with
 * NULL: not said. ERR_SYNTAX, ERR_TOO_BIG (arena).
 */
MUST_CHECK int smtp_parse_xmark(
	struct arena *a, struct slice rest, struct smtp_mark *mark_out, struct slice *hold_out);
void smtp_parse_write_xmark(struct buf *out, const struct smtp_mark *mark, struct slice hold);
/* The rest of BDAT ("1000 LAST"). */
MUST_CHECK int smtp_parse_bdat(struct slice rest, uint64_t *size_out, bool *is_last_out);
/* The argument of HELO, EHLO, LHLO: a name or an address literal, or at least text without blanks that can do
 * no harm in a header (many clients send odd names): printable ASCII or UTF-8, at most SMTP_DOMAIN_MOST
 * octets, no <>()\"; and no blank. */
bool smtp_parse_is_greeting(struct slice rest);

/* What XCLIENT says. Absent or [UNAVAILABLE]: empty. Texts are decoded copies in the arena, without controls,
 * UTF-8. */
struct smtp_xclient {
	struct slice addr; /* "192.0.2.1", or "2001:db8::1" (IPV6: prefix taken away) */
	uint16_t port;     /* 0: not said */
	struct slice helo;
	struct slice login;
	struct slice proto; /* SMTP, ESMTP, ESMTPSA ... */
	struct slice name;
	struct slice session;
	struct slice destaddr;
	uint16_t destport;
	uint16_t ttl; /* proxies that may still come; 0: not said */
};
/* ERR_SYNTAX also for an attribute that we did not announce. */
MUST_CHECK int smtp_parse_xclient(struct arena *a, struct slice rest, struct smtp_xclient *xclient_out);
/* The names that smtp_parse_xclient() knows, for the EHLO line. */
#define SMTP_XCLIENT_NAMES "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT SESSION TTL"

/* xtext (RFC 3461 section 4). Decoding: ERR_SYNTAX; the copy is the arena's. */
MUST_CHECK int smtp_parse_xtext(struct arena *a, struct slice text, struct slice *value_out);
void smtp_parse_write_xtext(struct buf *out, struct slice value);
/* Writes local@domain as it goes on the wire; local is quoted where it is no dot-string. Nothing for an empty
 * local part. */
void smtp_parse_write_address(struct buf *out, struct slice local, struct slice domain);
