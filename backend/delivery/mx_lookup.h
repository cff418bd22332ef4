/*
 * The hosts of a next hop with their addresses and TLSA records, from the DNS: all questions side by side, one answer. DNSSEC's verdicts
 * are kept: TLSA records are asked for only where the way to them is validated (RFC 7672 section 2.2). Own loop's thread; the answer is
 * counted, and constant but for what is learnt of its hosts.
 */
#pragma once

#include "backend/delivery/dane.h"
#include "backend/delivery/mx.h"
#include "common/net/addr.h"
#include "common/net/loop.h"

/* Addresses of one host that are tried. */
#define MX_ADDRS_MOST 8
/* Hosts that a route may name. */
#define MX_SOURCES_MOST 32

struct mx_host {
	char *name; /* lower case is not promised; a literal's text is "[192.0.2.1]" */
	uint16_t port;
	int error; /* 0: addresses; ERR_NOT_FOUND, ERR_NOT_NOW */
	unsigned addr_count;
	struct addr addrs[MX_ADDRS_MOST];
	bool is_mx_secure; /* that this is a host of the next hop is validated */
	bool is_secure;    /* and its addresses too */
	enum dane_state dane;
	uint64_t down_until_ms; /* of clock_mono_ms(): it did not answer; others are tried first till then */
	char *dane_base;        /* the name of the TLSA records */
	struct tls_dane_record *records; /* their data is this struct's */
	size_t record_count;
};

/* What is wrong with all hosts together. */
enum mx_fault {
	MX_SOUND,
	MX_NO_DOMAIN, /* no such name: for good */
	MX_NULL,      /* takes no mail (RFC 7505): for good */
	MX_LOOP,      /* we are its best host: for good */
	MX_NO_HOST,   /* no host of it has an address: for good */
	MX_NOT_NOW
};

struct mx_hosts {
	unsigned refs;
	enum mx_fault fault;
	char detail[120]; /* with MX_NOT_NOW, for the log */
	unsigned count;
	struct mx_host *hosts; /* in the order in which they are to be tried */
	uint64_t until_ms;     /* of clock_mono_ms(): good till then */
};

/* One row of what a route names, or the domain itself. */
struct mx_source {
	const char *name; /* of a domain or host, or an address literal without brackets */
	uint16_t port;
	bool is_host; /* its addresses, not its MX records */
};

enum mx_prefer {
	MX_PREFER_BOTH, /* by turns, IPv6 first */
	MX_PREFER_IPV4,
	MX_PREFER_IPV6,
	MX_ONLY_IPV4,
	MX_ONLY_IPV6
};

struct mx_lookup_options {
	const struct mx_source *sources; /* copied */
	size_t count;
	const char *own; /* our name: no host behind us is tried; "" does not matter (routes). Copied */
	enum mx_prefer prefer;
	bool wants_dane;
	uint64_t timeout_ms; /* of each of the three rounds of questions */
};

struct mx_lookup;
typedef void mx_lookup_fn(void *arg, struct mx_hosts *hosts_take);
/* fn is called later, never from within. Never fails: what cannot be asked is MX_NOT_NOW. */
void mx_lookup_start(struct loop *loop, const struct mx_lookup_options *options, mx_lookup_fn *fn, void *arg,
	struct mx_lookup **lookup_out);
/* fn will not be called. NULL is taken. */
void mx_lookup_cancel(struct mx_lookup **lookup);

struct mx_hosts *mx_hosts_ref(struct mx_hosts *hosts);
void mx_hosts_unref(struct mx_hosts **hosts);
