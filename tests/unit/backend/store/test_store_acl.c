/* ACLs and what others have seen, in the store alone: letters, entries, limits, what goes with what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/store/store_acl.h"
#include "backend/store/store_message.h"
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
		uint32_t from = 0;
		bool is_done = false;

		while (!is_done)
			assert_int_equal(store_acl_forget(txn, e.who, 2, &from, &is_done), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_letters),
		cmocka_unit_test(test_entries_add_up_and_denials_win),
		cmocka_unit_test(test_limits_inheritance_and_removal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
