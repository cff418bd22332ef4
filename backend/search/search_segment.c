/*
 *	segment   version u8 | sum u32 | count u16 | pairs u32 | octets u32 | per message: varint UID above the one before,
 *	          varint text
 *	block     version u8 | sum u32 | per gram: varint gram above the one before (the first: 0), varint length * 2 + form,
 *	          form 0: per message varint place above the one before; form 1: a bit a message
 *
 * Grams of a message are gathered in a table of bits, so that each counts once; the pairs of all messages are then sorted by
 * gram, in two passes of twelve bits that keep the messages' order.
 */
#include "backend/search/search_segment.h"

#include <stdlib.h>

#include "common/base/bytes.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define VERSION 1
#define SEGMENT_HEAD 15
#define BLOCK_HEAD 5
#define BITS_MAX (SEARCH_DOCS_MAX / 8)
#define GRAMS (1u << 24)
#define DOC_BITS 11
#define RADIX_BITS 12

struct search_builder {
	uint8_t *seen;   /* a bit a gram of the message under way */
	uint32_t *grams; /* of it, each once */
	size_t gram_count;
	uint64_t *pairs, *other; /* gram << DOC_BITS | message */
	size_t pair_count, pair_room;
	struct search_segment segment;
	struct buf bytes; /* blocks */
	struct search_block *blocks;
	size_t block_count, block_room;
};

/* ---- numbers ---- */

static size_t put_varint(char *out, uint32_t n)
{
	size_t len = 0;

	for (; n >= 0x80; n >>= 7)
		out[len++] = (char)(n | 0x80);
	out[len++] = (char)n;
	return len;
}

static bool take_varint(struct slice *in, uint32_t *n_out)
{
	uint64_t n = 0;

	for (unsigned shift = 0; shift < 35 && in->len; shift += 7) {
		unsigned char c = (unsigned char)*in->p;

		*in = slice_from(*in, 1);
		n |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*n_out = (uint32_t)n;
			return n <= UINT32_MAX;
		}
	}
	return false;
}

static uint32_t sum_of(struct slice s)
{
	return (uint32_t)hash_bytes(s, 0);
}

/* ---- the row of a segment ---- */

void search_segment_pack(const struct search_segment *s, struct buf *out)
{
	size_t start = buf_len(out);
	uint32_t last = 0;
	char *room;

	buf_add_char(out, VERSION);
	room = buf_reserve(out, SEGMENT_HEAD - 1);
	bytes_put_u16(room + 4, (uint16_t)s->count);
	bytes_put_u32(room + 6, s->pairs);
	bytes_put_u32(room + 10, s->octets);
	buf_added(out, SEGMENT_HEAD - 1);
	for (size_t i = 0; i < s->count; i++) {
		char two[10];
		size_t len = put_varint(two, s->docs[i].uid - last);

		len += put_varint(two + len, s->docs[i].text);
		buf_add(out, two, len);
		last = s->docs[i].uid;
	}
	room = out->data + out->start + start;
	bytes_put_u32(room + 1, sum_of(slice_from(buf_view(out), start + BLOCK_HEAD)));
}

int search_segment_unpack(struct slice row, struct search_segment *out)
{
	uint32_t last = 0;

	if (row.len < SEGMENT_HEAD || row.p[0] != VERSION ||
		bytes_get_u32(row.p + 1) != sum_of(slice_from(row, BLOCK_HEAD)))
		return ERR_CORRUPT;
	out->count = bytes_get_u16(row.p + 5);
	out->pairs = bytes_get_u32(row.p + 7);
	out->octets = bytes_get_u32(row.p + 11);
	if (out->count > SEARCH_DOCS_MAX || out->pairs > SEARCH_PAIRS_MAX)
		return ERR_CORRUPT;
	row = slice_from(row, SEGMENT_HEAD);
	for (size_t i = 0; i < out->count; i++) {
		uint32_t step;

		if (!take_varint(&row, &step) || step == 0 || step > UINT32_MAX - last ||
			!take_varint(&row, &out->docs[i].text))
			return ERR_CORRUPT;
		out->docs[i].uid = last += step;
	}
	return row.len ? ERR_CORRUPT : 0;
}

uint64_t search_segment_text(const struct search_segment *s)
{
	uint64_t text = 0;

	for (size_t i = 0; i < s->count; i++)
		text += s->docs[i].text;
	return text;
}

/* ---- blocks ---- */

struct entry {
	uint32_t gram;
	bool is_bits;
	struct slice bytes;
};

static int open_block(struct slice *block)
{
	if (block->len <= BLOCK_HEAD || block->p[0] != VERSION ||
		bytes_get_u32(block->p + 1) != sum_of(slice_from(*block, BLOCK_HEAD)))
		return ERR_CORRUPT;
	*block = slice_from(*block, BLOCK_HEAD);
	return 0;
}

/* The next gram; e has the one before. */
static int next_entry(struct slice *block, struct entry *e)
{
	uint32_t step, form;

	if (!take_varint(block, &step) || !take_varint(block, &form) || step >= GRAMS - e->gram ||
		form / 2 > block->len)
		return ERR_CORRUPT;
	e->gram += step;
	e->is_bits = form & 1;
	e->bytes = slice_sub(*block, 0, form / 2);
	*block = slice_from(*block, form / 2);
	return 0;
}

static int read_bits(const struct entry *e, size_t count, uint8_t *bits)
{
	struct slice in = e->bytes;
	uint64_t at = 0;
	bool is_first = true;

	if (e->is_bits) {
		if (in.len != (count + 7) / 8)
			return ERR_CORRUPT;
		memcpy(bits, in.p, in.len);
		return 0;
	}
	memset(bits, 0, (count + 7) / 8);
	while (in.len) {
		uint32_t step;

		if (!take_varint(&in, &step) || (step == 0 && !is_first))
			return ERR_CORRUPT;
		at += step;
		if (at >= count)
			return ERR_CORRUPT;
		bits[at / 8] |= (uint8_t)(1 << at % 8);
		is_first = false;
	}
	return 0;
}

int search_block_find(struct slice block, uint32_t first_gram, uint32_t gram, size_t count, uint8_t *bits)
{
	struct entry e = {.gram = first_gram};
	int err = open_block(&block);

	while (err == 0 && block.len) {
		err = next_entry(&block, &e);
		if (err == 0 && e.gram >= gram)
			break;
	}
	if (err)
		return err;
	if (e.gram == gram && e.bytes.p)
		return read_bits(&e, count, bits);
	memset(bits, 0, (count + 7) / 8);
	return 0;
}

int search_block_each(struct slice block, uint32_t first_gram, size_t count, search_block_fn *fn, void *arg)
{
	struct entry e = {.gram = first_gram};
	uint8_t bits[BITS_MAX];
	int err = open_block(&block);

	while (err == 0 && block.len) {
		err = next_entry(&block, &e);
		if (err == 0)
			err = read_bits(&e, count, bits);
		if (err == 0)
			fn(arg, e.gram, bits);
	}
	return err;
}

/* ---- the builder ---- */

struct search_builder *search_builder_new(void)
{
	struct search_builder *b = xcalloc(1, sizeof(*b));

	b->seen = xcalloc(GRAMS / 8, 1);
	b->grams = xcalloc(SEARCH_DOC_GRAMS_MAX, sizeof(*b->grams));
	return b;
}

void search_builder_free(struct search_builder **builder)
{
	struct search_builder *b = *builder;

	if (!b)
		return;
	free(b->seen);
	free(b->grams);
	free(b->pairs);
	free(b->other);
	free(b->blocks);
	buf_deinit(&b->bytes);
	free(b);
	*builder = NULL;
}

static void clear_doc(struct search_builder *b)
{
	for (size_t i = 0; i < b->gram_count; i++)
		b->seen[b->grams[i] / 8] = 0;
	b->gram_count = 0;
}

void search_builder_clear(struct search_builder *b)
{
	clear_doc(b);
	b->segment.count = 0;
	b->pair_count = 0;
}

void search_builder_text(struct search_builder *b, struct slice folded)
{
	const unsigned char *p = (const unsigned char *)folded.p;
	uint32_t gram = 0;
	unsigned run = 0;

	for (size_t i = 0; i < folded.len; i++) {
		uint8_t *octet, bit;

		gram = (gram << 8 | p[i]) & (GRAMS - 1);
		run = p[i] ? run + 1 : 0;
		if (run < SEARCH_GRAM_LEN)
			continue;
		octet = &b->seen[gram / 8];
		bit = (uint8_t)(1 << gram % 8);
		if (*octet & bit || b->gram_count == SEARCH_DOC_GRAMS_MAX)
			continue;
		*octet |= bit;
		b->grams[b->gram_count++] = gram;
	}
}

static void make_room(struct search_builder *b, size_t more)
{
	if (b->pair_count + more <= b->pair_room)
		return;
	b->pair_room =
		(b->pair_count + more) * 2 < SEARCH_PAIRS_MAX ? (b->pair_count + more) * 2 : SEARCH_PAIRS_MAX;
	b->pairs = xreallocarray(b->pairs, b->pair_room, sizeof(*b->pairs));
	free(b->other);
	b->other = NULL;
}

int search_builder_end_doc(struct search_builder *b, uint32_t uid, uint32_t text)
{
	bool is_kept = b->gram_count < SEARCH_DOC_GRAMS_MAX;
	int err = is_kept && !search_builder_has_room(b, 1, b->gram_count) ? ERR_TOO_BIG : is_kept;

	if (err == 1) {
		uint32_t doc = search_builder_doc(b, (struct search_doc){uid, text});

		make_room(b, b->gram_count);
		for (size_t i = 0; i < b->gram_count; i++)
			b->pairs[b->pair_count++] = (uint64_t)b->grams[i] << DOC_BITS | doc;
	}
	clear_doc(b);
	return err;
}

void search_builder_drop_doc(struct search_builder *b)
{
	clear_doc(b);
}

uint32_t search_builder_doc(struct search_builder *b, struct search_doc doc)
{
	require(b->segment.count < SEARCH_DOCS_MAX);
	b->segment.docs[b->segment.count] = doc;
	return (uint32_t)b->segment.count++;
}

void search_builder_pair(struct search_builder *b, uint32_t gram, uint32_t doc)
{
	require(b->pair_count < SEARCH_PAIRS_MAX);
	make_room(b, 1);
	b->pairs[b->pair_count++] = (uint64_t)gram << DOC_BITS | doc;
}

bool search_builder_has_room(const struct search_builder *b, size_t docs, size_t pairs)
{
	return b->segment.count + docs <= SEARCH_DOCS_MAX && b->pair_count + pairs <= SEARCH_PAIRS_MAX;
}

size_t search_builder_docs(const struct search_builder *b)
{
	return b->segment.count;
}

/* ---- finishing ---- */

static void sort_by(struct search_builder *b, unsigned shift)
{
	uint32_t *starts = xcalloc((1u << RADIX_BITS) + 1, sizeof(*starts));
	uint64_t *swap = b->pairs;

	for (size_t i = 0; i < b->pair_count; i++)
		starts[(b->pairs[i] >> shift & ((1u << RADIX_BITS) - 1)) + 1]++;
	for (size_t i = 0; i < 1u << RADIX_BITS; i++)
		starts[i + 1] += starts[i];
	for (size_t i = 0; i < b->pair_count; i++)
		b->other[starts[b->pairs[i] >> shift & ((1u << RADIX_BITS) - 1)]++] = b->pairs[i];
	b->pairs = b->other;
	b->other = swap;
	free(starts);
}

static void sort_pairs(struct search_builder *b)
{
	if (!b->other)
		b->other = xcalloc(b->pair_room + 1, sizeof(*b->other));
	if (b->pair_count) {
		sort_by(b, DOC_BITS);
		sort_by(b, DOC_BITS + RADIX_BITS);
	}
}

void search_builder_each(struct search_builder *b, search_block_fn *fn, void *arg)
{
	static const uint32_t mask = (1u << DOC_BITS) - 1;
	uint8_t bits[BITS_MAX] = {0};

	sort_pairs(b);
	for (size_t i = 0; i < b->pair_count; i++) {
		uint32_t gram = (uint32_t)(b->pairs[i] >> DOC_BITS), doc = (uint32_t)b->pairs[i] & mask;

		bits[doc / 8] |= (uint8_t)(1 << doc % 8);
		if (i + 1 < b->pair_count && b->pairs[i + 1] >> DOC_BITS == gram)
			continue;
		fn(arg, gram, bits);
		memset(bits, 0, sizeof(bits));
	}
}

/* Pairs of one gram, as an entry without its gram's step. */
static void pack_messages(const uint64_t *pairs, size_t n, size_t count, uint8_t *bits,
	struct slice *bytes_out, uint32_t *form_out)
{
	static const uint32_t mask = (1u << DOC_BITS) - 1;
	size_t bits_len = (count + 7) / 8, len = 0;
	uint32_t last = 0;

	for (size_t i = 0; i < n && len < bits_len; i++) {
		uint32_t doc = (uint32_t)pairs[i] & mask;

		len += put_varint((char *)bits + len, i ? doc - last : doc);
		last = doc;
	}
	if (len < bits_len) {
		*form_out = (uint32_t)len * 2;
		*bytes_out = slice_of((char *)bits, len);
		return;
	}
	memset(bits, 0, bits_len);
	for (size_t i = 0; i < n; i++) {
		uint32_t doc = (uint32_t)pairs[i] & mask;

		bits[doc / 8] |= (uint8_t)(1 << doc % 8);
	}
	*form_out = (uint32_t)bits_len * 2 + 1;
	*bytes_out = slice_of((char *)bits, bits_len);
}

static void end_block(struct search_builder *b, size_t start)
{
	struct slice all = slice_from(buf_view(&b->bytes), start);

	if (all.len)
		bytes_put_u32((char *)(uintptr_t)all.p + 1, sum_of(slice_from(all, BLOCK_HEAD)));
}

static void begin_block(struct search_builder *b, uint32_t gram)
{
	static const char head[BLOCK_HEAD] = {VERSION};

	if (b->block_count == b->block_room) {
		b->block_room = b->block_room ? b->block_room * 2 : 64;
		b->blocks = xreallocarray(b->blocks, b->block_room, sizeof(*b->blocks));
	}
	b->blocks[b->block_count++] = (struct search_block){gram, {NULL, buf_len(&b->bytes)}};
	buf_add(&b->bytes, head, sizeof(head));
}

/* From pairs, sorted by gram. */
static void pack_blocks(struct search_builder *b)
{
	uint8_t room[BITS_MAX + 8];
	size_t start = 0;
	uint32_t last = 0;

	buf_clear(&b->bytes);
	b->block_count = 0;
	for (size_t i = 0, n; i < b->pair_count; i += n) {
		uint32_t gram = (uint32_t)(b->pairs[i] >> DOC_BITS), form;
		struct slice messages;
		char head[10];
		size_t len;

		for (n = 1; i + n < b->pair_count && b->pairs[i + n] >> DOC_BITS == gram; n++)
			;
		pack_messages(b->pairs + i, n, b->segment.count, room, &messages, &form);
		if (b->block_count == 0 ||
			buf_len(&b->bytes) - start + messages.len + sizeof(head) > SEARCH_BLOCK_MAX) {
			end_block(b, start);
			start = buf_len(&b->bytes);
			begin_block(b, gram);
			last = gram;
		}
		len = put_varint(head, gram - last);
		len += put_varint(head + len, form);
		buf_add(&b->bytes, head, len);
		buf_add_slice(&b->bytes, messages);
		last = gram;
	}
	end_block(b, start);
}

static bool is_small_enough(struct search_builder *b)
{
	struct buf row = {0};
	uint64_t text = search_segment_text(&b->segment);
	size_t octets;

	b->segment.octets = (uint32_t)buf_len(&b->bytes);
	b->segment.pairs = (uint32_t)b->pair_count;
	search_segment_pack(&b->segment, &row);
	octets = buf_len(&row) + buf_len(&b->bytes);
	buf_deinit(&row);
	return octets <= text / SEARCH_SHARE_DEN * SEARCH_SHARE_NUM;
}

/* Leaves out the messages that have more grams for their text than all have on average: one at least. */
static void leave_out(struct search_builder *b)
{
	static const uint32_t mask = (1u << DOC_BITS) - 1;
	uint32_t *grams = xcalloc(b->segment.count, sizeof(*grams));
	uint32_t *places = xcalloc(b->segment.count, sizeof(*places));
	uint64_t text = search_segment_text(&b->segment);
	size_t all = b->pair_count, kept = 0, pairs = 0;

	for (size_t i = 0; i < all; i++)
		grams[b->pairs[i] & mask]++;
	for (size_t i = 0; i < b->segment.count; i++) {
		places[i] = UINT32_MAX;
		if ((uint64_t)grams[i] * text < (uint64_t)b->segment.docs[i].text * all) {
			places[i] = (uint32_t)kept;
			b->segment.docs[kept++] = b->segment.docs[i];
		}
	}
	for (size_t i = 0; i < all; i++) {
		uint32_t place = places[b->pairs[i] & mask];

		if (place != UINT32_MAX)
			b->pairs[pairs++] = (b->pairs[i] & ~(uint64_t)mask) | place;
	}
	b->segment.count = kept;
	b->pair_count = pairs;
	free(grams);
	free(places);
}

void search_builder_finish(struct search_builder *b, struct search_segment *segment_out,
	const struct search_block **blocks_out, size_t *count_out)
{
	const char *bytes;

	sort_pairs(b);
	pack_blocks(b);
	while (b->segment.count && !is_small_enough(b)) {
		leave_out(b);
		pack_blocks(b);
	}
	bytes = buf_view(&b->bytes).p;
	for (size_t i = 0; i < b->block_count; i++) {
		size_t from = b->blocks[i].bytes.len;
		size_t to = i + 1 < b->block_count ? b->blocks[i + 1].bytes.len : buf_len(&b->bytes);

		b->blocks[i].bytes = slice_of(bytes + from, to - from);
	}
	*segment_out = b->segment;
	*blocks_out = b->blocks;
	*count_out = b->block_count;
}
