/* MTA-STS: records, policies, patterns (RFC 8461). */
#include "common/proto/sts_policy.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "common/base/buf.h"

static void test_records(void **state)
{
	static const struct {
		const char *text;
		int want;
		const char *id;
	} rows[] = {{"v=STSv1; id=20160831085700Z;", 0, "20160831085700Z"}, {"v=STSv1;id=1", 0, "1"},
		{"v=STSv1 ; x=y ; id=Ab9 ;", 0, "Ab9"}, {"v=spf1 -all", ERR_NOT_FOUND, NULL},
		{"", ERR_NOT_FOUND, NULL}, {"id=1; v=STSv1;", ERR_NOT_FOUND, NULL},
		{"v=STSv10; id=1", ERR_NOT_FOUND, NULL}, {"v=STSv1;", ERR_SYNTAX, NULL},
		{"v=STSv1; id=", ERR_SYNTAX, NULL}, {"v=STSv1; id=a-b", ERR_SYNTAX, NULL},
		{"v=STSv1; id=a\nb", ERR_SYNTAX, NULL}, {"v=STSv1; id=1; id=2", ERR_SYNTAX, NULL},
		{"v=STSv1; id=123456789012345678901234567890123", ERR_SYNTAX, NULL}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice id = {NULL, 0};

		assert_int_equal(sts_policy_parse_record(slice_str(rows[i].text), &id), rows[i].want);
		if (rows[i].id)
			assert_true(slice_is_str(id, rows[i].id));
	}
}

static void test_policies(void **state)
{
	static const struct {
		const char *text;
		int want;
		enum sts_policy_mode mode;
		uint32_t age;
		size_t mx;
	} rows[] = {{"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: "
		     "*.example.net\r\nmax_age: 604800\r\n",
			    0, STS_POLICY_ENFORCE, 604800, 2},
		{"version:STSv1\nmode:testing\nmx:a.example\nmax_age:0", 0, STS_POLICY_TESTING, 0, 1},
		{"version: STSv1\nmode: none\nmax_age: 5\n", 0, STS_POLICY_NONE, 5, 0},
		{"mode: none\nmax_age: 5\nversion: STSv1\nnew_thing: 1\n\n: \n", 0, STS_POLICY_NONE, 5, 0},
		{"version: STSv1\nmode: none\nmode: enforce\nmax_age: 9999999999\n", 0, STS_POLICY_NONE,
			STS_POLICY_AGE_MOST, 0},
		{"version: STSv2\nmode: none\nmax_age: 5\n", ERR_SYNTAX, 0, 0, 0},
		{"mode: none\nmax_age: 5\n", ERR_SYNTAX, 0, 0, 0},
		{"version: STSv1\nmax_age: 5\n", ERR_SYNTAX, 0, 0, 0},
		{"version: STSv1\nmode: none\n", ERR_SYNTAX, 0, 0, 0},
		{"version: STSv1\nmode: enforce\nmax_age: 5\n", ERR_SYNTAX, 0, 0, 0},
		{"version: STSv1\nmode: Enforce\nmax_age: 5\nmx: a.example\n", ERR_SYNTAX, 0, 0, 0},
		{"version: STSv1\nmode: enforce\nmax_age: -5\nmx: a.example\n", ERR_SYNTAX, 0, 0, 0},
		{"version: STSv1\nmode: enforce\nmax_age: 5\nmx: a b\n", ERR_SYNTAX, 0, 0, 0},
		{"version: STSv1\nmode: enforce\nmax_age: 5\nmx: a.*.example\n", ERR_SYNTAX, 0, 0, 0},
		{"<html>", ERR_SYNTAX, 0, 0, 0}, {"", ERR_SYNTAX, 0, 0, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sts_policy p;

		assert_int_equal(sts_policy_parse(slice_str(rows[i].text), &p), rows[i].want);
		if (rows[i].want)
			continue;
		assert_int_equal(p.mode, rows[i].mode);
		assert_int_equal(p.max_age, rows[i].age);
		assert_int_equal(p.mx_count, rows[i].mx);
	}
}

/* A policy that is larger than any needs to be is none, whatever stands in it. */
static void test_security_23_sizes_are_capped(void **state)
{
	struct buf text = {0};
	struct sts_policy p;

	(void)state;
	buf_add_str(&text, "version: STSv1\nmode: enforce\nmax_age: 5\n");
	for (int i = 0; i <= STS_POLICY_MX_MOST; i++)
		buf_add_str(&text, "mx: a.example\n");
	assert_int_equal(sts_policy_parse(buf_view(&text), &p), ERR_TOO_BIG);
	buf_clear(&text);
	buf_add_str(&text, "version: STSv1\nmode: none\nmax_age: 5\n");
	while (buf_len(&text) <= STS_POLICY_SIZE_MOST)
		buf_add_str(&text, "x: y\n");
	assert_int_equal(sts_policy_parse(buf_view(&text), &p), ERR_TOO_BIG);
	buf_deinit(&text);
}

static void test_patterns(void **state)
{
	static const struct {
		const char *pattern, *host;
		bool want;
	} rows[] = {{"mx.example.com", "mx.example.com", true}, {"mx.example.com", "MX.Example.COM.", true},
		{"*.example.com", "mx.example.com", true}, {"*.example.com", "example.com", false},
		{"*.example.com", "a.mx.example.com", false}, {"*.example.com", ".example.com", false},
		{"*.example.com", "mx.example.org", false}, {"mx.example.com", "mx.example.co", false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
			sts_policy_fits(slice_str(rows[i].pattern), slice_str(rows[i].host)), rows[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_records), cmocka_unit_test(test_policies),
		cmocka_unit_test(test_security_23_sizes_are_capped), cmocka_unit_test(test_patterns)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
