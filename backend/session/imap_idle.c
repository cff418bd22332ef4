/* IDLE (RFC 2177): the continuation, changes as they come, DONE. */
#include "backend/session/imap_notify.h"

#define LINE_MOST 100

static void idle_enter(struct imap_session *s)
{
	if (s->bye_text) {
		imap_close(s, s->bye_text);
		return;
	}
	imap_enter(s, IMAP_IDLING);
	if (s->notify && s->notify->set ? imap_notify_has_work(s)
					: (s->is_stale && s->view.mailbox) || imap_notify_is_due(s))
		imap_idle_changed(s);
	else
		imap_input(s);
}

static void idle_told(struct imap_session *s, int err)
{
	(void)err; /* told with the next change, then */
	imap_when_sent(s, idle_enter);
}

static void idle_synced(struct imap_session *s, int err)
{
	if (err == ERR_NOT_FOUND)
		s->bye_text = "The selected mailbox was deleted";
	if (err >= 0 && imap_notify_is_due(s))
		imap_notify_start(s, idle_told);
	else
		imap_when_sent(s, idle_enter);
}

void imap_idle_changed(struct imap_session *s)
{
	bool is_stale = s->is_stale;

	/* RFC 5465 section 4: what the client said by NOTIFY, no more and no less. */
	if (s->notify && s->notify->set) {
		if (imap_notify_has_work(s))
			imap_notify_round(s, idle_enter);
		return;
	}

	s->is_stale = false;
	if (is_stale && s->view.mailbox)
		imap_sync_start(s, true, idle_synced);
	else if (imap_notify_is_due(s))
		imap_notify_start(s, idle_told);
}

bool imap_idle_input(struct imap_session *s)
{
	struct slice line;
	ssize_t n = imap_parse_line(conn_input(s->conn), LINE_MOST, &line);

	if (n == 0) {
		if (s->is_eof)
			imap_close(s, NULL);
		return false;
	}
	if (n < 0) {
		imap_close(s, "Expected DONE");
		return false;
	}
	if (slice_is_str_nocase(line, "DONE")) {
		conn_consume(s->conn, (size_t)n);
		imap_answer(s, "OK", NULL, "Idle ended");
	} else {
		conn_consume(s->conn, (size_t)n);
		imap_answer(s, "BAD", NULL, "Expected DONE");
	}
	return true;
}

void imap_cmd_idle(struct imap_session *s, const struct imap_command *command)
{
	if (command->count) {
		imap_bad(s, "IDLE has no arguments");
		return;
	}
	conn_write_str(s->conn, "+ idling\r\n");
	/* What changed before the first notice could come. */
	s->is_stale = s->view.mailbox != 0;
	idle_enter(s);
}
