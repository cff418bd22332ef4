/*
 * A check is begun when MAIL has been read, and MAIL goes on when there is a result: what is asked later (rules, the tier, the
 * header) finds it in the facts. It lives until the transaction ends, for the header's sake.
 */
#include "common/front/smtp_spf.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_session.h"
#include "common/front/spf.h"
#include "common/proto/auth_results.h"
#include "common/proto/received_spf.h"

const struct conf_key smtp_spf_keys[] = {
	{"", "spf-checkers", CONF_INT, 0, "1", 0, 64, NULL,
		"SPF: processes that check records, kept for each thread that serves connections once one "
		"was "
		"needed",
		NULL},
	{"", "spf-checkers-most", CONF_INT, 0, "4", 1, 64, NULL,
		"SPF: so many of them at most for each thread, when all are busy", NULL},
	{"smtp", "spf", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"Service smtp: check senders by SPF (RFC 7208) and write the result into the header; what a "
		"result leads to is for rules. With no, senders are checked where a rule asks for it",
		NULL},
	{"smtp", "spf-timeout", CONF_DURATION, CONF_RELOAD, "20s", 1000, 60000, NULL,
		"SPF: for one check; then it is temperror", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

struct smtp_spf {
	struct smtp_front *front;
	struct spf_check *check; /* NULL: there is a result */
	struct slice rest;       /* owned */
	char *sender;            /* of Received-SPF; "<>" the null sender */
	enum spf_result result;
	bool is_helo;
	char *domain, *term;
	bool is_filtering; /* of a body */
	struct auth_results_filter filter;
	const char *ids[2];
};

static const enum smtp_result facts_of[SPF_RESULTS] = {
	[SPF_NONE] = SMTP_RESULT_NONE,
	[SPF_NEUTRAL] = SMTP_RESULT_NEUTRAL,
	[SPF_PASS] = SMTP_RESULT_PASS,
	[SPF_FAIL] = SMTP_RESULT_FAIL,
	[SPF_SOFTFAIL] = SMTP_RESULT_SOFTFAIL,
	[SPF_TEMPERROR] = SMTP_RESULT_TEMPERROR,
	[SPF_PERMERROR] = SMTP_RESULT_PERMERROR,
};

/* The program's; set before the loops start. */
static struct spf_service *service;
/* The main thread's, made when it is asked. */
static struct spf_service *asked;
static struct loop *asked_loop;

void smtp_spf_check_conf(struct conf *conf)
{
	struct buf why = {0};

	if (conf_get_int(conf, "", NULL, "spf-checkers") > conf_get_int(conf, "", NULL, "spf-checkers-most"))
		conf_error(conf, "", NULL, "spf-checkers", "more than spf-checkers-most");
	if (conf_get_bool(conf, "smtp", NULL, "spf") && spf_program_check(NULL, &why) != 0)
		conf_error(conf, "smtp", NULL, "spf", "%s", buf_str_view(&why));
	buf_deinit(&why);
}

void smtp_spf_start(const struct conf *conf, unsigned loops)
{
	const struct spf_options options = {.loops = loops,
		.least = (unsigned)conf_get_int(conf, "", NULL, "spf-checkers"),
		.most = (unsigned)conf_get_int(conf, "", NULL, "spf-checkers-most")};

	service = spf_service_new(&options);
}

void smtp_spf_leave(struct loop_group *group)
{
	for (unsigned i = 0; service && i < loop_group_count(group); i++)
		spf_service_leave(service, loop_group_at(group, i));
}

void smtp_spf_end(void)
{
	spf_service_free(&service);
	if (asked)
		spf_service_cut(
			asked, asked_loop); /* an operator's question goes on while the program ends */
	spf_service_free(&asked);
}

void smtp_spf_ask(struct loop *loop, const struct spf_question *question, uint64_t timeout_ms, spf_fn *fn,
	void *arg, struct spf_check **check_out)
{
	const struct spf_options options = {.loops = 1, .most = 1};

	if (!asked)
		asked = spf_service_new(&options);
	asked_loop = loop;
	spf_check(asked, loop, question, timeout_ms, fn, arg, check_out);
}

enum smtp_result smtp_spf_fact(enum spf_result result)
{
	return facts_of[result];
}

void smtp_spf_read(const struct conf *conf, bool is_submission, struct smtp_service *s)
{
	s->checks_spf = !is_submission && conf_get_bool(conf, "smtp", NULL, "spf");
	s->spf_ms = conf_get_duration(conf, "smtp", NULL, "spf-timeout");
}

/* ---- a check ---- */

static void log_result(const struct smtp_front *f, const struct smtp_spf *s)
{
	enum log_level level = s->result == SPF_NONE || s->result == SPF_PASS || s->result == SPF_NEUTRAL
				       ? LOG_DEBUG
				       : LOG_INFO;
	char text[ADDR_TEXT_MAX];

	if (log_is_on(level))
		log_write(level, f->service->name, "%s: spf=%s identity=%s domain=%s client=%s%s%s",
			f->session, spf_result_word(s->result), s->is_helo ? "helo" : "mailfrom", s->domain,
			addr_host(&f->client, text), *s->term ? " by=" : "", s->term);
}

static void on_answer(void *arg, const struct spf_answer *answer)
{
	struct smtp_spf *s = arg;
	struct smtp_front *f = s->front;
	struct smtp_facts *facts = smtp_front_facts(f);

	s->check = NULL;
	s->result = answer->result;
	s->is_helo = answer->is_helo;
	s->domain = xstrdup(answer->domain);
	s->term = xstrdup(answer->term);
	facts->spf = facts_of[answer->result];
	if (answer->is_helo)
		facts->spf_helo = facts->spf;
	smtp_facts_set(&facts->sender, s->is_helo ? SLICE_LIT("") : slice_str(s->sender));
	smtp_facts_set(&facts->spf_domain, slice_str(answer->domain));
	log_result(f, s);
	smtp_front_spf_done(f);
}

static bool rules_ask(const struct smtp_policy *policy)
{
	for (size_t i = 0; policy && i < policy->rule_count; i++)
		for (size_t k = 0; k < policy->rules[i]->condition_count; k++)
			if (policy->rules[i]->conditions[k].subject == SMTP_SUBJECT_SPF ||
				policy->rules[i]->conditions[k].subject == SMTP_SUBJECT_SPF_HELO)
				return true;
	return false;
}

/* One whose address says something, and for whom nobody vouches. */
static bool is_stranger(struct smtp_front *f)
{
	return !f->user && !f->service->is_lmtp && addr_ip(&f->client).len && !addr_is_loopback(&f->client) &&
	       !smtp_front_is_trusted(f);
}

bool smtp_spf_begin(struct smtp_front *f, const struct smtp_path *sender, struct slice rest)
{
	struct spf_question question = {.client = f->client, .helo = slice_str(smtp_front_helo(f))};
	struct smtp_spf *s;

	if (!service || !f->service->spf_ms || !is_stranger(f) ||
		(!f->service->checks_spf && !rules_ask(f->service->policy)))
		return false;
	s = f->spf = xcalloc(1, sizeof(*s));
	s->front = f;
	s->rest = slice_of(xmemdup0(rest.p, rest.len), rest.len);
	s->sender = sender->is_null ? xstrdup("<>") : slice_copy_str(sender->address);
	if (!sender->is_null)
		question.sender = slice_str(s->sender);
	spf_check(service, f->loop, &question, f->service->spf_ms, on_answer, s, &s->check);
	return true;
}

struct slice smtp_spf_rest(const struct smtp_spf *spf)
{
	return spf->rest;
}

void smtp_spf_free(struct smtp_spf **spf)
{
	struct smtp_spf *s = *spf;

	if (!s)
		return;
	*spf = NULL;
	spf_cancel(&s->check);
	auth_results_filter_deinit(&s->filter);
	free((void *)(uintptr_t)s->rest.p);
	free(s->sender);
	free(s->domain);
	free(s->term);
	free(s);
}

/* ---- the header ---- */

static const char *host_of(const struct smtp_front *f)
{
	return f->service->host && *f->service->host ? f->service->host : "localhost";
}

void smtp_spf_write(const struct smtp_front *f, struct buf *out)
{
	const struct smtp_spf *s = f->spf;
	const char *host = host_of(f);
	struct auth_results_one one = {.method = "spf"};
	bool is_error;
	char ip[ADDR_TEXT_MAX];

	if (!s || s->check)
		return;
	one.result = spf_result_word(s->result);
	is_error = s->result == SPF_TEMPERROR || s->result == SPF_PERMERROR;
	received_spf_write(out, &(struct received_spf){.result = spf_result_word(s->result),
					.identity = s->is_helo ? "helo" : "mailfrom",
					.receiver = slice_str(host),
					.client_ip = slice_str(addr_host(&f->client, ip)),
					.domain = slice_str(s->domain),
					.envelope_from = slice_str(s->sender),
					.helo = slice_str(smtp_front_helo(f)),
					.mechanism = is_error ? (struct slice){0} : slice_str(s->term),
					.problem = is_error ? slice_str(s->term) : (struct slice){0}});
	auth_results_add(&one, "smtp", s->is_helo ? "helo" : "mailfrom",
		slice_str(s->is_helo ? s->domain : s->sender));
	auth_results_write(out, 0, host, &one, 1);
}

/* ---- forged results ---- */

/* Verification of signatures takes them out itself, when it has looked at them. */
static bool has_stage(const struct smtp_policy *policy, const char *name)
{
	for (unsigned i = 0; policy && i < policy->stage_count; i++)
		if (strcmp(policy->stages[i].stage->name, name) == 0)
			return true;
	return false;
}

void smtp_spf_begin_body(struct smtp_front *f)
{
	struct smtp_spf *s = f->spf;

	if (!s || has_stage(f->service->policy, "mail-auth"))
		return;
	s->ids[0] = host_of(f);
	auth_results_filter_deinit(&s->filter);
	auth_results_filter_init(&s->filter, s->ids);
	s->is_filtering = true;
}

bool smtp_spf_filter(struct smtp_spf *s, struct slice body, bool is_end, struct buf *out)
{
	if (!s || !s->is_filtering)
		return false;
	auth_results_filter_feed(&s->filter, body, out);
	if (is_end) {
		auth_results_filter_end(&s->filter, out);
		s->is_filtering = false;
		if (s->filter.removed)
			log_info(s->front->service->name, "%s: forged results of checks taken out count=%u",
				s->front->session, s->filter.removed);
	}
	return true;
}
