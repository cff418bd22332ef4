/*
 * What holds always: a message that stands in a segment has all its grams there, and a UID up to the mailbox's `seen` is in
 * a segment, or was left out for good. Everything that belongs together is written in one transaction.
 */
#include "backend/search/search_build.h"

#include <stdlib.h>

#include "backend/search/search_read.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"

#define STEP_US 4000
/* Rows removed in one transaction. */
#define REMOVE_STEP 2000
/* Segments below so many messages are joined when so many of them stand at the end. */
#define SMALL_DOCS 1024
#define SMALL_COUNT 4

struct search_build {
	struct store *store;
	search_build_rest_fn *rest;
	void *arg;
	struct search_text *text;
	struct search_builder *builder;
	struct search_segment segment; /* what was finished, or read */
	uint64_t step_us;              /* when the step began */
};

/* What one visit knows of its mailbox. */
struct visit {
	struct search_build *b;
	unsigned slot;
	uint32_t account, mailbox;
	struct search_mailbox row;
	struct store_mailbox mail;
	struct search_build_done *done;
};

struct search_build *search_build_new(struct store *store, search_build_rest_fn *rest, void *arg)
{
	struct search_build *b = xcalloc(1, sizeof(*b));

	b->store = store;
	b->rest = rest;
	b->arg = arg;
	b->text = search_text_new(SEARCH_GRAM_LEN - 1);
	return b;
}

void search_build_free(struct search_build **build)
{
	struct search_build *b = *build;

	if (!b)
		return;
	search_text_free(&b->text);
	search_builder_free(&b->builder);
	free(b);
	*build = NULL;
}

static int rest(struct search_build *b)
{
	uint64_t now = clock_mono_us();
	bool is_over = b->rest(b->arg, now - b->step_us);

	b->step_us = clock_mono_us();
	return is_over ? ERR_CANCELLED : 0;
}

/* ---- transactions ---- */

/* A write transaction of the index that knows the mail as it is now. */
static int begin_write(struct search_build *b, unsigned slot, struct store_text_txn **txn_out)
{
	struct store_txn *mail;
	int err = store_begin_read(b->store, slot, &mail);

	if (err)
		return err;
	err = store_text_begin_write(b->store, slot, mail, txn_out);
	store_end_read(&mail);
	return err;
}

/* Removes all rows between two keys, in steps. */
static int remove_rows(struct search_build *b, unsigned slot, const struct store_text_key *from,
	const struct store_text_key *to)
{
	size_t removed = REMOVE_STEP;
	int err = 0;

	while (err == 0 && removed == REMOVE_STEP) {
		struct store_text_txn *txn;

		err = begin_write(b, slot, &txn);
		if (err)
			break;
		err = store_text_remove(txn, from, to, REMOVE_STEP, &removed);
		if (err)
			store_text_end(&txn);
		else
			err = store_text_commit(&txn);
		if (err == 0)
			err = rest(b);
	}
	return err;
}

/* The row of the mailbox goes first, so that nothing is believed of half of the others; the indexer finds nothing seen, and
 * begins by removing again. */
static int forget_mailbox(struct search_build *b, unsigned slot, uint32_t mailbox)
{
	const struct store_text_key from = {mailbox, 0, 0, 0}, to = {mailbox + 1, 0, 0, 0};

	return remove_rows(b, slot, &from, &to);
}

/* ---- reading messages ---- */

/* One step: messages from *uid on. done_out: the segment is full, or there are no more. */
static int read_step(struct visit *v, uint32_t *uid, bool *done_out)
{
	struct search_build *b = v->b;
	struct store_entry entry;
	struct store_txn *txn;
	struct store_scan scan;
	int err = store_begin_read(b->store, v->slot, &txn), added = 1;

	*done_out = false;
	if (err)
		return err;
	err = store_scan_begin(&scan, txn, v->mailbox, *uid);
	while (err == 0 && clock_mono_us() - b->step_us < STEP_US) {
		struct store_message message;

		if (!search_builder_has_room(b->builder, 1, 0) || !store_scan_next(&scan, &entry)) {
			err = scan.error;
			*done_out = true;
			break;
		}
		added = store_message_get(txn, v->mailbox, entry.uid, &message);
		if (added == 0)
			added = search_read_message(b->builder, b->text, txn, &message);
		if (added == ERR_TOO_BIG) {
			*done_out = true;
			break;
		}
		if (added == ERR_IO)
			err = added;
		v->done->left_out += added <= 0;
		*uid = entry.uid + 1;
		if (entry.uid == UINT32_MAX)
			*done_out = true;
	}
	store_scan_end(&scan);
	store_end_read(&txn);
	return err;
}

/* ---- writing a segment ---- */

static int put_segment(struct store_text_txn *txn, uint32_t mailbox, const struct search_segment *s,
	const struct search_block *blocks, size_t count, uint64_t *octets_out)
{
	struct store_text_key key = {mailbox, SEARCH_ROW_SEGMENT, s->docs[0].uid, 0};
	struct buf row = {0};
	int err;

	search_segment_pack(s, &row);
	err = store_text_put(txn, &key, buf_view(&row));
	*octets_out = buf_len(&row) + s->octets;
	buf_deinit(&row);
	key.kind = SEARCH_ROW_BLOCK;
	for (size_t i = 0; i < count && err == 0; i++) {
		key.gram = blocks[i].gram;
		err = store_text_put(txn, &key, blocks[i].bytes);
	}
	return err;
}

static int remove_segment(struct store_text_txn *txn, uint32_t mailbox, uint32_t first)
{
	const struct store_text_key row = {mailbox, SEARCH_ROW_SEGMENT, first, 0},
				    row_end = {mailbox, SEARCH_ROW_SEGMENT, first, 1},
				    blocks = {mailbox, SEARCH_ROW_BLOCK, first, 0},
				    blocks_end = {mailbox, SEARCH_ROW_BLOCK, first, UINT32_MAX};
	size_t removed;
	int err = store_text_remove(txn, &row, &row_end, SIZE_MAX, &removed);

	return err ? err : store_text_remove(txn, &blocks, &blocks_end, SIZE_MAX, &removed);
}

/* What the builder has becomes a segment, and `seen` moves. */
static int write_new(struct visit *v, uint32_t seen)
{
	struct search_build *b = v->b;
	struct search_mailbox row = v->row;
	const struct search_block *blocks;
	struct store_text_txn *txn;
	size_t count, docs = search_builder_docs(b->builder);
	uint64_t octets = 0;
	int err;

	search_builder_finish(b->builder, &b->segment, &blocks, &count);
	err = begin_write(b, v->slot, &txn);
	if (err)
		return err;
	if (b->segment.count)
		err = put_segment(txn, v->mailbox, &b->segment, blocks, count, &octets);
	row.seen = seen;
	row.docs += (uint32_t)b->segment.count;
	row.text += search_segment_text(&b->segment);
	row.octets += octets;
	if (err == 0)
		err = search_mailbox_put(txn, v->mailbox, &row);
	FAULT("search-before-commit");
	if (err)
		store_text_end(&txn);
	else
		err = store_text_commit(&txn);
	FAULT("search-after-commit");
	if (err)
		return err;
	v->row = row;
	v->done->indexed += b->segment.count;
	v->done->left_out += docs - b->segment.count;
	v->done->segments += b->segment.count > 0;
	return 0;
}

/* ---- joining segments, and leaving out what is gone ---- */

struct part {
	uint32_t first, docs, pairs, live;
	uint64_t text, octets;
};

struct parts {
	struct part *list;
	size_t count, room;
};

static int add_part(struct parts *parts, uint32_t first, struct slice row, const struct search_segment *s)
{
	if (s->count == 0)
		return ERR_CORRUPT;
	if (parts->count == parts->room) {
		parts->room = parts->room ? parts->room * 2 : 64;
		parts->list = xreallocarray(parts->list, parts->room, sizeof(*parts->list));
	}
	parts->list[parts->count++] = (struct part){.first = first,
		.docs = (uint32_t)s->count,
		.pairs = s->pairs,
		.text = search_segment_text(s),
		.octets = row.len + s->octets};
	return 0;
}

/* live is counted if mail is given. */
static int list_parts(struct search_segment *segment, struct store_text_txn *txn, struct store_txn *mail,
	uint32_t mailbox, struct parts *parts)
{
	struct store_text_key key = {mailbox, SEARCH_ROW_SEGMENT, 0, 0}, found;
	struct store_entry entry = {0};
	struct store_scan scan = {0};
	bool has_entry = true;
	struct slice row;
	int err = mail ? store_scan_begin(&scan, mail, mailbox, 1) : 0;

	while (err == 0) {
		err = store_text_seek(txn, &key, &found, &row);
		if (err || found.mailbox != mailbox || found.kind != SEARCH_ROW_SEGMENT)
			break;
		err = search_segment_unpack(row, segment);
		if (err == 0)
			err = add_part(parts, found.uid, row, segment);
		for (size_t i = 0; mail && err == 0 && i < segment->count; i++) {
			while (has_entry && entry.uid < segment->docs[i].uid)
				has_entry = store_scan_next(&scan, &entry);
			parts->list[parts->count - 1].live += has_entry && entry.uid == segment->docs[i].uid;
		}
		key = found;
		key.gram = 1;
	}
	if (mail)
		store_scan_end(&scan);
	return err == ERR_NOT_FOUND ? 0 : err;
}

struct joining {
	struct search_builder *builder;
	const uint32_t *places; /* of the docs of the part in the builder; UINT32_MAX: gone */
	size_t count;
	bool is_too_much; /* more than the rows of the segments say */
};

static void join_gram(void *arg, uint32_t gram, const uint8_t *bits)
{
	struct joining *j = arg;

	for (size_t i = 0; i < j->count; i++) {
		if (!(bits[i / 8] >> i % 8 & 1) || j->places[i] == UINT32_MAX)
			continue;
		j->is_too_much |= !search_builder_has_room(j->builder, 0, 1);
		if (!j->is_too_much)
			search_builder_pair(j->builder, gram, j->places[i]);
	}
}

/* Adds what is still there of a segment to the builder. */
static int join_part(struct visit *v, struct store_text_txn *txn, struct store_txn *mail, uint32_t first)
{
	struct search_build *b = v->b;
	struct search_segment *s = &b->segment;
	uint32_t places[SEARCH_DOCS_MAX];
	struct joining j = {b->builder, places, 0, false};
	struct store_text_key key = {v->mailbox, SEARCH_ROW_SEGMENT, first, 0}, found;
	struct store_entry entry = {0};
	struct store_scan scan;
	bool has_entry = true;
	struct slice row;
	int err = store_text_get(txn, &key, &row);

	if (err == 0)
		err = search_segment_unpack(row, s);
	if (err == 0 && !search_builder_has_room(b->builder, s->count, 0))
		err = ERR_CORRUPT;
	if (err == 0)
		err = store_scan_begin(&scan, mail, v->mailbox, first);
	if (err)
		return err;
	for (j.count = 0; j.count < s->count; j.count++) {
		while (has_entry && entry.uid < s->docs[j.count].uid)
			has_entry = store_scan_next(&scan, &entry);
		places[j.count] = has_entry && entry.uid == s->docs[j.count].uid
					  ? search_builder_doc(b->builder, s->docs[j.count])
					  : UINT32_MAX;
	}
	err = scan.error;
	store_scan_end(&scan);
	key.kind = SEARCH_ROW_BLOCK;
	while (err == 0) {
		err = store_text_seek(txn, &key, &found, &row);
		if (err || found.mailbox != v->mailbox || found.kind != SEARCH_ROW_BLOCK ||
			found.uid != first)
			break;
		err = search_block_each(row, found.gram, j.count, join_gram, &j);
		key = found;
		key.gram++;
	}
	if (j.is_too_much)
		return ERR_CORRUPT;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Some neighbouring segments become one, of what is still there of them; it may be none. */
static int join(struct visit *v, const struct part *parts, size_t count)
{
	struct search_build *b = v->b;
	struct search_mailbox row = v->row;
	const struct search_block *blocks;
	struct store_text_txn *txn;
	struct store_txn *mail;
	size_t block_count;
	uint64_t octets = 0;
	int err = store_begin_read(b->store, v->slot, &mail);

	if (err)
		return err;
	search_builder_clear(b->builder);
	err = store_text_begin_read(b->store, v->slot, &txn);
	for (size_t i = 0; i < count && err == 0; i++)
		err = join_part(v, txn, mail, parts[i].first);
	store_text_end(&txn);
	store_end_read(&mail);
	if (err)
		return err;
	search_builder_finish(b->builder, &b->segment, &blocks, &block_count);
	err = begin_write(b, v->slot, &txn);
	if (err)
		return err;
	for (size_t i = 0; i < count && err == 0; i++) {
		err = remove_segment(txn, v->mailbox, parts[i].first);
		row.docs -= parts[i].docs;
		row.text -= parts[i].text;
		row.octets -= parts[i].octets;
	}
	if (err == 0 && b->segment.count)
		err = put_segment(txn, v->mailbox, &b->segment, blocks, block_count, &octets);
	row.docs += (uint32_t)b->segment.count;
	row.text += search_segment_text(&b->segment);
	row.octets += octets;
	if (err == 0)
		err = search_mailbox_put(txn, v->mailbox, &row);
	FAULT("search-join-commit");
	if (err)
		store_text_end(&txn);
	else
		err = store_text_commit(&txn);
	if (err == 0) {
		v->row = row;
		v->done->segments++;
		err = rest(b);
	}
	return err;
}

/* So many at the end belong into one. */
static size_t to_be_joined(const struct parts *parts)
{
	size_t n = 0, docs = 0, pairs = 0;

	while (n < parts->count) {
		const struct part *p = &parts->list[parts->count - 1 - n];

		if (p->docs >= SMALL_DOCS || docs + p->docs > SEARCH_DOCS_MAX ||
			pairs + p->pairs > SEARCH_PAIRS_MAX)
			break;
		docs += p->docs;
		pairs += p->pairs;
		n++;
	}
	return n >= SMALL_COUNT ? n : 0;
}

static int tidy(struct visit *v, bool is_shrunk)
{
	struct search_build *b = v->b;
	struct parts parts = {0};
	struct store_text_txn *txn;
	struct store_txn *mail = NULL;
	size_t n;
	int err = store_text_begin_read(b->store, v->slot, &txn);

	if (err)
		return err;
	if (is_shrunk)
		err = store_begin_read(b->store, v->slot, &mail);
	if (err == 0)
		err = list_parts(&b->segment, txn, mail, v->mailbox, &parts);
	store_end_read(&mail);
	store_text_end(&txn);
	n = to_be_joined(&parts);
	if (err == 0 && n)
		err = join(v, parts.list + parts.count - n, n);
	for (size_t i = 0; is_shrunk && i + n < parts.count && err == 0; i++) {
		if (parts.list[i].live < parts.list[i].docs / 4 * 3 || parts.list[i].live == 0)
			err = join(v, &parts.list[i], 1);
	}
	free(parts.list);
	return err;
}

/* ---- a visit ---- */

static int load_row(struct visit *v)
{
	struct store_text_txn *txn;
	int err = store_text_begin_read(v->b->store, v->slot, &txn);

	if (err)
		return err;
	err = search_mailbox_get(txn, v->mailbox, &v->row);
	store_text_end(&txn);
	return err;
}

static int load_mail(struct visit *v)
{
	struct store_txn *txn;
	int err = store_begin_read(v->b->store, v->slot, &txn);

	if (err)
		return err;
	err = store_mailbox_get(txn, v->account, v->mailbox, &v->mail);
	store_end_read(&txn);
	return err == 0 && v->mail.noselect ? ERR_NOT_FOUND : err;
}

/* Are there enough messages behind `seen` for a segment? */
static int has_batch(struct visit *v, bool *is_enough_out)
{
	struct store_entry entry;
	struct store_txn *txn;
	struct store_scan scan;
	uint64_t docs = 0, octets = 0;
	bool is_enough = false;
	int err = store_begin_read(v->b->store, v->slot, &txn);

	if (err)
		return err;
	err = store_scan_begin(&scan, txn, v->mailbox, v->row.seen + 1);
	while (err == 0 && !is_enough && store_scan_next(&scan, &entry)) {
		docs++;
		octets += entry.size;
		is_enough = docs >= SEARCH_BATCH_DOCS || octets >= SEARCH_BATCH_OCTETS ||
			    (docs >= SEARCH_BATCH_SOME_DOCS && octets >= SEARCH_BATCH_SOME_OCTETS);
	}
	if (err == 0)
		err = scan.error;
	store_scan_end(&scan);
	store_end_read(&txn);
	*is_enough_out = is_enough;
	return err;
}

static int add_segment(struct visit *v)
{
	uint32_t uid = v->row.seen + 1;
	bool done = false;
	int err = 0;

	search_builder_clear(v->b->builder);
	while (err == 0 && !done) {
		err = read_step(v, &uid, &done);
		if (err == 0)
			err = rest(v->b);
	}
	if (err == 0)
		err = write_new(v, uid - 1);
	return err ? err : rest(v->b);
}

/* What the index has is of another mailbox of that number, or of a state that never was. */
static bool is_alien(const struct visit *v)
{
	return v->row.account != v->account || v->row.uidvalidity != v->mail.uidvalidity ||
	       v->row.seen >= v->mail.uidnext;
}

static int bring_up(struct visit *v)
{
	bool is_enough = false;
	int err = load_row(v);

	if (err == ERR_CORRUPT || (err == 0 && is_alien(v))) {
		v->row = (struct search_mailbox){0};
		err = forget_mailbox(v->b, v->slot, v->mailbox);
		if (err)
			return err;
		err = ERR_NOT_FOUND;
	}
	if (err == ERR_NOT_FOUND) {
		v->row.account = v->account;
		v->row.uidvalidity = v->mail.uidvalidity;
		err = 0;
	}
	if (err == 0 && v->row.seen < UINT32_MAX)
		err = has_batch(v, &is_enough);
	while (err == 0 && is_enough) {
		err = add_segment(v);
		if (err == 0)
			err = tidy(v, false);
		if (err == 0)
			err = has_batch(v, &is_enough);
	}
	if (err == 0 && v->row.docs > v->mail.messages && v->row.docs - v->mail.messages > v->row.docs / 4)
		err = tidy(v, true);
	return err;
}

int search_build_mailbox(struct search_build *b, unsigned slot, uint32_t account, uint32_t mailbox,
	struct search_build_done *done)
{
	struct visit v = {.b = b, .slot = slot, .account = account, .mailbox = mailbox, .done = done};
	int err = load_mail(&v);

	b->step_us = clock_mono_us();
	if (!b->builder)
		b->builder = search_builder_new();
	if (err == ERR_NOT_FOUND)
		return forget_mailbox(b, slot, mailbox);
	if (err == 0)
		err = bring_up(&v);
	if (err == ERR_CORRUPT) { /* it is made anew at the next visit */
		err = forget_mailbox(b, slot, mailbox);
		return err ? err : ERR_CORRUPT;
	}
	return err;
}

void search_build_rest(struct search_build *b)
{
	search_builder_free(&b->builder);
	search_text_free(&b->text);
	b->text = search_text_new(SEARCH_GRAM_LEN - 1);
}

int search_build_heal(struct search_build *b, unsigned slot, uint32_t mailbox, uint32_t *account_out)
{
	struct search_mailbox row = {0};
	struct store_text_txn *txn;
	int err = store_text_begin_read(b->store, slot, &txn);

	if (err)
		return err;
	err = search_mailbox_get(txn, mailbox, &row);
	store_text_end(&txn);
	*account_out = err ? 0 : row.account;
	b->step_us = clock_mono_us();
	return forget_mailbox(b, slot, mailbox);
}

/* ---- all mailboxes ---- */

/* The next mailbox from that number on that has rows; ERR_NOT_FOUND. row_out: zeroes if it cannot be read. */
static int next_mailbox(struct search_build *b, unsigned slot, uint32_t from, uint32_t *mailbox_out,
	struct search_mailbox *row_out)
{
	const struct store_text_key key = {from, 0, 0, 0};
	struct store_text_key found;
	struct store_text_txn *txn;
	struct slice value;
	int err = store_text_begin_read(b->store, slot, &txn);

	if (err)
		return err;
	err = store_text_seek(txn, &key, &found, &value);
	if (err == 0) {
		*mailbox_out = found.mailbox;
		if (search_mailbox_get(txn, found.mailbox, row_out) < 0)
			*row_out = (struct search_mailbox){0};
	}
	store_text_end(&txn);
	return err;
}

static int is_gone(struct search_build *b, unsigned slot, uint32_t account, uint32_t mailbox)
{
	struct store_mailbox m;
	struct store_txn *txn;
	int err = store_begin_read(b->store, slot, &txn);

	if (err)
		return err;
	err = account ? store_mailbox_get(txn, account, mailbox, &m) : ERR_NOT_FOUND;
	store_end_read(&txn);
	return err == ERR_NOT_FOUND || (err == 0 && m.noselect) ? 1 : err;
}

/* account 0: mailboxes that are gone; else those of the account. */
static int forget_some(struct search_build *b, unsigned slot, uint32_t account)
{
	struct search_mailbox row;
	uint32_t mailbox = 1;
	int err = next_mailbox(b, slot, mailbox, &mailbox, &row);

	b->step_us = clock_mono_us();
	while (err == 0) {
		int goes = account ? row.account == account : is_gone(b, slot, row.account, mailbox);

		err = goes < 0 ? goes : goes ? forget_mailbox(b, slot, mailbox) : 0;
		if (err == 0)
			err = clock_mono_us() - b->step_us > STEP_US ? rest(b) : 0;
		if (err == 0)
			err = mailbox == UINT32_MAX ? ERR_NOT_FOUND
						    : next_mailbox(b, slot, mailbox + 1, &mailbox, &row);
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

int search_build_forget(struct search_build *b, unsigned slot, uint32_t account)
{
	return forget_some(b, slot, account);
}

int search_build_collect(struct search_build *b, unsigned slot)
{
	return forget_some(b, slot, 0);
}

int search_build_list(
	struct store *store, unsigned slot, uint32_t account, uint32_t **ids_out, size_t *count_out)
{
	struct store_mailbox *list;
	struct store_txn *txn;
	struct arena arena;
	size_t count, n = 0;
	uint32_t *ids;
	int err = store_begin_read(store, slot, &txn);

	if (err)
		return err;
	arena_init(&arena, 0);
	err = store_mailbox_list(txn, account, &arena, &list, &count);
	if (err == 0) {
		ids = xcalloc(count + 1, sizeof(*ids));
		for (size_t i = 0; i < count; i++) {
			if (list[i].id && !list[i].noselect)
				ids[n++] = list[i].id;
		}
		*ids_out = ids;
		*count_out = n;
	}
	store_end_read(&txn);
	arena_deinit(&arena);
	return err;
}

int search_build_status(struct store *store, unsigned slot, uint32_t account, uint32_t mailbox,
	struct search_build_status *status_out)
{
	struct search_build_status s = {.messages = 0};
	struct search_segment *segment = xmalloc(sizeof(*segment));
	struct parts parts = {0};
	struct store_text_txn *txn = NULL;
	struct store_mailbox m;
	struct store_txn *mail = NULL;
	int err = store_begin_read(store, slot, &mail);

	if (err == 0)
		err = store_mailbox_get(mail, account, mailbox, &m);
	if (err == 0)
		err = store_text_begin_read(store, slot, &txn);
	if (err == 0) {
		s.messages = m.messages;
		err = search_mailbox_get(txn, mailbox, &s.index);
	}
	if (err == 0 && s.index.uidvalidity == m.uidvalidity)
		err = list_parts(segment, txn, mail, mailbox, &parts);
	else if (err == ERR_NOT_FOUND && txn)
		err = 0;
	for (size_t i = 0; i < parts.count; i++)
		s.covered += parts.list[i].live;
	s.segments = (uint32_t)parts.count;
	store_text_end(&txn);
	store_end_read(&mail);
	free(parts.list);
	free(segment);
	if (err == 0)
		*status_out = s;
	return err;
}
