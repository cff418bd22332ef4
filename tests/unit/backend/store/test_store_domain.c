/* Domains and classes: levels, look-ups, what a change does at once, and that all of it is there again after the store was opened. */
#include "tests/unit/backend/store/temp_store.h"

#include "backend/store/record.h"
#include "backend/store/store_domain.h"

static struct temp_store t;

static int setup(void **state)
{
	(void)state;
	temp_start(&t);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	temp_check(&t);
	temp_end(&t);
	return 0;
}

static int put_domain(const struct store_domain *d)
{
	struct store_txn *txn;
	int err;

	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	err = store_domain_put(txn, d);
	if (err)
		store_abort(&txn);
	else
		assert_int_equal(store_commit(&txn), 0);
	return err;
}

static void put_class(const char *name, const struct store_policy *policy)
{
	const struct store_class class = {.name = slice_str(name), .policy = *policy};
	struct store_txn *txn;

	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_class_put(txn, &class), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static uint32_t make(const struct store_account_new *a)
{
	struct store_txn *txn;
	uint32_t id;

	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_create(txn, a, &id), 0);
	assert_int_equal(store_commit(&txn), 0);
	return id;
}

static void change(uint32_t account, const struct store_account_change *c)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_change(txn, account, c), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static void add_alias(uint32_t account, const char *name)
{
	struct store_txn *txn;

	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_add_alias(txn, account, slice_str(name)), 0);
	assert_int_equal(store_commit(&txn), 0);
}

static struct store_account get(uint32_t account)
{
	struct store_account a;

	assert_int_equal(store_get_account(t.store, 0, account, &a), 0);
	return a;
}

static void reopen(void)
{
	store_close(&t.store);
	temp_open(&t, 256 << 20);
}

/* ---- levels ---- */

static void test_account_class_domain_built_in(void **state)
{
	struct store_policy policy = {0};
	struct store_domain domain = {.name = SLICE_LIT("l.test")};
	struct store_account_origin o;
	uint32_t a = make(
		&(struct store_account_new){.address = SLICE_LIT("u@l.test"), .class = SLICE_LIT("gold")});

	(void)state;
	store_domain_set_built_in(t.store, 1000, 10);
	assert_int_equal(get(a).bytes_limit, 1000);
	assert_int_equal(get(a).count_limit, 10);
	domain.policy = (struct store_policy){.says = STORE_SAYS_BYTES, .bytes_limit = 2000};
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(get(a).bytes_limit, 2000);
	put_class("gold", &(struct store_policy){.says = STORE_SAYS_BYTES, .bytes_limit = 3000});
	assert_int_equal(get(a).bytes_limit, 3000);
	policy = (struct store_policy){.says = STORE_SAYS_BYTES, .bytes_limit = 0};
	change(a, &(struct store_account_change){.policy = &policy});
	assert_int_equal(get(a).bytes_limit, 0);
	assert_int_equal(store_account_explain(t.store, 0, a, &o), 0);
	assert_int_equal(o.bytes, STORE_LEVEL_ACCOUNT);
	assert_int_equal(o.count, STORE_LEVEL_BUILT_IN);
	assert_string_equal(o.class, "gold");
	assert_int_equal(o.class_from, STORE_LEVEL_ACCOUNT);
	/* The domain's maximum caps whoever says more, and who says none. */
	domain.bytes_most = 2500;
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(get(a).bytes_limit, 2500);
	assert_int_equal(store_account_explain(t.store, 0, a, &o), 0);
	assert_int_equal(o.bytes, STORE_LEVEL_CAP);
	reopen();
	assert_int_equal(get(a).bytes_limit, 2500);
	policy.says = 0;
	change(a, &(struct store_account_change){.policy = &policy});
	domain.bytes_most = 0;
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(get(a).bytes_limit, 3000);
	assert_int_equal(store_quota_reserve(t.store, 0, a, 3001), ERR_TOO_BIG);
	assert_int_equal(store_quota_reserve(t.store, 0, a, 3000), 0);
	store_quota_release(t.store, 0, a, 3000);
}

static void test_the_domains_class_is_for_those_without_one(void **state)
{
	struct store_domain domain = {.name = SLICE_LIT("c.test"), .class = SLICE_LIT("plain")};
	struct store_account_origin o;
	struct store_class_status status;
	struct arena arena;
	uint32_t a = make(&(struct store_account_new){.address = SLICE_LIT("u@c.test")});

	(void)state;
	put_class("plain",
		&(struct store_policy){.says = STORE_SAYS_PROTOCOLS, .protocols = STORE_PROTOCOL_IMAP});
	put_class("other", &(struct store_policy){.says = STORE_SAYS_COUNT, .count_limit = 5});
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(get(a).flags, STORE_ACCOUNT_NO_POP3 | STORE_ACCOUNT_NO_MAIL);
	assert_int_equal(store_account_explain(t.store, 0, a, &o), 0);
	assert_int_equal(o.class_from, STORE_LEVEL_DOMAIN);
	change(a, &(struct store_account_change){.class = &SLICE_LIT("other")});
	assert_int_equal(get(a).flags, 0);
	assert_int_equal(get(a).count_limit, 5);
	arena_init(&arena, 0);
	assert_int_equal(store_class_find(t.store, SLICE_LIT("plain"), &arena, &status), 0);
	assert_int_equal(status.domains, 1);
	assert_int_equal(status.accounts, 0);
	assert_int_equal(store_class_find(t.store, SLICE_LIT("other"), &arena, &status), 0);
	assert_int_equal(status.accounts, 1);
	arena_deinit(&arena);
}

static void test_suspension_of_each_level(void **state)
{
	struct store_policy policy = {.is_suspended = true};
	struct store_domain domain = {.name = SLICE_LIT("s.test")};
	uint32_t a = make(&(struct store_account_new){.address = SLICE_LIT("u@s.test")});

	(void)state;
	assert_int_equal(get(a).flags, 0);
	change(a, &(struct store_account_change){.policy = &policy});
	assert_int_equal(get(a).flags, STORE_ACCOUNT_SUSPENDED | STORE_ACCOUNT_DISABLED);
	domain.policy = (struct store_policy){
		.says = STORE_SAYS_SUSPENDED_MAIL, .suspended_mail = STORE_MAIL_DEFERRED};
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(
		get(a).flags, STORE_ACCOUNT_SUSPENDED | STORE_ACCOUNT_DISABLED | STORE_ACCOUNT_MAIL_LATER);
	policy.is_suspended = false;
	policy.says = STORE_SAYS_SUSPENDED_MAIL;
	policy.suspended_mail = STORE_MAIL_REFUSED;
	change(a, &(struct store_account_change){.policy = &policy});
	assert_int_equal(get(a).flags, 0);
	domain.policy.is_suspended = true;
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(
		get(a).flags, STORE_ACCOUNT_SUSPENDED | STORE_ACCOUNT_DISABLED | STORE_ACCOUNT_NO_MAIL);
}

/* ---- look-ups ---- */

static const char *find(const char *address, struct store_account *a)
{
	return store_find_account(t.store, slice_str(address), a) ? "" : a->address;
}

static const char *recipient(const char *address, struct store_account *a)
{
	return store_find_recipient(t.store, slice_str(address), a) ? "" : a->address;
}

static void test_aliases_of_domains(void **state)
{
	struct store_domain domain = {.name = SLICE_LIT("a.test"), .aliases = SLICE_LIT("b.test c2.test")};
	struct store_account a;
	uint32_t u = make(&(struct store_account_new){.address = SLICE_LIT("u@a.test")});

	(void)state;
	add_alias(u, "other@a.test");
	(void)make(&(struct store_account_new){.address = SLICE_LIT("x@d.test")});
	assert_string_equal(find("u@b.test", &a), "");
	assert_int_equal(put_domain(&domain), 0);
	assert_string_equal(find("U@B.test", &a), "u@a.test");
	assert_string_equal(find("other@c2.test", &a), "u@a.test");
	assert_string_equal(find("u+d@c2.test", &a), "");
	assert_string_equal(recipient("u+d@c2.test", &a), "u@a.test");
	assert_string_equal(recipient("nobody@c2.test", &a), "");
	/* An alias is no other domain's, and no domain. */
	assert_int_equal(put_domain(&(struct store_domain){
				 .name = SLICE_LIT("e.test"), .aliases = SLICE_LIT("b.test")}),
		ERR_EXISTS);
	assert_int_equal(put_domain(&(struct store_domain){
				 .name = SLICE_LIT("e.test"), .aliases = SLICE_LIT("d.test")}),
		ERR_EXISTS);
	assert_int_equal(put_domain(&(struct store_domain){.name = SLICE_LIT("b.test")}), ERR_EXISTS);
	assert_int_equal(put_domain(&(struct store_domain){
				 .name = SLICE_LIT("e.test"), .aliases = SLICE_LIT("e.test")}),
		ERR_EXISTS);
	assert_int_equal(store_domain_reserve(t.store, SLICE_LIT("n@b.test"), false), ERR_EXISTS);
	reopen();
	assert_string_equal(find("u@b.test", &a), "u@a.test");
	domain.aliases = SLICE_LIT("c2.test");
	assert_int_equal(put_domain(&domain), 0);
	assert_string_equal(find("u@b.test", &a), "");
	assert_string_equal(find("u@c2.test", &a), "u@a.test");
}

static void test_catch_all_and_roles(void **state)
{
	struct store_domain domain = {.name = SLICE_LIT("k.test"),
		.catch_all = SLICE_LIT("all@k.test"),
		.postmaster = SLICE_LIT("admin@else.test"),
		.aliases = SLICE_LIT("k2.test")};
	static const struct {
		const char *address, *want;
	} rows[] = {
		{"all@k.test", "all@k.test"},
		{"anything@k.test", "all@k.test"},
		{"any+thing@k2.test", "all@k.test"},
		{"postmaster@k.test", "admin@else.test"},
		{"PostMaster@K2.test", "admin@else.test"},
		{"abuse+x@k.test", "admin@else.test"},
		{"abuse@else.test", ""},
	};
	struct store_account a;

	(void)state;
	(void)make(&(struct store_account_new){.address = SLICE_LIT("all@k.test")});
	(void)make(&(struct store_account_new){.address = SLICE_LIT("admin@else.test")});
	assert_int_equal(put_domain(&domain), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(recipient(rows[i].address, &a), rows[i].want);
	assert_string_equal(find("anything@k.test", &a), "");
	assert_string_equal(find("postmaster@k.test", &a), "");
	/* Suspended: its names are refused as it says, its postmaster is there. */
	domain.policy = (struct store_policy){.says = STORE_SAYS_SUSPENDED_MAIL,
		.suspended_mail = STORE_MAIL_DEFERRED,
		.is_suspended = true};
	domain.catch_all = slice_of(NULL, 0);
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(store_find_recipient(t.store, SLICE_LIT("anything@k.test"), &a), ERR_NOT_NOW);
	assert_string_equal(recipient("all@k2.test", &a), "all@k.test");
	assert_true(a.flags & STORE_ACCOUNT_MAIL_LATER);
	assert_string_equal(recipient("postmaster@k.test", &a), "admin@else.test");
	assert_int_equal(a.flags, 0);
	domain.policy.suspended_mail = STORE_MAIL_REFUSED;
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(store_find_recipient(t.store, SLICE_LIT("anything@k.test"), &a), ERR_DENIED);
}

static void test_places_in_a_domain(void **state)
{
	struct store_domain domain = {.name = SLICE_LIT("p.test"), .accounts_most = 2};
	struct store_domain_status status;
	struct store_txn *txn;
	struct arena arena;
	uint32_t a;

	(void)state;
	assert_int_equal(store_domain_reserve(t.store, SLICE_LIT("a@p.test"), true), ERR_NOT_FOUND);
	assert_int_equal(put_domain(&domain), 0);
	assert_int_equal(store_domain_reserve(t.store, SLICE_LIT("a@p.test"), true), 0);
	a = make(&(struct store_account_new){.address = SLICE_LIT("a@p.test")});
	store_domain_release(t.store, SLICE_LIT("a@p.test"));
	assert_int_equal(store_domain_reserve(t.store, SLICE_LIT("b@p.test"), true), 0);
	assert_int_equal(store_domain_reserve(t.store, SLICE_LIT("c@p.test"), true), ERR_TOO_BIG);
	store_domain_release(t.store, SLICE_LIT("b@p.test"));
	arena_init(&arena, 0);
	assert_int_equal(store_domain_find(t.store, SLICE_LIT("p.test"), &arena, &status), 0);
	assert_int_equal(status.accounts, 1);
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_remove(txn, a), 0);
	assert_int_equal(store_domain_remove(txn, SLICE_LIT("p.test")), 0);
	assert_int_equal(store_commit(&txn), 0);
	assert_int_equal(store_domain_find(t.store, SLICE_LIT("p.test"), &arena, &status), ERR_NOT_FOUND);
	arena_deinit(&arena);
}

/* ---- rename ---- */

static void rename_to(uint32_t account, const char *address, bool keep, int want)
{
	struct store_txn *txn;
	int err;

	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	err = store_account_rename(txn, account, slice_str(address), keep);
	assert_int_equal(err, want);
	if (err)
		store_abort(&txn);
	else
		assert_int_equal(store_commit(&txn), 0);
}

static void test_rename(void **state)
{
	struct store_account a;
	uint32_t u = make(
		&(struct store_account_new){.address = SLICE_LIT("old@r.test"), .name = SLICE_LIT("Ann")});
	uint32_t inbox = temp_find(&t, u, "INBOX");

	(void)state;
	(void)make(&(struct store_account_new){.address = SLICE_LIT("taken@r.test")});
	add_alias(u, "also@r.test");
	rename_to(u, "taken@r.test", false, ERR_EXISTS);
	rename_to(u, "New@r2.test", false, 0);
	assert_string_equal(find("new@r2.test", &a), "new@r2.test");
	assert_int_equal(a.id, u);
	assert_string_equal(find("old@r.test", &a), "");
	assert_string_equal(find("also@r.test", &a), "new@r2.test");
	assert_int_equal(temp_find(&t, u, "INBOX"), inbox);
	/* An alias becomes the address, and the address an alias. */
	rename_to(u, "also@r.test", true, 0);
	assert_string_equal(find("new@r2.test", &a), "also@r.test");
	assert_string_equal(find("also@r.test", &a), "also@r.test");
	rename_to(u, "also@r.test", true, 0);
	reopen();
	assert_string_equal(find("new@r2.test", &a), "also@r.test");
	assert_int_equal(a.id, u);
	temp_check(&t);
}

/* ---- options as bytes, and records ---- */

static void test_options_go_to_another_account(void **state)
{
	struct store_policy policy = {.says = STORE_SAYS_BYTES, .bytes_limit = 77, .is_suspended = true};
	uint32_t a = make(&(struct store_account_new){.address = SLICE_LIT("from@o.test"),
		.password = SLICE_LIT("{PLAIN}a"),
		.policy = policy,
		.flags = STORE_ACCOUNT_FORWARDS_ONLY,
		.class = SLICE_LIT("gold"),
		.name = SLICE_LIT("N"),
		.forwards = SLICE_LIT("x@o.test\ny@o.test")});
	uint32_t b = make(&(struct store_account_new){
		.address = SLICE_LIT("to@o.test"), .password = SLICE_LIT("{PLAIN}b")});
	struct store_account_record r;
	struct slice *list;
	struct buf packed = {0};
	struct store_txn *txn;
	struct arena arena;
	size_t count;

	(void)state;
	assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
	assert_int_equal(store_account_pack_options(txn, a, &packed), 0);
	assert_int_equal(store_account_unpack_options(txn, b, buf_view(&packed)), 0);
	assert_int_equal(store_account_unpack_options(txn, b, SLICE_LIT("x")), ERR_CORRUPT);
	assert_int_equal(store_commit(&txn), 0);
	buf_deinit(&packed);
	assert_int_equal(store_begin_read(t.store, 0, &txn), 0);
	assert_int_equal(store_account_get(txn, b, &r), 0);
	assert_true(slice_is_str(r.address, "to@o.test"));
	assert_true(slice_is_str(r.password, "{PLAIN}b"));
	assert_true(slice_is_str(r.class, "gold"));
	assert_true(slice_is_str(r.name, "N"));
	assert_int_equal(r.bytes_limit, 77);
	store_end_read(&txn);
	arena_init(&arena, 0);
	assert_int_equal(store_forwards(t.store, 0, b, &arena, &list, &count), 0);
	assert_int_equal(count, 2);
	assert_true(slice_is_str(list[1], "y@o.test"));
	assert_int_equal(get(b).flags, STORE_ACCOUNT_SUSPENDED | STORE_ACCOUNT_DISABLED |
					       STORE_ACCOUNT_FORWARDS | STORE_ACCOUNT_FORWARDS_ONLY);
	arena_deinit(&arena);
}

static void test_records(void **state)
{
	/* Version 1, as stores of before have it: flags 1, 500 bytes, no limit of messages. */
	static const char old[] = "\1\1\0\0\0\xf4\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\3\0a@b\1\0p";
	const struct store_domain d = {.name = SLICE_LIT("x.test"),
		.policy = {.says = STORE_SAYS_ALL,
			.bytes_limit = 1,
			.count_limit = 2,
			.protocols = 3,
			.suspended_mail = 2,
			.is_suspended = true},
		.bytes_most = 4,
		.count_most = 5,
		.accounts_most = 6,
		.class = SLICE_LIT("c"),
		.catch_all = SLICE_LIT("a@x"),
		.postmaster = SLICE_LIT("p@x"),
		.aliases = SLICE_LIT("y z")};
	struct account_record r;
	struct store_domain back;
	struct buf packed = {0};

	(void)state;
	assert_int_equal(record_unpack_account(slice_of(old, sizeof(old) - 1), &r), 0);
	assert_int_equal(r.policy.says, STORE_SAYS_BYTES);
	assert_int_equal(r.policy.bytes_limit, 500);
	assert_int_equal(r.created, 7);
	assert_true(slice_is_str(r.password, "p"));
	record_pack_account(&r, &packed);
	assert_int_equal(record_unpack_account(buf_view(&packed), &r), 0);
	assert_true(slice_is_str(r.address, "a@b"));
	for (size_t i = 0; i < buf_len(&packed); i++)
		assert_int_equal(record_unpack_account(slice_of(buf_view(&packed).p, i), &r), ERR_CORRUPT);
	buf_clear(&packed);
	assert_int_equal(record_pack_domain(&d, &packed), 0);
	assert_int_equal(record_unpack_domain(d.name, buf_view(&packed), &back), 0);
	assert_int_equal(back.accounts_most, 6);
	assert_int_equal(back.policy.suspended_mail, STORE_MAIL_REFUSED);
	assert_true(back.policy.is_suspended);
	assert_true(slice_is_str(back.aliases, "y z"));
	for (size_t i = 0; i < buf_len(&packed); i++)
		assert_int_equal(
			record_unpack_domain(d.name, slice_of(buf_view(&packed).p, i), &back), ERR_CORRUPT);
	buf_deinit(&packed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_account_class_domain_built_in),
		cmocka_unit_test(test_the_domains_class_is_for_those_without_one),
		cmocka_unit_test(test_suspension_of_each_level),
		cmocka_unit_test(test_aliases_of_domains),
		cmocka_unit_test(test_catch_all_and_roles),
		cmocka_unit_test(test_places_in_a_domain),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_options_go_to_another_account),
		cmocka_unit_test(test_records),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
