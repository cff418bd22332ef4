/*
 * The filters of one SMTP session (common/front/milter_chain.h), told of each step as it comes. For the files of smtp_front and for the
 * content stage; belongs to its front and to its loop. Made at the first step of a session whose policy has filters.
 *
 * A session whose client changes (XCLIENT) begins anew with its filters; what comes before a step and was not told yet is told first.
 */
#pragma once

#include "common/front/milter_chain.h"
#include "common/front/smtp_content.h"

struct milter_watch;

/* The session's policy has filters. */
bool milter_watch_is_wanted(const struct smtp_front *front);
/*
 * Tells one step: CONNECT, HELO, MAIL (mail), RCPT (rcpt), UNKNOWN (line). The answer may come from within, and is then MILTER_GO_ON
 * or MILTER_REFUSED: a message that is to be discarded goes on, see milter_watch_is_discarded(). mail and rcpt stay until the
 * answer.
 */
void milter_watch_connect(struct smtp_front *front, milter_fn *fn, void *arg);
void milter_watch_helo(struct smtp_front *front, milter_fn *fn, void *arg);
void milter_watch_mail(struct smtp_front *front, const struct smtp_mail *mail, milter_fn *fn, void *arg);
void milter_watch_rcpt(struct smtp_front *front, const struct smtp_rcpt *rcpt, milter_fn *fn, void *arg);
void milter_watch_unknown(struct smtp_front *front, struct slice line, milter_fn *fn, void *arg);

/* A rule wants this filter (its title) to see the present message as well; once more is no difference. */
void milter_watch_call(struct smtp_front *front, const char *title);
/* Those; returns how many. */
size_t milter_watch_called(
	const struct smtp_front *front, const struct milter_settings *settings_out[MILTERS_MOST]);
/* A filter wants the present message to be accepted and forgotten. */
bool milter_watch_is_discarded(const struct smtp_front *front);
/* The filters, to show them the message of this transaction; NULL: they have not been told of it. */
struct milter_chain *milter_watch_chain(const struct smtp_front *front);

/* The transaction is over. NULL is taken. */
void milter_watch_end_transaction(struct milter_watch *watch);
/* The session is over, or another client's. NULL is taken; no answer comes any more. */
void milter_watch_free(struct milter_watch **watch);
