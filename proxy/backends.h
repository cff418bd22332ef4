/*
 * The back-ends that this proxy joins clients to: named targets of the configuration and, made when a map first names
 * them, hosts under the terms of `backend-default`. Each knows how to be reached (ports, TLS, trust) and remembers how it is: up or
 * down by health probes, drained, what its servers announced.
 *
 * A struct backend is constant and counted; a reload makes new ones, which share the state of the old of the same name. The state is
 * atomic and may be read on any loop. Probes run on the main loop.
 */
#pragma once

#include <stdatomic.h>

#include "common/base/secret.h"
#include "common/conf/conf.h"
#include "common/net/conn.h"
#include "common/net/dial.h"
#include "mapping/usermap.h"

enum backend_protocol {
	BACKEND_IMAP,
	BACKEND_POP3,
	BACKEND_LMTP
};
#define BACKEND_PROTOCOLS (BACKEND_LMTP + 1)
/* "imap", "pop3", "lmtp". */
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
	BACKEND_STARTTLS = 128
};

struct backend_state;

struct backend {
	const char *name; /* of the section, or host:port of a map's literal */
	const char *host;
	uint16_t ports[BACKEND_PROTOCOLS];
	enum backend_tls tls_mode;
	struct tls *tls; /* NULL with BACKEND_TLS_NONE */
	const char *server_name;
	enum backend_trust trust;
	const char *user; /* ours, with BACKEND_PROXY_AUTH */
	struct secret credential;
	unsigned spare;
	uint64_t connect_ms; /* to be connected and, with implicit TLS, secured */
	uint64_t login_ms;   /* from then to the answer of the login */
	uint64_t probe_ms;   /* between probes; 0: none */
	bool is_named;       /* a section of the configuration, not a host of a map */
	bool is_smtp;        /* mail goes to it by SMTP and not by LMTP */
	bool is_verified;    /* its certificate is */
	bool may_fly; /* a credential may be written before the connection stands: it goes nowhere else */
	struct backend_state *state;
	_Atomic unsigned refs;
};
struct backend *backend_ref(struct backend *backend);
void backend_unref(struct backend **backend);

/* ---- state ---- */

/* False: drained by an operator, or the last probe of this protocol failed (one that was never probed counts as up). */
bool backend_is_usable(const struct backend *backend, enum backend_protocol protocol);
bool backend_is_up(const struct backend *backend, enum backend_protocol protocol);
bool backend_is_drained(const struct backend *backend);
void backend_set_drained(struct backend *backend, bool is_drained);
/* enum backend_capability; 0: nothing known. */
unsigned backend_capabilities(const struct backend *backend, enum backend_protocol protocol);
/* What a login saw. */
void backend_learn(struct backend *backend, enum backend_protocol protocol, unsigned capabilities);
/* Sessions that are open through this proxy. */
void backend_count_session(struct backend *backend, int change);
int64_t backend_sessions(const struct backend *backend);
/* What failed last, "" if nothing has. Copied into text. */
void backend_last_error(const struct backend *backend, char *text, size_t size);

/*
 * Dials it: CONN_OPENED or CONN_FAILED within connect_ms; with implicit TLS the handshake is done and verified before anything is
 * sent. port 0: the back-end's own for this protocol. STARTTLS is the caller's to do.
 */
MUST_CHECK int backend_dial(struct backend *backend, enum backend_protocol protocol, uint16_t port,
	struct loop *loop, conn_fn *fn, void *owner, struct conn **conn_out);
/* True if our own credential may be sent over this connection: verified TLS or loopback. Ask after TLS. */
bool backend_may_vouch(const struct backend *backend, const struct conn *conn);

/* ---- the set ---- */

struct backends;
/* From the sections `backend` and `backend-default`; states are shared with `old` (NULL: none). why: for the operator. */
MUST_CHECK int backends_new(
	const struct conf *conf, struct backends *old, struct buf *why, struct backends **backends_out);
void backends_free(struct backends **backends);
size_t backends_count(const struct backends *backends);
struct backend *backends_at(const struct backends *backends, size_t i);
/* NULL: none of this name. */
struct backend *backends_find(const struct backends *backends, const char *name);
/*
 * Where a map's answer leads: a counted back-end and a port (0: its own). ERR_NOT_FOUND: nowhere. ERR_NOT_NOW: a
 * name that is no section, or a host outside `hosts` of backend-default: *why_out says which, for an ERROR line. Any loop.
 */
MUST_CHECK int backends_route(struct backends *backends, const struct usermap_answer *answer,
	struct backend **backend_out, uint16_t *port_out, const char **why_out);
/* Names for usermap_config; NULL-ended view. */
const char *const *backends_names(const struct backends *backends);

/* ---- for probes ---- */

/* What a probe found: 0, or ERR_* with words for the log. True if it has changed. */
bool backend_set_probed(
	struct backend *backend, enum backend_protocol protocol, int error, const char *detail);
