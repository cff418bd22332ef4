/*
 *	key    account u32be | mailbox u32be | user u64be | name       value  1 | octets
 *	key    account u32be                                           value  1 | octets in all u64
 *
 * The second row is what the account's entries weigh; it sorts before them. No row: nothing.
 */
#include "backend/store/store_metadata.h"

#include "backend/store/change.h"
#include "backend/store/metadata.h"

#define RECORD 1
#define HEAD 16
#define ENTRY_WEIGHT 64

struct key {
	char bytes[HEAD + STORE_METADATA_NAME_MAX];
	size_t len;
};

static struct slice view(const struct key *k)
{
	return slice_of(k->bytes, k->len);
}

static struct key make_key(uint32_t account, uint32_t mailbox, uint64_t user, struct slice name)
{
	struct key k = {.len = HEAD + name.len};

	bytes_put_u32be(k.bytes, account);
	bytes_put_u32be(k.bytes + 4, mailbox);
	bytes_put_u64be(k.bytes + 8, user);
	if (name.len)
		memcpy(k.bytes + HEAD, name.p, name.len);
	return k;
}

static int read_value(struct slice stored, struct slice *value_out)
{
	if (stored.len < 1 || stored.p[0] != RECORD)
		return ERR_CORRUPT;
	*value_out = slice_from(stored, 1);
	return 0;
}

static uint64_t weigh(size_t name, size_t value)
{
	return name + value + ENTRY_WEIGHT;
}

/* ---- what an account has in all ---- */

static int get_weight(struct store_txn *txn, uint32_t account, uint64_t *weight_out)
{
	struct db_key key = db_key_u32(account);
	struct slice value;
	int err = db_get(txn, DB_METADATA, db_key_view(&key), &value);

	if (err == ERR_NOT_FOUND) {
		*weight_out = 0;
		return 0;
	}
	if (!err && (value.len != 9 || value.p[0] != RECORD))
		err = ERR_CORRUPT;
	if (!err)
		*weight_out = bytes_get_u64(value.p + 1);
	return err;
}

static int put_weight(struct store_txn *txn, uint32_t account, uint64_t weight)
{
	struct db_key key = db_key_u32(account);
	char value[9] = {RECORD};

	if (weight == 0)
		return db_drop(txn, DB_METADATA, db_key_view(&key));
	bytes_put_u64(value + 1, weight);
	return db_put(txn, DB_METADATA, db_key_view(&key), slice_of(value, sizeof(value)));
}

static int change_weight(struct store_txn *txn, uint32_t account, uint64_t less, uint64_t more)
{
	uint64_t weight;
	int err = get_weight(txn, account, &weight);

	if (!err && weight < less)
		err = ERR_CORRUPT;
	if (!err && more > less && weight - less + more > STORE_METADATA_ACCOUNT_MAX)
		err = ERR_TOO_BIG;
	return err ? err : put_weight(txn, account, weight - less + more);
}

/* ---- reading ---- */

int store_metadata_get(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, struct slice *value_out)
{
	struct slice stored;
	struct key key;
	int err;

	if (name.len == 0 || name.len > STORE_METADATA_NAME_MAX)
		return ERR_NOT_FOUND;
	key = make_key(account, mailbox, user, name);
	err = db_get(txn, DB_METADATA, view(&key), &stored);
	return err ? err : read_value(stored, value_out);
}

/* Calls fn for each row with this prefix. */
typedef int row_fn(void *arg, const struct db_cursor *c);
static int each_row(struct store_txn *txn, struct slice prefix, row_fn *fn, void *arg)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_METADATA, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, prefix);
	while (!err && db_cursor_has_prefix(&c, prefix)) {
		err = fn(arg, &c);
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

struct each {
	struct slice name;
	store_metadata_fn *fn;
	void *arg;
};

static int each_entry(void *arg, const struct db_cursor *c)
{
	const struct each *e = arg;
	struct slice name = slice_from(c->key, HEAD), value;
	int err = read_value(c->value, &value);

	/* "/a" has "/a/b" below it, and not "/ab". */
	if (!err && e->name.len && name.len > e->name.len && name.p[e->name.len] != '/')
		return 0;
	return err ? err : e->fn(e->arg, name, value);
}

int store_metadata_each(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, store_metadata_fn *fn, void *arg)
{
	struct each each = {name, fn, arg};
	struct key prefix;

	if (name.len > STORE_METADATA_NAME_MAX)
		return 0;
	prefix = make_key(account, mailbox, user, name);
	return each_row(txn, view(&prefix), each_entry, &each);
}

struct all {
	store_metadata_all_fn *fn;
	void *arg;
};

static int each_of_all(void *arg, const struct db_cursor *c)
{
	const struct all *a = arg;
	struct slice value;
	int err;

	if (c->key.len <= HEAD)
		return 0;
	err = read_value(c->value, &value);
	return err ? err
		   : a->fn(a->arg, bytes_get_u32be(c->key.p + 4), bytes_get_u64be(c->key.p + 8),
			     slice_from(c->key, HEAD), value);
}

int store_metadata_all(struct store_txn *txn, uint32_t account, store_metadata_all_fn *fn, void *arg)
{
	struct db_key prefix = db_key_u32(account);
	struct all all = {fn, arg};

	return each_row(txn, db_key_view(&prefix), each_of_all, &all);
}

/* ---- writing ---- */

struct room {
	size_t count;
	uint64_t weight;
};

static int count_row(void *arg, const struct db_cursor *c)
{
	struct room *room = arg;

	room->count++;
	room->weight += weigh(c->key.len - HEAD, c->value.len - 1);
	return 0;
}

/* less: what the entry weighs now, 0: it is new. */
static int check_room(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user, uint64_t less,
	uint64_t more)
{
	bool is_guest =
		user != STORE_METADATA_SHARED && user != store_metadata_user(store_txn_slot(txn), account);
	struct key prefix = make_key(account, mailbox, user, slice_of(NULL, 0));
	struct room room = {0};
	uint64_t weight = 0;
	int err = each_row(txn, view(&prefix), count_row, &room);

	if (!err && is_guest)
		err = get_weight(txn, account, &weight);
	if (err)
		return err;
	if (is_guest && more > less &&
		(room.weight - less + more > STORE_METADATA_GUEST_MAX ||
			weight - less + more > STORE_METADATA_GUESTS_MAX))
		return ERR_TOO_BIG;
	return less || room.count < STORE_METADATA_ENTRIES_MAX ? 0 : ERR_TOO_BIG;
}

static int put_entry(struct store_txn *txn, const struct key *key, struct slice value)
{
	void *room;
	int err = db_reserve(txn, DB_METADATA, view(key), value.len + 1, &room);

	if (err)
		return err;
	*(char *)room = RECORD;
	if (value.len)
		memcpy((char *)room + 1, value.p, value.len);
	return 0;
}

static int log_change(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, uint64_t *modseq_out)
{
	struct account_state s;
	int err = state_get_account(txn, account, &s);

	if (!err)
		err = change_log_text(txn, account, &s, CHANGE_METADATA, mailbox, user, name);
	if (!err)
		err = state_put_account(txn, account, &s);
	if (!err && modseq_out)
		*modseq_out = s.modseq;
	return err;
}

/* Takes the old value's size out of the map before the row changes. SIZE_MAX: there was none. */
static int old_size(struct store_txn *txn, const struct key *key, size_t *size_out)
{
	struct slice stored, value;
	int err = db_get(txn, DB_METADATA, view(key), &stored);

	if (err == ERR_NOT_FOUND) {
		*size_out = SIZE_MAX;
		return 0;
	}
	if (!err)
		err = read_value(stored, &value);
	if (!err)
		*size_out = value.len;
	return err;
}

/* Without the log. is_changed_out: it is another one than before. */
static int set(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user, struct slice name,
	struct slice value, bool *is_changed_out)
{
	struct folder_record folder;
	struct key key;
	uint64_t less, more;
	size_t old;
	int err = 0;

	*is_changed_out = false;
	if (name.len == 0 || name.len > STORE_METADATA_NAME_MAX || value.len > STORE_METADATA_VALUE_MAX)
		return ERR_TOO_BIG;
	key = make_key(account, mailbox, user, name);
	if (mailbox)
		err = mailbox_get_folder(txn, account, mailbox, &folder);
	if (!err)
		err = old_size(txn, &key, &old);
	if (err || (!value.p && old == SIZE_MAX))
		return err;
	less = old == SIZE_MAX ? 0 : weigh(name.len, old);
	more = value.p ? weigh(name.len, value.len) : 0;
	if (value.p)
		err = check_room(txn, account, mailbox, user, less, more);
	if (!err)
		err = change_weight(txn, account, less, more);
	if (!err)
		err = value.p ? put_entry(txn, &key, value) : db_drop(txn, DB_METADATA, view(&key));
	*is_changed_out = !err;
	return err;
}

int store_metadata_set(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, struct slice value, uint64_t *modseq_out)
{
	bool is_changed;
	int err = set(txn, account, mailbox, user, name, value, &is_changed);

	if (modseq_out)
		*modseq_out = 0;
	return err || !is_changed ? err : log_change(txn, account, mailbox, user, name, modseq_out);
}

int metadata_put_imported(struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t user,
	struct slice name, struct slice value)
{
	bool is_changed;

	return set(txn, account, mailbox, user, name, value, &is_changed);
}

/* ---- with the mailbox ---- */

int metadata_copy(struct store_txn *txn, uint32_t account, uint32_t from, uint32_t to)
{
	struct db_key prefix = db_key_u32_u32(account, from);
	struct db_cursor c;
	struct key key = {0};
	uint64_t more = 0;
	int err = db_cursor_open(txn, DB_METADATA, &c);

	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	while (!err && db_cursor_has_prefix(&c, db_key_view(&prefix))) {
		struct slice value;

		/* The cursor's views die with the write: the value is copied by db_put() before. */
		if (c.key.len <= HEAD || c.key.len > sizeof(key.bytes))
			err = ERR_CORRUPT;
		if (!err)
			err = read_value(c.value, &value);
		if (err)
			break;
		memcpy(key.bytes, c.key.p, c.key.len);
		key.len = c.key.len;
		more += weigh(key.len - HEAD, value.len);
		bytes_put_u32be(key.bytes + 4, to);
		{
			struct buf copy = {0};

			buf_add_slice(&copy, c.value);
			err = db_put(txn, DB_METADATA, view(&key), buf_view(&copy));
			buf_deinit(&copy);
		}
		bytes_put_u32be(key.bytes + 4, from);
		if (!err)
			err = db_cursor_seek(&c, view(&key));
		if (!err)
			err = db_cursor_next(&c);
	}
	db_cursor_close(&c);
	if (err == ERR_NOT_FOUND)
		err = 0;
	if (!err && more)
		err = change_weight(txn, account, 0, more);
	/* Beyond the limit some rows are there already: none of it may stay. */
	return err == ERR_TOO_BIG ? db_fail(txn, err) : err;
}

/* The row at hand, which goes, under another user; *less: what it weighed, if it is not put. */
static int move_row(struct store_txn *txn, struct db_cursor *c, uint64_t to, uint64_t *less)
{
	struct buf copy = {0};
	struct slice there;
	struct key key;
	int err;

	if (c->key.len <= HEAD || c->key.len > sizeof(key.bytes) || c->value.len < 1)
		return ERR_CORRUPT;
	memcpy(key.bytes, c->key.p, c->key.len);
	key.len = c->key.len;
	bytes_put_u64be(key.bytes + 8, to);
	*less += weigh(key.len - HEAD, c->value.len - 1);
	buf_add_slice(&copy, c->value);
	err = db_cursor_delete(c);
	if (!err && to && db_get(txn, DB_METADATA, view(&key), &there) == ERR_NOT_FOUND) {
		err = db_put(txn, DB_METADATA, view(&key), buf_view(&copy));
		*less -= weigh(key.len - HEAD, buf_len(&copy) - 1);
	}
	buf_deinit(&copy);
	return err;
}

int metadata_move(
	struct store_txn *txn, uint32_t account, uint32_t mailbox, uint64_t from, uint64_t to, size_t *limit)
{
	struct key prefix = make_key(account, mailbox, from, slice_of(NULL, 0));
	uint64_t less = 0;
	int err = 0;

	while (!err && *limit) {
		struct db_cursor c;

		err = db_cursor_open(txn, DB_METADATA, &c);
		if (err)
			return err;
		err = db_cursor_seek(&c, view(&prefix));
		if (!err && !db_cursor_has_prefix(&c, view(&prefix)))
			err = ERR_NOT_FOUND;
		if (!err)
			err = move_row(txn, &c, to, &less);
		db_cursor_close(&c);
		*limit -= !err;
	}
	if (err && err != ERR_NOT_FOUND)
		return err;
	return less ? change_weight(txn, account, less, 0) : 0;
}

int metadata_reap(struct store_txn *txn, uint32_t account, uint32_t mailbox, size_t *budget)
{
	struct db_key prefix = db_key_u32_u32(account, mailbox);
	struct db_cursor c;
	uint64_t less = 0, weight;
	int err = *budget ? db_cursor_open(txn, DB_METADATA, &c) : 0;

	if (err || !*budget)
		return err;
	while (*budget) {
		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (err || !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			break;
		if (c.key.len > HEAD && c.value.len)
			less += weigh(c.key.len - HEAD, c.value.len - 1);
		err = db_cursor_delete(&c);
		--*budget;
		if (err)
			break;
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	err = less ? get_weight(txn, account, &weight) : 0;
	/* The account's own removal may have taken the sum before. */
	return err || !less ? err : put_weight(txn, account, weight > less ? weight - less : 0);
}

/* ---- the check, the repair ---- */

bool metadata_is_row(struct slice key, struct slice value)
{
	if (value.len < 1 || value.p[0] != RECORD)
		return false;
	return key.len == 4 ? value.len == 9
			    : key.len > HEAD && key.len <= HEAD + STORE_METADATA_NAME_MAX &&
				      value.len <= STORE_METADATA_VALUE_MAX + 1;
}

static int weigh_row(void *arg, const struct db_cursor *c)
{
	if (c->key.len > HEAD && c->value.len)
		*(uint64_t *)arg += weigh(c->key.len - HEAD, c->value.len - 1);
	return 0;
}

int metadata_recount(struct store_txn *txn, uint32_t account, bool *changed_out)
{
	struct db_key prefix = db_key_u32(account);
	uint64_t said = 0, counted = 0;
	int err = each_row(txn, db_key_view(&prefix), weigh_row, &counted);

	*changed_out = false;
	if (err)
		return err;
	err = get_weight(txn, account, &said);
	if (err && err != ERR_CORRUPT)
		return err;
	if (err == 0 && said == counted)
		return 0;
	*changed_out = true;
	return put_weight(txn, account, counted);
}

struct sum {
	struct store_txn *txn;
	uint32_t account, known;
	bool has_known;
	uint64_t weight, stored;
	void (*report)(void *arg, uint32_t account, uint32_t mailbox, const char *what);
	void *arg;
};

static bool has_mailbox(struct sum *s, uint32_t mailbox)
{
	struct db_key key = db_key_u32_u32(s->account, mailbox);
	struct slice value;
	char intent[9] = {INTENT_DROP_MAILBOX};

	if (db_get(s->txn, DB_FOLDERS, db_key_view(&key), &value) == 0)
		return true;
	memcpy(intent + 1, key.bytes, 8);
	return db_get(s->txn, DB_INTENTS, slice_of(intent, sizeof(intent)), &value) == 0;
}

static int check_row(void *arg, const struct db_cursor *c)
{
	struct sum *s = arg;
	uint32_t mailbox;

	if (c->key.len == 4)
		return 0;
	if (!metadata_is_row(c->key, c->value)) {
		s->report(s->arg, s->account, 0, "annotation is damaged");
		return 0;
	}
	mailbox = bytes_get_u32be(c->key.p + 4);
	s->weight += weigh(c->key.len - HEAD, c->value.len - 1);
	if (mailbox && !(s->has_known && s->known == mailbox)) {
		s->known = mailbox;
		s->has_known = true;
		if (!has_mailbox(s, mailbox))
			s->report(s->arg, s->account, mailbox, "annotations of no mailbox");
	}
	return 0;
}

int metadata_check(struct store_txn *txn, uint32_t account,
	void (*report)(void *arg, uint32_t account, uint32_t mailbox, const char *what), void *arg)
{
	struct sum s = {.txn = txn, .account = account, .report = report, .arg = arg};
	struct db_key prefix = db_key_u32(account);
	int err = get_weight(txn, account, &s.stored);

	if (!err)
		err = each_row(txn, db_key_view(&prefix), check_row, &s);
	if (!err && s.weight != s.stored)
		report(arg, account, 0, "sum of annotations does not agree");
	return err;
}
