#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/proto/smtp_parse.h"
#include "tests/unit/feed.h"

static void test_command(void **state)
{
	static const struct {
		const char *in;
		ssize_t want;
		enum smtp_verb verb;
		const char *rest;
		size_t consumed;
	} rows[] = {
		{"mail FROM:<a@b> \r\nX", 18, SMTP_MAIL, "FROM:<a@b>", 0},
		{"QUIT\r\n", 6, SMTP_QUIT, "", 0},
		{"FOO bar\r\n", 9, SMTP_UNKNOWN, "bar", 0},
		{"\r\n", 2, SMTP_UNKNOWN, "", 0},
		{"QUIT", 0, 0, "", 0},
		{"QUIT\n", ERR_SYNTAX, 0, "", 5},
		{"QU\rIT\r\n", ERR_SYNTAX, 0, "", 7},
		{"NOOP a\x01\r\n", ERR_SYNTAX, 0, "", 9},
	};
	struct smtp_command c;
	char big[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		size_t consumed = 0;

		assert_int_equal(smtp_parse_command(page.text, 512, &c, &consumed), rows[i].want);
		assert_int_equal(consumed, rows[i].consumed);
		if (rows[i].want > 0) {
			assert_int_equal(c.verb, rows[i].verb);
			assert_true(slice_is_str(c.rest, rows[i].rest));
		}
		feed_page_free(&page);
	}
	memset(big, 'x', sizeof(big));
	assert_int_equal(smtp_parse_command(slice_of(big, 128), 128, &c, NULL), ERR_TOO_BIG);
	assert_int_equal(smtp_parse_command(slice_of(big, 127), 128, &c, NULL), 0);
}

static void test_path(void **state)
{
	static const struct {
		const char *in;
		ssize_t want;
		const char *local, *domain, *address;
		bool null, utf8, literal;
	} rows[] = {
		{"<a@b.c>", 7, "a", "b.c", "a@b.c", false, false, false},
		{"<>", 2, "", "", "", true, false, false},
		{"<\"a b\\\"\"@c>", 11, "a b\"", "c", "\"a b\\\"\"@c", false, false, false},
		{"<\"ab\"@c>", 8, "ab", "c", "ab@c", false, false, false},
		{"<@x.y,@z:a@b>", 13, "a", "b", "a@b", false, false, false},
		{"<a@[192.0.2.1]>", 15, "a", "[192.0.2.1]", "a@[192.0.2.1]", false, false, true},
		{"<a@[IPv6:2001:db8::1]> SIZE", 22, "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]", false,
			false, true},
		{"<Postmaster>", 12, "Postmaster", "", "Postmaster", false, false, false},
		{"<j\xc3\xbcrg@b\xc3\xbc"
		 "cher.example>",
			23, "j\xc3\xbcrg",
			"b\xc3\xbc"
			"cher.example",
			"j\xc3\xbcrg@b\xc3\xbc"
			"cher.example",
			false, true, false},
		{"<a..b@c>", 8, "a..b", "c", "\"a..b\"@c", false, false, false},
		{"<a+b=c@d>", 9, "a+b=c", "d", "a+b=c@d", false, false, false},
		/* refused */
		{"a@b", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<@b>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<\"\"@b>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a@b", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a@>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a@.b>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a@b..c>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a b@c>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a@b c>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<\"a\r\n\"@b>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a@[1\r2]>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a\xff@b>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<a\xc3@b>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<\"a@b>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<\"a\\", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"<@a:>", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
		{"", ERR_SYNTAX, NULL, NULL, NULL, false, false, false},
	};
	struct arena a;

	(void)state;
	arena_init(&a, 4096);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		struct smtp_path p;
		ssize_t n = smtp_parse_path(&a, page.text, &p);

		if (n != rows[i].want)
			fail_msg("%s: got %zd want %zd", rows[i].in, n, rows[i].want);
		if (n > 0) {
			assert_true(slice_is_str(p.local, rows[i].local));
			assert_true(slice_is_str(p.domain, rows[i].domain));
			assert_true(slice_is_str(p.address, rows[i].address));
			assert_int_equal(p.is_null, rows[i].null);
			assert_int_equal(p.is_utf8, rows[i].utf8);
			assert_int_equal(p.is_literal, rows[i].literal);
		}
		feed_page_free(&page);
		arena_reset(&a);
	}
	arena_deinit(&a);
}

static void test_path_limits(void **state)
{
	struct arena a;
	struct smtp_path p;
	char text[1200];

	(void)state;
	arena_init(&a, 8192);
	memset(text, 'a', sizeof(text));
	text[0] = '<';
	memcpy(text + 1 + SMTP_LOCAL_MOST, "@b>", 3);
	assert_true(smtp_parse_path(&a, slice_of(text, SMTP_LOCAL_MOST + 4), &p) > 0);
	text[1 + SMTP_LOCAL_MOST] = 'a';
	memcpy(text + 2 + SMTP_LOCAL_MOST, "@b>", 3);
	assert_int_equal(smtp_parse_path(&a, slice_of(text, SMTP_LOCAL_MOST + 5), &p), ERR_TOO_BIG);
	memset(text + 1, 'a', sizeof(text) - 1);
	assert_int_equal(smtp_parse_path(&a, slice_of(text, sizeof(text)), &p), ERR_TOO_BIG);
	arena_deinit(&a);
}

static void test_mail(void **state)
{
	const unsigned all = SMTP_PARAMETER_SIZE | SMTP_PARAMETER_BODY | SMTP_PARAMETER_SMTPUTF8 |
			     SMTP_PARAMETER_AUTH | SMTP_PARAMETER_XMARK;
	static const struct {
		const char *in;
		unsigned illegal;
		int want;
	} rows[] = {
		{"FROM:<a@b>", 0, 0},
		{"from: <> size=10 body=8bitmime smtputf8 auth=<> xmark=12", 0, 0},
		{"FROM:<a@b> SIZE=99999999999999999999", 0, 0},
		{"FROM:<a@b> SIZE=", 0, ERR_SYNTAX},
		{"FROM:<a@b> SIZE=-1", 0, ERR_SYNTAX},
		{"FROM:<a@b> SIZE=1 SIZE=1", 0, ERR_SYNTAX},
		{"FROM:<a@b> BODY=BINARYMIME", 0, ERR_UNSUPPORTED},
		{"FROM:<a@b> SMTPUTF8=1", 0, ERR_SYNTAX},
		{"FROM:<a@b> FOO=1", 0, ERR_UNSUPPORTED},
		{"FROM:<a@b> XMARK=1", SMTP_PARAMETER_XMARK, ERR_UNSUPPORTED},
		{"FROM:<a@b> XMARK=x", 0, ERR_SYNTAX},
		{"FROM:<a@b> XMARK=1:ab", 0, ERR_SYNTAX},
		{"FROM:<a@b>SIZE=1", 0, ERR_SYNTAX},
		{"FROM:<a@b> AUTH=a+0Ab", 0, ERR_SYNTAX},
		{"TO:<a@b>", 0, ERR_SYNTAX},
		{"FROM a@b", 0, ERR_SYNTAX},
	};
	struct arena a;
	struct smtp_mail m;

	(void)state;
	arena_init(&a, 8192);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int got = smtp_parse_mail(&a, slice_str(rows[i].in), all & ~rows[i].illegal, &m);

		if (got != rows[i].want)
			fail_msg("%s: got %d want %d", rows[i].in, got, rows[i].want);
	}
	assert_int_equal(smtp_parse_mail(&a,
				 slice_str("FROM:<a@b> SIZE=42 BODY=7BIT AUTH=x+40y SMTPUTF8 "
					   "XMARK=7:000102030405060708090a0b0c0d0e0f101112131415161718191a1b"
					   "1c1d1efF"),
				 all, &m),
		0);
	assert_int_equal(m.size, 42);
	assert_int_equal(m.body, SMTP_BODY_7BIT);
	assert_true(m.is_utf8 && slice_is_str(m.auth, "x@y") && m.mark.is_set && m.mark.has_digest);
	assert_int_equal(m.mark.prefix, 7);
	assert_int_equal(m.mark.digest[30], 0x1e);
	assert_int_equal(m.mark.digest[31], 0xff);
	arena_deinit(&a);
}

static bool mail_with_failing_arena(void *arg)
{
	struct arena a;
	struct smtp_mail m;
	int err;

	(void)arg;
	arena_init(&a, 8192);
	err = smtp_parse_mail(&a, slice_str("FROM:<a@b> AUTH=x+40y"), SMTP_PARAMETER_AUTH, &m);
	arena_deinit(&a);
	assert_true(err == 0 || err == ERR_TOO_BIG);
	return err == 0;
}

static void test_failing_arena(void **state)
{
	(void)state;
	assert_true(feed_failing_arena(mail_with_failing_arena, NULL) > 3);
}

/* RFC 3461: what is not to the letter is refused; a newline in ORCPT above all (CVE-2020-28026). */
static void test_security_04_dsn_parameters(void **state)
{
	static const struct {
		const char *rcpt;
		int want;
		const char *written;
	} rows[] = {
		{"TO:<a@b> NOTIFY=NEVER", 0, " NOTIFY=NEVER"},
		{"TO:<a@b> notify=delay,success ORCPT=rfc822;x+2By@z", 0,
			" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z"},
		{"TO:<a@b> ORCPT=rfc822;a+0Ab", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;a+0D+0Ab", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;a+00", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;a+7F", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;a+80", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;a+2b", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;a+2", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;a=b", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=;a", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=a", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=rfc822;\xc3\xbc", ERR_SYNTAX, ""},
		{"TO:<a@b> ORCPT=utf-8;\xc3\xbc", 0, " ORCPT=utf-8;\xc3\xbc"},
		{"TO:<a@b> ORCPT=utf-8;\xc3", ERR_SYNTAX, ""},
		{"TO:<a@b> NOTIFY=NEVER,DELAY", ERR_SYNTAX, ""},
		{"TO:<a@b> NOTIFY=DELAY,DELAY", ERR_SYNTAX, ""},
		{"TO:<a@b> NOTIFY=DELAY,", ERR_SYNTAX, ""},
		{"TO:<a@b> NOTIFY=", ERR_SYNTAX, ""},
		{"TO:<a@b> NOTIFY=X", ERR_SYNTAX, ""},
		{"TO:<a@b> NOTIFY=DELAY NOTIFY=DELAY", ERR_SYNTAX, ""},
		{"TO:<a@b> RET=FULL", ERR_UNSUPPORTED, ""},
	};
	static const struct {
		const char *mail;
		int want;
		const char *written;
	} mails[] = {
		{"FROM:<> RET=full ENVID=a+3Db", 0, " RET=FULL ENVID=a+3Db"},
		{"FROM:<> RET=HDRS REQUIRETLS", 0, " RET=HDRS"},
		{"FROM:<> RET=X", ERR_SYNTAX, ""},
		{"FROM:<> RET", ERR_SYNTAX, ""},
		{"FROM:<> ENVID=", ERR_SYNTAX, ""},
		{"FROM:<> ENVID=a+0A", ERR_SYNTAX, ""},
		{"FROM:<> ENVID=\xc3\xbc", ERR_SYNTAX, ""},
		{"FROM:<> REQUIRETLS=1", ERR_SYNTAX, ""},
		{"FROM:<> ENVID=a ENVID=a", ERR_SYNTAX, ""},
	};
	const unsigned legal = SMTP_PARAMETER_DSN | SMTP_PARAMETER_SMTPUTF8 | SMTP_PARAMETER_REQUIRETLS;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_rcpt rcpt = {0};
		struct buf out = {0};
		struct arena a;

		arena_init(&a, 8192);
		assert_int_equal(smtp_parse_rcpt(&a, slice_str(rows[i].rcpt), legal, &rcpt), rows[i].want);
		smtp_parse_write_rcpt_dsn(&out, rcpt.notify, rcpt.orcpt);
		assert_string_equal(buf_str_view(&out), rows[i].written);
		buf_deinit(&out);
		arena_deinit(&a);
	}
	for (size_t i = 0; i < ARRAY_LEN(mails); i++) {
		struct smtp_mail mail = {0};
		struct buf out = {0};
		struct arena a;

		arena_init(&a, 8192);
		assert_int_equal(smtp_parse_mail(&a, slice_str(mails[i].mail), legal, &mail), mails[i].want);
		smtp_parse_write_mail_dsn(&out, &mail);
		assert_string_equal(buf_str_view(&out), mails[i].written);
		buf_deinit(&out);
		arena_deinit(&a);
	}
}

static void test_rcpt_bdat_greeting(void **state)
{
	struct arena a;
	struct smtp_rcpt p;
	uint64_t size;
	bool last;

	(void)state;
	arena_init(&a, 8192);
	assert_int_equal(smtp_parse_rcpt(&a, slice_str("TO:<a@b>"), 0, &p), 0);
	assert_int_equal(smtp_parse_rcpt(&a, slice_str("TO:<>"), 0, &p), ERR_SYNTAX);
	assert_int_equal(smtp_parse_rcpt(&a, slice_str("TO:<a@b> ORCPT=rfc822;a"), 0, &p), ERR_UNSUPPORTED);
	assert_int_equal(smtp_parse_rcpt(&a, slice_str("TO:<a@b>\r\n"), 0, &p), ERR_SYNTAX);
	assert_int_equal(smtp_parse_bdat(slice_str("12"), &size, &last), 0);
	assert_true(size == 12 && !last);
	assert_int_equal(smtp_parse_bdat(slice_str("0 last"), &size, &last), 0);
	assert_true(size == 0 && last);
	assert_int_equal(smtp_parse_bdat(slice_str("12 FIRST"), &size, &last), ERR_SYNTAX);
	assert_int_equal(smtp_parse_bdat(slice_str("12 LAST x"), &size, &last), ERR_SYNTAX);
	assert_int_equal(smtp_parse_bdat(slice_str("99999999999999999999999"), &size, &last), ERR_SYNTAX);
	assert_int_equal(smtp_parse_bdat(slice_str(""), &size, &last), ERR_SYNTAX);
	assert_true(smtp_parse_is_greeting(slice_str("mx.example.org")));
	assert_true(smtp_parse_is_greeting(slice_str("[192.0.2.1]")));
	assert_false(smtp_parse_is_greeting(slice_str("a b")));
	assert_false(smtp_parse_is_greeting(slice_str("a)")));
	assert_false(smtp_parse_is_greeting(slice_str("")));
	assert_false(smtp_parse_is_greeting(slice_str("\xff")));
	arena_deinit(&a);
}

static void test_xclient(void **state)
{
	struct arena a;
	struct smtp_xclient x;

	(void)state;
	arena_init(&a, 8192);
	assert_int_equal(
		smtp_parse_xclient(&a,
			slice_str("ADDR=IPV6:::1 PORT=25 HELO=a+2Bb LOGIN=[UNAVAILABLE] SESSION=abc"), &x),
		0);
	assert_true(slice_is_str(x.addr, "::1") && x.port == 25 && slice_is_str(x.helo, "a+b") &&
		    !x.login.len && slice_is_str(x.session, "abc"));
	assert_int_equal(smtp_parse_xclient(&a, slice_str("TTL=4"), &x), 0);
	assert_int_equal(x.ttl, 4);
	assert_int_equal(smtp_parse_xclient(&a, slice_str("TTL=-1"), &x), ERR_SYNTAX);
	assert_int_equal(smtp_parse_xclient(&a, slice_str("ADDR"), &x), ERR_SYNTAX);
	assert_int_equal(smtp_parse_xclient(&a, slice_str(""), &x), ERR_SYNTAX);
	assert_int_equal(smtp_parse_xclient(&a, slice_str("PORT=70000"), &x), ERR_SYNTAX);
	assert_int_equal(smtp_parse_xclient(&a, slice_str("FOO=1"), &x), ERR_SYNTAX);
	/* security 04: what decodes to a line end must not come through */
	assert_int_equal(smtp_parse_xclient(&a, slice_str("HELO=a+0D+0Ab"), &x), ERR_SYNTAX);
	assert_int_equal(smtp_parse_xclient(&a, slice_str("LOGIN=a+00"), &x), ERR_SYNTAX);
	assert_int_equal(smtp_parse_xclient(&a, slice_str("HELO=+FF"), &x), ERR_SYNTAX);
	arena_deinit(&a);
}

/* The word between the tiers: what is written is read, and nothing that is not. */
static void test_xmark_and_xgrey(void **state)
{
	static const char digest[] = "00ff112233445566778899aabbccddeeff00112233445566778899aabbccddee";
	static const struct {
		const char *text;
		int want;
		uint64_t prefix;
		bool has_digest;
		const char *hold; /* NULL: not said */
	} rows[] = {
		{"0", 0, 0, false, NULL},
		{"123 HOLD=looks+20bad", 0, 123, false, "looks bad"},
		{"5 hold=", 0, 5, false, ""},
		{"7:00ff112233445566778899aabbccddeeff00112233445566778899aabbccddee HOLD=x", 0, 7, true,
			"x"},
		{"", ERR_SYNTAX, 0, false, NULL},
		{"x", ERR_SYNTAX, 0, false, NULL},
		{"-1", ERR_SYNTAX, 0, false, NULL},
		{"1:00", ERR_SYNTAX, 0, false, NULL},
		{"1 HELD=x", ERR_SYNTAX, 0, false, NULL},
		{"1 HOLD=x y", ERR_SYNTAX, 0, false, NULL},
		/* security class 4 */
		{"1 HOLD=a+0D+0ARSET", ERR_SYNTAX, 0, false, NULL},
		{"1 HOLD=a+FF", ERR_SYNTAX, 0, false, NULL},
	};
	struct smtp_mark mark = {.prefix = 9, .has_digest = true};
	struct slice hold;
	struct smtp_rcpt rcpt;
	struct buf out = {0};
	struct arena a;

	(void)state;
	arena_init(&a, 10000);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(smtp_parse_xmark(&a, slice_str(rows[i].text), &mark, &hold), rows[i].want);
		if (rows[i].want)
			continue;
		assert_true(mark.is_set);
		assert_int_equal(mark.prefix, rows[i].prefix);
		assert_int_equal(mark.has_digest, rows[i].has_digest);
		assert_int_equal(hold.p != NULL, rows[i].hold != NULL);
		if (rows[i].hold)
			assert_true(slice_is_str(hold, rows[i].hold));
	}
	memset(mark.digest, 0, sizeof(mark.digest));
	for (size_t i = 0; i < sizeof(mark.digest); i++)
		mark.digest[i] = (uint8_t)strtoul((char[]){digest[2 * i], digest[2 * i + 1], 0}, NULL, 16);
	mark.prefix = 7;
	mark.has_digest = true;
	smtp_parse_write_xmark(&out, &mark, SLICE_LIT("a\r\nb"));
	assert_string_equal(buf_str_view(&out),
		"XMARK 7:00ff112233445566778899aabbccddeeff00112233445566778899aabbccddee HOLD=a+0D+0Ab\r\n");
	buf_deinit(&out);
	assert_int_equal(
		smtp_parse_rcpt(&a, SLICE_LIT("TO:<a@b> XGREY=192.0.2.0/24"), SMTP_PARAMETER_XGREY, &rcpt),
		0);
	assert_true(slice_is_str(rcpt.grey, "192.0.2.0/24"));
	assert_int_equal(smtp_parse_rcpt(&a, SLICE_LIT("TO:<a@b> XGREY=2001:db8:0:1::/64"),
				 SMTP_PARAMETER_XGREY, &rcpt),
		0);
	assert_int_equal(smtp_parse_rcpt(&a, SLICE_LIT("TO:<a@b> XGREY=a+20b"), SMTP_PARAMETER_XGREY, &rcpt),
		ERR_SYNTAX);
	assert_int_equal(
		smtp_parse_rcpt(&a, SLICE_LIT("TO:<a@b> XGREY="), SMTP_PARAMETER_XGREY, &rcpt), ERR_SYNTAX);
	assert_int_equal(smtp_parse_rcpt(&a, SLICE_LIT("TO:<a@b> XGREY=unix"), 0, &rcpt), ERR_UNSUPPORTED);
	arena_deinit(&a);
}

static void test_xtext_round_trip(void **state)
{
	char all[256];
	struct arena a;
	struct buf out = {0};
	struct slice back;

	(void)state;
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	arena_init(&a, 8192);
	smtp_parse_write_xtext(&out, slice_of(all, 256));
	assert_false(slice_has_control(buf_view(&out)));
	assert_int_equal(smtp_parse_xtext(&a, buf_view(&out), &back), 0);
	assert_true(slice_is_equal(back, slice_of(all, 256)));
	buf_deinit(&out);
	arena_deinit(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_path_limits),
		cmocka_unit_test(test_mail),
		cmocka_unit_test(test_failing_arena),
		cmocka_unit_test(test_security_04_dsn_parameters),
		cmocka_unit_test(test_rcpt_bdat_greeting),
		cmocka_unit_test(test_xmark_and_xgrey),
		cmocka_unit_test(test_xclient),
		cmocka_unit_test(test_xtext_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
