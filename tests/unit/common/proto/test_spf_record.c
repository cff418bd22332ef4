/* The grammar of SPF records (RFC 7208), and what the checker gets of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/spf_record.h"
#include "tests/unit/feed.h"

static void test_which_texts_are_records(void **state)
{
	static const struct {
		const char *text;
		bool is_one;
	} rows[] = {{"v=spf1", true}, {"v=spf1 ", true}, {"V=SPF1 -all", true}, {"v=spf10", false},
		{"v=spf1\t-all", false}, {" v=spf1", false}, {"v=spf", false}, {"", false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (spf_record_is_one(slice_str(rows[i].text)) != rows[i].is_one)
			fail_msg("%s", rows[i].text);
}

/* The terms behind "v=spf1 "; want: what an IPv4 client's checker gets behind it, NULL: refused. */
static const struct {
	const char *terms, *want4, *want6;
} rows[] = {
	{"", "", ""},
	{"-all", " -all", " -all"},
	{"  a   mx  ", " +a/32 +mx/32", " +a//128 +mx//128"},
	{"A:X.TEST/24//64 ?all", " +a:X.TEST/24 ?all", " +a:X.TEST//64 ?all"},
	{"a//64", " +a/32", " +a//64"},
	{"mx:%{d2}.x.test/8", " +mx:%{d}.x.test/8", " +mx:%{d}.x.test//128"},
	{"ip4:192.0.2.0/24 ip6:2001:db8::/32 ~all", " +ip4:192.0.2.0/24 ~all", " +ip6:2001:db8::/32 ~all"},
	{"-ip4:0.0.0.0/0 ip6:::/0", " -all", " +all"},
	{"a:x.test./0//0", " +a:x.test.any-address.invalid", " +a:x.test.any-address.invalid"},
	{"mx/0", " +mx:%{d}.any-address.invalid", " +mx//128"},
	{"include:x.test exists:%{ir}.%{v}._spf.%{d3r} ptr ptr:x.test",
		" +include:x.test +exists:%{ir}.%{v}._spf.%{dr} +ptr +ptr:x.test",
		" +include:x.test +exists:%{ir}.%{v}._spf.%{dr} +ptr +ptr:x.test"},
	{"exists:%{d1}.%{l1r-}.%{s2}.%{p2}.%{o1}.x", " +exists:%{d1}.%{l1r-}.%{s2}.%{p2}.%{o1}.x",
		" +exists:%{d1}.%{l1r-}.%{s2}.%{p2}.%{o1}.x"},
	{"redirect=x.test a", " +a/32 redirect=x.test", " +a//128 redirect=x.test"},
	{"redirect=x.test -all a", " -all", " -all"},
	{"exp=x.test -all", " -all", " -all"},
	{"foo=%{t}%{c}%{r} x_y-z.1= -all", " -all", " -all"},
	{"exists:a%%b%_c%-.%{d}", " +exists:a%%b%_c%-.%{d}", " +exists:a%%b%_c%-.%{d}"},
	{"a:foo-bar.test-1x", " +a:foo-bar.test-1x/32", " +a:foo-bar.test-1x//128"},
	{"a:a.%%", " +a:a.%%/32", " +a:a.%%//128"},
	{"-all\t", NULL, NULL},
	{"-all:x.test", NULL, NULL},
	{"all/8", NULL, NULL},
	{"b", NULL, NULL},
	{"a:", NULL, NULL},
	{"a/33", NULL, NULL},
	{"a/", NULL, NULL},
	{"a/08", NULL, NULL},
	{"a//129", NULL, NULL},
	{"a:x.test/8/8", NULL, NULL},
	{"a:x.123", NULL, NULL},
	{"a:x.-y", NULL, NULL},
	{"a:x.y-", NULL, NULL},
	{"a:test", NULL, NULL},
	{"a:%", NULL, NULL},
	{"a:%{x}.test", NULL, NULL},
	{"a:%{c}.test", NULL, NULL},
	{"a:%{d0}.test", NULL, NULL},
	{"a:%{d129}.test", NULL, NULL},
	{"a:%{d999999999999}.test", NULL, NULL},
	{"a:%{dx}.test", NULL, NULL},
	{"a:%{d", NULL, NULL},
	{"a:%(d).test", NULL, NULL},
	{"ip4:1.2.3", NULL, NULL},
	{"ip4:1.2.3.256", NULL, NULL},
	{"ip4:01.2.3.4", NULL, NULL},
	{"ip4:1.2.3.4/33", NULL, NULL},
	{"ip4:1.2.3.4//8", NULL, NULL},
	{"ip4", NULL, NULL},
	{"ip6:1.2.3.4", NULL, NULL},
	{"ip6:::1::", NULL, NULL},
	{"ip6:::1/129", NULL, NULL},
	{"include", NULL, NULL},
	{"exists", NULL, NULL},
	{"redirect=", NULL, NULL},
	{"exp=", NULL, NULL},
	{"redirect=x.test redirect=x.test", NULL, NULL},
	{"exp=x.test exp=x.test", NULL, NULL},
	{"-redirect=x.test", NULL, NULL},
	{"redirect:x.test", NULL, NULL},
	{"foo=%x", NULL, NULL},
	{"a:\xc3\xa4.test", NULL, NULL},
	{"a:x\x01.test", NULL, NULL},
	{"=x", NULL, NULL},
	{"1x=y", NULL, NULL},
};

static int parse(const char *terms, bool is_ip6, struct buf *out)
{
	const struct spf_record_values values = {.is_ip6 = is_ip6,
		.sender = SLICE_LIT("a-b@x.y.test"),
		.helo = SLICE_LIT("h.test"),
		.domain = SLICE_LIT("y.test")};
	struct buf text = {0};
	struct feed_page page;
	struct spf_record record;
	const char *why = NULL;
	int err;

	buf_printf(&text, "v=spf1 %s", terms);
	page = feed_page_copy(buf_view(&text));
	err = spf_record_parse(page.text, &record, &why, NULL);
	assert_true((err != 0) == (why != NULL));
	if (!err)
		spf_record_write(&record, &values, out);
	feed_page_free(&page);
	buf_deinit(&text);
	return err;
}

static void test_security_16_grammar(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned six = 0; six < 2; six++) {
			const char *want = six ? rows[i].want6 : rows[i].want4;
			struct buf out = {0};
			int err = parse(rows[i].terms, six, &out);

			if (err != (want ? 0 : ERR_SYNTAX) ||
				(want && strcmp(buf_str_view(&out) + 6, want) != 0))
				fail_msg("%s: %d %s", rows[i].terms, err, buf_str_view(&out));
			buf_deinit(&out);
		}
}

static void test_security_16_limits(void **state)
{
	static char terms[SPF_RECORD_MOST * 2];
	struct buf out = {0};

	(void)state;
	for (size_t i = 0; i <= SPF_RECORD_TERMS_MOST; i++)
		memcpy(terms + 2 * i, "a ", 2);
	assert_int_equal(parse(terms, false, &out), ERR_TOO_BIG);
	terms[2 * SPF_RECORD_TERMS_MOST] = '\0';
	assert_int_equal(parse(terms, false, &out), 0);
	memset(terms, 'a', SPF_RECORD_MOST);
	terms[SPF_RECORD_MOST] = '\0';
	assert_int_equal(parse(terms, false, &out), ERR_TOO_BIG);
	memcpy(terms, "a:", 2);
	memset(terms + 2, 'a', SPF_RECORD_SPEC_MOST - 5);
	memcpy(terms + 2 + SPF_RECORD_SPEC_MOST - 5, ".test", 6);
	assert_int_equal(parse(terms, false, &out), 0);
	memcpy(terms + 2 + SPF_RECORD_SPEC_MOST - 5, "a.test", 7);
	assert_int_equal(parse(terms, false, &out), ERR_TOO_BIG);
	buf_deinit(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_which_texts_are_records),
		cmocka_unit_test(test_security_16_grammar),
		cmocka_unit_test(test_security_16_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
