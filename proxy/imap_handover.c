/*
 * Logging in at an IMAP back-end.
 *
 *	<- * OK [CAPABILITY ...]                          greeting
 *	-> S STARTTLS   <- S OK                           where configured; then TLS
 *	-> C CAPABILITY <- * CAPABILITY ...  C OK         unless known
 *	-> I ID ("x-originating-ip" ...)                  if it takes ID
 *	   A AUTHENTICATE PLAIN <initial response>        both in one write
 *	<- * ID ... I OK   A OK [CAPABILITY ...]
 *
 * Servers without SASL-IR get the response after their "+", those without AUTH=PLAIN a LOGIN.
 */
#include "common/base/log.h"
#include "common/proto/imap_reply.h"
#include "common/proto/imap_write.h"
#include "proxy/leg.h"

#define ANNOUNCED_MOST 2048

static const struct {
	const char *word;
	unsigned bit;
} words[] = {
	{"SASL-IR", BACKEND_SASL_IR},
	{"AUTH=PLAIN", BACKEND_AUTH_PLAIN},
	{"ID", BACKEND_ID},
	{"LITERAL+", BACKEND_LITERAL_PLUS},
	{"LOGINDISABLED", BACKEND_LOGINDISABLED},
	{"STARTTLS", BACKEND_STARTTLS},
};

static unsigned bits_of(struct slice list)
{
	unsigned bits = BACKEND_KNOWN;
	struct slice word;

	while (imap_reply_next_word(&list, &word)) {
		for (size_t i = 0; i < ARRAY_LEN(words); i++) {
			if (slice_is_str_nocase(word, words[i].word))
				bits |= words[i].bit;
		}
	}
	return bits;
}

static void add_id_pair(struct buf *out, const char *name, const char *value)
{
	/* Values that no quoted string can carry are left out; ours always fit. */
	(void)!imap_write_id_pair(out, slice_str(name), slice_str(value));
	buf_add_char(out, ' ');
}

static void add_id(const struct leg *leg, struct buf *out)
{
	const struct leg_login *l = &leg->login;
	char text[ADDR_TEXT_MAX];
	char number[12];

	buf_add_str(out, "I ID (");
	if (leg->backend->identity == IDENTITY_PROXY_V2) {
		/* It knows the rest. */
		snprintf(number, sizeof(number), "%u", l->ttl);
		add_id_pair(out, "x-proxy-ttl", number);
		buf_cut(out, buf_len(out) - 1);
		buf_add_str(out, ")\r\n");
		return;
	}
	add_id_pair(out, "x-session-id", l->session);
	add_id_pair(out, "x-originating-ip", addr_host(l->client, text));
	snprintf(number, sizeof(number), "%u", addr_port(l->client));
	add_id_pair(out, "x-originating-port", number);
	add_id_pair(out, "x-connected-ip", addr_host(l->local, text));
	snprintf(number, sizeof(number), "%u", addr_port(l->local));
	add_id_pair(out, "x-connected-port", number);
	add_id_pair(out, "x-client-transport", l->is_secure ? "TLS" : "insecure");
	snprintf(number, sizeof(number), "%u", l->ttl);
	add_id_pair(out, "x-proxy-ttl", number);
	buf_cut(out, buf_len(out) - 1);
	buf_add_str(out, ")\r\n");
}

static bool add_login(struct leg *leg, struct buf *out)
{
	bool has_plus = leg->capabilities & BACKEND_LITERAL_PLUS;

	buf_add_str(out, "A LOGIN ");
	if (imap_write_command_string(out, leg->login.account, has_plus) < 0)
		return false;
	buf_add_char(out, ' ');
	if (imap_write_command_string(out, leg->login.password, has_plus) < 0)
		return false;
	buf_add_str(out, "\r\n");
	return true;
}

static void log_in(struct leg *leg)
{
	struct buf *out = conn_output(leg->conn);

	if ((leg->capabilities & BACKEND_ID) && leg->backend->identity != IDENTITY_NONE)
		add_id(leg, out);
	if (leg->capabilities & BACKEND_AUTH_PLAIN) {
		buf_add_str(out, "A AUTHENTICATE PLAIN");
		if (leg->capabilities & BACKEND_SASL_IR) {
			buf_add_char(out, ' ');
			leg_add_plain(leg, out);
			leg->is_challenged = true;
		}
		buf_add_str(out, "\r\n");
	} else if (leg->backend->trust != BACKEND_REPLAY || (leg->capabilities & BACKEND_LOGINDISABLED) ||
		   !add_login(leg, out)) {
		leg_fail(leg, LEG_NO_MECHANISM, "%s", "it has neither AUTH=PLAIN nor LOGIN for us");
		return;
	}
	conn_written(leg->conn);
}

/* As safe as it gets: capabilities, then the login. */
static void go_on(struct leg *leg)
{
	if (!(leg->capabilities & BACKEND_KNOWN)) {
		leg_enter(leg, LEG_CAPABILITY);
		conn_write_str(leg->conn, "C CAPABILITY\r\n");
	} else {
		leg_ready(leg);
	}
}

static void take_greeting(struct leg *leg, const struct imap_reply *r)
{
	bool will_secure = leg->backend->tls_mode == BACKEND_TLS_STARTTLS && !conn_is_tls(leg->conn);
	struct slice list;

	leg_set_detail(leg, r->text);
	if (r->kind != IMAP_REPLY_UNTAGGED || r->status != IMAP_REPLY_OK) {
		leg_fail(leg, r->status == IMAP_REPLY_BYE ? LEG_UNAVAILABLE : LEG_PROTOCOL, "greeting: %.*s",
			(int)(r->text.len < 100 ? r->text.len : 100), r->text.p ? r->text.p : "");
		return;
	}
	leg_set_detail(leg, SLICE_LIT(""));
	if (leg->is_flown) {
		leg_enter(leg, LEG_LOGIN);
	} else if (will_secure) {
		leg_enter(leg, LEG_STARTTLS);
		conn_write_str(leg->conn, "S STARTTLS\r\n");
	} else {
		if (imap_reply_capabilities(r, &list))
			leg_learn(leg, bits_of(list));
		go_on(leg);
	}
}

static void take_starttls(struct leg *leg, const struct imap_reply *r, size_t n)
{
	if (r->kind != IMAP_REPLY_TAGGED)
		return;
	if (r->status != IMAP_REPLY_OK) {
		leg_fail(leg, LEG_TLS, "%s", "it refused STARTTLS");
		return;
	}
	conn_consume(leg->conn, n);
	leg->taking = 0;
	leg_start_tls(leg);
}

static void take_capability(struct leg *leg, const struct imap_reply *r)
{
	struct slice list;

	if (imap_reply_capabilities(r, &list))
		leg_learn(leg, bits_of(list));
	if (r->kind != IMAP_REPLY_TAGGED)
		return;
	if (leg->capabilities & BACKEND_KNOWN)
		leg_ready(leg);
	else
		leg_fail(leg, LEG_PROTOCOL, "%s", "it tells no capabilities");
}

/* What the client may know of the back-end's capabilities: design of the tiers, "Capabilities". */
static void announce(struct leg *leg, struct slice list)
{
	struct slice word;

	buf_clear(&leg->announced);
	leg->announced.limit = ANNOUNCED_MOST;
	while (imap_reply_next_word(&list, &word)) {
		if (slice_is_str_nocase(word, "STARTTLS") || slice_is_str_nocase(word, "LOGINDISABLED") ||
			slice_is_str_nocase(word, "UNAUTHENTICATE") ||
			slice_has_prefix_nocase(word, "AUTH=") || !imap_write_is_atom(word))
			continue;
		if (buf_len(&leg->announced))
			buf_add_char(&leg->announced, ' ');
		buf_add_slice(&leg->announced, word);
	}
	if (leg->announced.failed)
		buf_clear(&leg->announced);
}

static enum leg_result refusal_of(const struct leg *leg, const struct imap_reply *r)
{
	static const struct {
		const char *code;
		enum leg_result result;
	} codes[] = {
		{"AUTHORIZATIONFAILED", LEG_NO_ACCOUNT},
		{"UNAVAILABLE", LEG_UNAVAILABLE},
		{"INUSE", LEG_IN_USE},
		{"LIMIT", LEG_LIMIT},
		{"SERVERBUG", LEG_UNAVAILABLE},
		{"CONTACTADMIN", LEG_UNAVAILABLE},
		{"PRIVACYREQUIRED", LEG_NO_MECHANISM},
	};

	if (r->status == IMAP_REPLY_BAD)
		return LEG_PROTOCOL;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		if (slice_is_str_nocase(r->code, codes[i].code))
			return codes[i].result;
	}
	return leg->backend->trust == BACKEND_REPLAY ? LEG_WRONG : LEG_DISTRUSTED;
}

static void answer_challenge(struct leg *leg)
{
	struct buf *out;

	if (leg->is_challenged) {
		leg_fail(leg, LEG_PROTOCOL, "%s", "a challenge that PLAIN does not have");
		return;
	}
	leg->is_challenged = true;
	out = conn_output(leg->conn);
	leg_add_plain(leg, out);
	buf_add_str(out, "\r\n");
	conn_written(leg->conn);
}

static void take_login(struct leg *leg, const struct imap_reply *r)
{
	struct slice list;

	if (imap_reply_capabilities(r, &list))
		announce(leg, list);
	if (r->kind == IMAP_REPLY_CONTINUE) {
		answer_challenge(leg);
		return;
	}
	if (r->status == IMAP_REPLY_BYE) {
		leg_fail(leg, LEG_UNAVAILABLE, "%s", "it said BYE");
		return;
	}
	if (r->kind != IMAP_REPLY_TAGGED || !slice_is_str(r->tag, "A"))
		return;
	if (r->status == IMAP_REPLY_OK) {
		leg_ok(leg);
		return;
	}
	leg_set_detail(leg, slice_sub(r->text, 0, 120));
	if (r->status == IMAP_REPLY_BAD)
		backend_learn(leg->backend, BACKEND_IMAP, 0);
	leg_fail(leg, refusal_of(leg, r), "%.*s", (int)(r->text.len < 120 ? r->text.len : 120),
		r->text.p ? r->text.p : "");
}

static ssize_t take(struct leg *leg)
{
	struct imap_reply r;
	ssize_t n = imap_reply_parse(conn_input(leg->conn), &r);

	if (n <= 0)
		return n;
	/* Who takes the connection from within consumes the reply: leg_take_conn(). */
	leg->taking = (size_t)n;
	switch (leg->state) {
	case LEG_GREETING:
		take_greeting(leg, &r);
		break;
	case LEG_STARTTLS:
		take_starttls(leg, &r, (size_t)n);
		break;
	case LEG_CAPABILITY:
		take_capability(leg, &r);
		break;
	case LEG_LOGIN:
		take_login(leg, &r);
		break;
	case LEG_DIALING:
	case LEG_SECURING:
	case LEG_READY:
	case LEG_ENDED:
		break;
	}
	if (leg->conn && leg->taking)
		conn_consume(leg->conn, leg->taking);
	leg->taking = 0;
	return n;
}

const struct leg_protocol imap_handover = {
	.protocol = BACKEND_IMAP,
	.log_in = log_in,
	.take = take,
	.secured = go_on,
	.logout = "Q LOGOUT\r\n",
};
