/* Records in slot 0; what is asked is answered from memory (policy.c), under the name table's lock. */
#include "backend/store/store_domain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/store/names.h"
#include "backend/store/policy.h"
#include "common/base/table.h"

/* ---- changes ---- */

bool store_class_is_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
			return false;
	}
	return name.len > 0 && name.len <= STORE_CLASS_MAX;
}

/* A domain that somebody has names in, or a record. */
static bool is_taken(const struct domain_entry *d)
{
	return d && (d->has_record || d->names || d->accounts || d->reserved);
}

static int check_aliases(struct policies *p, const struct store_domain *domain)
{
	struct slice rest = domain->aliases;
	size_t count = 0;
	int err = policies_alias(p, domain->name) ? ERR_EXISTS : 0;

	while (!err && rest.len) {
		ptrdiff_t at = slice_find(rest, ' ');
		struct slice name = at < 0 ? rest : slice_sub(rest, 0, (size_t)at);
		const struct domain_entry *owner = policies_alias(p, name);

		rest = slice_from(rest, name.len + (at >= 0));
		if (slice_is_equal(name, domain->name) || is_taken(policies_domain(p, name)) ||
			(owner && !slice_is_str(domain->name, owner->name)))
			err = ERR_EXISTS;
		else if (name.len == 0 || name.len > STORE_DOMAIN_MAX || ++count > STORE_DOMAIN_ALIASES_MAX)
			err = ERR_TOO_BIG;
	}
	return err;
}

/* Name, NUL, record. */
static void tell(struct store_txn *txn, enum effect_kind kind, struct slice name, struct slice record)
{
	struct effect effect = {.kind = kind};
	struct buf text = {0};

	buf_add_slice(&text, name);
	if (record.len) {
		buf_add_char(&text, 0);
		buf_add_slice(&text, record);
	}
	db_effect(txn, &effect, buf_view(&text));
	buf_deinit(&text);
}

static int put(struct store_txn *txn, enum db_name db, enum effect_kind kind, struct slice name,
	struct slice record, uint64_t most)
{
	struct slice before;
	uint64_t count;
	int err = txn->slot->number ? ERR_DENIED : db_get(txn, db, name, &before);

	if (err == ERR_NOT_FOUND) {
		err = db_count(txn, db, &count);
		if (!err && count >= most)
			err = ERR_TOO_BIG;
	}
	if (!err)
		err = db_put(txn, db, name, record);
	if (!err)
		tell(txn, kind, name, record);
	return err;
}

static int drop(struct store_txn *txn, enum db_name db, enum effect_kind kind, struct slice name)
{
	int err = txn->slot->number ? ERR_DENIED : db_delete(txn, db, name);

	if (!err)
		tell(txn, kind, name, slice_of(NULL, 0));
	return err;
}

int store_domain_put(struct store_txn *txn, const struct store_domain *domain)
{
	struct names *names = txn->slot->store->names;
	struct buf record = {0};
	int err = domain->name.len == 0 || domain->name.len > STORE_DOMAIN_MAX ? ERR_TOO_BIG : 0;

	if (!err) {
		err = check_aliases(names_lock(names), domain);
		names_unlock(names);
	}
	if (!err)
		err = record_pack_domain(domain, &record);
	if (!err)
		err = put(txn, DB_DOMAINS, EFFECT_DOMAIN, domain->name, buf_view(&record), STORE_DOMAINS_MAX);
	buf_deinit(&record);
	return err;
}

int store_domain_remove(struct store_txn *txn, struct slice name)
{
	return drop(txn, DB_DOMAINS, EFFECT_DOMAIN_GONE, name);
}

int store_class_put(struct store_txn *txn, const struct store_class *class)
{
	struct buf record = {0};
	int err;

	if (!store_class_is_name(class->name))
		return ERR_SYNTAX;
	record_pack_class(class, &record);
	err = put(txn, DB_CLASSES, EFFECT_CLASS, class->name, buf_view(&record), STORE_CLASSES_MAX);
	buf_deinit(&record);
	return err;
}

int store_class_remove(struct store_txn *txn, struct slice name)
{
	return drop(txn, DB_CLASSES, EFFECT_CLASS_GONE, name);
}

/* ---- questions ---- */

static int copy_domain(const struct domain_entry *d, struct arena *arena, struct store_domain_status *out)
{
	struct slice *texts[] = {&out->domain.name, &out->domain.class, &out->domain.catch_all,
		&out->domain.postmaster, &out->domain.aliases};

	*out = (struct store_domain_status){
		.domain = d->domain, .has_record = d->has_record, .accounts = d->accounts, .names = d->names};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		*texts[i] = arena_copy(arena, *texts[i]);
		if (!texts[i]->p)
			return ERR_TOO_BIG;
	}
	return 0;
}

int store_domain_find(
	struct store *store, struct slice name, struct arena *arena, struct store_domain_status *status_out)
{
	struct policies *p = names_lock(store->names);
	const struct domain_entry *d = policies_alias(p, name);
	int err;

	if (!d)
		d = policies_domain(p, name);
	err = d && (d->has_record || d->names) ? copy_domain(d, arena, status_out) : ERR_NOT_FOUND;
	names_unlock(store->names);
	return err;
}

static int compare(struct slice a, struct slice b)
{
	int order = memcmp(a.p, b.p, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_domain(const void *a, const void *b)
{
	return compare(((const struct store_domain_status *)a)->domain.name,
		((const struct store_domain_status *)b)->domain.name);
}

int store_domain_list(
	struct store *store, struct arena *arena, struct store_domain_status **list_out, size_t *count_out)
{
	struct policies *p = names_lock(store->names);
	struct table *table = policies_domains(p);
	struct store_domain_status *list = arena_calloc(arena, table_count(table) + 1, sizeof(*list));
	struct slice key;
	void *value;
	size_t count = 0;
	int err = list ? 0 : ERR_TOO_BIG;

	for (size_t at = 0; !err && table_next(table, &at, &key, &value);) {
		const struct domain_entry *d = value;

		if (d->has_record || d->names)
			err = copy_domain(d, arena, &list[count++]);
	}
	names_unlock(store->names);
	if (err)
		return err;
	qsort(list, count, sizeof(*list), by_domain);
	*list_out = list;
	*count_out = count;
	return 0;
}

static int copy_class(const struct class_entry *c, struct arena *arena, struct store_class_status *out)
{
	*out = (struct store_class_status){.class = {.policy = c->policy},
		.has_record = c->has_record,
		.accounts = c->accounts,
		.domains = c->domains};
	out->class.name = arena_copy(arena, slice_str(c->name));
	return out->class.name.p ? 0 : ERR_TOO_BIG;
}

int store_class_find(
	struct store *store, struct slice name, struct arena *arena, struct store_class_status *status_out)
{
	const struct class_entry *c = policies_class(names_lock(store->names), name);
	int err = c ? copy_class(c, arena, status_out) : ERR_NOT_FOUND;

	names_unlock(store->names);
	return err;
}

static int by_class(const void *a, const void *b)
{
	return compare(((const struct store_class_status *)a)->class.name,
		((const struct store_class_status *)b)->class.name);
}

int store_class_list(
	struct store *store, struct arena *arena, struct store_class_status **list_out, size_t *count_out)
{
	struct table *table = policies_classes(names_lock(store->names));
	struct store_class_status *list = arena_calloc(arena, table_count(table) + 1, sizeof(*list));
	struct slice key;
	void *value;
	size_t count = 0;
	int err = list ? 0 : ERR_TOO_BIG;

	for (size_t at = 0; !err && table_next(table, &at, &key, &value);)
		err = copy_class(value, arena, &list[count++]);
	names_unlock(store->names);
	if (err)
		return err;
	qsort(list, count, sizeof(*list), by_class);
	*list_out = list;
	*count_out = count;
	return 0;
}

int store_domain_reserve(struct store *store, struct slice address, bool must_exist)
{
	struct slice name = policies_domain_of(address);
	struct policies *p = names_lock(store->names);
	struct domain_entry *d = policies_domain(p, name);
	int err = 0;

	if (policies_alias(p, name))
		err = ERR_EXISTS;
	else if (must_exist && !(d && d->has_record))
		err = ERR_NOT_FOUND;
	else if (d && d->domain.accounts_most && d->accounts + d->reserved >= d->domain.accounts_most)
		err = ERR_TOO_BIG;
	else
		policies_hold_domain(p, name)->reserved++;
	names_unlock(store->names);
	return err;
}

int store_domain_may_name(struct store *store, struct slice address, bool must_exist)
{
	struct slice name = policies_domain_of(address);
	struct policies *p = names_lock(store->names);
	const struct domain_entry *d = policies_domain(p, name);
	int err = policies_alias(p, name)               ? ERR_EXISTS
		  : must_exist && !(d && d->has_record) ? ERR_NOT_FOUND
							: 0;

	names_unlock(store->names);
	return err;
}

void store_domain_release(struct store *store, struct slice address)
{
	struct policies *p = names_lock(store->names);
	struct domain_entry *d = policies_domain(p, policies_domain_of(address));

	if (d && d->reserved) {
		d->reserved--;
		policies_let_domain(p, d);
	}
	names_unlock(store->names);
}

void store_domain_set_built_in(struct store *store, uint64_t bytes_limit, uint64_t count_limit)
{
	policies_set_built_in(names_lock(store->names), bytes_limit, count_limit);
	names_unlock(store->names);
}

/* ---- check ---- */

typedef int unpack_fn(struct slice name, struct slice value);

static int unpack_domain(struct slice name, struct slice value)
{
	struct store_domain d;

	return record_unpack_domain(name, value, &d);
}

static int unpack_class(struct slice name, struct slice value)
{
	struct store_class c;

	return !store_class_is_name(name) ? ERR_CORRUPT : record_unpack_class(name, value, &c);
}

static int check_rows(struct store_txn *txn, enum db_name db, const char *what, unpack_fn *unpack,
	void (*report)(void *arg, const char *text), void *arg)
{
	struct db_cursor c;
	char text[400];
	int err = db_cursor_open(txn, db, &c);

	if (err)
		return err;
	for (err = db_cursor_seek(&c, slice_of("", 1)); !err; err = db_cursor_next(&c)) {
		if (unpack(c.key, c.value) == 0)
			continue;
		snprintf(text, sizeof(text), "%s=%.*s its record is damaged", what, SLICE_ARG(c.key));
		report(arg, text);
	}
	db_cursor_close(&c);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int store_domain_check(struct store *store, void (*report)(void *arg, const char *text), void *arg)
{
	struct store_txn *txn;
	int err = store_begin_read(store, 0, &txn);

	if (err)
		return err;
	err = check_rows(txn, DB_DOMAINS, "domain", unpack_domain, report, arg);
	if (!err)
		err = check_rows(txn, DB_CLASSES, "class", unpack_class, report, arg);
	store_end_read(&txn);
	return err;
}
