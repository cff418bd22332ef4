/*
 * One state: nothing is sent before the negotiation is over, so the first question, milter_connect(), waits in `facts` for it. A question
 * that the filter does not want (NO_...) or does not answer (SILENT_...) is answered at once.
 *
 * A message is a walk: fields, end of header, pieces of the body, end. Each step that the filter answers waits; the others follow in
 * the same turn while the connection takes them.
 */
#include "common/front/milter.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/dial.h"
#include "common/net/timer.h"

#define INPUT_MOST (MILTER_PACKET_MOST + 4)

enum state {
	STATE_NEW,
	STATE_DIALS,
	STATE_NEGOTIATES,
	STATE_IDLE,
	STATE_ASKED,  /* an answer to `question` is awaited */
	STATE_WRITES, /* the connection takes no more of the message now */
	STATE_BROKEN
};

enum question {
	QUESTION_CONNECT,
	QUESTION_HELO,
	QUESTION_MAIL,
	QUESTION_RCPT,
	QUESTION_DATA,
	QUESTION_UNKNOWN,
	QUESTION_FIELD,
	QUESTION_EOH,
	QUESTION_BODY,
	QUESTION_END
};

/* What the negotiation says of each, and the stage of its macros (-1: none). */
static const struct row {
	uint32_t unwanted, silent;
	int stage;
} rows[] = {
	[QUESTION_CONNECT] = {MILTER_NO_CONNECT, MILTER_SILENT_CONNECT, MILTER_STAGE_CONNECT},
	[QUESTION_HELO] = {MILTER_NO_HELO, MILTER_SILENT_HELO, MILTER_STAGE_HELO},
	[QUESTION_MAIL] = {MILTER_NO_MAIL, MILTER_SILENT_MAIL, MILTER_STAGE_MAIL},
	[QUESTION_RCPT] = {MILTER_NO_RCPT, MILTER_SILENT_RCPT, MILTER_STAGE_RCPT},
	[QUESTION_DATA] = {MILTER_NO_DATA, MILTER_SILENT_DATA, MILTER_STAGE_DATA},
	[QUESTION_UNKNOWN] = {MILTER_NO_UNKNOWN, MILTER_SILENT_UNKNOWN, -1},
	[QUESTION_FIELD] = {MILTER_NO_HEADERS, MILTER_SILENT_HEADERS, -1},
	[QUESTION_EOH] = {MILTER_NO_EOH, MILTER_SILENT_EOH, MILTER_STAGE_EOH},
	[QUESTION_BODY] = {MILTER_NO_BODY, MILTER_SILENT_BODY, -1},
	[QUESTION_END] = {0, 0, MILTER_STAGE_END},
};

struct milter {
	const struct milter_settings *settings;
	struct loop *loop;
	struct conn *conn;
	struct timer timer;
	enum state state;
	enum question question;
	uint32_t version, actions, protocol;
	char *macros[MILTER_STAGES]; /* names that the filter wants; NULL: it did not say */
	bool is_session_done;        /* it has accepted the whole session: it is asked nothing more */
	bool is_message_done;        /* it has decided on this message */
	bool is_message;             /* MAIL was sent, and neither an abort nor a last word has come since */
	bool is_eoh;                 /* the end of the header was told */
	const struct milter_facts
		*facts; /* of the question: the caller's, and not ours once it is answered */
	char session[FRONT_SESSION_MOST + 1]; /* of the latest question, for the log */
	const struct milter_message *message;
	size_t field;
	uint64_t offset; /* of the body */
	milter_fn *fn;
	void *arg;
};

static void walk(struct milter *m);

/* ---- answers ---- */

static void answer(struct milter *m, enum milter_outcome outcome, const struct smtp_answer *text)
{
	milter_fn *fn = m->fn;
	void *arg = m->arg;

	timer_stop(&m->timer);
	m->facts = NULL;
	m->fn = NULL;
	m->message = NULL;
	if (fn)
		fn(arg, outcome, text);
}

static void begin_question(struct milter *m, const struct milter_facts *facts, milter_fn *fn, void *arg)
{
	snprintf(m->session, sizeof(m->session), "%.*s", SLICE_ARG(facts->session));
	m->facts = facts;
	m->fn = fn;
	m->arg = arg;
}

static void go_on(struct milter *m)
{
	answer(m, MILTER_GO_ON, NULL);
}

static void answer_broken(struct milter *m)
{
	switch (m->settings->failure) {
	case MILTER_FAILURE_ACCEPT:
		go_on(m);
		break;
	case MILTER_FAILURE_TEMPFAIL:
		answer(m, MILTER_REFUSED,
			SMTP_ANSWER(451, "4.7.1", "A filter does not answer; try again later"));
		break;
	case MILTER_FAILURE_REJECT:
		answer(m, MILTER_REFUSED, SMTP_ANSWER(554, "5.7.1", "A filter does not answer"));
		break;
	}
}

static void fail(struct milter *m, const char *why)
{
	if (m->state == STATE_BROKEN)
		return;
	log_warn("milter", "%s: %s milter=%s", *m->session ? m->session : "-", why, m->settings->name);
	if (m->settings->answers[1])
		metric_add(m->settings->answers[1], 1);
	m->state = STATE_BROKEN;
	timer_stop(&m->timer);
	if (m->conn)
		conn_abort(&m->conn);
	if (m->message)
		m->message->edit(m->message->arg, NULL);
	if (m->fn)
		answer_broken(m);
}

static void too_late(void *arg)
{
	struct milter *m = arg;

	fail(m, m->state == STATE_DIALS || m->state == STATE_NEGOTIATES ? "no agreement in time"
									: "no answer in time");
}

/* ---- what the filter says ---- */

static void negotiated(struct milter *m, const struct milter_reply *r)
{
	if (r->version < MILTER_VERSION_LEAST || (r->actions & ~MILTER_ACTIONS) ||
		(r->protocol & ~MILTER_PROTOCOL)) {
		fail(m, "it wants what we cannot do");
		return;
	}
	m->version = r->version < MILTER_VERSION ? r->version : MILTER_VERSION;
	m->actions = r->actions;
	m->protocol = r->protocol;
	for (size_t i = 0; i < MILTER_STAGES; i++)
		if (r->macros[i].p)
			m->macros[i] = slice_copy_str(r->macros[i]);
}

/* The last word on a question. */
static void decided(struct milter *m, const struct milter_reply *r)
{
	static const struct smtp_answer reject = {550, SLICE_LIT("5.7.1"), SLICE_LIT("Refused by a filter")};
	static const struct smtp_answer later = {
		451, SLICE_LIT("4.7.1"), SLICE_LIT("Not now, says a filter; try again later")};
	static const struct smtp_answer shutdown = {
		421, SLICE_LIT("4.7.0"), SLICE_LIT("Not now, says a filter")};
	struct smtp_answer own = {r->code, r->enhanced, r->text};
	const struct smtp_answer *refusal = r->kind == MILTER_REPLY_REJECT     ? &reject
					    : r->kind == MILTER_REPLY_TEMPFAIL ? &later
					    : r->kind == MILTER_REPLY_SHUTDOWN ? &shutdown
					    : r->kind == MILTER_REPLY_CODE     ? &own
									       : NULL;

	if (m->settings->answers[0])
		metric_add(m->settings->answers[0], 1);
	m->state = STATE_IDLE;
	if (m->question == QUESTION_END)
		m->is_message = false;
	if (refusal) {
		answer(m, MILTER_REFUSED, refusal);
	} else if (r->kind == MILTER_REPLY_DISCARD) {
		m->is_message_done = true;
		answer(m, MILTER_DISCARD, NULL);
	} else {
		if (r->kind == MILTER_REPLY_ACCEPT && m->question <= QUESTION_HELO)
			m->is_session_done = true;
		else if (r->kind == MILTER_REPLY_ACCEPT)
			m->is_message_done = true;
		go_on(m);
	}
}

/* An edit at the end of a message: was it agreed on? */
static bool may_edit(const struct milter *m, enum milter_reply_kind kind)
{
	static const struct {
		enum milter_reply_kind kind;
		uint32_t actions;
	} edits[] = {
		{MILTER_REPLY_ADD_HEADER, MILTER_ADD_HEADERS},
		{MILTER_REPLY_INSERT_HEADER, MILTER_ADD_HEADERS | MILTER_CHANGE_HEADERS},
		{MILTER_REPLY_CHANGE_HEADER, MILTER_CHANGE_HEADERS},
		{MILTER_REPLY_BODY, MILTER_CHANGE_BODY},
		{MILTER_REPLY_ADD_RECIPIENT, MILTER_ADD_RECIPIENT | MILTER_ADD_RECIPIENT_PARAMS},
		{MILTER_REPLY_DELETE_RECIPIENT, MILTER_DELETE_RECIPIENT},
		{MILTER_REPLY_CHANGE_FROM, MILTER_CHANGE_FROM},
		{MILTER_REPLY_QUARANTINE, MILTER_QUARANTINE},
	};

	for (size_t i = 0; i < ARRAY_LEN(edits); i++)
		if (edits[i].kind == kind)
			return m->question == QUESTION_END && (m->actions & edits[i].actions);
	return false;
}

static void take_answer(struct milter *m, const struct milter_reply *r)
{
	switch (r->kind) {
	case MILTER_REPLY_NEGOTIATION:
		fail(m, "it negotiates twice");
		return;
	case MILTER_REPLY_FAIL:
		fail(m, "it gives up");
		return;
	case MILTER_REPLY_PROGRESS:
		timer_set(&m->timer, m->loop,
			m->question == QUESTION_END ? m->settings->end_ms : m->settings->command_ms);
		return;
	case MILTER_REPLY_CONTINUE:
	case MILTER_REPLY_SKIP:
		if (r->kind == MILTER_REPLY_SKIP && m->question == QUESTION_BODY)
			m->offset = UINT64_MAX;
		if (m->question == QUESTION_FIELD || m->question == QUESTION_EOH ||
			m->question == QUESTION_BODY) {
			m->state = STATE_WRITES;
			walk(m);
			return;
		}
		decided(m, r);
		return;
	case MILTER_REPLY_ADD_HEADER:
	case MILTER_REPLY_INSERT_HEADER:
	case MILTER_REPLY_CHANGE_HEADER:
	case MILTER_REPLY_BODY:
	case MILTER_REPLY_ADD_RECIPIENT:
	case MILTER_REPLY_DELETE_RECIPIENT:
	case MILTER_REPLY_CHANGE_FROM:
	case MILTER_REPLY_QUARANTINE:
		if (may_edit(m, r->kind))
			m->message->edit(m->message->arg, r);
		else
			fail(m, "it edits what was not agreed on");
		return;
	case MILTER_REPLY_ACCEPT:
	case MILTER_REPLY_REJECT:
	case MILTER_REPLY_TEMPFAIL:
	case MILTER_REPLY_DISCARD:
	case MILTER_REPLY_CODE:
	case MILTER_REPLY_SHUTDOWN:
		decided(m, r);
		return;
	}
}

/* ---- questions ---- */

static void add_macro(
	struct milter *m, struct milter_macros *macros, int stage, const char *name, struct slice value)
{
	if (!m->macros[stage] || milter_macros_has(slice_str(m->macros[stage]), name))
		milter_macros_add(macros, name, value);
}

/* path: of MAIL and RCPT; empty otherwise. */
static void write_macros(struct milter *m, enum question question, struct slice path)
{
	const struct milter_facts *f = m->facts;
	struct slice kind = slice_str("mailtier"),
		     domain = slice_from(path, (size_t)(slice_find_last(path, '@') + 1));
	const struct {
		unsigned questions; /* bits */
		const char *name;
		struct slice value;
	} table[] = {
		{1U << QUESTION_CONNECT, "j", f->host},
		{1U << QUESTION_CONNECT, "v", kind},
		{1U << QUESTION_CONNECT, "daemon_name", f->service},
		{1U << QUESTION_HELO, "tls_version", f->tls_version},
		{1U << QUESTION_HELO, "cipher", f->tls_cipher},
		{1U << QUESTION_MAIL | 1U << QUESTION_RCPT | 1U << QUESTION_DATA | 1U << QUESTION_EOH |
				1U << QUESTION_END,
			"i", f->session},
		{1U << QUESTION_MAIL, "auth_type", f->mechanism},
		{1U << QUESTION_MAIL, "auth_authen", f->user},
		{1U << QUESTION_MAIL, "mail_addr", path},
		{1U << QUESTION_MAIL, "mail_host", domain},
		{1U << QUESTION_RCPT, "rcpt_addr", path},
		{1U << QUESTION_RCPT, "rcpt_host", domain},
	};
	struct milter_macros macros;
	int stage = rows[question].stage;

	if (stage < 0)
		return;
	milter_macros_begin(&macros, conn_output(m->conn), (enum milter_stage)stage);
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].questions & 1U << question)
			add_macro(m, &macros, stage, table[i].name, table[i].value);
	milter_macros_end(&macros);
}

/* Its packet is written: waits for the answer, if there will be one. */
static bool is_awaited(struct milter *m, enum question question)
{
	conn_written(m->conn);
	m->question = question;
	if (m->protocol & rows[question].silent)
		return false;
	m->state = STATE_ASKED;
	timer_set(
		&m->timer, m->loop, question == QUESTION_END ? m->settings->end_ms : m->settings->command_ms);
	return true;
}

/* The one before asking: false where the answer is known (it has been given). */
static bool can_ask(
	struct milter *m, enum question question, const struct milter_facts *facts, milter_fn *fn, void *arg)
{
	require(!m->fn);
	begin_question(m, facts, fn, arg);
	if (m->state == STATE_BROKEN) {
		answer_broken(m);
		return false;
	}
	require(m->state == STATE_IDLE);
	if (m->is_session_done || m->is_message_done || (m->protocol & rows[question].unwanted)) {
		go_on(m);
		return false;
	}
	return true;
}

static void asked(struct milter *m, enum question question)
{
	if (!is_awaited(m, question))
		go_on(m);
}

/* The negotiation is over. */
static void ask_connect(struct milter *m)
{
	const struct addr *client = m->facts->client;
	struct slice host = m->facts->ptr;
	char text[ADDR_TEXT_MAX], bracketed[ADDR_TEXT_MAX + 2];
	enum milter_family family = MILTER_FAMILY_UNKNOWN;

	m->state = STATE_IDLE;
	if (m->protocol & MILTER_NO_CONNECT) {
		go_on(m);
		return;
	}
	addr_host(client, text);
	if (addr_ip(client).len)
		family = strchr(text, ':') ? MILTER_FAMILY_INET6 : MILTER_FAMILY_INET;
	if (!host.len) {
		snprintf(bracketed, sizeof(bracketed), "[%s]", text);
		host = family == MILTER_FAMILY_UNKNOWN ? SLICE_LIT("localhost") : slice_str(bracketed);
	}
	write_macros(m, QUESTION_CONNECT, SLICE_LIT(""));
	milter_write_connect(conn_output(m->conn), host, family, addr_port(client), slice_str(text));
	asked(m, QUESTION_CONNECT);
}

static void negotiate(struct milter *m)
{
	m->state = STATE_NEGOTIATES;
	milter_write_negotiation(conn_output(m->conn), MILTER_VERSION, MILTER_ACTIONS, MILTER_PROTOCOL);
	conn_written(m->conn);
}

/* ---- a message ---- */

/* The connection takes no more now: walk() is called again when it does. */
static bool is_congested(struct milter *m)
{
	if (!conn_is_congested(m->conn))
		return false;
	timer_set(&m->timer, m->loop, m->settings->command_ms);
	conn_want_drained(m->conn);
	return true;
}

static bool walk_header(struct milter *m)
{
	const struct milter_message *message = m->message;
	struct slice name, value;

	while (!(m->protocol & MILTER_NO_HEADERS)) {
		if (is_congested(m))
			return false;
		if (!message->field(message->arg, m->field, &name, &value))
			break;
		m->field++;
		milter_write_header(conn_output(m->conn), name, value, m->protocol & MILTER_LEADING_SPACE);
		if (is_awaited(m, QUESTION_FIELD))
			return false;
	}
	if (m->is_eoh || (m->protocol & MILTER_NO_EOH))
		return true;
	m->is_eoh = true;
	write_macros(m, QUESTION_EOH, SLICE_LIT(""));
	milter_write_eoh(conn_output(m->conn));
	return !is_awaited(m, QUESTION_EOH);
}

static bool walk_body(struct milter *m)
{
	const struct milter_message *message = m->message;
	char piece[MILTER_BODY_MOST];

	while (!(m->protocol & MILTER_NO_BODY) && m->offset != UINT64_MAX) {
		ssize_t n;

		if (is_congested(m))
			return false;
		n = message->body(message->arg, m->offset, piece, sizeof(piece));
		if (n < 0) {
			fail(m, "the message cannot be read");
			return false;
		}
		if (n == 0)
			break;
		m->offset += (uint64_t)n;
		milter_write_body(conn_output(m->conn), slice_of(piece, (size_t)n));
		if (is_awaited(m, QUESTION_BODY))
			return false;
	}
	return true;
}

/* As much of it as the filter's answers and the connection allow. */
static void walk(struct milter *m)
{
	m->state = STATE_WRITES;
	if (!walk_header(m) || !walk_body(m))
		return;
	write_macros(m, QUESTION_END, SLICE_LIT(""));
	milter_write_end(conn_output(m->conn));
	(void)is_awaited(m, QUESTION_END);
}

/* ---- the connection ---- */

/* Takes the packets that are there. What is called may free the milter: its memory stays to the end of the turn. */
static void take_input(struct milter *m)
{
	struct buf packet = {0};
	struct slice in;
	struct milter_reply r;
	ssize_t n;

	while (m->conn && (in = conn_input(m->conn)).len && (n = milter_parse(in, &r)) != 0) {
		if (n < 0 || (m->state != STATE_NEGOTIATES && m->state != STATE_ASKED)) {
			fail(m, n < 0 ? "its answer makes no sense" : "it talks unasked");
			break;
		}
		buf_clear(&packet);
		buf_add_slice(&packet, slice_sub(in, 0, (size_t)n));
		conn_consume(m->conn, (size_t)n);
		if (milter_parse(buf_view(&packet), &r) < 0)
			break;
		if (m->state == STATE_ASKED) {
			take_answer(m, &r);
		} else if (r.kind != MILTER_REPLY_NEGOTIATION) {
			fail(m, "it does not negotiate");
		} else {
			negotiated(m, &r);
			if (m->state == STATE_NEGOTIATES)
				ask_connect(m);
		}
	}
	buf_deinit(&packet);
}

static void on_conn(void *owner, struct conn *conn, enum conn_event event)
{
	struct milter *m = owner;

	switch (event) {
	case CONN_OPENED:
		negotiate(m);
		break;
	case CONN_DATA:
		take_input(m);
		break;
	case CONN_DRAINED:
		if (m->state == STATE_WRITES)
			walk(m);
		break;
	case CONN_SECURED:
		break;
	case CONN_EOF:
		fail(m, "it ended the connection");
		break;
	case CONN_FAILED:
		fail(m, conn_error_detail(conn));
		break;
	}
}

/* ---- what the session asks ---- */

struct milter *milter_new(const struct milter_settings *settings, struct loop *loop)
{
	struct milter *m = xcalloc(1, sizeof(*m));

	m->settings = settings;
	m->loop = loop;
	timer_init(&m->timer, too_late, m);
	return m;
}

void milter_free(struct milter **milter)
{
	struct milter *m = *milter;

	*milter = NULL;
	if (!m)
		return;
	m->fn = NULL;
	timer_stop(&m->timer);
	if (m->conn && m->state == STATE_IDLE)
		milter_write_quit(conn_output(m->conn)), conn_written(m->conn), conn_close(&m->conn);
	else if (m->conn)
		conn_abort(&m->conn);
	m->state = STATE_BROKEN;
	for (size_t i = 0; i < MILTER_STAGES; i++)
		free(m->macros[i]);
	loop_free_later(m->loop, m);
}

void milter_connect(struct milter *m, const struct milter_facts *facts, milter_fn *fn, void *arg)
{
	struct dial_options options = {
		.host = m->settings->host, .port = m->settings->port, .timeout_ms = m->settings->connect_ms};

	require(m->state == STATE_NEW);
	begin_question(m, facts, fn, arg);
	m->state = STATE_DIALS;
	timer_set(&m->timer, m->loop, m->settings->connect_ms);
	if (dial(m->loop, &options, on_conn, m, &m->conn) != 0) {
		fail(m, "it cannot be dialled");
		return;
	}
	conn_set_input_limit(m->conn, INPUT_MOST);
}

void milter_helo(struct milter *m, const struct milter_facts *facts, milter_fn *fn, void *arg)
{
	if (!can_ask(m, QUESTION_HELO, facts, fn, arg))
		return;
	write_macros(m, QUESTION_HELO, SLICE_LIT(""));
	milter_write_helo(conn_output(m->conn), facts->helo);
	asked(m, QUESTION_HELO);
}

typedef void write_path_fn(struct buf *out, struct slice path, struct slice params);

static void ask_path(struct milter *m, enum question question, struct slice path, struct slice params,
	write_path_fn *write)
{
	struct buf bracketed = {0};

	buf_add_char(&bracketed, '<');
	buf_add_slice(&bracketed, path);
	buf_add_char(&bracketed, '>');
	write_macros(m, question, path);
	write(conn_output(m->conn), buf_view(&bracketed), params);
	buf_deinit(&bracketed);
	asked(m, question);
}

void milter_mail(struct milter *m, const struct milter_facts *facts, struct slice path, struct slice params,
	milter_fn *fn, void *arg)
{
	if (!can_ask(m, QUESTION_MAIL, facts, fn, arg))
		return;
	m->is_message = true;
	ask_path(m, QUESTION_MAIL, path, params, milter_write_mail);
}

void milter_rcpt(struct milter *m, const struct milter_facts *facts, struct slice path, struct slice params,
	milter_fn *fn, void *arg)
{
	if (!can_ask(m, QUESTION_RCPT, facts, fn, arg))
		return;
	m->is_message = true;
	ask_path(m, QUESTION_RCPT, path, params, milter_write_rcpt);
}

void milter_data(struct milter *m, const struct milter_facts *facts, milter_fn *fn, void *arg)
{
	if (!can_ask(m, QUESTION_DATA, facts, fn, arg))
		return;
	m->is_message = true;
	write_macros(m, QUESTION_DATA, SLICE_LIT(""));
	milter_write_data(conn_output(m->conn));
	asked(m, QUESTION_DATA);
}

void milter_unknown(
	struct milter *m, const struct milter_facts *facts, struct slice line, milter_fn *fn, void *arg)
{
	if (!can_ask(m, QUESTION_UNKNOWN, facts, fn, arg))
		return;
	milter_write_unknown(conn_output(m->conn), line);
	asked(m, QUESTION_UNKNOWN);
}

void milter_message(struct milter *m, const struct milter_facts *facts, const struct milter_message *message,
	milter_fn *fn, void *arg)
{
	if (!can_ask(m, QUESTION_END, facts, fn, arg))
		return;
	m->is_message = true;
	m->message = message;
	m->field = 0;
	m->is_eoh = false;
	m->offset = 0;
	walk(m);
}

void milter_abort(struct milter *m)
{
	bool is_open = m->state == STATE_ASKED || m->state == STATE_WRITES;

	m->facts = NULL;
	m->fn = NULL;
	m->message = NULL;
	m->is_message_done = false;
	if (m->state == STATE_DIALS || m->state == STATE_NEGOTIATES || is_open) {
		/* An answer is on its way: what it would belong to cannot be told any more. */
		timer_stop(&m->timer);
		conn_abort(&m->conn);
		m->state = STATE_BROKEN;
		return;
	}
	if (m->state == STATE_IDLE && m->is_message) {
		milter_write_abort(conn_output(m->conn));
		conn_written(m->conn);
	}
	m->is_message = false;
}
