/*
 * The body to all legs, and their answers to one:
 *
 *	all 2yz -> 250      all 5yz -> the first of them      any 4yz, a mixture, or a lost leg -> 451
 *
 * Legs are given back in order only when the client has been sent its answer, and only after 250 or 5yz. After 451 they are cut
 * before the client hears of it: what has been stored keeps its mark, and the client's repeat will not store it again.
 * Fault point: smtp-after-leg, when one leg has answered and others have not.
 */
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/smtp_content.h"
#include "proxy/smtp_client.h"

#include <stdlib.h>

#define for_each_share(s, c)                                                                                 \
	list_for_each_safe (at_, &(c)->shares)                                                               \
		for (struct smtp_share *s = container_of(at_, struct smtp_share, link); s; s = NULL)

static const struct smtp_answer later = {
	451, {"4.3.0", 5}, {"Not delivered to all yet, try again later", 41}};

static void cut_legs(struct smtp_client *c)
{
	for_each_share(s, c) smtp_leg_cut(&s->leg);
}

void smtp_body_cut(struct smtp_client *c)
{
	cut_legs(c);
	c->is_data = false;
	c->is_ended = false;
}

/* ---- the beginning ---- */

static void body_may_come(struct smtp_client *c)
{
	for_each_share(s, c)
	{
		if (s->leg)
			smtp_leg_body(s->leg, buf_view(&c->received));
	}
	smtp_front_answer_data(c->front, SMTP_ANSWER(354, "", ""));
}

static void refuse_data(struct smtp_client *c)
{
	struct slice line = buf_view(&c->first_no);
	bool is_no = c->has_no && !c->has_later && !c->has_yes;
	struct smtp_answer no = {
		c->no_code, slice_sub(line, 0, c->no_enhanced), slice_from(line, c->no_enhanced)};

	cut_legs(c);
	c->is_data = false;
	smtp_front_answer_data(c->front, is_no ? &no : &later);
}

/* What rules and filters have made of the message since MAIL. False: it is to be held, and a back-end cannot. */
static bool tell_marks(struct smtp_client *c)
{
	const char *held = smtp_front_held(c->front);
	struct smtp_mark mark;
	bool is_told = true;

	smtp_front_mark(c->front, &mark);
	if (!mark.prefix && !mark.has_digest && !held)
		return true;
	mark.prefix += buf_len(&c->received);
	for_each_share(s, c)
	{
		if (!s->leg || smtp_leg_mark(s->leg, &mark, held) || !held)
			continue;
		log_error("proxy", "%s: this back-end cannot hold a message in quarantine backend=%s",
			smtp_front_session(c->front), s->backend->name);
		is_told = false;
	}
	return is_told;
}

void smtp_body_begin(struct smtp_client *c)
{
	bool is_lost = false;

	c->is_data = true;
	for_each_share(s, c)
	{
		if (s->accepted && !s->leg)
			is_lost = true;
		if (!s->accepted)
			smtp_leg_release(&s->leg);
	}
	if (is_lost || !tell_marks(c)) {
		c->has_later = true;
		refuse_data(c);
		return;
	}
	for_each_share(s, c)
	{
		if (s->leg && smtp_leg_data(s->leg)) {
			s->is_data_asked = true;
			c->data_due++;
		}
	}
	if (!c->data_due)
		body_may_come(c);
}

static void keep_no(struct smtp_client *c, const struct smtp_reply *reply)
{
	c->has_no = true;
	if (c->no_code)
		return;
	c->no_code = reply->code;
	c->no_enhanced = reply->enhanced.len;
	buf_add_slice(&c->first_no, reply->enhanced);
	buf_add_slice(&c->first_no, reply->text);
}

static void note_answer(struct smtp_client *c, const struct smtp_reply *reply)
{
	if (reply->code / 100 == 2)
		c->has_yes = true;
	else if (reply->code / 100 == 5)
		keep_no(c, reply);
	else
		c->has_later = true;
}

void smtp_body_data_answer(struct smtp_share *s, const struct smtp_reply *reply)
{
	struct smtp_client *c = s->client;

	if (!s->is_data_asked)
		return;
	s->is_data_asked = false;
	if (reply->code == 354)
		c->has_yes = true;
	else
		note_answer(c, reply);
	if (--c->data_due)
		return;
	if (c->has_no || c->has_later) {
		refuse_data(c);
		return;
	}
	c->has_yes = false;
	body_may_come(c);
}

/* ---- octets ---- */

static bool is_congested(struct smtp_client *c)
{
	bool is = false;

	for_each_share(s, c)
	{
		if (s->leg && smtp_leg_is_congested(s->leg))
			is = true;
	}
	return is;
}

void smtp_body_chunk(struct smtp_client *c, struct slice bytes)
{
	if (c->is_answered)
		return;
	for_each_share(s, c)
	{
		if (s->leg)
			smtp_leg_body(s->leg, bytes);
	}
	if (is_congested(c))
		smtp_front_hold_data(c->front, true);
}

void smtp_body_drained(struct smtp_client *c)
{
	if (c->is_data && !c->is_ended && !is_congested(c))
		smtp_front_hold_data(c->front, false);
}

/* ---- the end ---- */

static void answer_client(struct smtp_client *c, const struct smtp_answer *answer)
{
	c->is_answered = true;
	smtp_front_answer_end(c->front, 0, answer);
}

/* One line each, of those that were accepted. */
static void log_recipients(struct smtp_client *c, const struct smtp_answer *answer)
{
	enum smtp_log_end end = c->service == CONFIG_SUBMISSION ? SMTP_LOG_ACCEPTED : SMTP_LOG_SENT;

	list_for_each (at, &c->recipients) {
		const struct smtp_recipient *r = container_of(at, struct smtp_recipient, link);

		if (r->state == SMTP_RECIPIENT_ACCEPTED)
			smtp_log_recipient(
				c->front, slice_str(r->wire), r->share->backend->name, answer, end);
	}
}

/* Cut first: when the client repeats, no leg of this transaction may still look alive. */
static void answer_later(struct smtp_client *c)
{
	cut_legs(c);
	log_recipients(c, &later);
	answer_client(c, &later);
}

static void combine(struct smtp_client *c)
{
	struct slice line = buf_view(&c->first_no);
	struct smtp_answer no = {
		c->no_code, slice_sub(line, 0, c->no_enhanced), slice_from(line, c->no_enhanced)};
	char text[FRONT_SESSION_MOST + 32];
	struct smtp_answer yes = {250, SLICE_LIT("2.0.0"), SLICE_LIT("")};

	if (c->has_later || (c->has_yes && c->has_no)) {
		answer_later(c);
	} else if (c->has_no) {
		log_recipients(c, &no);
		answer_client(c, &no);
	} else {
		snprintf(text, sizeof(text), "Delivered, session %s", smtp_front_session(c->front));
		yes.text = slice_str(text);
		log_recipients(c, &yes);
		answer_client(c, &yes);
	}
}

static size_t accepted_numbers(struct smtp_share *s, unsigned *numbers)
{
	size_t count = 0;

	list_for_each (at, &s->client->recipients) {
		struct smtp_recipient *r = container_of(at, struct smtp_recipient, link);

		if (r->share == s && r->state == SMTP_RECIPIENT_ACCEPTED)
			numbers[count++] = r->index;
	}
	return count;
}

void smtp_body_end(struct smtp_client *c)
{
	unsigned total = 0, *numbers;

	c->is_ended = true;
	if (c->is_answered)
		return;
	for_each_share(s, c) total += s->accepted;
	numbers = xcalloc(total + 1, sizeof(*numbers));
	for_each_share(s, c)
	{
		size_t count = accepted_numbers(s, numbers);

		if (!s->leg || !count)
			continue;
		s->answers_due = smtp_leg_is_smtp(s->leg) ? 1 : (unsigned)count;
		c->ends_due += s->answers_due;
		smtp_leg_end(s->leg, numbers, count);
	}
	free(numbers);
}

/* Submission has one leg: its answer is the answer. After 4yz the leg is cut, so that the marks of what may have been stored stay. */
static void pass_answer(struct smtp_share *s, const struct smtp_reply *reply)
{
	struct smtp_client *c = s->client;
	struct smtp_answer answer = {reply->code, reply->enhanced, reply->text};

	if (reply->code / 100 != 2 && reply->code / 100 != 5) {
		answer_later(c);
		return;
	}
	log_recipients(c, &answer);
	answer_client(c, &answer);
}

void smtp_body_end_answer(struct smtp_share *s, const struct smtp_reply *reply)
{
	struct smtp_client *c = s->client;

	if (c->is_answered || !s->answers_due)
		return;
	s->answers_due--;
	c->ends_due--;
	if (c->service == CONFIG_SUBMISSION) {
		pass_answer(s, reply);
		return;
	}
	note_answer(c, reply);
	if (c->ends_due)
		FAULT("smtp-after-leg");
	else
		combine(c);
}

void smtp_body_leg_lost(struct smtp_share *s)
{
	struct smtp_client *c = s->client;

	if (c->is_answered)
		return;
	c->has_later = true;
	if (s->is_data_asked) {
		s->is_data_asked = false;
		if (!--c->data_due)
			refuse_data(c);
		return;
	}
	if (c->data_due)
		return;
	/*
	 * After its end the other legs have the message whole and may be storing it. A client that heard 451 now could repeat
	 * before they commit: the repeat would meet no mark, be stored, and the first one after it. So their answers are waited for.
	 */
	if (c->is_ended) {
		c->ends_due -= s->answers_due;
		s->answers_due = 0;
		if (!c->ends_due)
			combine(c);
		return;
	}
	/* Amid the body the client is told at its end; from now on its octets go nowhere. */
	answer_later(c);
	smtp_front_hold_data(c->front, false);
}

void smtp_body_sent(struct smtp_client *c)
{
	c->is_data = false;
	for_each_share(s, c) smtp_leg_release(&s->leg);
}
