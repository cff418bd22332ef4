/*
 * SELECT, EXAMINE, CLOSE, UNSELECT (RFC 3501 section 6.3.1, 6.4.2; RFC 3691; RFC 7162 section 3.1.8).
 *
 * One read job takes the UIDs and writes the whole answer. Only when messages are \Recent a write job follows
 * that takes them; what arrives later is taken when the mailbox is left. With QRESYNC the first job also tells what has
 * vanished, and a FETCH of what changed comes last.
 */
#include <stdlib.h>

#include "backend/session/imap_access.h"
#include "backend/session/imap_fetch.h"
#include "backend/session/imap_name.h"
#include "backend/session/imap_notify.h"
#include "backend/session/imap_vanish.h"
#include "backend/session/imap_object.h"
#include "backend/session/imap_status.h"
#include "common/base/mem.h"

/* Without any of them a mailbox is READ-ONLY (RFC 4314 section 5.2). */
#define WRITING_RIGHTS (IMAP_RIGHT_WRITE | IMAP_RIGHT_INSERT | IMAP_RIGHT_DELETE_MESSAGE | IMAP_RIGHT_EXPUNGE)

struct select_data {
	struct imap_fetch fetch; /* of what changed since; first, as imap_fetch_start() wants it */
	struct slice name;
	struct slice given; /* as the client wrote it */
	struct imap_resync resync;
	struct imap_view view; /* becomes the session's */
	struct store_mailbox mailbox;
	uint32_t first_unseen; /* its number; 0: there is none, or it is too far to be looked for */
	bool is_readonly;
	bool is_own; /* the mailbox, not another account's */
};

/* ---- leaving ---- */

struct leave {
	uint32_t account;
	uint32_t mailbox;
	struct store_view *hold; /* until it is written, so that what this session claimed stays claimed */
};

static int leave_run(struct store_txn *txn, void *arg)
{
	struct leave *leave = arg;
	uint32_t from;

	return store_mailbox_take_recent(txn, leave->account, leave->mailbox, &from);
}

static void leave_drop(void *arg)
{
	struct leave *leave = arg;

	store_work_view_end(&leave->hold);
	free(leave);
}

static void leave_done(void *arg, int err)
{
	(void)arg;
	(void)err; /* at worst they are recent once more */
}

/* Messages came while it was selected, and they are still \Recent for others. */
static bool has_untaken(const struct imap_view *v)
{
	return v->mailbox && !v->is_readonly && imap_view_last_uid(v) >= v->recent_taken;
}

void imap_select_leave(struct imap_session *s)
{
	struct imap_view *v = &s->view;
	struct store_work_call call = {
		.run = leave_run, .done = leave_done, .drop = leave_drop, .loop = s->loop};
	struct leave *leave;

	if (!v->mailbox)
		return;
	imap_notify_leave(s);
	if (has_untaken(v)) {
		leave = xcalloc(1, sizeof(*leave));
		*leave = (struct leave){v->account, v->mailbox, v->hold};
		v->hold = NULL;
		call.arg = leave;
		(void)store_work_write(s->service->work, v->slot, &call);
	}
	store_work_unwatch(&s->guest_watch);
	imap_view_deinit(v);
	s->is_stale = false;
}

/* ---- entering ---- */

static void free_select(struct imap_session *s)
{
	struct select_data *d = s->data;

	imap_view_deinit(&d->view);
	imap_fetch_free(&d->fetch);
}

static void write_answer(struct imap_session *s, struct select_data *d)
{
	struct buf *out = &s->out;
	struct imap_view *v = &d->view;

	imap_view_write_flag_list(v, out);
	buf_printf(out, "* %u EXISTS\r\n", v->uids.count);
	/* RFC 9051 has neither of these; the second is a sequence number. */
	if (!v->hides_recent)
		buf_printf(out, "* %u RECENT\r\n", imap_view_recent(v));
	if (d->first_unseen && !s->is_rev2 && !s->is_uidonly)
		buf_printf(out, "* OK [UNSEEN %u] First unseen\r\n", d->first_unseen);
	buf_printf(out, "* OK [UIDVALIDITY %u] UIDs valid\r\n* OK [UIDNEXT %u] Next UID\r\n", v->uidvalidity,
		d->mailbox.uidnext);
	buf_printf(
		out, "* OK [HIGHESTMODSEQ %llu] Highest\r\n* OK [MAILBOXID (", (unsigned long long)v->modseq);
	imap_object_mailbox(v->created, v->uidvalidity, out);
	buf_add_str(out, ")] Its id\r\n");
	if (s->is_rev2)
		imap_list_write(s, &d->mailbox, d->is_own, d->given, out);
}

/* RFC 3501 section 6.3.1: without UNSEEN a client that wants to know asks. So nobody waits for it in a large mailbox. */
static int find_unseen(struct store_txn *txn, struct select_data *d)
{
	uint32_t place = 0;
	int err = d->view.is_guest ? store_seen_first(txn, d->view.mailbox, d->view.who, &place)
				   : store_message_first_unseen(txn, &d->mailbox, &place);

	d->first_unseen = err ? 0 : place + 1;
	return err == ERR_NOT_FOUND || err == ERR_NOT_NOW ? 0 : err;
}

static int load_view(struct imap_session *s, struct store_txn *txn, struct select_data *d)
{
	struct imap_view *v = &d->view;
	struct store_keywords keywords;
	int err;

	v->mailbox = d->mailbox.id;
	v->account = d->mailbox.account;
	v->slot = s->at_slot;
	v->created = imap_access_created(s, v->slot, v->account);
	v->is_guest = v->slot != s->slot || v->account != s->account;
	v->who = imap_access_who(s);
	v->uidvalidity = d->mailbox.uidvalidity;
	v->modseq = v->told = d->mailbox.modseq;
	v->rights_told = v->rights;
	v->is_readonly = d->is_readonly;
	v->hides_recent = s->is_rev2;
	v->recent_taken = v->is_guest ? UINT32_MAX : d->mailbox.recent_from;
	err = imap_view_load(v, txn, d->mailbox.uidnext);
	if (err == 0 && !s->is_rev2)
		err = find_unseen(txn, d);
	if (err < 0)
		return err;
	if (v->is_guest) {
		uint64_t seen;

		err = store_seen_modseq(txn, v->mailbox, v->who, &seen);
		if (err == 0 && seen > v->modseq)
			v->modseq = v->told = seen;
		if (err < 0)
			return err;
	}
	err = store_mailbox_keywords(txn, v->account, v->mailbox, &keywords);
	if (err < 0)
		return err;
	imap_view_learn_keywords(v, &keywords);
	v->hold = store_work_view(s->service->work, v->slot, v->mailbox, v->modseq);
	if (v->is_guest)
		return 0; /* others take none */
	if (v->is_readonly)
		imap_view_borrow_recent(v, imap_status_recent_from(s, &d->mailbox));
	else
		imap_view_claim(v, d->mailbox.recent_from, d->mailbox.uidnext - 1);
	return 0;
}

static void select_answer(struct imap_session *s, int err);

/* RFC 7162 section 3.2.5: what vanished now; what changed afterwards. */
static int resync(struct imap_session *s, struct store_txn *txn, struct select_data *d)
{
	struct imap_vanish vanish = {.view = &d->view, .known = d->resync.known, .since = d->resync.modseq};
	struct seqset_range *all;

	if (!d->resync.has_known && d->mailbox.uidnext > 1) {
		all = arena_alloc(&s->arena, sizeof(*all));
		if (!all)
			return ERR_TOO_BIG;
		*all = (struct seqset_range){1, d->mailbox.uidnext - 1};
		vanish.known = (struct seqset){all, 1};
	}
	seqset_resolve(&vanish.known, d->mailbox.uidnext);
	vanish.floor = imap_vanish_floor(&d->view, &d->resync);
	d->fetch.seqs = vanish.known;
	d->fetch.changed_since = d->resync.modseq;
	d->fetch.items.items = IMAP_FETCH_UID | IMAP_FETCH_FLAGS | IMAP_FETCH_MODSEQ;
	d->fetch.done = select_answer;
	return imap_vanish_earlier(s, txn, &vanish, &s->out);
}

static int select_run(struct imap_session *s, struct store_txn *txn)
{
	struct select_data *d = s->data;
	int err = imap_access_find(s, txn, d->name, IMAP_RIGHT_READ, &d->mailbox);

	d->is_own = !imap_access_is_foreign(d->name);
	if (err == 0 && s->is_rev2 && d->is_own)
		err = store_mailbox_has_children(
			txn, d->mailbox.account, d->mailbox.name, &d->mailbox.has_children);
	if (err == 0)
		err = imap_access_rights(s, txn, &d->mailbox, &d->view.rights);
	if (err == 0 && !(d->view.rights & (WRITING_RIGHTS | IMAP_RIGHT_SEEN)))
		d->is_readonly = true;
	if (err == 0)
		err = load_view(s, txn, d);
	if (err == 0)
		write_answer(s, d);
	if (err == 0 && d->resync.uidvalidity && d->resync.uidvalidity == d->view.uidvalidity)
		err = resync(s, txn, d);
	return err;
}

static void select_answer(struct imap_session *s, int err)
{
	struct select_data *d = s->data;

	if (err < 0) { /* half told is not selected */
		imap_select_leave(s);
		imap_fail(s, err);
		return;
	}
	imap_answer(s, "OK",
		d->is_readonly || !(s->view.rights & WRITING_RIGHTS) ? "READ-ONLY" : "READ-WRITE",
		"Selected");
}

/* The view is the session's from here on. */
static void select_finish(struct imap_session *s)
{
	struct select_data *d = s->data;

	s->view = d->view;
	imap_view_init(&d->view);
	if (s->view.is_guest) { /* what changed since the job looked is asked for by the next command */
		s->guest_watch = store_work_watch(s->service->work, s->view.slot, s->view.account,
			s->view.mailbox, s->loop, imap_session_changed, s);
		s->is_stale = true;
		imap_others_selected(s);
	}
	if (d->fetch.changed_since && imap_view_resolve(&s->view, &d->fetch.seqs, true) == 0)
		imap_fetch_start(s, &d->fetch);
	else
		select_answer(s, 0);
}

static int recent_run(struct imap_session *s, struct store_txn *txn)
{
	struct select_data *d = s->data;
	uint32_t from;

	return store_mailbox_take_recent(txn, d->view.account, d->view.mailbox, &from);
}

static void recent_done(struct imap_session *s, int err)
{
	struct select_data *d = s->data;

	if (err == 0)
		d->view.recent_taken = d->mailbox.uidnext;
	select_finish(s);
}

static void select_done(struct imap_session *s, int err)
{
	struct select_data *d = s->data;

	if (err < 0) {
		imap_fail(s, err);
		return;
	}
	if (!d->is_readonly && imap_view_recent(&d->view))
		imap_write_job(s, recent_run, recent_done);
	else
		select_finish(s);
}

/* The mailbox selected before is left even if this one cannot be (RFC 3501 section 6.3.1, RFC 9051 section 7.1). */
static void leave_and_select(struct imap_session *s)
{
	const struct select_data *d = s->data;

	if (s->view.mailbox)
		conn_write_str(s->conn, "* OK [CLOSED] Previous mailbox closed\r\n");
	imap_select_leave(s);
	imap_access_go(s, d->name);
	imap_read(s, select_run, select_done);
}

static int take_run(struct imap_session *s, struct store_txn *txn)
{
	uint32_t from;

	return store_mailbox_take_recent(txn, s->view.account, s->view.mailbox, &from);
}

static void take_done(struct imap_session *s, int err)
{
	if (err == 0)
		s->view.recent_taken = imap_view_last_uid(&s->view) + 1;
	leave_and_select(s);
}

/* SP "(" "CONDSTORE" / "QRESYNC" (…) … ")" */
static int read_params(struct imap_session *s, const struct imap_arg *arg, bool *condstore_out,
	struct imap_resync *resync_out)
{
	*condstore_out = false;
	if (!arg)
		return 0;
	if (arg->type != IMAP_ARG_LIST || arg->next || !arg->first)
		return ERR_SYNTAX;
	for (arg = arg->first; arg; arg = arg->next) {
		if (imap_parse_is_word(arg, "CONDSTORE")) {
			*condstore_out = true;
		} else if (imap_parse_is_word(arg, "QRESYNC") && s->is_qresync && !resync_out->uidvalidity &&
			   imap_vanish_read_resync(arg->next, &s->arena, resync_out) == 0) {
			arg = arg->next;
		} else {
			return ERR_SYNTAX;
		}
	}
	return 0;
}

static void select_mailbox(struct imap_session *s, const struct imap_command *command, bool is_readonly)
{
	struct select_data *d;
	struct slice name, word;
	struct imap_resync resync = {0};
	bool is_condstore = false;
	int wrong = command->args ? read_params(s, command->args->next, &is_condstore, &resync) : ERR_SYNTAX;
	int err = imap_name_read(s, command->args, &s->arena, &name);

	if (imap_parse_astring(command->args, &word) < 0 || wrong < 0) {
		imap_bad(s,
			"Wants a mailbox name and nothing but (CONDSTORE) or, once enabled, (QRESYNC (...))");
		return;
	}
	/* RFC 9586 section 3: the sequence numbers of the match data. */
	if (s->is_uidonly && resync.seqs.count) {
		imap_answer(s, "BAD", "UIDREQUIRED", "Only UIDs may be used, as was enabled");
		return;
	}
	d = imap_data(s, sizeof(*d));
	if (!d)
		return;
	s->is_condstore |= is_condstore;
	*d = (struct select_data){.is_readonly = is_readonly, .given = word, .resync = resync};
	d->name = err < 0 ? SLICE_LIT("") : name; /* what is no name names nothing */
	imap_view_init(&d->view);
	s->cleanup = free_select;
	/* Before the next look at the mailbox, which may be the same. */
	if (has_untaken(&s->view))
		imap_write_job(s, take_run, take_done);
	else
		leave_and_select(s);
}

void imap_cmd_select(struct imap_session *s, const struct imap_command *command)
{
	select_mailbox(s, command, false);
}

void imap_cmd_examine(struct imap_session *s, const struct imap_command *command)
{
	select_mailbox(s, command, true);
}

/* ---- CLOSE and UNSELECT ---- */

void imap_cmd_unselect(struct imap_session *s, const struct imap_command *command)
{
	if (command->count) {
		imap_bad(s, "UNSELECT has no arguments");
		return;
	}
	imap_select_leave(s);
	imap_ok(s);
}

struct close_data {
	uint32_t *uids;
	size_t room;
	size_t count;
};

static int deleted_run(struct imap_session *s, struct store_txn *txn)
{
	struct close_data *d = s->data;

	return store_message_deleted(txn, s->view.mailbox, d->uids, d->room, &d->count);
}

static int close_run(struct imap_session *s, struct store_txn *txn)
{
	struct close_data *d = s->data;
	uint64_t modseq;

	if (!(s->view.rights &
		    IMAP_RIGHT_EXPUNGE)) /* withdrawn: it is closed all the same (RFC 4314 section 4) */
		return ERR_NOT_FOUND;
	return store_message_expunge(
		txn, s->view.account, s->view.mailbox, d->uids, d->count, false, NULL, &modseq);
}

static void close_done(struct imap_session *s, int err);

static void deleted_done(struct imap_session *s, int err)
{
	struct close_data *d = s->data;

	if (err == 0 && d->count) {
		imap_write_job(s, close_run, close_done);
		return;
	}
	if (err < 0 && err != ERR_NOT_FOUND) {
		imap_fail(s, err);
		return;
	}
	imap_select_leave(s);
	imap_ok(s);
}

static void close_done(struct imap_session *s, int err)
{
	struct close_data *d = s->data;

	if (err == 0 && d->count == d->room)
		imap_read(s, deleted_run, deleted_done);
	else if (err < 0 && err != ERR_NOT_FOUND)
		imap_fail(s, err);
	else
		deleted_done(s, ERR_NOT_FOUND);
}

/* Expunges without a word (RFC 3501 section 6.4.2), in steps. */
void imap_cmd_close(struct imap_session *s, const struct imap_command *command)
{
	struct close_data *d;

	if (command->count) {
		imap_bad(s, "CLOSE has no arguments");
		return;
	}
	if (s->view.is_readonly || !(s->view.rights & IMAP_RIGHT_EXPUNGE)) {
		imap_select_leave(s);
		imap_ok(s);
		return;
	}
	d = imap_data(s, sizeof(*d));
	if (!d)
		return;
	d->room = STORE_STEP_MAX;
	d->uids = arena_calloc(&s->arena, d->room, sizeof(*d->uids));
	if (!d->uids)
		imap_fail(s, ERR_TOO_BIG);
	else
		imap_read(s, deleted_run, deleted_done);
}
