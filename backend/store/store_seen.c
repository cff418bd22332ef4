/*
 * What those who are not the owner have seen.
 *
 *	DB_SEEN  mailbox u32be | slot u8, account u32be of whom | first UID / STORE_SEEN_BLOCK u32be ->
 *	           seen u64 | known u64 | a MODSEQ u64 for each bit of known
 *	         … | UINT32_MAX -> the highest of his MODSEQs u64
 *
 * A bit of known: \Seen of that UID was changed once, at that MODSEQ. UIDs are never given again, so bits of messages that
 * have gone do no harm; rows go with their mailbox or their account.
 */
#include <stdlib.h>

#include "backend/store/acl.h"
#include "backend/store/record.h"
#include "backend/store/store_message.h"
#include "common/base/mem.h"

#define HEAD 16
#define NEVER UINT32_MAX
/* Messages that are looked at for the first one. */
#define FIRST_MOST 16000

static struct db_key row_key(uint32_t mailbox, struct store_who who, uint32_t block)
{
	struct db_key key = {.len = 13};

	bytes_put_u32be(key.bytes, mailbox);
	key.bytes[4] = (char)who.slot;
	bytes_put_u32be(key.bytes + 5, who.account);
	bytes_put_u32be(key.bytes + 9, block);
	return key;
}

/* ---- a row ---- */

struct row {
	uint64_t seen, known;
	uint64_t modseqs[STORE_SEEN_BLOCK]; /* by bit */
};

static bool is_row(const char *p, size_t len)
{
	return len >= HEAD && len == HEAD + 8 * (size_t)__builtin_popcountll(bytes_get_u64(p + 8)) &&
	       !(bytes_get_u64(p) & ~bytes_get_u64(p + 8));
}

bool seen_is_row(struct slice key, struct slice value)
{
	if (key.len != 13)
		return false;
	return bytes_get_u32be(key.p + 9) == NEVER ? value.len == 8 : is_row(value.p, value.len);
}

static uint64_t modseq_of(const char *p, unsigned bit)
{
	uint64_t known = bytes_get_u64(p + 8), below = known & ((UINT64_C(1) << bit) - 1);

	return known >> bit & 1 ? bytes_get_u64(p + HEAD + 8 * (size_t)__builtin_popcountll(below)) : 0;
}

static int get_row(struct store_txn *txn, struct db_key key, struct row *row)
{
	struct slice value;
	int err = db_get(txn, DB_SEEN, db_key_view(&key), &value);

	*row = (struct row){0};
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (!is_row(value.p, value.len))
		return ERR_CORRUPT;
	row->seen = bytes_get_u64(value.p);
	row->known = bytes_get_u64(value.p + 8);
	for (unsigned bit = 0; bit < STORE_SEEN_BLOCK; bit++)
		row->modseqs[bit] = modseq_of(value.p, bit);
	return 0;
}

static int put_row(struct store_txn *txn, struct db_key key, const struct row *row)
{
	char value[HEAD + 8 * STORE_SEEN_BLOCK], *p = value + HEAD;

	bytes_put_u64(value, row->seen);
	bytes_put_u64(value + 8, row->known);
	for (unsigned bit = 0; bit < STORE_SEEN_BLOCK; bit++) {
		if (!(row->known >> bit & 1))
			continue;
		bytes_put_u64(p, row->modseqs[bit]);
		p += 8;
	}
	return db_put(txn, DB_SEEN, db_key_view(&key), slice_of(value, (size_t)(p - value)));
}

int seen_put(struct store_txn *txn, uint32_t mailbox, struct store_who who, const uint32_t *uids,
	const bool *flags, size_t count, uint64_t modseq)
{
	struct db_key head = row_key(mailbox, who, NEVER);
	char value[8];
	int err = 0;

	for (size_t i = 0; i < count && !err;) {
		uint32_t block = uids[i] / STORE_SEEN_BLOCK;
		struct db_key key = row_key(mailbox, who, block);
		struct row row;

		err = get_row(txn, key, &row);
		for (; i < count && uids[i] / STORE_SEEN_BLOCK == block; i++) {
			uint64_t bit = UINT64_C(1) << uids[i] % STORE_SEEN_BLOCK;

			row.seen = flags[i] ? row.seen | bit : row.seen & ~bit;
			row.known |= bit;
			row.modseqs[uids[i] % STORE_SEEN_BLOCK] = modseq;
		}
		if (!err)
			err = put_row(txn, key, &row);
	}
	bytes_put_u64(value, modseq);
	if (!err && count)
		err = db_put(txn, DB_SEEN, db_key_view(&head), slice_of(value, sizeof(value)));
	return err;
}

static int raise_highest(struct store_txn *txn, uint32_t mailbox, struct store_who who, uint64_t modseq)
{
	struct db_key key = row_key(mailbox, who, NEVER);
	char value[8];
	uint64_t now;
	int err = store_seen_modseq(txn, mailbox, who, &now);

	if (err == ERR_CORRUPT)
		now = err = 0;
	bytes_put_u64(value, modseq);
	return err || now >= modseq ? err
				    : db_put(txn, DB_SEEN, db_key_view(&key), slice_of(value, sizeof(value)));
}

/* One row; a damaged one goes. */
static int move_row(
	struct store_txn *txn, uint32_t mailbox, struct store_who from, struct store_who to, uint32_t block)
{
	struct row old, row;
	uint64_t highest;
	int err;

	if (block == NEVER) {
		err = store_seen_modseq(txn, mailbox, from, &highest);
		return err ? 0 : raise_highest(txn, mailbox, to, highest);
	}
	err = get_row(txn, row_key(mailbox, from, block), &old);
	if (err)
		return err == ERR_CORRUPT ? 0 : err;
	err = get_row(txn, row_key(mailbox, to, block), &row);
	if (err && err != ERR_CORRUPT)
		return err;
	for (unsigned bit = 0; bit < STORE_SEEN_BLOCK; bit++) {
		uint64_t mask = UINT64_C(1) << bit;

		if (!(old.known & mask) || row.known & mask)
			continue;
		row.known |= mask;
		row.seen |= old.seen & mask;
		row.modseqs[bit] = old.modseqs[bit];
	}
	return put_row(txn, row_key(mailbox, to, block), &row);
}

int seen_move(struct store_txn *txn, uint32_t mailbox, struct store_who from, const struct store_who *to,
	size_t *limit)
{
	struct db_key prefix = row_key(mailbox, from, 0);
	int err = 0;

	prefix.len -= 4;
	while (!err && *limit) {
		struct db_cursor c;
		struct db_key key;

		err = db_cursor_open(txn, DB_SEEN, &c);
		if (err)
			return err;
		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (!err && !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			err = ERR_NOT_FOUND;
		if (!err && c.key.len != prefix.len + 4)
			err = ERR_CORRUPT;
		key = row_key(mailbox, from, err ? 0 : bytes_get_u32be(c.key.p + prefix.len));
		db_cursor_close(&c);
		if (!err && to)
			err = move_row(txn, mailbox, from, *to, bytes_get_u32be(key.bytes + prefix.len));
		if (!err)
			err = db_drop(txn, DB_SEEN, db_key_view(&key));
		*limit -= !err;
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

int seen_clamp(struct slice row, uint64_t most, char *out, uint64_t *highest_out)
{
	*highest_out = 0;
	if (!is_row(row.p, row.len) || row.len > SEEN_ROW_MAX)
		return ERR_CORRUPT;
	memcpy(out, row.p, row.len);
	for (size_t at = HEAD; at < row.len; at += 8) {
		uint64_t modseq = bytes_get_u64(row.p + at);

		if (modseq == 0)
			return ERR_CORRUPT;
		*highest_out = modseq > *highest_out ? modseq : *highest_out;
		bytes_put_u64(out + at, modseq < most ? modseq : most);
	}
	return 0;
}

int seen_put_imported(
	struct store_txn *txn, uint32_t mailbox, struct store_who who, uint32_t block, struct slice row)
{
	struct db_key key = row_key(mailbox, who, block);
	char copy[SEEN_ROW_MAX];
	uint64_t highest;
	int err = seen_clamp(row, UINT64_MAX, copy, &highest);

	if (!err)
		err = db_put(txn, DB_SEEN, db_key_view(&key), row);
	return err ? err : raise_highest(txn, mailbox, who, highest);
}

int seen_has(struct store_txn *txn, uint32_t mailbox, bool *has_out)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_SEEN, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	*has_out = !err && db_cursor_has_prefix(&c, db_key_view(&prefix));
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int seen_each(struct store_txn *txn, uint32_t mailbox, struct seen_at *at, size_t limit,
	int (*fn)(void *arg, struct store_who who, uint32_t block, struct slice row), void *arg,
	bool *done_out)
{
	struct db_key from = row_key(mailbox, at->who, at->block), prefix = db_key_u32(mailbox);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_SEEN, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&from));
	for (; !err && limit && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		struct store_who who;
		uint32_t block;

		if (c.key.len != from.len) {
			err = ERR_CORRUPT;
			break;
		}
		who = (struct store_who){(uint8_t)c.key.p[4], bytes_get_u32be(c.key.p + 5)};
		block = bytes_get_u32be(c.key.p + 9);
		if (block != NEVER)
			err = fn(arg, who, block, c.value);
		if (err)
			break;
		/* The row of NEVER is the last of one: behind it there is none. */
		*at = (struct seen_at){who, block == NEVER ? NEVER : block + 1};
		limit--;
	}
	db_cursor_close(&c);
	*done_out = err == ERR_NOT_FOUND || (!err && limit);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- reading ---- */

int store_seen_begin(struct store_seen *seen, struct store_txn *txn, uint32_t mailbox, struct store_who who)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_SEEN, &c);

	*seen = (struct store_seen){.txn = txn, .mailbox = mailbox, .who = who, .first = NEVER};
	if (!err)
		seen->cursor = c.cursor;
	return err;
}

/* Finds the row of a UID; the cursor mostly stands before it. */
static int find_row(struct store_seen *seen, uint32_t uid)
{
	struct db_cursor c = {.txn = seen->txn, .cursor = seen->cursor};
	struct db_key key = row_key(seen->mailbox, seen->who, uid / STORE_SEEN_BLOCK);
	int err = db_cursor_seek(&c, db_key_view(&key));

	seen->first = uid - uid % STORE_SEEN_BLOCK;
	seen->row = NULL;
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (!slice_is_equal(c.key, db_key_view(&key)))
		return 0;
	if (!is_row(c.value.p, c.value.len))
		return ERR_CORRUPT;
	seen->row = c.value.p;
	seen->len = c.value.len;
	return 0;
}

int store_seen_apply(struct store_seen *seen, struct store_entry *e)
{
	unsigned bit = e->uid % STORE_SEEN_BLOCK;
	uint64_t modseq;
	int err = seen->first == e->uid - bit ? 0 : find_row(seen, e->uid);

	if (err)
		return err;
	e->flags &= (uint8_t)~STORE_SEEN;
	if (!seen->row)
		return 0;
	if (bytes_get_u64(seen->row) >> bit & 1)
		e->flags |= STORE_SEEN;
	modseq = modseq_of(seen->row, bit);
	if (modseq > e->modseq)
		e->modseq = modseq;
	return 0;
}

void store_seen_end(struct store_seen *seen)
{
	if (seen->cursor)
		mdb_cursor_close(seen->cursor);
	seen->cursor = NULL;
}

int store_seen_modseq(struct store_txn *txn, uint32_t mailbox, struct store_who who, uint64_t *modseq_out)
{
	struct db_key key = row_key(mailbox, who, NEVER);
	struct slice value;
	int err = db_get(txn, DB_SEEN, db_key_view(&key), &value);

	*modseq_out = 0;
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (value.len != 8)
		return ERR_CORRUPT;
	*modseq_out = bytes_get_u64(value.p);
	return 0;
}

int store_seen_changes(
	struct store_txn *txn, uint32_t mailbox, struct store_who who, uint64_t since, struct buf *uids_out)
{
	struct db_key from = row_key(mailbox, who, 0), prefix = {.len = 9};
	struct db_cursor c;
	uint64_t highest;
	int err = store_seen_modseq(txn, mailbox, who, &highest);

	if (err || highest <= since)
		return err;
	memcpy(prefix.bytes, from.bytes, prefix.len);
	err = db_cursor_open(txn, DB_SEEN, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&from));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		uint32_t block = c.key.len == 13 ? bytes_get_u32be(c.key.p + 9) : NEVER;

		if (block == NEVER)
			break;
		if (!is_row(c.value.p, c.value.len)) {
			err = ERR_CORRUPT;
			break;
		}
		for (unsigned bit = 0; bit < STORE_SEEN_BLOCK; bit++) {
			uint32_t uid = block * STORE_SEEN_BLOCK + bit;

			if (modseq_of(c.value.p, bit) > since)
				buf_add(uids_out, &uid, sizeof(uid));
		}
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_seen_count(struct store_txn *txn, uint32_t mailbox, struct store_who who, uint32_t *unseen_out)
{
	uint32_t unseen = 0;
	struct store_scan scan;
	struct store_entry e;
	int err = store_scan_begin_for(&scan, txn, mailbox, 1, &who);

	if (err)
		return err;
	while (store_scan_next(&scan, &e))
		unseen += !(e.flags & STORE_SEEN);
	err = scan.error;
	store_scan_end(&scan);
	*unseen_out = unseen;
	return err;
}

int store_seen_first(struct store_txn *txn, uint32_t mailbox, struct store_who who, uint32_t *place_out)
{
	uint32_t place = 0;
	struct store_scan scan;
	struct store_entry e;
	bool is_found = false, is_end = false;
	int err = store_scan_begin_for(&scan, txn, mailbox, 1, &who);

	if (err)
		return err;
	while (!is_found && !is_end && place < FIRST_MOST) {
		is_end = !store_scan_next(&scan, &e);
		is_found = !is_end && !(e.flags & STORE_SEEN);
		place += !is_end && !is_found;
	}
	err = scan.error;
	store_scan_end(&scan);
	if (err)
		return err;
	*place_out = place;
	return is_found ? 0 : is_end ? ERR_NOT_FOUND : ERR_NOT_NOW;
}
