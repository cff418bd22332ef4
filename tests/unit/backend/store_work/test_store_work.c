/* The bridge: group commit under many threads, one bad job among good ones, cancelling, notices, views, large
 * messages. */
#include "tests/unit/backend/store/temp_store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "backend/store/store_acl.h"
#include "backend/store_work/store_work.h"
#include "common/base/random.h"
#include "common/net/loop.h"
#include "common/net/spool.h"

struct fixture {
	struct temp_store t;
	struct store_work *work;
};

static void start(struct fixture *f)
{
	struct store_work_options o = {0};

	temp_start(&f->t);
	assert_int_equal(store_work_start(f->t.store, &o, &f->work), 0);
}

static void end(struct fixture *f)
{
	store_work_stop(&f->work);
	temp_end(&f->t);
}

/* Waits up to ten seconds until *n reaches want. */
static void wait_for(_Atomic int *n, int want)
{
	for (int i = 0; i < 10000 && *n < want; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(*n, want);
}

struct outcome {
	_Atomic int done, dropped;
	_Atomic int errors;
	int last;
	struct store_work_added added;
};

static void on_added(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct outcome *o = arg;

	if (err || results[0].error)
		o->errors++;
	o->last = err ? err : count ? results[0].error : 0;
	if (count)
		o->added = results[0];
	o->done++;
}

static void on_drop(void *arg)
{
	((struct outcome *)arg)->dropped++;
}

static void on_done(void *arg, int err)
{
	struct outcome *o = arg;

	o->last = err;
	if (err)
		o->errors++;
	o->done++;
}

static struct store_work_target to_inbox(struct fixture *f)
{
	return (struct store_work_target){
		.account = f->t.account, .date = 1700000000, .trace = SLICE_LIT("Return-Path: <>\r\n")};
}

struct sender {
	struct fixture *f;
	struct outcome *o;
	int count;
};

static void *send_many(void *arg)
{
	struct sender *s = arg;
	struct store_work_target target = to_inbox(s->f);

	for (int i = 0; i < s->count; i++) {
		struct store_work_add add = {.memory = SLICE_LIT("Subject: x\r\n\r\nbody\r\n"),
			.targets = &target,
			.target_count = 1,
			.done = on_added,
			.drop = on_drop,
			.arg = s->o};

		store_work_add(s->f->work, &add);
	}
	return NULL;
}

static void test_many_threads_share_commits(void **state)
{
	struct fixture f;
	struct outcome o = {0};
	pthread_t threads[4];
	struct sender s = {&f, &o, 100};
	struct store_work_stat stat;

	(void)state;
	start(&f);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_create(&threads[i], NULL, send_many, &s);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	wait_for(&o.dropped, 400);
	assert_int_equal(o.done, 400);
	assert_int_equal(o.errors, 0);
	store_work_stat(f.work, &stat);
	assert_int_equal(stat.jobs, 400);
	assert_true(stat.commits < 400);
	assert_int_equal(temp_mailbox(&f.t, f.t.inbox).messages, 400);
	end(&f);
}

static int write_and_fail(struct store_txn *txn, void *arg)
{
	uint32_t id;
	int err =
		store_mailbox_create(txn, *(uint32_t *)arg, SLICE_LIT("must not stay"), STORE_USE_NONE, &id);

	return err ? err : ERR_DENIED;
}

static int wait_a_little(struct store_txn *txn, void *arg)
{
	(void)txn;
	(void)arg;
	nanosleep(&(struct timespec){0, 100000000}, NULL);
	return 0;
}

struct bad {
	struct outcome o;
	uint32_t account;
};

static int fail_run(struct store_txn *txn, void *arg)
{
	return write_and_fail(txn, &((struct bad *)arg)->account);
}

static void test_one_bad_job_fails_alone(void **state)
{
	struct fixture f;
	struct outcome good = {0}, slow = {0};
	struct bad bad = {0};
	struct sender s = {&f, &good, 20};
	struct store_work_call hold = {.run = wait_a_little, .done = on_done, .arg = &slow};
	struct store_work_call call = {.run = fail_run, .done = on_done, .arg = &bad};
	struct store_work_stat stat;
	struct store_txn *txn;
	struct store_mailbox m;

	(void)state;
	start(&f);
	bad.account = f.t.account;
	/* While the writer is busy all the others gather in one batch. */
	store_work_write(f.work, 0, &hold);
	send_many(&s);
	store_work_write(f.work, 0, &call);
	wait_for(&good.dropped, 20);
	wait_for(&bad.o.done, 1);
	assert_int_equal(good.errors, 0);
	assert_int_equal(bad.o.last, ERR_DENIED);
	store_work_stat(f.work, &stat);
	assert_int_equal(stat.jobs_failed, 1);
	assert_int_equal(store_begin_read(f.t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, f.t.account, SLICE_LIT("must not stay"), &m), ERR_NOT_FOUND);
	store_end_read(&txn);
	assert_int_equal(temp_mailbox(&f.t, f.t.inbox).messages, 20);
	end(&f);
}

static void test_targets_fail_alone_and_marks_hold(void **state)
{
	struct fixture f;
	struct outcome o = {0};
	uint8_t mark[STORE_MARK_LEN] = {1};
	struct store_work_target target;
	struct store_work_add add = {.memory = SLICE_LIT("A: b\r\n\r\n"),
		.targets = &target,
		.target_count = 1,
		.done = on_added,
		.drop = on_drop,
		.arg = &o};
	struct store_txn *txn;

	(void)state;
	start(&f);
	target = to_inbox(&f);
	target.mark = mark;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 1);
	assert_int_equal(o.last, 0);
	assert_int_equal(o.added.uid, 1);
	assert_false(o.added.repeated);
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 2);
	assert_int_equal(o.last, 0);
	assert_true(o.added.repeated);
	target.mark = NULL;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 3);
	assert_int_equal(o.added.uid, 2);
	target.mailbox = 4711;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 4);
	assert_int_equal(o.last, ERR_NOT_FOUND);
	assert_int_equal(store_begin_write(f.t.store, 0, &txn), 0);
	assert_int_equal(store_account_set_limits(txn, f.t.account, 0, 2), 0);
	assert_int_equal(store_commit(&txn), 0);
	target.mailbox = 0;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 5);
	assert_int_equal(o.last, ERR_TOO_BIG);
	target.ignore_quota = true;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 6);
	assert_int_equal(o.last, 0);
	end(&f);
}

static void test_a_large_spool_goes_in_pieces(void **state)
{
	struct fixture f;
	struct outcome o = {0};
	struct spool *spool = spool_new(100000, 0);
	char *bytes = xmalloc(7000000), *got = xmalloc(7000000);
	struct store_work_target target;
	struct store_work_add add = {.spool = spool,
		.targets = &target,
		.target_count = 1,
		.done = on_added,
		.drop = on_drop,
		.arg = &o};
	struct store_message m;
	struct store_txn *txn;
	size_t len;

	(void)state;
	start(&f);
	target = to_inbox(&f);
	random_bytes(bytes, 7000000);
	assert_int_equal(spool_add(spool, slice_of(bytes, 7000000)), 0);
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 1);
	assert_int_equal(o.last, 0);
	assert_int_equal(store_begin_read(f.t.store, 0, &txn), 0);
	assert_int_equal(store_message_get(txn, f.t.inbox, 1, &m), 0);
	assert_int_equal(store_message_read(txn, &m, m.trace.len, got, 7000000, &len), 0);
	assert_int_equal(len, 7000000);
	assert_memory_equal(got, bytes, len);
	store_end_read(&txn);
	/* Refused in the end: nothing of it may stay. */
	target.mailbox = 4711;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 2);
	assert_int_equal(o.last, ERR_NOT_FOUND);
	spool_free(&spool);
	free(bytes);
	free(got);
	end(&f);
}

static void random_mail(char *out, size_t len, unsigned n)
{
	random_bytes(out, len);
	memcpy(out, "A: \r\n\r\n", 7);
	out[2] = (char)('0' + n);
}

/* Messages of one spool: all are stored, in pieces, or none, wherever it fails. */
static void test_ranges_are_stored_together_or_not_at_all(void **state)
{
	enum {
		COUNT = 8,
		SIZE = 900000
	};
	struct fixture f;
	struct outcome o = {0};
	struct spool *spool = spool_new(100000, 0);
	char *bytes = xmalloc(COUNT * SIZE), *got = xmalloc(SIZE);
	struct store_work_target targets[COUNT];
	struct store_work_range ranges[COUNT];
	struct store_work_add add = {.spool = spool,
		.targets = targets,
		.ranges = ranges,
		.target_count = COUNT,
		.done = on_added,
		.drop = on_drop,
		.arg = &o};
	struct store_message m;
	struct store_stat stat;
	struct store_txn *txn;
	size_t len;

	(void)state;
	start(&f);
	for (unsigned i = 0; i < COUNT; i++) {
		targets[i] = to_inbox(&f);
		ranges[i] = (struct store_work_range){(uint64_t)i * SIZE, SIZE};
		random_mail(bytes + (size_t)i * SIZE, SIZE, i);
	}
	assert_int_equal(spool_add(spool, slice_of(bytes, COUNT * SIZE)), 0);
	targets[COUNT - 1].mailbox = 4711;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 1);
	assert_int_equal(store_stat(f.t.store, &stat), 0);
	assert_int_equal(stat.messages, 0);
	targets[COUNT - 1].mailbox = targets[0].mailbox;
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 2);
	assert_int_equal(o.last, 0);
	assert_int_equal(store_begin_read(f.t.store, 0, &txn), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(store_message_get(txn, f.t.inbox, i + 1, &m), 0);
		assert_int_equal(store_message_read(txn, &m, m.trace.len, got, SIZE, &len), 0);
		assert_int_equal(len, SIZE);
		assert_memory_equal(got, bytes + (size_t)i * SIZE, len);
	}
	store_end_read(&txn);
	add.target_count = STORE_WORK_RANGES_MAX + 1;
	add.targets = xcalloc(add.target_count, sizeof(*add.targets));
	store_work_add(f.work, &add);
	wait_for(&o.dropped, 3);
	free((void *)(uintptr_t)add.targets);
	spool_free(&spool);
	free(bytes);
	free(got);
	end(&f);
}

static int step_run(struct store_txn *txn, void *arg)
{
	struct outcome *o = arg;

	(void)txn;
	return ++o->last < 5 ? STORE_WORK_AGAIN : 0;
}

static void step_done(void *arg, int err)
{
	struct outcome *o = arg;

	o->errors += err != 0;
	o->done++;
}

static void test_work_goes_in_steps(void **state)
{
	struct fixture f;
	struct outcome o = {0};
	struct store_work_call call = {.run = step_run, .done = step_done, .drop = on_drop, .arg = &o};

	(void)state;
	start(&f);
	store_work_write(f.work, 0, &call);
	wait_for(&o.dropped, 1);
	assert_int_equal(o.last, 5);
	assert_int_equal(o.errors, 0);
	end(&f);
}

/* ---- with a loop ---- */

struct looped {
	struct fixture f;
	struct loop *loop;
	struct outcome o;
	struct store_job *job;
	struct store_watch *watch;
	_Atomic int heard;
	uint64_t modseq;
};

static void *loop_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void cancel_it(void *arg)
{
	struct looped *l = arg;

	store_work_cancel(&l->job);
	l->o.last++;
}

static void start_and_cancel(void *arg)
{
	struct looped *l = arg;
	struct store_work_target target = to_inbox(&l->f);
	struct store_work_add add = {.memory = SLICE_LIT("A: b\r\n\r\n"),
		.targets = &target,
		.target_count = 1,
		.done = on_added,
		.drop = on_drop,
		.arg = &l->o,
		.loop = l->loop};

	l->job = store_work_add(l->f.work, &add);
	cancel_it(l);
}

static void on_change(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	struct looped *l = arg;

	assert_int_equal(account, l->f.t.account);
	assert_int_equal(mailbox, l->f.t.inbox);
	l->modseq = modseq;
	l->heard++;
}

static void watch_it(void *arg)
{
	struct looped *l = arg;

	l->watch = store_work_watch(l->f.work, 0, l->f.t.account, l->f.t.inbox, l->loop, on_change, l);
	l->o.done = 1;
}

static void unwatch_it(void *arg)
{
	struct looped *l = arg;

	store_work_unwatch(&l->watch);
	l->o.done = 2;
}

static void loop_start(struct looped *l, pthread_t *thread)
{
	memset(l, 0, sizeof(*l));
	start(&l->f);
	assert_int_equal(loop_new(&l->loop), 0);
	pthread_create(thread, NULL, loop_main, l->loop);
}

static void loop_end(struct looped *l, pthread_t thread)
{
	store_work_stop(&l->f.work);
	loop_stop(l->loop);
	pthread_join(thread, NULL);
	loop_free(&l->loop);
	temp_end(&l->f.t);
}

static void test_a_cancelled_job_drops_and_does_not_answer(void **state)
{
	struct looped l;
	pthread_t thread;

	(void)state;
	loop_start(&l, &thread);
	for (int i = 1; i <= 20; i++) {
		loop_post(l.loop, start_and_cancel, &l);
		wait_for(&l.o.dropped, i);
	}
	assert_int_equal(l.o.done, 0);
	loop_end(&l, thread);
}

static void test_watchers_hear_of_commits(void **state)
{
	struct looped l;
	pthread_t thread;
	struct outcome o = {0};
	struct sender s = {&l.f, &o, 1};

	(void)state;
	loop_start(&l, &thread);
	loop_post(l.loop, watch_it, &l);
	wait_for(&l.o.done, 1);
	send_many(&s);
	wait_for(&l.heard, 1);
	assert_int_equal(l.modseq, temp_mailbox(&l.f.t, l.f.t.inbox).modseq);
	loop_post(l.loop, unwatch_it, &l);
	wait_for(&l.o.done, 2);
	send_many(&s);
	wait_for(&o.dropped, 2);
	assert_int_equal(l.heard, 1);
	loop_end(&l, thread);
}

static int expunge_all(struct store_txn *txn, void *arg)
{
	struct fixture *f = arg;
	uint32_t uid = 1;
	uint64_t modseq;

	return store_message_expunge(txn, f->t.account, f->t.inbox, &uid, 1, true, NULL, &modseq);
}

static void ignore(void *arg, int err)
{
	(void)arg;
	assert_int_equal(err, 0);
}

static uint64_t expunged_left(struct fixture *f)
{
	struct store_stat s;

	assert_int_equal(store_stat(f->t.store, &s), 0);
	return s.expunged + s.orphans;
}

static void test_views_hold_the_reaper_back(void **state)
{
	struct fixture f;
	struct outcome o = {0};
	struct sender s = {&f, &o, 1};
	struct store_work_call call = {.run = expunge_all, .done = ignore, .arg = &f};
	struct store_view *view;

	(void)state;
	start(&f);
	send_many(&s);
	wait_for(&o.dropped, 1);
	view = store_work_view(f.work, 0, f.t.inbox, temp_mailbox(&f.t, f.t.inbox).modseq);
	store_work_write(f.work, 0, &call);
	nanosleep(&(struct timespec){0, 700000000}, NULL);
	assert_int_equal(expunged_left(&f), 1);
	store_work_view_end(&view);
	for (int i = 0; i < 5000 && expunged_left(&f); i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(expunged_left(&f), 0);
	end(&f);
}

/* ---- the watchdog ---- */

struct long_read {
	_Atomic int began, may_end;
};

static int read_long(struct store_txn *txn, void *arg)
{
	struct long_read *l = arg;

	(void)txn;
	l->began++;
	wait_for(&l->may_end, 1);
	return 0;
}

static void end_long(void *arg, int err)
{
	assert_int_equal(err, 0);
	((struct long_read *)arg)->began++;
}

static void test_the_oldest_reader_is_named_with_what_it_holds(void **state)
{
	struct fixture f;
	struct long_read l = {0};
	struct store_work_call call = {.run = read_long, .done = end_long, .arg = &l, .name = "LONG"};
	struct store_reader reader;
	struct store_stat stat;
	int written = 0;

	(void)state;
	start(&f);
	assert_int_equal(store_oldest_reader(f.t.store, 0, true, &reader), 0);
	assert_int_equal(reader.age_ms + reader.held_bytes, 0);
	(void)store_work_read(f.work, 0, &call);
	wait_for(&l.began, 1);
	for (; written < 5; written++)
		temp_add(&f.t, f.t.inbox, "A: b\r\n\r\n");
	nanosleep(&(struct timespec){0, 20000000}, NULL);
	assert_int_equal(store_oldest_reader(f.t.store, 0, true, &reader), 0);
	assert_string_equal(reader.name, "LONG");
	assert_true(reader.age_ms >= 20);
	assert_int_equal(reader.commits, 5);
	assert_true(reader.held_bytes >= 5 * 4096);
	assert_int_equal(store_stat(f.t.store, &stat), 0);
	assert_string_equal(stat.oldest.name, "LONG");
	l.may_end = 1;
	wait_for(&l.began, 2);
	end(&f);
}

static int remove_account(struct store_txn *txn, void *arg)
{
	return store_account_remove(txn, *(uint32_t *)arg);
}

static size_t gone_left(struct fixture *f)
{
	uint32_t accounts[8];
	struct store_txn *txn;
	size_t count = 0;

	assert_int_equal(store_begin_read(f->t.store, 0, &txn), 0);
	assert_int_equal(store_acl_gone(txn, accounts, ARRAY_LEN(accounts), &count), 0);
	store_end_read(&txn);
	return count;
}

/* More mailboxes than one step looks at, in which others have seen something. */
static void test_forgetting_comes_to_an_end(void **state)
{
	enum {
		BOXES = 700
	};
	struct store_flag_change seen = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX};
	struct store_who other = {0, 4711}, guest = {0, 0};
	struct store_work_call call = {.run = remove_account, .done = ignore, .arg = &guest.account};
	struct store_txn *txn;
	struct fixture f;
	uint32_t last = 0, uid;
	uint64_t modseq;

	(void)state;
	start(&f);
	guest.account = temp_account(&f.t, "guest@example.com");
	uid = temp_add(&f.t, f.t.inbox, "Subject: x\r\n\r\nbody\r\n");
	assert_int_equal(store_begin_write(f.t.store, 0, &txn), 0);
	for (int i = 0; i < BOXES; i++) {
		char name[16];
		uint32_t one = 1;

		snprintf(name, sizeof(name), "box%d", i);
		assert_int_equal(
			store_mailbox_create(txn, f.t.account, slice_str(name), STORE_USE_NONE, &last), 0);
		assert_int_equal(
			store_message_copy(txn, f.t.account, f.t.inbox, &uid, 1, last, false, NULL), 0);
		seen.who = &other;
		assert_int_equal(
			store_message_flag(txn, f.t.account, last, &one, 1, &seen, NULL, &modseq), 0);
		seen.who = &guest;
		assert_int_equal(
			store_message_flag(txn, f.t.account, last, &one, 1, &seen, NULL, &modseq), 0);
	}
	assert_int_equal(store_commit(&txn), 0);
	(void)store_work_write(f.work, 0, &call);
	for (int i = 0; i < 10000 && gone_left(&f) == 0; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(gone_left(&f), 1);
	store_work_forget(f.work, 0, guest.account);
	for (int i = 0; i < 10000 && gone_left(&f); i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(gone_left(&f), 0);
	assert_int_equal(store_begin_read(f.t.store, 0, &txn), 0);
	assert_int_equal(store_seen_modseq(txn, last, guest, &modseq), 0);
	assert_int_equal(modseq, 0);
	assert_int_equal(store_seen_modseq(txn, last, other, &modseq), 0);
	assert_true(modseq > 0);
	store_end_read(&txn);
	end(&f);
}

/* ---- one job on two readers ---- */

#define PARTS 64

struct shared {
	struct store_work *work;
	_Atomic int ran[PARTS];
	_Atomic int others, held, done; /* parts of other threads; readers that are held */
	_Atomic bool is_open;
	bool waits; /* the owner's first part ends when a helper has done one */
	pthread_t owner;
};

static void shared_part(struct store_txn *txn, void *arg, size_t part)
{
	struct shared *s = arg;

	assert_non_null(txn);
	s->ran[part]++;
	if (!pthread_equal(pthread_self(), s->owner))
		s->others++;
	else if (s->waits && part == 0)
		for (int i = 0; i < 10000 && s->others == 0; i++)
			nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static int shared_run(struct store_txn *txn, void *arg)
{
	struct shared *s = arg;

	s->owner = pthread_self();
	store_work_share(s->work, txn, PARTS, shared_part, s);
	for (size_t i = 0; i < PARTS; i++)
		assert_int_equal(s->ran[i], 1);
	return 0;
}

static int held_run(struct store_txn *txn, void *arg)
{
	struct shared *s = arg;

	(void)txn;
	s->held++;
	for (int i = 0; i < 10000 && !s->is_open; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	return 0;
}

static void shared_done(void *arg, int err)
{
	assert_int_equal(err, 0);
	((struct shared *)arg)->done++;
}

static void test_an_idle_reader_helps_with_a_job(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	for (int i = 0; i < 300; i++) {
		struct shared s = {.work = f.work, .waits = i == 0};
		struct store_work_call call = {.run = shared_run, .done = shared_done, .arg = &s};

		store_work_read(f.work, 0, &call);
		wait_for(&s.done, 1);
		assert_true(s.others > 0 || i > 0);
	}
	end(&f);
}

static void test_a_busy_reader_is_not_asked_for_help(void **state)
{
	struct fixture f;
	struct shared s = {0};
	struct store_work_call hold = {.run = held_run, .done = shared_done, .arg = &s};
	struct store_work_call call = {.run = shared_run, .done = shared_done, .arg = &s};

	(void)state;
	start(&f);
	s.work = f.work;
	store_work_read(f.work, 0, &hold);
	wait_for(&s.held, 1);
	store_work_read(f.work, 0, &call);
	wait_for(&s.done, 1);
	assert_int_equal(s.others, 0);
	s.is_open = true;
	wait_for(&s.done, 2);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_threads_share_commits),
		cmocka_unit_test(test_one_bad_job_fails_alone),
		cmocka_unit_test(test_targets_fail_alone_and_marks_hold),
		cmocka_unit_test(test_a_large_spool_goes_in_pieces),
		cmocka_unit_test(test_ranges_are_stored_together_or_not_at_all),
		cmocka_unit_test(test_work_goes_in_steps),
		cmocka_unit_test(test_a_cancelled_job_drops_and_does_not_answer),
		cmocka_unit_test(test_an_idle_reader_helps_with_a_job),
		cmocka_unit_test(test_a_busy_reader_is_not_asked_for_help),
		cmocka_unit_test(test_watchers_hear_of_commits),
		cmocka_unit_test(test_views_hold_the_reaper_back),
		cmocka_unit_test(test_the_oldest_reader_is_named_with_what_it_holds),
		cmocka_unit_test(test_forgetting_comes_to_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
