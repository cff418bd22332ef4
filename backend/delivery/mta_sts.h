/*
 * MTA-STS policies of domains (RFC 8461): looked up in the DNS, fetched by HTTPS from the domain's own host, remembered over restarts. What
 * cannot be had is no policy; what is remembered counts until its age is over, whatever the DNS says meanwhile (section 5.1), and is
 * fetched anew in the background before that. Own loop's thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/net/loop.h"
#include "common/net/tls.h"
#include "common/proto/sts_policy.h"

struct mta_sts;
struct mta_sts_request;

#define MTA_STS_ENTRIES_MOST 10000 /* domains that are remembered */
#define MTA_STS_FETCHES_MOST 100   /* at a time; beyond that a domain has no policy for this try */
#define MTA_STS_FETCH_MS 30000     /* for all of one: section 3.3 */

/* Constant and counted. */
struct mta_sts_policy {
	unsigned refs;
	enum sts_policy_mode mode;
	char id[STS_POLICY_ID_MOST + 1];
	uint32_t max_age;
	int64_t fetched_s, expires_s; /* since 1970 */
	char *mx;                     /* patterns, separated by blanks */
};

enum mta_sts_fault {
	MTA_STS_SOUND,
	MTA_STS_UNFETCHED, /* there is a record, and its policy cannot be fetched */
	MTA_STS_UNTRUSTED, /* the web server's certificate is wrong */
	MTA_STS_INVALID    /* what it gave is no policy */
};

/* policy NULL: none, or not to be had (fault). A view; mta_sts_policy_ref() keeps it. */
typedef void mta_sts_fn(void *arg, struct mta_sts_policy *policy, enum mta_sts_fault fault);

/* path: the file of what is remembered; made when there is something; damaged lines of it are passed over. NULL: none. */
struct mta_sts *mta_sts_new(struct loop *loop, const char *path);
/* Instead of MTA_STS_FETCH_MS, for tests. Before the first question. */
void mta_sts_set_fetch_ms(struct mta_sts *m, uint64_t ms);
/* On the loop: no more fetches, nobody waits any more. */
void mta_sts_end(struct mta_sts *m);
/* After that, on the loop or after its end; writes what is not written yet. */
void mta_sts_free(struct mta_sts **m);
/* tls: verifies web servers. fn is called later, never from within. */
void mta_sts_ask(struct mta_sts *m, const char *domain, struct tls *tls, uint64_t dns_ms, mta_sts_fn *fn,
	void *arg, struct mta_sts_request **request_out);
/* fn will not be called. NULL is taken. */
void mta_sts_cancel(struct mta_sts_request **request);

struct mta_sts_policy *mta_sts_policy_ref(struct mta_sts_policy *policy);
void mta_sts_policy_unref(struct mta_sts_policy **policy);
bool mta_sts_policy_has_host(const struct mta_sts_policy *policy, const char *host);

/* The file's form, for tests: a line of an entry without its end; appends, or reads. ERR_SYNTAX. */
void mta_sts_write_line(struct buf *out, const char *domain, const struct mta_sts_policy *policy);
MUST_CHECK int mta_sts_read_line(struct slice line, char **domain_out, struct mta_sts_policy **policy_out);
