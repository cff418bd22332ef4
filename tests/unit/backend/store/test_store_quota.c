/* Quota roots and limits of folders: refused where they must be, never adrift; and whom to warn, once. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/store/record.h"
#include "backend/store/store_quota.h"
#include "common/base/clock.h"

#define TRACE 30 /* what temp_append() puts before each */

static struct store_txn *begin(struct temp_store *t)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	return txn;
}

static uint32_t create(struct temp_store *t, const char *name)
{
	struct store_txn *txn = begin(t);
	uint32_t id;

	assert_int_equal(store_mailbox_create(txn, t->account, slice_str(name), STORE_USE_NONE, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
	return id;
}

static void set(struct temp_store *t, uint32_t mailbox, struct store_quota limits)
{
	struct store_txn *txn = begin(t);

	assert_int_equal(store_quota_set(txn, t->account, mailbox, &limits), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static int add(struct temp_store *t, uint32_t mailbox, size_t size)
{
	struct store_appended a;
	char *text = malloc(size);
	int err;

	memset(text, 'x', size);
	err = temp_append(t, t->account, mailbox, slice_of(text, size), 0, &a);
	free(text);
	return err;
}

static struct store_quota get(struct temp_store *t, uint32_t mailbox)
{
	struct store_quota q = {0};
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_quota_get(txn, t->account, mailbox, &q), 0);
	store_end_read(&txn);
	return q;
}

static void expect(struct temp_store *t, uint32_t mailbox, uint64_t bytes, uint64_t count)
{
	struct store_quota q = get(t, mailbox);

	assert_int_equal(q.bytes_used, bytes);
	assert_int_equal(q.count_used, count);
}

static int move(struct temp_store *t, uint32_t from, uint32_t uid, uint32_t to, bool is_move)
{
	struct store_txn *txn = begin(t);
	int err = store_message_copy(txn, t->account, from, &uid, 1, to, is_move, NULL);

	if (err)
		store_abort(&txn);
	else
		assert_int_equal(store_commit(&txn), 0);
	return err;
}

static int rename_to(struct temp_store *t, uint32_t mailbox, const char *name)
{
	struct store_txn *txn = begin(t);
	int err = store_mailbox_rename(txn, t->account, mailbox, slice_str(name));

	if (err)
		store_abort(&txn);
	else
		assert_int_equal(store_commit(&txn), 0);
	return err;
}

static void no_drift(struct temp_store *t)
{
	struct store_txn *txn;
	uint64_t drift;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_quota_verify(txn, t->account, false, NULL, NULL, &drift), 0);
	store_end_read(&txn);
	assert_int_equal(drift, 0);
	temp_check(t);
}

static void test_a_root_counts_all_below_it(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	uint32_t p, pc, px, other, uid = 1;

	(void)state;
	temp_start(&t);
	pc = create(&t, "p/c");
	p = temp_find(&t, t.account, "p");
	px = create(&t, "px");
	other = create(&t, "other");
	assert_int_equal(add(&t, pc, 70), 0);
	/* What is there already is counted in; "px" is not below "p". */
	set(&t, p, (struct store_quota){.bytes_limit = 1000, .count_limit = 5});
	expect(&t, p, 100, 1);
	assert_int_equal(add(&t, p, 70), 0);
	assert_int_equal(add(&t, px, 70), 0);
	assert_int_equal(add(&t, other, 170), 0);
	expect(&t, p, 200, 2);
	/* Octets, to the last one. */
	assert_int_equal(add(&t, pc, 771), ERR_TOO_BIG);
	assert_int_equal(add(&t, pc, 770), 0);
	assert_int_equal(add(&t, p, 1), ERR_TOO_BIG);
	assert_int_equal(move(&t, other, uid, p, false), ERR_TOO_BIG);
	assert_int_equal(move(&t, other, uid, p, true), ERR_TOO_BIG);
	/* Within the root nothing grows; out of it, it shrinks. */
	assert_int_equal(move(&t, pc, 2, p, true), 0);
	expect(&t, p, 1000, 3);
	no_drift(&t);
	assert_int_equal(move(&t, p, 2, other, true), 0);
	expect(&t, p, 200, 2);
	txn = begin(&t);
	assert_int_equal(store_message_expunge(txn, t.account, pc, &uid, 1, true, NULL, &(uint64_t){0}), 0);
	assert_int_equal(store_commit(&txn), 0);
	expect(&t, p, 100, 1);
	/* Messages. */
	for (int i = 0; i < 4; i++)
		assert_int_equal(add(&t, i % 2 ? p : pc, 1), 0);
	assert_int_equal(add(&t, p, 1), ERR_TOO_BIG);
	no_drift(&t);
	temp_end(&t);
}

static void test_renames_and_deletions_keep_roots_right(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	uint32_t p, a, big, fresh;

	(void)state;
	temp_start(&t);
	p = create(&t, "p");
	a = create(&t, "p/a");
	big = create(&t, "big");
	set(&t, p, (struct store_quota){.bytes_limit = 1000});
	assert_int_equal(add(&t, a, 70), 0);
	assert_int_equal(add(&t, big, 1170), 0);
	/* A mailbox that is too large does not get in by another name. */
	assert_int_equal(rename_to(&t, big, "p/big"), ERR_TOO_BIG);
	expect(&t, p, 100, 1);
	assert_int_equal(rename_to(&t, a, "a"), 0);
	expect(&t, p, 0, 0);
	assert_int_equal(rename_to(&t, a, "p/x/a"), 0);
	expect(&t, p, 100, 1);
	/* The root goes along with its folder. */
	assert_int_equal(rename_to(&t, p, "q"), 0);
	expect(&t, p, 100, 1);
	no_drift(&t);
	/* INBOX keeps its own. */
	set(&t, t.inbox, (struct store_quota){.count_limit = 3});
	assert_int_equal(add(&t, t.inbox, 70), 0);
	assert_int_equal(rename_to(&t, t.inbox, "old"), 0);
	fresh = temp_find(&t, t.account, "INBOX");
	expect(&t, fresh, 0, 0);
	no_drift(&t);
	/* A name that stays has the limits still; with the last child all goes. */
	assert_int_equal(add(&t, p, 70), 0);
	txn = begin(&t);
	assert_int_equal(store_mailbox_delete(txn, t.account, p), 0);
	assert_int_equal(store_commit(&txn), 0);
	p = temp_find(&t, t.account, "q");
	expect(&t, p, 100, 1);
	no_drift(&t);
	txn = begin(&t);
	assert_int_equal(store_mailbox_delete(txn, t.account, a), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, temp_find(&t, t.account, "q/x")), 0);
	assert_int_equal(store_quota_get(txn, t.account, p, &(struct store_quota){0}), ERR_NOT_FOUND);
	assert_int_equal(store_account_remove(txn, t.account), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	temp_end(&t);
}

static void test_limits_of_one_folder(void **state)
{
	struct temp_store t;
	uint32_t a, ab;

	(void)state;
	temp_start(&t);
	a = create(&t, "a");
	ab = create(&t, "a/b");
	set(&t, a, (struct store_quota){.folder_bytes_limit = 300, .folder_count_limit = 2});
	assert_int_equal(add(&t, ab, 1000), 0);
	assert_int_equal(add(&t, a, 271), ERR_TOO_BIG);
	assert_int_equal(add(&t, a, 70), 0);
	assert_int_equal(add(&t, a, 70), 0);
	assert_int_equal(add(&t, a, 1), ERR_TOO_BIG);
	assert_int_equal(move(&t, ab, 1, a, true), ERR_TOO_BIG);
	assert_int_equal(move(&t, a, 1, ab, true), 0);
	assert_int_equal(add(&t, a, 1), 0);
	no_drift(&t);
	temp_end(&t);
}

static int create_err(struct temp_store *t, const char *name)
{
	struct store_txn *txn = begin(t);
	uint32_t id;
	int err = store_mailbox_create(txn, t->account, slice_str(name), STORE_USE_NONE, &id);

	store_abort(&txn);
	return err;
}

static void test_numbers_of_mailboxes(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	uint32_t p, n;

	(void)state;
	temp_start(&t);
	p = create(&t, "p");
	set(&t, p, (struct store_quota){.mailboxes_limit = 3});
	(void)create(&t, "p/a");
	assert_int_equal(create_err(&t, "p/b/c"), ERR_TOO_BIG);
	(void)create(&t, "p/b");
	assert_int_equal(create_err(&t, "p/c"), ERR_TOO_BIG);
	(void)create(&t, "pc");
	/* Six by default, and these four. */
	set(&t, 0, (struct store_quota){.mailboxes_limit = 10});
	assert_int_equal(create_err(&t, "q"), ERR_TOO_BIG);
	set(&t, 0, (struct store_quota){.mailboxes_limit = 11});
	assert_int_equal(create_err(&t, "q"), 0);
	assert_int_equal(create_err(&t, "q/r"), ERR_TOO_BIG);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_quota_count_mailboxes(txn, t.account, SLICE_LIT("p"), &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(store_quota_count_mailboxes(txn, t.account, SLICE_LIT(""), &n), 0);
	assert_int_equal(n, 10);
	store_end_read(&txn);
	temp_end(&t);
}

static void test_promises_know_what_inbox_can_take(void **state)
{
	struct temp_store t;

	(void)state;
	temp_start(&t);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 1000000), 0);
	store_quota_release(t.store, 0, t.account, 1000000);
	set(&t, t.inbox, (struct store_quota){.folder_bytes_limit = 500, .count_limit = 3});
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 501), ERR_TOO_BIG);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 300), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 201), ERR_TOO_BIG);
	store_quota_release(t.store, 0, t.account, 300);
	for (int i = 0; i < 3; i++)
		assert_int_equal(add(&t, t.inbox, 1), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 1), ERR_TOO_BIG);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 0), ERR_TOO_BIG);
	set(&t, t.inbox, (struct store_quota){.folder_count_limit = 4});
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 1), 0);
	store_quota_release(t.store, 0, t.account, 1);
	assert_int_equal(add(&t, t.inbox, 1), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 1), ERR_TOO_BIG);
	/* The same after a restart. */
	store_close(&t.store);
	temp_open(&t, 256 << 20);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 1), ERR_TOO_BIG);
	set(&t, t.inbox, (struct store_quota){0});
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 1000000), 0);
	store_quota_release(t.store, 0, t.account, 1000000);
	temp_end(&t);
}

static void count_drift(void *arg, const struct store_quota_drift *d)
{
	buf_printf(arg, "%s%u %lld %lld;", d->mailbox ? d->is_root ? "root" : "box" : "account",
		d->mailbox ? 1 : 0, (long long)(d->bytes_stored - d->bytes_counted),
		(long long)(d->count_stored - d->count_counted));
}

static void test_the_verifier_finds_and_mends(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct mailbox_state m;
	struct account_state s;
	struct buf got = {0};
	uint64_t drift;
	uint32_t p;

	(void)state;
	temp_start(&t);
	p = create(&t, "p");
	set(&t, p, (struct store_quota){.bytes_limit = 1000});
	assert_int_equal(add(&t, p, 70), 0);
	txn = begin(&t);
	assert_int_equal(state_get_mailbox(txn, t.account, p, &m), 0);
	m.size += 5;
	m.messages += 1;
	assert_int_equal(state_put_mailbox(txn, t.account, p, &m), 0);
	assert_int_equal(state_get_account(txn, t.account, &s), 0);
	s.bytes += 7;
	assert_int_equal(state_put_account(txn, t.account, &s), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_quota_verify(txn, t.account, false, count_drift, &got, &drift), 0);
	store_end_read(&txn);
	assert_int_equal(drift, 2);
	assert_string_equal(buf_str_view(&got), "box1 5 1;account0 7 0;");
	buf_deinit(&got);
	txn = begin(&t);
	assert_int_equal(store_quota_verify(txn, t.account, true, NULL, NULL, &drift), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(drift, 2);
	expect(&t, p, 100, 1);
	no_drift(&t);
	temp_end(&t);
}

static void on_warn(void *arg, unsigned slot, uint32_t account, uint32_t mailbox)
{
	(void)slot;
	(void)account;
	if (!mailbox)
		++*(int *)arg;
}

static unsigned warn_of(struct temp_store *t, uint32_t mailbox, int64_t now)
{
	static const unsigned thresholds[] = {50, 80, 95};
	struct store_txn *txn = begin(t);
	unsigned threshold;

	assert_int_equal(store_quota_warn(txn, t->account, mailbox, thresholds, 3, 100, now, &threshold), 0);
	assert_int_equal(store_commit(&txn), 0);
	return threshold;
}

static unsigned warn(struct temp_store *t, int64_t now)
{
	return warn_of(t, 0, now);
}

static void test_warnings_come_once_an_interval(void **state)
{
	static const unsigned thresholds[] = {50, 80, 95};
	struct temp_store t;
	struct store_txn *txn;
	int calls = 0;

	(void)state;
	temp_start(&t);
	txn = begin(&t);
	assert_int_equal(store_account_set_limits(txn, t.account, 1000, 0), 0);
	assert_int_equal(store_commit(&txn), 0);
	store_quota_watch(t.store, thresholds, 3, 100, on_warn, &calls);
	assert_int_equal(add(&t, t.inbox, 370), 0); /* 40 % */
	assert_int_equal(calls, 0);
	assert_int_equal(warn(&t, 1000), 0);
	assert_int_equal(add(&t, t.inbox, 70), 0); /* 50 % */
	assert_int_equal(calls, 1);
	assert_int_equal(warn(&t, 1000), 50);
	assert_int_equal(warn(&t, 1099), 0);
	assert_int_equal(add(&t, t.inbox, 10), 0);
	assert_int_equal(calls, 1);
	/* Beyond two thresholds at once: one warning, of the higher. */
	assert_int_equal(add(&t, t.inbox, 400), 0); /* 97 % */
	assert_int_equal(calls, 2);
	assert_int_equal(warn(&t, 1050), 95);
	assert_int_equal(warn(&t, 1051), 0);
	/* Another program, the same store: nothing is said twice. */
	store_close(&t.store);
	temp_open(&t, 256 << 20);
	assert_int_equal(warn(&t, 1149), 0);
	assert_int_equal(warn(&t, 1150), 95);
	/* Down and up again within the interval: nothing; after it: again. */
	txn = begin(&t);
	assert_int_equal(store_message_expunge(txn, t.account, t.inbox, (uint32_t[]){1, 2, 3, 4}, 4, true,
				 NULL, &(uint64_t){0}),
		0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(warn(&t, 1160), 0);
	assert_int_equal(add(&t, t.inbox, 500), 0);
	assert_int_equal(warn(&t, 1161), 0);
	assert_int_equal(warn(&t, 1260), 50);
	temp_end(&t);
}

struct heard {
	unsigned count;
	uint32_t mailbox;
};

static void on_root(void *arg, unsigned slot, uint32_t account, uint32_t mailbox)
{
	struct heard *h = arg;

	(void)slot;
	(void)account;
	h->count += mailbox != 0;
	h->mailbox = mailbox;
}

/* A message is 30 octets more than its text. */
static void test_folders_are_warned_of(void **state)
{
	static const unsigned thresholds[] = {50, 80, 95};
	struct temp_store t;
	struct store_txn *txn;
	struct store_quota_use use;
	struct heard h = {0};
	int64_t now = clock_wall_s();
	uint32_t p, pc, one;

	(void)state;
	temp_start(&t);
	pc = create(&t, "p/c");
	p = temp_find(&t, t.account, "p");
	one = create(&t, "one");
	set(&t, p, (struct store_quota){.bytes_limit = 1000});
	set(&t, one, (struct store_quota){.folder_count_limit = 2});
	store_quota_watch(t.store, thresholds, 3, 100, on_root, &h);
	assert_int_equal(add(&t, pc, 370), 0); /* 40 % of what is below p */
	assert_int_equal(add(&t, t.inbox, 900), 0);
	assert_int_equal(h.count, 0);
	assert_int_equal(add(&t, pc, 70), 0); /* 50 % */
	assert_true(h.count == 1 && h.mailbox == p);
	/* Until it counts as told; then no more. */
	assert_int_equal(add(&t, p, 1), 0);
	assert_int_equal(h.count, 2);
	assert_int_equal(warn_of(&t, p, now), 50);
	assert_int_equal(warn_of(&t, p, now), 0);
	assert_int_equal(add(&t, p, 1), 0);
	assert_int_equal(h.count, 2);
	assert_int_equal(add(&t, pc, 240), 0); /* 83 % */
	assert_int_equal(h.count, 3);
	assert_int_equal(warn_of(&t, p, now), 80);
	/* What becomes less is nothing to tell of. */
	assert_int_equal(move(&t, pc, 1, t.inbox, true), 0);
	assert_int_equal(h.count, 3);
	/* Of one folder alone. */
	assert_int_equal(add(&t, one, 1), 0);
	assert_true(h.count == 4 && h.mailbox == one);
	assert_int_equal(warn_of(&t, one, now), 50);
	txn = begin(&t);
	assert_int_equal(store_quota_use(txn, t.account, one, &use), 0);
	assert_true(use.count_used == 1 && use.count_limit == 2 && store_quota_percent(&use) == 50);
	assert_int_equal(store_quota_use(txn, t.account, pc, &use), ERR_NOT_FOUND);
	store_abort(&txn);
	/* What was told goes with the limits. */
	set(&t, one, (struct store_quota){0});
	set(&t, one, (struct store_quota){.folder_count_limit = 2});
	assert_int_equal(warn_of(&t, one, now), 50);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_root_counts_all_below_it),
		cmocka_unit_test(test_renames_and_deletions_keep_roots_right),
		cmocka_unit_test(test_limits_of_one_folder),
		cmocka_unit_test(test_numbers_of_mailboxes),
		cmocka_unit_test(test_promises_know_what_inbox_can_take),
		cmocka_unit_test(test_the_verifier_finds_and_mends),
		cmocka_unit_test(test_warnings_come_once_an_interval),
		cmocka_unit_test(test_folders_are_warned_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
