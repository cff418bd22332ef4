/* POP3 lines, replies and dot-stuffing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/proto/pop3_parse.h"
#include "tests/unit/feed.h"

static void test_command_lines_are_cut_to_words(void **state)
{
	static const struct {
		const char *in;
		ssize_t want;
		const char *name, *rest;
		unsigned count;
	} rows[] = {
		{"quit\r\n", 6, "QUIT", "", 0},
		{"USER joe\n", 9, "USER", "joe", 1},
		{"PASS  a b \r\n", 12, "PASS", " a b ", 2},
		{"TOP 1 2\r\n", 9, "TOP", "1 2", 2},
		{"TOOLONGWORD x\r\n", 15, "", "x", 1},
		{"X 1 2 3 4 5 6 7 8 9 10\r\n", 24, "X", "1 2 3 4 5 6 7 8 9 10", 9},
		{"\r\n", 2, "", "", 0},
		{"USER a\tb\r\n", ERR_SYNTAX, NULL, NULL, 0},
		{"USER a\rb\r\n", ERR_SYNTAX, NULL, NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		struct pop3_command c = {.count = 99};
		size_t consumed = 0;

		assert_int_equal(pop3_parse_command(page.text, 100, &c, &consumed), rows[i].want);
		assert_int_equal(consumed, page.text.len);
		if (rows[i].want > 0) {
			assert_string_equal(c.name, rows[i].name);
			assert_true(slice_is_str(c.rest, rows[i].rest));
			assert_int_equal(c.count, rows[i].count);
		}
		for (size_t cut = 0; cut < page.text.len; cut++)
			assert_int_equal(pop3_parse_command(slice_sub(page.text, 0, cut), 100, &c, NULL), 0);
		assert_int_equal(pop3_parse_command(page.text, page.text.len - 1, &c, NULL), ERR_TOO_BIG);
		feed_page_free(&page);
	}
}

static void test_reply_lines_have_status_and_code(void **state)
{
	static const struct {
		const char *in;
		ssize_t want;
		enum pop3_status status;
		const char *code, *text;
	} rows[] = {
		{"+OK\r\n", 5, POP3_OK, "", ""},
		{"+OK ready <x>\r\n", 15, POP3_OK, "", "ready <x>"},
		{"-ERR [SYS/TEMP] later\r\n", 23, POP3_ERR, "SYS/TEMP", "later"},
		{"-ERR [x\r\n", 9, POP3_ERR, "", "[x"},
		{"+ abc=\r\n", 8, POP3_CONTINUE, "", "abc="},
		{"+OKx\r\n", ERR_SYNTAX, POP3_OK, "", ""},
		{"* OK\r\n", ERR_SYNTAX, POP3_OK, "", ""},
		{"+OK a\x01\r\n", ERR_SYNTAX, POP3_OK, "", ""},
		{"\r\n", ERR_SYNTAX, POP3_OK, "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		struct pop3_reply r;

		assert_int_equal(pop3_parse_reply(page.text, 512, &r), rows[i].want);
		if (rows[i].want > 0) {
			assert_int_equal(r.status, rows[i].status);
			assert_true(slice_is_str(r.code, rows[i].code));
			assert_true(slice_is_str(r.text, rows[i].text));
			assert_true(slice_is_equal(r.line, page.text));
		}
		feed_page_free(&page);
	}
	assert_true(pop3_parse_is_end(SLICE_LIT(".\r\n")));
	assert_false(pop3_parse_is_end(SLICE_LIT("..\r\n")));
}

static void test_dots_are_stuffed_wherever_the_pieces_are_cut(void **state)
{
	static const struct {
		const char *in, *want;
	} rows[] = {
		{"", ".\r\n"},
		{"a\r\n", "a\r\n.\r\n"},
		{"a", "a\r\n.\r\n"},
		{".\r\n", "..\r\n.\r\n"},
		{"a\r\n.\r\n..b\r\n", "a\r\n..\r\n...b\r\n.\r\n"},
		{"a.\r\n", "a.\r\n.\r\n"},
		{"a\n.\nb\n", "a\r\n..\r\nb\r\n.\r\n"},
		{"a\r", "a\r\n.\r\n"},
		{"a\r.b\r\r\n", "a\r.b\r\r\n.\r\n"},
		{"\n", "\r\n.\r\n"},
		{"a\r\n\n\r\n", "a\r\n\r\n\r\n.\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slice in = slice_str(rows[i].in);

		for (size_t cut = 0; cut <= in.len; cut++) {
			struct pop3_parse_stuff stuff;
			struct buf out = {0};

			pop3_parse_stuff_init(&stuff);
			pop3_parse_stuff_add(&stuff, &out, slice_sub(in, 0, cut));
			pop3_parse_stuff_add(&stuff, &out, slice_from(in, cut));
			pop3_parse_stuff_end(&stuff, &out);
			assert_string_equal(buf_str_view(&out), rows[i].want);
			buf_deinit(&out);
		}
		{
			struct buf out = {0};

			buf_add_str(&out, ".before\n");
			buf_add_slice(&out, in);
			pop3_parse_stuff_message(&out, 8);
			assert_memory_equal(buf_str_view(&out), ".before\n", 8);
			assert_string_equal(buf_str_view(&out) + 8, rows[i].want);
			buf_deinit(&out);
		}
	}
}

static void test_numbers_start_at_one(void **state)
{
	uint32_t n = 0;

	(void)state;
	assert_int_equal(pop3_parse_number(SLICE_LIT("17"), &n), 0);
	assert_int_equal(n, 17);
	assert_int_equal(pop3_parse_number(SLICE_LIT("0"), &n), ERR_SYNTAX);
	assert_int_equal(pop3_parse_number(SLICE_LIT("-1"), &n), ERR_SYNTAX);
	assert_int_equal(pop3_parse_number(SLICE_LIT("4294967296"), &n), ERR_TOO_BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command_lines_are_cut_to_words),
		cmocka_unit_test(test_reply_lines_have_status_and_code),
		cmocka_unit_test(test_dots_are_stuffed_wherever_the_pieces_are_cut),
		cmocka_unit_test(test_numbers_start_at_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
