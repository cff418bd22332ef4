/* CSV, mostly after the text of RFC 4180 section 2; records as "a|b" with '!' for an error, lines before them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/proto/csv.h"

static void show(struct slice text, struct buf *out)
{
	struct csv_record r;
	struct arena arena;
	struct csv c;
	int err;

	arena_init(&arena, 0);
	csv_begin(&c, text);
	while ((err = csv_next(&c, &arena, &r)) != ERR_NOT_FOUND) {
		buf_printf(out, "%u:", r.line);
		if (err)
			buf_printf(out, "! %s", r.why);
		for (size_t i = 0; !err && i < r.count; i++)
			buf_printf(out, "%s%.*s", i ? "|" : "", SLICE_ARG(r.fields[i]));
		buf_add_char(out, '\n');
	}
	arena_deinit(&arena);
}

static void test_records(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"", ""},
		{"aaa,bbb,ccc\r\nzzz,yyy,xxx\r\n", "1:aaa|bbb|ccc\n2:zzz|yyy|xxx\n"},
		{"aaa,bbb\nzzz,yyy", "1:aaa|bbb\n2:zzz|yyy\n"},
		{"\"aaa\",\"b\r\nbb\",\"ccc\"\r\nzzz,yyy,xxx", "1:aaa|b\r\nbb|ccc\n3:zzz|yyy|xxx\n"},
		{"\"aaa\",\"b\"\"bb\",\"\"\"\"", "1:aaa|b\"bb|\"\n"},
		{"a,,\n,\n", "1:a||\n2:|\n"},
		{"\n\r\n a , b \n", "3: a | b \n"},
		{"\xef\xbb\xbfx,y\n", "1:x|y\n"},
		{"a\rb\n", "1:a\rb\n"},
		{"a\"b,c\nd\n", "1:! a quote stands within a field\n2:d\n"},
		{"\"a\"b,c\nd\n", "1:! text follows a closing quote\n2:d\n"},
		{"\"a\rb\"\rc\nd", "1:! a carriage return stands alone\n2:d\n"},
		{"x\n\"a,b\nc,d\n", "1:x\n2:! a quote is not closed\n3:c|d\n"},
		{"\"", "1:! a quote is not closed\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf got = {0};

		show(slice_str(rows[i].text), &got);
		assert_string_equal(buf_str_view(&got), rows[i].want);
		buf_deinit(&got);
	}
}

static void test_limits(void **state)
{
	struct buf text = {0}, got = {0};

	(void)state;
	for (int i = 0; i < CSV_FIELDS_MAX; i++)
		buf_add_str(&text, ",");
	buf_add_str(&text, "\nnext\n\"");
	for (int i = 0; i < CSV_FIELD_MAX + 1; i++)
		buf_add_char(&text, 'x');
	buf_add_str(&text, "\"\nlast");
	show(buf_view(&text), &got);
	assert_string_equal(
		buf_str_view(&got), "1:! too many fields\n2:next\n3:! a field is too long\n4:last\n");
	buf_deinit(&text);
	buf_deinit(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
