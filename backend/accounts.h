/*
 * The operator's verbs about accounts: `account add|set|show|list|remove|password`, `quota`, and accounts that are made at
 * a first login. On the main loop; passwords are hashed by the workers, changes go through the slot's writer. Two
 * changes about one address never run at the same time.
 */
#pragma once

#include "backend/backend.h"

void accounts_register(struct backend *b);
/* After the main loop has ended. */
void accounts_deinit(void);

typedef void accounts_fn(void *arg, int err);
struct accounts_ensure;
/*
 * Any loop: makes the account, with the default limits and without a password, unless there is one (or an alias) of this
 * address; then fn on this loop, once: 0, or why it cannot be. Any number at a time make one account.
 */
struct accounts_ensure *accounts_ensure(
	struct backend *b, struct loop *loop, struct slice address, accounts_fn *fn, void *arg);
/* On the loop: fn will not be called; the account may be made. Sets NULL, accepts NULL. In fn it has gone already. */
void accounts_ensure_cancel(struct accounts_ensure **ensure);
