/* Authentication-Results: what is written (RFC 8601 section 2.2), and which fields are forged, whole and cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/proto/auth_results.h"

static const char *const ids[] = {"mx.example.test", "other.test.", NULL};

static void assert_text(struct buf *out, const char *want)
{
	assert_string_equal(buf_str_view(out), want);
	buf_clear(out);
}

static void test_written(void **state)
{
	struct auth_results_one one[2] = {
		{.method = "spf", .result = "pass"}, {.method = "dkim", .result = "fail"}};
	struct buf out = {0};

	(void)state;
	auth_results_write(&out, 0, "mx.example.test", NULL, 0);
	assert_text(&out, "Authentication-Results: mx.example.test; none\r\n");
	auth_results_add(&one[0], "smtp", "mailfrom", SLICE_LIT("alice@example.test"));
	auth_results_add(&one[0], "smtp", "helo", SLICE_LIT(""));
	one[1].comment = SLICE_LIT("2048-bit key (RSA)");
	one[1].reason = SLICE_LIT("body hash \"differs\"");
	auth_results_add(&one[1], "header", "d", SLICE_LIT("example.test"));
	auth_results_add(&one[1], "header", "i", SLICE_LIT("@example.test"));
	auth_results_add(&one[1], "header", "b", SLICE_LIT("ab/c=="));
	auth_results_write(&out, 0, "mx.example.test", one, 2);
	assert_text(&out, "Authentication-Results: mx.example.test;\r\n"
			  "\tspf=pass smtp.mailfrom=alice@example.test;\r\n"
			  "\tdkim=fail (2048-bit key \\(RSA\\)) reason=\"body hash \\\"differs\\\"\"\r\n"
			  "\theader.d=example.test header.i=@example.test header.b=\"ab/c==\"\r\n");
	auth_results_write(&out, 3, "mx.example.test", one, 1);
	assert_text(&out, "ARC-Authentication-Results: i=3; mx.example.test;\r\n"
			  "\tspf=pass smtp.mailfrom=alice@example.test\r\n");
	buf_deinit(&out);
}

static void test_security_04_values_are_encoded(void **state)
{
	static const struct {
		const char *value, *want;
	} rows[] = {
		{"a@b.test\r\nX-Evil: y", "\"a@b.test??X-Evil: y\""},
		{"a b@c.test", "\"a b@c.test\""},
		{"\"; dkim=pass header.d=bank.test", "\"\\\"; dkim=pass header.d=bank.test\""},
		{"a;b@c.test", "\"a;b@c.test\""},
		{"a@b@c", "\"a@b@c\""},
		{"a..b@c", "\"a..b@c\""},
		{"j\xc3\xb6rg@b.test", "\"j\xc3\xb6rg@b.test\""},
		{"\xff\xc3(", "\"?\?(\""},
		{"a\\", "\"a\\\\\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct auth_results_one one = {.method = "spf", .result = "pass"};
		struct buf out = {0}, want = {0};

		auth_results_add(&one, "smtp", "mailfrom", slice_str(rows[i].value));
		auth_results_write(&out, 0, "mx", &one, 1);
		buf_printf(&want, "Authentication-Results: mx;\r\n\tspf=pass smtp.mailfrom=%s\r\n",
			rows[i].want);
		assert_text(&out, buf_str_view(&want));
		buf_deinit(&out);
		buf_deinit(&want);
	}
}

static void test_long_values_are_cut(void **state)
{
	struct auth_results_one one = {.method = "spf", .result = "pass"};
	char value[4000];
	struct buf out = {0};

	(void)state;
	memset(value, 'a', sizeof(value));
	for (unsigned i = 0; i < AUTH_RESULTS_PROPERTIES_MOST + 3; i++)
		auth_results_add(&one, "smtp", "helo", slice_of(value, sizeof(value)));
	auth_results_write(&out, 0, "mx", &one, 1);
	assert_in_range(buf_len(&out), 1, 350 * AUTH_RESULTS_PROPERTIES_MOST);
	buf_deinit(&out);
}

#define AR "Authentication-Results:"

static const struct {
	const char *field;
	bool is_forged;
} forged[] = {
	{AR " mx.example.test; spf=pass\r\n", true},
	{"authentication-RESULTS: MX.Example.TEST; spf=pass\r\n", true},
	{AR "mx.example.test\r\n", true},
	{AR " mx.example.test 1; none\r\n", true},
	{AR "\r\n\t mx.example.test;\r\n spf=pass\r\n", true},
	{AR " (a (nested \\) comment)) mx.example.test(x); spf=pass\r\n", true},
	{AR " \"mx.example.test\"; spf=pass\r\n", true},
	{AR " \"mx.\\example.test\"; spf=pass\r\n", true},
	{AR " \"mx.example.test \"; spf=pass\r\n", true},
	{AR " \"mx.exa\r\n mple.test\"; spf=pass\r\n", false}, /* a blank within */
	{AR " mx.example.test.; spf=pass\r\n", true},
	{AR " other.test; spf=pass\r\n", true},
	{"Authentication-Results  \t: mx.example.test; spf=pass\r\n", true},
	{AR " mx.example.test; spf=pass\n", true},
	{AR "\r\n", true},
	{AR " (no end mx.example.test; spf=pass\r\n", true},
	{AR " \"mx.example.test; spf=pass\r\n", true},
	{AR " ; spf=pass\r\n", true},
	{"Subject: x\r" AR " mx.example.test; spf=pass\r\n", true},
	{AR " xmx.example.test; spf=pass\r\n", false},
	{AR " mx.example.testx; spf=pass\r\n", false},
	{AR " elsewhere.test; spf=pass (mx.example.test)\r\n", false},
	{"X-" AR " mx.example.test; spf=pass\r\n", false},
	{"ARC-" AR " i=1; mx.example.test; spf=pass\r\n", false},
	{"Authentication-Resultsx: mx.example.test; spf=pass\r\n", false},
	{"Authentication-Results mx.example.test; spf=pass\r\n", false},
	{"Subject: " AR " mx.example.test\r\n", false},
};

static void test_security_20_forged_fields_are_known(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(forged); i++)
		if (auth_results_is_forged(slice_str(forged[i].field), ids) != forged[i].is_forged)
			fail_msg("%s: want %d", forged[i].field, forged[i].is_forged);
}

/* Each field of the table, first, amid and last in a header, and the same text in the body; cut at every place, and octet by octet. */
static void test_security_20_forged_fields_go_in_passing(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(forged); i++) {
		struct buf in = {0}, want = {0}, out = {0};
		const char *field = forged[i].field;
		const char *kept = forged[i].is_forged
					   ? strncmp(field, "Subject", 7) == 0 ? "Subject: x\r\n" : ""
					   : field;

		buf_printf(&in, "%sFrom: a\r\n b\r\n%sTo: c\r\n%s\r\n%s\r\nbody\r\n", field, field, field,
			field);
		buf_printf(
			&want, "%sFrom: a\r\n b\r\n%sTo: c\r\n%s\r\n%s\r\nbody\r\n", kept, kept, kept, field);
		for (size_t cut = 0; cut <= buf_len(&in) + 1; cut++) {
			struct auth_results_filter f;
			size_t step = cut > buf_len(&in) ? 1 : buf_len(&in);

			auth_results_filter_init(&f, ids);
			if (cut <= buf_len(&in))
				auth_results_filter_feed(&f, slice_sub(buf_view(&in), 0, cut), &out);
			for (size_t at = cut <= buf_len(&in) ? cut : 0; at < buf_len(&in); at += step)
				auth_results_filter_feed(&f, slice_sub(buf_view(&in), at, step), &out);
			auth_results_filter_end(&f, &out);
			if (!slice_is_equal(buf_view(&out), buf_view(&want)))
				fail_msg("%s cut at %zu:\n%s", field, cut, buf_str_view(&out));
			assert_int_equal(f.removed, forged[i].is_forged ? 3 : 0);
			buf_clear(&out);
		}
		buf_deinit(&in);
		buf_deinit(&want);
		buf_deinit(&out);
	}
}

static void test_security_20_ends_of_headers(void **state)
{
	static const struct {
		const char *in, *want;
	} rows[] = {
		{"", ""},
		{"\r\n" AR " mx.example.test\r\n", "\r\n" AR " mx.example.test\r\n"},
		{"\n" AR " mx.example.test\r\n", "\n" AR " mx.example.test\r\n"},
		/* a bare CR is no empty line */
		{"\rX: y\r\n" AR " mx.example.test\r\n\r\n", "\rX: y\r\n\r\n"},
		{"A: b\r\n\rX: y\r\n" AR " mx.example.test\r\n\r\n", "A: b\r\n\rX: y\r\n\r\n"},
		{"A: b\r\r\n" AR " mx.example.test\r\n\r\n", "A: b\r\r\n\r\n"},
		{"A: b\r\n\r\r\n" AR " mx.example.test\r\n\r\n", "A: b\r\n\r\r\n\r\n"},
		/* what is taken out joins no CR and LF to a line end */
		{"X: y\r" AR " mx.example.test\r\n\nbody\r\n", "X: y\r\n\nbody\r\n"},
		{AR " mx.example.test", ""},
		{"Authentication-Res", "Authentication-Res"},
		{AR " else.test", AR " else.test"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct auth_results_filter f;
		struct buf out = {0};

		auth_results_filter_init(&f, ids);
		auth_results_filter_feed(&f, slice_str(rows[i].in), &out);
		auth_results_filter_end(&f, &out);
		if (strcmp(buf_str_view(&out), rows[i].want) != 0)
			fail_msg("row %zu: %s", i, buf_str_view(&out));
		buf_deinit(&out);
	}
}

static void test_security_12_what_is_held_has_a_limit(void **state)
{
	struct auth_results_filter f;
	struct buf out = {0};

	(void)state;
	auth_results_filter_init(&f, ids);
	auth_results_filter_feed(&f, SLICE_LIT(AR " else.test; spf=pass"), &out);
	for (unsigned i = 0; i < 2000; i++) {
		auth_results_filter_feed(&f,
			SLICE_LIT("\r\n smtp.mailfrom=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), &out);
		assert_in_range(buf_len(&f.held), 0, AUTH_RESULTS_FIELD_MOST + 100);
	}
	auth_results_filter_feed(&f, SLICE_LIT("\r\nTo: x\r\n\r\n"), &out);
	auth_results_filter_end(&f, &out);
	assert_text(&out, "To: x\r\n\r\n");
	assert_int_equal(f.removed, 1);
	buf_deinit(&out);
}

/* What takes long for each CR must not stand there often. */
static void test_security_12_time_grows_with_size_alone(void **state)
{
	struct buf in = {0};

	(void)state;
	for (unsigned i = 0; i < 400000; i++)
		buf_add_str(&in, i < 200000 ? "\rAuthentication-Result" : "\r(");
	assert_false(auth_results_is_forged(buf_view(&in), ids));
	buf_deinit(&in);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_security_04_values_are_encoded),
		cmocka_unit_test(test_long_values_are_cut),
		cmocka_unit_test(test_security_20_forged_fields_are_known),
		cmocka_unit_test(test_security_20_forged_fields_go_in_passing),
		cmocka_unit_test(test_security_20_ends_of_headers),
		cmocka_unit_test(test_security_12_time_grows_with_size_alone),
		cmocka_unit_test(test_security_12_what_is_held_has_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
