/* What is remembered of MTA-STS policies: the file's lines, and a file with damaged ones. Fetching: test_outbound_dns.c. */
#include "backend/delivery/mta_sts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/timer.h"

static void test_lines(void **state)
{
	static const struct {
		const char *line;
		int want;
	} rows[] = {{"example.com\t2026\tenforce\t100\t1000\t1100\tmx.example.com *.example.net", 0},
		{"example.com\t2026\tnone\t100\t1000\t1100\t", 0},
		{"example.com\t2026\tenforce\t100\t1000\t1100\t", ERR_SYNTAX},
		{"example.com\t2026\tenforce\t100\t1000\t1100", ERR_SYNTAX},
		{"example.com\t2026\tenforce\t100\t1200\t1100\tmx.example.com", ERR_SYNTAX},
		{"example.com\t2026\tenforce\t99999999\t1000\t1100\tmx.example.com", ERR_SYNTAX},
		{"example com\t2026\tenforce\t100\t1000\t1100\tmx.example.com", ERR_SYNTAX},
		{"example.com\t20-26\tenforce\t100\t1000\t1100\tmx.example.com", ERR_SYNTAX},
		{"example.com\t2026\tforced\t100\t1000\t1100\tmx.example.com", ERR_SYNTAX},
		{"example.com\t2026\tenforce\t100\t1000\t1100\tmx.example.com\tmore", ERR_SYNTAX},
		{"", ERR_SYNTAX}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct mta_sts_policy *policy = NULL;
		struct buf out = {0};
		char *domain = NULL;

		assert_int_equal(mta_sts_read_line(slice_str(rows[i].line), &domain, &policy), rows[i].want);
		if (rows[i].want == 0) {
			mta_sts_write_line(&out, domain, policy);
			assert_string_equal(buf_str_view(&out), rows[i].line);
		}
		mta_sts_policy_unref(&policy);
		free(domain);
		buf_deinit(&out);
	}
}

struct answer {
	bool is_told;
	char mx[100];
};

static void on_policy(void *arg, struct mta_sts_policy *policy, enum mta_sts_fault fault)
{
	struct answer *a = arg;

	(void)fault;
	a->is_told = true;
	snprintf(a->mx, sizeof(a->mx), "%s", policy ? policy->mx : "none");
}

static void stop(void *arg)
{
	loop_stop(arg);
}

/* What the DNS cannot be asked about now, or not at all, counts as it is remembered, until it is too old. */
static void test_a_restart_forgets_nothing(void **state)
{
	static const struct {
		const char *domain, *want;
	} rows[] = {{"live..test", "none"}, {"old..test", "none"}, {"live.test", "mx.live.test"}};
	char path[] = "/tmp/mailtier-sts-XXXXXX";
	long long now = (long long)clock_wall_s();
	struct loop *loop;
	struct mta_sts *m;
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	(void)state;
	fprintf(f, "live.test\t1\tenforce\t1000\t%lld\t%lld\tmx.live.test\n", now, now + 1000);
	fprintf(f, "junk\n\told.test\t1\tenforce\t1000\t%lld\t%lld\tmx.old.test\n", now - 2000, now - 1000);
	fclose(f);
	assert_int_equal(loop_new(&loop), 0);
	m = mta_sts_new(loop, path);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct mta_sts_request *request;
		struct answer answer = {0};

		mta_sts_ask(m, rows[i].domain, NULL, 1, on_policy, &answer, &request);
		for (int n = 0; n < 100 && !answer.is_told; n++) {
			struct timer timer;

			timer_init(&timer, stop, loop);
			timer_set(&timer, loop, 10);
			loop_run(loop);
			timer_stop(&timer);
		}
		assert_true(answer.is_told);
		assert_string_equal(answer.mx, rows[i].want);
	}
	mta_sts_end(m);
	mta_sts_free(&m);
	loop_free(&loop);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines), cmocka_unit_test(test_a_restart_forgets_nothing)};

	mem_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
