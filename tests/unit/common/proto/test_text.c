/* Transfer encodings, charsets, encoded words, folded search; and that all of this takes linear time. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unicase.h>
#include <uninorm.h>

#include <cmocka.h>

#include "common/proto/address.h"
#include "common/proto/bodystructure.h"
#include "common/proto/charset.h"
#include "common/proto/encoded_word.h"
#include "common/proto/fold.h"
#include "common/proto/transfer.h"
#include "tests/unit/feed.h"
#include "tests/unit/linear.h"

static void decode(enum mime_encoding encoding, struct slice text, size_t step, struct buf *out)
{
	struct transfer_decoder d;

	transfer_decoder_init(&d, encoding);
	for (size_t at = 0; at < text.len; at += step) {
		struct feed_page page = feed_page_copy(slice_sub(text, at, step));

		transfer_decoder_feed(&d, page.text, out);
		feed_page_free(&page);
	}
	transfer_decoder_end(&d, out);
}

static void test_transfer_encodings_are_decoded(void **state)
{
	static const struct {
		enum mime_encoding encoding;
		const char *text, *want;
	} rows[] = {
		{MIME_BASE64, "aGVsbG8gd29ybGQ=", "hello world"},
		{MIME_BASE64, "aGVs\r\nbG8g\r\n d29ybGQ", "hello world"},
		{MIME_BASE64, "Zg==Zg==", "ff"},
		{MIME_BASE64, "Z!g=*=", "f"},
		{MIME_BASE64, "Z", ""},
		{MIME_QUOTED_PRINTABLE, "a=3Db=\r\nc  \r\nd", "a=bc\r\nd"},
		{MIME_QUOTED_PRINTABLE, "a= \t\nb", "ab"},
		{MIME_QUOTED_PRINTABLE, "=e4=E4=", "\xe4\xe4"},
		{MIME_QUOTED_PRINTABLE, "=ZZ =4 =4Z ==41", "=ZZ =4 =4Z =A"},
		{MIME_QUOTED_PRINTABLE, "a b \r c", "a b \r c"},
		{MIME_QUOTED_PRINTABLE, "x \t", "x"},
		{MIME_8BIT, "a=3D", "a=3D"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t step = 1; step < 9; step++) {
			struct buf got = {0};

			decode(rows[i].encoding, slice_str(rows[i].text), step, &got);
			if (!slice_is_str(buf_view(&got), rows[i].want))
				fail_msg("%s step %zu: got %s", rows[i].text, step, buf_str_view(&got));
			buf_deinit(&got);
		}
	}
	assert_int_equal(transfer_encoding(slice_str("BASE64")), MIME_BASE64);
	assert_int_equal(transfer_encoding(slice_str("x-uuencode")), MIME_OTHER);
}

static void test_charsets_become_utf8(void **state)
{
	static const struct {
		const char *charset, *text, *want; /* want NULL: unknown charset */
	} rows[] = {
		{"utf-8", "\xc3\xa4", "\xc3\xa4"},
		{"UTF-8",
			"a\xc3"
			"b\xff",
			"a\xef\xbf\xbd"
			"b\xef\xbf\xbd"},
		{"utf-8", "\xe2\x82", "\xef\xbf\xbd"},
		{"utf-8", "\xfc\xb5\xb5\xb5\xb5\xb5x", "\xef\xbf\xbdx"},
		{"iso-8859-1", "\xe4\x80", "\xc3\xa4\xe2\x82\xac"},
		{"", "abc", "abc"},
		{"ks_c_5601-1987", "\xb0\xa1", "\xea\xb0\x80"},
		{"iso-2022-jp", "\x1b$B$^\x1b(B!", "\xe3\x81\xbe!"},
		{"shift_jis", "\x82\xdc", "\xe3\x81\xbe"},
		{"no-such-charset", "a", NULL},
		{"utf-8//TRANSLIT", "a", NULL},
		{"../../etc/passwd", "a", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t step = 1; step < 5; step++) {
			struct charset_decoder *d = NULL;
			struct slice text = slice_str(rows[i].text);
			struct buf got = {0};

			assert_int_equal(charset_is_known(slice_str(rows[i].charset)), rows[i].want != NULL);
			if (!rows[i].want) {
				assert_int_equal(
					charset_decoder_new(slice_str(rows[i].charset), &d), ERR_UNSUPPORTED);
				continue;
			}
			assert_int_equal(charset_decoder_new(slice_str(rows[i].charset), &d), 0);
			for (size_t at = 0; at < text.len; at += step)
				charset_decoder_feed(d, slice_sub(text, at, step), &got);
			charset_decoder_end(d, &got);
			charset_decoder_free(&d);
			if (!slice_is_str(buf_view(&got), rows[i].want))
				fail_msg("row %zu step %zu: got %s", i, step, buf_str_view(&got));
			buf_deinit(&got);
		}
	}
}

static void test_encoded_words_are_read(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"plain", "plain"},
		{"=?ISO-8859-1?Q?a?=", "a"},
		{"=?ISO-8859-1?Q?a?= b", "a b"},
		{"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"},
		{"=?ISO-8859-1?Q?a?=\r\n  =?utf-8?B?w6Q=?=", "a\xc3\xa4"},
		{"=?ISO-8859-1?Q?a_b?=", "a b"},
		{"=?utf-8*de?q?=C3?= =?UTF-8?q?=A4?=", "\xc3\xa4"}, /* a character cut in two */
		{"x=?utf-8?q?y?=z", "xyz"},
		{"=?none-such?q?x?= y", "=?none-such?q?x?= y"},
		{"=?utf-8?x?y?=", "=?utf-8?x?y?="},
		{"=?utf-8?q?unclosed", "=?utf-8?q?unclosed"},
		{"=?utf-8?q?a=0D=0Ab=00c?=", "a  bc"},
		{"\xe4", "\xc3\xa4"},
		{"\xc3\xa4", "\xc3\xa4"},
		{"a\r\n b", "a b"},
		{"=?", "=?"},
		{"=?\?q?\?=", "=?\?q?\?="},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct feed_page page = feed_page_copy(slice_str(rows[i].text));
		struct buf got = {0};

		encoded_word_decode(page.text, &got);
		if (!slice_is_str(buf_view(&got), rows[i].want))
			fail_msg("%s: got %s", rows[i].text, buf_str_view(&got));
		assert_true(slice_is_utf8(buf_view(&got)));
		feed_page_free(&page);
		buf_deinit(&got);
	}
}

static bool is_in(const struct buf *text, const struct buf *needle)
{
	return buf_len(needle) == 0 || (buf_len(text) && memmem(buf_view(text).p, buf_len(text),
								 buf_view(needle).p, buf_len(needle)));
}

static void test_search_folds_case_and_form(void **state)
{
	static const struct {
		const char *text, *needle;
		bool want;
	} rows[] = {
		{"Hello World", "o w", true},
		{"Hello World", "O W", true},
		{"Hello", "", true},
		{"", "a", false},
		{"", "", true},
		{"abcabd", "abd", true},
		{"abcab", "abd", false},
		{"STRASSE",
			"stra\xc3\x9f"
			"e",
			true},
		{"M\xc3\xbcller",
			"m\xc3\x9c"
			"ll",
			true},
		{"Mu\xcc\x88ller", "m\xc3\xbcller", true}, /* decomposed */
		{"\xef\xbc\xa1", "a", true},               /* full width */
		{"\xe3\x81\xbe\xe3\x81\xbf", "\xe3\x81\xbf", true},
		{"a\xff"
		 "b",
			"a", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf needle = {0}, out = {0};
		struct slice text = slice_str(rows[i].text);

		fold_text(slice_str(rows[i].needle), &needle);
		for (size_t cut = 0; cut <= text.len; cut++) {
			struct fold_stream s = {0};

			buf_clear(&out);
			fold_stream_feed(&s, slice_sub(text, 0, cut), &out);
			fold_stream_feed(&s, slice_from(text, cut), &out);
			fold_stream_end(&s, &out);
			fold_stream_deinit(&s);
			if (is_in(&out, &needle) != rows[i].want)
				fail_msg("row %zu cut %zu", i, cut);
		}
		buf_clear(&out);
		fold_text(text, &out);
		assert_int_equal(is_in(&out, &needle), rows[i].want);
		buf_deinit(&out);
		buf_deinit(&needle);
	}
}

/* Cut between ASCII characters or not: the same (the library, over the whole, is the measure). */
static void test_folding_in_cuts(void **state)
{
	static const char *const pieces[] = {"Some ASCII of more than 16 ", "A", "\xcc\x88", "\xcc\xa3",
		"\xc3\x84", "\xc4\xb0", "\xce\xa3 ", "\xef\xac\x81", "\xea\xb0\x80", "\xcd\x85", "i",
		"\xf0\x90\x90\x80", "0123456789ABCDEF", "\xe1\xba\x9e"};
	struct buf text = {0}, out = {0};
	uint32_t seed = 1;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		size_t len;
		uint8_t *want;

		buf_clear(&text);
		buf_clear(&out);
		for (int i = 0; i < 1 + round % 12; i++) {
			seed = seed * 1664525 + 1013904223;
			buf_add_str(&text, pieces[(seed >> 16) % ARRAY_LEN(pieces)]);
		}
		want = u8_casefold(
			(const uint8_t *)text.data, buf_len(&text), NULL, UNINORM_NFKD, NULL, &len);
		fold_text(buf_view(&text), &out);
		if (buf_len(&out) != len || memcmp(out.data, want, len) != 0)
			fail_msg("%s", buf_str_view(&text));
		free(want);
	}
	buf_deinit(&text);
	buf_deinit(&out);
}

/* Eight letters are made small at once: each of all in each place. */
static void test_folding_of_each_letter(void **state)
{
	struct buf out = {0};

	(void)state;
	for (int c = 1; c < 128; c++) {
		for (size_t at = 0; at < 19; at++) {
			char text[19];

			memset(text, 'Z', sizeof(text));
			text[at] = (char)c;
			buf_clear(&out);
			fold_text(slice_of(text, sizeof(text)), &out);
			assert_int_equal(buf_len(&out), sizeof(text));
			for (size_t i = 0; i < sizeof(text); i++)
				assert_int_equal(out.data[i], tolower(text[i]));
		}
	}
	buf_deinit(&out);
}

/* ---- linear time ---- */

static void work_mime(struct slice text)
{
	struct arena a;
	struct buf out = {0};
	struct mime_part *root;

	arena_init(&a, MIME_ARENA_MAX);
	root = mime_parse(&a, text);
	assert_int_equal(bodystructure_write(root, &a, &out), 0);
	buf_deinit(&out);
	arena_deinit(&a);
}

static void work_addresses(struct slice text)
{
	struct arena a;
	struct address *list;
	size_t count;

	arena_init(&a, 0);
	assert_int_equal(address_parse_list(&a, text, &list, &count), 0);
	arena_deinit(&a);
}

static void work_type(struct slice text)
{
	struct arena a;
	struct content_value v;

	arena_init(&a, 0);
	assert_int_equal(content_parse_type(&a, text, &v), 0);
	arena_deinit(&a);
}

static void work_words(struct slice text)
{
	struct buf out = {0};

	encoded_word_decode(text, &out);
	buf_deinit(&out);
}

static void work_qp(struct slice text)
{
	struct buf out = {0};

	decode(MIME_QUOTED_PRINTABLE, text, SIZE_MAX / 2, &out);
	buf_deinit(&out);
}

static void work_fold(struct slice text)
{
	struct fold_stream s = {0};
	struct buf out = {0};

	fold_stream_feed(&s, text, &out);
	fold_stream_end(&s, &out);
	fold_stream_deinit(&s);
	buf_deinit(&out);
}

static void work_base64(struct slice text)
{
	struct buf out = {0};

	decode(MIME_BASE64, text, SIZE_MAX / 2, &out);
	buf_deinit(&out);
}

/* The charset's name, a line end, the text, which comes in pieces: the sanitizer reads all that iconv() is given, each time. */
static void work_charset(struct slice text)
{
	size_t name = strcspn(text.p, "\n");
	struct charset_decoder *d;
	struct buf out = {0};

	assert_int_equal(charset_decoder_new(slice_sub(text, 0, name), &d), 0);
	for (size_t at = name + 1; at < text.len; at += 1000)
		charset_decoder_feed(d, slice_sub(text, at, 1000), &out);
	charset_decoder_end(d, &out);
	charset_decoder_free(&d);
	buf_deinit(&out);
}

static void work_guess(struct slice text)
{
	struct buf out = {0};

	charset_guess_utf8(text, &out);
	buf_deinit(&out);
}

/* security 12: what a hostile header or body costs grows with its size and not faster */
static void test_12_time_is_linear_in_size(void **state)
{
	static const struct {
		linear_fn *work;
		const char *start, *again;
	} rows[] = {
		{work_mime, "", "A: b\r\n"},
		{work_mime, "", "To: a@b\r\n"},
		{work_mime, "", "To: x\r\n y\r\n"},
		{work_mime, "", "Content-Type: "},
		{work_mime, "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\n"},
		{work_mime, "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--bb\r\n"},
		{work_mime, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
			"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n"},
		{work_mime, "", "Content-Type: message/rfc822\r\n\r\n"},
		{work_mime, "", "-"},
		{work_addresses, "", "("},
		{work_addresses, "", "\""},
		{work_addresses, "", "<@"},
		{work_addresses, "", "a:"},
		{work_addresses, "", "a . "},
		{work_addresses, "", "a@b "},
		{work_addresses, "<@", "@,"},
		{work_type, "a/b", ";x*0=y"},
		{work_type, "a/b", ";x*9=y"},
		{work_type, "a/b;", "("},
		{work_type, "a/b;x=", "a ("},
		{work_words, "", "=?"},
		{work_words, "", "=?a?q?"},
		{work_words, "", "=?utf-8?q?=?= "},
		{work_qp, "", "= "},
		{work_qp, "", " "},
		{work_base64, "", "="},
		{work_base64, "", "A=!"},
		{work_charset, "utf-8\n", "\xff"},
		{work_charset, "utf-8\n", "\xf0\x9f\x98"},
		{work_charset, "utf-7\n", "+AA"},
		{work_charset, "us-ascii\n", "\xe4"},
		{work_charset, "iso-2022-jp\n", "\x1b$B\x1b(B"},
		{work_charset, "iso-2022-jp\n", "\x1b$B\xff"},
		{work_charset, "gb18030\n", "\x81\x30\x81"},
		{work_charset, "utf-16\n", "\xd8"},
		{work_charset, "windows-1252\n", "\x81"},
		{work_guess, "", "\xe2\x82"},
		{work_fold, "", "a"},
		{work_fold, "", "\xc3\xa4"},
		{work_fold, "", "\xcc\x88"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		linear_expect(rows[i].work, rows[i].start, rows[i].again, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transfer_encodings_are_decoded),
		cmocka_unit_test(test_charsets_become_utf8),
		cmocka_unit_test(test_encoded_words_are_read),
		cmocka_unit_test(test_search_folds_case_and_form),
		cmocka_unit_test(test_folding_of_each_letter),
		cmocka_unit_test(test_folding_in_cuts),
		cmocka_unit_test(test_12_time_is_linear_in_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
