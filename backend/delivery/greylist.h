/*
 * Greylisting of mail for accounts here (backend/store/store_greylist.h): a sender who has never written to this recipient from this network
 * is put off once. Asked by the sessions that take mail in, where a rule wants it: a proxy of ours by RCPT's XGREY, or the back-end's own.
 */
#pragma once

#include "backend/delivery/delivery.h"
#include "backend/store/store_greylist.h"
#include "common/base/list.h"
#include "common/conf/conf.h"

/* Rows of the back-end's table of keys: section "greylist". */
extern const struct conf_key greylist_keys[];
#define GREYLIST_SECTION                                                                                     \
	{                                                                                                    \
		"greylist", CONF_RELOAD, NULL, "Who is put off where an acceptance rule says `greylist`"     \
	}
void greylist_terms(const struct conf *conf, struct store_greylist_terms *terms_out);

struct greylist_question {
	struct store_work *work;
	struct loop *loop;
	struct list *pending; /* of the session: for greylist_cancel_all() */
	struct store_greylist_terms terms;
	struct slice network; /* of the client ("192.0.2.0/24"; any text serves) */
	struct slice sender;
	unsigned index; /* the session's, given back */
	const struct smtp_rcpt *rcpt;
};

/* err 0: wait_s as store_greylist_ask() says; else it cannot be said now. rcpt is a copy, good during the call. */
typedef void greylist_fn(void *arg, unsigned index, const struct smtp_rcpt *rcpt, uint64_t wait_s, int err);
/* True: fn comes later on the loop. False: there is nothing to ask: the address is none, or no account here takes mail for it. */
bool greylist_ask(const struct greylist_question *question, greylist_fn *fn, void *arg);
/* The questions of a session are forgotten; their fn will not be called. */
void greylist_cancel_all(struct list *pending);
/* The answer to one who has to wait, or who cannot be told now (err). room: for its text. */
#define GREYLIST_TEXT_MOST 80
void greylist_answer(uint64_t wait_s, int err, char room[GREYLIST_TEXT_MOST], unsigned *code_out,
	struct slice *enhanced_out, struct slice *text_out);
