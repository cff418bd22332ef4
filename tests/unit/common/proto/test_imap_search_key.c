/* What SEARCH asks for: keys as trees, in the order of their cost; what is no SEARCH. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/imap_search_key.h"
#include "tests/unit/common/proto/imap_line.h"
#include "tests/unit/feed.h"

static const char *const names[] = {"ALL", "AND", "OR", "NOT", "SEQ", "UID", "SAVED", "FLAG", "RECENT",
	"KEYWORD", "BEFORE", "ON", "SINCE", "OLDER", "YOUNGER", "LARGER", "SMALLER", "MODSEQ", "SAVEDBEFORE",
	"SAVEDON", "SAVEDSINCE", "EMAILID", "THREADID", "SENTBEFORE", "SENTON", "SENTSINCE", "HEADER", "BODY",
	"TEXT"};

static const struct {
	const char *text;
	int err;
	const char *want;
} rows[] = {
	{"ALL", 0, "AND(ALL)"},
	{"UNSEEN DELETED", 0, "AND(NOT(FLAG0) FLAG3)"},
	{"NEW OLD", 0, "AND(AND(RECENT NOT(FLAG0)) NOT(RECENT))"},
	{"OR (FROM a TEXT b) NOT SEEN", 0, "AND(OR(NOT(FLAG0) AND(HEADER[From=a] TEXT[=b])))"},
	{"TEXT a SUBJECT b LARGER 5", 0, "AND(LARGER HEADER[Subject=b] TEXT[=a])"},
	{"1:3,* UID 4", 0, "AND(SEQ UID)"},
	{"HEADER X-Y \"\"", 0, "AND(HEADER[X-Y=])"},
	{"SINCE 1-Feb-1994 SENTON \"02-Feb-1994\"", 0, "AND(SINCE SENTON)"},
	{"KEYWORD $a UNKEYWORD b", 0, "AND(KEYWORD[=$a] NOT(KEYWORD[=b]))"},
	{"MODSEQ 5", 0, "M AND(MODSEQ)"},
	{"MODSEQ \"/flags/\\\\draft\" all 620162338", 0, "M AND(MODSEQ)"},
	{"RETURN (MIN COUNT) ALL", 0, "R9 AND(ALL)"},
	{"RETURN () CHARSET utf-8 SUBJECT {2+}\r\n\xc3\xa4", 0, "R4 AND(HEADER[Subject=\xc3\xa4])"},
	{"CHARSET iso-8859-1 BODY {1+}\r\n\xe4", 0, "AND(BODY[=\xc3\xa4])"},
	{"BODY \"\xc3\xa4\"", 0, "AND(BODY[=\xc3\xa4])"},
	{"CHARSET x-none ALL", ERR_UNSUPPORTED, NULL},
	{"CHARSET //TRANSLIT ALL", ERR_UNSUPPORTED, NULL},
	{"BODY {1+}\r\n\xe4", ERR_SYNTAX, NULL},
	{"RETURN (SAVE) ALL", 0, "R32 AND(ALL)"},
	{"RETURN (SAVE MIN) $", 0, "R33 AND(SAVED)"},
	{"RETURN (PARTIAL -1:-9 COUNT) OR $ UID $", 0, "R24 AND(OR(SAVED SAVED))"},
	{"OLDER 1 YOUNGER 4294967295", 0, "AND(OLDER YOUNGER)"},
	{"SUBJECT a SAVEDON 1-Feb-1994 SEEN SAVEDATESUPPORTED", 0,
		"AND(FLAG0 ALL SAVEDON HEADER[Subject=a])"},
	{"EMAILID M12 THREADID Tx-_", 0, "AND(EMAILID[=M12] THREADID[=Tx-_])"},
	{"EMAILID \"a\"", ERR_SYNTAX, NULL},
	{"SAVEDON 1994", ERR_SYNTAX, NULL},
	{"OLDER 0", ERR_SYNTAX, NULL},
	{"YOUNGER", ERR_SYNTAX, NULL},
	{"YOUNGER x", ERR_SYNTAX, NULL},
	{"$,1", ERR_SYNTAX, NULL},
	{"RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL", ERR_SYNTAX, NULL},
	{"RETURN (PARTIAL 1:2 ALL) ALL", ERR_SYNTAX, NULL},
	{"RETURN (PARTIAL) ALL", ERR_SYNTAX, NULL},
	{"RETURN (UPDATE) ALL", ERR_SYNTAX, NULL},
	{"RETURN MIN ALL", ERR_SYNTAX, NULL},
	{"RETURN ()", ERR_SYNTAX, NULL},
	{"()", ERR_SYNTAX, NULL},
	{"NOT", ERR_SYNTAX, NULL},
	{"OR ALL", ERR_SYNTAX, NULL},
	{"FROM", ERR_SYNTAX, NULL},
	{"FROM (a)", ERR_SYNTAX, NULL},
	{"LARGER x", ERR_SYNTAX, NULL},
	{"LARGER 4294967296", 0, "AND(LARGER)"},
	{"LARGER 9223372036854775808", ERR_TOO_BIG, NULL},
	{"OLDER 4294967296", ERR_SYNTAX, NULL},
	{"SINCE 32-Feb-1994", ERR_SYNTAX, NULL},
	{"KEYWORD \\Seen", ERR_SYNTAX, NULL},
	{"UID x", ERR_SYNTAX, NULL},
	{"\"ALL\"", ERR_SYNTAX, NULL},
	{"1:x", ERR_SYNTAX, NULL},
};

static void dump_key(struct buf *out, const struct imap_search_key *key)
{
	buf_add_str(out, names[key->type]);
	if (key->type == IMAP_SEARCH_FLAG)
		buf_printf(out, "%d", key->flag);
	if (key->text.p)
		buf_printf(out, "[%.*s=%.*s]", SLICE_ARG(key->name), SLICE_ARG(key->text));
	if (!key->first)
		return;
	buf_add_char(out, '(');
	for (const struct imap_search_key *k = key->first; k; k = k->next) {
		dump_key(out, k);
		if (k->next)
			buf_add_char(out, ' ');
	}
	buf_add_char(out, ')');
}

static void test_keys_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct imap_search search;
		struct arena arena;
		struct buf got = {0};
		const struct imap_arg *args;
		int err;

		arena_init(&arena, 0);
		args = imap_line_args(&arena, rows[i].text);
		assert_non_null(args);
		err = imap_search_key_parse(args, &arena, &search);
		if (err == 0) {
			if (search.has_modseq)
				buf_add_str(&got, "M ");
			if (search.returns)
				buf_printf(&got, "R%u ", search.returns);
			dump_key(&got, search.key);
		}
		if (err != rows[i].err || strcmp(buf_str_view(&got), rows[i].want ? rows[i].want : "") != 0)
			fail_msg("%s\ngot: %d %s\nwant: %d %s", rows[i].text, err, buf_str_view(&got),
				rows[i].err, rows[i].want ? rows[i].want : "");
		arena_deinit(&arena);
		buf_deinit(&got);
	}
}

static void test_depth_is_bounded(void **state)
{
	struct imap_search search;
	struct arena arena;
	struct buf text = {0};

	(void)state;
	for (int i = 0; i < 1000; i++)
		buf_add_str(&text, "NOT ");
	buf_add_str(&text, "ALL");
	arena_init(&arena, 0);
	assert_int_equal(imap_search_key_parse(imap_line_args(&arena, buf_str_view(&text)), &arena, &search),
		ERR_TOO_BIG);
	arena_deinit(&arena);
	buf_deinit(&text);
}

static bool parse_row(void *arg)
{
	size_t i = *(size_t *)arg;
	struct imap_search search;
	struct arena arena;
	const struct imap_arg *args;
	int err;

	arena_init(&arena, 0);
	args = imap_line_args(&arena, rows[i].text);
	err = args ? imap_search_key_parse(args, &arena, &search) : ERR_TOO_BIG;
	assert_true(err == 0 || err == ERR_TOO_BIG);
	arena_deinit(&arena);
	return err == 0;
}

static void test_a_failing_allocation_is_too_big(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].err == 0)
			assert_true(feed_failing_arena(parse_row, &i) > 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_are_read),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_a_failing_allocation_is_too_big),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
