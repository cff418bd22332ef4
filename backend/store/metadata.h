/*
 * Private: what mailboxes, the reaper and the check need of annotations.
 */
#pragma once

#include "backend/store/mailbox.h"
#include "backend/store/store_metadata.h"

/* All entries of a mailbox to another one of the account. ERR_TOO_BIG: beyond the account's limit. */
MUST_CHECK int metadata_copy(struct store_txn *txn, uint32_t account, uint32_t from, uint32_t to);
/* As store_metadata_set(), of an account that is being imported: nothing is logged. value.p is not NULL. */
MUST_CHECK int metadata_put_imported(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, struct slice value);
/* A user's entries of a mailbox become another's, who keeps his own; to 0: they go. At most *limit rows, which is what is left of
 * it afterwards: not 0, all is done. Nothing is logged: nobody else sees them. */
MUST_CHECK int metadata_move(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t from, uint64_t to, size_t *limit);
/* Removes a mailbox's entries, as far as the budget goes. */
MUST_CHECK int metadata_reap(struct store_txn *txn, uint32_t account, uint32_t mailbox, size_t *budget);
/* The row is well-formed. */
bool metadata_is_row(struct slice key, struct slice value);
/* Puts the sum of an account's entries right. */
MUST_CHECK int metadata_recount(struct store_txn *txn, uint32_t account, bool *changed_out);
/* Calls report for what is wrong with an account's entries. */
MUST_CHECK int metadata_check(struct store_txn *txn, uint32_t account,
	void (*report)(void *arg, uint32_t account, uint32_t mailbox, const char *what), void *arg);
