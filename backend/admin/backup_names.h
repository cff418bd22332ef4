/*
 * Names of an account that an import, a restore or a move makes: held against the rules of its domain as its records come, as for
 * `account add`, and claimed while it becomes visible. Its init is the main loop's; the rest may be a transfer's thread.
 */
#pragma once

#include "backend/admin/admin.h"
#include "backend/admin/claims.h"

struct backup_names {
	struct store *store;
	bool domains_must_exist;
	struct arena arena;
	struct claims claims;
	struct slice reserved; /* a place in its domain; empty: none */
};

void backup_names_init(struct backup_names *names, struct admin *admin);
/* A store_may_name_fn, with a struct backup_names. */
MUST_CHECK int backup_names_may(void *names, struct slice name, bool is_alias, struct buf *why);
/* A store_claim_fn, with a struct backup_names. */
MUST_CHECK int backup_names_claim(void *names, struct slice name);
/* Gives all back, and is ready for the next account. accounts_ensure_again() is for the main loop, afterwards. */
void backup_names_drop(struct backup_names *names);
