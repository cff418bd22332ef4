/*
 * TLS contexts for servers and clients: certificates, verification, versions, ALPN, session tickets.
 * Immutable after making and reference-counted, so a reload makes a new one while old connections keep
 * theirs. Any thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/buf.h"

struct tls;

struct tls_server_options {
	const char *certificate; /* PEM file, the chain after it */
	const char
		*key; /* PEM file, mode 0600 or tighter (or owner root and group-readable), else ERR_CONFIG */
	const char *client_ca; /* PEM file: certificates of clients are asked for and verified against it;
				  NULL: not */
	bool client_required;  /* refuse clients without a verified certificate */
	const char *const
		*alpn; /* NULL-terminated: names that we accept, e.g. "imap"; a client that offers others only
			  is refused, one that offers none is welcome (RFC 7301, ALPACA) */
	const char *session_context; /* name of service and listener: a ticket resumes only under the same */
};
/* why receives a text for the operator (file and reason) on ERR_CONFIG. */
MUST_CHECK int tls_server_new(
	const struct tls_server_options *options, struct buf *why, struct tls **tls_out);

struct tls_client_options {
	const char *ca;          /* PEM file; NULL: the system's */
	bool verify;             /* chain and name */
	const char *certificate; /* shown to the server; NULL: none */
	const char *key;
};
MUST_CHECK int tls_client_new(
	const struct tls_client_options *options, struct buf *why, struct tls **tls_out);

struct tls *tls_ref(struct tls *tls);
void tls_unref(struct tls **tls);
