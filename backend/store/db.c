/*
 * Access to the databases of a slot. Every read goes through db_get() or a cursor, every write through
 * db_put(), db_reserve(), db_delete(): they count writes and keep the first error.
 */
#include "backend/store/db.h"
#include "backend/store/db_slot.h"

#include <errno.h>
#include <sys/statvfs.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

int db_error(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return ERR_NOT_FOUND;
	case MDB_KEYEXIST:
		return ERR_EXISTS;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case MDB_CURSOR_FULL:
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return ERR_FULL;
	case MDB_READERS_FULL:
	case MDB_MAP_RESIZED:
	case ENOMEM:
	case EAGAIN:
		return ERR_NOT_NOW;
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return ERR_UNSUPPORTED;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
		return ERR_CORRUPT;
	default:
		return ERR_IO;
	}
}

void db_complain(struct db_slot *slot, const char *what, int rc)
{
	uint64_t now = clock_mono_ms();

	if (slot->complained_ms && now - slot->complained_ms < 1000)
		return;
	slot->complained_ms = now;
	log_error("store", "%s failed slot=%u: %s", what, slot->number, mdb_strerror(rc));
}

int db_fail(struct store_txn *txn, int error)
{
	if (!txn->error)
		txn->error = error;
	return error;
}

/* LMDB calls a short write EIO; on a disk with next to nothing left it means that the disk is full. */
#define NEXT_TO_NOTHING (UINT64_C(16) << 20)

int db_write_error(struct db_slot *slot, int rc)
{
	struct statvfs fs;
	int err = db_error(rc);

	if (rc == MDB_MAP_FULL)
		slot->want_grow = true;
	if (rc == MDB_PANIC)
		slot->is_broken = true;
	if (rc == EIO && statvfs(slot->store->dir, &fs) == 0 &&
		(uint64_t)fs.f_bavail * fs.f_frsize < NEXT_TO_NOTHING)
		err = ERR_FULL;
	if (err)
		db_place_rest(slot);
	return err;
}

static int write_failed(struct store_txn *txn, int rc)
{
	db_complain(txn->slot, "write", rc);
	return db_fail(txn, db_write_error(txn->slot, rc));
}

static MDB_val to_val(struct slice s)
{
	return (MDB_val){s.len, (void *)(uintptr_t)s.p};
}

static struct slice of_val(MDB_val v)
{
	return slice_of(v.mv_data, v.mv_size);
}

int db_get(struct store_txn *txn, enum db_name db, struct slice key, struct slice *value_out)
{
	MDB_val k = to_val(key), v;
	int rc = mdb_get(txn->txn, txn->slot->dbi[db], &k, &v);

	if (rc)
		return db_error(rc);
	*value_out = of_val(v);
	return 0;
}

int db_get_near(struct store_txn *txn, enum db_name db, struct slice key, struct slice *value_out)
{
	struct db_near *near = &txn->near[db];
	MDB_val k = to_val(key), v;
	int rc = 0;

	if (txn->is_write)
		return db_get(txn, db, key, value_out);
	if (!near->cursor)
		rc = mdb_cursor_open(txn->txn, txn->slot->dbi[db], &near->cursor);
	else if (!near->is_placed)
		rc = mdb_cursor_renew(txn->txn, near->cursor);
	near->is_placed = !rc;
	if (!rc)
		rc = mdb_cursor_get(near->cursor, &k, &v, MDB_SET);
	if (rc)
		return db_error(rc);
	*value_out = of_val(v);
	return 0;
}

void db_near_lose(struct store_txn *txn)
{
	for (size_t i = 0; i < DB_COUNT; i++)
		txn->near[i].is_placed = false;
}

void db_near_close(struct store_txn *txn)
{
	for (size_t i = 0; i < DB_COUNT; i++)
		if (txn->near[i].cursor)
			mdb_cursor_close(txn->near[i].cursor);
}

/*
 * LMDB splits a full page so that the last row moves on with the new one: a page that is filled in the order of keys stays with a
 * row less than it has room for, which for large rows is half of it. What comes behind all others is therefore put as such.
 *
 * Of two tables, whose rows can be cut, it is also known how much room their last page has left: a row that comes behind all others
 * takes its part of it, or begins a page, which the number of pages shows.
 */
#define PAGE_ROOM (4096 - 16)
#define NODE_HEAD 8
#define NODE_PLACE 2
#define NODE_MAX ((PAGE_ROOM / 2 & ~1) - NODE_PLACE)

static const struct {
	bool grows_at_end, is_cut;
} tables[DB_COUNT] = {
	[DB_BLOBS] = {true, true},
	[DB_PIECES] = {true, true},
	[DB_MESSAGES] = {true, false},
	[DB_INDEX] = {true, false},
	[DB_QUEUE] = {true, false},
	[DB_QUEUE_TO] = {true, false},
};

size_t db_value_shared_max(size_t key_len)
{
	return NODE_MAX - NODE_HEAD - key_len;
}

/* What a row takes of a leaf page. */
static size_t row_room(size_t key_len, size_t len)
{
	size_t value = len > db_value_shared_max(key_len) ? sizeof(size_t) : len;

	return (NODE_PLACE + NODE_HEAD + key_len + value + 1) & ~(size_t)1;
}

size_t db_room_at_end(struct store_txn *txn, enum db_name db, size_t key_len)
{
	size_t room = txn->slot->ends[db].room, row = row_room(key_len, 0);

	return room > row ? room - row : 0;
}

static void note_end(struct store_txn *txn, enum db_name db, size_t key_len, size_t len)
{
	struct db_end *end = &txn->slot->ends[db];
	size_t row = row_room(key_len, len);
	MDB_stat stat;

	if (mdb_stat(txn->txn, txn->slot->dbi[db], &stat))
		return;
	if (stat.ms_leaf_pages != end->pages)
		end->room = end->pages ? PAGE_ROOM : row;
	end->pages = stat.ms_leaf_pages;
	end->room = end->room > row ? end->room - row : 0;
}

static int put(struct store_txn *txn, enum db_name db, MDB_val *k, MDB_val *v, unsigned flags)
{
	size_t key_len = k->mv_size, len = v->mv_size;
	int rc = MDB_KEYEXIST;

	if (tables[db].grows_at_end)
		rc = mdb_put(txn->txn, txn->slot->dbi[db], k, v, flags | MDB_APPEND);
	if (!rc && tables[db].is_cut)
		note_end(txn, db, key_len, len);
	return rc == MDB_KEYEXIST ? mdb_put(txn->txn, txn->slot->dbi[db], k, v, flags) : rc;
}

int db_put(struct store_txn *txn, enum db_name db, struct slice key, struct slice value)
{
	MDB_val k = to_val(key), v = to_val(value);
	int rc;

	if (txn->error)
		return txn->error;
	txn->writes++;
	rc = put(txn, db, &k, &v, 0);
	return rc ? write_failed(txn, rc) : 0;
}

int db_reserve(struct store_txn *txn, enum db_name db, struct slice key, size_t size, void **room_out)
{
	MDB_val k = to_val(key), v = {size, NULL};
	int rc;

	if (txn->error)
		return txn->error;
	txn->writes++;
	rc = put(txn, db, &k, &v, MDB_RESERVE);
	if (rc)
		return write_failed(txn, rc);
	*room_out = v.mv_data;
	return 0;
}

int db_delete(struct store_txn *txn, enum db_name db, struct slice key)
{
	MDB_val k = to_val(key);
	int rc;

	if (txn->error)
		return txn->error;
	rc = mdb_del(txn->txn, txn->slot->dbi[db], &k, NULL);
	if (rc == MDB_NOTFOUND)
		return ERR_NOT_FOUND;
	txn->writes++;
	return rc ? write_failed(txn, rc) : 0;
}

int db_drop(struct store_txn *txn, enum db_name db, struct slice key)
{
	int err = db_delete(txn, db, key);

	return err == ERR_NOT_FOUND ? 0 : err;
}

int db_count(struct store_txn *txn, enum db_name db, uint64_t *count_out)
{
	MDB_stat stat;
	int rc = mdb_stat(txn->txn, txn->slot->dbi[db], &stat);

	if (rc)
		return db_error(rc);
	*count_out = stat.ms_entries;
	return 0;
}

int db_cursor_open(struct store_txn *txn, enum db_name db, struct db_cursor *c)
{
	int rc;

	*c = (struct db_cursor){.txn = txn};
	rc = mdb_cursor_open(txn->txn, txn->slot->dbi[db], &c->cursor);
	return db_error(rc);
}

void db_cursor_close(struct db_cursor *c)
{
	if (c->cursor)
		mdb_cursor_close(c->cursor);
	c->cursor = NULL;
}

static int cursor_get(struct db_cursor *c, struct slice key, MDB_cursor_op op)
{
	MDB_val k = to_val(key), v = {0, NULL};
	int rc = mdb_cursor_get(c->cursor, &k, &v, op);

	if (rc)
		return db_error(rc);
	c->key = of_val(k);
	c->value = of_val(v);
	return 0;
}

int db_cursor_seek(struct db_cursor *c, struct slice key)
{
	return cursor_get(c, key, MDB_SET_RANGE);
}

int db_cursor_next(struct db_cursor *c)
{
	return cursor_get(c, slice_of(NULL, 0), MDB_NEXT);
}

int db_cursor_floor(struct db_cursor *c, struct slice key)
{
	int err = db_cursor_seek(c, key);

	if (err == ERR_NOT_FOUND)
		return cursor_get(c, slice_of(NULL, 0), MDB_LAST);
	if (err || slice_is_equal(c->key, key))
		return err;
	return cursor_get(c, slice_of(NULL, 0), MDB_PREV);
}

int db_cursor_delete(struct db_cursor *c)
{
	int rc;

	if (c->txn->error)
		return c->txn->error;
	c->txn->writes++;
	rc = mdb_cursor_del(c->cursor, 0);
	return rc ? write_failed(c->txn, rc) : 0;
}

bool db_cursor_has_prefix(const struct db_cursor *c, struct slice prefix)
{
	return c->key.len >= prefix.len && memcmp(c->key.p, prefix.p, prefix.len) == 0;
}

struct db_key db_key_u32(uint32_t a)
{
	struct db_key k = {.len = 4};

	bytes_put_u32be(k.bytes, a);
	return k;
}

struct db_key db_key_u32_u32(uint32_t a, uint32_t b)
{
	struct db_key k = {.len = 8};

	bytes_put_u32be(k.bytes, a);
	bytes_put_u32be(k.bytes + 4, b);
	return k;
}

struct db_key db_key_u64(uint64_t a)
{
	struct db_key k = {.len = 8};

	bytes_put_u64be(k.bytes, a);
	return k;
}

struct db_key db_key_u64_u32(uint64_t a, uint32_t b)
{
	struct db_key k = {.len = 12};

	bytes_put_u64be(k.bytes, a);
	bytes_put_u32be(k.bytes + 8, b);
	return k;
}

struct db_key db_key_u32_u64(uint32_t a, uint64_t b)
{
	struct db_key k = {.len = 12};

	bytes_put_u32be(k.bytes, a);
	bytes_put_u64be(k.bytes + 4, b);
	return k;
}

struct db_key db_key_u32_u64_u32(uint32_t a, uint64_t b, uint32_t c)
{
	struct db_key k = {.len = 16};

	bytes_put_u32be(k.bytes, a);
	bytes_put_u64be(k.bytes + 4, b);
	bytes_put_u32be(k.bytes + 12, c);
	return k;
}

int db_meta_get(struct store_txn *txn, const char *name, uint64_t *value_out)
{
	struct slice value = {0};
	int err = db_get(txn, DB_META, slice_str(name), &value);

	if (err == ERR_NOT_FOUND) {
		*value_out = 0;
		return 0;
	}
	if (err)
		return err;
	if (value.len != 8)
		return ERR_CORRUPT;
	*value_out = bytes_get_u64(value.p);
	return 0;
}

int db_meta_put(struct store_txn *txn, const char *name, uint64_t value)
{
	char bytes[8];

	bytes_put_u64(bytes, value);
	return db_put(txn, DB_META, slice_str(name), slice_of(bytes, sizeof(bytes)));
}

int db_meta_next(struct store_txn *txn, const char *name, uint32_t *value_out)
{
	uint64_t last;
	int err = db_meta_get(txn, name, &last);

	if (err)
		return err;
	if (last >= UINT32_MAX - 1)
		return ERR_TOO_BIG;
	err = db_meta_put(txn, name, last + 1);
	if (err)
		return err;
	*value_out = (uint32_t)(last + 1);
	return 0;
}

static void add_note(struct store_txn *txn, struct store_note note)
{
	struct store_note *last = txn->note_count ? &txn->notes[txn->note_count - 1] : NULL;

	if (last && last->account == note.account && last->mailbox == note.mailbox &&
		last->shared_with == note.shared_with) {
		last->modseq = note.modseq;
		return;
	}
	if (txn->note_count == txn->note_room) {
		txn->note_room = txn->note_room ? txn->note_room * 2 : 16;
		txn->notes = xreallocarray(txn->notes, txn->note_room, sizeof(*txn->notes));
	}
	txn->notes[txn->note_count++] = note;
}

void db_note(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	add_note(txn, (struct store_note){.account = account, .mailbox = mailbox, .modseq = modseq});
}

void db_note_shared(struct store_txn *txn, unsigned slot, uint32_t account)
{
	add_note(txn, (struct store_note){.account = account, .shared_with = slot + 1});
}

void db_effect(struct store_txn *txn, const struct effect *effect, struct slice text)
{
	struct effect *e;

	if (txn->effect_count == txn->effect_room) {
		txn->effect_room = txn->effect_room ? txn->effect_room * 2 : 16;
		txn->effects = xreallocarray(txn->effects, txn->effect_room, sizeof(*txn->effects));
	}
	e = &txn->effects[txn->effect_count++];
	*e = *effect;
	e->text = text.len ? xmemdup0(text.p, text.len) : NULL;
	e->len = text.len;
}
