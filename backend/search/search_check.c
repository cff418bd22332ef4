/*
 * A segment at a time: its messages are given to a builder again, under the places that they have, and of each gram that
 * comes out the row must name those messages at least. Segments that the indexer joins meanwhile are found anew by their first UID.
 */
#include "backend/search/search_check.h"

#include <stdlib.h>

#include "backend/search/search_build.h"
#include "backend/search/search_read.h"
#include "common/base/mem.h"

/* Messages read in one transaction. */
#define STEP 64

struct checking {
	struct store *store;
	unsigned slot;
	uint32_t mailbox;
	uint32_t first; /* the key of the segment */
	struct search_segment segment;
	struct search_builder *builder;
	struct search_text *text;
	struct store_text_txn *txn; /* while grams are compared */
	search_check_fn *report;
	void *arg;
	struct search_check *check;
	unsigned missing;
	int err;
};

static void say(struct checking *c, const char *what, unsigned long long n)
{
	struct buf text = {0};

	buf_printf(
		&text, "text index: mailbox %u, segment of UID %u: %s %llu", c->mailbox, c->first, what, n);
	c->check->errors++;
	c->report(c->arg, buf_str_view(&text));
	buf_deinit(&text);
}

/* The next segment from that UID on; ERR_NOT_FOUND. `first` is UINT32_MAX where none can be read from there on. */
static int next_segment(struct checking *c, uint32_t from)
{
	const struct store_text_key key = {c->mailbox, SEARCH_ROW_SEGMENT, from, 0};
	struct store_text_key found;
	struct store_text_txn *txn;
	struct slice row;
	int err = store_text_begin_read(c->store, c->slot, &txn);

	if (err)
		return err;
	c->first = UINT32_MAX;
	err = store_text_seek(txn, &key, &found, &row);
	if (err == 0 && (found.mailbox != c->mailbox || found.kind != SEARCH_ROW_SEGMENT))
		err = ERR_NOT_FOUND;
	if (err == 0) {
		c->first = found.uid;
		err = search_segment_unpack(row, &c->segment);
		c->check->octets += row.len + c->segment.octets;
	}
	store_text_end(&txn);
	return err;
}

/* Messages from place `at` on, those that are still there. */
static int read_some(struct checking *c, size_t at)
{
	struct store_txn *txn;
	int err = store_begin_read(c->store, c->slot, &txn);

	for (size_t i = at; i < c->segment.count && i < at + STEP && err == 0; i++) {
		struct search_doc doc = c->segment.docs[i];
		struct store_message message;
		int added = store_message_get(txn, c->mailbox, doc.uid, &message);

		if (added == 0) {
			added = search_read_message(c->builder, c->text, txn, &message);
			c->check->messages += added == 1;
		}
		if (added != 1)
			(void)search_builder_doc(c->builder, doc); /* keeps its place */
	}
	store_end_read(&txn);
	return err;
}

static void compare(void *arg, uint32_t gram, const uint8_t *bits)
{
	struct checking *c = arg;
	const struct store_text_key key = {c->mailbox, SEARCH_ROW_BLOCK, c->first, gram};
	uint8_t known[SEARCH_DOCS_MAX / 8] = {0};
	struct store_text_key found;
	struct slice block;

	if (c->err)
		return;
	c->err = store_text_floor(c->txn, &key, &found, &block);
	if (c->err == ERR_NOT_FOUND ||
		(c->err == 0 && (found.mailbox != c->mailbox || found.kind != SEARCH_ROW_BLOCK ||
					found.uid != c->first)))
		c->err = 0;
	else if (c->err == 0)
		c->err = search_block_find(block, found.gram, gram, c->segment.count, known);
	for (size_t i = 0; i < (c->segment.count + 7) / 8 && c->err == 0; i++)
		c->missing += (bits[i] & ~known[i]) != 0;
}

/* The segment is still the one that was read. */
static bool is_same(struct checking *c)
{
	const struct store_text_key key = {c->mailbox, SEARCH_ROW_SEGMENT, c->first, 0};
	struct search_segment *now = xmalloc(sizeof(*now));
	struct slice row;
	bool same = store_text_get(c->txn, &key, &row) == 0 && search_segment_unpack(row, now) == 0 &&
		    now->count == c->segment.count &&
		    memcmp(now->docs, c->segment.docs, now->count * sizeof(*now->docs)) == 0;

	free(now);
	return same;
}

static int check_segment(struct checking *c)
{
	int err = 0;

	search_builder_clear(c->builder);
	for (size_t at = 0; at < c->segment.count && err == 0; at += STEP)
		err = read_some(c, at);
	if (err == 0)
		err = store_text_begin_read(c->store, c->slot, &c->txn);
	if (err)
		return err;
	c->missing = 0;
	c->err = 0;
	if (is_same(c))
		search_builder_each(c->builder, compare, c);
	store_text_end(&c->txn);
	c->check->segments++;
	if (c->err)
		say(c, "a block is damaged:", (unsigned long long)-c->err);
	if (c->missing)
		say(c, "grams of messages are missing:", c->missing);
	return 0;
}

/* All segments, from the first. */
static int check_segments(struct checking *c)
{
	int err = next_segment(c, 0);

	while (err == 0 || err == ERR_CORRUPT) {
		if (err == ERR_CORRUPT) {
			say(c, "its row is damaged:", 1);
		} else {
			if (!c->builder)
				c->builder = search_builder_new();
			err = check_segment(c);
			if (err)
				return err;
		}
		if (c->first == UINT32_MAX)
			return 0;
		err = next_segment(c, c->first + 1);
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

int search_check_mailbox(struct store *store, unsigned slot, uint32_t account, uint32_t mailbox,
	search_check_fn *report, void *arg, struct search_check *check)
{
	struct checking *c = xcalloc(1, sizeof(*c));
	struct store_mailbox m;
	struct store_txn *txn;
	int err = store_begin_read(store, slot, &txn);

	*c = (struct checking){.store = store,
		.slot = slot,
		.mailbox = mailbox,
		.report = report,
		.arg = arg,
		.check = check};
	if (err == 0) {
		err = store_mailbox_get(txn, account, mailbox, &m);
		store_end_read(&txn);
	}
	if (err == 0) {
		c->text = search_text_new(SEARCH_GRAM_LEN - 1);
		err = check_segments(c);
	}
	search_text_free(&c->text);
	search_builder_free(&c->builder);
	free(c);
	return err;
}

int search_check_account(struct store *store, unsigned slot, uint32_t account, search_check_fn *report,
	void *arg, struct search_check *check)
{
	uint32_t *ids;
	size_t count;
	int err = search_build_list(store, slot, account, &ids, &count);

	if (err)
		return err;
	for (size_t i = 0; i < count && (err == 0 || err == ERR_NOT_FOUND); i++)
		err = search_check_mailbox(store, slot, account, ids[i], report, arg, check);
	free(ids);
	return err == ERR_NOT_FOUND ? 0 : err;
}
