/*
 * Who a client is, as the proxy tells a back-end in a header of the PROXY protocol (version 2): its address and ours, the session's id,
 * whether it came over TLS. Only what we know ourselves goes into it, through the one writer of that format. Pure; any thread.
 */
#pragma once

#include "common/base/buf.h"
#include "common/net/addr.h"

/* How a back-end is told. */
enum identity {
	IDENTITY_WORDS,    /* IMAP's ID, XCLIENT of POP3, SMTP and LMTP, where the server takes them */
	IDENTITY_PROXY_V2, /* a header before everything else on the connection */
	IDENTITY_NONE
};

/* Views. */
struct identity_client {
	const struct addr *client, *local;
	const char *session;
	const char *tls; /* as conn_tls_text(), NULL: none that we know of */
	bool is_secure;
};

/* Appends the header; client NULL: the proxy itself (a probe). */
void identity_write(struct buf *out, const struct identity_client *client);
