/* MIME trees: shapes, offsets, limits, ways of feeding, packing, sections, body structures, the corpus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/proto/bodystructure.h"
#include "common/proto/section.h"
#include "tests/unit/feed.h"

static struct slice parse_structure(struct arena *a, struct slice message, bool is_long)
{
	struct mime_part *root = mime_parse(a, message);
	struct buf out = {0};
	struct slice text;

	assert_non_null(root);
	assert_int_equal(
		is_long ? bodystructure_write(root, a, &out) : bodystructure_write_short(root, a, &out), 0);
	text = arena_copy(a, buf_view(&out));
	buf_deinit(&out);
	return text;
}

static const struct {
	const char *message, *want;
} shapes[] = {
	{"", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)"},
	{"Subject: x\r\n\r\nhello\r\nyou",
		"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 10 1 NIL NIL NIL NIL)"},
	{"Content-Type: IMAGE/png; name=\"a b\"\r\nContent-Transfer-Encoding: BASE64\r\nContent-ID: <i>\r\n"
	 "Content-Description: d\r\nContent-MD5: m\r\nContent-Disposition: inline; filename=x\r\n"
	 "Content-Language: de, en\r\nContent-Location: l\r\n\r\nAAAA",
		"(\"IMAGE\" \"png\" (\"name\" \"a b\") \"<i>\" \"d\" \"BASE64\" 4 \"m\" (\"inline\" "
		"(\"filename\" \"x\")) "
		"(\"de\" \"en\") \"l\")"},
	/* preamble, two parts, epilogue; bare line feeds */
	{"Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\none\n--b\nContent-Type: "
	 "text/html\n\ntwo\n2\n--b--\nepi\n",
		"((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 0 NIL NIL NIL NIL)"
		"(\"text\" \"html\" NIL NIL NIL \"7bit\" 5 1 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") "
		"NIL NIL NIL)"},
	/* boundaries that begin alike; the inner one is longer */
	{"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/alternative; "
	 "boundary=bb\r\n\r\n"
	 "--bb\r\n\r\nx\r\n--bbb\r\n--bb--\r\n--b\r\n\r\ny\r\n--b--",
		"(((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 8 1 NIL NIL NIL NIL) "
		"\"alternative\" "
		"(\"boundary\" \"bb\") NIL NIL NIL)(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL "
		"\"7bit\" 1 0 NIL NIL "
		"NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
	/* an outer boundary ends inner parts that nobody closed; a boundary within a header ends it */
	{"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; "
	 "boundary=i\r\n\r\n--i\r\n"
	 "Content-Type: text/x\r\n--o\r\n\r\nz\r\n--o--\r\n",
		"(((\"text\" \"x\" NIL NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"i\") "
		"NIL NIL NIL)(\"text\" "
		"\"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 1 0 NIL NIL NIL NIL) \"mixed\" "
		"(\"boundary\" \"o\") NIL NIL "
		"NIL)"},
	/* no boundary given, none found: plain text, so that all of it is seen */
	{"Content-Type: multipart/mixed\r\n\r\n--b\r\n",
		"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 5 1 NIL "
		"NIL NIL NIL)"},
	{"Content-Type: multipart/mixed; boundary=q\r\n\r\n--b\r\n",
		"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL "
		"\"7bit\" 5 1 NIL NIL NIL NIL)"},
	{"Content-Type: strange\r\n\r\n",
		"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)"},
	/* a digest's parts are messages */
	{"Content-Type: multipart/digest; boundary=\"d d\"\r\n\r\n--d d \t\r\n\r\nSubject: "
	 "s\r\n\r\nbody\r\n--d d--\r\n",
		"((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 18 (NIL \"s\" NIL NIL NIL NIL NIL NIL NIL "
		"NIL) (\"text\" \"plain\" "
		"(\"charset\" \"us-ascii\") NIL NIL \"7bit\" 4 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) "
		"\"digest\" (\"boundary\" "
		"\"d d\") NIL NIL NIL)"},
	{"Content-Type: text/plain\r\nContent-Type: text/html\r\nContent-Type : x/y\r\n\r\n",
		"(\"text\" \"plain\" NIL NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)"},
};

static void test_a_message_gives_its_structure(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		struct arena a;
		struct slice got;

		arena_init(&a, 0);
		got = parse_structure(&a, slice_str(shapes[i].message), true);
		if (!slice_is_str(got, shapes[i].want))
			fail_msg("row %zu: got %.*s want %s", i, SLICE_ARG(got), shapes[i].want);
		arena_deinit(&a);
	}
}

/* All that a tree says of places, as text. */
static void describe(const struct mime_part *root, struct buf *out)
{
	for (const struct mime_part *p = root; p; p = mime_next(root, p))
		buf_printf(out, "%u:%d/%d %llu+%llu+%llu lines %llu %llu children %u %.*s/%.*s\n", p->depth,
			(int)p->kind, (int)p->encoding, (unsigned long long)p->header_at,
			(unsigned long long)p->header_len, (unsigned long long)p->body_len,
			(unsigned long long)p->header_lines, (unsigned long long)p->body_lines,
			p->child_count, SLICE_ARG(p->type.type), SLICE_ARG(p->type.subtype));
}

/* Every part lies within its parent; lines are what they are counted to be; kinds and children agree. */
static void assert_sound(const struct mime_part *root, struct slice message)
{
	size_t count = 0;

	assert_int_equal(mime_body_at(root) + root->body_len, message.len);
	for (const struct mime_part *p = root; p; p = mime_next(root, p)) {
		uint64_t lines = 0, end = mime_body_at(p) + p->body_len;
		uint32_t children = 0;

		count++;
		assert_true(p->depth <= MIME_DEPTH_MAX);
		if (p->parent) {
			assert_true(p->header_at >= mime_body_at(p->parent));
			assert_true(end <= mime_body_at(p->parent) + p->parent->body_len);
			assert_int_equal(p->depth, p->parent->depth + 1);
		}
		for (const struct mime_part *c = p->first_child; c; c = c->next) {
			assert_ptr_equal(c->parent, p);
			children++;
			if (c->next)
				assert_true(mime_body_at(c) + c->body_len <= c->next->header_at);
		}
		assert_int_equal(children, p->child_count);
		assert_int_equal(p->kind == MIME_LEAF, children == 0);
		if (p->kind == MIME_MESSAGE)
			assert_int_equal(children, 1);
		assert_int_equal(p->envelope != NULL, !p->parent || p->parent->kind == MIME_MESSAGE);
		for (uint64_t i = mime_body_at(p); i < end; i++)
			lines += message.p[i] == '\n';
		assert_int_equal(lines, p->body_lines);
		for (lines = 0, end = p->header_at; end < mime_body_at(p); end++)
			lines += message.p[end] == '\n';
		assert_int_equal(lines, p->header_lines);
	}
	assert_true(count <= MIME_PARTS_MAX);
}

static void assert_fed_alike(struct slice message, size_t cut, size_t step, const struct buf *want)
{
	struct buf got = {0};
	struct arena a;
	struct mime_parser *p;

	arena_init(&a, 0);
	p = mime_parser_new(&a);
	for (size_t at = 0; at < message.len;) {
		size_t n = step ? step : at < cut ? cut - at : message.len - at;
		struct feed_page page = feed_page_copy(slice_sub(message, at, n));

		mime_parser_feed(p, page.text);
		at += page.text.len;
		feed_page_free(&page);
	}
	describe(mime_parser_end(p), &got);
	if (!slice_is_equal(buf_view(&got), buf_view(want)))
		fail_msg("cut %zu step %zu: got %swant %s", cut, step, buf_str_view(&got),
			buf_str_view((struct buf *)(void *)(uintptr_t)want));
	mime_parser_free(&p);
	buf_deinit(&got);
	arena_deinit(&a);
}

static void test_feeding_in_pieces_gives_the_same_tree(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		struct slice message = slice_str(shapes[i].message);
		struct buf want = {0};
		struct arena a;

		arena_init(&a, 0);
		describe(mime_parse(&a, message), &want);
		assert_fed_alike(message, 0, 1, &want);
		for (size_t cut = 1; cut < message.len; cut++)
			assert_fed_alike(message, cut, 0, &want);
		assert_sound(mime_parse(&a, message), message);
		buf_deinit(&want);
		arena_deinit(&a);
	}
}

static void nest(struct buf *m, size_t depth, const char *type)
{
	for (size_t i = 0; i < depth; i++) {
		if (strcmp(type, "multipart") == 0)
			buf_printf(m, "Content-Type: multipart/mixed; boundary=b%zu\r\n\r\n--b%zu\r\n", i, i);
		else
			buf_add_str(m, "Content-Type: message/rfc822\r\n\r\n");
	}
	buf_add_str(m, "\r\nend\r\n");
}

/* security 11: depth and number of parts are capped, and what lies beyond is still there as text */
static void test_11_depth_and_parts_are_capped(void **state)
{
	static const char *types[] = {"multipart", "message"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct buf m = {0};
		struct arena a;
		struct mime_parser *p;
		struct mime_part *root;
		uint32_t depth = 0;

		arena_init(&a, MIME_ARENA_MAX);
		nest(&m, 5000, types[i]);
		p = mime_parser_new(&a);
		mime_parser_feed(p, buf_view(&m));
		root = mime_parser_end(p);
		assert_true(mime_parser_is_cut(p));
		for (const struct mime_part *at = root; at; at = mime_next(root, at))
			depth = at->depth > depth ? at->depth : depth;
		assert_int_equal(depth, MIME_DEPTH_MAX);
		assert_sound(root, buf_view(&m));
		mime_parser_free(&p);
		buf_deinit(&m);
		arena_deinit(&a);
	}
	struct buf m = {0};
	struct arena a;
	struct mime_part *root;

	arena_init(&a, MIME_ARENA_MAX);
	buf_add_str(&m, "Content-Type: multipart/mixed; boundary=b\r\n\r\n");
	for (int i = 0; i < 30000; i++)
		buf_add_str(&m, "--b\r\n\r\nx\r\n");
	root = mime_parse(&a, buf_view(&m));
	assert_int_equal(root->child_count, MIME_PARTS_MAX - 1);
	assert_sound(root, buf_view(&m));
	buf_deinit(&m);
	arena_deinit(&a);
}

/* A message of this header, `count` fields of `size` octets and a last field, and a body; is it cut? */
static bool is_cut(size_t count, size_t size, size_t *subject_out, bool *has_last_out)
{
	struct buf m = {0}, envelope = {0}, date = {0};
	struct slice when, subject;
	struct arena a;
	struct mime_parser *p;
	struct mime_part *root;
	bool cut;

	for (size_t i = 0; i < count; i++) {
		char *room;

		buf_add_str(&m, "Subject:");
		room = buf_reserve(&m, size - 10);
		memset(room, 'x', size - 10);
		buf_added(&m, size - 10);
		buf_add_str(&m, "\r\n");
	}
	buf_add_str(&m, "Content-Type: text/html\r\n\r\nbody\r\n");
	arena_init(&a, MIME_ARENA_MAX);
	p = mime_parser_new(&a);
	for (size_t at = 0; at < buf_len(&m); at += 1 << 20) /* as it comes from a disk */
		mime_parser_feed(p, slice_sub(buf_view(&m), at, 1 << 20));
	root = mime_parser_end(p);
	cut = mime_parser_is_cut(p);
	assert_sound(root, buf_view(&m));
	assert_int_equal(root->body_len, 6);
	*has_last_out = slice_is_str_nocase(root->type.subtype, "html");
	assert_int_equal(envelope_write(root->envelope, &a, &envelope), 0);
	assert_int_equal(envelope_read(buf_view(&envelope), &date, &when, &subject), 0);
	*subject_out = subject.len;
	mime_parser_free(&p);
	buf_deinit(&m);
	buf_deinit(&envelope);
	buf_deinit(&date);
	arena_deinit(&a);
	return cut;
}

/* security 12: one field has at most 10 MB, all headers 50 MB; the rest of the message is there all the same */
static void test_12_headers_are_capped(void **state)
{
	size_t subject;
	bool has_last;

	(void)state;
	assert_false(is_cut(1, HEADER_FIELD_MAX, &subject, &has_last));
	assert_int_equal(subject, ENVELOPE_FIELD_MAX);
	assert_true(has_last);
	assert_true(is_cut(1, HEADER_FIELD_MAX + 100, &subject, &has_last));
	assert_int_equal(subject, ENVELOPE_FIELD_MAX);
	assert_true(has_last);
	assert_false(is_cut(5, HEADER_ALL_MAX / 5 - 100, &subject, &has_last));
	assert_true(has_last);
	assert_true(is_cut(5, HEADER_ALL_MAX / 5, &subject, &has_last));
	assert_false(has_last);
	assert_true(is_cut(7, HEADER_ALL_MAX / 5, &subject, &has_last));
	assert_false(has_last);
}

static bool parse_in(void *arg)
{
	struct arena a;
	struct mime_parser *p;
	struct mime_part *root;
	struct slice message = *(struct slice *)arg;
	bool is_whole = false;

	arena_init(&a, 0);
	p = mime_parser_new(&a);
	if (p) {
		mime_parser_feed(p, message);
		root = mime_parser_end(p);
		assert_sound(root, message);
		is_whole = !mime_parser_is_cut(p);
	}
	mime_parser_free(&p);
	arena_deinit(&a);
	return is_whole;
}

static void test_a_full_arena_cuts_and_never_breaks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		struct slice message = slice_str(shapes[i].message);

		assert_true(feed_failing_arena(parse_in, &message) > 1);
	}
}

static void test_packing_keeps_kinds_and_places(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		struct slice message = slice_str(shapes[i].message);
		struct buf packed = {0};
		struct arena a;
		struct mime_part *root, *again = NULL;
		const struct mime_part *p, *q;

		arena_init(&a, 0);
		root = mime_parse(&a, message);
		mime_pack(root, &packed);
		assert_int_equal(mime_unpack(&a, buf_view(&packed), message.len, &again), 0);
		for (p = root, q = again; p && q; p = mime_next(root, p), q = mime_next(again, q)) {
			assert_int_equal(p->kind, q->kind);
			assert_int_equal(p->encoding, q->encoding);
			assert_int_equal(p->depth, q->depth);
			assert_int_equal(p->header_at, q->header_at);
			assert_int_equal(p->header_len, q->header_len);
			assert_int_equal(p->body_len, q->body_len);
			assert_int_equal(p->child_count, q->child_count);
		}
		assert_true(!p && !q);
		for (size_t cut = 0; cut < buf_len(&packed); cut++)
			assert_int_equal(
				mime_unpack(&a, slice_sub(buf_view(&packed), 0, cut), message.len, &again),
				ERR_CORRUPT);
		if (message.len)
			assert_int_equal(
				mime_unpack(&a, buf_view(&packed), message.len - 1, &again), ERR_CORRUPT);
		buf_deinit(&packed);
		arena_deinit(&a);
	}
}

/* The example of RFC 3501 section 6.4.5, in small. */
static const char sections_message[] =
	"Subject: m\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"
	"--a\r\nContent-Type: text/plain\r\n\r\none\r\n"
	"--a\r\n\r\ntwo\r\n"
	"--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: m3\r\nContent-Type: multipart/mixed; "
	"boundary=c\r\n\r\n"
	"--c\r\n\r\n3.1\r\n--c\r\nX: 3.2\r\n\r\n3.2\r\n--c--\r\n"
	"--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: m4\r\n\r\nfour\r\n"
	"--a--\r\n";

static void test_sections_are_found(void **state)
{
	static const struct {
		const char *spec, *want; /* NULL: no such part */
	} rows[] = {
		{"HEADER", "Subject: m\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"},
		{"1", "one"},
		{"1.MIME", "Content-Type: text/plain\r\n\r\n"},
		{"1.1", NULL},
		{"1.HEADER", NULL},
		{"1.TEXT", NULL},
		{"2", "two"},
		{"2.mime", "\r\n"},
		{"3.MIME", "Content-Type: message/rfc822\r\n\r\n"},
		{"3.HEADER", "Subject: m3\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"},
		{"3.HEADER.FIELDS", "Subject: m3\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"},
		{"3.TEXT", "--c\r\n\r\n3.1\r\n--c\r\nX: 3.2\r\n\r\n3.2\r\n--c--"},
		{"3.1", "3.1"},
		{"3.2", "3.2"},
		{"3.2.MIME", "X: 3.2\r\n\r\n"},
		{"3.3", NULL},
		{"4", "Subject: m4\r\n\r\nfour"},
		{"4.1", "four"},
		{"4.1.MIME", "Subject: m4\r\n\r\n"},
		{"4.1.1", NULL},
		{"4.2", NULL},
		{"4.TEXT", "four"},
		{"5", NULL},
	};
	struct slice message = slice_str(sections_message);
	struct section_range range;
	struct section s;
	struct mime_part *root;
	struct arena a;

	(void)state;
	arena_init(&a, 0);
	root = mime_parse(&a, message);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int err;

		assert_int_equal(section_parse(slice_str(rows[i].spec), &s), 0);
		err = section_find(root, &s, &range);
		if (!rows[i].want) {
			if (err != ERR_NOT_FOUND)
				fail_msg("%s: found", rows[i].spec);
			continue;
		}
		assert_int_equal(err, 0);
		if (!slice_is_str(slice_sub(message, range.at, range.len), rows[i].want))
			fail_msg("%s: got %.*s", rows[i].spec, (int)range.len, message.p + range.at);
	}
	assert_int_equal(section_parse(slice_str(""), &s), 0);
	assert_int_equal(section_find(root, &s, &range), 0);
	assert_int_equal(range.len, message.len);
	arena_deinit(&a);
	/* a message that is no multipart has the part 1 */
	root = mime_parse(&a, slice_str("A: b\r\n\r\nbody"));
	assert_int_equal(section_parse(slice_str("1"), &s), 0);
	assert_int_equal(section_find(root, &s, &range), 0);
	assert_int_equal(range.len, 4);
	arena_deinit(&a);
}

static void test_bad_sections_are_refused(void **state)
{
	static const char *rows[] = {"0", "1.", ".1", "1..2", "MIME", "1.X", "01x", "4294967296", "HEADER.",
		"-1", "1.HEADER.FIELD"};
	struct section s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(section_parse(slice_str(rows[i]), &s), ERR_SYNTAX);
}

static void assert_shortens(struct slice message)
{
	struct arena a;
	struct buf got = {0};
	struct slice full, want;

	arena_init(&a, 0);
	full = parse_structure(&a, message, true);
	want = parse_structure(&a, message, false);
	assert_int_equal(bodystructure_shorten(full, &got), 0);
	if (!slice_is_equal(buf_view(&got), want))
		fail_msg("got %s want %.*s", buf_str_view(&got), SLICE_ARG(want));
	for (size_t cut = 0; cut < full.len && cut < 400; cut++)
		assert_int_equal(bodystructure_shorten(slice_sub(full, 0, cut), &got), ERR_CORRUPT);
	buf_deinit(&got);
	arena_deinit(&a);
}

static void test_body_is_bodystructure_without_its_extensions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
		assert_shortens(slice_str(shapes[i].message));
	assert_shortens(slice_str(sections_message));
	assert_shortens(slice_str(
		"Content-Type: text/plain; x=\"\xe4\\\"\\\\(\"\r\nContent-Description: (\x80)\r\n\r\n"));
}

/* Every part of a corpus, where there is one: sound trees, the same for any way of feeding. */
static size_t check_corpus(const char *list_command)
{
	FILE *list = popen(list_command, "r");
	char path[4096];
	size_t count = 0;

	while (list && fgets(path, sizeof(path), list)) {
		static char text[32 << 20];
		struct buf want = {0};
		struct arena a;
		struct slice message;
		FILE *f;

		path[strcspn(path, "\n")] = '\0';
		f = fopen(path, "rb");
		assert_non_null(f);
		message = slice_of(text, fread(text, 1, sizeof(text), f));
		fclose(f);
		arena_init(&a, MIME_ARENA_MAX);
		describe(mime_parse(&a, message), &want);
		assert_sound(mime_parse(&a, message), message);
		assert_fed_alike(message, message.len / 2, 0, &want);
		assert_fed_alike(message, 0, 997, &want);
		assert_shortens(message);
		buf_deinit(&want);
		arena_deinit(&a);
		count++;
	}
	if (list)
		pclose(list);
	return count;
}

static void test_the_corpus_gives_sound_trees(void **state)
{
	size_t tricky = check_corpus("tests/corpus-files tricky 2>/dev/null");
	size_t real = check_corpus("tests/corpus-files real 2>/dev/null");

	(void)state;
	if (tricky == 0 || real == 0) {
		print_message("the corpora of real and tricky mail are not here (docs/testing.md)\n");
		skip();
	}
	assert_true(tricky >= 100 && real >= 3000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_message_gives_its_structure),
		cmocka_unit_test(test_feeding_in_pieces_gives_the_same_tree),
		cmocka_unit_test(test_11_depth_and_parts_are_capped),
		cmocka_unit_test(test_12_headers_are_capped),
		cmocka_unit_test(test_a_full_arena_cuts_and_never_breaks),
		cmocka_unit_test(test_packing_keeps_kinds_and_places),
		cmocka_unit_test(test_sections_are_found),
		cmocka_unit_test(test_bad_sections_are_refused),
		cmocka_unit_test(test_body_is_bodystructure_without_its_extensions),
		cmocka_unit_test(test_the_corpus_gives_sound_trees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
