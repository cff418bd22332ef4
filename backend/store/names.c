/*
 * Two tables over one set of entries: by address (canonical and aliases) and by slot and id. An alias has a
 * small entry of its own that points to its account. Reservations of quota live here alone: they are promises
 * of running sessions and mean nothing after a restart.
 */
#include "backend/store/names.h"

#include <stdlib.h>

#include "backend/store/record.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/base/table.h"
#include "common/proto/address.h"

struct account_entry {
	struct store_account public;
	char id_key[8];
	uint64_t bytes_reserved;
	uint64_t count_reserved;
};

struct name_entry {
	struct account_entry *account;
	char *name;
	size_t len;
};

struct names {
	pthread_mutex_t lock;
	struct table *by_name;
	struct table *by_id;
};

struct names *names_new(void)
{
	struct names *n = xcalloc(1, sizeof(*n));

	pthread_mutex_init(&n->lock, NULL);
	n->by_name = table_new();
	n->by_id = table_new();
	return n;
}

static void name_entry_free(struct name_entry *e)
{
	free(e->name);
	free(e);
}

void names_free(struct names **names)
{
	struct names *n = *names;
	struct slice key;
	void *value;

	if (!n)
		return;
	for (size_t at = 0; table_next(n->by_name, &at, &key, &value);)
		name_entry_free(value);
	for (size_t at = 0; table_next(n->by_id, &at, &key, &value);)
		free(value);
	table_free(&n->by_name);
	table_free(&n->by_id);
	pthread_mutex_destroy(&n->lock);
	free(n);
	*names = NULL;
}

static int normalise(struct slice address, bool strip, char *room, struct slice *name_out)
{
	struct address_name name;
	struct arena arena;
	int err;

	arena_init(&arena, 0);
	err = strip ? address_normalise(&arena, address, &name)
		    : address_normalise_whole(&arena, address, &name);
	if (!err && name.full.len > STORE_ADDRESS_MAX)
		err = ERR_TOO_BIG;
	if (!err) {
		memcpy(room, name.full.p, name.full.len);
		*name_out = slice_of(room, name.full.len);
	}
	arena_deinit(&arena);
	return err;
}

int names_normalise(struct slice address, char *room, struct slice *name_out)
{
	return normalise(address, false, room, name_out);
}

/* ---- under the lock ---- */

static void make_id_key(char *key, unsigned slot, uint32_t account)
{
	bytes_put_u32be(key, slot);
	bytes_put_u32be(key + 4, account);
}

static struct account_entry *by_id(struct names *n, unsigned slot, uint32_t account)
{
	char key[8];

	make_id_key(key, slot, account);
	return table_get(n->by_id, slice_of(key, sizeof(key)));
}

static void add_name(struct names *n, struct slice name, struct account_entry *account)
{
	struct name_entry *e = xcalloc(1, sizeof(*e));
	struct name_entry *before;

	e->account = account;
	e->name = xmemdup0(name.p, name.len);
	e->len = name.len;
	before = table_remove(n->by_name, name);
	if (before)
		name_entry_free(before);
	table_put(n->by_name, slice_of(e->name, e->len), e);
}

static void remove_name(struct names *n, struct slice name)
{
	struct name_entry *e = table_remove(n->by_name, name);

	if (e)
		name_entry_free(e);
}

static struct account_entry *put_account(
	struct names *n, struct db_slot *slot, uint32_t id, struct slice address)
{
	struct account_entry *a = by_id(n, slot->number, id);

	if (a)
		return a;
	a = xcalloc(1, sizeof(*a));
	a->public.slot = slot->number;
	a->public.id = id;
	memcpy(a->public.address, address.p, address.len);
	make_id_key(a->id_key, slot->number, id);
	table_put(n->by_id, slice_of(a->id_key, sizeof(a->id_key)), a);
	add_name(n, address, a);
	slot->account_count++;
	return a;
}

static void remove_account(struct names *n, struct db_slot *slot, uint32_t id)
{
	struct account_entry *a = by_id(n, slot->number, id);
	struct slice key;
	void *value;

	if (!a)
		return;
	for (size_t at = 0; table_next(n->by_name, &at, &key, &value);) {
		struct name_entry *e = value;

		if (e->account != a)
			continue;
		table_remove(n->by_name, key);
		name_entry_free(e);
	}
	table_remove(n->by_id, slice_of(a->id_key, sizeof(a->id_key)));
	free(a);
	slot->account_count--;
}

static void apply(struct names *n, struct db_slot *slot, const struct effect *e)
{
	struct account_entry *a = by_id(n, slot->number, e->account);

	switch (e->kind) {
	case EFFECT_ACCOUNT:
		a = put_account(n, slot, e->account, slice_str(e->text));
		a->public.bytes_limit = e->bytes;
		a->public.count_limit = e->count;
		a->public.flags = e->flags;
		break;
	case EFFECT_ACCOUNT_GONE:
		remove_account(n, slot, e->account);
		break;
	case EFFECT_NAME:
		if (a)
			add_name(n, slice_str(e->text), a);
		break;
	case EFFECT_NAME_GONE:
		remove_name(n, slice_str(e->text));
		break;
	case EFFECT_USED:
		if (a) {
			a->public.bytes_used = e->bytes;
			a->public.count_used = e->count;
		}
		break;
	}
}

void names_apply(struct names *n, struct db_slot *slot, const struct effect *effects, size_t count)
{
	if (!count)
		return;
	pthread_mutex_lock(&n->lock);
	for (size_t i = 0; i < count; i++)
		apply(n, slot, &effects[i]);
	pthread_mutex_unlock(&n->lock);
}

/* ---- loading ---- */

static int load_account(struct names *n, struct store_txn *txn, uint32_t id, struct slice value)
{
	struct account_record r;
	struct account_state state;
	int err = record_unpack_account(value, &r);

	if (!err)
		err = state_get_account(txn, id, &state);
	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	if (r.address.len == 0 || r.address.len > STORE_ADDRESS_MAX)
		return ERR_CORRUPT;
	struct account_entry *a = put_account(n, txn->slot, id, r.address);

	a->public.flags = r.flags;
	a->public.bytes_limit = r.bytes_limit;
	a->public.count_limit = r.count_limit;
	a->public.bytes_used = state.bytes;
	a->public.count_used = state.count;
	return 0;
}

static int load_accounts(struct names *n, struct store_txn *txn, struct db_cursor *c)
{
	int err = db_cursor_seek(c, slice_of("", 1));

	for (; !err; err = db_cursor_next(c)) {
		if (c->key.len != 4)
			continue;
		err = load_account(n, txn, bytes_get_u32be(c->key.p), c->value);
		if (err)
			return err;
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int load_names(struct names *n, struct store_txn *txn, struct db_cursor *c)
{
	int err = db_cursor_seek(c, slice_of("", 1));

	for (; !err; err = db_cursor_next(c)) {
		struct account_entry *a;

		if (c->value.len != 4)
			return ERR_CORRUPT;
		a = by_id(n, txn->slot->number, bytes_get_u32(c->value.p));
		if (a && !table_get(n->by_name, c->key))
			add_name(n, c->key, a);
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

int names_load(struct names *n, struct store_txn *txn)
{
	struct db_cursor c;
	int err = db_cursor_open(txn, DB_ACCOUNTS, &c);

	if (err)
		return err;
	err = load_accounts(n, txn, &c);
	db_cursor_close(&c);
	if (err)
		return err;
	err = db_cursor_open(txn, DB_NAMES, &c);
	if (err)
		return err;
	err = load_names(n, txn, &c);
	db_cursor_close(&c);
	return err;
}

/* ---- asking ---- */

bool names_has(struct names *n, struct slice normalised)
{
	bool has;

	pthread_mutex_lock(&n->lock);
	has = table_get(n->by_name, normalised);
	pthread_mutex_unlock(&n->lock);
	return has;
}

static int find(struct names *n, struct slice name, struct store_account *account_out)
{
	struct name_entry *e;

	pthread_mutex_lock(&n->lock);
	e = table_get(n->by_name, name);
	if (e)
		*account_out = e->account->public;
	pthread_mutex_unlock(&n->lock);
	return e ? 0 : ERR_NOT_FOUND;
}

int store_find_account(struct store *store, struct slice address, struct store_account *account_out)
{
	char room[STORE_ADDRESS_MAX];
	struct slice name;

	if (names_normalise(address, room, &name))
		return ERR_NOT_FOUND;
	return find(store->names, name, account_out);
}

int store_find_recipient(struct store *store, struct slice address, struct store_account *account_out)
{
	char room[STORE_ADDRESS_MAX];
	struct slice name;
	int err = store_find_account(store, address, account_out);

	if (err != ERR_NOT_FOUND || normalise(address, true, room, &name))
		return err;
	return find(store->names, name, account_out);
}

int store_get_account(struct store *store, unsigned slot, uint32_t account, struct store_account *account_out)
{
	struct account_entry *a;

	pthread_mutex_lock(&store->names->lock);
	a = by_id(store->names, slot, account);
	if (a)
		*account_out = a->public;
	pthread_mutex_unlock(&store->names->lock);
	return a ? 0 : ERR_NOT_FOUND;
}

void store_each_account(
	struct store *store, bool (*fn)(void *arg, const struct store_account *account), void *arg)
{
	struct names *n = store->names;
	struct slice key;
	struct store_account account;
	void *value;
	size_t count = 0, i = 0;
	char(*ids)[8];

	pthread_mutex_lock(&n->lock);
	ids = xcalloc(table_count(n->by_id) + 1, sizeof(*ids));
	for (size_t at = 0; table_next(n->by_id, &at, &key, &value);)
		memcpy(ids[count++], key.p, 8);
	pthread_mutex_unlock(&n->lock);
	for (; i < count; i++) {
		if (store_get_account(store, bytes_get_u32be(ids[i]), bytes_get_u32be(ids[i] + 4), &account))
			continue;
		if (!fn(arg, &account))
			break;
	}
	free(ids);
}

size_t store_count_accounts(struct store *store)
{
	size_t count;

	pthread_mutex_lock(&store->names->lock);
	count = table_count(store->names->by_id);
	pthread_mutex_unlock(&store->names->lock);
	return count;
}

/* ---- quota promises ---- */

/* Does more fit under limit beside used and reserved? */
static bool fits(uint64_t limit, uint64_t used, uint64_t reserved, uint64_t more)
{
	uint64_t sum;

	if (limit == 0)
		return true;
	if (!num_add_u64(used, reserved, &sum))
		return false;
	if (more == 0)
		return sum < limit;
	return num_add_u64(sum, more, &sum) && sum <= limit;
}

int store_quota_reserve(struct store *store, unsigned slot, uint32_t account, uint64_t bytes)
{
	struct account_entry *a;
	int err = 0;

	pthread_mutex_lock(&store->names->lock);
	a = by_id(store->names, slot, account);
	if (!a)
		err = ERR_NOT_FOUND;
	else if (!fits(a->public.bytes_limit, a->public.bytes_used, a->bytes_reserved, bytes) ||
		 !fits(a->public.count_limit, a->public.count_used, a->count_reserved, 1))
		err = ERR_TOO_BIG;
	else {
		a->bytes_reserved += bytes;
		a->count_reserved++;
	}
	pthread_mutex_unlock(&store->names->lock);
	return err;
}

void store_quota_release(struct store *store, unsigned slot, uint32_t account, uint64_t bytes)
{
	struct account_entry *a;

	pthread_mutex_lock(&store->names->lock);
	a = by_id(store->names, slot, account);
	if (a) {
		a->bytes_reserved -= bytes < a->bytes_reserved ? bytes : a->bytes_reserved;
		if (a->count_reserved)
			a->count_reserved--;
	}
	pthread_mutex_unlock(&store->names->lock);
}
