/*
 * Messages that are read before they are asked for: who retrieves n and then n + 1 goes on so, and reading is most of the work.
 *
 *	RETR n          asked for and not there: a job reads n, and RETR waits for it
 *	RETR n + 1      next to the last one: from here on twice as many each time, up to the two limits of pop3_core.h
 *	...             the first of what is ready goes out: a job reads what follows
 *
 * A batch has whole answers, one behind another: +OK, the message with its dots doubled, the final dot. Two exist, one that goes out
 * and one that a job fills, which the loop does not touch meanwhile. What the job cannot read, or what would be refused, ends its
 * batch: such a message is sent by pieces, and that way has the words for it. Nobody waits long for what lies ready: a session that
 * falls silent forgets it.
 */
#include <stdlib.h>

#include "backend/session/pop3_core.h"
#include "common/base/mem.h"
#include "common/proto/header.h"

struct batch {
	struct buf text;
	uint32_t first; /* index of the first message */
	uint32_t count;
	uint32_t given; /* of them, or passed over */
	uint32_t sizes[POP3_AHEAD_MESSAGES];
	size_t ends[POP3_AHEAD_MESSAGES]; /* of the answers in text */
};

struct pop3_ahead {
	struct batch ready;
	struct batch next; /* the job's, while there is one */
	struct store_job *job;
	uint32_t wanted; /* messages of the job */
	uint32_t last;   /* given; the index behind it is the next in order */
	uint32_t window; /* messages of the next job */
	bool is_awaited; /* the session waits for awaited */
	uint32_t awaited;
};

bool pop3_ahead_is_awaited(const struct pop3_session *s)
{
	return s->ahead && s->ahead->is_awaited;
}

void pop3_ahead_free(struct pop3_session *s)
{
	struct pop3_ahead *a = s->ahead;

	if (!a)
		return;
	buf_deinit(&a->ready.text);
	buf_deinit(&a->next.text);
	free(a);
	s->ahead = NULL;
}

void pop3_ahead_forget(struct pop3_session *s)
{
	if (s->ahead && !s->ahead->job)
		pop3_ahead_free(s);
}

void pop3_ahead_cancel(struct pop3_session *s)
{
	if (s->ahead)
		store_work_cancel(&s->ahead->job);
}

/* ---- the job ---- */

/* RFC 6856 sections 2.1 and 5 */
static bool is_refused(const struct pop3_session *s, struct slice message)
{
	return s->limits.is_strict_utf8 && !s->is_utf8 &&
	       !slice_is_ascii(slice_sub(message, 0, header_length(message)));
}

/* False: not this one. */
static bool add_answer(
	const struct pop3_session *s, struct store_txn *txn, const struct store_message *m, struct batch *b)
{
	size_t before = buf_len(&b->text), begin, got = 0;
	char *room;

	buf_printf(&b->text, "+OK %llu octets\r\n", (unsigned long long)m->size);
	begin = buf_len(&b->text);
	room = buf_reserve(&b->text, (size_t)m->size);
	if (!room || store_message_read(txn, m, 0, room, (size_t)m->size, &got) < 0 || got != m->size ||
		is_refused(s, slice_of(room, got))) {
		buf_cut(&b->text, before);
		return false;
	}
	buf_added(&b->text, got);
	pop3_parse_stuff_message(&b->text, begin);
	b->sizes[b->count] = (uint32_t)m->size;
	b->ends[b->count++] = buf_len(&b->text);
	return true;
}

static int run_ahead(struct store_txn *txn, void *arg)
{
	struct pop3_session *s = arg;
	struct batch *b = &s->ahead->next;
	struct imap_uids_walk at = imap_uids_walk(&s->drop.uids, b->first);
	struct store_walk walk;
	struct store_message m;
	int err = store_walk_begin(&walk, txn, s->drop.mailbox, imap_uids_peek(&at));

	if (err)
		return err;
	(void)buf_reserve(&b->text, POP3_AHEAD_BYTES);
	while (b->count < s->ahead->wanted && store_walk_next(&walk, &m)) {
		if (m.uid < imap_uids_peek(&at))
			continue;
		if (m.uid > imap_uids_peek(&at) || m.size > POP3_AHEAD_MESSAGE ||
			buf_len(&b->text) + m.size > POP3_AHEAD_BYTES || !add_answer(s, txn, &m, b))
			break;
		imap_uids_step(&at);
	}
	err = walk.error;
	store_walk_end(&walk);
	return err;
}

static bool give(struct pop3_session *s, uint32_t i);
static bool start(struct pop3_session *s, uint32_t i);

static void done_ahead(void *arg, int err)
{
	struct pop3_session *s = arg;
	struct pop3_ahead *a = s->ahead;
	bool was_for_it = a->next.first == a->awaited;

	a->job = NULL;
	if (err)
		a->next.count = 0;
	if (!a->is_awaited) {
		if (s->is_silent)
			pop3_ahead_free(s);
		return;
	}
	a->is_awaited = false;
	if (give(s, a->awaited))
		pop3_resume(s);
	else if (!was_for_it && start(s, a->awaited))
		a->is_awaited = true;
	else
		pop3_command_send_by_pieces(s, a->awaited);
}

/* As far as sizes are there; the job sees for itself. */
static bool is_large(const struct pop3_session *s, uint32_t i)
{
	const uint32_t *size = pop3_size(s, i);

	return size && *size > POP3_AHEAD_MESSAGE;
}

static void drop_ahead(void *arg)
{
	pop3_unref(arg);
}

/* A job for messages from i on. False: there is none, or it is known to be too large. */
static bool start(struct pop3_session *s, uint32_t i)
{
	struct pop3_ahead *a = s->ahead;
	const struct store_work_call call = {.run = run_ahead,
		.done = done_ahead,
		.drop = drop_ahead,
		.arg = s,
		.loop = s->loop,
		.name = "POP3"};

	if (i >= s->drop.count || is_large(s, i))
		return false;
	buf_clear(&a->next.text);
	a->next.first = i;
	a->next.count = a->next.given = 0;
	a->wanted = a->window < s->drop.count - i ? a->window : s->drop.count - i;
	s->refs++;
	a->job = store_work_read(pop3_store_work(s), s->account.slot, &call);
	return true;
}

/* ---- giving ---- */

static bool has(const struct batch *b, uint32_t i)
{
	return i >= b->first + b->given && i < b->first + b->count;
}

static void swap(struct pop3_ahead *a)
{
	struct batch ready = a->ready;

	a->ready = a->next;
	a->next = ready;
	a->next.count = a->next.given = 0;
}

/* Sees to what follows what is ready: at once, since a client that reads fast takes it in less time than the job needs. */
static void refill(struct pop3_session *s)
{
	struct pop3_ahead *a = s->ahead;

	if (a->job || a->window == 1 || a->next.count > a->next.given)
		return;
	if (a->window < POP3_AHEAD_MESSAGES)
		a->window *= 2;
	(void)start(s, a->ready.first + a->ready.count);
}

/* Writes the answer of message i; false: it is not there. */
static bool give(struct pop3_session *s, uint32_t i)
{
	struct pop3_ahead *a = s->ahead;
	struct batch *b = &a->ready;
	size_t from;
	uint32_t at;

	if (!has(b, i) && !a->job && has(&a->next, i))
		swap(a);
	if (!has(b, i))
		return false;
	at = i - b->first;
	from = at ? b->ends[at - 1] : 0;
	conn_write(s->conn, slice_sub(buf_view(&b->text), from, b->ends[at] - from));
	b->given = at + 1;
	a->last = i;
	s->retrieved++;
	s->retrieved_bytes += b->sizes[at];
	refill(s);
	return true;
}

bool pop3_ahead_retr(struct pop3_session *s, uint32_t i)
{
	struct pop3_ahead *a = s->ahead;

	if (is_large(s, i))
		return false;
	if (!a)
		a = s->ahead = xcalloc(1, sizeof(*a));
	if (a->window == 0 || i != a->last + 1)
		a->window = 1;
	else if (a->window == 1)
		a->window = 2;
	if (give(s, i))
		return true;
	a->awaited = i;
	a->is_awaited = a->job || start(s, i);
	if (a->is_awaited)
		pop3_enter(s, POP3_SENDING);
	return a->is_awaited;
}
