/*
 * Commands stand in a queue: their octets in `todo`, an entry each in `expected`; those that were sent wait at the head for their
 * replies. Invariants: one state at a time (enter()), each wait has a deadline, nothing that was read before TLS counts afterwards
 * (RFC 3207 section 4.2).
 *
 * Logins: SCRAM-SHA-256 where it is offered, else PLAIN, else LOGIN; one that is refused is not tried another way.
 */
#include "backend/delivery/smtp_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/base64.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/crypto/scram_client.h"
#include "common/net/dial.h"
#include "common/net/timer.h"

#define INPUT_MOST (16 * 1024)
/* A body goes no slower than this, or the connection is given up. */
#define BODY_RATE_LEAST 256
#define NAME_MAX_LEN 255
#define HIGH_MARK (256 * 1024)
#define LOW_MARK (64 * 1024)

enum state {
	STATE_DIALS,
	STATE_GREETS,
	STATE_EHLO,
	STATE_HELO,
	STATE_STARTS_TLS,
	STATE_SECURES,
	STATE_AUTH,        /* PLAIN's one reply, or LOGIN's last */
	STATE_AUTH_USER,   /* LOGIN: asks for the name */
	STATE_AUTH_WORD,   /* LOGIN: asks for the password */
	STATE_AUTH_FIRST,  /* SCRAM: the server's first text */
	STATE_AUTH_PROVES, /* SCRAM: a worker computes */
	STATE_AUTH_FINAL,  /* SCRAM: the server's proof */
	STATE_WORKS,
	STATE_GONE
};

struct expected {
	unsigned tag;
	size_t len; /* octets in todo */
	bool is_sent, is_data, is_end;
};

struct smtp_client {
	struct loop *loop;
	struct conn *conn;
	struct timer timer;
	enum state state;
	enum smtp_client_fault fault;
	enum conn_tls_fault tls_fault;
	struct smtp_client_options options;
	char *host_name, *server_name;
	struct smtp_words words;
	char name[NAME_MAX_LEN + 1];
	struct buf todo;
	struct expected *expected;
	size_t head, count, room;
	uint64_t body_octets; /* of the one under way */
	bool is_in_body;
	struct proving *proving; /* SCRAM; NULL: not by it */
	smtp_client_fn *fn;
	void *owner;
};

/* One login by SCRAM. While the worker has it, it may outlive the client. */
struct proving {
	struct work work;
	struct smtp_client *client; /* NULL: gone */
	struct scram_client scram;
	struct secret password;
	bool is_at_work;
};

static void enter(struct smtp_client *c, enum state state, uint64_t deadline_ms)
{
	c->state = state;
	if (deadline_ms)
		timer_set(&c->timer, c->loop, deadline_ms);
	else
		timer_stop(&c->timer);
}

/* ---- the end ---- */

static void free_proving(struct proving *p)
{
	if (!p)
		return;
	scram_client_end(&p->scram);
	secret_deinit(&p->password);
	free(p);
}

static void leave_proving(struct smtp_client *c)
{
	if (c->proving && c->proving->is_at_work)
		c->proving->client = NULL;
	else
		free_proving(c->proving);
	c->proving = NULL;
}

static void free_client(void *arg)
{
	struct smtp_client *c = arg;

	secret_wipe(c->todo.data, c->todo.cap);
	buf_deinit(&c->todo);
	free(c->expected);
	free(c->host_name);
	free(c->server_name);
	tls_unref(&c->options.tls);
	free(c);
}

static void gone(struct smtp_client *c)
{
	enter(c, STATE_GONE, 0);
	leave_proving(c);
	conn_abort(&c->conn);
	c->fn = NULL;
	loop_defer(c->loop, free_client, c);
}

static void fail(struct smtp_client *c, enum smtp_client_fault fault, const struct smtp_client_reply *reply)
{
	smtp_client_fn *fn = c->fn;

	if (c->state == STATE_GONE)
		return;
	c->fault = fault;
	c->tls_fault = c->conn ? conn_tls_fault(c->conn) : CONN_TLS_FAILED;
	gone(c);
	fn(c->owner, c, SMTP_CLIENT_FAILED, 0, reply);
}

static void fail_text(
	struct smtp_client *c, enum smtp_client_fault fault, const char *enhanced, const char *text)
{
	struct smtp_client_reply reply = {0, enhanced, text};

	fail(c, fault, &reply);
}

void smtp_client_close(struct smtp_client **client)
{
	struct smtp_client *c = *client;

	*client = NULL;
	if (!c || c->state == STATE_GONE)
		return;
	if (c->state == STATE_WORKS && c->head == c->count && !c->is_in_body) {
		conn_write_str(c->conn, "QUIT\r\n");
		conn_close(&c->conn);
	}
	gone(c);
}

/* ---- the queue ---- */

static void set_deadline(struct smtp_client *c)
{
	const struct expected *e = &c->expected[c->head];

	if (c->is_in_body)
		return;
	if (c->head == c->count)
		timer_stop(&c->timer);
	else
		timer_set(&c->timer, c->loop, e->is_end ? c->options.times.end : c->options.times.command);
}

static bool may_send(const struct smtp_client *c, size_t i)
{
	return i == c->head || (c->words.pipelining && !c->expected[i - 1].is_data);
}

static void advance(struct smtp_client *c)
{
	size_t len = 0;

	for (size_t i = c->head; i < c->count; i++) {
		struct expected *e = &c->expected[i];

		if (e->is_sent)
			continue;
		if (!may_send(c, i))
			break;
		len += e->len;
		e->is_sent = true;
	}
	if (len == buf_len(&c->todo)) {
		conn_write_take(c->conn, &c->todo);
	} else if (len) {
		conn_write(c->conn, slice_sub(buf_view(&c->todo), 0, len));
		buf_take(&c->todo, len);
	}
	set_deadline(c);
}

static void expect(struct smtp_client *c, struct expected e)
{
	if (c->head == c->count)
		c->head = c->count = 0;
	if (c->count == c->room) {
		c->room = c->room ? c->room * 2 : 16;
		c->expected = xreallocarray(c->expected, c->room, sizeof(*c->expected));
	}
	c->expected[c->count++] = e;
}

void smtp_client_command(struct smtp_client *c, unsigned tag, struct slice line, bool is_end)
{
	buf_add_slice(&c->todo, line);
	expect(c, (struct expected){.tag = tag, .len = line.len, .is_end = is_end});
}

void smtp_client_data(struct smtp_client *c, unsigned tag)
{
	buf_add_str(&c->todo, "DATA\r\n");
	expect(c, (struct expected){.tag = tag, .len = 6, .is_data = true});
}

void smtp_client_flush(struct smtp_client *c)
{
	if (c->state == STATE_WORKS)
		advance(c);
}

bool smtp_client_is_congested(struct smtp_client *c)
{
	if (!conn_is_congested(c->conn) && buf_len(&c->todo) < HIGH_MARK)
		return false;
	conn_want_drained(c->conn);
	return true;
}

bool smtp_client_body(struct smtp_client *c, struct slice bytes)
{
	if (!c->is_in_body) {
		c->is_in_body = true;
		c->body_octets = 0;
	}
	/* Both a deadline for each piece and a least pace for all of them. */
	c->body_octets += bytes.len;
	timer_set(&c->timer, c->loop, c->options.times.data + bytes.len * 1000 / BODY_RATE_LEAST);
	conn_write(c->conn, bytes);
	return smtp_client_is_congested(c);
}

void smtp_client_body_end(struct smtp_client *c, unsigned tag)
{
	c->is_in_body = false;
	expect(c, (struct expected){.tag = tag, .is_end = true, .is_sent = true});
	timer_set(
		&c->timer, c->loop, c->options.times.end + conn_output_len(c->conn) * 1000 / BODY_RATE_LEAST);
}

/* ---- the beginning ---- */

static void say_hello(struct smtp_client *c, const char *verb, enum state state)
{
	conn_printf(c->conn, "%s %s\r\n", verb, c->host_name);
	enter(c, state, c->options.times.command);
}

static void ready(struct smtp_client *c)
{
	struct smtp_client_reply none = {0, "", ""};

	enter(c, STATE_WORKS, 0);
	c->fn(c->owner, c, SMTP_CLIENT_READY, 0, &none);
}

static void say_base64(struct smtp_client *c, const char *before, struct slice raw)
{
	struct buf line = {0};

	buf_add_str(&line, before);
	base64_encode(&line, raw);
	buf_add_str(&line, "\r\n");
	conn_write(c->conn, buf_view(&line));
	secret_wipe(line.data, line.cap);
	buf_deinit(&line);
}

/* ---- SCRAM (RFC 5802): the server does not hear the password, and shows that it knows it ---- */

static void begin_scram(struct smtp_client *c)
{
	struct proving *p = xcalloc(1, sizeof(*p));
	struct buf first = {0};

	c->proving = p;
	p->client = c;
	secret_set(&p->password, c->options.password);
	scram_client_begin(&p->scram, c->options.user, NULL, &first);
	say_base64(c, "AUTH SCRAM-SHA-256 ", buf_view(&first));
	buf_deinit(&first);
	enter(c, STATE_AUTH_FIRST, c->options.times.command);
}

static void prove(void *job)
{
	struct proving *p = job;

	scram_client_prove(&p->scram, secret_view(&p->password));
}

static void proved(void *job, int error)
{
	struct proving *p = job;
	struct smtp_client *c = p->client;
	struct buf final = {0};

	p->is_at_work = false;
	if (!c) {
		free_proving(p);
	} else if (error) {
		fail_text(c, SMTP_CLIENT_NO_AUTH, "4.3.2", "the server is being stopped");
	} else {
		scram_client_final(&p->scram, &final);
		say_base64(c, "", buf_view(&final));
		buf_deinit(&final);
		enter(c, STATE_AUTH_FINAL, c->options.times.command);
	}
}

/* The text of 334; ERR_SYNTAX: it is no base64. */
static int read_challenge(struct slice lines, struct buf *out)
{
	return base64_decode(out, slice_trim(slice_from(lines, 4)));
}

static void on_scram_first(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	struct proving *p = c->proving;
	struct buf text = {0};
	int err;

	if (r->code != 334) {
		fail(c, SMTP_CLIENT_NO_AUTH, r);
		return;
	}
	err = read_challenge(lines, &text);
	if (!err)
		err = scram_client_challenge(&p->scram, buf_view(&text));
	buf_deinit(&text);
	if (err) {
		fail_text(c, SMTP_CLIENT_NO_AUTH, "4.7.0", "the server's SCRAM-SHA-256 makes no sense");
		return;
	}
	p->work = (struct work){.run = prove, .done = proved, .job = p};
	enter(c, STATE_AUTH_PROVES, 0);
	p->is_at_work = work_submit(c->options.pool, c->loop, &p->work) == 0;
	if (!p->is_at_work)
		fail_text(c, SMTP_CLIENT_NO_AUTH, "4.3.2", "too many logins at a time");
}

static void on_scram_early(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	(void)lines;
	fail(c, SMTP_CLIENT_LOST, r);
}

/* RFC 4954 section 4: its proof comes with 334, which an empty line answers. 235 at once is no proof. */
static void on_scram_final(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	struct buf text = {0};
	bool is_proven;

	if (r->code != 334 && r->code / 100 != 2) {
		fail(c, SMTP_CLIENT_NO_AUTH, r);
		return;
	}
	is_proven = r->code == 334 && read_challenge(lines, &text) == 0 &&
		    scram_client_is_proven(&c->proving->scram, buf_view(&text));
	buf_deinit(&text);
	if (!is_proven) {
		fail_text(c, SMTP_CLIENT_NO_AUTH, "4.7.0", "the server does not know the password itself");
		return;
	}
	leave_proving(c);
	conn_write_str(c->conn, "\r\n");
	enter(c, STATE_AUTH, c->options.times.command);
}

static void log_in(struct smtp_client *c)
{
	const struct smtp_client_options *o = &c->options;

	if (c->words.auth & SMTP_REPLY_AUTH_SCRAM_SHA_256 && o->pool) {
		begin_scram(c);
	} else if (c->words.auth & SMTP_REPLY_AUTH_PLAIN) { /* RFC 4616 */
		struct buf raw = {0};

		buf_add_char(&raw, '\0');
		buf_add_slice(&raw, o->user);
		buf_add_char(&raw, '\0');
		buf_add_slice(&raw, o->password);
		say_base64(c, "AUTH PLAIN ", buf_view(&raw));
		secret_wipe(raw.data, raw.cap);
		buf_deinit(&raw);
		enter(c, STATE_AUTH, o->times.command);
	} else if (c->words.auth & SMTP_REPLY_AUTH_LOGIN) {
		conn_write_str(c->conn, "AUTH LOGIN\r\n");
		enter(c, STATE_AUTH_USER, o->times.command);
	} else {
		fail_text(c, SMTP_CLIENT_NO_AUTH, "4.7.0",
			"the server offers no AUTH that we know: SCRAM-SHA-256, PLAIN, LOGIN");
	}
}

static void on_greeting(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	(void)lines;
	if (r->code / 100 != 2)
		fail(c, SMTP_CLIENT_REFUSED, r);
	else
		say_hello(c, "EHLO", STATE_EHLO);
}

/* The first word of the EHLO reply (RFC 5321 section 4.1.1.1). */
static void keep_name(struct smtp_client *c, struct slice lines)
{
	struct slice name = slice_from(lines, 4);
	size_t n = 0;

	while (n < name.len && n < NAME_MAX_LEN && name.p[n] > 32 && name.p[n] < 127)
		n++;
	memcpy(c->name, name.p, n);
	c->name[n] = '\0';
}

static void begin_tls(struct smtp_client *c)
{
	conn_write_str(c->conn, "STARTTLS\r\n");
	enter(c, STATE_STARTS_TLS, c->options.times.command);
}

static void on_ehlo(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	const struct smtp_client_options *o = &c->options;
	bool is_tls = conn_is_tls(c->conn);
	bool must = o->tls_mode >= SMTP_CLIENT_TLS_MUST;

	if (r->code / 100 == 5 && r->code != 521 && r->code != 554 && !(must && !is_tls) && !o->user.len) {
		say_hello(c, "HELO", STATE_HELO);
		return;
	}
	if (r->code / 100 != 2) {
		fail(c, SMTP_CLIENT_REFUSED, r);
		return;
	}
	smtp_reply_words(lines, &c->words);
	keep_name(c, lines);
	if (!is_tls && c->words.starttls && o->tls_mode != SMTP_CLIENT_TLS_NONE)
		begin_tls(c);
	else if (!is_tls && must)
		fail_text(c, SMTP_CLIENT_NO_TLS, "4.7.4",
			"the server does not offer STARTTLS, which is required");
	else if (o->user.len)
		log_in(c);
	else
		ready(c);
}

static void on_helo(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	if (r->code / 100 != 2) {
		fail(c, SMTP_CLIENT_REFUSED, r);
		return;
	}
	c->words = (struct smtp_words){0};
	keep_name(c, lines);
	ready(c);
}

static void on_starttls(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	const struct smtp_client_options *o = &c->options;
	int err;

	(void)lines;
	if (r->code != 220) {
		fail(c, SMTP_CLIENT_BAD_TLS, r);
		return;
	}
	/* What stands behind the reply was not said under TLS: nobody knows by whom (RFC 3207 section 6). */
	if (conn_input(c->conn).len) {
		fail_text(
			c, SMTP_CLIENT_INJECTED, "4.7.0", "the server talks in clear after agreeing to TLS");
		return;
	}
	enter(c, STATE_SECURES, o->times.connect);
	err = o->dane ? conn_start_tls_dane(c->conn, o->tls, o->dane)
		      : conn_start_tls_client(c->conn, o->tls, c->server_name);
	if (err)
		fail_text(c, SMTP_CLIENT_BAD_TLS, "4.7.5", "TLS cannot be started");
}

static void on_auth(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	(void)lines;
	if (r->code / 100 == 2) {
		ready(c);
	} else if (r->code == 334 && c->state == STATE_AUTH_USER) {
		say_base64(c, "", c->options.user);
		enter(c, STATE_AUTH_WORD, c->options.times.command);
	} else if (r->code == 334 && c->state == STATE_AUTH_WORD) {
		say_base64(c, "", c->options.password);
		enter(c, STATE_AUTH, c->options.times.command);
	} else {
		fail(c, SMTP_CLIENT_NO_AUTH, r);
	}
}

/* ---- replies ---- */

static void on_reply(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines)
{
	struct expected e;

	(void)lines;
	if (c->head == c->count || !c->expected[c->head].is_sent) {
		/* Unasked: the server ends the session. During a body the deadline waits for the reader's pieces, and the reply is
		 * that of the end. */
		fail(c, SMTP_CLIENT_LOST, r);
		return;
	}
	e = c->expected[c->head++];
	if (r->code == 421) { /* RFC 5321 section 3.8: may come in the place of any reply */
		fail(c, SMTP_CLIENT_LOST, r);
		return;
	}
	/* RFC 2920 section 3.1: DATA is the last of a group. What stands behind its reply is no answer to a message that has not been sent. */
	if (e.is_data && r->code == 354 && conn_input(c->conn).len) {
		fail_text(c, SMTP_CLIENT_LOST, "4.5.0", "the server answers what it has not got");
		return;
	}
	if (e.is_data && r->code == 354)
		timer_set(&c->timer, c->loop, c->options.times.data);
	else
		advance(c);
	c->fn(c->owner, c, SMTP_CLIENT_REPLY, e.tag, r);
}

typedef void reply_fn(struct smtp_client *c, const struct smtp_client_reply *r, struct slice lines);
static reply_fn *const on_replies[] = {[STATE_GREETS] = on_greeting,
	[STATE_EHLO] = on_ehlo,
	[STATE_HELO] = on_helo,
	[STATE_STARTS_TLS] = on_starttls,
	[STATE_AUTH] = on_auth,
	[STATE_AUTH_USER] = on_auth,
	[STATE_AUTH_WORD] = on_auth,
	[STATE_AUTH_FIRST] = on_scram_first,
	[STATE_AUTH_PROVES] = on_scram_early,
	[STATE_AUTH_FINAL] = on_scram_final,
	[STATE_WORKS] = on_reply,
	[STATE_GONE] = NULL};

static void read_one(struct smtp_client *c, const struct smtp_reply *reply, size_t len)
{
	char enhanced[16] = "", text[SMTP_CLIENT_TEXT_MAX];
	struct smtp_client_reply r = {reply->code, enhanced, text};
	bool needs_lines = c->state == STATE_EHLO || c->state == STATE_HELO || c->state == STATE_AUTH_FIRST ||
			   c->state == STATE_AUTH_FINAL;
	struct buf lines = {0};

	if (reply->enhanced.len < sizeof(enhanced)) {
		memcpy(enhanced, reply->enhanced.p, reply->enhanced.len);
		enhanced[reply->enhanced.len] = '\0';
	}
	smtp_reply_text(reply->lines, text, sizeof(text));
	if (needs_lines)
		buf_add_slice(&lines, reply->lines);
	conn_consume(c->conn, len);
	on_replies[c->state](c, &r, buf_view(&lines));
	buf_deinit(&lines);
}

static void read_replies(struct smtp_client *c)
{
	while (c->state != STATE_GONE && c->state != STATE_SECURES && c->state != STATE_DIALS) {
		struct slice in = conn_input(c->conn);
		struct smtp_reply reply;
		ssize_t n = in.len ? smtp_reply_parse(in, &reply) : 0;

		if (n == 0)
			return;
		if (n < 0)
			fail_text(c, SMTP_CLIENT_LOST, "4.4.2",
				n == ERR_TOO_BIG ? "the server's reply is too long"
						 : "the server's reply makes no sense");
		else
			read_one(c, &reply, (size_t)n);
	}
}

static void opened(struct smtp_client *c)
{
	enter(c, STATE_GREETS, c->options.times.greeting);
}

static void broke(struct smtp_client *c, const char *text)
{
	enum smtp_client_fault fault = SMTP_CLIENT_LOST;

	if (c->state == STATE_DIALS)
		fault = c->options.tls_mode == SMTP_CLIENT_TLS_IMPLICIT && conn_error(c->conn) == ERR_TLS
				? SMTP_CLIENT_BAD_TLS
				: SMTP_CLIENT_UNREACHED;
	else if (c->state == STATE_STARTS_TLS || c->state == STATE_SECURES)
		fault = SMTP_CLIENT_BAD_TLS; /* offered, and not to be had */
	fail_text(c, fault,
		fault == SMTP_CLIENT_UNREACHED ? "4.4.1"
		: fault == SMTP_CLIENT_BAD_TLS ? "4.7.5"
					       : "4.4.2",
		text);
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct smtp_client *c = owner;
	struct smtp_client_reply none = {0, "", ""};

	switch (event) {
	case CONN_OPENED:
		opened(c);
		break;
	case CONN_SECURED:
		/* Nothing that was offered in clear counts (RFC 3207 section 4.2). */
		c->words = (struct smtp_words){0};
		say_hello(c, "EHLO", STATE_EHLO);
		break;
	case CONN_DATA:
		read_replies(c);
		break;
	case CONN_DRAINED:
		c->fn(c->owner, c, SMTP_CLIENT_DRAINED, 0, &none);
		break;
	case CONN_EOF:
		broke(c, "the server closed the connection");
		break;
	case CONN_FAILED:
		broke(c, conn_error_detail(conn));
		break;
	}
}

static void on_time(void *arg)
{
	static const char *const waits[] = {[STATE_DIALS] = "connecting took too long",
		[STATE_GREETS] = "no greeting in time",
		[STATE_EHLO] = "no reply to EHLO in time",
		[STATE_HELO] = "no reply to HELO in time",
		[STATE_STARTS_TLS] = "no reply to STARTTLS in time",
		[STATE_SECURES] = "the TLS handshake took too long",
		[STATE_AUTH] = "no reply to AUTH in time",
		[STATE_AUTH_USER] = "no reply to AUTH in time",
		[STATE_AUTH_WORD] = "no reply to AUTH in time",
		[STATE_AUTH_FIRST] = "no reply to AUTH in time",
		[STATE_AUTH_PROVES] = "",
		[STATE_AUTH_FINAL] = "no reply to AUTH in time",
		[STATE_WORKS] = "no reply in time",
		[STATE_GONE] = ""};
	struct smtp_client *c = arg;

	broke(c, c->is_in_body ? "the server takes the message too slowly" : waits[c->state]);
}

int smtp_client_open(struct loop *loop, const struct smtp_client_options *options, smtp_client_fn *fn,
	void *owner, struct smtp_client **client_out)
{
	struct smtp_client *c = xcalloc(1, sizeof(*c));
	char host[ADDR_TEXT_MAX];
	struct dial_options dialling = {.host = addr_host(options->addr, host),
		.port = addr_port(options->addr),
		.timeout_ms = options->times.connect,
		.tls = options->tls_mode == SMTP_CLIENT_TLS_IMPLICIT ? options->tls : NULL,
		.server_name = options->server_name,
		.sources = options->sources,
		.source_count = options->source_count,
		.source_first = options->source_first};
	int err;

	c->loop = loop;
	c->options = *options;
	c->options.tls = tls_ref(options->tls);
	c->host_name = xstrdup(options->host_name);
	c->server_name = xstrdup(options->server_name ? options->server_name : "");
	c->fn = fn;
	c->owner = owner;
	timer_init(&c->timer, on_time, c);
	err = dial(loop, &dialling, on_event, c, &c->conn);
	if (err) {
		free_client(c);
		return err;
	}
	conn_set_input_limit(c->conn, INPUT_MOST);
	conn_set_marks(c->conn, HIGH_MARK, LOW_MARK);
	enter(c, STATE_DIALS, 0); /* dial() has its own deadline */
	*client_out = c;
	return 0;
}

/* ---- questions ---- */

const struct smtp_words *smtp_client_words(const struct smtp_client *c)
{
	return &c->words;
}

const char *smtp_client_name(const struct smtp_client *c)
{
	return c->name;
}

enum smtp_client_fault smtp_client_fault(const struct smtp_client *c)
{
	return c->fault;
}

enum conn_tls_fault smtp_client_tls_fault(const struct smtp_client *c)
{
	return c->tls_fault;
}

struct conn *smtp_client_conn(const struct smtp_client *c)
{
	return c->conn;
}

bool smtp_client_is_idle(const struct smtp_client *c)
{
	return c->state == STATE_WORKS && c->head == c->count && !c->is_in_body;
}
