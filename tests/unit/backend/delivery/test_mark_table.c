#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "backend/delivery/mark_table.h"

static const uint8_t one[STORE_MARK_LEN] = {1}, two[STORE_MARK_LEN] = {2};

/* A delivery that ends in order leaves nothing; one that is cut leaves its mark to the store. */
static void test_alone(void **state)
{
	struct mark_table *t = mark_table_new();

	(void)state;
	assert_int_equal(mark_table_claim(t, one, true), MARK_OWN);
	assert_true(mark_table_release(t, one, true));
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	mark_table_forget(t, one);
	assert_int_equal(mark_table_claim(t, one, true), MARK_OWN);
	assert_false(mark_table_release(t, one, false));
	assert_int_equal(mark_table_count(t), 0);
	/* the repeat: looked up again, and retires the mark */
	assert_int_equal(mark_table_claim(t, one, true), MARK_OWN);
	assert_true(mark_table_release(t, one, true));
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	mark_table_forget(t, one);
	mark_table_free(&t);
	assert_null(t);
}

/* The same bytes over two open legs are two messages; the mark stays until the last lets go. */
static void test_two_at_once(void **state)
{
	struct mark_table *t = mark_table_new();

	(void)state;
	assert_int_equal(mark_table_claim(t, one, true), MARK_OWN);
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	assert_int_equal(mark_table_claim(t, one, false), MARK_SHARED);
	assert_int_equal(mark_table_claim(t, two, true), MARK_OWN);
	assert_int_equal(mark_table_count(t), 2);
	assert_false(mark_table_release(t, one, true));
	assert_true(mark_table_release(t, one, true));
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	mark_table_forget(t, one);
	assert_true(mark_table_release(t, two, true));
	assert_int_equal(mark_table_claim(t, two, true), MARK_HELD);
	mark_table_forget(t, two);
	mark_table_free(&t);
}

/* One of two is cut: its repeat meets the mark, a third sender does not. */
static void test_one_of_two_is_cut(void **state)
{
	struct mark_table *t = mark_table_new();

	(void)state;
	assert_int_equal(mark_table_claim(t, one, true), MARK_OWN);
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	assert_int_equal(mark_table_claim(t, one, false), MARK_SHARED);
	assert_false(mark_table_release(t, one, false));
	assert_int_equal(mark_table_claim(t, one, true), MARK_OWN); /* the repeat */
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	assert_int_equal(mark_table_claim(t, one, false), MARK_SHARED); /* on purpose */
	assert_false(mark_table_release(t, one, true));
	assert_false(mark_table_release(t, one, true));
	assert_true(mark_table_release(t, one, true));
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	mark_table_forget(t, one);
	mark_table_free(&t);
}

/* The last ends in order, an earlier one was cut and has not come back: the store keeps the mark. */
static void test_cut_outlives_the_others(void **state)
{
	struct mark_table *t = mark_table_new();

	(void)state;
	assert_int_equal(mark_table_claim(t, one, true), MARK_OWN);
	assert_int_equal(mark_table_claim(t, one, true), MARK_HELD);
	assert_int_equal(mark_table_claim(t, one, false), MARK_SHARED);
	assert_false(mark_table_release(t, one, false));
	assert_false(mark_table_release(t, one, true));
	assert_int_equal(mark_table_count(t), 0);
	mark_table_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_two_at_once),
		cmocka_unit_test(test_one_of_two_is_cut),
		cmocka_unit_test(test_cut_outlives_the_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
