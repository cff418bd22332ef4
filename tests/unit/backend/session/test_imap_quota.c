/* QUOTA (RFC 9208) with roots on folders and limits of single folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/store/store_quota.h"
#include "tests/unit/backend/session/imap_rig.h"

static int start(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_start(r, imap_limits_default);
	rig_add_account(r, "alice@example.com", 100 * 1024, 0);
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

static void set(struct rig *r, const char *address, const char *folder, struct store_quota limits)
{
	struct store_account account;
	struct store_mailbox m = {0};
	struct store_txn *txn;

	assert_int_equal(store_find_account(r->store, slice_str(address), &account), 0);
	assert_int_equal(store_begin_write(r->store, 0, &txn), 0);
	if (folder[0])
		assert_int_equal(store_mailbox_find(txn, account.id, slice_str(folder), &m), 0);
	assert_int_equal(store_quota_set(txn, account.id, m.id, &limits), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static const char *append(struct rig_client *c, const char *mailbox, size_t size)
{
	static char text[20000];

	memset(text, 'x', size);
	memcpy(text, "a: b\r\n\r\n", 8);
	text[size] = '\0';
	return rig_append(c, mailbox, "", text);
}

static void test_roots(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "CAPABILITY", "QUOTA=RES-STORAGE", "QUOTA=RES-MAILBOX", "OK");
	rig_refuse(&c, "CAPABILITY", "QUOTASET");
	RIG_EXPECT(&c, "CREATE Projects/one", "OK");
	set(*state, "alice@example.com", "Projects",
		(struct store_quota){.bytes_limit = 10240, .count_limit = 3, .mailboxes_limit = 3});
	set(*state, "alice@example.com", "Projects/one", (struct store_quota){.folder_count_limit = 1});
	assert_non_null(strstr(append(&c, "Projects/one", 2000), "OK"));
	RIG_EXPECT(&c, "GETQUOTAROOT Projects/one",
		"* QUOTAROOT Projects/one \"\" Projects =Projects/one\r\n",
		"* QUOTA \"\" (STORAGE 2 100 MAILBOX 8 10000)\r\n",
		"* QUOTA Projects (STORAGE 2 10 MESSAGE 1 3 MAILBOX 2 3)\r\n",
		"* QUOTA =Projects/one (MESSAGE 1 1)\r\n", "OK");
	/* What would hold for one that is not there. */
	RIG_EXPECT(&c, "GETQUOTAROOT Projects/new", "* QUOTAROOT Projects/new \"\" Projects\r\n", "OK");
	RIG_EXPECT(&c, "GETQUOTAROOT Sent", "* QUOTAROOT Sent \"\"\r\n", "OK");
	RIG_EXPECT(
		&c, "GETQUOTA Projects", "* QUOTA Projects (STORAGE 2 10 MESSAGE 1 3 MAILBOX 2 3)\r\n", "OK");
	RIG_EXPECT(&c, "GETQUOTA =Projects/one", "* QUOTA =Projects/one (MESSAGE 1 1)\r\n", "OK");
	RIG_EXPECT(&c, "GETQUOTA Projects/one", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "GETQUOTA =Projects", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "GETQUOTA =", "NO [NONEXISTENT]");
	RIG_EXPECT(&c, "GETQUOTA Sent", "NO [NONEXISTENT]");
	rig_disconnect(&c);
}

static void test_over_quota(void **state)
{
	struct rig_client c;

	rig_connect(&c, *state, "alice@example.com");
	RIG_EXPECT(&c, "CREATE Projects/one", "OK");
	set(*state, "alice@example.com", "Projects",
		(struct store_quota){.bytes_limit = 10240, .mailboxes_limit = 2});
	set(*state, "alice@example.com", "Sent", (struct store_quota){.folder_count_limit = 1});
	assert_non_null(strstr(append(&c, "Projects/one", 6000), "OK"));
	assert_non_null(strstr(append(&c, "Projects", 6000), "NO [OVERQUOTA]"));
	assert_non_null(strstr(append(&c, "INBOX", 6000), "OK"));
	RIG_EXPECT(&c, "SELECT INBOX", "OK");
	RIG_EXPECT(&c, "COPY 1 Projects", "NO [OVERQUOTA]");
	RIG_EXPECT(&c, "MOVE 1 Projects", "NO [OVERQUOTA]");
	RIG_EXPECT(&c, "COPY 1 Sent", "OK");
	RIG_EXPECT(&c, "COPY 1 Sent", "NO [OVERQUOTA]");
	RIG_EXPECT(&c, "MOVE 1 Sent", "NO [OVERQUOTA]");
	RIG_EXPECT(&c, "CREATE Projects/two", "NO [OVERQUOTA]");
	RIG_EXPECT(&c, "CREATE two", "OK");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES DELETED DELETED-STORAGE)",
		"(MESSAGES 1 DELETED 0 DELETED-STORAGE 0)");
	RIG_EXPECT(&c, "STORE 1 +FLAGS (\\Deleted)", "OK");
	RIG_EXPECT(&c, "STATUS INBOX (MESSAGES DELETED DELETED-STORAGE)",
		"(MESSAGES 1 DELETED 1 DELETED-STORAGE 6000)");
	rig_disconnect(&c);
}

static void test_security_15_roots_of_others(void **state)
{
	struct rig_client c, other;

	rig_connect(&c, *state, "alice@example.com");
	rig_connect(&other, *state, "bob@example.com");
	RIG_EXPECT(&c, "CREATE Projects", "OK");
	set(*state, "alice@example.com", "Projects", (struct store_quota){.bytes_limit = 10240});
	RIG_EXPECT(&other, "GETQUOTA Projects", "NO [NONEXISTENT] No such quota root");
	RIG_EXPECT(&other, "GETQUOTA nowhere", "NO [NONEXISTENT] No such quota root");
	rig_refuse(&other, "GETQUOTAROOT Projects", "STORAGE");
	RIG_EXPECT(&other, "GETQUOTAROOT Projects", "* QUOTAROOT Projects \"\"\r\n");
	RIG_EXPECT(&other, "GETQUOTAROOT nowhere", "* QUOTAROOT nowhere \"\"\r\n");
	/* Who may read a folder hears of its root, and not of what its owner uses. */
	RIG_EXPECT(&c, "SETACL Projects bob@example.com lri", "OK");
	RIG_EXPECT(&other, "GETQUOTAROOT user/alice@example.com/Projects",
		"* QUOTAROOT user/alice@example.com/Projects user/alice@example.com/Projects\r\n"
		"* QUOTA user/alice@example.com/Projects (STORAGE 0 10)\r\n",
		"OK");
	RIG_EXPECT(&other, "GETQUOTA user/alice@example.com/Projects",
		"* QUOTA user/alice@example.com/Projects (STORAGE 0 10)\r\n", "OK");
	assert_non_null(strstr(append(&other, "user/alice@example.com/Projects", 12000), "NO [OVERQUOTA]"));
	RIG_EXPECT(&c, "SETACL Projects bob@example.com l", "OK");
	RIG_EXPECT(&other, "GETQUOTAROOT user/alice@example.com/Projects", "NO [NOPERM]");
	RIG_EXPECT(&other, "GETQUOTA user/alice@example.com/Projects", "NO [NONEXISTENT]");
	rig_disconnect(&c);
	rig_disconnect(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_roots, start, stop),
		cmocka_unit_test_setup_teardown(test_over_quota, start, stop),
		cmocka_unit_test_setup_teardown(test_security_15_roots_of_others, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
