/*
 * Mailboxes: four rows each.
 *
 *	DB_STATE         account, mailbox -> counters (none for a \Noselect name)
 *	DB_FOLDERS       account, mailbox -> name, use, keywords
 *	DB_FOLDER_NAMES  account, name -> mailbox u32 (0: only subscribed) | subscribed u8
 *	DB_INTENTS       kind, account, mailbox: rows that the reaper has still to remove
 *
 * The names of an account lie side by side and sorted, children behind their parent and its other names.
 */
#include "backend/store/mailbox.h"

#include <stdlib.h>

#include "backend/store/kept.h"
#include "backend/store/metadata.h"
#include "common/proto/net_unicode.h"

/* ---- names ---- */

int store_mailbox_normalise(struct slice name, struct arena *arena, struct slice *name_out)
{
	static const char inbox[] = "INBOX";
	struct slice out;
	size_t levels = 1;

	int err;

	if (name.len > STORE_MAILBOX_NAME_MAX)
		return ERR_TOO_BIG;
	if (name.len == 0)
		return ERR_SYNTAX;
	err = net_unicode_normalise(arena, name, &out);
	if (err < 0)
		return err;
	name = out;
	if (name.len > STORE_MAILBOX_NAME_MAX)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < name.len; i++) {
		if (name.p[i] != STORE_SEPARATOR)
			continue;
		levels++;
		if (i == 0 || i + 1 == name.len || name.p[i + 1] == STORE_SEPARATOR)
			return ERR_SYNTAX;
	}
	if (levels > STORE_MAILBOX_LEVELS_MAX)
		return ERR_TOO_BIG;
	if (slice_has_prefix_nocase(out, inbox) && (out.len == 5 || out.p[5] == STORE_SEPARATOR))
		memcpy((char *)(uintptr_t)out.p, inbox, 5);
	*name_out = out;
	return 0;
}

struct slice mailbox_name_key(uint32_t account, struct slice name, char *room)
{
	bytes_put_u32be(room, account);
	memcpy(room + 4, name.p, name.len);
	return slice_of(room, name.len + 4);
}

int mailbox_unpack_name(struct slice value, struct mailbox_name_row *row)
{
	if (value.len != 5)
		return ERR_CORRUPT;
	row->mailbox = bytes_get_u32(value.p);
	row->subscribed = value.p[4] != 0;
	return 0;
}

int mailbox_get_name(struct store_txn *txn, uint32_t account, struct slice name, struct mailbox_name_row *row)
{
	char room[STORE_MAILBOX_NAME_MAX + 4];
	struct slice value;
	int err;

	if (name.len == 0 || name.len > STORE_MAILBOX_NAME_MAX)
		return ERR_NOT_FOUND;
	err = db_get(txn, DB_FOLDER_NAMES, mailbox_name_key(account, name, room), &value);
	return err ? err : mailbox_unpack_name(value, row);
}

int mailbox_put_name(struct store_txn *txn, uint32_t account, struct slice name, struct mailbox_name_row row)
{
	char room[STORE_MAILBOX_NAME_MAX + 4], value[5];
	struct slice key = mailbox_name_key(account, name, room);

	if (row.mailbox == 0 && !row.subscribed)
		return db_drop(txn, DB_FOLDER_NAMES, key);
	bytes_put_u32(value, row.mailbox);
	value[4] = row.subscribed;
	return db_put(txn, DB_FOLDER_NAMES, key, slice_of(value, sizeof(value)));
}

int mailbox_find_name(
	struct store_txn *txn, uint32_t account, struct slice name, struct mailbox_name_row *row)
{
	int err = mailbox_get_name(txn, account, name, row);

	return !err && row->mailbox == 0 ? ERR_NOT_FOUND : err;
}

int mailbox_get_folder(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct folder_record *r)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct slice value;
	int err = db_get(txn, DB_FOLDERS, db_key_view(&key), &value);

	return err ? err : record_unpack_folder(value, r);
}

int mailbox_put_folder(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct folder_record *r)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct buf value = {0};
	int err;

	record_pack_folder(r, &value);
	err = db_put(txn, DB_FOLDERS, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	return err;
}

int mailbox_put_intent(
	struct store_txn *txn, char kind, uint32_t account, uint32_t mailbox, uint32_t kept_time)
{
	char key[9], time[4];

	bytes_put_u32(time, kept_time);
	key[0] = kind;
	bytes_put_u32be(key + 1, account);
	bytes_put_u32be(key + 5, mailbox);
	txn->has_waste = true;
	return db_put(
		txn, DB_INTENTS, slice_of(key, sizeof(key)), slice_of(time, kept_time ? sizeof(time) : 0));
}

/* ---- reading ---- */

static int fill(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_mailbox *out)
{
	struct folder_record folder;
	struct mailbox_state s = {0};
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (!err && !folder.noselect) {
		err = state_get_mailbox(txn, account, mailbox, &s);
		if (err == ERR_NOT_FOUND)
			err = ERR_CORRUPT;
	}
	if (err)
		return err;
	*out = (struct store_mailbox){
		.id = mailbox,
		.account = account,
		.uidvalidity = s.uidvalidity,
		.uidnext = s.uidnext,
		.messages = s.messages,
		.unseen = s.unseen,
		.deleted = s.deleted,
		.recent_from = s.recent_from,
		.size = s.size,
		.modseq = s.modseq,
		.use = folder.use,
		.noselect = folder.noselect,
		.name = folder.name,
	};
	return 0;
}

int store_mailbox_get(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_mailbox *out)
{
	struct mailbox_name_row row;
	int err = fill(txn, account, mailbox, out);

	if (!err)
		err = mailbox_get_name(txn, account, out->name, &row);
	if (!err)
		out->subscribed = row.subscribed;
	return err;
}

int store_mailbox_is_subscribed(
	struct store_txn *txn, uint32_t account, struct slice name, bool *subscribed_out)
{
	struct mailbox_name_row row = {0};
	int err = mailbox_get_name(txn, account, name, &row);

	*subscribed_out = err == 0 && row.subscribed;
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_mailbox_find(struct store_txn *txn, uint32_t account, struct slice name, struct store_mailbox *out)
{
	struct arena arena;
	struct mailbox_name_row row;
	struct slice stored;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(name, &arena, &stored);
	if (err == ERR_TOO_BIG)
		err = ERR_NOT_FOUND;
	if (!err)
		err = mailbox_find_name(txn, account, stored, &row);
	if (!err)
		err = fill(txn, account, row.mailbox, out);
	if (!err)
		out->subscribed = row.subscribed;
	arena_deinit(&arena);
	return err;
}

bool mailbox_is_child(struct slice name, struct slice parent)
{
	return name.len > parent.len && name.p[parent.len] == STORE_SEPARATOR &&
	       memcmp(name.p, parent.p, parent.len) == 0;
}

/* INBOX first, then by bytes with the separator below all others, so that children follow their parent. */
static int compare_names(const void *a, const void *b)
{
	struct slice x = ((const struct store_mailbox *)a)->name, y = ((const struct store_mailbox *)b)->name;
	bool x_inbox = slice_is_str(x, "INBOX") || mailbox_is_child(x, SLICE_LIT("INBOX"));
	bool y_inbox = slice_is_str(y, "INBOX") || mailbox_is_child(y, SLICE_LIT("INBOX"));

	if (x_inbox != y_inbox)
		return x_inbox ? -1 : 1;
	for (size_t i = 0; i < x.len && i < y.len; i++) {
		unsigned char c = (unsigned char)x.p[i], d = (unsigned char)y.p[i];

		if (c == d)
			continue;
		if (c == STORE_SEPARATOR)
			return -1;
		if (d == STORE_SEPARATOR)
			return 1;
		return c < d ? -1 : 1;
	}
	return x.len < y.len ? -1 : x.len > y.len;
}

static int list_rows(struct store_txn *txn, uint32_t account, struct arena *arena, struct buf *found)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_FOLDER_NAMES, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		struct store_mailbox m = {.account = account};
		struct mailbox_name_row row;

		err = mailbox_unpack_name(c.value, &row);
		if (!err && row.mailbox)
			err = fill(txn, account, row.mailbox, &m);
		if (err)
			break;
		m.subscribed = row.subscribed;
		m.name = arena_copy(arena, slice_from(c.key, 4));
		if (!m.name.p) {
			err = ERR_TOO_BIG;
			break;
		}
		buf_add(found, &m, sizeof(m));
		err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_mailbox_list(struct store_txn *txn, uint32_t account, struct arena *arena,
	struct store_mailbox **mailboxes_out, size_t *count_out)
{
	struct buf found = {0};
	struct store_mailbox *m = NULL;
	size_t count = 0;
	int err = list_rows(txn, account, arena, &found);

	if (!err) {
		count = buf_len(&found) / sizeof(*m);
		m = arena_calloc(arena, count + 1, sizeof(*m));
		if (!m)
			err = ERR_TOO_BIG;
	}
	if (!err && count)
		memcpy(m, buf_view(&found).p, count * sizeof(*m));
	buf_deinit(&found);
	if (err)
		return err;
	qsort(m, count, sizeof(*m), compare_names);
	for (size_t i = 0; i < count; i++)
		for (size_t k = i + 1;
			k < count && mailbox_is_child(m[k].name, m[i].name) && !m[i].has_children; k++)
			m[i].has_children = m[k].id != 0;
	*mailboxes_out = m;
	*count_out = count;
	return 0;
}

int store_mailbox_keywords(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_keywords *out)
{
	struct folder_record folder;
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (!err)
		*out = folder.keywords;
	return err;
}

static size_t keyword_at(const struct store_keywords *k, struct slice name)
{
	size_t i = 0;

	while (i < k->count && !slice_is_equal_nocase(k->names[i], name))
		i++;
	return i;
}

int store_mailbox_keyword_bits(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct slice *names, size_t count, uint64_t *bits_out)
{
	struct store_keywords k;
	uint64_t bits = 0;
	int err = store_mailbox_keywords(txn, account, mailbox, &k);

	for (size_t i = 0; i < count && !err; i++) {
		size_t at = keyword_at(&k, names[i]);

		if (at < k.count)
			bits |= UINT64_C(1) << at;
	}
	if (!err)
		*bits_out = bits;
	return err;
}

int store_mailbox_count_recent(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t from, uint32_t *count_out)
{
	struct mailbox_state s;
	struct store_scan scan;
	struct store_entry e;
	uint32_t count = 0;
	int err = state_get_mailbox(txn, account, mailbox, &s);

	if (!err && from < s.uidnext) {
		err = store_scan_begin(&scan, txn, mailbox, from);
		if (err)
			return err;
		while (store_scan_next(&scan, &e))
			count++;
		err = scan.error;
		store_scan_end(&scan);
	}
	if (!err)
		*count_out = count;
	return err;
}

/* ---- special use, subscriptions, keywords, \Recent ---- */

int store_mailbox_set_use(struct store_txn *txn, uint32_t account, uint32_t mailbox, enum store_use use)
{
	struct folder_record folder;
	struct account_state s;
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (err || folder.use == use)
		return err;
	folder.use = use;
	err = state_get_account(txn, account, &s);
	if (!err)
		err = mailbox_put_folder(txn, account, mailbox, &folder);
	if (!err)
		err = change_log_text(txn, account, &s, CHANGE_METADATA, mailbox, STORE_METADATA_SHARED,
			SLICE_LIT(STORE_METADATA_USE));
	return err ? err : state_put_account(txn, account, &s);
}

int store_mailbox_subscribe(struct store_txn *txn, uint32_t account, struct slice name, bool subscribed)
{
	struct account_state s;
	struct mailbox_name_row row = {0};
	struct arena arena;
	struct slice stored;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(name, &arena, &stored);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err) {
		err = mailbox_get_name(txn, account, stored, &row);
		if (err == ERR_NOT_FOUND && subscribed)
			err = 0;
	}
	if (!err && !subscribed && !row.subscribed)
		err = ERR_NOT_FOUND;
	if (!err && row.subscribed != subscribed) {
		row.subscribed = subscribed;
		err = mailbox_put_name(txn, account, stored, row);
		if (!err)
			err = change_log_text(txn, account, &s, CHANGE_SUBSCRIBED, row.mailbox, 0, stored);
		if (!err)
			err = state_put_account(txn, account, &s);
	}
	arena_deinit(&arena);
	return err;
}

static int put_keywords(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct folder_record *folder)
{
	struct account_state s;
	struct mailbox_state m;
	int err = state_get_mailbox(txn, account, mailbox, &m);

	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err)
		err = mailbox_put_folder(txn, account, mailbox, folder);
	if (!err)
		err = change_log(txn, account, &s, CHANGE_KEYWORDS, mailbox, NULL, 0);
	if (err)
		return err;
	m.modseq = s.modseq;
	err = state_put_mailbox(txn, account, mailbox, &m);
	return err ? err : state_put_account(txn, account, &s);
}

int store_mailbox_make_keywords(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct slice *names, size_t count, uint64_t *bits_out)
{
	struct folder_record folder;
	uint64_t bits = 0;
	size_t before;
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (err)
		return err;
	before = folder.keywords.count;
	for (size_t i = 0; i < count; i++) {
		size_t at = keyword_at(&folder.keywords, names[i]);

		if (at == STORE_KEYWORDS_MAX || names[i].len == 0 || names[i].len > STORE_KEYWORD_LEN_MAX)
			return ERR_TOO_BIG;
		if (at == folder.keywords.count)
			folder.keywords.names[folder.keywords.count++] = names[i];
		bits |= UINT64_C(1) << at;
	}
	if (folder.keywords.count > before)
		err = put_keywords(txn, account, mailbox, &folder);
	if (!err)
		*bits_out = bits;
	return err;
}

int store_mailbox_take_recent(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t *recent_from_out)
{
	struct mailbox_state m;
	uint32_t from;
	int err = state_get_mailbox(txn, account, mailbox, &m);

	if (err)
		return err;
	from = m.recent_from;
	if (from < m.uidnext) {
		m.recent_from = m.uidnext;
		err = state_put_mailbox(txn, account, mailbox, &m);
	}
	if (!err)
		*recent_from_out = from;
	return err;
}
