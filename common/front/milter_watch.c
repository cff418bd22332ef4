#include "common/front/milter_watch.h"

#include "common/base/mem.h"
#include "common/front/milter_stage.h"
#include "common/front/smtp_session.h"

struct milter_watch {
	struct smtp_front *front;
	struct milter_chain *chain;
	bool is_connect_told, is_helo_told, is_mail_told, is_discarded;
	struct milter_facts facts;
	struct milter_event event; /* what is asked */
	struct milter_event goal;  /* what is to be asked when all before it has been told */
	const struct milter_settings *called[MILTERS_MOST]; /* by rules, for the present message */
	size_t called_count;
	struct buf params;
	/* What a filter has said against the connection, or the greeting, when it was told of it late: answers what follows, too. */
	struct smtp_answer refusal; /* code 0: nothing */
	enum milter_event_kind refused;
	struct buf refusal_text;
	milter_fn *fn;
	void *arg;
};

bool milter_watch_is_wanted(const struct smtp_front *f)
{
	return f->milters || milter_stage_milters(f->service->policy);
}

bool milter_watch_is_discarded(const struct smtp_front *f)
{
	return f->milters && f->milters->is_discarded;
}

struct milter_chain *milter_watch_chain(const struct smtp_front *f)
{
	return f->milters && f->milters->is_mail_told ? f->milters->chain : NULL;
}

static void tell_next(struct milter_watch *w);

static void keep_refusal(struct milter_watch *w, const struct smtp_answer *answer)
{
	size_t len = answer->enhanced.len;

	buf_clear(&w->refusal_text);
	buf_add_slice(&w->refusal_text, answer->enhanced);
	buf_add_slice(&w->refusal_text, answer->text);
	w->refused = w->event.kind;
	w->refusal.code = answer->code;
	w->refusal.enhanced = slice_sub(buf_view(&w->refusal_text), 0, len);
	w->refusal.text = slice_from(buf_view(&w->refusal_text), len);
}

/* A new greeting is judged anew, the connection is what it was. */
static bool is_refused(struct milter_watch *w, enum milter_event_kind goal)
{
	if (w->refused == MILTER_EVENT_HELO && goal == MILTER_EVENT_HELO)
		w->refusal.code = 0;
	return w->refusal.code != 0;
}

static void on_answer(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	struct milter_watch *w = arg;
	milter_fn *fn = w->fn;

	if (outcome == MILTER_DISCARD) {
		w->is_discarded = true;
		outcome = MILTER_GO_ON;
	}
	if (outcome == MILTER_GO_ON && w->event.kind != w->goal.kind) {
		tell_next(w);
		return;
	}
	if (outcome == MILTER_REFUSED && w->event.kind <= MILTER_EVENT_HELO)
		keep_refusal(w, answer);
	w->fn = NULL;
	if (fn)
		fn(w->arg, outcome, answer);
}

/* The first that was not told yet, up to the goal. */
static void tell_next(struct milter_watch *w)
{
	enum milter_event_kind goal = w->goal.kind;

	w->event = w->goal;
	if (!w->is_connect_told)
		w->event = (struct milter_event){.kind = MILTER_EVENT_CONNECT};
	else if (!w->is_helo_told && (goal == MILTER_EVENT_MAIL || goal == MILTER_EVENT_RCPT))
		w->event = (struct milter_event){.kind = MILTER_EVENT_HELO};
	w->is_connect_told = true;
	w->is_helo_told = w->is_helo_told || w->event.kind == MILTER_EVENT_HELO;
	w->is_mail_told = w->is_mail_told || w->event.kind == MILTER_EVENT_MAIL;
	milter_chain_ask(w->chain, &w->event, &w->facts, on_answer, w);
}

static struct milter_watch *watch_of(struct smtp_front *f)
{
	const struct milter_settings *settings[MILTERS_MOST];
	struct milter_watch *w = f->milters;
	struct milters *milters;
	size_t count;

	if (w)
		return w;
	w = f->milters = xcalloc(1, sizeof(*w));
	w->front = f;
	milters = milter_stage_milters(f->service->policy);
	count = milters_of(milters, f->service->name, settings);
	w->chain = milter_chain_new(milters, settings, count, smtp_front_loop(f));
	return w;
}

static void tell(struct milter_watch *w, struct milter_event goal, milter_fn *fn, void *arg)
{
	/* A filter that wants the message away has said so to us alone: the others are told no more of it. */
	if (!w->chain || (w->is_discarded && goal.kind == MILTER_EVENT_RCPT)) {
		fn(arg, MILTER_GO_ON, NULL);
		return;
	}
	if (is_refused(w, goal.kind)) {
		fn(arg, MILTER_REFUSED, &w->refusal);
		return;
	}
	milter_stage_facts(w->front, &w->facts);
	w->goal = goal;
	w->fn = fn;
	w->arg = arg;
	tell_next(w);
}

void milter_watch_connect(struct smtp_front *f, milter_fn *fn, void *arg)
{
	tell(watch_of(f), (struct milter_event){.kind = MILTER_EVENT_CONNECT}, fn, arg);
}

void milter_watch_helo(struct smtp_front *f, milter_fn *fn, void *arg)
{
	tell(watch_of(f), (struct milter_event){.kind = MILTER_EVENT_HELO}, fn, arg);
}

/* The parameters as they were understood. */
static void write_mail_params(const struct smtp_mail *mail, struct buf *out)
{
	static const char *const bodies[] = {
		[SMTP_BODY_7BIT] = " BODY=7BIT", [SMTP_BODY_8BITMIME] = " BODY=8BITMIME"};
	static const char *const rets[] = {[SMTP_RET_FULL] = " RET=FULL", [SMTP_RET_HDRS] = " RET=HDRS"};

	if (mail->size)
		buf_printf(out, " SIZE=%llu", (unsigned long long)mail->size);
	if ((size_t)mail->body < ARRAY_LEN(bodies) && bodies[mail->body])
		buf_add_str(out, bodies[mail->body]);
	if (mail->is_utf8)
		buf_add_str(out, " SMTPUTF8");
	if ((size_t)mail->ret < ARRAY_LEN(rets) && rets[mail->ret])
		buf_add_str(out, rets[mail->ret]);
	if (mail->envid.len)
		buf_printf(out, " ENVID=%.*s", SLICE_ARG(mail->envid));
	if (mail->requires_tls)
		buf_add_str(out, " REQUIRETLS");
}

static void write_rcpt_params(const struct smtp_rcpt *rcpt, struct buf *out)
{
	static const struct {
		unsigned bit;
		const char *word;
	} words[] = {{SMTP_NOTIFY_NEVER, "NEVER"}, {SMTP_NOTIFY_SUCCESS, "SUCCESS"},
		{SMTP_NOTIFY_FAILURE, "FAILURE"}, {SMTP_NOTIFY_DELAY, "DELAY"}};
	const char *before = " NOTIFY=";

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (!(rcpt->notify & words[i].bit))
			continue;
		buf_printf(out, "%s%s", before, words[i].word);
		before = ",";
	}
	if (rcpt->orcpt.len)
		buf_printf(out, " ORCPT=%.*s", SLICE_ARG(rcpt->orcpt));
}

void milter_watch_mail(struct smtp_front *f, const struct smtp_mail *mail, milter_fn *fn, void *arg)
{
	struct milter_watch *w = watch_of(f);

	buf_clear(&w->params);
	write_mail_params(mail, &w->params);
	tell(w,
		(struct milter_event){.kind = MILTER_EVENT_MAIL,
			.path = mail->path.address,
			.params = buf_view(&w->params)},
		fn, arg);
}

void milter_watch_rcpt(struct smtp_front *f, const struct smtp_rcpt *rcpt, milter_fn *fn, void *arg)
{
	struct milter_watch *w = watch_of(f);

	buf_clear(&w->params);
	write_rcpt_params(rcpt, &w->params);
	tell(w,
		(struct milter_event){.kind = MILTER_EVENT_RCPT,
			.path = rcpt->path.address,
			.params = buf_view(&w->params)},
		fn, arg);
}

void milter_watch_unknown(struct smtp_front *f, struct slice line, milter_fn *fn, void *arg)
{
	struct milter_watch *w = watch_of(f);

	buf_clear(&w->params);
	buf_add_slice(&w->params, line);
	tell(w, (struct milter_event){.kind = MILTER_EVENT_UNKNOWN, .path = buf_view(&w->params)}, fn, arg);
}

void milter_watch_call(struct smtp_front *f, const char *title)
{
	struct milter_watch *w = watch_of(f);
	const struct milter_settings *s = milters_find(milter_stage_milters(f->service->policy), title);

	for (size_t i = 0; i < w->called_count; i++)
		if (w->called[i] == s)
			return;
	if (s && w->called_count < MILTERS_MOST)
		w->called[w->called_count++] = s;
}

size_t milter_watch_called(
	const struct smtp_front *f, const struct milter_settings *settings_out[MILTERS_MOST])
{
	if (!f->milters)
		return 0;
	memcpy(settings_out, f->milters->called, sizeof(f->milters->called));
	return f->milters->called_count;
}

void milter_watch_end_transaction(struct milter_watch *w)
{
	if (!w)
		return;
	w->called_count = 0;
	w->is_mail_told = w->is_discarded = false;
	if (w->chain)
		milter_chain_abort(w->chain);
}

void milter_watch_free(struct milter_watch **watch)
{
	struct milter_watch *w = *watch;

	*watch = NULL;
	if (!w)
		return;
	w->fn = NULL;
	milter_chain_free(&w->chain);
	buf_deinit(&w->params);
	buf_deinit(&w->refusal_text);
	/* It may be on the stack. */
	loop_free_later(smtp_front_loop(w->front), w);
}
