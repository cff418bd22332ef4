/*
 * What reads messages: index scans over the chunks, walks over the records, bytes of bodies. Nothing here
 * writes.
 */
#include "backend/store/blob.h"
#include "backend/store/chunk.h"
#include "backend/store/record.h"

/* Chunks that are looked into from either end for the first unseen message: 16,000 messages. */
#define UNSEEN_CHUNKS 130

/* ---- the index ---- */

struct runs {
	void (*fn)(void *arg, uint32_t from, uint32_t count);
	void *arg;
	uint32_t from, count; /* the run that is gathered */
};

static void add_run(struct runs *r, uint32_t from, uint32_t count)
{
	if (r->count && r->from + r->count == from) {
		r->count += count;
		return;
	}
	if (r->count)
		r->fn(r->arg, r->from, r->count);
	r->from = from;
	r->count = count;
}

/* How many entries from this one on follow one another: by steps that double and then halve, so that long runs are not walked. */
static uint32_t run_in(const char *value, uint32_t at, uint32_t count)
{
	uint32_t first = chunk_uid(value, at), n = 1;
	bool is_growing = true;

	for (uint32_t step = 1; step; step = is_growing ? step * 2 : step / 2) {
		if (step < count - at - (n - 1) &&
			chunk_uid(value, at + n - 1 + step) - first == n - 1 + step)
			n += step;
		else
			is_growing = false;
	}
	return n;
}

/* Where a chunk may not go beyond `end`, since the next one begins there. Nothing out of order is told: a view relies on it. */
static int add_chunk(struct runs *r, uint32_t key_uid, struct slice value, uint32_t end)
{
	uint32_t n, least = key_uid;

	if (!key_uid)
		return ERR_CORRUPT;
	if (key_uid < end && value.len == CHUNK_HEAD + (size_t)(end - key_uid) * CHUNK_ENTRY) {
		add_run(r, key_uid, end - key_uid); /* as many as there can be: all of them */
		return 0;
	}
	if (chunk_count(value, &n))
		return ERR_CORRUPT;
	for (uint32_t i = 0, run; i < n; i += run) {
		uint32_t uid = chunk_uid(value.p, i);

		run = run_in(value.p, i, n);
		if (uid < least || uid >= end || run > end - uid)
			return ERR_CORRUPT;
		add_run(r, uid, run);
		least = uid + run;
	}
	return 0;
}

int store_message_runs(struct store_txn *txn, uint32_t mailbox, uint32_t uidnext,
	void (*fn)(void *arg, uint32_t from, uint32_t count), void *arg)
{
	struct db_key prefix = db_key_u32(mailbox);
	struct runs runs = {fn, arg, 0, 0};
	struct slice value = {0};
	bool has_chunk = false;
	uint32_t key_uid = 0;
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_INDEX, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		uint32_t next = bytes_get_u32be(c.key.p + 4);

		if (has_chunk)
			err = add_chunk(&runs, key_uid, value, next);
		has_chunk = true;
		key_uid = next;
		value = c.value;
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	err = has_chunk ? add_chunk(&runs, key_uid, value, uidnext) : 0;
	if (!err && runs.count)
		fn(arg, runs.from, runs.count);
	return err;
}

/* The first one without \Seen in a chunk that has one. */
static uint32_t unseen_in(const char *value, uint32_t count)
{
	uint32_t i = 0;

	while (i < count && (chunk_flags(value, count, i) & STORE_SEEN))
		i++;
	return i;
}

/* One end of the search: messages and unseen ones in the chunks that it has met. */
struct unseen_end {
	struct db_cursor c;
	uint32_t messages, unseen;
};

/* The first chunk with an unseen one has the first of all. ERR_NOT_NOW: it is not this one. */
static int unseen_from_start(struct unseen_end *e, uint32_t mailbox, uint32_t *place_out)
{
	struct db_key prefix = db_key_u32(mailbox);
	uint32_t n;
	int err = db_cursor_has_prefix(&e->c, db_key_view(&prefix)) ? chunk_count(e->c.value, &n)
								    : ERR_NOT_FOUND;

	if (err)
		return err;
	if (chunk_unseen(e->c.value.p)) {
		*place_out = e->messages + unseen_in(e->c.value.p, n);
		return 0;
	}
	e->messages += n;
	err = db_cursor_next(&e->c);
	return err ? err : ERR_NOT_NOW;
}

/* The chunk before `uid_io` has the first one if all of the mailbox are met with it. ERR_NOT_NOW: they are not. */
static int unseen_from_end(
	struct unseen_end *e, const struct store_mailbox *m, uint32_t *uid_io, uint32_t *place_out)
{
	uint32_t n;
	int err = *uid_io ? chunk_seek(&e->c, m->id, *uid_io - 1) : ERR_NOT_FOUND;

	if (!err)
		err = chunk_count(e->c.value, &n);
	if (err)
		return err;
	e->messages += n;
	e->unseen += chunk_unseen(e->c.value.p);
	*uid_io = bytes_get_u32be(e->c.key.p + 4);
	if (e->unseen < m->unseen || e->messages > m->messages)
		return ERR_NOT_NOW;
	*place_out = m->messages - e->messages + unseen_in(e->c.value.p, n);
	return 0;
}

/* By turns, so that it costs what lies between the message and the end that is nearer. */
int store_message_first_unseen(struct store_txn *txn, const struct store_mailbox *m, uint32_t *place_out)
{
	struct unseen_end start = {.messages = 0}, end = {.messages = 0};
	struct db_key prefix = db_key_u32(m->id);
	uint32_t uid = m->uidnext;
	int err;

	if (m->unseen == 0)
		return ERR_NOT_FOUND;
	err = db_cursor_open(txn, DB_INDEX, &start.c);
	if (!err)
		err = db_cursor_open(txn, DB_INDEX, &end.c);
	if (!err)
		err = db_cursor_seek(&start.c, db_key_view(&prefix));
	if (!err)
		err = ERR_NOT_NOW;
	for (unsigned looked = 0; err == ERR_NOT_NOW && looked < UNSEEN_CHUNKS; looked++) {
		err = unseen_from_start(&start, m->id, place_out);
		if (err == ERR_NOT_NOW)
			err = unseen_from_end(&end, m, &uid, place_out);
	}
	db_cursor_close(&start.c);
	db_cursor_close(&end.c);
	return err;
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
