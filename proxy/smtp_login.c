/*
 * AUTH of the submission service: the service's maps check the credential. Users without a mailbox
 * (`send-only`) may send. With authenticate = backend the credential is tried as an IMAP login at the user's
 * back-end, and that session closed again.
 */
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "proxy/leg.h"
#include "proxy/login.h"
#include "proxy/smtp_client.h"

struct smtp_trial {
	struct smtp_client *client;
	struct addr local; /* ours, that the client is connected with */
	struct leg leg;
};

static void answer(struct smtp_client *c, enum front_result result, const char *detail)
{
	struct buf name = {0};

	buf_add_str(&name, c->login_name ? c->login_name : "");
	free(c->login_name);
	c->login_name = NULL;
	smtp_front_answer_login(c->front, result, buf_view(&name), detail);
	buf_deinit(&name);
}

static void end_trial(struct smtp_client *c)
{
	struct smtp_trial *t = c->trial;

	c->trial = NULL;
	if (!t)
		return;
	leg_deinit(&t->leg);
	loop_free_later(smtp_front_loop(c->front), t);
}

static void tried(void *arg, enum leg_result result, const char *detail)
{
	struct smtp_trial *t = arg;
	struct smtp_client *c = t->client;
	char text[160];

	snprintf(text, sizeof(text), "%s", detail);
	if (result == LEG_OK) {
		struct conn *conn = leg_take_conn(&t->leg);

		conn_write_str(conn, "logout LOGOUT\r\n");
		conn_close(&conn);
		backend_disconnected(t->leg.backend);
	}
	end_trial(c);
	answer(c, leg_result_front(result), text);
}

/* Replay: the user's own name and password, at his back-end. */
static void try_backend(struct smtp_client *c, const struct usermap_answer *found)
{
	const struct config_service_of *service = &c->config->services[c->service];
	struct backend *backend = NULL;
	const char *why = "";
	uint16_t port;
	int err = backends_route(c->config->backends, found, BACKEND_IMAP, &backend, &port, &why);

	if (err || !config_may_reach(service, backend, &why) || backend->trust != BACKEND_REPLAY) {
		backend_unref(&backend);
		/* Without a back-end nobody can check him, now or later. */
		answer(c, err == ERR_NOT_FOUND ? FRONT_WRONG : FRONT_NOT_NOW, why);
		return;
	}
	if (!backend_is_usable(backend, BACKEND_IMAP) || !backend_connects(backend)) {
		enum leg_result result = backend_is_usable(backend, BACKEND_IMAP) ? LEG_FULL : LEG_DOWN;

		backend_unref(&backend);
		answer(c, leg_result_front(result), leg_result_text(result));
		return;
	}
	c->trial = xcalloc(1, sizeof(*c->trial));
	c->trial->client = c;
	c->trial->local = *conn_local(smtp_front_conn(c->front));
	if (smtp_submission_found(c, found, &why)) {
		backend_unref(&backend);
		end_trial(c);
		answer(c, FRONT_NOT_NOW, why);
		return;
	}
	leg_start(&c->trial->leg, &imap_handover, backend, 0, smtp_front_loop(c->front),
		&(struct leg_login){.account = slice_str(c->login_name),
			.password = c->credentials->password,
			.session = smtp_front_session(c->front),
			.client = smtp_front_client(c->front),
			.local = &c->trial->local,
			.conn = smtp_front_conn(c->front),
			.is_secure = conn_is_secure(smtp_front_conn(c->front)),
			.ttl = FRONT_TTL - 1},
		tried, c->trial);
	backend_unref(&backend);
}

/* The credential is right: where does his mail go? */
static void lead(struct smtp_client *c, const struct usermap_answer *found)
{
	const char *why = "";
	int err = smtp_submission_found(c, found, &why);

	if (err)
		log_error("proxy", "%s: submission: %s user=%s map=%s line=%u", smtp_front_session(c->front),
			why, c->login_name, found->map, found->line);
	answer(c, !err ? FRONT_OK : err == ERR_DENIED ? FRONT_NOT_PERMITTED : FRONT_NOT_NOW, why);
}

/* As in login.c: what is stored goes to the front, which puts a challenge. */
static void fetched(struct smtp_client *c, enum usermap_verdict verdict)
{
	struct secret stored = c->stored;

	if (verdict == USERMAP_NOT_NOW) {
		answer(c, FRONT_NOT_NOW, "the user map cannot say");
		return;
	}
	c->stored = (struct secret){0};
	free(c->login_name);
	c->login_name = NULL;
	smtp_front_give_stored(c->front, secret_view(&stored), verdict == USERMAP_YES);
	secret_deinit(&stored);
}

static void mapped(struct smtp_client *c, const struct usermap_answer *found)
{
	bool by_map = c->config->services[c->service].authenticate == CONFIG_BY_MAP;

	if (c->credentials->shown == FRONT_SHOWN_FETCH) {
		fetched(c, found->verdict);
		return;
	}
	switch (found->verdict) {
	case USERMAP_YES:
		if (!by_map && c->credentials->shown != FRONT_SHOWN_PASSWORD)
			answer(c, FRONT_NOT_NOW, "the back-end decides, and the user has shown no password");
		else if (!by_map)
			try_backend(c, found);
		else if (!found->checked)
			answer(c, FRONT_WRONG, "no map has checked the credential");
		else if (!found->target_count && !found->send_only)
			answer(c, FRONT_NOT_PERMITTED, "neither mailbox nor send-only");
		else
			lead(c, found);
		break;
	case USERMAP_NO_SUCH_USER:
		answer(c, FRONT_WRONG, "no such user");
		break;
	case USERMAP_WRONG_CREDENTIAL:
		answer(c, FRONT_WRONG, "wrong credential");
		break;
	case USERMAP_NOT_NOW:
		answer(c, FRONT_NOT_NOW, "the user map cannot say");
		break;
	}
}

static void on_mapped(void *arg, const struct usermap_answer *found)
{
	struct smtp_client *c = arg;

	c->login_request = NULL;
	mapped(c, found);
}

void smtp_login(struct smtp_front *front, const struct front_credentials *credentials)
{
	struct smtp_client *c = smtp_front_tier(front);
	const struct config_service_of *service = &c->config->services[c->service];
	struct slice domain = slice_str(smtp_front_service(front)->domain), name;
	struct usermap_question question = {.service = slice_str(config_service_name(c->service)),
		.shown = login_shown(service, credentials),
		.stored_out = &c->stored,
		.password = credentials->password};
	struct usermap_answer found;
	struct arena arena;

	arena_init(&arena, 8 * 1024);
	c->credentials = credentials;
	if (auth_name_normalise(&arena, credentials->authcid, domain, &name)) {
		if (credentials->shown == FRONT_SHOWN_FETCH)
			smtp_front_give_stored(front, slice_of("", 0), false);
		else
			answer(c, FRONT_WRONG, "no user can have this name");
	} else if (!login_is_own_identity(credentials, &arena, domain, name)) {
		answer(c, FRONT_NOT_PERMITTED, "foreign authorisation identity");
	} else {
		c->login_name = slice_copy_str(name);
		question.name = name;
		if (usermap_lookup(service->chain, &question, smtp_front_loop(front), on_mapped, c, &found,
			    &c->login_request) == 1)
			mapped(c, &found);
	}
	arena_deinit(&arena);
}

void smtp_login_cancel(struct smtp_front *front)
{
	struct smtp_client *c = smtp_front_tier(front);

	usermap_cancel(&c->login_request);
	secret_deinit(&c->stored);
	end_trial(c);
	free(c->login_name);
	c->login_name = NULL;
}

void smtp_login_host_is_down(struct smtp_client *c, struct backend *backend, unsigned host)
{
	struct smtp_trial *t = c->trial;

	if (t && t->leg.state != LEG_ENDED &&
		backend_is_same_host(t->leg.backend, t->leg.attempt.host, backend, host))
		leg_host_is_down(&t->leg);
}
