/* Private: what the files of the repair share. */
#pragma once

#include "backend/store/kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/record.h"
#include "backend/store/store_repair.h"

struct repair {
	struct store *store;
	unsigned slot;
	struct store_txn *txn; /* reading or writing, as it goes */
	const struct store_repair_options *options;
	struct store_repair result;
	bool has_losses; /* messages of this slot lack their record, or may have vanished from an index */
};

/* "slot 0: " and the text, counted as mended or as left. */
void repair_mended(struct repair *r, const char *format, ...) PRINTF_LIKE(2, 3);
void repair_left(struct repair *r, const char *format, ...) PRINTF_LIKE(2, 3);
/* "account=bob@example.com mailbox=INBOX uid=7" for the operator; uid 0: none. */
void repair_name(struct repair *r, uint32_t account, uint32_t mailbox, uint32_t uid, struct buf *out);

/* Keys that a pass found, to be looked at one by one: length u16 and bytes each. */
void repair_keep_key(struct buf *keys, struct slice key);
/* From *at on, which moves; false at the end. A view. */
bool repair_take_key(const struct buf *keys, size_t *at, struct slice *key_out);
/* An intent says that it is being removed. */
bool repair_is_going(struct repair *r, char kind, uint32_t account, uint32_t mailbox);

/* Rows of ACLs, of their index, of what others have seen, of annotations and of limits: those that cannot be read go, the index
 * is made whole. In no transaction; before accounts. */
MUST_CHECK int repair_beside(struct repair *r);
/* Looks at each row of a database, over several snapshots. */
typedef int repair_row_fn(struct repair *r, struct slice key, struct slice value, void *arg);
MUST_CHECK int repair_each_row(struct repair *r, enum db_name db, repair_row_fn *fn, void *arg);
/* The rows whose keys check kept (its arg is the struct buf of them) go, each told as mended. */
MUST_CHECK int repair_rows(struct repair *r, enum db_name db, repair_row_fn *check, const char *what);
/* In a write transaction, which is aborted when fn fails. */
MUST_CHECK int repair_in_write(struct repair *r, int (*fn)(struct repair *r, void *arg), void *arg);
/* All of an account (arg: uint32_t), in a write transaction. */
MUST_CHECK int repair_account(struct repair *r, void *arg);
/* All of a mailbox whose folder's row is right; s is the account's, which the caller writes. In a write transaction. */
MUST_CHECK int repair_mailbox(struct repair *r, uint32_t account, uint32_t mailbox, struct account_state *s);
/* Records of deleted mailboxes that none of the rows (keys of DB_KEPT) owns are kept again, and counted in. In a write transaction. */
MUST_CHECK int repair_kept_unowned(
	struct repair *r, uint32_t account, const struct buf *keys, struct store_kept_sum *sum);
/* References, pieces and bodies of the slot. In no transaction. */
MUST_CHECK int repair_blobs(struct repair *r);
/* Sums over the index. ERR_CORRUPT. */
MUST_CHECK int repair_count(struct store_txn *txn, uint32_t mailbox, struct mailbox_state *sums);
/* The greatest UID of a mailbox in any table, or 0. */
MUST_CHECK int repair_last_uid(struct store_txn *txn, uint32_t mailbox, uint32_t *uid_out);
/* The first key with this prefix is there. */
MUST_CHECK int repair_has(struct store_txn *txn, enum db_name db, struct slice prefix, bool *has_out);
