/*
 * Commands of the TRANSACTION state (RFC 1939 section 5): one row and one function each. Long answers go out
 * in pieces: when more than the connection's high mark waits, the rest is made at CONN_DRAINED.
 */
#include <stdlib.h>

#include "backend/session/pop3_core.h"
#include "common/base/mem.h"
#include "common/proto/header.h"
#include "common/proto/pop3_lang.h"

#define NO_SUCH "-ERR There is no such message."

static bool is_deleted(const struct pop3_session *s, uint32_t i)
{
	return s->drop.deleted && s->drop.deleted[i];
}

/* The first argument as a message that is there: its index. */
static int message_index(const struct pop3_session *s, const struct pop3_command *c, uint32_t *i_out)
{
	uint32_t n;

	if (pop3_parse_number(c->args[0], &n) || n > s->drop.count || is_deleted(s, n - 1))
		return ERR_NOT_FOUND;
	*i_out = n - 1;
	return 0;
}

static void reply(struct pop3_session *s, const char *format, ...) PRINTF_LIKE(2, 3);
static void reply(struct pop3_session *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(conn_output(s->conn), format, args);
	va_end(args);
	buf_add_str(conn_output(s->conn), "\r\n");
	conn_written(s->conn);
}

static void cmd_stat(struct pop3_session *s, const struct pop3_command *c)
{
	(void)c;
	reply(s, "+OK %u %llu", s->drop.count - s->drop.deleted_count,
		(unsigned long long)(s->drop.bytes - s->drop.deleted_bytes));
}

void pop3_command_list_on(struct pop3_session *s)
{
	struct buf *out = conn_output(s->conn);

	if (s->job)
		return;
	if (s->is_uidl && s->at < s->end) {
		if (conn_is_congested(s->conn))
			conn_want_drained(s->conn);
		else
			pop3_store_uidls(s);
		return;
	}
	while (s->at < s->end && pop3_size(s, s->at) && buf_len(out) < CONN_HIGH_MARK) {
		if (!is_deleted(s, s->at)) {
			buf_add_u64(out, s->at + 1);
			buf_add_char(out, ' ');
			buf_add_u64(out, *pop3_size(s, s->at));
			buf_add_str(out, "\r\n");
		}
		s->at++;
	}
	if (s->at == s->end)
		buf_add_str(out, s->is_single ? "" : ".\r\n");
	conn_written(s->conn);
	if (s->at == s->end) {
		pop3_resume(s);
	} else if (conn_is_congested(s->conn) || pop3_size(s, s->at)) {
		conn_want_drained(s->conn);
	} else {
		s->go_on = NULL;
		pop3_store_sizes(s, s->at);
	}
}

/* Calls fn with the message at once, or when its size has come. */
static void with_size(struct pop3_session *s, uint32_t i, void (*fn)(struct pop3_session *s, uint32_t i))
{
	if (pop3_size(s, i)) {
		fn(s, i);
		return;
	}
	s->go_on = fn;
	pop3_enter(s, POP3_LISTING);
	pop3_store_sizes(s, i);
}

void pop3_sizes_came(struct pop3_session *s, int err)
{
	if (err && !s->go_on) { /* amid a list: only the end of the connection can say so */
		pop3_end(s, "the list of sizes cannot be read");
		return;
	}
	if (!s->go_on) {
		pop3_enter(s, POP3_LISTING); /* a new deadline: it goes on */
		pop3_command_list_on(s);
		return;
	}
	if (err)
		pop3_say(s, "-ERR [SYS/TEMP] The message cannot be read now.");
	else
		s->go_on(s, s->wanted);
	pop3_resume(s);
}

void pop3_uidls_came(struct pop3_session *s, int err)
{
	uint32_t end = s->end - s->at > POP3_UIDLS_MAX ? s->at + POP3_UIDLS_MAX : s->end;

	if (err && s->is_single) {
		pop3_say(s, "-ERR [SYS/TEMP] The message cannot be read now.");
		s->at = s->end;
		pop3_resume(s);
		return;
	}
	if (err) { /* amid a list: only the end of the connection can say so */
		pop3_end(s, "the list of unique ids cannot be read");
		return;
	}
	conn_write_take(s->conn, &s->job_text);
	s->at = end;
	pop3_command_list_on(s);
}

static void say_size(struct pop3_session *s, uint32_t i)
{
	reply(s, "+OK %u %u", i + 1, *pop3_size(s, i));
}

static void list(struct pop3_session *s, const struct pop3_command *c, bool is_uidl)
{
	uint32_t i = 0;

	s->is_uidl = is_uidl;
	s->is_single = c->count == 1;
	s->at = 0;
	s->end = s->drop.count;
	if (c->count && message_index(s, c, &i)) {
		pop3_say(s, NO_SUCH);
		return;
	}
	if (s->is_single && !is_uidl) {
		with_size(s, i, say_size);
		return;
	}
	if (s->is_single) {
		s->at = i;
		s->end = i + 1;
	} else {
		reply(s, "+OK %u messages", s->drop.count - s->drop.deleted_count);
	}
	pop3_enter(s, POP3_LISTING);
	pop3_command_list_on(s);
}

static void cmd_list(struct pop3_session *s, const struct pop3_command *c)
{
	list(s, c, false);
}

static void cmd_uidl(struct pop3_session *s, const struct pop3_command *c)
{
	list(s, c, true);
}

/* ---- RETR and TOP ---- */

static void begin_sending(struct pop3_session *s, uint32_t i, bool is_top, uint32_t lines)
{
	s->sending = i;
	s->offset = 0;
	s->is_answered = false;
	s->is_top = is_top;
	s->is_in_header = true;
	s->is_after_cr = false;
	s->line_len = 0;
	s->lines_left = lines;
	pop3_parse_stuff_init(&s->stuff);
	pop3_enter(s, POP3_SENDING);
	pop3_store_piece(s);
}

void pop3_command_send_by_pieces(struct pop3_session *s, uint32_t i)
{
	begin_sending(s, i, false, 0);
}

static void cmd_retr(struct pop3_session *s, const struct pop3_command *c)
{
	uint32_t i;

	if (message_index(s, c, &i))
		pop3_say(s, NO_SUCH);
	else if (!pop3_ahead_retr(s, i))
		begin_sending(s, i, false, 0);
}

static void cmd_top(struct pop3_session *s, const struct pop3_command *c)
{
	uint32_t i, lines = 0;

	if (message_index(s, c, &i))
		pop3_say(s, NO_SUCH);
	else if (!slice_is_str(c->args[1], "0") && pop3_parse_number(c->args[1], &lines))
		pop3_say(s, "-ERR TOP takes a message and a number of lines.");
	else
		begin_sending(s, i, true, lines);
}

/* How many bytes of the piece belong to TOP's answer; *is_end_out: it ends there. */
static size_t top_length(struct pop3_session *s, struct slice piece, bool *is_end_out)
{
	*is_end_out = false;
	for (size_t i = 0; i < piece.len; i++) {
		char c = piece.p[i];

		if (c != '\n') {
			s->line_len += s->line_len < 2;
			s->is_after_cr = c == '\r';
			continue;
		}
		if (!s->is_in_header)
			s->lines_left--;
		else if (s->line_len == 0 || (s->line_len == 1 && s->is_after_cr))
			s->is_in_header = false;
		s->line_len = 0;
		s->is_after_cr = false;
		if (!s->is_in_header && s->lines_left == 0) {
			*is_end_out = true;
			return i + 1;
		}
	}
	return piece.len;
}

void pop3_command_send_on(struct pop3_session *s)
{
	if (s->job || pop3_ahead_is_awaited(s))
		return;
	if (conn_is_congested(s->conn))
		conn_want_drained(s->conn);
	else
		pop3_store_piece(s);
}

static void end_sending(struct pop3_session *s)
{
	free(s->job_piece);
	s->job_piece = NULL;
	s->retrieved += s->is_answered && !s->is_top;
	s->retrieved_bytes += s->offset;
	pop3_resume(s);
}

void pop3_piece_came(struct pop3_session *s, int err)
{
	struct slice piece = slice_of(s->job_piece, s->job_piece_len);
	bool is_end = s->job_is_last, is_top_end = false;

	if (err && s->is_answered) { /* amid a message: only the end of the connection can say so */
		pop3_end(s, "a message cannot be read on");
		return;
	}
	if (err) {
		pop3_say(s, "-ERR [SYS/TEMP] The message cannot be read now.");
		end_sending(s);
		return;
	}
	/* RFC 6856 sections 2.1 and 5. A header beyond the first piece is judged by its beginning. */
	if (!s->is_answered && s->limits.is_strict_utf8 && !s->is_utf8 &&
		!slice_is_ascii(slice_sub(piece, 0, header_length(piece)))) {
		pop3_say(s, "-ERR [UTF8] The message wants UTF8 before the login.");
		end_sending(s);
		return;
	}
	if (!s->is_answered && s->is_top)
		pop3_say(s, "+OK");
	else if (!s->is_answered)
		reply(s, "+OK %llu octets", (unsigned long long)s->job_message_size);
	s->is_answered = true;
	s->offset += piece.len;
	if (s->is_top) {
		piece.len = top_length(s, piece, &is_top_end);
		is_end = is_end || is_top_end;
	}
	pop3_parse_stuff_add(&s->stuff, conn_output(s->conn), piece);
	if (is_end)
		pop3_parse_stuff_end(&s->stuff, conn_output(s->conn));
	conn_written(s->conn);
	pop3_enter(s, POP3_SENDING); /* a new deadline: it goes on */
	if (is_end)
		end_sending(s);
	else
		pop3_command_send_on(s);
}

/* ---- deletions and the rest ---- */

static void mark_deleted(struct pop3_session *s, uint32_t i)
{
	if (!s->drop.deleted)
		s->drop.deleted = xcalloc(s->drop.count, 1);
	s->drop.deleted[i] = 1;
	s->drop.deleted_count++;
	s->drop.deleted_bytes += *pop3_size(s, i);
	pop3_say(s, "+OK");
}

static void cmd_dele(struct pop3_session *s, const struct pop3_command *c)
{
	uint32_t i;

	if (message_index(s, c, &i))
		pop3_say(s, NO_SUCH);
	else
		with_size(s, i, mark_deleted);
}

static void cmd_rset(struct pop3_session *s, const struct pop3_command *c)
{
	(void)c;
	free(s->drop.deleted);
	s->drop.deleted = NULL;
	s->drop.deleted_count = 0;
	s->drop.deleted_bytes = 0;
	pop3_say(s, "+OK");
}

static void cmd_noop(struct pop3_session *s, const struct pop3_command *c)
{
	(void)c;
	pop3_say(s, "+OK");
}

/* RFC 2449 section 6 */
static void cmd_capa(struct pop3_session *s, const struct pop3_command *c)
{
	(void)c;
	pop3_say(s,
		"+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n" POP3_LANG_CAPABILITIES
		"EXPIRE NEVER\r\nIMPLEMENTATION Mailtier\r\n.");
}

static void cmd_lang(struct pop3_session *s, const struct pop3_command *c)
{
	pop3_lang_answer(conn_output(s->conn), c);
	conn_written(s->conn);
}

static void cmd_quit(struct pop3_session *s, const struct pop3_command *c)
{
	(void)c;
	if (s->drop.deleted_count == 0) {
		pop3_say(s, "+OK Bye.");
		pop3_end(s, "quit");
		return;
	}
	pop3_enter(s, POP3_UPDATING);
	pop3_store_update(s);
}

/* RFC 1939 section 6: an error leaves the messages, and the session ends all the same. */
void pop3_updated(struct pop3_session *s, int err)
{
	bool is_done = err == 0 || err == ERR_NOT_FOUND;

	pop3_count_update(s, is_done);
	if (s->state == POP3_ENDED)
		return;
	pop3_say(s,
		is_done ? "+OK Bye." : "-ERR [SYS/TEMP] The deletions could not be stored; nothing is lost.");
	pop3_end(s, is_done ? "quit" : "the deletions could not be stored");
}

static const struct {
	const char *name;
	unsigned least, most; /* arguments */
	void (*fn)(struct pop3_session *s, const struct pop3_command *c);
} commands[] = {
	{"STAT", 0, 0, cmd_stat},
	{"LIST", 0, 1, cmd_list},
	{"RETR", 1, 1, cmd_retr},
	{"DELE", 1, 1, cmd_dele},
	{"NOOP", 0, 0, cmd_noop},
	{"RSET", 0, 0, cmd_rset},
	{"QUIT", 0, 0, cmd_quit},
	{"TOP", 2, 2, cmd_top},
	{"UIDL", 0, 1, cmd_uidl},
	{"CAPA", 0, 0, cmd_capa},
	{"LANG", 0, 1, cmd_lang},
};

void pop3_command_do(struct pop3_session *s, const struct pop3_command *c)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(c->name, commands[i].name) != 0)
			continue;
		if (c->count >= commands[i].least && c->count <= commands[i].most) {
			s->bad_commands = 0;
			commands[i].fn(s, c);
			return;
		}
		break;
	}
	pop3_say(s, "-ERR No such command here.");
	if (++s->bad_commands >= s->limits.bad_commands)
		pop3_end(s, "too many wrong commands");
}
