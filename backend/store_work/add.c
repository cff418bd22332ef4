/*
 * Adding a message. Stations of the job:
 *
 *	prepare (worker) -> final (writer) -> answer                        a message of up to STORE_DRAFT_PART
 *	prepare -> part (writer) -> prepare -> … -> final -> answer         a large one, in pieces
 *	any failure -> drop (writer), if pieces were written -> answer
 *
 * Each target of the final transaction fails alone, before anything of it is written.
 */
#include <stdlib.h>

#include "backend/store_work/inner.h"
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/spool.h"

enum station {
	STATION_PART,
	STATION_FINAL,
	STATION_DROP
};

struct add_job {
	struct store_job job;
	enum station station;
	struct arena arena; /* targets and what they point to */
	struct store_source source;
	struct store_draft *draft;
	struct store_work_target *targets;
	struct store_work_added *results;
	size_t count;
	int failure;
	void (*done)(void *arg, int err, const struct store_work_added *results, size_t count);
	void (*drop)(void *arg);
	void *arg;
};

static struct add_job *add_of(struct store_job *job)
{
	return container_of(job, struct add_job, job);
}

static void answer(struct store_job *job)
{
	struct add_job *a = add_of(job);

	if (!job->cancelled)
		a->done(a->arg, job->err, a->results, a->count);
	if (a->drop)
		a->drop(a->arg);
	store_draft_free(&a->draft);
	arena_deinit(&a->arena);
	free(a);
}

static void give_up(struct add_job *a, int err)
{
	a->failure = err;
	a->job.err = err;
	if (a->draft && store_draft_is_written(a->draft)) {
		a->station = STATION_DROP;
		job_write(&a->job);
	} else {
		job_answer(&a->job);
	}
}

void add_prepare(struct store_job *job, struct store_press *press)
{
	struct add_job *a = add_of(job);
	bool done = false;
	int err = job->cancelled ? ERR_CANCELLED : 0;

	if (!err && !a->draft)
		err = store_draft_new(&a->source, &a->draft);
	if (!err)
		err = store_draft_fill(a->draft, press, &done);
	if (err) {
		give_up(a, err);
		return;
	}
	a->station = done ? STATION_FINAL : STATION_PART;
	job_write(job);
}

/* ---- the final transaction ---- */

static int find_mailbox(struct store_txn *txn, const struct store_work_target *t, uint32_t *mailbox_out)
{
	struct store_mailbox m;
	int err;

	if (t->mailbox && !t->name.len) {
		*mailbox_out = t->mailbox;
		return 0;
	}
	err = store_mailbox_find(txn, t->account, t->mailbox ? t->name : SLICE_LIT("INBOX"), &m);
	if (!err && t->mailbox && t->mailbox != m.id)
		err = ERR_NOT_FOUND;
	if (!err)
		*mailbox_out = m.id;
	return err;
}

static int add_to(struct store_txn *txn, struct add_job *a, uint64_t blob, const struct store_work_target *t,
	struct store_work_added *r)
{
	struct store_append append = {.account = t->account,
		.blob = blob,
		.texts = store_draft_texts(a->draft),
		.trace = t->trace,
		.date = t->date,
		.save_date = clock_wall_s(),
		.flags = t->flags,
		.ignore_quota = t->ignore_quota};
	struct store_appended appended;
	int err = find_mailbox(txn, t, &append.mailbox);

	if (!err && t->keyword_count)
		err = store_mailbox_make_keywords(
			txn, t->account, append.mailbox, t->keywords, t->keyword_count, &append.keywords);
	if (!err)
		err = store_message_append(txn, &append, &appended);
	if (!err && t->mark)
		err = store_mark_add(txn, t->mark, append.save_date);
	if (err)
		return err;
	r->mailbox = append.mailbox;
	r->uid = appended.uid;
	r->uidvalidity = appended.uidvalidity;
	r->modseq = appended.modseq;
	return 0;
}

/* Which targets have the message already? */
static int meet_marks(struct store_txn *txn, struct add_job *a, size_t *left_out)
{
	*left_out = 0;
	for (size_t i = 0; i < a->count; i++) {
		bool has = false;
		int err = a->targets[i].mark ? store_mark_has(txn, a->targets[i].mark, &has) : 0;

		if (err)
			return err;
		a->results[i] = (struct store_work_added){.repeated = has};
		*left_out += !has;
	}
	return 0;
}

static int run_final(struct store_txn *txn, struct add_job *a)
{
	size_t left, stored = 0;
	uint64_t blob;
	int err = meet_marks(txn, a, &left);

	if (err || left == 0)
		return err ? err : store_draft_drop(txn, a->draft);
	err = store_draft_finish(txn, a->draft, &blob);
	for (size_t i = 0; i < a->count && !err; i++) {
		struct store_work_added *r = &a->results[i];
		uint64_t writes = store_txn_writes(txn);

		if (r->repeated)
			continue;
		r->error = add_to(txn, a, blob, &a->targets[i], r);
		stored += !r->error;
		/* Refused before it wrote anything: its own affair. Half done: everybody's. */
		if (r->error && store_txn_writes(txn) != writes && !a->targets[i].keyword_count)
			err = r->error;
		if (store_txn_error(txn))
			err = store_txn_error(txn);
	}
	if (!err && !stored)
		err = store_draft_drop(txn, a->draft);
	return err;
}

static int run(struct store_txn *txn, struct store_job *job)
{
	struct add_job *a = add_of(job);

	if (a->station != STATION_DROP && job->cancelled)
		return ERR_CANCELLED;
	switch (a->station) {
	case STATION_PART:
		return store_draft_write(txn, a->draft);
	case STATION_FINAL:
		FAULT("store-add");
		return run_final(txn, a);
	case STATION_DROP:
		return store_draft_drop(txn, a->draft);
	}
	return ERR_IO;
}

static void after(struct store_job *job, int err)
{
	struct add_job *a = add_of(job);

	switch (a->station) {
	case STATION_PART:
		if (err) {
			give_up(a, err);
			return;
		}
		store_draft_committed(a->draft);
		queue_add(&job->work->prepares, job);
		return;
	case STATION_FINAL:
		if (err) {
			give_up(a, err);
			return;
		}
		break;
	case STATION_DROP:
		if (err)
			log_warn("store",
				"pieces of a message that was given up stay until the next start: %s",
				error_text(err));
		job->err = a->failure;
		break;
	}
	job_answer(job);
}

/* ---- starting ---- */

static ssize_t read_spool(void *arg, uint64_t offset, void *out, size_t size)
{
	return spool_read(arg, offset, out, size);
}

static struct store_source make_source(const struct store_work_add *add)
{
	struct slice memory = add->spool ? spool_view(add->spool) : add->memory;

	if (add->spool && !memory.p)
		return (struct store_source){
			.read = read_spool, .arg = add->spool, .size = spool_len(add->spool)};
	return (struct store_source){.memory = memory};
}

static int copy_target(struct add_job *a, const struct store_work_target *from, struct store_work_target *to)
{
	struct slice *keywords = arena_calloc(&a->arena, from->keyword_count + 1, sizeof(*keywords));
	bool failed = !keywords;

	*to = *from;
	to->trace = arena_copy(&a->arena, from->trace);
	to->name = arena_copy(&a->arena, from->name);
	failed |= !to->trace.p || !to->name.p;
	for (size_t i = 0; i < from->keyword_count && !failed; i++) {
		keywords[i] = arena_copy(&a->arena, from->keywords[i]);
		failed |= !keywords[i].p;
	}
	to->keywords = keywords;
	if (from->mark && !failed) {
		struct slice mark = arena_copy(&a->arena, slice_of(from->mark, STORE_MARK_LEN));

		to->mark = (const uint8_t *)mark.p;
		failed |= !mark.p;
	}
	return failed ? ERR_NOT_NOW : 0;
}

struct store_job *store_work_add(struct store_work *work, const struct store_work_add *add)
{
	struct add_job *a = xcalloc(1, sizeof(*a));
	struct store_job *job = &a->job;
	int err = 0;

	job->work = work;
	job->slot = add->slot;
	job->loop = add->loop;
	job->run = run;
	job->after = after;
	job->answer = answer;
	a->done = add->done;
	a->drop = add->drop;
	a->arg = add->arg;
	a->source = make_source(add);
	arena_init(&a->arena, 0);
	a->count = add->target_count;
	a->targets = arena_calloc(&a->arena, a->count + 1, sizeof(*a->targets));
	a->results = arena_calloc(&a->arena, a->count + 1, sizeof(*a->results));
	err = a->targets && a->results ? 0 : ERR_NOT_NOW;
	for (size_t i = 0; i < a->count && !err; i++)
		err = copy_target(a, &add->targets[i], &a->targets[i]);
	if (!job_open(job) || queue_count(&work->prepares) >= work->options.queue_max)
		err = ERR_NOT_NOW;
	if (!err && add->slot >= work->slot_count)
		err = ERR_NOT_FOUND;
	if (err)
		give_up(a, err);
	else
		queue_add(&work->prepares, job);
	return job;
}
