/* Sharing (RFC 4314, 8440, 2342): what each right opens, what no right shows, between two slots as within one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/store/store_check.h"
#include "tests/unit/backend/session/imap_rig.h"

#define BOB "user/bob@example.com"

static const char mail[] = "From: a@example.com\r\nSubject: one\r\n\r\nHello\r\n";

static int start(void **state)
{
	struct imap_limits limits = imap_limits_default;
	struct rig *r = calloc(1, sizeof(*r));

	r->slots = 2;
	rig_start(r, limits);
	rig_add_account_in(r, 0, "alice@example.com", 0, 0);
	rig_add_account_in(r, 1, "bob@example.com", 100000, 0);
	rig_add_account_in(r, 0, "carol@example.com", 0, 0);
	rig_add_account_in(r, 1, "dave@example.org", 0, 0);
	*state = r;
	return 0;
}

static void report(void *arg, const char *text)
{
	(void)arg;
	print_message("%s\n", text);
}

static int stop(void **state)
{
	struct rig *r = *state;
	struct store_check check;
	const struct store_check_options options = {.report = report};

	assert_int_equal(store_check(r->store, &options, &check), 0);
	assert_int_equal(check.errors, 0);
	rig_stop(r);
	free(r);
	return 0;
}

static void share(struct rig_client *owner, const char *mailbox, const char *who, const char *rights)
{
	char line[300];

	snprintf(line, sizeof(line), "SETACL %s %s %s", mailbox, who, rights);
	RIG_EXPECT(owner, line, "OK");
}

static void test_acl_commands(void **state)
{
	struct rig_client bob;

	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&bob, "CAPABILITY", " ACL RIGHTS=kxte LIST-MYRIGHTS ", "OK");
	RIG_EXPECT(&bob, "NAMESPACE", "* NAMESPACE ((\"\" \"/\")) ((\"user/\" \"/\")) NIL\r\n", "OK");
	RIG_EXPECT(&bob, "CREATE work", "OK");
	RIG_EXPECT(&bob, "GETACL work", "* ACL work bob@example.com lrswipkxteacd\r\n", "OK");
	RIG_EXPECT(&bob, "SETACL work alice@example.com lrd", "OK");
	RIG_EXPECT(&bob, "GETACL work", "bob@example.com lrswipkxteacd alice@example.com lrted\r\n", "OK");
	RIG_EXPECT(&bob, "SETACL work Alice@Example.com +kc", "OK");
	RIG_EXPECT(&bob, "SETACL work -alice@example.com t", "OK");
	RIG_EXPECT(&bob, "GETACL work", " alice@example.com lrktecd -alice@example.com td\r\n", "OK");
	RIG_EXPECT(&bob, "SETACL work alice -ted", "OK");
	RIG_EXPECT(&bob, "GETACL work", " alice@example.com lrkc -alice@example.com td\r\n", "OK");
	RIG_EXPECT(&bob, "DELETEACL work -alice@example.com", "OK");
	RIG_EXPECT(&bob, "DELETEACL work alice@example.com", "OK");
	RIG_EXPECT(&bob, "GETACL work", "* ACL work bob@example.com lrswipkxteacd\r\n", "OK");
	RIG_EXPECT(&bob, "SETACL work alice@example.com lrQ", "BAD");
	RIG_EXPECT(&bob, "SETACL work alice@example.com lq", "BAD");
	RIG_EXPECT(&bob, "SETACL work nobody@example.com l", "NO There is no such account");
	RIG_EXPECT(&bob, "SETACL work bob@example.com l", "NO The owner has all rights");
	RIG_EXPECT(&bob, "SETACL work anyone l", "NO ");
	RIG_EXPECT(&bob, "LISTRIGHTS work alice@example.com",
		"* LISTRIGHTS work alice@example.com \"\" l r s w i p k x t e a c d\r\n", "OK");
	RIG_EXPECT(&bob, "LISTRIGHTS work bob@example.com",
		"* LISTRIGHTS work bob@example.com lrswipkxteacd\r\n", "OK");
	RIG_EXPECT(&bob, "MYRIGHTS work", "* MYRIGHTS work lrswipkxteacd\r\n", "OK");
	RIG_EXPECT(&bob, "LIST \"\" work RETURN (MYRIGHTS)", "* LIST (\\HasNoChildren) \"/\" work\r\n",
		"* MYRIGHTS work lrswipkxteacd\r\n", "OK");
	RIG_EXPECT(&bob, "SETACL nothing alice@example.com l", "NO [NONEXISTENT]");
	rig_disconnect(&bob);
}

static void test_lists_show_what_may_be_looked_up(void **state)
{
	struct rig_client alice, bob;

	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&bob, "CREATE work/deep", "OK");
	RIG_EXPECT(&bob, "CREATE hidden", "OK");
	share(&bob, "work/deep", "alice@example.com", "lr");
	share(&bob, "hidden", "alice@example.com", "r");
	rig_refuse(&alice, "LIST \"\" *", "hidden");
	RIG_EXPECT(&alice, "LIST \"\" *", "INBOX\r\n", "* LIST (\\HasNoChildren) \"/\" " BOB "/work/deep\r\n",
		"OK");
	rig_refuse(&alice, "LIST \"\" *", "\"/\" " BOB "/work\r\n");
	RIG_EXPECT(&alice, "LIST \"\" %", "* LIST (\\HasChildren \\Noselect) \"/\" user\r\n", "OK");
	RIG_EXPECT(&alice, "LIST user/ %", "* LIST (\\HasChildren \\Noselect) \"/\" " BOB "\r\n", "OK");
	RIG_EXPECT(&alice, "LIST \"\" " BOB "/%", "(\\HasChildren \\Noselect) \"/\" " BOB "/work\r\n", "OK");
	RIG_EXPECT(&alice, "LIST \"\" " BOB "/* RETURN (MYRIGHTS STATUS (MESSAGES))", BOB "/work/deep\r\n",
		"* MYRIGHTS " BOB "/work/deep lr\r\n", "* STATUS " BOB "/work/deep (MESSAGES 0)\r\n", "OK");
	RIG_EXPECT(&alice, "SUBSCRIBE " BOB "/work/deep", "OK");
	RIG_EXPECT(&alice, "SUBSCRIBE " BOB "/hidden", "NO [NONEXISTENT]");
	RIG_EXPECT(&alice, "LIST (SUBSCRIBED) \"\" " BOB "/*",
		"* LIST (\\HasNoChildren \\Subscribed) \"/\" " BOB "/work/deep\r\n", "OK");
	RIG_EXPECT(&alice, "LSUB \"\" user*", "* LSUB () \"/\" " BOB "/work/deep\r\n", "OK");
	RIG_EXPECT(&bob, "DELETEACL work/deep alice@example.com", "OK");
	RIG_EXPECT(&alice, "LIST (SUBSCRIBED) \"\" " BOB "/*",
		"* LIST (\\NonExistent \\Subscribed) \"/\" " BOB "/work/deep\r\n", "OK");
	RIG_EXPECT(&alice, "UNSUBSCRIBE " BOB "/work/deep", "OK");
	rig_refuse(&alice, "LIST (SUBSCRIBED) \"\" *", "bob");
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

/* A local part may hold the separator and wildcards: what LIST shows can be opened. */
static void test_owners_with_odd_addresses(void **state)
{
	static const char *const owners[] = {"g=x/s=y@example.com", "a%b@example.com", "*@example.com"};
	struct rig_client alice, odd;
	char command[300], line[200];

	rig_connect(&alice, *state, "alice@example.com");
	for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
		rig_add_account(*state, owners[i], 0, 0);
		rig_connect(&odd, *state, owners[i]);
		RIG_EXPECT(&odd, "CREATE work/deep", "OK");
		share(&odd, "work/deep", "alice@example.com", "lrk");
		snprintf(line, sizeof(line), "user/%s/work/deep", owners[i]);
		RIG_EXPECT(&alice, "LIST \"\" user/*", line, "OK");
		snprintf(command, sizeof(command), "SELECT \"%s\"", line);
		RIG_EXPECT(&alice, command, "OK [READ-ONLY]");
		snprintf(command, sizeof(command), "CREATE \"%s/new\"", line);
		RIG_EXPECT(&alice, command, "OK");
		snprintf(command, sizeof(command), "CREATE \"%s/n%%w\"", line);
		RIG_EXPECT(&alice, command, "NO [CANNOT]");
		RIG_EXPECT(&odd, "STATUS work/deep/new (MESSAGES)", "MESSAGES 0", "OK");
		rig_disconnect(&odd);
	}
	RIG_EXPECT(&alice, "SELECT user/g=x", "NO [NONEXISTENT]");
	RIG_EXPECT(&alice, "SELECT user/g=x/s=y@example.com", "NO [NONEXISTENT]");
	RIG_EXPECT(&alice, "SELECT user/g=x/s=z@example.com/work/deep", "NO [NONEXISTENT]");
	rig_disconnect(&alice);
}

static void test_seen_is_everybodys_own(void **state)
{
	struct rig_client alice, bob, other;

	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	for (int i = 0; i < 3; i++)
		rig_append(&bob, "INBOX", "", mail);
	share(&bob, "INBOX", "alice@example.com", "lrs");
	RIG_EXPECT(&alice, "STATUS " BOB "/INBOX (MESSAGES UNSEEN RECENT)", "(MESSAGES 3 RECENT 0 UNSEEN 3)",
		"OK");
	RIG_EXPECT(&alice, "SELECT " BOB "/INBOX", "[PERMANENTFLAGS (\\Seen)]", "* 3 EXISTS", "* 0 RECENT",
		"[UNSEEN 1]", "OK [READ-ONLY]");
	RIG_EXPECT(&alice, "FETCH 1 BODY[TEXT]", "* 1 FETCH (FLAGS (\\Seen) BODY[TEXT] {", "OK");
	RIG_EXPECT(&alice, "STORE 2 +FLAGS (\\Seen \\Flagged)", "* 2 FETCH (FLAGS (\\Seen))", "OK");
	RIG_EXPECT(&alice, "STORE 3 +FLAGS (\\Flagged)", "NO [NOPERM]");
	RIG_EXPECT(&alice, "SEARCH UNSEEN", "* SEARCH 3\r\n", "OK");
	RIG_EXPECT(&alice, "STATUS " BOB "/INBOX (UNSEEN)", "(UNSEEN 1)", "OK");
	RIG_EXPECT(&bob, "STATUS INBOX (UNSEEN)", "(UNSEEN 3)", "OK");
	RIG_EXPECT(&bob, "SELECT INBOX", "* 3 RECENT", "OK");
	RIG_EXPECT(&bob, "STORE 1 +FLAGS.SILENT \\Flagged", "OK");
	RIG_EXPECT(&bob, "FETCH 1:3 FLAGS", "1 FETCH (FLAGS (\\Flagged \\Recent))",
		"2 FETCH (FLAGS (\\Recent))", "OK");
	RIG_EXPECT(&alice, "NOOP", "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen))", "OK");
	/* Another session of hers hears of it, and by CHANGEDSINCE too. */
	rig_connect(&other, *state, "alice@example.com");
	RIG_EXPECT(&other, "ENABLE CONDSTORE", "OK");
	RIG_EXPECT(&other, "SELECT " BOB "/INBOX", "[UNSEEN 3]", "OK");
	RIG_EXPECT(&alice, "STORE 1 -FLAGS.SILENT \\Seen", "OK");
	RIG_EXPECT(&other, "NOOP", "* 1 FETCH (UID 1 MODSEQ (", "FLAGS (\\Flagged))", "OK");
	RIG_EXPECT(&other, "SEARCH UNSEEN", "* SEARCH 1 3\r\n", "OK");
	rig_disconnect(&other);
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

static void test_rights_withdrawn_count_from_the_next_command(void **state)
{
	struct rig_client alice, bob;

	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	rig_append(&bob, "INBOX", "", mail);
	share(&bob, "INBOX", "alice@example.com", "lrswte");
	RIG_EXPECT(&alice, "SELECT " BOB "/INBOX", "\\*)]", "OK [READ-WRITE]");
	RIG_EXPECT(
		&alice, "STORE 1 +FLAGS (\\Flagged $x \\Seen)", "FETCH (FLAGS (\\Flagged \\Seen $x))", "OK");
	share(&bob, "INBOX", "alice@example.com", "lrs");
	RIG_EXPECT(&alice, "STORE 1 -FLAGS (\\Flagged)", "[PERMANENTFLAGS (\\Seen)]", "NO [NOPERM]");
	RIG_EXPECT(&alice, "EXPUNGE", "NO [NOPERM]");
	RIG_EXPECT(&alice, "MOVE 1 INBOX", "NO [NOPERM]");
	share(&bob, "INBOX", "alice@example.com", "l");
	RIG_EXPECT(&alice, "FETCH 1 BODY[]", "NO [NONEXISTENT]");
	assert_non_null(rig_until(&alice, "* BYE"));
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

static void test_copy_and_move_go_across(void **state)
{
	struct rig_client alice, bob;

	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&bob, "CREATE in", "OK");
	RIG_EXPECT(&bob, "CREATE out", "OK");
	share(&bob, "in", "alice@example.com", "lrsi");
	share(&bob, "out", "alice@example.com", "lrswite");
	for (int i = 0; i < 3; i++)
		rig_append(&alice, "INBOX", "(\\Seen \\Flagged $k) ", mail);
	RIG_EXPECT(&alice, "SELECT INBOX", "* 3 EXISTS", "OK");
	RIG_EXPECT(&alice, "COPY 1:2 " BOB "/in", "OK [COPYUID ", " 1:2 1:2]");
	RIG_EXPECT(&alice, "MOVE 1,3 " BOB "/out", "* OK [COPYUID ", " 1,3 1:2]", "* 3 EXPUNGE",
		"* 1 EXPUNGE", "OK");
	RIG_EXPECT(&alice, "COPY 1 " BOB "/nothing", "NO [TRYCREATE]");
	RIG_EXPECT(&bob, "STATUS in (MESSAGES UNSEEN)", "(MESSAGES 2 UNSEEN 2)", "OK");
	RIG_EXPECT(&bob, "SELECT out", "* 2 EXISTS", "OK");
	RIG_EXPECT(&bob, "FETCH 1 (FLAGS BODY.PEEK[])", "FLAGS (\\Flagged \\Recent $k)", mail, "OK");
	RIG_EXPECT(&bob, "SELECT in", "OK");
	RIG_EXPECT(&bob, "FETCH 1 FLAGS", "FLAGS (\\Recent)", "OK");
	RIG_EXPECT(&alice, "SELECT " BOB "/in", "OK");
	RIG_EXPECT(&alice, "FETCH 1 FLAGS", "FLAGS (\\Seen)", "OK");
	RIG_EXPECT(&alice, "MOVE 1 INBOX", "NO [NOPERM]");
	RIG_EXPECT(&alice, "SELECT " BOB "/out", "OK");
	RIG_EXPECT(&alice, "UID MOVE 1:2 INBOX", "* OK [COPYUID ", " 1:2 4:5]", "EXPUNGE", "OK");
	RIG_EXPECT(&alice, "SELECT INBOX", "* 3 EXISTS", "OK");
	RIG_EXPECT(&alice, "UID FETCH 4 (FLAGS BODY.PEEK[])", "FLAGS (\\Flagged \\Seen", "$k)", mail, "OK");
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

static void test_append_create_rename_delete(void **state)
{
	struct rig_client alice, bob;

	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&bob, "CREATE team", "OK");
	RIG_EXPECT(&bob, "CREATE team/secret", "OK");
	share(&bob, "team", "alice@example.com", "lrikx");
	assert_non_null(strstr(
		rig_append(&alice, BOB "/team", "(\\Seen \\Flagged \\Deleted) ", mail), "OK [APPENDUID"));
	RIG_EXPECT(&alice, "EXAMINE " BOB "/team", "* 1 EXISTS", "OK [READ-ONLY]");
	RIG_EXPECT(&alice, "FETCH 1 FLAGS", "FLAGS ()", "OK");
	RIG_EXPECT(&alice, "UNSELECT", "OK");
	RIG_EXPECT(&alice, "CREATE " BOB "/team/new", "OK [MAILBOXID");
	RIG_EXPECT(&bob, "GETACL team/new", "alice@example.com lrikxc\r\n", "OK");
	RIG_EXPECT(&alice, "RENAME " BOB "/team/new " BOB "/team/newer", "OK");
	RIG_EXPECT(&alice, "RENAME " BOB "/team/newer mine", "NO [CANNOT]");
	RIG_EXPECT(&alice, "RENAME " BOB "/team/newer " BOB "/top", "NO [NONEXISTENT]");
	RIG_EXPECT(&alice, "CREATE " BOB "/top", "NO [NONEXISTENT]");
	RIG_EXPECT(&alice, "CREATE " BOB "/team/secret", "NO [NOPERM]");
	RIG_EXPECT(&alice, "DELETE " BOB "/team/newer", "OK");
	RIG_EXPECT(&alice, "DELETE " BOB "/team/secret", "NO [NONEXISTENT]");
	RIG_EXPECT(&alice, "CREATE " BOB "/team/sent (USE (\\Sent))", "NO [USEATTR]");
	RIG_EXPECT(&alice, "CREATE user", "NO");
	RIG_EXPECT(&alice, "CREATE user/x", "NO");
	RIG_EXPECT(&alice, "CREATE Public/x", "NO");
	RIG_EXPECT(&alice, "GETQUOTAROOT " BOB "/team", "OK");
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

static void test_esearch_reaches_what_is_shared(void **state)
{
	struct rig_client alice, bob;

	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&bob, "CREATE team", "OK");
	RIG_EXPECT(&bob, "CREATE blind", "OK");
	rig_append(&bob, "team", "", mail);
	rig_append(&bob, "blind", "", mail);
	rig_append(&alice, "INBOX", "", mail);
	share(&bob, "team", "alice@example.com", "lrs");
	share(&bob, "blind", "alice@example.com", "l");
	RIG_EXPECT(&alice, "ESEARCH IN (mailboxes (INBOX " BOB "/team " BOB "/blind)) ALL",
		"MAILBOX INBOX UIDVALIDITY ", "MAILBOX " BOB "/team UIDVALIDITY ", " UID ALL 1\r\n", "OK");
	rig_refuse(&alice, "ESEARCH IN (subtree (INBOX user)) ALL", "blind");
	RIG_EXPECT(&alice, "ESEARCH IN (subtree user) ALL", BOB "/team UIDVALIDITY", "OK");
	rig_refuse(&alice, "ESEARCH IN (personal) ALL", "bob");
	RIG_EXPECT(&alice, "SUBSCRIBE " BOB "/team", "OK");
	RIG_EXPECT(&alice, "ESEARCH IN (subscribed) UNSEEN", BOB "/team UIDVALIDITY", "OK");
	RIG_EXPECT(&alice, "SELECT " BOB "/team", "OK");
	RIG_EXPECT(&alice, "STORE 1 +FLAGS \\Seen", "OK");
	RIG_EXPECT(&alice, "ESEARCH IN (selected) SEEN", BOB "/team UIDVALIDITY", "OK");
	rig_refuse(&alice, "ESEARCH IN (selected subtree user) UNSEEN", "ESEARCH");
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

static void test_who_has_gone_is_forgotten(void **state)
{
	struct rig *r = *state;
	struct rig_client alice, bob;
	struct store_account account;
	struct store_txn *txn;
	struct store_stat stat;

	rig_connect(&alice, r, "alice@example.com");
	rig_connect(&bob, r, "bob@example.com");
	RIG_EXPECT(&bob, "CREATE team", "OK");
	rig_append(&bob, "team", "", mail);
	share(&bob, "team", "alice@example.com", "lrs");
	RIG_EXPECT(&alice, "SELECT " BOB "/team", "OK");
	RIG_EXPECT(&alice, "STORE 1 +FLAGS \\Seen", "OK");
	rig_disconnect(&alice);
	assert_int_equal(store_find_account(r->store, SLICE_LIT("alice@example.com"), &account), 0);
	assert_int_equal(store_begin_write(r->store, 0, &txn), 0);
	assert_int_equal(store_account_remove(txn, account.id), 0);
	assert_int_equal(store_commit(&txn), 0);
	RIG_EXPECT(&bob, "GETACL team", "* ACL team bob@example.com lrswipkxteacd\r\n", "OK");
	store_work_forget(r->work, account.slot, account.id);
	for (int i = 0; i < 500; i++) {
		assert_int_equal(store_stat(r->store, &stat), 0);
		if (stat.intents == 0)
			break;
		usleep(10000);
	}
	assert_int_equal(stat.intents, 0);
	assert_int_equal(store_begin_read(r->store, 1, &txn), 0);
	{
		struct store_acl_shared *shared;
		struct store_who who = {account.slot, account.id};
		struct arena arena;
		size_t count;
		uint64_t modseq;

		arena_init(&arena, 0);
		assert_int_equal(store_acl_shared(txn, who, &arena, &shared, &count), 0);
		assert_int_equal(count, 0);
		assert_int_equal(store_seen_modseq(txn, 7, who, &modseq), 0);
		assert_int_equal(modseq, 0);
		arena_deinit(&arena);
	}
	store_end_read(&txn);
	/* A new account of the address is another one. */
	rig_add_account_in(r, 0, "alice@example.com", 0, 0);
	rig_connect(&alice, r, "alice@example.com");
	RIG_EXPECT(&alice, "SELECT " BOB "/team", "NO [NONEXISTENT]");
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

/* Batches of 100: the second is over the owner's quota, and what the first brought goes again; MOVE keeps what it has moved. */
static void test_batches_and_the_owners_quota(void **state)
{
	struct rig_client alice, bob;
	char text[600];

	rig_connect(&alice, *state, "alice@example.com");
	rig_connect(&bob, *state, "bob@example.com");
	RIG_EXPECT(&bob, "CREATE in", "OK");
	share(&bob, "in", "alice@example.com", "lrswite");
	memset(text, 'x', sizeof(text));
	memcpy(text, "A: b\r\n\r\n", 8);
	memcpy(text + sizeof(text) - 3, "\r\n", 3);
	for (int i = 0; i < 250; i++)
		rig_append(&alice, "INBOX", "", text);
	RIG_EXPECT(&alice, "SELECT INBOX", "* 250 EXISTS", "OK");
	RIG_EXPECT(&alice, "COPY 1:* " BOB "/in", "NO [OVERQUOTA]");
	RIG_EXPECT(&bob, "STATUS in (MESSAGES)", "(MESSAGES 0)", "OK");
	RIG_EXPECT(&alice, "COPY 1:150 " BOB "/in", "OK [COPYUID ", " 1:150 ");
	RIG_EXPECT(&bob, "STATUS in (MESSAGES)", "(MESSAGES 150)", "OK");
	RIG_EXPECT(&bob, "SELECT in", "OK");
	RIG_EXPECT(&bob, "STORE 1:* +FLAGS.SILENT \\Deleted", "OK");
	RIG_EXPECT(&bob, "CLOSE", "OK");
	RIG_EXPECT(&alice, "MOVE 1:* " BOB "/in", "* OK [COPYUID ", " 1:100 ", "NO [OVERQUOTA]");
	RIG_EXPECT(&alice, "NOOP", "OK");
	RIG_EXPECT(&alice, "STATUS INBOX (MESSAGES)", "(MESSAGES 150)", "OK");
	RIG_EXPECT(&bob, "STATUS in (MESSAGES)", "(MESSAGES 100)", "OK");
	rig_disconnect(&alice);
	rig_disconnect(&bob);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_acl_commands, start, stop),
		cmocka_unit_test_setup_teardown(test_lists_show_what_may_be_looked_up, start, stop),
		cmocka_unit_test_setup_teardown(test_owners_with_odd_addresses, start, stop),
		cmocka_unit_test_setup_teardown(test_seen_is_everybodys_own, start, stop),
		cmocka_unit_test_setup_teardown(
			test_rights_withdrawn_count_from_the_next_command, start, stop),
		cmocka_unit_test_setup_teardown(test_copy_and_move_go_across, start, stop),
		cmocka_unit_test_setup_teardown(test_append_create_rename_delete, start, stop),
		cmocka_unit_test_setup_teardown(test_esearch_reaches_what_is_shared, start, stop),
		cmocka_unit_test_setup_teardown(test_who_has_gone_is_forgotten, start, stop),
		cmocka_unit_test_setup_teardown(test_batches_and_the_owners_quota, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
