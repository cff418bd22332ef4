/*
 * Starting and stopping, jobs and their answers, readers. Stopping waits until every job has been answered,
 * then ends the threads: queues are empty by then, whatever station a job had still before it.
 */
#include "backend/store_work/store_work.h"

#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/loop.h"

#define READERS_DEFAULT 2
#define PREPARERS_DEFAULT 2
#define BATCH_DEFAULT 200
#define MARK_LIFETIME_DEFAULT (5 * 86400)
#define QUEUE_DEFAULT 20000
#define KEPT_EVERY_MS 60000
#define READER_WARN_MS 5000

/* ---- jobs ---- */

bool job_open(struct store_job *job)
{
	struct store_work *w = job->work;
	bool is_open;

	pthread_mutex_lock(&w->lock);
	is_open = !w->is_stopping;
	w->open_jobs++;
	pthread_mutex_unlock(&w->lock);
	return is_open;
}

static void answer_chain(void *arg)
{
	for (struct store_job *j = arg, *next; j; j = next) {
		next = j->next;
		j->answer(j);
	}
}

void job_answer(struct store_job *chain)
{
	struct store_work *w = chain ? chain->work : NULL;
	size_t count = 0;

	while (chain) {
		struct loop *loop = chain->loop;
		struct store_job *mine = NULL, **end = &mine, *others = NULL, **others_end = &others;

		for (struct store_job *j = chain, *next; j; j = next) {
			next = j->next;
			j->next = NULL;
			if (j->loop == loop) {
				*end = j;
				end = &j->next;
				count++;
			} else {
				*others_end = j;
				others_end = &j->next;
			}
		}
		if (loop)
			loop_post(loop, answer_chain, mine);
		else
			answer_chain(mine);
		chain = others;
	}
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->open_jobs -= count;
	if (w->open_jobs == 0)
		pthread_cond_broadcast(&w->calm);
	pthread_mutex_unlock(&w->lock);
}

void job_write(struct store_job *job)
{
	queue_add(&job->work->writers[job->slot].queue, job);
}

static int run_call(struct store_txn *txn, struct store_job *job)
{
	return job->call.run(txn, job->call.arg);
}

static void answer_call(struct store_job *job)
{
	struct store_work_call call = job->call;
	bool cancelled = job->cancelled;
	int err = job->err;

	free(job);
	if (!cancelled)
		call.done(call.arg, err);
	if (call.drop)
		call.drop(call.arg);
}

static struct store_job *new_call(struct store_work *work, unsigned slot, const struct store_work_call *call)
{
	struct store_job *job = xcalloc(1, sizeof(*job));

	job->work = work;
	job->slot = slot;
	job->loop = call->loop;
	job->run = run_call;
	job->answer = answer_call;
	job->call = *call;
	return job;
}

static void refuse(struct store_job *job, int err)
{
	job->err = err;
	job_answer(job);
}

struct store_job *store_work_write(struct store_work *work, unsigned slot, const struct store_work_call *call)
{
	struct store_job *job = new_call(work, slot, call);

	if (!job_open(job))
		refuse(job, ERR_NOT_NOW);
	else if (slot >= work->slot_count)
		refuse(job, ERR_NOT_FOUND);
	else if (queue_count(&work->writers[slot].queue) >= work->options.queue_max)
		refuse(job, ERR_NOT_NOW);
	else
		job_write(job);
	return job;
}

struct store_job *store_work_read(struct store_work *work, unsigned slot, const struct store_work_call *call)
{
	struct store_job *job = new_call(work, slot, call);

	if (!job_open(job))
		refuse(job, ERR_NOT_NOW);
	else if (slot >= work->slot_count)
		refuse(job, ERR_NOT_FOUND);
	else
		queue_add(&work->reads, job);
	return job;
}

void store_work_cancel(struct store_job **job)
{
	if (*job)
		(*job)->cancelled = true;
	*job = NULL;
}

/* ---- threads ---- */

static void *reader_main(void *arg)
{
	struct store_work *work = arg;
	struct store_job *job;

	while ((job = queue_take(&work->reads))) {
		struct store_txn *txn;

		work->busy_readers++;
		job->err = job->cancelled ? ERR_CANCELLED : store_begin_read(work->store, job->slot, &txn);
		if (!job->err) {
			store_txn_set_name(txn, job->call.name ? job->call.name : "");
			job->err = job->run(txn, job);
			store_end_read(&txn);
		}
		work->busy_readers--;
		job_answer(job);
	}
	return NULL;
}

static void *preparer_main(void *arg)
{
	struct store_work *work = arg;
	struct store_press *press = store_press_new();
	struct store_job *job;

	while ((job = queue_take(&work->prepares)))
		job->prepare(job, press);
	store_press_free(&press);
	return NULL;
}

static void set_options(struct store_work *w, const struct store_work_options *options)
{
	struct store_work_options *o = &w->options;

	*o = *options;
	o->reader_threads = o->reader_threads ? o->reader_threads : READERS_DEFAULT;
	o->prepare_threads = o->prepare_threads ? o->prepare_threads : PREPARERS_DEFAULT;
	o->batch_max = o->batch_max ? o->batch_max : BATCH_DEFAULT;
	o->mark_lifetime_s = o->mark_lifetime_s ? o->mark_lifetime_s : MARK_LIFETIME_DEFAULT;
	o->reader_warn_ms = o->reader_warn_ms ? o->reader_warn_ms : READER_WARN_MS;
	o->kept_every_ms = o->kept_every_ms ? o->kept_every_ms : KEPT_EVERY_MS;
	o->queue_max = o->queue_max ? o->queue_max : QUEUE_DEFAULT;
}

static void make_metrics(struct store_work *w)
{
	w->m_commits = metrics_counter("mailtier_store_commits", NULL, "Write transactions on disk.");
	w->m_jobs = metrics_counter("mailtier_store_jobs", NULL, "Write jobs finished.");
	w->m_failed = metrics_counter("mailtier_store_jobs_failed", NULL, "Write jobs that failed.");
	w->m_waiting =
		metrics_gauge("mailtier_store_jobs_waiting", NULL, "Write jobs that wait for a writer.");
	w->m_readers = metrics_gauge("mailtier_store_readers", NULL, "Read transactions open now.");
	w->m_oldest = metrics_gauge("mailtier_store_oldest_reader_commits", NULL,
		"Commits since the oldest read transaction began: it holds their pages.");
	w->m_views =
		metrics_gauge("mailtier_store_views", NULL, "Views of mailboxes that hold the reaper back.");
	w->m_watches = metrics_gauge("mailtier_store_watches", NULL, "Sessions that wait for changes.");
	w->m_oldest_age = metrics_gauge(
		"mailtier_store_oldest_reader_milliseconds", NULL, "Age of the oldest read transaction.");
	w->m_oldest_held = metrics_gauge("mailtier_store_oldest_reader_held_bytes", NULL,
		"Bytes of pages that old read transactions keep from being used again; looked at when one is "
		"old.");
	w->m_kept = metrics_gauge("mailtier_store_kept_messages", NULL,
		"Deleted messages that can be brought back, as of the last minute.");
	w->m_kept_bytes =
		metrics_gauge("mailtier_store_kept_bytes", NULL, "Their bytes, as clients saw them.");
	w->m_commit_time = metrics_histogram("mailtier_store_commit_seconds", NULL, "Time of a commit.");
}

/* Right before the metrics are shown. */
static void collect(void *arg)
{
	struct store_work *w = arg;
	struct store_work_stat s;
	uint64_t readers, oldest, kept = 0, kept_bytes = 0, age = 0, held = 0;

	store_work_stat(w, &s);
	store_readers(w->store, &readers, &oldest);
	for (unsigned i = 0; i < w->slot_count; i++) {
		struct store_reader reader;

		if (store_oldest_reader(w->store, i, false, &reader) == 0 && reader.age_ms > age)
			age = reader.age_ms;
		held += w->writers[i].held_bytes;
		kept += w->writers[i].kept_messages;
		kept_bytes += w->writers[i].kept_bytes;
	}
	metric_set(w->m_oldest_age, (int64_t)age);
	metric_set(w->m_oldest_held, (int64_t)held);
	metric_set(w->m_kept, (int64_t)kept);
	metric_set(w->m_kept_bytes, (int64_t)kept_bytes);
	metric_set(w->m_waiting, (int64_t)s.waiting);
	metric_set(w->m_readers, (int64_t)readers);
	metric_set(w->m_oldest, (int64_t)oldest);
	metric_set(w->m_views, (int64_t)s.views);
	metric_set(w->m_watches, (int64_t)s.watches);
}

static int start_threads(struct store_work *w)
{
	unsigned wanted = w->options.reader_threads + w->options.prepare_threads;

	w->threads = xcalloc(wanted, sizeof(*w->threads));
	for (unsigned i = 0; i < w->slot_count; i++) {
		w->writers[i].work = w;
		w->writers[i].slot = i;
		queue_init(&w->writers[i].queue);
	}
	for (unsigned i = 0; i < w->slot_count; i++)
		if (pthread_create(&w->writers[i].thread, NULL, writer_main, &w->writers[i]))
			return ERR_NOT_NOW;
	for (; w->thread_count < wanted; w->thread_count++)
		if (pthread_create(&w->threads[w->thread_count], NULL,
			    w->thread_count < w->options.reader_threads ? reader_main : preparer_main, w))
			return ERR_NOT_NOW;
	return 0;
}

int store_work_start(
	struct store *store, const struct store_work_options *options, struct store_work **work_out)
{
	struct store_work *w = xcalloc(1, sizeof(*w));
	int err;

	w->store = store;
	set_options(w, options);
	w->slot_count = store_slots(store);
	w->writers = xcalloc(w->slot_count, sizeof(*w->writers));
	queue_init(&w->reads);
	queue_init(&w->prepares);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->calm, NULL);
	w->holds = holds_new();
	w->watches = watches_new();
	make_metrics(w);
	err = start_threads(w);
	if (err) {
		log_error("store", "cannot start the store's threads");
		store_work_stop(&w);
		return err;
	}
	metrics_on_collect(collect, w);
	forget_resume(w);
	*work_out = w;
	return 0;
}

void store_work_halt(struct store_work *w)
{
	if (w->is_halted)
		return;
	w->is_halted = true;
	metrics_off_collect(collect, w);
	pthread_mutex_lock(&w->lock);
	w->is_stopping = true;
	while (w->open_jobs > 0)
		pthread_cond_wait(&w->calm, &w->lock);
	pthread_mutex_unlock(&w->lock);
	queue_close(&w->reads);
	queue_close(&w->prepares);
	for (unsigned i = 0; i < w->thread_count; i++)
		pthread_join(w->threads[i], NULL);
	for (unsigned i = 0; i < w->slot_count; i++)
		queue_close(&w->writers[i].queue);
	for (unsigned i = 0; i < w->slot_count; i++) {
		if (w->writers[i].thread)
			pthread_join(w->writers[i].thread, NULL);
	}
}

void store_work_stop(struct store_work **work)
{
	struct store_work *w = *work;

	if (!w)
		return;
	store_work_halt(w);
	for (unsigned i = 0; i < w->slot_count; i++)
		queue_deinit(&w->writers[i].queue);
	queue_deinit(&w->reads);
	queue_deinit(&w->prepares);
	holds_free(&w->holds);
	watches_free(&w->watches);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->calm);
	free(w->threads);
	free(w->writers);
	free(w);
	*work = NULL;
}

struct store *store_work_store(struct store_work *work)
{
	return work->store;
}

void store_work_stat(struct store_work *w, struct store_work_stat *stat_out)
{
	struct store_work_stat s = {
		.commits = w->commits,
		.jobs = w->jobs,
		.jobs_failed = w->jobs_failed,
		.batches_repeated = w->batches_repeated,
		.watches = watches_count(w->watches),
	};

	for (unsigned i = 0; i < w->slot_count; i++)
		s.waiting += queue_count(&w->writers[i].queue);
	holds_count(w->holds, &s.views, &s.pins);
	*stat_out = s;
}
