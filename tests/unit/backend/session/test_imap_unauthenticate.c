/*
 * UNAUTHENTICATE (RFC 8437): the session gives its connection back with all of its state gone, and another user's session on the
 * same connection sees nothing of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/backend/session/imap_rig.h"

static const char mail[] = "Subject: one\r\n\r\nbody\r\n";

/* Where a connection waits for the next user. Its last session may end after the test has. */
struct desk {
	struct rig *rig;
	struct conn *conn;
	_Atomic unsigned taken, dropped;
	bool is_ended;
};

static struct desk the_desk;

static void begin_again(void *arg);

static void desk_take(void *arg, struct conn *conn_take, bool is_ended)
{
	struct desk *desk = arg;

	desk->conn = conn_take;
	desk->is_ended = is_ended;
	desk->taken++;
	conn_set_owner(conn_take, rig_silent, NULL);
}

static void desk_drop(void *arg)
{
	struct desk *desk = arg;

	desk->dropped++;
	if (desk->conn)
		loop_post(conn_loop(desk->conn), begin_again, desk);
}

static void start_session(struct desk *desk, struct conn *conn, const char *user)
{
	struct store_account account;

	require(store_find_account(desk->rig->store, slice_str(user), &account) == 0);
	imap_session_start(&(struct imap_session_start){.service = desk->rig->service,
		.conn = conn,
		.tag = SLICE_LIT("login"),
		.account = &account,
		.session = "test",
		.is_ended = desk->is_ended,
		.back = {.take = desk_take, .drop = desk_drop, .arg = desk}});
}

/* alice first, then bob. */
static void begin_again(void *arg)
{
	struct desk *desk = arg;
	struct conn *conn = desk->conn;

	desk->conn = NULL;
	start_session(desk, conn, "bob@example.com");
}

struct beginning {
	struct desk *desk;
	int fd;
};

static void begin(void *arg)
{
	struct beginning *b = arg;
	struct conn *conn;

	require(conn_open_fd(loop_group_at(b->desk->rig->loops, 0), b->fd, NULL, rig_silent, NULL, &conn) ==
		0);
	start_session(b->desk, conn, "alice@example.com");
	free(b);
}

static void open_desk(struct rig_client *c, struct rig *r, struct desk *desk)
{
	struct beginning *b = calloc(1, sizeof(*b));
	int fds[2];

	*c = (struct rig_client){.rig = r};
	desk->rig = r;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	c->fd = fds[0];
	*b = (struct beginning){desk, fds[1]};
	loop_post(loop_group_at(r->loops, 0), begin, b);
	(void)rig_until(c, "login OK");
}

static int start(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_start(r, imap_limits_default);
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

static void test_all_state_of_the_session_goes(void **state)
{
	struct rig_client c, watcher;
	struct desk *desk = &the_desk;

	open_desk(&c, *state, desk);
	RIG_EXPECT(&c, "CAPABILITY", " UNAUTHENTICATE SASL-IR", "OK");
	assert_non_null(strstr(rig_append(&c, "INBOX", "(\\Deleted) ", mail), "OK [APPENDUID "));
	RIG_EXPECT(&c, "ENABLE QRESYNC IMAP4rev2 UTF8=ACCEPT UIDONLY", "* ENABLED ", "OK");
	RIG_EXPECT(&c, "SELECT INBOX", "* 1 EXISTS", "OK");
	RIG_EXPECT(&c, "UID SEARCH RETURN (SAVE) ALL", "OK");
	RIG_EXPECT(&c, "UNAUTHENTICATE x", "BAD");
	/* What follows at once is the next session's. */
	rig_send(&c, "u UNAUTHENTICATE\r\nn NOOP\r\n", 26);
	assert_null(strstr(rig_until(&c, "u OK"), "EXPUNGE"));
	(void)rig_until(&c, "login OK");
	(void)rig_until(&c, "n OK");
	RIG_EXPECT(&c, "FETCH 1 FLAGS", "BAD"); /* nothing is selected, and it is bob's */
	RIG_EXPECT(&c, "SELECT INBOX", "* 0 EXISTS", "* 0 RECENT", "OK");
	RIG_EXPECT(&c, "SEARCH $", "* SEARCH\r\n", "OK");
	assert_non_null(strstr(rig_append(&c, "INBOX", "", mail), "OK [APPENDUID "));
	RIG_EXPECT(&c, "FETCH 1 FLAGS", "* 1 FETCH (FLAGS (\\Recent))", "OK");
	RIG_EXPECT(&c, "CREATE &AOQ-", "OK");
	RIG_EXPECT(&c, "LIST \"\" &AOQ-", "\"/\" &AOQ-\r\n", "OK");
	rig_refuse(&c, "STORE 1 +FLAGS \\Deleted", "MODSEQ");
	RIG_EXPECT(&c, "EXPUNGE", "* 1 EXPUNGE", "OK");
	assert_int_equal(desk->taken, 1);
	assert_int_equal(desk->dropped, 1);
	/* Nothing was expunged of alice's. */
	rig_connect(&watcher, *state, "alice@example.com");
	RIG_EXPECT(&watcher, "SELECT INBOX", "* 1 EXISTS", "* 0 RECENT", "OK");
	rig_disconnect(&watcher);
	/* Again and again. */
	for (unsigned i = 0; i < 20; i++) {
		rig_send(&c, "u UNAUTHENTICATE\r\n", 18);
		(void)rig_until(&c, "u OK");
		(void)rig_until(&c, "login OK");
	}
	RIG_EXPECT(&c, "LOGOUT", "* BYE", "OK");
	rig_disconnect(&c);
}

static void test_it_is_neither_offered_nor_taken_without_a_way_back(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	rig_refuse(&c, "CAPABILITY", "UNAUTHENTICATE");
	RIG_EXPECT(&c, "UNAUTHENTICATE", "BAD");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES)", "OK");
	rig_disconnect(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_state_of_the_session_goes, start, stop),
		cmocka_unit_test_setup_teardown(
			test_it_is_neither_offered_nor_taken_without_a_way_back, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
