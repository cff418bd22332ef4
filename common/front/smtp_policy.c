/*
 * A policy is read from the configuration in one go: the stages say by themselves whether a service wants them. Their order in the
 * table is the order in which they see a message.
 */
#include "common/front/smtp_policy.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/front/mail_auth_keys.h"
#include "common/front/mail_auth_stage.h"
#include "common/front/milter_stage.h"
#include "common/front/smtp_country.h"
#include "common/front/smtp_judge.h"

#define SERVICES "smtp submission"

const struct conf_key smtp_policy_keys[] = {
	{"policy", "spool-memory", CONF_SIZE, CONF_RELOAD, "1M", 4096, UINT64_C(1) << 30, NULL,
		"Octets of one message that are kept in memory while it is looked at; more go to an unlinked "
		"file",
		NULL},
	{"policy", "header-size", CONF_SIZE, CONF_RELOAD, "1M", 16384, UINT64_C(50) << 20, NULL,
		"Largest header of a message that is looked at; it is kept in memory", NULL},
	{"policy", "dns-timeout", CONF_DURATION, CONF_RELOAD, "5s", 100, 60000, NULL,
		"For each question of a rule to the DNS; without an answer its rule is passed over", NULL},
	{"policy", "country-database", CONF_PATH, CONF_RELOAD | CONF_EXISTS, NULL, 0, 0, NULL,
		"MaxMind database of countries (GeoLite2-Country or its kin) for the condition `country`; "
		"looked at "
		"again when it has been replaced",
		NULL},
	{"rule", "at", CONF_ENUM, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, SMTP_PHASE_WORDS,
		"When it is looked at", NULL},
	{"rule", "services", CONF_LIST, CONF_RELOAD, "smtp", 0, 0, SERVICES, "For which services", NULL},
	{"rule", "when", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Conditions, all of which must hold; empty: always", NULL},
	{"rule", "then", CONF_LIST, CONF_RELOAD | CONF_REQUIRED, NULL, 0, 0, NULL,
		"What is done, in this order, up to an action that decides", NULL},
	MAIL_AUTH_KEYS,
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

/* In the order in which they see a message. */
static const struct smtp_stage *const stages[] = {
	&smtp_judge_header_stage,
	&mail_auth_stage_verify,
	&milter_stage,
	&smtp_judge_data_stage,
	/* Behind all that edits. */
	&mail_auth_stage_seal,
	&mail_auth_stage_sign,
	NULL,
};

/* ---- rules ---- */

static bool is_for(const struct conf *conf, const char *title, const char *service)
{
	size_t count;
	const char *const *services = conf_get_list(conf, "rule", title, "services", &count);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(services[i], service) == 0)
			return true;
	}
	return false;
}

bool smtp_policy_has_rule(const struct conf *conf, const char *service, enum smtp_phase phase)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "rule", &count);

	for (size_t i = 0; i < count; i++) {
		if (conf_get_enum(conf, "rule", titles[i], "at") == (int)phase &&
			is_for(conf, titles[i], service))
			return true;
	}
	return false;
}

bool smtp_policy_has_action(const struct conf *conf, const char *service, const char *word)
{
	size_t count, actions;
	const char *const *titles = conf_titles(conf, "rule", &count);

	for (size_t i = 0; i < count; i++) {
		const char *const *then = conf_get_list(conf, "rule", titles[i], "then", &actions);

		for (size_t k = 0; is_for(conf, titles[i], service) && k < actions; k++) {
			struct slice text = slice_trim(slice_str(then[k]));

			if (slice_has_prefix(text, word) && text.len > strlen(word) &&
				text.p[strlen(word)] == ' ')
				return true;
		}
	}
	return false;
}

/* The title is part of log lines and metrics. */
static bool is_title(const char *title)
{
	size_t len = strlen(title);

	return len > 0 && len < 64 &&
	       strspn(title, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

/* A result that nobody finds out would make the rule one that never acts. */
static void check_is_verified(struct conf *conf, const char *title, const struct smtp_condition *condition)
{
	static const char *const methods[SMTP_SUBJECTS] = {
		[SMTP_SUBJECT_DKIM] = "dkim",
		[SMTP_SUBJECT_DKIM_DOMAIN] = "dkim",
		[SMTP_SUBJECT_DMARC] = "dmarc",
		[SMTP_SUBJECT_DMARC_POLICY] = "dmarc",
		[SMTP_SUBJECT_ARC] = "arc",
	};
	const char *method = methods[condition->subject];
	size_t count;
	const char *const *list = conf_get_list(conf, "mail-auth", NULL, "verify", &count);

	for (size_t i = 0; method && i < count; i++) {
		if (strcmp(list[i], method) == 0)
			method = NULL;
	}
	if (method)
		conf_error(conf, "rule", title, "when",
			"\"%s\": verify of section mail-auth does not list %s, so this would never be known",
			condition->text, method);
}

static void check_conditions(struct conf *conf, const char *title, enum smtp_phase phase, bool is_proxy)
{
	struct smtp_condition condition;
	size_t count;
	const char *const *texts = conf_get_list(conf, "rule", title, "when", &count);

	if (count > SMTP_RULE_CONDITIONS_MOST)
		conf_error(conf, "rule", title, "when", "at most %d conditions", SMTP_RULE_CONDITIONS_MOST);
	for (size_t i = 0; i < count; i++) {
		struct buf why = {0};

		if (smtp_rule_parse_condition(slice_str(texts[i]), phase, &why, &condition)) {
			conf_error(conf, "rule", title, "when", "\"%s\": %s", texts[i], buf_str_view(&why));
		} else {
			if (condition.subject == SMTP_SUBJECT_COUNTRY &&
				!conf_is_set(conf, "policy", NULL, "country-database"))
				conf_error(conf, "rule", title, "when",
					"\"%s\": section policy names no country-database", texts[i]);
			check_is_verified(conf, title, &condition);
			if (condition.subject == SMTP_SUBJECT_SENDER_IS_OWN && is_proxy)
				conf_error(conf, "rule", title, "when",
					"\"%s\": whose an address is only his back-end knows; put the rule "
					"into "
					"its configuration (services = {submission})",
					texts[i]);
			smtp_rule_condition_deinit(&condition);
		}
		buf_deinit(&why);
	}
}

/* Whatever the rest of the message is: nothing that stands behind it is done. */
static bool ends_phase(enum smtp_action_kind kind)
{
	static const bool ends[] = {[SMTP_ACTION_ACCEPT] = true,
		[SMTP_ACTION_REJECT] = true,
		[SMTP_ACTION_TEMPREJECT] = true,
		[SMTP_ACTION_DISCARD] = true,
		[SMTP_ACTION_GREYLIST] = true};

	return (size_t)kind < ARRAY_LEN(ends) && ends[kind];
}

static void check_actions(struct conf *conf, const char *title, enum smtp_phase phase, const char *routes)
{
	struct smtp_action action;
	size_t count;
	const char *const *texts = conf_get_list(conf, "rule", title, "then", &count);

	if (count == 0 || count > SMTP_RULE_ACTIONS_MOST)
		conf_error(conf, "rule", title, "then", "one to %d actions", SMTP_RULE_ACTIONS_MOST);
	for (size_t i = 0; i < count; i++) {
		struct buf why = {0};

		if (smtp_rule_parse_action(slice_str(texts[i]), phase, &why, &action)) {
			conf_error(conf, "rule", title, "then", "\"%s\": %s", texts[i], buf_str_view(&why));
		} else {
			if (action.kind == SMTP_ACTION_ROUTE &&
				!(routes && conf_has_title(conf, routes, action.name)))
				conf_error(conf, "rule", title, "then", "\"%s\": there is no %s of that name",
					texts[i], routes ? routes : "route");
			if (ends_phase(action.kind) && i + 1 < count)
				conf_error(conf, "rule", title, "then",
					"\"%s\" ends the phase: \"%s\" behind it would never be done",
					texts[i], texts[i + 1]);
			if (action.kind == SMTP_ACTION_MILTER && !conf_has_title(conf, "milter", action.name))
				conf_error(conf, "rule", title, "then",
					"\"%s\": there is no section milter of that name", texts[i]);
			smtp_rule_action_deinit(&action);
		}
		buf_deinit(&why);
	}
}

void smtp_policy_check(struct conf *conf, const char *routes)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "rule", &count);

	mail_auth_keys_check(conf);
	milters_check(conf);
	if (count > SMTP_RULES_MOST)
		conf_error(conf, "rule", titles[SMTP_RULES_MOST], "at", "at most %d rules", SMTP_RULES_MOST);
	for (size_t i = 0; i < count; i++) {
		int phase = conf_get_enum(conf, "rule", titles[i], "at");

		if (!is_title(titles[i]))
			conf_error(conf, "rule", titles[i], "at",
				"a title has 1 to 63 letters, digits, - _ and .");
		if (phase < 0)
			continue;
		check_conditions(conf, titles[i], (enum smtp_phase)phase, routes != NULL);
		check_actions(conf, titles[i], (enum smtp_phase)phase, routes);
	}
}

static struct metric *metric_of(const char *title, const char *service)
{
	struct buf labels = {0};
	struct metric *m;

	buf_printf(&labels, "service=\"%s\",rule=\"%s\"", service, title);
	m = metrics_counter(
		"mailtier_smtp_rule_actions", buf_str_view(&labels), "Actions of acceptance rules");
	buf_deinit(&labels);
	return m;
}

/* What was checked cannot fail. */
static int add_rule(struct smtp_policy *p, const struct conf *conf, const char *title, const char *service,
	struct buf *why)
{
	struct smtp_rule *rule = p->rules[p->rule_count++] = xcalloc(1, sizeof(*rule));
	size_t conditions, actions;
	const char *const *when = conf_get_list(conf, "rule", title, "when", &conditions);
	const char *const *then = conf_get_list(conf, "rule", title, "then", &actions);
	int err = 0;

	rule->name = xstrdup(title);
	rule->phase = (enum smtp_phase)conf_get_enum(conf, "rule", title, "at");
	rule->conditions = xcalloc(conditions + 1, sizeof(*rule->conditions));
	rule->actions = xcalloc(actions + 1, sizeof(*rule->actions));
	rule->acted = metric_of(title, service);
	p->phases |= 1U << rule->phase;
	for (size_t i = 0; !err && i < conditions; i++, rule->condition_count += !err)
		err = smtp_rule_parse_condition(slice_str(when[i]), rule->phase, why, &rule->conditions[i]);
	for (size_t i = 0; !err && i < actions; i++, rule->action_count += !err)
		err = smtp_rule_parse_action(slice_str(then[i]), rule->phase, why, &rule->actions[i]);
	return err ? ERR_CONFIG : 0;
}

static int add_rules(struct smtp_policy *p, const struct conf *conf, const char *service, struct buf *why)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "rule", &count);
	int err = 0;

	p->rules = xcalloc(count + 1, sizeof(struct smtp_rule *));
	for (size_t i = 0; !err && i < count; i++) {
		if (is_for(conf, titles[i], service))
			err = add_rule(p, conf, titles[i], service, why);
	}
	return err;
}

/* ---- the whole ---- */

static struct smtp_policy *policy_new(size_t spool_memory, size_t header_most)
{
	struct smtp_policy *p = xcalloc(1, sizeof(*p));

	atomic_store(&p->refs, 1);
	p->spool_memory = spool_memory;
	p->header_most = header_most;
	return p;
}

static void add_stage(struct smtp_policy *p, const struct smtp_stage *stage, void *settings)
{
	require(p->stage_count < SMTP_STAGES_MOST);
	p->stages[p->stage_count].stage = stage;
	p->stages[p->stage_count++].settings = settings;
}

static int add_stages(struct smtp_policy *p, const struct conf *conf, const char *service, struct buf *why)
{
	for (const struct smtp_stage *const *s = stages; *s; s++) {
		void *settings = NULL;
		int err = (*s)->make(conf, service, why, &settings);

		if (err)
			return err;
		if (settings)
			add_stage(p, *s, settings);
	}
	return 0;
}

static bool asks_for_country(const struct smtp_policy *p)
{
	for (size_t i = 0; i < p->rule_count; i++) {
		for (size_t k = 0; k < p->rules[i]->condition_count; k++) {
			if (p->rules[i]->conditions[k].subject == SMTP_SUBJECT_COUNTRY)
				return true;
		}
	}
	return false;
}

int smtp_policy_new(
	const struct conf *conf, const char *service, struct buf *why, struct smtp_policy **policy_out)
{
	struct smtp_policy *p = policy_new((size_t)conf_get_size(conf, "policy", NULL, "spool-memory"),
		(size_t)conf_get_size(conf, "policy", NULL, "header-size"));
	int err = add_rules(p, conf, service, why);

	p->dns_timeout_ms = conf_get_duration(conf, "policy", NULL, "dns-timeout");
	if (!err && asks_for_country(p))
		err = smtp_country_open(
			conf_get_string(conf, "policy", NULL, "country-database"), why, &p->country);
	if (!err)
		err = add_stages(p, conf, service, why);
	if (err)
		smtp_policy_unref(&p);
	else
		*policy_out = p;
	return err;
}

struct smtp_policy *smtp_policy_of_stages(const struct smtp_stage *const *list, unsigned count)
{
	struct smtp_policy *p = policy_new(64 * 1024, (size_t)1 << 20);

	for (unsigned i = 0; i < count; i++)
		add_stage(p, list[i], NULL);
	return p;
}

struct smtp_policy *smtp_policy_ref(struct smtp_policy *p)
{
	if (p)
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void smtp_policy_unref(struct smtp_policy **policy)
{
	struct smtp_policy *p = *policy;

	*policy = NULL;
	if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < p->stage_count; i++) {
		if (p->stages[i].stage->free)
			p->stages[i].stage->free(p->stages[i].settings);
	}
	for (size_t i = 0; i < p->rule_count; i++) {
		smtp_rule_deinit(p->rules[i]);
		free(p->rules[i]);
	}
	free(p->rules);
	smtp_country_close(&p->country);
	free(p);
}

bool smtp_policy_needs_content(const struct smtp_policy *p)
{
	return p && p->stage_count > 0;
}
