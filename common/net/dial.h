/*
 * Outgoing connections: resolves a name (common/net/resolve.h) where needed, tries the addresses in order,
 * does the TLS handshake where asked; CONN_OPENED or CONN_FAILED comes within the deadline. Own loop's
 * thread.
 */
#pragma once

#include "common/net/conn.h"

struct dial_options {
	const char *host; /* name, address literal, or /unix/path; copied */
	uint16_t port;
	uint64_t timeout_ms;     /* for resolving, connecting and the handshake together */
	struct tls *tls;         /* implicit TLS; NULL: plain. Referenced while needed */
	const char *server_name; /* SNI and verification; NULL: host */
	/* Local addresses to choose from (those of the peer's family): begins with source_first, goes on to the next one
	 * when that has no port left. Copied; at most DIAL_SOURCES_MOST; count 0: any */
	const struct addr *sources;
	unsigned source_count, source_first;
	struct slice prefix; /* written before anything else, TLS too (PROXY protocol); copied */
};
#define DIAL_SOURCES_MOST 16
#define DIAL_PREFIX_MOST 1024
/* The connection exists at once (writes are gathered); conn_close() before CONN_OPENED cancels. */
MUST_CHECK int dial(struct loop *loop, const struct dial_options *options, conn_fn *fn, void *owner,
	struct conn **conn_out);
