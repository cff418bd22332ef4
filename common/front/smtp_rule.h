/*
 * Acceptance rules: the text of a rule's conditions and actions made into structs, and whether a rule holds for what is known. Pure: no
 * question is asked here; what is not known yet is named, found out by somebody else (smtp_lookup.h), and the rules run on.
 *
 *	rule NAME { at = "rcpt"  when = { "peer 192.0.2.0/24", "not ptr" }  then = { "reject 550 5.7.25 No name" } }
 *
 * The rules of a phase stand in the order of the file. A rule whose conditions all hold acts; an action that decides ends the phase. A
 * condition about something that cannot be said now is neither true nor false, negated or not: its rule is passed over.
 *
 *	condition = ["not" SP] subject *(SP value)          any of the values; subjects are rows of a table in smtp_rule_parse.c
 *	value     = word | <"> text <"> | "/" expression "/" | "<" number | ">" number
 */
#pragma once

#include "common/base/metrics.h"
#include "common/front/smtp_facts.h"
#include "common/front/smtp_pattern.h"
#include "common/proto/header.h"

#define SMTP_RULES_MOST 1000
#define SMTP_RULE_CONDITIONS_MOST 32
#define SMTP_RULE_VALUES_MOST 1000
#define SMTP_RULE_ACTIONS_MOST 16
#define SMTP_RULE_TEXT_MOST 400 /* octets of the text of an answer */

enum smtp_phase {
	SMTP_PHASE_CONNECT,
	SMTP_PHASE_HELO,
	SMTP_PHASE_MAIL,
	SMTP_PHASE_RCPT,
	SMTP_PHASE_HEADER, /* the message is there; before DKIM, DMARC and ARC are looked at */
	SMTP_PHASE_DATA    /* and after */
};
#define SMTP_PHASES (SMTP_PHASE_DATA + 1)
#define SMTP_PHASE_WORDS "connect helo mail rcpt header data"
const char *smtp_rule_phase_name(enum smtp_phase phase);

enum smtp_subject {
	SMTP_SUBJECT_PEER,
	SMTP_SUBJECT_PTR,
	SMTP_SUBJECT_COUNTRY,
	SMTP_SUBJECT_DNSBL,
	SMTP_SUBJECT_TLS,
	SMTP_SUBJECT_TLS_VERIFIED,
	SMTP_SUBJECT_MESSAGES,
	SMTP_SUBJECT_ERRORS,
	SMTP_SUBJECT_HELO,
	SMTP_SUBJECT_USER,
	SMTP_SUBJECT_SENDER,
	SMTP_SUBJECT_SENDER_DOMAIN,
	SMTP_SUBJECT_SENDER_IS_OWN,
	SMTP_SUBJECT_SIZE,
	SMTP_SUBJECT_SPF,
	SMTP_SUBJECT_SPF_HELO,
	SMTP_SUBJECT_RECIPIENT,
	SMTP_SUBJECT_DOMAIN,
	SMTP_SUBJECT_RECIPIENTS,
	SMTP_SUBJECT_HEADER,
	SMTP_SUBJECT_DKIM,
	SMTP_SUBJECT_DKIM_DOMAIN,
	SMTP_SUBJECT_DMARC,
	SMTP_SUBJECT_DMARC_POLICY,
	SMTP_SUBJECT_ARC
};
#define SMTP_SUBJECTS (SMTP_SUBJECT_ARC + 1)
const char *smtp_rule_subject_name(enum smtp_subject subject);

struct smtp_condition {
	enum smtp_subject subject;
	bool is_not;
	/* what stands there depends on the subject */
	struct smtp_pattern **patterns; /* texts */
	struct addr_net *nets;          /* peer; dnsbl: addresses of the answer */
	unsigned words;                 /* bits: results, policies */
	char (*countries)[3];
	size_t count; /* of patterns, nets or countries */
	char *name;   /* header: the field; dnsbl: the zone */
	char order;   /* '<' or '>' */
	uint64_t number;
	char *text; /* as it was written */
};

enum smtp_action_kind {
	SMTP_ACTION_ACCEPT,
	SMTP_ACTION_REJECT,
	SMTP_ACTION_TEMPREJECT,
	SMTP_ACTION_DISCARD,
	SMTP_ACTION_GREYLIST,
	SMTP_ACTION_QUARANTINE,
	SMTP_ACTION_ADD_HEADER,
	SMTP_ACTION_REMOVE_HEADER,
	SMTP_ACTION_ADD_RECIPIENT,
	SMTP_ACTION_REDIRECT,
	SMTP_ACTION_ROUTE,
	SMTP_ACTION_RATE_LIMIT,
	SMTP_ACTION_MILTER
};
#define SMTP_ACTIONS (SMTP_ACTION_MILTER + 1)
const char *smtp_rule_action_name(enum smtp_action_kind kind);

/* What a rate is counted by: bits. */
enum smtp_rate_key {
	SMTP_RATE_PEER = 1,
	SMTP_RATE_NETWORK = 2, /* /24, /64 */
	SMTP_RATE_USER = 4,
	SMTP_RATE_SENDER = 8,
	SMTP_RATE_SENDER_DOMAIN = 16,
	SMTP_RATE_RECIPIENT = 32,
	SMTP_RATE_DOMAIN = 64
};

struct smtp_action {
	enum smtp_action_kind kind;
	unsigned code;                /* reject, tempreject, rate-limit */
	char *enhanced;               /* "5.7.1" */
	char *name;                   /* header: field; recipient: address; route: target; milter: title */
	char *value;                  /* header: value; reject: text; quarantine: reason */
	struct smtp_pattern *pattern; /* remove-header: of values; NULL: all */
	uint64_t count, period_ms;    /* rate-limit */
	unsigned keys;                /* of enum smtp_rate_key */
	char *text;                   /* as it was written */
};

struct smtp_rule {
	char *name;
	enum smtp_phase phase;
	struct smtp_condition *conditions;
	size_t condition_count;
	struct smtp_action *actions;
	size_t action_count;
	struct metric *acted; /* NULL: not counted */
};

/* One condition, one action. ERR_SYNTAX, ERR_TOO_BIG: why gets "octet N: reason"; nothing is owned then. */
MUST_CHECK int smtp_rule_parse_condition(
	struct slice text, enum smtp_phase phase, struct buf *why, struct smtp_condition *condition_out);
MUST_CHECK int smtp_rule_parse_action(
	struct slice text, enum smtp_phase phase, struct buf *why, struct smtp_action *action_out);
void smtp_rule_condition_deinit(struct smtp_condition *condition);
void smtp_rule_action_deinit(struct smtp_action *action);
/* Its texts and arrays; not the struct. */
void smtp_rule_deinit(struct smtp_rule *rule);

/* ---- running ---- */

/* What rules see. Views. */
struct smtp_scene {
	struct smtp_facts *facts;
	const struct header_field *fields; /* header and data */
	size_t field_count;
	const struct slice *recipients; /* header and data: all; otherwise facts->recipient counts */
	size_t recipient_count;
	unsigned
		asked; /* bits of enum smtp_subject: was asked, so that what is still unknown cannot be said */
};

/* A fact that is missing. */
struct smtp_need {
	enum smtp_subject subject; /* PTR, COUNTRY, DNSBL, SPF, SPF_HELO, SENDER_IS_OWN */
	const char *zone;          /* DNSBL: view of the rule */
};

enum smtp_truth {
	SMTP_TRUTH_NO,
	SMTP_TRUTH_YES,
	SMTP_TRUTH_NOT_NOW, /* cannot be said */
	SMTP_TRUTH_ASK      /* not known yet: *need_out */
};
enum smtp_truth smtp_rule_test(
	const struct smtp_condition *condition, const struct smtp_scene *scene, struct smtp_need *need_out);

/* A run over the rules of one phase; zeroed but for rules, count and phase at its beginning. */
struct smtp_rule_run {
	struct smtp_rule *const *rules; /* of all phases, in order */
	size_t count;
	enum smtp_phase phase;
	size_t at; /* the next rule */
	/* Acts; true: it decides. NULL: actions that may decide do. Also for smtp explain: called for each rule that was looked at
	 * with its outcome. */
	bool (*act)(void *arg, const struct smtp_rule *rule, const struct smtp_action *action);
	void (*seen)(void *arg, const struct smtp_rule *rule, enum smtp_truth truth,
		const struct smtp_condition *failed);
	void *arg;
	const struct smtp_rule *decided; /* NULL: none */
	const struct smtp_action *action;
};
/* True: the phase is over (run->decided says by whom). False: *need_out is to be found out, then again. */
bool smtp_rule_run(struct smtp_rule_run *run, const struct smtp_scene *scene, struct smtp_need *need_out);
