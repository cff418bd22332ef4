/*
 * Conditions held against what is known. One function a kind of subject, a table that leads there. Truth is three-valued and one more:
 * what has not been asked yet stops the run, which goes on behind it when it is known.
 */
#include "common/front/smtp_rule.h"

#include <arpa/inet.h>

#include "common/base/attr.h"

#define VALUE_MOST SMTP_PATTERN_TEXT_MOST

struct question {
	const struct smtp_condition *condition;
	const struct smtp_scene *scene;
	struct smtp_need *need;
};

static enum smtp_truth truth(bool is)
{
	return is ? SMTP_TRUTH_YES : SMTP_TRUTH_NO;
}

/* Unknown: to be asked once. */
static enum smtp_truth ask(const struct question *q, const char *zone)
{
	if (q->scene->asked & 1U << q->condition->subject)
		return SMTP_TRUTH_NOT_NOW;
	*q->need = (struct smtp_need){q->condition->subject, zone};
	return SMTP_TRUTH_ASK;
}

static bool any_pattern(const struct smtp_condition *c, struct slice text)
{
	for (size_t i = 0; i < c->count; i++) {
		if (smtp_pattern_matches(c->patterns[i], text, NULL))
			return true;
	}
	return false;
}

static struct slice domain_of(struct slice address)
{
	ptrdiff_t at = slice_find_last(address, '@');

	return at < 0 ? SLICE_LIT("") : slice_from(address, (size_t)at + 1);
}

static bool any_net(const struct smtp_condition *c, const struct addr *addr)
{
	for (size_t i = 0; i < c->count; i++) {
		if (addr_net_has(&c->nets[i], addr))
			return true;
	}
	return false;
}

/* ---- subjects ---- */

static enum smtp_truth test_peer(const struct question *q)
{
	return truth(any_net(q->condition, &q->scene->facts->peer));
}

static enum smtp_truth test_ptr(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;

	switch (f->ptr_state) {
	case SMTP_FACT_UNKNOWN:
		return ask(q, NULL);
	case SMTP_FACT_NONE:
		return SMTP_TRUTH_NO;
	case SMTP_FACT_NOT_NOW:
		return SMTP_TRUTH_NOT_NOW;
	case SMTP_FACT_KNOWN:
		break;
	}
	return truth(!q->condition->count || any_pattern(q->condition, slice_str(f->ptr)));
}

static enum smtp_truth test_country(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;

	switch (f->country_state) {
	case SMTP_FACT_UNKNOWN:
		return ask(q, NULL);
	case SMTP_FACT_NONE:
		return SMTP_TRUTH_NO;
	case SMTP_FACT_NOT_NOW:
		return SMTP_TRUTH_NOT_NOW;
	case SMTP_FACT_KNOWN:
		break;
	}
	for (size_t i = 0; i < q->condition->count; i++) {
		if (memcmp(q->condition->countries[i], f->country, 2) == 0)
			return SMTP_TRUTH_YES;
	}
	return SMTP_TRUTH_NO;
}

static enum smtp_truth test_dnsbl(const struct question *q)
{
	const struct smtp_condition *c = q->condition;
	const struct smtp_dnsbl_fact *list = smtp_facts_dnsbl(q->scene->facts, slice_str(c->name));

	if (!list)
		return SMTP_TRUTH_NOT_NOW;
	if (list->state == SMTP_FACT_UNKNOWN) {
		*q->need = (struct smtp_need){c->subject, c->name};
		return SMTP_TRUTH_ASK;
	}
	if (list->state == SMTP_FACT_NOT_NOW)
		return SMTP_TRUTH_NOT_NOW;
	for (unsigned i = 0; list->state == SMTP_FACT_KNOWN && i < list->count; i++) {
		uint32_t ip = htonl(list->listed[i]);
		struct addr addr;

		addr_set_ip(&addr, &ip, sizeof(ip), 0);
		if (!c->count || any_net(c, &addr))
			return SMTP_TRUTH_YES;
	}
	return SMTP_TRUTH_NO;
}

static enum smtp_truth test_tls(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;

	return truth(
		f->is_tls && (!q->condition->count || any_pattern(q->condition, slice_str(f->tls_text))));
}

static enum smtp_truth test_flag(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;

	if (q->condition->subject == SMTP_SUBJECT_TLS_VERIFIED)
		return truth(f->is_verified);
	if (!f->is_sender_own_known)
		return ask(q, NULL);
	return truth(f->is_sender_own);
}

static enum smtp_truth test_number(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;
	enum smtp_subject s = q->condition->subject;
	uint64_t n = s == SMTP_SUBJECT_MESSAGES     ? f->messages
		     : s == SMTP_SUBJECT_ERRORS     ? f->errors
		     : s == SMTP_SUBJECT_RECIPIENTS ? f->recipients
						    : f->size;

	return truth(q->condition->order == '>' ? n > q->condition->number : n < q->condition->number);
}

static enum smtp_truth test_session_text(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;
	struct slice text = slice_str(q->condition->subject == SMTP_SUBJECT_HELO ? f->helo : f->user);

	return truth(text.len && (!q->condition->count || any_pattern(q->condition, text)));
}

static enum smtp_truth test_sender(const struct question *q)
{
	struct slice sender = slice_str(q->scene->facts->sender ? q->scene->facts->sender : "");

	if (q->condition->subject == SMTP_SUBJECT_SENDER_DOMAIN)
		return truth(any_pattern(q->condition, domain_of(sender)));
	return truth(any_pattern(q->condition, sender.len ? sender : SLICE_LIT("<>")));
}

static bool is_recipient(const struct smtp_condition *c, struct slice address)
{
	return any_pattern(c, c->subject == SMTP_SUBJECT_DOMAIN ? domain_of(address) : address);
}

/* The one that is looked at, or any of all. */
static enum smtp_truth test_recipient(const struct question *q)
{
	if (!q->scene->recipients)
		return truth(q->scene->facts->recipient &&
			     is_recipient(q->condition, slice_str(q->scene->facts->recipient)));
	for (size_t i = 0; i < q->scene->recipient_count; i++) {
		if (is_recipient(q->condition, q->scene->recipients[i]))
			return SMTP_TRUTH_YES;
	}
	return SMTP_TRUTH_NO;
}

static enum smtp_truth test_result(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;
	enum smtp_subject s = q->condition->subject;
	enum smtp_result r = s == SMTP_SUBJECT_SPF        ? f->spf
			     : s == SMTP_SUBJECT_SPF_HELO ? f->spf_helo
			     : s == SMTP_SUBJECT_DKIM     ? f->dkim
			     : s == SMTP_SUBJECT_DMARC    ? f->dmarc
							  : f->arc;

	if (r == SMTP_RESULT_UNKNOWN)
		return ask(q, NULL);
	if (q->condition->words & 1U << r)
		return SMTP_TRUTH_YES;
	return r == SMTP_RESULT_TEMPERROR ? SMTP_TRUTH_NOT_NOW : SMTP_TRUTH_NO;
}

static enum smtp_truth test_policy(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;

	if (f->dmarc == SMTP_RESULT_UNKNOWN)
		return ask(q, NULL);
	if (f->dmarc_policy != SMTP_DMARC_UNKNOWN)
		return truth(q->condition->words & 1U << f->dmarc_policy);
	return f->dmarc == SMTP_RESULT_TEMPERROR ? SMTP_TRUTH_NOT_NOW : SMTP_TRUTH_NO;
}

static enum smtp_truth test_dkim_domain(const struct question *q)
{
	const struct smtp_facts *f = q->scene->facts;
	bool is_unsure = false;

	if (f->dkim == SMTP_RESULT_UNKNOWN)
		return ask(q, NULL);
	for (unsigned i = 0; i < f->dkim_count; i++) {
		const struct smtp_dkim_fact *d = &f->dkim_signatures[i];
		bool is_match = d->domain && any_pattern(q->condition, slice_str(d->domain));

		if (is_match && d->result == SMTP_RESULT_PASS)
			return SMTP_TRUTH_YES;
		is_unsure |= is_match && d->result == SMTP_RESULT_TEMPERROR;
	}
	return is_unsure ? SMTP_TRUTH_NOT_NOW : SMTP_TRUTH_NO;
}

static bool is_value(const struct smtp_condition *c, struct slice value)
{
	struct slice unfolded = slice_sub(value, 0, VALUE_MOST);
	struct arena arena;
	bool is;

	arena_init(&arena, 2 * VALUE_MOST);
	unfolded = header_unfold(&arena, unfolded);
	is = any_pattern(c, unfolded);
	arena_deinit(&arena);
	return is;
}

static enum smtp_truth test_header(const struct question *q)
{
	const struct smtp_condition *c = q->condition;

	for (size_t i = 0; i < q->scene->field_count; i++) {
		const struct header_field *field = &q->scene->fields[i];

		if (slice_is_str_nocase(field->name, c->name) && (!c->count || is_value(c, field->value)))
			return SMTP_TRUTH_YES;
	}
	return SMTP_TRUTH_NO;
}

static enum smtp_truth (*const tests[SMTP_SUBJECTS])(const struct question *q) = {
	[SMTP_SUBJECT_PEER] = test_peer,
	[SMTP_SUBJECT_PTR] = test_ptr,
	[SMTP_SUBJECT_COUNTRY] = test_country,
	[SMTP_SUBJECT_DNSBL] = test_dnsbl,
	[SMTP_SUBJECT_TLS] = test_tls,
	[SMTP_SUBJECT_TLS_VERIFIED] = test_flag,
	[SMTP_SUBJECT_MESSAGES] = test_number,
	[SMTP_SUBJECT_ERRORS] = test_number,
	[SMTP_SUBJECT_HELO] = test_session_text,
	[SMTP_SUBJECT_USER] = test_session_text,
	[SMTP_SUBJECT_SENDER] = test_sender,
	[SMTP_SUBJECT_SENDER_DOMAIN] = test_sender,
	[SMTP_SUBJECT_SENDER_IS_OWN] = test_flag,
	[SMTP_SUBJECT_SIZE] = test_number,
	[SMTP_SUBJECT_SPF] = test_result,
	[SMTP_SUBJECT_SPF_HELO] = test_result,
	[SMTP_SUBJECT_RECIPIENT] = test_recipient,
	[SMTP_SUBJECT_DOMAIN] = test_recipient,
	[SMTP_SUBJECT_RECIPIENTS] = test_number,
	[SMTP_SUBJECT_HEADER] = test_header,
	[SMTP_SUBJECT_DKIM] = test_result,
	[SMTP_SUBJECT_DKIM_DOMAIN] = test_dkim_domain,
	[SMTP_SUBJECT_DMARC] = test_result,
	[SMTP_SUBJECT_DMARC_POLICY] = test_policy,
	[SMTP_SUBJECT_ARC] = test_result,
};

enum smtp_truth smtp_rule_test(
	const struct smtp_condition *c, const struct smtp_scene *scene, struct smtp_need *need_out)
{
	const struct question q = {c, scene, need_out};
	enum smtp_truth t = tests[c->subject](&q);

	if (c->is_not && (t == SMTP_TRUTH_YES || t == SMTP_TRUTH_NO))
		return truth(t == SMTP_TRUTH_NO);
	return t;
}

/* ---- rules ---- */

/* All conditions: the first that fails is told. One that is false ends it before anything is asked for a later one. */
static enum smtp_truth test_rule(const struct smtp_rule *rule, const struct smtp_scene *scene,
	struct smtp_need *need_out, const struct smtp_condition **failed_out)
{
	for (size_t i = 0; i < rule->condition_count; i++) {
		enum smtp_truth t = smtp_rule_test(&rule->conditions[i], scene, need_out);

		*failed_out = &rule->conditions[i];
		if (t != SMTP_TRUTH_YES)
			return t;
	}
	*failed_out = NULL;
	return SMTP_TRUTH_YES;
}

static bool may_decide(enum smtp_action_kind kind)
{
	return kind == SMTP_ACTION_ACCEPT || kind == SMTP_ACTION_REJECT || kind == SMTP_ACTION_TEMPREJECT ||
	       kind == SMTP_ACTION_DISCARD || kind == SMTP_ACTION_GREYLIST;
}

static bool act(struct smtp_rule_run *run, const struct smtp_rule *rule)
{
	for (size_t i = 0; i < rule->action_count; i++) {
		const struct smtp_action *a = &rule->actions[i];
		bool decides = run->act ? run->act(run->arg, rule, a) : may_decide(a->kind);

		if (!decides)
			continue;
		run->decided = rule;
		run->action = a;
		return true;
	}
	return false;
}

bool smtp_rule_run(struct smtp_rule_run *run, const struct smtp_scene *scene, struct smtp_need *need_out)
{
	for (; run->at < run->count; run->at++) {
		const struct smtp_rule *rule = run->rules[run->at];
		const struct smtp_condition *failed = NULL;
		enum smtp_truth t;

		if (rule->phase != run->phase)
			continue;
		t = test_rule(rule, scene, need_out, &failed);
		if (t == SMTP_TRUTH_ASK)
			return false;
		if (run->seen)
			run->seen(run->arg, rule, t, failed);
		if (t == SMTP_TRUTH_YES && act(run, rule))
			return true;
	}
	return true;
}
