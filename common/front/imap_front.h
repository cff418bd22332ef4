/*
 * IMAP before login (RFC 3501 sections 6.1 and 6.2): CAPABILITY, NOOP, ID (RFC 2971), LOGOUT, STARTTLS, LOGIN,
 * AUTHENTICATE with SASL-IR (RFC 4959). Everything of front.h holds.
 *
 * From a trusted proxy (ops->is_trusted) ID fields tell of the client: x-originating-ip, x-originating-port, x-connected-ip,
 * x-connected-port, x-session-id, and x-client-transport ("TLS": its way to the edge is encrypted), as Dovecot defines them; a value of
 * wrong form is an error. From others they are ignored.
 */
#pragma once

#include "common/front/front.h"

void imap_front_start(struct front_service *service, struct conn *conn_take, unsigned flags);
