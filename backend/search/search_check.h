/* Proving the text index: what it leaves out of an answer must not be there. On a thread of the operator; may take long. */
#pragma once

#include "backend/search/search_index.h"
#include "backend/store/store_message.h"

typedef void search_check_fn(void *arg, const char *text);

struct search_check {
	uint64_t messages, segments;
	uint64_t octets; /* of rows */
	uint64_t errors;
};
/*
 * Each message that the index knows of the mailbox is read again, and all its grams must be there; rows must be sound. Adds to
 * *check; report: a sentence a finding. Short transactions. ERR_NOT_FOUND, ERR_UNSUPPORTED, ERR_IO.
 */
MUST_CHECK int search_check_mailbox(struct store *store, unsigned slot, uint32_t account, uint32_t mailbox,
	search_check_fn *report, void *arg, struct search_check *check);
/* The same of all mailboxes of an account; those that go meanwhile are none. */
MUST_CHECK int search_check_account(struct store *store, unsigned slot, uint32_t account,
	search_check_fn *report, void *arg, struct search_check *check);
