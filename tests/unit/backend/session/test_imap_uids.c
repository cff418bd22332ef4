/* The list against one in an array: what is added, taken out and looked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/session/imap_uids.h"

#define MOST 40000

static uint32_t seed = 7;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)(((uint64_t)(seed >> 4) * below) >> 28);
}

static size_t octets(const struct imap_uids *u)
{
	size_t n = u->span_room * sizeof(*u->spans);

	for (size_t i = 0; i < u->span_count; i++)
		n += u->spans[i].listed ? u->spans[i].count * sizeof(uint32_t) : 0;
	return n;
}

static uint32_t lower(const uint32_t *model, uint32_t count, uint32_t uid)
{
	uint32_t at = 0;

	while (at < count && model[at] < uid)
		at++;
	return at;
}

static void compare(const struct imap_uids *u, const uint32_t *model, uint32_t count)
{
	static uint32_t copy[MOST];
	struct imap_uids_walk walk = imap_uids_walk(u, 0);
	uint32_t from = count ? any(count) : 0;

	assert_int_equal(u->count, count);
	assert_int_equal(imap_uids_last(u), count ? model[count - 1] : 0);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(imap_uids_at(u, i), model[i]);
		assert_int_equal(imap_uids_peek(&walk), model[i]);
		assert_int_equal(imap_uids_lower(u, model[i]), i);
		imap_uids_step(&walk);
	}
	assert_int_equal(imap_uids_peek(&walk), 0);
	imap_uids_copy(u, from, count - from, copy);
	assert_memory_equal(copy, model + from, (count - from) * sizeof(*copy));
	walk = imap_uids_walk(u, from);
	assert_int_equal(imap_uids_peek(&walk), count ? model[from] : 0);
	for (int i = 0; i < 50; i++) {
		uint32_t uid = any(count ? model[count - 1] + 20 : 20);

		assert_int_equal(imap_uids_lower(u, uid), lower(model, count, uid));
	}
	assert_true(octets(u) <= 8 * (size_t)count + 4096);
}

/* Takes out some of the model and of the list; `one_in` of them, and some that are not there. */
static uint32_t take_out(struct imap_uids *u, uint32_t *model, uint32_t count, uint32_t one_in)
{
	static uint32_t gone[MOST + MOST];
	size_t gone_count = 0;
	uint32_t kept = 0, last = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (model[i] > last + 1 && any(one_in * 4) == 0)
			gone[gone_count++] = model[i] - 1; /* in a gap */
		last = model[i];
		if (any(one_in))
			model[kept++] = model[i];
		else
			gone[gone_count++] = model[i];
	}
	imap_uids_remove(u, gone, gone_count);
	return kept;
}

static void test_it_is_a_list(void **state)
{
	static uint32_t model[MOST];

	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		uint32_t count = 0, next = 1 + any(5), longest = 1 + any(round % 3 ? 40 : 3000);
		struct imap_uids u = {0};

		while (count < 4000) {
			uint32_t run = 1 + any(longest);

			for (uint32_t i = 0; i < run; i++)
				model[count + i] = next + i;
			if (round % 2)
				imap_uids_add(&u, next, run);
			for (uint32_t i = 0; !(round % 2) && i < run; i++)
				imap_uids_add(&u, next + i, 1);
			count += run;
			next += run + any(round % 5 ? 3 : 1);
		}
		compare(&u, model, count);
		for (uint32_t one_in = 400; count && one_in; one_in = one_in / 3) {
			count = take_out(&u, model, count, one_in);
			compare(&u, model, count);
			if (count && count < MOST) { /* and what comes behind */
				model[count] = next++;
				imap_uids_add(&u, model[count], 1);
				count++;
			}
		}
		compare(&u, model, count);
		imap_uids_deinit(&u);
	}
}

static void test_it_is_small(void **state)
{
	struct imap_uids u = {0};
	uint32_t gone[] = {77, 500000, 999999};

	(void)state;
	imap_uids_add(&u, 1, 1000000);
	assert_true(octets(&u) <= 256);
	imap_uids_remove(&u, gone, 3);
	assert_int_equal(u.count, 999997);
	assert_true(octets(&u) <= 256);
	assert_int_equal(imap_uids_at(&u, 999996), 1000000);
	for (uint32_t uid = 1000001; uid <= 1100000; uid++) /* one by one they are a stretch, too */
		imap_uids_add(&u, uid, 1);
	assert_true(octets(&u) <= 512);
	imap_uids_deinit(&u);
	for (uint32_t uid = 1; uid < 2000000; uid += 2) /* the worst */
		imap_uids_add(&u, uid, 1);
	assert_true(octets(&u) <= 4200000);
	assert_int_equal(imap_uids_lower(&u, 1000000), 500000);
	imap_uids_deinit(&u);
}

static void test_the_highest(void **state)
{
	struct imap_uids u = {0};
	uint32_t gone[] = {UINT32_MAX - 40};

	(void)state;
	imap_uids_add(&u, UINT32_MAX - 100, 100);
	assert_int_equal(imap_uids_last(&u), UINT32_MAX - 1);
	assert_int_equal(imap_uids_lower(&u, UINT32_MAX), 100);
	imap_uids_remove(&u, gone, 1);
	assert_int_equal(u.count, 99);
	assert_int_equal(imap_uids_last(&u), UINT32_MAX - 1);
	imap_uids_remove(&u, NULL, 0);
	assert_int_equal(u.count, 99);
	imap_uids_deinit(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_a_list),
		cmocka_unit_test(test_it_is_small),
		cmocka_unit_test(test_the_highest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
