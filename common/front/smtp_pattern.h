/*
 * One pattern of a rule: a word with wildcards (`*`: any octets, `?`: one), or a regular expression between slashes (PCRE2). ASCII
 * letters are equal in either case. A pattern is constant after it was made; any thread may match.
 *
 * Texts come from outside: at most SMTP_PATTERN_TEXT_MOST octets of one are looked at, wildcards need time of the product of both
 * lengths at worst, expressions have limits of steps, depth and memory. An expression that exceeds one has not matched, and is_broken says so.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SMTP_PATTERN_MOST 512                  /* octets of a pattern */
#define SMTP_PATTERN_TEXT_MOST ((size_t)16384) /* octets of a text that are looked at */

struct smtp_pattern;

/* regex: the text is an expression (without its slashes). ERR_SYNTAX, ERR_TOO_BIG with the reason in why. */
MUST_CHECK int smtp_pattern_new(
	struct slice text, bool is_regex, struct buf *why, struct smtp_pattern **pattern_out);
void smtp_pattern_free(struct smtp_pattern **pattern);
/* is_broken_out may be NULL. */
bool smtp_pattern_matches(const struct smtp_pattern *pattern, struct slice text, bool *is_broken_out);
