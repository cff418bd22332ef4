/*
 * The life of a session: states with their deadlines, the pump, the end. Invariants: a front that has ended
 * has no connection and gets no event; its memory goes at the end of the turn, so that whoever is on the
 * stack may still look at its state.
 */
#include "common/front/smtp_front.h"

#include <stdio.h>

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/crypto/digest.h"
#include "common/front/front_auth.h"
#include "common/front/smtp_judge.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_session.h"
#include "common/front/smtp_spf.h"
#include "common/proto/date.h"
#include "common/proto/smtp_reply.h"

const struct smtp_limits smtp_limits_default = {
	.message_size = UINT64_C(64) << 20,
	.recipients = 1000,
	.errors = 20,
	.idle_commands = 100,
	.failed_logins = 3,
	.failed_delay_ms = 2 * 1000,
	.hops = 50,
	.own_hops = 10,
	.banner_ms = 0,
	.tls_ms = 30 * 1000,
	.command_ms = 300 * 1000,
	.data_ms = 180 * 1000,
	.answer_ms = 120 * 1000,
	.end_ms = 300 * 1000,
};

/* One row a state: name, which limit is its deadline, whether input is taken. */
static const struct {
	const char *name;
	size_t deadline; /* offset in struct smtp_limits */
	bool takes_input;
} states[] = {
	[SMTP_HANDSHAKE] = {"handshake", offsetof(struct smtp_limits, tls_ms), false},
	[SMTP_BANNER] = {"banner", offsetof(struct smtp_limits, banner_ms), false},
	[SMTP_COMMAND] = {"command", offsetof(struct smtp_limits, command_ms), true},
	[SMTP_SASL] = {"sasl", offsetof(struct smtp_limits, command_ms), true},
	[SMTP_SECURING] = {"securing", offsetof(struct smtp_limits, tls_ms), false},
	[SMTP_PENALTY] = {"penalty", 0, false},
	[SMTP_LOGIN] = {"login", offsetof(struct smtp_limits, answer_ms), false},
	[SMTP_DELAY] = {"delay", offsetof(struct smtp_limits, failed_delay_ms), false},
	[SMTP_CHECK] = {"check", offsetof(struct smtp_limits, answer_ms), false},
	[SMTP_MAIL_WAIT] = {"mail", offsetof(struct smtp_limits, answer_ms), false},
	[SMTP_RCPT_WAIT] = {"recipients", offsetof(struct smtp_limits, answer_ms), true},
	[SMTP_DATA_WAIT] = {"data", offsetof(struct smtp_limits, answer_ms), false},
	[SMTP_BODY] = {"body", offsetof(struct smtp_limits, data_ms), true},
	[SMTP_END_WAIT] = {"end", offsetof(struct smtp_limits, end_ms), false},
	[SMTP_ENDED] = {"ended", 0, false},
};

void smtp_front_enter(struct smtp_front *f, enum smtp_state state)
{
	uint64_t ms =
		*(const uint64_t *)(const void *)((const char *)&f->service->limits + states[state].deadline);

	require(f->state != SMTP_ENDED);
	f->state = state;
	if (state == SMTP_ENDED) {
		timer_stop(&f->timer);
		return;
	}
	if (state == SMTP_DELAY) {
		ms <<= f->failed_logins > 4 ? 4 : f->failed_logins ? f->failed_logins - 1 : 0;
		ms = front_delay_left(ms, f->login_began_ms, loop_now_ms(f->loop));
	}
	if (state == SMTP_PENALTY)
		ms = f->penalty_ms;
	if (state == SMTP_COMMAND)
		f->login_began_ms = 0;
	timer_set(&f->timer, f->loop, ms);
}

void smtp_front_say(struct smtp_front *f, const struct smtp_answer *answer)
{
	smtp_reply_write(conn_output(f->conn), answer->code, answer->enhanced, answer->text);
	conn_written(f->conn);
}

void smtp_front_part(struct smtp_front *f)
{
	smtp_front_end(f, "was told 421");
}

void smtp_front_wrong(struct smtp_front *f, const struct smtp_answer *answer)
{
	smtp_front_say(f, answer);
	if (answer->code == 421) {
		smtp_front_part(f);
		return;
	}
	if (++f->errors < f->service->limits.errors)
		return;
	SMTP_SAY(f, 421, "4.7.0", "Too many errors");
	smtp_front_end(f, "too many errors");
}

void smtp_front_count_refusal(struct smtp_front *f)
{
	f->errors += !f->service->is_lmtp;
}

void smtp_front_refuse(struct smtp_front *f, const struct smtp_answer *answer)
{
	if (f->service->is_lmtp)
		smtp_front_say(f, answer);
	else
		smtp_front_wrong(f, answer);
}

void smtp_front_set_text(char **text, struct slice value)
{
	free(*text);
	*text = value.len ? xmemdup0(value.p, value.len) : NULL;
}

static void free_front(void *arg)
{
	struct smtp_front *f = arg;

	free(f->helo);
	free(f->user);
	free(f->verified);
	free(f->told_helo);
	free(f->told_protocol);
	free(f->told_user);
	free(f->sender);
	free(f->ring);
	smtp_spf_free(&f->spf);
	if (f->facts)
		smtp_facts_deinit(f->facts);
	free(f->facts);
	buf_deinit(&f->body);
	buf_deinit(&f->refusal);
	smtp_complete_free(&f->complete);
	digest_free(&f->digest);
	arena_deinit(&f->arena);
	smtp_service_unref(&f->service);
	free(f);
}

void smtp_front_end(struct smtp_front *f, const char *why)
{
	char text[ADDR_TEXT_MAX];

	if (f->state == SMTP_ENDED)
		return;
	if (why)
		log_info(f->service->name, "%s: closed: %s client=%s state=%s", f->session, why,
			addr_host(&f->client, text), states[f->state].name);
	smtp_front_forget_login(f);
	smtp_front_cut_body(f);
	smtp_judge_free(&f->judge);
	milter_watch_free(&f->milters);
	smtp_front_enter(f, SMTP_ENDED);
	smtp_front_end_transaction(f, SMTP_RESET_CUT);
	if (f->is_begun)
		f->service->ops->end(f);
	conn_close(&f->conn);
	metric_add(f->service->counters->open, -1);
	loop_defer(f->loop, free_front, f);
}

static bool may_take(struct smtp_front *f)
{
	if (!states[f->state].takes_input || (f->state == SMTP_BODY && f->is_held))
		return false;
	if (conn_output_len(f->conn) <= SMTP_OUTPUT_MOST)
		return true;
	conn_flush(f->conn);
	if (conn_output_len(f->conn) <= SMTP_OUTPUT_MOST)
		return true;
	conn_want_drained(f->conn);
	return false;
}

static ssize_t take(struct smtp_front *f)
{
	if (f->state == SMTP_BODY)
		return smtp_front_take_body(f);
	if (f->state == SMTP_SASL)
		return smtp_front_take_sasl(f);
	return smtp_front_take_command(f);
}

static void too_long(struct smtp_front *f)
{
	SMTP_SAY(f, 500, "5.5.2", "Line too long");
	smtp_front_end(f, "line too long");
}

static bool is_at_rest(const struct smtp_front *f)
{
	return f->state == SMTP_COMMAND && (!f->is_mail || f->is_over);
}

/* "BDAT 0 LAST" waits for no octet. */
static bool is_empty_chunk(const struct smtp_front *f)
{
	return f->state == SMTP_BODY && (f->is_bdat || f->refusal.end) && !f->chunk_left;
}

void smtp_front_pump(struct smtp_front *f)
{
	if (f->is_pumping || f->state == SMTP_ENDED)
		return;
	f->is_pumping = true;
	while (may_take(f)) {
		ssize_t n;

		if (f->is_closing && is_at_rest(f)) {
			SMTP_SAY(f, 421, "4.3.2", "Closing down");
			smtp_front_end(f, NULL);
			return;
		}
		if (conn_input(f->conn).len == 0 && !is_empty_chunk(f))
			break;
		n = take(f);
		if (f->state != SMTP_CHECK) /* the command's texts wait in it */
			arena_reset(&f->arena);
		if (f->state == SMTP_ENDED)
			return;
		if (n < 0) {
			too_long(f);
			return;
		}
		if (n == 0)
			break;
		if (f->state == SMTP_COMMAND || f->state == SMTP_BODY)
			smtp_front_enter(f, f->state);
	}
	f->is_pumping = false;
	if (f->is_eof && states[f->state].takes_input && f->state != SMTP_RCPT_WAIT &&
		!(f->state == SMTP_BODY && f->is_held))
		smtp_front_end(f, f->is_mail && !f->is_over ? "client has gone amid a transaction" : NULL);
}

/* ---- beginning ---- */

static const char *host_of(const struct smtp_front *f)
{
	return *f->service->host ? f->service->host : "localhost";
}

static void refuse_early_talker(struct smtp_front *f)
{
	metric_add(f->service->counters->early, 1);
	SMTP_SAY(f, 554, "5.5.1", "You talk before your turn");
	smtp_front_end(f, "talked before the greeting");
}

static void greet(struct smtp_front *f)
{
	if (conn_input(f->conn).len && !f->service->is_lmtp) {
		refuse_early_talker(f);
		return;
	}
	conn_printf(f->conn, "220 %s %s\r\n", host_of(f), f->service->is_lmtp ? "LMTP" : "ESMTP");
	smtp_front_enter(f, SMTP_COMMAND);
	smtp_front_pump(f);
}

/* The rules let the client in, or not. */
static void connected(struct smtp_front *f, const struct smtp_answer *refusal)
{
	if (refusal) {
		smtp_front_say(f, refusal);
		smtp_front_end(f, "refused by a rule");
	} else if (f->service->limits.banner_ms && !conn_input(f->conn).len) {
		smtp_front_enter(f, SMTP_BANNER);
	} else {
		greet(f);
	}
}

void smtp_front_judged(struct smtp_front *f, const struct smtp_judged *judged)
{
	switch (judged->phase) {
	case SMTP_PHASE_CONNECT:
		connected(f, judged->refusal);
		break;
	case SMTP_PHASE_HELO:
		smtp_front_judged_helo(f, judged);
		break;
	case SMTP_PHASE_MAIL:
		smtp_front_judged_mail(f, judged);
		break;
	case SMTP_PHASE_RCPT:
		smtp_front_judged_rcpt(f, judged);
		break;
	case SMTP_PHASE_HEADER:
	case SMTP_PHASE_DATA:
		break; /* they are stages */
	}
}

static void begin(struct smtp_front *f)
{
	struct smtp_service *s = f->service;

	if (s->is_lmtp && (conn_is_tls(f->conn) || !s->tls) && !smtp_front_is_trusted(f)) {
		SMTP_SAY(f, 554, "5.7.1", "Only for trusted proxies");
		smtp_front_end(f, "peer is no trusted proxy");
		return;
	}
	f->is_begun = true;
	if (s->ops->begin)
		s->ops->begin(f);
	if (f->state == SMTP_ENDED)
		return;
	if (smtp_judge_is_wanted(f, SMTP_PHASE_CONNECT))
		smtp_judge_connect(f);
	else
		connected(f, NULL);
}

static void secured(struct smtp_front *f)
{
	/* RFC 3207 section 4.2: nothing of what was said in clear counts. */
	smtp_front_set_text(&f->helo, SLICE_LIT(""));
	smtp_front_set_text(&f->told_helo, SLICE_LIT(""));
	smtp_front_set_text(&f->told_protocol, SLICE_LIT(""));
	smtp_front_set_text(&f->told_user, SLICE_LIT(""));
	f->client = *conn_peer(f->conn);
	f->ttl = FRONT_TTL;
	f->is_extended = false;
	smtp_front_enter(f, SMTP_COMMAND);
	smtp_front_pump(f);
}

static void on_failed(struct smtp_front *f)
{
	bool tls = f->state == SMTP_HANDSHAKE || f->state == SMTP_SECURING;

	if (tls)
		metric_add(f->service->counters->tls_failed, 1);
	smtp_front_end(f, tls || f->is_mail ? conn_error_detail(f->conn) : NULL);
}

static void on_deadline(void *arg)
{
	struct smtp_front *f = arg;

	if (f->state == SMTP_BANNER) {
		greet(f);
	} else if (f->state == SMTP_DELAY) {
		smtp_front_say_login_failed(f);
		smtp_front_pump(f);
	} else if (f->state == SMTP_PENALTY) {
		smtp_front_ask_tier(f);
	} else {
		if (f->state != SMTP_HANDSHAKE && f->state != SMTP_SECURING)
			SMTP_SAY(f, 421, "4.4.2", "Timeout");
		smtp_front_end(f, "timeout");
	}
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct smtp_front *f = owner;

	(void)conn;
	switch (event) {
	case CONN_OPENED:
		begin(f);
		break;
	case CONN_SECURED:
		secured(f);
		break;
	case CONN_DATA:
		if (f->state == SMTP_BANNER)
			refuse_early_talker(f);
		else
			smtp_front_pump(f);
		break;
	case CONN_DRAINED:
		if (f->state == SMTP_COMMAND && f->is_over && f->service->ops->sent &&
			!conn_output_len(f->conn) && f->is_sent_owed) {
			f->is_sent_owed = false;
			f->service->ops->sent(f);
		}
		smtp_front_pump(f);
		break;
	case CONN_EOF:
		f->is_eof = true;
		if (f->state == SMTP_PENALTY)
			smtp_front_end(f, "client has gone");
		else if (f->state == SMTP_HANDSHAKE || f->state == SMTP_SECURING || f->state == SMTP_BANNER)
			smtp_front_end(f, NULL);
		else
			smtp_front_pump(f);
		break;
	case CONN_FAILED:
		on_failed(f);
		break;
	}
}

void smtp_front_start(struct smtp_service *service, struct conn *conn_take, unsigned flags)
{
	struct smtp_front *f = xcalloc(1, sizeof(*f));

	f->service = smtp_service_ref(service);
	f->conn = conn_take;
	f->loop = conn_loop(conn_take);
	f->client = *conn_peer(conn_take);
	f->ttl = FRONT_TTL;
	if (conn_unique_id(f->conn)[0])
		snprintf(f->session, sizeof(f->session), "%s", conn_unique_id(f->conn));
	else
		random_id(f->session, FRONT_SESSION_LEN);
	timer_init(&f->timer, on_deadline, f);
	arena_init(&f->arena, SMTP_ARENA_MOST);
	conn_set_owner(f->conn, on_event, f);
	conn_set_input_limit(f->conn, SMTP_INPUT_MOST);
	conn_set_marks(f->conn, SMTP_OUTPUT_MOST, 0);
	metric_add(service->counters->connections, 1);
	metric_add(service->counters->open, 1);
	if (flags & FRONT_IMPLICIT_TLS)
		smtp_front_enter(f, SMTP_HANDSHAKE);
	else
		begin(f);
}

void smtp_front_close(struct smtp_front *f, bool now)
{
	if (f->state == SMTP_ENDED)
		return;
	if (now || f->state == SMTP_HANDSHAKE || f->state == SMTP_SECURING) {
		if (f->state != SMTP_HANDSHAKE && f->state != SMTP_SECURING)
			SMTP_SAY(f, 421, "4.3.2", "Closing down");
		smtp_front_end(f, "closed by us");
		return;
	}
	f->is_closing = true;
	if (!f->is_pumping && is_at_rest(f)) {
		SMTP_SAY(f, 421, "4.3.2", "Closing down");
		smtp_front_end(f, NULL);
	}
}

/* ---- services ---- */

static struct metric *counter(const char *name, const char *service, const char *result, const char *help)
{
	struct buf labels = {0};
	struct metric *m;

	buf_printf(&labels, "service=\"%s\"", service);
	if (result)
		buf_printf(&labels, ",result=\"%s\"", result);
	m = metrics_counter(name, buf_str_view(&labels), help);
	buf_deinit(&labels);
	return m;
}

static struct smtp_counters *counters_new(const char *name)
{
	static const char rcpt[] = "mailtier_smtp_recipients", rcpt_help[] = "Answers to RCPT";
	static const char message[] = "mailtier_smtp_messages", message_help[] = "Answers to the end of data";
	static const char login[] = "mailtier_smtp_logins", login_help[] = "Answers to AUTH";
	struct smtp_counters *c = xcalloc(1, sizeof(*c));
	struct buf labels = {0};

	buf_printf(&labels, "service=\"%s\"", name);
	c->connections = counter("mailtier_smtp_connections", name, NULL, "Connections that were accepted");
	c->open = metrics_gauge("mailtier_smtp_open", buf_str_view(&labels), "Connections that are open");
	c->tls_failed =
		counter("mailtier_smtp_tls_failures", name, NULL, "TLS handshakes with clients that failed");
	c->early =
		counter("mailtier_smtp_early_talkers", name, NULL, "Clients that talked before the greeting");
	c->messages = counter(message, name, "yes", message_help);
	c->messages_later = counter(message, name, "later", message_help);
	c->messages_refused = counter(message, name, "no", message_help);
	c->rcpt_yes = counter(rcpt, name, "yes", rcpt_help);
	c->rcpt_later = counter(rcpt, name, "later", rcpt_help);
	c->rcpt_no = counter(rcpt, name, "no", rcpt_help);
	c->logins = counter(login, name, "yes", login_help);
	c->logins_failed = counter(login, name, "no", login_help);
	buf_deinit(&labels);
	return c;
}

void smtp_service_init(struct smtp_service *service, const char *name, const struct smtp_ops *ops, void *tier)
{
	*service = (struct smtp_service){.ops = ops,
		.tier = tier,
		.name = name,
		.host = "",
		.domain = "",
		.bare = SMTP_BARE_NORMALISE};
	service->limits = smtp_limits_default;
	service->counters = counters_new(name);
	atomic_store(&service->refs, 1);
}

struct smtp_service *smtp_service_ref(struct smtp_service *service)
{
	atomic_fetch_add_explicit(&service->refs, 1, memory_order_relaxed);
	return service;
}

void smtp_service_unref(struct smtp_service **service)
{
	struct smtp_service *s = *service;

	*service = NULL;
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(s->counters);
	s->counters = NULL;
	front_auth_unref(&s->auth);
	smtp_policy_unref(&s->policy);
	if (s->free)
		s->free(s);
}

/* ---- what a tier may ask ---- */

struct smtp_service *smtp_front_service(const struct smtp_front *front)
{
	return front->service;
}

struct conn *smtp_front_conn(const struct smtp_front *front)
{
	return front->conn;
}

struct loop *smtp_front_loop(const struct smtp_front *front)
{
	return front->loop;
}

void smtp_front_set_tier(struct smtp_front *front, void *tier)
{
	front->tier = tier;
}

void *smtp_front_tier(const struct smtp_front *front)
{
	return front->tier;
}

const char *smtp_front_session(const struct smtp_front *front)
{
	return front->session;
}

const struct addr *smtp_front_client(const struct smtp_front *front)
{
	return &front->client;
}

const char *smtp_front_helo(const struct smtp_front *front)
{
	const char *helo = front->told_helo ? front->told_helo : front->helo;

	return helo ? helo : "";
}

const char *smtp_front_user(const struct smtp_front *front)
{
	const char *user = front->user ? front->user : front->told_user;

	return user ? user : "";
}

const struct smtp_wish *smtp_front_wish(const struct smtp_front *front)
{
	return &front->wish;
}

unsigned smtp_front_ttl(const struct smtp_front *front)
{
	return front->ttl;
}

void smtp_front_keep_marks(struct smtp_front *f)
{
	f->keeps_marks = true;
}

bool smtp_front_is_trusted(const struct smtp_front *front)
{
	bool (*is_trusted)(struct smtp_front *) = front->service->ops->is_trusted;

	return is_trusted && is_trusted((struct smtp_front *)(uintptr_t)front);
}

/* RFC 3848, RFC 6531 section 4.3: [lmtp][utf8][tls][auth] */
static const char *own_protocol(const struct smtp_front *f)
{
	static const char *const names[2][2][2][2] = {
		{{{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}},
			{{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}}},
		{{{"LMTP", "LMTPA"}, {"LMTPS", "LMTPSA"}},
			{{"UTF8LMTP", "UTF8LMTPA"}, {"UTF8LMTPS", "UTF8LMTPSA"}}},
	};

	if (!f->is_extended)
		return "SMTP";
	return names[f->service->is_lmtp][f->is_utf8][conn_is_secure(f->conn)][f->user != NULL];
}

const char *smtp_front_protocol(const struct smtp_front *f)
{
	return f->told_protocol ? f->told_protocol : own_protocol(f);
}

struct smtp_facts *smtp_front_facts(struct smtp_front *f)
{
	struct smtp_facts *facts = f->facts;

	if (!facts) {
		facts = f->facts = xmalloc(sizeof(*facts));
		smtp_facts_init(facts);
	}
	if (!addr_is_equal_host(&facts->peer, &f->client))
		smtp_facts_forget_peer(facts);
	facts->service = f->service->name;
	facts->peer = f->client;
	facts->helo = smtp_front_helo(f);
	facts->user = smtp_front_user(f);
	facts->messages = f->transactions;
	facts->errors = f->errors;
	facts->recipients = f->accepted;
	if (f->state != SMTP_ENDED) {
		facts->is_tls = conn_is_secure(f->conn);
		facts->is_verified = conn_has_peer_certificate(f->conn);
		facts->tls_text = conn_tls_text(f->conn) ? conn_tls_text(f->conn) : "";
	}
	return facts;
}

/* LMTP: the hop from the proxy, which has written its own field about the client. */
void smtp_front_received(const struct smtp_front *f, int64_t unix_s, struct buf *out)
{
	char text[ADDR_TEXT_MAX];
	/* A proxy of ours has said who the client is in a field of its own: this one is about the hop from it. */
	bool is_hop = f->service->is_lmtp || f->mark.prefix;
	const char *host = addr_host(is_hop ? conn_peer(f->conn) : &f->client, text);
	const char *helo = is_hop ? f->helo : smtp_front_helo(f);

	smtp_spf_write(f, out);
	buf_printf(out, "Received: from %s (", helo && *helo ? helo : "unknown");
	buf_printf(out, strchr(host, ':') ? "[IPv6:%s]" : "[%s]", host);
	buf_printf(out, ")\r\n\tby %s with %s id %s.%u;\r\n\t", host_of(f),
		is_hop ? own_protocol(f) : smtp_front_protocol(f), f->session, f->transactions);
	date_write_rfc5322(unix_s, 0, out);
	buf_add_str(out, "\r\n");
}
