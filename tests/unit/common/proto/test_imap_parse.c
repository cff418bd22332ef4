/* IMAP commands: trees from tables, every split, limits of every dimension, broken commands and their frames.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/proto/imap_parse.h"
#include "tests/unit/feed.h"

enum literal_answer {
	HOLD,
	STREAM,
	REFUSE
};

/* A session without a network: parses all commands of its input and writes down what came of them. */
struct session {
	struct imap_parse parse;
	struct arena arena;
	const struct imap_parse_limits *limits;
	struct buf log;
	enum literal_answer answer;
	uint64_t stream_left;
};

/* The tree as text: atoms as they are, <quoted>, {literal}, ~size for streamed ones. */
static void dump_args(struct buf *out, const struct imap_arg *arg)
{
	for (; arg; arg = arg->next) {
		if (!arg->is_glued)
			buf_add_char(out, ' ');
		switch (arg->type) {
		case IMAP_ARG_ATOM:
			buf_add_slice(out, arg->text);
			break;
		case IMAP_ARG_QUOTED:
			buf_printf(out, "<%.*s>", SLICE_ARG(arg->text));
			break;
		case IMAP_ARG_LITERAL:
			buf_printf(out, "{%.*s}", SLICE_ARG(arg->text));
			break;
		case IMAP_ARG_BINARY:
			buf_printf(out, "~{%.*s}", SLICE_ARG(arg->text));
			break;
		case IMAP_ARG_STREAM:
			buf_printf(out, "~%d", (int)arg->size);
			break;
		case IMAP_ARG_LIST:
			buf_add_str(out, "(");
			dump_args(out, arg->first);
			buf_add_str(out, ")");
			break;
		}
	}
}

static void take_literal(struct session *s)
{
	buf_printf(&s->log, "+%d%s", (int)s->parse.literal.size, s->parse.literal.is_sync ? "" : "!");
	if (s->answer == REFUSE) {
		imap_parse_refuse(&s->parse, "refused");
	} else if (s->answer == STREAM && s->parse.literal.depth == 0 && s->parse.command.count > 1) {
		s->stream_left = s->parse.literal.size;
		imap_parse_stream(&s->parse);
	} else if (imap_parse_hold(&s->parse) < 0) {
		buf_add_str(&s->log, "x");
	}
	buf_add_char(&s->log, ' ');
}

static ssize_t session_feed(void *arg, struct slice in)
{
	struct session *s = arg;
	enum imap_parse_event event;
	ssize_t n;

	if (s->stream_left) {
		n = (ssize_t)(in.len < s->stream_left ? in.len : (size_t)s->stream_left);
		s->stream_left -= (uint64_t)n;
		return n;
	}
	n = imap_parse_feed(&s->parse, in, &event);
	if (n < 0) {
		buf_add_str(&s->log, "LOST");
		return n;
	}
	if (event == IMAP_PARSE_LITERAL) {
		ssize_t more;

		take_literal(s);
		more = session_feed(s, slice_from(in, (size_t)n));
		return more < 0 ? more : n + more;
	}
	if (event == IMAP_PARSE_MORE)
		return n;
	buf_printf(&s->log, "%.*s|%.*s", SLICE_ARG(s->parse.command.tag), SLICE_ARG(s->parse.command.name));
	if (event == IMAP_PARSE_BAD)
		buf_printf(&s->log, "|BAD %s", s->parse.reason);
	else
		dump_args(&s->log, s->parse.command.args);
	buf_add_char(&s->log, '\n');
	arena_reset(&s->arena);
	imap_parse_start(&s->parse, s->limits, &s->arena);
	return n ? n : session_feed(s, in);
}

static void session_init(
	struct session *s, const struct imap_parse_limits *limits, enum literal_answer answer)
{
	*s = (struct session){.limits = limits, .answer = answer};
	arena_init(&s->arena,
		limits == &imap_parse_limits_before_login ? IMAP_PARSE_ARENA_BEFORE : IMAP_PARSE_ARENA_AFTER);
	imap_parse_start(&s->parse, limits, &s->arena);
}

static void session_deinit(struct session *s)
{
	arena_deinit(&s->arena);
	buf_deinit(&s->log);
}

static const struct {
	const char *in;
	const char *want;
	enum literal_answer answer;
} rows[] = {
	{"a1 NOOP\r\n", "a1|NOOP\n", HOLD},
	{"a1 noop\n", "a1|NOOP\n", HOLD},
	{"a LOGIN joe \"p \\\"\\\\x\"\r\n", "a|LOGIN joe <p \"\\x>\n", HOLD},
	{"a LOGIN {3}\r\njoe {4+}\r\npa\r\n\r\nb NOOP\r\n", "+3 +4! a|LOGIN {joe} {pa\r\n}\nb|NOOP\n", HOLD},
	{"a LOGIN {0}\r\n \"\"\r\n", "+0 a|LOGIN {} <>\n", HOLD},
	{"a uid  fetch 1:* (FLAGS)\r\n", "a||BAD No command\n", HOLD},
	{"a uid fetch 1:* (FLAGS UID)\r\n", "a|UID FETCH 1:* ( FLAGS UID)\n", HOLD},
	{"a FETCH 2,4:7 BODY.PEEK[HEADER.FIELDS (DATE \"FROM\")]<0.10>\r\n",
		"a|FETCH 2,4:7 BODY.PEEK[HEADER.FIELDS ( DATE <FROM>)]<0.10>\n", HOLD},
	{"a FETCH 1 (BODY[HEADER.FIELDS ({4}\r\nfrom)] UID)\r\n",
		"+4 a|FETCH 1 ( BODY[HEADER.FIELDS ( {from})] UID)\n", HOLD},
	{"a STORE 1 +FLAGS (\\Seen $X)\r\n", "a|STORE 1 +FLAGS ( \\Seen $X)\n", HOLD},
	{"a LIST \"\" %/*\r\n", "a|LIST <> %/*\n", HOLD},
	{"a SEARCH ((OR (FROM x) (TO y)) UID 1)\r\n", "a|SEARCH ( ( OR ( FROM x) ( TO y)) UID 1)\n", HOLD},
	{"a LIST () \"\" x\r\n", "a|LIST () <> x\n", HOLD},
	{"a SELECT  x \r\n", "a|SELECT x\n", HOLD},
	{"a APPEND x (\\Seen) {5}\r\nhello\r\nb NOOP\r\n", "+5 a|APPEND x ( \\Seen) ~5\nb|NOOP\n", STREAM},
	{"a APPEND {1+}\r\nx {5+}\r\nhello\r\nb NOOP\r\n", "+1! +5! a|APPEND {x} ~5\nb|NOOP\n", STREAM},
	{"a LOGIN x \"\xc3\xa4\"\r\n", "a|LOGIN x <\xc3\xa4>\n", HOLD},
	/* broken, and the frame is kept */
	{"\r\nb NOOP\r\n", "||BAD Empty line\nb|NOOP\n", HOLD},
	{"a\r\nb NOOP\r\n", "||BAD No command with a tag\nb|NOOP\n", HOLD},
	{"+a NOOP\r\n", "||BAD No command with a tag\n", HOLD},
	{"a \r\n", "a||BAD No command\n", HOLD},
	{"a (x)\r\n", "a||BAD No command\n", HOLD},
	{"a NOOP(x)\r\n", "a||BAD No command\n", HOLD},
	{"a X \"y\r\nb NOOP\r\n", "a|X|BAD Quoted string without an end\nb|NOOP\n", HOLD},
	{"a X \"\\y\"\r\n", "a|X|BAD Bad escape in a quoted string\n", HOLD},
	{"a X \"y\"z\r\n", "a|X|BAD Blank missing between arguments\n", HOLD},
	{"a X (y\r\n", "a|X|BAD Parenthesis not closed\n", HOLD},
	{"a X y)\r\n", "a|X|BAD Parenthesis closed that was not open\n", HOLD},
	{"a X \x01\r\n", "a|X|BAD Character that no atom can have\n", HOLD},
	{"a X \xc3\xa4\r\n", "a|X|BAD Character that no atom can have\n", HOLD},
	{"a X {x}\r\nb NOOP\r\n", "a|X|BAD Bad literal\nb|NOOP\n", HOLD},
	{"a X {3\r\nb NOOP\r\n", "a|X|BAD Bad literal\nb|NOOP\n", HOLD},
	{"a X {3}y\r\nb NOOP\r\n", "a|X|BAD Bad literal\nb|NOOP\n", HOLD},
	{"a X ~{3+}\r\nabc\r\nb NOOP\r\n", "+3!x a|X|BAD No binary literal is allowed here\nb|NOOP\n", HOLD},
	{"a X y ~{3+}\r\nabc\r\nb NOOP\r\n", "+3! a|X y ~3\nb|NOOP\n", STREAM},
	{"a X ~ ~x\r\n", "a|X ~ ~x\n", HOLD},
	{"a X ~{3}y\r\nb NOOP\r\n", "a|X|BAD Bad literal\nb|NOOP\n", HOLD},
	{"a X ) {3}\r\nb NOOP\r\n", "a|X|BAD Parenthesis closed that was not open\nb|NOOP\n", HOLD},
	{"a X ) {8+}\r\nx NOOP\r\n {3+}\r\nxyz\r\nb NOOP\r\n",
		"a|X|BAD Parenthesis closed that was not open\nb|NOOP\n", HOLD},
	{"a X {18446744073709551616}\r\nb NOOP\r\n", "a|X|BAD Literal too large\nb|NOOP\n", HOLD},
	{"a X {3}\r\nb NOOP\r\n", "+3 a|X|BAD refused\nb|NOOP\n", REFUSE},
	{"a X {3+}\r\nxyz {2+}\r\nxy\r\nb NOOP\r\n", "+3! a|X|BAD refused\nb|NOOP\n", REFUSE},
	{"a X {131073}\r\nb NOOP\r\n", "+131073x a|X|BAD Literal too large\nb|NOOP\n", HOLD},
	{"a X {18446744073709551616+}\r\nb NOOP\r\n", "LOST", HOLD},
	{"a X {9223372036854775807+}\r\nb NOOP\r\n", "+9223372036854775807!", REFUSE},
};

static void check_log(struct session *s, const char *want)
{
	if (strcmp(buf_str_view(&s->log), want) != 0)
		print_error("got: %s\nwant: %s\n", buf_str_view(&s->log), want);
	assert_string_equal(buf_str_view(&s->log), want);
}

static void test_commands_become_trees_however_they_are_cut(void **state)
{
	struct session s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows) - 1; i++) {
		struct slice in = slice_str(rows[i].in);

		for (size_t cut = 0; cut <= in.len; cut++) {
			session_init(&s, &imap_parse_limits_after_login, rows[i].answer);
			(void)feed_split(session_feed, &s, in, cut);
			check_log(&s, rows[i].want);
			session_deinit(&s);
		}
		session_init(&s, &imap_parse_limits_after_login, rows[i].answer);
		(void)feed_bytes(session_feed, &s, in);
		check_log(&s, rows[i].want);
		session_deinit(&s);
	}
}

static bool run_row(void *arg)
{
	size_t i = *(size_t *)arg;
	struct session s;
	bool same;

	session_init(&s, &imap_parse_limits_after_login, rows[i].answer);
	(void)feed_split(session_feed, &s, slice_str(rows[i].in), 0);
	same = strcmp(buf_str_view(&s.log), rows[i].want) == 0;
	/* A row that does not go through says BAD or loses the frame; it never invents a tree. */
	if (!same)
		assert_true(strstr(buf_str_view(&s.log), "Command too large") ||
			    strstr(buf_str_view(&s.log), "x ") || strstr(buf_str_view(&s.log), "LOST"));
	session_deinit(&s);
	return same;
}

static void test_a_failing_allocation_is_a_refused_command(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows) - 1; i++)
		(void)feed_failing_arena(run_row, &i);
}

/* Feeds prefix + n * unit + suffix before login; returns the log. */
static char *flood(const char *prefix, const char *unit, size_t n, const char *suffix, size_t *used_out)
{
	struct buf in = {0};
	struct session s;
	char *log;

	buf_add_str(&in, prefix);
	for (size_t i = 0; i < n; i++)
		buf_add_str(&in, unit);
	buf_add_str(&in, suffix);
	session_init(&s, &imap_parse_limits_before_login, HOLD);
	(void)feed_split(session_feed, &s, buf_view(&in), 0);
	*used_out = s.arena.used;
	log = xstrdup(buf_str_view(&s.log));
	session_deinit(&s);
	buf_deinit(&in);
	return log;
}

static void test_class_9_memory_before_login_is_capped(void **state)
{
	static const struct {
		const char *prefix, *unit;
		size_t n;
		const char *suffix, *want;
	} floods[] = {
		{"a X ", "(", 4000, "\r\n", "a|X|BAD Lists nested too deeply\n"},
		{"a X (", "() ", 2000, ")\r\n", "a|X|BAD Too many arguments\n"},
		{"a X", " a", 9, "\r\n", "a|X|BAD Too many arguments\n"},
		{"a X", " a", 8, "\r\n", "a|X a a a a a a a a\n"},
		{"a X ", "a", 10000, "", "LOST"},
		{"a X ", "a", 8187, "\r\n", "LOST"},
		{"a X", " {4096}\r\n", 1, "", "+4096 "},
		{"a X", " {4097}\r\n", 1, "", "+4097x a|X|BAD Literal too large\n"},
		{"a X", " {4097+}\r\n", 1, "", ""},
		{"a X", " {70000+}\r\n", 1, "", "LOST"},
		{"a X", " {1+}\r\nx", 5, "\r\n", "+1! +1! +1! +1! a|X|BAD Too many literals\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(floods); i++) {
		size_t used;
		char *log = flood(floods[i].prefix, floods[i].unit, floods[i].n, floods[i].suffix, &used);

		assert_string_equal(log, floods[i].want);
		assert_true(used <= 16 * 1024);
		free(log);
	}
}

static void test_class_10_literals_are_capped_in_number_and_in_sum(void **state)
{
	static const struct imap_parse_limits limits = {.line = 100,
		.command = 1000,
		.literal = 10,
		.literal_total = 25,
		.literals = 50,
		.args = 50,
		.nodes = 50,
		.depth = 2,
		.skip = 1000,
		.nonsync = IMAP_LITERALS_PLUS};
	struct buf in = {0};
	struct session s;

	(void)state;
	session_init(&s, &limits, HOLD);
	buf_add_str(&in, "a X {10+}\r\n1234567890 {10+}\r\n1234567890 {6+}\r\n123456\r\nb NOOP\r\n");
	(void)feed_bytes(session_feed, &s, buf_view(&in));
	check_log(&s, "+10! +10! +6!x a|X|BAD Literal too large\nb|NOOP\n");
	session_deinit(&s);
	/* Broken commands cannot be made endless with literals to be skipped. */
	buf_clear(&in);
	buf_add_str(&in, "a X )");
	for (int i = 0; i < 100; i++)
		buf_add_str(&in, " {10+}\r\n1234567890");
	session_init(&s, &limits, HOLD);
	assert_int_equal(feed_split(session_feed, &s, buf_view(&in), 0), ERR_TOO_BIG);
	check_log(&s, "LOST");
	session_deinit(&s);
	buf_deinit(&in);
}

static void test_class_5_literal_sizes_do_not_wrap(void **state)
{
	static const char *const sizes[] = {"18446744073709551615", "18446744073709551616",
		"9223372036854775808", "99999999999999999999999999999999", "4294967296", "4294967297"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		char line[100];
		struct session s;

		snprintf(line, sizeof(line), "a X {%s}\r\nb NOOP\r\n", sizes[i]);
		session_init(&s, &imap_parse_limits_before_login, HOLD);
		(void)feed_split(session_feed, &s, slice_str(line), 0);
		assert_non_null(strstr(buf_str_view(&s.log), "a|X|BAD Literal too large\nb|NOOP\n"));
		session_deinit(&s);
		snprintf(line, sizeof(line), "a X {%s+}\r\nb NOOP\r\n", sizes[i]);
		session_init(&s, &imap_parse_limits_before_login, HOLD);
		assert_int_equal(feed_split(session_feed, &s, slice_str(line), 0), ERR_TOO_BIG);
		session_deinit(&s);
	}
}

static struct imap_arg atom(const char *text)
{
	return (struct imap_arg){.type = IMAP_ARG_ATOM, .text = slice_str(text)};
}

static void test_arguments_are_read_by_kind(void **state)
{
	struct imap_arg star = atom("a*"), nil = atom("nil"), big = atom("4294967296"), flag = atom("\\Seen");
	struct imap_arg quoted = {.type = IMAP_ARG_QUOTED, .text = slice_str("a*")};
	struct imap_arg list = {.type = IMAP_ARG_LIST};
	struct slice text = {0};
	uint32_t n;
	uint64_t m;

	(void)state;
	assert_int_equal(imap_parse_astring(&star, &text), ERR_SYNTAX);
	assert_int_equal(imap_parse_list_mailbox(&star, &text), 0);
	assert_int_equal(imap_parse_astring(&quoted, &text), 0);
	assert_int_equal(imap_parse_astring(&flag, &text), ERR_SYNTAX);
	assert_int_equal(imap_parse_astring(&list, &text), ERR_SYNTAX);
	assert_int_equal(imap_parse_astring(NULL, &text), ERR_SYNTAX);
	assert_int_equal(imap_parse_nstring(&nil, &text), 0);
	assert_null(text.p);
	assert_int_equal(imap_parse_nstring(&star, &text), ERR_SYNTAX);
	assert_int_equal(imap_parse_u32(&big, &n), ERR_TOO_BIG);
	assert_int_equal(imap_parse_u63(&big, &m), 0);
	assert_true(imap_parse_is_word(&nil, "NIL"));
	assert_false(imap_parse_is_word(NULL, "NIL"));
}

static void test_a_line_is_found_within_its_limit(void **state)
{
	struct slice line;

	(void)state;
	assert_int_equal(imap_parse_line(SLICE_LIT("DONE\r\nx"), 100, &line), 6);
	assert_true(slice_is_str(line, "DONE"));
	assert_int_equal(imap_parse_line(SLICE_LIT("DONE"), 100, &line), 0);
	assert_int_equal(imap_parse_line(SLICE_LIT("DONE\r\n"), 5, &line), ERR_TOO_BIG);
	assert_int_equal(imap_parse_line(SLICE_LIT("\n"), 5, &line), 1);
	assert_int_equal(line.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands_become_trees_however_they_are_cut),
		cmocka_unit_test(test_a_failing_allocation_is_a_refused_command),
		cmocka_unit_test(test_class_9_memory_before_login_is_capped),
		cmocka_unit_test(test_class_10_literals_are_capped_in_number_and_in_sum),
		cmocka_unit_test(test_class_5_literal_sizes_do_not_wrap),
		cmocka_unit_test(test_arguments_are_read_by_kind),
		cmocka_unit_test(test_a_line_is_found_within_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
