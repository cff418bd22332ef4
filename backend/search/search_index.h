/*
 * Asking the text index which messages cannot have a text. Its answer is "surely not" or "look": of a message that it does not know,
 * and of a text of less than three octets, it always says "look". A message never changes and no UID is given twice while UIDVALIDITY
 * stays, so what the index says stays true, whatever happens to the mailbox.
 *
 *	(mailbox, MAILBOX, 0, 0)             struct search_mailbox
 *	(mailbox, SEGMENT, first UID, 0)     struct search_segment
 *	(mailbox, BLOCK, first UID, gram)    a block of its grams
 */
#pragma once

#include "backend/search/search_segment.h"
#include "backend/store/store_text.h"

enum search_row {
	SEARCH_ROW_MAILBOX = 1,
	SEARCH_ROW_SEGMENT,
	SEARCH_ROW_BLOCK
};

/* How far a mailbox is indexed. */
struct search_mailbox {
	uint32_t account;
	uint32_t uidvalidity;
	uint32_t seen;   /* every UID up to here was looked at */
	uint32_t docs;   /* messages in its segments */
	uint64_t text;   /* octets of their texts */
	uint64_t octets; /* of the rows */
};
/* ERR_NOT_FOUND, ERR_CORRUPT. */
MUST_CHECK int search_mailbox_get(
	struct store_text_txn *txn, uint32_t mailbox, struct search_mailbox *mailbox_out);
MUST_CHECK int search_mailbox_put(
	struct store_text_txn *txn, uint32_t mailbox, const struct search_mailbox *m);

/* A text that is looked for; its grams. NULL: too short for the index. */
struct search_filter;
struct search_filter *search_filter_new(struct slice folded);
void search_filter_free(struct search_filter **f);

/* The index of a mailbox, read in one job after the other. One thread at a time. */
struct search_index;
struct search_index *search_index_new(
	struct store *store, unsigned slot, uint32_t mailbox, uint32_t uidvalidity);
void search_index_free(struct search_index **index);
/* A job begins and ends. Without an index, or with one that cannot be read, all answers are "look". */
void search_index_open(struct search_index *index);
void search_index_close(struct search_index *index);
/* True: the message of this UID does not have the text. Cheapest with UIDs that ascend. filter NULL: false. */
bool search_index_excludes(struct search_index *index, struct search_filter *filter, uint32_t uid);
