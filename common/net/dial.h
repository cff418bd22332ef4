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
	const char *source;      /* local address to bind, NULL: any */
};
/* The connection exists at once (writes are gathered); conn_close() before CONN_OPENED cancels. */
MUST_CHECK int dial(struct loop *loop, const struct dial_options *options, conn_fn *fn, void *owner,
	struct conn **conn_out);
