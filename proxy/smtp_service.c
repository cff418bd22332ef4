/* Sessions and their transactions; recipients are in smtp_recipient.c, bodies in smtp_body.c, logins in
 * smtp_login.c. */
#include "proxy/smtp_service.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/front/front_auth.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_spf.h"
#include "common/front/smtp_settings.h"
#include "proxy/smtp_client.h"

#define TRANSACTION_MOST (16 * 1024) /* texts of one MAIL */

const struct conf_key smtp_service_keys[] = {
	{"smtp", "dsn", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Service smtp: announce DSN (RFC 3461). No, where back-ends of other makers do not know it",
		NULL},
	{"smtp", "domains", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Domains of this cluster: only decides whether an unknown recipient is told `no such user` "
		"or `no relaying`",
		NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static _Thread_local struct list clients;
static _Thread_local uint64_t numbers;

static struct list *own_clients(void)
{
	if (!clients.next)
		list_init(&clients);
	return &clients;
}

static void begin(struct smtp_front *front)
{
	struct smtp_client *c = xcalloc(1, sizeof(*c));

	c->front = front;
	c->number = ++numbers;
	c->since = clock_wall_s();
	c->config = config_ref(worker_here()->config);
	c->service = (enum config_service)(uintptr_t)smtp_front_service(front)->tier;
	list_init(&c->recipients);
	list_init(&c->shares);
	arena_init(&c->arena, TRANSACTION_MOST);
	list_add_last(own_clients(), &c->link);
	smtp_front_set_tier(front, c);
}

static void clear_transaction(struct smtp_client *c)
{
	list_for_each_safe (at, &c->recipients)
		smtp_recipient_free(container_of(at, struct smtp_recipient, link));
	list_for_each_safe (at, &c->shares)
		smtp_share_free(container_of(at, struct smtp_share, link));
	arena_reset(&c->arena);
	buf_deinit(&c->received);
	buf_deinit(&c->first_no);
	c->data_due = c->ends_due = c->no_code = 0;
	c->awaits_mail = c->owes_mail = c->is_data = c->is_ended = c->is_answered = c->has_yes = c->has_no =
		c->has_later = false;
}

static void end(struct smtp_front *front)
{
	struct smtp_client *c = smtp_front_tier(front);

	smtp_front_set_tier(front, NULL);
	clear_transaction(c);
	smtp_leg_end_session(smtp_front_session(front));
	smtp_submission_forget(c);
	usermap_cancel(&c->login_request);
	smtp_verify_cancel(c);
	secret_deinit(&c->stored);
	free(c->login_name);
	arena_deinit(&c->arena);
	list_remove(&c->link);
	config_unref(&c->config);
	loop_free_later(smtp_front_loop(front), c);
}

static void take_config(struct smtp_client *c)
{
	struct config *old = c->config;

	if (old == worker_here()->config)
		return;
	c->config = config_ref(worker_here()->config);
	config_unref(&old);
}

static void mail(struct smtp_front *front, const struct smtp_mail *mail)
{
	struct smtp_client *c = smtp_front_tier(front);

	take_config(c);
	clear_transaction(c); /* of a MAIL that was refused */
	c->mail = *mail;
	c->mail.path.address = arena_copy(&c->arena, mail->path.address);
	c->mail.envid = arena_copy(&c->arena, mail->envid);
	if (!c->mail.path.address.p || !c->mail.envid.p) {
		smtp_front_answer_mail(front, SMTP_ANSWER(451, "4.3.0", "Not now"));
		return;
	}
	/* Written now: its length is part of what legs are told at MAIL. */
	smtp_front_received(front, clock_wall_s(), &c->received);
	if (c->service == CONFIG_SUBMISSION)
		smtp_submission_mail(c);
	else
		smtp_front_answer_mail(front, SMTP_ANSWER(250, "2.1.0", "Ok"));
}

static void rcpt(struct smtp_front *front, unsigned index, const struct smtp_rcpt *rcpt)
{
	smtp_recipient_new(smtp_front_tier(front), index, rcpt);
}

static void data_begin(struct smtp_front *front)
{
	smtp_body_begin(smtp_front_tier(front));
}

static void data_chunk(struct smtp_front *front, struct slice bytes)
{
	smtp_body_chunk(smtp_front_tier(front), bytes);
}

static void data_end(struct smtp_front *front)
{
	smtp_body_end(smtp_front_tier(front));
}

static void data_cut(struct smtp_front *front)
{
	smtp_body_cut(smtp_front_tier(front));
}

static void sent(struct smtp_front *front)
{
	smtp_body_sent(smtp_front_tier(front));
}

static void reset(struct smtp_front *front, enum smtp_reset how)
{
	struct smtp_client *c = smtp_front_tier(front);

	/* Legs that still have a body of this transaction may not be ended in order. */
	if (c->is_data || how == SMTP_RESET_CUT)
		smtp_body_cut(c);
	clear_transaction(c);
}

const struct smtp_ops smtp_client_ops = {
	.begin = begin,
	.end = end,
	.login = smtp_login,
	.login_cancel = smtp_login_cancel,
	.mail = mail,
	.rcpt = rcpt,
	.verify = smtp_verify,
	.data_begin = data_begin,
	.data_chunk = data_chunk,
	.data_end = data_end,
	.data_cut = data_cut,
	.sent = sent,
	.reset = reset,
};

static void free_service(struct smtp_service *s)
{
	tls_unref(&s->tls);
	free((void *)(uintptr_t)s->host);
	free((void *)(uintptr_t)s->domain);
	free(s);
}

struct smtp_service *smtp_service_new(
	struct config *config, const struct config_listener *listener, struct tls *tls, bool allows_clear)
{
	enum config_service id = listener->service;
	const struct conf *conf = config->conf;
	struct smtp_service *s = xcalloc(1, sizeof(*s));

	smtp_service_init(s, config_service_name(id), &smtp_client_ops, (void *)(uintptr_t)id);
	s->host = xstrdup(config->host);
	s->domain = xstrdup(listener->domain);
	s->counts_hops = true;
	s->free = free_service;
	s->tls = tls ? tls_ref(tls) : NULL;
	s->allows_clear = allows_clear;
	s->requires_login = id == CONFIG_SUBMISSION;
	s->offers_dsn = id == CONFIG_SUBMISSION || conf_get_bool(conf, "smtp", NULL, "dsn");
	s->offers_requiretls = true;
	smtp_settings_read(conf, id == CONFIG_SUBMISSION, s);
	smtp_spf_read(conf, id == CONFIG_SUBMISSION, s);
	s->auth = config_listener_auth(config, listener);
	s->is_passed_on = true;
	s->policy = smtp_policy_ref(config->services[id].policy);
	s->limits.tls_ms = config->limits.tls_ms;
	s->limits.failed_logins = config->limits.failed_logins;
	s->limits.failed_delay_ms = config->limits.failed_delay_ms;
	return s;
}

void smtp_service_host_is_down(struct backend *backend, unsigned host)
{
	list_for_each_safe (at, own_clients())
		smtp_login_host_is_down(container_of(at, struct smtp_client, link), backend, host);
}

void smtp_service_close_sessions(bool is_now)
{
	list_for_each_safe (at, own_clients())
		smtp_front_close(container_of(at, struct smtp_client, link)->front, is_now);
	if (is_now || list_is_empty(own_clients()))
		smtp_leg_end_pool();
}

/* A transaction may lead to several back-ends: the first that took a recipient is shown. */
void smtp_service_each(struct session_walk *walk)
{
	list_for_each_safe (at, own_clients()) {
		struct smtp_client *c = container_of(at, struct smtp_client, link);
		const struct smtp_share *share =
			list_is_empty(&c->shares) ? NULL
						  : container_of(c->shares.next, struct smtp_share, link);

		if (session_walk_wants(walk, c->number) &&
			session_walk_take(walk, &(struct session_info){
							.number = c->number,
							.id = smtp_front_session(c->front),
							.service = config_service_name(c->service),
							.user = smtp_front_user(c->front),
							.peer = smtp_front_client(c->front),
							.backend = share ? share->backend->name : "",
							.state = share ? "transaction" : "mail",
							.since = c->since,
						}))
			smtp_front_close(c->front, true);
	}
}
