/*
 * The operator's verbs that change accounts: `account add|set|password|rename|remove`. On the main loop; passwords are hashed
 * by the workers, changes go through the slot's writer. Two changes about one address never run at the same time
 * (backend/admin/claims.h).
 */
#pragma once

#include "backend/admin/admin.h"
#include "backend/admin/claims.h"

void accounts_register(struct admin *admin);
/* An address as accounts have it; in the arena. ERR_SYNTAX, ERR_TOO_BIG. */
MUST_CHECK int accounts_normalise(struct arena *arena, struct slice text, struct slice *address_out);
/*
 * Where mail may be forwarded: addresses of accounts of this back-end, with commas between; as the store keeps them, in the arena.
 * self: the account's own address. Else an error with the operator's words in why.
 */
MUST_CHECK int accounts_forwards(struct store *store, struct arena *arena, struct slice self,
	struct slice text, struct slice *forwards_out, struct buf *why);
/* The operator's words for an error of store_domain_reserve() or store_domain_may_name(). */
const char *accounts_domain_words(int err);
