/* Opening, accounts, the name table, quota, mailboxes. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/store/db.h"

static void test_a_store_is_opened_once_and_again(void **state)
{
	struct temp_store t;
	struct store_options o = {.dir = t.dir};
	struct store *other;
	struct store_account a;
	struct buf why = {0};

	(void)state;
	temp_start(&t);
	assert_int_equal(store_open(&o, &other, &why), ERR_NOT_NOW);
	assert_true(buf_len(&why) > 0);
	store_close(&t.store);
	temp_open(&t, 256 << 20);
	assert_int_equal(store_slots(t.store), 1);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("Alice@EXAMPLE.com"), &a), 0);
	assert_int_equal(a.id, t.account);
	buf_deinit(&why);
	temp_end(&t);
}

/* LMDB's own sync at every commit, and no map that is written: what the promise of durability stands on. */
static void test_lmdb_runs_with_its_default_sync(void **state)
{
	struct temp_store t;
	unsigned flags;

	(void)state;
	temp_start(&t);
	assert_int_equal(mdb_env_get_flags(t.store->slots[0].env, &flags), 0);
	assert_int_equal(flags & (MDB_NOSYNC | MDB_NOMETASYNC | MDB_WRITEMAP | MDB_MAPASYNC | MDB_NOLOCK), 0);
	assert_int_equal(flags & MDB_NOTLS, MDB_NOTLS);
	temp_end(&t);
}

static void test_a_foreign_version_is_refused(void **state)
{
	struct temp_store t;
	struct store_options o = {.dir = t.dir};
	struct buf why = {0};
	char path[128];
	FILE *f;

	(void)state;
	temp_start(&t);
	store_close(&t.store);
	snprintf(path, sizeof(path), "%s/version", t.dir);
	f = fopen(path, "w");
	fputs("mailtier store 99\nslots 1\n", f);
	fclose(f);
	assert_int_equal(store_open(&o, &t.store, &why), ERR_UNSUPPORTED);
	assert_non_null(strstr(buf_str_view(&why), "99"));
	buf_deinit(&why);
	temp_remove(&t);
}

static void test_a_folder_without_a_store_stays_as_it_is(void **state)
{
	char dir[] = "/tmp/mailtier-none-XXXXXX";
	struct store_options o = {.dir = dir, .must_exist = true};
	struct store *store;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(store_open(&o, &store, NULL), ERR_NOT_FOUND);
	assert_int_equal(rmdir(dir), 0); /* it is empty */
}

static void test_names_lead_to_accounts(void **state)
{
	static const struct {
		const char *address;
		int want_exact, want_recipient;
	} rows[] = {
		{"alice@example.com", 0, 0},
		{"ALICE@Example.Com", 0, 0},
		{"alice+news@example.com", ERR_NOT_FOUND, 0},
		{"al@example.com", 0, 0},
		{"al+x+y@example.com", ERR_NOT_FOUND, 0},
		{"bob@example.com", ERR_NOT_FOUND, ERR_NOT_FOUND},
		{"+alice@example.com", ERR_NOT_FOUND, ERR_NOT_FOUND},
		{"", ERR_NOT_FOUND, ERR_NOT_FOUND},
	};
	struct temp_store t;
	struct store_txn *txn;
	struct store_account a;
	struct store_account_new again = {.address = SLICE_LIT("AL@example.com")};
	struct arena arena;
	struct slice *names;
	size_t count;
	uint32_t id;

	(void)state;
	temp_start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_add_alias(txn, t.account, SLICE_LIT("Al@example.com")), 0);
	assert_int_equal(store_account_add_alias(txn, t.account, SLICE_LIT("al@example.com")), ERR_EXISTS);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("al@example.com"), &a), ERR_NOT_FOUND);
	assert_int_equal(store_commit(&txn), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
			store_find_account(t.store, slice_str(rows[i].address), &a), rows[i].want_exact);
		assert_int_equal(store_find_recipient(t.store, slice_str(rows[i].address), &a),
			rows[i].want_recipient);
	}
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_create(txn, &again, &id), ERR_EXISTS);
	assert_int_equal(
		store_account_remove_alias(txn, t.account, SLICE_LIT("alice@example.com")), ERR_DENIED);
	arena_init(&arena, 0);
	assert_int_equal(store_account_aliases(txn, t.account, &arena, &names, &count), 0);
	assert_int_equal(count, 1);
	assert_true(slice_is_str(names[0], "al@example.com"));
	arena_deinit(&arena);
	assert_int_equal(store_account_remove_alias(txn, t.account, SLICE_LIT("AL@example.com")), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("al@example.com"), &a), ERR_NOT_FOUND);
	temp_end(&t);
}

static void test_an_account_changes_and_goes(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_account_record r;
	struct store_account a;
	struct store_stat s;

	(void)state;
	temp_start(&t);
	for (int i = 0; i < 30; i++)
		temp_add(&t, t.inbox, "Subject: x\r\n\r\nbody\r\n");
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_set_password(txn, t.account, SLICE_LIT("{SSHA}new")), 0);
	assert_int_equal(store_account_set_limits(txn, t.account, 1000, 10), 0);
	assert_int_equal(store_account_set_flags(txn, t.account, STORE_ACCOUNT_DISABLED), 0);
	assert_int_equal(store_account_set_flags(txn, 999, 0), ERR_NOT_FOUND);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_account_get(txn, t.account, &r), 0);
	assert_true(slice_is_str(r.password, "{SSHA}new"));
	assert_true(slice_is_str(r.address, "alice@example.com"));
	assert_int_equal(r.bytes_limit, 1000);
	assert_int_equal(r.count_used, 30);
	store_end_read(&txn);
	assert_int_equal(store_get_account(t.store, 0, t.account, &a), 0);
	assert_int_equal(a.flags, STORE_ACCOUNT_DISABLED);
	assert_int_equal(a.count_used, 30);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_remove(txn, t.account), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_find_account(t.store, SLICE_LIT("alice@example.com"), &a), ERR_NOT_FOUND);
	temp_check(&t);
	temp_reap(&t, NULL);
	assert_int_equal(store_stat(t.store, &s), 0);
	assert_int_equal(s.accounts + s.mailboxes + s.messages + s.blobs + s.orphans + s.intents, 1);
	assert_int_not_equal(temp_account(&t, "alice@example.com"), t.account);
	temp_end(&t);
}

static void test_quota_is_promised_and_kept(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_appended a;

	(void)state;
	temp_start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_set_limits(txn, t.account, 1000, 3), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 600), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 600), ERR_TOO_BIG);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 400), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 0), ERR_TOO_BIG);
	store_quota_release(t.store, 0, t.account, 600);
	store_quota_release(t.store, 0, t.account, 400);
	assert_int_equal(store_quota_reserve(t.store, 0, 4711, 1), ERR_NOT_FOUND);
	/* Of unknown size: one beside others of a known one, two only where there is room for much. */
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 0), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 0), ERR_NOT_NOW);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 999), 0);
	store_quota_release(t.store, 0, t.account, 999);
	store_quota_release(t.store, 0, t.account, 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 0), 0);
	store_quota_release(t.store, 0, t.account, 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(
		store_account_set_limits(txn, t.account, UINT64_C(2) * STORE_QUOTA_UNSIZED + 1, 10), 0);
	assert_int_equal(store_commit(&txn), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(store_quota_reserve(t.store, 0, t.account, 0), 0);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 0), ERR_NOT_NOW);
	for (int i = 0; i < 3; i++)
		store_quota_release(t.store, 0, t.account, 0);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_set_limits(txn, t.account, 1000, 3), 0);
	assert_int_equal(store_commit(&txn), 0);
	for (int i = 0; i < 3; i++)
		temp_add(&t, t.inbox, "A: b\r\n\r\nc\r\n");
	assert_int_equal(
		temp_append(&t, t.account, t.inbox, SLICE_LIT("A: b\r\n\r\nc\r\n"), 0, &a), ERR_TOO_BIG);
	assert_int_equal(store_quota_reserve(t.store, 0, t.account, 1), ERR_TOO_BIG);
	temp_end(&t);
}

static void test_mailbox_names_are_judged(void **state)
{
	static const struct {
		const char *name;
		int want;
		const char *stored;
	} rows[] = {
		{"a", 0, "a"},
		{"inbox", 0, "INBOX"},
		{"InBox/x", 0, "INBOX/x"},
		{"inboxes", 0, "inboxes"},
		{"a/b", 0, "a/b"},
		{"", ERR_SYNTAX, NULL},
		{"/a", ERR_SYNTAX, NULL},
		{"a/", ERR_SYNTAX, NULL},
		{"a//b", ERR_SYNTAX, NULL},
		{"a\x01", ERR_SYNTAX, NULL},
		{"\xff", ERR_SYNTAX, NULL},
		{"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21", ERR_TOO_BIG, NULL},
	};
	struct arena arena;
	struct slice got;

	(void)state;
	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
			store_mailbox_normalise(slice_str(rows[i].name), &arena, &got), rows[i].want);
		if (rows[i].stored)
			assert_true(slice_is_str(got, rows[i].stored));
	}
	arena_deinit(&arena);
}

/* The list as one line of text: name, then n \Noselect, s subscribed, c children, - not there. */
static void list_text(struct temp_store *t, struct buf *out)
{
	struct store_txn *txn;
	struct store_mailbox *m;
	struct arena arena;
	size_t count;

	buf_clear(out);
	arena_init(&arena, 0);
	assert_int_equal(store_begin_read(t->store, 0, &txn), 0);
	assert_int_equal(store_mailbox_list(txn, t->account, &arena, &m, &count), 0);
	for (size_t i = 0; i < count; i++)
		buf_printf(out, "%s%.*s:%s%s%s%s", i ? " " : "", SLICE_ARG(m[i].name),
			m[i].noselect ? "n" : "", m[i].subscribed ? "s" : "", m[i].has_children ? "c" : "",
			m[i].id ? "" : "-");
	store_end_read(&txn);
	arena_deinit(&arena);
}

#define DEFAULTS "INBOX:s Archive:s Drafts:s Junk:s Sent:s Trash:s"

static void test_mailboxes_are_made_renamed_and_deleted(void **state)
{
	enum what {
		CREATE,
		DELETE,
		RENAME,
		SUBSCRIBE,
		UNSUBSCRIBE
	};
	static const struct {
		enum what what;
		const char *name, *to;
		int want;
		const char *list; /* behind the default ones */
	} rows[] = {
		{CREATE, "x/y/z", NULL, 0, " x:c x/y:c x/y/z:"},
		{CREATE, "x/y", NULL, ERR_EXISTS, " x:c x/y:c x/y/z:"},
		{CREATE, "x-1", NULL, 0, " x:c x/y:c x/y/z: x-1:"},
		{DELETE, "x/y", NULL, 0, " x:c x/y:nc x/y/z: x-1:"},
		{DELETE, "x/y", NULL, ERR_DENIED, " x:c x/y:nc x/y/z: x-1:"},
		{CREATE, "x/y", NULL, 0, " x:c x/y:c x/y/z: x-1:"},
		{DELETE, "x/y", NULL, 0, " x:c x/y:nc x/y/z: x-1:"},
		{DELETE, "x/y/z", NULL, 0, " x: x-1:"},
		{SUBSCRIBE, "x-1", NULL, 0, " x: x-1:s"},
		{DELETE, "x-1", NULL, 0, " x: x-1:s-"},
		{CREATE, "x-1", NULL, 0, " x: x-1:s"},
		{UNSUBSCRIBE, "x-1", NULL, 0, " x: x-1:"},
		{UNSUBSCRIBE, "x-1", NULL, ERR_NOT_FOUND, " x: x-1:"},
		{DELETE, "x-1", NULL, 0, " x:"},
		{CREATE, "x/a/b", NULL, 0, " x:c x/a:c x/a/b:"},
		{RENAME, "x", "x/q", ERR_DENIED, " x:c x/a:c x/a/b:"},
		{RENAME, "x", "Sent", ERR_EXISTS, " x:c x/a:c x/a/b:"},
		{RENAME, "x", "v/w", 0, " v:c v/w:c v/w/a:c v/w/a/b:"},
		{DELETE, "INBOX", NULL, ERR_DENIED, " v:c v/w:c v/w/a:c v/w/a/b:"},
		{DELETE, "v/w/a/b", NULL, 0, " v:c v/w:c v/w/a:"},
		{DELETE, "v/w/a", NULL, 0, " v:c v/w:"},
		{DELETE, "v/w", NULL, 0, " v:"},
		{RENAME, "v", "u", 0, " u:"},
		{DELETE, "u", NULL, 0, ""},
	};
	struct temp_store t;
	struct buf list = {0};

	(void)state;
	temp_start(&t);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice name = slice_str(rows[i].name);
		struct store_mailbox m = {0};
		struct store_txn *txn;
		uint32_t id;
		int got = 0;

		assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		if (rows[i].what == DELETE || rows[i].what == RENAME)
			assert_int_equal(store_mailbox_find(txn, t.account, name, &m), 0);
		switch (rows[i].what) {
		case CREATE:
			got = store_mailbox_create(txn, t.account, name, STORE_USE_NONE, &id);
			break;
		case DELETE:
			got = store_mailbox_delete(txn, t.account, m.id);
			break;
		case RENAME:
			got = store_mailbox_rename(txn, t.account, m.id, slice_str(rows[i].to));
			break;
		case SUBSCRIBE:
		case UNSUBSCRIBE:
			got = store_mailbox_subscribe(txn, t.account, name, rows[i].what == SUBSCRIBE);
			break;
		}
		assert_int_equal(got, rows[i].want);
		if (got)
			store_abort(&txn);
		else
			assert_int_equal(store_commit(&txn), 0);
		list_text(&t, &list);
		assert_memory_equal(buf_str_view(&list), DEFAULTS, strlen(DEFAULTS));
		assert_string_equal(buf_str_view(&list) + strlen(DEFAULTS), rows[i].list);
		temp_check(&t);
	}
	buf_deinit(&list);
	temp_reap(&t, NULL);
	temp_end(&t);
}

static void test_renaming_inbox_moves_its_messages(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_mailbox before, after, inbox;

	(void)state;
	temp_start(&t);
	temp_add(&t, t.inbox, "A: b\r\n\r\n");
	before = temp_mailbox(&t, t.inbox);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_rename(txn, t.account, t.inbox, SLICE_LIT("old/mail")), 0);
	assert_int_equal(store_commit(&txn), 0);
	after = temp_mailbox(&t, temp_find(&t, t.account, "old/mail"));
	inbox = temp_mailbox(&t, temp_find(&t, t.account, "inbox"));
	assert_int_equal(after.messages, 1);
	assert_int_equal(after.uidvalidity, before.uidvalidity);
	assert_int_equal(inbox.messages, 0);
	assert_true(inbox.uidvalidity > before.uidvalidity);
	temp_end(&t);
}

static void test_a_mailbox_of_another_is_not_found(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct store_mailbox m;
	struct store_appended a;
	uint32_t bob, uid = 1;
	uint64_t modseq;

	(void)state;
	temp_start(&t);
	bob = temp_account(&t, "bob@example.com");
	temp_add(&t, t.inbox, "A: b\r\n\r\n");
	assert_int_equal(temp_append(&t, bob, t.inbox, SLICE_LIT("x"), 0, &a), ERR_NOT_FOUND);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_get(txn, bob, t.inbox, &m), ERR_NOT_FOUND);
	assert_int_equal(store_mailbox_delete(txn, bob, t.inbox), ERR_NOT_FOUND);
	assert_int_equal(
		store_message_expunge(txn, bob, t.inbox, &uid, 1, true, NULL, &modseq), ERR_NOT_FOUND);
	assert_int_equal(store_message_copy(txn, bob, t.inbox, &uid, 1, t.inbox, false, NULL), ERR_NOT_FOUND);
	store_abort(&txn);
	temp_end(&t);
}

static void test_keywords_have_bits_and_a_limit(void **state)
{
	struct temp_store t;
	struct store_txn *txn;
	struct slice names[2] = {SLICE_LIT("$Work"), SLICE_LIT("later")};
	struct slice one[1] = {SLICE_LIT("$WORK")};
	uint64_t bits;
	char text[16];

	(void)state;
	temp_start(&t);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_mailbox_make_keywords(txn, t.account, t.inbox, names, 2, &bits), 0);
	assert_int_equal(bits, 3);
	assert_int_equal(store_mailbox_make_keywords(txn, t.account, t.inbox, one, 1, &bits), 0);
	assert_int_equal(bits, 1);
	for (int i = 2; i < STORE_KEYWORDS_MAX; i++) {
		one[0] = slice_of(text, (size_t)snprintf(text, sizeof(text), "k%d", i));
		assert_int_equal(store_mailbox_make_keywords(txn, t.account, t.inbox, one, 1, &bits), 0);
		assert_true(bits == UINT64_C(1) << i);
	}
	one[0] = SLICE_LIT("more");
	assert_int_equal(store_mailbox_make_keywords(txn, t.account, t.inbox, one, 1, &bits), ERR_TOO_BIG);
	assert_int_equal(store_mailbox_keyword_bits(txn, t.account, t.inbox, one, 1, &bits), 0);
	assert_int_equal(bits, 0);
	assert_int_equal(store_commit(&txn), 0);
	temp_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_store_is_opened_once_and_again),
		cmocka_unit_test(test_lmdb_runs_with_its_default_sync),
		cmocka_unit_test(test_a_foreign_version_is_refused),
		cmocka_unit_test(test_a_folder_without_a_store_stays_as_it_is),
		cmocka_unit_test(test_names_lead_to_accounts),
		cmocka_unit_test(test_an_account_changes_and_goes),
		cmocka_unit_test(test_quota_is_promised_and_kept),
		cmocka_unit_test(test_mailbox_names_are_judged),
		cmocka_unit_test(test_mailboxes_are_made_renamed_and_deleted),
		cmocka_unit_test(test_renaming_inbox_moves_its_messages),
		cmocka_unit_test(test_a_mailbox_of_another_is_not_found),
		cmocka_unit_test(test_keywords_have_bits_and_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
