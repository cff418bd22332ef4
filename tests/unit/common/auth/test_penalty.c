/* Penalties for failed logins, on a fake clock: who waits and for how long, what is forgotten, what a flood can do, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>

#include "common/auth/penalty.h"
#include "common/base/clock.h"
#include "common/base/metrics.h"

#define MINUTE 60000
#define DAY (24 * 60 * MINUTE)

static const struct penalty_limits limits = {.delay_ms = 2000,
	.most_ms = 15000,
	.free = 3,
	.decay_ms = 5 * MINUTE,
	.waiting = 2,
	.known_ms = 30ull * DAY};

static struct penalty *p;

static int setup(void **state)
{
	(void)state;
	clock_fake_start(1700000000000);
	p = penalty_new(1000, 1000, &limits);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	penalty_free(&p);
	clock_fake_stop();
	return 0;
}

static struct addr addr(const char *text)
{
	struct addr a = {0};

	if (*text)
		assert_int_equal(addr_parse(slice_str(text), 0, &a), 0);
	return a;
}

/* What a login would wait; it is given up at once. -1: refused. */
static int64_t wait_of(const char *client, const char *user)
{
	struct penalty_attempt a;
	struct addr c = addr(client);
	uint64_t ms;

	if (penalty_begin(p, &c, slice_str(user), &a, &ms) < 0)
		return -1;
	penalty_waited(&a);
	return (int64_t)ms;
}

static void end(const char *client, const char *user, const char *password, bool is_right)
{
	struct penalty_attempt a;
	struct addr c = addr(client);
	uint64_t ms;

	assert_int_equal(penalty_begin(p, &c, slice_str(user), &a, &ms), 0);
	penalty_waited(&a);
	if (is_right)
		penalty_passed(&a);
	else
		penalty_failed(&a, slice_str(password));
}

/* times different wrong passwords. */
static void fail_times(const char *client, const char *user, unsigned times)
{
	static unsigned serial;

	for (unsigned i = 0; i < times; i++) {
		char password[16];

		snprintf(password, sizeof(password), "guess%u", serial++);
		end(client, user, password, false);
	}
}

static void test_the_delay_doubles_up_to_its_cap(void **state)
{
	static const int64_t want[] = {0, 0, 0, 0, 2000, 4000, 8000, 15000, 15000, 15000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		char user[16];

		/* Each time another user: it is the address that pays. */
		snprintf(user, sizeof(user), "u%zu", i);
		assert_int_equal(wait_of("192.0.2.1", user), want[i]);
		fail_times("192.0.2.1", user, 1);
	}
	assert_int_equal(wait_of("192.0.2.2", "u1"), 0);
}

static void test_a_user_attacked_from_many_addresses_has_a_delay_elsewhere(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		char from[16];

		snprintf(from, sizeof(from), "192.0.2.%u", i);
		fail_times(from, "alice@example.com", 1);
	}
	assert_int_equal(wait_of("198.51.100.1", "alice@example.com"), 15000);
	assert_int_equal(wait_of("198.51.100.1", "bob@example.com"), 0);
	/* A detail makes no other user. */
	assert_int_equal(wait_of("198.51.100.1", "alice+x@example.com"), 15000);
	assert_int_equal(wait_of("198.51.100.1", "alice@example.org"), 0);
}

static void test_failures_are_forgotten_one_by_one(void **state)
{
	(void)state;
	fail_times("192.0.2.1", "alice", 5);
	assert_int_equal(wait_of("192.0.2.1", "x"), 4000);
	clock_fake_advance(5 * MINUTE - 1);
	assert_int_equal(wait_of("192.0.2.1", "x"), 4000);
	clock_fake_advance(1);
	assert_int_equal(wait_of("192.0.2.1", "x"), 2000);
	clock_fake_advance(5 * MINUTE);
	assert_int_equal(wait_of("192.0.2.1", "x"), 0);
	clock_fake_advance(30 * MINUTE);
	fail_times("192.0.2.1", "alice", 3);
	assert_int_equal(wait_of("192.0.2.1", "x"), 0);
	fail_times("192.0.2.1", "alice", 1);
	assert_int_equal(wait_of("192.0.2.1", "x"), 2000);
	/* However long it lasted: after PENALTY_SCORE_MOST times the decay all is well again. */
	fail_times("192.0.2.1", "alice", 1000);
	clock_fake_advance((uint64_t)PENALTY_SCORE_MOST * 5 * MINUTE);
	assert_int_equal(wait_of("192.0.2.1", "x"), 0);
}

static void test_ipv6_counts_by_its_64(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 5; i++) {
		char from[40];

		snprintf(from, sizeof(from), "2001:db8:0:1::%x", i);
		fail_times(from, "x", 1);
	}
	assert_int_equal(wait_of("2001:db8:0:1:ffff::1", "y"), 4000);
	assert_int_equal(wait_of("2001:db8:0:2::1", "y"), 0);
	fail_times("192.0.2.9", "z", 5);
	assert_int_equal(wait_of("::ffff:192.0.2.9", "y"), 4000);
	assert_int_equal(wait_of("::ffff:192.0.2.8", "y"), 0);
}

/* A phone with an old password tries it for ever. */
static void test_the_same_wrong_password_counts_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		end("192.0.2.1", "alice", "old password", false);
	assert_int_equal(wait_of("192.0.2.1", "alice"), 0);
	for (unsigned i = 0; i < 100; i++)
		end("192.0.2.1", "alice", i % 2 ? "old password" : "older password", false);
	assert_int_equal(wait_of("192.0.2.1", "alice"), 0);
	/* The same password tried with other users is other guesses. */
	end("192.0.2.1", "bob", "old password", false);
	end("192.0.2.1", "carol", "old password", false);
	assert_int_equal(wait_of("192.0.2.1", "alice"), 2000);
	/* What cannot be told from another counts each time. */
	end("192.0.2.1", "alice", "", false);
	end("192.0.2.1", "alice", "", false);
	assert_int_equal(wait_of("192.0.2.1", "alice"), 8000);
}

/* The enemies of a user cannot lock him out: where he has logged in, nothing delays him. */
static void security_a_known_good_address_never_waits(void **state)
{
	(void)state;
	end("192.0.2.1", "alice@example.com", "right", true);
	for (unsigned i = 0; i < 50; i++) {
		char from[16];

		snprintf(from, sizeof(from), "198.51.100.%u", i);
		fail_times(from, "alice@example.com", 3);
	}
	fail_times("192.0.2.1", "mallory", 50);
	fail_times("192.0.2.1", "alice@example.com", 50);
	assert_int_equal(wait_of("192.0.2.1", "alice@example.com"), 0);
	/* Neither another user there, nor the same one elsewhere, nor another with a detail. */
	assert_int_equal(wait_of("192.0.2.1", "bob@example.com"), 15000);
	assert_int_equal(wait_of("203.0.113.1", "alice@example.com"), 15000);
	assert_int_equal(wait_of("192.0.2.1", "alice+other@example.com"), 15000);
	/* Good for 30 days since the last time. */
	clock_fake_advance(29ull * DAY);
	end("192.0.2.1", "alice@example.com", "right", true);
	clock_fake_advance(29ull * DAY);
	fail_times("192.0.2.1", "mallory", 50);
	assert_int_equal(wait_of("192.0.2.1", "alice@example.com"), 0);
	clock_fake_advance(2ull * DAY);
	fail_times("192.0.2.1", "mallory", 50);
	assert_int_equal(wait_of("192.0.2.1", "alice@example.com"), 15000);
}

/* The right password of one's own account takes nothing off one's guesses at others'. */
static void security_a_success_does_not_clear_the_address(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		fail_times("192.0.2.1", "alice", 1);
		end("192.0.2.1", "mallory", "mine", true);
	}
	assert_int_equal(wait_of("192.0.2.1", "alice"), 15000);
	assert_int_equal(wait_of("192.0.2.1", "mallory"), 0);
}

static void test_known_good_addresses_are_few(void **state)
{
	char from[24];

	(void)state;
	for (unsigned i = 0; i <= PENALTY_KNOWN_MOST; i++) {
		snprintf(from, sizeof(from), "192.0.2.%u", i);
		end(from, "alice", "right", true);
		clock_fake_advance(1000);
	}
	fail_times("198.51.100.1", "alice", 20);
	assert_int_equal(wait_of("192.0.2.0", "alice"), 15000); /* gave way to the last */
	for (unsigned i = 1; i <= PENALTY_KNOWN_MOST; i++) {
		snprintf(from, sizeof(from), "192.0.2.%u", i);
		assert_int_equal(wait_of(from, "alice"), 0);
	}
}

/* One who may log in as mallory+anything pushes out addresses of his own alone. */
static void security_details_displace_nobody(void **state)
{
	char user[32];

	(void)state;
	end("192.0.2.1", "alice", "right", true);
	end("192.0.2.1", "bob+x", "right", true);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(user, sizeof(user), "mallory+%u", i);
		clock_fake_advance(1);
		end("203.0.113.1", user, "mine", true);
	}
	fail_times("192.0.2.1", "x", 20);
	assert_int_equal(wait_of("192.0.2.1", "alice"), 0);
	assert_int_equal(wait_of("192.0.2.1", "bob+x"), 0);
	assert_int_equal(wait_of("192.0.2.1", "bob"), 15000);
	assert_int_equal(wait_of("192.0.2.1", "bob+y"), 15000);
}

/* Failures of any number of made-up names and addresses push out nobody who matters. */
static void security_a_flood_flushes_nothing_that_matters(void **state)
{
	char from[40], user[32];

	(void)state;
	end("192.0.2.1", "bob", "right", true);
	fail_times("198.51.100.1", "alice", 8);
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(from, sizeof(from), "2001:db8:%x:%x::1", i >> 8, i & 255);
		snprintf(user, sizeof(user), "nobody%u", i);
		fail_times(from, user, 1);
	}
	/* 1000 places, rounded up. */
	assert_in_range(
		metric_get(metrics_gauge("mailtier_auth_penalty_entries", "kind=\"user\"", "")), 900, 1024);
	assert_int_equal(wait_of("198.51.100.1", "x"), 15000);
	assert_int_equal(wait_of("203.0.113.1", "alice"), 15000);
	fail_times("198.51.100.2", "bob", 20);
	assert_int_equal(wait_of("192.0.2.1", "bob"), 0);
}

static void count_real(void *arg, const struct penalty_record *r)
{
	*(unsigned *)arg += r->is_user && r->failures > 1;
}

static unsigned count_users(void)
{
	unsigned count = 0;
	size_t at = 0;

	while (penalty_each(p, &at, count_real, &count))
		;
	return count;
}

/* Where all places are taken by records that matter, a few newcomers push out none of them. */
static void security_a_full_table_keeps_what_it_has(void **state)
{
	char user[32];
	unsigned before;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(user, sizeof(user), "attacked%u", i);
		fail_times("198.51.100.1", user, 20);
	}
	before = count_users();
	assert_true(before > 500);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(user, sizeof(user), "newcomer%u", i);
		fail_times("198.51.100.1", user, 1);
	}
	assert_int_equal(count_users(), before);
}

/* Whoever has filled all places does not keep another's record out for ever. */
static void security_a_full_table_wears_down(void **state)
{
	char user[32];

	(void)state;
	for (unsigned i = 0; i < 8000; i++) {
		snprintf(user, sizeof(user), "squatter%u", i);
		fail_times("198.51.100.1", user, 4);
	}
	fail_times("198.51.100.9", "victim", 20);
	assert_int_equal(wait_of("203.0.113.1", "victim"), 15000);
}

static void test_too_many_that_wait_are_refused(void **state)
{
	struct penalty_attempt a[3];
	struct addr bad = addr("192.0.2.1");
	uint64_t ms;

	(void)state;
	fail_times("192.0.2.1", "x", 4);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(penalty_begin(p, &bad, SLICE_LIT("y"), &a[i], &ms), 0);
		assert_int_equal(ms, 2000);
	}
	assert_int_equal(penalty_begin(p, &bad, SLICE_LIT("y"), &a[2], &ms), ERR_FULL);
	penalty_failed(&a[2], SLICE_LIT("never tried")); /* nothing: it was refused */
	assert_int_equal(wait_of("192.0.2.2", "y"), 0);
	end("192.0.2.3", "y", "", true);
	assert_int_equal(wait_of("192.0.2.3", "y"), 0);
	/* One goes: there is room for one. Twice is as once. */
	penalty_waited(&a[0]);
	penalty_waited(&a[0]);
	assert_int_equal(penalty_begin(p, &bad, SLICE_LIT("y"), &a[2], &ms), 0);
	assert_int_equal(wait_of("192.0.2.1", "y"), -1);
	/* Clearing forgets failures, not who waits. */
	assert_int_equal(penalty_clear_address(p, &bad), 0);
	assert_int_equal(wait_of("192.0.2.1", "y"), 0);
	fail_times("192.0.2.1", "w", 4);
	assert_int_equal(wait_of("192.0.2.1", "y"), -1);
	penalty_failed(&a[1], SLICE_LIT("1"));
	penalty_passed(&a[2]);
	assert_int_equal(wait_of("192.0.2.1", "z"), 4000);
}

static void test_switched_off(void **state)
{
	struct penalty_limits off = limits;

	(void)state;
	fail_times("192.0.2.1", "x", 20);
	off.delay_ms = 0;
	penalty_set_limits(p, &off);
	assert_int_equal(wait_of("192.0.2.1", "x"), 0);
	fail_times("192.0.2.1", "x", 20);
	/* No address is known good. */
	off = limits;
	off.known_ms = 0;
	penalty_set_limits(p, &off);
	end("192.0.2.1", "x", "right", true);
	assert_int_equal(wait_of("192.0.2.1", "x"), 15000);
	/* A socket file's clients have no address; without a table there is nothing to wait for. */
	assert_int_equal(wait_of("/run/x.sock", "x"), 0);
	assert_int_equal(wait_of("", "x"), 0);
	penalty_free(&p);
	assert_int_equal(wait_of("192.0.2.1", "x"), 0);
}

struct seen {
	char text[1024];
	unsigned count;
};

static void see(void *arg, const struct penalty_record *r)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof(s->text) - n, "%s %s %u %u %u %u;", r->is_user ? "user" : "address",
		r->name, r->failures, (unsigned)r->delay_ms, r->waiting, (unsigned)r->since_ms);
	s->count++;
}

static void see_all(struct seen *s)
{
	size_t at = 0;

	*s = (struct seen){0};
	while (penalty_each(p, &at, see, s))
		;
}

static void test_operators_see_and_clear(void **state)
{
	struct addr a6 = addr("2001:db8::5"), a4 = addr("192.0.2.1");
	char name[80];
	struct seen s;

	(void)state;
	see_all(&s);
	assert_int_equal(s.count, 0);
	fail_times("2001:db8::1", "alice+x@example.com", 4);
	fail_times("192.0.2.1", "bob", 1);
	clock_fake_advance(3000);
	see_all(&s);
	assert_int_equal(s.count, 4);
	assert_non_null(strstr(s.text, "address 2001:db8::/64 4 2000 0 3000;"));
	assert_non_null(strstr(s.text, "user alice@example.com 4 2000 0 3000;"));
	assert_non_null(strstr(s.text, "address 192.0.2.1 1 0 0 3000;"));
	assert_non_null(strstr(s.text, "user bob 1 0 0 3000;"));
	penalty_address_name(&a6, name, sizeof(name));
	assert_string_equal(name, "2001:db8::/64");
	assert_int_equal(penalty_clear_address(p, &a6), 0);
	assert_int_equal(penalty_clear_address(p, &a6), ERR_NOT_FOUND);
	assert_int_equal(penalty_clear_user(p, SLICE_LIT("alice@example.com")), 0);
	assert_int_equal(penalty_clear_user(p, SLICE_LIT("nobody")), ERR_NOT_FOUND);
	assert_int_equal(wait_of("2001:db8::1", "alice@example.com"), 0);
	assert_int_equal(penalty_clear_all(p), 2);
	assert_int_equal(penalty_clear_address(p, &a4), ERR_NOT_FOUND);
	see_all(&s);
	assert_int_equal(s.count, 0);
}

/* All at once, for the thread sanitizer; and the count of those that wait comes back to none. */
static void *hammer(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	struct penalty_limits mine = limits;

	for (unsigned i = 0; i < 3000; i++) {
		struct penalty_attempt a;
		struct addr from;
		char text[32], user[16];
		uint64_t ms;
		struct seen s = {0};
		size_t at = 0;

		snprintf(text, sizeof(text), "192.0.2.%u", (i * 7 + seed) % 20);
		snprintf(user, sizeof(user), "u%u", i % 30);
		if (addr_parse(slice_str(text), 0, &from) < 0 ||
			penalty_begin(p, &from, slice_str(user), &a, &ms) < 0)
			continue;
		if (i % 3 == 0)
			penalty_passed(&a);
		else if (i % 3 == 1)
			penalty_failed(&a, slice_str(text));
		else
			penalty_waited(&a);
		if (i % 500 == 0)
			(void)penalty_each(p, &at, see, &s);
		if (i % 700 == 0)
			(void)penalty_clear_all(p);
		if (i % 900 == 0)
			penalty_set_limits(p, &mine);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	pthread_t threads[4];
	struct seen s;

	(void)state;
	for (uintptr_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)i), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	(void)penalty_clear_all(p);
	see_all(&s); /* a record that had waiting logins left would be shown */
	assert_int_equal(s.count, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_the_delay_doubles_up_to_its_cap),
		T(test_a_user_attacked_from_many_addresses_has_a_delay_elsewhere),
		T(test_failures_are_forgotten_one_by_one),
		T(test_ipv6_counts_by_its_64),
		T(test_the_same_wrong_password_counts_once),
		T(security_a_known_good_address_never_waits),
		T(security_a_success_does_not_clear_the_address),
		T(test_known_good_addresses_are_few),
		T(security_a_flood_flushes_nothing_that_matters),
		T(security_details_displace_nobody),
		T(security_a_full_table_keeps_what_it_has),
		T(security_a_full_table_wears_down),
		T(test_too_many_that_wait_are_refused),
		T(test_switched_off),
		T(test_operators_see_and_clear),
		T(test_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
