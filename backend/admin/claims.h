/*
 * Names that a running verb is changing: two verbs about one address, or about an address and its domain, never run at the
 * same time, since what they change may lie in two slots, which no single transaction could see. Any thread.
 *
 * A domain is claimed as "@domain", a class as "class NAME" (no address is like that).
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/error.h"

struct claim;

/* What one verb has claimed; texts are copied to the arena. */
struct claims {
	struct claim *first;
	struct arena *arena;
};

/* ERR_NOT_NOW: another verb has it (or the address' domain). ERR_TOO_BIG: the arena is full. Twice by the same is fine. */
MUST_CHECK int claims_take(struct claims *claims, struct slice name);
/* Gives all back. */
void claims_drop(struct claims *claims);
bool claims_has(struct slice name);
/* Is an address of this domain claimed? */
bool claims_has_within(struct slice domain);
/* At the end of the program. */
void claims_deinit(void);
