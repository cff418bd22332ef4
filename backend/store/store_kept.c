/*
 * Retention. A kept message costs its row here beside the record and body that it had. The reaper writes rows from the
 * notes that expunging left in DB_EXPUNGED, or from the index of a deleted mailbox; undelete and expiry take them away.
 */
#include "backend/store/store_kept.h"

#include <stdlib.h>

#include "backend/store/blob.h"
#include "backend/store/kept.h"
#include "backend/store/mailbox.h"
#include "backend/store/message.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"

#define ROW_VERSION 1
#define ROW 26
#define SUM 16

static struct db_key row_key(uint32_t account, uint32_t time, uint32_t mailbox, uint32_t uid)
{
	return db_key_u32_u64_u32(account, (uint64_t)time << 32 | mailbox, uid);
}

/* ---- rows ---- */

void kept_pack_note(const struct kept_row *r, char note[KEPT_NOTE])
{
	note[0] = ROW_VERSION;
	note[1] = (char)r->flags;
	bytes_put_u32(note + 2, r->account);
	bytes_put_u32(note + 6, r->time);
	bytes_put_u64(note + 10, r->size);
	bytes_put_u64(note + 18, r->keywords);
}

int kept_unpack_note(struct slice key, struct slice value, struct kept_row *r)
{
	if (key.len != 16)
		return ERR_CORRUPT;
	if (value.len == 0)
		return ERR_NOT_FOUND;
	if (value.len != KEPT_NOTE || value.p[0] != ROW_VERSION)
		return ERR_CORRUPT;
	*r = (struct kept_row){
		.mailbox = bytes_get_u32be(key.p),
		.modseq = bytes_get_u64be(key.p + 4),
		.uid = bytes_get_u32be(key.p + 12),
		.flags = (uint8_t)value.p[1],
		.account = bytes_get_u32(value.p + 2),
		.time = bytes_get_u32(value.p + 6),
		.size = bytes_get_u64(value.p + 10),
		.keywords = bytes_get_u64(value.p + 18),
	};
	return 0;
}

int kept_unpack(struct slice key, struct slice value, struct kept_row *r)
{
	if (key.len != 16)
		return ERR_CORRUPT;
	if (bytes_get_u32be(key.p + 4) == 0)
		return ERR_NOT_FOUND;
	if (value.len != ROW || value.p[0] != ROW_VERSION)
		return ERR_CORRUPT;
	*r = (struct kept_row){
		.account = bytes_get_u32be(key.p),
		.time = bytes_get_u32be(key.p + 4),
		.mailbox = bytes_get_u32be(key.p + 8),
		.uid = bytes_get_u32be(key.p + 12),
		.flags = (uint8_t)value.p[1],
		.size = bytes_get_u64(value.p + 2),
		.modseq = bytes_get_u64(value.p + 10),
		.keywords = bytes_get_u64(value.p + 18),
	};
	return 0;
}

static int get_sum(struct store_txn *txn, uint32_t account, struct store_kept_sum *sum)
{
	struct db_key key = row_key(account, 0, 0, 0);
	struct slice value;
	int err = db_get(txn, DB_KEPT, db_key_view(&key), &value);

	*sum = (struct store_kept_sum){0};
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (value.len != SUM)
		return ERR_CORRUPT;
	sum->bytes = bytes_get_u64(value.p);
	sum->messages = bytes_get_u64(value.p + 8);
	return 0;
}

int kept_put_sum(struct store_txn *txn, uint32_t account, const struct store_kept_sum *sum)
{
	struct db_key key = row_key(account, 0, 0, 0);
	char value[SUM];

	if (!sum->messages)
		return db_drop(txn, DB_KEPT, db_key_view(&key));
	bytes_put_u64(value, sum->bytes);
	bytes_put_u64(value + 8, sum->messages);
	return db_put(txn, DB_KEPT, db_key_view(&key), slice_of(value, sizeof(value)));
}

int store_kept_sum(struct store_txn *txn, uint32_t account, struct store_kept_sum *sum_out)
{
	return get_sum(txn, account, sum_out);
}

void store_set_retention(struct store *store, uint64_t seconds, uint64_t bytes_max)
{
	store->retention_s = seconds;
	store->kept_max = bytes_max;
}

uint64_t kept_retention(struct store_txn *txn, uint32_t account)
{
	(void)account;
	return txn->slot->store->retention_s;
}

int kept_put(struct store_txn *txn, const struct kept_row *r)
{
	struct db_key key = row_key(r->account, r->time ? r->time : 1, r->mailbox, r->uid);
	struct store_kept_sum sum;
	char value[ROW];
	int err = get_sum(txn, r->account, &sum);

	if (err)
		return err;
	value[0] = ROW_VERSION;
	value[1] = (char)r->flags;
	bytes_put_u64(value + 2, r->size);
	bytes_put_u64(value + 10, r->modseq);
	bytes_put_u64(value + 18, r->keywords);
	sum.bytes += r->size;
	sum.messages++;
	err = db_put(txn, DB_KEPT, db_key_view(&key), slice_of(value, sizeof(value)));
	return err ? err : kept_put_sum(txn, r->account, &sum);
}

int kept_put_folder(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t time, struct slice folder)
{
	struct db_key key = row_key(account, 0, mailbox, 0);
	struct buf value = {0};
	char head[4];
	int err;

	bytes_put_u32(head, time);
	buf_add(&value, head, sizeof(head));
	buf_add_slice(&value, folder);
	txn->has_waste = true;
	err = db_put(txn, DB_KEPT, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	return err;
}

int kept_get_folder(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t *time_out,
	struct folder_record *folder)
{
	struct db_key key = row_key(account, 0, mailbox, 0);
	struct slice value;
	int err = db_get(txn, DB_KEPT, db_key_view(&key), &value);

	if (!err && value.len < 4)
		err = ERR_CORRUPT;
	if (err)
		return err;
	*time_out = bytes_get_u32(value.p);
	return record_unpack_folder(slice_from(value, 4), folder);
}

/* Takes the row away, with the record or without. */
static int drop_row(struct store_txn *txn, const struct kept_row *r, bool with_record)
{
	struct db_key key = row_key(r->account, r->time, r->mailbox, r->uid);
	struct store_kept_sum sum;
	int err = get_sum(txn, r->account, &sum);

	if (!err)
		err = db_drop(txn, DB_KEPT, db_key_view(&key));
	if (err)
		return err;
	sum.bytes -= r->size < sum.bytes ? r->size : sum.bytes;
	sum.messages -= sum.messages > 0;
	err = kept_put_sum(txn, r->account, &sum);
	return !err && with_record ? message_remove_record(txn, r->mailbox, r->uid) : err;
}

int kept_release(struct store_txn *txn, uint32_t account, uint32_t time, uint32_t mailbox, uint32_t uid)
{
	struct db_key key = row_key(account, time, mailbox, uid), expunged;
	struct folder_record folder;
	struct slice value;
	struct kept_row r;
	bool lives;
	int err = db_get(txn, DB_KEPT, db_key_view(&key), &value);

	if (!err)
		err = kept_unpack(db_key_view(&key), value, &r);
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	err = mailbox_get_folder(txn, account, mailbox, &folder);
	lives = !err && !folder.noselect;
	if (err && err != ERR_NOT_FOUND)
		return err;
	err = drop_row(txn, &r, !lives);
	if (err || !lives)
		return err;
	/* As one that is not to be kept: the reaper asks the views. */
	txn->has_waste = true;
	expunged = db_key_u32_u64_u32(mailbox, r.modseq, uid);
	return db_put(txn, DB_EXPUNGED, db_key_view(&expunged), slice_of(NULL, 0));
}

/* ---- listing ---- */

/* Where it belongs: folder's slices are views. */
static int find_folder(
	struct store_txn *txn, const struct kept_row *r, struct folder_record *folder, bool *gone)
{
	uint32_t time;
	int err = mailbox_get_folder(txn, r->account, r->mailbox, folder);

	*gone = err == ERR_NOT_FOUND || (!err && folder->noselect);
	if (!*gone)
		return err;
	err = kept_get_folder(txn, r->account, r->mailbox, &time, folder);
	if (err == ERR_NOT_FOUND) {
		*folder = (struct folder_record){0};
		err = 0;
	}
	return err;
}

static bool is_wanted(const struct store_kept_filter *f, const struct kept_row *r, struct slice name)
{
	return (int64_t)r->time >= f->since && (f->mailbox.len == 0 || slice_is_equal(f->mailbox, name));
}

/* The first row from *at on; ERR_NOT_FOUND at the end of the account. *at is behind it then. */
static int next_row(struct db_cursor *c, uint32_t account, struct store_kept_at *at, struct kept_row *r)
{
	struct db_key key = row_key(account, at->time ? at->time : 1, at->mailbox, at->uid),
		      prefix = db_key_u32(account);
	int err = db_cursor_seek(c, db_key_view(&key));

	if (!err && !db_cursor_has_prefix(c, db_key_view(&prefix)))
		err = ERR_NOT_FOUND;
	if (!err && c->key.len == 16)
		*at = (struct store_kept_at){bytes_get_u32be(c->key.p + 4), bytes_get_u32be(c->key.p + 8),
			bytes_get_u32be(c->key.p + 12) + 1}; /* UIDs end before UINT32_MAX */
	return err ? err : kept_unpack(c->key, c->value, r);
}

int store_kept_list(struct store_txn *txn, uint32_t account, const struct store_kept_filter *filter,
	struct store_kept_at *at, size_t limit, void (*fn)(void *arg, const struct store_kept *kept),
	void *arg, bool *done_out)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_KEPT, &c);

	if (err)
		return err;
	if (filter->since > (int64_t)at->time)
		at->time = (uint32_t)filter->since;
	for (size_t i = 0; i < limit && !err; i++) {
		struct folder_record folder;
		struct store_kept kept;
		struct kept_row r;

		err = next_row(&c, account, at, &r);
		if (!err)
			err = find_folder(txn, &r, &folder, &kept.is_gone);
		if (err || !is_wanted(filter, &r, folder.name))
			continue;
		kept.name = folder.name;
		kept.mailbox = r.mailbox;
		kept.uid = r.uid;
		kept.deleted = r.time;
		kept.size = r.size;
		fn(arg, &kept);
	}
	db_cursor_close(&c);
	*done_out = err == ERR_NOT_FOUND;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- undelete ---- */

struct undelete {
	struct store_txn *txn;
	uint32_t account;
	struct store_undeleted *sum;
	/* The mailbox at hand: of the rows, and where they go. */
	uint32_t from, to;
	struct message_batch batch;
	bool is_open;
};

static int close_batch(struct undelete *u, int err)
{
	if (!u->is_open)
		return err;
	u->is_open = false;
	return message_batch_end(&u->batch, err);
}

/* "Recovered/NAME", or plain when that is no name. Made if it is missing. */
static int recovered_mailbox(struct undelete *u, struct slice name, uint32_t *mailbox_out)
{
	struct store_mailbox m;
	struct buf path = {0};
	struct arena arena;
	struct slice stored;
	int err;

	arena_init(&arena, 0);
	buf_add_str(&path, STORE_RECOVERED);
	if (name.len) {
		buf_add_char(&path, STORE_SEPARATOR);
		buf_add_slice(&path, name);
	}
	if (store_mailbox_normalise(buf_view(&path), &arena, &stored))
		stored = SLICE_LIT(STORE_RECOVERED);
	err = store_mailbox_find(u->txn, u->account, stored, &m);
	if (!err && !m.noselect) {
		*mailbox_out = m.id;
	} else if (!err || err == ERR_NOT_FOUND) {
		err = store_mailbox_create(u->txn, u->account, stored, STORE_USE_NONE, mailbox_out);
		if (!err)
			err = store_mailbox_subscribe(u->txn, u->account, stored, true);
	}
	arena_deinit(&arena);
	buf_deinit(&path);
	return err;
}

/* Bits of the target for the keywords of a mailbox that is gone; those beyond its limit are lost. */
static int map_keywords(struct undelete *u, const struct folder_record *folder, uint64_t bits, uint64_t *to)
{
	char text[STORE_KEYWORD_LEN_MAX];
	int err = 0;

	*to = 0;
	for (size_t i = 0; i < folder->keywords.count && !err; i++) {
		struct slice name = folder->keywords.names[i];
		uint64_t bit = 0;

		if (!(bits >> i & 1) || name.len > sizeof(text))
			continue;
		memcpy(text, name.p, name.len);
		err = store_mailbox_make_keywords(
			u->txn, u->account, u->to, &(struct slice){text, name.len}, 1, &bit);
		if (err == ERR_TOO_BIG)
			err = 0;
		*to |= bit;
	}
	return err;
}

/* A target for the row's mailbox, and its keywords there. Closes the batch where something else is written. */
static int find_target(struct undelete *u, const struct kept_row *r, uint64_t *keywords)
{
	char room[STORE_MAILBOX_NAME_MAX];
	struct folder_record folder;
	bool gone;
	int err = find_folder(u->txn, r, &folder, &gone);

	*keywords = r->keywords;
	if (err)
		return err;
	if (u->from != r->mailbox) {
		if (folder.name.len > sizeof(room))
			return ERR_CORRUPT;
		memcpy(room, folder.name.p ? folder.name.p : "", folder.name.len);
		err = close_batch(u, 0);
		u->from = r->mailbox;
		u->to = r->mailbox;
		if (!err && gone)
			err = recovered_mailbox(u, slice_of(room, folder.name.len), &u->to);
		if (err) {
			u->from = 0;
			return err;
		}
	}
	if (!gone)
		return 0;
	*keywords = 0;
	if (!r->keywords)
		return 0;
	err = close_batch(u, 0);
	if (!err) /* anew: the rows before may have been written to */
		err = find_folder(u->txn, r, &folder, &gone);
	return err ? err : map_keywords(u, &folder, r->keywords, keywords);
}

/* ERR_TOO_BIG: no room; ERR_NOT_FOUND, ERR_CORRUPT: its record is lost. */
static int bring_back(struct undelete *u, const struct kept_row *r)
{
	struct db_key key = db_key_u32_u32(r->mailbox, r->uid);
	struct store_entry e = {.flags = r->flags & (uint8_t)~STORE_DELETED};
	struct store_message m;
	struct slice value;
	char *copy;
	int err = db_get(u->txn, DB_MESSAGES, db_key_view(&key), &value);

	if (!err)
		err = record_unpack_message(value, &m);
	if (err)
		return err;
	err = find_target(u, r, &e.keywords);
	if (!err && !u->is_open) {
		err = message_batch_begin(&u->batch, u->txn, u->account, u->to);
		u->is_open = !err;
	}
	if (!err)
		err = db_get(u->txn, DB_MESSAGES, db_key_view(&key), &value);
	if (err)
		return err == ERR_NOT_FOUND || err == ERR_CORRUPT ? db_fail(u->txn, ERR_CORRUPT) : err;
	/* Its page may be written to: a copy. */
	copy = xmemdup0(value.p, value.len);
	err = record_unpack_message(slice_of(copy, value.len), &m);
	e.size = (uint32_t)m.size;
	e.date = m.date;
	m.save_date = clock_wall_s();
	m.uidl = slice_of(NULL, 0);
	if (!err)
		err = message_batch_add(&u->batch, &e, &m);
	free(copy);
	if (err)
		return err;
	FAULT("store-undelete");
	/* The new record has taken the old one's reference. */
	err = db_drop(u->txn, DB_MESSAGES, db_key_view(&key));
	return err ? err : drop_row(u->txn, r, false);
}

static int undelete_row(struct undelete *u, const struct kept_row *r)
{
	int err = bring_back(u, r);

	if (u->txn->error)
		return u->txn->error;
	if (err == ERR_TOO_BIG)
		u->sum->over_quota++;
	else if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
		u->sum->lost++;
	else if (err)
		return err;
	if (!err) {
		u->sum->messages++;
		u->sum->bytes += r->size;
	}
	return 0;
}

int store_kept_undelete(struct store_txn *txn, uint32_t account, const struct store_kept_filter *filter,
	struct store_kept_at *at, size_t limit, struct store_undeleted *sum, bool *done_out)
{
	struct undelete u = {.txn = txn, .account = account, .sum = sum};
	struct folder_record folder;
	struct kept_row r;
	bool gone;
	int err = 0;

	if (filter->since > (int64_t)at->time)
		at->time = (uint32_t)filter->since;
	for (size_t i = 0; i < limit && !err; i++) {
		struct db_cursor c;

		/* A cursor each: what it stands on is written to. */
		err = db_cursor_open(txn, DB_KEPT, &c);
		if (err)
			break;
		err = next_row(&c, account, at, &r);
		db_cursor_close(&c);
		if (!err)
			err = find_folder(txn, &r, &folder, &gone);
		if (!err && is_wanted(filter, &r, folder.name))
			err = undelete_row(&u, &r);
	}
	*done_out = err == ERR_NOT_FOUND;
	if (err == ERR_NOT_FOUND)
		err = 0;
	return close_batch(&u, err);
}

/* ---- expiry ---- */

static bool is_held(const struct store_holds *holds, const struct kept_row *r)
{
	return holds && holds->oldest_view(holds->arg, r->mailbox) < r->modseq;
}

/* Names of deleted mailboxes go when nothing of them can be kept any more. *mailbox: where to begin, and how far it came; 0: all. */
static int expire_folders(
	struct store_txn *txn, uint32_t account, int64_t before, uint32_t *mailbox, size_t *budget)
{
	struct db_key key = row_key(account, 0, *mailbox ? *mailbox : 1, 0), end = db_key_u32_u32(account, 0);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_KEPT, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	while (!err && *budget && db_cursor_has_prefix(&c, db_key_view(&end))) {
		--*budget;
		if (c.key.len == 16)
			*mailbox = bytes_get_u32be(c.key.p + 8) + 1; /* ids end before UINT32_MAX */
		if (c.value.len < 4 || (int64_t)bytes_get_u32(c.value.p) <= before)
			err = db_cursor_delete(&c);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (*budget)
		*mailbox = 0;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* Rows of an account deleted at `before` or earlier, and the oldest while there are more than bytes_max. */
static int expire_account(struct store_txn *txn, const struct store_holds *holds, uint32_t account,
	int64_t before, uint64_t bytes_max, size_t *budget)
{
	struct store_kept_at at = {0};
	struct store_kept_sum sum;
	int err = 0;

	while (!err && *budget) {
		struct db_cursor c;
		struct kept_row r;

		err = get_sum(txn, account, &sum);
		if (!err)
			err = db_cursor_open(txn, DB_KEPT, &c);
		if (err)
			break;
		err = next_row(&c, account, &at, &r);
		db_cursor_close(&c);
		if (err || ((int64_t)r.time > before && !(bytes_max && sum.bytes > bytes_max)))
			break;
		--*budget;
		if (!is_held(holds, &r))
			err = drop_row(txn, &r, true);
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

int kept_trim(struct store_txn *txn, const struct store_holds *holds, uint32_t account, size_t *budget)
{
	uint64_t most = txn->slot->store->kept_max;
	struct store_kept_sum sum;
	int err = most ? get_sum(txn, account, &sum) : 0;

	return err || !most || sum.bytes <= most ? err
						 : expire_account(txn, holds, account, -1, most, budget);
}

/* The next account with rows; ERR_NOT_FOUND: none. */
static int next_account(struct store_txn *txn, uint32_t *account)
{
	struct db_key key = row_key(*account, 0, 0, 0);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_KEPT, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&key));
	if (!err)
		*account = bytes_get_u32be(c.key.p);
	db_cursor_close(&c);
	return err;
}

/* One that is not visible yet is its import's; one that is not any more, the reaper's. */
static int expire_one(struct store_txn *txn, const struct store_holds *holds, int64_t now, size_t *budget,
	struct store_kept_pass *pass)
{
	int64_t before = now - (int64_t)kept_retention(txn, pass->account);
	struct db_key key = db_key_u32(pass->account);
	struct store_kept_sum sum;
	struct slice value;
	int err = db_get(txn, DB_ACCOUNTS, db_key_view(&key), &value);

	if (err == ERR_NOT_FOUND) {
		pass->account++;
		return 0;
	}
	if (!err)
		err = expire_account(txn, holds, pass->account, before, txn->slot->store->kept_max, budget);
	if (!err && *budget)
		err = expire_folders(txn, pass->account, before, &pass->mailbox, budget);
	if (err || !*budget)
		return err;
	err = get_sum(txn, pass->account, &sum);
	pass->sum.bytes += sum.bytes;
	pass->sum.messages += sum.messages;
	pass->account++; /* ids end before UINT32_MAX */
	return err;
}

int store_kept_expire(struct store_txn *txn, const struct store_holds *holds, int64_t now, size_t limit,
	struct store_kept_pass *pass)
{
	size_t budget = limit;
	int err = 0;

	if (pass->account == 0)
		pass->sum = (struct store_kept_sum){0};
	while (!err && budget) {
		uint32_t account = pass->account;

		err = next_account(txn, &pass->account);
		if (account != pass->account)
			pass->mailbox = 0;
		budget--;
		if (!err && budget)
			err = expire_one(txn, holds, now, &budget, pass);
	}
	if (err == ERR_NOT_FOUND)
		pass->account = 0;
	return err == ERR_NOT_FOUND ? 0 : err;
}

int kept_drop_account(struct store_txn *txn, uint32_t account, size_t *budget)
{
	uint32_t mailbox = 0;
	int err = expire_account(txn, NULL, account, INT64_MAX, 0, budget);

	return err || !*budget ? err : expire_folders(txn, account, INT64_MAX, &mailbox, budget);
}
