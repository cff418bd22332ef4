/* The text of a file map: every form of entry, every refusal with its line, and the precedence of look-ups.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "mapping/map_parse.h"
#include "tests/unit/feed.h"

static const char *const backends[] = {"b1", "b2", "b3", "mx.example.net", NULL};
#define SHA "{SSHA}TtBQYStSsSXDudnbKWGpwjBUNfBzYWx0c2FsdA=="

static int parse(const char *text, bool ports, bool others, struct buf *why, struct map_data **data_out)
{
	struct map_parse_options o = {
		.file = "users", .backends = backends, .ports = ports, .readable_by_others = others};
	struct map_parse_info info;

	return map_parse(slice_str(text), &o, why, &info, data_out);
}

static struct map_data *good(const char *text)
{
	struct map_data *d = NULL;
	struct buf why = {0};

	if (parse(text, true, false, &why, &d))
		fail_msg("refused: %s", buf_str_view(&why));
	buf_deinit(&why);
	return d;
}

/* "account>back-end[:port] line" of what is found, "none", "not now". */
static const char *find(const struct map_data *d, const char *name)
{
	static char text[1024];
	char account[USERMAP_ADDRESS_MOST + 1];
	struct map_entry e;
	int error = map_data_find(d, slice_str(name), &e, account, NULL, NULL);
	size_t n;

	if (error)
		return error == ERR_NOT_FOUND ? "none" : "not now";
	n = (size_t)snprintf(text, sizeof(text), "%.*s>%s", SLICE_ARG(e.account),
		e.targets.count ? ""
		: e.send_only   ? "send-only"
				: "-");
	for (unsigned i = 0; i < e.targets.count; i++) {
		const struct map_target *t = &e.targets.at[i];

		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s%.*s%s%.0u", i ? ", " : "",
			t->kind == USERMAP_HOST ? "host " : "", SLICE_ARG(t->name), t->port ? ":" : "",
			t->port);
	}
	snprintf(text + n, sizeof(text) - n, " %u", e.line);
	return text;
}

static void test_the_example_of_the_manual(void **state)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
		{"alice@example.com", "alice@example.com>b1 2"},
		{"alice+news@example.com", "alice@example.com>b1 2"},
		{"bob@example.com", "robert@example.com>b2 3"},
		{"bob+x@example.com", "robert@example.com>b2 3"},
		{"carol@example.com", "carol@example.com>send-only 4"},
		{"nobody@example.org", "nobody@example.org>b2 5"},
		{"nobody+x@example.org", "nobody@example.org>b2 5"},
		{"kim@example.net", "kim@example.net>host 10.0.0.12 6"},
		{"zoe@example.net", "zoe@example.net>b3 7"},
		{"bare", "bare>b3 7"},
		{"+x@example.com", "+x@example.com>b3 7"},
	};
	struct map_data *d =
		good("# user or address          back-end      options\n"
		     "alice@example.com          b1\n"
		     "bob@example.com            b2            account=robert@example.com password=" SHA "\n"
		     "carol@example.com          -             send-only\n"
		     "@example.org               b2\n"
		     "/^[a-m][^@]*@example\\.net$/   10.0.0.12\n"
		     "*                          b3\n");

	(void)state;
	assert_int_equal(map_data_count(d), 6);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(find(d, rows[i].name), rows[i].want);
	map_data_unref(&d);
}

/* Each rule wins over all that come after it, wherever they stand in the file. */
static void test_precedence(void **state)
{
	static const char *const lines[] = {
		"*  b1\n", "/a.*@x\\.y$/  b1\n", "@x.y  b1\n", "abc@x.y  b1\n", "abc+d@x.y  b1\n"};
	char text[200] = "";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		char want[64];
		struct map_data *d;
		size_t len = strlen(text);

		/* Weakest first, then strongest first. */
		snprintf(text + len, sizeof(text) - len, "%s", lines[i]);
		d = good(text);
		snprintf(want, sizeof(want), "%s>b1 %zu", i == 4 ? "abc+d@x.y" : "abc@x.y", i + 1);
		assert_string_equal(find(d, "abc+d@x.y"), want);
		map_data_unref(&d);
	}
	text[0] = 0;
	for (size_t i = ARRAY_LEN(lines); i-- > 0;) {
		size_t len = strlen(text);
		struct map_data *d;

		snprintf(text + len, sizeof(text) - len, "%s", lines[i]);
		d = good(text);
		assert_string_equal(find(d, "abc+d@x.y"), "abc+d@x.y>b1 1");
		map_data_unref(&d);
	}
}

static void test_expressions_go_in_file_order(void **state)
{
	struct map_data *d = good("/a/ b1\n/^ab/ b2\n/\\// b3\n/x y/ b3\n/B\\.C$/ b2\n");

	(void)state;
	assert_string_equal(find(d, "ab"), "ab>b1 1");
	assert_string_equal(find(d, "b/c"), "b/c>b3 3");
	assert_string_equal(find(d, "x y"), "x y>b3 4");
	assert_string_equal(find(d, "q@b.c"), "q@b.c>b2 5");
	assert_string_equal(find(d, "qqq"), "none");
	map_data_unref(&d);
}

/* One that explodes says neither yes nor no, and soon. */
static void test_an_expression_has_a_limit(void **state)
{
	struct map_data *d = good("/^(a+)+$/ b1\n* b2\n");
	uint64_t start = clock_mono_ms();

	(void)state;
	assert_string_equal(
		find(d, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab@x"),
		"not now");
	assert_string_equal(find(d, "bbb"), "bbb>b2 2");
	assert_true(clock_mono_ms() - start < 500);
	map_data_unref(&d);
}

static void test_spellings_are_one(void **state)
{
	struct map_data *d = good("ALICE@Example.COM b1\r\n"
				  "J\xc3\x9cRGEN@example.com b2\n"
				  "u\xcc\x88@example.com b2\n"
				  "x@B\xc3\x9c"
				  "CHER.example b3\n"
				  "@M\xc3\xbcnchen.example b3\n"
				  "\"john doe\"@example.com b1\n"
				  "\"plain@example.com\"  b1   account=\"Plain@Example.com\"   # a comment\n"
				  "bare b1\n"
				  "\xc3\x9f@example.com -\n");

	(void)state;
	assert_string_equal(find(d, "alice@example.com"), "alice@example.com>b1 1");
	assert_string_equal(find(d, "j\xc3\xbcrgen@example.com"), "j\xc3\xbcrgen@example.com>b2 2");
	assert_string_equal(find(d, "\xc3\xbc@example.com"), "\xc3\xbc@example.com>b2 3");
	assert_string_equal(find(d, "x@xn--bcher-kva.example"), "x@xn--bcher-kva.example>b3 4");
	assert_string_equal(find(d, "any@xn--mnchen-3ya.example"), "any@xn--mnchen-3ya.example>b3 5");
	assert_string_equal(find(d, "plain@example.com"), "plain@example.com>b1 7");
	assert_string_equal(find(d, "bare"), "bare>b1 8");
	assert_string_equal(find(d, "john doe@example.com"), "john doe@example.com>b1 6");
	map_data_unref(&d);
}

static void test_targets(void **state)
{
	static const struct {
		const char *target, *want;
	} rows[] = {
		{"b2", "u>b2 1"},
		{"mx.example.net", "u>mx.example.net 1"}, /* a back-end of that name */
		{"mx.example.org", "u>host mx.example.org 1"},
		{"MX.Example.Org", "u>host mx.example.org 1"},
		{"mx.example.org:2525", "u>host mx.example.org:2525 1"},
		{"10.0.0.12", "u>host 10.0.0.12 1"},
		{"10.0.0.12:143", "u>host 10.0.0.12:143 1"},
		{"2001:db8::1", "u>host 2001:db8::1 1"},
		{"[2001:db8::1]", "u>host 2001:db8::1 1"},
		{"[2001:DB8::1]:65535", "u>host 2001:db8::1:65535 1"},
		{"-", "u>- 1"},
		{"-  send-only", "u>send-only 1"},
		{"b2,b1", "u>b2, b1 1"},
		{"b1,MX.Example.Org:2525,b3,", "u>b1, host mx.example.org:2525, b3 1"},
		{"b1,b2,b3,10.0.0.12", "u>b1, b2, b3, host 10.0.0.12 1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[100];
		struct map_data *d;

		snprintf(text, sizeof(text), "u %s\n", rows[i].target);
		d = good(text);
		assert_string_equal(find(d, "u"), rows[i].want);
		map_data_unref(&d);
	}
}

static void test_option_values(void **state)
{
	char account[USERMAP_ADDRESS_MOST + 1];
	struct map_entry e;
	struct map_data *d = good("a b1 password=\"{PLAIN}two \\\"words\\\" \\\\ #1\" account=B@X.y\n"
				  "c - password={PLAIN}#=x send-only # why\n");

	(void)state;
	assert_int_equal(map_data_find(d, slice_str("a"), &e, account, NULL, NULL), 0);
	assert_true(slice_is_str(e.password, "{PLAIN}two \"words\" \\ #1"));
	assert_true(slice_is_str(e.account, "b@x.y"));
	assert_int_equal(map_data_find(d, slice_str("c"), &e, account, NULL, NULL), 0);
	assert_true(slice_is_str(e.password, "{PLAIN}#=x"));
	assert_true(e.send_only);
	assert_int_equal(e.targets.count, 0);
	map_data_unref(&d);
}

static void test_faults_have_file_line_and_reason(void **state)
{
	static const struct {
		const char *text, *want; /* want: how the words begin */
	} rows[] = {
		{"a b1\nb b1\na b2\n", "users:3: a stands on line 1 already"},
		{"A@x.y b1\na@X.Y b1\n", "users:2: a@x.y stands on line 1 already"},
		{"a@x.y b1\n\n#\n@x.y b1\n@X.y b2\n", "users:5: @x.y stands on line 4 already"},
		{"* b1\n* b2\n", "users:2: * stands on line 1 already"},
		{"/a/ b1\n/a/ b2\n", "users:2: a stands on line 1 already"},
		{"a b9\n", "users:1: \"b9\" is no back-end"},
		{"a B1\n", "users:1: \"B1\" is no back-end"},
		{"a b1:143\n", "users:1: \"b1:143\" is no back-end"},
		{"a 10.0.0.256\n", "users:1: \"10.0.0.256\" is no back-end"},
		{"a 10.0.0.1:0\n", "users:1: \"10.0.0.1:0\" is no back-end"},
		{"a 10.0.0.1:65536\n", "users:1: \"10.0.0.1:65536\" is no back-end"},
		{"a x..y\n", "users:1: \"x..y\" is no back-end"},
		{"a [10.0.0.1]:25\n", "users:1: \"[10.0.0.1]:25\" is no back-end"},
		{"a [::1\n", "users:1: \"[::1\" is no back-end"},
		{"a [::1]25\n", "users:1: \"[::1]25\" is no back-end"},
		{"a x.y;id\n", "users:1: \"x.y;id\" is no back-end"},
		{"a\n", "users:1: no back-end behind \"a\""},
		{"a # b1\n", "users:1: no back-end behind \"a\""},
		{"/(/ b1\n", "users:1: bad expression: "},
		{"/a b1\n", "users:1: a quote or an expression is not closed"},
		{"/a/b b1\n", "users:1: a quote or an expression is not closed"},
		{"// b1\n", "users:1: \"//\" is no user"},
		{"\"a b1\n", "users:1: a quote or an expression is not closed"},
		{"@ b1\n", "users:1: \"@\" is no user"},
		{"@x_y..z b1\n", "users:1: \"@x_y..z\" is no user"},
		{"a@ b1\n", "users:1: \"a@\" is no user"},
		{"a\xff b1\n", "users:1: no well-formed UTF-8"},
		{"a b1 nonsense\n", "users:1: \"nonsense\" is no option"},
		{"a b1 account\n", "users:1: \"account\" is no option"},
		{"a b1 send-only=yes\n", "users:1: \"send-only\" is no option"},
		{"a b1 account=\n", "users:1: account= is no address"},
		{"a b1 account=@x\n", "users:1: account=@x is no address"},
		{"a b1 account=x account=y\n", "users:1: account= stands there twice"},
		{"a b1 account=x\"y\n", "users:1: a quote is not closed"},
		{"a b1 account=x\"y\"\n", "users:1: account=: quotes belong around the whole value"},
		{"a b1 send-only\n", "users:1: send-only needs \"-\""},
		{"a - send-only send-only\n", "users:1: send-only stands there twice"},
		{"a b1 password=secret\n", "users:1: password={?}: no scheme that is known"},
		{"a b1 password={PLAIN}\n", "users:1: password={PLAIN}: "},
		{"a b1 password={PLAIN}x password={PLAIN}x\n", "users:1: password= stands there twice"},
		{"a b1 "
		 "password=$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/"
		 "uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n",
			"users:1: password={ARGON2ID}: argon2 asks for more than 256 MiB"},
		{"a b1\nb b", "users:2: \"b\" is no back-end"},
		{"a b1\nb b1", "users:2: the last line has no line end"},
		{"", "users:1: the file is empty"},
		{"# nothing\n\n", "users:1: the file is empty"},
		{"a b1\n# end 2\n", "users:2: \"# end\" says 2 entries, there are 1"},
		{"a b1\n# end 1\nb b1\n", "users:3: an entry after the line \"# end\" (line 2)"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct map_data *d = NULL;
		struct buf why = {0};

		assert_int_equal(parse(rows[i].text, true, false, &why, &d), ERR_SYNTAX);
		assert_null(d);
		if (!slice_has_prefix(buf_view(&why), rows[i].want))
			fail_msg("%s: got %s want %s", rows[i].text, buf_str_view(&why), rows[i].want);
		buf_deinit(&why);
	}
}

static void test_what_depends_on_the_map(void **state)
{
	struct map_data *d = NULL;
	struct buf why = {0};

	(void)state;
	assert_int_equal(parse("a 10.0.0.1:25\n", false, false, &why, &d), ERR_SYNTAX);
	assert_string_equal(buf_str_view(&why),
		"users:1: \"10.0.0.1:25\": a port is refused in a map that several protocols use");
	buf_clear(&why);
	assert_int_equal(parse("a b1\nb b1 password=" SHA "\n", true, true, &why, &d), ERR_SYNTAX);
	assert_true(slice_has_prefix(buf_view(&why), "users:2: a password in a file that others can read"));
	buf_clear(&why);
	assert_int_equal(parse("a b1\n", true, true, &why, &d), 0);
	map_data_unref(&d);
	buf_deinit(&why);
}

static void test_all_faults_are_told_up_to_a_limit(void **state)
{
	struct map_data *d = NULL;
	struct buf text = {0}, why = {0};

	(void)state;
	for (unsigned i = 0; i < 30; i++)
		buf_printf(&text, "user%u nowhere\n", i);
	assert_int_equal(parse(buf_str_view(&text), true, false, &why, &d), ERR_SYNTAX);
	assert_non_null(strstr(buf_str_view(&why), "users:20: "));
	assert_null(strstr(buf_str_view(&why), "users:21: "));
	assert_non_null(strstr(buf_str_view(&why), "\nusers: and 10 faults more"));
	buf_deinit(&text);
	buf_deinit(&why);
}

static void test_the_end_line(void **state)
{
	static const struct {
		const char *text;
		size_t count;
		bool end;
	} rows[] = {
		{"a b1\n# end 1\n", 1, true},
		{"a b1\n# end 1", 1, true},
		{"# end 0\n", 0, true},
		{"a b1\n#end 1\n", 1, false},
		{"a b1\n# end of it\n", 1, false},
		{"a b1\n# end 1\n# more words\n\n", 1, true},
		{"\xef\xbb\xbf"
		 "a b1\n",
			1, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct map_parse_options o = {.file = "users", .backends = backends};
		struct map_parse_info info;
		struct map_data *d = NULL;
		struct buf why = {0};

		assert_int_equal(map_parse(slice_str(rows[i].text), &o, &why, &info, &d), 0);
		assert_int_equal(map_data_count(d), rows[i].count);
		assert_int_equal(info.has_end, rows[i].end);
		map_data_unref(&d);
		buf_deinit(&why);
	}
}

static void security_13_hostile_names_find_nothing(void **state)
{
	static const char *const names[] = {
		"", "@", "@x.y", "*", "/a/", "a\xff", "\xff\xfe@x.y", "+", "+@x.y", "@@", "a@x.y@"};
	char big[USERMAP_ADDRESS_MOST + 2];
	struct map_data *d = good("a@x.y b1\n@x.y b2\n/zzz/ b3\n");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *got = find(d, names[i]);

		if (!strcmp(names[i], "\xff\xfe@x.y") || !strcmp(names[i], "+@x.y"))
			continue; /* of that domain, whoever it is */
		if (strcmp(got, "none") && strcmp(got, "not now"))
			fail_msg("\"%s\": got %s", names[i], got);
	}
	memset(big, 'a', sizeof(big));
	memcpy(big + sizeof(big) - 5, "@x.y", 5);
	assert_string_equal(find(d, big), "none");
	map_data_unref(&d);
}

static void test_many_entries_are_all_found(void **state)
{
	struct buf text = {0};
	struct map_data *d;

	(void)state;
	for (unsigned i = 0; i < 20000; i++)
		buf_printf(&text, "user%07u@example.com b%u\n", i, i % 3 + 1);
	d = good(buf_str_view(&text));
	for (unsigned i = 0; i < 20000; i += 7) {
		char name[64], want[96];

		snprintf(name, sizeof(name), "user%07u@example.com", i);
		snprintf(want, sizeof(want), "%s>b%u %u", name, i % 3 + 1, i + 1);
		assert_string_equal(find(d, name), want);
		name[5] = 'x';
		assert_string_equal(find(d, name), "none");
	}
	assert_true(map_data_bytes(d) / map_data_count(d) <= 100);
	map_data_unref(&d);
	buf_deinit(&text);
}

/* Cut anywhere, at the end of a page that nothing may be read beyond: taken or refused, and nothing between.
 */
static void test_a_text_cut_anywhere(void **state)
{
	static const char text[] =
		"# c\n\"j d\"@x.y b1 account=\"q\\\"r@x.y\" password={PLAIN}x\n/a\\/b/ [::1]:25\n"
		"@x.y - send-only\n* mx.example.org:25 # d\nJ\xc3\x9c@x.y b2\n# end 5";

	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		struct map_parse_options o = {.file = "users", .backends = backends, .ports = true};
		struct feed_page page = feed_page_copy(slice_of(text, n));
		struct map_data *d = NULL;
		struct map_parse_info info;
		struct buf why = {0};
		int error = map_parse(page.text, &o, &why, &info, &d);

		assert_int_equal(error == 0, d != NULL);
		assert_int_equal(error == 0, buf_len(&why) == 0);
		if (n == sizeof(text) - 1)
			assert_int_equal(error, 0);
		map_data_unref(&d);
		buf_deinit(&why);
		feed_page_free(&page);
	}
}

static bool parse_whole(void *arg)
{
	struct map_data *d = NULL;
	struct buf why = {0};
	int error = parse(arg, true, false, &why, &d);

	map_data_unref(&d);
	buf_deinit(&why);
	return error == 0;
}

static void test_memory_that_fails_refuses_the_file(void **state)
{
	char text[] = "\"j d\"@x.y b1 account=\"q@x.y\"\n@X.y 10.0.0.1\nJ\xc3\x9c@x.y b2\n";

	(void)state;
	assert_true(feed_failing_arena(parse_whole, text) > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_example_of_the_manual),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_expressions_go_in_file_order),
		cmocka_unit_test(test_an_expression_has_a_limit),
		cmocka_unit_test(test_spellings_are_one),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_option_values),
		cmocka_unit_test(test_faults_have_file_line_and_reason),
		cmocka_unit_test(test_what_depends_on_the_map),
		cmocka_unit_test(test_all_faults_are_told_up_to_a_limit),
		cmocka_unit_test(test_the_end_line),
		cmocka_unit_test(security_13_hostile_names_find_nothing),
		cmocka_unit_test(test_many_entries_are_all_found),
		cmocka_unit_test(test_a_text_cut_anywhere),
		cmocka_unit_test(test_memory_that_fails_refuses_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
