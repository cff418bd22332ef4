#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/proto/dns_name.h"

#define LABEL_63 "a12345678901234567890123456789012345678901234567890123456789012"

static void test_names(void **state)
{
	static const struct {
		const char *name;
		bool is_host, is_question;
	} rows[] = {
		{"example.test", true, true},
		{"example.test.", true, true},
		{"_dmarc.EXAMPLE.test", true, true},
		{"1.2.0.192.in-addr.arpa", true, true},
		{LABEL_63 ".test", true, true},
		{LABEL_63 "x.test", false, false},
		{LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63, false, false}, /* 255 */
		{"a+b c.test", false, true},
		{"0/25.2.0.192.in-addr.arpa", false, true},
		{"", false, false},
		{".", false, false},
		{"a..b", false, false},
		{".a", false, false},
		{"a\nb", false, false},
		{"a\x7f", false, false},
		{"a\xe4.test", false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice name = slice_str(rows[i].name);

		if (dns_name_is_host(name) != rows[i].is_host ||
			dns_name_is_question(name) != rows[i].is_question)
			fail_msg("%s", rows[i].name);
	}
}

static void test_reversed(void **state)
{
	static const struct {
		const char *ip;
		size_t len;
		const char *zone, *want;
		int err;
	} rows[] = {
		{"\xc0\0\2\1", 4, NULL, "1.2.0.192.in-addr.arpa", 0},
		{"\xc0\0\2\1", 4, "list.test", "1.2.0.192.list.test", 0},
		{"\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16, "list.test",
			"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.list.test", 0},
		{"\xc0\0\2\1", 3, NULL, "", ERR_SYNTAX},
		{"\xc0\0\2\1", 4, "a b\n", "", ERR_SYNTAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = {0};

		assert_int_equal(
			dns_name_reverse(slice_of(rows[i].ip, rows[i].len), rows[i].zone, &out), rows[i].err);
		assert_string_equal(buf_str_view(&out), rows[i].want);
		buf_deinit(&out);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_reversed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
