/*
 * The writer of a slot. It takes all waiting jobs into one transaction and answers them after its commit;
 * while it waits for the disk the next batch gathers.
 *
 *	plain    all jobs one after the other in the transaction itself
 *	careful  a job failed after it had written: the batch begins again, each job in a child transaction
 *	alone    the batch did not fit on the disk: each job in a transaction of its own
 *
 * So a good batch needs no nested transactions; docs/decisions/group-commit.md says why.
 */
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define REAP_STEP 300
#define REAP_DELAY_MS 300
#define REAP_RETRY_MS 5000
#define EXPIRE_EVERY_MS 600000
#define IDLE_MS 1000
/* A batch is gathered for this part of the last commit's time at most, and no longer than so. */
#define GATHER_PART 4
#define GATHER_US_MOST 500

/* ---- one batch ---- */

static int run_job(struct store_txn *txn, void *arg)
{
	struct store_job *job = arg;

	return job->run(txn, job);
}

/* Plain: false when a job failed half-way, and all must begin again. */
static bool run_plain(struct store_txn *txn, struct store_job *chain)
{
	for (struct store_job *j = chain; j; j = j->next) {
		uint64_t writes = store_txn_writes(txn);

		j->step = run_job(txn, j);
		if (store_txn_error(txn) || (j->step < 0 && store_txn_writes(txn) != writes))
			return false;
	}
	return true;
}

static void run_careful(struct store_txn *txn, struct store_job *chain)
{
	for (struct store_job *j = chain; j; j = j->next)
		j->step = store_txn_try(txn, run_job, j);
}

/* Sets err of all: of the commit for those that succeeded, their own for the others. */
static void set_results(struct store_job *chain, int commit_err)
{
	for (struct store_job *j = chain; j; j = j->next)
		j->err = j->step < 0 ? j->step : commit_err;
}

struct notes {
	struct store_note *list;
	size_t count;
};

static struct notes copy_notes(struct store_txn *txn)
{
	struct notes n;
	const struct store_note *list = store_txn_notes(txn, &n.count);

	n.list = xcalloc(n.count + 1, sizeof(*n.list));
	if (n.count)
		memcpy(n.list, list, n.count * sizeof(*list));
	return n;
}

static size_t count_jobs(const struct store_job *chain)
{
	size_t n = 0;

	for (; chain; chain = chain->next)
		n++;
	return n;
}

/*
 * Whom the last commit answered comes back soon, if he has more to write; who came meanwhile waits already. Beginning with these alone, the
 * two would take turns for ever, each with half a batch. So the writer waits for both, but no longer than a part of what a commit costs.
 */
static void gather(struct writer *w, struct store_job *chain)
{
	size_t n = count_jobs(chain), most = w->work->options.batch_max;
	uint64_t wait = w->commit_us / GATHER_PART, now = clock_mono_us(), until;
	struct store_job *last = chain;
	bool closed = false;

	until = now + (wait < GATHER_US_MOST ? wait : GATHER_US_MOST);
	while (n < w->crowd && n < most && now < until && !closed) {
		while (last->next)
			last = last->next;
		last->next = queue_take_many(&w->queue, most - n, until - now, &closed);
		n += count_jobs(last->next);
		now = clock_mono_us();
	}
}

/* Commits what was run; a transaction without writes needs no disk. */
static int finish(struct writer *w, struct store_txn **txn)
{
	struct notes notes;
	bool waste = store_txn_has_waste(*txn);
	uint64_t began = clock_mono_us();
	int err;

	if (store_txn_writes(*txn) == 0) {
		store_abort(txn);
		return 0;
	}
	notes = copy_notes(*txn);
	err = store_commit(txn);
	if (!err) {
		FAULT("store-before-answer");
		w->work->commits++;
		metric_add(w->work->m_commits, 1);
		w->commit_us = clock_mono_us() - began;
		histogram_observe_us(w->work->m_commit_time, w->commit_us);
		if (waste && !w->waste) {
			/* A reader may be about to register its view of what was just expunged. */
			w->reap_at_ms = clock_mono_ms() + REAP_DELAY_MS;
			w->waste = true;
		}
		watches_tell(w->work->watches, w->slot, notes.list, notes.count);
	}
	free(notes.list);
	return err;
}

static void fail_all(struct store_job *chain, int err)
{
	for (struct store_job *j = chain; j; j = j->next)
		j->step = err;
	set_results(chain, err);
}

static int run_batch(struct writer *w, struct store_job *chain, bool careful)
{
	struct store_txn *txn;
	int err = store_begin_write(w->work->store, w->slot, &txn);

	if (err) {
		fail_all(chain, err);
		return 0;
	}
	if (careful) {
		run_careful(txn, chain);
	} else if (!run_plain(txn, chain)) {
		bool is_single = !chain->next;

		if (is_single && chain->step >= 0)
			chain->step = store_txn_error(txn);
		store_abort(&txn);
		if (is_single) {
			set_results(chain, 0);
			return 0;
		}
		w->work->batches_repeated++;
		return run_batch(w, chain, true);
	}
	err = finish(w, &txn);
	if (err == ERR_FULL && chain->next)
		return err;
	set_results(chain, err);
	return 0;
}

static void run_alone(struct writer *w, struct store_job *chain)
{
	w->work->batches_repeated++;
	for (struct store_job *j = chain, *next; j; j = next) {
		next = j->next;
		j->next = NULL;
		if (run_batch(w, j, false))
			j->err = ERR_FULL;
		j->next = next;
	}
}

/* Posts the finished ones of a batch together; those that go on are queued again by their `after`. */
static void after_batch(struct writer *w, struct store_job *chain)
{
	struct store_job *finished = NULL, **end = &finished;

	for (struct store_job *j = chain, *next; j; j = next) {
		next = j->next;
		j->next = NULL;
		w->work->jobs++;
		metric_add(w->work->m_jobs, 1);
		if (j->err) {
			w->work->jobs_failed++;
			metric_add(w->work->m_failed, 1);
		}
		if (j->after) {
			j->after(j, j->err);
		} else if (!j->err && j->step == STORE_WORK_AGAIN) {
			job_write(j);
		} else {
			*end = j;
			end = &j->next;
		}
	}
	job_answer(finished);
}

/* Cancelled jobs leave before they begin; add jobs (with `after`) look after themselves. */
static void serve(struct writer *w, struct store_job *chain)
{
	struct store_job *cancelled = NULL, **end = &cancelled, *kept = NULL, **kept_end = &kept;

	for (struct store_job *j = chain, *next; j; j = next) {
		next = j->next;
		j->next = NULL;
		if (j->cancelled && !j->after) {
			*end = j;
			end = &j->next;
		} else {
			*kept_end = j;
			kept_end = &j->next;
		}
	}
	job_answer(cancelled);
	if (!kept)
		return;
	if (run_batch(w, kept, false))
		run_alone(w, kept);
	w->crowd = count_jobs(kept) + queue_count(&w->queue);
	after_batch(w, kept);
}

/* ---- the reaper ---- */

static uint64_t oldest_view(void *arg, uint32_t mailbox)
{
	struct writer *w = arg;

	return holds_oldest(w->work->holds, w->slot, mailbox);
}

static bool is_pinned(void *arg, uint64_t blob)
{
	struct writer *w = arg;

	return holds_is_pinned(w->work->holds, w->slot, blob);
}

static int reap_step(struct writer *w, bool expire, bool *done_out)
{
	struct store_holds holds = {oldest_view, is_pinned, w};
	struct store_txn *txn;
	size_t expired = 0;
	int err = store_begin_write(w->work->store, w->slot, &txn);

	if (err)
		return err;
	err = store_reap(txn, &holds, w->reap_rows, done_out);
	if (!err && expire)
		err = store_mark_expire(txn, clock_wall_s() - (int64_t)w->work->options.mark_lifetime_s,
			w->reap_rows, &expired);
	if (err) {
		store_abort(&txn);
		return err;
	}
	*done_out = *done_out && expired < w->reap_rows;
	return finish(w, &txn);
}

/* What the retention lets go; one step an account or some hundred rows. */
static int expire_kept(struct writer *w, uint64_t now)
{
	struct store_holds holds = {oldest_view, is_pinned, w};
	struct store_txn *txn;
	int err;

	if (now < w->kept_at_ms)
		return 0;
	err = store_begin_write(w->work->store, w->slot, &txn);
	if (err)
		return err;
	err = store_kept_expire(txn, &holds, clock_wall_s(), REAP_STEP, &w->kept);
	if (err) {
		store_abort(&txn);
		return err;
	}
	if (w->kept.account == 0) {
		w->kept_at_ms = now + w->work->options.kept_every_ms;
		w->kept_messages = w->kept.sum.messages;
		w->kept_bytes = w->kept.sum.bytes;
	}
	return finish(w, &txn);
}

/* The watchdog: a reader that is too old keeps pages from being used again, and the file grows. */
static void watch_readers(struct writer *w)
{
	uint64_t now = clock_mono_ms(), limit = w->work->options.reader_warn_ms;
	struct store_reader oldest;

	if (now < w->watch_at_ms)
		return;
	w->watch_at_ms = now + (limit < 1000 ? limit : 1000);
	if (store_oldest_reader(w->work->store, w->slot, false, &oldest) || oldest.age_ms < limit) {
		w->held_bytes = 0;
		return;
	}
	if (w->warned_at_ms && now - w->warned_at_ms < limit * 2)
		return;
	if (store_oldest_reader(w->work->store, w->slot, true, &oldest) || oldest.age_ms < limit)
		return;
	w->warned_at_ms = now;
	w->held_bytes = oldest.held_bytes;
	log_warn("store", "a read goes on for long job=%s slot=%u age_ms=%llu commits=%llu held_bytes=%llu",
		oldest.name[0] ? oldest.name : "?", w->slot, (unsigned long long)oldest.age_ms,
		(unsigned long long)oldest.commits, (unsigned long long)oldest.held_bytes);
}

static void reap(struct writer *w)
{
	uint64_t now = clock_mono_ms();
	bool expire = now >= w->expire_at_ms, done = false;
	int err = expire_kept(w, now);

	if (err) {
		log_warn("store", "retention of slot %u: %s", w->slot, error_text(err));
		w->kept_at_ms = now + REAP_RETRY_MS;
	}
	if ((!w->waste && !expire) || now < w->reap_at_ms)
		return;
	/* Taken back below if there is more: a view that moves meanwhile sets it again. */
	w->waste = false;
	err = reap_step(w, expire, &done);
	if ((err == ERR_FULL || err == ERR_IO) && w->reap_rows > 1) {
		/* Removing needs new pages too, before it gives some back: the fewer rows, the fewer. */
		w->reap_rows /= 2;
		w->waste = true;
		return;
	}
	if (err) {
		log_warn("store", "reaper of slot %u: %s", w->slot, error_text(err));
		w->reap_at_ms = now + REAP_RETRY_MS;
		w->waste = true;
		return;
	}
	if (w->reap_rows < REAP_STEP)
		w->reap_rows++;
	if (!done) {
		w->reap_at_ms = now; /* its own leftovers need no delay */
		w->waste = true;
		return;
	}
	if (expire)
		w->expire_at_ms = now + EXPIRE_EVERY_MS;
	w->reap_at_ms = now + REAP_DELAY_MS;
}

void *writer_main(void *arg)
{
	struct writer *w = arg;
	bool closed = false;

	w->waste = true;
	w->reap_rows = REAP_STEP;
	w->reap_at_ms = clock_mono_ms() + REAP_DELAY_MS;
	while (!closed) {
		uint64_t wait = w->waste || w->kept.account ? 20 : IDLE_MS;
		struct store_job *chain =
			queue_take_many(&w->queue, w->work->options.batch_max, wait * 1000, &closed);

		if (chain) {
			gather(w, chain);
			serve(w, chain);
		}
		if (!closed) {
			reap(w);
			watch_readers(w);
		}
	}
	return NULL;
}
