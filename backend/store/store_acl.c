/*
 * Two databases:
 *
 *	DB_ACL     account u32be | mailbox u32be -> 1 | entries: slot u8, account u32, rights u16, denied u16
 *	DB_SHARED  slot u8, account u32be of whom an entry names | account u32be | mailbox u32be -> nothing
 */
#include "backend/store/acl.h"

#include <string.h>

#include "backend/store/change.h"
#include "backend/store/mailbox.h"
#include "backend/store/metadata.h"
#include "common/base/mem.h"

#define VERSION 1
#define ENTRY 9
#define WHO 5

/* ---- letters ---- */

static const char letters[] = "lrswipkxtea";
#define DELETES (STORE_RIGHT_DELETE_MESSAGE | STORE_RIGHT_EXPUNGE)

int store_acl_parse(struct slice text, unsigned *rights_out)
{
	unsigned rights = 0;

	for (size_t i = 0; i < text.len; i++) {
		const char *at = text.p[i] ? strchr(letters, text.p[i]) : NULL;

		if (at)
			rights |= 1u << (at - letters);
		else if (text.p[i] == 'c')
			rights |= STORE_RIGHT_CREATE;
		else if (text.p[i] == 'd')
			rights |= DELETES;
		else
			return ERR_SYNTAX;
	}
	*rights_out = rights;
	return 0;
}

void store_acl_print(unsigned rights, struct buf *out)
{
	for (size_t i = 0; letters[i]; i++) {
		if (rights >> i & 1)
			buf_add_char(out, letters[i]);
	}
	if (rights & STORE_RIGHT_CREATE)
		buf_add_char(out, 'c');
	if (rights & DELETES)
		buf_add_char(out, 'd');
}

/* ---- rows ---- */

static char *put_who(char *p, struct store_who who)
{
	*p = (char)who.slot;
	bytes_put_u32be(p + 1, who.account);
	return p + WHO;
}

struct db_key acl_shared_key(struct store_who who, uint32_t account, uint32_t mailbox)
{
	struct db_key key = {.len = WHO + 8};
	char *p = put_who(key.bytes, who);

	bytes_put_u32be(p, account);
	bytes_put_u32be(p + 4, mailbox);
	return key;
}

int acl_unpack(struct slice value, struct store_acl_entry *entries, size_t *count_out)
{
	size_t count = 0;

	if (value.len < 1 || value.p[0] != VERSION || (value.len - 1) % ENTRY ||
		(value.len - 1) / ENTRY > STORE_ACL_ENTRIES_MAX)
		return ERR_CORRUPT;
	for (const char *p = value.p + 1; p < value.p + value.len; p += ENTRY) {
		struct store_acl_entry *e = &entries[count++];

		*e = (struct store_acl_entry){.who = {(uint8_t)p[0], bytes_get_u32(p + 1)},
			.rights = bytes_get_u16(p + 5),
			.denied = bytes_get_u16(p + 7)};
		if ((e->rights | e->denied) & ~STORE_RIGHTS_ALL || !(e->rights | e->denied))
			return ERR_CORRUPT;
	}
	*count_out = count;
	return 0;
}

int store_acl_get(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_acl_entry *entries,
	size_t *count_out)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	struct slice value;
	int err = db_get(txn, DB_ACL, db_key_view(&key), &value);

	*count_out = 0;
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	return acl_unpack(value, entries, count_out);
}

static int put(struct store_txn *txn, uint32_t account, uint32_t mailbox,
	const struct store_acl_entry *entries, size_t count)
{
	struct db_key key = db_key_u32_u32(account, mailbox);
	void *room;
	char *p;
	int err;

	if (count == 0)
		return db_drop(txn, DB_ACL, db_key_view(&key));
	err = db_reserve(txn, DB_ACL, db_key_view(&key), 1 + count * ENTRY, &room);
	if (err)
		return err;
	p = room;
	*p++ = VERSION;
	for (size_t i = 0; i < count; i++, p += ENTRY) {
		p[0] = (char)entries[i].who.slot;
		bytes_put_u32(p + 1, entries[i].who.account);
		bytes_put_u16(p + 5, entries[i].rights);
		bytes_put_u16(p + 7, entries[i].denied);
	}
	return 0;
}

static bool is_same(struct store_who a, struct store_who b)
{
	return a.slot == b.slot && a.account == b.account;
}

/* The rows of whom it names, or (account not 0) those of them that are one owner's. */
static struct slice shared_prefix(struct store_who who, uint32_t account, char room[WHO + 4])
{
	bytes_put_u32be(put_who(room, who), account);
	return slice_of(room, account ? WHO + 4 : WHO);
}

/* At most STORE_ACL_SHARED_MAX. */
static int count_shared(struct store_txn *txn, struct slice from, size_t *count_out)
{
	struct db_cursor c;
	size_t count = 0;
	int err = db_cursor_open(txn, DB_SHARED, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, from);
	for (; !err && count < STORE_ACL_SHARED_MAX && db_cursor_has_prefix(&c, from);
		err = db_cursor_next(&c))
		count++;
	db_cursor_close(&c);
	*count_out = count;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* For watchers, and for copies of the account that follow the log. One that is being imported has no record yet: its counters
 * are the import's, and nobody watches. */
static int log_change(struct store_txn *txn, uint32_t account, uint32_t mailbox)
{
	struct db_key key = db_key_u32(account);
	struct account_state s;
	struct slice record;
	int err = db_get(txn, DB_ACCOUNTS, db_key_view(&key), &record);

	if (err == ERR_NOT_FOUND)
		return 0;
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err)
		err = change_log(txn, account, &s, CHANGE_ACL, mailbox, NULL, 0);
	return err ? err : state_put_account(txn, account, &s);
}

/* Without the log; *is_changed_out: there is something to log. */
static int set(struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_acl_entry *entry,
	bool *is_changed_out)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX + 1];
	struct db_key shared = acl_shared_key(entry->who, account, mailbox);
	bool is_gone = !(entry->rights | entry->denied);
	struct folder_record folder;
	char room[WHO + 4];
	size_t count, at = 0, named = 0;
	int err = mailbox_get_folder(txn, account, mailbox, &folder);

	*is_changed_out = false;
	if (!err)
		err = store_acl_get(txn, account, mailbox, entries, &count);
	if (err)
		return err;
	while (at < count && !is_same(entries[at].who, entry->who))
		at++;
	if (at == count && is_gone)
		return 0;
	if (at == count && !is_gone) {
		/* "anyone" is many: all public folders of a back-end. */
		err = entry->who.account ? count_shared(txn, shared_prefix(entry->who, 0, room), &named) : 0;
		if (err)
			return err;
		if (count == STORE_ACL_ENTRIES_MAX || named >= STORE_ACL_SHARED_MAX)
			return ERR_TOO_BIG;
		count++;
	}
	entries[at] = *entry;
	if (is_gone)
		entries[at] = entries[--count];
	err = put(txn, account, mailbox, entries, count);
	if (!err)
		err = is_gone ? db_drop(txn, DB_SHARED, db_key_view(&shared))
			      : db_put(txn, DB_SHARED, db_key_view(&shared), slice_of(NULL, 0));
	*is_changed_out = !err;
	if (!err)
		db_note_shared(txn, entry->who.slot, entry->who.account);
	return err;
}

int store_acl_set(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_acl_entry *entry)
{
	bool is_changed;
	int err = set(txn, account, mailbox, entry, &is_changed);

	return err || !is_changed ? err : log_change(txn, account, mailbox);
}

int acl_put_imported(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, const struct store_acl_entry *entry)
{
	bool is_changed;

	return set(txn, account, mailbox, entry, &is_changed);
}

int store_acl_rights(struct store_txn *txn, uint32_t account, uint32_t mailbox, struct store_who who,
	bool is_near, unsigned *rights_out)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	unsigned rights = 0, denied = 0;
	size_t count;
	int err = store_acl_get(txn, account, mailbox, entries, &count);

	for (size_t i = 0; i < count && !err; i++) {
		if (!is_same(entries[i].who, who) && !(entries[i].who.account == 0 && is_near))
			continue;
		rights |= entries[i].rights;
		denied |= entries[i].denied;
	}
	if (!err)
		*rights_out = rights & ~denied;
	return err;
}

/* ---- with mailboxes ---- */

int acl_inherit(struct store_txn *txn, uint32_t account, uint32_t parent, uint32_t mailbox)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	size_t count;
	int err = store_acl_get(txn, account, parent, entries, &count);

	if (err || !count)
		return err;
	err = put(txn, account, mailbox, entries, count);
	for (size_t i = 0; i < count && !err; i++) {
		struct db_key key = acl_shared_key(entries[i].who, account, mailbox);

		err = db_put(txn, DB_SHARED, db_key_view(&key), slice_of(NULL, 0));
	}
	return err;
}

int acl_drop(struct store_txn *txn, uint32_t account, uint32_t mailbox)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	size_t count;
	int err = store_acl_get(txn, account, mailbox, entries, &count);

	if (err || !count)
		return err;
	for (size_t i = 0; i < count && !err; i++) {
		struct db_key key = acl_shared_key(entries[i].who, account, mailbox);

		err = db_drop(txn, DB_SHARED, db_key_view(&key));
	}
	return err ? err : put(txn, account, mailbox, NULL, 0);
}

int store_acl_shared(struct store_txn *txn, struct store_who who, struct arena *arena,
	struct store_acl_shared **shared_out, size_t *count_out)
{
	return store_acl_shared_of(txn, who, 0, arena, shared_out, count_out);
}

int store_acl_shared_of(struct store_txn *txn, struct store_who who, uint32_t account, struct arena *arena,
	struct store_acl_shared **shared_out, size_t *count_out)
{
	char room[WHO + 4];
	struct slice from = shared_prefix(who, account, room);
	struct store_acl_shared *shared = NULL;
	struct db_cursor c;
	size_t count = 0, n = 0;
	int err = count_shared(txn, from, &count);

	if (!err && count) {
		shared = arena_calloc(arena, count, sizeof(*shared));
		if (!shared)
			return ERR_TOO_BIG;
		err = db_cursor_open(txn, DB_SHARED, &c);
		if (err)
			return err;
		err = db_cursor_seek(&c, from);
		while (!err && n < count && db_cursor_has_prefix(&c, from)) {
			if (c.key.len != WHO + 8) {
				err = ERR_CORRUPT;
				break;
			}
			shared[n++] = (struct store_acl_shared){
				bytes_get_u32be(c.key.p + WHO), bytes_get_u32be(c.key.p + WHO + 4)};
			err = db_cursor_next(&c);
		}
		db_cursor_close(&c);
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	if (!err) {
		*shared_out = shared;
		*count_out = n;
	}
	return err;
}

/* ---- somebody has gone, or has another number ---- */

/* The first row from `from` on in the index of whom it names. ERR_NOT_FOUND: none. */
static int find_shared(struct store_txn *txn, struct store_who who, struct db_key from, uint32_t *account_out,
	uint32_t *mailbox_out)
{
	char prefix[WHO];
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_SHARED, &c);

	if (err)
		return err;
	(void)put_who(prefix, who);
	err = db_cursor_seek(&c, db_key_view(&from));
	if (!err && !db_cursor_has_prefix(&c, slice_of(prefix, sizeof(prefix))))
		err = ERR_NOT_FOUND;
	if (!err && c.key.len != WHO + 8)
		err = ERR_CORRUPT;
	*account_out = err ? 0 : bytes_get_u32be(c.key.p + WHO);
	*mailbox_out = err ? 0 : bytes_get_u32be(c.key.p + WHO + 4);
	db_cursor_close(&c);
	return err;
}

struct walk {
	struct store_txn *txn;
	struct store_who who;
	const struct store_who *to; /* NULL: what is his goes */
	size_t limit;
	struct store_acl_at *at;
};

/* His entries in ACLs; they go. */
static int forget_entries(struct walk *w)
{
	int err = 0;

	while (!err && w->limit) {
		struct store_acl_entry none = {.who = w->who};
		uint32_t account, mailbox;
		struct db_key key;

		err = find_shared(w->txn, w->who, acl_shared_key(w->who, 0, 0), &account, &mailbox);
		if (err)
			break;
		err = store_acl_set(w->txn, account, mailbox, &none);
		/* Gone, or held: it has no log that takes this. */
		if (err == ERR_NOT_FOUND || err == ERR_NOT_NOW)
			err = 0;
		/* An index row without an entry goes too. */
		key = acl_shared_key(w->who, account, mailbox);
		if (!err)
			err = db_drop(w->txn, DB_SHARED, db_key_view(&key));
		w->limit--;
	}
	return err;
}

static int copy_entry(struct walk *w, uint32_t account, uint32_t mailbox)
{
	struct store_acl_entry entries[STORE_ACL_ENTRIES_MAX];
	size_t count = 0;
	int err = store_acl_get(w->txn, account, mailbox, entries, &count);

	for (size_t i = 0; i < count && !err; i++) {
		struct store_acl_entry entry = {*w->to, entries[i].rights, entries[i].denied};

		if (!is_same(entries[i].who, w->who))
			continue;
		err = store_acl_set(w->txn, account, mailbox, &entry);
		break;
	}
	/* Gone, held, or full meanwhile: its owner's affair. */
	return err == ERR_NOT_FOUND || err == ERR_TOO_BIG || err == ERR_NOT_NOW ? 0 : err;
}

/* The other number gets the same rights; the entries of the first go when it is forgotten. */
static int copy_entries(struct walk *w)
{
	int err = 0;

	while (!err && w->limit) {
		struct db_key from = acl_shared_key(w->who, w->at->account, w->at->mailbox);

		err = find_shared(w->txn, w->who, from, &w->at->account, &w->at->mailbox);
		if (err)
			break;
		err = copy_entry(w, w->at->account, w->at->mailbox);
		w->at->mailbox++;
		w->limit--;
	}
	return err;
}

/* What he has seen, mailbox by mailbox. */
static int walk_seen(struct walk *w)
{
	struct db_cursor c;
	int err = 0;

	while (!err && w->limit) {
		struct db_key key = db_key_u32(w->at->mailbox);

		err = db_cursor_open(w->txn, DB_SEEN, &c);
		if (err)
			return err;
		err = db_cursor_seek(&c, db_key_view(&key));
		if (!err && c.key.len < 4)
			err = ERR_CORRUPT;
		if (!err)
			w->at->mailbox = bytes_get_u32be(c.key.p);
		db_cursor_close(&c);
		w->limit--;
		if (!err)
			err = seen_move(w->txn, w->at->mailbox, w->who, w->to, &w->limit);
		if (!err && w->limit)
			w->at->mailbox++;
	}
	return err;
}

/* His annotations of mailboxes that are shared, one after the other. */
static int walk_annotations(struct walk *w)
{
	uint64_t user = store_metadata_user(w->who.slot, w->who.account);
	uint64_t to = w->to ? store_metadata_user(w->to->slot, w->to->account) : 0;
	struct db_cursor c;
	int err = 0;

	while (!err && w->limit) {
		struct db_key key = db_key_u32_u32(w->at->account, w->at->mailbox);

		err = db_cursor_open(w->txn, DB_ACL, &c);
		if (err)
			return err;
		err = db_cursor_seek(&c, db_key_view(&key));
		if (!err && c.key.len != 8)
			err = ERR_CORRUPT;
		if (!err) {
			w->at->account = bytes_get_u32be(c.key.p);
			w->at->mailbox = bytes_get_u32be(c.key.p + 4);
		}
		db_cursor_close(&c);
		w->limit--;
		if (!err)
			err = metadata_move(w->txn, w->at->account, w->at->mailbox, user, to, &w->limit);
		if (!err && w->limit)
			w->at->mailbox++;
	}
	return err;
}

static int walk(struct walk *w, int (*const *parts)(struct walk *w), unsigned count, bool *done_out)
{
	int err = 0;

	while (!err && w->limit && w->at->part < count) {
		err = parts[w->at->part](w);
		if (err == ERR_NOT_FOUND) {
			*w->at = (struct store_acl_at){.part = w->at->part + 1};
			err = 0;
		}
	}
	*done_out = !err && w->at->part == count;
	return err;
}

int store_acl_forget(
	struct store_txn *txn, struct store_who who, size_t limit, struct store_acl_at *at, bool *done_out)
{
	/* Annotations first: they are found by the ACLs. */
	static int (*const parts[])(struct walk * w) = {walk_annotations, forget_entries, walk_seen};
	struct walk w = {txn, who, NULL, limit, at};

	return walk(&w, parts, ARRAY_LEN(parts), done_out);
}

int store_acl_hand_over(struct store_txn *txn, struct store_who who, struct store_who to, size_t limit,
	struct store_acl_at *at, bool *done_out)
{
	/* Rights last: nothing of his is written anew before. */
	static int (*const parts[])(struct walk * w) = {walk_annotations, walk_seen, copy_entries};
	struct walk w = {txn, who, &to, limit, at};

	return walk(&w, parts, ARRAY_LEN(parts), done_out);
}

static struct db_key intent_key(uint32_t account)
{
	struct db_key key = {.len = 9};

	key.bytes[0] = INTENT_FORGET_ACCOUNT;
	bytes_put_u32be(key.bytes + 1, account);
	bytes_put_u32be(key.bytes + 5, 0);
	return key;
}

int store_acl_gone(struct store_txn *txn, uint32_t *accounts, size_t room, size_t *count_out)
{
	struct db_key from = intent_key(0), prefix = {.bytes = {INTENT_FORGET_ACCOUNT}, .len = 1};
	struct db_cursor c;
	size_t count = 0;
	int err = db_cursor_open(txn, DB_INTENTS, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&from));
	while (!err && count < room && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		accounts[count++] = bytes_get_u32be(c.key.p + 1);
		err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	*count_out = count;
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_acl_forgotten(struct store_txn *txn, uint32_t account)
{
	struct db_key key = intent_key(account);

	return db_drop(txn, DB_INTENTS, db_key_view(&key));
}
