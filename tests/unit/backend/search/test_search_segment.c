/* Rows of the text index: made and read back, bounded, and hostile ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/search/search_segment.h"
#include "common/base/mem.h"
#include "common/base/random.h"

static struct search_segment segment, again;

static uint32_t gram_of(const char *p)
{
	return (uint32_t)(unsigned char)p[0] << 16 | (uint32_t)(unsigned char)p[1] << 8 | (unsigned char)p[2];
}

static bool has(const struct search_block *blocks, size_t count, uint32_t gram, size_t doc)
{
	uint8_t bits[SEARCH_DOCS_MAX / 8];
	size_t i = 0;

	while (i + 1 < count && blocks[i + 1].gram <= gram)
		i++;
	if (count == 0 || blocks[i].gram > gram)
		return false;
	assert_int_equal(search_block_find(blocks[i].bytes, blocks[i].gram, gram, segment.count, bits), 0);
	return bits[doc / 8] >> doc % 8 & 1;
}

/* Texts of words of a few letters: each of their grams is found, and no other. */
static void test_what_is_put_in_is_found(void **state)
{
	enum {
		DOCS = 700,
		LEN = 400
	};
	struct search_builder *b = search_builder_new();
	char(*texts)[LEN] = xmalloc(sizeof(*texts) * DOCS);
	const struct search_block *blocks;
	struct buf row = {0};
	size_t count;

	(void)state;
	for (size_t d = 0; d < DOCS; d++) {
		random_bytes(texts[d], LEN);
		for (size_t i = 0; i < LEN; i++) {
			unsigned char c = (unsigned char)texts[d][i];

			texts[d][i] = c < 20 ? '\0' : (char)('a' + c % (d % 10 == 0 ? 26 : 4));
		}
		search_builder_text(b, slice_of(texts[d], LEN));
		assert_int_equal(search_builder_end_doc(b, (uint32_t)(10 + d * 3), LEN), 1);
	}
	search_builder_finish(b, &segment, &blocks, &count);
	search_segment_pack(&segment, &row);
	assert_int_equal(search_segment_unpack(buf_view(&row), &again), 0);
	assert_int_equal(again.count, segment.count);
	assert_memory_equal(again.docs, segment.docs, segment.count * sizeof(*again.docs));
	assert_true(segment.count > DOCS / 2);
	assert_true(segment.octets + buf_len(&row) <= search_segment_text(&segment));
	for (size_t i = 0; i < count; i++)
		assert_true(blocks[i].bytes.len <= SEARCH_BLOCK_MAX);
	for (size_t doc = 0; doc < segment.count; doc += 7) {
		const char *text = texts[(segment.docs[doc].uid - 10) / 3];

		for (size_t i = 0; i + 3 <= LEN; i++)
			if (!memchr(text + i, '\0', 3))
				assert_true(has(blocks, count, gram_of(text + i), doc));
		for (int i = 0; i < 300; i++) {
			char word[4] = {0};

			random_bytes(word, 3);
			for (size_t k = 0; k < 3; k++)
				word[k] = (char)('a' + (unsigned char)word[k] % 6);
			if (has(blocks, count, gram_of(word), doc))
				assert_non_null(memmem(text, LEN, word, 3));
		}
	}
	assert_false(has(blocks, count, 0, 0));
	assert_false(has(blocks, count, 0xffffff, 0));
	buf_deinit(&row);
	free(texts);
	search_builder_free(&b);
}

/* Texts of nothing but different grams would make an index of some times their size: they are left out, others stay. */
static void test_security_23_the_index_is_smaller_than_its_text(void **state)
{
	enum {
		LEN = 60000
	};
	struct search_builder *b = search_builder_new();
	char *noise = xmalloc(LEN), *plain = xmalloc(LEN);
	const struct search_block *blocks;
	struct buf row = {0};
	size_t count, noisy = 0;
	int added;

	(void)state;
	for (size_t i = 0; i < LEN; i++)
		plain[i] = "lorem ipsum dolor sit amet "[i % 27];
	for (uint32_t uid = 1;; uid++) {
		if (uid % 2) {
			random_bytes(noise, LEN);
			for (size_t i = 0; i < LEN; i++)
				noise[i] = noise[i] ? noise[i] : 'x';
		}
		search_builder_text(b, slice_of(uid % 2 ? noise : plain, LEN));
		added = search_builder_end_doc(b, uid, LEN);
		if (added != 1)
			break;
	}
	assert_int_equal(added, ERR_TOO_BIG); /* and memory is bounded */
	search_builder_finish(b, &segment, &blocks, &count);
	search_segment_pack(&segment, &row);
	assert_true(segment.count > 10);
	for (size_t i = 0; i < segment.count; i++)
		noisy += segment.docs[i].uid % 2;
	assert_int_equal(noisy, 0);
	assert_true((segment.octets + buf_len(&row)) * SEARCH_SHARE_DEN <=
		    search_segment_text(&segment) * SEARCH_SHARE_NUM);
	/* Nothing but noise: nothing is indexed. */
	search_builder_clear(b);
	search_builder_text(b, slice_of(noise, LEN));
	assert_int_equal(search_builder_end_doc(b, 1, LEN), 1);
	search_builder_finish(b, &segment, &blocks, &count);
	assert_int_equal(segment.count, 0);
	/* One message with more grams than any text has. */
	search_builder_clear(b);
	for (int i = 0; i < 4; i++) {
		random_bytes(noise, LEN);
		search_builder_text(b, slice_of(noise, LEN));
	}
	assert_int_equal(search_builder_end_doc(b, 1, 4 * LEN), 0);
	assert_int_equal(search_builder_docs(b), 0);
	/* A message without text. */
	assert_int_equal(search_builder_end_doc(b, 2, 0), 1);
	search_builder_finish(b, &segment, &blocks, &count);
	buf_deinit(&row);
	free(noise);
	free(plain);
	search_builder_free(&b);
}

static void count_gram(void *arg, uint32_t gram, const uint8_t *bits)
{
	unsigned *n = arg;

	(void)gram;
	(void)bits;
	++*n;
}

/* Any octet changed: it is noticed, not believed (class 14). */
static void test_security_14_damaged_rows_are_refused(void **state)
{
	struct search_builder *b = search_builder_new();
	const struct search_block *blocks;
	struct buf row = {0};
	char copy[SEARCH_BLOCK_MAX];
	uint8_t bits[SEARCH_DOCS_MAX / 8];
	unsigned grams = 0;
	size_t count;

	(void)state;
	for (uint32_t uid = 1; uid < 300; uid++) {
		char text[600];

		memset(text, 'a', sizeof(text));
		text[uid] = 'b';
		search_builder_text(b, slice_of(text, sizeof(text)));
		assert_int_equal(search_builder_end_doc(b, uid, sizeof(text)), 1);
	}
	search_builder_finish(b, &segment, &blocks, &count);
	assert_int_equal(count, 1);
	assert_int_equal(segment.count, 299);
	search_segment_pack(&segment, &row);
	for (size_t i = 0; i < buf_len(&row); i++) {
		row.data[i] ^= 4;
		assert_int_equal(search_segment_unpack(buf_view(&row), &again), ERR_CORRUPT);
		row.data[i] ^= 4;
		assert_int_equal(search_segment_unpack(slice_sub(buf_view(&row), 0, i), &again), ERR_CORRUPT);
	}
	assert_int_equal(search_block_each(blocks[0].bytes, blocks[0].gram, 299, count_gram, &grams), 0);
	assert_int_equal(grams, 4); /* aaa aab aba baa */
	memcpy(copy, blocks[0].bytes.p, blocks[0].bytes.len);
	for (size_t i = 0; i < blocks[0].bytes.len; i++) {
		struct slice bad = slice_of(copy, blocks[0].bytes.len);

		copy[i] ^= 4;
		assert_int_equal(
			search_block_find(bad, blocks[0].gram, gram_of("aab"), 299, bits), ERR_CORRUPT);
		copy[i] ^= 4;
		assert_int_equal(
			search_block_each(slice_sub(bad, 0, i), blocks[0].gram, 299, count_gram, &grams),
			ERR_CORRUPT);
	}
	buf_deinit(&row);
	search_builder_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_put_in_is_found),
		cmocka_unit_test(test_security_23_the_index_is_smaller_than_its_text),
		cmocka_unit_test(test_security_14_damaged_rows_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
