/*
 * What reads messages: index scans over the chunks, walks over the records, bytes of bodies. Nothing here
 * writes.
 */
#include "backend/store/blob.h"
#include "backend/store/chunk.h"
#include "backend/store/record.h"

/* ---- the index ---- */

int store_message_uids(struct store_txn *txn, uint32_t mailbox, uint32_t *uids, size_t room,
	size_t *count_out, size_t *first_unseen_out)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	size_t count = 0, unseen = SIZE_MAX;
	uint32_t n;
	int err = db_cursor_open(txn, DB_INDEX, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		err = chunk_count(c.value, &n);
		if (!err && n > room - count)
			err = ERR_TOO_BIG;
		if (err)
			break;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		memcpy(uids + count, c.value.p + CHUNK_HEAD, (size_t)n * 4);
#else
		for (uint32_t i = 0; i < n; i++)
			uids[count + i] = chunk_uid(c.value.p, i);
#endif
		for (uint32_t i = 0; unseen == SIZE_MAX && i < n && chunk_unseen(c.value.p); i++)
			if (!(chunk_flags(c.value.p, n, i) & STORE_SEEN))
				unseen = count + i;
		count += n;
		err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	*count_out = count;
	if (first_unseen_out)
		*first_unseen_out = unseen == SIZE_MAX ? count : unseen;
	return 0;
}

int store_message_entry(struct store_txn *txn, uint32_t mailbox, uint32_t uid, struct store_entry *entry_out)
{
	struct db_cursor c;
	uint32_t count, at;
	int err = db_cursor_open(txn, DB_INDEX, &c);

	if (err)
		return err;
	err = chunk_seek(&c, mailbox, uid);
	if (!err)
		err = chunk_count(c.value, &count);
	if (!err) {
		at = chunk_find(c.value.p, count, uid);
		if (at < count && chunk_uid(c.value.p, at) == uid)
			chunk_entry(c.value.p, count, at, entry_out);
		else
			err = ERR_NOT_FOUND;
	}
	db_cursor_close(&c);
	return err;
}

int store_message_deleted(
	struct store_txn *txn, uint32_t mailbox, uint32_t *uids, size_t room, size_t *count_out)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct db_cursor c;
	size_t count = 0;
	uint32_t n;
	int err = db_cursor_open(txn, DB_INDEX, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && count < room && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		err = chunk_count(c.value, &n);
		for (uint32_t i = 0; !err && chunk_deleted(c.value.p) && i < n && count < room; i++)
			if (chunk_flags(c.value.p, n, i) & STORE_DELETED)
				uids[count++] = chunk_uid(c.value.p, i);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	*count_out = count;
	return 0;
}

/* ---- scan: the cursor is a db_cursor of its own, the present chunk a view ---- */

static int scan_take(struct store_scan *scan, MDB_cursor_op op, struct slice key)
{
	struct db_cursor c = {.txn = scan->txn, .cursor = scan->cursor};
	struct db_key prefix = db_key_u32(scan->mailbox);
	int err = op == MDB_NEXT ? db_cursor_next(&c) : db_cursor_seek(&c, key);

	scan->chunk = NULL;
	if (!err && !db_cursor_has_prefix(&c, db_key_view(&prefix)))
		err = ERR_NOT_FOUND;
	if (!err)
		err = chunk_count(c.value, &scan->count);
	if (err)
		return err;
	scan->chunk = c.value.p;
	scan->at = 0;
	return 0;
}

int store_scan_begin(struct store_scan *scan, struct store_txn *txn, uint32_t mailbox, uint32_t uid_from)
{
	struct db_cursor c;
	struct db_key key;
	int err = db_cursor_open(txn, DB_INDEX, &c);

	*scan = (struct store_scan){.txn = txn, .mailbox = mailbox, .uid_from = uid_from};
	if (err)
		return err;
	scan->cursor = c.cursor;
	err = chunk_seek(&c, mailbox, uid_from);
	key = err ? db_key_u32(mailbox) : db_key_u32_u32(mailbox, bytes_get_u32be(c.key.p + 4));
	if (!err || err == ERR_NOT_FOUND)
		err = scan_take(scan, MDB_SET_RANGE, db_key_view(&key));
	if (!err)
		scan->at = chunk_find(scan->chunk, scan->count, uid_from);
	if (err && err != ERR_NOT_FOUND) {
		store_scan_end(scan);
		return err;
	}
	return 0;
}

int store_scan_begin_for(struct store_scan *scan, struct store_txn *txn, uint32_t mailbox, uint32_t uid_from,
	const struct store_who *who)
{
	int err = store_scan_begin(scan, txn, mailbox, uid_from);

	if (err || !who)
		return err;
	err = store_seen_begin(&scan->seen, txn, mailbox, *who);
	if (err)
		store_scan_end(scan);
	scan->is_for = !err;
	return err;
}

bool store_scan_next(struct store_scan *scan, struct store_entry *entry_out)
{
	while (scan->chunk && scan->at >= scan->count) {
		int err = scan_take(scan, MDB_NEXT, slice_of(NULL, 0));

		if (err && err != ERR_NOT_FOUND)
			scan->error = err;
	}
	if (!scan->chunk)
		return false;
	chunk_entry(scan->chunk, scan->count, scan->at++, entry_out);
	if (scan->is_for) {
		scan->error = store_seen_apply(&scan->seen, entry_out);
		if (scan->error)
			scan->chunk = NULL;
		return !scan->error;
	}
	return true;
}

void store_scan_end(struct store_scan *scan)
{
	if (scan->cursor)
		mdb_cursor_close(scan->cursor);
	scan->cursor = NULL;
	scan->chunk = NULL;
	store_seen_end(&scan->seen);
}

/* ---- records ---- */

static int unpack(struct slice value, uint32_t uid, struct store_message *out)
{
	int err = record_unpack_message(value, out);

	out->uid = uid;
	return err;
}

int store_message_get(struct store_txn *txn, uint32_t mailbox, uint32_t uid, struct store_message *out)
{
	struct db_key key = db_key_u32_u32(mailbox, uid);
	struct slice value;
	int err = db_get(txn, DB_MESSAGES, db_key_view(&key), &value);

	return err ? err : unpack(value, uid, out);
}

int store_walk_begin(struct store_walk *walk, struct store_txn *txn, uint32_t mailbox, uint32_t uid_from)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_MESSAGES, &c);

	*walk = (struct store_walk){.txn = txn, .mailbox = mailbox, .uid_from = uid_from, .skip = true};
	if (!err)
		walk->cursor = c.cursor;
	return err;
}

void store_walk_skip(struct store_walk *walk, uint32_t uid)
{
	if (uid > walk->uid_from) {
		walk->uid_from = uid;
		walk->skip = true;
	}
}

bool store_walk_next(struct store_walk *walk, struct store_message *out)
{
	struct db_cursor c = {.txn = walk->txn, .cursor = walk->cursor};
	struct db_key key = db_key_u32_u32(walk->mailbox, walk->uid_from), prefix = db_key_u32(walk->mailbox);
	int err = ERR_NOT_FOUND;

	if (!walk->cursor)
		return false;
	err = walk->skip ? db_cursor_seek(&c, db_key_view(&key)) : db_cursor_next(&c);
	walk->skip = false;
	if (!err && !db_cursor_has_prefix(&c, db_key_view(&prefix)))
		err = ERR_NOT_FOUND;
	if (!err)
		err = unpack(c.value, bytes_get_u32be(c.key.p + 4), out);
	if (!err) {
		walk->uid_from = out->uid + 1;
		return true;
	}
	if (err != ERR_NOT_FOUND)
		walk->error = err;
	store_walk_end(walk);
	return false;
}

void store_walk_end(struct store_walk *walk)
{
	if (walk->cursor)
		mdb_cursor_close(walk->cursor);
	walk->cursor = NULL;
}

/* ---- bodies ---- */

int store_message_read(struct store_txn *txn, const struct store_message *m, uint64_t offset, void *data,
	size_t len, size_t *len_out)
{
	char *to = data;
	size_t got = 0, n = 0;
	int err = 0;

	if (offset < m->trace.len) {
		struct slice part = slice_sub(m->trace, (size_t)offset, len);

		memcpy(to, part.p, part.len);
		got = part.len;
	}
	if (got < len)
		err = blob_read(txn, m->blob, offset + got - m->trace.len, to + got, len - got, &n);
	if (!err)
		*len_out = got + n;
	return err;
}
