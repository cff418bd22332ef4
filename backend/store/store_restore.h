/*
 * Restore of one mailbox out of a backup's stream into an account that lives. Its messages become new ones there: new UIDs,
 * MODSEQs, UIDLs, EMAILIDs, with their flags, keywords and INTERNALDATE; those that are in the mailbox still (equal size, date,
 * header and structure) are left out, so that it can be repeated. Those that its user deleted, and that come back, cannot be
 * undeleted any more: they would be there twice. A mailbox that is not there is made, with a new UIDVALIDITY.
 * Blocks: for worker threads.
 */
#pragma once

#include "backend/store/store_import.h"

struct store_restore_options {
	struct store *store;
	unsigned slot;
	uint32_t account;
	struct slice from; /* the mailbox's name in the stream, in its stored form */
	struct slice to;   /* its name in the account */
	store_write_fn *write;
	void *write_arg;
	store_kept_fn *kept;
	void *kept_arg;
};
struct store_restore_totals {
	bool is_found; /* the stream has the mailbox */
	uint64_t restored, bytes;
	uint64_t present; /* left out: they are there */
};

struct store_restore;

struct store_restore *store_restore_new(const struct store_restore_options *options);
/* A stream_record_fn. The quota does not count: the operator wants them back. */
MUST_CHECK int store_restore_record(void *restore, uint16_t tag, struct slice payload);
/* The stream has ended: what is queued is written. */
MUST_CHECK int store_restore_finish(struct store_restore *restore, struct store_restore_totals *totals_out);
/* Accepts NULL, sets NULL. What was written stays. */
void store_restore_free(struct store_restore **restore);
