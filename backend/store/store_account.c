/*
 * Accounts on disk: the record under the account's id, one row per alias behind it, one row per name.
 * Counters stand apart (DB_STATE), since they change with every message.
 */
#include "backend/store/store_account.h"

#include "backend/store/account.h"
#include "backend/store/mailbox.h"
#include "backend/store/names.h"
#include "common/base/clock.h"
#include "common/base/random.h"

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
	struct effect put = {.kind = EFFECT_ACCOUNT, .account = account};
	struct db_key key = db_key_u32(account);
	struct buf value = {0};
	int err;

	if (db_is_held(txn, account))
		return ERR_NOT_NOW;
	record_pack_account(r, &value);
	db_effect(txn, &put, buf_view(&value));
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

static bool fit_texts(const struct account_record *r)
{
	return r->password.len <= STORE_PASSWORD_MAX && r->class.len <= STORE_CLASS_MAX &&
	       r->name.len <= STORE_ACCOUNT_NAME_MAX &&
	       r->forwards.len <= (size_t)STORE_FORWARDS_MAX * (STORE_ADDRESS_MAX + 1);
}

bool store_account_is_public(struct slice address)
{
	return slice_has_prefix_nocase(address, STORE_PUBLIC_LOCAL "@");
}

int64_t account_created_now(void)
{
	uint32_t number;

	random_bytes(&number, sizeof(number));
	return clock_wall_s() | (int64_t)(number & 0x7fffff) << 40;
}

int store_account_create(struct store_txn *txn, const struct store_account_new *a, uint32_t *account_out)
{
	struct account_record r = {.password = a->password,
		.policy = a->policy,
		.class = a->class,
		.name = a->name,
		.forwards = a->forwards,
		.created = account_created_now(),
		.flags = a->flags & STORE_ACCOUNT_OWN_FLAGS};
	char room[STORE_ADDRESS_MAX];
	uint32_t id;
	int err = names_normalise(a->address, room, &r.address);

	if (a->bytes_limit) {
		r.policy.bytes_limit = a->bytes_limit;
		r.policy.says |= STORE_SAYS_BYTES;
	}
	if (a->count_limit) {
		r.policy.count_limit = a->count_limit;
		r.policy.says |= STORE_SAYS_COUNT;
	}
	if (!err && !fit_texts(&r))
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
	if (!err)
		err = mailbox_put_intent(txn, INTENT_FORGET_ACCOUNT, account, 0, 0);
	db_effect(txn, &gone, slice_of(NULL, 0));
	db_note(txn, account, 0, UINT64_MAX);
	return err;
}

/* ---- changes of the record: get, copy the texts out of the map, set, put ---- */

/* The record with its texts in the arena. */
static int get_own(struct store_txn *txn, uint32_t account, struct arena *arena, struct account_record *r)
{
	int err = get_record(txn, account, r);
	struct slice *texts[] = {&r->address, &r->password, &r->class, &r->name, &r->forwards};

	if (!err && (r->address.len > STORE_ADDRESS_MAX || !fit_texts(r)))
		err = ERR_CORRUPT;
	for (size_t i = 0; !err && i < ARRAY_LEN(texts); i++) {
		*texts[i] = arena_copy(arena, *texts[i]);
		if (!texts[i]->p)
			err = ERR_NOT_NOW;
	}
	return err;
}

int store_account_change(struct store_txn *txn, uint32_t account, const struct store_account_change *change)
{
	struct account_record r;
	struct arena arena;
	int err;

	arena_init(&arena, 0);
	err = get_own(txn, account, &arena, &r);
	if (!err && change->password)
		r.password = *change->password;
	if (!err && change->policy)
		r.policy = *change->policy;
	if (!err && change->flags)
		r.flags = *change->flags & STORE_ACCOUNT_OWN_FLAGS;
	if (!err && change->class)
		r.class = *change->class;
	if (!err && change->name)
		r.name = *change->name;
	if (!err && change->forwards)
		r.forwards = *change->forwards;
	if (!err && !fit_texts(&r))
		err = ERR_TOO_BIG;
	if (!err)
		err = put_record(txn, account, &r);
	if (!err)
		db_note(txn, account, 0, 0);
	arena_deinit(&arena);
	return err;
}

int store_account_set_password(struct store_txn *txn, uint32_t account, struct slice password)
{
	struct store_account_change change = {.password = &password};

	return store_account_change(txn, account, &change);
}

int store_account_set_limits(
	struct store_txn *txn, uint32_t account, uint64_t bytes_limit, uint64_t count_limit)
{
	struct store_account_change change;
	struct store_policy policy;
	struct account_record r;
	int err = get_record(txn, account, &r);

	if (err)
		return err;
	policy = r.policy;
	policy.says |= STORE_SAYS_BYTES | STORE_SAYS_COUNT;
	policy.bytes_limit = bytes_limit;
	policy.count_limit = count_limit;
	change = (struct store_account_change){.policy = &policy};
	return store_account_change(txn, account, &change);
}

int store_account_set_flags(struct store_txn *txn, uint32_t account, uint32_t flags)
{
	struct store_account_change change = {.flags = &flags};

	return store_account_change(txn, account, &change);
}

/* Packed as an account's record without the three texts that are not options. */
int store_account_pack_options(struct store_txn *txn, uint32_t account, struct buf *out)
{
	struct account_record r;
	int err = get_record(txn, account, &r);

	if (err)
		return err;
	r.address = r.password = slice_of(NULL, 0);
	r.created = 0;
	record_pack_account(&r, out);
	return out->failed ? ERR_TOO_BIG : 0;
}

int store_account_unpack_options(struct store_txn *txn, uint32_t account, struct slice packed)
{
	struct account_record r;
	struct store_account_change change = {.policy = &r.policy,
		.flags = &r.flags,
		.class = &r.class,
		.name = &r.name,
		.forwards = &r.forwards};
	int err = record_unpack_account(packed, &r);

	return err ? err : store_account_change(txn, account, &change);
}

/* ---- names ---- */

static int drop_alias(struct store_txn *txn, uint32_t account, struct slice name, struct account_state *s)
{
	struct effect gone = {.kind = EFFECT_NAME_GONE, .account = account};
	char key[STORE_ADDRESS_MAX + 4];
	int err;

	s->aliases -= s->aliases > 0;
	err = db_drop(txn, DB_NAMES, name);
	if (!err)
		err = db_drop(txn, DB_ACCOUNTS, alias_key(account, name, key));
	db_effect(txn, &gone, name);
	return err;
}

static int put_alias(struct store_txn *txn, uint32_t account, struct slice name, struct account_state *s)
{
	struct effect add = {.kind = EFFECT_NAME, .account = account};
	char key[STORE_ADDRESS_MAX + 4];
	int err;

	s->aliases++;
	err = put_name(txn, name, account);
	if (!err)
		err = db_put(txn, DB_ACCOUNTS, alias_key(account, name, key), slice_of(NULL, 0));
	db_effect(txn, &add, name);
	return err;
}

static int rename_checked(struct store_txn *txn, uint32_t account, struct account_record *r,
	struct account_state *s, struct slice name, bool is_alias, bool keep_alias)
{
	struct slice old = r->address;
	int err = is_alias ? drop_alias(txn, account, name, s) : 0;

	if (!err)
		err = db_drop(txn, DB_NAMES, old);
	if (!err)
		err = put_name(txn, name, account);
	r->address = name;
	if (!err)
		err = put_record(txn, account, r);
	if (!err && keep_alias)
		err = put_alias(txn, account, old, s);
	if (!err)
		err = state_put_account(txn, account, s);
	db_note(txn, account, 0, 0);
	return err;
}

int store_account_rename(struct store_txn *txn, uint32_t account, struct slice address, bool keep_alias)
{
	char room[STORE_ADDRESS_MAX], key[STORE_ADDRESS_MAX + 4];
	struct account_record r;
	struct account_state s;
	struct arena arena;
	struct slice name, value;
	bool is_alias = false;
	int err = names_normalise(address, room, &name);

	arena_init(&arena, 0);
	if (!err)
		err = get_own(txn, account, &arena, &r);
	if (!err)
		err = state_get_account(txn, account, &s);
	if (!err && slice_is_equal(name, r.address)) {
		arena_deinit(&arena);
		return 0;
	}
	if (!err) {
		err = db_get(txn, DB_ACCOUNTS, alias_key(account, name, key), &value);
		is_alias = err == 0;
		if (err == ERR_NOT_FOUND)
			err = check_free(txn, name);
	}
	if (!err && keep_alias && !is_alias && s.aliases >= STORE_ALIASES_MAX)
		err = ERR_TOO_BIG;
	if (!err)
		err = rename_checked(txn, account, &r, &s, name, is_alias, keep_alias);
	arena_deinit(&arena);
	return err;
}

int store_account_split(struct slice text, struct arena *arena, struct slice **list_out, size_t *count_out)
{
	struct slice *list;
	size_t count = 0, room = 1;

	for (size_t i = 0; i < text.len; i++)
		room += text.p[i] == '\n';
	list = arena_calloc(arena, room, sizeof(*list));
	if (!list)
		return ERR_TOO_BIG;
	while (text.len) {
		ptrdiff_t at = slice_find(text, '\n');

		list[count++] = at < 0 ? text : slice_sub(text, 0, (size_t)at);
		text = at < 0 ? slice_of(NULL, 0) : slice_from(text, (size_t)at + 1);
	}
	*list_out = list;
	*count_out = count;
	return 0;
}

int store_account_add_alias(struct store_txn *txn, uint32_t account, struct slice address)
{
	char room[STORE_ADDRESS_MAX];
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
	if (!err)
		err = put_alias(txn, account, name, &s);
	return err ? err : state_put_account(txn, account, &s);
}

int store_account_remove_alias(struct store_txn *txn, uint32_t account, struct slice address)
{
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
	if (!err)
		err = drop_alias(txn, account, name, &s);
	return err ? err : state_put_account(txn, account, &s);
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
	*out = (struct store_account_record){.address = r.address,
		.password = r.password,
		.bytes_used = s.bytes,
		.count_used = s.count,
		.modseq = s.modseq,
		.created = r.created,
		.flags = r.flags,
		.policy = r.policy,
		.class = r.class,
		.name = r.name,
		.forwards = r.forwards};
	names_limits(txn->slot->store->names, &r, &out->bytes_limit, &out->count_limit);
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

/* ---- imports ---- */

static int check_name(struct store_txn *txn, struct slice name, const struct account_imported *a)
{
	struct store_account other;
	struct slice value;
	int err = db_get(txn, DB_NAMES, name, &value);

	if (!err && (!a->replaces || a->old_slot != txn->slot->number || value.len != 4 ||
			    bytes_get_u32(value.p) != a->old_account))
		return ERR_EXISTS;
	if (err && err != ERR_NOT_FOUND)
		return err;
	err = store_find_account(txn->slot->store, name, &other);
	if (!err && (!a->replaces || other.slot != a->old_slot || other.id != a->old_account))
		return ERR_EXISTS;
	return 0;
}

int account_check_names(struct store_txn *txn, const struct account_imported *a)
{
	int err = check_name(txn, a->record.address, a);

	for (size_t i = 0; i < a->alias_count && !err; i++)
		err = check_name(txn, a->aliases[i], a);
	return err;
}

int account_put_imported(struct store_txn *txn, uint32_t account, const struct account_imported *a)
{
	struct effect add = {.kind = EFFECT_NAME, .account = account};
	char key[STORE_ADDRESS_MAX + 4];
	int err = put_record(txn, account, &a->record);

	if (!err)
		err = put_name(txn, a->record.address, account);
	for (size_t i = 0; i < a->alias_count && !err; i++) {
		err = put_name(txn, a->aliases[i], account);
		if (!err)
			err = db_put(
				txn, DB_ACCOUNTS, alias_key(account, a->aliases[i], key), slice_of(NULL, 0));
		db_effect(txn, &add, a->aliases[i]);
	}
	return err;
}
