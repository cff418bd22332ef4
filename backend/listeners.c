/*
 * A struct offer is all services of one configuration, counted; loops[] holds one count for each loop and is
 * touched by that loop's thread alone once it runs.
 */
#include "backend/listeners.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "backend/login.h"
#include "backend/session/lmtp.h"
#include "common/base/mem.h"
#include "common/front/front_auth.h"
#include "common/front/imap_front.h"
#include "common/front/pop3_front.h"
#include "common/net/listener.h"

struct service {
	struct front_service *front; /* IMAP, POP3 */
	struct lmtp_service *lmtp;
	bool is_implicit_tls;
};

struct offer {
	struct config *config;
	struct service *services; /* one for each listener of the configuration */
	_Atomic unsigned refs;
};

struct place {
	struct listener *listener;
	size_t index; /* of the section in struct config */
};

struct change {
	struct offer *offer;
	unsigned loop;
};

static struct place *places;
static size_t place_count;
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
	service->tls = l->tls_mode == CONFIG_TLS_START ? tls_ref(l->tls) : NULL;
	service->allows_clear = l->allows_clear;
	front_auth_unref(&service->auth);
	service->auth =
		front_auth_new(config->conf, config_service_name(l->service), config->host, b->hash_pool);
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
				     .tls = l->tls_mode == CONFIG_TLS_START ? l->tls : NULL,
				     .message_size = config->message_size,
				     .is_over_quota_permanent = config->is_over_quota_permanent,
				     .command_ms = config->limits.command_ms,
				     .transfer_ms = config->transfer_ms,
				     .is_trusted = is_trusted,
				     .arg = config_ref(config),
				     .free_arg = free_config,
			     });
}

static struct offer *offer_new(struct backend *b)
{
	struct offer *offer = xcalloc(1, sizeof(*offer));

	atomic_store(&offer->refs, 1);
	offer->config = config_ref(b->config);
	offer->services = xcalloc(b->config->listener_count + 1, sizeof(*offer->services));
	for (size_t i = 0; i < b->config->listener_count; i++) {
		const struct config_listener *l = &b->config->listeners[i];

		offer->services[i].is_implicit_tls = l->tls_mode == CONFIG_TLS_IMPLICIT;
		if (l->service == CONFIG_LMTP)
			offer->services[i].lmtp = make_lmtp(b, b->config, l);
		else
			offer->services[i].front = make_front(b, b->config, l);
	}
	return offer;
}

/* ---- connections ---- */

static void on_accept(void *arg, struct conn *conn_take)
{
	const struct place *place = arg;
	const struct offer *offer = loops[loop_index(conn_loop(conn_take))];
	const struct service *service = &offer->services[place->index];
	const struct config_listener *l = &offer->config->listeners[place->index];
	unsigned flags = service->is_implicit_tls ? FRONT_IMPLICIT_TLS : 0;

	if (service->lmtp)
		lmtp_start(service->lmtp, conn_take, flags);
	else
		fronts[l->service](service->front, conn_take, flags);
}

static int open_place(struct backend *b, size_t index, const struct conf_address *a, struct buf *why)
{
	const struct config_listener *l = &b->config->listeners[index];
	struct place *place = &places[place_count];
	struct listener_options options = {
		.tls = l->tls_mode == CONFIG_TLS_IMPLICIT ? l->tls : NULL,
		.connections_most =
			(unsigned)conf_get_int(b->config->conf, "listener", l->title, "connections"),
		.name = l->title,
		.unix_mode = 0666,
	};
	int err = addr_parse(slice_str(strcmp(a->host, "*") == 0 ? "::" : a->host), a->port, &options.addr);

	place->index = index;
	if (err)
		buf_printf(why, "%s: this is no address: %s\n",
			conf_where(b->config->conf, "listener", l->title, "listen"), a->host);
	else
		err = listener_open(b->group, &options, on_accept, place, why, &place->listener);
	if (!err)
		place_count++;
	return err;
}

static int open_places(struct backend *b, struct buf *why)
{
	size_t total = 0, count;
	int err = 0;

	for (size_t i = 0; i < b->config->listener_count; i++) {
		(void)conf_get_addresses(
			b->config->conf, "listener", b->config->listeners[i].title, "listen", &count);
		total += count;
	}
	places = xcalloc(total + 1, sizeof(*places));
	for (size_t i = 0; !err && i < b->config->listener_count; i++) {
		const struct conf_address *a = conf_get_addresses(
			b->config->conf, "listener", b->config->listeners[i].title, "listen", &count);

		for (size_t k = 0; !err && k < count; k++)
			err = open_place(b, i, &a[k], why);
	}
	return err;
}

int listeners_open(struct backend *b, struct buf *why)
{
	struct offer *offer = offer_new(b);

	loop_count = loop_group_count(b->group);
	loops = xcalloc(loop_count, sizeof(*loops));
	for (unsigned i = 0; i < loop_count; i++) {
		loops[i] = offer;
		atomic_fetch_add(&offer->refs, 1);
	}
	offer_unref(offer);
	return open_places(b, why);
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

	for (size_t i = 0; i < place_count; i++) {
		const struct config_listener *l = &b->config->listeners[places[i].index];

		if (l->tls_mode == CONFIG_TLS_IMPLICIT)
			listener_set_tls(places[i].listener, l->tls);
	}
	for (unsigned i = 0; i < loop_count; i++) {
		struct change *change = xcalloc(1, sizeof(*change));

		atomic_fetch_add(&offer->refs, 1);
		*change = (struct change){.offer = offer, .loop = i};
		loop_post(loop_group_at(b->group, i), set_offer, change);
	}
	offer_unref(offer);
}

void listeners_close(void)
{
	/* The memory of a place stays: a connection may be on its way to on_accept(). */
	for (size_t i = 0; i < place_count; i++)
		listener_close(&places[i].listener);
	place_count = 0;
}

void listeners_free(void)
{
	for (unsigned i = 0; i < loop_count; i++)
		offer_unref(loops[i]);
	free(loops);
	free(places);
	loops = NULL;
	places = NULL;
	loop_count = 0;
}
