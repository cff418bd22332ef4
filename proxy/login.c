/*
 * One struct login from the front's question to its answer. Whatever waits (map, leg) is owned by it and cancelled with it;
 * end_login() is the one way out.
 *
 *	ops->login -> usermap_lookup -> route -> gate -> leg -> hand-over -> session
 *	                    |             |       |      |
 *	                    +-------------+-------+------+--> front_refuse
 *
 * At the gate of a back-end that has all the connections it may, or has just come back, logins wait in the worker's list, in order.
 * Logins that end let the next ones try, a measure a turn; a tick does so for what other loops have ended, and turns away who has
 * waited too long.
 */
#include "proxy/login.h"

#include <stdlib.h>

#include "common/auth/auth_name.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "proxy/sessions.h"
#include "proxy/smtp_leg.h"
#include "proxy/smtp_service.h"
#include "proxy/spare.h"
#include "proxy/worker.h"

#define WAITING_MOST 8192 /* logins at gates, of one loop */
#define WAITING_TICK_MS 10
#define ADMITTED_A_TURN 16 /* so that no turn of the loop gets long */

struct service {
	enum config_service id;
	const struct leg_protocol *protocol;
};

static const struct service services[CONFIG_SERVICES] = {
	[CONFIG_IMAP] = {CONFIG_IMAP, &imap_handover},
	[CONFIG_POP3] = {CONFIG_POP3, &pop3_handover},
};

struct login {
	struct list link; /* of the worker */
	struct worker *worker;
	struct config *config; /* counted: the one in force when it began */
	struct front *front;
	const struct service *service;
	const struct front_credentials *credentials;
	struct usermap_request *request;
	struct usermap_answer answer;
	struct secret stored; /* FRONT_SHOWN_FETCH */
	struct leg leg;
	bool has_leg;
	bool is_counted; /* backend_login_begins() */
	/* at the gate */
	struct list waiting;     /* of the worker */
	struct backend *backend; /* counted; NULL: it does not wait */
	uint16_t port;
	uint64_t until_ms;
};

void *login_tier(enum config_service service)
{
	return (void *)(uintptr_t)&services[service];
}

static void let_in(void *worker);

static void leave_gate(struct login *l)
{
	if (!l->backend)
		return;
	list_remove(&l->waiting);
	l->worker->waiting_count--;
	backend_count_waiting(l->backend, -1);
	backend_unref(&l->backend);
}

static void end_login(struct login *l)
{
	struct loop *loop = l->worker->loop;

	usermap_cancel(&l->request);
	leave_gate(l);
	if (l->is_counted)
		backend_login_ended(l->leg.backend);
	secret_deinit(&l->stored);
	if (l->has_leg)
		leg_deinit(&l->leg);
	/* Thousands may end in one turn: the list is looked at once. */
	if (l->is_counted && l->worker->waiting_count && !l->worker->is_letting_in) {
		l->worker->is_letting_in = true;
		loop_defer(loop, let_in, l->worker);
	}
	list_remove(&l->link);
	config_unref(&l->config);
	/* The leg may be on the stack. */
	loop_free_later(loop, l);
}

static void refuse(struct login *l, enum front_result result, const char *detail)
{
	struct front *front = l->front;
	char text[256];

	/* detail may be of the leg, which goes. */
	snprintf(text, sizeof(text), "%s", detail ? detail : "");
	end_login(l);
	front_refuse(front, result, text[0] ? text : NULL);
}

/* ---- the back-end has logged him in ---- */

static void greet_client(const struct login *l, const struct front_handover *h)
{
	struct buf *out = conn_output(h->conn);

	if (l->service->id == CONFIG_POP3) {
		buf_add_str(out, "+OK Logged in.\r\n");
	} else {
		buf_add_slice(out, h->tag);
		buf_add_str(out, " OK ");
		if (buf_len(&l->leg.announced)) {
			buf_add_str(out, "[CAPABILITY ");
			buf_add_slice(out, buf_view(&l->leg.announced));
			buf_add_str(out, "] ");
		}
		buf_add_str(out, "Logged in.\r\n");
	}
	conn_written(h->conn);
}

static void join(struct login *l)
{
	struct conn *server = leg_take_conn(&l->leg);
	struct front_handover h;
	char client[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX];
	struct session_options options = {.backend = l->leg.backend, .service = l->service->id};

	front_hand_over(l->front, &h);
	options.id = h.session;
	options.account = l->answer.account;
	options.client = addr_host(h.client, client);
	log_info(config_service_name(l->service->id),
		"%s: login user=%s client=%s:%u at=%s tls=%s mechanism=%s backend=%s", h.session,
		l->answer.account, options.client, addr_port(h.client), addr_text(h.local, local),
		conn_is_tls(h.conn) ? conn_tls_text(h.conn) : "none", l->credentials->mechanism,
		l->leg.backend->name);
	greet_client(l, &h);
	if (sessions_start(l->worker, &options, &h.conn, &server) < 0)
		log_error("proxy", "%s: relay cannot be started: out of descriptors?", h.session);
	end_login(l);
}

static void leg_ended(void *arg, enum leg_result result, const char *detail)
{
	struct login *l = arg;
	char text[256];

	if (result == LEG_OK) {
		join(l);
		return;
	}
	snprintf(text, sizeof(text), "%s (%s%s%s) backend=%s", leg_result_text(result),
		leg_result_name(result), detail[0] ? ": " : "", detail, l->leg.backend->name);
	if (leg_result_is_error(result))
		log_error("proxy", "%s: %s", front_session(l->front), text);
	refuse(l, leg_result_front(result), text);
}

/* ---- the gate ---- */

static void start_leg(
	struct login *l, struct backend *backend, uint16_t port, struct conn *spare, unsigned host)
{
	struct leg_login login = {
		.account = slice_str(l->answer.account),
		.password = l->credentials->password,
		.session = front_session(l->front),
		.client = front_client(l->front),
		.local = front_local(l->front),
		.conn = front_conn(l->front),
		.is_secure = front_is_secure(l->front),
		.is_utf8 = front_is_utf8(l->front),
		.ttl = front_ttl(l->front) - 1,
	};

	l->has_leg = l->is_counted = true;
	if (spare)
		leg_start_on(&l->leg, l->service->protocol, backend, host, spare, &login, leg_ended, l);
	else
		leg_start(
			&l->leg, l->service->protocol, backend, port, l->worker->loop, &login, leg_ended, l);
}

/* What only waits for work gives way to a login. */
static bool connects(struct worker *worker, struct backend *backend)
{
	if (backend_connects(backend))
		return true;
	return (smtp_leg_make_room(backend) || spare_make_room(worker, backend)) && backend_connects(backend);
}

/* False: it has to wait. */
static bool enter(struct login *l, struct backend *backend, uint16_t port)
{
	struct conn *spare = NULL;
	unsigned host = 0;

	if (!backend_login_begins(backend))
		return false;
	if (l->service->id == CONFIG_IMAP && port == 0)
		spare = spare_take(l->worker, backend, &host);
	if (!spare && !connects(l->worker, backend)) {
		backend_login_ended(backend);
		return false;
	}
	start_leg(l, backend, port, spare, host);
	return true;
}

static void refuse_leg(struct login *l, enum leg_result result)
{
	refuse(l, leg_result_front(result), leg_result_text(result));
}

static void wait_at_gate(struct login *l, struct backend *backend, uint16_t port)
{
	struct worker *worker = l->worker;

	if (worker->waiting_count >= WAITING_MOST || backend->wait_ms == 0) {
		backend_count_turned_away(backend);
		refuse_leg(l, LEG_FULL);
		return;
	}
	l->backend = backend_ref(backend);
	l->port = port;
	l->until_ms = clock_mono_ms() + backend->wait_ms;
	list_add_last(&worker->waiting, &l->waiting);
	worker->waiting_count++;
	backend_count_waiting(backend, 1);
	if (!timer_is_set(&worker->waiting_tick)) {
		timer_init(&worker->waiting_tick, let_in, worker);
		timer_set(&worker->waiting_tick, worker->loop, WAITING_TICK_MS);
	}
}

/* What there is to do for one that waits. True: it does not wait any more. */
static bool try_waiting(struct login *l, uint64_t now)
{
	struct backend *backend = backend_ref(l->backend);
	bool has_ended = true;

	if (backend_is_drained(backend)) {
		refuse_leg(l, LEG_DRAINED);
	} else if (!backend_is_up(backend, l->service->protocol->protocol)) {
		refuse_leg(l, LEG_DOWN);
	} else if (enter(l, backend, l->port)) {
		leave_gate(l);
	} else if (now >= l->until_ms) {
		backend_count_turned_away(backend);
		refuse_leg(l, LEG_FULL);
	} else {
		has_ended = false;
	}
	backend_unref(&backend);
	return has_ended;
}

static void let_in(void *arg)
{
	struct worker *worker = arg;
	const struct backend *full = NULL;
	uint64_t now = clock_mono_ms();
	unsigned left = ADMITTED_A_TURN;

	worker->is_letting_in = false;
	list_for_each_safe (at, &worker->waiting) {
		struct login *l = container_of(at, struct login, waiting);

		if (left == 0)
			break;
		/* Those behind one who has to wait for the same back-end have to as well, unless their time is over. */
		if (l->backend == full && now < l->until_ms)
			continue;
		full = l->backend;
		if (try_waiting(l, now)) {
			full = NULL;
			left--;
		}
	}
	/* Those of a back-end that has just died are told turn by turn, and not tick by tick. */
	if (left == 0 && !worker->is_letting_in) {
		worker->is_letting_in = true;
		loop_post(worker->loop, let_in, worker);
	}
	if (!list_is_empty(&worker->waiting) && !timer_is_set(&worker->waiting_tick))
		timer_set(&worker->waiting_tick, worker->loop, WAITING_TICK_MS);
}

/* ---- the map has answered ---- */

static void route(struct login *l)
{
	const struct config_service_of *service = &l->config->services[l->service->id];
	struct backend *backend = NULL;
	const char *why = "";
	uint16_t port = 0;
	int err = backends_route(
		l->config->backends, &l->answer, l->service->protocol->protocol, &backend, &port, &why);

	if (err == ERR_NOT_FOUND) {
		/* Where the back-end was to check, nobody has: then he hears what a stranger hears. */
		refuse(l, l->answer.checked ? FRONT_NO_ACCOUNT : FRONT_WRONG, why);
		return;
	}
	if (err == 0 && !config_may_reach(service, backend, &why))
		err = ERR_NOT_NOW;
	if (err == 0 && service->authenticate == CONFIG_BY_MAP && !l->answer.checked) {
		why = "no map has checked the credential";
		err = ERR_NOT_NOW;
	}
	if (err == 0 && backend->trust == BACKEND_REPLAY && l->credentials->shown != FRONT_SHOWN_PASSWORD) {
		why = "this back-end has trust = replay, and the user has shown no password";
		err = ERR_NOT_NOW;
	}
	if (err < 0) {
		log_error("proxy", "%s: %s user=%s map=%s line=%u", front_session(l->front), why,
			l->answer.account, l->answer.map, l->answer.line);
		refuse(l, FRONT_NOT_NOW, why);
	} else if (front_ttl(l->front) <= 1) {
		log_error("proxy", "%s: %s user=%s backend=%s map=%s line=%u", front_session(l->front),
			leg_result_text(LEG_LOOP), l->answer.account, backend->name, l->answer.map,
			l->answer.line);
		refuse_leg(l, LEG_LOOP);
	} else if (backend_is_drained(backend)) {
		refuse_leg(l, LEG_DRAINED);
	} else if (!backend_is_up(backend, l->service->protocol->protocol)) {
		refuse_leg(l, LEG_DOWN);
	} else if (!enter(l, backend, port)) {
		wait_at_gate(l, backend, port);
	}
	backend_unref(&backend);
}

/* What is stored goes to the front, which puts a challenge: to those who are not there, too. */
static void fetched(struct login *l)
{
	struct secret stored = l->stored;
	struct front *front = l->front;
	bool is_known = l->answer.verdict == USERMAP_YES;

	if (l->answer.verdict == USERMAP_NOT_NOW) {
		refuse(l, FRONT_NOT_NOW, "the user map cannot say");
		return;
	}
	l->stored = (struct secret){0};
	end_login(l);
	front_give_stored(front, secret_view(&stored), is_known);
	secret_deinit(&stored);
}

static void mapped(struct login *l)
{
	if (l->credentials->shown == FRONT_SHOWN_FETCH) {
		fetched(l);
		return;
	}
	switch (l->answer.verdict) {
	case USERMAP_YES:
		route(l);
		break;
	case USERMAP_NO_SUCH_USER:
		refuse(l, FRONT_WRONG, "no such user");
		break;
	case USERMAP_WRONG_CREDENTIAL:
		refuse(l, FRONT_WRONG, NULL);
		break;
	case USERMAP_NOT_NOW:
		refuse(l, FRONT_NOT_NOW, "the user map cannot say");
		break;
	}
}

static void on_answer(void *arg, const struct usermap_answer *answer)
{
	struct login *l = arg;

	l->request = NULL;
	l->answer = *answer;
	mapped(l);
}

bool login_is_own_identity(
	const struct front_credentials *c, struct arena *a, struct slice domain, struct slice name)
{
	struct slice authzid;

	if (c->authzid.len == 0)
		return true;
	return auth_name_normalise(a, c->authzid, domain, &authzid) == 0 && slice_is_equal(authzid, name);
}

enum usermap_shown login_shown(
	const struct config_service_of *service, const struct front_credentials *credentials)
{
	switch (credentials->shown) {
	case FRONT_SHOWN_FETCH:
		return USERMAP_SHOWN_FETCH;
	case FRONT_SHOWN_PROVEN:
		return USERMAP_SHOWN_PROVEN;
	case FRONT_SHOWN_PASSWORD:
		break;
	}
	return service->authenticate == CONFIG_BY_MAP ? USERMAP_SHOWN_PASSWORD : USERMAP_SHOWN_NONE;
}

static void start(struct login *l, struct slice name)
{
	const struct config_service_of *service = &l->config->services[l->service->id];
	const struct usermap_question question = {
		.service = slice_str(config_service_name(l->service->id)),
		.name = name,
		.stored_out = &l->stored,
		.shown = login_shown(service, l->credentials),
		.password = l->credentials->password,
	};

	if (usermap_lookup(
		    service->chain, &question, l->worker->loop, on_answer, l, &l->answer, &l->request) == 1)
		mapped(l);
}

static void login(struct front *front, const struct front_credentials *credentials)
{
	struct worker *worker = worker_here();
	struct slice domain = slice_str(front_service(front)->domain);
	struct arena arena;
	struct slice name;

	arena_init(&arena, 8 * 1024);
	if (auth_name_normalise(&arena, credentials->authcid, domain, &name) < 0) {
		if (credentials->shown == FRONT_SHOWN_FETCH)
			front_give_stored(front, slice_of("", 0), false);
		else
			front_refuse(front, FRONT_WRONG, "no user can have this name");
	} else if (!login_is_own_identity(credentials, &arena, domain, name)) {
		front_refuse(front, FRONT_NOT_PERMITTED, "foreign authorisation identity");
	} else {
		struct login *l = xcalloc(1, sizeof(*l));

		l->worker = worker;
		l->config = config_ref(worker->config);
		l->front = front;
		l->service = front_service(front)->tier;
		l->credentials = credentials;
		list_add_last(&worker->logins, &l->link);
		front_set_login(front, l);
		start(l, name);
	}
	arena_deinit(&arena);
}

static void cancel(struct front *front)
{
	end_login(front_login(front));
}

const struct front_ops login_ops = {
	.login = login,
	.cancel = cancel,
};

/* ---- a host went down ---- */

struct down {
	struct backend *backend;
	unsigned host;
	enum backend_protocol protocol;
};

static void on_host_down(void *arg)
{
	struct down *down = arg;
	struct worker *worker = worker_here();

	list_for_each_safe (at, &worker->logins) {
		struct login *l = container_of(at, struct login, link);

		if (l->has_leg && l->leg.state != LEG_ENDED &&
			l->service->protocol->protocol == down->protocol &&
			backend_is_same_host(l->leg.backend, l->leg.attempt.host, down->backend, down->host))
			leg_host_is_down(&l->leg);
	}
	if (down->protocol == BACKEND_IMAP) {
		spare_host_is_down(worker, down->backend, down->host);
		smtp_service_host_is_down(down->backend, down->host);
	}
	if (down->protocol == BACKEND_LMTP || down->protocol == BACKEND_SUBMISSION)
		smtp_leg_host_is_down(down->backend, down->host, down->protocol);
	backend_unref(&down->backend);
	free(down);
}

void login_host_is_down(struct backend *backend, unsigned host, enum backend_protocol protocol)
{
	for (unsigned i = 0; i < workers_count(); i++) {
		struct down *down = xmalloc(sizeof(*down));

		*down = (struct down){backend_ref(backend), host, protocol};
		loop_post(workers_at(i)->loop, on_host_down, down);
	}
}
