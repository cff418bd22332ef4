/*
 * Accounts that share mailboxes with the session's user. ENABLE METADATA watches each of them, and in each slot what ACLs give
 * to the user or to anyone; a notice of the latter lists the accounts anew. All of it lives on the loop, but for what the job
 * that reads an account's log keeps with it. What may be told is asked of the rights as they are when it is told.
 */
#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_metadata.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_notify.h"
#include "backend/store/store_change.h"
#include "common/base/mem.h"
#include "common/proto/imap_write.h"

/* One account. */
struct other {
	struct imap_session *s;
	unsigned slot;
	uint32_t account;
	struct store_watch *watch;
	bool is_stale; /* the store has told of a change */
	uint64_t told; /* 0: begins now */
	struct imap_notify_own own;
};

struct imap_others {
	struct other *list[IMAP_NOTIFY_OTHERS_MAX];
	unsigned count;
	struct store_watch *shared[2 * STORE_SLOTS_MAX]; /* with the user, with anyone */
	unsigned shared_count;
	bool is_list_stale;
	/* While the list is made anew. */
	unsigned slots_left;
	unsigned found_count;
	struct {
		unsigned slot;
		uint32_t account;
	} found[IMAP_NOTIFY_OTHERS_MAX];
	struct other *at; /* the one of the job under way */
	void (*done)(struct imap_session *s);
};

/* ---- watches ---- */

static void list_changed(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	struct imap_session *s = arg;

	(void)account;
	(void)mailbox;
	(void)modseq;
	s->notify->others->is_list_stale = true;
	imap_session_look(s);
}

static void other_changed(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	struct other *o = arg;

	(void)account;
	(void)modseq;
	if (mailbox) /* annotations are changes of the account */
		return;
	o->is_stale = true;
	imap_session_look(o->s);
}

void imap_others_start(struct imap_session *s)
{
	struct imap_notify *n = s->notify;
	struct store_work *work = s->service->work;
	unsigned slots = store_slots(store_work_store(work));
	struct imap_others *others;

	if (n->others)
		return;
	n->others = others = xcalloc(1, sizeof(*others));
	for (unsigned i = 0; i < slots; i++) {
		others->shared[others->shared_count++] =
			store_work_watch_shared(work, i, imap_access_who(s), s->loop, list_changed, s);
		others->shared[others->shared_count++] =
			store_work_watch_shared(work, i, (struct store_who){0, 0}, s->loop, list_changed, s);
	}
	others->is_list_stale = true;
}

void imap_others_end(struct imap_session *s)
{
	struct imap_others *others = s->notify ? s->notify->others : NULL;

	for (unsigned i = 0; others && i < others->shared_count; i++)
		store_work_unwatch(&others->shared[i]);
	for (unsigned i = 0; others && i < others->count; i++)
		store_work_unwatch(&others->list[i]->watch);
}

void imap_others_free(struct imap_others **others)
{
	for (unsigned i = 0; *others && i < (*others)->count; i++)
		free((*others)->list[i]);
	free(*others);
	*others = NULL;
}

/* ---- the list ---- */

static struct other *find(const struct imap_others *others, unsigned slot, uint32_t account)
{
	for (unsigned i = 0; others && i < others->count; i++)
		if (others->list[i]->slot == slot && others->list[i]->account == account)
			return others->list[i];
	return NULL;
}

static void add_found(struct imap_others *others, unsigned slot, uint32_t account)
{
	for (unsigned i = 0; i < others->found_count; i++)
		if (others->found[i].slot == slot && others->found[i].account == account)
			return;
	if (others->found_count == IMAP_NOTIFY_OTHERS_MAX)
		return;
	others->found[others->found_count].slot = slot;
	others->found[others->found_count++].account = account;
}

static bool is_found(const struct imap_others *others, const struct other *o)
{
	for (unsigned i = 0; i < others->found_count; i++)
		if (others->found[i].slot == o->slot && others->found[i].account == o->account)
			return true;
	return false;
}

static void drop(struct imap_others *others, struct other *o)
{
	unsigned i = 0;

	while (others->list[i] != o)
		i++;
	others->list[i] = others->list[--others->count];
	store_work_unwatch(&o->watch);
	free(o);
}

static void put_list_in_force(struct imap_session *s)
{
	struct imap_others *others = s->notify->others;

	for (unsigned i = others->count; i-- > 0;)
		if (!is_found(others, others->list[i]))
			drop(others, others->list[i]);
	for (unsigned i = 0; i < others->found_count; i++) {
		struct other *o;

		if (find(others, others->found[i].slot, others->found[i].account))
			continue;
		o = xcalloc(1, sizeof(*o));
		o->s = s;
		o->slot = others->found[i].slot;
		o->account = others->found[i].account;
		o->is_stale = true; /* a first look says where the log ends */
		o->watch =
			store_work_watch(s->service->work, o->slot, o->account, 0, s->loop, other_changed, o);
		others->list[others->count++] = o;
	}
}

static int list_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_others *others = s->notify->others;
	uint32_t owners[IMAP_NOTIFY_OTHERS_MAX];
	size_t count;
	int err = imap_access_owners(s, txn, owners, ARRAY_LEN(owners), &count);

	for (size_t i = 0; i < count && err == 0; i++)
		add_found(others, store_txn_slot(txn), owners[i]);
	return err;
}

static void list_next(struct imap_session *s, int err)
{
	struct imap_others *others = s->notify->others;

	if (err == 0 && others->slots_left) {
		s->at_slot = --others->slots_left;
		imap_read(s, list_run, list_next);
		return;
	}
	if (err == 0)
		put_list_in_force(s);
	others->done(s);
}

/* ---- what has changed ---- */

struct named {
	uint32_t mailbox;
	struct slice text;
	struct named *next;
};

struct tell {
	struct imap_session *s;
	struct other *o;
	struct arena arena;
	struct named *named, **tail;
	unsigned count;
};

static int gather(void *arg, const struct store_change *c)
{
	struct tell *t = arg;
	struct named *n;

	if (c->kind != STORE_CHANGE_METADATA || !c->mailbox || imap_notify_is_own(&t->o->own, c->modseq) ||
		(c->user != STORE_METADATA_SHARED && c->user != imap_metadata_user(t->s)))
		return 0;
	n = t->count++ < IMAP_NOTIFY_CHANGES_MAX ? arena_calloc(&t->arena, 1, sizeof(*n)) : NULL;
	if (!n)
		return ERR_TOO_BIG;
	*n = (struct named){.mailbox = c->mailbox, .text = arena_copy(&t->arena, c->text)};
	*t->tail = n;
	t->tail = &n->next;
	return 0;
}

static int tell_one(
	struct tell *t, struct store_txn *txn, const struct store_account *owner, const struct named *n)
{
	struct store_mailbox mailbox;
	struct slice name;
	int err = store_mailbox_get(txn, t->o->account, n->mailbox, &mailbox);

	if (err == 0)
		err = imap_metadata_check(t->s, txn, &mailbox);
	if (err < 0) /* it has gone, or is not for this session */
		return err == ERR_NOT_FOUND || err == ERR_FORBIDDEN ? 0 : err;
	name = imap_access_full_name(owner, mailbox.name, &t->arena);
	if (!name.p)
		return ERR_TOO_BIG;
	imap_notify_write_metadata(t->s, name, n->text);
	return 0;
}

static int tell_run(struct imap_session *s, struct store_txn *txn)
{
	struct other *o = s->notify->others->at;
	struct tell t = {.s = s, .o = o};
	struct store_account owner;
	uint64_t now = 0;
	bool is_incomplete;
	int err = store_get_account(store_work_store(s->service->work), o->slot, o->account, &owner);

	arena_init(&t.arena, 0);
	t.tail = &t.named;
	if (err == 0)
		err = store_change_each(txn, o->account, o->told ? o->told : UINT64_MAX - 1, gather, &t, &now,
			&is_incomplete);
	/* Too many to be told: they are seen when they are asked for. */
	if (err == ERR_TOO_BIG) {
		err = 0;
		t.named = NULL;
	}
	for (const struct named *n = t.named; n && err == 0; n = n->next)
		err = tell_one(&t, txn, &owner, n);
	arena_deinit(&t.arena);
	if (err < 0)
		return err;
	o->told = now;
	o->own.count = 0;
	return 0;
}

static void tell_done(struct imap_session *s, int err)
{
	struct imap_others *others = s->notify->others;

	if (err == ERR_NOT_FOUND) /* it has gone, or moved */
		drop(others, others->at);
	others->at = NULL;
	others->done(s);
}

static struct other *find_stale(const struct imap_others *others)
{
	for (unsigned i = 0; others && i < others->count; i++)
		if (others->list[i]->is_stale)
			return others->list[i];
	return NULL;
}

bool imap_others_are_due(const struct imap_others *others)
{
	return others && (others->is_list_stale || find_stale(others));
}

void imap_others_step(struct imap_session *s, void (*done)(struct imap_session *s))
{
	struct imap_others *others = s->notify->others;

	others->done = done;
	if (others->is_list_stale) {
		others->is_list_stale = false;
		others->found_count = 0;
		others->slots_left = store_slots(store_work_store(s->service->work));
		/* Before all others, should there be too many. */
		if (s->view.mailbox && s->view.is_guest)
			add_found(others, s->view.slot, s->view.account);
		list_next(s, 0);
		return;
	}
	others->at = find_stale(others);
	others->at->is_stale = false;
	s->at_slot = others->at->slot;
	imap_read(s, tell_run, tell_done);
}

void imap_others_selected(struct imap_session *s)
{
	struct imap_others *others = s->notify ? s->notify->others : NULL;

	if (others && s->view.is_guest && !find(others, s->view.slot, s->view.account))
		others->is_list_stale = true;
}

void imap_others_own(struct imap_session *s, unsigned slot, uint32_t account, uint64_t from, uint64_t to)
{
	struct other *o = s->notify ? find(s->notify->others, slot, account) : NULL;

	if (o && from && to >= from)
		imap_notify_add_own(&o->own, from, to);
}
