/*
 * What a service does with mail before its tier gets it: acceptance rules, and the stages that look at content. Made whole from a
 * configuration, constant afterwards, counted; it hangs at its struct smtp_service, and a reload makes a new one with new
 * services. A transaction that has begun keeps the policy that it began under.
 */
#pragma once

#include <stdatomic.h>

#include "common/conf/conf.h"
#include "common/front/mail_auth_keys.h"
#include "common/front/milters.h"
#include "common/front/smtp_content.h"
#include "common/front/smtp_rule.h"

#define SMTP_STAGES_MOST 16

struct smtp_policy {
	_Atomic unsigned refs;
	size_t spool_memory;      /* octets of one message in memory; beyond it an unlinked file */
	size_t header_most;       /* octets of a header that is looked at; beyond it the message is refused */
	struct smtp_rule **rules; /* of all phases, in order */
	size_t rule_count;
	unsigned phases; /* bits of enum smtp_phase: there are rules */
	unsigned always; /* bits of enum smtp_subject: found out at MAIL whether a rule asks or not */
	uint64_t dns_timeout_ms;
	struct smtp_country *country; /* NULL: no database */
	unsigned stage_count;
	struct {
		const struct smtp_stage *stage;
		void *settings; /* what its make() gave */
	} stages[SMTP_STAGES_MOST];
};

/* Rows for the tables of keys of both programs: sections "policy" and "rule", and those of DKIM (mail_auth_keys.h);
 * milters_keys go with them. */
extern const struct conf_key smtp_policy_keys[];
#define SMTP_POLICY_SECTIONS                                                                                 \
	{"policy", CONF_RELOAD, NULL, "Mail in: what acceptance rules and filters need"},                    \
		{"rule", CONF_TITLED | CONF_RELOAD, NULL,                                                    \
			"An acceptance rule; rules are looked at in the order of the file"},                 \
		MAIL_AUTH_SECTIONS, MILTERS_SECTION
/* There is a rule of that phase for that service. */
bool smtp_policy_has_rule(const struct conf *conf, const char *service, enum smtp_phase phase);

/* For a program's check of its configuration: what single keys cannot show, every condition and action with its place. routes: the titled
 * section whose titles the action `route` may name; NULL: nothing can be routed, and this is a back-end,
 * which knows whose an address is. */
void smtp_policy_check(struct conf *conf, const char *routes);
/* A rule for that service has an action that begins with this word and has something behind it. */
bool smtp_policy_has_action(const struct conf *conf, const char *service, const char *word);

/* For one service ("smtp", "submission"). ERR_CONFIG with the reasons in why. */
MUST_CHECK int smtp_policy_new(
	const struct conf *conf, const char *service, struct buf *why, struct smtp_policy **policy_out);
/* Without rules, with these stages (settings NULL): tests. */
struct smtp_policy *smtp_policy_of_stages(const struct smtp_stage *const *stages, unsigned count);
/* NULL is taken and given. */
struct smtp_policy *smtp_policy_ref(struct smtp_policy *policy);
void smtp_policy_unref(struct smtp_policy **policy);
/* Something decides or writes after the header: the body is spooled. False: it streams. NULL: false. */
bool smtp_policy_needs_content(const struct smtp_policy *policy);
