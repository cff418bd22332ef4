/*
 * The state machine before login.
 *
 *	HANDSHAKE --> COMMAND <--> SASL
 *	                |  ^  \      |
 *	                |  |   +-> [PENALTY] --> LOGIN --> (hand-over) ENDED
 *	                |  |        |
 *	                v  +--------+--> DELAY --> COMMAND
 *	             SECURING --> COMMAND
 *
 * A ticket is looked at by a worker while the state is LOGIN already; who showed it may have to wait in PENALTY then.
 * A challenge mechanism goes SASL -> LOGIN (the tier fetches what is stored, a worker may compute) -> SASL (the client answers the
 * challenge) -> LOGIN (the tier decides).
 *
 * Only enter() changes the state; each state has its deadline. Input is taken in COMMAND and SASL alone, one unit at a
 * time, and only while little waits to be sent, so that a client who asks and never reads stops being read.
 */
#include "common/front/dialogue.h"

#include <stdlib.h>

#include "common/auth/auth_name.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/base/random.h"
#include "common/front/counters.h"
#include "common/front/front_auth.h"
#include "common/front/front_penalty.h"

#define DELAY_MOST_MS 15000
#define HTTP_LOOK_MOST 512 /* octets of a line that are held back until it shows what it is */

#define TO(state) (1u << (state))
static const struct {
	const char *name;
	size_t deadline; /* of struct front_limits; 0 stands for none */
	bool takes_input;
	unsigned moves;
} states[] = {
	[FRONT_HANDSHAKE] = {"handshake", offsetof(struct front_limits, tls_ms) + 1, false,
		TO(FRONT_COMMAND) | TO(FRONT_ENDED)},
	[FRONT_COMMAND] = {"command", offsetof(struct front_limits, command_ms) + 1, true,
		TO(FRONT_COMMAND) | TO(FRONT_SASL) | TO(FRONT_SECURING) | TO(FRONT_PENALTY) |
			TO(FRONT_LOGIN) | TO(FRONT_DELAY) | TO(FRONT_ENDED)},
	[FRONT_SASL] = {"sasl", offsetof(struct front_limits, command_ms) + 1, true,
		TO(FRONT_COMMAND) | TO(FRONT_SASL) | TO(FRONT_PENALTY) | TO(FRONT_LOGIN) | TO(FRONT_DELAY) |
			TO(FRONT_ENDED)},
	[FRONT_SECURING] = {"securing", offsetof(struct front_limits, tls_ms) + 1, false,
		TO(FRONT_COMMAND) | TO(FRONT_ENDED)},
	[FRONT_PENALTY] = {"penalty", 0, false, TO(FRONT_LOGIN) | TO(FRONT_ENDED)},
	[FRONT_LOGIN] = {"login", offsetof(struct front_limits, login_ms) + 1, false,
		TO(FRONT_COMMAND) | TO(FRONT_SASL) | TO(FRONT_PENALTY) | TO(FRONT_LOGIN) | TO(FRONT_DELAY) |
			TO(FRONT_ENDED)},
	[FRONT_DELAY] = {"delay", 0, false, TO(FRONT_COMMAND) | TO(FRONT_ENDED)},
	[FRONT_ENDED] = {"ended", 0, false, 0},
};

static const char *const bye_names[DIALOGUE_BYE_TEXTS] = {
	[DIALOGUE_BYE_TIMEOUT] = "silent for too long",
	[DIALOGUE_BYE_WRONG_COMMANDS] = "too many wrong commands",
	[DIALOGUE_BYE_FAILED_LOGINS] = "too many failed logins",
	[DIALOGUE_BYE_TOO_BIG] = "line or literal too long",
};

/* Those of this thread's loop. */
static _Thread_local struct list fronts;
static _Thread_local uint64_t numbers;

static struct list *own_fronts(void)
{
	if (!fronts.next)
		list_init(&fronts);
	return &fronts;
}

static struct loop *loop_of(const struct front *f)
{
	return conn_loop(f->conn);
}

/* The one place that changes the state. */
static void enter(struct front *f, enum front_state state)
{
	require(states[f->state].moves & TO(state));
	f->state = state;
	if (states[state].deadline) {
		uint64_t now = loop_now_ms(loop_of(f));
		uint64_t ms = *(const uint64_t *)(const void *)((const char *)&f->service->limits +
								states[state].deadline - 1);

		if (states[state].takes_input && now + ms > f->until_ms)
			ms = f->until_ms > now ? f->until_ms - now : 0;
		timer_set(&f->timer, loop_of(f), ms);
	} else {
		timer_stop(&f->timer);
	}
}

/* At the end of the turn: views of the tag and the session id have lived till now. */
static void free_front(void *arg)
{
	struct front *f = arg;

	arena_wipe(&f->arena);
	arena_deinit(&f->arena);
	front_service_unref(&f->service);
	free(f);
}

static void forget_credentials(struct front *f)
{
	sasl_session_free(&f->sasl);
	arena_wipe(&f->arena);
	f->credentials = (struct front_credentials){0};
	f->login = NULL;
}

/* The connection is closed or given away; nothing of f is touched after this turn. */
static void ended(struct front *f, struct loop *loop)
{
	enter(f, FRONT_ENDED);
	list_remove(&f->link);
	sasl_session_free(&f->sasl);
	metric_add(f->service->counters->open, -1);
	loop_defer(loop, free_front, f);
}

static void cancel_login(struct front *f)
{
	penalty_waited(&f->attempt);
	if (f->is_asked)
		f->service->ops->cancel(f);
	f->is_asked = false;
	f->login = NULL;
}

void dialogue_end(struct front *f)
{
	struct loop *loop = loop_of(f);

	cancel_login(f);
	conn_close(&f->conn);
	ended(f, loop);
}

void dialogue_drop(struct front *f, const char *why)
{
	char text[ADDR_TEXT_MAX];

	log_info(f->service->name, "%s: closed before login: %s client=%s state=%s", f->session, why,
		addr_host(&f->client, text), states[f->state].name);
	dialogue_end(f);
}

static void bye(struct front *f, enum dialogue_bye reason)
{
	f->protocol->say_bye(f, reason);
	dialogue_drop(f, bye_names[reason]);
}

/* Takes what the state allows. The last thing a callback does. */
static void pump(struct front *f)
{
	f->is_pumping = true;
	while (states[f->state].takes_input) {
		ssize_t n;

		if (conn_output_len(f->conn) > DIALOGUE_OUTPUT_MOST) {
			conn_flush(f->conn);
			if (conn_output_len(f->conn) > DIALOGUE_OUTPUT_MOST) {
				conn_want_drained(f->conn);
				break;
			}
		}
		if (conn_input(f->conn).len == 0)
			break;
		n = f->protocol->take(f);
		if (f->state == FRONT_ENDED)
			return;
		if (n < 0) {
			bye(f, DIALOGUE_BYE_TOO_BIG);
			return;
		}
		if (n == 0)
			break;
		if (f->state == FRONT_COMMAND)
			enter(f, FRONT_COMMAND);
	}
	f->is_pumping = false;
	if (f->is_ended && states[f->state].takes_input)
		dialogue_end(f);
}

static void begin(struct front *f, bool is_new)
{
	enter(f, FRONT_COMMAND);
	if (is_new)
		f->protocol->greet(f);
	pump(f);
}

static void secured(struct front *f)
{
	f->protocol->reset(f);
	f->client = *conn_peer(f->conn);
	f->local = *conn_local(f->conn);
	f->is_proxied = f->is_secure = false;
	f->ttl = FRONT_TTL;
	f->wrong_commands = 0;
	forget_credentials(f);
	enter(f, FRONT_COMMAND);
	pump(f);
}

static void failed(struct front *f)
{
	if (f->state == FRONT_HANDSHAKE || f->state == FRONT_SECURING) {
		metric_add(f->service->counters->tls_failed, 1);
		dialogue_drop(f, conn_error_detail(f->conn));
	} else {
		dialogue_end(f);
	}
}

static void on_event(void *owner, struct conn *conn, enum conn_event event)
{
	struct front *f = owner;

	(void)conn;
	switch (event) {
	case CONN_OPENED:
		if (f->state == FRONT_HANDSHAKE)
			begin(f, true);
		break;
	case CONN_SECURED:
		if (f->state == FRONT_SECURING)
			secured(f);
		break;
	case CONN_DATA:
	case CONN_DRAINED:
		pump(f);
		break;
	case CONN_EOF:
		f->is_ended = true;
		if (f->state == FRONT_HANDSHAKE || f->state == FRONT_SECURING)
			failed(f);
		else if (f->state == FRONT_PENALTY)
			dialogue_drop(f, "client has gone");
		else
			pump(f);
		break;
	case CONN_FAILED:
		failed(f);
		break;
	}
}

/* Of both the same is seen, from the first to the last of a session: only penalties know which it was. */
static bool is_failure(enum front_result result)
{
	return result == FRONT_WRONG || result == FRONT_UNSERVED;
}

/* What a refusal says, and what comes after it. */
static void answer(struct front *f, enum front_result result)
{
	f->protocol->say_result(f, result);
	forget_credentials(f);
	if (is_failure(result) && f->failed_logins >= f->service->limits.failed_logins) {
		bye(f, DIALOGUE_BYE_FAILED_LOGINS);
		return;
	}
	enter(f, FRONT_COMMAND);
	if (!f->is_pumping)
		pump(f);
}

static void ask_tier(struct front *f)
{
	penalty_waited(&f->attempt);
	/* A failure's delay counts from here, or who has waited already would see how long the tier takes. */
	f->login_began_ms = loop_now_ms(loop_of(f));
	enter(f, FRONT_LOGIN);
	f->is_asked = true;
	f->service->ops->login(f, &f->credentials);
}

static void on_deadline(void *arg)
{
	struct front *f = arg;

	switch (f->state) {
	case FRONT_HANDSHAKE:
	case FRONT_SECURING:
		dialogue_drop(f, "no TLS handshake in time");
		break;
	case FRONT_COMMAND:
	case FRONT_SASL:
		bye(f, DIALOGUE_BYE_TIMEOUT);
		break;
	case FRONT_PENALTY:
		ask_tier(f);
		break;
	case FRONT_LOGIN:
		cancel_login(f);
		front_refuse(f, FRONT_NOT_NOW, "no answer in time");
		break;
	case FRONT_DELAY:
		answer(f, FRONT_WRONG);
		break;
	case FRONT_ENDED:
		break;
	}
}

void dialogue_start(struct front *f, const struct dialogue_protocol *protocol, struct front_service *service,
	struct conn *conn_take, unsigned flags)
{
	list_add_last(own_fronts(), &f->link);
	f->number = ++numbers;
	f->since = clock_wall_s();
	f->protocol = protocol;
	f->service = front_service_ref(service);
	f->conn = conn_take;
	f->client = *conn_peer(f->conn);
	f->local = *conn_local(f->conn);
	f->ttl = FRONT_TTL;
	f->until_ms = loop_now_ms(loop_of(f)) + service->limits.dialogue_ms;
	timer_init(&f->timer, on_deadline, f);
	f->takes_tickets = front_auth_takes_tickets(service->auth);
	arena_init(&f->arena, f->takes_tickets ? DIALOGUE_TICKET_ARENA_MOST : DIALOGUE_ARENA_MOST);
	random_id(f->session, FRONT_SESSION_LEN);
	if (conn_unique_id(f->conn)[0])
		require(dialogue_told_session(f, slice_str(conn_unique_id(f->conn))) == 0);
	metric_add(service->counters->connections, !(flags & FRONT_RETURNED));
	metric_add(service->counters->open, 1);
	f->is_ended = flags & FRONT_HALF_CLOSED;
	conn_set_owner(f->conn, on_event, f);
	conn_set_input_limit(f->conn, dialogue_line_most(f));
	conn_set_marks(f->conn, DIALOGUE_OUTPUT_MOST, DIALOGUE_OUTPUT_MOST / 2);
	f->state = FRONT_HANDSHAKE;
	if (flags & FRONT_IMPLICIT_TLS)
		timer_set(&f->timer, loop_of(f), service->limits.tls_ms);
	else
		begin(f, !(flags & FRONT_RETURNED));
}

void front_end_all(void)
{
	list_for_each_safe (at, own_fronts())
		dialogue_end(container_of(at, struct front, link));
}

void front_each(struct session_walk *walk)
{
	list_for_each_safe (at, own_fronts()) {
		struct front *f = container_of(at, struct front, link);

		if (session_walk_wants(walk, f->number) &&
			session_walk_take(walk, &(struct session_info){
							.number = f->number,
							.id = f->session,
							.service = f->service->name,
							.user = "",
							.peer = &f->client,
							.backend = "",
							.state = states[f->state].name,
							.since = f->since,
						}))
			dialogue_drop(f, "ended by the operator");
	}
}

/* ---- for take() ---- */

bool dialogue_takes_passwords(const struct front *f)
{
	return front_auth_takes_passwords(f->service->auth, f->conn, f->service->allows_clear);
}

size_t dialogue_line_most(const struct front *f)
{
	return f->takes_tickets ? DIALOGUE_TICKET_INPUT_MOST : DIALOGUE_INPUT_MOST;
}

size_t dialogue_offered(const struct front *f, const char *offered_out[SASL_MECHANISM_COUNT + 1])
{
	return front_auth_offered(f->service->auth, f->conn, f->service->allows_clear, offered_out);
}

bool dialogue_is_trusted(struct front *f)
{
	return f->service->ops->is_trusted && f->service->ops->is_trusted(f);
}

static const char *const http_verbs[] = {"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "CONNECT ",
	"TRACE ", "PATCH ", "PRI ", NULL};

bool dialogue_is_http(struct slice input)
{
	ptrdiff_t end = slice_find(input, '\n');
	struct slice line = slice_sub(input, 0, end < 0 ? input.len : (size_t)end);

	for (const char *const *verb = http_verbs; *verb; verb++) {
		struct slice rest;

		if (!slice_has_prefix(line, *verb))
			continue;
		rest = slice_from(line, strlen(*verb));
		return slice_has_prefix(rest, "/") || memmem(rest.p, rest.len, " HTTP/", 6) ||
		       memmem(rest.p, rest.len, "://", 3);
	}
	return false;
}

bool dialogue_may_be_http(struct slice input)
{
	if (input.len > HTTP_LOOK_MOST || slice_find(input, '\n') >= 0)
		return false;
	for (const char *const *verb = http_verbs; *verb; verb++) {
		size_t n = strlen(*verb);

		if (memcmp(input.p, *verb, input.len < n ? input.len : n) == 0)
			return true;
	}
	return false;
}

bool dialogue_wrong_command(struct front *f)
{
	if (++f->wrong_commands < f->service->limits.wrong_commands)
		return true;
	bye(f, DIALOGUE_BYE_WRONG_COMMANDS);
	return false;
}

void dialogue_consume_secret(struct front *f, size_t n)
{
	struct slice in = conn_input(f->conn);

	/* The memory is the connection's and about to be forgotten. */
	secret_wipe((char *)(uintptr_t)in.p, n);
	conn_consume(f->conn, n);
}

void dialogue_start_tls(struct front *f)
{
	int err = conn_start_tls_server(f->conn, f->service->tls);

	if (err == ERR_DENIED) {
		log_warn(f->service->name, "%s: octets behind STARTTLS: attempt at command injection",
			f->session);
		dialogue_drop(f, "octets behind STARTTLS");
	} else if (err < 0) {
		dialogue_drop(f, "TLS cannot be started");
	} else {
		enter(f, FRONT_SECURING);
	}
}

static bool can_be(const struct front_credentials *c)
{
	int err = c->shown == FRONT_SHOWN_PASSWORD ? auth_name_check_login(c->authcid, c->password)
						   : auth_name_check(c->authcid);

	return err == 0 && c->authzid.len <= FRONT_NAME_MOST && !slice_has_control(c->authzid) &&
	       slice_is_utf8(c->authzid);
}

/* The client's own failures count, as a proxy told of him: never those of a proxy that told nothing, or that has checked
 * the user itself and shows its own credential. */
static bool has_penalty(struct front *f)
{
	const struct front_credentials *c = &f->credentials;

	if (!f->service->penalty)
		return false;
	return !dialogue_is_trusted(f) ||
	       (!addr_is_equal_host(&f->client, conn_raw_peer(f->conn)) &&
		       (!c->authzid.len || slice_is_equal(c->authzid, c->authcid)));
}

/* Too many logins of this client's address wait already. */
static void refuse_at_once(struct front *f)
{
	metric_add(f->service->counters->logins[FRONT_NOT_NOW], 1);
	f->protocol->say_result(f, FRONT_NOT_NOW);
	f->protocol->say_bye(f, DIALOGUE_BYE_FAILED_LOGINS);
	dialogue_drop(f, "too many logins of this address are waiting after failed ones");
}

static void penalise(struct front *f)
{
	char text[ADDR_TEXT_MAX];
	uint64_t ms = 0;

	if (has_penalty(f) && front_penalty_begin(f->service->penalty, &f->client, f->credentials.authcid,
				      f->service->domain, &f->attempt, &ms) < 0) {
		refuse_at_once(f);
	} else if (ms) {
		log_info(f->service->name, "%s: login waits after failed ones ms=%llu user=%.*s client=%s",
			f->session, (unsigned long long)ms, SLICE_ARG(f->credentials.authcid),
			addr_host(&f->client, text));
		enter(f, FRONT_PENALTY);
		timer_set(&f->timer, loop_of(f), ms);
	} else {
		ask_tier(f);
	}
}

void dialogue_login(struct front *f, const struct front_credentials *credentials)
{
	bool was_fetched = f->credentials.shown == FRONT_SHOWN_FETCH;

	f->credentials = *credentials;
	f->login_began_ms = loop_now_ms(loop_of(f));
	if (!was_fetched)
		f->attempt = (struct penalty_attempt){0};
	if (!can_be(credentials)) {
		enter(f, FRONT_LOGIN);
		front_refuse(f, FRONT_WRONG, "no name or password can be like this");
		return;
	}
	if (was_fetched)
		ask_tier(f); /* he has waited before the challenge */
	else
		penalise(f);
}

/* Who he is, is known: a password to check, or the proof of a name. */
static void sasl_ended(struct front *f)
{
	struct sasl_result *result = sasl_session_result(f->sasl);
	struct front_credentials credentials = {
		.shown = result->shown == SASL_SHOWN_PROVEN ? FRONT_SHOWN_PROVEN : FRONT_SHOWN_PASSWORD,
		.authzid = result->authzid,
		.authcid = result->authcid,
		.password = secret_view(&result->password),
		.mechanism = f->credentials.mechanism,
	};

	dialogue_login(f, &credentials);
}

/* A challenge, a ticket or a certificate was not good. */
static void sasl_denied(struct front *f)
{
	const char *why = sasl_session_why(f->sasl);

	f->credentials.authcid = sasl_session_name(f->sasl);
	if (f->state != FRONT_LOGIN) {
		f->login_began_ms = loop_now_ms(loop_of(f));
		enter(f, FRONT_LOGIN);
	}
	if (sasl_session_is_unserved(f->sasl))
		front_refuse(f, FRONT_UNSERVED, "what is stored cannot serve this mechanism");
	else
		front_refuse(f, FRONT_WRONG, *why ? why : NULL);
}

static void sasl_failed(struct front *f, int err)
{
	if (f->state == FRONT_LOGIN && err == ERR_NOT_NOW) {
		front_refuse(f, FRONT_NOT_NOW, sasl_session_why(f->sasl));
		return;
	}
	f->protocol->say_sasl_failed(f, err);
	forget_credentials(f);
	enter(f, FRONT_COMMAND);
	(void)dialogue_wrong_command(f);
}

/* After a step of SASL: the end of it, a challenge, or something to wait for. */
static void sasl_stepped(struct front *f, int err, struct slice challenge)
{
	switch (err) {
	case 0:
		sasl_ended(f);
		break;
	case ERR_MORE:
		f->protocol->say_challenge(f, challenge);
		enter(f, FRONT_SASL);
		break;
	case SASL_LATER:
		if (f->state != FRONT_LOGIN) {
			f->login_began_ms = loop_now_ms(loop_of(f));
			enter(f, FRONT_LOGIN);
		}
		break;
	case SASL_WANTS:
		dialogue_login(f, &(struct front_credentials){.shown = FRONT_SHOWN_FETCH,
					  .authcid = sasl_session_name(f->sasl),
					  .mechanism = f->credentials.mechanism});
		break;
	case ERR_DENIED:
		sasl_denied(f);
		break;
	default:
		sasl_failed(f, err);
		break;
	}
}

/* What came later: input has waited. */
static void sasl_came(void *arg, int err, struct slice challenge)
{
	struct front *f = arg;

	sasl_stepped(f, err, challenge);
	if (states[f->state].takes_input && !f->is_pumping)
		pump(f);
}

void dialogue_sasl_start(struct front *f, struct slice mechanism, struct slice initial)
{
	struct buf challenge = {0};
	struct sasl_options options = {.service = f->protocol->sasl_service,
		.mechanism = mechanism,
		.realm = f->service->domain,
		.fn = sasl_came,
		.arg = f};
	int err = front_auth_begin(f->service->auth, f->conn, f->service->allows_clear, &options, &f->sasl);

	f->attempt = (struct penalty_attempt){0};
	f->credentials.mechanism = sasl_mechanism(mechanism);
	if (err == 0)
		err = sasl_session_start(f->sasl, initial, &challenge);
	sasl_stepped(f, err, buf_view(&challenge));
	buf_deinit(&challenge);
}

void dialogue_sasl_line(struct front *f, struct slice line)
{
	struct buf challenge = {0};
	int err = sasl_session_step(f->sasl, line, &challenge);

	sasl_stepped(f, err, buf_view(&challenge));
	buf_deinit(&challenge);
}

void front_give_stored(struct front *f, struct slice stored, bool is_known)
{
	struct buf challenge = {0};
	int err;

	require(f->state == FRONT_LOGIN && f->credentials.shown == FRONT_SHOWN_FETCH);
	f->login = NULL;
	f->is_asked = false;
	err = sasl_session_give(f->sasl, stored, is_known, &challenge);
	sasl_came(f, err, buf_view(&challenge));
	buf_deinit(&challenge);
}

/* ---- what a trusted proxy tells ---- */

static int told_host(struct slice host, struct addr *addr)
{
	struct addr parsed;

	if (addr_parse(host, addr->len ? addr_port(addr) : 0, &parsed) < 0 || parsed.ss.ss_family == AF_UNIX)
		return ERR_SYNTAX;
	*addr = parsed;
	return 0;
}

static int told_port(struct slice port, struct addr *addr)
{
	uint32_t n;

	if (num_parse_u32(port, &n) < 0 || n > UINT16_MAX)
		return ERR_SYNTAX;
	addr_set_port(addr, (uint16_t)n);
	return 0;
}

int dialogue_told_client_host(struct front *f, struct slice host)
{
	int err = told_host(host, &f->client);

	if (err == 0)
		f->is_proxied = true;
	return err;
}

int dialogue_told_client_port(struct front *f, struct slice port)
{
	return told_port(port, &f->client);
}

int dialogue_told_local_host(struct front *f, struct slice host)
{
	return told_host(host, &f->local);
}

int dialogue_told_local_port(struct front *f, struct slice port)
{
	return told_port(port, &f->local);
}

int dialogue_told_session(struct front *f, struct slice session)
{
	if (session.len == 0 || session.len > FRONT_SESSION_MOST || !slice_is_ascii(session))
		return ERR_SYNTAX;
	for (size_t i = 0; i < session.len; i++) {
		if (session.p[i] <= ' ' || session.p[i] == 0x7f)
			return ERR_SYNTAX;
	}
	memcpy(f->session, session.p, session.len);
	f->session[session.len] = '\0';
	return 0;
}

int dialogue_told_transport(struct front *f, struct slice transport)
{
	f->is_secure = slice_has_prefix_nocase(transport, "TLS");
	return 0;
}

int dialogue_told_ttl(struct front *f, struct slice ttl)
{
	uint32_t value;

	if (num_parse_u32(ttl, &value) < 0)
		return ERR_SYNTAX;
	if (value < f->ttl)
		f->ttl = value;
	return 0;
}

unsigned front_ttl(const struct front *f)
{
	return f->ttl;
}

/* ---- the tier's answers (front.h) ---- */

void front_refuse(struct front *f, enum front_result result, const char *detail)
{
	char text[ADDR_TEXT_MAX];

	require(f->state == FRONT_LOGIN && result != FRONT_OK);
	f->login = NULL;
	f->is_asked = false;
	if (result == FRONT_WRONG)
		penalty_failed(&f->attempt, f->credentials.password);
	metric_add(f->service->counters->logins[result], 1);
	log_info(f->service->name, "%s: login refused: %s%s%s user=%.*s client=%s mechanism=%s", f->session,
		front_result_name(result), detail ? ": " : "", detail ? detail : "",
		SLICE_ARG(f->credentials.authcid), addr_host(&f->client, text), f->credentials.mechanism);
	if (is_failure(result) && f->service->limits.failed_delay_ms) {
		uint64_t ms = f->service->limits.failed_delay_ms
			      << (f->failed_logins < 8 ? f->failed_logins : 8);

		f->failed_logins++;
		enter(f, FRONT_DELAY);
		if (ms > DELAY_MOST_MS)
			ms = DELAY_MOST_MS;
		timer_set(&f->timer, loop_of(f),
			front_delay_left(ms, f->login_began_ms, loop_now_ms(loop_of(f))));
		return;
	}
	f->failed_logins += is_failure(result);
	answer(f, result);
}

static void on_event_nobody(void *owner, struct conn *conn, enum conn_event event)
{
	(void)owner;
	(void)conn;
	(void)event;
}

void front_hand_over(struct front *f, struct front_handover *handover_out)
{
	struct conn *conn = f->conn;

	require(f->state == FRONT_LOGIN);
	penalty_passed(&f->attempt);
	*handover_out = (struct front_handover){
		.conn = conn,
		.tag = f->tag,
		.session = f->session,
		.client = &f->client,
		.local = &f->local,
		.is_proxied = f->is_proxied,
		.is_secure = front_is_secure(f),
		.is_utf8 = f->is_utf8,
		.is_ended = f->is_ended,
	};
	metric_add(f->service->counters->logins[FRONT_OK], 1);
	conn_set_owner(conn, on_event_nobody, NULL);
	conn_set_input_limit(conn, CONN_INPUT_LIMIT);
	conn_set_marks(conn, CONN_HIGH_MARK, CONN_LOW_MARK);
	f->conn = NULL;
	f->is_asked = false;
	ended(f, conn_loop(conn));
}
