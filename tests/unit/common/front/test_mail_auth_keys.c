/* Keys that sign: out of a configuration, with the faults that it may have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/front/smtp_policy.h"
#include "tests/unit/common/dkim_keys.h"

static const struct conf_section sections[] = {
	{"", 0, NULL, "x"},
	MAIL_AUTH_SECTIONS,
	{NULL, 0, NULL, NULL},
};
static const struct conf_key keys[] = {
	MAIL_AUTH_KEYS,
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};
static const struct conf_key *const tables[] = {keys, NULL};
static const struct conf_table table = {.program = "test",
	.file = "test.conf",
	.sections = sections,
	.keys = tables,
	.check = mail_auth_keys_check};

static char folder[] = "/tmp/mt-keys-XXXXXX";
static char good[64], ed[64], other[64], open_to_all[64], empty[64];

static void write_file(char *path, const char *name, const char *text, mode_t mode)
{
	FILE *f;

	snprintf(path, 64, "%s/%s", folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	write_file(good, "rsa.pem", key_rsa_pem, 0600);
	write_file(ed, "ed.pem", key_ed25519_pem, 0400);
	write_file(other, "ec.pem", key_ec_pem, 0600);
	write_file(open_to_all, "open.pem", key_rsa_pem, 0644);
	write_file(empty, "empty.pem", "", 0600);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(good), unlink(ed), unlink(other), unlink(open_to_all), unlink(empty);
	return rmdir(folder);
}

/* What the check says; "" nothing. Caller frees. */
static char *fault_of(const char *text)
{
	struct buf why = {0};
	struct conf *conf = NULL;
	int err = conf_load_text(&table, "test.conf", slice_str(text), &why, &conf);
	char *out = slice_copy_str(buf_view(&why));

	assert_true(!err == !*out);
	conf_free(&conf);
	buf_deinit(&why);
	return out;
}

static void test_faults_are_told(void **state)
{
	static const struct {
		const char *more, *key, *want; /* more: lines of a section "dkim a"; key: whose file */
		const char *top;
	} rows[] = {
		{"domains = {example.com} selector = s", good, NULL, ""},
		{"domains = {example.com} selector = s", ed, NULL, ""},
		{"domains = {B\xc3\x9c"
		 "cher.example} selector = a.b",
			good, NULL, ""},
		{"domains = {example.com} selector = s sign-from = \"2026-12-01\"", good, NULL,
			"mail-auth { arc-seal = example.com }\n"},
		{"domains = {example.com} selector = s", other, "neither RSA nor Ed25519", ""},
		{"domains = {example.com} selector = s", empty, "no private key", ""},
		{"domains = {example.com} selector = s", open_to_all, "0600", ""},
		{"domains = {example.com} selector = s", "/nowhere/x.pem", "x.pem", ""},
		{"domains = {} selector = s", good, "must name a domain", ""},
		{"domains = {\"a b\"} selector = s", good, "is no domain", ""},
		{"domains = {\"a..b\"} selector = s", good, "is no domain", ""},
		{"domains = {example.com} selector = \"a/b\"", good, "is no selector", ""},
		{"domains = {example.com} selector = s sign-from = soon", good, "is no time", ""},
		{"domains = {example.com} selector = s", good, "no dkim section has a key",
			"mail-auth { arc-seal = example.org }\n"},
		{"domains = {example.com} selector = s", good, "needs arc in verify",
			"mail-auth { arc-seal = example.com verify = {dkim} }\n"},
		{"domains = {example.com} selector = s", good, "dmarc needs dkim",
			"mail-auth { verify = {dmarc} }\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf text = {0};
		char *got;

		buf_printf(&text, "%sdkim a { %s key = \"%s\" }\n", rows[i].top, rows[i].more, rows[i].key);
		got = fault_of(buf_str_view(&text));
		if (rows[i].want ? !strstr(got, rows[i].want) : *got != 0)
			fail_msg("row %zu: %s", i, got);
		free(got);
		buf_deinit(&text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults_are_told),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
