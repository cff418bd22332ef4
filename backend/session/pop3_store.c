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

static int read_index(struct store_txn *txn, struct pop3_maildrop *d)
{
	struct store_scan scan;
	struct store_entry entry;
	uint32_t n = 0;
	int err = store_scan_begin(&scan, txn, d->mailbox, 1);

	if (err)
		return err;
	while (n < d->count && store_scan_next(&scan, &entry)) {
		d->uids[n] = entry.uid;
		d->sizes[n] = entry.size;
		d->bytes += entry.size;
		n++;
	}
	err = scan.error;
	store_scan_end(&scan);
	d->count = n;
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
	d->count = mailbox.messages;
	d->bytes = 0;
	free(d->uids);
	free(d->sizes);
	d->uids = xcalloc((size_t)mailbox.messages + 1, sizeof(*d->uids));
	d->sizes = xcalloc((size_t)mailbox.messages + 1, sizeof(*d->sizes));
	err = read_index(txn, d);
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
	int err = store_message_get(txn, s->drop.mailbox, s->drop.uids[s->sending], &message);

	if (err)
		return err;
	if (!s->job_piece)
		s->job_piece =
			xmalloc(message.size < POP3_PIECE_MAX ? (size_t)message.size + 1 : POP3_PIECE_MAX);
	err = store_message_read(txn, &message, s->offset, s->job_piece,
		message.size < POP3_PIECE_MAX ? (size_t)message.size : POP3_PIECE_MAX, &s->job_piece_len);
	s->job_is_last = s->offset + s->job_piece_len >= message.size;
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

/* Adds the line of message i if the record is its. True: it was. */
static bool add_uidl(struct pop3_session *s, uint32_t i, const struct store_message *message)
{
	char room[STORE_UIDL_MADE];
	struct slice uidl = store_message_uidl(message, room);

	if (message->uid != s->drop.uids[i])
		return false;
	if (!s->drop.deleted || !s->drop.deleted[i])
		buf_printf(&s->job_text, "%s%u %.*s\r\n", s->is_single ? "+OK " : "", i + 1, SLICE_ARG(uidl));
	return true;
}

static int run_uidls(struct store_txn *txn, void *arg)
{
	struct pop3_session *s = arg;
	uint32_t i = s->at, end = s->end - s->at > POP3_UIDLS_MAX ? s->at + POP3_UIDLS_MAX : s->end;
	struct store_walk walk;
	struct store_message message;
	int err = store_walk_begin(&walk, txn, s->drop.mailbox, s->drop.uids[i]);

	if (err)
		return err;
	buf_clear(&s->job_text);
	while (i < end && store_walk_next(&walk, &message)) {
		if (message.uid > s->drop.uids[i]) {
			walk.error = ERR_CORRUPT; /* the view holds them all */
			break;
		}
		if (add_uidl(s, i, &message))
			i++;
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
			s->job_uids[s->job_uid_count++] = s->drop.uids[i];
	s->job = start(s, true, run_update, done_update);
}
