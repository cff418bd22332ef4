/* Address lists, and the normal form of names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/proto/address.h"
#include "common/proto/envelope.h"
#include "tests/unit/feed.h"

static void show(struct buf *out, char mark, struct slice s)
{
	if (s.p)
		buf_printf(out, "%c%.*s", mark, SLICE_ARG(s));
}

/* name=, route~, local:, domain@; groups as { and }. */
static int list_as_text(struct arena *a, struct slice text, struct buf *out)
{
	struct address *list = NULL;
	size_t count = 0;
	int err = address_parse_list(a, text, &list, &count);

	for (size_t i = 0; !err && i < count; i++) {
		if (i)
			buf_add_char(out, ' ');
		if (list[i].kind == ADDRESS_GROUP_BEGIN)
			buf_add_char(out, '{');
		if (list[i].kind == ADDRESS_GROUP_END)
			buf_add_char(out, '}');
		show(out, '=', list[i].name);
		show(out, '~', list[i].route);
		show(out, ':', list[i].local);
		show(out, '@', list[i].domain);
	}
	return err;
}

static const struct {
	const char *text, *want;
} lists[] = {
	{"", ""},
	{" , ,, ", ""},
	{"a@b", ":a@b"},
	{"Joe Q. Public <john.q.public@example.com>", "=Joe Q. Public:john.q.public@example.com"},
	{"\"Giant; \\\"Big\\\" Box\" <x@y>", "=Giant; \"Big\" Box:x@y"},
	{"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
		"=Mary Smith:mary@x.test :jdoe@example.org =Who?:one@y.test"},
	{"A Group:Ed Jones <joe@where.test>,joe@b;", "{=A Group =Ed Jones:joe@where.test :joe@b }"},
	{"Undisclosed recipients:;", "{=Undisclosed recipients }"},
	{"undisclosed-recipients:", "{=undisclosed-recipients }"},
	{"a: x@y; b: z@q;, c@d", "{=a :x@y } {=b :z@q } :c@d"},
	{"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "=Pete:pete@silly.test"},
	{"joe@x (Joe (the) man)", "=Joe (the) man:joe@x"},
	{"<joe@x> (Joe)", "=Joe:joe@x"},
	{"Mary Smith <@node.test,@b.test:mary@x>", "=Mary Smith~@node.test,@b.test:mary@x"},
	{"john . doe @ example . com", ":john.doe@example.com"},
	{"\"john doe\"@x", ":john doe@x"},
	{"<>", ":"},
	{"alice", ":alice"},
	{"user@x.test <user@x.test>", "=user@x.test:user@x.test"},
	{"a@[127.0.0.1]", ":a@[127.0.0.1]"},
	{"a@b\r\n ,\r\n c@d", ":a@b :c@d"},
	{"smith john@x y", "=smith:john@x"},
	{"<a@b, c@d", ":a@b :c@d"},
	{"user@@dom", ":user@@dom"},
	{"(only a comment)", ""},
	{"(comment that ends in \\", ""},
	{"\"quote that ends in \\", ":quote that ends in \\"},
	{"=?utf-8?q?x?= <a@b>", "==?utf-8?q?x?=:a@b"},
	{"\xc3\xa4@\xc3\xb6", ":\xc3\xa4@\xc3\xb6"},
	{"Foo <foo@x> junk, b@c", "=Foo:foo@x :b@c"},
};

static void test_lists_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct buf got = {0};
		struct arena a;
		struct feed_page page = feed_page_copy(slice_str(lists[i].text));

		arena_init(&a, 0);
		assert_int_equal(list_as_text(&a, page.text, &got), 0);
		feed_page_free(&page);
		if (!slice_is_str(buf_view(&got), lists[i].want))
			fail_msg("%s: got %s want %s", lists[i].text, buf_str_view(&got), lists[i].want);
		buf_deinit(&got);
		arena_deinit(&a);
	}
}

/* security 12: addresses of one header are capped */
static void test_12_addresses_are_capped(void **state)
{
	static const char *pieces[] = {"a@b,", "a:;", "g:x,", ":", ";", ",", "<", "(", "\""};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		struct buf text = {0};
		struct arena a;
		struct address *list = NULL;
		size_t count = 0;

		arena_init(&a, 0);
		for (int n = 0; n < 50000; n++)
			buf_add_str(&text, pieces[i]);
		assert_int_equal(address_parse_list(&a, buf_view(&text), &list, &count), 0);
		assert_true(count <= ADDRESS_LIST_MAX + 1);
		if (i < 2)
			assert_true(count >= ADDRESS_LIST_MAX);
		buf_deinit(&text);
		arena_deinit(&a);
	}
}

static void test_names_have_one_form(void **state)
{
	static const struct {
		const char *text, *full, *detail; /* full NULL: refused */
	} rows[] = {
		{"alice", "alice", ""},
		{"Alice@Example.COM", "alice@example.com", ""},
		{"Alice+News@Example.com", "alice@example.com", "News"},
		{"alice+a+b@x", "alice@x", "a+b"},
		{"alice+@x", "alice@x", ""},
		{"+x@y", "+x@y", ""},
		{"alice@example.com.", "alice@example.com", ""},
		{"\"Al ice\"@x", "al ice@x", ""},
		{"\"a\\\"b@c\"@x", "a\"b@c@x", ""},
		{"\xc3\x84rger@M\xc3\xbcller.Example", "\xc3\xa4rger@xn--mller-kva.example", ""},
		{"a\xcc\x88@x", "\xc3\xa4@x", ""}, /* NFD */
		{"stra\xc3\x9f"
		 "e@fa\xc3\x9f.de",
			"strasse@xn--fa-hia.de", ""},
		{"a@XN--MLLER-KVA.example", "a@xn--mller-kva.example", ""},
		{"a@[127.0.0.1]", "a@[127.0.0.1]", ""},
		{"", NULL, NULL},
		{"@x", NULL, NULL},
		{"a@", NULL, NULL},
		{"a@.", NULL, NULL},
		{"a@b..c", NULL, NULL},
		{"a@b..", NULL, NULL},
		{"a@b c", NULL, NULL},
		{"a@[x", NULL, NULL},
		{"a\r\n@x", NULL, NULL},
		{"a\xff@x", NULL, NULL},
		{"\"\"@x", NULL, NULL},
		{"a@\xe2\x98\x83.example", NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arena a;
		struct address_name name;
		int err;

		arena_init(&a, 0);
		err = address_normalise(&a, slice_str(rows[i].text), &name);
		if (!rows[i].full) {
			if (err != ERR_SYNTAX)
				fail_msg("%s: %d", rows[i].text, err);
		} else {
			if (err || !slice_is_str(name.full, rows[i].full) ||
				!slice_is_str(name.detail, rows[i].detail))
				fail_msg("%s: %d got %.*s + %.*s", rows[i].text, err, SLICE_ARG(name.full),
					SLICE_ARG(name.detail));
			/* the normal form is its own normal form */
			if (!strpbrk(rows[i].full, " \"") && !strchr(rows[i].full, '+')) {
				struct address_name again;

				assert_int_equal(address_normalise(&a, name.full, &again), 0);
				assert_true(slice_is_equal(again.full, name.full));
			}
		}
		arena_deinit(&a);
	}
}

static void test_long_names_are_refused(void **state)
{
	char text[2000];
	struct address_name name;
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	memset(text, 'a', sizeof(text));
	assert_int_equal(address_normalise(&a, slice_of(text, sizeof(text)), &name), ERR_TOO_BIG);
	assert_int_equal(address_normalise(&a, slice_of(text, ADDRESS_MAX + 1), &name), ERR_TOO_BIG);
	assert_int_equal(address_normalise(&a, slice_of(text, ADDRESS_MAX), &name), 0);
	assert_int_equal(address_normalise_whole(&a, slice_str("A+B@c"), &name), 0);
	assert_true(slice_is_str(name.full, "a+b@c"));
	arena_deinit(&a);
}

static bool normalise_in(void *arg)
{
	struct arena a;
	struct address_name name;
	struct buf text = {0};
	int err, err2;

	(void)arg;
	arena_init(&a, 0);
	err = address_normalise(&a, slice_str("\"\xc3\x84+x\"@M\xc3\xbcller.example"), &name);
	err2 = list_as_text(&a, slice_str("a@b, c: d@e;"), &text);
	assert_true(err == 0 || err == ERR_TOO_BIG);
	assert_true(err2 == 0 || err2 == ERR_TOO_BIG);
	buf_deinit(&text);
	arena_deinit(&a);
	return !err && !err2;
}

static void test_a_full_arena_is_said(void **state)
{
	(void)state;
	assert_true(feed_failing_arena(normalise_in, NULL) > 5);
}

static void test_envelopes_are_written(void **state)
{
	static const struct {
		const char *header, *want;
	} rows[] = {
		{"", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"},
		{"Subject: a\\b \"c\"\r\nDate:x\r\nFrom: A <a@b>\r\nTo: c@d\r\nSubject: second\r\nTO: "
		 "e\r\nMessage-ID: <m>\r\n"
		 "In-Reply-To:\r\n <r>\r\n",
			"(\"x\" \"a\\\\b \\\"c\\\"\" ((\"A\" NIL \"a\" \"b\")) ((\"A\" NIL \"a\" \"b\")) "
			"((\"A\" NIL \"a\" \"b\")) "
			"((NIL NIL \"c\" \"d\")(NIL NIL \"e\" \"\")) NIL NIL \"<r>\" \"<m>\")"},
		{"From: a@b\nSender: s@t\nReply-To:\nSubject: \xe4\nCc: G: x@y;\nBcc: <@r:q@z>\n",
			"(NIL {1}\r\n\xe4 ((NIL NIL \"a\" \"b\")) ((NIL NIL \"s\" \"t\")) ((NIL NIL \"a\" "
			"\"b\")) NIL ((NIL NIL \"G\" "
			"NIL)(NIL NIL \"x\" \"y\")(NIL NIL NIL NIL)) ((NIL \"@r\" \"q\" \"z\")) NIL NIL)"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct header_reader r;
		struct header_field field;
		struct envelope e = {0};
		struct buf got = {0};
		struct arena a;

		arena_init(&a, 0);
		header_reader_init(&r, slice_str(rows[i].header));
		while (header_next(&r, &field))
			assert_int_equal(envelope_take_field(&e, &a, field.name, field.value), 0);
		assert_int_equal(envelope_write(&e, &a, &got), 0);
		if (!slice_is_str(buf_view(&got), rows[i].want))
			fail_msg("row %zu: got %s", i, buf_str_view(&got));
		buf_deinit(&got);
		arena_deinit(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists_are_read),
		cmocka_unit_test(test_12_addresses_are_capped),
		cmocka_unit_test(test_names_have_one_form),
		cmocka_unit_test(test_long_names_are_refused),
		cmocka_unit_test(test_a_full_arena_is_said),
		cmocka_unit_test(test_envelopes_are_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
