/*
 * Adding a message. Stations of the job:
 *
 *	prepare (worker) -> final (writer) -> answer                        a message of up to STORE_DRAFT_PART
 *	prepare -> part (writer) -> prepare -> … -> final -> answer         a large one, in pieces; or many
 *	prepare -> (ahead.c: the first of many are not ready yet) -> …      as the last of them is
 *	any failure -> drop (writer), if pieces were written -> answer
 *
 * One message for all targets: each target of the final transaction fails alone, before anything of it is written. A message for
 * each (ranges): a part also finishes the blobs that are ready, which stay pending until the final transaction takes them all.
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
	struct arena arena;  /* targets and what they point to */
	struct spool *spool; /* NULL: memory */
	struct slice memory;
	struct store_work_range *ranges; /* NULL: one message for all targets */
	struct store_draft **drafts;     /* one, or one for each target */
	size_t draft_count;
	size_t filled;             /* drafts that are ready, or will be when `ahead` is */
	struct store_ahead *ahead; /* makes the first of them; NULL once they are here */
	uint32_t replaced_mailbox, replaced_uid;
	size_t parted; /* and of these, those whose blobs are on disk */
	struct store_work_target *targets;
	struct store_work_added *results;
	size_t count;
	int failure;
	void (*done)(void *arg, int err, const struct store_work_added *results, size_t count);
	void (*drop)(void *arg);
	int (*also)(struct store_txn *txn, void *arg);
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
	store_ahead_free(&a->ahead);
	for (size_t i = 0; i < a->draft_count; i++)
		store_draft_free(&a->drafts[i]);
	arena_deinit(&a->arena);
	free(a);
}

static bool has_written(const struct add_job *a)
{
	for (size_t i = 0; i < a->draft_count; i++) {
		if (a->drafts[i] && store_draft_is_written(a->drafts[i]))
			return true;
	}
	return false;
}

static int drop_drafts(struct store_txn *txn, struct add_job *a)
{
	int err = 0;

	for (size_t i = 0; i < a->draft_count && !err; i++) {
		if (a->drafts[i])
			err = store_draft_drop(txn, a->drafts[i]);
	}
	return err;
}

static void give_up(struct add_job *a, int err)
{
	a->failure = err;
	a->job.err = err;
	if (has_written(a)) {
		a->station = STATION_DROP;
		job_write(&a->job);
	} else {
		job_answer(&a->job);
	}
}

static ssize_t read_spool(void *arg, uint64_t offset, void *out, size_t size)
{
	return spool_read(arg, offset, out, size);
}

/* Where the bytes of draft i come from. */
static struct store_source source_of(const struct add_job *a, size_t i)
{
	struct slice memory = a->spool ? spool_view(a->spool) : a->memory;
	uint64_t size = a->spool ? spool_len(a->spool) : a->memory.len;
	struct store_work_range range = a->ranges ? a->ranges[i] : (struct store_work_range){0, size};

	if (a->spool && !memory.p)
		return (struct store_source){
			.read = read_spool, .arg = a->spool, .offset = range.offset, .size = range.size};
	return (struct store_source){.memory = slice_sub(memory, (size_t)range.offset, (size_t)range.size)};
}

/* Fills drafts until all are ready or STORE_DRAFT_PART bytes wait. */
static int fill(struct add_job *a, struct store_press *press)
{
	size_t waiting = ahead_bytes(a->ahead);

	for (size_t i = a->parted; i < a->filled; i++)
		waiting += a->drafts[i] ? store_draft_waiting(a->drafts[i]) : 0;
	while (a->filled < a->draft_count && waiting < STORE_DRAFT_PART) {
		struct store_draft **draft = &a->drafts[a->filled];
		struct store_source source = source_of(a, a->filled);
		bool done = false;
		int err = *draft ? 0 : store_draft_new(&source, draft);

		if (!err)
			err = store_draft_fill(*draft, press, &done);
		if (err)
			return err;
		waiting += store_draft_waiting(*draft);
		a->filled += done;
	}
	return 0;
}

static void prepared(struct add_job *a)
{
	int err = a->failure;

	if (!err && a->ahead)
		err = ahead_take(a->ahead, a->drafts);
	store_ahead_free(&a->ahead);
	if (err) {
		give_up(a, err);
		return;
	}
	for (size_t i = 0; i < a->filled; i++) {
		if (!a->drafts[i]) { /* ahead had no room for it: once more, with those behind it that are not ready */
			a->filled = i;
			queue_add(&a->job.work->prepares, &a->job);
			return;
		}
	}
	a->station = a->filled == a->draft_count ? STATION_FINAL : STATION_PART;
	job_write(&a->job);
}

void add_ahead_done(struct add_job *a)
{
	prepared(a);
}

/* A preparing thread's turn. */
static void prepare(struct store_job *job, struct store_press *press)
{
	struct add_job *a = add_of(job);

	a->failure = job->cancelled ? ERR_CANCELLED : fill(a, press);
	if (!a->ahead || a->failure || ahead_is_ready(a->ahead, a))
		prepared(a);
}

/* ---- a part ---- */

static int run_part(struct store_txn *txn, struct add_job *a)
{
	uint64_t blob;
	int err = 0;

	for (size_t i = a->parted; i < a->filled && !err; i++)
		err = store_draft_finish(txn, a->drafts[i], &blob);
	if (!err && a->filled < a->draft_count && a->drafts[a->filled])
		err = store_draft_write(txn, a->drafts[a->filled]);
	return err;
}

static void part_committed(struct add_job *a)
{
	for (; a->parted < a->filled; a->parted++)
		store_draft_committed(a->drafts[a->parted]);
	if (a->filled < a->draft_count && a->drafts[a->filled])
		store_draft_committed(a->drafts[a->filled]);
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

static int add_to(struct store_txn *txn, struct store_draft *draft, uint64_t blob,
	const struct store_work_target *t, struct store_work_added *r)
{
	struct store_append append = {.account = t->account,
		.blob = blob,
		.texts = store_draft_texts(draft),
		.trace = t->trace,
		.date = t->date,
		.save_date = clock_wall_s(),
		.flags = t->flags,
		.ignore_quota = t->ignore_quota,
		.email = t->email,
		.who = t->who.account ? &t->who : NULL};
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

static int add_queued(struct store_txn *txn, uint64_t blob, const struct store_work_target *t,
	struct add_queue_open *open, struct store_work_added *r)
{
	int err = add_queue_to(txn, blob, t, open);

	if (!err && t->mark)
		err = store_mark_add(txn, t->mark, clock_wall_s());
	r->queued = open->id;
	return err;
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

/* One message for all: each target by itself. */
static int run_shared(struct store_txn *txn, struct add_job *a)
{
	struct add_queue_open open = {0};
	size_t left, stored = 0;
	uint64_t blob;
	int err = meet_marks(txn, a, &left);

	if (!err && left == 0)
		err = drop_drafts(txn, a);
	if (err || left == 0)
		return !err && a->also ? a->also(txn, a->arg) : err;
	err = store_draft_finish(txn, a->drafts[0], &blob);
	for (size_t i = 0; i < a->count && !err; i++) {
		struct store_work_added *r = &a->results[i];
		uint64_t writes = store_txn_writes(txn);

		if (r->repeated)
			continue;
		if (a->targets[i].queue)
			r->error = add_queued(txn, blob, &a->targets[i], &open, r);
		else
			r->error = add_to(txn, a->drafts[0], blob, &a->targets[i], r);
		stored += !r->error;
		/* Refused before it wrote anything: its own affair. Half done: everybody's. */
		if (r->error && store_txn_writes(txn) != writes && !a->targets[i].keyword_count)
			err = r->error;
		if (store_txn_error(txn))
			err = store_txn_error(txn);
	}
	if (!err && !stored)
		err = drop_drafts(txn, a);
	return !err && a->also ? a->also(txn, a->arg) : err;
}

static int remove_replaced(struct store_txn *txn, struct add_job *a)
{
	uint64_t modseq;
	int err;

	if (!a->replaced_uid)
		return 0;
	err = store_message_expunge(
		txn, a->targets[0].account, a->replaced_mailbox, &a->replaced_uid, 1, true, NULL, &modseq);
	if (err == ERR_NOT_FOUND || (!err && !modseq))
		return ERR_CLOSED;
	return err;
}

/* A message for each: all or none. */
static int run_ranges(struct store_txn *txn, struct add_job *a)
{
	int err = remove_replaced(txn, a);

	for (size_t i = 0; i < a->count && !err; i++) {
		uint64_t blob;

		a->results[i] = (struct store_work_added){0};
		err = store_draft_finish(txn, a->drafts[i], &blob);
		if (!err)
			err = add_to(txn, a->drafts[i], blob, &a->targets[i], &a->results[i]);
	}
	return err;
}

static int run(struct store_txn *txn, struct store_job *job)
{
	struct add_job *a = add_of(job);

	if (a->station != STATION_DROP && job->cancelled)
		return ERR_CANCELLED;
	switch (a->station) {
	case STATION_PART:
		return run_part(txn, a);
	case STATION_FINAL:
		FAULT("store-add");
		return a->ranges ? run_ranges(txn, a) : run_shared(txn, a);
	case STATION_DROP:
		return drop_drafts(txn, a);
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
		part_committed(a);
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

/* Ranges and room for the drafts. */
static int copy_ranges(struct add_job *a, const struct store_work_add *add)
{
	size_t drafts = add->ranges ? a->count : 1;

	if (add->ranges && (a->count == 0 || a->count > STORE_WORK_RANGES_MAX))
		return ERR_TOO_BIG;
	a->drafts = arena_calloc(&a->arena, drafts, sizeof(struct store_draft *));
	if (add->ranges)
		a->ranges = arena_calloc(&a->arena, a->count, sizeof(*a->ranges));
	if (!a->drafts || (add->ranges && !a->ranges))
		return ERR_NOT_NOW;
	a->draft_count = drafts;
	require(a->filled <= drafts && (!a->filled || add->ranges));
	for (size_t i = 0; add->ranges && i < a->count; i++)
		a->ranges[i] = add->ranges[i];
	return 0;
}

struct store_job *store_work_add(struct store_work *work, const struct store_work_add *add)
{
	struct add_job *a = xcalloc(1, sizeof(*a));
	struct store_job *job = &a->job;
	int err = 0;

	job->work = work;
	job->slot = add->slot;
	job->loop = add->loop;
	job->prepare = prepare;
	job->run = run;
	job->after = after;
	job->answer = answer;
	a->done = add->done;
	a->drop = add->drop;
	a->also = add->also;
	a->arg = add->arg;
	a->spool = add->spool;
	a->memory = add->memory;
	a->replaced_mailbox = add->replaced_mailbox;
	a->replaced_uid = add->replaced_uid;
	a->ahead = add->ahead;
	a->filled = ahead_count(a->ahead);
	arena_init(&a->arena, 0);
	a->count = add->target_count;
	a->targets = arena_calloc(&a->arena, a->count + 1, sizeof(*a->targets));
	a->results = arena_calloc(&a->arena, a->count + 1, sizeof(*a->results));
	err = a->targets && a->results ? copy_ranges(a, add) : ERR_NOT_NOW;
	for (size_t i = 0; i < a->count && !err; i++) {
		err = copy_target(a, &add->targets[i], &a->targets[i]);
		if (!err && a->targets[i].queue &&
			!add_queue_copy(&a->arena, &add->targets[i], &a->targets[i],
				i ? &add->targets[i - 1] : NULL, i ? &a->targets[i - 1] : NULL))
			err = ERR_NOT_NOW;
	}
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
