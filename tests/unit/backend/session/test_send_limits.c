/* Counts on a fake clock, and over the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "backend/session/send_limits.h"

#define DAY 86400
#define NOW ((int64_t)20000 * DAY)

static int take(struct send_limits *l, const struct send_allowance *a, uint32_t messages, uint32_t recipients,
	int64_t now)
{
	return send_limits_take(l, slice_str("a@b"), a, messages, recipients, now);
}

static void test_windows_slide(void **state)
{
	const struct send_allowance a = {.messages_hour = 2, .messages_day = 3, .recipients_day = 10};
	struct send_limits *l = send_limits_new();

	(void)state;
	assert_int_equal(take(l, &a, 1, 0, NOW), 0);
	assert_int_equal(take(l, &a, 1, 0, NOW + 100), 0);
	assert_int_equal(take(l, &a, 1, 0, NOW + 200), ERR_TOO_BIG);
	assert_int_equal(take(l, &a, 0, 10, NOW + 200), 0);
	assert_int_equal(take(l, &a, 0, 1, NOW + 200), ERR_TOO_BIG);
	assert_int_equal(take(l, &a, 1, 0, NOW + 3600), 0);
	assert_int_equal(take(l, &a, 1, 0, NOW + 2 * 3600), ERR_TOO_BIG); /* the day's */
	assert_int_equal(take(l, &a, 1, 0, NOW + DAY), 0);
	assert_int_equal(send_limits_take(l, slice_str("c@d"), &a, 1, 0, NOW), 0); /* another's */
	send_limits_free(&l);
}

static void count_one(void *arg, const char *user, const struct send_counts *c)
{
	assert_string_equal(user, "a@b");
	assert_int_equal(c->messages_hour, 2);
	++*(int *)arg;
}

static void test_restart(void **state)
{
	const struct send_allowance a = {.messages_hour = 2};
	struct send_limits *l = send_limits_new();
	char path[] = "/tmp/send-limits-XXXXXX";
	struct send_counts c;
	FILE *file;
	int fd = mkstemp(path), found = 0;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	unlink(path);
	assert_int_equal(send_limits_load(l, path, NOW), 0); /* none yet */
	assert_int_equal(take(l, &a, 2, 5, NOW), 0);
	assert_int_equal(send_limits_save(l, path, NOW), 0);
	send_limits_free(&l);
	l = send_limits_new();
	assert_int_equal(send_limits_load(l, path, NOW + 10), 0);
	assert_int_equal(take(l, &a, 1, 0, NOW + 10), ERR_TOO_BIG);
	send_limits_each(l, NOW + 10, count_one, &found);
	assert_int_equal(found, 1);
	send_limits_counts(l, slice_str("a@b"), NOW + 10, &c);
	assert_int_equal(c.recipients_day, 5);
	assert_true(send_limits_clear(l, slice_str("a@b")));
	assert_false(send_limits_clear(l, slice_str("a@b")));
	assert_int_equal(take(l, &a, 1, 0, NOW + 10), 0);
	send_limits_free(&l);
	/* What is damaged ends the reading; nothing of it counts beyond. */
	file = fopen(path, "w");
	fprintf(file, "h %u 1 1 x@y\nh x 1 1 z@y\nh %u 1 1 w@y\n", (unsigned)(NOW / 300),
		(unsigned)(NOW / 300));
	fclose(file);
	l = send_limits_new();
	assert_int_equal(send_limits_load(l, path, NOW), ERR_SYNTAX);
	send_limits_counts(l, slice_str("x@y"), NOW, &c);
	assert_int_equal(c.messages_hour, 1);
	send_limits_counts(l, slice_str("w@y"), NOW, &c);
	assert_int_equal(c.messages_hour, 0);
	send_limits_free(&l);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_windows_slide),
		cmocka_unit_test(test_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
