/*
 * Private to backend/store_work: jobs, queues, threads.
 *
 * A job goes from queue to queue; whoever took it out of one owns it. Its last station is job_answer(), which
 * brings it to its loop. Only `cancelled` is shared: the loop sets it, workers look at it.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "backend/store/store_kept.h"
#include "backend/store_work/store_work.h"
#include "common/base/list.h"
#include "common/base/metrics.h"

struct store_job {
	struct store_job *next;
	struct store_work *work;
	unsigned slot;
	struct loop *loop;
	_Atomic bool cancelled;
	int err;
	int step; /* what run returned this time */
	/* On a preparing thread; hands the job on. */
	void (*prepare)(struct store_job *job, struct store_press *press);
	/* On a writer or reader thread; as in struct store_work_call. */
	int (*run)(struct store_txn *txn, struct store_job *job);
	/* On the writer's thread after the commit (or its failure: err). Owns the job. */
	void (*after)(struct store_job *job, int err);
	/* On the loop: tells the owner (unless cancelled), drops, frees. */
	void (*answer)(struct store_job *job);
	struct store_work_call call;
};

/* A queue with waiting threads. */
struct queue {
	pthread_mutex_t lock;
	sem_t filled; /* one count a job; one more for each waiting thread once it is closed */
	struct store_job *first;
	struct store_job **end;
	size_t count;
	bool is_closed;
};
void queue_init(struct queue *q);
void queue_deinit(struct queue *q);
void queue_add(struct queue *q, struct store_job *job);
/* Waits; NULL when closed and empty. */
struct store_job *queue_take(struct queue *q);
/* Takes up to `most`, waiting at most us for the first; NULL: none came, *closed_out says whether none will.
 */
struct store_job *queue_take_many(struct queue *q, size_t most, uint64_t us, bool *closed_out);
void queue_close(struct queue *q);
size_t queue_count(struct queue *q);

struct writer {
	struct store_work *work;
	unsigned slot;
	pthread_t thread;
	struct queue queue;
	size_t crowd;       /* jobs of the last batch, and those that waited at its end */
	uint64_t commit_us; /* what its commit took */
	_Atomic bool waste; /* the reaper should look */
	uint64_t reap_at_ms;
	size_t reap_rows; /* a step's; fewer while the disk is full */
	uint64_t expire_at_ms;
	uint64_t watch_at_ms; /* when old readers are looked for next */
	uint64_t warned_at_ms;
	_Atomic uint64_t held_bytes; /* by readers that were too old then */
	uint64_t kept_at_ms;         /* when the retention is looked at next */
	struct store_kept_pass kept;
	_Atomic uint64_t kept_messages, kept_bytes; /* as the last look found them */
};

struct holds;
struct watches;

struct store_work {
	struct store *store;
	struct store_work_options options;
	struct writer *writers;
	unsigned slot_count;
	struct queue reads;
	struct queue prepares;
	pthread_t *threads; /* readers, then preparers */
	unsigned thread_count;
	_Atomic unsigned busy_readers;
	struct holds *holds;
	struct watches *watches;
	pthread_mutex_t lock; /* over open_jobs, is_stopping */
	pthread_cond_t calm;
	size_t open_jobs;
	bool is_stopping;
	bool is_halted; /* the threads have ended */
	_Atomic uint64_t commits, jobs, jobs_failed, batches_repeated;
	struct metric *m_commits, *m_jobs, *m_failed, *m_waiting, *m_readers, *m_oldest, *m_views, *m_watches;
	struct metric *m_kept, *m_kept_bytes, *m_oldest_age, *m_oldest_held;
	struct histogram *m_commit_time;
};

/* Counts a new job; false: no more are taken. */
bool job_open(struct store_job *job);
/* Brings a chain of finished jobs (by next) to their loops. */
void job_answer(struct store_job *chain);
/* Queues for the writer of its slot. */
void job_write(struct store_job *job);

void *writer_main(void *writer);

/* Goes on with what the last run left. */
void forget_resume(struct store_work *work);

struct watches *watches_new(void);
void watches_free(struct watches **watches);
/* After a commit. */
void watches_tell(struct watches *watches, unsigned slot, const struct store_note *notes, size_t count);
uint64_t watches_count(struct watches *watches);

struct holds *holds_new(void);
void holds_free(struct holds **holds);
uint64_t holds_oldest(struct holds *holds, unsigned slot, uint32_t mailbox);
bool holds_is_pinned(struct holds *holds, unsigned slot, uint64_t blob);
void holds_count(struct holds *holds, uint64_t *views_out, uint64_t *pins_out);

/* Messages that are prepared before their add job begins. */
struct add_job;
/* NULL is one without messages, here and below. */
size_t ahead_count(const struct store_ahead *ahead);
/* What they held before they were compressed: an upper bound of what waits to be written. */
size_t ahead_bytes(const struct store_ahead *ahead);
/* True: all are ready, or one has failed. False: the last of them will call add_ahead_done(waiter). */
bool ahead_is_ready(struct store_ahead *ahead, struct add_job *waiter);
/* Once ready: moves the drafts out, ahead_count() of them. */
int ahead_take(struct store_ahead *ahead, struct store_draft **into);
/* On a preparing thread. */
void add_ahead_done(struct add_job *add);

/* ---- targets that are recipients of the queue (add_queue.c) ---- */
struct arena;
/* What a target points to, into the arena; `before`: the target before it, or NULL. False: no memory. */
bool add_queue_copy(struct arena *a, const struct store_work_target *from, struct store_work_target *to,
	const struct store_work_target *from_before, const struct store_work_target *to_before);
/* The message that recipients are being added to; zeroed at first. */
struct add_queue_open {
	const struct store_queue_message *message;
	uint64_t id;
	uint32_t count;
};
MUST_CHECK int add_queue_to(
	struct store_txn *txn, uint64_t blob, const struct store_work_target *t, struct add_queue_open *open);
