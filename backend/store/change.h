/*
 * Private: the change log of an account. Every change takes one MODSEQ of the account's counter; its row says
 * what happened to which UIDs. Rows beyond CHANGE_ROWS_MAX go, oldest first; account_state.change_low tells
 * how far back the log is whole.
 *
 *	key    account u32be | modseq u64be
 *	value  kind u8 | mailbox u32 | ranges of UIDs: (first u32, last u32)*      up to CHANGE_EXPUNGED
 *	                             | a name: the old one of what was renamed or deleted, what was subscribed
 *	                             | user u64, entry                             CHANGE_METADATA
 */
#pragma once

#include "backend/store/record.h"

#define CHANGE_ROWS_MAX 20000
#define CHANGE_RANGES_MAX 200

enum change_kind {
	CHANGE_ADDED = 1,
	CHANGE_FLAGS,
	CHANGE_EXPUNGED,
	CHANGE_CREATED, /* a mailbox; no UIDs from here on */
	CHANGE_RENAMED,
	CHANGE_DELETED,
	CHANGE_SUBSCRIBED,
	CHANGE_KEYWORDS,
	CHANGE_METADATA, /* mailbox 0: an entry of the account */
	CHANGE_ACL,
	CHANGE_SEEN /* by one who is not the owner */
};

/*
 * Logs one change of the given UIDs (ascending) and notes it for watchers; s->modseq grows by one, or by more
 * when many ranges need several rows. The caller writes s back.
 */
MUST_CHECK int change_log(struct store_txn *txn, uint32_t account, struct account_state *s,
	enum change_kind kind, uint32_t mailbox, const uint32_t *uids, size_t count);
/* A row that can be read. */
bool change_is_row(struct slice row);
/* For one UID, without an array. */
MUST_CHECK int change_log_one(struct store_txn *txn, uint32_t account, struct account_state *s,
	enum change_kind kind, uint32_t mailbox, uint32_t uid);
/* One change that has a text instead of UIDs; user: of CHANGE_METADATA alone. */
MUST_CHECK int change_log_text(struct store_txn *txn, uint32_t account, struct account_state *s,
	enum change_kind kind, uint32_t mailbox, uint64_t user, struct slice text);
