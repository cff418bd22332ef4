/* What is squeezed comes back, in fewer octets where it repeats itself or the dictionary; anything else is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/squeeze.h"

static const char words[] = " NIL NIL NIL) (\"text\" \"plain\" (\"charset\" \"utf-8\") NIL NIL \"7bit\" ";

/* There and back; gives the octets between. */
static size_t turn(const struct squeeze_dict *dict, struct slice text)
{
	struct buf squeezed = {0}, opened = {0};
	size_t len;
	char *copy;

	squeeze(dict, text, &squeezed);
	len = buf_len(&squeezed);
	assert_true(len <= text.len + text.len / 128 + 1);
	/* At the end of a piece of memory of its own, for the sanitizer. */
	copy = xmalloc(len + 1);
	memcpy(copy, len ? buf_view(&squeezed).p : "", len);
	buf_add_str(&opened, "before");
	assert_int_equal(squeeze_open(dict->text, slice_of(copy, len), text.len, &opened), 0);
	assert_int_equal(buf_len(&opened), 6 + text.len);
	if (text.len)
		assert_memory_equal(buf_view(&opened).p + 6, text.p, text.len);
	if (text.len)
		assert_int_equal(
			squeeze_open(dict->text, slice_of(copy, len), text.len - 1, &opened), ERR_CORRUPT);
	assert_int_equal(squeeze_open(dict->text, slice_of(copy, len), text.len + 1, &opened), ERR_CORRUPT);
	for (size_t cut = 0; cut < len && text.len; cut++)
		assert_int_equal(
			squeeze_open(dict->text, slice_of(copy, cut), text.len, &opened), ERR_CORRUPT);
	assert_int_equal(buf_len(&opened), 6 + text.len);
	free(copy);
	buf_deinit(&squeezed);
	buf_deinit(&opened);
	return len;
}

static void test_texts_come_back(void **state)
{
	static const struct {
		const char *text;
		size_t most;
	} cases[] = {
		{"", 0},
		{"a", 2},
		{"nothing of it twice", 20},
		{" NIL NIL NIL) (\"text\" \"plain\" (\"charset\" \"utf-8\") NIL NIL \"7bit\" 12 1)", 12},
		{"((\"Writer 7\" NIL \"w7\" \"example.net\")) ((\"Writer 7\" NIL \"w7\" \"example.net\"))",
			45},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 5},
		{"\"7bit\"  NIL NIL NIL)  NIL NIL NIL) ", 18},
	};
	struct squeeze_dict dict, none;

	(void)state;
	squeeze_dict_init(&dict, SLICE_LIT(words));
	squeeze_dict_init(&none, slice_of(NULL, 0));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = turn(&dict, slice_str(cases[i].text));

		if (len > cases[i].most)
			print_error("%s: %zu\n", cases[i].text, len);
		assert_true(len <= cases[i].most);
		(void)turn(&none, slice_str(cases[i].text));
	}
}

/* A match that begins in the dictionary and goes on at the beginning of the text. */
static void test_a_match_runs_out_of_the_dictionary(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(squeeze_open(SLICE_LIT("xab"), SLICE_LIT("\x98\x02"), 6, &out), 0);
	assert_true(slice_is_str(buf_view(&out), "ababab"));
	buf_clear(&out);
	assert_int_equal(
		squeeze_open(SLICE_LIT("0123456789abcdefghij"), SLICE_LIT("\xf8\x14\x0a"), 28, &out), 0);
	assert_true(slice_is_str(buf_view(&out), "0123456789abcdefghij01234567"));
	buf_deinit(&out);
}

static void test_what_is_none_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len, opens;
	} cases[] = {
		{"\x05hello", 6, 5},    /* fewer literals than it says */
		{"\x80", 1, 3},         /* no distance */
		{"\x80\x00", 2, 3},     /* a distance of nothing */
		{"\x80\x04", 2, 3},     /* before the dictionary */
		{"\xf8\x01", 2, 18},    /* no more of the length */
		{"\x04hello", 6, 4},    /* more than it should be */
		{"\xf8\x01\xff", 3, 9}, /* the same of a match */
	};
	struct buf out = {0}, small;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *copy = xmemdup0(cases[i].bytes, cases[i].len);

		assert_int_equal(
			squeeze_open(SLICE_LIT("abc"), slice_of(copy, cases[i].len), cases[i].opens, &out),
			ERR_CORRUPT);
		assert_int_equal(buf_len(&out), 0);
		free(copy);
	}
	buf_init(&small, 4);
	assert_int_equal(squeeze_open(SLICE_LIT("abc"), SLICE_LIT("\x04hello"), 5, &small), ERR_TOO_BIG);
	buf_deinit(&small);
	buf_deinit(&out);
}

/* Made of few words, so that matches of all lengths and distances come; longer than what is looked at. */
static void test_random_texts_come_back(void **state)
{
	static char text[20000];
	struct squeeze_dict dict;
	uint64_t x = 88172645463325252;

	(void)state;
	squeeze_dict_init(&dict, SLICE_LIT(words));
	for (int round = 0; round < 300; round++) {
		size_t len = 0, want = round < 290 ? (size_t)round * 7 : sizeof(text) - 300;
		unsigned kinds = 2 + (unsigned)round % 30;

		while (len < want) {
			size_t from, n;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			n = 1 + (x >> 8) % 40;
			if (len > 100 && x % 3 == 0) {
				from = (x >> 20) % (len - n);
				memmove(text + len, text + from, n);
			} else {
				for (size_t i = 0; i < n; i++)
					text[len + i] = (char)('a' + (x >> (i % 48)) % kinds);
			}
			len += n;
		}
		if (len < 3000)
			(void)turn(&dict, slice_of(text, len));
		else {
			struct buf squeezed = {0}, opened = {0};

			squeeze(&dict, slice_of(text, len), &squeezed);
			assert_true(buf_len(&squeezed) < len);
			assert_int_equal(squeeze_open(dict.text, buf_view(&squeezed), len, &opened), 0);
			assert_memory_equal(buf_view(&opened).p, text, len);
			buf_deinit(&squeezed);
			buf_deinit(&opened);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts_come_back),
		cmocka_unit_test(test_a_match_runs_out_of_the_dictionary),
		cmocka_unit_test(test_what_is_none_is_refused),
		cmocka_unit_test(test_random_texts_come_back),
	};

	mem_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
