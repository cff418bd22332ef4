/*
 * Commands before and between transactions. A command is a row: verb, where it is legal, its function. What
 * changes the transaction waits in the input until all answers to RCPT are there (smtp_front_take_command()
 * gives 0).
 */
#include <stdlib.h>

#include "common/base/log.h"
#include "common/front/dialogue.h"
#include "common/front/smtp_judge.h"
#include "common/front/smtp_session.h"
#include "common/proto/smtp_reply.h"

enum {
	IN_ESMTP = 1,
	IN_LMTP = 2,
	ANYWHERE = 3,
	COUNTED = 4, /* does nothing for a transaction: too many of them are abuse */
	LAST = 8 /* of its group (RFC 2920 section 3.1): who goes on before the answer talks to somebody else */
};

static void say_words(struct smtp_front *f)
{
	const struct smtp_service *s = f->service;
	struct buf *out = conn_output(f->conn);
	const struct slice none = SLICE_LIT("");
	bool is_trusted = smtp_front_is_trusted(f);
	const char *offered[SASL_MECHANISM_COUNT + 1];

	smtp_reply_write_more(out, 250, none, slice_str(*s->host ? s->host : "localhost"));
	buf_add_str(out, "250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n");
	if (s->tls && !conn_is_secure(f->conn))
		buf_add_str(out, "250-STARTTLS\r\n");
	if (smtp_front_offered(f, offered)) {
		buf_add_str(out, "250-AUTH");
		for (const char *const *m = offered; *m; m++)
			buf_printf(out, " %s", *m);
		buf_add_str(out, "\r\n");
	}
	if (s->offers_dsn)
		buf_add_str(out, "250-DSN\r\n");
	if (s->offers_requiretls && conn_is_secure(f->conn))
		buf_add_str(out, "250-REQUIRETLS\r\n");
	if (is_trusted) {
		buf_add_str(out, "250-XCLIENT " SMTP_XCLIENT_NAMES "\r\n");
		if (s->is_lmtp || s->takes_marks)
			buf_add_str(out, "250-XMARK\r\n");
	} else if (s->counts_hops) {
		buf_add_str(out, "250-XCLIENT TTL\r\n");
	}
	if (s->limits.message_size)
		buf_printf(out, "250-SIZE %llu\r\n", (unsigned long long)s->limits.message_size);
	else
		buf_add_str(out, "250-SIZE\r\n");
	/* RFC 9422 */
	buf_printf(out, "250-LIMITS RCPTMAX=%u\r\n250 ENHANCEDSTATUSCODES\r\n", s->limits.recipients);
	conn_written(f->conn);
}

static bool take_greeting(struct smtp_front *f, struct slice rest)
{
	if (!smtp_parse_is_greeting(rest)) {
		SMTP_WRONG(f, 501, "5.5.4", "Tell your host name");
		return false;
	}
	smtp_front_end_transaction(f, SMTP_RESET_ORDER);
	smtp_front_set_text(&f->helo, rest);
	return true;
}

void smtp_front_judged_helo(struct smtp_front *f, const struct smtp_judged *judged)
{
	smtp_front_enter(f, SMTP_COMMAND);
	if (judged->refusal) {
		smtp_front_set_text(&f->helo, SLICE_LIT(""));
		smtp_front_wrong(f, judged->refusal);
	} else if (f->is_extended) {
		say_words(f);
	} else {
		smtp_front_say(f, &(struct smtp_answer){250, SLICE_LIT(""),
					  slice_str(*f->service->host ? f->service->host : "localhost")});
	}
}

static void greeted(struct smtp_front *f)
{
	if (smtp_judge_is_wanted(f, SMTP_PHASE_HELO))
		smtp_judge_helo(f);
	else
		smtp_front_judged_helo(f, &(struct smtp_judged){.phase = SMTP_PHASE_HELO});
}

static void do_helo(struct smtp_front *f, struct slice rest)
{
	if (!take_greeting(f, rest))
		return;
	f->is_extended = false;
	greeted(f);
}

static void do_ehlo(struct smtp_front *f, struct slice rest)
{
	if (!take_greeting(f, rest))
		return;
	f->is_extended = true;
	greeted(f);
}

static void do_rset(struct smtp_front *f, struct slice rest)
{
	(void)rest;
	smtp_front_end_transaction(f, SMTP_RESET_ORDER);
	SMTP_SAY(f, 250, "2.0.0", "Ok");
}

static void do_noop(struct smtp_front *f, struct slice rest)
{
	(void)rest;
	SMTP_SAY(f, 250, "2.0.0", "Ok");
}

/* ---- VRFY ---- */

void smtp_front_answer_verify(struct smtp_front *f, enum smtp_verify what)
{
	static const struct smtp_answer answers[] = {
		[SMTP_VERIFY_NONE] = {550, {"5.1.1", 5}, {"No such user here", 17}},
		[SMTP_VERIFY_ELSEWHERE] = {252, {"2.5.0", 5}, {"Send some mail, and it will be seen", 35}},
		[SMTP_VERIFY_NOT_NOW] = {451, {"4.3.0", 5}, {"Cannot say now, try again later", 31}}};
	char *whom = f->verified;
	struct buf text = {0};

	f->verified = NULL;
	if (!whom || f->state != SMTP_CHECK) {
		free(whom);
		return;
	}
	smtp_front_enter(f, SMTP_COMMAND);
	buf_printf(&text, "<%s>", whom);
	free(whom);
	/* RFC 5321 section 3.5.1. Who guesses names is disconnected as one who guesses recipients. */
	if (what == SMTP_VERIFY_HERE)
		smtp_front_say(f, &(struct smtp_answer){250, SLICE_LIT("2.1.5"), buf_view(&text)});
	else if (what == SMTP_VERIFY_ELSEWHERE)
		smtp_front_say(f, &answers[what]);
	else
		smtp_front_wrong(f, &answers[what]);
	buf_deinit(&text);
	smtp_front_pump(f);
}

/* With or without the brackets of a path. */
static void do_vrfy(struct smtp_front *f, struct slice rest)
{
	const struct smtp_service *s = f->service;
	struct slice whom = slice_trim(rest);
	struct smtp_rcpt rcpt;
	struct buf text = {0};

	if (!s->verifies || !s->ops->verify) {
		SMTP_SAY(f, 252, "2.5.0", "Send some mail, and it will be seen");
		return;
	}
	buf_printf(&text, slice_has_prefix(whom, "<") ? "TO:%.*s" : "TO:<%.*s>", SLICE_ARG(whom));
	if (smtp_parse_rcpt(&f->arena, buf_view(&text), 0, &rcpt) || !rcpt.path.domain.len) {
		SMTP_WRONG(f, 501, "5.1.3", "Tell an address with its domain");
	} else {
		free(f->verified);
		f->verified = slice_copy_str(rcpt.path.address);
		smtp_front_enter(f, SMTP_CHECK);
		s->ops->verify(f, &rcpt.path);
	}
	buf_deinit(&text);
}

static void do_expn(struct smtp_front *f, struct slice rest)
{
	(void)rest;
	SMTP_WRONG(f, 502, "5.5.1", "Not here");
}

static void do_help(struct smtp_front *f, struct slice rest)
{
	(void)rest;
	SMTP_SAY(f, 214, "2.0.0", "See RFC 5321");
}

static void do_quit(struct smtp_front *f, struct slice rest)
{
	(void)rest;
	smtp_front_end_transaction(f, SMTP_RESET_ORDER);
	SMTP_SAY(f, 221, "2.0.0", "Bye");
	smtp_front_end(f, NULL);
}

static void do_starttls(struct smtp_front *f, struct slice rest)
{
	if (!f->service->tls || conn_is_tls(f->conn)) {
		SMTP_WRONG(f, 503, "5.5.1", "No STARTTLS here");
		return;
	}
	if (rest.len) {
		SMTP_WRONG(f, 501, "5.5.4", "STARTTLS stands alone");
		return;
	}
	if (f->user) {
		SMTP_WRONG(f, 503, "5.5.1", "Too late");
		return;
	}
	/* CVE-2011-0411: what came in the same flight would be taken for protected. */
	if (conn_input(f->conn).len) {
		SMTP_SAY(f, 554, "5.5.1", "You talk before your turn");
		smtp_front_end(f, "input behind STARTTLS");
		return;
	}
	smtp_front_end_transaction(f, SMTP_RESET_ORDER);
	SMTP_SAY(f, 220, "2.0.0", "Go ahead");
	if (conn_start_tls_server(f->conn, f->service->tls)) {
		smtp_front_end(f, "STARTTLS failed");
		return;
	}
	smtp_front_enter(f, SMTP_SECURING);
}

/* ---- XCLIENT ---- */

static bool is_session_id(struct slice s)
{
	if (!s.len || s.len > FRONT_SESSION_MOST)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] <= ' ' || s.p[i] >= 127 || strchr("()<>\\\";:,", s.p[i]))
			return false;
	}
	return true;
}

static bool is_protocol(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!((s.p[i] >= 'A' && s.p[i] <= 'Z') || (s.p[i] >= 'a' && s.p[i] <= 'z') ||
			    (s.p[i] >= '0' && s.p[i] <= '9')))
			return false;
	}
	return s.len <= 16;
}

/* ERR_SYNTAX: something in it would do harm in a header or log line. Nothing is changed then. */
static int believe(struct smtp_front *f, const struct smtp_xclient *x)
{
	struct addr client = f->client;

	if (x->addr.len && addr_parse(x->addr, x->port, &client))
		return ERR_SYNTAX;
	if ((x->helo.len && !smtp_parse_is_greeting(x->helo)) ||
		(x->session.len && !is_session_id(x->session)) || !is_protocol(x->proto) ||
		x->login.len > FRONT_NAME_MOST)
		return ERR_SYNTAX;
	f->client = client;
	if (x->session.len) {
		memcpy(f->session, x->session.p, x->session.len);
		f->session[x->session.len] = 0;
	}
	smtp_front_set_text(&f->told_helo, x->helo);
	smtp_front_set_text(&f->told_protocol, x->proto);
	smtp_front_set_text(&f->told_user, x->login);
	return 0;
}

static bool is_ttl_alone(const struct smtp_xclient *x)
{
	return x->ttl && !x->port && !x->destport &&
	       !(x->addr.len | x->helo.len | x->login.len | x->proto.len | x->name.len | x->session.len |
		       x->destaddr.len);
}

/* From anybody: TTL and nothing else. */
static bool take_ttl(struct smtp_front *f, struct slice rest)
{
	struct smtp_xclient x;

	if (!f->service->counts_hops || (f->is_mail && !f->is_over) ||
		smtp_parse_xclient(&f->arena, rest, &x) || !is_ttl_alone(&x))
		return false;
	if (x.ttl < f->ttl)
		f->ttl = x.ttl;
	smtp_front_say(f, &(struct smtp_answer){220, SLICE_LIT(""),
				  slice_str(*f->service->host ? f->service->host : "localhost")});
	return true;
}

static void do_xclient(struct smtp_front *f, struct slice rest)
{
	struct smtp_xclient x;

	if (take_ttl(f, rest))
		return;
	if (f->user || !smtp_front_is_trusted(f)) {
		log_warn(f->service->name, "%s: XCLIENT refused: no trusted proxy", f->session);
		SMTP_WRONG(f, 550, "5.7.1", "Not for you");
		return;
	}
	if (f->is_mail && !f->is_over) {
		SMTP_WRONG(f, 503, "5.5.1", "Not within a transaction");
		return;
	}
	smtp_front_end_transaction(f, SMTP_RESET_ORDER);
	if (smtp_parse_xclient(&f->arena, rest, &x) || believe(f, &x)) {
		SMTP_WRONG(f, 501, "5.5.4", "Bad XCLIENT");
		return;
	}
	milter_watch_free(&f->milters); /* another client: filters are told anew */
	/* The greeting again, as Postfix has it; the peer may say EHLO anew and need not. */
	smtp_front_say(f, &(struct smtp_answer){220, SLICE_LIT(""),
				  slice_str(*f->service->host ? f->service->host : "localhost")});
}

/* What a proxy of ours says of a message whose content it has seen: instead of what MAIL said. */
static void do_xmark(struct smtp_front *f, struct slice rest)
{
	struct smtp_mark mark;
	struct slice hold;

	if (!f->service->ops->mark || !smtp_front_is_trusted(f)) {
		SMTP_WRONG(f, 550, "5.7.1", "Not for you");
	} else if (!f->is_mail || f->is_over || f->is_bdat || !f->mark.is_set) {
		SMTP_WRONG(f, 503, "5.5.1", "Not now");
	} else if (smtp_parse_xmark(&f->arena, rest, &mark, &hold)) {
		SMTP_WRONG(f, 501, "5.5.4", "Cannot read that");
	} else {
		f->mark = mark;
		f->service->ops->mark(f, &mark, hold);
		SMTP_SAY(f, 250, "2.0.0", "Ok");
	}
}

/* ---- the table ---- */

static void do_auth(struct smtp_front *f, struct slice rest)
{
	smtp_front_auth(f, rest);
}

static void do_mail(struct smtp_front *f, struct slice rest)
{
	smtp_front_mail(f, rest);
}

static void do_rcpt(struct smtp_front *f, struct slice rest)
{
	smtp_front_rcpt(f, rest);
}

static void do_data(struct smtp_front *f, struct slice rest)
{
	if (rest.len)
		SMTP_WRONG(f, 501, "5.5.4", "DATA stands alone");
	else
		smtp_front_data(f);
}

static void do_bdat(struct smtp_front *f, struct slice rest)
{
	smtp_front_bdat(f, rest);
}

static const struct {
	unsigned flags;
	void (*run)(struct smtp_front *f, struct slice rest);
} commands[SMTP_VERBS] = {
	[SMTP_HELO] = {IN_ESMTP | LAST, do_helo},
	[SMTP_EHLO] = {IN_ESMTP | LAST, do_ehlo},
	[SMTP_LHLO] = {IN_LMTP, do_ehlo},
	[SMTP_MAIL] = {ANYWHERE, do_mail},
	[SMTP_RCPT] = {ANYWHERE, do_rcpt},
	[SMTP_DATA] = {ANYWHERE, do_data},
	[SMTP_BDAT] = {ANYWHERE, do_bdat},
	[SMTP_RSET] = {ANYWHERE | COUNTED, do_rset},
	[SMTP_NOOP] = {ANYWHERE | COUNTED, do_noop},
	[SMTP_VRFY] = {ANYWHERE | COUNTED | LAST, do_vrfy},
	[SMTP_EXPN] = {ANYWHERE | COUNTED | LAST, do_expn},
	[SMTP_HELP] = {ANYWHERE | COUNTED, do_help},
	[SMTP_QUIT] = {ANYWHERE, do_quit},
	[SMTP_STARTTLS] = {ANYWHERE, do_starttls},
	[SMTP_AUTH] = {IN_ESMTP | LAST, do_auth},
	[SMTP_XCLIENT] = {ANYWHERE, do_xclient},
	[SMTP_XMARK] = {ANYWHERE, do_xmark},
	[SMTP_UNKNOWN] = {0, NULL},
};

static void on_unknown(void *arg, enum milter_outcome outcome, const struct smtp_answer *answer)
{
	struct smtp_front *f = arg;
	bool was_waiting = f->state == SMTP_CHECK;

	if (was_waiting)
		smtp_front_enter(f, SMTP_COMMAND);
	smtp_front_wrong(
		f, outcome == MILTER_REFUSED ? answer : SMTP_ANSWER(500, "5.5.1", "Unknown command"));
	if (was_waiting && f->state != SMTP_ENDED)
		smtp_front_pump(f);
	else
		f->is_unknown_told = true;
}

/* Filters are told of it, and may have an answer of their own. */
static void do_unknown(struct smtp_front *f, struct slice line)
{
	f->is_unknown_told = false;
	milter_watch_unknown(f, line, on_unknown, f);
	if (!f->is_unknown_told && f->state != SMTP_ENDED)
		smtp_front_enter(f, SMTP_CHECK);
}

static void run(struct smtp_front *f, const struct smtp_command *c)
{
	unsigned flags = commands[c->verb].flags;

	if (c->verb == SMTP_UNKNOWN && milter_watch_is_wanted(f)) {
		do_unknown(f, c->rest);
		return;
	}
	if (!(flags & (f->service->is_lmtp ? IN_LMTP : IN_ESMTP))) {
		SMTP_WRONG(f, 500, "5.5.1", "Unknown command");
		return;
	}
	/* Proxies of ours end each transaction by RSET: they are not counted. */
	if ((flags & COUNTED) && !f->service->is_lmtp &&
		++f->idle_commands > f->service->limits.idle_commands) {
		SMTP_SAY(f, 421, "4.7.0", "Too many commands without mail");
		smtp_front_end(f, "too many idle commands");
		return;
	}
	commands[c->verb].run(f, c->rest);
}

/* More is there already, and may not be. */
static bool is_early(struct smtp_front *f, const struct smtp_command *c)
{
	if (!f->service->is_strict || f->service->is_lmtp || !conn_input(f->conn).len ||
		smtp_front_is_trusted(f))
		return false;
	return commands[c->verb].flags & LAST || (f->helo && !f->is_extended);
}

static void refuse_early(struct smtp_front *f)
{
	metric_add(f->service->counters->early, 1);
	SMTP_SAY(f, 554, "5.5.0", "You talk before your turn");
	smtp_front_end(f, "more came behind a command that must be the last of its group");
}

static size_t line_limit(struct slice in)
{
	return slice_has_prefix_nocase(slice_sub(in, 0, 5), "AUTH ") ? SMTP_AUTH_LINE_MOST : SMTP_LINE_MOST;
}

ssize_t smtp_front_take_command(struct smtp_front *f)
{
	struct slice in = conn_input(f->conn);
	struct smtp_command c;
	struct buf line = {0};
	size_t consumed = 0;
	ssize_t n = smtp_parse_command(in, line_limit(in), &c, &consumed);

	if (f->state == SMTP_RCPT_WAIT &&
		(n != 0 && (n < 0 || c.verb != SMTP_RCPT || f->pending >= SMTP_PENDING_MOST)))
		return 0;
	if (n == ERR_SYNTAX) {
		conn_consume(f->conn, consumed);
		SMTP_WRONG(f, 500, "5.5.2", "A line ends with CRLF and holds no controls");
		return (ssize_t)consumed;
	}
	if (n <= 0)
		return n;
	if (!f->service->is_lmtp && dialogue_is_http(in)) {
		smtp_front_end(f, "client speaks HTTP");
		return n;
	}
	/* The function may write and consume: give it a line of its own, and wipe what may hold a password.
	 */
	buf_add_slice(&line, c.verb == SMTP_UNKNOWN ? slice_trim(slice_sub(in, 0, (size_t)n)) : c.rest);
	if (c.verb == SMTP_AUTH)
		secret_wipe((void *)(uintptr_t)in.p, (size_t)n);
	conn_consume(f->conn, (size_t)n);
	c.rest = buf_view(&line);
	c.word = SLICE_LIT("");
	if (is_early(f, &c))
		refuse_early(f);
	else
		run(f, &c);
	if (c.verb == SMTP_AUTH && line.data)
		secret_wipe(line.data, line.cap);
	buf_deinit(&line);
	return n;
}
