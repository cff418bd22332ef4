/*
 * The client's side of SASL GSSAPI (RFC 4752) with a keytab: the only file that knows Kerberos. It makes tokens and moves
 * nothing; every step may ask a KDC and block, so it belongs on a worker thread. No security layer: the connection is TLS.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

struct directory_gssapi;

/* keytab: a file's name; principal: whose key in it ("" or NULL: its first); host: as in the service's name ldap/HOST.
 * ERR_NOT_NOW and why. */
MUST_CHECK int directory_gssapi_new(const char *keytab, const char *principal, const char *host,
	struct buf *why, struct directory_gssapi **gssapi_out);
/* What to send after this token of the server (empty: the first); appended. ERR_NOT_NOW and why. The server's success
 * ends it, and counts only if directory_gssapi_is_done(). */
MUST_CHECK int directory_gssapi_step(
	struct directory_gssapi *gssapi, struct slice token, struct buf *out, struct buf *why);
/* The server has proved itself, and the layer was agreed. */
bool directory_gssapi_is_done(const struct directory_gssapi *gssapi);
/* Sets NULL, accepts NULL. */
void directory_gssapi_free(struct directory_gssapi **gssapi);
