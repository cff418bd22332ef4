/*
 * One account, in one write transaction: names, folders, mailboxes, kept messages, change log, sums.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/store/change.h"
#include "backend/store/metadata.h"
#include "backend/store/quota.h"
#include "backend/store/repair.h"
#include "common/base/clock.h"

static void account_mended(struct repair *r, uint32_t account, uint32_t mailbox, const char *what)
{
	struct buf name = {0};

	repair_name(r, account, mailbox, 0, &name);
	repair_mended(r, "%s %s", what, buf_str_view(&name));
	buf_deinit(&name);
}

static void account_left(struct repair *r, uint32_t account, uint32_t mailbox, const char *what)
{
	struct buf name = {0};

	repair_name(r, account, mailbox, 0, &name);
	repair_left(r, "%s %s", what, buf_str_view(&name));
	buf_deinit(&name);
}

/* ---- names ---- */

static int put_name(struct repair *r, struct slice name, uint32_t account)
{
	struct effect effect = {.kind = EFFECT_NAME, .account = account};
	char value[4];

	bytes_put_u32(value, account);
	db_effect(r->txn, &effect, name);
	return db_put(r->txn, DB_NAMES, name, slice_of(value, sizeof(value)));
}

/* The name's row leads to the account; whom it leads to instead is not driven away. */
static int check_own_name(struct repair *r, uint32_t account, struct slice name)
{
	struct slice value;
	int err = db_get(r->txn, DB_NAMES, name, &value);

	if (!err && value.len == 4 && bytes_get_u32(value.p) == account)
		return 0;
	if (!err && value.len == 4) {
		struct db_key other = db_key_u32(bytes_get_u32(value.p));

		if (db_get(r->txn, DB_ACCOUNTS, db_key_view(&other), &value) == 0) {
			account_left(r, account, 0, "a name is another account's:");
			return 0;
		}
	}
	if (err && err != ERR_NOT_FOUND)
		return err;
	repair_mended(r, "name %.*s led not to its account", SLICE_ARG(name));
	return put_name(r, name, account);
}

static int mend_account_names(struct repair *r, uint32_t account, uint32_t *aliases_out)
{
	struct db_key prefix = db_key_u32(account);
	struct account_record record;
	struct buf keys = {0};
	struct db_cursor c;
	struct slice key, value;
	size_t at = 0;
	int err = db_get(r->txn, DB_ACCOUNTS, db_key_view(&prefix), &value);

	*aliases_out = 0;
	if (!err)
		err = record_unpack_account(value, &record);
	if (err) {
		account_left(r, account, 0, "the record cannot be read, and no name tells whose it is:");
		return 0;
	}
	repair_keep_key(&keys, record.address);
	err = db_cursor_open(r->txn, DB_ACCOUNTS, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c))
		if (c.key.len > 4 && c.key.len <= STORE_ADDRESS_MAX + 4) {
			repair_keep_key(&keys, slice_from(c.key, 4));
			++*aliases_out;
		}
	db_cursor_close(&c);
	err = err == ERR_NOT_FOUND ? 0 : err;
	while (!err && repair_take_key(&keys, &at, &key))
		err = check_own_name(r, account, key);
	buf_deinit(&keys);
	return err;
}

/* ---- folders and their names ---- */

static int put_folder(
	struct repair *r, uint32_t account, uint32_t mailbox, const struct folder_record *folder)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct buf value = {0};
	int err;

	record_pack_folder(folder, &value);
	err = db_put(r->txn, DB_FOLDERS, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	return err;
}

static int put_folder_name(struct repair *r, uint32_t account, uint32_t mailbox, struct slice name)
{
	char room[STORE_MAILBOX_NAME_MAX + 4], row[5] = {0};
	struct slice key = mailbox_name_key(account, name, room), value;

	if (db_get(r->txn, DB_FOLDER_NAMES, key, &value) == 0 && value.len == sizeof(row))
		row[4] = value.p[4];
	bytes_put_u32(row, mailbox);
	return db_put(r->txn, DB_FOLDER_NAMES, key, slice_of(row, sizeof(row)));
}

/* Names for the keyword bits that are in use; theirs are lost. */
static int invent_keywords(struct repair *r, uint32_t mailbox, struct folder_record *folder, char (*room)[16])
{
	struct store_scan scan;
	struct store_entry e;
	uint64_t used = 0;
	int err = store_scan_begin(&scan, r->txn, mailbox, 0);

	while (!err && store_scan_next(&scan, &e))
		used |= e.keywords;
	store_scan_end(&scan);
	while (folder->keywords.count < STORE_KEYWORDS_MAX && used >> folder->keywords.count) {
		size_t i = folder->keywords.count++;

		folder->keywords.names[i] =
			slice_of(room[i], (size_t)snprintf(room[i], sizeof(*room), "Lost-%zu", i + 1));
		if (i + 1 == STORE_KEYWORDS_MAX)
			break;
	}
	return err == ERR_CORRUPT ? 0 : err;
}

/* A folder whose record is lost, under this name or one that tells of it. */
static int remake_folder(struct repair *r, uint32_t account, uint32_t mailbox, struct slice name)
{
	char words[STORE_KEYWORDS_MAX][16], made[32], copy[STORE_MAILBOX_NAME_MAX];
	struct folder_record folder = {0};
	int err = invent_keywords(r, mailbox, &folder, words);

	if (err)
		return err;
	if (name.len == 0 || name.len > sizeof(copy)) {
		folder.name = slice_of(
			made, (size_t)snprintf(made, sizeof(made), "Recovered-%u", (unsigned)mailbox));
	} else {
		memcpy(copy, name.p, name.len);
		folder.name = slice_of(copy, name.len);
	}
	err = put_folder(r, account, mailbox, &folder);
	if (!err)
		err = put_folder_name(r, account, mailbox, folder.name);
	account_mended(r, account, mailbox, "a mailbox had lost its folder, names of keywords are lost:");
	return err;
}

static int gather_ids(struct repair *r, enum db_name db, uint32_t account, struct buf *ids)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, db, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		uint32_t id = 0;

		if (db == DB_FOLDER_NAMES && c.value.len == 5)
			id = bytes_get_u32(c.value.p);
		else if (db != DB_FOLDER_NAMES && c.key.len == 8)
			id = bytes_get_u32be(c.key.p + 4);
		if (id)
			buf_add(ids, &id, sizeof(id));
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* The name under which the account's names know a mailbox, copied; empty: none. */
static int name_of(struct repair *r, uint32_t account, uint32_t mailbox, struct buf *name)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(r->txn, DB_FOLDER_NAMES, &c);

	buf_clear(name);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c))
		if (c.value.len == 5 && bytes_get_u32(c.value.p) == mailbox) {
			buf_add_slice(name, slice_from(c.key, 4));
			break;
		}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* A folder that can be read: its name leads to it. */
static int check_folder_name(struct repair *r, uint32_t account, uint32_t mailbox, struct slice name)
{
	char room[STORE_MAILBOX_NAME_MAX + 4], copy[STORE_MAILBOX_NAME_MAX];
	struct folder_record other;
	struct slice value;
	uint32_t there;
	int err;

	if (name.len == 0 || name.len > sizeof(copy))
		return remake_folder(r, account, mailbox, slice_of(NULL, 0));
	err = db_get(r->txn, DB_FOLDER_NAMES, mailbox_name_key(account, name, room), &value);
	if (err && err != ERR_NOT_FOUND)
		return err;
	there = !err && value.len == 5 ? bytes_get_u32(value.p) : 0;
	if (there == mailbox)
		return 0;
	if (there && mailbox_get_folder(r->txn, account, there, &other) == 0 &&
		slice_is_equal(other.name, name))
		return remake_folder(r, account, mailbox, slice_of(NULL, 0));
	memcpy(copy, name.p, name.len);
	account_mended(r, account, mailbox, "the name of a mailbox was missing:");
	return put_folder_name(r, account, mailbox, slice_of(copy, name.len));
}

/* Nothing of the mailbox is left: the name lets go of it. */
static int drop_empty_name(struct repair *r, uint32_t account, uint32_t mailbox, struct slice name)
{
	char room[STORE_MAILBOX_NAME_MAX + 4], row[5];
	struct slice key = mailbox_name_key(account, name, room), value;
	int err = db_get(r->txn, DB_FOLDER_NAMES, key, &value);

	if (err || value.len != 5)
		return err;
	memcpy(row, value.p, sizeof(row));
	bytes_put_u32(row, 0);
	account_mended(r, account, mailbox, "a name led to no mailbox:");
	return row[4] ? db_put(r->txn, DB_FOLDER_NAMES, key, slice_of(row, sizeof(row)))
		      : db_drop(r->txn, DB_FOLDER_NAMES, key);
}

static int mend_mailbox(struct repair *r, uint32_t account, uint32_t mailbox, struct account_state *s)
{
	struct db_key prefix = db_key_u32(mailbox), own = db_key_u32_u32(account, mailbox);
	struct folder_record folder;
	struct slice value;
	struct buf name = {0};
	bool has_index, has_records, has_state, has_folder = true;
	int err = repair_has(r->txn, DB_INDEX, db_key_view(&prefix), &has_index);

	if (!err)
		err = repair_has(r->txn, DB_MESSAGES, db_key_view(&prefix), &has_records);
	if (err)
		return err;
	has_state = db_get(r->txn, DB_STATE, db_key_view(&own), &value) == 0;
	err = mailbox_get_folder(r->txn, account, mailbox, &folder);
	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) {
		bool is_there = has_index || has_records || has_state || err == ERR_CORRUPT;

		err = name_of(r, account, mailbox, &name);
		if (!err && is_there)
			err = remake_folder(r, account, mailbox, buf_view(&name));
		else if (!err && buf_len(&name))
			err = drop_empty_name(r, account, mailbox, buf_view(&name));
		has_folder = is_there;
	} else if (!err) {
		err = check_folder_name(r, account, mailbox, folder.name);
	}
	buf_deinit(&name);
	if (err || !has_folder)
		return err;
	err = mailbox_get_folder(r->txn, account, mailbox, &folder);
	if (err)
		return err;
	s->mailboxes++;
	if (folder.noselect && !has_index && !has_records) {
		if (!has_state)
			return 0;
		account_mended(r, account, mailbox, "a name without messages had counters:");
		return db_drop(r->txn, DB_STATE, db_key_view(&own));
	}
	if (folder.noselect) {
		err = remake_folder(r, account, mailbox, folder.name);
		if (err)
			return err;
	}
	err = repair_mailbox(r, account, mailbox, s);
	if (!err) {
		struct mailbox_state m;

		err = state_get_mailbox(r->txn, account, mailbox, &m);
		s->bytes += err ? 0 : m.size;
		s->count += err ? 0 : m.messages;
	}
	return err;
}

/* ---- kept messages ---- */

/* Rows whose record has gone go; a row that cannot be read is made anew. The sums are counted. */
static int mend_kept(struct repair *r, uint32_t account)
{
	struct db_key prefix = db_key_u32(account);
	struct store_kept_sum sum = {0}, said = {0};
	struct buf keys = {0};
	struct db_cursor c;
	struct slice key;
	size_t at = 0;
	int err = db_cursor_open(r->txn, DB_KEPT, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c))
		repair_keep_key(&keys, c.key);
	db_cursor_close(&c);
	err = err == ERR_NOT_FOUND ? 0 : err;
	while (!err && repair_take_key(&keys, &at, &key)) {
		struct kept_row row;
		struct store_message m;
		struct slice value;
		int read;

		err = db_get(r->txn, DB_KEPT, key, &value);
		if (err)
			break;
		read = kept_unpack(key, value, &row);
		if (read == ERR_NOT_FOUND)
			continue;
		err = store_message_get(r->txn, key.len == 16 ? bytes_get_u32be(key.p + 8) : 0,
			key.len == 16 ? bytes_get_u32be(key.p + 12) : 0, &m);
		if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) {
			account_mended(
				r, account, 0, "a deleted message has lost its record, it is not kept:");
			err = db_drop(r->txn, DB_KEPT, key);
			continue;
		}
		if (!err && read) {
			account_mended(r, account, 0, "a deleted message had lost its flags:");
			row = (struct kept_row){.account = account,
				.time = bytes_get_u32be(key.p + 4),
				.mailbox = bytes_get_u32be(key.p + 8),
				.uid = bytes_get_u32be(key.p + 12),
				.size = m.size};
			err = kept_put(r->txn, &row);
		}
		sum.bytes += row.size;
		sum.messages++;
	}
	if (!err)
		err = repair_kept_unowned(r, account, &keys, &sum);
	buf_deinit(&keys);
	if (!err && (store_kept_sum(r->txn, account, &said) || said.bytes != sum.bytes ||
			    said.messages != sum.messages)) {
		account_mended(r, account, 0, "the sums of deleted messages were wrong:");
		err = kept_put_sum(r->txn, account, &sum);
	}
	return err;
}

/* ---- the change log ---- */

static int is_log_right(struct repair *r, uint32_t account, const struct account_state *s, bool *right_out)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	uint64_t rows = 0, last = 0;
	int err = db_cursor_open(r->txn, DB_CHANGES, &c);

	*right_out = true;
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		rows++;
		last = c.key.len == 12 ? bytes_get_u64be(c.key.p + 4) : 0;
		if (last <= s->change_low || !change_is_row(c.value))
			*right_out = false;
	}
	db_cursor_close(&c);
	if (rows != s->change_rows || last > s->modseq || rows != s->modseq - s->change_low)
		*right_out = false;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* A log that is not whole is begun anew: clients compare instead. */
static int mend_log(struct repair *r, uint32_t account, struct account_state *s)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	bool is_right;
	int err = is_log_right(r, account, s, &is_right);

	if (err || is_right)
		return err;
	account_mended(r, account, 0, "the change log was not whole, it begins anew:");
	err = db_cursor_open(r->txn, DB_CHANGES, &c);
	if (err)
		return err;
	for (;;) {
		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (err || !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			break;
		err = db_cursor_delete(&c);
		if (err)
			break;
	}
	db_cursor_close(&c);
	s->change_low = s->modseq;
	s->change_rows = 0;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* ---- annotations and limits ---- */

struct roots {
	struct repair *r;
	uint32_t account;
};

static void tell_root(
	void *arg, uint32_t mailbox, const struct store_quota *stored, const struct store_quota *right)
{
	struct roots *roots = arg;

	(void)stored;
	(void)right;
	account_mended(roots->r, roots->account, mailbox, "what a quota root has used was wrong:");
}

static int mend_beside(struct repair *r, uint32_t account)
{
	struct roots roots = {r, account};
	bool is_changed = false;
	int err = metadata_recount(r->txn, account, &is_changed);

	if (is_changed)
		account_mended(r, account, 0, "the sum of annotations was wrong:");
	return err ? err : quota_verify_roots(r->txn, account, true, tell_root, &roots);
}

/* ---- one account ---- */

/* Counters that are lost: above everything that was given. */
static int remake_state(struct repair *r, uint32_t account, const struct buf *ids, struct account_state *s)
{
	const uint32_t *id = (const void *)ids->data;
	char top[12];
	struct db_cursor c;
	int err;

	*s = (struct account_state){.uidvalidity = (uint32_t)clock_wall_s()};
	memcpy(top, db_key_u32(account).bytes, 4);
	memset(top + 4, 0xff, 8);
	err = db_cursor_open(r->txn, DB_CHANGES, &c);
	if (err)
		return err;
	err = db_cursor_floor(&c, slice_of(top, sizeof(top)));
	if (!err && c.key.len == 12 && bytes_get_u32be(c.key.p) == account)
		s->modseq = bytes_get_u64be(c.key.p + 4);
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	for (size_t i = 0; i < buf_len(ids) / sizeof(*id); i++) {
		struct mailbox_state m;
		struct store_scan scan;
		struct store_entry e;

		if (state_get_mailbox(r->txn, account, id[i], &m) == 0) {
			s->modseq = m.modseq > s->modseq ? m.modseq : s->modseq;
			s->uidvalidity = m.uidvalidity > s->uidvalidity ? m.uidvalidity : s->uidvalidity;
		}
		if (store_scan_begin(&scan, r->txn, id[i], 0))
			continue;
		while (store_scan_next(&scan, &e))
			s->modseq = e.modseq > s->modseq ? e.modseq : s->modseq;
		store_scan_end(&scan);
	}
	account_mended(r, account, 0, "counters of an account were lost:");
	return 0;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* All mailboxes that anything of the account names, each once. */
static int all_ids(struct repair *r, uint32_t account, struct buf *ids)
{
	static const enum db_name tables[] = {DB_FOLDERS, DB_STATE, DB_FOLDER_NAMES};
	uint32_t *id;
	size_t count, to = 0;
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(tables) && !err; i++)
		err = gather_ids(r, tables[i], account, ids);
	id = (void *)ids->data;
	count = buf_len(ids) / sizeof(*id);
	if (err || !count)
		return err;
	qsort(id, count, sizeof(*id), compare_u32);
	for (size_t i = 1; i < count; i++)
		if (id[i] != id[to])
			id[++to] = id[i];
	buf_cut(ids, (to + 1) * sizeof(*id));
	return 0;
}

int repair_account(struct repair *r, void *arg)
{
	uint32_t account = *(uint32_t *)arg, aliases = 0;
	struct account_state before = {0}, s;
	struct buf ids = {0};
	bool has_state;
	int err = all_ids(r, account, &ids);

	if (!err)
		err = state_get_account(r->txn, account, &before);
	has_state = err == 0;
	s = before;
	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
		err = remake_state(r, account, &ids, &s);
	if (!err)
		err = mend_account_names(r, account, &aliases);
	if (!err)
		err = mend_kept(r, account);
	s.bytes = s.count = s.mailboxes = 0;
	for (size_t i = 0; i < buf_len(&ids) / sizeof(uint32_t) && !err; i++) {
		uint32_t id = ((const uint32_t *)(const void *)ids.data)[i];

		if (!repair_is_going(r, INTENT_DROP_MAILBOX, account, id))
			err = mend_mailbox(r, account, id, &s);
	}
	buf_deinit(&ids);
	if (err)
		return err;
	s.aliases = aliases;
	err = mend_log(r, account, &s);
	if (err)
		return err;
	if (has_state && (s.bytes != before.bytes || s.count != before.count ||
				 s.mailboxes != before.mailboxes || s.aliases != before.aliases))
		account_mended(r, account, 0, "sums of an account did not agree with its mailboxes:");
	if (!has_state || memcmp(&s, &before, sizeof(s)) != 0) {
		db_note(r->txn, account, 0, s.modseq);
		err = state_put_account(r->txn, account, &s);
	}
	return err ? err : mend_beside(r, account);
}
