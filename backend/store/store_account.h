/*
 * Accounts of a slot: canonical address, password hash, limits, aliases. Reads take any transaction of the
 * slot, writes a write transaction; the name table in memory changes when the transaction commits. An address
 * is 1..STORE_ADDRESS_MAX bytes of UTF-8 without control characters, held in lower case (ASCII).
 */
#pragma once

#include "backend/store/store.h"
#include "common/base/arena.h"

#define STORE_PASSWORD_MAX 512
#define STORE_ALIASES_MAX 1000

struct store_account_new {
	struct slice address;
	struct slice password; /* a hash with its {SCHEME}; empty: nobody can log in with a password */
	uint64_t bytes_limit;
	uint64_t count_limit;
	uint32_t flags; /* enum store_account_flag */
};

/* The slot in which a new account of this address goes (the one with the fewest accounts). */
unsigned store_account_choose_slot(struct store *store);

/*
 * Makes the account with its default mailboxes (INBOX, Drafts, Sent, Junk, Trash, Archive, each but INBOX
 * with its SPECIAL-USE, all subscribed). ERR_EXISTS: the address is an account or alias in any slot (two at
 * the same moment in two slots: the caller runs one account verb at a time).
 */
MUST_CHECK int store_account_create(
	struct store_txn *txn, const struct store_account_new *account, uint32_t *account_out);
/*
 * Takes the names away at once; mailboxes and messages go in steps by store_reap(). A new account of the
 * same address is a different one.
 */
MUST_CHECK int store_account_remove(struct store_txn *txn, uint32_t account);
/* Replaces the hash; empty takes password logins away. */
MUST_CHECK int store_account_set_password(struct store_txn *txn, uint32_t account, struct slice password);
MUST_CHECK int store_account_set_limits(
	struct store_txn *txn, uint32_t account, uint64_t bytes_limit, uint64_t count_limit);
MUST_CHECK int store_account_set_flags(struct store_txn *txn, uint32_t account, uint32_t flags);
/* ERR_EXISTS as above. ERR_TOO_BIG: STORE_ALIASES_MAX reached. */
MUST_CHECK int store_account_add_alias(struct store_txn *txn, uint32_t account, struct slice address);
/* ERR_DENIED: the canonical address itself. */
MUST_CHECK int store_account_remove_alias(struct store_txn *txn, uint32_t account, struct slice address);

/* Views of the transaction. */
struct store_account_record {
	struct slice address;
	struct slice password;
	uint64_t bytes_limit;
	uint64_t count_limit;
	uint64_t bytes_used;
	uint64_t count_used;
	uint64_t modseq; /* the highest given so far */
	int64_t created; /* seconds since 1970 */
	uint32_t flags;
};
MUST_CHECK int store_account_get(
	struct store_txn *txn, uint32_t account, struct store_account_record *record_out);
/* Aliases without the canonical address, sorted; the array and texts are the arena's. */
MUST_CHECK int store_account_aliases(struct store_txn *txn, uint32_t account, struct arena *arena,
	struct slice **names_out, size_t *count_out);
