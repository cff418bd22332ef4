/*
 * Questions to the DNS by libunbound, asynchronous on the loop; it validates DNSSEC where a trust anchor is configured, and keeps
 * its own cache (one a loop, by the records' times to live); answers that were just given are kept before it (dns_cache.h). It knows /etc/hosts.
 *
 * Answers are hostile: at most DNS_RECORDS_MOST records are taken of each, those whose data is wrong are left out and counted
 * (common/proto/dns_record.h), and what fails validation is never taken for an answer, in particular never for "no such record".
 */
#pragma once

#include "common/base/buf.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/proto/dns_record.h"

struct dns_options {
	const char *servers;      /* "127.0.0.1:5353 10.0.0.1"; NULL: those of /etc/resolv.conf */
	const char *trust_anchor; /* file; NULL: no validation, nothing is ever secure */
};
/* One of those servers: ADDRESS or ADDRESS:PORT. */
bool dns_is_server(const char *text);
/* Once, before the loops start. ERR_CONFIG with the reason in why. */
MUST_CHECK int dns_init(const struct dns_options *options, struct buf *why);
void dns_deinit(void);
/* A trust anchor is configured. */
bool dns_is_validating(void);

#define DNS_RECORDS_MOST 100
#define DNS_ASKED_MOST 512           /* questions under way of one loop */
#define DNS_ANSWER_MOST (128 * 1024) /* octets of memory that one answer takes */

struct dns_answer {
	/*
	 * 0: records. ERR_NOT_FOUND: for certain there are none: no such name (is_nxdomain), or none of that type. ERR_NOT_NOW:
	 * cannot say (no answer in time, the server failed, bogus, no record of it is usable).
	 */
	int error;
	bool is_nxdomain;
	bool is_secure;   /* validated; with ERR_NOT_FOUND: it is proven that there are none */
	bool is_bogus;    /* validation failed; error is ERR_NOT_NOW */
	bool is_cut;      /* there were more than DNS_RECORDS_MOST records */
	unsigned refused; /* records left out because their data is wrong */
	uint32_t
		ttl; /* seconds for which it is good, counted down while it lies in the cache; 0 with ERR_NOT_NOW */
	/* The name that the aliases (CNAME) led to, in lower case, without final dot; the one that was asked where there is none. Empty where the
	 * alias is no name of a host. */
	const char *canonical;
	const char *detail; /* for the log, with ERR_NOT_NOW; "" otherwise */
	unsigned count;
	const struct dns_record *records;
};

struct dns_request;
/* The answer is a view, valid during the call. */
typedef void dns_fn(void *arg, const struct dns_answer *answer);
/*
 * fn is called later on the same loop, never from within, and at the latest after timeout_ms; request_out may be cancelled until then.
 * ERR_SYNTAX: no name that may be asked (dns_name_is_question()). ERR_NOT_NOW: DNS_ASKED_MOST are under way, or the resolver
 * does not work.
 */
MUST_CHECK int dns_ask(struct loop *loop, const char *name, enum dns_type type, uint64_t timeout_ms,
	dns_fn *fn, void *arg, struct dns_request **request_out);
/* The same; names in records are taken that are no names of hosts, for who does nothing with them but ask the DNS. */
MUST_CHECK int dns_ask_any(struct loop *loop, const char *name, enum dns_type type, uint64_t timeout_ms,
	dns_fn *fn, void *arg, struct dns_request **request_out);
/* fn will not be called. NULL is taken. */
void dns_cancel(struct dns_request **request);

/* The address of an A or AAAA record. */
void dns_record_addr(const struct dns_record *record, uint16_t port, struct addr *addr_out);
/* dns_name_reverse() of a socket address; ERR_SYNTAX where it is of neither family. */
MUST_CHECK int dns_reverse(const struct addr *addr, const char *zone, struct buf *out);
