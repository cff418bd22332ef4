/*
 * The server's side of SASL (RFC 4422): Cyrus SASL, the only place that sees its headers, and MIT's GSSAPI (gssapi.h). A session
 * turns what a client sends into a name and how it was shown: by a password, which means *parsed*, the map then decides; or
 * proven, by a challenge that was met, a ticket, or the certificate of his TLS. Which mechanisms are offered is the caller's
 * list, never what happens to be installed. No security layers.
 *
 *	PLAIN LOGIN                     hand the password over
 *	CRAM-MD5 DIGEST-MD5             want the password itself stored
 *	SCRAM-SHA-1 SCRAM-SHA-256       want their keys stored, or the password itself; -PLUS binds to the TLS connection
 *	EXTERNAL                        the certificate of the client's TLS
 *	GSSAPI                          a ticket of Kerberos 5
 *
 * The library is synchronous and the maps are not. So a challenge mechanism stops with SASL_WANTS once the client has named
 * himself, the caller fetches what is stored for sasl_session_name(), and sasl_session_give() goes on. Who is not there, or has
 * nothing that serves, gets a challenge all the same, which cannot be met. What is slow (PBKDF2, GSSAPI) is done by worker
 * threads: SASL_LATER, and `fn` is called on the loop.
 *
 * A session belongs to its loop. What one client sends harms its own session and nothing else. Base64 is read and written here, so
 * that each protocol only carries lines.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/secret.h"
#include "common/net/work.h"

#define SASL_NAME_MOST 512  /* octets of an identity */
#define SASL_LINE_MOST 4096 /* base64 octets of one client message */
/* the same where tickets are shown: they grow with the groups of the user (RFC 4954 section 4 has this figure) */
#define SASL_TICKET_LINE_MOST (12 * 1024)
#define SASL_MECHANISM_MOST 20 /* RFC 4422 section 3.1 */
#define SASL_STEPS_MOST 8      /* messages of one client */
#define SASL_BINDING_MOST 64   /* octets of a TLS connection's channel binding */
/* Memory of a session that waits for its client: the library's context, and what he has sent; GSSAPI's contexts apart. */
#define SASL_SESSION_MOST (16 * 1024)

/* What steps give besides ERR_*. */
#define SASL_LATER 1 /* fn will be called with the rest */
#define SASL_WANTS 2 /* what is stored for sasl_session_name() is wanted: sasl_session_give() */

/* Once per program, before the first session. why: for the operator. ERR_CONFIG when the library cannot do
 * its work. */
MUST_CHECK int sasl_init(const char *program, struct buf *why);
void sasl_deinit(void);

/* The mechanism's own spelling ("PLAIN") if there is a row of that name, in any case of letters; NULL
 * otherwise. */
const char *sasl_mechanism(struct slice name);
/* All of them, as words: for tables of configuration. */
#define SASL_MECHANISMS                                                                                      \
	"PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS "     \
	"EXTERNAL GSSAPI"
#define SASL_MECHANISM_COUNT 10

enum sasl_trait {
	SASL_HANDS_PASSWORD = 1, /* as it is: only this can be replayed to a back-end, or checked by a bind */
	SASL_WANTS_CLEAR = 2,    /* the stored password must be the password itself */
	SASL_WANTS_KEYS = 4,     /* or SCRAM's keys */
	SASL_BINDS_CHANNEL = 8,  /* to the TLS connection that ends here */
	SASL_SHOWS_CERTIFICATE = 16,
	SASL_SHOWS_TICKET = 32
};
/* enum sasl_trait of a mechanism as sasl_mechanism() spells it; 0: there is none. */
unsigned sasl_traits(const char *mechanism);

enum sasl_shown {
	SASL_SHOWN_PASSWORD, /* parsed; nobody has looked whether it is right */
	SASL_SHOWN_PROVEN
};

struct sasl_session;

/* What a finished session learnt. Owned by the session. */
struct sasl_result {
	struct slice authzid; /* whom to act as; empty: the same */
	struct slice authcid; /* who it is; valid UTF-8, no controls, not normalised */
	enum sasl_shown shown;
	struct secret password; /* SASL_SHOWN_PASSWORD */
};

/* rc: as a step gives it, but not SASL_LATER and SASL_WANTS. challenge: for ERR_MORE; a view. */
typedef void sasl_fn(void *arg, int rc, struct slice challenge);

/* What a session may know of the connection and the service. Texts live as long as the session, but for `mechanism`, `allowed`,
 * `binding_data` and `external`, which are the call's. */
struct sasl_options {
	const char *service;        /* "imap", "pop", "smtp" */
	struct slice mechanism;     /* as the client wrote it */
	const char *const *allowed; /* NULL-ended: what is offered on this connection */
	const char *host;           /* our name in challenges; NULL or "": the system's */
	const char *realm;          /* that DIGEST-MD5 offers; NULL or "": the host */
	const char *binding;       /* "tls-exporter" …; NULL: no mechanism of this connection binds to it */
	struct slice binding_data; /* copied */
	const char *external;      /* EXTERNAL: the name that a verified certificate gives; NULL: none */
	/* GSSAPI (gssapi.h) */
	const char *gssapi_service, *gssapi_host, *keytab;
	const char *const *realms;
	/* of what is slow; fn is called on the loop */
	struct work_pool *pool;
	struct loop *loop;
	sasl_fn *fn;
	void *arg;
};

/*
 * ERR_UNSUPPORTED: none of what is allowed, or the connection has not what it takes. ERR_NOT_NOW: no memory.
 */
MUST_CHECK int sasl_session_new(const struct sasl_options *options, struct sasl_session **session_out);
/* Wipes and frees; at any time. fn is not called any more. */
void sasl_session_free(struct sasl_session **session);

/*
 * The first step: initial is the client's initial response in base64 as it stands behind the mechanism ("=":
 * present and empty), or a slice with a NULL pointer when there was none. Each further step takes one line of
 * the client. Gives 0 done, see sasl_session_result(); ERR_MORE: send challenge_out (base64, cleared first;
 * may be empty); SASL_LATER; SASL_WANTS; ERR_CANCELLED: the client sent "*"; ERR_SYNTAX: bad base64, bad message; ERR_TOO_BIG;
 * ERR_DENIED: a wrong credential; ERR_NOT_NOW. After anything but ERR_MORE the session takes no further step.
 */
MUST_CHECK int sasl_session_start(struct sasl_session *s, struct slice initial, struct buf *challenge_out);
MUST_CHECK int sasl_session_step(struct sasl_session *s, struct slice line, struct buf *challenge_out);
/*
 * Once after SASL_WANTS. stored: texts, each ended by a NUL (struct usermap_question has them so), empty for none; is_known: there
 * is such a user. As a step, but never SASL_WANTS.
 */
MUST_CHECK int sasl_session_give(
	struct sasl_session *s, struct slice stored, bool is_known, struct buf *challenge_out);
/* Who the client says he is, as far as that is known; for the log, and after SASL_WANTS. A view. */
struct slice sasl_session_name(const struct sasl_session *s);
/* The user is there, and what is stored for him cannot serve this mechanism: that it failed says nothing of the client. */
bool sasl_session_is_unserved(const struct sasl_session *s);
/* Why it was denied, for the log; "" if there is nothing to say. A view. */
const char *sasl_session_why(const struct sasl_session *s);
/* Only after 0. */
struct sasl_result *sasl_session_result(struct sasl_session *s);
