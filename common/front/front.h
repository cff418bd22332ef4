/*
 * The client-facing dialogue of IMAP and POP3 before login, the same on both tiers: greeting, capabilities, ID and
 * XCLIENT, STARTTLS, LOGIN, USER and PASS, AUTHENTICATE, limits. What a login means is the tier's to say: the proxy
 * finds and joins a back-end, the back-end begins a session. The tier supplies a struct front_service and gets
 * each login through its `ops`.
 *
 * A front owns its connection until the hand-over and lives on the connection's loop; everything here is called on that
 * loop. It ends (and is freed at the end of the turn) by front_hand_over(), by the client, or by a deadline. Memory before login
 * is capped (FRONT_MEMORY_MOST): the connection's input, one arena for a command, what waits to be sent.
 *
 *	listener -> imap_front_start(service, conn, flags)
 *	               ... dialogue ...
 *	            ops->login(front, credentials)        the front waits; input is kept unread
 *	               front_refuse(front, result)        the dialogue goes on (or ends, at the limit of failed logins)
 *	            or front_hand_over(front, &handover)  the tier answers the login (OK) and goes on by itself
 *	            or ops->cancel(front)                 client gone or deadline: the tier forgets this login
 */
#pragma once

#include <stdatomic.h>

#include "common/base/secret.h"
#include "common/control/session_verbs.h"
#include "common/net/conn.h"

struct conf;
struct front;
struct front_auth;
struct penalty;

/* Most memory that a connection holds for its client's sake before login; bytes. TLS apart, and, as long as a SASL dialogue is under
 * way, its SASL_SESSION_MOST. */
#define FRONT_MEMORY_MOST (16 * 1024)
/* The same where GSSAPI is offered: tickets are large. */
#define FRONT_TICKET_MEMORY_MOST (40 * 1024)

/* How a login ends. Each has one reply text with its response code (RFC 5530, RFC 3206) for each protocol. */
enum front_result {
	FRONT_OK, /* never given to front_refuse() */
	FRONT_WRONG, /* user unknown or credential wrong: [AUTHENTICATIONFAILED], [AUTH]; counts as failed login */
	FRONT_NOT_NOW, /* cannot say: [UNAVAILABLE], [SYS/TEMP] */
	FRONT_NO_ACCOUNT, /* the credential is right, but here is no mailbox: [AUTHORIZATIONFAILED], [SYS/PERM] */
	FRONT_NOT_PERMITTED, /* the credential is right, but this service or identity is not allowed to it */
	FRONT_IN_USE,        /* the mailbox is locked by another session: [INUSE], [IN-USE] */
	FRONT_LIMIT,         /* too many sessions of this user: [LIMIT], [SYS/TEMP] */
	/* what is stored for this user cannot serve the mechanism: to the client like FRONT_WRONG, and no penalty */
	FRONT_UNSERVED
};
#define FRONT_RESULTS (FRONT_UNSERVED + 1)
/* "ok", "wrong-credential", ... for logs and metrics. */
const char *front_result_name(enum front_result result);

/* What the client showed. Views, valid until the login is answered or cancelled; the memory is wiped then. Checked already:
 * UTF-8 without controls, 1 to FRONT_NAME_MOST octets; a password has 1 to FRONT_PASSWORD_MOST octets, no NUL. */
#define FRONT_NAME_MOST 512
#define FRONT_PASSWORD_MOST 1024
enum front_shown {
	FRONT_SHOWN_PASSWORD, /* `password` is to be checked */
	/* nothing yet: what is stored for authcid is wanted, to put a challenge. Answer by front_give_stored(); the login proper
	 * comes afterwards, FRONT_SHOWN_PROVEN */
	FRONT_SHOWN_FETCH,
	FRONT_SHOWN_PROVEN /* by a challenge that was met, a ticket, or a certificate: is he known? */
};
struct front_credentials {
	enum front_shown shown;
	/* who the client wants to be; empty: the authcid. Any client can send one: the tier decides */
	struct slice authzid;
	struct slice authcid;  /* whose credential it is */
	struct slice password; /* FRONT_SHOWN_PASSWORD */
	/* "PLAIN", "LOGIN" by SASL; "command" for IMAP's LOGIN and POP3's USER and PASS */
	const char *mechanism;
};

struct front_ops {
	/* A login to decide; answer by front_refuse() or front_hand_over() (credentials->shown may want front_give_stored()), from
	 * within or later. */
	void (*login)(struct front *front, const struct front_credentials *credentials);
	/* The front ends with a login unanswered: forget it. Do not answer. */
	void (*cancel)(struct front *front);
	/* Is the peer of this connection one of our proxies, whose word on the client's address is believed? NULL: nobody is. */
	bool (*is_trusted)(struct front *front);
};

struct front_limits {
	uint64_t tls_ms;      /* handshake */
	uint64_t command_ms;  /* silence between two commands, and within one */
	uint64_t dialogue_ms; /* all before login together */
	uint64_t login_ms;    /* the tier's answer to a login */
	/* from the tier's being asked to the answer that the login failed; doubles with each */
	uint64_t failed_delay_ms;
	unsigned failed_logins;  /* then the connection is closed */
	unsigned wrong_commands; /* then the connection is closed */
};
/* From the section `limits` of either program, which has a key for each. */
void front_limits_read(const struct conf *conf, struct front_limits *limits_out);

/* What is left of a failed login's delay. It counts from the tier's being asked, not from its refusal: so the time that a
 * password hash took, which an unknown name does not take, does not show. began_ms 0: nothing has passed. */
static inline uint64_t front_delay_left(uint64_t delay_ms, uint64_t began_ms, uint64_t now_ms)
{
	uint64_t passed = began_ms ? now_ms - began_ms : 0;

	return delay_ms > passed ? delay_ms - passed : 0;
}

struct front_counters;

/*
 * What a service offers; constant while fronts use it, counted by front_service_ref(). One for each listener's kind: the tier
 * makes a new one on reload and old connections keep theirs.
 */
struct front_service {
	const struct front_ops *ops;
	void *tier;       /* the tier's own */
	const char *name; /* "imap": in log lines and metrics */
	const char *host; /* our name in greetings; "": none */
	/* IMAP: words beside IMAP4rev1, IMAP4rev2, LITERAL-, SASL-IR, ID, STARTTLS, LOGINDISABLED, AUTH=, e.g. "ENABLE IDLE".
	 * POP3: words beside USER, SASL, STLS, UTF8, LANG, RESP-CODES, PIPELINING, AUTH-RESP-CODE, e.g. "TOP UIDL". May be "" */
	const char *capabilities;
	struct tls *tls;         /* for STARTTLS; NULL: not offered. Owned by the service */
	bool allows_clear;       /* passwords without TLS */
	struct front_auth *auth; /* how clients may log in. Owned by the service */
	const char *domain;      /* that bare user names get; "": none */
	struct penalty *penalty; /* for failed logins across sessions, the program's; NULL: none */
	bool counts_hops;        /* a proxy: anybody may say how many proxies he has come through */
	struct front_limits limits;
	_Atomic unsigned refs;
	void (*free)(struct front_service *service); /* at the last unref; NULL: nothing */
	struct front_counters *counters;             /* private: metrics of this name */
};
/* Clears it, then sets these, the counter of references to one, and the defaults: limits, PLAIN and LOGIN. */
void front_service_init(
	struct front_service *service, const char *name, const struct front_ops *ops, void *tier);
struct front_service *front_service_ref(struct front_service *service);
void front_service_unref(struct front_service **service);

enum front_flag {
	FRONT_IMPLICIT_TLS = 1, /* the connection is to be heard of by CONN_OPENED first */
	FRONT_RETURNED =
		2, /* its session has given it back (RFC 8437): it has been greeted and counted already */
	FRONT_HALF_CLOSED = 4 /* and its client will send no more: no CONN_EOF will come */
};
/* Takes the connection and begins the dialogue (imap_front.h, pop3_front.h). References the service. */
typedef void front_start_fn(struct front_service *service, struct conn *conn_take, unsigned flags);

/* ---- what a tier asks of a front while a login waits ---- */

/* Proxies that a login may come through, one after the other, as Dovecot's proxies count: IMAP's ID x-proxy-ttl, XCLIENT TTL. */
#define FRONT_TTL 5
#define FRONT_SESSION_MOST 64 /* of a session id that a proxy passes on; ours have FRONT_SESSION_LEN */
#define FRONT_SESSION_LEN 16

struct front_service *front_service(const struct front *front);
/* The loop, the peer, TLS. The connection stays the front's. */
struct conn *front_conn(const struct front *front);
/* Made at the edge (or told by a trusted proxy), in every log line. */
const char *front_session(const struct front *front);
/* The client's own address: the peer's, or what a trusted proxy told. Port 0: unknown. */
const struct addr *front_client(const struct front *front);
/* The address it connected to at the edge. */
const struct addr *front_local(const struct front *front);
/* A trusted proxy told who the client is. */
bool front_is_proxied(const struct front *front);
/* The client's way to the edge is encrypted. */
bool front_is_secure(const struct front *front);
/* POP3: the client has asked for UTF-8 (RFC 6856); the session is to be in that mode from its begin. */
bool front_is_utf8(const struct front *front);
/* Proxies that may still come, this one counted: FRONT_TTL, or less if one that was before us said so (whoever it was: a lie harms
 * only its author). 1 or less: the way goes in circles. */
unsigned front_ttl(const struct front *front);
/* One pointer for the tier's login in progress; NULL at first. */
void front_set_login(struct front *front, void *login);
void *front_login(const struct front *front);

/* ---- the tier's answers ---- */

/* Answers FRONT_SHOWN_FETCH: the texts that are stored, each ended by a NUL; none, and whether there is such a user. They are
 * copied where needed. This login is over for the tier: what follows is a new one, or none. */
void front_give_stored(struct front *front, struct slice stored, bool is_known);
/* Answers the login with the result's reply; detail (NULL: none) goes to the log alone. */
void front_refuse(struct front *front, enum front_result result, const char *detail);

struct front_handover {
	/* The tier's from now on; what the client sent after its login is its unread input. Its callback is silent until
	 * conn_set_owner() */
	struct conn *conn;
	struct slice tag;    /* IMAP: of the login command. View until the turn's end */
	const char *session; /* as above; all these until the turn's end */
	const struct addr *client;
	const struct addr *local;
	bool is_proxied;
	bool is_secure;
	bool is_utf8;  /* front_is_utf8() */
	bool is_ended; /* the client has half-closed already: no CONN_EOF will come */
};
/* The login is right and its way is ready: the tier takes the connection, answers (IMAP: "tag OK [CAPABILITY ...] ...", POP3:
 * "+OK ...") and goes on. The front is gone after it. */
void front_hand_over(struct front *front, struct front_handover *handover_out);

/* ---- all fronts of the calling thread's loop ---- */

/* For the verbs about sessions: those before login. */
void front_each(struct session_walk *walk);
/* Closes them without a word: the program ends. */
void front_end_all(void);
