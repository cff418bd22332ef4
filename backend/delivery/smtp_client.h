/*
 * A connection to one SMTP server as a client: dialled, greeted, EHLO (HELO where that is refused), STARTTLS and AUTH as asked for,
 * then commands and their replies, and a body. It knows nothing of hosts, messages or recipients; whom to ask and what a reply means is
 * its owner's.
 *
 * Commands are queued; a server with PIPELINING gets all that may go at once in one write. DATA stops the queue until its reply. The
 * server is hostile: a reply has a size (SMTP_REPLY_MOST) and a deadline as a whole, so that neither lines without end nor single octets
 * keep us; texts are handed on cleaned.
 *
 * Events come from the loop, never from within a call; SMTP_CLIENT_FAILED is the last one, the client is gone then. Own loop's thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/slice.h"
#include "common/net/conn.h"
#include "common/net/work.h"
#include "common/proto/smtp_reply.h"

struct smtp_client;

enum smtp_client_tls {
	SMTP_CLIENT_TLS_NONE,
	SMTP_CLIENT_TLS_MAY,     /* STARTTLS where it is offered */
	SMTP_CLIENT_TLS_MUST,    /* STARTTLS, or nothing */
	SMTP_CLIENT_TLS_IMPLICIT /* from the first octet (RFC 8314) */
};

/* Milliseconds, RFC 5321 section 4.5.3.2. */
struct smtp_client_times {
	uint64_t connect, greeting, command, data, end;
};

struct smtp_client_options {
	const struct addr *addr;
	const struct addr *sources; /* as struct dial_options */
	unsigned source_count, source_first;
	const char *host_name; /* ours, for EHLO */
	enum smtp_client_tls tls_mode;
	struct tls *tls;
	const char *server_name; /* SNI, and what a certificate is held against */
	const struct tls_dane *
		dane; /* TLSA records in its place; copied no further than the handshake: lives as long as the client */
	struct slice user, password; /* AUTH; empty: none. Live as long as the client */
	struct work_pool *pool;      /* for SCRAM, which computes; NULL: by PLAIN or LOGIN alone */
	struct smtp_client_times times;
};

enum smtp_client_event {
	SMTP_CLIENT_READY,   /* takes commands */
	SMTP_CLIENT_REPLY,   /* to the command of that tag */
	SMTP_CLIENT_DRAINED, /* of a body: go on */
	SMTP_CLIENT_FAILED   /* the reply says what to tell; smtp_client_fault() */
};

enum smtp_client_fault {
	SMTP_CLIENT_SOUND,
	SMTP_CLIENT_UNREACHED, /* no connection */
	SMTP_CLIENT_REFUSED,   /* greeting or EHLO say no; the reply is the server's */
	SMTP_CLIENT_NO_TLS,    /* it offers none, and there must be */
	SMTP_CLIENT_BAD_TLS,   /* the handshake failed */
	SMTP_CLIENT_INJECTED,  /* octets behind the reply to STARTTLS, in clear (RFC 3207 section 6) */
	SMTP_CLIENT_NO_AUTH,   /* it takes no login of ours, or refuses this one */
	SMTP_CLIENT_LOST       /* closed, broken, silent, senseless, or 421 */
};

#define SMTP_CLIENT_TEXT_MAX 520

/* With an event; code 0: it is about no reply. Texts are cleaned, and valid during the call. */
struct smtp_client_reply {
	unsigned code;
	const char *enhanced; /* "" none */
	const char *text;
};

typedef void smtp_client_fn(void *owner, struct smtp_client *c, enum smtp_client_event event, unsigned tag,
	const struct smtp_client_reply *reply);

/* ERR_*: no descriptor, no such source address. */
MUST_CHECK int smtp_client_open(struct loop *loop, const struct smtp_client_options *options,
	smtp_client_fn *fn, void *owner, struct smtp_client **client_out);
/* No more events. QUIT if nothing is under way, else the connection is cut. NULL is taken. */
void smtp_client_close(struct smtp_client **client);

/* What EHLO offered (under TLS, where there is TLS). */
const struct smtp_words *smtp_client_words(const struct smtp_client *c);
/* The server's name of itself in its EHLO reply; "" none. */
const char *smtp_client_name(const struct smtp_client *c);
enum smtp_client_fault smtp_client_fault(const struct smtp_client *c);
/* The connection; NULL in SMTP_CLIENT_FAILED. */
struct conn *smtp_client_conn(const struct smtp_client *c);
/* With SMTP_CLIENT_BAD_TLS. */
enum conn_tls_fault smtp_client_tls_fault(const struct smtp_client *c);
/* Nothing is under way. */
bool smtp_client_is_idle(const struct smtp_client *c);

/* Queues a command with its end (bytes of BDAT may follow it); goes out with smtp_client_flush(). is_end: its reply may take as long as
 * that of the end of data. */
void smtp_client_command(struct smtp_client *c, unsigned tag, struct slice line, bool is_end);
/* DATA: nothing goes out behind it before its reply. */
void smtp_client_data(struct smtp_client *c, unsigned tag);
void smtp_client_flush(struct smtp_client *c);
/* After 354: pieces of the body as they go on the wire. True: congested, SMTP_CLIENT_DRAINED comes. */
bool smtp_client_body(struct smtp_client *c, struct slice bytes);
/* The final dot was written: the reply of that tag comes. */
void smtp_client_body_end(struct smtp_client *c, unsigned tag);
/* Octets of commands and of the body wait to go out: ask for no more. Drained comes. */
bool smtp_client_is_congested(struct smtp_client *c);
