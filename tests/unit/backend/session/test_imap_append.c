/* Messages that come in by APPEND and its kin: several in one command, all or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/backend/session/imap_rig.h"

static int start(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct imap_limits limits = imap_limits_default;

	limits.append_size = 4u << 20;
	rig_start(r, limits);
	rig_add_account(r, "alice@example.com", 0, 0);
	rig_add_account(r, "bob@example.com", 20000, 5);
	*state = r;
	return 0;
}

static int stop(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
}

/* RFC 3502, the examples of section 6.3.11. */
static void test_several_messages_are_appended_in_order(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "CAPABILITY", " MULTIAPPEND", "OK");
	RIG_EXPECT(&c, "CREATE saved-messages", "OK");
	RIG_EXPECT(&c,
		"APPEND saved-messages (\\Seen) {6+}\r\nA: 1\r\n (\\Flagged $x) \" 7-Feb-1994 22:43:04 "
		"-0800\" {6+}\r\nB: 2\r\n"
		" {6+}\r\nC: 3\r\n",
		"OK [APPENDUID ", " 1:3]");
	RIG_EXPECT(&c, "SELECT saved-messages", "* 3 EXISTS", "OK");
	RIG_EXPECT(&c, "FETCH 1:* (FLAGS BODY.PEEK[])",
		"* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[] {6}\r\nA: 1\r\n",
		"* 2 FETCH (FLAGS (\\Flagged \\Recent $x) BODY[] {6}\r\nB: 2\r\n",
		"* 3 FETCH (FLAGS (\\Recent) BODY[] {6}\r\nC: 3\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 2 INTERNALDATE", "\" 8-Feb-1994 06:43:04 +0000\"", "OK");
	/* Into the selected mailbox: told at once, with synchronising literals too. */
	rig_send(&c, "s APPEND saved-messages {6}\r\n", 29);
	(void)rig_until(&c, "+ ");
	rig_send(&c, "D: 4\r\n (\\Seen) {6}\r\n", 20);
	(void)rig_until(&c, "+ ");
	rig_send(&c, "E: 5\r\n\r\n", 8);
	(void)rig_until(&c, "* 5 EXISTS");
	(void)rig_until(&c, "s OK [APPENDUID ");
	RIG_EXPECT(&c, "APPEND bogusname (\\Flagged) {1023}", "NO [TRYCREATE]");
	rig_disconnect(&c);
}

/* Whatever goes wrong, the mailbox is as it was. */
static void test_a_failure_leaves_nothing(void **state)
{
	struct rig_client c;
	static const char *const rows[][2] = {
		{"APPEND INBOX {6+}\r\nA: 1\r\n {0+}\r\n", "NO"}, /* cancelled */
		{"APPEND INBOX {6+}\r\nA: 1\r\n (\\Nonsense) {6+}\r\nB: 2\r\n", "BAD"},
		{"APPEND INBOX {6+}\r\nA: 1\r\n \"no date\" {6+}\r\nB: 2\r\n", "BAD"},
		{"APPEND INBOX {6+}\r\nA: 1\r\n (\\Seen)", "BAD"},
		{"APPEND INBOX {6+}\r\nA: 1\r\n (\\Seen) \" 7-Feb-1994 22:43:04 -0800\"", "BAD"},
		{"APPEND INBOX {6+}\r\nA: 1\r\n word {6+}\r\nB: 2\r\n", "BAD"},
		{"APPEND INBOX {6+}\r\nA: 1\r\n {19999}", "NO [OVERQUOTA]"},
		{"APPEND INBOX {6+}\r\nA: 1\r\n {99999999}", "NO [TOOBIG]"},
		{"APPEND INBOX {1+}\r\na {1+}\r\na {1+}\r\na {1+}\r\na {1+}\r\na {1+}\r\na",
			"NO [OVERQUOTA]"},
		{"APPEND nowhere {6+}\r\nA: 1\r\n {6+}\r\nB: 2\r\n", "NO [TRYCREATE]"},
	};

	rig_connect(&c, *state, "bob@example.com");
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		RIG_EXPECT(&c, rows[i][0], rows[i][1]);
	/* In the last of the messages, at the very end: keywords beyond what a mailbox takes. */
	{
		struct buf command = {0};

		buf_add_str(&command, "APPEND INBOX {6+}\r\nA: 1\r\n (");
		for (unsigned i = 0; i < 70; i++)
			buf_printf(&command, "%sk%u", i ? " " : "", i);
		buf_add_str(&command, ") {6+}\r\nB: 2\r\n");
		RIG_EXPECT(&c, buf_str_view(&command), "NO");
		buf_deinit(&command);
	}
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES UIDNEXT)", "(MESSAGES 0 UIDNEXT 1)", "OK");
	RIG_EXPECT(&c, "GETQUOTA \"\"", "(STORAGE 0 19 MESSAGE 0 5 MAILBOX 6 10000)", "OK");
	RIG_EXPECT(&c, "APPEND INBOX {1+}\r\na {1+}\r\na {1+}\r\na {1+}\r\na {1+}\r\na", "OK [APPENDUID ",
		" 1:5]");
	rig_disconnect(&c);
}

/* Large ones go to the disk in parts and come to light together. */
static void test_large_messages_are_one_append(void **state)
{
	enum {
		COUNT = 6,
		SIZE = 1300000
	};
	struct rig_client c;
	struct buf command = {0}, mails = {0};
	uint64_t x = 88172645463325252u;

	rig_connect(&c, *state, "alice@example.com");
	for (unsigned n = 0; n < COUNT; n++) {
		buf_add_str(&mails, "X: y\r\n\r\n");
		while (buf_len(&mails) < (size_t)(n + 1) * SIZE) { /* what does not compress */
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			buf_add_char(&mails, (char)(' ' + x % 95));
		}
	}
	buf_add_str(&command, "APPEND INBOX");
	for (unsigned n = 0; n < COUNT; n++) {
		buf_printf(&command, " {%d+}\r\n", SIZE);
		buf_add(&command, mails.data + mails.start + (size_t)n * SIZE, SIZE);
	}
	RIG_EXPECT(&c, buf_str_view(&command), "OK [APPENDUID ", " 1:6]");
	RIG_EXPECT(&c, "SELECT INBOX", "* 6 EXISTS", "OK");
	for (unsigned n = 0; n < COUNT; n++) {
		char fetch[40];
		const char *body;

		snprintf(fetch, sizeof(fetch), "FETCH %u BODY.PEEK[]", n + 1);
		body = strstr(rig_command(&c, fetch), "}\r\n");
		assert_non_null(body);
		assert_memory_equal(body + 3, mails.data + mails.start + (size_t)n * SIZE, SIZE);
	}
	/* One more would be more than a command may bring. */
	buf_printf(&command, " {%d+}\r\n", SIZE);
	buf_add(&command, mails.data + mails.start, SIZE);
	RIG_EXPECT(&c, buf_str_view(&command), "NO [TOOBIG]");
	RIG_EXPECT(&c, "NOOP", "OK");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES UIDNEXT)", "(MESSAGES 6 UIDNEXT 7)", "OK");
	buf_deinit(&command);
	buf_deinit(&mails);
	rig_disconnect(&c);
}

enum {
	MANY = 160
};

static unsigned many_size(unsigned n)
{
	return n % 7 == 3 ? 20 : 1000 + n * 97 % 9000; /* together more than what is spooled in memory */
}

static void many_message(unsigned n, struct buf *out)
{
	size_t from = buf_len(out);

	buf_printf(out, "Subject: %u\r\n\r\n", n);
	while (buf_len(out) - from < many_size(n))
		buf_add_char(out, (char)('!' + (n * 31 + (buf_len(out) - from) * 7) % 90));
}

/* Workers prepare the first of them while the others come; the rest is read from where the spool has got to. */
static void test_many_messages_keep_their_own_octets(void **state)
{
	struct rig_client c;
	struct buf command = {0}, want = {0};
	size_t whole;

	rig_connect(&c, *state, "alice@example.com");
	buf_add_str(&command, "APPEND INBOX");
	for (unsigned n = 0; n < MANY; n++) {
		buf_printf(&command, " (%s) {%u+}\r\n", n % 3 ? "\\Seen" : "", many_size(n));
		many_message(n, &command);
	}
	RIG_EXPECT(&c, buf_str_view(&command), "OK [APPENDUID ", " 1:160]");
	RIG_EXPECT(&c, "SELECT INBOX", "* 160 EXISTS", "OK");
	for (unsigned n = 0; n < MANY; n++) {
		char fetch[60];
		const char *got;

		snprintf(fetch, sizeof(fetch), "FETCH %u (RFC822.SIZE BODY.PEEK[])", n + 1);
		got = rig_command(&c, fetch);
		buf_clear(&want);
		buf_printf(&want, "(RFC822.SIZE %u BODY[] {%u}\r\n", many_size(n), many_size(n));
		many_message(n, &want);
		assert_non_null(strstr(got, buf_str_view(&want)));
	}
	/* All at once: from the third batch on two readers write them. */
	for (unsigned turn = 0; turn < 5; turn++) {
		const char *got = rig_command(&c, "FETCH 1:* (RFC822.SIZE BODY.PEEK[])");

		for (unsigned n = 0; n < MANY; n++) {
			buf_clear(&want);
			buf_printf(&want, "* %u FETCH (RFC822.SIZE %u BODY[] {%u}\r\n", n + 1, many_size(n),
				many_size(n));
			many_message(n, &want);
			buf_add_str(&want, ")\r\n");
			assert_memory_equal(got, want.data + want.start, buf_len(&want));
			got += buf_len(&want);
		}
	}
	RIG_EXPECT(&c, "SEARCH UNSEEN 1:7", "* SEARCH 1 4 7\r\n", "OK");
	rig_disconnect(&c);
	/* Clients that go in the middle of it leave nothing. */
	whole = buf_len(&command);
	for (unsigned i = 1; i < 40; i++) {
		rig_connect(&c, *state, "alice@example.com");
		rig_send(&c, "x ", 2);
		rig_send(&c, command.data + command.start, whole * i / 40);
		rig_disconnect(&c);
	}
	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES UIDNEXT)", "(MESSAGES 160 UIDNEXT 161)", "OK");
	/* What was prepared is given up when the command fails at its end. */
	buf_add_str(&command, " word {6+}\r\nB: 2\r\n");
	RIG_EXPECT(&c, buf_str_view(&command), "BAD");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES UIDNEXT)", "(MESSAGES 160 UIDNEXT 161)", "OK");
	rig_disconnect(&c);
	buf_deinit(&command);
	buf_deinit(&want);
}

/* RFC 8508: quota counts the difference; of two who replace one message one wins. */
static void test_a_message_is_replaced_in_one_step(void **state)
{
	struct rig_client a, b;
	struct buf command = {0}, mail = {0};

	rig_connect(&a, *state, "bob@example.com");
	rig_connect(&b, *state, "bob@example.com");
	buf_add_str(&mail, "X: y\r\n\r\n");
	while (buf_len(&mail) < 15000)
		buf_add_str(&mail, "fifteen thousand\r\n");
	(void)rig_append(&a, "INBOX", "(\\Draft) ", buf_str_view(&mail));
	assert_non_null(strstr(rig_append(&a, "INBOX", "", buf_str_view(&mail)), "NO [OVERQUOTA]"));
	RIG_EXPECT(&a, "SELECT INBOX", "* 1 EXISTS", "OK");
	RIG_EXPECT(&b, "SELECT INBOX", "* 1 EXISTS", "OK");
	buf_printf(&command, "REPLACE 1 INBOX (\\Seen) {%zu+}\r\n%s", buf_len(&mail), buf_str_view(&mail));
	RIG_EXPECT(&a, buf_str_view(&command), "* OK [APPENDUID ", " 2]", "* 1 EXPUNGE", "* 1 EXISTS",
		"OK Done");
	/* Its view still has the message. */
	RIG_EXPECT(&b, buf_str_view(&command), "NO [EXPUNGEISSUED]");
	RIG_EXPECT(&b, "NOOP", "OK");
	RIG_EXPECT(&b, "FETCH 1 (UID FLAGS)", "* 1 FETCH (UID 2 FLAGS (\\Seen", "OK");
	/* Too much even so: nothing happens. */
	buf_clear(&command);
	buf_printf(&command, "REPLACE 1 INBOX {%zu+}\r\n%s%s", 2 * buf_len(&mail), buf_str_view(&mail),
		buf_str_view(&mail));
	RIG_EXPECT(&b, buf_str_view(&command), "NO [OVERQUOTA]");
	RIG_EXPECT(&b, "FETCH 1 (UID)", "* 1 FETCH (UID 2)", "OK");
	RIG_EXPECT(&b, "STATUS INBOX (MESSAGES UIDNEXT)", "(MESSAGES 1 UIDNEXT 3)", "OK");
	buf_deinit(&command);
	buf_deinit(&mail);
	rig_disconnect(&a);
	rig_disconnect(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_several_messages_are_appended_in_order, start, stop),
		cmocka_unit_test_setup_teardown(test_a_failure_leaves_nothing, start, stop),
		cmocka_unit_test_setup_teardown(test_large_messages_are_one_append, start, stop),
		cmocka_unit_test_setup_teardown(test_many_messages_keep_their_own_octets, start, stop),
		cmocka_unit_test_setup_teardown(test_a_message_is_replaced_in_one_step, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
