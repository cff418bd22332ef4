/* Conditions and actions as texts, errors with their place, and truth tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/front/smtp_rule.h"

#define NETS "peer 192.0.2.0/24 2001:db8::/32"

/* ---- parsing ---- */

static void test_conditions_parse(void **state)
{
	static const char *const rows[] = {NETS, "not peer 192.0.2.1", "ptr", "not ptr", "ptr *.dyn.example",
		"country DE fr", "dnsbl zen.example.", "dnsbl zen.example 127.0.0.2 127.0.0.4/30", "tls",
		"tls TLSv1.3*", "tls-verified", "messages >10", "errors >3", "helo localhost *.local", "user",
		"user alice@*", "sender <>", "sender /^bounce-[0-9]+@/", "sender-domain example.org",
		"sender-is-own", "size >10M", "spf fail softfail", "spf-helo FAIL", "recipient postmaster@*",
		"domain example.org", "recipients >50", "header Subject", "header Subject \"*free money*\"",
		"header Subject /a\\/b/ \"x \\\" y\"", "dkim pass", "dkim-domain example.org", "dmarc fail",
		"dmarc-policy reject quarantine", "arc pass"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_condition c;
		struct buf why = {0};
		int err = smtp_rule_parse_condition(slice_str(rows[i]), SMTP_PHASE_DATA, &why, &c);

		if (err)
			print_error("%s: %s\n", rows[i], buf_str_view(&why));
		assert_int_equal(err, 0);
		assert_string_equal(c.text, rows[i]);
		smtp_rule_condition_deinit(&c);
		buf_deinit(&why);
	}
}

struct bad {
	enum smtp_phase phase;
	const char *text, *why;
};

static void test_conditions_that_are_none(void **state)
{
	static const struct bad rows[] = {
		{SMTP_PHASE_DATA, "", "octet 1: a condition belongs here"},
		{SMTP_PHASE_DATA, "not", "octet 4: what is not?"},
		{SMTP_PHASE_DATA, "not not tls", "octet 5: there is no such condition"},
		{SMTP_PHASE_DATA, "peers 1.2.3.4", "octet 1: there is no such condition"},
		{SMTP_PHASE_DATA, "\"peer\" 1.2.3.4", "octet 1: there is no such condition"},
		{SMTP_PHASE_DATA, "peer", "octet 5: a value belongs here"},
		{SMTP_PHASE_DATA, "peer 1.2.3.4 1.2.3.4/8", "octet 14: this is no address or network"},
		{SMTP_PHASE_DATA, "tls-verified yes", "octet 14: this condition has no values"},
		{SMTP_PHASE_DATA, "size 10M", "octet 6: a number after < or > belongs here, as in >10"},
		{SMTP_PHASE_DATA, "size >10Q", "octet 6: this is no number"},
		{SMTP_PHASE_DATA, "recipients >1 <9", "octet 15: one number only"},
		{SMTP_PHASE_DATA, "spf failed",
			"octet 5: one of none pass fail softfail neutral policy temperror permerror belongs "
			"here"},
		{SMTP_PHASE_DATA, "country Germany", "octet 9: a country has two letters (ISO 3166)"},
		{SMTP_PHASE_DATA, "dnsbl zen..example", "octet 7: this is no zone"},
		{SMTP_PHASE_DATA, "dnsbl zen.example 10.0.0.1",
			"octet 19: answers of lists are addresses of 127.0.0.0/8"},
		{SMTP_PHASE_DATA, "header Sub:ject", "octet 8: this is no name of a field"},
		{SMTP_PHASE_DATA, "header Subject \"x", "octet 16: the quotation has no end"},
		{SMTP_PHASE_DATA, "header Subject \"x\"y", "octet 19: a blank belongs here"},
		{SMTP_PHASE_DATA, "header Subject x\"y", "octet 16: a quotation mark stands amid a word"},
		{SMTP_PHASE_DATA, "header Subject /x", "octet 16: the expression has no end"},
		{SMTP_PHASE_DATA, "header Subject /(/",
			"octet 16: expression, octet 2: missing closing parenthesis"},
		{SMTP_PHASE_DATA, "peer /x/", "octet 6: no expression may stand here"},
		{SMTP_PHASE_DATA, "sender a\nb", "octet 9: a control character"},
		{SMTP_PHASE_CONNECT, "helo x", "octet 1: this is not known yet at that phase"},
		{SMTP_PHASE_MAIL, "recipient x@y", "octet 1: this is not known yet at that phase"},
		{SMTP_PHASE_RCPT, "header Subject", "octet 1: this is not known yet at that phase"},
		{SMTP_PHASE_HEADER, "dkim pass", "octet 1: this is not known yet at that phase"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_condition c;
		struct buf why = {0};

		assert_int_not_equal(
			smtp_rule_parse_condition(slice_str(rows[i].text), rows[i].phase, &why, &c), 0);
		assert_string_equal(buf_str_view(&why), rows[i].why);
		buf_deinit(&why);
	}
}

static void test_actions_parse(void **state)
{
	static const struct {
		enum smtp_phase phase;
		const char *text;
		enum smtp_action_kind kind;
		unsigned code;
		const char *enhanced, *name, *value;
	} rows[] = {
		{SMTP_PHASE_CONNECT, "accept", SMTP_ACTION_ACCEPT, 0, NULL, NULL, NULL},
		{SMTP_PHASE_CONNECT, "reject", SMTP_ACTION_REJECT, 0, NULL, NULL, ""},
		{SMTP_PHASE_RCPT, "reject 554", SMTP_ACTION_REJECT, 554, NULL, NULL, ""},
		{SMTP_PHASE_RCPT, "reject 554 5.7.25 No name, no mail", SMTP_ACTION_REJECT, 554, "5.7.25",
			NULL, "No name, no mail"},
		{SMTP_PHASE_RCPT, "reject 5.7.25 No", SMTP_ACTION_REJECT, 0, "5.7.25", NULL, "No"},
		{SMTP_PHASE_RCPT, "reject Go away", SMTP_ACTION_REJECT, 0, NULL, NULL, "Go away"},
		{SMTP_PHASE_RCPT, "tempreject 451 4.3.0 Later", SMTP_ACTION_TEMPREJECT, 451, "4.3.0", NULL,
			"Later"},
		{SMTP_PHASE_DATA, "discard", SMTP_ACTION_DISCARD, 0, NULL, NULL, NULL},
		{SMTP_PHASE_RCPT, "greylist", SMTP_ACTION_GREYLIST, 0, NULL, NULL, NULL},
		{SMTP_PHASE_RCPT, "quarantine looks bad", SMTP_ACTION_QUARANTINE, 0, NULL, NULL, "looks bad"},
		{SMTP_PHASE_MAIL, "add-header X-Rule:  one: two ", SMTP_ACTION_ADD_HEADER, 0, NULL, "X-Rule",
			"one: two"},
		{SMTP_PHASE_DATA, "remove-header X-Rule", SMTP_ACTION_REMOVE_HEADER, 0, NULL, "X-Rule", NULL},
		{SMTP_PHASE_DATA, "remove-header X-Rule /x/", SMTP_ACTION_REMOVE_HEADER, 0, NULL, "X-Rule",
			NULL},
		{SMTP_PHASE_DATA, "add-recipient a@b", SMTP_ACTION_ADD_RECIPIENT, 0, NULL, "a@b", NULL},
		{SMTP_PHASE_RCPT, "redirect a@b", SMTP_ACTION_REDIRECT, 0, NULL, "a@b", NULL},
		{SMTP_PHASE_RCPT, "route b1", SMTP_ACTION_ROUTE, 0, NULL, "b1", NULL},
		{SMTP_PHASE_RCPT, "rate-limit 100/1h by peer domain", SMTP_ACTION_RATE_LIMIT, 0, NULL, NULL,
			""},
		{SMTP_PHASE_MAIL, "rate-limit 5/1m by user 452 4.5.3 Slow down", SMTP_ACTION_RATE_LIMIT, 452,
			"4.5.3", NULL, "Slow down"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_action a;
		struct buf why = {0};
		int err = smtp_rule_parse_action(slice_str(rows[i].text), rows[i].phase, &why, &a);

		if (err)
			print_error("%s: %s\n", rows[i].text, buf_str_view(&why));
		assert_int_equal(err, 0);
		assert_int_equal(a.kind, rows[i].kind);
		assert_int_equal(a.code, rows[i].code);
		if (rows[i].enhanced)
			assert_string_equal(a.enhanced, rows[i].enhanced);
		if (rows[i].name)
			assert_string_equal(a.name, rows[i].name);
		if (rows[i].value)
			assert_string_equal(a.value, rows[i].value);
		smtp_rule_action_deinit(&a);
		buf_deinit(&why);
	}
}

/* Security class 4: nothing of a configuration puts a line end into an answer or a header. */
static void test_security_04_no_line_ends_in_actions(void **state)
{
	static const struct bad rows[] = {
		{SMTP_PHASE_DATA, "reject 550 5.7.1 a\r\n250 b", "octet 19: a control character"},
		{SMTP_PHASE_DATA, "add-header X: a\nBcc: b", "octet 16: a control character"},
		{SMTP_PHASE_DATA, "add-header X\r: a", "octet 13: a control character"},
		{SMTP_PHASE_DATA, "add-recipient a@b>\r\nDATA", "octet 19: a control character"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_action a;
		struct buf why = {0};

		assert_int_not_equal(
			smtp_rule_parse_action(slice_str(rows[i].text), rows[i].phase, &why, &a), 0);
		assert_string_equal(buf_str_view(&why), rows[i].why);
		buf_deinit(&why);
	}
}

static void test_actions_that_are_none(void **state)
{
	static const struct bad rows[] = {
		{SMTP_PHASE_RCPT, "", "octet 1: an action belongs here"},
		{SMTP_PHASE_RCPT, "refuse", "octet 1: there is no such action"},
		{SMTP_PHASE_RCPT, "accept now", "octet 8: nothing belongs here"},
		{SMTP_PHASE_RCPT, "reject 450 x", "octet 8: a code of 500 to 599 belongs here"},
		{SMTP_PHASE_RCPT, "reject 550 4.7.1 x",
			"octet 12: this is no enhanced status code of that class, as 5.7.1"},
		{SMTP_PHASE_RCPT, "tempreject 550", "octet 12: a code of 400 to 499 belongs here"},
		{SMTP_PHASE_MAIL, "greylist", "octet 1: this cannot be done at that phase"},
		{SMTP_PHASE_RCPT, "discard", "octet 1: this cannot be done at that phase"},
		{SMTP_PHASE_RCPT, "add-header X", "octet 12: a field belongs here, as in X-Rule: text"},
		{SMTP_PHASE_RCPT, "redirect alice", "octet 10: this is no address (ASCII, with a domain)"},
		{SMTP_PHASE_RCPT, "redirect a@b c@d", "octet 14: nothing belongs here"},
		{SMTP_PHASE_DATA, "milter rspamd", "octet 1: this cannot be done at that phase"},
		{SMTP_PHASE_RCPT, "rate-limit 10 by peer", "octet 12: a rate belongs here, as in 100/1h"},
		{SMTP_PHASE_RCPT, "rate-limit 10/1h peer",
			"octet 18: `by` and what is counted by belong here, as in 100/1h by peer"},
		{SMTP_PHASE_RCPT, "rate-limit 10/1h by", "octet 20: what is it counted by?"},
		{SMTP_PHASE_RCPT, "rate-limit 10/1h by peers",
			"octet 21: one of peer network user sender sender-domain recipient domain belongs "
			"here"},
		{SMTP_PHASE_MAIL, "rate-limit 10/1h by recipient",
			"octet 30: it cannot be counted by that at this phase"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_action a;
		struct buf why = {0};

		assert_int_not_equal(
			smtp_rule_parse_action(slice_str(rows[i].text), rows[i].phase, &why, &a), 0);
		assert_string_equal(buf_str_view(&why), rows[i].why);
		buf_deinit(&why);
	}
}

/* ---- truth ---- */

static void set_facts(struct smtp_facts *f)
{
	struct smtp_dnsbl_fact *list;

	smtp_facts_init(f);
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.7"), 25, &f->peer), 0);
	f->helo = "mail.example.org";
	f->user = "";
	f->is_tls = true;
	f->tls_text = "TLSv1.3 TLS_AES_128_GCM_SHA256";
	f->ptr_state = SMTP_FACT_KNOWN;
	smtp_facts_set(&f->ptr, SLICE_LIT("host.dyn.example"));
	f->country_state = SMTP_FACT_KNOWN;
	memcpy(f->country, "DE", 3);
	f->messages = 3;
	f->size = 2000;
	f->recipients = 2;
	smtp_facts_set(&f->sender, SLICE_LIT("Bob@Example.org"));
	smtp_facts_set(&f->recipient, SLICE_LIT("alice@example.test"));
	f->spf = SMTP_RESULT_SOFTFAIL;
	f->spf_helo = SMTP_RESULT_TEMPERROR;
	smtp_facts_add_dkim(f, SMTP_RESULT_FAIL, SLICE_LIT("one.example"), SLICE_LIT("s"));
	smtp_facts_add_dkim(f, SMTP_RESULT_PASS, SLICE_LIT("two.example"), SLICE_LIT("s"));
	f->dmarc = SMTP_RESULT_FAIL;
	f->dmarc_policy = SMTP_DMARC_QUARANTINE;
	list = smtp_facts_dnsbl(f, SLICE_LIT("listed.example"));
	list->state = SMTP_FACT_KNOWN;
	list->listed[list->count++] = 0x7f000004;
	smtp_facts_dnsbl(f, SLICE_LIT("clean.example"))->state = SMTP_FACT_NONE;
	smtp_facts_dnsbl(f, SLICE_LIT("down.example"))->state = SMTP_FACT_NOT_NOW;
}

static void test_truth(void **state)
{
	static const struct {
		const char *text;
		enum smtp_truth want;
	} rows[] = {
		{NETS, SMTP_TRUTH_YES},
		{"not " NETS, SMTP_TRUTH_NO},
		{"peer 198.51.100.0/24", SMTP_TRUTH_NO},
		{"ptr", SMTP_TRUTH_YES},
		{"ptr *.dyn.example", SMTP_TRUTH_YES},
		{"ptr *.static.example x", SMTP_TRUTH_NO},
		{"country FR de", SMTP_TRUTH_YES},
		{"country FR", SMTP_TRUTH_NO},
		{"tls", SMTP_TRUTH_YES},
		{"tls TLSv1.3*", SMTP_TRUTH_YES},
		{"tls TLSv1.2*", SMTP_TRUTH_NO},
		{"tls-verified", SMTP_TRUTH_NO},
		{"messages >2", SMTP_TRUTH_YES},
		{"messages >3", SMTP_TRUTH_NO},
		{"messages <4", SMTP_TRUTH_YES},
		{"size >1K", SMTP_TRUTH_YES},
		{"size <1K", SMTP_TRUTH_NO},
		{"recipients >1", SMTP_TRUTH_YES},
		{"helo *.EXAMPLE.org", SMTP_TRUTH_YES},
		{"helo ?ail.example.org", SMTP_TRUTH_YES},
		{"user", SMTP_TRUTH_NO},
		{"not user", SMTP_TRUTH_YES},
		{"sender bob@*", SMTP_TRUTH_YES},
		{"sender <>", SMTP_TRUTH_NO},
		{"sender /^b.b@/", SMTP_TRUTH_YES},
		{"sender-domain example.org", SMTP_TRUTH_YES},
		{"sender-domain org", SMTP_TRUTH_NO},
		{"recipient alice@*", SMTP_TRUTH_YES},
		{"domain *.test", SMTP_TRUTH_YES},
		{"spf fail softfail", SMTP_TRUTH_YES},
		{"spf fail", SMTP_TRUTH_NO},
		{"not spf pass", SMTP_TRUTH_YES},
		/* what cannot be said is never the opposite of anything */
		{"spf-helo fail", SMTP_TRUTH_NOT_NOW},
		{"not spf-helo pass", SMTP_TRUTH_NOT_NOW},
		{"spf-helo temperror", SMTP_TRUTH_YES},
		{"dkim pass", SMTP_TRUTH_YES},
		{"dkim-domain two.example", SMTP_TRUTH_YES},
		{"dkim-domain one.example", SMTP_TRUTH_NO},
		{"dmarc fail", SMTP_TRUTH_YES},
		{"dmarc-policy reject", SMTP_TRUTH_NO},
		{"dmarc-policy reject quarantine", SMTP_TRUTH_YES},
		{"dnsbl listed.example", SMTP_TRUTH_YES},
		{"dnsbl LISTED.example. 127.0.0.4/30", SMTP_TRUTH_YES},
		{"dnsbl listed.example 127.0.0.2", SMTP_TRUTH_NO},
		{"dnsbl clean.example", SMTP_TRUTH_NO},
		{"not dnsbl clean.example", SMTP_TRUTH_YES},
		{"dnsbl down.example", SMTP_TRUTH_NOT_NOW},
		{"not dnsbl down.example", SMTP_TRUTH_NOT_NOW},
		{"dnsbl new.example", SMTP_TRUTH_ASK},
		{"not arc pass", SMTP_TRUTH_ASK},
		{"sender-is-own", SMTP_TRUTH_ASK},
		{"header subject", SMTP_TRUTH_YES},
		{"header subject \"*free money*\"", SMTP_TRUTH_YES},
		{"header subject free*", SMTP_TRUTH_NO},
		{"header X-None", SMTP_TRUTH_NO},
		{"not header X-None", SMTP_TRUTH_YES},
	};
	struct header_field fields[2];
	struct smtp_facts facts;
	struct smtp_scene scene = {.facts = &facts, .fields = fields, .field_count = 2};

	(void)state;
	set_facts(&facts);
	header_split(SLICE_LIT("A: 1\r\n"), &fields[0]);
	header_split(SLICE_LIT("Subject: get FREE\r\n money now\r\n"), &fields[1]);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_condition c;
		struct smtp_need need;
		struct buf why = {0};
		enum smtp_truth got;

		assert_int_equal(
			smtp_rule_parse_condition(slice_str(rows[i].text), SMTP_PHASE_DATA, &why, &c), 0);
		got = smtp_rule_test(&c, &scene, &need);
		if (got != rows[i].want)
			print_error("%s\n", rows[i].text);
		assert_int_equal(got, rows[i].want);
		/* asked already: it cannot be said */
		scene.asked = ~0U;
		if (got == SMTP_TRUTH_ASK && c.subject != SMTP_SUBJECT_DNSBL)
			assert_int_equal(smtp_rule_test(&c, &scene, &need), SMTP_TRUTH_NOT_NOW);
		scene.asked = 0;
		smtp_rule_condition_deinit(&c);
	}
	smtp_facts_deinit(&facts);
}

/* All recipients count at the end of data. */
static void test_recipients(void **state)
{
	const struct slice all[] = {SLICE_LIT("one@a.test"), SLICE_LIT("two@b.test")};
	struct smtp_facts facts;
	struct smtp_scene scene = {.facts = &facts, .recipients = all, .recipient_count = 2};
	struct smtp_condition c;
	struct smtp_need need;
	struct buf why = {0};

	(void)state;
	smtp_facts_init(&facts);
	assert_int_equal(smtp_rule_parse_condition(SLICE_LIT("domain b.test"), SMTP_PHASE_DATA, &why, &c), 0);
	assert_int_equal(smtp_rule_test(&c, &scene, &need), SMTP_TRUTH_YES);
	scene.recipient_count = 1;
	assert_int_equal(smtp_rule_test(&c, &scene, &need), SMTP_TRUTH_NO);
	smtp_rule_condition_deinit(&c);
	smtp_facts_deinit(&facts);
}

/* ---- running ---- */

static struct smtp_rule *rule_of(
	const char *name, enum smtp_phase phase, const char *const *when, const char *then)
{
	struct smtp_rule *r = calloc(1, sizeof(*r));
	struct buf why = {0};

	r->name = strdup(name);
	r->phase = phase;
	r->conditions = calloc(4, sizeof(*r->conditions));
	r->actions = calloc(1, sizeof(*r->actions));
	for (; *when; when++)
		assert_int_equal(smtp_rule_parse_condition(
					 slice_str(*when), phase, &why, &r->conditions[r->condition_count++]),
			0);
	assert_int_equal(
		smtp_rule_parse_action(slice_str(then), phase, &why, &r->actions[r->action_count++]), 0);
	return r;
}

static unsigned acted;

static bool act(void *arg, const struct smtp_rule *rule, const struct smtp_action *action)
{
	(void)arg;
	(void)rule;
	acted++;
	return action->kind == SMTP_ACTION_REJECT || action->kind == SMTP_ACTION_ACCEPT;
}

static void test_run(void **state)
{
	struct smtp_rule *rules[] = {
		rule_of("other", SMTP_PHASE_DATA, (const char *const[]){NULL}, "reject"),
		rule_of("mark", SMTP_PHASE_RCPT, (const char *const[]){NULL}, "add-header X: 1"),
		rule_of("cannot", SMTP_PHASE_RCPT, (const char *const[]){"not dnsbl down.example", NULL},
			"reject"),
		rule_of("asks", SMTP_PHASE_RCPT,
			(const char *const[]){"helo nobody", "dnsbl never.example", NULL}, "reject"),
		rule_of("list", SMTP_PHASE_RCPT, (const char *const[]){"dnsbl new.example", NULL}, "accept"),
		rule_of("end", SMTP_PHASE_RCPT, (const char *const[]){NULL}, "reject"),
	};
	struct smtp_facts facts;
	struct smtp_scene scene = {.facts = &facts};
	struct smtp_rule_run run = {
		.rules = rules, .count = ARRAY_LEN(rules), .phase = SMTP_PHASE_RCPT, .act = act};
	struct smtp_need need;

	(void)state;
	set_facts(&facts);
	acted = 0;
	/* Stops at the list; what a false condition stands before is not asked. */
	assert_false(smtp_rule_run(&run, &scene, &need));
	assert_int_equal(need.subject, SMTP_SUBJECT_DNSBL);
	assert_string_equal(need.zone, "new.example");
	assert_int_equal(acted, 1);
	smtp_facts_dnsbl(&facts, SLICE_LIT("new.example"))->state = SMTP_FACT_NONE;
	/* Goes on there: nothing is done twice. */
	assert_true(smtp_rule_run(&run, &scene, &need));
	assert_int_equal(acted, 2);
	assert_string_equal(run.decided->name, "end");
	assert_int_equal(run.action->kind, SMTP_ACTION_REJECT);
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		smtp_rule_deinit(rules[i]);
		free(rules[i]);
	}
	smtp_facts_deinit(&facts);
}

/* ---- patterns ---- */

static void test_patterns(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool is_regex, want;
	} rows[] = {
		{"", "", false, true},
		{"*", "", false, true},
		{"a*b*c", "aXbYc", false, true},
		{"a*b*c", "aXbY", false, false},
		{"*.example", "host.example.org", false, false},
		{"?", "", false, false},
		{"a?c", "abc", false, true},
		{"**", "abc", false, true},
		{"ABC", "abc", false, true},
		{"^a+$", "AAA", true, true},
		{"b", "abc", true, true},
		{"^b", "abc", true, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_pattern *p;
		struct buf why = {0};

		assert_int_equal(smtp_pattern_new(slice_str(rows[i].pattern), rows[i].is_regex, &why, &p), 0);
		assert_int_equal(smtp_pattern_matches(p, slice_str(rows[i].text), NULL), rows[i].want);
		smtp_pattern_free(&p);
	}
}

/* Security class 24's kin: neither form may cost more than its limits. */
static void test_security_24_patterns_are_bounded(void **state)
{
	struct smtp_pattern *wild, *regex;
	struct buf text = {0}, why = {0};
	struct timespec begin, end;
	bool is_broken = false;

	(void)state;
	for (int i = 0; i < 100000; i++)
		buf_add_char(&text, 'a');
	assert_int_equal(smtp_pattern_new(SLICE_LIT("*a*a*a*a*a*a*a*a*a*b"), false, &why, &wild), 0);
	assert_int_equal(smtp_pattern_new(SLICE_LIT("^(a+)+b$"), true, &why, &regex), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	assert_false(smtp_pattern_matches(wild, buf_view(&text), NULL));
	assert_false(smtp_pattern_matches(regex, buf_view(&text), &is_broken));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	assert_true(is_broken);
	assert_true((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000 < 500);
	assert_int_equal(smtp_pattern_new(buf_view(&text), false, &why, &wild), ERR_TOO_BIG);
	smtp_pattern_free(&regex);
	smtp_pattern_free(&wild);
	buf_deinit(&text);
	buf_deinit(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conditions_parse),
		cmocka_unit_test(test_conditions_that_are_none),
		cmocka_unit_test(test_actions_parse),
		cmocka_unit_test(test_security_04_no_line_ends_in_actions),
		cmocka_unit_test(test_actions_that_are_none),
		cmocka_unit_test(test_truth),
		cmocka_unit_test(test_recipients),
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_security_24_patterns_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
