/* Which TLSA records mail may use (RFC 7672 section 3.1). */
#include "backend/delivery/dane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char zeros[64];

static void test_usable(void **state)
{
	static const struct {
		uint8_t usage, selector, matching;
		size_t len;
		bool want;
	} rows[] = {{3, 1, 1, 32, true}, {2, 0, 2, 64, true}, {3, 0, 0, 5, true}, {2, 1, 1, 32, true},
		{0, 1, 1, 32, false}, {1, 1, 1, 32, false}, {4, 1, 1, 32, false}, {255, 1, 1, 32, false},
		{3, 2, 1, 32, false}, {3, 1, 3, 32, false}, {3, 1, 1, 31, false}, {3, 1, 2, 32, false},
		{3, 1, 0, 0, false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_dane_record r = {
			rows[i].usage, rows[i].selector, rows[i].matching, slice_of(zeros, rows[i].len)};

		assert_int_equal(dane_is_usable(&r), rows[i].want);
	}
}

static void test_judge(void **state)
{
	struct tls_dane_record r[] = {{1, 1, 1, slice_of(zeros, 32)}, {3, 1, 3, slice_of(zeros, 32)},
		{3, 1, 1, slice_of(zeros, 32)}};

	(void)state;
	assert_int_equal(dane_judge(r, 0), DANE_NONE);
	assert_int_equal(dane_judge(r, 2), DANE_UNUSABLE);
	assert_int_equal(dane_judge(r, 3), DANE_USABLE);
}

static void test_text(void **state)
{
	struct tls_dane_record r = {3, 1, 1, SLICE_LIT("\x01\xab\xff")};
	char text[64], small[12];

	(void)state;
	dane_text(&r, text, sizeof(text));
	assert_string_equal(text, "3 1 1 01abff");
	dane_text(&r, small, sizeof(small));
	assert_string_equal(small, "3 1 1 01ab");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usable), cmocka_unit_test(test_judge), cmocka_unit_test(test_text)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
