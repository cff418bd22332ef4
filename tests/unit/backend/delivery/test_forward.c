/* Where forwarding leads: chains, circles, copies, and targets that cannot be had. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/delivery/forward.h"
#include "common/base/log.h"

static struct temp_store t;

/* name, its forwards ("\n" between), keeps nothing */
static void make(const char *name, const char *forwards, bool forwards_only)
{
	const struct store_account_new a = {.address = slice_str(name),
		.forwards = slice_str(forwards),
		.flags = forwards_only ? STORE_ACCOUNT_FORWARDS_ONLY : 0};
	struct store_txn *txn;
	uint32_t id;

	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_create(txn, &a, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static void change(const char *name, const struct store_account_change *c)
{
	struct store_account a;
	struct store_txn *txn;

	assert_int_equal(store_find_account(t.store, slice_str(name), &a), 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_change(txn, a.id, c), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static int setup(void **state)
{
	char name[32], next[32];

	(void)state;
	log_set_level(LOG_ERROR);
	temp_start(&t);
	make("plain@x", "", false);
	make("end@x", "", false);
	make("keep@x", "end@x\nplain@x", false);
	make("only@x", "end@x\nplain@x", true);
	make("chain@x", "keep@x\nonly@x\nchain@x", true);
	make("ring1@x", "ring2@x", true);
	make("ring2@x", "ring1@x", true);
	make("ring3@x", "ring1@x\nend@x", true);
	make("away@x", "end@x\nnobody@x\nwho@y.example", false);
	make("further@x", "who@y.example\naway@x", true);
	make("self@x", "self+tag@x", true);
	make("kept@x", "KEPT+tag@x\nend+tag@x\nend@x", false);
	make("broken@x", "end@x\nnowhere", false);
	make("refused@x", "deaf@x", false);
	make("deaf@x", "", false);
	change("deaf@x", &(struct store_account_change){.flags = &(uint32_t){STORE_ACCOUNT_NO_MAIL}});
	for (int i = 0; i < FORWARD_ACCOUNTS_MAX + 5; i++) {
		snprintf(name, sizeof(name), "n%d@x", i);
		snprintf(next, sizeof(next), "n%d@x", i + 1);
		make(name, next, true);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	temp_check(&t);
	temp_end(&t);
	return 0;
}

static void test_where_it_goes(void **state)
{
	static const struct {
		const char *address;
		int want;
		const char *targets; /* a star before those that are forwarded */
	} rows[] = {
		{"plain@x", 0, "plain@x "},
		{"keep@x", 0, "keep@x *end@x *plain@x "},
		{"only@x", 0, "*end@x *plain@x "},
		{"chain@x", 0, "*keep@x *end@x *plain@x "},
		{"ring1@x", ERR_DENIED, ""},
		{"ring3@x", 0, "*end@x "},
		{"away@x", 0, "away@x *end@x *nobody@x>away@x *who@y.example>away@x "},
		{"further@x", 0, "*who@y.example>further@x *away@x *end@x *nobody@x>away@x "},
		{"self@x", ERR_DENIED, ""},
		{"kept@x", 0, "kept@x *end@x "},
		{"broken@x", ERR_CLOSED, ""},
		{"refused@x", ERR_CLOSED, ""},
		{"n0@x", ERR_CLOSED, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct forward_account *list = NULL;
		struct store_account a;
		struct buf got = {0};
		struct arena arena;
		size_t count = 0;

		arena_init(&arena, 0);
		assert_int_equal(store_find_account(t.store, slice_str(rows[i].address), &a), 0);
		assert_int_equal(forward_expand(t.store, &a, &arena, &list, &count), rows[i].want);
		for (size_t k = 0; k < count; k++)
			buf_printf(&got, "%s%s%s%s ", list[k].is_forwarded ? "*" : "", list[k].address,
				list[k].is_remote ? ">" : "", list[k].is_remote ? list[k].from : "");
		assert_string_equal(buf_str_view(&got), rows[i].targets);
		buf_deinit(&got);
		arena_deinit(&arena);
	}
}

static void test_who_is_suspended_forwards_nothing(void **state)
{
	struct store_policy policy = {.is_suspended = true};
	struct forward_account *list;
	struct store_account a;
	struct arena arena;
	size_t count;

	(void)state;
	change("only@x", &(struct store_account_change){.policy = &policy});
	arena_init(&arena, 0);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("only@x"), &a), 0);
	assert_int_equal(forward_expand(t.store, &a, &arena, &list, &count), 0);
	assert_int_equal(count, 1);
	assert_string_equal(list[0].address, "only@x");
	/* A target that takes no mail now. */
	policy = (struct store_policy){.says = STORE_SAYS_SUSPENDED_MAIL,
		.suspended_mail = STORE_MAIL_DEFERRED,
		.is_suspended = true};
	change("end@x", &(struct store_account_change){.policy = &policy});
	assert_int_equal(store_find_account(t.store, SLICE_LIT("keep@x"), &a), 0);
	assert_int_equal(forward_expand(t.store, &a, &arena, &list, &count), ERR_NOT_NOW);
	arena_deinit(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_where_it_goes),
		cmocka_unit_test(test_who_is_suspended_forwards_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
