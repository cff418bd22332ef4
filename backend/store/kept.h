/* Private: what expunging, the reaper and the check need of retention. */
#pragma once

#include "backend/store/record.h"
#include "backend/store/store_kept.h"

/* A row of DB_KEPT, and what stands in DB_EXPUNGED until the reaper makes one of it. */
struct kept_row {
	uint32_t account, time, mailbox, uid;
	uint64_t size, modseq, keywords;
	uint8_t flags;
};

/* DB_EXPUNGED's value; key of it: mailbox, MODSEQ, UID. */
#define KEPT_NOTE 26
void kept_pack_note(const struct kept_row *row, char note[KEPT_NOTE]);
/* ERR_NOT_FOUND: an empty one, which is not to be kept. */
MUST_CHECK int kept_unpack_note(struct slice key, struct slice value, struct kept_row *row_out);
/* A row's key and value; ERR_NOT_FOUND: a row of the account's sums, or of a mailbox. */
MUST_CHECK int kept_unpack(struct slice key, struct slice value, struct kept_row *row_out);

/* Seconds, 0: nothing is kept of this account. */
uint64_t kept_retention(struct store_txn *txn, uint32_t account);
/* Puts the row and counts it in. */
MUST_CHECK int kept_put(struct store_txn *txn, const struct kept_row *row);
/* Writes the account's sums; for the repair. */
MUST_CHECK int kept_put_sum(struct store_txn *txn, uint32_t account, const struct store_kept_sum *sum);
/* Remembers name and keywords of a mailbox that is being deleted. */
MUST_CHECK int kept_put_folder(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t time, struct slice folder);
/* When a mailbox was deleted, and its folder record, a view; ERR_NOT_FOUND. */
MUST_CHECK int kept_get_folder(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t *time_out,
	struct folder_record *folder_out);
/* The message has come back by another way: not kept any more, if it was. It goes when no view shows it. */
MUST_CHECK int kept_release(
	struct store_txn *txn, uint32_t account, uint32_t time, uint32_t mailbox, uint32_t uid);
/* Beyond the limit of bytes? Lets go of the oldest, at most *budget rows. */
MUST_CHECK int kept_trim(
	struct store_txn *txn, const struct store_holds *holds, uint32_t account, size_t *budget);
/* All of an account that is removed, as far as the budget goes. */
MUST_CHECK int kept_drop_account(struct store_txn *txn, uint32_t account, size_t *budget);
