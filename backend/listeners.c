/*
 * A struct offer is all services of one configuration, counted; loops[] holds one count for each loop and is
 * touched by that loop's thread alone once it runs.
 */
#include "backend/listeners.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "backend/login.h"
#include "backend/session/lmtp.h"
#include "backend/session/smtp_in.h"
#include "common/base/mem.h"
#include "common/front/front_auth.h"
#include "common/front/imap_front.h"
#include "common/front/pop3_front.h"
#include "common/front/smtp_policy.h"
#include "common/front/smtp_settings.h"
#include "common/front/smtp_spf.h"

struct service {
	struct front_service *front; /* IMAP, POP3 */
	struct lmtp_service *lmtp;
	struct smtp_in_service *smtp;
};

struct offer {
	struct config *config;
	struct service *services; /* one for each listener of the configuration */
	_Atomic unsigned refs;
};

struct change {
	struct offer *offer;
	unsigned loop;
};

static struct listen_set *set;
static struct offer **loops;
static unsigned loop_count;

static front_start_fn *const fronts[CONFIG_SERVICES] = {
	[CONFIG_IMAP] = imap_front_start, [CONFIG_POP3] = pop3_front_start};

/* ---- offers ---- */

static void offer_unref(struct offer *offer)
{
	if (!offer || atomic_fetch_sub_explicit(&offer->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < offer->config->listener_count; i++) {
		if (offer->services[i].front)
			front_service_unref(&offer->services[i].front);
		lmtp_service_unref(&offer->services[i].lmtp);
		smtp_in_service_unref(&offer->services[i].smtp);
	}
	free(offer->services);
	config_unref(&offer->config);
	free(offer);
}

static void free_front(struct front_service *service)
{
	struct login_tier *tier = service->tier;

	tls_unref(&service->tls);
	config_unref(&tier->config);
	free(tier);
	free(service);
}

static struct front_service *make_front(
	struct backend *b, struct config *config, const struct config_listener *l)
{
	struct front_service *service = xcalloc(1, sizeof(*service));
	struct login_tier *tier = xcalloc(1, sizeof(*tier));

	*tier = (struct login_tier){.backend = b, .config = config_ref(config), .service = l->service};
	front_service_init(service, config_service_name(l->service), &login_ops, tier);
	service->host = config->host;
	service->domain = l->domain;
	service->penalty = b->penalty;
	service->capabilities = l->service == CONFIG_POP3 ? "TOP UIDL" : "";
	service->tls = l->own->tls_mode == LISTEN_TLS_START ? tls_ref(l->own->tls) : NULL;
	service->allows_clear = l->own->allows_clear;
	front_auth_unref(&service->auth);
	service->auth = front_auth_new_listener(config->conf, config_service_name(l->service), l->own->title,
		config->host, b->admin.hash_pool);
	service->limits = config->limits;
	service->free = free_front;
	return service;
}

static bool is_trusted(void *arg, struct conn *conn)
{
	return config_is_trusted(arg, conn);
}

static void free_config(void *arg)
{
	struct config *config = arg;

	config_unref(&config);
}

static struct lmtp_service *make_lmtp(
	struct backend *b, struct config *config, const struct config_listener *l)
{
	return lmtp_service_new(
		b->delivery, &(struct lmtp_settings){
				     .host = config->host,
				     .domain = l->domain,
				     .tls = l->own->tls_mode == LISTEN_TLS_START ? l->own->tls : NULL,
				     .message_size = config->message_size,
				     .is_over_quota_permanent = config->is_over_quota_permanent,
				     .command_ms = config->limits.command_ms,
				     .wrong_commands = config->limits.wrong_commands,
				     .transfer_ms = config->transfer_ms,
				     .work = b->admin.work,
				     .greylist = config->greylist,
				     .is_trusted = is_trusted,
				     .arg = config_ref(config),
				     .free_arg = free_config,
			     });
}

/* ---- smtp and submission ---- */

static bool smtp_is_trusted(void *arg, struct conn *conn)
{
	const struct login_tier *tier = arg;

	return config_is_trusted(tier->config, conn);
}

static void smtp_allowance(void *arg, const struct store_account *account, const char *user,
	struct send_allowance *allowance_out)
{
	const struct login_tier *tier = arg;

	submission_allowance(
		&tier->config->submission, tier->backend->admin.store, account, user, allowance_out);
}

static bool smtp_may_relay(void *arg, const struct addr *peer)
{
	const struct login_tier *tier = arg;

	return tier->service == CONFIG_SMTP && submission_may_relay(&tier->config->submission, peer);
}

static bool smtp_is_cluster_domain(void *arg, struct slice domain)
{
	const struct login_tier *tier = arg;

	return submission_is_cluster_domain(&tier->config->submission, domain);
}

static void smtp_free_tier(void *arg)
{
	struct login_tier *tier = arg;

	config_unref(&tier->config);
	free(tier);
}

static struct smtp_in_service *make_smtp(
	struct backend *b, struct config *config, const struct config_listener *l)
{
	const struct submission *s = &config->submission;
	bool is_submission = l->service == CONFIG_SUBMISSION;
	const char *name = config_service_name(l->service);
	struct login_tier *tier = xcalloc(1, sizeof(*tier));
	struct smtp_in_service *service;
	struct smtp_service *smtp;

	*tier = (struct login_tier){.backend = b, .config = config_ref(config), .service = l->service};
	service = smtp_in_service_new(b->delivery, b->admin.work,
		&(struct smtp_in_settings){
			.name = name,
			.host = config->host,
			.domain = l->domain,
			.tls = l->own->tls_mode == LISTEN_TLS_START ? l->own->tls : NULL,
			.allows_clear = l->own->allows_clear,
			.is_submission = is_submission,
			.auth = is_submission || s->smtp_logs_in
					? front_auth_new_listener(config->conf, name, l->own->title,
						  config->host, b->admin.hash_pool)
					: NULL,
			.penalty = b->penalty,
			.complete = is_submission ? &s->complete : NULL,
			.sender_check = s->sender_check,
			.takes_null_sender = s->takes_null_sender,
			.takes_guests = s->takes_guests,
			.is_over_quota_permanent = config->is_over_quota_permanent,
			.keeps_sent = s->keeps_sent,
			.greylist = config->greylist,
			.limits = b->send_limits,
			.allowance = smtp_allowance,
			.may_relay = smtp_may_relay,
			.is_cluster_domain = smtp_is_cluster_domain,
			.is_trusted = smtp_is_trusted,
			.login = login_smtp,
			.login_cancel = login_smtp_cancel,
			.arg = tier,
			.free_arg = smtp_free_tier,
		});
	smtp = smtp_in_service_front(service);
	smtp_settings_read(config->conf, is_submission, smtp);
	smtp->policy = smtp_policy_ref(config->policies[is_submission]);
	smtp_spf_read(config->conf, is_submission, smtp);
	if (smtp->limits.message_size > config->message_size)
		smtp->limits.message_size = config->message_size;
	smtp->limits.tls_ms = config->limits.tls_ms;
	smtp->limits.failed_logins = config->limits.failed_logins;
	smtp->limits.failed_delay_ms = config->limits.failed_delay_ms;
	return service;
}

static struct offer *offer_new(struct backend *b)
{
	struct offer *offer = xcalloc(1, sizeof(*offer));

	atomic_store(&offer->refs, 1);
	offer->config = config_ref(b->config);
	offer->services = xcalloc(b->config->listener_count + 1, sizeof(*offer->services));
	for (size_t i = 0; i < b->config->listener_count; i++) {
		const struct config_listener *l = &b->config->listeners[i];

		if (l->service == CONFIG_SMTP || l->service == CONFIG_SUBMISSION)
			offer->services[i].smtp = make_smtp(b, b->config, l);
		else if (l->service == CONFIG_LMTP)
			offer->services[i].lmtp = make_lmtp(b, b->config, l);
		else
			offer->services[i].front = make_front(b, b->config, l);
	}
	return offer;
}

/* ---- connections ---- */

static void on_accept(size_t index, struct conn *conn_take)
{
	const struct offer *offer = loops[loop_index(conn_loop(conn_take))];
	const struct service *service = &offer->services[index];
	const struct config_listener *l = &offer->config->listeners[index];
	unsigned flags = conn_is_tls(conn_take) ? FRONT_IMPLICIT_TLS : 0;

	if (service->smtp)
		smtp_in_start(service->smtp, conn_take, flags);
	else if (service->lmtp)
		lmtp_start(service->lmtp, conn_take, flags);
	else
		fronts[l->service](service->front, conn_take, flags);
}

int listeners_open(struct backend *b, struct buf *why)
{
	return listen_open(b->admin.loop, b->admin.group, b->config->listen, on_accept, why, &set);
}

void listeners_offer(struct backend *b)
{
	struct offer *offer = offer_new(b);

	loop_count = loop_group_count(b->admin.group);
	loops = xcalloc(loop_count, sizeof(*loops));
	for (unsigned i = 0; i < loop_count; i++) {
		loops[i] = offer;
		atomic_fetch_add(&offer->refs, 1);
	}
	offer_unref(offer);
}

static void set_offer(void *arg)
{
	struct change *change = arg;

	offer_unref(loops[change->loop]);
	loops[change->loop] = change->offer;
	free(change);
}

void listeners_set_config(struct backend *b)
{
	struct offer *offer = offer_new(b);

	listen_set_config(set, b->config->listen);
	for (unsigned i = 0; i < loop_count; i++) {
		struct change *change = xcalloc(1, sizeof(*change));

		atomic_fetch_add(&offer->refs, 1);
		*change = (struct change){.offer = offer, .loop = i};
		loop_post(loop_group_at(b->admin.group, i), set_offer, change);
	}
	offer_unref(offer);
}

void listeners_refuse(void)
{
	listen_refuse(set);
}

void listeners_stop(void)
{
	listen_stop(set);
}

void listeners_close(void)
{
	listen_close(set);
}

void listeners_free(void)
{
	for (unsigned i = 0; i < loop_count; i++)
		offer_unref(loops[i]);
	free(loops);
	listen_set_free(&set);
	loops = NULL;
	loop_count = 0;
}
