/* SORT: what is gone meanwhile, for SEARCH too; and the order of texts: by capital letters (RFC 4790 section 9.2, RFC 5051), so that letters go before "[" and "_". */
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

/* What others have expunged is not found, and the client, who may not hear of that now, is told why (RFC 5530 section 3). */
static void test_messages_gone_meanwhile(void **state)
{
	static const char *const commands[] = {"SEARCH 1:4", "SORT (SIZE) UTF-8 1:4"};
	struct rig *r = calloc(1, sizeof(*r));
	struct rig_client a, b;

	(void)state;
	rig_start(r, imap_limits_default);
	rig_add_account(r, "alice@example.com", 0, 0);
	rig_connect(&a, r, "alice@example.com");
	rig_connect(&b, r, "alice@example.com");
	for (unsigned i = 0; i < 4; i++)
		rig_append(&a, "INBOX", "", "Subject: x\r\n\r\n");
	RIG_EXPECT(&a, "SELECT INBOX", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "OK");
	rig_refuse(&a, commands[0], "EXPUNGEISSUED");
	RIG_EXPECT(&b, "STORE 2,4 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&b, "EXPUNGE", "OK");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		RIG_EXPECT(&a, commands[i], " 1 3\r\n", "OK [EXPUNGEISSUED]");
	RIG_EXPECT(&a, "NOOP", "* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n", "OK");
	rig_refuse(&a, "SEARCH 1:2", "EXPUNGEISSUED");
	rig_disconnect(&a);
	rig_disconnect(&b);
	rig_stop(r);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts_are_ordered_by_capital_letters),
		cmocka_unit_test(test_messages_gone_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
