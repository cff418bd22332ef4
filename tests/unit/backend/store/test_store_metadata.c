/* Annotations (RFC 5464): kept, found by level, bounded, logged, and gone with what they belong to. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/store/store_change.h"
#include "backend/store/store_metadata.h"

static int set(struct temp_store *t, uint32_t mailbox, uint64_t user, const char *name, struct slice value)
{
	struct store_txn *txn;
	uint64_t modseq;
	int err;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	err = store_metadata_set(txn, t->account, mailbox, user, slice_str(name), value, &modseq);
	if (err)
		store_abort(&txn);
	else
		assert_int_equal(store_commit(&txn), 0);
	return err;
}

static int add(void *arg, struct slice name, struct slice value)
{
	buf_printf(arg, "%.*s=%.*s;", SLICE_ARG(name), SLICE_ARG(value));
	return 0;
}

static void expect(struct temp_store *t, uint32_t mailbox, uint64_t user, const char *name, const char *want)
{
	struct buf got = {0};
	struct store_txn *txn;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_metadata_each(txn, t->account, mailbox, user, slice_str(name), add, &got), 0);
	store_end_read(&txn);
	assert_string_equal(buf_str_view(&got), want);
	buf_deinit(&got);
}

static void test_entries_are_kept_by_user_and_found_by_level(void **state)
{
	uint64_t bob = store_metadata_user(3, 77);
	struct temp_store t;

	(void)state;
	temp_start(&t);
	assert_int_equal(set(&t, t.inbox, STORE_METADATA_SHARED, "/shared/comment", SLICE_LIT("all")), 0);
	assert_int_equal(set(&t, t.inbox, bob, "/private/comment", SLICE_LIT("bob's")), 0);
	assert_int_equal(set(&t, t.inbox, bob, "/private/comment/a", SLICE_LIT("1")), 0);
	assert_int_equal(set(&t, t.inbox, bob, "/private/commentary", SLICE_LIT("2")), 0);
	assert_int_equal(set(&t, 0, bob, "/private/vendor/x/y", SLICE_LIT("mine")), 0);
	expect(&t, t.inbox, STORE_METADATA_SHARED, "/shared", "/shared/comment=all;");
	expect(&t, t.inbox, STORE_METADATA_SHARED, "/private", "");
	expect(&t, t.inbox, bob, "/private/comment", "/private/comment=bob's;/private/comment/a=1;");
	expect(&t, t.inbox, store_metadata_user(3, 78), "/private", "");
	expect(&t, 0, bob, "/private", "/private/vendor/x/y=mine;");
	/* Empty is a value; NULL takes it away, also where there is none. */
	assert_int_equal(set(&t, t.inbox, bob, "/private/comment", SLICE_LIT("")), 0);
	expect(&t, t.inbox, bob, "/private/comment", "/private/comment=;/private/comment/a=1;");
	assert_int_equal(set(&t, t.inbox, bob, "/private/comment", slice_of(NULL, 0)), 0);
	assert_int_equal(set(&t, t.inbox, bob, "/private/comment", slice_of(NULL, 0)), 0);
	expect(&t, t.inbox, bob, "/private/comment", "/private/comment/a=1;");
	assert_int_equal(set(&t, 99999, bob, "/private/comment", SLICE_LIT("x")), ERR_NOT_FOUND);
	temp_end(&t);
}

static void test_security_10_annotations_are_bounded(void **state)
{
	static char big[STORE_METADATA_VALUE_MAX + 1], name[STORE_METADATA_NAME_MAX + 2];
	struct temp_store t;
	unsigned n;

	(void)state;
	temp_start(&t);
	memset(big, 'x', sizeof(big));
	memset(name, 'n', sizeof(name) - 1);
	memcpy(name, "/shared/", 8);
	assert_int_equal(set(&t, t.inbox, 0, "/shared/a", slice_of(big, sizeof(big))), ERR_TOO_BIG);
	assert_int_equal(set(&t, t.inbox, 0, name, SLICE_LIT("x")), ERR_TOO_BIG);
	name[STORE_METADATA_NAME_MAX] = '\0';
	assert_int_equal(set(&t, t.inbox, 0, name, SLICE_LIT("x")), 0);
	for (n = 1; n < STORE_METADATA_ENTRIES_MAX; n++) {
		snprintf(name, sizeof(name), "/shared/%u", n);
		assert_int_equal(set(&t, t.inbox, 0, name, SLICE_LIT("x")), 0);
	}
	assert_int_equal(set(&t, t.inbox, 0, "/shared/more", SLICE_LIT("x")), ERR_TOO_BIG);
	/* Another value of one that is there, and other users' entries, go on. */
	assert_int_equal(set(&t, t.inbox, 0, "/shared/1", SLICE_LIT("y")), 0);
	/* Those who are not the owner: so much each, half of all together, and the rest is left to him. */
	for (n = 0; n < 3; n++) {
		snprintf(name, sizeof(name), "/private/%u", n);
		assert_int_equal(set(&t, t.inbox, store_metadata_user(0, 4), name, slice_of(big, 8000)),
			n < 2 ? 0 : ERR_TOO_BIG);
	}
	assert_int_equal(
		set(&t, t.inbox, store_metadata_user(0, 4), "/private/0", slice_of(big, 8500)), ERR_TOO_BIG);
	assert_int_equal(set(&t, t.inbox, store_metadata_user(0, 4), "/private/0", slice_of(big, 10)), 0);
	for (n = 0; n < 1000; n++) {
		snprintf(name, sizeof(name), "/private/%u", n % 2);
		if (set(&t, t.inbox, store_metadata_user(1, 5 + n / 2), name, slice_of(big, 8000)) ==
			ERR_TOO_BIG)
			break;
	}
	assert_in_range(n, 55, STORE_METADATA_GUESTS_MAX / 8000);
	for (n = 0; n < 1000; n++) {
		snprintf(name, sizeof(name), "/private/%u", n);
		if (set(&t, t.inbox, store_metadata_user(0, t.account), name,
			    slice_of(big, sizeof(big) - 1)) == ERR_TOO_BIG)
			break;
	}
	assert_in_range(n, 7, 8);
	assert_int_equal(set(&t, t.inbox, store_metadata_user(1, 5), "/private/0", slice_of(NULL, 0)), 0);
	assert_int_equal(
		set(&t, t.inbox, store_metadata_user(0, t.account), "/private/x", slice_of(big, 1000)), 0);
	temp_end(&t);
}

static void test_entries_follow_their_mailbox(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	uint32_t old, child, parent, fresh;

	(void)state;
	temp_start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, t.account, SLICE_LIT("p/c"), STORE_USE_NONE, &child), 0);
	assert_int_equal(store_commit(&txn), 0);
	parent = temp_find(&t, t.account, "p");
	assert_int_equal(set(&t, child, 0, "/shared/comment", SLICE_LIT("child")), 0);
	assert_int_equal(set(&t, parent, 0, "/shared/comment", SLICE_LIT("parent")), 0);
	assert_int_equal(set(&t, t.inbox, 0, "/shared/comment", SLICE_LIT("inbox")), 0);
	/* RFC 5464 section 4.1: along with a rename; INBOX's own stay too. */
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_rename(txn, t.account, child, SLICE_LIT("p/d")), 0);
	assert_int_equal(store_mailbox_rename(txn, t.account, t.inbox, SLICE_LIT("old")), 0);
	assert_int_equal(store_commit(&txn), 0);
	old = temp_find(&t, t.account, "old");
	fresh = temp_find(&t, t.account, "INBOX");
	assert_int_not_equal(old, fresh);
	expect(&t, child, 0, "", "/shared/comment=child;");
	expect(&t, old, 0, "", "/shared/comment=inbox;");
	expect(&t, fresh, 0, "", "/shared/comment=inbox;");
	temp_check(&t);
	/* A name that stays for its children's sake has none of the old ones, and may have new ones. */
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, parent), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_check(&t);
	parent = temp_find(&t, t.account, "p");
	expect(&t, parent, 0, "", "");
	assert_int_equal(set(&t, parent, 0, "/shared/comment", SLICE_LIT("name")), 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, child), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	expect(&t, child, 0, "", "");
	expect(&t, parent, 0, "", "");
	temp_check(&t);
	/* With the account all of it goes. */
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_remove(txn, t.account), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	expect(&t, old, 0, "", "");
	temp_end(&t);
}

static int add_change(void *arg, const struct store_change *c)
{
	buf_printf(arg, "%d:%.*s;", c->kind, SLICE_ARG(c->text));
	return 0;
}

static void test_the_log_has_names(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct buf got = {0};
	bool is_incomplete;
	uint64_t now, since;
	uint32_t id;

	(void)state;
	temp_start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(
		store_change_each(txn, t.account, UINT64_MAX - 1, add_change, &got, &since, &is_incomplete),
		0);
	assert_int_equal(store_mailbox_create(txn, t.account, SLICE_LIT("a"), STORE_USE_NONE, &id), 0);
	assert_int_equal(store_mailbox_subscribe(txn, t.account, SLICE_LIT("a"), true), 0);
	assert_int_equal(
		store_metadata_set(txn, t.account, id, 5, SLICE_LIT("/private/x"), SLICE_LIT("1"), NULL), 0);
	assert_int_equal(store_mailbox_set_use(txn, t.account, id, STORE_USE_SENT), 0);
	assert_int_equal(store_mailbox_rename(txn, t.account, id, SLICE_LIT("b")), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, id), 0);
	assert_int_equal(buf_len(&got), 0);
	assert_int_equal(store_change_each(txn, t.account, since, add_change, &got, &now, &is_incomplete), 0);
	assert_false(is_incomplete);
	assert_int_equal(now, since + 6);
	assert_string_equal(buf_str_view(&got), "4:;7:a;9:/private/x;9:/private/specialuse;5:a;6:b;");
	assert_int_equal(store_commit(&txn), 0);
	buf_deinit(&got);
	temp_reap(&t, NULL);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries_are_kept_by_user_and_found_by_level),
		cmocka_unit_test(test_security_10_annotations_are_bounded),
		cmocka_unit_test(test_entries_follow_their_mailbox),
		cmocka_unit_test(test_the_log_has_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
