/* METADATA (RFC 5464), LIST-METADATA (RFC 9590), special uses by METADATA (RFC 6154 section 4). */
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
	imap_service_set_notes(r->service, "Shared comment", "mailto:admin@example.com");
	rig_add_account(r, "alice@example.com", 0, 0);
	rig_add_account(r, "bob@example.com", 0, 0);
	*state = r;
	return 0;
}

static int stop(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

static void test_values(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "CAPABILITY", " METADATA ", "OK");
	/* The examples of section 4.2 and 4.3. */
	RIG_EXPECT(&c, "GETMETADATA \"\" /shared/comment",
		"* METADATA \"\" (/shared/comment \"Shared comment\")\r\n", "OK");
	RIG_EXPECT(
		&c, "GETMETADATA \"\" /shared/admin", "(/shared/admin \"mailto:admin@example.com\")", "OK");
	RIG_EXPECT(&c, "SETMETADATA INBOX (/private/comment {33+}\r\nMy new comment across\r\ntwo lines.)",
		"OK");
	RIG_EXPECT(&c, "GETMETADATA \"INBOX\" /private/comment",
		"* METADATA INBOX (/private/comment {33}\r\nMy new comment across\r\ntwo lines.)\r\n", "OK");
	RIG_EXPECT(&c, "SETMETADATA INBOX (/private/comment NIL)", "OK");
	RIG_EXPECT(&c, "GETMETADATA INBOX /private/comment", "(/private/comment NIL)", "OK");
	RIG_EXPECT(&c,
		"SETMETADATA INBOX (/Private/Comment \"My new comment\" /shared/comment \"This one is for "
		"you!\")",
		"OK");
	RIG_EXPECT(&c, "GETMETADATA INBOX (/shared/comment /private/comment)",
		"* METADATA INBOX (/shared/comment \"This one is for you!\" /private/comment \"My new "
		"comment\")\r\n",
		"OK");
	/* Empty is no NIL, and "NIL" is a word. */
	RIG_EXPECT(&c, "SETMETADATA INBOX (/private/comment \"\" /shared/comment \"NIL\")", "OK");
	RIG_EXPECT(&c, "GETMETADATA INBOX (/private/comment /shared/comment)",
		"(/private/comment \"\" /shared/comment \"NIL\")", "OK");
	/* All or nothing. */
	RIG_EXPECT(&c, "SETMETADATA INBOX (/private/comment \"x\" /private/specialuse \"\\\\Nonsense\")",
		"NO [USEATTR]");
	RIG_EXPECT(&c, "GETMETADATA INBOX /private/comment", "(/private/comment \"\")", "OK");
	RIG_EXPECT(&c, "GETMETADATA nowhere /private/comment", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "SETMETADATA nowhere (/private/comment \"x\")", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "SETMETADATA \"\" (/shared/comment \"x\")", "NO [NOPERM]");
	RIG_EXPECT(&c, "SETMETADATA \"\" (/shared/admin \"mailto:x@y\")", "NO [NOPERM]");
	RIG_EXPECT(&c, "SETMETADATA \"\" (/private/vendor/x/token \"t\")", "OK");
	RIG_EXPECT(&c, "GETMETADATA \"\" /private/vendor/x/token", "(/private/vendor/x/token \"t\")", "OK");
	rig_disconnect(&c);
}

static void test_names_and_grammar(void **state)
{
	static const char *const bad[] = {"/foo/bar", "/shared", "/private", "/shared//comment",
		"/shared/comment/", "\"/shared/comment*\"", "\"/shared/comm%nt\"",
		"\"/shared/c\xc3\xb6mment\"", "comment", "\"\"", "/sharedcomment", "/shared/vendor",
		"/shared/vendor/x", "\"/shared/a\tb\""};
	char command[200];
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(command, sizeof(command), "GETMETADATA INBOX %s", bad[i]);
		RIG_EXPECT(&c, command, "BAD");
		snprintf(command, sizeof(command), "SETMETADATA INBOX (%s \"x\")", bad[i]);
		RIG_EXPECT(&c, command, "BAD");
	}
	RIG_EXPECT(&c, "GETMETADATA", "BAD");
	RIG_EXPECT(&c, "GETMETADATA INBOX", "BAD");
	RIG_EXPECT(&c, "GETMETADATA INBOX ()", "BAD");
	RIG_EXPECT(&c, "GETMETADATA INBOX /shared/comment /private/comment", "BAD");
	RIG_EXPECT(&c, "GETMETADATA (DEPTH 2) INBOX /shared/comment", "BAD");
	RIG_EXPECT(&c, "GETMETADATA (MAXSIZE x) INBOX /shared/comment", "BAD");
	RIG_EXPECT(&c, "GETMETADATA (DEPTH) INBOX /shared/comment", "BAD");
	RIG_EXPECT(&c, "SETMETADATA INBOX", "BAD");
	RIG_EXPECT(&c, "SETMETADATA INBOX /shared/comment", "BAD");
	RIG_EXPECT(&c, "SETMETADATA INBOX ()", "BAD");
	RIG_EXPECT(&c, "SETMETADATA INBOX (/shared/comment)", "BAD");
	RIG_EXPECT(&c, "SETMETADATA INBOX (/shared/comment atom)", "BAD");
	RIG_EXPECT(&c, "SETMETADATA INBOX (/shared/comment (x))", "BAD");
	rig_disconnect(&c);
}

static void test_depth_and_maxsize(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c,
		"SETMETADATA INBOX (/private/filters/values/small \"SMALLER 5000\" "
		"/private/filters/values/boss "
		"\"FROM \\\"boss@example.com\\\"\" /private/filters/values/boss/deep \"d\" "
		"/private/filters/valuesx \"n\")",
		"OK");
	RIG_EXPECT(&c, "GETMETADATA \"INBOX\" (DEPTH 1) (/private/filters/values)",
		"* METADATA INBOX (/private/filters/values/boss \"FROM \\\"boss@example.com\\\"\" "
		"/private/filters/values/small \"SMALLER 5000\")\r\n",
		"OK");
	RIG_EXPECT(&c, "GETMETADATA (DEPTH 0) INBOX /private/filters/values", "(/private/filters/values NIL)",
		"OK");
	RIG_EXPECT(&c, "GETMETADATA (DEPTH infinity) INBOX /private/filters",
		"(/private/filters/values/boss \"FROM", "/private/filters/values/boss/deep \"d\"",
		"/private/filters/valuesx \"n\")", "OK");
	RIG_EXPECT(&c, "GETMETADATA (DEPTH infinity) INBOX (/private /shared)",
		"/private/filters/valuesx \"n\"", "/shared NIL)", "OK");
	RIG_EXPECT(&c, "GETMETADATA (DEPTH infinity) \"\" /shared", "/shared/comment \"Shared comment\"",
		"/shared/admin \"mailto:admin@example.com\")", "OK");
	RIG_EXPECT(&c, "GETMETADATA (MAXSIZE 12 DEPTH 1) INBOX (/private/filters/values)",
		"* METADATA INBOX (/private/filters/values/small \"SMALLER 5000\")\r\n",
		"OK [METADATA LONGENTRIES 23]");
	RIG_EXPECT(&c, "GETMETADATA (MAXSIZE 1) INBOX /private/filters/values/small",
		"OK [METADATA LONGENTRIES 12]");
	rig_refuse(&c, "GETMETADATA (MAXSIZE 1) INBOX /private/filters/values/small", "* METADATA");
	rig_disconnect(&c);
}

static void test_binary_values(void **state)
{
	static const char set[] = "a SETMETADATA INBOX (/private/comment ~{5+}\r\n\0x\r\n\0)\r\n";
	static const char get[] = "b GETMETADATA INBOX /private/comment\r\n";
	static const char name[] = "c SETMETADATA ~{5+}\r\nINBOX (/private/comment NIL)\r\n";
	static const char nul[] = "d SETMETADATA INBOX (/private/comment {1+}\r\n\0)\r\n";
	static const char want[] = "* METADATA INBOX (/private/comment ~{5}\r\n\0x\r\n\0)\r\nb OK";
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	rig_send(&c, set, sizeof(set) - 1);
	assert_non_null(strstr(rig_until(&c, "a "), "a OK"));
	rig_send(&c, get, sizeof(get) - 1);
	(void)rig_until(&c, "b ");
	assert_memory_equal(buf_view(&c.text).p, want, sizeof(want) - 1);
	/* Elsewhere it is no string, and an ordinary literal has no NUL. */
	rig_send(&c, name, sizeof(name) - 1);
	assert_non_null(strstr(rig_until(&c, "c "), "c BAD"));
	rig_send(&c, nul, sizeof(nul) - 1);
	assert_non_null(strstr(rig_until(&c, "d "), "d BAD"));
	rig_disconnect(&c);
}

static void test_security_10_limits_are_told(void **state)
{
	struct buf command = {0};
	struct rig_client c;
	char *big = malloc(70000);

	rig_connect(&c, *state, "alice@example.com");
	memset(big, 'x', 70000);
	for (int sync = 0; sync < 2; sync++) {
		buf_clear(&command);
		buf_printf(&command, "SETMETADATA INBOX (/private/comment \"y\" /private/b {65537%s}",
			sync ? "" : "+");
		if (!sync) {
			buf_add_str(&command, "\r\n");
			buf_add(&command, big, 65537);
			buf_add_str(&command, ")");
		}
		RIG_EXPECT(&c, buf_str_view(&command), "NO [METADATA MAXSIZE 65536]");
	}
	RIG_EXPECT(&c, "GETMETADATA INBOX /private/comment", "(/private/comment NIL)");
	for (int i = 0; i < 100; i++) {
		buf_clear(&command);
		buf_printf(&command, "SETMETADATA INBOX (/private/comment/%d \"y\")", i);
		RIG_EXPECT(&c, buf_str_view(&command), "OK");
	}
	RIG_EXPECT(&c, "SETMETADATA INBOX (/private/comment/0 \"z\" /private/comment/x \"y\")",
		"NO [METADATA TOOMANY]");
	RIG_EXPECT(&c, "GETMETADATA INBOX (/private/comment/0 /private/comment/x)",
		"(/private/comment/0 \"y\" /private/comment/x NIL)", "OK");
	buf_clear(&command);
	buf_add_str(&command, "GETMETADATA INBOX (");
	for (int i = 0; i < 101; i++)
		buf_printf(&command, "/private/comment/%d ", i);
	buf_add_str(&command, ")");
	RIG_EXPECT(&c, buf_str_view(&command), "NO [LIMIT]");
	buf_deinit(&command);
	free(big);
	rig_disconnect(&c);
}

static void test_special_uses(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "CREATE SavedDrafts", "OK");
	RIG_EXPECT(&c, "GETMETADATA Drafts /private/specialuse",
		"* METADATA Drafts (/private/specialuse \"\\\\Drafts\")\r\n", "OK");
	RIG_EXPECT(&c, "SETMETADATA SavedDrafts (/private/specialuse \"\\\\Drafts\")", "OK");
	RIG_EXPECT(&c, "SETMETADATA Drafts (/private/specialuse NIL)", "OK");
	RIG_EXPECT(&c, "LIST \"\" % RETURN (SPECIAL-USE)", "* LIST (\\HasNoChildren) \"/\" Drafts\r\n",
		"* LIST (\\HasNoChildren \\Drafts) \"/\" SavedDrafts\r\n", "OK");
	RIG_EXPECT(&c, "GETMETADATA Drafts /private/specialuse", "(/private/specialuse NIL)", "OK");
	RIG_EXPECT(
		&c, "SETMETADATA SavedDrafts (/private/specialuse \"\\\\Drafts \\\\Sent\")", "NO [USEATTR]");
	RIG_EXPECT(&c, "SETMETADATA SavedDrafts (/private/specialuse \"\\\\All\")", "NO [USEATTR]");
	rig_disconnect(&c);
}

static void test_list(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "CAPABILITY", " LIST-METADATA ", "OK");
	RIG_EXPECT(&c, "SETMETADATA INBOX (/shared/vendor/cmu/cyrus-imapd/color \"#b71c1c\")", "OK");
	RIG_EXPECT(&c, "CREATE foo/bar", "OK");
	RIG_EXPECT(&c, "DELETE foo", "OK");
	RIG_EXPECT(&c, "SUBSCRIBE foo", "OK");
	RIG_EXPECT(&c,
		"LIST \"\" (INBOX foo foo/bar) RETURN (METADATA (\"/shared/vendor/cmu/cyrus-imapd/color\") "
		"SUBSCRIBED)",
		"* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX\r\n"
		"* METADATA INBOX (/shared/vendor/cmu/cyrus-imapd/color \"#b71c1c\")\r\n",
		"Noselect", "foo\r\n* METADATA foo (/shared/vendor/cmu/cyrus-imapd/color NIL)\r\n",
		"foo/bar\r\n* METADATA foo/bar (/shared/vendor/cmu/cyrus-imapd/color NIL)\r\n", "OK");
	RIG_EXPECT(&c, "LIST \"\" INBOX RETURN (METADATA /shared/comment)",
		"* METADATA INBOX (/shared/comment NIL)\r\n", "OK");
	RIG_EXPECT(&c,
		"LIST \"\" INBOX RETURN (METADATA (DEPTH infinity MAXSIZE 3) (/shared) STATUS (MESSAGES))",
		"* STATUS INBOX (MESSAGES 0)", "OK [METADATA LONGENTRIES 7]");
	RIG_EXPECT(&c, "LIST \"\" INBOX RETURN (METADATA)", "BAD");
	RIG_EXPECT(&c, "LIST \"\" INBOX RETURN (METADATA ())", "BAD");
	RIG_EXPECT(&c, "LIST \"\" INBOX RETURN (METADATA (comment))", "BAD");
	rig_disconnect(&c);
}

static void test_changes_of_others_are_told(void **state)
{
	struct rig_client c, other, silent;

	rig_connect(&c, *state, "alice@example.com");
	rig_connect(&other, *state, "alice@example.com");
	rig_connect(&silent, *state, "alice@example.com");
	RIG_EXPECT(&other, "SETMETADATA INBOX (/private/comment \"before\")", "OK");
	RIG_EXPECT(&c, "ENABLE METADATA", "* ENABLED METADATA\r\n", "OK");
	rig_refuse(&c, "NOOP", "METADATA");
	/* Names without values; one's own are not told. */
	RIG_EXPECT(&other, "SETMETADATA INBOX (/private/comment \"now\" /shared/comment \"now\")", "OK");
	RIG_EXPECT(&c, "NOOP", "* METADATA INBOX /private/comment\r\n",
		"* METADATA INBOX /shared/comment\r\n", "OK");
	rig_refuse(&c, "NOOP", "METADATA");
	rig_refuse(&c, "SETMETADATA INBOX (/shared/comment \"mine\")", "* METADATA");
	rig_refuse(&c, "NOOP", "METADATA");
	RIG_EXPECT(&other, "SETMETADATA \"\" (/private/vendor/x/y \"s\")", "OK");
	RIG_EXPECT(&other, "SETMETADATA Sent (/private/specialuse NIL)", "OK");
	RIG_EXPECT(&c, "NOOP", "* METADATA \"\" /private/vendor/x/y\r\n",
		"* METADATA Sent /private/specialuse\r\n", "OK");
	rig_refuse(&silent, "NOOP", "METADATA");
	/* While idling, too. */
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	rig_send(&c, "i IDLE\r\n", 8);
	(void)rig_until(&c, "+ ");
	RIG_EXPECT(&other, "SETMETADATA INBOX (/shared/comment NIL)", "OK");
	(void)rig_until(&c, "* METADATA INBOX /shared/comment");
	RIG_EXPECT(&other, "SETMETADATA INBOX (/shared/comment \"again\")", "OK");
	(void)rig_until(&c, "* METADATA INBOX /shared/comment");
	rig_send(&c, "DONE\r\n", 6);
	(void)rig_until(&c, "i OK");
	rig_disconnect(&c);
	rig_disconnect(&other);
	rig_disconnect(&silent);
}

static void test_security_15_annotations_of_others(void **state)
{
	struct rig_client c, other;

	rig_connect(&c, *state, "alice@example.com");
	rig_connect(&other, *state, "bob@example.com");
	RIG_EXPECT(&c, "CREATE secret", "OK");
	RIG_EXPECT(&c, "SETMETADATA secret (/shared/comment \"x\")", "OK");
	RIG_EXPECT(&c, "SETMETADATA \"\" (/private/comment \"x\")", "OK");
	RIG_EXPECT(&other, "ENABLE METADATA", "OK");
	RIG_EXPECT(&c, "SETMETADATA INBOX (/shared/comment \"x\" /private/comment \"x\")", "OK");
	rig_refuse(&other, "NOOP", "METADATA");
	RIG_EXPECT(&other, "GETMETADATA secret /shared/comment", "NO [NONEXISTENT] No such mailbox");
	RIG_EXPECT(&other, "GETMETADATA nowhere /shared/comment", "NO [NONEXISTENT] No such mailbox");
	RIG_EXPECT(&other, "SETMETADATA secret (/shared/comment \"y\")", "NO [NONEXISTENT] No such mailbox");
	RIG_EXPECT(&other, "GETMETADATA INBOX (/shared/comment /private/comment)",
		"(/shared/comment NIL /private/comment NIL)", "OK");
	RIG_EXPECT(&other, "GETMETADATA \"\" /private/comment", "(/private/comment NIL)", "OK");
	rig_disconnect(&c);
	rig_disconnect(&other);
}

/* A guest has 16 KiB in each mailbox; what he has may become smaller. */
static void fill_as_guest(struct rig_client *guest)
{
	static const char begin[] = "SETMETADATA user/alice@example.com/team (/private/vendor/x/";
	char value[8001], command[8200];

	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	snprintf(command, sizeof(command), "%sa \"%s\")", begin, value);
	RIG_EXPECT(guest, command, "OK");
	snprintf(command, sizeof(command), "%sb \"%s\")", begin, value);
	RIG_EXPECT(guest, command, "OK");
	snprintf(command, sizeof(command), "%sc \"%s\")", begin, value);
	RIG_EXPECT(guest, command, "NO [METADATA TOOMANY]");
	snprintf(command, sizeof(command), "%sa \"v\")", begin);
	RIG_EXPECT(guest, command, "OK");
	snprintf(command, sizeof(command), "%sb NIL)", begin);
	RIG_EXPECT(guest, command, "OK");
}

/* Section 3.3: "l" and one of "rswip"; private entries are each user's own. */
static void test_shared_mailboxes(void **state)
{
	struct rig_client c, other;

	rig_connect(&c, *state, "alice@example.com");
	rig_connect(&other, *state, "bob@example.com");
	RIG_EXPECT(&c, "CREATE team", "OK");
	RIG_EXPECT(&c, "SETMETADATA team (/shared/comment \"ours\" /private/comment \"alice's\")", "OK");
	RIG_EXPECT(&c, "SETACL team bob@example.com l", "OK");
	RIG_EXPECT(&other, "GETMETADATA user/alice@example.com/team /shared/comment", "NO [NOPERM]");
	RIG_EXPECT(&other, "SETMETADATA user/alice@example.com/team (/private/comment \"x\")", "NO [NOPERM]");
	RIG_EXPECT(&c, "SETACL team bob@example.com r", "OK");
	RIG_EXPECT(&other, "GETMETADATA user/alice@example.com/team /shared/comment", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "SETACL team bob@example.com lr", "OK");
	RIG_EXPECT(&other, "SETMETADATA user/alice@example.com/team (/private/comment \"bob's\")", "OK");
	RIG_EXPECT(&other, "GETMETADATA user/alice@example.com/team (/shared/comment /private/comment)",
		"* METADATA user/alice@example.com/team (/shared/comment \"ours\" /private/comment "
		"\"bob's\")\r\n",
		"OK");
	RIG_EXPECT(&c, "GETMETADATA team (/shared/comment /private/comment)",
		"(/shared/comment \"ours\" /private/comment \"alice's\")", "OK");
	RIG_EXPECT(&other, "LIST \"\" user/* RETURN (METADATA (/private/comment))",
		"* METADATA user/alice@example.com/team (/private/comment \"bob's\")\r\n", "OK");
	/* What a mailbox is for is its owner's to say. */
	RIG_EXPECT(&other, "SETMETADATA user/alice@example.com/team (/private/specialuse \"\\\\Sent\")",
		"NO [NOPERM]");
	/* Who may but read changes nothing for others, and does not fill the owner's account. */
	RIG_EXPECT(&other, "SETMETADATA user/alice@example.com/team (/shared/comment \"theirs\")",
		"NO [NOPERM]");
	RIG_EXPECT(&other, "SETMETADATA user/alice@example.com/team (/shared/comment NIL)", "NO [NOPERM]");
	fill_as_guest(&other);
	RIG_EXPECT(&c, "SETMETADATA team (/private/vendor/x/y \"z\")", "OK");
	RIG_EXPECT(&c, "SETACL team bob@example.com lrw", "OK");
	/* A change of bob's shared entry reaches alice, his private one does not. */
	RIG_EXPECT(&c, "ENABLE METADATA", "OK");
	RIG_EXPECT(&other,
		"SETMETADATA user/alice@example.com/team (/private/comment \"b\" /shared/comment \"theirs\")",
		"OK");
	rig_expect(&c, "NOOP", (const char *const[]){"* METADATA team /shared/comment\r\n", "OK", NULL});
	rig_disconnect(&c);
	rig_disconnect(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_values, start, stop),
		cmocka_unit_test_setup_teardown(test_names_and_grammar, start, stop),
		cmocka_unit_test_setup_teardown(test_depth_and_maxsize, start, stop),
		cmocka_unit_test_setup_teardown(test_binary_values, start, stop),
		cmocka_unit_test_setup_teardown(test_security_10_limits_are_told, start, stop),
		cmocka_unit_test_setup_teardown(test_special_uses, start, stop),
		cmocka_unit_test_setup_teardown(test_list, start, stop),
		cmocka_unit_test_setup_teardown(test_changes_of_others_are_told, start, stop),
		cmocka_unit_test_setup_teardown(test_security_15_annotations_of_others, start, stop),
		cmocka_unit_test_setup_teardown(test_shared_mailboxes, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
