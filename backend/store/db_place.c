/*
 * Where the pages of a commit lie. LMDB never writes a page where it lies: what changes goes to free pages, those that were freed first. In a store that
 * grows, few pages are free, from all over the file, and so a commit's pages lie apart; a disk takes each of them by itself.
 *
 * Here pages that become free rest until those of the turn before are used up: a read transaction keeps them that nobody reads with. Then a value of
 * RUN pages, put and removed, makes LMDB read its whole list of free pages, and adds RUN new ones. It uses them from the lowest to the highest, so that
 * pages of one commit are neighbours. docs/decisions/disk.md has the figures.
 *
 *	turn   |free pages of the last turn, in order     |RUN new ones|
 *	        commit commit commit commit …                           the file grew: next turn
 *
 * With many free pages, or hardly room, LMDB does it alone: FREE_MOST bounds what rests, and the file's growth by it.
 */
#include <string.h>
#include <sys/statvfs.h>

#include "backend/store/db.h"
#include "backend/store/db_slot.h"
#include "common/base/clock.h"

#define RUN 32
/* What LMDB puts before a value of several pages. */
#define PAGE_HEAD 16
#define FREE_MOST 2048
/* Once there were too many, no turn begins until half of them are used. */
#define FREE_AGAIN (FREE_MOST / 2)
#define RECORDS_MOST 300
#define LIST_PAGES_MOST 32
/* While LMDB does it alone: commits until the next look. */
#define LOOK_EVERY 64
/* A turn of fewer commits was one of bulk, which makes the file longer anyway and needs no order. */
#define TURN_LEAST 2
#define FULL_REST_MS 60000
#define DISK_LEAST (UINT64_C(64) << 20)

static bool has_room(const struct db_slot *slot, const MDB_envinfo *info, size_t page)
{
	struct statvfs fs;

	return info->me_mapsize / page > info->me_last_pgno + 4 * FREE_MOST &&
	       statvfs(slot->store->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize > DISK_LEAST;
}

/* At most `most` pages, in a list that is read at one go? */
static bool are_few(MDB_txn *txn, const MDB_stat *list, size_t most)
{
	MDB_cursor *c;
	MDB_val key, value;
	size_t sum = 0;

	if (list->ms_entries > RECORDS_MOST ||
		list->ms_leaf_pages + list->ms_overflow_pages > LIST_PAGES_MOST ||
		mdb_cursor_open(txn, 0, &c))
		return false;
	while (sum <= most && mdb_cursor_get(c, &key, &value, MDB_NEXT) == 0) {
		size_t n = 0;

		if (value.mv_size >= sizeof(n))
			memcpy(&n, value.mv_data, sizeof(n));
		sum += n;
	}
	mdb_cursor_close(c);
	return sum <= most;
}

/* Keeps what is freed from now on. */
static bool keep(struct db_slot *slot)
{
	int rc;

	if (!slot->place.keeper)
		return mdb_txn_begin(slot->env, NULL, MDB_RDONLY, &slot->place.keeper) == 0;
	mdb_txn_reset(slot->place.keeper);
	rc = mdb_txn_renew(slot->place.keeper);
	if (rc) {
		mdb_txn_abort(slot->place.keeper);
		slot->place.keeper = NULL;
	}
	return rc == 0;
}

static void let_go(struct db_slot *slot)
{
	if (slot->place.keeper)
		mdb_txn_reset(slot->place.keeper);
	slot->place.has_turn = false;
}

static bool begin_turn(struct db_slot *slot, MDB_txn *txn, const MDB_envinfo *info)
{
	size_t most = slot->place.was_many ? FREE_AGAIN : FREE_MOST;
	bool is_bulk = slot->place.has_turn && slot->place.commits < TURN_LEAST;
	MDB_stat list;

	slot->place.has_turn = false;
	slot->place.commits = 0;
	slot->place.end = info->me_last_pgno + RUN;
	if (is_bulk) {
		let_go(slot);
		slot->place.end = UINT64_MAX;
		return false;
	}
	if (clock_mono_ms() < slot->place.rest_until_ms || mdb_stat(txn, 0, &list) ||
		!has_room(slot, info, list.ms_psize) || !keep(slot)) {
		let_go(slot);
		return false;
	}
	slot->place.was_many = !are_few(slot->place.keeper, &list, most);
	if (slot->place.was_many)
		let_go(slot);
	else
		slot->place.has_turn = true;
	return slot->place.has_turn;
}

int db_place(struct db_slot *slot, MDB_txn *txn)
{
	MDB_val key = {1, (void *)(uintptr_t) "~"}, value = {0, NULL};
	MDB_envinfo info;
	MDB_stat stat;
	int rc;

	mdb_env_info(slot->env, &info);
	slot->place.commits++;
	if (info.me_last_pgno <= slot->place.end &&
		(slot->place.has_turn || slot->place.commits < LOOK_EVERY))
		return 0;
	if (!begin_turn(slot, txn, &info))
		return 0;
	mdb_env_stat(slot->env, &stat);
	value.mv_size = (size_t)RUN * stat.ms_psize - PAGE_HEAD;
	rc = mdb_put(txn, slot->dbi[DB_META], &key, &value, MDB_RESERVE);
	if (!rc)
		rc = mdb_del(txn, slot->dbi[DB_META], &key, NULL);
	if (rc)
		db_place_rest(slot);
	return rc;
}

void db_place_rest(struct db_slot *slot)
{
	let_go(slot);
	slot->place.rest_until_ms = clock_mono_ms() + FULL_REST_MS;
}

void db_place_end(struct db_slot *slot)
{
	if (slot->place.keeper)
		mdb_txn_abort(slot->place.keeper);
	slot->place = (struct db_place){0};
}
