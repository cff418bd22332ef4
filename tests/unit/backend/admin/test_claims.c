/* Who may change what at the same time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/admin/claims.h"

static void test_names_and_their_domains(void **state)
{
	struct arena arena;
	struct claims a = {.arena = &arena}, b = {.arena = &arena};

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(claims_take(&a, SLICE_LIT("u@x.test")), 0);
	assert_int_equal(claims_take(&a, SLICE_LIT("u@x.test")), 0);
	assert_int_equal(claims_take(&b, SLICE_LIT("u@x.test")), ERR_NOT_NOW);
	assert_int_equal(claims_take(&b, SLICE_LIT("v@x.test")), 0);
	assert_true(claims_has_within(SLICE_LIT("x.test")));
	assert_false(claims_has_within(SLICE_LIT("y.test")));
	assert_false(claims_has_within(SLICE_LIT("test")));
	claims_drop(&a);
	claims_drop(&b);
	assert_false(claims_has_within(SLICE_LIT("x.test")));
	assert_int_equal(claims_take(&a, SLICE_LIT("@x.test")), 0);
	assert_int_equal(claims_take(&b, SLICE_LIT("u@x.test")), ERR_NOT_NOW);
	assert_int_equal(claims_take(&b, SLICE_LIT("u@y.test")), 0);
	assert_true(claims_has(SLICE_LIT("u@x.test")));
	assert_true(claims_has(SLICE_LIT("u@y.test")));
	assert_false(claims_has(SLICE_LIT("v@y.test")));
	/* A class is no domain. */
	assert_int_equal(claims_take(&b, SLICE_LIT("class x.test")), 0);
	assert_false(claims_has_within(SLICE_LIT("lass x.test")));
	claims_drop(&a);
	claims_drop(&b);
	claims_deinit();
	arena_deinit(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_names_and_their_domains)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
