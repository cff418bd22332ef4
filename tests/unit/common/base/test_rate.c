/* Rates: bursts up to the count, then one each interval; keys apart; a full table forgets the emptiest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "common/base/rate.h"

#define KEY SLICE_LIT("rule key")

static void test_bursts(void **state)
{
	struct rates *r = rates_new();

	(void)state;
	/* 10 a minute: ten at once, then one each six seconds. */
	for (int i = 0; i < 10; i++)
		assert_true(rates_take(r, KEY, 10, 60000, 1000));
	assert_false(rates_take(r, KEY, 10, 60000, 1000));
	assert_false(rates_would_take(r, KEY, 10, 60000, 6999));
	assert_true(rates_would_take(r, KEY, 10, 60000, 7000));
	assert_true(rates_take(r, KEY, 10, 60000, 7000));
	assert_false(rates_take(r, KEY, 10, 60000, 7000));
	/* Another key has its own. */
	assert_true(rates_take(r, SLICE_LIT("other"), 10, 60000, 7000));
	/* After the whole period all of it is there again, and not more. */
	for (int i = 0; i < 10; i++)
		assert_true(rates_take(r, KEY, 10, 60000, 200000));
	assert_false(rates_take(r, KEY, 10, 60000, 200000));
	rates_free(&r);
}

static void test_asking_does_not_count(void **state)
{
	struct rates *r = rates_new();

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_true(rates_would_take(r, KEY, 1, 60000, 1000));
	assert_true(rates_take(r, KEY, 1, 60000, 1000));
	assert_false(rates_would_take(r, KEY, 1, 60000, 1000));
	rates_free(&r);
}

/* A flood of keys takes no more memory than there is, and mostly spares who is busy. */
static void test_a_flood_of_keys(void **state)
{
	struct rates *r = rates_new();
	unsigned kept = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		char key[32];
		int n = snprintf(key, sizeof(key), "busy %u", i);

		for (int k = 0; k < 10; k++)
			assert_true(rates_take(r, slice_of(key, (size_t)n), 10, 600000, 1000));
	}
	for (unsigned i = 0; i < RATE_ENTRIES_MOST; i++) {
		char key[32];
		int n = snprintf(key, sizeof(key), "flood %u", i);

		assert_true(rates_take(r, slice_of(key, (size_t)n), 10, 600000, 1000));
	}
	for (unsigned i = 0; i < 100; i++) {
		char key[32];
		int n = snprintf(key, sizeof(key), "busy %u", i);

		kept += !rates_would_take(r, slice_of(key, (size_t)n), 10, 600000, 1001);
	}
	assert_true(kept >= 95);
	rates_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_asking_does_not_count),
		cmocka_unit_test(test_a_flood_of_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
