/*
 * The life of a spooled message. Invariants: at most one stage is at work (is_in_stage); the tier knows nothing of the body before
 * SMTP_CONTENT_DATA, so that a message that a stage refuses costs it nothing; once the front has answered, or the session has ended, the
 * content is over and calls nobody.
 *
 * The tier's transaction is made anew (RSET, MAIL, RCPT again) when the envelope was changed in a way that cannot be added, and when the
 * body was so long on its way that the tier's connections may have grown cold meanwhile.
 */
#include "common/front/smtp_content_inner.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/smtp_judge.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_session.h"

#define PIECE_MOST (64 * 1024)
#define TURN_MOST (512 * 1024) /* octets that go to the tier in one turn of the loop */
#define COLD_MS 60000          /* back-ends wait a few minutes for a command */

static const struct smtp_answer header_too_big = {552, {"5.3.4", 5}, {"The header is too big", 21}};
static const struct smtp_answer no_room = {452, {"4.3.1", 5}, {"No room now", 11}};
static const struct smtp_answer not_now = {451, {"4.3.0", 5}, {"Not now", 7}};
static const struct smtp_answer rejected = {550, {"5.7.1", 5}, {"Not accepted", 12}};
static const struct smtp_answer accepted = {250, {"2.0.0", 5}, {"Ok", 2}};

/* ---- life ---- */

static void copy_mail(struct smtp_content *c, const struct smtp_mail *mail)
{
	struct slice *const texts[] = {&c->mail.path.local, &c->mail.path.domain, &c->mail.path.address,
		&c->mail.auth, &c->mail.envid};

	c->mail = *mail;
	c->mail_text = smtp_content_copy_texts(texts, ARRAY_LEN(texts));
}

struct smtp_content *smtp_content_new(
	struct smtp_front *front, struct smtp_policy *policy, const struct smtp_mail *mail)
{
	struct smtp_content *c = xcalloc(1, sizeof(*c));

	c->front = front;
	c->policy = smtp_policy_ref(policy);
	arena_init(&c->texts, SMTP_CONTENT_EDITED_MOST);
	copy_mail(c, mail);
	return c;
}

static void release(struct smtp_content *c)
{
	spool_free(&c->spool);
	spool_free(&c->body);
	digest_free(&c->digest);
	buf_deinit(&c->header);
	arena_deinit(&c->texts);
	free(c->fields);
	for (size_t i = 0; i < c->recipient_count; i++)
		free(c->recipients[i].text);
	free(c->recipients);
	free(c->mail_text);
	free(c->sender_text);
	free(c->hold);
	smtp_policy_unref(&c->policy);
}

void smtp_content_free(struct smtp_content **content)
{
	struct smtp_content *c = *content;

	*content = NULL;
	if (!c)
		return;
	c->phase = SMTP_CONTENT_OVER;
	c->is_freed = true;
	if (c->is_in_stage) {
		const struct smtp_stage *stage = c->policy->stages[c->stage].stage;

		c->is_in_stage = false;
		if (stage->cancel)
			stage->cancel(c, c->policy->stages[c->stage].settings);
	}
	release(c);
	/* It may be on the stack. */
	if (!c->is_deferred)
		loop_free_later(smtp_front_loop(c->front), c);
}

/* The client gets this, and the content is over: the last statement. */
static void answer(struct smtp_content *c, const struct smtp_answer *what)
{
	c->phase = SMTP_CONTENT_OVER;
	smtp_front_answer_end(c->front, 0, what);
}

/* ---- receiving ---- */

void smtp_content_rcpt(struct smtp_content *c, unsigned index, const struct smtp_rcpt *rcpt)
{
	struct smtp_content_recipient *r = smtp_content_new_recipient(c);
	struct slice *const texts[] = {
		&r->rcpt.path.local, &r->rcpt.path.domain, &r->rcpt.path.address, &r->rcpt.orcpt};

	r->rcpt = *rcpt;
	r->index = index;
	r->route = c->front->wish.route;
	r->text = smtp_content_copy_texts(texts, ARRAY_LEN(texts));
}

void smtp_content_rcpt_accepted(struct smtp_content *c, unsigned index)
{
	for (size_t i = 0; i < c->recipient_count; i++) {
		if (c->recipients[i].index == index)
			c->recipients[i].is_accepted = true;
	}
}

/* The header ends behind "\n\r\n", or at once with "\r\n". Looks at what is new, and two octets before. */
static void find_header_end(struct smtp_content *c, size_t from)
{
	struct slice in = buf_view(&c->header);

	if (in.len >= 2 && memcmp(in.p, "\r\n", 2) == 0) {
		c->body_at = 2;
	} else {
		const char *at = memmem(in.p + from, in.len - from, "\n\r\n", 3);

		if (!at)
			return;
		c->body_at = (size_t)(at - in.p) + 3;
	}
	c->is_header_whole = true;
	buf_cut(&c->header, c->body_at);
}

const struct smtp_answer *smtp_content_chunk(struct smtp_content *c, struct slice bytes)
{
	int err;

	if (!c->spool) {
		c->spool = spool_new(c->policy->spool_memory, 0);
		c->digest = digest_new(DIGEST_SHA256);
		c->began_ms = loop_now_ms(smtp_front_loop(c->front));
	}
	if (!c->is_header_whole) {
		size_t from = buf_len(&c->header);

		buf_add_slice(&c->header, bytes);
		find_header_end(c, from > 2 ? from - 2 : 0);
	}
	if (buf_len(&c->header) > c->policy->header_most)
		return &header_too_big;
	digest_add(c->digest, bytes);
	err = spool_add(c->spool, bytes);
	if (!err)
		return NULL;
	log_error(c->front->service->name, "%s: cannot spool a message: %s", c->front->session,
		error_text(err));
	return &no_room;
}

/* ---- the way to the tier ---- */

static void stream(struct smtp_content *c);

static void go_on(void *arg)
{
	struct smtp_content *c = arg;

	c->is_deferred = false;
	if (c->is_freed)
		free(c);
	else
		stream(c);
}

/* The next octets of the header into out. */
static void add_fields(struct smtp_content *c, struct buf *out)
{
	while (c->next_field < c->field_count && buf_len(out) < PIECE_MOST)
		buf_add_slice(out, c->fields[c->next_field++].raw);
	if (c->next_field == c->field_count) {
		c->next_field++;
		if (c->has_empty_line || (c->body && spool_len(c->body)))
			buf_add_str(out, "\r\n");
	}
}

/* A piece as view: of the spool's memory, or of out. ERR_IO; empty: the end. */
static int next_piece(struct smtp_content *c, struct buf *out, struct slice *piece_out)
{
	uint64_t offset;
	const struct spool *body = smtp_content_body(c, &offset);
	struct slice whole = body ? spool_view(body) : SLICE_LIT("");
	ssize_t n;

	if (c->next_field <= c->field_count) {
		add_fields(c, out);
		*piece_out = buf_view(out);
		if (piece_out->len)
			return 0;
	}
	offset += c->next_octet;
	if (whole.p) {
		*piece_out = slice_sub(whole, (size_t)offset, PIECE_MOST);
		n = (ssize_t)piece_out->len;
	} else {
		n = spool_read(body, offset, buf_reserve(out, PIECE_MOST), PIECE_MOST);
		if (n < 0)
			return ERR_IO;
		buf_added(out, (size_t)n);
		*piece_out = buf_view(out);
	}
	c->next_octet += (uint64_t)n;
	return 0;
}

static void end_stream(struct smtp_content *c)
{
	struct smtp_front *f = c->front;

	c->phase = SMTP_CONTENT_SENT;
	f->is_body_open = false;
	smtp_front_enter(f, SMTP_END_WAIT);
	f->service->ops->data_end(f);
}

static void cut_stream(struct smtp_content *c)
{
	struct smtp_front *f = c->front;

	log_error(f->service->name, "%s: cannot read what was spooled", f->session);
	f->is_body_open = false;
	f->service->ops->data_cut(f);
	answer(c, &not_now);
}

static void stream(struct smtp_content *c)
{
	size_t sent = 0;
	struct buf out = {0};

	if (c->is_running)
		return;
	c->is_running = true;
	while (c->phase == SMTP_CONTENT_STREAMS && !c->is_held && sent < TURN_MOST) {
		struct slice piece = {0};

		buf_clear(&out);
		if (next_piece(c, &out, &piece))
			cut_stream(c);
		else if (!piece.len)
			end_stream(c);
		else
			c->front->service->ops->data_chunk(c->front, piece);
		sent += piece.len;
	}
	c->is_running = false;
	buf_deinit(&out);
	if (c->phase != SMTP_CONTENT_STREAMS)
		return;
	if (sent) /* the deadline is for silence */
		smtp_front_enter(c->front, SMTP_END_WAIT);
	if (!c->is_held && !c->is_deferred) {
		c->is_deferred = true;
		loop_defer(smtp_front_loop(c->front), go_on, c);
	}
}

static void begin_data(struct smtp_content *c)
{
	struct smtp_front *f = c->front;

	c->phase = SMTP_CONTENT_DATA;
	f->is_body_open = true;
	f->service->ops->data_begin(f);
}

static bool is_wanted(const struct smtp_content *c, const struct smtp_content_recipient *r)
{
	return !r->is_removed && (r->is_added || (r->is_accepted && c->is_envelope_new));
}

static void begin_rcpt(struct smtp_content *c)
{
	struct smtp_front *f = c->front;

	c->phase = SMTP_CONTENT_RCPT;
	c->answers_due = 1; /* ours, so that answers at once do not go on before all were asked */
	for (size_t i = 0; i < c->recipient_count; i++)
		c->answers_due += is_wanted(c, &c->recipients[i]);
	for (size_t i = 0; i < c->recipient_count && c->phase == SMTP_CONTENT_RCPT; i++) {
		if (!is_wanted(c, &c->recipients[i]))
			continue;
		c->recipients[i].index = f->index++;
		f->wish = (struct smtp_wish){.route = c->recipients[i].route};
		f->service->ops->rcpt(f, c->recipients[i].index, &c->recipients[i].rcpt);
	}
	if (c->phase == SMTP_CONTENT_RCPT && --c->answers_due == 0)
		begin_data(c);
}

static void begin_mail(struct smtp_content *c)
{
	struct smtp_front *f = c->front;

	c->phase = SMTP_CONTENT_MAIL;
	f->index = 0;
	f->service->ops->reset(f, SMTP_RESET_ORDER);
	f->is_mail = false; /* until the tier has taken it again */
	f->service->ops->mail(f, &c->mail);
}

bool smtp_content_is_feeding(const struct smtp_content *c)
{
	return c->phase >= SMTP_CONTENT_MAIL;
}

void smtp_content_answer_mail(struct smtp_content *c, const struct smtp_answer *what)
{
	if (c->phase != SMTP_CONTENT_MAIL)
		return;
	if (what->code / 100 == 2) {
		c->front->is_mail = true;
		begin_rcpt(c);
	} else {
		answer(c, what);
	}
}

static void rcpt_refused(struct smtp_content *c, unsigned index, const struct smtp_answer *what)
{
	for (size_t i = 0; i < c->recipient_count; i++) {
		const struct smtp_content_recipient *r = &c->recipients[i];

		if (r->index == index && is_wanted(c, r))
			log_warn(c->front->service->name,
				"%s: recipient=<%.*s>, %s, was refused: %u %.*s; the client is told to try "
				"again",
				c->front->session, SLICE_ARG(r->rcpt.path.address),
				r->is_added ? "added by a rule or filter" : "taken before", what->code,
				SLICE_ARG(what->text));
	}
	/* Nobody may be lost whom the client takes for served, or whom the operator has added. */
	answer(c, &not_now);
}

void smtp_content_answer_rcpt(struct smtp_content *c, unsigned index, const struct smtp_answer *what)
{
	if (c->phase != SMTP_CONTENT_RCPT)
		return;
	if (what->code / 100 != 2)
		rcpt_refused(c, index, what);
	else if (--c->answers_due == 0)
		begin_data(c);
}

void smtp_content_answer_data(struct smtp_content *c, const struct smtp_answer *what)
{
	if (c->phase != SMTP_CONTENT_DATA)
		return;
	if (what->code == 354) {
		c->phase = SMTP_CONTENT_STREAMS;
		stream(c);
		return;
	}
	c->front->is_body_open = false;
	answer(c, what);
}

void smtp_content_hold_data(struct smtp_content *c, bool hold)
{
	c->is_held = hold;
	if (!hold)
		stream(c);
}

/* ---- stages ---- */

static void finish(struct smtp_content *c)
{
	struct smtp_front *f = c->front;

	if (f->service->is_passed_on && loop_now_ms(f->loop) - c->began_ms > COLD_MS)
		c->is_envelope_new = true;
	if (!smtp_content_recipient(c, 0)) {
		log_info(f->service->name, "%s: discarded: no recipient is left", f->session);
		answer(c, &accepted);
	} else if (c->is_envelope_new) {
		begin_mail(c);
	} else if (c->added) {
		begin_rcpt(c);
	} else {
		begin_data(c);
	}
}

static void run_stages(struct smtp_content *c)
{
	if (c->is_running)
		return;
	c->is_running = true;
	while (c->phase == SMTP_CONTENT_STAGES && !c->is_in_stage && c->stage < c->policy->stage_count) {
		c->is_in_stage = true;
		c->policy->stages[c->stage].stage->begin(c, c->policy->stages[c->stage].settings);
	}
	c->is_running = false;
	if (c->phase == SMTP_CONTENT_STAGES && !c->is_in_stage)
		finish(c);
}

/* What rules have added before the content was seen: first of all, in their order. */
static void add_earlier(struct smtp_content *c)
{
	struct header_reader r;
	struct header_field field;
	size_t at = 0;

	header_reader_init(&r, smtp_judge_added(c->front->judge));
	while (header_next(&r, &field)) {
		if (smtp_content_insert_first(c, at++, field.name, field.value))
			log_warn(c->front->service->name, "%s: a field was not added", c->front->session);
	}
}

void smtp_content_end(struct smtp_content *c)
{
	if (!c->spool) {
		c->spool = spool_new(c->policy->spool_memory, 0);
		c->began_ms = loop_now_ms(smtp_front_loop(c->front));
	}
	if (c->digest)
		digest_finish(c->digest, c->client_digest);
	else
		digest_once(DIGEST_SHA256, SLICE_LIT(""), c->client_digest);
	if (!c->is_header_whole)
		c->body_at = buf_len(&c->header);
	if (smtp_content_split(c)) {
		answer(c, &header_too_big);
		return;
	}
	add_earlier(c);
	c->phase = SMTP_CONTENT_STAGES;
	run_stages(c);
}

static void refuse(struct smtp_content *c, const struct smtp_verdict *v, const char *stage)
{
	unsigned digit = v->kind == SMTP_VERDICT_REJECT ? 5 : 4;
	const struct smtp_answer *what = &v->answer;

	if (what->code / 100 != digit)
		what = digit == 5 ? &rejected : &not_now;
	log_info(c->front->service->name, "%s: %s: %s by stage %s", c->front->session,
		c->mail.path.is_null ? "<>"
		: c->front->sender   ? c->front->sender
				     : "",
		digit == 5 ? "rejected" : "put off", stage);
	answer(c, what);
}

void smtp_content_done(struct smtp_content *c, const struct smtp_verdict *v)
{
	const char *stage;

	if (c->is_freed || !c->is_in_stage)
		return;
	stage = c->policy->stages[c->stage].stage->name;
	c->is_in_stage = false;
	c->own = NULL;
	switch (v->kind) {
	case SMTP_VERDICT_GO_ON:
		c->stage++;
		run_stages(c);
		break;
	case SMTP_VERDICT_REJECT:
	case SMTP_VERDICT_TEMPFAIL:
		refuse(c, v, stage);
		break;
	case SMTP_VERDICT_DISCARD:
		log_info(c->front->service->name, "%s: discarded by stage %s", c->front->session, stage);
		answer(c, &accepted);
		break;
	}
}

/* ---- what may be asked ---- */

void smtp_content_set_own(struct smtp_content *c, void *own)
{
	c->own = own;
}

void *smtp_content_own(const struct smtp_content *c)
{
	return c->own;
}

struct smtp_front *smtp_content_front(const struct smtp_content *c)
{
	return c->front;
}

struct loop *smtp_content_loop(const struct smtp_content *c)
{
	return smtp_front_loop(c->front);
}

struct smtp_facts *smtp_content_facts(const struct smtp_content *c)
{
	return smtp_front_facts(c->front);
}

const struct smtp_mail *smtp_content_mail(const struct smtp_content *c)
{
	return &c->mail;
}

const struct spool *smtp_content_spool(const struct smtp_content *c)
{
	return c->spool;
}

uint64_t smtp_content_body_at(const struct smtp_content *c)
{
	return c->body_at;
}

struct slice smtp_content_original(const struct smtp_content *c)
{
	return buf_view(&c->header);
}

const struct spool *smtp_content_body(const struct smtp_content *c, uint64_t *offset_out)
{
	*offset_out = c->body ? 0 : c->body_at;
	return c->body ? c->body : c->spool;
}

void smtp_front_mark(const struct smtp_front *f, struct smtp_mark *mark_out)
{
	const struct smtp_content *c = f->content;

	*mark_out = (struct smtp_mark){.is_set = true, .prefix = smtp_judge_added(f->judge).len};
	/* A completed header: the digest is of what came before that. */
	mark_out->has_digest = smtp_front_client_digest(f, mark_out->digest);
	if (!c || mark_out->has_digest)
		return;
	mark_out->prefix = c->prefix;
	mark_out->has_digest = c->is_edited;
	if (c->is_edited)
		memcpy(mark_out->digest, c->client_digest, sizeof(mark_out->digest));
}

const char *smtp_front_held(const struct smtp_front *f)
{
	if (f->content && f->content->hold)
		return f->content->hold;
	return smtp_judge_held(f->judge);
}
