/*
 * Rows of the text index, whatever stands in them; and a segment made of the input, whose grams must all be found.
 * The first octet says which. Checksums are made right, so that what is behind them is reached.
 */
#include "backend/search/search_segment.h"

#include <stdlib.h>

#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct search_segment segment, again;

static void count_bits(void *arg, uint32_t gram, const uint8_t *bits)
{
	require(gram < 1u << 24);
	*(unsigned *)arg += bits[0];
}

static void read_rows(const uint8_t *data, size_t size)
{
	char *row = xmalloc(size + 5);
	struct slice s = slice_of(row, size + 5);
	uint8_t bits[SEARCH_DOCS_MAX / 8];
	size_t count = size ? data[0] * 8 : 0;
	unsigned n = 0;

	row[0] = 1;
	if (size)
		memcpy(row + 5, data, size);
	bytes_put_u32(row + 1, (uint32_t)hash_bytes(slice_from(s, 5), 0));
	if (search_segment_unpack(s, &segment) == 0) {
		struct buf out = {0};

		for (size_t i = 1; i < segment.count; i++)
			require(segment.docs[i].uid > segment.docs[i - 1].uid);
		search_segment_pack(&segment, &out);
		require(search_segment_unpack(buf_view(&out), &again) == 0);
		require(again.count == segment.count);
		buf_deinit(&out);
	}
	if (search_block_each(s, 0x616161, count, count_bits, &n) == 0)
		require(search_block_find(s, 0x616161, 0x616262, count, bits) == 0);
	else
		(void)!search_block_find(s, 0xfffffe, 0xffffff, count, bits);
	free(row);
}

/* Each line is a message. */
static void make_segment(struct slice text)
{
	static struct search_builder *b;
	const struct search_block *blocks;
	uint8_t bits[SEARCH_DOCS_MAX / 8];
	uint32_t uid = 0;
	size_t count;

	if (!b)
		b = search_builder_new();
	search_builder_clear(b);
	for (struct slice rest = text; rest.len && uid < SEARCH_DOCS_MAX;) {
		ptrdiff_t end = slice_find(rest, '\n');
		struct slice line = slice_sub(rest, 0, end < 0 ? rest.len : (size_t)end);

		search_builder_text(b, line);
		/* As if it had more text, so that it is worth its room. */
		require(search_builder_end_doc(b, ++uid, (uint32_t)line.len * 64 + 4096) == 1);
		rest = slice_from(rest, end < 0 ? rest.len : (size_t)end + 1);
	}
	search_builder_finish(b, &segment, &blocks, &count);
	require(segment.count == uid);
	uid = 0;
	for (struct slice rest = text; rest.len && uid < SEARCH_DOCS_MAX; uid++) {
		ptrdiff_t end = slice_find(rest, '\n');
		struct slice line = slice_sub(rest, 0, end < 0 ? rest.len : (size_t)end);

		for (size_t i = 0; i + 3 <= line.len; i += 1 + line.len / 16) {
			uint32_t gram = (uint32_t)(unsigned char)line.p[i] << 16 |
					(uint32_t)(unsigned char)line.p[i + 1] << 8 |
					(unsigned char)line.p[i + 2];
			size_t k = 0;

			if (memchr(line.p + i, '\0', 3))
				continue;
			while (k + 1 < count && blocks[k + 1].gram <= gram)
				k++;
			require(search_block_find(
					blocks[k].bytes, blocks[k].gram, gram, segment.count, bits) == 0);
			require(bits[uid / 8] >> uid % 8 & 1);
		}
		rest = slice_from(rest, end < 0 ? rest.len : (size_t)end + 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] % 2)
		make_segment(slice_of((const char *)data + 1, size - 1));
	else if (size)
		read_rows(data + 1, size - 1);
	return 0;
}
