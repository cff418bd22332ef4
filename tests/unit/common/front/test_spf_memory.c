/* Replies of SPF checkers that are remembered: the same octets and no others, for so long, in so many places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/front/spf_memory.h"

static void test_the_same_octets_alone(void **state)
{
	struct spf_memory *m = spf_memory_new();

	(void)state;
	assert_int_equal(spf_memory_find(m, SLICE_LIT("run"), 5).len, 0);
	spf_memory_add(m, SLICE_LIT("run"), SLICE_LIT("pass"), 5);
	assert_true(slice_is_str(spf_memory_find(m, SLICE_LIT("run"), 6), "pass"));
	assert_int_equal(spf_memory_find(m, SLICE_LIT("ru"), 6).len, 0);
	assert_int_equal(spf_memory_find(m, SLICE_LIT("rum"), 6).len, 0);
	spf_memory_add(m, SLICE_LIT("run"), SLICE_LIT("fail"), 7);
	assert_true(slice_is_str(spf_memory_find(m, SLICE_LIT("run"), 7), "fail"));
	assert_true(slice_is_str(spf_memory_find(m, SLICE_LIT("run"), 6 + SPF_MEMORY_LIFETIME_MS), "fail"));
	assert_int_equal(spf_memory_find(m, SLICE_LIT("run"), 7 + SPF_MEMORY_LIFETIME_MS).len, 0);
	spf_memory_free(&m);
	assert_null(m);
	spf_memory_free(&m);
}

static void test_it_is_bounded(void **state)
{
	static char big[SPF_MEMORY_RUN_MOST + 1];
	struct spf_memory *m = spf_memory_new();
	unsigned there = 0;
	char run[20];

	(void)state;
	spf_memory_add(m, slice_of(big, sizeof(big)), SLICE_LIT("pass"), 0);
	assert_int_equal(spf_memory_find(m, slice_of(big, sizeof(big)), 0).len, 0);
	spf_memory_add(m, slice_of(big, sizeof(big) - 1), SLICE_LIT("pass"), 0);
	assert_int_equal(spf_memory_find(m, slice_of(big, sizeof(big) - 1), 0).len, 4);
	for (unsigned i = 0; i < 4 * SPF_MEMORY_PLACES; i++) {
		snprintf(run, sizeof(run), "run %u", i);
		spf_memory_add(m, slice_str(run), SLICE_LIT("pass"), 0);
	}
	for (unsigned i = 0; i < 4 * SPF_MEMORY_PLACES; i++) {
		snprintf(run, sizeof(run), "run %u", i);
		there += spf_memory_find(m, slice_str(run), 0).len == 4;
	}
	assert_in_range(there, SPF_MEMORY_PLACES / 2, SPF_MEMORY_PLACES);
	spf_memory_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_octets_alone),
		cmocka_unit_test(test_it_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
