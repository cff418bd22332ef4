/*
 * Private: domains and classes in memory, and the arithmetic of levels. A part of the name table, under its lock; entries are made
 * when a record or a name wants them, and go with the last of both.
 */
#pragma once

#include "backend/store/record.h"

struct policies;

struct class_entry {
	char *name;
	bool has_record;
	uint64_t accounts, domains; /* that name it */
	struct store_policy policy;
};

struct domain_entry {
	char *name;
	char *text; /* of the record; what `domain` views */
	struct store_domain domain;
	bool has_record;
	uint64_t accounts, names, reserved;
	struct class_entry *class; /* NULL: none */
};

struct policies *policies_new(void);
void policies_free(struct policies **policies);

/* From records; ERR_CORRUPT. */
MUST_CHECK int policies_put_domain(struct policies *p, struct slice name, struct slice record);
void policies_drop_domain(struct policies *p, struct slice name);
MUST_CHECK int policies_put_class(struct policies *p, struct slice name, struct slice record);
void policies_drop_class(struct policies *p, struct slice name);
void policies_set_built_in(struct policies *p, uint64_t bytes_limit, uint64_t count_limit);

/* The part of a normalised address behind the last '@'. */
struct slice policies_domain_of(struct slice address);
/* NULL: there is none. */
struct domain_entry *policies_domain(struct policies *p, struct slice name);
/* The domain that has this alias; NULL: none. */
struct domain_entry *policies_alias(struct policies *p, struct slice name);
struct class_entry *policies_class(struct policies *p, struct slice name);
/* Made if need be; policies_let_domain() with the same count gives it back. Counts of names, accounts, reservations. */
struct domain_entry *policies_hold_domain(struct policies *p, struct slice name);
void policies_let_domain(struct policies *p, struct domain_entry *d);
/* NULL for the empty name. Counts an account. */
struct class_entry *policies_hold_class(struct policies *p, struct slice name);
void policies_let_class(struct policies *p, struct class_entry *c);

/* ---- levels ---- */

struct policy_levels {
	const struct store_policy *account;
	const struct class_entry *class;
	const struct domain_entry *domain;
};
/* domain may be NULL. */
struct policy_levels policy_levels(const struct store_policy *account, const struct class_entry *own_class,
	const struct domain_entry *domain);
/* The values that count (says: all of them), and where they come from (origin_out may be NULL). */
struct policy_origin {
	enum store_level bytes, count, protocols, suspended_mail;
};
struct store_policy policy_effective(
	const struct policies *p, const struct policy_levels *levels, struct policy_origin *origin_out);
/* Flags of struct store_account out of the values. own: as the account's record has them. */
uint32_t policy_flags(const struct store_policy *effective, uint32_t own);

/* Iteration, in no order. */
struct table;
struct table *policies_domains(struct policies *p);
struct table *policies_classes(struct policies *p);
