/* security 12, 10: IMAP commands, whole and in pieces, search keys, FETCH items and sets take linear time, also without the limits of a session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/proto/imap_fetch_items.h"
#include "common/proto/imap_parse.h"
#include "common/proto/imap_search_key.h"
#include "common/proto/seqset.h"
#include "tests/unit/linear.h"

static const struct imap_parse_limits no_limits = {
	.line = SIZE_MAX / 2,
	.command = SIZE_MAX / 2,
	.literal = SIZE_MAX / 2,
	.literal_total = SIZE_MAX / 2,
	.literals = UINT32_MAX / 2,
	.args = UINT32_MAX / 2,
	.nodes = UINT32_MAX / 2,
	.depth = 100,
	.skip = SIZE_MAX / 2,
	.nonsync = IMAP_LITERALS_PLUS,
};

/* The text comes in pieces; what is not taken yet is given again, as a session's buffer does. NULL: it was no command. */
static const struct imap_arg *parse(struct slice text, size_t step, struct arena *a)
{
	struct imap_parse p;
	enum imap_parse_event event = IMAP_PARSE_MORE;
	size_t at = 0, end = 0;

	arena_init(a, 0);
	imap_parse_start(&p, &no_limits, a);
	while (event == IMAP_PARSE_MORE || event == IMAP_PARSE_LITERAL) {
		ssize_t n = imap_parse_feed(&p, slice_sub(text, at, end - at), &event);

		assert_true(n >= 0);
		at += (size_t)n;
		if (event == IMAP_PARSE_LITERAL)
			assert_int_equal(imap_parse_hold(&p), 0);
		else if (event == IMAP_PARSE_MORE && end == text.len)
			break;
		if (event == IMAP_PARSE_MORE)
			end = text.len - end < step ? text.len : end + step;
	}
	return event == IMAP_PARSE_COMMAND ? p.command.args : NULL;
}

static void work_whole(struct slice text)
{
	struct arena a;

	(void)!parse(text, text.len, &a);
	arena_deinit(&a);
}

static void work_pieces(struct slice text)
{
	struct arena a;

	(void)!parse(text, 50, &a);
	arena_deinit(&a);
}

static void work_search(struct slice text)
{
	struct arena a;
	const struct imap_arg *args = parse(text, text.len, &a);
	struct imap_search search = {0};

	assert_non_null(args);
	(void)!imap_search_key_parse(args, &a, &search);
	arena_deinit(&a);
}

static void work_fetch(struct slice text)
{
	struct arena a;
	const struct imap_arg *args = parse(text, text.len, &a);
	struct imap_fetch_items items = {0};

	assert_non_null(args);
	(void)!imap_fetch_items_parse(args, &a, &items);
	arena_deinit(&a);
}

static void work_set(struct slice text)
{
	struct arena a;
	struct seqset set;

	arena_init(&a, 0);
	assert_int_equal(seqset_parse(text, &a, &set), 0);
	seqset_resolve(&set, 1000000);
	assert_int_equal(seqset_size(&set) > 0, 1);
	arena_deinit(&a);
}

static void test_12_time_is_linear_in_size(void **state)
{
	static const struct {
		linear_fn *work;
		const char *start, *again, *end;
	} rows[] = {
		{work_whole, "a X ", "x ", "y\r\n"},
		{work_whole, "a X ", "x", "\r\n"},
		{work_whole, "a X ", "() ", "y\r\n"},
		{work_whole, "a X ", "((((((((x)))))))) ", "y\r\n"},
		{work_whole, "a X ", "(", "\r\n"},
		{work_whole, "a X (", "x ", "y)\r\n"},
		{work_whole, "a X ", "\"\\\\\" ", "y\r\n"},
		{work_whole, "a X \"", "\\\\", "\"\r\n"},
		{work_whole, "a X ", "\"", "\r\n"},
		{work_whole, "a X ", "{1+}\r\ny ", "z\r\n"},
		{work_whole, "a X ", "{0+}\r\n ", "z\r\n"},
		{work_whole, "a X ", "BODY[HEADER] ", "z\r\n"},
		{work_whole, "", "a", " \r\n"},
		{work_whole, "a ", "b", "\r\n"},
		{work_whole, "a ((", "{9+}\r\n123456789", "\r\n"},
		{work_pieces, "a X ", "x ", "y\r\n"},
		{work_pieces, "a X ", "x", "\r\n"},
		{work_pieces, "a X \"", "\\\\", "\"\r\n"},
		{work_pieces, "a X ", "{1+}\r\ny ", "z\r\n"},
		{work_pieces, "a X {900000+}\r\n", "y", ""},
		{work_pieces, "a ((", "{9+}\r\n123456789", "\r\n"},
		{work_search, "a SEARCH ", "NOT ", "ALL\r\n"},
		{work_search, "a SEARCH ", "OR ALL ", "ALL\r\n"},
		{work_search, "a SEARCH ", "SUBJECT x ", "ALL\r\n"},
		{work_search, "a SEARCH ", "HEADER x y ", "ALL\r\n"},
		{work_search, "a SEARCH ", "TEXT x SEEN ", "ALL\r\n"},
		{work_search, "a SEARCH ", "(SEEN) ", "ALL\r\n"},
		{work_search, "a SEARCH ", "3 UID 1:* ", "ALL\r\n"},
		{work_search, "a SEARCH ", "1,", "1\r\n"},
		{work_search, "a SEARCH RETURN (", "MIN ", "MAX) ALL\r\n"},
		{work_search, "a SEARCH SUBJECT \"", "x", "\"\r\n"},
		{work_fetch, "a FETCH (", "FLAGS ", "UID)\r\n"},
		{work_fetch, "a FETCH (", "BODY.PEEK[1.2]<0.5> ", "UID)\r\n"},
		{work_fetch, "a FETCH (", "BODY.PEEK[] ", "UID)\r\n"},
		{work_fetch, "a FETCH (BODY.PEEK[HEADER.FIELDS (", "x ", "y)])\r\n"},
		{work_fetch, "a FETCH (", "BODY.PEEK[HEADER.FIELDS (x)] ", "UID)\r\n"},
		{work_fetch, "a FETCH (BODY.PEEK[1", ".1", "])\r\n"},
		{work_set, "1", ",1", ""},
		{work_set, "1", ",9:3", ""},
		{work_set, "7", ",*:5,900,2", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		linear_expect(rows[i].work, rows[i].start, rows[i].again, rows[i].end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_12_time_is_linear_in_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
