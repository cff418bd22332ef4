/* The text of a warning, and what is refused as a template. That they come once: backend/store, and the flow test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend/delivery/quota_warning.h"

static void test_templates_are_checked(void **state)
{
	static const struct {
		const char *text, *why; /* NULL: good */
		unsigned line;
	} rows[] = {
		{"Subject: x\n\nbody ${user}\n", NULL, 0},
		{"Subject: x\r\n\r\nbody\r\n", NULL, 0},
		{"subject: x\n\nbody", NULL, 0},
		{"", "Subject", 1},
		{"body\n", "Subject", 1},
		{"Subject: x\nbody\n", "empty line", 2},
		{"Subject: x\nBcc: everybody@example.com\n\nbody\n", "empty line", 2},
		{"Subject: x\n\n", "no text", 3},
		{"Subject: x", "no text", 1},
		{"Subject: x\n\n\nbody ${nonsense}\n", "${word}", 4},
		{"Subject: ${user\n\nbody\n", "${word}", 1},
		{"Subject: x\n\nbody \xff\n", "UTF-8", 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned line;
		const char *why = quota_warning_check(slice_str(rows[i].text), &line);

		if (!rows[i].why && why)
			fail_msg("%s: %s", rows[i].text, why);
		if (rows[i].why && (!why || !strstr(why, rows[i].why) || line != rows[i].line))
			fail_msg("%s: got %s at %u", rows[i].text, why ? why : "nothing", line);
	}
}

static void test_the_message(void **state)
{
	struct quota_warning_of of = {.address = "alice@example.com",
		.to = "alice@example.com",
		.use = {.bytes_limit = 10 << 20, .bytes_used = 8 << 20, .count_used = 12}};
	struct quota_warning_settings settings = {.from = "", .host = "b1.example.net"};
	struct buf out = {0};
	const char *text;

	(void)state;
	quota_warning_write(&settings, &of, 80, 1700000000, &out);
	text = buf_str_view(&out);
	assert_non_null(strstr(text,
		"From: <postmaster@example.com>\r\nTo: <alice@example.com>\r\n"
		"Subject: Your mailbox is 80% full\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n"));
	assert_non_null(strstr(text, "@b1.example.net>\r\nAuto-Submitted: auto-generated\r\n"));
	assert_non_null(strstr(text, "\r\n\r\nThe mailbox alice@example.com is 80% full.\r\n\r\n"
				     "Used: 8.0 MB of 10.0 MB, 12 messages of any number.\r\n"));
	for (const char *lf = strchr(text, '\n'); lf; lf = strchr(lf + 1, '\n'))
		assert_int_equal(lf[-1], '\r');
	buf_clear(&out);
	settings.from = "help@example.org";
	settings.template =
		slice_str("Subject: Postfach von ${user} zu ${percent} % gef\xc3\xbcllt, bitte \xc3\xa4"
			  "ltere Nachrichten l\xc3\xb6schen\r\n\r\n${threshold} ${limit} ${domain} $ "
			  "${messages_limit}");
	of.use.count_limit = 100;
	quota_warning_write(&settings, &of, 80, 1700000000, &out);
	text = buf_str_view(&out);
	assert_non_null(strstr(text, "From: <help@example.org>\r\n"));
	assert_non_null(strstr(text, "\r\nSubject: =?UTF-8?B?"));
	assert_non_null(strstr(text, "?=\r\n =?UTF-8?B?"));
	assert_non_null(strstr(text, "\r\n\r\n80 10.0 MB example.com $ 100"));
	/* Of a folder, whose name is no way to another field. */
	buf_clear(&out);
	settings.template = slice_of(NULL, 0);
	of.address = "#public@example.com";
	of.folder = SLICE_LIT("Team/a\r\nBcc: x");
	quota_warning_write(&settings, &of, 80, 1700000000, &out);
	text = buf_str_view(&out);
	assert_non_null(strstr(text, "To: <alice@example.com>\r\nSubject: A folder is 80% full\r\n"));
	assert_non_null(
		strstr(text, "\r\n\r\nThe folder #public@example.com/Team/a??Bcc: x, with those below"));
	assert_null(strstr(text, "\r\nBcc"));
	buf_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_templates_are_checked),
		cmocka_unit_test(test_the_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
