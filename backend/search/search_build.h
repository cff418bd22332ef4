/*
 * Bringing the text index of a mailbox up to what there is; the indexer's work, without its thread. Synchronous, in steps of
 * reading, between which a function of the caller's is called to rest. One thread.
 */
#pragma once

#include "backend/search/search_index.h"
#include "backend/store/store_message.h"

/* So many new messages are indexed, or so many of so many octets, or so many octets. */
#define SEARCH_BATCH_DOCS 512
#define SEARCH_BATCH_SOME_DOCS 64
#define SEARCH_BATCH_SOME_OCTETS (256u << 10)
#define SEARCH_BATCH_OCTETS (16u << 20)
struct search_build;
/* After a step of so many microseconds, with no transaction open; true: give up (ERR_CANCELLED). */
typedef bool search_build_rest_fn(void *arg, uint64_t us);

struct search_build *search_build_new(struct store *store, search_build_rest_fn *rest, void *arg);
void search_build_free(struct search_build **b);

struct search_build_done {
	uint64_t indexed, left_out, segments;
};
/* Adds to *done. A mailbox that is gone loses its rows. ERR_FULL, ERR_CANCELLED, ERR_CORRUPT, ERR_IO. */
MUST_CHECK int search_build_mailbox(struct search_build *b, unsigned slot, uint32_t account, uint32_t mailbox,
	struct search_build_done *done);
/* Gives its memory back until the next call: some ten megabytes. */
void search_build_rest(struct search_build *b);
/* Deletes what it has of a mailbox that cannot be read, and gives its account, or 0. */
MUST_CHECK int search_build_heal(
	struct search_build *b, unsigned slot, uint32_t mailbox, uint32_t *account_out);
/* Deletes what the index has of the account's mailboxes. */
MUST_CHECK int search_build_forget(struct search_build *b, unsigned slot, uint32_t account);
/* Deletes what it has of mailboxes that are gone. */
MUST_CHECK int search_build_collect(struct search_build *b, unsigned slot);
/* The account's mailboxes; the caller frees. ERR_NOT_FOUND. */
MUST_CHECK int search_build_list(
	struct store *store, unsigned slot, uint32_t account, uint32_t **ids_out, size_t *count_out);

/* What the index has of one mailbox, beside what there is. */
struct search_build_status {
	struct search_mailbox index; /* zeroes: nothing yet */
	uint32_t messages;
	uint32_t covered; /* of them, that the index knows; the others are searched without it */
	uint32_t segments;
};
/* Any thread. ERR_NOT_FOUND, ERR_UNSUPPORTED; ERR_CORRUPT: what there is is damaged. */
MUST_CHECK int search_build_status(struct store *store, unsigned slot, uint32_t account, uint32_t mailbox,
	struct search_build_status *status_out);
