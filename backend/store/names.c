/*
 * Two tables over one set of entries: by address (canonical and aliases) and by slot and id. A name has a
 * small entry of its own that points to its account. Domains and classes are in policy.c, quotas in names_quota.c, under the same
 * lock.
 */
#include "backend/store/names_inner.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/store/store_account.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/num.h"
#include "common/proto/address.h"

struct names *names_new(void)
{
	struct names *n = xcalloc(1, sizeof(*n));

	pthread_mutex_init(&n->lock, NULL);
	n->by_name = table_new();
	n->by_id = table_new();
	n->policies = policies_new();
	n->claims = table_new();
	n->forwards = table_new();
	return n;
}

struct policies *names_lock(struct names *n)
{
	pthread_mutex_lock(&n->lock);
	return n->policies;
}

void names_unlock(struct names *n)
{
	pthread_mutex_unlock(&n->lock);
}

static void name_entry_free(struct name_entry *e)
{
	free(e->name);
	free(e);
}

static void account_entry_free(struct account_entry *a)
{
	free(a->address);
	free(a->forwards);
	free(a);
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
		account_entry_free(value);
	for (size_t at = 0; table_next(n->claims, &at, &key, &value);)
		free(value);
	table_free(&n->claims);
	names_free_forwards(n);
	table_free(&n->by_name);
	table_free(&n->by_id);
	policies_free(&n->policies);
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

struct account_entry *names_by_id(struct names *n, unsigned slot, uint32_t account)
{
	char key[8];

	make_id_key(key, slot, account);
	return table_get(n->by_id, slice_of(key, sizeof(key)));
}

static void remove_name_entry(struct names *n, struct name_entry *e)
{
	table_remove(n->by_name, slice_of(e->name, e->len));
	list_remove(&e->link);
	e->domain->names--;
	policies_let_domain(n->policies, e->domain);
	name_entry_free(e);
}

static void add_name(struct names *n, struct slice name, struct account_entry *account)
{
	struct name_entry *e = xcalloc(1, sizeof(*e));
	struct name_entry *before = table_get(n->by_name, name);

	e->account = account;
	e->name = xmemdup0(name.p, name.len);
	e->len = name.len;
	e->domain = policies_hold_domain(n->policies, policies_domain_of(name));
	e->domain->names++;
	list_add_last(&account->names, &e->link);
	if (before)
		remove_name_entry(n, before);
	table_put(n->by_name, slice_of(e->name, e->len), e);
}

static void remove_name(struct names *n, struct slice name)
{
	struct name_entry *e = table_get(n->by_name, name);

	if (e)
		remove_name_entry(n, e);
}

/* The account gets this address: its first, or another. */
static void set_address(struct names *n, struct account_entry *a, struct slice address)
{
	struct domain_entry *before = a->domain;
	struct name_entry *old = a->address ? table_get(n->by_name, slice_str(a->address)) : NULL;

	a->domain = policies_hold_domain(n->policies, policies_domain_of(address));
	a->domain->accounts++;
	if (before) {
		before->accounts--;
		policies_let_domain(n->policies, before);
	}
	if (old && old->account == a)
		remove_name_entry(n, old);
	free(a->address);
	a->address = slice_copy_str(address);
	add_name(n, address, a);
}

static struct account_entry *put_account(
	struct names *n, struct db_slot *slot, uint32_t id, const struct account_record *r)
{
	struct account_entry *a = names_by_id(n, slot->number, id);
	struct class_entry *class = policies_hold_class(n->policies, r->class);

	if (!a) {
		a = xcalloc(1, sizeof(*a));
		a->slot = slot->number;
		a->id = id;
		a->inbox_bytes = a->inbox_count = UINT64_MAX;
		list_init(&a->names);
		make_id_key(a->id_key, slot->number, id);
		table_put(n->by_id, slice_of(a->id_key, sizeof(a->id_key)), a);
		slot->account_count++;
	}
	policies_let_class(n->policies, a->class);
	a->class = class;
	a->flags = r->flags & STORE_ACCOUNT_OWN_FLAGS;
	a->created = r->created;
	a->policy = r->policy;
	names_set_forwards(n, a, r->forwards);
	if (!a->address || !slice_is_str(r->address, a->address))
		set_address(n, a, r->address);
	return a;
}

static void remove_account(struct names *n, struct db_slot *slot, uint32_t id)
{
	struct account_entry *a = names_by_id(n, slot->number, id);

	if (!a)
		return;
	while (!list_is_empty(&a->names))
		remove_name_entry(n, container_of(a->names.next, struct name_entry, link));
	policies_let_class(n->policies, a->class);
	a->domain->accounts--;
	policies_let_domain(n->policies, a->domain);
	table_remove(n->by_id, slice_of(a->id_key, sizeof(a->id_key)));
	names_drop_forwards(n, a);
	account_entry_free(a);
	slot->account_count--;
}

static int apply_record(struct names *n, struct db_slot *slot, const struct effect *e)
{
	struct slice text = slice_of(e->text, e->len), name, record;
	struct account_record r;
	ptrdiff_t nul;
	int err;

	if (e->kind == EFFECT_ACCOUNT) {
		err = record_unpack_account(text, &r);
		if (!err)
			(void)put_account(n, slot, e->account, &r);
		return err;
	}
	nul = slice_find(text, 0);
	name = slice_sub(text, 0, nul < 0 ? text.len : (size_t)nul);
	record = slice_from(text, name.len + (nul >= 0));
	return e->kind == EFFECT_DOMAIN ? policies_put_domain(n->policies, name, record)
					: policies_put_class(n->policies, name, record);
}

/* True: the account, or its folder, is to be warned of. */
static bool apply(struct names *n, struct db_slot *slot, const struct effect *e)
{
	struct account_entry *a = names_by_id(n, slot->number, e->account);
	struct slice text = slice_of(e->text, e->len);

	switch (e->kind) {
	case EFFECT_ACCOUNT:
	case EFFECT_DOMAIN:
	case EFFECT_CLASS:
		require(apply_record(n, slot, e) == 0); /* we have just packed it */
		break;
	case EFFECT_ACCOUNT_GONE:
		remove_account(n, slot, e->account);
		break;
	case EFFECT_NAME:
		if (a)
			add_name(n, text, a);
		break;
	case EFFECT_NAME_GONE:
		remove_name(n, text);
		break;
	case EFFECT_USED:
		return a && names_set_used(n, a, e->bytes, e->count);
	case EFFECT_ROOT_USED:
		return quota_due(text, n->watch.thresholds, n->watch.count, (unsigned)e->bytes,
			       clock_wall_s() - (int64_t)(n->watch.interval_ms / 1000)) != 0;
	case EFFECT_INBOX_ROOM:
		if (a) {
			a->inbox_bytes = e->bytes;
			a->inbox_count = e->count;
		}
		break;
	case EFFECT_DOMAIN_GONE:
		policies_drop_domain(n->policies, text);
		break;
	case EFFECT_CLASS_GONE:
		policies_drop_class(n->policies, text);
		break;
	}
	return false;
}

/* Of a folder that takes many messages at once. */
static bool is_same(const struct effect *a, const struct effect *b)
{
	return a->kind == b->kind && a->account == b->account && a->kind == EFFECT_ROOT_USED &&
	       a->count == b->count;
}

void names_apply(struct names *n, struct db_slot *slot, const struct effect *effects, size_t count)
{
	const struct effect **warned = NULL;
	size_t warned_count = 0;
	store_quota_watch_fn *fn;
	void *arg;

	if (!count)
		return;
	pthread_mutex_lock(&n->lock);
	fn = n->watch.fn;
	arg = n->watch.arg;
	for (size_t i = 0; i < count; i++) {
		if (!apply(n, slot, &effects[i]) ||
			(warned_count && is_same(warned[warned_count - 1], &effects[i])))
			continue;
		if (!warned)
			warned = xreallocarray(NULL, count, sizeof(*warned));
		warned[warned_count++] = &effects[i];
	}
	pthread_mutex_unlock(&n->lock);
	for (size_t i = 0; i < warned_count && fn; i++)
		fn(arg, slot->number, warned[i]->account,
			warned[i]->kind == EFFECT_ROOT_USED ? (uint32_t)warned[i]->count : 0);
	free(warned);
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
	struct account_entry *a = put_account(n, txn->slot, id, &r);

	a->bytes_used = state.bytes;
	a->count_used = state.count;
	return 0;
}

static int load_accounts(struct names *n, struct store_txn *txn, struct db_cursor *c)
{
	int err = db_cursor_seek(c, slice_of("", 1));

	for (; !err; err = db_cursor_next(c)) {
		if (c->key.len != 4)
			continue;
		err = load_account(n, txn, bytes_get_u32be(c->key.p), c->value);
		if (err == ERR_CORRUPT) /* one account, not all of them */
			log_error("store", "account %u of slot %u cannot be read: store repair",
				bytes_get_u32be(c->key.p), txn->slot->number);
		else if (err)
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
			continue; /* check tells of it */
		a = names_by_id(n, txn->slot->number, bytes_get_u32(c->value.p));
		if (a && !table_get(n->by_name, c->key))
			add_name(n, c->key, a);
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int load_domains(struct names *n, struct store_txn *txn, struct db_cursor *c)
{
	int err = db_cursor_seek(c, slice_of("", 1));

	(void)txn;
	for (; !err; err = db_cursor_next(c))
		if ((err = policies_put_domain(n->policies, c->key, c->value)))
			return err;
	return err == ERR_NOT_FOUND ? 0 : err;
}

static int load_classes(struct names *n, struct store_txn *txn, struct db_cursor *c)
{
	int err = db_cursor_seek(c, slice_of("", 1));

	(void)txn;
	for (; !err; err = db_cursor_next(c))
		if ((err = policies_put_class(n->policies, c->key, c->value)))
			return err;
	return err == ERR_NOT_FOUND ? 0 : err;
}

/* What the INBOXes of those that have limits of their own can take. */
static int load_rooms(struct names *n, struct store_txn *txn, struct db_cursor *c)
{
	struct db_key from = db_key_u32(0);
	int err;

	for (;;) {
		struct account_entry *a;
		uint32_t account;

		err = db_cursor_seek(c, db_key_view(&from));
		if (err)
			break;
		account = bytes_get_u32be(c->key.p);
		a = names_by_id(n, txn->slot->number, account);
		if (a && quota_inbox_room(txn, account, &a->inbox_bytes, &a->inbox_count))
			log_error("store", "quota of account %u of slot %u cannot be read: store repair",
				account, txn->slot->number);
		if (account == UINT32_MAX)
			break;
		from = db_key_u32(account + 1);
	}
	return err == ERR_NOT_FOUND ? 0 : err;
}

int names_load(struct names *n, struct store_txn *txn)
{
	static const struct {
		enum db_name db;
		int (*load)(struct names *n, struct store_txn *txn, struct db_cursor *c);
	} rows[] = {
		{DB_CLASSES, load_classes},
		{DB_DOMAINS, load_domains},
		{DB_ACCOUNTS, load_accounts},
		{DB_NAMES, load_names},
		{DB_QUOTA, load_rooms},
	};
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_LEN(rows); i++) {
		struct db_cursor c;

		err = db_cursor_open(txn, rows[i].db, &c);
		if (err)
			break;
		err = rows[i].load(n, txn, &c);
		db_cursor_close(&c);
	}
	return err;
}

/* ---- asking ---- */

bool names_has(struct names *n, struct slice normalised)
{
	bool has;

	pthread_mutex_lock(&n->lock);
	has = table_get(n->by_name, normalised) || table_get(n->claims, normalised);
	pthread_mutex_unlock(&n->lock);
	return has;
}

int names_claim(struct names *n, struct slice normalised)
{
	bool taken;

	pthread_mutex_lock(&n->lock);
	taken = table_get(n->claims, normalised);
	if (!taken) {
		char *name = xmemdup0(normalised.p, normalised.len);

		table_put(n->claims, slice_of(name, normalised.len), name);
	}
	pthread_mutex_unlock(&n->lock);
	return taken ? ERR_NOT_NOW : 0;
}

void names_unclaim(struct names *n, struct slice normalised)
{
	pthread_mutex_lock(&n->lock);
	free(table_remove(n->claims, normalised));
	pthread_mutex_unlock(&n->lock);
}

/* ---- what counts, under the lock ---- */

struct policy_levels names_levels(const struct account_entry *a)
{
	return policy_levels(&a->policy, a->class, a->domain);
}

static void describe(struct names *n, const struct account_entry *a, struct store_account *out)
{
	struct policy_levels levels = names_levels(a);
	struct store_policy e = policy_effective(n->policies, &levels, NULL);
	size_t len = strlen(a->address);

	out->slot = a->slot;
	out->id = a->id;
	out->flags = policy_flags(&e, a->flags) | (a->forwards ? STORE_ACCOUNT_FORWARDS : 0);
	out->bytes_limit = e.bytes_limit;
	out->count_limit = e.count_limit;
	out->bytes_used = a->bytes_used;
	out->count_used = a->count_used;
	out->created = a->created;
	memcpy(out->address, a->address, len + 1);
}

void names_limits(struct names *n, const struct account_record *r, uint64_t *bytes_out, uint64_t *count_out)
{
	struct policy_levels levels;
	struct store_policy e;

	pthread_mutex_lock(&n->lock);
	levels = policy_levels(&r->policy, r->class.len ? policies_class(n->policies, r->class) : NULL,
		policies_domain(n->policies, policies_domain_of(r->address)));
	e = policy_effective(n->policies, &levels, NULL);
	pthread_mutex_unlock(&n->lock);
	*bytes_out = e.bytes_limit;
	*count_out = e.count_limit;
}

struct account_entry *names_by_name(struct names *n, struct slice name)
{
	const struct name_entry *e = table_get(n->by_name, name);

	return e ? e->account : NULL;
}

bool names_move_to(struct slice name, const struct domain_entry *domain, char *room, struct slice *name_out)
{
	struct slice at_domain = policies_domain_of(name);
	size_t local = name.len - at_domain.len, len = strlen(domain->name);

	if (local + len > STORE_ADDRESS_MAX)
		return false;
	memcpy(room, name.p, local);
	memcpy(room + local, domain->name, len);
	*name_out = slice_of(room, local + len);
	return true;
}

/* By this name, or by the same in the domain whose alias it has. */
static struct account_entry *lookup(struct names *n, struct slice name)
{
	struct account_entry *a = names_by_name(n, name);
	const struct domain_entry *d = a ? NULL : policies_alias(n->policies, policies_domain_of(name));
	char room[STORE_ADDRESS_MAX];
	struct slice moved;

	return a || !d || !names_move_to(name, d, room, &moved) ? a : names_by_name(n, moved);
}

static bool is_role(struct slice name)
{
	struct slice domain = policies_domain_of(name);
	struct slice local = slice_sub(name, 0, name.len > domain.len ? name.len - domain.len - 1 : 0);

	return slice_is_str(local, "postmaster") || slice_is_str(local, "abuse");
}

/* ---- asking, with the lock ---- */

int store_find_account(struct store *store, struct slice address, struct store_account *account_out)
{
	struct names *n = store->names;
	char room[STORE_ADDRESS_MAX];
	struct account_entry *a;
	struct slice name;

	if (names_normalise(address, room, &name))
		return ERR_NOT_FOUND;
	pthread_mutex_lock(&n->lock);
	a = lookup(n, name);
	if (a)
		describe(n, a, account_out);
	pthread_mutex_unlock(&n->lock);
	return a ? 0 : ERR_NOT_FOUND;
}

static struct domain_entry *domain_by_any_name(struct names *n, struct slice name)
{
	struct domain_entry *d = policies_alias(n->policies, name);

	return d ? d : policies_domain(n->policies, name);
}

/* A name that nobody has: role addresses and the catch-all. */
static struct account_entry *lookup_rest(
	struct names *n, const struct domain_entry *d, struct slice name, bool *is_role_out)
{
	struct account_entry *a = NULL;

	*is_role_out = is_role(name);
	if (*is_role_out && d->domain.postmaster.len)
		a = lookup(n, d->domain.postmaster);
	if (!a && d->domain.catch_all.len)
		a = lookup(n, d->domain.catch_all);
	return a;
}

/* name: whole; bare: without its detail. */
static int find_recipient(struct names *n, struct slice name, struct slice bare, struct store_account *out)
{
	const struct domain_entry *d = domain_by_any_name(n, policies_domain_of(name));
	static const int refusals[] = {[STORE_MAIL_KEPT] = ERR_NOT_FOUND,
		[STORE_MAIL_DEFERRED] = ERR_NOT_NOW,
		[STORE_MAIL_REFUSED] = ERR_DENIED};
	struct account_entry *a = lookup(n, name);
	bool is_exempt = false, is_suspended = d && d->domain.policy.is_suspended;
	enum store_suspended_mail how = STORE_MAIL_KEPT;

	if (is_suspended && (d->domain.policy.says & STORE_SAYS_SUSPENDED_MAIL))
		how = (enum store_suspended_mail)d->domain.policy.suspended_mail;
	if (!a)
		a = lookup(n, bare);
	if (!a && d)
		a = lookup_rest(n, d, bare, &is_exempt);
	if (!a)
		return refusals[how];
	describe(n, a, out);
	if (how == STORE_MAIL_DEFERRED && !is_exempt && a->domain != d)
		out->flags |= STORE_ACCOUNT_MAIL_LATER;
	else if (how == STORE_MAIL_REFUSED && !is_exempt && a->domain != d)
		out->flags |= STORE_ACCOUNT_NO_MAIL;
	return 0;
}

int store_find_recipient(struct store *store, struct slice address, struct store_account *account_out)
{
	struct names *n = store->names;
	char whole_room[STORE_ADDRESS_MAX], bare_room[STORE_ADDRESS_MAX];
	struct slice whole, bare;
	int err;

	if (names_normalise(address, whole_room, &whole) || normalise(address, true, bare_room, &bare))
		return ERR_NOT_FOUND;
	pthread_mutex_lock(&n->lock);
	err = find_recipient(n, whole, bare, account_out);
	pthread_mutex_unlock(&n->lock);
	return err;
}

int store_get_account(struct store *store, unsigned slot, uint32_t account, struct store_account *account_out)
{
	struct account_entry *a;

	pthread_mutex_lock(&store->names->lock);
	a = names_by_id(store->names, slot, account);
	if (a)
		describe(store->names, a, account_out);
	pthread_mutex_unlock(&store->names->lock);
	return a ? 0 : ERR_NOT_FOUND;
}

int store_account_explain(
	struct store *store, unsigned slot, uint32_t account, struct store_account_origin *out)
{
	struct names *n = store->names;
	struct policy_origin origin;
	struct policy_levels levels;
	const struct account_entry *a;

	*out = (struct store_account_origin){0};
	pthread_mutex_lock(&n->lock);
	a = names_by_id(n, slot, account);
	if (a) {
		levels = names_levels(a);
		out->effective = policy_effective(n->policies, &levels, &origin);
		out->bytes = origin.bytes;
		out->count = origin.count;
		out->protocols = origin.protocols;
		out->suspended_mail = origin.suspended_mail;
		out->is_suspended_by[STORE_LEVEL_ACCOUNT] = a->policy.is_suspended;
		out->is_suspended_by[STORE_LEVEL_CLASS] = levels.class && levels.class->policy.is_suspended;
		out->is_suspended_by[STORE_LEVEL_DOMAIN] = a->domain->domain.policy.is_suspended;
		out->class_from = a->class       ? STORE_LEVEL_ACCOUNT
				  : levels.class ? STORE_LEVEL_DOMAIN
						 : STORE_LEVEL_BUILT_IN;
		if (levels.class)
			snprintf(out->class, sizeof(out->class), "%s", levels.class->name);
		out->has_class = levels.class && levels.class->has_record;
	}
	pthread_mutex_unlock(&n->lock);
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
