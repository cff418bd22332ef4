/* Figures of a store, slot by slot, each in one short snapshot. Sums over accounts come from the counters. */
#include "backend/store/db.h"
#include "backend/store/db_slot.h"
#include "backend/store/record.h"
#include "backend/store/store_kept.h"
#include "common/base/clock.h"

#define BLOBS_PER_SNAPSHOT 20000

/* Pages that LMDB may use again: the free list is a database of its own (number 0) with lists of page
 * numbers. */
static int count_free(struct store_txn *txn, uint64_t page, uint64_t *bytes_out)
{
	MDB_cursor *c;
	MDB_val key, value;
	uint64_t pages = 0;
	int rc = mdb_cursor_open(txn->txn, 0, &c);

	if (rc)
		return db_error(rc);
	while ((rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) == 0) {
		size_t n = 0;

		if (value.mv_size >= sizeof(n))
			memcpy(&n, value.mv_data, sizeof(n));
		pages += n;
	}
	mdb_cursor_close(c);
	if (rc != MDB_NOTFOUND)
		return db_error(rc);
	*bytes_out += pages * page;
	return 0;
}

/* One row of sums an account (store_kept.h): jumps from account to account. */
static int sum_kept(struct store_txn *txn, struct store_stat *s)
{
	struct db_cursor c;
	uint32_t account = 0;
	int err = db_cursor_open(txn, DB_KEPT, &c);

	while (!err) {
		struct db_key from = db_key_u32(account);
		struct store_kept_sum sum;

		err = db_cursor_seek(&c, db_key_view(&from));
		if (err)
			break;
		account = bytes_get_u32be(c.key.p);
		err = store_kept_sum(txn, account++, &sum);
		s->kept += err ? 0 : sum.messages;
		s->kept_bytes += err ? 0 : sum.bytes;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int sum_accounts(struct store_txn *txn, struct store_stat *s)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_STATE, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, slice_of("", 1));
	for (; !err; err = db_cursor_next(&c)) {
		struct account_state a;

		if (c.key.len != 8 || bytes_get_u32be(c.key.p + 4) != 0) {
			s->mailboxes++;
			continue;
		}
		err = state_get_account(txn, bytes_get_u32be(c.key.p), &a);
		if (err)
			break;
		s->messages += a.count;
		s->message_bytes += a.bytes;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* From *from on, at most BLOBS_PER_SNAPSHOT; *from is the next one, 0 at the end. */
static int sum_blobs(struct store_txn *txn, uint64_t *from, struct store_stat *s)
{
	struct db_key key = db_key_u64(*from);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_BLOBS, &c);

	if (err)
		return err;
	*from = 0;
	err = db_cursor_seek(&c, db_key_view(&key));
	for (size_t n = 0; !err; err = db_cursor_next(&c)) {
		struct blob_record r;

		if (c.key.len != 8) {
			err = ERR_CORRUPT;
			break;
		}
		if (n++ == BLOBS_PER_SNAPSHOT) {
			*from = bytes_get_u64be(c.key.p);
			break;
		}
		err = record_unpack_blob(c.value, &r);
		if (err)
			break;
		s->blobs++;
		s->blob_bytes += r.size;
		s->stored_bytes += r.stored;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int sum_all_blobs(struct store *store, unsigned slot, struct store_stat *s)
{
	uint64_t from = 0;
	int err;

	do {
		struct store_txn *txn;

		err = store_begin_read(store, slot, &txn);
		if (err)
			return err;
		err = sum_blobs(txn, &from, s);
		store_end_read(&txn);
	} while (!err && from);
	return err;
}

static void sum_readers(struct db_slot *slot, uint64_t *readers, uint64_t *oldest)
{
	MDB_envinfo info;

	mdb_env_info(slot->env, &info);
	pthread_mutex_lock(&slot->lock);
	list_for_each (at, &slot->active) {
		struct store_txn *t = container_of(at, struct store_txn, link);
		uint64_t began = t->txn_id ? t->txn_id : info.me_last_txnid;

		++*readers;
		if (info.me_last_txnid > began && info.me_last_txnid - began > *oldest)
			*oldest = info.me_last_txnid - began;
	}
	pthread_mutex_unlock(&slot->lock);
}

/* Pages that were freed at transaction `since` or later; a reader of then may still look at them. */
static int count_held(struct store_txn *txn, size_t since, uint64_t page, uint64_t *bytes_out)
{
	MDB_cursor *c;
	MDB_val key = {sizeof(since), &since}, value;
	uint64_t pages = 0;
	int rc = mdb_cursor_open(txn->txn, 0, &c);

	if (rc)
		return db_error(rc);
	for (rc = mdb_cursor_get(c, &key, &value, MDB_SET_RANGE); rc == 0;
		rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) {
		size_t n = 0;

		if (value.mv_size >= sizeof(n))
			memcpy(&n, value.mv_data, sizeof(n));
		pages += n;
	}
	mdb_cursor_close(c);
	*bytes_out = pages * page;
	return rc == MDB_NOTFOUND ? 0 : db_error(rc);
}

int store_oldest_reader(struct store *store, unsigned number, bool with_pages, struct store_reader *out)
{
	struct db_slot *slot = &store->slots[number];
	struct store_reader r = {.name = "", .slot = number};
	uint64_t now = clock_mono_ms(), began_ms = UINT64_MAX;
	size_t began = 0;
	struct store_txn *txn;
	MDB_envinfo info;
	MDB_stat stat;
	int err;

	mdb_env_info(slot->env, &info);
	mdb_env_stat(slot->env, &stat);
	pthread_mutex_lock(&slot->lock);
	list_for_each (at, &slot->active) {
		struct store_txn *t = container_of(at, struct store_txn, link);

		if (!t->txn_id || t->began_ms >= began_ms)
			continue;
		began_ms = t->began_ms;
		began = t->txn_id;
		r.name = t->name;
	}
	pthread_mutex_unlock(&slot->lock);
	if (began) {
		r.age_ms = now > began_ms ? now - began_ms : 0;
		r.commits = info.me_last_txnid > began ? info.me_last_txnid - began : 0;
	}
	if (began && with_pages && r.commits) {
		err = store_begin_read(store, number, &txn);
		if (err)
			return err;
		store_txn_set_name(txn, "watchdog");
		err = count_held(txn, began, stat.ms_psize, &r.held_bytes);
		store_end_read(&txn);
		if (err)
			return err;
	}
	*out = r;
	return 0;
}

/* For the compaction: see store_compact.c. */
int db_slot_pages(struct store *store, unsigned number, uint64_t *used_out, uint64_t *free_out)
{
	struct db_slot *slot = &store->slots[number];
	struct store_txn *txn;
	MDB_envinfo info;
	MDB_stat stat;
	int err = store_begin_read(store, number, &txn);

	if (err)
		return err;
	mdb_env_info(slot->env, &info);
	mdb_env_stat(slot->env, &stat);
	*used_out = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
	*free_out = 0;
	err = count_free(txn, stat.ms_psize, free_out);
	store_end_read(&txn);
	return err;
}

static int add_slot(struct store *store, unsigned number, struct store_stat *s)
{
	struct db_slot *slot = &store->slots[number];
	struct store_txn *txn;
	MDB_envinfo info;
	MDB_stat stat;
	uint64_t n;
	int err;

	struct store_reader oldest;

	sum_readers(slot, &s->readers, &s->oldest_reader);
	err = store_oldest_reader(store, number, true, &oldest);
	if (err)
		return err;
	if (oldest.age_ms >= s->oldest.age_ms)
		s->oldest = oldest;
	err = store_begin_read(store, number, &txn);
	if (err)
		return err;
	mdb_env_info(slot->env, &info);
	mdb_env_stat(slot->env, &stat);
	s->map_size += info.me_mapsize;
	s->used_bytes += ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
	err = count_free(txn, stat.ms_psize, &s->free_bytes);
	if (!err)
		err = sum_accounts(txn, s);
	if (!err)
		err = db_count(txn, DB_ORPHANS, &n);
	if (!err) {
		s->orphans += n;
		err = db_count(txn, DB_EXPUNGED, &n);
	}
	if (!err) {
		s->expunged += n;
		err = db_count(txn, DB_INTENTS, &n);
	}
	if (!err) {
		s->intents += n;
		err = sum_kept(txn, s);
	}
	store_end_read(&txn);
	return err ? err : sum_all_blobs(store, number, s);
}

void store_readers(struct store *store, uint64_t *readers_out, uint64_t *oldest_out)
{
	*readers_out = *oldest_out = 0;
	for (unsigned i = 0; i < store->slot_count; i++)
		sum_readers(&store->slots[i], readers_out, oldest_out);
}

int store_stat(struct store *store, struct store_stat *stat_out)
{
	struct store_stat s = {.slots = store->slot_count, .version = STORE_VERSION};
	int err = 0;

	for (unsigned i = 0; i < store->slot_count && !err; i++)
		err = add_slot(store, i, &s);
	s.accounts = store_count_accounts(store);
	if (!err)
		*stat_out = s;
	return err;
}
