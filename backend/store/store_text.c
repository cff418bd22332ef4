/*
 *	key    mailbox u32be | kind u8 | uid u32be | gram u32be
 *
 * in LMDB's unnamed database. The row of mailbox 0, kind 0 is the index's own: version, mark of the slot, mail
 * transaction. The slot has the mark of its index in DB_META.
 */
#include "backend/store/store_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/store/db.h"
#include "backend/store/db_text.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/random.h"

#define VERSION 1
#define KEY_LEN 13
#define HEAD_LEN 20 /* version u32 | mark u64 | mail transaction u64 */
#define SIZE_DEFAULT (UINT64_C(16) << 30)
#define READERS_MAX 510
#define MARK "text_mark"

struct store_text_txn {
	struct db_slot *slot;
	MDB_txn *txn;
	MDB_cursor *cursor;
	bool is_write;
	int error;
	uint64_t mail; /* the mail transaction that a write is of */
};

static const struct store_text_key head_key;

static void pack_key(const struct store_text_key *key, char *out)
{
	bytes_put_u32be(out, key->mailbox);
	out[4] = (char)key->kind;
	bytes_put_u32be(out + 5, key->uid);
	bytes_put_u32be(out + 9, key->gram);
}

static int unpack_key(const MDB_val *v, struct store_text_key *out)
{
	const char *p = v->mv_data;

	if (v->mv_size != KEY_LEN)
		return ERR_CORRUPT;
	*out = (struct store_text_key){
		bytes_get_u32be(p), (uint8_t)p[4], bytes_get_u32be(p + 5), bytes_get_u32be(p + 9)};
	return 0;
}

/* ---- opening ---- */

static char *path_of(const struct db_slot *slot, const char *file)
{
	char *path;

	require(asprintf(&path, "%s/s%u/text%s", slot->store->dir, slot->number, file) >= 0);
	return path;
}

static void remove_files(const struct db_slot *slot)
{
	static const char *const files[] = {"/data.mdb", "/lock.mdb"};
	char *path;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		path = path_of(slot, files[i]);
		(void)unlink(path);
		free(path);
	}
	path = path_of(slot, "");
	(void)rmdir(path);
	free(path);
}

/* The slot's mark, 0: it has none, and its last transaction. */
static int find_mark(struct db_slot *slot, uint64_t *mark_out, uint64_t *mail_out)
{
	struct store_txn txn = {.slot = slot};
	int err, rc = mdb_txn_begin(slot->env, NULL, MDB_RDONLY, &txn.txn);

	if (rc)
		return db_error(rc);
	err = db_meta_get(&txn, MARK, mark_out);
	*mail_out = mdb_txn_id(txn.txn);
	mdb_txn_abort(txn.txn);
	return err;
}

/* A new index has a new mark: numbers of transactions begin again when a slot is compacted, so a mark must not outlive the
 * index that was made with it. */
static int change_mark(struct db_slot *slot)
{
	struct store_txn txn = {.slot = slot, .is_write = true};
	int err, rc = mdb_txn_begin(slot->env, NULL, 0, &txn.txn);

	if (rc)
		return db_error(rc);
	random_bytes(&slot->text.mark, sizeof(slot->text.mark));
	slot->text.mark |= 1;
	err = db_meta_put(&txn, MARK, slot->text.mark);
	if (err == 0)
		return db_error(mdb_txn_commit(txn.txn));
	mdb_txn_abort(txn.txn);
	return err;
}

static int put_head(struct db_slot *slot, MDB_txn *txn, uint64_t mail)
{
	char key[KEY_LEN], value[HEAD_LEN];
	MDB_val k = {KEY_LEN, key}, v = {HEAD_LEN, value};

	pack_key(&head_key, key);
	bytes_put_u32(value, VERSION);
	bytes_put_u64(value + 4, slot->text.mark);
	bytes_put_u64(value + 12, mail);
	return mdb_put(txn, slot->text.dbi, &k, &v, 0);
}

/* False: what is there is not of this slot as it is. */
static bool is_valid(struct db_slot *slot, MDB_txn *txn, uint64_t mail)
{
	char key[KEY_LEN];
	MDB_val k = {KEY_LEN, key}, v;

	pack_key(&head_key, key);
	return mdb_get(txn, slot->text.dbi, &k, &v) == 0 && v.mv_size == HEAD_LEN &&
	       bytes_get_u32(v.mv_data) == VERSION &&
	       bytes_get_u64((char *)v.mv_data + 4) == slot->text.mark &&
	       bytes_get_u64((char *)v.mv_data + 12) <= mail;
}

static int open_env(struct db_slot *slot, uint64_t size)
{
	struct db_text *t = &slot->text;
	char *path = path_of(slot, "");
	int rc = mkdir(path, 0700) < 0 && errno != EEXIST ? errno : 0;

	if (!rc)
		rc = mdb_env_create(&t->env);
	if (!rc)
		rc = mdb_env_set_maxreaders(t->env, READERS_MAX);
	if (!rc)
		rc = mdb_env_set_mapsize(t->env, size ? size : SIZE_DEFAULT);
	if (!rc)
		rc = mdb_env_open(t->env, path, MDB_NOTLS | MDB_NOMETASYNC, 0600);
	free(path);
	return rc;
}

static void close_env(struct db_slot *slot)
{
	if (slot->text.env)
		mdb_env_close(slot->text.env);
	slot->text.env = NULL;
}

/* What is there, or nothing yet. */
enum state {
	STATE_GOOD,
	STATE_EMPTY,
	STATE_ALIEN
};

static int look(struct db_slot *slot, uint64_t mail, enum state *state_out)
{
	MDB_txn *txn;
	MDB_stat stat;
	int rc = mdb_txn_begin(slot->text.env, NULL, MDB_RDONLY, &txn);

	if (rc)
		return rc;
	rc = mdb_dbi_open(txn, NULL, 0, &slot->text.dbi);
	if (!rc)
		rc = mdb_stat(txn, slot->text.dbi, &stat);
	if (!rc)
		*state_out = stat.ms_entries == 0        ? STATE_EMPTY
			     : is_valid(slot, txn, mail) ? STATE_GOOD
							 : STATE_ALIEN;
	mdb_txn_abort(txn);
	return rc;
}

static int begin_index(struct db_slot *slot, uint64_t mail)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(slot->text.env, NULL, 0, &txn);

	if (rc)
		return rc;
	rc = mdb_dbi_open(txn, NULL, 0, &slot->text.dbi);
	if (!rc)
		rc = put_head(slot, txn, mail);
	if (!rc)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

void db_text_open(struct db_slot *slot, const struct store_options *options)
{
	enum state state = STATE_ALIEN;
	uint64_t mail = 0;
	int err, rc;

	if (!options->has_text_index) {
		if (!options->no_repair)
			remove_files(slot);
		return;
	}
	err = find_mark(slot, &slot->text.mark, &mail);
	rc = err ? 0 : open_env(slot, options->text_size);
	if (!err && !rc)
		rc = look(slot, mail, &state);
	if (!err && (rc || state == STATE_ALIEN)) {
		log_warn("store", "the text index of slot %u is made anew: %s", slot->number,
			rc ? mdb_strerror(rc) : "it is not of this state of the slot");
		close_env(slot);
		remove_files(slot);
		rc = open_env(slot, options->text_size);
		state = STATE_EMPTY;
	}
	if (!err && !rc && state == STATE_EMPTY) {
		err = change_mark(slot);
		rc = err ? 0 : begin_index(slot, mail);
	}
	if (err || rc) {
		/* Mail does not need it: a full disk must not keep it from being served. */
		close_env(slot);
		log_error("store", "slot %u is without a text index: %s", slot->number,
			err ? error_text(err) : mdb_strerror(rc));
	}
}

void db_text_close(struct db_slot *slot)
{
	close_env(slot);
}

bool store_text_is_on(const struct store *store)
{
	for (unsigned i = 0; i < store->slot_count; i++) {
		if (store->slots[i].text.env)
			return true;
	}
	return false;
}

/* ---- transactions ---- */

static int begin(struct store *store, unsigned number, unsigned flags, struct store_text_txn **txn_out)
{
	struct db_slot *slot = number < store->slot_count ? &store->slots[number] : NULL;
	struct store_text_txn *t;
	int rc;

	if (!slot || !slot->text.env)
		return ERR_UNSUPPORTED;
	t = xcalloc(1, sizeof(*t));
	t->slot = slot;
	t->is_write = !(flags & MDB_RDONLY);
	rc = mdb_txn_begin(slot->text.env, NULL, flags, &t->txn);
	if (!rc)
		rc = mdb_cursor_open(t->txn, slot->text.dbi, &t->cursor);
	if (rc) {
		store_text_end(&t);
		return db_error(rc);
	}
	*txn_out = t;
	return 0;
}

int store_text_begin_read(struct store *store, unsigned slot, struct store_text_txn **txn_out)
{
	return begin(store, slot, MDB_RDONLY, txn_out);
}

int store_text_begin_write(
	struct store *store, unsigned slot, const struct store_txn *mail, struct store_text_txn **txn_out)
{
	int err = begin(store, slot, 0, txn_out);

	if (err == 0)
		(*txn_out)->mail = mdb_txn_id(mail->txn);
	return err;
}

void store_text_end(struct store_text_txn **txn)
{
	struct store_text_txn *t = *txn;

	if (!t)
		return;
	if (t->cursor)
		mdb_cursor_close(t->cursor);
	if (t->txn)
		mdb_txn_abort(t->txn);
	free(t);
	*txn = NULL;
}

/* LMDB calls a write that the file system took in part EIO. It is tried again as what a full one refused. */
static int write_error(int rc)
{
	return rc == EIO ? ERR_FULL : db_error(rc);
}

/* Only ever forwards: rows of an older mail transaction do not hide that others are of a newer one. */
static int raise_head(struct store_text_txn *t)
{
	struct slice value;
	int err = store_text_get(t, &head_key, &value);

	if (err || value.len != HEAD_LEN)
		return err ? err : ERR_CORRUPT;
	return bytes_get_u64(value.p + 12) < t->mail ? db_error(put_head(t->slot, t->txn, t->mail)) : 0;
}

int store_text_commit(struct store_text_txn **txn)
{
	struct store_text_txn *t = *txn;
	int err = t->error ? t->error : raise_head(t), rc;

	mdb_cursor_close(t->cursor);
	t->cursor = NULL;
	if (err == 0) {
		rc = mdb_txn_commit(t->txn);
		t->txn = NULL;
		err = write_error(rc);
	}
	store_text_end(txn);
	return err;
}

/* ---- rows ---- */

static int give(
	int rc, const MDB_val *k, const MDB_val *v, struct store_text_key *key_out, struct slice *value_out)
{
	int err = rc ? db_error(rc) : unpack_key(k, key_out);

	if (err)
		return err;
	*value_out = slice_of(v->mv_data, v->mv_size);
	return 0;
}

int store_text_get(struct store_text_txn *t, const struct store_text_key *key, struct slice *value_out)
{
	char packed[KEY_LEN];
	MDB_val k = {KEY_LEN, packed}, v;
	int rc;

	pack_key(key, packed);
	rc = mdb_get(t->txn, t->slot->text.dbi, &k, &v);
	if (rc)
		return db_error(rc);
	*value_out = slice_of(v.mv_data, v.mv_size);
	return 0;
}

int store_text_seek(struct store_text_txn *t, const struct store_text_key *key,
	struct store_text_key *key_out, struct slice *value_out)
{
	char packed[KEY_LEN];
	MDB_val k = {KEY_LEN, packed}, v;

	pack_key(key, packed);
	return give(mdb_cursor_get(t->cursor, &k, &v, MDB_SET_RANGE), &k, &v, key_out, value_out);
}

int store_text_floor(struct store_text_txn *t, const struct store_text_key *key,
	struct store_text_key *key_out, struct slice *value_out)
{
	char packed[KEY_LEN];
	MDB_val k = {KEY_LEN, packed}, v;
	int rc;

	pack_key(key, packed);
	rc = mdb_cursor_get(t->cursor, &k, &v, MDB_SET_RANGE);
	if (rc == MDB_NOTFOUND)
		rc = mdb_cursor_get(t->cursor, &k, &v, MDB_LAST);
	else if (!rc && (k.mv_size != KEY_LEN || memcmp(k.mv_data, packed, KEY_LEN) != 0))
		rc = mdb_cursor_get(t->cursor, &k, &v, MDB_PREV);
	return give(rc, &k, &v, key_out, value_out);
}

static int fail(struct store_text_txn *t, int rc)
{
	int err = write_error(rc);

	if (err && t->error == 0)
		t->error = err;
	return err;
}

int store_text_put(struct store_text_txn *t, const struct store_text_key *key, struct slice value)
{
	char packed[KEY_LEN];
	MDB_val k = {KEY_LEN, packed}, v = {value.len, (void *)(uintptr_t)value.p};

	pack_key(key, packed);
	return fail(t, mdb_put(t->txn, t->slot->text.dbi, &k, &v, 0));
}

int store_text_remove(struct store_text_txn *t, const struct store_text_key *from,
	const struct store_text_key *to, size_t most, size_t *removed_out)
{
	char first[KEY_LEN], end[KEY_LEN];
	MDB_val k = {KEY_LEN, first}, v;
	size_t n = 0;
	int rc;

	pack_key(from, first);
	pack_key(to, end);
	rc = mdb_cursor_get(t->cursor, &k, &v, MDB_SET_RANGE);
	while (!rc && n < most && k.mv_size == KEY_LEN && memcmp(k.mv_data, end, KEY_LEN) < 0) {
		rc = mdb_cursor_del(t->cursor, 0);
		n++;
		if (!rc)
			rc = mdb_cursor_get(t->cursor, &k, &v, MDB_NEXT);
	}
	*removed_out = n;
	return rc == MDB_NOTFOUND ? 0 : fail(t, rc);
}

bool store_text_mark_damaged(struct store *store, unsigned slot, uint32_t mailbox)
{
	return slot < store->slot_count && atomic_exchange(&store->slots[slot].text.damaged, mailbox) == 0;
}

uint32_t store_text_take_damaged(struct store *store, unsigned slot)
{
	return slot < store->slot_count ? atomic_exchange(&store->slots[slot].text.damaged, 0) : 0;
}

uint64_t store_text_size(struct store *store)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < store->slot_count; i++) {
		MDB_stat s;

		if (!store->slots[i].text.env)
			continue;
		mdb_env_stat(store->slots[i].text.env, &s);
		bytes += (uint64_t)(s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages) * s.ms_psize;
	}
	return bytes;
}
