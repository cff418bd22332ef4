/* Private: parts of the check that the repair uses. */
#pragma once

#include "backend/store/store_check.h"

/* One account in one snapshot; its findings are counted, not told. */
MUST_CHECK int check_one_account(struct store *store, unsigned slot, uint32_t account, uint64_t *errors_out);
/* Rows of no mailbox, which nobody can be given: told, and counted. */
MUST_CHECK int check_slot_strays(struct store *store, unsigned slot,
	void (*report)(void *arg, const char *text), void *arg, uint64_t *errors_out);
