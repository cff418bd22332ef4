/* The sections `users`: whose names meet which section, where accounts may be made, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/users.h"

#define CONNECTOR                                                                                            \
	"connector dir {\n\turis = {\"ldap://127.0.0.1:389\"}\n\ttls = none\n\tbind = anonymous\n\tbase = "  \
	"\"dc=x\"\n\tpassword-attribute = \"\"\n}\n"

static int load(const char *text, struct buf *why, struct config **config_out)
{
	struct conf *conf;
	int err = conf_load_text(&config_table, "test.conf", slice_str(text), why, &conf);

	return err ? err : config_new(conf, why, config_out);
}

static const char *title_of(const struct config *c, const char *name)
{
	const struct config_users *s = users_find(c, slice_str(name));

	return s ? s->title : "none";
}

static void test_a_name_meets_the_section_of_its_domain(void **state)
{
	struct buf why = {0};
	struct config *c = NULL;

	(void)state;
	if (load(CONNECTOR "users a {\n\tdomains = {Example.COM, b\xc3\xbc"
			   "cher.example}\n\tconnector = dir\n\tcreate-accounts = yes\n}\n"
			   "users rest {\n\tconnector = dir\n}\nusers made {\n\tdomains = "
			   "{made.test}\n\tcreate-accounts = "
			   "yes\n}\n",
		    &why, &c))
		fail_msg("%s", buf_str_view(&why));
	assert_string_equal(title_of(c, "alice@example.com"), "a");
	assert_string_equal(title_of(c, "alice@xn--bcher-kva.example"), "a");
	assert_string_equal(title_of(c, "alice@sub.example.com"), "rest");
	assert_string_equal(title_of(c, "alice"), "rest");
	assert_string_equal(title_of(c, "alice@made.test"), "made");
	/* Accounts are made in named domains only, by sections that say so. */
	assert_true(users_may_create(
		users_find(c, SLICE_LIT("alice@example.com")), SLICE_LIT("alice@example.com")));
	assert_false(users_may_create(
		users_find(c, SLICE_LIT("alice@example.com")), SLICE_LIT("alice@made.test")));
	assert_false(users_may_create(
		users_find(c, SLICE_LIT("alice@other.test")), SLICE_LIT("alice@other.test")));
	assert_true(users_may_create(users_find(c, SLICE_LIT("a@made.test")), SLICE_LIT("a@made.test")));
	assert_false(users_may_create(NULL, SLICE_LIT("a@made.test")));
	config_unref(&c);
	buf_deinit(&why);
}

static void test_without_sections_accounts_have_their_own_passwords(void **state)
{
	struct buf why = {0};
	struct config *c = NULL;

	(void)state;
	assert_int_equal(load("", &why, &c), 0);
	assert_null(users_find(c, SLICE_LIT("alice@example.com")));
	config_unref(&c);
	buf_deinit(&why);
}

static void test_what_cannot_work_is_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"users a {\n\tdomains = {x.test}\n}\n", "the section says nothing"},
		{"users a {\n\tdomains = {x.test}\n\tconnector = nowhere\n}\n",
			"there is no section connector nowhere"},
		{CONNECTOR "users a {\n\tconnector = dir\n\tcreate-accounts = yes\n}\n", "set `domains`"},
		{CONNECTOR "users a {\n\tconnector = dir\n\ttype = ldap-password\n}\n", "password-attribute"},
		{CONNECTOR "users a {\n\tconnector = dir\n}\nusers b {\n\tconnector = dir\n}\n",
			"who would be asked"},
		{CONNECTOR "users a {\n\tdomains = {x.test}\n\tconnector = dir\n}\n"
			   "users b {\n\tdomains = {y.test, X.test}\n\tconnector = dir\n}\n",
			"is in users a already"},
		{CONNECTOR "users a {\n\tdomains = {\"x y\"}\n\tconnector = dir\n}\n", "is no domain"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf why = {0};
		struct config *c = NULL;

		assert_int_not_equal(load(rows[i].text, &why, &c), 0);
		if (!strstr(buf_str_view(&why), rows[i].want) || !strstr(buf_str_view(&why), "test.conf:"))
			fail_msg("row %zu: %s", i, buf_str_view(&why));
		buf_deinit(&why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_meets_the_section_of_its_domain),
		cmocka_unit_test(test_without_sections_accounts_have_their_own_passwords),
		cmocka_unit_test(test_what_cannot_work_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
