/* Sequence sets: parsed, resolved, asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/proto/seqset.h"
#include "tests/unit/feed.h"

static const struct {
	const char *text;
	uint32_t max;
	int err;
	const char *want; /* resolved */
} rows[] = {
	{"1", 9, 0, "1:1"},
	{"2,4:7,9,12:*", 15, 0, "2:2,4:7,9:9,12:15"},
	{"*:4,5:7", 10, 0, "4:10"},
	{"4:*", 3, 0, "3:4"}, /* the last message is always in n:* (RFC 3501 section 6.4.8) */
	{"*", 0, 0, "1:1"},
	{"3:1,2", 9, 0, "1:3"},
	{"1,2,3,5", 9, 0, "1:3,5:5"},
	{"4294967295,1", 9, 0, "1:1,4294967294:4294967294"}, /* a number, not "*" */
	{"7:4294967295", 6, 0, "7:4294967294"},
	{"1:4294967294", 9, 0, "1:4294967294"},
	{"", 9, ERR_SYNTAX, NULL},
	{"0", 9, ERR_SYNTAX, NULL},
	{"1,", 9, ERR_SYNTAX, NULL},
	{",1", 9, ERR_SYNTAX, NULL},
	{"1:", 9, ERR_SYNTAX, NULL},
	{"1:2:3", 9, ERR_SYNTAX, NULL},
	{"1 2", 9, ERR_SYNTAX, NULL},
	{"1:0", 9, ERR_SYNTAX, NULL},
	{"**", 9, ERR_SYNTAX, NULL},
	{"4294967296", 9, ERR_TOO_BIG, NULL},
	{"99999999999999999999999999", 9, ERR_TOO_BIG, NULL},
};

static void test_sets_are_parsed_resolved_and_joined(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].text));
		struct seqset set = {0};
		struct buf got = {0};
		struct arena arena;

		arena_init(&arena, 0);
		assert_int_equal(seqset_parse(page.text, &arena, &set), rows[i].err);
		if (rows[i].err == 0)
			seqset_resolve(&set, rows[i].max);
		for (size_t r = 0; r < set.count; r++)
			buf_printf(&got, "%s%u:%u", r ? "," : "", set.ranges[r].from, set.ranges[r].to);
		assert_string_equal(buf_str_view(&got), rows[i].want ? rows[i].want : "");
		arena_deinit(&arena);
		buf_deinit(&got);
		feed_page_free(&page);
	}
}

static void test_a_set_knows_its_numbers(void **state)
{
	struct seqset set;
	struct arena arena;

	(void)state;
	arena_init(&arena, 0);
	assert_int_equal(seqset_parse(SLICE_LIT("10:20,1:3,7,*"), &arena, &set), 0);
	assert_true(seqset_has_star(&set));
	seqset_resolve(&set, 30);
	assert_int_equal(seqset_size(&set), 16);
	for (uint32_t n = 0; n < 40; n++)
		assert_int_equal(
			seqset_has(&set, n), (n >= 1 && n <= 3) || n == 7 || (n >= 10 && n <= 20) || n == 30);
	arena_fail_after(1);
	assert_int_equal(seqset_parse(SLICE_LIT("1"), &arena, &set), ERR_TOO_BIG);
	arena_fail_after(0);
	arena_deinit(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sets_are_parsed_resolved_and_joined),
		cmocka_unit_test(test_a_set_knows_its_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
