/*
 * Who has really sent this message: DKIM, DMARC and ARC of one message, asynchronous on a loop. Keys and policies come from the
 * DNS; the arithmetic of large messages runs on worker threads. A check belongs to its owner, who gets one call, and cancels it
 * when he goes.
 *
 *	header -> plan -> keys, and the author's tree walk, from the DNS -> run -> alignment (more walks) -> fn
 */
#pragma once

#include "common/front/mail_auth_plan.h"
#include "common/front/mail_auth_walk.h"
#include "common/net/work.h"

/* Up to so many octets and signatures the arithmetic is done on the loop: handing over would cost more. */
#define MAIL_AUTH_INLINE_MOST ((uint64_t)32 * 1024)
#define MAIL_AUTH_INLINE_SIGNATURES 2
/* Jobs that wait for a worker; beyond it results are temperror. */
#define MAIL_AUTH_QUEUE_MOST 256

/* Worker threads, of the program: once, before the loops get mail; without them everything is done on the loop. */
MUST_CHECK int mail_auth_workers_start(unsigned threads);
/* Before the loops end: what runs ends, what waits is cancelled. Then, after them, free. */
void mail_auth_workers_end(void);
void mail_auth_workers_free(void);
/* For who signs: runs the job on a worker, as work_submit(). ERR_UNSUPPORTED: there are none. */
MUST_CHECK int mail_auth_workers_submit(struct loop *loop, struct work *work);

struct mail_auth_input {
	struct slice header; /* with or without its empty line; copied */
	const struct spool *spool;
	uint64_t body_at;
	struct mail_auth_wants wants;
	bool dmarc;
	uint64_t dns_timeout_ms;
	enum smtp_result spf;    /* of MAIL FROM */
	struct slice spf_domain; /* copied */
};

struct mail_auth_dmarc {
	enum smtp_result result; /* NONE, PASS, FAIL, TEMPERROR, PERMERROR; UNKNOWN: not checked */
	const char *why;         /* fixed text; NULL: nothing to say */
	struct slice domain;     /* the author's; empty: there is not one */
	bool is_ambiguous;       /* there are several authors, or none that can be read */
	bool has_policy;
	enum dmarc_policy policy;   /* what the domain asks for when it fails */
	struct slice policy_domain; /* where the record stands */
};

struct mail_auth;
typedef void mail_auth_fn(void *arg);
/* dns: &mail_auth_dns_real. fn is called later, never from within. */
struct mail_auth *mail_auth_start(struct loop *loop, const struct mail_auth_dns *dns,
	const struct mail_auth_input *input, mail_auth_fn *fn, void *arg);
/* Before the call: ends it without. After it: frees the results. */
void mail_auth_free(struct mail_auth **check);

/* The results, once fn is called. Views of the check. */
const struct mail_auth_plan *mail_auth_results(const struct mail_auth *check);
const struct mail_auth_dmarc *mail_auth_dmarc(const struct mail_auth *check);
/* "pass", ... as DKIM's best signature has it: pass, then temperror, fail, policy, neutral, permerror, none. */
enum smtp_result mail_auth_best(const struct mail_auth_plan *plan);
