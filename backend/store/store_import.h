/*
 * Import: takes the records of an account's stream and makes the account of them, as it was: UIDVALIDITYs, UIDs, MODSEQs, what
 * was expunged, object ids, dates, UIDLs. It is built out of sight, in steps, under an intent, and becomes visible in one
 * transaction; what a crash leaves of it is removed by the next start. Nothing in a record is believed: texts and bodies are
 * parsed anew, numbers are held against each other. Blocks: for worker threads.
 */
#pragma once

#include "backend/store/store_blob.h"
#include "backend/store/store_stream.h"

/* One step: fn in a write transaction of the slot, which is committed when it gives 0; fn may be called again for the same step. */
typedef int store_write_fn(
	void *arg, unsigned slot, int (*fn)(struct store_txn *txn, void *fn_arg), void *fn_arg);

/* Bodies that stand elsewhere (a backup): a source that is good until the next call. */
typedef int store_kept_fn(
	void *arg, uint64_t body, uint64_t size, uint64_t sum, struct store_source *source_out);

/*
 * May the account that is being made have this name? Asked as records come: first for its address, then for its aliases. Fills why
 * when the answer is no.
 */
typedef int store_may_name_fn(void *arg, struct slice name, bool is_alias, struct buf *why);
/* Nobody else may change what has one of these names until the import is freed. Asked before the account becomes visible. */
typedef int store_claim_fn(void *arg, struct slice name);

struct store_import_options {
	struct store *store;
	unsigned slot;
	struct slice address; /* the account's name; empty: the stream's own, with its aliases */
	/*
	 * Out of a backup: UIDs given and changes made since are unknown, so that mailboxes get new UIDVALIDITYs, MODSEQs go on far above,
	 * and the change log begins anew.
	 */
	bool is_restore;
	/* It takes the place of the account of its name, if there is one (see store_import_finish()). */
	bool replaces;
	store_write_fn *write; /* NULL: nobody else has the store */
	void *write_arg;
	store_kept_fn *kept; /* NULL: there are no such bodies */
	void *kept_arg;
	store_may_name_fn *may_name; /* NULL: any */
	store_claim_fn *claim;       /* NULL: nobody else makes accounts */
	void *names_arg;
};
struct store_import_totals {
	uint64_t mailboxes, messages, bytes;
	uint64_t kept, kept_bytes; /* deleted messages that can be undeleted (store_kept.h) */
	uint32_t account;
	char address[STORE_ADDRESS_MAX + 1];
	/* Of the account that was replaced: it has to be forgotten (store_work_forget()); old_account 0: none. */
	unsigned old_slot;
	uint32_t old_account;
};

struct store_import;

struct store_import *store_import_new(const struct store_import_options *options);
/* A stream_record_fn. why of the import says more than the error; after an error only store_import_free(). */
MUST_CHECK int store_import_record(void *import, uint16_t tag, struct slice payload);
/*
 * The stream was whole: proves that the account is, and makes it visible. ERR_EXISTS: a name is another account's. A replaced
 * account of the same slot goes in the same transaction; one of another slot is named in an intent and removed after it, by
 * this call or by the next start. What the replaced one may do and has seen elsewhere is the new one's then.
 */
MUST_CHECK int store_import_finish(struct store_import *import, struct store_import_totals *totals_out);
/* What is wrong, in words; "" without. */
const char *store_import_why(struct store_import *import);
/* Without a finish before, what was made is removed. Accepts NULL, sets NULL. */
void store_import_free(struct store_import **import);

/* At start, before names are read: finishes or removes what a crash left of imports and moves. */
MUST_CHECK int store_import_recover(struct store *store, unsigned slot);
