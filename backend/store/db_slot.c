/*
 * One slot: an LMDB environment in its own folder, with LMDB's own sync at every commit (none of NOSYNC,
 * NOMETASYNC, WRITEMAP, MAPASYNC), read transactions free of threads (MDB_NOTLS) and renewed instead of made
 * anew.
 *
 * Growing needs a moment without read transactions: db_slot_grow() holds new ones back and waits for those
 * that run.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "backend/store/db.h"
#include "backend/store/db_slot.h"
#include "backend/store/db_text.h"
#include "common/base/clock.h"
#include "common/base/log.h"

#define MAP_SIZE_DEFAULT (UINT64_C(64) << 30)
#define READERS_DEFAULT 126
#define GROW_WAIT_MS 500

static const char *const db_names[DB_COUNT] = {
	[DB_META] = "meta",
	[DB_ACCOUNTS] = "accounts",
	[DB_NAMES] = "names",
	[DB_STATE] = "state",
	[DB_FOLDERS] = "folders",
	[DB_FOLDER_NAMES] = "folder_names",
	[DB_INDEX] = "index",
	[DB_MESSAGES] = "messages",
	[DB_EXPUNGED] = "expunged",
	[DB_KEPT] = "kept",
	[DB_BLOBS] = "blobs",
	[DB_PIECES] = "pieces",
	[DB_ORPHANS] = "orphans",
	[DB_COPIES] = "copies",
	[DB_CHANGES] = "changes",
	[DB_MARKS] = "marks",
	[DB_MARK_TIMES] = "mark_times",
	[DB_INTENTS] = "intents",
	[DB_QUOTA] = "quota",
	[DB_QUOTA_WARNED] = "quota_warned",
	[DB_METADATA] = "metadata",
	[DB_DOMAINS] = "domains",
	[DB_CLASSES] = "classes",
	[DB_ACL] = "acl",
	[DB_SHARED] = "shared",
	[DB_SEEN] = "seen",
	[DB_QUEUE] = "queue",
	[DB_QUEUE_TO] = "queue_to",
	[DB_QUEUE_DUE] = "queue_due",
	[DB_QUEUE_OF] = "queue_of",
	[DB_GREYLIST] = "greylist",
	[DB_GREYLIST_TIMES] = "greylist_times",
};

const char *db_slot_db_name(enum db_name db)
{
	return db_names[db];
}

static int sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return error_from_errno(errno);
	if (fsync(fd) < 0)
		err = error_from_errno(errno);
	close(fd);
	return err;
}

static int make_env(struct db_slot *slot, const char *path, const struct store_options *o, struct buf *why)
{
	int rc = mdb_env_create(&slot->env);

	if (rc)
		return db_error(rc);
	rc = mdb_env_set_maxdbs(slot->env, DB_COUNT);
	if (!rc)
		rc = mdb_env_set_maxreaders(slot->env, o->readers_max ? o->readers_max : READERS_DEFAULT);
	if (!rc)
		rc = mdb_env_set_mapsize(slot->env, o->map_size ? o->map_size : MAP_SIZE_DEFAULT);
	if (!rc)
		rc = mdb_env_open(slot->env, path, MDB_NOTLS, 0600);
	if (rc && why)
		buf_printf(why, "cannot open %s: %s", path, mdb_strerror(rc));
	return rc == ENOENT ? ERR_CORRUPT : db_error(rc);
}

/* Tells this slot from all others, so that a backup knows whose numbers of blobs are meant. */
static int make_identity(struct store_txn *txn)
{
	uint64_t identity;
	int err = db_meta_get(txn, "identity", &identity);

	while (!err && !identity)
		if (getrandom(&identity, sizeof(identity), 0) != sizeof(identity))
			identity = 0;
		else if (identity)
			return db_meta_put(txn, "identity", identity);
	return err;
}

/* Opens the databases, and writes or checks the version. */
static int open_dbs(struct db_slot *slot, struct buf *why)
{
	MDB_txn *mdb;
	struct store_txn txn = {.slot = slot, .is_write = true};
	uint64_t version, number;
	int rc = mdb_txn_begin(slot->env, NULL, 0, &mdb);
	int err = 0;

	if (rc)
		return db_error(rc);
	txn.txn = mdb;
	for (int i = 0; i < DB_COUNT && !rc; i++)
		rc = mdb_dbi_open(mdb, db_names[i], MDB_CREATE, &slot->dbi[i]);
	err = db_error(rc);
	if (!err)
		err = db_meta_get(&txn, "version", &version);
	if (!err)
		err = db_meta_get(&txn, "slot", &number);
	if (!err && version == 0) {
		err = db_meta_put(&txn, "version", STORE_VERSION);
		if (!err)
			err = db_meta_put(&txn, "slot", slot->number);
	} else if (!err && version >= STORE_VERSION_OLDEST && version < STORE_VERSION &&
		   number == slot->number) {
		err = db_meta_put(&txn, "version", STORE_VERSION);
	} else if (!err && (version != STORE_VERSION || number != slot->number)) {
		if (why)
			buf_printf(why,
				"slot %u has version %llu, slot number %llu; this program reads version %d",
				slot->number, (unsigned long long)version, (unsigned long long)number,
				STORE_VERSION);
		err = ERR_UNSUPPORTED;
	}
	if (!err)
		err = make_identity(&txn);
	if (!err)
		err = db_meta_get(&txn, "next_blob", &slot->next_blob);
	if (err) {
		mdb_txn_abort(mdb);
		return err;
	}
	if (slot->next_blob == 0)
		slot->next_blob = 1;
	return db_error(mdb_txn_commit(mdb));
}

int db_slot_open(struct store *store, unsigned number, const struct store_options *options, struct buf *why)
{
	struct db_slot *slot = &store->slots[number];
	struct buf path = {0};
	int err = 0;

	slot->store = store;
	slot->number = number;
	pthread_mutex_init(&slot->lock, NULL);
	pthread_mutex_init(&slot->write_lock, NULL);
	pthread_cond_init(&slot->calm, NULL);
	list_init(&slot->idle);
	list_init(&slot->active);
	db_remove_copy(store->dir, number);
	buf_printf(&path, "%s/s%u", store->dir, number);
	if (mkdir(buf_str_view(&path), 0700) < 0 && errno != EEXIST)
		err = error_from_errno(errno);
	if (!err)
		err = make_env(slot, buf_str_view(&path), options, why);
	if (!err)
		err = open_dbs(slot, why);
	if (!err)
		err = sync_dir(buf_str_view(&path));
	if (!err)
		err = sync_dir(store->dir);
	if (!err)
		db_text_open(slot, options);
	buf_deinit(&path);
	return err;
}

void db_slot_close(struct db_slot *slot)
{
	if (!slot->store)
		return;
	while (!list_is_empty(&slot->idle)) {
		struct store_txn *t = container_of(slot->idle.next, struct store_txn, link);

		list_remove(&t->link);
		mdb_txn_abort(t->txn);
		db_txn_free(t);
	}
	require(list_is_empty(&slot->active));
	db_text_close(slot);
	db_place_end(slot);
	if (slot->env)
		mdb_env_close(slot->env);
	slot->env = NULL;
	pthread_mutex_destroy(&slot->lock);
	pthread_mutex_destroy(&slot->write_lock);
	pthread_cond_destroy(&slot->calm);
	slot->store = NULL;
}

/* ---- growing ---- */

static bool file_system_allows(const struct db_slot *slot, uint64_t size)
{
	struct statvfs fs;

	if (statvfs(slot->store->dir, &fs) < 0)
		return false;
	return size / 2 <= (uint64_t)fs.f_blocks * fs.f_frsize;
}

/* Waits until no read transaction is open; false when they take too long. `lock` is held. */
static bool wait_for_readers(struct db_slot *slot)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += GROW_WAIT_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	while (slot->active_count > 0)
		if (pthread_cond_timedwait(&slot->calm, &slot->lock, &until) == ETIMEDOUT)
			return slot->active_count == 0;
	return true;
}

void db_slot_grow(struct db_slot *slot)
{
	MDB_envinfo info;
	MDB_stat stat;
	uint64_t used, size;
	int rc = 0;

	mdb_env_info(slot->env, &info);
	mdb_env_stat(slot->env, &stat);
	used = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
	size = info.me_mapsize * 2;
	if (!slot->want_grow && used < info.me_mapsize / 4 * 3)
		return;
	slot->want_grow = false;
	if (used < info.me_mapsize / 2 || !file_system_allows(slot, size))
		return;
	db_place_end(slot);
	pthread_mutex_lock(&slot->lock);
	slot->growing = true;
	if (wait_for_readers(slot))
		rc = mdb_env_set_mapsize(slot->env, size);
	slot->growing = false;
	pthread_cond_broadcast(&slot->calm);
	pthread_mutex_unlock(&slot->lock);
	if (rc)
		log_error("store", "cannot grow the map of slot %u to %llu bytes: %s", slot->number,
			(unsigned long long)size, mdb_strerror(rc));
	else
		log_info("store", "map of slot %u grown bytes=%llu", slot->number, (unsigned long long)size);
}
