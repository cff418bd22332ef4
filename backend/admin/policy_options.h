/*
 * What accounts, classes and domains have in common on the command line: limits, protocols, suspension. "inherit" as a value: this
 * level says nothing any more.
 */
#pragma once

#include "backend/store/store_policy.h"
#include "common/base/attr.h"
#include "common/base/slice.h"
#include "common/control/control.h"

#define POLICY_OPTIONS "quota= count= protocols= suspended-mail= suspend resume"
#define POLICY_OPTIONS_USAGE                                                                                 \
	"[--quota SIZE|none|inherit] [--count N|none|inherit] [--protocols LIST|all|none|inherit] "          \
	"[--suspend | --resume] [--suspended-mail keep|defer|refuse|inherit]"

struct policy_options {
	uint32_t says, inherits; /* enum store_says */
	struct store_policy values;
	bool suspends, resumes;
};

/* ERR_SYNTAX with the operator's words (constant) in why. */
MUST_CHECK int policy_options_read(
	const struct control_request *request, struct policy_options *options_out, const char **why_out);
bool policy_options_is_empty(const struct policy_options *options);
void policy_options_apply(const struct policy_options *options, struct store_policy *policy);
/* "imap,pop3", "all", "none" -> enum store_protocol; "keep" …; ERR_SYNTAX. */
MUST_CHECK int policy_options_protocols(struct slice text, uint8_t *protocols_out);

/* Fields of an answer: what this level says, and nothing for the rest. */
void policy_options_show(struct control_request *request, const struct store_policy *policy);
/* The other way round: "imap,pop3", or "none". */
void policy_options_protocol_words(uint8_t protocols, struct buf *out);
/* The field "protocols" alone. */
void policy_options_show_protocols(struct control_request *request, uint8_t protocols);
const char *policy_options_mail_word(uint8_t suspended_mail);
