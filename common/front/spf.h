/*
 * Checks senders by SPF (RFC 7208): DNS by common/net/dns.h, records held against the RFC's grammar here, evaluated by libspf2 in
 * processes of their own without rights (common/spf, common/front/spf_pool.h). Look-ups are counted here: ten terms, two that find
 * nothing, ten hosts of an MX. `exp=` is never looked at. A checker that crashes is temperror for one check and a line in the log.
 *
 * A service is the program's; a check belongs to the loop that began it.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/proto/spf_wire.h"

struct spf_service;

struct spf_options {
	const char
		*program; /* the checker; NULL: ../libexec/mailtier-spf beside the folder of this program */
	unsigned loops;   /* of the group, by loop_index() */
	unsigned least, most; /* checkers of each loop */
};
struct spf_service *spf_service_new(const struct spf_options *options);
/* Is the checker there? ERR_CONFIG with the reason in why. program as in the options. */
MUST_CHECK int spf_program_check(const char *program, struct buf *why);
/* Any thread: ends the checkers of a loop, on it; no check may be begun on it afterwards. Before the loop is stopped. */
void spf_service_leave(struct spf_service *service, struct loop *loop);
/* On the loop: checks that run there end now, with temperror; none is begun any more. */
void spf_service_cut(struct spf_service *service, struct loop *loop);
/* After the loops have ended, or left. A service of one loop alone, which is the caller's, needs no leave. */
void spf_service_free(struct spf_service **service);

/* "none", "neutral", "pass", "fail", "softfail", "temperror", "permerror". */
const char *spf_result_word(enum spf_result result);

struct spf_question {
	struct addr client;
	struct slice helo;
	struct slice
		sender; /* local@domain; empty: the null sender, or a check of HELO alone (section 2.3, 2.4) */
};

struct spf_answer {
	enum spf_result result;
	bool is_helo;       /* the identity that was checked is HELO */
	const char *domain; /* of it, in lower case */
	const char *
		term; /* that matched ("ip4:192.0.2.0/24"), or what is wrong with the record or the DNS; "" */
};

struct spf_check;
/* Views, valid during the call. */
typedef void spf_fn(void *arg, const struct spf_answer *answer);
/* fn is called later on this loop, never from within; after timeout_ms at the latest, with temperror. Copies the question. Cannot fail. */
void spf_check(struct spf_service *service, struct loop *loop, const struct spf_question *question,
	uint64_t timeout_ms, spf_fn *fn, void *arg, struct spf_check **check_out);
/* fn will not be called. NULL is taken. */
void spf_cancel(struct spf_check **check);
