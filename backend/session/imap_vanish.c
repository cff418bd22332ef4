/* Ranges of UIDs are written as they are found, so that a set of four thousand million UIDs costs what its gaps cost. */
#include "backend/session/imap_vanish.h"

#define LINE_MOST 8000
#define CHANGES_ARENA (64u << 20)

struct writer {
	struct buf *out;
	const char *head;
	size_t line;       /* where the open line begins */
	uint32_t from, to; /* not yet written; from 0: none */
	bool is_open;
};

static void flush(struct writer *w)
{
	if (!w->from)
		return;
	if (w->is_open && buf_len(w->out) - w->line > LINE_MOST) {
		buf_add_str(w->out, "\r\n");
		w->is_open = false;
	}
	if (!w->is_open) {
		w->line = buf_len(w->out);
		buf_add_str(w->out, w->head);
		w->is_open = true;
	} else {
		buf_add_char(w->out, ',');
	}
	buf_add_u64(w->out, w->from);
	if (w->to != w->from) {
		buf_add_char(w->out, ':');
		buf_add_u64(w->out, w->to);
	}
	w->from = 0;
}

static void add_range(struct writer *w, uint32_t from, uint32_t to)
{
	if (w->from && w->to + 1 == from) {
		w->to = to;
		return;
	}
	flush(w);
	w->from = from;
	w->to = to;
}

static void end(struct writer *w)
{
	flush(w);
	if (w->is_open)
		buf_add_str(w->out, "\r\n");
}

void imap_vanish_write(const uint32_t *uids, size_t count, struct buf *out)
{
	struct writer w = {.out = out, .head = "* VANISHED "};

	for (size_t i = 0; i < count; i++)
		add_range(&w, uids[i], uids[i]);
	end(&w);
}

/* ---- earlier ones ---- */

struct earlier {
	const struct imap_vanish *v;
	struct writer w;
	size_t range; /* of the known ones: those before lie below what comes */
};

/* What of from..to is asked about. Calls come in ascending order. */
static void add_known(struct earlier *e, uint32_t from, uint32_t to)
{
	const struct seqset *known = &e->v->known;

	if (from <= e->v->floor)
		from = e->v->floor + 1;
	while (e->range < known->count && known->ranges[e->range].to < from)
		e->range++;
	for (size_t i = e->range; i < known->count && from <= to && known->ranges[i].from <= to; i++) {
		uint32_t first = known->ranges[i].from > from ? known->ranges[i].from : from;
		uint32_t last = known->ranges[i].to < to ? known->ranges[i].to : to;

		add_range(&e->w, first, last);
	}
}

static void by_log(struct earlier *e, const struct store_changes *c)
{
	for (size_t i = 0; i < c->expunged_count; i++) {
		if (!imap_view_seq(e->v->view, c->expunged[i]))
			add_known(e, c->expunged[i], c->expunged[i]);
	}
}

/* The gap before this UID, and what comes after it. */
static uint32_t pass(struct earlier *e, uint32_t from, uint32_t uid)
{
	if (uid > from)
		add_known(e, from, uid - 1);
	return uid + 1;
}

/* Everything that is not there: neither in the view nor, behind it, in the mailbox. */
static int by_gaps(struct earlier *e, struct store_txn *txn, uint32_t uidnext)
{
	const struct imap_view *view = e->v->view;
	struct store_scan scan;
	struct store_entry entry;
	struct imap_uids_walk at = imap_uids_walk(&view->uids, 0);
	uint32_t from = 1, uid;
	int err;

	for (; (uid = imap_uids_peek(&at)); imap_uids_step(&at))
		from = pass(e, from, uid);
	err = store_scan_begin(&scan, txn, view->mailbox, from);
	if (err < 0)
		return err;
	while (store_scan_next(&scan, &entry))
		from = pass(e, from, entry.uid);
	err = scan.error;
	store_scan_end(&scan);
	if (err == 0)
		(void)pass(e, from, uidnext);
	return err;
}

int imap_vanish_earlier(
	struct imap_session *s, struct store_txn *txn, const struct imap_vanish *v, struct buf *out)
{
	struct earlier e = {.v = v, .w = {.out = out, .head = "* VANISHED (EARLIER) "}};
	struct store_changes changes;
	struct arena arena;
	int err;

	(void)s;
	arena_init(&arena, CHANGES_ARENA);
	err = store_message_changes(txn, v->view->account, v->view->mailbox, v->since, &arena, &changes);
	if (err == 0 && changes.gone)
		err = ERR_NOT_FOUND;
	if (err == 0 && changes.incomplete)
		err = by_gaps(&e, txn, changes.uidnext);
	else if (err == 0)
		by_log(&e, &changes);
	end(&e.w);
	arena_deinit(&arena);
	return err;
}

/* ---- the parameter of SELECT ---- */

static int read_uid_set(const struct imap_arg *arg, struct arena *arena, struct seqset *set_out)
{
	struct slice text;
	int err = imap_parse_atom(arg, &text);

	if (err == 0)
		err = seqset_parse(text, arena, set_out);
	return err == 0 && seqset_has_star(set_out) ? ERR_SYNTAX : err;
}

/* RFC 7162 section 3.2.5.2: both in ascending order. */
static bool is_ascending(const struct seqset *set)
{
	uint32_t last = 0;

	for (size_t i = 0; i < set->count; i++) {
		if (set->ranges[i].from <= last || set->ranges[i].to < set->ranges[i].from)
			return false;
		last = set->ranges[i].to;
	}
	return true;
}

static int read_match(const struct imap_arg *first, struct arena *arena, struct imap_resync *r)
{
	int err = read_uid_set(first, arena, &r->seqs);

	if (err == 0)
		err = read_uid_set(first->next, arena, &r->uids);
	if (err < 0)
		return err;
	return !first->next->next && is_ascending(&r->seqs) && is_ascending(&r->uids) &&
			       seqset_size(&r->seqs) == seqset_size(&r->uids)
		       ? 0
		       : ERR_SYNTAX;
}

int imap_vanish_read_resync(const struct imap_arg *list, struct arena *arena, struct imap_resync *resync_out)
{
	struct imap_resync r = {0};
	const struct imap_arg *arg = list && list->type == IMAP_ARG_LIST ? list->first : NULL;
	int err = imap_parse_u32(arg, &r.uidvalidity);

	if (err == 0)
		err = imap_parse_u63(arg->next, &r.modseq);
	if (err < 0 || !r.uidvalidity || !r.modseq)
		return ERR_SYNTAX;
	arg = arg->next->next;
	if (arg && arg->type == IMAP_ARG_ATOM) {
		err = read_uid_set(arg, arena, &r.known);
		r.has_known = true;
		arg = arg->next;
	}
	if (err == 0 && arg) {
		err = arg->type == IMAP_ARG_LIST && !arg->next ? read_match(arg->first, arena, &r)
							       : ERR_SYNTAX;
	}
	if (err < 0)
		return ERR_SYNTAX;
	*resync_out = r;
	return 0;
}

uint32_t imap_vanish_floor(const struct imap_view *view, const struct imap_resync *r)
{
	uint32_t floor = 0;
	size_t u = 0;
	uint32_t uid = r->uids.count ? r->uids.ranges[0].from : 0;

	for (size_t i = 0; i < r->seqs.count; i++) {
		for (uint32_t seq = r->seqs.ranges[i].from; seq <= r->seqs.ranges[i].to; seq++) {
			if (seq > view->uids.count)
				return floor;
			if (imap_uids_at(&view->uids, seq - 1) == uid)
				floor = uid;
			if (uid < r->uids.ranges[u].to)
				uid++;
			else if (++u < r->uids.count)
				uid = r->uids.ranges[u].from;
		}
	}
	return floor;
}
