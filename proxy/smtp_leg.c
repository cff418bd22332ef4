/*
 * Commands stand in a queue: the bytes in `todo`, one entry each in `expected`; what has been sent waits at
 * the head for its reply. A server without PIPELINING gets one at a time; DATA stops all until its reply.
 * Replies to commands of an earlier owner (serial) are swallowed.
 *
 * Towards servers with CHUNKING and XMARK (ours) the body goes in chunks, so that no round trip for 354 is
 * needed and a small message leaves in one write; towards others by DATA with dots, where a bare CR becomes
 * CRLF.
 */
#include "proxy/smtp_leg_inner.h"

#include <stdlib.h>

#include "common/base/base64.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/proto/smtp_data.h"

#define CHUNK_SIZE (32 * 1024)

/* ---- the end ---- */

static void free_user(struct leg_user *u)
{
	if (!u)
		return;
	free(u->account);
	free(u->helo);
	free(u->protocol);
	secret_deinit(&u->password);
	free(u);
}

static void free_leg(void *arg)
{
	struct smtp_leg *l = arg;

	backend_unref(&l->backend);
	buf_deinit(&l->todo);
	buf_deinit(&l->chunk);
	buf_deinit(&l->header);
	buf_deinit(&l->told);
	free_user(l->user);
	free(l->expected);
	free(l->host);
	free(l);
}

void smtp_leg_gone(struct smtp_leg *l)
{
	timer_stop(&l->timer);
	list_remove(&l->link);
	list_remove(&l->all);
	backend_disconnected(l->backend);
	l->phase = LEG_GONE;
	l->owner = NULL;
	l->fn = NULL;
	loop_defer(l->loop, free_leg, l);
}

static void lose_by(struct smtp_leg *l, unsigned code, const char *why)
{
	struct smtp_reply reply = {code, SLICE_LIT("4.4.2"), slice_str(why), SLICE_LIT("")};
	smtp_leg_fn *fn = l->fn;
	void *owner = l->owner;

	if (l->phase == LEG_GONE)
		return;
	if (l->phase != LEG_WORKS && code != 535) {
		backend_tried(l->backend, l->attempt.host, l->protocol, ERR_NOT_NOW, why);
		if (smtp_leg_redial(l))
			return;
	}
	if (owner)
		log_info("smtp", "leg lost: %s backend=%s", why, l->backend->name);
	if (l->conn)
		conn_abort(&l->conn);
	smtp_leg_gone(l);
	if (fn && owner)
		fn(owner, l, SMTP_LEG_LOST, 0, &reply);
}

void smtp_leg_lose(struct smtp_leg *l, const char *why)
{
	lose_by(l, 451, why);
}

void smtp_leg_cut(struct smtp_leg **leg)
{
	struct smtp_leg *l = *leg;

	*leg = NULL;
	if (!l || l->phase == LEG_GONE)
		return;
	conn_abort(&l->conn);
	smtp_leg_gone(l);
}

void smtp_leg_quit(struct smtp_leg *l)
{
	if (l->phase == LEG_WORKS)
		conn_write_str(l->conn, "QUIT\r\n");
	conn_close(&l->conn);
	smtp_leg_gone(l);
}

/* ---- the queue ---- */

static void set_deadline(struct smtp_leg *l)
{
	bool is_end = false;

	if (l->head == l->count) {
		if (!l->is_pooled)
			timer_stop(&l->timer);
		return;
	}
	is_end = l->expected[l->head].kind == EXPECT_END || l->expected[l->head].kind == EXPECT_CHUNK;
	timer_set(&l->timer, l->loop, is_end ? SMTP_LEG_END_MS : l->backend->login_ms);
}

static bool may_send(const struct smtp_leg *l, size_t i)
{
	if (i == l->head)
		return true;
	/* What must be the last of its group (RFC 2920 section 3.1); a server of others greets anew after XCLIENT. */
	if (l->expected[i - 1].kind == EXPECT_DATA || l->expected[i - 1].kind == EXPECT_HELLO ||
		(l->expected[i - 1].kind == EXPECT_XCLIENT && !l->words.xmark))
		return false;
	return l->words.pipelining;
}

static void advance(struct smtp_leg *l)
{
	for (size_t i = l->head; i < l->count; i++) {
		struct expected *e = &l->expected[i];

		if (e->is_sent)
			continue;
		if (!may_send(l, i))
			break;
		if (e->len) {
			conn_write(l->conn, slice_sub(buf_view(&l->todo), 0, e->len));
			buf_take(&l->todo, e->len);
		}
		e->is_sent = true;
	}
	if (!buf_len(&l->todo))
		buf_deinit(&l->todo);
	set_deadline(l);
}

/* What was appended to todo since `from` is the command. */
static void expect(struct smtp_leg *l, enum expect kind, unsigned number, size_t from)
{
	if (l->head == l->count)
		l->head = l->count = 0;
	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 8;
		l->expected = xreallocarray(l->expected, l->room, sizeof(*l->expected));
	}
	l->expected[l->count++] = (struct expected){
		.kind = kind, .number = number, .serial = l->serial, .len = buf_len(&l->todo) - from};
}

static const enum smtp_leg_event events[] = {[EXPECT_MAIL] = SMTP_LEG_MAIL,
	[EXPECT_RCPT] = SMTP_LEG_RCPT,
	[EXPECT_DATA] = SMTP_LEG_DATA,
	[EXPECT_END] = SMTP_LEG_END};

static void answered(struct smtp_leg *l, const struct smtp_reply *reply)
{
	struct expected e = l->expected[l->head++];

	l->has_answered = true;
	if (e.kind == EXPECT_XCLIENT && reply->code / 100 != 2) {
		smtp_leg_lose(l, "XCLIENT was refused");
		return;
	}
	if (e.kind == EXPECT_MARK && reply->code / 100 != 2) {
		smtp_leg_lose(l, "a mark was refused");
		return;
	}
	if (e.kind == EXPECT_CHUNK && reply->code / 100 != 2) {
		smtp_leg_lose(l, "a chunk was refused");
		return;
	}
	advance(l);
	if (e.serial != l->serial || !l->owner || e.kind == EXPECT_XCLIENT || e.kind == EXPECT_MARK ||
		e.kind == EXPECT_CHUNK || e.kind == EXPECT_RSET || e.kind == EXPECT_HELLO)
		return;
	l->fn(l->owner, l, events[e.kind], e.number, reply);
}

/* ---- the beginning ---- */

static void say_hello(struct smtp_leg *l)
{
	l->phase = LEG_HELLO;
	conn_printf(l->conn, "%s %s\r\n", l->is_smtp ? "EHLO" : "LHLO", l->host);
}

static void ready(struct smtp_leg *l)
{
	struct smtp_reply none = {0};

	l->phase = LEG_WORKS;
	timer_stop(&l->timer);
	backend_tried(l->backend, l->attempt.host, l->protocol, 0, NULL);
	if (l->owner)
		l->fn(l->owner, l, SMTP_LEG_READY, 0, &none);
}

/* What is not told may stay as it was told of the client before (Postfix's XCLIENT_README). */
static void add_attribute(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, " %s=", name);
	if (*value)
		smtp_parse_write_xtext(out, slice_str(value));
	else
		buf_add_str(out, "[UNAVAILABLE]");
}

/* What the server wants to hear of a client, as one line; false: nothing. */
static bool write_xclient(const struct smtp_leg *l, const struct smtp_leg_mail *mail, struct buf *out)
{
	unsigned takes = l->words.xclient;
	char text[ADDR_TEXT_MAX];
	const char *host = addr_host(mail->client, text);

	if (l->backend->identity != IDENTITY_WORDS)
		takes &= l->backend->identity == IDENTITY_NONE ? 0 : SMTP_XCLIENT_TTL;
	if (!(takes & (SMTP_XCLIENT_ADDR | SMTP_XCLIENT_TTL)))
		return false;
	buf_add_str(out, "XCLIENT");
	if (takes & SMTP_XCLIENT_ADDR)
		buf_printf(out, " ADDR=%s%s", strchr(host, ':') ? "IPV6:" : "", host);
	if (takes & SMTP_XCLIENT_TTL)
		buf_printf(out, " TTL=%u", mail->ttl);
	if (takes & SMTP_XCLIENT_PORT)
		buf_printf(out, " PORT=%u", addr_port(mail->client));
	if (takes & SMTP_XCLIENT_HELO)
		add_attribute(out, "HELO", mail->helo);
	if (takes & SMTP_XCLIENT_LOGIN)
		add_attribute(out, "LOGIN", mail->user);
	if (takes & SMTP_XCLIENT_PROTO)
		add_attribute(out, "PROTO", l->words.xmark ? mail->protocol : "ESMTP");
	if (takes & SMTP_XCLIENT_SESSION)
		add_attribute(out, "SESSION", mail->session);
	buf_add_str(out, "\r\n");
	return true;
}

static void log_in(struct smtp_leg *l)
{
	const struct backend *b = l->backend;
	bool is_ours = b->trust == BACKEND_PROXY_AUTH;
	struct buf raw = {0}, line = {0};

	if (!(l->words.auth & SMTP_REPLY_AUTH_PLAIN)) {
		smtp_leg_lose(l, "it does not offer AUTH PLAIN");
		return;
	}
	if (is_ours && !backend_may_vouch(b, l->conn)) {
		lose_by(l, 535, "our credential may not go over this connection");
		return;
	}
	if (is_ours)
		buf_add_str(&raw, l->user->account);
	buf_add_char(&raw, '\0');
	buf_add_str(&raw, is_ours ? b->user : l->user->account);
	buf_add_char(&raw, '\0');
	buf_add_slice(&raw, is_ours ? secret_view(&b->credential) : secret_view(&l->user->password));
	buf_add_str(&line, "AUTH PLAIN ");
	base64_encode(&line, buf_view(&raw));
	buf_add_str(&line, "\r\n");
	l->phase = LEG_LOGS_IN;
	timer_set(&l->timer, l->loop, b->login_ms);
	conn_write(l->conn, buf_view(&line));
	secret_wipe(raw.data, raw.cap);
	secret_wipe(line.data, line.cap);
	buf_deinit(&raw);
	buf_deinit(&line);
}

/* Greeting, TLS and words are done: a submission leg says for whom it is, and logs in. */
static void go_on(struct smtp_leg *l)
{
	struct leg_user *u = l->user;
	struct buf line = {0};

	if (!u) {
		ready(l);
		return;
	}
	if (!u->is_told && write_xclient(l,
				   &(struct smtp_leg_mail){.session = l->own_session,
					   .helo = u->helo,
					   .user = "",
					   .protocol = u->protocol,
					   .client = &u->client,
					   .ttl = u->ttl},
				   &line)) {
		u->is_told = true;
		l->phase = LEG_TELLS;
		conn_write(l->conn, buf_view(&line));
	} else {
		log_in(l);
	}
	buf_deinit(&line);
}

static void login_refused(struct smtp_leg *l, const struct smtp_reply *reply)
{
	char why[200];

	if (reply->code / 100 != 5) {
		smtp_leg_lose(l, "it takes no login now");
		return;
	}
	snprintf(why, sizeof(why), "%u %.*s %.*s", reply->code, SLICE_ARG(reply->enhanced),
		(int)(reply->text.len < 120 ? reply->text.len : 120), reply->text.p);
	lose_by(l, 535, why);
}

static void begin_reply(struct smtp_leg *l, const struct smtp_reply *reply)
{
	if (l->phase == LEG_LOGS_IN && reply->code != 235) {
		login_refused(l, reply);
		return;
	}
	if (l->phase == LEG_LOGS_IN) {
		ready(l);
		return;
	}
	if (reply->code / 100 != 2) {
		smtp_leg_lose(l, "it refuses us");
		return;
	}
	if (l->phase == LEG_TELLS && l->words.xmark) {
		log_in(l);
	} else if (l->phase == LEG_GREETS || l->phase == LEG_TELLS) {
		say_hello(l);
	} else if (l->phase == LEG_STARTS_TLS) {
		l->phase = LEG_SECURES;
		if (conn_start_tls_client(
			    l->conn, l->backend->tls, l->backend->hosts[l->attempt.host].server_name))
			smtp_leg_lose(l, "STARTTLS failed");
	} else {
		smtp_reply_words(reply->lines, &l->words);
		if (l->backend->tls_mode == BACKEND_TLS_STARTTLS && !l->is_secure) {
			l->phase = LEG_STARTS_TLS;
			conn_write_str(l->conn, "STARTTLS\r\n");
		} else {
			go_on(l);
		}
	}
}

static void read_replies(struct smtp_leg *l)
{
	/* A reply may end the connection: for good, or to go on with the next host. */
	while (l->conn && l->phase != LEG_SECURES) {
		struct slice in = conn_input(l->conn);
		struct smtp_reply reply;
		ssize_t n = in.len ? smtp_reply_parse(in, &reply) : 0;
		char text[SMTP_REPLY_TEXT_MOST];

		if (n < 0 || (n > 0 && l->phase == LEG_WORKS && l->head == l->count)) {
			smtp_leg_lose(l, n < 0 ? "its reply makes no sense" : "it ends the session");
			return;
		}
		if (n == 0)
			return;
		if (l->phase != LEG_WORKS) {
			/* STARTTLS: nothing may be left in the buffer (CVE-2011-0411, the client's side). */
			enum leg_phase was = l->phase;
			struct slice lines = reply.lines;
			struct buf copy = {0};

			buf_add_slice(&copy, lines);
			conn_consume(l->conn, (size_t)n);
			reply.lines = buf_view(&copy);
			if (was == LEG_STARTS_TLS && conn_input(l->conn).len)
				smtp_leg_lose(l, "it talks before TLS");
			else
				begin_reply(l, &reply);
			buf_deinit(&copy);
			continue;
		}
		reply.text = slice_sub(reply.text, 0, sizeof(text) - 16);
		memcpy(text + 16, reply.text.p, reply.text.len);
		if (reply.enhanced.len > 16)
			reply.enhanced.len = 0;
		memcpy(text, reply.enhanced.p, reply.enhanced.len);
		reply.text.p = text + 16;
		reply.enhanced.p = text;
		reply.lines = SLICE_LIT("");
		conn_consume(l->conn, (size_t)n);
		answered(l, &reply);
	}
}

void smtp_leg_on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct smtp_leg *l = owner;
	struct smtp_reply none = {0};

	switch (event) {
	case CONN_OPENED:
		l->phase = LEG_GREETS;
		l->is_secure = conn_is_tls(conn);
		timer_set(&l->timer, l->loop, backend_greeting_ms(l->backend, l->protocol, &l->attempt));
		break;
	case CONN_SECURED:
		l->is_secure = true;
		l->words = (struct smtp_words){0};
		say_hello(l);
		break;
	case CONN_DATA:
		read_replies(l);
		break;
	case CONN_DRAINED:
		if (l->owner)
			l->fn(l->owner, l, SMTP_LEG_DRAINED, 0, &none);
		break;
	case CONN_EOF:
		smtp_leg_lose(l, "it closed the connection");
		break;
	case CONN_FAILED:
		smtp_leg_lose(l, conn_error_detail(conn));
		break;
	}
}

static void say_rset(struct smtp_leg *l)
{
	size_t from = buf_len(&l->todo);

	buf_add_str(&l->todo, "RSET\r\n");
	expect(l, EXPECT_RSET, 0, from);
	l->is_dirty = l->is_open = false;
}

/* In the pool: first the transaction that has ended is told to be over, then the leg goes. */
void smtp_leg_on_timer(void *arg)
{
	struct smtp_leg *l = arg;

	if (!l->is_pooled) {
		smtp_leg_lose(l, "no answer in time");
	} else if (l->is_dirty) {
		l->serial++;
		say_rset(l);
		advance(l);
		timer_set(&l->timer, l->loop, SMTP_LEG_IDLE_MS);
	} else {
		smtp_leg_quit(l);
	}
}

/* ---- commands ---- */

bool smtp_leg_is_ready(const struct smtp_leg *l)
{
	return l->phase == LEG_WORKS;
}

bool smtp_leg_is_stale(const struct smtp_leg *l)
{
	return l->is_from_pool && !l->has_answered;
}

const struct smtp_words *smtp_leg_words(const struct smtp_leg *l)
{
	return &l->words;
}

bool smtp_leg_is_smtp(const struct smtp_leg *l)
{
	return l->is_smtp;
}

bool smtp_leg_keeps_tls(const struct smtp_leg *l)
{
	return l->words.requiretls && l->conn && l->is_secure && backend_may_vouch(l->backend, l->conn);
}

/* Tells whom the transaction is for, if the server listens and the last that it was told is something else. */
static void tell_client(struct smtp_leg *l, const struct smtp_leg_mail *mail)
{
	size_t from = buf_len(&l->todo);
	struct buf line = {0};
	bool is_news;

	if (l->user)
		return;
	snprintf(l->session, sizeof(l->session), "%s", mail->session);
	is_news = write_xclient(l, mail, &line) && !slice_is_equal(buf_view(&line), buf_view(&l->told));
	if (is_news) {
		buf_clear(&l->told);
		buf_add_slice(&l->told, buf_view(&line));
		buf_add_slice(&l->todo, buf_view(&line));
	}
	buf_deinit(&line);
	if (!is_news)
		return;
	expect(l, EXPECT_XCLIENT, 0, from);
	if (l->words.xmark)
		return;
	/* Others begin anew after XCLIENT, and want to be greeted. */
	from = buf_len(&l->todo);
	buf_printf(&l->todo, "%s %s\r\n", l->is_smtp ? "EHLO" : "LHLO", l->host);
	expect(l, EXPECT_HELLO, 0, from);
}

void smtp_leg_mail(struct smtp_leg *l, const struct smtp_leg_mail *mail)
{
	const struct smtp_mail *m = mail->mail;
	size_t from;

	if (l->is_open || (l->is_dirty && !l->words.xmark))
		say_rset(l);
	tell_client(l, mail);
	from = buf_len(&l->todo);
	buf_add_str(&l->todo, "MAIL FROM:<");
	buf_add_slice(&l->todo, m->path.address);
	buf_add_char(&l->todo, '>');
	if (l->words.size && m->size && m->size != UINT64_MAX)
		buf_printf(&l->todo, " SIZE=%llu", (unsigned long long)(m->size + mail->prefix));
	if (l->words.eightbitmime && m->body == SMTP_BODY_8BITMIME)
		buf_add_str(&l->todo, " BODY=8BITMIME");
	if (l->words.smtputf8 && m->is_utf8)
		buf_add_str(&l->todo, " SMTPUTF8");
	if (l->words.dsn)
		smtp_parse_write_mail_dsn(&l->todo, m);
	if (l->words.requiretls && m->requires_tls)
		buf_add_str(&l->todo, " REQUIRETLS");
	if (l->words.xmark)
		buf_printf(&l->todo, " XMARK=%llu", (unsigned long long)mail->prefix);
	buf_add_str(&l->todo, "\r\n");
	expect(l, EXPECT_MAIL, 0, from);
	l->is_dirty = l->is_open = true;
	advance(l);
}

void smtp_leg_rcpt(struct smtp_leg *l, unsigned number, const struct smtp_rcpt *rcpt)
{
	size_t from = buf_len(&l->todo);

	buf_add_str(&l->todo, "RCPT TO:<");
	buf_add_slice(&l->todo, rcpt->path.address);
	buf_add_char(&l->todo, '>');
	if (l->words.dsn)
		smtp_parse_write_rcpt_dsn(&l->todo, rcpt->notify, rcpt->orcpt);
	if (l->words.xmark && rcpt->grey.len)
		buf_printf(&l->todo, " XGREY=%.*s", SLICE_ARG(rcpt->grey));
	buf_add_str(&l->todo, "\r\n");
	expect(l, EXPECT_RCPT, number, from);
	advance(l);
}

bool smtp_leg_mark(struct smtp_leg *l, const struct smtp_mark *mark, const char *hold)
{
	size_t from = buf_len(&l->todo);

	if (!l->words.xmark)
		return false;
	smtp_parse_write_xmark(&l->todo, mark, slice_str(hold));
	expect(l, EXPECT_MARK, 0, from);
	advance(l);
	return true;
}

/* ---- the body ---- */

bool smtp_leg_data(struct smtp_leg *l)
{
	size_t from = buf_len(&l->todo);

	l->is_chunked = l->words.xmark && l->words.chunking && l->words.pipelining;
	if (l->is_chunked)
		return false;
	smtp_data_encode_init(&l->encoder, !l->words.xmark);
	buf_add_str(&l->todo, "DATA\r\n");
	expect(l, EXPECT_DATA, 0, from);
	advance(l);
	return true;
}

static void send_chunk(struct smtp_leg *l, bool is_last)
{
	conn_printf(l->conn, "BDAT %zu%s\r\n", buf_len(&l->chunk), is_last ? " LAST" : "");
	conn_write_take(l->conn, &l->chunk);
	if (!is_last) {
		expect(l, EXPECT_CHUNK, 0, buf_len(&l->todo));
		advance(l);
	}
}

void smtp_leg_body(struct smtp_leg *l, struct slice bytes)
{
	if (l->phase != LEG_WORKS)
		return;
	if (!l->is_chunked) {
		smtp_data_encode(&l->encoder, bytes, conn_output(l->conn));
		conn_written(l->conn);
		return;
	}
	buf_add_slice(&l->chunk, bytes);
	if (buf_len(&l->chunk) >= CHUNK_SIZE)
		send_chunk(l, false);
}

void smtp_leg_end(struct smtp_leg *l, const unsigned *numbers, size_t count)
{
	if (l->phase != LEG_WORKS)
		return;
	l->is_open = false;
	if (l->is_chunked) {
		send_chunk(l, true);
	} else {
		smtp_data_encode_end(&l->encoder, conn_output(l->conn));
		conn_written(l->conn);
	}
	if (l->is_smtp)
		count = 1;
	for (size_t i = 0; i < count; i++)
		expect(l, EXPECT_END, l->is_smtp ? 0 : numbers[i], buf_len(&l->todo));
	advance(l);
}

bool smtp_leg_is_congested(struct smtp_leg *l)
{
	if (l->phase != LEG_WORKS || !conn_is_congested(l->conn))
		return false;
	conn_want_drained(l->conn);
	return true;
}
