/*
 * Edits of a filter wait in `edits` until it is known that it lets the message pass: they are made before the next filter looks, and after
 * the last one. A filter that breaks amid its edits leaves none.
 *
 *	begin -> (late: CONNECT, HELO, MAIL, RCPT ... told now) -> DATA -> the message -> done
 */
#include "common/front/milter_stage.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/milter_watch.h"
#include "common/front/smtp_policy.h"

struct settings {
	struct milters *milters; /* counted */
	char *service;
};

struct edit {
	struct milter_reply reply; /* its texts: name_copy and value_copy */
	char *name_copy, *value_copy;
};

struct work {
	struct smtp_content *content;
	const struct settings *settings;
	struct milter_chain *chain;
	struct milter_chain *own; /* NULL: the chain is the session's */
	struct milter_facts facts;
	struct milter_event event;
	struct milter_message message;
	size_t told; /* recipients that a late chain has been told */
	struct edit *edits;
	size_t edit_count, edit_room, edit_octets;
	struct spool *body;
	bool is_calling; /* the filters of the service are done */
	bool has_body, has_failed;
	bool was_cr, is_at_line_start; /* of the new body so far */
};

struct milters *milter_stage_milters(const struct smtp_policy *policy)
{
	for (unsigned i = 0; policy && i < policy->stage_count; i++)
		if (policy->stages[i].stage == &milter_stage)
			return ((struct settings *)policy->stages[i].settings)->milters;
	return NULL;
}

void milter_stage_facts(struct smtp_front *front, struct milter_facts *facts_out)
{
	const struct smtp_facts *facts = smtp_front_facts(front);
	struct slice tls = slice_str(facts->tls_text);
	ptrdiff_t blank = slice_find(tls, ' ');

	*facts_out = (struct milter_facts){
		.host = slice_str(smtp_front_service(front)->host),
		.service = slice_str(facts->service),
		.session = slice_str(smtp_front_session(front)),
		.ptr = facts->ptr_state == SMTP_FACT_KNOWN ? slice_str(facts->ptr) : SLICE_LIT(""),
		.client = &facts->peer,
		.helo = slice_str(facts->helo),
		.user = slice_str(facts->user),
		.tls_version = blank > 0 ? slice_sub(tls, 0, (size_t)blank) : tls,
		.tls_cipher = blank > 0 ? slice_from(tls, (size_t)blank + 1) : SLICE_LIT(""),
	};
}

/* ---- the message as filters see it ---- */

static bool on_field(void *arg, size_t i, struct slice *name_out, struct slice *value_out)
{
	const struct work *w = arg;
	const struct header_field *f;
	ptrdiff_t colon;

	if (i >= smtp_content_field_count(w->content))
		return false;
	f = smtp_content_field(w->content, i);
	colon = slice_find(f->raw, ':');
	*name_out = f->name;
	*value_out = colon < 0 ? f->raw : slice_from(f->raw, (size_t)colon + 1);
	while (value_out->len &&
		(value_out->p[value_out->len - 1] == '\n' || value_out->p[value_out->len - 1] == '\r'))
		value_out->len--;
	return true;
}

static ssize_t on_body(void *arg, uint64_t offset, void *out, size_t size)
{
	const struct work *w = arg;
	uint64_t start;
	const struct spool *body = smtp_content_body(w->content, &start);

	return spool_read(body, start + offset, out, size);
}

/* ---- edits ---- */

static void forget_edits(struct work *w)
{
	for (size_t i = 0; i < w->edit_count; i++) {
		free(w->edits[i].name_copy);
		free(w->edits[i].value_copy);
	}
	free(w->edits);
	w->edits = NULL;
	w->edit_count = w->edit_room = w->edit_octets = 0;
	spool_free(&w->body);
	w->has_body = false;
}

/* A piece of a new body: line ends become CRLF, NULs go. */
static int add_body(struct work *w, struct slice piece)
{
	struct buf out = {0};
	int err;

	if (!w->has_body) {
		const struct smtp_service *s = smtp_front_service(smtp_content_front(w->content));

		w->body = spool_new(256 * 1024, s->limits.message_size);
		w->has_body = w->is_at_line_start = true;
		w->was_cr = false;
	}
	for (size_t i = 0; i < piece.len; i++) {
		char c = piece.p[i];

		if (c == '\n' && !w->was_cr)
			buf_add_char(&out, '\r');
		if (w->was_cr && c != '\n')
			buf_add_char(&out, '\n');
		w->was_cr = c == '\r';
		if (c != '\0')
			buf_add_char(&out, c);
	}
	if (buf_len(&out))
		w->is_at_line_start = buf_view(&out).p[buf_len(&out) - 1] == '\n';
	err = spool_add(w->body, buf_view(&out));
	buf_deinit(&out);
	return err;
}

static void on_edit(void *arg, const struct milter_reply *reply)
{
	struct work *w = arg;
	struct edit *e;

	if (!reply) {
		forget_edits(w);
		return;
	}
	if (reply->kind == MILTER_REPLY_BODY) {
		if (add_body(w, reply->value) != 0)
			w->has_failed = true;
		return;
	}
	w->edit_octets += reply->name.len + reply->value.len;
	if (w->has_failed || w->edit_count == SMTP_CONTENT_EDITS_MOST ||
		w->edit_octets > SMTP_CONTENT_EDITED_MOST) {
		w->has_failed = true;
		return;
	}
	if (w->edit_count == w->edit_room) {
		w->edit_room = w->edit_room ? w->edit_room * 2 : 8;
		w->edits = xreallocarray(w->edits, w->edit_room, sizeof(*w->edits));
	}
	e = &w->edits[w->edit_count++];
	*e = (struct edit){*reply, slice_copy_str(reply->name), slice_copy_str(reply->value)};
	e->reply.name.p = e->name_copy;
	e->reply.value.p = e->value_copy;
}

static struct slice without_brackets(struct slice path)
{
	return path.len >= 2 && path.p[0] == '<' && path.p[path.len - 1] == '>'
		       ? slice_sub(path, 1, path.len - 2)
		       : path;
}

static int add_field(struct smtp_content *c, const struct milter_reply *r, struct slice value)
{
	return smtp_content_insert(c, smtp_content_field_count(c), r->name, value);
}

/* Both 0 and 1 mean the first: sendmail counts its own trace field, which is not there yet. */
static int insert_field(struct smtp_content *c, const struct milter_reply *r, struct slice value)
{
	return smtp_content_insert(c, r->index ? r->index - 1 : 0, r->name, value);
}

static int change_field(struct smtp_content *c, const struct milter_reply *r, struct slice value)
{
	size_t i = smtp_content_find(c, r->name, r->index ? r->index - 1 : 0);

	if (i == smtp_content_field_count(c))
		return r->value.len ? smtp_content_insert(c, i, r->name, value) : 0;
	if (r->value.len)
		return smtp_content_change(c, i, value);
	smtp_content_delete(c, i);
	return 0;
}

static int add_recipient(struct smtp_content *c, const struct milter_reply *r, struct slice value)
{
	(void)value;
	return smtp_content_add_recipient(c, without_brackets(r->name));
}

static int remove_recipient(struct smtp_content *c, const struct milter_reply *r, struct slice value)
{
	int err = smtp_content_remove_recipient(c, without_brackets(r->name));

	(void)value;
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int change_sender(struct smtp_content *c, const struct milter_reply *r, struct slice value)
{
	(void)value;
	return smtp_content_set_sender(c, without_brackets(r->name));
}

static int hold(struct smtp_content *c, const struct milter_reply *r, struct slice value)
{
	(void)r;
	smtp_content_hold(c, value);
	return 0;
}

/* One row an edit; a new body is made apart. */
static int make_edit(struct smtp_content *c, const struct milter_reply *r)
{
	static const struct {
		enum milter_reply_kind kind;
		int (*make)(struct smtp_content *c, const struct milter_reply *r, struct slice value);
	} rows[] = {
		{MILTER_REPLY_ADD_HEADER, add_field},
		{MILTER_REPLY_INSERT_HEADER, insert_field},
		{MILTER_REPLY_CHANGE_HEADER, change_field},
		{MILTER_REPLY_ADD_RECIPIENT, add_recipient},
		{MILTER_REPLY_DELETE_RECIPIENT, remove_recipient},
		{MILTER_REPLY_CHANGE_FROM, change_sender},
		{MILTER_REPLY_QUARANTINE, hold},
	};
	struct buf value = {0};
	int err = 0;

	milter_field_text(&value, r->value, true);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].kind == r->kind)
			err = rows[i].make(c, r, buf_view(&value));
	buf_deinit(&value);
	return err;
}

static void make_edits(struct work *w)
{
	for (size_t i = 0; i < w->edit_count && !w->has_failed; i++)
		w->has_failed = make_edit(w->content, &w->edits[i].reply) != 0;
	if (w->has_body && !w->has_failed && !w->is_at_line_start)
		w->has_failed = spool_add(w->body, w->was_cr ? SLICE_LIT("\n") : SLICE_LIT("\r\n")) != 0;
	if (w->has_body && !w->has_failed) {
		smtp_content_set_body(w->content, w->body);
		w->body = NULL;
	}
	forget_edits(w);
}

static void before(void *arg, size_t i)
{
	(void)i;
	make_edits(arg);
}

/* ---- the stage ---- */

static void free_work(struct work *w)
{
	forget_edits(w);
	milter_chain_free(&w->own);
	free(w);
}

static void finish(struct work *w, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	static const struct smtp_answer broken = {
		451, SLICE_LIT("4.3.0"), SLICE_LIT("What a filter wants of this message cannot be done")};
	struct smtp_verdict verdict = {SMTP_VERDICT_GO_ON, {0}};
	struct smtp_content *content = w->content;

	if (outcome == MILTER_GO_ON)
		make_edits(w);
	if (outcome == MILTER_DISCARD) {
		verdict.kind = SMTP_VERDICT_DISCARD;
	} else if (outcome == MILTER_REFUSED) {
		verdict.kind = answer->code < 500 ? SMTP_VERDICT_TEMPFAIL : SMTP_VERDICT_REJECT;
		verdict.answer = *answer;
	} else if (w->has_failed) {
		log_warn("milter", "%s: an edit of a filter cannot be made",
			smtp_front_session(smtp_content_front(content)));
		verdict.kind = SMTP_VERDICT_TEMPFAIL;
		verdict.answer = broken;
	}
	smtp_content_set_own(content, NULL);
	free_work(w);
	smtp_content_done(content, &verdict);
}

static void on_told(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer);
static void on_message(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer);

/* The next event that a late chain has not seen, then the message. */
static void tell(struct work *w, enum milter_event_kind kind, struct slice path)
{
	w->event = (struct milter_event){.kind = kind, .path = path};
	milter_chain_ask(w->chain, &w->event, &w->facts, on_told, w);
}

static void tell_next(struct work *w)
{
	const struct smtp_path *rcpt;

	switch (w->event.kind) {
	case MILTER_EVENT_CONNECT:
		tell(w, MILTER_EVENT_HELO, SLICE_LIT(""));
		return;
	case MILTER_EVENT_HELO:
		tell(w, MILTER_EVENT_MAIL, smtp_content_mail(w->content)->path.address);
		return;
	case MILTER_EVENT_MAIL:
	case MILTER_EVENT_RCPT:
		rcpt = smtp_content_recipient(w->content, w->told++);
		if (rcpt)
			tell(w, MILTER_EVENT_RCPT, rcpt->address);
		else
			tell(w, MILTER_EVENT_DATA, SLICE_LIT(""));
		return;
	case MILTER_EVENT_DATA:
	case MILTER_EVENT_UNKNOWN:
		milter_chain_message(w->chain, &w->facts, &w->message, before, on_message, w);
		return;
	}
}

static void on_told(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	struct work *w = arg;

	if (outcome == MILTER_GO_ON)
		tell_next(w);
	else
		finish(w, outcome, answer);
}

/* A chain that has not seen the session is told all of it. */
static void tell_late(struct work *w, const struct milter_settings *const *settings, size_t count)
{
	w->told = 0;
	w->own = milter_chain_new(w->settings->milters, settings, count, smtp_content_loop(w->content));
	w->chain = w->own;
	tell(w, MILTER_EVENT_CONNECT, SLICE_LIT(""));
}

/* The filters of the service are done: those that rules have called follow. */
static void tell_called(struct work *w)
{
	const struct milter_settings *settings[MILTERS_MOST];
	size_t count = milter_watch_called(smtp_content_front(w->content), settings);

	w->is_calling = true;
	if (count == 0) {
		finish(w, MILTER_GO_ON, NULL);
		return;
	}
	make_edits(w);
	milter_chain_free(&w->own);
	tell_late(w, settings, count);
}

static void on_message(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	struct work *w = arg;

	if (outcome == MILTER_GO_ON && !w->is_calling)
		tell_called(w);
	else
		finish(w, outcome, answer);
}

static void begin(struct smtp_content *content, void *settings)
{
	const struct milter_settings *of[MILTERS_MOST];
	size_t count;
	struct work *w = xcalloc(1, sizeof(*w));
	struct smtp_front *front = smtp_content_front(content);

	w->content = content;
	w->settings = settings;
	w->message = (struct milter_message){on_field, on_body, on_edit, w};
	milter_stage_facts(front, &w->facts);
	smtp_content_set_own(content, w);
	if (milter_watch_is_discarded(front)) {
		finish(w, MILTER_DISCARD, NULL);
		return;
	}
	w->chain = milter_watch_chain(front);
	if (w->chain) {
		tell(w, MILTER_EVENT_DATA, SLICE_LIT(""));
		return;
	}
	count = milters_of(w->settings->milters, w->settings->service, of);
	if (count)
		tell_late(w, of, count);
	else
		tell_called(w);
}

static void cancel(struct smtp_content *content, void *settings)
{
	struct work *w = smtp_content_own(content);

	(void)settings;
	if (!w)
		return;
	if (!w->own)
		milter_chain_abort(w->chain);
	free_work(w);
}

static int make(const struct conf *conf, const char *service, struct buf *why, void **settings_out)
{
	const struct milter_settings *of[MILTERS_MOST];
	struct milters *milters = milters_new(conf);
	struct settings *s;

	(void)why;
	if (!milters_of(milters, service, of) && !smtp_policy_has_action(conf, service, "milter")) {
		milters_unref(&milters);
		return 0;
	}
	s = xcalloc(1, sizeof(*s));
	s->milters = milters;
	s->service = xstrdup(service);
	*settings_out = s;
	return 0;
}

static void free_settings(void *settings)
{
	struct settings *s = settings;

	milters_unref(&s->milters);
	free(s->service);
	free(s);
}

const struct smtp_stage milter_stage = {
	.name = "milter", .make = make, .free = free_settings, .begin = begin, .cancel = cancel};
