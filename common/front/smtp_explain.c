/*
 * One struct asking a request: it walks through the phases as a session does, over the same evaluator and the same lookups, and writes a
 * row for each rule that was looked at.
 */
#include "common/front/smtp_explain.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/front/smtp_judge.h"
#include "common/front/smtp_lookup.h"
#include "common/base/rate.h"
#include "common/front/smtp_spf.h"
#include "common/proto/smtp_parse.h"

#define FIELDS_MOST 100
#define RECIPIENTS_MOST 100
#define SPF_MS 20000

struct asking {
	struct control_request *request;
	struct smtp_policy *policy; /* counted */
	struct smtp_facts facts;
	struct smtp_rule_run run;
	struct smtp_lookup *lookup;
	struct spf_check *spf;
	char *spf_domain, *spf_term; /* what was checked, and what decided */
	unsigned asked;
	bool is_offline;
	enum smtp_phase phase;
	const char *recipients[RECIPIENTS_MOST]; /* views of the request */
	struct slice accepted[RECIPIENTS_MOST];
	size_t recipient_count, recipient_at, accepted_count;
	struct header_field fields[FIELDS_MOST];
	char *raw[FIELDS_MOST];
	size_t field_count;
	/* what decided last */
	char *rule;
	struct smtp_answer answer;
	bool is_refused, is_discarded;
	bool is_held;                           /* an action quarantine was done */
	const char *strangers[RECIPIENTS_MOST]; /* whom a rule greylists */
	size_t stranger_count;
};

static void proceed(struct asking *a);

static const char *option(struct asking *a, const char *name)
{
	const char *value = control_option(a->request, name, 0);

	return value ? value : "";
}

static void free_asking(struct asking *a)
{
	smtp_lookup_cancel(&a->lookup);
	spf_cancel(&a->spf);
	free(a->spf_domain);
	free(a->spf_term);
	smtp_facts_deinit(&a->facts);
	for (size_t i = 0; i < a->field_count; i++)
		free(a->raw[i]);
	smtp_policy_unref(&a->policy);
	free(a->rule);
	free(a);
}

/* ---- the answer ---- */

static void add_state(struct asking *a, const char *key, enum smtp_fact_state state, const char *value)
{
	if (state == SMTP_FACT_KNOWN)
		control_add_str(a->request, key, value);
	else if (state != SMTP_FACT_UNKNOWN)
		control_add_str(a->request, key, state == SMTP_FACT_NONE ? "none" : "not now");
}

static void add_result(struct asking *a, const char *key, enum smtp_result result)
{
	if (result != SMTP_RESULT_UNKNOWN)
		control_add_str(a->request, key, smtp_facts_word(result));
}

static void add_list(struct asking *a, const struct smtp_dnsbl_fact *list)
{
	struct buf text = {0};

	if (list->state == SMTP_FACT_UNKNOWN)
		return;
	buf_printf(&text, "%s:", list->zone);
	if (list->state != SMTP_FACT_KNOWN)
		buf_add_str(&text, list->state == SMTP_FACT_NONE ? " none" : " not now");
	for (unsigned i = 0; list->state == SMTP_FACT_KNOWN && i < list->count; i++)
		buf_printf(&text, " %u.%u.%u.%u", list->listed[i] >> 24, list->listed[i] >> 16 & 255,
			list->listed[i] >> 8 & 255, list->listed[i] & 255);
	control_add_item(a->request, "lists", buf_view(&text));
	buf_deinit(&text);
}

/* Everything that was found out, and what comes of it all. */
static void finish(struct asking *a)
{
	const struct smtp_facts *f = &a->facts;

	control_result(a->request);
	add_state(a, "ptr", f->ptr_state, f->ptr);
	add_state(a, "country", f->country_state, f->country);
	for (unsigned i = 0; i < f->dnsbl_count; i++)
		add_list(a, &f->dnsbl[i]);
	add_result(a, "spf", f->spf);
	add_result(a, "spf_helo", f->spf_helo);
	if (a->spf_domain) {
		control_add_str(a->request, "spf_domain", a->spf_domain);
		control_add_str(a->request, "spf_by", a->spf_term);
	}
	add_result(a, "dkim", f->dkim);
	add_result(a, "dmarc", f->dmarc);
	add_result(a, "arc", f->arc);
	control_add_str(a->request, "verdict",
		a->is_discarded ? "discarded"
		: a->is_refused ? "refused"
		: a->is_held    ? "held"
				: "accepted");
	for (size_t i = 0; !a->is_refused && i < a->stranger_count; i++)
		control_add_item(a->request, "greylisted", slice_str(a->strangers[i]));
	control_add_str(a->request, "phase", smtp_rule_phase_name(a->phase));
	control_add_str(a->request, "rule", a->rule ? a->rule : "");
	if (a->is_refused && a->answer.code) {
		control_add_int(a->request, "code", a->answer.code);
		control_add_slice(a->request, "enhanced", a->answer.enhanced);
		control_add_slice(a->request, "text", a->answer.text);
	}
	control_done(a->request);
	free_asking(a);
}

/* ---- rules ---- */

static void seen(
	void *arg, const struct smtp_rule *rule, enum smtp_truth truth, const struct smtp_condition *failed)
{
	static const char *const words[] = {[SMTP_TRUTH_NO] = "no",
		[SMTP_TRUTH_YES] = "yes",
		[SMTP_TRUTH_NOT_NOW] = "not now",
		[SMTP_TRUTH_ASK] = "ask"};
	struct asking *a = arg;

	control_row(a->request);
	control_add_str(a->request, "phase", smtp_rule_phase_name(rule->phase));
	if (rule->phase == SMTP_PHASE_RCPT)
		control_add_str(a->request, "recipient", a->facts.recipient ? a->facts.recipient : "");
	control_add_str(a->request, "rule", rule->name);
	control_add_str(a->request, "holds", words[truth]);
	control_add_str(a->request, "condition", failed ? failed->text : "");
	for (size_t i = 0; truth == SMTP_TRUTH_YES && i < rule->action_count; i++)
		control_add_item(a->request, "actions", slice_str(rule->actions[i].text));
}

static bool act(void *arg, const struct smtp_rule *rule, const struct smtp_action *action)
{
	struct asking *a = arg;
	struct buf key = {0};
	bool yes;

	switch (action->kind) {
	case SMTP_ACTION_ACCEPT:
	case SMTP_ACTION_REJECT:
	case SMTP_ACTION_TEMPREJECT:
	case SMTP_ACTION_DISCARD:
	case SMTP_ACTION_GREYLIST:
		return true;
	case SMTP_ACTION_RATE_LIMIT:
		smtp_judge_rate_key(&a->facts, rule, action, &key);
		yes = rates_would_take(rates_shared(), buf_view(&key), action->count, action->period_ms,
			loop_now_ms(control_request_loop(a->request)));
		buf_deinit(&key);
		return !yes;
	case SMTP_ACTION_REDIRECT:
		if (a->phase == SMTP_PHASE_RCPT)
			smtp_facts_set(&a->facts.recipient, slice_str(action->name));
		return false;
	case SMTP_ACTION_QUARANTINE:
		a->is_held = true;
		return false;
	case SMTP_ACTION_ADD_HEADER:
	case SMTP_ACTION_REMOVE_HEADER:
	case SMTP_ACTION_ADD_RECIPIENT:
	case SMTP_ACTION_ROUTE:
	case SMTP_ACTION_MILTER:
		return false;
	}
	return false;
}

static void begin_phase(struct asking *a)
{
	a->run = (struct smtp_rule_run){.rules = a->policy->rules,
		.count = a->policy->rule_count,
		.phase = a->phase,
		.act = act,
		.seen = seen,
		.arg = a};
	if (a->phase == SMTP_PHASE_RCPT) {
		smtp_facts_set(&a->facts.recipient, slice_str(a->recipients[a->recipient_at]));
		a->facts.recipients = (unsigned)a->accepted_count + 1;
	}
}

/* True: all is said. */
static bool end_phase(struct asking *a)
{
	const struct smtp_action *action = a->run.decided ? a->run.action : NULL;
	bool refuses = action && action->kind != SMTP_ACTION_ACCEPT && action->kind != SMTP_ACTION_GREYLIST;

	if (action) {
		free(a->rule);
		a->rule = xstrdup(a->run.decided->name);
	}
	if (refuses) {
		a->answer = (struct smtp_answer){0};
		if (action->kind != SMTP_ACTION_DISCARD)
			smtp_judge_answer(action, a->phase, &a->answer);
	}
	a->is_discarded = action && action->kind == SMTP_ACTION_DISCARD;
	if (action && action->kind == SMTP_ACTION_GREYLIST)
		a->strangers[a->stranger_count++] = a->recipients[a->recipient_at];
	if (a->phase == SMTP_PHASE_RCPT) {
		if (!refuses)
			a->accepted[a->accepted_count++] = slice_str(a->recipients[a->recipient_at]);
		if (++a->recipient_at < a->recipient_count)
			return false;
		refuses = !a->accepted_count;
	}
	a->is_refused = refuses;
	if (refuses || a->phase == SMTP_PHASE_DATA)
		return true;
	a->phase = (enum smtp_phase)(a->phase + 1);
	return false;
}

static void found_out(void *arg)
{
	struct asking *a = arg;

	a->lookup = NULL;
	proceed(a);
}

static void spf_found(void *arg, const struct spf_answer *answer)
{
	struct asking *a = arg;

	a->spf = NULL;
	a->facts.spf = smtp_spf_fact(answer->result);
	if (answer->is_helo)
		a->facts.spf_helo = a->facts.spf;
	smtp_facts_set(&a->facts.spf_domain, slice_str(answer->domain));
	a->spf_domain = xstrdup(answer->domain);
	a->spf_term = xstrdup(answer->term);
	proceed(a);
}

/* As sessions do (smtp_spf.h): strangers alone, once; with the null sender the name of EHLO. */
static bool asks_spf(struct asking *a, const struct smtp_need *need)
{
	const struct spf_question question = {.client = a->facts.peer,
		.helo = slice_str(a->facts.helo),
		.sender = slice_str(option(a, "from"))};

	if ((need->subject != SMTP_SUBJECT_SPF && need->subject != SMTP_SUBJECT_SPF_HELO) || a->is_offline ||
		a->spf_domain || a->facts.spf != SMTP_RESULT_UNKNOWN || *a->facts.user ||
		addr_is_loopback(&a->facts.peer))
		return false;
	smtp_spf_ask(control_request_loop(a->request), &question, SPF_MS, spf_found, a, &a->spf);
	return true;
}

/* True: it will come. */
static bool find_out(struct asking *a, const struct smtp_need *need)
{
	const struct smtp_lookup_settings settings = {.country = a->policy->country,
		.timeout_ms = a->policy->dns_timeout_ms,
		.is_offline = a->is_offline};

	a->asked |= 1U << need->subject;
	if (asks_spf(a, need))
		return true;
	a->lookup =
		smtp_lookup_begin(control_request_loop(a->request), &a->facts, need, &settings, found_out, a);
	return a->lookup != NULL;
}

static void proceed(struct asking *a)
{
	struct smtp_need need;

	for (;;) {
		bool has_content = a->phase >= SMTP_PHASE_HEADER;
		struct smtp_scene scene = {.facts = &a->facts,
			.fields = a->fields,
			.field_count = a->field_count,
			.recipients = has_content ? a->accepted : NULL,
			.recipient_count = a->accepted_count,
			.asked = a->asked};

		if (!smtp_rule_run(&a->run, &scene, &need)) {
			if (find_out(a, &need))
				return;
			continue;
		}
		if (end_phase(a)) {
			finish(a);
			return;
		}
		begin_phase(a);
	}
}

/* ---- the question ---- */

static bool is_result(struct asking *a, const char *option, enum smtp_result *result_out)
{
	const char *word = control_option(a->request, option, 0);

	if (!word)
		return true;
	*result_out = smtp_facts_result(slice_str(word));
	return *result_out != SMTP_RESULT_UNKNOWN;
}

static bool take_fields(struct asking *a)
{
	const char *text;

	for (size_t i = 0; (text = control_option(a->request, "header", i)) != NULL; i++) {
		struct buf raw = {0};

		if (a->field_count == FIELDS_MOST)
			return false;
		buf_printf(&raw, "%s\r\n", text);
		a->raw[a->field_count] = xmemdup0(raw.data, raw.end);
		header_split(slice_of(a->raw[a->field_count], raw.end), &a->fields[a->field_count]);
		buf_deinit(&raw);
		if (!a->fields[a->field_count++].name.len)
			return false;
	}
	return true;
}

static bool is_address(const char *text)
{
	struct smtp_path path;
	struct buf whole = {0};
	struct arena arena;
	bool is;

	arena_init(&arena, 8 * SMTP_PATH_MOST);
	buf_printf(&whole, "<%s>", text);
	is = smtp_parse_path(&arena, buf_view(&whole), &path) == (ssize_t)buf_len(&whole);
	buf_deinit(&whole);
	arena_deinit(&arena);
	return is;
}

static bool take_recipients(struct asking *a)
{
	const char *text;

	for (size_t i = 0; (text = control_option(a->request, "to", i)) != NULL; i++) {
		if (i == RECIPIENTS_MOST || !is_address(text) || !*text)
			return false;
		a->recipients[a->recipient_count++] = text;
	}
	return a->recipient_count > 0;
}

/* NULL: it can be asked; else what is wrong. */
static const char *take_question(struct asking *a)
{
	struct smtp_facts *f = &a->facts;
	const char *from = option(a, "from"), *size = control_option(a->request, "size", 0);

	if (!*option(a, "ip") || addr_parse(slice_str(option(a, "ip")), 25, &f->peer))
		return "--ip is no address";
	if (!is_address(from))
		return "--from is no address (\"\" for the null sender)";
	if (!take_recipients(a))
		return "--to is no address, or there are too many";
	if (!take_fields(a))
		return "--header wants \"Name: value\", at most 100 times";
	if (size && num_parse_size(slice_str(size), &f->size))
		return "--size is no size";
	if (!is_result(a, "spf", &f->spf) || !is_result(a, "dkim", &f->dkim) ||
		!is_result(a, "dmarc", &f->dmarc) || !is_result(a, "arc", &f->arc))
		return "a result is one of none pass fail softfail neutral policy temperror permerror";
	f->helo = option(a, "helo");
	f->user = option(a, "user");
	f->is_tls = control_has_option(a->request, "tls");
	f->messages = 1;
	smtp_facts_set(&f->sender, slice_str(from));
	a->is_offline = control_has_option(a->request, "no-dns");
	return NULL;
}

static void do_explain(void *arg, struct control_request *request)
{
	const struct smtp_explain *e = arg;
	struct asking *a = xcalloc(1, sizeof(*a));
	const char *service = control_option(request, "service", 0), *wrong;

	a->request = request;
	smtp_facts_init(&a->facts);
	service = service ? service : "smtp";
	a->facts.service = service;
	a->policy = e->find(e->arg, service);
	wrong = a->policy ? take_question(a) : "there is no such service, or nobody offers it";
	if (wrong) {
		control_fail(request, ERR_SYNTAX, "%s", wrong);
		free_asking(a);
		return;
	}
	begin_phase(a);
	proceed(a);
}

static const struct control_verb verbs[] = {
	{"smtp explain",
		"--ip ADDRESS --from ADDRESS --to ADDRESS... [--helo NAME] [--user NAME] [--tls] [--service "
		"NAME] "
		"[--size SIZE] [--header \"Name: value\"]... [--spf|--dkim|--dmarc|--arc RESULT] [--no-dns]",
		"Which acceptance rule decides in each phase, and why", do_explain, 0, 0,
		"ip= from= to= helo= user= tls service= size= header= spf= dkim= dmarc= arc= no-dns", 0},
};

void smtp_explain_register(struct control *control, struct smtp_explain *explain)
{
	control_register(control, verbs, ARRAY_LEN(verbs), explain);
}
