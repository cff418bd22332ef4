/*
 * Mends what store_check() finds, where that can be done without loss, in a store that is closed or in use. Told is each thing
 * mended, and by name what cannot be: that is left as it is. Nothing is removed but what says nothing any more (a name without
 * an account) and bodies that belong to no message of a slot that lacks none.
 *
 * An account or blob that is whole is only read, in short snapshots. One that is not is mended in one write transaction, for
 * which other writers of its slot wait: about half a second for a mailbox of a million messages.
 */
#pragma once

#include "backend/store/store.h"

struct store_repair {
	uint64_t mended;
	uint64_t left;    /* findings that stay */
	uint64_t damaged; /* of these, messages whose body or record is lost */
};

struct store_repair_options {
	bool skip_bodies;   /* the checksums of bodies are not looked at */
	bool remove_strays; /* also remove bodies of no message where messages are missing */
	/* Called with each thing done or left; may be NULL. */
	void (*report)(void *arg, const char *text);
	bool (*is_cancelled)(void *arg); /* true ends it with ERR_CANCELLED; may be NULL */
	void *arg;
};

/* 0: looked at all of it; else it could not be finished: what was mended stays so. */
MUST_CHECK int store_repair(
	struct store *store, const struct store_repair_options *options, struct store_repair *repair_out);

/* What an account's counters say, and what they should. */
struct store_recount {
	uint64_t bytes, messages;
	uint32_t mailboxes, aliases;
};
/*
 * Counts anew from the indexes: one step of a few milliseconds for a mailbox of a million messages. counted and said may be the
 * same when nothing is wrong. ERR_NOT_FOUND: no such account; ERR_CORRUPT: something of it cannot be read (store_repair()).
 */
MUST_CHECK int store_account_recount(
	struct store_txn *txn, uint32_t account, struct store_recount *counted, struct store_recount *said);
/* Writes them, with those of its mailboxes and quota roots; true: something was wrong. */
MUST_CHECK int store_account_recount_mend(struct store_txn *txn, uint32_t account, bool *changed_out);
