/* The encoder: what it writes is read back as the same value by the parser, and no value ends a line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/proto/imap_parse.h"
#include "common/proto/imap_write.h"
#include "tests/unit/feed.h"

typedef void write_fn(struct buf *, struct slice);

static void test_values_are_written_in_their_smallest_safe_form(void **state)
{
	static const struct {
		write_fn *fn;
		const char *in, *want;
	} rows[] = {
		{imap_write_string, "", "\"\""},
		{imap_write_string, "a b", "\"a b\""},
		{imap_write_string, "a\"\\b", "\"a\\\"\\\\b\""},
		{imap_write_string, "a\r\nb", "{4}\r\na\r\nb"},
		{imap_write_string, "\xc3\xa4", "{2}\r\n\xc3\xa4"},
		{imap_write_nstring, NULL, "NIL"},
		{imap_write_nstring, "NIL", "\"NIL\""},
		{imap_write_astring, "INBOX", "INBOX"},
		{imap_write_astring, "nil", "\"nil\""},
		{imap_write_astring, "a]b", "\"a]b\""},
		{imap_write_astring, "", "\"\""},
		{imap_write_mailbox, "Entw\xc3\xbcrfe", "Entw&APw-rfe"},
		{imap_write_mailbox, "a b", "\"a b\""},
		{imap_write_mailbox, "a\r\nb", "?"},
		{imap_write_text, "a\r\n* BYE", "a??* BYE"},
		{imap_write_text, "[X] y", "?X] y"},
		{imap_write_text, "", "-"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = {0};

		rows[i].fn(&out, slice_str(rows[i].in));
		assert_string_equal(buf_str_view(&out), rows[i].want);
		buf_deinit(&out);
	}
}

/* Reads "x Y <value>" with the server's parser; NULL text when it is no single string. */
static void check_reads_back(struct slice command, struct slice want)
{
	struct imap_parse p;
	struct arena arena;
	enum imap_parse_event event = IMAP_PARSE_MORE;
	size_t at = 0;

	arena_init(&arena, 0);
	imap_parse_start(&p, &imap_parse_limits_after_login, &arena);
	while (event != IMAP_PARSE_COMMAND) {
		ssize_t n = imap_parse_feed(&p, slice_from(command, at), &event);

		assert_true(n >= 0 && event != IMAP_PARSE_BAD && event != IMAP_PARSE_MORE);
		at += (size_t)n;
		if (event == IMAP_PARSE_LITERAL)
			assert_int_equal(imap_parse_hold(&p), 0);
	}
	assert_int_equal(at, command.len);
	assert_int_equal(p.command.count, 1);
	assert_true(slice_is_equal(p.command.args->text, want));
	arena_deinit(&arena);
}

static void test_class_4_no_value_gets_out_of_its_string(void **state)
{
	static const char *const values[] = {"x", "a\r\nb LOGOUT\r\n", "\"", "\\", "\\\"\r\n", "{3}",
		"{3}\r\n", "\n", "a\rb", "\x01\x7f\xff", "(", ")", "[", "NIL x", "\xc3\xa4\"\\", "%*", ""};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct buf out = {0};

		buf_add_str(&out, "x Y ");
		imap_write_string(&out, slice_str(values[i]));
		buf_add_str(&out, "\r\n");
		check_reads_back(buf_view(&out), slice_str(values[i]));
		buf_clear(&out);
		buf_add_str(&out, "x Y ");
		assert_int_equal(imap_write_command_string(&out, slice_str(values[i]), true), 0);
		buf_add_str(&out, "\r\n");
		check_reads_back(buf_view(&out), slice_str(values[i]));
		buf_deinit(&out);
	}
}

static void test_nul_and_controls_are_refused_or_left_out(void **state)
{
	struct buf out = {0};

	(void)state;
	imap_write_string(&out, slice_of("a\0b", 3));
	assert_true(slice_is_str(buf_view(&out), "{2}\r\nab"));
	buf_clear(&out);
	assert_int_equal(imap_write_command_string(&out, slice_of("a\0b", 3), true), ERR_SYNTAX);
	assert_int_equal(imap_write_command_string(&out, SLICE_LIT("a\nb"), false), ERR_SYNTAX);
	assert_int_equal(imap_write_id_pair(&out, SLICE_LIT("x-y"), SLICE_LIT("1\r\n2")), ERR_SYNTAX);
	assert_int_equal(imap_write_id_pair(&out, SLICE_LIT("x\ny"), SLICE_LIT("1")), ERR_SYNTAX);
	assert_int_equal(buf_len(&out), 0);
	assert_int_equal(imap_write_id_pair(&out, SLICE_LIT("x-y"), SLICE_LIT("1\"2")), 0);
	assert_true(slice_is_str(buf_view(&out), "\"x-y\" \"1\\\"2\""));
	buf_deinit(&out);
}

static void test_sets_join_runs(void **state)
{
	static const uint32_t numbers[] = {1, 2, 3, 5, 7, 8, 4294967295u};
	struct imap_write_set set;
	struct buf out = {0};

	(void)state;
	imap_write_set_start(&set, &out);
	imap_write_set_end(&set);
	assert_int_equal(buf_len(&out), 0);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		imap_write_set_add(&set, numbers[i]);
	imap_write_set_end(&set);
	assert_string_equal(buf_str_view(&out), "1:3,5,7:8,4294967295");
	buf_deinit(&out);
}

static void test_flags_are_judged(void **state)
{
	(void)state;
	assert_true(imap_write_is_flag(SLICE_LIT("\\Seen")));
	assert_true(imap_write_is_flag(SLICE_LIT("$Junk")));
	assert_false(imap_write_is_flag(SLICE_LIT("\\")));
	assert_false(imap_write_is_flag(SLICE_LIT("\\\\x")));
	assert_false(imap_write_is_flag(SLICE_LIT("\\*")));
	assert_false(imap_write_is_flag(SLICE_LIT("a b")));
	assert_false(imap_write_is_flag(SLICE_LIT("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_are_written_in_their_smallest_safe_form),
		cmocka_unit_test(test_class_4_no_value_gets_out_of_its_string),
		cmocka_unit_test(test_nul_and_controls_are_refused_or_left_out),
		cmocka_unit_test(test_sets_join_runs),
		cmocka_unit_test(test_flags_are_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
