/*
 * The store: N slots, each one LMDB environment with the accounts that live in it. Synchronous; nothing here
 * knows loops or protocols.
 *
 * Threads: one write transaction per slot at a time (backend/store_work has one writer thread a slot); any
 * number of read transactions, each used by one thread at a time and short: none outlives a job or waits for
 * a client. The name table (store_find*, quota reservations) is in memory and may be asked from any thread.
 *
 * Errors, the same in all of backend/store: ERR_NOT_FOUND, ERR_EXISTS, ERR_DENIED (an operation that makes no
 * sense there), ERR_TOO_BIG (a limit with a name: quota, keywords, name length), ERR_FULL (disk or map is
 * full: temporary, nothing was damaged), ERR_CORRUPT (checksum or record is wrong), ERR_IO, ERR_NOT_NOW.
 * Views (slices) of a transaction point into the map and die with the transaction.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/slice.h"

#define STORE_SLOTS_MAX 64
#define STORE_ADDRESS_MAX 320
#define STORE_HELD_MAX 64 /* accounts of a slot that are held at once */

struct store;
struct store_txn;

struct store_options {
	const char *dir;
	unsigned slots;       /* of a new store; 0: one per core. An existing store keeps its number */
	uint64_t map_size;    /* address space reserved per slot; 0: 64 GiB; grown when needed */
	unsigned readers_max; /* read transactions at once per slot; 0: 126 */
	bool must_exist;      /* a directory without a store is ERR_NOT_FOUND, not a new store */
	bool has_text_index;  /* with one (store_text.h); without, its files are removed unless no_repair */
	uint64_t text_size;   /* most octets of it per slot; 0: 16 GiB */
	bool no_repair;       /* leave intents and leftovers of unfinished writes as they are (check, stat) */
};

/*
 * Opens or creates, takes the lock of the directory, fills the name table and finishes what a crash left
 * (pending pieces). why_out (may be NULL) gets a sentence for the operator on failure.
 * ERR_NOT_NOW: another program has it. ERR_UNSUPPORTED: a version we cannot read, or a network file system.
 */
MUST_CHECK int store_open(const struct store_options *options, struct store **store_out, struct buf *why_out);
/* All transactions must have ended. */
void store_close(struct store **store);
unsigned store_slots(const struct store *store);

/* ---- transactions ---- */

/* Waits for another writer of the slot. ERR_NOT_NOW after a failure that only a restart can heal. */
MUST_CHECK int store_begin_write(struct store *store, unsigned slot, struct store_txn **txn_out);
/*
 * Ends the transaction in any case; *txn is NULL then. A sticky error of any function called with it is
 * returned and nothing is written. 0 means: on disk.
 */
MUST_CHECK int store_commit(struct store_txn **txn);
void store_abort(struct store_txn **txn);
/* The snapshot of this moment; must be ended soon. */
MUST_CHECK int store_begin_read(struct store *store, unsigned slot, struct store_txn **txn_out);
void store_end_read(struct store_txn **txn);
/* Who reads, for the watchdog: a text that lives for ever. "" while nobody has said. */
void store_txn_set_name(struct store_txn *txn, const char *name);
/* The first error of this transaction that leaves half a change behind, or 0; commit returns it. */
int store_txn_error(const struct store_txn *txn);
/*
 * Runs fn so that its writes vanish if it fails, without harm to the rest of the transaction (a child
 * transaction). Returns fn's result.
 */
MUST_CHECK int store_txn_try(struct store_txn *txn, int (*fn)(struct store_txn *txn, void *arg), void *arg);
/* Number of writes so far: unchanged means that nothing has to be undone. */
uint64_t store_txn_writes(const struct store_txn *txn);
unsigned store_txn_slot(const struct store_txn *txn);
/* It left something for store_reap(). */
bool store_txn_has_waste(const struct store_txn *txn);

/* What a transaction changed, for notices: valid until commit or abort. */
struct store_note {
	uint32_t account;
	uint32_t mailbox; /* 0: the account's list of mailboxes, or the account itself */
	uint64_t modseq;
	unsigned
		shared_with; /* not 0: an ACL names `account` of slot shared_with - 1 otherwise than before, no more */
};
const struct store_note *store_txn_notes(const struct store_txn *txn, size_t *count_out);

/* ---- the name table: in memory, any thread ---- */

enum store_account_flag {
	STORE_ACCOUNT_DISABLED = 1,      /* may not log in; mail is still taken */
	STORE_ACCOUNT_NO_MAIL = 2,       /* deliveries are refused for good */
	STORE_ACCOUNT_FORWARDS_ONLY = 4, /* what is forwarded is not kept here as well */
	/* worked out of account, class and domain; never in a record */
	STORE_ACCOUNT_SUSPENDED = 1 << 16,  /* DISABLED is set as well */
	STORE_ACCOUNT_MAIL_LATER = 1 << 17, /* deliveries are refused for a time */
	STORE_ACCOUNT_NO_IMAP = 1 << 18,
	STORE_ACCOUNT_NO_POP3 = 1 << 19,
	STORE_ACCOUNT_FORWARDS = 1 << 20 /* store_forwards() has addresses */
};
/* What a record may hold. */
#define STORE_ACCOUNT_OWN_FLAGS 7u

/* One account as the name table knows it: limits and flags are what counts now, by account, class, domain, built-in values. */
struct store_account {
	unsigned slot;
	uint32_t id;
	uint32_t flags;       /* enum store_account_flag */
	uint64_t bytes_limit; /* 0: none */
	uint64_t count_limit; /* 0: none */
	uint64_t bytes_used;
	uint64_t count_used;
	int64_t created; /* store_created_time() and a random number: which one it is, wherever it goes */
	char address[STORE_ADDRESS_MAX + 1]; /* canonical */
};

/* Seconds since 1970. Of accounts made before November 2026 there is nothing else in it. */
static inline int64_t store_created_time(int64_t created)
{
	return created & ((INT64_C(1) << 40) - 1);
}

/* Address or alias in any spelling (address_normalise_whole()), also below an alias of its domain. ERR_NOT_FOUND. */
MUST_CHECK int store_find_account(
	struct store *store, struct slice address, struct store_account *account_out);
/*
 * For mail: the same, then without its +detail (address_normalise()), then the domain's postmaster for postmaster and abuse, then
 * its catch-all. A suspended domain of the address counts as well as the account's own (but not for its postmaster): a
 * name that is not there is then ERR_NOT_NOW or ERR_DENIED, as mail for suspended ones is answered there.
 */
MUST_CHECK int store_find_recipient(
	struct store *store, struct slice address, struct store_account *account_out);
/* By slot and id. */
MUST_CHECK int store_get_account(
	struct store *store, unsigned slot, uint32_t account, struct store_account *account_out);
/* The addresses that the account's mail goes on to; the array and texts are the arena's. ERR_NOT_FOUND: no such account.
 * ERR_TOO_BIG: the arena is full. */
struct arena;
MUST_CHECK int store_forwards(struct store *store, unsigned slot, uint32_t account, struct arena *arena,
	struct slice **list_out, size_t *count_out);
/* Calls fn for each account, in no order, without the table's lock held; fn returning false ends it. */
void store_each_account(
	struct store *store, bool (*fn)(void *arg, const struct store_account *account), void *arg);
size_t store_count_accounts(struct store *store);

/*
 * Promises `bytes` and one message of the account's quota until store_quota_release() with the same number:
 * counted together with what is stored. ERR_TOO_BIG: over the limit. bytes = 0 (size unknown) is refused only
 * when the quota is used up already, so that one message may exceed it by itself; ERR_NOT_NOW: others of unknown size are on their
 * way, and if each had STORE_QUOTA_UNSIZED bytes there would be no room. ERR_NOT_FOUND: no such account any more.
 */
#define STORE_QUOTA_UNSIZED (64u << 20)
MUST_CHECK int store_quota_reserve(struct store *store, unsigned slot, uint32_t account, uint64_t bytes);
void store_quota_release(struct store *store, unsigned slot, uint32_t account, uint64_t bytes);

/* ---- figures ---- */

/* The oldest read transaction that is open. */
struct store_reader {
	const char *name; /* as it was set; "" */
	unsigned slot;
	uint64_t age_ms;     /* 0 and no name: none is open */
	uint64_t commits;    /* since it began */
	uint64_t held_bytes; /* pages that were freed since, and cannot be used again before it ends */
};

struct store_stat {
	uint64_t accounts, mailboxes, messages, blobs;
	uint64_t message_bytes;     /* as clients see them */
	uint64_t blob_bytes;        /* distinct, uncompressed */
	uint64_t stored_bytes;      /* distinct, compressed */
	uint64_t map_size;          /* reserved address space, all slots */
	uint64_t used_bytes;        /* pages in use or free in the files */
	uint64_t free_bytes;        /* of these, pages to be used again */
	uint64_t orphans;           /* blobs that wait for removal */
	uint64_t expunged;          /* records that wait for the last view to move on */
	uint64_t intents;           /* long steps not finished */
	uint64_t kept;              /* deleted messages that can be brought back */
	uint64_t kept_bytes;        /* as clients saw them */
	uint64_t readers;           /* read transactions open now */
	uint64_t oldest_reader;     /* transactions committed since the oldest of these began */
	struct store_reader oldest; /* of all slots, by age */
	unsigned slots;
	uint32_t version;
};

/* Of one slot. With the pages, it walks the slot's list of free pages. */
MUST_CHECK int store_oldest_reader(
	struct store *store, unsigned slot, bool with_pages, struct store_reader *reader_out);

/* Read transactions open now, and how many commits the oldest of them is behind: it holds the pages of all of
 * these. */
void store_readers(struct store *store, uint64_t *readers_out, uint64_t *oldest_out);
/* Sums of all slots; short read transactions. */
MUST_CHECK int store_stat(struct store *store, struct store_stat *stat_out);
