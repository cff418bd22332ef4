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

#include "backend/store/acl.h"
#include "backend/store/chunk.h"
#include "backend/store/kept.h"
#include "backend/store/metadata.h"
#include "backend/store/quota.h"
#include "common/base/clock.h"
#include "common/proto/net_unicode.h"

struct name_row {
	uint32_t mailbox;
	bool subscribed;
};

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

static int unpack_name_row(struct slice value, struct name_row *row)
{
	if (value.len != 5)
		return ERR_CORRUPT;
	row->mailbox = bytes_get_u32(value.p);
	row->subscribed = value.p[4] != 0;
	return 0;
}

static int get_name_row(struct store_txn *txn, uint32_t account, struct slice name, struct name_row *row)
{
	char room[STORE_MAILBOX_NAME_MAX + 4];
	struct slice value;
	int err;

	if (name.len == 0 || name.len > STORE_MAILBOX_NAME_MAX)
		return ERR_NOT_FOUND;
	err = db_get(txn, DB_FOLDER_NAMES, mailbox_name_key(account, name, room), &value);
	return err ? err : unpack_name_row(value, row);
}

/* Writes the row, or deletes it when it says nothing any more. */
static int put_name_row(struct store_txn *txn, uint32_t account, struct slice name, struct name_row row)
{
	char room[STORE_MAILBOX_NAME_MAX + 4], value[5];
	struct slice key = mailbox_name_key(account, name, room);

	if (row.mailbox == 0 && !row.subscribed)
		return db_drop(txn, DB_FOLDER_NAMES, key);
	bytes_put_u32(value, row.mailbox);
	value[4] = row.subscribed;
	return db_put(txn, DB_FOLDER_NAMES, key, slice_of(value, sizeof(value)));
}

/* The row's mailbox alone. ERR_NOT_FOUND also when the name is only subscribed. */
static int find_name(struct store_txn *txn, uint32_t account, struct slice name, struct name_row *row)
{
	int err = get_name_row(txn, account, name, row);

	return !err && row->mailbox == 0 ? ERR_NOT_FOUND : err;
}

int mailbox_get_folder(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct folder_record *r)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct slice value;
	int err = db_get(txn, DB_FOLDERS, db_key_view(&key), &value);

	return err ? err : record_unpack_folder(value, r);
}

static int put_folder(
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
	struct name_row row;
	int err = fill(txn, account, mailbox, out);

	if (!err)
		err = get_name_row(txn, account, out->name, &row);
	if (!err)
		out->subscribed = row.subscribed;
	return err;
}

int store_mailbox_is_subscribed(
	struct store_txn *txn, uint32_t account, struct slice name, bool *subscribed_out)
{
	struct name_row row = {0};
	int err = get_name_row(txn, account, name, &row);

	*subscribed_out = err == 0 && row.subscribed;
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_mailbox_find(struct store_txn *txn, uint32_t account, struct slice name, struct store_mailbox *out)
{
	struct arena arena;
	struct name_row row;
	struct slice stored;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(name, &arena, &stored);
	if (err == ERR_TOO_BIG)
		err = ERR_NOT_FOUND;
	if (!err)
		err = find_name(txn, account, stored, &row);
	if (!err)
		err = fill(txn, account, row.mailbox, out);
	if (!err)
		out->subscribed = row.subscribed;
	arena_deinit(&arena);
	return err;
}

static bool is_child(struct slice name, struct slice parent)
{
	return name.len > parent.len && name.p[parent.len] == STORE_SEPARATOR &&
	       memcmp(name.p, parent.p, parent.len) == 0;
}

/* INBOX first, then by bytes with the separator below all others, so that children follow their parent. */
static int compare_names(const void *a, const void *b)
{
	struct slice x = ((const struct store_mailbox *)a)->name, y = ((const struct store_mailbox *)b)->name;
	bool x_inbox = slice_is_str(x, "INBOX") || is_child(x, SLICE_LIT("INBOX"));
	bool y_inbox = slice_is_str(y, "INBOX") || is_child(y, SLICE_LIT("INBOX"));

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
		struct name_row row;

		err = unpack_name_row(c.value, &row);
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
		for (size_t k = i + 1; k < count && is_child(m[k].name, m[i].name) && !m[i].has_children; k++)
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

/* ---- creating ---- */

uint32_t mailbox_next_uidvalidity(struct account_state *s)
{
	uint32_t now = (uint32_t)clock_wall_s();

	s->uidvalidity = now > s->uidvalidity ? now : s->uidvalidity + 1;
	return s->uidvalidity;
}

/* Gives a folder its counters: it becomes (or is made) a real mailbox. */
static int start_state(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox,
	enum change_kind kind)
{
	struct mailbox_state m = {.uidvalidity = mailbox_next_uidvalidity(s), .uidnext = 1, .recent_from = 1};
	int err = change_log(txn, account, s, kind, mailbox, NULL, 0);

	m.modseq = s->modseq;
	return err ? err : state_put_mailbox(txn, account, mailbox, &m);
}

/* RFC 4314 section 4: the ACL of the nearest parent. */
static int inherit(struct store_txn *txn, uint32_t account, struct slice name, uint32_t mailbox)
{
	struct name_row row;
	int err = ERR_NOT_FOUND;

	for (ptrdiff_t at = slice_find_last(name, STORE_SEPARATOR); err == ERR_NOT_FOUND && at > 0;
		at = slice_find_last(name, STORE_SEPARATOR)) {
		name.len = (size_t)at;
		err = find_name(txn, account, name, &row);
	}
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	return acl_inherit(txn, account, row.mailbox, mailbox);
}

static int create_row(struct store_txn *txn, uint32_t account, struct account_state *s, struct slice name,
	enum store_use use, bool subscribed, uint32_t *mailbox_out)
{
	struct folder_record folder = {.name = name, .use = use};
	uint32_t id;
	int err;

	if (s->mailboxes >= STORE_MAILBOXES_MAX)
		return ERR_TOO_BIG;
	err = quota_check_mailbox(txn, account, s, name);
	if (!err)
		err = db_meta_next(txn, "last_mailbox", &id);
	if (!err)
		err = put_folder(txn, account, id, &folder);
	if (!err)
		err = put_name_row(txn, account, name, (struct name_row){id, subscribed});
	if (!err)
		err = start_state(txn, account, s, id, CHANGE_CREATED);
	if (err)
		return err;
	s->mailboxes++;
	*mailbox_out = id;
	return inherit(txn, account, name, id);
}

int mailbox_create_default(struct store_txn *txn, uint32_t account, struct account_state *s,
	struct slice name, enum store_use use, uint32_t *mailbox_out)
{
	return create_row(txn, account, s, name, use, true, mailbox_out);
}

int mailbox_put_imported(struct store_txn *txn, uint32_t account, const struct folder_record *folder,
	bool subscribed, const struct mailbox_state *state, uint32_t *mailbox_out)
{
	uint32_t id;
	int err = db_meta_next(txn, "last_mailbox", &id);

	if (!err)
		err = put_folder(txn, account, id, folder);
	if (!err)
		err = put_name_row(txn, account, folder->name, (struct name_row){id, subscribed});
	if (!err && !folder->noselect)
		err = state_put_mailbox(txn, account, id, state);
	if (!err)
		*mailbox_out = id;
	return err;
}

int mailbox_put_subscribed(struct store_txn *txn, uint32_t account, struct slice name)
{
	return put_name_row(txn, account, name, (struct name_row){0, true});
}

/* Makes what is missing of the name's parents. */
static int create_parents(struct store_txn *txn, uint32_t account, struct account_state *s, struct slice name)
{
	for (size_t i = 1; i < name.len; i++) {
		struct slice parent = slice_sub(name, 0, i);
		struct name_row row = {0};
		uint32_t id;
		int err;

		if (name.p[i] != STORE_SEPARATOR)
			continue;
		err = get_name_row(txn, account, parent, &row);
		if (err && err != ERR_NOT_FOUND)
			return err;
		if (row.mailbox)
			continue;
		err = create_row(txn, account, s, parent, STORE_USE_NONE, row.subscribed, &id);
		if (err)
			return err;
	}
	return 0;
}

/* An existing name: ERR_EXISTS, unless it is \Noselect. */
static int revive(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox)
{
	struct folder_record folder;
	char name[STORE_MAILBOX_NAME_MAX];
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (!err && !folder.noselect)
		err = ERR_EXISTS;
	if (err)
		return err;
	if (folder.name.len > sizeof(name))
		return ERR_CORRUPT;
	memcpy(name, folder.name.p, folder.name.len);
	folder.name.p = name;
	folder.noselect = false;
	folder.keywords.count = 0;
	err = put_folder(txn, account, mailbox, &folder);
	return err ? err : start_state(txn, account, s, mailbox, CHANGE_CREATED);
}

int store_mailbox_create(
	struct store_txn *txn, uint32_t account, struct slice name, enum store_use use, uint32_t *mailbox_out)
{
	struct account_state s;
	struct name_row row = {0};
	struct arena arena;
	struct slice stored;
	uint32_t id = 0;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(name, &arena, &stored);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err) {
		err = get_name_row(txn, account, stored, &row);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	id = row.mailbox;
	if (!err && row.mailbox) {
		err = revive(txn, account, &s, row.mailbox);
	} else if (!err) {
		err = create_parents(txn, account, &s, stored);
		if (!err)
			err = create_row(txn, account, &s, stored, use, row.subscribed, &id);
		if (err == ERR_TOO_BIG)
			db_fail(txn, err); /* some parents may have been made */
	}
	if (!err)
		err = state_put_account(txn, account, &s);
	if (!err)
		*mailbox_out = id;
	arena_deinit(&arena);
	return err;
}

/* ---- deleting ---- */

int store_mailbox_has_children(struct store_txn *txn, uint32_t account, struct slice name, bool *has_out)
{
	char room[STORE_MAILBOX_NAME_MAX + 5];
	struct slice prefix = mailbox_name_key(account, name, room);
	struct db_cursor c;
	struct name_row row;
	int err = db_cursor_open(txn, DB_FOLDER_NAMES, &c);

	if (err)
		return err;
	*has_out = false;
	room[prefix.len++] = STORE_SEPARATOR;
	err = db_cursor_seek(&c, prefix);
	while (!err && db_cursor_has_prefix(&c, prefix) && !*has_out) {
		err = unpack_name_row(c.value, &row);
		if (err)
			break;
		*has_out = row.mailbox != 0;
		if (!*has_out)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* For the retention: the name and keywords, and the time, which the intent carries. Without a folder's row (the account
 * goes) nothing is kept. */
static int keep_folder(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint32_t *time_out)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct slice value;
	struct buf copy = {0};
	int err = kept_retention(txn, account) ? db_get(txn, DB_FOLDERS, db_key_view(&key), &value)
					       : ERR_NOT_FOUND;

	*time_out = 0;
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	*time_out = (uint32_t)clock_wall_s();
	buf_add_slice(&copy, value);
	err = kept_put_folder(txn, account, mailbox, *time_out, buf_view(&copy));
	buf_deinit(&copy);
	return err;
}

int mailbox_bury(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct mailbox_state m;
	uint32_t time = 0;
	int err = state_get_mailbox(txn, account, mailbox, &m);

	if (err == ERR_NOT_FOUND) /* \Noselect: has no messages, but may have annotations */
		return mailbox_put_intent(txn, INTENT_DROP_MAILBOX, account, mailbox, 0);
	if (err)
		return err;
	if (s->bytes < m.size || s->count < m.messages)
		return ERR_CORRUPT;
	err = quota_changed(txn, account, mailbox, &m, NULL);
	if (err)
		return err;
	s->bytes -= m.size;
	s->count -= m.messages;
	err = db_drop(txn, DB_STATE, db_key_view(&key));
	if (!err)
		err = keep_folder(txn, account, mailbox, &time);
	if (!err)
		err = mailbox_put_intent(txn, INTENT_DROP_MAILBOX, account, mailbox, time);
	db_note(txn, account, mailbox, UINT64_MAX);
	return err;
}

/* Takes away the name, its folder row, and a \Noselect parent that has no child left. */
static int remove_name(
	struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox, struct slice name)
{
	for (;;) {
		struct db_key key = db_key_u32_u32(account, mailbox);
		struct name_row row;
		struct folder_record folder;
		ptrdiff_t up = slice_find_last(name, STORE_SEPARATOR);
		bool has = false;
		int err = get_name_row(txn, account, name, &row);

		row.mailbox = 0;
		if (!err)
			err = put_name_row(txn, account, name, row);
		if (!err)
			err = db_drop(txn, DB_FOLDERS, db_key_view(&key));
		if (!err)
			err = acl_drop(txn, account, mailbox);
		if (!err)
			err = quota_move(txn, account, mailbox, 0);
		if (!err)
			err = change_log_text(txn, account, s, CHANGE_DELETED, mailbox, 0, name);
		s->mailboxes -= s->mailboxes > 0;
		if (err || up <= 0)
			return err;
		name.len = (size_t)up;
		err = find_name(txn, account, name, &row);
		if (err)
			return err == ERR_NOT_FOUND ? 0 : err;
		mailbox = row.mailbox;
		err = mailbox_get_folder(txn, account, mailbox, &folder);
		if (!err)
			err = store_mailbox_has_children(txn, account, name, &has);
		if (err || !folder.noselect || has)
			return err;
		/* Its annotations. */
		err = mailbox_put_intent(txn, INTENT_DROP_MAILBOX, account, mailbox, 0);
		if (err)
			return err;
	}
}

/* A name with children goes on as \Noselect, under an id of its own: the old id's rows are the reaper's. */
static int keep_name(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox,
	struct folder_record *left)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct name_row row;
	uint32_t id;
	int err = get_name_row(txn, account, left->name, &row);

	if (!err)
		err = db_meta_next(txn, "last_mailbox", &id);
	if (err)
		return err;
	left->noselect = true;
	row.mailbox = id;
	err = db_drop(txn, DB_FOLDERS, db_key_view(&key));
	if (!err)
		err = acl_drop(txn, account, mailbox);
	if (!err)
		err = put_folder(txn, account, id, left);
	if (!err)
		err = put_name_row(txn, account, left->name, row);
	if (!err)
		err = quota_move(txn, account, mailbox, id);
	if (!err)
		err = change_log_text(txn, account, s, CHANGE_DELETED, mailbox, 0, left->name);
	return err;
}

int store_mailbox_delete(struct store_txn *txn, uint32_t account, uint32_t mailbox)
{
	char name_room[STORE_MAILBOX_NAME_MAX];
	struct folder_record folder;
	struct account_state s;
	struct slice name;
	bool has = false;
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	if (!err && slice_is_str(folder.name, "INBOX"))
		err = ERR_DENIED;
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err)
		err = store_mailbox_has_children(txn, account, folder.name, &has);
	if (!err && has && folder.noselect)
		err = ERR_DENIED;
	if (err)
		return err;
	if (folder.name.len > sizeof(name_room))
		return ERR_CORRUPT;
	memcpy(name_room, folder.name.p, folder.name.len);
	name = slice_of(name_room, folder.name.len);
	err = mailbox_bury(txn, account, &s, mailbox);
	if (!err)
		err = has ? keep_name(txn, account, &s, mailbox,
				    &(struct folder_record){.name = name, .use = folder.use})
			  : remove_name(txn, account, &s, mailbox, name);
	return err ? err : state_put_account(txn, account, &s);
}

/* ---- renaming ---- */

/* Moves one name; keywords, use and id stay. The old name keeps its subscription. */
static int move_name(struct store_txn *txn, uint32_t account, struct account_state *s, struct slice old_name,
	struct slice new_name)
{
	struct folder_record folder;
	struct name_row from, to = {0};
	uint32_t mailbox;
	int err = find_name(txn, account, old_name, &from);

	if (err)
		return err;
	mailbox = from.mailbox;
	err = get_name_row(txn, account, new_name, &to);
	if (err && err != ERR_NOT_FOUND)
		return err;
	to.mailbox = mailbox;
	from.mailbox = 0;
	err = put_name_row(txn, account, old_name, from);
	if (!err)
		err = put_name_row(txn, account, new_name, to);
	if (!err)
		err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (err)
		return err;
	/* put_folder packs before it writes, so views of the old value may go in. */
	folder.name = new_name;
	err = put_folder(txn, account, mailbox, &folder);
	return err ? err : change_log_text(txn, account, s, CHANGE_RENAMED, mailbox, 0, old_name);
}

struct rename {
	uint32_t mailbox;
	struct slice old_name;
	struct slice new_name;
	struct arena *arena;
	struct slice *children; /* old names, children behind parents */
	size_t count;
};

static struct slice child_name(struct rename *r, struct slice child)
{
	char *p = arena_alloc(r->arena, r->new_name.len + child.len - r->old_name.len + 1);

	if (!p)
		return slice_of(NULL, 0);
	memcpy(p, r->new_name.p, r->new_name.len);
	memcpy(p + r->new_name.len, child.p + r->old_name.len, child.len - r->old_name.len);
	return slice_of(p, r->new_name.len + child.len - r->old_name.len);
}

/* Collects the children, and checks that every new name is free and short enough. */
static int plan_rename(struct store_txn *txn, uint32_t account, struct rename *r)
{
	struct store_mailbox *all;
	struct name_row row;
	size_t count;
	int err = store_mailbox_list(txn, account, r->arena, &all, &count);

	if (err)
		return err;
	r->children = arena_calloc(r->arena, count + 1, sizeof(*r->children));
	if (!r->children)
		return ERR_TOO_BIG;
	for (size_t i = 0; i < count; i++) {
		struct slice to;

		if (all[i].id == 0 || !is_child(all[i].name, r->old_name))
			continue;
		to = child_name(r, all[i].name);
		if (!to.p || to.len > STORE_MAILBOX_NAME_MAX)
			return ERR_TOO_BIG;
		err = find_name(txn, account, to, &row);
		if (err != ERR_NOT_FOUND)
			return err ? err : ERR_EXISTS;
		r->children[r->count++] = all[i].name;
	}
	return 0;
}

/* RFC 3501 6.3.5: INBOX hands its messages over and stays. */
static int rename_inbox(struct store_txn *txn, uint32_t account, struct account_state *s, uint32_t mailbox,
	struct slice new_name)
{
	struct name_row row;
	uint32_t id;
	int err = move_name(txn, account, s, SLICE_LIT("INBOX"), new_name);

	if (!err) {
		err = get_name_row(txn, account, SLICE_LIT("INBOX"), &row);
		if (err == ERR_NOT_FOUND) {
			row.subscribed = false;
			err = 0;
		}
	}
	if (!err)
		err = create_row(txn, account, s, SLICE_LIT("INBOX"), STORE_USE_NONE, row.subscribed, &id);
	if (!err)
		err = quota_move(txn, account, mailbox, id);
	/* RFC 5464 section 4.1: its annotations go along, and stay too. */
	return err ? err : metadata_copy(txn, account, mailbox, id);
}

static int rename_in(struct store_txn *txn, uint32_t account, struct account_state *s, struct rename *r,
	struct slice new_name)
{
	struct name_row row;
	bool is_inbox = slice_is_str(r->old_name, "INBOX");
	int err = store_mailbox_normalise(new_name, r->arena, &r->new_name);

	if (!err && is_child(r->new_name, r->old_name) && !is_inbox)
		err = ERR_DENIED;
	if (!err) {
		err = find_name(txn, account, r->new_name, &row);
		err = err == ERR_NOT_FOUND ? 0 : err ? err : ERR_EXISTS;
	}
	if (!err && !is_inbox)
		err = plan_rename(txn, account, r);
	if (!err && s->mailboxes + STORE_MAILBOX_LEVELS_MAX > STORE_MAILBOXES_MAX)
		err = ERR_TOO_BIG;
	if (!err)
		err = create_parents(txn, account, s, r->new_name);
	if (!err && is_inbox)
		return rename_inbox(txn, account, s, r->mailbox, r->new_name);
	if (!err)
		err = move_name(txn, account, s, r->old_name, r->new_name);
	for (size_t i = 0; i < r->count && !err; i++)
		err = move_name(txn, account, s, r->children[i], child_name(r, r->children[i]));
	return err;
}

int store_mailbox_rename(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct slice new_name)
{
	struct rename r = {.mailbox = mailbox};
	struct folder_record folder;
	struct account_state s;
	struct arena arena;
	int err;

	arena_init(&arena, 0);
	r.arena = &arena;
	err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err) {
		r.old_name = arena_copy(&arena, folder.name);
		err = rename_in(txn, account, &s, &r, new_name);
	}
	if (!err)
		err = quota_renamed(txn, account);
	if (!err)
		err = state_put_account(txn, account, &s);
	arena_deinit(&arena);
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
		err = put_folder(txn, account, mailbox, &folder);
	if (!err)
		err = change_log_text(txn, account, &s, CHANGE_METADATA, mailbox, STORE_METADATA_SHARED,
			SLICE_LIT(STORE_METADATA_USE));
	return err ? err : state_put_account(txn, account, &s);
}

int store_mailbox_subscribe(struct store_txn *txn, uint32_t account, struct slice name, bool subscribed)
{
	struct account_state s;
	struct name_row row = {0};
	struct arena arena;
	struct slice stored;
	int err;

	arena_init(&arena, 0);
	err = store_mailbox_normalise(name, &arena, &stored);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err) {
		err = get_name_row(txn, account, stored, &row);
		if (err == ERR_NOT_FOUND && subscribed)
			err = 0;
	}
	if (!err && !subscribed && !row.subscribed)
		err = ERR_NOT_FOUND;
	if (!err && row.subscribed != subscribed) {
		row.subscribed = subscribed;
		err = put_name_row(txn, account, stored, row);
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
		err = put_folder(txn, account, mailbox, folder);
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
