/* SEARCH, SORT and THREAD over real store and loop: RFC 3501, 4731, 5032, 5182, 5256, 5267, 5957, 9394. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/date.h"
#include "tests/unit/backend/session/imap_rig.h"

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

/* Messages with subjects "m1", "m2" ... */
static void fill(struct rig_client *c, unsigned count)
{
	for (unsigned i = 1; i <= count; i++) {
		char mail[100];

		snprintf(mail, sizeof(mail), "Subject: m%u\r\n\r\nbody\r\n", i);
		assert_non_null(strstr(rig_append(c, "INBOX", "", mail), "OK [APPENDUID "));
	}
	RIG_EXPECT(c, "SELECT INBOX", "OK");
}

static void test_a_result_is_saved_and_used(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	fill(&c, 8);
	RIG_EXPECT(&c, "CREATE to", "OK");
	RIG_EXPECT(&c, "FETCH $ UID", "t11 OK"); /* nothing saved yet: no error, no message */
	RIG_EXPECT(&c, "STORE 2,4,6:7 +FLAGS.SILENT (\\Flagged)", "OK");
	rig_refuse(&c, "SEARCH RETURN (SAVE) FLAGGED", "* ");
	RIG_EXPECT(&c, "FETCH $ UID",
		"* 2 FETCH (UID 2)\r\n* 4 FETCH (UID 4)\r\n* 6 FETCH (UID 6)\r\n* 7 FETCH (UID 7)\r\nt",
		"OK");
	RIG_EXPECT(&c, "UID FETCH $ FLAGS", "* 2 FETCH (UID 2 FLAGS", "* 7 FETCH (UID 7", "OK");
	RIG_EXPECT(&c, "SEARCH $ NOT SUBJECT m4", "* SEARCH 2 6 7\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH UID $ SUBJECT m7", "* SEARCH 7\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH OR $ 1,8", "* SEARCH 1 2 4 6 7 8\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (COUNT) NOT $", "* ESEARCH (TAG \"", "COUNT 4\r\n", "OK");
	RIG_EXPECT(&c, "COPY $ to", "OK [COPYUID ", " 2,4,6:7 1:4]");
	/* What goes, goes from it too. */
	RIG_EXPECT(&c, "STORE 4 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&c, "EXPUNGE", "* 4 EXPUNGE", "OK");
	RIG_EXPECT(
		&c, "FETCH $ UID", "* 2 FETCH (UID 2)\r\n* 5 FETCH (UID 6)\r\n* 6 FETCH (UID 7)\r\nt", "OK");
	/* From itself; by MIN and MAX alone; not by what is no SAVE, nor by BAD. */
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE) $ NOT SUBJECT m2", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE", "BAD");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE) 99", "BAD");
	RIG_EXPECT(&c, "SEARCH ALL", "OK");
	RIG_EXPECT(&c, "SEARCH CHARSET x-none SUBJECT a", "NO [BADCHARSET");
	RIG_EXPECT(&c, "UID SEARCH $", "* SEARCH 6 7\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE MIN) ALL", "MIN 1\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH $", "* SEARCH 1\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (MAX SAVE) ALL", "MAX 7\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH $", "* SEARCH 8\r\n");
	RIG_EXPECT(&c, "UID SEARCH RETURN (MAX SAVE MIN) ALL", "MIN 1 MAX 8\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH $", "* SEARCH 1 8\r\n");
	RIG_EXPECT(&c, "UID SEARCH RETURN (MAX SAVE MIN) UID 3", "MIN 3 MAX 3\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH $", "* SEARCH 3\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (MAX SAVE COUNT) ALL", "MAX 7 COUNT 7\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH RETURN (ALL) $", "ALL 1:3,5:8\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE) CHARSET x-none SUBJECT a", "NO [BADCHARSET");
	RIG_EXPECT(&c, "UID SEARCH $", "* SEARCH\r\n");
	RIG_EXPECT(&c, "COPY $ to", "OK");
	/* A new message is not part of an old range; a new mailbox begins with nothing. */
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE) ALL", "OK");
	assert_non_null(strstr(rig_append(&c, "INBOX", "", "Subject: m9\r\n\r\n"), "OK"));
	RIG_EXPECT(&c, "SEARCH NOT $", "* SEARCH 8\r\n");
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH\r\n");
	RIG_EXPECT(&c, "FETCH $,1 UID", "BAD");
	RIG_EXPECT(&c, "STORE $ +FLAGS.SILENT (\\Seen)", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE) SUBJECT m1", "OK");
	RIG_EXPECT(&c, "MOVE $ to", "OK [COPYUID ", "* 1 EXPUNGE", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH\r\n");
	rig_disconnect(&c);
}

static void test_parts_of_results(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	fill(&c, 9);
	RIG_EXPECT(&c, "UID SEARCH RETURN (PARTIAL 2:4) NOT 3", ") UID PARTIAL (2:4 2,4:5)\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (PARTIAL -1:-2 COUNT) ALL", ") COUNT 9 PARTIAL (-1:-2 8:9)\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (PARTIAL 10:12) ALL", ") PARTIAL (10:12 NIL)\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (PARTIAL 8:12) ALL", ") PARTIAL (8:12 8:9)\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (PARTIAL 3:1) ALL", ") PARTIAL (1:3 1:3)\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (PARTIAL 1:3 ALL) ALL", "BAD");
	RIG_EXPECT(&c, "SEARCH RETURN (PARTIAL 1:3 PARTIAL 4:5) ALL", "BAD");
	/* RFC 9394 table 1 */
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE PARTIAL 3:4) ALL", "PARTIAL (3:4 3:4)\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH 3 4\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE PARTIAL 3:4 MIN) ALL", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH 1 3 4\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE PARTIAL 3:4 MAX) ALL", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH 3 4 9\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE PARTIAL -1:-2 MAX MIN) ALL", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH 1 8 9\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE PARTIAL 11:12 MAX MIN) ALL", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH 1 9\r\n");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE PARTIAL 3:4 COUNT) ALL", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (COUNT) $", "COUNT 9\r\n");
	/* UID FETCH */
	RIG_EXPECT(&c, "UID FETCH 2:3,5:8 UID (PARTIAL 2:4)",
		"* 3 FETCH (UID 3)\r\n* 5 FETCH (UID 5)\r\n* 6 FETCH (UID 6)\r\nt", "OK");
	RIG_EXPECT(&c, "UID FETCH 2:3,5:8 UID (PARTIAL -1:-2)", "* 7 FETCH (UID 7)\r\n* 8 FETCH (UID 8)\r\nt",
		"OK");
	rig_refuse(&c, "UID FETCH 1:* UID (PARTIAL 20:30)", "FETCH");
	RIG_EXPECT(&c, "UID FETCH 1:* UID (PARTIAL -1:-3 CHANGEDSINCE 1)", "* 7 FETCH (UID 7 MODSEQ (", "OK");
	RIG_EXPECT(&c, "UID FETCH 1:* UID (CHANGEDSINCE 9999 PARTIAL 1:3)", "OK");
	RIG_EXPECT(&c, "FETCH 1:* UID (PARTIAL 1:3)", "BAD");
	RIG_EXPECT(&c, "UID FETCH 1:* UID (PARTIAL 1:3 PARTIAL 1:3)", "BAD");
	RIG_EXPECT(&c, "UID FETCH 1:* UID (PARTIAL)", "BAD");
	RIG_EXPECT(&c, "UID FETCH 1:* UID ()", "BAD");
	rig_disconnect(&c);
}

/* APPEND with an INTERNALDATE so many seconds ago. */
static void append_aged(struct rig_client *c, int64_t age)
{
	struct buf args = {0};

	buf_add_char(&args, '"');
	date_write_internal(clock_wall_s() - age, 0, &args);
	buf_add_str(&args, "\" ");
	assert_non_null(strstr(rig_append(c, "INBOX", buf_str_view(&args), "Subject: x\r\n\r\n"), "OK"));
	buf_deinit(&args);
}

static void test_ages(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	append_aged(&c, 259200 + 600);
	append_aged(&c, 3600);
	append_aged(&c, 0);
	append_aged(&c, -3600); /* from the future */
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "SEARCH UNSEEN YOUNGER 259200", "* SEARCH 2 3 4\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH OLDER 259200", "* SEARCH 1\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH OLDER 3600", "* SEARCH 1 2\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH YOUNGER 4294967295", "* SEARCH 1 2 3 4\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH NOT OLDER 4000 YOUNGER 1800", "* SEARCH 3 4\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH OLDER 0", "BAD");
	rig_disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_result_is_saved_and_used, start, stop),
		cmocka_unit_test_setup_teardown(test_parts_of_results, start, stop),
		cmocka_unit_test_setup_teardown(test_ages, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
