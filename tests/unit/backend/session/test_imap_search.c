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
static void fill_with(struct rig_client *c, unsigned count, const char *body)
{
	for (unsigned i = 1; i <= count; i++) {
		char mail[10000];

		snprintf(mail, sizeof(mail), "Subject: m%u\r\n\r\n%s\r\n", i, body);
		assert_non_null(strstr(rig_append(c, "INBOX", "", mail), "OK [APPENDUID "));
	}
	RIG_EXPECT(c, "SELECT INBOX", "OK");
}

static void fill(struct rig_client *c, unsigned count)
{
	fill_with(c, count, "body");
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

/* RFC 9051 section 6.4.4.1: SAVE is of any command that searches; "$" is a set, whatever the order was. */
static void test_a_sorted_result_is_saved(void **state)
{
	static const struct {
		const char *returns, *answer, *saved;
	} cases[] = {
		{"SAVE", "t", "* SEARCH 2 3 5\r\n"},
		{"SAVE ALL", " ALL 5,3,2\r\n", "* SEARCH 2 3 5\r\n"},
		{"SAVE MIN", " MIN 5\r\n", "* SEARCH 5\r\n"},
		{"SAVE MIN MAX", " MIN 5 MAX 2\r\n", "* SEARCH 2 5\r\n"},
		{"SAVE PARTIAL 1:2", " PARTIAL (1:2 5,3)\r\n", "* SEARCH 3 5\r\n"},
		{"SAVE COUNT PARTIAL 1:1", " COUNT 3 PARTIAL (1:1 5)\r\n", "* SEARCH 2 3 5\r\n"},
	};
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	fill(&c, 6);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char command[100];

		snprintf(command, sizeof(command), "UID SORT RETURN (%s) (REVERSE SUBJECT) UTF-8 2:3,5",
			cases[i].returns);
		RIG_EXPECT(&c, command, cases[i].answer, "OK");
		RIG_EXPECT(&c, "UID SEARCH $", cases[i].saved);
	}
	rig_refuse(&c, "SORT RETURN (SAVE) (SUBJECT) UTF-8 2", "* ");
	RIG_EXPECT(&c, "SORT RETURN (SAVE) (SUBJECT) UTF-8 SUBJECT nothing", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH\r\n");
	RIG_EXPECT(&c, "SORT RETURN (SAVE) (SUBJECT) UTF-8 1:2", "OK");
	RIG_EXPECT(&c, "SORT RETURN (SAVE) (SUBJECT) x-none ALL", "NO [BADCHARSET");
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

/* ---- SORT ---- */

static void append_all(struct rig_client *c, const char *const *mails, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_non_null(strstr(rig_append(c, "INBOX", "", mails[i]), "OK [APPENDUID "));
	RIG_EXPECT(c, "SELECT INBOX", "OK");
}

static void test_messages_are_sorted(void **state)
{
	static const char *const mails[] = {
		"Date: Mon, 1 Jan 2001 12:00:00 +0000\r\nSubject: b\r\nFrom: Zoe <m@x>\r\nTo: "
		"z@x\r\n\r\nlong body\r\n",
		"Date: Mon, 1 Jan 2001 12:00:00 -0800\r\nSubject: Re: A\r\nFrom: m@x\r\nTo: \"an\" "
		"<y@x>\r\n\r\n",
		"Date: Sun, 31 Dec 2000 16:01:33 -0800\r\nSubject: [l] a (fwd)\r\nFrom: =?utf-8?q?=C3=84nn?= "
		"<k@x>\r\n\r\n",
		"Subject: C\r\nCc: a@x\r\n\r\n",
		"Date: Mon, 1 Jan 2001 12:00:00 +0000\r\nSubject: B\r\nFrom: anna <a@x>\r\nCc: group: "
		"q@x;\r\n\r\n",
	};
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	append_all(&c, mails, ARRAY_LEN(mails));
	RIG_EXPECT(&c, "SORT (DATE) US-ASCII ALL", "* SORT 3 1 5 2 4\r\nt", "OK");
	RIG_EXPECT(&c, "SORT (REVERSE DATE) UTF-8 ALL", "* SORT 4 2 1 5 3\r\nt", "OK");
	RIG_EXPECT(&c, "SORT (SUBJECT) UTF-8 ALL", "* SORT 2 3 1 5 4\r\n", "OK");
	RIG_EXPECT(&c, "SORT (SUBJECT REVERSE DATE) UTF-8 ALL", "* SORT 2 3 1 5 4\r\n", "OK");
	RIG_EXPECT(&c, "SORT (SUBJECT DATE) UTF-8 ALL", "* SORT 3 2 1 5 4\r\n", "OK");
	RIG_EXPECT(&c, "SORT (REVERSE SUBJECT) UTF-8 ALL", "* SORT 4 1 5 2 3\r\n", "OK");
	RIG_EXPECT(&c, "SORT (FROM) UTF-8 ALL", "* SORT 4 5 3 1 2\r\n", "OK");
	RIG_EXPECT(&c, "SORT (DISPLAYFROM) UTF-8 ALL", "* SORT 4 5 3 2 1\r\n", "OK");
	RIG_EXPECT(&c, "SORT (TO) UTF-8 ALL", "* SORT 3 4 5 2 1\r\n", "OK");
	RIG_EXPECT(&c, "SORT (DISPLAYTO) UTF-8 ALL", "* SORT 3 4 5 2 1\r\n", "OK");
	RIG_EXPECT(&c, "SORT (CC) UTF-8 ALL", "* SORT 1 2 3 4 5\r\n", "OK");
	RIG_EXPECT(&c, "SORT (REVERSE CC) UTF-8 ALL", "* SORT 5 4 1 2 3\r\n", "OK");
	RIG_EXPECT(&c, "SORT (SIZE) UTF-8 2:4", "* SORT 4 2 3\r\n", "OK");
	RIG_EXPECT(&c, "SORT (ARRIVAL REVERSE ARRIVAL) UTF-8 ALL", "* SORT 1 2 3 4 5\r\n", "OK");
	RIG_EXPECT(&c, "UID SORT (DATE) \"UTF-8\" UID 2:3 SUBJECT a", "* SORT 3 2\r\n", "OK");
	RIG_EXPECT(&c, "SORT (DATE) US-ASCII TEXT \"not in mailbox\"", "* SORT\r\nt", "OK");
	RIG_EXPECT(&c, "SORT (DATE) UTF-8 MODSEQ 1", "* SORT 3 1 5 2 4 (MODSEQ ", "OK");
	/* ESORT */
	RIG_EXPECT(&c, "SORT RETURN () (REVERSE DATE) UTF-8 ALL", "* ESEARCH (TAG \"",
		"\") ALL 4,2,1,5,3\r\nt", "OK");
	RIG_EXPECT(&c, "UID SORT RETURN (MIN MAX COUNT) (DATE) UTF-8 ALL", ") UID MIN 3 MAX 4 COUNT 5\r\n",
		"OK");
	RIG_EXPECT(&c, "SORT RETURN (ALL) (ARRIVAL) UTF-8 1:3", ") ALL 1:3\r\n", "OK");
	RIG_EXPECT(&c, "SORT RETURN (COUNT MIN) (DATE) UTF-8 SUBJECT nosuch", ") COUNT 0\r\n", "OK");
	RIG_EXPECT(&c, "SORT RETURN (ALL) (DATE) UTF-8 MODSEQ 1", "ALL 3,1,5,2,4 MODSEQ ", "OK");
	/* what is no SORT */
	RIG_EXPECT(&c, "SORT (NOSUCH) UTF-8 ALL", "BAD");
	RIG_EXPECT(&c, "SORT (REVERSE) UTF-8 ALL", "BAD");
	RIG_EXPECT(&c, "SORT () UTF-8 ALL", "BAD");
	RIG_EXPECT(&c, "SORT DATE UTF-8 ALL", "BAD");
	RIG_EXPECT(&c, "SORT (DATE) UTF-8", "BAD");
	RIG_EXPECT(&c, "SORT (DATE) ALL", "NO [BADCHARSET");
	RIG_EXPECT(&c, "SORT (DATE) x-none ALL", "NO [BADCHARSET");
	RIG_EXPECT(&c, "SORT", "BAD");
	rig_disconnect(&c);
}

/* ---- THREAD ---- */

static void test_messages_are_threaded(void **state)
{
	/* 1 <- 2 <- 4, 1 <- 3; 5 and 6 share a parent that is not here; 7 alone; 8 and 9 by subject; 10 comes
	 * before its parent 11; 12 has the id of 1, and 13 answers it. */
	static const char *const mails[] = {
		"Date: 1 Jan 2001 10:00:00 +0000\r\nSubject: a\r\nMessage-ID: <1@x>\r\n\r\n",
		"Date: 1 Jan 2001 11:00:00 +0000\r\nSubject: x2\r\nMessage-ID: <2@x>\r\nReferences: "
		"<1@x>\r\n\r\n",
		"Date: 1 Jan 2001 09:00:00 +0000\r\nSubject: x3\r\nMessage-ID: <3@x>\r\nIn-Reply-To: "
		"<1@x>\r\n\r\n",
		"Date: 1 Jan 2001 12:00:00 +0000\r\nSubject: x4\r\nMessage-ID: <4@x>\r\nReferences: <1@x> "
		"<2@x>\r\n\r\n",
		"Date: 2 Jan 2001 10:00:00 +0000\r\nSubject: x5\r\nMessage-ID: <5@x>\r\nReferences: "
		"<gone@x>\r\n\r\n",
		"Date: 2 Jan 2001 09:00:00 +0000\r\nSubject: x6\r\nMessage-ID: <6@x>\r\nReferences: "
		"<gone@x>\r\n\r\n",
		"Date: 3 Jan 2001 09:00:00 +0000\r\nSubject: x7\r\nReferences: <lost@x> <also@x>\r\n\r\n",
		"Date: 4 Jan 2001 09:00:00 +0000\r\nSubject: Re: s\r\nMessage-ID: <8@x>\r\n\r\n",
		"Date: 4 Jan 2001 10:00:00 +0000\r\nSubject: S\r\nMessage-ID: <9@x>\r\n\r\n",
		"Date: 5 Jan 2001 10:00:00 +0000\r\nSubject: x10\r\nMessage-ID: <10@x>\r\nReferences: "
		"<11@x>\r\n\r\n",
		"Date: 5 Jan 2001 09:00:00 +0000\r\nSubject: x11\r\nMessage-ID: <11@x>\r\n\r\n",
		"Date: 6 Jan 2001 09:00:00 +0000\r\nSubject: x12\r\nMessage-ID: <1@x>\r\n\r\n",
		"Date: 7 Jan 2001 09:00:00 +0000\r\nSubject: x13\r\nMessage-ID: <13@x>\r\nReferences: "
		"<1@x>\r\n\r\n",
	};
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	append_all(&c, mails, ARRAY_LEN(mails));
	RIG_EXPECT(&c, "THREAD REFERENCES UTF-8 ALL",
		"* THREAD (1 (3)(2 4)(13))((6)(5))(7)(9 8)(11 10)(12)\r\nt", "OK");
	RIG_EXPECT(&c, "UID THREAD REFERENCES US-ASCII 2:4", "* THREAD ((3)(2 4))\r\n", "OK");
	RIG_EXPECT(&c, "THREAD ORDEREDSUBJECT UTF-8 6:11", "* THREAD (6)(7)(8 9)(11)(10)\r\n", "OK");
	RIG_EXPECT(&c, "THREAD ORDEREDSUBJECT US-ASCII TEXT \"gewp\"", "* THREAD\r\nt", "OK");
	RIG_EXPECT(&c, "THREAD REFERENCES UTF-8 MODSEQ 1 UID 7", "* THREAD (7)\r\nt", "OK");
	RIG_EXPECT(&c, "THREAD NOSUCH UTF-8 ALL", "BAD");
	RIG_EXPECT(&c, "THREAD REFERENCES x-none ALL", "NO [BADCHARSET");
	RIG_EXPECT(&c, "THREAD REFERENCES UTF-8", "BAD");
	RIG_EXPECT(&c, "THREAD", "BAD");
	rig_disconnect(&c);
}

/* Mutual and own references, a thread that is nothing but a chain, siblings without end: no loop, no recursion. */
static void test_strange_references(void **state)
{
	struct rig_client c;
	struct buf mail = {0};
	const char *got;

	rig_connect(&c, *state, "alice@example.com");
	rig_append(&c, "INBOX", "", "Message-ID: <a@x>\r\nReferences: <b@x> <a@x>\r\n\r\n");
	rig_append(&c, "INBOX", "", "Message-ID: <b@x>\r\nReferences: <a@x> <b@x>\r\n\r\n");
	rig_append(&c, "INBOX", "", "Message-ID: <c@x>\r\nReferences: <c@x>\r\n\r\n");
	for (int i = 0; i < 3000; i++) {
		buf_clear(&mail);
		buf_printf(&mail, "Message-ID: <%d@x>\r\nReferences: <%d@x>\r\n\r\n", i, i - 1);
		rig_append(&c, "INBOX", "", buf_str_view(&mail));
	}
	RIG_EXPECT(&c, "SELECT INBOX", "* 3003 EXISTS", "OK");
	got = rig_command(&c, "UID THREAD REFERENCES UTF-8 ALL");
	assert_non_null(strstr(got, "* THREAD ("));
	assert_non_null(strstr(got, "(4 5 6 7 8 "));
	assert_non_null(strstr(got, " 3002 3003)"));
	RIG_EXPECT(&c, "UID THREAD REFERENCES UTF-8 1:3", "* THREAD (", "OK");
	buf_deinit(&mail);
	rig_disconnect(&c);
}

/* ---- ESEARCH (RFC 7377) ---- */

static void test_many_mailboxes_are_searched(void **state)
{
	static const char *const boxes[] = {"folder1", "folder2", "folder2/banana", "folder2/banana/peel",
		"folder2/peach", "folder2x", "empty"};
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	fill(&c, 3);
	RIG_EXPECT(&c, "UNSELECT", "OK");
	for (size_t i = 0; i < ARRAY_LEN(boxes); i++) {
		char command[60];

		snprintf(command, sizeof(command), "CREATE %s", boxes[i]);
		RIG_EXPECT(&c, command, "OK");
		if (strcmp(boxes[i], "empty") == 0)
			continue;
		rig_append(&c, boxes[i], "(\\Seen) ", "Subject: a\r\n\r\n");
		rig_append(&c, boxes[i], "($k) ", "Subject: chad\r\n\r\n");
	}
	/* named ones, trees; not selected, and nothing is selected by it */
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes \"folder1\" subtree folder2) unseen", "* ESEARCH (TAG \"",
		"\" MAILBOX folder1 UIDVALIDITY ", ") UID ALL 2\r\n", "MAILBOX folder2 ",
		"MAILBOX folder2/banana ", "MAILBOX folder2/banana/peel ", "MAILBOX folder2/peach ", "OK");
	rig_refuse(&c, "ESEARCH IN (subtree folder2) ALL", "folder2x");
	rig_refuse(&c, "ESEARCH IN (subtree-one folder2) SUBJECT chad", "peel");
	RIG_EXPECT(
		&c, "ESEARCH IN (subtree-one folder2) SUBJECT chad", "folder2 ", "folder2/banana ", "peach ");
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes (folder1 nonesuch INBOX)) RETURN (COUNT MIN) ALL",
		"MAILBOX INBOX UIDVALIDITY ", ") UID MIN 1 COUNT 3\r\n", "folder1 ", "MIN 1 COUNT 2\r\n",
		"OK");
	rig_refuse(&c, "ESEARCH IN (personal) RETURN (COUNT) SUBJECT nowhere", "* ESEARCH");
	rig_refuse(&c, "ESEARCH IN (personal) RETURN (COUNT) ALL", "empty");
	RIG_EXPECT(&c, "ESEARCH IN (inboxes) KEYWORD $k", "folder1 ", "UID ALL 2", "folder2x ", "OK");
	rig_refuse(&c, "ESEARCH IN (inboxes) KEYWORD $k", "INBOX");
	RIG_EXPECT(&c, "SUBSCRIBE folder2x", "OK");
	RIG_EXPECT(&c, "ESEARCH IN (subscribed mailboxes folder2x) ALL", "folder2x UIDVALIDITY ", "OK");
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes INBOX) RETURN (PARTIAL -1:-2) ALL", "UID PARTIAL (-1:-2 2:3)",
		"OK");
	/* Numbers beyond a mailbox are no error; sets are each mailbox's own. */
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes INBOX mailboxes folder1) 2:100", "UID ALL 2:3\r\n",
		"UID ALL 2\r\n");
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes (INBOX folder1)) *", "UID ALL 3\r\n", "UID ALL 2\r\n");
	rig_refuse(&c, "ESEARCH IN (mailboxes INBOX) 100:200", "* ESEARCH");
	RIG_EXPECT(&c, "SEARCH ALL", "BAD");
	/* selected */
	RIG_EXPECT(&c, "ESEARCH ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (selected) ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (personal selected) ALL", "BAD");
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&c, "EXPUNGE", "OK");
	RIG_EXPECT(&c, "ESEARCH 1:2", "MAILBOX INBOX UIDVALIDITY ", ") UID ALL 2:3\r\n", "OK");
	RIG_EXPECT(&c, "ESEARCH IN (selected mailboxes folder1) RETURN () UNDELETED", "INBOX ", "folder1 ",
		"OK");
	RIG_EXPECT(&c, "ESEARCH RETURN (SAVE) SUBJECT m3", "OK");
	RIG_EXPECT(&c, "FETCH $ UID", "* 2 FETCH (UID 3)\r\n", "OK");
	RIG_EXPECT(&c, "ESEARCH IN (selected) RETURN (SAVE COUNT) ALL", "COUNT 2\r\n", "OK");
	RIG_EXPECT(&c, "ESEARCH IN (personal) RETURN (COUNT) $", "INBOX ", "COUNT 2\r\n", "OK");
	rig_refuse(&c, "ESEARCH IN (personal) RETURN (COUNT) $", "folder");
	RIG_EXPECT(&c, "ESEARCH IN (personal) RETURN (SAVE) ALL", "BAD");
	RIG_EXPECT(&c, "SEARCH ALL", "* SEARCH 1 2\r\n", "OK");
	/* form */
	RIG_EXPECT(&c, "ESEARCH IN () ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN personal ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (selected-delayed) ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes) ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (mailboxes ()) ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (personal (depth 1)) ALL", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (personal)", "BAD");
	RIG_EXPECT(&c, "ESEARCH IN (personal) CHARSET x-none SUBJECT a", "NO [BADCHARSET");
	RIG_EXPECT(&c, "ESEARCH", "BAD");
	rig_disconnect(&c);
}

/* RFC 9585: told between jobs, here between all of them; counted up, and never as done. */
static void test_long_searches_tell_their_progress(void **state)
{
	struct rig *r = *state;
	struct imap_limits limits = imap_limits_default;
	struct rig_client c;
	const char *got;
	unsigned last = 0, done, goal, notices = 0;
	char tag[20], body[8000];

	limits.progress_ms = 0;
	imap_service_set_limits(r->service, &limits);
	rig_connect(&c, r, "alice@example.com");
	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	fill_with(&c, 3000, body);
	rig_refuse(&c, "SEARCH ALL", "INPROGRESS (\"x");
	got = rig_command(&c, "UID SEARCH TEXT nowhere");
	snprintf(tag, sizeof(tag), "(\"t%u\" ", c.tag);
	for (const char *at = got; (at = strstr(at, "* OK [INPROGRESS ")); at++, notices++) {
		assert_non_null(strstr(at, tag));
		assert_int_equal(sscanf(strchr(at, '('), "(%*s %u %u)]", &done, &goal), 2);
		assert_true(done > last && done < goal);
		assert_int_equal(goal, 3000);
		last = done;
	}
	assert_true(notices > 0);
	assert_non_null(strstr(got, "* SEARCH\r\n"));
	rig_disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_sorted_result_is_saved, start, stop),
		cmocka_unit_test_setup_teardown(test_a_result_is_saved_and_used, start, stop),
		cmocka_unit_test_setup_teardown(test_parts_of_results, start, stop),
		cmocka_unit_test_setup_teardown(test_ages, start, stop),
		cmocka_unit_test_setup_teardown(test_messages_are_sorted, start, stop),
		cmocka_unit_test_setup_teardown(test_messages_are_threaded, start, stop),
		cmocka_unit_test_setup_teardown(test_strange_references, start, stop),
		cmocka_unit_test_setup_teardown(test_many_mailboxes_are_searched, start, stop),
		cmocka_unit_test_setup_teardown(test_long_searches_tell_their_progress, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
