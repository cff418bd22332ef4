/* LANG (RFC 6856 section 3): a list, the one language, and no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/pop3_lang.h"

static void test_one_language_is_known(void **state)
{
	static const struct {
		const char *line;
		const char *want;
	} rows[] = {
		{"LANG\r\n", "+OK Languages:\r\nen English\r\n.\r\n"},
		{"LANG en\r\n", "+OK en English it is.\r\n"},
		{"LANG EN\r\n", "+OK en English it is.\r\n"},
		{"lang *\r\n", "+OK en English it is.\r\n"},
		{"LANG en-GB\r\n", "-ERR This language is not known here.\r\n"},
		{"LANG MUL\r\n", "-ERR This language is not known here.\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct pop3_command command = {0};
		struct buf out = {0};

		assert_true(pop3_parse_command(slice_str(rows[i].line), 512, &command, &(size_t){0}) > 0);
		pop3_lang_answer(&out, &command);
		assert_string_equal(buf_str_view(&out), rows[i].want);
		buf_deinit(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_language_is_known)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
