/* IMAP responses: the fields of each kind, literals, limits, every prefix asks for more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/proto/imap_reply.h"
#include "tests/unit/feed.h"

static const struct {
	const char *in;
	int err;
	const char *want; /* kind status tag/name number code code_args text */
} rows[] = {
	{"* OK [CAPABILITY IMAP4rev1 SASL-IR] ready\r\n", 0,
		"0 1 '' '' 0 'CAPABILITY' 'IMAP4rev1 SASL-IR' 'ready'"},
	{"* OK ready\n", 0, "0 1 '' '' 0 '' '' 'ready'"},
	{"* PREAUTH hi\r\n", 0, "0 4 '' '' 0 '' '' 'hi'"},
	{"* BYE\r\n", 0, "0 5 '' '' 0 '' '' ''"},
	{"* CAPABILITY IMAP4rev1 IDLE\r\n", 0, "0 0 '' 'CAPABILITY' 0 '' '' 'IMAP4rev1 IDLE'"},
	{"* 3 EXISTS\r\n", 0, "0 0 '' 'EXISTS' 3 '' '' ''"},
	{"* ID (\"name\" {3}\r\nx y)\r\n", 0, "0 0 '' 'ID' 0 '' '' '(\"name\" {3}\r\nx y)'"},
	{"A1 OK [CAPABILITY X] Logged in\r\n", 0, "1 1 'A1' '' 0 'CAPABILITY' 'X' 'Logged in'"},
	{"A1 NO [UNAVAILABLE] later\r\n", 0, "1 2 'A1' '' 0 'UNAVAILABLE' '' 'later'"},
	{"A1 NO [X \"]\"] later\r\n", 0, "1 2 'A1' '' 0 'X' '\"]\"' 'later'"},
	{"A1 NO [X later\r\n", 0, "1 2 'A1' '' 0 '' '' '[X later'"},
	{"A1 BAD\r\n", 0, "1 3 'A1' '' 0 '' '' ''"},
	{"+\r\n", 0, "2 0 '' '' 0 '' '' ''"},
	{"+ \r\n", 0, "2 0 '' '' 0 '' '' ''"},
	{"+ abc\r\n", 0, "2 0 '' '' 0 '' '' 'abc'"},
	{"A1 BYE x\r\n", ERR_SYNTAX, NULL},
	{"* \r\n", ERR_SYNTAX, NULL},
	{"A- OK x\r\n", ERR_SYNTAX, NULL},
	{"OK\r\n", ERR_SYNTAX, NULL},
	{"\r\n", ERR_SYNTAX, NULL},
	{"HTTP/1.1 400 Bad\r\n", ERR_SYNTAX, NULL},
	{"* X {99999}\r\n", ERR_TOO_BIG, NULL},
	{"* X {18446744073709551615}\r\n", ERR_TOO_BIG, NULL},
};

static void test_replies_are_cut_to_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].in));
		struct imap_reply r;
		struct buf got = {0};
		ssize_t n = imap_reply_parse(page.text, &r);

		assert_int_equal(n, rows[i].err ? rows[i].err : (ssize_t)page.text.len);
		if (n > 0)
			buf_printf(&got, "%d %d '%.*s' '%.*s' %u '%.*s' '%.*s' '%.*s'", r.kind, r.status,
				SLICE_ARG(r.tag), SLICE_ARG(r.name), r.number, SLICE_ARG(r.code),
				SLICE_ARG(r.code_args), SLICE_ARG(r.text));
		assert_string_equal(buf_str_view(&got), rows[i].want ? rows[i].want : "");
		for (size_t cut = 0; cut < page.text.len && n > 0; cut++)
			assert_int_equal(imap_reply_parse(slice_sub(page.text, 0, cut), &r), 0);
		buf_deinit(&got);
		feed_page_free(&page);
	}
}

static void test_a_reply_without_an_end_is_too_big(void **state)
{
	static char in[IMAP_REPLY_MOST];
	struct imap_reply r;

	(void)state;
	memset(in, 'x', sizeof(in));
	assert_int_equal(imap_reply_parse(slice_of(in, sizeof(in) - 1), &r), 0);
	assert_int_equal(imap_reply_parse(slice_of(in, sizeof(in)), &r), ERR_TOO_BIG);
}

static void test_capabilities_are_found_in_both_places(void **state)
{
	struct imap_reply r;
	struct slice list;

	(void)state;
	assert_true(imap_reply_parse(SLICE_LIT("* OK [CAPABILITY IMAP4rev1  sasl-ir] x\r\n"), &r) > 0);
	assert_true(imap_reply_capabilities(&r, &list));
	assert_true(imap_reply_has_word(list, "SASL-IR"));
	assert_false(imap_reply_has_word(list, "SASL"));
	assert_true(imap_reply_parse(SLICE_LIT("* CAPABILITY IDLE\r\n"), &r) > 0);
	assert_true(imap_reply_capabilities(&r, &list));
	assert_true(imap_reply_has_word(list, "IDLE"));
	assert_true(imap_reply_parse(SLICE_LIT("a OK x\r\n"), &r) > 0);
	assert_false(imap_reply_capabilities(&r, &list));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replies_are_cut_to_fields),
		cmocka_unit_test(test_a_reply_without_an_end_is_too_big),
		cmocka_unit_test(test_capabilities_are_found_in_both_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
