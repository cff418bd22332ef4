/* How many may pass, and when. Time is told, so nothing waits. */
#include "proxy/backend_gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_it_is_open_as_long_as_nothing_was_down(void **state)
{
	struct backend_gate gate = {0};

	(void)state;
	assert_int_equal(backend_gate_window(&gate, 5000, 123456), 0);
	for (unsigned i = 0; i < 10000; i++)
		assert_true(backend_gate_log_in(&gate, 5000, 123456));
	for (unsigned i = 0; i < 10000; i++)
		assert_true(backend_gate_connect(&gate, 0));
}

static void test_the_window_grows_over_the_time_of_return(void **state)
{
	static const struct {
		uint64_t now;
		unsigned want;
	} rows[] = {
		{1000, BACKEND_GATE_FIRST}, {900, BACKEND_GATE_FIRST}, /* another thread's clock is behind */
		{1500, BACKEND_GATE_FIRST + (BACKEND_GATE_LAST - BACKEND_GATE_FIRST) / 8},
		{3000, BACKEND_GATE_FIRST + (BACKEND_GATE_LAST - BACKEND_GATE_FIRST) / 2},
		{4999, BACKEND_GATE_LAST - 1}, {5000, 0}, {1500, 0}, /* it is over, and stays so */
	};
	struct backend_gate gate = {0};

	(void)state;
	backend_gate_return(&gate, 1000);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(backend_gate_window(&gate, 4000, rows[i].now), rows[i].want);
	backend_gate_return(&gate, 6000);
	assert_int_equal(backend_gate_window(&gate, 4000, 6000), BACKEND_GATE_FIRST);
	backend_gate_return(&gate, 0);
	assert_int_equal(backend_gate_window(&gate, 4000, 1), BACKEND_GATE_FIRST);
	assert_int_equal(backend_gate_window(&gate, 0, 1), 0); /* return-time = 0 */
}

static void test_logins_beyond_the_window_are_not_let_in(void **state)
{
	struct backend_gate gate = {0};

	(void)state;
	backend_gate_return(&gate, 1000);
	for (unsigned i = 0; i < BACKEND_GATE_FIRST; i++)
		assert_true(backend_gate_log_in(&gate, 4000, 1000));
	assert_false(backend_gate_log_in(&gate, 4000, 1000));
	assert_false(backend_gate_log_in(&gate, 4000, 1000));
	backend_gate_logged_in(&gate);
	assert_true(backend_gate_log_in(&gate, 4000, 1000));
	assert_false(backend_gate_log_in(&gate, 4000, 1000));
	assert_true(backend_gate_log_in(&gate, 4000, 1500));
	assert_true(backend_gate_log_in(&gate, 4000, 5000));
	assert_int_equal(atomic_load(&gate.logins), BACKEND_GATE_FIRST + 2);
}

static void test_connections_have_a_limit(void **state)
{
	struct backend_gate gate = {0};

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_true(backend_gate_connect(&gate, 3));
	assert_false(backend_gate_connect(&gate, 3));
	assert_int_equal(atomic_load(&gate.connections), 3);
	backend_gate_disconnect(&gate);
	assert_true(backend_gate_connect(&gate, 3));
	assert_false(backend_gate_connect(&gate, 2)); /* a reload has lowered it */
	assert_true(backend_gate_connect(&gate, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_open_as_long_as_nothing_was_down),
		cmocka_unit_test(test_the_window_grows_over_the_time_of_return),
		cmocka_unit_test(test_logins_beyond_the_window_are_not_let_in),
		cmocka_unit_test(test_connections_have_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
