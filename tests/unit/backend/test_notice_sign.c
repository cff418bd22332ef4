/* Notices signed: by the domain's key, by none, after a reload. Whether the signatures are right is told by another's checker: tests/flow/test_queue.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/notice_sign.h"
#include "common/front/smtp_policy.h"
#include "tests/unit/common/dkim_keys.h"

static const struct conf_section sections[] = {{"", 0, NULL, "x"}, MAIL_AUTH_SECTIONS, {NULL, 0, NULL, NULL}};
static const struct conf_key keys[] = {
	MAIL_AUTH_KEYS, {NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL}};
static const struct conf_key *const tables[] = {keys, NULL};
static const struct conf_table table = {.program = "test",
	.file = "test.conf",
	.sections = sections,
	.keys = tables,
	.check = mail_auth_keys_check};

#define KEY_FILE "/tmp/mt-notice-sign.pem"

static struct buf fields;
static unsigned calls;

static void done(void *arg, struct slice text)
{
	assert_ptr_equal(arg, &fields);
	calls++;
	buf_clear(&fields);
	buf_add_slice(&fields, text);
}

static void set(struct notice_sign *s, const char *text)
{
	struct buf why = {0};
	struct conf *conf;

	if (conf_load_text(&table, "test.conf", slice_str(text), &why, &conf) ||
		notice_sign_set(s, conf, &why))
		fail_msg("%s", buf_str_view(&why));
	conf_free(&conf);
	buf_deinit(&why);
}

static void test_by_the_domains_key(void **state)
{
	static const char message[] = "From: <MAILER-DAEMON@b1.example.test>\r\nSubject: x\r\n\r\nbody\r\n";
	static const struct {
		const char *conf, *want; /* NULL: nothing */
	} rows[] = {
		{"", NULL},
		{"dkim a {\n domains = {other.test}\n selector = s\n key = " KEY_FILE "\n}\n", NULL},
		{"dkim a {\n domains = {example.test}\n selector = s\n key = " KEY_FILE "\n}\n", NULL},
		{"dkim a {\n domains = {example.test}\n selector = s\n subdomains = yes\n key = " KEY_FILE
		 "\n}\n",
			"d=example.test;"},
		{"dkim a {\n domains = {b1.example.test}\n selector = s\n key = " KEY_FILE "\n}\n",
			"d=b1.example.test;"},
	};
	struct loop *loop;
	struct notice_sign *s;
	FILE *f = fopen(KEY_FILE, "we");

	(void)state;
	assert_non_null(f);
	fputs(key_ed25519_pem, f);
	fclose(f);
	assert_int_equal(chmod(KEY_FILE, 0600), 0);
	assert_int_equal(loop_new(&loop), 0);
	s = notice_sign_new(loop);
	notice_sign(s, slice_str(message), done, &fields); /* no keys yet */
	assert_int_equal(calls, 1);
	assert_int_equal(buf_len(&fields), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		set(s, rows[i].conf);
		notice_sign(s, slice_str(message), done, &fields);
		assert_int_equal(calls, i + 2);
		if (!rows[i].want) {
			assert_int_equal(buf_len(&fields), 0);
			continue;
		}
		assert_true(slice_has_prefix(buf_view(&fields), "DKIM-Signature: v=1;"));
		assert_non_null(strstr(buf_str_view(&fields), rows[i].want));
	}
	notice_sign_free(&s);
	loop_free(&loop);
	buf_deinit(&fields);
	unlink(KEY_FILE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_the_domains_key)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
