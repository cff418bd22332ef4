/*
 * Transactions. A write transaction holds LMDB's own writer lock; its effects on the memory (name table) are
 * kept aside and applied after the commit. Read transactions are reset and renewed, so that beginning one
 * costs no lock of LMDB.
 */
#include <stdlib.h>

#include "backend/store/db.h"
#include "backend/store/db_slot.h"
#include "backend/store/names.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/mem.h"

static void forget(struct store_txn *t, size_t effects, size_t notes, size_t fresh)
{
	while (t->effect_count > effects)
		free(t->effects[--t->effect_count].text);
	t->note_count = notes < t->note_count ? notes : t->note_count;
	t->fresh_count = fresh < t->fresh_count ? fresh : t->fresh_count;
}

void db_txn_free(struct store_txn *t)
{
	forget(t, 0, 0, 0);
	free(t->effects);
	free(t->notes);
	free(t->fresh);
	db_frame_cache_free(&t->cache);
	db_near_close(t);
	free(t);
}

/* ---- writing ---- */

static int begin(struct db_slot *slot, MDB_txn **txn_out)
{
	int rc = mdb_txn_begin(slot->env, NULL, 0, txn_out);

	if (rc || !db_place(slot, *txn_out))
		return rc;
	mdb_txn_abort(*txn_out);
	return mdb_txn_begin(slot->env, NULL, 0, txn_out);
}

int store_begin_write(struct store *store, unsigned number, struct store_txn **txn_out)
{
	struct db_slot *slot;
	struct store_txn *t;
	int rc;

	if (number >= store->slot_count)
		return ERR_NOT_FOUND;
	slot = &store->slots[number];
	if (slot->is_broken)
		return ERR_NOT_NOW;
	t = xcalloc(1, sizeof(*t));
	t->slot = slot;
	t->is_write = true;
	list_init(&t->link);
	pthread_mutex_lock(&slot->write_lock);
	db_slot_grow(slot);
	rc = begin(slot, &t->txn);
	if (rc) {
		pthread_mutex_unlock(&slot->write_lock);
		if (rc == MDB_PANIC)
			slot->is_broken = true;
		log_error("store", "cannot begin slot=%u: %s", number, mdb_strerror(rc));
		db_txn_free(t);
		return rc == MDB_PANIC ? ERR_NOT_NOW : db_error(rc);
	}
	*txn_out = t;
	return 0;
}

static void end_write(struct store_txn *t)
{
	pthread_mutex_unlock(&t->slot->write_lock);
	db_txn_free(t);
}

void store_abort(struct store_txn **txn)
{
	struct store_txn *t = *txn;

	if (!t)
		return;
	mdb_txn_abort(t->txn);
	end_write(t);
	*txn = NULL;
}

/* The commit itself. What it may do to the environment is kept in the slot. */
static int commit(struct store_txn *t)
{
	struct db_slot *slot = t->slot;
	int rc;

	FAULT("store-before-commit");
	rc = mdb_txn_commit(t->txn);
	if (rc == 0) {
		FAULT("store-after-commit");
		return 0;
	}
	db_complain(slot, "commit", rc);
	return db_write_error(slot, rc);
}

int store_commit(struct store_txn **txn)
{
	struct store_txn *t = *txn;
	int err = db_orphan_fresh(t);

	if (t->error || err) {
		err = t->error ? t->error : err;
		store_abort(txn);
		return err;
	}
	err = commit(t);
	if (!err)
		names_apply(t->slot->store->names, t->slot, t->effects, t->effect_count);
	end_write(t);
	*txn = NULL;
	return err;
}

int store_txn_try(struct store_txn *t, int (*fn)(struct store_txn *txn, void *arg), void *arg)
{
	MDB_txn *parent = t->txn;
	size_t effects = t->effect_count, notes = t->note_count, fresh = t->fresh_count;
	bool waste = t->has_waste;
	int rc, err;

	if (t->error)
		return t->error;
	rc = mdb_txn_begin(t->slot->env, parent, 0, &t->txn);
	if (rc) {
		t->txn = parent;
		return db_fail(t, db_error(rc));
	}
	err = fn(t, arg);
	if (err >= 0 && !t->error) {
		rc = mdb_txn_commit(t->txn);
		t->txn = parent;
		return rc ? db_fail(t, db_write_error(t->slot, rc)) : err;
	}
	mdb_txn_abort(t->txn);
	t->txn = parent;
	if (err >= 0)
		err = t->error;
	t->error = 0;
	t->has_waste = waste;
	forget(t, effects, notes, fresh);
	return err;
}

/* ---- reading ---- */

/* Takes a reader out of the idle list, or makes one. */
static struct store_txn *take_reader(struct db_slot *slot)
{
	struct store_txn *t;

	pthread_mutex_lock(&slot->lock);
	while (slot->growing)
		pthread_cond_wait(&slot->calm, &slot->lock);
	if (list_is_empty(&slot->idle)) {
		t = xcalloc(1, sizeof(*t));
		t->slot = slot;
		list_init(&t->link);
	} else {
		t = container_of(slot->idle.next, struct store_txn, link);
		list_remove(&t->link);
	}
	list_add_last(&slot->active, &t->link);
	slot->active_count++;
	t->txn_id = 0;
	t->name = "";
	t->began_ms = clock_mono_ms();
	pthread_mutex_unlock(&slot->lock);
	return t;
}

static void put_reader(struct store_txn *t, bool keep)
{
	struct db_slot *slot = t->slot;

	pthread_mutex_lock(&slot->lock);
	list_remove(&t->link);
	if (keep)
		list_add_first(&slot->idle, &t->link);
	if (--slot->active_count == 0)
		pthread_cond_broadcast(&slot->calm);
	pthread_mutex_unlock(&slot->lock);
	if (!keep)
		db_txn_free(t);
}

int store_begin_read(struct store *store, unsigned number, struct store_txn **txn_out)
{
	struct store_txn *t;
	int rc;

	if (number >= store->slot_count)
		return ERR_NOT_FOUND;
	t = take_reader(&store->slots[number]);
	rc = t->txn ? mdb_txn_renew(t->txn) : mdb_txn_begin(t->slot->env, NULL, MDB_RDONLY, &t->txn);
	if (rc) {
		if (t->txn)
			mdb_txn_abort(t->txn);
		put_reader(t, false);
		return db_error(rc);
	}
	db_near_lose(t);
	t->txn_id = mdb_txn_id(t->txn);
	*txn_out = t;
	return 0;
}

void store_end_read(struct store_txn **txn)
{
	struct store_txn *t = *txn;

	if (!t)
		return;
	mdb_txn_reset(t->txn);
	t->error = 0;
	put_reader(t, true);
	*txn = NULL;
}

/* ---- questions ---- */

void store_txn_set_name(struct store_txn *txn, const char *name)
{
	txn->name = name;
}

int store_txn_error(const struct store_txn *txn)
{
	return txn->error;
}

uint64_t store_txn_writes(const struct store_txn *txn)
{
	return txn->writes;
}

unsigned store_txn_slot(const struct store_txn *txn)
{
	return txn->slot->number;
}

bool store_txn_has_waste(const struct store_txn *txn)
{
	return txn->has_waste;
}

const struct store_note *store_txn_notes(const struct store_txn *txn, size_t *count_out)
{
	*count_out = txn->note_count;
	return txn->notes;
}
