/*
 * Private: where mailboxes and messages meet quota roots. All are cheap for accounts that have none.
 */
#pragma once

#include "backend/store/record.h"
#include "backend/store/store_quota.h"

/* The counters of a mailbox have changed from one to the other; NULL: it was or is not there. */
MUST_CHECK int quota_changed(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct mailbox_state *before, const struct mailbox_state *after);
/* May so much more go into the mailbox? now: its counters as they will be written (some may not be yet). from: the mailbox that
 * gives the messages away in the same transaction, 0: none. ERR_TOO_BIG. */
MUST_CHECK int quota_check(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct mailbox_state *now, uint32_t from, uint64_t bytes, uint64_t count);
/* May a mailbox of this name be made? ERR_TOO_BIG. */
MUST_CHECK int quota_check_mailbox(
	struct store_txn *txn, uint32_t account, const struct account_state *s, struct slice name);
/* Limits of one folder go to another (to 0: away). */
MUST_CHECK int quota_move(struct store_txn *txn, uint32_t account, uint32_t from, uint32_t to);
/* After names have changed: counts the roots anew. ERR_TOO_BIG: one of them has grown beyond a limit. */
MUST_CHECK int quota_renamed(struct store_txn *txn, uint32_t account);
/* The roots' counters against the sum of what their mailboxes say; repair: and puts them right. */
MUST_CHECK int quota_verify_roots(struct store_txn *txn, uint32_t account, bool repair,
	void (*report)(void *arg, uint32_t mailbox, const struct store_quota *stored,
		const struct store_quota *right),
	void *arg);
/* The highest of the thresholds that so many percent reach, if row (of DB_QUOTA_WARNED, or empty) does not say that it was told since
 * then; else 0. */
unsigned quota_due(
	struct slice row, const unsigned *thresholds, size_t count, unsigned percent, int64_t since);
/* A row of limits, or (is_warned) of warnings, is well-formed. */
bool quota_is_row(struct slice key, struct slice value, bool is_warned);
/* What INBOX can still take, for promises at RCPT; UINT64_MAX: no limit. */
MUST_CHECK int quota_inbox_room(
	struct store_txn *txn, uint32_t account, uint64_t *bytes_out, uint64_t *count_out);
