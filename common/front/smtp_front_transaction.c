/*
 * MAIL and RCPT. Replies to RCPT stand in a ring in the order of the commands; an answer of the tier fills
 * its slot, and what is complete at the head leaves.
 */
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/front/smtp_judge.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_session.h"
#include "common/front/smtp_spf.h"
#include "common/proto/smtp_reply.h"

static bool takes_marks(const struct smtp_front *f)
{
	if (f->user && !f->keeps_marks)
		return false;
	return (f->service->is_lmtp || f->service->takes_marks) && smtp_front_is_trusted(f);
}

/* Of RCPT. */
static unsigned legal_of_rcpt(const struct smtp_front *f)
{
	return (f->is_extended && f->service->offers_dsn ? SMTP_PARAMETER_DSN : 0) |
	       (f->is_utf8 ? SMTP_PARAMETER_SMTPUTF8 : 0) | (f->mark.is_set ? SMTP_PARAMETER_XGREY : 0);
}

static unsigned legal_parameters(const struct smtp_front *f)
{
	unsigned legal = 0;

	if (f->is_extended)
		legal = SMTP_PARAMETER_SIZE | SMTP_PARAMETER_BODY | SMTP_PARAMETER_SMTPUTF8;
	if (f->is_extended && f->service->auth && f->service->ops->login)
		legal |= SMTP_PARAMETER_AUTH;
	if (f->is_extended && f->service->offers_dsn)
		legal |= SMTP_PARAMETER_DSN;
	if (f->is_extended && f->service->offers_requiretls && conn_is_secure(f->conn))
		legal |= SMTP_PARAMETER_REQUIRETLS;
	if (takes_marks(f))
		legal |= SMTP_PARAMETER_XMARK;
	return legal;
}

void smtp_front_end_transaction(struct smtp_front *f, enum smtp_reset how)
{
	bool was_mail = f->is_mail;

	/* RSET between two chunks. */
	smtp_front_cut_body(f);
	f->is_mail = f->is_over = false;
	f->is_sent_owed = false;
	f->index = f->accepted = f->pending = 0;
	while (f->ring_count) {
		free(f->ring[f->ring_head].line);
		f->ring_head = (f->ring_head + 1) % SMTP_PENDING_MOST;
		f->ring_count--;
	}
	smtp_front_clear_body(f);
	smtp_judge_end_transaction(f->judge);
	milter_watch_end_transaction(f->milters);
	smtp_spf_free(&f->spf);
	if (f->facts)
		smtp_facts_end_transaction(f->facts);
	if (was_mail)
		f->service->ops->reset(f, how);
}

/* Says why MAIL may not come now; false: it may. */
static bool is_mail_out_of_order(struct smtp_front *f)
{
	const struct smtp_service *s = f->service;

	if (!f->helo)
		SMTP_WRONG(f, 503, "5.5.1", s->is_lmtp ? "LHLO first" : "EHLO first");
	else if (f->is_mail && !f->is_over)
		SMTP_WRONG(f, 503, "5.5.1", "One MAIL at a time");
	else if (s->requires_tls && !conn_is_secure(f->conn))
		SMTP_WRONG(f, 530, "5.7.0", "STARTTLS first");
	else if (s->requires_login && !f->user)
		SMTP_WRONG(f, 530, "5.7.0", "Log in first");
	else if (s->is_lmtp && !smtp_front_is_trusted(f))
		SMTP_WRONG(f, 550, "5.7.1", "Only for trusted proxies");
	else
		return false;
	return true;
}

static void say_mail_error(struct smtp_front *f, int err)
{
	if (err == ERR_UNSUPPORTED)
		SMTP_REFUSE(f, 555, "5.5.4", "Unknown parameter");
	else if (err == ERR_TOO_BIG)
		SMTP_REFUSE(f, 501, "5.1.7", "Sender is too long");
	else
		SMTP_REFUSE(f, 501, "5.5.4", "Cannot read that");
}

/* What is always found out is there: the rules' turn. */
static void judge_mail(struct smtp_front *f, const struct smtp_mail *mail)
{
	if (smtp_judge_is_wanted(f, SMTP_PHASE_MAIL))
		smtp_judge_mail(f, mail);
	else
		smtp_front_judged_mail(f, &(struct smtp_judged){.phase = SMTP_PHASE_MAIL, .mail = *mail});
}

void smtp_front_mail(struct smtp_front *f, struct slice rest)
{
	struct smtp_mail mail;
	int err;

	if (is_mail_out_of_order(f))
		return;
	err = smtp_parse_mail(&f->arena, rest, legal_parameters(f), &mail);
	if (err) {
		say_mail_error(f, err);
		return;
	}
	if (mail.path.is_utf8 && !mail.is_utf8) {
		SMTP_REFUSE(f, 553, "5.6.7", "Such an address needs SMTPUTF8");
		return;
	}
	if (f->service->limits.message_size && mail.size > f->service->limits.message_size) {
		SMTP_REFUSE(f, 552, "5.3.4", "Message is too big");
		return;
	}
	smtp_front_end_transaction(f, SMTP_RESET_ORDER);
	if (smtp_spf_begin(f, &mail.path, rest))
		smtp_front_enter(f, SMTP_CHECK);
	else
		judge_mail(f, &mail);
}

void smtp_front_spf_done(struct smtp_front *f)
{
	struct smtp_mail mail;

	/* It has been read before, and nothing has changed but that there is a result. */
	if (smtp_parse_mail(&f->arena, smtp_spf_rest(f->spf), legal_parameters(f), &mail) == 0) {
		judge_mail(f, &mail);
	} else {
		smtp_front_enter(f, SMTP_COMMAND);
		SMTP_SAY(f, 451, "4.3.0", "Not now");
	}
	if (f->state != SMTP_ENDED)
		smtp_front_pump(f);
}

void smtp_front_judged_mail(struct smtp_front *f, const struct smtp_judged *judged)
{
	const struct smtp_mail *mail = &judged->mail;

	if (judged->refusal) {
		smtp_front_enter(f, SMTP_COMMAND);
		smtp_front_refuse(f, judged->refusal);
		return;
	}
	f->transactions++;
	f->idle_commands = 0;
	f->is_mail = true;
	f->is_utf8 = mail->is_utf8;
	f->mark = mail->mark;
	f->mail_ms = loop_now_ms(f->loop);
	f->data_ms = f->body_ms = f->end_ms = 0;
	smtp_front_set_text(&f->sender, mail->path.address);
	if (smtp_policy_needs_content(f->service->policy))
		f->content = smtp_content_new(f, f->service->policy, mail);
	smtp_front_enter(f, SMTP_MAIL_WAIT);
	f->service->ops->mail(f, mail);
}

void smtp_front_answer_mail(struct smtp_front *f, const struct smtp_answer *answer)
{
	if (f->content && smtp_content_is_feeding(f->content)) {
		smtp_content_answer_mail(f->content, answer);
		return;
	}
	if (f->state != SMTP_MAIL_WAIT)
		return;
	smtp_front_enter(f, SMTP_COMMAND);
	if (answer->code / 100 == 2) {
		smtp_front_say(f, answer);
	} else {
		f->is_mail = false;
		smtp_front_refuse(f, answer);
	}
	smtp_front_pump(f);
}

/* ---- RCPT ---- */

static struct smtp_slot *add_slot(struct smtp_front *f)
{
	struct smtp_slot *slot;

	if (!f->ring)
		f->ring = xcalloc(SMTP_PENDING_MOST, sizeof(*f->ring));
	require(f->ring_count < SMTP_PENDING_MOST);
	slot = &f->ring[(f->ring_head + f->ring_count++) % SMTP_PENDING_MOST];
	*slot = (struct smtp_slot){0};
	return slot;
}

/* A reply that we give ourselves: at its turn. */
static void refuse_rcpt(struct smtp_front *f, const struct smtp_answer *answer, bool is_error)
{
	struct smtp_slot *slot;
	struct buf line = {0};

	if (!f->pending) {
		if (is_error)
			smtp_front_refuse(f, answer);
		else
			smtp_front_say(f, answer);
		return;
	}
	smtp_reply_write(&line, answer->code, answer->enhanced, answer->text);
	slot = add_slot(f);
	slot->is_answered = true;
	slot->line = line.data;
	slot->len = line.end;
	slot->index = UINT32_MAX;
	f->pending++;
	if (is_error)
		smtp_front_count_refusal(f);
}

static const struct smtp_answer *rcpt_error(int err)
{
	static const struct smtp_answer parameter = {555, {"5.5.4", 5}, {"Unknown parameter", 17}};
	static const struct smtp_answer too_big = {501, {"5.1.3", 5}, {"Recipient is too long", 21}};
	static const struct smtp_answer syntax = {501, {"5.1.3", 5}, {"Cannot read that", 16}};

	return err == ERR_UNSUPPORTED ? &parameter : err == ERR_TOO_BIG ? &too_big : &syntax;
}

void smtp_front_rcpt(struct smtp_front *f, struct slice rest)
{
	struct smtp_rcpt rcpt;
	struct smtp_slot *slot;
	int err;

	if (!f->is_mail || f->is_over || f->is_bdat) {
		SMTP_WRONG(f, 503, "5.5.1", f->is_bdat ? "BDAT has begun" : "MAIL first");
		return;
	}
	err = smtp_parse_rcpt(&f->arena, rest, legal_of_rcpt(f), &rcpt);
	if (err) {
		refuse_rcpt(f, rcpt_error(err), true);
		return;
	}
	if (rcpt.path.is_utf8 && !f->is_utf8) {
		refuse_rcpt(f, SMTP_ANSWER(553, "5.6.7", "Such an address needs SMTPUTF8"), true);
		return;
	}
	if (f->accepted + f->pending >= f->service->limits.recipients) {
		refuse_rcpt(f, SMTP_ANSWER(452, "4.5.3", "Too many recipients"), false);
		return;
	}
	slot = add_slot(f);
	slot->index = f->index++;
	f->pending++;
	if (smtp_judge_is_wanted(f, SMTP_PHASE_RCPT))
		smtp_judge_rcpt(f, slot->index, &rcpt);
	else
		smtp_front_judged_rcpt(f,
			&(struct smtp_judged){.phase = SMTP_PHASE_RCPT, .rcpt = rcpt, .index = slot->index});
}

void smtp_front_judged_rcpt(struct smtp_front *f, const struct smtp_judged *judged)
{
	smtp_front_enter(f, SMTP_RCPT_WAIT);
	if (judged->refusal) {
		smtp_front_answer_rcpt(f, judged->index, judged->refusal);
		return;
	}
	f->wish = *smtp_judge_wish(f->judge);
	if (f->content)
		smtp_content_rcpt(f->content, judged->index, &judged->rcpt);
	f->service->ops->rcpt(f, judged->index, &judged->rcpt);
}

static void count_rcpt(struct smtp_front *f, unsigned code)
{
	struct smtp_counters *c = f->service->counters;

	metric_add(code / 100 == 2 ? c->rcpt_yes : code / 100 == 4 ? c->rcpt_later : c->rcpt_no, 1);
}

static void accept_rcpt(struct smtp_front *f, unsigned index)
{
	f->accepted++;
	if (f->content)
		smtp_content_rcpt_accepted(f->content, index);
	if (f->accepted > 1 && !f->service->is_lmtp)
		return;
	if (f->ends_count == f->ends_room) {
		f->ends_room = f->ends_room ? f->ends_room * 2 : 4;
		f->ends = xreallocarray(f->ends, f->ends_room, sizeof(*f->ends));
	}
	f->ends[f->ends_count++] = (struct smtp_slot){.index = f->service->is_lmtp ? index : 0};
}

/* Lets go what is complete at the ring's head; recipients are accepted in the order of their commands. */
static void flush_ring(struct smtp_front *f)
{
	bool is_parting = false;

	while (f->ring_count && f->ring[f->ring_head].is_answered) {
		struct smtp_slot *slot = &f->ring[f->ring_head];

		conn_write(f->conn, slice_of(slot->line, slot->len));
		if (slot->index != UINT32_MAX && *slot->line == '2')
			accept_rcpt(f, slot->index);
		is_parting |= slice_has_prefix(slice_of(slot->line, slot->len), "421 ");
		free(slot->line);
		slot->line = NULL;
		f->ring_head = (f->ring_head + 1) % SMTP_PENDING_MOST;
		f->ring_count--;
		f->pending--;
	}
	if (is_parting)
		smtp_front_part(f);
}

static struct smtp_slot *find_slot(struct smtp_front *f, unsigned index)
{
	for (unsigned i = 0; i < f->ring_count; i++) {
		struct smtp_slot *slot = &f->ring[(f->ring_head + i) % SMTP_PENDING_MOST];

		if (slot->index == index && !slot->is_answered)
			return slot;
	}
	return NULL;
}

void smtp_front_answer_rcpt(struct smtp_front *f, unsigned index, const struct smtp_answer *answer)
{
	bool may = f->state == SMTP_RCPT_WAIT || f->state == SMTP_CHECK;
	struct smtp_slot *slot = may ? find_slot(f, index) : NULL;
	struct buf line = {0};

	if (f->content && smtp_content_is_feeding(f->content)) {
		smtp_content_answer_rcpt(f->content, index, answer);
		return;
	}
	if (!slot)
		return;
	smtp_reply_write(&line, answer->code, answer->enhanced, answer->text);
	slot->line = line.data;
	slot->len = line.end;
	slot->is_answered = true;
	count_rcpt(f, answer->code);
	if (answer->code / 100 == 5)
		smtp_front_count_refusal(f);
	flush_ring(f);
	if (f->state == SMTP_ENDED)
		return;
	if (!f->ring_count)
		smtp_front_enter(f, SMTP_COMMAND);
	if (f->errors >= f->service->limits.errors && !f->pending) {
		SMTP_SAY(f, 421, "4.7.0", "Too many errors");
		smtp_front_end(f, "too many errors");
		return;
	}
	smtp_front_pump(f);
}
