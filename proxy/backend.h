/*
 * One back-end: how it is reached (hosts in order, ports, TLS, trust), how it is (up or down by probes and by what logins met, drained,
 * what its servers announced), and how many may go there at a time.
 *
 * A struct backend is constant and counted; a reload makes new ones, which share the states of the old of the same name: one of the
 * back-end, one of each host. States are atomic and may be read and told of on any loop.
 */
#pragma once

#include <stdatomic.h>

#include "common/base/secret.h"
#include "common/net/conn.h"
#include "common/net/dial.h"
#include "proxy/identity.h"

enum backend_protocol {
	BACKEND_IMAP,
	BACKEND_POP3,
	BACKEND_LMTP, /* mail in, by LMTP or SMTP */
	BACKEND_SUBMISSION
};
#define BACKEND_PROTOCOLS (BACKEND_SUBMISSION + 1)
/* "imap", "pop3", "lmtp", "submission". */
const char *backend_protocol_name(enum backend_protocol protocol);

enum backend_tls {
	BACKEND_TLS_NONE,
	BACKEND_TLS_STARTTLS,
	BACKEND_TLS_IMPLICIT
};

enum backend_trust {
	BACKEND_PROXY_AUTH, /* it believes us whom we vouch for */
	BACKEND_REPLAY      /* it gets the user's own name and password */
};

/* What a server announced at its last probe or login, after TLS. */
enum backend_capability {
	BACKEND_KNOWN = 1,
	BACKEND_SASL_IR = 2,
	BACKEND_AUTH_PLAIN = 4,
	BACKEND_ID = 8,
	BACKEND_XCLIENT = 16,
	BACKEND_LITERAL_PLUS = 32,
	BACKEND_LOGINDISABLED = 64,
	BACKEND_STARTTLS = 128,
	BACKEND_TTL = 256, /* XCLIENT, but TTL alone: a proxy */
	BACKEND_UTF8 = 512 /* POP3: UTF8 (RFC 6856) */
};

/* Hosts of one back-end, in order. */
#define BACKEND_HOSTS_MOST 8

struct backend_state;
struct backend_host_state;

struct backend_host {
	const char *name;        /* name or address */
	const char *server_name; /* that its certificate must have */
	bool may_fly; /* a credential may be written before the connection stands: it goes nowhere else */
	struct backend_host_state *state;
};

struct backend {
	const char *name; /* of the section, or the host of a map's literal */
	struct backend_host hosts[BACKEND_HOSTS_MOST];
	unsigned host_count;
	uint16_t ports[BACKEND_PROTOCOLS];
	enum backend_tls tls_mode;
	struct tls *tls;         /* NULL with BACKEND_TLS_NONE */
	const char *server_name; /* of all its hosts; "": each its own */
	enum backend_trust trust;
	enum identity identity;
	const char *user; /* ours, with BACKEND_PROXY_AUTH */
	struct secret credential;
	unsigned spare;
	uint64_t connect_ms;       /* to be connected and, with implicit TLS, secured */
	uint64_t login_ms;         /* from then to the answer of the login */
	uint64_t probe_ms;         /* between probes; 0: none */
	uint64_t return_ms;        /* over which those who come back to it are spread */
	uint64_t wait_ms;          /* that a login waits at the gate */
	unsigned failures;         /* in a row that take a host as down */
	unsigned connections_most; /* of this proxy; 0: no limit */
	struct addr sources[DIAL_SOURCES_MOST];
	unsigned source_count;
	bool is_named;    /* a section of the configuration, not a host of a map */
	bool is_smtp;     /* mail goes to it by SMTP and not by LMTP */
	bool is_verified; /* its certificate is */
	struct backend_state *state;
	_Atomic unsigned refs;
};
struct backend *backend_ref(struct backend *backend);
void backend_unref(struct backend **backend);

/* ---- health ---- */

/* Some host of it is up. One that was never tried counts as up; one that no probe watches may be tried again once a while. */
bool backend_is_up(const struct backend *backend, enum backend_protocol protocol);
bool backend_is_drained(const struct backend *backend);
/* Up, and not drained by an operator. */
bool backend_is_usable(const struct backend *backend, enum backend_protocol protocol);
void backend_set_drained(struct backend *backend, bool is_drained);
bool backend_host_is_up(const struct backend *backend, unsigned host, enum backend_protocol protocol);
/* Is this the host that went down? For who waits for one. */
bool backend_is_same_host(const struct backend *a, unsigned host_a, const struct backend *b, unsigned host_b);

/*
 * What came of trying a host: error 0, or ERR_* with words for the log. A probe's word counts at once; of logins `failures` in a row
 * take it as down, and one that succeeds brings it back. When a host goes down, who waits for it is told by backends_on_down().
 */
void backend_probed(struct backend *backend, unsigned host, enum backend_protocol protocol, int error,
	const char *detail);
void backend_tried(struct backend *backend, unsigned host, enum backend_protocol protocol, int error,
	const char *detail);
/* What failed last at this host, "" if nothing has or it is well again. Copied into text. */
void backend_host_error(const struct backend *backend, unsigned host, enum backend_protocol protocol,
	char *text, size_t size);
/* fn: on the thread that saw it, whenever a host goes down; it may post to loops. Once, before loops start. */
typedef void backend_down_fn(struct backend *backend, unsigned host, enum backend_protocol protocol);
void backend_on_down(backend_down_fn *fn);

/* enum backend_capability; 0: nothing known. */
unsigned backend_capabilities(const struct backend *backend, enum backend_protocol protocol);
/* What a login saw. */
void backend_learn(struct backend *backend, enum backend_protocol protocol, unsigned capabilities);

/* ---- the gate ---- */

/* A login may begin: backend_login_ended() follows. False: it comes back just now, and has enough to do. */
bool backend_login_begins(struct backend *backend);
void backend_login_ended(struct backend *backend);
/* A connection may be made: backend_disconnected() follows. False: there are as many as the configuration allows. */
bool backend_connects(struct backend *backend);
void backend_disconnected(struct backend *backend);
/* A spare connection stands (+1), does not any more (-1). */
void backend_count_spare(struct backend *backend, int change);
/* A login waits at the gate (+1), does not any more (-1). */
void backend_count_waiting(struct backend *backend, int change);
/* One has waited too long. */
void backend_count_turned_away(struct backend *backend);
/* Sessions that are open through this proxy. */
void backend_count_session(struct backend *backend, int change);

struct backend_figures {
	int64_t sessions, connections, logins, waiting, spare;
	unsigned window; /* logins that may be under way at once; 0: any number */
};
void backend_figures(const struct backend *backend, struct backend_figures *figures_out);

/* ---- dialling ---- */

/* Which hosts have been tried for one purpose; zeroed at first. */
struct backend_try {
	unsigned host;     /* the one being tried */
	unsigned tried;    /* bits */
	uint64_t until_ms; /* the monotonic clock; 0: begins now, and lasts connect_ms */
};
/* The first host that is up and was not tried yet. False: there is none, or no time is left. */
bool backend_next_host(struct backend *backend, enum backend_protocol protocol, struct backend_try *attempt);
/* The host of this attempt has taken the connection: how long it may take to greet. Where another one could be tried, that is once
 * more the time of connecting, and then as much again for the others. */
uint64_t backend_greeting_ms(
	const struct backend *backend, enum backend_protocol protocol, struct backend_try *attempt);
/*
 * Dials the host of this attempt, with its share of the time that is left: CONN_OPENED or CONN_FAILED comes; with implicit TLS the
 * handshake is done and verified before anything is sent. port 0: the back-end's own for this protocol. STARTTLS is the caller's to
 * do. header: of the PROXY protocol, written first, where the back-end wants one (identity.h).
 */
MUST_CHECK int backend_dial(struct backend *backend, enum backend_protocol protocol, uint16_t port,
	const struct backend_try *attempt, struct slice header, struct loop *loop, conn_fn *fn, void *owner,
	struct conn **conn_out);
/* True if our own credential may be sent over this connection: verified TLS or loopback. Ask after TLS. */
bool backend_may_vouch(const struct backend *backend, const struct conn *conn);
/* May our credential be written towards this host before anything is known of the connection? */
bool backend_may_fly(const struct backend *backend, const char *host);

/* ---- for the set ---- */

/* States of this name; the old back-end of the name (NULL: none) gives what it knows of the same hosts. */
void backend_attach_states(struct backend *backend, const struct backend *old, const char *label);
