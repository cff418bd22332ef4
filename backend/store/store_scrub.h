/*
 * Scrub: reads all bodies of a slot, a little at a time, and verifies their checksums. How far it has come is on disk, so that a
 * restart goes on there. The pace is the caller's.
 */
#pragma once

#include "backend/store/store.h"

struct store_scrub {
	uint64_t next;    /* the blob to be looked at; 0: no pass runs */
	uint64_t frame;   /* and of it */
	uint64_t began;   /* the pass that runs, or the last; seconds since 1970, 0: never */
	uint64_t ended;   /* the last pass that came to its end */
	uint64_t blobs;   /* looked at in this pass */
	uint64_t bytes;   /* read in this pass, compressed */
	uint64_t damaged; /* bodies found damaged in this pass */
};

MUST_CHECK int store_scrub_get(struct store_txn *txn, struct store_scrub *scrub_out);
MUST_CHECK int store_scrub_put(struct store_txn *txn, const struct store_scrub *scrub);
/*
 * Goes on from scrub->next, which moves, until about `most` bytes are read. fn is told of each damaged body that a message has.
 * next is 0 when the pass is over. A read transaction.
 */
MUST_CHECK int store_scrub_step(struct store_txn *txn, struct store_scrub *scrub, uint64_t most,
	void (*fn)(void *arg, uint64_t blob), void *arg);
/* Tells which messages have these bodies, by account, mailbox and UID; looks at all messages of the slot. */
MUST_CHECK int store_scrub_tell(struct store *store, unsigned slot, const uint64_t *blobs, size_t count,
	void (*report)(void *arg, const char *text), void *arg);
