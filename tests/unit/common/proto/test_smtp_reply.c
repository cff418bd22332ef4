#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/proto/smtp_reply.h"
#include "tests/unit/feed.h"

static void test_parse(void **state)
{
	static const struct {
		const char *in;
		ssize_t want;
		unsigned code;
		const char *enhanced, *text;
	} rows[] = {
		{"250 2.1.5 fine\r\n", 16, 250, "2.1.5", "fine"},
		{"250-a\r\n250-b\r\n250 c\r\nX", 21, 250, "", "c"},
		{"354\r\n", 5, 354, "", ""},
		{"550 5.1.1\r\n", 11, 550, "5.1.1", ""},
		{"550 2.1.1 odd\r\n", 15, 550, "", "2.1.1 odd"},
		{"250 ok\n", 7, 250, "", "ok"},
		{"250-a\r\n", 0, 0, "", ""},
		{"250 a", 0, 0, "", ""},
		{"250-a\r\n251 b\r\n", ERR_SYNTAX, 0, "", ""},
		{"25x a\r\n", ERR_SYNTAX, 0, "", ""},
		{"100 a\r\n", ERR_SYNTAX, 0, "", ""},
		{"250=a\r\n", ERR_SYNTAX, 0, "", ""},
		{"\r\n", ERR_SYNTAX, 0, "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		struct smtp_reply r;
		ssize_t n = smtp_reply_parse(page.text, &r);

		assert_int_equal(n, rows[i].want);
		if (n > 0) {
			assert_int_equal(r.code, rows[i].code);
			assert_true(slice_is_str(r.enhanced, rows[i].enhanced));
			assert_true(slice_is_str(r.text, rows[i].text));
			assert_int_equal(r.lines.len, n);
			for (ssize_t cut = 0; cut < n; cut++)
				assert_int_equal(
					smtp_reply_parse(slice_sub(page.text, 0, (size_t)cut), &r), 0);
		}
		feed_page_free(&page);
	}
}

static void test_limit(void **state)
{
	struct buf b = {0};
	struct smtp_reply r;

	(void)state;
	while (buf_len(&b) < SMTP_REPLY_MOST)
		buf_add_str(&b, "250-x\r\n");
	assert_int_equal(smtp_reply_parse(buf_view(&b), &r), ERR_TOO_BIG);
	buf_deinit(&b);
}

static void test_words(void **state)
{
	struct smtp_words w;

	(void)state;
	smtp_reply_words(
		SLICE_LIT("250-STARTTLS.example\r\n250-PIPELINING\r\n250-size 1000\r\n250-AUTH=PLAIN LOGIN "
			  "X SCRAM-SHA-256-PLUS scram-sha-256\r\n"
			  "250-XCLIENT ADDR HELO SESSION\r\n250-8bitmime\r\n250-XMARK\r\n250 SMTPUTF8\r\n"),
		&w);
	assert_true(w.pipelining && w.size && w.size_most == 1000 && w.eightbitmime && w.xmark && w.smtputf8);
	assert_false(w.starttls || w.chunking || w.enhanced);
	assert_int_equal(
		w.auth, SMTP_REPLY_AUTH_PLAIN | SMTP_REPLY_AUTH_LOGIN | SMTP_REPLY_AUTH_SCRAM_SHA_256);
	assert_int_equal(w.xclient, SMTP_XCLIENT_ADDR | SMTP_XCLIENT_HELO | SMTP_XCLIENT_SESSION);
	smtp_reply_words(SLICE_LIT(""), &w);
	assert_false(w.pipelining);
}

/* security 04: no text of a peer makes a second line. */
static void test_limits(void **state)
{
	static const struct {
		const char *lines;
		uint32_t rcpt, mail;
	} rows[] = {{"250-x\r\n250 LIMITS RCPTMAX=20 MAILMAX=5\r\n", 20, 5},
		{"250-x\r\n250 LIMITS MAILMAX=7 RCPTDOMAINMAX=1\r\n", 0, 7},
		{"250-x\r\n250 LIMITS RCPTMAX=0 MAILMAX=-1\r\n", 0, 0},
		{"250-x\r\n250 LIMITS RCPTMAX MAILMAX=99999999999\r\n", 0, 0},
		{"250-x\r\n250 LIMITS\r\n", 0, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_words words;

		smtp_reply_words(slice_str(rows[i].lines), &words);
		assert_int_equal(words.rcpt_most, rows[i].rcpt);
		assert_int_equal(words.mail_most, rows[i].mail);
	}
}

static void test_text(void **state)
{
	static const struct {
		const char *lines, *want;
		size_t size;
	} rows[] = {{"250 2.0.0 ok\r\n", "ok", 99}, {"250 ok\r\n", "ok", 99}, {"250\r\n", "", 99},
		{"", "", 99}, {"451-4.7.1 come\r\n451-4.7.1\r\n451 4.7.1 later\r\n", "come later", 99},
		{"550 5.1.1 a\tb\x01\x7f\xff\r\n", "a?b???", 99}, {"550 2.0.0 odd\n", "2.0.0 odd", 99},
		{"550 abcdef\r\n", "abc", 4}, {"550 ab\xc3\xa4\r\n", "ab", 4},
		{"550 ab\xc3\xa4\r\n", "ab\xc3\xa4", 5}, {"550 x\r\n", "", 1}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char out[100];

		smtp_reply_text(slice_str(rows[i].lines), out, rows[i].size);
		assert_string_equal(out, rows[i].want);
	}
}

static void test_write(void **state)
{
	struct buf b = {0};
	char big[SMTP_REPLY_TEXT_MOST + 10];

	(void)state;
	smtp_reply_write_more(&b, 250, SLICE_LIT(""), SLICE_LIT("a"));
	smtp_reply_write(&b, 550, SLICE_LIT("5.1.1"), SLICE_LIT("no\r\n250 ok\x7f"));
	assert_string_equal(buf_str_view(&b), "250-a\r\n550 5.1.1 no??250 ok?\r\n");
	buf_clear(&b);
	memset(big, 'x', sizeof(big));
	memcpy(big + SMTP_REPLY_TEXT_MOST - 1, "\xc3\xa4", 2);
	smtp_reply_write(&b, 250, SLICE_LIT(""), slice_of(big, sizeof(big)));
	assert_int_equal(buf_len(&b), 4 + SMTP_REPLY_TEXT_MOST - 1 + 2);
	buf_deinit(&b);
	assert_true(smtp_reply_is_enhanced(SLICE_LIT("4.2.2"), 452));
	assert_false(smtp_reply_is_enhanced(SLICE_LIT("4.2.2"), 552));
	assert_false(smtp_reply_is_enhanced(SLICE_LIT("4.2.2 x"), 452));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
