/*
 * What imap_front and pop3_front share, and nobody else sees: the connection, the state with its deadline, the way of a login to
 * the tier and back, limits, the end. A protocol embeds struct front first in its own struct and supplies a struct
 * dialogue_protocol. Everything runs on the connection's loop; memory goes at the end of the turn in which a front ends, so
 * that a protocol may look at f->state after anything.
 */
#pragma once

#include <sys/types.h>

#include "common/auth/penalty.h"
#include "common/auth/sasl.h"
#include "common/base/arena.h"
#include "common/base/list.h"
#include "common/front/front.h"
#include "common/net/timer.h"

/* FRONT_MEMORY_MOST, divided. */
#define DIALOGUE_INPUT_MOST (4 * 1024 + 512) /* holds SASL_LINE_MOST with its command */
#define DIALOGUE_ARENA_MOST (9 * 1024)
/* FRONT_TICKET_MEMORY_MOST, divided. */
#define DIALOGUE_TICKET_INPUT_MOST (SASL_TICKET_LINE_MOST + 512)
#define DIALOGUE_TICKET_ARENA_MOST (DIALOGUE_ARENA_MOST + SASL_TICKET_LINE_MOST)
#define DIALOGUE_OUTPUT_MOST (2 * 1024)

enum front_state {
	FRONT_HANDSHAKE, /* implicit TLS is being negotiated */
	FRONT_COMMAND,   /* a command is awaited or being read */
	FRONT_SASL,      /* a line of the client's SASL dialogue is awaited */
	FRONT_SECURING,  /* STARTTLS was answered, TLS is being negotiated */
	FRONT_PENALTY,   /* a login waits for failures before it; input waits */
	FRONT_LOGIN,     /* the tier decides; input waits */
	FRONT_DELAY,     /* a wrong credential is about to be answered; input waits */
	FRONT_ENDED      /* the memory lives until the turn's end */
};

/* Why we end a dialogue; each has a text of the protocol's. */
enum dialogue_bye {
	DIALOGUE_BYE_TIMEOUT,
	DIALOGUE_BYE_WRONG_COMMANDS,
	DIALOGUE_BYE_FAILED_LOGINS,
	DIALOGUE_BYE_TOO_BIG,
	DIALOGUE_BYE_TEXTS
};

struct dialogue_protocol {
	const char *sasl_service; /* "imap", "pop" */
	void (*greet)(struct front *f);
	/* Takes one command, or one line of SASL, from the connection's input: > 0 taken, 0 more is needed, < 0 the frame is lost. */
	ssize_t (*take)(struct front *f);
	void (*say_result)(struct front *f, enum front_result result);
	void (*say_bye)(struct front *f, enum dialogue_bye bye);
	void (*say_challenge)(struct front *f, struct slice base64);
	/* err: ERR_CANCELLED, ERR_SYNTAX, ERR_TOO_BIG, ERR_UNSUPPORTED, ERR_NOT_NOW. */
	void (*say_sasl_failed)(struct front *f, int err);
	/* After TLS: forget what was said in clear. */
	void (*reset)(struct front *f);
};

struct front {
	struct list link; /* of all on this loop, older ones first */
	uint64_t number;  /* for struct session_walk */
	int64_t since;    /* seconds since 1970 */
	const struct dialogue_protocol *protocol;
	struct front_service *service;
	struct conn *conn;
	struct timer timer;
	uint64_t until_ms; /* of the whole dialogue */
	enum front_state state;
	unsigned wrong_commands, failed_logins;
	uint64_t login_began_ms; /* of the loop's clock */
	struct penalty_attempt attempt;
	bool takes_tickets; /* lines may be longer */
	bool is_pumping;    /* take() is on the stack */
	bool is_ended;      /* CONN_EOF came */
	bool is_proxied;
	bool is_secure; /* the client's way to the edge, as a proxy told */
	bool is_utf8;   /* POP3: UTF8 was given (RFC 6856) */
	unsigned ttl;   /* front_ttl() */
	char session[FRONT_SESSION_MOST + 1];
	struct addr client, local;
	struct arena arena; /* one command, its credentials, the tag */
	struct slice tag;   /* IMAP: of the command being answered; in the arena */
	struct sasl_session *sasl;
	struct front_credentials credentials;
	bool is_asked; /* the tier has this login */
	void *login;
};

/* Begins; f is zeroed heap memory. The first input may be at hand already. */
void dialogue_start(struct front *f, const struct dialogue_protocol *protocol, struct front_service *service,
	struct conn *conn_take, unsigned flags);

/* ---- for take() ---- */

/* May passwords be sent here in a command? */
bool dialogue_takes_passwords(const struct front *f);
/* The longest line of a client, its end included. */
size_t dialogue_line_most(const struct front *f);
/* What is offered now: NULL-ended; returns how many. */
size_t dialogue_offered(const struct front *f, const char *offered_out[SASL_MECHANISM_COUNT + 1]);
bool dialogue_is_trusted(struct front *f);
/* True for the first line of an HTTP request (ALPACA): end without a word by dialogue_drop(). */
bool dialogue_is_http(struct slice input);
/* The line is not whole, and may turn out to be one: ask again when more has come. input is not empty. */
bool dialogue_may_be_http(struct slice input);
/* Counts a command that makes no sense here; says BYE and ends beyond the limit. False: ended. */
bool dialogue_wrong_command(struct front *f);
/* Wipes n bytes of input, then consumes them: a password was in them. */
void dialogue_consume_secret(struct front *f, size_t n);
/* Sends what was said, then closes. */
void dialogue_end(struct front *f);
/* Closes without a word; why is for the log. */
void dialogue_drop(struct front *f, const char *why);
/* After the reply to STARTTLS was written. */
void dialogue_start_tls(struct front *f);
/* A login is read: asks the tier, unless the names or the password cannot be right. Views live in f->arena or f->sasl. */
void dialogue_login(struct front *f, const struct front_credentials *credentials);
/* AUTHENTICATE, AUTH; initial.p NULL: none. Lines are copied where needed. */
void dialogue_sasl_start(struct front *f, struct slice mechanism, struct slice initial);
void dialogue_sasl_line(struct front *f, struct slice line);
/* A trusted proxy told of the client; ERR_SYNTAX. */
MUST_CHECK int dialogue_told_client_host(struct front *f, struct slice host);
MUST_CHECK int dialogue_told_client_port(struct front *f, struct slice port);
MUST_CHECK int dialogue_told_local_host(struct front *f, struct slice host);
MUST_CHECK int dialogue_told_local_port(struct front *f, struct slice port);
MUST_CHECK int dialogue_told_session(struct front *f, struct slice session);
MUST_CHECK int dialogue_told_transport(struct front *f, struct slice transport);
/* Anybody, where the service counts_hops. */
MUST_CHECK int dialogue_told_ttl(struct front *f, struct slice ttl);
