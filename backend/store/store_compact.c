/*
 *	DIR/s0/data.mdb          the slot
 *	DIR/s0.new/data.mdb      its copy, until it is renamed; left by a crash, it is removed at the next start
 */
#include "backend/store/store_compact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backend/store/db.h"
#include "backend/store/db_slot.h"
#include "common/base/fault.h"

struct compact {
	struct store *store;
	unsigned slot;
	struct buf old_path, new_dir, new_path;
	struct store_compacted result;
	struct buf *why;
};

static int say(struct compact *c, const char *what, int err, const char *words)
{
	buf_printf(c->why, "slot %u: %s: %s", c->slot, what, words);
	return err;
}

static int say_errno(struct compact *c, const char *what)
{
	int err = error_from_errno(errno);

	return say(c, what, err, strerror(errno));
}

static int say_rc(struct compact *c, const char *what, int rc)
{
	return say(c, what, db_error(rc), mdb_strerror(rc));
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void db_remove_copy(const char *dir, unsigned slot)
{
	static const char *const files[] = {"/data.mdb", "/lock.mdb", ""};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct buf path = {0};

		buf_printf(&path, "%s/s%u.new%s", dir, slot, files[i]);
		(void)remove(buf_str_view(&path));
		buf_deinit(&path);
	}
}

/* ---- the copy is what the original is ---- */

static int compare_rows(struct compact *c, MDB_cursor *a, MDB_cursor *b)
{
	MDB_val ka, va, kb, vb;
	MDB_cursor_op op = MDB_FIRST;

	for (;; op = MDB_NEXT) {
		int ra = mdb_cursor_get(a, &ka, &va, op), rb = mdb_cursor_get(b, &kb, &vb, op);

		if (ra == MDB_NOTFOUND && rb == MDB_NOTFOUND)
			return 0;
		if (ra || rb)
			return say_rc(c, "the copy cannot be compared",
				ra && ra != MDB_NOTFOUND   ? ra
				: rb && rb != MDB_NOTFOUND ? rb
							   : MDB_CORRUPTED);
		if (ka.mv_size != kb.mv_size || va.mv_size != vb.mv_size ||
			memcmp(ka.mv_data, kb.mv_data, ka.mv_size) != 0 ||
			memcmp(va.mv_data, vb.mv_data, va.mv_size) != 0)
			return say(c, "the copy", ERR_CORRUPT, "is not what was copied");
	}
}

static int compare_db(struct compact *c, MDB_txn *original, MDB_txn *copy, enum db_name db)
{
	MDB_cursor *a = NULL, *b = NULL;
	MDB_dbi dbi;
	int rc = mdb_dbi_open(copy, db_slot_db_name(db), 0, &dbi), err = 0;

	if (!rc)
		rc = mdb_cursor_open(original, c->store->slots[c->slot].dbi[db], &a);
	if (!rc)
		rc = mdb_cursor_open(copy, dbi, &b);
	err = rc ? say_rc(c, "the copy cannot be read", rc) : compare_rows(c, a, b);
	if (a)
		mdb_cursor_close(a);
	if (b)
		mdb_cursor_close(b);
	return err;
}

static int compare_all(struct compact *c, MDB_env *env)
{
	struct store_txn *txn;
	MDB_txn *copy;
	int rc, err = store_begin_read(c->store, c->slot, &txn);

	if (err)
		return err;
	rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &copy);
	if (rc) {
		err = say_rc(c, "the copy cannot be read", rc);
	} else {
		for (int i = 0; i < DB_COUNT && !err; i++)
			err = compare_db(c, txn->txn, copy, (enum db_name)i);
		mdb_txn_abort(copy);
	}
	store_end_read(&txn);
	return err;
}

static int verify(struct compact *c)
{
	MDB_env *env;
	MDB_envinfo info;
	int rc = mdb_env_create(&env), err;

	if (rc)
		return db_error(rc);
	mdb_env_info(c->store->slots[c->slot].env, &info);
	rc = mdb_env_set_maxdbs(env, DB_COUNT);
	if (!rc)
		rc = mdb_env_set_mapsize(env, info.me_mapsize);
	if (!rc)
		rc = mdb_env_open(env, buf_str_view(&c->new_dir), MDB_RDONLY | MDB_NOTLS, 0600);
	err = rc ? say_rc(c, "the copy cannot be opened", rc) : compare_all(c, env);
	mdb_env_close(env);
	return err;
}

/* ---- making it, and putting it in place ---- */

static int has_room(struct compact *c)
{
	struct statvfs fs;
	uint64_t used = 0, free_bytes = 0;
	int err = db_slot_pages(c->store, c->slot, &used, &free_bytes);

	if (err)
		return err;
	if (statvfs(c->store->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < used - free_bytes)
		return say(c, "there is no room for the copy", ERR_FULL,
			"it stands beside the original for a while");
	return 0;
}

static int copy(struct compact *c)
{
	int rc;

	if (mkdir(buf_str_view(&c->new_dir), 0700) < 0)
		return say_errno(c, "cannot make the folder of the copy");
	rc = mdb_env_copy2(c->store->slots[c->slot].env, buf_str_view(&c->new_dir), MDB_CP_COMPACT);
	return rc ? say_rc(c, "cannot copy", rc) : 0;
}

static int sync_path(struct compact *c, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC), err = 0;

	if (fd < 0 || fsync(fd) < 0)
		err = say_errno(c, path);
	if (fd >= 0)
		close(fd);
	return err;
}

/* The slot is closed from here on; the store's lock is still ours. */
static int put_in_place(struct compact *c)
{
	struct buf old_dir = {0};
	int err = sync_path(c, buf_str_view(&c->new_path), O_RDWR);

	if (!err)
		err = sync_path(c, buf_str_view(&c->new_dir), O_RDONLY | O_DIRECTORY);
	db_slot_close(&c->store->slots[c->slot]);
	FAULT("store-compact");
	if (!err && rename(buf_str_view(&c->new_path), buf_str_view(&c->old_path)) < 0)
		err = say_errno(c, "cannot put the copy in its place");
	FAULT("store-compact");
	buf_printf(&old_dir, "%s/s%u", c->store->dir, c->slot);
	if (!err)
		err = sync_path(c, buf_str_view(&old_dir), O_RDONLY | O_DIRECTORY);
	buf_deinit(&old_dir);
	return err;
}

static int compact_slot(struct compact *c)
{
	const char *dir = c->store->dir;
	uint64_t before;
	int err;

	buf_printf(&c->old_path, "%s/s%u/data.mdb", dir, c->slot);
	buf_printf(&c->new_dir, "%s/s%u.new", dir, c->slot);
	buf_printf(&c->new_path, "%s/s%u.new/data.mdb", dir, c->slot);
	before = file_size(buf_str_view(&c->old_path));
	db_remove_copy(dir, c->slot);
	err = has_room(c);
	if (!err)
		err = copy(c);
	FAULT("store-compact");
	if (!err)
		err = verify(c);
	if (!err)
		err = put_in_place(c);
	if (!err) {
		c->result.before += before;
		c->result.after += file_size(buf_str_view(&c->old_path));
		c->result.slots++;
	}
	db_remove_copy(dir, c->slot);
	buf_deinit(&c->old_path);
	buf_deinit(&c->new_dir);
	buf_deinit(&c->new_path);
	return err;
}

int store_compact(const char *dir, struct store_compacted *compacted_out, struct buf *why_out)
{
	const struct store_options options = {.dir = dir, .must_exist = true, .no_repair = true};
	struct compact c = {.why = why_out};
	int err = store_open(&options, &c.store, why_out);

	if (err)
		return err;
	for (c.slot = 0; c.slot < c.store->slot_count && !err; c.slot++)
		err = compact_slot(&c);
	store_close(&c.store);
	*compacted_out = c.result;
	return err;
}
