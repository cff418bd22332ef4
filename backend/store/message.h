/* Private: what other files of the room need of store_message.c. */
#pragma once

#include "backend/store/record.h"

/* Counters of both, read and written together. */
struct counters {
	struct account_state account;
	struct mailbox_state mailbox;
};

/* Removes a record and its reference to the blob. An absent one is damage, which check reports: no error here. */
MUST_CHECK int message_remove_record(struct store_txn *txn, uint32_t mailbox, uint32_t uid);

/*
 * Puts messages that exist already (their blobs are referenced) behind all others of one mailbox, under one MODSEQ:
 * begin, add, end. Between begin and end nothing else changes the account. end frees, also after an error.
 */
struct message_batch {
	struct store_txn *txn;
	uint32_t account, mailbox;
	struct counters c;
	uint64_t modseq;
	uint32_t *uids; /* owned */
	size_t count, room;
};
MUST_CHECK int message_batch_begin(
	struct message_batch *b, struct store_txn *txn, uint32_t account, uint32_t mailbox);
/* e: flags, keywords, date, size; its UID and MODSEQ are set. ERR_TOO_BIG: over quota, nothing was done. m's slices
 * must not be views of DB_MESSAGES. */
MUST_CHECK int message_batch_add(
	struct message_batch *b, struct store_entry *e, const struct store_message *m);
/* err: of what came before; writes nothing then. Gives err, or its own. */
MUST_CHECK int message_batch_end(struct message_batch *b, int err);
