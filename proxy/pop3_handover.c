/*
 * Logging in at a POP3 back-end.
 *
 *	<- +OK [XCLIENT] ...                              greeting; the word says that it believes us
 *	-> STLS  <- +OK                                   where configured; then TLS
 *	-> CAPA  <- +OK ... .                             unless known
 *	-> UTF8                                           if the client has asked for it, and it takes that
 *	   XCLIENT ADDR=...                               if it takes that
 *	   AUTH PLAIN <initial response>                  in the same write; or USER and PASS
 *	<- +OK  +OK
 *
 * Answers come in order: `step` counts those that come before the one which decides.
 */
#include "common/proto/pop3_parse.h"
#include "proxy/leg.h"

#define REPLY_MOST 4096

static bool is_word(struct slice line, const char *word)
{
	size_t len = strlen(word);

	return slice_has_prefix_nocase(line, word) && (line.len == len || line.p[len] == ' ');
}

static void add_xclient(const struct leg *leg, struct buf *out)
{
	const struct leg_login *l = &leg->login;
	char text[ADDR_TEXT_MAX];

	buf_printf(out, "XCLIENT ADDR=%s PORT=%u SESSION=%s", addr_host(l->client, text),
		addr_port(l->client), l->session);
	buf_printf(out, " DESTADDR=%s DESTPORT=%u CLIENT-TRANSPORT=%s TTL=%u\r\n", addr_host(l->local, text),
		addr_port(l->local), l->is_secure ? "TLS" : "insecure", l->ttl);
}

/* A line break in a password would end the command. */
static bool is_line(struct slice s)
{
	return !slice_has_control(s);
}

static void log_in(struct leg *leg)
{
	struct buf *out = conn_output(leg->conn);

	leg->step = 0;
	/* RFC 6856: only before login. One that does not know it gives messages as they are, which is what was asked for. */
	leg->awaits_utf8 = leg->login.is_utf8 && leg->capabilities & BACKEND_UTF8;
	if (leg->awaits_utf8) {
		buf_add_str(out, "UTF8\r\n");
		leg->step++;
	}
	if ((leg->capabilities & BACKEND_XCLIENT) && leg->backend->identity == IDENTITY_WORDS) {
		add_xclient(leg, out);
		leg->step++;
	} else if ((leg->capabilities & BACKEND_TTL) && leg->backend->identity != IDENTITY_NONE) {
		buf_printf(out, "XCLIENT TTL=%u\r\n", leg->login.ttl);
		leg->step++;
	}
	if (leg->capabilities & BACKEND_AUTH_PLAIN) {
		buf_add_str(out, "AUTH PLAIN ");
		leg_add_plain(leg, out);
		buf_add_str(out, "\r\n");
	} else if (leg->backend->trust == BACKEND_REPLAY && is_line(leg->login.account) &&
		   is_line(leg->login.password)) {
		buf_add_str(out, "USER ");
		buf_add_slice(out, leg->login.account);
		buf_add_str(out, "\r\nPASS ");
		buf_add_slice(out, leg->login.password);
		buf_add_str(out, "\r\n");
		leg->step++;
		leg->is_by_user = true;
	} else {
		leg_fail(leg, LEG_NO_MECHANISM, "%s", "it has no SASL PLAIN");
		return;
	}
	conn_written(leg->conn);
}

static void go_on(struct leg *leg)
{
	if (!(leg->capabilities & BACKEND_KNOWN)) {
		leg_enter(leg, LEG_CAPABILITY);
		conn_write_str(leg->conn, "CAPA\r\n");
	} else {
		leg_ready(leg);
	}
}

static void take_greeting(struct leg *leg, const struct pop3_reply *r)
{
	if (r->status != POP3_OK) {
		leg_fail(leg, slice_is_str_nocase(r->code, "SYS/TEMP") ? LEG_UNAVAILABLE : LEG_PROTOCOL,
			"greeting: %.*s", (int)(r->text.len < 100 ? r->text.len : 100),
			r->text.p ? r->text.p : "");
		return;
	}
	leg->is_believed = slice_is_str(r->code, "XCLIENT");
	if (leg->is_flown) {
		leg_enter(leg, LEG_LOGIN);
	} else if (leg->backend->tls_mode == BACKEND_TLS_STARTTLS && !conn_is_tls(leg->conn)) {
		leg_enter(leg, LEG_STARTTLS);
		conn_write_str(leg->conn, "STLS\r\n");
	} else {
		go_on(leg);
	}
}

/* SASL PLAIN is listed behind the word SASL: RFC 5034 section 6. */
static bool has_plain(struct slice line)
{
	struct slice rest = slice_from(line, 4);

	while (rest.len) {
		ptrdiff_t blank;

		rest = slice_trim(rest);
		blank = slice_find(rest, ' ');
		if (slice_is_str_nocase(slice_sub(rest, 0, blank < 0 ? rest.len : (size_t)blank), "PLAIN"))
			return true;
		rest = blank < 0 ? (struct slice){0} : slice_from(rest, (size_t)blank);
	}
	return false;
}

/* CAPA's answer, line by line; one that knows no CAPA gets USER and PASS. */
static ssize_t take_capability(struct leg *leg)
{
	struct slice line;
	ssize_t n = pop3_parse_line(conn_input(leg->conn), REPLY_MOST, &line);
	bool is_end;

	if (n <= 0)
		return n;
	if (leg->step == 0) {
		leg->found = BACKEND_KNOWN | BACKEND_SASL_IR | (leg->is_believed ? BACKEND_XCLIENT : 0);
		leg->step = 1;
		is_end = !is_word(line, "+OK");
	} else {
		if (is_word(line, "SASL") && has_plain(line))
			leg->found |= BACKEND_AUTH_PLAIN;
		if (slice_is_str_nocase(line, "XCLIENT TTL"))
			leg->found |= BACKEND_TTL;
		else if (is_word(line, "XCLIENT"))
			leg->found |= BACKEND_XCLIENT;
		if (is_word(line, "STLS"))
			leg->found |= BACKEND_STARTTLS;
		if (is_word(line, "UTF8"))
			leg->found |= BACKEND_UTF8;
		is_end = pop3_parse_is_end(line);
	}
	conn_consume(leg->conn, (size_t)n);
	if (is_end) {
		leg_learn(leg, leg->found);
		leg_ready(leg);
	}
	return n;
}

static enum leg_result refusal_of(const struct leg *leg, const struct pop3_reply *r)
{
	static const struct {
		const char *code;
		enum leg_result result;
	} codes[] = {
		{"SYS/TEMP", LEG_UNAVAILABLE},
		{"SYS/PERM", LEG_NO_ACCOUNT},
		{"IN-USE", LEG_IN_USE},
		{"LOGIN-DELAY", LEG_UNAVAILABLE},
	};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (slice_is_str_nocase(r->code, codes[i].code))
			return codes[i].result;
	}
	return leg->backend->trust == BACKEND_REPLAY ? LEG_WRONG : LEG_DISTRUSTED;
}

/* True: the leg has ended well, the reply is consumed. */
static bool take_login(struct leg *leg, const struct pop3_reply *r, size_t n)
{
	if (r->status == POP3_CONTINUE) {
		leg_fail(leg, LEG_PROTOCOL, "%s", "a challenge that PLAIN does not have");
		return false;
	}
	if (leg->awaits_utf8) { /* whatever it says */
		leg->awaits_utf8 = false;
		leg->step--;
		return false;
	}
	if (leg->step > 0) {
		/* XCLIENT refused: it believes us no more, and would log a wrong address. USER refused: PASS will be too. */
		leg->step--;
		if (r->status == POP3_ERR && !(leg->is_by_user && leg->step == 0))
			backend_learn(leg->backend, BACKEND_POP3, 0);
		return false;
	}
	if (r->status == POP3_OK) {
		conn_consume(leg->conn, n);
		leg_ok(leg);
		return true;
	}
	leg_fail(leg, refusal_of(leg, r), "%.*s", (int)(r->text.len < 120 ? r->text.len : 120),
		r->text.p ? r->text.p : "");
	return false;
}

static ssize_t take(struct leg *leg)
{
	struct pop3_reply r;
	ssize_t n;

	if (leg->state == LEG_CAPABILITY)
		return take_capability(leg);
	n = pop3_parse_reply(conn_input(leg->conn), REPLY_MOST, &r);
	if (n <= 0)
		return n;
	switch (leg->state) {
	case LEG_GREETING:
		take_greeting(leg, &r);
		break;
	case LEG_STARTTLS:
		if (r.status != POP3_OK) {
			leg_fail(leg, LEG_TLS, "%s", "it refused STLS");
			break;
		}
		conn_consume(leg->conn, (size_t)n);
		leg_start_tls(leg);
		return n;
	case LEG_LOGIN:
		if (take_login(leg, &r, (size_t)n))
			return n;
		break;
	case LEG_CAPABILITY:
	case LEG_DIALING:
	case LEG_SECURING:
	case LEG_READY:
	case LEG_ENDED:
		break;
	}
	if (leg->conn)
		conn_consume(leg->conn, (size_t)n);
	return n;
}

const struct leg_protocol pop3_handover = {
	.protocol = BACKEND_POP3,
	.log_in = log_in,
	.take = take,
	.secured = go_on,
	.logout = "QUIT\r\n",
};
