/*
 * The one place where a mailbox name becomes a mailbox, and where it is decided what the session may do with it. The answer to
 * "not there" and to "not allowed to look it up" is the same, and so is the way to it: an address without an account is looked
 * up among the mailboxes of account 0, which has none.
 */
#include "backend/session/imap_access.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/proto/address.h"

uint32_t imap_access_account(const struct imap_session *s)
{
	return s->account;
}

struct store_who imap_access_who(const struct imap_session *s)
{
	return (struct store_who){s->slot, s->account};
}

static struct slice first_level(struct slice name)
{
	ptrdiff_t at = slice_find(name, STORE_SEPARATOR);

	return at < 0 ? name : slice_sub(name, 0, (size_t)at);
}

static struct slice behind(struct slice name, size_t levels_len)
{
	return name.len > levels_len ? slice_from(name, levels_len + 1) : slice_of(NULL, 0);
}

/* The address that a name behind "user/" begins with: a local part may hold the separator, a domain may not. */
static struct slice address_levels(struct slice rest)
{
	ptrdiff_t at = slice_find(rest, '@');
	struct slice domain = at < 0 ? rest : slice_from(rest, (size_t)at);
	struct slice end = first_level(domain);

	return slice_sub(rest, 0, rest.len - domain.len + end.len);
}

int imap_access_name(struct imap_session *s, struct slice name, struct arena *arena, struct slice *name_out)
{
	struct slice bare = name, own;

	(void)s;
	/* CREATE "x/": a hint that children will come (RFC 3501 section 6.3.3). */
	if (bare.len > 1 && bare.p[bare.len - 1] == STORE_SEPARATOR)
		bare.len--;
	/* Wildcards would make a name that no LIST can ask for; an address has those that it has. */
	own = bare;
	if (slice_is_str(first_level(bare), IMAP_ACCESS_OTHERS)) {
		own = behind(bare, first_level(bare).len);
		own = behind(own, address_levels(own).len);
	}
	if (slice_find(own, '%') >= 0 || slice_find(own, '*') >= 0)
		return ERR_SYNTAX;
	return store_mailbox_normalise(bare, arena, name_out);
}

/* ---- whose is it? ---- */

bool imap_access_is_foreign(struct slice name)
{
	struct slice level = first_level(name);

	return slice_is_str(level, IMAP_ACCESS_OTHERS) || slice_is_str(level, IMAP_ACCESS_PUBLIC);
}

static struct slice domain_of(struct slice address)
{
	ptrdiff_t at = slice_find_last(address, '@');

	return at < 0 ? slice_of(NULL, 0) : slice_from(address, (size_t)at);
}

static bool is_near(const struct imap_session *s, const char *address)
{
	return slice_is_equal_nocase(domain_of(slice_str(s->user)), domain_of(slice_str(address)));
}

static bool is_public(const char *address)
{
	return store_account_is_public(slice_str(address));
}

int64_t imap_access_created(const struct imap_session *s, unsigned slot, uint32_t account)
{
	struct store_account owner;

	if (store_get_account(store_work_store(s->service->work), slot, account, &owner) < 0)
		return 0;
	return owner.created;
}

int imap_access_public(const struct imap_session *s, struct store_account *account_out)
{
	char address[STORE_ADDRESS_MAX + sizeof(STORE_PUBLIC_LOCAL)];
	struct slice domain = domain_of(slice_str(s->user));

	snprintf(address, sizeof(address), STORE_PUBLIC_LOCAL "%.*s", SLICE_ARG(domain));
	return store_find_account(store_work_store(s->service->work), slice_str(address), account_out);
}

/* The canonical address, in any case of letters: an alias, or one with a +detail, is no name of a place. */
static int find_other(const struct imap_session *s, struct slice address, struct store_account *owner)
{
	int err = store_find_account(store_work_store(s->service->work), address, owner);

	if (err == 0 &&
		(!slice_is_equal_nocase(address, slice_str(owner->address)) || is_public(owner->address) ||
			(owner->slot == s->slot && owner->id == s->account)))
		err = ERR_NOT_FOUND;
	return err;
}

void imap_access_resolve(const struct imap_session *s, struct slice name, struct imap_place *out)
{
	struct slice level = first_level(name), rest = behind(name, level.len), address;
	struct store_account owner;
	int err = ERR_NOT_FOUND;

	*out = (struct imap_place){
		.slot = s->slot, .account = s->account, .owner = slice_of("", 0), .rest = name};
	if (!imap_access_is_foreign(name))
		return;
	*out = (struct imap_place){.slot = s->slot, .owner = level, .rest = rest, .is_foreign = true};
	if (slice_is_str(level, IMAP_ACCESS_PUBLIC)) {
		err = rest.len ? imap_access_public(s, &owner) : ERR_NOT_FOUND;
	} else {
		address = address_levels(rest);
		out->owner = slice_sub(name, 0, level.len + (rest.len ? 1 + address.len : 0));
		out->rest = behind(rest, address.len);
		err = out->rest.len ? find_other(s, address, &owner) : ERR_NOT_FOUND;
	}
	if (err < 0)
		return;
	out->slot = owner.slot;
	out->account = owner.id;
	out->is_near = is_near(s, owner.address);
}

bool imap_access_is_one_owner(const struct imap_session *s, struct slice a, struct slice b)
{
	struct imap_place x, y;

	imap_access_resolve(s, a, &x);
	imap_access_resolve(s, b, &y);
	return slice_is_equal_nocase(x.owner, y.owner);
}

struct slice imap_access_full_name(const struct store_account *owner, struct slice rest, struct arena *arena)
{
	size_t room = STORE_ADDRESS_MAX + sizeof(IMAP_ACCESS_PUBLIC) + rest.len + 2;
	char *text = arena_alloc(arena, room);
	int n;

	if (!text)
		return slice_of(NULL, 0);
	if (is_public(owner->address))
		n = snprintf(text, room, IMAP_ACCESS_PUBLIC "/%.*s", SLICE_ARG(rest));
	else
		n = snprintf(text, room, IMAP_ACCESS_OTHERS "/%s/%.*s", owner->address, SLICE_ARG(rest));
	return slice_of(text, n > 0 ? (size_t)n : 0);
}

int imap_access_canonical(struct slice name, struct arena *arena, struct slice *name_out)
{
	struct slice level = first_level(name), rest = behind(name, level.len), address;
	struct address_name canonical;
	struct buf text = {0};
	int err = 0;

	*name_out = name;
	if (!imap_access_is_foreign(name) || !rest.len)
		return 0;
	buf_add_slice(&text, level);
	if (slice_is_str(level, IMAP_ACCESS_OTHERS)) {
		address = address_levels(rest);
		rest = behind(rest, address.len);
		if (address_normalise_whole(arena, address, &canonical) == 0)
			address = canonical.full;
		buf_add_char(&text, STORE_SEPARATOR);
		buf_add_slice(&text, address);
	}
	if (rest.len)
		err = store_mailbox_normalise(rest, arena, &rest);
	if (err == 0 && rest.len) {
		buf_add_char(&text, STORE_SEPARATOR);
		buf_add_slice(&text, rest);
	}
	if (err == 0) {
		*name_out = arena_copy(arena, buf_view(&text));
		err = name_out->p ? 0 : ERR_TOO_BIG;
	}
	buf_deinit(&text);
	return err;
}

void imap_access_go(struct imap_session *s, struct slice name)
{
	struct imap_place place;

	imap_access_resolve(s, name, &place);
	s->at_slot = place.slot;
}

/* ---- what may be done? ---- */

/* What a session that has these rights is told when it wants those. */
static int check(unsigned rights, unsigned wanted)
{
	if ((rights & wanted) == wanted)
		return 0;
	return rights & IMAP_RIGHT_LOOKUP ? ERR_FORBIDDEN : ERR_NOT_FOUND;
}

static int rights_of(struct imap_session *s, struct store_txn *txn, unsigned slot, uint32_t account,
	uint32_t mailbox, unsigned *rights_out)
{
	struct store_account owner;
	int err;

	*rights_out = 0;
	if (slot == s->slot && account == s->account) {
		*rights_out = IMAP_RIGHTS_ALL;
		return 0;
	}
	/* What an account leaves behind is no longer anybody's. */
	err = store_get_account(store_work_store(s->service->work), slot, account, &owner);
	if (err < 0)
		return err;
	return store_acl_rights(
		txn, account, mailbox, imap_access_who(s), is_near(s, owner.address), rights_out);
}

int imap_access_rights(struct imap_session *s, struct store_txn *txn, const struct store_mailbox *mailbox,
	unsigned *rights_out)
{
	return rights_of(s, txn, store_txn_slot(txn), mailbox->account, mailbox->id, rights_out);
}

int imap_access_find(struct imap_session *s, struct store_txn *txn, struct slice name, unsigned rights,
	struct store_mailbox *mailbox_out)
{
	struct store_mailbox mailbox;
	struct imap_place place;
	struct arena arena;
	struct slice normal;
	unsigned has = 0;
	int err;

	imap_access_resolve(s, name, &place);
	if (place.slot != store_txn_slot(txn)) /* it has moved since imap_access_go() */
		return ERR_NOT_NOW;
	imap_session_changes(s, txn, place.account);
	arena_init(&arena, 0);
	err = store_mailbox_normalise(place.rest, &arena, &normal);
	if (err == 0)
		err = store_mailbox_find(txn, place.account, normal, &mailbox);
	else
		err = ERR_NOT_FOUND; /* what is no name names nothing */
	arena_deinit(&arena);
	if (err == 0)
		err = imap_access_rights(s, txn, &mailbox, &has);
	if (err == 0 && rights == IMAP_RIGHTS_ANY)
		err = has & IMAP_RIGHTS_ANY ? 0 : ERR_NOT_FOUND;
	else if (err == 0)
		err = check(has, rights);
	if (err < 0)
		return err;
	/* A name without a mailbox can be looked up and managed, no more. */
	if (mailbox.noselect && rights != IMAP_RIGHTS_ANY &&
		rights & ~(unsigned)(IMAP_RIGHT_LOOKUP | IMAP_RIGHT_DELETE | IMAP_RIGHT_CREATE |
				     IMAP_RIGHT_ADMIN))
		return ERR_DENIED;
	if (place.is_foreign) {
		struct store_account owner;

		err = store_get_account(
			store_work_store(s->service->work), place.slot, place.account, &owner);
		if (err < 0)
			return err;
		mailbox.name = imap_access_full_name(&owner, mailbox.name, &s->arena);
		if (!mailbox.name.p)
			return ERR_TOO_BIG;
		mailbox.subscribed = false;
	}
	*mailbox_out = mailbox;
	return 0;
}

int imap_access_check(struct imap_session *s, struct store_txn *txn, unsigned rights)
{
	struct imap_view *v = &s->view;

	if (v->is_guest) {
		int err = rights_of(s, txn, v->slot, v->account, v->mailbox, &v->rights);

		if (err < 0)
			return err;
		if (!(v->rights & IMAP_RIGHT_READ))
			return ERR_NOT_FOUND;
	}
	return check(v->rights, rights);
}

uint8_t imap_access_flags(unsigned rights, uint8_t flags)
{
	uint8_t reach = 0;

	if (rights & IMAP_RIGHT_SEEN)
		reach |= STORE_SEEN;
	if (rights & IMAP_RIGHT_DELETE_MESSAGE)
		reach |= STORE_DELETED;
	if (rights & IMAP_RIGHT_WRITE)
		reach |= STORE_FLAGS_ALL & ~(STORE_SEEN | STORE_DELETED);
	return flags & reach;
}

/* ---- names that are to come ---- */

/* The rights on the nearest mailbox above; none without one. */
static int parent_rights(struct imap_session *s, struct store_txn *txn, uint32_t account, struct slice name,
	unsigned *rights_out)
{
	struct store_mailbox parent;
	int err = ERR_NOT_FOUND;

	*rights_out = 0;
	for (ptrdiff_t at = slice_find_last(name, STORE_SEPARATOR); err == ERR_NOT_FOUND && at > 0;
		at = slice_find_last(name, STORE_SEPARATOR)) {
		name.len = (size_t)at;
		err = store_mailbox_find(txn, account, name, &parent);
	}
	if (err == 0)
		return imap_access_rights(s, txn, &parent, rights_out);
	return err == ERR_NOT_FOUND ? 0 : err;
}

int imap_access_new(struct imap_session *s, struct store_txn *txn, struct slice name, uint32_t *account_out,
	struct slice *rest_out)
{
	struct store_mailbox there = {.id = 0};
	struct imap_place place;
	unsigned rights = 0;
	int err = 0;

	imap_access_resolve(s, name, &place);
	if (place.slot != store_txn_slot(txn))
		return ERR_NOT_NOW;
	imap_session_changes(s, txn, place.account);
	if (place.is_foreign) {
		if (!place.rest.len)
			return ERR_NOT_FOUND;
		err = parent_rights(s, txn, place.account, place.rest, &rights);
		if (err == 0)
			err = check(rights, IMAP_RIGHT_CREATE);
		if (err < 0)
			return err;
		err = store_mailbox_find(txn, place.account, place.rest, &there);
		if (err == ERR_NOT_FOUND)
			err = 0;
		else if (err == 0)
			err = imap_access_rights(s, txn, &there, &rights);
		/* What is there and not to be looked up is not told of by "exists". */
		if (err == 0 && there.id && !(rights & IMAP_RIGHT_LOOKUP))
			err = ERR_FORBIDDEN;
	}
	if (err < 0)
		return err;
	*account_out = place.account;
	*rest_out = place.rest;
	return 0;
}

/* ---- lists ---- */

static int compare_names(const void *a, const void *b)
{
	struct slice x = ((const struct store_mailbox *)a)->name, y = ((const struct store_mailbox *)b)->name;

	for (size_t i = 0; i < x.len && i < y.len; i++) {
		unsigned char c = (unsigned char)x.p[i], d = (unsigned char)y.p[i];

		if (c == d)
			continue;
		if (c == STORE_SEPARATOR || d == STORE_SEPARATOR)
			return c == STORE_SEPARATOR ? -1 : 1;
		return c < d ? -1 : 1;
	}
	return x.len < y.len ? -1 : x.len > y.len;
}

struct listing {
	struct imap_session *s;
	struct store_txn *txn;
	struct arena *arena;
	struct buf found; /* struct store_mailbox */
	struct store_account owner;
};

static int list_one(struct listing *l, uint32_t mailbox)
{
	struct store_mailbox m;
	unsigned rights = 0;
	int err = store_mailbox_get(l->txn, l->owner.id, mailbox, &m);

	if (err == 0)
		err = rights_of(l->s, l->txn, l->owner.slot, l->owner.id, mailbox, &rights);
	if (err < 0 || !(rights & IMAP_RIGHT_LOOKUP))
		return err == ERR_NOT_FOUND ? 0 : err;
	m.name = imap_access_full_name(&l->owner, m.name, l->arena);
	m.subscribed = false;
	m.use = STORE_USE_NONE; /* the owner's */
	buf_add(&l->found, &m, sizeof(m));
	return m.name.p ? 0 : ERR_TOO_BIG;
}

/* Mailboxes of this account that name `who` are listed. Public ones are in list_public(), if they are of this domain. */
static bool is_listed(const struct imap_session *s, struct store_who who, const struct store_account *owner)
{
	return (owner->id != s->account || owner->slot != s->slot) &&
	       (who.account != 0 || is_near(s, owner->address)) && !is_public(owner->address);
}

/* Mailboxes that name the session's account, or "anyone" near; of one owner (account not 0). */
static int list_shared(struct listing *l, struct store_who who, uint32_t account)
{
	struct store *store = store_work_store(l->s->service->work);
	struct store_acl_shared *shared;
	size_t count;
	int err = store_acl_shared_of(l->txn, who, account, l->arena, &shared, &count);

	l->owner.id = 0;
	for (size_t i = 0; i < count && err == 0; i++) {
		if (shared[i].account != l->owner.id) {
			err = store_get_account(store, store_txn_slot(l->txn), shared[i].account, &l->owner);
			if (err < 0)
				l->owner.id = 0;
		}
		if (!l->owner.id) { /* it has gone */
			err = 0;
			continue;
		}
		if (is_listed(l->s, who, &l->owner))
			err = list_one(l, shared[i].mailbox);
	}
	return err;
}

/* Public folders are few and most name "anyone": they are looked through by themselves. */
static int list_public(struct listing *l)
{
	struct store_mailbox *all;
	size_t count;
	int err = imap_access_public(l->s, &l->owner);

	if (err < 0 || l->owner.slot != store_txn_slot(l->txn))
		return err == ERR_NOT_FOUND ? 0 : err;
	err = store_mailbox_list(l->txn, l->owner.id, l->arena, &all, &count);
	for (size_t i = 0; i < count && err == 0; i++) {
		if (all[i].id)
			err = list_one(l, all[i].id);
	}
	return err;
}

static bool is_below(struct slice name, struct slice parent)
{
	return name.len > parent.len && name.p[parent.len] == STORE_SEPARATOR &&
	       memcmp(name.p, parent.p, parent.len) == 0;
}

static void mark_parents(struct store_mailbox *m, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t at = i + 1;

		while (at < count && !m[at].id && is_below(m[at].name, m[i].name))
			at++;
		m[i].has_children = at < count && is_below(m[at].name, m[i].name);
	}
}

void imap_access_sort(struct store_mailbox *mailboxes, size_t count)
{
	if (count)
		qsort(mailboxes, count, sizeof(*mailboxes), compare_names);
	mark_parents(mailboxes, count);
}

/* What was found in order, each once. */
static int end_listing(struct listing *l, int err, struct store_mailbox **mailboxes_out, size_t *count_out)
{
	struct store_mailbox *m = arena_calloc(l->arena, buf_len(&l->found) / sizeof(*m) + 1, sizeof(*m));
	size_t count = 0;

	if (err == 0 && !m)
		err = ERR_TOO_BIG;
	if (err == 0 && buf_len(&l->found)) {
		size_t n = buf_len(&l->found) / sizeof(*m);

		memcpy(m, buf_view(&l->found).p, n * sizeof(*m));
		qsort(m, n, sizeof(*m), compare_names);
		for (size_t i = 0; i < n; i++) /* named by both entries */
			if (count == 0 || m[count - 1].id != m[i].id)
				m[count++] = m[i];
	}
	buf_deinit(&l->found);
	if (err < 0)
		return err;
	mark_parents(m, count);
	*mailboxes_out = m;
	*count_out = count;
	return 0;
}

int imap_access_list(struct imap_session *s, struct store_txn *txn, struct arena *arena,
	struct store_mailbox **mailboxes_out, size_t *count_out)
{
	struct listing l = {.s = s, .txn = txn, .arena = arena};
	int err = list_shared(&l, imap_access_who(s), 0);

	if (err == 0)
		err = list_shared(&l, (struct store_who){0, 0}, 0);
	if (err == 0)
		err = list_public(&l);
	return end_listing(&l, err, mailboxes_out, count_out);
}

int imap_access_list_of(struct imap_session *s, struct store_txn *txn, const struct store_account *owner,
	struct arena *arena, struct store_mailbox **mailboxes_out, size_t *count_out)
{
	struct listing l = {.s = s, .txn = txn, .arena = arena};
	int err = 0;

	if (is_public(owner->address)) {
		err = is_near(s, owner->address) ? list_public(&l) : 0;
	} else {
		err = list_shared(&l, imap_access_who(s), owner->id);
		if (err == 0)
			err = list_shared(&l, (struct store_who){0, 0}, owner->id);
	}
	return end_listing(&l, err, mailboxes_out, count_out);
}

static void add_owner(uint32_t *owners, size_t room, size_t *count, uint32_t owner)
{
	for (size_t i = 0; i < *count; i++)
		if (owners[i] == owner)
			return;
	if (*count < room)
		owners[(*count)++] = owner;
}

static int owners_of(struct imap_session *s, struct store_txn *txn, struct store_who who, uint32_t *owners,
	size_t room, size_t *count)
{
	struct store *store = store_work_store(s->service->work);
	struct store_acl_shared *shared;
	struct store_account owner;
	struct arena arena;
	size_t shared_count;
	int err;

	arena_init(&arena, 0);
	err = store_acl_shared(txn, who, &arena, &shared, &shared_count);
	for (size_t i = 0; err == 0 && i < shared_count && *count < room; i++) {
		if (i > 0 && shared[i].account == shared[i - 1].account)
			continue;
		if (store_get_account(store, store_txn_slot(txn), shared[i].account, &owner) == 0 &&
			is_listed(s, who, &owner))
			add_owner(owners, room, count, owner.id);
	}
	arena_deinit(&arena);
	return err;
}

int imap_access_owners(
	struct imap_session *s, struct store_txn *txn, uint32_t *owners, size_t room, size_t *count_out)
{
	struct store_account owner;
	size_t count = 0;
	int err = imap_access_public(s, &owner);

	if (err == 0 && owner.slot == store_txn_slot(txn))
		add_owner(owners, room, &count, owner.id);
	if (err == 0 || err == ERR_NOT_FOUND)
		err = owners_of(s, txn, imap_access_who(s), owners, room, &count);
	if (err == 0)
		err = owners_of(s, txn, (struct store_who){0, 0}, owners, room, &count);
	*count_out = count;
	return err;
}
