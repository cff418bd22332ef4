/*
 * References and bodies. What is wrong is found over many snapshots, made sure of in one, and mended in short transactions: a
 * count that was wrong by so many is still wrong by as many, whatever happened meanwhile.
 */
#include <stdlib.h>

#include "backend/store/blob.h"
#include "backend/store/chunk.h"
#include "backend/store/queue_record.h"
#include "backend/store/repair.h"
#include "backend/store/store_scrub.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define ROWS_PER_SNAPSHOT 20000
#define BLOBS_PER_SNAPSHOT 200
#define BLOBS_PER_STEP 50

enum body {
	BODY_WHOLE,
	BODY_MISSING, /* no record, or one that cannot be read */
	BODY_DAMAGED  /* a frame does not decompress, or not to what was stored */
};

struct ref {
	char key[8];
	uint32_t counted;
	uint32_t said;  /* by the record; 0 for an orphan */
	uint64_t size;  /* as a message has it */
	uint64_t bytes; /* as the record has it */
	bool is_orphan;
	bool has_row, has_record; /* has_record: it can be read */
	enum body body;
};

struct blobs {
	struct repair *r;
	struct table *refs;
	struct table *accounts; /* mailbox -> struct owner */
	struct ref **wrong;
	size_t wrong_count, wrong_room, at;
	bool has_broken; /* some body is not whole */
};

struct owner {
	char key[4];
	uint32_t account;
};

static struct ref *ref_of(struct blobs *b, struct slice key)
{
	struct ref *f = table_get(b->refs, key);

	if (f)
		return f;
	f = xcalloc(1, sizeof(*f));
	memcpy(f->key, key.p, sizeof(f->key));
	table_put(b->refs, slice_of(f->key, sizeof(f->key)), f);
	return f;
}

static void free_table(struct table **t)
{
	struct slice key;
	void *value;

	for (size_t at = 0; *t && table_next(*t, &at, &key, &value);)
		free(value);
	table_free(t);
}

/* ---- counting ---- */

static int count_ref(struct blobs *b, struct slice key, struct slice value)
{
	struct store_message m;
	struct db_key blob;
	struct ref *f;

	if (key.len != 8 || record_unpack_message(value, &m))
		return 0; /* told with its mailbox */
	blob = db_key_u64(m.blob);
	f = ref_of(b, db_key_view(&blob));
	f->counted++;
	f->size = m.size - m.trace.len;
	return 0;
}

static int count_queued(struct blobs *b, struct slice key, struct slice value)
{
	struct store_queue_message m;
	struct db_key blob;
	struct ref *f;

	if (key.len != 8 || queue_record_unpack_message(value, &m))
		return 0; /* repair_queue() was there before */
	blob = db_key_u64(m.blob);
	f = ref_of(b, db_key_view(&blob));
	f->counted++;
	f->size = m.size + m.skip;
	return 0;
}

static int note_orphan(struct blobs *b, struct slice key, struct slice value)
{
	(void)value;
	if (key.len == 8)
		ref_of(b, key)->is_orphan = true;
	return 0;
}

static int note_record(struct blobs *b, struct slice key, struct slice value)
{
	struct blob_record record;
	struct ref *f;
	int err;

	if (key.len != 8)
		return 0;
	f = ref_of(b, key);
	f->has_row = true;
	if (record_unpack_blob(value, &record))
		return 0;
	err = blob_refs(b->r->txn, bytes_get_u64be(key.p), &record, &f->said);
	if (err) /* unreadable since check_copies() */
		return err == ERR_CORRUPT ? 0 : err;
	f->has_record = true;
	f->bytes = record.size;
	return 0;
}

static const struct {
	enum db_name db;
	int (*fn)(struct blobs *b, struct slice key, struct slice value);
} passes[] = {
	{DB_MESSAGES, count_ref},
	{DB_QUEUE, count_queued},
	{DB_ORPHANS, note_orphan},
	{DB_BLOBS, note_record},
};

/* rows: of one snapshot; 0: the transaction is the caller's. */
static int each_row(struct blobs *b, size_t pass, size_t rows)
{
	struct repair *r = b->r;
	struct buf from = {0};
	bool more = true;
	int err = 0;

	buf_add_char(&from, '\0');
	while (!err && more) {
		struct db_cursor c;
		size_t n = 0;

		more = false;
		if (rows && r->options->is_cancelled && r->options->is_cancelled(r->options->arg))
			err = ERR_CANCELLED;
		else if (rows)
			err = store_begin_read(r->store, r->slot, &r->txn);
		if (err)
			break;
		err = db_cursor_open(r->txn, passes[pass].db, &c);
		if (!err)
			err = db_cursor_seek(&c, buf_view(&from));
		while (!err && !more) {
			if (rows && n++ == rows) {
				buf_clear(&from);
				buf_add_slice(&from, c.key);
				more = true;
				break;
			}
			err = passes[pass].fn(b, c.key, c.value);
			if (!err)
				err = db_cursor_next(&c);
		}
		db_cursor_close(&c);
		if (rows)
			store_end_read(&r->txn);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	buf_deinit(&from);
	return err;
}

static bool is_right(const struct ref *f)
{
	if (f->counted == 0)
		return !f->has_row || (f->is_orphan && f->has_record);
	return f->has_record && f->counted == f->said && !f->is_orphan;
}

static bool find_wrong(struct blobs *b)
{
	struct slice key;
	void *value;

	b->wrong_count = 0;
	for (size_t at = 0; table_next(b->refs, &at, &key, &value);) {
		if (is_right(value))
			continue;
		if (b->wrong_count == b->wrong_room)
			b->wrong = xreallocarray(b->wrong,
				b->wrong_room = b->wrong_room ? b->wrong_room * 2 : 64, sizeof(struct ref *));
		b->wrong[b->wrong_count++] = value;
	}
	return b->wrong_count > 0;
}

static int count_all(struct blobs *b)
{
	struct repair *r = b->r;
	int err = 0;

	b->refs = table_new();
	for (size_t i = 0; i < ARRAY_LEN(passes) && !err; i++)
		err = each_row(b, i, ROWS_PER_SNAPSHOT);
	if (err || !find_wrong(b))
		return err;
	/* In one snapshot: what is wrong now is wrong. */
	free_table(&b->refs);
	b->refs = table_new();
	err = store_begin_read(r->store, r->slot, &r->txn);
	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_LEN(passes) && !err; i++)
		err = each_row(b, i, 0);
	store_end_read(&r->txn);
	(void)find_wrong(b);
	return err;
}

/* Counts of copies that cannot be read, or that no body has. */
static int check_copies(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct slice record;
	int err = key.len == 8 && value.len == 4 && bytes_get_u32(value.p)
			  ? db_get(r->txn, DB_BLOBS, key, &record)
			  : ERR_NOT_FOUND;

	if (err == ERR_NOT_FOUND)
		repair_keep_key(arg, key);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Rows that no body can have. */
static int check_key(struct repair *r, struct slice key, struct slice value, void *arg)
{
	(void)r;
	(void)value;
	if (key.len != 8)
		repair_keep_key(arg, key);
	return 0;
}

/* ---- mending references ---- */

/* The body of no message: it goes, unless it may be the body of one that is missing. */
static int drop_stray(struct repair *r, uint64_t blob, uint64_t bytes)
{
	if (r->has_losses && !r->options->remove_strays) {
		repair_left(r, "a body of no message stays, as messages are missing: blob=%llu bytes=%llu",
			(unsigned long long)blob, (unsigned long long)bytes);
		return 0;
	}
	repair_mended(r, "a body of no message goes: blob=%llu bytes=%llu", (unsigned long long)blob,
		(unsigned long long)bytes);
	return blob_put_dead(r->txn, blob);
}

/* Nobody has it, and nobody knows what it was: its pieces are the reaper's. */
static int drop_unreadable(struct repair *r, uint64_t blob)
{
	struct db_key key = db_key_u64(blob);
	int err;

	repair_mended(r, "the record of a body of no message cannot be read, it goes: blob=%llu",
		(unsigned long long)blob);
	err = db_drop(r->txn, DB_BLOBS, db_key_view(&key));
	return err ? err : blob_put_dead(r->txn, blob);
}

static int mend_ref(struct repair *r, struct ref *f)
{
	struct db_key key;
	struct blob_record record;
	struct slice value;
	uint64_t blob = bytes_get_u64be(f->key), said;
	int64_t off = (int64_t)f->counted - (f->is_orphan ? 0 : f->said);
	uint32_t refs;
	bool is_orphan;
	int err;

	key = db_key_u64(blob);
	is_orphan = db_get(r->txn, DB_ORPHANS, db_key_view(&key), &value) == 0;
	err = db_get(r->txn, DB_BLOBS, db_key_view(&key), &value);
	if (!err)
		err = record_unpack_blob(value, &record);
	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) {
		if (!f->counted)
			return err == ERR_NOT_FOUND ? 0
			       : r->has_losses && !r->options->remove_strays && !is_orphan
				       ? drop_stray(r, blob, 0)
				       : drop_unreadable(r, blob);
		err = blob_rebuild(r->txn, blob, f->counted, f->size);
		if (!err) {
			repair_mended(r,
				"the record of a body was lost, it is made anew from its pieces: blob=%llu",
				(unsigned long long)blob);
			return 0;
		}
		f->body = BODY_MISSING;
		return err == ERR_CORRUPT || err == ERR_NOT_FOUND ? 0 : err;
	}
	if (!err)
		err = blob_refs(r->txn, blob, &record, &refs);
	if (err)
		return err;
	said = is_orphan ? 0 : refs;
	if ((int64_t)said + off <= 0)
		return is_orphan ? 0 : drop_stray(r, blob, record.size);
	repair_mended(r, "references of blob=%llu: %llu, are %lld", (unsigned long long)blob,
		(unsigned long long)said, (long long)((int64_t)said + off));
	return blob_set_refs(r->txn, blob, (uint32_t)((int64_t)said + off));
}

static int mend_refs(struct blobs *b)
{
	struct repair *r = b->r;

	for (size_t at = 0; at < b->wrong_count;) {
		size_t end = at + BLOBS_PER_STEP < b->wrong_count ? at + BLOBS_PER_STEP : b->wrong_count;
		int err = store_begin_write(r->store, r->slot, &r->txn);

		if (err)
			return err;
		for (; at < end && !err; at++) {
			err = mend_ref(r, b->wrong[at]);
			b->has_broken |= b->wrong[at]->body != BODY_WHOLE;
		}
		FAULT("store-repair");
		if (err)
			store_abort(&r->txn);
		else
			err = store_commit(&r->txn);
		if (err)
			return err;
	}
	return 0;
}

/* ---- pieces of no body ---- */

static int mend_pieces(struct blobs *b)
{
	struct repair *r = b->r;
	struct db_key from = db_key_u64(0);
	struct db_cursor c;
	struct slice value;
	int err = store_begin_write(r->store, r->slot, &r->txn);

	if (err)
		return err;
	err = db_cursor_open(r->txn, DB_PIECES, &c);
	while (!err) {
		uint64_t blob;
		struct db_key key;

		err = db_cursor_seek(&c, db_key_view(&from));
		if (err)
			break;
		blob = bytes_get_u64be(c.key.p);
		key = db_key_u64(blob);
		from = db_key_u64(blob + 1);
		err = db_get(r->txn, DB_BLOBS, db_key_view(&key), &value);
		if (err == ERR_NOT_FOUND)
			err = db_get(r->txn, DB_ORPHANS, db_key_view(&key), &value);
		if (err != ERR_NOT_FOUND)
			continue;
		err = 0;
		if (!table_get(b->refs, db_key_view(&key)) || !ref_of(b, db_key_view(&key))->counted)
			err = drop_stray(r, blob, 0);
	}
	db_cursor_close(&c);
	err = err == ERR_NOT_FOUND ? 0 : err;
	if (err || store_txn_writes(r->txn) == 0) {
		store_abort(&r->txn);
		return err;
	}
	return store_commit(&r->txn);
}

/* ---- bodies ---- */

static int verify_some(struct blobs *b, uint64_t *from)
{
	struct repair *r = b->r;
	struct db_key key = db_key_u64(*from);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_BLOBS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	for (size_t n = 0; !err && n < BLOBS_PER_SNAPSHOT; n++) {
		struct blob_record record;
		struct slice row;

		if (c.key.len == 8 && record_unpack_blob(c.value, &record) == 0) {
			err = blob_verify(r->txn, bytes_get_u64be(c.key.p), &record);
			if (err == ERR_CORRUPT && db_get(r->txn, DB_ORPHANS, c.key, &row)) {
				ref_of(b, c.key)->body = BODY_DAMAGED;
				b->has_broken = true;
			}
			err = err == ERR_CORRUPT ? 0 : err;
		}
		if (c.key.len == 8)
			*from = bytes_get_u64be(c.key.p) + 1;
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err;
}

static int verify_all(struct blobs *b)
{
	struct repair *r = b->r;
	uint64_t from = 0;
	int err = 0;

	while (!err) {
		err = r->options->is_cancelled && r->options->is_cancelled(r->options->arg)
			      ? ERR_CANCELLED
			      : store_begin_read(r->store, r->slot, &r->txn);
		if (err)
			break;
		err = verify_some(b, &from);
		store_end_read(&r->txn);
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- whose bodies ---- */

static void add_owner(struct blobs *b, uint32_t mailbox, uint32_t account)
{
	struct owner *o = xcalloc(1, sizeof(*o)), *before;

	bytes_put_u32be(o->key, mailbox);
	o->account = account;
	before = table_remove(b->accounts, slice_of(o->key, sizeof(o->key)));
	free(before);
	table_put(b->accounts, slice_of(o->key, sizeof(o->key)), o);
}

static int find_owners(struct blobs *b)
{
	static const enum db_name tables[] = {DB_KEPT, DB_FOLDERS};
	int err = 0;

	b->accounts = table_new();
	for (size_t i = 0; i < ARRAY_LEN(tables) && !err; i++) {
		struct db_cursor c;

		err = db_cursor_open(b->r->txn, tables[i], &c);
		if (!err)
			err = db_cursor_seek(&c, slice_of("", 1));
		for (; !err; err = db_cursor_next(&c)) {
			if (tables[i] == DB_FOLDERS && c.key.len == 8)
				add_owner(b, bytes_get_u32be(c.key.p + 4), bytes_get_u32be(c.key.p));
			if (tables[i] == DB_KEPT && c.key.len == 16)
				add_owner(b, bytes_get_u32be(c.key.p + 8), bytes_get_u32be(c.key.p));
		}
		db_cursor_close(&c);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	return err;
}

static void tell_message(struct blobs *b, struct slice key, const struct ref *f)
{
	struct owner *o = table_get(b->accounts, slice_of(key.p, 4));
	struct buf name = {0};

	repair_name(b->r, o ? o->account : 0, bytes_get_u32be(key.p), bytes_get_u32be(key.p + 4), &name);
	repair_left(b->r, "the body of a message is %s: %s blob=%llu",
		f->body == BODY_MISSING ? "lost" : "damaged", buf_str_view(&name),
		(unsigned long long)bytes_get_u64be(f->key));
	b->r->result.damaged++;
	buf_deinit(&name);
}

/* A message of the queue: its tries fail, and an operator has to remove it. */
static int tell_queued(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct store_queue_message m;
	struct blobs *b = arg;
	struct db_key blob;
	const struct ref *f;

	if (key.len != 8 || queue_record_unpack_message(value, &m))
		return 0;
	blob = db_key_u64(m.blob);
	f = table_get(b->refs, db_key_view(&blob));
	if (!f || f->body == BODY_WHOLE)
		return 0;
	repair_left(r, "the body of a queued message is %s: message=%u-%llu blob=%llu",
		f->body == BODY_MISSING ? "lost" : "damaged", r->slot,
		(unsigned long long)bytes_get_u64be(key.p), (unsigned long long)m.blob);
	r->result.damaged++;
	return 0;
}

/* All messages once, in one snapshot: something is wrong, it may take its time. */
static int tell_messages(struct blobs *b)
{
	struct repair *r = b->r;
	struct db_cursor c;
	int err = store_begin_read(r->store, r->slot, &r->txn);

	if (err)
		return err;
	err = find_owners(b);
	if (!err)
		err = db_cursor_open(r->txn, DB_MESSAGES, &c);
	if (!err) {
		err = db_cursor_seek(&c, slice_of("", 1));
		for (; !err; err = db_cursor_next(&c)) {
			struct store_message m;
			struct db_key blob;
			struct ref *f;

			if (c.key.len != 8 || record_unpack_message(c.value, &m))
				continue;
			blob = db_key_u64(m.blob);
			f = table_get(b->refs, db_key_view(&blob));
			if (f && f->body != BODY_WHOLE)
				tell_message(b, c.key, f);
		}
		db_cursor_close(&c);
	}
	store_end_read(&r->txn);
	err = err == ERR_NOT_FOUND ? 0 : err;
	return err ? err : repair_each_row(r, DB_QUEUE, tell_queued, b);
}

int repair_blobs(struct repair *r)
{
	struct blobs b = {.r = r};
	int err = repair_rows(r, DB_BLOBS, check_key, "a body's record of no body");

	if (!err)
		err = repair_rows(r, DB_ORPHANS, check_key, "a mark of a dead body of no body");
	if (!err)
		err = repair_rows(r, DB_COPIES, check_copies, "a count of copies");
	if (!err)
		err = count_all(&b);
	if (!err)
		err = mend_refs(&b);
	if (!err)
		err = mend_pieces(&b);
	if (!err && !r->options->skip_bodies)
		err = verify_all(&b);
	if (!err && b.has_broken)
		err = tell_messages(&b);
	free(b.wrong);
	free_table(&b.refs);
	free_table(&b.accounts);
	return err;
}

int store_scrub_tell(struct store *store, unsigned slot, const uint64_t *blobs, size_t count,
	void (*report)(void *arg, const char *text), void *arg)
{
	const struct store_repair_options options = {.report = report, .arg = arg};
	struct repair r = {.store = store, .slot = slot, .options = &options};
	struct blobs b = {.r = &r, .refs = table_new()};
	int err;

	for (size_t i = 0; i < count; i++) {
		struct db_key key = db_key_u64(blobs[i]);

		ref_of(&b, db_key_view(&key))->body = BODY_DAMAGED;
	}
	err = tell_messages(&b);
	free_table(&b.refs);
	free_table(&b.accounts);
	return err;
}
