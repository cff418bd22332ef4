/* Accounts that are made at a first login (sections `users` with create-accounts). */
#pragma once

#include "backend/admin/admin.h"

typedef void accounts_fn(void *arg, int err);
struct accounts_ensure;
/*
 * Any loop: makes the account, without a password, with what its domain says, unless there is one (or an alias) of this
 * address; then fn on this loop, once: 0, or why it cannot be. ERR_NOT_FOUND, ERR_TOO_BIG: its domain has no place for it. Any
 * number at a time make one account.
 */
struct accounts_ensure *accounts_ensure(
	struct admin *admin, struct loop *loop, struct slice address, accounts_fn *fn, void *arg);
/* On the loop: fn will not be called; the account may be made. Sets NULL, accepts NULL. In fn it has gone already. */
void accounts_ensure_cancel(struct accounts_ensure **ensure);
/* Claims were given back (backend/admin/claims.h): those that waited look again, in a later turn. Main loop. */
void accounts_ensure_again(struct admin *admin);
