/* The timing wheel under a fake clock: never early, at most a tick late, at every distance. */
#include "tests/unit/common/net/net_test.h"

#include "common/base/clock.h"

#define TICK_MS 16

static struct loop *loop;

static int set_up(void **state)
{
	(void)state;
	clock_fake_start(0);
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(&loop);
	clock_fake_stop();
	return 0;
}

static void one_turn(void)
{
	loop_post(loop, stop_loop, loop);
	loop_run(loop);
}

struct alarm {
	struct timer timer;
	uint64_t due_ms, fired_ms;
};

static void on_alarm(void *arg)
{
	struct alarm *alarm = arg;

	assert_int_equal(alarm->fired_ms, 0);
	assert_false(timer_is_set(&alarm->timer));
	alarm->fired_ms = clock_mono_ms();
}

static void alarm_set(struct alarm *alarm, uint64_t after_ms)
{
	alarm->due_ms = clock_mono_ms() + after_ms;
	timer_set(&alarm->timer, loop, after_ms);
}

static void test_distances(void **state)
{
	static const uint64_t distances[] = {0, 1, 15, 16, 17, 100, 4079, 4080, 4095, 4096, 4097, 5000, 8192,
		60000, 1044480, 1048575, 1048576, 1048577, 2100000, 86400000, 268435455, 268435456,
		300000000};
	static struct alarm alarms[ARRAY_LEN(distances)][7];
	uint64_t step = 1;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(distances); i++) /* from seven places of the wheel */
		for (size_t k = 0; k < 7; k++)
			timer_init(&alarms[i][k].timer, on_alarm, &alarms[i][k]);
	for (size_t k = 0; k < 7; k++) {
		for (size_t i = 0; i < ARRAY_LEN(distances); i++)
			alarm_set(&alarms[i][k], distances[i]);
		clock_fake_advance(k * 1361 + 5);
		one_turn();
	}
	for (uint64_t passed = 0; passed < 310000000; passed += step) {
		step = passed < 20000 ? 7 : passed < 2500000 ? 997 : 499979;
		clock_fake_advance(step);
		one_turn();
	}
	for (size_t i = 0; i < ARRAY_LEN(distances); i++)
		for (size_t k = 0; k < 7; k++) {
			const struct alarm *a = &alarms[i][k];
			uint64_t slack = 8200 + TICK_MS + distances[i] / 100 +
					 (distances[i] > 2400000 ? 500000 : 0); /* our steps */

			if (!a->fired_ms || a->fired_ms < a->due_ms || a->fired_ms > a->due_ms + slack)
				fail_msg("distance %lu at place %lu: due %lu, fired %lu",
					(unsigned long)distances[i], (unsigned long)k,
					(unsigned long)a->due_ms, (unsigned long)a->fired_ms);
		}
}

/* A thousand timers at random distances, moved in small steps: each within a tick. */
static void test_many_fire_within_a_tick(void **state)
{
	static struct alarm alarms[1000];
	uint64_t random = 12345;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(alarms); i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		timer_init(&alarms[i].timer, on_alarm, &alarms[i]);
		alarm_set(&alarms[i], random >> 46); /* up to 262 s */
	}
	for (size_t i = 0; i < ARRAY_LEN(alarms); i += 3)
		timer_stop(&alarms[i].timer);
	for (uint64_t passed = 0; passed < 263000; passed += 4) {
		clock_fake_advance(4);
		one_turn();
	}
	for (size_t i = 0; i < ARRAY_LEN(alarms); i++) {
		if (i % 3 == 0)
			assert_int_equal(alarms[i].fired_ms, 0);
		else
			assert_in_range(alarms[i].fired_ms, alarms[i].due_ms, alarms[i].due_ms + TICK_MS + 4);
	}
}

struct chain {
	struct timer timer, victim;
	int calls;
};

static void on_victim(void *arg)
{
	(void)arg;
	fail_msg("a stopped timer fired");
}

static void on_chain(void *arg)
{
	struct chain *chain = arg;

	timer_stop(&chain->victim);
	if (++chain->calls < 5)
		timer_set(&chain->timer, loop, 10);
}

static void test_a_callback_may_set_and_stop(void **state)
{
	struct chain chain = {.calls = 0};

	(void)state;
	timer_init(&chain.timer, on_chain, &chain);
	timer_init(&chain.victim, on_victim, NULL);
	timer_set(&chain.timer, loop, 10);
	timer_set(&chain.victim, loop, 10);
	timer_set(&chain.victim, loop, 10); /* replaces */
	for (int i = 0; i < 40; i++) {
		clock_fake_advance(4);
		one_turn();
	}
	assert_int_equal(chain.calls, 5);
	assert_false(timer_is_set(&chain.timer));
}

static void test_the_loop_wakes_up_for_a_timer(void **state)
{
	struct alarm alarm = {0};
	uint64_t before;

	(void)state;
	loop_free(&loop);
	clock_fake_stop();
	assert_int_equal(loop_new(&loop), 0);
	before = clock_mono_ms();
	timer_init(&alarm.timer, stop_loop, loop);
	timer_set(&alarm.timer, loop, 60);
	loop_run(loop);
	assert_in_range(clock_mono_ms() - before, 60, 500);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_distances),
		T(test_many_fire_within_a_tick),
		T(test_a_callback_may_set_and_stop),
		T(test_the_loop_wakes_up_for_a_timer),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
