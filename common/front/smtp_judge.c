/*
 * A phase at a time: the run over the rules stops where a fact is missing and goes on at the same rule when it is there, so that no
 * action is done twice. Before rules run at MAIL, what the policy always wants to know (SPF) is found out.
 */
#include "common/front/smtp_judge.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/smtp_content_inner.h"
#include "common/front/smtp_lookup.h"
#include "common/front/smtp_policy.h"
#include "common/base/rate.h"
#include "common/front/smtp_session.h"

#define ADDED_MOST (32 * 1024) /* octets of fields that rules add before the content is seen */

struct smtp_judge {
	struct smtp_front *front;
	struct smtp_policy *policy; /* counted: of the phase that runs */
	struct smtp_rule_run run;
	struct smtp_scene scene; /* what the rules of this run look at */
	struct smtp_lookup *lookup;
	unsigned asked; /* bits of enum smtp_subject */
	bool is_running;
	bool is_filtering; /* filters have not answered yet */
	bool is_telling;   /* tell_filters() is on the stack */
	struct smtp_judged judged;
	struct smtp_answer answer;

	/* of the transaction */
	struct buf added;
	char *hold;
	struct smtp_wish wish;
	char *redirect_text;

	/* header and data */
	struct smtp_content *content;
	struct slice *recipients;
	size_t recipient_count;
};

static void proceed(struct smtp_judge *j);

static struct smtp_judge *judge_of(struct smtp_front *f)
{
	if (!f->judge) {
		f->judge = xcalloc(1, sizeof(*f->judge));
		f->judge->front = f;
		f->judge->added.limit = ADDED_MOST;
	}
	return f->judge;
}

static void forget_run(struct smtp_judge *j)
{
	smtp_lookup_cancel(&j->lookup);
	free(j->recipients);
	j->recipients = NULL;
	j->recipient_count = 0;
	j->content = NULL;
	smtp_policy_unref(&j->policy);
}

void smtp_judge_end_transaction(struct smtp_judge *j)
{
	if (!j)
		return;
	buf_deinit(&j->added);
	free(j->hold);
	free(j->redirect_text);
	j->hold = j->redirect_text = NULL;
	j->wish = (struct smtp_wish){0};
	j->asked = 0;
}

void smtp_judge_free(struct smtp_judge **judge)
{
	struct smtp_judge *j = *judge;

	*judge = NULL;
	if (!j)
		return;
	forget_run(j);
	smtp_judge_end_transaction(j);
	/* It may be on the stack. */
	loop_free_later(smtp_front_loop(j->front), j);
}

struct slice smtp_judge_added(const struct smtp_judge *j)
{
	return j ? buf_view(&j->added) : SLICE_LIT("");
}

const char *smtp_judge_held(const struct smtp_judge *j)
{
	return j ? j->hold : NULL;
}

const struct smtp_wish *smtp_judge_wish(const struct smtp_judge *j)
{
	static const struct smtp_wish none;

	return j ? &j->wish : &none;
}

void smtp_judge_add_field(struct smtp_front *f, struct slice raw)
{
	buf_add_slice(&judge_of(f)->added, raw);
}

/* ---- what rules do ---- */

static void add_part(struct buf *key, struct slice text)
{
	buf_add_char(key, '\n');
	for (size_t i = 0; i < text.len; i++)
		buf_add_char(key, ascii_lower(text.p[i]));
}

static struct slice domain_of(struct slice address)
{
	ptrdiff_t at = slice_find_last(address, '@');

	return at < 0 ? SLICE_LIT("") : slice_from(address, (size_t)at + 1);
}

void smtp_judge_rate_key(const struct smtp_facts *f, const struct smtp_rule *rule,
	const struct smtp_action *a, struct buf *out)
{
	struct slice sender = slice_str(f->sender ? f->sender : "");
	struct slice recipient = slice_str(f->recipient ? f->recipient : "");
	struct slice ip = addr_ip(&f->peer);

	buf_printf(out, "%s %s", rule->name, a->text);
	if (a->keys & SMTP_RATE_PEER)
		add_part(out, ip);
	if (a->keys & SMTP_RATE_NETWORK)
		add_part(out, slice_sub(ip, 0, ip.len == 4 ? 3 : 8));
	if (a->keys & SMTP_RATE_USER)
		add_part(out, slice_str(f->user));
	if (a->keys & SMTP_RATE_SENDER)
		add_part(out, sender);
	if (a->keys & SMTP_RATE_SENDER_DOMAIN)
		add_part(out, domain_of(sender));
	if (a->keys & SMTP_RATE_RECIPIENT)
		add_part(out, recipient);
	if (a->keys & SMTP_RATE_DOMAIN)
		add_part(out, domain_of(recipient));
}

/* True: it is exceeded. */
static bool do_rate(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	struct buf key = {0};
	bool yes;

	smtp_judge_rate_key(j->front->facts, rule, a, &key);
	yes = rates_take(rates_shared(), buf_view(&key), a->count, a->period_ms, loop_now_ms(j->front->loop));
	buf_deinit(&key);
	return !yes;
}

static bool do_hold(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	const char *reason = a->value && *a->value ? a->value : rule->name;

	if (j->content)
		smtp_content_hold(j->content, slice_str(reason));
	else if (!j->hold)
		j->hold = xstrdup(reason);
	return false;
}

static void log_failed(
	struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a, int err)
{
	if (err)
		log_warn(j->front->service->name, "%s: rule %s: %s: %s", j->front->session, rule->name,
			a->text, error_text(err));
}

static bool do_add_header(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	if (j->content)
		log_failed(j, rule, a,
			smtp_content_insert(j->content, 0, slice_str(a->name), slice_str(a->value)));
	else
		buf_printf(&j->added, "%s: %s\r\n", a->name, a->value);
	return false;
}

static bool do_remove_header(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	(void)rule;
	for (size_t i = smtp_content_field_count(j->content); i-- > 0;) {
		const struct header_field *field = smtp_content_field(j->content, i);

		if (slice_is_str_nocase(field->name, a->name) &&
			(!a->pattern || smtp_pattern_matches(a->pattern, field->value, NULL)))
			smtp_content_delete(j->content, i);
	}
	return false;
}

static bool do_add_recipient(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	log_failed(j, rule, a, smtp_content_add_recipient(j->content, slice_str(a->name)));
	return false;
}

/* Of the recipient that is looked at; DSN wishes stay with it. */
static void redirect_one(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	struct smtp_path path;
	char *text;
	int err = smtp_content_parse_path(slice_str(a->name), &path, &text);

	log_failed(j, rule, a, err);
	if (err)
		return;
	free(j->redirect_text);
	j->redirect_text = text;
	j->judged.rcpt.path = path;
	smtp_facts_set(&j->front->facts->recipient, path.address);
}

static bool do_redirect(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	const struct smtp_path *path;
	int err;

	if (!j->content) {
		redirect_one(j, rule, a);
		return false;
	}
	err = smtp_content_add_recipient(j->content, slice_str(a->name));
	log_failed(j, rule, a, err);
	for (size_t i = 0; err == 0 && (path = smtp_content_recipient(j->content, i)) != NULL;) {
		if (slice_is_str_nocase(path->address, a->name))
			i++;
		else if (smtp_content_remove_recipient(j->content, path->address))
			break;
	}
	return false;
}

static bool do_route(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	(void)rule;
	j->wish.route = a->name;
	return false;
}

static bool do_greylist(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	(void)rule;
	(void)a;
	j->wish.is_greylisted = true;
	return true;
}

static bool do_milter(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	(void)rule;
	milter_watch_call(j->front, a->name);
	return false;
}

static bool do_decide(struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a)
{
	(void)j;
	(void)rule;
	(void)a;
	return true;
}

/* One row an action. True: it decides. */
static bool (*const doers[SMTP_ACTIONS])(
	struct smtp_judge *j, const struct smtp_rule *rule, const struct smtp_action *a) = {
	[SMTP_ACTION_ACCEPT] = do_decide,
	[SMTP_ACTION_REJECT] = do_decide,
	[SMTP_ACTION_TEMPREJECT] = do_decide,
	[SMTP_ACTION_DISCARD] = do_decide,
	[SMTP_ACTION_GREYLIST] = do_greylist,
	[SMTP_ACTION_QUARANTINE] = do_hold,
	[SMTP_ACTION_ADD_HEADER] = do_add_header,
	[SMTP_ACTION_REMOVE_HEADER] = do_remove_header,
	[SMTP_ACTION_ADD_RECIPIENT] = do_add_recipient,
	[SMTP_ACTION_REDIRECT] = do_redirect,
	[SMTP_ACTION_ROUTE] = do_route,
	[SMTP_ACTION_RATE_LIMIT] = do_rate,
	[SMTP_ACTION_MILTER] = do_milter,
};

/* The header as it is now: an edit may have moved the fields to other memory. */
static void show_fields(struct smtp_judge *j)
{
	j->scene.fields = j->content ? j->content->fields : NULL;
	j->scene.field_count = j->content ? j->content->field_count : 0;
}

static bool act(void *arg, const struct smtp_rule *rule, const struct smtp_action *a)
{
	struct smtp_judge *j = arg;
	bool decides;

	if (rule->acted)
		metric_add(rule->acted, 1);
	decides = doers[a->kind](j, rule, a);
	show_fields(j);
	return decides;
}

/* ---- the end of a phase ---- */

void smtp_judge_answer(const struct smtp_action *a, enum smtp_phase phase, struct smtp_answer *answer_out)
{
	bool is_final = a->kind == SMTP_ACTION_REJECT, is_connect = phase == SMTP_PHASE_CONNECT;
	unsigned code = is_final ? is_connect ? 554 : 550 : is_connect ? 421 : 450;

	*answer_out = (struct smtp_answer){a->code ? a->code : code,
		slice_str(a->enhanced ? a->enhanced
			  : is_final  ? "5.7.1"
				      : "4.7.1"),
		slice_str(a->value && *a->value ? a->value
			  : is_final            ? "Not accepted"
						: "Try again later")};
}

/* NULL: go on. */
static const struct smtp_answer *refusal_of(struct smtp_judge *j)
{
	const struct smtp_action *a = j->run.decided ? j->run.action : NULL;

	if (!a || a->kind == SMTP_ACTION_ACCEPT || a->kind == SMTP_ACTION_GREYLIST ||
		a->kind == SMTP_ACTION_DISCARD)
		return NULL;
	smtp_judge_answer(a, j->run.phase, &j->answer);
	return &j->answer;
}

static void log_decision(const struct smtp_judge *j)
{
	const struct smtp_facts *f = j->front->facts;
	char text[ADDR_TEXT_MAX];

	if (!j->run.decided || j->run.action->kind == SMTP_ACTION_ACCEPT || !log_is_on(LOG_INFO))
		return;
	log_info(j->front->service->name, "%s: rule %s: %s at %s client=%s from=<%s> to=<%s>",
		j->front->session, j->run.decided->name, smtp_rule_action_name(j->run.action->kind),
		smtp_rule_phase_name(j->run.phase), addr_host(&f->peer, text), f->sender ? f->sender : "",
		f->recipient ? f->recipient : "");
}

static void end_content(struct smtp_judge *j)
{
	struct smtp_content *content = j->content;
	const struct smtp_answer *refusal = refusal_of(j);
	struct smtp_verdict verdict = {0};
	struct smtp_policy *policy = smtp_policy_ref(j->policy); /* the texts are its own */

	if (refusal) {
		verdict.kind = refusal->code / 100 == 5 ? SMTP_VERDICT_REJECT : SMTP_VERDICT_TEMPFAIL;
		verdict.answer = *refusal;
	} else if (j->run.decided && j->run.action->kind == SMTP_ACTION_DISCARD) {
		verdict.kind = SMTP_VERDICT_DISCARD;
	}
	forget_run(j);
	smtp_content_done(content, &verdict);
	smtp_policy_unref(&policy);
}

/* What filters say of a step that the rules let pass. */
static void filtered(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	struct smtp_judge *j = arg;
	struct smtp_front *f = j->front;
	bool was_waiting = !j->is_telling;

	j->is_filtering = false;
	j->judged.refusal = outcome == MILTER_REFUSED ? answer : NULL;
	smtp_front_judged(f, &j->judged);
	if (was_waiting && f->state != SMTP_ENDED)
		smtp_front_pump(f);
}

static void tell_filters(struct smtp_judge *j)
{
	struct smtp_front *f = j->front;

	j->is_filtering = j->is_telling = true;
	switch (j->judged.phase) {
	case SMTP_PHASE_CONNECT:
		milter_watch_connect(f, filtered, j);
		break;
	case SMTP_PHASE_HELO:
		milter_watch_helo(f, filtered, j);
		break;
	case SMTP_PHASE_MAIL:
		milter_watch_mail(f, &j->judged.mail, filtered, j);
		break;
	case SMTP_PHASE_RCPT:
		milter_watch_rcpt(f, &j->judged.rcpt, filtered, j);
		break;
	case SMTP_PHASE_HEADER:
	case SMTP_PHASE_DATA:
		break; /* they are stages */
	}
	j->is_telling = false;
	if (j->is_filtering && f->state != SMTP_CHECK)
		smtp_front_enter(f, SMTP_CHECK);
}

static void end_phase(struct smtp_judge *j)
{
	struct smtp_policy *policy;

	log_decision(j);
	if (j->content) {
		end_content(j);
		return;
	}
	policy = smtp_policy_ref(j->policy);
	j->judged.refusal = refusal_of(j);
	forget_run(j);
	if (!j->judged.refusal && milter_watch_is_wanted(j->front))
		tell_filters(j);
	else
		smtp_front_judged(j->front, &j->judged);
	smtp_policy_unref(&policy);
}

/* ---- running ---- */

static void found_out(void *arg)
{
	struct smtp_judge *j = arg;
	struct smtp_front *f = j->front;

	j->lookup = NULL;
	proceed(j);
	if (f->state != SMTP_ENDED)
		smtp_front_pump(f);
}

/* True: it will come. */
static bool find_out(struct smtp_judge *j, const struct smtp_need *need)
{
	const struct smtp_lookup_settings settings = {
		.country = j->policy->country, .timeout_ms = j->policy->dns_timeout_ms};

	j->asked |= 1U << need->subject;
	j->lookup = smtp_lookup_begin(j->front->loop, j->front->facts, need, &settings, found_out, j);
	return j->lookup != NULL;
}

/* What is always wanted at MAIL. */
static bool find_out_always(struct smtp_judge *j)
{
	for (unsigned i = 0; j->run.phase == SMTP_PHASE_MAIL && i < SMTP_SUBJECTS; i++) {
		const struct smtp_need need = {(enum smtp_subject)i, NULL};

		if (j->policy->always & ~j->asked & 1U << i && find_out(j, &need))
			return true;
	}
	return false;
}

static void proceed(struct smtp_judge *j)
{
	struct smtp_need need;
	bool waits = find_out_always(j);

	j->scene = (struct smtp_scene){
		.facts = j->front->facts, .recipients = j->recipients, .recipient_count = j->recipient_count};
	while (!waits) {
		show_fields(j);
		j->scene.asked = j->asked;
		if (smtp_rule_run(&j->run, &j->scene, &need)) {
			end_phase(j);
			return;
		}
		waits = find_out(j, &need);
	}
	if (!j->content && j->front->state != SMTP_CHECK)
		smtp_front_enter(j->front, SMTP_CHECK);
}

static struct smtp_judge *start(struct smtp_front *f, struct smtp_policy *policy, enum smtp_phase phase)
{
	struct smtp_judge *j = judge_of(f);

	(void)smtp_front_facts(f);
	forget_run(j);
	j->policy = smtp_policy_ref(policy);
	j->run = (struct smtp_rule_run){
		.rules = policy->rules, .count = policy->rule_count, .phase = phase, .act = act, .arg = j};
	j->judged.phase = phase;
	return j;
}

bool smtp_judge_is_wanted(const struct smtp_front *f, enum smtp_phase phase)
{
	const struct smtp_policy *p = f->service->policy;

	return milter_watch_is_wanted(f) ||
	       (p && (p->phases & 1U << phase || (phase == SMTP_PHASE_MAIL && p->always)));
}

void smtp_judge_connect(struct smtp_front *f)
{
	proceed(start(f, f->service->policy, SMTP_PHASE_CONNECT));
}

void smtp_judge_helo(struct smtp_front *f)
{
	proceed(start(f, f->service->policy, SMTP_PHASE_HELO));
}

void smtp_judge_mail(struct smtp_front *f, const struct smtp_mail *mail)
{
	struct smtp_judge *j = start(f, f->service->policy, SMTP_PHASE_MAIL);

	j->judged.mail = *mail;
	f->facts->messages++; /* with this one */
	f->facts->size = mail->size;
	smtp_facts_set(&f->facts->sender, mail->path.address.p ? mail->path.address : SLICE_LIT(""));
	/* Who has not logged in has no addresses of his own. */
	f->facts->is_sender_own_known = f->user && f->service->ops->is_own;
	f->facts->is_sender_own =
		f->facts->is_sender_own_known && f->service->ops->is_own(f, mail->path.address);
	proceed(j);
}

void smtp_judge_rcpt(struct smtp_front *f, unsigned index, const struct smtp_rcpt *rcpt)
{
	struct smtp_judge *j = start(f, f->service->policy, SMTP_PHASE_RCPT);

	j->judged.rcpt = *rcpt;
	j->judged.index = index;
	j->wish = (struct smtp_wish){0};
	f->facts->recipients = f->accepted + f->pending; /* with this one */
	smtp_facts_set(&f->facts->recipient, rcpt->path.address);
	proceed(j);
}

/* ---- the phases of content ---- */

static void begin_content(struct smtp_content *c, enum smtp_phase phase)
{
	struct smtp_front *f = smtp_content_front(c);
	struct smtp_judge *j = start(f, c->policy, phase);

	j->content = c;
	j->recipients = xcalloc(c->recipient_count + 1, sizeof(*j->recipients));
	while (smtp_content_recipient(c, j->recipient_count)) {
		j->recipients[j->recipient_count] = smtp_content_recipient(c, j->recipient_count)->address;
		j->recipient_count++;
	}
	f->facts->size = spool_len(c->spool);
	smtp_facts_set(&f->facts->sender, c->mail.path.address.p ? c->mail.path.address : SLICE_LIT(""));
	smtp_facts_set(&f->facts->recipient, (struct slice){NULL, 0});
	proceed(j);
}

static void begin_header(struct smtp_content *c, void *settings)
{
	(void)settings;
	begin_content(c, SMTP_PHASE_HEADER);
}

static void begin_data(struct smtp_content *c, void *settings)
{
	(void)settings;
	begin_content(c, SMTP_PHASE_DATA);
}

static void cancel(struct smtp_content *c, void *settings)
{
	(void)settings;
	if (smtp_content_front(c)->judge)
		forget_run(smtp_content_front(c)->judge);
}

/* Wanted where the service has a rule of that phase. */
static int make(const struct conf *conf, const char *service, enum smtp_phase phase, void **settings_out)
{
	static char wanted;

	if (smtp_policy_has_rule(conf, service, phase))
		*settings_out = &wanted;
	return 0;
}

static int make_header(const struct conf *conf, const char *service, struct buf *why, void **settings_out)
{
	(void)why;
	return make(conf, service, SMTP_PHASE_HEADER, settings_out);
}

static int make_data(const struct conf *conf, const char *service, struct buf *why, void **settings_out)
{
	(void)why;
	return make(conf, service, SMTP_PHASE_DATA, settings_out);
}

const struct smtp_stage smtp_judge_header_stage = {
	.name = "header-rules", .make = make_header, .begin = begin_header, .cancel = cancel};
const struct smtp_stage smtp_judge_data_stage = {
	.name = "data-rules", .make = make_data, .begin = begin_data, .cancel = cancel};
