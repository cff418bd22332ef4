/*
 * Wildcards are matched without recursion: at a mismatch the last star takes one octet more. Expressions run without JIT, as those of
 * user maps do (docs/decisions/map-expressions.md).
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "common/front/smtp_pattern.h"

#include <pcre2.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define NESTING_MOST 50
#define STEPS_MOST 100000
#define HEAP_KIB 1024

struct smtp_pattern {
	char *wild; /* NULL: an expression */
	size_t wild_len;
	pcre2_code *code;
	pcre2_match_context *limits;
};

static int compile(struct smtp_pattern *p, struct slice text, struct buf *why)
{
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	PCRE2_SIZE at = 0;
	PCRE2_UCHAR reason[128];
	int error = 0;

	if (!context)
		return ERR_NOT_NOW;
	pcre2_set_parens_nest_limit(context, NESTING_MOST);
	pcre2_set_max_pattern_length(context, SMTP_PATTERN_MOST);
	p->code = pcre2_compile(
		(PCRE2_SPTR)text.p, text.len, PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C, &error, &at, context);
	pcre2_compile_context_free(context);
	if (!p->code) {
		if (pcre2_get_error_message(error, reason, sizeof(reason)) < 0)
			reason[0] = 0;
		buf_printf(why, "expression, octet %zu: %s", (size_t)at + 1, (const char *)reason);
		return ERR_SYNTAX;
	}
	p->limits = pcre2_match_context_create(NULL);
	if (!p->limits)
		return ERR_NOT_NOW;
	pcre2_set_match_limit(p->limits, STEPS_MOST);
	pcre2_set_depth_limit(p->limits, STEPS_MOST);
	pcre2_set_heap_limit(p->limits, HEAP_KIB);
	return 0;
}

int smtp_pattern_new(struct slice text, bool is_regex, struct buf *why, struct smtp_pattern **pattern_out)
{
	struct smtp_pattern *p;
	int err = 0;

	if (text.len > SMTP_PATTERN_MOST) {
		buf_printf(why, "a pattern has at most %d octets", SMTP_PATTERN_MOST);
		return ERR_TOO_BIG;
	}
	p = xcalloc(1, sizeof(*p));
	if (is_regex) {
		err = compile(p, text, why);
	} else {
		p->wild = text.len ? xmemdup0(text.p, text.len) : xstrdup("");
		p->wild_len = text.len;
	}
	if (err)
		smtp_pattern_free(&p);
	else
		*pattern_out = p;
	return err;
}

void smtp_pattern_free(struct smtp_pattern **pattern)
{
	struct smtp_pattern *p = *pattern;

	*pattern = NULL;
	if (!p)
		return;
	free(p->wild);
	pcre2_code_free(p->code);
	pcre2_match_context_free(p->limits);
	free(p);
}

static bool wild_matches(const struct smtp_pattern *p, struct slice text)
{
	size_t at = 0, in = 0, star = SIZE_MAX, star_in = 0;

	while (in < text.len) {
		if (at < p->wild_len && p->wild[at] == '*') {
			star = at++;
			star_in = in;
		} else if (at < p->wild_len &&
			   (p->wild[at] == '?' || ascii_lower(p->wild[at]) == ascii_lower(text.p[in]))) {
			at++;
			in++;
		} else if (star != SIZE_MAX) {
			at = star + 1;
			in = ++star_in;
		} else {
			return false;
		}
	}
	while (at < p->wild_len && p->wild[at] == '*')
		at++;
	return at == p->wild_len;
}

bool smtp_pattern_matches(const struct smtp_pattern *p, struct slice text, bool *is_broken_out)
{
	pcre2_match_data *data;
	int rc;

	text = slice_sub(text, 0, SMTP_PATTERN_TEXT_MOST);
	if (is_broken_out)
		*is_broken_out = false;
	if (p->wild)
		return wild_matches(p, text);
	data = pcre2_match_data_create(1, NULL);
	if (!data)
		return false;
	rc = pcre2_match(p->code, (PCRE2_SPTR)(text.p ? text.p : ""), text.len, 0, 0, data, p->limits);
	pcre2_match_data_free(data);
	if (is_broken_out && rc < 0 && rc != PCRE2_ERROR_NOMATCH)
		*is_broken_out = true;
	return rc >= 0;
}
