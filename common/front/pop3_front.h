/*
 * POP3 in AUTHORIZATION state (RFC 1939, 2449, 2595, 5034): CAPA, NOOP, QUIT, STLS, USER and PASS, AUTH. Everything of front.h holds.
 *
 * A trusted proxy (ops->is_trusted) may say `XCLIENT ADDR=ip PORT=n SESSION=id DESTADDR=ip DESTPORT=n TLS=yes` (any of these
 * words, and only before login); a capability line XCLIENT is shown to it alone. Others get -ERR.
 */
#pragma once

#include "common/front/front.h"

void pop3_front_start(struct front_service *service, struct conn *conn_take, unsigned flags);
