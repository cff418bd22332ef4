/* Bytes, buffers, arenas, numbers, base64, tables, metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/arena.h"
#include "common/base/base64.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/num.h"
#include "common/base/secret.h"
#include "common/base/table.h"

static void test_utf8_is_judged_as_rfc3629_says(void **state)
{
	static const struct {
		const char *text;
		bool want;
	} rows[] = {
		{"", true},
		{"abc", true},
		{"\xc3\xa4", true},
		{"\xc0\x80", false},
		{"\xe0\x9f\xbf", false},
		{"\xe0\xa0\x80", true},
		{"\xed\xa0\x80", false},
		{"\xf0\x90\x80\x80", true},
		{"\xf4\x90\x80\x80", false},
		{"\xc3", false},
		{"a\xff", false},
		{"\xf5\x80\x80\x80", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(slice_is_utf8(slice_str(rows[i].text)), rows[i].want);
	assert_false(slice_is_utf8(slice_of("a\0b", 3)));
	/* A single octet decides, wherever it stands. */
	for (size_t at = 0; at < 40; at++) {
		static const struct {
			const char *octets;
			size_t len;
			bool want;
		} ones[] = {{"", 1, false}, {"\x80", 1, false}, {"\xff", 1, false}, {"\x7f", 1, true},
			{"\xc3\xa4", 2, true}, {"\xc3", 1, false}, {"\x01", 1, true}};
		char text[40];

		for (size_t i = 0; i < ARRAY_LEN(ones); i++) {
			memset(text, 'a', sizeof(text));
			memcpy(text + (at + ones[i].len <= sizeof(text) ? at : 0), ones[i].octets,
				ones[i].len);
			assert_int_equal(slice_is_utf8(slice_of(text, sizeof(text))), ones[i].want);
		}
	}
}

static void test_a_buffer_keeps_content_and_limit(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	for (int i = 0; i < 100; i++)
		buf_printf(&b, "%03d,", i);
	buf_take(&b, 396);
	assert_true(slice_is_str(buf_view(&b), "099,"));
	for (int i = 0; i < 249; i++)
		buf_add_str(&b, "abcd");
	assert_int_equal(buf_len(&b), 1000);
	assert_false(b.failed);
	buf_add_char(&b, 'x');
	assert_true(b.failed);
	assert_int_equal(buf_len(&b), 1000);
	buf_clear(&b);
	buf_add_u64(&b, UINT64_MAX);
	assert_string_equal(buf_str_view(&b), "18446744073709551615");
	buf_deinit(&b);
}

static void test_an_arena_counts_every_byte_against_its_limit(void **state)
{
	struct arena a;
	size_t got = 0;

	(void)state;
	arena_init(&a, 4096);
	while (arena_alloc(&a, 16))
		got += 16;
	assert_int_equal(got, 4096);
	assert_null(arena_copy_str(&a, SLICE_LIT("x")));
	arena_reset(&a);
	assert_string_equal(arena_copy_str(&a, SLICE_LIT("xyz")), "xyz");
	assert_null(arena_calloc(&a, SIZE_MAX / 2, 4));
	arena_deinit(&a);
}

static void test_numbers_are_whole_or_refused(void **state)
{
	uint64_t n = 0;
	uint32_t m = 0;

	(void)state;
	assert_int_equal(num_parse_u32(slice_str("4294967295"), &m), 0);
	assert_int_equal(m, UINT32_MAX);
	assert_int_equal(num_parse_u32(slice_str("4294967296"), &m), ERR_TOO_BIG);
	assert_int_equal(num_parse_u64(slice_str("18446744073709551616"), &n), ERR_TOO_BIG);
	assert_int_equal(num_parse_u64(slice_str(" 1"), &n), ERR_SYNTAX);
	assert_int_equal(num_parse_u64(slice_str(""), &n), ERR_SYNTAX);
	assert_int_equal(num_parse_size(slice_str("10M"), &n), 0);
	assert_int_equal(n, 10485760);
	assert_int_equal(num_parse_duration(slice_str("250ms"), &n), 0);
	assert_int_equal(n, 250);
	assert_int_equal(num_parse_duration(slice_str("2h"), &n), 0);
	assert_int_equal(n, 7200000);
	assert_int_equal(num_parse_duration(slice_str("2y"), &n), ERR_SYNTAX);
}

static void test_base64_is_strict(void **state)
{
	static const struct {
		const char *text;
		const char *want; /* NULL: refused */
	} rows[] = {
		{"", ""},
		{"Zg==", "f"},
		{"Zm8=", "fo"},
		{"Zm9v", "foo"},
		{"Zm9vYmFy", "foobar"},
		{"Zg=", NULL},
		{"Zg", NULL},
		{"Zh==", NULL},
		{"Zm9=", NULL},
		{"Z===", NULL},
		{"=AAA", NULL},
		{"Zg==Zg==", NULL},
		{"Zm9v\n", NULL},
		{"Zm 9", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b = {0}, again = {0};
		int err = base64_decode(&b, slice_str(rows[i].text));

		assert_int_equal(err, rows[i].want ? 0 : ERR_SYNTAX);
		assert_string_equal(buf_str_view(&b), rows[i].want ? rows[i].want : "");
		base64_encode(&again, buf_view(&b));
		if (rows[i].want)
			assert_string_equal(buf_str_view(&again), rows[i].text);
		buf_deinit(&b);
		buf_deinit(&again);
	}
}

static void test_a_table_finds_what_was_put_after_removals(void **state)
{
	struct table *t = table_new();
	static char keys[3000][8];
	size_t at = 0, seen = 0;
	struct slice key;
	void *value;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		snprintf(keys[i], sizeof(keys[i]), "%zu", i);
		assert_null(table_put(t, slice_str(keys[i]), keys[i]));
		if (i % 3 == 0)
			assert_ptr_equal(table_remove(t, slice_str(keys[i])), keys[i]);
	}
	assert_int_equal(table_count(t), 2000);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_ptr_equal(table_get(t, slice_str(keys[i])), i % 3 ? keys[i] : NULL);
	while (table_next(t, &at, &key, &value))
		seen++;
	assert_int_equal(seen, 2000);
	table_free(&t);
	assert_null(t);
}

static void test_secrets_compare_whole(void **state)
{
	struct secret s = {0};

	(void)state;
	secret_set(&s, SLICE_LIT("pass"));
	assert_true(secret_is_equal(secret_view(&s), SLICE_LIT("pass")));
	assert_false(secret_is_equal(SLICE_LIT("passpass"), SLICE_LIT("pass")));
	assert_false(secret_is_equal(SLICE_LIT("pasx"), SLICE_LIT("pass")));
	assert_false(secret_is_equal(SLICE_LIT(""), SLICE_LIT("pass")));
	secret_deinit(&s);
	assert_null(s.data);
}

static void test_metrics_render_as_openmetrics(void **state)
{
	struct buf b = {0};

	(void)state;
	metric_add(metrics_counter("mailtier_x", "service=\"imap\"", "Things."), 3);
	metric_add(metrics_counter("mailtier_x", "service=\"imap\"", "Things."), 1);
	histogram_observe_us(metrics_histogram("mailtier_h_seconds", NULL, "Times."), 300);
	metrics_render(&b);
	assert_non_null(strstr(buf_str_view(&b), "# TYPE mailtier_x counter\n"));
	assert_non_null(strstr(buf_str_view(&b), "\nmailtier_x_total{service=\"imap\"} 4\n"));
	assert_non_null(strstr(buf_str_view(&b), "mailtier_h_seconds_bucket{le=\"0.0005\"} 1\n"));
	assert_non_null(strstr(buf_str_view(&b), "mailtier_h_seconds_count 1\n"));
	assert_true(slice_is_str(slice_from(buf_view(&b), buf_len(&b) - 6), "# EOF\n"));
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_utf8_is_judged_as_rfc3629_says),
		cmocka_unit_test(test_a_buffer_keeps_content_and_limit),
		cmocka_unit_test(test_an_arena_counts_every_byte_against_its_limit),
		cmocka_unit_test(test_numbers_are_whole_or_refused),
		cmocka_unit_test(test_base64_is_strict),
		cmocka_unit_test(test_a_table_finds_what_was_put_after_removals),
		cmocka_unit_test(test_secrets_compare_whole),
		cmocka_unit_test(test_metrics_render_as_openmetrics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
