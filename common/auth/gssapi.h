/*
 * The server's side of GSSAPI (RFC 4752) by MIT's library; the only place that sees its headers. Kerberos 5 alone, no
 * security layer. One context is one client's; what he sends harms nothing else. A step may read the keytab and write the
 * replay cache, so it blocks and belongs on worker threads, one at a time.
 *
 * Not Cyrus's plug-in: that one cuts the realm off names of the machine's own realm, and which realm vouches for a name is
 * what we must know (docs/decisions/sasl-mechanisms.md).
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define GSSAPI_PRINCIPAL_MOST 512

struct gssapi;

/* service "imap" and host "mail.example.com": the ticket must be for imap/mail.example.com, in any realm of the keytab; keytab
 * NULL or "": the system's. */
struct gssapi *gssapi_new(const char *service, const char *host, const char *keytab);
void gssapi_free(struct gssapi **g);
/*
 * One message of the client, raw; has_token false: none has come yet. ERR_MORE: reply_out (cleared first) goes to him; 0: it is
 * over, and who he is is known; ERR_DENIED: not valid, or for another service; ERR_SYNTAX; ERR_NOT_NOW: our keytab cannot be
 * read; ERR_TOO_BIG. why_out: for the log, appended.
 */
MUST_CHECK int gssapi_step(
	struct gssapi *g, bool has_token, struct slice token, struct buf *reply_out, struct buf *why_out);
/* After 0: "alice@EXAMPLE.COM", and the authorisation identity ("" for none). Views. */
struct slice gssapi_principal(const struct gssapi *g);
struct slice gssapi_authzid(const struct gssapi *g);

/*
 * The user of a principal: alice@EXAMPLE.COM becomes alice@example.com by a row "EXAMPLE.COM=example.com". Appended. ERR_DENIED:
 * a realm that no row names, a service (with a slash), a name with a quoted letter, no realm.
 */
MUST_CHECK int gssapi_user(struct slice principal, const char *const *realms, struct buf *user_out);
