/*
 * Where mail goes on to. How many accounts forward to an address is counted, so that asking who does costs nothing where nobody
 * does, which is nearly everywhere.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/store/names_inner.h"
#include "backend/store/store_account.h"
#include "common/base/mem.h"

/* So many are named; the others are counted. */
#define USERS_NAMED 10

struct forward_target {
	char *name;
	size_t len;
	size_t count;
};

/* The next address of a text; false: there is none. */
static bool next_word(struct slice *rest, struct slice *word_out)
{
	ptrdiff_t at = slice_find(*rest, '\n');

	if (!rest->len)
		return false;
	*word_out = at < 0 ? *rest : slice_sub(*rest, 0, (size_t)at);
	*rest = at < 0 ? slice_of(NULL, 0) : slice_from(*rest, (size_t)at + 1);
	return true;
}

static void count_one(struct names *n, struct slice word)
{
	struct forward_target *t = table_get(n->forwards, word);

	if (!t) {
		t = xcalloc(1, sizeof(*t));
		t->name = xmemdup0(word.p, word.len);
		t->len = word.len;
		table_put(n->forwards, slice_of(t->name, t->len), t);
	}
	t->count++;
}

static void target_free(struct forward_target *t)
{
	free(t->name);
	free(t);
}

static void uncount_one(struct names *n, struct slice word)
{
	struct forward_target *t = table_get(n->forwards, word);

	if (!t || --t->count)
		return;
	table_remove(n->forwards, slice_of(t->name, t->len));
	target_free(t);
}

void names_drop_forwards(struct names *n, struct account_entry *a)
{
	struct slice rest = slice_str(a->forwards ? a->forwards : ""), word;

	while (next_word(&rest, &word))
		uncount_one(n, word);
	free(a->forwards);
	a->forwards = NULL;
}

void names_set_forwards(struct names *n, struct account_entry *a, struct slice forwards)
{
	struct slice rest = forwards, word;

	names_drop_forwards(n, a);
	while (next_word(&rest, &word))
		count_one(n, word);
	a->forwards = forwards.len ? slice_copy_str(forwards) : NULL;
}

void names_free_forwards(struct names *n)
{
	struct slice key;
	void *value;

	for (size_t at = 0; table_next(n->forwards, &at, &key, &value);)
		target_free(value);
	table_free(&n->forwards);
}

/* ---- questions ---- */

int store_forwards(struct store *store, unsigned slot, uint32_t account, struct arena *arena,
	struct slice **list_out, size_t *count_out)
{
	struct names *n = store->names;
	struct slice rest = {0};
	const struct account_entry *a;

	*count_out = 0;
	*list_out = NULL;
	pthread_mutex_lock(&n->lock);
	a = names_by_id(n, slot, account);
	if (a && a->forwards)
		rest = arena_copy(arena, slice_str(a->forwards));
	pthread_mutex_unlock(&n->lock);
	if (!a)
		return ERR_NOT_FOUND;
	return store_account_split(rest, arena, list_out, count_out);
}

struct users {
	struct buf *list;
	size_t count;
};

static void add_user(struct users *u, const char *user, const char *how)
{
	if (u->count++ < USERS_NAMED)
		buf_printf(u->list, "%s%s%s", u->count > 1 ? ", " : "", user, how);
}

/* Is word this name, or the same in an alias of its domain? */
static bool is_name(const struct names *n, struct slice word, struct slice name)
{
	const struct domain_entry *d;
	char room[STORE_ADDRESS_MAX];
	struct slice moved;

	if (slice_is_equal(word, name))
		return true;
	d = word.len ? policies_alias(n->policies, policies_domain_of(word)) : NULL;
	return d && names_move_to(word, d, room, &moved) && slice_is_equal(moved, name);
}

static bool forwards_to(const struct names *n, const struct account_entry *a, struct slice name)
{
	struct slice rest = slice_str(a->forwards ? a->forwards : ""), word;

	while (next_word(&rest, &word))
		if (is_name(n, word, name))
			return true;
	return false;
}

/* Does anybody forward to it, by any name of its domain? */
static bool has_forwards(const struct names *n, const struct domain_entry *d, struct slice name)
{
	struct slice rest = d ? d->domain.aliases : slice_of(NULL, 0);
	struct slice local = slice_sub(name, 0, name.len - policies_domain_of(name).len);
	char room[STORE_ADDRESS_MAX];

	if (table_get(n->forwards, name))
		return true;
	while (rest.len) {
		ptrdiff_t at = slice_find(rest, ' ');
		struct slice alias = at < 0 ? rest : slice_sub(rest, 0, (size_t)at);

		rest = at < 0 ? slice_of(NULL, 0) : slice_from(rest, (size_t)at + 1);
		if (local.len + alias.len > sizeof(room))
			continue;
		memcpy(room, local.p, local.len);
		memcpy(room + local.len, alias.p, alias.len);
		if (table_get(n->forwards, slice_of(room, local.len + alias.len)))
			return true;
	}
	return false;
}

static void add_users(struct names *n, struct slice name, struct users *u)
{
	const struct domain_entry *own = policies_domain(n->policies, policies_domain_of(name));
	bool is_asked = has_forwards(n, own, name);
	struct slice key;
	void *value;

	for (size_t at = 0; is_asked && table_next(n->by_id, &at, &key, &value);) {
		const struct account_entry *a = value;

		if (forwards_to(n, a, name))
			add_user(u, a->address, "");
	}
	/* Of any domain: a postmaster may be in another, so that he is reached while this one is suspended. */
	for (size_t at = 0; table_next(policies_domains(n->policies), &at, &key, &value);) {
		const struct domain_entry *d = value;

		if (is_name(n, d->domain.catch_all, name))
			add_user(u, d->name, " (catch-all)");
		if (is_name(n, d->domain.postmaster, name))
			add_user(u, d->name, " (postmaster)");
	}
}

static size_t end_users(struct users *u)
{
	if (u->count > USERS_NAMED)
		buf_printf(u->list, " and %zu more", u->count - USERS_NAMED);
	return u->count;
}

size_t store_name_users(struct store *store, struct slice name, struct buf *list)
{
	struct users u = {.list = list};

	pthread_mutex_lock(&store->names->lock);
	add_users(store->names, name, &u);
	pthread_mutex_unlock(&store->names->lock);
	return end_users(&u);
}

size_t store_account_users(struct store *store, unsigned slot, uint32_t account, struct buf *list)
{
	struct users u = {.list = list};
	struct account_entry *a;

	pthread_mutex_lock(&store->names->lock);
	a = names_by_id(store->names, slot, account);
	for (struct list *l = a ? a->names.next : NULL; l && l != &a->names; l = l->next) {
		const struct name_entry *e = container_of(l, struct name_entry, link);

		add_users(store->names, slice_of(e->name, e->len), &u);
	}
	pthread_mutex_unlock(&store->names->lock);
	return end_users(&u);
}
