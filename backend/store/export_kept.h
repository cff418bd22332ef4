/*
 * Private: the deleted messages of an account that can be undeleted, as an export takes them: the rows of the retention, and what the
 * reaper has not yet made into such.
 */
#pragma once

#include "backend/store/kept.h"
#include "backend/store/transfer.h"

struct export_kept {
	uint32_t number; /* of its mailbox in the stream */
	struct kept_row row;
};
struct export_kept_list {
	struct export_kept *rows; /* by number and UID */
	size_t count, room;
	uint64_t bytes;
};

/*
 * Gathers them. number_of: a mailbox's number in the stream; 0: it is no more. ERR_TOO_BIG: more than STORE_EXPORT_KEPT_MAX. The list
 * is the caller's to free, after an error too.
 */
MUST_CHECK int export_kept_take(struct store_txn *txn, uint32_t account,
	uint32_t (*number_of)(const void *arg, uint32_t mailbox), const void *arg,
	struct export_kept_list *list);
/* Gives mailboxes that are no more their numbers, from `first` on, and calls fn for each. In the same transaction. */
MUST_CHECK int export_kept_number(struct store_txn *txn, uint32_t account, uint32_t first,
	struct export_kept_list *list, int (*fn)(void *arg, const struct transfer_gone *gone), void *arg);
void export_kept_free(struct export_kept_list *list);
