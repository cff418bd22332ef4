/*
 * TLS contexts for servers and clients: certificates, verification, versions, ALPN, session tickets.
 * Immutable after making and reference-counted, so a reload makes a new one while old connections keep
 * theirs. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/buf.h"

struct tls;

/* Certificates of a context, and names of all of them. */
#define TLS_CERTIFICATES_MOST 256
#define TLS_NAMES_MOST 10000
/* Seconds for which a ticket is good. */
#define TLS_TICKET_LIFETIME_S 7200

struct tls_certificate {
	const char *certificate; /* PEM file, the chain after it */
	const char
		*key; /* PEM file, mode 0600 or tighter (or owner root and group-readable), else ERR_CONFIG */
	const char *const
		*names; /* NULL-terminated: for which it is chosen; NULL or empty: the names that it has */
};

struct tls_server_options {
	const char *certificate,
		*key; /* the default: for clients that name no host, or one that no certificate has */
	const char *const *names;           /* its names, as above */
	const struct tls_certificate *more; /* chosen by the name that the client asks for (SNI) */
	size_t more_count;
	bool is_strict;  /* clients that ask for a name that no certificate has are refused */
	bool is_13_only; /* TLS 1.3 at least; else 1.2 */
	const char *
		client_ca; /* PEM file: certificates of clients are asked for and verified against it; NULL: not */
	bool client_required; /* refuse clients without a verified certificate */
	/* NULL-terminated: names that we accept, e.g. "imap"; a client that offers others only is refused, one that offers
	 * none is welcome (RFC 7301, ALPACA) */
	const char *const *alpn;
	/* Name of the service: a ticket resumes only under the same, with the same certificate, and under the same
	 * rules for certificates of clients */
	const char *session_context;
};
/* why receives a text for the operator (file and reason) on ERR_CONFIG. */
MUST_CHECK int tls_server_new(
	const struct tls_server_options *options, struct buf *why, struct tls **tls_out);

struct tls_client_options {
	const char *ca; /* PEM file; NULL: the system's */
	bool verify;    /* chain and name */
	bool is_lenient; /* without verify: both are looked at all the same, decide nothing, and can be asked of
				    the connection */
	bool uses_dane; /* for conn_start_tls_dane() alone: TLSA records decide (RFC 7671), no authority */
	const char *certificate; /* shown to the server; NULL: none */
	const char *key;
};
MUST_CHECK int tls_client_new(
	const struct tls_client_options *options, struct buf *why, struct tls **tls_out);

/* TLSA records as the DNS gave them, validated (RFC 6698). Views. */
struct tls_dane_record {
	uint8_t usage, selector, matching;
	struct slice data;
};
#define TLS_DANE_RECORDS_MOST 32
#define TLS_DANE_NAMES_MOST 4
struct tls_dane {
	const char *base; /* the name that the records are of: SNI */
	const char *const
		*names; /* further names that a certificate under usage 2 may have (RFC 7672 section 3.2.2) */
	size_t name_count;
	const struct tls_dane_record *records;
	size_t record_count;
};

struct tls *tls_ref(struct tls *tls);
void tls_unref(struct tls **tls);
