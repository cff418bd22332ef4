/*
 * IMAP4rev2 beside IMAP4rev1: what ENABLE IMAP4rev2 switches, by the numbers of RFC 9051 appendix E; UTF8=ACCEPT (RFC 6855);
 * UIDONLY (RFC 9586). Items of appendix E that are of the client, of the RFC's wording or of TLS have no row: 5, 14, 22, 25,
 * 26, 29, 30; 27 (SCRAM) is common/auth's, LITERAL- (2) the front's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/backend/session/imap_rig.h"

static const char mail[] = "Subject: one\r\n\r\nbody\r\n";

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

static void fill(struct rig_client *c, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_non_null(strstr(rig_append(c, "INBOX", "", mail), "OK [APPENDUID "));
}

static void test_both_are_offered_and_rev1_is_the_default(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(
		&c, "CAPABILITY", "* CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ", " UTF8=ACCEPT UIDONLY", "OK");
	rig_refuse(&c, "CAPABILITY", "LITERAL-");
	/* E.2: what was folded in is advertised for those who look for it. */
	{
		static const char *const folded[] = {" NAMESPACE ", " UNSELECT ", " UIDPLUS ", " ESEARCH ",
			" SEARCHRES ", " ENABLE ", " IDLE ", " LIST-EXTENDED ", " LIST-STATUS ", " MOVE ",
			" BINARY ", " SPECIAL-USE ", " STATUS=SIZE "};
		const char *got = rig_command(&c, "CAPABILITY");

		for (size_t i = 0; i < ARRAY_LEN(folded); i++)
			assert_non_null(strstr(got, folded[i]));
	}
	fill(&c, 2);
	RIG_EXPECT(&c, "SELECT INBOX", "* 2 RECENT", "[UNSEEN 1]", "OK");
	rig_refuse(&c, "SELECT INBOX", "* LIST");
	RIG_EXPECT(&c, "SEARCH ALL", "* SEARCH 1 2\r\n", "OK");
	/* Names that are not known are left out; a name given twice counts once. */
	RIG_EXPECT(&c, "UNSELECT", "OK");
	RIG_EXPECT(&c, "ENABLE X-NOSUCH imap4REV2 IMAP4rev2", "* ENABLED IMAP4rev2\r\n", "OK");
	rig_disconnect(&c);
}

static void test_rev2_selects_and_searches(void **state)
{
	struct rig_client c, other;
	const char *got;

	rig_connect(&c, *state, "alice@example.com");
	rig_connect(&other, *state, "alice@example.com");
	fill(&c, 3);
	RIG_EXPECT(&c, "CREATE below/child", "OK");
	RIG_EXPECT(&c, "ENABLE IMAP4rev2", "* ENABLED IMAP4rev2", "OK");
	/* E.10 to E.12: LIST, and neither UNSEEN nor RECENT. */
	RIG_EXPECT(&c, "SELECT INBOX", "* FLAGS (", "* 3 EXISTS\r\n", "[UIDVALIDITY ", "[UIDNEXT 4]",
		"* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX\r\n", "OK [READ-WRITE]");
	got = rig_command(&c, "EXAMINE INBOX");
	/* E.9 */
	assert_non_null(strstr(got, "* OK [CLOSED] "));
	assert_null(strstr(got, "RECENT"));
	assert_null(strstr(got, "UNSEEN"));
	assert_true(strstr(got, "[CLOSED]") < strstr(got, "EXISTS"));
	RIG_EXPECT(&c, "SELECT below", "[CLOSED]", "* LIST (\\HasChildren) \"/\" below\r\n", "OK");
	RIG_EXPECT(&c, "SELECT nonesuch", "* OK [CLOSED] ", "NO [NONEXISTENT]");
	rig_refuse(&c, "SELECT INBOX", "CLOSED");
	/* E.12 */
	rig_refuse(&c, "FETCH 1:* FLAGS", "Recent");
	RIG_EXPECT(&c, "FETCH 1:* FLAGS", "* 1 FETCH (FLAGS ())", "* 3 FETCH (FLAGS ())", "OK");
	fill(&other, 1);
	got = rig_command(&c, "NOOP");
	assert_non_null(strstr(got, "* 4 EXISTS\r\n"));
	assert_null(strstr(got, "RECENT"));
	/* E.4: no other answer than ESEARCH. */
	RIG_EXPECT(&c, "SEARCH ALL", "* ESEARCH (TAG \"t", "\") ALL 1:4\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH ALL", "* ESEARCH (TAG \"t", "\") UID ALL 1:4\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH SUBJECT nothing", "* ESEARCH (TAG \"t", "\")\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (COUNT) ALL", "COUNT 4\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH RETURN (SAVE) 2:3", "OK");
	RIG_EXPECT(&c, "FETCH $ UID", "* 2 FETCH (UID 2)\r\n* 3 FETCH (UID 3)\r\n", "OK");
	/* E.4, and section 6.4.4: UTF-8 without being told. */
	RIG_EXPECT(&c, "SEARCH SUBJECT \"\xc3\xa4\"", "* ESEARCH (TAG \"t", "\")\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH CHARSET UTF-8 SUBJECT one", "ALL 1:4", "OK");
	RIG_EXPECT(&c, "SEARCH CHARSET x-none SUBJECT one", "NO [BADCHARSET ");
	/* E.1: 63 bits. */
	RIG_EXPECT(&c, "SEARCH SMALLER 9223372036854775807", "ALL 1:4", "OK");
	RIG_EXPECT(&c, "SEARCH LARGER 5000000000", "* ESEARCH (TAG \"t", "\")\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH LARGER 9223372036854775808", "BAD");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[]<5000000000.5000000000>", "BODY[]<5000000000> {0}\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[TEXT]<2.9223372036854775807>", "BODY[TEXT]<2> {4}\r\ndy\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BINARY.PEEK[1]<2.9223372036854775807>", "BINARY[1]<2> {4}\r\ndy\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[]<9223372036854775808.1>", "BAD");
	/* E.3 */
	RIG_EXPECT(&c, "STORE 1 +FLAGS.SILENT \\Deleted", "OK");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES SIZE DELETED UNSEEN)",
		"* STATUS INBOX (MESSAGES 4 UNSEEN 4 SIZE ", "DELETED 1)", "OK");
	/* E.13: a new keyword needs no new PERMANENTFLAGS. E.15. E.21: UID in what was not asked for. */
	RIG_EXPECT(&other, "SELECT INBOX", "OK");
	RIG_EXPECT(&other, "STORE 2 +FLAGS ($Forwarded $MDNSent $Junk $NotJunk $Phishing)", "OK");
	RIG_EXPECT(
		&c, "NOOP", "* 2 FETCH (UID 2 FLAGS ($Forwarded $MDNSent $Junk $NotJunk $Phishing))", "OK");
	RIG_EXPECT(&c, "FETCH 3 BODY[TEXT]", "* 3 FETCH (UID 3 FLAGS (\\Seen) BODY[TEXT] {", "OK");
	RIG_EXPECT(&c, "STORE 3 +FLAGS \\Flagged", "* 3 FETCH (UID 3 FLAGS (\\Flagged \\Seen))", "OK");
	/* E.7, E.8 */
	RIG_EXPECT(&c, "MOVE 4 nonesuch", "NO [TRYCREATE]");
	RIG_EXPECT(&c, "COPY 4 nonesuch", "NO [TRYCREATE]");
	RIG_EXPECT(&c, "MOVE 4 below", "* OK [COPYUID ", "* 4 EXPUNGE", "OK");
	RIG_EXPECT(&c, "UID MOVE 3 below", "* OK [COPYUID ", "* 3 EXPUNGE", "OK");
	/* E.17 to E.19 are taken still, for those who ask. */
	RIG_EXPECT(&c, "CHECK", "OK");
	RIG_EXPECT(&c, "LSUB \"\" *", "OK");
	RIG_EXPECT(&c, "FETCH 1 RFC822.HEADER", "RFC822.HEADER {", "OK");
	/* E.2: the FETCH side of BINARY. */
	RIG_EXPECT(&c, "FETCH 1 (BINARY.SIZE[1] BINARY.PEEK[1])",
		"BINARY.SIZE[1] 6 BINARY[1] {6}\r\nbody\r\n)", "OK");
	/* Section 6.3.5 */
	RIG_EXPECT(&c, "DELETE below", "OK");
	RIG_EXPECT(&c, "DELETE below", "NO [HASCHILDREN]");
	RIG_EXPECT(&c, "DELETE INBOX", "NO [CANNOT]");
	rig_disconnect(&c);
	rig_disconnect(&other);
}

/* E.16, and sections 5.1 and 6.3.9.7. */
static void test_rev2_names_are_utf8(void **state)
{
	struct rig_client c, old;

	rig_connect(&c, *state, "alice@example.com");
	rig_connect(&old, *state, "alice@example.com");
	RIG_EXPECT(&c, "ENABLE IMAP4rev2", "OK");
	RIG_EXPECT(&c, "CREATE \"Entw\xc3\xbcrfe\"", "OK");
	rig_refuse(&c, "LIST \"\" *", "OLDNAME");
	RIG_EXPECT(&c, "LIST \"\" \"Entw\xc3\xbc*\"", "\"/\" \"Entw\xc3\xbcrfe\"\r\n", "OK");
	RIG_EXPECT(&old, "LIST \"\" Entw&APw-*", "\"/\" Entw&APw-rfe\r\n", "OK");
	RIG_EXPECT(&old, "STATUS Entw&APw-rfe (MESSAGES)", "* STATUS Entw&APw-rfe (MESSAGES 0)", "OK");
	RIG_EXPECT(&c, "STATUS \"Entw\xc3\xbcrfe\" (MESSAGES)", "* STATUS \"Entw\xc3\xbcrfe\" (MESSAGES 0)",
		"OK");
	/* "&" is itself. */
	RIG_EXPECT(&c, "CREATE \"Q&A\"", "OK");
	RIG_EXPECT(&c, "LIST \"\" \"Q&A\"", "\"/\" Q&A\r\n", "OK");
	RIG_EXPECT(&old, "LIST \"\" Q*", "\"/\" Q&-A\r\n", "OK");
	RIG_EXPECT(&c, "CREATE &Jjo-", "OK");
	RIG_EXPECT(&old, "LIST \"\" &-J*", "\"/\" &-Jjo-\r\n", "OK");
	/* Not composed: normalised, and told. */
	RIG_EXPECT(&c,
		"CREATE \"u\xcc\x88"
		"ber\"",
		"* LIST () \"/\" \"\xc3\xbc"
		"ber\" (\"OLDNAME\" (\"u\xcc\x88"
		"ber\"))\r\n",
		"OK");
	RIG_EXPECT(&c,
		"CREATE \"\xc3\xbc"
		"ber\"",
		"NO [ALREADYEXISTS]");
	RIG_EXPECT(&c,
		"SELECT \"u\xcc\x88"
		"ber\"",
		"* LIST (\\HasNoChildren) \"/\" \"\xc3\xbc"
		"ber\" (\"OLDNAME\" (\"u\xcc\x88"
		"ber\"))\r\n",
		"OK");
	RIG_EXPECT(&c, "SELECT inbox",
		"* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX (\"OLDNAME\" (inbox))\r\n", "OK");
	assert_non_null(strstr(rig_append(&c,
				       "\"u\xcc\x88"
				       "ber\"",
				       "", mail),
		"* LIST () \"/\" \"\xc3\xbc"
		"ber\" (\"OLDNAME\" (\"u\xcc\x88"
		"ber\"))\r\n"));
	RIG_EXPECT(&c,
		"RENAME \"u\xcc\x88"
		"ber\" \"o\xcc\x88"
		"l\"",
		"* LIST () \"/\" \"\xc3\xb6"
		"l\" (\"OLDNAME\" (\"u\xcc\x88"
		"ber\"))\r\n",
		"OK");
	RIG_EXPECT(&c,
		"DELETE \"o\xcc\x88"
		"l\"",
		"* LIST (\\NonExistent) \"/\" \"\xc3\xb6"
		"l\" (\"OLDNAME\" (\"o\xcc\x88"
		"l\"))\r\n",
		"OK");
	rig_refuse(&c, "CREATE plain/", "LIST");
	rig_refuse(&c, "RENAME plain plainer", "LIST");
	rig_refuse(&c, "DELETE plainer", "LIST");
	/* No Net-Unicode, no UTF-8. */
	RIG_EXPECT(&c, "CREATE \"a\xc2\x85\"", "NO [CANNOT]");
	RIG_EXPECT(&c, "CREATE \"a\xe2\x80\xa8\"", "NO [CANNOT]");
	RIG_EXPECT(&c, "CREATE \"a\xfc\"", "BAD");
	RIG_EXPECT(&c, "SELECT {2+}\r\na\xfc", "NO [NONEXISTENT]");
	/* Without ENABLE nothing of it is told. */
	rig_refuse(&old, "CREATE x&AwgA5A-", "OLDNAME");
	rig_disconnect(&c);
	rig_disconnect(&old);
}

/* RFC 6855 sections 3 and 4. */
static void test_utf8_is_accepted(void **state)
{
	struct rig_client c;
	static const char utf8_mail[] =
		"From: J\xc3\xb8rgen <j\xc3\xb8rgen@example.com>\r\nSubject: Gr\xc3\xbc\xc3\x9f"
		"e\r\n\r\nx\r\n";
	struct buf line = {0};

	rig_connect(&c, *state, "alice@example.com");
	/* UTF-8 in quoted strings is taken from anybody, but not sent to anybody. */
	RIG_EXPECT(&c, "CREATE \"\xc3\xa4\"", "OK");
	RIG_EXPECT(&c, "LIST \"\" \"\xc3\xa4\"", "\"/\" &AOQ-\r\n", "OK");
	RIG_EXPECT(&c, "SELECT \"\xe4\"", "BAD");
	RIG_EXPECT(&c, "SEARCH CHARSET UTF-8 SUBJECT x", "BAD"); /* nothing is selected */
	RIG_EXPECT(&c, "ENABLE UTF8=ACCEPT", "* ENABLED UTF8=ACCEPT\r\n", "OK");
	RIG_EXPECT(&c, "LIST \"\" \"\xc3\xa4\"", "\"/\" \"\xc3\xa4\"\r\n", "OK");
	RIG_EXPECT(&c, "LSUB \"\" \"\xc3\xa4\"", "OK");
	RIG_EXPECT(&c, "SELECT \"\xc3\xa4\"", "* 0 RECENT", "OK");
	buf_printf(&line, "APPEND \"\xc3\xa4\" (\\Seen) UTF8 (~{%zu+}\r\n%s)", strlen(utf8_mail), utf8_mail);
	RIG_EXPECT(&c, buf_str_view(&line), "* 1 EXISTS", "OK [APPENDUID ");
	buf_clear(&line);
	/* With MULTIAPPEND. */
	buf_printf(&line,
		"APPEND \"\xc3\xa4\" UTF8 (~{%zu+}\r\n%s) (\\Seen) {%zu+}\r\n%s UTF8 (~{%zu+}\r\n%s)",
		strlen(utf8_mail), utf8_mail, strlen(mail), mail, strlen(utf8_mail), utf8_mail);
	RIG_EXPECT(&c, buf_str_view(&line), "* 4 EXISTS", "OK [APPENDUID ");
	buf_clear(&line);
	/* With CATENATE. */
	buf_printf(&line,
		"APPEND \"\xc3\xa4\" CATENATE (UTF8 (~{%zu+}\r\n%s) TEXT {4+}\r\nmore UTF8 "
		"(~{2+}\r\n\xc3\xa4) URL "
		"\"/;UID=1/;SECTION=TEXT\")",
		strlen(utf8_mail), utf8_mail);
	RIG_EXPECT(&c, buf_str_view(&line), "* 5 EXISTS", "OK [APPENDUID ");
	RIG_EXPECT(&c, "FETCH 5 BODY.PEEK[TEXT]", "BODY[TEXT] {12}\r\nx\r\nmore\xc3\xa4x\r\n)", "OK");
	RIG_EXPECT(&c, "FETCH 1 BODY.PEEK[]", utf8_mail, "OK");
	RIG_EXPECT(&c, "FETCH 1 ENVELOPE",
		"Gr\xc3\xbc\xc3\x9f"
		"e",
		"J\xc3\xb8rgen", "OK");
	RIG_EXPECT(&c,
		"SEARCH SUBJECT \"gr\xc3\xbc\xc3\x9f"
		"e\"",
		"* SEARCH 1 2 4 5\r\n", "OK");
	RIG_EXPECT(&c, "SEARCH CHARSET UTF-8 SUBJECT x", "BAD");
	RIG_EXPECT(&c, "UID SEARCH CHARSET US-ASCII ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes INBOX) CHARSET UTF-8 SUBJECT x", "BAD");
	/* The list has one literal8 and nothing else. */
	RIG_EXPECT(&c, "APPEND INBOX UTF8 ({3+}\r\nabc)", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX UTF8 (~{3+}\r\nabc x)", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX UTF8 (~{3+}\r\nabc ~{3+}\r\nabc)", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX UTF8 ()", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX UTF8 x", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX UTF8", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX CATENATE (UTF8 ({3+}\r\nabc))", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX CATENATE (UTF8 (~{3+}\r\nabc y))", "BAD");
	RIG_EXPECT(&c, "APPEND INBOX CATENATE (UTF8 x)", "BAD");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES)", "MESSAGES 0", "OK");
	buf_deinit(&line);
	rig_disconnect(&c);
}

static void test_uidonly_knows_no_sequence_numbers(void **state)
{
	static const char *const refused[] = {"FETCH 1 FLAGS", "STORE 1 +FLAGS \\Seen", "SEARCH ALL",
		"COPY 1 INBOX", "MOVE 1 INBOX", "SORT (DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL",
		"UID SEARCH 1", "UID SEARCH NOT (OR 1:* SEEN)", "UID SORT (DATE) UTF-8 1",
		"UID THREAD REFERENCES UTF-8 1:2", "REPLACE 1 INBOX {3+}\r\nabc",
		"REPLACE 1 INBOX CATENATE (URL \"/;UID=1\")"};
	struct rig_client c, other;
	const char *got;

	rig_connect(&c, *state, "alice@example.com");
	rig_connect(&other, *state, "alice@example.com");
	fill(&c, 5);
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "UID STORE 2 +FLAGS.SILENT \\Deleted", "OK");
	RIG_EXPECT(&c, "UID EXPUNGE 2", "* 2 EXPUNGE", "OK");
	RIG_EXPECT(&c, "UNSELECT", "OK");
	RIG_EXPECT(&c, "ENABLE UIDONLY", "* ENABLED UIDONLY\r\n", "OK");
	got = rig_command(&c, "SELECT INBOX");
	assert_non_null(strstr(got, "* 4 EXISTS"));
	assert_null(strstr(got, "UNSEEN")); /* a sequence number */
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		RIG_EXPECT(&c, refused[i], "BAD [UIDREQUIRED] ");
	RIG_EXPECT(
		&c, "UID FETCH 3:4 (FLAGS)", "* 3 UIDFETCH (FLAGS ())\r\n* 4 UIDFETCH (FLAGS ())\r\n", "OK");
	RIG_EXPECT(&c, "UID FETCH 3 (UID RFC822.SIZE)", "* 3 UIDFETCH (UID 3 RFC822.SIZE ", "OK");
	RIG_EXPECT(&c, "UID FETCH 3 BODY[TEXT]",
		"* 3 UIDFETCH (FLAGS (\\Seen) BODY[TEXT] {6}\r\nbody\r\n)\r\n", "OK");
	RIG_EXPECT(&c, "UID STORE 4 +FLAGS \\Flagged", "* 4 UIDFETCH (FLAGS (\\Flagged))\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH UID 3:*", "* SEARCH 3 4 5\r\n", "OK");
	RIG_EXPECT(&c, "UID SEARCH RETURN (SAVE) FLAGGED", "OK");
	RIG_EXPECT(&c, "UID FETCH $ FLAGS", "* 4 UIDFETCH (FLAGS (\\Flagged))", "OK");
	RIG_EXPECT(&c, "UID SEARCH RETURN (MIN MAX) ALL", "UID MIN 1 MAX 5", "OK");
	/* What others do. */
	RIG_EXPECT(&other, "SELECT INBOX", "OK");
	RIG_EXPECT(&other, "UID STORE 3 +FLAGS \\Deleted", "OK");
	RIG_EXPECT(&c, "NOOP", "* 3 UIDFETCH (FLAGS (\\Deleted \\Seen))\r\n", "OK");
	RIG_EXPECT(&other, "EXPUNGE", "* 2 EXPUNGE", "OK");
	fill(&other, 1);
	RIG_EXPECT(&c, "NOOP", "* VANISHED 3\r\n", "* 4 EXISTS", "OK");
	RIG_EXPECT(&c, "UID STORE 1,4 +FLAGS.SILENT \\Deleted", "OK");
	RIG_EXPECT(&c, "UID MOVE 5 INBOX", "* OK [COPYUID ", "* VANISHED 5\r\n", "OK");
	RIG_EXPECT(&c, "EXPUNGE", "* VANISHED 1,4\r\n", "OK");
	RIG_EXPECT(&c, "ENABLE CONDSTORE", "OK");
	RIG_EXPECT(&c, "UID STORE 6 +FLAGS \\Seen", "* 6 UIDFETCH (MODSEQ (", "FLAGS (\\Seen", "OK");
	RIG_EXPECT(&c, "UID REPLACE 6 INBOX {10+}\r\nA: b\r\n\r\nxx", "[APPENDUID ", "* VANISHED 6", "OK");
	/* What NOTIFY tells unasked. */
	RIG_EXPECT(&c, "NOTIFY SET (SELECTED (MessageNew (FLAGS) MessageExpunge FlagChange))", "OK");
	fill(&other, 1);
	(void)rig_until(&c, "* 9 UIDFETCH (");
	RIG_EXPECT(&other, "UID STORE 9 +FLAGS \\Deleted", "OK");
	RIG_EXPECT(&other, "UID EXPUNGE 9", "OK");
	(void)rig_until(&c, "* VANISHED 9");
	RIG_EXPECT(&c, "NOTIFY NONE", "OK");
	/* The sequence numbers of QRESYNC. */
	RIG_EXPECT(&c, "ENABLE QRESYNC", "OK");
	RIG_EXPECT(&c, "SELECT INBOX (QRESYNC (1 1 1:9 (1:2 1:2)))", "BAD [UIDREQUIRED] ");
	RIG_EXPECT(&c, "SELECT INBOX (QRESYNC (1 1 1:9))", "OK");
	rig_disconnect(&c);
	rig_disconnect(&other);
}

/* Another account's mailbox: under the name that is seen, and without a word of what lies below it. */
static void test_rev2_tells_nothing_of_what_lies_below_a_shared_mailbox(void **state)
{
	struct rig_client alice, bob;

	rig_add_account(*state, "bob@example.com", 0, 0);
	rig_connect(&alice, *state, "alice@example.com");
	RIG_EXPECT(&alice, "CREATE shared", "OK");
	RIG_EXPECT(&alice, "SETACL shared bob@example.com lrx", "OK");
	RIG_EXPECT(&alice, "CREATE shared/secret", "OK");
	RIG_EXPECT(&alice, "DELETEACL shared/secret bob@example.com", "OK");
	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&bob, "ENABLE IMAP4rev2", "OK");
	RIG_EXPECT(&bob, "EXAMINE user/alice@example.com/shared",
		"* LIST () \"/\" user/alice@example.com/shared\r\n", "OK");
	rig_refuse(&bob, "SELECT user/alice@example.com/shared", "Children");
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

/* RFC 6855 section 4 by the letter. */
static void test_8bit_headers_may_be_refused(void **state)
{
	static const char header[] = "Subject: \xc3\xa4\r\n\r\nx\r\n";
	static const char body[] = "Subject: x\r\n\r\n\xc3\xa4\r\n";
	static const char no_body[] = "Subject: \xc3\xa4\r\n";
	struct imap_limits limits = imap_limits_default;
	struct rig *r = *state;
	struct rig_client c;

	rig_connect(&c, r, "alice@example.com");
	assert_non_null(strstr(rig_append(&c, "INBOX", "", header), "OK [APPENDUID "));
	rig_disconnect(&c);
	limits.is_strict_utf8 = true;
	imap_service_set_limits(r->service, &limits);
	rig_connect(&c, r, "alice@example.com");
	assert_non_null(strstr(rig_append(&c, "INBOX", "", header), "NO [CANNOT]"));
	assert_non_null(strstr(rig_append(&c, "INBOX", "", no_body), "NO [CANNOT]"));
	assert_non_null(strstr(rig_append(&c, "INBOX", "", body), "OK [APPENDUID "));
	RIG_EXPECT(&c, "APPEND INBOX {6+}\r\nA: b\r\n {6+}\r\nA: \xc3\xa4\n", "NO [CANNOT]");
	RIG_EXPECT(&c, "APPEND INBOX UTF8 (~{6+}\r\nA: \xc3\xa4\n)", "NO [CANNOT]");
	RIG_EXPECT(&c, "ENABLE UTF8=ACCEPT", "OK");
	RIG_EXPECT(&c, "APPEND INBOX UTF8 (~{6+}\r\nA: \xc3\xa4\n)", "OK [APPENDUID ");
	rig_disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_are_offered_and_rev1_is_the_default, start, stop),
		cmocka_unit_test_setup_teardown(test_rev2_selects_and_searches, start, stop),
		cmocka_unit_test_setup_teardown(test_rev2_names_are_utf8, start, stop),
		cmocka_unit_test_setup_teardown(test_utf8_is_accepted, start, stop),
		cmocka_unit_test_setup_teardown(test_8bit_headers_may_be_refused, start, stop),
		cmocka_unit_test_setup_teardown(
			test_rev2_tells_nothing_of_what_lies_below_a_shared_mailbox, start, stop),
		cmocka_unit_test_setup_teardown(test_uidonly_knows_no_sequence_numbers, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
