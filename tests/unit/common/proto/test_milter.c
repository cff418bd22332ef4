#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/proto/milter.h"
#include "tests/unit/feed.h"

static void assert_bytes(struct buf *b, struct slice want)
{
	assert_int_equal(buf_len(b), want.len);
	assert_memory_equal(buf_view(b).p, want.p, want.len);
	buf_clear(b);
}

static void test_packets(void **state)
{
	struct buf b = {0};

	(void)state;
	milter_write_negotiation(&b, 6, 0x1ff, 0x100401);
	assert_bytes(&b, SLICE_LIT("\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x10\x04\x01"));
	milter_write_connect(&b, SLICE_LIT("a.example"), MILTER_FAMILY_INET, 0x1234, SLICE_LIT("192.0.2.1"));
	assert_bytes(&b, SLICE_LIT("\0\0\0\x18"
				   "Ca.example\0004\x12\x34"
				   "192.0.2.1\0"));
	milter_write_connect(&b, SLICE_LIT("x"), MILTER_FAMILY_UNKNOWN, 9, SLICE_LIT("y"));
	assert_bytes(&b, SLICE_LIT("\0\0\0\x04"
				   "Cx\0U"));
	milter_write_mail(&b, SLICE_LIT("<a@b>"), SLICE_LIT("SIZE=5  BODY=7BIT"));
	assert_bytes(&b, SLICE_LIT("\0\0\0\x18M<a@b>\0SIZE=5\0BODY=7BIT\0"));
	milter_write_rcpt(&b, SLICE_LIT("<c>"), SLICE_LIT(""));
	assert_bytes(&b, SLICE_LIT("\0\0\0\x05R<c>\0"));
	milter_write_body(&b, SLICE_LIT("a\0b\r\n"));
	assert_bytes(&b, SLICE_LIT("\0\0\0\x06"
				   "Ba\0b\r\n"));
	milter_write_end(&b);
	assert_bytes(&b, SLICE_LIT("\0\0\0\x01"
				   "E"));
	/* A NUL inside would make a second string. */
	milter_write_helo(&b, SLICE_LIT("a\0b\0"));
	assert_bytes(&b, SLICE_LIT("\0\0\0\x04Hab\0"));
	buf_deinit(&b);
}

static void test_header(void **state)
{
	static const struct {
		struct slice value;
		bool keeps_space;
		struct slice want;
	} rows[] = {
		{SLICE_LIT(" x"), false, SLICE_LIT("\0\0\0\x05LS\0x\0")},
		{SLICE_LIT(" x"), true, SLICE_LIT("\0\0\0\x06LS\0 x\0")},
		{SLICE_LIT("  x\r\n\ty"), false, SLICE_LIT("\0\0\0\x09LS\0 x\n\ty\0")},
		{SLICE_LIT("a\0b"), false, SLICE_LIT("\0\0\0\x06LS\0ab\0")},
		{SLICE_LIT(""), false, SLICE_LIT("\0\0\0\x04LS\0\0")},
	};
	struct buf b = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		milter_write_header(&b, SLICE_LIT("S"), rows[i].value, rows[i].keeps_space);
		assert_bytes(&b, rows[i].want);
	}
	buf_deinit(&b);
}

static void test_macros(void **state)
{
	struct milter_macros m;
	struct buf b = {0};

	(void)state;
	milter_write_eoh(&b);
	milter_macros_begin(&m, &b, MILTER_STAGE_MAIL);
	milter_macros_add(&m, "i", SLICE_LIT("42"));
	milter_macros_add(&m, "auth_authen", SLICE_LIT(""));
	milter_macros_add(&m, "mail_addr", SLICE_LIT("a"));
	milter_macros_end(&m);
	assert_bytes(&b, SLICE_LIT("\0\0\0\x01N\0\0\0\x15"
				   "DMi\00042\0{mail_addr}\0a\0"));
	milter_write_eoh(&b);
	milter_macros_begin(&m, &b, MILTER_STAGE_EOH);
	milter_macros_add(&m, "i", SLICE_LIT(""));
	milter_macros_end(&m);
	assert_bytes(&b, SLICE_LIT("\0\0\0\x01N"));
	buf_deinit(&b);

	assert_true(milter_macros_has(SLICE_LIT("i {mail_addr}, j"), "mail_addr"));
	assert_true(milter_macros_has(SLICE_LIT("i {mail_addr}, j"), "j"));
	assert_true(milter_macros_has(SLICE_LIT("mail_addr"), "mail_addr"));
	assert_false(milter_macros_has(SLICE_LIT("i {mail_addr}, j"), "mail"));
	assert_false(milter_macros_has(SLICE_LIT(""), "i"));
}

static void test_replies(void **state)
{
	static const struct {
		struct slice in;
		enum milter_reply_kind kind;
		uint32_t index;
		const char *name, *value;
	} rows[] = {
		{SLICE_LIT("\0\0\0\x01"
			   "c"),
			MILTER_REPLY_CONTINUE, 0, "", ""},
		{SLICE_LIT("\0\0\0\x05hN\0v\0"), MILTER_REPLY_ADD_HEADER, 0, "N", "v"},
		{SLICE_LIT("\0\0\0\x09i\0\0\0\x07N\0v\0"), MILTER_REPLY_INSERT_HEADER, 7, "N", "v"},
		{SLICE_LIT("\0\0\0\x08m\0\0\0\x01N\0\0"), MILTER_REPLY_CHANGE_HEADER, 1, "N", ""},
		{SLICE_LIT("\0\0\0\x05+<a>\0"), MILTER_REPLY_ADD_RECIPIENT, 0, "<a>", ""},
		{SLICE_LIT("\0\0\0\x0b"
			   "2<a>\0X=1 Y\0"),
			MILTER_REPLY_ADD_RECIPIENT, 0, "<a>", "X=1 Y"},
		{SLICE_LIT("\0\0\0\x05-<a>\0"), MILTER_REPLY_DELETE_RECIPIENT, 0, "<a>", ""},
		{SLICE_LIT("\0\0\0\x04"
			   "e<>\0"),
			MILTER_REPLY_CHANGE_FROM, 0, "<>", ""},
		{SLICE_LIT("\0\0\0\x04qno\0"), MILTER_REPLY_QUARANTINE, 0, "", "no"},
		{SLICE_LIT("\0\0\0\x04"
			   "ba\nb"),
			MILTER_REPLY_BODY, 0, "", "a\nb"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(rows[i].in);
		struct milter_reply r;

		for (size_t cut = 0; cut < rows[i].in.len; cut++)
			assert_int_equal(milter_parse(slice_sub(page.text, 0, cut), &r), 0);
		assert_int_equal(milter_parse(page.text, &r), rows[i].in.len);
		assert_int_equal(r.kind, rows[i].kind);
		assert_int_equal(r.index, rows[i].index);
		assert_true(slice_is_str(r.name, rows[i].name));
		assert_true(slice_is_str(r.value, rows[i].value));
		feed_page_free(&page);
	}
}

static void test_code(void **state)
{
	static const struct {
		struct slice in;
		unsigned code; /* 0: ERR_SYNTAX */
		const char *enhanced, *text;
	} rows[] = {
		{SLICE_LIT("\0\0\0\x10y550 5.7.1 spam\0"), 550, "5.7.1", "spam"},
		{SLICE_LIT("\0\0\0\x0ay451 late\0"), 451, "", "late"},
		{SLICE_LIT("\0\0\0\x05y550\0"), 550, "", ""},
		/* of an other class than the code: part of the text */
		{SLICE_LIT("\0\0\0\x0fy550 4.7.1 odd\0"), 550, "", "4.7.1 odd"},
		{SLICE_LIT("\0\0\0\x1ay550-5.7.1 a\r\n550 5.7.1 b\0"), 550, "5.7.1", "a"},
		{SLICE_LIT("\0\0\0\x08y250 ok\0"), 0, "", ""},
		{SLICE_LIT("\0\0\0\x08y600 ok\0"), 0, "", ""},
		{SLICE_LIT("\0\0\0\x08y5x0 ok\0"), 0, "", ""},
		{SLICE_LIT("\0\0\0\x08y5500ok\0"), 0, "", ""},
		{SLICE_LIT("\0\0\0\x03y55"), 0, "", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(rows[i].in);
		struct milter_reply r;
		ssize_t n = milter_parse(page.text, &r);

		if (rows[i].code) {
			assert_int_equal(n, rows[i].in.len);
			assert_int_equal(r.code, rows[i].code);
			assert_true(slice_is_str(r.enhanced, rows[i].enhanced));
			assert_true(slice_is_str(r.text, rows[i].text));
		} else {
			assert_int_equal(n, ERR_SYNTAX);
		}
		feed_page_free(&page);
	}
}

static void test_negotiation(void **state)
{
	static const struct slice in =
		SLICE_LIT("\0\0\0\x1dO\0\0\0\x06\0\0\0\x3f\0\0\0\x01\0\0\0\x02i {x}\0\0\0\0\x63z\0");
	struct milter_reply r;

	(void)state;
	assert_int_equal(milter_parse(in, &r), in.len);
	assert_int_equal(r.version, 6);
	assert_int_equal(r.actions, 0x3f);
	assert_int_equal(r.protocol, 1);
	assert_true(slice_is_str(r.macros[MILTER_STAGE_MAIL], "i {x}"));
	assert_null(r.macros[MILTER_STAGE_RCPT].p);
}

static void test_wrong(void **state)
{
	static const struct {
		struct slice in;
		ssize_t want;
	} rows[] = {
		{SLICE_LIT("\0\0\0\0"), ERR_SYNTAX},
		{SLICE_LIT("\0\0\0\x01?"), ERR_SYNTAX},
		{SLICE_LIT("\x7f\xff\xff\xff"
			   "c"),
			ERR_TOO_BIG},
		{SLICE_LIT("\0\0\0\x04hN\0v"), ERR_SYNTAX},
		{SLICE_LIT("\0\0\0\x02hN"), ERR_SYNTAX},
		{SLICE_LIT("\0\0\0\x03i\0\0"), ERR_SYNTAX},
		{SLICE_LIT("\0\0\0\x09O\0\0\0\x06\0\0\0\x3f"), ERR_SYNTAX},
		{SLICE_LIT("\0\0\0\x01q"), ERR_SYNTAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(rows[i].in);
		struct milter_reply r;

		assert_int_equal(milter_parse(page.text, &r), rows[i].want);
		feed_page_free(&page);
	}
}

/* Security class 4: no value makes a second field, or ends the header. */
static void security_04_a_filters_field_stays_one_field(void **state)
{
	static const struct {
		struct slice value;
		bool has_space;
		const char *want;
	} rows[] = {
		{SLICE_LIT("v"), false, " v"},
		{SLICE_LIT(" v"), true, " v"},
		{SLICE_LIT("a\n\tb"), false, " a\r\n\tb"},
		{SLICE_LIT("a\r\n b"), false, " a\r\n b"},
		{SLICE_LIT("a\nBcc: x"), false, " a\r\n\tBcc: x"},
		{SLICE_LIT("a\r\nBcc: x\r\n"), false, " a\r\n\tBcc: x"},
		{SLICE_LIT("a\n\nbody"), false, " a\r\n\tbody"},
		{SLICE_LIT("a\r\n\r\nbody"), false, " a\r\n\tbody"},
		{SLICE_LIT("a\rb\x01\x7f"), false, " a?b??"},
		{SLICE_LIT("\n\n"), false, " "},
	};
	static const struct {
		const char *name;
		bool want;
	} names[] = {{"Subject", true}, {"X-a", true}, {"", false}, {"a b", false}, {"a:", false},
		{"a\r\nb", false}};
	struct buf b = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		milter_field_text(&b, rows[i].value, rows[i].has_space);
		assert_string_equal(buf_str_view(&b), rows[i].want);
		buf_clear(&b);
	}
	buf_deinit(&b);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(milter_field_is_name(slice_str(names[i].name)), names[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packets),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_macros),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_code),
		cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(security_04_a_filters_field_stays_one_field),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
