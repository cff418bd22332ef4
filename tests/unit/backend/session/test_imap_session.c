/* The IMAP session over real store and loop: every command, two sessions at once, two accounts apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/backend/session/imap_rig.h"

static const char mail_one[] = "From: Alice <alice@example.com>\r\nTo: bob@example.com\r\n"
			       "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= one\r\n"
			       "Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n"
			       "Hello body one\r\n";
static const char mail_two[] =
	"From: Carol <carol@example.com>\r\nSubject: two\r\n"
	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
	"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
	"Stra=DFe first part\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>second</p>\r\n--b--\r\n";

static int start(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_start(r, imap_limits_default);
	rig_add_account(r, "alice@example.com", 0, 0);
	rig_add_account(r, "bob@example.com", 20000, 0);
	*state = r;
	return 0;
}

static int stop(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

static void test_messages_are_appended_selected_and_fetched(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "CAPABILITY", "* CAPABILITY IMAP4rev1 ", " CONDSTORE", "OK");
	assert_non_null(
		strstr(rig_append(&c, "INBOX", "(\\Seen $x) \" 1-Feb-2020 10:00:00 +0200\" ", mail_one),
			"OK [APPENDUID "));
	assert_non_null(strstr(rig_append(&c, "INBOX", "", mail_two), "OK [APPENDUID "));
	RIG_EXPECT(&c, "SELECT inbox", "* FLAGS (", "* 2 EXISTS", "* 2 RECENT", "[UNSEEN 2]", "[UIDVALIDITY ",
		"[UIDNEXT 3]", "[HIGHESTMODSEQ ", "OK [READ-WRITE]");
	RIG_EXPECT(&c, "FETCH 1 (FLAGS UID RFC822.SIZE INTERNALDATE)", "* 1 FETCH (UID 1 RFC822.SIZE ",
		"FLAGS (\\Seen \\Recent $x) INTERNALDATE \" 1-Feb-2020 08:00:00 +0000\")", "OK");
	RIG_EXPECT(&c, "FETCH 1 ENVELOPE", "* 1 FETCH (ENVELOPE (\"Fri, 20 Nov 2026 12:00:00 +0000\" ",
		"\"<1@example.com>\"))", "OK");
	RIG_EXPECT(&c, "FETCH 2 (BODYSTRUCTURE)",
		"BODYSTRUCTURE ((\"text\" \"plain\" (\"charset\" \"iso-8859-1\")", "\"mixed\"", "OK");
	RIG_EXPECT(&c, "FETCH 2 BODY", "* 2 FETCH (BODY ((", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[]", "BODY[] {", mail_one, ")\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[TEXT]<2.5>", "BODY[TEXT]<2> {5}\r\nllo b)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[TEXT]<200.5>", "BODY[TEXT]<200> {0}\r\n)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[HEADER.FIELDS (to MESSAGE-ID)]",
		"BODY[HEADER.FIELDS (to MESSAGE-ID)] {52}\r\nTo: bob@example.com\r\n"
		"Message-ID: <1@example.com>\r\n\r\n)",
		"OK");
	RIG_EXPECT(&c, "FETCH 2 (BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[3])",
		"BODY[1] {19}\r\nStra=DFe first part BODY[2.MIME] {27}", "OK");
	rig_disconnect(&c);
}

static void fill(struct rig_client *c, const char *mailbox, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_non_null(
			strstr(rig_append(c, mailbox, "", i % 2 ? mail_two : mail_one), "OK [APPENDUID "));
}

static void test_flags_are_stored_and_shown(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	fill(&c, "INBOX", 4);
	RIG_EXPECT(&c, "SELECT INBOX", "* 4 EXISTS", "OK");
	RIG_EXPECT(&c, "STORE 1:2 +FLAGS (\\Flagged $work)", "* FLAGS (", "$work)",
		"* 1 FETCH (FLAGS (\\Flagged \\Recent $work))", "* 2 FETCH (FLAGS (\\Flagged", "OK");
	RIG_EXPECT(&c, "STORE 2 -FLAGS $WORK", "* 2 FETCH (FLAGS (\\Flagged \\Recent))", "OK");
	RIG_EXPECT(&c, "UID STORE 3 FLAGS \\Seen", "* 3 FETCH (UID 3 FLAGS (\\Seen \\Recent))", "OK");
	rig_refuse(&c, "STORE 1:4 +FLAGS.SILENT (\\Answered)", "FETCH");
	RIG_EXPECT(&c, "FETCH 1,3:4 FLAGS", "* 1 FETCH (FLAGS (\\Answered \\Flagged \\Recent $work))",
		"* 3 FETCH (FLAGS (\\Answered ", "* 4 FETCH", "OK");
	RIG_EXPECT(&c, "STORE 1 FLAGS ()", "* 1 FETCH (FLAGS (\\Recent))", "OK");
	RIG_EXPECT(&c, "STORE 1 +FLAGS (\\Bogus)", "BAD");
	RIG_EXPECT(&c, "STORE 1 +FLAGS ((x))", "BAD");
	RIG_EXPECT(&c, "STORE 5 +FLAGS (\\Seen)", "BAD");
	RIG_EXPECT(&c, "UID STORE 900 +FLAGS (\\Seen)", "OK");
	RIG_EXPECT(&c, "EXAMINE INBOX", "[PERMANENTFLAGS ()]", "OK [READ-ONLY]");
	RIG_EXPECT(&c, "STORE 1 +FLAGS (\\Seen)", "NO");
	rig_refuse(&c, "FETCH 1 BODY[]", "\\Seen");
	RIG_EXPECT(&c, "SELECT INBOX", "* 0 RECENT", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY[TEXT]", "* 1 FETCH (FLAGS (\\Seen) BODY[TEXT] {", "OK");
	rig_refuse(&c, "FETCH 1 BODY[TEXT]", "FLAGS");
	RIG_EXPECT(&c, "FETCH 2 (RFC822.HEADER)", "* 2 FETCH (RFC822.HEADER {", "OK");
	RIG_EXPECT(&c, "FETCH 2 FLAGS", "* 2 FETCH (FLAGS (\\Answered \\Flagged))", "OK");
	RIG_EXPECT(&c, "FETCH 2 RFC822", "FLAGS (\\Answered \\Flagged \\Seen) RFC822 {", "OK");
	rig_disconnect(&c);
}

static void test_expunge_and_sequence_numbers(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	fill(&c, "INBOX", 6);
	RIG_EXPECT(&c, "SELECT INBOX", "* 6 EXISTS", "OK");
	RIG_EXPECT(&c, "STORE 2,4:5 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&c, "UID EXPUNGE 4", "* 4 EXPUNGE", "OK");
	RIG_EXPECT(&c, "EXPUNGE", "* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n", "OK");
	RIG_EXPECT(&c, "UID FETCH 1:* UID", "* 1 FETCH (UID 1)\r\n* 2 FETCH (UID 3)\r\n* 3 FETCH (UID 6)\r\n",
		"OK");
	RIG_EXPECT(&c, "UID FETCH 100:* UID", "* 3 FETCH (UID 6)", "OK");
	RIG_EXPECT(&c, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	rig_refuse(&c, "CLOSE", "EXPUNGE");
	RIG_EXPECT(&c, "FETCH 1 UID", "BAD");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES UIDNEXT UNSEEN RECENT SIZE DELETED DELETED-STORAGE)",
		"* STATUS INBOX (MESSAGES 2 RECENT 0 UIDNEXT 7 UNSEEN 2 SIZE ",
		"DELETED 0 DELETED-STORAGE 0)", "OK");
	RIG_EXPECT(&c, "SELECT INBOX", "* 2 EXISTS", "OK");
	RIG_EXPECT(&c, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&c, "UNSELECT", "OK");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES)", "(MESSAGES 2)", "OK");
	rig_disconnect(&c);
}

static void test_two_sessions_see_each_other(void **state)
{
	struct rig_client a, b;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	fill(&a, "INBOX", 5);
	RIG_EXPECT(&a, "SELECT INBOX", "* 5 EXISTS", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "* 5 EXISTS", "OK");
	RIG_EXPECT(&a, "STORE 2 +FLAGS (\\Deleted \\Seen $k)", "OK");
	RIG_EXPECT(&b, "NOOP", "* FLAGS (", "$k)", "* 2 FETCH (UID 2 FLAGS (\\Deleted \\Seen $k))", "OK");
	RIG_EXPECT(&a, "EXPUNGE", "* 2 EXPUNGE", "OK");
	fill(&a, "INBOX", 1);
	/* No EXPUNGE within FETCH, STORE, SEARCH (RFC 3501 section 7.4.1): the old numbers still count. */
	rig_refuse(&b, "FETCH 1:5 (UID BODY.PEEK[HEADER])", "EXPUNGE");
	RIG_EXPECT(&b, "FETCH 3 UID", "* 3 FETCH (UID 3)", "OK");
	rig_refuse(&b, "STORE 3 +FLAGS (\\Flagged)", "EXPUNGE");
	rig_refuse(&b, "SEARCH ALL", "EXPUNGE\r");
	/* A message that is gone for others can still be read by who was told of it. */
	RIG_EXPECT(&b, "FETCH 2 BODY.PEEK[TEXT]", "* 2 FETCH (BODY[TEXT] {", "--b--", "OK");
	RIG_EXPECT(&b, "FETCH 2 FLAGS", "OK [EXPUNGEISSUED]");
	RIG_EXPECT(&b, "NOOP", "* 2 EXPUNGE", "OK");
	RIG_EXPECT(&b, "UID FETCH 1:* FLAGS", "* 1 FETCH (UID 1", "* 2 FETCH (UID 3 FLAGS (\\Flagged",
		"* 5 FETCH (UID 6", "OK");
	RIG_EXPECT(&a, "NOOP", "OK");
	RIG_EXPECT(&a, "UID FETCH 3 FLAGS", "* 2 FETCH (UID 3 FLAGS (\\Flagged", "OK");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

static void test_idle_hears_at_once(void **state)
{
	struct rig_client a, b;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	fill(&a, "INBOX", 2);
	RIG_EXPECT(&a, "SELECT INBOX", "* 2 EXISTS", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "* 2 EXISTS", "OK");
	rig_send(&b, "i IDLE\r\n", 8);
	(void)rig_until(&b, "+ ");
	fill(&a, "INBOX", 1);
	(void)rig_until(&b, "* 3 EXISTS");
	RIG_EXPECT(&a, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	assert_non_null(strstr(rig_until(&b, "* 1 FETCH"), "(UID 1 FLAGS (\\Deleted"));
	RIG_EXPECT(&a, "EXPUNGE", "OK");
	(void)rig_until(&b, "* 1 EXPUNGE");
	rig_send(&b, "DONE\r\n", 6);
	(void)rig_until(&b, "i OK");
	RIG_EXPECT(&b, "FETCH 2 UID", "* 2 FETCH (UID 3)", "OK");
	/* Without a mailbox it is legal too, and its end is found in the same packet. */
	RIG_EXPECT(&b, "UNSELECT", "OK");
	rig_send(&b, "j IDLE\r\nDONE\r\nk NOOP\r\n", 22);
	(void)rig_until(&b, "j OK");
	(void)rig_until(&b, "k OK");
	rig_send(&b, "l IDLE\r\nx\r\n", 11);
	(void)rig_until(&b, "l BAD");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

static void test_messages_are_copied_and_moved(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	fill(&c, "INBOX", 4);
	RIG_EXPECT(&c, "SELECT INBOX", "* 4 EXISTS", "OK");
	RIG_EXPECT(&c, "STORE 2 +FLAGS.SILENT (\\Flagged $x)", "OK");
	RIG_EXPECT(&c, "COPY 2:3 Archive", "OK [COPYUID ", " 2:3 1:2] ");
	RIG_EXPECT(&c, "UID COPY 1,4 Archive", "OK [COPYUID ", " 1,4 3:4] ");
	RIG_EXPECT(&c, "UID COPY 99 Archive", "OK ");
	RIG_EXPECT(&c, "COPY 1 nowhere", "NO [TRYCREATE]");
	RIG_EXPECT(&c, "UID COPY 99 nowhere", "NO [TRYCREATE]");
	RIG_EXPECT(
		&c, "MOVE 1:2 Trash", "* OK [COPYUID ", " 1:2 1:2] ", "* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n", "OK");
	RIG_EXPECT(&c, "UID MOVE 4 Trash", "* OK [COPYUID ", " 4 3] ", "* 2 EXPUNGE", "OK");
	RIG_EXPECT(&c, "COPY 1 INBOX", "* 2 EXISTS", "OK [COPYUID ", " 3 5] ");
	RIG_EXPECT(&c, "SELECT Trash", "* 3 EXISTS", "OK");
	RIG_EXPECT(&c, "FETCH 2 FLAGS", "(FLAGS (\\Flagged \\Recent $x))", "OK");
	RIG_EXPECT(&c, "EXAMINE Archive", "* 4 EXISTS", "OK");
	RIG_EXPECT(&c, "MOVE 1 Trash", "NO");
	rig_disconnect(&c);
}

static void test_mailboxes_are_listed_in_every_way(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "LIST \"\" \"\"", "* LIST (\\Noselect) \"/\" \"\"\r\n", "OK");
	RIG_EXPECT(&c, "LIST \"\" *", "* LIST (\\HasNoChildren) \"/\" INBOX", "\\Archive) \"/\" Archive",
		"\\Drafts) \"/\" Drafts", "\\Junk", "\\Sent", "\\Trash", "OK");
	RIG_EXPECT(&c, "CREATE work/2026/&AOQ-", "OK");
	RIG_EXPECT(&c, "CREATE work/2026/&AOQ-", "NO [ALREADYEXISTS]");
	RIG_EXPECT(&c, "CREATE inbox", "NO");
	RIG_EXPECT(&c, "CREATE \"a&b\"", "NO [CANNOT]");
	RIG_EXPECT(&c, "CREATE \"a*\"", "NO [CANNOT]");
	RIG_EXPECT(&c, "CREATE INBOX/sub/", "OK");
	rig_refuse(&c, "LIST \"\" %", "2026");
	RIG_EXPECT(&c, "LIST \"\" work/%", "* LIST (\\HasChildren) \"/\" work/2026", "OK");
	RIG_EXPECT(&c, "LIST work/ 2026/*", "\"/\" work/2026/&AOQ-", "OK");
	RIG_EXPECT(&c, "LIST \"\" inbox*", "\"/\" INBOX\r\n", "\"/\" INBOX/sub\r\n", "OK");
	RIG_EXPECT(&c, "LIST \"\" (INBOX Tr%) RETURN (STATUS (MESSAGES UIDNEXT))", "\"/\" INBOX\r\n",
		"* STATUS INBOX (MESSAGES 0 UIDNEXT 1)", "\"/\" Trash\r\n", "* STATUS Trash", "OK");
	RIG_EXPECT(&c, "LIST (SPECIAL-USE) \"\" * RETURN (SPECIAL-USE)", "\\Archive", "\\Trash", "OK");
	rig_refuse(&c, "LIST (SPECIAL-USE) \"\" *", "INBOX");
	RIG_EXPECT(&c, "UNSUBSCRIBE Junk", "OK");
	RIG_EXPECT(&c, "SUBSCRIBE work/2026/&AOQ-", "OK");
	RIG_EXPECT(&c, "SUBSCRIBE nowhere", "NO");
	rig_refuse(&c, "LSUB \"\" *", "Junk");
	RIG_EXPECT(&c, "LSUB \"\" %", "* LSUB () \"/\" INBOX", "* LSUB (\\Noselect) \"/\" work\r\n", "OK");
	rig_refuse(&c, "LIST (SUBSCRIBED) \"\" %", "work");
	RIG_EXPECT(&c, "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %",
		"\"/\" work (\"CHILDINFO\" (\"SUBSCRIBED\"))", "OK");
	/* No CHILDINFO for a name that is told for its sake alone, when the children are told too (RFC 5258 section 3.5). */
	rig_refuse(&c, "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" *", "CHILDINFO");
	RIG_EXPECT(&c, "LIST (RECURSIVEMATCH) \"\" %", "BAD");
	RIG_EXPECT(&c, "LIST \"\" * RETURN (SUBSCRIBED CHILDREN)", "\\HasChildren \\Subscribed) \"/\" INBOX",
		"OK");
	RIG_EXPECT(&c, "CREATE Later (USE (\\Flagged))", "OK");
	RIG_EXPECT(&c, "CREATE Later2 (USE (\\All))", "NO [USEATTR]");
	RIG_EXPECT(&c, "LIST (SPECIAL-USE) \"\" Later", "\\Flagged) \"/\" Later", "OK");
	RIG_EXPECT(&c, "RENAME work old", "OK");
	RIG_EXPECT(&c, "LIST \"\" old/*", "old/2026\r\n", "old/2026/&AOQ-", "OK");
	RIG_EXPECT(&c, "RENAME old Trash", "NO [ALREADYEXISTS]");
	RIG_EXPECT(&c, "RENAME nowhere x", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "DELETE old/2026/&AOQ-", "OK");
	/* Still subscribed under the old name, which does not exist any more. */
	RIG_EXPECT(&c, "LIST (SUBSCRIBED) \"\" *", "\\NonExistent \\Subscribed) \"/\" work/2026/&AOQ-", "OK");
	RIG_EXPECT(&c, "DELETE INBOX", "NO");
	RIG_EXPECT(&c, "DELETE nowhere", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "STATUS nowhere (MESSAGES)", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "SELECT nowhere", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "NAMESPACE", "* NAMESPACE ((\"\" \"/\")) ((\"user/\" \"/\")) NIL", "OK");
	rig_disconnect(&c);
}

static void test_searches_find_what_they_should(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	(void)rig_append(&c, "INBOX", "(\\Seen $work) \"10-Jan-2020 12:00:00 +0000\" ", mail_one);
	(void)rig_append(&c, "INBOX", "(\\Flagged) \"11-Jan-2020 12:00:00 +0000\" ", mail_two);
	fill(&c, "INBOX", 1);
	RIG_EXPECT(&c, "SELECT INBOX", "* 3 EXISTS", "OK");
	static const struct {
		const char *keys, *want;
	} rows[] = {
		{"ALL", "* SEARCH 1 2 3\r\n"},
		{"UNSEEN", "* SEARCH 2 3\r\n"},
		{"NEW", "* SEARCH 2 3\r\n"},
		{"OLD", "* SEARCH\r\n"},
		{"KEYWORD $WORK", "* SEARCH 1\r\n"},
		{"UNKEYWORD $work", "* SEARCH 2 3\r\n"},
		{"2:*", "* SEARCH 2 3\r\n"},
		{"UID 1,3", "* SEARCH 1 3\r\n"},
		{"NOT (FLAGGED)", "* SEARCH 1 3\r\n"},
		{"OR SEEN FLAGGED", "* SEARCH 1 2\r\n"},
		{"FROM alice", "* SEARCH 1 3\r\n"},
		{"FROM ALICE SEEN", "* SEARCH 1\r\n"},
		{"SUBJECT \"gru\"",
			"* SEARCH 1 3\r\n"}, /* RFC 5051: decomposed, the umlaut is a u and dots */
		{"SUBJECT \"grue\"", "* SEARCH\r\n"},
		{"CHARSET UTF-8 SUBJECT {9+}\r\ngr\xc3\xbc\xc3\x9f"
		 "e o",
			"* SEARCH 1 3\r\n"},
		{"CHARSET ISO-8859-1 SUBJECT {3+}\r\nR\xfc\xdf", "* SEARCH 1 3\r\n"},
		{"HEADER Message-ID \"\"", "* SEARCH 1 3\r\n"},
		{"HEADER message-id 1@EXAMPLE", "* SEARCH 1 3\r\n"},
		{"BODY \"first part\"", "* SEARCH 2\r\n"},
		{"CHARSET UTF-8 BODY {7+}\r\nstra\xc3\x9f"
		 "e",
			"* SEARCH 2\r\n"},
		{"BODY strasse", "* SEARCH 2\r\n"},
		{"BODY alice", "* SEARCH\r\n"},
		{"TEXT alice", "* SEARCH 1 3\r\n"},
		{"TEXT quoted-printable", "* SEARCH 2\r\n"},
		{"ON 11-Jan-2020", "* SEARCH 2\r\n"},
		{"BEFORE 11-Jan-2020", "* SEARCH 1\r\n"},
		{"SINCE 11-Jan-2020", "* SEARCH 2 3\r\n"},
		{"SENTON 20-Nov-2026", "* SEARCH 1 3\r\n"},
		{"SENTBEFORE 20-Nov-2026", "* SEARCH\r\n"},
		{"SMALLER 250", "* SEARCH 1 3\r\n"},
		{"LARGER 250", "* SEARCH 2\r\n"},
		{"RETURN (MIN MAX COUNT ALL) ALL", ") MIN 1 MAX 3 COUNT 3 ALL 1:3\r\n"},
		{"RETURN () UNSEEN", ") ALL 2:3\r\n"},
		{"RETURN (MIN COUNT) DRAFT", ") COUNT 0\r\n"},
		{"MODSEQ 1", " (MODSEQ "},
		{"CHARSET x-nonsense FROM x", "NO [BADCHARSET"},
		{"FROM", "BAD"},
		{"4", "BAD"},
		{"OR SEEN", "BAD"},
		{"()", "BAD"},
		{"NONSENSE", "BAD"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf command = {0};

		buf_printf(&command, "SEARCH %s", rows[i].keys);
		RIG_EXPECT(&c, buf_str_view(&command), rows[i].want);
		buf_deinit(&command);
	}
	RIG_EXPECT(&c, "UID SEARCH RETURN (ALL) SEEN", ") UID ALL 1\r\n", "OK");
	rig_disconnect(&c);
}

/* The number behind a word of an answer. */
static unsigned long long number_after(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	assert_non_null(at);
	return strtoull(at + strlen(word), NULL, 10);
}

static void test_condstore_works_whole(void **state)
{
	struct rig_client a, b;
	unsigned long long modseq;
	char command[200];

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	fill(&a, "INBOX", 3);
	RIG_EXPECT(&a, "ENABLE CONDSTORE X-NOTHING", "* ENABLED CONDSTORE\r\n", "OK");
	modseq = number_after(rig_command(&a, "SELECT INBOX (CONDSTORE)"), "[HIGHESTMODSEQ ");
	RIG_EXPECT(&b, "SELECT INBOX", "OK");
	RIG_EXPECT(&b, "STORE 2 +FLAGS (\\Seen)", "* 2 FETCH (FLAGS (\\Seen))", "OK");
	RIG_EXPECT(&a, "NOOP", "* 2 FETCH (UID 2 MODSEQ (", ") FLAGS (\\Seen", "OK");
	snprintf(command, sizeof(command), "FETCH 1:* (FLAGS) (CHANGEDSINCE %llu)", modseq);
	RIG_EXPECT(&a, command, "* 2 FETCH (MODSEQ (", ") FLAGS (", "OK");
	rig_refuse(&a, command, "* 1 FETCH");
	snprintf(command, sizeof(command), "STORE 1:3 (UNCHANGEDSINCE %llu) +FLAGS.SILENT (\\Flagged)",
		modseq);
	RIG_EXPECT(&a, command, "* 1 FETCH (UID 1 MODSEQ (", "OK [MODIFIED 2]");
	snprintf(command, sizeof(command), "SEARCH MODSEQ %llu", modseq + 1);
	RIG_EXPECT(&a, command, "* SEARCH 1 2 3 (MODSEQ ", "OK");
	RIG_EXPECT(&a, "STATUS INBOX (HIGHESTMODSEQ)", "HIGHESTMODSEQ ", "OK");
	RIG_EXPECT(&a, "FETCH 1 (MODSEQ)", "* 1 FETCH (MODSEQ (", "OK");
	RIG_EXPECT(&a, "SELECT INBOX (QRESYNC)", "BAD");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

static void test_append_is_refused_in_order(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "bob@example.com");
	RIG_EXPECT(&c, "APPEND nowhere {3}", "NO [TRYCREATE]");
	RIG_EXPECT(&c, "APPEND nowhere {3+}\r\nabc", "NO [TRYCREATE]");
	RIG_EXPECT(&c, "APPEND INBOX {30000}", "NO [OVERQUOTA]");
	RIG_EXPECT(&c, "APPEND INBOX {99999999999}", "NO [TOOBIG]");
	RIG_EXPECT(&c, "APPEND INBOX {0+}\r\n", "NO");
	RIG_EXPECT(&c, "APPEND INBOX (\\Nonsense) {3+}\r\nabc", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX \"no date\" {3+}\r\nabc", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX abc", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX {3+}\r\nabc extra", "BAD");
	rig_send(&c, "n APPEND INBOX {3+}\r\na\0b\r\n", 26);
	(void)rig_until(&c, "n BAD");
	/* A synchronising literal is asked for. */
	rig_send(&c, "s APPEND INBOX {5}\r\n", 20);
	(void)rig_until(&c, "+ ");
	rig_send(&c, "a: b\n\r\n", 7);
	(void)rig_until(&c, "s OK [APPENDUID ");
	RIG_EXPECT(&c, "GETQUOTAROOT INBOX", "* QUOTAROOT INBOX \"\"", "* QUOTA \"\" (STORAGE 1 19", "OK");
	RIG_EXPECT(&c, "GETQUOTA \"\"", "* QUOTA \"\" (STORAGE 1 19", "OK");
	RIG_EXPECT(&c, "GETQUOTA x", "NO");
	RIG_EXPECT(&c, "SETQUOTA \"\" (STORAGE 100)", "NO [NOPERM]");
	RIG_EXPECT(&c, "SELECT INBOX", "* 1 EXISTS", "OK");
	fill(&c, "INBOX", 2);
	RIG_EXPECT(&c, "NOOP", "OK");
	RIG_EXPECT(&c, "FETCH 3 (UID FLAGS)", "* 3 FETCH (UID 3 FLAGS (\\Recent))", "OK");
	/* Seen coming by this session, they are not recent for the next one, itself included. */
	RIG_EXPECT(&c, "SELECT INBOX", "* 3 EXISTS", "* 0 RECENT", "OK");
	rig_disconnect(&c);
	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "GETQUOTAROOT INBOX", "* QUOTAROOT INBOX \"\"\r\n",
		"* QUOTA \"\" (MAILBOX 6 10000)\r\n", "OK");
	rig_disconnect(&c);
}

/* What a client says of itself after login is no proxy's word (class of XCLIENT, ID x-*). */
static void test_commands_out_of_place_are_refused(void **state)
{
	static const struct {
		const char *command, *want;
	} rows[] = {
		{"ID (\"name\" \"x\")", "* ID (\"name\" \"Mailtier\")"},
		{"ID NIL", "OK"},
		{"ID (\"x-originating-ip\" \"1.2.3.4\")", "NO [NOPERM]"},
		{"ID (\"X-Session-ID\" \"1\")", "NO [NOPERM]"},
		{"ID (name x)", "BAD"},
		{"ID (\"name\")", "BAD"},
		{"XCLIENT ADDR=1.2.3.4", "BAD"},
		{"LOGIN a b", "BAD"},
		{"AUTHENTICATE PLAIN", "BAD"},
		{"STARTTLS", "BAD"},
		{"UNAUTHENTICATE", "BAD"},
		{"FETCH 1 FLAGS", "BAD"},
		{"EXPUNGE", "BAD"},
		{"UID NOOP", "BAD"},
		{"UID", "BAD"},
		{"NONSENSE", "BAD"},
		{"NOOP x", "BAD"},
		{"SELECT", "BAD"},
		{"SELECT INBOX x", "BAD"},
		{"STATUS INBOX ()", "BAD"},
		{"STATUS INBOX (NONSENSE)", "BAD"},
	};
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		RIG_EXPECT(&c, rows[i].command, rows[i].want);
	RIG_EXPECT(&c, "LOGOUT", "* BYE", "OK");
	rig_disconnect(&c);
}

/* Security class 15: whatever alice asks, her answers are the same whether bob has mail or not. */
static void test_class_15_nobody_reaches_another_account(void **state)
{
	static const char *const commands[] = {"LIST \"\" *", "LIST \"\" \"*bob*\"", "LSUB \"\" *",
		"SELECT bobs", "EXAMINE bobs", "STATUS bobs (MESSAGES UIDNEXT)",
		"SELECT \"bob@example.com/INBOX\"", "SELECT \"/bob\"", "SELECT \"../bob/INBOX\"",
		"SELECT \"~bob\"", "SELECT \"#user/bob\"", "LIST \"#user/\" *", "DELETE bobs",
		"RENAME bobs mine", "SUBSCRIBE bobs", "UNSUBSCRIBE bobs", "APPEND bobs {3+}\r\nabc",
		"GETQUOTAROOT bobs", "GETQUOTA bob@example.com", "SELECT INBOX",
		"FETCH 1:* (UID FLAGS ENVELOPE BODY[])", "UID FETCH 1:* BODY[]", "SEARCH ALL",
		"SEARCH TEXT carol", "COPY 1:* bobs", "MOVE 1:* bobs", "STORE 1:* +FLAGS (\\Deleted)",
		"UID EXPUNGE 1:*", "STATUS INBOX (MESSAGES UIDNEXT SIZE HIGHESTMODSEQ)", "GETQUOTAROOT INBOX",
		"NAMESPACE", "LIST (SUBSCRIBED) \"\" * RETURN (STATUS (MESSAGES))", "ENABLE CONDSTORE",
		"NOOP", "CLOSE"};
	struct buf before = {0}, after = {0};
	struct rig_client bob, alice;
	const char *uidvalidity;

	rig_connect(&bob, *state, "bob@example.com");
	for (unsigned round = 0; round < 2; round++) {
		struct buf *log = round ? &after : &before;

		rig_connect(&alice, *state, "alice@example.com");
		for (size_t i = 0; i < ARRAY_LEN(commands); i++)
			buf_add_str(log, rig_command(&alice, commands[i]));
		rig_disconnect(&alice);
		if (round)
			break;
		RIG_EXPECT(&bob, "CREATE bobs", "OK");
		RIG_EXPECT(&bob, "SUBSCRIBE bobs", "OK");
		fill(&bob, "bobs", 3);
		fill(&bob, "INBOX", 3);
	}
	uidvalidity = buf_str_view(&before);
	assert_non_null(strstr(uidvalidity, "UIDVALIDITY"));
	assert_string_equal(buf_str_view(&before), buf_str_view(&after));
	/* And bob's is untouched. */
	RIG_EXPECT(&bob, "STATUS bobs (MESSAGES DELETED)", "(MESSAGES 3 DELETED 0)", "OK");
	RIG_EXPECT(&bob, "STATUS INBOX (MESSAGES DELETED)", "(MESSAGES 3 DELETED 0)", "OK");
	buf_deinit(&before);
	buf_deinit(&after);
	rig_disconnect(&bob);
}

static void test_large_bodies_are_streamed(void **state)
{
	struct rig_client c;
	struct buf mail = {0}, command = {0};
	const char *got, *body;

	buf_add_str(&mail, "Subject: large\r\n\r\n");
	for (unsigned i = 0; i < 200000; i++)
		buf_printf(&mail, "line %u\r\n", i);
	rig_connect(&c, *state, "alice@example.com");
	assert_non_null(strstr(rig_append(&c, "INBOX", "", buf_str_view(&mail)), "OK [APPENDUID"));
	RIG_EXPECT(&c, "SELECT INBOX", "* 1 EXISTS", "OK");
	got = rig_command(&c, "FETCH 1 (BODY.PEEK[] FLAGS BODY.PEEK[TEXT]<1000000.20>)");
	body = strstr(got, "}\r\n");
	assert_non_null(body);
	assert_memory_equal(body + 3, mail.data + mail.start, buf_len(&mail));
	assert_true(slice_has_prefix(slice_str(body + 3 + buf_len(&mail)), " BODY[TEXT]<1000000> {20}\r\n"));
	/* A client that goes amid the answer. */
	rig_send(&c, "x FETCH 1 BODY.PEEK[]\r\n", 23);
	rig_disconnect(&c);
	buf_deinit(&mail);
	buf_deinit(&command);
}

#define LONG_MESSAGES 200

/* From its third batch on a FETCH makes larger ones (while its client takes them at once) and leaves room for its bodies, which two readers fill: each must be in its place. */
static void test_a_long_fetch_has_every_body_in_its_place(void **state)
{
	struct rig_client c;
	struct buf mail[LONG_MESSAGES] = {0}, want = {0};
	const char *got;

	rig_connect(&c, *state, "alice@example.com");
	for (unsigned i = 0; i < LONG_MESSAGES; i++) {
		unsigned lines = i % 7 == 0 ? 1 : i % 50 == 1 ? 4000 : 100 + 7 * i;

		buf_printf(&mail[i], "Subject: %u\r\n\r\n", i);
		for (unsigned n = 0; n < lines; n++)
			buf_printf(&mail[i], "%u.%u\r\n", i, n);
		assert_non_null(strstr(rig_append(&c, "INBOX", "", buf_str_view(&mail[i])), "OK [APPENDUID"));
	}
	RIG_EXPECT(&c, "SELECT INBOX", "* 200 EXISTS", "OK");
	for (unsigned turn = 0; turn < 3; turn++) {
		got = rig_command(&c, "FETCH 1:* (BODY.PEEK[] BODY.PEEK[]<5.2000>)");
		for (unsigned i = 0; i < LONG_MESSAGES; i++) {
			struct slice whole = buf_view(&mail[i]), part = slice_sub(whole, 5, 2000);

			buf_clear(&want);
			buf_printf(&want, "* %u FETCH (BODY[] {%zu}\r\n", i + 1, whole.len);
			buf_add_slice(&want, whole);
			buf_printf(&want, " BODY[]<5> {%zu}\r\n", part.len);
			buf_add_slice(&want, part);
			buf_add_str(&want, ")\r\n");
			if (strncmp(got, buf_str_view(&want), buf_len(&want)) != 0)
				fail_msg("message %u: %.60s", i + 1, got);
			got += buf_len(&want);
		}
	}
	for (unsigned i = 0; i < LONG_MESSAGES; i++)
		buf_deinit(&mail[i]);
	buf_deinit(&want);
	rig_disconnect(&c);
}

static void test_a_deleted_mailbox_ends_its_sessions(void **state)
{
	struct rig_client a, b;

	rig_connect(&a, *state, "alice@example.com");
	rig_connect(&b, *state, "alice@example.com");
	RIG_EXPECT(&a, "CREATE x", "OK");
	fill(&a, "x", 2);
	RIG_EXPECT(&a, "SELECT x", "OK");
	RIG_EXPECT(&b, "SELECT x", "OK");
	RIG_EXPECT(&a, "DELETE x", "OK");
	RIG_EXPECT(&a, "FETCH 1 FLAGS", "BAD");
	RIG_EXPECT(&a, "NOOP", "OK");
	(void)rig_command(&b, "NOOP");
	(void)rig_until(&b, "* BYE");
	rig_disconnect(&a);
	rig_disconnect(&b);
}

static void test_many_sessions_keep_their_numbers(void **state)
{
	struct rig_client c[4];
	unsigned seed = 7;

	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		rig_connect(&c[i], *state, "alice@example.com");
	fill(&c[0], "INBOX", 20);
	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		RIG_EXPECT(&c[i], "SELECT INBOX", "OK");
	/* Each does something at random; after a NOOP each one's numbers fit the UIDs that the store has. */
	for (unsigned round = 0; round < 60; round++) {
		struct rig_client *who = &c[(seed = seed * 1103515245 + 12345) >> 16 & 3];
		char command[100];

		switch (round % 4) {
		case 0:
			fill(who, "INBOX", 1);
			break;
		case 1:
			snprintf(command, sizeof(command), "UID STORE %u +FLAGS (\\Deleted)",
				1 + (seed >> 16) % 30);
			(void)rig_command(who, command);
			break;
		case 2:
			(void)rig_command(who, "EXPUNGE");
			break;
		default:
			(void)rig_command(who, "FETCH 1:* UID");
			break;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		(void)rig_command(&c[i], "NOOP");
	{
		struct buf first = {0};

		for (size_t i = 0; i < ARRAY_LEN(c); i++) {
			const char *got = rig_command(&c[i], "FETCH 1:* UID");

			if (i == 0)
				buf_add(&first, got, strlen(got) - 20);
			else
				assert_memory_equal(got, first.data + first.start, buf_len(&first));
			rig_disconnect(&c[i]);
		}
		buf_deinit(&first);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_messages_are_appended_selected_and_fetched, start, stop),
		cmocka_unit_test_setup_teardown(test_flags_are_stored_and_shown, start, stop),
		cmocka_unit_test_setup_teardown(test_expunge_and_sequence_numbers, start, stop),
		cmocka_unit_test_setup_teardown(test_two_sessions_see_each_other, start, stop),
		cmocka_unit_test_setup_teardown(test_idle_hears_at_once, start, stop),
		cmocka_unit_test_setup_teardown(test_messages_are_copied_and_moved, start, stop),
		cmocka_unit_test_setup_teardown(test_mailboxes_are_listed_in_every_way, start, stop),
		cmocka_unit_test_setup_teardown(test_searches_find_what_they_should, start, stop),
		cmocka_unit_test_setup_teardown(test_condstore_works_whole, start, stop),
		cmocka_unit_test_setup_teardown(test_append_is_refused_in_order, start, stop),
		cmocka_unit_test_setup_teardown(test_commands_out_of_place_are_refused, start, stop),
		cmocka_unit_test_setup_teardown(test_class_15_nobody_reaches_another_account, start, stop),
		cmocka_unit_test_setup_teardown(test_large_bodies_are_streamed, start, stop),
		cmocka_unit_test_setup_teardown(test_a_long_fetch_has_every_body_in_its_place, start, stop),
		cmocka_unit_test_setup_teardown(test_a_deleted_mailbox_ends_its_sessions, start, stop),
		cmocka_unit_test_setup_teardown(test_many_sessions_keep_their_numbers, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
