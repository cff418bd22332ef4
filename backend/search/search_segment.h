/*
 * Segments of the text index: which of a run of messages have which trigrams. Pure: grams in, rows out, and back.
 *
 * A gram is three octets of folded text in a row, as a number. A segment has up to SEARCH_DOCS_MAX messages of one mailbox,
 * ascending, each once: their row, and blocks with the messages of each gram in order of the grams. A message whose grams would
 * take more room than its text is worth is left out, and is searched without the index: so the index stays below
 * SEARCH_SHARE_NUM/SEARCH_SHARE_DEN of the text that it is of. Rows carry a checksum and are read as if a stranger had written
 * them.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SEARCH_GRAM_LEN 3
#define SEARCH_DOCS_MAX 2048
/* Grams of all messages of a segment. */
#define SEARCH_PAIRS_MAX (2u << 20)
/* A message with more different grams than this is left out. */
#define SEARCH_DOC_GRAMS_MAX (128u << 10)
/* A row of grams: two of LMDB's pages. */
#define SEARCH_BLOCK_MAX 8176
#define SEARCH_SHARE_NUM 3
#define SEARCH_SHARE_DEN 4

struct search_doc {
	uint32_t uid;
	uint32_t text; /* octets of its folded texts */
};

/* The row of a segment. */
struct search_segment {
	size_t count;
	struct search_doc docs[SEARCH_DOCS_MAX];
	uint32_t pairs;  /* grams of all docs */
	uint32_t octets; /* of its blocks */
};
void search_segment_pack(const struct search_segment *segment, struct buf *out);
/* ERR_CORRUPT. */
MUST_CHECK int search_segment_unpack(struct slice row, struct search_segment *segment_out);
uint64_t search_segment_text(const struct search_segment *segment);

/* The messages of one gram: bit i is docs[i]. bits: (count + 7) / 8 octets, set or cleared whole. The first gram of the block is
 * that of its key. A gram that is not there has no messages. ERR_CORRUPT. */
MUST_CHECK int search_block_find(
	struct slice block, uint32_t first_gram, uint32_t gram, size_t count, uint8_t *bits);
/* Calls fn for each gram with its messages. ERR_CORRUPT. */
typedef void search_block_fn(void *arg, uint32_t gram, const uint8_t *bits);
MUST_CHECK int search_block_each(
	struct slice block, uint32_t first_gram, size_t count, search_block_fn *fn, void *arg);

/* ---- making one ---- */

struct search_builder;
struct search_builder *search_builder_new(void);
void search_builder_free(struct search_builder **b);
/* Forgets all messages. */
void search_builder_clear(struct search_builder *b);
/* Text of the message under way; NUL ends a text. */
void search_builder_text(struct search_builder *b, struct slice folded);
/* The message is whole; UIDs ascend. 1; 0: it was left out; ERR_TOO_BIG: the segment is full without it. */
MUST_CHECK int search_builder_end_doc(struct search_builder *b, uint32_t uid, uint32_t text);
/* It is not wanted after all. */
void search_builder_drop_doc(struct search_builder *b);
/* For segments made of others: a message without its grams; its number. Then its grams. */
uint32_t search_builder_doc(struct search_builder *b, struct search_doc doc);
void search_builder_pair(struct search_builder *b, uint32_t gram, uint32_t doc);
/* So many messages and grams at most are still to come. */
bool search_builder_has_room(const struct search_builder *b, size_t docs, size_t pairs);
size_t search_builder_docs(const struct search_builder *b);

/* Of what the builder has: fn for each gram, ascending, with its messages. They stay. */
void search_builder_each(struct search_builder *b, search_block_fn *fn, void *arg);

struct search_block {
	uint32_t gram;
	struct slice bytes;
};
/* The segment and its blocks, views until the builder is used again. Messages may have been left out, even all. */
void search_builder_finish(struct search_builder *b, struct search_segment *segment_out,
	const struct search_block **blocks_out, size_t *count_out);
