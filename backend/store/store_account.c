/*
 * Accounts on disk: the record under the account's id, one row per alias behind it, one row per name.
 * Counters stand apart (DB_STATE), since they change with every message.
 */
#include "backend/store/store_account.h"

#include "backend/store/mailbox.h"
#include "backend/store/names.h"
#include "common/base/clock.h"

static struct slice alias_key(uint32_t account, struct slice name, char *room)
{
	bytes_put_u32be(room, account);
	memcpy(room + 4, name.p, name.len);
	return slice_of(room, name.len + 4);
}

unsigned store_account_choose_slot(struct store *store)
{
	unsigned best = 0;

	for (unsigned i = 1; i < store->slot_count; i++)
		if (store->slots[i].account_count < store->slots[best].account_count)
			best = i;
	return best;
}

static int get_record(struct store_txn *txn, uint32_t account, struct account_record *r)
{
	struct db_key key = db_key_u32(account);
	struct slice value;
	int err = db_get(txn, DB_ACCOUNTS, db_key_view(&key), &value);

	return err ? err : record_unpack_account(value, r);
}

static int put_record(struct store_txn *txn, uint32_t account, const struct account_record *r)
{
	struct effect put = {.kind = EFFECT_ACCOUNT,
		.account = account,
		.flags = r->flags,
		.bytes = r->bytes_limit,
		.count = r->count_limit};
	struct db_key key = db_key_u32(account);
	struct buf value = {0};
	int err;

	db_effect(txn, &put, r->address);
	record_pack_account(r, &value);
	err = db_put(txn, DB_ACCOUNTS, db_key_view(&key), buf_view(&value));
	buf_deinit(&value);
	return err;
}

static int put_name(struct store_txn *txn, struct slice name, uint32_t account)
{
	char value[4];

	bytes_put_u32(value, account);
	return db_put(txn, DB_NAMES, name, slice_of(value, sizeof(value)));
}

/* Taken on disk in this slot (also earlier in this transaction), or in memory by any slot. */
static int check_free(struct store_txn *txn, struct slice name)
{
	struct slice value;
	int err = db_get(txn, DB_NAMES, name, &value);

	if (err == 0 || names_has(txn->slot->store->names, name))
		return ERR_EXISTS;
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int make_default_mailboxes(struct store_txn *txn, uint32_t account)
{
	static const struct {
		struct slice name;
		enum store_use use;
	} rows[] = {
		{SLICE_LIT("INBOX"), STORE_USE_NONE},
		{SLICE_LIT("Drafts"), STORE_USE_DRAFTS},
		{SLICE_LIT("Sent"), STORE_USE_SENT},
		{SLICE_LIT("Junk"), STORE_USE_JUNK},
		{SLICE_LIT("Trash"), STORE_USE_TRASH},
		{SLICE_LIT("Archive"), STORE_USE_ARCHIVE},
	};
	struct account_state s = {0};
	uint32_t mailbox;
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows) && !err; i++)
		err = mailbox_create_default(txn, account, &s, rows[i].name, rows[i].use, &mailbox);
	return err ? err : state_put_account(txn, account, &s);
}

int store_account_create(struct store_txn *txn, const struct store_account_new *a, uint32_t *account_out)
{
	struct account_record r = {.password = a->password,
		.bytes_limit = a->bytes_limit,
		.count_limit = a->count_limit,
		.created = clock_wall_s(),
		.flags = a->flags};
	char room[STORE_ADDRESS_MAX];
	uint32_t id;
	int err = names_normalise(a->address, room, &r.address);

	if (!err && a->password.len > STORE_PASSWORD_MAX)
		err = ERR_TOO_BIG;
	if (!err)
		err = check_free(txn, r.address);
	if (!err)
		err = db_meta_next(txn, "last_account", &id);
	if (!err)
		err = put_record(txn, id, &r);
	if (!err)
		err = put_name(txn, r.address, id);
	if (!err)
		err = make_default_mailboxes(txn, id);
	if (err)
		return err;
	db_note(txn, id, 0, 0);
	*account_out = id;
	return 0;
}

/* Removes the rows of all aliases. */
static int remove_aliases(struct store_txn *txn, uint32_t account)
{
	struct db_key prefix = db_key_u32(account);
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_ACCOUNTS, &c);

	if (err)
		return err;
	for (;;) {
		char name[STORE_ADDRESS_MAX + 4];

		err = db_cursor_seek(&c, db_key_view(&prefix));
		if (err || !db_cursor_has_prefix(&c, db_key_view(&prefix)))
			break;
		if (c.key.len > sizeof(name)) {
			err = ERR_CORRUPT;
			break;
		}
		memcpy(name, c.key.p, c.key.len);
		if (c.key.len > 4)
			err = db_drop(txn, DB_NAMES, slice_of(name + 4, c.key.len - 4));
		if (!err)
			err = db_drop(txn, DB_ACCOUNTS, slice_of(name, c.key.len));
		if (err)
			break;
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_account_remove(struct store_txn *txn, uint32_t account)
{
	struct effect gone = {.kind = EFFECT_ACCOUNT_GONE, .account = account};
	struct account_record r;
	char room[STORE_ADDRESS_MAX];
	struct slice name;
	int err = get_record(txn, account, &r);

	if (!err)
		err = names_normalise(r.address, room, &name);
	if (err)
		return err;
	err = db_drop(txn, DB_NAMES, name);
	if (!err)
		err = remove_aliases(txn, account);
	if (!err)
		err = mailbox_put_intent(txn, INTENT_DROP_ACCOUNT, account, 0, 0);
	db_effect(txn, &gone, slice_of(NULL, 0));
	db_note(txn, account, 0, UINT64_MAX);
	return err;
}

/* Changes of the record: get, copy the texts out of the map, set, put. */
struct change {
	const struct slice *password;
	const uint64_t *limits; /* bytes, count */
	const uint32_t *flags;
};

static int change_record(struct store_txn *txn, uint32_t account, const struct change *change)
{
	char address[STORE_ADDRESS_MAX], password[STORE_PASSWORD_MAX];
	struct account_record r;
	int err = get_record(txn, account, &r);

	if (err)
		return err;
	if (r.address.len > sizeof(address) || r.password.len > sizeof(password))
		return ERR_CORRUPT;
	memcpy(address, r.address.p, r.address.len);
	r.address.p = address;
	if (r.password.len)
		memcpy(password, r.password.p, r.password.len);
	r.password.p = password;
	if (change->password)
		r.password = *change->password;
	if (change->limits) {
		r.bytes_limit = change->limits[0];
		r.count_limit = change->limits[1];
	}
	if (change->flags)
		r.flags = *change->flags;
	db_note(txn, account, 0, 0);
	return put_record(txn, account, &r);
}

int store_account_set_password(struct store_txn *txn, uint32_t account, struct slice password)
{
	struct change change = {.password = &password};

	return password.len > STORE_PASSWORD_MAX ? ERR_TOO_BIG : change_record(txn, account, &change);
}

int store_account_set_limits(
	struct store_txn *txn, uint32_t account, uint64_t bytes_limit, uint64_t count_limit)
{
	uint64_t limits[2] = {bytes_limit, count_limit};
	struct change change = {.limits = limits};

	return change_record(txn, account, &change);
}

int store_account_set_flags(struct store_txn *txn, uint32_t account, uint32_t flags)
{
	struct change change = {.flags = &flags};

	return change_record(txn, account, &change);
}

int store_account_add_alias(struct store_txn *txn, uint32_t account, struct slice address)
{
	struct effect add = {.kind = EFFECT_NAME, .account = account};
	char room[STORE_ADDRESS_MAX], key[STORE_ADDRESS_MAX + 4];
	struct account_record r;
	struct account_state s;
	struct slice name;
	int err = names_normalise(address, room, &name);

	if (!err)
		err = get_record(txn, account, &r);
	if (!err)
		err = check_free(txn, name);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err && s.aliases >= STORE_ALIASES_MAX)
		err = ERR_TOO_BIG;
	if (err)
		return err;
	s.aliases++;
	err = state_put_account(txn, account, &s);
	if (!err)
		err = put_name(txn, name, account);
	if (!err)
		err = db_put(txn, DB_ACCOUNTS, alias_key(account, name, key), slice_of(NULL, 0));
	db_effect(txn, &add, name);
	return err;
}

int store_account_remove_alias(struct store_txn *txn, uint32_t account, struct slice address)
{
	struct effect gone = {.kind = EFFECT_NAME_GONE, .account = account};
	char room[STORE_ADDRESS_MAX], key[STORE_ADDRESS_MAX + 4];
	struct account_record r;
	struct account_state s;
	struct slice name, value;
	int err = names_normalise(address, room, &name);

	if (!err)
		err = get_record(txn, account, &r);
	if (!err && slice_is_equal(name, r.address))
		err = ERR_DENIED;
	if (!err)
		err = db_get(txn, DB_ACCOUNTS, alias_key(account, name, key), &value);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (err)
		return err;
	s.aliases -= s.aliases > 0;
	err = state_put_account(txn, account, &s);
	if (!err)
		err = db_drop(txn, DB_NAMES, name);
	if (!err)
		err = db_drop(txn, DB_ACCOUNTS, alias_key(account, name, key));
	db_effect(txn, &gone, name);
	return err;
}

int store_account_get(struct store_txn *txn, uint32_t account, struct store_account_record *out)
{
	struct account_record r;
	struct account_state s;
	int err = get_record(txn, account, &r);

	if (!err)
		err = state_get_account(txn, account, &s);
	if (err)
		return err;
	*out = (struct store_account_record){r.address, r.password, r.bytes_limit, r.count_limit, s.bytes,
		s.count, s.modseq, r.created, r.flags};
	return 0;
}

int store_account_aliases(struct store_txn *txn, uint32_t account, struct arena *arena,
	struct slice **names_out, size_t *count_out)
{
	struct db_key prefix = db_key_u32(account);
	struct account_state s;
	struct db_cursor c;
	struct slice *names;
	size_t count = 0;
	int err = state_get_account(txn, account, &s);

	if (err)
		return err;
	names = arena_calloc(arena, (size_t)s.aliases + 1, sizeof(*names));
	if (!names)
		return ERR_TOO_BIG;
	err = db_cursor_open(txn, DB_ACCOUNTS, &c);
	if (err)
		return err;
	err = db_cursor_seek(&c, db_key_view(&prefix));
	for (; !err && db_cursor_has_prefix(&c, db_key_view(&prefix)); err = db_cursor_next(&c)) {
		if (c.key.len == 4)
			continue;
		if (count == s.aliases)
			break;
		names[count] = arena_copy(arena, slice_from(c.key, 4));
		if (!names[count++].p) {
			err = ERR_TOO_BIG;
			break;
		}
	}
	db_cursor_close(&c);
	if (err && err != ERR_NOT_FOUND)
		return err;
	*names_out = names;
	*count_out = count;
	return 0;
}
