/*
 * The bridge between loops and the store: one writer thread a slot with group commit, reader threads, workers
 * that prepare messages, notices of changes, views that hold expunged messages back, and the reaper.
 *
 * Threads: everything here may be called from any thread; a job's callbacks come on its loop (loop = NULL: on
 * the worker thread itself, for tools and tests). A job belongs to whoever started it until its `done`
 * begins; only the loop's own thread may cancel it. Nothing is answered before the commit.
 */
#pragma once

#include "backend/store/store.h"
#include "backend/store/store_acl.h"
#include "backend/store/store_message.h"
#include "backend/store/store_queue.h"

struct loop;
struct spool;
struct store_work;
struct store_job;

struct store_work_options {
	unsigned reader_threads;  /* 0: two */
	unsigned prepare_threads; /* 0: two */
	unsigned batch_max;       /* jobs in one transaction; 0: 200 */
	uint64_t mark_lifetime_s; /* 0: five days */
	uint64_t reader_warn_ms;  /* a read transaction this old is told to the log; 0: five seconds */
	uint64_t kept_every_ms;   /* between looks for what is over the retention; 0: a minute */
	uint64_t queue_max; /* jobs that may wait in one slot; more are answered ERR_NOT_NOW; 0: 20,000 */
};

MUST_CHECK int store_work_start(
	struct store *store, const struct store_work_options *options, struct store_work **work_out);
/* Finishes all queued jobs and ends the threads, while the loops still run: answers are on their way to them, and new jobs
 * are answered with an error. Then the loops are stopped, and store_work_stop() frees. */
void store_work_halt(struct store_work *work);
/* store_work_halt(), unless that was done, and frees; the store stays open. No loop may run any more, or have answers. */
void store_work_stop(struct store_work **work);
struct store *store_work_store(struct store_work *work);

/* ---- jobs ---- */

/* run of a write job returns this to be committed and called again: big work in steps (STORE_STEP_MAX). */
#define STORE_WORK_AGAIN 1

struct store_work_call {
	/*
	 * On a writer or reader thread. 0, STORE_WORK_AGAIN (write only) or ERR_*. A write that fails is
	 * undone alone. It may be called a second time for the same step when another job of its batch
	 * failed: it must set its results anew and change nothing outside the transaction but them.
	 */
	int (*run)(struct store_txn *txn, void *arg);
	/* On the loop, after the commit: 0 or ERR_* (of run, or of the commit). Not called when cancelled. */
	void (*done)(void *arg, int err);
	/* On the loop, last of all, cancelled or not: frees arg. May be NULL. */
	void (*drop)(void *arg);
	void *arg;
	struct loop *loop;
	const char *name; /* for the watchdog: a text that lives for ever; NULL: none */
};

/* Never NULL; the pointer is good until `done` begins. */
struct store_job *store_work_write(
	struct store_work *work, unsigned slot, const struct store_work_call *call);
struct store_job *store_work_read(struct store_work *work, unsigned slot, const struct store_work_call *call);
/*
 * The owner goes: `done` will not be called, `drop` will. A write that has begun is still committed. Sets
 * *job to NULL; accepts NULL. On the job's loop only.
 */
void store_work_cancel(struct store_job **job);

typedef void store_work_part_fn(struct store_txn *txn, void *arg, size_t part);
/*
 * In a read job: calls fn once for each part below count, and returns when all have ended. A reader that has nothing to do
 * takes some of them, in a transaction of its own that may have begun later, at the same time: so fn touches nothing but its
 * part. What a part needs must be held (by a view, a pin), since this job's transaction holds it for this job alone. Parts are
 * short: one may be waited for.
 */
void store_work_share(
	struct store_work *work, struct store_txn *txn, size_t count, store_work_part_fn *fn, void *arg);

/* An account of this slot was removed: it leaves the ACLs of all slots, step by step and in no hurry. A crash leaves the rest to
 * the next store_work_start(). Any thread. */
void store_work_forget(struct store_work *work, unsigned slot, uint32_t account);

/* ---- adding a message ---- */

struct store_work_target {
	uint32_t account;
	uint32_t mailbox;  /* 0: the account's INBOX */
	struct slice name; /* what the mailbox must still be called, else ERR_NOT_FOUND; empty: any name */
	uint8_t flags;     /* enum store_flag */
	const struct slice *keywords;
	size_t keyword_count;
	int64_t date;        /* INTERNALDATE, seconds */
	struct slice trace;  /* whole lines before the message, for this recipient */
	const uint8_t *mark; /* STORE_MARK_LEN bytes, or NULL */
	bool ignore_quota;
	struct store_who who; /* whose \Seen it is; account 0: the owner's */
	uint64_t email;       /* of struct store_append */
	/* Not NULL: a recipient of the queue, and of what stands above only `mark` counts. Neighbours that point to one message share its record;
	 * the job gives the numbers. Not with ranges. */
	const struct store_queue_message *queue;
	const struct store_queue_recipient *queued;
};

/* Messages that one transaction adds without holding the writer for longer than it may. */
#define STORE_WORK_RANGES_MAX 500

struct store_work_added {
	int error; /* 0; ERR_TOO_BIG over quota; ERR_NOT_FOUND account or mailbox gone; ERR_FULL, ERR_NOT_NOW
		      … */
	bool repeated; /* met its mark: error is 0, nothing was stored, the numbers below are 0 */
	uint32_t mailbox;
	uint32_t uid;
	uint32_t uidvalidity;
	uint64_t modseq;
	uint64_t queued; /* the message in the queue */
};

/* One of several messages that stand in one spool or memory. */
struct store_work_range {
	uint64_t offset, size;
};

/*
 * Messages of a command that are parsed and compressed while those behind them still come: they need the workers anyway, and the
 * client's answer comes sooner. Nothing is written before the add that takes them. Beyond STORE_AHEAD_BYTES or STORE_AHEAD_MESSAGES of one
 * add the others wait for it, so that a client that pauses in the middle holds no more than that.
 */
struct store_ahead;
#define STORE_AHEAD_BYTES (512u * 1024)
#define STORE_AHEAD_MESSAGES 256
/* Of what they have become: a message of a thousand empty parts is described by twenty times its octets. Those that would be more are made
 * again when the add begins. */
#define STORE_AHEAD_HELD (1024u * 1024)

/* Takes an add's next messages: `bytes` and the ranges in it, in their order, are copied. Makes *ahead with the first. False: not these, and no
 * more of this add (there is no room, or much waits already). On the loop. */
bool store_work_ahead(struct store_work *work, struct store_ahead **ahead, struct slice bytes,
	const struct store_work_range *ranges, size_t count);
/* They are not needed. Accepts NULL, sets NULL. Any thread. */
void store_ahead_free(struct store_ahead **ahead);

struct store_work_add {
	unsigned slot;
	/* The message: a spool, or (spool NULL) memory. Borrowed until `drop`. */
	struct spool *spool;
	struct slice memory;
	/* NULL: all of it is one message for every target, and each target fails alone. Else one for each target, copied: target
	 * i gets that message, and either all are stored in one transaction or none, with err saying why. At most
	 * STORE_WORK_RANGES_MAX. */
	const struct store_work_range *ranges;
	/* With ranges: the first of them as they were given ahead, or NULL. store_work_add() takes it over. */
	struct store_ahead *ahead;
	/* With ranges: this message of the first target's account goes in the same transaction, and its octets count no more
	 * against the quota. ERR_CLOSED: it has gone already, and nothing was stored. replaced_uid 0: none. */
	uint32_t replaced_mailbox, replaced_uid;
	/* Called in the transaction that stores, after the targets, with `arg`: what else must be true together with them. Its failure is
	 * that of all. As `run` of a write job. NULL: nothing. */
	int (*also)(struct store_txn *txn, void *arg);
	/* Copied by store_work_add(), with all they point to. */
	const struct store_work_target *targets;
	size_t target_count;
	/* On the loop. results has target_count elements and is valid during the call. err is 0 when each
	 * result speaks for itself. */
	void (*done)(void *arg, int err, const struct store_work_added *results, size_t count);
	void (*drop)(void *arg); /* on the loop, last of all; memory and fd are no longer needed */
	void *arg;
	struct loop *loop;
};

/*
 * Parses, digests and compresses on a worker, then stores for all targets of one slot in one transaction
 * (each target fails alone); a large message, or many, in several, visible in one. Same rules as other jobs.
 */
struct store_job *store_work_add(struct store_work *work, const struct store_work_add *add);

/* ---- notices ---- */

struct store_watch;

/*
 * On the loop after each commit that changed this account: mailbox 0 is the list of mailboxes (or the account
 * itself), and what stands for many mailboxes at once. Several commits may become one call per mailbox. Changes of one's own are
 * among them.
 */
typedef void store_watch_fn(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq);
/* On that loop. mailbox 0: all of the account; else that mailbox alone. What a commit costs the writer grows with the loops on which
 * an account is watched, not with the watches. Ended by store_work_unwatch(). */
struct store_watch *store_work_watch(struct store_work *work, unsigned slot, uint32_t account,
	uint32_t mailbox, struct loop *loop, store_watch_fn *fn, void *arg);
/* The same after each commit that changed what ACLs of this slot give to one (account 0: to anyone), who may be of another
 * slot. fn gets his account, and mailbox 0. */
struct store_watch *store_work_watch_shared(struct store_work *work, unsigned slot, struct store_who who,
	struct loop *loop, store_watch_fn *fn, void *arg);
/* No call after this returns. Accepts NULL, sets NULL. On its loop only. */
void store_work_unwatch(struct store_watch **watch);

/* On the writer's thread, after each commit that changed something: all of its notes. */
typedef void store_commit_fn(void *arg, unsigned slot, const struct store_note *notes, size_t count);
/* One function for all accounts, which must be quick and call nothing of the store; NULL: none. It is not called any more when this
 * returns. */
void store_work_on_commit(struct store_work *work, store_commit_fn *fn, void *arg);

/* ---- views: what keeps expunged messages readable ---- */

struct store_view;

/*
 * A session announced the messages of this mailbox as of `modseq`: what is expunged later stays readable
 * until the view moves on. The read job that takes the UIDs registers it with the mailbox's modseq of that
 * transaction. The reaper lets about 300 ms pass after an expunge, so that such a job is not overtaken; to be
 * certain, register with modseq 0 before the job begins, and move the view in it. Any thread.
 */
struct store_view *store_work_view(struct store_work *work, unsigned slot, uint32_t mailbox, uint64_t modseq);
/* The session has told its client of everything up to modseq. */
void store_work_view_move(struct store_view *view, uint64_t modseq);
/*
 * The session of this view is about to tell its client of these UIDs: the first of them that no other view of the mailbox has claimed, and
 * from there on they are this one's; 0: none. Claims are forgotten with the mailbox's last view, so that what was told has to be written down
 * (store_mailbox_take_recent()) before the view ends. Any thread.
 */
uint32_t store_work_view_claim(struct store_view *view, uint32_t from, uint32_t to);
/* The highest UID that a view of this mailbox has claimed; 0: none. Any thread. */
uint32_t store_work_claimed(struct store_work *work, unsigned slot, uint32_t mailbox);
/* Accepts NULL, sets NULL. */
void store_work_view_end(struct store_view **view);

/* A transfer of this blob goes on: it stays even when its last message goes. Counted. Any thread. */
void store_work_pin(struct store_work *work, unsigned slot, uint64_t blob);
void store_work_unpin(struct store_work *work, unsigned slot, uint64_t blob);

/* ---- figures ---- */

struct store_work_stat {
	uint64_t commits, jobs, jobs_failed, batches_repeated;
	uint64_t waiting; /* write jobs in the queues now */
	uint64_t views, watches, pins;
};
void store_work_stat(struct store_work *work, struct store_work_stat *stat_out);
