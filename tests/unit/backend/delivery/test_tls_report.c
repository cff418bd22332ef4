/* Counting TLS for reports (RFC 8460): rows, days, the file, JSON. */
#include "backend/delivery/tls_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define DAY_MS 86400000ull
#define BEGIN (20784 * DAY_MS) /* 2026-11-27 */

static void test_days(void **state)
{
	static const struct {
		const char *text;
		int want;
		int64_t day;
	} rows[] = {{"2026-11-27", 0, 20784}, {"1970-01-01", 0, 0}, {"2026-02-29", ERR_SYNTAX, 0},
		{"2026-13-01", ERR_SYNTAX, 0}, {"2026-1-1", ERR_SYNTAX, 0}, {"", ERR_SYNTAX, 0},
		{"2026-11-27x", ERR_SYNTAX, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t day = -1;

		assert_int_equal(tls_report_day_parse(rows[i].text, &day), rows[i].want);
		if (rows[i].want == 0)
			assert_int_equal(day, rows[i].day);
	}
}

static void count_some(struct tls_report *r)
{
	for (int i = 0; i < 3; i++)
		tls_report_count(r, "a.example", TLS_REPORT_STS, "mx1.a.example", TLS_REPORT_SUCCESS);
	tls_report_count(r, "a.example", TLS_REPORT_STS, "mx2.a.example", TLS_REPORT_EXPIRED);
	tls_report_count(r, "a.example", TLS_REPORT_STS, "", TLS_REPORT_STS_FETCH);
	tls_report_count(r, "a.example", TLS_REPORT_TLSA, "mx1.a.example", TLS_REPORT_SUCCESS);
	tls_report_count(r, "b.example", TLS_REPORT_NONE, "mx.b.example", TLS_REPORT_NO_STARTTLS);
}

static const char want_json[] =
	"{\"organization-name\":\"mail.here.example\",\"date-range\":{\"start-datetime\":\"2026-11-27T00:00:"
	"00Z\",\"end-datetime\":"
	"\"2026-11-27T23:59:59Z\"},\"contact-info\":\"postmaster@mail.here.example\",\"report-id\":"
	"\"2026-11-27_a.example@mail.here.example\",\"policies\":["
	"{\"policy\":{\"policy-type\":\"tlsa\",\"policy-domain\":\"a.example\"},\"summary\":{\"total-"
	"successful-session-count\":1,"
	"\"total-failure-session-count\":0}},"
	"{\"policy\":{\"policy-type\":\"sts\",\"policy-domain\":\"a.example\"},\"summary\":{\"total-"
	"successful-session-count\":3,"
	"\"total-failure-session-count\":2},\"failure-details\":[{\"result-type\":\"sts-policy-fetch-error\","
	"\"failed-session-count\":1},"
	"{\"result-type\":\"certificate-expired\",\"receiving-mx-hostname\":\"mx2.a.example\",\"failed-"
	"session-count\":1}]}]}";

static void test_rows_and_json(void **state)
{
	char path[] = "/tmp/mailtier-tlsrpt-XXXXXX";
	struct loop *loop;
	struct tls_report *r;
	struct tls_report_rows rows;
	struct buf json = {0};

	(void)state;
	close(mkstemp(path));
	assert_int_equal(loop_new(&loop), 0);
	clock_fake_start(BEGIN);
	r = tls_report_new(loop, path);
	count_some(r);
	for (int round = 0; round < 2; round++) {
		tls_report_rows(r, NULL, -1, 100, &rows);
		assert_int_equal(rows.count, 5);
		assert_string_equal(rows.rows[0].domain, "a.example");
		assert_int_equal(rows.rows[0].policy, TLS_REPORT_TLSA);
		assert_int_equal(rows.rows[2].counts[TLS_REPORT_SUCCESS], 3);
		assert_int_equal(rows.rows[4].counts[TLS_REPORT_NO_STARTTLS], 1);
		tls_report_rows_free(&rows);
		tls_report_rows(r, "b.example", 20784, 100, &rows);
		assert_int_equal(rows.count, 1);
		tls_report_rows_free(&rows);
		tls_report_rows(r, NULL, -1, 2, &rows);
		assert_int_equal(rows.count, 2);
		assert_true(rows.is_cut);
		tls_report_rows_free(&rows);
		assert_int_equal(tls_report_json(r, "mail.here.example", "a.example", 20784, &json), 0);
		assert_string_equal(buf_str_view(&json), want_json);
		buf_clear(&json);
		assert_int_equal(
			tls_report_json(r, "mail.here.example", "c.example", 20784, &json), ERR_NOT_FOUND);
		/* And once more after a restart. */
		tls_report_end(r);
		tls_report_free(&r);
		r = tls_report_new(loop, path);
	}
	/* Days go. */
	clock_fake_advance((TLS_REPORT_DAYS - 1) * DAY_MS);
	tls_report_count(r, "c.example", TLS_REPORT_NONE, "", TLS_REPORT_FAILURE);
	tls_report_rows(r, NULL, -1, 100, &rows);
	assert_int_equal(rows.count, 6);
	tls_report_rows_free(&rows);
	clock_fake_advance(DAY_MS);
	tls_report_count(r, "c.example", TLS_REPORT_NONE, "", TLS_REPORT_FAILURE);
	tls_report_rows(r, NULL, -1, 100, &rows);
	assert_int_equal(rows.count, 2);
	tls_report_rows_free(&rows);
	tls_report_end(r);
	tls_report_free(&r);
	clock_fake_stop();
	loop_free(&loop);
	buf_deinit(&json);
	unlink(path);
}

static void test_security_23_rows_are_bounded(void **state)
{
	struct loop *loop;
	struct tls_report *r;
	struct tls_report_rows rows;

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	r = tls_report_new(loop, NULL);
	for (unsigned i = 0; i < TLS_REPORT_ROWS_MOST + 100; i++) {
		char domain[32];

		snprintf(domain, sizeof(domain), "d%u.example", i);
		tls_report_count(r, domain, TLS_REPORT_NONE, "", TLS_REPORT_SUCCESS);
	}
	tls_report_rows(r, NULL, -1, SIZE_MAX, &rows);
	assert_int_equal(rows.count, TLS_REPORT_ROWS_MOST);
	tls_report_rows_free(&rows);
	tls_report_end(r);
	tls_report_free(&r);
	loop_free(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_days), cmocka_unit_test(test_rows_and_json),
		cmocka_unit_test(test_security_23_rows_are_bounded)};

	mem_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
