/* Breadth first; the list is the queue and the set of those that were seen. */
#include "backend/delivery/forward.h"

#include "common/base/arena.h"
#include "common/base/log.h"

struct walk {
	struct store *store;
	struct arena *arena;
	struct forward_account *list;
	size_t count;
};

static bool is_seen(const struct walk *w, const struct store_account *a)
{
	for (size_t i = 0; i < w->count; i++)
		if (!w->list[i].is_remote && w->list[i].slot == a->slot && w->list[i].id == a->id)
			return true;
	return false;
}

static int see(struct walk *w, const struct store_account *a)
{
	struct slice address = arena_copy(w->arena, slice_str(a->address));

	if (!address.p || w->count == FORWARD_ACCOUNTS_MAX)
		return ERR_CLOSED;
	w->list[w->count] = (struct forward_account){.slot = a->slot,
		.id = a->id,
		.is_forwarded = w->count > 0,
		.address = (char *)(uintptr_t)address.p};
	w->count++;
	return 0;
}

/* Not an account's here: it goes to the queue, and from there to wherever that is. */
static int leave(struct walk *w, const struct forward_account *from, struct slice address)
{
	struct slice copy;

	for (size_t i = 0; i < w->count; i++)
		if (w->list[i].is_remote && slice_is_str(address, w->list[i].address))
			return 0;
	copy = arena_copy(w->arena, address);
	if (slice_find(address, '@') < 0 || !copy.p || w->count == FORWARD_ACCOUNTS_MAX)
		return ERR_CLOSED;
	w->list[w->count++] = (struct forward_account){.slot = from->slot,
		.is_forwarded = true,
		.is_remote = true,
		.address = (char *)(uintptr_t)copy.p,
		.from = from->address};
	return 0;
}

/* As mail for it would be: one that is an account's by its detail or a catch-all would come back through the queue, round and round. */
static int follow(struct walk *w, const struct forward_account *from, struct slice address)
{
	struct store_account next;
	int err = store_find_recipient(w->store, address, &next);

	if (err == ERR_NOT_FOUND)
		return leave(w, from, address);
	if (!err && is_seen(w, &next))
		return 0;
	if (!err && (next.flags & STORE_ACCOUNT_NO_MAIL))
		err = ERR_DENIED;
	if (err == ERR_NOT_NOW || (!err && (next.flags & STORE_ACCOUNT_MAIL_LATER)))
		return ERR_NOT_NOW;
	if (!err)
		err = see(w, &next);
	if (!err)
		return 0;
	log_warn("delivery", "forwarding is broken, its mail is refused for a time account=%s to=%.*s: %s",
		from->address, SLICE_ARG(address), error_text(err));
	return ERR_CLOSED;
}

/* What the i-th account forwards, at the end of the list. */
static int expand(struct walk *w, size_t i)
{
	struct store_account now;
	struct slice *forwards;
	size_t count;
	int err;

	if (w->list[i].is_remote)
		return 0;
	err = store_get_account(w->store, w->list[i].slot, w->list[i].id, &now);

	if (err)
		return ERR_NOT_NOW; /* gone since we looked */
	if (!(now.flags & STORE_ACCOUNT_FORWARDS) || (now.flags & STORE_ACCOUNT_SUSPENDED))
		return 0;
	err = store_forwards(w->store, now.slot, now.id, w->arena, &forwards, &count);
	if (err || !count)
		return err ? ERR_NOT_NOW : 0;
	w->list[i].is_on_the_way = now.flags & STORE_ACCOUNT_FORWARDS_ONLY;
	for (size_t f = 0; f < count && !err; f++)
		err = follow(w, &w->list[i], forwards[f]);
	return err;
}

int forward_expand(struct store *store, const struct store_account *account, struct arena *arena,
	struct forward_account **list_out, size_t *count_out)
{
	struct walk w = {.store = store, .arena = arena};
	size_t most = account->flags & STORE_ACCOUNT_FORWARDS ? FORWARD_ACCOUNTS_MAX : 1, kept = 0;
	int err;

	w.list = arena_calloc(arena, most, sizeof(*w.list));
	if (!w.list)
		return ERR_NOT_NOW;
	err = see(&w, account);
	for (size_t i = 0; i < w.count && !err && most > 1; i++)
		err = expand(&w, i);
	if (err)
		return err;
	for (size_t i = 0; i < w.count; i++)
		if (!w.list[i].is_on_the_way)
			w.list[kept++] = w.list[i];
	if (!kept) {
		log_warn("delivery", "forwarding goes in circles account=%s", account->address);
		return ERR_DENIED;
	}
	*list_out = w.list;
	*count_out = kept;
	return 0;
}
