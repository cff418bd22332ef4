/*
 * The service with its sessions by loop, and the life of one session. The maildrop is read before the login
 * is answered, so that +OK means that it can be used.
 */
#include "backend/session/pop3.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/session/pop3_core.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"

struct pop3_service {
	struct store_work *work;
	struct pop3_locks *locks;
	pthread_mutex_t mutex; /* limits */
	struct pop3_limits limits;
	_Atomic unsigned count;
	unsigned loops;
	struct list *sessions; /* one for each loop */
	struct metric *open, *retrieved, *retrieved_bytes, *deleted;
};

static const char *const state_names[POP3_STATES] = {
	[POP3_OPENING] = "opening",
	[POP3_COMMAND] = "idle",
	[POP3_LISTING] = "listing",
	[POP3_SENDING] = "sending",
	[POP3_UPDATING] = "updating",
	[POP3_ENDED] = "ended",
};

struct pop3_service *pop3_service_new(
	struct store_work *work, unsigned loops, const struct pop3_limits *limits)
{
	struct pop3_service *service = xcalloc(1, sizeof(*service));

	service->work = work;
	service->locks = pop3_locks_new();
	pthread_mutex_init(&service->mutex, NULL);
	service->limits = *limits;
	service->loops = loops;
	service->sessions = xcalloc(loops, sizeof(*service->sessions));
	for (unsigned i = 0; i < loops; i++)
		list_init(&service->sessions[i]);
	service->open = metrics_gauge("mailtier_pop3_sessions", NULL, "POP3 sessions after login");
	service->retrieved = metrics_counter("mailtier_pop3_retrieved", NULL, "Messages retrieved whole");
	service->retrieved_bytes =
		metrics_counter("mailtier_pop3_retrieved_bytes", NULL, "Bytes of messages sent");
	service->deleted = metrics_counter("mailtier_pop3_deleted", NULL, "Messages deleted at QUIT");
	return service;
}

void pop3_service_free(struct pop3_service **service)
{
	if (!*service)
		return;
	pop3_locks_free(&(*service)->locks);
	pthread_mutex_destroy(&(*service)->mutex);
	free((*service)->sessions);
	free(*service);
	*service = NULL;
}

void pop3_service_set_limits(struct pop3_service *service, const struct pop3_limits *limits)
{
	pthread_mutex_lock(&service->mutex);
	service->limits = *limits;
	pthread_mutex_unlock(&service->mutex);
}

static struct pop3_limits limits_now(struct pop3_service *service)
{
	struct pop3_limits limits;

	pthread_mutex_lock(&service->mutex);
	limits = service->limits;
	pthread_mutex_unlock(&service->mutex);
	return limits;
}

int pop3_lock_take(
	struct pop3_service *service, const struct store_account *account, struct pop3_lock **lock_out)
{
	return pop3_locks_take(service->locks, account, limits_now(service).is_exclusive, lock_out);
}

unsigned pop3_service_count(const struct pop3_service *service)
{
	return atomic_load(&((struct pop3_service *)(void *)(uintptr_t)service)->count);
}

/* ---- the end ---- */

static void free_drop(struct pop3_maildrop *d)
{
	imap_uids_deinit(&d->uids);
	free(d->sizes.list);
	free(d->deleted);
	store_work_view_end(&d->view);
}

void pop3_unref(struct pop3_session *s)
{
	if (--s->refs)
		return;
	pop3_lock_release(&s->lock);
	free_drop(&s->drop);
	free_drop(&s->job_drop);
	free(s->job_piece);
	free(s->job_uids);
	free(s->job_sizes.list);
	free(s->bye);
	pop3_ahead_free(s);
	buf_deinit(&s->job_text);
	atomic_fetch_sub(&s->service->count, 1);
	loop_free_later(s->loop, s);
}

void pop3_end(struct pop3_session *s, const char *why)
{
	if (s->state == POP3_ENDED)
		return;
	log_info("pop3", "%s end: %s user=%s client=%s retrieved=%llu bytes=%llu deleted=%u", s->session, why,
		s->account.address, s->client, (unsigned long long)s->retrieved,
		(unsigned long long)s->retrieved_bytes, s->job_uid_count);
	metric_add(s->service->open, -1);
	metric_add(s->service->retrieved, (int64_t)s->retrieved);
	metric_add(s->service->retrieved_bytes, (int64_t)s->retrieved_bytes);
	if (s->state != POP3_UPDATING)
		store_work_cancel(&s->job);
	pop3_ahead_cancel(s);
	if (!s->job) /* before the client sees the end: it may come again at once */
		pop3_lock_release(&s->lock);
	pop3_enter(s, POP3_ENDED);
	list_remove(&s->link);
	conn_close(&s->conn);
	pop3_unref(s);
}

void pop3_count_update(struct pop3_session *s, bool is_done)
{
	if (is_done)
		metric_add(s->service->deleted, s->job_uid_count);
	else
		log_error("pop3", "%s deletions of %s were not stored", s->session, s->account.address);
}

/* ---- states ---- */

static void on_deadline(void *arg)
{
	struct pop3_session *s = arg;

	if (s->state == POP3_COMMAND && !s->is_silent && s->limits.idle_ms > POP3_AHEAD_MS) {
		s->is_silent = true;
		pop3_ahead_forget(s);
		timer_set(&s->timer, s->loop, s->limits.idle_ms - POP3_AHEAD_MS);
		return;
	}
	/* No word: the client is not listening, or between commands expects none (RFC 1939 section 3: without
	 * update). */
	pop3_end(s, s->state == POP3_COMMAND ? "idle" : "timeout");
}

void pop3_enter(struct pop3_session *s, enum pop3_state state)
{
	static const uint8_t allowed[POP3_STATES] = {
		/* to, from */
		[POP3_OPENING] = 1 << POP3_OPENING,
		[POP3_COMMAND] =
			1 << POP3_OPENING | 1 << POP3_COMMAND | 1 << POP3_LISTING | 1 << POP3_SENDING,
		[POP3_LISTING] = 1 << POP3_COMMAND | 1 << POP3_LISTING,
		[POP3_SENDING] = 1 << POP3_COMMAND | 1 << POP3_SENDING,
		[POP3_UPDATING] = 1 << POP3_COMMAND,
		[POP3_ENDED] = 0xff,
	};

	require(allowed[state] & 1 << s->state);
	s->state = state;
	s->is_silent = false;
	if (state == POP3_ENDED)
		timer_stop(&s->timer);
	else if (state == POP3_COMMAND)
		timer_set(&s->timer, s->loop,
			s->limits.idle_ms > POP3_AHEAD_MS ? POP3_AHEAD_MS : s->limits.idle_ms);
	else
		timer_set(&s->timer, s->loop, s->limits.transfer_ms);
}

void pop3_say(struct pop3_session *s, const char *line)
{
	conn_write_str(s->conn, line);
	conn_write(s->conn, SLICE_LIT("\r\n"));
}

struct store_work *pop3_store_work(const struct pop3_session *s)
{
	return s->service->work;
}

/* ---- commands ---- */

/* Takes one line; false: no whole line is there, or the session ended. */
static bool take_command(struct pop3_session *s)
{
	struct pop3_command command = {0};
	char line[POP3_LINE_MOST];
	struct slice input = slice_sub(conn_input(s->conn), 0, sizeof(line));
	size_t used = 0;
	ssize_t n;

	/* A copy, because the connection's view does not outlive a write. */
	if (input.len)
		memcpy(line, input.p, input.len);
	n = pop3_parse_command(slice_of(line, input.len), sizeof(line), &command, &used);
	if (n == 0)
		return false;
	if (n == ERR_TOO_BIG) {
		pop3_say(s, "-ERR Line too long.");
		pop3_end(s, "a line was too long");
		return false;
	}
	conn_consume(s->conn, n > 0 ? (size_t)n : used);
	pop3_enter(s, POP3_COMMAND);
	pop3_command_do(s, &command);
	return s->state != POP3_ENDED;
}

/* All that a command line without a name can be is wrong, so controls in a line need no case of their own. */
static void pump(struct pop3_session *s)
{
	if (s->is_pumping)
		return;
	s->is_pumping = true;
	while (s->state == POP3_COMMAND && !s->bye && !conn_is_congested(s->conn) && take_command(s))
		;
	s->is_pumping = false;
	if (s->state != POP3_COMMAND)
		return;
	if (s->bye) {
		conn_printf(s->conn, "-ERR [SYS/TEMP] %s\r\n", s->bye);
		pop3_end(s, "told to end");
	} else if (conn_is_congested(s->conn)) {
		conn_want_drained(s->conn);
	} else if (s->is_eof) {
		pop3_end(s, "the client has gone");
	}
}

void pop3_resume(struct pop3_session *s)
{
	pop3_enter(s, POP3_COMMAND);
	pump(s);
}

static void on_drained(struct pop3_session *s)
{
	switch (s->state) {
	case POP3_COMMAND:
		pump(s);
		return;
	case POP3_LISTING:
		pop3_enter(s, POP3_LISTING);
		pop3_command_list_on(s);
		return;
	case POP3_SENDING:
		pop3_enter(s, POP3_SENDING);
		pop3_command_send_on(s);
		return;
	case POP3_OPENING:
	case POP3_UPDATING:
	case POP3_ENDED:
		return;
	}
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct pop3_session *s = owner;

	(void)conn;
	switch (event) {
	case CONN_DATA:
		pump(s);
		return;
	case CONN_DRAINED:
		on_drained(s);
		return;
	case CONN_EOF:
		s->is_eof = true;
		pump(s);
		return;
	case CONN_FAILED:
		pop3_end(s, "the connection broke");
		return;
	case CONN_OPENED:
	case CONN_SECURED:
		return;
	}
}

/* ---- the beginning ---- */

void pop3_opened(struct pop3_session *s, int err)
{
	if (err) {
		pop3_say(s, err == ERR_NOT_FOUND ? "-ERR [SYS/PERM] There is no mailbox for this user here."
						 : "-ERR [SYS/TEMP] The mailbox cannot be read now.");
		pop3_end(s, error_text(err));
		return;
	}
	conn_printf(s->conn, "+OK %u messages (%llu octets)\r\n", s->drop.count,
		(unsigned long long)s->drop.bytes);
	pop3_resume(s);
}

static void copy_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
}

static _Thread_local uint64_t numbers;

void pop3_session_start(const struct pop3_session_start *start)
{
	struct pop3_session *s = xcalloc(1, sizeof(*s));
	char text[ADDR_TEXT_MAX];

	s->service = start->service;
	s->conn = start->conn;
	s->loop = conn_loop(start->conn);
	s->refs = 1;
	s->lock = start->lock;
	s->limits = limits_now(start->service);
	s->account = *start->account;
	s->is_eof = start->is_ended;
	s->is_utf8 = start->is_utf8;
	s->since_ms = clock_wall_ms();
	s->number = ++numbers;
	copy_text(s->session, sizeof(s->session), start->session);
	copy_text(s->client, sizeof(s->client),
		start->client && start->client->len ? addr_host(start->client, text) : "");
	timer_init(&s->timer, on_deadline, s);
	list_init(&s->link);
	require(loop_index(s->loop) < s->service->loops);
	list_add_last(&s->service->sessions[loop_index(s->loop)], &s->link);
	atomic_fetch_add(&s->service->count, 1);
	metric_add(s->service->open, 1);
	log_info("pop3", "%s begin: user=%s client=%s", s->session, s->account.address, s->client);
	conn_set_owner(s->conn, on_event, s);
	pop3_enter(s, POP3_OPENING);
	pop3_store_open(s);
}

/* ---- for the operator ---- */

/* Ends it now, or after the command in progress. */
static void bye(struct pop3_session *s, const char *text)
{
	if (!s->bye)
		s->bye = xstrdup(text);
	if (s->state == POP3_COMMAND)
		pump(s);
}

void pop3_service_each(struct pop3_service *service, struct loop *loop,
	bool (*fn)(void *arg, const struct mailbox_session_info *info), void *arg, const char *bye_text)
{
	list_for_each_safe (at, &service->sessions[loop_index(loop)]) {
		struct pop3_session *s = container_of(at, struct pop3_session, link);
		const struct mailbox_session_info info = {
			.number = s->number,
			.session = s->session,
			.user = s->account.address,
			.slot = s->account.slot,
			.account = s->account.id,
			.client = s->client,
			.state = state_names[s->state],
			.since_ms = s->since_ms,
		};

		if (fn(arg, &info))
			bye(s, bye_text);
	}
}

static bool every(void *arg, const struct mailbox_session_info *info)
{
	(void)arg;
	(void)info;
	return true;
}

void pop3_service_bye(struct pop3_service *service, struct loop *loop, const char *text)
{
	pop3_service_each(service, loop, every, NULL, text);
}
