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
/* As store_acl_set(), of an account that is being imported: nothing is logged. */
MUST_CHECK int acl_put_imported(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_acl_entry *entry);
