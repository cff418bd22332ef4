/*
 * Retention: what was expunged, or went with its mailbox, stays recoverable for a while. The record stays where
 * it is (DB_MESSAGES) with its body; a row in DB_KEPT owns it, written by the reaper in place of removing it.
 * Kept messages are in no index, so no session sees them, and count against no quota. Moved messages are not
 * kept: they live on elsewhere.
 *
 *	key    account u32be | time u32be | mailbox u32be | uid u32be
 *	value  1 u8 | flags u8 | size u64 | MODSEQ of the expunge u64 | keywords u64
 *
 *	account, 0, 0, 0        bytes u64 | messages u64, the sums of the account's rows
 *	account, 0, mailbox, 0  time u32 | folder record: a mailbox that was deleted, for its name and keywords
 *
 * How long and how much is the store's setting (store_set_retention()); 0 seconds: nothing is kept.
 */
#pragma once

#include "backend/store/store_message.h"

/* Seconds (0: off), and the most bytes kept of one account, the oldest going first (0: no limit). Any thread. */
void store_set_retention(struct store *store, uint64_t seconds, uint64_t bytes_max);

/* Sums of an account; zeros when there is nothing. */
struct store_kept_sum {
	uint64_t bytes, messages;
};
MUST_CHECK int store_kept_sum(struct store_txn *txn, uint32_t account, struct store_kept_sum *sum_out);

/* Which of an account's kept messages, and how far one has come. */
struct store_kept_filter {
	struct slice mailbox; /* this name, present or at its deletion; empty: all */
	int64_t since;        /* deleted at that time or later */
};
struct store_kept_at {
	uint32_t time, mailbox, uid; /* zeros: from the first */
};

/* Slices die with the call. */
struct store_kept {
	struct slice name; /* of the mailbox now, or when it was deleted; empty: unknown */
	bool is_gone;      /* the mailbox is */
	uint32_t mailbox, uid;
	int64_t deleted;
	uint64_t size;
};
/* Calls fn for at most `limit` rows from *at on (matching or not), which moves on. done_out: there are no more. */
MUST_CHECK int store_kept_list(struct store_txn *txn, uint32_t account,
	const struct store_kept_filter *filter, struct store_kept_at *at, size_t limit,
	void (*fn)(void *arg, const struct store_kept *kept), void *arg, bool *done_out);

#define STORE_RECOVERED "Recovered"

struct store_undeleted {
	uint64_t messages, bytes;
	uint64_t over_quota; /* left, because there was no room */
	uint64_t lost;       /* left: their records cannot be read */
};
/*
 * One step of bringing messages back: looks at no more than `limit` rows. Each gets a new UID, MODSEQ and UIDL in its
 * mailbox, or in "Recovered/NAME" where that is gone, with flags (without \Deleted), keywords and INTERNALDATE.
 * Adds to *sum. done_out: all rows were looked at. A step that fails has no effect when its transaction is aborted.
 */
MUST_CHECK int store_kept_undelete(struct store_txn *txn, uint32_t account,
	const struct store_kept_filter *filter, struct store_kept_at *at, size_t limit,
	struct store_undeleted *sum, bool *done_out);

/*
 * Lets go of what is over its time, or beyond the account's bytes: one step of a pass over the slot, at most `limit` rows and
 * accounts. account is 0 before a pass and when it is over; sum is of what it found still kept. What a view still shows waits.
 */
struct store_kept_pass {
	uint32_t account, mailbox; /* the deleted mailboxes of the account are looked at from there on */
	struct store_kept_sum sum;
};
MUST_CHECK int store_kept_expire(struct store_txn *txn, const struct store_holds *holds, int64_t now,
	size_t limit, struct store_kept_pass *pass);
