/*
 * Accounts of a slot: canonical address, password hash, limits, aliases. Reads take any transaction of the
 * slot, writes a write transaction; the name table in memory changes when the transaction commits. An address
 * is 1..STORE_ADDRESS_MAX bytes of UTF-8 without control characters, held in lower case (ASCII).
 */
#pragma once

#include "backend/store/store.h"
#include "backend/store/store_domain.h"
#include "common/base/arena.h"

#define STORE_PASSWORD_MAX 512
#define STORE_ALIASES_MAX 1000
#define STORE_FORWARDS_MAX 20
#define STORE_ACCOUNT_NAME_MAX 256
/* Public folders of a domain belong to the account of this local part there. */
#define STORE_PUBLIC_LOCAL "#public"
/* The address, in any case of letters, is such an account's: nobody else may have it. Any thread. */
bool store_account_is_public(struct slice address);

struct store_account_new {
	struct slice address;
	struct slice password; /* a hash with its {SCHEME}; empty: nobody can log in with a password */
	/* What the account itself says. A limit above 0 here counts as said. */
	uint64_t bytes_limit;
	uint64_t count_limit;
	struct store_policy policy;
	uint32_t flags;        /* enum store_account_flag, STORE_ACCOUNT_OWN_FLAGS of it */
	struct slice class;    /* empty: the domain's */
	struct slice name;     /* of the human, for humans */
	struct slice forwards; /* normalised addresses, a line feed between two */
};

/*
 * Held: every change of the account is answered ERR_NOT_NOW from here on (what was begun is on disk), until it is released or the
 * store is closed. Reading goes on, and store_account_remove(). For the last moments of a move. ERR_TOO_BIG: STORE_HELD_MAX of its
 * slot. ERR_EXISTS: held already.
 */
MUST_CHECK int store_account_hold(struct store *store, unsigned slot, uint32_t account);
/* ERR_NOT_FOUND: it was not held. */
MUST_CHECK int store_account_release(struct store *store, unsigned slot, uint32_t account);

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
/* The account itself says both from now on; 0: no limit. */
MUST_CHECK int store_account_set_limits(
	struct store_txn *txn, uint32_t account, uint64_t bytes_limit, uint64_t count_limit);
MUST_CHECK int store_account_set_flags(struct store_txn *txn, uint32_t account, uint32_t flags);
/* What is not NULL is replaced. ERR_TOO_BIG: a text that is too long. */
struct store_account_change {
	const struct slice *password;
	const struct store_policy *policy;
	const uint32_t *flags;
	const struct slice *class;
	const struct slice *name;
	const struct slice *forwards;
};
MUST_CHECK int store_account_change(
	struct store_txn *txn, uint32_t account, const struct store_account_change *change);
/*
 * The account is called so from now on; ids, mailboxes, UIDs, log and all else stay. keep_alias: the old address becomes an alias.
 * An alias of its own may become its address. ERR_EXISTS: somebody else's. ERR_TOO_BIG: STORE_ALIASES_MAX.
 */
MUST_CHECK int store_account_rename(
	struct store_txn *txn, uint32_t account, struct slice address, bool keep_alias);
/* ERR_EXISTS as above. ERR_TOO_BIG: STORE_ALIASES_MAX reached. */
MUST_CHECK int store_account_add_alias(struct store_txn *txn, uint32_t account, struct slice address);
/* ERR_DENIED: the canonical address itself. */
MUST_CHECK int store_account_remove_alias(struct store_txn *txn, uint32_t account, struct slice address);

/* Views of the transaction. */
struct store_account_record {
	struct slice address;
	struct slice password;
	uint64_t bytes_limit; /* what counts now, by all levels */
	uint64_t count_limit;
	uint64_t bytes_used;
	uint64_t count_used;
	uint64_t modseq;            /* the highest given so far */
	int64_t created;            /* seconds since 1970 */
	uint32_t flags;             /* of the account itself */
	struct store_policy policy; /* what the account itself says */
	struct slice class;         /* its own */
	struct slice name;
	struct slice forwards; /* addresses, a line feed between two */
};
MUST_CHECK int store_account_get(
	struct store_txn *txn, uint32_t account, struct store_account_record *record_out);
/* Aliases without the canonical address, sorted; the array and texts are the arena's. */
MUST_CHECK int store_account_aliases(struct store_txn *txn, uint32_t account, struct arena *arena,
	struct slice **names_out, size_t *count_out);

/*
 * Who says that mail goes to this address: accounts that forward to it, and its domain as catch-all or postmaster. The first are
 * added to list, with commas between; how many there are. Memory, any thread.
 */
size_t store_name_users(struct store *store, struct slice name, struct buf *list);
/* The same of all names of an account. */
size_t store_account_users(struct store *store, unsigned slot, uint32_t account, struct buf *list);

/* The addresses of a text with a line feed between two; the array is the arena's, the texts are views. ERR_TOO_BIG. */
MUST_CHECK int store_account_split(
	struct slice text, struct arena *arena, struct slice **list_out, size_t *count_out);

/* What counts for an account, and which level says so. Memory, any thread. */
struct store_account_origin {
	struct store_policy effective;
	enum store_level bytes, count, protocols, suspended_mail;
	bool is_suspended_by[STORE_LEVEL_BUILT_IN]; /* ACCOUNT, CLASS, DOMAIN */
	char class[STORE_CLASS_MAX + 1];            /* "" none */
	enum store_level class_from;                /* ACCOUNT, DOMAIN, BUILT_IN: none */
	bool has_class;                             /* false: that class is no more */
};
MUST_CHECK int store_account_explain(
	struct store *store, unsigned slot, uint32_t account, struct store_account_origin *origin_out);

/*
 * For copies of accounts (backup, export, moves): all that the account's record says but address, password and time of creation (policy,
 * flags, class, name, forwards), as bytes with a version of their own; and back. The class need not exist where it goes. ERR_CORRUPT.
 */
MUST_CHECK int store_account_pack_options(struct store_txn *txn, uint32_t account, struct buf *out);
MUST_CHECK int store_account_unpack_options(struct store_txn *txn, uint32_t account, struct slice packed);
