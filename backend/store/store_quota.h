/*
 * Quota beyond the account's own two limits (store_account.h): roots on a folder and all below it, limits of one folder
 * alone, the number of mailboxes. Counters of roots change in the transaction that changes the mailbox's, in one place
 * (record.c, state_put_mailbox()). A root follows its folder through renames; INBOX keeps its own.
 */
#pragma once

#include "backend/store/store_mailbox.h"

#define STORE_QUOTA_ROOTS_MAX 50 /* of an account */
#define STORE_QUOTA_THRESHOLDS_MAX 10

struct store_quota {
	uint64_t bytes_limit, count_limit;               /* of the folder and all below; 0: none */
	uint32_t mailboxes_limit;                        /* mailbox 0: of the whole account */
	uint64_t folder_bytes_limit, folder_count_limit; /* of the folder's own messages */
	uint64_t bytes_used, count_used;                 /* of the folder and all below; not of mailbox 0 */
};

/* Is it a root, or limits of one folder alone? */
static inline bool store_quota_is_root(const struct store_quota *q)
{
	return q->bytes_limit || q->count_limit || q->mailboxes_limit;
}

/* Sets the limits (uses are counted here); none at all: takes them away. mailbox 0: the account, mailboxes_limit alone.
 * ERR_TOO_BIG: STORE_QUOTA_ROOTS_MAX reached. */
MUST_CHECK int store_quota_set(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_quota *limits);
/* ERR_NOT_FOUND: no limits there. */
MUST_CHECK int store_quota_get(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_quota *quota_out);
/* Calls fn for each folder of the account that has limits, the account itself (mailbox 0, name "") first. fn's first
 * result that is not 0 ends it and is returned. The name is a view until fn returns. */
typedef int store_quota_fn(void *arg, uint32_t mailbox, struct slice name, const struct store_quota *quota);
MUST_CHECK int store_quota_each(struct store_txn *txn, uint32_t account, store_quota_fn *fn, void *arg);
/* The same of those that a mailbox of this name is or would be under. */
MUST_CHECK int store_quota_above(
	struct store_txn *txn, uint32_t account, struct slice name, store_quota_fn *fn, void *arg);
/* Names of the folder and all below it; an empty name: of the account. */
MUST_CHECK int store_quota_count_mailboxes(
	struct store_txn *txn, uint32_t account, struct slice name, uint32_t *count_out);

/* Would so many more octets and messages in this mailbox go beyond a limit of the account, of a root or of the folder?
 * 0 or ERR_TOO_BIG. */
MUST_CHECK int store_quota_check(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t bytes, uint64_t count);

/*
 * Counts the account's messages anew from the index: the counters of each mailbox, of the account, of its roots. Each that
 * differs is reported; repair: and put right (in a write transaction, in one step: for an account that is known to be
 * wrong). drift_out: how many were found.
 */
struct store_quota_drift {
	uint32_t account, mailbox; /* mailbox 0: the account's own */
	bool is_root;              /* the mailbox's root, not its own counters */
	uint64_t bytes_counted, bytes_stored, count_counted, count_stored;
};
MUST_CHECK int store_quota_verify(struct store_txn *txn, uint32_t account, bool repair,
	void (*report)(void *arg, const struct store_quota_drift *drift), void *arg, uint64_t *drift_out);

/* ---- warnings ---- */

/* What there is of limits, and what is used of them; 0: no limit. */
struct store_quota_use {
	uint64_t bytes_used, bytes_limit, count_used, count_limit;
};
/* In percent of the scarcest; 0 without limits. */
unsigned store_quota_percent(const struct store_quota_use *use);
/* Of the account (mailbox 0), or of the folder: of it with all below or of it alone, whichever is scarcer. ERR_NOT_FOUND: no
 * limits there. */
MUST_CHECK int store_quota_use(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_quota_use *use_out);

/* Hears of an account (mailbox 0), or of a folder with limits of its own. */
typedef void store_quota_watch_fn(void *arg, unsigned slot, uint32_t account, uint32_t mailbox);
/*
 * From now on fn hears of each that has as much of its limits as a threshold (percent, ascending) or more, when a message is
 * added to it: on the writer's thread, after the commit. Of an account at most once in interval_s seconds unless a higher one
 * is reached, of a folder until store_quota_warn() has counted it as told. count 0: of none. Any thread.
 */
void store_quota_watch(struct store *store, const unsigned *thresholds, size_t count, uint64_t interval_s,
	store_quota_watch_fn *fn, void *arg);
/*
 * Which threshold is to be warned of now: the highest that is reached and of which no warning was given within interval_s;
 * it, and those below, count as given from now on. 0: none.
 */
MUST_CHECK int store_quota_warn(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const unsigned *thresholds, size_t count, uint64_t interval_s, int64_t now, unsigned *threshold_out);
