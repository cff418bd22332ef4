/* Watches: many of one account, ended amid a notice, more mailboxes than a hub remembers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/store_work/inner.h"
#include "common/net/loop.h"

#define MANY 1000
#define ACCOUNT 7

struct rig;
struct one {
	struct rig *rig;
	struct store_watch *watch;
	unsigned calls;
	uint32_t mailbox; /* of the last call */
	bool ends_itself, ends_all;
};

struct rig {
	struct store_work work;
	struct loop *loop;
	pthread_t thread;
	struct one ones[MANY];
	unsigned count;
	uint32_t mailbox; /* that is watched */
	_Atomic unsigned calls;
	_Atomic unsigned steps;
};

static void *loop_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void heard(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	struct one *one = arg;

	assert_int_equal(account, ACCOUNT);
	assert_true(modseq > 0);
	assert_non_null(one->watch);
	one->calls++;
	one->mailbox = mailbox;
	if (one->ends_itself)
		store_work_unwatch(&one->watch);
	for (unsigned i = 0; one->ends_all && i < one->rig->count; i++)
		store_work_unwatch(&one->rig->ones[i].watch);
	one->rig->calls++;
}

static void watch_all(void *arg)
{
	struct rig *r = arg;

	for (unsigned i = 0; i < r->count; i++) {
		r->ones[i].rig = r;
		r->ones[i].watch =
			store_work_watch(&r->work, 0, ACCOUNT, r->mailbox, r->loop, heard, &r->ones[i]);
	}
	r->steps++;
}

static void unwatch_all(void *arg)
{
	struct rig *r = arg;

	for (unsigned i = 0; i < r->count; i++)
		store_work_unwatch(&r->ones[i].watch);
	r->steps++;
}

static void step(void *arg)
{
	struct rig *r = arg;

	r->steps++;
}

static void run(struct rig *r, loop_fn *fn)
{
	unsigned before = r->steps;

	loop_post(r->loop, fn, r);
	while (r->steps == before)
		usleep(100);
}

/* All that was posted, and what that posted in turn, has run. */
static void settle(struct rig *r)
{
	for (int i = 0; i < MANY / 100; i++)
		run(r, step);
}

static struct rig *start(unsigned count, uint32_t mailbox)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->count = count;
	r->mailbox = mailbox;
	r->work.watches = watches_new();
	assert_int_equal(loop_new(&r->loop), 0);
	pthread_create(&r->thread, NULL, loop_main, r->loop);
	run(r, watch_all);
	assert_int_equal(watches_count(r->work.watches), count);
	return r;
}

static void stop(struct rig *r)
{
	run(r, unwatch_all);
	assert_int_equal(watches_count(r->work.watches), 0);
	settle(r);
	loop_stop(r->loop);
	pthread_join(r->thread, NULL);
	loop_free(&r->loop);
	watches_free(&r->work.watches);
	free(r);
}

static void tell(struct rig *r, uint32_t mailbox)
{
	struct store_note note = {.account = ACCOUNT, .mailbox = mailbox, .modseq = 1};

	watches_tell(r->work.watches, 0, &note, 1);
}

static void test_each_of_many_hears(void **state)
{
	struct rig *r = start(MANY, 0);
	struct store_note other = {.account = ACCOUNT + 1, .mailbox = 1, .modseq = 1};

	(void)state;
	watches_tell(r->work.watches, 0, &other, 1);
	watches_tell(r->work.watches, 1, &(struct store_note){.account = ACCOUNT, .modseq = 1}, 1);
	tell(r, 3);
	settle(r);
	assert_int_equal(r->calls, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(r->ones[i].calls, 1);
		assert_int_equal(r->ones[i].mailbox, 3);
	}
	stop(r);
}

static void test_what_comes_meanwhile_is_not_lost(void **state)
{
	struct rig *r = start(MANY, 5);

	(void)state;
	for (int i = 0; i < 200; i++) {
		tell(r, 4); /* not watched */
		tell(r, 5);
	}
	settle(r);
	r->calls = 0;
	tell(r, 5);
	settle(r);
	assert_int_equal(r->calls, MANY);
	stop(r);
}

static void test_ended_amid_a_notice(void **state)
{
	struct rig *r = start(MANY, 0);

	(void)state;
	for (unsigned i = 0; i < MANY; i += 2)
		r->ones[i].ends_itself = true;
	tell(r, 1);
	tell(r, 2); /* those that have ended hear no more */
	settle(r);
	for (unsigned i = 0; i < MANY; i += 2)
		assert_int_equal(r->ones[i].calls, 1);
	assert_int_equal(watches_count(r->work.watches), MANY / 2);
	/* One ends all: the next, those already told, itself. */
	r->ones[MANY / 2 + 1].ends_all = true;
	tell(r, 3);
	settle(r);
	assert_int_equal(watches_count(r->work.watches), 0);
	r->calls = 0;
	tell(r, 4);
	settle(r);
	assert_int_equal(r->calls, 0);
	stop(r);
}

static void hold_up(void *arg)
{
	struct rig *r = arg;

	while (r->calls == 0)
		usleep(100);
	r->steps++;
}

/* Who watches one mailbox hears of it, who watches all hears of 0. */
static void test_more_mailboxes_than_are_remembered(void **state)
{
	struct rig *one = start(1, 900), *all = start(1, 0);
	struct rig *both[] = {one, all};

	(void)state;
	for (int k = 0; k < 2; k++) {
		loop_post(both[k]->loop, hold_up, both[k]);
		for (uint32_t mailbox = 801; mailbox <= 900; mailbox++)
			tell(both[k], mailbox);
		both[k]->calls = 1;
		settle(both[k]);
	}
	assert_int_equal(one->ones[0].mailbox, 900);
	assert_int_equal(one->calls, 2);
	assert_int_equal(all->ones[0].mailbox, 0);
	assert_int_equal(all->calls, 2);
	/* And then each by its name again. */
	tell(all, 4);
	settle(all);
	assert_int_equal(all->ones[0].mailbox, 4);
	tell(one, 4);
	settle(one);
	assert_int_equal(one->calls, 2);
	stop(one);
	stop(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_of_many_hears),
		cmocka_unit_test(test_what_comes_meanwhile_is_not_lost),
		cmocka_unit_test(test_ended_amid_a_notice),
		cmocka_unit_test(test_more_mailboxes_than_are_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
