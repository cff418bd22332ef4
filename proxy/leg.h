/*
 * The leg: one connection to a back-end, from dialling to a logged-in session (or, without a login, to the point where its greeting,
 * TLS and capabilities are known: probes and spare connections). The protocols are rows: imap_handover.c, pop3_handover.c.
 *
 * Where a probe or an earlier login has learnt what the server can do, a login is one flight: identity of the client and
 * credential are sent together, behind the greeting or even before it has come. Otherwise it goes step by step.
 *
 * A leg is embedded in its owner, whose memory stays to the end of the turn in which the leg ends (loop_free_later()), and lives on
 * one loop. Its failures are a closed list; each has a name, a text for the log, and
 * one answer to the client.
 */
#pragma once

#include <sys/types.h>

#include "common/front/front.h"
#include "common/net/timer.h"
#include "proxy/backends.h"

enum leg_result {
	LEG_OK,
	LEG_CONNECT,  /* no connection */
	LEG_TLS,      /* handshake or verification failed */
	LEG_CLOSED,   /* it ended the connection */
	LEG_PROTOCOL, /* it does not speak as it should */
	LEG_TIMEOUT,  /* no answer in time */
	LEG_DOWN,     /* health probes say so */
	LEG_DRAINED,  /* an operator says so */
	LEG_FULL, /* as many connections as it may have, or as many logins as it may take while it comes back */
	LEG_UNAVAILABLE,  /* it said: not now */
	LEG_WRONG,        /* it refused the user's own credential (replay) */
	LEG_DISTRUSTED,   /* it refused our credential (proxy-auth) */
	LEG_NO_ACCOUNT,   /* it has no such account */
	LEG_IN_USE,       /* the mailbox is locked */
	LEG_LIMIT,        /* too many sessions */
	LEG_LOOP,         /* it has come through too many proxies */
	LEG_NO_MECHANISM, /* it offers no way to log in that we have */
	LEG_MAY_NOT_VOUCH /* our credential may not go over such a connection */
};
#define LEG_RESULTS (LEG_MAY_NOT_VOUCH + 1)
const char *leg_result_name(enum leg_result result);
const char *leg_result_text(enum leg_result result);
/* What the client is told. */
enum front_result leg_result_front(enum leg_result result);
/* Someone must act. */
bool leg_result_is_error(enum leg_result result);

enum leg_state {
	LEG_DIALING,
	LEG_GREETING,
	LEG_STARTTLS, /* the answer to the command */
	LEG_SECURING,
	LEG_CAPABILITY,
	LEG_READY, /* without a login: this is the end */
	LEG_LOGIN,
	LEG_ENDED
};

/* Whom to log in, and for whom. Views of the owner, good until the leg has ended. */
struct leg_login {
	struct slice account;
	struct slice password; /* replay */
	const char *session;
	const struct addr *client;
	const struct addr *local;
	const struct conn *conn; /* the client's: by what TLS it came is asked when it is told */
	bool is_secure;          /* the client's way to us is encrypted */
	bool is_utf8;            /* POP3: the client has asked for UTF-8 */
	unsigned ttl;            /* proxies that may come after us */
};

struct leg;
/* Once, as the leg's last act. LEG_OK: leg_take_conn(); otherwise the connection is closed. detail: for the log, may be "". */
typedef void leg_fn(void *arg, enum leg_result result, const char *detail);

struct leg_protocol {
	enum backend_protocol protocol;
	/* All is known: writes the login. */
	void (*log_in)(struct leg *leg);
	/* Takes one reply of the input: > 0 taken, 0 more, < 0 nonsense. */
	ssize_t (*take)(struct leg *leg);
	/* TLS is done after STARTTLS: there is no second greeting. */
	void (*secured)(struct leg *leg);
	/* A word of goodbye, for probes. */
	const char *logout;
};

struct leg {
	const struct leg_protocol *protocol;
	struct backend *backend;    /* counted */
	struct backend_try attempt; /* which of its hosts */
	struct loop *loop;
	struct conn *conn; /* NULL for a moment between two hosts */
	struct timer timer;
	enum leg_state state;
	unsigned capabilities; /* enum backend_capability */
	uint16_t port;         /* 0: the back-end's own */
	bool is_probe;         /* one host alone, and its owner tells what came of it */
	bool has_connection;   /* backend_connects() was asked for it */
	bool is_spare;         /* conn has waited; nothing has come over it for this login */
	bool is_flown;         /* the login was sent before the greeting came */
	bool is_challenged;    /* the SASL continuation was answered */
	/* POP3: replies still to come before the one that decides; lines of CAPA have begun */
	unsigned step;
	unsigned found;   /* POP3: capabilities so far */
	bool is_believed; /* POP3: the greeting said [XCLIENT] */
	bool is_by_user;  /* POP3: USER and PASS */
	bool awaits_utf8; /* POP3: the next reply is to UTF8 */
	size_t taking;    /* IMAP: octets of the reply being handled, not yet consumed */
	struct leg_login login;
	bool has_login;
	struct buf announced; /* capabilities after login, cleaned; may be empty */
	char detail[160];
	leg_fn *fn;
	void *arg;
};

extern const struct leg_protocol imap_handover;
extern const struct leg_protocol pop3_handover;

/*
 * Begins; login NULL: only to LEG_READY. Hosts of the back-end are tried one after the other until one greets. fn is never called from
 * within. leg is zeroed. port 0: the back-end's own. The caller has a connection by backend_connects(), which is the leg's from now on.
 */
void leg_start(struct leg *leg, const struct leg_protocol *protocol, struct backend *backend, uint16_t port,
	struct loop *loop, const struct leg_login *login, leg_fn *fn, void *arg);
/* The same with a connection that stands with this host and has been greeted (spare.h): the login is sent at once. Should the
 * back-end have ended it meanwhile, a new one is dialled. fn may be called from within. */
void leg_start_on(struct leg *leg, const struct leg_protocol *protocol, struct backend *backend,
	unsigned host, struct conn *conn_take, const struct leg_login *login, leg_fn *fn, void *arg);
/* To LEG_READY at this host alone, uncounted. */
void leg_start_probe(struct leg *leg, const struct leg_protocol *protocol, struct backend *backend,
	unsigned host, struct loop *loop, leg_fn *fn, void *arg);
/* The host that it deals with was found down: goes on with the next, or ends as LEG_DOWN. */
void leg_host_is_down(struct leg *leg);
/* Without a word; fn is not called. After fn was called: frees what is left. Always call one of these at the end. */
void leg_deinit(struct leg *leg);
/* Ends it as if it had failed by itself. */
void leg_fail(struct leg *leg, enum leg_result result, const char *format, ...) PRINTF_LIKE(3, 4);
/* After LEG_OK. Input behind the login's answer is in it; backend_disconnected() is the caller's to say. */
struct conn *leg_take_conn(struct leg *leg);

/* ---- for the protocols ---- */

void leg_enter(struct leg *leg, enum leg_state state);
void leg_start_tls(struct leg *leg);
/* Greeting and capabilities are known and the connection is as safe as it gets: logs in, or ends as ready. */
void leg_ready(struct leg *leg);
void leg_ok(struct leg *leg);
/* Remembers what the server can do, here and for the next. */
void leg_learn(struct leg *leg, unsigned capabilities);
/* base64 of "account NUL user NUL password": ours, or the user's own. */
void leg_add_plain(struct leg *leg, struct buf *out);
/* Copies printable text of the server into detail. */
void leg_set_detail(struct leg *leg, struct slice text);
