/* OBJECTID (RFC 8474), SAVEDATE (RFC 8514), PREVIEW (RFC 8970), also of messages that an older store holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/store/record.h"
#include "common/proto/date.h"
#include "tests/unit/backend/session/imap_rig.h"

#define A "Subject: Message A\r\nMessage-ID: <fake.1@example.com>\r\n\r\nHello from A\r\n"
#define B                                                                                                    \
	"Subject: Re: Message A\r\nMessage-ID: <fake.2@example.org>\r\nReferences: <fake.1@example.com>\r\n" \
	"\r\nHello from B\r\n"
#define C "Subject: Message C\r\n\r\n"

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

static void append(struct rig_client *c, const char *text)
{
	assert_non_null(strstr(rig_append(c, "INBOX", "\" 1-Feb-1994 00:00:00 +0000\" ", text), "OK ["));
}

/* The text between `before` and the next ')' in the command's answer. */
static void take_id(struct rig_client *c, const char *command, const char *before, char id[64])
{
	const char *got = rig_command(c, command), *at = strstr(got, before), *end;

	if (!at)
		fail_msg("%s: %s", command, got);
	at += strlen(before);
	end = strchr(at, ')');
	assert_true(end && end > at && end - at < 64);
	memcpy(id, at, (size_t)(end - at));
	id[end - at] = '\0';
	for (const char *p = id; *p; p++)
		assert_non_null(
			strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *p));
}

static void test_mailbox_ids(void **state)
{
	char foo[64], id[64];
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	take_id(&c, "CREATE foo", "OK [MAILBOXID (", foo);
	take_id(&c, "CREATE bar", "OK [MAILBOXID (", id);
	assert_string_not_equal(foo, id);
	RIG_EXPECT(&c, "CREATE foo", "NO");
	take_id(&c, "SELECT foo", "* OK [MAILBOXID (", id);
	assert_string_equal(foo, id);
	take_id(&c, "EXAMINE foo", "* OK [MAILBOXID (", id);
	assert_string_equal(foo, id);
	take_id(&c, "STATUS foo (MAILBOXID)", "* STATUS foo (MAILBOXID (", id);
	assert_string_equal(foo, id);
	RIG_EXPECT(&c, "RENAME foo renamed", "OK");
	take_id(&c, "STATUS renamed (MESSAGES MAILBOXID)", "(MESSAGES 0 MAILBOXID (", id);
	assert_string_equal(foo, id);
	RIG_EXPECT(&c, "LIST \"\" * RETURN (STATUS (MAILBOXID))", "* STATUS INBOX (MAILBOXID (F",
		"* STATUS renamed (MAILBOXID (", "OK");
	/* Deleted and made again, it is another one; also where its name has stayed for its children's sake. */
	RIG_EXPECT(&c, "CREATE renamed/child", "OK");
	RIG_EXPECT(&c, "DELETE renamed", "OK");
	take_id(&c, "CREATE renamed", "OK [MAILBOXID (", id);
	assert_string_not_equal(foo, id);
	rig_disconnect(&c);
}

static void test_message_ids(void **state)
{
	char a[64], b[64], t[64], id[64], command[120], want[200];
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	append(&c, A);
	append(&c, B);
	append(&c, C);
	RIG_EXPECT(&c, "CREATE foo", "OK");
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	take_id(&c, "FETCH 1 (EMAILID)", "* 1 FETCH (EMAILID (", a);
	take_id(&c, "FETCH 2 (EMAILID)", "* 2 FETCH (EMAILID (", b);
	assert_string_not_equal(a, b);
	take_id(&c, "FETCH 1 THREADID", "* 1 FETCH (THREADID (", t);
	take_id(&c, "FETCH 2 THREADID", "* 2 FETCH (THREADID (", id);
	assert_string_equal(t, id);
	take_id(&c, "FETCH 3 THREADID", "* 3 FETCH (THREADID (", id);
	assert_string_not_equal(t, id);
	snprintf(command, sizeof(command), "SEARCH EMAILID %s", b);
	RIG_EXPECT(&c, command, "* SEARCH 2\r\n");
	snprintf(command, sizeof(command), "SEARCH THREADID %s", t);
	RIG_EXPECT(&c, command, "* SEARCH 1 2\r\n");
	snprintf(command, sizeof(command), "SEARCH THREADID %s", a);
	RIG_EXPECT(&c, command, "* SEARCH\r\n");
	RIG_EXPECT(&c, "SEARCH OR EMAILID M EMAILID x_-", "* SEARCH\r\n");
	RIG_EXPECT(&c, "COPY 1 foo", "OK");
	RIG_EXPECT(&c, "MOVE 2 foo", "OK");
	RIG_EXPECT(&c, "SELECT foo", "OK");
	snprintf(want, sizeof(want), "* 1 FETCH (EMAILID (%s) THREADID (%s))", a, t);
	RIG_EXPECT(&c, "FETCH 1:2 (EMAILID THREADID)", want);
	snprintf(want, sizeof(want), "* 2 FETCH (EMAILID (%s) THREADID (%s))", b, t);
	RIG_EXPECT(&c, "FETCH 1:2 (EMAILID THREADID)", want);
	rig_disconnect(&c);
}

/* RFC 8474 sections 4 and 5.1: a session that sees others' mailboxes too never sees one id twice, and a copy keeps its own. */
static void test_ids_across_accounts(void **state)
{
	static const char *const own[] = {"INBOX", "sh"};
	char id[64], mailboxes[4][64], messages[2][64], command[120];
	struct rig_client alice, bob;
	size_t count = 0;

	rig_add_account(*state, "bob@example.com", 0, 0);
	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&alice, "CREATE sh", "OK");
	RIG_EXPECT(&bob, "CREATE sh", "OK");
	RIG_EXPECT(&bob, "SETACL INBOX alice@example.com lrswite", "OK");
	RIG_EXPECT(&bob, "SETACL sh alice@example.com lrswite", "OK");
	append(&alice, A);
	append(&bob, B);
	for (size_t i = 0; i < 2; i++) {
		snprintf(command, sizeof(command), "STATUS %s (MAILBOXID)", own[i]);
		take_id(&alice, command, "(MAILBOXID (", mailboxes[count++]);
		snprintf(command, sizeof(command), "STATUS user/bob@example.com/%s (MAILBOXID)", own[i]);
		take_id(&alice, command, "(MAILBOXID (", mailboxes[count++]);
		/* The owner sees the same. */
		snprintf(command, sizeof(command), "STATUS %s (MAILBOXID)", own[i]);
		take_id(&bob, command, "(MAILBOXID (", id);
		assert_string_equal(id, mailboxes[count - 1]);
	}
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(mailboxes[i], mailboxes[j]);
	RIG_EXPECT(&alice, "SELECT INBOX", "OK");
	take_id(&alice, "FETCH 1 EMAILID", "(EMAILID (", messages[0]);
	take_id(&alice, "SELECT user/bob@example.com/INBOX", "[MAILBOXID (", id);
	assert_string_equal(id, mailboxes[1]);
	take_id(&alice, "FETCH 1 EMAILID", "(EMAILID (", messages[1]);
	assert_string_not_equal(messages[0], messages[1]);
	/* There, and back again. */
	RIG_EXPECT(&alice, "COPY 1 INBOX", "OK [COPYUID");
	RIG_EXPECT(&alice, "SELECT INBOX", "OK");
	take_id(&alice, "FETCH 2 EMAILID", "(EMAILID (", id);
	assert_string_equal(id, messages[1]);
	snprintf(command, sizeof(command), "SEARCH EMAILID %s", id);
	RIG_EXPECT(&alice, command, "* SEARCH 2\r\n");
	RIG_EXPECT(&alice, "COPY 1:2 user/bob@example.com/sh", "OK [COPYUID");
	RIG_EXPECT(&alice, "SELECT user/bob@example.com/sh", "OK");
	for (size_t i = 0; i < 2; i++) {
		snprintf(command, sizeof(command), "FETCH %zu EMAILID", i + 1);
		take_id(&alice, command, "(EMAILID (", id);
		assert_string_equal(id, messages[i]);
	}
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

static void day_text(int64_t when, struct buf *out)
{
	date_write_internal(when, 0, out);
	buf_cut(out, 11);
	if (out->data[out->start] == ' ')
		buf_take(out, 1);
}

static void test_save_dates(void **state)
{
	struct buf today = {0}, tomorrow = {0}, command = {0};
	struct rig_client c;
	const char *got;

	rig_connect(&c, *state, "alice@example.com");
	append(&c, A);
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	day_text(clock_wall_s(), &today);
	day_text(clock_wall_s() + 86400, &tomorrow);
	/* INTERNALDATE is of 1994, SAVEDATE of now. */
	got = rig_command(&c, "FETCH 1 (SAVEDATE INTERNALDATE)");
	assert_non_null(strstr(got, "INTERNALDATE \" 1-Feb-1994 00:00:00 +0000\""));
	assert_non_null(strstr(got, "SAVEDATE \""));
	assert_non_null(strstr(got, buf_str_view(&today)));
	RIG_EXPECT(&c, "SEARCH SAVEDATESUPPORTED", "* SEARCH 1\r\n");
	RIG_EXPECT(&c, "SEARCH SAVEDBEFORE 1-Jan-2020", "* SEARCH\r\n");
	RIG_EXPECT(&c, "SEARCH SAVEDSINCE 1-Feb-1994", "* SEARCH 1\r\n");
	buf_printf(&command, "SEARCH SAVEDON %s", buf_str_view(&today));
	RIG_EXPECT(&c, buf_str_view(&command), "* SEARCH 1\r\n");
	buf_clear(&command);
	buf_printf(&command, "SEARCH SAVEDSINCE %s", buf_str_view(&tomorrow));
	RIG_EXPECT(&c, buf_str_view(&command), "* SEARCH\r\n");
	buf_clear(&command);
	buf_printf(&command, "SEARCH SAVEDBEFORE %s", buf_str_view(&tomorrow));
	RIG_EXPECT(&c, buf_str_view(&command), "* SEARCH 1\r\n");
	buf_deinit(&command);
	buf_deinit(&today);
	buf_deinit(&tomorrow);
	rig_disconnect(&c);
}

/* Takes keys and EMAILID out of a record, and turns its SAVEDATE back, as an older program may have left it. */
static void make_old(struct rig *r, uint32_t uid)
{
	struct store_account account;
	struct store_mailbox inbox;
	struct store_message m;
	struct store_txn *txn;
	struct buf bytes = {0};
	struct db_key key;

	assert_int_equal(store_find_account(r->store, SLICE_LIT("alice@example.com"), &account), 0);
	assert_int_equal(store_begin_write(r->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_find(txn, account.id, SLICE_LIT("INBOX"), &inbox), 0);
	assert_int_equal(store_message_get(txn, inbox.id, uid, &m), 0);
	m.texts.keys = slice_of(NULL, 0);
	m.email = 0;
	m.save_date = 86400;
	record_pack_message(&m, buf_reserve(&bytes, record_message_size(&m)));
	buf_added(&bytes, record_message_size(&m));
	key = db_key_u32_u32(inbox.id, uid);
	assert_int_equal(db_put(txn, DB_MESSAGES, db_key_view(&key), buf_view(&bytes)), 0);
	assert_int_equal(store_commit(&txn), 0);
	buf_deinit(&bytes);
}

static void test_previews(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	append(&c, A);
	append(&c, "Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9f"
		   "e\r\n");
	append(&c, "Content-Type: image/png\r\n\r\nxx\r\n");
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "FETCH 1 PREVIEW", "* 1 FETCH (PREVIEW \"Hello from A\")\r\n", "OK");
	RIG_EXPECT(&c, "UID FETCH 1 PREVIEW (LAZY)", "* 1 FETCH (UID 1 PREVIEW \"Hello from A\")\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 2 (PREVIEW (LAZY) UID)",
		"PREVIEW {7}\r\nGr\xc3\xbc\xc3\x9f"
		"e)\r\n",
		"OK");
	RIG_EXPECT(&c, "FETCH 3 PREVIEW", "* 3 FETCH (PREVIEW \"\")\r\n", "OK");
	rig_refuse(&c, "FETCH 1 PREVIEW", "\\Seen");
	RIG_EXPECT(
		&c, "UID FETCH 1:2 PREVIEW (CHANGEDSINCE 1)", "* 1 FETCH (UID 1 MODSEQ (", "PREVIEW", "OK");
	RIG_EXPECT(&c, "UID FETCH 1:2 PREVIEW (LAZY) (CHANGEDSINCE 1)", "PREVIEW", "OK");
	RIG_EXPECT(&c, "FETCH 1 PREVIEW (BUSY)", "BAD");
	rig_disconnect(&c);
}

static void test_messages_of_an_older_store(void **state)
{
	struct rig_client c;
	char a[64], t[64], id[64];

	rig_connect(&c, *state, "alice@example.com");
	append(&c, A);
	append(&c, B);
	append(&c, C);
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	take_id(&c, "FETCH 1 EMAILID", "EMAILID (", a);
	take_id(&c, "FETCH 1 THREADID", "THREADID (", t);
	for (uint32_t uid = 1; uid <= 3; uid++)
		make_old(*state, uid);
	take_id(&c, "FETCH 1 EMAILID", "EMAILID (", id);
	assert_string_not_equal(a, id);
	take_id(&c, "FETCH 2 THREADID", "THREADID (", id);
	assert_string_equal(t, id);
	RIG_EXPECT(&c, "FETCH 1 PREVIEW (LAZY)", "PREVIEW NIL)\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 PREVIEW", "PREVIEW \"Hello from A\")\r\n", "OK");
	RIG_EXPECT(&c, "FETCH 1 SAVEDATE", "SAVEDATE \" 2-Jan-1970 00:00:00 +0000\"", "OK");
	RIG_EXPECT(&c, "SEARCH SAVEDON 2-Jan-1970", "* SEARCH 1 2 3\r\n");
	RIG_EXPECT(&c, "SORT (REVERSE SUBJECT) UTF-8 ALL", "* SORT 3 1 2\r\n", "OK");
	RIG_EXPECT(&c, "THREAD REFERENCES UTF-8 ALL", "* THREAD (1 2)(3)\r\n", "OK");
	/* A copy is still without. */
	take_id(&c, "FETCH 1 EMAILID", "EMAILID (", a);
	RIG_EXPECT(&c, "COPY 1 INBOX", "OK");
	take_id(&c, "FETCH 4 EMAILID", "EMAILID (", id);
	assert_string_equal(a, id);
	rig_disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mailbox_ids, start, stop),
		cmocka_unit_test_setup_teardown(test_message_ids, start, stop),
		cmocka_unit_test_setup_teardown(test_ids_across_accounts, start, stop),
		cmocka_unit_test_setup_teardown(test_save_dates, start, stop),
		cmocka_unit_test_setup_teardown(test_previews, start, stop),
		cmocka_unit_test_setup_teardown(test_messages_of_an_older_store, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
