/*
 * DMARC's tree walk (RFC 9989 section 4.10) over the DNS: all its names are asked at once, at most DMARC_WALK_MOST. Embedded in its
 * owner; belongs to the owner's loop.
 */
#pragma once

#include "common/net/dns.h"
#include "common/proto/dmarc.h"

/* Who is asked: dns.h, or what a test has in its place. */
struct mail_auth_dns {
	int (*ask)(struct loop *loop, const char *name, enum dns_type type, uint64_t timeout_ms, dns_fn *fn,
		void *arg, struct dns_request **request_out);
	void (*cancel)(struct dns_request **request);
};
extern const struct mail_auth_dns mail_auth_dns_real;

struct mail_auth_walk;
struct mail_auth_walk_step {
	struct mail_auth_walk *owner;
	struct dns_request *request;
	bool is_failed; /* no answer that counts */
};
struct mail_auth_walk {
	struct dmarc_walk walk; /* its domain is the owner's memory */
	/* private */
	const struct mail_auth_dns *dns;
	loop_fn *fn;
	void *arg;
	unsigned pending;
	struct mail_auth_walk_step steps[DMARC_WALK_MOST];
};
/* fn(arg) is called later, once all is answered or timeout_ms has passed; never from within. False: nothing can be asked; then
 * there is no call, and the walk is unsure. */
bool mail_auth_walk_start(struct mail_auth_walk *walk, const struct mail_auth_dns *dns, struct loop *loop,
	struct slice domain, uint64_t timeout_ms, loop_fn *fn, void *arg);
void mail_auth_walk_cancel(struct mail_auth_walk *walk);
/* A question that could change what was found has no answer now. */
bool mail_auth_walk_is_unsure(const struct mail_auth_walk *walk);
