/*
 * One segment is in memory at a time, and of each filter which of its messages have all grams. Both are of one
 * transaction: the indexer may have joined segments until the next.
 */
#include "backend/search/search_index.h"

#include <stdlib.h>

#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define VERSION 1
#define MAILBOX_LEN 33
/* Grams of a text that are looked up: more would hardly leave fewer messages. */
#define GRAMS_MAX 32
#define BITS_MAX (SEARCH_DOCS_MAX / 8)

struct search_filter {
	size_t count;
	uint32_t grams[GRAMS_MAX];
	uint64_t serial; /* of the segment that bits are of */
	uint8_t bits[BITS_MAX];
};

struct search_index {
	struct store *store;
	unsigned slot;
	uint32_t mailbox, uidvalidity;
	struct store_text_txn *txn;
	struct search_segment *segment;
	uint64_t serial;      /* of what is loaded */
	uint32_t first;       /* key of the segment */
	uint32_t from, until; /* UIDs of which it is known: in the segment, or, is_gap, in none */
	bool is_gap;
	size_t at; /* in docs */
};

/* ---- the row of a mailbox ---- */

int search_mailbox_get(struct store_text_txn *txn, uint32_t mailbox, struct search_mailbox *m)
{
	const struct store_text_key key = {mailbox, SEARCH_ROW_MAILBOX, 0, 0};
	struct slice row;
	int err = store_text_get(txn, &key, &row);

	if (err)
		return err;
	if (row.len != MAILBOX_LEN || row.p[0] != VERSION)
		return ERR_CORRUPT;
	*m = (struct search_mailbox){
		.account = bytes_get_u32(row.p + 1),
		.uidvalidity = bytes_get_u32(row.p + 5),
		.seen = bytes_get_u32(row.p + 9),
		.docs = bytes_get_u32(row.p + 13),
		.text = bytes_get_u64(row.p + 17),
		.octets = bytes_get_u64(row.p + 25),
	};
	return 0;
}

int search_mailbox_put(struct store_text_txn *txn, uint32_t mailbox, const struct search_mailbox *m)
{
	const struct store_text_key key = {mailbox, SEARCH_ROW_MAILBOX, 0, 0};
	char row[MAILBOX_LEN] = {VERSION};

	bytes_put_u32(row + 1, m->account);
	bytes_put_u32(row + 5, m->uidvalidity);
	bytes_put_u32(row + 9, m->seen);
	bytes_put_u32(row + 13, m->docs);
	bytes_put_u64(row + 17, m->text);
	bytes_put_u64(row + 25, m->octets);
	return store_text_put(txn, &key, slice_of(row, sizeof(row)));
}

/* ---- filters ---- */

static bool has_gram(const struct search_filter *f, uint32_t gram)
{
	for (size_t i = 0; i < f->count; i++) {
		if (f->grams[i] == gram)
			return true;
	}
	return false;
}

/* The first grams of a long text, which are as good as any. */
struct search_filter *search_filter_new(struct slice folded)
{
	struct search_filter *f;

	if (folded.len < SEARCH_GRAM_LEN || memchr(folded.p, '\0', folded.len))
		return NULL;
	f = xcalloc(1, sizeof(*f));
	for (size_t i = 0; i + SEARCH_GRAM_LEN <= folded.len && f->count < GRAMS_MAX; i++) {
		uint32_t gram = (uint32_t)(unsigned char)folded.p[i] << 16 |
				(uint32_t)(unsigned char)folded.p[i + 1] << 8 |
				(unsigned char)folded.p[i + 2];

		if (!has_gram(f, gram))
			f->grams[f->count++] = gram;
	}
	return f;
}

void search_filter_free(struct search_filter **f)
{
	free(*f);
	*f = NULL;
}

/* ---- the index ---- */

struct search_index *search_index_new(
	struct store *store, unsigned slot, uint32_t mailbox, uint32_t uidvalidity)
{
	struct search_index *index = xcalloc(1, sizeof(*index));

	index->store = store;
	index->slot = slot;
	index->mailbox = mailbox;
	index->uidvalidity = uidvalidity;
	return index;
}

void search_index_free(struct search_index **index)
{
	if (!*index)
		return;
	search_index_close(*index);
	free((*index)->segment);
	free(*index);
	*index = NULL;
}

void search_index_open(struct search_index *index)
{
	struct search_mailbox row;

	search_index_close(index);
	if (store_text_begin_read(index->store, index->slot, &index->txn) < 0)
		return;
	if (search_mailbox_get(index->txn, index->mailbox, &row) < 0 ||
		row.uidvalidity != index->uidvalidity) {
		search_index_close(index);
		return;
	}
	if (!index->segment)
		index->segment = xmalloc(sizeof(*index->segment));
}

void search_index_close(struct search_index *index)
{
	store_text_end(&index->txn);
	index->serial++;
	index->from = 1;
	index->until = 0; /* nothing is known */
}

static bool is_of(const struct search_index *index, const struct store_text_key *key, enum search_row kind)
{
	return key->mailbox == index->mailbox && key->kind == kind;
}

static void set_gap(struct search_index *index, uint32_t from, uint32_t until)
{
	index->is_gap = true;
	index->from = from;
	index->until = until;
}

/* The indexer makes it anew; one line until it does. */
static void complain(const struct search_index *index, int err)
{
	if (store_text_mark_damaged(index->store, index->slot, index->mailbox))
		log_error("search", "the text index is damaged, searching without it: %s slot=%u mailbox=%u",
			error_text(err), index->slot, index->mailbox);
}

/* The segment in which uid is, or the gap. */
static int load(struct search_index *index, uint32_t uid)
{
	struct store_text_key key = {index->mailbox, SEARCH_ROW_SEGMENT, uid, 0}, found;
	struct search_segment *s = index->segment;
	uint32_t from = 0;
	struct slice row;
	int err = store_text_floor(index->txn, &key, &found, &row);

	index->serial++;
	index->at = 0;
	if (err == 0 && is_of(index, &found, SEARCH_ROW_SEGMENT)) {
		err = search_segment_unpack(row, s);
		if (err || s->count == 0)
			return err ? err : ERR_CORRUPT;
		index->first = found.uid;
		index->from = s->docs[0].uid;
		index->until = s->docs[s->count - 1].uid;
		index->is_gap = false;
		if (uid <= index->until)
			return 0;
		from = index->until + 1;
	} else if (err && err != ERR_NOT_FOUND) {
		return err;
	}
	key.gram = 1; /* behind the one that was found */
	err = store_text_seek(index->txn, &key, &found, &row);
	if (err && err != ERR_NOT_FOUND)
		return err;
	set_gap(index, from,
		err == 0 && is_of(index, &found, SEARCH_ROW_SEGMENT) ? found.uid - 1 : UINT32_MAX);
	return 0;
}

static int and_gram(struct search_index *index, uint32_t gram, uint8_t *bits, bool *is_any_out)
{
	const struct store_text_key key = {index->mailbox, SEARCH_ROW_BLOCK, index->first, gram};
	uint8_t more[BITS_MAX];
	struct store_text_key found;
	struct slice block;
	uint8_t any = 0;
	int err = store_text_floor(index->txn, &key, &found, &block);

	if (err && err != ERR_NOT_FOUND)
		return err;
	if (err || !is_of(index, &found, SEARCH_ROW_BLOCK) || found.uid != index->first)
		memset(more, 0, sizeof(more));
	else if ((err = search_block_find(block, found.gram, gram, index->segment->count, more)))
		return err;
	for (size_t i = 0; i < (index->segment->count + 7) / 8; i++)
		any |= bits[i] &= more[i];
	*is_any_out = any;
	return 0;
}

static int ask(struct search_index *index, struct search_filter *f)
{
	bool is_any = true;
	int err = 0;

	memset(f->bits, 0xff, sizeof(f->bits));
	for (size_t i = 0; i < f->count && is_any && err == 0; i++)
		err = and_gram(index, f->grams[i], f->bits, &is_any);
	f->serial = index->serial;
	return err;
}

bool search_index_excludes(struct search_index *index, struct search_filter *f, uint32_t uid)
{
	struct search_segment *s = index->segment;
	int err = 0;

	if (!f || !index->txn)
		return false;
	if (uid < index->from || uid > index->until)
		err = load(index, uid);
	if (err == 0 && !index->is_gap && f->serial != index->serial)
		err = ask(index, f);
	if (err) {
		complain(index, err);
		search_index_close(index); /* for this job */
		return false;
	}
	if (index->is_gap)
		return false;
	if (index->at == s->count || s->docs[index->at].uid > uid)
		index->at = 0;
	while (index->at < s->count && s->docs[index->at].uid < uid)
		index->at++;
	if (index->at == s->count || s->docs[index->at].uid != uid)
		return false;
	return !(f->bits[index->at / 8] >> index->at % 8 & 1);
}
