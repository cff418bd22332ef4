/*
 * Whose secret a client's first message speaks of, for the mechanisms with a challenge. Pure: a message in, the name out,
 * appended to a buffer with a limit. The name is checked by the caller; whose secret verified is who it is, so the
 * library's own reading of the same message is never believed for that.
 *
 * All: 0; ERR_SYNTAX; ERR_TOO_BIG (beyond the buffer's limit). A message with a NUL is ERR_SYNTAX.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

/* RFC 2195: NAME SP 32 hexadecimal digits. */
MUST_CHECK int sasl_message_cram(struct slice message, struct buf *name);

/*
 * RFC 2831 section 2.1.2. A name without a domain gets the realm that the client chose, if that is not the one that was
 * offered. Directives that stand twice are refused.
 */
MUST_CHECK int sasl_message_digest(struct slice message, struct slice offered_realm, struct buf *name);

/* Octets of SCRAM's authorisation identity as it is sent, and of the nonce with what follows it: the library keeps several copies of
 * each until the dialogue ends. */
#define SASL_MESSAGE_PART_MOST 512

struct sasl_message_scram {
	char flag;            /* 'n', 'y' or 'p': RFC 5802 section 7, gs2-cbind-flag */
	struct slice binding; /* of 'p': the type's name, a view */
};
/* RFC 5802 section 7, client-first-message. */
MUST_CHECK int sasl_message_scram(struct slice message, struct sasl_message_scram *out, struct buf *name);
