/*
 * One struct login from the front's question to its answer. Whatever waits (map, leg) is owned by it and cancelled with it;
 * end_login() is the one way out.
 *
 *	ops->login -> usermap_lookup -> route -> leg -> hand-over -> session
 *	                    |             |       |
 *	                    +-------------+-------+--> front_refuse
 */
#include "proxy/login.h"

#include "common/auth/auth_name.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "proxy/sessions.h"
#include "proxy/spare.h"
#include "proxy/worker.h"

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
	struct leg leg;
	bool has_leg;
};

void *login_tier(enum config_service service)
{
	return (void *)(uintptr_t)&services[service];
}

static void end_login(struct login *l)
{
	struct loop *loop = l->worker->loop;

	usermap_cancel(&l->request);
	if (l->has_leg)
		leg_deinit(&l->leg);
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

/* ---- the map has answered ---- */

static void start_leg(struct login *l, struct backend *backend, uint16_t port)
{
	struct leg_login login = {
		.account = slice_str(l->answer.account),
		.password = l->credentials->password,
		.session = front_session(l->front),
		.client = front_client(l->front),
		.local = front_local(l->front),
		.is_secure = front_is_secure(l->front),
	};
	struct conn *spare = NULL;

	l->has_leg = true;
	if (l->service->id == CONFIG_IMAP && port == 0)
		spare = spare_take(l->worker, backend);
	if (spare)
		leg_start_on(&l->leg, l->service->protocol, backend, spare, &login, leg_ended, l);
	else
		leg_start(
			&l->leg, l->service->protocol, backend, port, l->worker->loop, &login, leg_ended, l);
}

static void route(struct login *l)
{
	const struct config_service_of *service = &l->config->services[l->service->id];
	struct backend *backend = NULL;
	const char *why = "";
	uint16_t port = 0;
	int err = backends_route(l->config->backends, &l->answer, &backend, &port, &why);

	if (err == ERR_NOT_FOUND) {
		refuse(l, FRONT_NO_ACCOUNT, why);
		return;
	}
	if (err == 0 && !config_may_reach(service, backend, &why))
		err = ERR_NOT_NOW;
	if (err == 0 && service->authenticate == CONFIG_BY_MAP && !l->answer.checked) {
		why = "no map has checked the credential";
		err = ERR_NOT_NOW;
	}
	if (err < 0) {
		log_error("proxy", "%s: %s user=%s map=%s line=%u", front_session(l->front), why,
			l->answer.account, l->answer.map, l->answer.line);
		refuse(l, FRONT_NOT_NOW, why);
	} else if (backend_is_drained(backend)) {
		refuse(l, leg_result_front(LEG_DRAINED), leg_result_text(LEG_DRAINED));
	} else if (!backend_is_up(backend, l->service->protocol->protocol)) {
		refuse(l, leg_result_front(LEG_DOWN), leg_result_text(LEG_DOWN));
	} else {
		start_leg(l, backend, port);
	}
	backend_unref(&backend);
}

static void mapped(struct login *l)
{
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

/* Nobody may become another one here: a foreign authorisation identity ends the login. */
static bool is_own_identity(
	const struct front_credentials *c, struct arena *a, struct slice domain, struct slice name)
{
	struct slice authzid;

	if (c->authzid.len == 0)
		return true;
	return auth_name_normalise(a, c->authzid, domain, &authzid) == 0 && slice_is_equal(authzid, name);
}

static void start(struct login *l, struct slice name)
{
	const struct config_service_of *service = &l->config->services[l->service->id];
	const struct usermap_question question = {
		.service = slice_str(config_service_name(l->service->id)),
		.name = name,
		.shown = service->authenticate == CONFIG_BY_MAP ? USERMAP_SHOWN_PASSWORD : USERMAP_SHOWN_NONE,
		.password = l->credentials->password,
	};

	if (usermap_lookup(
		    service->chain, &question, l->worker->loop, on_answer, l, &l->answer, &l->request) == 1)
		mapped(l);
}

static void login(struct front *front, const struct front_credentials *credentials)
{
	struct worker *worker = worker_here();
	struct slice domain = slice_str(worker->config->default_domain);
	struct arena arena;
	struct slice name;

	arena_init(&arena, 8 * 1024);
	if (auth_name_normalise(&arena, credentials->authcid, domain, &name) < 0) {
		front_refuse(front, FRONT_WRONG, "no user can have this name");
	} else if (!is_own_identity(credentials, &arena, domain, name)) {
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

void login_backend_is_down(struct backend_state *state, enum backend_protocol protocol)
{
	struct worker *worker = worker_here();

	list_for_each_safe (at, &worker->logins) {
		struct login *l = container_of(at, struct login, link);

		if (l->has_leg && l->leg.state != LEG_ENDED && l->leg.backend->state == state &&
			l->service->protocol->protocol == protocol)
			leg_fail(&l->leg, LEG_DOWN, "%s", "found by a probe");
	}
}
