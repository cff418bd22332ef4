/*
 * Private: what imports need of accounts.
 */
#pragma once

#include "backend/store/record.h"

/* What an account that is made now has as `created`: no two of one second are mistaken for each other. */
int64_t account_created_now(void);

struct account_imported {
	struct account_record record; /* address in its stored form */
	const struct slice *aliases;  /* stored form */
	size_t alias_count;
	bool replaces; /* names of this account are not taken */
	unsigned old_slot;
	uint32_t old_account;
};
/* ERR_EXISTS: a name is another account's. */
MUST_CHECK int account_check_names(struct store_txn *txn, const struct account_imported *a);
/* The record and names of an account whose other rows are there. */
MUST_CHECK int account_put_imported(
	struct store_txn *txn, uint32_t account, const struct account_imported *a);
