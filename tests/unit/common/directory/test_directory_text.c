/* Values in filters and DNs, templates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/directory/directory_text.h"
#include "common/directory/ldap_client.h"

#define LIT(s)                                                                                               \
	{                                                                                                    \
		(s), sizeof(s) - 1                                                                           \
	}

static void test_security_06_values_are_escaped(void **state)
{
	static const struct {
		struct slice value;
		const char *want;
	} rows[] = {
		{LIT("alice"), "alice"},
		{LIT("a.b-c_d@example.com"), "a.b-c_d@example.com"},
		{LIT("*"), "\\2a"},
		{LIT("a)(uid=*"), "a\\29\\28uid\\3d\\2a"},
		{LIT("a\\2a"), "a\\5c2a"},
		{LIT("a\0b"), "a\\00b"},
		{LIT("b\xc3\xbc"), "b\\c3\\bc"},
		{LIT("a,ou=x"), "a\\2cou\\3dx"},
		{LIT("#a"), "\\23a"},
		{LIT(" a "), "\\20a\\20"},
		{LIT("a+b\"<>;"), "a\\2bb\\22\\3c\\3e\\3b"},
		{LIT("a\r\nb"), "a\\0d\\0ab"},
		{LIT(""), ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf filter = {0}, dn = {0};

		directory_text_filter_value(&filter, rows[i].value);
		directory_text_dn_value(&dn, rows[i].value);
		assert_string_equal(buf_str_view(&filter), rows[i].want);
		assert_string_equal(buf_str_view(&dn), rows[i].want);
		buf_deinit(&filter);
		buf_deinit(&dn);
	}
}

static void test_filters_are_made(void **state)
{
	static const struct {
		const char *template, *name, *want;
	} rows[] = {
		{"mail=%e", "a@b.c", "(mail=a@b.c)"},
		{"(mail=%e)", "a@b.c", "(mail=a@b.c)"},
		{"(&(uid=%u)(dc=%d)(s=%s))", "a@b.c", "(&(uid=a)(dc=b.c)(s=imap))"},
		{"(uid=%u)", "alice", "(uid=alice)"},
		{"(dc=%d)", "alice", "(dc=)"},
		{"(x=%%u)", "alice", "(x=%u)"},
		{"uid=%u", "*)(uid=*@b.c", "(uid=\\2a\\29\\28uid\\3d\\2a)"},
		{"uid=%u", "%e@b.c", "(uid=\\25e)"},
		{"uid=%u", "a@b@c", "(uid=a@b)"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct directory_text_names names = {
			.name = slice_str(rows[i].name), .service = SLICE_LIT("imap")};
		struct buf b = {0};

		directory_text_filter(&b, slice_str(rows[i].template), &names);
		assert_string_equal(buf_str_view(&b), rows[i].want);
		buf_deinit(&b);
	}
}

static void test_bases_are_made(void **state)
{
	struct directory_text_names names = {.name = SLICE_LIT("a,b@c=d"), .service = SLICE_LIT("imap")};
	struct buf b = {0};

	(void)state;
	directory_text_base(&b, SLICE_LIT("uid=%u,ou=%d,dc=x"), &names);
	assert_string_equal(buf_str_view(&b), "uid=a\\2cb,ou=c\\3dd,dc=x");
	assert_true(ldap_client_is_dn(buf_str_view(&b)));
	buf_deinit(&b);
}

static void test_filters_are_checked(void **state)
{
	static const struct {
		const char *filter;
		bool good;
	} rows[] = {
		{"mail=%e", true},
		{"(mail=%e)", true},
		{"(&(a=b)(|(c=d)(!(e=*))))", true},
		{"(a=b)(c=d)", false},
		{"(a=b", false},
		{"a=b)", false},
		{"(a)", false},
		{"(&)", false},
		{"", false},
		{"(a=%x)", false},
		{"(a=%", false},
		{"(a=b(c=d))", false},
		{"&(a=b)", false},
		{"()", false},
		{"(=b)", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *reason = NULL;
		int got = directory_text_check_filter(slice_str(rows[i].filter), &reason);

		if ((got == 0) != rows[i].good)
			fail_msg("%s: got %d", rows[i].filter, got);
	}
}

static void test_uris_are_checked(void **state)
{
	static const struct {
		const char *uri;
		bool good, tls;
	} rows[] = {
		{"ldap://localhost", true, false},
		{"ldap://127.0.0.1:3890", true, false},
		{"ldaps://d.example", true, true},
		{"ldap://[::1]:389/", true, false},
		{"ldap://", false, false},
		{"http://x", false, false},
		{"ldap://x/dc=y", false, false},
		{"ldapi://%2Frun", false, false},
		{"x", false, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *reason;
		bool tls = false;
		int got = ldap_client_check_uri(rows[i].uri, &tls, &reason);

		if ((got == 0) != rows[i].good || tls != rows[i].tls)
			fail_msg("%s: got %d", rows[i].uri, got);
	}
	assert_true(ldap_client_is_dn("cn=a,dc=b"));
	assert_false(ldap_client_is_dn("nonsense"));
}

/* As Samba's domain controller said it, and what is not it. */
static void test_refusals_have_words(void **state)
{
	static const struct {
		const char *said, *want;
		bool is_password;
	} rows[] = {
		{"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 52e, v1db1",
			"wrong name or password", true},
		{"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 533, v1db1",
			"the account is disabled", false},
		{"x, data 775, v1", "the account is locked", false},
		{"x, data 701, v1", "the account has expired", false},
		{"x, data 773", "the password must be changed first", false},
		{"x, data 999, v1", NULL, false},
		{"x, data ", NULL, false},
		{"Invalid credentials", NULL, false},
		{"", NULL, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_password = false;
		const char *got = ldap_client_refusal(rows[i].said, &is_password);

		assert_int_equal(!got, !rows[i].want);
		if (got)
			assert_string_equal(got, rows[i].want);
		assert_int_equal(is_password, rows[i].is_password);
	}
}

static void test_address_filters_are_made_of_attributes(void **state)
{
	static const char *const aliases[] = {"proxyAddresses", "userPrincipalName", NULL};
	const char *reason;
	struct buf b = {0};

	(void)state;
	directory_text_address_filter(&b, "(a=b)", "mail", aliases);
	assert_string_equal(
		buf_str_view(&b), "(&(a=b)(|(mail=%e)(proxyAddresses=smtp:%e)(userPrincipalName=%e)))");
	assert_int_equal(directory_text_check_filter(buf_view(&b), &reason), 0);
	buf_clear(&b);
	directory_text_address_filter(&b, "", "mail", NULL);
	assert_string_equal(buf_str_view(&b), "(&(|(mail=%e)))");
	assert_int_equal(directory_text_check_filter(buf_view(&b), &reason), 0);
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_security_06_values_are_escaped),
		cmocka_unit_test(test_filters_are_made),
		cmocka_unit_test(test_bases_are_made),
		cmocka_unit_test(test_filters_are_checked),
		cmocka_unit_test(test_uris_are_checked),
		cmocka_unit_test(test_refusals_have_words),
		cmocka_unit_test(test_address_filters_are_made_of_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
