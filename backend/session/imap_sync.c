/*
 * Bringing the view up to date. The job reads the account's change log from the view's MODSEQ on, writes the
 * untagged responses and changes the view, all on the reader's thread; the loop then only sends.
 *
 * Order of the responses: EXPUNGE from the highest number down (so that no number shifts under a later one),
 * EXISTS and RECENT, then FETCH of changed flags by their new numbers. Where EXPUNGE may not be sent the UIDs
 * wait in view.expunged, and the store keeps their records for us until then.
 */
#include "backend/session/imap_notify.h"
#include "backend/session/imap_vanish.h"

#include <stdlib.h>

#include "common/base/mem.h"

#define SYNC_ARENA (64u << 20) /* 100,000 messages changed at once are 4 MiB */

struct imap_sync {
	void (*done)(struct imap_session *s, int err);
	bool allow_expunge;
	struct arena arena;
	struct store_changes changes;
};

void imap_sync_free(struct imap_session *s)
{
	if (!s->sync)
		return;
	arena_deinit(&s->sync->arena);
	free(s->sync);
	s->sync = NULL;
}

static int compare_uids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The log does not reach back: what is there now is compared with what we knew. */
static int compare_all(
	struct imap_session *s, struct store_txn *txn, struct store_changes *c, struct arena *arena)
{
	struct imap_view *v = &s->view;
	struct store_mailbox mailbox;
	struct store_scan scan;
	struct store_entry entry;
	struct imap_uids_walk old = imap_uids_walk(&v->uids, 0);
	uint32_t uid;
	int err = store_mailbox_get(txn, v->account, v->mailbox, &mailbox);

	if (err < 0)
		return err;
	c->modseq = mailbox.modseq;
	c->added_count = c->expunged_count = c->changed_count = 0;
	c->added = arena_calloc(arena, mailbox.messages + 1, sizeof(*c->added));
	c->expunged = arena_calloc(arena, v->uids.count + 1, sizeof(*c->expunged));
	c->changed = arena_calloc(arena, mailbox.messages + 1, sizeof(*c->changed));
	if (!c->added || !c->expunged || !c->changed)
		return ERR_TOO_BIG;
	err = store_scan_begin_for(&scan, txn, v->mailbox, 1, imap_view_who(v));
	if (err < 0)
		return err;
	while (store_scan_next(&scan, &entry)) {
		while ((uid = imap_uids_peek(&old)) && uid < entry.uid) {
			c->expunged[c->expunged_count++] = uid;
			imap_uids_step(&old);
		}
		if (uid == entry.uid) {
			imap_uids_step(&old);
			if (entry.modseq > v->modseq)
				c->changed[c->changed_count++] = entry;
		} else if (!uid) {
			c->added[c->added_count++] = entry.uid;
		}
	}
	for (; (uid = imap_uids_peek(&old)); imap_uids_step(&old))
		c->expunged[c->expunged_count++] = uid;
	err = scan.error;
	store_scan_end(&scan);
	return err;
}

/* What this session's account has seen elsewhere is a change like others. */
static int add_seen(
	struct imap_session *s, struct store_txn *txn, struct store_changes *c, struct arena *arena)
{
	const struct imap_view *v = &s->view;
	struct store_seen seen;
	struct buf uids = {0};
	int err = store_seen_changes(txn, v->mailbox, v->who, v->modseq, &uids);
	size_t count = buf_len(&uids) / sizeof(uint32_t), kept = 0;
	struct store_entry *all = NULL;

	if (err == 0 && (count || c->changed_count)) {
		all = arena_calloc(arena, count + c->changed_count, sizeof(*all));
		err = all ? store_seen_begin(&seen, txn, v->mailbox, v->who) : ERR_TOO_BIG;
	}
	if (err < 0 || !all) {
		buf_deinit(&uids);
		return err;
	}
	for (size_t i = 0; i < count && err == 0; i++) {
		uint32_t uid = imap_numbers(&uids)[i];

		err = imap_view_seq(v, uid) ? store_message_entry(txn, v->mailbox, uid, &all[kept])
					    : ERR_NOT_FOUND;
		kept += err == 0;
		err = err == ERR_NOT_FOUND ? 0 : err;
	}
	for (size_t i = 0, k = 0, mine = kept; i < c->changed_count; i++) {
		while (k < mine && all[k].uid < c->changed[i].uid)
			k++;
		if (k == mine || all[k].uid != c->changed[i].uid)
			all[kept++] = c->changed[i];
	}
	for (size_t i = 0; i < kept && err == 0; i++)
		err = store_seen_apply(&seen, &all[i]);
	store_seen_end(&seen);
	buf_deinit(&uids);
	c->changed = all;
	c->changed_count = kept;
	return err;
}

static int raise_modseq(struct imap_session *s, struct store_txn *txn, struct store_changes *c)
{
	uint64_t seen;
	int err = store_seen_modseq(txn, s->view.mailbox, s->view.who, &seen);

	if (err == 0 && seen > c->modseq)
		c->modseq = seen;
	return err;
}

/* Adds what went to what waits. */
static void collect_expunged(struct imap_view *v, const struct store_changes *c)
{
	uint32_t *uids;
	size_t count, kept = 0;

	for (size_t i = 0; i < c->expunged_count; i++) {
		if (imap_view_seq(v, c->expunged[i]))
			buf_add(&v->expunged, &c->expunged[i], sizeof(uint32_t));
	}
	count = buf_len(&v->expunged) / sizeof(uint32_t);
	if (count < 2)
		return;
	uids = imap_numbers(&v->expunged);
	qsort(uids, count, sizeof(*uids), compare_uids);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || uids[kept - 1] != uids[i])
			uids[kept++] = uids[i];
	}
	buf_cut(&v->expunged, kept * sizeof(*uids));
}

static void tell_expunged(struct imap_view *v, bool by_uid, struct buf *out)
{
	size_t count = buf_len(&v->expunged) / sizeof(uint32_t);
	uint32_t *gone = imap_numbers(&v->expunged);

	if (count == 0)
		return;
	if (by_uid)
		imap_vanish_write(gone, count, out);
	for (size_t i = by_uid ? 0 : count; i > 0; i--) {
		buf_add_str(out, "* ");
		buf_add_u64(out, imap_view_seq(v, gone[i - 1]));
		buf_add_str(out, " EXPUNGE\r\n");
	}
	imap_uids_remove(&v->uids, gone, count);
	buf_deinit(&v->expunged);
}

static void tell_added(struct imap_view *v, const struct store_changes *c, struct buf *out)
{
	uint32_t before = v->uids.count;

	for (size_t i = 0; i < c->added_count; i++) {
		if (c->added[i] > imap_view_last_uid(v))
			imap_uids_add(&v->uids, c->added[i], 1);
	}
	if (v->uids.count == before)
		return;
	if (!v->is_readonly && !v->is_guest)
		imap_view_claim(v, imap_uids_at(&v->uids, before), imap_view_last_uid(v));
	buf_printf(out, "* %u EXISTS\r\n", v->uids.count);
	if (!v->hides_recent)
		buf_printf(out, "* %u RECENT\r\n", imap_view_recent(v));
}

static bool is_own(const struct imap_view *v, uint64_t modseq)
{
	for (unsigned i = 0; i < v->own_count; i++) {
		if (modseq >= v->own[i].from && modseq <= v->own[i].to)
			return true;
	}
	return false;
}

static void tell_changed(struct imap_session *s, const struct store_changes *c, struct buf *out)
{
	const struct imap_view *v = &s->view;

	for (size_t i = 0; i < c->changed_count; i++) {
		const struct store_entry *e = &c->changed[i];
		uint32_t seq = imap_view_seq(v, e->uid);

		if (!seq || is_own(v, e->modseq))
			continue;
		if (s->is_uidonly)
			buf_printf(out, "* %u UIDFETCH (", e->uid);
		else
			buf_printf(out, "* %u FETCH (UID %u ", seq, e->uid);
		if (s->is_condstore)
			buf_printf(out, "MODSEQ (%llu) ", (unsigned long long)e->modseq);
		buf_add_str(out, "FLAGS ");
		imap_view_write_flags(v, e, out);
		buf_add_str(out, ")\r\n");
	}
}

int imap_sync_keywords(struct imap_session *s, struct store_txn *txn)
{
	struct store_keywords keywords;
	int err = store_mailbox_keywords(txn, s->view.account, s->view.mailbox, &keywords);

	if (err == 0)
		imap_view_learn_keywords(&s->view, &keywords);
	return err;
}

/* What follows the view at once and is all our own need not be looked for: a STORE of a million is not listed to be left out. */
static uint64_t known_to(const struct imap_view *v)
{
	return v->own_count && v->own[0].from == v->modseq + 1 && !v->is_guest ? v->own[0].to : v->modseq;
}

static int sync_run(struct imap_session *s, struct store_txn *txn)
{
	struct imap_sync *sync = s->sync;
	struct store_changes *c = &sync->changes;
	int err = imap_access_check(s, txn, IMAP_RIGHT_READ);

	if (err == 0)
		err = store_message_changes(
			txn, s->view.account, s->view.mailbox, known_to(&s->view), &sync->arena, c);
	if (err == 0 && c->gone)
		err = ERR_NOT_FOUND;
	if (err == 0 && c->incomplete)
		err = compare_all(s, txn, c, &sync->arena);
	else if (err == 0 && s->view.is_guest)
		err = add_seen(s, txn, c, &sync->arena);
	if (err == 0 && s->view.is_guest)
		err = raise_modseq(s, txn, c);
	if (err == 0 && (c->changed_count || c->added_count))
		err = imap_sync_keywords(s, txn);
	if (err < 0)
		return err;
	if (s->view.keyword_told < s->view.keyword_count || s->view.rights != s->view.rights_told)
		imap_view_write_flag_list(&s->view, &s->out);
	s->view.rights_told = s->view.rights;
	collect_expunged(&s->view, c);
	if (sync->allow_expunge)
		tell_expunged(&s->view, s->is_qresync || s->is_uidonly, &s->out);
	tell_added(&s->view, c, &s->out);
	if (imap_notify_selected(s) & IMAP_EVENT_FLAGS)
		tell_changed(s, c, &s->out);
	s->view.modseq = c->modseq;
	if (buf_len(&s->view.expunged) == 0)
		s->view.told = c->modseq;
	else if (s->is_qresync) /* RFC 7162 section 3.2: or the client would lose them by going now */
		buf_printf(&s->out, "* OK [HIGHESTMODSEQ %llu] More is to come\r\n",
			(unsigned long long)s->view.told);
	return 0;
}

static void sync_done(struct imap_session *s, int err)
{
	void (*done)(struct imap_session *, int) = s->sync->done;

	imap_sync_free(s);
	/* The store may let go of what the client knows to be gone. */
	if (err == 0 && buf_len(&s->view.expunged) == 0)
		store_work_view_move(s->view.hold, s->view.modseq);
	done(s, err);
}

void imap_sync_start(
	struct imap_session *s, bool allow_expunge, void (*done)(struct imap_session *s, int err))
{
	s->sync = xcalloc(1, sizeof(*s->sync));
	s->sync->done = done;
	s->sync->allow_expunge = allow_expunge;
	arena_init(&s->sync->arena, SYNC_ARENA);
	s->at_slot = s->view.slot;
	imap_read(s, sync_run, sync_done);
}
