/* Header fields, structured values, dates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/content.h"
#include "common/proto/date.h"
#include "common/proto/header.h"
#include "tests/unit/feed.h"

static void test_fields_are_read_one_by_one(void **state)
{
	static const char text[] =
		"A: 1\r\nB : two\r\n\tfolded\r\nno field\r\n: none\r\nC:\nD: x\n \n\r\nbody: no\r\n";
	static const char *want[] = {"A=1", "B=two\r\n\tfolded", "=", "=", "C=", "D=x", NULL};
	struct feed_page page = feed_page_copy(slice_str(text));
	struct header_reader r;
	struct header_field f;
	size_t i = 0, len = 0;

	(void)state;
	header_reader_init(&r, page.text);
	for (; header_next(&r, &f); i++) {
		struct buf got = {0};

		assert_non_null(want[i]);
		buf_printf(&got, "%.*s=%.*s", SLICE_ARG(f.name), SLICE_ARG(f.value));
		assert_string_equal(buf_str_view(&got), want[i]);
		buf_deinit(&got);
		len += f.raw.len;
	}
	assert_null(want[i]);
	assert_int_equal(header_length(page.text), len + 2);
	assert_true(slice_has_prefix(r.rest, "\r\nbody"));
	assert_true(slice_is_str(header_find(page.text, slice_str("d")), "x"));
	assert_null(header_find(page.text, slice_str("body")).p);
	feed_page_free(&page);
}

static void test_filtering_gives_raw_fields(void **state)
{
	static const char text[] = "A: 1\r\nB: 2\r\n 3\r\nx\r\na: 4\r\n\r\n";
	const struct slice names[] = {SLICE_LIT("A"), SLICE_LIT("Z")};
	struct buf out = {0};

	(void)state;
	header_filter(slice_str(text), names, 2, false, &out);
	assert_string_equal(buf_str_view(&out), "A: 1\r\na: 4\r\n\r\n");
	buf_clear(&out);
	header_filter(slice_str(text), names, 2, true, &out);
	assert_string_equal(buf_str_view(&out), "B: 2\r\n 3\r\nx\r\n\r\n");
	buf_deinit(&out);
}

static int value_as_text(struct arena *a, const char *value, bool is_type, struct buf *out)
{
	struct content_value v;
	struct feed_page page = feed_page_copy(slice_str(value));
	int err =
		is_type ? content_parse_type(a, page.text, &v) : content_parse_disposition(a, page.text, &v);

	feed_page_free(&page);
	if (err)
		return err;
	buf_printf(out, "%.*s/%.*s", SLICE_ARG(v.type), SLICE_ARG(v.subtype));
	for (struct content_param *p = v.params; p; p = p->next)
		buf_printf(out, ";%.*s=%.*s", SLICE_ARG(p->name), SLICE_ARG(p->value));
	return 0;
}

static const struct {
	const char *value, *want;
} types[] = {
	{"text/plain", "text/plain"},
	{"text/plain; charset=us-ascii (Plain text)", "text/plain;charset=us-ascii"},
	{"(c) text (d) / (e) html;charset=\"a;\\\"b\" ; x = y", "text/html;charset=a;\"b;x=y"},
	{"text/plain;;; a=1;\r\n b=2", "text/plain;a=1;b=2"},
	{"image/png; name=my file.png; x=1", "image/png;name=my file.png;x=1"},
	{"text", "/"},
	{"", "/"},
	{"/plain", "/"},
	{"text/plain charset=x", "text/plain"},
	{"a/b; x=\"unclosed", "a/b;x=unclosed"},
	{"a/b; =x; y; z=", "a/b;z="},
	/* RFC 2231 sections */
	{"a/b; f*0=one; f*1=two; g=3; f*2=\" three\"", "a/b;f=onetwo three;g=3"},
	{"a/b; f*2=c; f*0=a; F*1=b", "a/b;f=abc"},
	{"a/b; t*0*=us-ascii'en'This%20is; t*1*=%2A; t*2=\" it (!)\"",
		"a/b;t*=us-ascii'en'This%20is%2A%20it%20%28!%29"},
	{"a/b; f*1=lost; f*=utf-8''x", "a/b;f*=utf-8''x"},
	{"a/b; f*0=a; f*2=lost", "a/b;f=a"},
	{"a/b; (comment that ends in \\", "a/b"},
};

static void test_types_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct buf got = {0};
		struct arena a;

		arena_init(&a, 0);
		assert_int_equal(value_as_text(&a, types[i].value, true, &got), 0);
		if (!slice_is_str(buf_view(&got), types[i].want))
			fail_msg("%s: got %s", types[i].value, buf_str_view(&got));
		buf_deinit(&got);
		arena_deinit(&a);
	}
}

/* security 12: parameters of one part are capped */
static void test_12_parameters_are_capped(void **state)
{
	struct buf text = {0};
	struct content_value v;
	struct arena a;
	size_t count = 0;

	(void)state;
	arena_init(&a, 0);
	buf_add_str(&text, "a/b");
	for (int i = 0; i < 5000; i++)
		buf_printf(&text, ";x%d=%d", i, i);
	assert_int_equal(content_parse_type(&a, buf_view(&text), &v), 0);
	for (struct content_param *p = v.params; p; p = p->next)
		count++;
	assert_int_equal(count, CONTENT_PARAMS_MAX);
	buf_deinit(&text);
	arena_deinit(&a);
}

static void test_parameters_become_text(void **state)
{
	static const struct {
		const char *value, *want; /* of filename */
	} rows[] = {
		{"attachment; filename=x.txt", "x.txt"},
		{"attachment; filename=plain; filename*=utf-8'de'%C3%A4.txt", "\xc3\xa4.txt"},
		{"attachment; FILENAME*0*=iso-8859-1''%e4; filename*1=b", "\xc3\xa4"
									  "b"},
		{"attachment; filename=\"=?utf-8?q?=C3=A4_b?=\"", "\xc3\xa4 b"},
		{"attachment; filename=\xe4", "\xc3\xa4"},
		{"attachment; filename*=none''%41%4", "A%4"},
		{"attachment", NULL},
		{"attachment; filenames=x", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct content_value v;
		struct slice got;
		struct arena a;

		arena_init(&a, 0);
		assert_int_equal(content_parse_disposition(&a, slice_str(rows[i].value), &v), 0);
		got = content_param_text(&a, v.params, "filename");
		if (!rows[i].want)
			assert_null(got.p);
		else if (!slice_is_str(got, rows[i].want))
			fail_msg("%s: got %.*s", rows[i].value, SLICE_ARG(got));
		arena_deinit(&a);
	}
}

static bool types_in(void *arg)
{
	bool is_whole = true;

	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct buf got = {0};
		struct arena a;
		int err;

		arena_init(&a, 0);
		err = value_as_text(&a, types[i].value, i % 2, &got);
		assert_true(err == 0 || err == ERR_TOO_BIG);
		is_whole = is_whole && !err;
		buf_deinit(&got);
		arena_deinit(&a);
	}
	return is_whole;
}

static void test_a_full_arena_is_said(void **state)
{
	(void)state;
	assert_true(feed_failing_arena(types_in, NULL) > 10);
}

static void test_header_dates_are_read(void **state)
{
	static const struct {
		const char *text;
		int64_t want; /* -1: refused */
		int day;
	} rows[] = {
		{"Thu, 01 Jan 1970 00:00:01 +0000", 1, 0},
		{"Fri, 20 Nov 2026 12:30:00 +0100", 1795174200, 20777},
		{"20 Nov 2026 12:30 -0000", 1795177800, 20777},
		{"Fri, 21 Nov 97 09:55:06 -0600", 880127706, 10186},
		{"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", 880070400, 10186},
		{"21 Nov 97 09:55:06 GMT", 880106106, 10186},
		{"1 Feb 03 00:00:00 EST", 1044075600, 12084},
		{"Mon,  7 Feb 94 21:52:25 (PST)", 760657945, 8803},
		{"7-Feb-94 21:52:25 PST", 760687945 - 1200, 8803},
		{"Sun, 29 Feb 2004 23:59:60 +0000", 1078099200, 12477},
		{"Sun, 29 Feb 2003 23:59:59 +0000", -1, 0},
		{"Pn, 29 paX 2007 21:13:00 +0100", -1, 0},
		{"", -1, 0},
		{"yesterday", -1, 0},
		{"32 Jan 2000 00:00:00 +0000", -1, 0},
		{"1 Jan 2000 00:00:00 +9999", 946684800, 10957},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct date d;
		struct feed_page page = feed_page_copy(slice_str(rows[i].text));
		int err = date_parse_rfc5322(page.text, &d);

		feed_page_free(&page);
		if (rows[i].want < 0) {
			assert_int_equal(err, ERR_SYNTAX);
			continue;
		}
		if (err || d.unix_s != rows[i].want || d.local_day != rows[i].day)
			fail_msg("%s: %d got %lld day %d", rows[i].text, err, (long long)d.unix_s,
				d.local_day);
	}
}

static void test_imap_dates_are_strict_and_round(void **state)
{
	static const char *bad[] = {"", "17-Jul-1996", "17-Jul-1996 02:44:25", "17-Jul-96 02:44:25 -0700",
		"31-Feb-1996 02:44:25 -0700", "17-Jul-1996 24:44:25 -0700", "17-Jul-1996 02:44:25 0700",
		"17-Jul-1996T02:44:25 -0700", "177-Jul-1996 02:44:25 -070", "17-Xxx-1996 02:44:25 -0700"};
	struct date d;
	int32_t day;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(date_parse_internal(slice_str(bad[i]), &d), ERR_SYNTAX);
	assert_int_equal(date_parse_internal(slice_str(" 7-Jul-1996 02:44:25 -0700"), &d), 0);
	assert_int_equal(d.unix_s, 836732665);
	assert_int_equal(date_parse_internal(slice_str("17-Jul-1996 02:44:25 -0700"), &d), 0);
	assert_int_equal(d.unix_s, 837596665);
	assert_int_equal(d.zone_min, -420);
	assert_int_equal(date_parse_search(slice_str("1-Feb-1994"), &day), 0);
	assert_int_equal(day, 8797);
	assert_int_equal(date_parse_search(slice_str("01-feb-1994"), &day), 0);
	assert_int_equal(date_parse_search(slice_str("1-Feb-94"), &day), ERR_SYNTAX);
	assert_int_equal(date_parse_search(slice_str("30-Feb-1994"), &day), ERR_SYNTAX);
	for (int64_t t = -5000000000; t < 20000000000; t += 86397331) {
		struct buf text = {0};

		date_write_internal(t, -210, &text);
		if (t > -62000000000) {
			assert_int_equal(date_parse_internal(buf_view(&text), &d), 0);
			assert_true(d.unix_s == t);
		}
		buf_clear(&text);
		date_write_rfc5322(t, 330, &text);
		assert_int_equal(date_parse_rfc5322(buf_view(&text), &d), 0);
		assert_true(d.unix_s == t);
		buf_deinit(&text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_are_read_one_by_one),
		cmocka_unit_test(test_filtering_gives_raw_fields),
		cmocka_unit_test(test_types_are_read),
		cmocka_unit_test(test_12_parameters_are_capped),
		cmocka_unit_test(test_parameters_become_text),
		cmocka_unit_test(test_a_full_arena_is_said),
		cmocka_unit_test(test_header_dates_are_read),
		cmocka_unit_test(test_imap_dates_are_strict_and_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
