/*
 * Accounts that share mailboxes with the session's user. ENABLE METADATA watches each of them, NOTIFY those of whose mailboxes it wants
 * something; both watch, in each slot, what ACLs give to the user or to anyone: a notice of that lists the accounts anew. All of it
 * lives on the loop, but for what the job that reads an account's log keeps with it. What may be told is asked of the rights as
 * they are when it is told.
 */
#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_notify_inner.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

/* Accounts of one slot that are looked at; more than the user may watch, since not all may be wanted. */
#define OWNERS_MAX 1024

/* ---- notices ---- */

static struct imap_other *find_stale(const struct imap_others *others, uint64_t now_ms)
{
	for (unsigned i = 0; others && i < others->count; i++)
		if (others->list[i]->is_stale && others->list[i]->look_ms <= now_ms)
			return others->list[i];
	return NULL;
}

/* A busy mailbox costs a session that only listens one look in a while; a command is answered with what there is. */
static uint64_t time_of(const struct imap_session *s)
{
	return s->cmd && s->cmd->fn != imap_cmd_idle ? UINT64_MAX : clock_mono_ms();
}

bool imap_others_are_due(const struct imap_session *s)
{
	const struct imap_others *others = s->notify ? s->notify->others : NULL;
	uint64_t now_ms = others ? time_of(s) : 0;

	return others && ((others->is_list_stale && others->list_ms <= now_ms) || find_stale(others, now_ms));
}

/* A look is had now: when may the next one be? */
static void pace(uint64_t *next_ms, uint64_t *pace_ms)
{
	uint64_t now_ms = clock_mono_ms();

	if (*pace_ms == 0 || now_ms > *next_ms + *pace_ms)
		*pace_ms = IMAP_NOTIFY_PACE_MS;
	else if (*pace_ms < IMAP_NOTIFY_PACE_MAX_MS / 2)
		*pace_ms *= 2;
	else
		*pace_ms = IMAP_NOTIFY_PACE_MAX_MS;
	*next_ms = now_ms + *pace_ms;
}

/* What has to wait has the timer; what is due, and cannot be told while a job runs, is looked after, too. */
static void rest(struct imap_others *others)
{
	uint64_t now_ms = clock_mono_ms(), next_ms = others->is_list_stale ? others->list_ms : UINT64_MAX;

	for (unsigned i = 0; i < others->count; i++)
		if (others->list[i]->is_stale && others->list[i]->look_ms < next_ms)
			next_ms = others->list[i]->look_ms;
	if (next_ms < UINT64_MAX)
		timer_set(&others->timer, others->s->loop,
			next_ms > now_ms ? next_ms - now_ms : IMAP_NOTIFY_PACE_MAX_MS / 4);
}

void imap_others_rest(struct imap_session *s)
{
	if (s->notify->others)
		rest(s->notify->others);
}

static void look(struct imap_others *others)
{
	rest(others);
	imap_session_look(others->s); /* the last: it may end all of this */
}

static void on_timer(void *arg)
{
	look(arg);
}

static void list_changed(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	struct imap_others *others = arg;

	(void)account;
	(void)mailbox;
	(void)modseq;
	others->is_list_stale = others->is_granted = true;
	look(others);
}

static void other_changed(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	struct imap_other *o = arg;

	(void)account;
	(void)modseq;
	if (mailbox && !o->is_watched) /* annotations are changes of the account */
		return;
	o->is_stale = true;
	look(o->all);
}

/* ---- beginning and end ---- */

static struct imap_others *others_new(struct imap_session *s, const struct imap_notify_set *set)
{
	struct store_work *work = s->service->work;
	unsigned slots = store_slots(store_work_store(work));
	struct imap_others *others = xcalloc(1, sizeof(*others));

	others->s = s;
	others->set = set;
	timer_init(&others->timer, on_timer, others);
	for (unsigned i = 0; i < slots; i++) {
		others->shared[others->shared_count++] =
			store_work_watch_shared(work, i, imap_access_who(s), s->loop, list_changed, others);
		others->shared[others->shared_count++] = store_work_watch_shared(
			work, i, (struct store_who){0, 0}, s->loop, list_changed, others);
	}
	return others;
}

void imap_others_start(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (!n->others)
		n->others = others_new(s, NULL);
	n->others->is_list_stale = true;
	n->others->list_ms = 0;
}

static void end_watches(struct imap_others *others)
{
	for (unsigned i = 0; others && i < others->shared_count; i++)
		store_work_unwatch(&others->shared[i]);
	for (unsigned i = 0; others && i < others->count; i++)
		store_work_unwatch(&others->list[i]->watch);
	if (others)
		timer_stop(&others->timer);
}

void imap_others_end(struct imap_session *s)
{
	if (s->notify) {
		end_watches(s->notify->others);
		end_watches(s->notify->next_others);
	}
}

static void free_other(struct imap_other *o)
{
	imap_foreign_forget(o);
	buf_deinit(&o->subscribed);
	free(o->address);
	free(o);
}

void imap_others_free(struct imap_others **others)
{
	for (unsigned i = 0; *others && i < (*others)->count; i++)
		free_other((*others)->list[i]);
	if (*others) {
		buf_deinit(&(*others)->subscribed);
		free((*others)->found);
	}
	free(*others);
	*others = NULL;
}

static void discard(struct imap_others **others)
{
	end_watches(*others);
	imap_others_free(others);
}

void imap_others_put_in_force(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (n->others && n->next_others && n->others->is_subscribed_stale) {
		buf_add_slice(&n->next_others->subscribed, buf_view(&n->others->subscribed));
		n->next_others->is_subscribed_stale = true;
	}
	discard(&n->others);
	n->others = n->next_others;
	n->next_others = NULL;
	imap_others_see_subscribed(s);
}

void imap_others_give_up(struct imap_session *s)
{
	discard(&s->notify->next_others);
}

void imap_others_clear(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (!n->others)
		return;
	if (!n->is_metadata_wanted) {
		discard(&n->others);
		return;
	}
	n->others->set = NULL;
	buf_deinit(&n->others->subscribed);
	for (unsigned i = 0; i < n->others->count; i++) {
		imap_foreign_forget(n->others->list[i]);
		buf_deinit(&n->others->list[i]->subscribed);
		n->others->list[i]->is_watched = false;
	}
}

/* ---- the list ---- */

static struct imap_other *find(const struct imap_others *others, unsigned slot, uint32_t account)
{
	for (unsigned i = 0; others && i < others->count; i++)
		if (others->list[i]->slot == slot && others->list[i]->account == account)
			return others->list[i];
	return NULL;
}

static void add_found(struct imap_others *others, unsigned slot, uint32_t account, bool is_watched)
{
	for (unsigned i = 0; i < others->found_count; i++) {
		if (others->found[i].slot == slot && others->found[i].account == account) {
			others->found[i].is_watched |= is_watched;
			return;
		}
	}
	if (others->found_count == IMAP_NOTIFY_OTHERS_MAX) {
		others->is_full |= is_watched;
		return;
	}
	others->found[others->found_count].slot = slot;
	others->found[others->found_count].account = account;
	others->found[others->found_count++].is_watched = is_watched;
}

static bool is_found(const struct imap_others *others, const struct imap_other *o)
{
	for (unsigned i = 0; i < others->found_count; i++)
		if (others->found[i].slot == o->slot && others->found[i].account == o->account)
			return true;
	return false;
}

static void drop(struct imap_others *others, struct imap_other *o)
{
	unsigned i = 0;

	while (others->list[i] != o)
		i++;
	others->list[i] = others->list[--others->count];
	store_work_unwatch(&o->watch);
	free_other(o);
}

static struct imap_other *add_other(struct imap_others *others, unsigned slot, uint32_t account)
{
	struct imap_session *s = others->s;
	struct imap_other *o = xcalloc(1, sizeof(*o));

	o->all = others;
	o->slot = slot;
	o->account = account;
	o->is_stale = true; /* a first look says where the log ends */
	o->is_quiet = !others->tells_new;
	o->watch = store_work_watch(s->service->work, slot, account, 0, s->loop, other_changed, o);
	others->list[others->count++] = o;
	return o;
}

/* What was subscribed meanwhile goes to whose mailbox it is; of nobody's, it can be told at once. */
static void share_out_subscribed(struct imap_others *others)
{
	struct imap_session *s = others->s;
	struct slice all = buf_view(&others->subscribed);
	struct buf out = {0};

	for (ptrdiff_t end; (end = slice_find(all, '\n')) >= 0; all = slice_from(all, (size_t)end + 1)) {
		struct slice name = slice_sub(all, 0, (size_t)end);
		struct imap_place place;
		struct imap_other *o;

		imap_access_resolve(s, name, &place);
		o = place.account ? find(others, place.slot, place.account) : NULL;
		if (o && o->is_watched) {
			buf_add_slice(&o->subscribed, slice_sub(all, 0, (size_t)end + 1));
			o->is_stale = true;
			o->look_ms = 0;
		} else if (imap_notify_wanted(others->set, name, true) & IMAP_EVENT_SUBSCRIPTION) {
			imap_foreign_write_missing(
				s, name, false, false, imap_notify_is_subscribed(others->set, name), &out);
		}
	}
	if (buf_len(&out))
		conn_write_take(s->conn, &out);
	buf_deinit(&out);
	buf_deinit(&others->subscribed);
}

static void put_list_in_force(struct imap_others *others)
{
	for (unsigned i = others->count; i-- > 0;) {
		struct imap_other *o = others->list[i];

		o->is_leaving = !is_found(others, o);
		if (o->is_leaving && o->known_count)
			o->is_stale = true;
		else if (o->is_leaving)
			drop(others, o);
	}
	for (unsigned i = 0; i < others->found_count; i++) {
		struct imap_other *o = find(others, others->found[i].slot, others->found[i].account);

		if (!o && others->count == IMAP_NOTIFY_OTHERS_MAX) {
			others->is_full |= others->found[i].is_watched;
			continue;
		}
		if (!o)
			o = add_other(others, others->found[i].slot, others->found[i].account);
		if (others->found[i].is_watched && !o->is_watched) {
			o->is_watched = o->is_stale = true;
			o->is_quiet |= o->told != 0;
		} else if (!others->found[i].is_watched && o->is_watched) {
			o->is_watched = false;
			imap_foreign_forget(o);
		}
	}
	share_out_subscribed(others);
}

static void end_list(struct imap_others *others)
{
	free(others->found);
	others->found = NULL;
	others->found_count = 0;
}

static bool is_owner_watched(const struct imap_others *others, unsigned slot, uint32_t account)
{
	struct imap_session *s = others->s;
	struct store_account owner;
	struct arena arena;
	struct slice name;
	bool is_watched = false;

	if (!others->set || store_get_account(store_work_store(s->service->work), slot, account, &owner) < 0)
		return false;
	arena_init(&arena, 0);
	name = imap_access_full_name(&owner, SLICE_LIT(""), &arena);
	if (name.len)
		is_watched = imap_notify_wants_owner(others->set, slice_sub(name, 0, name.len - 1));
	arena_deinit(&arena);
	return is_watched;
}

/* The list that is being made. */
static struct imap_others *current(const struct imap_session *s)
{
	return s->notify->next_others ? s->notify->next_others : s->notify->others;
}

static int list_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_others *others = current(s);
	uint32_t owners[OWNERS_MAX];
	size_t count;
	int err = imap_access_owners(s, txn, owners, ARRAY_LEN(owners), &count);

	others->is_full |= err == 0 && count == ARRAY_LEN(owners) && others->set;
	for (size_t i = 0; i < count && err == 0; i++) {
		bool is_watched = is_owner_watched(others, store_txn_slot(txn), owners[i]);

		if (is_watched || s->notify->is_metadata_wanted)
			add_found(others, store_txn_slot(txn), owners[i], is_watched);
	}
	return err;
}

static void list_slots(struct imap_session *s, imap_done_fn *next)
{
	struct imap_others *others = current(s);

	others->is_list_stale = others->is_full = false;
	others->tells_new = others->is_granted;
	others->is_granted = false;
	others->found_count = 0;
	others->found = xcalloc(IMAP_NOTIFY_OTHERS_MAX, sizeof(*others->found));
	others->slots_left = store_slots(store_work_store(s->service->work));
	/* Before all others, should there be too many. */
	if (s->view.mailbox && s->view.is_guest && s->notify->is_metadata_wanted)
		add_found(others, s->view.slot, s->view.account, false);
	next(s, 0);
}

static void list_next(struct imap_session *s, int err)
{
	struct imap_others *others = s->notify->others;

	if (err == 0 && others->slots_left) {
		s->at_slot = --others->slots_left;
		imap_read_beside(s, list_run, list_next);
		return;
	}
	if (err == 0)
		put_list_in_force(others);
	end_list(others);
	if (others->set)
		pace(&others->list_ms, &others->pace_ms);
	if (others->is_full) {
		imap_notify_overflow(s);
		conn_write_take(s->conn, &s->out);
	}
	others->done(s);
}

/* ---- what has changed ---- */

static int tell_run(struct imap_session *s, struct store_txn *txn)
{
	return imap_foreign_tell(s, txn, s->notify->others->at);
}

static void tell_done(struct imap_session *s, int err)
{
	struct imap_others *others = s->notify->others;
	struct imap_other *o = others->at;

	others->at = NULL;
	/* It has gone, or moved; or shares nothing any more. */
	if (err == ERR_NOT_FOUND || (err == 0 && o->is_leaving && !o->known_count))
		drop(others, o);
	others->done(s);
}

void imap_others_step(struct imap_session *s, void (*done)(struct imap_session *s))
{
	struct imap_others *others = s->notify->others;
	uint64_t now_ms = time_of(s);

	others->done = done;
	if (others->is_list_stale && others->list_ms <= now_ms) {
		list_slots(s, list_next);
		return;
	}
	others->at = find_stale(others, now_ms);
	others->at->is_stale = false;
	if (others->at->is_watched && now_ms < UINT64_MAX)
		pace(&others->at->look_ms, &others->at->pace_ms);
	s->at_slot = others->at->slot;
	imap_read_beside(s, tell_run, tell_done);
}

void imap_others_left(struct imap_session *s)
{
	struct imap_other *o = find(s->notify->others, s->view.slot, s->view.account);

	if (o && o->is_watched)
		o->is_stale = true;
}

void imap_others_selected(struct imap_session *s)
{
	struct imap_others *others = s->notify ? s->notify->others : NULL;

	if (others && s->notify->is_metadata_wanted && s->view.is_guest &&
		!find(others, s->view.slot, s->view.account))
		others->is_list_stale = true;
}

void imap_others_own(struct imap_session *s, unsigned slot, uint32_t account, uint64_t from, uint64_t to)
{
	struct imap_other *o = s->notify ? find(s->notify->others, slot, account) : NULL;

	if (o && from && to >= from)
		imap_notify_add_own(&o->own, from, to);
}

int imap_others_subscribed(struct imap_session *s, struct slice name)
{
	struct imap_others *others = s->notify->others;

	if (!others)
		return 0;
	others->is_subscribed_stale = true;
	if (!name.len)
		return 0;
	buf_add_slice(&others->subscribed, name);
	buf_add_char(&others->subscribed, '\n');
	return buf_len(&others->subscribed) > IMAP_NOTIFY_SUBSCRIBED_MEMORY ? ERR_TOO_BIG : 0;
}

void imap_others_see_subscribed(struct imap_session *s)
{
	struct imap_others *others = s->notify->others;

	if (!others || !others->is_subscribed_stale)
		return;
	others->is_subscribed_stale = false;
	others->is_list_stale = true;
	others->list_ms = 0;
}

/* ---- NOTIFY SET ---- */

static void begin_next(struct imap_session *s, int err);

/* What has gathered for the set that goes is told first: the client counts on it. */
static int begin_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_others *others = s->notify->next_others;
	struct imap_other *o = others->at, *old = find(s->notify->others, o->slot, o->account);
	int err = old && old->told ? imap_foreign_tell(s, txn, old) : 0;

	return err < 0 ? err : imap_foreign_begin(s, txn, o, others->wants_status);
}

static void begin_done(struct imap_session *s, int err)
{
	struct imap_others *others = s->notify->next_others;

	if (err == ERR_NOT_FOUND) { /* it has just gone */
		drop(others, others->at);
		others->begun_count--;
		err = 0;
	}
	begin_next(s, err);
}

static void begin_next(struct imap_session *s, int err)
{
	struct imap_others *others = s->notify->next_others;

	if (err < 0 || others->begun_count == others->count) {
		others->at = NULL;
		others->begun(s, err);
		return;
	}
	others->at = others->list[others->begun_count++];
	others->at->is_stale = false;
	s->at_slot = others->at->slot;
	imap_read_beside(s, begin_run, begin_done);
}

static void begin_list(struct imap_session *s, int err)
{
	struct imap_others *others = s->notify->next_others;

	if (err == 0 && others->slots_left) {
		s->at_slot = --others->slots_left;
		imap_read_beside(s, list_run, begin_list);
		return;
	}
	if (err == 0)
		put_list_in_force(others);
	end_list(others);
	begin_next(s, err < 0 ? err : others->is_full ? ERR_TOO_BIG : 0);
}

void imap_others_begin(struct imap_session *s, bool wants_status, imap_done_fn *done)
{
	struct imap_notify *n = s->notify;

	n->next_others = others_new(s, n->next);
	n->next_others->wants_status = wants_status;
	n->next_others->begun = done;
	list_slots(s, begin_list);
}
