/* ACLs and what others have seen, in the store alone: letters, entries, limits, what goes with what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/store/store_acl.h"
#include "backend/store/store_message.h"
#include "backend/store/store_metadata.h"
#include "tests/unit/backend/store/temp_store.h"

static void test_letters(void **state)
{
	static const struct {
		const char *text;
		int err;
		unsigned rights;
		const char *shown;
	} rows[] = {
		{"", 0, 0, ""},
		{"lrswipkxtea", 0, STORE_RIGHTS_ALL, "lrswipkxteacd"},
		{"aextkpiwsrl", 0, STORE_RIGHTS_ALL, "lrswipkxteacd"},
		{"ll", 0, STORE_RIGHT_LOOKUP, "l"},
		{"c", 0, STORE_RIGHT_CREATE, "kc"},
		{"d", 0, STORE_RIGHT_DELETE_MESSAGE | STORE_RIGHT_EXPUNGE, "ted"},
		{"e", 0, STORE_RIGHT_EXPUNGE, "ed"},
		{"x", 0, STORE_RIGHT_DELETE, "x"},
		{"L", ERR_SYNTAX, 0, ""},
		{"q", ERR_SYNTAX, 0, ""},
		{"l r", ERR_SYNTAX, 0, ""},
		{"0", ERR_SYNTAX, 0, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = {0};
		unsigned rights = 0;

		assert_int_equal(store_acl_parse(slice_str(rows[i].text), &rights), rows[i].err);
		assert_int_equal(rights, rows[i].rights);
		store_acl_print(rights, &out);
		assert_string_equal(buf_len(&out) ? buf_str_view(&out) : "", rows[i].shown);
		buf_deinit(&out);
	}
	assert_int_equal(store_acl_parse(slice_of("l\0r", 3), &(unsigned){0}), ERR_SYNTAX);
}

static void test_entries_add_up_and_denials_win(void **state)
{
	static const struct {
		struct store_acl_entry entries[3];
		bool is_near;
		unsigned rights;
	} rows[] = {
		{{{{0, 9}, STORE_RIGHT_READ, 0}}, true, STORE_RIGHT_READ},
		{{{{1, 9}, STORE_RIGHT_READ, 0}}, true, 0}, /* the same number in another slot is another */
		{{{{0, 0}, STORE_RIGHT_READ, 0}}, true, STORE_RIGHT_READ},
		{{{{0, 0}, STORE_RIGHT_READ, 0}}, false, 0},
		{{{{0, 9}, STORE_RIGHT_SEEN, 0}, {{0, 0}, STORE_RIGHT_READ, 0}}, true,
			STORE_RIGHT_READ | STORE_RIGHT_SEEN},
		{{{{0, 9}, STORE_RIGHT_SEEN, STORE_RIGHT_READ}, {{0, 0}, STORE_RIGHT_READ, 0}}, true,
			STORE_RIGHT_SEEN},
		{{{{0, 9}, STORE_RIGHT_READ, 0}, {{0, 0}, 0, STORE_RIGHT_READ}}, true, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct temp_store t;
		struct store_txn *txn;
		unsigned rights;

		temp_start(&t);
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		for (size_t k = 0; k < 3 && rows[i].entries[k].rights + rows[i].entries[k].denied; k++)
			assert_int_equal(store_acl_set(txn, t.account, t.inbox, &rows[i].entries[k]), 0);
		assert_int_equal(store_acl_rights(txn, t.account, t.inbox, (struct store_who){0, 9},
					 rows[i].is_near, &rights),
			0);
		assert_int_equal(rights, rows[i].rights);
		assert_int_equal(store_commit(&txn), 0);
		temp_check(&t);
		temp_end(&t);
	}
}

static void test_limits_inheritance_and_removal(void **state)
{
	struct temp_store t;
	struct store_acl_entry e = {.rights = STORE_RIGHT_READ}, all[STORE_ACL_ENTRIES_MAX];
	struct store_acl_shared *shared;
	struct store_txn *txn;
	struct arena arena;
	uint32_t top, below;
	size_t count;

	(void)state;
	temp_start(&t);
	arena_init(&arena, 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, t.account, SLICE_LIT("top"), STORE_USE_NONE, &top), 0);
	for (uint32_t i = 1; i <= STORE_ACL_ENTRIES_MAX; i++) {
		e.who.account = 100 + i;
		assert_int_equal(store_acl_set(txn, t.account, top, &e), 0);
	}
	e.who.account = 99;
	assert_int_equal(store_acl_set(txn, t.account, top, &e), ERR_TOO_BIG);
	assert_int_equal(store_acl_set(txn, t.account, 999, &e), ERR_NOT_FOUND);
	assert_int_equal(
		store_mailbox_create(txn, t.account, SLICE_LIT("top/a/b"), STORE_USE_NONE, &below), 0);
	assert_int_equal(store_acl_get(txn, t.account, below, all, &count), 0);
	assert_int_equal(count, STORE_ACL_ENTRIES_MAX);
	e.who.account = 101;
	assert_int_equal(store_acl_shared(txn, e.who, &arena, &shared, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(store_mailbox_delete(txn, t.account, below), 0);
	assert_int_equal(store_mailbox_delete(txn, t.account, top), 0); /* stays \Noselect, without its ACL */
	assert_int_equal(store_acl_shared(txn, e.who, &arena, &shared, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(store_commit(&txn), 0);
	temp_check(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	{
		struct store_acl_at at = {0};
		bool is_done = false;

		while (!is_done)
			assert_int_equal(store_acl_forget(txn, e.who, 2, &at, &is_done), 0);
	}
	assert_int_equal(store_acl_shared(txn, e.who, &arena, &shared, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(store_account_remove(txn, t.account), 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_reap(&t, NULL);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_acl_shared(txn, (struct store_who){0, 102}, &arena, &shared, &count), 0);
	assert_int_equal(count, 0);
	store_end_read(&txn);
	temp_check(&t);
	arena_deinit(&arena);
	temp_end(&t);
}

static unsigned seen_by(struct temp_store *t, uint32_t mailbox, struct store_who who)
{
	struct store_txn *txn;
	struct store_scan scan;
	struct store_entry e;
	unsigned count = 0;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_scan_begin_for(&scan, txn, mailbox, 0, &who), 0);
	while (store_scan_next(&scan, &e))
		count += (e.flags & STORE_SEEN) != 0;
	store_scan_end(&scan);
	store_end_read(&txn);
	return count;
}

static void see(struct temp_store *t, uint32_t mailbox, uint32_t uid, struct store_who who)
{
	struct store_flag_change c = {
		.how = STORE_FLAGS_ADD, .flags = STORE_SEEN, .unchanged_since = UINT64_MAX, .who = &who};
	struct store_txn *txn;
	uint64_t modseq;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(store_message_flag(txn, t->account, mailbox, &uid, 1, &c, NULL, &modseq), 0);
	assert_int_equal(store_commit(&txn), 0);
}

/* Somebody gets another number: in steps, each row once; and what he had goes with him when he does. */
static void test_another_number(void **state)
{
	enum {
		BOXES = 20,
		MAILS = 150
	};
	static const struct store_who old = {0, 77}, new = {1, 5}, third = {0, 78};
	struct store_acl_entry e = {.who = old, .rights = STORE_RIGHT_READ, .denied = STORE_RIGHT_ADMIN};
	uint64_t old_user = store_metadata_user(0, 77), new_user = store_metadata_user(1, 5);
	uint32_t boxes[BOXES];
	struct store_acl_at at = {0};
	struct store_txn *txn;
	struct temp_store t;
	struct slice value;
	uint64_t modseq;
	unsigned rights;
	bool is_done = false;

	(void)state;
	temp_start(&t);
	for (int i = 0; i < BOXES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "box%d", i);
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(
			store_mailbox_create(txn, t.account, slice_str(name), STORE_USE_NONE, &boxes[i]), 0);
		assert_int_equal(store_acl_set(txn, t.account, boxes[i], &e), 0);
		assert_int_equal(store_metadata_set(txn, t.account, boxes[i], old_user, SLICE_LIT("/comment"),
					 SLICE_LIT("mine"), NULL),
			0);
		assert_int_equal(store_commit(&txn), 0);
		for (int k = 0; k < (i ? 1 : MAILS); k++)
			temp_add(&t, boxes[i], "Subject: x\r\n\r\n");
		see(&t, boxes[i], 1, old);
		see(&t, boxes[i], 1, third);
	}
	see(&t, boxes[0], 100, old);
	see(&t, boxes[0], 100, new); /* he is faster than the steps */
	see(&t, boxes[0], 101, new);
	while (!is_done) {
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(store_acl_hand_over(txn, old, new, 2, &at, &is_done), 0);
		assert_int_equal(store_commit(&txn), 0);
		temp_check(&t);
	}
	assert_int_equal(seen_by(&t, boxes[0], new), 3);
	assert_int_equal(seen_by(&t, boxes[0], old), 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_seen_modseq(txn, boxes[0], new, &modseq), 0);
	assert_true(modseq > 0);
	for (int i = 0; i < BOXES; i++) {
		assert_int_equal(store_acl_rights(txn, t.account, boxes[i], new, false, &rights), 0);
		assert_int_equal(rights, STORE_RIGHT_READ);
		assert_int_equal(
			store_metadata_get(txn, t.account, boxes[i], new_user, SLICE_LIT("/comment"), &value),
			0);
		assert_true(slice_is_str(value, "mine"));
		assert_int_equal(
			store_metadata_get(txn, t.account, boxes[i], old_user, SLICE_LIT("/comment"), &value),
			ERR_NOT_FOUND);
	}
	store_end_read(&txn);
	for (int i = 0; i < BOXES; i++) {
		assert_int_equal(seen_by(&t, boxes[i], third), 1);
		assert_true(seen_by(&t, boxes[i], new) >= 1);
	}
	at = (struct store_acl_at){0};
	for (is_done = false; !is_done;) {
		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(store_acl_forget(txn, new, 2, &at, &is_done), 0);
		assert_int_equal(store_commit(&txn), 0);
		temp_check(&t);
	}
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	for (int i = 0; i < BOXES; i++) {
		assert_int_equal(store_acl_rights(txn, t.account, boxes[i], new, false, &rights), 0);
		assert_int_equal(rights, 0);
		assert_int_equal(store_acl_rights(txn, t.account, boxes[i], old, false, &rights), 0);
		assert_int_equal(rights, STORE_RIGHT_READ);
		assert_int_equal(
			store_metadata_get(txn, t.account, boxes[i], new_user, SLICE_LIT("/comment"), &value),
			ERR_NOT_FOUND);
	}
	assert_int_equal(store_seen_modseq(txn, boxes[0], new, &modseq), 0);
	assert_int_equal(modseq, 0);
	store_end_read(&txn);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_letters),
		cmocka_unit_test(test_entries_add_up_and_denials_win),
		cmocka_unit_test(test_limits_inheritance_and_removal),
		cmocka_unit_test(test_another_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
