/* What FETCH asks for: items, macros, sections, partials; what is no FETCH. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/imap_fetch_items.h"
#include "tests/unit/common/proto/imap_line.h"
#include "tests/unit/feed.h"

static const struct {
	const char *text;
	const char *want; /* items, then each body: label, peek, section kind; NULL: refused */
} rows[] = {
	{"FLAGS", "2"},
	{"(uid flags internaldate RFC822.SIZE MODSEQ ENVELOPE BODY BODYSTRUCTURE)", "255"},
	{"ALL", "46"},
	{"FAST", "14"},
	{"FULL", "110"},
	{"BODY[]", "0 S|BODY[] 0"},
	{"BODY.PEEK[]<5.10>", "0|BODY[]<5> 0 5+10"},
	{"(UID body[1.2.text])", "1 S|BODY[1.2.TEXT] 4"},
	{"BODY[HEADER.FIELDS (From \"x y\")]<0.9>",
		"0 S|BODY[HEADER.FIELDS (From \"x y\")]<0> 2 0+9 2 names"},
	{"BODY.PEEK[1.HEADER.FIELDS.NOT ({4+}\r\na\r\nb)]",
		"0|BODY[1.HEADER.FIELDS.NOT ({4}\r\na\r\nb)] 3 1 names"},
	{"(BODY[HEADER.FIELDS (A)] BODY[TEXT] FLAGS)", "2 S|BODY[HEADER.FIELDS (A)] 2 1 names|BODY[TEXT] 4"},
	{"RFC822", "0 S|RFC822 0"},
	{"RFC822.HEADER", "0|RFC822.HEADER 1"},
	{"(RFC822.TEXT)", "0 S|RFC822.TEXT 4"},
	{"(SAVEDATE EMAILID THREADID PREVIEW)", "3840"},
	{"PREVIEW", "2048"},
	{"PREVIEW (LAZY)", "6144"},
	{"(UID PREVIEW (LAZY lazy) FLAGS)", "6147"},
	{"(PREVIEW (LAZY) PREVIEW)", "2048"},
	{"(PREVIEW PREVIEW (LAZY))", "2048"},
	{"(PREVIEW (BUSY))", NULL},
	{"(PREVIEW ())", NULL},
	{"(SAVEDATE (LAZY))", NULL},
	{"BINARY[]", "0 S|BINARY[] 0"},
	{"binary.peek[1.2]<3.4>", "0|BINARY[1.2]<3> 0 3+4"},
	{"(BINARY.SIZE[1] UID)", "1|BINARY.SIZE[1] 0"},
	{"BINARY.SIZE[1]<0.4>", NULL},
	{"BINARY[TEXT]", NULL},
	{"BINARY[1.MIME]", NULL},
	{"BINARY.SIZE[HEADER]", NULL},
	{"BINARY[HEADER.FIELDS (A)]", NULL},
	{"BINARY", NULL},
	{"()", NULL},
	{"(ALL)", NULL},
	{"NONSENSE", NULL},
	{"BODY[", NULL},
	{"BODY[]x", NULL},
	{"BODY[]<5>", NULL},
	{"BODY[]<5.0>", NULL},
	{"BODY[]<.5>", NULL},
	{"BODY[]<5.9223372036854775808>", NULL},
	{"BODY.PEEK[]<5.99999999999>", "0|BODY[]<5> 0 5+99999999999"},
	{"BODY[0]", NULL},
	{"BODY[1.]", NULL},
	{"BODY[MIME]", NULL},
	{"BODY[HEADER.FIELDS]", NULL},
	{"BODY[HEADER.FIELDS (]", NULL},
	{"BODY[HEADER.FIELDS ()]", NULL},
	{"BODY[TEXT (A)]", NULL},
	{"\"FLAGS\"", NULL},
	{"(FLAGS (UID))", NULL},
};

static void dump(struct buf *out, const struct imap_fetch_items *items)
{
	buf_printf(out, "%u%s", items->items, items->sets_seen ? " S" : "");
	for (const struct imap_fetch_body *b = items->bodies; b; b = b->next) {
		buf_printf(out, "|%.*s %d", SLICE_ARG(b->label), b->section.kind);
		if (b->is_partial)
			buf_printf(out, " %llu+%llu", (unsigned long long)b->from,
				(unsigned long long)b->length);
		if (b->name_count)
			buf_printf(out, " %zu names", b->name_count);
	}
}

static void test_items_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct imap_fetch_items items;
		struct arena arena;
		struct buf got = {0};
		const struct imap_arg *args;

		arena_init(&arena, 0);
		args = imap_line_args(&arena, rows[i].text);
		if (args && imap_fetch_items_parse(args, &arena, &items) == 0)
			dump(&got, &items);
		if (strcmp(buf_str_view(&got), rows[i].want ? rows[i].want : "") != 0)
			fail_msg("%s\ngot: %s\nwant: %s", rows[i].text, buf_str_view(&got),
				rows[i].want ? rows[i].want : "refused");
		arena_deinit(&arena);
		buf_deinit(&got);
	}
}

static bool parse_row(void *arg)
{
	size_t i = *(size_t *)arg;
	struct imap_fetch_items items;
	struct arena arena;
	const struct imap_arg *args;
	int err;

	arena_init(&arena, 0);
	args = imap_line_args(&arena, rows[i].text);
	err = args ? imap_fetch_items_parse(args, &arena, &items) : ERR_TOO_BIG;
	assert_true(err == 0 || err == ERR_TOO_BIG);
	arena_deinit(&arena);
	return err == 0;
}

static void test_a_failing_allocation_is_too_big(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].want)
			assert_true(feed_failing_arena(parse_row, &i) > 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_items_are_read),
		cmocka_unit_test(test_a_failing_allocation_is_too_big),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
