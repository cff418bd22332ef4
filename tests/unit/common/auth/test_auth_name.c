/* Names at the edge: one form for all spellings, refusal of what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/auth/auth_name.h"

static void test_names_get_one_form(void **state)
{
	static const struct {
		const char *name, *domain, *want;
	} rows[] = {
		{"alice@example.com", "", "alice@example.com"},
		{"Alice@EXAMPLE.com", "example.org", "alice@example.com"},
		{"alice", "example.org", "alice@example.org"},
		{"ALICE", "", "alice"},
		{"alice+News@example.com", "", "alice+news@example.com"},
		{"alice+x", "example.org", "alice+x@example.org"},
		{"J\xc3\x9cRGEN@example.com", "", "j\xc3\xbcrgen@example.com"},
		{"ju\xcc\x88rgen@example.com", "", "j\xc3\xbcrgen@example.com"}, /* combining marks: NFC */
		{"a@b\xc3\xbc"
		 "cher.example",
			"", "a@xn--bcher-kva.example"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice got = {NULL, 0};
		struct arena a;

		arena_init(&a, 16384);
		assert_int_equal(
			auth_name_normalise(&a, slice_str(rows[i].name), slice_str(rows[i].domain), &got), 0);
		if (!slice_is_str(got, rows[i].want))
			fail_msg("%s: got %.*s want %s", rows[i].name, SLICE_ARG(got), rows[i].want);
		arena_deinit(&a);
	}
}

static void security_13_what_is_no_name_is_refused(void **state)
{
	static const char *const rows[] = {"", "@example.com", "a\nb@example.com", "a\x7f@example.com",
		"\xff@example.com", "a\xc3@example.com", "\xed\xa0\x80@example.com", "a\xc0\x80@example.com"};
	char big[AUTH_NAME_MOST + 1];
	struct slice got = {NULL, 0};
	struct arena a;

	(void)state;
	arena_init(&a, 16384);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (auth_name_normalise(&a, slice_str(rows[i]), SLICE_LIT("example.org"), &got) != ERR_SYNTAX)
			fail_msg("row %zu", i);
	}
	memset(big, 'a', sizeof(big));
	assert_int_equal(
		auth_name_normalise(&a, slice_of(big, sizeof(big)), slice_of(NULL, 0), &got), ERR_TOO_BIG);
	assert_int_equal(auth_name_normalise(&a, slice_of("a\0b", 3), slice_of(NULL, 0), &got), ERR_SYNTAX);
	assert_null(got.p);
	arena_deinit(&a);
}

static void security_06_logins_without_a_password_are_refused(void **state)
{
	struct slice alice = SLICE_LIT("alice");

	(void)state;
	assert_int_equal(auth_name_check_login(alice, SLICE_LIT("x")), 0);
	assert_int_equal(auth_name_check_login(alice, SLICE_LIT("")), ERR_SYNTAX);
	assert_int_equal(auth_name_check_login(alice, slice_of("a\0b", 3)), ERR_SYNTAX);
	assert_int_equal(auth_name_check_login(SLICE_LIT(""), SLICE_LIT("x")), ERR_SYNTAX);
	assert_int_equal(auth_name_check_login(SLICE_LIT("a\r\nb"), SLICE_LIT("x")), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_get_one_form),
		cmocka_unit_test(security_13_what_is_no_name_is_refused),
		cmocka_unit_test(security_06_logins_without_a_password_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
