/*
 * The server's side of SASL (RFC 4422) by Cyrus SASL; the only place that sees its headers. A session turns
 * what a client sends into names and a password: "parsed" means just that, the map then decides. PLAIN (RFC
 * 4616) and LOGIN; further mechanisms are rows. Which are offered is the caller's list, never what happens to
 * be installed. No security layers.
 *
 * Own thread: a session belongs to its loop. What one client sends harms its own session and nothing else.
 * Base64 is read and written here, so that each protocol only carries lines.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/secret.h"

#define SASL_NAME_MOST 512     /* octets of an identity */
#define SASL_LINE_MOST 4096    /* base64 octets of one client message */
#define SASL_MECHANISM_MOST 20 /* RFC 4422 section 3.1 */
#define SASL_STEPS_MOST 8      /* messages of one client */

/* Once per program, before the first session. why: for the operator. ERR_CONFIG when the library cannot do
 * its work. */
MUST_CHECK int sasl_init(const char *program, struct buf *why);
void sasl_deinit(void);

/* The mechanism's own spelling ("PLAIN") if there is a row of that name, in any case of letters; NULL
 * otherwise. */
const char *sasl_mechanism(struct slice name);
/* True if it hands over a password as it is: only these can be replayed to a back-end. */
bool sasl_is_cleartext(const char *mechanism);

struct sasl_session;

/* What a finished session learnt. Owned by the session. */
struct sasl_result {
	struct slice authzid; /* whom to act as; empty: the same */
	struct slice authcid; /* who it is; valid UTF-8, no controls, not normalised */
	struct secret password;
};

/*
 * mechanism as the client wrote it; allowed: NULL-ended list of what this service offers. ERR_UNSUPPORTED:
 * none of these. ERR_NOT_NOW: no memory.
 */
MUST_CHECK int sasl_session_new(const char *service, struct slice mechanism, const char *const *allowed,
	struct sasl_session **session_out);
/* Wipes and frees; at any time. */
void sasl_session_free(struct sasl_session **session);

/*
 * The first step: initial is the client's initial response in base64 as it stands behind the mechanism ("=":
 * present and empty), or a slice with a NULL pointer when there was none. Each further step takes one line of
 * the client. Gives 0 parsed, see sasl_session_result(); ERR_MORE: send challenge_out (base64, cleared first;
 * may be empty); ERR_CANCELLED: the client sent "*"; ERR_SYNTAX: bad base64, bad message; ERR_TOO_BIG;
 * ERR_DENIED; ERR_NOT_NOW. After anything but ERR_MORE the session takes no further step.
 */
MUST_CHECK int sasl_session_start(struct sasl_session *s, struct slice initial, struct buf *challenge_out);
MUST_CHECK int sasl_session_step(struct sasl_session *s, struct slice line, struct buf *challenge_out);
/* Only after 0. */
struct sasl_result *sasl_session_result(struct sasl_session *s);
