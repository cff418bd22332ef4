/*
 * DNS by libunbound, asynchronous on the loop; the resolver validates DNSSEC where a trust anchor is
 * configured. Answers are hostile: names are checked, at most 100 records are taken. Also reads /etc/hosts
 * and knows address literals.
 */
#pragma once

#include "common/base/buf.h"
#include "common/net/addr.h"
#include "common/net/loop.h"

struct resolve_options {
	const char *servers;      /* "127.0.0.1:5353 10.0.0.1"; NULL: those of /etc/resolv.conf */
	const char *trust_anchor; /* file; NULL: no validation */
};
/* Once, before the loops start. */
MUST_CHECK int resolve_init(const struct resolve_options *options, struct buf *why);
void resolve_deinit(void);

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
