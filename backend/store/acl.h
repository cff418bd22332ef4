/* Private: what mailboxes, messages, the reaper and the check need of ACLs and of what others have seen. */
#pragma once

#include "backend/store/db.h"
#include "backend/store/store_acl.h"

/* A new mailbox gets the ACL of its nearest parent. */
MUST_CHECK int acl_inherit(struct store_txn *txn, uint32_t account, uint32_t parent, uint32_t mailbox);
/* Takes away the ACL of a mailbox. */
MUST_CHECK int acl_drop(struct store_txn *txn, uint32_t account, uint32_t mailbox);
/* The record's entries. ERR_CORRUPT. */
MUST_CHECK int acl_unpack(struct slice value, struct store_acl_entry *entries, size_t *count_out);
struct db_key acl_shared_key(struct store_who who, uint32_t account, uint32_t mailbox);

/* Row and key of DB_SEEN are well-formed. */
bool seen_is_row(struct slice key, struct slice value);
/* All ACLs of the slot in one snapshot; found is called for what is wrong. */
typedef void acl_found_fn(void *arg, const char *text);
MUST_CHECK int acl_check(struct store_txn *txn, acl_found_fn *found, void *arg);

/* Sets or clears \Seen of these UIDs (ascending; flags: one bool each) under one MODSEQ. */
MUST_CHECK int seen_put(struct store_txn *txn, uint32_t mailbox, struct store_who who, const uint32_t *uids,
	const bool *flags, size_t count, uint64_t modseq);
/* What one has seen there is another's, added to what that one has; `to` NULL: it goes. At most *limit rows, which is what is left
 * of it afterwards: not 0, all is done. */
MUST_CHECK int seen_move(struct store_txn *txn, uint32_t mailbox, struct store_who from,
	const struct store_who *to, size_t *limit);
#define SEEN_ROW_MAX (16 + 8 * STORE_SEEN_BLOCK)
/* A row out of a stream, of the UIDs from block * STORE_SEEN_BLOCK on. ERR_CORRUPT. */
MUST_CHECK int seen_put_imported(
	struct store_txn *txn, uint32_t mailbox, struct store_who who, uint32_t block, struct slice row);
/* A copy of a row with MODSEQs of at most `most` (room: SEEN_ROW_MAX), and its highest as it was. ERR_CORRUPT. */
MUST_CHECK int seen_clamp(struct slice row, uint64_t most, char *out, uint64_t *highest_out);
/* Others have seen something there. */
MUST_CHECK int seen_has(struct store_txn *txn, uint32_t mailbox, bool *has_out);
/* All rows of a mailbox, at most limit a call; *at (zero at first) is where the next one goes on. */
struct seen_at {
	struct store_who who;
	uint32_t block;
};
MUST_CHECK int seen_each(struct store_txn *txn, uint32_t mailbox, struct seen_at *at, size_t limit,
	int (*fn)(void *arg, struct store_who who, uint32_t block, struct slice row), void *arg,
	bool *done_out);
/* As store_acl_set(), of an account that is being imported: nothing is logged. */
MUST_CHECK int acl_put_imported(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_acl_entry *entry);
