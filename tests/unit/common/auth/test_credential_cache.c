/* The cache of checked credentials: its key, its bounds, its expiry; checks by workers, joined, cancelled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "common/auth/credential_cache.h"
#include "common/base/clock.h"

static const struct credential alice = {.realm = {"users", 5},
	.generation = 1,
	.service = {"imap", 4},
	.user = {"alice@example.com", 17},
	.stored = {"{CRYPT}x", 8},
	.password = {"secret", 6}};

/* Each field that differs makes another credential; so does the same text cut elsewhere. */
static void security_07_the_key_is_the_whole_tuple(void **state)
{
	struct credential others[10];
	struct credential_cache *cache = credential_cache_new(60000, 1000);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		others[i] = alice;
	others[0].realm = SLICE_LIT("other");
	others[1].generation = 2;
	others[2].service = SLICE_LIT("pop3");
	others[3].user = SLICE_LIT("bob@example.com");
	others[4].stored = SLICE_LIT("{CRYPT}y");
	others[5].password = SLICE_LIT("Secret");
	others[6].user = SLICE_LIT("alice@example.co");
	others[6].stored = SLICE_LIT("m{CRYPT}x");
	others[7].password = SLICE_LIT("secret ");
	others[8].service = SLICE_LIT("");
	others[9].stored = SLICE_LIT("{CRYPT}xs");
	others[9].password = SLICE_LIT("ecret");
	assert_false(credential_cache_has(cache, &alice));
	credential_cache_add(cache, &alice);
	assert_true(credential_cache_has(cache, &alice));
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (credential_cache_has(cache, &others[i]))
			fail_msg("row %zu is taken for alice", i);
	}
	credential_cache_flush(cache);
	assert_false(credential_cache_has(cache, &alice));
	credential_cache_free(&cache);
}

static void test_what_is_remembered_expires(void **state)
{
	struct credential_cache *cache;

	(void)state;
	clock_fake_start(1000000);
	cache = credential_cache_new(600000, 1000);
	credential_cache_add(cache, &alice);
	clock_fake_advance(599999);
	assert_true(credential_cache_has(cache, &alice));
	clock_fake_advance(2);
	assert_false(credential_cache_has(cache, &alice));
	/* Lifetime 0: nothing is remembered. */
	credential_cache_set_lifetime(cache, 0);
	credential_cache_add(cache, &alice);
	assert_false(credential_cache_has(cache, &alice));
	credential_cache_free(&cache);
	clock_fake_stop();
}

static void test_it_stays_bounded_and_keeps_the_newest(void **state)
{
	struct credential_cache *cache = credential_cache_new(60000, 256);
	unsigned held = 0;

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		struct credential c = alice;

		c.generation = i;
		credential_cache_add(cache, &c);
		assert_true(credential_cache_has(cache, &c));
	}
	for (unsigned i = 0; i < 5000; i++) {
		struct credential c = alice;

		c.generation = i;
		held += credential_cache_has(cache, &c);
	}
	assert_in_range(held, 100, 256);
	credential_cache_free(&cache);
}

/* ---- with workers ---- */

struct asked {
	struct loop *loop;
	unsigned want, got;
	int verdicts[64];
};

static void on_verdict(void *arg, int verdict)
{
	struct asked *a = arg;

	a->verdicts[a->got++] = verdict;
	if (a->got == a->want)
		loop_stop(a->loop);
}

struct bench {
	struct loop *loop;
	struct work_pool *pool;
	struct credential_cache *cache;
	struct buf stored;
	struct credential c;
};

static void bench_begin(struct bench *b, unsigned threads, unsigned queue)
{
	*b = (struct bench){.c = alice};
	assert_int_equal(loop_new(&b->loop), 0);
	assert_int_equal(work_pool_new("test-hash", threads, queue, &b->pool), 0);
	b->cache = credential_cache_new(60000, 1000);
	assert_int_equal(password_make("PBKDF2-SHA256", SLICE_LIT("secret"), &b->stored), 0);
	b->c.stored = buf_view(&b->stored);
}

static void on_end(void *arg)
{
	loop_stop(arg);
}

/* Lets what still comes home come home. */
static void bench_end(struct bench *b)
{
	work_pool_free(&b->pool);
	credential_cache_free(&b->cache);
	loop_post(b->loop, on_end, b->loop);
	loop_run(b->loop);
	loop_free(&b->loop);
	buf_deinit(&b->stored);
}

static void test_a_slow_hash_is_paid_once(void **state)
{
	struct credential_check *check = NULL;
	struct asked a = {.want = 1};
	struct bench b;
	int verdict;

	(void)state;
	bench_begin(&b, 1, 10);
	a.loop = b.loop;
	assert_int_equal(
		credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &check), 0);
	loop_run(b.loop);
	assert_int_equal(a.verdicts[0], 0);
	verdict = 1;
	assert_int_equal(
		credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &check), 1);
	assert_int_equal(verdict, 0);
	/* A wrong one is not remembered: neither for yes nor for no. */
	b.c.password = SLICE_LIT("wrong");
	for (unsigned i = 0; i < 2; i++) {
		a.got = 0;
		assert_int_equal(
			credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &check), 0);
		loop_run(b.loop);
		assert_int_equal(a.verdicts[0], ERR_DENIED);
	}
	/* Neither an empty password nor a NUL ever reaches a worker. */
	b.c.password = SLICE_LIT("");
	assert_int_equal(
		credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &check), 1);
	assert_int_equal(verdict, ERR_DENIED);
	bench_end(&b);
}

static void test_the_same_check_is_done_once_at_a_time(void **state)
{
	struct credential_check *checks[20];
	struct asked a = {.want = 15};
	struct bench b;
	int verdict;

	(void)state;
	bench_begin(&b, 1, 1);
	a.loop = b.loop;
	/* The queue holds one job: nineteen more can only wait for the first. */
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(
			credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &checks[i]),
			0);
	/* Whoever gives up, the first one too, harms nobody else. */
	for (unsigned i = 0; i < 20; i += 4)
		credential_check_cancel(&checks[i]);
	loop_run(b.loop);
	assert_int_equal(a.got, 15);
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(a.verdicts[i], 0);
	bench_end(&b);
}

static void test_a_full_queue_is_not_now(void **state)
{
	struct credential_check *checks[3];
	struct asked a = {.want = 64};
	struct bench b;
	unsigned refused = 0;

	(void)state;
	bench_begin(&b, 1, 1);
	a.loop = b.loop;
	for (unsigned i = 0; i < 3; i++) {
		int verdict = 1;

		b.c.generation = i;
		if (credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &checks[i])) {
			assert_int_equal(verdict, ERR_NOT_NOW);
			refused++;
		}
	}
	assert_in_range(refused, 1, 2);
	bench_end(&b);
}

/* A stored text that no longer makes sense says neither yes nor no. */
static void test_a_bad_stored_text_is_not_now(void **state)
{
	struct credential_check *check;
	struct asked a = {.want = 1};
	struct bench b;
	int verdict;

	(void)state;
	bench_begin(&b, 1, 4);
	a.loop = b.loop;
	b.c.stored = SLICE_LIT(
		"{ARGON2ID}$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$xxxxxxxxxxxxxxxxxxxxxxxxxx");
	assert_int_equal(
		credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &check), 0);
	loop_run(b.loop);
	assert_int_equal(a.verdicts[0], ERR_NOT_NOW);
	b.c.stored = SLICE_LIT("{SSHA}x");
	assert_int_equal(
		credential_check(b.cache, b.pool, b.loop, &b.c, on_verdict, &a, &verdict, &check), 1);
	assert_int_equal(verdict, ERR_NOT_NOW);
	bench_end(&b);
}

/* Several loops ask the same and different things at once; one thread forgets all now and then. */
struct many {
	struct bench *bench;
	_Atomic unsigned right, wrong, other;
	_Atomic unsigned ended;
};

struct one {
	struct many *many;
	struct loop *loop;
	unsigned left;
	unsigned n;
};

static void one_next(void *arg);

static void one_verdict(void *arg, int verdict)
{
	struct one *o = arg;

	if (verdict == 0)
		o->many->right++;
	else if (verdict == ERR_DENIED)
		o->many->wrong++;
	else
		o->many->other++;
	loop_post(o->loop, one_next, o);
}

static void one_next(void *arg)
{
	struct one *o = arg;
	struct credential c = o->many->bench->c;
	struct credential_check *check;
	int verdict;

	if (o->left-- == 0) {
		o->many->ended++;
		return;
	}
	c.generation = o->left % 7;
	if (o->left % 3 == 0)
		c.password = SLICE_LIT("wrong");
	if (o->left % 11 == 0)
		credential_cache_flush(o->many->bench->cache);
	if (credential_check(o->many->bench->cache, o->many->bench->pool, o->loop, &c, one_verdict, o,
		    &verdict, &check))
		one_verdict(o, verdict);
}

static void test_many_loops_ask_at_once(void **state)
{
	enum {
		LOOPS = 3,
		EACH = 60
	};
	struct loop_group *group;
	struct bench b;
	struct many m = {.bench = &b};
	struct one ones[LOOPS];

	(void)state;
	bench_begin(&b, 2, 100);
	buf_clear(&b.stored);
	buf_add_str(&b.stored,
		"{PBKDF2-SHA256}1000$..9zYWx0c2FsdHNhbHQ$WwwLcAiNwiOPXp/QwDflQJOs.bhTurNvR43BkYccSLs");
	b.c.stored = buf_view(&b.stored);
	b.c.password = SLICE_LIT("s3cret-Pa\xc3\x9f");
	assert_int_equal(loop_group_start(LOOPS, &group), 0);
	for (unsigned i = 0; i < LOOPS; i++) {
		ones[i] = (struct one){.many = &m, .loop = loop_group_at(group, i), .left = EACH, .n = i};
		loop_post(ones[i].loop, one_next, &ones[i]);
	}
	for (unsigned i = 0; i < 20000 && m.ended < LOOPS; i++) {
		struct timespec ms = {.tv_nsec = 1000000};

		nanosleep(&ms, NULL);
	}
	assert_int_equal(m.ended, LOOPS);
	loop_group_stop(&group);
	assert_int_equal(m.wrong, LOOPS * EACH / 3);
	assert_int_equal(m.right, LOOPS * EACH * 2 / 3);
	assert_int_equal(m.other, 0);
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(security_07_the_key_is_the_whole_tuple),
		cmocka_unit_test(test_what_is_remembered_expires),
		cmocka_unit_test(test_it_stays_bounded_and_keeps_the_newest),
		cmocka_unit_test(test_a_slow_hash_is_paid_once),
		cmocka_unit_test(test_the_same_check_is_done_once_at_a_time),
		cmocka_unit_test(test_a_full_queue_is_not_now),
		cmocka_unit_test(test_a_bad_stored_text_is_not_now),
		cmocka_unit_test(test_many_loops_ask_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
