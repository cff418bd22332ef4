/*
 * Bodies by DATA and BDAT, and the answers to their end. A body that breaks a rule is refused at its end;
 * from the breach on the tier knows (data_cut) and its octets go nowhere. What is decoded goes to the tier at
 * once; nothing is kept here.
 */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/crypto/digest.h"
#include "common/front/smtp_judge.h"
#include "common/front/smtp_session.h"
#include "common/front/smtp_spf.h"
#include "common/proto/smtp_reply.h"

#define ANSWER(code, enhanced, text)                                                                         \
	{                                                                                                    \
		(code), {(enhanced), sizeof(enhanced) - 1},                                                  \
		{                                                                                            \
			(text), sizeof(text) - 1                                                             \
		}                                                                                            \
	}

static const struct smtp_answer fault_answers[] = {
	[SMTP_DATA_NUL] = ANSWER(550, "5.6.0", "NUL octets are not taken"),
	[SMTP_DATA_BARE_NEWLINE] = ANSWER(550, "5.6.0", "A bare CR or LF is not taken; lines end with CRLF"),
	[SMTP_DATA_LONG_LINE] = ANSWER(550, "5.6.0", "A line is too long"),
};
static const struct smtp_answer too_big = ANSWER(552, "5.3.4", "Message is too big");
static const struct smtp_answer foreign_from = ANSWER(550, "5.7.1", "The From of this message is not yours");
static const struct smtp_answer big_header = ANSWER(552, "5.3.4", "The header of this message is too big");
static const struct smtp_answer looping = ANSWER(554, "5.4.6", "Too many hops: this message goes in circles");

void smtp_front_clear_body(struct smtp_front *f)
{
	for (unsigned i = 0; i < f->ends_count; i++)
		free(f->ends[i].line);
	free(f->ends);
	f->ends = NULL;
	f->ends_count = f->ends_room = f->ends_at = 0;
	buf_deinit(&f->body);
	buf_deinit(&f->refusal);
	smtp_complete_free(&f->complete);
	digest_free(&f->digest);
	f->has_digest = false;
	f->size = f->chunk_left = f->discarded = 0;
	f->is_bdat = f->is_chunk_last = f->is_discarding = f->is_held = false;
	f->body_answer = NULL;
}

void smtp_front_cut_body(struct smtp_front *f)
{
	f->is_discarding = true;
	smtp_content_free(&f->content);
	if (!f->is_body_open)
		return;
	f->is_body_open = false;
	f->service->ops->data_cut(f);
}

static bool is_own(void *arg, struct slice address)
{
	struct smtp_front *f = arg;

	return f->service->ops->is_own && f->service->ops->is_own(f, address);
}

static void begin_complete(struct smtp_front *f)
{
	struct smtp_complete_options options;

	if (!f->service->complete)
		return;
	options = *f->service->complete;
	options.host = f->service->host;
	options.user = smtp_front_user(f);
	options.unix_s = clock_wall_s();
	options.is_own = is_own;
	options.arg = f;
	smtp_complete_free(&f->complete);
	f->complete = smtp_complete_new(&options);
	digest_free(&f->digest);
	f->digest = digest_new(DIGEST_SHA256);
	f->digest_skip = f->mark.prefix;
	f->has_digest = false;
}

bool smtp_front_client_digest(const struct smtp_front *f, uint8_t digest_out[SMTP_DIGEST_LEN])
{
	if (f->has_digest)
		memcpy(digest_out, f->client_digest, SMTP_DIGEST_LEN);
	return f->has_digest;
}

static void begin_body(struct smtp_front *f, bool is_bdat)
{
	smtp_data_decode_init(&f->decoder, f->service->bare, !is_bdat);
	f->hops = (struct smtp_hops){.host = f->service->limits.own_hops ? f->service->host : NULL};
	begin_complete(f);
	smtp_spf_begin_body(f);
	f->is_bdat = is_bdat;
	f->size = f->discarded = 0;
	f->is_discarding = false;
	f->data_ms = loop_now_ms(f->loop);
	smtp_front_enter(f, SMTP_DATA_WAIT);
	if (f->content) {
		/* The tier hears of it when the stages are done. */
		smtp_front_answer_data(f, SMTP_ANSWER(354, "", ""));
		return;
	}
	f->is_body_open = true;
	f->service->ops->data_begin(f);
}

void smtp_front_data(struct smtp_front *f)
{
	if (!f->is_mail || f->is_over || f->is_bdat) {
		SMTP_WRONG(f, 503, "5.5.1", f->is_bdat ? "BDAT has begun" : "MAIL and RCPT first");
		return;
	}
	if (!f->accepted) {
		SMTP_WRONG(f, 554, "5.5.1", "No valid recipients");
		return;
	}
	/* Who sends the body before 354 counts on us to mistake it for something (RFC 2920 section 3.1). */
	if (conn_input(f->conn).len && !f->service->is_lmtp) {
		SMTP_SAY(f, 554, "5.5.1", "You talk before your turn");
		smtp_front_end(f, "input behind DATA");
		return;
	}
	begin_body(f, false);
}

void smtp_front_bdat(struct smtp_front *f, struct slice rest)
{
	bool is_first = !f->is_bdat;

	if (smtp_parse_bdat(rest, &f->chunk_left, &f->is_chunk_last)) {
		/* Without the size the octets that follow cannot be told from commands. */
		SMTP_SAY(f, 501, "5.5.4", "Cannot read that");
		smtp_front_end(f, "BDAT without a size");
		return;
	}
	if (!f->is_extended || !f->is_mail || f->is_over || !f->accepted || f->refusal.end) {
		if (!f->refusal.end)
			smtp_reply_write(
				&f->refusal, 503, SLICE_LIT("5.5.1"), SLICE_LIT("MAIL and RCPT first"));
		f->is_discarding = true;
		smtp_front_enter(f, SMTP_BODY);
		return;
	}
	if (is_first)
		begin_body(f, true);
	else
		smtp_front_enter(f, SMTP_BODY);
}

void smtp_front_answer_data(struct smtp_front *f, const struct smtp_answer *answer)
{
	if (f->content && smtp_content_is_feeding(f->content)) {
		smtp_content_answer_data(f->content, answer);
		return;
	}
	if (f->state != SMTP_DATA_WAIT)
		return;
	if (answer->code != 354)
		f->is_body_open = false;
	if (answer->code == 354) {
		if (!f->is_bdat)
			SMTP_SAY(f, 354, "", "End with CRLF.CRLF");
		f->body_ms = loop_now_ms(f->loop);
		smtp_front_enter(f, SMTP_BODY);
		conn_set_input_limit(f->conn, SMTP_BODY_INPUT_MOST);
		if (!f->content && smtp_judge_added(f->judge).len)
			f->service->ops->data_chunk(f, smtp_judge_added(f->judge));
	} else if (f->is_bdat) {
		smtp_reply_write(&f->refusal, answer->code, answer->enhanced, answer->text);
		f->is_discarding = true;
		smtp_front_enter(f, SMTP_BODY);
	} else {
		smtp_front_enter(f, SMTP_COMMAND);
		smtp_front_wrong(f, answer);
	}
	smtp_front_pump(f);
}

void smtp_front_hold_data(struct smtp_front *f, bool hold)
{
	if (f->content && smtp_content_is_feeding(f->content)) {
		smtp_content_hold_data(f->content, hold);
		return;
	}
	if (f->state == SMTP_ENDED || f->is_held == hold)
		return;
	f->is_held = hold;
	if (hold) {
		conn_pause(f->conn);
		return;
	}
	conn_resume(f->conn);
	if (f->state == SMTP_BODY)
		smtp_front_enter(f, SMTP_BODY);
	smtp_front_pump(f);
}

/* ---- the answers to the end ---- */

static void count_message(struct smtp_front *f, unsigned digit)
{
	struct smtp_counters *c = f->service->counters;

	metric_add(digit == 2 ? c->messages : digit == 4 ? c->messages_later : c->messages_refused, 1);
}

static void log_message(struct smtp_front *f, struct slice line)
{
	char text[ADDR_TEXT_MAX];

	if (log_is_on(LOG_INFO))
		log_write(LOG_INFO, f->service->name,
			"%s: message from=<%s> recipients=%u size=%llu client=%s answer=%.*s", f->session,
			f->sender ? f->sender : "", f->accepted, (unsigned long long)f->size,
			addr_host(&f->client, text), SLICE_ARG(slice_trim(line)));
}

/* The answers have been written: they have left when the output is empty. */
static void all_answered(struct smtp_front *f)
{
	conn_set_input_limit(f->conn, SMTP_INPUT_MOST);
	smtp_front_cut_body(f); /* a spooled one may still be on its way to the tier */
	f->is_over = true;
	f->is_bdat = false;
	buf_deinit(&f->body);
	smtp_front_enter(f, SMTP_COMMAND);
	if (!f->service->ops->sent)
		return;
	conn_flush(f->conn);
	if (f->state == SMTP_ENDED)
		return;
	if (conn_output_len(f->conn)) {
		f->is_sent_owed = true;
		conn_want_drained(f->conn);
	} else {
		f->service->ops->sent(f);
	}
}

/* Writes what is answered, in order. */
static void flush_ends(struct smtp_front *f)
{
	while (f->ends_at < f->ends_count && f->ends[f->ends_at].is_answered) {
		struct smtp_slot *slot = &f->ends[f->ends_at++];

		conn_write(f->conn, slice_of(slot->line, slot->len));
		count_message(f, (unsigned)(*slot->line - '0'));
		if (f->ends_at == f->ends_count)
			log_message(f, slice_of(slot->line, slot->len));
	}
	if (f->ends_at == f->ends_count)
		all_answered(f);
}

static void fill_end(struct smtp_slot *slot, const struct smtp_answer *answer)
{
	struct buf line = {0};

	if (slot->is_answered)
		return;
	smtp_reply_write(&line, answer->code, answer->enhanced, answer->text);
	slot->line = line.data;
	slot->len = line.end;
	slot->is_answered = true;
}

void smtp_front_answer_end(struct smtp_front *f, unsigned index, const struct smtp_answer *answer)
{
	if (f->state == SMTP_ENDED)
		return;
	for (unsigned i = 0; i < f->ends_count; i++) {
		if (f->ends[i].index == index) {
			fill_end(&f->ends[i], answer);
			break;
		}
	}
	if (f->state != SMTP_END_WAIT)
		return;
	flush_ends(f);
	if (f->state == SMTP_COMMAND && answer->code == 421)
		smtp_front_part(f);
	else if (f->state == SMTP_COMMAND)
		smtp_front_pump(f);
}

/* ---- octets ---- */

static void refuse_body(struct smtp_front *f, const struct smtp_answer *answer)
{
	if (f->is_discarding)
		return;
	f->body_answer = answer;
	smtp_front_cut_body(f);
}

static void complete_failed(struct smtp_front *f, int err)
{
	refuse_body(f, err == ERR_DENIED ? &foreign_from : &big_header);
}

/* To the content stage, or at once to the tier. */
static void take_piece(struct smtp_front *f, struct slice bytes)
{
	const struct smtp_answer *refusal = NULL;

	if (f->content)
		refusal = smtp_content_chunk(f->content, bytes);
	else
		f->service->ops->data_chunk(f, bytes);
	if (refusal)
		refuse_body(f, refusal);
}

/* Through the completion of its header, if the service has one. */
static void give_body(struct smtp_front *f, struct slice body)
{
	uint64_t skip = f->digest_skip < body.len ? f->digest_skip : body.len;
	struct buf out = {0};
	int err;

	if (!f->complete) {
		bool is_filtered = smtp_spf_filter(f->spf, body, false, &out);

		if (!is_filtered)
			take_piece(f, body);
		else if (out.end)
			take_piece(f, buf_view(&out));
		buf_deinit(&out);
		return;
	}
	digest_add(f->digest, slice_from(body, (size_t)skip));
	f->digest_skip -= skip;
	err = smtp_complete_add(f->complete, body, &out);
	if (err)
		complete_failed(f, err);
	else if (out.end)
		take_piece(f, buf_view(&out));
	buf_deinit(&out);
}

static void end_complete(struct smtp_front *f)
{
	struct buf out = {0};
	int err;

	if (!f->is_discarding && smtp_spf_filter(f->spf, (struct slice){0}, true, &out)) {
		if (out.end)
			take_piece(f, buf_view(&out));
		buf_deinit(&out);
	}
	if (!f->complete || f->is_discarding)
		return;
	digest_finish(f->digest, f->client_digest);
	f->has_digest = true;
	err = smtp_complete_end(f->complete, &out);
	if (err)
		complete_failed(f, err);
	else if (out.end)
		take_piece(f, buf_view(&out));
	buf_deinit(&out);
}

static void pass_body(struct smtp_front *f)
{
	struct slice body = buf_view(&f->body);
	uint64_t most = f->service->limits.message_size;

	f->size += body.len;
	if (most && f->size > most)
		refuse_body(f, &too_big);
	if (!f->hops.is_past_header)
		smtp_data_count_hops(&f->hops, body);
	if (f->hops.count > f->service->limits.hops ||
		(f->service->limits.own_hops && f->hops.own > f->service->limits.own_hops))
		refuse_body(f, &looping);
	if (f->decoder.fault != SMTP_DATA_OK)
		refuse_body(f, &fault_answers[f->decoder.fault]);
	if (body.len && !f->is_discarding)
		give_body(f, body);
	buf_clear(&f->body);
}

static void end_body(struct smtp_front *f)
{
	if (f->is_held)
		smtp_front_hold_data(f, false);
	f->end_ms = loop_now_ms(f->loop);
	smtp_front_enter(f, SMTP_END_WAIT);
	end_complete(f);
	if (!f->is_discarding && f->content) {
		smtp_content_end(f->content);
		return;
	}
	if (!f->is_discarding) {
		f->is_body_open = false;
		f->service->ops->data_end(f);
		if (f->state == SMTP_END_WAIT)
			flush_ends(f);
		return;
	}
	for (unsigned i = 0; i < f->ends_count; i++)
		fill_end(&f->ends[i], f->body_answer);
	smtp_front_count_refusal(f);
	flush_ends(f);
}

/* A chunk is whole: its own reply, or the end of all. */
static void end_chunk(struct smtp_front *f)
{
	if (f->refusal.end) {
		conn_write(f->conn, buf_view(&f->refusal));
		smtp_front_enter(f, SMTP_COMMAND);
		if (!f->is_bdat) {
			buf_deinit(&f->refusal);
			f->is_discarding = false;
		}
		smtp_front_count_refusal(f);
		if (f->errors >= f->service->limits.errors)
			smtp_front_end(f, "too many errors");
	} else if (f->is_chunk_last) {
		smtp_data_decode_end(&f->decoder, &f->body);
		pass_body(f);
		if (f->state == SMTP_BODY)
			end_body(f);
	} else {
		SMTP_SAY(f, 250, "2.0.0", "Chunk taken");
		smtp_front_enter(f, SMTP_COMMAND);
	}
}

#define DISCARD_MOST (UINT64_C(16) << 20) /* beyond the limit of a message */

/* A refused body is read to its end, but not for ever. */
static void discard(struct smtp_front *f, size_t n)
{
	uint64_t most = f->service->limits.message_size;

	f->discarded += n;
	if (most && f->discarded > most + DISCARD_MOST) {
		SMTP_SAY(f, 421, "4.3.4", "Message is much too big");
		smtp_front_end(f, "refused body does not end");
	}
}

static ssize_t take_chunk(struct smtp_front *f, struct slice in)
{
	struct slice piece = slice_sub(in, 0, f->chunk_left < in.len ? (size_t)f->chunk_left : in.len);

	if (!f->is_discarding || f->body_answer)
		smtp_data_decode(&f->decoder, piece, &f->body);
	f->chunk_left -= piece.len;
	conn_consume(f->conn, piece.len);
	if (!f->refusal.end)
		pass_body(f);
	if (f->is_discarding)
		discard(f, piece.len);
	if (f->state == SMTP_BODY && !f->chunk_left)
		end_chunk(f);
	return 1;
}

ssize_t smtp_front_take_body(struct smtp_front *f)
{
	struct slice in = conn_input(f->conn);
	size_t n;

	if (f->is_bdat || f->refusal.end)
		return take_chunk(f, in);
	n = smtp_data_decode(&f->decoder, in, &f->body);
	conn_consume(f->conn, n);
	pass_body(f);
	if (f->is_discarding)
		discard(f, n);
	if (f->state == SMTP_BODY && f->decoder.is_ended)
		end_body(f);
	return 1;
}
