/* The spool in memory and in its file, at the marks, and with its disk gone. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "common/net/spool.h"

#define TOTAL 300007

static char content[TOTAL];

static void test_what_goes_in_comes_out(void **state)
{
	static const size_t marks[] = {0, 1, 65536, TOTAL - 1, TOTAL, 1 << 20};
	static char got[TOTAL];

	(void)state;
	for (size_t i = 0; i < TOTAL; i++)
		content[i] = (char)(i * 17 + i / 251);
	for (size_t m = 0; m < ARRAY_LEN(marks); m++) {
		struct spool *spool = spool_new(marks[m], 0);
		size_t at = 0;

		for (size_t piece = 1; at < TOTAL; piece = piece * 3 % 70001) {
			size_t len = piece < TOTAL - at ? piece : TOTAL - at;

			assert_int_equal(spool_add(spool, slice_of(content + at, len)), 0);
			at += len;
		}
		assert_int_equal(spool_len(spool), TOTAL);
		for (size_t step = 4093; step < TOTAL * 2; step *= 9) {
			ssize_t n;

			memset(got, 0, sizeof(got));
			at = 0;
			while ((n = spool_read(spool, at, got + at, step < TOTAL - at ? step : TOTAL - at)) >
				0)
				at += (size_t)n;
			assert_int_equal(n, 0);
			assert_int_equal(at, TOTAL);
			assert_memory_equal(got, content, TOTAL);
		}
		assert_int_equal(spool_read(spool, TOTAL, got, 1), 0);
		assert_int_equal(spool_read(spool, UINT64_MAX, got, 1), 0);
		assert_int_equal(spool_view(spool).p != NULL, marks[m] >= TOTAL);
		spool_free(&spool);
		assert_null(spool);
	}
}

static void test_the_size_has_a_limit(void **state)
{
	struct spool *spool = spool_new(10, 100);

	(void)state;
	assert_int_equal(spool_add(spool, slice_of(content, 100)), 0);
	assert_int_equal(spool_add(spool, slice_of(content, 1)), ERR_TOO_BIG);
	assert_int_equal(spool_add(spool, slice_of(content, 0)), ERR_TOO_BIG); /* sticky */
	assert_int_equal(spool_len(spool), 100);
	spool_free(&spool);
	spool = spool_new(10, 100);
	assert_int_equal(spool_add(spool, slice_of(content, 101)), ERR_TOO_BIG);
	spool_free(&spool);
}

static void test_a_failing_disk_is_told(void **state)
{
	struct rlimit before, tight;
	struct spool *spool;

	(void)state;
	spool_set_directory("/nonexistent");
	spool = spool_new(10, 0);
	assert_int_equal(spool_add(spool, slice_of(content, 10)), 0);
	assert_int_equal(spool_add(spool, slice_of(content, 1)), ERR_IO);
	assert_int_equal(spool_add(spool, slice_of(content, 1)), ERR_IO);
	spool_free(&spool);
	spool_set_directory("/tmp");
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	tight = before;
	tight.rlim_cur = 100000;
	setrlimit(RLIMIT_FSIZE, &tight);
	spool = spool_new(10, 0);
	assert_int_equal(spool_add(spool, slice_of(content, 90000)), 0);
	assert_true(spool_add(spool, slice_of(content, 90000)) != 0);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_true(spool_add(spool, slice_of(content, 1)) != 0);
	spool_free(&spool);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_goes_in_comes_out),
		cmocka_unit_test(test_the_size_has_a_limit),
		cmocka_unit_test(test_a_failing_disk_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
