/*
 * POP3 in AUTHORIZATION state (RFC 1939, 2449, 2595, 5034): CAPA, NOOP, QUIT, STLS, USER and PASS, AUTH. Everything of front.h holds.
 *
 * A trusted proxy (ops->is_trusted) may say `XCLIENT ADDR=ip PORT=n SESSION=id DESTADDR=ip DESTPORT=n CLIENT-TRANSPORT=TLS` (any
 * of these words, as Dovecot defines them; before login alone), and is shown that it may by "[XCLIENT]" in the greeting and a
 * line of CAPA. Others get -ERR.
 */
#pragma once

#include "common/front/front.h"

void pop3_front_start(struct front_service *service, struct conn *conn_take, unsigned flags);
