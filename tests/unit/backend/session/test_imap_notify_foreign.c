/* NOTIFY (RFC 5465) on mailboxes of others and public folders: owners in the watcher's slot and in another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/session/imap_notify.h"
#include "backend/store/store_acl.h"
#include "tests/unit/backend/session/imap_rig.h"

#define ALICE "user/alice@example.com"
#define CAROL "user/carol@example.com"
#define BOB "bob@example.com"
#define ALL                                                                                                  \
	"(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange "        \
	"ServerMetadataChange)"
#define MAIL "From: a@b.test\r\nTo: c@d.test\r\nSubject: Re: good morning\r\n\r\ntext\r\n"

struct people {
	struct rig rig;
	struct rig_client alice, bob, carol; /* bob watches; carol is of his slot, alice of the other */
};

static int start(void **state)
{
	struct people *p = calloc(1, sizeof(*p));
	struct imap_limits limits = imap_limits_default;

	p->rig.slots = 2;
	limits.acl_anyone = true;
	rig_start(&p->rig, limits);
	rig_add_account_in(&p->rig, 0, "alice@example.com", 0, 0);
	rig_add_account_in(&p->rig, 1, BOB, 0, 0);
	rig_add_account_in(&p->rig, 1, "carol@example.com", 0, 0);
	rig_connect(&p->alice, &p->rig, "alice@example.com");
	rig_connect(&p->bob, &p->rig, BOB);
	rig_connect(&p->carol, &p->rig, "carol@example.com");
	RIG_EXPECT(&p->alice, "CREATE team", "OK");
	RIG_EXPECT(&p->alice, "CREATE secret", "OK");
	RIG_EXPECT(&p->carol, "CREATE club", "OK");
	*state = p;
	return 0;
}

static int stop(void **state)
{
	struct people *p = *state;

	rig_disconnect(&p->alice);
	rig_disconnect(&p->bob);
	rig_disconnect(&p->carol);
	rig_stop(&p->rig);
	free(p);
	return 0;
}

static void append(struct rig_client *c, const char *mailbox)
{
	assert_non_null(strstr(rig_append(c, mailbox, "", MAIL), "OK ["));
}

/* The next that comes by itself begins with this. */
static void comes(struct rig_client *c, const char *line)
{
	const char *got = rig_until(c, "*");

	if (strncmp(got, line, strlen(line)) != 0)
		fail_msg("wanted: %s\ngot: %s", line, got);
}

/*
 * What others have done until here has been looked at: the marker, which only bob hears of, comes behind it. A NOOP is answered with
 * what notices have brought, and notices of one loop come in order.
 */
static void silent(struct people *p)
{
	static unsigned n;
	char line[80], wanted[80];

	snprintf(line, sizeof(line), "SETMETADATA club (/shared/vendor/x/y%u \"x\")", n);
	snprintf(wanted, sizeof(wanted), "* METADATA " CAROL "/club /shared/vendor/x/y%u\r\n", n++);
	RIG_EXPECT(&p->carol, line, "OK");
	comes(&p->bob, wanted);
	{
		const char *got = rig_command(&p->bob, "NOOP");

		if (got[0] != 't')
			fail_msg("not wanted: %s", got);
	}
}

static void share_club(struct people *p)
{
	RIG_EXPECT(&p->carol, "SETACL club " BOB " lr", "OK");
}

static void test_every_event(void **state)
{
	struct people *p = *state;
	const char *got;

	RIG_EXPECT(&p->alice, "SETACL team " BOB " lrs", "OK");
	share_club(p);
	append(&p->alice, "team");
	got = rig_command(&p->bob, "NOTIFY SET STATUS (subtree user " ALL ")");
	assert_non_null(strstr(got, "* STATUS " ALICE "/team (MESSAGES 1 UIDNEXT 2 UIDVALIDITY "));
	assert_non_null(strstr(got, "HIGHESTMODSEQ"));
	assert_non_null(strstr(got, "* STATUS " CAROL "/club (MESSAGES 0 UIDNEXT 1 UIDVALIDITY "));
	assert_null(strstr(got, "secret"));
	assert_null(strstr(got, "INBOX"));
	/* Messages. */
	append(&p->alice, "team");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 2 UIDNEXT 3)\r\n");
	append(&p->carol, "club");
	comes(&p->bob, "* STATUS " CAROL "/club (MESSAGES 1 UIDNEXT 2)\r\n");
	RIG_EXPECT(&p->alice, "SELECT team", "OK");
	RIG_EXPECT(&p->alice, "STORE 1 +FLAGS (\\Deleted)", "OK");
	comes(&p->bob, "* STATUS " ALICE "/team (UIDVALIDITY ");
	RIG_EXPECT(&p->alice, "EXPUNGE", "OK");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 1 UIDNEXT 3)\r\n");
	/* Annotations. */
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/private/comment \"x\")", "OK");
	/* Names. A child has its parent's ACL. */
	RIG_EXPECT(&p->alice, "CREATE team/sub", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/team/sub\r\n");
	comes(&p->bob, "* LIST (\\HasChildren) \"/\" " ALICE "/team\r\n");
	comes(&p->bob, "* STATUS " ALICE "/team/sub (UIDVALIDITY ");
	RIG_EXPECT(&p->alice, "RENAME team crew", "OK");
	comes(&p->bob, "* LIST (\\HasChildren) \"/\" " ALICE "/crew (\"OLDNAME\" (" ALICE "/team))\r\n");
	RIG_EXPECT(&p->alice, "DELETE crew/sub", "OK");
	comes(&p->bob, "* LIST (\\NonExistent \\NoAccess) \"/\" " ALICE "/crew/sub\r\n");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/crew\r\n");
	RIG_EXPECT(&p->alice, "CREATE more", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA secret (/shared/comment \"x\")", "OK");
	append(&p->alice, "secret");
	silent(p);
	/* Subscriptions, from another session. */
	{
		struct rig_client too;

		rig_connect(&too, &p->rig, BOB);
		RIG_EXPECT(&too, "SUBSCRIBE " ALICE "/crew", "OK");
		comes(&p->bob, "* LIST (\\HasNoChildren \\Subscribed) \"/\" " ALICE "/crew\r\n");
		RIG_EXPECT(&p->alice, "SETACL crew " BOB " lrsw", "OK");
		RIG_EXPECT(&too, "UNSUBSCRIBE " ALICE "/crew", "OK");
		comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/crew\r\n");
		rig_disconnect(&too);
	}
	silent(p);
	/* In IDLE the same. */
	rig_send(&p->bob, "i IDLE\r\n", 8);
	(void)rig_until(&p->bob, "+ ");
	append(&p->alice, "crew");
	comes(&p->bob, "* STATUS " ALICE "/crew (MESSAGES 2 UIDNEXT 4)\r\n");
	rig_send(&p->bob, "DONE\r\n", 6);
	(void)rig_until(&p->bob, "i OK");
	/* And no more. */
	RIG_EXPECT(&p->bob, "NOTIFY NONE", "OK");
	append(&p->alice, "crew");
	RIG_EXPECT(&p->alice, "DELETE crew", "OK");
	RIG_EXPECT(&p->carol, "SETMETADATA club (/shared/comment \"x\")", "OK");
	rig_refuse(&p->bob, "NOOP", "*");
}

/* Section 5.4, 5.9: a right that is given is a mailbox that comes, one that is withdrawn a mailbox that goes. */
static void test_rights_given_and_withdrawn(void **state)
{
	struct people *p = *state;

	share_club(p);
	append(&p->alice, "team");
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user " ALL ")", "OK");
	RIG_EXPECT(&p->alice, "SETACL team " BOB " r", "OK"); /* nothing to be seen yet */
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lr", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/team\r\n");
	comes(&p->bob, "* LIST (\\NonExistent \\HasChildren) \"/\" " ALICE "\r\n");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 1 UIDNEXT 2 ");
	RIG_EXPECT(&p->alice, "SETACL team " BOB " l", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren \\NoAccess) \"/\" " ALICE "/team\r\n");
	append(&p->alice, "team"); /* not watched */
	silent(p);
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lrs", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/team\r\n");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 2 UIDNEXT 3 ");
	append(&p->alice, "team");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 3 UIDNEXT 4)\r\n");
	RIG_EXPECT(&p->alice, "DELETEACL team " BOB, "OK");
	comes(&p->bob, "* LIST (\\NonExistent \\NoAccess) \"/\" " ALICE "/team\r\n");
	comes(&p->bob, "* LIST (\\NonExistent) \"/\" " ALICE "\r\n");
	append(&p->alice, "team");
	RIG_EXPECT(&p->alice, "RENAME team hidden", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA hidden (/shared/comment \"x\")", "OK");
	RIG_EXPECT(&p->alice, "DELETE hidden", "OK");
	silent(p);
	/* "anyone", and what is denied. */
	RIG_EXPECT(&p->alice, "SETACL secret anyone lr", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/secret\r\n");
	comes(&p->bob, "* LIST (\\NonExistent \\HasChildren) \"/\" " ALICE "\r\n");
	comes(&p->bob, "* STATUS " ALICE "/secret (MESSAGES 0 ");
	RIG_EXPECT(&p->alice, "SETACL secret -" BOB " l", "OK");
	comes(&p->bob, "* LIST (\\NonExistent \\NoAccess) \"/\" " ALICE "/secret\r\n");
	comes(&p->bob, "* LIST (\\NonExistent) \"/\" " ALICE "\r\n");
	silent(p);
}

/* Who asked for messages alone hears of rights, and not of names. */
static void test_messages_alone(void **state)
{
	struct people *p = *state;

	RIG_EXPECT(&p->alice, "SETACL team " BOB " lr", "OK");
	RIG_EXPECT(&p->alice, "SETACL secret " BOB " l", "OK");
	/* Section 3.1: it can be listed, and not be watched. */
	RIG_EXPECT(&p->bob,
		"NOTIFY SET STATUS (mailboxes (" ALICE "/team " ALICE "/secret " ALICE "/none " CAROL "/club "
		"user/nobody@example.com/x) (MessageNew MessageExpunge))",
		"* LIST (\\HasNoChildren \\NoAccess) \"/\" " ALICE "/secret\r\n* STATUS " ALICE
		"/team (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ");
	RIG_EXPECT(&p->alice, "CREATE team/sub", "OK");
	RIG_EXPECT(&p->alice, "SETACL team " BOB " r", "OK");
	comes(&p->bob, "* LIST (\\NonExistent \\HasChildren \\NoAccess) \"/\" " ALICE "/team\r\n");
	append(&p->alice, "team");
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lr", "OK");
	comes(&p->bob, "* LIST (\\HasChildren) \"/\" " ALICE "/team\r\n");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 1 UIDNEXT 2 ");
	share_club(p);
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " CAROL "/club\r\n");
	comes(&p->bob, "* STATUS " CAROL "/club (MESSAGES 0 UIDNEXT 1 ");
	RIG_EXPECT(&p->carol, "RENAME club other", "OK");
	append(&p->carol, "other");
	append(&p->alice, "team/sub");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"x\")", "OK");
	append(&p->alice, "team");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 2 UIDNEXT 3)\r\n");
}

/* What is read is each one's own (STATUS UNSEEN), and whose it is, is told to nobody else. */
static void test_security_15_seen_is_each_ones_own(void **state)
{
	struct people *p = *state;
	struct rig_client too;

	share_club(p);
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lrs", "OK");
	RIG_EXPECT(&p->alice, "SETACL team carol@example.com lrs", "OK");
	append(&p->alice, "team");
	append(&p->alice, "team");
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user " ALL ")", "OK");
	RIG_EXPECT(&p->carol, "SELECT " ALICE "/team", "OK");
	RIG_EXPECT(&p->carol, "STORE 1 +FLAGS (\\Seen)", "OK");
	silent(p);
	rig_connect(&too, &p->rig, BOB);
	RIG_EXPECT(&too, "SELECT " ALICE "/team", "OK");
	RIG_EXPECT(&too, "STORE 1 +FLAGS (\\Seen)", "OK");
	{
		const char *got = rig_until(&p->bob, "* STATUS");

		assert_non_null(strstr(got, ALICE "/team ("));
		assert_non_null(strstr(got, "UNSEEN 1"));
	}
	silent(p);
	rig_disconnect(&too);
}

/* Done, and without news of it. */
static void by_self(struct rig_client *c, const char *command)
{
	const char *got = rig_command(c, command);

	if (!strstr(got, " OK ") || strstr(got, "* STATUS") || strstr(got, "* METADATA") ||
		strstr(got, "* LIST"))
		fail_msg("%s: %s", command, got);
}

static void test_ones_own_doings(void **state)
{
	struct people *p = *state;

	share_club(p);
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lrswipkxtea", "OK");
	append(&p->alice, "team");
	append(&p->bob, "INBOX");
	RIG_EXPECT(&p->bob,
		"NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange)) (subtree user " ALL ")",
		"OK");
	append(&p->bob, ALICE "/team");
	by_self(&p->bob, "CREATE " ALICE "/team/sub");
	by_self(&p->bob, "RENAME " ALICE "/team/sub " ALICE "/team/below");
	by_self(&p->bob, "SETACL " ALICE "/team/below carol@example.com lr");
	by_self(&p->bob, "SETMETADATA " ALICE "/team (/shared/comment \"x\")");
	by_self(&p->bob, "SUBSCRIBE " ALICE "/team");
	by_self(&p->bob, "DELETE " ALICE "/team/below");
	by_self(&p->bob, "SELECT INBOX");
	by_self(&p->bob, "COPY 1 " ALICE "/team");
	RIG_EXPECT(&p->bob, "SELECT " ALICE "/team", "* 3 EXISTS", "OK");
	by_self(&p->bob, "STORE 1 +FLAGS.SILENT (\\Flagged \\Deleted)");
	by_self(&p->bob, "EXPUNGE");
	by_self(&p->bob, "UNSELECT");
	silent(p);
	/* Somebody else's among them. */
	RIG_EXPECT(&p->alice, "CREATE team/other", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/team/other\r\n");
	comes(&p->bob, "* LIST (\\HasChildren \\Subscribed) \"/\" " ALICE "/team\r\n");
	comes(&p->bob, "* STATUS " ALICE "/team/other (UIDVALIDITY ");
	silent(p);
}

/* The selected mailbox has what SELECTED asks for, and nothing of the others. */
static void test_selected(void **state)
{
	struct people *p = *state;

	share_club(p);
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lr", "OK");
	RIG_EXPECT(&p->bob, "SELECT " ALICE "/team", "OK");
	RIG_EXPECT(&p->bob,
		"NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (Subject)]) "
		"MessageExpunge FlagChange)) (subtree user " ALL ")",
		"* STATUS " CAROL "/club (");
	append(&p->alice, "team");
	comes(&p->bob, "* 1 EXISTS\r\n");
	comes(&p->bob, "* 0 RECENT\r\n");
	comes(&p->bob, "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (Subject)] {");
	(void)rig_until(&p->bob, ")");
	RIG_EXPECT(&p->alice, "SELECT team", "OK");
	RIG_EXPECT(&p->alice, "STORE 1 +FLAGS (\\Flagged)", "OK");
	comes(&p->bob, "* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n");
	RIG_EXPECT(&p->alice, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	comes(&p->bob, "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Deleted))\r\n");
	RIG_EXPECT(&p->alice, "EXPUNGE", "OK");
	comes(&p->bob, "* 1 EXPUNGE\r\n");
	silent(p);
	/* Withdrawn: what comes next is its end. */
	RIG_EXPECT(&p->alice, "DELETEACL team " BOB, "OK");
	append(&p->alice, "team");
	{
		const char *got = rig_until(&p->bob, "* BYE");

		assert_null(strstr(got, "EXISTS"));
		assert_null(strstr(got, "Subject"));
	}
}

/* What bob had not heard of the selected mailbox when he left it, is told as of any other. */
static void test_a_mailbox_that_is_left(void **state)
{
	struct people *p = *state;
	const char *got;

	share_club(p);
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lrste", "OK");
	for (int i = 0; i < 3; i++)
		append(&p->alice, "team");
	RIG_EXPECT(&p->bob, "SELECT " ALICE "/team", "OK");
	RIG_EXPECT(&p->bob,
		"NOTIFY SET (selected-delayed (MessageNew MessageExpunge)) (subtree user " ALL ")", "OK");
	RIG_EXPECT(&p->alice, "SELECT team", "OK");
	RIG_EXPECT(&p->alice, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	RIG_EXPECT(&p->alice, "EXPUNGE", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n"); /* so the log is read up to here */
	got = rig_command(&p->bob, "SELECT INBOX");
	assert_non_null(strstr(got, "* STATUS " ALICE "/team (MESSAGES 2 UIDNEXT 4"));
	/* One's own doings there are none of it. */
	RIG_EXPECT(&p->bob, "SELECT " ALICE "/team", "* 2 EXISTS", "OK");
	RIG_EXPECT(&p->bob, "STORE 1 +FLAGS.SILENT (\\Deleted)", "OK");
	rig_refuse(&p->bob, "CLOSE", "* STATUS");
	silent(p);
}

static void test_subscribed(void **state)
{
	struct people *p = *state;
	struct rig_client too;

	RIG_EXPECT(&p->alice, "SETACL team " BOB " lr", "OK");
	share_club(p);
	RIG_EXPECT(&p->bob, "SUBSCRIBE " CAROL "/club", "OK");
	append(&p->carol, "club");
	RIG_EXPECT(&p->bob, "NOTIFY SET STATUS (subscribed " ALL ")", "* STATUS " CAROL "/club (MESSAGES 1 ",
		"OK");
	append(&p->alice, "team");
	silent(p);
	rig_connect(&too, &p->rig, BOB);
	RIG_EXPECT(&too, "SUBSCRIBE " ALICE "/team", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren \\Subscribed) \"/\" " ALICE "/team\r\n");
	append(&p->alice, "team");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 2 UIDNEXT 3)\r\n");
	/* Of what is not there, or not for him, alike. */
	RIG_EXPECT(&p->carol, "CREATE private", "OK");
	RIG_EXPECT(&too, "UNSUBSCRIBE " ALICE "/team", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/team\r\n");
	append(&p->alice, "team");
	silent(p);
	/* One's own subscriptions count, and are no news. */
	RIG_EXPECT(&p->bob, "SUBSCRIBE " ALICE "/team", "OK");
	append(&p->alice, "team");
	comes(&p->bob, "* STATUS " ALICE "/team (MESSAGES 4 UIDNEXT 5)\r\n");
	rig_disconnect(&too);
}

/* A set that replaces another: nothing between the two is lost. The second message of each round comes too soon to be told by itself. */
static void test_one_set_after_another(void **state)
{
	struct people *p = *state;
	char line[] = "NOTIFY SET (mailboxes (" ALICE "/team INBOX) (MessageNew MessageExpunge))", wanted[80];

	RIG_EXPECT(&p->alice, "SETACL team " BOB " lr", "OK");
	RIG_EXPECT(&p->bob, line, "OK");
	for (int i = 1; i <= 10; i += 2) {
		append(&p->alice, "team");
		snprintf(
			wanted, sizeof(wanted), "* STATUS " ALICE "/team (MESSAGES %d UIDNEXT %d)", i, i + 1);
		comes(&p->bob, wanted);
		append(&p->alice, "team");
		snprintf(wanted, sizeof(wanted), "* STATUS " ALICE "/team (MESSAGES %d UIDNEXT %d)", i + 1,
			i + 2);
		if (!strstr(rig_command(&p->bob, line), wanted))
			comes(&p->bob, wanted); /* or it came before */
	}
}

/* Nothing of what a session may not see, whatever it names, and whatever happens there. */
static void test_security_15_nothing_of_what_is_not_shared(void **state)
{
	struct people *p = *state;
	const char *got;

	share_club(p);
	append(&p->alice, "secret");
	got = rig_command(&p->bob,
		"NOTIFY SET STATUS (subtree (" ALICE " user) " ALL ") (mailboxes (" ALICE "/secret " ALICE
		"/INBOX " ALICE "/nothere " CAROL "/club) " ALL ") (subtree " ALICE "/secret " ALL ")");
	assert_null(strstr(got, "alice"));
	for (int i = 0; i < 3; i++) {
		static const char *const rights[] = {"p", "st", "rswi"};
		char line[60];

		snprintf(line, sizeof(line), "SETACL secret " BOB " %s", rights[i]);
		RIG_EXPECT(&p->alice, line, "OK");
		append(&p->alice, "secret");
		append(&p->alice, "INBOX");
		RIG_EXPECT(&p->alice, "SELECT secret", "OK");
		RIG_EXPECT(&p->alice, "STORE 1 +FLAGS (\\Deleted)", "OK");
		RIG_EXPECT(&p->alice, "EXPUNGE", "OK");
		RIG_EXPECT(&p->alice, "CLOSE", "OK");
		RIG_EXPECT(&p->alice, "CREATE secret/more", "OK");
		RIG_EXPECT(&p->alice, "RENAME secret/more secret/less", "OK");
		RIG_EXPECT(&p->alice, "SETMETADATA secret (/shared/comment \"x\")", "OK");
		RIG_EXPECT(&p->alice, "SETACL secret carol@example.com lr", "OK");
		RIG_EXPECT(&p->alice, "DELETE secret/less", "OK");
		silent(p);
	}
	RIG_EXPECT(&p->alice, "DELETE secret", "OK");
	silent(p);
}

struct move {
	const char *from, *to; /* to NULL: deleted */
};

/* All at once, as bob sees it: no notice comes before the last. */
static void move_all(struct people *p, const struct move *moves, size_t count)
{
	struct store_account account;
	struct store_mailbox m;
	struct store_txn *txn;

	assert_int_equal(store_find_account(p->rig.store, SLICE_LIT("alice@example.com"), &account), 0);
	assert_int_equal(store_begin_write(p->rig.store, account.slot, &txn), 0);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(store_mailbox_find(txn, account.id, slice_str(moves[i].from), &m), 0);
		if (moves[i].to)
			assert_int_equal(
				store_mailbox_rename(txn, account.id, m.id, slice_str(moves[i].to)), 0);
		else
			assert_int_equal(store_mailbox_delete(txn, account.id, m.id), 0);
	}
	assert_int_equal(store_commit(&txn), 0);
	RIG_EXPECT(&p->alice, "SETMETADATA secret (/shared/comment \"x\")", "OK");
}

/* OLDNAME is what the client calls it then: it may follow line by line. */
static void test_renames_in_order(void **state)
{
	static const struct move swap[] = {{"a", "x"}, {"b", "a"}, {"x", "b"}};
	static const struct move chain[] = {{"b", "c"}, {"a", "b"}, {"c/in", NULL}, {"c/out", "a"}};
	struct people *p = *state;
	static const char *const names[] = {"a", "b", "a/in", "a/out"};
	char line[60];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(line, sizeof(line), "CREATE %s", names[i]);
		RIG_EXPECT(&p->alice, line, "OK");
		snprintf(line, sizeof(line), "SETACL %s " BOB " lr", names[i]);
		RIG_EXPECT(&p->alice, line, "OK");
	}
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user (MailboxName))", "OK");
	/* Two that change names cannot be told line by line: they are there anew. */
	move_all(p, swap, ARRAY_LEN(swap));
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/b/in (\"OLDNAME\" (" ALICE "/a/in))\r\n");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/b/out (\"OLDNAME\" (" ALICE "/a/out))\r\n");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/a\r\n");
	comes(&p->bob, "* LIST (\\NonExistent \\HasChildren) \"/\" " ALICE "\r\n");
	comes(&p->bob, "* LIST (\\HasChildren) \"/\" " ALICE "/b\r\n");
	comes(&p->bob, "* LIST (\\NonExistent \\HasChildren) \"/\" " ALICE "\r\n");
	/* b has two children now; it becomes c, a takes its name, of the children one goes and one becomes a. */
	move_all(p, chain, ARRAY_LEN(chain));
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/c (\"OLDNAME\" (" ALICE "/b))\r\n");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/b (\"OLDNAME\" (" ALICE "/a))\r\n");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/a (\"OLDNAME\" (" ALICE "/c/out))\r\n");
	comes(&p->bob, "* LIST (\\NonExistent \\NoAccess) \"/\" " ALICE "/c/in\r\n");
}

/* RENAME of INBOX leaves an empty one: no name, but what is in it. */
static void test_inbox_renamed(void **state)
{
	struct people *p = *state;

	share_club(p);
	RIG_EXPECT(&p->alice, "SETACL INBOX " BOB " lr", "OK");
	append(&p->alice, "INBOX");
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user (MessageNew MessageExpunge MailboxName))", "OK");
	RIG_EXPECT(&p->alice, "RENAME INBOX old", "OK");
	/* Its ACL went along with its messages. */
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/old (\"OLDNAME\" (" ALICE "/INBOX))\r\n");
	append(&p->alice, "INBOX");
	RIG_EXPECT(&p->alice, "SETACL INBOX " BOB " lr", "OK");
	comes(&p->bob, "* LIST (\\HasNoChildren) \"/\" " ALICE "/INBOX\r\n");
	comes(&p->bob, "* LIST (\\NonExistent \\HasChildren) \"/\" " ALICE "\r\n");
	comes(&p->bob, "* STATUS " ALICE "/INBOX (MESSAGES 1 ");
	/* In one step, while bob looks away: its name is not told. */
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user (MessageNew MessageExpunge MailboxName))", "OK");
	append(&p->alice, "old");
	comes(&p->bob, "* STATUS " ALICE "/old (MESSAGES 2 ");
	RIG_EXPECT(&p->alice, "RENAME INBOX older", "OK");
	RIG_EXPECT(&p->alice, "SETACL INBOX " BOB " lr", "OK");
	{
		const char *got = rig_until(&p->bob, "* STATUS " ALICE "/INBOX (MESSAGES 0 ");

		assert_non_null(strstr(got, "/older (\"OLDNAME\" ("));
	}
}

static void test_owner_goes(void **state)
{
	struct people *p = *state;
	struct store_account account;
	struct store_txn *txn;

	share_club(p);
	RIG_EXPECT(&p->alice, "SETACL team " BOB " lr", "OK");
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user " ALL ")", "OK");
	assert_int_equal(store_find_account(p->rig.store, SLICE_LIT("alice@example.com"), &account), 0);
	assert_int_equal(store_begin_write(p->rig.store, account.slot, &txn), 0);
	assert_int_equal(store_account_remove(txn, account.id), 0);
	assert_int_equal(store_commit(&txn), 0);
	comes(&p->bob, "* LIST (\\NonExistent \\NoAccess) \"/\" " ALICE "/team\r\n");
	silent(p);
}

/* Makes carol's mailboxes below club, or deletes them, in one transaction. */
static void below_club(struct people *p, unsigned count, bool deletes)
{
	struct store_account account;
	struct store_txn *txn;
	struct buf name = {0};
	char letters[400];

	memset(letters, 'n', sizeof(letters));
	assert_int_equal(store_find_account(p->rig.store, SLICE_LIT("carol@example.com"), &account), 0);
	assert_int_equal(store_begin_write(p->rig.store, account.slot, &txn), 0);
	for (unsigned i = 0; i < count; i++) {
		struct store_mailbox m;
		uint32_t id;

		buf_clear(&name);
		buf_printf(&name, "club/%.380s%04u", letters, i);
		if (deletes) {
			assert_int_equal(store_mailbox_find(txn, account.id, buf_view(&name), &m), 0);
			assert_int_equal(store_mailbox_delete(txn, account.id, m.id), 0);
		} else {
			assert_int_equal(
				store_mailbox_create(txn, account.id, buf_view(&name), STORE_USE_NONE, &id),
				0);
		}
	}
	assert_int_equal(store_commit(&txn), 0);
	buf_deinit(&name);
}

static void test_security_10_watching_others_is_bounded(void **state)
{
	struct people *p = *state;
	struct rig_client too;

	/* Of mailboxes that a session may look up it keeps so much. */
	share_club(p);
	below_club(p, IMAP_NOTIFY_KNOWN_MEMORY / 400, false);
	RIG_EXPECT(&p->bob, "NOTIFY SET (mailboxes INBOX (MessageNew MessageExpunge))", "OK");
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user (MessageNew MessageExpunge))",
		"NO [NOTIFICATIONOVERFLOW]");
	/* The set before is in force. */
	rig_connect(&too, &p->rig, BOB);
	append(&too, "INBOX");
	comes(&p->bob, "* STATUS INBOX (MESSAGES 1 ");
	rig_disconnect(&too);
	below_club(p, 150, true);
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user (MessageNew MessageExpunge))", "OK");
	below_club(p, 150, false);
	RIG_EXPECT(&p->carol, "CREATE club/one", "OK"); /* with a notice */
	comes(&p->bob, "* OK [NOTIFICATIONOVERFLOW] ");
	append(&p->carol, "club");
	rig_refuse(&p->bob, "NOOP", "* ");
}

/* Each of them shares its INBOX with bob. */
static void add_owner(struct people *p, unsigned i)
{
	struct store_account_new account = {.address = SLICE_LIT("")};
	struct store_acl_entry entry = {.rights = STORE_RIGHT_LOOKUP | STORE_RIGHT_READ};
	struct store_account bob;
	struct store_mailbox inbox;
	struct store_txn *txn;
	uint32_t id;
	char name[40];

	snprintf(name, sizeof(name), "o%u@example.com", i);
	account.address = slice_str(name);
	assert_int_equal(store_find_account(p->rig.store, SLICE_LIT(BOB), &bob), 0);
	entry.who = (struct store_who){bob.slot, bob.id};
	assert_int_equal(store_begin_write(p->rig.store, i % 2, &txn), 0);
	assert_int_equal(store_account_create(txn, &account, &id), 0);
	assert_int_equal(store_mailbox_find(txn, id, SLICE_LIT("INBOX"), &inbox), 0);
	assert_int_equal(store_acl_set(txn, id, inbox.id, &entry), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static void test_security_10_owners_watched_are_bounded(void **state)
{
	struct people *p = *state;
	struct rig_client owner;

	for (unsigned i = 0; i < IMAP_NOTIFY_OTHERS_MAX; i++)
		add_owner(p, i);
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user (MailboxName))", "OK");
	share_club(p);
	comes(&p->bob, "* OK [NOTIFICATIONOVERFLOW] ");
	RIG_EXPECT(&p->bob, "NOTIFY SET (subtree user (MailboxName))", "NO [NOTIFICATIONOVERFLOW]");
	/* Of one's choice, still. */
	RIG_EXPECT(&p->bob, "NOTIFY SET (mailboxes user/o7@example.com/INBOX (MessageNew MessageExpunge))",
		"OK");
	rig_connect(&owner, &p->rig, "o7@example.com");
	append(&owner, "INBOX");
	comes(&p->bob, "* STATUS user/o7@example.com/INBOX (MESSAGES 1 UIDNEXT 2)\r\n");
	rig_disconnect(&owner);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_event, start, stop),
		cmocka_unit_test_setup_teardown(test_rights_given_and_withdrawn, start, stop),
		cmocka_unit_test_setup_teardown(test_messages_alone, start, stop),
		cmocka_unit_test_setup_teardown(test_security_15_seen_is_each_ones_own, start, stop),
		cmocka_unit_test_setup_teardown(test_ones_own_doings, start, stop),
		cmocka_unit_test_setup_teardown(test_selected, start, stop),
		cmocka_unit_test_setup_teardown(test_a_mailbox_that_is_left, start, stop),
		cmocka_unit_test_setup_teardown(test_subscribed, start, stop),
		cmocka_unit_test_setup_teardown(test_one_set_after_another, start, stop),
		cmocka_unit_test_setup_teardown(test_security_15_nothing_of_what_is_not_shared, start, stop),
		cmocka_unit_test_setup_teardown(test_renames_in_order, start, stop),
		cmocka_unit_test_setup_teardown(test_inbox_renamed, start, stop),
		cmocka_unit_test_setup_teardown(test_owner_goes, start, stop),
		cmocka_unit_test_setup_teardown(test_security_10_watching_others_is_bounded, start, stop),
		cmocka_unit_test_setup_teardown(test_security_10_owners_watched_are_bounded, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
