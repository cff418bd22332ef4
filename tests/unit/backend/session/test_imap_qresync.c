/* QRESYNC (RFC 7162 section 3.2): what vanished, before and during a session, with and without the change log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

static void fill(struct rig_client *c, const char *mailbox, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_non_null(strstr(rig_append(c, mailbox, "", "A: b\r\n\r\nx\r\n"), "OK [APPENDUID "));
}

static unsigned long long number_after(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	if (!at)
		fail_msg("no %s in %s", word, text);
	return strtoull(at + strlen(word), NULL, 10);
}

/* UIDVALIDITY and HIGHESTMODSEQ. */
static void look(struct rig_client *c, const char *mailbox, unsigned *validity, unsigned long long *modseq)
{
	char command[100];
	const char *got;

	snprintf(command, sizeof(command), "EXAMINE %s", mailbox);
	got = rig_command(c, command);
	*validity = (unsigned)number_after(got, "[UIDVALIDITY ");
	*modseq = number_after(got, "[HIGHESTMODSEQ ");
}

/* Fills the template's %u and %llu with UIDVALIDITY and MODSEQ. */
#define RESYNC(client, validity, modseq, rest, ...)                                                          \
	do {                                                                                                 \
		char command_[300];                                                                          \
		snprintf(command_, sizeof(command_), "SELECT INBOX (QRESYNC (%u %llu%s))", (validity),       \
			(modseq), (rest));                                                                   \
		RIG_EXPECT((client), command_, __VA_ARGS__);                                                 \
	} while (0)

static void test_what_went_and_changed_is_told_at_select(void **state)
{
	struct rig_client a, b;
	unsigned validity;
	unsigned long long modseq;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	RIG_EXPECT(&a, "CAPABILITY", " QRESYNC", "OK");
	fill(&a, "INBOX", 10);
	look(&a, "INBOX", &validity, &modseq);
	RIG_EXPECT(&b, "SELECT INBOX", "* 10 EXISTS", "OK");
	RIG_EXPECT(&b, "UID STORE 2:4,7,9 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&b, "EXPUNGE", "* 9 EXPUNGE", "* 2 EXPUNGE", "OK Done");
	RIG_EXPECT(&b, "UID STORE 5,8 +FLAGS.SILENT ($x)", "OK");
	fill(&b, "INBOX", 1);
	/* Not before it is enabled. */
	RIG_EXPECT(&a, "SELECT INBOX (QRESYNC (1 1))", "BAD");
	RIG_EXPECT(&a, "UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)", "BAD");
	RIG_EXPECT(&a, "ENABLE QRESYNC", "* ENABLED QRESYNC\r\n", "OK");
	RIG_EXPECT(&a, "ENABLE CONDSTORE QRESYNC", "* ENABLED CONDSTORE QRESYNC\r\n", "OK");
	RESYNC(&a, validity, modseq, "", "* 6 EXISTS\r\n", "[HIGHESTMODSEQ ",
		"* VANISHED (EARLIER) 2:4,7,9\r\n", "* 2 FETCH (UID 5 MODSEQ (", "FLAGS ($x))\r\n",
		"* 4 FETCH (UID 8 MODSEQ (", "* 6 FETCH (UID 11 ", "OK [READ-WRITE]");
	/* Those it knows, and only those. */
	RESYNC(&a, validity, modseq, " 1:3,8", "[CLOSED]", "* VANISHED (EARLIER) 2:3\r\n* 4 FETCH (UID 8 ",
		"OK [READ-WRITE]");
	rig_refuse(&a, "SELECT INBOX (QRESYNC (1 1 1:11))", "VANISHED");
	/* Message 3 was UID 6 for it, too: it knows of all up to there; of message 2 it does not. */
	RESYNC(&a, validity, modseq, " 1:11 (1,3 1,6)", "* VANISHED (EARLIER) 7,9\r\n", "* 2 FETCH (UID 5 ",
		"OK");
	RESYNC(&a, validity, modseq, " 1:11 (1:10 1:10)", "* VANISHED (EARLIER) 2:4,7,9\r\n", "OK");
	RESYNC(&a, validity, modseq, " 1:11 (6 11)", "* 2 FETCH (UID 5 ", "OK");
	/* Nothing happened since. */
	look(&a, "INBOX", &validity, &modseq);
	RESYNC(&a, validity, modseq, "", "* 6 EXISTS", "[HIGHESTMODSEQ", "\r\nt", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

static void test_bad_parameters_select_nothing(void **state)
{
	static const char *const rows[] = {"SELECT INBOX (QRESYNC)", "SELECT INBOX (QRESYNC ())",
		"SELECT INBOX (QRESYNC (1))", "SELECT INBOX (QRESYNC (0 1))", "SELECT INBOX (QRESYNC (1 0))",
		"SELECT INBOX (QRESYNC (1 1 1:*))", "SELECT INBOX (QRESYNC (1 1 x))",
		"SELECT INBOX (QRESYNC (1 1 1 2))", "SELECT INBOX (QRESYNC (1 1 1:3 (1)))",
		"SELECT INBOX (QRESYNC (1 1 1:3 (1:2 1)))", "SELECT INBOX (QRESYNC (1 1 1:3 (2,1 2,1)))",
		"SELECT INBOX (QRESYNC (1 1 1:3 (1 * )))", "SELECT INBOX (QRESYNC (1 1) QRESYNC (1 1))",
		"SELECT INBOX (QRESYNC (99999999999 1))", "SELECT INBOX ()", "SELECT INBOX (QRESYNC 1 1)",
		"SELECT INBOX (QRESYNC (1 1 1:3 (1 1) 2))"};
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "ENABLE QRESYNC", "OK");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		RIG_EXPECT(&c, rows[i], "BAD");
	RIG_EXPECT(&c, "FETCH 1 FLAGS", "BAD No mailbox");
	/* Enormous sets cost nothing. */
	RIG_EXPECT(
		&c, "SELECT INBOX (CONDSTORE QRESYNC (1 1 1:4294967294 (1:4294967294 1:4294967294)))", "OK");
	fill(&c, "INBOX", 2);
	RIG_EXPECT(&c, "FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "BAD");
	RIG_EXPECT(&c, "UID FETCH 1 MODSEQ (VANISHED)", "BAD");
	RIG_EXPECT(&c, "UID FETCH 1 FLAGS (VANISHED CHANGEDSINCE 1 VANISHED)", "BAD");
	RIG_EXPECT(&c, "UID FETCH 1 FLAGS ()", "BAD");
	RIG_EXPECT(&c, "UID FETCH 1:4294967295 FLAGS (VANISHED CHANGEDSINCE 1)", "* 1 FETCH (UID 1 ", "OK");
	rig_disconnect(&c);
}

static void test_vanished_takes_the_place_of_expunge(void **state)
{
	struct rig_client a, b;
	unsigned validity;
	unsigned long long modseq, after;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	fill(&a, "INBOX", 11);
	RIG_EXPECT(&a, "CREATE x", "OK");
	RIG_EXPECT(&a, "ENABLE QRESYNC", "OK");
	RIG_EXPECT(&a, "SELECT INBOX", "* 11 EXISTS", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "* 11 EXISTS", "OK");
	/* UID and MODSEQ in each FETCH from here on. */
	RIG_EXPECT(&a, "STORE 3 +FLAGS (\\Deleted)", "* 3 FETCH (UID 3 MODSEQ (",
		"FLAGS (\\Deleted \\Recent))", "OK");
	RIG_EXPECT(&a, "FETCH 1 BODY[TEXT]", "* 1 FETCH (UID 1 MODSEQ (", "OK");
	RIG_EXPECT(&a, "UID STORE 4,7,11 +FLAGS.SILENT (\\Deleted)", "* 4 FETCH (UID 4 MODSEQ (", "OK");
	RIG_EXPECT(&a, "EXPUNGE", "* VANISHED 3:4,7,11\r\n", "OK [HIGHESTMODSEQ ");
	RIG_EXPECT(&a, "EXPUNGE", "OK Done");
	RIG_EXPECT(&a, "UID STORE 5 +FLAGS.SILENT (\\Deleted)", "OK");
	modseq = number_after(rig_command(&a, "UID EXPUNGE 5"), "[HIGHESTMODSEQ ");
	look(&b, "INBOX", &validity, &after);
	assert_int_equal(modseq, after);
	RIG_EXPECT(&a, "UID MOVE 6 x", "COPYUID", "* VANISHED 6\r\n", "OK");
	/* CLOSE tells nothing (section 3.2.8). */
	RIG_EXPECT(&a, "UID STORE 8 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&a, "CLOSE", "OK Done");
	RIG_EXPECT(&a, "EXAMINE INBOX", "* 4 EXISTS", "OK");
	/* Of others: not during FETCH, STORE and SEARCH, and then HIGHESTMODSEQ holds back. */
	RIG_EXPECT(&b, "SELECT INBOX", "OK");
	RIG_EXPECT(&b, "UID STORE 9 +FLAGS.SILENT (\\Deleted)", "OK");
	modseq = number_after(rig_command(&a, "FETCH 1 (MODSEQ)"), "FETCH (");
	look(&a, "INBOX", &validity, &modseq);
	RIG_EXPECT(&b, "EXPUNGE", "* 3 EXPUNGE", "OK");
	RIG_EXPECT(&b, "UID STORE 10 +FLAGS.SILENT ($late)", "OK");
	{
		const char *got = rig_command(&a, "FETCH 1:* (FLAGS)");

		assert_null(strstr(got, "VANISHED"));
		assert_int_equal(number_after(got, "* OK [HIGHESTMODSEQ "), modseq);
		assert_non_null(strstr(got, "$late"));
	}
	rig_refuse(&a, "UID SEARCH 1:2", "VANISHED");
	RIG_EXPECT(&a, "NOOP", "* VANISHED 9\r\n", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

/* A FETCH may see newer flags than what was told: what went before them may not be lost (section 3.2). */
static void test_modseqs_of_a_fetch_hide_no_expunge(void **state)
{
	struct rig_client a, b;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	fill(&a, "INBOX", 3);
	RIG_EXPECT(&a, "ENABLE QRESYNC", "OK");
	RIG_EXPECT(&a, "SELECT INBOX", "* 3 EXISTS", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "* 3 EXISTS", "OK");
	RIG_EXPECT(&b, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&b, "EXPUNGE", "OK");
	RIG_EXPECT(&b, "UID STORE 3 +FLAGS.SILENT ($x)", "OK");
	RIG_EXPECT(&a, "FETCH 3 (MODSEQ)", "* 3 FETCH (MODSEQ (", "* OK [HIGHESTMODSEQ ", "OK");
	RIG_EXPECT(&a, "UID FETCH 3 (MODSEQ)", "* VANISHED 1\r\n", "OK");
	/* What the view still has is never EARLIER. */
	RIG_EXPECT(&b, "UID STORE 2 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&b, "EXPUNGE", "OK");
	{
		const char *got = rig_command(&a, "UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)");

		assert_non_null(strstr(got, "* VANISHED (EARLIER) 1\r\n"));
		assert_non_null(strstr(got, "* VANISHED 2\r\n"));
	}
	RIG_EXPECT(&a, "UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)",
		"* VANISHED (EARLIER) 1:2\r\n* 1 FETCH (UID 3 ", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

/* The log is bounded; before it every UID that is not there has vanished. */
static void test_before_the_log_all_that_is_missing_has_vanished(void **state)
{
	struct rig *r = *state;
	struct rig_client c;
	struct store_account account;
	struct store_mailbox mailbox;
	struct store_txn *txn;
	unsigned validity;
	unsigned long long modseq;

	rig_connect(&c, r, "alice@example.com");
	fill(&c, "INBOX", 9);
	look(&c, "INBOX", &validity, &modseq);
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "UID STORE 1:2,5,9 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&c, "EXPUNGE", "OK");
	RIG_EXPECT(&c, "UNSELECT", "OK");
	assert_int_equal(store_find_account(r->store, slice_str("alice@example.com"), &account), 0);
	for (unsigned round = 0; round < 5; round++) {
		assert_int_equal(store_begin_write(r->store, 0, &txn), 0);
		assert_int_equal(store_mailbox_find(txn, account.id, SLICE_LIT("INBOX"), &mailbox), 0);
		for (unsigned i = 0; i < 4100; i++) {
			struct store_flag_change change = {
				.how = i % 2 ? STORE_FLAGS_ADD : STORE_FLAGS_REMOVE,
				.flags = STORE_FLAGGED,
				.unchanged_since = UINT64_MAX};
			uint32_t uid = 3;
			uint64_t at;

			assert_int_equal(
				store_message_flag(txn, account.id, mailbox.id, &uid, 1, &change, NULL, &at),
				0);
		}
		assert_int_equal(store_commit(&txn), 0);
	}
	RIG_EXPECT(&c, "ENABLE QRESYNC", "OK");
	RESYNC(&c, validity, modseq, "", "* VANISHED (EARLIER) 1:2,5,9\r\n", "* 1 FETCH (UID 3 ", "OK");
	RESYNC(&c, validity, modseq, " 2:8", "* VANISHED (EARLIER) 2,5\r\n", "* 1 FETCH (UID 3 ", "OK");
	RESYNC(&c, validity, modseq, " 1:9 (2:3 4,6)", "* VANISHED (EARLIER) 9\r\n", "OK");
	RESYNC(&c, validity, modseq, " 1:9 (4:5 7,8)", "* VANISHED (EARLIER) 9\r\n", "OK");
	RESYNC(&c, validity, modseq, " 1:4294967294", "* VANISHED (EARLIER) 1:2,5,9\r\n", "OK");
	rig_disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_went_and_changed_is_told_at_select, start, stop),
		cmocka_unit_test_setup_teardown(test_bad_parameters_select_nothing, start, stop),
		cmocka_unit_test_setup_teardown(test_vanished_takes_the_place_of_expunge, start, stop),
		cmocka_unit_test_setup_teardown(test_modseqs_of_a_fetch_hide_no_expunge, start, stop),
		cmocka_unit_test_setup_teardown(
			test_before_the_log_all_that_is_missing_has_vanished, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
