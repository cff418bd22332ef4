/* \Recent belongs to one session (RFC 3501 section 2.3.2); keywords are told before a message shows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/session/imap_view.h"
#include "tests/unit/backend/session/imap_rig.h"

#define MAIL "Subject: x\r\n\r\nx\r\n"

static int start(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_start(r, imap_limits_default);
	rig_add_account(r, "alice@example.com", 0, 0);
	*state = r;
	return 0;
}

static int stop(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

static void test_recent_is_one_sessions(void **state)
{
	struct rig_client a, b, c;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&a, "SELECT INBOX", "* 0 RECENT", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "* 0 RECENT", "OK");
	/* While it is open in several: the first that tells of it has it. */
	assert_non_null(strstr(rig_append(&a, "INBOX", "", MAIL), "* 1 RECENT"));
	RIG_EXPECT(&b, "NOOP", "* 1 EXISTS", "* 0 RECENT", "OK");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES RECENT)", "MESSAGES 1 RECENT 0", "OK");
	RIG_EXPECT(&c, "SELECT INBOX", "* 1 EXISTS", "* 0 RECENT", "OK");
	assert_non_null(strstr(rig_append(&b, "INBOX", "", MAIL), "* 1 RECENT"));
	RIG_EXPECT(&a, "NOOP", "* 2 EXISTS", "* 1 RECENT", "OK");
	RIG_EXPECT(&a, "FETCH 1:2 FLAGS", "* 1 FETCH (FLAGS (\\Recent))", "* 2 FETCH (FLAGS ())", "OK");
	RIG_EXPECT(&b, "FETCH 1:2 FLAGS", "* 1 FETCH (FLAGS ())", "* 2 FETCH (FLAGS (\\Recent))", "OK");
	RIG_EXPECT(&b, "SEARCH RECENT", "* SEARCH 2\r\n", "OK");
	RIG_EXPECT(&c, "NOOP", "* 2 EXISTS", "* 0 RECENT", "OK");
	/* Nor has anybody later. */
	RIG_EXPECT(&a, "UNSELECT", "OK");
	RIG_EXPECT(&b, "CLOSE", "OK");
	RIG_EXPECT(&c, "CLOSE", "OK");
	RIG_EXPECT(&a, "STATUS INBOX (RECENT)", "RECENT 0", "OK");
	RIG_EXPECT(&a, "SELECT INBOX", "* 0 RECENT", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
	rig_disconnect(&c);
}

static void test_recent_in_turns(void **state)
{
	struct rig_client a, b;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	RIG_EXPECT(&a, "SELECT INBOX", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "OK");
	/* More ranges than a session keeps: the oldest are recent no more, and nothing is recent twice. */
	for (unsigned i = 0; i < 2 * IMAP_VIEW_RECENT + 3; i++) {
		assert_non_null(strstr(rig_append(i % 2 ? &a : &b, "INBOX", "", MAIL), "OK"));
		RIG_EXPECT(i % 2 ? &b : &a, "NOOP", "OK");
	}
	RIG_EXPECT(&b, "SEARCH RECENT", "* SEARCH 5 7 9 11 13 15 17 19\r\n", "OK");
	RIG_EXPECT(&a, "SEARCH RECENT", "* SEARCH 4 6 8 10 12 14 16 18\r\n", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

static void test_examine_takes_nothing(void **state)
{
	struct rig_client a, b;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	rig_append(&a, "INBOX", "", MAIL);
	RIG_EXPECT(&a, "EXAMINE INBOX", "* 1 RECENT", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "* 1 RECENT", "OK");
	RIG_EXPECT(&a, "EXAMINE INBOX", "* 0 RECENT", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

/* A FETCH that shows nothing learns of the keyword and must not keep it to itself. */
static void test_keywords_are_told_before_they_are_shown(void **state)
{
	struct rig_client a, b;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	rig_append(&a, "INBOX", "", MAIL);
	RIG_EXPECT(&a, "SELECT INBOX", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "OK");
	RIG_EXPECT(&b, "STORE 1 +FLAGS ($new)", "OK");
	RIG_EXPECT(&a, "UID FETCH 1 (FLAGS) (CHANGEDSINCE 1000000)", "* FLAGS (\\Answered", " $new)\r\n",
		"* 1 FETCH (UID 1 MODSEQ (9) FLAGS (\\Recent $new))", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_recent_is_one_sessions, start, stop),
		cmocka_unit_test_setup_teardown(test_recent_in_turns, start, stop),
		cmocka_unit_test_setup_teardown(test_examine_takes_nothing, start, stop),
		cmocka_unit_test_setup_teardown(test_keywords_are_told_before_they_are_shown, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
