/*
 * The indexer: one thread that brings the text index of all mailboxes up to what there is, in small steps with pauses
 * between them. It looks through all mailboxes when it starts, and afterwards at those that the store's commits name; how far
 * each is done stands in its row, in the transaction that adds a segment, so a crash loses a segment at most, and nothing is
 * indexed twice. The store's writer never waits for it.
 *
 * A mailbox's newest messages wait until they make a segment worth having (SEARCH_BATCH_*): until then they are searched
 * without the index, which takes no longer.
 *
 * Any thread may call; answers come on the indexer's thread.
 */
#pragma once

#include "backend/store_work/store_work.h"

struct search_worker;

struct search_worker_options {
	unsigned share; /* percent of one core that it may use; 0: 50 */
};
/* ERR_UNSUPPORTED: the store was opened without an index. */
MUST_CHECK int search_worker_start(struct store_work *work, const struct search_worker_options *options,
	struct search_worker **worker_out);
/* Ends the thread after its step. Before store_work_halt(). Sets NULL, accepts NULL. */
void search_worker_stop(struct search_worker **worker);
/* The account's index is deleted and made anew; account 0: that of every account of the slot. */
void search_worker_rebuild(struct search_worker *worker, unsigned slot, uint32_t account);
/* Nothing waits to be looked at. */
bool search_worker_is_idle(struct search_worker *worker);

struct search_worker_stat {
	uint64_t indexed, left_out; /* messages since the start */
	uint64_t segments;          /* written */
	uint64_t waiting;           /* mailboxes to be looked at */
	uint64_t failed;            /* times that the index could not be written */
	bool is_full;               /* its room or its disk: goes on later */
};
void search_worker_stat(struct search_worker *worker, struct search_worker_stat *stat_out);
