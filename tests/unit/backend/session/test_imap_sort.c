/* The order of texts in SORT: by capital letters (RFC 4790 section 9.2, RFC 5051), so that letters go before "[" and "_". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/backend/session/imap_rig.h"

static void test_texts_are_ordered_by_capital_letters(void **state)
{
	static const char *const subjects[] = {
		"_", "a", "B", "[x]", "zzzzzzzz_", "zzzzzzzza", "ZZZZZZZZ[", "b2"};
	struct rig *r = calloc(1, sizeof(*r));
	struct rig_client c;

	(void)state;
	rig_start(r, imap_limits_default);
	rig_add_account(r, "alice@example.com", 0, 0);
	rig_connect(&c, r, "alice@example.com");
	for (size_t i = 0; i < ARRAY_LEN(subjects); i++) {
		char mail[64];

		snprintf(mail, sizeof(mail), "Subject: %s\r\n\r\n", subjects[i]);
		assert_non_null(strstr(rig_append(&c, "INBOX", "", mail), "OK [APPENDUID "));
	}
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "SORT (SUBJECT) UTF-8 ALL", "* SORT 2 3 8 6 7 5 4 1\r\n", "OK");
	RIG_EXPECT(&c, "SORT (REVERSE SUBJECT) UTF-8 ALL", "* SORT 1 4 5 7 6 8 3 2\r\n", "OK");
	rig_disconnect(&c);
	rig_stop(r);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts_are_ordered_by_capital_letters)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
