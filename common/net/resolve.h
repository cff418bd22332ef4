/*
 * Addresses of hosts (common/net/dns.h), for connections: A and AAAA together; also knows address literals and /etc/hosts.
 */
#pragma once

#include "common/net/addr.h"
#include "common/net/loop.h"

#define RESOLVE_ADDRS_MOST 16

struct resolve_request;
/* error 0: count > 0 addresses with the port set. ERR_NOT_FOUND: the name has none. ERR_NOT_NOW: cannot say.
 */
typedef void resolve_fn(void *arg, int error, const struct addr *addrs, unsigned count);
/* fn is called later on the same loop, never from within. request_out may be cancelled until then. */
MUST_CHECK int resolve_addrs(struct loop *loop, const char *host, uint16_t port, uint64_t timeout_ms,
	resolve_fn *fn, void *arg, struct resolve_request **request_out);
/* fn will not be called. */
void resolve_cancel(struct resolve_request **request);
