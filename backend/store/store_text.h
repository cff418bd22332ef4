/*
 * The rows of the text index: an LMDB environment of its own in each slot's folder, `text`, so that the index costs the
 * mail's writer nothing, can be deleted at any time, and is not in backups. What the rows say is backend/search's.
 *
 * It is only ever behind the mail, never beside it: it carries the slot's mark and the number of the last mail transaction
 * that it has seen, and one that is of another slot, or that knows more than the slot does (whose files were put back from a
 * copy), is emptied when the store is opened. Its commits sync the pages but not the header (MDB_NOMETASYNC): a power loss
 * may take it back by some commits, to a state that was right as well.
 *
 * Threads: one write transaction a slot at a time, others wait; read transactions by one thread at a time, and short.
 * Errors as in store.h; ERR_FULL: the file system, or store_options.text_size.
 */
#pragma once

#include "backend/store/store.h"

/* Rows stand in this order: mailbox, kind, uid, gram. */
struct store_text_key {
	uint32_t mailbox; /* 0: of the index itself */
	uint8_t kind;
	uint32_t uid;
	uint32_t gram;
};

struct store_text_txn;

/* Was the store opened with a text index? */
bool store_text_is_on(const struct store *store);
/* A read transaction. ERR_UNSUPPORTED: there is no index. */
MUST_CHECK int store_text_begin_read(struct store *store, unsigned slot, struct store_text_txn **txn_out);
/* A write transaction; waits for another. mail: a read transaction of the slot, from which come the rows to be written. */
MUST_CHECK int store_text_begin_write(
	struct store *store, unsigned slot, const struct store_txn *mail, struct store_text_txn **txn_out);
/* Ends it in any case; the first error of any write is returned, and nothing is written then. */
MUST_CHECK int store_text_commit(struct store_text_txn **txn);
/* Ends a read transaction, or gives a write up. NULL is fine. */
void store_text_end(struct store_text_txn **txn);

/* A view of the transaction. ERR_NOT_FOUND. */
MUST_CHECK int store_text_get(
	struct store_text_txn *txn, const struct store_text_key *key, struct slice *value_out);
/* The first row not below key. key_out and value_out: views until the next call. ERR_NOT_FOUND at the end. */
MUST_CHECK int store_text_seek(struct store_text_txn *txn, const struct store_text_key *key,
	struct store_text_key *key_out, struct slice *value_out);
/* The row with the greatest key that is not above. */
MUST_CHECK int store_text_floor(struct store_text_txn *txn, const struct store_text_key *key,
	struct store_text_key *key_out, struct slice *value_out);
MUST_CHECK int store_text_put(
	struct store_text_txn *txn, const struct store_text_key *key, struct slice value);
/* Removes rows from `from` up to, not including, `to`, at most `most`; removed_out: fewer than that, and none is left. */
MUST_CHECK int store_text_remove(struct store_text_txn *txn, const struct store_text_key *from,
	const struct store_text_key *to, size_t most, size_t *removed_out);
/* What the index says of this mailbox cannot be read: for store_text_take_damaged(). True: it is the first since then. */
bool store_text_mark_damaged(struct store *store, unsigned slot, uint32_t mailbox);
/* The mailbox that was marked last; 0: none. */
uint32_t store_text_take_damaged(struct store *store, unsigned slot);
/* Octets of the rows' pages, of all slots. */
uint64_t store_text_size(struct store *store);
