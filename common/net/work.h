/*
 * Worker threads for what would block a loop: password hashes, parsing of large messages, directory
 * connections. A job is memory of the caller: `run` works on it in a worker, then `done` gets it back on the
 * loop that submitted it.
 */
#pragma once

#include "common/net/loop.h"

struct work_pool;

/* threads >= 1; at most queue_most jobs wait. name labels the metrics. */
MUST_CHECK int work_pool_new(
	const char *name, unsigned threads, unsigned queue_most, struct work_pool **pool_out);
/* Finishes what runs; what waits is answered ERR_CANCELLED, what comes is refused. Before the loops end that are to get the answers:
 * others may go on using the pool until it is freed. Twice is as once; accepts NULL. */
void work_pool_end(struct work_pool *pool);
/* The same, and frees it: nobody uses it any more. Sets NULL, accepts NULL. */
void work_pool_free(struct work_pool **pool);

struct work {
	loop_fn *run;                       /* in a worker thread; arg is the job */
	void (*done)(void *job, int error); /* on the loop; error 0, or ERR_CANCELLED when it never ran */
	void *job;
	/* private */
	struct loop *loop;
	struct work *next;
	int error;
};
/* Queues w (embedded in the job). ERR_NOT_NOW when the queue is full or the pool has ended: nothing was taken, done is not called.
 * A session that closes marks its job as orphaned, and done frees it. */
MUST_CHECK int work_submit(struct work_pool *pool, struct loop *loop, struct work *w);
unsigned work_pool_waiting(const struct work_pool *pool);
