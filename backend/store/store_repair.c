/*
 * The repair, slot by slot:
 *
 *	numbers   DB_META: the last ids given are not below those that are there
 *	names     a name without an account gets it back where the account's counters are there, else it goes
 *	accounts  those with findings, each in one write transaction: record, names, folders, mailboxes, log, sums
 *	strays    rows of no mailbox are told, and left
 *	blobs     references counted over many snapshots; the difference to what a record says stays the same whatever happens
 *	          meanwhile, so it may be added later
 *	bodies    those that cannot be read are told by message
 */
#include "backend/store/store_greylist.h"
#include "backend/store/store_repair.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/store/account.h"
#include "backend/store/blob.h"
#include "backend/store/change.h"
#include "backend/store/check.h"
#include "backend/store/chunk.h"
#include "backend/store/quota.h"
#include "backend/store/queue_check.h"
#include "backend/store/repair.h"
#include "backend/store/store_domain.h"
#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define ROWS_PER_STEP 20000

/* ---- telling ---- */

static void tell(struct repair *r, const char *what, const char *format, va_list args) PRINTF_LIKE(3, 0);
static void tell(struct repair *r, const char *what, const char *format, va_list args)
{
	struct buf text = {0};

	if (!r->options->report)
		return;
	buf_printf(&text, "slot %u: %s: ", r->slot, what);
	buf_vprintf(&text, format, args);
	r->options->report(r->options->arg, buf_str_view(&text));
	buf_deinit(&text);
}

void repair_mended(struct repair *r, const char *format, ...)
{
	va_list args;

	r->result.mended++;
	va_start(args, format);
	tell(r, "mended", format, args);
	va_end(args);
}

void repair_left(struct repair *r, const char *format, ...)
{
	va_list args;

	r->result.left++;
	va_start(args, format);
	tell(r, "left", format, args);
	va_end(args);
}

void repair_name(struct repair *r, uint32_t account, uint32_t mailbox, uint32_t uid, struct buf *out)
{
	struct db_key key = db_key_u32(account);
	struct account_record record;
	struct folder_record folder;
	struct slice value;

	if (db_get(r->txn, DB_ACCOUNTS, db_key_view(&key), &value) == 0 &&
		record_unpack_account(value, &record) == 0)
		buf_printf(out, "account=%.*s", SLICE_ARG(record.address));
	else
		buf_printf(out, "account=%u", account);
	if (mailbox && mailbox_get_folder(r->txn, account, mailbox, &folder) == 0)
		buf_printf(out, " mailbox=%.*s", SLICE_ARG(folder.name));
	else if (mailbox)
		buf_printf(out, " mailbox=%u", mailbox);
	if (uid)
		buf_printf(out, " uid=%u", uid);
}

static bool is_cancelled(struct repair *r)
{
	return r->options->is_cancelled && r->options->is_cancelled(r->options->arg);
}

/* ---- transactions and walks ---- */

int repair_in_write(struct repair *r, int (*fn)(struct repair *r, void *arg), void *arg)
{
	struct store_repair before = r->result;
	int err = store_begin_write(r->store, r->slot, &r->txn);

	if (err)
		return err;
	err = fn(r, arg);
	if (err || store_txn_writes(r->txn) == 0) {
		store_abort(&r->txn);
		if (err)
			r->result = before;
		return err;
	}
	FAULT("store-repair");
	return store_commit(&r->txn);
}

/* Each row of a database, with a new snapshot after so many. */
int repair_each_row(struct repair *r, enum db_name db, repair_row_fn *fn, void *arg)
{
	struct buf from = {0};
	bool more = true;
	int err = 0;

	buf_add_char(&from, '\0');
	while (!err && more) {
		struct db_cursor c;
		size_t n = 0;

		more = false;
		err = is_cancelled(r) ? ERR_CANCELLED : store_begin_read(r->store, r->slot, &r->txn);
		if (err)
			break;
		err = db_cursor_open(r->txn, db, &c);
		if (!err)
			err = db_cursor_seek(&c, buf_view(&from));
		while (!err && !more) {
			if (n++ == ROWS_PER_STEP) {
				buf_clear(&from);
				buf_add_slice(&from, c.key);
				more = true;
				break;
			}
			err = fn(r, c.key, c.value, arg);
			if (!err)
				err = db_cursor_next(&c);
		}
		db_cursor_close(&c);
		store_end_read(&r->txn);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	buf_deinit(&from);
	return err;
}

void repair_keep_key(struct buf *keys, struct slice key)
{
	char len[2];

	bytes_put_u16(len, (uint16_t)key.len);
	buf_add(keys, len, sizeof(len));
	buf_add_slice(keys, key);
}

bool repair_take_key(const struct buf *keys, size_t *at, struct slice *key_out)
{
	struct slice all = buf_view(keys);

	if (*at + 2 > all.len)
		return false;
	*key_out = slice_sub(all, *at + 2, bytes_get_u16(all.p + *at));
	*at += 2 + key_out->len;
	return true;
}

/* ---- numbers ---- */

static int last_key(struct store_txn *txn, enum db_name db, struct db_cursor *c)
{
	char top[16];
	int err = db_cursor_open(txn, db, c);

	memset(top, 0xff, sizeof(top));
	return err ? err : db_cursor_floor(c, slice_of(top, sizeof(top)));
}

static int raise_number(struct repair *r, const char *name, uint64_t least)
{
	uint64_t now;
	int err = db_meta_get(r->txn, name, &now);

	if (err == ERR_CORRUPT) {
		now = 0;
		err = 0;
	}
	if (err || now >= least)
		return err;
	repair_mended(r, "number %s was %llu, below what is there", name, (unsigned long long)now);
	return db_meta_put(r->txn, name, least);
}

struct greatest {
	uint32_t account, mailbox;
	uint64_t blob;
};

static int note_folder(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct greatest *g = arg;

	(void)r;
	(void)value;
	if (key.len == 8 && bytes_get_u32be(key.p) > g->account)
		g->account = bytes_get_u32be(key.p);
	if (key.len == 8 && bytes_get_u32be(key.p + 4) > g->mailbox)
		g->mailbox = bytes_get_u32be(key.p + 4);
	return 0;
}

static int raise_numbers(struct repair *r, void *arg)
{
	static const struct {
		enum db_name db;
		bool is_blob;
	} rows[] = {{DB_INDEX, false}, {DB_MESSAGES, false}, {DB_BLOBS, true}, {DB_PIECES, true}};
	struct greatest *g = arg;
	int err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct db_cursor c;

		err = last_key(r->txn, rows[i].db, &c);
		if (!err && rows[i].is_blob && c.key.len >= 8 && bytes_get_u64be(c.key.p) > g->blob)
			g->blob = bytes_get_u64be(c.key.p);
		if (!err && !rows[i].is_blob && c.key.len >= 8 && bytes_get_u32be(c.key.p) > g->mailbox)
			g->mailbox = bytes_get_u32be(c.key.p);
		db_cursor_close(&c);
		if (err && err != ERR_NOT_FOUND)
			return err;
	}
	err = raise_number(r, "last_account", g->account);
	if (!err)
		err = raise_number(r, "last_mailbox", g->mailbox);
	if (!err && g->blob)
		err = raise_number(r, "next_blob", g->blob + 1);
	if (!err && r->txn->slot->next_blob <= g->blob)
		r->txn->slot->next_blob = g->blob + 1;
	return err;
}

/* ---- an account's record and names ---- */

/* An account whose record is lost, known by its address alone: without a password or limits, and nobody may log in. */
static int put_bare_account(struct repair *r, uint32_t account, struct slice address)
{
	struct account_record record = {
		.address = address, .created = account_created_now(), .flags = STORE_ACCOUNT_DISABLED};
	struct effect effect = {.kind = EFFECT_ACCOUNT, .account = account};
	struct db_key key = db_key_u32(account);
	struct buf value = {0};
	int err;

	record_pack_account(&record, &value);
	db_effect(r->txn, &effect, buf_view(&value));
	err = db_put(r->txn, DB_ACCOUNTS, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	repair_mended(r,
		"the record of account=%.*s was lost: it is there again, disabled, without password and "
		"limits",
		SLICE_ARG(address));
	return err;
}

bool repair_is_going(struct repair *r, char kind, uint32_t account, uint32_t mailbox)
{
	struct slice value;
	char key[9];

	key[0] = kind;
	bytes_put_u32be(key + 1, account);
	bytes_put_u32be(key + 5, mailbox);
	return db_get(r->txn, DB_INTENTS, slice_of(key, sizeof(key)), &value) == 0;
}

static int is_orphaned_name(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct db_key account;
	struct slice record;
	struct account_record unpacked;

	if (value.len == 4) {
		account = db_key_u32(bytes_get_u32(value.p));
		if (db_get(r->txn, DB_ACCOUNTS, db_key_view(&account), &record) == 0 &&
			record_unpack_account(record, &unpacked) == 0)
			return 0;
	}
	if (key.len <= STORE_ADDRESS_MAX)
		repair_keep_key(arg, key);
	return 0;
}

/* An alias row says that the name is not the account's own. */
static bool is_alias(struct repair *r, uint32_t account, struct slice name)
{
	char room[STORE_ADDRESS_MAX + 4];
	struct slice value;

	bytes_put_u32be(room, account);
	memcpy(room + 4, name.p, name.len);
	return db_get(r->txn, DB_ACCOUNTS, slice_of(room, name.len + 4), &value) == 0;
}

static int mend_name(struct repair *r, void *arg)
{
	struct slice name = *(struct slice *)arg, value;
	uint32_t account = 0;
	struct account_record record;
	struct db_key key, prefix;
	bool has = false;
	int err = db_get(r->txn, DB_NAMES, name, &value);

	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	if (value.len == 4)
		account = bytes_get_u32(value.p);
	key = db_key_u32(account);
	prefix = db_key_u32(account);
	if (account) {
		err = db_get(r->txn, DB_ACCOUNTS, db_key_view(&key), &value);
		if (!err && record_unpack_account(value, &record) == 0)
			return 0; /* mended by another of its names */
		err = repair_has(r->txn, DB_FOLDERS, db_key_view(&prefix), &has);
		if (err)
			return err;
	}
	if (has && !repair_is_going(r, INTENT_DROP_ACCOUNT, account, 0))
		return is_alias(r, account, name) ? 0 : put_bare_account(r, account, name);
	repair_mended(r, "a name led to no account, it goes: %.*s", SLICE_ARG(name));
	db_effect(r->txn, &(struct effect){.kind = EFFECT_NAME_GONE}, name);
	return db_drop(r->txn, DB_NAMES, name);
}

static int mend_names(struct repair *r)
{
	struct buf keys = {0};
	struct slice name;
	size_t at = 0;
	int err = repair_each_row(r, DB_NAMES, is_orphaned_name, &keys);

	while (!err && repair_take_key(&keys, &at, &name))
		err = repair_in_write(r, mend_name, &name);
	buf_deinit(&keys);
	return err;
}

static int note_account(struct repair *r, struct slice key, struct slice value, void *arg)
{
	(void)r;
	(void)value;
	if (key.len == 4)
		buf_add(arg, key.p, 4);
	return 0;
}

static int mend_accounts(struct repair *r)
{
	struct buf ids = {0};
	int err = repair_each_row(r, DB_ACCOUNTS, note_account, &ids);

	for (size_t at = 0; !err && at < buf_len(&ids); at += 4) {
		uint32_t account = bytes_get_u32be(buf_view(&ids).p + at);
		uint64_t errors;

		if (is_cancelled(r))
			err = ERR_CANCELLED;
		if (!err)
			err = check_one_account(r->store, r->slot, account, &errors);
		if (!err && errors)
			err = repair_in_write(r, repair_account, &account);
	}
	buf_deinit(&ids);
	return err;
}

/* ---- marks and intents ---- */

static int check_mark(struct repair *r, struct slice key, struct slice value, void *arg)
{
	char room[8 + STORE_MARK_LEN];
	struct slice row;

	if (key.len == STORE_MARK_LEN && value.len == 8) {
		bytes_put_u64be(room, bytes_get_u64(value.p));
		memcpy(room + 8, key.p, STORE_MARK_LEN);
		if (db_get(r->txn, DB_MARK_TIMES, slice_of(room, sizeof(room)), &row) == 0)
			return 0;
	}
	repair_keep_key(arg, key);
	return 0;
}

static int check_mark_time(struct repair *r, struct slice key, struct slice value, void *arg)
{
	struct slice row;

	(void)value;
	if (key.len == 8 + STORE_MARK_LEN && db_get(r->txn, DB_MARKS, slice_from(key, 8), &row) == 0 &&
		row.len == 8 && bytes_get_u64(row.p) == bytes_get_u64be(key.p))
		return 0;
	repair_keep_key(arg, key);
	return 0;
}

static int check_grey(struct repair *r, struct slice key, struct slice value, void *arg)
{
	char room[STORE_GREYLIST_TIME_LEN];
	struct slice row;

	if (store_greylist_time_key(key, value, room) == 0 &&
		db_get(r->txn, DB_GREYLIST_TIMES, slice_of(room, sizeof(room)), &row) == 0)
		return 0;
	repair_keep_key(arg, key);
	return 0;
}

static int check_grey_time(struct repair *r, struct slice key, struct slice value, void *arg)
{
	char room[STORE_GREYLIST_TIME_LEN];
	struct slice row;

	(void)value;
	if (key.len == sizeof(room) && db_get(r->txn, DB_GREYLIST, slice_from(key, 8), &row) == 0 &&
		store_greylist_time_key(slice_from(key, 8), row, room) == 0 &&
		memcmp(room, key.p, sizeof(room)) == 0)
		return 0;
	repair_keep_key(arg, key);
	return 0;
}

static int check_intent(struct repair *r, struct slice key, struct slice value, void *arg)
{
	(void)r;
	(void)value;
	if (key.len != 9)
		repair_keep_key(arg, key);
	return 0;
}

struct dropping {
	enum db_name db;
	const char *what;
	struct buf keys;
};

/* A mark without its time would live for ever: it gets one. Others go. */
static int drop_rows(struct repair *r, void *arg)
{
	struct dropping *d = arg;
	struct slice key, value;
	size_t at = 0;
	int err = 0;

	while (!err && repair_take_key(&d->keys, &at, &key)) {
		err = db_get(r->txn, d->db, key, &value);
		if (err) {
			err = err == ERR_NOT_FOUND ? 0 : err;
			continue;
		}
		if (d->db == DB_MARKS && key.len == STORE_MARK_LEN && value.len == 8) {
			char room[8 + STORE_MARK_LEN];

			bytes_put_u64be(room, bytes_get_u64(value.p));
			memcpy(room + 8, key.p, STORE_MARK_LEN);
			err = db_put(r->txn, DB_MARK_TIMES, slice_of(room, sizeof(room)), slice_of(NULL, 0));
		} else {
			err = db_drop(r->txn, d->db, key);
		}
		repair_mended(r, "%s", d->what);
	}
	return err;
}

int repair_rows(struct repair *r, enum db_name db, repair_row_fn *check, const char *what)
{
	struct dropping d = {.db = db, .what = what};
	int err = repair_each_row(r, db, check, &d.keys);

	if (!err && buf_len(&d.keys))
		err = repair_in_write(r, drop_rows, &d);
	buf_deinit(&d.keys);
	return err;
}

/* ---- the whole ---- */

static int mend_slot(struct repair *r)
{
	struct greatest greatest = {0};
	int err = repair_each_row(r, DB_FOLDERS, note_folder, &greatest);

	if (!err)
		err = repair_in_write(r, raise_numbers, &greatest);
	if (!err)
		err = repair_rows(r, DB_INTENTS, check_intent, "an intent said nothing");
	if (!err)
		err = mend_names(r);
	if (!err)
		err = repair_beside(r);
	if (!err)
		err = mend_accounts(r);
	if (!err)
		err = repair_queue(r);
	if (!err)
		err = repair_blobs(r);
	if (!err)
		err = repair_rows(r, DB_MARKS, check_mark, "a repeat mark had no time");
	if (!err)
		err = repair_rows(r, DB_MARK_TIMES, check_mark_time, "a time had no repeat mark");
	if (!err)
		err = repair_rows(r, DB_GREYLIST, check_grey, "an entry of the greylist had no time");
	return err ? err
		   : repair_rows(
			     r, DB_GREYLIST_TIMES, check_grey_time, "a time had no entry of the greylist");
}

static void tell_stray(void *arg, const char *text)
{
	struct repair *r = arg;

	if (r->options->report)
		r->options->report(r->options->arg, text);
}

/* Of domains and classes nothing else tells what they said. */
static void tell_left(void *arg, const char *text)
{
	repair_left(arg, "%s", text);
}

int store_repair(
	struct store *store, const struct store_repair_options *options, struct store_repair *repair_out)
{
	struct repair r = {.store = store, .options = options};
	int err = 0;

	for (r.slot = 0; r.slot < store->slot_count && !err; r.slot++) {
		uint64_t strays = 0;

		r.has_losses = false;
		err = mend_slot(&r);
		if (!err)
			err = check_slot_strays(store, r.slot, tell_stray, &r, &strays);
		r.result.left += strays;
	}
	r.slot = 0;
	if (!err)
		err = store_domain_check(store, tell_left, &r);
	*repair_out = r.result;
	return err;
}

/* ---- counting alone ---- */

static int recount(struct store_txn *txn, uint32_t account, bool mend, struct store_recount *counted,
	struct store_recount *said, bool *changed_out)
{
	struct db_key prefix = db_key_u32(account);
	struct account_state s, before;
	struct db_cursor c;
	int err = state_get_account(txn, account, &s);

	*changed_out = false;
	before = s;
	s.bytes = s.count = s.mailboxes = 0;
	if (!err)
		err = db_cursor_open(txn, DB_FOLDERS, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		uint32_t mailbox = c.key.len == 8 ? bytes_get_u32be(c.key.p + 4) : 0;
		struct mailbox_state m, sums;

		s.mailboxes++;
		err = state_get_mailbox(txn, account, mailbox, &m);
		sums = m;
		if (!err)
			err = repair_count(txn, mailbox, &sums);
		if (!err) {
			s.bytes += sums.size;
			s.count += sums.messages;
			if (memcmp(&m, &sums, sizeof(m)) != 0)
				*changed_out = true;
			if (mend && memcmp(&m, &sums, sizeof(m)) != 0)
				err = state_put_mailbox(txn, account, mailbox, &sums);
		}
		if (err == ERR_NOT_FOUND)
			err = 0; /* \Noselect */
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	*counted = (struct store_recount){s.bytes, s.count, s.mailboxes, s.aliases};
	*said = (struct store_recount){before.bytes, before.count, before.mailboxes, before.aliases};
	if (memcmp(&s, &before, sizeof(s)) == 0)
		return 0;
	*changed_out = true;
	return mend ? state_put_account(txn, account, &s) : 0;
}

int store_account_recount(
	struct store_txn *txn, uint32_t account, struct store_recount *counted, struct store_recount *said)
{
	bool changed;

	return recount(txn, account, false, counted, said, &changed);
}

static void root_changed(
	void *arg, uint32_t mailbox, const struct store_quota *stored, const struct store_quota *right)
{
	bool *changed = arg;

	(void)mailbox;
	(void)stored;
	(void)right;
	*changed = true;
}

int store_account_recount_mend(struct store_txn *txn, uint32_t account, bool *changed_out)
{
	struct store_recount counted, said;
	int err = recount(txn, account, true, &counted, &said, changed_out);

	return err ? err : quota_verify_roots(txn, account, true, root_changed, changed_out);
}
