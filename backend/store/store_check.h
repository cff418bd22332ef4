/*
 * Proves a store: every record well-formed, index and messages agree, blob references and checksums right,
 * counters of mailboxes and quotas equal to their sums, names and change log consistent. Read transactions
 * only, one per account and short ones over the blobs, so that it also works on a store in use.
 */
#pragma once

#include "backend/store/store.h"

struct store_check {
	uint64_t accounts, mailboxes, messages, blobs, bytes; /* looked at */
	uint64_t errors;
};

struct store_check_options {
	bool skip_bodies; /* leave out the checksums of blobs: only structure */
	/* Called with each finding; may be NULL. */
	void (*report)(void *arg, const char *text);
	/* Asked now and then; true ends the check with ERR_CANCELLED. May be NULL. */
	bool (*is_cancelled)(void *arg);
	void *arg;
};

/* 0: looked at all of it (see check_out->errors); else it could not be finished. */
MUST_CHECK int store_check(
	struct store *store, const struct store_check_options *options, struct store_check *check_out);
