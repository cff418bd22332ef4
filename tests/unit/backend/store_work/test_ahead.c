/* Messages prepared ahead: theirs are the octets that are stored, all or none; given up at any moment; limits. */
#include "tests/unit/backend/store/temp_store.h"

#include <stdatomic.h>
#include <time.h>

#include "backend/store_work/store_work.h"

enum {
	COUNT = 60,
	AHEAD = 45, /* of them */
	PIECE = 15,
	SIZE = 3000
};

struct fixture {
	struct temp_store t;
	struct store_work *work;
	char *bytes; /* of all messages */
	struct store_work_target targets[COUNT];
	struct store_work_range ranges[COUNT];
	struct store_work_add add;
	_Atomic int done, dropped;
	int last;
};

static void on_added(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct fixture *f = arg;

	f->last = err ? err : count ? results[0].error : 0;
	f->done++;
}

static void on_drop(void *arg)
{
	((struct fixture *)arg)->dropped++;
}

static void fill(char *message, unsigned i)
{
	int n = snprintf(message, SIZE, "Subject: message %u\r\n\r\n", i);

	memset(message + n, 'a' + (int)(i % 26), (size_t)(SIZE - n));
}

static void start(struct fixture *f)
{
	struct store_work_options o = {0};

	*f = (struct fixture){.bytes = xmalloc((size_t)COUNT * SIZE)};
	temp_start(&f->t);
	assert_int_equal(store_work_start(f->t.store, &o, &f->work), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		fill(f->bytes + (size_t)i * SIZE, i);
		f->targets[i] = (struct store_work_target){.account = f->t.account, .date = 1700000000};
		f->ranges[i] = (struct store_work_range){(uint64_t)i * SIZE, SIZE};
	}
	f->add = (struct store_work_add){.memory = slice_of(f->bytes, (size_t)COUNT * SIZE),
		.targets = f->targets,
		.ranges = f->ranges,
		.target_count = COUNT,
		.done = on_added,
		.drop = on_drop,
		.arg = f};
}

static void end(struct fixture *f)
{
	store_work_stop(&f->work);
	temp_end(&f->t);
	free(f->bytes);
}

static void wait_for(_Atomic int *n, int want)
{
	for (int i = 0; i < 10000 && *n < want; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(*n, want);
}

/* Gives the first `count`, in pieces. */
static void give(struct fixture *f, struct store_ahead **ahead, unsigned count)
{
	for (unsigned i = 0; i < count; i += PIECE) {
		char *copy = xmalloc((size_t)PIECE * SIZE);

		memcpy(copy, f->bytes + (size_t)i * SIZE, (size_t)PIECE * SIZE);
		assert_true(store_work_ahead(
			f->work, ahead, slice_of(copy, (size_t)PIECE * SIZE), f->ranges, PIECE));
		memset(copy, '!', (size_t)PIECE * SIZE); /* it is theirs no more */
		free(copy);
	}
}

static uint64_t stored(struct fixture *f)
{
	return temp_mailbox(&f->t, f->t.inbox).messages;
}

static void test_what_is_stored_was_given(void **state)
{
	struct fixture f;
	struct store_message m;
	struct store_txn *txn;
	char *got = xmalloc(SIZE), *want = xmalloc(SIZE);
	size_t len;

	(void)state;
	start(&f);
	give(&f, &f.add.ahead, AHEAD);
	/* The add needs these no more: that they come from ahead is seen. */
	memset(f.bytes, '?', (size_t)AHEAD * SIZE);
	store_work_add(f.work, &f.add);
	wait_for(&f.dropped, 1);
	assert_int_equal(f.last, 0);
	assert_int_equal(stored(&f), COUNT);
	assert_int_equal(store_begin_read(f.t.store, 0, &txn), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		fill(want, i);
		assert_int_equal(store_message_get(txn, f.t.inbox, i + 1, &m), 0);
		assert_int_equal(store_message_read(txn, &m, 0, got, SIZE, &len), 0);
		assert_int_equal(len, SIZE);
		assert_memory_equal(got, want, SIZE);
	}
	store_end_read(&txn);
	free(got);
	free(want);
	end(&f);
}

static void test_all_were_given(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	give(&f, &f.add.ahead, COUNT);
	store_work_add(f.work, &f.add);
	wait_for(&f.dropped, 1);
	assert_int_equal(f.last, 0);
	assert_int_equal(stored(&f), COUNT);
	end(&f);
}

/* Messages that become far more than they are: some are not kept, and made again from the add's own octets. */
static void test_what_is_held_is_bounded(void **state)
{
	static const char head[] = "Content-Type: multipart/mixed; boundary=a\r\n\r\n";
	struct fixture f;
	struct store_message m;
	struct store_txn *txn;
	char *got = xmalloc(SIZE);
	size_t len;

	(void)state;
	start(&f);
	for (unsigned i = 0; i < COUNT; i++) {
		char *message = f.bytes + (size_t)i * SIZE;

		memcpy(message, head, sizeof(head) - 1);
		for (size_t at = sizeof(head) - 1; at < SIZE; at++)
			message[at] = "--a\n\n"[(at - sizeof(head) + 1) % 5];
	}
	give(&f, &f.add.ahead, AHEAD);
	store_work_add(f.work, &f.add);
	wait_for(&f.dropped, 1);
	assert_int_equal(f.last, 0);
	assert_int_equal(stored(&f), COUNT);
	assert_int_equal(store_begin_read(f.t.store, 0, &txn), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(store_message_get(txn, f.t.inbox, i + 1, &m), 0);
		assert_int_equal(store_message_read(txn, &m, 0, got, SIZE, &len), 0);
		assert_memory_equal(got, f.bytes + (size_t)i * SIZE, SIZE);
	}
	store_end_read(&txn);
	free(got);
	end(&f);
}

static void test_all_or_none(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	give(&f, &f.add.ahead, AHEAD);
	f.targets[COUNT - 1].mailbox = 4711;
	store_work_add(f.work, &f.add);
	wait_for(&f.dropped, 1);
	assert_int_not_equal(f.last, 0);
	assert_int_equal(stored(&f), 0);
	/* Again, as a session does that finds the mailbox anew: nothing is ahead any more. */
	f.targets[COUNT - 1].mailbox = 0;
	f.add.ahead = NULL;
	store_work_add(f.work, &f.add);
	wait_for(&f.dropped, 2);
	assert_int_equal(f.last, 0);
	assert_int_equal(stored(&f), COUNT);
	end(&f);
}

/* The client goes before, while and after it is prepared; or the add is refused meanwhile. */
static void test_given_up_at_any_moment(void **state)
{
	enum {
		ROUNDS = 60
	};
	struct fixture f;
	int adds = 0;

	(void)state;
	start(&f);
	for (int i = 0; i < ROUNDS; i++) {
		struct store_ahead *ahead = NULL;

		give(&f, &ahead, AHEAD);
		nanosleep(&(struct timespec){0, i % 10 * 100000}, NULL);
		if (i % 3 == 0) {
			store_ahead_free(&ahead);
			assert_null(ahead);
		} else {
			f.add.ahead = ahead;
			/* No slot 9: refused with what was given still under way. */
			f.add.slot = i % 3 == 1 ? 9 : 0;
			store_work_add(f.work, &f.add);
			adds++;
			wait_for(&f.dropped, adds);
		}
	}
	assert_int_equal(stored(&f), ROUNDS / 3 * COUNT);
	end(&f);
}

static void test_limits(void **state)
{
	struct fixture f;
	struct store_ahead *ahead = NULL, *other = NULL;
	struct store_work_range range = {0, SIZE};
	char *large = xcalloc(1, STORE_AHEAD_BYTES + 1);

	(void)state;
	start(&f);
	assert_false(store_work_ahead(f.work, &other, slice_of(large, STORE_AHEAD_BYTES + 1), &range, 1));
	assert_null(other);
	assert_true(store_work_ahead(f.work, &other, slice_of(large, STORE_AHEAD_BYTES), &range, 1));
	assert_false(store_work_ahead(f.work, &other, slice_of(large, 1), &range, 1));
	for (int i = 0; i < STORE_AHEAD_MESSAGES; i++) {
		range = (struct store_work_range){0, 10};
		assert_true(store_work_ahead(f.work, &ahead, slice_of(large, 10), &range, 1));
	}
	assert_false(store_work_ahead(f.work, &ahead, slice_of(large, 10), &range, 1));
	store_ahead_free(&ahead);
	store_ahead_free(&ahead);
	/* Stopping waits for what is under way, and takes nothing new. */
	store_work_halt(f.work);
	assert_false(store_work_ahead(f.work, &ahead, slice_of(large, 10), &range, 1));
	assert_null(ahead);
	store_ahead_free(&other);
	free(large);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_stored_was_given),
		cmocka_unit_test(test_all_were_given),
		cmocka_unit_test(test_what_is_held_is_bounded),
		cmocka_unit_test(test_all_or_none),
		cmocka_unit_test(test_given_up_at_any_moment),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
