/* Strangers wait, come again, and are known; the table is bounded and cleans itself. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/store/db.h"
#include "backend/store/store_greylist.h"
#include "backend/store/store_repair.h"

static const struct store_greylist_terms terms = {300, 7200, 86400, 100};

static int ask_key(struct temp_store *t, unsigned number, int64_t now, uint64_t *wait)
{
	uint8_t key[STORE_GREYLIST_KEY_LEN] = {(uint8_t)number, (uint8_t)(number >> 8)};
	struct store_txn *txn;
	int err;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	err = store_greylist_ask(txn, key, now, &terms, wait);
	assert_int_equal(store_commit(&txn), 0);
	return err;
}

static uint64_t ask(struct temp_store *t, unsigned number, int64_t now)
{
	uint64_t wait = 77777;

	assert_int_equal(ask_key(t, number, now, &wait), 0);
	return wait;
}

static uint64_t count(struct temp_store *t)
{
	struct store_txn *txn;
	uint64_t n;

	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_greylist_count(txn, &n), 0);
	store_end_read(&txn);
	return n;
}

static void test_a_stranger(void **state)
{
	struct temp_store *t = *state;

	assert_int_equal(ask(t, 1, 1000), 300);
	assert_int_equal(ask(t, 1, 1100), 200);
	assert_int_equal(ask(t, 2, 1100), 300); /* another one */
	assert_int_equal(ask(t, 1, 1300), 0);
	assert_int_equal(ask(t, 1, 1301), 0);
	/* Known, as long as he comes within the life; seen again, the life begins anew. */
	assert_int_equal(ask(t, 1, 1300 + 86000), 0);
	assert_int_equal(ask(t, 1, 1300 + 86000 + 86000), 0);
	assert_int_equal(ask(t, 1, 1300 + 86000 + 86000 + 86401), 300);
	/* Too late for a second try: it is a first one. */
	assert_int_equal(ask(t, 3, 500000), 300);
	assert_int_equal(ask(t, 3, 500000 + 7201), 300);
	assert_int_equal(ask(t, 3, 500000 + 7201 + 300), 0);
	/* The clock was set back. */
	assert_int_equal(ask(t, 4, 600000), 300);
	assert_int_equal(ask(t, 4, 1000), 300);
}

static void test_the_table_is_bounded(void **state)
{
	struct temp_store *t = *state;

	for (unsigned i = 0; i < 500; i++) {
		assert_int_equal(ask(t, i, 2000 + i), 300);
		assert_true(count(t) <= terms.entries_max);
	}
	/* The last ones are there, the first have gone. */
	assert_int_equal(ask(t, 499, 2499 + 300), 0);
	assert_int_equal(ask(t, 0, 2800), 300);
	/* What is over goes by itself. */
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(ask(t, 1000, 100000000 + i), 300 - i);
	assert_int_equal(count(t), 1);
}

static void test_a_damaged_row(void **state)
{
	struct temp_store *t = *state;
	uint8_t key[STORE_GREYLIST_KEY_LEN] = {9};
	struct store_txn *txn;
	uint64_t wait;

	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(db_put(txn, DB_GREYLIST, slice_of(key, sizeof(key)), SLICE_LIT("\1short")), 0);
	assert_int_equal(store_greylist_ask(txn, key, 1, &terms, &wait), ERR_CORRUPT);
	store_abort(&txn);
}

/* One table has lost a row each way: the check tells, the repair mends, and what is whole stays. */
static void test_check_and_repair(void **state)
{
	struct temp_store *t = *state;
	uint8_t key[STORE_GREYLIST_KEY_LEN] = {1};
	const struct store_repair_options options = {0};
	struct store_repair result;
	struct store_txn *txn;
	char stray[STORE_GREYLIST_TIME_LEN] = {0};

	assert_int_equal(ask(t, 1, 1000), 300);
	assert_int_equal(ask(t, 2, 1000), 300);
	assert_int_equal(store_begin_write(t->store, 0, &txn), 0);
	assert_int_equal(db_put(txn, DB_GREYLIST, slice_of(key, sizeof(key)), SLICE_LIT("x")), 0);
	assert_int_equal(
		db_put(txn, DB_GREYLIST_TIMES, slice_of(stray, sizeof(stray)), slice_of(NULL, 0)), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_repair(t->store, &options, &result), 0);
	assert_int_equal(result.mended, 3); /* the row, its time, the stray one */
	assert_int_equal(result.left, 0);
	assert_int_equal(count(t), 1);
	assert_int_equal(ask(t, 2, 1300), 0);
}

static int set_up(void **state)
{
	struct temp_store *t = calloc(1, sizeof(*t));

	temp_start(t);
	*state = t;
	return 0;
}

static int tear_down(void **state)
{
	temp_end(*state);
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_stranger, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_table_is_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_damaged_row, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_check_and_repair, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
