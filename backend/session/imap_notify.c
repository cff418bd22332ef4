#include "backend/session/imap_notify.h"

#include <stdlib.h>

#include "common/base/mem.h"

static void notify_done(struct imap_session *s, int err);

struct imap_notify *imap_notify_get(struct imap_session *s)
{
	if (!s->notify) {
		s->notify = xcalloc(1, sizeof(*s->notify));
		s->is_account_stale = true;
	}
	return s->notify;
}

void imap_notify_set_free(struct imap_notify_set **set)
{
	if (*set) {
		arena_deinit(&(*set)->arena);
		buf_deinit(&(*set)->subscribed);
	}
	free(*set);
	*set = NULL;
}

void imap_notify_set_none(struct imap_session *s)
{
	struct imap_notify *n = imap_notify_get(s);

	imap_others_clear(s);
	imap_notify_set_free(&n->set);
	n->set = xcalloc(1, sizeof(*n->set));
	arena_init(&n->set->arena, IMAP_NOTIFY_MEMORY);
}

void imap_notify_free(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (!n)
		return;
	if (n->is_fetching)
		imap_fetch_free(&n->fetch);
	arena_deinit(&n->fetch_arena);
	imap_notify_set_free(&n->set);
	imap_notify_set_free(&n->next);
	imap_others_free(&n->others);
	imap_others_free(&n->next_others);
	free(n);
	s->notify = NULL;
}

void imap_notify_enable_metadata(struct imap_session *s)
{
	imap_notify_get(s)->is_metadata_wanted = true;
	imap_others_start(s);
}

/* ---- one's own ---- */

/* A full list joins the last two: what came between is not told, which is better than telling of all. */
void imap_notify_add_own(struct imap_notify_own *own, uint64_t from, uint64_t to)
{
	unsigned count = own->count;

	if (count && (count == IMAP_NOTIFY_OWN_MAX || own->ranges[count - 1].to + 1 == from)) {
		own->ranges[count - 1].to = to;
		return;
	}
	own->ranges[count].from = from;
	own->ranges[count].to = to;
	own->count++;
}

bool imap_notify_is_own(const struct imap_notify_own *own, uint64_t modseq)
{
	for (unsigned i = 0; i < own->count; i++)
		if (modseq >= own->ranges[i].from && modseq <= own->ranges[i].to)
			return true;
	return false;
}

void imap_notify_own(struct imap_session *s, uint64_t from, uint64_t to)
{
	struct imap_notify *n = s->notify;

	if (!n || !from || to < from)
		return;
	imap_notify_add_own(&n->own, from, to);
	s->is_account_stale = true;
}

void imap_notify_own_uids(struct imap_session *s, uint32_t mailbox, uint32_t from, uint32_t to)
{
	struct imap_notify *n = s->notify;

	if (n && n->set && n->set->has_fetch && mailbox == s->view.mailbox && from)
		imap_notify_add_own(&n->own_uids, from, to);
}

/* ---- the mailbox that is left ---- */

void imap_notify_leave(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (!n || !n->set || !n->set->count || !s->view.mailbox)
		return;
	n->left = (struct imap_left){
		s->view.slot, s->view.account, s->view.mailbox, s->view.modseq, s->view.told};
	if (s->view.is_guest)
		imap_others_left(s);
	else
		s->is_account_stale = true;
}

static bool is_left(const struct imap_notify *n, unsigned slot, uint32_t account)
{
	return n->left.mailbox && n->left.slot == slot && n->left.account == account;
}

uint64_t imap_notify_since(const struct imap_notify *n, unsigned slot, uint32_t account, uint64_t told)
{
	return is_left(n, slot, account) && n->left.told < told ? n->left.told : told;
}

bool imap_notify_is_left_over(
	const struct imap_notify *n, unsigned slot, uint32_t account, const struct store_change *c)
{
	return is_left(n, slot, account) && c->mailbox == n->left.mailbox &&
	       ((c->kind == STORE_CHANGE_EXPUNGED && c->modseq > n->left.told) ||
		       ((c->kind == STORE_CHANGE_ADDED || c->kind == STORE_CHANGE_FLAGS) &&
			       c->modseq > n->left.modseq));
}

/* ---- what is there to be told ---- */

unsigned imap_notify_selected(const struct imap_session *s)
{
	return s->notify && s->notify->set ? s->notify->set->selected : IMAP_EVENTS_OF_MESSAGES;
}

bool imap_notify_is_due(const struct imap_session *s)
{
	return s->notify && (s->is_account_stale || imap_others_are_due(s));
}

static bool has_sync(const struct imap_session *s)
{
	return s->is_stale && s->view.mailbox && imap_notify_selected(s);
}

static bool has_fetch(const struct imap_session *s)
{
	const struct imap_notify *n = s->notify;

	return n->set && n->set->has_fetch && s->view.mailbox && n->fetch_mailbox == s->view.mailbox &&
	       imap_view_last_uid(&s->view) >= n->fetch_from;
}

bool imap_notify_has_work(const struct imap_session *s)
{
	return s->notify && s->notify->set && (has_sync(s) || imap_notify_is_due(s) || has_fetch(s));
}

void imap_notify_command_ended(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (n && n->fetch_mailbox != s->view.mailbox) {
		n->fetch_mailbox = s->view.mailbox;
		n->fetch_from = imap_view_last_uid(&s->view) + 1;
		n->own_uids.count = 0;
	}
}

/* ---- the account's changes ---- */

static int notify_run(struct imap_session *s, struct store_txn *txn)
{
	return imap_notify_tell(s, txn);
}

void imap_notify_overflow(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (n->is_overflown || !n->set || (!n->set->count && !n->set->selected))
		return;
	buf_add_str(&s->out, "* OK [NOTIFICATIONOVERFLOW] Too much has changed: nothing is watched "
			     "any more\r\n");
	n->is_overflown = true;
}

/* As after NOTIFY NONE (RFC 5465 section 5.8). */
void imap_notify_end_overflow(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (n->is_overflown)
		imap_notify_set_none(s);
	n->is_overflown = false;
}

static void others_next(struct imap_session *s);

static void others_step(struct imap_session *s)
{
	imap_others_step(s, others_next);
}

static void others_next(struct imap_session *s)
{
	imap_notify_end_overflow(s);
	if (imap_others_are_due(s)) {
		imap_when_sent(s, others_step);
	} else {
		imap_others_rest(s);
		s->notify->done(s, 0);
	}
}

static void notify_done(struct imap_session *s, int err)
{
	if (err < 0) {
		s->notify->done(s, err);
		return;
	}
	imap_others_see_subscribed(s);
	others_next(s);
}

void imap_notify_start(struct imap_session *s, void (*done)(struct imap_session *s, int err))
{
	s->notify->done = done;
	if (!s->is_account_stale && imap_others_are_due(s) && !(s->cmd && s->cmd->flags & IMAP_CMD_SYNC)) {
		others_next(s);
		return;
	}
	s->is_account_stale = false;
	s->at_slot = s->slot;
	imap_read_beside(s, notify_run, notify_done);
}

/* ---- a round ---- */

static void round_next(struct imap_session *s);

static void round_synced(struct imap_session *s, int err)
{
	if (err == ERR_NOT_FOUND)
		s->bye_text = "The selected mailbox was deleted";
	imap_when_sent(s, round_next);
}

static void round_told(struct imap_session *s, int err)
{
	(void)err; /* told with the next change, then */
	imap_when_sent(s, round_next);
}

static void round_fetched(struct imap_session *s, int err)
{
	struct imap_notify *n = s->notify;

	(void)err;
	imap_fetch_free(&n->fetch);
	n->is_fetching = false;
	s->data = NULL;
	arena_deinit(&n->fetch_arena);
	imap_when_sent(s, round_next);
}

/* New messages but one's own, as ranges of sequence numbers; false: there are none, or no memory. */
static bool find_new(struct imap_session *s, struct seqset *seqs)
{
	struct imap_notify *n = s->notify;
	const struct imap_view *v = &s->view;
	uint32_t at = imap_uids_lower(&v->uids, n->fetch_from);
	size_t most = v->uids.count - at;

	seqs->ranges = arena_alloc(&n->fetch_arena, (most + 1) * sizeof(*seqs->ranges));
	for (; seqs->ranges && at < v->uids.count; at++) {
		if (imap_notify_is_own(&n->own_uids, imap_uids_at(&v->uids, at)))
			continue;
		if (seqs->count && seqs->ranges[seqs->count - 1].to == at)
			seqs->ranges[seqs->count - 1].to++;
		else
			seqs->ranges[seqs->count++] = (struct seqset_range){at + 1, at + 1};
	}
	n->fetch_from = imap_view_last_uid(v) + 1;
	n->own_uids.count = 0;
	return seqs->count > 0;
}

static void round_fetch(struct imap_session *s)
{
	struct imap_notify *n = s->notify;
	struct seqset seqs = {0};

	arena_init(&n->fetch_arena, 0);
	if (!find_new(s, &seqs)) {
		arena_deinit(&n->fetch_arena);
		round_next(s);
		return;
	}
	n->fetch = (struct imap_fetch){.items = n->set->fetch, .seqs = seqs, .done = round_fetched};
	n->is_fetching = true;
	s->at_slot = s->view.slot;
	imap_fetch_start(s, &n->fetch);
}

static void round_next(struct imap_session *s)
{
	struct imap_notify *n = s->notify;

	if (s->bye_text) {
		imap_close(s, s->bye_text);
	} else if (has_sync(s)) {
		s->is_stale = false;
		imap_sync_start(s, s->cmd || !n->set || !n->set->is_delayed, round_synced);
	} else if (imap_notify_is_due(s)) {
		imap_notify_start(s, round_told);
	} else if (has_fetch(s)) {
		round_fetch(s);
	} else {
		if (s->state != IMAP_READY)
			imap_enter(s, IMAP_READY);
		n->resume(s);
	}
}

void imap_notify_round(struct imap_session *s, void (*resume)(struct imap_session *s))
{
	s->notify->resume = resume;
	round_next(s);
}
