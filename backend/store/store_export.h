/*
 * Export: gives an account as the records of its stream (store_stream.h), at one state of its change log. One short read
 * transaction takes what changes (names, flags, keywords, the log); the bodies, which never change, follow in many short
 * ones. `hold` keeps what is expunged or deleted meanwhile readable. Blocks: for worker threads.
 */
#pragma once

#include "backend/store/store_message.h"
#include "backend/store/store_stream.h"

/* Messages of one account whose flags are held in memory, 40 bytes each. */
#define STORE_EXPORT_MESSAGES_MAX 25000000
/* Deleted messages of one account, 64 bytes each. */
#define STORE_EXPORT_KEPT_MAX 10000000

struct store_export_totals {
	uint64_t mailboxes, messages;
	uint64_t bytes;  /* of messages, as clients see them */
	uint64_t modseq; /* the state that was taken */
	/* Deleted messages that can be undeleted (store_kept.h). What expires or is undeleted meanwhile is left out. */
	uint64_t kept, kept_bytes;
};

struct store_export_options {
	struct store *store;
	unsigned slot;
	uint32_t account;
	/*
	 * Called before the state is taken, without a transaction, once for each mailbox: records expunged from now on stay until
	 * the caller lets go. NULL: nobody else has the store.
	 */
	void (*hold)(void *arg, uint32_t mailbox);
	/*
	 * Bodies that the caller keeps himself (a backup): called within a read transaction of which it must not make a long one. 0: the body
	 * of this blob is kept under *body_out with the sum *sum_out; STORE_EXPORT_AGAIN: it is more than a step, call again in the next
	 * transaction. NULL: bodies go into the stream.
	 */
	int (*keep)(void *arg, struct store_txn *txn, uint64_t blob, uint64_t *body_out, uint64_t *sum_out);
	void *arg;
	stream_record_fn *record; /* without a transaction: may wait */
	void *record_arg;
	/* Asked between steps; true ends with ERR_CANCELLED. May be NULL. */
	bool (*is_cancelled)(void *arg);
};
#define STORE_EXPORT_AGAIN 1

/* ERR_NOT_FOUND: no such account. The end record is the caller's to write. */
MUST_CHECK int store_export(
	const struct store_export_options *options, struct store_export_totals *totals_out);

/* ---- what others may read of records; ERR_CORRUPT ---- */

struct store_stream_account {
	struct slice address; /* a view */
	uint64_t modseq, messages, bytes;
	uint32_t mailboxes;
};
MUST_CHECK int store_stream_account(struct slice payload, struct store_stream_account *account_out);
struct store_stream_body {
	bool is_kept; /* the body stands in a backup under this number */
	uint64_t body, size, sum;
};
/* Of a STREAM_MESSAGE or STREAM_KEPT; ERR_NOT_FOUND: of another kind of record, which has none. */
MUST_CHECK int store_stream_body(uint16_t tag, struct slice payload, struct store_stream_body *body_out);
