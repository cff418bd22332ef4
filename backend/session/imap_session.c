/*
 * The session's core: states, deadlines, the input loop, jobs, answers, the end.
 *
 *	READY <-> LITERAL <-> STREAM      a command comes in
 *	  |           |          |
 *	  +-----> BUSY <-> SENDING        it is worked on; also IDLING <-> BUSY
 *	  <---------+                     answered
 *	any -> CLOSED                     freed when the last job has been dropped
 *
 * Invariant: at most one job runs, and only in BUSY or CLOSED.
 */
#include "backend/session/imap_core.h"

#include "backend/session/imap_metadata.h"
#include "backend/session/imap_notify.h"
#include "backend/store/store_change.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/proto/imap_write.h"

/* What a command may need beyond its own text: UIDs of all messages, for instance. */
#define COMMAND_ARENA (64u << 20)
#define INPUT_LIMIT (80u * 1024) /* a whole line of imap_parse_limits_after_login */

#define BIT(state) (1u << (state))
static const struct {
	const char *name;
	unsigned to;
} states[IMAP_STATES] = {
	[IMAP_READY] = {"ready", BIT(IMAP_READY) | BIT(IMAP_LITERAL) | BIT(IMAP_STREAM) | BIT(IMAP_BUSY) |
					 BIT(IMAP_SENDING) | BIT(IMAP_IDLING) | BIT(IMAP_CLOSED)},
	[IMAP_LITERAL] = {"literal", BIT(IMAP_READY) | BIT(IMAP_LITERAL) | BIT(IMAP_STREAM) | BIT(IMAP_BUSY) |
					     BIT(IMAP_SENDING) | BIT(IMAP_IDLING) | BIT(IMAP_CLOSED)},
	[IMAP_STREAM] = {"append", BIT(IMAP_STREAM) | BIT(IMAP_LITERAL) | BIT(IMAP_CLOSED)},
	[IMAP_BUSY] = {"busy", BIT(IMAP_READY) | BIT(IMAP_LITERAL) | BIT(IMAP_STREAM) | BIT(IMAP_BUSY) |
				       BIT(IMAP_SENDING) | BIT(IMAP_IDLING) | BIT(IMAP_CLOSED)},
	[IMAP_SENDING] = {"sending",
		BIT(IMAP_READY) | BIT(IMAP_BUSY) | BIT(IMAP_SENDING) | BIT(IMAP_IDLING) | BIT(IMAP_CLOSED)},
	[IMAP_IDLING] = {"idle", BIT(IMAP_READY) | BIT(IMAP_BUSY) | BIT(IMAP_IDLING) | BIT(IMAP_CLOSED)},
	[IMAP_CLOSED] = {"closed", 0},
};

static uint64_t deadline(const struct imap_session *s, enum imap_state state)
{
	switch (state) {
	case IMAP_READY:
	case IMAP_IDLING:
		return s->limits.idle_ms;
	case IMAP_LITERAL:
	case IMAP_STREAM:
	case IMAP_SENDING:
		return s->limits.transfer_ms;
	case IMAP_BUSY: /* the store answers every job */
	case IMAP_CLOSED:
		return 0;
	}
	return 0;
}

void imap_enter(struct imap_session *s, enum imap_state state)
{
	uint64_t ms = deadline(s, state);

	require(states[s->state].to & BIT(state));
	s->state = state;
	if (ms)
		timer_set(&s->timer, s->loop, ms);
	else
		timer_stop(&s->timer);
}

void imap_log(struct imap_session *s, const char *format, ...)
{
	struct buf text = {0};
	va_list args;

	if (!log_is_on(LOG_INFO))
		return;
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	log_write(
		LOG_INFO, "imap", "%s: %s user=%s client=%s", s->id, buf_str_view(&text), s->user, s->client);
	buf_deinit(&text);
}

const char *imap_state_name(const struct imap_session *s)
{
	return states[s->state].name;
}

/* ---- the end ---- */

/* The last that a session does; who counts none may stop the store. */
static void session_free(struct imap_session *s)
{
	struct imap_service *service = s->service;

	if (s->back.drop)
		s->back.drop(s->back.arg);
	imap_view_deinit(&s->view);
	imap_sync_free(s);
	imap_notify_free(s);
	imap_notes_unref(&s->notes);
	arena_deinit(&s->arena);
	buf_deinit(&s->reply);
	buf_deinit(&s->out);
	free(s->append_name);
	free(s->user);
	free(s->client);
	free(s->id);
	loop_free_later(s->loop, s);
	atomic_fetch_sub(&service->count, 1);
}

/* The connection is another's, or closed. */
static void end_without_conn(struct imap_session *s)
{
	imap_enter(s, IMAP_CLOSED);
	store_work_unwatch(&s->watch);
	store_work_unwatch(&s->guest_watch);
	imap_others_end(s);
	list_remove(&s->link);
	if (s->jobs) {
		/* The job may still be at work on our memory: job_drop() goes on. */
		store_work_cancel(&s->job);
		return;
	}
	if (s->cleanup)
		s->cleanup(s);
	imap_select_leave(s);
	session_free(s);
}

void imap_close(struct imap_session *s, const char *bye)
{
	if (s->state == IMAP_CLOSED)
		return;
	if (bye)
		conn_printf(s->conn, "* BYE %s\r\n", bye);
	imap_log(s, "ends: %s in=%llu out=%llu",
		bye            ? bye
		: s->is_logout ? "logout"
			       : "connection closed",
		(unsigned long long)conn_bytes_in(s->conn), (unsigned long long)conn_bytes_out(s->conn));
	conn_close(&s->conn);
	end_without_conn(s);
}

/* ---- jobs ---- */

/* Every job of every command on the selected mailbox comes by here. */
static int run_checked(struct imap_session *s, struct store_txn *txn)
{
	int err = s->cmd && s->cmd->flags & IMAP_CMD_SELECTED && s->at_slot == s->view.slot && !s->is_beside
			  ? imap_access_check(s, txn, IMAP_RIGHT_READ)
			  : 0;

	return err < 0 ? err : s->run(s, txn);
}

static int job_run(struct store_txn *txn, void *arg)
{
	return run_checked(arg, txn);
}

static int no_change(void *arg, const struct store_change *change)
{
	(void)arg;
	(void)change;
	return 0;
}

/* An account's MODSEQ as this transaction has it; 0: there is no such account. */
static uint64_t modseq_now(struct store_txn *txn, uint32_t account)
{
	bool is_incomplete;
	uint64_t now;

	if (store_change_each(txn, account, UINT64_MAX - 1, no_change, NULL, &now, &is_incomplete) < 0)
		return 0;
	return now;
}

void imap_session_changes(struct imap_session *s, struct store_txn *txn, uint32_t account)
{
	unsigned i = 0;

	if (!s->is_writing || !account || (account == s->account && store_txn_slot(txn) == s->slot))
		return;
	while (i < IMAP_OWN_OTHERS && s->own_others[i].account && s->own_others[i].account != account)
		i++;
	if (i < IMAP_OWN_OTHERS && !s->own_others[i].account)
		s->own_others[i] = (struct imap_own){account, modseq_now(txn, account) + 1, 0};
}

static void begin_own(struct imap_session *s, struct store_txn *txn)
{
	s->own_from = s->own_to = 0;
	memset(s->own_others, 0, sizeof(s->own_others));
	s->is_writing = s->notify != NULL;
	if (s->is_writing && store_txn_slot(txn) == s->slot)
		s->own_from = modseq_now(txn, s->account) + 1;
	if (s->view.mailbox && s->view.is_guest && store_txn_slot(txn) == s->view.slot)
		imap_session_changes(s, txn, s->view.account);
}

static void end_own(struct imap_session *s, struct store_txn *txn)
{
	s->is_writing = false;
	if (s->own_from)
		s->own_to = modseq_now(txn, s->account);
	for (unsigned i = 0; i < IMAP_OWN_OTHERS && s->own_others[i].account; i++)
		s->own_others[i].to = modseq_now(txn, s->own_others[i].account);
}

/* A write may run twice, if another of its batch failed: what the first run wrote is forgotten. */
static int job_run_write(struct store_txn *txn, void *arg)
{
	struct imap_session *s = arg;
	int err;

	buf_clear(&s->out);
	begin_own(s, txn);
	err = run_checked(s, txn);
	end_own(s, txn);
	return err;
}

static void finish_job(struct imap_session *s, int err)
{
	if (buf_len(&s->out))
		conn_write_take(s->conn, &s->out);
	if (err == 0 && s->own_from)
		imap_notify_own(s, s->own_from, s->own_to);
	for (unsigned i = 0; err == 0 && i < IMAP_OWN_OTHERS && s->own_others[i].account; i++)
		imap_others_own(
			s, s->at_slot, s->own_others[i].account, s->own_others[i].from, s->own_others[i].to);
	s->own_from = 0;
	s->own_others[0].account = 0;
	s->done(s, err);
}

static void finish_ahead(struct imap_session *s)
{
	finish_job(s, s->ahead_err);
}

static void job_done(void *arg, int err)
{
	struct imap_session *s = arg;

	s->job = NULL;
	s->ahead_err = err;
	s->has_waited = s->is_ahead && conn_is_congested(s->conn);
	if (s->is_ahead)
		imap_when_sent(s, finish_ahead);
	else
		finish_job(s, err);
}

static void job_drop(void *arg)
{
	struct imap_session *s = arg;

	if (--s->jobs == 0 && s->state == IMAP_CLOSED) {
		if (s->cleanup)
			s->cleanup(s);
		imap_select_leave(s);
		session_free(s);
	}
}

static void start_job(
	struct imap_session *s, bool is_write, bool is_beside, imap_run_fn *run, imap_done_fn *done)
{
	struct store_work_call call = {.run = is_write ? job_run_write : job_run,
		.done = job_done,
		.drop = job_drop,
		.arg = s,
		.loop = s->loop,
		.name = s->cmd ? s->cmd->name : "IMAP"};

	imap_enter(s, IMAP_BUSY);
	s->is_ahead = false;
	s->run = run;
	s->done = done;
	s->jobs++;
	s->is_beside = is_beside;
	s->job = is_write ? store_work_write(s->service->work, s->at_slot, &call)
			  : store_work_read(s->service->work, s->at_slot, &call);
}

void imap_read(struct imap_session *s, imap_run_fn *run, imap_done_fn *done)
{
	start_job(s, false, false, run, done);
}

void imap_read_ahead(struct imap_session *s, imap_run_fn *run, imap_done_fn *done)
{
	start_job(s, false, false, run, done);
	s->is_ahead = true;
}

void imap_read_beside(struct imap_session *s, imap_run_fn *run, imap_done_fn *done)
{
	start_job(s, false, true, run, done);
}

void imap_write_job(struct imap_session *s, imap_run_fn *run, imap_done_fn *done)
{
	start_job(s, true, false, run, done);
}

static void add_done(void *arg, int err, const struct store_work_added *results, size_t count)
{
	struct imap_session *s = arg;

	s->job = NULL;
	for (size_t i = 0; s->notify && err == 0 && i < count; i++) {
		if (s->adds_own && results[i].error == 0)
			imap_notify_own(s, results[i].modseq, results[i].modseq);
		else if (results[i].error == 0)
			imap_others_own(s, s->at_slot, s->adds_account, results[i].modseq, results[i].modseq);
		if (results[i].error == 0 && s->at_slot == s->view.slot)
			imap_notify_own_uids(s, results[i].mailbox, results[i].uid, results[i].uid);
	}
	s->added(s, err, err == 0 && count ? results : NULL);
}

void imap_add(struct imap_session *s, struct store_work_add *add, imap_added_fn *done)
{
	imap_enter(s, IMAP_BUSY);
	s->added = done;
	s->jobs++;
	add->slot = s->at_slot;
	s->adds_account = add->target_count ? add->targets[0].account : 0;
	s->adds_own = s->at_slot == s->slot && s->adds_account == s->account;
	add->done = add_done;
	add->drop = job_drop;
	add->arg = s;
	add->loop = s->loop;
	s->job = store_work_add(s->service->work, add);
}

void *imap_data(struct imap_session *s, size_t size)
{
	s->data = arena_calloc(&s->arena, 1, size);
	if (!s->data)
		imap_answer(s, "NO", "LIMIT", "Command too large");
	return s->data;
}

/* ---- answers ---- */

/* The command is over: its memory goes, and the next one may come. */
static void end_command(struct imap_session *s)
{
	if (s->cleanup)
		s->cleanup(s);
	s->cleanup = NULL;
	s->data = NULL;
	s->cmd = NULL;
	s->refuse_status = NULL;
	s->view.own_count = 0;
	imap_notify_command_ended(s);
	arena_reset(&s->arena);
	s->arena.limit = IMAP_PARSE_ARENA_AFTER;
	imap_parse_start(&s->parse, &imap_parse_limits_after_login, &s->arena);
	imap_enter(s, IMAP_READY);
}

/* RFC 7162 section 3.2.7: the tagged OK of what expunged, after the client has heard of it. */
static void add_modseq(struct imap_session *s)
{
	buf_clear(&s->reply);
	buf_add_slice(&s->reply, s->parse.command.tag);
	buf_printf(&s->reply, " OK [HIGHESTMODSEQ %llu] Done\r\n", (unsigned long long)s->view.told);
}

/* RFC 8437 section 3: OK has been said, TLS stays, all else ends. */
static void give_back(struct imap_session *s)
{
	struct conn *conn = s->conn;

	if (conn_is_deflated(conn) && conn_stop_deflate(conn) < 0) {
		imap_close(
			s, "Nothing may follow UNAUTHENTICATE before its answer while data are compressed");
		return;
	}
	imap_log(s, "ends: unauthenticate in=%llu out=%llu", (unsigned long long)conn_bytes_in(conn),
		(unsigned long long)conn_bytes_out(conn));
	s->conn = NULL;
	s->back.take(s->back.arg, conn, s->is_eof);
	end_without_conn(s);
}

static void send_reply(struct imap_session *s)
{
	s->tells_modseq = false;
	if (s->starts_deflate &&
		conn_input(s->conn).len) { /* sent without knowing whether it should be compressed */
		buf_clear(&s->reply);
		buf_add_slice(&s->reply, s->parse.command.tag);
		buf_add_str(&s->reply, " BAD Nothing may follow COMPRESS before its answer\r\n");
		s->starts_deflate = false;
	}
	conn_write(s->conn, buf_view(&s->reply));
	buf_clear(&s->reply);
	if (s->gives_back) {
		give_back(s);
		return;
	}
	if (s->starts_deflate && conn_start_deflate(s->conn) < 0)
		s->bye_text = "Compression could not be started";
	s->starts_deflate = false;
	end_command(s);
	if (s->is_logout || s->bye_text)
		imap_close(s, s->is_logout ? NULL : s->bye_text);
	else
		imap_input(s);
}

static void after_notify(struct imap_session *s, int err)
{
	if (err < 0)
		s->is_account_stale = true;
	send_reply(s);
}

static void tell_account(struct imap_session *s)
{
	if (s->cmd && !s->is_logout && s->notify && (imap_notify_is_due(s) || s->cmd->flags & IMAP_CMD_SYNC))
		imap_notify_start(s, after_notify);
	else
		send_reply(s);
}

static void after_sync(struct imap_session *s, int err)
{
	if (err == ERR_NOT_FOUND)
		s->bye_text = "The selected mailbox was deleted";
	else if (err < 0)
		s->is_stale = true;
	else if (s->tells_modseq)
		add_modseq(s);
	tell_account(s);
}

/* NOTIFY may have switched news of the selected mailbox off; but what a command expunges is its answer. */
static bool wants_sync(const struct imap_session *s, unsigned flags)
{
	const unsigned expunges = IMAP_CMD_WRITABLE | IMAP_CMD_SYNC;

	return imap_notify_selected(s) || s->must_sync || (flags & expunges) == expunges;
}

void imap_answer(struct imap_session *s, const char *status, const char *code, const char *text)
{
	/* What could not be read might have been a FETCH: no EXPUNGE then, and nothing else that can wait. */
	unsigned flags = s->cmd ? s->cmd->flags : 0;

	buf_clear(&s->reply);
	if (s->parse.command.tag.len)
		buf_add_slice(&s->reply, s->parse.command.tag);
	else
		buf_add_char(&s->reply, '*');
	buf_printf(&s->reply, " %s %s%s%s%s\r\n", status, code ? "[" : "", code ? code : "", code ? "] " : "",
		text);
	if (s->cmd && s->view.mailbox && !s->is_logout && !(flags & IMAP_CMD_FRESH) && wants_sync(s, flags) &&
		(s->is_stale || s->must_sync || flags & IMAP_CMD_SYNC ||
			(buf_len(&s->view.expunged) && !(flags & IMAP_CMD_NO_EXPUNGE)))) {
		s->is_stale = s->must_sync = false;
		imap_sync_start(s, !(flags & IMAP_CMD_NO_EXPUNGE), after_sync);
	} else {
		tell_account(s);
	}
}

void imap_ok(struct imap_session *s)
{
	imap_answer(s, "OK", NULL, "Done");
}

void imap_bad(struct imap_session *s, const char *text)
{
	imap_answer(s, "BAD", NULL, text);
}

void imap_fail(struct imap_session *s, int err)
{
	static const struct {
		int err;
		const char *code, *text;
	} rows[] = {
		{ERR_NOT_FOUND, "NONEXISTENT", "No such mailbox"},
		{ERR_EXISTS, "ALREADYEXISTS", "There is such a mailbox already"},
		{ERR_DENIED, "CANNOT", "That cannot be done with this mailbox"},
		{ERR_FORBIDDEN, "NOPERM", "You have no right to that"},
		{ERR_SYNTAX, "CANNOT", "No legal mailbox name"},
		{ERR_TOO_BIG, "LIMIT", "A limit was reached"},
		{ERR_FULL, "UNAVAILABLE", "No space left, try again later"},
		{ERR_CORRUPT, "SERVERBUG", "The message is damaged"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (err == rows[i].err) {
			imap_answer(s, "NO", rows[i].code, rows[i].text);
			return;
		}
	}
	imap_answer(s, "NO", "UNAVAILABLE", "Try again later");
}

void imap_progress(struct imap_session *s, uint64_t done, uint64_t goal)
{
	uint64_t now = clock_mono_ms();
	struct buf line = {0};

	if (now - s->told_ms < s->limits.progress_ms || done >= goal)
		return;
	s->told_ms = now;
	buf_add_str(&line, "* OK [INPROGRESS (");
	imap_write_string(&line, s->parse.command.tag);
	buf_printf(&line, " %llu %llu)] Still at it\r\n", (unsigned long long)done, (unsigned long long)goal);
	conn_write(s->conn, buf_view(&line));
	buf_deinit(&line);
}

static void resume(struct imap_session *s)
{
	if (s->state == IMAP_SENDING)
		imap_enter(s, IMAP_READY);
	imap_input(s);
}

void imap_when_sent(struct imap_session *s, void (*next)(struct imap_session *))
{
	if (!conn_is_congested(s->conn)) {
		next(s);
		return;
	}
	s->after_sent = next;
	imap_enter(s, IMAP_SENDING);
	conn_want_drained(s->conn);
}

/* ---- input ---- */

/* A command that makes no sense; beyond the limit of those in a row the session ends. */
static void senseless(struct imap_session *s, const char *reason)
{
	if (++s->bad > s->limits.bad_commands)
		imap_close(s, "Too many bad commands");
	else
		imap_bad(s, reason);
}

static void dispatch(struct imap_session *s)
{
	const struct imap_command *command = &s->parse.command;

	s->cmd = imap_cmd_find(command->name);
	s->told_ms = clock_mono_ms();
	s->arena.limit = COMMAND_ARENA;
	s->at_slot = s->cmd && s->cmd->flags & IMAP_CMD_SELECTED && s->view.mailbox ? s->view.slot : s->slot;
	if (!s->cmd) {
		senseless(s, "Unknown command");
	} else if (s->is_uidonly && s->cmd->flags & IMAP_CMD_SEQ) {
		imap_answer(s, "BAD", "UIDREQUIRED", "Only UIDs may be used, as was enabled");
	} else if (s->cmd->flags & IMAP_CMD_SELECTED && !s->view.mailbox) {
		imap_bad(s, "No mailbox is selected");
	} else if (s->cmd->flags & IMAP_CMD_WRITABLE && s->view.is_readonly) {
		imap_answer(s, "NO", "NOPERM", "The mailbox was opened read-only");
	} else {
		s->bad = 0;
		s->cmd->fn(s, command);
	}
}

static void bad_command(struct imap_session *s)
{
	if (s->refuse_status) {
		imap_answer(s, s->refuse_status, s->refuse_code, s->refuse_text);
		return;
	}
	senseless(s, s->parse.reason);
}

void imap_refuse_literal(struct imap_session *s, const char *status, const char *code, const char *text)
{
	s->refuse_status = status;
	s->refuse_code = code;
	s->refuse_text = text;
	imap_parse_refuse(&s->parse, text);
}

static void take_literal(struct imap_session *s)
{
	const struct imap_parse *p = &s->parse;

	imap_enter(s, IMAP_LITERAL);
	if (p->literal.depth <= 2 && imap_append_takes(&p->command) && imap_append_literal(s))
		return;
	if (imap_metadata_literal(s))
		return;
	if (imap_parse_hold(&s->parse) == 0 && p->literal.is_sync)
		conn_write_str(s->conn, "+ OK\r\n");
}

static void release_memory(struct imap_session *s)
{
	arena_deinit(&s->arena);
	buf_deinit(&s->reply);
	buf_deinit(&s->out);
}

/* No command is under way: names that the round made in its arena go. */
static void after_round(struct imap_session *s)
{
	arena_reset(&s->arena);
	imap_parse_start(&s->parse, &imap_parse_limits_after_login, &s->arena);
	imap_input(s);
}

/* Nothing more can be read now. */
static void wait_for_more(struct imap_session *s)
{
	bool is_amid = s->parse.held || conn_input(s->conn).len;

	if (s->is_eof) {
		imap_close(s, NULL);
		return;
	}
	if (!is_amid)
		release_memory(s);
	imap_enter(s, is_amid ? IMAP_LITERAL : IMAP_READY);
	if (!is_amid && imap_notify_has_work(s))
		imap_notify_round(s, after_round);
}

/* False: wait. */
static bool read_command(struct imap_session *s)
{
	enum imap_parse_event event;
	ssize_t n;

	if (conn_is_congested(s->conn)) {
		imap_when_sent(s, resume);
		return false;
	}
	n = imap_parse_feed(&s->parse, conn_input(s->conn), &event);
	if (n < 0) {
		imap_close(s, "Command too large");
		return false;
	}
	conn_consume(s->conn, (size_t)n);
	switch (event) {
	case IMAP_PARSE_MORE:
		wait_for_more(s);
		return false;
	case IMAP_PARSE_LITERAL:
		take_literal(s);
		return true;
	case IMAP_PARSE_COMMAND:
		dispatch(s);
		return true;
	case IMAP_PARSE_BAD:
		bad_command(s);
		return true;
	}
	return false;
}

static bool step(struct imap_session *s)
{
	switch (s->state) {
	case IMAP_READY:
		if (s->bye_text) {
			imap_close(s, s->bye_text);
			return false;
		}
		return read_command(s);
	case IMAP_LITERAL:
		return read_command(s);
	case IMAP_STREAM:
		return imap_append_stream(s);
	case IMAP_IDLING:
		return imap_idle_input(s);
	case IMAP_BUSY:
	case IMAP_SENDING:
	case IMAP_CLOSED:
		return false;
	}
	return false;
}

void imap_input(struct imap_session *s)
{
	if (s->is_reading)
		return;
	s->is_reading = true;
	while (step(s))
		;
	s->is_reading = false;
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct imap_session *s = owner;

	(void)conn;
	switch (event) {
	case CONN_DATA:
		imap_input(s);
		break;
	case CONN_DRAINED:
		if (s->state == IMAP_SENDING)
			s->after_sent(s);
		break;
	case CONN_EOF:
		s->is_eof = true;
		imap_input(s);
		break;
	case CONN_FAILED:
		imap_close(s, NULL);
		break;
	case CONN_OPENED:
	case CONN_SECURED:
		break;
	}
}

static void on_deadline(void *arg)
{
	struct imap_session *s = arg;
	bool is_silent = s->state == IMAP_READY || s->state == IMAP_IDLING;

	imap_close(s, is_silent ? "Autologout, idle for too long" : "Too slow");
}

void imap_session_look(struct imap_session *s)
{
	if (s->state == IMAP_IDLING && (s->is_stale || imap_notify_is_due(s)))
		imap_idle_changed(s);
	else if (s->state == IMAP_READY && !s->is_reading && imap_notify_has_work(s))
		imap_notify_round(s, after_round);
}

void imap_session_changed(void *arg, uint32_t account, uint32_t mailbox, uint64_t modseq)
{
	struct imap_session *s = arg;

	(void)modseq;
	/* While a job runs, the view is the job's; mailbox 0 may be all of them. A notice too many costs one look. */
	if (s->state == IMAP_BUSY || mailbox == 0 || mailbox == s->view.mailbox)
		s->is_stale = true;
	if (s->notify && (mailbox == 0 || (s->notify->set && s->notify->set->count)) && account == s->account)
		s->is_account_stale = true;
	imap_session_look(s);
}

/* ---- begin ---- */

static void start_watch(struct imap_session *s)
{
	s->watch =
		store_work_watch(s->service->work, s->slot, s->account, 0, s->loop, imap_session_changed, s);
}

static _Thread_local uint64_t numbers;

void imap_session_start(const struct imap_session_start *start)
{
	struct imap_session *s = xcalloc(1, sizeof(*s));
	struct imap_service *service = start->service;
	char text[ADDR_TEXT_MAX];

	s->service = service;
	s->limits = (struct imap_limits){.append_size = atomic_load(&service->append_size),
		.idle_ms = atomic_load(&service->idle_ms),
		.transfer_ms = atomic_load(&service->transfer_ms),
		.bad_commands = atomic_load(&service->bad_commands),
		.acl_anyone = atomic_load(&service->acl_anyone),
		.is_strict_utf8 = atomic_load(&service->is_strict_utf8),
		.progress_ms = atomic_load(&service->progress_ms)};
	s->conn = start->conn;
	s->loop = conn_loop(start->conn);
	s->slot = s->at_slot = start->account->slot;
	s->account = start->account->id;
	s->user = xstrdup(start->account->address);
	s->client = xstrdup(start->client ? addr_host(start->client, text) : "-");
	s->id = xstrdup(start->session);
	s->since_ms = clock_wall_ms();
	s->number = ++numbers;
	s->is_eof = start->is_ended;
	s->back = start->back;
	timer_init(&s->timer, on_deadline, s);
	arena_init(&s->arena, IMAP_PARSE_ARENA_AFTER);
	imap_view_init(&s->view);
	imap_parse_start(&s->parse, &imap_parse_limits_after_login, &s->arena);
	pthread_mutex_lock(&service->lock);
	s->notes = imap_notes_ref(service->notes);
	pthread_mutex_unlock(&service->lock);
	list_add_last(&service->sessions[loop_index(s->loop)], &s->link);
	atomic_fetch_add(&service->count, 1);
	conn_set_owner(s->conn, on_event, s);
	conn_set_input_limit(s->conn, INPUT_LIMIT);
	conn_printf(s->conn, "%.*s OK [CAPABILITY ", SLICE_ARG(start->tag));
	imap_write_capabilities(s, conn_output(s->conn));
	conn_write_str(s->conn, "] Logged in\r\n");
	imap_log(s, "begins");
	imap_enter(s, IMAP_READY);
	start_watch(s);
	imap_input(s);
}
