/*
 * States and their deadlines. Only leg_enter() changes the state. finish() is the one way out: it makes the owner's callback its last
 * statement.
 *
 * What fails before a login is answered is the host's fault as long as it has not greeted us: then the next host is tried, in a
 * moment, since the protocol may still be on the stack; conn is NULL until then.
 */
#include "proxy/leg.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/base/base64.h"
#include "common/base/clock.h"
#include "common/base/log.h"

static const struct {
	const char *name;
	const char *text;
	enum front_result front;
	bool is_error;
} results[LEG_RESULTS] = {
	[LEG_OK] = {"ok", "logged in", FRONT_OK, false},
	[LEG_CONNECT] = {"connect", "the back-end takes no connection", FRONT_NOT_NOW, false},
	[LEG_TLS] = {"tls", "TLS with the back-end failed", FRONT_NOT_NOW, true},
	[LEG_CLOSED] = {"closed", "the back-end ended the connection", FRONT_NOT_NOW, false},
	[LEG_PROTOCOL] = {"protocol", "the back-end does not speak as it should", FRONT_NOT_NOW, true},
	[LEG_TIMEOUT] = {"timeout", "the back-end does not answer in time", FRONT_NOT_NOW, false},
	[LEG_DOWN] = {"down", "the back-end is down", FRONT_NOT_NOW, false},
	[LEG_DRAINED] = {"drained", "the back-end is drained", FRONT_NOT_NOW, false},
	[LEG_FULL] = {"full", "the back-end has all that it may", FRONT_NOT_NOW, false},
	[LEG_UNAVAILABLE] = {"unavailable", "the back-end cannot now", FRONT_NOT_NOW, false},
	[LEG_WRONG] = {"wrong-credential", "the back-end refused the credential", FRONT_WRONG, false},
	[LEG_DISTRUSTED] = {"distrusted", "the back-end refused the proxy's own credential", FRONT_NOT_NOW,
		true},
	[LEG_NO_ACCOUNT] = {"no-account", "the back-end has no such account", FRONT_NO_ACCOUNT, false},
	[LEG_IN_USE] = {"in-use", "the mailbox is locked", FRONT_IN_USE, false},
	[LEG_LIMIT] = {"limit", "the back-end counts too many sessions", FRONT_LIMIT, false},
	[LEG_LOOP] = {"loop", "the login goes in circles between proxies", FRONT_NOT_NOW, true},
	[LEG_NO_MECHANISM] = {"no-mechanism", "the back-end offers no way to log in", FRONT_NOT_NOW, true},
	[LEG_MAY_NOT_VOUCH] = {"may-not-vouch", "the proxy's credential may not go over this connection",
		FRONT_NOT_NOW, true},
};

#define TO(state) (1u << (state))
static const struct {
	const char *name;
	unsigned moves;
} states[] = {
	[LEG_DIALING] = {"dialling", TO(LEG_DIALING) | TO(LEG_GREETING) | TO(LEG_ENDED)},
	[LEG_GREETING] = {"greeting", TO(LEG_DIALING) | TO(LEG_STARTTLS) | TO(LEG_CAPABILITY) |
					      TO(LEG_READY) | TO(LEG_LOGIN) | TO(LEG_ENDED)},
	[LEG_STARTTLS] = {"starttls", TO(LEG_DIALING) | TO(LEG_SECURING) | TO(LEG_ENDED)},
	[LEG_SECURING] = {"securing",
		TO(LEG_DIALING) | TO(LEG_CAPABILITY) | TO(LEG_READY) | TO(LEG_LOGIN) | TO(LEG_ENDED)},
	[LEG_CAPABILITY] = {"capability", TO(LEG_DIALING) | TO(LEG_READY) | TO(LEG_LOGIN) | TO(LEG_ENDED)},
	[LEG_READY] = {"ready", TO(LEG_ENDED)},
	[LEG_LOGIN] = {"login", TO(LEG_DIALING) | TO(LEG_ENDED)},
	[LEG_ENDED] = {"ended", 0},
};

const char *leg_result_name(enum leg_result result)
{
	return results[result].name;
}

const char *leg_result_text(enum leg_result result)
{
	return results[result].text;
}

enum front_result leg_result_front(enum leg_result result)
{
	return results[result].front;
}

bool leg_result_is_error(enum leg_result result)
{
	return results[result].is_error;
}

void leg_enter(struct leg *leg, enum leg_state state)
{
	require(states[leg->state].moves & TO(state));
	leg->state = state;
}

/* How a leg ended, and what that says of its host. */
static bool is_of_host(enum leg_result result)
{
	return result == LEG_CONNECT || result == LEG_TLS || result == LEG_CLOSED || result == LEG_PROTOCOL ||
	       result == LEG_TIMEOUT || result == LEG_UNAVAILABLE;
}

static bool is_greeted(const struct leg *leg)
{
	return leg->state == LEG_READY || leg->state == LEG_LOGIN;
}

/* The one way out. */
static void finish(struct leg *leg, enum leg_result result)
{
	timer_stop(&leg->timer);
	if (!leg->is_probe && is_greeted(leg) && !is_of_host(result) && result != LEG_DOWN)
		backend_tried(leg->backend, leg->attempt.host, leg->protocol->protocol, 0, NULL);
	leg_enter(leg, LEG_ENDED);
	if (result != LEG_OK && leg->conn)
		conn_close(&leg->conn);
	leg->fn(leg->arg, result, leg->detail);
}

static void dial_it(struct leg *leg);

static void on_moment_passed(void *arg)
{
	dial_it(arg);
}

/* Leaves this host for the next. */
static bool go_to_next_host(struct leg *leg)
{
	if (leg->is_probe || !backend_next_host(leg->backend, leg->protocol->protocol, &leg->attempt))
		return false;
	if (leg->conn)
		conn_close(&leg->conn);
	timer_stop(&leg->timer);
	leg_enter(leg, LEG_DIALING);
	leg->is_spare = leg->is_challenged = leg->is_flown = leg->is_believed = leg->is_by_user = false;
	leg->step = 0;
	leg->taking = 0;
	timer_init(&leg->timer, on_moment_passed, leg);
	timer_set(&leg->timer, leg->loop, 0);
	return true;
}

void leg_fail(struct leg *leg, enum leg_result result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(leg->detail, sizeof(leg->detail), format, args);
	va_end(args);
	if (is_of_host(result) && !is_greeted(leg) && !leg->is_probe) {
		char text[256];

		snprintf(text, sizeof(text), "%s: %s", leg_result_text(result), leg->detail);
		backend_tried(leg->backend, leg->attempt.host, leg->protocol->protocol, ERR_NOT_NOW, text);
		if (go_to_next_host(leg))
			return;
	}
	finish(leg, result);
}

void leg_host_is_down(struct leg *leg)
{
	/* A login that was sent and not answered may be sent again elsewhere: it changes nothing. */
	leg->attempt.until_ms = 0;
	leg->attempt.tried |= 1u << leg->attempt.host;
	if (!go_to_next_host(leg))
		leg_fail(leg, LEG_DOWN, "%s", "found while waiting");
}

static void fail_plain(struct leg *leg, enum leg_result result)
{
	leg_fail(leg, result, "while %s", states[leg->state].name);
}

static void pump(struct leg *leg)
{
	while (leg->conn && leg->state != LEG_ENDED && leg->state != LEG_SECURING &&
		leg->state != LEG_DIALING && conn_input(leg->conn).len) {
		ssize_t n = leg->protocol->take(leg);

		if (n == 0)
			break;
		if (n < 0) {
			fail_plain(leg, LEG_PROTOCOL);
			break;
		}
	}
}

static void dial_again(struct leg *leg);

static void opened(struct leg *leg)
{
	timer_set(&leg->timer, leg->loop,
		backend_greeting_ms(leg->backend, leg->protocol->protocol, &leg->attempt));
	leg_enter(leg, LEG_GREETING);
	pump(leg);
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct leg *leg = owner;

	(void)conn;
	switch (event) {
	case CONN_OPENED:
		opened(leg);
		break;
	case CONN_SECURED:
		leg->protocol->secured(leg);
		break;
	case CONN_DATA:
		leg->is_spare = false;
		pump(leg);
		break;
	case CONN_DRAINED:
		break;
	case CONN_EOF:
		if (leg->is_spare)
			dial_again(leg);
		else
			fail_plain(leg, LEG_CLOSED);
		break;
	case CONN_FAILED:
		if (leg->is_spare)
			dial_again(leg);
		else if (conn_error(leg->conn) == ERR_TLS)
			leg_fail(leg, LEG_TLS, "%s", conn_error_detail(leg->conn));
		else if (leg->state == LEG_DIALING)
			leg_fail(leg, conn_error(leg->conn) == ERR_TIMEOUT ? LEG_TIMEOUT : LEG_CONNECT, "%s",
				conn_error_detail(leg->conn));
		else
			leg_fail(leg, LEG_CLOSED, "%s", conn_error_detail(leg->conn));
		break;
	}
}

static void on_deadline(void *arg)
{
	fail_plain(arg, LEG_TIMEOUT);
}

/* All that a login in one flight needs is known. */
static bool can_fly(const struct leg *leg)
{
	unsigned needed = BACKEND_KNOWN | BACKEND_AUTH_PLAIN | BACKEND_SASL_IR;

	return leg->has_login && leg->backend->hosts[leg->attempt.host].may_fly &&
	       (leg->capabilities & needed) == needed;
}

static void fail_to_dial(void *arg)
{
	leg_fail(arg, LEG_CONNECT, "%s", "no descriptor, no free port, or no such address");
}

static void fail_no_host(void *arg)
{
	leg_fail(arg, LEG_DOWN, "%s", "no host is up");
}

static void begin(struct leg *leg, const struct leg_protocol *protocol, struct backend *backend,
	struct loop *loop, const struct leg_login *login, leg_fn *fn, void *arg)
{
	leg->protocol = protocol;
	leg->backend = backend_ref(backend);
	leg->loop = loop;
	leg->fn = fn;
	leg->arg = arg;
	leg->has_login = login != NULL;
	leg->capabilities = login ? backend_capabilities(backend, protocol->protocol) : 0;
	if (login)
		leg->login = *login;
	timer_init(&leg->timer, on_deadline, leg);
}

/* Told in a moment, so that the owner is not called from within. */
static void fail_soon(struct leg *leg, loop_fn *fn)
{
	timer_init(&leg->timer, fn, leg);
	timer_set(&leg->timer, leg->loop, 0);
}

/* What goes before everything else. */
static void add_header(const struct leg *leg, struct buf *header)
{
	const struct leg_login *l = &leg->login;
	struct identity_client client = {.client = l->client, .local = l->local, .session = l->session};

	if (leg->backend->identity != IDENTITY_PROXY_V2)
		return;
	if (leg->has_login) {
		client.tls = conn_tls_text(l->conn);
		client.is_secure = l->is_secure;
	}
	identity_write(header, leg->has_login ? &client : NULL);
}

static void dial_it(struct leg *leg)
{
	const struct backend *b = leg->backend;
	struct buf header = {0};
	int err;

	add_header(leg, &header);
	err = backend_dial(leg->backend, leg->protocol->protocol, leg->port, &leg->attempt, buf_view(&header),
		leg->loop, on_event, leg, &leg->conn);
	buf_deinit(&header);
	if (err < 0) {
		fail_soon(leg, fail_to_dial);
		return;
	}
	timer_init(&leg->timer, on_deadline, leg);
	/* dial() keeps a deadline itself; this one is the belt. */
	timer_set(&leg->timer, leg->loop, b->connect_ms + 1000);
	leg->capabilities = leg->has_login ? backend_capabilities(leg->backend, leg->protocol->protocol) : 0;
	if (can_fly(leg)) {
		leg->is_flown = true;
		leg->protocol->log_in(leg);
	}
}

/* The spare connection had ended before it heard of us: once more, from the beginning. */
static void dial_again(struct leg *leg)
{
	leg->attempt = (struct backend_try){0};
	if (!go_to_next_host(leg))
		leg_fail(leg, LEG_DOWN, "%s", "a spare connection has ended");
}

void leg_start(struct leg *leg, const struct leg_protocol *protocol, struct backend *backend, uint16_t port,
	struct loop *loop, const struct leg_login *login, leg_fn *fn, void *arg)
{
	begin(leg, protocol, backend, loop, login, fn, arg);
	leg->has_connection = true;
	leg->port = port;
	if (backend_next_host(backend, protocol->protocol, &leg->attempt))
		dial_it(leg);
	else
		fail_soon(leg, fail_no_host);
}

void leg_start_on(struct leg *leg, const struct leg_protocol *protocol, struct backend *backend,
	unsigned host, struct conn *conn_take, const struct leg_login *login, leg_fn *fn, void *arg)
{
	begin(leg, protocol, backend, conn_loop(conn_take), login, fn, arg);
	leg->has_connection = true;
	leg->attempt = (struct backend_try){.host = host, .tried = 1u << host};
	leg->conn = conn_take;
	leg->is_spare = true;
	conn_set_owner(conn_take, on_event, leg);
	timer_set(&leg->timer, leg->loop, backend->login_ms);
	leg_enter(leg, LEG_GREETING);
	leg_ready(leg);
}

void leg_start_probe(struct leg *leg, const struct leg_protocol *protocol, struct backend *backend,
	unsigned host, struct loop *loop, leg_fn *fn, void *arg)
{
	begin(leg, protocol, backend, loop, NULL, fn, arg);
	leg->is_probe = true;
	leg->attempt = (struct backend_try){
		.host = host, .tried = ~0u, .until_ms = clock_mono_ms() + backend->connect_ms};
	dial_it(leg);
}

void leg_deinit(struct leg *leg)
{
	timer_stop(&leg->timer);
	if (leg->conn)
		conn_close(&leg->conn);
	if (leg->has_connection)
		backend_disconnected(leg->backend);
	leg->has_connection = false;
	backend_unref(&leg->backend);
	buf_deinit(&leg->announced);
}

struct conn *leg_take_conn(struct leg *leg)
{
	struct conn *conn = leg->conn;

	leg->conn = NULL;
	leg->has_connection = false;
	if (conn && leg->taking)
		conn_consume(conn, leg->taking);
	leg->taking = 0;
	return conn;
}

/* ---- for the protocols ---- */

void leg_start_tls(struct leg *leg)
{
	/* Octets behind the server's OK were sent in clear by whoever: nothing of them may be believed. */
	if (conn_input(leg->conn).len) {
		leg_fail(leg, LEG_TLS, "%s", "octets behind the answer to STARTTLS");
		return;
	}
	leg_enter(leg, LEG_SECURING);
	leg->capabilities = leg->has_login ? backend_capabilities(leg->backend, leg->protocol->protocol) : 0;
	if (conn_start_tls_client(
		    leg->conn, leg->backend->tls, leg->backend->hosts[leg->attempt.host].server_name) < 0)
		leg_fail(leg, LEG_TLS, "%s", "TLS cannot be started");
}

void leg_ready(struct leg *leg)
{
	if (!leg->has_login) {
		leg_enter(leg, LEG_READY);
		leg_ok(leg);
	} else if (leg->backend->trust == BACKEND_PROXY_AUTH && !backend_may_vouch(leg->backend, leg->conn)) {
		leg_fail(leg, LEG_MAY_NOT_VOUCH, "%s", "neither verified TLS nor loopback");
	} else {
		leg_enter(leg, LEG_LOGIN);
		leg->protocol->log_in(leg);
	}
}

void leg_ok(struct leg *leg)
{
	finish(leg, LEG_OK);
}

void leg_learn(struct leg *leg, unsigned capabilities)
{
	leg->capabilities = capabilities | BACKEND_KNOWN;
	backend_learn(leg->backend, leg->protocol->protocol, leg->capabilities);
}

void leg_add_plain(struct leg *leg, struct buf *out)
{
	const struct backend *b = leg->backend;
	bool is_ours = b->trust == BACKEND_PROXY_AUTH;
	struct buf raw = {0};

	if (is_ours)
		buf_add_slice(&raw, leg->login.account);
	buf_add_char(&raw, '\0');
	buf_add_slice(&raw, is_ours ? slice_str(b->user) : leg->login.account);
	buf_add_char(&raw, '\0');
	buf_add_slice(&raw, is_ours ? secret_view(&b->credential) : leg->login.password);
	base64_encode(out, buf_view(&raw));
	secret_wipe(raw.data, raw.cap);
	buf_deinit(&raw);
}

void leg_set_detail(struct leg *leg, struct slice text)
{
	size_t n = text.len < sizeof(leg->detail) - 1 ? text.len : sizeof(leg->detail) - 1;

	if (n)
		memcpy(leg->detail, text.p, n);
	leg->detail[n] = '\0';
}
