/* NOTIFY (RFC 5465): a watching session, and another one that changes things. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/store/store_mailbox.h"
#include "tests/unit/backend/session/imap_rig.h"

struct pair {
	struct rig rig;
	struct rig_client c, other; /* c watches */
};

static int start(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	rig_start(&p->rig, imap_limits_default);
	rig_add_account(&p->rig, "alice@example.com", 0, 0);
	rig_add_account(&p->rig, "bob@example.com", 0, 0);
	rig_connect(&p->c, &p->rig, "alice@example.com");
	rig_connect(&p->other, &p->rig, "alice@example.com");
	RIG_EXPECT(&p->other, "CREATE Lists/Lemonade", "OK");
	RIG_EXPECT(&p->other, "CREATE misc", "OK");
	*state = p;
	return 0;
}

static int stop(void **state)
{
	struct pair *p = *state;

	rig_disconnect(&p->c);
	rig_disconnect(&p->other);
	rig_stop(&p->rig);
	free(p);
	return 0;
}

#define MAIL "From: a@b.test\r\nTo: c@d.test\r\nSubject: Re: good morning\r\n\r\ntext\r\n"
static void append(struct rig_client *c, const char *mailbox)
{
	assert_non_null(strstr(rig_append(c, mailbox, "", MAIL), "OK ["));
}

/* Comes by itself, while no command runs; the line whole. */
static void comes(struct rig_client *c, const char *line)
{
	const char *got = rig_until(c, line), *at = strstr(got, line);

	assert_non_null(at);
}

/* Nothing has come and nothing comes with a NOOP but its answer. */
static void silent(struct rig_client *c)
{
	const char *got = rig_command(c, "NOOP");

	if (got[0] != 't')
		fail_msg("not wanted: %s", got);
}

static void test_grammar(void **state)
{
	static const char *const bad[] = {"NOTIFY", "NOTIFY SET", "NOTIFY SET STATUS", "NOTIFY NONE x",
		"NOTIFY x", "NOTIFY SET ()", "NOTIFY SET (nonsense (MessageNew MessageExpunge))",
		"NOTIFY SET (personal)", "NOTIFY SET (personal ())", "NOTIFY SET (personal (MessageNew))",
		"NOTIFY SET (personal (MessageExpunge))", "NOTIFY SET (personal (FlagChange))",
		"NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
		"NOTIFY SET (selected (MailboxName))",
		"NOTIFY SET (selected (MessageNew (nonsense) MessageExpunge))",
		"NOTIFY SET (selected NONE) (selected-delayed NONE)",
		"NOTIFY SET (subtree (MessageNew MessageExpunge))", "NOTIFY SET (mailboxes)",
		"NOTIFY SET personal"};
	struct pair *p = *state;

	RIG_EXPECT(&p->c, "CAPABILITY", " NOTIFY ", "OK");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		RIG_EXPECT(&p->c, bad[i], "BAD");
	RIG_EXPECT(&p->c, "NOTIFY SET (personal (AnnotationChange))",
		"NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange "
		"MailboxMetadataChange "
		"ServerMetadataChange)]");
	RIG_EXPECT(&p->c, "NOTIFY SET (personal (x-event))", "NO [BADEVENT (");
	RIG_EXPECT(&p->c, "NOTIFY SET (inboxes NONE)", "OK");
	RIG_EXPECT(&p->c, "NOTIFY NONE", "OK");
	RIG_EXPECT(&p->c,
		"notify set (Selected-Delayed (messagenew MESSAGEEXPUNGE)) (subtree (Lists misc) NONE)",
		"OK");
}

/* The example of section 3.1. */
static void test_the_example(void **state)
{
	struct pair *p = *state;
	const char *got;

	append(&p->other, "Lists/Lemonade");
	got = rig_command(&p->c,
		"notify set status (selected MessageNew (uid body.peek[header.fields (from to subject)]) "
		"MessageExpunge) (subtree Lists MessageNew MessageExpunge)");
	assert_non_null(strstr(got, "* STATUS Lists ("));
	assert_non_null(strstr(got, "* STATUS Lists/Lemonade (MESSAGES 1 UIDNEXT 2 UIDVALIDITY "));
	assert_null(strstr(got, "misc"));
	RIG_EXPECT(&p->c, "SELECT INBOX", "OK");
	append(&p->other, "Lists/Lemonade");
	comes(&p->c, "* STATUS Lists/Lemonade (MESSAGES 2 UIDNEXT 3)");
	append(&p->other, "misc");
	append(&p->other, "INBOX");
	comes(&p->c, "* 1 EXISTS");
	comes(&p->c, "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (from to subject)] {59}");
	comes(&p->c, "Subject: Re: good morning");
	comes(&p->c, ")");
	silent(&p->c);
	/* The same again, for later ones; nothing has been marked as read. */
	append(&p->other, "INBOX");
	comes(&p->c, "* 2 FETCH (UID 2 BODY");
	comes(&p->c, ")");
	RIG_EXPECT(&p->c, "SEARCH SEEN", "* SEARCH\r\n", "OK");
	/* What it puts there itself is told by EXISTS alone. */
	append(&p->c, "INBOX");
	RIG_EXPECT(&p->c, "COPY 1 INBOX", "* 4 EXISTS");
	silent(&p->c);
	append(&p->other, "INBOX");
	comes(&p->c, "* 5 FETCH (UID 5 BODY");
	comes(&p->c, ")");
}

static void test_the_selected_mailbox(void **state)
{
	struct pair *p = *state;

	append(&p->other, "INBOX");
	append(&p->other, "INBOX");
	RIG_EXPECT(&p->c, "SELECT INBOX", "* 2 EXISTS", "OK");
	RIG_EXPECT(&p->other, "SELECT INBOX", "OK");
	/* What has gathered is told before the OK. */
	append(&p->other, "INBOX");
	RIG_EXPECT(&p->c, "NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))", "* 3 EXISTS", "OK");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS (\\Flagged)", "OK");
	comes(&p->c, "* 1 FETCH (UID 1 FLAGS (\\Flagged");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	comes(&p->c, "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Deleted");
	RIG_EXPECT(&p->other, "EXPUNGE", "OK");
	comes(&p->c, "* 1 EXPUNGE");
	/* Without FlagChange no flags, not even with a NOOP. */
	RIG_EXPECT(&p->c, "NOTIFY SET (selected (MessageNew MessageExpunge))", "OK");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS (\\Flagged)", "OK");
	silent(&p->c);
	append(&p->other, "INBOX");
	comes(&p->c, "* 3 EXISTS");
	/* Without SELECTED, nothing of it. */
	RIG_EXPECT(&p->c, "NOTIFY SET (personal (MessageNew MessageExpunge))", "OK");
	append(&p->other, "INBOX");
	silent(&p->c);
	RIG_EXPECT(&p->c, "NOTIFY NONE", "OK");
	append(&p->other, "INBOX");
	silent(&p->c);
	/* One's own expunges are told, whatever was asked for. */
	RIG_EXPECT(&p->c, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&p->c, "EXPUNGE", "* 1 EXPUNGE", "OK");
	RIG_EXPECT(&p->c, "NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))", "OK");
	silent(&p->c);
}

static void test_selected_delayed(void **state)
{
	struct pair *p = *state;

	append(&p->other, "INBOX");
	append(&p->other, "INBOX");
	RIG_EXPECT(&p->c, "SELECT INBOX", "OK");
	RIG_EXPECT(&p->other, "SELECT INBOX", "OK");
	RIG_EXPECT(&p->c, "NOTIFY SET (selected-delayed (MessageNew MessageExpunge))", "OK");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&p->other, "EXPUNGE", "OK");
	append(&p->other, "INBOX");
	comes(&p->c, "* 3 EXISTS"); /* and the expunge waits */
	RIG_EXPECT(&p->c, "FETCH 2 UID", "* 2 FETCH (UID 2)", "OK");
	RIG_EXPECT(&p->c, "NOOP", "* 1 EXPUNGE", "OK");
	/* An IDLE allows it. */
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&p->other, "EXPUNGE", "OK");
	rig_send(&p->c, "i IDLE\r\n", 8);
	comes(&p->c, "* 1 EXPUNGE");
	rig_send(&p->c, "DONE\r\n", 6);
	comes(&p->c, "i OK");
}

/* What the client had not heard of the selected mailbox when it left it, is told as of any other. */
static void test_a_mailbox_that_is_left(void **state)
{
	struct pair *p = *state;

	append(&p->other, "misc");
	append(&p->other, "misc");
	RIG_EXPECT(&p->c, "SELECT misc", "OK");
	RIG_EXPECT(&p->other, "SELECT misc", "OK");
	RIG_EXPECT(&p->c,
		"NOTIFY SET (selected-delayed (MessageNew MessageExpunge)) (personal (MessageNew "
		"MessageExpunge))",
		"OK");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&p->other, "EXPUNGE", "OK");
	append(&p->other, "Lists/Lemonade");
	comes(&p->c, "* STATUS Lists/Lemonade (MESSAGES 1 "); /* so the log is read up to here */
	RIG_EXPECT(&p->c, "SELECT INBOX", "* STATUS misc (MESSAGES 1 UIDNEXT 3)\r\n", "OK");
	RIG_EXPECT(&p->c, "SELECT misc", "* 1 EXISTS", "OK");
	silent(&p->c);
	/* One's own doings there are none of it. */
	RIG_EXPECT(&p->c, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	rig_refuse(&p->c, "CLOSE", "* STATUS");
	silent(&p->c);
}

static void test_other_mailboxes(void **state)
{
	struct pair *p = *state;

	append(&p->other, "misc");
	RIG_EXPECT(&p->c, "SELECT INBOX", "OK");
	RIG_EXPECT(&p->c,
		"NOTIFY SET (mailboxes misc (MessageNew MessageExpunge FlagChange)) (inboxes (MessageNew "
		"MessageExpunge))",
		"OK");
	RIG_EXPECT(&p->other, "SELECT misc", "OK");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS (\\Seen)", "OK");
	comes(&p->c, "* STATUS misc (UIDVALIDITY ");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	comes(&p->c, "* STATUS misc (UIDVALIDITY ");
	RIG_EXPECT(&p->other, "EXPUNGE", "OK");
	comes(&p->c, "* STATUS misc (MESSAGES 0 UIDNEXT 2)");
	/* Not asked for, and selected elsewhere under other rules. */
	append(&p->other, "Lists/Lemonade");
	append(&p->other, "INBOX");
	silent(&p->c);
	RIG_EXPECT(&p->c, "UNSELECT", "OK");
	append(&p->other, "INBOX");
	comes(&p->c, "* STATUS INBOX (MESSAGES 2 UIDNEXT 3)");
	/* One's own doings are no news. */
	append(&p->c, "INBOX");
	append(&p->c, "misc");
	silent(&p->c);
	/* CONDSTORE. */
	RIG_EXPECT(&p->c, "ENABLE CONDSTORE", "OK");
	append(&p->other, "misc");
	comes(&p->c, "* STATUS misc (MESSAGES 2 UIDNEXT 4 HIGHESTMODSEQ ");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS (\\Flagged)", "OK");
	comes(&p->c, "* STATUS misc (UIDVALIDITY ");
	/* In IDLE the same, and no more. */
	rig_send(&p->c, "i IDLE\r\n", 8);
	comes(&p->c, "+ ");
	append(&p->other, "misc");
	comes(&p->c, "* STATUS misc (MESSAGES 3 UIDNEXT 5 HIGHESTMODSEQ ");
	rig_send(&p->c, "DONE\r\n", 6);
	comes(&p->c, "i OK");
}

static void test_names(void **state)
{
	struct pair *p = *state;
	const char *got;

	RIG_EXPECT(&p->c, "NOTIFY SET (personal (MailboxName SubscriptionChange))", "OK");
	RIG_EXPECT(&p->other, "CREATE NewMailbox", "OK");
	comes(&p->c, "* LIST (\\HasNoChildren) \"/\" NewMailbox\r\n");
	RIG_EXPECT(&p->other, "CREATE NewMailbox/child", "OK");
	comes(&p->c, "* LIST (\\HasNoChildren) \"/\" NewMailbox/child\r\n");
	comes(&p->c, "* LIST (\\HasChildren) \"/\" NewMailbox\r\n");
	RIG_EXPECT(&p->other, "SUBSCRIBE NewMailbox", "OK");
	comes(&p->c, "* LIST (\\HasChildren \\Subscribed) \"/\" NewMailbox\r\n");
	RIG_EXPECT(&p->other, "UNSUBSCRIBE NewMailbox", "OK");
	comes(&p->c, "* LIST (\\HasChildren) \"/\" NewMailbox\r\n");
	/* Children go along without a word. */
	RIG_EXPECT(&p->other, "RENAME NewMailbox Renamed", "OK");
	comes(&p->c, "* LIST (\\HasChildren) \"/\" Renamed (\"OLDNAME\" (NewMailbox))\r\n");
	got = rig_command(&p->c, "NOOP");
	assert_null(strstr(got, "child"));
	RIG_EXPECT(&p->other, "DELETE Renamed/child", "OK");
	comes(&p->c, "* LIST (\\NonExistent) \"/\" Renamed/child\r\n");
	comes(&p->c, "* LIST (\\HasNoChildren) \"/\" Renamed\r\n");
	RIG_EXPECT(&p->other, "RENAME INBOX old", "OK");
	comes(&p->c, "* LIST (\\HasNoChildren) \"/\" old (\"OLDNAME\" (INBOX))\r\n");
	silent(&p->c);
	RIG_EXPECT(&p->c, "CREATE own", "OK");
	RIG_EXPECT(&p->c, "DELETE own", "OK");
	silent(&p->c);
	/* Only what was asked for. */
	RIG_EXPECT(&p->c, "NOTIFY SET (subtree Lists (MailboxName)) (subscribed (SubscriptionChange))", "OK");
	RIG_EXPECT(&p->other, "CREATE other", "OK");
	RIG_EXPECT(&p->other, "CREATE Lists/x", "OK");
	comes(&p->c, "* LIST (\\HasNoChildren) \"/\" Lists/x\r\n");
	RIG_EXPECT(&p->other, "SUBSCRIBE other", "OK");
	comes(&p->c, "* LIST (\\HasNoChildren \\Subscribed) \"/\" other\r\n");
	RIG_EXPECT(&p->other, "UNSUBSCRIBE other", "OK");
	comes(&p->c, "* LIST (\\HasNoChildren) \"/\" other\r\n");
}

/* RENAME of INBOX leaves an empty one: no name, but what is in it. */
static void test_inbox_renamed(void **state)
{
	struct pair *p = *state;

	append(&p->other, "INBOX");
	RIG_EXPECT(&p->c, "NOTIFY SET (mailboxes INBOX (MessageNew MessageExpunge MailboxName))", "OK");
	RIG_EXPECT(&p->other, "RENAME INBOX old", "OK");
	comes(&p->c, "* STATUS INBOX (MESSAGES 0 UIDNEXT 1");
	silent(&p->c);
}

/* Section 5.8: after an overflow as after NOTIFY NONE. More rows than the log has come at once, without a notice. */
static void test_overflow(void **state)
{
	struct pair *p = *state;
	struct store_account account;
	struct store_txn *txn;
	char name[40];

	RIG_EXPECT(&p->c, "SELECT misc", "OK");
	RIG_EXPECT(&p->c, "NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (SubscriptionChange))",
		"OK");
	assert_int_equal(store_find_account(p->rig.store, SLICE_LIT("alice@example.com"), &account), 0);
	assert_int_equal(store_begin_write(p->rig.store, account.slot, &txn), 0);
	for (int i = 0; i < 2001; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		assert_int_equal(store_mailbox_subscribe(txn, account.id, slice_str(name), true), 0);
	}
	assert_int_equal(store_commit(&txn), 0);
	append(&p->other, "misc");
	(void)rig_until(&p->c, "* OK [NOTIFICATIONOVERFLOW] ");
	append(&p->other, "misc");
	RIG_EXPECT(&p->other, "SUBSCRIBE misc", "OK");
	silent(&p->c);
	RIG_EXPECT(&p->c, "NOTIFY SET (selected (MessageNew MessageExpunge))", "* 2 EXISTS", "OK");
}

/* What has gathered for a set is told before another one replaces it. The store is changed behind the session's back: no notice comes. */
static void test_one_set_after_another(void **state)
{
	struct pair *p = *state;
	struct store_account account;
	struct store_txn *txn;
	uint32_t id;

	RIG_EXPECT(&p->c, "NOTIFY SET (personal (MailboxName))", "OK");
	assert_int_equal(store_find_account(p->rig.store, SLICE_LIT("alice@example.com"), &account), 0);
	assert_int_equal(store_begin_write(p->rig.store, account.slot, &txn), 0);
	assert_int_equal(store_mailbox_create(txn, account.id, SLICE_LIT("between"), STORE_USE_NONE, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
	RIG_EXPECT(&p->c, "NOTIFY SET (personal (MailboxName SubscriptionChange))",
		"* LIST (\\HasNoChildren) \"/\" between\r\n", "OK");
	silent(&p->c);
}

static void test_metadata(void **state)
{
	struct pair *p = *state;

	RIG_EXPECT(&p->c, "NOTIFY SET (mailboxes misc (MailboxMetadataChange ServerMetadataChange))", "OK");
	RIG_EXPECT(&p->other, "SETMETADATA INBOX (/shared/comment \"x\")", "OK");
	RIG_EXPECT(&p->other, "SETMETADATA misc (/shared/comment \"x\")", "OK");
	comes(&p->c, "* METADATA misc /shared/comment\r\n");
	RIG_EXPECT(&p->other, "SETMETADATA misc (/shared/comment NIL)", "OK");
	comes(&p->c, "* METADATA misc /shared/comment\r\n");
	RIG_EXPECT(&p->other, "SETMETADATA \"\" (/private/comment \"x\")", "OK");
	comes(&p->c, "* METADATA \"\" /private/comment\r\n");
	silent(&p->c);
}

static void test_qresync(void **state)
{
	struct pair *p = *state;

	append(&p->other, "INBOX");
	RIG_EXPECT(&p->c, "ENABLE QRESYNC", "OK");
	RIG_EXPECT(&p->c, "SELECT INBOX", "OK");
	RIG_EXPECT(&p->other, "SELECT INBOX", "OK");
	RIG_EXPECT(&p->c, "NOTIFY SET (selected (MessageNew (uid flags) MessageExpunge FlagChange))", "OK");
	RIG_EXPECT(&p->other, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	comes(&p->c, "* 1 FETCH (UID 1 MODSEQ (");
	RIG_EXPECT(&p->other, "EXPUNGE", "OK");
	comes(&p->c, "* VANISHED 1\r\n");
	append(&p->other, "INBOX");
	comes(&p->c, "* 1 FETCH (UID 2 FLAGS");
	silent(&p->c);
}

static void test_security_10_watching_is_bounded(void **state)
{
	struct pair *p = *state;
	struct buf command = {0};

	buf_add_str(&command, "NOTIFY SET (mailboxes (");
	for (int i = 0; i < 201; i++)
		buf_printf(&command, "%sbox%d", i ? " " : "", i);
	buf_add_str(&command, ") (MailboxName))");
	RIG_EXPECT(&p->c, buf_str_view(&command), "NO [NOTIFICATIONOVERFLOW]");
	buf_clear(&command);
	buf_add_str(&command, "NOTIFY SET");
	for (int i = 0; i < 21; i++)
		buf_add_str(&command, " (personal (MailboxName))");
	RIG_EXPECT(&p->c, buf_str_view(&command), "NO [NOTIFICATIONOVERFLOW]");
	buf_clear(&command);
	buf_add_str(&command, "NOTIFY SET (mailboxes (");
	for (int i = 0; i < 100; i++)
		buf_printf(&command, "%s%0390d", i ? " " : "", i);
	buf_add_str(&command, ") (MailboxName))");
	RIG_EXPECT(&p->c, buf_str_view(&command), "NO [NOTIFICATIONOVERFLOW]");
	/* The set before is still in force. */
	RIG_EXPECT(&p->c, "NOTIFY SET (personal (MailboxName))", "OK");
	RIG_EXPECT(&p->other, "CREATE n", "OK");
	comes(&p->c, "* LIST (\\HasNoChildren) \"/\" n\r\n");
	buf_deinit(&command);
}

static void test_security_15_nothing_of_others(void **state)
{
	struct pair *p = *state;
	struct rig_client bob;

	rig_connect(&bob, &p->rig, "bob@example.com");
	RIG_EXPECT(&bob,
		"NOTIFY SET STATUS (personal (MessageNew MessageExpunge FlagChange MailboxName "
		"SubscriptionChange "
		"MailboxMetadataChange ServerMetadataChange)) (subtree Lists (MailboxName))",
		"OK");
	append(&p->other, "INBOX");
	append(&p->other, "misc");
	RIG_EXPECT(&p->other, "CREATE Lists/secret", "OK");
	RIG_EXPECT(&p->other, "SETMETADATA INBOX (/shared/comment \"x\")", "OK");
	silent(&bob);
	rig_disconnect(&bob);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_grammar, start, stop),
		cmocka_unit_test_setup_teardown(test_the_example, start, stop),
		cmocka_unit_test_setup_teardown(test_the_selected_mailbox, start, stop),
		cmocka_unit_test_setup_teardown(test_selected_delayed, start, stop),
		cmocka_unit_test_setup_teardown(test_a_mailbox_that_is_left, start, stop),
		cmocka_unit_test_setup_teardown(test_other_mailboxes, start, stop),
		cmocka_unit_test_setup_teardown(test_names, start, stop),
		cmocka_unit_test_setup_teardown(test_inbox_renamed, start, stop),
		cmocka_unit_test_setup_teardown(test_overflow, start, stop),
		cmocka_unit_test_setup_teardown(test_one_set_after_another, start, stop),
		cmocka_unit_test_setup_teardown(test_metadata, start, stop),
		cmocka_unit_test_setup_teardown(test_qresync, start, stop),
		cmocka_unit_test_setup_teardown(test_security_10_watching_is_bounded, start, stop),
		cmocka_unit_test_setup_teardown(test_security_15_nothing_of_others, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
