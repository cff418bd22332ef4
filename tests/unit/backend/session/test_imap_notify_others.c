/* ENABLE METADATA (RFC 5464 section 4.4.2): what others change in mailboxes that they share, within one slot and across two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/session/imap_notify.h"
#include "tests/unit/backend/session/imap_rig.h"

#define ALICE "user/alice@example.com"
#define CAROL "user/carol@example.com"

struct people {
	struct rig rig;
	struct rig_client alice, bob, carol; /* bob hears; carol is of his slot, alice of the other */
};

static int start(void **state)
{
	struct people *p = calloc(1, sizeof(*p));

	p->rig.slots = 2;
	rig_start(&p->rig, imap_limits_default);
	rig_add_account_in(&p->rig, 0, "alice@example.com", 0, 0);
	rig_add_account_in(&p->rig, 1, "bob@example.com", 0, 0);
	rig_add_account_in(&p->rig, 1, "carol@example.com", 0, 0);
	rig_connect(&p->alice, &p->rig, "alice@example.com");
	rig_connect(&p->bob, &p->rig, "bob@example.com");
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

static void idle(struct rig_client *c)
{
	rig_send(c, "i IDLE\r\n", 8);
	(void)rig_until(c, "+ ");
}

/* The next that comes by itself is this line. */
static void comes(struct rig_client *c, const char *line)
{
	assert_string_equal(rig_until(c, "*"), line);
}

static void done(struct rig_client *c)
{
	rig_send(c, "DONE\r\n", 6);
	assert_string_equal(rig_until(c, "i OK"), "i OK Idle ended\r\n");
}

/* A notice that was on its way may come in one turn of the loop with the first DONE, behind it; not with the second. */
static void has_looked(struct rig_client *c)
{
	done(c);
	idle(c);
	done(c);
	idle(c);
}

static void test_owner_and_guests(void **state)
{
	struct people *p = *state;
	struct rig_client too, silent;

	RIG_EXPECT(&p->alice, "SETACL team bob@example.com lrw", "OK");
	RIG_EXPECT(&p->alice, "SETACL team carol@example.com lrw", "OK");
	RIG_EXPECT(&p->carol, "SETACL club bob@example.com lr", "OK");
	rig_connect(&silent, &p->rig, "bob@example.com");
	rig_connect(&too, &p->rig, "bob@example.com");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"before\")", "OK");
	RIG_EXPECT(&p->bob, "ENABLE METADATA", "OK");
	rig_refuse(&p->bob, "NOOP", "METADATA");
	idle(&p->bob);
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n");
	/* Of a guest; private ones of alice and carol are not his. */
	RIG_EXPECT(&p->alice, "SETMETADATA team (/private/comment \"x\")", "OK");
	RIG_EXPECT(&p->carol, "SETMETADATA " ALICE "/team (/private/comment \"x\" /shared/vendor/a/b \"x\")",
		"OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/vendor/a/b\r\n");
	/* His own ones, from another session. */
	RIG_EXPECT(&too, "SETMETADATA " ALICE "/team (/private/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /private/comment\r\n");
	/* An owner in the same slot. */
	RIG_EXPECT(&p->carol, "SETMETADATA club (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " CAROL "/club /shared/comment\r\n");
	done(&p->bob);
	/* What he does himself is no news. */
	rig_refuse(&p->bob, "SETMETADATA " ALICE "/team (/shared/comment \"mine\")", "* METADATA");
	rig_refuse(&p->bob, "NOOP", "METADATA");
	RIG_EXPECT(&p->carol, "SETMETADATA club (/shared/comment \"y\")", "OK");
	idle(&p->bob);
	comes(&p->bob, "* METADATA " CAROL "/club /shared/comment\r\n");
	done(&p->bob);
	/* Who has not asked hears nothing. */
	rig_refuse(&silent, "NOOP", "METADATA");
	rig_disconnect(&silent);
	rig_disconnect(&too);
}

static void test_security_15_only_what_may_be_looked_up(void **state)
{
	struct people *p = *state;

	RIG_EXPECT(&p->carol, "SETACL club bob@example.com lr", "OK");
	RIG_EXPECT(&p->alice, "SETACL team bob@example.com r", "OK");
	RIG_EXPECT(&p->bob, "ENABLE METADATA", "OK");
	idle(&p->bob);
	/* Not shared; shared without "l"; "l" alone; all of it withdrawn. */
	RIG_EXPECT(&p->alice, "SETMETADATA secret (/shared/comment \"x\")", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"x\")", "OK");
	RIG_EXPECT(&p->carol, "SETMETADATA club (/shared/comment \"1\")", "OK");
	comes(&p->bob, "* METADATA " CAROL "/club /shared/comment\r\n");
	has_looked(&p->bob); /* rights count as they are when it is told */
	RIG_EXPECT(&p->alice, "SETACL team bob@example.com l", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"y\")", "OK");
	RIG_EXPECT(&p->carol, "SETMETADATA club (/shared/comment \"2\")", "OK");
	comes(&p->bob, "* METADATA " CAROL "/club /shared/comment\r\n");
	has_looked(&p->bob);
	RIG_EXPECT(&p->alice, "SETACL team bob@example.com lr", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"z\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n");
	RIG_EXPECT(&p->alice, "DELETEACL team bob@example.com", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"xx\")", "OK");
	RIG_EXPECT(&p->carol, "SETMETADATA club (/shared/comment \"3\")", "OK");
	comes(&p->bob, "* METADATA " CAROL "/club /shared/comment\r\n");
	done(&p->bob);
}

/* Shared when the session is long there; "anyone" too, and then no more. */
static void test_granted_later(void **state)
{
	struct people *p = *state;
	struct imap_limits limits = imap_limits_default;
	struct rig_client dave;

	limits.acl_anyone = true;
	imap_service_set_limits(p->rig.service, &limits);
	rig_add_account_in(&p->rig, 0, "dave@example.com", 0, 0);
	rig_connect(&dave, &p->rig, "dave@example.com");
	RIG_EXPECT(&p->bob, "ENABLE METADATA", "OK");
	idle(&p->bob);
	RIG_EXPECT(&p->alice, "SETACL team bob@example.com lr", "OK");
	has_looked(&p->bob);
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n");
	RIG_EXPECT(&dave, "SETACL INBOX anyone lr", "OK");
	has_looked(&p->bob);
	RIG_EXPECT(&dave, "SETMETADATA INBOX (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA user/dave@example.com/INBOX /shared/comment\r\n");
	RIG_EXPECT(&dave, "DELETEACL INBOX anyone", "OK");
	RIG_EXPECT(&dave, "SETMETADATA INBOX (/shared/comment \"y\")", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"z\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n");
	done(&p->bob);
	rig_disconnect(&dave);
}

/* With NOTIFY in force it comes while no command runs. */
static void test_with_notify(void **state)
{
	struct people *p = *state;

	RIG_EXPECT(&p->alice, "SETACL team bob@example.com lr", "OK");
	RIG_EXPECT(&p->bob, "NOTIFY SET (SELECTED (MessageNew MessageExpunge))", "OK");
	RIG_EXPECT(&p->bob, "ENABLE METADATA", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n");
	RIG_EXPECT(&p->bob, "SELECT " ALICE "/team", "OK");
	RIG_EXPECT(&p->alice, "SETMETADATA team (/shared/comment \"y\")", "OK");
	comes(&p->bob, "* METADATA " ALICE "/team /shared/comment\r\n");
	rig_refuse(&p->bob, "NOOP", "METADATA");
}

/* A mailbox of one's own may have the number of the one that is selected in another slot. */
static void test_numbers_are_of_a_slot(void **state)
{
	struct people *p = *state;
	char line[60];

	/* Of alice's mailboxes one has the number of each of bob's. */
	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "CREATE m%d", i);
		RIG_EXPECT(&p->alice, line, "OK");
		snprintf(line, sizeof(line), "SETACL m%d bob@example.com lr", i);
		RIG_EXPECT(&p->alice, line, "OK");
	}
	RIG_EXPECT(&p->bob, "CREATE mine", "OK");
	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "SELECT " ALICE "/m%d", i);
		RIG_EXPECT(&p->bob, line, "OK");
		RIG_EXPECT(&p->bob, "NOTIFY SET STATUS (PERSONAL (MessageNew MessageExpunge))",
			"* STATUS mine (", "OK");
	}
}

static void test_security_10_accounts_watched(void **state)
{
	struct people *p = *state;
	struct rig_client owners[IMAP_NOTIFY_OTHERS_MAX + 1];
	const unsigned last = IMAP_NOTIFY_OTHERS_MAX;
	char name[40];

	for (unsigned i = 0; i <= last; i++) {
		snprintf(name, sizeof(name), "o%u@example.com", i);
		rig_add_account_in(&p->rig, 0, name, 0, 0);
		rig_connect(&owners[i], &p->rig, name);
		RIG_EXPECT(&owners[i], "SETACL INBOX bob@example.com lr", "OK");
	}
	RIG_EXPECT(&p->bob, "ENABLE METADATA", "OK");
	idle(&p->bob);
	/* One beyond is not heard of. */
	RIG_EXPECT(&owners[last], "SETMETADATA INBOX (/shared/comment \"x\")", "OK");
	RIG_EXPECT(&owners[0], "SETMETADATA INBOX (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA user/o0@example.com/INBOX /shared/comment\r\n");
	done(&p->bob);
	/* But the selected mailbox always is. */
	snprintf(name, sizeof(name), "SELECT user/o%u@example.com/INBOX", last);
	RIG_EXPECT(&p->bob, name, "OK");
	idle(&p->bob);
	RIG_EXPECT(&owners[last], "SETMETADATA INBOX (/shared/comment \"y\")", "OK");
	snprintf(name, sizeof(name), "* METADATA user/o%u@", last);
	(void)rig_until(&p->bob, name);
	done(&p->bob);
	for (unsigned i = 0; i <= last; i++)
		rig_disconnect(&owners[i]);
}

/* It leaves the list, and the session goes on. */
static void test_owner_goes(void **state)
{
	struct people *p = *state;
	struct store_account account;
	struct store_txn *txn;

	RIG_EXPECT(&p->alice, "SETACL team bob@example.com lr", "OK");
	RIG_EXPECT(&p->carol, "SETACL club bob@example.com lr", "OK");
	RIG_EXPECT(&p->bob, "ENABLE METADATA", "OK");
	assert_int_equal(store_find_account(p->rig.store, SLICE_LIT("alice@example.com"), &account), 0);
	assert_int_equal(store_begin_write(p->rig.store, account.slot, &txn), 0);
	assert_int_equal(store_account_remove(txn, account.id), 0);
	assert_int_equal(store_commit(&txn), 0);
	RIG_EXPECT(&p->bob, "NOOP", "OK");
	idle(&p->bob);
	RIG_EXPECT(&p->carol, "SETMETADATA club (/shared/comment \"x\")", "OK");
	comes(&p->bob, "* METADATA " CAROL "/club /shared/comment\r\n");
	done(&p->bob);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_owner_and_guests, start, stop),
		cmocka_unit_test_setup_teardown(test_security_15_only_what_may_be_looked_up, start, stop),
		cmocka_unit_test_setup_teardown(test_granted_later, start, stop),
		cmocka_unit_test_setup_teardown(test_with_notify, start, stop),
		cmocka_unit_test_setup_teardown(test_numbers_are_of_a_slot, start, stop),
		cmocka_unit_test_setup_teardown(test_security_10_accounts_watched, start, stop),
		cmocka_unit_test_setup_teardown(test_owner_goes, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
