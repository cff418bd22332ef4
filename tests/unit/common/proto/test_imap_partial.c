/* Parts of results (RFC 9394): how they are written, and which results they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/imap_partial.h"
#include "tests/unit/common/proto/imap_line.h"

static const struct {
	const char *text;
	int err;
	size_t count, first, got;
} rows[] = {
	{"1:100", 0, 1000, 0, 100},
	{"101:200", 0, 150, 100, 50},
	{"200:101", 0, 150, 100, 50},
	{"3:3", 0, 3, 2, 1},
	{"4:9", 0, 3, 0, 0},
	{"1:1", 0, 0, 0, 0},
	{"-1:-100", 0, 1000, 900, 100},
	{"-100:-1", 0, 1000, 900, 100},
	{"-3:-5", 0, 4, 0, 2},
	{"-5:-9", 0, 4, 0, 0},
	{"1:4294967295", 0, 7, 0, 7},
	{"1", ERR_SYNTAX, 0, 0, 0},
	{"1:-2", ERR_SYNTAX, 0, 0, 0},
	{"-1:2", ERR_SYNTAX, 0, 0, 0},
	{"0:2", ERR_SYNTAX, 0, 0, 0},
	{"-0:-2", ERR_SYNTAX, 0, 0, 0},
	{"1:*", ERR_SYNTAX, 0, 0, 0},
	{"1:2,3", ERR_SYNTAX, 0, 0, 0},
	{"1:4294967296", ERR_SYNTAX, 0, 0, 0},
	{":", ERR_SYNTAX, 0, 0, 0},
	{"--1:--2", ERR_SYNTAX, 0, 0, 0},
	{"\"1:2\"", ERR_SYNTAX, 0, 0, 0},
	{"(1:2)", ERR_SYNTAX, 0, 0, 0},
};

static void test_parts_are_read_and_clipped(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct imap_partial p;
		struct arena arena;
		size_t first = 0, got = 0;
		int err;

		arena_init(&arena, 0);
		err = imap_partial_parse(imap_line_args(&arena, rows[i].text), &p);
		if (err == 0)
			imap_partial_clip(&p, rows[i].count, &first, &got);
		if (err != rows[i].err || first != rows[i].first || got != rows[i].got)
			fail_msg("%s: got %d %zu %zu", rows[i].text, err, first, got);
		arena_deinit(&arena);
	}
	assert_int_equal(imap_partial_parse(NULL, &(struct imap_partial){0}), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_are_read_and_clipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
