/*
 * Finds out what a rule wants to know of the outside: one fact at a time, on the session's loop, within a deadline. A fact is a row of
 * the table in smtp_lookup.c. What cannot be found out is written as such (SMTP_FACT_NOT_NOW, SMTP_RESULT_TEMPERROR).
 */
#pragma once

#include "common/front/smtp_rule.h"
#include "common/net/loop.h"

struct smtp_country;
struct smtp_lookup;

#define SMTP_LOOKUP_PTR_MOST 5 /* names of one address that are tried */

struct smtp_lookup_settings {
	struct smtp_country *country; /* NULL: no database */
	uint64_t timeout_ms;          /* of each question to the DNS */
	bool is_offline;              /* nothing is asked of the DNS: it cannot be said */
};

typedef void smtp_lookup_fn(void *arg);
/* The fact is in facts at once: NULL. Otherwise fn is called when it is, never from within. settings are copied. */
struct smtp_lookup *smtp_lookup_begin(struct loop *loop, struct smtp_facts *facts,
	const struct smtp_need *need, const struct smtp_lookup_settings *settings, smtp_lookup_fn *fn,
	void *arg);
/* fn will not be called. NULL is taken. */
void smtp_lookup_cancel(struct smtp_lookup **lookup);
