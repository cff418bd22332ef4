/*
 * The session's store jobs. `run` is on a reader or writer thread and touches nothing but the job's results;
 * `done` is on the session's loop and is not called once the session cancelled the job, but for the update,
 * which is never cancelled: who said QUIT has his deletions, whether or not he waits for the answer.
 */
#include <stdlib.h>

#include "backend/session/pop3_core.h"
#include "common/base/mem.h"

static void drop(void *arg)
{
	pop3_unref(arg);
}

static struct store_job *start(struct pop3_session *s, bool is_write, int (*run)(struct store_txn *, void *),
	void (*done)(void *, int))
{
	const struct store_work_call call = {
		.run = run, .done = done, .drop = drop, .arg = s, .loop = s->loop, .name = "POP3"};

	s->refs++;
	return is_write ? store_work_write(pop3_store_work(s), s->account.slot, &call)
			: store_work_read(pop3_store_work(s), s->account.slot, &call);
}

/* ---- opening ---- */

static void add_uids(void *arg, uint32_t from, uint32_t count)
{
	imap_uids_add(arg, from, count);
}

/* What others have expunged meanwhile is in the index no more, but our view keeps its record. */
static int kept_size(struct store_txn *txn, uint32_t mailbox, uint32_t uid, uint32_t *size_out)
{
	struct store_message message;
	int err = store_message_get(txn, mailbox, uid, &message);

	if (err == 0)
		*size_out = (uint32_t)message.size;
	return err;
}

/* Sizes of the messages from index `first` on, as many as fit. */
static int read_sizes(
	struct store_txn *txn, const struct pop3_maildrop *d, uint32_t first, struct pop3_sizes *sizes_out)
{
	struct imap_uids_walk at = imap_uids_walk(&d->uids, first);
	uint32_t n = 0, uid = imap_uids_peek(&at);
	uint32_t count = d->count - first < POP3_SIZES_MAX ? d->count - first : POP3_SIZES_MAX;
	struct store_entry entry = {.uid = 0};
	struct store_scan scan;
	bool is_there = true;
	int err = count ? store_scan_begin(&scan, txn, d->mailbox, uid) : 0;

	if (err || !count)
		return err;
	if (!sizes_out->list)
		sizes_out->list = xcalloc(count, sizeof(*sizes_out->list));
	for (; n < count && !err; n++, imap_uids_step(&at)) {
		uid = imap_uids_peek(&at);
		while (is_there && entry.uid < uid)
			is_there = store_scan_next(&scan, &entry);
		if (is_there && entry.uid == uid)
			sizes_out->list[n] = entry.size;
		else
			err = scan.error ? scan.error : kept_size(txn, d->mailbox, uid, &sizes_out->list[n]);
	}
	store_scan_end(&scan);
	sizes_out->first = first;
	sizes_out->count = err ? 0 : n;
	return err;
}

static int run_open(struct store_txn *txn, void *arg)
{
	struct pop3_session *s = arg;
	struct pop3_maildrop *d = &s->job_drop;
	struct store_mailbox mailbox;
	int err = store_mailbox_find(txn, s->account.id, SLICE_LIT("INBOX"), &mailbox);

	if (err)
		return err;
	d->mailbox = mailbox.id;
	d->bytes = mailbox.size;
	imap_uids_deinit(&d->uids); /* it may run again */
	err = store_message_runs(txn, mailbox.id, mailbox.uidnext, add_uids, &d->uids);
	d->count = d->uids.count;
	free(d->sizes.list);
	d->sizes = (struct pop3_sizes){0};
	if (!err)
		err = read_sizes(txn, d, 0, &d->sizes);
	if (!err && !d->view)
		d->view = store_work_view(pop3_store_work(s), s->account.slot, mailbox.id, mailbox.modseq);
	return err;
}

static void done_open(void *arg, int err)
{
	struct pop3_session *s = arg;

	s->job = NULL;
	s->drop = s->job_drop;
	s->job_drop = (struct pop3_maildrop){0};
	pop3_opened(s, err);
}

void pop3_store_open(struct pop3_session *s)
{
	s->job = start(s, false, run_open, done_open);
}

/* ---- a piece of a message ---- */

static int run_piece(struct store_txn *txn, void *arg)
{
	struct pop3_session *s = arg;
	struct store_message message;
	int err = store_message_get(txn, s->drop.mailbox, imap_uids_at(&s->drop.uids, s->sending), &message);

	if (err)
		return err;
	if (!s->job_piece)
		s->job_piece =
			xmalloc(message.size < POP3_PIECE_MAX ? (size_t)message.size + 1 : POP3_PIECE_MAX);
	err = store_message_read(txn, &message, s->offset, s->job_piece,
		message.size < POP3_PIECE_MAX ? (size_t)message.size : POP3_PIECE_MAX, &s->job_piece_len);
	s->job_is_last = s->offset + s->job_piece_len >= message.size;
	s->job_message_size = message.size;
	return err;
}

static void done_piece(void *arg, int err)
{
	struct pop3_session *s = arg;

	s->job = NULL;
	pop3_piece_came(s, err);
}

void pop3_store_piece(struct pop3_session *s)
{
	s->job = start(s, false, run_piece, done_piece);
}

/* ---- unique ids ---- */

static void add_uidl(struct pop3_session *s, uint32_t i, const struct store_message *message)
{
	char room[STORE_UIDL_MADE];
	struct slice uidl = store_message_uidl(message, room);

	if (!s->drop.deleted || !s->drop.deleted[i])
		buf_printf(&s->job_text, "%s%u %.*s\r\n", s->is_single ? "+OK " : "", i + 1, SLICE_ARG(uidl));
}

static int run_uidls(struct store_txn *txn, void *arg)
{
	struct pop3_session *s = arg;
	uint32_t i = s->at, end = s->end - s->at > POP3_UIDLS_MAX ? s->at + POP3_UIDLS_MAX : s->end;
	struct imap_uids_walk at = imap_uids_walk(&s->drop.uids, i);
	struct store_walk walk;
	struct store_message message;
	int err = store_walk_begin(&walk, txn, s->drop.mailbox, imap_uids_peek(&at));

	if (err)
		return err;
	buf_clear(&s->job_text);
	while (i < end && store_walk_next(&walk, &message)) {
		if (message.uid > imap_uids_peek(&at)) {
			walk.error = ERR_CORRUPT; /* the view holds them all */
			break;
		}
		if (message.uid == imap_uids_peek(&at)) {
			add_uidl(s, i++, &message);
			imap_uids_step(&at);
		}
	}
	err = walk.error ? walk.error : i < end ? ERR_CORRUPT : 0;
	store_walk_end(&walk);
	return err;
}

static void done_uidls(void *arg, int err)
{
	struct pop3_session *s = arg;

	s->job = NULL;
	pop3_uidls_came(s, err);
}

void pop3_store_uidls(struct pop3_session *s)
{
	s->job = start(s, false, run_uidls, done_uidls);
}

/* ---- sizes ---- */

static int run_sizes(struct store_txn *txn, void *arg)
{
	struct pop3_session *s = arg;

	return read_sizes(txn, &s->drop, s->wanted - s->wanted % POP3_SIZES_MAX, &s->job_sizes);
}

static void done_sizes(void *arg, int err)
{
	struct pop3_session *s = arg;
	struct pop3_sizes had = s->drop.sizes;

	s->job = NULL;
	if (!err) {
		s->drop.sizes = s->job_sizes;
		s->job_sizes = had;
	}
	free(s->job_sizes.list);
	s->job_sizes = (struct pop3_sizes){0};
	pop3_sizes_came(s, err);
}

void pop3_store_sizes(struct pop3_session *s, uint32_t i)
{
	s->wanted = i;
	s->job = start(s, false, run_sizes, done_sizes);
}

/* ---- update ---- */

/* One step of at most STORE_STEP_MAX; a step that finds its messages gone already is over, so that it may run
 * twice. */
static int run_update(struct store_txn *txn, void *arg)
{
	struct pop3_session *s = arg;

	for (uint32_t at = 0; at < s->job_uid_count; at += STORE_STEP_MAX) {
		uint32_t n = s->job_uid_count - at < STORE_STEP_MAX ? s->job_uid_count - at : STORE_STEP_MAX;
		uint64_t modseq = 0;
		int err = store_message_expunge(
			txn, s->account.id, s->drop.mailbox, s->job_uids + at, n, true, NULL, &modseq);

		if (err)
			return err;
		if (modseq && at + n < s->job_uid_count)
			return STORE_WORK_AGAIN;
	}
	return 0;
}

static void done_update(void *arg, int err)
{
	struct pop3_session *s = arg;

	s->job = NULL;
	pop3_updated(s, err);
}

void pop3_store_update(struct pop3_session *s)
{
	s->job_uids = xcalloc((size_t)s->drop.deleted_count + 1, sizeof(*s->job_uids));
	s->job_uid_count = 0;
	for (uint32_t i = 0; i < s->drop.count; i++)
		if (s->drop.deleted[i])
			s->job_uids[s->job_uid_count++] = imap_uids_at(&s->drop.uids, i);
	s->job = start(s, true, run_update, done_update);
}
