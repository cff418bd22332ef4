/*
 * Private: what slots and transactions tell each other.
 */
#pragma once

#include "backend/store/db.h"

/* Frees the struct and what it owns, not LMDB's transaction. */
void db_txn_free(struct store_txn *txn);
/* Between write transactions: makes the map larger when it is three quarters full or was too small. */
void db_slot_grow(struct db_slot *slot);
/*
 * At the beginning of a write transaction: sees to it that the pages of a commit lie together (db_place.c). What it returns is LMDB's error: the
 * transaction is to be aborted, and can be begun again without.
 */
MUST_CHECK int db_place(struct db_slot *slot, MDB_txn *txn);
/* The disk or the map is full: free pages are LMDB's alone for a minute. */
void db_place_rest(struct db_slot *slot);
/* Lets go what was kept. */
void db_place_end(struct db_slot *slot);
/* Bytes of the file that hold pages, and of these that are free. */
MUST_CHECK int db_slot_pages(struct store *store, unsigned slot, uint64_t *used_out, uint64_t *free_out);
/* LMDB's name of a database. */
const char *db_slot_db_name(enum db_name db);
/* Removes what a compaction that was cut off left beside a slot. */
void db_remove_copy(const char *dir, unsigned slot);
/* Frees what blob reads keep (NULL is fine). */
void db_frame_cache_free(struct db_frame_cache **cache);
/* At commit: blobs that were finished and got no reference become orphans. */
MUST_CHECK int db_orphan_fresh(struct store_txn *txn);
/* At open: removes what a crash left half-written. */
MUST_CHECK int db_remove_pending(struct store *store, unsigned slot);
