/*
 * What users have in mailboxes of others, after many accounts were restored: rights and annotations of somebody who came later than
 * the mailbox's owner were left out then, since a record names only accounts that are there. This reads the owner's stream once
 * more and gives them. Blocks: for worker threads.
 */
#pragma once

#include "backend/store/store_import.h"

struct store_restore_others;

/* write may be NULL: nobody else has the store. */
struct store_restore_others *store_restore_others_new(
	struct store *store, store_write_fn *write, void *write_arg);
/* A stream_record_fn. What is there stays as it is. ERR_CANCELLED: a message has come, and behind it is nothing of interest. */
MUST_CHECK int store_restore_others_record(void *others, uint16_t tag, struct slice payload);
/* Accepts NULL, sets NULL. */
void store_restore_others_free(struct store_restore_others **others);
