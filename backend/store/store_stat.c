/* Figures of a store, slot by slot, each in one short snapshot. Sums over accounts come from the counters. */
#include "backend/store/db.h"
#include "backend/store/record.h"

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

static int sum_blobs(struct store_txn *txn, struct store_stat *s)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_BLOBS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, slice_of("", 1));
	for (; !err; err = db_cursor_next(&c)) {
		struct blob_record r;

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

static void sum_readers(struct db_slot *slot, struct store_stat *s)
{
	MDB_envinfo info;

	mdb_env_info(slot->env, &info);
	pthread_mutex_lock(&slot->lock);
	list_for_each (at, &slot->active) {
		struct store_txn *t = container_of(at, struct store_txn, link);
		uint64_t began = t->txn_id ? t->txn_id : info.me_last_txnid;

		s->readers++;
		if (info.me_last_txnid > began && info.me_last_txnid - began > s->oldest_reader)
			s->oldest_reader = info.me_last_txnid - began;
	}
	pthread_mutex_unlock(&slot->lock);
}

static int add_slot(struct store *store, unsigned number, struct store_stat *s)
{
	struct db_slot *slot = &store->slots[number];
	struct store_txn *txn;
	MDB_envinfo info;
	MDB_stat stat;
	uint64_t n;
	int err;

	sum_readers(slot, s);
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
		err = sum_blobs(txn, s);
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
	if (!err)
		s->intents += n;
	store_end_read(&txn);
	return err;
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
