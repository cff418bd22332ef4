/* Names in Net-Unicode: composed, without controls; normalising twice changes nothing more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/net_unicode.h"

static void test_names_are_composed_or_refused(void **state)
{
	static const struct {
		const char *name;
		const char *want; /* NULL: ERR_SYNTAX */
	} rows[] = {
		{"INBOX", "INBOX"},
		{"a&b/c", "a&b/c"},
		{"", ""},
		{"Entw\xc3\xbcrfe", "Entw\xc3\xbcrfe"},
		{"Entwu\xcc\x88rfe", "Entw\xc3\xbcrfe"},
		{"\xe2\x84\xaa", "K"},                                    /* the Kelvin sign */
		{"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, /* Hangul */
		{"\xe5\x8f\xb0\xe5\x8c\x97", "\xe5\x8f\xb0\xe5\x8c\x97"},
		{"\xf0\x9f\x93\xac", "\xf0\x9f\x93\xac"},
		{"a\tb", NULL},
		{"a\x7f", NULL},
		{"a\xc2\x85z", NULL},
		{"a\xc2\x9f", NULL},
		{"a\xc2\xa0z", "a\xc2\xa0z"},
		{"a\xe2\x80\xa8z", NULL},
		{"a\xe2\x80\xa9z", NULL},
		{"a\xe2\x80\xa7z", "a\xe2\x80\xa7z"},
		{"a\xe2\x80\xaaz", "a\xe2\x80\xaaz"},
		{"lat\xedn", NULL},
		{"cut \xc3", NULL},
		{"\xed\xa0\x80", NULL},
	};
	struct arena arena;

	(void)state;
	arena_init(&arena, 4096);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice got, again;
		int err = net_unicode_normalise(&arena, slice_str(rows[i].name), &got);

		if (err != (rows[i].want ? 0 : ERR_SYNTAX) || (!err && !slice_is_str(got, rows[i].want)))
			fail_msg("row %zu: %d", i, err);
		if (err == 0) {
			assert_int_equal(net_unicode_normalise(&arena, got, &again), 0);
			assert_true(slice_is_equal(got, again));
		}
	}
	arena_fail_after(1);
	{
		struct slice got;

		assert_int_equal(net_unicode_normalise(&arena, SLICE_LIT("x"), &got), ERR_TOO_BIG);
	}
	arena_fail_after(0);
	arena_deinit(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_names_are_composed_or_refused)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
