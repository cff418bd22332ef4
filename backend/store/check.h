/* Private: parts of the check that the repair uses, and what its files share. */
#pragma once

#include "backend/store/db.h"
#include "backend/store/store_check.h"

/* One account in one snapshot; its findings are counted, not told. */
MUST_CHECK int check_one_account(struct store *store, unsigned slot, uint32_t account, uint64_t *errors_out);
/* Rows of no mailbox, which nobody can be given: told, and counted. */
MUST_CHECK int check_slot_strays(struct store *store, unsigned slot,
	void (*report)(void *arg, const char *text), void *arg, uint64_t *errors_out);

/* ---- inside the check ---- */

struct check {
	struct store *store;
	unsigned slot;
	struct store_txn *txn;
	const struct store_check_options *options;
	struct buf kept; /* mailboxes of the account's kept messages, u32 each, ascending */
	struct store_check result;
};

/* One line of what is wrong, counted. */
void check_finding(struct check *k, const char *format, ...) PRINTF_LIKE(2, 3);
bool check_is_cancelled(struct check *k);
/* ERR_CORRUPT and ERR_NOT_FOUND become a finding, and 0; other errors, which end the check, are given back. */
MUST_CHECK int check_judge(
	struct check *k, int err, const char *what, uint32_t account, uint32_t mailbox, uint32_t uid);
/* Calls fn for each row of a database, with a new snapshot after so many rows. The key is copied over the border. In no transaction. */
#define CHECK_ROWS 20000
typedef int check_row_fn(struct check *k, struct slice key, struct slice value, void *arg);
MUST_CHECK int check_each_row(struct check *k, enum db_name db, size_t rows, check_row_fn *fn, void *arg);
/* check_account.c: all of one account, in k->txn. One that is not there is none. */
MUST_CHECK int check_account(struct check *k, uint32_t account);
