/* Principals and users; what is no ticket. Real tickets are in tests/flow/test_mechanisms.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/auth/gssapi.h"

static void test_principals_become_users(void **state)
{
	static const char *const realms[] = {"CORP.EXAMPLE=corp.example", "EU.CORP.EXAMPLE=eu.example", NULL};
	static const struct {
		const char *principal, *user; /* NULL: refused */
	} rows[] = {
		{"alice@CORP.EXAMPLE", "alice@corp.example"},
		{"alice@EU.CORP.EXAMPLE", "alice@eu.example"},
		{"Alice@CORP.EXAMPLE", "Alice@corp.example"},
		{"alice@corp.example", NULL}, /* realms are written as they are */
		{"alice@OTHER.EXAMPLE", NULL},
		{"alice@CORP.EXAMPLE2", NULL},
		{"alice", NULL},
		{"@CORP.EXAMPLE", NULL},
		{"alice@", NULL},
		{"imap/mail.corp.example@CORP.EXAMPLE", NULL},
		{"alice/admin@CORP.EXAMPLE", NULL},
		{"alice\\@OTHER.EXAMPLE@CORP.EXAMPLE", NULL},
		{"alice@OTHER.EXAMPLE@CORP.EXAMPLE", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf user = {0};
		int got = gssapi_user(slice_str(rows[i].principal), realms, &user);

		if (got != (rows[i].user ? 0 : ERR_DENIED))
			fail_msg("%s: %d", rows[i].principal, got);
		if (!got)
			assert_string_equal(buf_str_view(&user), rows[i].user);
		assert_int_equal(gssapi_user(slice_str(rows[i].principal), NULL, &user), ERR_DENIED);
		buf_deinit(&user);
	}
}

static void test_without_a_keytab_it_is_not_now(void **state)
{
	struct gssapi *g = gssapi_new("imap", "mail.corp.example", "/nonexistent/keytab");
	struct buf reply = {0}, why = {0};

	(void)state;
	assert_int_equal(gssapi_step(g, false, slice_of(NULL, 0), &reply, &why), ERR_MORE);
	assert_int_equal(buf_len(&reply), 0);
	assert_int_equal(gssapi_step(g, true, SLICE_LIT("no ticket"), &reply, &why), ERR_NOT_NOW);
	assert_non_null(strstr(buf_str_view(&why), "keytab"));
	/* Ended is ended. */
	assert_int_equal(gssapi_step(g, true, SLICE_LIT("no ticket"), &reply, &why), ERR_SYNTAX);
	assert_int_equal(gssapi_principal(g).len, 0);
	gssapi_free(&g);
	gssapi_free(&g);
	buf_deinit(&reply);
	buf_deinit(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_principals_become_users),
		cmocka_unit_test(test_without_a_keytab_it_is_not_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
