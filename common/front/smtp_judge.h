/*
 * The acceptance rules of one session: runs them at each phase, finds out what they want to know, and keeps what they have decided for
 * the transaction. Belongs to its front and to its loop; made when the policy has rules, gone with the session.
 *
 *	smtp_front --smtp_judge_begin(phase)--> rules --a fact is missing--> smtp_lookup --> rules ... --> smtp_front_judged()
 *
 * For the files of smtp_front, and for the content stage.
 */
#pragma once

#include "common/front/smtp_content.h"
#include "common/front/smtp_rule.h"

struct smtp_judge;
struct smtp_policy;

/* What the front gives to the tier when the phase is over; texts in the front's arena or the judge's. */
struct smtp_judged {
	enum smtp_phase phase;
	const struct smtp_answer *refusal; /* NULL: go on */
	struct smtp_mail mail;             /* MAIL */
	struct smtp_rcpt rcpt;             /* RCPT; perhaps redirected */
	unsigned index;                    /* RCPT */
};

/* Is there a rule of this phase, or something to find out, for this session? */
bool smtp_judge_is_wanted(const struct smtp_front *front, enum smtp_phase phase);
/* Ends in smtp_front_judged(front, judged): from within, or later, the front being in SMTP_CHECK meanwhile. mail or rcpt as the phase
 * has it, copied; their texts stay good (the front's arena is not reset in SMTP_CHECK). */
void smtp_judge_connect(struct smtp_front *front);
void smtp_judge_helo(struct smtp_front *front);
void smtp_judge_mail(struct smtp_front *front, const struct smtp_mail *mail);
void smtp_judge_rcpt(struct smtp_front *front, unsigned index, const struct smtp_rcpt *rcpt);
/* In smtp_front.c. */
void smtp_front_judged(struct smtp_front *front, const struct smtp_judged *judged);

/* What the rules have decided for the transaction is forgotten. NULL is taken. */
void smtp_judge_end_transaction(struct smtp_judge *judge);
void smtp_judge_free(struct smtp_judge **judge);
/* Header fields that rules have added before the content was seen, whole lines. Views; NULL is taken. */
struct slice smtp_judge_added(const struct smtp_judge *judge);
/* Why the message is to be held; NULL: it is not. */
const char *smtp_judge_held(const struct smtp_judge *judge);
const struct smtp_wish *smtp_judge_wish(const struct smtp_judge *judge);
/* Appends what a rate-limit counts by. */
void smtp_judge_rate_key(const struct smtp_facts *facts, const struct smtp_rule *rule,
	const struct smtp_action *action, struct buf *out);
/* The answer of an action that refuses (or of a rate that is exceeded): views of the action. */
void smtp_judge_answer(
	const struct smtp_action *action, enum smtp_phase phase, struct smtp_answer *answer_out);
/* Appends a header field that the tier gets before the client's octets; controls become '?'. For what is found out before the
 * content comes (Received-SPF). raw: whole lines, or nothing. */
void smtp_judge_add_field(struct smtp_front *front, struct slice raw);

/* The rules of the phases header and data. */
extern const struct smtp_stage smtp_judge_header_stage, smtp_judge_data_stage;
