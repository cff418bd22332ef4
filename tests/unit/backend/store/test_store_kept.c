/* Retention: what is expunged or goes with its mailbox can be brought back for a while, and then gives its pages back. */
#include "backend/store/store_kept.h"
#include "common/base/clock.h"
#include "temp_store.h"

static void start(struct temp_store *t)
{
	temp_start(t);
	store_set_retention(t->store, 3600, 0);
}

static uint32_t add(struct temp_store *t, uint32_t mailbox, const char *text, uint8_t flags)
{
	struct store_appended a;

	assert_int_equal(temp_append(t, t->account, mailbox, slice_str(text), flags, &a), 0);
	return a.uid;
}

static struct store_undeleted undelete(struct temp_store *t, const struct store_kept_filter *f, size_t limit)
{
	struct store_undeleted sum = {0};
	struct store_kept_at at = {0};
	bool done = false;

	while (!done) {
		struct store_txn *txn;

		assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
		assert_int_equal(store_kept_undelete(txn, t->account, f, &at, limit, &sum, &done), 0);
		assert_int_equal(store_commit(&txn), 0);
		temp_check(t);
	}
	return sum;
}

static struct store_kept_sum kept(struct temp_store *t)
{
	struct store_kept_sum sum;
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_kept_sum(txn, t->account, &sum), 0);
	store_end_read(&txn);
	return sum;
}

static void expire(struct temp_store *t, const struct store_holds *holds, int64_t later)
{
	struct store_kept_pass pass = {0};

	do {
		struct store_txn *txn;

		assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
		assert_int_equal(store_kept_expire(txn, holds, clock_wall_s() + later, 3, &pass), 0);
		assert_int_equal(store_commit(&txn), 0);
	} while (pass.account);
	temp_reap(t, NULL);
}

static struct store_mailbox mailbox(struct temp_store *t, const char *name)
{
	struct store_mailbox m;
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, t->account, slice_str(name), &m), 0);
	store_end_read(&txn);
	return m;
}

static void test_an_expunged_message_comes_back_under_a_new_uid(void **state)
{
	struct store_kept_filter all = {0};
	struct store_undeleted sum;
	struct store_mailbox before, after;
	struct store_message m;
	struct store_entry e;
	struct store_txn *txn;
	struct temp_store t;
	char text[64];
	size_t len;
	uint32_t uid;

	(void)state;
	start(&t);
	uid = add(&t, t.inbox, "A: b\r\n\r\nfirst", STORE_SEEN | STORE_FLAGGED | STORE_DELETED);
	add(&t, t.inbox, "A: b\r\n\r\nsecond", 0);
	temp_expunge(&t, t.inbox, uid);
	before = mailbox(&t, "INBOX");
	assert_int_equal(before.messages, 1);
	temp_check(&t);
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(kept(&t).messages, 1);
	sum = undelete(&t, &all, 10);
	assert_int_equal(sum.messages, 1);
	assert_int_equal(kept(&t).messages, 0);
	after = mailbox(&t, "INBOX");
	assert_int_equal(after.id, t.inbox);
	assert_int_equal(after.uidvalidity, before.uidvalidity);
	assert_int_equal(after.messages, 2);
	assert_int_equal(after.uidnext, 4);
	assert_true(after.modseq > before.modseq);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_message_entry(txn, t.inbox, 3, &e), 0);
	assert_int_equal(e.flags, STORE_SEEN | STORE_FLAGGED);
	assert_int_equal(e.date, 1700000000);
	assert_true(e.modseq > before.modseq);
	assert_int_equal(store_message_get(txn, t.inbox, uid, &m), ERR_NOT_FOUND);
	assert_int_equal(store_message_get(txn, t.inbox, 3, &m), 0);
	assert_int_equal(store_message_read(txn, &m, m.trace.len, text, sizeof(text), &len), 0);
	assert_string_equal((text[len] = '\0', text), "A: b\r\n\r\nfirst");
	store_end_read(&txn);
	temp_end(&t);
}

static void test_a_deleted_mailbox_comes_back_under_recovered(void **state)
{
	static const struct slice word = SLICE_LIT("Urgent");
	struct store_kept_filter all = {0}, other = {.mailbox = SLICE_LIT("Work/Old")}, none = {.since = 1};
	struct store_mailbox m;
	struct store_keywords words;
	struct store_entry e;
	struct store_txn *txn;
	struct temp_store t;
	uint32_t work, uid;
	uint64_t bits, modseq;

	(void)state;
	start(&t);
	none.since = clock_wall_s() + 1000;
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(
		store_mailbox_create(txn, t.account, SLICE_LIT("Work/Old"), STORE_USE_NONE, &work), 0);
	assert_int_equal(store_commit(&txn), 0);
	uid = add(&t, work, "A: b\r\n\r\n1", 0);
	add(&t, work, "A: b\r\n\r\n2", 0);
	add(&t, work, "A: b\r\n\r\n3", 0);
	temp_expunge(&t, work, 2);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_make_keywords(txn, t.account, work, &word, 1, &bits), 0);
	assert_int_equal(
		store_message_flag(txn, t.account, work, &uid, 1,
			&(struct store_flag_change){
				.how = STORE_FLAGS_ADD, .keywords = bits, .unchanged_since = UINT64_MAX},
			NULL, &modseq),
		0);
	assert_int_equal(store_mailbox_delete(txn, t.account, work), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_check(&t);
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(kept(&t).messages, 3);
	assert_int_equal(undelete(&t, &none, 10).messages, 0);
	assert_int_equal(undelete(&t, &other, 1).messages, 3);
	assert_int_equal(undelete(&t, &all, 10).messages, 0);
	m = mailbox(&t, "Recovered/Work/Old");
	assert_int_equal(m.messages, 3);
	assert_true(m.subscribed);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_keywords(txn, t.account, m.id, &words), 0);
	assert_int_equal(words.count, 1);
	assert_true(slice_is_str(words.names[0], "Urgent"));
	bits = 0;
	for (uid = 1; uid <= 3; uid++) {
		assert_int_equal(store_message_entry(txn, m.id, uid, &e), 0);
		bits += e.keywords;
	}
	assert_int_equal(bits, 1);
	store_end_read(&txn);
	expire(&t, NULL, 3601);
	temp_end(&t);
}

static void test_moved_messages_are_not_kept(void **state)
{
	struct store_txn *txn;
	struct temp_store t;
	uint32_t uid, trash;

	(void)state;
	start(&t);
	trash = temp_find(&t, t.account, "Trash");
	uid = add(&t, t.inbox, "A: b\r\n\r\n", 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_message_copy(txn, t.account, t.inbox, &uid, 1, trash, true, NULL), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	assert_int_equal(kept(&t).messages, 0);
	temp_end(&t);
}

static void test_time_gives_the_pages_back(void **state)
{
	struct temp_store t;
	struct store_stat s;
	char *body = xmalloc(200001);

	(void)state;
	start(&t);
	srand(1);
	for (size_t i = 0; i < 200000; i++)
		body[i] = (char)('!' + rand() % 90);
	body[200000] = '\0';
	for (int i = 0; i < 5; i++)
		temp_expunge(&t, t.inbox, add(&t, t.inbox, body, 0));
	temp_reap(&t, NULL);
	expire(&t, NULL, 3500);
	assert_int_equal(kept(&t).messages, 5);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.kept, 5);
	assert_true(s.kept_bytes > 1000000);
	assert_true(s.blobs == 5 && s.free_bytes < 900000);
	expire(&t, NULL, 3601);
	assert_int_equal(kept(&t).messages, 0);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.blobs + s.kept, 0);
	assert_true(s.free_bytes > 700000);
	free(body);
	temp_end(&t);
}

static void test_the_oldest_go_when_there_is_too_much(void **state)
{
	struct temp_store t;
	char text[1100];

	(void)state;
	start(&t);
	store_set_retention(t.store, 3600, 5000);
	memset(text, 'x', sizeof(text));
	memcpy(text, "A: b\r\n\r\n", 8);
	text[1000] = '\0';
	for (int i = 0; i < 8; i++)
		temp_expunge(&t, t.inbox, add(&t, t.inbox, text, 0));
	temp_reap(&t, NULL);
	temp_check(&t);
	assert_int_equal(kept(&t).messages, 4);
	store_set_retention(t.store, 0, 0);
	expire(&t, NULL, 1);
	assert_int_equal(kept(&t).messages, 0);
	temp_end(&t);
}

static uint64_t view_of_all(void *arg, uint32_t mailbox)
{
	(void)arg;
	(void)mailbox;
	return 0;
}

static bool no_pin(void *arg, uint64_t blob)
{
	(void)arg;
	(void)blob;
	return false;
}

static void test_a_view_outlives_the_retention(void **state)
{
	const struct store_holds holds = {view_of_all, no_pin, NULL};
	struct temp_store t;

	(void)state;
	start(&t);
	temp_expunge(&t, t.inbox, add(&t, t.inbox, "A: b\r\n\r\n", 0));
	temp_reap(&t, &holds);
	assert_int_equal(kept(&t).messages, 1);
	expire(&t, &holds, 4000);
	assert_int_equal(kept(&t).messages, 1);
	expire(&t, NULL, 4000);
	assert_int_equal(kept(&t).messages, 0);
	temp_end(&t);
}

static void test_the_quota_holds_and_the_rest_stays(void **state)
{
	struct store_kept_filter all = {0};
	struct store_undeleted sum;
	struct store_txn *txn;
	struct temp_store t;

	(void)state;
	start(&t);
	for (int i = 0; i < 5; i++)
		temp_expunge(&t, t.inbox, add(&t, t.inbox, "A: b\r\n\r\n", 0));
	temp_reap(&t, NULL);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_set_limits(txn, t.account, 0, 2), 0);
	assert_int_equal(store_commit(&txn), 0);
	sum = undelete(&t, &all, 2);
	assert_int_equal(sum.messages, 2);
	assert_int_equal(sum.over_quota, 3);
	assert_int_equal(kept(&t).messages, 3);
	temp_end(&t);
}

static void test_an_account_takes_what_it_kept_along(void **state)
{
	struct store_txn *txn;
	struct temp_store t;
	struct store_stat s;
	uint32_t work;

	(void)state;
	start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, t.account, SLICE_LIT("Work"), STORE_USE_NONE, &work), 0);
	assert_int_equal(store_commit(&txn), 0);
	add(&t, work, "A: b\r\n\r\nold", 0);
	add(&t, t.inbox, "A: b\r\n\r\nlive", 0);
	temp_expunge(&t, t.inbox, add(&t, t.inbox, "A: b\r\n\r\n", 0));
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, work), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	assert_int_equal(kept(&t).messages, 2);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_remove(txn, t.account), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.blobs + s.kept + s.orphans + s.expunged, 0);
	assert_int_equal(s.intents, 1); /* store_work_forget()'s */
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_expunged_message_comes_back_under_a_new_uid),
		cmocka_unit_test(test_a_deleted_mailbox_comes_back_under_recovered),
		cmocka_unit_test(test_moved_messages_are_not_kept),
		cmocka_unit_test(test_time_gives_the_pages_back),
		cmocka_unit_test(test_the_oldest_go_when_there_is_too_much),
		cmocka_unit_test(test_a_view_outlives_the_retention),
		cmocka_unit_test(test_the_quota_holds_and_the_rest_stays),
		cmocka_unit_test(test_an_account_takes_what_it_kept_along),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
