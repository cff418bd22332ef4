/* Modified UTF-7: examples, one coding a name, and both ways over all characters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/proto/mutf7.h"
#include "tests/unit/feed.h"

static const struct {
	const char *mutf7;
	const char *utf8; /* NULL: refused */
} rows[] = {
	{"", ""},
	{"INBOX", "INBOX"},
	{"a&-b", "a&b"},
	{"&-", "&"},
	{"~peter/mail/&U,BTFw-/&ZeVnLIqe-",
		"~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
	{"Entw&APw-rfe", "Entw\xc3\xbcrfe"},
	{"&2D3eAA-", "\xf0\x9f\x98\x80"},
	{"&AOQ-&-", "\xc3\xa4&"},
	{"&Jjo-!", "\xe2\x98\xba!"},
	{"&", NULL},
	{"&AOQ", NULL},       /* no end */
	{"&AOQA-", NULL},     /* superfluous bits */
	{"&AOR-", NULL},      /* bits that are not zero */
	{"&AGE-", NULL},      /* "a" needs no shift */
	{"&AAA-", NULL},      /* NUL */
	{"&AAo-", NULL},      /* LF */
	{"&AOQ-&APY-", NULL}, /* two shifts in a row: &AOQA9g- is the one coding */
	{"&2D0-", NULL},      /* first surrogate alone */
	{"&3gA-", NULL},      /* second surrogate alone */
	{"&2D3YPQ-", NULL},   /* two first surrogates */
	{"&U/BTFw-", NULL},   /* "/" is no digit here */
	{"\xc3\xa4", NULL},
	{"a\x01", NULL},
	{"a\x7f", NULL},
};

static void test_names_are_decoded_and_encoded_one_way(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].mutf7));
		struct buf out = {0}, again = {0};

		assert_int_equal(mutf7_decode(&out, page.text), rows[i].utf8 ? 0 : ERR_SYNTAX);
		assert_string_equal(buf_str_view(&out), rows[i].utf8 ? rows[i].utf8 : "");
		if (rows[i].utf8) {
			assert_int_equal(mutf7_encode(&again, buf_view(&out)), 0);
			assert_string_equal(buf_str_view(&again), rows[i].mutf7);
		}
		buf_deinit(&out);
		buf_deinit(&again);
		feed_page_free(&page);
	}
}

static size_t put_utf8(char *to, uint32_t c)
{
	if (c < 0x80)
		return to[0] = (char)c, 1;
	if (c < 0x800)
		return to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 63)), 2;
	if (c < 0x10000)
		return to[0] = (char)(0xe0 | c >> 12), to[1] = (char)(0x80 | (c >> 6 & 63)),
		       to[2] = (char)(0x80 | (c & 63)), 3;
	return to[0] = (char)(0xf0 | c >> 18), to[1] = (char)(0x80 | (c >> 12 & 63)),
	       to[2] = (char)(0x80 | (c >> 6 & 63)), to[3] = (char)(0x80 | (c & 63)), 4;
}

static void test_every_character_comes_back(void **state)
{
	(void)state;
	for (uint32_t c = 0x20; c < 0x110000; c += c < 0x3000 ? 1 : 37) {
		char utf8[10];
		size_t n = put_utf8(utf8, c);
		struct buf mutf7 = {0}, back = {0};

		n += put_utf8(utf8 + n, 0xe4);
		if (c == 0x7f || (c >= 0xd800 && c <= 0xdfff))
			continue;
		assert_int_equal(mutf7_encode(&mutf7, slice_of(utf8, n)), 0);
		assert_true(slice_is_ascii(buf_view(&mutf7)));
		assert_int_equal(mutf7_decode(&back, buf_view(&mutf7)), 0);
		assert_true(slice_is_equal(buf_view(&back), slice_of(utf8, n)));
		buf_deinit(&mutf7);
		buf_deinit(&back);
	}
}

static void test_what_is_no_text_is_not_encoded(void **state)
{
	struct buf out = {0};
	struct arena arena;
	struct slice got;

	(void)state;
	assert_int_equal(mutf7_encode(&out, SLICE_LIT("\xff")), ERR_SYNTAX);
	assert_int_equal(mutf7_encode(&out, SLICE_LIT("a\nb")), ERR_SYNTAX);
	assert_int_equal(buf_len(&out), 0);
	arena_init(&arena, 64);
	assert_int_equal(mutf7_decode_arena(&arena, SLICE_LIT("&AOQ-"), &got), 0);
	assert_true(slice_is_str(got, "\xc3\xa4"));
	arena_fail_after(1);
	assert_int_equal(mutf7_decode_arena(&arena, SLICE_LIT("x"), &got), ERR_TOO_BIG);
	arena_fail_after(0);
	arena_deinit(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_decoded_and_encoded_one_way),
		cmocka_unit_test(test_every_character_comes_back),
		cmocka_unit_test(test_what_is_no_text_is_not_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
